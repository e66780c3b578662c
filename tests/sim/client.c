/* SPDX-License-Identifier: Apache-2.0
 *
 * client.c: the shell around a virtual client's core: hands it what arrived and what the
 * program wants, batch by batch, and carries out what it decides. */
#include "sim.h"

#include <stdio.h>

static void prepare_event(struct app *app, struct app_item *item)
{
    struct client_event *event = &item->event;
    struct job *job = item->job >= 0 ? &app->jobs[item->job] : NULL;

    if (!job)
        return;
    event->job = job->number;
    if (event->kind == CLIENT_JOB_OPEN) {
        event->options = &job->options;
        job->shared = sim_shared_usable(app);
    }
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
    /* What ends with the pool, or by an operator, is told when there is memory for it. */
    struct client_job_counts counts;
    const bool untold =
        client_core_job_counts(app->core, job->number, &counts) && counts.input_ended;
    return job->ended || job->freed || job->refused || app->failed || untold;
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

    if (item->event.kind == CLIENT_SHARE || item->event.kind == CLIENT_UNSHARE) {
        sim_shared_stepped(sim, app, &item->event, result);
    } else if (item->event.kind == CLIENT_JOB_OPEN && result == FARPOOL_ECLOSED) {
        if (!app->closing && !app->terminated && !app->failed && !has_failed(app))
            sim_fail(sim, "C%d may not open a job on an open pool",
                     sim_app_place(sim, app));
        job->refused = true;
    } else if (result == FARPOOL_EINVAL && job) {
        if (!is_forgotten(app, job))
            sim_fail(sim, "C%d: job %d is not known", sim_app_place(sim, app), item->job);
    } else if (result != 0) {
        sim_fail(sim, "client_core_step: %d", result);
    } else if (item->event.kind == CLIENT_JOB_FREE) {
        sim_window_job_freed(app, job);
    } else if (item->event.kind == CLIENT_JOB_OPEN) {
        job->opened = true;
        job->number = item->event.job;
        sim_job_pull(sim, app, item->job);
    } else if (item->event.kind == CLIENT_JOB_INPUT) {
        job->fed = item->event.first + item->event.count;
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
    if (effect->code == FARPOOL_ENOCOORDINATOR)
        sim_promise_check_silence(sim, app->link, "a client");
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

bool sim_app_may_fail(const struct sim *sim, const struct app *app, int code)
{
    if (app->config.attach)
        return true; /* the pool it attached to may have ended */
    if (code == FARPOOL_ENOMEM && app->gives_up)
        return true;
    if (code == FARPOOL_EINITIALIZER)
        return app->initializer_fails;
    return sim->plan.programs_fail || sim->starts_failed;
}

static void take_failure(struct sim *sim, struct app *app,
                         const struct client_effect *effect)
{
    sim_trace(sim, "C%d: the pool failed: %d %s", sim_app_place(sim, app), effect->code,
              effect->text);
    if (app->failed || !sim_app_may_fail(sim, app, effect->code))
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
    sim_lanes_end(sim, false, sim_app_place(sim, app));
    sim_app_stop(app);
    if (app->node >= 0)
        sim_process_unblock(sim, app);
}

static bool carry_out(struct sim *sim, struct app *app, struct client_effect *effect)
{
    switch (effect->kind) {
    case CLIENT_SEND:
        if (effect->lane)
            sim_lane_send(sim, false, sim_app_place(sim, app), effect->lane,
                          &effect->message);
        else
            send(sim, app, &effect->message);
        break;
    case CLIENT_DIAL:
        sim_lane_dial(sim, false, sim_app_place(sim, app), effect->lane, effect->text);
        break;
    case CLIENT_HANG_UP:
        sim_trace(sim, "C%d hangs up lane %llu: %s", sim_app_place(sim, app),
                  (unsigned long long)effect->lane, effect->text);
        sim_lane_hang_up(sim, false, sim_app_place(sim, app), effect->lane);
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
    case CLIENT_AGAIN:
        break;
    case CLIENT_OUTPUT:
        sim_output_take(sim, app, effect->message);
        if (sim->options.broken == BREAK_REPEAT_OUTPUT)
            sim_output_take(sim, app, effect->message);
        break;
    case CLIENT_READ_FILE:
        if (!sim_shared_answer_read(sim, app, effect))
            sim_program_answer_read(sim, app, effect);
        break;
    case CLIENT_POOL_ENDED:
        finish(sim, app);
        return false;
    }
    return true;
}

/* ----------------------------------------------------------------- batches */

/* An operator's cancel may end what it names in the next batch. */
static void note_stopped(struct app *app, const struct message *message)
{
    for (int i = 0; message->kind == MSG_CANCEL_JOB && i < app->jobs_count; i++) {
        struct job *job = &app->jobs[i];
        const uint64_t number = message->cancel_job.job;

        if (job->opened && (number == 0 || job->number == number))
            job->stopped = true;
    }
}

static bool is_present(struct sim *sim, struct app *app, const struct app_item *item)
{
    if (item->event.lane && item->event.kind == CLIENT_MESSAGE)
        sim_window_received(sim, app, item->event.message);
    if (item->event.lane)
        sim_lane_told(sim, app, item);
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
    if (item->event.kind == CLIENT_MESSAGE) {
        note_stopped(app, item->event.message);
        sim_lane_told(sim, app, item);
        sim_window_received(sim, app, item->event.message);
    }
    return true;
}

static void print_arrival(struct sim *sim, const struct app *app,
                          const struct app_item *item)
{
    static const char *const names[] = {
        "link up",    "link down", "link refused", "message",       "job open",
        "job input",  "job skip",  "job again",    "job input end", "job consumed",
        "job cancel", "job free",  "share",        "unshare",       "close",
        "terminate",  "fail",      "flush"};
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
        if (!app->jobs[i].used ||
            !(app->jobs[i].ended || app->jobs[i].freed || app->jobs[i].refused))
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
        sim_app_wake(sim, app,
                     deadline_ms <= sim_now_ms(sim) ? sim->now_us + 1
                                                    : deadline_ms * 1000);
}
