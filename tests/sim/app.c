/* SPDX-License-Identifier: Apache-2.0
 *
 * app.c: a virtual client program: when it starts, what it asks for, how it is killed. A
 * nested one is the same, attached to the pool that its task runs in, with one small job.
 * Its core and its link are client.c's. */
#include "sim.h"

#include <stdio.h>
#include <string.h>

int sim_app_place(const struct sim *sim, const struct app *app)
{
    return (int)(app - sim->apps);
}

struct app *sim_app_of_pool(struct sim *sim, const struct id *pool)
{
    for (int i = 0; i < APPS_MAX; i++)
        if (sim->apps[i].open && id_equal(&sim->apps[i].config.pool, pool))
            return &sim->apps[i];
    return NULL;
}

struct job *sim_app_job(struct app *app, uint64_t number)
{
    for (int i = 0; i < app->jobs_count; i++)
        if (app->jobs[i].opened && app->jobs[i].number == number)
            return &app->jobs[i];
    return NULL;
}

static void look(struct sim *sim, uint64_t place, uint64_t incarnation, uint64_t at_us)
{
    struct actor *actor = &sim->apps[place].actor;

    if (!actor->alive || actor->incarnation != incarnation || actor->wake_at_us != at_us)
        return;
    actor->wake_at_us = UINT64_MAX;
    if (sim->now_us < actor->paused_until_us)
        sim_wake(sim, actor, actor->paused_until_us, look, place);
    else
        sim_app_look(sim, &sim->apps[place]);
}

void sim_app_wake(struct sim *sim, struct app *app, uint64_t at_us)
{
    sim_wake(sim, &app->actor, at_us, look, (uint64_t)sim_app_place(sim, app));
}

static void push(struct sim *sim, struct app *app, const struct app_item *item)
{
    sim_queue_push(&app->inbox, item, sizeof *item);
    sim_app_wake(sim, app, sim->now_us + sim_dice(sim, 300));
}

void sim_app_push(struct sim *sim, struct app *app, enum client_event_kind kind, int job,
                  uint64_t link, struct message *message)
{
    struct app_item item = {.event = {.kind = kind,
                                      .message = message,
                                      .code = kind == CLIENT_FAIL ? FARPOOL_ENOMEM : 0,
                                      .text = "cut"},
                            .link = link,
                            .job = job};

    push(sim, app, &item);
}

void sim_app_push_lane(struct sim *sim, struct app *app, enum client_event_kind kind,
                       uint64_t lane, struct message *message)
{
    struct app_item item = {
        .event = {.kind = kind, .message = message, .lane = lane, .text = "cut"},
        .job = -1};

    push(sim, app, &item);
}

void sim_app_push_cancel(struct sim *sim, struct app *app, int job, uint64_t first,
                         uint64_t count, bool kill)
{
    struct app_item item = {.event = {.kind = CLIENT_JOB_CANCEL,
                                      .first = first,
                                      .count = count,
                                      .kill = kill},
                            .job = job};

    push(sim, app, &item);
}

void sim_app_push_consumed(struct sim *sim, struct app *app, int job, uint64_t count,
                           uint64_t bytes)
{
    struct app_item item = {
        .event = {.kind = CLIENT_JOB_CONSUMED, .count = count, .bytes = bytes},
        .job = job};

    push(sim, app, &item);
}

void sim_app_push_input(struct sim *sim, struct app *app, int job, uint64_t first,
                        uint64_t count)
{
    struct app_item item = {
        .event = {.kind = CLIENT_JOB_INPUT, .first = first, .count = count}, .job = job};

    push(sim, app, &item);
}

/* ---------------------------------------------------------------- its life */

static void open_job(struct sim *sim, uint64_t place, uint64_t job, uint64_t unused)
{
    struct app *app = &sim->apps[place];

    (void)unused;
    if (app->actor.alive && !app->jobs[job].used) {
        sim_job_fill(sim, app, (int)job);
        sim_app_push(sim, app, CLIENT_JOB_OPEN, (int)job, 0, NULL);
    }
}

