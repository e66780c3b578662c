/* SPDX-License-Identifier: Apache-2.0
 *
 * test_worker_story.c: long runs of a worker's core. A scripted life with every
 * allocation made to fail once; random lives from seeds, in which every task that was
 * sent must end in exactly one way, slots and shares hold, and the same seed gives the
 * same effects. */
#include "tests/unit/worker_script.h"

#define TASKS_MAX 4096

/* ------------------------------------------------------- every allocation fails once */

struct outcome {
    uint64_t done, failed, returned, starts, allocations;
    bool stopped;
};

static void count_results(struct fake *f, struct outcome *outcome)
{
    for (size_t i = 0; i < fake_sent(f, MSG_DONE); i++) {
        const struct message *done = fake_nth(f, MSG_DONE, i);
        for (uint32_t k = 0; k < done->done.results_count; k++)
            outcome->done += done->done.results[k].count;
    }
    for (size_t i = 0; i < fake_sent(f, MSG_FAILED); i++)
        outcome->failed += fake_nth(f, MSG_FAILED, i)->failed.results_count;
    outcome->returned += fake_ranges(f, MSG_RETURNED);
    outcome->starts += fake_logged(f, WORKER_PROCESS_START);
    outcome->stopped = outcome->stopped || fake_logged(f, WORKER_STOPPED) > 0;
    fake_forget(f);
}

static void finish_round(struct fake *f, uint64_t task_ns)
{
    for (uint64_t n = 1; n <= f->processes_max; n++)
        if (f->processes[n].ranges_count > 0 && !f->processes[n].killed)
            fake_done(f, n, 3, task_ns, 8);
    fake_settle(f);
}

static struct outcome live(uint64_t fail_at)
{
    struct fake *f = mem_alloc(sizeof *f);
    struct outcome outcome = {0};
    fake_create(f, 2);
    fake_run(f);
    f->fail_at = fail_at;
    fake_welcome(f, 1, 0);
    struct message *open = fake_pool_open(1, 0);
    open->pool_open.tasks_per_process = 40;
    fake_message(f, open);
    fake_settle(f);
    fake_program_needs(f, 0);
    fake_program(f, WORKER_PROGRAM_READY);
    fake_ready_all(f);
    fake_message(f, fake_job_open(1, 1));
    open = fake_job_open(1, 2);
    open->job_open.timeout_ms = 100;
    open->job_open.chunk = 4;
    fake_message(f, open);
    fake_tasks(f, 1, 1, 0, 100);
    fake_tasks(f, 1, 2, 0, 40);
    fake_settle(f);
    for (int i = 0; i < 6; i++)
        finish_round(f, 20000);
    fake_message(f, fake_tasks_message(1, 1, 60, 20, 2)); /* replaces some */
    fake_failed(f, 1, FARPOOL_EFUNCTION, "no");
    fake_settle(f);
    fake_cancel(f, 1, 1, 90, 5, false);
    fake_cancel(f, 1, 1, 40, 50, true);
    fake_settle(f);
    fake_reap(f);
    fake_ready_all(f);
    fake_recall(f, 1, 2, 8);
    fake_settle(f);
    fake_pass(f, 250); /* LOAD, and timeouts */
    fake_reap(f);
    fake_ready_all(f);
    fake_event(f, WORKER_LINK_DOWN);
    finish_round(f, 20000);
    for (uint64_t n = f->processes_max; n > 0; n--)
        if (f->processes[n].ranges_count > 0) {
            fake_gone(f, n, true, 11, 0, NULL);
            break;
        }
    fake_settle(f);
    fake_welcome(f, 2, 0);
    fake_settle(f);
    fake_ready_all(f);
    fake_ack(f, 1, 0, 3);
    finish_round(f, 20000);
    fake_event(f, WORKER_DRAIN);
    fake_settle(f);
    for (int i = 0; i < 50; i++)
        finish_round(f, 20000);
    fake_reap(f);
    fake_ack(f, 1, 0, UINT64_MAX);
    fake_settle(f);
    fake_reap(f);
    count_results(f, &outcome);
    outcome.allocations = f->allocations;
    fake_destroy(f);
    mem_free(f);
    return outcome;
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    const struct outcome plain = live(0);
    assert_true(plain.stopped && plain.done > 50 && plain.failed >= 2);
    assert_true(plain.allocations > 100);
    for (uint64_t i = 1; i <= plain.allocations; i++) {
        const struct outcome outcome = live(i);
        assert_true(outcome.stopped);
        assert_int_equal(outcome.done, plain.done);
        assert_int_equal(outcome.failed, plain.failed);
        assert_int_equal(outcome.returned, plain.returned);
        assert_int_equal(outcome.starts, plain.starts);
    }
}

