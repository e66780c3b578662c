/* SPDX-License-Identifier: Apache-2.0
 *
 * test_worker_failure.c: processes that end or hang while they have tasks: who is blamed,
 * and what goes on (docs/failure.md). */
#include "tests/unit/worker_script.h"

static const struct msg_failed *failed_nth(const struct fake *f, size_t n)
{
    return &fake_nth(f, MSG_FAILED, n)->failed.results[0];
}

/* ------------------------------------------------------------------- lost processes */

static void a_lost_process_fails_only_its_running_task(void **state)
{
    struct fake *f = *state;
    fake_start_busy(f, 1, 100);
    fake_finish(f, 1, 5, 100000);
    fake_forget(f);
    assert_true(fake_given(f, 1) > 1);
    fake_gone(f, 1, true, 11, 0, NULL);
    fake_settle(f);
    assert_int_equal(fake_sent(f, MSG_FAILED), 1);
    const struct msg_failed *failed = failed_nth(f, 0);
    assert_int_equal(failed->index, 5);
    assert_int_equal(failed->attempt, 1);
    assert_int_equal(failed->code, FARPOOL_EPROCESSLOST);
    assert_int_equal(failed->signal, 11);
    assert_int_equal(failed->exit_status, -1);
    assert_int_equal(failed->pid, 1001);
    assert_string_equal(failed->node, "n1");
    assert_non_null(strstr(failed->message, "signal 11"));
    /* Replaced at once, and it goes on with the next task. */
    fake_ready_all(f);
    assert_int_equal(f->processes[2].ranges[0].first, 6);
    assert_int_equal(f->processes[2].ranges[0].attempt, 1);
    assert_int_equal(fake_counts(f).held, 94);
    fake_gone(f, 2, true, 0, 0, "it said why");
    fake_settle(f);
    failed = failed_nth(f, 1);
    assert_int_equal(failed->exit_status, 3);
    assert_int_equal(failed->signal, 0);
    assert_string_equal(failed->message, "it said why");
    fake_ready_all(f);
    fake_gone(f, 3, true, 0, 0, NULL);
    fake_settle(f);
    assert_non_null(strstr(failed_nth(f, 2)->message, "exit status 3"));
}

static void an_error_of_the_function_is_passed_on(void **state)
{
    struct fake *f = *state;
    fake_start(f, 1);
    fake_tasks(f, 1, 1, 7, 1);
    fake_settle(f);
    fake_failed(f, 1, FARPOOL_EFUNCTION, "no such key");
    fake_settle(f);
    const struct msg_failed *failed = failed_nth(f, 0);
    assert_int_equal(failed->index, 7);
    assert_int_equal(failed->code, FARPOOL_EFUNCTION);
    assert_string_equal(failed->message, "no such key");
    assert_string_equal(failed->backtrace, "frame 0\nframe 1");
}

static void deaths_before_a_task_begins_do_not_repeat_for_ever(void **state)
{
    struct fake *f = *state;
    fake_start_busy(f, 1, 1);
    for (uint64_t n = 1; n <= 3; n++) {
        assert_int_equal(fake_sent(f, MSG_FAILED), 0);
        fake_gone(f, n, false, 9, 0, NULL);
        fake_ready_all(f);
    }
    assert_int_equal(failed_nth(f, 0)->code, FARPOOL_EPROCESSLOST);
    assert_int_equal(fake_counts(f).held, 0);
}

static void an_idle_process_that_ends_is_replaced_when_tasks_come(void **state)
{
    struct fake *f = *state;
    fake_start(f, 1);
    fake_gone(f, 1, false, 9, 0, NULL);
    fake_settle(f);
    assert_int_equal(fake_alive(f), 0);
    fake_tasks(f, 1, 1, 0, 1);
    fake_ready_all(f);
    assert_int_equal(fake_given(f, 2), 1);
}

static void an_output_over_the_limit_fails_its_task(void **state)
{
    struct fake *f = *state;
    fake_start_busy(f, 1, 1);
    fake_done(f, 1, 1, 1000, (1 << 20) + 1);
    fake_settle(f);
    assert_int_equal(failed_nth(f, 0)->code, FARPOOL_ETOOBIG);
    assert_non_null(strstr(failed_nth(f, 0)->message, "1048576"));
}

