/* SPDX-License-Identifier: Apache-2.0
 *
 * core_internal.h: the state of a client core and what its files offer each other.
 *
 *   core.c          creating, dispatching an event, the FLUSH, the deadline
 *   core_effects.c  the array of effects
 *   core_link.c     hello, welcome, silence; what a message is and whether it may come
 *   core_pool.c     how a pool fails, closes, is terminated and ends
 *   core_job.c      jobs: opening, input, cancelling, freeing, their end
 *   core_send.c     TASKS and JOB_OPEN within the window; sending again on a new link
 *   core_results.c  DONE, FAILED and LOST: what is taken, tried again, given up
 *   core_ack.c      which results were taken, and the ACKs for them
 *   core_lane.c     lanes: links to workers, and what of `sent` is on them
 *   core_deal.c     sending on lanes, and the account of it for the coordinator
 *   core_part.c     how much of a long job each lane is dealt
 *   core_input.c    how much input a lazy job pulls
 *   core_shared.c   shared inputs
 *   core_check.c    every invariant
 *
 * How a step is all or nothing: sets are first cut where they will be (which changes no
 * task), tasks are moved to `ended` and `again` (which allocates nothing and can be
 * undone), effects are appended (and cut off again on failure); only then the rest
 * changes, without allocating. */
#ifndef FARPOOL_CLIENT_CORE_INTERNAL_H
#define FARPOOL_CLIENT_CORE_INTERNAL_H

#include "client/core.h"
#include "common/base/mem.h"
#include "common/base/part.h"
#include "common/base/span.h"

#define HASH_NONFATAL_OOM 1
#define uthash_malloc(size) mem_alloc(size)
#define uthash_free(memory, size) mem_free(memory)
/* Who adds to a map has a `bool failed`. */
#define uthash_nonfatal_oom(element) ((void)(element), (void)(failed = true))

#include <assert.h>
#include <bsd/sys/tree.h>
#include <sys/queue.h>
#include <uthash.h>

#define MESSAGE_BYTES 1048576    /* bodies in one TASKS, unless one task has more */
#define LAZY_BYTES_MAX 67108864  /* bytes_under_way that a job did not name */
#define LAZY_TASKS_MAX 131072    /* tasks_under_way that a job did not name */
#define LAZY_AHEAD_NS 1000000000 /* work for every slot that is pulled ahead */
#define LAZY_FIRST 4             /* tasks pulled before any result came */
#define GREETING_MS 5000         /* a hello that is not answered by then */
#define TERMINATE_MS 2000        /* a terminated pool has ended by then, answer or not */
#define ACK_BYTES 262144         /* results whose ACKs no longer wait for others */
#define ACK_OWN_BYTES 256        /* each result counts so much beside its data */
#define LANES_MAX 64             /* at a time; bits of a u64 */
#define LANE_NONE 0xffu          /* place of what is to go by the coordinator */
#define ACCOUNT_MS 100           /* between a change on a lane and the word of it */
#define ACCOUNT_EVERY_MS 1000    /* between two of those */
#define UNEVEN_MS 5              /* the same while the coordinator has to know more */
#define GRACE_MS 200             /* that lanes which carry may not be for all slots */
#define SHORT_MS 10              /* tasks that may wait for a slot behind others */
#define RECALL_JOBS 32           /* looked at for what to call back from a lane */
#define RECENT_FUNCTIONS 8 /* of which it is known what their last jobs have shown */
#define RETRY_MS 10        /* after a FLUSH that ran out of memory */

/*                 CLOSE                    no jobs left            POOL_CLOSED
 *   POOL_RUNNING ---------> POOL_CLOSING ---------------> POOL_ENDING -----> POOL_ENDED
 *    |       `-- failed --> POOL_FAILED ^ CLOSE               ^                  ^
 *    `-- TERMINATE (from each but ENDED) --> POOL_TERMINATING-'-- link is down --' */
enum pool_state {
    POOL_RUNNING,
    POOL_FAILED,
    POOL_CLOSING,     /* no new jobs */
    POOL_TERMINATING, /* POOL_CLOSE kill is to be sent */
    POOL_ENDING,      /* POOL_CLOSE was sent */
    POOL_ENDED,
};

