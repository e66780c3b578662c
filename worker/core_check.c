/* SPDX-License-Identifier: Apache-2.0
 *
 * core_check.c: asserts every invariant of a worker's core, walking all of it: each
 * piece, process, job, pool and result is in the one container that its state names, and
 * every count is what counting gives. For tests and the simulator. */
#include "worker/core_internal.h"

#include <assert.h>

struct sums {
    uint64_t held_tasks, held_bytes, jobs, processes, results, result_bytes, sent_bytes;
    uint64_t output_bytes;
    uint64_t unsent, gates;
    uint32_t counts[PROCESS_STATES], pools;
};

static void check_piece(const struct piece *piece, const struct job *job,
                        enum piece_state state)
{
    assert(piece->state == state && piece->job == job && piece->count > 0);
    assert(piece->attempt > 0);
    assert(piece->bytes == worker_piece_bytes(piece, piece->count));
    assert(piece->data != NULL || piece->bytes == 0);
    assert(piece->data == NULL || piece->offset + piece->bytes <= piece->data->size);
    assert((piece->state == PIECE_QUEUED) == (piece->process == NULL));
}

/* Pieces of one tree: in order, disjoint, of one state. Returns how many. */
static uint64_t check_tree(struct job *job, struct worker_pieces *tree,
                           enum piece_state state, uint64_t tasks, struct sums *sums)
{
    uint64_t pieces = 0, counted = 0;
    struct piece *piece, *before = NULL;
    RB_FOREACH (piece, worker_pieces, tree) {
        check_piece(piece, job, state);
        assert(before == NULL || piece_last(before) < piece->first);
        before = piece;
        pieces++;
        counted += piece->count;
        sums->held_bytes += piece->bytes;
    }
    assert(counted == tasks);
    sums->held_tasks += counted;
    return pieces;
}

static uint64_t count_cancelled(const struct job *job)
{
    uint64_t pieces = 0;
    for (int state = 0; state < PROCESS_STATES; state++) {
        const struct process *process;
        TAILQ_FOREACH (process, &job->pool->processes[state], link) {
            const struct piece *piece;
            TAILQ_FOREACH (piece, &process->pieces, link)
                pieces += piece->job == job && piece->state != PIECE_GIVEN;
        }
    }
    return pieces;
}

static void check_job(struct job *job, struct pool *pool, struct sums *sums)
{
    assert(job->pool == pool && job->limit > 0);
    uint64_t pieces =
        check_tree(job, &job->queued, PIECE_QUEUED, job->queued_tasks, sums);
    pieces += check_tree(job, &job->given, PIECE_GIVEN, job->given_tasks, sums);
    assert(job->pieces == pieces + count_cancelled(job));
    /* No task is both queued and given. */
    struct piece *piece;
    RB_FOREACH (piece, worker_pieces, &job->queued)
        assert(worker_piece_overlap(&job->given, piece->first, piece_last(piece)) ==
               NULL);
    assert((RB_FIND(worker_turns, &pool->waiting, job) == job) ==
           (job->queued_tasks > 0));
    if (job->state == JOB_CLOSED)
        assert(pieces == 0 && job->pieces > 0 && job->recall == RECALL_NONE);
    else
        assert(worker_job_find(pool, job->number) == job);
    sums->jobs++;
}

static void check_pieces_of(const struct process *process)
{
    uint64_t tasks = 0, bytes = 0;
    uint32_t pieces = 0, cancelled = 0;
    const struct piece *piece;
    TAILQ_FOREACH (piece, &process->pieces, link) {
        assert(piece->process == process && piece->job->pool == process->pool);
        assert(piece->give > 0 && piece->give <= process->gives);
        check_piece(piece, piece->job, piece->state);
        tasks += piece->count;
        bytes += piece->bytes;
        pieces++;
        cancelled += piece->state != PIECE_GIVEN;
    }
    assert(tasks == process->given_tasks && bytes == process->given_bytes);
    assert(pieces == process->given_pieces && cancelled == process->cancelled_pieces);
    assert(process->life_tasks >= process->given_tasks);
}

static void check_gate(const struct process *process)
{
    const struct piece *piece;
    assert(process->state >= PROCESS_RUNNING && process->state <= PROCESS_BLOCKED);
    assert(process->given_tasks > 0 && process->cancelled_pieces == 0);
    TAILQ_FOREACH (piece, &process->pieces, link)
        assert(piece->give == process->gate && piece->watch > 0);
}

/* First how many have each number, then how many run under it; `own` is free for it. */
static void check_slots(struct worker_core *core)
{
    const struct pool *pool;
    for (uint32_t i = 0; i < core->config.slots; i++)
        core->slots[i].own = 0;
    for (int running = 0; running < 2; running++) {
        TAILQ_FOREACH (pool, &core->pools, link) {
            for (int state = 0; state < PROCESS_STATES; state++) {
                const struct process *process;
                const bool runs = state == PROCESS_RUNNING || state == PROCESS_YIELDING;
                TAILQ_FOREACH (process, &pool->processes[state], link)
                    core->slots[process->slot].own += runs || !running;
            }
        }
        for (uint32_t i = 0; i < core->config.slots; i++) {
            struct slot *slot = &core->slots[i];
            assert(slot->own == (running ? slot->running : slot->alive));
            slot->own = 0;
        }
    }
}

