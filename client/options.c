/* SPDX-License-Identifier: Apache-2.0
 *
 * options.c: checks what the user asked for. Every option has a row in a table, with its
 * range; each bad value has a text of its own, naming option, value and limits. Zero is
 * never a request to choose: that is FARPOOL_AUTO. */
#include "client/options.h"
#include "common/base/error.h"
#include "common/sys/sys.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define INITIALIZER_ARGUMENT_MAX 67108864
#define CONNECT_TIMEOUT_MS 5000
#define LOSSES_MAX 3
#define BYTES_UNDER_WAY (64ll << 20)

/* One number among the options. */
struct row {
    const char *name;
    const char *unit; /* "" or " tasks" */
    int64_t value, least, most, automatic;
};

static int check(const struct row *row, const char *call, int64_t *ret_value,
                 farpool_error *error)
{
    if (row->value == FARPOOL_AUTO) {
        *ret_value = row->automatic;
        return 0;
    }
    if (row->value < row->least && row->most == INT64_MAX)
        return error_set(error, FARPOOL_EINVAL,
                         "%s: %s is %" PRId64 ", but must be at least %" PRId64 "%s",
                         call, row->name, row->value, row->least, row->unit);
    if (row->value < row->least || row->value > row->most)
        return error_set(error, FARPOOL_EINVAL,
                         "%s: %s is %" PRId64 ", but must be %" PRId64 " to %" PRId64
                         "%s",
                         call, row->name, row->value, row->least, row->most, row->unit);
    *ret_value = row->value;
    return 0;
}

static int check_size(size_t size, size_t expected, const char *call, const char *name,
                      farpool_error *error)
{
    if (size == expected)
        return 0;
    return error_set(error, FARPOOL_EINVAL,
                     "%s: struct_size is %zu, but must be %zu: begin with %s", call, size,
                     expected, name);
}

static int check_initializer(const farpool_pool_options *options, farpool_error *error)
{
    const char *name = options->initializer;
    const farpool_function *function;

    if (options->initializer_argument.size > INITIALIZER_ARGUMENT_MAX)
        return error_set(error, FARPOOL_EINVAL,
                         "open: initializer_argument has %zu bytes, but may have %d",
                         options->initializer_argument.size, INITIALIZER_ARGUMENT_MAX);
    if (options->initializer_argument.data == NULL &&
        options->initializer_argument.size > 0)
        return error_set(error, FARPOOL_EINVAL,
                         "open: initializer_argument.data is NULL, but its size is %zu",
                         options->initializer_argument.size);
    if (name == NULL)
        return 0;
    if (name[0] == '\0' || strlen(name) > FUNCTION_NAME_MAX)
        return error_set(
            error, FARPOOL_EINVAL,
            "open: initializer has a name of %zu bytes, but must have 1 to %d",
            strlen(name), FUNCTION_NAME_MAX);
    if (options->program != NULL)
        return 0;
    function = farpool_function_find(name);
    if (function == NULL)
        return error_set(error, FARPOOL_ENOFUNCTION,
                         "open: initializer %s is not a registered function", name);
    if (function->form != FARPOOL_BYTES)
        return error_set(error, FARPOOL_EINVAL,
                         "open: initializer %s must be a FARPOOL_BYTES_FUNCTION", name);
    return 0;
}

/* The options that pools and jobs have in common; `fallback` NULL: the pool's own. */
static int read_shared(const farpool_job_options *options, const char *call,
                       const struct job_settings *fallback,
                       struct job_settings *ret_settings, farpool_error *error)
{
    static const struct job_settings none = {.losses_max = LOSSES_MAX,
                                             .bytes_under_way = BYTES_UNDER_WAY};
    const struct job_settings *base = fallback != NULL ? fallback : &none;
    const struct row rows[] = {
        {"chunk_size", " tasks", options->chunk_size, 1, SPAN_TASKS_MAX, base->chunk},
        {"task_timeout_ms", " ms", options->task_timeout_ms, 1, INT64_MAX,
         (int64_t)base->timeout_ms},
        {"retries", "", options->retries, 0, 1000, base->retries},
        {"losses_max", "", options->losses_max, 1, 1000, base->losses_max},
        {"priority", "", options->priority, -1000, 1000, base->priority},
        {"tasks_under_way", " tasks", options->tasks_under_way, 1, INT64_MAX,
         (int64_t)base->tasks_under_way},
        {"bytes_under_way", " bytes", options->bytes_under_way, 1, INT64_MAX,
         (int64_t)base->bytes_under_way},
        {"task_cpu_ms", " ms", options->task_cpu_ms, 1, INT64_MAX, (int64_t)base->cpu_ms},
        {"task_memory_bytes", " bytes", options->task_memory_bytes, 1, INT64_MAX,
         (int64_t)base->memory_bytes},
        {"speculate", "", options->speculate, 0, 1, base->speculate},
    };
    int64_t values[sizeof rows / sizeof rows[0]];

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int code = check(&rows[i], call, &values[i], error);

