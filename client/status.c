/* SPDX-License-Identifier: Apache-2.0
 *
 * status.c: asks a coordinator what it knows: one STATUS_GET, one or more STATUS. */
#include "client/query.h"
#include "common/base/error.h"
#include "common/base/mem.h"

#include <stdio.h>

struct reading {
    farpool_cluster_status *status;
    size_t nodes_capacity, gone_capacity, pools_capacity, jobs_capacity;
};

/* ------------------------------------------------------------------ the answer */

static bool add_nodes(struct reading *reading, const struct message *answer)
{
    farpool_cluster_status *status = reading->status;

    if (!mem_reserve(&status->nodes, &reading->nodes_capacity,
                     status->nodes_count + answer->status.nodes_count,
                     sizeof *status->nodes))
        return false;
    for (uint32_t i = 0; i < answer->status.nodes_count; i++) {
        const struct msg_node_info *from = &answer->status.nodes[i];
        farpool_node_status *to = &status->nodes[status->nodes_count++];

        *to = (farpool_node_status){.slots = from->slots,
                                    .memory_bytes = from->memory_bytes,
                                    .processes = from->processes,
                                    .tasks_running = from->running,
                                    .tasks_assigned = from->assigned,
                                    .tasks_done = from->done,
                                    .lanes = from->lanes,
                                    .connected_ms = from->connected_ms};
        snprintf(to->name, sizeof to->name, "%s", from->node);
        snprintf(to->machine, sizeof to->machine, "%s", from->machine);
        snprintf(to->state, sizeof to->state, "%s", from->state);
        snprintf(to->labels, sizeof to->labels, "%s", from->labels);
    }
    return true;
}

static bool add_gone(struct reading *reading, const struct message *answer)
{
    farpool_cluster_status *status = reading->status;

    if (!mem_reserve(&status->gone, &reading->gone_capacity,
                     status->gone_count + answer->status.gone_count,
                     sizeof *status->gone))
        return false;
    for (uint32_t i = 0; i < answer->status.gone_count; i++) {
        const struct msg_gone_info *from = &answer->status.gone[i];
        farpool_gone_status *to = &status->gone[status->gone_count++];

        *to = (farpool_gone_status){.tasks = from->tasks, .ago_ms = from->ago_ms};
        snprintf(to->name, sizeof to->name, "%s", from->node);
        snprintf(to->why, sizeof to->why, "%s", from->why);
    }
    return true;
}

static bool add_pools(struct reading *reading, const struct message *answer)
{
    farpool_cluster_status *status = reading->status;

    if (!mem_reserve(&status->pools, &reading->pools_capacity,
                     status->pools_count + answer->status.pools_count,
                     sizeof *status->pools))
        return false;
    for (uint32_t i = 0; i < answer->status.pools_count; i++) {
        const struct msg_pool_info *from = &answer->status.pools[i];
        farpool_pool_status *to = &status->pools[status->pools_count++];

        *to = (farpool_pool_status){.client_pid = from->pid,
                                    .processes = from->processes,
                                    .jobs = from->jobs,
                                    .tasks_waiting = from->waiting,
                                    .tasks_running = from->running,
                                    .tasks_done = from->done};
        id_text(&from->pool, to->id);
        snprintf(to->program, sizeof to->program, "%s", from->program);
        snprintf(to->client_host, sizeof to->client_host, "%s", from->host);
    }
    return true;
}

static bool add_jobs(struct reading *reading, const struct message *answer)
{
    farpool_cluster_status *status = reading->status;

    if (!mem_reserve(&status->jobs, &reading->jobs_capacity,
                     status->jobs_count + answer->status.jobs_count,
                     sizeof *status->jobs))
        return false;
    for (uint32_t i = 0; i < answer->status.jobs_count; i++) {
        const struct msg_job_info *from = &answer->status.jobs[i];
        farpool_job_status *to = &status->jobs[status->jobs_count++];

        *to = (farpool_job_status){.job = from->job,
                                   .tasks_waiting = from->waiting,
                                   .tasks_running = from->running,
                                   .tasks_done = from->done,
                                   .tasks_failed = from->failed,
                                   .client_pid = from->pid,
                                   .priority = from->priority};
        id_text(&from->pool, to->pool);
        snprintf(to->function, sizeof to->function, "%s", from->function);
        snprintf(to->client_host, sizeof to->client_host, "%s", from->host);
        to->tasks_twice = from->twins;
        snprintf(to->why, sizeof to->why, "%s", from->why);
        snprintf(to->reason, sizeof to->reason, "%s", from->reason);
    }
    return true;
}

static int take_answer(void *user, const struct message *answer, bool *ret_complete)
{
    struct reading *reading = user;

    snprintf(reading->status->coordinator_version,
             sizeof reading->status->coordinator_version, "%s", answer->status.version);
    reading->status->uptime_ms = answer->status.uptime_ms;
    reading->status->clients = answer->status.clients;
    if (!add_nodes(reading, answer) || !add_gone(reading, answer) ||
        !add_pools(reading, answer) || !add_jobs(reading, answer))
        return FARPOOL_ENOMEM;
    *ret_complete = !answer->status.more;
    return 0;
}

/* -------------------------------------------------------------------- the call */

static void forget_answers(void *user)
{
    struct reading *reading = user;

    reading->status->nodes_count = 0;
    reading->status->gone_count = 0;
    reading->status->pools_count = 0;
    reading->status->jobs_count = 0;
}

static int read_status(const char *address, int64_t timeout_ms, struct reading *reading,
                       farpool_error *error)
{
    struct query query = {
        .call = "status",
        .question = message_create(MSG_STATUS_GET),
        .answer = MSG_STATUS,
        .take = take_answer,
        .restart = forget_answers,
        .user = reading,
    };

    return query_ask(&query, address, timeout_ms, error);
}

int farpool_cluster_get_status(const char *address, int64_t timeout_ms,
                               farpool_cluster_status **ret_status, farpool_error *error)
{
    struct reading reading = {.status = NULL};
    int code;

    if (ret_status == NULL)
        return error_set(error, FARPOOL_EINVAL, "status: ret_status is NULL");
    reading.status = mem_alloc(sizeof *reading.status);
    if (reading.status == NULL)
        return error_set(error, FARPOOL_ENOMEM, "status: out of memory");
    code = read_status(address, timeout_ms, &reading, error);
    if (code == 0)
        *ret_status = reading.status;
    else
        farpool_cluster_status_free(reading.status);
    return code;
}

void farpool_cluster_status_free(farpool_cluster_status *status)
{
    if (status == NULL)
        return;
    mem_free(status->nodes);
    mem_free(status->gone);
    mem_free(status->pools);
    mem_free(status->jobs);
    mem_free(status);
}
