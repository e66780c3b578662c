/* SPDX-License-Identifier: Apache-2.0
 *
 * core_placement.c: what a worker has of a job, and every sum that follows from it: of
 * the worker (its window, its load), of the pool there (member, level) and altogether.
 * All of them are changed here and nowhere else.
 *
 * `work_ns` is an estimate as of the placement's last change: it is not touched when only
 * the job's task time changes, so that the sums stay sums and a result costs the same
 * however many workers the job has. */
#include "coordinator/core_internal.h"

int kplacement_compare(const struct placement *a, const struct placement *b)
{
    const uint64_t first = a->worker->serial, second = b->worker->serial;
    return (first > second) - (first < second);
}

RB_GENERATE_INTERNAL(kplacement_tree, placement, job_entry, kplacement_compare, )

struct placement *kplacement_find(const struct job *job, const struct worker *worker)
{
    struct placement *placement = RB_ROOT(&job->placements);
    while (placement && placement->worker != worker)
        placement = worker->serial < placement->worker->serial
                        ? RB_LEFT(placement, job_entry)
                        : RB_RIGHT(placement, job_entry);
    return placement;
}

struct placement *kplacement_get(struct job *job, struct worker *worker)
{
    struct placement *placement = kplacement_find(job, worker);
    if (placement)
        return placement;
    struct member *member = kmember_get(job->pool, worker);
    struct level *level = NULL;
    if (!member)
        return NULL;
    if (job->state != JOB_EXPECTED && !(level = kmember_level(member, job->rank)))
        return NULL;
    if (!(placement = mem_alloc(sizeof *placement)))
        return NULL;
    placement->job = job;
    placement->worker = worker;
    placement->member = member;
    placement->level = level;
    placement->steady_ms = UINT64_MAX;
    RB_INSERT(kplacement_tree, &job->placements, placement);
    TAILQ_INSERT_TAIL(&worker->placements, placement, worker_entry);
    return placement;
}

/* A task that waits for a nested job holds no slot. The pool's own jobs may have only so
 * many of them that do not count, so that not all of a job ends up waiting; nested ones
 * have no such bound, since what others wait for must find room. */
static uint64_t tasks_that_count(const struct placement *placement)
{
    const uint64_t most = (uint64_t)BLOCKED_PER_SLOT * placement->worker->slots;
    const uint64_t blocked = kjob_is_nested(placement->job)
                                 ? placement->blocked
                                 : smaller(placement->blocked, most);
    return subtract_saturated(placement->tasks, blocked);
}

/* Takes what it has now into the sums. */
static void count(struct coordinator_core *core, struct placement *placement)
{
    const struct job *job = placement->job;
    const uint64_t tasks = tasks_that_count(placement);
    const uint64_t units = tasks / job->unit + (tasks % job->unit != 0);
    const uint64_t work_ns = kjob_work_ns(job, tasks);
    /* Modulo 2^64, so a smaller one comes out right too. */
    const uint64_t more_units = units - placement->units;
    const uint64_t more_ns = work_ns - placement->work_ns;
    placement->units += more_units;
    placement->work_ns += more_ns;
    placement->member->units += more_units;
    placement->worker->units += more_units;
    placement->worker->work_ns += more_ns;
    job->pool->units += more_units;
    job->pool->work_ns += more_ns;
    placement->moved_ms = core->now_ms;
    kworker_place(core, placement->worker);
    kmember_count(core, placement->member);
}

static void count_level(const struct placement *placement, uint64_t units,
                        uint64_t work_ns)
{
    if (!placement->level)
        return;
    placement->level->units += placement->units - units;
    placement->level->work_ns += placement->work_ns - work_ns;
}

static void count_client(struct coordinator_core *core, struct client *client,
                         uint64_t tasks)
{
    client->assigned += tasks; /* modulo 2^64, as above */
    kclient_refresh(core, client);
}

/* What it has is counted down from now on. */
static void hear(struct coordinator_core *core, struct placement *placement)
{
    struct job *job = placement->job;
    const uint32_t slots =
        placement->tasks ? kmember_slots(job->pool, placement->worker, placement->member)
                         : 0;
    job->busy_slots -= placement->busy_slots;
    job->heard_slot_ms -= placement->busy_slots * placement->heard_ms;
    placement->busy_slots = slots;
    placement->heard_ms = core->now_ms;
    job->busy_slots += slots;
    job->heard_slot_ms += slots * placement->heard_ms;
}

uint64_t kplacement_unheard(const struct coordinator_core *core, const struct job *job)
{
    const uint64_t slot_ms = job->busy_slots * core->now_ms - job->heard_slot_ms;
    const uint64_t assigned = span_set_tasks(job->assigned);
    const uint64_t units = assigned / job->unit + (assigned % job->unit != 0);
    return smaller(smaller(slot_ms, UINT32_MAX) * 1000000 / kjob_unit_ns(job), units);
}

