/* SPDX-License-Identifier: Apache-2.0
 *
 * farpool.h: multiprocessing.Pool across machines, in C.
 *
 * A program calls farpool_init() first in main, registers functions with one of
 * the three macros below, opens a pool and maps inputs over it. With no
 * coordinator named the pool runs on this machine's own cores; with one, on every
 * worker it knows. The calls, their results and their order are the same.
 *
 * Conventions, true of every declaration unless it says otherwise:
 *   - A call returns 0 or a negative FARPOOL_E* code. A `farpool_error *` may be
 *     NULL; otherwise it is filled when, and only when, the call fails.
 *   - Times are in milliseconds; FARPOOL_FOREVER (-1) waits without limit, and
 *     always ends with a result or a reason, never in a hang.
 *   - The caller keeps what it passes, and may reuse it when the call returns.
 *     Returned pointers to data are borrowed; the text says until when.
 *   - Pools, jobs and iterators may be used from any thread, except that freeing
 *     one must be the last use of it. Nothing here is async-signal-safe.
 *   - In a child made by fork() every call on a pool opened before the fork fails
 *     with FARPOOL_EFORK.
 *   - Names follow CPython's multiprocessing; "as Pool.map" names the source.
 */
#ifndef FARPOOL_H
#define FARPOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FARPOOL_VERSION_MAJOR 0
#define FARPOOL_VERSION_MINOR 1
#define FARPOOL_VERSION_PATCH 0
#define FARPOOL_VERSION "0.1.0"

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define FARPOOL_API __attribute__((visibility("default")))
#define FARPOOL_PRINTF(text, first) __attribute__((__format__(__printf__, text, first)))
#else
#define FARPOOL_API
#define FARPOOL_PRINTF(text, first)
#endif

/* ------------------------------------------------------------------ errors */

/* Every error: X(name, value, text). The values are fixed for ever: the API, the
 * wire and the logs share them. */
#define FARPOOL_ERRORS(X)                                                                \
    X(OK, 0, "no error")                                                                 \
    X(ENOMEM, -1, "out of memory")                                                       \
    X(EINVAL, -2, "invalid argument")                                                    \
    X(ECLOSED, -3, "pool not running")                                                   \
    X(EOPEN, -4, "pool is still running")                                                \
    X(ETIMEDOUT, -5, "timed out")                                                        \
    X(ENOTREADY, -6, "not ready")                                                        \
    X(EFUNCTION, -7, "the function failed")                                              \
    X(ENOFUNCTION, -8, "no such function")                                               \
    X(EPROCESSLOST, -9, "the process was lost")                                          \
    X(ENODELOST, -10, "the node was lost")                                               \
    X(ETASKTIMEOUT, -11, "the task ran longer than its limit")                           \
    X(ECANCELLED, -12, "cancelled")                                                      \
    X(ETOOBIG, -13, "too large")                                                         \
    X(EINPUT, -14, "the input callback failed")                                          \
    X(EINITIALIZER, -15, "the initializer failed")                                       \
    X(ENOTFARPOOL, -16, "not a Farpool program")                                         \
    X(EMACHINE, -17, "built for another machine")                                        \
    X(ELIBRARY, -18, "a shared library is missing")                                      \
    X(ENOCOORDINATOR, -19, "no coordinator there")                                       \
    X(EADDRESS, -20, "bad address")                                                      \
    X(EWORKERLIMIT, -21, "worker limit reached")                                         \
    X(EFORK, -22, "pool belongs to the parent process")                                  \
    X(ENOINIT, -23, "farpool_init was not called")                                       \
    X(ENOSPACE, -24, "no space left")                                                    \
    X(ENOFILES, -25, "too few file descriptors allowed")                                 \
    X(EVERSION, -26, "versions do not match")                                            \
    X(EPROTOCOL, -27, "protocol violation")                                              \
    X(ESYSTEM, -28, "a system call failed")                                              \
    X(EPROGRAM, -29, "the program cannot be started")                                    \
    X(ETERMINATED, -30, "the pool was terminated")                                       \
    X(EFULL, -31, "limit reached")                                                       \
    X(ENOPOOL, -32, "no such pool")                                                      \
    X(EDRAINED, -33, "the node was drained")                                             \
    X(EKEY, -34, "the key was refused")                                                  \
    X(ECPULIMIT, -35, "the task used more CPU time than its limit")                      \
    X(EMEMORYLIMIT, -36, "the task used more memory than its limit")                     \
    X(EEXISTS, -37, "the name is in use")                                                \
    X(ENOJOB, -38, "no such job")                                                        \
    X(ENOSTATE, -39, "no jobs are kept there")

enum {
#define FARPOOL_ERROR_ENUM(name, value, text) FARPOOL_##name = (value),
    FARPOOL_ERRORS(FARPOOL_ERROR_ENUM)
#undef FARPOOL_ERROR_ENUM
};

/* Returned, besides 0, by the calls that step through something: nothing is left. */
#define FARPOOL_END 1

/* As a timeout: wait without limit. */
#define FARPOOL_FOREVER (-1)

/* As an option: let Farpool choose. Zero is never a request to choose, so that a
 * computed 0 is refused instead of silently taken for a default. */
#define FARPOOL_AUTO INT64_MIN

/* As a task's index where no task is concerned. */
#define FARPOOL_NO_INDEX UINT64_MAX

/* What went wrong. The first line of `text` is for people: what was tried, where,
 * with which value, and the limit it met. The rest is set where a task failed. */
typedef struct farpool_error {
    int code;             /* FARPOOL_E* */
    int exit_status;      /* exit status of the task's process, -1 if it did not exit */
    int signal;           /* signal that ended the task's process, 0 if none did */
    int pid;              /* the task's process on its node, 0 if none */
    uint32_t attempt;     /* which try this was, from 1; 0 if no task is concerned */
    uint64_t index;       /* the task's index in its job, or FARPOOL_NO_INDEX */
    char node[64];        /* name of the node, "" if none is concerned */
    char text[512];       /* one line for people */
    char message[1024];   /* what the function itself said (farpool_fail), else "" */
    char backtrace[4096]; /* a line a frame where known, else "" */
} farpool_error;

/* The name ("EINVAL") and the fixed text of a code; never NULL, static. */
FARPOOL_API const char *farpool_error_name(int code);
FARPOOL_API const char *farpool_error_text(int code);

/* The version of the library that is linked, "major.minor.patch"; static. */
FARPOOL_API const char *farpool_version(void);

/* --------------------------------------------------------------- functions */

/* One call of a function on one input, seen from inside it. */
typedef struct farpool_task farpool_task;

struct msgpack_object; /* of msgpack-c, used by the third form only */
struct msgpack_packer;

/* Bytes of any size; data may be NULL when size is 0. */
typedef struct farpool_bytes {
    const void *data;
    size_t size; /* bytes */
} farpool_bytes;