enum link_state {
    LINK_DOWN,
    LINK_GREETED, /* hello was said */
    LINK_WELCOMED,
    LINK_REFUSED, /* for ever */
};

enum job_state {
    JOB_FILLING, /* input still comes */
    JOB_FILLED,  /* all input came */
    JOB_OVER,    /* and every task has ended: in core->over, to be told and forgotten */
};

/* What an operator asked for (CANCEL_JOB); the next FLUSH does it. */
enum stop {
    STOP_NOT,
    STOP_LET_RUN, /* what runs may finish, for nobody */
    STOP_KILL,
};

/* A mean over the last thousand or so. */
struct average {
    uint64_t count, sum;
};

/* In `waiting` and `sent` a span's attempt is the one to be made or under way, its tag
 * is how many losses its tasks had, and above (DOUBT) how often they were at a node that
 * was lost, begun or not; its tag2 how many failures. */
/*   LANE_DIALLED -- LINK_UP --> LANE_GREETED -- WELCOME_LANE --> LANE_UP
 * and each of them ends as LANE_OVER, until the FLUSH. */
enum lane_state {
    LANE_DIALLED,
    LANE_GREETED, /* HELLO_LANE was said */
    LANE_UP,
    LANE_OVER,
};

/* A link to a worker. */
struct lane {
    enum lane_state state;
    uint32_t place;  /* in core->lanes, from 1 */
    uint64_t number; /* for the shell; never used again */
    struct id ticket, worker;
    char node[NODE_NAME_MAX + 1];
    uint64_t until_ms; /* then it has to be up */
    uint64_t heard_ms, spoke_ms, heartbeats, heartbeat_ms, silence_ms;
    uint64_t slots, busy;          /* granted; of these have work by the coordinator */
    uint64_t tasks_max, bytes_max; /* that may be under way */
    uint64_t tasks, bytes;         /* that are */
    uint64_t moved_ms;             /* since when nothing of it has ended */
    uint64_t account_ms;           /* when to tell of them; UINT64_MAX: nothing new */
    uint64_t told_ms;              /* when that was done last */
    uint64_t recalled;             /* chunks that a RECALL under way is for */
    uint64_t fruitless; /* jobs from here on have brought nothing, and nothing has changed
                           since; UINT64_MAX: none */
    bool withdrawn;     /* OVER: the worker is gone */
    bool cut;           /* OVER: its connection has ended */
    char text[256];     /* OVER: why */
};

struct job {
    uint64_t number;
    struct client_job_options options;
    enum job_state state;
    struct span_set *waiting, *sent;
    uint64_t lanes_told;                      /* a bit a lane that has heard of it */
    uint64_t accounted;                       /* ... of which the coordinator has */
    uint64_t lane_done, lane_failed, lane_ns; /* there, since it was told last */
    uint64_t next; /* index of the next input: how many were pulled */
    uint64_t done, failed;
    uint64_t told_link;   /* the link on which JOB_OPEN was sent last; 0: none */
    uint64_t resend_next; /* sent tasks from here on are to be sent again; UINT64_MAX */
    uint64_t running, share_ppm, state_link; /* JOB_STATE, and the link it came on */
    /* A lazy job's: */
    uint64_t consumed;             /* ended tasks that the reader took */
    uint64_t output_bytes;         /* of done tasks that it did not take yet */
    uint64_t wanted, wanted_bytes; /* asked for and not answered */
    uint64_t allowance;            /* tasks that may be under way, growing with results */
    struct average input_size, output_size, elapsed_ns;
    uint64_t usual_ns; /* what a task of its function took before; 0: not known */
    uint32_t ramp;     /* chunks a slot on lanes */
    enum stop stop;
    bool stopped; /* an operator ended it, while it was not over */
    bool ready;   /* in core->ready: something waits */
    RB_ENTRY(job) ready_entry;
    TAILQ_ENTRY(job) over_entry, lazy_entry;
    UT_hash_handle hh;
};

