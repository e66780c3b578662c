/* SPDX-License-Identifier: Apache-2.0
 *
 * job.c: the jobs of virtual clients: what they ask for, how each of their tasks behaves
 * (all of it follows from the job's seed and the index), its input and its output. */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLOWED_US_MAX 3000000 /* of a task that is slow for its node's sake */

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

    snprintf(options->function, sizeof options->function, "f%d_%d",
             sim_app_place(sim, app), place);
    options->chunk = sim_chance(sim, 2) ? 0 : (uint32_t)sim_between(sim, 1, 20);
    options->timeout_ms = sim_chance(sim, 4) ? sim_between(sim, 300, 1500) : 0;
    options->cpu_ms = sim_chance(sim, 6) ? sim_between(sim, 300, 1500) : 0;
    options->memory_bytes = sim_chance(sim, 6) ? sim_between(sim, 1, 1000) : 0;
    options->retries = (uint32_t)sim_dice(sim, 4);
    options->losses_max = (uint32_t)sim_between(sim, 1, 4);
    options->priority = (int32_t)sim_dice(sim, 3) - 1;
    options->whole = sim_chance(sim, 3);
    options->speculate =
        sim->plan.speculates && options->losses_max > 1 && !sim_chance(sim, 4);
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
    if (sim->plan.nested && !nested && !job->options.timeout_ms && !job->options.cpu_ms)
        job->nests = (uint32_t)sim_dice(sim, 100);
    if (nested)
        job->spice = 0;
    job->killer = UINT64_MAX;
    if (sim->plan.killer && !sim->kills && !nested && job->count > 0) {
        job->killer = sim_dice(sim, job->count);
        sim->kills = true;
    }
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
    static const enum behaviour kinds[] = {BEHAVE_FAIL,       BEHAVE_FLAKY, BEHAVE_CRASH,
                                           BEHAVE_CRASH_ONCE, BEHAVE_SLOW,  BEHAVE_HANG};

    if (index == job->killer)
        return BEHAVE_KILL_NODE;
    if (mix(job, index, 1) % 1000 < job->nests)
        return BEHAVE_NEST;
    if (mix(job, index, 2) % 1000 >= job->spice)
        return BEHAVE_WELL;
    return kinds[mix(job, index, 3) % (job->options.timeout_ms ? 6 : 5)];
}

bool sim_job_eats(const struct job *job, uint64_t index)
{
    return mix(job, index, 7) % 8 == 0;
}

uint64_t sim_job_duration_us(const struct job *job, uint64_t index)
{
    if (sim_job_behaviour(job, index) == BEHAVE_SLOW)
        return 500000 + mix(job, index, 4) % 2500000;
    return job->task_us / 2 + mix(job, index, 4) % (job->task_us + 1);
}

uint64_t sim_job_slowed_us(const struct job *job, uint64_t index, uint32_t slowness)
{
    const uint64_t usual = sim_job_duration_us(job, index);
    const uint64_t slowed = usual * slowness;

    if (usual >= SLOWED_US_MAX)
        return usual;
    return slowed < SLOWED_US_MAX ? slowed : SLOWED_US_MAX;
}

uint64_t sim_job_slowest_us(const struct sim *sim, const struct job *job, uint64_t index)
{
    return sim_job_slowed_us(job, index, sim->plan.slow ? SLOWNESS_MAX : 1);
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
    uint32_t causes = task->failures + task->losts + task->returns + task->doubts + 1;

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
