/* SPDX-License-Identifier: Apache-2.0
 *
 * test_net_strangers.c: peers that break rules or are no peers at all lose their own
 * link, if they get one, and no other; descriptors that are used again. */
#include "net_ends.h"

#include "common/base/error.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zmq.h>

static int port_of(const struct end *end)
{
    return atoi(strrchr(net_address(end->net), ':') + 1);
}

/* ------------------------------------------------------------- broken rules */

static void check_broken(size_t ups, const char *reason)
{
    TURN_UNTIL(LISTENER->downs == 1);
    assert_int_equal(LISTENER->ups, ups);
    if (strstr(last_note(LISTENER)->text, reason) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", last_note(LISTENER)->text, reason);
}

/* The healthy one that stays through it all. */
static void join_witness(void)
{
    join(SECOND, 'W');
}

static void check_witness(void)
{
    size_t messages = LISTENER->messages;
    say(SECOND, SECOND->link, MSG_HEARTBEAT);
    TURN_UNTIL(LISTENER->messages == messages + 1);
    assert_int_equal(SECOND->downs, 0);
}

static void a_first_message_must_be_a_hello(void **state)
{
    (void)state;
    join_witness();
    open_end(DIALER, net_address(LISTENER->net), 'C');
    TURN_UNTIL(DIALER->ups == 1);
    say(DIALER, DIALER->link, MSG_HEARTBEAT);
    check_broken(2, "HEARTBEAT before a hello");
    TURN_UNTIL(DIALER->downs == 1); /* its connection was cut */
    check_witness();
}

static void a_client_may_not_say_what_workers_say(void **state)
{
    (void)state;
    join_witness();
    join(DIALER, 'C');
    say(DIALER, DIALER->link, MSG_DRAIN);
    check_broken(2, "DRAIN is not for this peer");
    TURN_UNTIL(DIALER->downs == 1);
    check_witness();
}

/* Whoever enrols has said all that a join token is good for. */
static void who_enrols_says_nothing_more(void **state)
{
    static const enum message_kind kinds[] = {MSG_ENROL, MSG_HELLO_WORKER, MSG_RELAY,
                                              MSG_PART, MSG_HEARTBEAT};
    (void)state;
    join_witness();
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        const size_t messages = LISTENER->messages, downs = LISTENER->downs;
        open_end(DIALER, net_address(LISTENER->net), 'W');
        TURN_UNTIL(DIALER->ups == 1);
        say(DIALER, DIALER->link, MSG_ENROL);
        TURN_UNTIL(LISTENER->messages == messages + 1);
        struct message *more = message_create(kinds[i]);
        if (kinds[i] == MSG_RELAY)
            more->relay.header = payload_copy("x", 1);
        assert_int_equal(net_send(DIALER->net, DIALER->link, &more), 0);
        TURN_UNTIL(LISTENER->downs == downs + 1);
        assert_int_equal(LISTENER->messages, messages + 1);
        check_witness();
        close_end(DIALER);
    }
}

static void a_coordinator_may_not_relay_to_a_client(void **state)
{
    (void)state;
    join(DIALER, 'C');
    struct message *relay = message_create(MSG_RELAY);
    relay->relay.header = payload_copy("x", 1);
    assert_int_equal(net_send(LISTENER->net, LISTENER->link, &relay), 0);
    TURN_UNTIL(DIALER->downs == 1);
    assert_non_null(strstr(last_note(DIALER)->text, "RELAY is not for this peer"));
}

/* ------------------------------------------------------------- no peers at all */

struct raw {
    void *context, *socket;
};

static struct raw raw_open(void)
{
    struct raw raw = {zmq_ctx_new(), NULL};
    int linger = 0;
    raw.socket = zmq_socket(raw.context, ZMQ_DEALER);
    zmq_setsockopt(raw.socket, ZMQ_LINGER, &linger, sizeof linger);
    assert_int_equal(zmq_connect(raw.socket, net_address(LISTENER->net)), 0);
    return raw;
}

static void raw_close(struct raw *raw)
{
    zmq_close(raw->socket);
    zmq_ctx_term(raw->context);
}

static void raw_send(struct raw *raw, const void *data, size_t size, int more)
{
    assert_int_equal(zmq_send(raw->socket, data, size, more ? ZMQ_SNDMORE : 0),
                     (int)size);
}

static void check_raw(const void *data, size_t size, int frames, const char *reason)
{
    forget_notes(LISTENER);
    struct raw raw = raw_open();
    for (int i = 0; i < frames; i++)
        raw_send(&raw, i == 0 ? data : "", i == 0 ? size : 0, i + 1 < frames);
    check_broken(1, reason);
    raw_close(&raw);
}

