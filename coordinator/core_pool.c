/* SPDX-License-Identifier: Apache-2.0
 *
 * core_pool.c: pools: opening, joining, closing, failing on a node, their end.
 *
 * A pool is told to a worker with its first tasks there, or with its share where it has a
 * number of processes, and again when that changed. It ends with its client, with kill,
 * everywhere at once; or by POOL_CLOSE, when every worker that knows it has answered
 * POOL_CLOSED or is gone. Its jobs end first. */
#include "coordinator/core_internal.h"

#include <stdio.h>
#include <string.h>

struct pool *kpool_find(const struct coordinator_core *core, const struct id *id)
{
    struct pool *pool;
    HASH_FIND(hh, core->pools, id, sizeof *id, pool);
    return pool;
}

static struct kpool_list *list_of(struct coordinator_core *core, enum pool_state state)
{
    switch (state) {
    case POOL_EXPECTED:
        return &core->expected_pools;
    case POOL_RUNNING:
        return &core->opened;
    case POOL_CLOSING:
        return &core->closing;
    }
    return NULL;
}

static void move(struct coordinator_core *core, struct pool *pool, enum pool_state state)
{
    assert(state > pool->state); /* EXPECTED, RUNNING, CLOSING: never back */
    TAILQ_REMOVE(list_of(core, pool->state), pool, entry);
    pool->state = state;
    TAILQ_INSERT_TAIL(list_of(core, state), pool, entry);
}

static bool pools_full(const struct coordinator_core *core)
{
    return HASH_COUNT(core->pools) >= core->config.pools_max;
}

int kpool_expect(struct coordinator_core *core, const struct id *id,
                 struct pool **ret_pool)
{
    bool failed = false;
    if (pools_full(core))
        return FARPOOL_EFULL;
    struct pool *pool = mem_alloc(sizeof *pool);
    if (!pool)
        return FARPOOL_ENOMEM;
    pool->id = *id;
    HASH_ADD(hh, core->pools, id, sizeof pool->id, pool);
    if (failed) {
        mem_free(pool);
        return FARPOOL_ENOMEM;
    }
    TAILQ_INIT(&pool->clients);
    TAILQ_INIT(&pool->hungry);
    TAILQ_INIT(&pool->lanes);
    TAILQ_INIT(&pool->shared);
    pool->scan = true;
    pool->expires_ms = add_saturated(core->now_ms, (uint64_t)2 * core->config.settle_ms);
    TAILQ_INSERT_TAIL(&core->expected_pools, pool, entry);
    *ret_pool = pool;
    return 0;
}

/* ------------------------------------------------------------------ opening */

/* What nodes said before the client was here. */
static int tell_failures(struct coordinator_core *core, struct pool *pool,
                         struct client *client)
{
    struct member *member;
    RB_FOREACH (member, kmember_tree, &pool->members) {
        if (!member->failure)
            continue;
        struct message *message = message_copy(member->failure);
        if (message)
            message->pool_failed.nodes_left = (uint32_t)kpool_nodes(core, pool);
        if (ksend(core, client->link, &message))
            return FARPOOL_ENOMEM;
    }
    return 0;
}

static void own(struct coordinator_core *core, struct pool *pool, struct client *client,
                struct message **message)
{
    struct member *member;
    pool->open = *message;
    *message = NULL;
    pool->processes = pool->open->pool_open.processes;
    pool->owner = client;
    pool->key = client->link->holder.key;
    client->state = CLIENT_OWNER;
    client->pool = pool;
    client->pool_id = pool->id;
    move(core, pool, POOL_RUNNING);
    RB_FOREACH (member, kmember_tree, &pool->members) {
        if (member->failure)
            message_free(&member->failure);
        if (member->state == MEMBER_HELD)
            kmember_announce(core, member);
    }
    pool->told_nodes = UINT64_MAX; /* so that it is told at once */
    kpool_renode(core, pool);
}

/* Whether the id is one of this client's key, which is known without remembering whose
 * pool is whose: so nobody names another key's pool, also not to a coordinator that was
 * just started, and the answer does not depend on whether there is such a pool. */
static bool may_open(const struct coordinator_core *core, const struct client *client,
                     const struct message *message)
{
    const struct holder *holder = &client->link->holder;
    struct id id;
    if (holder->role == HOLDER_NONE)
        return true;
    if (!core->config.pool_id)
        return false;
    core->config.pool_id(&holder->key, &message->pool_open.seed, &id);
    return id_equal(&id, &message->pool_open.pool);
}

int kpool_open(struct coordinator_core *core, struct client *client,
               struct message **message)
{
    const struct id id = (*message)->pool_open.pool;
    if (client->state != CLIENT_IDLE || id_is_zero(&id))
        return klink_drop(core, client->link, FARPOOL_EPROTOCOL,
                          "a second pool of one client, or a pool without an id");
    if (!may_open(core, client, *message))
        return klink_refuse(core, client->link, FARPOOL_EKEY,
                            "the pool's id is not one of the key \"%s\"",
                            client->link->holder.name);
    struct pool *pool = kpool_find(core, &id);
    if (pool && pool->state != POOL_EXPECTED)
        return klink_drop(core, client->link, FARPOOL_EPROTOCOL,
                          "the pool belongs to another client");
    const int error =
        pool ? tell_failures(core, pool, client) : kpool_expect(core, &id, &pool);
    if (error == FARPOOL_EFULL)
        return klink_refuse(core, client->link, FARPOOL_EFULL,
                            "the coordinator already has %u pools (its limit)",
                            core->config.pools_max);
    if (!error)
        own(core, pool, client, message);
    return error;
}

