/* SPDX-License-Identifier: Apache-2.0
 *
 * job.c: a job and its results: what the core tells of its tasks is kept here until the
 * user frees the job. A typed job's outputs are written into one array, the caller's own
 * if it waits; outputs of any size stay in the payloads that they came in.
 *
 * Each task has two bits, ended and bad; its failure, if it is bad, is among the
 * failures, unless there was no memory to keep it. The job is ready when every task has
 * ended and its callback, which the result thread makes, has returned. */
#include "client/calls.h"
#include "common/base/error.h"
#include "common/base/span.h"

#include <inttypes.h>

/* -------------------------------------------------------------------- bits */

/* Sets bits first .. first + count - 1. */
static void set_bits(uint64_t *bits, uint64_t first, uint64_t count)
{
    while (count > 0) {
        uint64_t place = first % 64, step = 64 - place < count ? 64 - place : count;
        uint64_t mask = step == 64 ? UINT64_MAX : ((uint64_t)1 << step) - 1;

        bits[first / 64] |= mask << place;
        first += step;
        count -= step;
    }
}

/* ------------------------------------------------------- what the core tells */

/* A task's own failure, when it cannot be told as it came. */
static void fail_one(farpool_job *job, uint64_t index, int code, const char *why)
{
    struct failure failure;

    if (failure_make(index, code, why, &failure) == 0 &&
        failures_add(&job->failures, &failure) != 0)
        failure_fini(&failure);
    if (job->failed++ == 0 || index < job->lowest)
        job->lowest = index;
    set_bits(job->bad, index, 1);
}

static bool is_within(const farpool_job *job, uint64_t first, uint64_t count)
{
    return first < job->count && count <= job->count - first;
}

static void take_value(farpool_job *job, uint64_t index, const uint8_t *data, size_t size)
{
    if (size != job->output_size) {
        fail_one(job, index, FARPOOL_EPROTOCOL,
                 "its output is not of the function's type");
        return;
    }
    if (size > 0)
        memcpy(job->outputs + index * size, data, size);
}

static void take_typed(farpool_job *job, const struct msg_span *span)
{
    uint64_t size = job->output_size;

    if (span->sizes == NULL && span_bytes(span) == span->count * size) {
        if (size > 0)
            memcpy(job->outputs + span->first * size, span->data->data,
                   span->count * size);
        return;
    }
    for (uint32_t i = 0; i < span->count; i++) {
        const uint8_t *data;
        size_t have;

        span_task(span, i, &data, &have);
        take_value(job, span->first + i, data, have);
    }
}

static void take_item(farpool_job *job, uint64_t index, const uint8_t *data, size_t size)
{
    /* An empty output is a pointer all the same. */
    job->items[index].data = data != NULL ? (const void *)data : "";
    job->items[index].size = size;
}

static void take_bytes(farpool_job *job, struct msg_span *span)
{
    const uint8_t *data = span->data != NULL ? span->data->data : NULL;

    for (uint32_t i = 0; i < span->count; i++) {
        size_t size = span_task_size(span, i);

        take_item(job, span->first + i, data, size);
        if (data != NULL)
            data += size;
    }
    if (span->data == NULL)
        return;
    job->payloads[job->payloads_count++] = span->data;
    span->data = NULL;
}

static bool reserve_payload(farpool_job *job)
{
    return mem_reserve(&job->payloads, &job->payloads_capacity, job->payloads_count + 1,
                       sizeof *job->payloads);
}

void job_take_output(farpool_job *job, const uint8_t *data, size_t size,
                     struct payload *whole)
{
    if (job->typed) {
        take_value(job, 0, data, size);
    } else if (whole == NULL || reserve_payload(job)) {
        take_item(job, 0, data, size);
        if (whole != NULL)
            job->payloads[job->payloads_count++] = payload_ref(whole);
    } else {
        fail_one(job, 0, FARPOOL_ENOMEM, "no memory for its output");
    }
    set_bits(job->ended, 0, 1);
    job->done++;
}

