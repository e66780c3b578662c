/* SPDX-License-Identifier: Apache-2.0
 *
 * channel.h: the memory that a pool process shares with its host: where what lies, and
 * what the records in its rings hold. Layout only; docs/shared-memory.md has the rules.
 *
 * Both sides compute the layout from payload_max, so no offset of it is read from shared
 * memory. What one side only ever writes lies on cache lines of its own. */
#ifndef FARPOOL_BASE_CHANNEL_H
#define FARPOOL_BASE_CHANNEL_H

#include "common/base/arena.h"
#include "common/base/id.h"
#include "common/base/message.h"
#include "common/base/ring.h"

#include <stdatomic.h>
#include <stdint.h>

#define CHANNEL_MAGIC 0x6c6f6f7072616664u
#define CHANNEL_VERSION 6u
/* In the environment of a process: "version:memory:bell:parent:generation", where memory
 * and bell are file descriptors (the shared memory, the host's eventfd). */
#define CHANNEL_ENVIRONMENT "FARPOOL_PROCESS"
#define CHANNEL_FD_MEMORY 3
#define CHANNEL_FD_BELL 4
#define CHANNEL_FD_ANSWERS 5 /* a socket: answers to CHANNEL_SHARED */

/* How a process ends that cannot attach: it was built with a libfarpool that speaks
 * another CHANNEL_VERSION, or something else, told on stderr. */
#define CHANNEL_EXIT_VERSION 125
#define CHANNEL_EXIT_REFUSED 126

#define CHANNEL_RING_BYTES 262144u  /* each of the three rings */
#define CHANNEL_INLINE_BYTES 16384u /* inputs and outputs up to this travel in a ring */
#define CHANNEL_RELEASES 131072u    /* places in the release queue */
#define CHANNEL_CRASH_BYTES 16384u  /* room for the text of a crash */
#define CHANNEL_BATCH_TASKS 4096u   /* results with a table of sizes in one record */
#define CHANNEL_CANCELS 16u
#define CHANNEL_RELAY_BYTES 32768u /* a piece of a relayed message */
#define CHANNEL_RELAY_FRAMES (1 + 2 * SPANS_MAX)
/* The out arena: blocks in the first part may stay in use as long as anyone refers to
 * the output; those in the rest are copied out at once, so it always becomes free. */
#define CHANNEL_KEPT_BYTES 268435456u
#define CHANNEL_SPARE_BYTES 67108864u /* of the in arena, beyond the largest input */

/* What a process runs. Written by it, read by the host, who checks it. */
struct channel_running {
    _Atomic uint64_t give;
    _Atomic uint64_t first;  /* index of the first task of the run */
    volatile uint64_t place; /* which task of the run; farpool_run.running points here */
    /* Index of the first task of the give whose printing was not looked at; UINT64_MAX:
     * there is none, but for the one that runs. */
    _Atomic uint64_t since;
    _Atomic uint64_t began_ms;
    _Atomic uint64_t began_cpu_ms;           /* where the give is limited */
    _Atomic uint64_t share_index, share_ppm; /* farpool_task_progress */
    _Atomic uint32_t executing;
};

/* Tasks whose farpool_task_cancelled is true. Written by the host. */
struct channel_cancel {
    _Atomic uint64_t give, first, count;
};

/* How far the host has read what the process printed. Written by the host; `turn` is odd
 * while it reads, so that the process can tell what it has written in all: what was read
 * and what is left in the pipe. */
struct channel_output {
    _Atomic uint32_t turn;
    _Atomic uint64_t read[2]; /* bytes of stdout and stderr */
};

enum channel_state { CHANNEL_STARTING, CHANNEL_ATTACHED, CHANNEL_SERVING };

struct channel_control {
    /* Written by the host before the process is started. */
    uint64_t magic;
    uint32_t version, generation;
    uint64_t payload_max;
    uint32_t spin, parent;
    uint32_t captured; /* stdout and stderr are pipes that the host reads */
    struct id pool;
    char node[NODE_NAME_MAX + 1];

    _Alignas(64) _Atomic uint32_t wake; /* futex; changed by who wakes the process */
    _Alignas(64) _Atomic uint32_t
        asleep; /* enum channel_asleep; by the process, and who wakes it */
    _Alignas(64) _Atomic uint32_t host_asleep; /* set by the host, cleared by who rings */
    _Alignas(64) _Atomic uint32_t closing; /* by the host: end when the ring is empty */
    /* By the host: behind the gives below this one lies so much work that the process
     * need not wake it at their ends. */
    _Atomic uint64_t quiet_before;
    _Atomic uint32_t shared_epoch; /* by the host: changes when something is unshared */
    struct channel_cancel cancels[CHANNEL_CANCELS];
    _Alignas(64) struct channel_output output;
    _Alignas(64) struct channel_running running;
    _Atomic uint32_t state;       /* enum channel_state; by the process */
    _Atomic uint32_t crash_bytes; /* how much crash text there is */

    struct ring_shared in, relay, out;
    _Alignas(64) _Atomic uint64_t release_head; /* by the host */
    _Alignas(64) _Atomic uint64_t release_tail; /* by the process */
};

enum channel_asleep {
    CHANNEL_AWAKE,
    CHANNEL_WAITS_WORK, /* for a record in the in ring or the relay ring */
    CHANNEL_WAITS_ROOM, /* in the out ring or the out arena */
};

struct channel_layout {
    uint64_t crash, in, relay, out, releases;
    uint64_t in_arena, in_arena_bytes;
    uint64_t out_arena, out_arena_bytes;
    uint64_t size;
};

