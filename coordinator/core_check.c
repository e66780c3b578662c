/* SPDX-License-Identifier: Apache-2.0
 *
 * core_check.c: every invariant, asserted by going through everything. For tests, the
 * simulator and the fuzzers, which call it after each step.
 *
 * Besides what is kept as sums, lists and places: after a FLUSH no pool has tasks waiting
 * while a worker that may run it, and has nothing of it, could take one. */
#include "coordinator/core_internal.h"

/* Sums over placements. */
struct sums {
    uint64_t tasks, bytes, units, work_ns;
};

static void sum_add(struct sums *sums, const struct placement *placement)
{
    sums->tasks += placement->tasks;
    sums->bytes += placement->bytes;
    sums->units += placement->units;
    sums->work_ns += placement->work_ns;
}

/* -------------------------------------------------------------------- links */

static void check_link(const struct coordinator_core *core, const struct link *link)
{
    assert(link->number);
    assert(link->heard_ms <= core->now_ms && link->spoke_ms <= core->now_ms);
    assert((link->state == LINK_CLIENT) == (link->client != NULL));
    assert((link->state == LINK_WORKER) == (link->worker != NULL));
    assert(!link->client || link->client->link == link);
    assert(!link->worker || link->worker->link == link);
}

static void check_links(const struct coordinator_core *core)
{
    const struct link *link;
    size_t heard = 0, spoke = 0, dropped = 0, peers = 0;
    uint64_t last_ms = 0;
    TAILQ_FOREACH (link, &core->heard, heard_entry) {
        assert(link->state != LINK_DROPPED && link->heard_ms >= last_ms);
        last_ms = link->heard_ms;
        heard++;
    }
    last_ms = 0;
    TAILQ_FOREACH (link, &core->spoke, spoke_entry) {
        assert(link->state == LINK_CLIENT || link->state == LINK_WORKER);
        assert(link->spoke_ms >= last_ms);
        last_ms = link->spoke_ms;
        spoke++;
    }
    TAILQ_FOREACH (link, &core->dropped, heard_entry) {
        assert(link->state == LINK_DROPPED);
        dropped++;
    }
    for (link = core->links; link; link = link->hh.next) {
        check_link(core, link);
        peers += link->state == LINK_CLIENT || link->state == LINK_WORKER;
    }
    assert(heard + dropped == HASH_COUNT(core->links) && spoke == peers);
    assert(peers == HASH_COUNT(core->clients) + HASH_COUNT(core->workers));
}

/* --------------------------------------------------------------------- jobs */

static void check_placement(const struct placement *placement)
{
    const struct job *job = placement->job;
    const uint64_t tasks = placement->tasks;
    assert(kplacement_find(job, placement->worker) == placement);
    assert(placement->member == kmember_find(job->pool, placement->worker));
    assert((placement->level != NULL) == (job->state != JOB_EXPECTED));
    assert(!placement->level || placement->level->rank == job->rank);
    assert(placement->units <= tasks / job->unit + (tasks % job->unit != 0));
    assert(placement->blocked || placement->units * job->unit >= tasks);
    assert(placement->state != PLACEMENT_NEW || !tasks);
    assert(placement->state != PLACEMENT_OPEN || kmember_knows(placement->member));
    assert(!placement->asked || placement->recall == RECALL_ASKED);
    assert(!placement->batch);
}

static void check_assigned(const struct job *job, uint64_t *ret_held)
{
    const struct span_item *item = span_set_first(job->assigned);
    for (; item; item = span_set_next(job->assigned, item)) {
        assert(placement_of(item)->job == job);
        assert(item->tag2 == HELD_NOT || item->tag2 == HELD_INPUTLESS ||
               item->tag2 == HELD_LANE ||
               (item->tag2 >= HELD_BACK && item->tag2 <= HELD_BEGUN_ONE));
        assert(item->tag2 <= HELD_ALONE || item->span.watch || kwatch_is_begun(item));
        const struct span_item *other =
            span_set_at_or_after(job->waiting, item->span.first);
        assert(!other || other->span.first >= item->span.first + item->span.count);
        *ret_held += item->tag2 == HELD_INPUTLESS ? item->span.count : 0;
    }
}

