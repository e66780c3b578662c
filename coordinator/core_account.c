/* SPDX-License-Identifier: Apache-2.0
 *
 * core_account.c: what lanes carry, as far as it is known here. A client with a lane to a
 * worker is told (GRANT) how much it may have under way there, sends that itself, and
 * tells now and then (ACCOUNT) what of a job is there: all of it, so that the next one
 * replaces it, and nobody is woken for a task. Those tasks are assigned here (HELD_LANE)
 * without their inputs: so the worker's load, recalls and its end count them as any
 * other. A lane is for slots that no other pool has work for: what is granted goes down
 * within GRANT_EVERY_MS of a worker being given other tasks, and up again when it has had
 * none for a while. How many of these slots are busy with what the pool's client has sent
 * by here is told with it: short work goes past those, a long job counts them.
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

/* How many slots nobody else may want, when a worker has so many tasks of others. In
 * steps, so that it changes seldom. */
static uint64_t free_slots(const struct worker *worker, uint64_t others)
{
    if (!others)
        return worker->slots;
    return others <= worker->slots / 2 ? worker->slots / 2 : 0;
}

struct grant {
    uint32_t slots, busy;
};

static struct grant grant_of(const struct lane *lane)
{
    const struct pool *pool = lane->pool;
    const struct worker *host = lane->host;
    const struct member *member = kmember_find(pool, host);
    if (lane->state != LANE_UP || pool->state != POOL_RUNNING || !pool->owner ||
        pool->owner->link != lane->dialer || !member || member->state != MEMBER_OPEN ||
        !kpool_usable(pool, host, member))
        return (struct grant){.slots = 0};
    const uint64_t most =
        smaller(host->tasks_max / part_of(host), LIST_MAX / AHEAD_TASKS);
    const uint64_t share = smaller(kmember_slots(pool, host, member), most);
    const uint64_t slots = smaller(share, free_slots(host, host->tasks - member->tasks));
    const uint64_t idle = free_slots(host, host->tasks - member->lane_tasks);
    return (struct grant){.slots = (uint32_t)slots,
                          .busy = (uint32_t)subtract_saturated(slots, idle)};
}

/* *ret_later: more may be granted, if it still may a while later. */
static int grant(struct coordinator_core *core, struct lane *lane, bool *ret_later)
{
    const struct grant grant = grant_of(lane);
    const bool more = grant.slots > lane->granted || grant.busy < lane->busy;
    if (grant.slots == lane->granted && grant.busy == lane->busy)
        return 0;
    *ret_later =
        more && lane->granted_ms && core->now_ms < lane->granted_ms + GRANT_QUIET_MS;
    if (*ret_later)
        return 0;
    struct message *message = message_create(MSG_GRANT);
    if (message) {
        message->grant.ticket = lane->ticket;
        message->grant.slots = grant.slots;
        message->grant.busy = grant.busy;
        message->grant.tasks = (uint32_t)(lane->host->tasks_max / part_of(lane->host));
        message->grant.bytes = lane->host->bytes_max / part_of(lane->host);
    }
    if (ksend(core, lane->dialer, &message))
        return FARPOOL_ENOMEM;
    lane->pool->granted += grant.slots - (uint64_t)lane->granted;
    lane->granted = grant.slots;
    lane->busy = grant.busy;
    lane->granted_ms = core->now_ms;
    return 0;
}

int kgrant_flush(struct coordinator_core *core)
{
    struct lane *lane, *next;
    if (TAILQ_EMPTY(&core->regrants) || core->now_ms < core->grants_due_ms)
        return 0;
    TAILQ_FOREACH_SAFE (lane, &core->regrants, regrant_entry, next) {
        bool later = false;
        if (grant(core, lane, &later))
            return FARPOOL_ENOMEM;
        if (!later)
            kgrant_forget(core, lane);
    }
    core->grants_due_ms = core->now_ms + GRANT_EVERY_MS;
    return 0;
}

uint64_t kgrant_deadline(const struct coordinator_core *core)
{
    return TAILQ_EMPTY(&core->regrants) ? UINT64_MAX : core->grants_due_ms;
}

