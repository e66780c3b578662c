/* SPDX-License-Identifier: Apache-2.0
 *
 * core_model.h: the state of a client core: its tables, what is in them, and their
 * bounds. */
#ifndef FARPOOL_CLIENT_CORE_MODEL_H
#define FARPOOL_CLIENT_CORE_MODEL_H

#include "client/core.h"
#include "common/base/count.h"
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

#define DOUBT (UINT64_C(1) << 32)
#define DOUBTS_MAX 8 /* from then on such an end counts as a loss */

static inline uint32_t unit_of(const struct job *job)
{
    return job->options.chunk ? job->options.chunk : 1;
}

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

#endif
