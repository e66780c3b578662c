/* SPDX-License-Identifier: Apache-2.0
 *
 * map.c: the calls that submit a job whose inputs are all there: map, starmap and apply,
 * blocking and not. Inputs become spans (inputs.c). A blocking call lends its memory (not
 * to a nested pool): the spans point into the caller's arrays, and the call ends only
 * when nothing points there any more. Every other call copies the inputs once, since they
 * are needed for longer than it lasts. */
#include "client/calls.h"
#include "common/base/error.h"

#include <inttypes.h>
#include <string.h>

#define JOBS_ALONE 64 /* while no more are under way, each call is a job of its own */

/* ----------------------------------------------------------------- submitting */

void job_describe(const farpool_function *function, const struct job_settings *settings,
                  struct client_job_options *ret_options)
{
    *ret_options = (struct client_job_options){
        .chunk = settings->chunk,
        .timeout_ms = settings->timeout_ms,
        .cpu_ms = settings->cpu_ms,
        .memory_bytes = settings->memory_bytes,
        .retries = settings->retries,
        .losses_max = settings->losses_max,
        .priority = settings->priority,
        .speculate = settings->speculate,
        .tasks_under_way = settings->tasks_under_way,
        .bytes_under_way = settings->bytes_under_way,
    };
    strncpy(ret_options->function, function->name, FUNCTION_NAME_MAX);
}

/* Whether it may share a job of the core with others: one call that is waited for, comes
 * in a burst, or is one of many. */
static bool is_shared(const farpool_job *job, const struct job_inputs *inputs)
{
    const farpool_pool *pool = job->base.pool;

    return job->count == 1 && job_input(inputs, 0).size <= CALL_BYTES_MAX &&
           (inputs->waits || driver_in_burst(pool) ||
            calls_count_jobs(pool) >= JOBS_ALONE);
}

int job_submit(farpool_job *job, const farpool_function *function,
               const struct job_settings *settings, const struct job_inputs *inputs,
               farpool_error *error)
{
    struct client_job_options options;
    struct client_event end = {.kind = CLIENT_JOB_INPUT_END};
    int code;

    if (job->count == 0) {
        job->base.kind->ended(&job->base);
        return 0;
    }
    job_describe(function, settings, &options);
    if (is_shared(job, inputs))
        return calls_add(job, &options, job_input(inputs, 0), error);
    options.tasks = job->count;
    options.whole = inputs->waits;
    code = pool_open_job(job->base.pool, &job->base, &options, error);
    if (code != 0)
        return code;
    code = job_submit_inputs(job, inputs);
    end.job = job->base.number;
    if (code == 0)
        code = pool_step(job->base.pool, &end);
    if (code == 0)
        return 0;
    pool_close_job(&job->base, true);
    return error_set(error, code, "%s: %s", job->base.of.call, farpool_error_text(code));
}

/* What the inputs must be for this function. */
static int check_inputs(const farpool_function *function, const char *call,
                        const struct job_inputs *inputs, farpool_error *error)
{
    for (uint64_t i = 0; inputs->values == NULL && i < inputs->count; i++) {
        farpool_bytes item = job_input(inputs, i);

        if (item.data == NULL && item.size > 0)
            return error_set(error, FARPOOL_EINVAL,
                             "%s: input %" PRIu64 " has data NULL, but size %zu", call, i,
                             item.size);
        if (item.size > BODY_BYTES_MAX)
            return error_set(error, FARPOOL_ETOOBIG,
                             "%s: input %" PRIu64 " has %zu bytes, but may have %d", call,
                             i, item.size, BODY_BYTES_MAX);
        if (function->form == FARPOOL_TYPED && item.size != function->input_size)
            return error_set(error, FARPOOL_EINVAL,
                             "%s: input %" PRIu64 " has %zu bytes, but %s takes %" PRIu32,
                             call, i, item.size, function->name, function->input_size);
    }
    return 0;
}

