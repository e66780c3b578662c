/* SPDX-License-Identifier: Apache-2.0
 *
 * core.c: the frame of the worker's core: creating it, one step, the deadline, effects.
 *
 * Every event except FLUSH is all or nothing. A FLUSH does its work in small parts, each
 * all or nothing; when memory runs out it keeps what is done, succeeds, and asks to be
 * called again at once (`again`). What each part decides is told in its own file. */
#include "worker/core_internal.h"

#include <assert.h>
#include <string.h>

void worker_config_init(struct worker_config *config)
{
    memset(config, 0, sizeof *config);
    config->slots = 1;
    config->tasks_max = 1 << 20;
    config->bytes_max = 256ull << 20;
    config->result_bytes_max = 256ull << 20;
    config->given_bytes_max = 1 << 20;
    config->given_ahead_us = 600000;
    config->results_wait_ms = 200;
    config->start_timeout_ms = 30000;
    config->start_failures_max = 3;
    config->processes_idle_max = 32;
    config->lanes_max = 1024;
}

static void clear_effect(struct worker_effect *effect)
{
    message_free(&effect->message);
    payload_unref(&effect->data);
    mem_free(effect->files);
    span_fini(&effect->span);
}

void worker_effects_clear(struct worker_effects *effects)
{
    for (size_t i = 0; i < effects->count; i++)
        clear_effect(&effects->items[i]);
    effects->count = 0;
}

void worker_effects_fini(struct worker_effects *effects)
{
    worker_effects_clear(effects);
    mem_free(effects->items);
    memset(effects, 0, sizeof *effects);
}

int worker_reserve(struct worker_core *core, size_t count)
{
    struct worker_effects *effects = core->effects;
    return mem_reserve(&effects->items, &effects->capacity, effects->count + count,
                       sizeof *effects->items)
               ? 0
               : FARPOOL_ENOMEM;
}

struct worker_effect *worker_add(struct worker_core *core, enum worker_effect_kind kind)
{
    struct worker_effects *effects = core->effects;
    assert(effects->count < effects->capacity); /* reserved before */
    struct worker_effect *effect = &effects->items[effects->count++];
    memset(effect, 0, offsetof(struct worker_effect, text));
    effect->text[0] = '\0';
    effect->kind = kind;
    return effect;
}

struct message *worker_message(struct worker_core *core, enum message_kind kind)
{
    return worker_reserve(core, 1) == 0 ? message_create(kind) : NULL;
}

void worker_send(struct worker_core *core, struct message *message)
{
    worker_add(core, WORKER_SEND)->message = message;
    core->sent_ms = core->now_ms;
}

uint64_t worker_after(uint64_t ms, uint64_t delay_ms)
{
    return delay_ms > UINT64_MAX - ms ? UINT64_MAX : ms + delay_ms;
}

uint64_t worker_tick(uint64_t ms, uint64_t period_ms)
{
    return period_ms == 0 ? ms : worker_after(ms, period_ms - ms % period_ms);
}

int worker_core_create(const struct worker_config *config, uint64_t now_ms,
                       struct worker_core **ret_core)
{
    assert(config->slots >= 1 && config->slots <= 65536);
    struct worker_core *core = mem_alloc(sizeof *core);
    if (core != NULL)
        core->slots = mem_alloc(config->slots * sizeof *core->slots);
    if (core == NULL || core->slots == NULL) {
        mem_free(core);
        return FARPOOL_ENOMEM;
    }
    core->config = *config;
    core->now_ms = now_ms;
    core->load_ms = now_ms;
    core->drained_ms = core->output_due_ms = core->lanes_due_ms = UINT64_MAX;
    core->result_window = config->result_bytes_max;
    core->next_process = 1;
    TAILQ_INIT(&core->pools);
    worker_outbox_init(&core->outbox, NULL);
    *ret_core = core;
    return 0;
}

void worker_core_destroy(struct worker_core *core)
{
    if (core == NULL)
        return;
    struct pool *pool;
    while ((pool = TAILQ_FIRST(&core->pools)) != NULL) {
        for (int state = 0; state < PROCESS_STATES; state++) {
            struct process *process;
            while ((process = TAILQ_FIRST(&pool->processes[state])) != NULL) {
                struct piece *piece;
                while ((piece = TAILQ_FIRST(&process->pieces)) != NULL)
                    worker_piece_drop(core, piece);
                TAILQ_REMOVE(&pool->processes[state], process, link);
                mem_free(process);
            }
        }
        worker_pool_free(core, pool);
    }
    worker_lanes_free(core);
    mem_free(core->slots);
    mem_free(core);
}

