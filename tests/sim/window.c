/* SPDX-License-Identifier: Apache-2.0
 *
 * window.c: watches what a client has under way on its present link: each task that it
 * sent and whose end it has not heard of, against the window of WELCOME. Also counts
 * what the client was told of each task, which job.c weighs when a task fails. */
#include "sim.h"

#define DOUBTS_MAX 8 /* as in the client's core */

void sim_window_reset(struct app *app)
{
    for (int i = 0; i < app->jobs_count; i++)
        for (uint64_t k = 0; app->jobs[i].tasks && k < app->jobs[i].count; k++) {
            struct task *task = &app->jobs[i].tasks[k];

            task->again = task->again || task->sent;
            task->sent = 0;
        }
    app->under_way_tasks = app->under_way_bytes = 0;
    app->tasks_max = app->bytes_max = 0;
}

static void leave(struct app *app, struct job *job, uint64_t index)
{
    if (!job->tasks[index].sent)
        return;
    job->tasks[index].sent = 0;
    app->under_way_tasks--;
    app->under_way_bytes -= sim_job_input_size(job, index);
}

void sim_window_ended(struct app *app, struct job *job, uint64_t index)
{
    leave(app, job, index);
}

void sim_window_job_freed(struct app *app, struct job *job)
{
    for (uint64_t i = 0; i < job->count; i++)
        leave(app, job, i);
}

/* One task that is larger than the window passes alone. */
static bool is_beyond(const struct app *app)
{
    return app->under_way_tasks > 1 && (app->under_way_tasks > app->tasks_max ||
                                        app->under_way_bytes > app->bytes_max);
}

static void enter(struct sim *sim, struct app *app, struct job *job, uint64_t index,
                  uint32_t attempt)
{
    struct task *task = &job->tasks[index];

    if (task->sent)
        sim_fail(sim, "C%d sends task %llu twice on one link", sim_app_place(sim, app),
                 (unsigned long long)index);
    task->sent = attempt;
    task->again = false;
    app->under_way_tasks++;
    app->under_way_bytes += sim_job_input_size(job, index);
    if (is_beyond(app))
        sim_fail(sim, "C%d has %llu tasks, %llu bytes under way of %llu, %llu",
                 sim_app_place(sim, app), (unsigned long long)app->under_way_tasks,
                 (unsigned long long)app->under_way_bytes,
                 (unsigned long long)app->tasks_max, (unsigned long long)app->bytes_max);
}

void sim_window_sent(struct sim *sim, struct app *app, const struct message *message)
{
    if (message->kind != MSG_TASKS)
        return;
    struct job *job = sim_app_job(app, message->tasks.job);
    if (!job)
        sim_fail(sim, "C%d sends tasks of no job", sim_app_place(sim, app));
    if (!job->freed)
        sim_promise_check_priority(sim, app, job, message);
    for (uint32_t i = 0; i < message->tasks.spans_count && !job->freed; i++)
        for (uint32_t k = 0; k < message->tasks.spans[i].count; k++)
            enter(sim, app, job, message->tasks.spans[i].first + k,
                  message->tasks.spans[i].attempt);
}

static void receive_done(struct app *app, struct job *job, const struct msg_done *done)
{
    for (uint32_t i = 0; i < done->count; i++)
        if (job->tasks[done->first + i].sent == done->attempt)
            leave(app, job, done->first + i);
}

/* Whether the task can have run out of its time, whatever its client makes of that. */
static void check_timeout(struct sim *sim, const struct job *job, uint64_t index)
{
    const uint64_t limit_us = 1000 * job->options.timeout_ms;

    if (!limit_us || (sim_job_behaviour(job, index) != BEHAVE_HANG &&
                      sim_job_slowest_us(sim, job, index) < limit_us))
        sim_fail(sim, "C%d job %llx: task %llu is ended for a limit that it keeps",
                 job->app, (unsigned long long)job->number, (unsigned long long)index);
}

static void receive_failed(struct sim *sim, struct app *app, struct job *job,
                           const struct msg_failed *failed)
{
    struct task *task = &job->tasks[failed->index];

    if (failed->code == FARPOOL_ETASKTIMEOUT)
        check_timeout(sim, job, failed->index);
    if (failed->code == FARPOOL_EMEMORYLIMIT)
        sim_memory_check_told(sim, job, failed);
    if (failed->code == FARPOOL_EFUNCTION || failed->code == FARPOOL_ETASKTIMEOUT ||
        failed->code == FARPOOL_ECPULIMIT || failed->code == FARPOOL_EMEMORYLIMIT)
        task->failures++;
    else
        task->losts++;
    if (task->sent == failed->attempt)
        leave(app, job, failed->index);
}

static void receive_lost(struct app *app, struct job *job, const struct msg_range *range,
                         const struct message *message)
{
    for (uint64_t i = 0; i < range->count; i++) {
        struct task *task = &job->tasks[range->first + i];

        if (message->lost.code == FARPOOL_EDRAINED)
            task->returns++;
        else if (message->lost.unsure && task->doubts < DOUBTS_MAX)
            task->doubts++;
        else
            task->losts++;
        if (message->lost.lane)
            continue; /* what is counted here was sent by the coordinator */
        if (range->attempt == 0 || range->attempt == task->sent)
            leave(app, job, range->first + i);
    }
}

void sim_window_received(struct sim *sim, struct app *app, const struct message *message)
{
    struct job *job;

    switch (message->kind) {
    case MSG_WELCOME:
        app->welcomes++;
        app->greetings = app->greeter == sim->coordinator.starts ? app->greetings + 1 : 1;
        app->greeter = sim->coordinator.starts;
        app->tasks_max = message->welcome.tasks_max;
        app->bytes_max = message->welcome.bytes_max;
        break;
    case MSG_DONE:
        job = sim_app_job(app, message->done.job);
        for (uint32_t i = 0; job && i < message->done.results_count; i++)
            receive_done(app, job, &message->done.results[i]);
        break;
    case MSG_FAILED:
        job = sim_app_job(app, message->failed.job);
        for (uint32_t i = 0; job && i < message->failed.results_count; i++)
            receive_failed(sim, app, job, &message->failed.results[i]);
        break;
    case MSG_LOST:
        job = sim_app_job(app, message->lost.job);
        for (uint32_t i = 0; job && i < message->lost.ranges_count; i++)
            receive_lost(app, job, &message->lost.ranges[i], message);
        break;
    default:
        break;
    }
}
