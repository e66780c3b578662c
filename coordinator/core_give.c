/* SPDX-License-Identifier: Apache-2.0
 *
 * core_give.c: how many tasks of a job a worker is given, and the TASKS message.
 *
 * As part.h has it, of a pool counting only what ranks at least as high. Chunks of some
 * length first fill idle slots everywhere before any worker has one waiting.
 *
 * All spans that a worker is given of a job in one FLUSH go into one message, up to
 * SPANS_MAX spans and BATCH_BYTES. */
#include "coordinator/core_internal.h"

#include <string.h>

/* ----------------------------------------------------------------- how many */

static void count_ahead(const struct member *member, int32_t rank, uint64_t *ret_units,
                        uint64_t *ret_ns)
{
    const struct level *level;
    *ret_units = 0;
    *ret_ns = 0;
    if (!member)
        return;
    SLIST_FOREACH(level, &member->levels, entry)
    {
        if (level->rank < rank)
            continue;
        *ret_units += level->units;
        *ret_ns += level->work_ns;
    }
}

/* Chunks that the pool may have there beyond what it has. */
static uint64_t pool_room(const struct job *job, const struct member *member,
                          uint32_t slots)
{
    uint64_t units, ns;
    count_ahead(member, job->rank, &units, &ns);
    const uint64_t least = subtract_saturated((uint64_t)AHEAD_TASKS * slots, units);
    const uint64_t most_ns = part_room((uint64_t)HORIZON_NS * slots, ns);
    return larger(least, most_ns / kjob_unit_ns(job));
}

/* Chunks that the pool may have at a worker whose slots are all in use, beyond what it
 * has there: its even part of all that it has given and this job's that wait. A pool has
 * a turn at a worker's slots only while it has tasks there; so many pools are served
 * alike only if each is at every worker, however small its jobs are. */
static uint64_t even_room(const struct coordinator_core *core, const struct job *job,
                          const struct member *member, uint32_t slots)
{
    const struct pool *pool = job->pool;
    const uint64_t all = larger(kpool_slots(core, pool), slots);
    const uint64_t waiting = span_set_tasks(job->waiting);
    const uint64_t units = pool->units + waiting / job->unit + (waiting % job->unit != 0);
    const uint64_t part = units / all * slots + (units % all * slots + all - 1) / all;
    return subtract_saturated(part, member ? member->units : 0);
}

/* Chunks of the job that the worker may have in all. */
static uint64_t fair_part(const struct coordinator_core *core, const struct job *job,
                          uint32_t slots)
{
    const uint64_t tasks = span_set_tasks(job->waiting) + span_set_tasks(job->assigned);
    const uint64_t units =
        tasks / job->unit + (tasks % job->unit != 0) - kplacement_unheard(core, job);
    return part_fair(units, kjob_unit_ns(job), slots, kpool_slots(core, job->pool));
}

static uint64_t job_room(const struct coordinator_core *core, const struct job *job,
                         const struct placement *placement, uint32_t slots)
{
    const uint64_t ramp = (uint64_t)job->ramp * slots;
    const uint64_t most = smaller(ramp, fair_part(core, job, slots));
    return part_room(most, placement ? placement->units : 0);
}

/* One helping: not beyond the idle slots, while there are any and the chunks are long. */
static uint64_t helping(const struct coordinator_core *core, const struct job *job,
                        const struct worker *worker, uint64_t units)
{
    if (kpool_slots(core, job->pool) <= worker->slots || worker->full ||
        kjob_unit_ns(job) < SPREAD_NS)
        return units;
    return smaller(units, worker->idle);
}

/* ---------------------------------------------------------------- the window */

static uint64_t first_bytes(const struct job *job)
{
    return span_task_size(&span_set_first(job->waiting)->span, 0);
}

/* How many bytes of input the worker may be given now; 0: not even the first task. A task
 * larger than the whole window passes when nothing else is there. */
static uint64_t window_bytes(const struct worker *worker, const struct job *job)
{
    const uint64_t first = first_bytes(job);
    const uint64_t left = subtract_saturated(worker->bytes_max, worker->bytes);
    if (!worker->tasks)
        return larger(larger(left, first), 1);
    /* Beside one that is larger than the window nothing passes, not even an empty one. */
    return first > left || worker->bytes > worker->bytes_max ? 0 : larger(left, 1);
}

static enum give starve(struct job *job, struct worker *worker, bool for_bytes)
{
    struct pool *pool = job->pool;
    struct member *member = kmember_get(pool, worker);
    if (!member)
        return GIVE_NOMEM;
    kmatch_withdraw(member);
    member->place = PLACE_STARVED;
    TAILQ_INSERT_TAIL(&worker->starved, member, starved_entry);
    if (for_bytes)
        pool->starved_bytes = larger(pool->starved_bytes, first_bytes(job));
    if (for_bytes && !worker->reserved && !pool->reserving) {
        worker->reserved = member;
        pool->reserving = worker;
    }
    return GIVE_WINDOW;
}

