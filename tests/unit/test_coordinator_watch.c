/* SPDX-License-Identifier: Apache-2.0
 *
 * test_coordinator_watch.c: what a client hears of its tasks when their node is lost: by
 * what is known of their beginning there, and who may begin beside whom
 * (docs/failure.md). */
#include "tests/unit/coordinator_script.h"

#define WAIT_MS 10000

static struct message *watched(uint64_t job, uint64_t first, uint32_t count,
                               uint32_t watch)
{
    struct message *message = tasks_try(1, job, first, count, 8, 2);
    message->tasks.spans[0].watch = watch;
    return message;
}

/* A process of its own asks for it, numbered as the first task. */
static struct message *begin(uint64_t job, uint64_t first, uint32_t count)
{
    struct message *message = message_create(MSG_BEGIN);
    message->begin.pool = make_id(1);
    message->begin.job = job;
    message->begin.first = first;
    message->begin.count = count;
    message->begin.attempt = 2;
    message->begin.process = 100 + first;
    message->begin.give = 7;
    return message;
}

static void took_go(struct script *script, uint64_t link, uint64_t first)
{
    const struct message *go = script_take(script, link, MSG_GO);
    assert_int_equal(go->go.process, 100 + first);
    assert_int_equal(go->go.give, 7);
    assert_false(go->go.wait);
}

static void took_wait(struct script *script, uint64_t link, uint64_t first)
{
    const struct message *go = script_take(script, link, MSG_GO);
    assert_int_equal(go->go.process, 100 + first);
    assert_true(go->go.wait);
}

static void ended(struct script *script, uint64_t client, uint64_t worker, uint64_t job,
                  uint64_t index)
{
    script_say_last(script, worker, done_try(script, 10, 1, job, index, 1, 5, 2));
    script_take(script, client, MSG_DONE);
}

static void took_lost(struct script *script, uint64_t client, int code, bool unsure,
                      uint64_t first, uint64_t count)
{
    const struct message *lost = script_take(script, client, MSG_LOST);
    assert_int_equal(lost->lost.code, code);
    assert_int_equal(lost->lost.unsure, unsure);
    assert_int_equal(lost->lost.ranges_count, 1);
    assert_int_equal(lost->lost.ranges[0].first, first);
    assert_int_equal(lost->lost.ranges[0].count, count);
}

/* Neither is taken for silent. */
static void pass_alive(struct script *script, uint64_t worker, uint64_t client,
                       uint64_t ms)
{
    script_pass(script, ms);
    script_say(script, worker, message_create(MSG_HEARTBEAT));
    script_say(script, client, message_create(MSG_HEARTBEAT));
}

static void test_fates(void **state)
{
    struct script *script = *state;
    const uint64_t worker = add_worker(script, 10, 4), client = add_pool(script, 1, 1);
    script_say(script, client, watched(1, 0, 6, 3));
    script_say_last(script, client, tasks(1, 1, 6, 2)); /* as they begin: not watched */
    assert_int_equal(script_given(script, worker), 8);
    script_say(script, worker, begin(1, 0, 1));
    script_say(script, worker, begin(1, 2, 2)); /* several: any of them */
    script_flush(script);
    took_go(script, worker, 0);
    took_go(script, worker, 2);
    script_forget(script);
    script_down(script, worker);
    took_lost(script, client, FARPOOL_ENODELOST, false, 0, 1);
    const struct message *lost = script_take(script, client, MSG_LOST);
    assert_int_equal(lost->lost.code, FARPOOL_EDRAINED);
    assert_false(lost->lost.unsure);
    assert_int_equal(lost->lost.ranges_count, 2);
    assert_int_equal(lost->lost.ranges[0].first, 1);
    assert_int_equal(lost->lost.ranges[0].count, 1);
    assert_int_equal(lost->lost.ranges[1].first, 4);
    assert_int_equal(lost->lost.ranges[1].count, 2);
    lost = script_take(script, client, MSG_LOST);
    assert_int_equal(lost->lost.code, FARPOOL_ENODELOST);
    assert_true(lost->lost.unsure);
    assert_int_equal(lost->lost.ranges[0].first, 2);
    assert_int_equal(lost->lost.ranges[0].count, 2);
    assert_int_equal(lost->lost.ranges[1].first, 6);
    assert_int_equal(lost->lost.ranges[1].count, 2);
    script_quiet(script);
}

