/* SPDX-License-Identifier: Apache-2.0
 *
 * core_model.h: the state of a coordinator core: its tables, what is in them, and their
 * bounds. */
#ifndef FARPOOL_COORDINATOR_CORE_MODEL_H
#define FARPOOL_COORDINATOR_CORE_MODEL_H

#include "common/base/count.h"
#include "common/base/mem.h"
#include "common/base/part.h"
#include "common/base/shared.h"
#include "common/base/span.h"
#include "coordinator/core.h"

#define HASH_NONFATAL_OOM 1
#define uthash_malloc(size) mem_alloc(size)
#define uthash_free(memory, size) mem_free(memory)
/* Who adds to a map has a `bool failed`. */
#define uthash_nonfatal_oom(element) ((void)(element), (void)(failed = true))

#include <assert.h>
#include <bsd/sys/queue.h>
#include <bsd/sys/tree.h>
#include <uthash.h>

#define TASK_NS_MAX (UINT64_C(1) << 42)
#define FADE_TASKS 1024     /* tasks in the fading average of a task's time */
#define AWAY_MS 500         /* who is late by so much was stopped */
#define TWIN_TIMES 2        /* a task that takes so many times the usual is slow */
#define TWIN_LEAST_MS 50    /* and at least so long */
#define TWIN_LOOK_MS 10     /* between two looks for slow tasks */
#define TWINS_MAX 4096      /* second holders of one job's tasks */
#define WATCH_WAIT_MS 10000 /* for others to end, of a last try */
#define LEFT_MS 10000       /* for a LOAD to tell whether what was cancelled runs on */
#define BEGINS_MAX 1024     /* of one worker that are remembered */
#define RECALL_WORKERS 8    /* looked at in one FLUSH */
#define RECALL_JOBS 32
#define BATCH_BYTES 1048576 /* bodies in one TASKS, unless one task has more */
#define STATE_PERIOD_MS 100 /* between two JOB_STATE of a job */
#define RETRY_MS 10         /* after a FLUSH that ran out of memory */
#define RECENT_FUNCTIONS 8  /* of a pool: what their last jobs have shown */
#define CLOSED_MAX 8        /* closed pools whose late HELD is known as such */
#define RESUMED_WINDOWS 4   /* windows that a resumed client may fill at first */
#define KEPT_MAX 65536      /* results of one worker kept while settling */
#define NESTED_RANK 4096    /* above every priority */
#define BLOCKED_PER_SLOT 8  /* tasks that wait for nested jobs and do not count */
#define HEARTBEAT_WAVES 8   /* times a period in which links are told that it is here */
#define WISHES_MAX 1024     /* of workers and jobs that are not here */
#define WISH_MS 600000
#define FRESH_LINKS_MAX 4096  /* links beyond those that clients and workers may have */
#define LANES_HOSTED_MAX 1024 /* of one worker */
#define LANES_CLIENT_MAX 64   /* of one client, which takes no more */
#define LANES_PART 4          /* of its window that a worker's lanes may take: a fourth */
#define GRANT_EVERY_MS 10
#define GRANT_QUIET_MS 100 /* before more is granted again */
#define LANE_WAIT_MS 5000  /* for who was introduced to come */
#define ENDED_POOLS 256    /* whose keys are remembered, for LOGS_GET */

/*   LINK_FRESH -- hello --> LINK_CLIENT, LINK_WORKER
 *        |  `-- ENROL --> LINK_ENROLLING  |
 *        `-----------------------'--------'--- drop --> LINK_DROPPED -- FLUSH --> gone
 *   and LINK_DOWN ends each of them at once. */
enum link_state {
    LINK_FRESH,
    LINK_ENROLLING, /* waits for the keeper of keys, and may say nothing */
    LINK_CLIENT,
    LINK_WORKER,
    LINK_DROPPED, /* what else came from it in this batch is ignored */
};

TAILQ_HEAD(klane_list, lane);

struct link {
    uint64_t number;
    enum link_state state;
    struct client *client;
    struct worker *worker;
    struct holder holder;
    uint64_t heard_ms, spoke_ms, heartbeats;
    struct klane_list dialled; /* by this peer, or to be dialled */
    uint32_t dialled_count;
    TAILQ_ENTRY(link) heard_entry; /* in core->heard, or, dropped, in core->dropped */
    TAILQ_ENTRY(link) spoke_entry; /* in core->spoke: clients and workers */
    UT_hash_handle hh;
};
TAILQ_HEAD(klink_list, link);

