/* SPDX-License-Identifier: Apache-2.0
 *
 * inner.c: the client inside of each detached job, as the coordinator and its workers see
 * it: its link, and what is known of its tasks (window.c). What it says is checked
 * against the disk: it sends no task that has a result there, or that is not noted there
 * to have been sent, with the attempt that is there, ACKs no result that is not there,
 * and has the pool, the job and the key of its former lives. */
#include "detached.h"
#include "tests/unit/store_memory.h"

#include <string.h>

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

void sim_inner_note(struct sim *sim, const struct service_in *in)
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

static void check_tasks(struct sim *sim, const struct detached *detached,
                        const struct msg_span *span)
{
    const struct store_job *about = memory_store_job(detached_id(detached));

    for (uint64_t i = span->first; i < span->first + span->count; i++)
        if (!about || i >= about->given ||
            memory_store_has_result(detached_id(detached), i) ||
            memory_store_attempt(detached_id(detached), i) != span->attempt)
            sim_fail(
                sim,
                "task %llu of a detached job is sent as attempt %u, and the disk has "
                "%s, attempt %u",
                (unsigned long long)i, span->attempt,
                !about              ? "no job"
                : i >= about->given ? "not noted it"
                                    : "perhaps a result",
                memory_store_attempt(detached_id(detached), i));
}

static void check_report(struct sim *sim, const struct detached *detached,
                         const struct report *report)
{
    const struct store_job *about = memory_store_job(detached_id(detached));
    const bool over = !about || about->state > STORE_OPEN;

    for (uint64_t i = report->first; i < report->first + report->count; i++)
        if (report->live && !over && !memory_store_has_result(detached_id(detached), i) &&
            memory_store_attempt(detached_id(detached), i) <= report->attempt)
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
    const struct store_job *about = memory_store_job(detached_id(detached));

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

void sim_inner_say(struct sim *sim, struct service_out *out)
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

void sim_inner_hang_up(struct sim *sim, uint64_t inner)
{
    struct detached *detached = find_inner(sim, inner);

    if (!detached)
        return;
    sim_coordinator_push(sim, detached->link, NULL);
    detached->inner = detached->link = 0;
}
