/* SPDX-License-Identifier: Apache-2.0
 *
 * core_model.h: the state of a worker core: its tables, what is in them, and their
 * bounds. */
#ifndef FARPOOL_WORKER_CORE_MODEL_H
#define FARPOOL_WORKER_CORE_MODEL_H

#include "common/base/mem.h"
#include "common/base/shared.h"
#include "common/base/span.h"
#include "worker/core.h"
#include "worker/core_slot.h"

#include <bsd/sys/queue.h>
#include <bsd/sys/tree.h>
#include <stdarg.h>

#define LOAD_PERIOD_MS 200
#define FETCH_AGAIN_MS 5000 /* a piece of a program that has not come is asked again */
#define FETCH_BYTES 1048576
#define SHARED_WAIT_MS 30000 /* for a piece of a shared input, then ask elsewhere */
#define SHARED_REFUSED_MAX 3 /* pieces that the client cannot give, or gives wrong */
#define SHARED_RELEASE_EFFECTS 2
#define SHARED_CLAIM_MS 1000  /* until another coordinator has said SHARE or UNSHARE */
#define ACK_WAIT_MS 10000     /* for the last ACKs of a drain */
#define CLOSE_TIMEOUT_MS 5000 /* a process that was told to end is killed then */
#define SURPLUS_IDLE_MS 1000  /* how long an idle process beyond the share may stay */
#define START_PAUSE_MS 1000   /* after failed starts, while others of the pool live */
#define MEASURE_MS 100        /* looking how much a limited task has used, at least */
#define CPU_LOOK_MS 5         /* ... at most, when its CPU time is about to be over */
#define KILL_SAMPLE_MS 10     /* looking whether a task to be killed runs by now */
#define PATIENCE_MS 10        /* results do not wait for less than this, */
#define PATIENCE_TASKS 16     /* nor where a slot has fewer tasks to come */
#define WHOLE_TIMES 5        /* they wait so many times longer if only the whole counts */
#define EVEN_NS 200000000    /* less work a process than this is dealt out at once */
#define AHEAD_ONE_NS 5000000 /* tasks shorter than this have one waiting behind them */
#define CLAIM_NS 200000      /* work that a process claims at a time */
#define CLAIM_MAX 1024
#define PUBLISH_US 1000        /* results that it publishes at a time, unless it idles, */
#define PUBLISH_WHOLE_US 10000 /* and where only the whole counts */
#define PIECES_AHEAD_MAX 64    /* pieces given to one process */
#define WEIGHT_MAX 4096        /* tasks in the fading average of a job's task time */
#define OUTLIER 8              /* one record counts at most so many times the average */
#define BLOCKED_PER_SLOT 8     /* further processes for blocked ones, in each pool */
#define PROCESSES_PER_SLOT 8   /* started for tasks, of all pools, where these are many */
#define POOLS_MAX 4096
#define JOBS_MAX 1048576    /* of all pools */
#define BATCH_BYTES 1048576 /* bodies of one DONE message, unless one is larger */
#define BATCH_LOOK 256      /* results looked at for one message */
#define RECENT_FUNCTIONS 8

enum core_state {
    CORE_WORKING,
    CORE_DRAINING,
    CORE_STOPPING, /* BYE is sent, the processes are being killed */
    CORE_STOPPED,
};

enum link_state {
    LINK_DOWN,
    LINK_HELLO, /* HELLO_WORKER is sent */
    LINK_UP,    /* WELCOME came */
};

/* Where a task is here. Queued and given tasks of a job are disjoint; a cancelled one is
 * only remembered because its process still has it.
 *
 *   NEW -> QUEUED <-> GIVEN -> (result)
 *                       |-> MARKED, DOOMED -> (dropped) */
enum piece_state {
    PIECE_NEW,    /* of a TASKS message that is being taken */
    PIECE_QUEUED, /* in job->queued */
    PIECE_GIVEN,  /* in job->given and process->pieces */
    PIECE_MARKED, /* cancelled, may end by itself: in process->pieces */
    PIECE_DOOMED, /* cancelled, killed if it runs: in process->pieces */
};

