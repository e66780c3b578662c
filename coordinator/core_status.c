/* SPDX-License-Identifier: Apache-2.0
 *
 * core_status.c: STATUS, in as many messages as the longest of its lists needs. A
 * client's key is shown the nodes, and of pools and jobs its own; an admin's all. */
#include "coordinator/core_internal.h"

#include <stdio.h>

/* A task that is at two nodes counts once. */
static uint64_t running_of(const struct job *job)
{
    return smaller(job->running, span_set_tasks(job->assigned));
}

/* Where the next message goes on. */
struct cursor {
    const struct holder *holder;
    const struct worker *node;
    const struct kpool_list *list, *job_list; /* opened, expected, closing */
    struct pool *pool, *job_pool;
    struct job *job;
    struct explain explain;
};

static const struct kpool_list *next_list(const struct coordinator_core *core,
                                          const struct kpool_list *list)
{
    if (!list)
        return &core->opened;
    if (list == &core->opened)
        return &core->expected_pools;
    return list == &core->expected_pools ? &core->closing : NULL;
}

static struct pool *next_in_lists(const struct coordinator_core *core,
                                  const struct kpool_list **list, struct pool *pool)
{
    if (pool)
        pool = TAILQ_NEXT(pool, entry);
    while (!pool && (*list = next_list(core, *list)))
        pool = TAILQ_FIRST(*list);
    return pool;
}

bool kstatus_may_see(const struct holder *holder, const struct pool *pool)
{
    return holder->role == HOLDER_NONE || holder->role == HOLDER_ADMIN ||
           hash_equal(&holder->key, &pool->key);
}

/* The pool behind one that the asker may see, through all three lists; NULL at the end.
 */
static struct pool *next_pool(const struct coordinator_core *core,
                              const struct holder *holder, const struct kpool_list **list,
                              struct pool *pool)
{
    do
        pool = next_in_lists(core, list, pool);
    while (pool && !kstatus_may_see(holder, pool));
    return pool;
}

static void find_job(const struct coordinator_core *core, struct cursor *cursor)
{
    while (!cursor->job && cursor->job_pool) {
        cursor->job_pool =
            next_pool(core, cursor->holder, &cursor->job_list, cursor->job_pool);
        if (cursor->job_pool)
            cursor->job = RB_MIN(kjob_tree, &cursor->job_pool->jobs);
    }
}

static void begin(const struct coordinator_core *core, struct cursor *cursor)
{
    cursor->node = TAILQ_FIRST(&core->joined);
    cursor->pool = next_pool(core, cursor->holder, &cursor->list, NULL);
    cursor->job_pool = next_pool(core, cursor->holder, &cursor->job_list, NULL);
    cursor->job = cursor->job_pool ? RB_MIN(kjob_tree, &cursor->job_pool->jobs) : NULL;
    find_job(core, cursor);
    kexplain_begin(core, &cursor->explain);
}

static void describe_node(const struct coordinator_core *core,
                          const struct worker *worker, struct msg_node_info *info)
{
    info->worker = worker->id;
    snprintf(info->node, sizeof info->node, "%s", worker->node);
    snprintf(info->machine, sizeof info->machine, "%s", worker->machine);
    snprintf(info->labels, sizeof info->labels, "%s", worker->labels);
    snprintf(info->state, sizeof info->state, "%s",
             worker->state == WORKER_READY ? "ready" : "draining");
    info->slots = worker->slots;
    info->memory_bytes = worker->memory_bytes;
    info->processes = worker->processes;
    info->running = worker->running;
    info->assigned = worker->tasks;
    info->done = worker->done + worker->lane_done;
    info->lanes = klane_count_up(worker);
    info->connected_ms = core->now_ms - worker->joined_ms;
}

static void describe_gone(const struct coordinator_core *core, struct message *message)
{
    uint32_t *count = &message->status.gone_count;
    for (; *count < GONE_MAX && *count < core->gone_count; (*count)++) {
        const struct gone *gone = &core->gone[(core->gone_count - 1 - *count) % GONE_MAX];
        struct msg_gone_info *info = &message->status.gone[*count];
        snprintf(info->node, sizeof info->node, "%s", gone->node);
        snprintf(info->why, sizeof info->why, "%s", gone->why);
        info->tasks = gone->tasks;
        info->ago_ms = core->now_ms - gone->at_ms;
    }
}

