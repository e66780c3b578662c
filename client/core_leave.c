/* SPDX-License-Identifier: Apache-2.0
 *
 * core_leave.c: what of a job is on which lane, and what becomes of it when that ends.
 *
 * Which lane a task of `sent` is on is in its tag2, beside its failures. What becomes of
 * it when the lane ends depends on why:
 *
 *   the worker is gone (WITHDRAW)   as if LOST told so, unsure: it may have begun
 *   the coordinator was restarted   it stays `sent`, and is sent again with all others
 *   anything else                   it waits to be sent by the coordinator, as another
 *                                   attempt, and not on another lane */
#include "client/core_internal.h"

#include <stdio.h>
#include <string.h>

static const struct span_item *next_on(const struct job *job, const struct lane *lane,
                                       uint64_t at)
{
    const struct span_item *item = span_set_at_or_after(job->sent, at);
    while (item && lane_of(item) != lane->place)
        item = span_set_next(job->sent, item);
    return item;
}

bool client_lane_has(const struct job *job, const struct lane *lane)
{
    return job->lanes_told & UINT64_C(1) << (lane->place - 1) && next_on(job, lane, 0);
}

struct msg_range *client_lane_list(const struct job *job, const struct lane *lane,
                                   uint64_t first, uint32_t *ret_count)
{
    struct msg_range *ranges = mem_alloc(LIST_MAX * sizeof *ranges);
    const struct span_item *item = ranges ? next_on(job, lane, first) : NULL;
    *ret_count = 0;
    for (; item && *ret_count < LIST_MAX;
         item = next_on(job, lane, item->span.first + item->span.count))
        ranges[(*ret_count)++] =
            (struct msg_range){item->span.first, item->span.count, item->span.attempt};
    return ranges;
}

/* As LOST of what was at the worker. */
static int lose_some(struct client_core *core, const struct lane *lane,
                     const struct job *job, struct client_effects *effects)
{
    struct message *message = message_create(MSG_LOST);
    if (!message || !(message->lost.ranges =
                          client_lane_list(job, lane, 0, &message->lost.ranges_count))) {
        message_free(&message);
        return FARPOOL_ENOMEM;
    }
    message->lost.job = job->number;
    message->lost.code = FARPOOL_ENODELOST;
    message->lost.unsure = true;
    memcpy(message->lost.node, lane->node, sizeof lane->node);
    snprintf(message->lost.text, sizeof message->lost.text, "node %s: %.128s", lane->node,
             lane->text);
    const int error = client_results_handle_lost(core, message, effects);
    message_free(&message);
    return error;
}

static int lose(struct client_core *core, const struct lane *lane, const struct job *job,
                struct client_effects *effects)
{
    int error = 0;
    while (!error && next_on(job, lane, 0))
        error = lose_some(core, lane, job, effects);
    return error;
}

static int cancel_some(struct client_core *core, const struct lane *lane,
                       const struct job *job, uint64_t *at,
                       struct client_effects *effects)
{
    struct message *message = message_create(MSG_CANCEL);
    uint32_t count = 0;
    if (!message ||
        !(message->cancel.ranges = client_lane_list(job, lane, *at, &count))) {
        message_free(&message);
        return FARPOOL_ENOMEM;
    }
    message->cancel.pool = core->config.pool;
    message->cancel.job = job->number;
    message->cancel.kill = true;
    message->cancel.ranges_count = count;
    *at =
        message->cancel.ranges[count - 1].first + message->cancel.ranges[count - 1].count;
    return client_send_message(effects, &message);
}

/* What is left at the worker is for nobody: the coordinator is told of it, and has it
 * ended there. */
static int cancel(struct client_core *core, const struct lane *lane, struct job *job,
                  struct client_effects *effects)
{
    uint64_t at = 0;
    int error = client_deal_account(core, job, lane, effects);
    while (!error && next_on(job, lane, at))
        error = cancel_some(core, lane, job, &at, effects);
    return error;
}

/* To another coordinator it is sent again as all that was under way. To the same one as
 * a new attempt, so that nobody has to know which of two copies a result is of. */
static void leave(struct client_core *core, const struct lane *lane, struct job *job)
{
    struct span_set *to = core->resume ? job->sent : job->waiting;
    const uint64_t mark = core->resume ? 0 : (uint64_t)LANE_NONE << 32;
    const struct span_item *item = next_on(job, lane, 0);
    while (item) {
        const uint64_t first = item->span.first, next = first + item->span.count;
        client_job_move(core, job->sent, first, to, item->span.attempt + !core->resume,
                        item->tag, failures_of(item) | mark, job);
        item = next_on(job, lane, next);
    }
    client_job_settle(core, job);
}

static int finish_job(struct client_core *core, struct lane *lane, struct job *job,
                      struct client_effects *effects)
{
    const uint64_t bit = UINT64_C(1) << (lane->place - 1);
    const bool tells = core->link == LINK_WELCOMED && !core->resume;
    int error = 0;
    if (!(job->lanes_told & bit))
        return 0;
    if (lane->withdrawn)
        error = lose(core, lane, job, effects);
    else if (tells)
        error = cancel(core, lane, job, effects);
    if (!error && lane->withdrawn && tells)
        error = client_deal_account(core, job, lane, effects);
    if (error)
        return error;
    if (!lane->withdrawn)
        leave(core, lane, job);
    job->lanes_told &= ~bit;
    job->accounted &= ~bit;
    return 0;
}

int client_lane_finish(struct client_core *core, struct lane *lane,
                       struct client_effects *effects)
{
    for (struct job *job = core->jobs; job; job = job->hh.next)
        if (finish_job(core, lane, job, effects))
            return FARPOOL_ENOMEM;
    const size_t mark = effects->count;
    const bool tell = !lane->withdrawn && core->link == LINK_WELCOMED && !core->resume;
    if (tell && client_lane_say(&lane->ticket, false, lane->text, effects))
        return FARPOOL_ENOMEM;
    struct client_effect *effect =
        lane->cut ? NULL : client_effects_add(effects, CLIENT_HANG_UP);
    if (!effect && !lane->cut) {
        client_effects_truncate(effects, mark);
        return FARPOOL_ENOMEM;
    }
    if (effect) {
        effect->lane = lane->number;
        snprintf(effect->text, sizeof effect->text, "%s", lane->text);
    }
    assert(!lane->tasks && !lane->bytes);
    client_ack_forget(core, lane->number);
    core->lanes[lane->place - 1] = NULL;
    mem_free(lane);
    return 0;
}
