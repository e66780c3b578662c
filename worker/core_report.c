/* SPDX-License-Identifier: Apache-2.0
 *
 * core_report.c: what the host reports of a process that lives: ready, results, failures,
 * tasks taken back, blocked. The host knows gives, not pieces: a range that it reports
 * may by now be several pieces, since a part of it was cancelled. Reports of a process
 * whose pool was dropped are dropped too. */
#include "worker/core_internal.h"

#include <assert.h>
#include <stdio.h>

/* A given or cancelled piece with that task; NULL: it has none. */
struct piece *worker_process_find(struct process *process, uint64_t give, uint64_t first)
{
    struct piece *piece;
    TAILQ_FOREACH (piece, &process->pieces, link)
        if (piece->give == give && first >= piece->first && first <= piece_last(piece))
            return piece;
    return NULL;
}

/* The output of one task that is larger than the coordinator passes on. */
static bool is_too_big(const struct worker_core *core, const struct worker_event *event)
{
    return event->count == 1 && core->body_bytes_max > 0 && event->data != NULL &&
           event->data->size > core->body_bytes_max;
}

static int say_too_big(const struct worker_core *core, const struct process *process,
                       const struct worker_event *event, struct result *result)
{
    char text[128];
    snprintf(text, sizeof text, "the output has %zu bytes, the limit is %llu",
             event->data->size, (unsigned long long)core->body_bytes_max);
    result->kind = MSG_FAILED;
    result->code = FARPOOL_ETOOBIG;
    result->pid = process->pid;
    return worker_result_say(result, text, NULL);
}

/* What the process reports as one range of a give may by now be several pieces: a part
 * of it was cancelled. Cuts them so that none reaches over the ends of the range; their
 * first one, or NULL: out of memory. Here nothing has to be cut but the front of a piece,
 * as a rule, and that is left to worker_piece_finish. */
static struct piece *cut_range(struct process *process, const struct worker_event *event,
                               uint32_t count)
{
    struct piece *piece = worker_process_find(process, event->give, event->first);
    assert(piece != NULL && count > 0);
    if (event->first > piece->first) {
        piece = worker_piece_split(piece, (uint32_t)(event->first - piece->first));
        if (piece == NULL)
            return NULL;
    }
    if (count <= piece->count)
        return piece;
    const uint64_t end = event->first + count;
    struct piece *last = worker_process_find(process, event->give, end - 1);
    assert(last != NULL);
    if (end - 1 < piece_last(last) &&
        worker_piece_split(last, (uint32_t)(end - last->first)) == NULL)
        return NULL;
    return piece;
}

static struct result *make_done(struct worker_core *core, struct process *process,
                                const struct piece *piece, struct worker_event *event)
{
    struct result *result =
        worker_result_create(core, MSG_DONE, piece, event->first, event->count);
    if (result == NULL)
        return NULL;
    if (!is_too_big(core, event)) {
        result->elapsed_ns = event->elapsed_ns;
        result->sizes = event->sizes;
        result->data = event->data;
        event->sizes = event->data = NULL;
    } else if (say_too_big(core, process, event, result) != 0) {
        worker_result_free(result);
        return NULL;
    }
    return result;
}

/* The outputs of one piece out of those of a longer range. */
static struct result *make_part(struct worker_core *core, const struct piece *piece,
                                const struct worker_event *event, uint32_t count)
{
    const struct msg_span all = {.first = event->first,
                                 .count = event->count,
                                 .attempt = 1,
                                 .sizes = event->sizes,
                                 .data = event->data};
    struct msg_span part;
    struct result *result =
        worker_result_create(core, MSG_DONE, piece, piece->first, count);
    if (result == NULL)
        return NULL;
    if (span_slice(&all, piece->first, count, &part) != 0) {
        worker_result_free(result);
        return NULL;
    }
    result->elapsed_ns = event->elapsed_ns / event->count * count;
    result->sizes = part.sizes;
    result->data = part.data;
    return result;
}

static void free_results(struct result_list *results)
{
    struct result *result;
    while ((result = TAILQ_FIRST(results)) != NULL) {
        TAILQ_REMOVE(results, result, link);
        worker_result_free(result);
    }
}

/* The results of a range over several pieces; nobody wants those of cancelled ones. */
static int make_parts(struct worker_core *core, struct process *process,
                      const struct worker_event *event, struct result_list *results)
{
    const uint64_t end = event->first + event->count;
    for (uint64_t at = event->first; at < end;) {
        const struct piece *piece = worker_process_find(process, event->give, at);
        assert(piece != NULL && piece->first == at);
        if (piece->state == PIECE_GIVEN) {
            struct result *result = make_part(core, piece, event, piece->count);
            if (result == NULL) {
                free_results(results);
                return FARPOOL_ENOMEM;
            }
            TAILQ_INSERT_TAIL(results, result, link);
        }
        at += piece->count;
    }
    return 0;
}