/* What had begun and came back is as if it had not been there. */
static void test_given_back(void **state)
{
    struct script *script = *state;
    const uint64_t worker = add_worker(script, 10, 1), client = add_pool(script, 1, 1);
    script_say_last(script, client, watched(1, 0, 1, 3));
    assert_int_equal(script_given(script, worker), 1);
    script_say_last(script, worker, begin(1, 0, 1));
    took_go(script, worker, 0);
    struct message *back = returned(1, 1, 0, 1);
    back->returned.ranges[0].attempt = 2;
    script_say_last(script, worker, back);
    assert_int_equal(script_given(script, worker), 1); /* again */
    script_forget(script);
    script_down(script, worker);
    took_lost(script, client, FARPOOL_EDRAINED, false, 0, 1);
}

/* Each is answered, so that no process waits for what is nowhere any more. */
static void test_asked_for_nothing(void **state)
{
    struct script *script = *state;
    const uint64_t worker = add_worker(script, 10, 1), client = add_pool(script, 1, 1);
    script_say_last(script, client, watched(1, 0, 1, 3));
    assert_int_equal(script_given(script, worker), 1);
    script_say(script, client, cancel(1, 1, 0, 1));
    script_take(script, worker, MSG_CANCEL);
    script_say(script, worker, begin(1, 0, 1));
    script_say(script, worker, begin(9, 3, 1));
    script_flush(script);
    took_go(script, worker, 0);
    took_go(script, worker, 3);
    script_say_last(script, worker, begin(1, 5, 0));
    script_dropped(script, worker, FARPOOL_EPROTOCOL);
}

/* More than are remembered: none waits, and of none it is known who was beside it. */
static void test_too_many_are_asked_for(void **state)
{
    struct script *script = *state;
    const uint64_t worker = add_worker(script, 10, 4), client = add_pool(script, 1, 1);
    script_say_last(script, client, watched(1, 0, 3, WATCH_LAST));
    assert_int_equal(script_given(script, worker), 3);
    script_say_last(script, worker, begin(1, 0, 1));
    took_go(script, worker, 0);
    for (uint64_t i = 1; i < 1024; i++)
        script_say(script, worker, begin(1, 1000 + i, 1));
    script_quiet(script);
    script_say(script, worker, begin(1, 1, 1));
    took_go(script, worker, 1);
    script_down(script, worker);
    took_lost(script, client, FARPOOL_EDRAINED, false, 2, 1);
    took_lost(script, client, FARPOOL_ENODELOST, true, 0, 2);
}

/* Another process has taken the place of the one that asked. */
static void test_asked_for_again(void **state)
{
    struct script *script = *state;
    const uint64_t worker = add_worker(script, 10, 4), client = add_pool(script, 1, 1);
    script_say_last(script, client, watched(1, 0, 2, WATCH_LAST));
    assert_int_equal(script_given(script, worker), 2);
    script_say(script, worker, begin(1, 0, 1));
    script_say_last(script, worker, begin(1, 1, 1));
    took_go(script, worker, 0);
    took_wait(script, worker, 1);
    struct message *other = begin(1, 1, 1);
    other->begin.process = 900;
    script_say_last(script, worker, other);
    const struct message *go = script_take(script, worker, MSG_GO);
    assert_int_equal(go->go.process, 900);
    assert_true(go->go.wait);
    ended(script, client, worker, 1, 0);
    go = script_take(script, worker, MSG_GO);
    assert_int_equal(go->go.process, 900);
    assert_false(go->go.wait);
    script_quiet(script);
}

