/* SPDX-License-Identifier: Apache-2.0
 *
 * outcome.c: the judgement of what reaches a virtual client: every task ends once, with
 * the right bytes or for a reason that it really had, and every job when all of them
 * have. What a task had to go through is written down where it happens (process.c,
 * window.c). */
#include "sim.h"

#include <string.h>

#define TELL_US 500000 /* WELCOME and HELD, at their slowest */

static void end_task(struct sim *sim, struct app *app, struct job *job, uint64_t index,
                     enum task_end end, int code)
{
    if (index >= job->pulled || job->ended)
        sim_fail(sim, "C%d: an end of task %llu, which is not there", job->app,
                 (unsigned long long)index);
    struct task *task = &job->tasks[index];
    if (task->end != TASK_OPEN)
        sim_fail(sim, "C%d job %llx: task %llu ends twice", job->app,
                 (unsigned long long)job->number, (unsigned long long)index);
    task->end = end;
    task->code = code;
    job->order[job->ends++] = index;
    sim_window_ended(app, job, index);
}

static void check_output(struct sim *sim, struct job *job, uint64_t index,
                         const uint8_t *data, size_t size)
{
    struct msg_span input;
    const uint8_t *bytes;
    size_t input_size;
    uint8_t expected[4096];

    sim_job_make_input(job, index, 1, &input);
    span_task(&input, 0, &bytes, &input_size);
    uint32_t expected_size = sim_job_output_size(job, bytes, input_size);
    sim_job_write_output(job, bytes, input_size, expected);
    span_fini(&input);
    if (size != expected_size || (size && memcmp(data, expected, size) != 0))
        sim_fail(sim, "C%d job %llx: task %llu has a wrong output", job->app,
                 (unsigned long long)job->number, (unsigned long long)index);
    job->tasks[index].output_size = (uint32_t)size;
    job->output_bytes += size;
}

/* The attempt that was under way has left the window with its message (window.c). */
static void check_attempt(struct sim *sim, const struct job *job, uint64_t index)
{
    const struct task *task = &job->tasks[index];

    if (task->sent || task->again)
        sim_fail(sim, "C%d job %llx: task %llu ends by a result of another attempt",
                 job->app, (unsigned long long)job->number, (unsigned long long)index);
}

static void take_done(struct sim *sim, struct app *app,
                      const struct client_effect *effect)
{
    struct job *job = sim_app_job(app, effect->job);
    struct msg_span output = {.first = effect->first,
                              .count = (uint32_t)effect->count,
                              .sizes = effect->sizes,
                              .data = effect->data};

    if (!job)
        sim_fail(sim, "C%d: results of no job", sim_app_place(sim, app));
    if (job->freed)
        return;
    for (uint32_t i = 0; i < output.count; i++) {
        const uint8_t *data;
        size_t size;

        sim_output_check_done(sim, app, job, output.first + i);
        check_attempt(sim, job, output.first + i);
        end_task(sim, app, job, output.first + i, TASK_DONE, 0);
        span_task(&output, i, &data, &size);
        check_output(sim, job, output.first + i, data, size);
    }
    sim_job_set_read(sim, app, job);
}

void sim_job_take_done(struct sim *sim, struct app *app,
                       const struct client_effect *effect)
{
    take_done(sim, app, effect);
    if (sim->options.broken == BREAK_DUPLICATE)
        take_done(sim, app, effect);
}

/* Whether the task may have taken so long, by clocks that tell whole milliseconds. */
static bool reaches(const struct sim *sim, const struct job *job, uint64_t index,
                    uint64_t limit_ms)
{
    return sim_job_slowest_us(sim, job, index) + 1000 > 1000 * limit_ms;
}

