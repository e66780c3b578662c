/* SPDX-License-Identifier: Apache-2.0
 *
 * test_net_keys.c: endpoints with keys, over real sockets: who is let in and known by
 * name, and everybody else, who gets no link and delivers nothing. */
#include "net_ends.h"

#include "common/base/error.h"

#include <stdlib.h>
#include <unistd.h>
#include <zmq.h>

#define CLIENT_KEY 0
#define OTHER_KEY 1
#define STRANGER_KEY 2

static struct net_keys server, pairs[3];
static bool listed[3]; /* the first two are let in while they are */
static enum holder_role role_of_client;
static bool everybody; /* a broken check */
static size_t refusals;
static char reason_told[200];

static void make_pair(struct net_keys *keys)
{
    char own[41], secret[41];
    *keys = (struct net_keys){.authorize = NULL};
    assert_int_equal(zmq_curve_keypair(own, secret), 0);
    assert_non_null(zmq_z85_decode(keys->own.bytes, own));
    assert_non_null(zmq_z85_decode(keys->secret, secret));
}

static bool authorize(void *user, const struct hash *key, struct holder *ret_holder)
{
    assert_ptr_equal(user, &server);
    for (int i = 0; i < 3; i++) {
        if (!listed[i] || !hash_equal(key, &pairs[i].own))
            continue;
        *ret_holder = (struct holder){.role = role_of_client, .key = *key};
        snprintf(ret_holder->name, sizeof ret_holder->name, "key%d", i);
        return true;
    }
    return everybody;
}

static void refused(void *user, const struct hash *key, const char *reason)
{
    (void)user;
    (void)key;
    refusals++;
    snprintf(reason_told, sizeof reason_told, "%s", reason);
}

static int set_up(void **state)
{
    (void)state;
    make_pair(&server);
    server.authorize = authorize;
    server.refused = refused;
    server.user = &server;
    for (int i = 0; i < 3; i++) {
        make_pair(&pairs[i]);
        pairs[i].server = server.own;
    }
    listed[CLIENT_KEY] = listed[OTHER_KEY] = true;
    listed[STRANGER_KEY] = everybody = false;
    role_of_client = HOLDER_CLIENT;
    refusals = 0;
    return 0;
}

static int open_keyed(struct end *end, const char *address, char role,
                      const struct net_keys *keys, farpool_error *error)
{
    struct net_config config = {.address = address,
                                .role = role,
                                .queue_bytes_max = 64u << 20,
                                .seed = 1,
                                .redial_first_ms = 10,
                                .redial_max_ms = 40,
                                .keys = keys};
    return role == 'K' ? net_listen(&config, &end->net, error)
                       : net_dial(&config, &end->net, error);
}

static void listen_keyed(const char *address)
{
    farpool_error error;
    if (open_keyed(LISTENER, address, 'K', &server, &error) != 0)
        fail_msg("%s", error.text);
    assert_int_equal(refusals, 0); /* its own test is not told of */
}

static void dial_keyed(struct end *end, const struct net_keys *keys)
{
    farpool_error error;
    if (open_keyed(end, net_address(LISTENER->net), 'C', keys, &error) != 0)
        fail_msg("%s", error.text);
}

static void come_in(struct end *end, const struct net_keys *keys)
{
    const size_t messages = LISTENER->messages;
    dial_keyed(end, keys);
    TURN_UNTIL(end->ups == 1);
    say(end, end->link, MSG_HELLO_CLIENT);
    TURN_UNTIL(LISTENER->messages == messages + 1);
}

static void nobody_came_in(void)
{
    assert_int_equal(LISTENER->ups, 0);
    assert_int_equal(LISTENER->messages, 0);
    assert_int_equal(LISTENER->count, 0);
}

/* ------------------------------------------------------------------- let in */

static struct holder told; /* by the last message */

static void note_holder(void *user, struct net_event *event)
{
    if (event->holder != NULL)
        told = *event->holder;
    take_note(user, event);
}

static void a_listed_key_is_known_by_name(void **state)
{
    (void)state;
    listen_keyed("tcp://127.0.0.1:*");
    dial_keyed(DIALER, &pairs[CLIENT_KEY]);
    TURN_UNTIL(DIALER->ups == 1);
    say(DIALER, DIALER->link, MSG_HELLO_CLIENT);
    net_flush(DIALER->net);
    memset(&told, 0, sizeof told);
    const uint64_t until = now_ms() + WAIT_MS;
    while (LISTENER->messages == 0 && now_ms() < until)
        net_poll(LISTENER->net, now_ms(), note_holder, LISTENER);
    assert_int_equal(LISTENER->messages, 1);
    assert_int_equal(told.role, HOLDER_CLIENT);
    assert_string_equal(told.name, "key0");
    assert_true(hash_equal(&told.key, &pairs[CLIENT_KEY].own));
    struct message *tasks = make_tasks(7, 3u << 20); /* in PARTs, encrypted */
    assert_int_equal(net_send(DIALER->net, DIALER->link, &tasks), 0);
    TURN_UNTIL(LISTENER->messages == 2);
    check_tasks(last_note(LISTENER)->message, 7, 3u << 20);
}