static void test_last_chance_is_alone(void **state)
{
    struct script *script = *state;
    const uint64_t worker = add_worker(script, 10, 4), client = add_pool(script, 1, 1);
    script_say(script, client, watched(1, 0, 2, WATCH_LAST));
    script_say_last(script, client, watched(1, 2, 2, WATCH_ONE));
    assert_int_equal(script_given(script, worker), 4);
    script_forget(script);
    script_say_last(script, worker, begin(1, 2, 1));
    took_go(script, worker, 2);
    script_say(script, worker, begin(1, 0, 1)); /* waits for 2 */
    script_say(script, worker, begin(1, 1, 1)); /* and this for it */
    script_say_last(script, worker, begin(1, 3, 1));
    took_wait(script, worker, 0);
    took_wait(script, worker, 1);
    took_wait(script, worker, 3);
    script_quiet(script);
    ended(script, client, worker, 1, 2);
    took_go(script, worker, 0);
    script_quiet(script);
    ended(script, client, worker, 1, 0);
    took_go(script, worker, 1);
    script_quiet(script);
    script_down(script, worker);
    took_lost(script, client, FARPOOL_ENODELOST, false, 1, 1);
    took_lost(script, client, FARPOOL_EDRAINED, false, 3, 1);
    script_quiet(script);
}

/* Nobody waits for ever; and who was together by that is not blamed. */
static void test_waits_so_long(void **state)
{
    struct script *script = *state;
    const uint64_t worker = add_worker(script, 10, 4), client = add_pool(script, 1, 1);
    script_say_last(script, client, watched(1, 0, 3, WATCH_LAST));
    assert_int_equal(script_given(script, worker), 3);
    script_say(script, worker, begin(1, 0, 1));
    script_say_last(script, worker, begin(1, 1, 1));
    took_go(script, worker, 0);
    took_wait(script, worker, 1);
    script_quiet(script);
    for (int passed_ms = 1000; passed_ms < WAIT_MS; passed_ms += 1000)
        pass_alive(script, worker, client, 1000);
    pass_alive(script, worker, client, 999);
    script_quiet(script);
    assert_true(coordinator_core_deadline(script->core) <= script->now_ms + 1);
    script_pass(script, 1);
    took_go(script, worker, 1);
    script_forget(script);
    script_down(script, worker);
    took_lost(script, client, FARPOOL_EDRAINED, false, 2, 1);
    took_lost(script, client, FARPOOL_ENODELOST, true, 0, 2);
}

/* Task 0 runs, and nobody wants it any more; 1 is at its last chance. */
static void cancel_what_runs(struct script *script, uint64_t worker, uint64_t client)
{
    script_say(script, client, watched(1, 0, 1, 3));
    script_say_last(script, client, watched(1, 1, 1, WATCH_LAST));
    assert_int_equal(script_given(script, worker), 2);
    script_say_last(script, worker, begin(1, 0, 1));
    took_go(script, worker, 0);
    script_say(script, worker, load(2, 2, 1, 1, 1, 0));
    script_say_last(script, client, cancel(1, 1, 0, 1));
    script_take(script, worker, MSG_CANCEL);
    script_forget(script);
}

/* It may end the node as before: who is beside it is not blamed. */
static void test_what_was_cancelled_goes_on(void **state)
{
    struct script *script = *state;
    const uint64_t worker = add_worker(script, 10, 4), client = add_pool(script, 1, 1);
    cancel_what_runs(script, worker, client);
    script_say_last(script, worker, begin(1, 1, 1));
    took_wait(script, worker, 1);
    for (int passed_ms = 0; passed_ms < WAIT_MS; passed_ms += 1000)
        pass_alive(script, worker, client, 1000);
    took_go(script, worker, 1);
    script_forget(script);
    script_down(script, worker);
    took_lost(script, client, FARPOOL_ENODELOST, true, 1, 1);
}

