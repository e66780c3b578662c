/* SPDX-License-Identifier: Apache-2.0
 *
 * test_worker_gate.c: watched tasks: no process gets one before the coordinator said GO,
 * whatever happens to the task, the process, the link or the worker meanwhile
 * (docs/failure.md). */
#include "tests/unit/worker_script.h"

static void watched(struct fake *f, uint64_t first, uint32_t count, uint32_t watch)
{
    struct message *message = fake_tasks_message(1, 1, first, count, 2);
    message->tasks.spans[0].watch = watch;
    fake_message(f, message);
    fake_settle(f);
}

/* The n-th BEGIN since the last fake_forget; whose it is. */
static uint64_t asked(const struct fake *f, size_t n, uint64_t first, uint32_t count)
{
    const struct message *message = fake_nth(f, MSG_BEGIN, n);
    const struct id pool = fake_id(1);
    assert_true(id_equal(&message->begin.pool, &pool));
    assert_int_equal(message->begin.job, 1);
    assert_int_equal(message->begin.first, first);
    assert_int_equal(message->begin.count, count);
    assert_int_equal(message->begin.attempt, 2);
    return message->begin.process;
}

static void say_go(struct fake *f, uint64_t process, uint64_t give)
{
    struct message *message = message_create(MSG_GO);
    message->go.process = process;
    message->go.give = give;
    fake_message(f, message);
    fake_settle(f);
}

static void go(struct fake *f, size_t n)
{
    const struct message *message = fake_nth(f, MSG_BEGIN, n);
    say_go(f, message->begin.process, message->begin.give);
}

static void nothing_is_begun_before_go(void **state)
{
    struct fake *f = *state;
    fake_start(f, 2);
    watched(f, 0, 3, WATCH_ONE);
    assert_int_equal(fake_sent(f, MSG_BEGIN), 2);
    const uint64_t first = asked(f, 0, 0, 1), second = asked(f, 1, 1, 1);
    assert_int_not_equal(first, second);
    assert_int_equal(fake_given(f, first) + fake_given(f, second), 0);
    say_go(f, first, 7); /* nobody waits for that */
    say_go(f, 99, 1);
    assert_int_equal(fake_given(f, first), 0);
    go(f, 0);
    go(f, 0); /* once is enough */
    assert_int_equal(fake_given(f, first), 1);
    assert_int_equal(fake_given(f, second), 0);
    assert_int_equal(f->processes[first].ranges[0].attempt, 2);
    /* Nothing is given behind it that would have to be asked for. */
    fake_pass(f, 1000);
    assert_int_equal(fake_sent(f, MSG_BEGIN), 2);
    fake_finish(f, first, 1, 1000);
    assert_int_equal(asked(f, 2, 2, 1), first);
    assert_int_equal(fake_counts(f).held, 2);
}

/* How many may be begun at a time; what is measured to be long is begun by itself. */
static void parts_become_smaller(void **state)
{
    struct fake *f = *state;
    static const uint32_t most[] = {0, 1024, 32, 1, 1};
    for (uint32_t watch = 1; watch <= WATCH_LAST; watch++) {
        fake_start(f, 1);
        fake_tasks(f, 1, 1, 100000, 40000); /* what it is given at a time doubles */
        fake_settle(f);
        while (fake_counts(f).held > 0) {
            fake_done(f, 1, UINT32_MAX, 10, 0);
            fake_settle(f);
        }
        fake_forget(f);
        watched(f, 0, 5000, watch);
        assert_int_equal(asked(f, 0, 0, most[watch]), 1);
        if (watch < WATCH_LAST)
            fake_destroy(f);
    }
}

/* With others of the job that are not watched. */
static void others_go_on_beside(void **state)
{
    struct fake *f = *state;
    fake_start(f, 2);
    watched(f, 0, 1, WATCH_ONE);
    fake_tasks(f, 1, 1, 10, 4);
    fake_settle(f);
    const uint64_t waits = asked(f, 0, 0, 1);
    assert_int_equal(fake_given(f, waits), 0);
    assert_int_equal(fake_given(f, 3 - waits), 1);
    fake_finish(f, 3 - waits, 2, 1000);
    assert_true(fake_given(f, 3 - waits) > 0);
    go(f, 0);
    assert_int_equal(fake_given(f, waits), 1);
}

