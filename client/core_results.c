/* SPDX-License-Identifier: Apache-2.0
 *
 * core_results.c: what comes back. A result is taken for the tasks that are in `sent`
 * with the result's attempt, and is stale for all others: those were answered before,
 * cancelled, or sent again. Either way it is in hand, and ACKed.
 *
 *   EFUNCTION, a limit           tried again while `retries` are left
 *   EPROCESSLOST, LOST ENODELOST tried again until losses_max
 *   LOST ENODELOST, unsure       tried again and watched: it may not have begun at all.
 *                                From DOUBTS_MAX on it counts as a loss
 *   LOST EDRAINED                tried again: it has not run
 *   any other code               the task's end: it would be the same again
 *
 * A job with losses_max 1 tries again only what has not run. Each new try has the next
 * attempt, also after EDRAINED: it costs nothing, and nothing has to be proved about
 * results that may still be under way. */
#include "client/core_internal.h"

#include <stdio.h>

/* ------------------------------------------- moving tasks, to keep or undo */

static void hold(struct client_core *core, struct job *job, const struct span_item *item,
                 struct span_set *to)
{
    client_job_move(core, job->sent, item->span.first, to, item->span.attempt, item->tag,
                    item->tag2, job);
}

static void undo_from(struct client_core *core, struct job *job, struct span_set *set)
{
    const struct span_item *item;
    while ((item = span_set_first(set)))
        client_job_move(core, set, item->span.first, job->sent, item->span.attempt,
                        item->tag, item->tag2, job);
}

static int undo(struct client_core *core, struct job *job)
{
    undo_from(core, job, core->ended);
    undo_from(core, job, core->again);
    return FARPOOL_ENOMEM;
}

/* Why a task is not done. */
struct reason {
    int code;
    bool unsure; /* ENODELOST */
};

static void try_again(struct client_core *core, struct job *job,
                      const struct span_item *item, uint64_t tag, uint64_t tag2)
{
    client_job_move(core, core->again, item->span.first, job->waiting,
                    item->span.attempt + 1, tag, tag2, job);
}

static bool is_loss_code(int code)
{
    return code == FARPOOL_EPROCESSLOST || code == FARPOOL_ENODELOST;
}

static bool is_doubt(const struct span_item *item, const struct reason *reason)
{
    return reason->unsure && doubts_of(item) < DOUBTS_MAX;
}

/* The tag of the next attempt. What was at a lost node is watched from then on, and by
 * itself when it had begun there. */
static uint64_t next_tag(const struct span_item *item, const struct reason *reason)
{
    if (is_doubt(item, reason))
        return item->tag + DOUBT;
    if (reason->code == FARPOOL_ENODELOST && doubts_of(item) < WATCH_ONE)
        return WATCH_ONE * DOUBT + losses_of(item) + 1;
    return item->tag + is_loss_code(reason->code);
}

static uint64_t next_failures(const struct span_item *item, const struct reason *reason)
{
    const bool none = is_loss_code(reason->code) || reason->code == FARPOOL_EDRAINED;
    return failures_of(item) + (none ? 0 : 1);
}

/* What try_again will do with an item, for who keeps account of it. */
static int tell_again(const struct job *job, const struct span_item *item,
                      const struct reason *reason, struct client_effects *effects,
                      size_t mark)
{
    const uint64_t losses = next_tag(item, reason);
    const uint64_t failures = next_failures(item, reason);
    struct client_effect *last =
        effects->count > mark ? &effects->items[effects->count - 1] : NULL;
    if (!job->options.tells_again)
        return 0;
    if (last && last->kind == CLIENT_AGAIN && last->attempt == item->span.attempt + 1 &&
        last->losses == losses && last->failures == failures &&
        last->first + last->count == item->span.first) {
        last->count += item->span.count;
        return 0;
    }
    struct client_effect *effect = client_effects_add(effects, CLIENT_AGAIN);
    if (!effect)
        return FARPOOL_ENOMEM;
    effect->job = job->number;
    effect->first = item->span.first;
    effect->count = item->span.count;
    effect->attempt = item->span.attempt + 1;
    effect->losses = losses;
    effect->failures = failures;
    return 0;
}

