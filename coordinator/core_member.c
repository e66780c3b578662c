/* SPDX-License-Identifier: Apache-2.0
 *
 * core_member.c: a pool on a worker: what the worker knows of the pool, and what it has
 * of it, by rank. A member is made when there is something to say about the two, and
 * goes with either of them. */
#include "coordinator/core_internal.h"

int kmember_compare(const struct member *a, const struct member *b)
{
    const uint64_t first = a->worker->serial, second = b->worker->serial;
    return (first > second) - (first < second);
}

RB_GENERATE_INTERNAL(kmember_tree, member, pool_entry, kmember_compare, )

struct member *kmember_find(const struct pool *pool, const struct worker *worker)
{
    struct member *member = RB_ROOT(&pool->members);
    while (member && member->worker != worker)
        member = worker->serial < member->worker->serial ? RB_LEFT(member, pool_entry)
                                                         : RB_RIGHT(member, pool_entry);
    return member;
}

struct member *kmember_get(struct pool *pool, struct worker *worker)
{
    struct member *member = kmember_find(pool, worker);
    if (member || !(member = mem_alloc(sizeof *member)))
        return member;
    member->pool = pool;
    member->worker = worker;
    SLIST_INIT(&member->levels);
    SLIST_INIT(&member->holdings);
    RB_INSERT(kmember_tree, &pool->members, member);
    TAILQ_INSERT_TAIL(&worker->members, member, worker_entry);
    return member;
}

struct level *kmember_level(struct member *member, int32_t rank)
{
    struct level *level;
    SLIST_FOREACH(level, &member->levels, entry)
    if (level->rank == rank)
        return level;
    level = mem_alloc(sizeof *level);
    if (level) {
        level->rank = rank;
        SLIST_INSERT_HEAD(&member->levels, level, entry);
    }
    return level;
}

bool kmember_knows(const struct member *member)
{
    return member->state != MEMBER_NONE;
}

void kmember_count(struct coordinator_core *core, struct member *member)
{
    struct pool *pool = member->pool;
    const bool counts = pool->processes && kpool_usable(pool, member->worker, member);
    const bool was_uneven = pool->idle && pool->surplus;
    pool->idle -= member->idle;
    pool->surplus -= member->surplus;
    member->idle = counts ? subtract_saturated(member->share, member->units) : 0;
    member->surplus = counts ? subtract_saturated(member->units, member->share) : 0;
    pool->idle += member->idle;
    pool->surplus += member->surplus;
    const bool uneven = pool->idle && pool->surplus;
    if (uneven && !was_uneven)
        TAILQ_INSERT_TAIL(&core->uneven, pool, uneven_entry);
    else if (!uneven && was_uneven)
        TAILQ_REMOVE(&core->uneven, pool, uneven_entry);
}

/* [from] -> a bit a state that may follow. */
static const unsigned allowed[] = {
    [MEMBER_NONE] = 1u << MEMBER_HELD | 1u << MEMBER_OPEN | 1u << MEMBER_FAILED,
    [MEMBER_HELD] = 1u << MEMBER_OPEN | 1u << MEMBER_FAILED | 1u << MEMBER_CLOSING,
    [MEMBER_OPEN] = 1u << MEMBER_FAILED | 1u << MEMBER_CLOSING,
    [MEMBER_FAILED] = 1u << MEMBER_CLOSING,
    [MEMBER_CLOSING] = 0,
};

void kmember_move(struct member *member, enum member_state state)
{
    struct pool *pool = member->pool;
    const struct worker *worker = member->worker;
    assert(allowed[member->state] & 1u << state);
    if (member->state == MEMBER_NONE)
        pool->alive += worker->processes;
    if (member->state == MEMBER_FAILED && worker->state == WORKER_READY) {
        pool->failed_nodes--;
        pool->failed_slots -= worker->slots;
    }
    member->state = state;
}

void kmember_announce(struct coordinator_core *core, struct member *member)
{
    if (!member->announce)
        TAILQ_INSERT_TAIL(&core->announced, member, announce_entry);
    member->announce = true;
}

void kmember_unannounce(struct coordinator_core *core, struct member *member)
{
    if (member->announce)
        TAILQ_REMOVE(&core->announced, member, announce_entry);
    member->announce = false;
}

int kmember_send_open(struct coordinator_core *core, struct member *member)
{
    struct pool *pool = member->pool;
    const size_t mark = core->effects->count;
    if (pool->owner->lanes && klane_want(core, pool->owner->link, member->worker, pool))
        return FARPOOL_ENOMEM;
    struct message *message = message_copy(pool->open);
    if (message)
        message->pool_open.processes = pool->processes ? member->share : 0;
    if (ksend(core, member->worker->link, &message))
        return FARPOOL_ENOMEM;
    if (member->state != MEMBER_OPEN && kshared_tell(core, member)) {
        keffects_truncate(core->effects, mark);
        return FARPOOL_ENOMEM;
    }
    kmember_unannounce(core, member);
    member->told_share = member->share;
    if (member->state != MEMBER_OPEN) {
        kmember_move(member, MEMBER_OPEN);
        kstate_touch_pool(core, pool);
    }
    return 0;
}

void kmember_destroy(struct coordinator_core *core, struct member *member)
{
    struct pool *pool = member->pool;
    struct worker *worker = member->worker;
    struct level *level;
    kmember_unannounce(core, member);
    kshared_forget_member(core, member);
    kmatch_withdraw(member);
    if (worker->reserved == member)
        kworker_unreserve(core, pool);
    if (member->state == MEMBER_FAILED && worker->state == WORKER_READY) {
        pool->failed_nodes--;
        pool->failed_slots -= worker->slots;
    }
    if (member->state == MEMBER_CLOSING)
        pool->members_closing--;
    if (kmember_knows(member)) {
        pool->alive -= worker->processes;
        kstate_touch_pool(core, pool);
    }
    pool->shares -= member->share;
    member->share = 0;
    kmember_count(core, member);
    while ((level = SLIST_FIRST(&member->levels))) {
        assert(!level->units && !level->work_ns);
        SLIST_REMOVE_HEAD(&member->levels, entry);
        mem_free(level);
    }
    message_free(&member->failure);
    mem_free(member->reason);
    RB_REMOVE(kmember_tree, &pool->members, member);
    TAILQ_REMOVE(&worker->members, member, worker_entry);
    mem_free(member);
}