/* A run of consecutive typed tasks; filled by the library, used by the macro below. */
typedef struct farpool_run {
    const void *inputs;
    void *outputs;
    uint64_t count;             /* tasks in this run */
    volatile uint64_t *running; /* which task of the run is under way, for the daemon */
    volatile int failed;        /* set by farpool_fail: the run stops behind this task */
} farpool_run;

enum farpool_form { FARPOOL_TYPED = 1, FARPOOL_BYTES = 2, FARPOOL_ARGS = 3 };

/* A registered function. Made by the macros; not to be filled by hand. */
typedef struct farpool_function {
    const char *name;
    enum farpool_form form;
    uint32_t input_size;               /* bytes of a typed input, else 0 */
    uint32_t output_size;              /* bytes of a typed output, else 0 */
    uint64_t (*run)(farpool_run *run); /* typed: returns how many tasks were begun */
    int (*call)(farpool_task *task);   /* bytes */
    int (*call_args)(farpool_task *task, const struct msgpack_object *arguments,
                     struct msgpack_packer *result); /* args */
    struct farpool_function *next;                   /* the library's own list */
} farpool_function;

/* Registers a function; called by the macros before main. A name registered twice
 * is reported by farpool_init. */
FARPOOL_API void farpool_register(farpool_function *function);

/* The registered function of that name, or NULL. */
FARPOOL_API const farpool_function *farpool_function_find(const char *name);

#ifdef __cplusplus
#define FARPOOL_UNUSED [[maybe_unused]]
#else
#define FARPOOL_UNUSED __attribute__((unused))
#endif

#define FARPOOL_REGISTER_(name)                                                          \
    __attribute__((constructor)) static void farpool_register_##name(void)               \
    {                                                                                    \
        farpool_register(&farpool_function_##name);                                      \
    }

/* The handle of a registered function, for the calls that take any form. */
#define FARPOOL_REF(name) (&farpool_function_##name)

/* FARPOOL_FUNCTION(name, output type, input type), after the definition of
 * `output name(input)`: values of fixed size, checked by the compiler, passed by
 * their bytes (so: no pointers inside). Gives farpool_map(pool, name, ...) and its
 * sisters below their types. Types are single words: typedef what is not. */
#define FARPOOL_FUNCTION(name, output_type, input_type)                                  \
    static uint64_t farpool_run_##name(farpool_run *run)                                 \
    {                                                                                    \
        const input_type *inputs = (const input_type *)run->inputs;                      \
        output_type *outputs = (output_type *)run->outputs;                              \
        const uint64_t count = run->count;                                               \
        for (uint64_t i = 0; i < count; i++) {                                           \
            *run->running = i;                                                           \
            outputs[i] = name(inputs[i]);                                                \
            if (run->failed)                                                             \
                return i + 1;                                                            \
        }                                                                                \
        return count;                                                                    \
    }                                                                                    \
    static farpool_function farpool_function_##name = {#name,                            \
                                                       FARPOOL_TYPED,                    \
                                                       (uint32_t)sizeof(input_type),     \
                                                       (uint32_t)sizeof(output_type),    \
                                                       farpool_run_##name,               \
                                                       NULL,                             \
                                                       NULL,                             \
                                                       NULL};                            \
    FARPOOL_REGISTER_(name)                                                              \
    FARPOOL_UNUSED static inline int farpool_map_##name(                                 \
        farpool_pool *pool, const input_type *inputs, size_t count,                      \
        output_type *outputs, farpool_error *error)                                      \
    {                                                                                    \
        return farpool_map_typed(pool, &farpool_function_##name, inputs, count, outputs, \
                                 NULL, error);                                           \
    }                                                                                    \
    FARPOOL_UNUSED static inline farpool_job *farpool_map_async_##name(                  \
        farpool_pool *pool, const input_type *inputs, size_t count,                      \
        const farpool_job_options *options, farpool_error *error)                        \
    {                                                                                    \
        return farpool_map_async_typed(pool, &farpool_function_##name, inputs, count,    \
                                       options, error);                                  \
    }                                                                                    \
    FARPOOL_UNUSED static inline int farpool_apply_##name(                               \
        farpool_pool *pool, input_type input, output_type *output, farpool_error *error) \
    {                                                                                    \
        return farpool_map_typed(pool, &farpool_function_##name, &input, 1, output,      \
                                 NULL, error);                                           \
    }                                                                                    \
    FARPOOL_UNUSED static inline farpool_job *farpool_apply_async_##name(                \
        farpool_pool *pool, input_type input, const farpool_job_options *options,        \
        farpool_error *error)                                                            \
    {                                                                                    \
        return farpool_map_async_typed(pool, &farpool_function_##name, &input, 1,        \
                                       options, error);                                  \
    }

/* The typed calls, checked by the compiler: `function` is the name given to
 * FARPOOL_FUNCTION, I and O its input and output types.
 *
 * farpool_map(pool, function, const I *inputs, size_t count, O *outputs,
 *             farpool_error *error) -> int
 *     As Pool.map: runs function on each of `count` inputs and fills outputs[count]
 *     in input order. Blocks. Every task runs even when one fails; then the error of
 *     the lowest failed index is returned, and the other outputs are valid.
 * farpool_map_async(pool, function, inputs, count, options, error) -> farpool_job *
 *     As Pool.map_async: copies the inputs, returns at once; NULL on error. The
 *     outputs are read with farpool_job_output().
 * farpool_apply(pool, function, I input, O *output, error) -> int
 *     As Pool.apply: one call; blocks.
 * farpool_apply_async(pool, function, I input, options, error) -> farpool_job *
 *     As Pool.apply_async. */
#define farpool_map(pool, function, inputs, count, outputs, error)                       \
    farpool_map_##function(pool, inputs, count, outputs, error)
#define farpool_map_async(pool, function, inputs, count, options, error)                 \
    farpool_map_async_##function(pool, inputs, count, options, error)
#define farpool_apply(pool, function, input, output, error)                              \
    farpool_apply_##function(pool, input, output, error)
#define farpool_apply_async(pool, function, input, options, error)                       \
    farpool_apply_async_##function(pool, input, options, error)

/* FARPOOL_BYTES_FUNCTION(name), after the definition of `int name(farpool_task *)`:
 * bytes in, bytes out, of any size. It reads farpool_task_input, and writes with
 * farpool_task_output or farpool_task_write; nothing written is an empty output.
 * It returns 0, or any other value to fail (with farpool_fail to say why).
 * An initializer is such a function; its input is the pool's initializer_argument. */
#define FARPOOL_BYTES_FUNCTION(name)                                                     \
    static farpool_function farpool_function_##name = {                                  \
        #name, FARPOOL_BYTES, 0, 0, NULL, name, NULL, NULL};                             \
    FARPOOL_REGISTER_(name)

/* FARPOOL_ARGS_FUNCTION(name), after the definition of
 *     int name(farpool_task *, const struct msgpack_object *arguments,
 *              struct msgpack_packer *result)
 * several values in, as a msgpack array, and one msgpack value out: for starmap.
 * farpool_unpack() reads the arguments without touching msgpack-c. */