static void many_allocations_fail_in_a_row(void **state)
{
    (void)state;
    /* FLUSH never fails, and asks to be called again. */
    struct fake *f = mem_alloc(sizeof *f);
    fake_start(f, 2);
    fake_tasks(f, 1, 1, 0, 10);
    struct worker_event flush = {.kind = WORKER_FLUSH, .now_ms = f->now};
    for (int i = 0; i < 5; i++) {
        mem_fail_after(1);
        assert_int_equal(worker_core_step(f->core, &flush, &f->effects), 0);
        mem_fail_after(0);
        worker_core_check(f->core);
    }
    fake_collect(f);
    fake_settle(f);
    assert_int_equal(fake_running(f), 2);
    fake_destroy(f);
    mem_free(f);
}

/* ----------------------------------------------------------------------- random lives */

enum fate { NEVER, WAITING, DONE, FAILED, RETURNED, CANCELLED };

struct life {
    struct fake f;
    uint64_t seed;
    uint32_t slots, shares[3];
    uint64_t tasks_per_process;
    uint64_t next_index[3][4]; /* by pool and job */
    enum fate fates[3][4][TASKS_MAX];
    bool blocking, blocked[FAKE_PROCESSES];
    uint8_t restarts;
    int steps;
};

static void meet(struct life *life, const struct id *pool, uint64_t job, uint64_t index,
                 enum fate fate)
{
    enum fate *known = &life->fates[pool->bytes[0]][job][index];
    /* A result may come again after a new coordinator; nothing else twice. */
    assert_true(*known == WAITING || *known == fate || *known == CANCELLED);
    assert_true(fate != RETURNED || *known != RETURNED);
    if (*known == WAITING)
        *known = fate;
}

static void meet_ranges(struct life *life, const struct message *message)
{
    for (uint32_t i = 0; i < message->returned.ranges_count; i++)
        for (uint64_t k = 0; k < message->returned.ranges[i].count; k++)
            meet(life, &message->returned.pool, message->returned.job,
                 message->returned.ranges[i].first + k, RETURNED);
}

static void meet_message(struct life *life, const struct message *message)
{
    if (message->kind == MSG_DONE)
        for (uint32_t i = 0; i < message->done.results_count; i++)
            for (uint32_t k = 0; k < message->done.results[i].count; k++)
                meet(life, &message->done.pool, message->done.job,
                     message->done.results[i].first + k, DONE);
    if (message->kind == MSG_FAILED)
        for (uint32_t i = 0; i < message->failed.results_count; i++)
            meet(life, &message->failed.pool, message->failed.job,
                 message->failed.results[i].index, FAILED);
    if (message->kind == MSG_RETURNED)
        meet_ranges(life, message);
}

static void read_all(struct life *life)
{
    for (size_t i = 0; i < life->f.sent_count; i++)
        meet_message(life, life->f.sent[i]);
    fake_forget(&life->f);
}

static uint64_t pick(struct life *life, uint64_t bound)
{
    return rng_below(&life->seed, bound);
}

/* A process that has tasks, or 0. */
static uint64_t busy_process(struct life *life)
{
    const uint64_t max = life->f.processes_max;
    const uint64_t start = max ? pick(life, max) : 0;
    for (uint64_t i = 0; i < max; i++) {
        const uint64_t n = 1 + (start + i) % max;
        if (life->f.processes[n].ranges_count > 0 && !life->f.processes[n].killed)
            return n;
    }
    return 0;
}

static void send_some(struct life *life)
{
    const uint8_t pool = (uint8_t)(1 + pick(life, 2));
    const uint64_t job = 1 + pick(life, 3);
    const uint64_t first = life->next_index[pool][job];
    const uint32_t count = (uint32_t)(1 + pick(life, 40));
    if (first + count > TASKS_MAX)
        return;
    life->next_index[pool][job] += count;
    for (uint32_t i = 0; i < count; i++)
        life->fates[pool][job][first + i] = WAITING;
    fake_tasks(&life->f, pool, job, first, count);
}

