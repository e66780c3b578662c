/* SPDX-License-Identifier: Apache-2.0
 *
 * pool_info.c: how a pool stands: what its core knows of the coordinator's view, what its
 * jobs have done, and what only the transport can tell. */
#include "client/calls.h"
#include "common/base/error.h"

static void count_tasks(const farpool_pool *pool, farpool_pool_info *info)
{
    struct client_job_counts counts;

    for (const struct pool_job *job = pool->jobs; job != NULL; job = job->hh.next)
        if (client_core_job_counts(pool->core, job->number, &counts)) {
            info->tasks_waiting += counts.waiting;
            info->tasks_running += counts.running;
        }
    info->tasks_done = pool->tasks_done;
    info->tasks_failed = pool->tasks_failed;
}

int farpool_pool_get_info(farpool_pool *pool, farpool_pool_info *ret_info,
                          farpool_error *error)
{
    struct client_pool_counts counts;
    farpool_pool_info info = {0};
    int code;

    if (ret_info == NULL)
        return error_set(error, FARPOOL_EINVAL, "info: ret_info is NULL");
    if ((code = pool_enter(pool, "info", error)) != 0)
        return code;
    driver_look(pool);
    calls_submit(pool);
    client_core_pool_counts(pool->core, &counts);
    info.nodes = counts.nodes;
    info.slots = counts.slots;
    info.processes = counts.processes;
    info.processes_started = counts.started;
    info.connected = counts.connected;
    count_tasks(pool, &info);
    if (pool->transport->kind->info != NULL)
        pool->transport->kind->info(pool->transport, &info);
    pool_leave(pool);
    *ret_info = info;
    return 0;
}

int farpool_pool_warning(farpool_pool *pool, farpool_error *ret_warning)
{
    int code = pool_enter(pool, "warning", ret_warning);

    if (code != 0)
        return code;
    driver_look(pool);
    code = FARPOOL_END;
    if (pool->warning != 0) {
        error_set(ret_warning, pool->warning, "node %s cannot run this pool: %s",
                  pool->warning_node, pool->warning_text);
        if (ret_warning != NULL)
            memcpy(ret_warning->node, pool->warning_node, sizeof pool->warning_node);
        code = 0;
    }
    pool_leave(pool);
    return code;
}
