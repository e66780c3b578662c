/* SPDX-License-Identifier: Apache-2.0
 *
 * job.c: the jobs of virtual clients: what they ask for, how each of their tasks behaves
 * (all of it follows from the job's seed and the index), and the judgement of each end:
 * every task ends once, with the right bytes or for a reason that it really had. */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A number for a task, other for each `salt`. */
static uint64_t mix(const struct job *job, uint64_t index, uint64_t salt)
{
    uint64_t state = job->seed ^ (index * 0x2545f4914f6cdd1du) ^ (salt << 56);

    return rng_next(&state);
}

/* ---------------------------------------------------------- what is asked for */

static void choose_options(struct sim *sim, struct app *app, struct job *job, int place)
{
    struct client_job_options *options = &job->options;

    snprintf(options->function, sizeof options->function, "f%d_%d", sim_app_place(sim, app),
             place);
    options->chunk = sim_chance(sim, 2) ? 0 : (uint32_t)sim_between(sim, 1, 20);
    options->timeout_ms = sim_chance(sim, 4) ? sim_between(sim, 300, 1500) : 0;
    options->retries = (uint32_t)sim_dice(sim, 4);
    options->losses_max = (uint32_t)sim_between(sim, 1, 4);
    options->priority = (int32_t)sim_dice(sim, 3) - 1;
    options->lazy = sim_chance(sim, 2);
    options->tasks = sim_chance(sim, 2) ? job->count : 0;
    if (options->lazy && sim_chance(sim, 2))
        options->tasks_under_way = sim_between(sim, 1, 40);
    if (options->lazy && sim_chance(sim, 2))
        options->bytes_under_way = sim_between(sim, 1, 10000);
}

static uint64_t choose_count(struct sim *sim)
{
    switch (sim_dice(sim, 8)) {
    case 0:
        return sim_dice(sim, 3);
    case 1:
        return sim_between(sim, 100, 400);
    default:
        return sim_between(sim, 3, 60);
    }
}

void sim_job_fill(struct sim *sim, struct app *app, int place)
{
    struct job *job = &app->jobs[place];
    bool nested = app->config.attach;

    job->used = true;
    job->app = sim_app_place(sim, app);
    job->seed = rng_next(&sim->rng);
    job->count = nested ? sim_between(sim, 1, 6) : choose_count(sim);
    choose_options(sim, app, job, place);
    job->input_variable = sim_chance(sim, 2);
    job->output_variable = sim_chance(sim, 2);
    job->input_size = (uint32_t)sim_dice(sim, sim_chance(sim, 5) ? 2000 : 40);
    job->output_size = (uint32_t)sim_dice(sim, sim_chance(sim, 5) ? 2000 : 40);
    job->task_us = sim_between(sim, 1, sim_chance(sim, 2) ? 100 : 30000);
    job->spice = (uint32_t)(job->count > 60 ? sim_dice(sim, 20) : sim_dice(sim, 200));
    if (sim->plan.nested && !nested && !job->options.timeout_ms)
        job->nests = (uint32_t)sim_dice(sim, 100);
    if (nested)
        job->spice = 0;
    job->ordered = sim_chance(sim, 2);
    job->read_us = sim_between(sim, 10, 30000);
    job->tasks = sim_alloc((job->count + 1) * sizeof *job->tasks);
    job->order = sim_alloc((job->count + 1) * sizeof *job->order);
}

void sim_job_fini(struct job *job)
{
    free(job->tasks);
    free(job->order);
    memset(job, 0, sizeof *job);
}

struct job *sim_job_find(struct sim *sim, uint64_t number)
{
    for (int i = 0; i < APPS_MAX; i++)
        for (int k = 0; k < APP_JOBS_MAX; k++)
            if (sim->apps[i].jobs[k].opened && sim->apps[i].jobs[k].number == number)
                return &sim->apps[i].jobs[k];
    return NULL;
}

/* ----------------------------------------------------------- how tasks behave */

enum behaviour sim_job_behaviour(const struct job *job, uint64_t index)
{
    static const enum behaviour kinds[] = {BEHAVE_FAIL, BEHAVE_FLAKY, BEHAVE_CRASH,
                                           BEHAVE_CRASH_ONCE, BEHAVE_SLOW, BEHAVE_HANG};

    if (mix(job, index, 1) % 1000 < job->nests)
        return BEHAVE_NEST;
    if (mix(job, index, 2) % 1000 >= job->spice)
        return BEHAVE_WELL;
    return kinds[mix(job, index, 3) % (job->options.timeout_ms ? 6 : 5)];
}

