/* SPDX-License-Identifier: Apache-2.0
 *
 * core_lost.c: tasks that come back from a worker (RETURNED), and those that are nowhere
 * any more (LOST), of which a client is told with what is known of them: whether they had
 * begun, and where. What a worker gives back waits again, but for what the client has
 * sent there itself, on a lane: that it is told to send once more. */
#include "coordinator/core_internal.h"

#include <stdio.h>

/* --------------------------------------------------------------------- LOST */

struct lost {
    const struct pool *pool;
    uint64_t job;
    struct link *link;           /* of its client */
    const struct worker *worker; /* NULL: no certain one */
    const char *why;
    int code;
    bool unsure, lane;
    struct message *message; /* being filled */
};

static int lost_send(struct coordinator_core *core, struct lost *lost)
{
    return lost->message ? ksend(core, lost->link, &lost->message) : 0;
}

static int lost_begin(struct lost *lost)
{
    struct message *message = message_create(MSG_LOST);
    if (message &&
        !(message->lost.ranges = mem_alloc(LIST_MAX * sizeof(struct msg_range))))
        message_free(&message);
    if (!message)
        return FARPOOL_ENOMEM;
    message->lost.pool = lost->pool->id;
    message->lost.job = lost->job;
    message->lost.code = lost->code;
    message->lost.unsure = lost->unsure;
    message->lost.lane = lost->lane;
    if (lost->worker) {
        snprintf(message->lost.node, sizeof message->lost.node, "%s", lost->worker->node);
        snprintf(message->lost.text, sizeof message->lost.text, "node %s: %s",
                 lost->worker->node, lost->why);
    } else {
        snprintf(message->lost.text, sizeof message->lost.text, "%s", lost->why);
    }
    lost->message = message;
    return 0;
}

static int lost_add(struct coordinator_core *core, struct lost *lost,
                    const struct msg_span *span)
{
    struct message *message = lost->message;
    const uint32_t count = message ? message->lost.ranges_count : 0;
    struct msg_range *last = count ? &message->lost.ranges[count - 1] : NULL;
    if (last && last->attempt == span->attempt &&
        last->first + last->count == span->first) {
        last->count += span->count;
        return 0;
    }
    int error = count == LIST_MAX ? lost_send(core, lost) : 0;
    if (!error && !lost->message)
        error = lost_begin(lost);
    if (error)
        return error;
    message = lost->message;
    message->lost.ranges[message->lost.ranges_count++] =
        (struct msg_range){span->first, span->count, span->attempt};
    return 0;
}

/* The last message, or none of all since `mark`. */
static int lost_end(struct coordinator_core *core, struct lost *lost, size_t mark,
                    int error)
{
    if (!error)
        error = lost_send(core, lost);
    message_free(&lost->message);
    if (error)
        keffects_truncate(core->effects, mark);
    return error;
}

/* What is known of a task whose worker is gone: enum held tells. */
enum fate { FATE_BEGUN, FATE_NOT_BEGUN, FATE_UNSURE, FATES };

static enum fate fate_of(const struct job *job, const struct span_item *item)
{
    if (item->tag2 == HELD_WATCHED)
        return FATE_NOT_BEGUN;
    return job->once || item->tag2 == HELD_BEGUN_ONE ? FATE_BEGUN : FATE_UNSURE;
}

int klost_tell(struct coordinator_core *core, const struct placement *placement,
               const char *text)
{
    const struct job *job = placement->job;
    struct lost losts[FATES];
    const struct span_item *item = span_set_first(job->assigned);
    uint64_t left = placement->tasks;
    int error = 0;
    for (int i = 0; i < FATES; i++)
        losts[i] = (struct lost){.pool = job->pool,
                                 .job = job->number,
                                 .link = job->owner->link,
                                 .worker = placement->worker,
                                 .why = text,
                                 .code = i == FATE_NOT_BEGUN ? FARPOOL_EDRAINED
                                                             : FARPOOL_ENODELOST,
                                 .unsure = i == FATE_UNSURE};
    for (; left && item && !error; item = span_set_next(job->assigned, item)) {
        if (placement_of(item) != placement)
            continue;
        if (item->tag2 != HELD_INPUTLESS && item->tag2 != HELD_LANE &&
            !ktwin_of(job, item))
            error = lost_add(core, &losts[fate_of(job, item)], &item->span);
        left -= item->span.count;
    }
    for (int i = 0; i < FATES; i++) {
        if (!error)
            error = lost_send(core, &losts[i]);
        message_free(&losts[i].message);
    }
    return error;
}

static int tell_maybe(struct coordinator_core *core, const struct job *job)
{
    struct lost lost = {.pool = job->pool,
                        .job = job->number,
                        .link = job->owner->link,
                        .code = FARPOOL_ENODELOST,
                        .why =
                            "the connection to the coordinator was lost, and no worker "
                            "has the task: it may have run, and must not run twice"};
    const struct span_item *item = span_set_first(job->waiting);
    const size_t mark = core->effects->count;
    int error = 0;
    for (; item && !error; item = span_set_next(job->waiting, item))
        error = item->tag2 == HELD_MAYBE ? lost_add(core, &lost, &item->span) : 0;
    return lost_end(core, &lost, mark, error);
}