struct piece {
    enum piece_state state;
    struct job *job;
    uint64_t first; /* what is left of it: [first, first + count) */
    uint32_t count;
    uint32_t attempt;
    struct lane *lane;            /* on which it came: its result goes there; or NULL */
    uint32_t watch;               /* of the span it came in */
    struct payload *sizes, *data; /* the same */
    uint64_t element;             /* bytes of an input when sizes are absent */
    uint32_t place;               /* of `first` in sizes */
    uint64_t offset;              /* of its bytes in data */
    uint64_t bytes;               /* of what is left */
    struct process *process;
    uint64_t give;
    RB_ENTRY(piece) by_index;
    TAILQ_ENTRY(piece) link;
};
RB_HEAD(worker_pieces, piece);
TAILQ_HEAD(piece_list, piece);

enum job_state {
    JOB_OPEN,
    JOB_CLOSED, /* only here until its last given tasks are gone */
};

enum recall_state {
    RECALL_NONE,
    RECALL_WANTED,
    RECALL_ASKED, /* processes are giving back what they have not begun */
};

struct job {
    enum job_state state;
    struct pool *pool;
    uint64_t number;
    uint64_t serial; /* order of opening */
    char function[FUNCTION_NAME_MAX + 1];
    uint32_t chunk;                            /* 0: adaptive */
    uint64_t timeout_ms, cpu_ms, memory_bytes; /* limits of a task; 0: none */
    int32_t priority;
    bool once, calls, whole;
    struct worker_pieces queued, given;
    uint64_t queued_tasks, given_tasks;
    uint64_t pieces;            /* all of them, also cancelled ones */
    uint64_t sum_ns, sum_tasks; /* fading */
    uint64_t limit;           /* tasks that a process has at most: doubles as tasks end */
    uint64_t ended;           /* tasks since it last doubled */
    enum recall_state recall; /* not NONE: one answer is due */
    uint64_t recall_tasks;
    struct lane *recall_lane;             /* on which it came; NULL: by the coordinator */
    bool announce;                        /* HELD is due */
    uint64_t running, blocked, share_ppm; /* counted for each LOAD */
    uint64_t told_running, told_blocked, told_share_ppm;
    RB_ENTRY(job) by_number; /* in pool->jobs while open */
    RB_ENTRY(job) by_turn;   /* in pool->waiting while it has queued tasks */
    TAILQ_ENTRY(job) link;   /* in pool->closed when closed */
};
RB_HEAD(worker_jobs, job);
RB_HEAD(worker_turns, job);
TAILQ_HEAD(job_list, job);

/*   STARTING -> IDLE <-> RUNNING -> YIELDING -> IDLE
 *                |        ^  |         |
 *                v        |  v         v
 *             CLOSING    BLOCKED <-----+          any of them -> KILLED */
enum process_state {
    PROCESS_STARTING,
    PROCESS_IDLE,
    PROCESS_RUNNING,
    PROCESS_YIELDING, /* runs, and is given no more: another pool waits for its slot */
    PROCESS_BLOCKED,  /* its task waits for a nested job: holds no slot */
    PROCESS_CLOSING,
    PROCESS_KILLED,
    PROCESS_STATES
};

enum kill_reason {
    KILL_NONE,
    KILL_START,   /* was not ready in time */
    KILL_TIMEOUT, /* its task ran too long: blame_give, blame_first */
    KILL_CPU,     /* its task used too much CPU time; */
    KILL_MEMORY,  /* or memory: the same, and blame_used */
    KILL_CANCEL,  /* its task was cancelled with kill */
    KILL_END,     /* its pool or the worker ends */
};

struct process {
    uint64_t number;
    uint32_t slot;
    struct pool *pool;
    enum process_state state;
    enum kill_reason reason;
    uint64_t blame_give, blame_first, blame_limit, blame_used;
    int pid;
    bool ready;               /* it was, once */
    uint64_t since_ms;        /* in this state */
    struct piece_list pieces; /* in the order given */
    uint64_t given_tasks, given_bytes;
    uint32_t given_pieces;
    uint32_t cancelled_pieces;
    uint64_t gives;
    uint64_t gate;       /* the give that waits for GO, and is all it has; 0: none does */
    bool gate_free;      /* GO came, or its link went and nobody is asked any more */
    uint64_t life_tasks; /* given in its life and not taken back */
    uint64_t want_back;  /* tasks to ask back at the next FLUSH */
    uint64_t asked_back; /* tasks asked back, the answer is on its way; 0: none */
    uint64_t got_back;
    bool fruitless;         /* gave back less than asked, and nothing changed since */
    bool mark;              /* PROCESS_CANCEL is due */
    bool sampling;          /* asked, the answer is on its way */
    uint64_t due_ms;        /* look at it then; UINT64_MAX: no need */
    uint64_t head_since_ms; /* the task it runs began then, or later */
    uint64_t share_ppm;
    uint64_t seen_cpu_ms, cpu_wait_ms; /* of the look before */
    RB_ENTRY(process) by_number;
    TAILQ_ENTRY(process) link; /* in pool->processes[state] */
};
RB_HEAD(worker_processes, process);
TAILQ_HEAD(process_list, process);