#define FARPOOL_ARGS_FUNCTION(name)                                                      \
    static farpool_function farpool_function_##name = {#name, FARPOOL_ARGS, 0,    0,     \
                                                       NULL,  NULL,         name, NULL}; \
    FARPOOL_REGISTER_(name)

/* The first line of main. Removes Farpool's own arguments from argv, if any.
 * In a process that a pool started it never returns: it serves the pool's tasks and
 * exits. Returns 0; FARPOOL_EINVAL when a pointer is NULL or a function name was
 * registered twice (both are named on stderr). */
FARPOOL_API int farpool_init(int *argc, char ***argv);

/* ------------------------------------------------- inside a function's call */

/* The task that this thread is running, or NULL outside of one: how a typed function
 * reaches the calls below. */
FARPOOL_API farpool_task *farpool_task_current(void);

/* The input: borrowed until the call ends, aligned to 16 bytes; for a bytes function.
 * It may lie in shared memory, and is read in place. */
FARPOOL_API const void *farpool_task_input(const farpool_task *task, size_t *ret_size);

/* Room for an output of exactly `size` bytes, to be written in place (in shared
 * memory); replaces what was written before. NULL if it cannot be had: the call has
 * then been marked as failed with FARPOOL_ETOOBIG or FARPOOL_ENOMEM, and only needs
 * to return. Valid until the call ends. */
FARPOOL_API void *farpool_task_output(farpool_task *task, size_t size);

/* Appends a copy of `size` bytes to the output. 0 or an error as above. */
FARPOOL_API int farpool_task_write(farpool_task *task, const void *data, size_t size);

/* Marks the task as failed with a message for the caller (printf's format; up to 1023
 * bytes are kept) and notes a backtrace. Returns FARPOOL_EFUNCTION, so that a function
 * can end with `return farpool_fail(task, "no such key: %s", key);`. */
FARPOOL_API int farpool_fail(farpool_task *task, const char *format, ...)
    FARPOOL_PRINTF(2, 3);

FARPOOL_API uint64_t
farpool_task_index(const farpool_task *task); /* in its job, from 0 */
FARPOOL_API uint32_t farpool_task_attempt(const farpool_task *task); /* from 1 */
FARPOOL_API const char *
farpool_task_node(const farpool_task *task); /* this node's name */

/* Whether the task was cancelled, its job given up or its pool terminated; cheap
 * enough for an inner loop. */
FARPOOL_API bool farpool_task_cancelled(const farpool_task *task);

/* Tells how far the task is, done of total (total > 0), for whoever watches the job. */
FARPOOL_API void farpool_task_progress(farpool_task *task, uint64_t done, uint64_t total);

/* Reads the elements of a msgpack array, one per letter of `format`, into pointers:
 * i int64_t*, u uint64_t*, d double* (integers too), b bool*, s const char** and
 * size_t* (text, borrowed from the input, not 0-terminated), r the same of raw bytes.
 * FARPOOL_EINVAL when the count or a type does not fit; then, if task is not NULL, it
 * is marked as failed, naming the argument. */
FARPOOL_API int farpool_unpack(farpool_task *task, const struct msgpack_object *arguments,
                               const char *format, ...);

/* ------------------------------------------------------------------- pools */

typedef struct farpool_pool farpool_pool;

/* A line that a process of a pool printed, on its stdout or stderr; or, with text NULL,
 * how many were left out there (left_out). Borrowed during the call. */
typedef struct farpool_output {
    const char *node;  /* name of the node; "": of several */
    int pid;           /* of the process there; 0 with text NULL */
    int fd;            /* 1: stdout, 2: stderr; 0 with text NULL */
    uint64_t job;      /* its number, as in farpool_job_status; 0 without a task */
    uint64_t index;    /* of the task that printed it; FARPOOL_NO_INDEX: none did, but the
                          initializer, or a thread that went on behind its task */
    uint64_t tasks;    /* 1; more: one of so many from index on, too short to tell which;
                          0 without a task */
    uint32_t attempt;  /* of that task, from 1; 0 without one */
    const char *text;  /* the line as it was printed, any byte but a newline in it; longer
                          ones than 16 KiB come in pieces. Not terminated by a 0 */
    size_t size;       /* bytes of it */
    uint64_t left_out; /* lines of this pool there, in front of the next one */
} farpool_output;

typedef void (*farpool_output_callback)(void *user, const farpool_output *output);

/* As farpool_pool_options.output: nothing that is printed is brought here. */
#define FARPOOL_OUTPUT_NONE 1

/* Options of a pool. Always begin with FARPOOL_POOL_OPTIONS, then set what differs:
 *     farpool_pool_options options = FARPOOL_POOL_OPTIONS;
 *     options.processes = 4; */
typedef struct farpool_pool_options {
    size_t struct_size;
    int64_t processes;       /* 1 to 65536; AUTO: every slot there is, now and later */
    const char *initializer; /* name of a bytes function, run once in each process */
    farpool_bytes initializer_argument; /* at most 64 MiB */
    int64_t tasks_per_process; /* >= 1: replace a process after so many; AUTO: never */
    int64_t chunk_size;        /* >= 1 tasks; AUTO: from measured task times */
    int64_t task_timeout_ms;   /* >= 1, then the process is killed; AUTO: no limit */
    int64_t retries;    /* 0 to 1000 more tries when a task fails or times out; AUTO: 0 */
    int64_t losses_max; /* 1 to 1000: a task fails when it has lost so many processes or
                           nodes, see below; AUTO: 3; 1: a task is never run twice */
    int64_t priority;   /* -1000 to 1000, higher first among this pool's jobs; AUTO: 0 */
    int64_t tasks_under_way;  /* >= 1: how much input may be pulled ahead of the results
                                 that were read; AUTO: by memory and task times */
    int64_t bytes_under_way;  /* >= 1 bytes of the same; AUTO: 64 MiB */
    const char *program;      /* path of another Farpool program to run; NULL: this one */
    const char *const *files; /* NULL-ended paths, put beside the program on each node;
                                 they are in the current folder of each process;
                                 NULL: none */
    int64_t connect_timeout_ms; /* >= 1; AUTO: 5000 */
    int64_t output;             /* what processes print; AUTO: it comes here, see below;
                                   FARPOOL_OUTPUT_NONE: not from workers */
    farpool_output_callback on_output; /* NULL: written to stdout and stderr */
    void *output_user;                 /* its first argument */
    int64_t task_cpu_ms; /* >= 1 ms of CPU time, then the process is killed; AUTO: no
                            limit; see below */
    int64_t task_memory_bytes; /* >= 1 bytes of memory, the same */
    int64_t speculate; /* 1: slow tasks at a job's end run a second time elsewhere, see
                          below; AUTO: 0; not with losses_max 1 */
} farpool_pool_options;