static void count_effect(struct job *job, const struct client_effect *effect)
{
    if (effect->kind == CLIENT_FAILED) {
        job->failed += effect->count ? effect->count : 1;
    } else if (effect->kind == CLIENT_DONE) {
        const uint64_t bytes = effect->data ? effect->data->size : 0;
        job->done += effect->count;
        client_average_add(&job->output_size, effect->count, bytes);
        if (job->options.lazy) {
            job->output_bytes += bytes;
            job->allowance = smaller(job->allowance + effect->count, LAZY_TASKS_MAX);
        }
    }
}

/* What was on lanes is told to the coordinator with the next account. */
static void count_lanes(const struct client_core *core, struct job *job, bool done,
                        uint64_t elapsed_ns)
{
    const struct span_item *item = span_set_first(core->ended);
    for (; item; item = span_set_next(core->ended, item)) {
        if (!lane_of(item))
            continue;
        *(done ? &job->lane_done : &job->lane_failed) += item->span.count;
        job->lane_ns += elapsed_ns;
        elapsed_ns = 0;
    }
}

/* The end of a step that can no longer fail: `again` is empty, `ended` is dropped. */
static void commit(struct client_core *core, struct job *job,
                   const struct client_effects *effects, size_t mark)
{
    const struct span_item *item;
    while ((item = span_set_first(core->ended)))
        span_set_take(core->ended, item->span.first, item->span.count, NULL);
    for (size_t i = mark; i < effects->count; i++)
        count_effect(job, &effects->items[i]);
    client_job_settle(core, job);
}

static int cut_at(struct job *job, uint64_t first, uint64_t end)
{
    const int error = span_set_cut(job->sent, first);
    return error ? error : span_set_cut(job->sent, end);
}

/* ------------------------------------------------------------------- DONE */

static int tell_done(const struct job *job, const struct msg_done *done, uint64_t first,
                     uint64_t count, struct client_effects *effects)
{
    const struct msg_span all = {.first = done->first,
                                 .count = done->count,
                                 .attempt = done->attempt,
                                 .sizes = done->sizes,
                                 .data = done->data};
    struct msg_span part;
    int error = span_slice(&all, first, (uint32_t)count, &part);
    if (error)
        return error;
    struct client_effect *effect = client_effects_add(effects, CLIENT_DONE);
    if (!effect) {
        span_fini(&part);
        return FARPOOL_ENOMEM;
    }
    effect->job = job->number;
    effect->first = first;
    effect->count = count;
    effect->sizes = part.sizes;
    effect->data = part.data;
    return 0;
}

/* Holds the tasks that this record ends, and tells each run of them. */
static int take_done(struct client_core *core, struct job *job,
                     const struct msg_done *done, struct client_effects *effects)
{
    const uint64_t end = add_saturated(done->first, done->count);
    uint64_t at = done->first, first = at, count = 0;
    int error = cut_at(job, done->first, end);
    const struct span_item *item;
    while (!error && (item = span_set_at_or_after(job->sent, at)) &&
           item->span.first < end) {
        const uint64_t begin = item->span.first;
        const uint32_t tasks = item->span.count;
        at = begin + tasks;
        if (item->span.attempt != done->attempt)
            continue;
        if (begin != first + count) {
            error = count ? tell_done(job, done, first, count, effects) : 0;
            first = begin;
            count = 0;
        }
        count += tasks;
        hold(core, job, item, core->ended);
    }
    if (!error && count)
        error = tell_done(job, done, first, count, effects);
    return error;
}