/* A client inside a process works in whatever pool its worker was told of, by an id that
 * nobody can guess; another client in its own key's pools, as if there were no others. */
static bool may_attach(const struct client *client, const struct pool *pool)
{
    const struct holder *holder = &client->link->holder;
    return holder->role == HOLDER_NONE || holder->role == HOLDER_RELAYED ||
           (pool && hash_equal(&holder->key, &pool->key));
}

int kpool_attach(struct coordinator_core *core, struct client *client,
                 const struct message *message)
{
    const struct id *id = &message->pool_attach.pool;
    if (client->state != CLIENT_IDLE || id_is_zero(id))
        return klink_drop(core, client->link, FARPOOL_EPROTOCOL,
                          "a second pool of one client, or a pool without an id");
    struct pool *pool = kpool_find(core, id);
    /* After a restart the pool's own client may come later. */
    const uint64_t grace_ms = (uint64_t)2 * core->config.settle_ms;
    int error = 0;
    if (!pool && may_attach(client, NULL) &&
        core->now_ms < add_saturated(core->settles_ms, grace_ms))
        error = kpool_expect(core, id, &pool);
    if (error == FARPOOL_ENOMEM)
        return error;
    if (!pool || pool->state == POOL_CLOSING || !may_attach(client, pool))
        return klink_refuse(core, client->link, FARPOOL_ENOPOOL,
                            "the pool that this task runs in is not open");
    client->state = CLIENT_ATTACHED;
    client->pool = pool;
    client->pool_id = *id;
    TAILQ_INSERT_TAIL(&pool->clients, client, pool_entry);
    if (pool->state == POOL_RUNNING) {
        pool->told_nodes = UINT64_MAX; /* so that it is told to all again */
        kstate_touch_pool(core, pool);
    }
    return 0;
}

/* ---------------------------------------------------------- closing, ending */

/* What a worker said of the pool before it read POOL_CLOSE may still come: a HELD must
 * not have tasks wait for what was dropped. */
static void remember_closed(struct worker *worker, const struct id *id)
{
    if (worker->resumed && !kpool_was_closed(worker, id))
        worker->closed[worker->closed_count++ % CLOSED_MAX] = *id;
}

bool kpool_was_closed(const struct worker *worker, const struct id *id)
{
    for (uint32_t i = 0; i < worker->closed_count && i < CLOSED_MAX; i++)
        if (id_equal(&worker->closed[i], id))
            return true;
    return false;
}

static int send_close(struct coordinator_core *core, struct worker *worker,
                      const struct id *id, bool kill)
{
    struct message *message = message_create(MSG_POOL_CLOSE);
    if (message) {
        message->pool_close.pool = *id;
        message->pool_close.kill = kill;
    }
    if (ksend(core, worker->link, &message))
        return FARPOOL_ENOMEM; /* and the same HELD, for one, comes again */
    remember_closed(worker, id);
    return 0;
}

static int tell_closed(struct coordinator_core *core, struct pool *pool, bool kill)
{
    struct member *member;
    const struct client *client;
    RB_FOREACH (member, kmember_tree, &pool->members)
        if (kmember_knows(member) && send_close(core, member->worker, &pool->id, kill))
            return FARPOOL_ENOMEM;
    TAILQ_FOREACH (client, &pool->clients, pool_entry)
        if (klink_tell_drop(core, client->link, FARPOOL_ECLOSED, "the pool was closed"))
            return FARPOOL_ENOMEM;
    return 0;
}

int kpool_tell_gone(struct coordinator_core *core, struct pool *pool)
{
    return tell_closed(core, pool, true);
}

int kpool_disown(struct coordinator_core *core, struct worker *worker,
                 const struct id *id)
{
    return send_close(core, worker, id, true);
}

static void end_clients_and_jobs(struct coordinator_core *core, struct pool *pool)
{
    struct client *client;
    struct job *job;
    while ((client = TAILQ_FIRST(&pool->clients)))
        kclient_forget(core, client);
    while ((job = RB_ROOT(&pool->jobs)))
        kjob_destroy(core, job);
    kworker_unreserve(core, pool);
    klane_forget_pool(core, pool);
}