TAILQ_HEAD(pool_list, pool);

/*   OPENED -> FILLING -> READY
 *      `---------+-----> FAILED */
enum content_state {
    CONTENT_OPENED, /* the shell makes room for it */
    CONTENT_FILLING,
    CONTENT_READY,
    CONTENT_FAILED, /* no room, or the client cannot give it: its functions are told */
};

TAILQ_HEAD(shared_list, shared);

/* The bytes of shared inputs, once on the node for all pools that share them. */
struct content {
    struct hash hash;
    uint64_t serial; /* of its opening: answers to an earlier one may be under way */
    enum content_state state;
    uint64_t size;
    uint32_t pieces, left; /* left: not there yet */
    uint8_t *have;         /* a bit a piece */
    int code;              /* FAILED: why */
    char text[256];
    struct shared_list shared; /* whose it is; never empty */
    RB_ENTRY(content) by_hash;
};
RB_HEAD(worker_contents, content);

/*   FREE -- PULL --> WANTED -- FETCH --> ASKED -- BLOB --> WRITING --> OVER -- PULLED -->
 * FREE
 *                      `------------------'---------------------------^ */
enum pull_state {
    PULL_FREE,
    PULL_WANTED,
    PULL_ASKED,
    PULL_WRITING,
    PULL_OVER, /* PULLED is due */
};

struct pull {
    enum pull_state state;
    uint32_t piece;
    struct id source; /* zero: the client */
    uint64_t lane;    /* ASKED: over it; 0: through the coordinator */
    uint64_t asked_ms;
    int code; /* OVER: 0, or why it did not come */
};

/* A content that a pool shares. */
struct shared {
    struct pool *pool;
    struct content *content;
    uint64_t number;   /* in its pool */
    uint64_t serial;   /* tells it from one of the same number of a forgotten pool */
    bool tell;         /* PULLED with all that is there is due */
    uint64_t claim_ms; /* when it is next told to a coordinator that has not said SHARE;
                          UINT64_MAX: it has */
    uint32_t refused;  /* pieces that the client could not give */
    struct pull pulls[SHARED_PULLS_MAX];
    TAILQ_ENTRY(shared) in_pool, in_content;
};

enum program_state {
    PROGRAM_OPENED,   /* the shell looks into its cache */
    PROGRAM_FETCHING, /* a piece is wanted from the client */
    PROGRAM_READY,
};

struct program {
    struct hash hash;
    enum program_state state;
    struct msg_file *files;
    uint32_t files_count;
    uint32_t want_file;
    uint64_t want_offset;
    uint64_t asked_ms;
    bool asked;
    struct pool_list pools;
    RB_ENTRY(program) by_hash;
};
RB_HEAD(worker_programs, program);

/*   OPEN -> CLOSING, FAILED, ENDING, FORGOTTEN     CLOSING -> ENDING, FORGOTTEN
 *   FAILED -> ENDING, FORGOTTEN                    ENDING -> FORGOTTEN */
enum pool_state {
    POOL_OPEN,
    POOL_CLOSING,   /* what runs may finish, nothing else is left */
    POOL_FAILED,    /* cannot run here: gives back what comes */
    POOL_ENDING,    /* its processes are killed; then POOL_CLOSED */
    POOL_FORGOTTEN, /* its processes are killed, nobody is told */
    POOL_STATES
};

struct recent_function {
    char function[FUNCTION_NAME_MAX + 1];
    uint64_t task_ns, limit;
};

RB_HEAD(worker_results, result);
RB_HEAD(worker_done_tasks, result);