/* The tasks of a range have ended: in one piece, or in several whole ones. */
static void tasks_ended(struct worker_core *core, struct process *process,
                        const struct worker_event *event, uint32_t count)
{
    const uint64_t each_ns = event->elapsed_ns / count;
    const uint64_t end = event->first + count;
    for (uint64_t at = event->first; at < end;) {
        struct piece *piece = worker_process_find(process, event->give, at);
        const uint32_t part =
            end - at < piece->count ? (uint32_t)(end - at) : piece->count;
        if (event->kind == WORKER_PROCESS_DONE || each_ns > 0)
            worker_measure(piece->job, part, each_ns * part);
        worker_piece_finish(core, piece, part);
        at += part;
    }
    process->pool->deaths = 0;
    worker_process_changed(core, process);
}

static int on_done(struct worker_core *core, struct process *process,
                   struct worker_event *event)
{
    if (process_is_over(process))
        return 0;
    struct result_list results = TAILQ_HEAD_INITIALIZER(results);
    struct result *result;
    const struct piece *piece = cut_range(process, event, event->count);
    if (piece == NULL)
        return FARPOOL_ENOMEM;
    if (event->count > piece->count) {
        if (make_parts(core, process, event, &results) != 0)
            return FARPOOL_ENOMEM;
    } else if (piece->state == PIECE_GIVEN) {
        if ((result = make_done(core, process, piece, event)) == NULL)
            return FARPOOL_ENOMEM;
        TAILQ_INSERT_TAIL(&results, result, link);
    }
    while ((result = TAILQ_FIRST(&results)) != NULL) {
        TAILQ_REMOVE(&results, result, link);
        worker_result_keep(core, process->pool, result);
    }
    tasks_ended(core, process, event, event->count);
    return 0;
}

static int on_failed(struct worker_core *core, struct process *process,
                     const struct worker_event *event)
{
    if (process_is_over(process))
        return 0;
    const struct piece *piece = cut_range(process, event, 1);
    if (piece == NULL)
        return FARPOOL_ENOMEM;
    assert(event->code < 0);
    if (piece->state == PIECE_GIVEN) {
        struct result *result =
            worker_result_create(core, MSG_FAILED, piece, event->first, 1);
        if (result == NULL ||
            worker_result_say(result, event->text, event->backtrace) != 0) {
            worker_result_free(result);
            return FARPOOL_ENOMEM;
        }
        result->code = event->code;
        result->pid = process->pid;
        worker_result_keep(core, process->pool, result);
    }
    tasks_ended(core, process, event, 1);
    return 0;
}

static int on_taken(struct worker_core *core, struct process *process,
                    const struct worker_event *event)
{
    if (event->count == 0) { /* the answer is complete */
        process->fruitless = process->got_back < process->asked_back;
        process->asked_back = 0;
        process->got_back = 0;
        return 0;
    }
    if (process_is_over(process))
        return 0;
    struct piece *piece = cut_range(process, event, event->count);
    if (piece == NULL ||
        (event->count < piece->count && !worker_piece_split(piece, event->count)))
        return FARPOOL_ENOMEM;
    const uint64_t end = event->first + event->count;
    for (uint64_t at = event->first; at < end;) {
        piece = worker_process_find(process, event->give, at);
        at += piece->count;
        if (piece->state == PIECE_GIVEN)
            worker_piece_queue(core, piece);
        else
            worker_piece_drop(core, piece);
    }
    process->got_back += event->count;
    process->life_tasks -= event->count;
    worker_process_settle(core, process);
    return 0;
}

static void on_ready(struct worker_core *core, struct process *process,
                     const struct worker_event *event)
{
    process->pid = event->pid;
    process->ready = true;
    process->pool->start_failures = 0;
    if (process->state == PROCESS_STARTING) /* else it was killed meanwhile */
        worker_process_move(core, process, PROCESS_IDLE);
}

/* What the process says of itself, true or not: it only changes what runs beside it. */
static void on_blocked(struct worker_core *core, struct process *process, bool blocked)
{
    const enum process_state state = process->state;
    if (blocked && (state == PROCESS_RUNNING || state == PROCESS_YIELDING))
        worker_process_move(core, process, PROCESS_BLOCKED);
    else if (!blocked && state == PROCESS_BLOCKED)
        worker_process_move(core, process, PROCESS_RUNNING);
    process->fruitless = false;
}

int worker_process_event(struct worker_core *core, struct worker_event *event)
{
    struct process key;
    key.number = event->process;
    struct process *process = RB_FIND(worker_processes, &core->processes, &key);
    assert(process != NULL); /* the host reports of processes that it was told to start */
    switch (event->kind) {
    case WORKER_PROCESS_READY:
        on_ready(core, process, event);
        return 0;
    case WORKER_PROCESS_DONE:
        return on_done(core, process, event);
    case WORKER_PROCESS_FAILED:
        return on_failed(core, process, event);
    case WORKER_PROCESS_TAKEN:
        return on_taken(core, process, event);
    case WORKER_PROCESS_BLOCKED:
    case WORKER_PROCESS_UNBLOCKED:
        on_blocked(core, process, event->kind == WORKER_PROCESS_BLOCKED);
        return 0;
    case WORKER_PROCESS_OUTPUT:
        worker_output_take(core, process, event);
        return 0;
    case WORKER_PROCESS_SAMPLED:
        return worker_sampled(core, process, event);
    default:
        return worker_process_gone(core, process, event);
    }
}
