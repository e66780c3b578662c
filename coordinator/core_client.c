/* SPDX-License-Identifier: Apache-2.0
 *
 * core_client.c: clients: their hello, what they may say, and their end.
 *
 * A client has one pool: it opened it (and its end is the pool's), or it runs inside one
 * (POOL_ATTACH; its end is that of the jobs that it opened). A client that says hello on
 * a second link has lost the first. What a client says of a pool or job that has just
 * gone is ignored; what it says of one that it never had, drops it. */
#include "coordinator/core_internal.h"

#include <string.h>

static struct client *find(const struct coordinator_core *core, const struct id *id)
{
    struct client *client;
    HASH_FIND(hh, core->clients, id, sizeof *id, client);
    return client;
}

static struct client *create(struct coordinator_core *core, struct link *link,
                             const struct message *message)
{
    bool failed = false;
    struct client *client = mem_alloc(sizeof *client);
    if (!client)
        return NULL;
    client->id = message->hello_client.client;
    client->link = link;
    client->serial = ++core->next_client;
    memcpy(client->host, message->hello_client.host, sizeof client->host);
    client->pid = message->hello_client.pid;
    client->lanes = message->hello_client.lanes && link->holder.role != HOLDER_RELAYED;
    TAILQ_INIT(&client->jobs);
    TAILQ_INIT(&client->askings);
    HASH_ADD(hh, core->clients, id, sizeof client->id, client);
    if (failed) {
        mem_free(client);
        return NULL;
    }
    return client;
}

int kclient_hello(struct coordinator_core *core, struct link *link,
                  const struct message *message)
{
    if (id_is_zero(&message->hello_client.client))
        return klink_drop(core, link, FARPOOL_EPROTOCOL, "a client without an id");
    struct client *old = find(core, &message->hello_client.client);
    if (old && !hash_equal(&old->link->holder.key, &link->holder.key))
        return klink_refuse(core, link, FARPOOL_EKEY,
                            "the key \"%s\" cannot take over a client of another key",
                            link->holder.name);
    if (!old && HASH_COUNT(core->clients) >= core->config.clients_max)
        return klink_refuse(core, link, FARPOOL_EFULL,
                            "the coordinator already has %u clients (its limit)",
                            core->config.clients_max);
    struct client *client = create(core, link, message);
    if (!client)
        return FARPOOL_ENOMEM;
    int error = 0;
    if (old)
        error = kclient_tell_gone(core, old);
    if (old && !error)
        error = klink_tell_drop(core, old->link, FARPOOL_ECLOSED,
                                "the client came back on another connection");
    if (!error)
        error = klink_tell_welcome(core, link, true);
    if (error) {
        HASH_DEL(core->clients, client);
        mem_free(client);
        return error;
    }
    if (old)
        kclient_forget(core, old);
    link->client = client;
    klink_greet(core, link, LINK_CLIENT);
    return 0;
}

int kclient_tell_gone(struct coordinator_core *core, const struct client *client)
{
    int error = klane_tell_gone(core, client->link);
    if (error || client->state == CLIENT_OWNER)
        return error ? error : kpool_tell_gone(core, client->pool);
    struct job *job;
    TAILQ_FOREACH (job, &client->jobs, client_entry)
        if (!error)
            error = kjob_tell_abandon(core, job);
    return error;
}

void kclient_forget(struct coordinator_core *core, struct client *client)
{
    if (client->state == CLIENT_OWNER) {
        kpool_destroy(core, client->pool);
    } else if (client->state == CLIENT_ATTACHED) {
        struct job *job;
        while ((job = TAILQ_FIRST(&client->jobs)))
            kjob_destroy(core, job);
        TAILQ_REMOVE(&client->pool->clients, client, pool_entry);
    }
    klogs_forget_client(core, client);
    assert(TAILQ_EMPTY(&client->jobs) && !client->tasks && !client->bytes);
    assert(!client->assigned && !client->hungry);
    klink_forget(core, client->link);
    HASH_DEL(core->clients, client);
    mem_free(client);
}

void kclient_refresh(struct coordinator_core *core, struct client *client)
{
    const bool hungry =
        client->state == CLIENT_ATTACHED && client->ready_jobs && !client->assigned;
    if (hungry == client->hungry)
        return;
    client->hungry = hungry;
    if (hungry) {
        TAILQ_INSERT_TAIL(&client->pool->hungry, client, hungry_entry);
        kmatch_wake(core, client->pool);
    } else {
        TAILQ_REMOVE(&client->pool->hungry, client, hungry_entry);
    }
}

struct job *kclient_ready_job(const struct client *client)
{
    struct job *job = TAILQ_FIRST(&client->jobs);
    while (!job->ready)
        job = TAILQ_NEXT(job, client_entry);
    return job;
}

/* The pool that a message is about; NULL: a kind that has none. */
static const struct id *pool_of(const struct message *message)
{
    switch (message->kind) {
    case MSG_POOL_CLOSE:
        return &message->pool_close.pool;
    case MSG_JOB_OPEN:
        return &message->job_open.pool;
    case MSG_JOB_CLOSE:
        return &message->job_close.pool;
    case MSG_RESUMED:
        return &message->resumed.pool;
    case MSG_TASKS:
        return &message->tasks.pool;
    case MSG_ACK:
        return &message->ack.pool;
    case MSG_CANCEL:
        return &message->cancel.pool;
    case MSG_ACCOUNT:
        return &message->account.pool;
    case MSG_BLOB:
        return &message->blob.pool;
    case MSG_SHARE:
        return &message->share.pool;
    case MSG_UNSHARE:
        return &message->unshare.pool;
    default:
        return NULL;
    }
}

