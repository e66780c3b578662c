/* SPDX-License-Identifier: Apache-2.0
 *
 * core_deal.c: tasks that go straight to workers, and the account of them for the
 * coordinator. Short work goes on lanes: as much as is granted there, which is a little
 * more than the slots; what else a job has goes by the coordinator, which deals it out.
 *
 * Not on lanes: jobs whose tasks must run once, may be speculated on, or are run in
 * chunks; and tasks that were at a lost node, for which the coordinator is asked before
 * they begin.
 *
 * A job that has been on lanes alone is not told to the coordinator before the account
 * is due (ACCOUNT_MS after what it tells has changed): one that ends sooner costs it
 * nothing. What is sent to the coordinator of a job goes behind the account of it. */
#include "client/core_internal.h"

static bool is_dealt(const struct client_core *core, const struct job *job)
{
    const struct client_job_options *options = &job->options;
    return !core->config.attach && options->losses_max > 1 && !options->speculate &&
           options->chunk <= 1;
}

/* The lane with most room; NULL: none has any. */
static struct lane *roomiest(const struct client_core *core)
{
    struct lane *best = NULL;
    for (uint32_t i = 0; i < LANES_MAX; i++) {
        struct lane *lane = core->lanes[i];
        if (!lane || lane->state != LANE_UP || lane->tasks >= lane->granted)
            continue;
        if (!best || lane->granted - lane->tasks > best->granted - best->tasks)
            best = lane;
    }
    return best;
}

/* How many of a span's first tasks the lane takes; 0: none now. What is on lanes counts
 * for the coordinator's window too: it may have to be sent there. */
static uint32_t fit(const struct client_core *core, const struct lane *lane,
                    const struct msg_span *span)
{
    const uint64_t half = lane->granted / 2 ? lane->granted / 2 : 1;
    const uint64_t window = subtract_saturated(core->tasks_max, core->sent_tasks);
    const uint64_t most = smaller(smaller(half, lane->granted - lane->tasks), window);
    const uint64_t left = smaller(subtract_saturated(lane->granted_bytes, lane->bytes),
                                  subtract_saturated(core->bytes_max, core->sent_bytes));
    const uint64_t size = span_task_size(span, 0);
    if (size > core->body_bytes_max || ((!most || size > left) && core->sent_tasks))
        return 0;
    uint64_t count = smaller(smaller(most, span->count), span_fit(span, left));
    count = smaller(count, span_fit(span, MESSAGE_BYTES));
    return count ? (uint32_t)count : 1;
}

static int open_on(struct client_core *core, struct job *job, struct lane *lane,
                   struct client_effects *effects)
{
    const uint64_t bit = UINT64_C(1) << (lane->place - 1);
    if (job->lanes_told & bit)
        return 0;
    struct message *message = client_send_make_open(core, job, false);
    return client_lane_send(core, lane, &message, effects);
}

static int send_first(struct client_core *core, struct job *job, struct lane *lane,
                      uint32_t count, struct client_effects *effects)
{
    const size_t mark = effects->count;
    const uint64_t first = span_set_first(job->waiting)->span.first;
    if (span_set_cut(job->waiting, first + count) || open_on(core, job, lane, effects))
        return FARPOOL_ENOMEM;
    const struct span_item *item = span_set_find(job->waiting, first);
    struct message *message = message_create(MSG_TASKS);
    struct msg_span *span = message ? mem_alloc(sizeof *span) : NULL;
    if (span) {
        message->tasks.pool = core->config.pool;
        message->tasks.job = job->number;
        message->tasks.spans = span;
        message->tasks.spans_count = span_share(&item->span, span) ? 0 : 1;
    }
    if (!span || client_lane_send(core, lane, &message, effects)) {
        message_free(&message);
        client_effects_truncate(effects, mark);
        return FARPOOL_ENOMEM;
    }
    job->lanes_told |= UINT64_C(1) << (lane->place - 1);
    client_job_move(core, job->waiting, first, job->sent, item->span.attempt, item->tag,
                    failures_of(item) | (uint64_t)lane->place << 32, job);
    client_job_settle(core, job);
    return 0;
}