static void cancel_some(struct life *life)
{
    const uint8_t pool = (uint8_t)(1 + pick(life, 2));
    const uint64_t job = 1 + pick(life, 3);
    const uint64_t sent = life->next_index[pool][job];
    if (sent == 0)
        return;
    const uint64_t first = pick(life, sent);
    const uint64_t count = 1 + pick(life, sent - first);
    fake_cancel(&life->f, pool, job, first, count, pick(life, 2));
    for (uint64_t i = 0; i < count; i++)
        if (life->fates[pool][job][first + i] == WAITING)
            life->fates[pool][job][first + i] = CANCELLED;
}

static void work_some(struct life *life)
{
    static const uint64_t times[] = {10, 1000, 100000, 1000000, 20000000};
    const uint64_t n = busy_process(life);
    if (n == 0 || life->blocked[n])
        return;
    if (pick(life, 10) == 0)
        fake_failed(&life->f, n, FARPOOL_EFUNCTION, "no");
    else
        fake_done(&life->f, n, (uint32_t)(1 + pick(life, 50)), times[pick(life, 5)],
                  pick(life, 3));
}

static void block_some(struct life *life)
{
    const uint64_t n = life->blocking ? busy_process(life) : 0;
    if (n == 0)
        return;
    life->blocked[n] = !life->blocked[n];
    fake_blocked(&life->f, n, life->blocked[n]);
}

static void start_some(struct life *life)
{
    for (uint64_t n = 1; n <= life->f.processes_max; n++) {
        const struct fake_process *process = &life->f.processes[n];
        if (process->gone)
            continue;
        if ((process->killed || process->closing) && pick(life, 2))
            fake_gone(&life->f, n, process->ranges_count > 0 && pick(life, 2), 9, 0,
                      NULL);
        else if (!process->ready && !process->killed && pick(life, 2))
            fake_ready(&life->f, n);
    }
}

static void lose_some(struct life *life)
{
    const uint64_t n = busy_process(life);
    if (n > 0)
        fake_gone(&life->f, n, true, 9, 0, NULL);
}

static void open_all(struct life *life)
{
    for (uint8_t pool = 1; pool <= 2; pool++) {
        struct message *open = fake_pool_open(pool, life->shares[pool]);
        open->pool_open.tasks_per_process = life->tasks_per_process;
        fake_message(&life->f, open);
        for (uint64_t job = 1; job <= 3; job++) {
            struct message *message = fake_job_open(pool, job);
            message->job_open.chunk = job == 2 ? 5 : 0;
            message->job_open.priority = job == 3;
            message->job_open.timeout_ms = job == 1 ? 500 : 0;
            fake_message(&life->f, message);
        }
    }
}

/* Another coordinator: what is not told as held, and has no result, is gone there. */
static void restart_coordinator(struct life *life)
{
    if (life->restarts == 220)
        return;
    fake_event(&life->f, WORKER_LINK_DOWN);
    fake_settle(&life->f);
    if (pick(life, 2))
        work_some(life);
    fake_welcome(&life->f, (uint8_t)(10 + life->restarts++), 1 + pick(life, 1 << 20));
    open_all(life);
}

static void do_something(struct life *life)
{
    switch (pick(life, 30)) {
    case 0:
    case 1:
        send_some(life);
        break;
    case 2:
        if (pick(life, 8) == 0)
            cancel_some(life);
        break;
    case 3:
        fake_recall(&life->f, (uint8_t)(1 + pick(life, 2)), 1 + pick(life, 3),
                    pick(life, 40));
        break;
    case 4:
        block_some(life);
        break;
    case 5:
        if (pick(life, 4) == 0)
            lose_some(life);
        break;
    case 8:
        if (pick(life, 6) == 0)
            restart_coordinator(life);
        break;
    case 9:
        life->f.now += pick(life, 150);
        fake_message(&life->f, message_create(MSG_HEARTBEAT));
        break;
    case 10:
    case 11:
        start_some(life);
        break;
    default:
        work_some(life);
    }
}

/* No more run than there are slots, and no pool has more processes than its share; both
 * may be passed for a while where tasks block. */