void kpool_destroy(struct coordinator_core *core, struct pool *pool)
{
    struct member *member;
    end_clients_and_jobs(core, pool);
    kshared_forget_all(core, pool);
    klogs_pool_ended(core, pool);
    while ((member = RB_ROOT(&pool->members)))
        kmember_destroy(core, member);
    if (pool->matching)
        TAILQ_REMOVE(&core->matching, pool, matching_entry);
    if (pool->dirty)
        TAILQ_REMOVE(&core->dirty_pools, pool, dirty_entry);
    TAILQ_REMOVE(list_of(core, pool->state), pool, entry);
    if (pool->owner) {
        pool->owner->pool = NULL;
        pool->owner->state = CLIENT_ENDED;
    }
    message_free(&pool->open);
    HASH_DEL(core->pools, pool);
    mem_free(pool);
}

static void begin_closing(struct coordinator_core *core, struct pool *pool)
{
    struct member *member, *next;
    end_clients_and_jobs(core, pool);
    kshared_forget_all(core, pool);
    RB_FOREACH_SAFE(member, kmember_tree, &pool->members, next)
    {
        if (kmember_knows(member)) {
            kmember_move(member, MEMBER_CLOSING);
            pool->members_closing++;
        } else {
            kmember_destroy(core, member);
        }
    }
    move(core, pool, POOL_CLOSING);
}

int kpool_close(struct coordinator_core *core, struct client *client,
                const struct message *message)
{
    struct pool *pool = client->pool;
    const bool kill = message->pool_close.kill;
    if (client->state != CLIENT_OWNER)
        return klink_drop(core, client->link, FARPOOL_EPROTOCOL,
                          "POOL_CLOSE from a client that did not open the pool");
    if (pool->state == POOL_CLOSING && !kill)
        return 0;
    if (tell_closed(core, pool, kill))
        return FARPOOL_ENOMEM;
    if (pool->state == POOL_RUNNING)
        begin_closing(core, pool);
    return 0;
}

int kpool_closed(struct coordinator_core *core, struct worker *worker,
                 const struct message *message)
{
    const struct pool *pool = kpool_find(core, &message->pool_closed.pool);
    struct member *member = pool ? kmember_find(pool, worker) : NULL;
    if (member && member->state == MEMBER_CLOSING)
        kmember_destroy(core, member);
    return 0;
}

int kpool_flush_closed(struct coordinator_core *core)
{
    struct pool *pool, *next;
    TAILQ_FOREACH_SAFE (pool, &core->closing, entry, next) {
        if (pool->members_closing)
            continue;
        struct message *message = message_create(MSG_POOL_CLOSED);
        if (message)
            message->pool_closed.pool = pool->id;
        if (ksend(core, pool->owner->link, &message))
            return FARPOOL_ENOMEM;
        kpool_destroy(core, pool);
    }
    return 0;
}

/* ------------------------------------------------------- failing on a node */

/* reason: taken over. */
static void fail(struct coordinator_core *core, struct member *member, char *reason)
{
    struct pool *pool = member->pool;
    mem_free(member->reason);
    member->reason = reason;
    kmember_move(member, MEMBER_FAILED);
    kshared_forget_member(core, member);
    kmember_count(core, member);
    kmatch_withdraw(member);
    if (member->worker->reserved == member)
        kworker_unreserve(core, pool);
    if (member->worker->state == WORKER_READY) {
        pool->failed_nodes++;
        pool->failed_slots += member->worker->slots;
    }
    kpool_renode(core, pool);
}

static char *copy_reason(const struct message *message)
{
    const char *text = message->pool_failed.text;
    return mem_strdup(text && text[0] ? text
                                      : farpool_error_text(message->pool_failed.code));
}

/* Told by a worker of an earlier coordinator's time: kept for the client. */
static int fail_expected(struct coordinator_core *core, struct worker *worker,
                         struct pool *pool, struct message **message)
{
    const struct id id = (*message)->pool_failed.pool;
    int error = 0;
    if (!pool && ksettle_expects(core, worker))
        error = kpool_expect(core, &id, &pool);
    if (error == FARPOOL_ENOMEM)
        return error;
    if (!pool)
        return kpool_disown(core, worker, &id);
    struct member *member = kmember_get(pool, worker);
    if (!member)
        return FARPOOL_ENOMEM;
    if (member->state == MEMBER_FAILED)
        return 0;
    char *reason = copy_reason(*message);
    if (!reason)
        return FARPOOL_ENOMEM;
    member->failure = *message;
    *message = NULL;
    fail(core, member, reason);
    return 0;
}

int kpool_failed(struct coordinator_core *core, struct worker *worker,
                 struct message **message)
{
    struct pool *pool = kpool_find(core, &(*message)->pool_failed.pool);
    if (!pool || pool->state == POOL_EXPECTED)
        return fail_expected(core, worker, pool, message);
    struct member *member = kmember_find(pool, worker);
    if (!member || (member->state != MEMBER_OPEN && member->state != MEMBER_HELD))
        return 0;
    const uint64_t nodes = kpool_nodes(core, pool);
    const bool counted = worker->state == WORKER_READY;
    (*message)->pool_failed.nodes_left = (uint32_t)(nodes - counted);
    char *reason = copy_reason(*message);
    const int error =
        reason ? kforward(core, pool->owner->link, message) : FARPOOL_ENOMEM;
    if (error)
        mem_free(reason);
    else
        fail(core, member, reason);
    return error;
}
