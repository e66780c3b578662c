/* SPDX-License-Identifier: Apache-2.0
 *
 * client/core.h: every decision of a client, as a function from state and event to
 * effects: one core is one pool on one link. It owns the pool's tasks: it keeps every
 * input until the task has ended, sends again what was lost, and takes each result once.
 * Outputs are not kept here: they go to the shell as effects.
 *
 * Use: a batch of events, one step each, ended by one CLIENT_FLUSH, in which tasks are
 * sent. Then the effects are carried out in order. */
#ifndef FARPOOL_CLIENT_CORE_H
#define FARPOOL_CLIENT_CORE_H

#include "common/base/message.h"

#include <stdbool.h>
#include <stdint.h>

struct client_config {
    struct id client; /* random */
    struct id pool;   /* random; or, with attach, the pool the task runs in */
    bool attach;      /* a nested client: POOL_ATTACH instead of POOL_OPEN */
    uint32_t job_tag; /* random: job numbers are (job_tag << 32) + 1, + 2, ... */
    char host[NODE_NAME_MAX + 1];
    uint32_t pid;
    bool lanes;           /* workers may be dialled: CLIENT_DIAL; not with attach */
    uint32_t ack_wait_ms; /* ACKs wait so long for others, while tasks are under way */
    struct message *open; /* the POOL_OPEN to send (pool filled in), borrowed for the
                             core's life; NULL with attach */
    bool resumes; /* the pool and its jobs had an earlier life, which another core knew:
                     also the first link is one on which what was under way is sent again
                     (CLIENT_JOB_AGAIN) */
};

/* What a job asks for; the values are checked by the API. */
struct client_job_options {
    char function[FUNCTION_NAME_MAX + 1];
    uint32_t chunk;                /* 0: adaptive */
    uint64_t timeout_ms;           /* 0: none */
    uint64_t cpu_ms, memory_bytes; /* the same */
    uint32_t retries;              /* more tries after a failure or a limit */
    uint32_t losses_max;           /* >= 1; 1: at most once */
    int32_t priority;
    bool speculate;           /* slow tasks run elsewhere too; not with losses_max 1 */
    bool calls;               /* each task is a call: its index is 0 to its function, and
                                 where it is told what it printed */
    bool whole;               /* nobody looks at a part of it before it has ended */
    bool lazy;                /* input is asked for with CLIENT_INPUT_WANTED */
    uint64_t tasks_under_way; /* lazy: pulled and not consumed; 0: adaptive */
    uint64_t bytes_under_way; /* lazy: input plus output bytes of the same */
    uint64_t tasks;           /* in all; 0: not known */
    bool tells_again;         /* CLIENT_AGAIN is wanted */
};

enum client_event_kind {
    CLIENT_LINK_UP,      /* a fresh connection: say hello. lane: one that was dialled */
    CLIENT_LINK_DOWN,    /* text. lane: that one has ended, or could not be dialled */
    CLIENT_LINK_REFUSED, /* text: no link, and none will be: the key was refused */
    CLIENT_MESSAGE,      /* *message (taken over). lane: from there */
    CLIENT_JOB_OPEN,     /* options; the step sets event->job to the new job's number */
    CLIENT_JOB_INPUT,    /* job, span (taken over; first must be the next index) */
    CLIENT_JOB_SKIP,     /* job, count: the next so many tasks have ended before, and are
                            none of this core's business (a detached job that goes on) */
    CLIENT_JOB_AGAIN,    /* job, span (with its attempt), losses, failures, under_way: the
                            next inputs, as they stood in an earlier life: under way, to be
                            sent again on the first link (before which this comes), or to
                            be sent for the first time with that attempt */
    CLIENT_JOB_INPUT_END, /* job: there is no more */
    CLIENT_JOB_CONSUMED,  /* job, count, bytes: the reader took so many more ended tasks,
                             with so many bytes of output (lazy) */
    CLIENT_JOB_CANCEL, /* job, first, count, kill; the step sets event->count to how many
                          were cancelled: their CLIENT_FAILED effects tell which */
    CLIENT_JOB_FREE,   /* job, kill: nobody wants it; what is under way is cancelled. No
                          effect names the job any more */
    CLIENT_SHARE,      /* *message: SHARE of a shared input with the next number, without
                          the pool (taken over). ECLOSED */
    CLIENT_UNSHARE,    /* shared: its number. EINVAL: there is none */
    CLIENT_CLOSE,      /* no new jobs; when all have ended: POOL_CLOSE */
    CLIENT_TERMINATE,  /* end now: every unfinished task fails with ETERMINATED */
    CLIENT_FAIL,       /* code, text: the shell cannot go on; every unfinished task fails
                          with the same, and so does the pool (POOL_FAILED), unless that
                          has failed, was terminated or is ending before; what is ending
                          has ended soon, answer or not */
    CLIENT_FLUSH,      /* the batch is over, or the deadline came */
};

