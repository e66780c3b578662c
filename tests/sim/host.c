/* SPDX-License-Identifier: Apache-2.0
 *
 * host.c: the virtual host of a node: carries out what its core wants of processes
 * (PROCESS_* effects), as worker/host.h says that a host does. What processes do by
 * themselves is process.c's. */
#include "sim.h"

#include <string.h>

/* ---------------------------------------------------------------- starting */

static void begin_serving(struct sim *sim, uint64_t place, uint64_t number,
                          uint64_t incarnation)
{
    struct node *node = sim_node_find(sim, place, incarnation);
    struct process *process = node ? sim_process_find(node, number) : NULL;

    if (!process || process->state != PROCESS_STARTING)
        return;
    if (process->app->initializer_fails) {
        sim_process_die(sim, node, process, FARPOOL_EINITIALIZER, 1, 0);
    } else if (node->starts_fail && sim_chance(sim, 3)) {
        sim_process_die(sim, node, process, FARPOOL_ELIBRARY, 127, 0);
    } else {
        process->state = PROCESS_SERVING;
        sim_output_print(sim, node, process, NULL);
        sim_process_report(sim, node, process, WORKER_PROCESS_READY);
        sim_process_advance(sim, node, process);
    }
}

static void start(struct sim *sim, struct node *node, const struct worker_effect *effect)
{
    struct process *process = sim_alloc(sizeof *process);

    if (effect->slot >= node->config.slots)
        sim_fail(sim, "a process is started for slot %u of %u", effect->slot,
                 node->config.slots);
    process->number = effect->process;
    process->pool = effect->pool;
    process->nested = -1;
    process->app = sim_app_of_pool(sim, &effect->pool);
    if (!process->app || sim_process_find(node, effect->process))
        sim_fail(sim, "a process is started for no pool, or twice");
    if (strcmp(effect->name, process->app->open->pool_open.initializer) != 0)
        sim_fail(sim, "a process is started with a wrong initializer");
    sim_queue_push(&node->processes, &process, sizeof process);
    uint64_t delay_us = sim_between(sim, 500, 30000);
    if (sim->plan.starts_fail && !sim->settled && sim_chance(sim, 15))
        delay_us = sim_between(sim, 100000, 6000000);
    sim_at(sim, sim->now_us + delay_us, begin_serving,
           (uint64_t)sim_node_place(sim, node), process->number, node->actor.incarnation);
}

/* ----------------------------------------------------------------- effects */

/* What is known of busy processes here never exceeds what the core knows, so the core's
 * own bound holds for it. */
static void check_slots(struct sim *sim, const struct node *node)
{
    uint32_t busy = 0;

    for (size_t i = 0; i < node->processes.count; i++) {
        const struct process *process =
            *(struct process **)sim_queue_at(&node->processes, i);

        busy += process->state == PROCESS_SERVING && !process->killed &&
                process->gives.count > 0 && !process->watched;
    }
    if (!sim->plan.nested && busy > node->config.slots)
        sim_fail(sim, "%u busy processes on %u slots", busy, node->config.slots);
}

static void take_give(struct sim *sim, struct node *node, struct process *process,
                      struct worker_effect *effect)
{
    struct give give = {.give = effect->give,
                        .span = effect->span,
                        .claim = effect->claim,
                        .publish = effect->publish};

    memset(&effect->span, 0, sizeof effect->span);
    give.count = give.span.count;
    give.job = sim_job_find(sim, effect->job);
    if (!give.job || !give.claim || !give.publish || !span_valid(&give.span) ||
        give.span.first + give.count > give.job->count)
        sim_fail(sim, "process %llu is given nonsense",
                 (unsigned long long)process->number);
    if (strcmp(effect->name, give.job->options.function) != 0 ||
        effect->timeout_ms != give.job->options.timeout_ms ||
        effect->limited !=
            (give.job->options.cpu_ms > 0 || give.job->options.memory_bytes > 0))
        sim_fail(sim, "process %llu is told a wrong function or time",
                 (unsigned long long)process->number);
    sim_promise_check_give(sim, node, give.job, &give.span);
    process->watched = process->watched || give.span.watch > 0;
    sim_queue_push(&process->gives, &give, sizeof give);
    check_slots(sim, node);
    sim_process_advance(sim, node, process);
}

/* From the last give back to the first, from each the last tasks; never what is claimed.
 */
