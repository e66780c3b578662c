/* SPDX-License-Identifier: Apache-2.0
 *
 * core_job.c: jobs: opening, closing, cancelling, and how long their tasks take.
 *
 * A job belongs to the client that opened it. Its tasks are in `waiting` (no worker) or
 * `assigned` (tag: the placement), never in both; a RUNNING one with waiting tasks is in
 * its pool's `ready`. When it ends or its client goes, its workers are told and it is
 * forgotten at once, with whatever it still had.
 *
 * A task's time is a fading average over DONE; a job that has none yet borrows what the
 * pool's last job of the same function has shown. */
#include "coordinator/core_internal.h"

#include <string.h>

#define WORK_NS_MAX (UINT64_C(1) << 48) /* of one placement, so that sums do not wrap */

int kjob_compare(const struct job *a, const struct job *b)
{
    return (a->number > b->number) - (a->number < b->number);
}

int kready_compare(const struct job *a, const struct job *b)
{
    if (a->rank != b->rank)
        return a->rank > b->rank ? -1 : 1;
    /* Of nested clients the youngest first: the older ones may wait for it. */
    if (kjob_is_nested(a) && a->owner != b->owner)
        return a->owner->serial > b->owner->serial ? -1 : 1;
    return (a->serial > b->serial) - (a->serial < b->serial);
}

RB_GENERATE_INTERNAL(kjob_tree, job, pool_entry, kjob_compare, )
RB_GENERATE_INTERNAL(kready_tree, job, ready_entry, kready_compare, )

struct job *kjob_find(const struct pool *pool, uint64_t number)
{
    struct job *job = RB_ROOT(&pool->jobs);
    while (job && job->number != number)
        job = number < job->number ? RB_LEFT(job, pool_entry) : RB_RIGHT(job, pool_entry);
    return job;
}

/* ------------------------------------------------------------ a task's time */

static void measure_add(struct measure *measure, uint64_t tasks, uint64_t ns)
{
    measure->tasks += (double)tasks;
    measure->ns += (double)ns;
    if (measure->tasks > FADE_TASKS) {
        measure->ns *= FADE_TASKS / measure->tasks;
        measure->tasks = FADE_TASKS;
    }
}

static const struct recent *recent_of(const struct job *job)
{
    return job->recent && job->recent->stamp == job->recent_stamp ? job->recent : NULL;
}

/* 0: not known. */
static uint64_t task_ns(const struct job *job)
{
    const struct measure *measure = &job->measure;
    const struct recent *recent = recent_of(job);
    if (measure->tasks <= 0 && recent)
        measure = &recent->measure;
    if (measure->tasks <= 0)
        return 0;
    const double ns = measure->ns / measure->tasks;
    if (ns >= (double)TASK_NS_MAX)
        return TASK_NS_MAX;
    return ns > 1 ? (uint64_t)ns : 1;
}

bool kjob_is_measured(const struct job *job)
{
    return job->measure.tasks > 0;
}

uint64_t kjob_unit_ns(const struct job *job)
{
    const uint64_t ns = task_ns(job);
    return ns ? ns * job->unit : UNMEASURED_NS; /* at most 2^42 * 2^20 */
}

uint64_t kjob_work_ns(const struct job *job, uint64_t tasks)
{
    const uint64_t ns = task_ns(job);
    const uint64_t units = tasks / job->unit + (tasks % job->unit != 0);
    const uint64_t count = ns ? tasks : units, each = ns ? ns : UNMEASURED_NS;
    return count > WORK_NS_MAX / each ? WORK_NS_MAX : count * each;
}

void kjob_measure(struct job *job, uint64_t tasks, uint64_t elapsed_ns)
{
    struct recent *recent = recent_of(job) ? job->recent : NULL;
    elapsed_ns = smaller(elapsed_ns, tasks * TASK_NS_MAX);
    measure_add(&job->measure, tasks, elapsed_ns);
    job->ramp = part_ramp(job->ramp, kjob_unit_ns(job));
    if (recent) {
        measure_add(&recent->measure, tasks, elapsed_ns);
        recent->ramp = job->ramp;
    }
}

static void borrow(struct coordinator_core *core, struct job *job)
{
    struct pool *pool = job->pool;
    struct recent *recent = NULL;
    for (int i = 0; i < RECENT_FUNCTIONS && !recent; i++)
        if (pool->recents[i].stamp &&
            strcmp(pool->recents[i].function, job->function) == 0)
            recent = &pool->recents[i];
    if (!recent) {
        recent = &pool->recents[pool->recent_next++ % RECENT_FUNCTIONS];
        memset(recent, 0, sizeof *recent);
        memcpy(recent->function, job->function, sizeof recent->function);
        recent->stamp = ++core->next_stamp;
        recent->ramp = RAMP_FIRST;
    }
    job->recent = recent;
    job->recent_stamp = recent->stamp;
    job->ramp = recent->ramp;
}

