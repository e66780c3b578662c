/* SPDX-License-Identifier: Apache-2.0
 *
 * test_worker_link.c: coordinators that go, come back or are replaced; results until
 * their ACK; LOAD (docs/failure.md). */
#include "tests/unit/worker_script.h"

/* --------------------------------------------------------------- links, coordinators */

static void everything_is_kept_while_the_link_is_down(void **state)
{
    struct fake *f = *state;
    fake_start_busy(f, 1, 10);
    fake_event(f, WORKER_LINK_DOWN);
    fake_finish(f, 1, 5, 1000000);
    assert_int_equal(fake_sent(f, MSG_DONE), 0);
    assert_int_equal(fake_counts(f).unacked, 5);
    fake_welcome(f, 2, 0);
    fake_settle(f);
    assert_int_equal(fake_ranges(f, MSG_HELD), 5);
    assert_int_equal(fake_nth(f, MSG_HELD, 0)->held.ranges[0].attempt, 1);
    assert_int_equal(fake_nth(f, MSG_DONE, 0)->done.results_count, 5);
    assert_true(id_equal(&fake_nth(f, MSG_HELLO_WORKER, 0)->hello_worker.previous,
                         &(struct id){{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}}));
}

static void another_coordinator_gets_unacked_results_again(void **state)
{
    struct fake *f = *state;
    fake_start_busy(f, 1, 3);
    fake_finish(f, 1, 3, 10000000);
    fake_ack(f, 1, 1, 1); /* the second one */
    fake_forget(f);
    fake_event(f, WORKER_LINK_DOWN);
    fake_welcome(f, 2, 0);
    fake_settle(f);
    const struct message *done = fake_nth(f, MSG_DONE, 0);
    assert_int_equal(done->done.results_count, 2);
    assert_int_equal(done->done.results[0].seq, 0);
    assert_int_equal(done->done.results[1].seq, 2);
    assert_int_equal(fake_sent(f, MSG_HELD), 1); /* the pool itself */
    assert_int_equal(fake_ranges(f, MSG_HELD), 0);
}

/* What came first would be of a pool that the coordinator has not heard of. */
static void held_is_told_first_also_when_memory_runs_out(void **state)
{
    struct fake *f = *state;
    fake_start_busy(f, 1, 10);
    fake_finish(f, 1, 5, 1000000);
    for (uint8_t i = 1; i <= 20; i++) {
        fake_event(f, WORKER_LINK_DOWN);
        fake_forget(f);
        fake_welcome(f, i + 1, 0);
        f->fail_at = i;
        fake_settle(f);
        f->fail_at = 0;
        fake_settle(f);
        assert_int_equal(f->sent[0]->kind, MSG_HELLO_WORKER);
        assert_int_equal(f->sent[1]->kind, MSG_HELD);
        assert_true(fake_sent(f, MSG_DONE) > 0);
    }
}

static void the_same_coordinator_had_given_this_worker_up(void **state)
{
    struct fake *f = *state;
    fake_start_busy(f, 2, 10);
    fake_finish(f, 1, 1, 1000);
    fake_event(f, WORKER_LINK_DOWN);
    fake_forget(f);
    fake_welcome(f, 1, 0);
    fake_settle(f);
    assert_int_equal(fake_logged(f, WORKER_PROCESS_KILL), 2);
    assert_int_equal(fake_sent(f, MSG_HELD) + fake_sent(f, MSG_DONE), 0);
    assert_int_equal(fake_counts(f).held + fake_counts(f).unacked, 0);
    /* The pool may come back before its old processes have ended. */
    fake_message(f, fake_pool_open(1, 0));
    fake_reap(f);
    fake_ready_all(f);
    assert_int_equal(fake_sent(f, MSG_POOL_CLOSED), 0);
    assert_int_equal(fake_alive(f), 2);
    assert_int_equal(fake_counts(f).pools, 1);
}

