/* SPDX-License-Identifier: Apache-2.0
 *
 * Messages over common/net between real sockets: every kind there and back, packing,
 * order, large ones in PARTs with small ones passing, bounds of the queue. */
#include "net_ends.h"

static void send_kinds(struct end *from, uint64_t link, struct end *to, const char *roles)
{
    char sent[512], came[512];
    for (int kind = 1; kind < MESSAGE_KINDS; kind++) {
        enum message_kind k = (enum message_kind)kind;
        bool hello =
            k == MSG_HELLO_CLIENT || k == MSG_HELLO_WORKER || k == MSG_HELLO_LANE;
        if (k == MSG_PART || hello || !message_allowed(k, roles[0], roles[1]))
            continue;
        size_t messages = to->messages;
        struct message *message = message_create(k);
        message_print(message, sent, sizeof sent);
        if (k == MSG_RELAY)
            message->relay.header = payload_copy("x", 1);
        message_print(message, sent, sizeof sent);
        assert_int_equal(net_send(from->net, link, &message), 0);
        TURN_UNTIL(to->messages == messages + 1);
        const struct note *note = last_note(to);
        assert_int_equal(note->kind, NET_MESSAGE);
        assert_int_equal(note->message->kind, k);
        assert_string_equal(message_print(note->message, came, sizeof came), sent);
    }
}

static void every_kind_round_trips(void **state)
{
    (void)state;
    join(DIALER, 'C');
    uint64_t client = LISTENER->link;
    join(SECOND, 'W');
    uint64_t worker = LISTENER->link;
    assert_true(client != worker);
    send_kinds(DIALER, DIALER->link, LISTENER, "CK");
    send_kinds(SECOND, SECOND->link, LISTENER, "WK");
    send_kinds(LISTENER, client, DIALER, "KC");
    send_kinds(LISTENER, worker, SECOND, "KW");
    assert_int_equal(LISTENER->downs + DIALER->downs + SECOND->downs, 0);
}

static void many_waiting_messages_stay_in_order(void **state)
{
    (void)state;
    enum { COUNT = 5000 };
    join(DIALER, 'C');
    for (uint64_t i = 0; i < COUNT; i++) {
        struct message *tasks = make_tasks(i, i % 3 == 0 ? 0 : i % 40);
        assert_int_equal(net_send(DIALER->net, DIALER->link, &tasks), 0);
    }
    TURN_UNTIL(LISTENER->messages == COUNT + 1);
    for (uint64_t i = 0; i < COUNT; i++) {
        const struct note *note = &LISTENER->notes[i + 2];
        check_tasks(note->message, i, i % 3 == 0 ? 0 : i % 40);
    }
}

/* Bodies around every boundary: copied, wrapped, whole, in PARTs. */
static void bodies_of_all_sizes_arrive(void **state)
{
    (void)state;
    static const size_t sizes[] = {0,       1,       8191,    8192,    8193,
                                   65536,   1048575, 1048576, 1048577, 1114000,
                                   1114112, 1114113, 2097152, 5000000};
    size_t count = sizeof sizes / sizeof sizes[0];
    join(DIALER, 'C');
    join(SECOND, 'W');
    uint64_t worker = LISTENER->link;
    for (size_t i = 0; i < count; i++) {
        struct message *tasks = make_tasks(i, sizes[i]);
        assert_int_equal(net_send(DIALER->net, DIALER->link, &tasks), 0);
        tasks = make_tasks(i, sizes[i]);
        assert_int_equal(net_send(LISTENER->net, worker, &tasks), 0);
    }
    TURN_UNTIL(LISTENER->messages == count + 2 && SECOND->messages == count);
    size_t at = LISTENER->count - count;
    for (size_t i = 0; i < count; i++) {
        uint64_t first = LISTENER->notes[at + i].message->tasks.spans[0].first;
        check_tasks(LISTENER->notes[at + i].message, first, sizes[first]);
        first = SECOND->notes[1 + i].message->tasks.spans[0].first;
        check_tasks(SECOND->notes[1 + i].message, first, sizes[first]);
    }
}

