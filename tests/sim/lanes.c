/* SPDX-License-Identifier: Apache-2.0
 *
 * lanes.c: lanes in the virtual network: an app dials a node that it was introduced to,
 * and gets a link (network.c) that has the same faults as any other. What was on a lane
 * when its worker went is a doubt that no LOST tells of. */
#include "sim.h"

#include <stdio.h>
#include <string.h>

void sim_lane_address(const struct node *node, int place, char *text, size_t size)
{
    snprintf(text, size, "sim://%d/%llu", place,
             (unsigned long long)node->actor.incarnation);
}

static struct link *find(struct sim *sim, const struct app *app, uint64_t lane)
{
    for (uint64_t i = 1; i <= sim->links.count; i++) {
        struct link *link = sim_link_find(sim, i);

        if (link->direct && link->app == sim_app_place(sim, app) &&
            link->incarnation == app->actor.incarnation && link->lane == lane)
            return link;
    }
    return NULL;
}

static void connect(struct sim *sim, uint64_t place, uint64_t incarnation, uint64_t lane)
{
    struct app *app = &sim->apps[place];

    if (!app->actor.alive || app->actor.incarnation != incarnation)
        return;
    for (int i = 0; i < app->dials_count; i++) {
        struct sim_dial *dial = &app->dials[i];
        struct node *node = &sim->nodes[dial->node];

        if (dial->lane != lane)
            continue;
        if (!dial->over && node->actor.alive &&
            node->actor.incarnation == dial->incarnation)
            sim_link_direct(sim, dial->node, (int)place, lane);
        *dial = app->dials[--app->dials_count];
        return;
    }
}

void sim_lane_dial(struct sim *sim, struct app *app, const struct client_effect *effect)
{
    unsigned long long incarnation;
    int node;

    if (sscanf(effect->text, "sim://%d/%llu", &node, &incarnation) != 2)
        sim_fail(sim, "an address that nobody told: %s", effect->text);
    if (app->dials_count == SIM_DIALS_MAX)
        return;
    app->dials[app->dials_count++] =
        (struct sim_dial){.lane = effect->lane, .node = node, .incarnation = incarnation};
    sim_at(
        sim, sim->now_us + sim_between(sim, 1000, sim_chance(sim, 8) ? 6000000 : 50000),
        connect, (uint64_t)sim_app_place(sim, app), app->actor.incarnation, effect->lane);
}

void sim_lane_hang_up(struct sim *sim, struct app *app, uint64_t lane)
{
    const struct link *link = find(sim, app, lane);

    for (int i = 0; i < app->dials_count; i++)
        if (app->dials[i].lane == lane)
            app->dials[i].over = true;
    if (link)
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

void sim_lane_send(struct sim *sim, struct app *app, uint64_t lane,
                   struct message **message)
{
    struct link *link = find(sim, app, lane);
    char who[40];

    if (!link) {
        message_free(message);
        return;
    }
    snprintf(who, sizeof who, "C%d>W%d (%llu)", link->app, link->place,
             (unsigned long long)link->number);
    sim_trace_message(sim, who, *message);
    if ((*message)->kind == MSG_TASKS) {
        note_tasks(app, link, *message);
        sim_promise_given(sim, link->place, *message);
    }
    sim_link_send(sim, link->number, TO_COORDINATOR, message);
}

/* Every task that went on a lane to a worker which is gone is in doubt, told or not. */
void sim_lane_told(struct sim *sim, struct app *app, const struct app_item *item)
{
    (void)sim;
    if (item->event.kind != CLIENT_MESSAGE || item->event.message->kind != MSG_WITHDRAW)
        return;
    for (int i = 0; i < app->jobs_count; i++)
        for (uint64_t k = 0; app->jobs[i].tasks && k < app->jobs[i].count; k++) {
            struct task *task = &app->jobs[i].tasks[k];

            if (!task->lane || task->end)
                continue;
            task->doubts++;
        }
}

void sim_lanes_end(struct sim *sim, bool node, int place)
{
    for (uint64_t i = 1; i <= sim->links.count; i++) {
        struct link *link = sim_link_find(sim, i);

        if (!link->direct || (node ? link->place : link->app) != place)
            continue;
        link->lanes[node ? TO_COORDINATOR : TO_PEER].open = false;
        if (link->lanes[node ? TO_PEER : TO_COORDINATOR].open)
            sim_link_cut(sim, link, sim_chance(sim, 4));
    }
}