static void cut_off_for_too_long(void **state)
{
    struct fake *f = *state;
    fake_create(f, 2);
    f->config.orphan_after_ms = 30000;
    fake_run(f);
    fake_welcome(f, 1, 0);
    fake_message(f, fake_pool_open(1, 0));
    fake_program(f, WORKER_PROGRAM_READY);
    fake_ready_all(f);
    fake_message(f, fake_job_open(1, 1));
    fake_tasks(f, 1, 1, 0, 10);
    fake_settle(f);
    f->now += 200;
    fake_finish(f, 1, 1, 10000000);
    const uint64_t heard = f->now;
    struct message *message = message_create(MSG_HEARTBEAT);
    fake_message(f, message);
    f->now += 4000;
    fake_event(f, WORKER_LINK_DOWN);
    fake_settle(f);
    /* It goes on with what it has, and a link that nobody answers on changes nothing. */
    fake_finish(f, 2, 1, 10000000);
    fake_event(f, WORKER_LINK_UP);
    fake_settle(f);
    f->now = heard + 29999;
    fake_settle(f);
    fake_event(f, WORKER_LINK_DOWN);
    assert_int_equal(fake_logged(f, WORKER_ORPHANED), 0);
    assert_int_equal(fake_counts(f).held, 8);
    assert_true(worker_core_deadline(f->core) <= heard + 30000);
    f->now = heard + 30000;
    fake_settle(f);
    assert_int_equal(fake_logged(f, WORKER_ORPHANED), 1);
    assert_string_equal(fake_effect(f, WORKER_ORPHANED, 0)->text,
                        "cut-off-ms=30000 tasks=8 results=2 processes=2");
    assert_int_equal(fake_logged(f, WORKER_PROCESS_KILL), 2);
    assert_int_equal(fake_counts(f).held + fake_counts(f).unacked, 0);
    fake_reap(f);
    fake_settle(f);
    assert_int_equal(fake_counts(f).processes + fake_counts(f).pools, 0);
    assert_true(worker_core_deadline(f->core) == UINT64_MAX); /* once is enough */
    /* The next coordinator, the same or not, is told that nothing is here; and no number
     * of a result comes again, as an ACK for it may be on its way. */
    fake_forget(f);
    fake_welcome(f, 1, 0);
    fake_settle(f);
    assert_true(id_is_zero(&fake_nth(f, MSG_HELLO_WORKER, 0)->hello_worker.previous));
    assert_int_equal(fake_sent(f, MSG_HELD) + fake_sent(f, MSG_DONE), 0);
    fake_message(f, fake_pool_open(1, 0));
    fake_program(f, WORKER_PROGRAM_READY);
    fake_ready_all(f);
    fake_message(f, fake_job_open(1, 1));
    fake_tasks(f, 1, 1, 0, 1);
    fake_settle(f);
    fake_finish(f, fake_given(f, 3) > 0 ? 3 : 4, 1, 10000000);
    fake_pass(f, 1000);
    assert_int_equal(fake_nth(f, MSG_DONE, 0)->done.results[0].seq, 2);
}

/* A daemon that was stopped (SIGSTOP) for hours, and did nothing meanwhile. */
static void cut_off_while_it_was_stopped(void **state)
{
    struct fake *f = *state;
    fake_create(f, 1);
    f->config.orphan_after_ms = 3600000;
    fake_run(f);
    fake_welcome(f, 1, 0);
    fake_message(f, fake_pool_open(1, 0));
    fake_program(f, WORKER_PROGRAM_READY);
    fake_ready_all(f);
    f->now += 7200000;
    fake_settle(f); /* the link is silent, and has been for longer than that */
    assert_int_equal(fake_logged(f, WORKER_RELINK), 1);
    assert_int_equal(fake_logged(f, WORKER_ORPHANED), 1);
    assert_int_equal(fake_logged(f, WORKER_PROCESS_KILL), 1);
}

static void cut_off_for_ever_with_no_limit(void **state)
{
    struct fake *f = *state;
    fake_start_busy(f, 1, 10);
    fake_event(f, WORKER_LINK_DOWN);
    f->now += UINT64_C(1) << 40;
    fake_settle(f);
    assert_int_equal(fake_logged(f, WORKER_ORPHANED), 0);
    assert_int_equal(fake_counts(f).held, 10);
}

