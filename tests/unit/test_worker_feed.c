/* SPDX-License-Identifier: Apache-2.0
 *
 * test_worker_feed.c: what the worker's core gives to which process, how much ahead, and
 * what it takes back: docs/scheduling.md, "The worker feeds". */
#include "tests/unit/worker_script.h"

static void processes_start_at_once_and_once(void **state)
{
    struct fake *f = *state;
    fake_create(f, 4);
    fake_join(f);
    fake_message(f, fake_pool_open(1, 3));
    fake_settle(f);
    assert_int_equal(fake_logged(f, WORKER_PROGRAM_OPEN), 1);
    assert_int_equal(fake_logged(f, WORKER_PROCESS_START), 0);
    fake_program(f, WORKER_PROGRAM_READY);
    fake_settle(f);
    assert_int_equal(fake_logged(f, WORKER_PROCESS_START), 3);
    fake_ready_all(f);
    assert_int_equal(fake_logged(f, WORKER_PROCESS_START), 3);
}

static void one_task_each_while_unmeasured_then_doubling(void **state)
{
    struct fake *f = *state;
    fake_start_busy(f, 2, 1000000);
    assert_int_equal(fake_given(f, 1), 1);
    assert_int_equal(fake_given(f, 2), 1);
    uint64_t largest = 0;
    for (int round = 0; round < 60; round++) {
        for (uint64_t n = 1; n <= 2; n++) {
            const uint64_t before = fake_given(f, n);
            if (before > largest) {
                assert_true(before <= 4 * (largest + 1));
                largest = before;
            }
            while (f->processes[n].ranges_count > 0)
                fake_done(f, n, UINT32_MAX, 10, 4);
            fake_settle(f);
        }
        if (fake_counts(f).held == 0)
            break;
    }
    assert_true(largest >= 20000); /* 500 us of 10 ns, as far as it was left */
    assert_int_equal(fake_counts(f).held, 0);
}

/* Runs `rounds` tasks of task_ns on each process and returns how many tasks a process
 * has at most afterwards. */
static uint64_t given_at(struct fake *f, uint64_t task_ns)
{
    uint64_t most = 0;
    fake_start_busy(f, 2, 10000);
    for (int round = 0; round < 1000; round++)
        for (uint64_t n = 1; n <= 2; n++) {
            fake_finish(f, n, 1, task_ns);
        }
    for (uint64_t n = 1; n <= 2; n++)
        if (fake_given(f, n) > most)
            most = fake_given(f, n);
    fake_destroy(f);
    return most;
}

static void work_ahead_by_task_time(void **state)
{
    assert_int_equal(given_at(*state, 50000000), 1);
    assert_int_equal(given_at(*state, 5000000), 1);
    /* 600 ms of work, topped up when half of it is gone. */
    const uint64_t tasks_ns[] = {4000000, 2000000, 1000000};
    for (size_t i = 0; i < sizeof tasks_ns / sizeof *tasks_ns; i++) {
        const uint64_t given = given_at(*state, tasks_ns[i]),
                       most = 600000000 / tasks_ns[i];
        assert_true(given >= most / 2 && given <= most);
    }
}

static void one_outlier_does_not_stop_giving_ahead(void **state)
{
    struct fake *f = *state;
    fake_start_busy(f, 1, 1000);
    fake_finish(f, 1, 50, 1000000);
    fake_finish(f, 1, 1, 500000000);
    assert_true(fake_given(f, 1) >= 2);
}

static void pieces_end_at_chunks(void **state)
{
    struct fake *f = *state;
    fake_start(f, 2);
    fake_job_chunked(f, 1, 2, 10);
    fake_tasks(f, 1, 2, 3, 997); /* begins within a chunk */
    fake_settle(f);
    for (int round = 0; fake_counts(f).held > 0; round++) {
        assert_true(round < 2000);
        for (uint64_t n = 1; n <= 2; n++)
            if (f->processes[n].ranges_count > 0)
                fake_done(f, n, UINT32_MAX, 2000, 0);
        fake_settle(f);
    }
    for (size_t i = 0; i < fake_logged(f, WORKER_PROCESS_GIVE); i++) {
        const struct worker_effect *give = fake_effect(f, WORKER_PROCESS_GIVE, i);
        assert_int_equal((give->span.first + give->span.count) % 10, 0);
        assert_int_equal(give->claim, 10);
        assert_int_equal(give->publish, 10);
    }
}

/* Process 1 finishes what it has and is given, until there is no more. */
static void run_dry(struct fake *f)
{
    while (f->processes[1].ranges_count > 0) {
        fake_done(f, 1, UINT32_MAX, 10, 0);
        fake_settle(f);
    }
}

