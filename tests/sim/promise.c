/* SPDX-License-Identifier: Apache-2.0
 *
 * promise.c: what nobody would notice by a task that fails or hangs: who is taken for
 * dead has given cause for it, a worker that drains is given no more, what is cancelled
 * is not begun, what is more urgent goes first, a result ends only the attempt that is
 * under way, who is cut off for too long drops what it has, and memory stays within a
 * bound. Each is shown to fail by a fault in
 * tests/seeded or a line of SIM_BREAKS. */
#include "sim.h"

#include <stdio.h>

#ifdef SIM_SANITIZED /* its header is not everywhere */
size_t __sanitizer_get_current_allocated_bytes(void);
#else
#include <malloc.h>
#endif

/* Twice what 10,000 seeds stay below. */
#define HEAP_BYTES_MAX ((size_t)4 << 20)
#define HEAP_PERIOD 512

static size_t heap_bytes(void)
{
#ifdef SIM_SANITIZED
    return __sanitizer_get_current_allocated_bytes();
#else
    const struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
#endif
}

void sim_promise_begin(struct sim *sim)
{
    sim->heap_before = heap_bytes();
}

/* Now and then: all that is in use, the harness's own included. */
void sim_promise_check_heap(struct sim *sim)
{
    if (sim->steps % HEAP_PERIOD != 0)
        return;
    const size_t bytes = heap_bytes();
    const size_t more = bytes > sim->heap_before ? bytes - sim->heap_before : 0;
    if (more > sim->heap_most)
        sim->heap_most = more;
    if (more > HEAP_BYTES_MAX)
        sim_fail(sim, "%zu bytes of memory are in use", more);
}

/* ------------------------------------------------------------------ silence */

static bool was_disturbed(const struct actor *actor, uint64_t incarnation)
{
    return !actor->alive || actor->incarnation != incarnation || actor->paused_until_us;
}

/* One side takes the other for dead. It may not, if both were awake and could speak. */
void sim_promise_check_silence(struct sim *sim, uint64_t number, const char *who)
{
    const struct link *link = sim_link_find(sim, number);

    if (!link || link->place >= APPS_MAX || sim->coordinator.actor.paused_until_us)
        return;
    const struct actor *peer =
        link->worker ? &sim->nodes[link->place].actor : &sim->apps[link->place].actor;
    if (was_disturbed(peer, link->incarnation) || link->lag_until_us)
        return;
    for (int side = 0; side < 2; side++)
        if (!link->lanes[side].open || link->lanes[side].deaf)
            return;
    sim_fail(sim, "%s takes a sound link (%llu) for silent", who,
             (unsigned long long)number);
}

/* -------------------------------------------------------------------- cut off */

#define SLACK_US 2000 /* cores count in milliseconds */

void sim_promise_check_orphaned(struct sim *sim, const struct node *node)
{
    const uint64_t after_us = 1000 * node->config.orphan_after_ms;

    if (!after_us || sim->now_us + SLACK_US < node->heard_us + after_us)
        sim_fail(sim, "W%d drops what it has before its time", sim_node_place(sim, node));
}

/* Who is cut off has no process any more that it has not killed, when it may have. */
void sim_promise_check_orphans(struct sim *sim, const struct node *node)
{
    const uint64_t after_ms = node->config.orphan_after_ms;
    const uint64_t silence_ms = sim->coordinator.config.silence_ms;
    const uint64_t most_ms = after_ms > silence_ms ? after_ms : silence_ms;

    if (!after_ms || sim->now_us < node->heard_us + 1000 * most_ms + SLACK_US)
        return;
    for (size_t i = 0; i < node->processes.count; i++) {
        const struct process *process =
            *(struct process **)sim_queue_at(&node->processes, i);

        if (process->state != PROCESS_OVER && !process->killed)
            sim_fail(sim, "W%d was cut off %llu ms ago, and process %llu runs",
                     sim_node_place(sim, node),
                     (unsigned long long)(sim->now_us - node->heard_us) / 1000,
                     (unsigned long long)process->number);
    }
}

/* ----------------------------------------------------------------- draining */

