/* SPDX-License-Identifier: Apache-2.0
 *
 * told.c: what the owner of a detached job is told, and what must hold from then on,
 * whatever happens to the coordinator: inputs that are there stay there, a job that was
 * accepted is there until it is forgotten, tasks that have ended stay so, what is
 * cancelled runs no more, each task is told with one end, which is right, and the same
 * whenever it is asked for again. */
#include "detached.h"

#include <string.h>

bool sim_told_again(int code)
{
    return code == FARPOOL_EFULL || code == FARPOOL_ENOSPACE || code == FARPOOL_ESYSTEM ||
           code == FARPOOL_ENOMEM || code == FARPOOL_ENOTREADY;
}

void sim_told_none(struct sim *sim, const struct detached *detached)
{
    if (detached->accepted && !detached->forgets)
        sim_fail(sim, "the detached job %s was accepted, and is told not to be there",
                 detached->submit->submit.name);
}

void sim_told_kept(struct sim *sim, struct detached *detached, uint64_t tasks)
{
    if (tasks < detached->kept)
        sim_fail(sim, "a detached job has %llu inputs, and was told to have %llu",
                 (unsigned long long)tasks, (unsigned long long)detached->kept);
    detached->kept = tasks;
}

/* ----------------------------------------------------------------------- how it stands
 */

static bool is(const struct msg_detached_info *info, const char *state)
{
    return strcmp(info->state, state) == 0;
}

static void check_counts(struct sim *sim, struct detached *detached,
                         const struct msg_detached_info *info)
{
    const uint64_t ended = info->done + info->failed;
    const struct job *job = &detached->app->jobs[0];

    if (ended < detached->ended || ended > info->tasks || info->tasks > job->count ||
        (!is(info, "filling") && info->tasks != job->count))
        sim_fail(sim, "a detached job is %s with %llu of %llu tasks, and had %llu",
                 info->state, (unsigned long long)ended, (unsigned long long)info->tasks,
                 (unsigned long long)detached->ended);
    detached->ended = ended;
}

static void check_end(struct sim *sim, const struct detached *detached,
                      const struct msg_detached_info *info)
{
    const struct job *job = &detached->app->jobs[0];

    if (is(info, "ended") && info->done + info->failed != job->count)
        sim_fail(sim, "a detached job has ended, and not all of its tasks");
    if (is(info, "cancelled") && !detached->cancels && !job->stopped)
        sim_fail(sim, "a detached job is cancelled, and nobody asked");
    if (is(info, "failed") && !sim_app_may_fail(sim, detached->app, info->code))
        sim_fail(sim, "a detached job failed without cause: %d %s", info->code,
                 info->reason);
}

void sim_told_state(struct sim *sim, struct detached *detached,
                    const struct msg_detached_info *info)
{
    const bool open = is(info, "waiting") || is(info, "running") || is(info, "stalled");

    check_counts(sim, detached, info);
    if (is(info, "filling")) {
        if (detached->accepted)
            sim_fail(sim, "a detached job was accepted, and is being filled");
        detached->cancels = true; /* who submitted it is gone */
        detached->cancelled = false;
        return;
    }
    if (open && detached->cancelled)
        sim_fail(sim, "a detached job was cancelled, and is %s", info->state);
    if (!open)
        check_end(sim, detached, info);
    detached->accepted = true;
    if (!open || sim_chance(sim, 4))
        detached->stage = OWNER_COLLECTS;
}

/* -------------------------------------------------------------------------- its results
 */

static void count(struct sim *sim, struct detached *detached,
                  const struct message *message, uint64_t index)
{
    if (index < detached->collected || index >= message->collected.next)
        sim_fail(sim, "task %llu of a detached job is told, which was not asked for",
                 (unsigned long long)index);
    if (detached->told[index]++)
        sim_fail(sim, "task %llu of a detached job is told twice",
                 (unsigned long long)index);
}

static void take_ends(struct sim *sim, struct detached *detached,
                      const struct message *message)
{
    for (uint32_t i = 0; i < message->collected.spans_count; i++) {
        const struct msg_span *span = &message->collected.spans[i];

        for (uint32_t k = 0; k < span->count; k++)
            count(sim, detached, message, span->first + k);
        sim_outcome_collected(sim, detached->app, span);
    }
    for (uint32_t i = 0; i < message->collected.failures_count; i++) {
        const struct msg_failed *failed = &message->collected.failures[i];

        count(sim, detached, message, failed->index);
        sim_outcome_collected_failed(sim, detached->app, failed);
    }
}

/* Those that are passed over have no end, and that has a reason. */
static void check_rest(struct sim *sim, const struct detached *detached,
                       const struct message *message)
{
    const bool ended = message->collected.ended && message->collected.rest_code != 0;
    const struct job *job = &detached->app->jobs[0];

    for (uint64_t i = detached->collected; i < message->collected.next; i++)
        if (!detached->told[i] && (!ended || job->tasks[i].end != TASK_OPEN))
            sim_fail(sim, "task %llu of a detached job is passed over",
                     (unsigned long long)i);
}

void sim_told_collected(struct sim *sim, struct detached *detached,
                        const struct message *message)
{
    const struct job *job = &detached->app->jobs[0];

    if (message->collected.tasks != job->count || message->collected.next > job->count ||
        message->collected.next < detached->collected ||
        !id_equal(&message->collected.submit, detached_id(detached)))
        sim_fail(sim, "another detached job is collected than was asked for");
    take_ends(sim, detached, message);
    check_rest(sim, detached, message);
    detached->collected = message->collected.next;
    if (!message->collected.ended)
        detached->stage = sim_chance(sim, 2) ? OWNER_COLLECTS : OWNER_WATCHES;
    else if (detached->collected == job->count)
        detached->stage = OWNER_FORGETS;
}