int client_results_handle_done(struct client_core *core, const struct message *message,
                               struct client_effects *effects)
{
    const struct msg_done *results = message->done.results;
    const uint32_t count = message->done.results_count;
    struct job *job = client_job_find(core, message->done.job);
    const size_t mark = effects->count;
    if (!client_ack_reserve(core, count))
        return FARPOOL_ENOMEM;
    for (uint32_t i = 0; job && i < count; i++)
        if (take_done(core, job, &results[i], effects))
            return undo(core, job);
    uint64_t elapsed_ns = 0;
    for (uint32_t i = 0; i < count; i++) {
        elapsed_ns += results[i].elapsed_ns;
        client_ack_add(core, &message->done.worker, results[i].seq,
                       results[i].data ? results[i].data->size : 0);
        if (job)
            client_average_add(&job->elapsed_ns, results[i].count, results[i].elapsed_ns);
    }
    if (message->done.hurry)
        client_ack_hurry(core);
    if (job) {
        client_part_measure(core, job);
        count_lanes(core, job, true, elapsed_ns);
        commit(core, job, effects, mark);
    }
    return 0;
}

/* ----------------------------------------------------------------- FAILED */

static bool is_tried_again(const struct job *job, const struct span_item *item,
                           const struct reason *reason)
{
    const struct client_job_options *options = &job->options;
    const int code = reason->code;
    if (code == FARPOOL_EDRAINED)
        return true;
    if (options->losses_max == 1)
        return false;
    if (is_doubt(item, reason))
        return true;
    if (is_loss_code(code))
        return losses_of(item) + 1 < options->losses_max;
    if (code == FARPOOL_EFUNCTION || code == FARPOOL_ETASKTIMEOUT ||
        code == FARPOOL_ECPULIMIT || code == FARPOOL_EMEMORYLIMIT)
        return failures_of(item) < options->retries;
    return false;
}

static char *copy_text(const char *text, bool *failed)
{
    char *copy = text ? mem_strdup(text) : NULL;
    *failed |= text && !copy;
    return copy;
}

static int tell_failed(const struct job *job, const struct msg_failed *result,
                       struct client_effects *effects)
{
    struct client_effect *effect = client_effects_add(effects, CLIENT_FAILED);
    if (!effect)
        return FARPOOL_ENOMEM;
    bool failed = false;
    effect->job = job->number;
    effect->failed = *result;
    effect->failed.code = client_pool_code(result->code);
    effect->failed.message = copy_text(result->message, &failed);
    effect->failed.backtrace = copy_text(result->backtrace, &failed);
    return failed ? FARPOOL_ENOMEM : 0;
}

static int take_failed(struct client_core *core, struct job *job,
                       const struct msg_failed *result, struct client_effects *effects,
                       size_t mark)
{
    const struct span_item *item = span_set_find(job->sent, result->index);
    if (!item || item->span.attempt != result->attempt)
        return 0;
    const int error = cut_at(job, result->index, result->index + 1);
    if (error)
        return error;
    item = span_set_find(job->sent, result->index);
    const struct reason reason = {.code = client_pool_code(result->code)};
    const bool again = is_tried_again(job, item, &reason);
    if (again && tell_again(job, item, &reason, effects, mark))
        return FARPOOL_ENOMEM;
    hold(core, job, item, again ? core->again : core->ended);
    return again ? 0 : tell_failed(job, result, effects);
}

/* The tasks in `again` for the reason that each of these tells. */
static void try_failed_again(struct client_core *core, struct job *job,
                             const struct msg_failed *result)
{
    const struct span_item *item = span_set_find(core->again, result->index);
    if (!item || item->span.attempt != result->attempt)
        return;
    const struct reason reason = {.code = client_pool_code(result->code)};
    try_again(core, job, item, next_tag(item, &reason), next_failures(item, &reason));
}

