/* SPDX-License-Identifier: Apache-2.0
 *
 * core_recall.c: when slots are idle somewhere and a pool has nothing waiting, the most
 * loaded workers are asked to give back half of what they have not begun (RECALL). What
 * they return is waiting again, and matched like anything else. In a pool with a limit of
 * processes the same goes for its shares: those with less than they could run, and those
 * with more.
 *
 * At most one RECALL is under way for a job on a worker; one that brought nothing is not
 * repeated until something has changed there. Only a few workers and jobs are looked at
 * in a FLUSH: what is still worth moving is found at one of the next. */
#include "coordinator/core_internal.h"

#define IDLE_LOOK 4 /* idle workers that are asked whether they may run the pool */

static bool has_idle_worker(const struct coordinator_core *core, const struct pool *pool)
{
    /* A cast of the head only: nothing is changed. */
    struct worker *worker =
        RB_MIN(kload_tree, (struct kload_tree *)(uintptr_t)&core->load);
    for (int i = 0; i < IDLE_LOOK && worker && !worker->full; i++) {
        if (kpool_usable(pool, worker, kmember_find(pool, worker)))
            return true;
        worker = RB_NEXT(kload_tree, &core->load, worker);
    }
    return false;
}

/* Chunks of a job that have not begun, as far as is known here, at most so many. */
static uint64_t queued(const struct placement *placement, uint64_t most)
{
    const uint64_t tasks = subtract_saturated(placement->tasks, placement->running);
    const uint32_t unit = placement->job->unit;
    return smaller(tasks / unit + (tasks % unit != 0), most);
}

static bool may_recall(const struct coordinator_core *core,
                       const struct placement *placement)
{
    const struct job *job = placement->job;
    return placement->recall == RECALL_NONE && job->state == JOB_RUNNING &&
           job->pool->state == POOL_RUNNING && RB_EMPTY(&job->pool->ready) &&
           !kgrant_is_all(core, placement->member) && queued(placement, UINT64_MAX);
}

/* By the estimate, the wait is worth a round trip; or what runs there has been at it for
 * so long that the estimate says nothing about it. */
static bool is_worth(struct coordinator_core *core, const struct placement *placement,
                     bool long_enough)
{
    const uint64_t due_ms = add_saturated(placement->moved_ms, RECALL_WAIT_MS);
    if (long_enough || core->now_ms >= due_ms)
        return true;
    core->recall_ms = smaller(core->recall_ms, due_ms);
    return false;
}

uint64_t krecall_deadline(const struct coordinator_core *core)
{
    return core->recall_ms;
}

static int recall(struct coordinator_core *core, struct placement *placement,
                  uint64_t surplus, uint64_t idle)
{
    const struct job *job = placement->job;
    const uint64_t units =
        part_recall(queued(placement, surplus), idle, kjob_unit_ns(job));
    struct message *message = message_create(MSG_RECALL);
    if (message) {
        message->recall.pool = job->pool->id;
        message->recall.job = job->number;
        message->recall.tasks = units * job->unit;
    }
    if (ksend(core, placement->worker->link, &message))
        return FARPOOL_ENOMEM;
    kplacement_recall(core, placement, RECALL_ASKED, smaller(units, idle));
    return 0;
}

/* -------------------------------------------- pools that may use every slot */

/* The tasks given last are the least likely to have begun. */
static int recall_from(struct coordinator_core *core, struct worker *worker)
{
    const uint64_t idle = subtract_saturated(core->idle_units, core->recalled_units);
    struct placement *placement;
    int looked = 0;
    TAILQ_FOREACH_REVERSE(placement, &worker->placements, kplacement_list, worker_entry)
    {
        const struct pool *pool = placement->job->pool;
        if (looked++ == RECALL_JOBS)
            return 0;
        if (!pool->processes && may_recall(core, placement) &&
            has_idle_worker(core, pool) &&
            is_worth(core, placement, worker->slot_ns >= RECALL_NS))
            return recall(core, placement, worker->units - worker->slots, idle);
    }
    return 0;
}

static int recall_from_workers(struct coordinator_core *core)
{
    struct worker *worker = RB_MAX(kload_tree, &core->load);
    int error = 0;
    for (int i = 0; i < RECALL_WORKERS && worker && worker->full; i++) {
        if (error || core->recalled_units >= core->idle_units)
            break;
        if (worker->units > worker->slots)
            error = recall_from(core, worker);
        worker = RB_PREV(kload_tree, &core->load, worker);
    }
    return error;
}

/* ------------------------- pools with a limit, whose places are their shares */

static int recall_from_member(struct coordinator_core *core, struct member *member)
{
    const struct pool *pool = member->pool;
    const uint64_t least_ns = (uint64_t)RECALL_NS * member->share / member->surplus;
    struct placement *placement;
    TAILQ_FOREACH_REVERSE(placement, &member->worker->placements, kplacement_list,
                          worker_entry)
    {
        if (placement->member == member && may_recall(core, placement) &&
            is_worth(core, placement, kjob_unit_ns(placement->job) >= least_ns))
            return recall(core, placement, member->surplus, pool->idle);
    }
    return 0;
}

/* One RECALL at a time is under way in such a pool. */
static int recall_from_members(struct coordinator_core *core, struct pool *pool)
{
    struct member *member;
    int error = 0;
    RB_FOREACH (member, kmember_tree, &pool->members) {
        if (error || pool->recalls || !RB_EMPTY(&pool->ready))
            break;
        if (member->surplus)
            error = recall_from_member(core, member);
    }
    return error;
}

int krecall_flush(struct coordinator_core *core)
{
    struct pool *pool;
    core->recall_ms = UINT64_MAX;
    int error = recall_from_workers(core);
    TAILQ_FOREACH (pool, &core->uneven, uneven_entry)
        if (!error)
            error = recall_from_members(core, pool);
    return error;
}