static void job_done(struct pool_job *base, struct client_effect *effect)
{
    farpool_job *job = (farpool_job *)base;
    struct msg_span span = {.first = effect->first,
                            .count = (uint32_t)effect->count,
                            .sizes = effect->sizes,
                            .data = effect->data};

    if (!is_within(job, effect->first, effect->count))
        return;
    effect->sizes = effect->data = NULL;
    if (job->typed)
        take_typed(job, &span);
    else if (reserve_payload(job))
        take_bytes(job, &span);
    else
        for (uint32_t i = 0; i < span.count; i++)
            fail_one(job, span.first + i, FARPOOL_ENOMEM, "no memory for its output");
    set_bits(job->ended, span.first, span.count);
    job->done += span.count;
    span_fini(&span);
}

static void job_failed(struct pool_job *base, struct client_effect *effect)
{
    farpool_job *job = (farpool_job *)base;
    uint64_t first = effect->count > 0 ? effect->first : effect->failed.index;
    uint64_t count = effect->count > 0 ? effect->count : 1;
    struct failure failure;

    if (!is_within(job, first, count))
        return;
    if (failure_read(effect, &failure) == 0 &&
        failures_add(&job->failures, &failure) != 0)
        failure_fini(&failure);
    if (job->failed == 0 || first < job->lowest)
        job->lowest = first;
    set_bits(job->ended, first, count);
    set_bits(job->bad, first, count);
    job->done += count;
    job->failed += count;
}

static void job_ended(struct pool_job *base)
{
    farpool_job *job = (farpool_job *)base;
    bool calls = job->failed > 0 ? job->error_callback != NULL : job->callback != NULL;

    job->base.pool->news = true;
    job->state = calls ? JOB_CALLING : JOB_READY;
    if (calls)
        pool_queue_callback(base);
}

static void job_call_back(struct pool_job *base)
{
    farpool_job *job = (farpool_job *)base;

    if (job->failed > 0) {
        farpool_error error;

        job_result(job, &error);
        job->error_callback(job, &error, job->user);
    } else {
        job->callback(job, job->user);
    }
}

static void job_called_back(struct pool_job *base)
{
    farpool_job *job = (farpool_job *)base;
    farpool_pool *pool = base->pool;

    job->state = JOB_READY;
    if (!job->freed)
        return;
    /* The pool that runs the callback outlives this reference. */
    pool->refs--;
    base->pool = NULL;
    job_destroy(job);
}

static const struct pool_job_kind job_kind = {
    .done = job_done,
    .failed = job_failed,
    .ended = job_ended,
    .call_back = job_call_back,
    .called_back = job_called_back,
};

/* ------------------------------------------------------------- making, freeing */

int job_check_function(const farpool_function *function, const char *call,
                       farpool_error *error)
{
    if (function == NULL || function->name == NULL)
        return error_set(error, FARPOOL_EINVAL, "%s: function is NULL", call);
    if (strlen(function->name) > FUNCTION_NAME_MAX)
        return error_set(error, FARPOOL_EINVAL,
                         "%s: the name of function %s has %zu bytes, but may have %d",
                         call, function->name, strlen(function->name), FUNCTION_NAME_MAX);
    return 0;
}

static bool create_arrays(farpool_job *job, uint64_t count, void *outputs)
{
    uint64_t words = (count + 63) / 64;

    job->ended = &job->few[0];
    job->bad = &job->few[1];
    if (words > 1) {
        job->ended = mem_alloc(2 * words * sizeof *job->ended);
        job->bad = job->ended + words;
    }
    job->outputs = outputs;
    if (job->typed && outputs == NULL && count * job->output_size <= JOB_SMALL_BYTES) {
        job->outputs = job->small;
    } else if (job->typed && outputs == NULL && count > 0) {
        job->outputs_owned = true;
        job->outputs = mem_alloc(count * job->output_size);
    }
    if (!job->typed)
        job->items = mem_alloc(count * sizeof *job->items);
    return job->ended != NULL && (job->outputs != NULL || !job->typed || count == 0) &&
           (job->items != NULL || job->typed);
}