static void check_waiting(const struct job *job)
{
    const struct span_item *item = span_set_first(job->waiting);
    for (; item; item = span_set_next(job->waiting, item))
        assert(item->tag2 == HELD_NOT ||
               (item->tag2 == HELD_MAYBE && job->once && job->state == JOB_SETTLING));
}

static void sum_of(const struct span_set *set, const struct placement *placement,
                   uint64_t *tasks, uint64_t *bytes)
{
    const struct span_item *item = span_set_first(set);
    for (; item; item = span_set_next(set, item)) {
        if (placement_of(item) != placement)
            continue;
        *tasks += item->span.count;
        *bytes += span_bytes(&item->span);
    }
}

/* What each placement counts is what `assigned` and `twins` have of it. */
static void check_placements(struct job *job)
{
    struct placement *placement;
    struct sums sums = {.tasks = 0};
    uint64_t running = 0, share_ppm = 0, busy_slots = 0, heard_slot_ms = 0;
    RB_FOREACH (placement, kplacement_tree, &job->placements) {
        uint64_t tasks = 0, bytes = 0;
        check_placement(placement);
        sum_of(job->assigned, placement, &tasks, &bytes);
        sum_of(job->twins, placement, &tasks, &bytes);
        assert(placement->tasks == tasks && placement->bytes == bytes);
        sum_add(&sums, placement);
        running += placement->running;
        share_ppm += placement->share_ppm;
        busy_slots += placement->busy_slots;
        heard_slot_ms += placement->busy_slots * placement->heard_ms;
        assert(!placement->busy_slots || placement->tasks);
    }
    assert(sums.tasks == span_set_tasks(job->assigned) + span_set_tasks(job->twins));
    assert(sums.bytes == span_set_bytes(job->assigned) + span_set_bytes(job->twins));
    assert(running == job->running && share_ppm == job->share_ppm);
    assert(busy_slots == job->busy_slots && heard_slot_ms == job->heard_slot_ms);
}

static void check_job(struct job *job)
{
    uint64_t held = 0;
    span_set_check(job->waiting);
    span_set_check(job->assigned);
    check_assigned(job, &held);
    ktwin_check(job);
    check_waiting(job);
    check_placements(job);
    assert(held == job->held);
    assert(kjob_find(job->pool, job->number) == job);
    assert((job->state == JOB_EXPECTED) == (job->owner == NULL));
    assert(job->owner || !span_set_tasks(job->waiting));
    assert(!job->owner || job->owner->pool == job->pool);
    assert(job->pool->state != POOL_EXPECTED || job->state != JOB_RUNNING);
    assert(job->ready == (job->state == JOB_RUNNING && job->pool->state == POOL_RUNNING &&
                          span_set_tasks(job->waiting) > 0));
    assert(TAILQ_EMPTY(&job->kept) || job->state != JOB_RUNNING);
    assert(job->unit >= 1 && job->ramp >= 1);
}

/* -------------------------------------------------------------------- pools */

static void check_levels(struct member *member)
{
    struct level *level;
    SLIST_FOREACH(level, &member->levels, entry)
    {
        const struct placement *placement;
        uint64_t units = 0, work_ns = 0;
        TAILQ_FOREACH (placement, &member->worker->placements, worker_entry) {
            if (placement->level != level)
                continue;
            units += placement->units;
            work_ns += placement->work_ns;
        }
        assert(level->units == units && level->work_ns == work_ns);
    }
}

