/* SPDX-License-Identifier: Apache-2.0
 *
 * core_twin.c: tasks that two workers have. One is the first holder, in `assigned`; the
 * other is in `twins`. Both have such a task as a span of its own, so that nothing cuts
 * one of them only.
 *
 * The first answer is the task's, and the other holder is told to kill it. A failure is
 * no answer while the other goes on: it is ACKed here, and its client hears nothing of
 * it. Nor is the loss of a worker: whoever is left is the first holder then.
 *
 * Speculation: of a job that asked for it and has nothing waiting, what has run for
 * TWIN_TIMES as long as its tasks usually do, and for TWIN_LEAST_MS, is given to a second
 * worker with an idle slot; only when as many of its tasks have ended as are left, so
 * that what is usual is known; and not once more when either of two has failed, or was
 * lost with its worker, as the task may be what ends workers. It takes no slot from
 * others: where something comes to wait behind a twin, that is taken back; one more may
 * follow, and then none in that attempt.
 *
 * A task's beginning is not told. It is taken for when its worker was first known to run,
 * or to have slots for, all that it has of the job (steady_ms), or to have nothing to
 * give back. */
#include "coordinator/core_internal.h"

const struct span_item *ktwin_of(const struct job *job, const struct span_item *item)
{
    if (!span_set_tasks(job->twins))
        return NULL;
    return span_set_find(job->twins, item->span.first);
}

void ktwin_added(struct coordinator_core *core, const struct span_item *twin)
{
    struct placement *placement = placement_of(twin);
    const uint64_t tasks = twin->span.count;
    core->twins += tasks;
    placement->worker->twins += tasks;
    kplacement_add(core, placement, tasks, span_bytes(&twin->span));
}

void ktwin_drop(struct coordinator_core *core, struct job *job,
                const struct span_item *twin)
{
    struct placement *placement = placement_of(twin);
    const uint64_t tasks = twin->span.count;
    core->twins -= tasks;
    placement->worker->twins -= tasks;
    kplacement_remove(core, placement, tasks, span_bytes(&twin->span));
    const int error = span_set_take(job->twins, twin->span.first, twin->span.count, NULL);
    assert(!error);
}

bool ktwin_promote(struct coordinator_core *core, struct job *job,
                   const struct span_item *item)
{
    const struct span_item *twin = ktwin_of(job, item);
    if (!twin)
        return false;
    struct placement *from = placement_of(item), *to = placement_of(twin);
    const uint64_t tasks = item->span.count, bytes = span_bytes(&item->span);
    kplacement_remove(core, from, tasks, bytes);
    ktwin_drop(core, job, twin);
    span_set_move(job->assigned, item->span.first, job->assigned, item->span.attempt,
                  (uintptr_t)to, kwatch_unknown(item->tag2));
    kplacement_add(core, to, tasks, bytes);
    return true;
}

static bool may_have_twin(const struct span_item *item)
{
    return item->tag2 == HELD_NOT || item->tag2 == HELD_BACK;
}

static void hold_as(struct job *job, uint64_t index, enum held held)
{
    const struct span_item *item = span_set_find(job->assigned, index);
    if (may_have_twin(item))
        span_set_move(job->assigned, item->span.first, job->assigned, item->span.attempt,
                      item->tag, held);
}

/* Whoever has it is the last one of this attempt. */
static void leave_alone(struct job *job, uint64_t index)
{
    hold_as(job, index, HELD_ALONE);
}

/* A second holder has to give it back. It may have met its end by it and be no longer
 * there to tell, as may the first: so that happens once in an attempt, not for each idle
 * node in turn. */
static void leave_back(struct job *job, uint64_t index)
{
    const bool again = span_set_find(job->assigned, index)->tag2 == HELD_BACK;
    hold_as(job, index, again ? HELD_ALONE : HELD_BACK);
}

bool ktwin_outlive(struct coordinator_core *core, struct job *job,
                   const struct span_item *item)
{
    const uint64_t index = item->span.first;
    if (!ktwin_promote(core, job, item))
        return false;
    leave_alone(job, index);
    return true;
}

