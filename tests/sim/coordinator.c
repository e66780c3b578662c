/* SPDX-License-Identifier: Apache-2.0
 *
 * coordinator.c: the virtual coordinator daemon: hands what arrived to the core, batch
 * by batch, and carries out what it decides. It can be killed and started empty. */
#include "sim.h"

#include <stdio.h>
#include <string.h>

static void look(struct sim *sim, uint64_t place, uint64_t incarnation, uint64_t at_us)
{
    struct actor *actor = &sim->coordinator.actor;

    (void)place;
    if (!actor->alive || actor->incarnation != incarnation || actor->wake_at_us != at_us)
        return;
    actor->wake_at_us = UINT64_MAX;
    if (sim->now_us < actor->paused_until_us)
        sim_wake(sim, actor, actor->paused_until_us, look, 0);
    else
        sim_coordinator_look(sim);
}

static void wake(struct sim *sim, uint64_t at_us)
{
    sim_wake(sim, &sim->coordinator.actor, at_us, look, 0);
}

void sim_coordinator_start(struct sim *sim)
{
    struct coordinator *coordinator = &sim->coordinator;

    if (coordinator->actor.alive)
        return;
    coordinator->actor.alive = true;
    coordinator->actor.incarnation++;
    coordinator->actor.wake_at_us = UINT64_MAX;
    coordinator->actor.paused_until_us = 0;
    coordinator->config.coordinator = sim_id(sim);
    coordinator->starts++;
    if (coordinator_core_create(&coordinator->config, sim_now_ms(sim),
                                &coordinator->core) != 0)
        sim_fail(sim, "coordinator_core_create");
    sim_trace(sim, "K starts");
    sim_keeper_start(sim);
    wake(sim, sim->now_us);
}

void sim_coordinator_kill(struct sim *sim)
{
    struct coordinator *coordinator = &sim->coordinator;
    struct coordinator_event event;

    coordinator->actor.alive = false;
    sim_keeper_kill(sim);
    while (sim_queue_pop(&coordinator->inbox, &event))
        message_free(&event.message);
    sim_queue_fini(&coordinator->inbox);
    coordinator_core_destroy(coordinator->core);
    coordinator_effects_fini(&coordinator->effects);
    memset(&coordinator->effects, 0, sizeof coordinator->effects);
    coordinator->core = NULL;
    sim_links_cut_all(sim);
}

void sim_coordinator_push(struct sim *sim, uint64_t link, struct message *message)
{
    struct coordinator_event event = {.kind = message ? COORDINATOR_MESSAGE
                                                      : COORDINATOR_LINK_DOWN,
                                      .link = link,
                                      .message = message,
                                      .text = "cut"};

    sim_queue_push(&sim->coordinator.inbox, &event, sizeof event);
    wake(sim, sim->now_us + sim_dice(sim, 300));
}

static void step(struct sim *sim, struct coordinator_event *event)
{
    struct coordinator *coordinator = &sim->coordinator;
    bool armed;
    int result;

    event->now_ms = sim_now_ms(sim);
    do {
        size_t before = coordinator->effects.count;

        armed = sim_step_begin(sim);
        result = coordinator_core_step(coordinator->core, event, &coordinator->effects);
        coordinator_core_check(coordinator->core);
        if (result != 0 && result != FARPOOL_ENOMEM)
            sim_fail(sim, "coordinator_core_step: %d", result);
        if (result != 0 && coordinator->effects.count != before)
            sim_fail(sim, "coordinator_core_step left effects of a failed step");
    } while (sim_step_again(sim, armed, result));
    message_free(&event->message);
}

/* What no honest peer deserves. */
static bool is_blame(int code)
{
    return code == FARPOOL_EPROTOCOL || code == FARPOOL_EINVAL;
}