static void check_member(struct member *member)
{
    const struct pool *pool = member->pool;
    const struct worker *worker = member->worker;
    const struct placement *placement;
    uint64_t tasks = 0, units = 0;
    TAILQ_FOREACH (placement, &worker->placements, worker_entry) {
        tasks += placement->member == member ? placement->tasks : 0;
        units += placement->member == member ? placement->units : 0;
    }
    assert(member->tasks == tasks && member->units == units);
    assert(member->lane_tasks <= tasks);
    check_levels(member);
    assert(kmember_find(pool, worker) == member);
    assert(member->place == PLACE_AWAY || kpool_usable(pool, worker, member));
    assert(member->place != PLACE_CANDIDATE || pool->matching);
    assert((worker->reserved == member) == (pool->reserving == worker));
    assert(worker->reserved != member || member->place == PLACE_STARVED ||
           pool->matching);
    assert(!member->failure ||
           (member->state == MEMBER_FAILED && pool->state == POOL_EXPECTED));
    assert(pool->state != POOL_CLOSING || member->state == MEMBER_CLOSING);
    assert(pool->processes || !member->share);
    assert(member->share <= pool->processes);
}

static void check_members(struct pool *pool)
{
    struct member *member;
    uint64_t alive = 0, shares = 0, failed_nodes = 0, failed_slots = 0, closing = 0;
    uint64_t idle = 0, surplus = 0;
    RB_FOREACH (member, kmember_tree, &pool->members) {
        const struct worker *worker = member->worker;
        const bool failed =
            member->state == MEMBER_FAILED && worker->state == WORKER_READY;
        check_member(member);
        alive += kmember_knows(member) ? worker->processes : 0;
        shares += member->share;
        idle += member->idle;
        surplus += member->surplus;
        failed_nodes += failed;
        failed_slots += failed ? worker->slots : 0;
        closing += member->state == MEMBER_CLOSING;
    }
    assert(alive == pool->alive && shares == pool->shares);
    assert(failed_nodes == pool->failed_nodes && failed_slots == pool->failed_slots);
    assert(closing == pool->members_closing);
    assert(idle == pool->idle && surplus == pool->surplus);
    assert(shares <= pool->processes);
}

static void check_shared(const struct pool *pool)
{
    const struct shared *shared;
    uint32_t count = 0, pieces = 0;
    TAILQ_FOREACH (shared, &pool->shared, entry) {
        assert(shared->pool == pool && shared->number <= pool->shared_last);
        kspread_check(shared);
        count++;
        pieces += shared->pieces;
    }
    assert(count == pool->shared_count && pieces == pool->shared_pieces);
    assert(count <= SHARED_MAX && pieces <= SHARED_PIECES_MAX);
    assert(!count || pool->state == POOL_RUNNING);
}

static uint64_t granted(const struct pool *pool)
{
    const struct lane *lane;
    uint64_t slots = 0;
    TAILQ_FOREACH (lane, &pool->lanes, pool_entry)
        slots += lane->granted;
    return slots;
}

static void check_pool(struct pool *pool)
{
    struct job *job;
    struct sums sums = {.tasks = 0};
    uint64_t jobs = 0, ready = 0, in_ready = 0;
    RB_FOREACH (job, kjob_tree, &pool->jobs) {
        struct placement *placement;
        check_job(job);
        RB_FOREACH (placement, kplacement_tree, &job->placements)
            sum_add(&sums, placement);
        jobs++;
        ready += job->ready;
    }
    RB_FOREACH (job, kready_tree, &pool->ready) {
        assert(job->ready && job->pool == pool);
        in_ready++;
    }
    check_members(pool);
    check_shared(pool);
    assert(granted(pool) == pool->granted);
    assert(jobs == pool->jobs_count && ready == in_ready);
    assert(sums.units == pool->units && sums.work_ns == pool->work_ns);
    assert((pool->state == POOL_EXPECTED) == (pool->owner == NULL));
    assert((pool->open != NULL) == (pool->owner != NULL));
    assert(!pool->owner ||
           (pool->owner->state == CLIENT_OWNER && pool->owner->pool == pool));
    assert(!pool->owner || hash_equal(&pool->key, &pool->owner->link->holder.key));
    assert(pool->state != POOL_CLOSING || (!jobs && TAILQ_EMPTY(&pool->clients)));
}

/* ------------------------------------------------------------------ workers */

