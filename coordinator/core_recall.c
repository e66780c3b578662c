/* SPDX-License-Identifier: Apache-2.0
 *
 * core_recall.c: when slots are idle somewhere and a pool has nothing waiting, the most
 * loaded workers are asked to give back half of what they have not begun (RECALL). What
 * they return is waiting again, and matched like anything else.
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

/* Chunks of a job that the worker has not begun, as far as is known here. */
static uint64_t surplus(const struct placement *placement)
{
    const struct worker *worker = placement->worker;
    const uint64_t queued = subtract_saturated(placement->tasks, placement->running);
    const uint32_t unit = placement->job->unit;
    return smaller(queued / unit + (queued % unit != 0), worker->units - worker->slots);
}

static bool may_recall(const struct coordinator_core *core,
                       const struct placement *placement)
{
    const struct job *job = placement->job;
    return placement->recall == RECALL_NONE && job->state == JOB_RUNNING &&
           job->pool->state == POOL_RUNNING && RB_EMPTY(&job->pool->ready) &&
           surplus(placement) && has_idle_worker(core, job->pool);
}

static int recall(struct coordinator_core *core, struct placement *placement)
{
    const uint64_t units = (surplus(placement) + 1) / 2;
    struct message *message = message_create(MSG_RECALL);
    if (message) {
        message->recall.pool = placement->job->pool->id;
        message->recall.job = placement->job->number;
        message->recall.tasks = units * placement->job->unit;
    }
    if (ksend(core, placement->worker->link, &message))
        return FARPOOL_ENOMEM;
    kplacement_recall(core, placement, RECALL_ASKED,
                      smaller(units, core->idle_units - core->recalled_units));
    return 0;
}

/* The tasks given last are the least likely to have begun. */
static int recall_from(struct coordinator_core *core, struct worker *worker)
{
    struct placement *placement;
    int looked = 0;
    TAILQ_FOREACH_REVERSE(placement, &worker->placements, kplacement_list, worker_entry)
    {
        if (looked++ == RECALL_JOBS)
            return 0;
        if (may_recall(core, placement))
            return recall(core, placement);
    }
    return 0;
}

int krecall_flush(struct coordinator_core *core)
{
    struct worker *worker = RB_MAX(kload_tree, &core->load);
    int error = 0;
    for (int i = 0; i < RECALL_WORKERS && worker && worker->full; i++) {
        if (error || core->recalled_units >= core->idle_units)
            break;
        if (worker->units > worker->slots && worker->slot_ns >= RECALL_NS)
            error = recall_from(core, worker);
        worker = RB_PREV(kload_tree, &core->load, worker);
    }
    return error;
}
