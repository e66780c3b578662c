/* SPDX-License-Identifier: Apache-2.0
 *
 * test_coordinator_once.c: jobs that must run no task twice, when their client comes back
 * to another coordinator, or on another link. */
#include "tests/unit/coordinator_script.h"

static void assert_range(const struct msg_range *range, uint64_t first, uint64_t count,
                         uint32_t attempt)
{
    assert_int_equal(range->first, first);
    assert_int_equal(range->count, count);
    assert_int_equal(range->attempt, attempt);
}

static struct message *once_resumed(void)
{
    struct message *message = job_resumed(1, 1);
    message->job_open.once = true;
    return message;
}

/* A job that must run no task twice: what workers hold or have finished goes on, what is
 * nowhere is lost, and nothing of it is given to anybody. */
static void test_once(void **state)
{
    struct script *script = *state;
    const uint64_t worker = worker_returns(script, 10, 0, 4);
    script_say(script, worker, done(script, 10, 1, 1, 4, 2, 5));
    const uint64_t client = add_client(script, 1);
    script_say(script, client, pool_open(1, 0));
    script_say(script, client, once_resumed());
    script_say(script, client, tasks(1, 1, 0, 9)); /* 6 to 8 are nowhere */
    script_say(script, client, resumed(1));
    script_say(script, worker, returned(1, 1, 3, 1)); /* was not begun */
    script_say(script, client, tasks(1, 1, 20, 2));   /* new ones */
    /* And one whose word comes after the client's. */
    worker_returns(script, 11, 8, 1);
    script_pass(script, 1500);
    assert_int_equal(script_take(script, client, MSG_DONE)->done.results[0].count, 2);
    const struct message *lost = script_take(script, client, MSG_LOST);
    assert_int_equal(lost->lost.code, FARPOOL_ENODELOST);
    assert_string_equal(lost->lost.node, "");
    assert_int_equal(lost->lost.ranges_count, 1);
    assert_range(&lost->lost.ranges[0], 6, 2, 1);
    assert_true(script_is_quiet(script, client));
    /* 0 to 2 and 8 are held; 3, 20 and 21 are given, now or when there is room. */
    const struct coordinator_counts counts = script_counts(script);
    assert_int_equal(counts.waiting + counts.assigned, 7);
    script_say(script, worker, done(script, 10, 1, 1, 0, 3, 5));
    assert_int_equal(script_take(script, client, MSG_DONE)->done.results[0].count, 3);
    /* A worker that comes too late holds it for nobody, and it is still run by none. */
    worker_returns(script, 12, 6, 1);
    script_flush(script);
    assert_true(script_is_quiet(script, client));
    script_forget(script);
}

/* The same coordinator: it had all killed when the link went, so all that had been sent
 * before may have run; what comes after RESUMED has not. */
static void test_once_on_another_link(void **state)
{
    struct script *script = *state;
    const uint64_t worker = add_worker(script, 10, 4);
    uint64_t client = add_client(script, 1);
    script_pass(script, 4000);
    script_say(script, client, pool_open(1, 0));
    script_say(script, client, job_open(1, 1, 0, 0));
    script_say_last(script, client, tasks(1, 1, 0, 3));
    assert_int_equal(script_given(script, worker), 3);
    script_down(script, client);
    script_take(script, worker, MSG_POOL_CLOSE);
    client = add_client(script, 1);
    script_say(script, client, pool_open(1, 0));
    script_say(script, client, once_resumed());
    script_say(script, client, tasks(1, 1, 0, 3));
    script_flush(script);
    assert_int_equal(script_given(script, worker), 0);
    script_say(script, client, resumed(1));
    script_say(script, client, tasks(1, 1, 3, 2));
    script_flush(script);
    const struct message *lost = script_take(script, client, MSG_LOST);
    assert_int_equal(lost->lost.ranges_count, 1);
    assert_range(&lost->lost.ranges[0], 0, 3, 1);
    assert_int_equal(script_given(script, worker), 2);
    script_forget(script);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCRIPT_TEST(test_once),
        SCRIPT_TEST(test_once_on_another_link),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