int job_create(farpool_pool *pool, const char *call, const farpool_function *function,
               uint64_t count, void *outputs, const farpool_job_options *options,
               farpool_job **ret_job, farpool_error *error)
{
    farpool_job *job = mem_alloc(sizeof *job);
    size_t size =
        function->form == FARPOOL_TYPED ? function->output_size : sizeof *job->items;

    if (count > SIZE_MAX / 2 / (size > 0 ? size : 1)) {
        mem_free(job);
        return error_set(error, FARPOOL_ETOOBIG,
                         "%s: %" PRIu64 " outputs of %zu bytes are more than memory can "
                         "address",
                         call, count, size);
    }
    if (job == NULL)
        return error_set(error, FARPOOL_ENOMEM, "%s: out of memory", call);
    job->base.kind = &job_kind;
    job->base.of = (struct failure_of){call, function->name};
    job->typed = function->form == FARPOOL_TYPED;
    job->output_size = function->output_size;
    job->count = count;
    if (options != NULL) {
        job->callback = options->callback;
        job->error_callback = options->error_callback;
        job->user = options->user;
    }
    if (!create_arrays(job, count, outputs)) {
        job_destroy(job);
        return error_set(error, FARPOOL_ENOMEM,
                         "%s: out of memory for the outputs of %" PRIu64 " tasks", call,
                         count);
    }
    pool->refs++;
    job->base.pool = pool;
    *ret_job = job;
    return 0;
}

void job_destroy(farpool_job *job)
{
    farpool_pool *pool = job->base.pool;

    for (size_t i = 0; i < job->payloads_count; i++)
        payload_unref(&job->payloads[i]);
    mem_free(job->payloads);
    mem_free(job->items);
    if (job->outputs_owned)
        mem_free(job->outputs);
    if (job->ended != &job->few[0])
        mem_free(job->ended);
    failures_fini(&job->failures);
    mem_free(job);
    if (pool != NULL)
        pool_unref(pool);
}

bool job_is_ready(const farpool_job *job)
{
    return job->state == JOB_READY || driver_in_callback(job->base.pool, &job->base);
}

static bool is_not_called(void *arg)
{
    const farpool_job *job = arg;

    return job->base.pool->called != &job->base;
}

/* The job's tasks end, and so does its callback: nothing refers to the job then. */
static void let_go(farpool_job *job)
{
    farpool_pool *pool = job->base.pool;

    if (job->calls != NULL) {
        calls_leave(job);
        driver_kick(pool);
    } else if (job->base.number != 0) {
        pool_close_job(&job->base, true);
        driver_kick(pool);
    }
    if (job->state == JOB_CALLING && pool->called != &job->base)
        TAILQ_REMOVE(&pool->callbacks, &job->base, entry);
    driver_wait(pool, is_not_called, job, UINT64_MAX);
}

void farpool_job_free(farpool_job *job)
{
    farpool_pool *pool = job != NULL ? job->base.pool : NULL;

    if (job == NULL || pool_enter(pool, "job", NULL) != 0)
        return;
    if (driver_in_callback(pool, &job->base)) {
        job->freed = true;
        pool_leave(pool);
        return;
    }
    let_go(job);
    pool_leave(pool);
    job_destroy(job);
}

/* --------------------------------------------------------------------- reading */

int job_tell(farpool_job *job, uint64_t index, farpool_error *error)
{
    const struct failure *failure = failures_find(&job->failures, index);

    if (failure != NULL)
        return failure_tell(failure, &job->base.of, index, error);
    error_set(error, FARPOOL_ENOMEM,
              "%s: task %" PRIu64 " failed, and there was no memory to keep why",
              job->base.of.call, index);
    if (error != NULL)
        error->index = index;
    return FARPOOL_ENOMEM;
}

int job_result(farpool_job *job, farpool_error *error)
{
    return job->failed > 0 ? job_tell(job, job->lowest, error) : 0;
}

static bool is_finished(void *arg)
{
    const farpool_job *job = arg;

    return job_is_ready(job) && job->borrowed == 0;
}

void job_finish(farpool_job *job)
{
    driver_wait(job->base.pool, is_finished, job, UINT64_MAX);
}
