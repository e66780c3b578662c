/* SPDX-License-Identifier: Apache-2.0
 *
 * test_coordinator_failure.c: the rows of docs/failure.md that concern the coordinator:
 * workers lost, drained, coming back; cancelling; a coordinator that was restarted, with
 * workers and clients coming back in either order. */
#include "tests/unit/coordinator_script.h"

static void assert_range(const struct msg_range *range, uint64_t first, uint64_t count,
                         uint32_t attempt)
{
    assert_int_equal(range->first, first);
    assert_int_equal(range->count, count);
    assert_int_equal(range->attempt, attempt);
}

/* --------------------------------------------------------------- worker lost */

static void test_worker_lost(void **state)
{
    struct script *script = *state;
    const uint64_t first = add_worker(script, 10, 2), client = add_pool(script, 1, 2);
    const uint64_t nested = add_client(script, 2);
    script_say(script, nested, pool_attach(1));
    script_say(script, nested, job_open(1, 50, 0, 0));
    script_say(script, client, tasks(1, 1, 0, 3));
    script_say_last(script, client, tasks(1, 2, 7, 1));
    script_say_last(script, nested, tasks(1, 50, 0, 2));
    script_forget(script);
    script_say(script, first, done(script, 10, 1, 1, 1, 1, 5));
    script_take(script, client, MSG_DONE);
    script_down(script, first);
    /* Each job's owner hears of its own tasks. */
    const struct message *lost = script_take(script, client, MSG_LOST);
    assert_int_equal(lost->lost.job, 1);
    assert_int_equal(lost->lost.code, FARPOOL_ENODELOST);
    assert_string_equal(lost->lost.node, "node10");
    assert_string_equal(lost->lost.text, "node node10: reset by peer");
    assert_int_equal(lost->lost.ranges_count, 2);
    assert_range(&lost->lost.ranges[0], 0, 1, 1);
    assert_range(&lost->lost.ranges[1], 2, 1, 1);
    lost = script_take(script, client, MSG_LOST);
    assert_int_equal(lost->lost.job, 2);
    assert_range(&lost->lost.ranges[0], 7, 1, 1);
    lost = script_take(script, nested, MSG_LOST);
    assert_int_equal(lost->lost.job, 50);
    assert_range(&lost->lost.ranges[0], 0, 2, 1);
    script_quiet(script);
    assert_int_equal(script_counts(script).assigned, 0);
    /* The next attempt goes elsewhere. */
    script_say(script, client, tasks_try(1, 1, 0, 1, 8, 2));
    const uint64_t second = add_worker(script, 11, 2);
    script_flush(script);
    assert_int_equal(script_given(script, second), 1);
}

/* More ranges than one message takes. */
static void test_much_lost(void **state)
{
    struct script *script = *state;
    uint64_t lost = 0;
    const uint64_t worker = add_worker(script, 10, 1000), client = add_pool(script, 1, 1);
    for (uint64_t i = 0; i < 600; i++)
        script_say(script, client, tasks(1, 1, 2 * i, 1));
    script_flush(script);
    assert_int_equal(script_given(script, worker), 600);
    script_down(script, worker);
    for (int i = 0; i < 3; i++) {
        const struct message *message = script_take(script, client, MSG_LOST);
        assert_true(message->lost.ranges_count <= LIST_MAX);
        lost += message->lost.ranges_count;
    }
    assert_int_equal(lost, 600);
    script_quiet(script);
}

/* What waits is not lost with any worker. */
static void test_waiting_is_kept(void **state)
{
    struct script *script = *state;
    const uint64_t first = add_worker(script, 10, 1), client = add_pool(script, 1, 1);
    script_say_last(script, client, tasks(1, 1, 0, 10));
    assert_int_equal(script_given(script, first), 2);
    script_down(script, first);
    assert_range(&script_take(script, client, MSG_LOST)->lost.ranges[0], 0, 2, 1);
    assert_int_equal(script_counts(script).waiting, 8);
    const uint64_t second = add_worker(script, 11, 1);
    script_flush(script);
    assert_int_equal(script_given(script, second), 2);
    script_quiet(script);
}