/* ------------------------------------------------------------------ opening */

struct job *kjob_create(struct coordinator_core *core, struct pool *pool, uint64_t number)
{
    struct job *job = mem_alloc(sizeof *job);
    if (!job)
        return NULL;
    if (span_set_create(&job->waiting) || span_set_create(&job->assigned) ||
        span_set_create(&job->twins)) {
        span_set_destroy(job->waiting);
        span_set_destroy(job->assigned);
        mem_free(job);
        return NULL;
    }
    job->pool = pool;
    job->number = number;
    job->serial = ++core->next_job;
    job->unit = 1;
    job->ramp = RAMP_FIRST;
    job->expires_ms = add_saturated(core->now_ms, (uint64_t)2 * core->config.settle_ms);
    TAILQ_INIT(&job->kept);
    RB_INSERT(kjob_tree, &pool->jobs, job);
    TAILQ_INSERT_TAIL(&core->expected_jobs, job, wait_entry);
    pool->jobs_count++;
    core->jobs_count++;
    return job;
}

static void describe(struct job *job, const struct message *message)
{
    memcpy(job->function, message->job_open.function, sizeof job->function);
    job->chunk = message->job_open.chunk;
    job->unit = job->chunk ? job->chunk : 1;
    job->timeout_ms = message->job_open.timeout_ms;
    job->cpu_ms = message->job_open.cpu_ms;
    job->memory_bytes = message->job_open.memory_bytes;
    job->priority = message->job_open.priority;
    job->tasks = message->job_open.tasks;
    job->once = message->job_open.once;
    job->resumed = message->job_open.resumed;
    job->speculate = message->job_open.speculate && !job->once;
    job->calls = message->job_open.calls;
    job->whole = message->job_open.whole;
}

/* What this coordinator has not seen of a job: without it the last tasks of one would
 * never be known to be slow. */
static void recollect(struct job *job, const struct message *message)
{
    const uint64_t ended = message->job_open.ended, ns = message->job_open.task_ns;
    const uint64_t tasks = smaller(ended, FADE_TASKS);
    job->ended_before = ended;
    if (tasks && ns)
        measure_add(&job->measure, tasks, tasks * smaller(ns, TASK_NS_MAX));
}

/* Levels are by rank, which is known only now. */
static int make_levels(struct job *job, int32_t rank)
{
    struct placement *placement;
    RB_FOREACH (placement, kplacement_tree, &job->placements)
        if (!kmember_level(placement->member, rank))
            return FARPOOL_ENOMEM;
    return 0;
}

/* Tasks that run wait for nested jobs, whatever their priority. */
static int32_t rank_of(const struct client *client, const struct message *message)
{
    const bool nested = client->state == CLIENT_ATTACHED;
    return message->job_open.priority + (nested ? NESTED_RANK : 0);
}

static void adopt(struct coordinator_core *core, struct job *job, struct client *client,
                  const struct message *message)
{
    const bool expected = message->job_open.resumed || !RB_EMPTY(&job->placements) ||
                          !TAILQ_EMPTY(&job->kept);
    struct placement *placement;
    describe(job, message);
    if (job->resumed)
        recollect(job, message);
    borrow(core, job);
    job->rank = rank_of(client, message);
    job->owner = client;
    client->assigned += span_set_tasks(job->assigned) + span_set_tasks(job->twins);
    TAILQ_INSERT_TAIL(&client->jobs, job, client_entry);
    if (job->speculate)
        TAILQ_INSERT_TAIL(&core->speculating, job, speculating_entry);
    client->job_last = larger(client->job_last, job->number);
    TAILQ_REMOVE(&core->expected_jobs, job, wait_entry);
    if (expected || job->pool->state == POOL_EXPECTED) {
        job->state = JOB_SETTLING;
        TAILQ_INSERT_TAIL(&core->settling, job, wait_entry);
    } else {
        job->state = JOB_RUNNING;
    }
    RB_FOREACH (placement, kplacement_tree, &job->placements) {
        placement->level = kmember_level(placement->member, job->rank);
        placement->level->units += placement->units;
        placement->level->work_ns += placement->work_ns;
        kplacement_add(core, placement, 0, 0); /* by its chunk now */
    }
}

