/* SPDX-License-Identifier: Apache-2.0
 *
 * core_tasks.c: tasks that come from a client (TASKS).
 *
 * A client keeps to its window, counted from TASKS to the task's end; one that does not
 * is dropped. A task that a worker holds from before a restart is assigned already when
 * the client's copy comes, which then only adds the input: unless the client has gone on
 * to another attempt, which takes its place.
 *
 * Of a job that must run no task twice, what its client sends again on another link
 * (before RESUMED) may have begun: it waits until it is known (core_settle.c) whether a
 * worker has it or its result, and what nobody has then is LOST (core_lost.c), and never
 * given. */
#include "coordinator/core_internal.h"

/* ------------------------------------------------------------------- checks */

static bool body_fits(const struct msg_span *span, uint64_t bytes_max)
{
    if (span_bytes(span) <= bytes_max)
        return true;
    if (!span->sizes)
        return span_bytes(span) / span->count <= bytes_max;
    for (uint32_t place = 0; place < span->count; place++)
        if (span_task_size(span, place) > bytes_max)
            return false;
    return true;
}

/* What is wrong with the spans as such; NULL: nothing. */
static const char *check_spans(const struct coordinator_core *core,
                               const struct message *message)
{
    for (uint32_t i = 0; i < message->tasks.spans_count; i++) {
        const struct msg_span *span = &message->tasks.spans[i];
        if (!span->attempt)
            return "TASKS with attempt 0";
        if (!body_fits(span, core->config.body_bytes_max))
            return "TASKS with an input larger than the limit";
    }
    return NULL;
}

static bool window_allows(const struct coordinator_core *core,
                          const struct client *client, const struct job *job,
                          uint64_t tasks, uint64_t bytes)
{
    /* What is sent again may have been sent to a coordinator with a larger window. */
    const uint64_t windows = job->resumed ? RESUMED_WINDOWS : 1;
    const uint64_t tasks_max = core->config.client_tasks_max;
    const uint64_t bytes_max = core->config.client_bytes_max;
    if (client->tasks == 0 && tasks == 1)
        return true;
    if (tasks > windows * tasks_max || client->tasks > windows * tasks_max - tasks)
        return false;
    return bytes <= windows * bytes_max && client->bytes <= windows * bytes_max - bytes;
}

/* Whether any of the span is here already, other than by a worker's word. */
static bool overlaps(const struct job *job, const struct msg_span *span)
{
    const uint64_t end = span->first + span->count;
    const struct span_item *item = span_set_at_or_after(job->waiting, span->first);
    if (item && item->span.first < end)
        return true;
    item = span_set_at_or_after(job->assigned, span->first);
    for (; item && item->span.first < end; item = span_set_next(job->assigned, item))
        if (item->tag2 != HELD_INPUTLESS)
            return true;
    return false;
}

/* ------------------------------------------------------------ taking them in */

/* Inputs for tasks that a worker holds. */
struct fills {
    struct msg_span *items;
    size_t count, capacity;
};

static void fills_fini(struct fills *fills)
{
    while (fills->count)
        span_fini(&fills->items[--fills->count]);
    mem_free(fills->items);
}

static int fills_add(struct fills *fills, const struct msg_span *span, uint64_t first,
                     uint32_t count)
{
    if (!mem_reserve(&fills->items, &fills->capacity, fills->count + 1,
                     sizeof *fills->items))
        return FARPOOL_ENOMEM;
    const int error = span_slice(span, first, count, &fills->items[fills->count]);
    fills->count += error ? 0 : 1;
    return error;
}

static int add_waiting(struct job *job, const struct msg_span *span, uint64_t first,
                       uint64_t end)
{
    struct msg_span part;
    const bool maybe = job->once && job->resumed && !job->owner->resumed;
    int error = span_slice(span, first, (uint32_t)(end - first), &part);
    if (!error &&
        (error = span_set_add(job->waiting, &part, 0, maybe ? HELD_MAYBE : HELD_NOT)))
        span_fini(&part);
    return error;
}

static void mark_held(struct job *job, uint64_t first, uint64_t end, enum held held)
{
    const struct span_item *item = span_set_at_or_after(job->assigned, first);
    while (item && item->span.first < end) {
        const uint64_t begin = item->span.first;
        span_set_move(job->assigned, begin, job->assigned, item->span.attempt, item->tag,
                      held);
        item = span_set_next(job->assigned, span_set_find(job->assigned, begin));
    }
}

static int take_held(struct job *job, const struct msg_span *span, uint64_t first,
                     uint64_t end, struct fills *fills)
{
    if (span_set_find(job->assigned, first)->tag2 != HELD_INPUTLESS)
        return FARPOOL_EINVAL; /* a span of this message had it */
    const int error = fills_add(fills, span, first, (uint32_t)(end - first));
    if (!error)
        mark_held(job, first, end, HELD_NEW);
    return error;
}

