/* SPDX-License-Identifier: Apache-2.0
 *
 * test_net_lanes.c: a worker that listens: who may say what to it first, two dialers that
 * share ZeroMQ's threads, and where a dialer stands. */
#include "net_ends.h"

static void listen_as_worker(void)
{
    const struct net_config config = {
        .address = "tcp://127.0.0.1:*", .role = 'W', .queue_bytes_max = 1u << 20};
    farpool_error error;
    assert_int_equal(net_listen(&config, &LISTENER->net, &error), 0);
}

static void dial_worker(struct end *end, char role, struct net *beside)
{
    const struct net_config config = {.address = net_address(LISTENER->net),
                                      .role = role,
                                      .peer = 'W',
                                      .beside = beside,
                                      .queue_bytes_max = 1u << 20,
                                      .redial_first_ms = 10,
                                      .redial_max_ms = 40};
    farpool_error error;
    assert_int_equal(net_dial(&config, &end->net, &error), 0);
    TURN_UNTIL(end->ups == 1);
}

static void say_hello(struct end *end, bool worker)
{
    const size_t messages = LISTENER->messages;
    struct message *hello = message_create(MSG_HELLO_LANE);
    hello->hello_lane.worker = worker;
    assert_int_equal(net_send(end->net, end->link, &hello), 0);
    TURN_UNTIL(LISTENER->messages == messages + 1);
}

static void clients_and_workers_are_heard(void **state)
{
    (void)state;
    listen_as_worker();
    dial_worker(DIALER, 'C', NULL);
    say_hello(DIALER, false);
    const uint64_t client = LISTENER->link;
    dial_worker(SECOND, 'W', DIALER->net); /* closed first: see net.h */
    say_hello(SECOND, true);
    say(LISTENER, client, MSG_WELCOME_LANE);
    say(LISTENER, LISTENER->link, MSG_WELCOME_LANE);
    TURN_UNTIL(DIALER->messages == 1 && SECOND->messages == 1);
    say(DIALER, DIALER->link, MSG_HEARTBEAT);
    TURN_UNTIL(LISTENER->messages == 3);
    close_end(SECOND);
    TURN_UNTIL(LISTENER->downs == 1);
    say(DIALER, DIALER->link, MSG_HEARTBEAT); /* and is not concerned */
    TURN_UNTIL(LISTENER->messages == 4);
}

static void broken_by(enum message_kind first, enum message_kind then, const char *why)
{
    listen_as_worker();
    dial_worker(DIALER, 'C', NULL);
    if (then != MESSAGE_NONE)
        say_hello(DIALER, false);
    say(DIALER, DIALER->link, then != MESSAGE_NONE ? then : first);
    TURN_UNTIL(LISTENER->downs == 1);
    assert_non_null(strstr(last_note(LISTENER)->text, why));
    close_ends(NULL);
}

static void others_are_not(void **state)
{
    (void)state;
    broken_by(MSG_HELLO_CLIENT, MESSAGE_NONE, "HELLO_CLIENT before a hello");
    broken_by(MSG_HELLO_WORKER, MESSAGE_NONE, "HELLO_WORKER before a hello");
    broken_by(MSG_ENROL, MESSAGE_NONE, "ENROL before a hello");
    broken_by(MSG_HELLO_LANE, MSG_POOL_OPEN, "POOL_OPEN is not for this peer");
    broken_by(MSG_HELLO_LANE, MSG_WELCOME, "WELCOME is not for this peer");
}

/* A coordinator is no worker. */
static void hello_lane_is_for_workers(void **state)
{
    (void)state;
    open_end(LISTENER, "tcp://127.0.0.1:*", 'K');
    open_end(DIALER, net_address(LISTENER->net), 'C');
    TURN_UNTIL(DIALER->ups == 1);
    say(DIALER, DIALER->link, MSG_HELLO_LANE);
    TURN_UNTIL(LISTENER->downs == 1);
    assert_non_null(strstr(last_note(LISTENER)->text, "HELLO_LANE before a hello"));
}

static void a_dialer_knows_where_it_stands(void **state)
{
    (void)state;
    listen_as_worker();
    dial_worker(DIALER, 'C', NULL);
    assert_string_equal(net_local_host(DIALER->net), "tcp://127.0.0.1");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, close_ends)
    const struct CMUnitTest tests[] = {
        TEST(clients_and_workers_are_heard),
        TEST(others_are_not),
        TEST(hello_lane_is_for_workers),
        TEST(a_dialer_knows_where_it_stands),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