struct client_event {
    enum client_event_kind kind;
    uint64_t now_ms;
    struct message *message;
    uint64_t lane; /* 0: the coordinator's link */
    const struct client_job_options *options;
    uint64_t job;
    struct msg_span span; /* attempt is ignored, but of JOB_AGAIN */
    uint64_t first, count, bytes;
    uint64_t losses, failures;
    uint64_t shared;
    bool under_way;
    bool kill;
    int code;
    const char *text;
};

enum client_effect_kind {
    CLIENT_SEND,         /* message, to the coordinator or on a lane */
    CLIENT_DIAL,         /* lane, text: the address of a worker, content: its key (zero:
                            no keys are in use); LINK_UP or LINK_DOWN follow, or a time
                            without either */
    CLIENT_HANG_UP,      /* lane, text: drop it; no LINK_DOWN is expected */
    CLIENT_RELINK,       /* code, text: drop the connection and dial again */
    CLIENT_READY,        /* the first WELCOME came: the pool is open */
    CLIENT_INPUT_WANTED, /* job, count, bytes: pull that many inputs, or fewer once theirs
                            are `bytes` or more. Answered by JOB_INPUT, in pieces if input
                            comes slowly, or by INPUT_END; only then more is asked for */
    CLIENT_DONE,         /* job, first, count, sizes, data: outputs of tasks that ended */
    CLIENT_FAILED,       /* count 0: job, failed (one task that ended), text (why, or "");
                            else job, first, count, code, text, node, attempt (many that
                            ended for the same reason: cancelled, lost, terminated) */
    CLIENT_AGAIN, /* job, first, count, attempt, losses, failures: tasks that are tried
                     again, with that attempt; the next FLUSH may send them (only if
                     the job tells_again) */
    CLIENT_JOB_ENDED, /* job: all input came and every task has ended, or the pool failed
                         or was terminated, or (code and text tell so) an operator has
                         cancelled the job. The core has forgotten the job; sent after
                         its last DONE or FAILED */
    CLIENT_POOL_FAILED, /* code, text, node: no node can run this pool, or the coordinator
                           refused it; every unfinished task fails with the same, at
                           the next FLUSH */
    CLIENT_WARNING,     /* code, text, node: one node cannot run it, others can */
    CLIENT_OUTPUT,      /* message: an OUTPUT, what processes of the pool printed */
    CLIENT_READ_FILE,   /* worker, content (of a file or a shared input), offset, count:
                           answer with a BLOB message that the shell makes and sends
                           itself */
    CLIENT_POOL_ENDED,  /* after CLOSE or TERMINATE: the processes have ended */
};

struct client_effect {
    enum client_effect_kind kind;
    struct message *message; /* the shell takes it over */
    uint64_t lane;           /* 0: the coordinator's link */
    uint64_t job, first, count, bytes;
    uint64_t losses, failures;    /* of CLIENT_AGAIN, for CLIENT_JOB_AGAIN as they are */
    struct payload *sizes, *data; /* references, the shell takes them over */
    struct msg_failed failed;     /* its texts are owned by the effect */
    struct id worker;
    struct hash content;
    uint64_t offset;
    uint32_t attempt; /* of many: which try it was; 0: not one and the same */
    int code;
    char text[256], node[NODE_NAME_MAX + 1];
};

/* The text of what an operator cancelled, with FARPOOL_ECANCELLED. */
#define CLIENT_OPERATOR_TEXT "cancelled by an operator"

struct client_effects {
    struct client_effect *items;
    size_t count, capacity;
};
void client_effects_clear(struct client_effects *effects);
void client_effects_fini(struct client_effects *effects);

struct client_core;
int client_core_create(const struct client_config *config, uint64_t now_ms,
                       struct client_core **ret_core);
void client_core_destroy(struct client_core *core);

/* One event. 0; ENOMEM: nothing has changed; ECLOSED: CLIENT_JOB_OPEN after CLOSE,
 * TERMINATE or POOL_FAILED; EINVAL: no such job. A FLUSH returns 0 always: what it had no
 * memory for is done by the next one, which the deadline asks for. */
int client_core_step(struct client_core *core, struct client_event *event,
                     struct client_effects *effects);
uint64_t client_core_deadline(const struct client_core *core); /* UINT64_MAX: none */
void client_core_check(const struct client_core *core);

/* How a job stands; false: no such job (it ended). running is what JOB_STATE told last,
 * waiting is the rest of what was pulled. */
struct client_job_counts {
    uint64_t pulled, done, failed, running, waiting, share_ppm;
    bool input_ended;
};
bool client_core_job_counts(const struct client_core *core, uint64_t job,
                            struct client_job_counts *ret_counts);

struct client_pool_counts {
    bool connected; /* a WELCOME came on the present link */
    uint64_t nodes, slots, processes, started;
};
void client_core_pool_counts(const struct client_core *core,
                             struct client_pool_counts *ret_counts);

#endif
