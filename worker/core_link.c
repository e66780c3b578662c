/* SPDX-License-Identifier: Apache-2.0
 *
 * core_link.c: the link to the coordinator, and leaving it. Hello and welcome; what is
 * told again to a coordinator that started empty (HELD, every result), and what is
 * dropped when it is the same one, which has told the clients that all here is lost;
 * heartbeats and silence; drain and stop.
 *
 * While the link is down everything is kept and runs on, for orphan_after_ms: who is cut
 * off cannot know whether its pools have ended. What the coordinator forwards
 * for a client is taken as it is or refused for that pool alone; only what a coordinator
 * itself must never send ends the link. */
#include "worker/core_internal.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* Until WELCOME tells. */
#define HEARTBEAT_MS 1000
#define SILENCE_MS 5000

int worker_link_up(struct worker_core *core, const char *address)
{
    if (core->state >= CORE_STOPPING)
        return 0;
    struct message *message = worker_message(core, MSG_HELLO_WORKER);
    if (message == NULL)
        return FARPOOL_ENOMEM;
    const struct worker_config *config = &core->config;
    message->hello_worker.protocol = PROTOCOL_VERSION;
    snprintf(message->hello_worker.version, sizeof message->hello_worker.version, "%s",
             FARPOOL_VERSION);
    message->hello_worker.worker = config->worker;
    message->hello_worker.previous = core->coordinator;
    memcpy(message->hello_worker.node, config->node, sizeof message->hello_worker.node);
    memcpy(message->hello_worker.machine, config->machine,
           sizeof message->hello_worker.machine);
    memcpy(message->hello_worker.labels, config->labels,
           sizeof message->hello_worker.labels);
    message->hello_worker.slots = config->slots;
    message->hello_worker.memory_bytes = config->memory_bytes;
    message->hello_worker.tasks_max = config->tasks_max;
    message->hello_worker.bytes_max = config->bytes_max;
    snprintf(message->hello_worker.lanes, sizeof message->hello_worker.lanes, "%s",
             address != NULL ? address : "");
    worker_link_down(core);
    core->link = LINK_HELLO;
    core->heard_ms = core->now_ms;
    core->heartbeat_ms = HEARTBEAT_MS;
    core->silence_ms = SILENCE_MS;
    core->heartbeats = 0;
    worker_send(core, message);
    return 0;
}

/* A RECALL that is not answered is forgotten with the link that it came on. */
void worker_link_down(struct worker_core *core)
{
    if (core->link == LINK_UP)
        core->cut_ms = core->heard_ms;
    core->link = LINK_DOWN;
    core->drain_told = false;
    worker_gates_free(core);
    worker_shared_link_down(core);
    struct pool *pool;
    TAILQ_FOREACH (pool, &core->pools, link) {
        struct job *job;
        pool->announce = false;
        RB_FOREACH (job, worker_jobs, &pool->jobs) {
            if (job->recall_lane == NULL)
                worker_recall_move(job, RECALL_NONE);
            job->announce = false;
        }
    }
}

int worker_relink(struct worker_core *core, const char *format, ...)
{
    char text[sizeof((struct worker_effect *)0)->text];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (core->speaker != NULL) {
        worker_lane_break(core, text);
        return 0;
    }
    if (worker_reserve(core, 1) != 0)
        return FARPOOL_ENOMEM;
    memcpy(worker_add(core, WORKER_RELINK)->text, text, sizeof text);
    worker_link_down(core);
    return 0;
}

/* The same coordinator: it had given this worker up. Or none has been heard of for too
 * long. */
static int start_afresh(struct worker_core *core)
{
    if (worker_reserve(core, core->total) != 0)
        return FARPOOL_ENOMEM;
    struct pool *pool, *next;
    TAILQ_FOREACH_SAFE (pool, &core->pools, link, next)
        worker_pool_drop(core, pool, POOL_FORGOTTEN);
    return 0;
}

/* Another one, which knows nothing of what is here. */
static void tell_again(struct worker_core *core)
{
    struct pool *pool, *next;
    TAILQ_FOREACH_SAFE (pool, &core->pools, link, next) {
        struct job *job;
        if (pool->state == POOL_ENDING || pool->state == POOL_FORGOTTEN)
            continue;
        pool->announce = true;
        pool->tell_failed = pool->state == POOL_FAILED;
        RB_FOREACH (job, worker_jobs, &pool->jobs)
            job->announce = job->queued_tasks + job->given_tasks > 0;
        worker_results_resend(core, pool);
        worker_shared_relinked(core, pool);
    }
    worker_programs_relinked(core);
}

/* A pool that failed here is tried again when the other coordinator opens it, unless
 * something of it runs or was not told yet. */