static void check_worker(const struct coordinator_core *core, const struct worker *worker)
{
    const struct placement *placement;
    const struct member *member;
    struct sums sums = {.tasks = 0};
    TAILQ_FOREACH (placement, &worker->placements, worker_entry) {
        assert(placement->worker == worker);
        sum_add(&sums, placement);
    }
    TAILQ_FOREACH (member, &worker->members, worker_entry)
        assert(member->worker == worker);
    TAILQ_FOREACH (member, &worker->starved, starved_entry)
        assert(member->worker == worker && member->place == PLACE_STARVED);
    assert(sums.tasks == worker->tasks && sums.bytes == worker->bytes);
    assert(sums.units == worker->units && sums.work_ns == worker->work_ns);
    /* Nested clients may each have one more. */
    assert(worker->tasks <= 2 * worker->tasks_max + core->config.clients_max);
    assert(worker->state == WORKER_READY || !worker->reserved);
    assert(worker->kept <= KEPT_MAX);
    assert(kworker_find(core, &worker->id) == worker);
}

static void check_workers(const struct coordinator_core *core)
{
    const struct worker *worker;
    uint64_t nodes = 0, slots = 0, idle = 0, joined = 0;
    TAILQ_FOREACH (worker, &core->joined, entry) {
        const bool ready = worker->state == WORKER_READY;
        const uint64_t free_slots = subtract_saturated(worker->slots, worker->units);
        check_worker(core, worker);
        nodes += ready;
        slots += ready ? worker->slots : 0;
        idle += ready ? free_slots : 0;
        assert(!ready || (worker->idle == free_slots && worker->full == !free_slots &&
                          worker->slot_ns == worker->work_ns / worker->slots));
        joined++;
    }
    assert(nodes == core->nodes && slots == core->slots && idle == core->idle_units);
    assert(joined == HASH_COUNT(core->workers));
    assert(joined <= core->config.workers_max);
}

/* ------------------------------------------------------------------ clients */

/* Those that their client has sent on lanes, which its window does not count. */
static uint64_t lane_tasks(const struct job *job)
{
    const struct span_item *item = span_set_first(job->assigned);
    uint64_t tasks = 0;
    for (; item; item = span_set_next(job->assigned, item))
        tasks += item->tag2 == HELD_LANE ? item->span.count : 0;
    return tasks;
}

static uint64_t member_lane_tasks(const struct pool *pool)
{
    struct member *member;
    uint64_t tasks = 0;
    RB_FOREACH (member, kmember_tree, (struct kmember_tree *)(uintptr_t)&pool->members)
        tasks += member->lane_tasks;
    return tasks;
}

static void check_client(const struct coordinator_core *core, const struct client *client)
{
    const struct job *job;
    uint64_t tasks = 0, bytes = 0, assigned = 0, ready = 0, on_lanes = 0;
    TAILQ_FOREACH (job, &client->jobs, client_entry) {
        assert(job->owner == client);
        on_lanes += lane_tasks(job);
        assigned += span_set_tasks(job->assigned) + span_set_tasks(job->twins);
        ready += job->ready;
        tasks += span_set_tasks(job->waiting) + span_set_tasks(job->assigned) -
                 job->held - lane_tasks(job);
        bytes += span_set_bytes(job->waiting) + span_set_bytes(job->assigned);
    }
    const bool in_pool =
        client->state == CLIENT_OWNER || client->state == CLIENT_ATTACHED;
    assert(client->tasks == tasks && client->bytes == bytes);
    assert(client->assigned == assigned && client->ready_jobs == ready);
    assert(client->hungry == (client->state == CLIENT_ATTACHED && ready && !assigned));
    assert(in_pool == (client->pool != NULL));
    assert(client->state != CLIENT_OWNER || client->pool->owner == client);
    assert(client->state == CLIENT_OWNER ? member_lane_tasks(client->pool) == on_lanes
                                         : !on_lanes);
    assert(client->link->client == client);
    assert(client->tasks <= RESUMED_WINDOWS * core->config.client_tasks_max);
}

/* ---------------------------------------------------------------- altogether */

