/* SPDX-License-Identifier: Apache-2.0
 *
 * job_read.c: the calls on a job that somebody holds: waiting for it, its outcomes and
 * outputs, its progress, and cancelling it. All of them are short looks under the pool's
 * mutex, but get and wait. */
#include "client/calls.h"
#include "common/base/error.h"

#include <inttypes.h>

static bool is_ready(void *arg)
{
    return job_is_ready(arg);
}

static int wait_ready(farpool_job *job, int64_t timeout_ms, farpool_error *error)
{
    uint64_t until_ms;
    int code = options_read_timeout(timeout_ms, "get", &until_ms, error);

    if (code != 0)
        return code;
    if (driver_wait(job->base.pool, is_ready, job, until_ms) == 0)
        return 0;
    return error_set(error, FARPOOL_ETIMEDOUT,
                     "get: %" PRIu64 " of %" PRIu64 " tasks are left after %" PRId64
                     " ms",
                     job->count - job->done, job->count, timeout_ms);
}

static int enter(farpool_job *job, const char *call, farpool_error *error)
{
    if (job == NULL)
        return error_set(error, FARPOOL_EINVAL, "%s: job is NULL", call);
    return pool_enter(job->base.pool, call, error);
}

int farpool_job_get(farpool_job *job, int64_t timeout_ms, farpool_error *error)
{
    int code = enter(job, "get", error);

    if (code != 0)
        return code;
    code = wait_ready(job, timeout_ms, error);
    if (code == 0)
        code = job_result(job, error);
    pool_leave(job->base.pool);
    return code;
}

int farpool_job_wait(farpool_job *job, int64_t timeout_ms)
{
    int code = enter(job, "wait", NULL);

    if (code != 0)
        return code;
    code = wait_ready(job, timeout_ms, NULL);
    pool_leave(job->base.pool);
    return code;
}

bool farpool_job_ready(farpool_job *job)
{
    bool ready;

    if (enter(job, "ready", NULL) != 0)
        return false;
    if (!job_is_ready(job))
        driver_look(job->base.pool);
    ready = job_is_ready(job);
    pool_leave(job->base.pool);
    return ready;
}

int farpool_job_successful(farpool_job *job)
{
    int code = enter(job, "successful", NULL);

    if (code != 0)
        return code;
    if (!job_is_ready(job))
        driver_look(job->base.pool);
    code = !job_is_ready(job) ? FARPOOL_ENOTREADY : job->failed == 0;
    pool_leave(job->base.pool);
    return code;
}

uint64_t farpool_job_count(const farpool_job *job)
{
    return job != NULL ? job->count : 0;
}

static int check_index(const farpool_job *job, const char *call, uint64_t index,
                       farpool_error *error)
{
    if (index < job->count)
        return 0;
    return error_set(error, FARPOOL_EINVAL,
                     "%s: index is %" PRIu64 ", but the job has %" PRIu64 " tasks", call,
                     index, job->count);
}

static int read_outcome(farpool_job *job, uint64_t index, farpool_error *error)
{
    if (!job_has_ended(job, index))
        return error_set(error, FARPOOL_ENOTREADY,
                         "outcome: task %" PRIu64 " has not ended", index);
    return job_is_good(job, index) ? 0 : job_tell(job, index, error);
}

int farpool_job_outcome(farpool_job *job, uint64_t index, farpool_error *error)
{
    int code = enter(job, "outcome", error);

    if (code != 0)
        return code;
    code = check_index(job, "outcome", index, error);
    if (code == 0 && !job_has_ended(job, index))
        driver_look(job->base.pool);
    if (code == 0)
        code = read_outcome(job, index, error);
    pool_leave(job->base.pool);
    return code;
}

const void *farpool_job_output(farpool_job *job, uint64_t index, size_t *ret_size)
{
    const void *output = NULL;

    if (enter(job, "output", NULL) != 0)
        return NULL;
    if (index < job->count && job_is_good(job, index)) {
        output = job->typed ? (const void *)(job->outputs + index * job->output_size)
                            : job->items[index].data;
        if (ret_size != NULL)
            *ret_size = job->typed ? job->output_size : job->items[index].size;
    }
    pool_leave(job->base.pool);
    return output;
}

const void *farpool_job_outputs(farpool_job *job)
{
    const void *outputs = NULL;

    if (enter(job, "outputs", NULL) != 0)
        return NULL;
    if (job->typed && job_is_ready(job))
        outputs = job->outputs != NULL ? (const void *)job->outputs : "";
    pool_leave(job->base.pool);
    return outputs;
}

/* How it stands with the core; false: it is over there. */
static bool count(const farpool_job *job, struct client_job_counts *ret_counts)
{
    if (job->calls == NULL)
        return job->base.number != 0 &&
               client_core_job_counts(job->base.pool->core, job->base.number, ret_counts);
    calls_count(job, ret_counts);
    return true;
}

int farpool_job_progress(farpool_job *job, farpool_progress *ret_progress)
{
    struct client_job_counts counts;
    farpool_progress progress = {0};

    if (ret_progress == NULL || enter(job, "progress", NULL) != 0)
        return FARPOOL_EINVAL;
    driver_look(job->base.pool);
    progress.total = job->count;
    progress.done = job->done;
    progress.failed = job->failed;
    if (count(job, &counts)) {
        progress.running = counts.running;
        progress.waiting = counts.waiting;
        progress.running_share = (double)counts.share_ppm / 1e6;
    }
    pool_leave(job->base.pool);
    *ret_progress = progress;
    return 0;
}

/* ------------------------------------------------------------------ cancelling */

static int64_t cancel_tasks(const farpool_job *job, uint64_t first, uint64_t count,
                            bool kill)
{
    struct client_event event = {.kind = CLIENT_JOB_CANCEL,
                                 .job = job->base.number,
                                 .first = first,
                                 .count = count,
                                 .kill = kill};
    int code;

    if (job->base.number == 0 || count == 0)
        return 0;
    code = pool_step(job->base.pool, &event);
    if (code != 0)
        return code == FARPOOL_EINVAL ? 0 : code;
    return (int64_t)event.count;
}

/* How many of the tasks were cancelled. */
static int64_t cancel(farpool_job *job, uint64_t first, uint64_t count, bool kill)
{
    const int64_t cancelled = job->calls != NULL ? calls_cancel(job, kill)
                                                 : cancel_tasks(job, first, count, kill);

    if (cancelled <= 0)
        return cancelled;
    job->base.pool->news = true;
    driver_kick(job->base.pool);
    return cancelled;
}

int64_t farpool_job_cancel(farpool_job *job, bool kill)
{
    int64_t result = enter(job, "cancel", NULL);

    if (result != 0)
        return result;
    result = cancel(job, 0, job->count, kill);
    pool_leave(job->base.pool);
    return result;
}

int farpool_job_cancel_task(farpool_job *job, uint64_t index, bool kill)
{
    int64_t result = enter(job, "cancel", NULL);

    if (result != 0)
        return (int)result;
    result = check_index(job, "cancel", index, NULL);
    if (result == 0)
        result = cancel(job, index, 1, kill);
    pool_leave(job->base.pool);
    return (int)result;
}
