/* SPDX-License-Identifier: Apache-2.0
 *
 * app.c: a virtual client program: its core, its link, and what it asks for. A nested
 * one is the same, attached to the pool that its task runs in, with one small job. What
 * results are right is job.c's. */
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

static void wake(struct sim *sim, struct app *app, uint64_t at_us)
{
    sim_wake(sim, &app->actor, at_us, look, (uint64_t)sim_app_place(sim, app));
}

static void push(struct sim *sim, struct app *app, const struct app_item *item)
{
    sim_queue_push(&app->inbox, item, sizeof *item);
    wake(sim, app, sim->now_us + sim_dice(sim, 300));
}

void sim_app_push(struct sim *sim, struct app *app, enum client_event_kind kind, int job,
              uint64_t link, struct message *message)
{
    struct app_item item = {.event = {.kind = kind, .message = message, .text = "cut"},
                            .link = link, .job = job};

    push(sim, app, &item);
}

void sim_app_push_cancel(struct sim *sim, struct app *app, int job, uint64_t first,
                     uint64_t count, bool kill)
{
    struct app_item item = {.event = {.kind = CLIENT_JOB_CANCEL, .first = first,
                                      .count = count, .kill = kill}, .job = job};

    push(sim, app, &item);
}

void sim_app_push_consumed(struct sim *sim, struct app *app, int job, uint64_t count,
                       uint64_t bytes)
{
    struct app_item item = {.event = {.kind = CLIENT_JOB_CONSUMED, .count = count,
                                      .bytes = bytes}, .job = job};

    push(sim, app, &item);
}

