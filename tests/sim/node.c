/* SPDX-License-Identifier: Apache-2.0
 *
 * node.c: a virtual worker daemon: its core, its inbox, and what it sends. Its processes
 * are process.c's, its program cache program.c's. While it is paused its processes run
 * on, and what they report waits in the inbox, as in their rings. */
#include "sim.h"

#include <stdio.h>
#include <string.h>

int sim_node_place(const struct sim *sim, const struct node *node)
{
    return (int)(node - sim->nodes);
}

struct node *sim_node_find(struct sim *sim, uint64_t place, uint64_t incarnation)
{
    struct node *node = &sim->nodes[place];

    return node->actor.alive && node->actor.incarnation == incarnation ? node : NULL;
}

static void look(struct sim *sim, uint64_t place, uint64_t incarnation, uint64_t at_us)
{
    struct actor *actor = &sim->nodes[place].actor;

    if (!actor->alive || actor->incarnation != incarnation || actor->wake_at_us != at_us)
        return;
    actor->wake_at_us = UINT64_MAX;
    if (sim->now_us < actor->paused_until_us)
        sim_wake(sim, actor, actor->paused_until_us, look, place);
    else
        sim_node_look(sim, &sim->nodes[place]);
}

static void wake(struct sim *sim, struct node *node, uint64_t at_us)
{
    sim_wake(sim, &node->actor, at_us, look, (uint64_t)sim_node_place(sim, node));
}

void sim_node_push(struct sim *sim, struct node *node, const struct worker_event *event,
                   uint64_t link)
{
    struct node_item item = {*event, link};

    sim_queue_push(&node->inbox, &item, sizeof item);
    wake(sim, node, sim->now_us + sim_dice(sim, 300));
}

static void configure(struct sim *sim, struct node *node, int place)
{
    struct worker_config *config = &node->config;

    worker_config_init(config);
    config->worker = sim_id(sim);
    snprintf(config->node, sizeof config->node, "n%d.%llu", place,
             (unsigned long long)node->actor.incarnation);
    snprintf(config->machine, sizeof config->machine, node->alien ? "s390x" : "x86_64");
    config->slots = (uint32_t)sim_between(sim, 1, 4);
    config->memory_bytes = 1 << 30;
    if (sim_chance(sim, 3))
        config->tasks_max = sim_between(sim, 1, 60);
    if (sim_chance(sim, 3))
        config->bytes_max = sim_between(sim, 100, 20000);
    if (sim_chance(sim, 3))
        config->given_bytes_max = sim_between(sim, 50, 4000);
    if (sim_chance(sim, 3))
        config->given_ahead_us = (uint32_t)sim_between(sim, 1, 20000);
    if (sim_chance(sim, 3))
        config->results_wait_ms = (uint32_t)sim_dice(sim, 200);
    config->start_timeout_ms = 3000;
    config->start_failures_max = (uint32_t)sim_between(sim, 2, 4);
    config->processes_idle_max = (uint32_t)sim_dice(sim, 4);
    if (sim_chance(sim, 2))
        config->orphan_after_ms = sim_between(sim, 1, sim_chance(sim, 2) ? 500 : 8000);
}

void sim_node_start(struct sim *sim, int place)
{
    struct node *node = &sim->nodes[place];
    uint64_t incarnation = node->actor.incarnation + 1;

    memset(node, 0, sizeof *node);
    node->actor = (struct actor){true, incarnation, 0, UINT64_MAX};
    node->slowness = 1;
    if (sim->plan.slow && sim_chance(sim, 3))
        node->slowness = (uint32_t)sim_between(sim, 3, SLOWNESS_MAX);
    node->keeps_memory = sim->plan.memory && !sim_chance(sim, 3);
    if (!sim->settled) {
        node->program_fails = sim->plan.programs_fail && sim_chance(sim, 4);
        node->alien = sim->plan.programs_fail && sim_chance(sim, 4);
        node->starts_fail = sim->plan.starts_fail && sim_chance(sim, 2);
        node->no_room = sim->plan.shares && sim_chance(sim, 6);
    }
    configure(sim, node, place);
    if (worker_core_create(&node->config, sim_now_ms(sim), &node->core) != 0)
        sim_fail(sim, "worker_core_create");
    sim_trace(sim, "W%d starts, %u slots, slowness %u%s%s", place, node->config.slots,
              node->slowness,
              node->program_fails || node->alien ? ", cannot run programs" : "",
              node->starts_fail ? ", often fails to start processes" : "");
    sim_link_dial(sim, true, place);
}

