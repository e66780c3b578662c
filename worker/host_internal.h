/* SPDX-License-Identifier: Apache-2.0
 *
 * worker/host_internal.h: what the files of the host share.
 *
 *   host.c          the host's calls: effects in, events out
 *   host_channel.c  a process's shared memory, outputs that lie in it, waking
 *   host_start.c    starting a process: what it needs
 *   host_spawn.c    ... and itself
 *   host_group.c    its control group
 *   host_environment.c  its environment variables
 *   host_scratch.c  the folder it starts in
 *   host_remove.c   removing such folders
 *   host_why.c      why one did not come up
 *   host_library.c  which shared library it lacked
 *   host_feed.c     giving tasks and taking them back
 *   host_results.c  reading what a process wrote, trusting none of it
 *   host_output.c   its stdout and stderr
 *   host_relay.c    messages of a client inside it
 *   host_measure.c  how much its task has used
 *   host_gone.c     its end
 *   host_remains.c  what it left behind; the guardian
 */
#ifndef FARPOOL_WORKER_HOST_INTERNAL_H
#define FARPOOL_WORKER_HOST_INTERNAL_H

#include "common/base/channel.h"
#include "common/sys/groups.h"
#include "common/sys/guardian.h"
#include "common/sys/remains.h"
#include "worker/host.h"
#include "worker/host_scratch.h"

#include <pthread.h>
#include <sys/queue.h>
#include <sys/types.h>

#define HASH_NONFATAL_OOM 1
#define uthash_malloc(size) mem_alloc(size)
#define uthash_free(memory, size) mem_free(memory)
#include "common/base/mem.h"
#define uthash_nonfatal_oom(element) ((element)->hashed = false)
#include <uthash.h>

#define HOST_LINE_BYTES 16384  /* a longer line of output is cut */
#define HOST_STDERR_BYTES 4096 /* kept of a process that is not ready yet */

/* A mapping of shared memory; lives as long as the process's host or any output in it. */
struct host_map {
    atomic_uint refs;
    uint8_t *base;
    struct channel_layout at;
    struct channel_control *control;
    pthread_mutex_t release_lock; /* several threads may release, one slot each */
    uint64_t release_head;
};

/* Tasks that were given to a process and have not ended. Results come strictly in order,
 * of a give and of gives, so one cursor tells which are due. */
struct give {
    TAILQ_ENTRY(give) link;
    uint64_t number, job, first;
    uint32_t count;
    uint32_t end;       /* the tasks [0, end) are left to the process */
    uint32_t published; /* the tasks [0, published) have ended */
    uint32_t claimed;   /* what its claim word showed last */
    bool pushed;        /* it is in the ring: position and record are set */
    uint64_t position;
    struct channel_give *record;
    uint64_t block;       /* in the in arena, or ARENA_NONE */
    struct msg_span span; /* the inputs, until it is pushed */
    uint64_t timeout_ms;
    uint64_t memory_bytes; /* a task's limit, 0: none */
    bool limited, calls;
    uint32_t claim_unit, publish, publish_us, unseen_ms;
    char function[FUNCTION_NAME_MAX + 1];
};
TAILQ_HEAD(give_list, give);

struct relay_item {
    STAILQ_ENTRY(relay_item) link;
    struct frames frames;
    bool begun;    /* its CHANNEL_RELAY record is in the ring */
    size_t frame;  /* what is sent next */
    uint64_t sent; /* bytes of that frame */
};
STAILQ_HEAD(relay_list, relay_item);

/* A message that is coming from a process, in pieces. */
struct relay_in {
    bool open;
    bool whole; /* its last record has been read, and is not taken yet */
    struct frames frames;
    size_t frame;
    uint64_t got; /* bytes of that frame */
};

struct host_pipe {
    int fd;        /* -1: closed or never there */
    int number;    /* 1: stdout, 2: stderr */
    uint64_t read; /* bytes in all */
    size_t filled; /* the last of them, not told yet */
    char text[HOST_LINE_BYTES + 1];
};

/* Whose output it is: of one of `count` tasks (0: of none). */
struct host_owner {
    uint64_t give, first;
    uint64_t count;
};

