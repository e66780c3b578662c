/* SPDX-License-Identifier: Apache-2.0
 *
 * owner.c: who submits a detached job, asks how it stands, has it cancelled, collects it
 * and has it forgotten: as libfarpool and the command do (client/detached*.c), one
 * question at a time on one link, and all of it again where the link broke or no answer
 * came. Whether the answers are right is told.c's. */
#include "detached.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATIENCE_US 3000000
#define PAUSE_US 500000 /* between two looks */

static void dial_in(struct sim *sim, struct detached *detached, uint64_t in_us);

static void over(struct sim *sim, struct detached *detached)
{
    sim_trace(sim, "O%d has no more to ask", detached_place(sim, detached));
    detached->stage = OWNER_OVER;
    detached->epoch++;
    sim_link_close(sim, detached->asks_on, TO_COORDINATOR);
    detached->asks_on = 0;
}

/* -------------------------------------------------------------------------- asking */

/* Timers are for the link and question for which they were set. */
static struct detached *find(struct sim *sim, uint64_t place, uint64_t epoch)
{
    struct detached *detached = &sim->keeping->jobs[place];

    return detached->epoch == epoch ? detached : NULL;
}

static void set(struct sim *sim, struct detached *detached, uint64_t in_us,
                void (*call)(struct sim *, uint64_t, uint64_t, uint64_t))
{
    sim_at(sim, sim->now_us + in_us, call, (uint64_t)detached_place(sim, detached),
           ++detached->epoch, 0);
}

static void lose_patience(struct sim *sim, uint64_t place, uint64_t epoch, uint64_t c)
{
    struct detached *detached = find(sim, place, epoch);

    (void)c;
    if (!detached)
        return;
    sim_trace(sim, "O%d waits no longer", (int)place);
    sim_link_close(sim, detached->asks_on, TO_COORDINATOR);
    detached->asks_on = 0;
    dial_in(sim, detached, sim_dice(sim, 200000));
}

static void say(struct sim *sim, struct detached *detached, struct message *message)
{
    char who[24];

    snprintf(who, sizeof who, "O%d>K", detached_place(sim, detached));
    sim_trace_message(sim, who, message);
    sim_link_send(sim, detached->asks_on, TO_COORDINATOR, &message);
}

static void ask(struct sim *sim, uint64_t place, uint64_t epoch, uint64_t c)
{
    struct detached *detached = find(sim, place, epoch);

    (void)c;
    if (!detached)
        return;
    struct message *message = sim_owner_word(sim, detached);
    detached->asked = message->kind == MSG_DETACHED_END && !message->detached_end.forget
                          ? OWNER_OVER
                          : detached->stage;
    sim_owner_number(message, ++detached->request);
    detached->forgets = detached->forgets || detached->stage == OWNER_FORGETS;
    say(sim, detached, message);
    set(sim, detached, PATIENCE_US, lose_patience);
}

static void ask_in(struct sim *sim, struct detached *detached, uint64_t in_us)
{
    set(sim, detached, in_us, ask);
}

static void dial(struct sim *sim, uint64_t place, uint64_t epoch, uint64_t c)
{
    struct detached *detached = find(sim, place, epoch);

    (void)c;
    if (!detached)
        return;
    if (!sim->coordinator.actor.alive) {
        dial_in(sim, detached, sim_between(sim, 50000, 500000));
        return;
    }
    detached->asks_on = sim_link_outsider(sim, OWNER_PLACE + (int)place);
    struct link *link = sim_link_find(sim, detached->asks_on);
    link->lanes[TO_COORDINATOR].open = link->lanes[TO_PEER].open = true;
    struct message *hello = message_create(MSG_HELLO_CLIENT);
    hello->hello_client.protocol = PROTOCOL_VERSION;
    hello->hello_client.client = sim_id(sim);
    say(sim, detached, hello);
    detached->word = MSG_SUBMIT;
    set(sim, detached, PATIENCE_US, lose_patience);
}

static void dial_in(struct sim *sim, struct detached *detached, uint64_t in_us)
{
    set(sim, detached, in_us, dial);
}

/* -------------------------------------------------------------------------- answers */

static void take_submission(struct sim *sim, struct detached *detached,
                            struct message *message)
{
    if (message->kind == MSG_FETCH) {
        message_free(&detached->fetch);
        detached->fetch = message_copy(message);
        detached->word = MSG_BLOB;
    } else if (message->answer.code == FARPOOL_ENOJOB) {
        sim_told_none(sim, detached);
        over(sim, detached);
        return;
    } else if (message->answer.code != 0) {
        if (!sim_told_again(message->answer.code))
            sim_fail(sim, "a submission is refused: %s", message->answer.text);
        detached->word = MSG_SUBMIT;
        ask_in(sim, detached, sim_dice(sim, PAUSE_US));
        return;
    } else if (message->answer.concerned) {
        detached->accepted = true;
        detached->stage = OWNER_WATCHES;
    } else {
        sim_told_kept(sim, detached, message->answer.tasks);
        detached->word = MSG_SUBMIT_TASKS;
    }
    ask_in(sim, detached, sim_dice(sim, 1000));
}