static void free_event(struct worker_event *event)
{
    message_free(&event->message);
    payload_unref(&event->sizes);
    payload_unref(&event->data);
}

static void forget(struct sim *sim, struct node *node)
{
    struct node_item item;

    node->actor.alive = false;
    while (sim_queue_pop(&node->inbox, &item))
        free_event(&item.event);
    sim_queue_fini(&node->inbox);
    sim_processes_fini(sim, node);
    sim_queue_fini(&node->programs);
    sim_shared_fini(node);
    worker_core_destroy(node->core);
    worker_effects_fini(&node->effects);
    node->core = NULL;
    node->link = 0;
}

void sim_node_kill(struct sim *sim, int place)
{
    struct node *node = &sim->nodes[place];
    struct link *link = sim_link_find(sim, node->link);

    if (link) {
        link->lanes[TO_PEER].open = false;
        sim_link_cut(sim, link, sim_chance(sim, 4));
    }
    sim_lanes_end(sim, true, place);
    forget(sim, node);
}

void sim_node_end(struct sim *sim, int place, enum worker_event_kind kind)
{
    struct worker_event event = {.kind = kind};

    sim->nodes[place].ending = true;
    sim_node_push(sim, &sim->nodes[place], &event, 0);
}

static void step(struct sim *sim, struct node *node, struct worker_event *event)
{
    bool armed;
    int result;

    event->now_ms = sim_now_ms(sim);
    do {
        size_t before = node->effects.count;

        armed = sim_step_begin(sim);
        result = worker_core_step(node->core, event, &node->effects);
        worker_core_check(node->core);
        if (result != 0 && result != FARPOOL_ENOMEM)
            sim_fail(sim, "worker_core_step: %d", result);
        if (result != 0 && node->effects.count != before)
            sim_fail(sim, "worker_core_step left effects of a failed step");
    } while (sim_step_again(sim, armed, result));
    free_event(event);
}

static void relink(struct sim *sim, struct node *node, const char *text)
{
    sim_trace(sim, "W%d dials again: %s", sim_node_place(sim, node), text);
    sim_link_close(sim, node->link, TO_COORDINATOR);
    node->link = 0;
    sim_link_dial(sim, true, sim_node_place(sim, node));
}

static void stop(struct sim *sim, struct node *node, const char *text)
{
    sim_trace(sim, "W%d stops: %s", sim_node_place(sim, node), text);
    sim_lanes_end(sim, true, sim_node_place(sim, node));
    sim_link_close(sim, node->link, TO_COORDINATOR);
    for (size_t i = 0; i < node->processes.count; i++) {
        struct process *process = *(struct process **)sim_queue_at(&node->processes, i);
        if (process->state != PROCESS_OVER)
            sim_fail(sim, "W%d stopped while a process lives", sim_node_place(sim, node));
    }
    forget(sim, node);
}

void sim_node_send(struct sim *sim, struct node *node, uint64_t lane,
                   struct message **message)
{
    char who[24];

    sim_promise_said(sim, node, *message);
    if (lane & WORKER_LANE_DIALLED) {
        sim_lane_send(sim, true, sim_node_place(sim, node), lane, message);
    } else if (lane) {
        sim_lane_answer(sim, node, lane, message);
    } else {
        snprintf(who, sizeof who, "W%d>K", sim_node_place(sim, node));
        sim_trace_message(sim, who, *message);
        if (node->link)
            sim_link_send(sim, node->link, TO_COORDINATOR, message);
        else
            message_free(message);
    }
}

static void hang_up(struct sim *sim, struct node *node,
                    const struct worker_effect *effect)
{
    sim_trace(sim, "W%d hangs up lane %llu: %s", sim_node_place(sim, node),
              (unsigned long long)effect->lane, effect->text);
    if (effect->lane & WORKER_LANE_DIALLED)
        sim_lane_hang_up(sim, true, sim_node_place(sim, node), effect->lane);
    else
        sim_link_close(sim, effect->lane, TO_PEER);
}

