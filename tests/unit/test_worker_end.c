/* SPDX-License-Identifier: Apache-2.0
 *
 * test_worker_end.c: how pools and the worker itself end: in order, by force, by drain
 * (docs/failure.md). */
#include "tests/unit/worker_script.h"

/* Its client knows of every task's end, so what is left here nobody waits for: the
 * running task may end, the others are not begun, and no ACK is waited for. */
static void a_pool_that_closes_lets_what_runs_finish(void **state)
{
    struct fake *f = *state;
    fake_start_busy(f, 1, 3);
    fake_finish(f, 1, 1, 10000000);
    assert_int_equal(fake_counts(f).unacked, 1);
    fake_close_pool(f, 1, false);
    fake_settle(f);
    assert_int_equal(fake_counts(f).held + fake_counts(f).unacked, 0);
    assert_int_equal(fake_logged(f, WORKER_PROCESS_KILL), 0);
    assert_int_equal(fake_logged(f, WORKER_PROCESS_CLOSE), 0);
    assert_int_equal(fake_sent(f, MSG_POOL_CLOSED), 0);
    fake_finish(f, 1, 1, 10000000);
    assert_int_equal(fake_counts(f).unacked, 0);
    assert_int_equal(fake_logged(f, WORKER_PROCESS_CLOSE), 1);
    fake_reap(f);
    assert_int_equal(fake_sent(f, MSG_POOL_CLOSED), 1);
    assert_int_equal(fake_logged(f, WORKER_PROGRAM_CLOSE), 1);
    assert_int_equal(fake_counts(f).pools, 0);
    fake_close_pool(f, 1, false); /* again: answered again */
    assert_int_equal(fake_sent(f, MSG_POOL_CLOSED), 2);
}

static void a_pool_that_closes_kills_what_is_only_starting(void **state)
{
    struct fake *f = *state;
    fake_create(f, 1);
    fake_join(f);
    fake_message(f, fake_pool_open(1, 0));
    fake_program(f, WORKER_PROGRAM_READY);
    fake_settle(f);
    fake_close_pool(f, 1, false);
    fake_settle(f);
    assert_int_equal(fake_logged(f, WORKER_PROCESS_KILL), 1);
    fake_gone(f, 1, false, 9, FARPOOL_EPROGRAM, "killed");
    fake_settle(f);
    assert_int_equal(fake_sent(f, MSG_POOL_CLOSED), 1);
    assert_int_equal(fake_sent(f, MSG_POOL_FAILED), 0);
}

static void a_pool_closed_with_kill_ends_now(void **state)
{
    struct fake *f = *state;
    fake_start_busy(f, 2, 100);
    fake_done(f, 1, 1, 1000, 0);
    fake_close_pool(f, 1, true);
    fake_settle(f);
    assert_int_equal(fake_logged(f, WORKER_PROCESS_KILL), 2);
    assert_int_equal(fake_counts(f).held + fake_counts(f).unacked, 0);
    assert_int_equal(fake_sent(f, MSG_POOL_CLOSED), 0);
    /* What the host still reports of it is dropped. */
    fake_done(f, 2, 1, 1000, 0);
    fake_reap(f);
    assert_int_equal(fake_sent(f, MSG_POOL_CLOSED), 1);
    assert_int_equal(fake_counts(f).pools + fake_counts(f).processes, 0);
}

/* Effects are carried out after the batch, when what they tell of may have ended. */
static void a_pool_that_ends_in_the_batch_that_opened_it(void **state)
{
    struct worker_effects effects = {0};
    struct worker_core *core;
    struct fake *f = *state;
    fake_create(f, 1);
    fake_run(f);
    core = f->core;
    fake_welcome(f, 1, 0);
    struct worker_event open = {
        .kind = WORKER_MESSAGE, .now_ms = f->now, .message = fake_pool_open(1, 0)};
    struct worker_event close = {.kind = WORKER_MESSAGE,
                                 .now_ms = f->now,
                                 .message = message_create(MSG_POOL_CLOSE)};
    struct worker_event flush = {.kind = WORKER_FLUSH, .now_ms = f->now};
    close.message->pool_close.pool = fake_id(1);
    assert_int_equal(worker_core_step(core, &open, &effects), 0);
    assert_int_equal(worker_core_step(core, &close, &effects), 0);
    assert_int_equal(worker_core_step(core, &flush, &effects), 0);
    assert_int_equal(fake_counts(f).pools, 0);
    assert_int_equal(effects.items[0].kind, WORKER_PROGRAM_OPEN);
    assert_int_equal(effects.items[0].files_count, 1);
    assert_int_equal(effects.items[0].files[0].content.bytes[31], 0xbb);
    worker_effects_fini(&effects);
}

static void a_pool_may_be_opened_again_while_it_ends(void **state)
{
    struct fake *f = *state;
    fake_start(f, 1);
    fake_close_pool(f, 1, true);
    fake_message(f, fake_pool_open(1, 0));
    assert_int_equal(fake_sent(f, MSG_POOL_CLOSED), 1);
    fake_message(f, fake_job_open(1, 5));
    fake_tasks(f, 1, 5, 0, 1);
    fake_reap(f);
    fake_ready_all(f);
    assert_int_equal(fake_given(f, 2), 1);
    assert_int_equal(fake_sent(f, MSG_POOL_CLOSED), 1);
}

