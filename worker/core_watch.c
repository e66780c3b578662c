/* SPDX-License-Identifier: Apache-2.0
 *
 * core_watch.c: what processes are running, as far as that matters: tasks that run
 * longer, or use more, than their limit, cancelled ones that are to be killed or told,
 * and how far long ones are (LOAD). Only a process knows which task it is in, so it is
 * sampled, and only then: a task given to a process cannot run out of its time before its
 * limit has passed since the giving. That a sample is old when it arrives does no harm:
 * the task that a killed process was really in is told by its GONE. */
#include "worker/core_internal.h"

#include <string.h>

static void look_at(struct process *process, uint64_t ms)
{
    if (ms < process->due_ms)
        process->due_ms = ms;
}

/* When a task that began then is over its limit. One more: both times are cut to whole
 * milliseconds, and no task may be told that it ran longer than it did. */
static uint64_t over_ms(uint64_t began_ms, uint64_t limit_ms)
{
    return worker_after(worker_after(began_ms, limit_ms), 1);
}

/* Nothing can be over its CPU time before that has passed: no sooner on one core. */
static uint64_t first_look_ms(const struct job *job)
{
    if (job->cpu_ms == 0 || job->cpu_ms > MEASURE_MS)
        return MEASURE_MS;
    return job->cpu_ms > CPU_LOOK_MS ? job->cpu_ms : CPU_LOOK_MS;
}

/* A process was given tasks of this job. */
void worker_watch_given(struct worker_core *core, struct process *process,
                        const struct job *job)
{
    if (job->timeout_ms > 0)
        look_at(process, over_ms(core->now_ms, job->timeout_ms));
    if (worker_is_measured(job))
        look_at(process, worker_after(core->now_ms, first_look_ms(job)));
}

/* When the CPU time of a task may be over: it goes on as it did, or on one core. Not so
 * soon where it waits: then each look is twice as far off as the one before. */
static void look_for_cpu(struct worker_core *core, struct process *process,
                         const struct job *job, const struct worker_event *event)
{
    const uint64_t left_ms = job->cpu_ms - event->cpu_ms;
    const uint64_t passed_ms =
        core->now_ms > event->began_ms ? core->now_ms - event->began_ms : 0;
    uint64_t wait_ms = left_ms;
    if (event->cpu_ms > passed_ms) /* both are far below 2^32 while left_ms counts */
        wait_ms = left_ms < MEASURE_MS * (event->cpu_ms / (passed_ms + 1) + 1)
                      ? left_ms * (passed_ms + 1) / (event->cpu_ms + 1)
                      : MEASURE_MS;
    if (wait_ms < CPU_LOOK_MS)
        wait_ms = CPU_LOOK_MS;
    if (event->cpu_ms == process->seen_cpu_ms && wait_ms < 2 * process->cpu_wait_ms)
        wait_ms = 2 * process->cpu_wait_ms;
    if (wait_ms > MEASURE_MS)
        wait_ms = MEASURE_MS;
    process->seen_cpu_ms = event->cpu_ms;
    process->cpu_wait_ms = wait_ms;
    look_at(process, worker_after(core->now_ms, wait_ms));
}

/* When to look again at a process that does not run anything forbidden now. */
static void look_later(struct worker_core *core, struct process *process)
{
    const struct piece *piece;
    process->due_ms = UINT64_MAX;
    TAILQ_FOREACH (piece, &process->pieces, link) {
        if (piece->job->timeout_ms > 0)
            look_at(process, over_ms(core->now_ms, piece->job->timeout_ms));
        if (worker_is_measured(piece->job))
            look_at(process, worker_after(core->now_ms, first_look_ms(piece->job)));
        if (piece->state == PIECE_DOOMED)
            look_at(process, worker_after(core->now_ms, KILL_SAMPLE_MS));
    }
}

static int kill_for(struct worker_core *core, struct process *process,
                    enum kill_reason reason, const struct piece *piece,
                    const struct worker_event *event)
{
    const struct job *job = piece->job;
    if (worker_reserve(core, 1) != 0)
        return FARPOOL_ENOMEM;
    process->sampling = false;
    process->blame_give = piece->give;
    process->blame_first = event->first;
    process->blame_limit = reason == KILL_CPU      ? job->cpu_ms
                           : reason == KILL_MEMORY ? job->memory_bytes
                                                   : job->timeout_ms;
    process->blame_used = reason == KILL_CPU ? event->cpu_ms : event->memory_bytes;
    worker_process_kill(core, process, reason);
    return 0;
}

static bool is_alive(const struct process *process)
{
    return process->state >= PROCESS_RUNNING && process->state <= PROCESS_BLOCKED;
}

