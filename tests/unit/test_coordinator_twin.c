/* SPDX-License-Identifier: Apache-2.0
 *
 * test_coordinator_twin.c: tasks that two workers have: who is given a second one, and
 * when; whose answer counts; what the loss or failure of either means. */
#include "tests/unit/coordinator_script.h"

#define MS 1000000u /* in ns */

static struct message *speculating(uint64_t job)
{
    struct message *message = job_open(1, job, 0, 0);
    message->job_open.speculate = true;
    return message;
}

/* A worker of one slot, which runs task 1 of a job of two; the other took 20 ms. */
static uint64_t begin(struct script *script, struct message *job, uint64_t *ret_client)
{
    const uint64_t worker = add_worker(script, 10, 1), client = add_client(script, 1);
    script_say(script, client, pool_open(1, 0));
    script_say(script, client, job);
    script_say_last(script, client, tasks(1, 1, 0, 2));
    assert_int_equal(script_given(script, worker), 2);
    script_say(script, worker, done(script, 10, 1, 1, 0, 1, 20 * MS));
    script_say_last(script, worker, load(1, 1, 1, 1, 1, 0));
    script_take(script, client, MSG_DONE);
    *ret_client = client;
    return worker;
}

/* It is looked at every 10 ms: what runs now is known to from then on. */
static void look(struct script *script)
{
    script_pass(script, 10);
}

/* The same, and a second worker that has a twin of task 1. */
static uint64_t begin_twin(struct script *script, uint64_t *ret_client,
                           uint64_t *ret_first)
{
    *ret_first = begin(script, speculating(1), ret_client);
    const uint64_t second = add_worker(script, 11, 1);
    look(script);
    script_pass(script, 50);
    assert_int_equal(script_given(script, second), 1);
    script_quiet(script);
    return second;
}

static void test_slow_task_is_given_elsewhere(void **state)
{
    struct script *script = *state;
    uint64_t client;
    const uint64_t first = begin(script, speculating(1), &client);
    const uint64_t second = add_worker(script, 11, 1);
    look(script);
    script_quiet(script);
    script_pass(script, 49); /* twice the 20 ms, and 50 ms at least */
    assert_int_equal(script_given(script, second), 0);
    assert_int_equal(coordinator_core_deadline(script->core), script->now_ms + 1);
    script_pass(script, 1);
    script_take(script, second, MSG_POOL_OPEN);
    script_take(script, second, MSG_JOB_OPEN);
    const struct message *message = script_take(script, second, MSG_TASKS);
    assert_int_equal(message->tasks.spans[0].first, 1);
    assert_int_equal(message->tasks.spans[0].count, 1);
    assert_int_equal(message->tasks.spans[0].attempt, 1);
    assert_int_equal(message->tasks.spans[0].data->size, 8);
    /* One twin, and no third run. */
    add_worker(script, 12, 1);
    script_say_last(script, second, load(1, 1, 1, 1, 1, 0));
    for (int i = 0; i < 20; i++)
        script_pass(script, 100);
    assert_true(script_is_quiet(script, first) && script_is_quiet(script, second));
    assert_true(script_is_quiet(script, client));
    assert_int_equal(script_counts(script).assigned, 1);
}

static void test_long_tasks_have_longer(void **state)
{
    struct script *script = *state;
    const uint64_t first = add_worker(script, 10, 1), client = add_client(script, 1);
    script_say(script, client, pool_open(1, 0));
    script_say(script, client, speculating(1));
    script_say_last(script, client, tasks(1, 1, 0, 2));
    script_say(script, first, done(script, 10, 1, 1, 0, 1, 400 * MS));
    script_say_last(script, first, load(1, 1, 1, 1, 1, 0));
    const uint64_t second = add_worker(script, 11, 1);
    look(script);
    script_pass(script, 800);
    assert_int_equal(script_given(script, second), 0);
    script_pass(script, 10);
    assert_int_equal(script_given(script, second), 1);
}

/* LOAD is told when it has changed: a worker that has ended one task and begun the next
 * says nothing, and is not known to run the second. It has a slot for it. */