uint64_t sim_job_duration_us(const struct job *job, uint64_t index)
{
    if (sim_job_behaviour(job, index) == BEHAVE_SLOW)
        return 500000 + mix(job, index, 4) % 2500000;
    return job->task_us / 2 + mix(job, index, 4) % (job->task_us + 1);
}

uint32_t sim_job_input_size(const struct job *job, uint64_t index)
{
    if (!job->input_variable)
        return job->input_size;
    return (uint32_t)(mix(job, index, 5) % (job->input_size + 1));
}

void sim_job_make_input(const struct job *job, uint64_t first, uint32_t count,
                    struct msg_span *ret_span)
{
    struct msg_span span = {.first = first, .count = count};
    size_t bytes = 0;

    for (uint32_t i = 0; i < count; i++)
        bytes += sim_job_input_size(job, first + i);
    if (job->input_variable)
        span.sizes = payload_create(4 * (size_t)count);
    if (bytes || job->input_variable)
        span.data = payload_create(bytes);
    uint8_t *to = bytes ? payload_bytes(span.data) : NULL;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t size = sim_job_input_size(job, first + i);

        for (uint32_t k = 0; k < size; k++)
            *to++ = (uint8_t)mix(job, first + i, 6 + k % 8);
        if (span.sizes)
            memcpy(payload_bytes(span.sizes) + 4 * (size_t)i, &size, 4);
    }
    *ret_span = span;
}

/* The output follows from the bytes of the input alone. */
static uint64_t digest(const struct job *job, const uint8_t *input, size_t size)
{
    uint64_t state = job->seed + size;

    for (size_t i = 0; i < size; i++)
        state = (state ^ input[i]) * 0x100000001b3u;
    return rng_next(&state);
}

uint32_t sim_job_output_size(const struct job *job, const uint8_t *input, size_t size)
{
    if (!job->output_variable)
        return job->output_size;
    return (uint32_t)(digest(job, input, size) % (job->output_size + 1));
}

void sim_job_write_output(const struct job *job, const uint8_t *input, size_t size,
                      uint8_t *output)
{
    uint64_t state = digest(job, input, size);
    uint32_t count = sim_job_output_size(job, input, size);

    for (uint32_t i = 0; i < count; i++)
        output[i] = (uint8_t)(state >> (i % 8 * 8)) ^ (uint8_t)i;
}

/* A process begins a task. Each new attempt must have a cause that the client heard of,
 * and a task of a once-job is begun once at most. */
void sim_job_begin(struct sim *sim, struct job *job, uint64_t index, uint32_t attempt)
{
    struct task *task = &job->tasks[index];
    uint32_t causes = task->failures + task->losts + task->returns + 1;

    if (attempt == 0 || attempt > causes)
        sim_fail(sim, "C%d job %llx task %llu: attempt %u, with %u causes", job->app,
                 (unsigned long long)job->number, (unsigned long long)index, attempt,
                 causes);
    if (job->options.losses_max == 1 && task->begins)
        sim_fail(sim, "C%d job %llx: task %llu of a once-job is begun twice", job->app,
                 (unsigned long long)job->number, (unsigned long long)index);
    task->begins++;
    if (sim->options.broken == BREAK_BEGIN_TWICE && !sim->broke &&
        job->options.losses_max == 1) {
        sim->broke = true;
        sim_job_begin(sim, job, index, attempt);
    }
}

/* ------------------------------------------------------------- judging an end */

static struct job *job_of(struct app *app, uint64_t number)
{
    for (int i = 0; i < app->jobs_count; i++)
        if (app->jobs[i].opened && app->jobs[i].number == number)
            return &app->jobs[i];
    return NULL;
}

static void set_read(struct sim *sim, struct app *app, struct job *job);

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
    sim_window_ended(sim, app, job, index);
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

static void take_done(struct sim *sim, struct app *app, const struct client_effect *effect)
{
    struct job *job = job_of(app, effect->job);
    struct msg_span output = {.first = effect->first, .count = (uint32_t)effect->count,
                              .sizes = effect->sizes, .data = effect->data};

    if (!job)
        sim_fail(sim, "C%d: results of no job", sim_app_place(sim, app));
    if (job->freed)
        return;
    for (uint32_t i = 0; i < output.count; i++) {
        const uint8_t *data;
        size_t size;

        end_task(sim, app, job, output.first + i, TASK_DONE, 0);
        span_task(&output, i, &data, &size);
        check_output(sim, job, output.first + i, data, size);
    }
    set_read(sim, app, job);
}

void sim_job_take_done(struct sim *sim, struct app *app, const struct client_effect *effect)
{
    take_done(sim, app, effect);
    if (sim->options.broken == BREAK_DUPLICATE)
        take_done(sim, app, effect);
}

