/* SPDX-License-Identifier: Apache-2.0
 *
 * Clients inside pool processes, as the coordinator's relay shows them to the core. */
#include "coordinator/relay.h"

#include "common/base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define NOTES_MAX 64

/* What the relay did, in order. */
static struct note {
    char what; /* m: message to the core, d: down to the core, s: RELAY to a worker */
    uint64_t link;
    struct message *message;
    char text[80];
} notes[NOTES_MAX];
static size_t notes_count;
static struct relay *relay;

static struct note *add_note(char what, uint64_t link)
{
    assert_true(notes_count < NOTES_MAX);
    struct note *note = &notes[notes_count++];
    note->what = what;
    note->link = link;
    return note;
}

static void on_message(void *user, uint64_t link, struct message **message)
{
    (void)user;
    add_note('m', link)->message = *message;
    *message = NULL;
}

static void on_down(void *user, uint64_t link, const char *text)
{
    (void)user;
    struct note *note = add_note('d', link);
    snprintf(note->text, sizeof note->text, "%s", text);
}

static void on_send(void *user, uint64_t link, struct message **message)
{
    (void)user;
    add_note('s', link)->message = *message;
    *message = NULL;
}

static void forget(void)
{
    for (size_t i = 0; i < notes_count; i++)
        message_free(&notes[i].message);
    memset(notes, 0, sizeof notes);
    notes_count = 0;
}

static int set_up(void **state)
{
    (void)state;
    struct relay_config config = {3, on_message, on_down, on_send, NULL};
    return relay_create(&config, &relay);
}

static int tear_down(void **state)
{
    (void)state;
    forget();
    relay_destroy(relay);
    return 0;
}

/* A RELAY of a process with `inner` inside, as a worker sends it. */
static void receive(uint64_t worker, uint64_t process, struct message *inner)
{
    struct frames frames;
    assert_int_equal(message_encode(inner, &frames), 0);
    struct message *outer = message_create(MSG_RELAY);
    outer->relay.client = process;
    outer->relay.header = payload_ref(frames.header);
    outer->relay.bodies =
        mem_alloc((frames.bodies_count + 1) * sizeof *outer->relay.bodies);
    outer->relay.bodies_count = (uint32_t)frames.bodies_count;
    for (size_t i = 0; i < frames.bodies_count; i++)
        outer->relay.bodies[i].data = payload_ref(frames.bodies[i]);
    relay_receive(relay, worker, outer);
    message_free(&outer);
    frames_fini(&frames);
    message_free(&inner);
}

static void receive_kind(uint64_t worker, uint64_t process, enum message_kind kind)
{
    receive(worker, process, message_create(kind));
}

static void receive_end(uint64_t worker, uint64_t process)
{
    struct message *end = message_create(MSG_RELAY);
    end->relay.client = process;
    end->relay.end = true;
    relay_receive(relay, worker, end);
    message_free(&end);
}

static void check_note(size_t place, char what, uint64_t link)
{
    assert_true(place < notes_count);
    assert_int_equal(notes[place].what, what);
    assert_true(notes[place].link == link);
}

/* Its link. */
static uint64_t hello(uint64_t worker, uint64_t process)
{
    forget();
    receive_kind(worker, process, MSG_HELLO_CLIENT);
    uint64_t link = notes[notes_count - 1].link;
    check_note(notes_count - 1, 'm', link);
    assert_true(relay_is_link(link));
    forget();
    return link;
}

static void each_process_is_a_client(void **state)
{
    (void)state;
    uint64_t a = hello(1, 10), b = hello(1, 11), c = hello(2, 10);
    assert_true(a != b && b != c && a != c);
    assert_false(relay_is_link(1));
    receive_kind(2, 10, MSG_HEARTBEAT);
    check_note(0, 'm', c);
    assert_int_equal(notes[0].message->kind, MSG_HEARTBEAT);
}

static void bodies_pass_both_ways(void **state)
{
    (void)state;
    uint64_t link = hello(1, 10);
    for (int way = 0; way < 2; way++) {
        struct message *tasks = message_create(MSG_TASKS);
        tasks->tasks.spans = mem_alloc(sizeof *tasks->tasks.spans);
        tasks->tasks.spans_count = 1;
        tasks->tasks.spans[0].count = 2;
        tasks->tasks.spans[0].attempt = 1;
        tasks->tasks.spans[0].data = payload_copy("abcd", 4);
        if (way == 0)
            receive(1, 10, tasks);
        else
            relay_send(relay, link, &tasks);
    }
    assert_int_equal(notes_count, 2);
    check_note(0, 'm', link);
    assert_memory_equal(notes[0].message->tasks.spans[0].data->data, "abcd", 4);
    check_note(1, 's', 1);
    const struct message *sent = notes[1].message;
    assert_int_equal(sent->relay.client, 10);
    assert_false(sent->relay.end);
    assert_int_equal(sent->relay.bodies_count, 1);
    assert_memory_equal(sent->relay.bodies[0].data->data, "abcd", 4);
}

static void before_a_hello_nothing_is_heard(void **state)
{
    (void)state;
    receive_kind(1, 10, MSG_HEARTBEAT);
    receive_kind(1, 10, MSG_TASKS);
    assert_int_equal(notes_count, 0);
}