RB_HEAD(job_tree, job);
TAILQ_HEAD(job_list, job);

/* A function, as its last jobs have shown it. */
struct recent {
    char function[FUNCTION_NAME_MAX + 1];
    uint64_t task_ns; /* 0: not known */
    uint32_t ramp;
};

struct ack {
    struct id worker;
    uint64_t lane; /* its number; 0: by the coordinator */
    uint64_t first, count;
};

struct client_core {
    struct client_config config;
    uint64_t now_ms;

    enum pool_state state;
    int fail_code; /* 0, or what every unfinished task fails with */
    char fail_text[256], fail_node[NODE_NAME_MAX + 1];
    uint64_t end_by_ms; /* POOL_ENDING: then ended, answer or not */
    uint64_t nodes, slots, processes, started;
    uint64_t nodes_before; /* when the last link went that had any */

    enum link_state link;
    uint64_t link_number; /* of the present link, from 1 */
    bool ready_told;
    bool resume; /* what was under way on an earlier link is to be sent again */
    uint64_t heard_ms, spoke_ms, heartbeats;
    uint32_t heartbeat_ms, silence_ms;
    uint64_t tasks_max, bytes_max, body_bytes_max;
    uint64_t retry_ms; /* UINT64_MAX: the last FLUSH had the memory it needed */

    struct message **shared; /* SHARE of each shared input, by number */
    size_t shared_count, shared_capacity;

    struct job *jobs;      /* by number; in order of their numbers */
    uint64_t jobs_opened;  /* ever */
    struct job_tree ready; /* priority, then age */
    struct job_list over, lazy;
    struct recent recents[RECENT_FUNCTIONS];
    uint32_t recent_next;
    bool stopping;                   /* jobs are to be stopped by the next FLUSH */
    uint64_t sent_tasks, sent_bytes; /* of all jobs */

    struct lane *lanes[LANES_MAX]; /* NULL: free */
    uint64_t last_lane;
    bool lanes_over;      /* some are */
    uint64_t recall_ms;   /* when one may be worth a RECALL; UINT64_MAX */
    uint64_t long_ms;     /* until then long jobs wait for lanes to be for all slots */
    struct lane *speaker; /* whose message is being taken; NULL: the coordinator's */

    struct ack *acks; /* by worker, lane and first, merged */
    size_t acks_count, acks_capacity;
    uint64_t acks_due_ms, acked_bytes; /* of what is in acks, with ACK_OWN_BYTES each */

    /* Empty between steps: tasks that leave `sent`, for good and to be tried again. */
    struct span_set *ended, *again;
};

/* core_effects.c */
struct client_effect *
client_effects_add(struct client_effects *effects,
                   enum client_effect_kind kind); /* NULL: no memory */
void client_effects_truncate(struct client_effects *effects, size_t count);
bool client_effects_send(const struct client_effects *effects, size_t from);
/* Takes the message over if it returns 0. A NULL message is ENOMEM too. */
int client_send_message(struct client_effects *effects, struct message **message);

/* core_link.c */
int client_link_up(struct client_core *core, struct client_effects *effects);
int client_link_refused(struct client_core *core, const char *text,
                        struct client_effects *effects);
void client_link_down(struct client_core *core);
int client_link_relink(struct client_core *core, struct client_effects *effects, int code,
                       const char *format, ...) __attribute__((format(printf, 4, 5)));
int client_link_message(struct client_core *core, struct message *message,
                        struct client_effects *effects);
int client_link_flush_silence(struct client_core *core, struct client_effects *effects);
int client_link_flush_heartbeat(struct client_core *core, struct client_effects *effects);
uint64_t client_link_deadline(const struct client_core *core);

int client_link_tell_output(const struct message *message,
                            struct client_effects *effects);

/* core_pool.c */
int client_pool_code(int code); /* a code that a peer told, or EPROTOCOL */
int client_pool_fail(struct client_core *core, int code, const char *text,
                     const char *node, struct client_effects *effects);
int client_pool_give_up(struct client_core *core, const struct client_event *event,
                        struct client_effects *effects);
int client_pool_handle_failed(struct client_core *core, const struct message *message,
                              struct client_effects *effects);
