/* SPDX-License-Identifier: Apache-2.0
 *
 * keeper.c: the coordinator's keeper of detached jobs, as detached/detached.c has it: the
 * project's own service on a thread, a queue each way, and a disk, for which a turn takes
 * its time. All of it dies with the coordinator, but for what the disk has: between any
 * two turns, in the middle of one at each call of the store (what that had others do is
 * gone then), and while the disk is at it.
 *
 * What a client inside says is checked against the disk: it sends no task that has a
 * result there, or that it is not there to have been sent, with the attempt that is
 * there, ACKs no result that is not there, and has the pool and the job of its former
 * lives. */
#include "../unit/store_memory.h"
#include "common/sys/sys.h"
#include "detached.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The service's own; here a pool's id is what keys.c makes it. */
void sys_pool_id(const struct hash *key, const struct id *seed, struct id *ret_pool)
{
    sim_keys_pool_id(key, seed, ret_pool);
}

static uint64_t wall_ms(void)
{
    return 1;
}

/* ------------------------------------------------------------------ what it was told */

static struct detached *find_inner(struct sim *sim, uint64_t inner)
{
    for (int i = 0; i < sim->keeping->count; i++)
        if (inner != 0 && sim->keeping->jobs[i].inner == inner)
            return &sim->keeping->jobs[i];
    return NULL;
}

static void note_report(struct detached *detached, const struct report *report)
{
    struct report mine = *report;
    const struct task *task = &detached->app->jobs[0].tasks[mine.first];

    mine.live = task->sent == mine.attempt;
    sim_queue_push(&detached->reports, &mine, sizeof mine);
}

static void note_reports(struct detached *detached, const struct message *message)
{
    struct report report = {.count = 1};

    if (message->kind == MSG_DONE)
        for (uint32_t i = 0; i < message->done.results_count; i++) {
            const struct msg_done *done = &message->done.results[i];

            report = (struct report){message->done.worker, done->seq,     done->first,
                                     done->count,          done->attempt, false};
            note_report(detached, &report);
        }
    if (message->kind == MSG_FAILED)
        for (uint32_t i = 0; i < message->failed.results_count; i++) {
            const struct msg_failed *failed = &message->failed.results[i];

            report =
                (struct report){message->failed.worker, failed->seq, failed->index, 1,
                                failed->attempt,        false};
            note_report(detached, &report);
        }
}

/* What the client inside takes now. */
static void note(struct sim *sim, const struct service_in *in)
{
    struct detached *detached =
        in->kind == SERVICE_REQUEST ? NULL : find_inner(sim, in->link);

    if (!detached)
        return;
    if (in->kind == SERVICE_INNER_DOWN) {
        detached->inner = detached->link = 0;
        return;
    }
    sim_trace_message(sim, "  K>inner", in->message);
    if (in->message->kind == MSG_CANCEL_JOB)
        detached->app->jobs[0].stopped = true;
    note_reports(detached, in->message);
    sim_window_received(sim, detached->app, in->message);
}

/* --------------------------------------------------------------- what it has others do
 */

static const struct id *id_of(const struct detached *detached)
{
    return &detached->submit->submit.submit;
}

static void check_tasks(struct sim *sim, const struct detached *detached,
                        const struct msg_span *span)
{
    const struct store_job *about = memory_store_job(id_of(detached));

    for (uint64_t i = span->first; i < span->first + span->count; i++)
        if (!about || i >= about->given || memory_store_has_result(id_of(detached), i) ||
            memory_store_attempt(id_of(detached), i) != span->attempt)
            sim_fail(
                sim,
                "task %llu of a detached job is sent as attempt %u, and the disk has "
                "%s, attempt %u",
                (unsigned long long)i, span->attempt,
                !about              ? "no job"
                : i >= about->given ? "not noted it"
                                    : "perhaps a result",
                memory_store_attempt(id_of(detached), i));
}

static void check_report(struct sim *sim, const struct detached *detached,
                         const struct report *report)
{
    const struct store_job *about = memory_store_job(id_of(detached));
    const bool over = !about || about->state > STORE_OPEN;

    for (uint64_t i = report->first; i < report->first + report->count; i++)
        if (report->live && !over && !memory_store_has_result(id_of(detached), i) &&
            memory_store_attempt(id_of(detached), i) <= report->attempt)
            sim_fail(sim,
                     "the result of task %llu of a detached job is ACKed, and is "
                     "not on the disk",
                     (unsigned long long)i);
}

