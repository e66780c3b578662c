/* SPDX-License-Identifier: Apache-2.0
 *
 * core_settle.c: a coordinator that was restarted, and so started empty, while workers
 * and clients went on.
 *
 * A worker that served another coordinator tells what it holds (HELD). Those tasks are
 * assigned to it, though their inputs are not here; a pool or job that no client has
 * opened yet is EXPECTED for twice settle_ms, and then given up at the workers. Resumed
 * jobs are SETTLING until the coordinator is settle_ms old, or as many nodes as their
 * client knew of are back, and the client has sent again all that it had under way
 * (RESUMED): their tasks wait, so that workers may be back first, and results for them
 * are kept, since the client's copies of those tasks may still be on their way: a result
 * that came before the copy would be answered by the next attempt, and then the copy be
 * run for nobody. For the same reason nobody is told of a task whose input is not here
 * (INPUTLESS) that it was lost or returned: either its copy is still to come, or its
 * client does not wait for it. */
#include "coordinator/core_internal.h"

bool ksettle_expects(const struct coordinator_core *core, const struct worker *worker)
{
    const uint64_t grace_ms = (uint64_t)2 * core->config.settle_ms;
    return worker->resumed && core->now_ms < add_saturated(worker->joined_ms, grace_ms);
}

/* --------------------------------------------------------------------- HELD */

static int add_gap(struct job *job, uint64_t first, uint64_t end, uint32_t attempt,
                   const struct placement *placement)
{
    while (first < end) {
        struct msg_span span = {.first = first,
                                .count = (uint32_t)smaller(end - first, SPAN_TASKS_MAX),
                                .attempt = attempt};
        first += span.count;
        const int error =
            span_set_add(job->assigned, &span, (uintptr_t)placement, HELD_NEW);
        if (error)
            return error;
    }
    return 0;
}

const struct span_item *kjob_span_behind(const struct job *job, uint64_t at)
{
    const struct span_item *a = span_set_at_or_after(job->waiting, at);
    const struct span_item *b = span_set_at_or_after(job->assigned, at);
    if (!a || !b)
        return a ? a : b;
    return a->span.first < b->span.first ? a : b;
}

int kgaps_add(struct job *job, const struct msg_range *range,
              const struct placement *placement)
{
    const uint64_t end = range->first + range->count;
    uint64_t at = range->first;
    int error = kjob_cut(job->waiting, at, end);
    while (!error && at < end) {
        const struct span_item *item = kjob_span_behind(job, at);
        const uint64_t until = item ? smaller(end, item->span.first) : end;
        const uint64_t next = item ? item->span.first + item->span.count : end;
        if (at < until)
            error = add_gap(job, at, until, range->attempt, placement);
        at = larger(next, until);
    }
    return error;
}

void kgaps_undo(struct job *job)
{
    const struct span_item *item = span_set_first(job->assigned);
    while (item) {
        const uint64_t first = item->span.first, next = first + item->span.count;
        if (item->tag2 == HELD_NEW)
            span_set_take(job->assigned, first, item->span.count, NULL);
        item = span_set_at_or_after(job->assigned, next);
    }
}

/* The client's copy came before. */
static void assign_waiting(struct coordinator_core *core, struct placement *placement,
                           const struct msg_range *range)
{
    struct job *job = placement->job;
    const uint64_t end = range->first + range->count;
    const struct span_item *item = span_set_at_or_after(job->waiting, range->first);
    while (item && item->span.first < end) {
        const uint64_t first = item->span.first, next = first + item->span.count;
        const uint64_t tasks = item->span.count, bytes = span_bytes(&item->span);
        if (item->span.attempt == range->attempt) {
            span_set_move(job->waiting, first, job->assigned, range->attempt,
                          (uintptr_t)placement, HELD_NOT);
            core->waiting -= tasks;
            core->assigned += tasks;
            kplacement_add(core, placement, tasks, bytes);
        }
        item = span_set_at_or_after(job->waiting, next);
    }
}

void kgaps_commit(struct coordinator_core *core, struct placement *placement,
                  const struct msg_range *range, enum held held)
{
    struct job *job = placement->job;
    const uint64_t end = range->first + range->count;
    const struct span_item *item = span_set_at_or_after(job->assigned, range->first);
    while (item && item->span.first < end) {
        const uint64_t first = item->span.first, next = first + item->span.count;
        const uint64_t tasks = item->span.count;
        if (item->tag2 == HELD_NEW) {
            span_set_move(job->assigned, first, job->assigned, item->span.attempt,
                          (uintptr_t)placement, held);
            job->held += held == HELD_INPUTLESS ? tasks : 0;
            placement->member->lane_tasks += held == HELD_LANE ? tasks : 0;
            core->assigned += tasks;
            kplacement_add(core, placement, tasks, 0);
        }
        item = span_set_at_or_after(job->assigned, next);
    }
}