/* Lines of one task, or of none, and of one of its process's two streams. */
struct printed {
    uint64_t job, first;
    uint32_t count, attempt, pid, fd, lines, bytes;
    struct lane *lane; /* that its task came on, or NULL */
};

/* What processes of a pool have printed and nobody was told yet. */
struct output {
    bool wanted;
    uint8_t *text; /* of the pieces, one behind the other */
    size_t text_bytes, text_capacity;
    struct printed *pieces;
    size_t pieces_count, pieces_capacity;
    uint64_t left_out;               /* lines */
    uint64_t allowance, refilled_ms; /* bytes it may take in */
    uint64_t due_ms;                 /* when it goes at the latest; UINT64_MAX: nothing */
};

struct pool {
    struct id id;
    enum pool_state state;
    struct program *program; /* NULL once failed for it */
    char initializer[FUNCTION_NAME_MAX + 1];
    struct payload *argument;
    uint32_t share; /* 0: every slot */
    uint64_t tasks_per_process;
    bool eager;   /* start processes before tasks come */
    bool carried; /* its client has had a lane */
    struct shared_list shared;
    uint32_t shared_count, shared_waiting; /* of them: neither here nor given up */
    struct worker_jobs jobs;
    struct worker_turns waiting;
    struct job_list closed;
    uint64_t jobs_count, queued_tasks, given_tasks;
    uint64_t recalls; /* jobs with a recall that is not answered */
    struct process_list processes[PROCESS_STATES];
    uint32_t counts[PROCESS_STATES];
    uint32_t total;
    uint64_t served; /* when it was last given a slot */
    uint32_t start_failures;
    uint32_t deaths; /* without a task begun, and none done since */
    uint64_t start_after_ms;
    int failed_code;
    bool failed_fatal, tell_failed;
    char failed_text[512];
    bool announce; /* HELD is due */
    uint64_t next_seq;
    struct worker_results results;
    struct worker_done_tasks done_tasks;
    uint64_t results_count;
    struct output output;
    struct recent_function recent[RECENT_FUNCTIONS];
    uint32_t recent_next;
    RB_ENTRY(pool) by_id;   /* unless forgotten */
    TAILQ_ENTRY(pool) link; /* in core->pools */
    TAILQ_ENTRY(pool) in_program;
};
RB_HEAD(worker_pools, pool);

enum result_state {
    RESULT_UNSENT, /* in its outbox */
    RESULT_SENT,
};

struct result {
    enum result_state state;
    struct outbox *outbox;  /* UNSENT: whose list it is in; SENT: where it went */
    struct lane *lane;      /* on which its task came; NULL: by the coordinator */
    enum message_kind kind; /* MSG_DONE or MSG_FAILED */
    struct pool *pool;
    uint64_t job, seq;
    uint64_t first;
    uint32_t count;
    uint32_t attempt;
    uint64_t elapsed_ns;
    struct payload *sizes, *data;
    int code, exit_status, signal, pid;
    char *message, *backtrace;
    uint64_t bytes;
    uint64_t since_ms; /* unsent: since when; 0: it is late already */
    RB_ENTRY(result) by_seq;
    RB_ENTRY(result) by_task;
    TAILQ_ENTRY(result) link;
};
TAILQ_HEAD(result_list, result);

/* What is to be sent on one link: the coordinator's, or a lane. */
struct outbox {
    struct lane *lane; /* NULL: the coordinator's link */
    struct result_list unsent;
    uint64_t due_ms; /* the unsent ones wait for others until then */
};

/*   LANE_EXPECTED ---------- HELLO_LANE --------> LANE_UP
 *   LANE_DIALLED -- LINK_UP --> LANE_GREETED -- WELCOME_LANE --> LANE_UP
 * and each of them ends as LANE_OVER, until the FLUSH. */
enum lane_state {
    LANE_EXPECTED, /* introduced, and not come yet */
    LANE_DIALLED,
    LANE_GREETED, /* HELLO_LANE is sent */
    LANE_UP,
    LANE_OVER,
};