static void test_worker_that_says_nothing(void **state)
{
    struct script *script = *state;
    const uint64_t first = add_worker(script, 10, 1), client = add_client(script, 1);
    script_say(script, client, pool_open(1, 0));
    script_say(script, client, speculating(1));
    script_say_last(script, client, tasks(1, 1, 0, 1));
    script_say_last(script, first, load(1, 1, 1, 1, 1, 0));
    script_say_last(script, first, done(script, 10, 1, 1, 0, 1, 20 * MS));
    script_say_last(script, client, tasks(1, 1, 1, 1));
    const uint64_t second = add_worker(script, 11, 1);
    look(script);
    script_pass(script, 50);
    assert_int_equal(script_given(script, second), 1);
}

/* The rest of the list of conditions: each of these keeps its tasks to itself. */
static void assert_never(struct script *script, uint64_t worker)
{
    for (int i = 0; i < 20; i++)
        script_pass(script, 100);
    assert_int_equal(script_given(script, worker), 0);
}

static void test_never_the_same_worker(void **state)
{
    struct script *script = *state;
    uint64_t client;
    const uint64_t only = begin(script, speculating(1), &client);
    script_say_last(script, only, load(2, 2, 1, 1, 1, 0));
    assert_never(script, only);
}

static void test_only_where_it_is_asked_for(void **state)
{
    struct script *script = *state;
    uint64_t client;
    begin(script, job_open(1, 1, 0, 0), &client);
    assert_never(script, add_worker(script, 11, 1));
}

static void test_never_what_must_not_run_twice(void **state)
{
    struct script *script = *state;
    uint64_t client;
    struct message *job = speculating(1);
    job->job_open.once = true;
    begin(script, job, &client);
    assert_never(script, add_worker(script, 11, 1));
}

/* What is usual is known when as many have ended as are left. */
static void test_not_before_half_have_ended(void **state)
{
    struct script *script = *state;
    const uint64_t first = add_worker(script, 10, 3), client = add_client(script, 1);
    script_say(script, client, pool_open(1, 0));
    script_say(script, client, speculating(1));
    script_say_last(script, client, tasks(1, 1, 0, 3));
    script_say(script, first, done(script, 10, 1, 1, 0, 1, 20 * MS));
    script_say_last(script, first, load(3, 3, 1, 1, 2, 0));
    const uint64_t second = add_worker(script, 11, 3);
    assert_never(script, second);
    script_say_last(script, first, done(script, 10, 1, 1, 1, 1, 20 * MS));
    script_pass(script, 10);
    assert_int_equal(script_given(script, second), 1);
}

/* ---------------------------------------------------------------- the answer */

static void assert_killed(struct script *script, uint64_t worker)
{
    const struct message *cancel = script_take(script, worker, MSG_CANCEL);
    assert_true(cancel->cancel.kill);
    assert_int_equal(cancel->cancel.ranges_count, 1);
    assert_int_equal(cancel->cancel.ranges[0].first, 1);
    assert_int_equal(cancel->cancel.ranges[0].count, 1);
    assert_int_equal(cancel->cancel.ranges[0].attempt, 1);
}

static void test_second_is_first(void **state)
{
    struct script *script = *state;
    uint64_t client, first;
    const uint64_t second = begin_twin(script, &client, &first);
    script_say_last(script, second, done(script, 11, 1, 1, 1, 1, 20 * MS));
    script_take(script, client, MSG_DONE);
    assert_killed(script, first);
    script_quiet(script);
    assert_int_equal(script_counts(script).assigned, 0);
    assert_int_equal(script_counts(script).done, 2);
    /* Too late: the client ACKs it, and drops it. */
    script_say_last(script, first, done(script, 10, 1, 1, 1, 1, 900 * MS));
    script_take(script, client, MSG_DONE);
    script_quiet(script);
    assert_int_equal(script_counts(script).done, 2);
}