/* *ret_full: no lane has room. */
static int deal_job(struct client_core *core, struct job *job, bool *ret_full,
                    struct client_effects *effects)
{
    while (job->ready) {
        const struct span_item *item = span_set_first(job->waiting);
        if (lane_of(item) == LANE_NONE || doubts_of(item))
            return 0;
        struct lane *lane = roomiest(core);
        const uint32_t count = lane ? fit(core, lane, &item->span) : 0;
        *ret_full = !lane;
        if (!count)
            return 0;
        if (send_first(core, job, lane, count, effects))
            return FARPOOL_ENOMEM;
    }
    return 0;
}

int client_deal_flush(struct client_core *core, struct client_effects *effects)
{
    bool full = core->state != POOL_RUNNING && core->state != POOL_CLOSING;
    struct job *job = full || core->resume ? NULL : client_job_first_ready(core);
    while (job && !full) {
        struct job *next = client_job_next_ready(job);
        if (is_dealt(core, job) && deal_job(core, job, &full, effects))
            return FARPOOL_ENOMEM;
        job = next;
    }
    return 0;
}

/* ------------------------------------------------------------------- ACCOUNT */

static struct message *write_account(const struct client_core *core,
                                     const struct job *job, const struct lane *lane)
{
    struct message *message = message_create(MSG_ACCOUNT);
    struct msg_range *ranges = message ? mem_alloc(LIST_MAX * sizeof *ranges) : NULL;
    if (!ranges) {
        message_free(&message);
        return NULL;
    }
    message->account.pool = core->config.pool;
    message->account.job = job->number;
    message->account.worker = lane->worker;
    message->account.done = job->lane_done;
    message->account.failed = job->lane_failed;
    message->account.elapsed_ns = job->lane_ns;
    message->account.ranges = ranges;
    const struct span_item *item = span_set_first(job->sent);
    for (; item; item = span_set_next(job->sent, item))
        if (lane_of(item) == lane->place)
            ranges[message->account.ranges_count++] = (struct msg_range){
                item->span.first, item->span.count, item->span.attempt};
    return message;
}

int client_deal_account(struct client_core *core, struct job *job,
                        const struct lane *lane, struct client_effects *effects)
{
    const uint64_t bit = UINT64_C(1) << (lane->place - 1);
    struct message *message = write_account(core, job, lane);
    const bool any = message && message->account.ranges_count;
    if (!message)
        return FARPOOL_ENOMEM;
    if (!any && !(job->accounted & bit)) {
        message_free(&message);
        return 0;
    }
    if (client_send_open_if_untold(core, job, effects) ||
        client_send_message(effects, &message)) {
        message_free(&message);
        return FARPOOL_ENOMEM;
    }
    job->lane_done = job->lane_failed = job->lane_ns = 0;
    job->accounted = any ? job->accounted | bit : job->accounted & ~bit;
    return 0;
}

int client_deal_account_job(struct client_core *core, struct job *job,
                            struct client_effects *effects)
{
    for (uint32_t i = 0; i < LANES_MAX && job->accounted; i++)
        if (core->lanes[i] && client_deal_account(core, job, core->lanes[i], effects))
            return FARPOOL_ENOMEM;
    return 0;
}

int client_deal_flush_accounts(struct client_core *core, struct client_effects *effects)
{
    for (uint32_t i = 0; i < LANES_MAX; i++) {
        struct lane *lane = core->lanes[i];
        if (!lane || core->now_ms < lane->account_ms)
            continue;
        for (struct job *job = core->jobs; job; job = job->hh.next)
            if (job->lanes_told & UINT64_C(1) << i &&
                client_deal_account(core, job, lane, effects))
                return FARPOOL_ENOMEM;
        lane->account_ms = UINT64_MAX;
    }
    return 0;
}

/* -------------------------------------------------------- ends, on all its lanes */

int client_deal_tell(struct client_core *core, const struct job *job,
                     const struct message *message, struct client_effects *effects)
{
    const size_t mark = effects->count;
    for (uint32_t i = 0; i < LANES_MAX; i++) {
        struct lane *lane = core->lanes[i];
        if (!lane || lane->state != LANE_UP || !(job->lanes_told & UINT64_C(1) << i))
            continue;
        struct message *copy = message_copy(message);
        if (client_lane_send(core, lane, &copy, effects)) {
            client_effects_truncate(effects, mark);
            return FARPOOL_ENOMEM;
        }
    }
    return 0;
}
