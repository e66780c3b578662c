/* SPDX-License-Identifier: Apache-2.0
 *
 * calls.c: calls of one function that follow each other closely share one job of the
 * core, each as a task of it: opening and closing a job costs more than a short task,
 * here, in the coordinator and in each worker. What a user holds is a farpool_job all the
 * same.
 *
 * Always: the calls that are open are the pool's youngest job. So calls run in the order
 * in which they and other jobs came, and no job waits behind calls that came after it.
 * Its chunks are single tasks: what one call does never keeps another from being run
 * elsewhere.
 *
 * A call's input is kept here until the next FLUSH, so that those of a burst leave as one
 * span. The core's job ends when other work comes, when it is full, when the pool closes,
 * and when no call came for a moment (driver.c). */
#include "client/calls.h"
#include "common/base/error.h"
#include "common/base/span.h"

#include <assert.h>
#include <endian.h>
#include <unistd.h>

#define CALLS_MAX 1024   /* of one job */
#define KEPT_BYTES 65536 /* inputs that are kept for the next FLUSH */

struct calls {
    struct pool_job base;
    struct client_job_options options;
    farpool_job **members; /* by index; NULL: has ended, or was freed */
    size_t members_capacity, count;
    size_t left;     /* members that are not NULL */
    size_t first;    /* no member below it is left */
    uint64_t given;  /* inputs that the core has; the others are kept here: */
    uint32_t *sizes; /* of each, as a span has them */
    size_t sizes_capacity;
    uint8_t *bytes; /* and all of them together */
    size_t bytes_capacity, bytes_used;
};

static struct calls *of(struct pool_job *base)
{
    return (struct calls *)base;
}

/* --------------------------------------------------------- what the core tells */

/* Nothing refers to the member any more. */
static farpool_job *take_out(struct calls *calls, uint64_t index)
{
    farpool_job *job = calls->members[index];

    calls->members[index] = NULL;
    job->calls = NULL;
    calls->left--;
    calls->base.pool->calls_left--;
    while (calls->first < calls->count && calls->members[calls->first] == NULL)
        calls->first++;
    return job;
}

static void calls_done(struct pool_job *base, struct client_effect *effect)
{
    struct calls *calls = of(base);
    const struct msg_span all = {.first = effect->first,
                                 .count = (uint32_t)effect->count,
                                 .sizes = effect->sizes,
                                 .data = effect->data};
    const uint8_t *data = all.data != NULL ? all.data->data : NULL;

    for (uint32_t i = 0; i < all.count && all.first + i < calls->count; i++) {
        const uint32_t size = span_task_size(&all, i);

        if (calls->members[all.first + i] != NULL) {
            farpool_job *job = take_out(calls, all.first + i);

            job_take_output(job, data, size, all.data);
            job->base.kind->ended(&job->base);
        }
        if (data != NULL)
            data += size;
    }
}

static void calls_failed(struct pool_job *base, struct client_effect *effect)
{
    struct calls *calls = of(base);
    const uint64_t first = effect->count > 0 ? effect->first : effect->failed.index;
    const uint64_t end = first + (effect->count > 0 ? effect->count : 1);

    /* In its own job each is the only task. */
    effect->first = effect->failed.index = 0;
    effect->count = effect->count > 0 ? 1 : 0;
    for (uint64_t i = first; i < end && i < calls->count; i++)
        if (calls->members[i] != NULL) {
            farpool_job *job = take_out(calls, i);

            job->base.kind->failed(&job->base, effect);
            job->base.kind->ended(&job->base);
        }
}

static void destroy(struct calls *calls)
{
    mem_free(calls->members);
    mem_free(calls->sizes);
    mem_free(calls->bytes);
    mem_free(calls);
}

/* Inputs that the core was not given any more end with it. */
static void calls_ended(struct pool_job *base)
{
    struct calls *calls = of(base);
    farpool_pool *pool = base->pool;
    struct client_effect effect = {.kind = CLIENT_FAILED, .code = FARPOOL_ETERMINATED};

    if (base->end_code != 0)
        effect.code = base->end_code;
    else if (pool->failure != 0)
        effect.code = pool->failure;
    effect.first = calls->first;
    effect.count = calls->count - calls->first;
    pool->tasks_done += calls->left;
    pool->tasks_failed += calls->left;
    if (calls->left > 0)
        calls_failed(base, &effect);
    if (pool->calls == calls)
        pool->calls = NULL;
    pool->calls_open--;
    destroy(calls);
}

static const struct pool_job_kind calls_kind = {
    .done = calls_done,
    .failed = calls_failed,
    .ended = calls_ended,
};

/* --------------------------------------------------------------------- opening */

static bool is_same(const struct client_job_options *a,
                    const struct client_job_options *b)
{
    return strcmp(a->function, b->function) == 0 && a->timeout_ms == b->timeout_ms &&
           a->cpu_ms == b->cpu_ms && a->memory_bytes == b->memory_bytes &&
           a->retries == b->retries && a->losses_max == b->losses_max &&
           a->priority == b->priority && a->speculate == b->speculate;
}

static int open_calls(farpool_job *job, const struct client_job_options *options,
                      farpool_error *error)
{
    farpool_pool *pool = job->base.pool;
    struct calls *calls = mem_alloc(sizeof *calls);
    int code;

    if (calls == NULL)
        return error_set(error, FARPOOL_ENOMEM, "%s: out of memory", job->base.of.call);
    calls->base.pool = pool;
    calls->base.kind = &calls_kind;
    calls->base.of = job->base.of;
    calls->options = *options;
    calls->options.chunk = 1;
    calls->options.tasks = 0;
    calls->options.calls = true;
    code = pool_open_job(pool, &calls->base, &calls->options, error);
    if (code != 0) {
        destroy(calls);
        return code;
    }
    pool->calls = calls;
    pool->calls_open++;
    return 0;
}

