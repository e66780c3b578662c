/* SPDX-License-Identifier: Apache-2.0
 *
 * test_worker_slots.c: the slot's number that each process has for its life: what it may
 * use of the node goes by it, so processes that run have different ones. */
#include "tests/unit/worker_script.h"

/* How many processes with that number there are; running: of those that have tasks. */
static int count_in_slot(const struct fake *f, uint32_t slot, bool running)
{
    int count = 0;
    for (uint64_t n = 1; n <= f->processes_max; n++) {
        const struct fake_process *process = &f->processes[n];
        count += process->started && !process->gone && process->slot == slot &&
                 (!running || process->ranges_count > 0);
    }
    return count;
}

static void expect_each_slot(const struct fake *f, uint32_t slots, bool running, int most)
{
    for (uint32_t slot = 0; slot < slots; slot++)
        if (count_in_slot(f, slot, running) > most)
            fail_msg("slot %u has %d", slot, count_in_slot(f, slot, running));
}

static void a_pools_processes_have_different_slots(void **state)
{
    struct fake *f = *state;
    fake_start_busy(f, 8, 50);
    assert_int_equal(fake_alive(f), 8);
    expect_each_slot(f, 8, false, 1);
}

static void a_new_process_has_the_slot_of_the_one_that_ended(void **state)
{
    struct fake *f = *state;
    fake_start_busy(f, 4, 100);
    for (uint64_t n = 1; n <= 4; n++) {
        const uint32_t slot = f->processes[n].slot;
        fake_gone(f, n, true, 9, 0, NULL);
        fake_settle(f);
        fake_ready_all(f);
        assert_int_equal(f->processes_max, 4 + n);
        assert_int_equal(f->processes[4 + n].slot, slot);
    }
    expect_each_slot(f, 4, true, 1);
}

/* Both pools have a process in each slot; which of them run changes all the time. */
static void two_pools_never_run_in_one_slot(void **state)
{
    struct fake *f = *state;
    fake_start(f, 4);
    fake_message(f, fake_pool_open(2, 0));
    fake_settle(f);
    fake_message(f, fake_job_open(2, 2));
    fake_tasks(f, 1, 1, 0, 400);
    fake_tasks(f, 2, 2, 0, 400);
    fake_settle(f);
    fake_ready_all(f);
    for (int round = 0; round < 200; round++) {
        const uint64_t n = 1 + (uint64_t)round % f->processes_max;
        if (f->processes[n].ranges_count > 0)
            fake_finish(f, n, 1, 30000000);
        fake_settle(f);
        expect_each_slot(f, 4, true, 1);
        expect_each_slot(f, 4, false, 2);
    }
    assert_int_equal(fake_alive(f), 8);
}

/* Many pools at once have some processes a slot in all, not one a slot each. */
static void many_pools_have_few_processes(void **state)
{
    struct fake *f = *state;
    fake_start(f, 2);
    for (uint8_t pool = 2; pool <= 30; pool++) {
        fake_message(f, fake_pool_open(pool, 0));
        fake_message(f, fake_job_open(pool, pool));
        fake_tasks(f, pool, pool, 0, 10);
    }
    fake_settle(f);
    fake_ready_all(f);
    assert_in_range(fake_alive(f), 29, 2 * 8 + 29);
}

/* What runs while a task is blocked has that one's slot, which it does not hold. */
static void a_blocked_process_lends_its_slot(void **state)
{
    struct fake *f = *state;
    fake_start_busy(f, 2, 50);
    const uint32_t lent = f->processes[2].slot;
    fake_blocked(f, 2, true);
    fake_settle(f);
    fake_ready_all(f);
    assert_int_equal(f->processes[3].slot, lent);
    assert_true(fake_given(f, 3) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FAKE_TEST(a_pools_processes_have_different_slots),
        FAKE_TEST(a_new_process_has_the_slot_of_the_one_that_ended),
        FAKE_TEST(two_pools_never_run_in_one_slot),
        FAKE_TEST(many_pools_have_few_processes),
        FAKE_TEST(a_blocked_process_lends_its_slot),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