static void test_first_is_first(void **state)
{
    struct script *script = *state;
    uint64_t client, first;
    const uint64_t second = begin_twin(script, &client, &first);
    script_say_last(script, first, done(script, 10, 1, 1, 1, 1, 200 * MS));
    script_take(script, client, MSG_DONE);
    assert_killed(script, second);
    script_quiet(script);
    assert_int_equal(script_counts(script).assigned, 0);
}

static void test_cancel_reaches_both(void **state)
{
    struct script *script = *state;
    uint64_t client, first;
    const uint64_t second = begin_twin(script, &client, &first);
    script_say_last(script, client, cancel(1, 1, 0, 2));
    script_take(script, first, MSG_CANCEL);
    script_take(script, second, MSG_CANCEL);
    script_quiet(script);
    assert_int_equal(script_counts(script).assigned, 0);
}

static void test_status_counts_it_once(void **state)
{
    struct script *script = *state;
    uint64_t client, first;
    const uint64_t second = begin_twin(script, &client, &first);
    struct message *get = message_create(MSG_STATUS_GET);
    script_say_last(script, second, load(1, 1, 1, 1, 1, 0));
    script_say(script, client, get);
    const struct message *status = script_take(script, client, MSG_STATUS);
    assert_int_equal(status->status.jobs[0].running, 1);
    assert_int_equal(status->status.jobs[0].twins, 1);
    assert_int_equal(status->status.pools[0].running, 1);
}

/* ------------------------------------------------------- failures and losses */

static void test_loss_of_the_first(void **state)
{
    struct script *script = *state;
    uint64_t client, first;
    const uint64_t second = begin_twin(script, &client, &first);
    script_down(script, first);
    script_flush(script);
    script_quiet(script);
    assert_int_equal(script_counts(script).assigned, 1);
    assert_never(script, add_worker(script, 12, 1)); /* it may be what ends workers */
    script_down(script, second);                     /* now there is nobody */
    const struct message *lost = script_take(script, client, MSG_LOST);
    assert_int_equal(lost->lost.ranges_count, 1);
    assert_int_equal(lost->lost.ranges[0].first, 1);
    script_quiet(script);
    assert_int_equal(script_counts(script).assigned, 0);
}

static void test_loss_of_the_second(void **state)
{
    struct script *script = *state;
    uint64_t client, first;
    const uint64_t second = begin_twin(script, &client, &first);
    script_down(script, second);
    script_flush(script);
    script_quiet(script);
    /* Not once more: it may be what ends workers. */
    assert_never(script, add_worker(script, 12, 1));
    script_say_last(script, first, done(script, 10, 1, 1, 1, 1, 200 * MS));
    script_take(script, client, MSG_DONE);
    script_quiet(script);
}

static void assert_acked(struct script *script, uint64_t worker, uint64_t seq)
{
    const struct message *message = script_take(script, worker, MSG_ACK);
    assert_int_equal(message->ack.results_count, 1);
    assert_int_equal(message->ack.results[0].first, seq);
    assert_int_equal(message->ack.results[0].count, 1);
}

static void test_failure_while_the_other_goes_on(void **state)
{
    struct script *script = *state;
    uint64_t client, first;
    const uint64_t second = begin_twin(script, &client, &first);
    script_say_last(script, second, failed(script, 11, 1, 1, 1, FARPOOL_EPROCESSLOST));
    assert_acked(script, second, script->seq - 1);
    script_quiet(script);
    /* Not once more: it might fail so for ever. */
    assert_never(script, add_worker(script, 12, 1));
    script_say_last(script, first, failed(script, 10, 1, 1, 1, FARPOOL_EFUNCTION));
    assert_int_equal(script_take(script, client, MSG_FAILED)->failed.results[0].code,
                     FARPOOL_EFUNCTION);
    script_quiet(script);
    assert_int_equal(script_counts(script).assigned, 0);
}

static void test_failure_of_the_first(void **state)
{
    struct script *script = *state;
    uint64_t client, first;
    const uint64_t second = begin_twin(script, &client, &first);
    script_say_last(script, first, failed(script, 10, 1, 1, 1, FARPOOL_ETASKTIMEOUT));
    assert_acked(script, first, script->seq - 1);
    script_quiet(script);
    script_say_last(script, second, done(script, 11, 1, 1, 1, 1, 20 * MS));
    script_take(script, client, MSG_DONE);
    script_quiet(script);
    assert_int_equal(script_counts(script).assigned, 0);
}