static size_t place_of(const struct end *end, enum message_kind kind, uint64_t first)
{
    for (size_t i = 0; i < end->count; i++) {
        const struct message *message = end->notes[i].message;
        if (message != NULL && message->kind == kind &&
            (kind != MSG_TASKS || message->tasks.spans[0].first == first))
            return i;
    }
    fail_msg("%s %d did not come", message_name(kind), (int)first);
    return 0;
}

static void small_messages_pass_a_large_one(void **state)
{
    (void)state;
    join(DIALER, 'C');
    struct message *large = make_tasks(7, 5000000), *small = make_tasks(8, 10);
    struct message *behind = make_tasks(9, 10);
    assert_int_equal(net_send(DIALER->net, DIALER->link, &large), 0);
    assert_int_equal(net_send(DIALER->net, DIALER->link, &small), 0);
    say(DIALER, DIALER->link, MSG_CANCEL);
    assert_int_equal(net_send(DIALER->net, DIALER->link, &behind), 0);
    say(DIALER, DIALER->link, MSG_HEARTBEAT);
    TURN_UNTIL(LISTENER->messages == 6);
    size_t at = place_of(LISTENER, MSG_TASKS, 7);
    check_tasks(LISTENER->notes[at].message, 7, 5000000);
    assert_true(place_of(LISTENER, MSG_TASKS, 8) < at);
    assert_true(place_of(LISTENER, MSG_HEARTBEAT, 0) < at);
    /* A CANCEL may speak of the large one's tasks, and what is behind it waits with it.
     */
    assert_true(place_of(LISTENER, MSG_CANCEL, 0) > at);
    assert_true(place_of(LISTENER, MSG_TASKS, 9) > place_of(LISTENER, MSG_CANCEL, 0));
}

static void nothing_but_heartbeats_passes_a_large_pool_open(void **state)
{
    (void)state;
    join(DIALER, 'C');
    struct message *open = message_create(MSG_POOL_OPEN);
    open->pool_open.argument = payload_create(3000000);
    assert_int_equal(net_send(DIALER->net, DIALER->link, &open), 0);
    say(DIALER, DIALER->link, MSG_JOB_OPEN);
    say(DIALER, DIALER->link, MSG_HEARTBEAT);
    TURN_UNTIL(LISTENER->messages == 4);
    size_t at = place_of(LISTENER, MSG_POOL_OPEN, 0);
    assert_int_equal(LISTENER->notes[at].message->pool_open.argument->size, 3000000);
    assert_true(place_of(LISTENER, MSG_HEARTBEAT, 0) < at);
    assert_true(place_of(LISTENER, MSG_JOB_OPEN, 0) > at);
}

static void two_large_messages_follow_each_other(void **state)
{
    (void)state;
    join(DIALER, 'C');
    struct message *first = make_tasks(1, 3000001), *second = make_tasks(2, 2500002);
    assert_int_equal(net_send(DIALER->net, DIALER->link, &first), 0);
    assert_int_equal(net_send(DIALER->net, DIALER->link, &second), 0);
    TURN_UNTIL(LISTENER->messages == 3);
    check_tasks(LISTENER->notes[2].message, 1, 3000001);
    check_tasks(LISTENER->notes[3].message, 2, 2500002);
}

/* Many bodies, and together more than a PART's data: pieces end at each body's end. */
static void a_large_message_of_many_bodies(void **state)
{
    (void)state;
    enum { SPANS = SPANS_MAX, SIZE = 50000 };
    join(DIALER, 'C');
    struct message *tasks = message_create(MSG_TASKS);
    tasks->tasks.spans = mem_alloc(SPANS * sizeof *tasks->tasks.spans);
    tasks->tasks.spans_count = SPANS;
    for (int i = 0; i < SPANS; i++) {
        struct msg_span *span = &tasks->tasks.spans[i];
        span->first = (uint64_t)i * 10;
        span->count = 2;
        span->attempt = 1;
        if (i % 4 == 3)
            continue; /* no bytes at all */
        span->data = payload_create(SIZE);
        memset(payload_bytes(span->data), i + 1, SIZE);
        uint8_t sizes[8] = {0, 0, 0, 0, SIZE & 255, SIZE >> 8, 0, 0};
        if (i % 2 == 0)
            span->sizes = payload_copy(sizes, sizeof sizes);
    }
    assert_int_equal(net_send(DIALER->net, DIALER->link, &tasks), 0);
    TURN_UNTIL(LISTENER->messages == 2);
    const struct message *came = last_note(LISTENER)->message;
    assert_int_equal(came->tasks.spans_count, SPANS);
    for (int i = 0; i < SPANS; i++) {
        const struct msg_span *span = &came->tasks.spans[i];
        size_t size = span->data == NULL ? 0 : span->data->size;
        assert_int_equal(size, i % 4 == 3 ? 0 : SIZE);
        uint8_t expected[SIZE];
        memset(expected, i + 1, SIZE);
        if (size > 0)
            assert_memory_equal(span->data->data, expected, SIZE);
        assert_int_equal(span->sizes != NULL, i % 2 == 0);
    }
}