int client_pool_handle_closed(struct client_core *core, struct client_effects *effects);
void client_pool_close(struct client_core *core);
void client_pool_terminate(struct client_core *core);
int client_pool_flush(struct client_core *core, struct client_effects *effects);

/* core_job.c */
/* The job whose turn to send it is, and how many there are; NULL: none. */
struct job *client_job_first_ready(struct client_core *core);
size_t client_job_count_ready(const struct client_core *core);
struct job *client_job_find(const struct client_core *core, uint64_t number);
int client_job_open(struct client_core *core, struct client_event *event);
int client_job_input(struct client_core *core, struct client_event *event);
int client_job_skip(struct client_core *core, const struct client_event *event);
int client_job_again(struct client_core *core, struct client_event *event);
int client_job_input_end(struct client_core *core, const struct client_event *event);
int client_job_cancel(struct client_core *core, struct client_event *event,
                      struct client_effects *effects);
int client_job_free(struct client_core *core, const struct client_event *event,
                    struct client_effects *effects);
void client_job_destroy(struct client_core *core, struct job *job);
/* Moves the whole span at `first` between two sets of a job, ended or again. */
void client_job_move(struct client_core *core, struct span_set *from, uint64_t first,
                     struct span_set *to, uint32_t attempt, uint64_t tag, uint64_t tag2,
                     struct job *job);
/* After a change: in core->ready or not, over or not. */
void client_job_settle(struct client_core *core, struct job *job);
/* Ends the unfinished tasks of [first, end) of one set or both, for one reason. */
struct job_end {
    uint64_t first, end;
    int code;
    const char *text, *node;
    uint64_t ret_count;
};
int client_job_end_tasks(struct client_core *core, struct job *job, struct job_end *end,
                         struct client_effects *effects);
int client_job_send_cancel(struct client_core *core, const struct job *job,
                           uint64_t first, uint64_t count, bool kill,
                           struct client_effects *effects);
void client_job_stop(struct client_core *core, const struct message *message);
int client_job_flush_fail(struct client_core *core, struct client_effects *effects);
int client_job_flush_stop(struct client_core *core, struct client_effects *effects);
int client_job_flush_over(struct client_core *core, struct client_effects *effects);

/* core_send.c */
struct message *client_send_make_open(const struct client_core *core,
                                      const struct job *job, bool resumed);
int client_send_open_if_untold(struct client_core *core, struct job *job,
                               struct client_effects *effects);
int client_send_flush_resume(struct client_core *core, struct client_effects *effects);
int client_send_flush(struct client_core *core, struct client_effects *effects);

/* core_results.c */
int client_results_handle_done(struct client_core *core, const struct message *message,
                               struct client_effects *effects);
int client_results_handle_failed(struct client_core *core, const struct message *message,
                                 struct client_effects *effects);
int client_results_handle_lost(struct client_core *core, const struct message *message,
                               struct client_effects *effects);

/* core_ack.c */
bool client_ack_reserve(struct client_core *core, size_t more);
/* A result of so many bytes, which the worker keeps until it is ACKed. */
void client_ack_add(struct client_core *core, const struct id *worker, uint64_t seq,
                    uint64_t bytes);
void client_ack_hurry(struct client_core *core); /* what was added is to go at once */
uint64_t client_ack_deadline(const struct client_core *core); /* reserved */
int client_ack_flush(struct client_core *core, struct client_effects *effects);
/* Of a way that has ended. */
void client_ack_forget(struct client_core *core, uint64_t lane);

/* core_lane.c */
struct lane *client_lane_find(const struct client_core *core,
                              uint64_t number); /* NULL: none */
/* What of a job's `sent` is on a lane, from the task `first` on, up to LIST_MAX ranges;
 * allocated, the caller frees it. NULL: ENOMEM. */
struct msg_range *client_lane_list(const struct job *job, const struct lane *lane,
                                   uint64_t first, uint32_t *ret_count);
bool client_lane_is_about(enum message_kind kind); /* the coordinator's messages */
int client_lane_told(struct client_core *core, const struct message *message,
                     struct client_effects *effects);
