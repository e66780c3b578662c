/* SPDX-License-Identifier: Apache-2.0
 *
 * core_process.c: processes and their states: starting, closing and killing them, how
 * many a pool may have, and which of the idle ones stay warm. One enum state each, moved
 * by one function that checks the table of allowed moves; the state is the list of its
 * pool that the process is in. What it has was given by core_feed.c, what it reports is
 * taken by core_report.c, and its end by core_gone.c. */
#include "worker/core_internal.h"

#include <assert.h>
#include <string.h>

static int worker_process_compare(const struct process *a, const struct process *b)
{
    return (a->number > b->number) - (a->number < b->number);
}

RB_GENERATE(worker_processes, process, by_number, worker_process_compare)

/* ------------------------------------------------------------------------ states */

static bool may_move(enum process_state from, enum process_state to)
{
    static const bool allowed[PROCESS_STATES][PROCESS_STATES] = {
        [PROCESS_STARTING] = {[PROCESS_IDLE] = true, [PROCESS_KILLED] = true},
        [PROCESS_IDLE] =
            {[PROCESS_RUNNING] = true, [PROCESS_CLOSING] = true, [PROCESS_KILLED] = true},
        [PROCESS_RUNNING] = {[PROCESS_IDLE] = true,
                             [PROCESS_YIELDING] = true,
                             [PROCESS_BLOCKED] = true,
                             [PROCESS_KILLED] = true},
        [PROCESS_YIELDING] =
            {[PROCESS_IDLE] = true, [PROCESS_BLOCKED] = true, [PROCESS_KILLED] = true},
        [PROCESS_BLOCKED] =
            {[PROCESS_RUNNING] = true, [PROCESS_IDLE] = true, [PROCESS_KILLED] = true},
        [PROCESS_CLOSING] = {[PROCESS_KILLED] = true},
    };
    return allowed[from][to];
}

static void enter(struct worker_core *core, struct process *process,
                  enum process_state state)
{
    struct pool *pool = process->pool;
    process->state = state;
    process->since_ms = core->now_ms;
    if (state == PROCESS_IDLE) /* the latest one is used first: its caches are warm */
        TAILQ_INSERT_HEAD(&pool->processes[state], process, link);
    else
        TAILQ_INSERT_TAIL(&pool->processes[state], process, link);
    pool->counts[state]++;
    core->counts[state]++;
    worker_slot_enter(core, process);
}

static void leave(struct worker_core *core, struct process *process)
{
    worker_slot_leave(core, process);
    TAILQ_REMOVE(&process->pool->processes[process->state], process, link);
    process->pool->counts[process->state]--;
    core->counts[process->state]--;
}

void worker_process_move(struct worker_core *core, struct process *process,
                         enum process_state state)
{
    assert(may_move(process->state, state));
    if (process->state == PROCESS_BLOCKED || state == PROCESS_BLOCKED)
        core->load_urgent = true;
    leave(core, process);
    enter(core, process, state);
    core->load_changed = true;
}

/* Idle again when it has nothing left. */
void worker_process_settle(struct worker_core *core, struct process *process)
{
    const enum process_state state = process->state;
    if (!TAILQ_EMPTY(&process->pieces) || state < PROCESS_RUNNING ||
        state > PROCESS_BLOCKED)
        return;
    process->want_back = 0;
    process->mark = false;
    process->due_ms = UINT64_MAX;
    process->share_ppm = 0;
    worker_process_move(core, process, PROCESS_IDLE);
}

/* It is in another task now, or has others than before. */
void worker_process_changed(struct worker_core *core, struct process *process)
{
    const struct piece *head = TAILQ_FIRST(&process->pieces);
    process->fruitless = false;
    process->head_since_ms = core->now_ms;
    if (process->share_ppm > 0)
        core->load_changed = true;
    process->share_ppm = 0;
    if (head != NULL && head->state == PIECE_MARKED)
        process->mark = true;
    if (head != NULL && head->state == PIECE_DOOMED)
        process->due_ms = core->now_ms;
    worker_process_settle(core, process);
}

