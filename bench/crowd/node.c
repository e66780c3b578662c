/* SPDX-License-Identifier: Apache-2.0
 *
 * node.c: a worker of a crowd: its real core, and processes that only pass time. They
 * honour what worker/host.h promises: a process works through its gives in order, gives
 * back only what it has not claimed, and its results come at the end of a give, put
 * together, as the host would read them then. An output is its task's input. */
#include "crowd.h"

#include "common/base/mem.h"
#include "common/base/span.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define START_US 5000

/* ------------------------------------------------------------------ processes */

static struct process *find(const struct node *node, uint64_t number)
{
    struct process *process;
    HASH_FIND(hh, node->processes, &number, sizeof number, process);
    return process;
}

static struct worker_event *report(struct node *node, enum worker_event_kind kind,
                                   uint64_t process)
{
    struct worker_event *event = crowd_add(&node->reports, sizeof *event);
    event->kind = kind;
    event->process = process;
    event->pid = 1;
    crowd_wake(&node->peer, node->peer.crowd->now_us);
    return event;
}

static void end_process(struct node *node, struct process *process)
{
    struct give *give;
    report(node, WORKER_PROCESS_GONE, process->number);
    while ((give = process->gives) != NULL) {
        process->gives = give->next;
        payload_unref(&give->data);
        free(give);
    }
    HASH_DEL(node->processes, process);
    free(process);
}

/* ----------------------------------------------------------------------- work */

static void end_give(struct crowd *crowd, void *object, uint64_t number, uint64_t epoch);

static uint64_t end_us(const struct give *give)
{
    return give->began_us + give->count * give->task_ns / 1000;
}

static void begin(struct node *node, struct process *process)
{
    struct crowd *crowd = node->peer.crowd;
    struct give *give = process->gives;
    if (give == NULL || !process->ready)
        return;
    if (give->began_us == 0) {
        /* A tenth more or less, so that nothing goes in step. */
        const uint64_t usual_ns = 1000 * crowd_app_of(crowd, &process->pool)->task_us;
        give->task_ns =
            usual_ns - usual_ns / 10 + rng_below(&crowd->rng, usual_ns / 5 + 1);
        give->began_us = crowd->now_us;
    }
    crowd_at(crowd, end_us(give), end_give, node, process->number, ++process->epoch);
}

static void end_give(struct crowd *crowd, void *object, uint64_t number, uint64_t epoch)
{
    struct node *node = object;
    struct process *process = find(node, number);
    (void)crowd;
    if (process == NULL || process->epoch != epoch)
        return;
    struct give *give = process->gives;
    struct worker_event *event = report(node, WORKER_PROCESS_DONE, number);
    event->give = give->give;
    event->first = give->first;
    event->count = give->count;
    event->elapsed_ns = give->count * give->task_ns;
    event->data = give->data;
    process->gives = give->next;
    free(give);
    begin(node, process);
    if (process->gives == NULL && process->closing)
        end_process(node, process);
}

/* Tasks of a give that its process has claimed. */
static uint32_t claimed(const struct crowd *crowd, const struct give *give)
{
    if (give->began_us == 0)
        return 0;
    const uint64_t begun = (crowd->now_us - give->began_us) * 1000 / give->task_ns + 1;
    const uint64_t claims = (begun + give->claim - 1) / give->claim * give->claim;
    return claims < give->count ? (uint32_t)claims : give->count;
}

static void shorten(struct give *give, uint32_t taken)
{
    struct payload *rest =
        give->count > taken
            ? crowd_need(payload_slice(give->data, 0, 8 * (size_t)(give->count - taken)))
            : NULL;
    payload_unref(&give->data);
    give->data = rest;
    give->count -= taken;
}

/* From the last give back to the first. */
static uint64_t take_from(struct node *node, const struct process *process,
                          struct give *give, uint64_t count)
{
    if (give == NULL || count == 0)
        return count;
    count = take_from(node, process, give->next, count);
    const uint32_t open = give->count - claimed(node->peer.crowd, give);
    const uint32_t taken = open < count ? open : (uint32_t)count;
    if (taken == 0)
        return count;
    shorten(give, taken);
    struct worker_event *event = report(node, WORKER_PROCESS_TAKEN, process->number);
    event->give = give->give;
    event->first = give->first + give->count;
    event->count = taken;
    return count - taken;
}

static void take_back(struct node *node, struct process *process, uint64_t count)
{
    take_from(node, process, process->gives, count);
    report(node, WORKER_PROCESS_TAKEN, process->number);
    for (struct give **give = &process->gives; *give != NULL;) {
        struct give *empty = *give;
        if (empty->count > 0) {
            give = &empty->next;
            continue;
        }
        *give = empty->next;
        free(empty);
    }
    begin(node, process);
}

static void sample(struct node *node, const struct process *process)
{
    struct worker_event *event = report(node, WORKER_PROCESS_SAMPLED, process->number);
    const struct give *give = process->gives;
    if (give == NULL || give->began_us == 0)
        return;
    const uint64_t past_ns = (node->peer.crowd->now_us - give->began_us) * 1000;
    const uint64_t place = past_ns / give->task_ns;
    event->running = true;
    event->give = give->give;
    event->first = give->first + (place < give->count ? place : give->count - 1);
    event->began_ms = (give->began_us + place * give->task_ns / 1000) / 1000;
    event->share_ppm = 1000000;
}