enum client_state {
    CLIENT_IDLE,     /* has no pool, or not yet */
    CLIENT_OWNER,    /* opened its pool */
    CLIENT_ATTACHED, /* runs inside a pool of another client */
    CLIENT_ENDED,    /* its pool is gone; what it still says of it is ignored */
};

TAILQ_HEAD(kjob_list, job);
TAILQ_HEAD(kasking_list, asking); /* core_logs.c */

struct client {
    struct id id;
    struct link *link;
    enum client_state state;
    char host[NODE_NAME_MAX + 1];
    uint32_t pid;
    bool lanes;            /* it dials workers that it is introduced to */
    struct id pool_id;     /* but for CLIENT_IDLE */
    struct pool *pool;     /* of an owner or attached one */
    uint64_t serial;       /* order of coming */
    struct kjob_list jobs; /* that it opened */
    uint64_t job_last;     /* highest job number that it opened */
    bool resumed;          /* has sent again what was under way on an earlier link */
    uint32_t nodes_before; /* that its pool had on that link, if known */
    uint64_t tasks, bytes; /* under way: sent by it and not ended */
    uint64_t assigned;     /* tasks of its jobs that a worker has */
    uint64_t ready_jobs;   /* in pool->ready */
    bool hungry;           /* in pool->hungry */
    uint64_t output_used,
        output_ms;               /* bytes of OUTPUT that it was just sent; as of then */
    struct kasking_list askings; /* workers asked by its last LOGS_GET */
    uint64_t logs_request, logs_bytes; /* its number, and what it was sent for it */
    TAILQ_ENTRY(client) pool_entry;    /* in pool->clients when attached */
    TAILQ_ENTRY(client) hungry_entry;
    UT_hash_handle hh;
};
TAILQ_HEAD(kclient_list, client);

/* That a worker drains (job: 0), or that a job of a pool ends. */
struct wish {
    struct id id; /* of the worker or the pool */
    uint64_t job;
    bool kill;
    bool fresh;              /* the step that made it may still fail */
    uint64_t expires_ms;     /* when in core->wishes */
    TAILQ_ENTRY(wish) entry; /* in core->wishes: its worker or job is not here */
};
TAILQ_HEAD(kwish_list, wish);

enum worker_state {
    WORKER_READY, /* in core->load */
    WORKER_DRAINING,
};

TAILQ_HEAD(kbegin_list, begin); /* core_watch.c */
TAILQ_HEAD(kmember_list, member);
TAILQ_HEAD(kplacement_list, placement);

struct worker {
    struct id id;
    uint64_t serial; /* order of joining */
    struct link *link;
    enum worker_state state;
    char node[NODE_NAME_MAX + 1], machine[32], labels[256];
    char lanes[ADDRESS_MAX + 1]; /* where it may be dialled; empty: nowhere */
    struct klane_list hosted;
    uint32_t hosted_count;
    bool carried; /* it has had a lane: it may have tasks that are not known here */
    uint32_t slots;
    uint64_t memory_bytes, tasks_max, bytes_max;
    bool resumed;       /* served another coordinator before: may tell what it holds */
    struct wish *drain; /* it was told, and has not said so itself */
    /* Resumed: the last pools that it was told on this link are closed. */
    struct id closed[CLOSED_MAX];
    uint32_t closed_count;
    uint64_t joined_ms;
    uint64_t processes, started, running; /* by its last LOAD, and results since */
    uint64_t done, lane_done;             /* of results that came by here; on lanes */
    /* Sums over placements. */
    uint64_t tasks, bytes, units, work_ns;
    /* Its place in core->load: the least loaded first. */
    uint64_t twins;            /* tasks that it has as their second holder */
    bool full;                 /* as many chunks as slots, or more */
    uint64_t slot_ns;          /* work a slot */
    uint64_t idle;             /* slots without a chunk */
    uint64_t kept, kept_bytes; /* results kept while their job settles */
    uint64_t kept_largest;     /* the largest message of them, ever */
    struct kmember_list members;
    struct kmember_list starved;       /* wait for room in its window */
    struct member *reserved;           /* the one that room is kept for */
    struct kplacement_list placements; /* what was given last at the end */
    struct kasking_list askings;
    struct kbegin_list asked, begun; /* BEGINs that wait for GO; that had it, and last */
    uint64_t begins;                 /* in both */
    uint32_t floor, level;           /* core_share.c, while it counts */
    RB_ENTRY(worker) load_entry;
    TAILQ_ENTRY(worker) entry; /* in core->joined */
    UT_hash_handle hh;
};
RB_HEAD(kload_tree, worker);
TAILQ_HEAD(kworker_list, worker);

