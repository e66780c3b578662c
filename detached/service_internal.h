/* SPDX-License-Identifier: Apache-2.0
 *
 * service_internal.h: what the files of the service share.
 *
 *   service.c         a turn: the store, its failing, commits, time
 *   service_jobs.c    the table of jobs; who may see which; their end
 *   service_out.c     answers and other effects
 *   service_submit.c  SUBMIT and what follows it
 *   service_ask.c     DETACHED_GET, DETACHED_END, COLLECT
 *   service_run.c     the client inside the coordinator that runs a job
 *   service_input.c   its inputs: those under way in an earlier life, and new ones
 *
 * The table follows the store: it is read anew whenever a transaction had to be undone.
 */
#ifndef FARPOOL_DETACHED_SERVICE_INTERNAL_H
#define FARPOOL_DETACHED_SERVICE_INTERNAL_H

#include "client/core.h"
#include "common/base/error.h"
#include "common/base/mem.h"
#include "common/sys/log.h"
#include "detached/service.h"
#include "detached/store.h"

#define HASH_NONFATAL_OOM 1
#define uthash_malloc(size) mem_alloc(size)
#define uthash_free(memory, size) mem_free(memory)
#define uthash_nonfatal_oom(element) ((void)(element))
#include <bsd/sys/queue.h>
#include <uthash.h>

#define JOBS_MAX 10000       /* in the store */
#define RUNS_MAX 64          /* of them at work at a time */
#define RUN_BYTES (8u << 20) /* inputs and results of one in memory */
#define RETRY_MS 5000        /* after which what failed is tried again */
#define LINK_MS 1000         /* the same of a link */
#define AGAIN_MS 10          /* the same of what found no memory */
#define TICK_MS 60000        /* jobs that have ended age by it */
#define FILLING_S 3600       /* who submits is silent for so long: it is dropped */
#define PIECE_BYTES 1048576  /* of a file, in one message */
#define GIVEN_UP_MAX 64      /* that the disk does not let go; more stay for FILLING_S */
#define GIVEN_AHEAD 4096     /* tasks: so seldom is it written how many were sent */

struct detached_job;

/* A client that runs a job. */
struct run {
    struct detached_job *job;
    struct client_core *core;
    struct message *open;              /* lent to the core */
    uint64_t link;                     /* 0: down */
    uint64_t up_ms;                    /* when to dial again */
    uint64_t number;                   /* of the job in the core */
    uint64_t next;                     /* index of the input that is given next */
    uint64_t wanted, wanted_bytes;     /* inputs asked for, and not given yet */
    uint64_t consumed, consumed_bytes; /* results of the open transaction */
    struct span_set *tries;            /* without inputs: attempts that are not the first,
                                          of tasks without a result; tags as the core's */
    bool is_open;                      /* the coordinator took the pool, on this link */
    bool input_ended;
    TAILQ_ENTRY(run) entry;
};

struct detached_job {
    struct store_job about;
    struct run *run; /* NULL: not at work */
    bool dirty;      /* about is to be written with this transaction; in service->dirty */
    bool waits;      /* to be run; in service->waiting */
    uint64_t idle_s; /* FILLING: since something came */
    uint64_t aged_ms; /* until when its age was counted */
    uint64_t retry_ms;
    int stall_code;
    char stall_text[256];
    TAILQ_ENTRY(detached_job) dirty_entry, waiting_entry;
    UT_hash_handle hh; /* by about.id */
};

TAILQ_HEAD(run_list, run);
TAILQ_HEAD(detached_job_list, detached_job);

/* An answer that waits for the transaction. */
struct answer {
    uint64_t link;
    enum message_kind question;
    uint32_t request;
    struct message *message;
};