int worker_sampled(struct worker_core *core, struct process *process,
                   const struct worker_event *event)
{
    const struct piece *piece =
        event->running ? worker_process_find(process, event->give, event->first) : NULL;
    if (is_alive(process) && piece != NULL) {
        const uint64_t limit_ms = piece->job->timeout_ms;
        const uint64_t end_ms =
            limit_ms > 0 ? over_ms(event->began_ms, limit_ms) : UINT64_MAX;
        if (piece->state == PIECE_DOOMED)
            return kill_for(core, process, KILL_CANCEL, piece, event);
        if (core->now_ms >= end_ms)
            return kill_for(core, process, KILL_TIMEOUT, piece, event);
        if (piece->job->cpu_ms > 0 && event->cpu_ms >= piece->job->cpu_ms)
            return kill_for(core, process, KILL_CPU, piece, event);
        if (piece->job->memory_bytes > 0 &&
            event->memory_bytes > piece->job->memory_bytes)
            return kill_for(core, process, KILL_MEMORY, piece, event);
        look_later(core, process);
        look_at(process, end_ms);
        if (piece->job->cpu_ms > 0)
            look_for_cpu(core, process, piece->job, event);
        process->head_since_ms = event->began_ms;
        if (process->share_ppm != event->share_ppm)
            core->load_changed = true;
        process->share_ppm = event->share_ppm;
    } else if (is_alive(process)) {
        look_later(core, process);
    }
    process->sampling = false;
    return 0;
}

static int sample(struct worker_core *core, struct process *process)
{
    const struct piece *piece;
    if (worker_reserve(core, 1) != 0)
        return FARPOOL_ENOMEM;
    struct worker_effect *effect = worker_add(core, WORKER_PROCESS_SAMPLE);
    effect->process = process->number;
    TAILQ_FOREACH (piece, &process->pieces, link)
        effect->limited = effect->limited || worker_is_measured(piece->job);
    process->sampling = true;
    process->due_ms = UINT64_MAX; /* its answer tells when next */
    return 0;
}

/* Tells the process which of the tasks that it may be in are cancelled. */
static int tell_marked(struct worker_core *core, struct process *process)
{
    const struct piece *piece;
    if (worker_reserve(core, process->cancelled_pieces) != 0)
        return FARPOOL_ENOMEM;
    TAILQ_FOREACH (piece, &process->pieces, link) {
        if (piece->state != PIECE_MARKED)
            continue;
        struct worker_effect *effect = worker_add(core, WORKER_PROCESS_CANCEL);
        effect->process = process->number;
        effect->give = piece->give;
        effect->first = piece->first;
        effect->count = piece->count;
    }
    process->mark = false;
    return 0;
}

int worker_flush_watch(struct worker_core *core)
{
    struct pool *pool;
    TAILQ_FOREACH (pool, &core->pools, link) {
        for (int state = PROCESS_RUNNING; state <= PROCESS_BLOCKED; state++) {
            struct process *process;
            TAILQ_FOREACH (process, &pool->processes[state], link) {
                if (process->mark && tell_marked(core, process) != 0)
                    return FARPOOL_ENOMEM;
                if (process->due_ms <= core->now_ms && !process->sampling &&
                    sample(core, process) != 0)
                    return FARPOOL_ENOMEM;
            }
        }
    }
    return 0;
}

/* --------------------------------------------------------------------------- LOAD */

/* A new coordinator is told everything. */
void worker_load_forget(struct worker_core *core)
{
    struct pool *pool;
    core->load_changed = core->load_urgent = true;
    core->told_processes = core->told_started = UINT64_MAX;
    core->lane_done = core->told_lane_done = 0;
    TAILQ_FOREACH (pool, &core->pools, link) {
        struct job *job;
        RB_FOREACH (job, worker_jobs, &pool->jobs)
            job->told_running = job->told_blocked = job->told_share_ppm = 0;
    }
}

static bool runs_long(const struct worker_core *core, const struct process *process)
{
    return is_alive(process) &&
           core->now_ms >= worker_after(process->head_since_ms, LOAD_PERIOD_MS);
}

/* Asks how far the long tasks are. */
static int ask_progress(struct worker_core *core)
{
    struct pool *pool;
    TAILQ_FOREACH (pool, &core->pools, link) {
        for (int state = PROCESS_RUNNING; state <= PROCESS_BLOCKED; state++) {
            struct process *process;
            TAILQ_FOREACH (process, &pool->processes[state], link)
                if (!process->sampling && runs_long(core, process) &&
                    sample(core, process) != 0)
                    return FARPOOL_ENOMEM;
        }
    }
    return 0;
}

static bool any_sampling(const struct worker_core *core)
{
    const struct pool *pool;
    TAILQ_FOREACH (pool, &core->pools, link) {
        for (int state = PROCESS_RUNNING; state <= PROCESS_BLOCKED; state++) {
            const struct process *process;
            TAILQ_FOREACH (process, &pool->processes[state], link)
                if (process->sampling)
                    return true;
        }
    }
    return false;
}

static void count_job(struct process *process)
{
    const struct piece *head = TAILQ_FIRST(&process->pieces);
    if (process->gate != 0)
        return;
    head->job->running++;
    head->job->blocked += process->state == PROCESS_BLOCKED;
    head->job->share_ppm += process->share_ppm;
}

static void count_running(struct pool *pool)
{
    struct job *job;
    RB_FOREACH (job, worker_jobs, &pool->jobs)
        job->running = job->blocked = job->share_ppm = 0;
    for (int state = PROCESS_RUNNING; state <= PROCESS_BLOCKED; state++) {
        struct process *process;
        TAILQ_FOREACH (process, &pool->processes[state], link)
            count_job(process);
    }
}

