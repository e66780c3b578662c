/* SPDX-License-Identifier: Apache-2.0
 *
 * test_worker_cancel.c: tasks that are cancelled, with and without kill, and tasks that
 * are recalled (docs/failure.md). */
#include "tests/unit/worker_script.h"

/* ------------------------------------------------------------------------ cancelling */

static void cancel_drops_takes_back_and_marks(void **state)
{
    struct fake *f = *state;
    fake_start_busy(f, 1, 100);
    fake_finish(f, 1, 5, 100000);
    fake_forget(f);
    assert_true(fake_given(f, 1) > 1);
    fake_cancel(f, 1, 1, 0, 100, false);
    fake_settle(f);
    assert_int_equal(fake_given(f, 1), 1);
    assert_true(f->processes[1].marked);
    assert_int_equal(fake_counts(f).held, 0);
    fake_finish(f, 1, 1, 100000);
    assert_int_equal(fake_sent(f, MSG_DONE), 0); /* nobody wants it */
    assert_int_equal(fake_sent(f, MSG_RETURNED), 0);
    assert_int_equal(fake_logged(f, WORKER_PROCESS_KILL), 0);
}

static void cancel_with_kill_kills_only_what_is_cancelled(void **state)
{
    struct fake *f = *state;
    fake_start_busy(f, 2, 100);
    fake_finish(f, 1, 5, 100000);
    const uint64_t victim = f->processes[1].ranges[0].first;
    fake_forget(f);
    fake_cancel(f, 1, 1, victim, 1, true);
    fake_settle(f);
    assert_int_equal(fake_logged(f, WORKER_PROCESS_KILL), 1);
    assert_int_equal(fake_effect(f, WORKER_PROCESS_KILL, 0)->process, 1);
    const uint64_t held = fake_counts(f).held;
    fake_reap(f);
    assert_int_equal(fake_sent(f, MSG_FAILED), 0);
    assert_int_equal(fake_counts(f).held, held); /* the others go on */
}

static void what_was_marked_may_be_killed_later(void **state)
{
    struct fake *f = *state;
    fake_start_busy(f, 1, 1);
    fake_cancel(f, 1, 1, 0, 5, false);
    fake_settle(f);
    assert_true(f->processes[1].marked);
    assert_int_equal(fake_logged(f, WORKER_PROCESS_KILL), 0);
    fake_cancel(f, 1, 1, 1, 5, true); /* another one */
    fake_settle(f);
    assert_int_equal(fake_logged(f, WORKER_PROCESS_KILL), 0);
    fake_cancel(f, 1, 1, 0, 5, true);
    fake_settle(f);
    assert_int_equal(fake_logged(f, WORKER_PROCESS_KILL), 1);
    fake_reap(f);
    assert_int_equal(fake_sent(f, MSG_FAILED), 0);
}

/* A cancelled task behind the running one, which the process has claimed already. */
static void a_doomed_task_is_killed_when_it_begins(void **state)
{
    struct fake *f = *state;
    fake_start(f, 1);
    fake_job_chunked(f, 1, 2, 4);
    fake_tasks(f, 1, 2, 0, 4);
    fake_settle(f);
    assert_int_equal(fake_given(f, 1), 4);
    struct worker_event none = {.kind = WORKER_PROCESS_TAKEN, .process = 1};
    fake_cancel(f, 1, 2, 1, 1, true);
    fake_event(f, WORKER_FLUSH);
    assert_true(f->processes[1].asked_back); /* all are claimed: nothing comes back */
    f->processes[1].asked_back = false;
    fake_step(f, &none);
    fake_settle(f);
    assert_int_equal(fake_logged(f, WORKER_PROCESS_KILL), 0);
    assert_true(worker_core_deadline(f->core) <= f->now + 10);
    fake_finish(f, 1, 1, 1000);
    assert_int_equal(fake_logged(f, WORKER_PROCESS_KILL), 1);
    fake_forget(f);
    fake_reap(f);
    fake_ready_all(f);
    assert_int_equal(fake_sent(f, MSG_FAILED), 0);
    assert_int_equal(f->processes[2].ranges[0].first, 2);
}

/* The host reports ranges of a give; a part in the middle was cancelled meanwhile. */
static void a_report_may_reach_over_a_cancelled_part(void **state)
{
    struct fake *f = *state;
    fake_start(f, 1);
    fake_job_chunked(f, 1, 2, 10);
    fake_tasks(f, 1, 2, 0, 10);
    fake_settle(f);
    fake_cancel(f, 1, 2, 3, 2, false);
    fake_forget(f);
    struct worker_event event = {.kind = WORKER_PROCESS_DONE,
                                 .process = 1,
                                 .give = 1,
                                 .count = 8,
                                 .elapsed_ns = 800,
                                 .data = payload_create(8)};
    for (uint8_t i = 0; i < 8; i++)
        payload_bytes(event.data)[i] = i;
    fake_step(f, &event);
    struct worker_event taken = {
        .kind = WORKER_PROCESS_TAKEN, .process = 1, .give = 1, .first = 8, .count = 2};
    fake_step(f, &taken);
    f->processes[1].ranges_count = 0;
    fake_event(f, WORKER_FLUSH);
    const struct message *done = fake_nth(f, MSG_DONE, 0);
    assert_int_equal(done->done.results_count, 2);
    assert_int_equal(done->done.results[0].first, 0);
    assert_int_equal(done->done.results[0].count, 3);
    assert_int_equal(done->done.results[1].first, 5);
    assert_int_equal(done->done.results[1].count, 3);
    assert_int_equal(done->done.results[1].data->size, 3);
    assert_int_equal(done->done.results[1].data->data[0], 5);
    assert_int_equal(fake_counts(f).held, 2); /* 8 and 9, given again */
}