static void held_and_finished_tasks_that_come_again(void **state)
{
    struct fake *f = *state;
    fake_start_busy(f, 1, 10);
    fake_finish(f, 1, 4, 10000000);
    fake_forget(f);
    fake_tasks(f, 1, 1, 2, 10); /* 2, 3 finished; 4 runs; 5 to 9 queued; 10, 11 new */
    fake_settle(f);
    assert_int_equal(fake_counts(f).held, 8);
    const struct message *done = fake_nth(f, MSG_DONE, 0);
    assert_int_equal(done->done.results_count, 2);
    assert_int_equal(done->done.results[0].first, 2);
    assert_int_equal(done->done.results[1].first, 3);
    assert_int_equal(fake_given(f, 1), 1);
    /* A higher attempt replaces what is held, and what runs is dropped. */
    fake_message(f, fake_tasks_message(1, 1, 3, 3, 2));
    fake_settle(f);
    assert_int_equal(fake_counts(f).held, 9); /* 3 again; 4 and 5 replaced */
    fake_forget(f);
    fake_finish(f, 1, 1, 10000000); /* 4, the first attempt */
    assert_int_equal(fake_sent(f, MSG_DONE), 0);
    assert_int_equal(f->processes[1].ranges[0].first, 3);
    assert_int_equal(f->processes[1].ranges[0].attempt, 2);
    /* A lower one is stale. */
    fake_message(f, fake_tasks_message(1, 1, 3, 3, 1));
    fake_settle(f);
    assert_int_equal(fake_counts(f).held, 9);
}

static void a_silent_coordinator_is_dropped_and_heartbeats_go_out(void **state)
{
    struct fake *f = *state;
    fake_start(f, 1);
    for (int i = 0; i < 4; i++) {
        f->now = worker_core_deadline(f->core);
        fake_settle(f);
    }
    assert_true(fake_sent(f, MSG_HEARTBEAT) >= 3);
    assert_int_equal(fake_logged(f, WORKER_RELINK), 0);
    while (fake_logged(f, WORKER_RELINK) == 0) {
        assert_true(f->now < 1000 + 5001);
        f->now = worker_core_deadline(f->core);
        fake_settle(f);
    }
    assert_int_equal(f->now, 6000);
    assert_non_null(strstr(fake_effect(f, WORKER_RELINK, 0)->text, "silent"));
    assert_true(worker_core_deadline(f->core) == UINT64_MAX);
}

/* ... unless the worker has just sent something. */
static void a_heartbeat_is_answered(void **state)
{
    struct fake *f = *state;
    fake_start(f, 1);
    f->now += 100;
    fake_message(f, message_create(MSG_HEARTBEAT));
    fake_settle(f);
    assert_int_equal(fake_sent(f, MSG_HEARTBEAT), 0);
    f->now += 600;
    fake_message(f, message_create(MSG_HEARTBEAT));
    fake_settle(f);
    assert_int_equal(fake_sent(f, MSG_HEARTBEAT), 1);
    fake_settle(f);
    assert_int_equal(fake_sent(f, MSG_HEARTBEAT), 1);
}

static void refused(void **state)
{
    struct fake *f = *state;
    fake_create(f, 1);
    fake_run(f);
    fake_event(f, WORKER_LINK_UP);
    struct message *message = message_create(MSG_REFUSED);
    message->refused.code = FARPOOL_EWORKERLIMIT;
    snprintf(message->refused.text, sizeof message->refused.text, "no more than 7");
    fake_message(f, message);
    assert_non_null(strstr(fake_effect(f, WORKER_RELINK, 0)->text, "no more than 7"));
}

/* ----------------------------------------------------------------- the result window */

static void no_task_begins_while_results_are_over_the_window(void **state)
{
    struct fake *f = *state;
    fake_create(f, 1);
    fake_run(f);
    fake_welcome(f, 1, 100000);
    fake_message(f, fake_pool_open(1, 0));
    fake_program(f, WORKER_PROGRAM_READY);
    fake_ready_all(f);
    fake_message(f, fake_job_open(1, 1));
    fake_tasks(f, 1, 1, 0, 10);
    fake_settle(f);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(fake_given(f, 1), 1);
        fake_done(f, 1, 1, 10000000, 40000);
        fake_settle(f);
    }
    assert_int_equal(fake_given(f, 1), 0);
    assert_int_equal(fake_sent(f, MSG_DONE), 2); /* the third is over the window */
    fake_ack(f, 1, 0, 1);
    fake_settle(f);
    assert_int_equal(fake_sent(f, MSG_DONE), 3);
    assert_int_equal(fake_given(f, 1), 1);
    /* One that is larger than the whole window passes alone. */
    fake_ack(f, 1, 0, 3);
    fake_forget(f);
    fake_done(f, 1, 1, 10000000, 200000);
    fake_settle(f);
    assert_int_equal(fake_sent(f, MSG_DONE), 1);
    assert_int_equal(fake_given(f, 1), 0);
    fake_ack(f, 1, 0, UINT64_MAX);
    fake_ack(f, 1, 100, 1); /* nobody's */
    fake_ack(f, 9, 0, 1);
    fake_settle(f);
    assert_int_equal(fake_counts(f).unacked, 0);
    assert_int_equal(fake_given(f, 1), 1);
}