static int begin(farpool_pool *pool, const char *call, const farpool_function *function,
                 const struct job_inputs *inputs, void *outputs,
                 const farpool_job_options *options, farpool_job **ret_job,
                 farpool_error *error)
{
    struct job_settings settings;
    farpool_job *job;
    int code;

    if ((code = pool_check_running(pool, call, error)) != 0 ||
        (code = options_read_job(options, &pool->settings.job, call, &settings, error)) !=
            0 ||
        (code = job_create(pool, call, function, inputs->count, outputs, options, &job,
                           error)) != 0)
        return code;
    code = job_submit(job, function, &settings, inputs, error);
    if (code != 0) {
        pool->refs--;
        job->base.pool = NULL;
        job_destroy(job);
        return code;
    }
    *ret_job = job;
    return 0;
}

/* Checks and submits; outputs as of job_create. waits: the caller will wait for it. */
static int start(farpool_pool *pool, const char *call, const farpool_function *function,
                 struct job_inputs *inputs, void *outputs, bool waits,
                 const farpool_job_options *options, farpool_job **ret_job,
                 farpool_error *error)
{
    int code;

    if ((code = job_check_function(function, call, error)) != 0 ||
        (code = check_inputs(function, call, inputs, error)) != 0 ||
        (code = pool_enter(pool, call, error)) != 0)
        return code;
    inputs->waits = waits;
    inputs->borrow = waits && pool->transport != NULL && pool->transport->kind->lends;
    code = begin(pool, call, function, inputs, outputs, options, ret_job, error);
    if (code == 0 && waits)
        job_finish(*ret_job);
    else if (code == 0)
        driver_submitted(pool);
    pool_leave(pool);
    return code;
}

static farpool_job *start_async(farpool_pool *pool, const char *call,
                                const farpool_function *function,
                                struct job_inputs *inputs,
                                const farpool_job_options *options, farpool_error *error)
{
    farpool_job *job = NULL;

    return start(pool, call, function, inputs, NULL, false, options, &job, error) == 0
               ? job
               : NULL;
}

/* The blocking form that keeps the job. */
static int start_and_wait(farpool_pool *pool, const char *call,
                          const farpool_function *function, struct job_inputs *inputs,
                          const farpool_job_options *options, farpool_job **ret_job,
                          farpool_error *error)
{
    int code;

    if (ret_job == NULL)
        return error_set(error, FARPOOL_EINVAL, "%s: ret_job is NULL", call);
    *ret_job = NULL;
    code = start(pool, call, function, inputs, NULL, true, options, ret_job, error);
    return code == 0 ? farpool_job_get(*ret_job, FARPOOL_FOREVER, error) : code;
}

/* ----------------------------------------------------------------------- typed */

static int check_typed(const farpool_function *function, const char *call,
                       const void *inputs, size_t count, farpool_error *error)
{
    int code = job_check_function(function, call, error);

    if (code != 0)
        return code;
    if (function->form != FARPOOL_TYPED)
        return error_set(error, FARPOOL_EINVAL,
                         "%s: %s is not a FARPOOL_FUNCTION; use the call for bytes", call,
                         function->name);
    if (inputs == NULL && count > 0)
        return error_set(error, FARPOOL_EINVAL, "%s: inputs is NULL, but count is %zu",
                         call, count);
    return 0;
}

static struct job_inputs typed_inputs(const farpool_function *function,
                                      const void *inputs, size_t count)
{
    return (struct job_inputs){.values = inputs != NULL ? inputs : "",
                               .size = function->input_size,
                               .count = count};
}

int farpool_map_typed(farpool_pool *pool, const farpool_function *function,
                      const void *inputs, size_t count, void *outputs,
                      const farpool_job_options *options, farpool_error *error)
{
    struct job_inputs list;
    farpool_job *job;
    int code = check_typed(function, "map", inputs, count, error);

    if (code != 0)
        return code;
    if (outputs == NULL && count > 0)
        return error_set(error, FARPOOL_EINVAL, "map: outputs is NULL, but count is %zu",
                         count);
    list = typed_inputs(function, inputs, count);
    code = start(pool, "map", function, &list, outputs, true, options, &job, error);
    if (code != 0)
        return code;
    code = farpool_job_get(job, FARPOOL_FOREVER, error);
    farpool_job_free(job);
    return code;
}