int kjob_open(struct coordinator_core *core, struct client *client,
              const struct message *message)
{
    struct job *job = kjob_find(client->pool, message->job_open.job);
    if (job && job->state != JOB_EXPECTED)
        return klink_drop(core, client->link, FARPOOL_EPROTOCOL,
                          "JOB_OPEN of a job that is open");
    if (!job && core->jobs_count >= core->config.jobs_max)
        return klink_refuse(core, client->link, FARPOOL_EFULL,
                            "the coordinator already has %u jobs (its limit)",
                            core->config.jobs_max);
    if (job && make_levels(job, rank_of(client, message)))
        return FARPOOL_ENOMEM;
    struct wish *stop = kwish_find(core, &message->job_open.pool, message->job_open.job);
    if (stop && kadmin_tell_stop(core, client, stop))
        return FARPOOL_ENOMEM;
    if (!job && !(job = kjob_create(core, client->pool, message->job_open.job)))
        return FARPOOL_ENOMEM;
    adopt(core, job, client, message);
    job->stop = kwish_take(core, stop);
    return 0;
}

/* -------------------------------------------------- tasks in and out of sets */

uint64_t kjob_waiting(const struct job *job)
{
    const uint64_t here = span_set_tasks(job->waiting);
    return here + smaller(job->unsent, UINT64_MAX - here);
}

void kjob_refresh(struct coordinator_core *core, struct job *job)
{
    struct pool *pool = job->pool;
    const bool ready = job->state == JOB_RUNNING && pool->state == POOL_RUNNING &&
                       span_set_tasks(job->waiting) > 0;
    if (ready && !job->ready)
        RB_INSERT(kready_tree, &pool->ready, job);
    if (!ready && job->ready)
        RB_REMOVE(kready_tree, &pool->ready, job);
    if (ready || job->ready)
        kmatch_wake(core, pool);
    if (ready != job->ready) {
        job->ready = ready;
        job->owner->ready_jobs += ready ? 1 : UINT64_MAX; /* one more, one less */
        kclient_refresh(core, job->owner);
    }
}

int kjob_cut(struct span_set *set, uint64_t first, uint64_t end)
{
    const int error = span_set_cut(set, first);
    return error ? error : span_set_cut(set, end);
}

void kjob_end_span(struct coordinator_core *core, struct job *job, struct span_set *set,
                   const struct span_item *item)
{
    const uint64_t tasks = item->span.count, bytes = span_bytes(&item->span);
    const struct span_item *twin = set == job->assigned ? ktwin_of(job, item) : NULL;
    if (twin)
        ktwin_drop(core, job, twin);
    if (item->tag2 == HELD_INPUTLESS) {
        job->held -= tasks;
    } else if (item->tag2 == HELD_LANE) {
        placement_of(item)->member->lane_tasks -= tasks;
    } else {
        job->owner->tasks -= tasks;
        job->owner->bytes -= bytes;
    }
    if (set == job->assigned) {
        kplacement_remove(core, placement_of(item), tasks, bytes);
        core->assigned -= tasks;
    } else {
        core->waiting -= tasks;
    }
    const int error = span_set_take(set, item->span.first, item->span.count, NULL);
    assert(!error);
}

/* ------------------------------------------------------------------- ending */

static int send_job_close(struct coordinator_core *core,
                          const struct placement *placement)
{
    struct message *message = message_create(MSG_JOB_CLOSE);
    if (message) {
        message->job_close.pool = placement->job->pool->id;
        message->job_close.job = placement->job->number;
    }
    return ksend(core, placement->worker->link, &message);
}

static int send_cancel_all(struct coordinator_core *core,
                           const struct placement *placement)
{
    struct message *message = message_create(MSG_CANCEL);
    if (message && !(message->cancel.ranges = mem_alloc(sizeof(struct msg_range))))
        message_free(&message);
    if (message) {
        message->cancel.pool = placement->job->pool->id;
        message->cancel.job = placement->job->number;
        message->cancel.kill = true;
        message->cancel.ranges_count = 1;
        message->cancel.ranges[0] = (struct msg_range){.count = UINT64_MAX};
    }
    return ksend(core, placement->worker->link, &message);
}

static int tell_end(struct coordinator_core *core, struct job *job, bool cancel)
{
    struct placement *placement;
    const struct kept *kept;
    RB_FOREACH (placement, kplacement_tree, &job->placements) {
        if (placement->state == PLACEMENT_NEW)
            continue;
        if (cancel && send_cancel_all(core, placement))
            return FARPOOL_ENOMEM;
        if (send_job_close(core, placement))
            return FARPOOL_ENOMEM;
    }
    TAILQ_FOREACH (kept, &job->kept, entry)
        if (kresults_tell_ack(core, kept->message))
            return FARPOOL_ENOMEM;
    return 0;
}