int client_results_handle_failed(struct client_core *core, const struct message *message,
                                 struct client_effects *effects)
{
    const struct msg_failed *results = message->failed.results;
    const uint32_t count = message->failed.results_count;
    struct job *job = client_job_find(core, message->failed.job);
    const size_t mark = effects->count;
    if (!client_ack_reserve(core, count))
        return FARPOOL_ENOMEM;
    for (uint32_t i = 0; job && i < count; i++)
        if (take_failed(core, job, &results[i], effects, mark))
            return undo(core, job);
    for (uint32_t i = 0; i < count; i++) {
        client_ack_add(core, &message->failed.worker, results[i].seq, 0);
        if (job)
            try_failed_again(core, job, &results[i]);
    }
    if (message->failed.hurry)
        client_ack_hurry(core);
    if (job)
        commit(core, job, effects, mark);
    return 0;
}

/* ------------------------------------------------------------------- LOST */

/* `mark`: where this step's effects begin, the last of which may just grow. */
static int tell_lost(const struct job *job, const struct message *message,
                     const struct span_item *item, struct client_effects *effects,
                     size_t mark)
{
    struct client_effect *last =
        effects->count > mark ? &effects->items[effects->count - 1] : NULL;
    if (last && last->kind == CLIENT_FAILED && last->attempt == item->span.attempt &&
        last->first + last->count == item->span.first) {
        last->count += item->span.count;
        return 0;
    }
    struct client_effect *effect = client_effects_add(effects, CLIENT_FAILED);
    if (!effect)
        return FARPOOL_ENOMEM;
    effect->job = job->number;
    effect->first = item->span.first;
    effect->count = item->span.count;
    effect->attempt = item->span.attempt;
    effect->code = FARPOOL_ENODELOST;
    snprintf(effect->text, sizeof effect->text, "%s", message->lost.text);
    snprintf(effect->node, sizeof effect->node, "%s", message->lost.node);
    return 0;
}

static struct reason reason_of(const struct message *message)
{
    return (struct reason){.code = message->lost.code,
                           .unsure = message->lost.code == FARPOOL_ENODELOST &&
                                     message->lost.unsure};
}

static int take_lost(struct client_core *core, struct job *job,
                     const struct message *message, const struct msg_range *range,
                     struct client_effects *effects, size_t mark)
{
    const struct reason reason = reason_of(message);
    const uint64_t end = add_saturated(range->first, range->count);
    uint64_t at = range->first;
    int error = cut_at(job, range->first, end);
    const struct span_item *item;
    while (!error && (item = span_set_at_or_after(job->sent, at)) &&
           item->span.first < end) {
        at = item->span.first + item->span.count;
        if (range->attempt && item->span.attempt != range->attempt)
            continue;
        if (message->lost.lane && (!lane_of(item) || lane_of(item) == LANE_NONE))
            continue; /* it was sent again meanwhile, by the coordinator */
        const bool again = is_tried_again(job, item, &reason);
        error = again ? tell_again(job, item, &reason, effects, mark)
                      : tell_lost(job, message, item, effects, mark);
        if (!error)
            hold(core, job, item, again ? core->again : core->ended);
    }
    return error;
}

int client_results_handle_lost(struct client_core *core, const struct message *message,
                               struct client_effects *effects)
{
    const int code = message->lost.code;
    if (code != FARPOOL_ENODELOST && code != FARPOOL_EDRAINED)
        return client_link_relink(core, effects, FARPOOL_EPROTOCOL, "LOST with code %d",
                                  code);
    struct job *job = client_job_find(core, message->lost.job);
    if (!job)
        return 0;
    const struct reason reason = reason_of(message);
    const size_t mark = effects->count;
    for (uint32_t i = 0; i < message->lost.ranges_count; i++)
        if (take_lost(core, job, message, &message->lost.ranges[i], effects, mark))
            return undo(core, job);
    /* What was given back from a lane is for the coordinator to place. */
    const uint64_t way = message->lost.lane ? (uint64_t)LANE_NONE << 32 : 0;
    const struct span_item *item;
    while ((item = span_set_first(core->again)))
        try_again(core, job, item, next_tag(item, &reason), failures_of(item) | way);
    commit(core, job, effects, mark);
    return 0;
}
