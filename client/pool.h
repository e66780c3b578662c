/* SPDX-License-Identifier: Apache-2.0
 *
 * client/pool.h: a pool as libfarpool's own files see it: one mutex over the client
 * core, the transport and the table of jobs; driver.c tells who runs the loop.
 *
 * Everything here is called with the pool's mutex held, unless it says otherwise. */
#ifndef FARPOOL_CLIENT_POOL_H
#define FARPOOL_CLIENT_POOL_H

#include "client/core.h"
#include "client/failure.h"
#include "client/options.h"
#include "client/program.h"
#include "client/shared.h"
#include "client/transport.h"
#include "common/base/mem.h"
#include "farpool.h"

#define uthash_malloc(size) mem_alloc(size)
#define uthash_free(memory, size) mem_free(memory)
#define HASH_NONFATAL_OOM 1

#include <pthread.h>
#include <sys/queue.h>
#include <sys/types.h>
#include <uthash.h>

struct pool_job;
struct calls;

/* What a farpool_job and a farpool_iterator do with what the core tells of them. */
struct pool_job_kind {
    /* May take effect->data and ->sizes over. */
    void (*done)(struct pool_job *job, struct client_effect *effect);
    void (*failed)(struct pool_job *job, struct client_effect *effect);
    void (*wanted)(struct pool_job *job, uint64_t count, uint64_t bytes);
    /* The core has forgotten the job. */
    void (*ended)(struct pool_job *job);
    /* Calls the user; without the mutex. Then the mutex is taken and it is over. */
    void (*call_back)(struct pool_job *job);
    void (*called_back)(struct pool_job *job);
};

/* What both have in common; the first member of both. */
struct pool_job {
    farpool_pool *pool; /* a reference */
    const struct pool_job_kind *kind;
    struct failure_of of;        /* for error texts */
    uint64_t number;             /* in the core; 0: not, or no longer */
    int end_code;                /* 0, or for which the core ended it; set at its end */
    TAILQ_ENTRY(pool_job) entry; /* among pool->callbacks */
    UT_hash_handle hh;
};

/* Somebody who waits for jobs of several pools (completed.c). */
struct pool_watch {
    pthread_mutex_t *mutex;
    pthread_cond_t *changed;
    uint64_t *changes;
    LIST_ENTRY(pool_watch) entry;
};

enum pool_state {
    POOL_OPENING, /* no WELCOME yet */
    POOL_RUNNING,
    POOL_CLOSED,     /* no new work */
    POOL_TERMINATED, /* stops now */
};

/* An OUTPUT that nobody was told yet. */
struct pool_printed {
    struct message *message;
    STAILQ_ENTRY(pool_printed) entry;
};

struct farpool_pool {
    pthread_mutex_t mutex;
    unsigned refs;             /* the user's, and each job's and iterator's */
    pid_t process;             /* that opened it */
    const volatile bool *here; /* true in that one; NULL: unknown */
    enum pool_state state;
    bool ended;  /* its processes have ended; behind CLOSED or TERMINATED */
    int failure; /* why it cannot go on, 0: it can */
    char failure_text[256], failure_node[NODE_NAME_MAX + 1];
    int warning; /* the latest, 0: none */
    char warning_text[256], warning_node[NODE_NAME_MAX + 1];

    struct pool_settings settings;
    struct program program;
    struct message *open; /* POOL_OPEN, lent to the core */
    struct shared_inputs shared;
    struct client_core *core;
    struct client_effects effects;
    struct transport *transport;       /* NULL: closed */
    struct pool_job *jobs;             /* those that the core knows, by number */
    struct calls *calls;               /* that others may join; NULL: none */
    unsigned calls_open, calls_left;   /* their jobs, and calls that have not ended */
    uint64_t tasks_done, tasks_failed; /* done includes failed */