/* Of one message only what is nobody's but its worker's goes on. */
static void test_failures_are_sorted(void **state)
{
    struct script *script = *state;
    uint64_t client, first;
    const uint64_t second = begin_twin(script, &client, &first);
    struct message *message = failed(script, 11, 1, 1, 1, FARPOOL_EFUNCTION);
    struct msg_failed *results = mem_alloc(2 * sizeof *results);
    results[0] = message->failed.results[0];
    results[1] = results[0];
    results[1].seq = script->seq++;
    results[1].index = 0; /* ended before: stale, and its client's to judge */
    results[0].message = mem_strdup("one");
    results[1].message = mem_strdup("two");
    mem_free(message->failed.results);
    message->failed.results = results;
    message->failed.results_count = 2;
    script_say_last(script, second, message);
    assert_acked(script, second, script->seq - 2);
    const struct message *rest = script_take(script, client, MSG_FAILED);
    assert_int_equal(rest->failed.results_count, 1);
    assert_int_equal(rest->failed.results[0].index, 0);
    assert_string_equal(rest->failed.results[0].message, "two");
    script_quiet(script);
    assert_true(script_is_quiet(script, first));
}

static void test_second_gives_it_back(void **state)
{
    struct script *script = *state;
    uint64_t client, first;
    const uint64_t second = begin_twin(script, &client, &first);
    script_say_last(script, second, returned(1, 1, 1, 1));
    assert_int_equal(script_counts(script).waiting, 0);
    assert_int_equal(script_counts(script).assigned, 1);
    script_say_last(script, first, done(script, 10, 1, 1, 1, 1, 200 * MS));
    script_take(script, client, MSG_DONE);
}

static void test_first_gives_it_back(void **state)
{
    struct script *script = *state;
    uint64_t client, first;
    const uint64_t second = begin_twin(script, &client, &first);
    script_say_last(script, first, returned(1, 1, 1, 1));
    assert_int_equal(script_counts(script).waiting, 0);
    script_quiet(script);
    script_say_last(script, second, done(script, 11, 1, 1, 1, 1, 20 * MS));
    script_take(script, client, MSG_DONE);
    script_quiet(script);
}

/* ---------------------------------------------------------------- giving way */

static void test_twin_gives_way(void **state)
{
    struct script *script = *state;
    uint64_t client, first;
    const uint64_t second = begin_twin(script, &client, &first);
    script_say(script, client, job_open(1, 2, 0, 0));
    script_say_last(script, client, tasks(1, 2, 0, 4));
    assert_true(script_given(script, second) > 0);
    assert_int_equal(coordinator_core_deadline(script->core), script->now_ms);
    script_flush(script);
    assert_killed(script, second);
    assert_true(script_given(script, first) > 0);
    script_say_last(script, first, done(script, 10, 1, 1, 1, 1, 200 * MS));
    script_take(script, client, MSG_DONE);
}

/* Another job comes to wait behind the twin, and goes again. */
static void give_way(struct script *script, uint64_t client, uint64_t worker,
                     uint64_t job)
{
    script_say(script, client, job_open(1, job, 0, 0));
    script_say_last(script, client, tasks(1, job, 0, 4));
    assert_true(script_given(script, worker) > 0);
    script_flush(script);
    assert_killed(script, worker);
    script_say_last(script, client, cancel(1, job, 0, 4));
    script_forget(script);
}

static void test_gives_way_twice(void **state)
{
    struct script *script = *state;
    uint64_t client, first;
    const uint64_t second = begin_twin(script, &client, &first);
    give_way(script, client, second, 2);
    look(script);
    script_pass(script, 50);
    assert_int_equal(script_given(script, second), 1);
    give_way(script, client, second, 3);
    assert_never(script, second);
}

/* ------------------------------------------- a coordinator started empty */