void kplacement_add(struct coordinator_core *core, struct placement *placement,
                    uint64_t tasks, uint64_t bytes)
{
    struct worker *worker = placement->worker;
    const uint64_t units = placement->units, work_ns = placement->work_ns;
    const uint64_t before = placement->member->tasks;
    placement->tasks += tasks;
    placement->bytes += bytes;
    placement->member->tasks += tasks;
    worker->tasks += tasks;
    worker->bytes += bytes;
    if (placement->job->owner)
        count_client(core, placement->job->owner, tasks);
    count(core, placement);
    count_level(placement, units, work_ns);
    if (tasks) {
        if (!placement->busy_slots)
            hear(core, placement);
        placement->steady_ms = UINT64_MAX;
        TAILQ_REMOVE(&worker->placements, placement, worker_entry);
        TAILQ_INSERT_TAIL(&worker->placements, placement, worker_entry);
    }
    if (placement->recall == RECALL_FRUITLESS)
        kplacement_recall(core, placement, RECALL_NONE, 0);
    kgrant_loaded(core, placement->member, before);
}

void kplacement_remove(struct coordinator_core *core, struct placement *placement,
                       uint64_t tasks, uint64_t bytes)
{
    struct worker *worker = placement->worker;
    const uint64_t units = placement->units, work_ns = placement->work_ns;
    const uint64_t before = placement->member->tasks;
    assert(placement->tasks >= tasks && placement->bytes >= bytes);
    placement->tasks -= tasks;
    placement->bytes -= bytes;
    placement->member->tasks -= tasks;
    worker->tasks -= tasks;
    worker->bytes -= bytes;
    if (placement->job->owner)
        count_client(core, placement->job->owner, -tasks);
    count(core, placement);
    count_level(placement, units, work_ns);
    if (!placement->tasks)
        hear(core, placement);
    if (placement->recall == RECALL_FRUITLESS)
        kplacement_recall(core, placement, RECALL_NONE, 0);
    kmatch_offer(core, placement->member);
    kworker_freed(core, worker);
    kgrant_loaded(core, placement->member, before);
}

void kplacement_recall(struct coordinator_core *core, struct placement *placement,
                       enum recall_state state, uint64_t asked)
{
    core->recalled_units += asked - placement->asked;
    placement->job->pool->recalls += (state == RECALL_ASKED);
    placement->job->pool->recalls -= (placement->recall == RECALL_ASKED);
    placement->asked = asked;
    placement->recall = state;
}

void kplacement_load(struct coordinator_core *core, struct placement *placement,
                     const struct msg_job_load *load)
{
    struct job *job = placement->job;
    const bool freed = load->blocked > placement->blocked;
    const bool changed = load->blocked != placement->blocked;
    job->running += load->running - placement->running;
    job->share_ppm += load->share_ppm - placement->share_ppm;
    placement->running = placement->told_running = load->running;
    placement->share_ppm = load->share_ppm;
    placement->blocked = load->blocked;
    if (changed)
        kplacement_add(core, placement, 0, 0);
    if (freed)
        kmatch_offer(core, placement->member);
    kstate_touch_job(core, job);
}

void kplacement_results(struct coordinator_core *core, struct placement *placement,
                        uint64_t count)
{
    struct worker *worker = placement->worker;
    const uint64_t least = larger(placement->tasks, placement->blocked);
    uint64_t ended = subtract_saturated(placement->running, least);
    ended = smaller(smaller(ended, count), worker->running);
    placement->running -= ended;
    placement->job->running -= ended;
    worker->running -= ended;
    hear(core, placement);
    if (ended)
        kstate_touch_job(core, placement->job);
}

void kplacement_given(struct coordinator_core *core, struct placement *placement,
                      uint64_t count)
{
    const uint64_t begun = smaller(placement->told_running - placement->running, count);
    placement->running += begun;
    placement->job->running += begun;
    placement->worker->running += begun;
    if (begun)
        kstate_touch_job(core, placement->job);
}

void kplacement_destroy(struct coordinator_core *core, struct placement *placement)
{
    assert(!placement->tasks && !placement->units && !placement->batch);
    kplacement_recall(core, placement, RECALL_NONE, 0);
    kplacement_load(core, placement, &(struct msg_job_load){.running = 0});
    RB_REMOVE(kplacement_tree, &placement->job->placements, placement);
    TAILQ_REMOVE(&placement->worker->placements, placement, worker_entry);
    mem_free(placement);
}