/* Whether the task had this reason to fail. */
static bool may_fail(struct sim *sim, const struct app *app, const struct job *job,
                     uint64_t index, int code)
{
    const struct task *task = &job->tasks[index];
    enum behaviour behaviour = sim_job_behaviour(job, index);
    /* A once-job's tasks are never run again, for whatever reason. */
    uint32_t retries = job->options.losses_max == 1 ? 0 : job->options.retries;

    switch (code) {
    case FARPOOL_EFUNCTION:
        return task->cancel_marked ||
               (behaviour == BEHAVE_FAIL && task->failures > retries) ||
               (behaviour == BEHAVE_FLAKY && retries == 0);
    case FARPOOL_EPROCESSLOST:
        return task->blames && task->losts >= job->options.losses_max;
    case FARPOOL_ENODELOST:
        sim_promise_check_beside(sim, job, index);
        return task->losts >= job->options.losses_max;
    case FARPOOL_ETASKTIMEOUT:
        return job->options.timeout_ms && task->failures > retries &&
               (behaviour == BEHAVE_HANG ||
                reaches(sim, job, index, job->options.timeout_ms));
    case FARPOOL_ECPULIMIT:
        return job->options.cpu_ms && task->failures > retries &&
               (behaviour == BEHAVE_HANG ||
                reaches(sim, job, index, job->options.cpu_ms));
    case FARPOOL_EMEMORYLIMIT:
        return job->options.memory_bytes && task->failures > retries &&
               sim_job_eats(job, index);
    case FARPOOL_ECANCELLED:
        return task->cancelled || job->stopped;
    case FARPOOL_ETERMINATED:
        return app->terminated;
    default:
        return app->failed && code == app->failed_code;
    }
}

static void fail_task(struct sim *sim, struct app *app, struct job *job, uint64_t index,
                      int code)
{
    end_task(sim, app, job, index, TASK_FAILED, code);
    const struct task *task = &job->tasks[index];
    if (!may_fail(sim, app, job, index, code) &&
        !(app->failed && code == app->failed_code))
        sim_fail(sim,
                 "C%d job %llx: task %llu may not fail with %d (behaviour %d, %u blames, "
                 "%u losts of %u, %u failures, %u retries)",
                 job->app, (unsigned long long)job->number, (unsigned long long)index,
                 code, (int)sim_job_behaviour(job, index), task->blames, task->losts,
                 job->options.losses_max, task->failures, job->options.retries);
}

/* Whether a worker has had time, and a sound link, to tell this coordinator what it has.
 */
static bool has_told(struct sim *sim, const struct node *node)
{
    const struct link *link = sim_link_find(sim, node->link);

    return node->actor.alive && link && link->welcomed_us && link->lanes[0].open &&
           link->lanes[1].open && !link->lanes[0].deaf && !link->lanes[1].deaf &&
           link->welcomed_us + TELL_US < sim->now_us &&
           link->lag_until_us < link->welcomed_us &&
           node->actor.paused_until_us < link->welcomed_us;
}

static void check_not_running(struct sim *sim, const struct process *process,
                              const struct message *message)
{
    const struct give *give = sim_queue_at(&process->gives, 0);
    const uint64_t index = give->span.first + give->next;

    for (uint32_t i = 0; i < message->lost.ranges_count; i++) {
        const struct msg_range *range = &message->lost.ranges[i];

        if (give->job->number == message->lost.job && index >= range->first &&
            index - range->first < range->count && give->span.attempt == range->attempt)
            sim_fail(sim, "task %llu of job %llx runs, and is told to be lost",
                     (unsigned long long)index, (unsigned long long)message->lost.job);
    }
}

void sim_outcome_given_up(struct sim *sim, const struct id *pool)
{
    for (int i = 0; i < APPS_MAX; i++)
        if (id_equal(&sim->apps[i].config.pool, pool))
            sim->apps[i].given_up = sim->coordinator.starts;
}

/* What is nowhere since the coordinator was restarted is at no worker that has told: so
 * a once-job loses no more than that. (A client that comes back to the same coordinator
 * has had its processes killed by that one; so has one that came too late: what it has
 * running still is about to be told.) */