        if (code != 0)
            return code;
    }
    if (values[9] == 1 && values[3] == 1)
        return error_set(error, FARPOOL_EINVAL,
                         "%s: speculate is 1 and losses_max is 1, but a task that must "
                         "never run twice cannot run a second time elsewhere; set one of "
                         "them",
                         call);
    *ret_settings = (struct job_settings){
        .chunk = (uint32_t)values[0],
        .timeout_ms = (uint64_t)values[1],
        .retries = (uint32_t)values[2],
        .losses_max = (uint32_t)values[3],
        .priority = (int32_t)values[4],
        .tasks_under_way = (uint64_t)values[5],
        .bytes_under_way = (uint64_t)values[6],
        .cpu_ms = (uint64_t)values[7],
        .memory_bytes = (uint64_t)values[8],
        .speculate = values[9] == 1,
    };
    return 0;
}

static int check_output(const farpool_pool_options *options, farpool_error *error)
{
    if (options->output != FARPOOL_AUTO && options->output != FARPOOL_OUTPUT_NONE)
        return error_set(error, FARPOOL_EINVAL,
                         "open: output is %" PRId64
                         ", but must be FARPOOL_AUTO or FARPOOL_OUTPUT_NONE (%d)",
                         options->output, FARPOOL_OUTPUT_NONE);
    if (options->output == FARPOOL_OUTPUT_NONE && options->on_output != NULL)
        return error_set(error, FARPOOL_EINVAL,
                         "open: on_output is set, but output is FARPOOL_OUTPUT_NONE; set "
                         "one of them");
    return 0;
}

static int read_pool_job(const farpool_pool_options *options,
                         struct job_settings *ret_settings, farpool_error *error)
{
    const farpool_job_options job = {
        .struct_size = sizeof job,
        .chunk_size = options->chunk_size,
        .task_timeout_ms = options->task_timeout_ms,
        .retries = options->retries,
        .losses_max = options->losses_max,
        .priority = options->priority,
        .tasks_under_way = options->tasks_under_way,
        .bytes_under_way = options->bytes_under_way,
        .task_cpu_ms = options->task_cpu_ms,
        .task_memory_bytes = options->task_memory_bytes,
        .speculate = options->speculate,
    };

    return read_shared(&job, "open", NULL, ret_settings, error);
}

int options_read_pool(const farpool_pool_options *options,
                      struct pool_settings *ret_settings, farpool_error *error)
{
    static const farpool_pool_options defaults = FARPOOL_POOL_OPTIONS;
    struct pool_settings settings = {0};
    int64_t processes = 0, tasks_per_process = 0, connect_timeout_ms = 0;
    int code;

    if (options == NULL)
        options = &defaults;
    code = check_size(options->struct_size, sizeof *options, "open",
                      "FARPOOL_POOL_OPTIONS", error);
    if (code != 0)
        return code;
    const struct row rows[] = {
        {"processes", "", options->processes, 1, 65536, 0},
        {"tasks_per_process", "", options->tasks_per_process, 1, INT64_MAX, 0},
        {"connect_timeout_ms", " ms", options->connect_timeout_ms, 1, INT64_MAX,
         CONNECT_TIMEOUT_MS},
    };
    if ((code = check(&rows[0], "open", &processes, error)) != 0 ||
        (code = check(&rows[1], "open", &tasks_per_process, error)) != 0 ||
        (code = check(&rows[2], "open", &connect_timeout_ms, error)) != 0 ||
        (code = read_pool_job(options, &settings.job, error)) != 0 ||
        (code = check_output(options, error)) != 0 ||
        (code = check_initializer(options, error)) != 0)
        return code;
    settings.processes = (uint32_t)processes;
    settings.tasks_per_process = (uint64_t)tasks_per_process;
    settings.connect_timeout_ms = (uint64_t)connect_timeout_ms;
    if (options->initializer != NULL)
        snprintf(settings.initializer, sizeof settings.initializer, "%s",
                 options->initializer);
    settings.argument = options->initializer_argument;
    settings.program = options->program;
    settings.files = options->files;
    settings.output = options->output == FARPOOL_AUTO;
    settings.on_output = options->on_output;
    settings.output_user = options->output_user;
    *ret_settings = settings;
    return 0;
}

int options_read_job(const farpool_job_options *options, const struct job_settings *pool,
                     const char *call, struct job_settings *ret_settings,
                     farpool_error *error)
{
    int code;

    if (options == NULL) {
        *ret_settings = *pool;
        return 0;
    }
    code = check_size(options->struct_size, sizeof *options, call, "FARPOOL_JOB_OPTIONS",
                      error);
    if (code != 0)
        return code;
    return read_shared(options, call, pool, ret_settings, error);
}

int options_read_timeout(int64_t timeout_ms, const char *call, uint64_t *ret_until_ms,
                         farpool_error *error)
{
    if (timeout_ms < 0 && timeout_ms != FARPOOL_FOREVER)
        return error_set(error, FARPOOL_EINVAL,
                         "%s: timeout_ms is %" PRId64
                         ", but must be at least 0, or FARPOOL_FOREVER",
                         call, timeout_ms);
    *ret_until_ms =
        timeout_ms == FARPOOL_FOREVER ? UINT64_MAX : sys_now_ms() + (uint64_t)timeout_ms;
    return 0;
}
