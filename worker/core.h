/* SPDX-License-Identifier: Apache-2.0
 *
 * worker/core.h: every decision of a worker, as a function from state and event to
 * effects. Touches no socket, clock, file, process or shared memory: the shell and
 * worker/host.h carry effects out and report back as events. Used as it is by the
 * daemon, the embedded pool and the simulator.
 *
 * Use: a batch of events, one step each, ended by one WORKER_FLUSH, in which processes
 * are started and fed and results are put together. Then the effects are carried out in
 * order; WORKER_PROCESS_TAKE_BACK and WORKER_PROCESS_SAMPLE are answered by an event in
 * the next batch, which follows at once. */
#ifndef FARPOOL_WORKER_CORE_H
#define FARPOOL_WORKER_CORE_H

#include "common/base/holder.h"
#include "common/base/logs.h"
#include "common/base/message.h"

#include <stdbool.h>
#include <stdint.h>

struct worker_config {
    struct id worker; /* made at random by the shell at start */
    char node[NODE_NAME_MAX + 1];
    char machine[32]; /* as uname -m */
    char labels[256];
    uint32_t slots;            /* tasks that may run at a time, 1 to 65536 */
    uint64_t memory_bytes;     /* advertised */
    uint64_t tasks_max;        /* tasks held, begun or not; default 1 << 20 */
    uint64_t bytes_max;        /* input bytes held; default 256 MiB */
    uint64_t result_bytes_max; /* results not yet ACKed, until WELCOME tells another */
    uint64_t given_bytes_max;  /* input bytes given to one process ahead; default 1 MiB */
    uint32_t given_ahead_us;   /* work given ahead to one process; default 600000 */
    uint32_t results_wait_ms;  /* for others to go with, while enough is queued; 200 */
    uint32_t start_timeout_ms; /* a process that is not ready by then is killed; 30000 */
    uint32_t start_failures_max; /* in a row, before the pool fails here; default 3 */
    uint32_t processes_idle_max; /* of all pools together, kept warm beyond the slots */
    uint32_t lanes_max;          /* who may dial it or is dialled, at a time; default
                                    1024 */
    uint64_t orphan_after_ms;    /* cut off for so long, it drops all; 0: never, the
                                    default */
    const struct logs *logs; /* what LOGS_GET is answered from, borrowed; NULL: nothing */
};
void worker_config_init(struct worker_config *config); /* defaults; id and names empty */

/* Lanes, links to clients and other workers, have numbers that are never used again: the
 * shell's for who has dialled this worker, without this bit; the core's, with it, for
 * whom it dials. 0 is the coordinator's link. */
#define WORKER_LANE_DIALLED (UINT64_C(1) << 63)
#define WORKER_DIALS_MAX 16 /* at a time */

