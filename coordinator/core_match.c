/* SPDX-License-Identifier: Apache-2.0
 *
 * core_match.c: which pool's tasks go to which worker. How many is core_give.c's.
 *
 * Only pools for which something changed are looked at (`matching`): first the one with
 * the least work assigned per slot of its share, ties in turn. A pool with ready jobs
 * goes through the workers, the least loaded first, until it has no tasks left or no
 * worker has room for it: then it is blocked. A blocked pool is not tried anywhere again
 * but at workers that gave something of it back, or something that it was starved for
 * (candidates); and everywhere (`scan`) when its workers changed or when its first job or
 * task is one that may fit where the former did not.
 *
 * A running task may wait for a nested job, and that job's tasks for others that wait in
 * turn. So a nested client that has nothing assigned (hungry) is given one chunk
 * somewhere before anything else, however much is assigned already, or, where no window
 * has room (for what is there may be waiting too), one task: then whatever is waited for
 * runs in the end. */
#include "coordinator/core_internal.h"

#define TURN_LOOK 16 /* full workers that are compared for a small job */

static int candidate_compare(const struct member *a, const struct member *b)
{
    if (a->candidate_full != b->candidate_full)
        return a->candidate_full ? 1 : -1;
    if (a->candidate_ns != b->candidate_ns)
        return a->candidate_ns > b->candidate_ns ? 1 : -1;
    return kmember_compare(a, b);
}

static int turn_compare(const struct pool *a, const struct pool *b)
{
    if (a->turn_ns != b->turn_ns)
        return a->turn_ns > b->turn_ns ? 1 : -1;
    return (a->turn > b->turn) - (a->turn < b->turn);
}

RB_GENERATE_INTERNAL(kcandidate_tree, member, candidate_entry, candidate_compare,
                     FARPOOL_UNUSED static)
RB_GENERATE_INTERNAL(kturn_tree, pool, turn_entry, turn_compare, FARPOOL_UNUSED static)

void kmatch_wake(struct coordinator_core *core, struct pool *pool)
{
    if (!pool->matching)
        TAILQ_INSERT_TAIL(&core->matching, pool, matching_entry);
    pool->matching = true;
}

static struct job *first_job(struct pool *pool)
{
    return RB_MIN(kready_tree, &pool->ready);
}

static void add_candidate(struct member *member)
{
    assert(member->place == PLACE_AWAY);
    member->place = PLACE_CANDIDATE;
    member->candidate_full = member->worker->full;
    member->candidate_ns = member->worker->slot_ns;
    RB_INSERT(kcandidate_tree, &member->pool->candidates, member);
}

void kmatch_withdraw(struct member *member)
{
    if (member->place == PLACE_CANDIDATE)
        RB_REMOVE(kcandidate_tree, &member->pool->candidates, member);
    else if (member->place == PLACE_STARVED)
        TAILQ_REMOVE(&member->worker->starved, member, starved_entry);
    member->place = PLACE_AWAY;
}

void kmatch_offer(struct coordinator_core *core, struct member *member)
{
    struct pool *pool = member->pool;
    if (RB_EMPTY(&pool->ready)) { /* what comes next is not known to find no room */
        pool->scan = true;
        return;
    }
    if (!kpool_usable(pool, member->worker, member))
        return;
    kmatch_withdraw(member);
    add_candidate(member);
    kmatch_wake(core, pool);
}

/* -------------------------------------------------------------- one pool */

static void forget_candidates(struct pool *pool)
{
    struct member *member;
    while ((member = RB_ROOT(&pool->candidates)))
        kmatch_withdraw(member);
}

/* Nothing is left to be given. */
static void sate(struct coordinator_core *core, struct pool *pool)
{
    forget_candidates(pool);
    kworker_unreserve(core, pool);
    pool->scan = true;
}

static uint64_t tasks_of(const struct job *job)
{
    return span_set_tasks(job->waiting) + span_set_tasks(job->assigned);
}

/* No worker had room for this job: nor has one for jobs that are no more urgent and no
 * shorter, unless one was passed over because of the job itself. */
static void block(struct pool *pool, const struct job *job)
{
    pool->scan = false;
    pool->blocked_rank = job->rank;
    pool->blocked_unit_ns = kjob_unit_ns(job);
    pool->blocked_serial = job->serial;
    pool->blocked_tasks = tasks_of(job);
}

static bool is_blocked(const struct pool *pool, const struct job *job)
{
    const struct msg_span *first = &span_set_first(job->waiting)->span;
    if (span_task_size(first, 0) < pool->starved_bytes)
        return false;
    if (pool->scan || job->rank > pool->blocked_rank ||
        kjob_unit_ns(job) <= pool->blocked_unit_ns / 2)
        return false;
    return !pool->passed ||
           (job->serial == pool->blocked_serial && tasks_of(job) <= pool->blocked_tasks);
}

static int walk_candidates(struct coordinator_core *core, struct pool *pool)
{
    struct job *job;
    struct member *member;
    while ((job = first_job(pool)) &&
           (member = RB_MIN(kcandidate_tree, &pool->candidates))) {
        const struct worker *worker = member->worker;
        const bool stale = member->candidate_full != worker->full ||
                           member->candidate_ns != worker->slot_ns;
        kmatch_withdraw(member);
        if (stale) { /* comes when it is its turn */
            add_candidate(member);
            continue;
        }
        const enum give gave = kgive(core, job, member->worker);
        if (gave == GIVE_NOMEM || gave == GIVE_GAVE)
            add_candidate(member);
        if (gave == GIVE_NOMEM)
            return FARPOOL_ENOMEM;
        pool->passed |= gave == GIVE_PASSED;
    }
    return 0;
}