/* Limits of a task: task_timeout_ms is the time that passes while it runs, task_cpu_ms
 * what it computes, in all of its threads and in all processes that it starts;
 * task_memory_bytes what its process and those have for themselves, in RAM or swap,
 * without files and shared memory. A process that is over a limit is killed, with all
 * that it started; the task fails with ETASKTIMEOUT, ECPULIMIT or EMEMORYLIMIT, naming
 * limit, value and node, and is tried again while `retries` are left. CPU time and memory
 * are looked at ten times a second: what is over for less than that may go unseen, and a
 * task may be well over before it is. */

/* Losses: a task that was running in a process that ends has lost it; one that only
 * waited there has not. The same of nodes, but that the first one that goes with a task
 * is not counted, since nobody knows what had begun there: only from then on it is (with
 * many short tasks, from the third one on). So a task that kills its node each time does
 * so once or some times more than losses_max, and fails with ENODELOST; what ran or
 * waited beside it does not. With losses_max 1 a task that was at a node that went fails:
 * it may have run. */

/* Speculation, for jobs that one slow or stuck node must not hold up: when nothing of a
 * job waits and slots are idle, tasks of it that have run for twice as long as its others
 * did, and for 50 ms, are given to a second worker too. The first result is the task's,
 * the other run is killed; a failure, a limit or a loss counts when both have come to
 * that. So functions must bear to run twice at the same time, as with losses_max they
 * must bear to run twice at all: losses_max 1 together with speculate is EINVAL. What
 * both print comes here. Second runs take idle slots only, and give them back when
 * something else wants them. An embedded pool has no second node: nothing happens. */

/* What processes print: on workers, lines of their stdout and stderr come to the program
 * that opened the pool, while tasks run. Those of a task come before a call that waits
 * for its result returns, as far as its process was alive at its end: stdio is flushed
 * when a task returns. on_output is called for each, on the pool's own thread, and no
 * other callback meanwhile; it may submit, and may wait for what it submits, but not for
 * a thread that waits for results of this pool. Without it they are written to stdout and
 * stderr, each as a line of its own behind "[NODE INDEX] ", with control characters
 * replaced. It is all best effort: lines may be lost with a connection or a process, none
 * comes twice; and who prints more than about 1 MB a second is cut, and told how many
 * lines were left out. Embedded, processes have the program's own stdout and stderr,
 * unless on_output is set. Of a pool opened inside a task this is ignored: its processes
 * are those of the outer pool. */

/* Where processes of a pool run: on a worker each starts in a folder of its own, with the
 * pool's files, removed when it ends; TMPDIR is that folder. Embedded, they start in the
 * current folder of the program that opened the pool, or, when files are named, in one
 * folder for all of them. They have the worker's environment variables (embedded: the
 * program's) as its options tell, and FARPOOL_NODE and FARPOOL_SLOT: the node's name, and
 * 0 to slots - 1, which differ between processes that run at a time, as far as a pool has
 * a process for each slot; by it a worker may also give out cores and other resources.
 *
 * What a task starts and leaves behind lives as long as its process at most, whatever
 * ends that, also as a daemon in a session of its own: it is killed. For the case that
 * this program is killed, an embedded pool has one more child, the guardian
 * ("farpool-guard"), from its first process on until it is freed (docs/shared-memory.md,
 * "Remains"). */

#define FARPOOL_POOL_OPTIONS                                                             \
    {                                                                                    \
        sizeof(farpool_pool_options), FARPOOL_AUTO, NULL, {NULL, 0}, FARPOOL_AUTO,       \
            FARPOOL_AUTO, FARPOOL_AUTO, FARPOOL_AUTO, FARPOOL_AUTO, FARPOOL_AUTO,        \
            FARPOOL_AUTO, FARPOOL_AUTO, NULL, NULL, FARPOOL_AUTO, FARPOOL_AUTO, NULL,    \
            NULL, FARPOOL_AUTO, FARPOOL_AUTO, FARPOOL_AUTO                               \
    }

/* Opens a pool, as Pool().
 * address: "tcp://127.0.0.1:5764" names a coordinator; NULL takes the environment's
 *   FARPOOL_COORDINATOR, and if that is unset or empty the pool is embedded: its
 *   processes run on this machine, with no daemon. Inside a task NULL opens the pool
 *   that the task runs in: to be used by the task's own thread only, and once at a time
 *   (EFULL); of the options only those of jobs matter there. Waiting for its jobs lends
 *   the task's slot to others. A coordinator that uses keys (every one that is not on
 *   this machine does) wants the environment's FARPOOL_KEY: the path of a key file, as
 *   made by `farpool keys add`, which only this user may read. Short tasks go straight to
 *   those of its workers that can be reached from here, unless FARPOOL_LANES is "none".
 * options: NULL for all defaults.
 * Returns the pool, to be ended with farpool_pool_free, or NULL with *error filled:
 *   ENOINIT, EINVAL (an option, by name), EADDRESS, ENOCOORDINATOR (nothing answered
 *   within connect_timeout_ms), EKEY (the key was refused, or its file is not as it must
 *   be), EVERSION, ENOFUNCTION (initializer), EPROGRAM, EMACHINE
 *   (embedded), EFULL, ENOFILES, ENOMEM, ESYSTEM. Blocks until the coordinator answered,
 * not for workers. */
FARPOOL_API farpool_pool *farpool_open(const char *address,
                                       const farpool_pool_options *options,
                                       farpool_error *error);

/* No new work; what was submitted finishes. As Pool.close. ECLOSED if it was ended. */
FARPOOL_API int farpool_close(farpool_pool *pool, farpool_error *error);

/* Stops now: running tasks are killed, unfinished jobs end with ETERMINATED. As
 * Pool.terminate. Never fails on a pool that is there. */
FARPOOL_API int farpool_terminate(farpool_pool *pool, farpool_error *error);

/* Waits until all is done and the processes have ended; only after farpool_close or
 * farpool_terminate, else EOPEN. As Pool.join. Waits for callbacks too; inside one of the
 * same pool only for the processes, since the others come after it. */
FARPOOL_API int farpool_join(farpool_pool *pool, int64_t timeout_ms,
                             farpool_error *error);

/* Frees the pool; NULL is allowed. A pool that was not closed or terminated is
 * terminated first, and told on stderr when it had work left; one that was closed ends
 * its work first, as farpool_join. Jobs and iterators of the pool stay readable until
 * they are freed themselves. Not inside a callback of the
 * same pool, which it would wait for: there it does nothing but say so on stderr. */
FARPOOL_API void farpool_pool_free(farpool_pool *pool);

/* How the pool stands. */
typedef struct farpool_pool_info {
    bool embedded;
    uint64_t nodes;             /* that run, or may run, this pool's processes */
    uint64_t slots;             /* places for processes on those nodes */
    uint64_t processes;         /* alive */
    uint64_t processes_started; /* ever, in this pool */
    uint64_t tasks_waiting, tasks_running, tasks_done, tasks_failed;
    bool connected; /* to the coordinator; true when embedded */
} farpool_pool_info;
FARPOOL_API int farpool_pool_get_info(farpool_pool *pool, farpool_pool_info *ret_info,
                                      farpool_error *error);