static int drop_failed(struct worker_core *core)
{
    struct pool *pool, *next;
    if (worker_reserve(core, core->total) != 0)
        return FARPOOL_ENOMEM;
    TAILQ_FOREACH_SAFE (pool, &core->pools, link, next)
        if (pool->state == POOL_FAILED && pool->given_tasks + pool->results_count == 0)
            worker_pool_drop(core, pool, POOL_FORGOTTEN);
    return 0;
}

static int welcome(struct worker_core *core, const struct message *message)
{
    if (message->welcome.protocol != PROTOCOL_VERSION)
        return worker_relink(core, "the coordinator speaks protocol %u, not %u",
                             message->welcome.protocol, PROTOCOL_VERSION);
    const bool known = !id_is_zero(&core->coordinator);
    const bool same = id_equal(&core->coordinator, &message->welcome.coordinator);
    if (known && (same ? start_afresh(core) : drop_failed(core)) != 0)
        return FARPOOL_ENOMEM;
    core->coordinator = message->welcome.coordinator;
    core->link = LINK_UP;
    if (message->welcome.heartbeat_ms > 0)
        core->heartbeat_ms = message->welcome.heartbeat_ms;
    if (message->welcome.silence_ms > 0)
        core->silence_ms = message->welcome.silence_ms;
    core->body_bytes_max = message->welcome.body_bytes_max;
    core->result_window = message->welcome.bytes_max > 0 ? message->welcome.bytes_max
                                                         : core->config.result_bytes_max;
    core->before_tasks = core->held_tasks;
    core->before_bytes = core->held_bytes;
    worker_lanes_welcomed(core);
    worker_load_forget(core);
    tell_again(core);
    return 0;
}

static int before_welcome(struct worker_core *core, struct message *message)
{
    if (message->kind == MSG_WELCOME)
        return welcome(core, message);
    if (message->kind == MSG_REFUSED)
        return worker_relink(core, "the coordinator refused this worker: %s",
                             message->refused.text);
    if (message->kind == MSG_HEARTBEAT)
        return 0;
    return worker_relink(core, "%s came before WELCOME", message_name(message->kind));
}

static int link_is_up(struct worker_core *core, struct message *message)
{
    switch (message->kind) {
    case MSG_HEARTBEAT:
        core->heartbeat_came = true;
        return 0;
    case MSG_RELAY: /* passed between processes and coordinator by the shell */
        return 0;
    case MSG_REFUSED:
        return worker_relink(core, "the coordinator refused this worker: %s",
                             message->refused.text);
    case MSG_POOL_OPEN:
        return worker_pool_open(core, message);
    case MSG_POOL_CLOSE:
        return worker_pool_close(core, message);
    case MSG_JOB_OPEN:
        return worker_job_open(core, message);
    case MSG_JOB_CLOSE:
        return worker_job_close(core, message);
    case MSG_TASKS:
        return worker_tasks(core, message);
    case MSG_CANCEL:
        return worker_cancel(core, message);
    case MSG_RECALL:
        return worker_recall(core, message);
    case MSG_ACK:
        worker_ack(core, message);
        return 0;
    case MSG_GO:
        worker_go(core, message);
        return 0;
    case MSG_BLOB:
        return worker_shared_is_content(core, message)
                   ? worker_shared_blob(core, message)
                   : worker_program_blob(core, message);
    case MSG_FETCH:
        return worker_shared_fetch(core, NULL, message);
    case MSG_SHARE:
        return worker_share(core, message);
    case MSG_UNSHARE:
        return worker_unshare(core, message);
    case MSG_PULL:
        return worker_pull(core, message);
    case MSG_DRAIN: /* an operator asked for it */
        return worker_drain(core);
    case MSG_LOGS_GET:
        return worker_logs(core, message);
    case MSG_INTRODUCE:
        return worker_introduce(core, message);
    case MSG_INTRODUCED:
        return worker_introduced(core, message);
    case MSG_WITHDRAW:
        worker_withdraw(core, message);
        return 0;
    default:
        return worker_relink(core, "the coordinator sent %s, which it never should",
                             message_name(message->kind));
    }
}

int worker_link_message(struct worker_core *core, struct message *message)
{
    if (core->state >= CORE_STOPPING || core->link == LINK_DOWN)
        return 0; /* of a link that was given up */
    const int result = core->link == LINK_HELLO ? before_welcome(core, message)
                                                : link_is_up(core, message);
    if (result == 0)
        core->heard_ms = core->now_ms;
    return result;
}

/* ------------------------------------------------------------------------- HELD */