static void check_bounds(const struct life *life)
{
    uint64_t running = 0, alive[3] = {0};
    const struct fake *f = &life->f;
    for (uint64_t n = 1; n <= f->processes_max; n++) {
        const struct fake_process *process = &f->processes[n];
        if (!process->started || process->gone)
            continue;
        alive[process->pool.bytes[0]]++;
        running += process->ranges_count > 0 && !process->killed;
        if (life->tasks_per_process > 0)
            assert_true(process->ran + fake_given(f, n) <= life->tasks_per_process);
    }
    for (int pool = 1; pool <= 2 && !life->blocking; pool++) {
        const uint64_t share = life->shares[pool];
        assert_true(alive[pool] <= (share && share < life->slots ? share : life->slots));
    }
    assert_true(life->blocking || running <= life->slots);
}

/* ACKs what was sent, and only that. */
static void ack_read(struct life *life)
{
    struct fake *f = &life->f;
    struct message *acks[FAKE_LOG];
    size_t count = 0;
    for (size_t i = 0; i < f->sent_count; i++) {
        const struct message *message = f->sent[i];
        const bool done = message->kind == MSG_DONE;
        if (!done && message->kind != MSG_FAILED)
            continue;
        const uint32_t results =
            done ? message->done.results_count : message->failed.results_count;
        struct message *ack = message_create(MSG_ACK);
        ack->ack.pool = done ? message->done.pool : message->failed.pool;
        ack->ack.worker = f->config.worker;
        ack->ack.results = mem_alloc(results * sizeof *ack->ack.results);
        ack->ack.results_count = results;
        for (uint32_t k = 0; k < results; k++)
            ack->ack.results[k] = (struct msg_seqs){
                done ? message->done.results[k].seq : message->failed.results[k].seq, 1};
        acks[count++] = ack;
    }
    read_all(life);
    for (size_t i = 0; i < count; i++)
        fake_message(f, acks[i]);
}

static void finish(struct life *life)
{
    for (int round = 0; fake_counts(&life->f).held + fake_counts(&life->f).unacked > 0;
         round++) {
        assert_true(round < 20000); /* no task hangs */
        life->f.now++;
        for (uint64_t n = 1; n <= life->f.processes_max; n++)
            if (life->blocked[n] && life->f.processes[n].ranges_count > 0) {
                life->blocked[n] = false;
                fake_blocked(&life->f, n, false);
            }
        start_some(life);
        for (int i = 0; i < 4; i++)
            work_some(life);
        fake_settle(&life->f);
        ack_read(life);
    }
}

static uint64_t live_randomly(uint64_t seed, int steps)
{
    struct life *life = mem_alloc(sizeof *life);
    life->seed = seed;
    life->slots = (uint32_t)(1 + pick(life, 4));
    life->tasks_per_process = pick(life, 3) == 0 ? 1 + pick(life, 60) : 0;
    life->blocking = pick(life, 2);
    life->shares[1] = (uint32_t)pick(life, 4);
    fake_create(&life->f, life->slots);
    life->f.config.processes_idle_max = (uint32_t)pick(life, 4);
    fake_run(&life->f);
    fake_welcome(&life->f, 1, 1 + pick(life, 1 << 20));
    open_all(life);
    fake_program(&life->f, WORKER_PROGRAM_READY);
    for (life->steps = 0;
         life->steps < steps && life->f.processes_max < FAKE_PROCESSES / 4;
         life->steps++) {
        do_something(life);
        if (pick(life, 5) == 0)
            life->f.fail_at = 1 + pick(life, 8);
        if (pick(life, 2))
            fake_settle(&life->f);
        check_bounds(life);
        if (pick(life, 3) == 0)
            ack_read(life);
    }
    life->f.fail_at = 0;
    read_all(life); /* what was not ACKed on an old link comes again */
    restart_coordinator(life);
    finish(life);
    for (int pool = 1; pool <= 2; pool++)
        for (int job = 1; job <= 3; job++)
            for (uint64_t i = 0; i < life->next_index[pool][job]; i++)
                assert_true(life->fates[pool][job][i] > WAITING);
    const uint64_t trace = life->f.trace;
    fake_destroy(&life->f);
    mem_free(life);
    return trace;
}

static void every_task_ends_in_one_way(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 150; seed++)
        live_randomly(seed, 400);
}

static void the_same_seed_gives_the_same_life(void **state)
{
    (void)state;
    const uint64_t trace = live_randomly(77, 400);
    assert_int_equal(trace, live_randomly(77, 400));
    assert_true(trace != live_randomly(78, 400));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(many_allocations_fail_in_a_row),
        cmocka_unit_test(every_task_ends_in_one_way),
        cmocka_unit_test(the_same_seed_gives_the_same_life),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