/* false: the worker is no more. */
static bool carry_out(struct sim *sim, struct node *node, struct worker_effect *effect)
{
    switch (effect->kind) {
    case WORKER_SEND:
        sim_node_send(sim, node, effect->lane, &effect->message);
        break;
    case WORKER_DIAL:
        sim_lane_dial(sim, true, sim_node_place(sim, node), effect->lane, effect->text);
        break;
    case WORKER_HANG_UP:
        hang_up(sim, node, effect);
        break;
    case WORKER_RELINK:
        if (!strstr(effect->text, "silent"))
            sim_fail(sim, "W%d leaves an honest coordinator: %s",
                     sim_node_place(sim, node), effect->text);
        sim_promise_check_silence(sim, node->link, "a worker");
        relink(sim, node, effect->text);
        break;
    case WORKER_ORPHANED:
        sim_trace(sim, "W%d is cut off: %s", sim_node_place(sim, node), effect->text);
        sim_promise_check_orphaned(sim, node);
        break;
    case WORKER_PROGRAM_OPEN:
    case WORKER_PROGRAM_WRITE:
    case WORKER_PROGRAM_CLOSE:
        sim_program_apply(sim, node, effect);
        break;
    case WORKER_STOPPED:
        stop(sim, node, effect->text);
        return false;
    default:
        if (!sim_shared_apply(sim, node, effect))
            sim_process_apply(sim, node, effect);
    }
    return true;
}

/* Whether an event still concerns the present link; follows the link's end. */
static bool is_present(struct sim *sim, struct node *node, const struct node_item *item)
{
    if (item->event.lane && item->event.kind == WORKER_MESSAGE)
        sim_promise_told(sim, node, item->event.message);
    if (item->link == 0)
        return true;
    if (item->link != node->link)
        return false;
    if (item->event.kind == WORKER_LINK_DOWN) {
        node->link = 0;
        sim_link_dial(sim, true, sim_node_place(sim, node));
    }
    if (item->event.kind == WORKER_MESSAGE && item->event.message->kind == MSG_DRAIN)
        node->ending = true;
    if (item->event.kind != WORKER_MESSAGE)
        return true;
    if (item->event.message->kind == MSG_WELCOME)
        node->welcomed = item->link;
    if (item->link == node->welcomed)
        node->heard_us = sim->now_us;
    sim_promise_told(sim, node, item->event.message);
    return true;
}

static void print_arrival(struct sim *sim, struct node *node,
                          const struct worker_event *event)
{
    static const char *const names[] = {
        "link up",           "link down",      "message",        "program needs",
        "program ready",     "program failed", "shared opened",  "shared wrote",
        "process ready",     "process done",   "process failed", "process blocked",
        "process unblocked", "process taken",  "process output", "process sampled",
        "process gone",      "drain",          "stop",           "flush"};
    char who[24];

    if (!sim_tracing(sim))
        return;
    snprintf(who, sizeof who, "  K>W%d", sim_node_place(sim, node));
    if (event->message)
        sim_trace_message(sim, who, event->message);
    else
        sim_trace(sim, "  W%d: %s process=%llu give=%llu first=%llu count=%u code=%d%s",
                  sim_node_place(sim, node), names[event->kind],
                  (unsigned long long)event->process, (unsigned long long)event->give,
                  (unsigned long long)event->first, event->count, event->code,
                  event->running ? " running" : "");
}

/* Steps what is in the inbox, until the link has gone down: what that led to (dialing)
 * belongs to the next batch. */
static void step_inbox(struct sim *sim, struct node *node)
{
    struct node_item item;

    while (sim_queue_pop(&node->inbox, &item)) {
        if (!is_present(sim, node, &item)) {
            free_event(&item.event);
            continue;
        }
        print_arrival(sim, node, &item.event);
        step(sim, node, &item.event);
    }
}

/* A restarted coordinator may give it its window again before it has told what it
 * holds, so the bound is twice its window; tasks that wait for nested jobs, one in a
 * process at most, do not count, and each nested client has one beyond the window. */
static void check_window(struct sim *sim, const struct node *node)
{
    struct worker_counts counts;

    worker_core_counts(node->core, &counts);
    if (counts.held > 2 * node->config.tasks_max + node->processes.count + APPS_MAX)
        sim_fail(sim, "W%d holds %llu tasks, its window is %llu",
                 sim_node_place(sim, node), (unsigned long long)counts.held,
                 (unsigned long long)node->config.tasks_max);
}

void sim_node_look(struct sim *sim, struct node *node)
{
    struct worker_event flush = {.kind = WORKER_FLUSH};

    step_inbox(sim, node);
    step(sim, node, &flush);
    check_window(sim, node);
    for (size_t i = 0; i < node->effects.count; i++)
        if (!carry_out(sim, node, &node->effects.items[i]))
            return;
    worker_effects_clear(&node->effects);
    sim_promise_check_orphans(sim, node);
    uint64_t deadline_ms = worker_core_deadline(node->core);
    if (deadline_ms != UINT64_MAX)
        wake(sim, node,
             deadline_ms <= sim_now_ms(sim) ? sim->now_us + 1 : deadline_ms * 1000);
}