/* Its worker says when it is over; a while later that was said behind its beginning. */
static void test_what_was_cancelled_ends(void **state)
{
    struct script *script = *state;
    const uint64_t worker = add_worker(script, 10, 4), client = add_pool(script, 1, 1);
    cancel_what_runs(script, worker, client);
    script_say_last(script, worker, load(2, 2, 1, 1, 0, 0));
    for (int passed_ms = 1000; passed_ms < WAIT_MS; passed_ms += 1000)
        pass_alive(script, worker, client, 1000);
    script_say_last(script, worker, begin(1, 1, 1));
    took_wait(script, worker, 1);
    assert_true(coordinator_core_deadline(script->core) <= script->now_ms + 1000);
    pass_alive(script, worker, client, 1000);
    took_go(script, worker, 1);
    script_forget(script);
    script_down(script, worker);
    took_lost(script, client, FARPOOL_ENODELOST, false, 1, 1);
}

/* Its process asks for something else. */
static void test_process_of_what_was_cancelled_goes_on(void **state)
{
    struct script *script = *state;
    const uint64_t worker = add_worker(script, 10, 4), client = add_pool(script, 1, 1);
    cancel_what_runs(script, worker, client);
    struct message *next = begin(1, 1, 1);
    next->begin.process = 100;
    script_say_last(script, worker, next);
    const struct message *go = script_take(script, worker, MSG_GO);
    assert_int_equal(go->go.process, 100);
    assert_false(go->go.wait);
}

/* Others wait for what nested jobs do: they wait for nobody. */
static void test_nested_jobs_do_not_wait(void **state)
{
    struct script *script = *state;
    const uint64_t worker = add_worker(script, 10, 4), client = add_pool(script, 1, 1);
    const uint64_t nested = add_client(script, 2);
    script_say(script, nested, pool_attach(1));
    script_say(script, nested, job_open(1, 50, 0, 0));
    script_say(script, client, watched(1, 0, 1, WATCH_ONE));
    script_say_last(script, nested, watched(50, 5, 1, WATCH_LAST));
    assert_int_equal(script_given(script, worker), 2);
    script_say(script, worker, begin(1, 0, 1));
    script_say_last(script, worker, begin(50, 5, 1));
    took_go(script, worker, 0);
    took_go(script, worker, 5);
    script_forget(script);
    script_down(script, worker);
    took_lost(script, client, FARPOOL_ENODELOST, false, 0, 1);
    took_lost(script, nested, FARPOOL_ENODELOST, true, 5, 1);
}

/* A worker that was there before tells what it has, of which nothing is known here. */
static void test_held(void **state)
{
    struct script *script = *state;
    script->previous = make_id(99);
    const uint64_t worker = add_worker(script, 10, 2);
    struct message *holds = held(1, 1, 0, 2);
    holds->held.ranges[0].attempt = 2;
    script_say(script, worker, holds);
    const uint64_t client = add_pool(script, 1, 0);
    script_say(script, client, job_resumed(1, 1));
    script_say(script, client, watched(1, 0, 2, 3));
    script_say_last(script, client, resumed(1));
    script_say_last(script, worker, begin(1, 1, 1)); /* had been told to ask */
    script_forget(script);
    script_down(script, worker);
    took_lost(script, client, FARPOOL_ENODELOST, false, 1, 1);
    took_lost(script, client, FARPOOL_ENODELOST, true, 0, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCRIPT_TEST(test_fates),
        SCRIPT_TEST(test_given_back),
        SCRIPT_TEST(test_asked_for_nothing),
        SCRIPT_TEST(test_too_many_are_asked_for),
        SCRIPT_TEST(test_asked_for_again),
        SCRIPT_TEST(test_last_chance_is_alone),
        SCRIPT_TEST(test_waits_so_long),
        SCRIPT_TEST(test_what_was_cancelled_goes_on),
        SCRIPT_TEST(test_what_was_cancelled_ends),
        SCRIPT_TEST(test_process_of_what_was_cancelled_goes_on),
        SCRIPT_TEST(test_nested_jobs_do_not_wait),
        SCRIPT_TEST(test_held),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
