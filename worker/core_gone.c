/* SPDX-License-Identifier: Apache-2.0
 *
 * core_gone.c: a process has ended. The task that it was in is blamed: with its own
 * limit, if the process was killed for that very task's running or using too much, by
 * this core or by the kernel; not at all, if it was killed for another task's sake, which
 * had ended just before; else with the loss. All other tasks that it had go back into the
 * queue. A process that never was ready counts against its pool, which fails here after
 * start_failures_max in a row. */
#include "worker/core_internal.h"

#include <assert.h>
#include <stdio.h>

static void say_lost(const struct worker_core *core, const struct process *process,
                     const struct worker_event *event, char *text, size_t size)
{
    const int pid = process->pid ? process->pid : event->pid;
    if (event->text != NULL)
        snprintf(text, size, "%s", event->text);
    else if (event->signal != 0)
        snprintf(text, size, "process %d on node %s was ended by signal %d", pid,
                 core->config.node, event->signal);
    else
        snprintf(text, size, "process %d on node %s ended with exit status %d", pid,
                 core->config.node, event->exit_status);
}

/* What the task that a process was in is blamed for. */
struct verdict {
    enum kill_reason reason; /* KILL_NONE: it is lost */
    uint64_t limit, used;
};

static bool is_over_limit(const struct process *process, const struct piece *piece)
{
    return process->reason >= KILL_TIMEOUT && process->reason <= KILL_MEMORY &&
           piece->give == process->blame_give && piece->first == process->blame_first;
}

static struct verdict judge(const struct process *process, const struct piece *piece,
                            const struct worker_event *event)
{
    if (is_over_limit(process, piece))
        return (struct verdict){process->reason, process->blame_limit,
                                process->blame_used};
    if (event->over_memory && event->running && process->reason == KILL_NONE &&
        piece->job->memory_bytes > 0)
        return (struct verdict){KILL_MEMORY, piece->job->memory_bytes,
                                event->memory_bytes};
    return (struct verdict){.reason = KILL_NONE};
}

static int limit_code(enum kill_reason reason)
{
    return reason == KILL_CPU      ? FARPOOL_ECPULIMIT
           : reason == KILL_MEMORY ? FARPOOL_EMEMORYLIMIT
                                   : FARPOOL_ETASKTIMEOUT;
}

/* The kernel gives no more than the limit: then what it refused is not known. */
static void say_limit(const struct worker_core *core, const struct verdict *verdict,
                      char *text, size_t size)
{
    const unsigned long long limit = verdict->limit, used = verdict->used;
    if (verdict->reason == KILL_CPU)
        snprintf(text, size,
                 "used %llu ms of CPU time, over its limit of %llu ms on node %s", used,
                 limit, core->config.node);
    else if (verdict->reason == KILL_MEMORY)
        snprintf(text, size,
                 "used %llu bytes of memory%s, over its limit of %llu bytes on node %s",
                 used, used <= limit ? " and wanted more" : "", limit, core->config.node);
    else
        snprintf(text, size, "ran longer than its limit of %llu ms on node %s", limit,
                 core->config.node);
}

/* The failure of the task that a process was in when it ended; NULL: out of memory. */
static struct result *blame(struct worker_core *core, const struct process *process,
                            const struct piece *piece, const struct worker_event *event)
{
    const struct verdict verdict = judge(process, piece, event);
    const bool limited = verdict.reason != KILL_NONE;
    char text[512];
    if (limited)
        say_limit(core, &verdict, text, sizeof text);
    else
        say_lost(core, process, event, text, sizeof text);
    struct result *result =
        worker_result_create(core, MSG_FAILED, piece, piece->first, 1);
    if (result == NULL || worker_result_say(result, text, event->backtrace) != 0) {
        worker_result_free(result);
        return NULL;
    }
    result->code = limited ? limit_code(verdict.reason) : FARPOOL_EPROCESSLOST;
    result->signal = event->signal;
    result->exit_status = event->signal != 0 ? -1 : event->exit_status;
    result->pid = process->pid ? process->pid : event->pid;
    return result;
}