/*   MEMBER_NONE -- POOL_OPEN --> MEMBER_OPEN -- POOL_FAILED --> MEMBER_FAILED
 *        `- HELD --> MEMBER_HELD --'  `---------- POOL_CLOSE -----+--> MEMBER_CLOSING */
enum member_state {
    MEMBER_NONE,    /* the worker knows nothing of the pool */
    MEMBER_HELD,    /* it has it from an earlier coordinator */
    MEMBER_OPEN,    /* it was sent POOL_OPEN */
    MEMBER_FAILED,  /* it cannot run the pool */
    MEMBER_CLOSING, /* it was sent POOL_CLOSE, and is to answer */
};

enum member_place {
    PLACE_AWAY,
    PLACE_CANDIDATE, /* in pool->candidates: may have room for the pool's tasks */
    PLACE_STARVED,   /* in worker->starved */
};

/* What a member has of its pool's jobs of one rank. */
struct level {
    int32_t rank;
    uint64_t units, work_ns;
    SLIST_ENTRY(level) entry;
};

SLIST_HEAD(klevel_list, level);

/*   HOLDING_ASKED -- PULLED --> HOLDING_FILLING --> HOLDING_WHOLE
 *         `--------------------------`-- given up --> HOLDING_GIVEN_UP
 *   A worker that opens the pool anew may answer SHARE with what it has by then when it
 * has answered already, for a life that is over: FILLING or WHOLE again. */
enum holding_state {
    HOLDING_ASKED, /* it was sent SHARE */
    HOLDING_FILLING,
    HOLDING_WHOLE,
    HOLDING_GIVEN_UP, /* its node has no room, or the client cannot give it */
};

/* A piece that was asked for with PULL. */
struct kpull {
    uint32_t piece;
    struct holding *source; /* NULL: the client, unless */
    bool again;             /* its source has gone, and it is to be asked elsewhere */
    bool relayed;           /* from another worker, through here */
};

/* A shared input on a worker. */
struct holding {
    struct shared *shared;
    struct member *member;
    enum holding_state state;
    uint8_t *have;   /* a bit a piece */
    uint32_t count;  /* of them */
    uint32_t cursor; /* in shared->order: it has all before */
    struct kpull pulls[SHARED_PULLS_MAX];
    uint32_t pulls_count, client_pulls; /* client_pulls: those of the client */
    uint32_t given;                     /* pulls of others from here */
    uint64_t client_turn;               /* when it was last given one of the client's */
    uint64_t busy_ms;                   /* when something was last asked for, or came */
    bool distrusted;                    /* nobody is sent to it */
    bool linked;                        /* lanes to others are wanted, or were */
    TAILQ_ENTRY(holding) entry;
    SLIST_ENTRY(holding) member_entry;
};
TAILQ_HEAD(kholding_list, holding);
SLIST_HEAD(kmember_holdings, holding);

struct spread {
    uint32_t copies; /* at workers that are trusted */
    bool asked;      /* under way from the client */
    bool ordered;    /* in shared->order */
};

/* A shared input of a pool. */
struct shared {
    struct pool *pool;
    uint64_t number;
    struct message *message; /* its SHARE */
    uint32_t pieces;
    struct spread *spread; /* a piece each */
    uint32_t *order;       /* pieces, as they first came to a worker */
    uint32_t ordered;      /* how many */
    uint32_t fresh;        /* those before it are at a worker, or under way to one */
    uint32_t passing;      /* pieces under way that pass here */
    uint64_t client_turn;
    uint64_t pace_ms;         /* when the present stretch of time began, */
    uint32_t came, came_last; /* and such pieces that came in it and the last */
    struct kholding_list holdings;
    struct holding *source_next; /* where to look for a source first; NULL: anywhere */
    bool touched;                /* in core->spreading: something may be pulled */
    TAILQ_ENTRY(shared) entry, spreading_entry;
};
TAILQ_HEAD(kshared_list, shared);

