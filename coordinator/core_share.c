/* SPDX-License-Identifier: Apache-2.0
 *
 * core_share.c: which workers a pool may use, and how many processes of it each.
 *
 * A pool with `processes` = n has n of them in the cluster, dealt out as evenly as the
 * workers' slots allow: everyone up to the same level, or to its slots where it has
 * fewer. A worker that has a share keeps one of at least 1, so that none has to be
 * emptied when others join. Shares are counted again only when workers came, went,
 * drained or failed. A worker is told its share at once, before there are tasks: who asks
 * for n processes finds them started. */
#include "coordinator/core_internal.h"

uint64_t kpool_nodes(const struct coordinator_core *core, const struct pool *pool)
{
    return core->nodes - pool->failed_nodes;
}

uint64_t kpool_slots(const struct coordinator_core *core, const struct pool *pool)
{
    return pool->processes ? pool->shares : core->slots - pool->failed_slots;
}

bool kpool_usable(const struct pool *pool, const struct worker *worker,
                  const struct member *member)
{
    if (worker->state != WORKER_READY || (member && member->state == MEMBER_FAILED))
        return false;
    return !pool->processes || (member && member->share);
}

uint32_t kmember_slots(const struct pool *pool, const struct worker *worker,
                       const struct member *member)
{
    return pool->processes ? (uint32_t)smaller(member->share, worker->slots)
                           : worker->slots;
}

void kpool_renode(struct coordinator_core *core, struct pool *pool)
{
    pool->renode = true;
    kgrant_touch_pool(core, pool);
    kstate_touch_pool(core, pool);
}

static bool may_run(const struct worker *worker, const struct member *member)
{
    return worker->state == WORKER_READY && (!member || member->state != MEMBER_FAILED);
}

/* Sets each worker's floor; the sum of them. */
static uint64_t set_floors(struct coordinator_core *core, const struct pool *pool)
{
    uint64_t sum = 0;
    struct worker *worker;
    TAILQ_FOREACH (worker, &core->joined, entry) {
        const struct member *member = kmember_find(pool, worker);
        worker->floor = may_run(worker, member) && member && member->share;
        sum += worker->floor;
    }
    /* Those that have the pool from an earlier coordinator come next. */
    TAILQ_FOREACH (worker, &core->joined, entry) {
        const struct member *member = kmember_find(pool, worker);
        if (sum < pool->processes && !worker->floor && may_run(worker, member) &&
            member && kmember_knows(member)) {
            worker->floor = 1;
            sum++;
        }
    }
    return sum;
}

/* Sets each worker's level as if everyone had `most`; the sum of them. */
static uint64_t set_levels(struct coordinator_core *core, const struct pool *pool,
                           uint32_t most)
{
    uint64_t sum = 0;
    struct worker *worker;
    TAILQ_FOREACH (worker, &core->joined, entry) {
        const bool usable = may_run(worker, kmember_find(pool, worker));
        const uint64_t level = larger(worker->floor, smaller(most, worker->slots));
        worker->level = usable ? (uint32_t)level : 0;
        sum += worker->level;
    }
    return sum;
}

/* One more each for those that have room, first for those that had more before. */
static void deal_rest(struct coordinator_core *core, const struct pool *pool,
                      uint32_t most, uint64_t rest)
{
    for (int round = 0; round < 2; round++) {
        struct worker *worker;
        TAILQ_FOREACH (worker, &core->joined, entry) {
            const struct member *member = kmember_find(pool, worker);
            const bool had = member && member->share > worker->level;
            if (!rest || !may_run(worker, member) || worker->level > most ||
                worker->level >= worker->slots || (round == 0 && !had))
                continue;
            worker->level++;
            rest--;
        }
    }
}

static void set_shares(struct coordinator_core *core, struct pool *pool)
{
    uint32_t low = 0, high = pool->processes;
    set_floors(core, pool);
    while (low < high) {
        const uint32_t middle = low + (high - low + 1) / 2;
        if (set_levels(core, pool, middle) <= pool->processes)
            low = middle;
        else
            high = middle - 1;
    }
    const uint64_t sum = set_levels(core, pool, low);
    deal_rest(core, pool, low, subtract_saturated(pool->processes, sum));
}

static int make_members(struct coordinator_core *core, struct pool *pool)
{
    struct worker *worker;
    TAILQ_FOREACH (worker, &core->joined, entry)
        if (worker->level && !kmember_get(pool, worker))
            return FARPOOL_ENOMEM;
    return 0;
}

static bool may_be_told(const struct member *member)
{
    return member->state <= MEMBER_OPEN;
}

static int share(struct coordinator_core *core, struct pool *pool)
{
    struct member *member;
    set_shares(core, pool);
    if (make_members(core, pool))
        return FARPOOL_ENOMEM;
    RB_FOREACH (member, kmember_tree, &pool->members) {
        pool->shares += member->worker->level;
        pool->shares -= member->share;
        member->share = member->worker->level;
        kmember_count(core, member);
        if (member->share && member->share != member->told_share && may_be_told(member))
            kmember_announce(core, member);
    }
    return 0;
}

static int count_again(struct coordinator_core *core, struct pool *pool)
{
    if (pool->state == POOL_RUNNING) {
        if (pool->processes && share(core, pool))
            return FARPOOL_ENOMEM;
        pool->scan = true;
        kmatch_wake(core, pool);
    }
    pool->renode = false;
    return 0;
}

static int announce(struct coordinator_core *core)
{
    struct member *member, *next;
    TAILQ_FOREACH_SAFE (member, &core->announced, announce_entry, next) {
        /* Without a share it must not be told 0, which would be every slot. */
        if (!may_be_told(member) || (member->pool->processes && !member->share))
            kmember_unannounce(core, member);
        else if (kmember_send_open(core, member))
            return FARPOOL_ENOMEM;
    }
    return 0;
}

int kshare_flush(struct coordinator_core *core)
{
    struct pool *pool;
    if (core->renode)
        TAILQ_FOREACH (pool, &core->opened, entry)
            kpool_renode(core, pool);
    core->renode = false;
    TAILQ_FOREACH (pool, &core->dirty_pools, dirty_entry)
        if (pool->renode && count_again(core, pool))
            return FARPOOL_ENOMEM;
    return announce(core);
}
