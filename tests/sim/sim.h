/* SPDX-License-Identifier: Apache-2.0
 *
 * sim.h: a whole cluster in one process: the three cores, and around them a virtual
 * clock, network, processes and programs, all driven by one seed. docs/testing.md tells
 * what is simulated, which faults there are and what is checked.
 *
 * Nothing here waits, opens or reads anything: the same seed gives the same run. */
#ifndef FARPOOL_TESTS_SIM_H
#define FARPOOL_TESTS_SIM_H

#include "client/core.h"
#include "common/base/mem.h"
#include "common/base/span.h"
#include "coordinator/core.h"
#include "worker/core.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NODES_MAX 10
#define APPS_TOP 3 /* the first ones are not nested */
#define APPS_MAX 24
#define APP_JOBS_MAX 4
#define PROGRAM_FILES 2
#define APP_SHARED_MAX 3
#define SLOWNESS_MAX 40

/* What the harness itself does wrong on purpose, to see that the checks notice. */
#define SIM_BREAKS(X)                                                                    \
    X(DROP_RESULT, "drop-result", "the network loses one DONE on a live link")           \
    X(DUPLICATE, "duplicate", "one CLIENT_DONE reaches the program twice")               \
    X(CORRUPT, "corrupt", "one output has a wrong byte")                                 \
    X(BEGIN_TWICE, "begin-twice", "a process begins a task of a once-job twice")         \
    X(HOLD_ACKS, "hold-acks", "the network loses every ACK")                             \
    X(REPEAT_OUTPUT, "repeat-output", "one OUTPUT reaches the program twice")            \
    X(DROP_OUTPUT, "drop-output", "the network loses one OUTPUT on a live link")         \
    X(LEND_KEY, "lend-key", "who names another's pool has its client's key")             \
    X(LOSE_STORED, "lose-stored", "a disk loses one result of a detached job")           \
    X(HOARD, "hoard", "the coordinator's shell keeps memory for ever")

enum sim_break {
    BREAK_NONE,
#define SIM_BREAK_ENUM(NAME, option, text) BREAK_##NAME,
    SIM_BREAKS(SIM_BREAK_ENUM)
#undef SIM_BREAK_ENUM
};

/* Faults, and what clients do at any time: each comes at an instant. */
#define SIM_FAULTS(X)                                                                    \
    X(CUT, "a link is cut; both sides learn of it at times of their own")                \
    X(HALF_OPEN, "a link loses everything in one or both directions, silently")          \
    X(LAG, "what is sent on a link takes 0.3 to 3 s longer for a while")                 \
    X(COORDINATOR_KILL, "the coordinator dies, and is started empty later")              \
    X(COORDINATOR_PAUSE, "the coordinator handles nothing for a while")                  \
    X(WORKER_KILL, "a worker and its processes die; a fresh one may come later")         \
    X(WORKER_PAUSE, "a worker handles nothing for up to 10 s, then everything")          \
    X(WORKER_JOIN, "one more worker")                                                    \
    X(WORKER_DRAIN, "a worker is told to drain")                                         \
    X(WORKER_STOP, "a worker is told to stop at once")                                   \
    X(PROCESS_KILL, "a process is killed at whatever it does")                           \
    X(CLIENT_KILL, "a client dies")                                                      \
    X(CLIENT_PAUSE, "a client handles nothing for up to 3 s")                            \
    X(CANCEL_TASKS, "a client cancels some tasks of a job")                              \
    X(FREE_JOB, "a client gives a job up")                                               \
    X(OPERATOR_CANCEL, "an operator cancels a job, or all of a pool")                    \
    X(OPERATOR_DRAIN, "an operator has a worker drain")                                  \
    X(SQUAT, "somebody with another key opens or attaches to a client's pool")           \
    X(CLOSE, "a client closes its pool")                                                 \
    X(TERMINATE, "a client terminates its pool")                                         \
    X(GIVE_UP, "a client's shell runs out of memory, and gives its pool up")

enum sim_fault {
#define SIM_FAULT_ENUM(NAME, text) FAULT_##NAME,
    SIM_FAULTS(SIM_FAULT_ENUM)
#undef SIM_FAULT_ENUM
        FAULTS
};

struct sim;