/* Whether the task had this reason to fail. */
static bool may_fail(const struct app *app, const struct job *job, uint64_t index, int code)
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
        /* Nobody can tell what of a once-job had begun when a link was lost. */
        return task->losts >= job->options.losses_max ||
               (job->options.losses_max == 1 && app->welcomes > 1);
    case FARPOOL_ETASKTIMEOUT:
        return job->options.timeout_ms && task->failures > retries &&
               (behaviour == BEHAVE_HANG ||
                sim_job_duration_us(job, index) >= 1000 * job->options.timeout_ms);
    case FARPOOL_ECANCELLED:
        return task->cancelled;
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
    if (!may_fail(app, job, index, code) && !(app->failed && code == app->failed_code))
        sim_fail(sim,
                 "C%d job %llx: task %llu may not fail with %d (behaviour %d, %u blames, "
                 "%u losts of %u, %u failures, %u retries)",
                 job->app, (unsigned long long)job->number, (unsigned long long)index,
                 code, (int)sim_job_behaviour(job, index), task->blames, task->losts,
                 job->options.losses_max, task->failures, job->options.retries);
}

void sim_job_take_failed(struct sim *sim, struct app *app, const struct client_effect *effect)
{
    struct job *job = job_of(app, effect->job);

    if (!job)
        sim_fail(sim, "C%d: failures of no job", sim_app_place(sim, app));
    if (job->freed)
        return;
    if (effect->count == 0)
        fail_task(sim, app, job, effect->failed.index, effect->failed.code);
    for (uint64_t i = 0; i < effect->count; i++)
        fail_task(sim, app, job, effect->first + i, effect->code);
    set_read(sim, app, job);
}

void sim_job_take_ended(struct sim *sim, struct app *app, uint64_t number)
{
    struct job *job = job_of(app, number);

    if (!job || job->ended || job->freed)
        sim_fail(sim, "C%d: a job ends that is not there", sim_app_place(sim, app));
    if (!app->failed && !app->terminated &&
        (job->pulled != job->count || job->ends != job->count))
        sim_fail(sim, "C%d: job %llx ends with %llu of %llu tasks", job->app,
                 (unsigned long long)number, (unsigned long long)job->ends,
                 (unsigned long long)job->count);
    job->ended = true;
}

void sim_job_check_finished(struct sim *sim, const struct app *app)
{
    if (!app->closing && !app->terminated)
        sim_fail(sim, "C%d: its pool has ended, and nobody asked", sim_app_place(sim, app));
    for (int i = 0; i < app->jobs_count; i++) {
        const struct job *job = &app->jobs[i];

        if (job->opened && !job->freed && !job->ended)
            sim_fail(sim, "C%d has ended and job %d has not", sim_app_place(sim, app), i);
        for (uint64_t k = 0; job->ended && !app->failed && !app->terminated &&
                             k < job->count; k++)
            if (job->tasks[k].end == TASK_OPEN)
                sim_fail(sim, "C%d has ended and job %d's task %llu has not",
                         sim_app_place(sim, app), i, (unsigned long long)k);
    }
}

/* -------------------------------------------------------------------- input */

static void end_input(struct sim *sim, struct app *app, struct job *job, int place)
{
    if (job->input_ended)
        return;
    job->input_ended = true;
    sim_app_push(sim, app, CLIENT_JOB_INPUT_END, place, 0, NULL);
}

static void pull_eager(struct sim *sim, struct app *app, struct job *job, int place)
{
    while (job->pulled < job->count) {
        uint64_t left = job->count - job->pulled;
        uint64_t part = sim_chance(sim, 2) ? left : sim_between(sim, 1, left);

        sim_app_push_input(sim, app, place, job->pulled, part);
        job->pulled += part;
    }
    end_input(sim, app, job, place);
}

/* Answers as much as is wanted, or now and then only a piece of it. */
static void pull_lazy(struct sim *sim, uint64_t app_number, uint64_t place, uint64_t unused)
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

void sim_job_want_input(struct sim *sim, struct app *app, const struct client_effect *effect)
{
    struct job *job = job_of(app, effect->job);
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

static void read_some(struct sim *sim, uint64_t app_number, uint64_t place, uint64_t unused)
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
    set_read(sim, app, job);
}

static void set_read(struct sim *sim, struct app *app, struct job *job)
{
    uint64_t index;

    if (!job->options.lazy || job->reading || !next_to_read(job, &index))
        return;
    job->reading = true;
    sim_at(sim, sim->now_us + sim_between(sim, 1, job->read_us), read_some,
           (uint64_t)sim_app_place(sim, app), (uint64_t)(job - app->jobs), 0);
}