static void garbage_from_zeromq_peers_breaks_their_link_only(void **state)
{
    (void)state;
    static const uint8_t none[] = {'F', 'P', 1, 0, 0, 0, 0, 0};
    static const uint8_t many[] = {'F', 'P', 1, 0, 255, 255, 255, 255};
    static const uint8_t version[] = {'F', 'P', 2, 0, 1, 0, 0, 0};
    static const uint8_t sized[] = {'F', 'P', 1, 0, 1, 0, 0, 0, 9,
                                    0,   0,   0, 0, 0, 0, 0, 1};
    static const uint8_t bodies[] = {'F', 'P', 1, 0, 1, 0, 0, 0, 1,
                                     0,   0,   0, 9, 0, 0, 0, 1};
    static const uint8_t rest[] = {'F', 'P', 1, 0, 1, 0, 0, 0, 1,
                                   0,   0,   0, 0, 0, 0, 0, 1, 2};
    static const uint8_t header[] = {'F', 'P', 1, 0, 1, 0, 0, 0,   1,
                                     0,   0,   0, 0, 0, 0, 0, 0xc1};
    join_witness();
    check_raw("", 0, 1, "not a Farpool message");
    check_raw("hello, world", 12, 1, "not a Farpool message");
    check_raw("hello, world", 12, 5, "not a Farpool message");
    check_raw(none, sizeof none, 1, "bad number of messages");
    check_raw(many, sizeof many, 1, "bad number of messages");
    check_raw(version, sizeof version, 1, "another version");
    check_raw(sized, sizeof sized, 1, "bad sizes");
    check_raw(bodies, sizeof bodies, 1, "bodies missing");
    check_raw(rest, sizeof rest, 1, "bad sizes");
    check_raw(rest, sizeof rest - 1, 2, "too many bodies");
    check_raw(header, sizeof header, 1, "bad message");
    check_raw("x", 1, 1500, "too many frames");
    forget_notes(LISTENER);
    check_witness();
}

static void random_bytes_break_nothing(void **state)
{
    (void)state;
    uint64_t seed = 7;
    join_witness();
    for (int i = 0; i < 60; i++) {
        uint8_t bytes[200] = {'F', 'P', 1, 0, 1, 0, 0, 0};
        size_t size = 8 + (size_t)rng_below(&seed, sizeof bytes - 8);
        for (size_t n = 8; n < size; n++)
            bytes[n] = (uint8_t)rng_below(&seed, i % 2 ? 256 : 4);
        forget_notes(LISTENER);
        struct raw raw = raw_open();
        raw_send(&raw, bytes, size, 0);
        TURN_UNTIL(LISTENER->downs == 1);
        raw_close(&raw);
    }
    forget_notes(LISTENER);
    check_witness();
}

static void an_oversize_frame_ends_the_connection(void **state)
{
    (void)state;
    static uint8_t large[3 * 1048576];
    join_witness();
    struct raw raw = raw_open();
    raw_send(&raw, large, sizeof large, 0);
    for (int i = 0; i < 10; i++)
        turn(20);
    assert_int_equal(LISTENER->ups, 1); /* ZeroMQ itself did not let it through */
    raw_close(&raw);
    check_witness();
}