static void a_closed_job_is_forgotten_with_its_last_task(void **state)
{
    struct fake *f = *state;
    fake_start_busy(f, 1, 5);
    fake_close_job(f, 1, 1);
    fake_settle(f);
    assert_true(f->processes[1].marked);
    fake_message(f, fake_job_open(1, 1)); /* the number may come again */
    fake_tasks(f, 1, 1, 0, 2);
    fake_settle(f);
    fake_forget(f);
    fake_finish(f, 1, 1, 1000);
    assert_int_equal(fake_sent(f, MSG_DONE), 0);
    fake_finish(f, 1, 1, 1000);
    assert_int_equal(fake_sent(f, MSG_DONE), 1);
}

/* ---------------------------------------------------------------------------- recall */

static void recall_gives_back_the_last_tasks(void **state)
{
    struct fake *f = *state;
    fake_start_busy(f, 1, 100);
    fake_recall(f, 1, 1, 30);
    fake_settle(f);
    const struct message *returned = fake_nth(f, MSG_RETURNED, 0);
    assert_int_equal(returned->returned.ranges_count, 1);
    assert_int_equal(returned->returned.ranges[0].first, 70);
    assert_int_equal(returned->returned.ranges[0].count, 30);
    assert_int_equal(fake_counts(f).held, 70);
}

static void recall_takes_back_from_processes(void **state)
{
    struct fake *f = *state;
    fake_start_busy(f, 1, 100);
    fake_finish(f, 1, 5, 50000);
    while (fake_counts(f).held > fake_given(f, 1)) {
        fake_finish(f, 1, 1, 10000);
    }
    const uint64_t given = fake_given(f, 1);
    assert_true(given > 1); /* all that is left is with the process */
    fake_forget(f);
    /* However many are asked for, half of what has not begun; in the end it has one. */
    fake_recall(f, 1, 1, 1000);
    fake_settle(f);
    assert_int_equal(fake_sent(f, MSG_RETURNED), 1);
    assert_int_equal(fake_ranges(f, MSG_RETURNED), given / 2);
    for (uint64_t held = given - given / 2; held > 1; held -= held / 2) {
        assert_int_equal(fake_counts(f).held, held);
        fake_recall(f, 1, 1, 1000);
        fake_settle(f);
    }
    assert_int_equal(fake_counts(f).held, 1);
}

static void each_recall_has_one_answer(void **state)
{
    struct fake *f = *state;
    fake_start(f, 1);
    fake_recall(f, 9, 1, 5); /* no such pool */
    fake_recall(f, 1, 9, 5); /* no such job */
    fake_recall(f, 1, 1, 5); /* no task */
    fake_settle(f);
    assert_int_equal(fake_sent(f, MSG_RETURNED), 3);
    fake_tasks(f, 1, 1, 0, 3);
    fake_settle(f);
    fake_recall(f, 1, 1, 1);
    fake_recall(f, 1, 1, 1); /* before the first is answered */
    fake_recall(f, 1, 1, 0);
    fake_settle(f);
    assert_int_equal(fake_sent(f, MSG_RETURNED), 6);
    assert_int_equal(fake_ranges(f, MSG_RETURNED), 1);
    /* Also when the job ends first. */
    fake_recall(f, 1, 1, 1);
    fake_close_job(f, 1, 1);
    fake_settle(f);
    assert_int_equal(fake_sent(f, MSG_RETURNED), 7);
}

static void recall_does_not_cut_chunks(void **state)
{
    struct fake *f = *state;
    fake_start(f, 1);
    fake_job_chunked(f, 1, 2, 10);
    fake_tasks(f, 1, 2, 0, 100);
    fake_settle(f);
    fake_recall(f, 1, 2, 25);
    fake_settle(f);
    assert_int_equal(fake_nth(f, MSG_RETURNED, 0)->returned.ranges[0].first, 80);
    fake_recall(f, 1, 2, 5);
    fake_settle(f);
    assert_int_equal(fake_nth(f, MSG_RETURNED, 1)->returned.ranges_count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FAKE_TEST(cancel_drops_takes_back_and_marks),
        FAKE_TEST(cancel_with_kill_kills_only_what_is_cancelled),
        FAKE_TEST(what_was_marked_may_be_killed_later),
        FAKE_TEST(a_doomed_task_is_killed_when_it_begins),
        FAKE_TEST(a_report_may_reach_over_a_cancelled_part),
        FAKE_TEST(a_closed_job_is_forgotten_with_its_last_task),
        FAKE_TEST(recall_gives_back_the_last_tasks),
        FAKE_TEST(recall_takes_back_from_processes),
        FAKE_TEST(each_recall_has_one_answer),
        FAKE_TEST(recall_does_not_cut_chunks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