int client_lane_up(struct client_core *core, uint64_t number,
                   struct client_effects *effects);
void client_lane_down(struct client_core *core, uint64_t number, const char *text);
int client_lane_heard(struct client_core *core, uint64_t number,
                      const struct message *message, struct client_effects *effects);
bool client_lane_has(const struct job *job, const struct lane *lane);
/* Takes the message over if it returns 0. */
int client_lane_send(struct client_core *core, struct lane *lane,
                     struct message **message, struct client_effects *effects);
/* A span has come into `sent` (1), or leaves it (-1). */
void client_lane_count(struct client_core *core, const struct span_item *item, int sign);
bool client_lanes_carry(const struct client_core *core); /* any task */
void client_lanes_end(struct client_core *core, const char *text);
void client_lanes_free(struct client_core *core);
int client_lanes_flush(struct client_core *core, struct client_effects *effects);
uint64_t client_lanes_deadline(const struct client_core *core);

/* core_deal.c */
enum way {
    WAY_RELAY,  /* what waits of it is for the coordinator, */
    WAY_MARKED, /* or just its first tasks are */
    WAY_DEALT,  /* some of it has been sent on a lane */
    WAY_WAIT,   /* it waits for what is on lanes */
};
bool client_deal_is_marked(const struct span_item *item); /* not for lanes */
int client_deal_first(struct client_core *core, struct job *job, enum way *ret_way,
                      struct client_effects *effects);
/* Of a job on one lane; on all that the coordinator was told of; what is due. */
int client_deal_account(struct client_core *core, struct job *job,
                        const struct lane *lane, struct client_effects *effects);
int client_deal_account_job(struct client_core *core, struct job *job,
                            struct client_effects *effects);
int client_deal_flush_accounts(struct client_core *core, struct client_effects *effects);
/* A copy on each lane that has heard of the job. */
int client_deal_tell(struct client_core *core, const struct job *job,
                     const struct message *message, struct client_effects *effects);

/* core_part.c */
void client_part_borrow(struct client_core *core, struct job *job);
void client_part_measure(struct client_core *core, struct job *job);
/* Whether the pool's lanes are for all that it has, or just were: a worker that joins is
 * told of before it has one. */
bool client_part_is_long(struct client_core *core);
/* Whom to give some of a job, and how many tasks at most; NULL: nobody now. */
struct lane *client_part_find(const struct client_core *core, const struct job *job,
                              uint64_t *ret_tasks);
int client_part_returned(struct client_core *core, struct lane *lane,
                         const struct message *message);
int client_part_flush(struct client_core *core, struct client_effects *effects);

/* core_input.c */
void client_average_add(struct average *average, uint64_t count, uint64_t sum);
/* Rounded up; 0: nothing was measured, or it is 0. */
uint64_t client_average_mean(const struct average *average);
int client_input_consumed(struct client_core *core, const struct client_event *event);
int client_input_flush(struct client_core *core, struct client_effects *effects);

/* core_shared.c */
int client_shared_add(struct client_core *core, struct client_event *event,
                      struct client_effects *effects);
int client_shared_remove(struct client_core *core, uint64_t number,
                         struct client_effects *effects);
int client_shared_tell(const struct client_core *core, struct client_effects *effects);
void client_shared_fini(struct client_core *core);
uint64_t client_input_limit(const struct client_core *core, const struct job *job);

#define DOUBT (UINT64_C(1) << 32)
#define DOUBTS_MAX 8 /* from then on such an end counts as a loss */

static inline uint32_t losses_of(const struct span_item *item)
{
    return (uint32_t)item->tag;
}

static inline uint32_t doubts_of(const struct span_item *item)
{
    return (uint32_t)(item->tag / DOUBT);
}

static inline uint32_t failures_of(const struct span_item *item)
{
    return (uint32_t)item->tag2;
}

static inline uint32_t lane_of(const struct span_item *item)
{
    return (uint32_t)(item->tag2 >> 32);
}

static inline uint64_t add_saturated(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static inline uint64_t subtract_saturated(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

static inline uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

#endif