static void ipc_is_checked_too(void **state)
{
    char folder[] = "/tmp/farpool-net-XXXXXX", address[80];
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(address, sizeof address, "ipc://%s/socket", folder);
    listen_keyed(address);
    dial_keyed(SECOND, &pairs[STRANGER_KEY]);
    TURN_UNTIL(refusals > 0);
    nobody_came_in();
    close_end(SECOND);
    come_in(DIALER, &pairs[CLIENT_KEY]);
    close_ends(NULL);
    unlink(address + strlen("ipc://"));
    assert_int_equal(rmdir(folder), 0);
}

/* ------------------------------------------------------------------- kept out */

static const char *refusal_text(const struct end *end)
{
    for (size_t i = 0; i < end->count; i++)
        if (end->notes[i].kind == NET_REFUSED)
            return end->notes[i].text;
    return NULL;
}

static void a_stranger_is_refused_and_told(void **state)
{
    (void)state;
    listen_keyed("tcp://127.0.0.1:*");
    dial_keyed(DIALER, &pairs[STRANGER_KEY]);
    TURN_UNTIL(refusal_text(DIALER) != NULL && refusals >= 3);
    assert_non_null(strstr(refusal_text(DIALER), "does not know this key"));
    assert_non_null(strstr(reason_told, "not in the list"));
    assert_int_equal(DIALER->ups, 0);
    nobody_came_in();
    /* Who is added later comes in, without dialling anew by hand. */
    listed[STRANGER_KEY] = true;
    TURN_UNTIL(DIALER->ups == 1);
}

static void no_key_is_refused_and_told(void **state)
{
    (void)state;
    listen_keyed("tcp://127.0.0.1:*");
    dial_keyed(DIALER, NULL);
    TURN_UNTIL(refusal_text(DIALER) != NULL && refusals >= 3);
    assert_non_null(strstr(refusal_text(DIALER), "wants a key"));
    assert_int_equal(DIALER->ups, 0);
    nobody_came_in();
}

static void another_coordinators_key_is_refused(void **state)
{
    struct net_keys keys = pairs[CLIENT_KEY];
    (void)state;
    listen_keyed("tcp://127.0.0.1:*");
    keys.server = pairs[OTHER_KEY].own;
    dial_keyed(DIALER, &keys);
    TURN_UNTIL(refusals >= 3);
    assert_non_null(strstr(reason_told, "another coordinator's key"));
    assert_int_equal(DIALER->ups, 0);
    nobody_came_in();
}

/* Somebody who has a listed public key, and not its secret. */
static void a_public_key_alone_is_refused(void **state)
{
    struct net_keys keys = pairs[STRANGER_KEY];
    (void)state;
    listen_keyed("tcp://127.0.0.1:*");
    keys.own = pairs[CLIENT_KEY].own;
    dial_keyed(DIALER, &keys);
    TURN_UNTIL(refusals >= 3);
    assert_int_equal(DIALER->ups, 0);
    nobody_came_in();
}

static void plain_is_refused(void **state)
{
    void *context = zmq_ctx_new(), *socket = zmq_socket(context, ZMQ_DEALER);
    int linger = 0;
    (void)state;
    listen_keyed("tcp://127.0.0.1:*");
    zmq_setsockopt(socket, ZMQ_LINGER, &linger, sizeof linger);
    assert_int_equal(zmq_setsockopt(socket, ZMQ_PLAIN_USERNAME, "admin", 5), 0);
    assert_int_equal(zmq_setsockopt(socket, ZMQ_PLAIN_PASSWORD, "admin", 5), 0);
    assert_int_equal(zmq_connect(socket, net_address(LISTENER->net)), 0);
    zmq_send(socket, "hello", 5, ZMQ_DONTWAIT);
    TURN_UNTIL(refusals > 0); /* ZeroMQ does not try it again */
    nobody_came_in();
    zmq_close(socket);
    zmq_ctx_term(context);
}

static void a_key_for_a_listener_without_is_told(void **state)
{
    (void)state;
    open_end(LISTENER, "tcp://127.0.0.1:*", 'K');
    dial_keyed(DIALER, &pairs[CLIENT_KEY]);
    TURN_UNTIL(refusal_text(DIALER) != NULL);
    assert_non_null(strstr(refusal_text(DIALER), "uses none"));
    nobody_came_in();
}