static void check_ack(struct sim *sim, struct detached *detached,
                      const struct message *ack)
{
    for (uint32_t i = 0; i < ack->ack.results_count; i++)
        for (size_t k = detached->reports.count; k-- > 0;) {
            const struct report *report = sim_queue_at(&detached->reports, k);

            if (!id_equal(&report->worker, &ack->ack.worker) ||
                report->seq - ack->ack.results[i].first >= ack->ack.results[i].count)
                continue;
            check_report(sim, detached, report);
            sim_queue_remove(&detached->reports, k);
        }
}

/* The pool and the job are those of its former lives. */
static void check_names(struct sim *sim, struct app *app, const struct message *message)
{
    static const struct id none;
    struct job *job = &app->jobs[0];

    if (message->kind == MSG_POOL_OPEN) {
        if (!id_equal(&app->config.pool, &none) &&
            !id_equal(&app->config.pool, &message->pool_open.pool))
            sim_fail(sim, "a detached job has another pool than in its former life");
        app->config.pool = message->pool_open.pool;
    }
    if (message->kind == MSG_JOB_OPEN) {
        if (job->opened && job->number != message->job_open.job)
            sim_fail(sim, "a detached job has another number than in its former life");
        job->number = message->job_open.job;
        job->opened = true;
    }
}

/* Of a once-job what is below `given` and was not sent again did not fit into the window:
 * it ends as lost, since it may have run. */
static void note_left_out(struct detached *detached)
{
    struct job *job = &detached->app->jobs[0];
    const struct store_job *about = memory_store_job(id_of(detached));

    for (uint64_t i = 0; job->options.losses_max == 1 && about && i < about->given; i++)
        job->tasks[i].losts += !job->tasks[i].sent;
}

/* The first word on a new link, by which it is known whose it is. */
static struct detached *begin_inner(struct sim *sim, const struct service_out *out)
{
    for (int i = 0; i < sim->keeping->count; i++) {
        struct detached *detached = &sim->keeping->jobs[i];
        const char *host = out->message->hello_client.host;

        if (strcmp(strchr(host, ':') + 1, detached->submit->submit.name) != 0)
            continue;
        detached->inner = out->link;
        detached->link = sim_link_outsider(sim, sim_app_place(sim, detached->app));
        sim_queue_fini(&detached->reports);
        sim_window_reset(detached->app);
        return detached;
    }
    sim_fail(sim, "the client of no detached job says hello");
}

static void say(struct sim *sim, struct service_out *out)
{
    struct detached *detached = out->message->kind == MSG_HELLO_CLIENT
                                    ? begin_inner(sim, out)
                                    : find_inner(sim, out->link);
    const struct message *message = out->message;

    if (!detached)
        return;
    const struct link *link = sim_link_find(sim, detached->link);
    const struct holder holder = sim_keys_holder(sim, link);
    sim_trace_message(sim, "inner>K", message);
    if (!message_allowed(message->kind, 'C', 'K') || !holder_equal(&holder, &out->holder))
        sim_fail(sim, "a detached job's client says %s, or has not its owner's key",
                 message_name(message->kind));
    check_names(sim, detached->app, message);
    for (uint32_t i = 0; message->kind == MSG_TASKS && i < message->tasks.spans_count;
         i++)
        check_tasks(sim, detached, &message->tasks.spans[i]);
    if (message->kind == MSG_ACK)
        check_ack(sim, detached, message);
    sim_window_sent(sim, detached->app, message);
    if (message->kind == MSG_RESUMED)
        note_left_out(detached);
    sim_coordinator_push(sim, detached->link, out->message);
    out->message = NULL;
}

static void hang_up(struct sim *sim, uint64_t inner)
{
    struct detached *detached = find_inner(sim, inner);

    if (!detached)
        return;
    sim_coordinator_push(sim, detached->link, NULL);
    detached->inner = detached->link = 0;
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
        say(sim, out);
        break;
    case SERVICE_HANG_UP:
        hang_up(sim, out->link);
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
            sim->broke = memory_store_lose_result(id_of(&sim->keeping->jobs[i]));
}

static void take_all(struct sim *sim, struct keeper *keeper)
{
    struct service_in in;

    while (sim_queue_pop(&keeper->inbox, &in)) {
        note(sim, &in);
        const bool armed = sim_step_begin(sim);
        service_take(keeper->service, &in, sim_now_ms(sim));
        sim_step_again(sim, armed, 0);
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