static inline uint64_t channel_pages(uint64_t bytes)
{
    return (bytes + ARENA_BLOCK - 1) & ~(uint64_t)(ARENA_BLOCK - 1);
}

static inline struct channel_layout channel_layout(uint64_t payload_max)
{
    struct channel_layout at;
    at.crash = channel_pages(sizeof(struct channel_control));
    at.in = at.crash + CHANNEL_CRASH_BYTES;
    at.relay = at.in + CHANNEL_RING_BYTES;
    at.out = at.relay + CHANNEL_RING_BYTES;
    at.releases = at.out + CHANNEL_RING_BYTES;
    at.in_arena = at.releases + CHANNEL_RELEASES * sizeof(uint64_t);
    at.in_arena_bytes =
        channel_pages(payload_max) + CHANNEL_SPARE_BYTES + 4ull * SPAN_TASKS_MAX;
    at.out_arena = at.in_arena + at.in_arena_bytes;
    at.out_arena_bytes = CHANNEL_KEPT_BYTES + channel_pages(payload_max) + ARENA_BLOCK;
    at.size = at.out_arena + at.out_arena_bytes;
    return at;
}

/* Kinds of records. RING_PAD is 0. */
enum channel_record {
    CHANNEL_INIT = 1,     /* in: struct channel_give, first of all */
    CHANNEL_GIVE,         /* in: struct channel_give */
    CHANNEL_READY,        /* out: the initializer is done */
    CHANNEL_START_FAILED, /* out: struct channel_failed: the initializer failed */
    CHANNEL_DONE,         /* out: struct channel_done */
    CHANNEL_FAILED,       /* out: struct channel_failed */
    CHANNEL_BLOCKED,      /* out: the task waits for a nested job */
    CHANNEL_UNBLOCKED,    /* out */
    CHANNEL_IDLE,       /* out: nothing to do for a while: the in arena may be trimmed */
    CHANNEL_RELAY,      /* relay, out: struct channel_relay: a message begins */
    CHANNEL_RELAY_PART, /* relay, out: the next bytes of it */
    CHANNEL_PRINTED,    /* out: struct channel_printed: up to here tasks printed */
    CHANNEL_SHARED, /* out: struct channel_shared: a shared input is wanted; answered on
                       the socket */
};

#define CHANNEL_INLINE UINT64_MAX /* as an offset: the bytes are in the record */

/* Where the bytes of a record's payload begin, counted from the record's body: so that
 * they are aligned to a cache line. */
#define CHANNEL_DATA_OFFSET(type)                                                        \
    ((sizeof(type) + RING_HEADER_BYTES + 63) / 64 * 64 - RING_HEADER_BYTES)

/* Consecutive tasks to run. Behind it inline: the inputs, then at the next multiple of 4
 * the table of sizes. In the arena they follow each other likewise. */
struct channel_give {
    /* low half: tasks claimed by the process, from 0; high half: tasks that are left to
     * it, at most count. The process raises the low half, the host lowers the high one,
     * both by compare-and-swap of the whole. */
    _Atomic uint64_t claim;
    uint64_t give, job, first;
    uint64_t timeout_ms;
    uint64_t data_offset; /* in the in arena, or CHANNEL_INLINE */
    uint64_t data_bytes;
    uint32_t count, attempt;
    uint32_t claim_unit, publish; /* tasks at a time */
    uint32_t publish_us;          /* and when so long has passed */
    uint32_t sized;               /* whether there is a table of sizes (u32 a task) */
    uint32_t limited;             /* the CPU time at each task's begin is wanted */
    uint32_t calls;               /* the index of each task is 0 to its function */
    int32_t code; /* not 0: fail these tasks with it, the data did not fit */
    char function[FUNCTION_NAME_MAX + 1];
};

static inline uint64_t channel_claim(uint32_t next, uint32_t end)
{
    return (uint64_t)end << 32 | next;
}

/* Consecutive tasks that succeeded. Behind it inline: the outputs, then at the next
 * multiple of 4 the table of sizes. What lies in the arena has no table. */
struct channel_done {
    uint64_t give, first;
    uint64_t elapsed_ns;
    uint64_t data_offset; /* in the out arena, or CHANNEL_INLINE */
    uint64_t data_bytes;
    uint32_t count;
    uint32_t sized;
};

/* One task that failed; the texts follow, not terminated. */
struct channel_failed {
    uint64_t give, index;
    int32_t code;
    uint32_t message_bytes, backtrace_bytes;
};

/* What was printed since the record before this one, by one of these tasks (count 0: by
 * none). Written before their results are. */
struct channel_printed {
    uint64_t give, first;
    uint64_t count;
    uint64_t written[2]; /* bytes of stdout and stderr, in all; UINT64_MAX: not known */
};

struct channel_shared {
    uint64_t number;
};

/* With its descriptor, if code is 0. */
struct channel_shared_answer {
    uint64_t number, size;
    int32_t code; /* or why it cannot be had */
    char text[256];
};

/* A message begins: its frames' sizes; their bytes follow in CHANNEL_RELAY_PARTs. */
struct channel_relay {
    uint32_t frames;                      /* the header and the bodies */
    uint64_t sizes[CHANNEL_RELAY_FRAMES]; /* only `frames` of them are sent */
};

static inline uint64_t channel_round4(uint64_t bytes)
{
    return (bytes + 3) & ~UINT64_C(3);
}

#endif
