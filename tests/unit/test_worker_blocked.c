/* SPDX-License-Identifier: Apache-2.0
 *
 * test_worker_blocked.c: tasks that wait for jobs of their own hold neither a slot nor
 * what is behind them: docs/scheduling.md. */
#include "tests/unit/worker_script.h"

static void a_blocked_task_frees_its_slot_and_what_is_behind_it(void **state)
{
    struct fake *f = *state;
    fake_start_busy(f, 1, 50);
    fake_finish(f, 1, 5, 100000);
    assert_true(fake_given(f, 1) > 1);
    fake_blocked(f, 1, true);
    fake_settle(f);
    assert_int_equal(fake_given(f, 1), 1);
    fake_ready_all(f); /* one more process, though the share is 1 */
    assert_int_equal(fake_alive(f), 2);
    assert_true(fake_given(f, 2) > 0);
    /* Both run for a moment when it goes on; then the slot counts again. */
    fake_blocked(f, 1, false);
    fake_settle(f);
    assert_int_equal(fake_given(f, 2), 1);
    fake_finish(f, 2, 1, 100000);
    assert_int_equal(fake_running(f), 1);
}

static void nested_jobs_never_wait_for_a_process(void **state)
{
    struct fake *f = *state;
    fake_start(f, 2);
    uint64_t depth = 0;
    /* Every task opens a job of one task and waits for it, far beyond the bound. */
    fake_tasks(f, 1, 1, 0, 1);
    for (; depth < 100; depth++) {
        fake_ready_all(f);
        assert_int_equal(fake_running(f), depth + 1);
        for (uint64_t n = 1; n <= f->processes_max; n++)
            if (f->processes[n].ranges_count > 0 &&
                f->processes[n].ranges[0].job == depth + 1)
                fake_blocked(f, n, true);
        fake_message(f, fake_job_open(1, depth + 2));
        fake_tasks(f, 1, depth + 2, 0, 1);
    }
    fake_ready_all(f);
    for (uint64_t n = 1; n <= f->processes_max; n++)
        if (f->processes[n].ranges_count > 0) {
            fake_blocked(f, n, false);
            fake_finish(f, n, 1, 1000);
        }
    assert_int_equal(fake_counts(f).held, 0);
}

static void the_youngest_job_runs_first_while_tasks_are_blocked(void **state)
{
    struct fake *f = *state;
    fake_start_busy(f, 1, 100);
    fake_blocked(f, 1, true);
    fake_message(f, fake_job_open(1, 2));
    fake_tasks(f, 1, 2, 0, 3);
    fake_ready_all(f);
    assert_int_equal(f->processes[2].ranges[0].job, 2);
}

static void what_a_process_says_of_blocking_is_taken_as_it_comes(void **state)
{
    struct fake *f = *state;
    fake_start(f, 1);
    fake_blocked(f, 1, false);
    fake_blocked(f, 1, true); /* idle: nothing to block */
    fake_tasks(f, 1, 1, 0, 1);
    fake_settle(f);
    fake_blocked(f, 1, true);
    fake_blocked(f, 1, true);
    fake_done(f, 1, 1, 1000, 0); /* ended while blocked, it says */
    fake_blocked(f, 1, false);
    fake_settle(f);
    assert_int_equal(fake_counts(f).running, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FAKE_TEST(a_blocked_task_frees_its_slot_and_what_is_behind_it),
        FAKE_TEST(nested_jobs_never_wait_for_a_process),
        FAKE_TEST(the_youngest_job_runs_first_while_tasks_are_blocked),
        FAKE_TEST(what_a_process_says_of_blocking_is_taken_as_it_comes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
