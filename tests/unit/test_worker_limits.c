/* SPDX-License-Identifier: Apache-2.0
 *
 * test_worker_limits.c: limits of a task's CPU time and memory: when the core looks, what
 * it kills for, whom it blames and with which words; and the limits that the kernel keeps
 * (docs/failure.md). */
#include "tests/unit/worker_script.h"

#define LIMIT 1000000

static const struct msg_failed *failed_nth(const struct fake *f, size_t n)
{
    return &fake_nth(f, MSG_FAILED, n)->failed.results[0];
}

/* Process 1 runs the first of two tasks of a job with these limits. */
static void start_limited(struct fake *f, uint64_t cpu_ms, uint64_t memory_bytes,
                          bool once)
{
    fake_start(f, 1);
    struct message *open = fake_job_open(1, 2);
    open->job_open.cpu_ms = cpu_ms;
    open->job_open.memory_bytes = memory_bytes;
    open->job_open.once = once;
    fake_message(f, open);
    fake_tasks(f, 1, 2, 0, 2);
    fake_settle(f);
    assert_int_equal(f->processes[1].ranges[0].job, 2);
    fake_forget(f);
}

/* The next look is so many milliseconds off; then the task has used so much. */
static void look(struct fake *f, uint64_t ms, uint64_t cpu_ms, uint64_t memory_bytes)
{
    const size_t looks = fake_logged(f, WORKER_PROCESS_SAMPLE);
    fake_pass(f, ms - 1);
    assert_int_equal(fake_logged(f, WORKER_PROCESS_SAMPLE), looks);
    f->processes[1].cpu_ms = cpu_ms;
    f->processes[1].memory_bytes = memory_bytes;
    fake_pass(f, 1);
    assert_int_equal(fake_logged(f, WORKER_PROCESS_SAMPLE), looks + 1);
}

static void assert_killed(const struct fake *f, bool killed)
{
    assert_int_equal(fake_logged(f, WORKER_PROCESS_KILL), killed);
}

static void a_look_comes_when_cpu_time_may_be_over(void **state)
{
    struct fake *f = *state;
    start_limited(f, 250, 0, false);
    look(f, 100, 95, 0);
    look(f, 100, 195, 0);
    look(f, 55, 247, 0); /* it had to wait a little */
    assert_killed(f, false);
    look(f, 5, 251, 0);
    assert_killed(f, true);
    fake_reap(f);
    const struct msg_failed *failed = failed_nth(f, 0);
    assert_int_equal(failed->index, 0);
    assert_int_equal(failed->code, FARPOOL_ECPULIMIT);
    assert_string_equal(failed->message,
                        "used 251 ms of CPU time, over its limit of 250 ms on node n1");
}

static void a_short_limit_is_looked_at_in_time(void **state)
{
    struct fake *f = *state;
    start_limited(f, 20, 0, false);
    look(f, 20, 19, 0);
    look(f, 5, 20, 0);
    assert_killed(f, true);
}

static void several_cores_use_it_up_sooner(void **state)
{
    struct fake *f = *state;
    start_limited(f, 1000, 0, false);
    look(f, 100, 800, 0); /* eight at a time: 200 ms are left, over in 25 */
    look(f, 25, 1000, 0);
    assert_killed(f, true);
}

/* A task that waits with almost nothing left is not looked at 200 times a second. */
static void a_task_that_waits_is_looked_at_seldom(void **state)
{
    struct fake *f = *state;
    start_limited(f, 200, 0, false);
    look(f, 100, 99, 0);
    look(f, 100, 197, 0);
    fake_forget(f);
    for (int i = 0; i < 2000; i++)
        fake_pass(f, 1);
    /* Those for LOAD, twice a look's time apart, are among them. */
    assert_in_range(fake_logged(f, WORKER_PROCESS_SAMPLE), 10, 40);
    f->processes[1].cpu_ms = 199;
    fake_pass(f, 100);
    f->processes[1].cpu_ms = 200;
    fake_pass(f, 5);
    assert_killed(f, true);
}

static void memory_is_looked_at_ten_times_a_second(void **state)
{
    struct fake *f = *state;
    start_limited(f, 0, LIMIT, false);
    look(f, 100, 0, LIMIT);
    assert_killed(f, false);
    look(f, 100, 0, LIMIT + 1);
    assert_killed(f, true);
    fake_reap(f);
    assert_int_equal(failed_nth(f, 0)->code, FARPOOL_EMEMORYLIMIT);
    assert_string_equal(
        failed_nth(f, 0)->message,
        "used 1000001 bytes of memory, over its limit of 1000000 bytes on node n1");
}

/* It had ended when the kill came: the next one is innocent, or lost if it must not run
 * twice. */