struct service {
    struct service_config config;
    uint64_t now_ms, seed, links;
    struct store *store; /* NULL: it cannot be opened */
    int down_code;       /* store NULL: why; else why nothing runs, or 0 */
    char down_text[512];
    uint64_t retry_ms, tick_ms;
    struct detached_job *jobs;
    struct detached_job_list dirty, waiting;
    struct run_list runs;
    unsigned runs_count;
    struct id given_up[GIVEN_UP_MAX]; /* submissions that are to be removed */
    unsigned given_up_count;
    bool more;   /* a run has something to send: another round */
    bool failed; /* the transaction: nothing more is done with it */
    farpool_error failure;
    struct answer *answers;
    size_t answers_count, answers_capacity;
    size_t answers_due; /* the first ones: what they tell is on the disk */
    struct service_out *outs;
    size_t outs_count, outs_capacity;
    struct client_effects effects;
};

/* The store said no: the turn undoes all that it began. */
void service_fail(struct service *service, const farpool_error *error);

/* ------------------------------------------------------------------ service_out.c */

struct service_out *service_add_out(struct service *service, enum service_out_kind kind);
void service_log(struct service *service, enum log_level level, const char *event,
                 const char *format, ...) __attribute__((format(printf, 4, 5)));
/* An answer that goes out when the transaction is on the disk; takes it over. NULL: there
 * was no memory for it: the link is dropped. */
void service_answer(struct service *service, uint64_t link,
                    const struct message *question, struct message **message);
/* ANSWER, or what else answers such a question, with a code and why. */
void service_refuse(struct service *service, uint64_t link,
                    const struct message *question, int code, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
void service_refuse_error(struct service *service, uint64_t link,
                          const struct message *question, const farpool_error *error);
uint32_t service_request_of(const struct message *question);
struct message *service_make_refusal(enum message_kind question, uint32_t request,
                                     int code, const char *text);
/* Room for the answer to one more question, so that whoever waits hears something. */
bool service_expect_answer(struct service *service);
void service_release_answers(struct service *service);
void service_refuse_answers(struct service *service);

/* ----------------------------------------------------------------- service_jobs.c */

struct detached_job *service_add_job(struct service *service, struct store_job *about);
/* After its state or run has changed: among those that wait, or not. */
void service_place_job(struct service *service, struct detached_job *job);
/* Its state is to be written with this transaction. */
void service_touch_job(struct service *service, struct detached_job *job);
/* Not in the store. */
void service_drop_job(struct service *service, struct detached_job *job);
void service_drop_jobs(struct service *service);
bool service_may_see(const struct holder *holder, const struct detached_job *job);
/* By its name, or OWNER/NAME; NULL: there is none, or it is not the holder's, which is
 * told in the same words. */
struct detached_job *service_find(struct service *service, const struct holder *holder,
                                  const char *name, farpool_error *error);
struct detached_job *service_find_submit(struct service *service,
                                         const struct holder *holder,
                                         const struct id *submit);
/* The job is over, before all its tasks are. */
void service_end_job(struct service *service, struct detached_job *job,
                     enum store_state state, int code, const char *reason);
/* From the store too. */
void service_remove_job(struct service *service, struct detached_job *job);
/* A submission that its client gave up; also when the disk takes no removal now. */
void service_give_up(struct service *service, struct detached_job *job);
/* Those that it did not take then. */
void service_remove_given_up(struct service *service);
/* Writes those that have changed. */
void service_write_jobs(struct service *service);

/* ------------------------------------------------------------------------- the rest */

void service_submit(struct service *service, struct service_in *in);
void service_ask(struct service *service, const struct service_in *in);

void service_chance_id(struct service *service, struct id *ret_id);

/* ENOMEM: tried again later. Damage ends the job. */
int run_open(struct service *service, struct detached_job *job);
/* Ends it at once; the coordinator is told by the end of its link. */
void run_close(struct service *service, struct run *run);
void run_take(struct service *service, struct service_in *in);
/* What was stored is known to be. */
void run_committed(struct service *service, struct run *run);
void run_flush(struct service *service, struct run *run);
uint64_t run_deadline(const struct run *run);
int run_step(struct service *service, struct run *run, struct client_event *event);

/* ---------------------------------------------------------------- service_input.c */

/* What was under way when an earlier life ended. */
int input_resume(struct service *service, struct run *run, farpool_error *error);
/* Gives what is wanted, if the time has come. */
int input_give(struct service *service, struct run *run, farpool_error *error);

#endif