static int blob(struct coordinator_core *core, const struct client *client,
                struct message **message)
{
    if (client->state != CLIENT_OWNER)
        return klink_drop(core, client->link, FARPOOL_EPROTOCOL,
                          "BLOB from a client that did not open the pool");
    if (!id_is_zero(&(*message)->blob.source))
        return klink_drop(core, client->link, FARPOOL_EPROTOCOL,
                          "BLOB of a client in a worker's name");
    const struct worker *worker = kworker_find(core, &(*message)->blob.worker);
    return worker ? kforward(core, worker->link, message) : 0;
}

static int pool_message(struct coordinator_core *core, struct client *client,
                        struct message **message)
{
    /* All that a closing pool still takes part in. */
    switch ((*message)->kind) {
    case MSG_POOL_CLOSE:
        return kpool_close(core, client, *message);
    case MSG_BLOB:
        return blob(core, client, message);
    case MSG_ACK:
        return kresults_ack(core, client, message);
    default:
        if (client->pool->state == POOL_CLOSING)
            return 0;
    }
    switch ((*message)->kind) {
    case MSG_JOB_OPEN:
        return kjob_open(core, client, *message);
    case MSG_JOB_CLOSE:
        return kjob_close(core, client, *message);
    case MSG_RESUMED:
        client->resumed = true;
        client->nodes_before = (*message)->resumed.nodes;
        return 0;
    case MSG_TASKS:
        return ktasks(core, client, *message);
    case MSG_SHARE:
        return kshare(core, client, message);
    case MSG_UNSHARE:
        return kunshare(core, client, *message);
    case MSG_ACCOUNT:
        return kaccount(core, client, *message);
    default:
        return kjob_cancel(core, client, *message);
    }
}

/* Detached jobs are on a disk, which is no core's: their keeper answers. */
static int detached(struct coordinator_core *core, const struct client *client,
                    struct message **message)
{
    if (client->state != CLIENT_IDLE)
        return klink_drop(core, client->link, FARPOOL_EPROTOCOL,
                          "%s is not for a client with a pool to say",
                          message_name((*message)->kind));
    struct coordinator_effect *effect =
        keffects_add(core, COORDINATOR_DETACHED, client->link->number);
    if (!effect)
        return FARPOOL_ENOMEM;
    effect->message = *message;
    *message = NULL;
    return 0;
}

static bool is_about_detached(enum message_kind kind)
{
    return kind >= MSG_SUBMIT && kind <= MSG_COLLECT;
}

/* A client inside a process of a worker has that worker's key, which is no client's: it
 * works in the pool that it runs in, and has no other business. */
static bool may_say(const struct client *client, enum message_kind kind)
{
    return client->link->holder.role != HOLDER_RELAYED ||
           (kind != MSG_POOL_OPEN && kind != MSG_STATUS_GET && kind != MSG_LOGS_GET &&
            !is_about_detached(kind));
}

int kclient_message(struct coordinator_core *core, struct client *client,
                    struct message **message)
{
    if (!may_say(client, (*message)->kind))
        return klink_refuse(core, client->link, FARPOOL_EKEY,
                            "%s is not for a client inside a process of \"%s\"",
                            message_name((*message)->kind), client->link->holder.name);
    switch ((*message)->kind) {
    case MSG_HEARTBEAT:
        return 0;
    case MSG_STATUS_GET:
        return kstatus(core, client, (*message)->status_get.request);
    case MSG_CANCEL_JOB:
        return kadmin_cancel(core, client, *message);
    case MSG_DRAIN_NODE:
        return kadmin_drain(core, client, *message);
    case MSG_TOKEN_MAKE:
    case MSG_TOKEN_REVOKE:
        return kkeys_ask(core, client, *message);
    case MSG_LOGS_GET:
        return klogs_get(core, client, *message);
    case MSG_LANE:
        return klane_told(core, client->link, *message);
    case MSG_SUBMIT:
    case MSG_SUBMIT_TASKS:
    case MSG_SUBMIT_END:
    case MSG_DETACHED_GET:
    case MSG_DETACHED_END:
    case MSG_COLLECT:
        return detached(core, client, message);
    case MSG_POOL_OPEN:
        return kpool_open(core, client, message);
    case MSG_POOL_ATTACH:
        return kpool_attach(core, client, *message);
    default:
        break;
    }
    if ((*message)->kind == MSG_BLOB && client->state == CLIENT_IDLE)
        return detached(core, client, message);
    const struct id *id = pool_of(*message);
    if (!id || client->state == CLIENT_IDLE)
        return klink_drop(core, client->link, FARPOOL_EPROTOCOL,
                          "%s is not for a client to say%s",
                          message_name((*message)->kind), id ? " without a pool" : "");
    if (!id_equal(id, &client->pool_id))
        return klink_drop(core, client->link, FARPOOL_EPROTOCOL, "%s for another pool",
                          message_name((*message)->kind));
    if (client->state == CLIENT_ENDED)
        return 0;
    return pool_message(core, client, message);
}