/* A pool on a worker. */
struct member {
    struct pool *pool;
    struct worker *worker;
    enum member_state state;
    enum member_place place;
    uint32_t share, told_share; /* processes, of a pool that has a limit */
    uint64_t tasks, units;      /* sums over its placements */
    uint64_t given;             /* core->next_given, when it was given something last */
    uint64_t idle, surplus;     /* of a pool with a limit: share less units, or more */
    uint64_t lane_tasks;        /* assigned that its client has sent there itself */
    bool announce;              /* in core->announced: POOL_OPEN is due */
    bool candidate_full;        /* place among the candidates */
    uint64_t candidate_ns;
    struct message *failure; /* POOL_FAILED that came before the pool's client */
    char *reason;            /* why it FAILED, for people */
    struct klevel_list levels;
    struct kmember_holdings holdings;
    RB_ENTRY(member) pool_entry, candidate_entry;
    TAILQ_ENTRY(member) worker_entry, starved_entry, announce_entry;
};
RB_HEAD(kmember_tree, member);
RB_HEAD(kcandidate_tree, member);

/* A fading average of a task's time. */
struct measure {
    double tasks, ns;
};

/* A function of a pool, as its last jobs have shown it. */
struct recent {
    char function[FUNCTION_NAME_MAX + 1];
    uint64_t stamp; /* 0: free; a job remembers it, and so notices a reuse */
    struct measure measure;
    uint32_t ramp;
};

RB_HEAD(kjob_tree, job);
RB_HEAD(kready_tree, job);

/*   POOL_EXPECTED -- POOL_OPEN --> POOL_RUNNING -- POOL_CLOSE --> POOL_CLOSING
 * each of which ends with the pool. */
enum pool_state {
    POOL_EXPECTED, /* workers or nested clients told of it; its client is to come */
    POOL_RUNNING,
    POOL_CLOSING, /* has no jobs any more, waits for POOL_CLOSED */
};

struct pool {
    struct id id;
    enum pool_state state;
    struct client *owner;
    struct hash key;             /* the owner's, once it has one */
    struct kclient_list clients; /* attached */
    struct klane_list lanes;
    uint64_t granted;     /* slots, to its lanes */
    struct message *open; /* its POOL_OPEN */
    uint32_t processes;   /* at most so many; 0: every slot */
    uint64_t expires_ms;  /* EXPECTED */
    struct kmember_tree members;
    struct kjob_tree jobs;
    struct kready_tree ready;   /* jobs with tasks to be given: rank, then age */
    struct kclient_list hungry; /* attached, with ready jobs and nothing assigned */
    uint64_t jobs_count;
    uint32_t members_closing;
    uint32_t failed_nodes; /* members that failed, on ready workers */
    uint64_t failed_slots;
    uint64_t shares;         /* sum over members */
    uint64_t idle, surplus;  /* sums over members; both: in core->uneven */
    uint32_t recalls;        /* RECALLs under way */
    uint64_t units, work_ns; /* sums over placements */
    uint64_t done;
    uint64_t alive, started; /* processes */
    struct kshared_list shared;
    uint32_t shared_count, shared_pieces;
    uint64_t shared_last; /* number of the latest */
    struct recent recents[RECENT_FUNCTIONS];
    uint32_t recent_next;

    /* Matching. A pool with ready jobs and not `scan` is blocked: no worker has room for
     * it but perhaps the candidates. */
    bool matching; /* in core->matching */
    bool scan;     /* any worker may have room */
    bool passed;   /* some worker was passed over because of the job, not the pool */
    int32_t blocked_rank;
    uint64_t blocked_unit_ns, blocked_serial, blocked_tasks;
    uint64_t
        starved_bytes; /* largest first task that found no room since the last scan */
    struct kcandidate_tree candidates;
    struct worker *reserving; /* keeps room for it */
    uint64_t turn_ns, turn;   /* its place among those matched in a FLUSH */

    bool renode; /* nodes or shares are to be counted again */
    bool dirty;  /* in core->dirty_pools: POOL_STATE may be due */
    uint64_t told_nodes, told_slots, told_alive, told_started;
    RB_ENTRY(pool) turn_entry;
    TAILQ_ENTRY(pool) matching_entry, dirty_entry, uneven_entry;
    TAILQ_ENTRY(pool) entry; /* in core->opened, in core->expected_pools, or closing */
    UT_hash_handle hh;
};
RB_HEAD(kturn_tree, pool);
TAILQ_HEAD(kpool_list, pool);

/*   JOB_EXPECTED -- JOB_OPEN --> JOB_SETTLING -- settled --> JOB_RUNNING */
enum job_state {
    JOB_EXPECTED, /* a worker told of it; its client is to come */
    JOB_SETTLING, /* its tasks wait until workers had time to tell what they hold */
    JOB_RUNNING,
};