static void a_received_body_outlives_the_endpoint(void **state)
{
    (void)state;
    join(DIALER, 'C');
    struct message *tasks = make_tasks(3, 400000);
    assert_int_equal(net_send(DIALER->net, DIALER->link, &tasks), 0);
    TURN_UNTIL(LISTENER->messages == 2);
    struct note *note = &LISTENER->notes[LISTENER->count - 1];
    struct message *kept = note->message;
    note->message = NULL;
    close_ends(NULL);
    check_tasks(kept, 3, 400000);
    message_free(&kept);
}

/* The listener is not polled: its socket's queues fill up, then the dialer's own. */
static void a_full_queue_ends_the_link(void **state)
{
    (void)state;
    join(DIALER, 'C');
    int result = 0, sent = 0;
    while (result == 0 && sent < 2000) {
        struct message *tasks = make_tasks((uint64_t)sent++, 1000000);
        result = net_send(DIALER->net, DIALER->link, &tasks);
        net_flush(DIALER->net);
    }
    assert_int_equal(result, FARPOOL_EFULL);
    struct message *tasks = make_tasks(0, 1);
    assert_int_equal(net_send(DIALER->net, DIALER->link, &tasks), FARPOOL_ECLOSED);
    while (DIALER->downs == 0)
        net_poll(DIALER->net, now_ms(), take_note, DIALER);
    assert_non_null(strstr(last_note(DIALER)->text, "wait to go out"));
    TURN_UNTIL(DIALER->ups == 2 && LISTENER->downs == 1);
}

static void backpressure_loses_nothing(void **state)
{
    (void)state;
    enum { COUNT = 150 };
    join(SECOND, 'W');
    uint64_t worker = LISTENER->link;
    int sent = 0;
    for (; sent < COUNT; sent++) {
        struct message *tasks = make_tasks((uint64_t)sent, 400000);
        assert_int_equal(net_send(LISTENER->net, worker, &tasks), 0);
        if (sent % 2 == 0)
            net_flush(LISTENER->net);
    }
    TURN_UNTIL(SECOND->messages == COUNT);
    for (int i = 0; i < COUNT; i++)
        check_tasks(SECOND->notes[i + 1].message, (uint64_t)i, 400000);
}

static void a_closing_endpoint_sends_what_is_queued(void **state)
{
    (void)state;
    join(DIALER, 'C');
    for (uint64_t i = 0; i < 40; i++) {
        struct message *tasks = make_tasks(i, 100000);
        assert_int_equal(net_send(DIALER->net, DIALER->link, &tasks), 0);
    }
    say(DIALER, DIALER->link, MSG_BYE);
    net_close(DIALER->net, 2000);
    DIALER->net = NULL;
    TURN_UNTIL(LISTENER->downs == 1);
    assert_int_equal(LISTENER->messages, 42);
    assert_int_equal(LISTENER->notes[LISTENER->count - 2].message->kind, MSG_BYE);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, close_ends)
    const struct CMUnitTest tests[] = {
        TEST(every_kind_round_trips),
        TEST(many_waiting_messages_stay_in_order),
        TEST(bodies_of_all_sizes_arrive),
        TEST(small_messages_pass_a_large_one),
        TEST(nothing_but_heartbeats_passes_a_large_pool_open),
        TEST(two_large_messages_follow_each_other),
        TEST(a_large_message_of_many_bodies),
        TEST(a_received_body_outlives_the_endpoint),
        TEST(a_full_queue_ends_the_link),
        TEST(backpressure_loses_nothing),
        TEST(a_closing_endpoint_sends_what_is_queued),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
