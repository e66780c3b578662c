/* SPDX-License-Identifier: Apache-2.0
 *
 * lanes.c: lanes in the virtual network: an app or a node dials a node that it was
 * introduced to, and gets a link (network.c) that has the same faults as any other. What
 * was on a lane when its worker went is a doubt that no LOST tells of. */
#include "sim.h"

#include <stdio.h>
#include <string.h>

void sim_lane_address(const struct node *node, int place, char *text, size_t size)
{
    snprintf(text, size, "sim://%d/%llu", place,
             (unsigned long long)node->actor.incarnation);
}

static struct actor *actor_of(struct sim *sim, bool worker, int place)
{
    return worker ? &sim->nodes[place].actor : &sim->apps[place].actor;
}

static struct dials *dials_of(struct sim *sim, bool worker, int place)
{
    return worker ? &sim->nodes[place].dials : &sim->apps[place].dials;
}

static struct link *find(struct sim *sim, bool worker, int place, uint64_t lane)
{
    const uint64_t incarnation = actor_of(sim, worker, place)->incarnation;

    for (uint64_t i = sim->links.count; i > 0; i--) {
        struct link *link = sim_link_find(sim, i);

        if (link->direct && link->worker == worker && link->place == place &&
            link->incarnation == incarnation && link->lane == lane)
            return link;
    }
    return NULL;
}

static void connect(struct sim *sim, uint64_t who, uint64_t incarnation, uint64_t lane)
{
    const bool worker = who % 2;
    const int place = (int)(who / 2);
    struct dials *dials = dials_of(sim, worker, place);
    const struct actor *dialer = actor_of(sim, worker, place);

    if (!dialer->alive || dialer->incarnation != incarnation)
        return;
    for (int i = 0; i < dials->count; i++) {
        const struct dial dial = dials->items[i];
        const struct actor *host = &sim->nodes[dial.host].actor;

        if (dial.lane != lane)
            continue;
        if (!dial.over && host->alive && host->incarnation == dial.incarnation)
            sim_link_direct(sim, worker, place, lane, dial.host);
        dials->items[i] = dials->items[--dials->count];
        return;
    }
}

void sim_lane_dial(struct sim *sim, bool worker, int place, uint64_t lane,
                   const char *address)
{
    struct dials *dials = dials_of(sim, worker, place);
    const uint64_t who = (uint64_t)place * 2 + worker;
    unsigned long long incarnation;
    int host;

    if (sscanf(address, "sim://%d/%llu", &host, &incarnation) != 2)
        sim_fail(sim, "an address that nobody told: %s", address);
    if (dials->count == DIALS_MAX)
        return;
    dials->items[dials->count++] =
        (struct dial){.lane = lane, .host = host, .incarnation = incarnation};
    sim_at(sim,
           sim->now_us + sim_between(sim, 1000, sim_chance(sim, 8) ? 6000000 : 50000),
           connect, who, actor_of(sim, worker, place)->incarnation, lane);
}

/* What went on a lane (0: on any) is tried again when that ends, or in doubt when its
 * worker is gone: told or not. */
static void add_causes(struct app *app, uint64_t link)
{
    for (int i = 0; i < app->jobs_count; i++)
        for (uint64_t k = 0; app->jobs[i].tasks && k < app->jobs[i].count; k++) {
            struct task *task = &app->jobs[i].tasks[k];

            if (task->lane && (!link || task->lane == link) && !task->end)
                task->doubts++;
        }
}

void sim_lane_hang_up(struct sim *sim, bool worker, int place, uint64_t lane)
{
    const struct link *link = find(sim, worker, place, lane);
    struct dials *dials = dials_of(sim, worker, place);

    for (int i = 0; i < dials->count; i++)
        if (dials->items[i].lane == lane)
            dials->items[i].over = true;
    if (!link)
        return;
    if (!worker)
        add_causes(&sim->apps[place], link->number);
    sim_link_close(sim, link->number, TO_COORDINATOR);
}

static void note_tasks(struct app *app, const struct link *link,
                       const struct message *message)
{
    struct job *job = sim_app_job(app, message->tasks.job);

    for (uint32_t i = 0; job && i < message->tasks.spans_count; i++)
        for (uint32_t k = 0; k < message->tasks.spans[i].count; k++) {
            struct task *task = &job->tasks[message->tasks.spans[i].first + k];

            task->lane = link->number;
            task->lane_attempt = message->tasks.spans[i].attempt;
        }
}

static void trace(struct sim *sim, const struct link *link, bool answer,
                  const struct message *message)
{
    char who[40];

    snprintf(who, sizeof who, "%c%d%cW%d (%llu)", link->worker ? 'W' : 'C', link->place,
             answer ? '<' : '>', link->host, (unsigned long long)link->number);
    sim_trace_message(sim, who, message);
}

void sim_lane_send(struct sim *sim, bool worker, int place, uint64_t lane,
                   struct message **message)
{
    const struct link *link = find(sim, worker, place, lane);

    if (!link) {
        message_free(message);
        return;
    }
    trace(sim, link, false, *message);
    if ((*message)->kind == MSG_TASKS) {
        note_tasks(&sim->apps[place], link, *message);
        sim_promise_given(sim, link->host, *message);
    }
    sim_link_send(sim, link->number, TO_COORDINATOR, message);
}

void sim_lane_answer(struct sim *sim, struct node *node, uint64_t number,
                     struct message **message)
{
    const struct link *link = sim_link_find(sim, number);

    if (!link || !link->direct || link->host != sim_node_place(sim, node))
        sim_fail(sim, "W%d speaks on a lane that it is not the host of",
                 sim_node_place(sim, node));
    trace(sim, link, true, *message);
    sim_link_send(sim, number, TO_PEER, message);
}

void sim_lane_told(struct sim *sim, struct app *app, const struct app_item *item)
{
    const struct client_event *event = &item->event;
    const struct link *link =
        event->lane ? find(sim, false, sim_app_place(sim, app), event->lane) : NULL;

    if (event->kind == CLIENT_MESSAGE && event->message->kind == MSG_WITHDRAW)
        add_causes(app, 0);
    if (event->kind == CLIENT_LINK_DOWN && link)
        add_causes(app, link->number);
}

static void end(struct sim *sim, struct link *link, int own, int other)
{
    link->lanes[own].open = false;
    if (link->lanes[other].open)
        sim_link_cut(sim, link, sim_chance(sim, 4));
}

void sim_lanes_end(struct sim *sim, bool worker, int place)
{
    for (uint64_t i = 1; i <= sim->links.count; i++) {
        struct link *link = sim_link_find(sim, i);

        if (!link->direct)
            continue;
        if (worker && link->host == place)
            end(sim, link, TO_COORDINATOR, TO_PEER);
        if (link->worker == worker && link->place == place)
            end(sim, link, TO_PEER, TO_COORDINATOR);
    }
}