/* Both need a reserved effect. */
void worker_process_kill(struct worker_core *core, struct process *process,
                         enum kill_reason reason)
{
    if (process->state == PROCESS_KILLED)
        return;
    worker_add(core, WORKER_PROCESS_KILL)->process = process->number;
    worker_gate_forget(core, process);
    process->reason = reason;
    process->due_ms = UINT64_MAX;
    worker_process_move(core, process, PROCESS_KILLED);
}

void worker_process_close(struct worker_core *core, struct process *process)
{
    worker_add(core, WORKER_PROCESS_CLOSE)->process = process->number;
    worker_process_move(core, process, PROCESS_CLOSING);
}

/* NULL: out of memory. */
struct process *worker_process_start(struct worker_core *core, struct pool *pool)
{
    struct process *process = NULL;
    if (worker_reserve(core, 1) == 0)
        process = mem_alloc(sizeof *process);
    if (process == NULL)
        return NULL;
    process->number = core->next_process++;
    process->slot = worker_slot_choose(core, pool);
    process->pool = pool;
    process->due_ms = UINT64_MAX;
    TAILQ_INIT(&process->pieces);
    RB_INSERT(worker_processes, &core->processes, process);
    enter(core, process, PROCESS_STARTING);
    pool->total++;
    core->total++;
    core->started++;
    core->load_changed = true;
    struct worker_effect *effect = worker_add(core, WORKER_PROCESS_START);
    effect->process = process->number;
    effect->slot = process->slot;
    effect->pool = pool->id;
    effect->program = pool->program->hash;
    memcpy(effect->name, pool->initializer, sizeof effect->name);
    effect->data = payload_ref(pool->argument);
    return process;
}

void worker_process_free(struct worker_core *core, struct process *process)
{
    assert(TAILQ_EMPTY(&process->pieces) && process->gate == 0);
    if (process->state == PROCESS_BLOCKED)
        core->load_urgent = true;
    leave(core, process);
    RB_REMOVE(worker_processes, &core->processes, process);
    process->pool->total--;
    core->total--;
    core->load_changed = true;
    mem_free(process);
}

/* Tasks of a pool that may run at a time here. */
uint32_t worker_running_max(const struct worker_core *core, const struct pool *pool)
{
    const uint32_t slots = core->config.slots;
    return pool->share > 0 && pool->share < slots ? pool->share : slots;
}

/* Processes that a pool may have: its share, and one more for each that is blocked, up
 * to a bound; and beyond that bound still one when all of them are blocked, so that what
 * they wait for can always be run. */
uint32_t worker_processes_allowed(const struct worker_core *core, const struct pool *pool)
{
    const uint32_t blocked = pool->counts[PROCESS_BLOCKED];
    const uint32_t bound = BLOCKED_PER_SLOT * core->config.slots;
    const uint32_t allowed =
        worker_running_max(core, pool) + (blocked < bound ? blocked : bound);
    return pool->total == blocked && allowed <= blocked ? blocked + 1 : allowed;
}

/* --------------------------------------------------------------------- the flush */

/* When a process of this state has to be killed; UINT64_MAX: never. */
static uint64_t kill_ms(const struct worker_core *core, const struct process *process)
{
    if (process->state == PROCESS_STARTING)
        return worker_after(process->since_ms, core->config.start_timeout_ms);
    if (process->state == PROCESS_CLOSING)
        return worker_after(process->since_ms, CLOSE_TIMEOUT_MS);
    return UINT64_MAX;
}

static int kill_late(struct worker_core *core, struct pool *pool,
                     enum process_state state, enum kill_reason reason)
{
    struct process *process;
    while ((process = TAILQ_FIRST(&pool->processes[state])) != NULL &&
           core->now_ms >= kill_ms(core, process)) { /* the oldest one is first */
        if (worker_reserve(core, 1) != 0)
            return FARPOOL_ENOMEM;
        worker_process_kill(core, process, reason);
    }
    return 0;
}

/* Whether a pool needs no processes any more. */
static bool is_done(const struct worker_core *core, const struct pool *pool)
{
    return core->state != CORE_WORKING || pool->state == POOL_FAILED ||
           pool->state == POOL_CLOSING;
}