static void take_back(struct sim *sim, struct node *node, struct process *process,
                      uint64_t count)
{
    struct worker_event event = {.kind = WORKER_PROCESS_TAKEN,
                                 .process = process->number};

    for (size_t i = process->gives.count; i-- > 0 && count;) {
        struct give *give = sim_queue_at(&process->gives, i);
        uint32_t open = give->count - give->claimed;
        uint32_t taken = open < count ? open : (uint32_t)count;

        if (!taken)
            continue;
        give->count -= taken;
        count -= taken;
        event.give = give->give;
        event.first = give->span.first + give->count;
        event.count = taken;
        sim_node_push(sim, node, &event, 0);
    }
    event.give = event.first = event.count = 0;
    sim_node_push(sim, node, &event, 0);
}

static void sample(struct sim *sim, struct node *node, struct process *process,
                   bool limited)
{
    const struct give *give =
        process->gives.count ? sim_queue_at(&process->gives, 0) : NULL;
    struct worker_event event = {.kind = WORKER_PROCESS_SAMPLED,
                                 .process = process->number,
                                 .running = process->running};

    if (process->running) {
        event.give = give->give;
        event.first = give->span.first + give->next;
        event.began_ms = process->began_us / 1000;
        event.share_ppm = sim_dice(sim, 1000000);
        /* One that runs computes; what is not asked for is not told. */
        if (limited) {
            event.cpu_ms = sim_now_ms(sim) - event.began_ms;
            event.memory_bytes =
                give->job->options.memory_bytes + (sim_job_eats(give->job, event.first) &&
                                                   !sim_memory_is_kept(node, process));
        }
    }
    sim_node_push(sim, node, &event, 0);
}

static void cancel(struct sim *sim, struct node *node, struct process *process,
                   const struct worker_effect *effect)
{
    struct give *give = process->gives.count ? sim_queue_at(&process->gives, 0) : NULL;

    if (!process->running || give->give != effect->give)
        return;
    uint64_t index = give->span.first + give->next;
    if (index < effect->first || index - effect->first >= effect->count)
        return;
    process->cancel_marked = true;
    give->job->tasks[index].cancel_marked = true;
    if (!process->blocked && sim_chance(sim, 2))
        sim_process_set_end(sim, node, process, 1000);
}

static void kill_soon(struct sim *sim, uint64_t place, uint64_t number,
                      uint64_t incarnation)
{
    struct node *node = sim_node_find(sim, place, incarnation);
    struct process *process = node ? sim_process_find(node, number) : NULL;

    if (process)
        sim_process_kill(sim, node, process);
}

static void print_effect(struct sim *sim, const struct node *node,
                         const struct worker_effect *effect)
{
    static const char *const names[] = {"start",  "give",  "take back", "cancel",
                                        "sample", "close", "kill"};

    sim_trace(sim,
              "W%d: %s process=%llu give=%llu job=%llx span=%llu+%u/%u count=%llu "
              "claim=%u publish=%u",
              sim_node_place(sim, node), names[effect->kind - WORKER_PROCESS_START],
              (unsigned long long)effect->process, (unsigned long long)effect->give,
              (unsigned long long)effect->job, (unsigned long long)effect->span.first,
              effect->span.count, effect->span.attempt, (unsigned long long)effect->count,
              effect->claim, effect->publish);
}

void sim_process_apply(struct sim *sim, struct node *node, struct worker_effect *effect)
{
    struct process *process = sim_process_find(node, effect->process);

    print_effect(sim, node, effect);
    if (effect->kind == WORKER_PROCESS_START)
        start(sim, node, effect);
    if (!process || process->state == PROCESS_OVER)
        return;
    switch (effect->kind) {
    case WORKER_PROCESS_GIVE:
        take_give(sim, node, process, effect);
        break;
    case WORKER_PROCESS_TAKE_BACK:
        take_back(sim, node, process, effect->count);
        break;
    case WORKER_PROCESS_SAMPLE:
        sample(sim, node, process, effect->limited);
        break;
    case WORKER_PROCESS_CANCEL:
        cancel(sim, node, process, effect);
        break;
    case WORKER_PROCESS_CLOSE:
        process->closing = true;
        sim_process_advance(sim, node, process);
        break;
    case WORKER_PROCESS_KILL:
        process->killed = true;
        sim_at(sim, sim->now_us + sim_dice(sim, 5000), kill_soon,
               (uint64_t)sim_node_place(sim, node), process->number,
               node->actor.incarnation);
        break;
    default:
        break;
    }
}