int klost_end_maybe(struct coordinator_core *core, struct job *job)
{
    const struct span_item *item = span_set_first(job->waiting);
    if (!job->once || !job->resumed)
        return 0;
    if (tell_maybe(core, job))
        return FARPOOL_ENOMEM;
    while (item) {
        const uint64_t next = item->span.first + item->span.count;
        if (item->tag2 == HELD_MAYBE)
            kjob_end_span(core, job, job->waiting, item);
        item = span_set_at_or_after(job->waiting, next);
    }
    return 0;
}

/* ----------------------------------------------------------------- RETURNED */

static bool is_returned(const struct placement *placement, const struct msg_range *range,
                        const struct span_item *item)
{
    return placement_of(item) == placement &&
           (!range->attempt || item->span.attempt == range->attempt);
}

static int cut_returned(struct job *job, const struct message *message)
{
    int error = 0;
    for (uint32_t i = 0; i < message->returned.ranges_count && !error; i++) {
        const struct msg_range *range = &message->returned.ranges[i];
        error = kjob_cut(job->assigned, range->first,
                         add_saturated(range->first, range->count));
    }
    return error;
}

static void put_back(struct coordinator_core *core, struct placement *placement,
                     const struct span_item *item)
{
    struct job *job = placement->job;
    const uint64_t tasks = item->span.count, bytes = span_bytes(&item->span);
    if (ktwin_promote(core, job, item))
        return;
    if (item->tag2 == HELD_INPUTLESS || item->tag2 == HELD_LANE) {
        kjob_end_span(core, job, job->assigned, item);
        return;
    }
    span_set_move(job->assigned, item->span.first, job->waiting, item->span.attempt, 0,
                  HELD_NOT);
    core->assigned -= tasks;
    core->waiting += tasks;
    kplacement_remove(core, placement, tasks, bytes);
}

static void take_returned(struct coordinator_core *core, struct placement *placement,
                          const struct msg_range *range)
{
    struct job *job = placement->job;
    const uint64_t end = add_saturated(range->first, range->count);
    const struct span_item *item = span_set_at_or_after(job->twins, range->first);
    while (item && item->span.first < end) {
        const uint64_t next = item->span.first + item->span.count;
        if (is_returned(placement, range, item))
            ktwin_drop(core, job, item);
        item = span_set_at_or_after(job->twins, next);
    }
    item = span_set_at_or_after(job->assigned, range->first);
    while (item && item->span.first < end) {
        const uint64_t next = item->span.first + item->span.count;
        if (is_returned(placement, range, item))
            put_back(core, placement, item);
        item = span_set_at_or_after(job->assigned, next);
    }
}

static int lost_add_range(struct coordinator_core *core, struct lost *lost,
                          uint64_t first, uint64_t end, uint32_t attempt)
{
    const struct msg_span span = {
        .first = first, .count = (uint32_t)(end - first), .attempt = attempt};
    return first < end ? lost_add(core, lost, &span) : 0;
}

/* What of a range came to the worker on a lane: what is not here in that attempt (another
 * worker may have a former one), or so by its client's word. */
static int tell_not_begun(struct coordinator_core *core, struct lost *lost,
                          const struct job *job, const struct msg_range *range)
{
    const uint64_t end = range->first + smaller(range->count, UINT32_MAX);
    uint64_t at = range->first;
    int error = 0;
    while (!error && at < end) {
        const struct span_item *item = job ? kjob_span_behind(job, at) : NULL;
        const bool behind = !item || item->span.first >= end;
        const uint64_t until = behind ? end : larger(at, item->span.first);
        error = lost_add_range(core, lost, at, until, range->attempt);
        if (error || behind)
            return error;
        at = smaller(end, item->span.first + item->span.count);
        if (item->tag2 == HELD_LANE || item->span.attempt != range->attempt)
            error = lost_add_range(core, lost, until, at, range->attempt);
    }
    return error;
}

static int tell_returned(struct coordinator_core *core, const struct worker *worker,
                         const struct pool *pool, const struct job *job,
                         const struct message *message)
{
    if (!worker->carried || !pool->owner || (job && job->owner != pool->owner))
        return 0;
    struct lost lost = {.pool = pool,
                        .job = message->returned.job,
                        .link = pool->owner->link,
                        .worker = worker,
                        .why = "gave it back, not begun",
                        .code = FARPOOL_EDRAINED,
                        .lane = true};
    const size_t mark = core->effects->count;
    int error = 0;
    for (uint32_t i = 0; i < message->returned.ranges_count && !error; i++)
        error = tell_not_begun(core, &lost, job, &message->returned.ranges[i]);
    return lost_end(core, &lost, mark, error);
}

int kreturned(struct coordinator_core *core, struct worker *worker,
              const struct message *message)
{
    const struct pool *pool = kpool_find(core, &message->returned.pool);
    struct job *job = pool ? kjob_find(pool, message->returned.job) : NULL;
    struct placement *placement = job ? kplacement_find(job, worker) : NULL;
    if (pool && tell_returned(core, worker, pool, job, message))
        return FARPOOL_ENOMEM;
    if (!placement)
        return 0;
    if (cut_returned(job, message))
        return FARPOOL_ENOMEM;
    const uint64_t before = placement->tasks;
    for (uint32_t i = 0; i < message->returned.ranges_count; i++) {
        take_returned(core, placement, &message->returned.ranges[i]);
        kwatch_over(worker, job, &message->returned.ranges[i]);
    }
    if (placement->recall == RECALL_ASKED)
        kplacement_recall(core, placement,
                          placement->tasks == before ? RECALL_FRUITLESS : RECALL_NONE, 0);
    kjob_refresh(core, job);
    return 0;
}
