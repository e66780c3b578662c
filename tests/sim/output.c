/* SPDX-License-Identifier: Apache-2.0
 *
 * output.c: what processes print, and whether it comes right: to the client of the pool
 * and to nobody else, as that task's, never twice; and in a world without faults in front
 * of the task's result. Each line is a number of its own, by which all is known of it. */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct line {
    char text[24];
    struct id pool;
    uint64_t job, index; /* job 0: printed outside of tasks */
    uint32_t attempt;
    bool told;
};

static struct line *find(const struct sim *sim, uint64_t number)
{
    return number < sim->lines.count
               ? *(struct line **)sim_queue_at(&sim->lines, (size_t)number)
               : NULL;
}

void sim_output_print(struct sim *sim, struct node *node, const struct process *process,
                      const struct give *give)
{
    struct line *line = sim_alloc(sizeof *line);
    struct worker_event event = {.kind = WORKER_PROCESS_OUTPUT,
                                 .process = process->number,
                                 .pid = 77,
                                 .fd = 1 + (int)sim_dice(sim, 2),
                                 .output = line->text};

    event.output_bytes =
        (size_t)snprintf(line->text, sizeof line->text, "%zu\n", sim->lines.count);
    line->pool = process->pool;
    if (give) {
        event.give = give->give;
        event.first = line->index = give->span.first + give->next;
        event.count = 1;
        line->job = give->job->number;
        line->attempt = give->span.attempt;
    }
    sim_queue_push(&sim->lines, &line, sizeof line);
    sim_node_push(sim, node, &event, 0);
}

static void check_line(struct sim *sim, const struct app *app,
                       const struct msg_printed *piece, uint64_t number)
{
    struct line *line = find(sim, number);

    if (!line || !id_equal(&line->pool, &app->config.pool) || app->config.attach)
        sim_fail(sim, "line %llu is told to C%d, whose it is not",
                 (unsigned long long)number, sim_app_place(sim, app));
    if (line->told)
        sim_fail(sim, "line %llu is told twice", (unsigned long long)number);
    line->told = true;
    /* The worker may have dropped the task, and cannot tell any more whose it was. */
    if (piece->count && (piece->count != 1 || piece->job != line->job ||
                         piece->first != line->index || piece->attempt != line->attempt))
        sim_fail(sim, "line %llu is told as task %llu of job %llx, attempt %u",
                 (unsigned long long)number, (unsigned long long)piece->first,
                 (unsigned long long)piece->job, piece->attempt);
}

void sim_output_take(struct sim *sim, const struct app *app,
                     const struct message *message)
{
    if (!app->open || !app->open->pool_open.output)
        sim_fail(sim, "C%d is told what processes print, and did not want it",
                 sim_app_place(sim, app));
    for (uint32_t i = 0; i < message->output.pieces_count; i++) {
        const struct msg_printed *piece = &message->output.pieces[i];
        const char *at = (const char *)piece->text->data;
        const char *end = at + piece->text->size;

        for (; at < end; at = (const char *)memchr(at, '\n', (size_t)(end - at)) + 1)
            check_line(sim, app, piece, strtoull(at, NULL, 10));
    }
}

void sim_output_check_done(struct sim *sim, const struct app *app, const struct job *job,
                           uint64_t index)
{
    if (!sim->options.quiet || !app->open || !app->open->pool_open.output)
        return;
    if (job->tasks[index].begins > 1 && job->options.speculate)
        return; /* the other run's may come later */
    for (size_t i = sim->lines.count; i-- > 0;) {
        const struct line *line = find(sim, i);

        if (line->job == job->number && line->index == index && !line->told)
            sim_fail(sim, "task %llu has ended, and its line %zu was not told",
                     (unsigned long long)index, i);
    }
}

void sim_output_fini(struct sim *sim)
{
    struct line *line;

    while (sim_queue_pop(&sim->lines, &line))
        free(line);
    sim_queue_fini(&sim->lines);
}