static void a_second_hello_is_a_new_client(void **state)
{
    (void)state;
    uint64_t first = hello(1, 10);
    receive_kind(1, 10, MSG_HELLO_CLIENT);
    assert_int_equal(notes_count, 2);
    check_note(0, 'd', first);
    uint64_t second = notes[1].link;
    check_note(1, 'm', second);
    assert_true(second != first);
}

static void a_client_ends_by_bye_end_or_worker(void **state)
{
    (void)state;
    uint64_t a = hello(1, 10), b = hello(1, 11), c = hello(1, 12);
    receive_kind(1, 10, MSG_BYE);
    assert_int_equal(notes_count, 2);
    check_note(0, 'm', a);
    check_note(1, 'd', a);
    forget();
    receive_end(1, 11);
    receive_end(1, 11);
    assert_int_equal(notes_count, 1);
    check_note(0, 'd', b);
    forget();
    relay_worker_down(relay, 2, "other");
    assert_int_equal(notes_count, 0);
    relay_worker_down(relay, 1, "gone");
    assert_int_equal(notes_count, 1);
    check_note(0, 'd', c);
    assert_string_equal(notes[0].text, "gone");
    forget();
    struct message *late = message_create(MSG_HEARTBEAT);
    relay_send(relay, c, &late);
    assert_null(late);
    assert_int_equal(notes_count, 0);
}

static void what_no_client_may_say_ends_it(void **state)
{
    (void)state;
    static const enum message_kind kinds[] = {MSG_DRAIN, MSG_WELCOME, MSG_PART,
                                              MSG_HELLO_WORKER};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        uint64_t link = hello(1, 10);
        receive_kind(1, 10, kinds[i]);
        assert_int_equal(notes_count, 2);
        check_note(0, 's', 1);
        assert_true(notes[0].message->relay.end);
        check_note(1, 'd', link);
    }
}

static void garbage_inside_ends_that_client_only(void **state)
{
    (void)state;
    uint64_t link = hello(1, 10), other = hello(1, 11);
    struct message *outer = message_create(MSG_RELAY);
    outer->relay.client = 10;
    outer->relay.header = payload_copy("\xc1garbage", 8);
    relay_receive(relay, 1, outer);
    assert_int_equal(notes_count, 2);
    check_note(0, 's', 1);
    assert_int_equal(notes[0].message->relay.client, 10);
    check_note(1, 'd', link);
    payload_unref(&outer->relay.header);
    outer->relay.client = 99; /* nobody: told that it is not there, no down */
    forget();
    relay_receive(relay, 1, outer);
    assert_int_equal(notes_count, 1);
    check_note(0, 's', 1);
    message_free(&outer);
    forget();
    receive_kind(1, 11, MSG_HEARTBEAT);
    check_note(0, 'm', other);
}

static void dropping_tells_the_worker_only(void **state)
{
    (void)state;
    uint64_t link = hello(1, 10);
    relay_drop(relay, link);
    relay_drop(relay, link);
    assert_int_equal(notes_count, 1);
    check_note(0, 's', 1);
    assert_true(notes[0].message->relay.end);
    receive_kind(1, 10, MSG_HEARTBEAT);
    assert_int_equal(notes_count, 1);
}

static void there_are_at_most_so_many(void **state)
{
    (void)state;
    hello(1, 10);
    hello(1, 11);
    uint64_t third = hello(1, 12);
    receive_kind(1, 13, MSG_HELLO_CLIENT);
    assert_int_equal(notes_count, 1);
    check_note(0, 's', 1);
    assert_true(notes[0].message->relay.end);
    assert_int_equal(notes[0].message->relay.client, 13);
    relay_drop(relay, third);
    hello(1, 13);
}

/* Whichever allocation fails: nothing leaks (ASan), and no client is half there. */
static void out_of_memory_anywhere(void **state)
{
    (void)state;
    for (size_t n = 1; n < 40; n++) {
        struct message *inner = message_create(MSG_HELLO_CLIENT);
        struct message *answer = message_create(MSG_WELCOME);
        struct message *outer = message_create(MSG_RELAY);
        struct frames frames;
        assert_int_equal(message_encode(inner, &frames), 0);
        outer->relay.client = 20;
        outer->relay.header = payload_ref(frames.header);
        mem_fail_after(n);
        relay_receive(relay, 1, outer);
        uint64_t link = notes_count > 0 && notes[notes_count - 1].what == 'm'
                            ? notes[notes_count - 1].link
                            : 0;
        if (link != 0)
            relay_send(relay, link, &answer);
        mem_fail_after(0);
        receive_end(1, 20);
        bool down = false;
        for (size_t i = 0; i < notes_count; i++)
            down = down || (notes[i].what == 'd' && notes[i].link == link);
        assert_true(down == (link != 0));
        forget();
        frames_fini(&frames);
        message_free(&inner);
        message_free(&outer);
        message_free(&answer);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(each_process_is_a_client),
        TEST(bodies_pass_both_ways),
        TEST(before_a_hello_nothing_is_heard),
        TEST(a_second_hello_is_a_new_client),
        TEST(a_client_ends_by_bye_end_or_worker),
        TEST(what_no_client_may_say_ends_it),
        TEST(garbage_inside_ends_that_client_only),
        TEST(dropping_tells_the_worker_only),
        TEST(there_are_at_most_so_many),
        TEST(out_of_memory_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