static void results_of_a_job_go_out_together(void **state)
{
    struct fake *f = *state;
    fake_start(f, 2);
    fake_message(f, fake_job_open(1, 2));
    fake_tasks(f, 1, 1, 0, 100);
    fake_tasks(f, 1, 2, 0, 100);
    fake_settle(f);
    for (int i = 0; i < 30; i++) {
        fake_done(f, 1, 1, 1000, 4);
        fake_done(f, 2, 1, 1000, 4);
        fake_event(f, WORKER_FLUSH);
    }
    fake_forget(f);
    uint64_t done = 0;
    for (int i = 0; i < 5; i++)
        for (uint64_t n = 1; n <= 2; n++)
            if (f->processes[n].ranges_count > 0) {
                fake_done(f, n, 1, 1000, 4);
                done++;
            }
    fake_settle(f);
    assert_true(done > 4 && fake_sent(f, MSG_DONE) <= 2);
}

/* ------------------------------------------------------------------------------- LOAD */

static void load_tells_running_and_progress(void **state)
{
    struct fake *f = *state;
    fake_start_busy(f, 2, 10);
    fake_pass(f, 200);
    const struct message *load = fake_nth(f, MSG_LOAD, 0);
    assert_int_equal(load->load.processes, 2);
    assert_int_equal(load->load.started, 2);
    assert_int_equal(load->load.jobs_count, 1);
    assert_int_equal(load->load.jobs[0].running, 2);
    f->processes[1].share_ppm = 250000;
    fake_forget(f);
    fake_pass(f, 100);
    assert_int_equal(fake_sent(f, MSG_LOAD), 0); /* not so soon */
    fake_pass(f, 100);
    assert_int_equal(fake_nth(f, MSG_LOAD, 0)->load.jobs[0].share_ppm, 250000);
    fake_forget(f);
    fake_pass(f, 200);
    assert_int_equal(fake_sent(f, MSG_LOAD), 0); /* nothing new */
    fake_cancel(f, 1, 1, 0, 10, false);
    fake_done(f, 1, 1, 1000, 0);
    fake_finish(f, 2, 1, 1000);
    fake_pass(f, 200);
    assert_int_equal(fake_nth(f, MSG_LOAD, 0)->load.jobs[0].running, 0);
    fake_forget(f);
    fake_pass(f, 1000);
    assert_int_equal(fake_sent(f, MSG_LOAD), 0);
}

static void blocked_tasks_are_told_at_once(void **state)
{
    struct fake *f = *state;
    fake_start_busy(f, 2, 10);
    fake_pass(f, 200);
    fake_forget(f);
    fake_blocked(f, 1, true);
    fake_settle(f);
    assert_int_equal(fake_sent(f, MSG_LOAD), 1);
    assert_int_equal(fake_nth(f, MSG_LOAD, 0)->load.jobs[0].blocked, 1);
    assert_int_equal(fake_nth(f, MSG_LOAD, 0)->load.jobs[0].running, 2);
    /* Also when the process ends in it. */
    fake_gone(f, 1, true, 9, 0, NULL);
    fake_settle(f);
    fake_pass(f, 200);
    const struct message *load = fake_nth(f, MSG_LOAD, fake_sent(f, MSG_LOAD) - 1);
    assert_int_equal(load->load.jobs[0].blocked, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FAKE_TEST(everything_is_kept_while_the_link_is_down),
        FAKE_TEST(another_coordinator_gets_unacked_results_again),
        FAKE_TEST(held_is_told_first_also_when_memory_runs_out),
        FAKE_TEST(the_same_coordinator_had_given_this_worker_up),
        FAKE_TEST(cut_off_for_too_long),
        FAKE_TEST(cut_off_while_it_was_stopped),
        FAKE_TEST(cut_off_for_ever_with_no_limit),
        FAKE_TEST(held_and_finished_tasks_that_come_again),
        FAKE_TEST(a_silent_coordinator_is_dropped_and_heartbeats_go_out),
        FAKE_TEST(a_heartbeat_is_answered),
        FAKE_TEST(refused),
        FAKE_TEST(no_task_begins_while_results_are_over_the_window),
        FAKE_TEST(results_of_a_job_go_out_together),
        FAKE_TEST(load_tells_running_and_progress),
        FAKE_TEST(blocked_tasks_are_told_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