/* The coordinator has heard, or said, that this worker drains. */
void sim_promise_drain(struct link *link)
{
    if (link && link->worker)
        link->drains = true;
}

void sim_promise_check_tasks(struct sim *sim, const struct link *link)
{
    if (link->drains)
        sim_fail(sim, "the coordinator gives tasks to W%d, which drains", link->place);
}

/* --------------------------------------------------------------- cancelling */

static void mark(struct job *job, uint64_t first, uint64_t count, uint32_t place,
                 bool cancelled)
{
    for (uint64_t i = first; i < job->count && i - first < count; i++) {
        job->tasks[i].cancelled_at &= ~(1u << place);
        job->tasks[i].cancelled_at |= (cancelled ? 1u : 0u) << place;
    }
}

/* What a worker is told of tasks: what it has not given to a process when it hears that
 * it is cancelled it must not give to one, unless it is sent again. */
void sim_promise_told(struct sim *sim, const struct node *node,
                      const struct message *message)
{
    const uint32_t place = (uint32_t)sim_node_place(sim, node);
    struct job *job;

    if (message->kind == MSG_CANCEL && (job = sim_job_find(sim, message->cancel.job)))
        for (uint32_t i = 0; i < message->cancel.ranges_count; i++)
            mark(job, message->cancel.ranges[i].first, message->cancel.ranges[i].count,
                 place, !message->cancel.ranges[i].attempt);
    if (message->kind == MSG_TASKS && (job = sim_job_find(sim, message->tasks.job)))
        for (uint32_t i = 0; i < message->tasks.spans_count; i++)
            mark(job, message->tasks.spans[i].first, message->tasks.spans[i].count, place,
                 false);
}

void sim_promise_check_give(struct sim *sim, const struct node *node,
                            const struct job *job, const struct msg_span *span)
{
    for (uint32_t i = 0; node->link && node->link == node->welcomed && i < span->count;
         i++)
        job->tasks[span->first + i].begun[sim_node_place(sim, node)] =
            node->actor.incarnation << 32 | span->attempt;
    for (uint32_t i = 0; i < span->count; i++)
        if (job->tasks[span->first + i].cancelled_at & 1u << sim_node_place(sim, node))
            sim_fail(sim, "W%d gives task %llu to a process, and knew it was cancelled",
                     sim_node_place(sim, node), (unsigned long long)span->first + i);
}

/* ---------------------------------------------------------------- lost nodes */

#define DOUBTS_MAX 8 /* as in the client's core */

static uint64_t at_node(const struct node *node, uint32_t attempt)
{
    return node->actor.incarnation << 32 | attempt;
}

static void said_begin(struct sim *sim, const struct node *node,
                       const struct message *message)
{
    struct job *job = sim_job_find(sim, message->begin.job);

    if (job && message->begin.count == 1)
        job->tasks[message->begin.first].asked[sim_node_place(sim, node)] =
            at_node(node, message->begin.attempt);
}

/* What was taken back from a process has not begun. */
static void said_returned(struct sim *sim, const struct node *node,
                          const struct message *message)
{
    struct job *job = sim_job_find(sim, message->returned.job);

    for (uint32_t i = 0; job && i < message->returned.ranges_count; i++)
        for (uint64_t k = 0; k < message->returned.ranges[i].count; k++)
            job->tasks[message->returned.ranges[i].first + k]
                .begun[sim_node_place(sim, node)] = 0;
}

void sim_promise_said(struct sim *sim, const struct node *node,
                      const struct message *message)
{
    if (message->kind == MSG_BEGIN)
        said_begin(sim, node, message);
    if (message->kind == MSG_RETURNED)
        said_returned(sim, node, message);
}

/* What it did before it was given them (again) is another matter. */
void sim_promise_given(struct sim *sim, int place, const struct message *message)
{
    struct job *job = sim_job_find(sim, message->tasks.job);

    for (uint32_t i = 0; job && i < message->tasks.spans_count; i++)
        for (uint32_t k = 0; k < message->tasks.spans[i].count; k++)
            job->tasks[message->tasks.spans[i].first + k].begun[place] = 0;
}