static void bytes_bound_what_is_given(void **state)
{
    struct fake *f = *state;
    fake_start(f, 1);
    f->config.given_bytes_max = 1 << 20;
    fake_tasks(f, 1, 1, 0, 100000);
    fake_settle(f);
    for (int i = 0; i < 12; i++) { /* learns that tasks take nothing */
        fake_done(f, 1, UINT32_MAX, 10, 0);
        fake_settle(f);
    }
    run_dry(f);
    fake_tasks_with(f, 200000, 64, NULL, payload_create(64 * 262144)); /* 256 KiB each */
    fake_settle(f);
    assert_true(fake_given(f, 1) >= 1 && fake_given(f, 1) <= 4);
    /* One that is larger than the bound passes alone. */
    run_dry(f);
    fake_tasks_with(f, 300000, 2, NULL, payload_create(2 * (3 << 20)));
    fake_settle(f);
    assert_int_equal(fake_given(f, 1), 1);
}

/* Every task that the effects of a step give away has index % 7 bytes, which are its
 * index; how many tasks that were. */
static uint32_t check_given(const struct fake *f)
{
    uint32_t tasks = 0;
    for (size_t i = 0; i < f->effects.count; i++) {
        const struct msg_span *given = &f->effects.items[i].span;
        if (f->effects.items[i].kind != WORKER_PROCESS_GIVE)
            continue;
        assert_true(span_valid(given));
        for (uint32_t k = 0; k < given->count; k++, tasks++) {
            const uint8_t *data;
            size_t size;
            span_task(given, k, &data, &size);
            assert_int_equal(size, (given->first + k) % 7);
            for (size_t b = 0; b < size; b++)
                assert_int_equal(data[b], given->first + k);
        }
    }
    return tasks;
}

static struct payload *zeros(size_t size)
{
    struct payload *payload = payload_create(size);
    memset(payload_bytes(payload), 0, size);
    return payload;
}

/* Inputs of several sizes: each process gets the bytes of its own tasks. */
static void inputs_of_several_sizes(void **state)
{
    struct fake *f = *state;
    uint32_t tasks = 0;
    size_t total = 0;
    struct payload *sizes = zeros(4 * 200);
    fake_start(f, 2);
    for (uint32_t i = 0; i < 200; i++) {
        payload_bytes(sizes)[4 * i] = (uint8_t)(i % 7);
        total += i % 7;
    }
    struct payload *data = payload_create(total);
    for (size_t i = 0, at = 0; i < 200; at += i % 7, i++)
        memset(payload_bytes(data) + at, (int)i, i % 7);
    fake_tasks_with(f, 0, 200, sizes, data);
    while (fake_counts(f).held > 0) {
        struct worker_event flush = {.kind = WORKER_FLUSH, .now_ms = f->now};
        assert_int_equal(worker_core_step(f->core, &flush, &f->effects), 0);
        tasks += check_given(f);
        fake_collect(f);
        for (uint64_t n = 1; n <= 2; n++)
            if (f->processes[n].ranges_count > 0)
                fake_done(f, n, UINT32_MAX, 10000, 0);
    }
    assert_int_equal(tasks, 200);
    /* The bound on bytes, with a table of sizes. */
    f->config.given_bytes_max = 1 << 20;
    sizes = zeros(4 * 100);
    for (uint32_t i = 0; i < 100; i++)
        payload_bytes(sizes)[4 * i + 2] = 6; /* 6 << 16 bytes each */
    fake_tasks_with(f, 1000, 100, sizes, payload_create(100 * (6u << 16)));
    fake_event(f, WORKER_FLUSH);
    assert_true(fake_given(f, 1) >= 1 && fake_given(f, 1) <= 2);
}

static void a_job_begins_with_what_its_function_took_before(void **state)
{
    struct fake *f = *state;
    fake_start(f, 1);
    fake_tasks(f, 1, 1, 0, 1000);
    while (fake_counts(f).held > 0) {
        fake_settle(f);
        fake_done(f, 1, UINT32_MAX, 1000, 0);
    }
    fake_close_job(f, 1, 1);
    struct message *open = fake_job_open(1, 2);
    memcpy(open->job_open.function, "f1", 3);
    fake_message(f, open);
    fake_tasks(f, 1, 2, 0, 1000);
    fake_settle(f);
    assert_true(fake_given(f, 1) >= 100);
    fake_message(f, fake_job_open(1, 3)); /* another function knows nothing */
    fake_tasks(f, 1, 3, 0, 1000);
    while (f->processes[1].ranges_count > 0 && f->processes[1].ranges[0].job == 2) {
        fake_done(f, 1, UINT32_MAX, 1000, 0);
        fake_settle(f);
    }
    assert_int_equal(fake_given(f, 1), 1);
}