enum process_state {
    PROCESS_STARTING, /* not READY yet */
    PROCESS_SERVING,
    PROCESS_ENDING, /* killed for breaking the rules, or by the host's own failure */
    PROCESS_UNBORN, /* could not be started: GONE is all that is left to tell */
};

struct host_process {
    UT_hash_handle hh;
    bool hashed;
    uint64_t number;
    enum process_state state;
    bool scratch; /* it has a folder of its own */
    struct hash program_hash;
    struct id pool;
    pid_t pid;
    int pidfd, bell;     /* -1: none */
    int answers;         /* the host's end of its socket, -1: none */
    int group;           /* its control group, -1: none */
    uint64_t memory_max; /* of that; UINT64_MAX: none */
    bool exited;         /* pidfd became readable */
    bool killed;         /* by WORKER_PROCESS_KILL */
    bool closing;
    struct host_map *map;
    struct ring in, relay, out;
    struct arena in_arena;
    uint64_t init_block; /* of the initializer's argument, until READY; or ARENA_NONE */
    struct give_list gives; /* in the order given; those not pushed are last */
    struct give *unpushed;  /* the first of those, or NULL */
    struct relay_list relays;
    struct relay_in relay_in;
    bool wake;      /* it has something that it was not woken for */
    bool take_back; /* an answer is due */
    uint64_t take_back_count;
    bool sample;      /* an answer is due */
    bool measure;     /* ... with how much the task has used */
    uint32_t cancels; /* ranges written so far */
    struct host_pipe pipes[2];
    bool printing;                           /* look at its pipes */
    char stderr_text[HOST_STDERR_BYTES + 1]; /* the last of it, until READY */
    size_t stderr_bytes;
    char program[256]; /* for texts */
    char initializer[FUNCTION_NAME_MAX + 1];
    int code; /* why it goes, when not by itself */
    char text[FAILURE_MESSAGE_MAX + 1];
    char *backtrace; /* of a failed initializer */
};

struct host_program {
    UT_hash_handle hh;
    bool hashed;
    struct hash program;
    char *path, *folder; /* folder NULL: none */
    char *files;         /* as scratch_list; NULL without folder or scratch */
    char *name;          /* for people: the path, or what /proc/self/exe stands for */
};

/* A shared input of a pool, and the descriptor of its bytes (-1: code tells why none). */
struct host_shared {
    struct host_shared_about about;
    int fd;
    TAILQ_ENTRY(host_shared) link;
};
TAILQ_HEAD(host_shared_list, host_shared);

/* Results that follow each other, put together until one does not. */
struct host_merge {
    struct host_process *process; /* NULL: nothing is held */
    uint64_t give, first, elapsed_ns;
    uint32_t count;
    bool sized;    /* sizes is filled */
    uint64_t each; /* bytes of each output while they are all equal */
    uint8_t *data;
    size_t data_bytes, data_capacity;
    uint32_t *sizes;
    size_t sizes_capacity;
};

#define HOST_GUARDIAN (UINT64_MAX - 1) /* in epoll, beside the numbers of processes */

struct host {
    struct host_config config;
    char node[NODE_NAME_MAX + 1];
    char token[REMAINS_TOKEN + 1]; /* in the environment of what processes start */
    char *outer;                   /* the same of the process that this host is in */
    struct groups groups;
    uint64_t oom_kills; /* of this machine, when they were counted last */
    struct guardian guardian;
    uint64_t guardian_ms; /* before then none is started; 0: none was wanted yet */
    bool started;         /* it had a process */
    bool sole_reaper;     /* every orphan that comes to it is of its processes */
    uint64_t sweep_ms;    /* when to look at what remains; UINT64_MAX: not */
    uint64_t swept_ms;    /* not before then */
    uint64_t again_ms;
    int epoll;
    uint32_t generation; /* of the process started last */
    char **environment;  /* of all processes */
    size_t environment_count;
    char *library_path;      /* LD_LIBRARY_PATH=..., or NULL */
    struct scratch *scratch; /* NULL: processes start in their program's folder */
    struct affinity *cores;  /* NULL: processes are not bound */
    struct host_process *processes;
    struct host_program *programs;
    struct host_shared_list shared; /* the latest first */
    struct host_merge merge;
    uint64_t looked_ms; /* when epoll was asked last */
    bool woken;
    bool wake;       /* processes are to be woken */
    bool no_memory;  /* something waits for memory: poll again */
    bool lost_start; /* a process that there was no memory for; it is told next */
    uint64_t lost_process;