void sim_app_push_input(struct sim *sim, struct app *app, int job, uint64_t first,
                    uint64_t count)
{
    struct app_item item = {.event = {.kind = CLIENT_JOB_INPUT, .first = first,
                                      .count = count}, .job = job};

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
    app->config.job_tag = sim->next_tag++;
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

void sim_app_start(struct sim *sim, int place)
{
    struct app *app = &sim->apps[place];

    prepare(sim, app);
    app->open = message_create(MSG_POOL_OPEN);
    app->config.pool = app->open->pool_open.pool = sim_id(sim);
    app->config.open = app->open;
    snprintf(app->open->pool_open.name, sizeof app->open->pool_open.name, "p%d", place);
    snprintf(app->open->pool_open.machine, sizeof app->open->pool_open.machine, "x86_64");
    if (sim_chance(sim, 3))
        app->open->pool_open.processes = (uint32_t)sim_between(sim, 1, 6);
    if (sim_chance(sim, 4))
        app->open->pool_open.tasks_per_process = sim_between(sim, 1, 20);
    if (sim_chance(sim, 3))
        snprintf(app->open->pool_open.initializer, FUNCTION_NAME_MAX, "init%d", place);
    app->initializer_fails = sim->plan.initializer_fails &&
                             app->open->pool_open.initializer[0] && sim_chance(sim, 2);
    sim_program_fill(sim, app);
    app->jobs_count = (int)sim_between(sim, 1, 3);
    sim_trace(sim, "C%d starts%s", place,
              app->initializer_fails ? ", its initializer fails" : "");
    begin(sim, app);
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

static void stop(struct app *app)
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
    if (link) {
        link->lanes[TO_PEER].open = false;
        sim_link_cut(sim, link, sim_chance(sim, 4));
    }
    stop(app);
}

/* ---------------------------------------------------------------- its core */

static void prepare_event(struct app *app, struct app_item *item)
{
    struct client_event *event = &item->event;
    struct job *job = item->job >= 0 ? &app->jobs[item->job] : NULL;

    if (!job)
        return;
    event->job = job->number;
    if (event->kind == CLIENT_JOB_OPEN)
        event->options = &job->options;
    if (event->kind == CLIENT_JOB_INPUT)
        sim_job_make_input(job, event->first, (uint32_t)event->count, &event->span);
    if (event->kind == CLIENT_JOB_FREE)
        job->freed = true;
    if (event->kind == CLIENT_JOB_CONSUMED) {
        job->read_told += event->count;
        job->output_bytes -= event->bytes;
    }
    for (uint64_t i = event->first;
         event->kind == CLIENT_JOB_CANCEL && i < event->first + event->count; i++)
        job->tasks[i].cancelled = true;
}

/* Whether the core has told (perhaps only just) that it forgot the job. */
static bool is_forgotten(const struct app *app, const struct job *job)
{
    for (size_t i = 0; i < app->effects.count; i++)
        if (app->effects.items[i].kind == CLIENT_JOB_ENDED &&
            app->effects.items[i].job == job->number)
            return true;
    return job->ended || job->freed || job->refused;
}

/* Whether the core has just told that the pool failed. */
static bool has_failed(const struct app *app)
{
    for (size_t i = 0; i < app->effects.count; i++)
        if (app->effects.items[i].kind == CLIENT_POOL_FAILED)
            return true;
    return false;
}

static void judge(struct sim *sim, struct app *app, const struct app_item *item,
                  int result)
{
    struct job *job = item->job >= 0 ? &app->jobs[item->job] : NULL;

    if (item->event.kind == CLIENT_JOB_OPEN && result == FARPOOL_ECLOSED) {
        if (!app->closing && !app->terminated && !app->failed && !has_failed(app))
            sim_fail(sim, "C%d may not open a job on an open pool", sim_app_place(sim, app));
        job->refused = true;
    } else if (result == FARPOOL_EINVAL && job) {
        if (!is_forgotten(app, job))
            sim_fail(sim, "C%d: job %d is not known", sim_app_place(sim, app), item->job);
    } else if (result != 0) {
        sim_fail(sim, "client_core_step: %d", result);
    } else if (item->event.kind == CLIENT_JOB_FREE) {
        sim_window_job_freed(sim, app, job);
    } else if (item->event.kind == CLIENT_JOB_OPEN) {
        job->opened = true;
        job->number = item->event.job;
        sim_job_pull(sim, app, item->job);
    }
}

static void step(struct sim *sim, struct app *app, struct app_item *item)
{
    bool armed;
    int result;

    prepare_event(app, item);
    item->event.now_ms = sim_now_ms(sim);
    do {
        size_t before = app->effects.count;

        armed = sim_step_begin(sim);
        result = client_core_step(app->core, &item->event, &app->effects);
        client_core_check(app->core);
        if (result != 0 && app->effects.count != before)
            sim_fail(sim, "client_core_step left effects of a failed step");
    } while (sim_step_again(sim, armed, result));
    if (item->event.kind == CLIENT_JOB_INPUT)
        span_fini(&item->event.span);
    message_free(&item->event.message);
    judge(sim, app, item, result);
}

static void relink(struct sim *sim, struct app *app, const struct client_effect *effect)
{
    sim_trace(sim, "C%d dials again: %d %s", sim_app_place(sim, app), effect->code,
              effect->text);
    if (effect->code == FARPOOL_EPROTOCOL)
        sim_fail(sim, "C%d leaves an honest coordinator: %s", sim_app_place(sim, app),
                 effect->text);
    sim_link_close(sim, app->link, TO_COORDINATOR);
    app->link = 0;
    sim_link_dial(sim, false, sim_app_place(sim, app));
}

static void send(struct sim *sim, struct app *app, struct message **message)
{
    char who[24];

    snprintf(who, sizeof who, "C%d>K", sim_app_place(sim, app));
    sim_trace_message(sim, who, *message);
    if (app->link) {
        sim_window_sent(sim, app, *message);
        sim_link_send(sim, app->link, TO_COORDINATOR, message);
    } else {
        message_free(message);
    }
}

static bool may_fail(const struct sim *sim, const struct app *app, int code)
{
    if (app->config.attach)
        return true; /* the pool it attached to may have ended */
    if (code == FARPOOL_EINITIALIZER)
        return app->initializer_fails;
    return sim->plan.programs_fail || sim->starts_failed;
}

static void take_failure(struct sim *sim, struct app *app,
                         const struct client_effect *effect)
{
    sim_trace(sim, "C%d: the pool failed: %d %s", sim_app_place(sim, app), effect->code,
              effect->text);
    if (app->failed || !may_fail(sim, app, effect->code))
        sim_fail(sim, "C%d's pool failed without cause: %d %s", sim_app_place(sim, app),
                 effect->code, effect->text);
    app->failed = true;
    app->failed_code = effect->code;
}

/* The pool has ended as asked: the program ends too. */
static void finish(struct sim *sim, struct app *app)
{
    sim_trace(sim, "C%d has ended", sim_app_place(sim, app));
    app->pool_ended = true;
    sim_job_check_finished(sim, app);
    sim_link_close(sim, app->link, TO_COORDINATOR);
    stop(app);
    if (app->node >= 0)
        sim_process_unblock(sim, app);
}

static bool carry_out(struct sim *sim, struct app *app, struct client_effect *effect)
{
    switch (effect->kind) {
    case CLIENT_SEND:
        send(sim, app, &effect->message);
        break;
    case CLIENT_RELINK:
        relink(sim, app, effect);
        break;
    case CLIENT_READY:
        app->ready = true;
        break;
    case CLIENT_INPUT_WANTED:
        sim_job_want_input(sim, app, effect);
        break;
    case CLIENT_DONE:
        sim_job_take_done(sim, app, effect);
        break;
    case CLIENT_FAILED:
        sim_job_take_failed(sim, app, effect);
        break;
    case CLIENT_JOB_ENDED:
        sim_job_take_ended(sim, app, effect->job);
        break;
    case CLIENT_POOL_FAILED:
        take_failure(sim, app, effect);
        break;
    case CLIENT_WARNING:
        sim_trace(sim, "C%d: warning: %s", sim_app_place(sim, app), effect->text);
        break;
    case CLIENT_READ_FILE:
        sim_program_answer_read(sim, app, effect);
        break;
    case CLIENT_POOL_ENDED:
        finish(sim, app);
        return false;
    }
    return true;
}

/* ----------------------------------------------------------------- batches */

static bool is_present(struct sim *sim, struct app *app, const struct app_item *item)
{
    if (item->link == 0)
        return true;
    if (item->link != app->link)
        return false;
    if (item->event.kind == CLIENT_LINK_DOWN) {
        app->link = 0;
        sim_link_dial(sim, false, sim_app_place(sim, app));
    }
    if (item->event.kind == CLIENT_LINK_UP)
        sim_window_reset(app);
    if (item->event.kind == CLIENT_MESSAGE)
        sim_window_received(sim, app, item->event.message);
    return true;
}

static void print_arrival(struct sim *sim, const struct app *app,
                          const struct app_item *item)
{
    static const char *const names[] = {
        "link up", "link down", "message", "job open", "job input", "job input end",
        "job consumed", "job cancel", "job free", "close", "terminate", "flush"};
    char who[24];

    if (!sim_tracing(sim))
        return;
    snprintf(who, sizeof who, "  K>C%d", sim_app_place(sim, app));
    if (item->event.message)
        sim_trace_message(sim, who, item->event.message);
    else
        sim_trace(sim, "  C%d: %s job=%d first=%llu count=%llu", sim_app_place(sim, app),
                  names[item->event.kind], item->job,
                  (unsigned long long)item->event.first,
                  (unsigned long long)item->event.count);
}

/* An event for a job that was never opened, or refused, has nobody to go to. */
static bool is_for_nobody(const struct app *app, const struct app_item *item)
{
    return item->job >= 0 && item->event.kind != CLIENT_JOB_OPEN &&
           !app->jobs[item->job].opened;
}

/* Once its jobs have ended a nested client closes; others when the world settles. */
static void close_if_over(struct sim *sim, struct app *app)
{
    if (app->closing || app->terminated || (app->node < 0 && !sim->settled))
        return;
    for (int i = 0; i < app->jobs_count; i++)
        if (!app->jobs[i].used || !(app->jobs[i].ended || app->jobs[i].freed ||
                                    app->jobs[i].refused))
            return;
    app->closing = true;
    sim_app_push(sim, app, CLIENT_CLOSE, -1, 0, NULL);
}

void sim_app_look(struct sim *sim, struct app *app)
{
    struct app_item item;

    while (sim_queue_pop(&app->inbox, &item)) {
        if (!is_present(sim, app, &item) || is_for_nobody(app, &item)) {
            message_free(&item.event.message);
            continue;
        }
        print_arrival(sim, app, &item);
        step(sim, app, &item);
    }
    item = (struct app_item){.event = {.kind = CLIENT_FLUSH}, .job = -1};
    step(sim, app, &item);
    for (size_t i = 0; i < app->effects.count; i++)
        if (!carry_out(sim, app, &app->effects.items[i]))
            return;
    client_effects_clear(&app->effects);
    close_if_over(sim, app);
    uint64_t deadline_ms = client_core_deadline(app->core);
    if (deadline_ms != UINT64_MAX)
        wake(sim, app,
             deadline_ms <= sim_now_ms(sim) ? sim->now_us + 1 : deadline_ms * 1000);
}