/* -------------------------------------------------------------------- drained */

static void test_drain(void **state)
{
    struct script *script = *state;
    const uint64_t first = add_worker(script, 10, 1), client = add_pool(script, 1, 1);
    script_say_last(script, client, tasks(1, 1, 0, 20));
    assert_int_equal(script_given(script, first), 2);
    script_forget(script);
    script_say(script, first, message_create(MSG_DRAIN));
    script_say_last(script, first, returned(1, 1, 1, 1));
    assert_int_equal(script_take(script, client, MSG_POOL_STATE)->pool_state.nodes, 0);
    script_quiet(script);
    assert_int_equal(script_counts(script).waiting, 19);
    /* It finishes what it runs. */
    script_say(script, first, done(script, 10, 1, 1, 0, 1, 5));
    script_take(script, client, MSG_DONE);
    script_say(script, client, ack(1, 10, 0, 1));
    script_take(script, first, MSG_ACK);
    script_flush(script);
    script_quiet(script);
    const uint64_t second = add_worker(script, 11, 1);
    script_flush(script);
    assert_true(script_given(script, second) > 0);
    script_say(script, first, message_create(MSG_BYE));
    script_dropped(script, first, FARPOOL_OK);
    script_flush(script);
    script_quiet(script);
}

/* ------------------------------------------------------------------ cancelled */

static void test_cancel(void **state)
{
    struct script *script = *state;
    const uint64_t first = add_worker(script, 10, 1), second = add_worker(script, 11, 1);
    const uint64_t third = add_worker(script, 12, 1), client = add_pool(script, 1, 1);
    script_say_last(script, client, tasks(1, 1, 0, 3)); /* one each */
    script_forget(script);
    script_say(script, client, tasks(1, 1, 3, 97));
    struct message *message = cancel(1, 1, 1, 1);
    message->cancel.kill = true;
    script_say(script, client, message);
    /* Only whoever has it is told. */
    message = script_take(script, second, MSG_CANCEL);
    assert_true(message->cancel.kill);
    assert_range(&message->cancel.ranges[0], 1, 1, 0);
    assert_true(script_is_quiet(script, first) && script_is_quiet(script, third));
    assert_int_equal(script_counts(script).assigned, 2);
    /* What waits is only dropped. */
    script_say(script, client, cancel(1, 1, 50, 10));
    script_quiet(script);
    assert_int_equal(script_counts(script).waiting, 87);
    script_say(script, client, cancel(1, 1, 0, UINT64_MAX));
    script_take(script, first, MSG_CANCEL);
    script_take(script, third, MSG_CANCEL);
    script_quiet(script);
    assert_int_equal(script_counts(script).waiting + script_counts(script).assigned, 0);
    /* A result that comes all the same is the client's to drop. */
    script_say(script, first, done(script, 10, 1, 1, 0, 1, 5));
    script_take(script, client, MSG_DONE);
    script_say_last(script, third, returned(1, 1, 2, 1));
    script_quiet(script);
    assert_int_equal(script_counts(script).waiting, 0);
}

static void test_job_closed(void **state)
{
    struct script *script = *state;
    const uint64_t worker = add_worker(script, 10, 1), client = add_pool(script, 1, 2);
    script_say(script, client, resumed(1));
    script_say_last(script, client, tasks(1, 1, 0, 10));
    script_forget(script);
    script_say(script, client, job_close(1, 1));
    assert_int_equal(script_take(script, worker, MSG_JOB_CLOSE)->job_close.job, 1);
    script_say(script, client, job_close(1, 2)); /* was never told to a worker */
    script_quiet(script);
    const struct coordinator_counts counts = script_counts(script);
    assert_int_equal(counts.jobs + counts.waiting + counts.assigned, 0);
    script_say(script, worker, done(script, 10, 1, 1, 0, 1, 5));
    assert_int_equal(script_take(script, worker, MSG_ACK)->ack.results_count, 1);
    script_quiet(script);
}