/* ---------------------------------------------------------------- the message */

static void close_batch(struct coordinator_core *core, struct placement *placement)
{
    TAILQ_REMOVE(&core->batches, placement, batch_entry);
    placement->batch = NULL;
    placement->batch_bytes = 0;
    placement->batch_capacity = 0;
}

void kgive_flush(struct coordinator_core *core)
{
    struct placement *placement;
    while ((placement = TAILQ_FIRST(&core->batches)))
        close_batch(core, placement);
}

static int begin_batch(struct coordinator_core *core, struct placement *placement)
{
    struct message *message = message_create(MSG_TASKS);
    size_t capacity = 0;
    if (message &&
        !mem_reserve(&message->tasks.spans, &capacity, 1, sizeof *message->tasks.spans))
        message_free(&message);
    if (message) {
        message->tasks.pool = placement->job->pool->id;
        message->tasks.job = placement->job->number;
    }
    placement->batch = message; /* the effects' until the FLUSH is over */
    if (ksend(core, placement->worker->link, &message)) {
        placement->batch = NULL;
        return FARPOOL_ENOMEM;
    }
    placement->batch_capacity = capacity;
    TAILQ_INSERT_TAIL(&core->batches, placement, batch_entry);
    return 0;
}

/* Room for one more span in the message being filled, or in a new one. */
static int open_batch(struct coordinator_core *core, struct placement *placement)
{
    struct message *message = placement->batch;
    if (!message)
        return begin_batch(core, placement);
    const size_t count = (size_t)message->tasks.spans_count + 1;
    return mem_reserve(&message->tasks.spans, &placement->batch_capacity, count,
                       sizeof *message->tasks.spans)
               ? 0
               : FARPOOL_ENOMEM;
}

static int open_job(struct coordinator_core *core, struct placement *placement)
{
    const struct job *job = placement->job;
    struct member *member = placement->member;
    if (member->state != MEMBER_OPEN && kmember_send_open(core, member))
        return FARPOOL_ENOMEM;
    if (placement->state == PLACEMENT_OPEN)
        return 0;
    struct message *message = message_create(MSG_JOB_OPEN);
    if (message) {
        message->job_open.pool = job->pool->id;
        message->job_open.job = job->number;
        memcpy(message->job_open.function, job->function, sizeof job->function);
        message->job_open.chunk = job->chunk;
        message->job_open.timeout_ms = job->timeout_ms;
        message->job_open.cpu_ms = job->cpu_ms;
        message->job_open.memory_bytes = job->memory_bytes;
        message->job_open.priority = job->priority;
        message->job_open.tasks = job->tasks;
        message->job_open.once = job->once;
        message->job_open.resumed = job->resumed;
        message->job_open.calls = job->calls;
        message->job_open.whole = job->whole;
    }
    if (ksend(core, placement->worker->link, &message))
        return FARPOOL_ENOMEM;
    placement->state = PLACEMENT_OPEN;
    return 0;
}

/* --------------------------------------------------------------------- giving */

static int give_span(struct coordinator_core *core, struct placement *placement,
                     uint64_t tasks, uint64_t bytes, uint64_t *ret_tasks)
{
    struct job *job = placement->job;
    const struct span_item *item = span_set_first(job->waiting);
    const struct message *batch = placement->batch;
    const uint64_t batch_left = subtract_saturated(BATCH_BYTES, placement->batch_bytes);
    const bool batch_full =
        batch &&
        (batch->tasks.spans_count == SPANS_MAX ||
         (placement->batch_bytes && span_task_size(&item->span, 0) > batch_left));
    if (batch_full)
        close_batch(core, placement);
    const uint64_t most = smaller(bytes, batch_full ? BATCH_BYTES : batch_left);
    const uint64_t first = item->span.first;
    const uint32_t count = part_cut(&item->span, job->unit, tasks, larger(most, 1));
    if (span_set_cut(job->waiting, first + count) || open_batch(core, placement))
        return FARPOOL_ENOMEM;
    item = span_set_first(job->waiting);
    struct message *message = placement->batch;
    span_share(&item->span, &message->tasks.spans[message->tasks.spans_count++]);
    const uint64_t size = span_bytes(&item->span);
    placement->batch_bytes += size;
    span_set_move(job->waiting, first, job->assigned, item->span.attempt,
                  (uintptr_t)placement, item->span.watch ? HELD_WATCHED : HELD_NOT);
    core->waiting -= count;
    core->assigned += count;
    kplacement_add(core, placement, count, size);
    kplacement_given(core, placement, count);
    *ret_tasks = count;
    return 0;
}