/* -------------------------------------------------------------------- effects */

static void get_ready(struct crowd *crowd, void *object, uint64_t number, uint64_t epoch)
{
    struct node *node = object;
    struct process *process = find(node, number);
    (void)crowd, (void)epoch;
    if (process == NULL)
        return;
    process->ready = true;
    report(node, WORKER_PROCESS_READY, number);
}

static void start(struct node *node, const struct worker_effect *effect)
{
    struct crowd *crowd = node->peer.crowd;
    struct process *process = crowd_need(calloc(1, sizeof *process));
    process->number = effect->process;
    process->pool = effect->pool;
    HASH_ADD(hh, node->processes, number, sizeof process->number, process);
    crowd_at(crowd, crowd->now_us + START_US, get_ready, node, process->number, 0);
}

static void give(struct node *node, struct process *process, struct worker_effect *effect)
{
    struct give *fresh = crowd_need(calloc(1, sizeof *fresh));
    struct give **last = &process->gives;
    *fresh = (struct give){.give = effect->give,
                           .job = effect->job,
                           .first = effect->span.first,
                           .count = effect->span.count,
                           .claim = effect->claim,
                           .data = payload_ref(effect->span.data)};
    while (*last != NULL)
        last = &(*last)->next;
    *last = fresh;
    if (process->gives == fresh)
        begin(node, process);
}

static void apply(struct node *node, struct worker_effect *effect)
{
    struct process *process = find(node, effect->process);
    if (effect->kind == WORKER_PROCESS_START)
        start(node, effect);
    if (process == NULL)
        return;
    if (effect->kind == WORKER_PROCESS_GIVE)
        give(node, process, effect);
    else if (effect->kind == WORKER_PROCESS_TAKE_BACK)
        take_back(node, process, effect->count);
    else if (effect->kind == WORKER_PROCESS_SAMPLE)
        sample(node, process);
    else if (effect->kind == WORKER_PROCESS_CLOSE)
        process->closing = true;
    if (effect->kind == WORKER_PROCESS_KILL ||
        (process->closing && process->gives == NULL))
        end_process(node, process);
}

static void carry_out(struct node *node, struct worker_effect *effect)
{
    struct worker_event *event;
    switch (effect->kind) {
    case WORKER_SEND:
        crowd_peer_say(&node->peer, effect->message);
        effect->message = NULL;
        break;
    case WORKER_PROGRAM_OPEN:
        event = report(node, WORKER_PROGRAM_READY, 0);
        event->program = effect->program;
        break;
    case WORKER_RELINK:
    case WORKER_STOPPED:
        crowd_fail("a worker", effect->text);
    default:
        apply(node, effect);
    }
}

/* -------------------------------------------------------------------- turns */

static void step(struct node *node, struct worker_event *event)
{
    event->now_ms = crowd_now_ms(node->peer.crowd);
    if (worker_core_step(node->core, event, &node->effects) != 0)
        crowd_fail("worker", "out of memory");
    message_free(&event->message);
    payload_unref(&event->data);
}

void crowd_node_look(struct node *node)
{
    struct peer *peer = &node->peer;
    struct message **messages = peer->messages.items;
    for (size_t i = 0; i < peer->messages.count; i++) {
        struct worker_event event = {.kind = WORKER_MESSAGE, .message = messages[i]};
        step(node, &event);
    }
    peer->messages.count = 0;
    for (size_t i = 0; i < node->reports.count; i++)
        step(node, &((struct worker_event *)node->reports.items)[i]);
    node->reports.count = 0;
    struct worker_event flush = {.kind = WORKER_FLUSH};
    step(node, &flush);
    for (size_t i = 0; i < node->effects.count; i++)
        carry_out(node, &node->effects.items[i]);
    worker_effects_clear(&node->effects);
    const uint64_t deadline_ms = worker_core_deadline(node->core);
    if (deadline_ms != UINT64_MAX)
        crowd_wake(peer, deadline_ms * 1000);
}

void crowd_node_up(struct node *node)
{
    struct worker_event *event = crowd_add(&node->reports, sizeof *event);
    event->kind = WORKER_LINK_UP;
    crowd_wake(&node->peer, node->peer.crowd->now_us);
}

void crowd_node_start(struct crowd *crowd, struct node *node)
{
    struct worker_config config;
    worker_config_init(&config);
    config.worker = crowd_id(crowd);
    snprintf(config.node, sizeof config.node, "n%u", node->peer.place);
    snprintf(config.machine, sizeof config.machine, "x86_64");
    config.slots = crowd->options.slots;
    config.memory_bytes = UINT64_C(1) << 40;
    if (crowd->options.tasks_max > 0)
        config.tasks_max = crowd->options.tasks_max;
    if (worker_core_create(&config, crowd_now_ms(crowd), &node->core) != 0)
        crowd_fail("worker", "out of memory");
    if (crowd->wire == NULL)
        crowd_node_up(node);
}
