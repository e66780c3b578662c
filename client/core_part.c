/* SPDX-License-Identifier: Apache-2.0
 *
 * core_part.c: long jobs on lanes. What has more tasks than there are slots for is dealt
 * as the coordinator deals it (part.h), to all lanes alike, while the client has lanes to
 * every node of its pool and no other pool has work there: then nobody else needs to know
 * before the account tells.
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

static uint32_t unit_of(const struct job *job)
{
    return job->options.chunk ? job->options.chunk : 1;
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

bool client_part_is_long(const struct client_core *core)
{
    return slots_of_all(core) > 0;
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

static bool has_idle(const struct client_core *core)
{
    for (uint32_t i = 0; i < LANES_MAX; i++)
        if (core->lanes[i] && core->lanes[i]->tasks < core->lanes[i]->slots)
            return true;
    return false;
}

/* Nothing waits here, one worker has idle slots and another more than slots: the
 * coordinator hears of it soon, which calls back. */
void client_part_flush(struct client_core *core)
{
    if (client_job_first_ready(core) || !has_idle(core))
        return;
    bool any = false;
    for (uint32_t i = 0; i < LANES_MAX && !any; i++)
        any = core->lanes[i] && core->lanes[i]->tasks > core->lanes[i]->slots;
    for (uint32_t i = 0; i < LANES_MAX && any; i++) {
        struct lane *lane = core->lanes[i];
        if (lane && lane->account_ms != UINT64_MAX)
            lane->account_ms = smaller(lane->account_ms, lane->told_ms + UNEVEN_MS);
    }
}