/* The latest reason why a node cannot run this pool (another machine type, a missing
 * library, a full disk) while others can: 0 and *ret_warning filled, or FARPOOL_END. */
FARPOOL_API int farpool_pool_warning(farpool_pool *pool, farpool_error *ret_warning);

/* ------------------------------------------------------------ shared inputs */

/* A large input that many tasks read: it goes to each node of the pool once, is in its
 * memory once, and is read in place by all processes there. Plain data: put it into the
 * inputs of tasks (a typed function may take it), of nested ones too. */
typedef struct farpool_shared {
    uint8_t pool[16]; /* of the pool that shares it */
    uint64_t number;  /* of the input there, from 1 */
    uint64_t size;    /* bytes */
} farpool_shared;

/* Shares size bytes at data, 1 to 256 GiB (which is also the limit of all that a pool
 * shares at a time, in at most 256 inputs). They are copied once, so data may be freed
 * when the call returns; whoever has no memory for that shares a file. *ret_shared is for
 * any task that is submitted from now on; it ends with farpool_unshare or the pool.
 *
 * Embedded, the copy is what processes read. On a cluster it is also hashed here (about a
 * second for a GiB), and comes to each node when it begins to work for the pool: from the
 * other nodes, as far as they can reach each other, the client giving each part about
 * once. Nodes begin no task of the pool until all is there that was shared before, and
 * that time counts for no limit of a task. A node without room for it (farpool-worker
 * --share-max) runs the tasks all the same, and farpool_shared_get tells them.
 *
 * Blocks while it copies and hashes. ENOMEM; ETOOBIG and EFULL: the limits above; EINVAL:
 * NULL, no bytes, or a pool that was opened inside a task; ENOFILES; ECLOSED, EFORK. */
FARPOOL_API int farpool_share(farpool_pool *pool, const void *data, size_t size,
                              farpool_shared *ret_shared, farpool_error *error);

/* The same of a file's content, which takes no memory of this program. The file must stay
 * as it is until the input is unshared: embedded, processes read the file itself; on a
 * cluster a node that is given something else than what was hashed fails the tasks'
 * farpool_shared_get with EPROGRAM. ESYSTEM: it cannot be read. */
FARPOOL_API int farpool_share_file(farpool_pool *pool, const char *path,
                                   farpool_shared *ret_shared, farpool_error *error);

/* Ends one: its memory is free, here and on nodes, as soon as no task that has used it
 * runs. Tasks that ask for it later are told EINVAL. ENOPOOL: another pool's; EINVAL:
 * NULL, or it was unshared before. Does not block. */
FARPOOL_API int farpool_unshare(farpool_pool *pool, const farpool_shared *shared,
                                farpool_error *error);

/* Inside a function, on its own thread: where the bytes are. *ret_bytes is good until the
 * task ends, may be read by any thread of the process, and is the same memory in all
 * processes of the node, which none can write to. The first call of a process asks the
 * node for it, some tens of microseconds; later ones find it.
 *
 * ENOPOOL: it is another pool's than this task's; EINVAL: it was unshared, or this is no
 * function's thread; ENOSPACE: the node had no room, the text names node, size and limit;
 * EPROGRAM: the client could not give it, since its file was changed or cannot be read;
 * ENOMEM, ENOFILES; EFORK: in a child made by fork. The task goes on, and may fail with
 * the error's text (farpool_fail). */
FARPOOL_API int farpool_shared_get(const farpool_shared *shared, farpool_bytes *ret_bytes,
                                   farpool_error *error);

/* -------------------------------------------------------------------- jobs */

/* One map, starmap or apply, and its results. */
typedef struct farpool_job farpool_job;

/* Called once when a job is done, on the pool's own thread, before the job is ready. It
 * may submit, wait and read the job's results; while it runs no other callback does. In a
 * pool that was opened inside a task: on the thread of that task, while it waits. */
typedef void (*farpool_callback)(farpool_job *job, void *user);
typedef void (*farpool_error_callback)(farpool_job *job, const farpool_error *error,
                                       void *user);

/* Options of one job; AUTO takes the pool's. Begin with FARPOOL_JOB_OPTIONS. */
typedef struct farpool_job_options {
    size_t struct_size;
    int64_t chunk_size, task_timeout_ms, retries, losses_max, priority;
    int64_t tasks_under_way, bytes_under_way;
    farpool_callback callback;             /* every task succeeded */
    farpool_error_callback error_callback; /* else; lowest failed index */
    void *user;
    int64_t task_cpu_ms, task_memory_bytes;
    int64_t speculate; /* 0 or 1 */
} farpool_job_options;

#define FARPOOL_JOB_OPTIONS                                                              \
    {                                                                                    \
        sizeof(farpool_job_options), FARPOOL_AUTO, FARPOOL_AUTO, FARPOOL_AUTO,           \
            FARPOOL_AUTO, FARPOOL_AUTO, FARPOOL_AUTO, FARPOOL_AUTO, NULL, NULL, NULL,    \
            FARPOOL_AUTO, FARPOOL_AUTO, FARPOOL_AUTO                                     \
    }

/* The typed calls behind the macros. options may be NULL. EINVAL when the function is
 * not typed, or a pointer is NULL with count > 0. */
FARPOOL_API int farpool_map_typed(farpool_pool *pool, const farpool_function *function,
                                  const void *inputs, size_t count, void *outputs,
                                  const farpool_job_options *options,
                                  farpool_error *error);
FARPOOL_API farpool_job *farpool_map_async_typed(farpool_pool *pool,
                                                 const farpool_function *function,
                                                 const void *inputs, size_t count,
                                                 const farpool_job_options *options,
                                                 farpool_error *error);

/* The same for inputs of any size and functions of any form: items[count], each one
 * input. The job holds the outputs. farpool_map_bytes blocks until every task ended;
 * when tasks failed it returns the lowest index's error and still sets *ret_job, so
 * that every outcome can be read; *ret_job is NULL only if nothing was submitted. */
FARPOOL_API int farpool_map_bytes(farpool_pool *pool, const farpool_function *function,
                                  const farpool_bytes *items, size_t count,
                                  const farpool_job_options *options,
                                  farpool_job **ret_job, farpool_error *error);
FARPOOL_API farpool_job *farpool_map_bytes_async(farpool_pool *pool,
                                                 const farpool_function *function,
                                                 const farpool_bytes *items, size_t count,
                                                 const farpool_job_options *options,
                                                 farpool_error *error);