farpool_job *farpool_map_async_typed(farpool_pool *pool, const farpool_function *function,
                                     const void *inputs, size_t count,
                                     const farpool_job_options *options,
                                     farpool_error *error)
{
    struct job_inputs list;

    if (check_typed(function, "map", inputs, count, error) != 0)
        return NULL;
    list = typed_inputs(function, inputs, count);
    return start_async(pool, "map", function, &list, options, error);
}

/* ----------------------------------------------------------------------- bytes */

static int check_items(const farpool_bytes *items, size_t count, farpool_error *error)
{
    if (items != NULL || count == 0)
        return 0;
    return error_set(error, FARPOOL_EINVAL, "map: items is NULL, but count is %zu",
                     count);
}

int farpool_map_bytes(farpool_pool *pool, const farpool_function *function,
                      const farpool_bytes *items, size_t count,
                      const farpool_job_options *options, farpool_job **ret_job,
                      farpool_error *error)
{
    struct job_inputs inputs = {.items = items, .count = count};
    int code = check_items(items, count, error);

    if (ret_job != NULL)
        *ret_job = NULL;
    return code != 0
               ? code
               : start_and_wait(pool, "map", function, &inputs, options, ret_job, error);
}

farpool_job *farpool_map_bytes_async(farpool_pool *pool, const farpool_function *function,
                                     const farpool_bytes *items, size_t count,
                                     const farpool_job_options *options,
                                     farpool_error *error)
{
    struct job_inputs inputs = {.items = items, .count = count};

    if (check_items(items, count, error) != 0)
        return NULL;
    return start_async(pool, "map", function, &inputs, options, error);
}

int farpool_apply_bytes(farpool_pool *pool, const farpool_function *function,
                        const void *data, size_t size, farpool_job **ret_job,
                        farpool_error *error)
{
    const farpool_bytes item = {data, size};
    struct job_inputs inputs = {.items = &item, .count = 1};

    return start_and_wait(pool, "apply", function, &inputs, NULL, ret_job, error);
}

farpool_job *farpool_apply_bytes_async(farpool_pool *pool,
                                       const farpool_function *function, const void *data,
                                       size_t size, const farpool_job_options *options,
                                       farpool_error *error)
{
    const farpool_bytes item = {data, size};
    struct job_inputs inputs = {.items = &item, .count = 1};

    return start_async(pool, "apply", function, &inputs, options, error);
}

/* --------------------------------------------------------------------- starmap */

static int check_list(const farpool_function *function, const farpool_list *list,
                      farpool_error *error)
{
    int code = job_check_function(function, "starmap", error);

    if (code != 0)
        return code;
    if (list == NULL)
        return error_set(error, FARPOOL_EINVAL, "starmap: arguments is NULL");
    if (function->form != FARPOOL_ARGS)
        return error_set(error, FARPOOL_EINVAL,
                         "starmap: %s is not a FARPOOL_ARGS_FUNCTION", function->name);
    return 0;
}

int farpool_starmap(farpool_pool *pool, const farpool_function *function,
                    const farpool_list *arguments, const farpool_job_options *options,
                    farpool_job **ret_job, farpool_error *error)
{
    struct job_inputs inputs = {.list = arguments};
    int code = check_list(function, arguments, error);

    if (ret_job != NULL)
        *ret_job = NULL;
    if (code != 0)
        return code;
    inputs.count = farpool_list_count(arguments);
    return start_and_wait(pool, "starmap", function, &inputs, options, ret_job, error);
}

farpool_job *farpool_starmap_async(farpool_pool *pool, const farpool_function *function,
                                   const farpool_list *arguments,
                                   const farpool_job_options *options,
                                   farpool_error *error)
{
    struct job_inputs inputs = {.list = arguments};

    if (check_list(function, arguments, error) != 0)
        return NULL;
    inputs.count = farpool_list_count(arguments);
    return start_async(pool, "starmap", function, &inputs, options, error);
}