static struct message *resuming(uint64_t ended, uint64_t task_ns)
{
    struct message *message = speculating(1);
    message->job_open.resumed = true;
    message->job_open.ended = ended;
    message->job_open.task_ns = task_ns;
    return message;
}

static uint64_t come_back(struct script *script, struct message *job)
{
    const uint64_t client = add_client(script, 1);
    script_say(script, client, pool_open(1, 0));
    script_say(script, client, job);
    script_say(script, client, tasks(1, 1, 1, 1));
    script_say_last(script, client, resumed(1));
    script_pass(script, 1500);
    script_pass(script, 500);
    return client;
}

static void test_both_tell_a_new_coordinator(void **state)
{
    struct script *script = *state;
    const uint64_t first = worker_returns(script, 10, 1, 1);
    const uint64_t second = worker_returns(script, 11, 1, 1);
    const uint64_t client = come_back(script, resuming(7, 20 * MS));
    script_forget(script);
    assert_int_equal(script_counts(script).assigned, 1);
    script_down(script, first);
    assert_true(script_is_quiet(script, client));
    script_say_last(script, second, done(script, 11, 1, 1, 1, 1, 20 * MS));
    script_take(script, client, MSG_DONE);
    script_quiet(script);
}

static void test_new_coordinator_speculates(void **state)
{
    struct script *script = *state;
    worker_returns(script, 10, 1, 1);
    const uint64_t second = add_worker(script, 11, 1);
    come_back(script, resuming(7, 20 * MS));
    assert_int_equal(script_given(script, second), 1);
}

/* No allocation that fails leaves a twin, or takes one, by half. */
static void test_memory(void **state)
{
    struct script *script = *state;
    uint64_t client;
    begin(script, speculating(1), &client);
    const uint64_t second = add_worker(script, 11, 1);
    look(script);
    script->now_ms += 50;
    for (uint64_t i = 1; !script_given(script, second); i++) {
        assert_true(i < 100);
        mem_fail_after(i);
        script_flush(script);
        mem_fail_after(0);
        script->now_ms += 10;
    }
    for (uint64_t i = 1;; i++) {
        struct coordinator_event event = {
            .kind = COORDINATOR_MESSAGE,
            .link = second,
            .message = failed(script, 11, 1, 1, 1, FARPOOL_EFUNCTION)};
        assert_true(i < 100);
        mem_fail_after(i);
        const int result = script_step(script, &event);
        mem_fail_after(0);
        message_free(&event.message);
        if (result == 0)
            break;
        assert_int_equal(result, FARPOOL_ENOMEM);
    }
    assert_acked(script, second, script->seq - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCRIPT_TEST(test_slow_task_is_given_elsewhere),
        SCRIPT_TEST(test_long_tasks_have_longer),
        SCRIPT_TEST(test_worker_that_says_nothing),
        SCRIPT_TEST(test_never_the_same_worker),
        SCRIPT_TEST(test_only_where_it_is_asked_for),
        SCRIPT_TEST(test_never_what_must_not_run_twice),
        SCRIPT_TEST(test_not_before_half_have_ended),
        SCRIPT_TEST(test_second_is_first),
        SCRIPT_TEST(test_first_is_first),
        SCRIPT_TEST(test_cancel_reaches_both),
        SCRIPT_TEST(test_status_counts_it_once),
        SCRIPT_TEST(test_loss_of_the_first),
        SCRIPT_TEST(test_loss_of_the_second),
        SCRIPT_TEST(test_failure_while_the_other_goes_on),
        SCRIPT_TEST(test_failure_of_the_first),
        SCRIPT_TEST(test_failures_are_sorted),
        SCRIPT_TEST(test_second_gives_it_back),
        SCRIPT_TEST(test_first_gives_it_back),
        SCRIPT_TEST(test_twin_gives_way),
        SCRIPT_TEST(test_gives_way_twice),
        SCRIPT_TEST(test_both_tell_a_new_coordinator),
        SCRIPT_TEST(test_new_coordinator_speculates),
        SCRIPT_TEST(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
