/* SPDX-License-Identifier: Apache-2.0
 *
 * core_slot.c: which slot's number a process has, below config.slots. It is chosen when
 * the process is started and stays, since the process's variables, its core and its share
 * of the node's resources go by it.
 *
 * Processes of one pool have different numbers, except beside blocked ones, which hold no
 * slot. Idle ones of several pools may have the same number; of a pool's idle processes
 * one is used whose number nobody else runs under. So two processes run under one number
 * only when the pool has no such process: a pool with fewer processes than slots beside
 * another one, or a task that goes on after it was blocked. */
#include "worker/core_internal.h"

#include <assert.h>

static bool runs(const struct process *process)
{
    return process->state == PROCESS_RUNNING || process->state == PROCESS_YIELDING;
}

void worker_slot_enter(struct worker_core *core, const struct process *process)
{
    struct slot *slot = &core->slots[process->slot];
    slot->alive++;
    slot->running += runs(process);
}

void worker_slot_leave(struct worker_core *core, const struct process *process)
{
    struct slot *slot = &core->slots[process->slot];
    assert(slot->alive > 0 && slot->running >= runs(process));
    slot->alive--;
    slot->running -= runs(process);
}

static void count_own(struct worker_core *core, struct pool *pool)
{
    for (uint32_t i = 0; i < core->config.slots; i++)
        core->slots[i].own = 0;
    for (int state = 0; state < PROCESS_STATES; state++) {
        const struct process *process;
        TAILQ_FOREACH (process, &pool->processes[state], link)
            core->slots[process->slot].own += state != PROCESS_BLOCKED;
    }
}

static bool is_better(const struct slot *a, const struct slot *b)
{
    if (a->own != b->own)
        return a->own < b->own;
    if (a->running != b->running)
        return a->running < b->running;
    return a->alive < b->alive;
}

uint32_t worker_slot_choose(struct worker_core *core, struct pool *pool)
{
    uint32_t best = 0;
    count_own(core, pool);
    for (uint32_t i = 1; i < core->config.slots; i++)
        if (is_better(&core->slots[i], &core->slots[best]))
            best = i;
    return best;
}

struct process *worker_slot_next(struct worker_core *core, struct pool *pool)
{
    struct process *process;
    TAILQ_FOREACH (process, &pool->processes[PROCESS_IDLE], link)
        if (core->slots[process->slot].running == 0)
            return process;
    return TAILQ_FIRST(&pool->processes[PROCESS_IDLE]);
}