static void cancelled_before_go(void **state)
{
    struct fake *f = *state;
    fake_start(f, 1);
    fake_tasks(f, 1, 1, 1000, 64); /* so that a give may have several */
    fake_settle(f);
    fake_finish(f, 1, 64, 1000);
    fake_forget(f);
    watched(f, 0, 8, 1);
    const uint32_t count = fake_nth(f, MSG_BEGIN, 0)->begin.count;
    assert_true(count >= 4);
    fake_cancel(f, 1, 1, 1, 2, true);
    fake_settle(f);
    assert_int_equal(fake_logged(f, WORKER_PROCESS_TAKE_BACK), 0);
    go(f, 0);
    assert_int_equal(fake_given(f, 1), count - 2);
    assert_int_equal(f->processes[1].ranges_count, 2);
    assert_int_equal(f->processes[1].ranges[0].first, 0);
    assert_int_equal(f->processes[1].ranges[1].first, 3);
    assert_int_not_equal(f->processes[1].ranges[0].give, f->processes[1].ranges[1].give);
    fake_finish(f, 1, (int)count - 2, 1000);
    /* All of it. */
    fake_cancel(f, 1, 1, 0, 100, true);
    watched(f, 50, 1, WATCH_ONE);
    const size_t last = fake_sent(f, MSG_BEGIN) - 1;
    asked(f, last, 50, 1);
    fake_cancel(f, 1, 1, 50, 1, true);
    fake_settle(f);
    assert_int_equal(fake_counts(f).running, 0);
    go(f, last);
    assert_int_equal(fake_given(f, 1), 0);
}

static void the_link_goes_before_go(void **state)
{
    struct fake *f = *state;
    fake_start(f, 1);
    watched(f, 0, 3, WATCH_ONE);
    assert_int_equal(fake_given(f, 1), 0);
    fake_event(f, WORKER_LINK_DOWN);
    fake_settle(f);
    assert_int_equal(fake_given(f, 1), 1);
    fake_finish(f, 1, 1, 10000000);
    assert_int_equal(fake_given(f, 1), 1); /* and so is the next one */
    fake_forget(f);
    fake_welcome(f, 2, 0);
    fake_settle(f);
    assert_int_equal(fake_ranges(f, MSG_HELD), 2);
    fake_finish(f, 1, 1, 10000000);
    asked(f, 0, 2, 1); /* the new one is asked */
    assert_int_equal(fake_given(f, 1), 0);
}

static void a_process_ends_before_go(void **state)
{
    struct fake *f = *state;
    fake_start(f, 1);
    watched(f, 0, 1, WATCH_ONE);
    const uint64_t process = asked(f, 0, 0, 1);
    for (int i = 0; i < 5; i++) { /* it says nothing about the task, however often */
        fake_gone(f, fake_nth(f, MSG_BEGIN, (size_t)i)->begin.process, false, 9, 0, NULL);
        fake_ready_all(f);
        assert_int_equal(fake_sent(f, MSG_FAILED), 0);
        assert_int_equal(fake_sent(f, MSG_BEGIN), (size_t)i + 2);
    }
    say_go(f, process, 1);
    assert_int_equal(fake_running(f), 0);
    go(f, 5);
    assert_int_equal(fake_running(f), 1);
}

static void drained_and_recalled_before_go(void **state)
{
    struct fake *f = *state;
    fake_start(f, 1);
    watched(f, 0, 5, WATCH_ONE);
    fake_recall(f, 1, 1, 10);
    fake_settle(f);
    assert_int_equal(fake_sent(f, MSG_RETURNED),
                     1); /* half of all but what was asked for */
    assert_int_equal(fake_ranges(f, MSG_RETURNED), 2);
    fake_event(f, WORKER_DRAIN);
    fake_settle(f);
    assert_int_equal(fake_ranges(f, MSG_RETURNED), 5);
    assert_int_equal(fake_counts(f).held, 0);
    go(f, 0);
    assert_int_equal(fake_running(f), 0);
}

/* What others wait for can be run in its slot. */
static void who_waits_for_long_holds_no_slot(void **state)
{
    struct fake *f = *state;
    fake_start(f, 1);
    watched(f, 0, 1, WATCH_LAST);
    const uint64_t waits = asked(f, 0, 0, 1);
    fake_tasks(f, 1, 1, 10, 2);
    fake_settle(f);
    assert_int_equal(fake_running(f), 0);
    struct message *message = message_create(MSG_GO);
    message->go.process = waits;
    message->go.give = fake_nth(f, MSG_BEGIN, 0)->begin.give;
    message->go.wait = true;
    fake_message(f, message);
    fake_ready_all(f);
    assert_int_equal(fake_given(f, waits), 0);
    assert_int_equal(fake_running(f), 1);
    go(f, 0);
    assert_int_equal(fake_given(f, waits), 1);
    assert_int_equal(fake_running(f), 2);
    fake_finish(f, waits, 1, 1000000); /* then one is too many */
    assert_int_equal(fake_running(f), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FAKE_TEST(nothing_is_begun_before_go),
        FAKE_TEST(parts_become_smaller),
        FAKE_TEST(others_go_on_beside),
        FAKE_TEST(cancelled_before_go),
        FAKE_TEST(the_link_goes_before_go),
        FAKE_TEST(a_process_ends_before_go),
        FAKE_TEST(drained_and_recalled_before_go),
        FAKE_TEST(who_waits_for_long_holds_no_slot),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