static int hold(struct coordinator_core *core, struct job *job, struct worker *worker,
                const struct message *message)
{
    const struct msg_range *ranges = message->held.ranges;
    struct placement *placement = kplacement_get(job, worker);
    if (!placement)
        return FARPOOL_ENOMEM;
    for (uint32_t i = 0; i < message->held.ranges_count; i++) {
        int error = kgaps_add(job, &ranges[i], placement);
        if (!error)
            error = ktwin_hold(job, &ranges[i], placement);
        if (error) {
            kgaps_undo(job);
            ktwin_hold_undo(job);
            return error;
        }
    }
    if (placement->state == PLACEMENT_NEW)
        placement->state = PLACEMENT_HELD;
    for (uint32_t i = 0; i < message->held.ranges_count; i++) {
        assign_waiting(core, placement, &ranges[i]);
        kgaps_commit(core, placement, &ranges[i], HELD_INPUTLESS);
    }
    ktwin_hold_commit(core, job);
    kjob_refresh(core, job);
    return 0;
}

/* What is wrong with a HELD; NULL: nothing. */
static const char *check(const struct coordinator_core *core, const struct worker *worker,
                         const struct message *message)
{
    /* It may have been given its window again before its word came, and has one task
     * beyond it of each nested client. */
    const uint64_t most = add_saturated(2 * worker->tasks_max, core->config.clients_max);
    uint64_t room = subtract_saturated(most, worker->tasks);
    if (!worker->resumed)
        return "HELD from a worker that served no other coordinator";
    for (uint32_t i = 0; i < message->held.ranges_count; i++) {
        const struct msg_range *range = &message->held.ranges[i];
        if (!range->count || !range->attempt || range->first > UINT64_MAX - range->count)
            return "HELD with a range that cannot be";
        if (range->count > room)
            return "HELD with more tasks than the worker takes";
        room -= range->count;
    }
    return NULL;
}

/* A pool that nobody opens: the worker need not hold anything of it. */
static int find_pool(struct coordinator_core *core, struct worker *worker,
                     const struct id *id, struct pool **ret_pool)
{
    struct pool *pool = kpool_find(core, id);
    int error = 0;
    if (!pool)
        error =
            ksettle_expects(core, worker) ? kpool_expect(core, id, &pool) : FARPOOL_EFULL;
    if (error == FARPOOL_EFULL || (pool && pool->state == POOL_CLOSING)) {
        pool = NULL;
        error = kpool_disown(core, worker, id);
    }
    *ret_pool = pool;
    return error;
}

int kheld(struct coordinator_core *core, struct worker *worker,
          const struct message *message)
{
    const char *wrong = check(core, worker, message);
    if (wrong)
        return klink_drop(core, worker->link, FARPOOL_EPROTOCOL, "%s", wrong);
    if (kpool_was_closed(worker, &message->held.pool))
        return 0; /* said before it read POOL_CLOSE: it holds nothing of it any more */
    struct pool *pool;
    const int error = find_pool(core, worker, &message->held.pool, &pool);
    if (error || !pool)
        return error;
    struct member *member = kmember_get(pool, worker);
    if (!member)
        return FARPOOL_ENOMEM;
    if (message->held.ranges_count) {
        struct job *job = kjob_find(pool, message->held.job);
        if (!job && core->jobs_count >= core->config.jobs_max)
            return 0; /* its results will be ACKed here */
        if (!job && !(job = kjob_create(core, pool, message->held.job)))
            return FARPOOL_ENOMEM;
        if (hold(core, job, worker, message))
            return FARPOOL_ENOMEM;
    }
    if (member->state == MEMBER_NONE) {
        kmember_move(member, MEMBER_HELD);
        if (pool->state == POOL_RUNNING)
            kmember_announce(core, member);
        kpool_renode(core, pool);
    }
    return 0;
}

/* -------------------------------------------------------------------- FLUSH */

static int expire_pools(struct coordinator_core *core)
{
    struct pool *pool;
    while ((pool = TAILQ_FIRST(&core->expected_pools)) &&
           core->now_ms >= pool->expires_ms) {
        const size_t mark = core->effects->count;
        if (kpool_tell_gone(core, pool)) {
            keffects_truncate(core->effects, mark);
            return FARPOOL_ENOMEM;
        }
        kpool_destroy(core, pool);
    }
    return 0;
}