static int end_processes(struct worker_core *core, struct pool *pool)
{
    struct process *process;
    while ((process = TAILQ_FIRST(&pool->processes[PROCESS_STARTING])) != NULL) {
        if (worker_reserve(core, 1) != 0)
            return FARPOOL_ENOMEM;
        worker_process_kill(core, process, KILL_END);
    }
    while ((process = TAILQ_FIRST(&pool->processes[PROCESS_IDLE])) != NULL) {
        if (worker_reserve(core, 1) != 0)
            return FARPOOL_ENOMEM;
        worker_process_close(core, process);
    }
    return 0;
}

static bool is_surplus(const struct worker_core *core, const struct pool *pool)
{
    const uint32_t ending = pool->counts[PROCESS_CLOSING] + pool->counts[PROCESS_KILLED];
    return pool->total - ending > worker_processes_allowed(core, pool);
}

/* Idle processes that have run all the tasks they may, or are beyond the pool's share
 * and were not needed for a while. */
static int close_idle(struct worker_core *core, struct pool *pool)
{
    struct process *process, *before;
    const uint64_t limit = pool->tasks_per_process;
    for (process = TAILQ_LAST(&pool->processes[PROCESS_IDLE], process_list);
         process != NULL; process = before) {
        before = TAILQ_PREV(process, process_list, link);
        const bool used = limit > 0 && process->life_tasks >= limit;
        const bool surplus =
            is_surplus(core, pool) &&
            core->now_ms >= worker_after(process->since_ms, SURPLUS_IDLE_MS);
        if (!used && !surplus)
            continue;
        if (worker_reserve(core, 1) != 0)
            return FARPOOL_ENOMEM;
        worker_process_close(core, process);
    }
    return 0;
}

static struct process *longest_idle(struct worker_core *core)
{
    struct process *longest = NULL;
    const struct pool *pool;
    TAILQ_FOREACH (pool, &core->pools, link) {
        struct process *process =
            TAILQ_LAST(&pool->processes[PROCESS_IDLE], process_list);
        if (process != NULL && pool->queued_tasks == 0 &&
            (longest == NULL || process->since_ms < longest->since_ms))
            longest = process;
    }
    return longest;
}

/* Warm processes are kept up to a bound over all pools; blocked ones do not count. */
static int bound_idle(struct worker_core *core)
{
    const uint64_t bound = (uint64_t)core->config.slots + core->config.processes_idle_max;
    for (;;) {
        const uint64_t warm = core->counts[PROCESS_STARTING] +
                              core->counts[PROCESS_IDLE] + core->counts[PROCESS_RUNNING] +
                              core->counts[PROCESS_YIELDING];
        struct process *process = warm > bound ? longest_idle(core) : NULL;
        if (process == NULL)
            return 0;
        if (worker_reserve(core, 1) != 0)
            return FARPOOL_ENOMEM;
        worker_process_close(core, process);
    }
}

int worker_flush_processes(struct worker_core *core)
{
    struct pool *pool;
    TAILQ_FOREACH (pool, &core->pools, link) {
        if (kill_late(core, pool, PROCESS_STARTING, KILL_START) != 0 ||
            kill_late(core, pool, PROCESS_CLOSING, KILL_END) != 0 ||
            (is_done(core, pool) && end_processes(core, pool) != 0) ||
            close_idle(core, pool) != 0)
            return FARPOOL_ENOMEM;
    }
    return bound_idle(core);
}

uint64_t worker_processes_deadline(const struct worker_core *core)
{
    uint64_t deadline = UINT64_MAX;
    const struct pool *pool;
    TAILQ_FOREACH (pool, &core->pools, link) {
        const struct process *first[] = {
            TAILQ_FIRST(&pool->processes[PROCESS_STARTING]),
            TAILQ_FIRST(&pool->processes[PROCESS_CLOSING]),
        };
        for (int i = 0; i < 2; i++)
            if (first[i] != NULL && kill_ms(core, first[i]) < deadline)
                deadline = kill_ms(core, first[i]);
        const struct process *idle =
            TAILQ_LAST(&pool->processes[PROCESS_IDLE], process_list);
        if (idle != NULL && is_surplus(core, pool) &&
            worker_after(idle->since_ms, SURPLUS_IDLE_MS) < deadline)
            deadline = worker_after(idle->since_ms, SURPLUS_IDLE_MS);
    }
    return deadline;
}