/* The parts of a FLUSH, in the order in which they feed one another. Where the first runs
 * out of memory nothing else is done: what is sent before HELD would have a coordinator
 * that does not know the pool close it. */
static void flush(struct worker_core *core)
{
    static int (*const parts[])(struct worker_core *) = {
        worker_flush_link_first, worker_flush_orphaned,  worker_flush_gates,
        worker_flush_processes,  worker_flush_watch,     worker_flush_output,
        worker_flush_results,    worker_flush_programs,  worker_flush_shared,
        worker_flush_pools,      worker_flush_returns,   worker_flush_feed,
        worker_flush_take_back,  worker_flush_pool_ends, worker_flush_drain,
        worker_flush_load,       worker_flush_lanes,     worker_flush_link_last,
    };
    core->again = false;
    if (core->state == CORE_STOPPED)
        return;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (parts[i](core) != 0) {
            core->again = true;
            if (i == 0)
                return;
        }
}

static int dispatch(struct worker_core *core, struct worker_event *event)
{
    switch (event->kind) {
    case WORKER_LINK_UP:
        return event->lane != 0 ? worker_lane_up(core, event->lane)
                                : worker_link_up(core, event->text);
    case WORKER_LINK_DOWN:
        if (event->lane != 0)
            worker_lane_down(core, event->lane, event->text);
        else
            worker_link_down(core);
        return 0;
    case WORKER_MESSAGE:
        return event->lane != 0 ? worker_lane_heard(core, event)
                                : worker_link_message(core, event->message);
    case WORKER_PROGRAM_NEEDS:
    case WORKER_PROGRAM_READY:
    case WORKER_PROGRAM_FAILED:
        return worker_program_event(core, event);
    case WORKER_SHARED_OPENED:
    case WORKER_SHARED_WROTE:
        return worker_shared_event(core, event);
    case WORKER_PROCESS_READY:
    case WORKER_PROCESS_DONE:
    case WORKER_PROCESS_FAILED:
    case WORKER_PROCESS_BLOCKED:
    case WORKER_PROCESS_UNBLOCKED:
    case WORKER_PROCESS_TAKEN:
    case WORKER_PROCESS_OUTPUT:
    case WORKER_PROCESS_SAMPLED:
    case WORKER_PROCESS_GONE:
        return worker_process_event(core, event);
    case WORKER_DRAIN:
        return worker_drain(core);
    case WORKER_STOP:
        return worker_stop(core);
    case WORKER_FLUSH:
        flush(core);
        return 0;
    }
    assert(!"an unknown event");
    return 0;
}

int worker_core_step(struct worker_core *core, struct worker_event *event,
                     struct worker_effects *effects)
{
    const size_t before = effects->count;
    core->effects = effects;
    if (event->now_ms > core->now_ms)
        core->now_ms = event->now_ms;
    const int result = dispatch(core, event);
    core->effects = NULL;
    if (result != 0) {
        assert(result == FARPOOL_ENOMEM && effects->count == before);
        return result;
    }
    message_free(&event->message);
    payload_unref(&event->sizes);
    payload_unref(&event->data);
    return 0;
}

static uint64_t earliest(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t worker_core_deadline(const struct worker_core *core)
{
    if (core->state == CORE_STOPPED)
        return UINT64_MAX;
    if (core->again)
        return core->now_ms;
    uint64_t deadline = worker_link_deadline(core);
    deadline = earliest(deadline, worker_programs_deadline(core));
    deadline = earliest(deadline, worker_shared_deadline(core));
    deadline = earliest(deadline, worker_processes_deadline(core));
    deadline = earliest(deadline, worker_watch_deadline(core));
    deadline = earliest(deadline, worker_results_deadline(core));
    deadline = earliest(deadline, worker_output_deadline(core));
    deadline = earliest(deadline, worker_lanes_deadline(core));
    if (core->drained_ms != UINT64_MAX)
        deadline = earliest(deadline, worker_after(core->drained_ms, ACK_WAIT_MS));
    const struct pool *pool;
    TAILQ_FOREACH (pool, &core->pools, link)
        if (pool->start_after_ms > core->now_ms && pool->queued_tasks > 0)
            deadline = earliest(deadline, pool->start_after_ms);
    return deadline;
}

void worker_core_counts(const struct worker_core *core, struct worker_counts *ret_counts)
{
    *ret_counts = (struct worker_counts){
        .pools = core->pools_count,
        .processes = core->total,
        .running = core->counts[PROCESS_RUNNING] + core->counts[PROCESS_YIELDING] +
                   core->counts[PROCESS_BLOCKED],
        .held = core->held_tasks,
        .unacked = core->unacked,
    };
}