/* ------------------------------------------------------------------------- timeouts */

static void job_with_timeout(struct fake *f, uint64_t timeout_ms, uint32_t chunk,
                             bool once)
{
    struct message *open = fake_job_open(1, 2);
    open->job_open.timeout_ms = timeout_ms;
    open->job_open.chunk = chunk;
    open->job_open.once = once;
    fake_message(f, open);
}

static void a_task_over_its_limit_is_killed_and_blamed(void **state)
{
    struct fake *f = *state;
    fake_start(f, 1);
    job_with_timeout(f, 100, 3, false);
    fake_tasks(f, 1, 2, 0, 3);
    fake_settle(f);
    f->now += 50;
    fake_finish(f, 1, 1, 50000000);
    /* The second task began at 50: looked at 101, killed at 151, and not at 150, when it
     * may have begun 99.1 ms before. */
    assert_true(worker_core_deadline(f->core) <= f->now + 51);
    fake_pass(f, 51);
    assert_int_equal(fake_logged(f, WORKER_PROCESS_SAMPLE), 1);
    assert_int_equal(fake_logged(f, WORKER_PROCESS_KILL), 0);
    assert_int_equal(worker_core_deadline(f->core), f->now + 50);
    fake_pass(f, 49);
    assert_int_equal(fake_logged(f, WORKER_PROCESS_KILL), 0);
    fake_pass(f, 1);
    assert_int_equal(fake_logged(f, WORKER_PROCESS_KILL), 1);
    fake_reap(f);
    const struct msg_failed *failed = failed_nth(f, 0);
    assert_int_equal(failed->index, 1);
    assert_int_equal(failed->code, FARPOOL_ETASKTIMEOUT);
    assert_non_null(strstr(failed->message, "100 ms"));
    assert_non_null(strstr(failed->message, "n1"));
    fake_ready_all(f);
    assert_int_equal(f->processes[2].ranges[0].first, 2);
}

/* The late task ends just before the kill arrives: the next one is in the process then.
 */
static void another_task_is_not_blamed_for_a_timeout(void **state)
{
    for (int once = 0; once <= 1; once++) {
        struct fake *f = *state;
        fake_start(f, 1);
        job_with_timeout(f, 100, 0, once);
        fake_tasks(f, 1, 2, 0, 20);
        fake_settle(f);
        fake_finish(f, 1, 4, 100000);
        const uint64_t late = f->processes[1].ranges[0].first;
        fake_pass(f, 101);
        assert_int_equal(fake_logged(f, WORKER_PROCESS_KILL), 1);
        fake_done(f, 1, 1, 100000, 0); /* ended after all */
        const uint64_t next = f->processes[1].ranges[0].first;
        assert_int_equal(next, late + 1);
        fake_forget(f);
        fake_reap(f);
        if (once) { /* it may have begun, so it must not run again */
            assert_int_equal(failed_nth(f, 0)->index, next);
            assert_int_equal(failed_nth(f, 0)->code, FARPOOL_EPROCESSLOST);
        } else {
            assert_int_equal(fake_sent(f, MSG_FAILED), 0);
            fake_ready_all(f);
            assert_int_equal(f->processes[2].ranges[0].first, next);
            assert_int_equal(f->processes[2].ranges[0].attempt, 1);
        }
        fake_destroy(f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FAKE_TEST(a_lost_process_fails_only_its_running_task),
        FAKE_TEST(an_error_of_the_function_is_passed_on),
        FAKE_TEST(deaths_before_a_task_begins_do_not_repeat_for_ever),
        FAKE_TEST(an_idle_process_that_ends_is_replaced_when_tasks_come),
        FAKE_TEST(an_output_over_the_limit_fails_its_task),
        FAKE_TEST(a_task_over_its_limit_is_killed_and_blamed),
        FAKE_TEST(another_task_is_not_blamed_for_a_timeout),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