/* ----------------------------------------------------------- a new coordinator */

static uint64_t client_returns(struct script *script, uint64_t first, uint32_t count)
{
    const uint64_t client = add_client(script, 1);
    script_say(script, client, pool_open(1, 0));
    script_say(script, client, job_resumed(1, 1));
    script_say(script, client, tasks(1, 1, first, count));
    script_say(script, client, resumed(1));
    return client;
}

/* As many nodes as the client had before are back, whoever comes first: nobody is waited
 * for. One is new, which can hold nothing. */
static void test_restart_all_back(void **state)
{
    struct script *script = *state;
    const uint64_t client = add_client(script, 1);
    script_say(script, client, pool_open(1, 0));
    script_say(script, client, job_resumed(1, 1));
    script_say(script, client, tasks(1, 1, 0, 10));
    struct message *message = resumed(1);
    message->resumed.nodes = 3;
    script_say(script, client, message);
    const uint64_t fresh = add_worker(script, 11, 4);
    worker_returns(script, 12, 5, 1);
    script_flush(script);
    assert_int_equal(script_given(script, fresh), 0);
    const struct id nobody = script->previous;
    script->previous = make_id(99);
    const uint64_t late = add_worker(script, 10, 1);
    script->previous = nobody;
    script_flush(script);
    assert_int_equal(script_given(script, fresh), 0); /* until it tells what it holds */
    script_say(script, late, held(1, 1, 2, 3));
    script_flush(script);
    assert_int_equal(script_given(script, fresh), 4); /* one a slot at first */
    script_forget(script);
}

/* Whoever comes first: held tasks are not given to anybody else. */
static void run_restart(bool worker_first)
{
    struct script script = {.links = 0};
    uint64_t worker = 0, client;
    script_begin(&script);
    if (worker_first)
        worker = worker_returns(&script, 10, 2, 3);
    client = client_returns(&script, 0, 10);
    if (!worker_first)
        worker = worker_returns(&script, 10, 2, 3);
    const uint64_t other = add_worker(&script, 11, 4);
    script_flush(&script);
    assert_int_equal(script_given(&script, other), 0); /* settling */
    assert_int_equal(script_counts(&script).assigned, 3);
    assert_int_equal(script_counts(&script).waiting, 7);
    assert_int_equal(coordinator_core_deadline(script.core), 2500); /* has settled */
    script_forget(&script);
    script_pass(&script, 1500);
    uint64_t given = 0;
    const struct coordinator_effect *effect;
    while ((effect = script_next(&script, other, MESSAGE_NONE))) {
        const struct message *message = effect->message;
        for (uint32_t i = 0; message->kind == MSG_TASKS && i < message->tasks.spans_count;
             i++) {
            const struct msg_span *span = &message->tasks.spans[i];
            assert_true(span->first + span->count <= 2 || span->first >= 5);
            given += span->count;
        }
        script_take(&script, other, message->kind);
    }
    assert_true(given > 0);
    script_given(&script, worker);
    /* What it held is as good as what it was given: with the input, it can be called
     * back and given to another. */
    script_say(&script, worker, done(&script, 10, 1, 1, 2, 1, 5));
    script_take(&script, client, MSG_DONE);
    const uint64_t waiting = script_counts(&script).waiting;
    script_say(&script, worker, returned(1, 1, 3, 2));
    assert_int_equal(script_counts(&script).waiting, waiting + 2);
    assert_true(script_is_quiet(&script, client));
    script_end(&script);
}

static void test_restart(void **state)
{
    (void)state;
    run_restart(true);
    run_restart(false);
}

