/* SPDX-License-Identifier: Apache-2.0
 *
 * feed.c: the two ends of a virtual client's jobs: input, all at once or as far as a
 * lazy job wants it (and whether it may want so much), and the reader of a lazy job's
 * results, slower or faster than they come. */
#include "sim.h"

/* -------------------------------------------------------------------- input */

static void end_input(struct sim *sim, struct app *app, struct job *job, int place)
{
    if (job->input_ended)
        return;
    job->input_ended = true;
    sim_app_push(sim, app, CLIENT_JOB_INPUT_END, place, 0, NULL);
}

/* Some jobs come task by task: more spans than one message holds are under way then. */
static void pull_eager(struct sim *sim, struct app *app, struct job *job, int place)
{
    while (job->pulled < job->count) {
        uint64_t left = job->seed % 8 ? job->count - job->pulled : 1;
        uint64_t part = sim_chance(sim, 2) ? left : sim_between(sim, 1, left);

        sim_app_push_input(sim, app, place, job->pulled, part);
        job->pulled += part;
    }
    end_input(sim, app, job, place);
}

/* Answers as much as is wanted, or now and then only a piece of it. */
static void pull_lazy(struct sim *sim, uint64_t app_number, uint64_t place,
                      uint64_t unused)
{
    struct app *app = &sim->apps[app_number];
    struct job *job = &app->jobs[place];
    uint64_t count = 0;

    (void)unused;
    if (!app->actor.alive || job->ended || job->freed)
        return;
    while (count < job->wanted && job->pulled + count < job->count && job->wanted_bytes) {
        uint64_t size = sim_job_input_size(job, job->pulled + count++);
        job->wanted_bytes -= size < job->wanted_bytes ? size : job->wanted_bytes;
        if (sim_chance(sim, 20))
            break;
    }
    job->wanted = job->wanted_bytes ? job->wanted - count : 0;
    if (count)
        sim_app_push_input(sim, app, (int)place, job->pulled, count);
    job->pulled += count;
    if (job->pulled == job->count && (job->wanted || sim_chance(sim, 2)))
        end_input(sim, app, job, (int)place);
    else if (job->wanted)
        sim_at(sim, sim->now_us + sim_dice(sim, 20000), pull_lazy, app_number, place, 0);
}

void sim_job_pull(struct sim *sim, struct app *app, int place)
{
    struct job *job = &app->jobs[place];

    if (!job->options.lazy)
        pull_eager(sim, app, job, place);
}

/* Input bytes of open tasks and output bytes that were not read. */
static uint64_t bytes_under_way(const struct job *job)
{
    uint64_t bytes = job->output_bytes;

    for (uint64_t i = 0; i < job->pulled; i++)
        if (job->tasks[i].end == TASK_OPEN)
            bytes += sim_job_input_size(job, i);
    return bytes;
}

void sim_job_want_input(struct sim *sim, struct app *app,
                        const struct client_effect *effect)
{
    struct job *job = sim_app_job(app, effect->job);
    int place = (int)(job - app->jobs);

    if (!job || !job->options.lazy || !effect->count || !effect->bytes || job->wanted)
        sim_fail(sim, "C%d: input is wanted without reason", sim_app_place(sim, app));
    uint64_t ahead = job->pulled - job->read_told;
    uint64_t limit = job->options.tasks_under_way;
    if (limit && ahead + effect->count > limit)
        sim_fail(sim, "C%d: %llu more inputs wanted with %llu under way of %llu",
                 sim_app_place(sim, app), (unsigned long long)effect->count,
                 (unsigned long long)ahead, (unsigned long long)limit);
    limit = job->options.bytes_under_way;
    if (limit && ahead && bytes_under_way(job) >= limit)
        sim_fail(sim, "C%d: more input wanted with %llu bytes under way of %llu",
                 sim_app_place(sim, app), (unsigned long long)bytes_under_way(job),
                 (unsigned long long)limit);
    job->wanted = effect->count;
    job->wanted_bytes = effect->bytes;
    pull_lazy(sim, (uint64_t)sim_app_place(sim, app), (uint64_t)place, 0);
}

/* ------------------------------------------------------------------ reading */

/* The next result in the reader's order; false: it has not ended yet. */
static bool next_to_read(const struct job *job, uint64_t *ret_index)
{
    if (job->read >= job->pulled)
        return false;
    *ret_index = job->ordered ? job->read : job->order[job->read];
    return job->ordered ? job->tasks[job->read].end != TASK_OPEN : job->read < job->ends;
}

static void read_some(struct sim *sim, uint64_t app_number, uint64_t place,
                      uint64_t unused)
{
    struct app *app = &sim->apps[app_number];
    struct job *job = &app->jobs[place];
    uint64_t count = 0, bytes = 0, index, most = sim_between(sim, 1, 5);

    (void)unused;
    job->reading = false;
    if (!app->actor.alive || job->freed)
        return;
    while (count < most && next_to_read(job, &index)) {
        bytes += job->tasks[index].output_size;
        job->read++;
        count++;
    }
    if (count)
        sim_app_push_consumed(sim, app, (int)place, count, bytes);
    sim_job_set_read(sim, app, job);
}

void sim_job_set_read(struct sim *sim, struct app *app, struct job *job)
{
    uint64_t index;

    if (!job->options.lazy || job->reading || !next_to_read(job, &index))
        return;
    job->reading = true;
    sim_at(sim, sim->now_us + sim_between(sim, 1, job->read_us), read_some,
           (uint64_t)sim_app_place(sim, app), (uint64_t)(job - app->jobs), 0);
}