/* ------------------------------------------------------------------ queues */

/* A growing ring of equal elements. */
struct queue {
    uint8_t *items;
    size_t element, head, count, capacity;
};
void sim_queue_push(struct queue *queue, const void *element, size_t size);
bool sim_queue_pop(struct queue *queue, void *ret_element);
void *sim_queue_at(const struct queue *queue, size_t place);
void sim_queue_remove(struct queue *queue, size_t place);
void sim_queue_fini(struct queue *queue);

/* ----------------------------------------------------------------- network */

/* One direction of a link: what is on its way to one of the two sides. */
struct lane {
    struct queue packets;
    uint64_t last_at_us; /* keeps the order */
    bool open;           /* the receiving side takes the link for up */
    bool deaf;           /* what is sent from now on is lost */
};

enum { TO_COORDINATOR, TO_PEER };

struct link {
    uint64_t number;
    bool worker;     /* else a client */
    int place;       /* which node or app */
    bool direct;     /* a lane, which that one has dialled: TO_COORDINATOR is to its */
    int host;        /* host, a node; */
    uint64_t lane;   /* the dialer's number of it, */
    struct hash key; /* and the dialer's key */
    uint64_t incarnation; /* of that node or app */
    struct lane lanes[2]; /* TO_COORDINATOR, TO_PEER */
    bool dropped;         /* by the coordinator: it wants to hear nothing more of it */
    uint64_t lag_us, lag_until_us;
    uint64_t welcomed_us; /* a worker's: when WELCOME was sent to it */
    bool drains;          /* a worker's: the coordinator knows that it does */
};

/* ------------------------------------------------------------------ actors */

/* What every party has: life, pauses, and the instant at which it looks next. */
struct actor {
    bool alive;
    uint64_t incarnation;
    uint64_t paused_until_us;
    uint64_t wake_at_us; /* UINT64_MAX: none is set */
};

struct coordinator {
    struct actor actor;
    struct coordinator_config config;
    struct coordinator_core *core;
    struct coordinator_effects effects;
    struct queue inbox; /* struct coordinator_event */
    uint64_t starts;
};

/* ------------------------------------------------- a client and its program */

enum behaviour {
    BEHAVE_WELL,
    BEHAVE_FAIL,       /* fails every time */
    BEHAVE_FLAKY,      /* fails at its first attempt */
    BEHAVE_CRASH,      /* kills its process every time */
    BEHAVE_CRASH_ONCE, /* at its first attempt */
    BEHAVE_HANG,       /* never ends */
    BEHAVE_SLOW,       /* takes seconds */
    BEHAVE_NEST,       /* opens the pool it runs in, and waits for a job of its own */
    BEHAVE_KILL_NODE,  /* kills its node every time */
};

enum task_end { TASK_OPEN, TASK_DONE, TASK_FAILED };

/* What is known of a task, from all sides. */
struct task {
    enum task_end end;
    int code;          /* of TASK_FAILED */
    uint32_t begins;   /* times that a process began it */
    uint32_t blames;   /* processes that ended in it */
    uint32_t losts;    /* losses (EPROCESSLOST, ENODELOST) that reached the client */
    uint32_t failures; /* other failures that reached it */
    uint32_t returns;  /* LOSTs that say that it has not run */
    uint32_t doubts;   /* LOSTs that do not know whether it had begun */
    uint64_t asked[NODES_MAX]; /* a node's incarnation and the attempt that it asked for
                                  (BEGIN) by itself; 0: none */
    uint64_t begun[NODES_MAX]; /* the same, given to a process while the link was up */
    uint64_t lane;             /* the link of the lane on which it went last; 0: none */
    uint32_t lane_attempt;
    uint32_t sent;         /* attempt of the copy under way from the client; 0: none */
    bool again;            /* was under way on an earlier link, and is to be sent again */
    uint32_t cancelled_at; /* places of nodes that were told so, a bit each */
    bool cancelled;        /* asked for by the client */
    bool cancel_marked;    /* a process was told so while it ran */
    uint32_t output_size;
};

