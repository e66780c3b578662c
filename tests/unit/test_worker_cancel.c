/* SPDX-License-Identifier: Apache-2.0
 *
 * test_worker_cancel.c: tasks that are cancelled, with and without kill, and tasks that
 * are recalled (docs/failure.md). */
#include "test_worker_fake.h"

static struct fake fake;

/* ------------------------------------------------------------------------ cancelling */

static void grow(struct fake *f, uint64_t process, uint64_t task_ns)
{
    for (int i = 0; i < 5; i++) {
        fake_done(f, process, 1, task_ns, 0);
        fake_settle(f);
    }
}

static void cancel_drops_takes_back_and_marks(void **state)
{
    (void)state;
    struct fake *f = &fake;
    fake_start(f, 1);
    fake_tasks(f, 1, 1, 0, 100);
    fake_settle(f);
    grow(f, 1, 100000);
    fake_forget(f);
    assert_true(fake_given(f, 1) > 1);
    fake_cancel(f, 1, 1, 0, 100, false);
    fake_settle(f);
    assert_int_equal(fake_given(f, 1), 1);
    assert_true(f->processes[1].marked);
    assert_int_equal(fake_counts(f).held, 0);
    fake_done(f, 1, 1, 100000, 0);
    fake_settle(f);
    assert_int_equal(fake_sent(f, MSG_DONE), 0); /* nobody wants it */
    assert_int_equal(fake_sent(f, MSG_RETURNED), 0);
    assert_int_equal(fake_logged(f, WORKER_PROCESS_KILL), 0);
    fake_destroy(f);
}

static void cancel_with_kill_kills_only_what_is_cancelled(void **state)
{
    (void)state;
    struct fake *f = &fake;
    fake_start(f, 2);
    fake_tasks(f, 1, 1, 0, 100);
    fake_settle(f);
    grow(f, 1, 100000);
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
    fake_destroy(f);
}

static void what_was_marked_may_be_killed_later(void **state)
{
    (void)state;
    struct fake *f = &fake;
    fake_start(f, 1);
    fake_tasks(f, 1, 1, 0, 1);
    fake_settle(f);
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
    fake_destroy(f);
}

/* A cancelled task behind the running one, which the process has claimed already. */
static void a_doomed_task_is_killed_when_it_begins(void **state)
{
    (void)state;
    struct fake *f = &fake;
    fake_start(f, 1);
    struct message *open = fake_job_open(1, 2);
    open->job_open.chunk = 4;
    fake_message(f, open);
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
    fake_done(f, 1, 1, 1000, 0);
    fake_settle(f);
    assert_int_equal(fake_logged(f, WORKER_PROCESS_KILL), 1);
    fake_forget(f);
    fake_reap(f);
    fake_ready_all(f);
    assert_int_equal(fake_sent(f, MSG_FAILED), 0);
    assert_int_equal(f->processes[2].ranges[0].first, 2);
    fake_destroy(f);
}

/* The host reports ranges of a give; a part in the middle was cancelled meanwhile. */
static void a_report_may_reach_over_a_cancelled_part(void **state)
{
    (void)state;
    struct fake *f = &fake;
    fake_start(f, 1);
    struct message *open = fake_job_open(1, 2);
    open->job_open.chunk = 10;
    fake_message(f, open);
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
    fake_destroy(f);
}

static void a_closed_job_is_forgotten_with_its_last_task(void **state)
{
    (void)state;
    struct fake *f = &fake;
    fake_start(f, 1);
    fake_tasks(f, 1, 1, 0, 5);
    fake_settle(f);
    struct message *close = message_create(MSG_JOB_CLOSE);
    close->job_close.pool = fake_id(1);
    close->job_close.job = 1;
    fake_message(f, close);
    fake_settle(f);
    assert_true(f->processes[1].marked);
    fake_message(f, fake_job_open(1, 1)); /* the number may come again */
    fake_tasks(f, 1, 1, 0, 2);
    fake_settle(f);
    fake_forget(f);
    fake_done(f, 1, 1, 1000, 0);
    fake_settle(f);
    assert_int_equal(fake_sent(f, MSG_DONE), 0);
    fake_done(f, 1, 1, 1000, 0);
    fake_settle(f);
    assert_int_equal(fake_sent(f, MSG_DONE), 1);
    fake_destroy(f);
}