/* A task given back whose input has not come here: it may still come, and waits then. */
static void test_returned_without_input(void **state)
{
    struct script *script = *state;
    const uint64_t worker = worker_returns(script, 10, 0, 5);
    const uint64_t client = client_returns(script, 0, 2);
    script_say(script, worker, returned(1, 1, 1, 3));
    assert_true(script_is_quiet(script, client));
    assert_int_equal(script_counts(script).waiting, 1);
    assert_int_equal(script_counts(script).assigned, 2);
    script_say(script, client, tasks(1, 1, 2, 3));
    assert_int_equal(script_counts(script).waiting, 3);
    assert_int_equal(script_counts(script).assigned, 2);
    /* Nor is one lost that the client has not sent: it has its own attempts. */
    script_say(script, worker, held(1, 1, 70, 2));
    script_down(script, worker);
    const struct message *lost = script_take(script, client, MSG_LOST);
    assert_int_equal(lost->lost.ranges_count, 2);
    assert_range(&lost->lost.ranges[0], 0, 1, 1);
    assert_range(&lost->lost.ranges[1], 4, 1, 1);
}

/* The client has gone on to another attempt. */
static void test_held_attempt(void **state)
{
    struct script *script = *state;
    worker_returns(script, 10, 0, 4);
    const uint64_t client = add_client(script, 1);
    script_say(script, client, pool_open(1, 0));
    script_say(script, client, job_resumed(1, 1));
    script_say(script, client, tasks_try(1, 1, 1, 2, 8, 2));
    script_say(script, client, tasks_try(1, 1, 3, 1, 8, 1));
    assert_int_equal(script_counts(script).assigned, 2); /* 0 and 3 */
    assert_int_equal(script_counts(script).waiting, 2);
    /* And the same when the worker's word comes later. */
    worker_returns(script, 11, 1, 3);
    assert_int_equal(script_counts(script).assigned, 2);
    assert_int_equal(script_counts(script).waiting, 2);
}

/* Two workers hold the same task: the first result ends it. */
static void test_held_twice(void **state)
{
    struct script *script = *state;
    const uint64_t first = worker_returns(script, 10, 0, 2);
    const uint64_t second = worker_returns(script, 11, 0, 2);
    const uint64_t client = client_returns(script, 0, 2);
    script_pass(script, 1500);
    script_forget(script);
    script_say(script, second, done(script, 11, 1, 1, 0, 2, 5));
    script_take(script, client, MSG_DONE);
    assert_int_equal(script_counts(script).assigned, 0);
    script_say(script, first, done(script, 10, 1, 1, 0, 2, 5));
    script_take(script, client, MSG_DONE); /* stale: ACKed there */
}

/* Results that were not ACKed come again, before the client and its tasks are back. */
static void test_kept_results(void **state)
{
    struct script *script = *state;
    const uint64_t worker = worker_returns(script, 10, 2, 1);
    script_say(script, worker, done(script, 10, 1, 1, 0, 2, 5));
    script_quiet(script);
    const uint64_t client = client_returns(script, 0, 4);
    script_flush(script);
    script_take(script, worker, MSG_POOL_OPEN); /* the client knows it again */
    script_quiet(script);
    script_pass(script, 1500);
    assert_int_equal(script_take(script, client, MSG_DONE)->done.results[0].count, 2);
    /* Those are not run again. */
    const uint64_t given = script_given(script, worker);
    assert_int_equal(given + script_counts(script).waiting, 1);
}

/* A worker whose results come long after it has joined: its client may still come, also
 * between POOL_OPEN and JOB_OPEN. */
static void test_late_results(void **state)
{
    struct script *script = *state;
    const uint64_t worker = worker_returns(script, 10, 2, 1);
    script_pass(script, 2999);
    script_say(script, worker, message_create(MSG_HEARTBEAT));
    const uint64_t client = add_client(script, 1);
    script_say(script, client, pool_open(1, 0));
    script_pass(script, 1);
    script_forget(script);
    script_say(script, worker, done(script, 10, 1, 3, 0, 2, 5));
    script_quiet(script); /* no ACK */
    script_say(script, client, job_resumed(1, 3));
    script_say(script, client, tasks(1, 3, 0, 2));
    script_say_last(script, client, resumed(1));
    assert_int_equal(script_take(script, client, MSG_DONE)->done.results[0].count, 2);
}