/* ----------------------------------------------------------------- revocation */

static void a_revoked_key_is_cut_off(void **state)
{
    (void)state;
    listen_keyed("tcp://127.0.0.1:*");
    come_in(DIALER, &pairs[CLIENT_KEY]);
    const uint64_t link = LISTENER->link;
    come_in(SECOND, &pairs[OTHER_KEY]);
    net_recheck(LISTENER->net);
    turn(0);
    assert_int_equal(LISTENER->downs, 0);
    listed[CLIENT_KEY] = false;
    net_recheck(LISTENER->net);
    TURN_UNTIL(LISTENER->downs == 1 && DIALER->downs == 1);
    assert_int_equal(last_note(LISTENER)->link, link);
    assert_string_equal(last_note(LISTENER)->text, "its key was revoked");
    TURN_UNTIL(refusal_text(DIALER) != NULL);
    assert_int_equal(LISTENER->ups, 2);
    assert_int_equal(SECOND->downs, 0);
    say(SECOND, SECOND->link, MSG_HEARTBEAT);
    TURN_UNTIL(LISTENER->messages == 3);
}

static void another_role_is_another_link(void **state)
{
    (void)state;
    listen_keyed("tcp://127.0.0.1:*");
    come_in(DIALER, &pairs[CLIENT_KEY]);
    role_of_client = HOLDER_ADMIN;
    net_recheck(LISTENER->net);
    TURN_UNTIL(LISTENER->downs == 1);
}

/* Revoked after its handshake, before its first message. */
static void the_first_message_is_checked_again(void **state)
{
    (void)state;
    listen_keyed("tcp://127.0.0.1:*");
    dial_keyed(DIALER, &pairs[CLIENT_KEY]);
    TURN_UNTIL(DIALER->ups == 1);
    listed[CLIENT_KEY] = false;
    say(DIALER, DIALER->link, MSG_HELLO_CLIENT);
    TURN_UNTIL(refusals > 0 && DIALER->downs == 1);
    nobody_came_in();
}

/* -------------------------------------------------------------------- listening */

static void a_check_that_lets_all_in_is_not_served(void **state)
{
    farpool_error error;
    (void)state;
    everybody = true;
    assert_int_equal(open_keyed(LISTENER, "tcp://127.0.0.1:*", 'K', &server, &error),
                     FARPOOL_EKEY);
    assert_null(LISTENER->net);
    assert_non_null(strstr(error.text, "a key of chance was let in"));
}

static void check_address(const char *address, bool listen, const char *reason)
{
    farpool_error error = {0};
    const int result = net_check_address(address, listen, true, &error);
    assert_int_equal(result, reason == NULL ? 0 : FARPOOL_EADDRESS);
    if (reason != NULL && strstr(error.text, reason) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", error.text, reason);
}

static void addresses_off_loopback_are_taken(void **state)
{
    (void)state;
    check_address("tcp://0.0.0.0:5764", true, NULL);
    check_address("tcp://*:5764", true, NULL);
    check_address("tcp://[::]:5764", true, NULL);
    check_address("tcp://10.0.0.1:*", true, NULL);
    check_address("tcp://10.0.0.1:5764", false, NULL);
    check_address("tcp://[2001:db8::7]:5764", false, NULL);
    check_address("tcp://head-1.cluster:5764", false, NULL);
    check_address("tcp://127.0.0.1:5764", false, NULL);
    check_address("tcp://0.0.0.0:5764", false, "not a host to dial");
    check_address("tcp://[::]:5764", false, "not a host to dial");
    check_address("tcp://*:5764", false, "not a host to dial");
    check_address("tcp://10.0.0.1;10.0.0.2:5764", false, "not a host to dial");
    check_address("tcp://[10.0.0.1]:5764", false, "not a host to dial");
    check_address("tcp://eth0:5764", true, "not an address to listen on");
    check_address("tcp://10.0.0.1:0", false, "not a port");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, close_ends)
    const struct CMUnitTest tests[] = {
        TEST(a_listed_key_is_known_by_name),
        TEST(ipc_is_checked_too),
        TEST(a_stranger_is_refused_and_told),
        TEST(no_key_is_refused_and_told),
        TEST(another_coordinators_key_is_refused),
        TEST(a_public_key_alone_is_refused),
        TEST(plain_is_refused),
        TEST(a_key_for_a_listener_without_is_told),
        TEST(a_revoked_key_is_cut_off),
        TEST(another_role_is_another_link),
        TEST(the_first_message_is_checked_again),
        TEST(a_check_that_lets_all_in_is_not_served),
        TEST(addresses_off_loopback_are_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
