/* SPDX-License-Identifier: Apache-2.0
 *
 * lane_script.h: a client that dials and a worker that lets it in, and their lane, for
 * test_coordinator_lane.c and test_coordinator_account.c. */
#ifndef FARPOOL_TESTS_LANE_SCRIPT_H
#define FARPOOL_TESTS_LANE_SCRIPT_H

#include "tests/unit/coordinator_script.h"

static inline struct message *host(const struct script *script, uint8_t id)
{
    struct message *hello = hello_worker(script, id, 2);
    snprintf(hello->hello_worker.lanes, sizeof hello->hello_worker.lanes,
             "tcp://10.0.0.%d:41000", id);
    return hello;
}

static inline struct message *dialer(uint8_t id)
{
    struct message *hello = hello_client(id);
    hello->hello_client.lanes = true;
    return hello;
}

static inline struct message *expected(const struct id *ticket)
{
    struct message *message = message_create(MSG_EXPECTED);
    message->expected.ticket = *ticket;
    return message;
}

static inline struct message *lane(const struct id *ticket, bool up)
{
    struct message *message = message_create(MSG_LANE);
    message->lane.ticket = *ticket;
    message->lane.up = up;
    snprintf(message->lane.text, sizeof message->lane.text, "%s", up ? "" : "it broke");
    return message;
}

static inline uint64_t join_host(struct script *script, uint8_t key, uint8_t id)
{
    return join_as(script, HOLDER_WORKER, key, host(script, id));
}

/* A pool that is told to every worker at once, of a client that dials. */
static inline uint64_t join_dialer(struct script *script, uint8_t key, uint8_t id)
{
    const uint64_t link = join_as(script, HOLDER_CLIENT, key, dialer(id));
    struct message *open = keyed_open(key, id);
    open->pool_open.processes = 8;
    script_say_last(script, link, open);
    return link;
}

/* The worker was told of the pool and then of the dialer, and lets it in. */
static inline struct id expect(struct script *script, uint64_t worker)
{
    script_take(script, worker, MSG_POOL_OPEN);
    const struct id ticket = script_take(script, worker, MSG_INTRODUCE)->introduce.ticket;
    script_say_last(script, worker, expected(&ticket));
    return ticket;
}

static inline struct id bring_up(struct script *script, uint64_t worker, uint64_t client)
{
    const struct id ticket = expect(script, worker);
    script_take(script, client, MSG_INTRODUCED);
    script_say_last(script, client, lane(&ticket, true));
    const struct message *grant = script_take(script, client, MSG_GRANT);
    assert_true(id_equal(&grant->grant.ticket, &ticket));
    assert_int_equal(grant->grant.slots, 2);
    assert_int_equal(grant->grant.busy, 0);
    assert_int_equal(grant->grant.tasks, script->worker_tasks / 4);
    script_quiet(script);
    return ticket;
}

static inline void withdrawn(struct script *script, uint64_t link,
                             const struct id *ticket, const char *why)
{
    const struct message *message = script_take(script, link, MSG_WITHDRAW);
    assert_true(id_equal(&message->withdraw.ticket, ticket));
    assert_string_equal(message->withdraw.text, why);
}

#endif
