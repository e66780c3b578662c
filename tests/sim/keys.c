/* SPDX-License-Identifier: Apache-2.0
 *
 * keys.c: whose key each link has, in the seeds that have keys, and somebody with a key
 * of its own that names the pool of another: it must be refused, whether the coordinator
 * knows that pool (any more) or not, and the pool's client must notice nothing. */
#include "sim.h"

#include <stdio.h>
#include <string.h>

static struct hash make_key(enum holder_role role, int place)
{
    return (struct hash){.bytes = {(uint8_t)role, (uint8_t)(place + 1)}};
}

static struct holder make_holder(enum holder_role role, int place)
{
    struct holder holder = {.role = role, .key = make_key(role, place)};

    snprintf(holder.name, sizeof holder.name, "%c%d", role, place);
    return holder;
}

struct holder sim_keys_holder(const struct sim *sim, const struct link *link)
{
    if (!sim->plan.keys)
        return (struct holder){.role = HOLDER_NONE};
    if (link->worker)
        return make_holder(HOLDER_WORKER, link->place);
    const int owner = sim_detached_key(sim, link->place);
    if (owner >= 0)
        return make_holder(HOLDER_CLIENT, owner);
    if (link->place == OPERATOR_PLACE)
        return make_holder(HOLDER_ADMIN, 0);
    if (link->place == SQUATTER_PLACE && sim->options.broken == BREAK_LEND_KEY)
        return make_holder(HOLDER_CLIENT, sim->lender);
    if (link->place == SQUATTER_PLACE || link->place < APPS_TOP)
        return make_holder(HOLDER_CLIENT, link->place);
    return make_holder(HOLDER_RELAYED, sim->apps[link->place].node);
}

/* Not one that nobody can find a second seed for, but nobody here tries. */
void sim_keys_pool_id(const struct hash *key, const struct id *seed, struct id *ret_pool)
{
    uint64_t state = 0;

    for (size_t i = 0; i < sizeof key->bytes; i++)
        state = state * 31 + key->bytes[i];
    *ret_pool = *seed;
    for (size_t i = 0; i < sizeof ret_pool->bytes; i++)
        ret_pool->bytes[i] ^= (uint8_t)rng_next(&state);
}

void sim_keys_pool_id_of_number(const struct hash *secret, uint64_t number,
                                struct id *ret_ticket)
{
    struct id seed = {.bytes = {0}};

    memcpy(seed.bytes, &number, sizeof number);
    seed.bytes[15] = 7;
    sim_keys_pool_id(secret, &seed, ret_ticket);
}

void sim_keys_name_pool(struct sim *sim, struct app *app)
{
    const struct hash key = make_key(HOLDER_CLIENT, sim_app_place(sim, app));

    app->open->pool_open.seed = sim_id(sim);
    sim_keys_pool_id(&key, &app->open->pool_open.seed, &app->config.pool);
    app->open->pool_open.pool = app->config.pool;
}

/* Says all that its client or a task in it would say, and stays. */
void sim_keys_squat(struct sim *sim, const struct app *app)
{
    struct message *hello, *word;

    if (!sim->plan.keys || !sim->coordinator.actor.alive || !app->open)
        return;
    const uint64_t link = sim_link_outsider(sim, SQUATTER_PLACE);
    sim->lender = sim_app_place(sim, app);
    hello = message_create(MSG_HELLO_CLIENT);
    hello->hello_client.protocol = PROTOCOL_VERSION;
    hello->hello_client.client = sim_id(sim);
    sim_coordinator_push(sim, link, hello);
    if (sim_chance(sim, 3)) {
        word = message_create(MSG_POOL_ATTACH);
        word->pool_attach.pool = app->config.pool;
    } else {
        word = message_copy(app->open);
    }
    sim_coordinator_push(sim, link, word);
    word = message_create(MSG_POOL_CLOSE);
    word->pool_close.pool = app->config.pool;
    word->pool_close.kill = true;
    sim_coordinator_push(sim, link, word);
}

void sim_keys_check_squatter(struct sim *sim, const struct message *message)
{
    const int code = message->kind == MSG_REFUSED ? message->refused.code : 0;

    if (message->kind == MSG_WELCOME || message->kind == MSG_HEARTBEAT ||
        code == FARPOOL_EKEY || code == FARPOOL_ENOPOOL)
        return;
    sim_fail(sim, "somebody with another key is told %s of a pool",
             message_name(message->kind));
}