/* The pool's client is here and about to tell of its jobs: what a worker has of one is
 * waited for once more. */
static void test_job_of_who_has_just_come(void **state)
{
    struct script *script = *state;
    const uint64_t worker = worker_returns(script, 10, 0, 5);
    script_pass(script, 2999);
    script_say(script, worker, message_create(MSG_HEARTBEAT));
    const uint64_t client = add_client(script, 1);
    script_say_last(script, client, pool_open(1, 0));
    script_forget(script);
    script_pass(script, 1);
    script_quiet(script);
    assert_int_equal(script_counts(script).assigned, 5);
    script_pass(script, 1499);
    script_forget(script);
    script_pass(script, 1); /* it does not tell */
    assert_true(script_take(script, worker, MSG_CANCEL)->cancel.kill);
    assert_int_equal(script_counts(script).jobs, 0);
}

/* A HELD that was said before its worker read POOL_CLOSE: it has dropped those tasks. */
static void test_late_held(void **state)
{
    struct script *script = *state;
    const uint64_t worker = worker_returns(script, 10, 0, 2);
    const uint64_t first = client_returns(script, 0, 4);
    script_down(script, first);
    assert_true(script_take(script, worker, MSG_POOL_CLOSE)->pool_close.kill);
    client_returns(script, 0, 4);
    script_say(script, worker, held(1, 1, 2, 1));
    assert_int_equal(script_counts(script).assigned, 0);
    assert_int_equal(script_counts(script).waiting, 4);
    script_forget(script);
    script_pass(script, 1500);
    assert_true(script_given(script, worker) > 0);
}

static void test_unwanted_pool(void **state)
{
    struct script *script = *state;
    const uint64_t first = worker_returns(script, 10, 0, 5);
    const uint64_t second = worker_returns(script, 11, 0, 0); /* holds no task of it */
    script_say(script, first, done(script, 10, 1, 1, 9, 1, 5));
    script_pass(script, 2999);
    script_quiet(script);
    script_say(script, first, message_create(MSG_HEARTBEAT));
    script_pass(script, 1);
    assert_true(script_take(script, first, MSG_POOL_CLOSE)->pool_close.kill);
    assert_true(script_take(script, second, MSG_POOL_CLOSE)->pool_close.kill);
    script_quiet(script);
    const struct coordinator_counts counts = script_counts(script);
    assert_int_equal(counts.pools + counts.jobs + counts.assigned, 0);
    /* Too late: a pool that nobody has opened since. */
    script_say(script, first, held(2, 1, 0, 1));
    assert_true(script_take(script, first, MSG_POOL_CLOSE)->pool_close.kill);
}

/* The coordinator was stopped meanwhile: whose pool it is has not had the time to come.
 */
static void test_unwanted_pool_later(void **state)
{
    struct script *script = *state;
    const uint64_t worker = worker_returns(script, 10, 0, 5);
    script_pass(script, 2000);
    script_say(script, worker, message_create(MSG_HEARTBEAT));
    script_pass(script, 1700);
    script_quiet(script);
    script_pass(script, 1499);
    script_quiet(script);
    script_pass(script, 1);
    assert_true(script_take(script, worker, MSG_POOL_CLOSE)->pool_close.kill);
    assert_int_equal(script_counts(script).pools, 0);
}

