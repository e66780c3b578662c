/* SPDX-License-Identifier: Apache-2.0
 *
 * test_host_control.c: what the host asks of a process that has tasks: giving back what
 * it has not begun, telling how far it is, leaving out what is cancelled, and closing. */
#include "tests/unit/host_fixture.h"

#include "farpool.h"

#include <sched.h>

static int64_t copy(int64_t value)
{
    return value;
}
FARPOOL_FUNCTION(copy, int64_t, int64_t)

static uint64_t index_of(uint8_t unused)
{
    (void)unused;
    return farpool_task_index(farpool_task_current());
}
FARPOOL_FUNCTION(index_of, uint64_t, uint8_t)

static int until_cancelled(farpool_task *task)
{
    farpool_task_progress(task, 1, 4);
    while (!farpool_task_cancelled(task))
        sched_yield();
    return farpool_task_write(task, "out", 3);
}
FARPOOL_BYTES_FUNCTION(until_cancelled)

static void takes_back_what_is_not_begun(void **state)
{
    struct fixture *fixture = *state;
    uint8_t inputs[10] = {0};
    for (uint64_t give = 1; give <= 2; give++) {
        struct giving giving = giving_of("until_cancelled", 10, inputs, sizeof inputs);
        giving.give = give;
        giving.first = 10 * give;
        giving.claim = 2;
        fixture_give(fixture, &giving);
    }
    struct told *told = fixture_running(fixture, 1);
    assert_int_equal(told->event.give, 1);
    assert_int_equal(told->event.first, 10);

    fixture_do(fixture, WORKER_PROCESS_TAKE_BACK, 1, 3);
    told = fixture_expect(fixture, WORKER_PROCESS_TAKEN);
    assert_int_equal(told->event.give, 2);
    assert_int_equal(told->event.first, 27);
    assert_int_equal(told->event.count, 3);
    assert_int_equal(fixture_expect(fixture, WORKER_PROCESS_TAKEN)->event.count, 0);

    fixture_do(fixture, WORKER_PROCESS_TAKE_BACK, 1, 1000);
    told = fixture_expect(fixture, WORKER_PROCESS_TAKEN);
    assert_int_equal(told->event.first, 20);
    assert_int_equal(told->event.count, 7);
    told = fixture_expect(fixture, WORKER_PROCESS_TAKEN);
    assert_int_equal(told->event.give, 1);
    assert_int_equal(told->event.first, 12); /* 10 and 11 are claimed */
    assert_int_equal(told->event.count, 8);
    assert_int_equal(fixture_expect(fixture, WORKER_PROCESS_TAKEN)->event.count, 0);

    fixture_cancel(fixture, 1, 1, 10, 2);
    fixture_collect(fixture, 1, 10, 2, NULL, 0);
    fixture_do(fixture, WORKER_PROCESS_TAKE_BACK, 1, 5);
    assert_int_equal(fixture_expect(fixture, WORKER_PROCESS_TAKEN)->event.count, 0);
}

/* From a process that runs, over and over: no task is lost, none runs twice. */
static void taking_back_races_with_running(void **state)
{
    struct fixture *fixture = *state;
    enum { COUNT = 20000, ROUNDS = 40 };
    static uint8_t inputs[COUNT];
    uint64_t taken = 0, done = 0;
    for (uint64_t round = 0; round < ROUNDS; round++) {
        struct giving giving = giving_of("index_of", COUNT, inputs, COUNT);
        giving.give = round;
        giving.claim = 1 + round % 5;
        giving.publish = 1 + round % 70;
        uint64_t ended = 0, end = COUNT;
        fixture_give(fixture, &giving);
        while (ended < end) {
            if (fixture->read == fixture->told_count && ended > 0)
                fixture_do(fixture, WORKER_PROCESS_TAKE_BACK, 1, 50);
            struct told *told = fixture_next(fixture);
            if (told->event.kind == WORKER_PROCESS_TAKEN && told->event.count > 0) {
                end -= told->event.count;
                taken += told->event.count;
                assert_int_equal(told->event.first, end);
            } else if (told->event.kind == WORKER_PROCESS_DONE) {
                assert_int_equal(told->event.give, round);
                assert_int_equal(told->event.first, ended);
                ended += told->event.count;
                done += told->event.count;
            }
        }
        assert_int_equal(ended, end);
        while (fixture->read < fixture->told_count)
            assert_int_equal(fixture->told[fixture->read++].event.count, 0);
        fixture_forget(fixture);
    }
    assert_int_equal(taken + done, COUNT * ROUNDS);
    assert_true(taken > 0 && done > 0);
}

static void samples_tell_progress_and_time(void **state)
{
    struct fixture *fixture = *state;
    uint8_t input = 0;
    fixture_do(fixture, WORKER_PROCESS_SAMPLE, 1, 0);
    assert_false(fixture_expect(fixture, WORKER_PROCESS_SAMPLED)->event.running);
    uint64_t before_ms = sys_now_ms();
    struct giving giving = giving_of("until_cancelled", 1, &input, 1);
    giving.give = 4;
    giving.first = 30;
    giving.timeout_ms = 1000;
    fixture_give(fixture, &giving);
    struct told *told = fixture_running(fixture, 1);
    while (told->event.share_ppm == 0) /* it tells its progress right after it began */
        told = fixture_running(fixture, 1);
    assert_int_equal(told->event.first, 30);
    assert_int_equal(told->event.share_ppm, 250000);
    assert_in_range(told->event.began_ms, before_ms, sys_now_ms());
    fixture_cancel(fixture, 1, 4, 29, 1); /* another task's */
    fixture_cancel(fixture, 1, 3, 30, 1); /* another give's */
    assert_true(fixture_running(fixture, 1)->event.running);
    fixture_cancel(fixture, 1, 4, 0, 100);
    fixture_collect(fixture, 4, 30, 1, NULL, 0);
}

static void a_closed_process_finishes_first(void **state)
{
    struct fixture *fixture = *state;
    int64_t inputs[3000] = {0};
    for (uint64_t give = 0; give < 50; give++) { /* more than the ring holds */
        struct giving giving = giving_of("copy", 2000, inputs, 16000);
        giving.give = give;
        giving.claim = 10;
        giving.publish = 10;
        fixture_give(fixture, &giving);
    }
    fixture_do(fixture, WORKER_PROCESS_CLOSE, 1, 0);
    for (uint64_t give = 0; give < 50; give++)
        fixture_collect(fixture, give, 0, 2000, NULL, 0);
    struct told *told = fixture_expect(fixture, WORKER_PROCESS_GONE);
    assert_int_equal(told->event.exit_status, 0);
    assert_int_equal(told->event.code, 0);
    assert_false(told->event.running);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(takes_back_what_is_not_begun),
        FIXTURE_TEST(taking_back_races_with_running),
        FIXTURE_TEST(samples_tell_progress_and_time),
        FIXTURE_TEST(a_closed_process_finishes_first),
    };
    if (farpool_init(&argc, &argv) != 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