/* A list of inputs that owns its bytes: for starmap, packed from C values. */
typedef struct farpool_list farpool_list;
FARPOOL_API farpool_list *farpool_list_create(void); /* NULL: out of memory */
FARPOOL_API void farpool_list_free(farpool_list *list);
FARPOOL_API size_t farpool_list_count(const farpool_list *list);
/* Adds a copy of some bytes as one item. */
FARPOOL_API int farpool_list_add(farpool_list *list, const void *data, size_t size);
/* Adds one item, a msgpack array of one value per letter of `format`: i int64_t,
 * u uint64_t, d double, b int (bool), s const char * (0-terminated), r const void * and
 * size_t. Integers must be passed as these types: farpool_list_pack(l, "id",
 * (int64_t)n, 0.5). */
FARPOOL_API int farpool_list_pack(farpool_list *list, const char *format, ...);

/* As Pool.starmap and Pool.starmap_async: each item of the list is the arguments of
 * one call of a FARPOOL_ARGS_FUNCTION. Otherwise as farpool_map_bytes. */
FARPOOL_API int farpool_starmap(farpool_pool *pool, const farpool_function *function,
                                const farpool_list *arguments,
                                const farpool_job_options *options, farpool_job **ret_job,
                                farpool_error *error);
FARPOOL_API farpool_job *farpool_starmap_async(farpool_pool *pool,
                                               const farpool_function *function,
                                               const farpool_list *arguments,
                                               const farpool_job_options *options,
                                               farpool_error *error);

/* One call with bytes. As Pool.apply; *ret_job (never NULL on success) holds the output.
 */
FARPOOL_API int farpool_apply_bytes(farpool_pool *pool, const farpool_function *function,
                                    const void *data, size_t size, farpool_job **ret_job,
                                    farpool_error *error);
FARPOOL_API farpool_job *farpool_apply_bytes_async(farpool_pool *pool,
                                                   const farpool_function *function,
                                                   const void *data, size_t size,
                                                   const farpool_job_options *options,
                                                   farpool_error *error);

/* AsyncResult.get: waits, then returns 0, or the error of the lowest failed index, or
 * ETIMEDOUT at the deadline (the job goes on). May be called again. */
FARPOOL_API int farpool_job_get(farpool_job *job, int64_t timeout_ms,
                                farpool_error *error);
/* AsyncResult.wait: 0 when every task has ended, however; else ETIMEDOUT. */
FARPOOL_API int farpool_job_wait(farpool_job *job, int64_t timeout_ms);
/* AsyncResult.ready. */
FARPOOL_API bool farpool_job_ready(farpool_job *job);
/* AsyncResult.successful: 1 yes, 0 no, ENOTREADY while tasks are left. */
FARPOOL_API int farpool_job_successful(farpool_job *job);

/* Cancels the tasks that have not ended; they end with ECANCELLED. kill: also stop
 * those running (their processes are replaced); otherwise those finish or notice
 * farpool_task_cancelled, and their results are dropped. Returns how many were
 * cancelled, from 0. */
FARPOOL_API int64_t farpool_job_cancel(farpool_job *job, bool kill);
/* The same for one task: 1 cancelled, 0 it had ended already; EINVAL beyond the end. */
FARPOOL_API int farpool_job_cancel_task(farpool_job *job, uint64_t index, bool kill);

/* How many tasks the job has, and one task's outcome: 0 (succeeded), ENOTREADY, or its
 * error. EINVAL beyond the end. */
FARPOOL_API uint64_t farpool_job_count(const farpool_job *job);
FARPOOL_API int farpool_job_outcome(farpool_job *job, uint64_t index,
                                    farpool_error *error);
/* One task's output: borrowed until the job is freed; NULL if it has none (yet, or it
 * failed). *ret_size may be NULL. An empty output is a non-NULL pointer and size 0. */
FARPOOL_API const void *farpool_job_output(farpool_job *job, uint64_t index,
                                           size_t *ret_size);
/* All outputs of a ready typed job, contiguous, in order; NULL if not typed or not
 * ready. Where a task failed its bytes are zero. */
FARPOOL_API const void *farpool_job_outputs(farpool_job *job);
/* Frees the job and its outputs; NULL is allowed. One that is not ready is cancelled, and
 * what runs of it is killed; its callback is not called any more. Waits for a callback of
 * this job that is running, unless called from it. */
FARPOOL_API void farpool_job_free(farpool_job *job);

/* Where a job stands. total is 0 while the input's end is not known. Of one of many calls
 * of apply_async that are under way at once, running and running_share are estimates. */
typedef struct farpool_progress {
    uint64_t total, done, failed, running, waiting; /* tasks; done includes failed */
    double running_share; /* sum over running tasks of what farpool_task_progress told */
} farpool_progress;
FARPOOL_API int farpool_job_progress(farpool_job *job, farpool_progress *ret_progress);

/* concurrent.futures.as_completed: waits for any job of jobs[count] that is not NULL to
 * be ready and gives its place; the caller sets that entry to NULL and calls again.
 * FARPOOL_END when all entries are NULL; ETIMEDOUT. The jobs may be of several pools
 * only if these are of one thread's using. */
FARPOOL_API int farpool_as_completed(farpool_job *const *jobs, size_t count,
                                     int64_t timeout_ms, size_t *ret_place);

/* --------------------------------------------------------------- iterators */

/* A lazy map: input is pulled only as fast as results are read. */
typedef struct farpool_iterator farpool_iterator;

/* Gives the next input: sets *ret_item (its bytes may be reused at the next call) and
 * returns 0; FARPOOL_END when there is none; any negative value to fail: iteration then
 * ends with EINPUT at that place. Called by the thread that is in farpool_imap or
 * farpool_next, one call at a time; while it blocks, so does that call, whatever its
 * timeout. `message` may be filled on failure. */
typedef int (*farpool_input)(void *user, farpool_bytes *ret_item, char message[256]);

/* As Pool.imap (results in input order) and Pool.imap_unordered (as they finish). A
 * failed task is told at its place by farpool_next, and iteration goes on. NULL on
 * error. Free the iterator before the memory that `user` points to. */
FARPOOL_API farpool_iterator *
farpool_imap(farpool_pool *pool, const farpool_function *function, farpool_input input,
             void *user, const farpool_job_options *options, farpool_error *error);
FARPOOL_API farpool_iterator *farpool_imap_unordered(farpool_pool *pool,
                                                     const farpool_function *function,
                                                     farpool_input input, void *user,
                                                     const farpool_job_options *options,
                                                     farpool_error *error);

/* IMapIterator.next(timeout): 0 and *ret_output (borrowed until the next call on this
 * iterator) and, if not NULL, *ret_index; FARPOOL_END; ETIMEDOUT (call again); or the
 * error of the task at this place, whose index is in *ret_index and *error. */
FARPOOL_API int farpool_next(farpool_iterator *iterator, int64_t timeout_ms,
                             farpool_bytes *ret_output, uint64_t *ret_index,
                             farpool_error *error);
FARPOOL_API int farpool_iterator_progress(farpool_iterator *iterator,
                                          farpool_progress *ret_progress);
/* Frees it; what is still under way is cancelled, and killed where it runs. NULL is
 * allowed. */
FARPOOL_API void farpool_iterator_free(farpool_iterator *iterator);