/* Gives up to so many tasks, of so many bytes as the window has, or of any. */
static enum give give_tasks(struct coordinator_core *core, struct placement *placement,
                            uint64_t tasks, bool any_bytes)
{
    struct job *job = placement->job;
    struct worker *worker = placement->worker;
    int error = open_job(core, placement);
    uint64_t given = 0, bytes;
    while (!error && given < tasks && span_set_tasks(job->waiting) &&
           (bytes = any_bytes ? UINT64_MAX : window_bytes(worker, job))) {
        uint64_t count = 0;
        error = give_span(core, placement, tasks - given, bytes, &count);
        given += count;
    }
    if (!span_set_tasks(job->waiting))
        kjob_refresh(core, job);
    if (given && job->pool->reserving)
        kworker_unreserve(core, job->pool);
    return error ? GIVE_NOMEM : GIVE_GAVE;
}

/* Chunks that the worker may be given now; or why none. */
static enum give find_room(struct coordinator_core *core, const struct job *job,
                           const struct worker *worker, const struct member *member,
                           uint64_t *ret_units)
{
    if (!kpool_usable(job->pool, worker, member))
        return GIVE_NO;
    const struct placement *placement = kplacement_find(job, worker);
    const uint32_t slots = kmember_slots(job->pool, worker, member);
    uint64_t units = pool_room(job, member, slots);
    if (worker->full)
        units = smaller(units, even_room(core, job, member, slots));
    if (!units)
        return GIVE_NO;
    *ret_units = smaller(units, job_room(core, job, placement, slots));
    return *ret_units ? GIVE_GAVE : GIVE_PASSED;
}

static enum give give_units(struct coordinator_core *core, struct job *job,
                            struct worker *worker, uint64_t units)
{
    const uint64_t tasks =
        units > UINT64_MAX / job->unit ? UINT64_MAX : units * job->unit;
    const uint64_t left = subtract_saturated(worker->tasks_max, worker->tasks);
    struct placement *placement = kplacement_get(job, worker);
    if (!placement)
        return GIVE_NOMEM;
    placement->member->given = ++core->next_given;
    return give_tasks(core, placement, smaller(tasks, left), false);
}

/* Whether the worker is kept for another member, or may have no more tasks. */
static bool is_closed(const struct worker *worker, const struct member *member)
{
    return worker->tasks >= worker->tasks_max ||
           (worker->reserved && worker->reserved != member);
}

enum give kgive(struct coordinator_core *core, struct job *job, struct worker *worker)
{
    const struct member *member = kmember_find(job->pool, worker);
    uint64_t units = 0;
    const enum give room = find_room(core, job, worker, member, &units);
    if (room == GIVE_GAVE) {
        if (is_closed(worker, member))
            return starve(job, worker, false);
        if (!window_bytes(worker, job))
            return starve(job, worker, true);
        return give_units(core, job, worker, helping(core, job, worker, units));
    }
    if (member && worker->reserved == member)
        kworker_unreserve(core, job->pool);
    return room;
}

enum give kgive_one(struct coordinator_core *core, struct job *job, struct worker *worker,
                    bool within)
{
    const struct member *member = kmember_find(job->pool, worker);
    if (!kpool_usable(job->pool, worker, member))
        return GIVE_NO;
    if (!is_closed(worker, member) && window_bytes(worker, job))
        return give_units(core, job, worker, 1);
    if (within)
        return GIVE_NO;
    struct placement *placement = kplacement_get(job, worker);
    return placement ? give_tasks(core, placement, 1, true) : GIVE_NOMEM;
}

/* A message of its own: these are few. */
static int send_twin(struct coordinator_core *core, const struct placement *placement,
                     const struct msg_span *span)
{
    struct message *message = message_create(MSG_TASKS);
    if (message && !(message->tasks.spans = mem_alloc(sizeof *span)))
        message_free(&message);
    if (message && span_share(span, message->tasks.spans))
        message_free(&message);
    if (message) {
        message->tasks.pool = placement->job->pool->id;
        message->tasks.job = placement->job->number;
        message->tasks.spans_count = 1;
    }
    return ksend(core, placement->worker->link, &message);
}

int kgive_twin(struct coordinator_core *core, struct job *job, uint64_t index,
               struct worker *worker)
{
    const struct span_item *item = span_set_find(job->assigned, index);
    struct placement *placement = kplacement_get(job, worker);
    struct msg_span span;
    if (!placement || open_job(core, placement) || span_share(&item->span, &span))
        return FARPOOL_ENOMEM;
    if (span_set_add(job->twins, &span, (uintptr_t)placement, HELD_NOT)) {
        span_fini(&span);
        return FARPOOL_ENOMEM;
    }
    if (send_twin(core, placement, &item->span)) {
        span_set_take(job->twins, index, 1, NULL);
        return FARPOOL_ENOMEM;
    }
    ktwin_added(core, span_set_find(job->twins, index));
    return 0;
}
