/* SPDX-License-Identifier: Apache-2.0
 *
 * core_explain.c: why the tasks of a job wait, in a word (`why`) and for people
 * (`reason`). It reads what matching decided from and changes nothing; the first of these
 * that is true is told:
 *
 *   settling    the coordinator was restarted, and workers or the client are to come back
 *   no-workers  there is none
 *   draining    there are, and all of them drain
 *   failed      none of them can run the pool
 *   limit       as many processes of the pool have work as it may have
 *   busy        every slot that the pool may use has work
 *   window      workers, or the client, have as much under way as they may
 *   dealing     nothing: the tasks go out */
#include "coordinator/core_internal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#define RIVALS_MAX 1024 /* jobs of one pool that are looked at */

struct text {
    char *bytes;
    size_t size, used;
};

static void add(struct text *text, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void add(struct text *text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    const int length =
        vsnprintf(text->bytes + text->used, text->size - text->used, format, arguments);
    va_end(arguments);
    if (length > 0)
        text->used = smaller(text->used + (size_t)length, text->size - 1);
}

static const char *plural(uint64_t count)
{
    return count == 1 ? "" : "s";
}

static bool has_work(const struct job *job)
{
    return span_set_tasks(job->assigned) > 0;
}

static uint64_t count_busy(struct pool *pool)
{
    uint64_t count = 0;
    struct job *job;
    RB_FOREACH (job, kjob_tree, &pool->jobs)
        count += has_work(job);
    return count;
}

void kexplain_begin(const struct coordinator_core *core, struct explain *explain)
{
    struct pool *pool;
    *explain = (struct explain){.pool = NULL};
    TAILQ_FOREACH (pool, &core->opened, entry)
        explain->busy_jobs += count_busy(pool);
}

/* ------------------------------------------------------------------- reasons */

static void tell_settling(const struct coordinator_core *core, const struct job *job,
                          struct text *text)
{
    if (!job->owner) {
        add(text, "the coordinator was restarted, and the job's client has not come back "
                  "yet");
        return;
    }
    add(text,
        "the coordinator was restarted %" PRIu64
        " ms ago, and lets workers tell first what they still have",
        core->now_ms - core->started_ms);
}

static void tell_failed(const struct pool *pool, struct text *text)
{
    struct kmember_tree members = pool->members; /* its macros want one to be changed */
    struct member *member;
    const char *between = ":";
    add(text, "no node can run this pool");
    RB_FOREACH (member, kmember_tree, &members) {
        if (member->state != MEMBER_FAILED)
            continue;
        add(text, "%s %s: %s", between, member->worker->node, member->reason);
        between = ";";
    }
}

/* Other jobs of the pool with work at a worker that are at least as urgent. */
static uint64_t count_rivals(const struct job *job)
{
    uint64_t count = 0, seen = 0;
    struct kjob_tree jobs = job->pool->jobs;
    struct job *other;
    RB_FOREACH (other, kjob_tree, &jobs) {
        if (++seen > RIVALS_MAX)
            break;
        count += other != job && has_work(other) && other->rank >= job->rank;
    }
    return count;
}

static void tell_busy(const struct coordinator_core *core, struct explain *explain,
                      const struct job *job, struct text *text)
{
    struct pool *pool = job->pool;
    const uint64_t slots = kpool_slots(core, pool), rivals = count_rivals(job);
    if (explain->pool != pool)
        explain->busy_here = count_busy(pool);
    explain->pool = pool;
    const uint64_t others = subtract_saturated(explain->busy_jobs, explain->busy_here);
    const char *between = " with";
    add(text, "%s %" PRIu64 " slot%s of this pool %s work", slots == 1 ? "the" : "all",
        slots, plural(slots), slots == 1 ? "has" : "have");
    if (has_work(job)) {
        add(text, "%s earlier tasks of this job", between);
        between = " and";
    }
    if (rivals) {
        add(text, "%s %" PRIu64 " job%s of this pool with the same or a higher priority",
            between, rivals, plural(rivals));
        between = " and";
    }
    if (others)
        add(text, "%s %" PRIu64 " job%s of other pools", between, others, plural(others));
}

/* Slots without work that the pool may use. */
static uint64_t count_idle(const struct coordinator_core *core, const struct pool *pool)
{
    uint64_t idle = 0;
    const struct worker *worker;
    if (pool->processes)
        return pool->idle ? core->idle_units : 0;
    if (!pool->failed_nodes)
        return core->idle_units;
    TAILQ_FOREACH (worker, &core->joined, entry)
        if (kpool_usable(pool, worker, kmember_find(pool, worker)))
            idle += worker->idle;
    return idle;
}

static bool is_starved(const struct pool *pool)
{
    struct kmember_tree members = pool->members;
    struct member *member;
    RB_FOREACH (member, kmember_tree, &members)
        if (member->place == PLACE_STARVED)
            return true;
    return false;
}

static bool client_is_full(const struct coordinator_core *core, const struct job *job)
{
    return job->owner && (job->owner->tasks >= core->config.client_tasks_max ||
                          job->owner->bytes >= core->config.client_bytes_max);
}

static const char *tell_waiting(const struct coordinator_core *core,
                                struct explain *explain, const struct job *job,
                                struct text *text)
{
    const struct pool *pool = job->pool;
    if (job->state != JOB_RUNNING || pool->state == POOL_EXPECTED) {
        tell_settling(core, job, text);
        return "settling";
    }
    if (TAILQ_EMPTY(&core->joined)) {
        add(text, "no worker has joined the coordinator");
        return "no-workers";
    }
    if (!core->nodes) {
        add(text, "every worker is draining");
        return "draining";
    }
    if (!kpool_nodes(core, pool)) {
        tell_failed(pool, text);
        return "failed";
    }
    if (pool->processes && !pool->idle && pool->shares >= pool->processes) {
        add(text,
            "as many tasks are at workers as the pool's limit of %u process%s lets "
            "run",
            pool->processes, pool->processes == 1 ? "" : "es");
        return "limit";
    }
    if (!count_idle(core, pool)) {
        tell_busy(core, explain, job, text);
        return "busy";
    }
    if (is_starved(pool)) {
        add(text, "the workers have as many tasks or bytes of input as they take at a "
                  "time");
        return "window";
    }
    add(text, "nothing: the tasks are being dealt out%s",
        span_set_tasks(job->waiting) ? "" : ", by their client");
    return "dealing";
}

void kexplain_job(const struct coordinator_core *core, struct explain *explain,
                  const struct job *job, struct msg_job_info *info)
{
    struct text text = {.bytes = info->reason, .size = sizeof info->reason};
    const bool waits = kjob_waiting(job) > 0, full = client_is_full(core, job);
    const char *why = "";
    if (waits)
        why = tell_waiting(core, explain, job, &text);
    else if (full)
        why = "window";
    if (full)
        add(&text,
            "%sits client has %" PRIu64 " tasks (%" PRIu64
            " bytes) under way, and may not send more",
            waits ? "; " : "", job->owner->tasks, job->owner->bytes);
    snprintf(info->why, sizeof info->why, "%s", why);
    /* Nodes may have given their reasons in several lines. */
    for (char *at = info->reason; *at; at++)
        if ((unsigned char)*at < ' ')
            *at = ' ';
}
