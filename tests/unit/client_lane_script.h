/* SPDX-License-Identifier: Apache-2.0
 *
 * client_lane_script.h: what tests of a client with lanes say and hear on them. Lane 1 is
 * to the worker of node n3, 2 to that of n4, and so on. */
#ifndef FARPOOL_TESTS_CLIENT_LANE_SCRIPT_H
#define FARPOOL_TESTS_CLIENT_LANE_SCRIPT_H

#define SCRIPT_LANES true
#include "tests/unit/client_script.h"

static inline struct id lane_ticket(uint8_t lane)
{
    return script_id((uint8_t)(0x7d + lane));
}

static inline struct id lane_worker(uint8_t lane)
{
    return script_id((uint8_t)(2 + lane));
}

static inline struct message *lane_introduced(uint8_t lane)
{
    struct message *message = script_make(MSG_INTRODUCED);
    message->introduced.ticket = lane_ticket(lane);
    message->introduced.pool = SCRIPT_POOL;
    message->introduced.worker = lane_worker(lane);
    message->introduced.key.bytes[0] = 0x4b;
    message->introduced.wait_ms = 900;
    snprintf(message->introduced.node, sizeof message->introduced.node, "n%d", 2 + lane);
    snprintf(message->introduced.address, sizeof message->introduced.address,
             "tcp://10.0.0.%d:41000", 2 + lane);
    return message;
}

static inline struct message *lane_grant(uint8_t lane, uint32_t slots)
{
    struct message *message = script_make(MSG_GRANT);
    message->grant.ticket = lane_ticket(lane);
    message->grant.slots = slots;
    message->grant.tasks = 1 << 16;
    message->grant.bytes = 1 << 20;
    return message;
}

static inline void lane_hear(struct script *script, uint8_t lane, struct message *message)
{
    script_event(script, (struct client_event){
                             .kind = CLIENT_MESSAGE, .message = message, .lane = lane});
}

static inline struct message *lane_welcome(uint8_t lane)
{
    struct message *message = script_make(MSG_WELCOME_LANE);
    message->welcome_lane.worker = lane_worker(lane);
    message->welcome_lane.heartbeat_ms = 1000;
    message->welcome_lane.silence_ms = 5000;
    return message;
}

static inline void lane_dialled(struct script *script, uint8_t lane)
{
    char address[64];
    script_message(script, lane_introduced(lane));
    const struct client_effect *dial = script_take(script, CLIENT_DIAL);
    snprintf(address, sizeof address, "tcp://10.0.0.%d:41000", 2 + lane);
    assert_int_equal(dial->lane, lane);
    assert_string_equal(dial->text, address);
    assert_int_equal(dial->content.bytes[0], 0x4b);
}

/* The worker was dialled, and HELLO_LANE said to it. */
static inline void lane_greeted(struct script *script, uint8_t lane)
{
    lane_dialled(script, lane);
    script_event(script, (struct client_event){.kind = CLIENT_LINK_UP, .lane = lane});
    const struct id said = lane_ticket(lane);
    assert_int_equal(script_peek(script)->lane, lane);
    assert_true(id_equal(&script_sent(script, MSG_HELLO_LANE)->hello_lane.ticket, &said));
}

static inline void lane_bring_up(struct script *script, uint8_t lane, uint32_t slots)
{
    lane_greeted(script, lane);
    lane_hear(script, lane, lane_welcome(lane));
    assert_int_equal(script_peek(script)->lane, 0);
    assert_true(script_sent(script, MSG_LANE)->lane.up);
    script_message(script, lane_grant(lane, slots));
    script_flush(script);
    script_quiet(script);
}

/* The next message goes there, and is of that kind; 0: to the coordinator. */
static inline const struct message *sent_on(struct script *script, uint64_t lane,
                                            enum message_kind kind)
{
    assert_non_null(script_peek(script));
    assert_int_equal(script_peek(script)->lane, lane);
    return script_sent(script, kind);
}

static inline void sent_tasks(struct script *script, uint64_t lane, uint64_t first,
                              uint32_t count, uint32_t attempt)
{
    const struct message *message = sent_on(script, lane, MSG_TASKS);
    assert_int_equal(message->tasks.spans_count, 1);
    assert_int_equal(message->tasks.spans[0].first, first);
    assert_int_equal(message->tasks.spans[0].count, count);
    assert_int_equal(message->tasks.spans[0].attempt, attempt);
}

static inline uint64_t fill(struct script *script, uint32_t count)
{
    const uint64_t job = script_job(script);
    script_input(script, job, 0, count, 4);
    script_flush(script);
    return job;
}

#endif