/* A loss is counted only of what its node was about to begin; and what is told not to
 * have begun there has not, as far as that node could tell. */
static void check_fate(struct sim *sim, const struct job *job, uint64_t index,
                       uint64_t at, int place, bool begun)
{
    if (begun && job->tasks[index].asked[place] != at)
        sim_fail(sim,
                 "task %llu of job %llx has a loss counted for W%d, which never "
                 "asked to begin it",
                 (unsigned long long)index, (unsigned long long)job->number, place);
    if (!begun && job->tasks[index].begun[place] == at)
        sim_fail(sim, "task %llu of job %llx began at W%d, and is told not to have",
                 (unsigned long long)index, (unsigned long long)job->number, place);
}

void sim_promise_check_lost(struct sim *sim, const struct message *message)
{
    const struct job *job = sim_job_find(sim, message->lost.job);
    unsigned long long incarnation;
    int place;

    if (!job || job->options.losses_max == 1 || message->lost.unsure ||
        sscanf(message->lost.node, "n%d.%llu", &place, &incarnation) != 2)
        return;
    for (uint32_t i = 0; i < message->lost.ranges_count; i++) {
        const struct msg_range *range = &message->lost.ranges[i];

        for (uint64_t k = range->first; k - range->first < range->count; k++)
            check_fate(sim, job, k, incarnation << 32 | range->attempt, place,
                       message->lost.code == FARPOOL_ENODELOST);
    }
}

/* However its nodes go, it ends: in doubt at first, and then by its losses. */
void sim_promise_check_kills(struct sim *sim, struct job *job)
{
    job->kills += sim->settled;
    if (job->kills > job->options.losses_max + DOUBTS_MAX)
        sim_fail(sim, "a task of job %llx has killed %u nodes, and goes on",
                 (unsigned long long)job->number, job->kills);
}

void sim_promise_check_beside(struct sim *sim, const struct job *job, uint64_t index)
{
    static const enum sim_fault others[] = {FAULT_CUT,
                                            FAULT_HALF_OPEN,
                                            FAULT_LAG,
                                            FAULT_WORKER_KILL,
                                            FAULT_WORKER_PAUSE,
                                            FAULT_WORKER_STOP,
                                            FAULT_COORDINATOR_KILL,
                                            FAULT_COORDINATOR_PAUSE};

    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (sim->plan.enabled[others[i]])
            return;
    /* One that has ended processes is watched for its own sake, and suspected first. */
    if (index != job->killer && job->options.losses_max > 1 && !job->tasks[index].blames)
        sim_fail(sim, "task %llu of job %llx fails for what another did",
                 (unsigned long long)index, (unsigned long long)job->number);
}

/* ----------------------------------------------------------------- priority */

/* Whether the core has a task of this job that it could send. */
static bool has_waiting(const struct job *job)
{
    if (!job->opened || job->freed || job->ended || job->stopped)
        return false;
    for (uint64_t i = 0; i < job->fed; i++) {
        const struct task *task = &job->tasks[i];

        if (task->end == TASK_OPEN && !task->sent && !task->again && !task->cancelled &&
            !task->lane)
            return true;
    }
    return false;
}

/* A client sends tasks of a job while a more urgent one has some to send. What was under
 * way, or on a lane, when a link ended goes first, in any order. */
void sim_promise_check_priority(struct sim *sim, const struct app *app,
                                const struct job *job, const struct message *message)
{
    const struct msg_span *span = &message->tasks.spans[0];
    const struct task *task = &job->tasks[span->first];

    if (task->again || (task->lane && task->lane_attempt == span->attempt) ||
        app->failed || app->terminated)
        return;
    for (int i = 0; i < app->jobs_count; i++) {
        const struct job *other = &app->jobs[i];

        if (other->options.priority > job->options.priority && has_waiting(other))
            sim_fail(sim,
                     "C%d sends tasks of job %llx, and %llx, more urgent, has some too",
                     sim_app_place(sim, app), (unsigned long long)job->number,
                     (unsigned long long)other->number);
    }
}