/* ---------------------------------------------------------------------------- recall */

static void recall_gives_back_the_last_tasks(void **state)
{
    (void)state;
    struct fake *f = &fake;
    fake_start(f, 1);
    fake_tasks(f, 1, 1, 0, 100);
    fake_settle(f);
    fake_recall(f, 1, 1, 30);
    fake_settle(f);
    const struct message *returned = fake_nth(f, MSG_RETURNED, 0);
    assert_int_equal(returned->returned.ranges_count, 1);
    assert_int_equal(returned->returned.ranges[0].first, 70);
    assert_int_equal(returned->returned.ranges[0].count, 30);
    assert_int_equal(fake_counts(f).held, 70);
    fake_destroy(f);
}

static void recall_takes_back_from_processes(void **state)
{
    (void)state;
    struct fake *f = &fake;
    fake_start(f, 1);
    fake_tasks(f, 1, 1, 0, 100);
    fake_settle(f);
    grow(f, 1, 50000);
    while (fake_counts(f).held > fake_given(f, 1)) {
        fake_done(f, 1, 1, 10000, 0);
        fake_settle(f);
    }
    const uint64_t given = fake_given(f, 1);
    assert_true(given > 1); /* all that is left is with the process */
    fake_forget(f);
    fake_recall(f, 1, 1, 1000);
    fake_settle(f);
    assert_int_equal(fake_sent(f, MSG_RETURNED), 1);
    assert_int_equal(fake_ranges(f, MSG_RETURNED), given - 1);
    assert_int_equal(fake_counts(f).held, 1);
    fake_destroy(f);
}

static void each_recall_has_one_answer(void **state)
{
    (void)state;
    struct fake *f = &fake;
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
    struct message *close = message_create(MSG_JOB_CLOSE);
    close->job_close.pool = fake_id(1);
    close->job_close.job = 1;
    fake_message(f, close);
    fake_settle(f);
    assert_int_equal(fake_sent(f, MSG_RETURNED), 7);
    fake_destroy(f);
}

static void recall_does_not_cut_chunks(void **state)
{
    (void)state;
    struct fake *f = &fake;
    fake_start(f, 1);
    struct message *open = fake_job_open(1, 2);
    open->job_open.chunk = 10;
    fake_message(f, open);
    fake_tasks(f, 1, 2, 0, 100);
    fake_settle(f);
    fake_recall(f, 1, 2, 25);
    fake_settle(f);
    assert_int_equal(fake_nth(f, MSG_RETURNED, 0)->returned.ranges[0].first, 80);
    fake_recall(f, 1, 2, 5);
    fake_settle(f);
    assert_int_equal(fake_nth(f, MSG_RETURNED, 1)->returned.ranges_count, 0);
    fake_destroy(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cancel_drops_takes_back_and_marks),
        cmocka_unit_test(cancel_with_kill_kills_only_what_is_cancelled),
        cmocka_unit_test(what_was_marked_may_be_killed_later),
        cmocka_unit_test(a_doomed_task_is_killed_when_it_begins),
        cmocka_unit_test(a_report_may_reach_over_a_cancelled_part),
        cmocka_unit_test(a_closed_job_is_forgotten_with_its_last_task),
        cmocka_unit_test(recall_gives_back_the_last_tasks),
        cmocka_unit_test(recall_takes_back_from_processes),
        cmocka_unit_test(each_recall_has_one_answer),
        cmocka_unit_test(recall_does_not_cut_chunks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