struct kept {
    struct message *message; /* DONE or FAILED */
    struct id worker;
    uint64_t worker_serial; /* a worker that came back starts with nothing kept */
    uint64_t bytes;
    TAILQ_ENTRY(kept) entry;
};

TAILQ_HEAD(kkept_list, kept);
RB_HEAD(kplacement_tree, placement);

struct job {
    struct pool *pool;
    struct client *owner; /* NULL: EXPECTED */
    uint64_t number;
    uint64_t serial; /* order of opening */
    enum job_state state;
    bool resumed;
    char function[FUNCTION_NAME_MAX + 1];
    uint32_t chunk, unit; /* unit: chunk, or 1 */
    uint64_t timeout_ms, cpu_ms, memory_bytes;
    int32_t priority, rank; /* rank: priority, but nested jobs before all others */
    uint64_t tasks;
    bool once, speculate, calls, whole;
    uint64_t ended_before; /* by its client's word, under earlier coordinators */
    struct wish *stop;     /* its client was told to end it, and has not yet */
    /* Tasks: tag is the placement, tag2 enum held. */
    struct span_set *waiting, *assigned;
    struct span_set *twins; /* second holders: each of one task that is a span of its own
                               in `assigned`, of the same attempt, at another worker */
    uint64_t held;          /* assigned tasks without their input */
    uint64_t unsent;        /* at its client, by the last ACCOUNT; for status alone */
    struct measure measure;
    struct recent *recent;
    uint64_t recent_stamp;
    uint32_t ramp;               /* chunks a slot */
    uint64_t done, failed;       /* done: however they ended */
    uint64_t running, share_ppm; /* sums over placements */
    uint64_t busy_slots;         /* the same: slots at work, */
    uint64_t heard_slot_ms;      /* and slots x heard_ms, modulo 2^64 */
    uint64_t told_running, told_share_ppm;
    bool ready; /* in pool->ready */
    bool dirty; /* in core->dirty_jobs: JOB_STATE may be due */
    bool late;  /* EXPECTED: has been waited for once more */
    uint64_t expires_ms;
    struct kkept_list kept;
    struct kplacement_tree placements;
    RB_ENTRY(job) pool_entry, ready_entry;
    TAILQ_ENTRY(job) client_entry, dirty_entry;
    TAILQ_ENTRY(job) wait_entry;        /* in core->expected_jobs or core->settling */
    TAILQ_ENTRY(job) speculating_entry; /* in core->speculating: has an owner */
};

enum held {
    HELD_NOT,
    HELD_INPUTLESS, /* a worker has the task, and its input has not come here (yet) */
    HELD_LANE,      /* assigned: its client has sent it there itself */
    HELD_NEW,       /* the same, while the step that adds it may still fail */
    HELD_BACK,      /* assigned: its second holder was taken back; one more may follow */
    HELD_ALONE,     /* assigned: it had a second holder, and one of them has failed or
                       was lost */
    HELD_WATCHED,   /* assigned: its worker does not begin it before GO */
    HELD_BEGUN,     /* it had that, for others too: which of them began is not known */
    HELD_BEGUN_ONE, /* it had that alone, and so counts for what becomes of its worker */
    HELD_MAYBE,     /* waits, of a once-job: its client had sent it on an earlier link, so
                       that it may have begun; given to nobody until a worker tells */
};

enum placement_state {
    PLACEMENT_NEW,  /* the worker knows nothing of the job */
    PLACEMENT_HELD, /* it has it from an earlier coordinator */
    PLACEMENT_OPEN, /* it was sent JOB_OPEN */
};

enum recall_state {
    RECALL_NONE,
    RECALL_ASKED,
    RECALL_FRUITLESS, /* gave nothing back, and nothing has changed since */
};

/* A job on a worker. */
struct placement {
    struct job *job;
    struct worker *worker;
    struct member *member;
    struct level *level;
    enum placement_state state;
    enum recall_state recall;
    uint64_t asked;      /* chunks that a RECALL under way is for */
    uint64_t moved_ms;   /* when tasks came or went last */
    uint64_t steady_ms;  /* since then all that it has runs; UINT64_MAX: not known to */
    uint64_t heard_ms;   /* its last results; or when it got tasks, having had none */
    uint32_t busy_slots; /* what it may have of the worker's while it has tasks */
    uint64_t tasks, bytes, units, work_ns;
    uint64_t running, blocked, share_ppm; /* by the worker's last LOAD */
    uint64_t told_running; /* there; and running is that, and results since */
    uint64_t mark;         /* core->mark: it was seen in this step */
    /* The TASKS message of this FLUSH that takes more spans. */
    struct message *batch;
    uint64_t batch_bytes;
    size_t batch_capacity;
    RB_ENTRY(placement) job_entry;
    TAILQ_ENTRY(placement) worker_entry, batch_entry;
};

