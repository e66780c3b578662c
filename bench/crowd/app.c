/* SPDX-License-Identifier: Apache-2.0
 *
 * app.c: a client of a crowd: its real core, and jobs of equal tasks of eight bytes each.
 * What it counts is what the fairness of the cluster is judged by: tasks that ended, and
 * how long each job took from its opening to its end. */
#include "crowd.h"

#include "common/base/mem.h"
#include "common/base/span.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TASK_BYTES 8
#define INPUT_TASKS (UINT64_C(1) << 17) /* in one piece: a megabyte */

/* The pool's id tells whose it is. */
struct app *crowd_app_of(struct crowd *crowd, const struct id *pool)
{
    uint32_t place;
    memcpy(&place, pool->bytes, sizeof place);
    return &crowd->apps[place];
}

static struct crowd_job *find_job(struct app *app, uint64_t number)
{
    struct crowd_job *jobs = app->jobs.items;
    for (size_t i = 0; i < app->jobs.count; i++)
        if (jobs[i].number == number)
            return &jobs[i];
    return NULL;
}

/* -------------------------------------------------------------------- steps */

static void step(struct app *app, struct client_event *event)
{
    event->now_ms = crowd_now_ms(app->peer.crowd);
    const int result = client_core_step(app->core, event, &app->effects);
    if (result != 0)
        crowd_fail("client", farpool_error_name(result));
    message_free(&event->message);
}

static void feed(struct app *app, uint64_t job, uint64_t tasks)
{
    for (uint64_t first = 0; first < tasks; first += INPUT_TASKS) {
        const uint64_t count = tasks - first < INPUT_TASKS ? tasks - first : INPUT_TASKS;
        struct client_event input = {.kind = CLIENT_JOB_INPUT, .job = job};
        input.span.first = first;
        input.span.count = (uint32_t)count;
        input.span.data = crowd_need(payload_create(TASK_BYTES * count));
        memset(payload_bytes(input.span.data), 0, TASK_BYTES * count);
        step(app, &input);
        span_fini(&input.span);
    }
    struct client_event end = {.kind = CLIENT_JOB_INPUT_END, .job = job};
    step(app, &end);
}

void crowd_app_submit(struct app *app, uint64_t tasks)
{
    struct client_job_options options = {
        .chunk = app->chunk, .losses_max = 3, .tasks = tasks};
    struct client_event open = {.kind = CLIENT_JOB_OPEN, .options = &options};
    snprintf(options.function, sizeof options.function, "pass");
    step(app, &open);
    struct crowd_job *job = crowd_add(&app->jobs, sizeof *job);
    *job = (struct crowd_job){
        .number = open.job, .began_us = app->peer.crowd->now_us, .tasks = tasks};
    feed(app, open.job, tasks);
    crowd_wake(&app->peer, app->peer.crowd->now_us);
}

/* ------------------------------------------------------------------ effects */

static void end_job(struct app *app, uint64_t number)
{
    struct crowd_job *job = find_job(app, number), *jobs = app->jobs.items;
    if (job->done != job->tasks)
        crowd_fail("client", "a job ended with tasks that had not");
    if (app->timed) {
        uint64_t *time_us = crowd_add(&app->times, sizeof *time_us);
        *time_us = app->peer.crowd->now_us - job->began_us;
    }
    *job = jobs[--app->jobs.count];
    app->ended++;
    if (app->on_end != NULL)
        app->on_end(app);
}

static void carry_out(struct app *app, struct client_effect *effect)
{
    switch (effect->kind) {
    case CLIENT_SEND:
        crowd_peer_say(&app->peer, effect->message);
        effect->message = NULL;
        break;
    case CLIENT_READY:
        app->up = true;
        break;
    case CLIENT_DONE:
        app->done += effect->count;
        find_job(app, effect->job)->done += effect->count;
        break;
    case CLIENT_JOB_ENDED:
        end_job(app, effect->job);
        break;
    case CLIENT_RELINK:
    case CLIENT_FAILED:
    case CLIENT_POOL_FAILED:
    case CLIENT_WARNING:
        crowd_fail("a client", effect->text);
    default:
        break;
    }
}

/* What ends a job may submit the next one, whose effects come behind. */
void crowd_app_look(struct app *app)
{
    struct peer *peer = &app->peer;
    struct message **messages = peer->messages.items;
    for (size_t i = 0; i < peer->messages.count; i++) {
        struct client_event event = {.kind = CLIENT_MESSAGE, .message = messages[i]};
        step(app, &event);
    }
    peer->messages.count = 0;
    struct client_event flush = {.kind = CLIENT_FLUSH};
    step(app, &flush);
    for (size_t i = 0; i < app->effects.count; i++) {
        struct client_effect effect = app->effects.items[i];
        app->effects.items[i].message = NULL;
        carry_out(app, &effect);
    }
    client_effects_clear(&app->effects);
    const uint64_t deadline_ms = client_core_deadline(app->core);
    if (deadline_ms != UINT64_MAX)
        crowd_wake(peer, deadline_ms * 1000);
}

/* --------------------------------------------------------------------- start */

void crowd_app_up(struct app *app)
{
    struct client_event up = {.kind = CLIENT_LINK_UP};
    step(app, &up);
    crowd_wake(&app->peer, app->peer.crowd->now_us);
}

static struct message *make_open(struct crowd *crowd, uint32_t place)
{
    struct message *open = crowd_need(message_create(MSG_POOL_OPEN));
    open->pool_open.pool = crowd_id(crowd);
    memcpy(open->pool_open.pool.bytes, &place, sizeof place);
    open->pool_open.processes = crowd->options.app_processes;
    snprintf(open->pool_open.name, sizeof open->pool_open.name, "p%u", place);
    snprintf(open->pool_open.machine, sizeof open->pool_open.machine, "x86_64");
    open->pool_open.files = crowd_need(mem_alloc(sizeof *open->pool_open.files));
    open->pool_open.files_count = 1;
    snprintf(open->pool_open.files[0].name, sizeof open->pool_open.files[0].name, "pass");
    open->pool_open.files[0].size = 1;
    return open;
}

void crowd_app_start(struct crowd *crowd, struct app *app)
{
    const uint32_t place = app->peer.place - crowd->options.nodes;
    struct client_config config = {
        .client = crowd_id(crowd), .job_tag = place + 1, .pid = place + 1};
    app->open = config.open = make_open(crowd, place);
    config.pool = app->open->pool_open.pool;
    config.ack_wait_ms = 1000;
    snprintf(config.host, sizeof config.host, "crowd");
    if (client_core_create(&config, crowd_now_ms(crowd), &app->core) != 0)
        crowd_fail("client", "out of memory");
    if (crowd->wire == NULL)
        crowd_app_up(app);
}