static bool is_news(const struct job *job)
{
    return job->running != job->told_running || job->blocked != job->told_blocked ||
           job->share_ppm != job->told_share_ppm;
}

static bool has_news(struct worker_core *core)
{
    bool news = core->total != core->told_processes ||
                core->started != core->told_started ||
                core->lane_done != core->told_lane_done;
    struct pool *pool;
    TAILQ_FOREACH (pool, &core->pools, link) {
        struct job *job;
        count_running(pool);
        RB_FOREACH (job, worker_jobs, &pool->jobs)
            news = news || is_news(job);
    }
    return news;
}

/* Jobs whose load changed, or that still run something; the rest of a long list follows
 * with the next LOAD. */
static uint32_t list_jobs(struct worker_core *core, struct msg_job_load *loads)
{
    uint32_t count = 0;
    struct pool *pool;
    core->load_changed = false;
    TAILQ_FOREACH (pool, &core->pools, link) {
        struct job *job;
        RB_FOREACH (job, worker_jobs, &pool->jobs) {
            if (!is_news(job) && job->running == 0)
                continue;
            if (count == LIST_MAX) {
                core->load_changed = core->load_changed || is_news(job);
                continue;
            }
            loads[count++] = (struct msg_job_load){pool->id, job->number, job->running,
                                                   job->blocked, job->share_ppm};
            job->told_running = job->running;
            job->told_blocked = job->blocked;
            job->told_share_ppm = job->share_ppm;
        }
    }
    return count;
}

static int send_load(struct worker_core *core)
{
    if (!has_news(core)) {
        core->load_changed = false;
        return 0;
    }
    struct message *message = worker_message(core, MSG_LOAD);
    struct msg_job_load *loads = message ? mem_alloc(LIST_MAX * sizeof *loads) : NULL;
    if (loads == NULL) {
        message_free(&message);
        return FARPOOL_ENOMEM;
    }
    message->load.processes = core->total;
    message->load.started = core->started;
    core->told_processes = core->total;
    core->told_started = core->started;
    message->load.lane_done = core->told_lane_done = core->lane_done;
    message->load.jobs = loads;
    message->load.jobs_count = list_jobs(core, loads);
    worker_send(core, message);
    return 0;
}

/* How often what runs is told of: less often where only jobs run whose parts nobody looks
 * at. UINT32_MAX: nothing runs. */
static uint32_t load_period_ms(const struct worker_core *core)
{
    const struct pool *pool;
    uint32_t period_ms = UINT32_MAX;
    TAILQ_FOREACH (pool, &core->pools, link) {
        for (int state = PROCESS_RUNNING; state <= PROCESS_BLOCKED; state++) {
            const struct process *process;
            TAILQ_FOREACH (process, &pool->processes[state], link) {
                if (!TAILQ_FIRST(&process->pieces)->job->whole)
                    return LOAD_PERIOD_MS;
                period_ms = LOAD_PERIOD_MS * WHOLE_TIMES;
            }
        }
    }
    return period_ms;
}

/* When LOAD is due; UINT64_MAX: not by time. */
static uint64_t load_due(const struct worker_core *core)
{
    const uint32_t period_ms = core->load_changed ? LOAD_PERIOD_MS : load_period_ms(core);
    return period_ms == UINT32_MAX ? UINT64_MAX : worker_tick(core->load_ms, period_ms);
}

/* That a task is blocked, or goes on, is told at once: the coordinator counts on it. */
int worker_flush_load(struct worker_core *core)
{
    if (core->link != LINK_UP)
        return 0;
    if (core->load_urgent) {
        if (send_load(core) != 0)
            return FARPOOL_ENOMEM;
        core->load_urgent = false;
    }
    if (core->now_ms < load_due(core))
        return 0;
    if (!core->load_asked && ask_progress(core) != 0)
        return FARPOOL_ENOMEM;
    core->load_asked = true;
    if (any_sampling(core)) /* the answers are in the next batch */
        return 0;
    if (core->load_changed && send_load(core) != 0)
        return FARPOOL_ENOMEM;
    core->load_asked = false;
    core->load_ms = core->now_ms;
    return 0;
}

static uint64_t nearest_due(const struct worker_core *core)
{
    uint64_t nearest = UINT64_MAX;
    const struct pool *pool;
    TAILQ_FOREACH (pool, &core->pools, link) {
        for (int state = PROCESS_RUNNING; state <= PROCESS_BLOCKED; state++) {
            const struct process *process;
            TAILQ_FOREACH (process, &pool->processes[state], link)
                if (!process->sampling && process->due_ms < nearest)
                    nearest = process->due_ms;
        }
    }
    return nearest;
}

uint64_t worker_watch_deadline(const struct worker_core *core)
{
    const uint64_t nearest = nearest_due(core);
    if (core->link != LINK_UP || any_sampling(core))
        return nearest;
    const uint64_t load_ms = load_due(core);
    return load_ms < nearest ? load_ms : nearest;
}