static bool reserve(struct calls *calls, size_t bytes)
{
    return mem_reserve(&calls->members, &calls->members_capacity, calls->count + 1,
                       sizeof(farpool_job *)) &&
           mem_reserve(&calls->sizes, &calls->sizes_capacity,
                       calls->count + 1 - calls->given, sizeof *calls->sizes) &&
           mem_reserve(&calls->bytes, &calls->bytes_capacity, calls->bytes_used + bytes,
                       1);
}

int calls_add(farpool_job *job, const struct client_job_options *options,
              farpool_bytes input, farpool_error *error)
{
    farpool_pool *pool = job->base.pool;
    struct calls *calls = pool->calls;
    int code;

    assert(job->count == 1 && input.size <= CALL_BYTES_MAX);
    if (calls == NULL || calls->count == CALLS_MAX ||
        !is_same(&calls->options, options)) {
        code = open_calls(job, options, error);
        if (code != 0)
            return code;
        calls = pool->calls;
        assert(calls != NULL);
    }
    if (!reserve(calls, input.size))
        return error_set(error, FARPOOL_ENOMEM, "%s: out of memory", job->base.of.call);
    if (input.size > 0)
        memcpy(calls->bytes + calls->bytes_used, input.data, input.size);
    calls->bytes_used += input.size;
    calls->sizes[calls->count - calls->given] = htole32((uint32_t)input.size);
    calls->members[calls->count] = job;
    job->calls = calls;
    job->place = calls->count++;
    calls->left++;
    pool->calls_left++;
    if (calls->bytes_used > KEPT_BYTES)
        calls_submit(pool);
    return 0;
}

/* ------------------------------------------------------------------- submitting */

static bool are_equal(const uint32_t *sizes, uint32_t count)
{
    for (uint32_t i = 1; i < count; i++)
        if (sizes[i] != sizes[0])
            return false;
    return true;
}

static bool make_span(const struct calls *calls, struct msg_span *ret_span)
{
    struct msg_span span = {.first = calls->given,
                            .count = (uint32_t)(calls->count - calls->given)};
    const bool sized = !are_equal(calls->sizes, span.count);

    if (sized)
        span.sizes = payload_copy(calls->sizes, span.count * sizeof *calls->sizes);
    if (calls->bytes_used > 0)
        span.data = payload_copy(calls->bytes, calls->bytes_used);
    *ret_span = span;
    if ((span.sizes != NULL || !sized) && (span.data != NULL || calls->bytes_used == 0))
        return true;
    span_fini(ret_span);
    return false;
}

/* The calls have returned, so this must not fail: it tries until there is memory. */
void calls_submit(farpool_pool *pool)
{
    struct calls *calls = pool->calls;
    struct client_event event = {.kind = CLIENT_JOB_INPUT};

    if (calls == NULL || calls->given == calls->count)
        return;
    while (!make_span(calls, &event.span))
        usleep(1000);
    event.job = calls->base.number;
    if (pool_must_step(pool, &event) != 0)
        span_fini(&event.span); /* the job has ended, which is still to be told */
    calls->given = calls->count;
    calls->bytes_used = 0;
}

void calls_close(farpool_pool *pool)
{
    struct calls *calls = pool->calls;
    struct client_event end = {.kind = CLIENT_JOB_INPUT_END};

    if (calls == NULL)
        return;
    calls_submit(pool);
    pool->calls = NULL;
    end.job = calls->base.number;
    pool_step(pool, &end);
}

bool calls_are_idle(const farpool_pool *pool)
{
    return pool->calls != NULL && pool->calls->left == 0 && HASH_COUNT(pool->jobs) == 1;
}

unsigned calls_count_jobs(const farpool_pool *pool)
{
    return HASH_COUNT(pool->jobs) - pool->calls_open + pool->calls_left;
}

/* --------------------------------------------------------------------- one call */

int64_t calls_cancel(farpool_job *job, bool kill)
{
    farpool_pool *pool = job->base.pool;
    struct client_event event = {.kind = CLIENT_JOB_CANCEL,
                                 .job = job->calls->base.number,
                                 .first = job->place,
                                 .count = 1,
                                 .kill = kill};
    int code;

    calls_submit(pool);
    code = pool_step(pool, &event);
    if (code != 0)
        return code == FARPOOL_EINVAL ? 0 : code;
    return (int64_t)event.count;
}

void calls_leave(farpool_job *job)
{
    farpool_pool *pool = job->base.pool;
    struct client_event event = {.kind = CLIENT_JOB_CANCEL,
                                 .job = job->calls->base.number,
                                 .first = job->place,
                                 .count = 1,
                                 .kill = true};

    calls_submit(pool);
    take_out(job->calls, job->place);
    if (pool_must_step(pool, &event) != 0)
        return;
    /* That was told as a failure; what nobody wants any more does not count as one. */
    pool->tasks_done -= event.count;
    pool->tasks_failed -= event.count;
}

/* Which of the tasks run is not told of each: the first that have not ended do. */
void calls_count(const farpool_job *job, struct client_job_counts *ret_counts)
{
    const struct calls *calls = job->calls;
    struct client_job_counts all = {0};
    uint64_t before = 0;

    client_core_job_counts(job->base.pool->core, calls->base.number, &all);
    for (size_t i = calls->first; i < job->place && before < all.running; i++)
        before += calls->members[i] != NULL;
    *ret_counts = (struct client_job_counts){.pulled = 1};
    if (before < all.running) {
        ret_counts->running = 1;
        ret_counts->share_ppm = all.share_ppm / all.running;
    } else {
        ret_counts->waiting = 1;
    }
}