struct job {
    bool used, opened, refused, ended, freed;
    bool failed_pool; /* ended by the pool's end */
    bool stopped;     /* its client was told that an operator cancels it */
    int app;          /* whose */
    uint64_t number;  /* the core's */
    uint64_t seed;
    struct client_job_options options;
    uint64_t count;                   /* tasks in all */
    uint32_t input_size, output_size; /* bytes; variable: below this */
    bool input_variable, output_variable;
    uint64_t task_us; /* usual time of one */
    uint32_t spice;   /* tasks in a thousand that do not simply behave well */
    uint32_t nests;   /* tasks in a thousand that nest */
    uint64_t killer;  /* index of the task that kills its node; UINT64_MAX: none */
    uint32_t kills;   /* nodes that it has killed since the faults are over */
    bool ordered;     /* lazy: read in order */
    uint64_t read_us; /* lazy: between two reads */
    struct task *tasks;
    uint64_t *order; /* indices, in order of their ends */
    uint64_t pulled, ends;
    uint64_t fed;                  /* of those pulled, in the core's hands */
    uint32_t shared;               /* inputs that its tasks may use, a bit each */
    uint64_t read, read_told;      /* lazy: taken by the reader; and told to the core */
    uint64_t output_bytes;         /* lazy: of ended tasks, not told as read */
    uint64_t wanted, wanted_bytes; /* lazy: asked for and not yet pulled */
    bool input_ended;
    bool reading; /* a read is set */
};

/* What an app shares with its pool. */
struct shared {
    uint64_t number; /* 0: not yet */
    struct hash content;
    uint64_t size;
    bool told, ended; /* the core knows it; it was unshared, or refused */
};

enum { DIALS_MAX = 32 };

/* Lanes that are being dialled by one actor. */
struct dials {
    struct dial {
        uint64_t lane, incarnation;
        int host;
        bool over;
    } items[DIALS_MAX];
    int count;
};

/* A client program: one core, one link. */
struct app {
    struct actor actor;
    struct client_config config;
    struct client_core *core;
    struct client_effects effects;
    struct queue inbox; /* struct app_item */
    uint64_t link;      /* 0: none */
    bool dialing;
    uint64_t welcomes;
    uint64_t greeter, greetings; /* which start of the coordinator welcomed it last, and
                                    how often */
    uint64_t given_up; /* which start of the coordinator closed its pool at the workers */
    uint64_t tasks_max, bytes_max; /* of the last WELCOME */
    uint64_t under_way_tasks, under_way_bytes;
    bool ready, closing, terminated, gives_up, failed, pool_ended;
    int failed_code;
    bool initializer_fails;
    struct dials dials;
    struct message *open;
    struct hash files[PROGRAM_FILES];
    uint32_t file_sizes[PROGRAM_FILES];
    struct shared shared[APP_SHARED_MAX];
    int shared_count;
    struct job jobs[APP_JOBS_MAX];
    int jobs_count;
    int node; /* nested: where its process is, else -1 */
    uint64_t node_incarnation, process;
};

struct app_item {
    struct client_event event;
    uint64_t link; /* of LINK_* and MESSAGE */
    int job;       /* place in the app's jobs, -1: none */
};

/* ------------------------------------------------------- workers, processes */

struct give {
    uint64_t give;
    struct job *job;
    struct msg_span span;
    uint32_t count; /* of the span's tasks; the rest was taken back */
    uint32_t claim, publish;
    uint32_t next;    /* place of the next task to begin */
    uint32_t claimed; /* places below this are claimed */
};

enum process_state { PROCESS_STARTING, PROCESS_SERVING, PROCESS_OVER };

struct process {
    uint64_t number;
    enum process_state state;
    struct id pool;
    struct app *app;    /* of that pool; may have died since */
    struct queue gives; /* struct give, the first is being worked on */
    bool running, closing, blocked, killed;
    uint64_t began_us;
    uint64_t epoch; /* of sim->epochs: timers of an older one are void */
    uint64_t begun; /* tasks in its life */
    bool cancel_marked;
    bool watched; /* may have waited for GO without a slot, and go on beside others */
    int nested;   /* app of the running task, -1: none */
    /* Ended and not yet published: the `pending` tasks before `next` of the first give.
     */
    uint32_t pending;
    uint64_t pending_ns;
    uint8_t *bytes;
    size_t bytes_size;
    uint32_t *sizes;
    struct worker_event goodbye; /* PROCESS_OVER: the GONE to come */
};