/* The client came back without one of its jobs. */
static void test_unwanted_job(void **state)
{
    struct script *script = *state;
    const uint64_t worker = worker_returns(script, 10, 0, 5);
    script_say(script, worker, held(1, 2, 0, 5));
    script_say(script, worker, done(script, 10, 1, 2, 9, 1, 5));
    const uint64_t client = client_returns(script, 0, 5);
    script_pass(script, 2000);
    script_say(script, client, message_create(MSG_HEARTBEAT));
    script_say(script, worker, message_create(MSG_HEARTBEAT));
    script_forget(script);
    script_pass(script, 1000);
    const struct message *message = script_take(script, worker, MSG_CANCEL);
    assert_int_equal(message->cancel.job, 2);
    assert_true(message->cancel.kill);
    assert_int_equal(script_take(script, worker, MSG_JOB_CLOSE)->job_close.job, 2);
    assert_int_equal(script_take(script, worker, MSG_ACK)->ack.results[0].first, 0);
    script_quiet(script);
    assert_int_equal(script_counts(script).jobs, 1);
}

/* A nested client comes back before the pool's own. */
static void test_nested_first(void **state)
{
    struct script *script = *state;
    const uint64_t worker = worker_returns(script, 10, 0, 1);
    const uint64_t nested = add_client(script, 2), early = add_client(script, 3);
    script_say(script, nested, pool_attach(1));
    script_say(script, nested, job_open(1, 50, 0, 0));
    script_say(script, nested, tasks(1, 50, 0, 1));
    script_say(script, nested, resumed(1));
    script_say(script, early, pool_attach(7)); /* a pool that will not come */
    script_pass(script, 1600);
    script_quiet(script);
    client_returns(script, 0, 1);
    script_flush(script);
    assert_int_equal(script_given(script, worker), 1);
    script_forget(script);
    script_say(script, worker, message_create(MSG_HEARTBEAT));
    script_pass(script, 1400);
    script_dropped(script, early, FARPOOL_ECLOSED);
}

/* A pool that had failed on a node before: its client hears of it when it is back. */
static void test_failed_before(void **state)
{
    struct script *script = *state;
    const uint64_t worker = worker_returns(script, 10, 0, 0);
    add_worker(script, 11, 1);
    script_say(script, worker, pool_failed(1, FARPOOL_ENOSPACE));
    const uint64_t client = client_returns(script, 0, 5);
    const struct message *message = script_take(script, client, MSG_POOL_FAILED);
    assert_int_equal(message->pool_failed.code, FARPOOL_ENOSPACE);
    assert_int_equal(message->pool_failed.nodes_left, 1);
    script_pass(script, 1500);
    assert_int_equal(script_given(script, worker), 0);
}

/* The same coordinator: it had told everybody, and the worker starts afresh. */
static void test_same_coordinator(void **state)
{
    struct script *script = *state;
    script->previous = make_id(200);
    const uint64_t worker = add_worker(script, 10, 1);
    script_say(script, worker, held(1, 1, 0, 1));
    script_dropped(script, worker, FARPOOL_EPROTOCOL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCRIPT_TEST(test_worker_lost),
        SCRIPT_TEST(test_much_lost),
        SCRIPT_TEST(test_waiting_is_kept),
        SCRIPT_TEST(test_drain),
        SCRIPT_TEST(test_cancel),
        SCRIPT_TEST(test_job_closed),
        cmocka_unit_test(test_restart),
        SCRIPT_TEST(test_restart_all_back),
        SCRIPT_TEST(test_returned_without_input),
        SCRIPT_TEST(test_held_attempt),
        SCRIPT_TEST(test_held_twice),
        SCRIPT_TEST(test_kept_results),
        SCRIPT_TEST(test_late_results),
        SCRIPT_TEST(test_job_of_who_has_just_come),
        SCRIPT_TEST(test_late_held),
        SCRIPT_TEST(test_unwanted_pool),
        SCRIPT_TEST(test_unwanted_pool_later),
        SCRIPT_TEST(test_unwanted_job),
        SCRIPT_TEST(test_nested_first),
        SCRIPT_TEST(test_failed_before),
        SCRIPT_TEST(test_same_coordinator),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
