/* SPDX-License-Identifier: Apache-2.0
 *
 * client/process_internal.h: what the files of a pool process's inside share.
 *
 *   process.c         attaching, the serve loop, the initializer
 *   process_wait.c    sleeping, waking and spinning
 *   process_run.c     running what a give holds
 *   process_output.c  which task printed what
 *   process_result.c  results and failures on their way out; the out arena
 *   process_relay.c   messages of a client in this process
 *   process_shared.c  shared inputs
 *   process_crash.c   crashes and forks
 *   task.c            the calls that a function makes
 *   args.c            functions of several values
 */
#ifndef FARPOOL_CLIENT_PROCESS_INTERNAL_H
#define FARPOOL_CLIENT_PROCESS_INTERNAL_H

#include "client/process.h"
#include "common/base/channel.h"

#include "farpool.h"

#include <stdbool.h>
#include <stdint.h>

/* Where a task's output is while its function runs. */
enum output_place {
    OUTPUT_NONE,    /* nothing written */
    OUTPUT_SCRATCH, /* in private memory, to be copied when it is published */
    OUTPUT_ARENA,   /* in a block of the out arena, to be read in place */
};

/* The task that runs. One a process: it is filled anew for each. */
struct farpool_task {
    uint64_t give, first; /* first: of the run */
    const farpool_function *function;
    uint32_t attempt;
    bool call; /* its index is 0 to the function */
    const uint8_t *input;
    size_t input_size;
    farpool_run *run;     /* typed: the run; else NULL */
    uint32_t run_written; /* tasks of the run whose outputs are written out already */
    enum output_place place;
    uint8_t *output;
    size_t output_size;
    uint64_t block; /* OUTPUT_ARENA: its offset */
    int code;       /* not 0: it has failed */
    char message[FAILURE_MESSAGE_MAX + 1];
    char backtrace[FAILURE_BACKTRACE_MAX + 1];
};

/* Results that are not published yet: consecutive tasks of one give. */
struct batch {
    uint64_t give, first;
    uint64_t elapsed_ns;
    uint32_t count;
    bool sized;       /* sizes differ */
    uint64_t each;    /* bytes of each while they are all equal */
    uint64_t block;   /* typed: outputs are in the out arena; or ARENA_NONE */
    uint8_t *outputs; /* typed: where they are; bytes: data */
    uint32_t room;    /* typed: tasks there is room for */
    uint64_t data_bytes;
    uint8_t data[CHANNEL_INLINE_BYTES] __attribute__((aligned(64)));
    uint32_t sizes[CHANNEL_BATCH_TASKS];
};

/* What the process has printed, as far as the host was told whose it is. */
struct printing {
    bool captured;
    int pipes[2];         /* duplicates of stdout and stderr, whatever becomes of these */
    int unread;           /* an epoll on their other ends; -1: could not be had */
    uint64_t written[2];  /* bytes told */
    uint64_t give, first; /* the tasks that have ended since it was looked at, */
    uint64_t count;       /* if any, */
    bool possible;        /* and one of them took long enough to have printed */
    uint32_t alone;       /* tasks to be looked at one by one, so that it can be told */
};

struct scratch {
    uint8_t *bytes;
    size_t capacity;
};

struct process {
    uint8_t *base;
    struct channel_layout at;
    struct channel_control *control;
    int memory, bell;
    struct ring in, relay, out;
    struct arena kept, passing; /* the two parts of the out arena */
    uint64_t release_tail;
    struct farpool_task task;
    struct batch batch;
    struct scratch output;  /* of the task that runs */
    struct scratch aligned; /* a copy of an input that is not aligned */
    uint64_t published_ns;  /* when results were published last */
    uint64_t rung_ns;       /* when the host was woken at a give's end */
    bool unrung;            /* gives have ended since */
    bool worked;            /* since it slept last: worth spinning for more */
    bool has_run, warm;     /* a task; its rings' pages are all there */
    uint32_t spin_rest;     /* waits to go before spinning is tried again */
    uint64_t in_touched;    /* the end of the highest input in the in arena */
    struct printing printing;
};

/* The one of this operating-system process; its memory is valid once attached. */
extern struct process process_self;

/* Whether this is a child that a function forked: it must not serve. */
bool process_is_forked(void);

uint64_t process_now_ns(void);

/* process_wait.c ------------------------------------------------------------------- */

