/* SPDX-License-Identifier: Apache-2.0
 *
 * core_worker.c: workers: hello, LOAD, draining, their end; and the order in which they
 * are given tasks.
 *
 * core->load holds the ready ones, first those with a slot that has no chunk, then by
 * estimated work a slot. Members that found no room in a worker's window wait in
 * `starved`. One of them may have the worker reserved: it needs more bytes than are free,
 * and nobody else is given any there until it had its turn, so that a large task is not
 * kept out for ever by small ones. */
#include "coordinator/core_internal.h"

#include <stdio.h>
#include <string.h>

int kload_compare(const struct worker *a, const struct worker *b)
{
    if (a->full != b->full)
        return a->full ? 1 : -1;
    if (a->slot_ns != b->slot_ns)
        return a->slot_ns > b->slot_ns ? 1 : -1;
    return (a->serial > b->serial) - (a->serial < b->serial);
}

RB_GENERATE_INTERNAL(kload_tree, worker, load_entry, kload_compare, )

void kworker_place(struct coordinator_core *core, struct worker *worker)
{
    if (worker->state != WORKER_READY)
        return;
    RB_REMOVE(kload_tree, &core->load, worker);
    core->idle_units -= worker->idle;
    worker->full = worker->units >= worker->slots;
    worker->idle = worker->full ? 0 : worker->slots - worker->units;
    worker->slot_ns = worker->work_ns / worker->slots;
    core->idle_units += worker->idle;
    RB_INSERT(kload_tree, &core->load, worker);
}

void kworker_freed(struct coordinator_core *core, struct worker *worker)
{
    struct member *member;
    while ((member = TAILQ_FIRST(&worker->starved))) {
        kmatch_withdraw(member);
        kmatch_offer(core, member);
    }
}

void kworker_unreserve(struct coordinator_core *core, struct pool *pool)
{
    struct worker *worker = pool->reserving;
    if (!worker)
        return;
    pool->reserving = NULL;
    worker->reserved = NULL;
    kworker_freed(core, worker);
}

struct worker *kworker_find(const struct coordinator_core *core, const struct id *id)
{
    struct worker *worker;
    HASH_FIND(hh, core->workers, id, sizeof *id, worker);
    return worker;
}

/* -------------------------------------------------------------------- hello */

static struct worker *create(struct coordinator_core *core, struct link *link,
                             const struct message *message)
{
    bool failed = false;
    struct worker *worker = mem_alloc(sizeof *worker);
    if (!worker)
        return NULL;
    worker->id = message->hello_worker.worker;
    worker->link = link;
    memcpy(worker->node, message->hello_worker.node, sizeof worker->node);
    memcpy(worker->machine, message->hello_worker.machine, sizeof worker->machine);
    memcpy(worker->labels, message->hello_worker.labels, sizeof worker->labels);
    memcpy(worker->lanes, message->hello_worker.lanes, sizeof worker->lanes);
    worker->slots = message->hello_worker.slots;
    worker->memory_bytes = message->hello_worker.memory_bytes;
    worker->tasks_max =
        larger(1, smaller(message->hello_worker.tasks_max, WORKER_TASKS_MAX));
    worker->bytes_max = message->hello_worker.bytes_max;
    worker->resumed =
        !id_is_zero(&message->hello_worker.previous) &&
        !id_equal(&message->hello_worker.previous, &core->config.coordinator);
    worker->joined_ms = core->now_ms;
    TAILQ_INIT(&worker->members);
    TAILQ_INIT(&worker->starved);
    TAILQ_INIT(&worker->placements);
    TAILQ_INIT(&worker->askings);
    TAILQ_INIT(&worker->asked);
    TAILQ_INIT(&worker->begun);
    TAILQ_INIT(&worker->hosted);
    HASH_ADD(hh, core->workers, id, sizeof worker->id, worker);
    if (failed) {
        mem_free(worker);
        return NULL;
    }
    return worker;
}

static void join(struct coordinator_core *core, struct worker *worker)
{
    worker->serial = ++core->next_worker;
    TAILQ_INSERT_TAIL(&core->joined, worker, entry);
    RB_INSERT(kload_tree, &core->load, worker);
    core->nodes++;
    core->slots += worker->slots;
    worker->idle = worker->slots;
    core->idle_units += worker->idle;
    core->renode = true;
    worker->link->worker = worker;
    klink_greet(core, worker->link, LINK_WORKER);
}

/* It is given no more: what it counts for among the ready ones goes. */
static void retire(struct coordinator_core *core, struct worker *worker)
{
    struct member *member;
    RB_REMOVE(kload_tree, &core->load, worker);
    core->nodes--;
    core->slots -= worker->slots;
    core->idle_units -= worker->idle;
    core->renode = true;
    TAILQ_FOREACH (member, &worker->members, worker_entry) {
        if (member->state == MEMBER_FAILED) {
            member->pool->failed_nodes--;
            member->pool->failed_slots -= worker->slots;
        }
        kmatch_withdraw(member);
    }
    if (worker->reserved)
        kworker_unreserve(core, worker->reserved->pool);
    worker->state = WORKER_DRAINING;
    TAILQ_FOREACH (member, &worker->members, worker_entry)
        kmember_count(core, member);
}