static void another_task_is_not_blamed(void **state)
{
    for (int once = 0; once <= 1; once++) {
        struct fake *f = *state;
        start_limited(f, 0, LIMIT, once);
        fake_tasks(f, 1, 2, 2, 20);
        fake_finish(f, 1, 4, 100000);
        fake_forget(f);
        const uint64_t late = f->processes[1].ranges[0].first;
        f->processes[1].memory_bytes = 2 * LIMIT;
        fake_pass(f, 200);
        assert_killed(f, true);
        fake_done(f, 1, 1, 100000, 0);
        fake_forget(f);
        fake_reap(f);
        if (once) {
            assert_int_equal(failed_nth(f, 0)->index, late + 1);
            assert_int_equal(failed_nth(f, 0)->code, FARPOOL_EPROCESSLOST);
        } else {
            assert_int_equal(fake_sent(f, MSG_FAILED), 0);
        }
        fake_destroy(f);
    }
}

/* ------------------------------------------------------------------- by the kernel */

static void kernel_kills(struct fake *f, bool running, uint64_t memory_bytes)
{
    struct fake_process *process = &f->processes[1];
    struct worker_event event = {.kind = WORKER_PROCESS_GONE,
                                 .process = 1,
                                 .pid = 1001,
                                 .signal = 9,
                                 .exit_status = -1,
                                 .running = running,
                                 .over_memory = true,
                                 .memory_bytes = memory_bytes};
    if (running) {
        event.give = process->ranges[0].give;
        event.first = process->ranges[0].first;
    }
    process->gone = true;
    process->ranges_count = 0;
    fake_step(f, &event);
    fake_settle(f);
}

static void the_kernel_is_told_the_limit(void **state)
{
    struct fake *f = *state;
    fake_start(f, 1);
    struct message *open = fake_job_open(1, 2);
    open->job_open.memory_bytes = LIMIT;
    fake_message(f, open);
    fake_tasks(f, 1, 2, 0, 1);
    fake_settle(f);
    assert_int_equal(fake_effect(f, WORKER_PROCESS_GIVE, 0)->memory_bytes, LIMIT);
    fake_done(f, 1, 1, 1000, 0);
    fake_forget(f);
    fake_tasks(f, 1, 1, 0, 1); /* of the job without a limit */
    fake_settle(f);
    assert_int_equal(fake_effect(f, WORKER_PROCESS_GIVE, 0)->memory_bytes, 0);
}

static void what_the_kernel_kills_for_its_limit_is_over_it(void **state)
{
    struct fake *f = *state;
    start_limited(f, 0, LIMIT, false);
    kernel_kills(f, true, LIMIT);
    const struct msg_failed *failed = failed_nth(f, 0);
    assert_int_equal(failed->index, 0);
    assert_int_equal(failed->code, FARPOOL_EMEMORYLIMIT);
    assert_int_equal(failed->signal, 9);
    assert_string_equal(failed->message,
                        "used 1000000 bytes of memory and wanted more, over its limit of "
                        "1000000 bytes on node n1");
    fake_ready_all(f);
    assert_int_equal(f->processes[2].ranges[0].first, 1);
    assert_int_equal(f->processes[2].ranges[0].attempt, 1);
}

/* The limit was that of a task that had just ended. */
static void without_a_limit_it_is_lost(void **state)
{
    struct fake *f = *state;
    start_limited(f, 1000, 0, false);
    kernel_kills(f, true, LIMIT);
    assert_int_equal(failed_nth(f, 0)->code, FARPOOL_EPROCESSLOST);
    assert_non_null(strstr(failed_nth(f, 0)->message, "signal 9"));
}

static void between_tasks_nobody_is_blamed(void **state)
{
    struct fake *f = *state;
    start_limited(f, 0, LIMIT, false);
    kernel_kills(f, false, LIMIT);
    assert_int_equal(fake_sent(f, MSG_FAILED), 0);
    fake_ready_all(f);
    assert_int_equal(f->processes[2].ranges[0].first, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FAKE_TEST(a_look_comes_when_cpu_time_may_be_over),
        FAKE_TEST(a_short_limit_is_looked_at_in_time),
        FAKE_TEST(several_cores_use_it_up_sooner),
        FAKE_TEST(a_task_that_waits_is_looked_at_seldom),
        FAKE_TEST(memory_is_looked_at_ten_times_a_second),
        FAKE_TEST(another_task_is_not_blamed),
        FAKE_TEST(the_kernel_is_told_the_limit),
        FAKE_TEST(what_the_kernel_kills_for_its_limit_is_over_it),
        FAKE_TEST(without_a_limit_it_is_lost),
        FAKE_TEST(between_tasks_nobody_is_blamed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