/* Sleeps until ready(user), or until the time; whether it is ready. */
bool process_wait(struct process *self, enum channel_asleep what,
                  bool (*ready)(struct process *self), uint64_t until_ms);
/* Makes what was written visible to the host, and wakes it if it sleeps. */
void process_publish(struct process *self);
/* The same, but it may sleep on: it looks by itself from time to time while there is
 * more; unless much has come together. */
void process_publish_quietly(struct process *self);
/* Room in the out ring; waits for the host to make it. */
void *process_reserve(struct process *self, uint32_t length);

/* process_run.c -------------------------------------------------------------------- */

/* What a give's record says, in private memory. */
struct work {
    struct channel_give *record;
    struct channel_give give;
    const farpool_function *function;
    int code; /* not 0: its tasks fail with it, and with why */
    const char *why;
    const uint8_t *data;
    const uint32_t *sizes; /* NULL: all equal */
    uint64_t each;         /* bytes of an input, when all are equal */
    uint32_t place;        /* task that `at` is the input of */
    uint64_t at;           /* bytes into data */
};

void process_describe(struct process *self, struct work *work,
                      const struct ring_record *record);
/* Runs what is left of a give, and gives its record back. */
void process_run(struct process *self, const struct ring_record *record);
/* Calls a function that is not typed on one input; the task tells how it went. */
void process_call(struct process *self, struct work *work, uint32_t place);

/* process_result.c ----------------------------------------------------------------- */

/* A block of the out arena, waiting for room; ENOMEM. */
int process_alloc(struct process *self, uint64_t bytes, uint64_t *ret_block);
void process_free(struct process *self, uint64_t block);
uint8_t *process_block(struct process *self, uint64_t block);
/* Makes the batch one of typed tasks from `index` on, for the outputs of up to `want` of
 * them, of `size` bytes each: 0 and how many there is room for, or ENOMEM. */
int process_open_typed(struct process *self, uint64_t index, uint32_t want, uint64_t size,
                       uint32_t *ret_room);
/* Adds the output of the task that has just run. */
void process_add_output(struct process *self, uint64_t index, uint64_t elapsed_ns);
/* Writes the batch out, not published yet; it is empty then. */
void process_flush(struct process *self);
/* The same for the tasks that are finished, while another one of the batch runs. */
void process_flush_finished(struct process *self);
/* Writes out that a task failed, behind the batch. kind: CHANNEL_FAILED or
 * CHANNEL_START_FAILED. */
void process_write_failed(struct process *self, uint16_t kind, uint64_t give,
                          uint64_t index, int code, const char *message,
                          const char *backtrace);
/* Frees what is not needed while nothing happens. */
void process_trim(struct process *self);

/* task.c --------------------------------------------------------------------------- */

void process_set_task(farpool_task *task); /* of this thread; NULL: none */
bool process_scratch(struct scratch *scratch, size_t need); /* false: no memory */
/* Marks it as failed by the library. Returns code. */
int process_task_fail(farpool_task *task, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void process_note_backtrace(char *text, size_t size);

/* args.c --------------------------------------------------------------------------- */

/* Unpacks the task's input, calls its function, packs its result. */
int process_call_args(farpool_task *task);

/* process_relay.c ------------------------------------------------------------------ */

/* Drops what came for a client that is gone. */
void process_relay_discard(struct process *self);

/* process_shared.c ----------------------------------------------------------------- */

/* Something was unshared; then, between two tasks, what is mapped is let go of. */
bool process_shared_changed(const struct process *self);
void process_shared_look(struct process *self);

/* process_output.c ----------------------------------------------------------------- */

void process_output_open(struct process *self);
/* Tasks have ended, in this time all together: flushes stdio, and tells the host if
 * something was printed; or leaves that to process_output_settle. Before another task is
 * named. */
void process_output_mark(struct process *self, uint64_t give, uint64_t first,
                         uint32_t count, uint64_t elapsed_ns);
/* Looks after all that have ended since it was looked: before another give's tasks, and
 * before their results are published where printing is possible. */
void process_output_settle(struct process *self);
/* Tells the host what was printed up to here, outside of tasks. */
void process_output_nobody(struct process *self);

/* process_crash.c ------------------------------------------------------------------ */

/* Where this thread is, from the caller outwards: return addresses, how many. */
int process_frames(void **at, int max);
/* Crash handlers, and the separation of children made by fork. */
void process_guard(struct process *self);

#endif
