/* SPDX-License-Identifier: Apache-2.0
 *
 * status.c: asks a coordinator what it knows. A connection of its own, no pool: hello,
 * question, one or more answers, bye; all on the calling thread. */
#include "client/credential.h"
#include "client/options.h"
#include "client/transport.h"
#include "common/base/error.h"
#include "common/base/mem.h"
#include "common/net/net.h"
#include "common/sys/sys.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define LINGER_MS 200

struct query {
    struct net *net;
    uint64_t link;
    bool complete;
    const char *address;
    farpool_cluster_status *status;
    size_t nodes_capacity, pools_capacity, jobs_capacity;
    int code;
    char text[256]; /* why it was refused */
};

/* ------------------------------------------------------------------ the answer */

static bool add_nodes(struct query *query, const struct message *answer)
{
    farpool_cluster_status *status = query->status;

    if (!mem_reserve(&status->nodes, &query->nodes_capacity,
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
                                    .connected_ms = from->connected_ms};
        snprintf(to->name, sizeof to->name, "%s", from->node);
        snprintf(to->machine, sizeof to->machine, "%s", from->machine);
        snprintf(to->state, sizeof to->state, "%s", from->state);
        snprintf(to->labels, sizeof to->labels, "%s", from->labels);
    }
    return true;
}

static bool add_pools(struct query *query, const struct message *answer)
{
    farpool_cluster_status *status = query->status;

    if (!mem_reserve(&status->pools, &query->pools_capacity,
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

static bool add_jobs(struct query *query, const struct message *answer)
{
    farpool_cluster_status *status = query->status;

    if (!mem_reserve(&status->jobs, &query->jobs_capacity,
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
                                   .priority = from->priority};
        id_text(&from->pool, to->pool);
        snprintf(to->function, sizeof to->function, "%s", from->function);
    }
    return true;
}

static void take_answer(struct query *query, const struct message *answer)
{
    snprintf(query->status->coordinator_version,
             sizeof query->status->coordinator_version, "%s", answer->status.version);
    query->status->uptime_ms = answer->status.uptime_ms;
    query->status->clients = answer->status.clients;
    if (!add_nodes(query, answer) || !add_pools(query, answer) ||
        !add_jobs(query, answer))
        query->code = FARPOOL_ENOMEM;
    query->complete = !answer->status.more;
}

/* --------------------------------------------------------------- the question */

static void send_message(struct query *query, struct message *message)
{
    if (message == NULL) {
        query->code = FARPOOL_ENOMEM;
        return;
    }
    net_send(query->net, query->link, &message);
}

static void say_hello(struct query *query)
{
    struct message *hello = message_create(MSG_HELLO_CLIENT);

    if (hello != NULL) {
        hello->hello_client.protocol = PROTOCOL_VERSION;
        snprintf(hello->hello_client.version, sizeof hello->hello_client.version, "%s",
                 FARPOOL_VERSION);
        sys_random_id(&hello->hello_client.client);
        sys_host(hello->hello_client.host, sizeof hello->hello_client.host);
        hello->hello_client.pid = (uint32_t)getpid();
    }
    send_message(query, hello);
}

static void forget_answers(struct query *query)
{
    query->status->nodes_count = 0;
    query->status->pools_count = 0;
    query->status->jobs_count = 0;
}

static void deliver(void *user, struct net_event *event)
{
    struct query *query = user;

    if (event->kind == NET_UP) {
        query->link = event->link;
        forget_answers(query); /* of a connection that broke in between */
        say_hello(query);
    } else if (event->kind == NET_REFUSED) {
        query->code = FARPOOL_EKEY;
        snprintf(query->text, sizeof query->text, "%s: %s", query->address, event->text);
    } else if (event->kind == NET_MESSAGE && !query->complete) {
        switch (event->message->kind) {
        case MSG_WELCOME:
            send_message(query, message_create(MSG_STATUS_GET));
            break;
        case MSG_REFUSED:
            query->code = event->message->refused.code;
            snprintf(query->text, sizeof query->text, "%s", event->message->refused.text);
            break;
        case MSG_STATUS:
            take_answer(query, event->message);
            break;
        default:
            break;
        }
    }
    message_free(&event->message);
}

static void run(struct query *query, uint64_t until_ms)
{
    for (;;) {
        zmq_pollitem_t items[NET_POLL_ITEMS];
        uint64_t now_ms = sys_now_ms(), due_ms;
        int count;

        while (net_poll(query->net, now_ms, deliver, query) > 0)
            ;
        net_flush(query->net);
        if (query->complete || query->code != 0 || now_ms >= until_ms)
            return;
        due_ms = net_deadline(query->net);
        count = net_poll_items(query->net, items);
        zmq_poll(items, count,
                 wake_timeout(now_ms, due_ms < until_ms ? due_ms : until_ms));
    }
}

static void say_bye(struct query *query)
{
    struct message *bye = message_create(MSG_BYE);

    if (bye == NULL)
        return;
    net_send(query->net, query->link, &bye);
    net_flush(query->net);
}

/* ------------------------------------------------------------------- the call */

static int ask(const char *address, int64_t timeout_ms, uint64_t until_ms,
               struct query *query, farpool_error *error)
{
    const struct net_config config = {
        .address = address,
        .role = 'C',
        .queue_bytes_max = 1048576,
        .seed = sys_random(),
    };
    int code = credential_dial(&config, &query->net, error);

    if (code != 0)
        return code;
    query->address = address;
    run(query, until_ms);
    if (query->code != 0)
        code = error_set(error, query->code, "status: %s",
                         query->text[0] != '\0' ? query->text
                                                : farpool_error_text(query->code));
    else if (!query->complete)
        code = error_set(error, FARPOOL_ENOCOORDINATOR,
                         "status: no coordinator answered at %s within %" PRId64 " ms%s",
                         address, timeout_ms, credential_hint());
    else
        say_bye(query);
    net_close(query->net, LINGER_MS);
    return code;
}

int farpool_cluster_get_status(const char *address, int64_t timeout_ms,
                               farpool_cluster_status **ret_status, farpool_error *error)
{
    struct query query = {.link = 0};
    uint64_t until_ms;
    int code;

    if (ret_status == NULL)
        return error_set(error, FARPOOL_EINVAL, "status: ret_status is NULL");
    if (address == NULL)
        address = getenv("FARPOOL_COORDINATOR");
    if (address == NULL || address[0] == '\0')
        return error_set(
            error, FARPOOL_EADDRESS,
            "status: no address is given, and FARPOOL_COORDINATOR is not set");
    code = options_read_timeout(timeout_ms, "status", &until_ms, error);
    if (code != 0)
        return code;
    query.status = mem_alloc(sizeof *query.status);
    if (query.status == NULL)
        return error_set(error, FARPOOL_ENOMEM, "status: out of memory");
    code = ask(address, timeout_ms, until_ms, &query, error);
    if (code == 0)
        *ret_status = query.status;
    else
        farpool_cluster_status_free(query.status);
    return code;
}

void farpool_cluster_status_free(farpool_cluster_status *status)
{
    if (status == NULL)
        return;
    mem_free(status->nodes);
    mem_free(status->pools);
    mem_free(status->jobs);
    mem_free(status);
}