void kgrant_touch(struct coordinator_core *core, struct lane *lane)
{
    if (!lane->regrant)
        TAILQ_INSERT_TAIL(&core->regrants, lane, regrant_entry);
    lane->regrant = true;
}

bool kgrant_is_all(const struct coordinator_core *core, const struct member *member)
{
    const struct pool *pool = member->pool;
    return member->lane_tasks && member->lane_tasks == member->tasks &&
           pool->granted == kpool_slots(core, pool);
}

void kgrant_forget(struct coordinator_core *core, struct lane *lane)
{
    if (lane->regrant)
        TAILQ_REMOVE(&core->regrants, lane, regrant_entry);
    lane->regrant = false;
}

void kgrant_touch_pool(struct coordinator_core *core, const struct pool *pool)
{
    struct lane *lane;
    TAILQ_FOREACH (lane, &pool->lanes, pool_entry)
        kgrant_touch(core, lane);
}

/* Whose tasks they are decides for whom there are more of others; in which steps, tells
 * free_slots. */
void kgrant_loaded(struct coordinator_core *core, const struct member *member,
                   uint64_t before)
{
    const struct worker *worker = member->worker;
    const uint64_t others = worker->tasks - member->tasks;
    struct lane *lane;
    if (free_slots(worker, others + before) == free_slots(worker, worker->tasks) &&
        free_slots(worker, before) == free_slots(worker, member->tasks))
        return;
    TAILQ_FOREACH (lane, &worker->hosted, host_entry)
        kgrant_touch(core, lane);
}

/* ------------------------------------------------------------------ ACCOUNT */

static const char *check(const struct message *message)
{
    uint64_t end = 0;
    for (uint32_t i = 0; i < message->account.ranges_count; i++) {
        const struct msg_range *range = &message->account.ranges[i];
        if (!range->attempt || !range->count || range->count > WORKER_TASKS_MAX ||
            range->first < end || range->first > UINT64_MAX - range->count)
            return "ACCOUNT with a bad range";
        end = range->first + range->count;
    }
    return NULL;
}

/* Both are in order, and no range has only a part of an item. */
static void end_untold(struct coordinator_core *core, const struct placement *placement,
                       const struct msg_range *ranges, uint32_t count)
{
    struct job *job = placement->job;
    const struct span_item *item = span_set_first(job->assigned);
    uint32_t at = 0;
    while (item) {
        const uint64_t first = item->span.first, next = first + item->span.count;
        while (at < count && ranges[at].first + ranges[at].count <= first)
            at++;
        const bool told = at < count && first >= ranges[at].first &&
                          item->span.attempt == ranges[at].attempt;
        if (item->tag2 == HELD_LANE && placement_of(item) == placement && !told)
            kjob_end_span(core, job, job->assigned, item);
        item = span_set_at_or_after(job->assigned, next);
    }
}

/* How many ranges to believe: beyond a window no lane carries anything. */
static uint32_t believed(const struct worker *worker, const struct message *message)
{
    uint64_t room = worker->tasks_max;
    uint32_t count = 0;
    while (count < message->account.ranges_count &&
           message->account.ranges[count].count <= room)
        room -= message->account.ranges[count++].count;
    return count;
}

static int take(struct coordinator_core *core, struct placement *placement,
                const struct message *message)
{
    struct job *job = placement->job;
    const struct msg_range *ranges = message->account.ranges;
    const uint32_t count = believed(placement->worker, message);
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
    end_untold(core, placement, ranges, count);
    if (placement->state == PLACEMENT_NEW)
        placement->state = PLACEMENT_HELD;
    return 0;
}

/* Of the job's, on all its lanes; the worker counts what ended there (LOAD). */
static void count_ended(struct coordinator_core *core, struct job *job,
                        const struct message *message)
{
    const uint64_t done = message->account.done, failed = message->account.failed;
    if (done)
        kjob_measure(job, smaller(done, FADE_TASKS),
                     message->account.elapsed_ns / done * smaller(done, FADE_TASKS));
    job->done += done + failed;
    job->failed += failed;
    job->pool->done += done + failed;
    core->done += done + failed;
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
    count_ended(core, job, message);
    job->unsent = message->account.unsent;
    kjob_refresh(core, job);
    return 0;
}
