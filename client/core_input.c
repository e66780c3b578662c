/* SPDX-License-Identifier: Apache-2.0
 *
 * core_input.c: how much input a lazy job pulls: enough that no slot waits, little enough
 * that endless input and a slow reader hold memory constant.
 *
 * Under way is what was pulled and not consumed by the reader. Tasks: as the job's
 * options say, else what keeps every slot busy for LAZY_AHEAD_NS by the measured task
 * time; in both cases beginning with a few and growing with each result, so doubling a
 * round trip. Bytes: what memory holds, and will hold: inputs of unfinished tasks,
 * outputs not consumed, and the mean output for each unfinished task; but no more than
 * the window lets be sent. */
#include "client/core_internal.h"

#define AVERAGE_COUNT 1024

void client_average_add(struct average *average, uint64_t count, uint64_t sum)
{
    average->count += count;
    average->sum = add_saturated(average->sum, sum);
    while (average->count > AVERAGE_COUNT) {
        average->count /= 2;
        average->sum /= 2;
    }
}

uint64_t client_average_mean(const struct average *average)
{
    return average->count ? (average->sum + average->count - 1) / average->count : 0;
}

/* Tasks that occupy every slot for the time that is pulled ahead, and two a slot. */
static uint64_t tasks_ahead(const struct client_core *core, const struct job *job)
{
    const uint64_t slots = core->slots ? core->slots : 1;
    const uint64_t elapsed_ns = client_average_mean(&job->elapsed_ns);
    return 2 * slots + slots * (LAZY_AHEAD_NS / (elapsed_ns ? elapsed_ns : 1));
}

/* How many tasks may be under way. */
uint64_t client_input_limit(const struct client_core *core, const struct job *job)
{
    const uint64_t allowed =
        job->allowance > 2 * core->slots ? job->allowance : 2 * core->slots;
    const uint64_t asked = job->options.tasks_under_way;
    uint64_t limit = asked ? asked : smaller(tasks_ahead(core, job), LAZY_TASKS_MAX);
    if (core->tasks_max)
        limit = smaller(limit, core->tasks_max);
    return smaller(limit, allowed);
}

int client_input_consumed(struct client_core *core, const struct client_event *event)
{
    struct job *job = client_job_find(core, event->job);
    if (!job)
        return FARPOOL_EINVAL;
    if (!job->options.lazy)
        return 0;
    assert(event->count <= job->done + job->failed - job->consumed);
    assert(event->bytes <= job->output_bytes);
    job->consumed += event->count;
    job->output_bytes -= event->bytes;
    return 0;
}

/* Fills in how much more input the job wants; false: none now. */
static bool wants(const struct client_core *core, const struct job *job,
                  uint64_t *ret_count, uint64_t *ret_bytes)
{
    const uint64_t asked =
        job->options.bytes_under_way ? job->options.bytes_under_way : LAZY_BYTES_MAX;
    const uint64_t bytes_max = core->bytes_max ? smaller(asked, core->bytes_max) : asked;
    const uint64_t under_way = job->next - job->consumed;
    const uint64_t unfinished = job->next - job->done - job->failed;
    const uint64_t output = client_average_mean(&job->output_size);
    uint64_t task = client_average_mean(&job->input_size) + output;
    task = task ? task : 1;
    const uint64_t held = span_set_bytes(job->waiting) + span_set_bytes(job->sent) +
                          job->output_bytes + unfinished * output;
    const uint64_t bytes = subtract_saturated(bytes_max, held);
    uint64_t limit = smaller(client_input_limit(core, job), bytes_max / task);
    limit = limit ? limit : 1;
    uint64_t count = smaller(subtract_saturated(limit, under_way), bytes / task);
    if (!under_way && !count)
        count = 1; /* whatever its size */
    /* Not for every single task that ends: an eighth of them at a time. */
    if (!count || (under_way && count < (limit + 7) / 8))
        return false;
    const uint64_t inputs = subtract_saturated(bytes, count * output);
    *ret_count = count;
    *ret_bytes = inputs ? inputs : 1;
    return true;
}

int client_input_flush(struct client_core *core, struct client_effects *effects)
{
    for (struct job *job = TAILQ_FIRST(&core->lazy); job;
         job = TAILQ_NEXT(job, lazy_entry)) {
        uint64_t count, bytes;
        if (job->state != JOB_FILLING || job->wanted || !wants(core, job, &count, &bytes))
            continue;
        struct client_effect *effect = client_effects_add(effects, CLIENT_INPUT_WANTED);
        if (!effect)
            return FARPOOL_ENOMEM;
        effect->job = job->number;
        effect->count = job->wanted = count;
        effect->bytes = job->wanted_bytes = bytes;
    }
    return 0;
}
