/* SPDX-License-Identifier: Apache-2.0
 *
 * test_worker_results.c: results wait for others to go with them, as long as so much is
 * queued that nobody waits for these: docs/scheduling.md, "Results". */
#include "tests/unit/worker_script.h"

enum { WAIT_MS = 200 }; /* results_wait_ms */

/* Runs some tasks of a millisecond, all of them told; `queued` more are there. It is a
 * tick of WAIT_MS then. */
static void run_some(struct fake *f, uint32_t queued)
{
    fake_start_busy(f, 1, queued + 20);
    fake_finish(f, 1, 20, 1000000);
    fake_pass(f, WAIT_MS - f->now % WAIT_MS);
    fake_settle(f);
    fake_forget(f);
}

static void wait_while_much_is_queued(void **state)
{
    struct fake *f = *state;
    run_some(f, 1000);
    fake_finish(f, 1, 1, 1000000);
    assert_int_equal(fake_sent(f, MSG_DONE), 0);
    assert_int_equal(worker_core_deadline(f->core), f->now + WAIT_MS);
    fake_pass(f, WAIT_MS - 1);
    fake_finish(f, 1, 1, 1000000);
    assert_int_equal(fake_sent(f, MSG_DONE), 0);
    fake_pass(f, 1);
    const struct message *done = fake_nth(f, MSG_DONE, 0);
    assert_int_equal(done->done.results_count, 2);
}

/* Whenever the first of them came. */
static void wait_for_a_tick(void **state)
{
    struct fake *f = *state;
    run_some(f, 1000);
    const uint64_t due_ms = f->now + WAIT_MS;
    fake_pass(f, WAIT_MS - 30);
    fake_finish(f, 1, 1, 1000000);
    assert_int_equal(worker_core_deadline(f->core), due_ms);
}

static void wait_for_most_of_what_is_queued(void **state)
{
    struct fake *f = *state;
    run_some(f, 200);
    fake_finish(f, 1, 1, 1000000);
    const uint64_t due_ms = worker_core_deadline(f->core);
    assert_int_equal(fake_sent(f, MSG_DONE), 0);
    assert_true(due_ms >= f->now + 30 && due_ms < f->now + WAIT_MS);
    fake_pass(f, due_ms - f->now);
    assert_int_equal(fake_sent(f, MSG_DONE), 1);
}

/* Five times as long where nobody looks at a part, and LOAD with them. */
static void wait_longer_for_a_whole(void **state)
{
    struct fake *f = *state;
    struct message *open = fake_job_open(1, 2);
    fake_start(f, 1);
    open->job_open.whole = true;
    fake_message(f, open);
    fake_tasks(f, 1, 2, 0, 9000);
    fake_settle(f);
    fake_finish(f, 1, 20, 1000000);
    fake_pass(f, 5 * WAIT_MS - f->now % (5 * WAIT_MS));
    fake_settle(f);
    fake_forget(f);
    fake_finish(f, 1, 1, 1000000);
    assert_int_equal(fake_sent(f, MSG_DONE), 0);
    assert_int_equal(worker_core_deadline(f->core), f->now + 5 * WAIT_MS);
    fake_pass(f, 5 * WAIT_MS);
    assert_int_equal(fake_sent(f, MSG_DONE), 1);
}

static void go_at_once_when_little_is_queued(void **state)
{
    struct fake *f = *state;
    run_some(f, 15);
    fake_finish(f, 1, 1, 1000000);
    assert_int_equal(fake_sent(f, MSG_DONE), 1);
}

/* What follows is not begun until they are ACKed. */
static void go_at_once_when_half_the_window_is_full(void **state)
{
    struct fake *f = *state;
    run_some(f, 1000);
    fake_welcome(f, 2, 1 << 20);
    fake_settle(f);
    fake_forget(f);
    fake_done(f, 1, 1, 1000000, 1 << 18);
    fake_settle(f);
    assert_int_equal(fake_sent(f, MSG_DONE), 0);
    fake_done(f, 1, 1, 1000000, 1 << 18);
    fake_settle(f);
    assert_int_equal(fake_sent(f, MSG_DONE), 1);
}

static bool hurries(struct fake *f)
{
    const bool hurry = fake_nth(f, MSG_DONE, 0)->done.hurry;
    fake_forget(f);
    return hurry;
}

/* The client is told when there is no room for many more, or none for one as large as
 * has been. */
static void hurry_when_the_window_is_nearly_full(void **state)
{
    struct fake *f = *state;
    fake_start(f, 1);
    fake_message(f, fake_job_open(1, 2));
    fake_welcome(f, 2, 1 << 20);
    fake_tasks(f, 1, 2, 0, 4);
    fake_settle(f);
    fake_forget(f);
    fake_done(f, 1, 1, 1000000, 1 << 10);
    fake_settle(f);
    assert_false(hurries(f));
    fake_done(f, 1, 1, 1000000, 3 << 18);
    fake_settle(f);
    assert_true(hurries(f));
    fake_ack(f, 1, 1, 2);
    fake_done(f, 1, 1, 1000000, 1 << 10);
    fake_settle(f);
    assert_false(hurries(f));
    fake_done(f, 1, 1, 1000000, 1 << 18);
    fake_settle(f);
    assert_true(hurries(f));
}

static void go_at_once_when_they_fill_a_message(void **state)
{
    struct fake *f = *state;
    run_some(f, 1000);
    fake_finish(f, 1, SPANS_MAX - 1, 1000000);
    assert_int_equal(fake_sent(f, MSG_DONE), 0);
    fake_finish(f, 1, 1, 1000000);
    const struct message *done = fake_nth(f, MSG_DONE, 0);
    assert_int_equal(done->done.results_count, SPANS_MAX);
}

static void go_at_once_in_a_drain(void **state)
{
    struct fake *f = *state;
    run_some(f, 1000);
    fake_finish(f, 1, 1, 1000000);
    assert_int_equal(fake_sent(f, MSG_DONE), 0);
    fake_event(f, WORKER_DRAIN);
    fake_settle(f);
    assert_int_equal(fake_sent(f, MSG_DONE), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FAKE_TEST(wait_while_much_is_queued),
        FAKE_TEST(wait_for_a_tick),
        FAKE_TEST(wait_for_most_of_what_is_queued),
        FAKE_TEST(wait_longer_for_a_whole),
        FAKE_TEST(go_at_once_when_little_is_queued),
        FAKE_TEST(go_at_once_when_half_the_window_is_full),
        FAKE_TEST(hurry_when_the_window_is_nearly_full),
        FAKE_TEST(go_at_once_when_they_fill_a_message),
        FAKE_TEST(go_at_once_in_a_drain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
