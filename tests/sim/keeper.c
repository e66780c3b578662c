/* SPDX-License-Identifier: Apache-2.0
 *
 * keeper.c: the coordinator's keeper of detached jobs, as detached/detached.c has it: the
 * project's own service on a thread, a queue each way, and a disk, for which a turn takes
 * its time. All of it dies with the coordinator, but for what the disk has: between any
 * two turns, in the middle of one at each call of the store (what that had others do is
 * gone then), and while the disk is at it. */
#include "common/sys/sys.h"
#include "detached.h"
#include "tests/unit/store_memory.h"

/* The service's own; here a pool's id is what keys.c makes it. */
void sys_pool_id(const struct hash *key, const struct id *seed, struct id *ret_pool)
{
    sim_keys_pool_id(key, seed, ret_pool);
}

static uint64_t wall_ms(void)
{
    return 1;
}

/* ----------------------------------------------------------- what it has others do */

/* Who asked there asks again. */
static void drop(struct sim *sim, uint64_t link)
{
    sim_trace(sim, "K has no memory for an answer on link %llu",
              (unsigned long long)link);
    if (!sim_link_find(sim, link)->lanes[TO_COORDINATOR].open)
        return;
    sim_coordinator_push(sim, link, NULL);
    sim_link_close(sim, link, TO_PEER);
}

static void carry_out(struct sim *sim, struct service_out *out)
{
    switch (out->kind) {
    case SERVICE_ANSWER:
        sim_trace_message(sim, "K>owner", out->message);
        if (sim_link_find(sim, out->link)->place == SQUATTER_PLACE)
            sim_stranger_check_told(sim, out->message);
        sim_link_send(sim, out->link, TO_PEER, &out->message);
        break;
    case SERVICE_SAY:
        sim_inner_say(sim, out);
        break;
    case SERVICE_HANG_UP:
        sim_inner_hang_up(sim, out->link);
        break;
    case SERVICE_DROP:
        drop(sim, out->link);
        break;
    case SERVICE_LOG:
        sim_trace(sim, "K logs %s %s", out->event, out->text);
    }
    message_free(&out->message);
}

/* The disk has it. */
static void serve(struct sim *sim, uint64_t incarnation, uint64_t b, uint64_t c)
{
    struct keeper *keeper = &sim->keeping->keeper;
    struct service_out out;

    (void)b, (void)c;
    if (!keeper->actor.alive || keeper->actor.incarnation != incarnation)
        return;
    while (sim_queue_pop(&keeper->outs, &out))
        carry_out(sim, &out);
}

/* ------------------------------------------------------------------------------ turns */

static void wake(struct sim *sim, uint64_t at_us);

/* Breaks the disk's word, once: what it has is there no more. */
static void lose_stored(struct sim *sim)
{
    for (int i = 0; i < sim->keeping->count; i++)
        if (!sim->broke)
            sim->broke = memory_store_lose_result(detached_id(&sim->keeping->jobs[i]));
}

static void take_all(struct sim *sim, struct keeper *keeper)
{
    struct service_in in;

    while (sim_queue_pop(&keeper->inbox, &in)) {
        sim_inner_note(sim, &in);
        bool armed, taken;
        do {
            armed = sim_step_begin(sim);
            taken = service_take(keeper->service, &in, sim_now_ms(sim));
        } while (sim_step_again(sim, armed, taken ? 0 : FARPOOL_ENOMEM));
    }
}

/* Until the disk has it nothing is heard of the turn, and no other begins. */
static void wait_for_disk(struct sim *sim, struct keeper *keeper)
{
    const uint64_t until_us = sim->now_us + sim_dice(sim, keeper->slow_us + 1);
    size_t count;
    struct service_out *outs = service_outs(keeper->service, &count);

    for (size_t i = 0; i < count; i++) {
        sim_queue_push(&keeper->outs, &outs[i], sizeof outs[i]);
        outs[i].message = NULL;
    }
    service_clear(keeper->service);
    keeper->actor.paused_until_us = until_us + 1;
    sim_at(sim, until_us, serve, keeper->actor.incarnation, 0, 0);
}