int kworker_hello(struct coordinator_core *core, struct link *link,
                  const struct message *message)
{
    const struct message *hello = message;
    if (id_is_zero(&hello->hello_worker.worker) || !hello->hello_worker.slots)
        return klink_drop(core, link, FARPOOL_EPROTOCOL,
                          "a worker without an id, or without slots");
    struct worker *old = kworker_find(core, &hello->hello_worker.worker);
    if (old && !hash_equal(&old->link->holder.key, &link->holder.key))
        return klink_refuse(core, link, FARPOOL_EKEY,
                            "the key \"%s\" cannot take over a worker of another key",
                            link->holder.name);
    if (!old && HASH_COUNT(core->workers) >= core->config.workers_max)
        return klink_refuse(core, link, FARPOOL_EWORKERLIMIT,
                            "the coordinator already has %u workers (its limit)",
                            core->config.workers_max);
    struct worker *worker = create(core, link, message);
    if (!worker)
        return FARPOOL_ENOMEM;
    const char *why = "the worker came back on another connection";
    int error = old ? kworker_tell_gone(core, old, why) : 0;
    if (old && !error)
        error = klink_tell_drop(core, old->link, FARPOOL_ECLOSED, why);
    if (!error)
        error = klink_tell_welcome(core, link, false);
    struct wish *drain =
        old && old->drain ? old->drain : kwish_find(core, &worker->id, 0);
    if (!error && drain)
        error = kadmin_tell_drain(core, worker);
    if (error) {
        HASH_DEL(core->workers, worker);
        mem_free(worker);
        return error;
    }
    if (old)
        kworker_forget(core, old, why); /* and leave its wish */
    join(core, worker);
    worker->drain = kwish_take(core, drain);
    if (drain)
        retire(core, worker);
    return 0;
}

/* --------------------------------------------------------- draining, leaving */

int kworker_drain(struct coordinator_core *core, struct worker *worker)
{
    if (worker->state == WORKER_READY)
        retire(core, worker);
    return 0;
}

int kworker_tell_gone(struct coordinator_core *core, const struct worker *worker,
                      const char *text)
{
    int error = klane_tell_gone(core, worker->link);
    const struct placement *placement;
    TAILQ_FOREACH (placement, &worker->placements, worker_entry)
        if (!error && placement->tasks && placement->job->owner)
            error = klost_tell(core, placement, text);
    return error ? error : klogs_tell_gone(core, worker);
}

static void drop_assigned(struct coordinator_core *core, struct placement *placement)
{
    struct job *job = placement->job;
    ktwin_lose_all(core, placement);
    const struct span_item *item = span_set_first(job->assigned);
    while (item && placement->tasks) {
        const uint64_t end = item->span.first + item->span.count;
        if (placement_of(item) == placement && !ktwin_outlive(core, job, item))
            kjob_end_span(core, job, job->assigned, item);
        item = span_set_at_or_after(job->assigned, end);
    }
    kjob_refresh(core, job);
}

static void note_gone(struct coordinator_core *core, const struct worker *worker,
                      const char *why)
{
    struct gone *gone = &core->gone[core->gone_count++ % GONE_MAX];
    snprintf(gone->node, sizeof gone->node, "%s", worker->node);
    snprintf(gone->why, sizeof gone->why, "%s", why);
    gone->tasks = worker->tasks;
    gone->at_ms = core->now_ms;
}

void kworker_forget(struct coordinator_core *core, struct worker *worker, const char *why)
{
    struct placement *placement;
    struct member *member;
    if (why)
        note_gone(core, worker, why);
    if (worker->state == WORKER_READY)
        retire(core, worker);
    kwish_leave(core, &worker->drain);
    klogs_forget_worker(core, worker);
    kwatch_forget_worker(worker);
    while ((placement = TAILQ_FIRST(&worker->placements))) {
        drop_assigned(core, placement);
        kplacement_destroy(core, placement);
    }
    while ((member = TAILQ_FIRST(&worker->members)))
        kmember_destroy(core, member);
    assert(TAILQ_EMPTY(&worker->starved) && !worker->tasks && !worker->units);
    klink_forget(core, worker->link);
    TAILQ_REMOVE(&core->joined, worker, entry);
    HASH_DEL(core->workers, worker);
    mem_free(worker);
}

/* --------------------------------------------------------------------- LOAD */

static void load_members(struct coordinator_core *core, struct worker *worker,
                         uint64_t processes, uint64_t started)
{
    struct member *member;
    TAILQ_FOREACH (member, &worker->members, worker_entry) {
        if (!kmember_knows(member))
            continue;
        member->pool->alive += processes - worker->processes;
        member->pool->started += started - worker->started;
        kstate_touch_pool(core, member->pool);
    }
}

int kworker_load(struct coordinator_core *core, struct worker *worker,
                 const struct message *message)
{
    const uint64_t processes = message->load.processes;
    const uint64_t started = message->load.started;
    if (started < worker->started)
        return klink_drop(core, worker->link, FARPOOL_EPROTOCOL,
                          "LOAD with fewer processes started than before");
    if (message->load.lane_done < worker->lane_done)
        return klink_drop(core, worker->link, FARPOOL_EPROTOCOL,
                          "LOAD with fewer tasks ended on lanes than before");
    if (processes != worker->processes || started != worker->started)
        load_members(core, worker, processes, started);
    worker->processes = processes;
    worker->started = started;
    worker->lane_done = message->load.lane_done;
    worker->running = 0;
    kwatch_load(worker, message);
    for (uint32_t i = 0; i < message->load.jobs_count; i++) {
        const struct msg_job_load *load = &message->load.jobs[i];
        const struct pool *pool = kpool_find(core, &load->pool);
        const struct job *job = pool ? kjob_find(pool, load->job) : NULL;
        struct placement *placement = job ? kplacement_find(job, worker) : NULL;
        worker->running += load->running;
        if (placement)
            kplacement_load(core, placement, load);
    }
    return 0;
}