enum worker_event_kind {
    WORKER_LINK_UP,   /* a fresh connection to a coordinator: say hello; text: where this
                         worker may be dialled, NULL: nowhere. lane: one that was dialled
                         is connected */
    WORKER_LINK_DOWN, /* text. lane: that one has ended, or could not be dialled */
    WORKER_MESSAGE,   /* *message (taken over). lane: from there; key: of who has dialled
                         it, NULL: no keys are in use */
    WORKER_PROGRAM_NEEDS,   /* program, file (its place in the list), offset: fetch */
    WORKER_PROGRAM_READY,   /* program: it can be started */
    WORKER_PROGRAM_FAILED,  /* program, code, text */
    WORKER_SHARED_OPENED,   /* program (of a content), serial (of its opening), whole: all
                               of it is there; or code, text: there is no room for it */
    WORKER_SHARED_WROTE,    /* program, serial, offset (its piece), code, text: 0;
                               EPROTOCOL: it is not what its hash says; or it cannot be
                               kept here */
    WORKER_PROCESS_READY,   /* process, pid: attached, initializer done */
    WORKER_PROCESS_DONE,    /* process, give, first, count, elapsed_ns, sizes, data */
    WORKER_PROCESS_FAILED,  /* process, give, first (one task), code, text, backtrace */
    WORKER_PROCESS_BLOCKED, /* process: its task waits for a nested job; frees the slot */
    WORKER_PROCESS_UNBLOCKED, /* process: it goes on */
    WORKER_PROCESS_TAKEN,     /* process, give, first, count: not begun, taken back. One
                                 event a range; the last of an answer has count 0.
                                 Not at a GONE: the core takes back what is left */
    WORKER_PROCESS_OUTPUT,    /* process, fd, output, output_bytes: whole lines, each with
                                 its end; count: who printed them: none of its tasks (0),
                                 the task first of give, or one of so many from it on. In
                                 front of the results of these */
    WORKER_PROCESS_SAMPLED, /* process, running, first (index), give, began_ms, share_ppm;
                               and of a limited one cpu_ms, memory_bytes so far */
    WORKER_PROCESS_GONE,    /* process: it has ended and its results were all reported;
                               exit_status, signal; running + give + first: the task it
                               was in; over_memory: the kernel killed it for that task's
                               limit, memory_bytes is what it had; code (0: by itself;
                               ENOTFARPOOL, ELIBRARY, EPROGRAM, EINITIALIZER ...), text,
                               backtrace */
    WORKER_DRAIN, /* finish what runs, give back the rest, then WORKER_STOPPED */
    WORKER_STOP,  /* kill everything now, then WORKER_STOPPED */
    WORKER_FLUSH, /* the batch is over, or the deadline came */
};

struct worker_event {
    enum worker_event_kind kind;
    uint64_t now_ms;         /* monotonic */
    struct message *message; /* moved into the core (set to NULL by the step) */
    uint64_t lane;
    const struct hash *key; /* borrowed */
    struct hash program;
    uint64_t serial;
    uint32_t file;
    uint64_t offset;
    bool whole;
    uint64_t process; /* the core's number */
    uint64_t give;
    uint64_t first;
    uint32_t count;
    uint64_t elapsed_ns;
    struct payload *sizes, *data; /* references, taken over (set to NULL) */
    bool running;
    uint64_t began_ms;
    uint64_t share_ppm;
    uint64_t cpu_ms, memory_bytes;
    bool over_memory;
    int pid, code, exit_status, signal;
    const char *text, *backtrace; /* borrowed; NULL: none */
    struct id pool;               /* PROCESS_OUTPUT: for who keeps the lines */
    int fd;                       /* 1: stdout, 2: stderr */
    const char *output;           /* borrowed, not terminated */
    size_t output_bytes;
};

enum worker_effect_kind {
    WORKER_SEND,          /* message to the coordinator, or on a lane */
    WORKER_RELINK,        /* text: drop the connection and dial again */
    WORKER_DIAL,          /* lane, text: the address, key: whom to find there (zero: no
                             keys are in use); LINK_UP or LINK_DOWN follow, or a time
                             without either */
    WORKER_HANG_UP,       /* lane, text: drop it. No LINK_DOWN is expected */
    WORKER_ORPHANED,      /* text: cut off for too long, it has dropped what that tells */
    WORKER_PROGRAM_OPEN,  /* program, files[], machine: look into the cache; answered
                             by PROGRAM_NEEDS, READY or FAILED */
    WORKER_PROGRAM_WRITE, /* program, file, offset, data, code: a piece came (code != 0:
                             the client could not read it); answered likewise */
    WORKER_PROGRAM_CLOSE, /* program: no pool here uses it any more */
    WORKER_SHARED_OPEN,  /* program (of a content), serial (of this opening of it), offset
                            (its bytes), data (the hashes of its pieces; NULL: nothing is
                            to come): make room; answered by SHARED_OPENED */
    WORKER_SHARED_WRITE, /* program, serial, offset (the piece), data: answered by
                            SHARED_WROTE */
    WORKER_SHARED_READ, /* lane, pool, worker, program, offset (bytes), count: answer with
                          a BLOB message that the shell makes and sends itself */
    WORKER_SHARED_CLOSE,  /* program: no pool here shares it any more */
    WORKER_SHARED_MAP,    /* pool, shared, serial, program: processes of the pool may have
                             that content under this number; or code, text: why not */
    WORKER_SHARED_UNMAP,  /* pool, serial: they may not any more */
    WORKER_PROCESS_START, /* process, slot, pool, program, initializer, data (its
                             argument) */
    WORKER_PROCESS_GIVE,  /* process, give, span, and of its job: job, function,
                             timeout_ms, limited, calls, memory_bytes, claim, publish,
                             publish_us, unseen_ms, quiet_before */
    WORKER_PROCESS_TAKE_BACK, /* process, count: take back up to so many tasks not begun,
                                 the last first */
    WORKER_PROCESS_CANCEL,    /* process, give, first, count: if one of these runs, make
                                 farpool_task_cancelled true in it */
    WORKER_PROCESS_SAMPLE,    /* process: what does it run? limited: and how much has that
                                 used? */
    WORKER_PROCESS_CLOSE,     /* process: end when what it was given is done */
    WORKER_PROCESS_KILL,      /* process: SIGKILL */
    WORKER_STOPPED,           /* nothing is left: the shell may exit (text: why) */
};

