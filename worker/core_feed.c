/* SPDX-License-Identifier: Apache-2.0
 *
 * core_feed.c: which tasks run, where, and how many are given ahead. Once a FLUSH:
 * processes are started, idle ones get tasks while slots are free, running ones are
 * given just enough ahead that none waits, and what was given too far ahead is taken
 * back: for an idle process, for another pool's turn, or because its process is blocked.
 *
 * A slot is a running task (RUNNING, YIELDING), not a process. How much is given comes
 * from the job's measured task time; a job that was not measured begins with single
 * tasks and doubles. Nothing is begun while results are over their window. */
#include "worker/core_internal.h"

#include <assert.h>
#include <string.h>

/* --------------------------------------------------------------------- task times */

uint64_t worker_task_ns(const struct job *job)
{
    if (job->sum_tasks == 0)
        return 0;
    const uint64_t task_ns = job->sum_ns / job->sum_tasks;
    return task_ns > 0 ? task_ns : 1;
}

/* A fading average; one outlier does not make a job of short tasks a job of long ones. */
void worker_measure(struct job *job, uint64_t count, uint64_t elapsed_ns)
{
    const uint64_t task_ns = worker_task_ns(job);
    const uint64_t longest = 1ull << 50; /* 13 days, and no overflow */
    uint64_t each = elapsed_ns / count;
    if (job->sum_tasks >= 4 && each / OUTLIER > task_ns)
        each = task_ns * OUTLIER;
    if (each > longest / count)
        each = longest / count;
    if (each == 0)
        each = 1;
    job->sum_ns += each * count;
    job->sum_tasks += count;
    job->ended += count;
    while (job->ended >= job->limit && job->limit < SPAN_TASKS_MAX) {
        job->ended -= job->limit;
        job->limit *= 2;
    }
    while (job->sum_tasks > WEIGHT_MAX) {
        job->sum_ns /= 2;
        job->sum_tasks /= 2;
    }
}

/* Estimated time that a process needs for what it has; unmeasured tasks count as 1 s. */
static uint64_t work_ns(const struct process *process)
{
    uint64_t sum = 0;
    const struct piece *piece;
    TAILQ_FOREACH (piece, &process->pieces, link) {
        const uint64_t task_ns = worker_task_ns(piece->job);
        sum += piece->count * (task_ns > 0 ? task_ns : 1000000000u);
    }
    return sum;
}

/* ------------------------------------------------------------------------- giving */

static uint32_t running(const struct pool *pool)
{
    return pool->counts[PROCESS_RUNNING] + pool->counts[PROCESS_YIELDING];
}

static bool slot_is_free(const struct worker_core *core)
{
    return core->counts[PROCESS_RUNNING] + core->counts[PROCESS_YIELDING] <
           core->config.slots;
}

/* Highest priority, then the oldest; while tasks wait for nested jobs the youngest of
 * that priority, so that what others wait for is run before more begin to wait. */
static struct job *next_job(struct pool *pool)
{
    struct job *first = RB_MIN(worker_turns, &pool->waiting);
    if (first == NULL || pool->counts[PROCESS_BLOCKED] == 0)
        return first;
    struct job key;
    key.priority = first->priority - 1;
    key.serial = 0;
    struct job *behind = RB_NFIND(worker_turns, &pool->waiting, &key);
    return behind ? RB_PREV(worker_turns, &pool->waiting, behind)
                  : RB_MAX(worker_turns, &pool->waiting);
}

/* What the process may still be given in its life. */
static uint64_t life_left(const struct process *process)
{
    const uint64_t limit = process->pool->tasks_per_process;
    if (limit == 0)
        return UINT64_MAX;
    return process->life_tasks < limit ? limit - process->life_tasks : 0;
}

/* By time: enough work ahead for given_ahead_us, topped up when half of it is gone; and
 * one task behind the running one if it is so short that its process would wait. */