/* The owner of its pool is here, and may have more to say of what it had under way. */
static bool is_coming(const struct job *job)
{
    return job->pool->owner && !job->pool->owner->resumed && !job->late;
}

static void wait_once_more(struct coordinator_core *core, struct job *job)
{
    job->late = true;
    job->expires_ms = add_saturated(core->now_ms, core->config.settle_ms);
    TAILQ_REMOVE(&core->expected_jobs, job, wait_entry);
    TAILQ_INSERT_TAIL(&core->expected_jobs, job, wait_entry);
}

static int expire_jobs(struct coordinator_core *core)
{
    struct job *job;
    while ((job = TAILQ_FIRST(&core->expected_jobs)) && core->now_ms >= job->expires_ms) {
        if (is_coming(job)) {
            wait_once_more(core, job);
            continue;
        }
        const size_t mark = core->effects->count;
        if (kjob_tell_abandon(core, job)) {
            keffects_truncate(core->effects, mark);
            return FARPOOL_ENOMEM;
        }
        kjob_destroy(core, job);
    }
    return 0;
}

static int settle_job(struct coordinator_core *core, struct job *job)
{
    int error = kresults_flush_kept(core, job);
    if (!error)
        error = klost_end_maybe(core, job);
    if (error)
        return error;
    TAILQ_REMOVE(&core->settling, job, wait_entry);
    job->state = JOB_RUNNING;
    kjob_refresh(core, job);
    return 0;
}

static uint64_t settled_ms(const struct coordinator_core *core)
{
    return add_saturated(core->settles_ms, core->config.settle_ms);
}

/* Called at a time that is long after what was asked for: the coordinator itself was away
 * (stopped, or kept from running), and whoever it waits for has had no time to come. */
static void put_off(struct coordinator_core *core)
{
    const uint64_t until_ms = add_saturated(core->now_ms, core->config.settle_ms);
    struct pool *pool;
    struct job *job;
    TAILQ_FOREACH (pool, &core->expected_pools, entry)
        pool->expires_ms = larger(pool->expires_ms, until_ms);
    TAILQ_FOREACH (job, &core->expected_jobs, wait_entry)
        job->expires_ms = larger(job->expires_ms, until_ms);
    if (settled_ms(core) >= core->settle_due_ms)
        core->settles_ms = core->now_ms;
}

/* Workers that can hold nothing of the pool any more but what they have told: that said
 * so, or have served no coordinator before. */
static uint32_t count_back(const struct coordinator_core *core, const struct pool *pool)
{
    const struct worker *worker;
    uint32_t back = 0;
    TAILQ_FOREACH (worker, &core->joined, entry) {
        const struct member *member = kmember_find(pool, worker);
        back += !worker->resumed || (member && kmember_knows(member));
    }
    return back;
}

/* As many nodes as the client knew of: nobody is left to wait for. Of a once-job what no
 * worker has then is lost for good, so that waits for who may still come all the same. */
static bool are_all_back(const struct coordinator_core *core, const struct job *job)
{
    const uint32_t before = job->owner->nodes_before;
    return before && !job->once && count_back(core, job->pool) >= before;
}

int ksettle_flush(struct coordinator_core *core)
{
    struct job *job, *next;
    if (core->now_ms >= add_saturated(core->settle_due_ms, AWAY_MS))
        put_off(core);
    int error = expire_pools(core);
    if (!error)
        error = expire_jobs(core);
    const bool settled = core->now_ms >= settled_ms(core);
    TAILQ_FOREACH_SAFE (job, &core->settling, wait_entry, next) {
        const bool complete = !job->resumed || job->owner->resumed;
        if (job->pool->state == POOL_RUNNING && complete && !error &&
            (settled || are_all_back(core, job)))
            error = settle_job(core, job);
    }
    core->settle_due_ms = ksettle_deadline(core);
    return error;
}

uint64_t ksettle_deadline(const struct coordinator_core *core)
{
    const struct pool *pool = TAILQ_FIRST(&core->expected_pools);
    const struct job *job = TAILQ_FIRST(&core->expected_jobs);
    uint64_t deadline = pool ? pool->expires_ms : UINT64_MAX;
    if (job)
        deadline = smaller(deadline, job->expires_ms);
    if (!TAILQ_EMPTY(&core->settling) && core->now_ms < settled_ms(core))
        deadline = smaller(deadline, settled_ms(core));
    return deadline;
}
