/* SPDX-License-Identifier: Apache-2.0
 *
 * core_part.c: long jobs on lanes. What has more tasks than there are slots for is dealt
 * as the coordinator deals it (part.h), to all lanes alike, while the client has lanes to
 * every node of its pool and no other pool has work there: then nobody else needs to know
 * before the account tells. At its end the client calls back (RECALL) what waits behind
 * slots while others idle, and deals it again.
 *
 * What a job's tasks take, and how far it may go, the next job of the same function
 * begins with. */
#include "client/core_internal.h"

#include <string.h>

/* ------------------------------------------------------------ a task's time */

static struct recent *recent_of(struct client_core *core, const struct job *job)
{
    for (int i = 0; i < RECENT_FUNCTIONS; i++)
        if (strcmp(core->recents[i].function, job->options.function) == 0)
            return &core->recents[i];
    return NULL;
}

void client_part_borrow(struct client_core *core, struct job *job)
{
    struct recent *recent = recent_of(core, job);
    if (!recent) {
        recent = &core->recents[core->recent_next++ % RECENT_FUNCTIONS];
        memcpy(recent->function, job->options.function, sizeof recent->function);
        recent->task_ns = 0;
        recent->ramp = RAMP_FIRST;
    }
    job->usual_ns = recent->task_ns;
    job->ramp = recent->ramp;
}

/* What a chunk takes, as far as it is known; at least 1. */
static uint64_t unit_ns(const struct job *job)
{
    const uint64_t mean_ns = client_average_mean(&job->elapsed_ns);
    const uint64_t task_ns = job->elapsed_ns.count ? mean_ns : job->usual_ns;
    const uint64_t unit = unit_of(job);
    if (!task_ns)
        return job->elapsed_ns.count ? unit : UNMEASURED_NS;
    return task_ns > UINT64_MAX / unit ? UINT64_MAX : task_ns * unit;
}

void client_part_measure(struct client_core *core, struct job *job)
{
    struct recent *recent = recent_of(core, job);
    job->ramp = part_ramp(job->ramp, unit_ns(job));
    if (recent) {
        recent->task_ns = client_average_mean(&job->elapsed_ns);
        recent->ramp = job->ramp;
    }
}

/* ------------------------------------------------------------------- how much */

static uint64_t units_of(const struct job *job, uint64_t tasks)
{
    const uint32_t unit = unit_of(job);
    return tasks / unit + (tasks % unit != 0);
}

/* Chunks that have ended by now, as far as can be told, and were not told of. */
static uint64_t unheard(const struct client_core *core, const struct job *job)
{
    uint64_t units = 0;
    for (uint32_t i = 0; i < LANES_MAX; i++) {
        const struct lane *lane = core->lanes[i];
        if (!lane || !lane->tasks)
            continue;
        const uint64_t slot_ms = lane->slots * (core->now_ms - lane->moved_ms);
        units += smaller(smaller(slot_ms, UINT32_MAX) * 1000000 / unit_ns(job),
                         units_of(job, lane->tasks));
    }
    return units;
}

/* All that the pool has, if its lanes are for all of it; else 0. */
static uint64_t slots_of_all(const struct client_core *core)
{
    uint64_t slots = 0;
    for (uint32_t i = 0; i < LANES_MAX; i++)
        if (core->lanes[i] && core->lanes[i]->state == LANE_UP)
            slots += core->lanes[i]->slots;
    return slots == core->slots ? slots : 0;
}

static uint64_t units_at(const struct job *job, const struct lane *lane)
{
    return units_of(job, lane->tasks) + lane->busy;
}

static uint64_t left_of(const struct client_core *core, const struct job *job)
{
    const uint64_t tasks = span_set_tasks(job->waiting) + span_set_tasks(job->sent);
    return subtract_saturated(units_of(job, tasks), unheard(core, job));
}

/* Chunks that the lane may be given, of so many that are left. Those of some length fill
 * idle slots everywhere before any worker has one waiting. */
static uint64_t room_of(const struct job *job, const struct lane *lane, uint64_t left,
                        uint64_t all)
{
    const uint64_t each_ns = unit_ns(job), units = units_at(job, lane);
    uint64_t most = smaller(lane->slots * (uint64_t)job->ramp,
                            part_fair(left, each_ns, lane->slots, all));
    most = smaller(most, larger(HORIZON_NS / each_ns, AHEAD_TASKS) * lane->slots);
    const uint64_t room = part_room(most, units);
    const bool spreads = lane->slots < all && units < lane->slots && each_ns >= SPREAD_NS;
    return spreads ? smaller(room, lane->slots - units) : room;
}

static bool is_less_loaded(const struct job *job, const struct lane *a,
                           const struct lane *b)
{
    return units_at(job, a) * b->slots < units_at(job, b) * a->slots;
}

bool client_part_is_long(struct client_core *core)
{
    if (slots_of_all(core))
        core->long_ms = core->now_ms + GRACE_MS;
    return client_lanes_carry(core) ? core->now_ms < core->long_ms
                                    : slots_of_all(core) > 0;
}

struct lane *client_part_find(const struct client_core *core, const struct job *job,
                              uint64_t *ret_tasks)
{
    const uint64_t all = slots_of_all(core), left = left_of(core, job);
    struct lane *best = NULL;
    uint64_t units = 0;
    for (uint32_t i = 0; i < LANES_MAX && all; i++) {
        struct lane *lane = core->lanes[i];
        if (!lane || lane->state != LANE_UP || (best && !is_less_loaded(job, lane, best)))
            continue;
        const uint64_t room = room_of(job, lane, left, all);
        if (!room)
            continue;
        best = lane;
        units = room;
    }
    *ret_tasks = units > UINT64_MAX / unit_of(job) ? UINT64_MAX : units * unit_of(job);
    return best;
}