struct cached {
    struct hash program;
    struct hash files[PROGRAM_FILES];
    uint32_t sizes[PROGRAM_FILES];
    uint32_t file, offset; /* what is needed next */
    bool complete, open, asked;
};

/* A content of shared inputs in a node's store, and what processes may map of it. */
struct stored {
    struct hash content;
    uint64_t size;
    uint64_t have; /* a bit a piece */
};
struct mapped {
    struct id pool;
    uint64_t number, serial;
};

struct node {
    struct actor actor;
    struct worker_config config;
    struct worker_core *core;
    struct worker_effects effects;
    struct queue inbox; /* struct node_item */
    uint64_t link;      /* 0: none */
    uint64_t welcomed;  /* the last link that was */
    uint64_t heard_us; /* when it last handled a message on that one, before it left it */
    char address[64];  /* where it may be dialled */
    struct dials dials;
    bool dialing, ending;
    bool may_drain;         /* an operator asked for it, which may not have come here */
    bool program_fails;     /* no program can be stored here */
    bool alien;             /* programs were built for other machines */
    bool starts_fail;       /* processes often fail to start here */
    uint32_t slowness;      /* tasks take so many times as long here */
    struct queue processes; /* struct process * */
    struct queue programs;  /* struct cached */
    bool keeps_memory;      /* its kernel keeps limits of memory */
    bool no_room;           /* no shared input can be stored here */
    struct queue contents;  /* struct stored */
    struct queue mapped;    /* struct mapped */
};

struct node_item {
    struct worker_event event;
    uint64_t link;
};

/* --------------------------------------------------------------- the whole */

struct timer {
    uint64_t at_us, order;
    void (*call)(struct sim *sim, uint64_t a, uint64_t b, uint64_t c);
    uint64_t a, b, c;
};

struct sim_options {
    uint64_t seed;
    enum sim_break broken;
    bool verbose; /* print each event as it happens */
    bool trace;   /* keep the last events, printed when a check fails */
    bool quiet;   /* no faults */
};

struct plan {
    bool enabled[FAULTS];
    bool encode; /* messages cross the network as frames */
    bool oom;    /* an allocation fails now and then */
    bool keys;   /* everybody has a key */
    bool lanes;  /* clients dial workers */
    bool starts_fail, programs_fail, initializer_fails, nested;
    bool speculates; /* some jobs do; in seeds that are even */
    bool slow;       /* some nodes are slow, without being dead */
    bool killer;     /* a task kills its node */
    bool shares;     /* pools share inputs */
    bool memory;     /* kernels keep limits of memory, and may have none left */
    uint64_t faults_until_us;
};

struct keeping; /* of detached jobs (detached.h) */

struct sim {
    struct sim_options options;
    uint64_t rng;
    uint64_t now_us, order, steps;
    uint64_t epochs; /* of processes, whichever: a number is used again by a new daemon */
    struct timer *heap;
    size_t heap_count, heap_capacity;
    struct plan plan;
    struct coordinator coordinator;
    struct node nodes[NODES_MAX];
    struct app apps[APPS_MAX];
    struct queue links;      /* struct link *, number - 1 is its place */
    struct queue lines;      /* struct line *, what was printed */
    struct keeping *keeping; /* NULL: no detached jobs are in this seed */
    uint32_t next_tag;
    int lender;   /* with BREAK_LEND_KEY: whose key a squatter has */
    bool kills;   /* some job has the task that kills nodes */
    bool settled; /* faults are over */
    bool finished;
    bool starts_failed; /* a process ended before it was ready */
    bool broke;         /* the one deliberate fault has been committed */
    uint64_t settle_until_us;
    size_t heap_before, heap_most; /* bytes in use before this seed; and more, at most */
};

/* sim.c: clock, dice, trace, the run. -------------------------------------------- */

void sim_run(const struct sim_options *options); /* exits the process on a failed check */
uint64_t sim_now_ms(const struct sim *sim);
/* Dice: [0, bound); [low, high]; one time in n. */
uint64_t sim_dice(struct sim *sim, uint64_t bound);
uint64_t sim_between(struct sim *sim, uint64_t low, uint64_t high);
bool sim_chance(struct sim *sim, uint64_t one_in);
struct id sim_id(struct sim *sim);
void sim_at(struct sim *sim, uint64_t at_us,
            void (*call)(struct sim *, uint64_t, uint64_t, uint64_t), uint64_t a,
            uint64_t b, uint64_t c);