static void hold(struct msg_range *ranges, uint32_t *count, const struct piece *piece)
{
    struct msg_range *last = *count > 0 ? &ranges[*count - 1] : NULL;
    if (last != NULL && last->first + last->count == piece->first &&
        last->attempt == piece->attempt) {
        last->count += piece->count;
        return;
    }
    ranges[(*count)++] = (struct msg_range){piece->first, piece->count, piece->attempt};
}

/* Ranges of one tree of a job, each message holding at most LIST_MAX of them. */
static int tell_held(struct worker_core *core, struct job *job,
                     struct worker_pieces *pieces)
{
    struct piece *piece = RB_MIN(worker_pieces, pieces);
    const size_t before = core->effects->count;
    while (piece != NULL) {
        struct message *message = worker_message(core, MSG_HELD);
        struct msg_range *ranges = message ? mem_alloc(LIST_MAX * sizeof *ranges) : NULL;
        if (ranges == NULL) {
            message_free(&message);
            while (core->effects->count > before)
                message_free(&core->effects->items[--core->effects->count].message);
            return FARPOOL_ENOMEM;
        }
        message->held.pool = job->pool->id;
        message->held.job = job->number;
        message->held.ranges = ranges;
        uint32_t count = 0;
        for (; piece != NULL && count < LIST_MAX;
             piece = RB_NEXT(worker_pieces, pieces, piece))
            hold(ranges, &count, piece);
        message->held.ranges_count = count;
        worker_send(core, message);
    }
    return 0;
}

static int announce_job(struct worker_core *core, struct job *job)
{
    const size_t before = core->effects->count;
    if (tell_held(core, job, &job->queued) != 0)
        return FARPOOL_ENOMEM;
    if (tell_held(core, job, &job->given) != 0) {
        while (core->effects->count > before)
            message_free(&core->effects->items[--core->effects->count].message);
        return FARPOOL_ENOMEM;
    }
    job->announce = false;
    return 0;
}

/* A pool with nothing to hold is told as well (no ranges), so that the coordinator knows
 * whom to tell when the pool is closed. */
static int announce(struct worker_core *core, struct pool *pool)
{
    struct job *job;
    RB_FOREACH (job, worker_jobs, &pool->jobs)
        if (job->announce && announce_job(core, job) != 0)
            return FARPOOL_ENOMEM;
    if (pool->queued_tasks + pool->given_tasks == 0) {
        struct message *message = worker_message(core, MSG_HELD);
        if (message == NULL)
            return FARPOOL_ENOMEM;
        message->held.pool = pool->id;
        worker_send(core, message);
    }
    pool->announce = false;
    return 0;
}

/* ----------------------------------------------------------------- drain and stop */

int worker_drain(struct worker_core *core)
{
    if (core->state == CORE_WORKING)
        core->state = CORE_DRAINING;
    return 0;
}

static void say_stopped(struct worker_core *core)
{
    struct worker_effect *effect = worker_add(core, WORKER_STOPPED);
    snprintf(effect->text, sizeof effect->text, "%s",
             core->state == CORE_DRAINING ? "drained" : "stopped");
    core->state = CORE_STOPPED;
}

int worker_stop(struct worker_core *core)
{
    if (core->state >= CORE_STOPPING)
        return 0;
    struct message *message = NULL;
    if (worker_reserve(core, core->total + 2) != 0)
        return FARPOOL_ENOMEM;
    if (core->link == LINK_UP && (message = message_create(MSG_BYE)) == NULL)
        return FARPOOL_ENOMEM;
    struct pool *pool, *next;
    TAILQ_FOREACH_SAFE (pool, &core->pools, link, next)
        worker_pool_drop(core, pool, POOL_FORGOTTEN);
    if (message != NULL) {
        snprintf(message->bye.reason, sizeof message->bye.reason, "stopped");
        worker_send(core, message);
    }
    worker_link_down(core);
    core->state = CORE_STOPPING;
    if (core->total == 0)
        say_stopped(core);
    return 0;
}

static int leave_drained(struct worker_core *core)
{
    if (worker_reserve(core, 2) != 0)
        return FARPOOL_ENOMEM;
    if (core->link == LINK_UP) {
        struct message *message = message_create(MSG_BYE);
        if (message == NULL)
            return FARPOOL_ENOMEM;
        snprintf(message->bye.reason, sizeof message->bye.reason, "drained");
        worker_send(core, message);
    }
    worker_link_down(core);
    say_stopped(core);
    return 0;
}

/* Whether a drained worker still has something that others want: what runs, what is not
 * given back (which needs a link), and for a while results that were not ACKed. */