/* ---------------------------------------------------------- detached jobs */

/* A job that is left with a coordinator that keeps them (--state FOLDER): it goes on when
 * the program that submitted it, or the coordinator, has ended, and its results wait
 * until somebody forgets them, or until they expire (--detached-keep). Its tasks may run
 * again when the coordinator was restarted, so at-most-once cannot be had; each has one
 * result.
 *
 * All of it blocks until the coordinator at address (NULL: FARPOOL_COORDINATOR) answers.
 * There are no detached jobs without one (EADDRESS): an embedded pool has no daemon to
 * leave them with. FARPOOL_KEY is used as farpool_open does; a job belongs to the key
 * that submitted it, and to another key's holder there is none of that name (ENOJOB),
 * unless it is an admin, who may also say OWNER/NAME. ENOSTATE: it keeps none. */

/* Submits: one task of function for each input that `input` gives (as for farpool_imap;
 * the same function may run on a million of them, they are not kept in memory). name: 1
 * to 63 letters, digits, and . _ - which none of this key's jobs has. options: program,
 * files, processes, tasks_per_process, initializer and its argument, chunk_size,
 * task_timeout_ms, task_cpu_ms, task_memory_bytes, retries, losses_max, speculate and
 * connect_timeout_ms count, as for farpool_open;
 * NULL: all defaults. Returns 0 when all of it is on the coordinator's disk. On any error
 * there is no job, but where the connection broke behind the last word: then the text
 * says so. EEXISTS: the name is in use; EFULL: the coordinator's limit, which the text
 * names; ENOSPACE: its disk is full; EINPUT; EINVAL: name, option, or an input that is
 * not of a typed function's size; EKEY; ENOCOORDINATOR; what farpool_open says of
 * programs. */
FARPOOL_API int farpool_submit(const char *address, const char *name,
                               const farpool_function *function, farpool_input input,
                               void *user, const farpool_pool_options *options,
                               farpool_error *error);

/* How a detached job stands. */
typedef struct farpool_detached_status {
    char name[64], owner[64], function[64], program[64]; /* owner: "" without keys */
    char state[16];   /* filling (being submitted), waiting, running, stalled; ended,
                         cancelled or failed: it is over */
    int code;         /* stalled, cancelled, failed: FARPOOL_E*, else 0; */
    char reason[256]; /* the same for people */
    uint64_t tasks, done,
        failed;            /* done: succeeded; those with a result are on the disk */
    uint64_t bytes;        /* of inputs and results */
    uint64_t submitted_ms; /* since 1970, by the coordinator's clock */
    uint64_t left_s;       /* over: for how long it is kept, not counting time without a
                              coordinator */
    bool over;
} farpool_detached_status;

/* Lists the jobs that one may see, *ret_count of them, the oldest first; to be
 * freed with farpool_detached_list_free (which takes NULL). */
FARPOOL_API int farpool_detached_list(const char *address, int64_t timeout_ms,
                                      farpool_detached_status **ret_list,
                                      size_t *ret_count, farpool_error *error);
FARPOOL_API void farpool_detached_list_free(farpool_detached_status *list);

/* A detached job and a place in its results; for one thread at a time. */
typedef struct farpool_detached farpool_detached;

/* Attaches to a job by its name, from any program. NULL on error: ENOJOB. */
FARPOOL_API farpool_detached *farpool_attach(const char *address, const char *name,
                                             int64_t timeout_ms, farpool_error *error);
/* Frees the handle; the job stays. NULL is allowed. */
FARPOOL_API void farpool_detached_free(farpool_detached *detached);

FARPOOL_API int farpool_detached_get_status(farpool_detached *detached,
                                            int64_t timeout_ms,
                                            farpool_detached_status *ret_status,
                                            farpool_error *error);
/* Waits until the job is over, however: 0 if every task has a result, else the job's
 * code; ETIMEDOUT. A coordinator that goes and comes back meanwhile is waited for. */
FARPOOL_API int farpool_detached_wait(farpool_detached *detached, int64_t timeout_ms,
                                      farpool_error *error);
/* The next result in the order of inputs, as farpool_next: *ret_output is borrowed until
 * the next call on this handle. About 1 MiB of results is held at a time. FARPOOL_END;
 * ETIMEDOUT (call again); or the error of the task at this place, which for one without a
 * result is its job's. Results stay with the coordinator until farpool_detached_forget.
 */
FARPOOL_API int farpool_detached_next(farpool_detached *detached, int64_t timeout_ms,
                                      farpool_bytes *ret_output, uint64_t *ret_index,
                                      farpool_error *error);
/* Cancels what has not ended, and kills what runs; results that are there stay. One that
 * is over is left as it is. *ret_tasks (may be NULL): tasks without a result. */
FARPOOL_API int farpool_detached_cancel(farpool_detached *detached, int64_t timeout_ms,
                                        uint64_t *ret_tasks, farpool_error *error);
/* Removes the job and its results. EOPEN: it is not over, cancel it first. */
FARPOOL_API int farpool_detached_forget(farpool_detached *detached, int64_t timeout_ms,
                                        farpool_error *error);

/* ------------------------------------------------------------- the cluster */

typedef struct farpool_node_status {
    char name[64], machine[32], state[16], labels[256];
    uint64_t slots, memory_bytes, processes, tasks_running, tasks_assigned, tasks_done;
    uint64_t lanes; /* to clients and other nodes, past the coordinator, that are up */
    uint64_t connected_ms; /* how long it has been there */
} farpool_node_status;

/* A worker that went: killed, cut off, silent, drained. */
typedef struct farpool_gone_status {
    char name[64], why[128];
    uint64_t tasks;  /* that it had: they are run elsewhere, or lost (losses_max) */
    uint64_t ago_ms; /* when */
} farpool_gone_status;

typedef struct farpool_pool_status {
    char id[33], program[64], client_host[64];
    uint64_t client_pid, processes, jobs;
    uint64_t tasks_waiting; /* for a node, as far as its client has told of them */
    uint64_t tasks_running, tasks_done;
} farpool_pool_status;

typedef struct farpool_job_status {
    char pool[33], function[64], client_host[64]; /* whoever opened the job */
    uint64_t client_pid, job, tasks_waiting, tasks_running, tasks_done;
    uint64_t tasks_failed; /* among those done; one that is tried again counts again */
    int64_t priority;
    /* Why tasks wait: settling, no-workers, draining, failed, limit, busy, window or
     * dealing, and the same for people; both empty while none waits. */
    char why[16], reason[1024];
    uint64_t tasks_twice; /* that are at two nodes (speculate); each counts once above */
} farpool_job_status;

/* What a coordinator knows now. */
typedef struct farpool_cluster_status {
    char coordinator_version[32];
    uint64_t uptime_ms, clients;
    size_t nodes_count, pools_count, jobs_count;
    size_t gone_count; /* 16 at most */
    farpool_node_status *nodes;
    farpool_gone_status *gone; /* the latest first, since the coordinator's start */
    farpool_pool_status *pools;
    farpool_job_status *jobs;
} farpool_cluster_status;