static int raw_tcp(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port_of(LISTENER)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void raw_tcp_peers_are_no_links(void **state)
{
    (void)state;
    static const char *const texts[] = {"GET / HTTP/1.0\r\n\r\n",
                                        "\xff\0\0\0\0\0\0\0\x01\x7f", "\x01\x02\x03", ""};
    join_witness();
    for (int i = 0; i < 40; i++) {
        int fd = raw_tcp();
        const char *text = texts[i % 4];
        (void)!send(fd, text, i % 4 == 1 ? 10 : strlen(text), MSG_NOSIGNAL);
        turn(i % 3 == 0 ? 5 : 0);
        close(fd);
    }
    check_witness();
    assert_int_equal(LISTENER->ups, 1);
    assert_int_equal(LISTENER->downs, 0);
}

/* Finishes ZeroMQ's handshake, without ZeroMQ, which would dial again. */
static int raw_handshake(void)
{
    uint8_t greeting[64] = {0xff, [9] = 0x7f, 3, 0, 'N', 'U', 'L', 'L'};
    static const char ready[] = "\x04\x1c\x05READY\x0bSocket-Type\0\0\0\x06"
                                "DEALER";
    int fd = raw_tcp();
    assert_int_equal(send(fd, greeting, sizeof greeting, MSG_NOSIGNAL), sizeof greeting);
    assert_int_equal(send(fd, ready, sizeof ready - 1, MSG_NOSIGNAL), sizeof ready - 1);
    return fd;
}

/* How many are over; *bytes grows by what the last one was told. */
static int ended(const int *fds, int count, ssize_t *bytes)
{
    int over = 0;
    for (int i = 0; i < count; i++) {
        uint8_t text[256];
        ssize_t size = recv(fds[i], text, sizeof text, MSG_DONTWAIT);
        *bytes += i == count - 1 && size > 0 ? size : 0;
        over += size == 0 || (size < 0 && errno == ECONNRESET);
    }
    return over;
}

/* Whoever finishes ZeroMQ's handshake and then says nothing holds a descriptor and
 * memory, and is closed after some looks, a second apart; a long time alone is no reason.
 * Who has said hello may be silent as long as its core bears it. */
static void who_never_says_hello_is_closed(void **state)
{
    enum { MUTE = 20, LOOKS = 20 };
    int fds[MUTE];
    ssize_t bytes = 0;
    (void)state;
    join_witness();
    for (int i = 0; i < MUTE; i++)
        fds[i] = raw_handshake();
    TURN_UNTIL(ended(fds, MUTE, &bytes) == 0 && bytes > 64 + 28); /* greeting, READY */
    for (int i = 0; i < LOOKS - 1; i++) {
        ahead_ms += i == 0 ? 100000 : 1000;
        turn(1);
    }
    assert_int_equal(ended(fds, MUTE, &bytes), 0);
    for (int i = 0; i < 3; i++) {
        ahead_ms += 1000;
        turn(1);
    }
    TURN_UNTIL(ended(fds, MUTE, &bytes) == MUTE);
    assert_int_equal(LISTENER->downs, 0);
    for (int i = 0; i < MUTE; i++)
        close(fds[i]);
    TURN_UNTIL(net_deadline(LISTENER->net) == UINT64_MAX); /* it looks for nobody more */
    check_witness();
}

/* Connections that come and go without a word in between, so that the listener's
 * descriptors are the same numbers again and again: each link's end is told, and none
 * twice, and nobody else's. */
static void descriptors_are_used_again(void **state)
{
    (void)state;
    join_witness();
    for (int i = 0; i < 40; i++) {
        int fds[3];
        for (int n = 0; n < 3; n++)
            fds[n] = raw_tcp();
        for (int n = 0; n < 3; n++)
            close(fds[n]);
        size_t downs = LISTENER->downs;
        join(DIALER, 'C');
        uint64_t link = LISTENER->link;
        assert_int_equal(LISTENER->downs, downs); /* no stale end hit the new peer */
        say(LISTENER, link, MSG_HEARTBEAT);
        TURN_UNTIL(DIALER->messages == 1);
        close_end(DIALER);
        TURN_UNTIL(LISTENER->downs == downs + 1);
        assert_int_equal(last_note(LISTENER)->link, link);
    }
    check_witness();
}

static void a_dialer_that_gets_garbage_dials_again(void **state)
{
    (void)state;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(fd, 10), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    char text[64];
    snprintf(text, sizeof text, "tcp://127.0.0.1:%d", ntohs(address.sin_port));
    open_end(DIALER, text, 'C');
    for (int i = 0; i < 3; i++) { /* three dials, each answered by what is no ZeroMQ */
        int peer;
        TURN_UNTIL((peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC)) >= 0);
        assert_true(send(peer, "SSH-2.0-nobody\r\n", 16, MSG_NOSIGNAL) == 16);
        turn(5);
        close(peer);
    }
    assert_int_equal(DIALER->count, 0);
    close(fd);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, close_ends)
    const struct CMUnitTest tests[] = {
        TEST(a_first_message_must_be_a_hello),
        TEST(a_client_may_not_say_what_workers_say),
        TEST(who_enrols_says_nothing_more),
        TEST(a_coordinator_may_not_relay_to_a_client),
        TEST(garbage_from_zeromq_peers_breaks_their_link_only),
        TEST(random_bytes_break_nothing),
        TEST(an_oversize_frame_ends_the_connection),
        TEST(raw_tcp_peers_are_no_links),
        TEST(who_never_says_hello_is_closed),
        TEST(descriptors_are_used_again),
        TEST(a_dialer_that_gets_garbage_dials_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