/* A link of a client or another worker to this one, or of this one to another. */
struct lane {
    enum lane_state state;
    struct id ticket;
    struct id peer;
    bool worker;       /* that is one; else a client */
    bool dialled;      /* by this worker */
    struct hash key;   /* of the peer; zero: no keys are in use */
    struct pool *pool; /* OVER: NULL */
    uint64_t number;   /* the shell's, or for what is dialled ours; 0: EXPECTED */
    uint64_t until_ms; /* then it has to be up; UINT64_MAX: it is, or OVER */
    uint64_t heard_ms, sent_ms, heartbeats, heartbeat_ms, silence_ms;
    struct outbox outbox;
    bool withdrawn; /* OVER: the coordinator said so */
    bool cut;       /* OVER: its connection has ended */
    char text[256]; /* OVER: why */
    RB_ENTRY(lane) by_ticket, by_number;
    LIST_ENTRY(lane) carrier_entry; /* UP, of a client: in core->carriers */
};
RB_HEAD(worker_tickets, lane);
RB_HEAD(worker_lanes, lane);
LIST_HEAD(worker_carriers, lane);

struct worker_core {
    struct worker_config config;
    enum core_state state;
    uint64_t now_ms;
    struct worker_effects *effects; /* of the present step */
    bool again;                     /* memory ran out in a FLUSH: the deadline is now */

    enum link_state link;
    struct id coordinator; /* the one served last */
    uint64_t heard_ms, sent_ms, heartbeats;
    bool heartbeat_came; /* in this batch */
    uint64_t heartbeat_ms, silence_ms, body_bytes_max, result_window;
    uint64_t cut_ms; /* when a coordinator was heard of last on a link that was up */
    bool drain_told;
    uint64_t drained_ms; /* nothing is left but ACKs since; UINT64_MAX: more is */

    struct worker_pools pools_by_id;
    struct pool_list pools; /* all, in the order of their opening */
    uint32_t pools_count;
    uint64_t jobs_count, next_serial, next_served;
    uint64_t next_seq; /* beyond every result's number: where a pool opened now begins, so
                          that a late ACK for an earlier opening of it frees nothing */
    struct worker_programs programs;
    struct worker_contents contents;
    uint64_t next_shared;

    struct worker_processes processes;
    uint32_t counts[PROCESS_STATES], total;
    uint64_t next_process, started;
    uint32_t gates;     /* processes with a gate */
    struct slot *slots; /* config.slots of them */

    uint64_t held_tasks, held_bytes;     /* queued and given */
    uint64_t before_tasks, before_bytes; /* these, as they were when WELCOME came */

    struct outbox outbox;
    uint64_t sent_bytes, unacked_bytes, unacked;
    uint64_t result_largest; /* bytes of the largest one, ever */

    uint64_t output_bytes;  /* held, of all pools */
    uint64_t output_due_ms; /* not later than the earliest of them; UINT64_MAX: none */

    struct worker_tickets tickets;
    struct worker_carriers carriers; /* lanes that jobs may be opened on */
    bool carried;                    /* there have been some */
    struct lane *speaker; /* the lane whose message is being taken; NULL: the link's */
    struct worker_lanes lanes; /* those with a number */
    uint32_t lanes_count;
    uint64_t last_dial;
    bool lanes_over;       /* some are */
    uint64_t lanes_due_ms; /* none is to be looked at before; UINT64_MAX: nor then */

    bool load_changed;
    bool load_urgent; /* what is blocked has changed: others wait for that */
    bool load_asked;  /* how far the long tasks are, for the LOAD that is due */
    uint64_t load_ms;
    uint64_t lane_done; /* tasks whose results lanes took, since the link came up */
    uint64_t told_processes, told_started, told_lane_done;
};

RB_PROTOTYPE(worker_pieces, piece, by_index, worker_piece_compare)
RB_PROTOTYPE(worker_jobs, job, by_number, worker_job_compare)
RB_PROTOTYPE(worker_turns, job, by_turn, worker_turn_compare)
RB_PROTOTYPE(worker_processes, process, by_number, worker_process_compare)
RB_PROTOTYPE(worker_programs, program, by_hash, worker_program_compare)
RB_PROTOTYPE(worker_contents, content, by_hash, worker_content_compare)
RB_PROTOTYPE(worker_pools, pool, by_id, worker_pool_compare)
RB_PROTOTYPE(worker_results, result, by_seq, worker_seq_compare)
RB_PROTOTYPE(worker_done_tasks, result, by_task, worker_done_compare)
RB_PROTOTYPE(worker_tickets, lane, by_ticket, worker_ticket_compare)
RB_PROTOTYPE(worker_lanes, lane, by_number, worker_lane_compare)

#endif