/* Asks the coordinator at address (NULL: FARPOOL_COORDINATOR). Blocks until it has
 * answered or timeout_ms is over: ENOCOORDINATOR. Uses FARPOOL_KEY as farpool_open does;
 * EKEY. Of a coordinator that uses keys, a client's key is shown its own pools and jobs,
 * an admin's all. The result is freed with farpool_cluster_status_free (which takes
 * NULL). */
FARPOOL_API int farpool_cluster_get_status(const char *address, int64_t timeout_ms,
                                           farpool_cluster_status **ret_status,
                                           farpool_error *error);
FARPOOL_API void farpool_cluster_status_free(farpool_cluster_status *status);

/* What follows is an operator's: it concerns other programs' work. All block until the
 * coordinator at address (NULL: FARPOOL_COORDINATOR) has answered or timeout_ms is over:
 * ENOCOORDINATOR. */

/* Cancels a job of a pool (both as the status tells them; pool in full), or, with job 0,
 * all its jobs: the client that opened it is told, and its unfinished tasks end there
 * with ECANCELLED, and so does the input of an iterator. kill: also kill tasks that run;
 * otherwise these finish for nobody, or notice farpool_task_cancelled. *ret_jobs and
 * *ret_tasks (each may be NULL): how many are concerned, as far as the coordinator knows
 * tasks. ENOPOOL; EINVAL: no such job; ENOTREADY: the client has not come back since the
 * coordinator was restarted. */
FARPOOL_API int farpool_cluster_cancel(const char *address, int64_t timeout_ms,
                                       const char *pool, uint64_t job, bool kill,
                                       uint64_t *ret_jobs, uint64_t *ret_tasks,
                                       farpool_error *error);

/* Has every worker of a node's name drain: it finishes what runs, gives back what has not
 * begun, and leaves. Returns when they were told. *ret_workers and *ret_tasks (each may
 * be NULL): how many are concerned. EINVAL: no such node; EDRAINED: it drains already. */
FARPOOL_API int farpool_cluster_drain(const char *address, int64_t timeout_ms,
                                      const char *node, uint64_t *ret_workers,
                                      uint64_t *ret_tasks, farpool_error *error);

/* A join token is one line that lets whoever has it have a worker's key listed by the
 * coordinator: `farpool-worker --join`. It is a secret: give it on by a file of mode 0600
 * or a pipe, never by an argument or the environment. It has only letters, digits and
 * . _ - : / */
typedef struct farpool_token {
    char line[512];
    char id[17]; /* tells of the token without being it; for farpool_cluster_token_revoke
                  */
} farpool_token;

/* Options of a token; AUTO takes the default. Begin with FARPOOL_TOKEN_OPTIONS. */
typedef struct farpool_token_options {
    size_t struct_size;
    const char *address; /* where workers reach the coordinator; NULL: the one asked */
    int64_t expires_ms; /* 1000 to 366 days, by the coordinator's clock; default 1 hour */
    int64_t uses;       /* workers that may join, 1 to 100000; default 1 */
    bool ephemeral;     /* the keys that it enrolled end with it */
} farpool_token_options;

#define FARPOOL_TOKEN_OPTIONS                                                            \
    {                                                                                    \
        sizeof(farpool_token_options), NULL, FARPOOL_AUTO, FARPOOL_AUTO, false           \
    }

/* Makes a token, with an admin's key; options may be NULL. Its secret is made here, and
 * the coordinator only learns the public part. EKEY: no admin's key, or the coordinator
 * uses none; EINVAL names the option; EADDRESS: an address that a token cannot carry. */
FARPOOL_API int farpool_cluster_token(const char *address, int64_t timeout_ms,
                                      const farpool_token_options *options,
                                      farpool_token *ret_token, farpool_error *error);

/* Ends a token by its id; the keys of an ephemeral one end too, and their links are cut
 * within a second or two. EINVAL: no such token, or it is none's id; EKEY. */
FARPOOL_API int farpool_cluster_token_revoke(const char *address, int64_t timeout_ms,
                                             const char *id, farpool_error *error);

/* Uses a token: has a worker's key made and listed, and writes its key file, which must
 * not be there yet, for farpool-worker --key. name: wanted for it, 1 to 63 bytes;
 * ret_name (may be NULL): the one it has, another if that was taken. EINVAL: not a
 * token; EKEY: refused, the text says why and what to do; ESYSTEM: the file. */
FARPOOL_API int farpool_cluster_join(const char *line, int64_t timeout_ms,
                                     const char *name, const char *path,
                                     char ret_name[64], farpool_error *error);

/* Which lines of logs are wanted. Zero is the default of each. */
typedef struct farpool_log_options {
    const char *node; /* of the workers of this name; "coordinator": of the coordinator;
                         NULL: all of them */
    const char *pool; /* an id in full: only what processes of this pool printed */
    uint32_t lines;   /* the last so many in all, at most 10000; 0: 100 */
    bool follow;      /* go on with those that come */
} farpool_log_options;

/* A line; or, with text NULL, why there are none. Borrowed while the callback runs. */
typedef struct farpool_log_line {
    const char *node;  /* empty: the coordinator */
    uint64_t time_ms;  /* since 1970, by the clock of that node */
    int fd;            /* 0: the daemon's own; 1, 2: stdout or stderr of a process */
    const char *level; /* of the daemon's: error, warning, info or debug; else empty */
    const char *pool;  /* of the process's pool; empty */
    int pid;           /* of the process, on that node */
    const char *text;  /* size bytes, any but NUL, and a NUL behind them */
    size_t size;
    uint64_t left_out;  /* text NULL: so many lines there are gone, of all that were
                           written there, whosever they were; or */
    int code;           /* ENODELOST, ETIMEDOUT: that node did not answer, and */
    const char *reason; /* the same for people */
} farpool_log_line;

/* Called on the thread of farpool_cluster_logs. Not 0: no more is wanted. */
typedef int (*farpool_log_callback)(void *user, const farpool_log_line *line);

/* Tells the last lines of the coordinator's and the workers' logs, debug ones included,
 * and of what processes printed, as far as the daemons still have them in memory: in
 * order of time, as the nodes' clocks tell it. With follow it goes on, asking once a
 * second, until the callback wants no more, or the coordinator has not answered for
 * timeout_ms; a node that comes meanwhile is told from its first line on. Of a
 * coordinator that uses keys, an admin's key is told everything, a client's what
 * processes of its own pools printed (those that are open, and the last ones to have
 * ended). options NULL: all defaults. EINVAL: an option, or no such node, naming those
 * that there are; ENOPOOL: no such pool, or not of this key. */
FARPOOL_API int farpool_cluster_logs(const char *address, int64_t timeout_ms,
                                     const farpool_log_options *options,
                                     farpool_log_callback callback, void *user,
                                     farpool_error *error);

#ifdef __cplusplus
}
#endif

#endif
