/* SPDX-License-Identifier: Apache-2.0
 *
 * core_account.c: what lanes carry, as far as it is known here. A client with a lane to a
 * worker is told (GRANT) how much it may have under way there, sends that itself, and
 * tells now and then (ACCOUNT) what of a job is there: all of it, so that the next one
 * replaces it, and nobody is woken for a task. Those tasks are assigned here (HELD_LANE)
 * without their inputs: so the worker's load, recalls and its end count them as any
 * other.
 *
 * What a worker gives back of them, its client is told to send again (LOST, EDRAINED),
 * also what was not told of yet: the client knows by the attempt whether it is meant. */
#include "coordinator/core_internal.h"

/* -------------------------------------------------------------------- GRANT */

/* All lanes of a worker together may take a part of its window. */
static uint64_t part_of(const struct worker *host)
{
    return (uint64_t)LANES_PART * host->hosted_count;
}

static uint32_t tasks_of(const struct lane *lane)
{
    const struct pool *pool = lane->pool;
    const struct member *member = kmember_find(pool, lane->host);
    if (pool->state != POOL_RUNNING || !pool->owner ||
        pool->owner->link != lane->dialer || !member || member->state != MEMBER_OPEN ||
        !kpool_usable(pool, lane->host, member))
        return 0;
    const uint64_t slots = kmember_slots(pool, lane->host, member);
    const uint64_t window = lane->host->tasks_max / part_of(lane->host);
    return (uint32_t)smaller(smaller(AHEAD_TASKS * slots, window), LIST_MAX);
}

static int grant(struct coordinator_core *core, struct lane *lane)
{
    const uint32_t tasks = tasks_of(lane);
    if (lane->state != LANE_UP || tasks == lane->granted)
        return 0;
    struct message *message = message_create(MSG_GRANT);
    if (message) {
        message->grant.ticket = lane->ticket;
        message->grant.tasks = tasks;
        message->grant.bytes = lane->host->bytes_max / part_of(lane->host);
    }
    if (ksend(core, lane->dialer, &message))
        return FARPOOL_ENOMEM;
    lane->granted = tasks;
    return 0;
}

int kgrant_flush(struct coordinator_core *core)
{
    struct pool *pool;
    struct lane *lane;
    if (!core->regrant)
        return 0;
    TAILQ_FOREACH (pool, &core->opened, entry) {
        if (!pool->regrant)
            continue;
        TAILQ_FOREACH (lane, &pool->lanes, pool_entry)
            if (grant(core, lane))
                return FARPOOL_ENOMEM;
        pool->regrant = false;
    }
    core->regrant = false;
    return 0;
}

void kgrant_touch(struct coordinator_core *core, struct pool *pool)
{
    pool->regrant = core->regrant = true;
}

/* ------------------------------------------------------------------ ACCOUNT */

static const char *check(const struct message *message)
{
    uint64_t room = LIST_MAX;
    for (uint32_t i = 0; i < message->account.ranges_count; i++) {
        const struct msg_range *range = &message->account.ranges[i];
        if (!range->attempt || range->count > room)
            return "ACCOUNT of more tasks than a lane carries";
        room -= range->count;
    }
    return NULL;
}

static bool is_told(const struct message *message, const struct span_item *item)
{
    for (uint32_t i = 0; i < message->account.ranges_count; i++) {
        const struct msg_range *range = &message->account.ranges[i];
        if (item->span.attempt == range->attempt && item->span.first >= range->first &&
            item->span.first - range->first < range->count)
            return true;
    }
    return false;
}

static void end_untold(struct coordinator_core *core, const struct placement *placement,
                       const struct message *message)
{
    struct job *job = placement->job;
    const struct span_item *item = span_set_first(job->assigned);
    while (item) {
        const uint64_t next = item->span.first + item->span.count;
        if (item->tag2 == HELD_LANE && placement_of(item) == placement &&
            !is_told(message, item))
            kjob_end_span(core, job, job->assigned, item);
        item = span_set_at_or_after(job->assigned, next);
    }
}

static int take(struct coordinator_core *core, struct placement *placement,
                const struct message *message)
{
    struct job *job = placement->job;
    const struct msg_range *ranges = message->account.ranges;
    const uint32_t count = message->account.ranges_count;
    int error = 0;
    for (uint32_t i = 0; i < count && !error; i++) {
        error =
            kjob_cut(job->assigned, ranges[i].first, ranges[i].first + ranges[i].count);
        if (!error)
            error = kgaps_add(job, &ranges[i], placement);
    }
    if (error) {
        kgaps_undo(job);
        return error;
    }
    for (uint32_t i = 0; i < count; i++)
        kgaps_commit(core, placement, &ranges[i], HELD_LANE);
    end_untold(core, placement, message);
    if (placement->state == PLACEMENT_NEW)
        placement->state = PLACEMENT_HELD;
    return 0;
}

static void count_ended(struct coordinator_core *core, struct job *job,
                        struct worker *worker, const struct message *message)
{
    const uint64_t done = message->account.done, failed = message->account.failed;
    if (done)
        kjob_measure(job, smaller(done, FADE_TASKS),
                     message->account.elapsed_ns / done * smaller(done, FADE_TASKS));
    job->done += done + failed;
    job->failed += failed;
    job->pool->done += done + failed;
    core->done += done + failed;
    worker->done += done + failed;
}

int kaccount(struct coordinator_core *core, struct client *client,
             const struct message *message)
{
    struct job *job = kjob_find(client->pool, message->account.job);
    struct worker *worker = kworker_find(core, &message->account.worker);
    const char *wrong = check(message);
    if (wrong)
        return klink_drop(core, client->link, FARPOOL_EPROTOCOL, "%s", wrong);
    if (!worker || !job || job->owner != client)
        return 0; /* the one or the other is over */
    struct placement *placement = kplacement_get(job, worker);
    if (!placement || take(core, placement, message))
        return FARPOOL_ENOMEM;
    count_ended(core, job, worker, message);
    kjob_refresh(core, job);
    return 0;
}