void sim_outcome_check_lost(struct sim *sim, const struct app *app,
                            const struct message *message)
{
    if (message->lost.node[0] || app->greetings != 1 ||
        app->given_up == sim->coordinator.starts)
        return;
    for (int i = 0; i < NODES_MAX; i++) {
        const struct node *node = &sim->nodes[i];

        for (size_t k = 0; has_told(sim, node) && k < node->processes.count; k++) {
            const struct process *process =
                *(struct process **)sim_queue_at(&node->processes, k);

            if (process->running && !process->killed && process->gives.count)
                check_not_running(sim, process, message);
        }
    }
}

void sim_job_take_failed(struct sim *sim, struct app *app,
                         const struct client_effect *effect)
{
    struct job *job = sim_app_job(app, effect->job);

    if (!job)
        sim_fail(sim, "C%d: failures of no job", sim_app_place(sim, app));
    if (job->freed)
        return;
    if (effect->count == 0)
        fail_task(sim, app, job, effect->failed.index, effect->failed.code);
    for (uint64_t i = 0; i < effect->count; i++)
        fail_task(sim, app, job, effect->first + i, effect->code);
    sim_job_set_read(sim, app, job);
}

/* Whether it was collected before; then it ended in the same way. */
static bool is_told_again(struct sim *sim, const struct job *job, uint64_t index,
                          enum task_end end, int code)
{
    const struct task *task = &job->tasks[index];

    if (task->end != TASK_OPEN && (task->end != end || task->code != code))
        sim_fail(sim, "task %llu of a detached job ended with %d, and now with %d",
                 (unsigned long long)index, task->code, code);
    return task->end != TASK_OPEN;
}

void sim_outcome_collected(struct sim *sim, struct app *app, const struct msg_span *span)
{
    struct job *job = &app->jobs[0];

    for (uint32_t i = 0; i < span->count; i++) {
        const uint64_t index = span->first + i;
        const uint8_t *data;
        size_t size;

        check_attempt(sim, job, index);
        if (!is_told_again(sim, job, index, TASK_DONE, 0))
            end_task(sim, app, job, index, TASK_DONE, 0);
        span_task(span, i, &data, &size);
        check_output(sim, job, index, data, size);
    }
}

void sim_outcome_collected_failed(struct sim *sim, struct app *app,
                                  const struct msg_failed *failed)
{
    struct job *job = &app->jobs[0];

    if (!is_told_again(sim, job, failed->index, TASK_FAILED, failed->code))
        fail_task(sim, app, job, failed->index, failed->code);
}

void sim_job_take_ended(struct sim *sim, struct app *app, uint64_t number)
{
    struct job *job = sim_app_job(app, number);

    if (!job || job->ended || job->freed)
        sim_fail(sim, "C%d: a job ends that is not there", sim_app_place(sim, app));
    if (!app->failed && !app->terminated && !job->stopped &&
        (job->pulled != job->count || job->ends != job->count))
        sim_fail(sim, "C%d: job %llx ends with %llu of %llu tasks", job->app,
                 (unsigned long long)number, (unsigned long long)job->ends,
                 (unsigned long long)job->count);
    job->ended = true;
}

void sim_job_check_finished(struct sim *sim, const struct app *app)
{
    if (!app->closing && !app->terminated)
        sim_fail(sim, "C%d: its pool has ended, and nobody asked",
                 sim_app_place(sim, app));
    for (int i = 0; i < app->jobs_count; i++) {
        const struct job *job = &app->jobs[i];

        if (job->opened && !job->freed && !job->ended)
            sim_fail(sim, "C%d has ended and job %d has not", sim_app_place(sim, app), i);
        for (uint64_t k = 0; job->ended && !app->failed && !app->terminated &&
                             !job->stopped && k < job->count;
             k++)
            if (job->tasks[k].end == TASK_OPEN)
                sim_fail(sim, "C%d has ended and job %d's task %llu has not",
                         sim_app_place(sim, app), i, (unsigned long long)k);
    }
}