static void check_process(const struct process *process, const struct pool *pool,
                          enum process_state state)
{
    assert(process->pool == pool && process->state == state);
    assert((process->reason != KILL_NONE) == (state == PROCESS_KILLED));
    check_pieces_of(process);
    if (process->gate != 0)
        check_gate(process);
    const uint64_t limit = pool->tasks_per_process;
    assert(limit == 0 || process->life_tasks <= limit);
    if (state >= PROCESS_RUNNING && state <= PROCESS_BLOCKED)
        assert(process->given_tasks > 0);
    else if (state != PROCESS_KILLED)
        assert(process->given_tasks == 0);
}

static void check_processes(const struct pool *pool, struct sums *sums)
{
    uint64_t total = 0;
    for (int state = 0; state < PROCESS_STATES; state++) {
        uint32_t counted = 0;
        const struct process *process;
        TAILQ_FOREACH (process, &pool->processes[state], link) {
            check_process(process, pool, state);
            sums->gates += process->gate != 0;
            counted++;
        }
        assert(counted == pool->counts[state]);
        sums->counts[state] += counted;
        total += counted;
    }
    assert(total == pool->total);
    sums->processes += total;
}

static void check_results(struct pool *pool, struct sums *sums)
{
    uint64_t counted = 0, tasks = 0;
    struct result *result;
    sums->output_bytes += pool->output.text_bytes;
    RB_FOREACH (result, worker_results, &pool->results) {
        assert(result->pool == pool && result->seq < pool->next_seq && result->count > 0);
        assert((result->code != 0) == (result->kind == MSG_FAILED));
        sums->result_bytes += result->bytes;
        if (result->state == RESULT_SENT)
            sums->sent_bytes += result->bytes;
        else
            sums->unsent++;
        counted++;
    }
    RB_FOREACH (result, worker_done_tasks, &pool->done_tasks)
        tasks++;
    assert(counted == pool->results_count && tasks == counted);
    sums->results += counted;
}

static void check_pool(struct worker_core *core, struct pool *pool, struct sums *sums)
{
    uint64_t jobs = 0, queued = 0, given = 0, recalls = 0;
    struct job *job;
    RB_FOREACH (job, worker_jobs, &pool->jobs) {
        assert(job->state == JOB_OPEN);
        check_job(job, pool, sums);
        jobs++;
        queued += job->queued_tasks;
        given += job->given_tasks;
        recalls += job->recall != RECALL_NONE;
    }
    TAILQ_FOREACH (job, &pool->closed, link) {
        assert(job->state == JOB_CLOSED);
        check_job(job, pool, sums);
        jobs++;
    }
    assert(jobs == pool->jobs_count && recalls == pool->recalls);
    assert(queued == pool->queued_tasks && given == pool->given_tasks);
    check_processes(pool, sums);
    check_results(pool, sums);
    const bool known = worker_pool_find(core, &pool->id) == pool;
    assert(known == (pool->state != POOL_FORGOTTEN));
    if (pool->state == POOL_ENDING || pool->state == POOL_FORGOTTEN)
        assert(given == 0 && pool->total == pool->counts[PROCESS_KILLED] &&
               pool->results_count == 0);
    sums->pools++;
}

static void check_programs(struct worker_core *core)
{
    struct program *program;
    RB_FOREACH (program, worker_programs, &core->programs) {
        assert(!TAILQ_EMPTY(&program->pools));
        const struct pool *pool;
        TAILQ_FOREACH (pool, &program->pools, in_program)
            assert(pool->program == program);
        if (program->state == PROGRAM_FETCHING)
            assert(program->want_file < program->files_count);
    }
}

static uint64_t check_outbox(const struct outbox *outbox)
{
    const struct result *result;
    uint64_t counted = 0;
    TAILQ_FOREACH (result, &outbox->unsent, link) {
        assert(result->state == RESULT_UNSENT && result->outbox == outbox);
        counted++;
    }
    return counted;
}

static void check_unsent(struct worker_core *core, uint64_t unsent)
{
    struct lane *lane;
    uint64_t counted = check_outbox(&core->outbox);
    RB_FOREACH (lane, worker_tickets, &core->tickets) {
        assert(lane->outbox.lane == lane);
        counted += check_outbox(&lane->outbox);
    }
    assert(counted == unsent);
}

void worker_core_check(const struct worker_core *const_core)
{
    /* Looking through the trees needs them without const; nothing is changed. */
    struct worker_core *core = (struct worker_core *)(uintptr_t)const_core;
    struct sums sums = {0};
    struct pool *pool;
    TAILQ_FOREACH (pool, &core->pools, link)
        check_pool(core, pool, &sums);
    check_slots(core);
    check_programs(core);
    worker_shared_check(core);
    check_unsent(core, sums.unsent);
    worker_lanes_check(core);
    assert(sums.pools == core->pools_count && sums.jobs == core->jobs_count);
    assert(sums.held_tasks == core->held_tasks && sums.held_bytes == core->held_bytes);
    assert(sums.processes == core->total && sums.results == core->unacked);
    assert(sums.result_bytes == core->unacked_bytes);
    assert(sums.output_bytes == core->output_bytes);
    assert(sums.sent_bytes == core->sent_bytes);
    assert(sums.gates == core->gates);
    for (int state = 0; state < PROCESS_STATES; state++)
        assert(sums.counts[state] == core->counts[state]);
    if (core->state == CORE_STOPPED)
        assert(core->total == 0);
    if (core->state >= CORE_STOPPING)
        assert(core->link == LINK_DOWN);
}
