/* SPDX-License-Identifier: Apache-2.0
 *
 * What goes wrong on links of common/net: peers that go, come back, break rules or are no
 * peers at all; addresses that are refused; descriptors that are used again. */
#include "net_ends.h"

#include "common/base/error.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static int port_of(const struct end *end)
{
    return atoi(strrchr(net_address(end->net), ':') + 1);
}

/* ------------------------------------------------------------- peers that go */

static void a_closing_dialer_is_noticed_at_once(void **state)
{
    (void)state;
    join(DIALER, 'C');
    uint64_t link = LISTENER->link, began = now_ms();
    close_end(DIALER);
    TURN_UNTIL(LISTENER->downs == 1);
    assert_int_equal(last_note(LISTENER)->link, link);
    assert_true(now_ms() - began < 2000);
    struct message *message = message_create(MSG_HEARTBEAT);
    assert_int_equal(net_send(LISTENER->net, link, &message), FARPOOL_ECLOSED);
}

/* In a process of its own, so that it can be killed. */
static void be_a_client(const char *address)
{
    struct net_config config = {
        .address = address, .role = 'C', .queue_bytes_max = 1u << 20, .seed = 2};
    memset(ends, 0, sizeof ends);
    if (net_dial(&config, &DIALER->net, NULL) != 0)
        _exit(1);
    bool said = false;
    for (uint64_t limit = now_ms() + WAIT_MS; now_ms() < limit;) {
        turn(100);
        if (said || DIALER->ups == 0)
            continue;
        struct message *hello = message_create(MSG_HELLO_CLIENT);
        net_send(DIALER->net, DIALER->link, &hello);
        said = true;
    }
    _exit(0);
}

static void a_killed_peer_is_noticed_at_once(void **state)
{
    (void)state;
    open_end(LISTENER, "tcp://127.0.0.1:*", 'K');
    char address[192];
    snprintf(address, sizeof address, "%s", net_address(LISTENER->net));
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        be_a_client(address); /* never touches the parent's sockets */
    TURN_UNTIL(LISTENER->messages == 1);
    uint64_t began = now_ms();
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    TURN_UNTIL(LISTENER->downs == 1);
    assert_true(now_ms() - began < 2000);
}

static void a_dialer_comes_back_when_the_listener_does(void **state)
{
    (void)state;
    join(DIALER, 'W');
    uint64_t first = DIALER->link;
    char address[192];
    snprintf(address, sizeof address, "%s", net_address(LISTENER->net));
    close_end(LISTENER);
    TURN_UNTIL(DIALER->downs == 1);
    assert_int_equal(last_note(DIALER)->link, first);
    for (int i = 0; i < 20; i++)
        turn(10); /* a few dials that nobody answers */
    assert_int_equal(DIALER->ups, 1);
    open_end(LISTENER, address, 'K');
    TURN_UNTIL(DIALER->ups == 2);
    assert_true(DIALER->link > first);
    say(DIALER, DIALER->link, MSG_HELLO_WORKER);
    TURN_UNTIL(LISTENER->messages == 1);
}

static void a_dialer_waits_for_a_listener(void **state)
{
    (void)state;
    open_end(LISTENER, "tcp://127.0.0.1:*", 'K');
    char address[192];
    snprintf(address, sizeof address, "%s", net_address(LISTENER->net));
    close_end(LISTENER);
    open_end(DIALER, address, 'C');
    for (int i = 0; i < 20; i++)
        turn(10);
    assert_int_equal(DIALER->count, 0);
    open_end(LISTENER, address, 'K');
    TURN_UNTIL(DIALER->ups == 1);
}

/* What was said before dropping arrives, and the dropped one dials again. */
static void a_dropped_dialer_hears_why(void **state)
{
    (void)state;
    join(DIALER, 'C');
    uint64_t link = LISTENER->link;
    say(LISTENER, link, MSG_REFUSED);
    net_drop(LISTENER->net, link, "refused");
    TURN_UNTIL(DIALER->downs == 1);
    assert_int_equal(DIALER->messages, 1);
    assert_int_equal(DIALER->notes[1].message->kind, MSG_REFUSED);
    TURN_UNTIL(DIALER->ups == 2);
    assert_int_equal(LISTENER->downs, 0); /* net_drop is not told of */
}