int kjob_tell_abandon(struct coordinator_core *core, struct job *job)
{
    return tell_end(core, job, true);
}

static void end_all(struct coordinator_core *core, struct job *job, struct span_set *set)
{
    const struct span_item *item;
    while ((item = span_set_first(set)))
        kjob_end_span(core, job, set, item);
}

void kjob_destroy(struct coordinator_core *core, struct job *job)
{
    struct pool *pool = job->pool;
    struct placement *placement;
    struct kept *kept;
    end_all(core, job, job->waiting);
    end_all(core, job, job->assigned);
    assert(!job->held);
    kjob_refresh(core, job);
    while ((placement = RB_ROOT(&job->placements)))
        kplacement_destroy(core, placement);
    while ((kept = TAILQ_FIRST(&job->kept)))
        kkept_destroy(core, job, kept);
    if (job->state == JOB_EXPECTED)
        TAILQ_REMOVE(&core->expected_jobs, job, wait_entry);
    else if (job->state == JOB_SETTLING)
        TAILQ_REMOVE(&core->settling, job, wait_entry);
    if (job->dirty)
        TAILQ_REMOVE(&core->dirty_jobs, job, dirty_entry);
    if (job->owner)
        TAILQ_REMOVE(&job->owner->jobs, job, client_entry);
    if (job->owner && job->speculate)
        TAILQ_REMOVE(&core->speculating, job, speculating_entry);
    RB_REMOVE(kjob_tree, &pool->jobs, job);
    pool->jobs_count--;
    core->jobs_count--;
    kwish_leave(core, &job->stop);
    span_set_destroy(job->waiting);
    span_set_destroy(job->assigned);
    span_set_destroy(job->twins);
    mem_free(job);
}

/* The client's own job of that number, or NULL. */
static struct job *find_own(const struct client *client, uint64_t number)
{
    struct job *job = kjob_find(client->pool, number);
    return job && job->owner == client ? job : NULL;
}

int kjob_close(struct coordinator_core *core, struct client *client,
               const struct message *message)
{
    struct job *job = find_own(client, message->job_close.job);
    if (!job)
        return 0;
    if (tell_end(core, job, false))
        return FARPOOL_ENOMEM;
    kwish_free(&job->stop);
    kjob_destroy(core, job);
    return 0;
}

/* --------------------------------------------------------------- cancelling */

static bool is_meant(const struct msg_range *range, const struct span_item *item)
{
    return !range->attempt || item->span.attempt == range->attempt;
}

/* Passes the message on to each worker that has one of these tasks, once. */
static int tell_cancel(struct coordinator_core *core, const struct span_set *set,
                       const struct message *message, const struct msg_range *range)
{
    const uint64_t end = add_saturated(range->first, range->count);
    const struct span_item *item = span_set_at_or_after(set, range->first);
    for (; item && item->span.first < end; item = span_set_next(set, item)) {
        struct placement *placement = placement_of(item);
        if (!is_meant(range, item) || placement->mark == core->mark)
            continue;
        struct message *copy = message_copy(message);
        if (ksend(core, placement->worker->link, &copy))
            return FARPOOL_ENOMEM;
        placement->mark = core->mark;
    }
    return 0;
}

static void cancel_range(struct coordinator_core *core, struct job *job,
                         struct span_set *set, const struct msg_range *range)
{
    const uint64_t end = add_saturated(range->first, range->count);
    const struct span_item *item = span_set_at_or_after(set, range->first);
    while (item && item->span.first < end) {
        const uint64_t next = item->span.first + item->span.count;
        if (is_meant(range, item))
            kjob_end_span(core, job, set, item);
        item = span_set_at_or_after(set, next);
    }
}

int kjob_cancel(struct coordinator_core *core, struct client *client,
                const struct message *message)
{
    struct job *job = find_own(client, message->cancel.job);
    const struct msg_range *ranges = message->cancel.ranges;
    const uint32_t count = message->cancel.ranges_count;
    core->mark++;
    for (uint32_t i = 0; job && i < count; i++) {
        const uint64_t end = add_saturated(ranges[i].first, ranges[i].count);
        if (kjob_cut(job->waiting, ranges[i].first, end) ||
            kjob_cut(job->assigned, ranges[i].first, end) ||
            tell_cancel(core, job->assigned, message, &ranges[i]) ||
            tell_cancel(core, job->twins, message, &ranges[i]))
            return FARPOOL_ENOMEM;
    }
    for (uint32_t i = 0; job && i < count; i++) {
        cancel_range(core, job, job->waiting, &ranges[i]);
        cancel_range(core, job, job->assigned, &ranges[i]);
    }
    if (job)
        kjob_refresh(core, job);
    return 0;
}