/* The task to be blamed, as a piece of its own; NULL in *ret_piece: none. A process that
 * ends by itself before it has begun what it was given says nothing about a task; but
 * when that happens again and again without any task done, its first one has to go. */
static int find_blamed(struct worker_core *core, struct process *process,
                       const struct worker_event *event, struct piece **ret_piece)
{
    struct piece *piece = NULL;
    if (event->running) {
        piece = worker_process_find(process, event->give, event->first);
        assert(piece != NULL);
        piece = worker_piece_isolate(piece, event->first, 1);
        if (piece == NULL)
            return FARPOOL_ENOMEM;
    } else if (process->reason == KILL_NONE && !TAILQ_EMPTY(&process->pieces) &&
               process->pool->deaths + 1 >= core->config.start_failures_max) {
        piece = TAILQ_FIRST(&process->pieces);
        piece = worker_piece_isolate(piece, piece->first, 1);
        if (piece == NULL)
            return FARPOOL_ENOMEM;
    }
    *ret_piece = piece;
    return 0;
}

/* Was the process killed for another task, which had ended just before? Then this one
 * runs again, unless it must never run twice. */
static bool is_innocent(const struct process *process, const struct piece *piece)
{
    return process->reason != KILL_NONE && !is_over_limit(process, piece) &&
           !piece->job->once;
}

static void give_up(struct worker_core *core, struct process *process)
{
    struct piece *piece;
    while ((piece = TAILQ_FIRST(&process->pieces)) != NULL) {
        if (piece->state == PIECE_GIVEN)
            worker_piece_queue(core, piece);
        else
            worker_piece_drop(core, piece);
    }
}

static bool is_shortage(int code)
{
    return code == FARPOOL_ENOFILES || code == FARPOOL_ESYSTEM ||
           code == FARPOOL_ENOMEM || code == FARPOOL_ENOSPACE;
}

/* A process that never was ready. When the node is short of something and others of the
 * pool go on, starting is only put off. */
static void start_failed(struct worker_core *core, struct process *process,
                         const struct worker_event *event)
{
    struct pool *pool = process->pool;
    char text[512];
    if (process->ready || process->reason > KILL_START ||
        ++pool->start_failures < core->config.start_failures_max)
        return;
    const uint32_t alive = pool->counts[PROCESS_IDLE] + pool->counts[PROCESS_RUNNING] +
                           pool->counts[PROCESS_YIELDING];
    if (is_shortage(event->code) && alive > 0) {
        pool->start_after_ms = worker_after(core->now_ms, START_PAUSE_MS);
        return;
    }
    if (process->reason == KILL_START)
        snprintf(text, sizeof text, "a process on node %s was not ready after %u ms",
                 core->config.node, core->config.start_timeout_ms);
    else
        say_lost(core, process, event, text, sizeof text);
    const int code = process->reason == KILL_START || event->code == 0 ? FARPOOL_EPROGRAM
                                                                       : event->code;
    worker_pool_fail(core, pool, code,
                     code == FARPOOL_EINITIALIZER || code == FARPOOL_ENOFUNCTION, text);
}

int worker_process_gone(struct worker_core *core, struct process *process,
                        const struct worker_event *event)
{
    struct pool *pool = process->pool;
    struct piece *piece = NULL;
    if (process->gate != 0)
        worker_gate_back(core, process);
    if (!process_is_over(process) && find_blamed(core, process, event, &piece) != 0)
        return FARPOOL_ENOMEM;
    const bool wanted = piece != NULL && piece->state == PIECE_GIVEN;
    if (wanted && !is_innocent(process, piece)) {
        struct result *result = blame(core, process, piece, event);
        if (result == NULL)
            return FARPOOL_ENOMEM;
        worker_result_keep(core, pool, result);
        worker_piece_drop(core, piece);
    } else if (piece != NULL && !wanted) {
        worker_piece_drop(core, piece);
    }
    const bool idle_death =
        process->reason == KILL_NONE && piece == NULL && !TAILQ_EMPTY(&process->pieces);
    pool->deaths = idle_death ? pool->deaths + 1 : 0;
    give_up(core, process);
    if (!process_is_over(process))
        start_failed(core, process, event);
    worker_process_free(core, process);
    return 0;
}