/* All of a span into `waiting`, or, for what is held in the same attempt, into fills. */
static int take_span(struct job *job, const struct msg_span *span, struct fills *fills)
{
    const uint64_t end = span->first + span->count;
    uint64_t at = span->first;
    int error = job->held ? kjob_cut(job->assigned, at, end) : 0;
    const struct span_item *item = span_set_at_or_after(job->assigned, at);
    while (!error && item && item->span.first < end) {
        const uint64_t first = item->span.first, next = first + item->span.count;
        if (item->span.attempt == span->attempt) { /* or else: see replace_held */
            if (at < first)
                error = add_waiting(job, span, at, first);
            if (!error)
                error = take_held(job, span, first, next, fills);
            at = next;
        }
        item = span_set_at_or_after(job->assigned, next);
    }
    if (!error && at < end)
        error = add_waiting(job, span, at, end);
    return error;
}

/* None of these spans had anything in `waiting` before. */
static void undo(struct job *job, const struct msg_span *spans, uint32_t count,
                 const struct fills *fills)
{
    for (uint32_t i = 0; i < count; i++) {
        const uint64_t end = spans[i].first + spans[i].count;
        const struct span_item *item;
        while ((item = span_set_at_or_after(job->waiting, spans[i].first)) &&
               item->span.first < end)
            span_set_take(job->waiting, item->span.first, item->span.count, NULL);
    }
    for (size_t i = 0; i < fills->count; i++) {
        const struct msg_span *fill = &fills->items[i];
        mark_held(job, fill->first, fill->first + fill->count, HELD_INPUTLESS);
    }
}

static void replace_held(struct coordinator_core *core, struct job *job,
                         const struct msg_span *span)
{
    const uint64_t end = span->first + span->count;
    const struct span_item *item = span_set_at_or_after(job->assigned, span->first);
    while (item && item->span.first < end) {
        const uint64_t next = item->span.first + item->span.count;
        if (item->span.attempt != span->attempt)
            kjob_end_span(core, job, job->assigned, item);
        item = span_set_at_or_after(job->assigned, next);
    }
}

static void fill_held(struct coordinator_core *core, struct job *job,
                      struct msg_span *input)
{
    const uint64_t tasks = input->count, bytes = span_bytes(input);
    struct span_item item;
    int error = span_set_take(job->assigned, input->first, input->count, &item);
    assert(!error && item.tag2 == HELD_NEW);
    /* What was taken whole left its node behind, so this needs no memory. */
    error = span_set_add(job->assigned, input, item.tag, HELD_NOT);
    assert(!error);
    job->held -= tasks;
    kplacement_add(core, placement_of(&item), 0, bytes);
}

static void commit(struct coordinator_core *core, struct job *job,
                   const struct message *message, struct fills *fills, uint64_t tasks,
                   uint64_t bytes)
{
    const bool held = job->held > 0;
    uint64_t filled = 0;
    for (uint32_t i = 0; held && i < message->tasks.spans_count; i++)
        replace_held(core, job, &message->tasks.spans[i]);
    for (size_t i = 0; i < fills->count; i++) {
        filled += fills->items[i].count;
        fill_held(core, job, &fills->items[i]);
    }
    job->owner->tasks += tasks;
    job->owner->bytes += bytes;
    core->waiting += tasks - filled;
    job->unsent = subtract_saturated(job->unsent, tasks);
    kjob_refresh(core, job);
}

static int take_tasks(struct coordinator_core *core, struct job *job,
                      const struct message *message, uint64_t tasks, uint64_t bytes)
{
    const uint32_t count = message->tasks.spans_count;
    const struct msg_span *spans = message->tasks.spans;
    struct fills fills = {.count = 0};
    int error = 0;
    uint32_t taken = 0;
    while (!error && taken < count)
        error = take_span(job, &spans[taken++], &fills);
    if (error)
        undo(job, spans, taken, &fills);
    else
        commit(core, job, message, &fills, tasks, bytes);
    fills_fini(&fills);
    return error;
}

int ktasks(struct coordinator_core *core, struct client *client, struct message *message)
{
    struct job *job = kjob_find(client->pool, message->tasks.job);
    const char *wrong = check_spans(core, message);
    uint64_t tasks = 0, bytes = 0;
    if (!job || job->owner != client) {
        if (!wrong && message->tasks.job <= client->job_last)
            return 0; /* closed just now */
        wrong = "TASKS of a job that is not open";
    }
    for (uint32_t i = 0; !wrong && i < message->tasks.spans_count; i++) {
        tasks += message->tasks.spans[i].count;
        bytes += span_bytes(&message->tasks.spans[i]);
        if (overlaps(job, &message->tasks.spans[i]))
            wrong = "TASKS with a task that is under way";
    }
    if (!wrong && !window_allows(core, client, job, tasks, bytes))
        wrong = "TASKS beyond the window";
    if (!wrong) {
        const int error = take_tasks(core, job, message, tasks, bytes);
        if (error != FARPOOL_EINVAL)
            return error;
        wrong = "TASKS with a task twice";
    }
    return klink_drop(core, client->link, FARPOOL_EPROTOCOL, "%s (job %llu)", wrong,
                      (unsigned long long)message->tasks.job);
}