/* ---------------------------------------------------------------- at the end */

static uint64_t surplus_of(const struct job *job, const struct lane *lane)
{
    return subtract_saturated(units_at(job, lane), lane->slots);
}

/* Slots that have nothing to do, and nothing on its way to them. */
static uint64_t idle_slots(const struct client_core *core)
{
    uint64_t idle = 0, recalled = 0;
    for (uint32_t i = 0; i < LANES_MAX; i++) {
        const struct lane *lane = core->lanes[i];
        if (!lane)
            continue;
        idle += subtract_saturated(lane->slots, lane->tasks + lane->busy);
        recalled += lane->recalled;
    }
    return subtract_saturated(idle, recalled);
}

/* The youngest job that has something there, for its tasks are the least likely to have
 * begun; but for those that have just brought nothing. */
static struct job *youngest_on(const struct client_core *core, const struct lane *lane)
{
    struct job *job =
        core->jobs ? ELMT_FROM_HH(core->jobs->hh.tbl, core->jobs->hh.tbl->tail) : NULL;
    for (int i = 0; job && i < RECALL_JOBS; i++, job = job->hh.prev)
        if (job->number < lane->fruitless && client_lane_has(job, lane))
            return job;
    return NULL;
}

/* What is called back from a lane; NULL: nothing that is worth it now. */
static struct job *job_behind(struct client_core *core, const struct lane *lane)
{
    struct job *job = lane->recalled || !lane->tasks ? NULL : youngest_on(core, lane);
    if (!job || !surplus_of(job, lane))
        return NULL;
    const uint64_t due_ms = lane->moved_ms + RECALL_WAIT_MS;
    const uint64_t each = RECALL_NS * lane->slots / unit_ns(job);
    if (surplus_of(job, lane) > each || core->now_ms >= due_ms)
        return job;
    core->recall_ms = smaller(core->recall_ms, due_ms);
    return NULL;
}

static int recall(struct client_core *core, struct lane *lane, const struct job *job,
                  uint64_t idle, struct client_effects *effects)
{
    const uint64_t units = part_recall(surplus_of(job, lane), idle, unit_ns(job));
    struct message *message = message_create(MSG_RECALL);
    if (message) {
        message->recall.pool = core->config.pool;
        message->recall.job = job->number;
        message->recall.tasks = units * unit_of(job);
    }
    if (client_lane_send(core, lane, &message, effects))
        return FARPOOL_ENOMEM;
    lane->recalled = smaller(units, idle);
    return 0;
}

static uint64_t by_the_coordinator(const struct client_core *core)
{
    uint64_t tasks = core->sent_tasks;
    for (uint32_t i = 0; i < LANES_MAX; i++)
        tasks -= core->lanes[i] ? core->lanes[i]->tasks : 0;
    return tasks;
}

/* It has tasks to place, and there is room that it may not know of. */
static void tell_soon(struct client_core *core)
{
    for (uint32_t i = 0; i < LANES_MAX; i++) {
        struct lane *lane = core->lanes[i];
        if (lane && lane->account_ms != UINT64_MAX)
            lane->account_ms = smaller(lane->account_ms, lane->told_ms + UNEVEN_MS);
    }
}

/* Nothing waits here, some slots are idle, and on others' lanes something waits. */
int client_part_flush(struct client_core *core, struct client_effects *effects)
{
    uint64_t idle = idle_slots(core);
    core->recall_ms = UINT64_MAX;
    if (idle && by_the_coordinator(core))
        tell_soon(core);
    if (client_job_first_ready(core) && core->now_ms < core->long_ms)
        core->recall_ms = core->long_ms;
    if (client_job_first_ready(core) || !slots_of_all(core))
        return 0;
    for (uint32_t i = 0; i < LANES_MAX && idle; i++) {
        struct lane *lane = core->lanes[i];
        const struct job *job =
            lane && lane->state == LANE_UP ? job_behind(core, lane) : NULL;
        if (!job)
            continue;
        if (recall(core, lane, job, idle, effects))
            return FARPOOL_ENOMEM;
        idle = idle_slots(core);
    }
    return 0;
}

static int cut(struct job *job, const struct msg_range *range)
{
    const int error = span_set_cut(job->sent, range->first);
    return error ? error
                 : span_set_cut(job->sent, add_saturated(range->first, range->count));
}

/* To be dealt again, in the same attempt, which has not begun. */
static void take_back(struct client_core *core, const struct lane *lane, struct job *job,
                      const struct msg_range *range)
{
    const uint64_t end = add_saturated(range->first, range->count);
    const struct span_item *item = span_set_at_or_after(job->sent, range->first);
    while (item && item->span.first < end) {
        const uint64_t first = item->span.first, next = first + item->span.count;
        if (lane_of(item) == lane->place && item->span.attempt == range->attempt)
            client_job_move(core, job->sent, first, job->waiting, item->span.attempt,
                            item->tag, failures_of(item), job);
        item = span_set_at_or_after(job->sent, next);
    }
}

int client_part_returned(struct client_core *core, struct lane *lane,
                         const struct message *message)
{
    struct job *job = client_job_find(core, message->returned.job);
    const struct msg_range *ranges = message->returned.ranges;
    const uint32_t count = message->returned.ranges_count;
    for (uint32_t i = 0; job && i < count; i++)
        if (cut(job, &ranges[i]))
            return FARPOOL_ENOMEM;
    for (uint32_t i = 0; job && i < count; i++)
        take_back(core, lane, job, &ranges[i]);
    lane->recalled = 0;
    lane->fruitless = count ? UINT64_MAX : message->returned.job;
    if (job)
        client_job_settle(core, job);
    return 0;
}
