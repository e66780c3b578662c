/* SPDX-License-Identifier: Apache-2.0
 *
 * core.c: the coordinator's core from outside: creating it, one event, the FLUSH, the
 * deadline. core_internal.h tells what the other files are for.
 *
 * An event that runs out of memory leaves no effect. A FLUSH does its work in parts, each
 * all or nothing; the first that finds no memory ends it, and the deadline says when to
 * try again: it never fails. */
#include "coordinator/core_internal.h"

#define DEFAULT_WORKERS 1024
#define DEFAULT_CLIENTS 16384
#define DEFAULT_POOLS 1024
#define DEFAULT_JOBS (UINT32_C(1) << 22)
#define DEFAULT_TASKS (UINT64_C(1) << 20)
#define DEFAULT_BYTES (UINT64_C(256) << 20)

void coordinator_config_init(struct coordinator_config *config)
{
    *config = (struct coordinator_config){.workers_max = DEFAULT_WORKERS,
                                          .clients_max = DEFAULT_CLIENTS,
                                          .pools_max = DEFAULT_POOLS,
                                          .jobs_max = DEFAULT_JOBS,
                                          .client_tasks_max = DEFAULT_TASKS,
                                          .client_bytes_max = DEFAULT_BYTES,
                                          .result_bytes_max = DEFAULT_BYTES,
                                          .body_bytes_max = BODY_BYTES_MAX,
                                          .heartbeat_ms = 2000,
                                          .silence_ms = 5000,
                                          .settle_ms = 1500};
}

int coordinator_core_create(const struct coordinator_config *config, uint64_t now_ms,
                            struct coordinator_core **ret_core)
{
    struct coordinator_core *core = mem_alloc(sizeof *core);
    if (!core)
        return FARPOOL_ENOMEM;
    core->config = *config;
    /* So that sums and multiples of windows do not wrap. */
    core->config.client_tasks_max =
        larger(1, smaller(config->client_tasks_max, UINT64_MAX / 64));
    core->config.client_bytes_max = smaller(config->client_bytes_max, UINT64_MAX / 64);
    core->config.body_bytes_max = smaller(config->body_bytes_max, BODY_BYTES_MAX);
    core->started_ms = core->settles_ms = core->now_ms = core->state_ms = now_ms;
    core->settle_due_ms = UINT64_MAX;
    core->retry_ms = core->recall_ms = core->twin_ms = core->watch_ms = UINT64_MAX;
    core->spread_ms = UINT64_MAX;
    TAILQ_INIT(&core->heard);
    TAILQ_INIT(&core->spoke);
    TAILQ_INIT(&core->dropped);
    TAILQ_INIT(&core->joined);
    TAILQ_INIT(&core->opened);
    TAILQ_INIT(&core->expected_pools);
    TAILQ_INIT(&core->closing);
    TAILQ_INIT(&core->expected_jobs);
    TAILQ_INIT(&core->settling);
    TAILQ_INIT(&core->speculating);
    TAILQ_INIT(&core->matching);
    TAILQ_INIT(&core->dirty_pools);
    TAILQ_INIT(&core->uneven);
    TAILQ_INIT(&core->announced);
    TAILQ_INIT(&core->spreading);
    TAILQ_INIT(&core->batches);
    TAILQ_INIT(&core->dirty_jobs);
    TAILQ_INIT(&core->wishes);
    TAILQ_INIT(&core->askings);
    TAILQ_INIT(&core->lanes_wanted);
    TAILQ_INIT(&core->regrants);
    *ret_core = core;
    return 0;
}

void coordinator_core_destroy(struct coordinator_core *core)
{
    if (!core)
        return;
    struct pool *pool;
    while (!TAILQ_EMPTY(&core->joined))
        kworker_forget(core, TAILQ_FIRST(&core->joined), NULL);
    /* A pool's end is that of the clients inside it too. */
    while ((pool = TAILQ_FIRST(&core->opened)) ||
           (pool = TAILQ_FIRST(&core->expected_pools)) ||
           (pool = TAILQ_FIRST(&core->closing)))
        kpool_destroy(core, pool);
    while (core->clients)
        kclient_forget(core, core->clients);
    while (core->links) {
        if (core->links->state != LINK_DROPPED)
            klink_forget(core, core->links);
        klink_destroy(core, core->links);
    }
    kwish_fini(core);
    mem_free(core);
}

static int flush_part(struct coordinator_core *core)
{
    int error = core->behind ? 0 : klink_flush_silence(core);
    if (!error)
        error = ksettle_flush(core);
    if (!error)
        error = kshare_flush(core);
    if (!error)
        error = kwatch_flush(core);
    if (!error)
        error = ktwin_flush_behind(core);
    if (!error)
        error = kmatch_flush(core);
    kgive_flush(core);
    if (!error)
        error = kspread_flush(core);
    if (!error)
        error = krecall_flush(core);
    if (!error)
        error = ktwin_flush(core);
    if (!error)
        error = kpool_flush_closed(core);
    if (!error)
        error = kstate_flush(core);
    if (!error)
        error = klogs_flush(core);
    if (!error)
        error = klane_flush(core);
    if (!error)
        error = kgrant_flush(core);
    if (!error)
        error = klink_flush_heartbeats(core);
    return error;
}

static void flush(struct coordinator_core *core)
{
    const int error = flush_part(core);
    klink_flush_dropped(core);
    kwish_flush(core);
    core->retry_ms = error ? core->now_ms + RETRY_MS : UINT64_MAX;
    core->flushed = !error;
}

int coordinator_core_step(struct coordinator_core *core, struct coordinator_event *event,
                          struct coordinator_effects *effects)
{
    const size_t mark = effects->count;
    int error = 0;
    core->now_ms = larger(core->now_ms, event->now_ms);
    core->effects = effects;
    core->flushed = false;
    switch (event->kind) {
    case COORDINATOR_MESSAGE:
        error = klink_message(core, event->link, event->holder, &event->message);
        break;
    case COORDINATOR_LINK_DOWN:
        error = klink_down(core, event->link, event->text);
        break;
    case COORDINATOR_KEYS_DONE:
        error = kkeys_done(core, event->link, event->keys);
        break;
    case COORDINATOR_FLUSH:
        core->behind = event->behind;
        flush(core);
        break;
    }
    if (error)
        keffects_truncate(effects, mark);
    core->effects = NULL;
    return error;
}

uint64_t coordinator_core_deadline(const struct coordinator_core *core)
{
    const uint64_t links = smaller(klink_deadline(core), core->retry_ms);
    uint64_t waits = smaller(ksettle_deadline(core), krecall_deadline(core));
    waits = smaller(smaller(waits, ktwin_deadline(core)), kwatch_deadline(core));
    waits = smaller(smaller(waits, kspread_deadline(core)), kgrant_deadline(core));
    const uint64_t tells = smaller(kstate_deadline(core), klogs_deadline(core));
    return smaller(smaller(links, waits), tells);
}

void coordinator_core_counts(const struct coordinator_core *core,
                             struct coordinator_counts *ret_counts)
{
    *ret_counts = (struct coordinator_counts){.workers = HASH_COUNT(core->workers),
                                              .clients = HASH_COUNT(core->clients),
                                              .pools = HASH_COUNT(core->pools),
                                              .jobs = core->jobs_count,
                                              .waiting = core->waiting,
                                              .assigned = core->assigned,
                                              .done = core->done};
}