static bool drained(struct worker_core *core)
{
    if (core->total > 0) {
        core->drained_ms = UINT64_MAX;
        return false;
    }
    if (core->drained_ms == UINT64_MAX)
        core->drained_ms = core->now_ms;
    const bool empty = core->unacked == 0 && core->held_tasks == 0;
    return empty || core->now_ms >= worker_after(core->drained_ms, ACK_WAIT_MS);
}

int worker_flush_drain(struct worker_core *core)
{
    if (core->state == CORE_STOPPING && core->total == 0) {
        if (worker_reserve(core, 1) != 0)
            return FARPOOL_ENOMEM;
        say_stopped(core);
        return 0;
    }
    if (core->state != CORE_DRAINING || !drained(core))
        return 0;
    return leave_drained(core);
}

static int tell_drain(struct worker_core *core)
{
    struct message *message = worker_message(core, MSG_DRAIN);
    if (message == NULL)
        return FARPOOL_ENOMEM;
    snprintf(message->drain.reason, sizeof message->drain.reason, "asked to drain");
    worker_send(core, message);
    core->drain_told = true;
    return 0;
}

/* --------------------------------------------------------------------- the flush */

/* What must go before everything else: the end of a silent link, HELD, DRAIN. */
int worker_flush_link_first(struct worker_core *core)
{
    if (core->link == LINK_DOWN)
        return 0;
    if (core->now_ms >= worker_after(core->heard_ms, core->silence_ms))
        return worker_relink(core, "the coordinator was silent for %llu ms",
                             (unsigned long long)(core->now_ms - core->heard_ms));
    if (core->link != LINK_UP)
        return 0;
    struct pool *pool;
    TAILQ_FOREACH (pool, &core->pools, link)
        if (pool->announce && announce(core, pool) != 0)
            return FARPOOL_ENOMEM;
    if (core->state == CORE_DRAINING && !core->drain_told)
        return tell_drain(core);
    return 0;
}

/* The coordinator's own are answered, unless something was sent just before: it tells
 * many links at a time that it is there, and so hears of them all at a time. */
int worker_flush_link_last(struct worker_core *core)
{
    const uint32_t wait_ms =
        core->heartbeat_came ? core->heartbeat_ms / 4 : core->heartbeat_ms;
    core->heartbeat_came = false;
    if (core->link != LINK_UP || core->now_ms < worker_after(core->sent_ms, wait_ms))
        return 0;
    struct message *message = worker_message(core, MSG_HEARTBEAT);
    if (message == NULL)
        return FARPOOL_ENOMEM;
    message->heartbeat.count = core->heartbeats++;
    worker_send(core, message);
    return 0;
}

/* ------------------------------------------------------------------- cut off */

/* Whether there is anything that an end of the waiting would drop. */
static bool has_pools(const struct worker_core *core)
{
    const struct pool *pool;
    TAILQ_FOREACH (pool, &core->pools, link)
        if (pool->state != POOL_FORGOTTEN)
            return true;
    return false;
}

static uint64_t orphaned_ms(const struct worker_core *core)
{
    if (core->link == LINK_UP || core->config.orphan_after_ms == 0 ||
        core->state >= CORE_STOPPING || !has_pools(core))
        return UINT64_MAX;
    return worker_after(core->cut_ms, core->config.orphan_after_ms);
}

/* Cut off for so long: as if the same coordinator had come back. What the next one hears
 * is that nothing is here, and that no other was served before. */
int worker_flush_orphaned(struct worker_core *core)
{
    if (core->now_ms < orphaned_ms(core))
        return 0;
    if (worker_reserve(core, core->total + 1) != 0)
        return FARPOOL_ENOMEM;
    struct worker_effect *effect = worker_add(core, WORKER_ORPHANED);
    snprintf(effect->text, sizeof effect->text,
             "cut-off-ms=%llu tasks=%llu results=%llu processes=%u",
             (unsigned long long)(core->now_ms - core->cut_ms),
             (unsigned long long)core->held_tasks, (unsigned long long)core->unacked,
             core->total - core->counts[PROCESS_KILLED]);
    const int result = start_afresh(core);
    assert(result == 0); /* its effects are reserved */
    memset(&core->coordinator, 0, sizeof core->coordinator);
    return result;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t worker_link_deadline(const struct worker_core *core)
{
    const uint64_t orphaned = orphaned_ms(core);
    if (core->link == LINK_DOWN)
        return orphaned;
    const uint64_t silence = worker_after(core->heard_ms, core->silence_ms);
    const uint64_t heartbeat = core->link == LINK_UP
                                   ? worker_after(core->sent_ms, core->heartbeat_ms)
                                   : UINT64_MAX;
    return earlier(orphaned, earlier(silence, heartbeat));
}