static void a_process_that_does_not_end_is_killed(void **state)
{
    struct fake *f = *state;
    fake_start(f, 1);
    fake_close_pool(f, 1, false);
    fake_settle(f);
    assert_int_equal(fake_logged(f, WORKER_PROCESS_CLOSE), 1);
    f->now += 4000;
    fake_message(f, message_create(MSG_HEARTBEAT));
    fake_pass(f, 1000);
    assert_int_equal(fake_logged(f, WORKER_PROCESS_KILL), 1);
}

static void drain_gives_back_and_finishes(void **state)
{
    struct fake *f = *state;
    fake_start_busy(f, 2, 100);
    fake_finish(f, 1, 5, 100000);
    fake_forget(f);
    fake_event(f, WORKER_DRAIN);
    fake_settle(f);
    assert_int_equal(fake_sent(f, MSG_DRAIN), 1);
    assert_int_equal(fake_counts(f).held, 2); /* those that run */
    assert_int_equal(fake_ranges(f, MSG_RETURNED), 100 - 5 - 2);
    fake_tasks(f, 1, 1, 200, 3); /* was under way */
    fake_settle(f);
    assert_int_equal(fake_ranges(f, MSG_RETURNED), 100 - 5 - 2 + 3);
    fake_done(f, 1, 1, 1000, 0);
    fake_finish(f, 2, 1, 1000);
    fake_reap(f);
    assert_int_equal(fake_logged(f, WORKER_STOPPED), 0); /* results are not ACKed */
    fake_ack(f, 1, 0, 100);
    fake_settle(f);
    assert_int_equal(fake_sent(f, MSG_BYE), 1);
    assert_int_equal(fake_logged(f, WORKER_STOPPED), 1);
    fake_event(f, WORKER_LINK_UP); /* whatever comes now, it is over */
    fake_event(f, WORKER_FLUSH);
    assert_int_equal(fake_sent(f, MSG_HELLO_WORKER), 0);
}

/* The same when the coordinator says so. */
static void drain_may_be_told_by_the_coordinator(void **state)
{
    struct fake *f = *state;
    fake_start_busy(f, 2, 100);
    fake_forget(f);
    fake_message(f, message_create(MSG_DRAIN));
    fake_message(f, message_create(MSG_DRAIN)); /* once more is no harm */
    fake_settle(f);
    assert_int_equal(fake_sent(f, MSG_DRAIN), 1);
    assert_int_equal(fake_counts(f).held, 2);
    assert_int_equal(fake_ranges(f, MSG_RETURNED), 100 - 2);
    fake_finish(f, 1, 1, 1000);
    fake_finish(f, 2, 1, 1000);
    fake_reap(f);
    fake_ack(f, 1, 0, 100);
    fake_settle(f);
    assert_int_equal(fake_sent(f, MSG_BYE), 1);
    assert_int_equal(fake_logged(f, WORKER_STOPPED), 1);
}

static void drain_waits_ten_seconds_for_acks(void **state)
{
    struct fake *f = *state;
    fake_start_busy(f, 1, 1);
    fake_event(f, WORKER_DRAIN);
    fake_settle(f);
    fake_finish(f, 1, 1, 1000);
    fake_reap(f);
    fake_event(f, WORKER_LINK_DOWN);
    fake_pass(f, 9999);
    assert_int_equal(fake_logged(f, WORKER_STOPPED), 0);
    f->now = worker_core_deadline(f->core);
    fake_settle(f);
    assert_int_equal(fake_logged(f, WORKER_STOPPED), 1);
}

static void stop_kills_everything(void **state)
{
    struct fake *f = *state;
    fake_start_busy(f, 2, 100);
    fake_event(f, WORKER_STOP);
    assert_int_equal(fake_logged(f, WORKER_PROCESS_KILL), 2);
    assert_int_equal(fake_sent(f, MSG_BYE), 1);
    assert_int_equal(fake_logged(f, WORKER_STOPPED), 0);
    fake_reap(f);
    assert_int_equal(fake_logged(f, WORKER_STOPPED), 1);
    fake_destroy(f);
    fake_create(f, 1);
    fake_run(f);
    fake_event(f, WORKER_STOP); /* with nothing there: at once */
    assert_int_equal(fake_logged(f, WORKER_STOPPED), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FAKE_TEST(a_pool_that_closes_lets_what_runs_finish),
        FAKE_TEST(a_pool_that_closes_kills_what_is_only_starting),
        FAKE_TEST(a_pool_closed_with_kill_ends_now),
        FAKE_TEST(a_pool_that_ends_in_the_batch_that_opened_it),
        FAKE_TEST(a_pool_may_be_opened_again_while_it_ends),
        FAKE_TEST(a_process_that_does_not_end_is_killed),
        FAKE_TEST(drain_gives_back_and_finishes),
        FAKE_TEST(drain_may_be_told_by_the_coordinator),
        FAKE_TEST(drain_waits_ten_seconds_for_acks),
        FAKE_TEST(stop_kills_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
