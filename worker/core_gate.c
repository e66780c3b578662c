/* SPDX-License-Identifier: Apache-2.0
 *
 * core_gate.c: tasks that are watched, since they were at a node that was lost: one of
 * them may be what ends nodes. The coordinator is asked (BEGIN) before a process gets
 * them, and its GO is waited for: so it knows of each whether it had begun when this node
 * goes too, which a report that nobody waits for could not tell.
 *
 * The process is taken for running meanwhile, and for blocked if it is to wait for long:
 * it is idle in truth, has these tasks and no others, and its host knows nothing of them.
 * While the link is down nobody is asked: what is here runs on, as it always does then.
 */
#include "worker/core_internal.h"

#include <assert.h>

bool worker_gate_wanted(const struct worker_core *core, const struct piece *piece)
{
    return piece->watch > 0 && core->link == LINK_UP;
}

uint32_t worker_gate_most(const struct worker_core *core, const struct piece *piece)
{
    static const uint32_t most[] = {UINT32_MAX, 1024, 32, 1};
    if (!worker_gate_wanted(core, piece))
        return UINT32_MAX;
    return piece->watch < WATCH_ONE ? most[piece->watch] : 1;
}

struct message *worker_gate_ask(struct worker_core *core, const struct process *process,
                                const struct piece *piece)
{
    struct message *message = worker_message(core, MSG_BEGIN);
    if (message == NULL)
        return NULL;
    message->begin.pool = process->pool->id;
    message->begin.job = piece->job->number;
    message->begin.first = piece->first;
    message->begin.count = piece->count;
    message->begin.attempt = piece->attempt;
    message->begin.process = process->number;
    message->begin.give = process->gives + 1;
    return message;
}

void worker_gate_close(struct worker_core *core, struct process *process)
{
    assert(process->gate == 0);
    process->gate = process->gives;
    process->gate_free = false;
    core->gates++;
}

void worker_gate_forget(struct worker_core *core, struct process *process)
{
    core->gates -= process->gate != 0;
    process->gate = 0;
}

void worker_gate_back(struct worker_core *core, struct process *process)
{
    struct piece *piece;
    worker_gate_forget(core, process);
    while ((piece = TAILQ_FIRST(&process->pieces)) != NULL) {
        process->life_tasks -= piece->count;
        worker_piece_queue(core, piece);
    }
    worker_process_settle(core, process);
}

void worker_gate_drop(struct worker_core *core, struct piece *piece)
{
    struct process *process = piece->process;
    process->life_tasks -= piece->count;
    worker_piece_drop(core, piece);
    if (!TAILQ_EMPTY(&process->pieces))
        return;
    worker_gate_forget(core, process);
    worker_process_settle(core, process);
}

/* A part of it may have been cancelled meanwhile, so each piece is a give of its own. */
static int add_gives(struct worker_core *core, const struct process *process)
{
    struct worker_effects *effects = core->effects;
    const size_t before = effects->count;
    const struct piece *piece;
    if (worker_reserve(core, process->given_pieces) != 0)
        return FARPOOL_ENOMEM;
    TAILQ_FOREACH (piece, &process->pieces, link) {
        struct msg_span span;
        if (worker_piece_span(piece, &span) != 0) {
            while (effects->count > before)
                span_fini(&effects->items[--effects->count].span);
            return FARPOOL_ENOMEM;
        }
        worker_give_effect(core, piece, &span);
    }
    return 0;
}

static int open_gate(struct worker_core *core, struct process *process)
{
    size_t place = core->effects->count;
    struct piece *piece;
    if (add_gives(core, process) != 0)
        return FARPOOL_ENOMEM;
    worker_gate_forget(core, process);
    process->fruitless = false;
    process->head_since_ms = core->now_ms;
    TAILQ_FOREACH (piece, &process->pieces, link) {
        if (piece != TAILQ_FIRST(&process->pieces))
            piece->give = ++process->gives;
        core->effects->items[place++].give = piece->give;
        worker_watch_given(core, process, piece->job);
    }
    if (process->state == PROCESS_BLOCKED)
        worker_process_move(core, process, PROCESS_RUNNING);
    return 0;
}

/* An answer may come late: the tasks were cancelled, or the process has ended. The FLUSH
 * gives them, if nothing else that is there by now speaks against it. */
void worker_go(struct worker_core *core, const struct message *message)
{
    struct process key;
    key.number = message->go.process;
    struct process *process = RB_FIND(worker_processes, &core->processes, &key);
    if (process == NULL || process->gate == 0 || process->gate != message->go.give)
        return;
    if (!message->go.wait)
        process->gate_free = true;
    else if (process->state != PROCESS_BLOCKED)
        worker_process_move(core, process, PROCESS_BLOCKED);
}

/* The link goes: whoever is asked next knows nothing of this. */
void worker_gates_free(struct worker_core *core)
{
    const struct pool *pool;
    if (core->gates == 0)
        return;
    TAILQ_FOREACH (pool, &core->pools, link) {
        for (int state = PROCESS_RUNNING; state <= PROCESS_BLOCKED; state++) {
            struct process *process;
            TAILQ_FOREACH (process, &pool->processes[state], link)
                process->gate_free = true;
        }
    }
}

static int look_at(struct worker_core *core, struct process *process)
{
    if (process->gate == 0)
        return 0;
    if (core->state != CORE_WORKING || process->pool->state == POOL_FAILED) {
        worker_gate_back(core, process);
        return 0;
    }
    return process->gate_free ? open_gate(core, process) : 0;
}

int worker_flush_gates(struct worker_core *core)
{
    struct pool *pool;
    if (core->gates == 0)
        return 0;
    TAILQ_FOREACH (pool, &core->pools, link) {
        for (int state = PROCESS_RUNNING; state <= PROCESS_BLOCKED; state++) {
            struct process *process, *next;
            TAILQ_FOREACH_SAFE (process, &pool->processes[state], link, next)
                if (look_at(core, process) != 0)
                    return FARPOOL_ENOMEM;
        }
    }
    return 0;
}