void ktwin_lose_all(struct coordinator_core *core, struct placement *placement)
{
    struct job *job = placement->job;
    const struct span_item *twin = span_set_first(job->twins);
    while (twin) {
        const uint64_t first = twin->span.first, next = first + twin->span.count;
        if (placement_of(twin) == placement) {
            ktwin_drop(core, job, twin);
            leave_alone(job, first);
        }
        twin = span_set_at_or_after(job->twins, next);
    }
}

/* ------------------------------------------------------------- which answers */

static int send_cancel(struct coordinator_core *core, const struct placement *placement,
                       const struct msg_span *span)
{
    struct message *message = message_create(MSG_CANCEL);
    if (message && !(message->cancel.ranges = mem_alloc(sizeof(struct msg_range))))
        message_free(&message);
    if (message) {
        message->cancel.pool = placement->job->pool->id;
        message->cancel.job = placement->job->number;
        message->cancel.kill = true;
        message->cancel.ranges_count = 1;
        message->cancel.ranges[0] =
            (struct msg_range){span->first, span->count, span->attempt};
    }
    return ksend(core, placement->worker->link, &message);
}

int ktwin_tell_over(struct coordinator_core *core, const struct job *job,
                    const struct msg_range *range, const struct worker *but)
{
    const uint64_t end = add_saturated(range->first, range->count);
    const struct span_item *item = span_set_at_or_after(job->assigned, range->first);
    int error = 0;
    for (; item && item->span.first < end && !error;
         item = span_set_next(job->assigned, item)) {
        if (item->span.attempt != range->attempt)
            continue;
        const struct span_item *twin = ktwin_of(job, item);
        if (placement_of(item)->worker != but)
            error = send_cancel(core, placement_of(item), &item->span);
        if (!error && twin && placement_of(twin)->worker != but)
            error = send_cancel(core, placement_of(twin), &twin->span);
    }
    return error;
}

bool ktwin_goes_on(const struct job *job, const struct worker *worker, uint64_t index,
                   uint32_t attempt)
{
    const struct span_item *item = span_set_find(job->assigned, index);
    if (!item || item->span.attempt != attempt)
        return false;
    const struct span_item *twin = ktwin_of(job, item);
    return placement_of(item)->worker != worker ||
           (twin && placement_of(twin)->worker != worker);
}

void ktwin_leave(struct coordinator_core *core, struct job *job,
                 const struct worker *worker, uint64_t index)
{
    const struct span_item *item = span_set_find(job->assigned, index);
    const struct span_item *twin = ktwin_of(job, item);
    if (twin && placement_of(twin)->worker == worker)
        ktwin_drop(core, job, twin);
    else if (placement_of(item)->worker == worker)
        ktwin_promote(core, job, item);
    leave_alone(job, index);
}

/* ------------------------------------------------------------- what is told */

static int hold_one(struct job *job, uint64_t index, uint32_t attempt,
                    const struct placement *placement)
{
    struct msg_span span = {.first = index, .count = 1, .attempt = attempt};
    const int error = kjob_cut(job->assigned, index, index + 1);
    return error ? error
                 : span_set_add(job->twins, &span, (uintptr_t)placement, HELD_NEW);
}

int ktwin_hold(struct job *job, const struct msg_range *range,
               const struct placement *placement)
{
    const uint64_t end = range->first + range->count;
    uint64_t at = range->first;
    const struct span_item *item;
    while ((item = span_set_at_or_after(job->assigned, at)) && item->span.first < end) {
        const uint64_t index = larger(at, item->span.first);
        at = item->span.first + item->span.count;
        if (placement_of(item) == placement || item->span.attempt != range->attempt ||
            ktwin_of(job, item))
            continue;
        if (span_set_tasks(job->twins) == TWINS_MAX)
            break;
        at = index + 1;
        if (hold_one(job, index, range->attempt, placement))
            return FARPOOL_ENOMEM;
    }
    return 0;
}

void ktwin_hold_commit(struct coordinator_core *core, struct job *job)
{
    const struct span_item *twin = span_set_first(job->twins);
    while (twin) {
        const uint64_t first = twin->span.first;
        if (twin->tag2 == HELD_NEW) {
            span_set_move(job->twins, first, job->twins, twin->span.attempt, twin->tag,
                          HELD_NOT);
            ktwin_added(core, span_set_find(job->twins, first));
        }
        twin = span_set_next(job->twins, span_set_find(job->twins, first));
    }
}