static void a_dialer_drops_and_dials_again(void **state)
{
    (void)state;
    join(DIALER, 'C');
    uint64_t first = DIALER->link;
    say(DIALER, first, MSG_BYE);
    net_drop(DIALER->net, first, "again");
    TURN_UNTIL(DIALER->ups == 2 && LISTENER->downs == 1);
    assert_int_equal(LISTENER->messages, 2);
    assert_int_equal(DIALER->downs, 0);
    assert_true(DIALER->link > first);
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

/* Said hello and gone before the listener looks: both are told, in order. */
static void a_peer_that_is_gone_before_it_is_read(void **state)
{
    (void)state;
    open_end(LISTENER, "tcp://127.0.0.1:*", 'K');
    for (int i = 0; i < 20; i++) {
        forget_notes(LISTENER);
        struct net_config config = {.address = net_address(LISTENER->net),
                                    .role = 'C',
                                    .queue_bytes_max = 1u << 20,
                                    .seed = 3};
        assert_int_equal(net_dial(&config, &DIALER->net, NULL), 0);
        while (DIALER->ups == 0) /* the listener's I/O thread alone does the handshake */
            net_poll(DIALER->net, now_ms(), take_note, DIALER);
        say(DIALER, DIALER->link, MSG_HELLO_CLIENT);
        say(DIALER, DIALER->link, MSG_BYE);
        net_close(DIALER->net, 1000);
        DIALER->net = NULL;
        forget_notes(DIALER);
        TURN_UNTIL(LISTENER->downs == 1);
        assert_int_equal(LISTENER->count, 4);
        assert_int_equal(LISTENER->notes[0].kind, NET_UP);
        assert_int_equal(LISTENER->notes[1].message->kind, MSG_HELLO_CLIENT);
        assert_int_equal(LISTENER->notes[2].message->kind, MSG_BYE);
        assert_int_equal(LISTENER->notes[3].kind, NET_DOWN);
    }
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

/* Whichever allocation fails, of either side: the message arrives, or the link ends and
 * the dialer comes back. */
static void out_of_memory_anywhere(void **state)
{
    (void)state;
    enum { LIMIT = 120 };
    join(DIALER, 'C');
    size_t ended = 0;
    for (size_t n = 1; n < LIMIT; n++) {
        struct message *small = make_tasks(1, 100), *large = make_tasks(2, 1300000);
        forget_notes(LISTENER);
        forget_notes(DIALER);
        mem_fail_after(n);
        int result = net_send(DIALER->net, DIALER->link, &small);
        if (result == 0)
            result = net_send(DIALER->net, DIALER->link, &large);
        message_free(&large);
        TURN_UNTIL(LISTENER->messages == 2 || LISTENER->downs + DIALER->downs > 0);
        mem_fail_after(0);
        if (LISTENER->messages == 2) {
            check_tasks(LISTENER->notes[1].message, 2, 1300000);
            continue;
        }
        ended++;
        TURN_UNTIL(DIALER->ups == 1 && LISTENER->downs == 1);
        say(DIALER, DIALER->link, MSG_HELLO_CLIENT);
        TURN_UNTIL(LISTENER->messages > 0 && last_note(LISTENER)->kind == NET_MESSAGE &&
                   last_note(LISTENER)->message->kind == MSG_HELLO_CLIENT);
    }
    assert_true(ended > 10);
    assert_true(ended < LIMIT - 10); /* and in the end no allocation was left to fail */
}

/* A hello for which the listener has no memory: the dialer hears that it is not there. */
static void out_of_memory_for_a_new_peer(void **state)
{
    (void)state;
    open_end(LISTENER, "tcp://127.0.0.1:*", 'K');
    for (size_t n = 1; n < 12; n++) {
        open_end(DIALER, net_address(LISTENER->net), 'C');
        TURN_UNTIL(DIALER->ups == 1);
        say(DIALER, DIALER->link, MSG_HELLO_CLIENT);
        net_flush(DIALER->net);
        mem_fail_after(n);
        while (LISTENER->messages == 0 && DIALER->downs == 0) {
            net_poll(LISTENER->net, now_ms(), take_note, LISTENER);
            net_poll(DIALER->net, now_ms(), take_note, DIALER);
        }
        mem_fail_after(0);
        close_end(DIALER);
        size_t downs = LISTENER->ups;
        TURN_UNTIL(LISTENER->downs == downs);
        forget_notes(LISTENER);
    }
}

/* ------------------------------------------------------------- addresses */

static void check_address(const char *address, bool listen, const char *reason)
{
    farpool_error error = {0};
    int result = net_check_address(address, listen, &error);
    assert_int_equal(result, reason == NULL ? 0 : FARPOOL_EADDRESS);
    if (reason != NULL && strstr(error.text, reason) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", error.text, reason);
}

static void only_loopback_addresses_are_taken(void **state)
{
    (void)state;
    check_address("tcp://127.0.0.1:5764", false, NULL);
    check_address("tcp://127.9.8.7:1", false, NULL);
    check_address("tcp://[::1]:5764", false, NULL);
    check_address("tcp://localhost:5764", false, NULL);
    check_address("ipc:///run/farpool", false, NULL);
    check_address("tcp://127.0.0.1:*", true, NULL);
    check_address("tcp://127.0.0.1:0", true, NULL);
    check_address("tcp://127.0.0.1:*", false, "not a port");
    check_address("tcp://127.0.0.1:0", false, "not a port");
    check_address("tcp://127.0.0.1:65536", true, "not a port");
    check_address("tcp://127.0.0.1:5764x", true, "not a port");
    check_address("tcp://127.0.0.1:", true, "not a port");
    check_address("tcp://127.0.0.1", true, "not tcp://HOST:PORT");
    check_address("tcp://0.0.0.0:5764", true, "only loopback until keys are set up");
    check_address("tcp://*:5764", true, "only loopback until keys are set up");
    check_address("tcp://10.0.0.1:5764", false, "only loopback until keys are set up");
    check_address("tcp://head.cluster:5764", false,
                  "only loopback until keys are set up");
    check_address("tcp://127.0.0.1.evil.example:5764", false, "only loopback");
    check_address("tcp://[::]:5764", true, "only loopback");
    check_address("inproc://x", true, "neither");
    check_address("pgm://127.0.0.1:5", true, "neither");
    check_address("ipc://", true, "1 to 107 bytes");
    check_address("", true, "no address");
    check_address(NULL, true, "no address");
    char path[300] = "ipc:///";
    memset(path + 7, 'a', 150);
    check_address(path, true, "1 to 107 bytes");
}

static void a_taken_port_is_named(void **state)
{
    (void)state;
    open_end(LISTENER, "tcp://127.0.0.1:*", 'K');
    struct net_config config = {.address = net_address(LISTENER->net), .role = 'K'};
    struct net *net = NULL;
    farpool_error error = {0};
    assert_int_equal(net_listen(&config, &net, &error), FARPOOL_ESYSTEM);
    assert_null(net);
    assert_non_null(strstr(error.text, net_address(LISTENER->net)));
    assert_non_null(strstr(error.text, "in use"));
}

static void ipc_and_ipv6_work_too(void **state)
{
    (void)state;
    char folder[] = "/tmp/farpool-net-XXXXXX", address[80];
    assert_non_null(mkdtemp(folder));
    snprintf(address, sizeof address, "ipc://%s/socket", folder);
    open_end(LISTENER, address, 'K');
    join(DIALER, 'C');
    uint64_t link = LISTENER->link;
    struct net_config config = {.address = address, .role = 'K'};
    struct net *net = NULL;
    farpool_error error = {0};
    assert_int_equal(net_listen(&config, &net, &error), FARPOOL_ESYSTEM);
    assert_non_null(strstr(error.text, "in use"));
    close_end(DIALER);
    TURN_UNTIL(LISTENER->downs == 1);
    assert_int_equal(last_note(LISTENER)->link, link);
    close_end(LISTENER);
    unlink(address + strlen("ipc://"));
    assert_int_equal(rmdir(folder), 0);

    open_end(LISTENER, "tcp://localhost:*", 'K');
    join(DIALER, 'C');
    close_end(DIALER);
    close_end(LISTENER);
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    struct sockaddr_in6 loopback = {.sin6_family = AF_INET6,
                                    .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    bool ipv6 = fd >= 0 && bind(fd, (struct sockaddr *)&loopback, sizeof loopback) == 0;
    if (fd >= 0)
        close(fd);
    if (!ipv6)
        return; /* a machine without it */
    open_end(LISTENER, "tcp://[::1]:*", 'K');
    join(DIALER, 'C');
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, close_ends)
    const struct CMUnitTest tests[] = {
        TEST(a_closing_dialer_is_noticed_at_once),
        TEST(a_killed_peer_is_noticed_at_once),
        TEST(a_dialer_comes_back_when_the_listener_does),
        TEST(a_dialer_waits_for_a_listener),
        TEST(a_dropped_dialer_hears_why),
        TEST(a_dialer_drops_and_dials_again),
        TEST(a_first_message_must_be_a_hello),
        TEST(a_client_may_not_say_what_workers_say),
        TEST(a_coordinator_may_not_relay_to_a_client),
        TEST(garbage_from_zeromq_peers_breaks_their_link_only),
        TEST(random_bytes_break_nothing),
        TEST(an_oversize_frame_ends_the_connection),
        TEST(raw_tcp_peers_are_no_links),
        TEST(descriptors_are_used_again),
        TEST(a_peer_that_is_gone_before_it_is_read),
        TEST(a_dialer_that_gets_garbage_dials_again),
        TEST(out_of_memory_anywhere),
        TEST(out_of_memory_for_a_new_peer),
        TEST(only_loopback_addresses_are_taken),
        TEST(a_taken_port_is_named),
        TEST(ipc_and_ipv6_work_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