static void carry_out(struct sim *sim, struct coordinator_effect *effect)
{
    struct link *link = sim_link_find(sim, effect->link);
    char who[40];

    if (!link)
        sim_fail(sim, "an effect for link %llu", (unsigned long long)effect->link);
    if (effect->kind == COORDINATOR_DETACHED) {
        sim_keeper_ask(sim, link, &effect->message);
        return;
    }
    if (effect->kind == COORDINATOR_SEND) {
        snprintf(who, sizeof who, "K>%c%d (%llu)", link->worker ? 'W' : 'C', link->place,
                 (unsigned long long)effect->link);
        sim_trace_message(sim, who, effect->message);
        if (effect->message->kind == MSG_WELCOME)
            link->welcomed_us = sim->now_us;
        if (effect->message->kind == MSG_DRAIN)
            sim_promise_drain(link);
        if (effect->message->kind == MSG_TASKS)
            sim_promise_check_tasks(sim, link);
        if (effect->message->kind == MSG_TASKS && link->worker)
            sim_promise_given(sim, link->place, effect->message);
        if (effect->message->kind == MSG_LOST)
            sim_promise_check_lost(sim, effect->message);
        if (effect->message->kind == MSG_POOL_CLOSE)
            sim_outcome_given_up(sim, &effect->message->pool_close.pool);
        if (effect->message->kind == MSG_LOST && link->place < APPS_MAX)
            sim_outcome_check_lost(sim, &sim->apps[link->place], effect->message);
        if (link->place == SQUATTER_PLACE)
            sim_keys_check_squatter(sim, effect->message);
        if (effect->message->kind == MSG_REFUSED &&
            is_blame(effect->message->refused.code))
            sim_fail(sim, "the coordinator refuses an honest peer: %s",
                     effect->message->refused.text);
        if (!sim_keeper_hear(sim, link, &effect->message))
            sim_link_send(sim, effect->link, TO_PEER, &effect->message);
        return;
    }
    sim_trace(sim, "K drops link %llu: %d %s", (unsigned long long)effect->link,
              effect->code, effect->text);
    if (is_blame(effect->code))
        sim_fail(sim, "the coordinator drops an honest peer: %s", effect->text);
    if (effect->code == FARPOOL_ETIMEDOUT)
        sim_promise_check_silence(sim, effect->link, "the coordinator");
    link->dropped = true;
    sim_keeper_hear(sim, link, NULL);
    sim_link_close(sim, effect->link, TO_PEER);
}

static void print_arrival(struct sim *sim, const struct coordinator_event *event)
{
    char who[40];
    const struct link *link = sim_link_find(sim, event->link);

    if (!sim_tracing(sim))
        return;
    snprintf(who, sizeof who, "  %c%d>K (%llu)", link->worker ? 'W' : 'C', link->place,
             (unsigned long long)event->link);
    if (event->message)
        sim_trace_message(sim, who, event->message);
    else
        sim_trace(sim, "%s is down", who);
}

/* What clients may have under way; a client that is resumed gets four windows. */
static void check_windows(struct sim *sim)
{
    const struct coordinator_config *config = &sim->coordinator.config;
    struct coordinator_counts counts;

    coordinator_core_counts(sim->coordinator.core, &counts);
    uint64_t limit = 4 * config->client_tasks_max * counts.clients;
    uint64_t held = 0; /* as workers told, which may be dead by now */
    for (int i = 0; i < NODES_MAX; i++)
        held += 4 * sim->nodes[i].config.tasks_max;
    if (counts.waiting > limit || counts.assigned > limit + held)
        sim_fail(sim, "the coordinator has %llu tasks waiting, %llu assigned",
                 (unsigned long long)counts.waiting, (unsigned long long)counts.assigned);
}

void sim_coordinator_look(struct sim *sim)
{
    struct coordinator *coordinator = &sim->coordinator;
    struct coordinator_event event;
    struct coordinator_effects *effects = &coordinator->effects;

    while (sim_queue_pop(&coordinator->inbox, &event)) {
        struct link *link = sim_link_find(sim, event.link);
        const struct holder holder = sim_keys_holder(sim, link);

        event.holder = &holder;
        if (link->dropped) {
            message_free(&event.message);
            continue;
        }
        print_arrival(sim, &event);
        if (event.message && event.message->kind == MSG_DRAIN)
            sim_promise_drain(link);
        step(sim, &event);
    }
    event = (struct coordinator_event){.kind = COORDINATOR_FLUSH};
    step(sim, &event);
    check_windows(sim);
    if (sim->options.broken == BREAK_HOARD)
        mem_alloc(1 << 16);
    for (size_t i = 0; i < effects->count; i++)
        carry_out(sim, &effects->items[i]);
    coordinator_effects_clear(effects);
    uint64_t deadline_ms = coordinator_core_deadline(coordinator->core);
    if (deadline_ms != UINT64_MAX)
        wake(sim, deadline_ms <= sim_now_ms(sim) ? sim->now_us + 1 : deadline_ms * 1000);
}
