/* SPDX-License-Identifier: Apache-2.0
 *
 * test_net_faults.c: links of common/net whose peers go and come back, and allocations
 * that fail on either side. Peers that break rules are in test_net_strangers.c, addresses
 * in test_net_address.c. */
#include "net_ends.h"

#include "common/base/error.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

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
            turn_some(DIALER, 10);
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
        while (LISTENER->messages == 0 && DIALER->downs == 0)
            turn(10);
        mem_fail_after(0);
        close_end(DIALER);
        size_t downs = LISTENER->ups;
        TURN_UNTIL(LISTENER->downs == downs);
        forget_notes(LISTENER);
    }
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
        TEST(a_peer_that_is_gone_before_it_is_read),
        TEST(out_of_memory_anywhere),
        TEST(out_of_memory_for_a_new_peer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
