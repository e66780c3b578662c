/* SPDX-License-Identifier: Apache-2.0
 *
 * test_coordinator_recall.c: tasks that wait at one worker while another has room are
 * called back, and tasks that wait for others hold no slot. */
#include "tests/unit/coordinator_script.h"

#define MS 1000000u /* in ns */

static void test_recall(void **state)
{
    struct script *script = *state;
    const uint64_t first = add_worker(script, 10, 1), client = add_pool(script, 1, 1);
    script_say_last(script, client, tasks(1, 1, 0, 2));
    assert_int_equal(script_given(script, first), 2);
    script_quiet(script);
    const uint64_t second = add_worker(script, 11, 1);
    script_flush(script);
    const struct message *message = script_take(script, first, MSG_RECALL);
    assert_int_equal(message->recall.job, 1);
    assert_int_equal(message->recall.tasks, 1);
    script_flush(script); /* one at a time */
    script_quiet(script);
    script_say_last(script, first, returned(1, 1, 1, 1));
    assert_int_equal(script_given(script, second), 1);
    script_quiet(script);
}

static void test_fruitless_recall(void **state)
{
    struct script *script = *state;
    const uint64_t first = add_worker(script, 10, 1), client = add_pool(script, 1, 1);
    script_say_last(script, client, tasks(1, 1, 0, 3));
    assert_int_equal(script_given(script, first), 2);
    script_say(script, first, done(script, 10, 1, 1, 0, 1, 100 * MS));
    script_forget(script);
    script_flush(script);
    assert_int_equal(script_given(script, first), 1);
    add_worker(script, 11, 1);
    script_flush(script);
    script_take(script, first, MSG_RECALL);
    script_say_last(script, first, returned(1, 1, 0, 0)); /* all have begun */
    script_pass(script, 500);
    assert_true(script_is_quiet(script, first)); /* not again until something changed */
}

/* What takes no time is not worth a round trip. */
static void test_no_recall_of_trifles(void **state)
{
    struct script *script = *state;
    const uint64_t first = add_worker(script, 10, 1), client = add_pool(script, 1, 1);
    script_say_last(script, client, tasks(1, 1, 0, 1));
    script_say(script, first, done(script, 10, 1, 1, 0, 1, 1000));
    script_say(script, client, tasks(1, 1, 1, 4));
    script_forget(script);
    script_flush(script);
    assert_int_equal(script_given(script, first), 4);
    add_worker(script, 11, 1);
    script_flush(script);
    script_quiet(script);
    /* Unless one of them takes long after all: nothing may wait behind it. */
    assert_int_equal(coordinator_core_deadline(script->core), script->now_ms + 5);
    script_pass(script, 5);
    assert_int_equal(script_take(script, first, MSG_RECALL)->recall.tasks, 2);
}

/* A pool with a limit has its shares for slots: a task behind a long one is fetched. */
static void test_recall_in_limited_pool(void **state)
{
    struct script *script = *state;
    const uint64_t first = add_worker(script, 10, 2), client = add_client(script, 1);
    script_say(script, client, pool_open(1, 2));
    script_say(script, client, job_open(1, 1, 0, 0));
    script_say_last(script, client, tasks(1, 1, 0, 2));
    assert_int_equal(script_given(script, first), 2); /* its share is 2 as yet */
    const uint64_t second = add_worker(script, 11, 2);
    script_flush(script);
    assert_int_equal(script_take(script, first, MSG_POOL_OPEN)->pool_open.processes, 1);
    assert_int_equal(script_take(script, first, MSG_RECALL)->recall.tasks, 1);
    script_say_last(script, first, returned(1, 1, 1, 1));
    assert_int_equal(script_take(script, second, MSG_POOL_OPEN)->pool_open.processes, 1);
    assert_int_equal(script_given(script, second), 1);
    script_quiet(script);
}

/* Tasks that wait for nested jobs hold no slot. */
static void test_blocked(void **state)
{
    struct script *script = *state;
    const uint64_t worker = add_worker(script, 10, 1), client = add_pool(script, 1, 1);
    script_say_last(script, client, tasks(1, 1, 0, 100));
    assert_int_equal(script_given(script, worker), 2);
    struct message *message = load(1, 1, 1, 1, 1, 0);
    message->load.jobs[0].blocked = 1;
    script_say_last(script, worker, message);
    assert_int_equal(script_given(script, worker), 1);
    message = load(1, 1, 1, 1, 50, 0);
    message->load.jobs[0].blocked = 50; /* bounded */
    script_say(script, worker, message);
    for (int i = 0; i < 20; i++)
        script_flush(script);
    script_given(script, worker);
    assert_in_range(script_counts(script).assigned, 8, 10);
    script_say_last(script, worker, load(1, 1, 1, 1, 1, 0));
    script_quiet(script);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCRIPT_TEST(test_recall),
        SCRIPT_TEST(test_fruitless_recall),
        SCRIPT_TEST(test_no_recall_of_trifles),
        SCRIPT_TEST(test_recall_in_limited_pool),
        SCRIPT_TEST(test_blocked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