static void claims_follow_the_task_time(void **state)
{
    struct fake *f = *state;
    fake_start_busy(f, 1, 100000);
    assert_int_equal(fake_effect(f, WORKER_PROCESS_GIVE, 0)->claim, 1);
    for (int i = 0; i < 10; i++) {
        fake_done(f, 1, UINT32_MAX, 1000, 0);
        fake_settle(f);
    }
    size_t gives = fake_logged(f, WORKER_PROCESS_GIVE);
    assert_int_equal(fake_effect(f, WORKER_PROCESS_GIVE, gives - 1)->claim, 200);
    /* A task that must not run twice is claimed and published alone. */
    struct message *open = fake_job_open(1, 2);
    open->job_open.once = true;
    open->job_open.priority = 5;
    fake_message(f, open);
    fake_tasks(f, 1, 2, 0, 100);
    while (f->processes[1].ranges_count > 0 && f->processes[1].ranges[0].job == 1)
        fake_done(f, 1, UINT32_MAX, 1000, 0);
    fake_settle(f);
    gives = fake_logged(f, WORKER_PROCESS_GIVE);
    const struct worker_effect *give = fake_effect(f, WORKER_PROCESS_GIVE, gives - 1);
    assert_int_equal(give->job, 2);
    assert_int_equal(give->claim, 1);
}

static void an_idle_process_gets_half_of_anothers_work(void **state)
{
    struct fake *f = *state;
    fake_start_busy(f, 2, 200);
    /* Both have tasks ahead; process 1 is in a long one, process 2 runs out. */
    for (int i = 0; i < 6; i++) {
        fake_done(f, 1, 1, 20000, 0);
        fake_finish(f, 2, 1, 20000);
    }
    const uint64_t stuck = f->processes[1].ranges[0].first;
    for (int i = 0; i < 1000 && fake_counts(f).held > 1; i++) {
        fake_finish(f, 2, 1, 20000);
    }
    assert_int_equal(fake_counts(f).held, 1);
    assert_int_equal(fake_given(f, 1), 1);
    assert_int_equal(f->processes[1].ranges[0].first, stuck);
    assert_true(fake_logged(f, WORKER_PROCESS_TAKE_BACK) >= 1);
}

static void priority_first_then_the_oldest_job(void **state)
{
    struct fake *f = *state;
    fake_start(f, 1);
    fake_message(f, fake_job_open(1, 2));
    struct message *open = fake_job_open(1, 3);
    open->job_open.priority = 1;
    fake_message(f, open);
    fake_tasks(f, 1, 2, 0, 2);
    fake_tasks(f, 1, 1, 0, 2);
    fake_tasks(f, 1, 3, 0, 2);
    const uint64_t order[] = {3, 3, 1, 1, 2, 2};
    fake_settle(f);
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(f->processes[1].ranges[0].job, order[i]);
        fake_finish(f, 1, 1, 10000000);
    }
}

static void a_slot_is_a_running_task(void **state)
{
    struct fake *f = *state;
    fake_start(f, 2);
    fake_message(f, fake_pool_open(2, 0));
    fake_message(f, fake_job_open(2, 1));
    fake_ready_all(f);
    assert_int_equal(fake_alive(f), 4); /* warm processes hold no slot */
    fake_tasks(f, 1, 1, 0, 100);
    fake_tasks(f, 2, 1, 0, 100);
    fake_settle(f);
    assert_int_equal(fake_running(f), 2);
}

/* Finishes tasks of `task_ns` round by round; how many of each pool ended. */
static void run_two_pools(struct fake *f, uint64_t task_ns, int rounds, uint64_t ran[3])
{
    ran[1] = ran[2] = 0;
    for (int round = 0; round < rounds; round++) {
        for (uint64_t n = 1; n <= f->processes_max; n++) {
            if (f->processes[n].ranges_count == 0)
                continue;
            ran[f->processes[n].pool.bytes[0]]++;
            fake_done(f, n, 1, task_ns, 0);
        }
        fake_settle(f);
        assert_true(fake_running(f) <= f->config.slots);
        fake_forget(f);
    }
}