static void describe_pool(struct pool *pool, struct msg_pool_info *info)
{
    struct job *job;
    info->pool = pool->id;
    if (pool->open)
        snprintf(info->program, sizeof info->program, "%s", pool->open->pool_open.name);
    if (pool->owner) {
        snprintf(info->host, sizeof info->host, "%s", pool->owner->host);
        info->pid = pool->owner->pid;
    }
    info->processes = pool->alive;
    info->jobs = pool->jobs_count;
    info->done = pool->done;
    RB_FOREACH (job, kjob_tree, &pool->jobs) {
        info->waiting += kjob_waiting(job);
        info->running += running_of(job);
    }
}

static void describe_job(const struct job *job, struct msg_job_info *info)
{
    info->pool = job->pool->id;
    info->job = job->number;
    snprintf(info->function, sizeof info->function, "%s", job->function);
    info->priority = job->priority;
    info->waiting = kjob_waiting(job);
    info->running = running_of(job);
    info->twins = span_set_tasks(job->twins);
    info->done = job->done;
    info->failed = job->failed;
    if (job->owner) {
        snprintf(info->host, sizeof info->host, "%s", job->owner->host);
        info->pid = job->owner->pid;
    }
}

static void fill(const struct coordinator_core *core, struct message *message,
                 struct cursor *cursor)
{
    uint32_t *nodes = &message->status.nodes_count;
    uint32_t *pools = &message->status.pools_count;
    uint32_t *jobs = &message->status.jobs_count;
    for (; cursor->node && *nodes < LIST_MAX; (*nodes)++) {
        describe_node(core, cursor->node, &message->status.nodes[*nodes]);
        cursor->node = TAILQ_NEXT(cursor->node, entry);
    }
    for (; cursor->pool && *pools < LIST_MAX; (*pools)++) {
        describe_pool(cursor->pool, &message->status.pools[*pools]);
        cursor->pool = next_pool(core, cursor->holder, &cursor->list, cursor->pool);
    }
    for (; cursor->job && *jobs < LIST_MAX; (*jobs)++) {
        describe_job(cursor->job, &message->status.jobs[*jobs]);
        kexplain_job(core, &cursor->explain, cursor->job, &message->status.jobs[*jobs]);
        cursor->job = RB_NEXT(kjob_tree, &cursor->job_pool->jobs, cursor->job);
        find_job(core, cursor);
    }
    message->status.more = cursor->node || cursor->pool || cursor->job;
}

static struct message *create(const struct coordinator_core *core)
{
    struct message *message = message_create(MSG_STATUS);
    if (!message)
        return NULL;
    message->status.nodes = mem_alloc(LIST_MAX * sizeof *message->status.nodes);
    message->status.gone = mem_alloc(GONE_MAX * sizeof *message->status.gone);
    message->status.pools = mem_alloc(LIST_MAX * sizeof *message->status.pools);
    message->status.jobs = mem_alloc(LIST_MAX * sizeof *message->status.jobs);
    if (!message->status.nodes || !message->status.gone || !message->status.pools ||
        !message->status.jobs) {
        message_free(&message);
        return NULL;
    }
    snprintf(message->status.version, sizeof message->status.version, "%s",
             FARPOOL_VERSION);
    message->status.uptime_ms = core->now_ms - core->started_ms;
    message->status.clients = HASH_COUNT(core->clients);
    return message;
}

int kstatus(struct coordinator_core *core, struct client *client, uint32_t request)
{
    struct cursor cursor = {.holder = &client->link->holder};
    bool first = true, more = true;
    begin(core, &cursor);
    while (more) {
        struct message *message = create(core);
        if (message) {
            message->status.request = request;
            if (first)
                describe_gone(core, message);
            first = false;
            fill(core, message, &cursor);
            more = message->status.more;
        }
        if (ksend(core, client->link, &message))
            return FARPOOL_ENOMEM;
    }
    return 0;
}