void sim_trace(struct sim *sim, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void sim_trace_message(struct sim *sim, const char *who, const struct message *message);
bool sim_tracing(const struct sim *sim);
/* A check failed: prints why, the seed, how the cores stand and the last events. */
void sim_fail(struct sim *sim, const char *format, ...)
    __attribute__((format(printf, 2, 3), noreturn));
/* Counts a step, and lets an allocation in it fail now and then; true: it is armed. */
bool sim_step_begin(struct sim *sim);
/* Whether to step again: it ran out of memory. Fails if it did so without cause. */
bool sim_step_again(struct sim *sim, bool armed, int result);
/* Sets the actor's next wake-up, in `delay_us` unless an earlier one is set. */
void sim_wake(struct sim *sim, struct actor *actor, uint64_t at_us,
              void (*call)(struct sim *, uint64_t, uint64_t, uint64_t), uint64_t place);
void *sim_alloc(size_t size); /* zeroed, never NULL */

/* network.c ------------------------------------------------------------------------ */

struct link *sim_link_find(struct sim *sim, uint64_t number);
/* A link whose other end only speaks: what is sent to it is lost. */
enum { SQUATTER_PLACE = 98, OPERATOR_PLACE = 99 };
enum { OWNER_PLACE = 90 }; /* and one a detached job: who asks about it */
uint64_t sim_link_outsider(struct sim *sim, int place);
/* Connects after a while, again and again until the coordinator is there. */
void sim_link_dial(struct sim *sim, bool worker, int place);
/* Sends; takes the message over. */
void sim_link_send(struct sim *sim, uint64_t number, int lane, struct message **message);
/* One side lets go: the other one learns after what was sent before. */
void sim_link_close(struct sim *sim, uint64_t number, int other_lane);
/* Everything on its way may be lost; each side learns in its time, or by silence. */
void sim_link_cut(struct sim *sim, struct link *link, bool silent);
void sim_links_cut_all(struct sim *sim);
/* A lane, as its dialer and its host will hear. */
void sim_link_direct(struct sim *sim, bool worker, int place, uint64_t lane, int host);
void sim_links_fini(struct sim *sim);

/* lanes.c: links of apps and nodes (worker) to nodes. ------------------------------- */

void sim_lane_dial(struct sim *sim, bool worker, int place, uint64_t lane,
                   const char *address);
void sim_lane_hang_up(struct sim *sim, bool worker, int place, uint64_t lane);
/* By who has dialled. */
void sim_lane_send(struct sim *sim, bool worker, int place, uint64_t lane,
                   struct message **message);
/* By its host. */
void sim_lane_answer(struct sim *sim, struct node *node, uint64_t link,
                     struct message **message);
/* What an app is told about its lanes, before its core hears. */
void sim_lane_told(struct sim *sim, struct app *app, const struct app_item *item);
/* Of who is no more: those that it has dialled, and those that it is the host of. */
void sim_lanes_end(struct sim *sim, bool worker, int place);
/* Where a node may be dialled. */
void sim_lane_address(const struct node *node, int place, char *text, size_t size);

/* keys.c --------------------------------------------------------------------------- */

/* Whose key a link has. */
struct holder sim_keys_holder(const struct sim *sim, const struct link *link);
void sim_keys_pool_id(const struct hash *key, const struct id *seed, struct id *ret_pool);
void sim_keys_pool_id_of_number(const struct hash *secret, uint64_t number,
                                struct id *ret_ticket);
/* The id and seed of an app's new pool. */
void sim_keys_name_pool(struct sim *sim, struct app *app);
void sim_keys_squat(struct sim *sim, const struct app *app);
/* What a squatter is told. */
void sim_keys_check_squatter(struct sim *sim, const struct message *message);

/* coordinator.c -------------------------------------------------------------------- */

void sim_coordinator_start(struct sim *sim);
void sim_coordinator_kill(struct sim *sim);
void sim_coordinator_push(struct sim *sim, uint64_t link, struct message *message);
void sim_coordinator_look(struct sim *sim);

/* node.c --------------------------------------------------------------------------- */

void sim_node_start(struct sim *sim, int place);
void sim_node_kill(struct sim *sim, int place);
/* WORKER_DRAIN or WORKER_STOP: it must come to its end. */
void sim_node_end(struct sim *sim, int place, enum worker_event_kind kind);
void sim_node_push(struct sim *sim, struct node *node, const struct worker_event *event,
                   uint64_t link);
void sim_node_look(struct sim *sim, struct node *node);
/* Sends to the coordinator, if there is a link; takes the message over. */
/* On a lane, or (0) to the coordinator. */
void sim_node_send(struct sim *sim, struct node *node, uint64_t lane,
                   struct message **message);
int sim_node_place(const struct sim *sim, const struct node *node);
/* The node, unless it is no more. */
struct node *sim_node_find(struct sim *sim, uint64_t place, uint64_t incarnation);

/* host.c --------------------------------------------------------------------------- */

void sim_process_apply(struct sim *sim, struct node *node, struct worker_effect *effect);

/* process.c ------------------------------------------------------------------------ */

struct process *sim_process_find(struct node *node, uint64_t number); /* NULL: none */
void sim_process_report(struct sim *sim, struct node *node, const struct process *process,
                        enum worker_event_kind kind);
/* Goes on with what it was given, if it can. */
void sim_process_advance(struct sim *sim, struct node *node, struct process *process);
/* The task that it runs ends then, and not as set before. */
void sim_process_set_end(struct sim *sim, struct node *node, struct process *process,
                         uint64_t after_us);
/* It ends, with whom to blame; the node hears of it a little later. */
void sim_process_die(struct sim *sim, struct node *node, struct process *process,
                     int code, int exit_status, int number);
void sim_process_kill(struct sim *sim, struct node *node, struct process *process);
void sim_processes_fini(struct sim *sim, struct node *node);
/* The nested job of a task is over. */
void sim_process_unblock(struct sim *sim, const struct app *nested);

/* output.c: what processes print. ---------------------------------------------------- */

/* The task that runs (give NULL: none) prints a line. */
void sim_output_print(struct sim *sim, struct node *node, const struct process *process,
                      const struct give *give);
void sim_output_take(struct sim *sim, const struct app *app,
                     const struct message *message);
/* The task's result came: what it printed must have come before. */
void sim_output_check_done(struct sim *sim, const struct app *app, const struct job *job,
                           uint64_t index);
void sim_output_fini(struct sim *sim);

/* program.c: files and the caches of the nodes. ------------------------------------- */

void sim_program_fill(struct sim *sim, struct app *app);
void sim_program_apply(struct sim *sim, struct node *node, struct worker_effect *effect);
/* Bytes of a file. */
struct payload *sim_program_piece(const struct hash *content, uint64_t offset,
                                  uint64_t count);
void sim_program_answer_read(struct sim *sim, struct app *app,
                             const struct client_effect *effect);

/* shared.c: shared inputs: who shares what, and the stores of the nodes. ------------- */

void sim_shared_plan(struct sim *sim, struct app *app);
/* A CLIENT_SHARE or CLIENT_UNSHARE was stepped. */
void sim_shared_stepped(struct sim *sim, struct app *app,
                        const struct client_event *event, int result);
uint32_t sim_shared_usable(const struct app *app); /* a bit each */
bool sim_shared_apply(
    struct sim *sim, struct node *node,
    const struct worker_effect *effect); /* false: it is another one's */
/* Answers the reading of a piece; false: it is no shared input's. */
bool sim_shared_answer_read(struct sim *sim, struct app *app,
                            const struct client_effect *effect);
/* A task begins: what was shared before its job was opened is there. */
void sim_shared_check_task(struct sim *sim, const struct node *node,
                           const struct job *job);
void sim_shared_check_end(struct sim *sim, const struct node *node); /* nothing is left */
void sim_shared_fini(struct node *node);

/* memory.c: what kernels do for memory's sake. ----------------------------------------
 */

/* Whether the kernel keeps the limit of the task that the process is in. */
bool sim_memory_is_kept(const struct node *node, const struct process *process);
/* A task begins that takes so long; true: it wants more than its limit, and is killed for
 * that before. */
bool sim_memory_begin(struct sim *sim, struct node *node, struct process *process,
                      uint64_t task_us);
void sim_memory_plan(struct sim *sim);
/* A task's failure, EMEMORYLIMIT. */
void sim_memory_check_told(struct sim *sim, const struct job *job,
                           const struct msg_failed *failed);

/* app.c: a client program: its life, and what it asks its core for. ------------------ */

void sim_app_start(struct sim *sim, int place);
/* Its POOL_OPEN: what its pool is, and its program. */
void sim_app_open(struct sim *sim, struct app *app);
/* A nested one for a running task; its place, or -1 if there is no room. */
int sim_app_start_nested(struct sim *sim, struct node *node, struct process *process);
void sim_app_kill(struct sim *sim, int place);
void sim_app_push(struct sim *sim, struct app *app, enum client_event_kind kind, int job,
                  uint64_t link, struct message *message);
void sim_app_push_lane(struct sim *sim, struct app *app, enum client_event_kind kind,
                       uint64_t lane, struct message *message);
void sim_app_push_cancel(struct sim *sim, struct app *app, int job, uint64_t first,
                         uint64_t count, bool kill);
void sim_app_push_consumed(struct sim *sim, struct app *app, int job, uint64_t count,
                           uint64_t bytes);
void sim_app_push_input(struct sim *sim, struct app *app, int job, uint64_t first,
                        uint64_t count);
void sim_app_wake(struct sim *sim, struct app *app, uint64_t at_us);
void sim_app_stop(struct app *app); /* forgets its core; its jobs stay, to be judged */

/* client.c: the shell around a client's core. -----------------------------------------
 */

void sim_app_look(struct sim *sim, struct app *app);
/* Whether an app's pool has a reason to fail so. */
bool sim_app_may_fail(const struct sim *sim, const struct app *app, int code);

/* app.c, to find things. --------------------------------------------------------------
 */

int sim_app_place(const struct sim *sim, const struct app *app);
struct job *sim_app_job(struct app *app, uint64_t number); /* NULL: none */
struct app *sim_app_of_pool(struct sim *sim, const struct id *pool);

/* job.c: what is asked for, inputs, outputs. ----------------------------------------- */

void sim_job_fill(struct sim *sim, struct app *app, int place);
struct job *sim_job_find(struct sim *sim, uint64_t number);
enum behaviour sim_job_behaviour(const struct job *job, uint64_t index);
/* Whether a task uses more memory than its limit. */
bool sim_job_eats(const struct job *job, uint64_t index);
uint64_t sim_job_duration_us(const struct job *job, uint64_t index);
/* The same on a node of that slowness; and on the slowest there may be. */
uint64_t sim_job_slowed_us(const struct job *job, uint64_t index, uint32_t slowness);
uint64_t sim_job_slowest_us(const struct sim *sim, const struct job *job, uint64_t index);
void sim_job_make_input(const struct job *job, uint64_t first, uint32_t count,
                        struct msg_span *ret_span);
uint32_t sim_job_input_size(const struct job *job, uint64_t index);
/* The output for an input: its size, and its bytes. */
uint32_t sim_job_output_size(const struct job *job, const uint8_t *input, size_t size);
void sim_job_write_output(const struct job *job, const uint8_t *input, size_t size,
                          uint8_t *output);
void sim_job_fini(struct job *job);
/* A process begins a task: checks that it may. */
void sim_job_begin(struct sim *sim, struct job *job, uint64_t index, uint32_t attempt);

/* outcome.c: whether results are right. ---------------------------------------------- */

void sim_job_take_done(struct sim *sim, struct app *app,
                       const struct client_effect *effect);
/* A LOST on its way to an app. */
/* The coordinator closes that pool at a worker. */
void sim_outcome_given_up(struct sim *sim, const struct id *pool);
void sim_outcome_check_lost(struct sim *sim, const struct app *app,
                            const struct message *message);
void sim_job_take_failed(struct sim *sim, struct app *app,
                         const struct client_effect *effect);
/* Ends of tasks of a detached job, as they are collected, perhaps once more. */
void sim_outcome_collected(struct sim *sim, struct app *app, const struct msg_span *span);
void sim_outcome_collected_failed(struct sim *sim, struct app *app,
                                  const struct msg_failed *failed);
void sim_job_take_ended(struct sim *sim, struct app *app, uint64_t number);
void sim_job_check_finished(struct sim *sim, const struct app *app);

/* feed.c: pulling input, reading results. -------------------------------------------- */

void sim_job_want_input(struct sim *sim, struct app *app,
                        const struct client_effect *effect);
/* Pushes input: all of it, or what a lazy job wants. */
void sim_job_pull(struct sim *sim, struct app *app, int place);
/* The reader of a lazy job takes what is there, after a while. */
void sim_job_set_read(struct sim *sim, struct app *app, struct job *job);

/* window.c: what is under way between a client and the coordinator. ------------------ */

void sim_window_sent(struct sim *sim, struct app *app, const struct message *message);
void sim_window_received(struct sim *sim, struct app *app, const struct message *message);
void sim_window_ended(struct app *app, struct job *job, uint64_t index);
void sim_window_job_freed(struct app *app, struct job *job);
void sim_window_reset(struct app *app);

/* promise.c: what hurts no task, and must not happen. ------------------------------- */

void sim_promise_begin(struct sim *sim);
void sim_promise_check_heap(struct sim *sim);
void sim_promise_check_silence(struct sim *sim, uint64_t number, const char *who);
/* A node says that it was cut off for too long; and has looked at everything. */
void sim_promise_check_orphaned(struct sim *sim, const struct node *node);
void sim_promise_check_orphans(struct sim *sim, const struct node *node);
void sim_promise_drain(struct link *link);
void sim_promise_check_tasks(struct sim *sim, const struct link *link);
void sim_promise_told(struct sim *sim, const struct node *node,
                      const struct message *message);
/* What a node says of tasks, and what its coordinator makes of it when it is gone. */
void sim_promise_said(struct sim *sim, const struct node *node,
                      const struct message *message);
void sim_promise_given(struct sim *sim, int place, const struct message *message);
void sim_promise_check_lost(struct sim *sim, const struct message *message);
void sim_promise_check_give(struct sim *sim, const struct node *node,
                            const struct job *job, const struct msg_span *span);
/* The task that kills nodes does so once more. */
void sim_promise_check_kills(struct sim *sim, struct job *job);
/* A task ends since nodes were lost, and none went but by the one that kills them. */
void sim_promise_check_beside(struct sim *sim, const struct job *job, uint64_t index);
void sim_promise_check_priority(struct sim *sim, const struct app *app,
                                const struct job *job, const struct message *message);

/* fault.c -------------------------------------------------------------------------- */

/* A task kills its node; another daemon comes there soon. */
void sim_fault_kill_node(struct sim *sim, struct node *node);
/* An operator asks one thing, and is gone. */
void sim_fault_operate(struct sim *sim, struct message *question);
/* The cluster, its clients, and what will happen to them. */
void sim_plan_make(struct sim *sim);
void sim_plan_print(const struct sim *sim);

/* detached.c, keeper.c, owner.c: detached jobs; of a seed without any: nothing happens.
 */

void sim_detached_plan(struct sim *sim);
void sim_detached_settle(struct sim *sim); /* the faults are over */
bool sim_detached_are_over(struct sim *sim);
/* The app whose key a link of a detached job has; -1: it is none. */
int sim_detached_key(const struct sim *sim, int place);
void sim_detached_dump(const struct sim *sim);
void sim_detached_fini(struct sim *sim);
/* They live and die with the coordinator. */
void sim_keeper_start(struct sim *sim);
void sim_keeper_kill(struct sim *sim);
void sim_keeper_ask(struct sim *sim, const struct link *link, struct message **message);
/* For a client inside; message NULL: its link is over. false: it is another one's. */
bool sim_keeper_hear(struct sim *sim, const struct link *link, struct message **message);
/* Takes the message over; NULL: the link is over. */
void sim_owner_hear(struct sim *sim, const struct link *link, struct message *message);

/* settle.c: the end: everything must come to rest. ----------------------------------- */

void sim_settle_begin(struct sim *sim);
void sim_settle_dump(struct sim *sim); /* how everything stands, for people */

#endif