static void two_pools_share_slots_fairly(void **state)
{
    static const uint64_t times[] = {100000, 1000000, 50000000};
    for (size_t i = 0; i < 3; i++)
        for (uint32_t slots = 1; slots <= 4; slots++) {
            struct fake *f = *state;
            uint64_t ran[3];
            fake_start_busy(f, slots, 100000);
            run_two_pools(f, times[i], 20, ran); /* the first pool has it all */
            assert_int_equal(ran[2], 0);
            fake_message(f, fake_pool_open(2, 0));
            fake_message(f, fake_job_open(2, 1));
            fake_ready_all(f);
            fake_tasks(f, 2, 1, 0, 100000);
            run_two_pools(f, times[i], 400, ran);
            const double share = (double)ran[1] / (double)(ran[1] + ran[2]);
            assert_true(share > 0.4 && share < 0.6);
            fake_destroy(f);
        }
}

static void a_share_bounds_processes_and_may_change(void **state)
{
    struct fake *f = *state;
    fake_start(f, 4);
    assert_int_equal(fake_alive(f), 4);
    fake_message(f, fake_pool_open(1, 2));
    fake_tasks(f, 1, 1, 0, 100);
    fake_settle(f);
    assert_int_equal(fake_running(f), 2);
    fake_pass(f, 1500); /* those beyond the share are closed after a while */
    fake_reap(f);
    assert_int_equal(fake_alive(f), 2);
    fake_message(f, fake_pool_open(1, 0));
    fake_ready_all(f);
    assert_int_equal(fake_alive(f), 4);
    assert_int_equal(fake_running(f), 4);
    /* While they run, too. */
    fake_message(f, fake_pool_open(1, 1));
    uint64_t ran[3];
    run_two_pools(f, 1000000, 4, ran);
    assert_int_equal(fake_running(f), 1);
}

static void tasks_per_process_counts_tasks(void **state)
{
    struct fake *f = *state;
    fake_create(f, 2);
    fake_join(f);
    struct message *open = fake_pool_open(1, 2);
    open->pool_open.tasks_per_process = 7;
    fake_message(f, open);
    fake_program(f, WORKER_PROGRAM_READY);
    fake_ready_all(f);
    fake_message(f, fake_job_open(1, 1));
    fake_tasks(f, 1, 1, 0, 70);
    for (int round = 0; fake_counts(f).held > 0; round++) {
        assert_true(round < 500);
        fake_settle(f);
        for (uint64_t n = 1; n <= f->processes_max; n++)
            if (f->processes[n].ranges_count > 0)
                fake_done(f, n, UINT32_MAX, 1000, 0);
        fake_settle(f);
        fake_reap(f);
        fake_ready_all(f);
        assert_true(fake_alive(f) <= 2);
    }
    uint64_t ran = 0;
    for (uint64_t n = 1; n <= f->processes_max; n++) {
        assert_true(f->processes[n].ran <= 7);
        ran += f->processes[n].ran;
    }
    assert_int_equal(ran, 70);
    assert_int_equal(fake_logged(f, WORKER_PROCESS_KILL), 0);
}

static void warm_processes_are_bounded(void **state)
{
    struct fake *f = *state;
    fake_create(f, 2);
    f->config.processes_idle_max = 1;
    fake_join(f);
    for (uint8_t pool = 1; pool <= 3; pool++) {
        f->now += 10;
        fake_message(f, fake_pool_open(pool, 0));
        if (pool == 1)
            fake_program(f, WORKER_PROGRAM_READY);
        fake_ready_all(f);
        fake_reap(f);
    }
    assert_int_equal(fake_alive(f), 3);
    /* The longest idle ones are gone. */
    assert_true(f->processes[1].gone && f->processes[2].gone && f->processes[3].gone);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FAKE_TEST(processes_start_at_once_and_once),
        FAKE_TEST(one_task_each_while_unmeasured_then_doubling),
        FAKE_TEST(work_ahead_by_task_time),
        FAKE_TEST(one_outlier_does_not_stop_giving_ahead),
        FAKE_TEST(pieces_end_at_chunks),
        FAKE_TEST(bytes_bound_what_is_given),
        FAKE_TEST(inputs_of_several_sizes),
        FAKE_TEST(a_job_begins_with_what_its_function_took_before),
        FAKE_TEST(claims_follow_the_task_time),
        FAKE_TEST(an_idle_process_gets_half_of_anothers_work),
        FAKE_TEST(priority_first_then_the_oldest_job),
        FAKE_TEST(a_slot_is_a_running_task),
        FAKE_TEST(two_pools_share_slots_fairly),
        FAKE_TEST(a_share_bounds_processes_and_may_change),
        FAKE_TEST(tasks_per_process_counts_tasks),
        FAKE_TEST(warm_processes_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