static void prepare(struct sim *sim, struct app *app)
{
    app->actor = (struct actor){true, app->actor.incarnation + 1, 0, UINT64_MAX};
    app->config.client = sim_id(sim);
    app->dials.count = 0;
    app->config.job_tag = sim->next_tag++;
    app->config.ack_wait_ms = (uint32_t)sim_dice(sim, 3) * 60;
    app->config.pid = app->config.job_tag;
    snprintf(app->config.host, sizeof app->config.host, "host");
    app->node = -1;
    app->tasks_max = app->bytes_max = UINT64_MAX;
}

static void begin(struct sim *sim, struct app *app)
{
    if (client_core_create(&app->config, sim_now_ms(sim), &app->core) != 0)
        sim_fail(sim, "client_core_create");
    sim_link_dial(sim, false, sim_app_place(sim, app));
}

void sim_app_open(struct sim *sim, struct app *app)
{
    const int place = sim_app_place(sim, app);

    app->open = message_create(MSG_POOL_OPEN);
    sim_keys_name_pool(sim, app);
    app->config.open = app->open;
    app->config.lanes = sim->plan.lanes;
    snprintf(app->open->pool_open.name, sizeof app->open->pool_open.name, "p%d", place);
    snprintf(app->open->pool_open.machine, sizeof app->open->pool_open.machine, "x86_64");
    if (sim_chance(sim, 3))
        app->open->pool_open.processes = (uint32_t)sim_between(sim, 1, 6);
    if (sim_chance(sim, 4))
        app->open->pool_open.tasks_per_process = sim_between(sim, 1, 20);
    if (sim_chance(sim, 3))
        snprintf(app->open->pool_open.initializer, FUNCTION_NAME_MAX, "init%d", place);
    app->open->pool_open.output = !sim_chance(sim, 3);
    app->initializer_fails = sim->plan.initializer_fails &&
                             app->open->pool_open.initializer[0] && sim_chance(sim, 2);
    sim_program_fill(sim, app);
}

void sim_app_start(struct sim *sim, int place)
{
    struct app *app = &sim->apps[place];

    prepare(sim, app);
    sim_app_open(sim, app);
    app->shared_count = 0;
    app->jobs_count = (int)sim_between(sim, 1, 3);
    sim_trace(sim, "C%d starts%s", place,
              app->initializer_fails ? ", its initializer fails" : "");
    begin(sim, app);
    sim_shared_plan(sim, app);
    for (int i = 0; i < app->jobs_count; i++)
        sim_at(sim, sim->now_us + sim_dice(sim, sim_chance(sim, 2) ? 3000000 : 1),
               open_job, (uint64_t)place, (uint64_t)i, 0);
}

int sim_app_start_nested(struct sim *sim, struct node *node, struct process *process)
{
    int place = APPS_TOP;

    while (place < APPS_MAX && (sim->apps[place].core || sim->apps[place].jobs_count))
        place++;
    if (place == APPS_MAX)
        return -1;
    struct app *app = &sim->apps[place];
    prepare(sim, app);
    app->config.attach = true;
    app->config.pool = process->pool;
    app->node = sim_node_place(sim, node);
    app->node_incarnation = node->actor.incarnation;
    app->process = process->number;
    app->jobs_count = 1;
    sim_trace(sim, "C%d starts inside process %llu of W%d", place,
              (unsigned long long)process->number, app->node);
    begin(sim, app);
    open_job(sim, (uint64_t)place, 0, 0);
    return place;
}

void sim_app_stop(struct app *app)
{
    struct app_item item;

    app->actor.alive = false;
    while (sim_queue_pop(&app->inbox, &item))
        message_free(&item.event.message);
    sim_queue_fini(&app->inbox);
    client_core_destroy(app->core);
    app->core = NULL;
    client_effects_fini(&app->effects);
    memset(&app->effects, 0, sizeof app->effects);
}

void sim_app_kill(struct sim *sim, int place)
{
    struct app *app = &sim->apps[place];
    struct link *link = sim_link_find(sim, app->link);

    sim_trace(sim, "C%d is killed", place);
    sim_lanes_end(sim, false, place);
    if (link) {
        link->lanes[TO_PEER].open = false;
        sim_link_cut(sim, link, sim_chance(sim, 4));
    }
    sim_app_stop(app);
}
