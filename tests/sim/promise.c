/* SPDX-License-Identifier: Apache-2.0
 *
 * promise.c: what nobody would notice by a task that fails or hangs: who is taken for
 * dead has given cause for it, a worker that drains is given no more, what is cancelled
 * is not begun, what is more urgent goes first, a result ends only the attempt that is
 * under way, and memory stays within a bound. Each is shown to fail by a fault in
 * tests/seeded or a line of SIM_BREAKS. */
#include "sim.h"

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
    for (uint32_t i = 0; i < span->count; i++)
        if (job->tasks[span->first + i].cancelled_at & 1u << sim_node_place(sim, node))
            sim_fail(sim, "W%d gives task %llu to a process, and knew it was cancelled",
                     sim_node_place(sim, node), (unsigned long long)span->first + i);
}

/* ----------------------------------------------------------------- priority */

/* Whether the core has a task of this job that it could send. */
static bool has_waiting(const struct job *job)
{
    if (!job->opened || job->freed || job->ended || job->stopped)
        return false;
    for (uint64_t i = 0; i < job->fed; i++) {
        const struct task *task = &job->tasks[i];

        if (task->end == TASK_OPEN && !task->sent && !task->again && !task->cancelled)
            return true;
    }
    return false;
}

/* A client sends tasks of a job while a more urgent one has some to send. What was under
 * way when a link ended goes first, in any order. */
void sim_promise_check_priority(struct sim *sim, const struct app *app,
                                const struct job *job, const struct message *message)
{
    if (job->tasks[message->tasks.spans[0].first].again || app->failed || app->terminated)
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