/* Where a pool that has less than a chunk a node goes when no slot is idle: of some of
 * the least loaded workers the one that it was given something at longest ago. A worker
 * gives its slots to pools in turn, and so serves at once whom it has not served for a
 * round; so small jobs do not wait behind each other's turn. NULL: it is not such a pool.
 */
static struct worker *next_in_turn(struct coordinator_core *core, const struct pool *pool)
{
    struct worker *worker = RB_MIN(kload_tree, &core->load), *best = NULL;
    uint64_t best_given = UINT64_MAX;
    if (!worker || !worker->full || pool->units >= core->nodes)
        return NULL;
    for (int i = 0; i < TURN_LOOK && worker && best_given; i++) {
        const struct member *member = kmember_find(pool, worker);
        const uint64_t given = member ? member->given : 0;
        if (kpool_usable(pool, worker, member) && !(member && member->units) &&
            given < best_given) {
            best = worker;
            best_given = given;
        }
        worker = RB_NEXT(kload_tree, &core->load, worker);
    }
    return best;
}

static int walk_workers(struct coordinator_core *core, struct pool *pool)
{
    struct worker *worker = next_in_turn(core, pool);
    struct job *job = first_job(pool);
    if (worker && job && kgive(core, job, worker) == GIVE_NOMEM)
        return FARPOOL_ENOMEM;
    worker = RB_MIN(kload_tree, &core->load);
    while (worker && (job = first_job(pool))) {
        struct worker *next = RB_NEXT(kload_tree, &core->load, worker);
        const enum give gave = kgive(core, job, worker);
        if (gave == GIVE_NOMEM)
            return FARPOOL_ENOMEM;
        pool->passed |= gave == GIVE_PASSED;
        if (gave == GIVE_GAVE && first_job(pool) != job)
            worker = RB_MIN(kload_tree, &core->load);
        else if (gave != GIVE_GAVE || (next && kload_compare(next, worker) < 0))
            worker = next;
    }
    return 0;
}

static void offer_all(struct pool *pool)
{
    struct member *member;
    RB_FOREACH (member, kmember_tree, &pool->members) {
        if (member->place == PLACE_CANDIDATE ||
            !kpool_usable(pool, member->worker, member))
            continue;
        kmatch_withdraw(member);
        add_candidate(member);
    }
}

/* Through all workers that the pool may use. */
static int scan(struct coordinator_core *core, struct pool *pool)
{
    pool->passed = false;
    pool->starved_bytes = 0;
    pool->scan = true; /* until it has come through */
    if (pool->processes) {
        offer_all(pool);
        return walk_candidates(core, pool);
    }
    forget_candidates(pool);
    return walk_workers(core, pool);
}

static enum give feed(struct coordinator_core *core, struct job *job)
{
    for (int within = 1; within >= 0; within--) {
        struct worker *worker;
        RB_FOREACH (worker, kload_tree, &core->load) {
            const enum give gave = kgive_one(core, job, worker, within);
            if (gave == GIVE_GAVE || gave == GIVE_NOMEM)
                return gave;
        }
    }
    return GIVE_NO;
}

static int feed_hungry(struct coordinator_core *core, struct pool *pool)
{
    struct client *client, *next;
    TAILQ_FOREACH_SAFE (client, &pool->hungry, hungry_entry, next) {
        if (feed(core, kclient_ready_job(client)) == GIVE_NOMEM)
            return FARPOOL_ENOMEM;
    }
    return 0;
}

static int match_pool(struct coordinator_core *core, struct pool *pool)
{
    int error = feed_hungry(core, pool);
    const struct job *job = first_job(pool);
    if (error)
        return error;
    if (job && is_blocked(pool, job))
        error = walk_candidates(core, pool);
    while (!error && (job = first_job(pool)) && !is_blocked(pool, job)) {
        const uint64_t serial = job->serial;
        error = scan(core, pool);
        job = first_job(pool);
        /* Workers passed over because of another job may have room for this one. */
        if (!error && job && (job->serial == serial || !pool->passed))
            block(pool, job);
    }
    if (!error && !first_job(pool))
        sate(core, pool);
    return error;
}

/* --------------------------------------------------------------- all pools */

/* Those to be matched, in order; they stay in `matching` until they were. */
static void take_turns(struct coordinator_core *core, struct kturn_tree *turns)
{
    struct pool *pool;
    RB_INIT(turns);
    TAILQ_FOREACH (pool, &core->matching, matching_entry) {
        const uint64_t slots = kpool_slots(core, pool);
        pool->turn_ns = pool->work_ns / larger(slots, 1);
        RB_INSERT(kturn_tree, turns, pool);
    }
}

int kmatch_flush(struct coordinator_core *core)
{
    struct kturn_tree turns;
    struct pool *pool;
    /* Matching one may wake another, by what it had reserved. */
    while (!TAILQ_EMPTY(&core->matching)) {
        take_turns(core, &turns);
        while ((pool = RB_MIN(kturn_tree, &turns))) {
            RB_REMOVE(kturn_tree, &turns, pool);
            TAILQ_REMOVE(&core->matching, pool, matching_entry);
            pool->matching = false;
            pool->turn = ++core->next_turn;
            if (match_pool(core, pool)) {
                kmatch_wake(core, pool);
                return FARPOOL_ENOMEM;
            }
        }
    }
    return 0;
}