static void check_totals(const struct coordinator_core *core)
{
    uint64_t jobs = 0, waiting = 0, assigned = 0, recalled = 0, twins = 0;
    for (const struct pool *pool = core->pools; pool; pool = pool->hh.next)
        jobs += pool->jobs_count;
    const struct worker *worker;
    TAILQ_FOREACH (worker, &core->joined, entry) {
        const struct placement *placement;
        assigned += worker->tasks;
        twins += worker->twins;
        TAILQ_FOREACH (placement, &worker->placements, worker_entry)
            recalled += placement->asked;
    }
    for (const struct client *client = core->clients; client; client = client->hh.next) {
        const struct job *job;
        TAILQ_FOREACH (job, &client->jobs, client_entry)
            waiting += span_set_tasks(job->waiting);
    }
    assert(jobs == core->jobs_count && waiting == core->waiting);
    assert(assigned == core->assigned + core->twins && twins == core->twins);
    assert(recalled == core->recalled_units);
    assert(HASH_COUNT(core->pools) <= core->config.pools_max);
    assert(HASH_COUNT(core->clients) <= core->config.clients_max);
    assert(core->jobs_count <= core->config.jobs_max);
    assert(TAILQ_EMPTY(&core->batches));
}

static bool window_is_open(const struct worker *worker, const struct job *job)
{
    const uint64_t size = span_task_size(&span_set_first(job->waiting)->span, 0);
    if (worker->reserved || worker->tasks >= worker->tasks_max)
        return false;
    return !worker->tasks || (worker->bytes <= worker->bytes_max &&
                              size <= worker->bytes_max - worker->bytes);
}

/* After a FLUSH nobody waits in front of a worker that has nothing of the pool. */
static void check_matched(const struct coordinator_core *core, struct pool *pool)
{
    const struct job *job = RB_MIN(kready_tree, &pool->ready);
    const struct worker *worker;
    assert(!pool->matching && !pool->renode);
    assert(RB_EMPTY(&pool->candidates) && (pool->scan == !job));
    if (!job)
        return;
    TAILQ_FOREACH (worker, &core->joined, entry) {
        const struct member *member = kmember_find(pool, worker);
        assert(!kpool_usable(pool, worker, member) || (member && member->units) ||
               !window_is_open(worker, job));
    }
}

/* Nor does a nested client that has nothing anywhere. */
static void check_hungry(const struct coordinator_core *core, const struct pool *pool)
{
    const struct client *client;
    TAILQ_FOREACH (client, &pool->hungry, hungry_entry) {
        const struct worker *worker;
        TAILQ_FOREACH (worker, &core->joined, entry)
            assert(!kpool_usable(pool, worker, kmember_find(pool, worker)));
    }
}

/* What was passed on and not heard of yet. */
static void check_wishes(const struct coordinator_core *core)
{
    const struct worker *worker;
    const struct wish *wish;
    uint32_t count = 0;
    TAILQ_FOREACH (wish, &core->wishes, entry) {
        assert(!wish->fresh);
        count++;
    }
    assert(count == core->wishes_count && count <= WISHES_MAX);
    TAILQ_FOREACH (worker, &core->joined, entry)
        assert(!worker->drain ||
               (worker->state == WORKER_DRAINING && !worker->drain->fresh));
    for (const struct pool *pool = core->pools; pool; pool = pool->hh.next) {
        struct job *job;
        struct kjob_tree tree = pool->jobs; /* its macros want one that may change */
        RB_FOREACH (job, kjob_tree, &tree)
            assert(!job->stop || (job->owner && !job->stop->fresh));
    }
}

void coordinator_core_check(const struct coordinator_core *core)
{
    struct pool *pool;
    check_links(core);
    check_workers(core);
    for (pool = core->pools; pool; pool = pool->hh.next)
        check_pool(pool);
    for (const struct client *client = core->clients; client; client = client->hh.next)
        check_client(core, client);
    check_totals(core);
    check_wishes(core);
    klogs_check(core);
    klane_check(core);
    TAILQ_FOREACH (pool, &core->opened, entry) {
        assert(pool->state == POOL_RUNNING);
        if (core->flushed) {
            check_matched(core, pool);
            check_hungry(core, pool);
        }
    }
}