static void turn(struct sim *sim)
{
    struct keeper *keeper = &sim->keeping->keeper;

    take_all(sim, keeper);
    const bool armed = sim_step_begin(sim);
    service_turn(keeper->service, sim_now_ms(sim));
    sim_step_again(sim, armed, 0);
    if (memory_store_has_stopped()) {
        sim_trace(sim, "---- K dies while it writes");
        sim_detached_kill(sim);
        return;
    }
    wait_for_disk(sim, keeper);
    if (sim->options.broken == BREAK_LOSE_STORED)
        lose_stored(sim);
    const uint64_t deadline_ms = service_deadline(keeper->service);
    if (keeper->inbox.count)
        wake(sim, sim->now_us + 1);
    if (deadline_ms != UINT64_MAX)
        wake(sim, deadline_ms <= sim_now_ms(sim) ? sim->now_us + 1 : deadline_ms * 1000);
}

/* A coordinator that is stopped is so with this thread. */
static void look(struct sim *sim, uint64_t place, uint64_t incarnation, uint64_t at_us)
{
    struct actor *actor = &sim->keeping->keeper.actor;
    const uint64_t other_us = sim->coordinator.actor.paused_until_us;

    (void)place;
    if (!actor->alive || actor->incarnation != incarnation || actor->wake_at_us != at_us)
        return;
    actor->wake_at_us = UINT64_MAX;
    if (sim->now_us < actor->paused_until_us || sim->now_us < other_us)
        wake(sim, actor->paused_until_us > other_us ? actor->paused_until_us : other_us);
    else
        turn(sim);
}

static void wake(struct sim *sim, uint64_t at_us)
{
    sim_wake(sim, &sim->keeping->keeper.actor, at_us, look, 0);
}

static void push(struct sim *sim, const struct service_in *in)
{
    sim_queue_push(&sim->keeping->keeper.inbox, in, sizeof *in);
    wake(sim, sim->now_us + sim_dice(sim, 300));
}

/* --------------------------------------------------------------- from the coordinator */

void sim_keeper_ask(struct sim *sim, const struct link *link, struct message **message)
{
    struct service_in in = {.kind = SERVICE_REQUEST,
                            .link = link->number,
                            .message = *message,
                            .holder = sim_keys_holder(sim, link)};

    *message = NULL;
    push(sim, &in);
}

bool sim_keeper_hear(struct sim *sim, const struct link *link, struct message **message)
{
    struct service_in in = {.kind = message ? SERVICE_INNER : SERVICE_INNER_DOWN};

    for (int i = 0; sim->keeping && i < sim->keeping->count; i++) {
        const struct detached *detached = &sim->keeping->jobs[i];

        if (sim_app_place(sim, detached->app) != link->place)
            continue;
        if (detached->link != link->number)
            return true; /* it has another one by now */
        in.link = detached->inner;
        in.message = message ? *message : NULL;
        if (message)
            *message = NULL;
        push(sim, &in);
        return true;
    }
    return false;
}

/* ------------------------------------------------------------------------- its life */

void sim_keeper_start(struct sim *sim)
{
    struct keeper *keeper = sim->keeping ? &sim->keeping->keeper : NULL;
    const struct service_config config = {.folder = "",
                                          .bytes_max = 1 << 30,
                                          .keep_s = 1000000,
                                          .first_link = UINT64_C(1) << 62,
                                          .seed = keeper ? rng_next(&sim->rng) : 0,
                                          .wall_ms = wall_ms};
    bool armed;
    int code;

    if (!keeper)
        return;
    memory_store_stop(0);
    keeper->actor = (struct actor){true, keeper->actor.incarnation + 1, 0, UINT64_MAX};
    do {
        armed = sim_step_begin(sim);
        code = service_create(&config, sim_now_ms(sim), &keeper->service);
    } while (sim_step_again(sim, armed, code));
    wake(sim, sim->now_us);
}

void sim_keeper_kill(struct sim *sim)
{
    struct keeper *keeper = sim->keeping ? &sim->keeping->keeper : NULL;
    struct service_in in;
    struct service_out out;

    if (!keeper)
        return;
    keeper->actor.alive = false;
    while (sim_queue_pop(&keeper->inbox, &in))
        message_free(&in.message);
    while (sim_queue_pop(&keeper->outs, &out))
        message_free(&out.message);
    sim_queue_fini(&keeper->inbox);
    sim_queue_fini(&keeper->outs);
    service_destroy(keeper->service);
    keeper->service = NULL;
    for (int i = 0; i < sim->keeping->count; i++)
        sim->keeping->jobs[i].inner = sim->keeping->jobs[i].link = 0;
}