    /* driver.c */
    bool driving;  /* a thread runs the loop */
    bool sleeping; /* that one is in transport->wait, and must be woken */
    bool waiting;  /* it is in there, woken or not */
    uint64_t sleeps_until_ms;
    bool stepped;     /* the core, since its last FLUSH */
    bool left;        /* something is to be moved that the last driver did not wait for */
    uint64_t turn_ns; /* when the last turn was taken */
    uint64_t now_ms;  /* the same, or a little later */
    unsigned kept;    /* jobs submitted since then, and left for the next */
    unsigned burst;   /* jobs submitted, each soon after another */
    uint64_t submitted_ns;
    bool news;        /* something happened that a waiter may wait for; told at the end
                         of a turn, or by driver_kick */
    unsigned waiters; /* on `changed` */
    pthread_cond_t changed;
    pthread_t thread; /* the result thread, or the only one of a nested pool */
    bool thread_runs, stop;
    bool thread_drives, asked_back; /* and is to let somebody else do it */
    uint64_t thread_until_ns;       /* it sleeps until then; 0: it does not */
    pthread_cond_t wanted;          /* the result thread waits on it */
    bool lost;                      /* an event or a message, for want of memory */
    bool gave_up;                   /* for that, or since the transport broke */
    uint64_t left_ns; /* when a caller last stopped driving with work left */
    TAILQ_HEAD(pool_callbacks, pool_job) callbacks;
    struct pool_job *called; /* whose callback is running */
    STAILQ_HEAD(pool_printed_list, pool_printed) printed;
    uint64_t printed_bytes;                /* in it */
    uint64_t printed_left_out;             /* lines that were too many for it */
    uint64_t printed_came, printed_called; /* OUTPUTs; told or not */
    bool calling_printed;                  /* they are being told */
    LIST_HEAD(pool_watches, pool_watch) watches;
};

/* Takes the mutex, if calls on this pool are allowed here: EINVAL (NULL, or another
 * thread than a nested pool's), EFORK. Without the mutex. */
int pool_enter(farpool_pool *pool, const char *call, farpool_error *error);
void pool_leave(farpool_pool *pool);

/* Whether new work is taken: ECLOSED, or why the pool has failed. */
int pool_check_running(farpool_pool *pool, const char *call, farpool_error *error);

/* Fills error with why the pool has failed; returns the code. */
int pool_tell_failure(const farpool_pool *pool, const char *call, farpool_error *error);

/* Drops one reference; without the mutex. */
void pool_unref(farpool_pool *pool);

/* One event into the core; its effects are carried out. As client_core_step. */
int pool_step(farpool_pool *pool, struct client_event *event);
/* The same, of an event that must not be lost: again and again, until there is memory. */
int pool_must_step(farpool_pool *pool, struct client_event *event);

/* Opens a job in the core and enters it in the table. */
int pool_open_job(farpool_pool *pool, struct pool_job *job,
                  const struct client_job_options *options, farpool_error *error);
/* The job is over for the core. */
void pool_close_job(struct pool_job *job, bool kill);
/* Has the result thread call job->kind->call_back. */
void pool_queue_callback(struct pool_job *job);

/* ------------------------------------------------------------------- output.c */

/* Takes the message of an OUTPUT over, to be told by output_call. */
void output_queue(farpool_pool *pool, struct message **message);
/* Tells what is queued; on the result thread. The mutex is released meanwhile. */
void output_call(farpool_pool *pool);
void output_fini(farpool_pool *pool);
static inline bool output_waits(const farpool_pool *pool)
{
    return !STAILQ_EMPTY(&pool->printed) && !pool->calling_printed;
}

/* ------------------------------------------------------------------- driver.c */

int driver_start(farpool_pool *pool, farpool_error *error);
void driver_stop(farpool_pool *pool); /* without the mutex */

/* Waits until done(arg), at most until until_ms; drives the pool if nobody else does.
 * 0 or ETIMEDOUT. */
int driver_wait(farpool_pool *pool, bool (*done)(void *arg), void *arg,
                uint64_t until_ms);

/* Waits until what was printed before now has been told, unless this is the thread that
 * tells it. */
void driver_wait_for_output(farpool_pool *pool, uint64_t until_ms);

/* Something is to be done: carries it out at once, or wakes who drives. */
void driver_kick(farpool_pool *pool);
/* Jobs come one closely behind the other. */
bool driver_in_burst(const farpool_pool *pool);
/* A job was submitted. The same, unless much is under way: then soon, with others. */
void driver_submitted(farpool_pool *pool);

/* Brings the pool up to date where no thread does it in the background. */
void driver_look(farpool_pool *pool);

/* Whether this thread is inside that job's callback; inside any one. */
bool driver_in_callback(const farpool_pool *pool, const struct pool_job *job);
bool driver_in_any_callback(const farpool_pool *pool);

#endif