/*   LANE_WANTED -- INTRODUCE --> LANE_ASKED -- EXPECTED, INTRODUCED --> LANE_OFFERED
 *   -- LANE.up --> LANE_UP, each of which ends with the lane. */
enum lane_state {
    LANE_WANTED,  /* in core->lanes_wanted */
    LANE_ASKED,   /* the host was told whom to let in */
    LANE_OFFERED, /* the dialer was told where to go */
    LANE_UP,
};

/* A link from a client or worker to a worker, past the coordinator. */
struct lane {
    struct id ticket;
    enum lane_state state;
    struct link *dialer; /* of its own to the coordinator */
    struct worker *host;
    struct pool *pool;
    uint32_t granted, busy; /* as told last, */
    uint64_t granted_ms;    /* and when */
    bool regrant;           /* in core->regrants */
    TAILQ_ENTRY(lane) dialer_entry, host_entry, pool_entry, wanted_entry, regrant_entry;
    UT_hash_handle hh;
};

/* A worker that went, for who asks what happened. */
struct gone {
    char node[NODE_NAME_MAX + 1], why[128];
    uint64_t at_ms, tasks;
};

struct coordinator_core {
    struct coordinator_config config;
    uint64_t started_ms, now_ms;
    uint64_t settles_ms;    /* since then it waits for who held tasks before */
    uint64_t settle_due_ms; /* when it wants to look at that again */
    struct coordinator_effects *effects; /* of the present step */
    bool behind;                         /* messages wait to be read (FLUSH) */
    uint64_t retry_ms; /* UINT64_MAX: the last FLUSH had the memory it needed */
    bool flushed;      /* nothing happened since the last FLUSH */

    struct link *links;
    struct klink_list heard, spoke; /* the longest ago first */
    struct klink_list dropped;

    struct client *clients;
    struct worker *workers;
    struct kworker_list joined; /* in order of joining */
    struct kload_tree load;     /* ready ones */
    uint64_t next_worker;
    uint32_t nodes; /* ready ones, and their slots */
    uint64_t slots;
    uint64_t idle_units;     /* slots without a chunk, of ready ones */
    uint64_t recalled_units; /* sum of `asked` over placements */
    bool renode;             /* ready workers have changed */
    bool watching;           /* some worker has BEGINs */
    uint64_t watch_ms;       /* when one of them has waited for long enough */
    struct gone gone[GONE_MAX];
    uint64_t gone_count; /* ever; the latest are kept */

    struct pool *pools;
    struct kpool_list opened; /* RUNNING, in order of opening */
    struct kpool_list expected_pools, closing;
    uint64_t jobs_count, next_job, next_stamp, next_turn, next_client, next_given;
    struct kjob_list expected_jobs, settling;
    bool settled;

    struct kpool_list matching, dirty_pools, uneven;
    struct kmember_list announced;
    struct kshared_list spreading;
    uint64_t spread_ms; /* when to look at all for who has waited for long; UINT64_MAX */
    struct kplacement_list batches;
    struct kjob_list dirty_jobs;
    struct kwish_list wishes; /* the oldest first */
    uint32_t wishes_count;
    uint64_t state_ms;  /* when JOB_STATE may be sent next */
    uint64_t recall_ms; /* when a RECALL may be worth while that is not now */
    struct kjob_list speculating;
    uint64_t twin_ms, twin_look_ms; /* when to look for slow tasks; the last look */
    uint64_t twins;                 /* tasks with a second holder */
    uint64_t mark;
    uint64_t waiting, assigned, done; /* tasks of all jobs; ever */

    struct lane *lanes;
    struct klane_list lanes_wanted;
    struct klane_list regrants; /* what they may carry is to be looked at, */
    uint64_t grants_due_ms;     /* not before this */
    uint64_t last_ticket;
    struct kasking_list askings; /* in the order in which they time out */
    uint64_t askings_count, next_asking;
    struct ended_pool {
        struct id id;
        struct hash key;
    } ended[ENDED_POOLS]; /* the last of ended_count, one behind the other, around */
    uint64_t ended_count;
};

#endif