    /* Of the present host_poll. */
    uint64_t now_ms;
    void (*deliver)(void *user, struct worker_event *event);
    void *deliver_user;
    int delivered;
};

/* An event of a process, to be filled and given to host_deliver. */
struct worker_event host_event(const struct host *host,
                               const struct host_process *process,
                               enum worker_event_kind kind);
void host_deliver(struct host *host, struct worker_event *event);

/* host_channel.c ------------------------------------------------------------------ */

/* Makes, seals and maps the memory; *ret_fd is the caller's to close. */
int host_map_create(const struct host *host, const struct id *pool, uint32_t generation,
                    struct host_map **ret_map, int *ret_fd, farpool_error *error);
void host_map_unref(struct host_map *map);
/* A payload of bytes in the out arena; its last reference gives the block back. NULL:
 * out of memory. */
struct payload *host_map_wrap(struct host_map *map, uint64_t offset, uint64_t bytes);
void host_map_release(struct host_map *map, uint64_t offset);
/* Wakes the process if it waits for `least` or something less frequent. */
void host_map_wake(struct host_map *map, uint32_t least);
void host_map_trim_in(struct host_map *map, struct arena *arena);

/* host_start.c -------------------------------------------------------------------- */

/* Starts a process; false: process->code and text say why not. */
bool host_start(struct host *host, struct host_process *process,
                const struct worker_effect *effect);

/* host_spawn.c -------------------------------------------------------------------- */

struct host_spawn {
    const char *path, *folder; /* folder NULL: the caller's */
    char *name;                /* its argv[0] */
    char *const *variables;
    int memory, bell, answers; /* all descriptors are HOST_FD_HIGH or higher */
    int ends[2];               /* for its stdout and stderr; -1: the caller's */
    int group;                 /* its control group, -1: the caller's */
};
#define HOST_FD_HIGH 16 /* above every number that a process expects something at */

/* 0 or an error number. */
int host_spawn(const struct host_spawn *spawn, pid_t *ret_pid);

/* host_group.c -------------------------------------------------------------------- */

/* It is in one from its first instruction on; where none can be made, it goes without. */
void host_group_make(const struct host *host, struct host_process *process);
/* Tasks were given to it, or have ended: the kernel holds it to what they all may have.
 */
void host_group_limit(const struct host *host, struct host_process *process);
/* Whether the kernel killed it for want of memory; fills gone, and text if that says more
 * than its signal. */
void host_group_blame(struct host *host, struct host_process *process,
                      struct worker_event *gone);

/* host_environment.c -------------------------------------------------------------- */

/* Where a process is and what it is told of it; all borrowed. */
struct host_place {
    const char *channel;   /* of CHANNEL_ENVIRONMENT */
    const char *libraries; /* folder of shared libraries, or NULL */
    const char *folder;    /* its current folder, NULL: the caller's */
    uint32_t slot;
    uint64_t process; /* its number */
};

struct host_variables {
    char **all; /* NULL-ended: first those of the host, then its own */
    size_t borrowed, own;
};

bool host_environment_init(struct host *host); /* false: out of memory */
void host_environment_fini(struct host *host);
/* false: out of memory. */
bool host_variables_make(const struct host *host, const struct host_place *place,
                         struct host_variables *ret_variables);
void host_variables_fini(struct host_variables *variables);

/* host_why.c ---------------------------------------------------------------------- */

/* What a failed system call means: ENOFILES with the limit, ENOMEM or ESYSTEM. */
int host_system_error(farpool_error *error, int number, const char *what);
/* Why path could not be executed (error number of posix_spawn). */
int host_why_not_started(const char *path, int error_number, char *text, size_t size);
/* The first shared library that path needs and does not find; false: none. */
bool host_find_missing_library(const char *path, char *ret_name, size_t size);
/* Why a process that ended before READY did so, where that is known. */
void host_why_not_ready(const struct host_process *process, int exit_status, int signal,
                        int *ret_code, char *text, size_t size);

/* host_feed.c --------------------------------------------------------------------- */

