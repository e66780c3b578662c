/* SPDX-License-Identifier: Apache-2.0
 *
 * core_state.c: telling clients how their pools and jobs stand, when it has changed:
 * POOL_STATE at once when nodes or slots did, else, like JOB_STATE, at most every
 * STATE_PERIOD_MS. */
#include "coordinator/core_internal.h"

void kstate_touch_pool(struct coordinator_core *core, struct pool *pool)
{
    if (!pool->dirty)
        TAILQ_INSERT_TAIL(&core->dirty_pools, pool, dirty_entry);
    pool->dirty = true;
}

void kstate_touch_job(struct coordinator_core *core, struct job *job)
{
    if (job->whole)
        return; /* nobody looks */
    if (!job->dirty)
        TAILQ_INSERT_TAIL(&core->dirty_jobs, job, dirty_entry);
    job->dirty = true;
}

static int tell_pool(struct coordinator_core *core, const struct pool *pool,
                     const struct client *client)
{
    struct message *message = message_create(MSG_POOL_STATE);
    if (message) {
        message->pool_state.pool = pool->id;
        message->pool_state.nodes = (uint32_t)kpool_nodes(core, pool);
        message->pool_state.slots =
            (uint32_t)smaller(core->slots - pool->failed_slots, UINT32_MAX);
        message->pool_state.processes = pool->alive;
        message->pool_state.started = pool->started;
    }
    return ksend(core, client->link, &message);
}

static int tell_all(struct coordinator_core *core, struct pool *pool)
{
    const size_t mark = core->effects->count;
    const struct client *client;
    int error = tell_pool(core, pool, pool->owner);
    TAILQ_FOREACH (client, &pool->clients, pool_entry)
        if (!error)
            error = tell_pool(core, pool, client);
    if (error) {
        keffects_truncate(core->effects, mark);
        return error;
    }
    pool->told_nodes = kpool_nodes(core, pool);
    pool->told_slots = core->slots - pool->failed_slots;
    pool->told_alive = pool->alive;
    pool->told_started = pool->started;
    return 0;
}

static int flush_pool(struct coordinator_core *core, struct pool *pool, bool due)
{
    const bool nodes = pool->told_nodes != kpool_nodes(core, pool) ||
                       pool->told_slots != core->slots - pool->failed_slots;
    const bool processes =
        pool->told_alive != pool->alive || pool->told_started != pool->started;
    if (pool->state == POOL_RUNNING && processes && !nodes && !due)
        return 0;
    if (pool->state == POOL_RUNNING && (nodes || processes) && tell_all(core, pool))
        return FARPOOL_ENOMEM;
    TAILQ_REMOVE(&core->dirty_pools, pool, dirty_entry);
    pool->dirty = false;
    return 0;
}

static int flush_job(struct coordinator_core *core, struct job *job)
{
    if (job->owner &&
        (job->running != job->told_running || job->share_ppm != job->told_share_ppm)) {
        struct message *message = message_create(MSG_JOB_STATE);
        if (message) {
            message->job_state.pool = job->pool->id;
            message->job_state.job = job->number;
            message->job_state.running = job->running;
            message->job_state.share_ppm = job->share_ppm;
        }
        if (ksend(core, job->owner->link, &message))
            return FARPOOL_ENOMEM;
        job->told_running = job->running;
        job->told_share_ppm = job->share_ppm;
    }
    TAILQ_REMOVE(&core->dirty_jobs, job, dirty_entry);
    job->dirty = false;
    return 0;
}

int kstate_flush(struct coordinator_core *core)
{
    const bool due = core->now_ms >= core->state_ms;
    struct pool *pool, *next;
    struct job *job;
    if (TAILQ_EMPTY(&core->dirty_pools) && TAILQ_EMPTY(&core->dirty_jobs))
        return 0;
    TAILQ_FOREACH_SAFE (pool, &core->dirty_pools, dirty_entry, next)
        if (flush_pool(core, pool, due))
            return FARPOOL_ENOMEM;
    while (due && (job = TAILQ_FIRST(&core->dirty_jobs)))
        if (flush_job(core, job))
            return FARPOOL_ENOMEM;
    if (due)
        core->state_ms = core->now_ms + STATE_PERIOD_MS;
    return 0;
}

uint64_t kstate_deadline(const struct coordinator_core *core)
{
    const bool dirty =
        !TAILQ_EMPTY(&core->dirty_pools) || !TAILQ_EMPTY(&core->dirty_jobs);
    return dirty ? core->state_ms : UINT64_MAX;
}