static void take_cancelled(struct sim *sim, struct detached *detached,
                           const struct message *message)
{
    if (message->answer.code == FARPOOL_ENOJOB) {
        sim_told_none(sim, detached);
        over(sim, detached);
        return;
    }
    if (message->answer.code == 0) {
        detached->cancelled = true;
        detached->stage =
            detached->stage == OWNER_SUBMITS ? OWNER_WATCHES : detached->stage;
    } else if (!sim_told_again(message->answer.code)) {
        sim_fail(sim, "a detached job cannot be cancelled: %s", message->answer.text);
    }
    ask_in(sim, detached, sim_dice(sim, PAUSE_US));
}

static void take_forgotten(struct sim *sim, struct detached *detached,
                           const struct message *message)
{
    if (message->answer.code == 0 || message->answer.code == FARPOOL_ENOJOB) {
        detached->forgotten = true;
        over(sim, detached);
        return;
    }
    if (!sim_told_again(message->answer.code))
        sim_fail(sim, "a detached job cannot be forgotten: %s", message->answer.text);
    ask_in(sim, detached, sim_dice(sim, PAUSE_US));
}

static void take_state(struct sim *sim, struct detached *detached,
                       const struct message *message)
{
    const int code = message->detached.code;

    if (code == FARPOOL_ENOJOB) {
        sim_told_none(sim, detached);
        over(sim, detached);
        return;
    }
    if (code != 0 && !sim_told_again(code))
        sim_fail(sim, "a detached job is not shown: %s", message->detached.text);
    if (code == 0)
        sim_told_state(sim, detached, &message->detached.jobs[0]);
    ask_in(sim, detached, sim_dice(sim, PAUSE_US));
}

static void take_collected(struct sim *sim, struct detached *detached,
                           const struct message *message)
{
    const int code = message->collected.code;

    if (code != 0 && !sim_told_again(code))
        sim_fail(sim, "a detached job is not given out: %s", message->collected.text);
    if (code == 0)
        sim_told_collected(sim, detached, message);
    ask_in(sim, detached,
           sim_dice(sim, code != 0 || sim_chance(sim, 4) ? PAUSE_US : 2000));
}

static uint32_t request_of(const struct message *message, uint32_t usual)
{
    switch (message->kind) {
    case MSG_ANSWER:
        return message->answer.request;
    case MSG_DETACHED:
        return message->detached.request;
    case MSG_COLLECTED:
        return message->collected.request;
    default:
        return usual;
    }
}

/* An answer to what was asked last. Those to a BLOB have no number. */
static void take(struct sim *sim, struct detached *detached, struct message *message)
{
    const uint32_t request = request_of(message, detached->request);

    if (request != detached->request && request != 0)
        sim_fail(sim, "O%d is told %s to no question", detached_place(sim, detached),
                 message_name(message->kind));
    if (message->kind == MSG_DETACHED)
        take_state(sim, detached, message);
    else if (message->kind == MSG_COLLECTED)
        take_collected(sim, detached, message);
    else if (detached->asked == OWNER_OVER)
        take_cancelled(sim, detached, message);
    else if (detached->asked == OWNER_FORGETS)
        take_forgotten(sim, detached, message);
    else
        take_submission(sim, detached, message);
}

/* message NULL: the link is over. */
void sim_owner_hear(struct sim *sim, const struct link *link, struct message *message)
{
    struct detached *detached = &sim->keeping->jobs[link->place - OWNER_PLACE];

    if (link->number != detached->asks_on) {
        message_free(&message);
        return;
    }
    if (!message) {
        detached->asks_on = 0;
        dial_in(sim, detached, sim_dice(sim, 200000));
        return;
    }
    sim_trace_message(sim, "  K>O", message);
    if (message->kind == MSG_WELCOME)
        ask_in(sim, detached, sim_dice(sim, 1000));
    else if (message->kind != MSG_HEARTBEAT)
        take(sim, detached, message);
    message_free(&message);
}

/* ------------------------------------------------------------------------- its life */

void sim_owner_start(struct sim *sim, struct detached *detached, uint64_t in_us)
{
    dial_in(sim, detached, in_us);
}

void sim_owner_leave(struct sim *sim, struct detached *detached)
{
    struct link *link = sim_link_find(sim, detached->asks_on);

    if (detached->stage == OWNER_OVER)
        return;
    if (link) {
        link->lanes[TO_PEER].open = false;
        sim_link_cut(sim, link, sim_chance(sim, 4));
    }
    detached->asks_on = 0;
    detached->stage = OWNER_WATCHES;
    detached->collected = 0;
    memset(detached->told, 0, detached->app->jobs[0].count);
    dial_in(sim, detached, sim_between(sim, 1000, 3000000));
}

void sim_owner_fini(struct detached *detached)
{
    message_free(&detached->fetch);
    free(detached->told);
}