/* Takes over the span. false: out of memory. */
bool host_give(struct host_process *process, struct worker_effect *effect);
/* Moves what waits into the ring; whether anything moved. */
bool host_push(struct host *host, struct host_process *process);
/* The initializer's record, the first one; it always fits. */
bool host_push_init(struct host_process *process, const char *name,
                    const struct payload *argument);
void host_take_back(struct host *host, struct host_process *process);
void host_cancel(struct host_process *process, const struct worker_effect *effect);
/* What runs: false: nothing. */
bool host_running(struct host_process *process, uint64_t *ret_give, uint64_t *ret_index,
                  uint64_t *ret_began_ms, uint64_t *ret_share_ppm);
/* What its task, the one of this name, has used; 0 and 0: none of that name runs, or its
 * give is not limited. */
void host_used(struct host_process *process, uint64_t give, uint64_t index,
               uint64_t *ret_cpu_ms, uint64_t *ret_memory_bytes);
/* Which task the process was in when it ended, by its word and the table: or false. */
bool host_blamed(struct host_process *process, uint64_t *ret_give, uint64_t *ret_index);
/* Reads the give's claim word: false: it is nonsense. Only for one still in the ring. */
bool host_read_claim(struct give *give);
bool host_in_ring(const struct host_process *process, const struct give *give);
void host_give_finish(struct host_process *process, struct give *give);

/* host_results.c ------------------------------------------------------------------ */

/* Delivers what the process has written; at most one ring full. */
void host_drain(struct host *host, struct host_process *process);
/* Delivers what was put together; false: no memory, it is still held. */
bool host_merge_flush(struct host *host);
/* The process broke the rules: it is killed, and nothing more of it is read. */
void host_violate(struct host_process *process, const char *what);

/* host_output.c ------------------------------------------------------------------- */

/* What the process does now, to be compared with what it does later. */
struct host_owner host_output_owner(const struct host_process *process);
/* Reads what there is, as far as there is room. */
void host_output_read(struct host *host, struct host_process *process);
/* Tells it, but for an unfinished line: behind host_drain. `before` is of the time before
 * it was read; if the process does something else now, it is known later. */
void host_output_tell(struct host *host, struct host_process *process,
                      const struct host_owner *before);
/* The process tells up to where its output is of these tasks. */
void host_output_take(struct host *host, struct host_process *process,
                      const struct channel_printed *printed);
/* Reads what is left, tells it as that of the task it was in, and closes both. */
void host_output_finish(struct host *host, struct host_process *process);

/* host_relay.c -------------------------------------------------------------------- */

bool host_relay_push(struct host_process *process);
/* One record of a message; false: it broke the rules, or (code ENOMEM) no memory. */
bool host_relay_record(struct host *host, struct host_process *process,
                       const struct ring_record *record);
void host_relay_fini(struct host_process *process);

/* host_shared.c ------------------------------------------------------------------- */

/* The socket to a process; *ret_end is its end. false: errno tells why. */
bool host_shared_open(struct host_process *process, int *ret_end);
/* One CHANNEL_SHARED; false: it broke the rules. */
bool host_shared_answer(struct host *host, struct host_process *process,
                        const struct ring_record *record);
void host_shared_fini(struct host *host);

/* host_measure.c ------------------------------------------------------------------ */

/* CPU time and memory of the process and all below it. */
void host_measure(const struct host_process *process, uint64_t *ret_cpu_ms,
                  uint64_t *ret_memory_bytes);

/* host_gone.c --------------------------------------------------------------------- */

void host_kill(struct host_process *process);
/* It has ended: reaps it, reports all of it, and frees it. */
void host_gone(struct host *host, struct host_process *process);
/* Kills, waits, reaps and frees without a word. */
void host_process_destroy(struct host *host, struct host_process *process);

/* host_remains.c ------------------------------------------------------------------ */

void host_remains_init(struct host *host);
/* Waits until nothing remains of its processes, if it must for two seconds. */
void host_remains_fini(struct host *host);
/* Sees to it that there is a guardian, if one is wanted. */
void host_guard(struct host *host);
void host_guardian_ended(struct host *host); /* perhaps */
/* A process has ended. */
void host_sweep_soon(struct host *host);
void host_sweep(struct host *host, uint64_t now_ms);
uint64_t host_sweep_deadline(const struct host *host);

#endif