void ktwin_hold_undo(struct job *job)
{
    const struct span_item *twin = span_set_first(job->twins);
    while (twin) {
        const uint64_t first = twin->span.first, next = first + twin->span.count;
        if (twin->tag2 == HELD_NEW)
            span_set_take(job->twins, first, twin->span.count, NULL);
        twin = span_set_at_or_after(job->twins, next);
    }
}

/* ---------------------------------------------------------------- giving way */

/* Something may wait behind what this worker has of the job. */
static bool is_behind(const struct placement *placement)
{
    const struct worker *worker = placement->worker;
    const struct member *member = placement->member;
    return worker->units > worker->slots ||
           member->units > kmember_slots(member->pool, worker, member);
}

/* A placement with twins that others wait behind, or NULL. */
static struct placement *find_behind(const struct worker *worker)
{
    struct placement *placement;
    TAILQ_FOREACH (placement, &worker->placements, worker_entry)
        if (span_set_tasks(placement->job->twins) && is_behind(placement))
            return placement;
    return NULL;
}

static const struct span_item *first_twin(const struct placement *placement)
{
    const struct span_set *twins = placement->job->twins;
    const struct span_item *twin = span_set_first(twins);
    while (twin && placement_of(twin) != placement)
        twin = span_set_next(twins, twin);
    return twin;
}

static int take_back(struct coordinator_core *core, const struct worker *worker)
{
    struct placement *placement;
    TAILQ_FOREACH (placement, &worker->placements, worker_entry) {
        const struct span_item *twin;
        while (is_behind(placement) && (twin = first_twin(placement))) {
            const uint64_t index = twin->span.first;
            if (send_cancel(core, placement, &twin->span))
                return FARPOOL_ENOMEM;
            ktwin_drop(core, placement->job, twin);
            leave_back(placement->job, index);
        }
    }
    return 0;
}

int ktwin_flush_behind(struct coordinator_core *core)
{
    const struct worker *worker;
    int error = 0;
    if (!core->twins)
        return 0;
    TAILQ_FOREACH (worker, &core->joined, entry)
        if (!error && worker->twins && find_behind(worker))
            error = take_back(core, worker);
    return error;
}

/* Matching has just put something behind a twin: the next FLUSH is due at once. */
static bool is_any_behind(const struct coordinator_core *core)
{
    const struct worker *worker;
    if (!core->twins)
        return false;
    TAILQ_FOREACH (worker, &core->joined, entry) {
        const struct placement *placement;
        TAILQ_FOREACH (placement, &worker->placements, worker_entry)
            if (worker->twins && is_behind(placement) && first_twin(placement))
                return true;
    }
    return false;
}

/* --------------------------------------------------------------- speculation */

static bool is_ending(const struct job *job)
{
    const uint64_t left = span_set_tasks(job->assigned);
    return job->state == JOB_RUNNING && job->pool->state == POOL_RUNNING && left &&
           RB_EMPTY(&job->pool->ready) && kjob_is_measured(job) &&
           add_saturated(job->ended_before, job->done) >= left;
}

/* It runs all that it has of the job, by its word (which comes late, or not at all where
 * one task follows another) or because it has slots for all; or it cannot give the rest
 * back. What waits for a nested job is not slow for its node's sake. */
static bool is_steady(const struct placement *placement)
{
    return placement->tasks && !placement->blocked &&
           (placement->running >= placement->tasks || !is_behind(placement) ||
            placement->recall != RECALL_NONE);
}

static uint64_t slow_ms(const struct job *job)
{
    return larger(TWIN_LEAST_MS, TWIN_TIMES * (kjob_unit_ns(job) / 1000000 + 1));
}

/* Chunks that may begin there at once. */
static uint64_t idle_units(const struct pool *pool, const struct worker *worker)
{
    const struct member *member = kmember_find(pool, worker);
    if (!kpool_usable(pool, worker, member) || worker->reserved)
        return 0;
    return pool->processes ? smaller(worker->idle, member->idle) : worker->idle;
}

