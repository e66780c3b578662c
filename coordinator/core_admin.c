/* SPDX-License-Identifier: Apache-2.0
 *
 * core_admin.c: what an operator asks for, over a link of a client without a pool.
 *
 * A job is cancelled by its client, which owns the tasks: it is told, and says CANCEL and
 * JOB_CLOSE in its own time. Nothing of the job is changed here. A node that is to drain
 * is told, and given no more from now on, as if it had said DRAIN itself. Both are told
 * again when they come back on another link (core_wish.c). A question may be a repeated
 * one: what was asked for before is no error that changes anything. */
#include "coordinator/core_internal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct outcome {
    int code;
    char text[256];
    uint64_t concerned, tasks;
};

static void refuse(struct outcome *outcome, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void refuse(struct outcome *outcome, int code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(outcome->text, sizeof outcome->text, format, arguments);
    va_end(arguments);
    outcome->code = code;
}

static int answer(struct coordinator_core *core, const struct client *client,
                  uint32_t request, const struct outcome *outcome)
{
    struct message *message = message_create(MSG_ANSWER);
    if (message) {
        message->answer.request = request;
        message->answer.code = outcome->code;
        message->answer.concerned = outcome->concerned;
        message->answer.tasks = outcome->tasks;
        memcpy(message->answer.text, outcome->text, sizeof outcome->text);
    }
    return ksend(core, client->link, &message);
}

static int drop_owner(struct coordinator_core *core, const struct client *client,
                      const struct message *message)
{
    return klink_drop(core, client->link, FARPOOL_EPROTOCOL,
                      "%s is not for a client with a pool to say",
                      message_name(message->kind));
}

/* ------------------------------------------------------------------- CANCEL_JOB */

static int tell_cancel(struct coordinator_core *core, const struct client *owner,
                       const struct message *message)
{
    struct message *copy = message_copy(message);
    if (copy)
        copy->cancel_job.request = 0;
    return ksend(core, owner->link, &copy);
}

int kadmin_tell_stop(struct coordinator_core *core, const struct client *owner,
                     const struct wish *wish)
{
    struct message *message = message_create(MSG_CANCEL_JOB);
    if (message) {
        message->cancel_job.pool = wish->id;
        message->cancel_job.job = wish->job;
        message->cancel_job.kill = wish->kill;
    }
    return ksend(core, owner->link, &message);
}

/* The jobs that a question names and their clients have. */
static bool is_named(const struct job *job, uint64_t number)
{
    return job->owner && (!number || job->number == number);
}

static int make_stops(struct pool *pool, uint64_t number)
{
    struct job *job;
    RB_FOREACH (job, kjob_tree, &pool->jobs)
        if (is_named(job, number) && kwish_make(&job->stop, &pool->id, job->number))
            return FARPOOL_ENOMEM;
    return 0;
}

/* The step that made them has succeeded, or failed. */
static void end_stops(struct pool *pool, uint64_t number, bool kill, bool failed)
{
    struct job *job;
    RB_FOREACH (job, kjob_tree, &pool->jobs) {
        if (failed)
            kwish_unmake(&job->stop);
        if (failed || !is_named(job, number))
            continue;
        job->stop->fresh = false;
        job->stop->kill |= kill;
    }
}

static void count_job(const struct job *job, struct outcome *outcome)
{
    outcome->concerned++;
    outcome->tasks += span_set_tasks(job->waiting) + span_set_tasks(job->assigned);
}

/* Each client of the pool: it may have jobs that were not told here yet. */
static int cancel_pool(struct coordinator_core *core, struct pool *pool,
                       const struct message *message, struct outcome *outcome)
{
    const struct client *client;
    struct job *job;
    if (tell_cancel(core, pool->owner, message))
        return FARPOOL_ENOMEM;
    TAILQ_FOREACH (client, &pool->clients, pool_entry)
        if (tell_cancel(core, client, message))
            return FARPOOL_ENOMEM;
    RB_FOREACH (job, kjob_tree, &pool->jobs)
        count_job(job, outcome);
    return 0;
}

static int cancel(struct coordinator_core *core, const struct holder *holder,
                  struct pool *pool, const struct message *message,
                  struct outcome *outcome)
{
    const uint64_t number = message->cancel_job.job;
    const struct job *job = pool && number ? kjob_find(pool, number) : NULL;
    if (!pool || pool->state == POOL_CLOSING || !kstatus_may_see(holder, pool)) {
        refuse(outcome, FARPOOL_ENOPOOL, "no such pool");
    } else if (number && !job) {
        refuse(outcome, FARPOOL_EINVAL, "the pool has no job %" PRIu64, number);
    } else if (pool->state == POOL_EXPECTED || (job && !job->owner)) {
        refuse(outcome, FARPOOL_ENOTREADY,
               "its client has not come back since the coordinator was restarted");
    } else if (job) {
        count_job(job, outcome);
        return tell_cancel(core, job->owner, message);
    } else {
        return cancel_pool(core, pool, message, outcome);
    }
    return 0;
}

int kadmin_cancel(struct coordinator_core *core, struct client *client,
                  const struct message *message)
{
    struct outcome outcome = {.code = 0};
    const uint64_t number = message->cancel_job.job;
    if (client->state != CLIENT_IDLE)
        return drop_owner(core, client, message);
    struct pool *pool = kpool_find(core, &message->cancel_job.pool);
    int error = cancel(core, &client->link->holder, pool, message, &outcome);
    if (!error)
        error = answer(core, client, message->cancel_job.request, &outcome);
    if (!error && !outcome.code)
        error = make_stops(pool, number);
    if (!outcome.code)
        end_stops(pool, number, message->cancel_job.kill, error != 0);
    return error;
}

/* ------------------------------------------------------------------- DRAIN_NODE */

int kadmin_tell_drain(struct coordinator_core *core, const struct worker *worker)
{
    struct message *message = message_create(MSG_DRAIN);
    if (message)
        snprintf(message->drain.reason, sizeof message->drain.reason,
                 "an operator asked for it");
    return ksend(core, worker->link, &message);
}

static bool is_called(const struct worker *worker, const struct message *message)
{
    return strcmp(worker->node, message->drain_node.node) == 0;
}

/* Workers are everybody's, so this is for those who may see everything. */
static bool may_drain(const struct holder *holder, struct outcome *outcome)
{
    if (holder->role == HOLDER_NONE || holder->role == HOLDER_ADMIN)
        return true;
    refuse(outcome, FARPOOL_EKEY,
           "draining a node takes an admin's key, and %s is a %s's", holder->name,
           holder_role_name(holder->role));
    return false;
}

/* Tells all that have the name and are ready; changes nothing. */
static int tell_drains(struct coordinator_core *core, const struct message *message,
                       struct outcome *outcome)
{
    uint64_t already = 0, tasks = 0;
    struct worker *worker;
    TAILQ_FOREACH (worker, &core->joined, entry) {
        if (!is_called(worker, message))
            continue;
        if (worker->state != WORKER_READY) {
            already++;
            tasks += worker->tasks;
            continue;
        }
        if (kwish_make(&worker->drain, &worker->id, 0) || kadmin_tell_drain(core, worker))
            return FARPOOL_ENOMEM;
        outcome->concerned++;
        outcome->tasks += worker->tasks;
    }
    if (outcome->concerned)
        return 0;
    if (already)
        refuse(outcome, FARPOOL_EDRAINED, "%s is draining already",
               message->drain_node.node);
    else
        refuse(outcome, FARPOOL_EINVAL, "no node is called %s", message->drain_node.node);
    outcome->concerned = already;
    outcome->tasks = tasks;
    return 0;
}

static void end_drain(struct coordinator_core *core, struct worker *worker, bool failed)
{
    if (failed)
        kwish_unmake(&worker->drain);
    else
        kworker_drain(core, worker);
    if (worker->drain)
        worker->drain->fresh = false;
}

int kadmin_drain(struct coordinator_core *core, struct client *client,
                 const struct message *message)
{
    struct outcome outcome = {.code = 0};
    struct worker *worker;
    if (client->state != CLIENT_IDLE)
        return drop_owner(core, client, message);
    const bool may = may_drain(&client->link->holder, &outcome);
    int error = may ? tell_drains(core, message, &outcome) : 0;
    if (!error)
        error = answer(core, client, message->drain_node.request, &outcome);
    if (may)
        TAILQ_FOREACH (worker, &core->joined, entry)
            if (is_called(worker, message))
                end_drain(core, worker, error != 0);
    return error;
}