static uint64_t tasks_by_time(const struct worker_core *core,
                              const struct process *process, const struct job *job)
{
    const uint64_t task_ns = worker_task_ns(job);
    const uint64_t ahead_ns = 1000ull * core->config.given_ahead_us;
    if (task_ns >= AHEAD_ONE_NS)
        return process->given_tasks == 0 ? 1 : 0;
    if (process->given_tasks == 0)
        return task_ns == 0 || task_ns >= ahead_ns ? 1 : ahead_ns / task_ns;
    if (task_ns == 0)
        return 0;
    const uint64_t work = work_ns(process);
    const uint64_t tasks = work <= ahead_ns / 2 ? (ahead_ns - work) / task_ns : 0;
    return tasks == 0 && process->given_tasks == 1 && task_ns < AHEAD_ONE_NS ? 1 : tasks;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Moves the end of `count` tasks to a boundary of a chunk: down, or else up. */
static uint32_t to_chunk(const struct piece *piece, uint32_t count)
{
    const uint32_t chunk = piece->job->chunk > 0 ? piece->job->chunk : 1;
    const uint64_t place = piece->first % chunk + count;
    const uint32_t over = (uint32_t)(place % chunk);
    if (over == 0)
        return count;
    if (count > over)
        return count - over;
    return (uint32_t)least(piece->count, (uint64_t)count + chunk - over);
}

/* A fair part of what is left, so that the end of a job is even: half of it, or all where
 * little is left, since what lies at one process can be taken back for another. */
static uint64_t fair_part(const struct worker_core *core, const struct job *job)
{
    const uint64_t processes = worker_running_max(core, job->pool);
    const uint64_t task_ns = worker_task_ns(job);
    const bool little = task_ns > 0 && job->queued_tasks <= EVEN_NS / task_ns * processes;
    const uint64_t parts = little || processes == 1 ? processes : 2 * processes;
    return (job->queued_tasks + parts - 1) / parts;
}

/* How many of a piece's first tasks the process gets now; 0: none. */
static uint32_t tasks_to_give(const struct worker_core *core,
                              const struct process *process, const struct piece *piece)
{
    const struct job *job = piece->job;
    const bool empty = process->given_tasks == 0;
    if (process->given_pieces >= PIECES_AHEAD_MAX || process->gate != 0 ||
        (!empty && (job->recall != RECALL_NONE || worker_gate_wanted(core, piece))))
        return 0;
    /* Topped up by halves, as by time: a give is worth its wake-up. */
    if (process->given_tasks > job->limit / 2)
        return 0;
    const uint64_t limit = job->limit - process->given_tasks;
    uint64_t count = least(tasks_by_time(core, process, job), limit);
    count = least(count, fair_part(core, job));
    count = least(count, piece->count);
    const uint64_t room = core->config.given_bytes_max > process->given_bytes
                              ? core->config.given_bytes_max - process->given_bytes
                              : 0;
    const uint64_t fit = worker_piece_fit(piece, room);
    count = least(count, fit == 0 && empty ? 1 : fit);
    if (count > 0 && !worker_gate_wanted(core, piece))
        count = to_chunk(piece, (uint32_t)count);
    count = least(count, worker_gate_most(core, piece));
    return (uint32_t)least(count, life_left(process));
}

/* How many tasks a process claims, or publishes, at a time: a chunk, or work for `ns`. */
static uint32_t at_a_time(const struct job *job, uint64_t ns)
{
    if (job->once)
        return 1;
    if (job->chunk > 0)
        return job->chunk;
    const uint64_t task_ns = worker_task_ns(job);
    if (task_ns == 0 || task_ns > ns)
        return 1;
    return (uint32_t)least(ns / task_ns, CLAIM_MAX);
}

/* The first give of the process with so little behind it that at its end more might be
 * given. Tasks that were not measured count as nothing here. */
static uint64_t quiet_before(const struct worker_core *core,
                             const struct process *process)
{
    uint64_t behind_ns = 0, give = process->gives + 1;
    const struct piece *piece;
    TAILQ_FOREACH_REVERSE(piece, &process->pieces, piece_list, link)
    {
        if (piece->give != give && behind_ns > 500ull * core->config.given_ahead_us)
            break;
        give = piece->give;
        behind_ns += piece->count * worker_task_ns(piece->job);
    }
    return give;
}

void worker_give_effect(struct worker_core *core, const struct piece *piece,
                        const struct msg_span *span)
{
    const struct process *process = piece->process;
    const struct job *job = piece->job;
    struct worker_effect *effect = worker_add(core, WORKER_PROCESS_GIVE);
    effect->process = process->number;
    effect->give = piece->give;
    effect->span = *span;
    effect->pool = job->pool->id;
    effect->job = job->number;
    memcpy(effect->name, job->function, sizeof effect->name);
    effect->timeout_ms = job->timeout_ms;
    effect->limited = worker_is_measured(job);
    effect->calls = job->calls;
    effect->memory_bytes = job->memory_bytes;
    effect->claim = at_a_time(job, CLAIM_NS);
    effect->publish_us = job->whole ? PUBLISH_WHOLE_US : PUBLISH_US;
    effect->publish = at_a_time(job, 1000ull * effect->publish_us);
    effect->unseen_ms = job->whole ? WHOLE_TIMES * core->config.results_wait_ms : 0;
    effect->quiet_before = quiet_before(core, process);
}

static void count_give(struct worker_core *core, struct process *process,
                       struct piece *piece)
{
    worker_piece_give(core, piece, process, ++process->gives);
    process->fruitless = false;
    if (process->state == PROCESS_IDLE) {
        process->pool->served = ++core->next_served;
        process->head_since_ms = core->now_ms;
        worker_process_move(core, process, PROCESS_RUNNING);
    }
}

static int give_at_go(struct worker_core *core, struct process *process,
                      struct piece *piece)
{
    struct message *ask = worker_gate_ask(core, process, piece);
    if (ask == NULL)
        return FARPOOL_ENOMEM;
    worker_send(core, ask);
    count_give(core, process, piece);
    worker_gate_close(core, process);
    return 0;
}

/* Gives the process up to `count` first tasks of the piece. 0 or ENOMEM. */
static int give(struct worker_core *core, struct process *process, struct piece *piece,
                uint32_t count)
{
    struct msg_span span;
    if (worker_reserve(core, 1) != 0 ||
        (count < piece->count && worker_piece_split(piece, count) == NULL))
        return FARPOOL_ENOMEM;
    if (worker_gate_wanted(core, piece))
        return give_at_go(core, process, piece);
    if (worker_piece_span(piece, &span) != 0)
        return FARPOOL_ENOMEM;
    count_give(core, process, piece);
    worker_give_effect(core, piece, &span);
    worker_watch_given(core, process, piece->job);
    return 0;
}

/* *ret_given: whether it got something. */
static int give_next(struct worker_core *core, struct process *process, bool *ret_given)
{
    struct job *job = next_job(process->pool);
    *ret_given = false;
    if (job == NULL)
        return 0;
    struct piece *piece = RB_MIN(worker_pieces, &job->queued);
    const uint32_t count = tasks_to_give(core, process, piece);
    if (count == 0)
        return 0;
    if (give(core, process, piece, count) != 0)
        return FARPOOL_ENOMEM;
    *ret_given = true;
    return 0;
}

/* --------------------------------------------------------------- who gets a slot */

/* The pool with the fewest running tasks among those that have both tasks and an idle
 * process; of equals, the one that was served longest ago. */
static struct pool *next_pool(struct worker_core *core)
{
    struct pool *best = NULL, *pool;
    TAILQ_FOREACH (pool, &core->pools, link) {
        if (pool->queued_tasks == 0 || pool->counts[PROCESS_IDLE] == 0 ||
            !worker_pool_feedable(core, pool) ||
            running(pool) >= worker_running_max(core, pool))
            continue;
        if (best == NULL || running(pool) < running(best) ||
            (running(pool) == running(best) && pool->served < best->served))
            best = pool;
    }
    return best;
}

static int feed_idle(struct worker_core *core)
{
    struct pool *pool;
    while (slot_is_free(core) && (pool = next_pool(core)) != NULL) {
        struct process *process = worker_slot_next(core, pool);
        bool given;
        if (give_next(core, process, &given) != 0)
            return FARPOOL_ENOMEM;
        if (!given) /* it is at the end of its life, and about to be closed */
            return 0;
    }
    return 0;
}

static int feed_ahead(struct worker_core *core)
{
    struct pool *pool;
    TAILQ_FOREACH (pool, &core->pools, link) {
        struct process *process;
        if (!worker_pool_feedable(core, pool))
            continue;
        TAILQ_FOREACH (process, &pool->processes[PROCESS_RUNNING], link) {
            bool given = pool->queued_tasks > 0;
            while (given)
                if (give_next(core, process, &given) != 0)
                    return FARPOOL_ENOMEM;
        }
    }
    return 0;
}

static struct pool *most_running(struct worker_core *core)
{
    struct pool *most = NULL, *pool;
    TAILQ_FOREACH (pool, &core->pools, link)
        if (most == NULL || pool->counts[PROCESS_RUNNING] > most->counts[PROCESS_RUNNING])
            most = pool;
    return most;
}

static void yield_one(struct worker_core *core, struct pool *pool)
{
    worker_process_move(core, TAILQ_FIRST(&pool->processes[PROCESS_RUNNING]),
                        PROCESS_YIELDING);
}

/* More run than may: tasks that were blocked went on, or a share became smaller. */
static void yield_excess(struct worker_core *core)
{
    struct pool *pool;
    while (core->counts[PROCESS_RUNNING] > core->config.slots)
        yield_one(core, most_running(core));
    TAILQ_FOREACH (pool, &core->pools, link)
        while (pool->counts[PROCESS_RUNNING] > worker_running_max(core, pool))
            yield_one(core, pool);
}

/* Pools that have tasks and idle processes, but no slot: the pool with the most running
 * tasks lets some of its processes come to an end, until both have as many. */
static void yield_slots(struct worker_core *core)
{
    uint32_t yielding = core->counts[PROCESS_YIELDING];
    struct pool *pool;
    if (slot_is_free(core))
        return;
    struct pool *from = most_running(core);
    TAILQ_FOREACH (pool, &core->pools, link) {
        if (pool->queued_tasks == 0 || !worker_pool_feedable(core, pool))
            continue;
        const uint32_t most =
            (uint32_t)least((uint64_t)running(pool) + pool->counts[PROCESS_IDLE],
                            worker_running_max(core, pool));
        for (uint32_t share = running(pool); share < most; share++) {
            if (yielding > 0) { /* a slot that comes free is already meant for it */
                yielding--;
                continue;
            }
            if (from == pool || from->counts[PROCESS_RUNNING] <= share)
                break;
            yield_one(core, from);
            from = most_running(core);
        }
    }
}

/* ---------------------------------------------------------------------- starting */

/* Processes that a pool without a number of its own is started, so that a thousand pools
 * with tasks do not have one for each slot each: all of them together PROCESSES_PER_SLOT
 * a slot, and one each in any case, which is enough for its turns. */
static uint32_t crowded_most(const struct worker_core *core)
{
    uint32_t pools = 0;
    const struct pool *pool;
    TAILQ_FOREACH (pool, &core->pools, link)
        pools += pool->queued_tasks > 0 || running(pool) > 0;
    const uint64_t all = (uint64_t)PROCESSES_PER_SLOT * core->config.slots;
    return pools < all ? (uint32_t)(all / (pools > 0 ? pools : 1)) : 1;
}

/* How many processes a pool should have idle or starting now. */
static uint64_t wanted_idle(const struct worker_core *core, const struct pool *pool,
                            uint32_t crowded)
{
    const uint32_t share = worker_running_max(core, pool), busy = running(pool);
    const uint32_t most = pool->share > 0 ? share : (uint32_t)least(share, crowded);
    if (busy >= most)
        return 0;
    return pool->eager ? most - busy : least(pool->queued_tasks, most - busy);
}

static int start_processes(struct worker_core *core, struct pool *pool, uint32_t crowded)
{
    if (!worker_pool_usable(core, pool) || core->now_ms < pool->start_after_ms)
        return 0;
    while (pool->counts[PROCESS_IDLE] + pool->counts[PROCESS_STARTING] <
               wanted_idle(core, pool, crowded) &&
           pool->total < worker_processes_allowed(core, pool))
        if (worker_process_start(core, pool) == NULL)
            return FARPOOL_ENOMEM;
    pool->eager = false;
    return 0;
}

int worker_flush_feed(struct worker_core *core)
{
    const uint32_t crowded = crowded_most(core);
    struct pool *pool;
    TAILQ_FOREACH (pool, &core->pools, link)
        if (start_processes(core, pool, crowded) != 0)
            return FARPOOL_ENOMEM;
    if (core->state != CORE_WORKING || worker_results_full(core))
        return 0;
    yield_excess(core);
    if (feed_idle(core) != 0 || feed_ahead(core) != 0)
        return FARPOOL_ENOMEM;
    yield_slots(core);
    return 0;
}

/* -------------------------------------------------------------------- taking back */

static int take_back(struct worker_core *core, struct process *process, uint64_t count)
{
    if (worker_reserve(core, 1) != 0)
        return FARPOOL_ENOMEM;
    struct worker_effect *effect = worker_add(core, WORKER_PROCESS_TAKE_BACK);
    effect->process = process->number;
    effect->count = count;
    process->asked_back = count;
    process->got_back = 0;
    process->want_back = 0;
    return 0;
}

/* What a process should give back, whatever the others do. */
static uint64_t unwanted(const struct worker_core *core, const struct process *process)
{
    const struct pool *pool = process->pool;
    uint64_t count = process->want_back;
    if (core->state == CORE_DRAINING || pool->state == POOL_FAILED)
        count = process->given_tasks;
    else if (process->state != PROCESS_RUNNING && count < process->given_tasks - 1)
        count = process->given_tasks - 1; /* it is in one of them */
    return least(count, process->given_tasks);
}

static int take_unwanted(struct worker_core *core, struct pool *pool)
{
    for (int state = PROCESS_RUNNING; state <= PROCESS_BLOCKED; state++) {
        struct process *process;
        TAILQ_FOREACH (process, &pool->processes[state], link) {
            const uint64_t count = unwanted(core, process);
            if (process->fruitless || process->gate != 0)
                process->want_back = 0; /* there is nothing to be had */
            else if (count > 0 && process->asked_back == 0 &&
                     take_back(core, process, count) != 0)
                return FARPOOL_ENOMEM;
        }
    }
    return 0;
}

/* The process with the most work that it has not begun; NULL: none, or one was asked
 * already and has not answered. */
static struct process *most_ahead(struct pool *pool)
{
    struct process *most = NULL, *process;
    uint64_t most_ns = 0;
    TAILQ_FOREACH (process, &pool->processes[PROCESS_RUNNING], link) {
        if (process->asked_back > 0)
            return NULL;
        if (process->given_tasks < 2 || process->fruitless || process->gate != 0)
            continue;
        const uint64_t ns = work_ns(process);
        if (ns > most_ns) {
            most = process;
            most_ns = ns;
        }
    }
    return most;
}

/* An idle process and nothing queued: half of what another has ahead. */
static int share_out(struct worker_core *core, struct pool *pool)
{
    if (pool->queued_tasks > 0 || pool->counts[PROCESS_IDLE] == 0 ||
        !slot_is_free(core) || !worker_pool_usable(core, pool) ||
        running(pool) >= worker_running_max(core, pool) || worker_results_full(core))
        return 0;
    struct process *process = most_ahead(pool);
    return process ? take_back(core, process, process->given_tasks / 2) : 0;
}

int worker_flush_take_back(struct worker_core *core)
{
    struct pool *pool;
    TAILQ_FOREACH (pool, &core->pools, link)
        if (take_unwanted(core, pool) != 0 || share_out(core, pool) != 0)
            return FARPOOL_ENOMEM;
    return 0;
}