struct worker_effect {
    enum worker_effect_kind kind;
    struct message *message; /* the shell takes it over */
    uint64_t lane;           /* 0: the coordinator's link */
    struct hash key;
    struct hash program;
    struct msg_file *files; /* the effect's own */
    uint32_t files_count;
    uint32_t file;
    uint64_t offset;
    int code;
    struct payload *data; /* a reference, the shell takes it over */
    struct id pool, worker;
    uint64_t shared, serial;
    uint64_t process, give, job;
    uint32_t slot;        /* below config.slots: the process's number for its life */
    struct msg_span span; /* references, the shell takes them over */
    uint64_t first;
    uint64_t count;
    char name[FUNCTION_NAME_MAX + 1]; /* function, or initializer */
    char machine[32];
    uint64_t timeout_ms;
    bool limited;
    bool calls;            /* the index of each task is 0 to its function */
    uint64_t memory_bytes; /* a task's limit, which the kernel may keep; 0: none */
    uint32_t claim; /* tasks the process claims at a time (cannot be taken back after) */
    uint32_t publish;      /* tasks after which it publishes results, at the latest, */
    uint32_t publish_us;   /* and time */
    uint32_t unseen_ms;    /* how long they may lie unseen then; 0: as the host likes */
    uint64_t quiet_before; /* gives below this one have enough work behind them */
    char text[256];
};

struct worker_effects {
    struct worker_effect *items;
    size_t count, capacity;
};
void worker_effects_clear(struct worker_effects *effects);
void worker_effects_fini(struct worker_effects *effects);

struct worker_core;
int worker_core_create(const struct worker_config *config, uint64_t now_ms,
                       struct worker_core **ret_core);
void worker_core_destroy(struct worker_core *core);

/* One event. 0, or ENOMEM: nothing has changed, and the event may be tried again. A FLUSH
 * never fails: what it had no memory for is left, and the deadline is now. An event of a
 * process that the core did not start, or that is GONE, is the host's bug: asserted. */
int worker_core_step(struct worker_core *core, struct worker_event *event,
                     struct worker_effects *effects);
uint64_t worker_core_deadline(const struct worker_core *core); /* UINT64_MAX: none */
void worker_core_check(const struct worker_core *core); /* asserts every invariant */

/* The next multiple of the period behind ms (0: ms). What may be late is put off to these
 * ticks, so that one wake-up serves all of it. */
uint64_t worker_tick(uint64_t ms, uint64_t period_ms);

/* Whether the holder of a key may dial this worker now, and who that is. */
bool worker_core_expects(const struct worker_core *core, const struct hash *key,
                         struct holder *ret_holder);

struct worker_counts {
    uint64_t pools, processes, running, held, unacked;
};
void worker_core_counts(const struct worker_core *core, struct worker_counts *ret_counts);

#endif