/* How many of a span's first tasks it may have; 0: none. */
static uint64_t room(const struct job *job, const struct worker *worker,
                     const struct msg_span *span)
{
    const uint64_t units = idle_units(job->pool, worker);
    const uint64_t left = subtract_saturated(worker->tasks_max, worker->tasks);
    const uint64_t bytes = subtract_saturated(worker->bytes_max, worker->bytes);
    if (!units || !left)
        return 0;
    if (worker->tasks && span_task_size(span, 0) > bytes)
        return 0;
    const uint64_t fit = worker->tasks || span_task_size(span, 0) <= bytes
                             ? span_fit(span, larger(bytes, 1))
                             : 1;
    const uint64_t twins = TWINS_MAX - span_set_tasks(job->twins);
    return smaller(smaller(smaller(units * job->unit, left), twins),
                   smaller(fit, span->count));
}

static int give_each(struct coordinator_core *core, struct job *job, uint64_t first,
                     uint64_t count, struct worker *worker)
{
    int error = 0;
    for (uint64_t index = first; index < first + count && !error; index++) {
        error = kjob_cut(job->assigned, index, index + 1);
        if (!error)
            error = kgive_twin(core, job, index, worker);
    }
    return error;
}

/* Twins for what a worker has, as long as there is room for them elsewhere. */
static int speculate_from(struct coordinator_core *core, struct job *job,
                          const struct placement *placement)
{
    const struct span_item *item = span_set_first(job->assigned);
    struct worker *worker = RB_MIN(kload_tree, &core->load);
    while (item && worker && !worker->full && span_set_tasks(job->twins) < TWINS_MAX) {
        const uint64_t first = item->span.first;
        if (placement_of(item) != placement || !may_have_twin(item) ||
            ktwin_of(job, item)) {
            item = span_set_next(job->assigned, item);
            continue;
        }
        const uint64_t tasks =
            worker == placement->worker ? 0 : room(job, worker, &item->span);
        if (!tasks) {
            worker = RB_NEXT(kload_tree, &core->load, worker);
            continue;
        }
        if (give_each(core, job, first, tasks, worker))
            return FARPOOL_ENOMEM;
        worker = RB_MIN(kload_tree, &core->load);
        item = span_set_at_or_after(job->assigned, first + tasks);
    }
    return 0;
}

static int speculate(struct coordinator_core *core, struct job *job)
{
    const bool ending = is_ending(job);
    struct placement *placement;
    int error = 0;
    RB_FOREACH (placement, kplacement_tree, &job->placements) {
        if (!is_steady(placement)) {
            placement->steady_ms = UINT64_MAX;
            continue;
        }
        placement->steady_ms = smaller(placement->steady_ms, core->now_ms);
        const uint64_t due_ms = add_saturated(placement->steady_ms, slow_ms(job));
        if (core->now_ms < due_ms)
            core->twin_ms = smaller(core->twin_ms, due_ms);
        else if (ending && !error)
            error = speculate_from(core, job, placement);
    }
    return error;
}

int ktwin_flush(struct coordinator_core *core)
{
    const uint64_t look_ms = smaller(core->twin_look_ms + TWIN_LOOK_MS, core->twin_ms);
    const bool looks = !TAILQ_EMPTY(&core->speculating) && core->now_ms >= look_ms;
    struct job *job;
    int error = 0;
    core->twin_ms = TAILQ_EMPTY(&core->speculating) || looks ? UINT64_MAX : look_ms;
    if (is_any_behind(core))
        core->twin_ms = core->now_ms;
    if (!looks)
        return 0;
    core->twin_look_ms = core->now_ms;
    TAILQ_FOREACH (job, &core->speculating, speculating_entry)
        if (!error)
            error = speculate(core, job);
    return error;
}

uint64_t ktwin_deadline(const struct coordinator_core *core)
{
    return core->twin_ms;
}

void ktwin_check(const struct job *job)
{
    const struct span_item *twin = span_set_first(job->twins);
    span_set_check(job->twins);
    for (; twin; twin = span_set_next(job->twins, twin)) {
        const struct span_item *item = span_set_find(job->assigned, twin->span.first);
        assert(item && item->span.first == twin->span.first);
        assert(item->span.count == 1 && twin->span.count == 1);
        assert(item->span.attempt == twin->span.attempt);
        assert(placement_of(twin)->job == job && twin->tag2 == HELD_NOT);
        assert(placement_of(twin)->worker != placement_of(item)->worker);
    }
}
