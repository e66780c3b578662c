/* SPDX-License-Identifier: Apache-2.0
 *
 * core_job.c: jobs from their opening to their end.
 *
 * A task of a job is `waiting`, `sent`, or has ended (done or failed); the four numbers
 * add up to what was pulled. An ended task's input is dropped; that a result for it may
 * still come is no concern: it finds no task in `sent`. A job is over when all its input
 * came and both sets are empty; the next FLUSH tells so, and forgets it. */
#include "client/core_internal.h"

#include <stdio.h>

/* Priority, then age. */
static int compare(const struct job *a, const struct job *b)
{
    if (a->options.priority != b->options.priority)
        return a->options.priority > b->options.priority ? -1 : 1;
    return (a->number > b->number) - (a->number < b->number);
}

RB_GENERATE_INTERNAL(job_tree, job, ready_entry, compare, FARPOOL_UNUSED static)

struct job *client_job_first_ready(struct client_core *core)
{
    return RB_MIN(job_tree, &core->ready);
}

size_t client_job_count_ready(const struct client_core *core)
{
    struct job_tree tree = core->ready; /* its macros want one that may be changed */
    size_t count = 0;
    for (struct job *job = RB_MIN(job_tree, &tree); job; count++)
        job = RB_NEXT(job_tree, &tree, job);
    return count;
}

struct job *client_job_find(const struct client_core *core, uint64_t number)
{
    struct job *job;
    HASH_FIND(hh, core->jobs, &number, sizeof number, job);
    return job;
}

static void free_memory(struct job *job)
{
    span_set_destroy(job->waiting);
    span_set_destroy(job->sent);
    mem_free(job);
}

int client_job_open(struct client_core *core, struct client_event *event)
{
    if (core->state != POOL_RUNNING)
        return FARPOOL_ECLOSED;
    assert(event->options->losses_max >= 1);
    assert(!event->options->speculate || event->options->losses_max > 1);
    struct job *job = mem_alloc(sizeof *job);
    if (!job)
        return FARPOOL_ENOMEM;
    bool failed = span_set_create(&job->waiting) || span_set_create(&job->sent);
    if (!failed) {
        job->number = ((uint64_t)core->config.job_tag << 32) + core->jobs_opened + 1;
        HASH_ADD(hh, core->jobs, number, sizeof job->number, job);
    }
    if (failed) {
        free_memory(job);
        return FARPOOL_ENOMEM;
    }
    core->jobs_opened++;
    job->options = *event->options;
    job->resend_next = UINT64_MAX;
    job->allowance = LAZY_FIRST;
    client_part_borrow(core, job);
    if (job->options.lazy)
        TAILQ_INSERT_TAIL(&core->lazy, job, lazy_entry);
    event->job = job->number;
    return 0;
}

void client_job_destroy(struct client_core *core, struct job *job)
{
    const struct span_item *item = span_set_first(job->sent);
    for (; item; item = span_set_next(job->sent, item))
        client_lane_count(core, item, -1);
    core->sent_tasks -= span_set_tasks(job->sent);
    core->sent_bytes -= span_set_bytes(job->sent);
    if (job->ready)
        RB_REMOVE(job_tree, &core->ready, job);
    if (job->state == JOB_OVER)
        TAILQ_REMOVE(&core->over, job, over_entry);
    if (job->options.lazy)
        TAILQ_REMOVE(&core->lazy, job, lazy_entry);
    assert(core->jobs && core->jobs->hh.tbl);
    HASH_DEL(core->jobs, job);
    free_memory(job);
}

void client_job_move(struct client_core *core, struct span_set *from, uint64_t first,
                     struct span_set *to, uint32_t attempt, uint64_t tag, uint64_t tag2,
                     struct job *job)
{
    core->sent_tasks -= span_set_tasks(job->sent);
    core->sent_bytes -= span_set_bytes(job->sent);
    if (from == job->sent)
        client_lane_count(core, span_set_find(from, first), -1);
    span_set_move(from, first, to, attempt, tag, tag2);
    if (to == job->sent)
        client_lane_count(core, span_set_find(to, first), 1);
    core->sent_tasks += span_set_tasks(job->sent);
    core->sent_bytes += span_set_bytes(job->sent);
}

void client_job_settle(struct client_core *core, struct job *job)
{
    const bool ready = span_set_tasks(job->waiting) > 0;
    if (ready && !job->ready)
        RB_INSERT(job_tree, &core->ready, job);
    if (!ready && job->ready)
        RB_REMOVE(job_tree, &core->ready, job);
    job->ready = ready;
    if (job->state == JOB_FILLED && !ready && !span_set_tasks(job->sent)) {
        job->state = JOB_OVER;
        TAILQ_INSERT_TAIL(&core->over, job, over_entry);
    }
}

/* Of what a lazy job asked for. */
static void count_input(struct job *job, uint64_t count, uint64_t bytes)
{
    client_average_add(&job->input_size, count, bytes);
    job->wanted = subtract_saturated(job->wanted, count);
    job->wanted_bytes = subtract_saturated(job->wanted_bytes, bytes);
    if (!job->wanted_bytes)
        job->wanted = 0;
}

int client_job_input(struct client_core *core, struct client_event *event)
{
    struct job *job = client_job_find(core, event->job);
    if (!job || job->state == JOB_OVER)
        return FARPOOL_EINVAL; /* the pool failed; JOB_ENDED is still to be told */
    assert(job->state == JOB_FILLING && event->span.first == job->next);
    const uint32_t count = event->span.count;
    const uint64_t bytes = span_bytes(&event->span);
    event->span.attempt = 1;
    const int error = span_set_add(job->waiting, &event->span, 0, 0);
    if (error)
        return error;
    job->next += count;
    count_input(job, count, bytes);
    client_job_settle(core, job);
    return 0;
}

int client_job_again(struct client_core *core, struct client_event *event)
{
    struct job *job = client_job_find(core, event->job);
    if (!job || job->state == JOB_OVER)
        return FARPOOL_EINVAL;
    assert(job->state == JOB_FILLING && event->span.first == job->next);
    assert(!event->under_way || (core->config.resumes && !core->link_number));
    const uint32_t count = event->span.count;
    const uint64_t bytes = span_bytes(&event->span);
    const int error = span_set_add(event->under_way ? job->sent : job->waiting,
                                   &event->span, event->losses, event->failures);
    if (error)
        return error;
    job->next += count;
    core->sent_tasks += event->under_way ? count : 0;
    core->sent_bytes += event->under_way ? bytes : 0;
    if (event->under_way)
        client_average_add(&job->input_size, count, bytes);
    else
        count_input(job, count, bytes);
    client_job_settle(core, job);
    return 0;
}

int client_job_skip(struct client_core *core, const struct client_event *event)
{
    struct job *job = client_job_find(core, event->job);
    if (!job || job->state == JOB_OVER)
        return FARPOOL_EINVAL;
    assert(job->state == JOB_FILLING);
    job->next += event->count;
    job->done += event->count;
    job->consumed += event->count;
    return 0;
}

int client_job_input_end(struct client_core *core, const struct client_event *event)
{
    struct job *job = client_job_find(core, event->job);
    if (!job || job->state == JOB_OVER)
        return FARPOOL_EINVAL;
    assert(job->state == JOB_FILLING);
    job->state = JOB_FILLED;
    job->wanted = 0;
    client_job_settle(core, job);
    return 0;
}

/* ------------------------------------------------------------ ending tasks */

/* The next span of either set that begins in [at, end), both being cut at the ends. */
static const struct span_item *next_of(const struct job *job, uint64_t at,
                                       const struct job_end *end)
{
    const struct span_item *sent = span_set_at_or_after(job->sent, at);
    const struct span_item *waiting = span_set_at_or_after(job->waiting, at);
    const struct span_item *next = sent;
    if (!sent || (waiting && waiting->span.first < sent->span.first))
        next = waiting;
    return next && next->span.first < end->end ? next : NULL;
}

static int add_failed(struct client_effects *effects, const struct job *job,
                      uint64_t first, uint64_t count, const struct job_end *end)
{
    struct client_effect *effect = client_effects_add(effects, CLIENT_FAILED);
    if (!effect)
        return FARPOOL_ENOMEM;
    effect->job = job->number;
    effect->first = first;
    effect->count = count;
    effect->code = end->code;
    snprintf(effect->text, sizeof effect->text, "%s", end->text);
    snprintf(effect->node, sizeof effect->node, "%s", end->node ? end->node : "");
    return 0;
}

/* One effect for each run of consecutive unfinished tasks. */
static int tell_failed(const struct job *job, const struct job_end *end,
                       struct client_effects *effects)
{
    uint64_t first = end->first, count = 0;
    const struct span_item *item;
    while ((item = next_of(job, first + count, end))) {
        if (item->span.first != first + count) {
            if (count && add_failed(effects, job, first, count, end))
                return FARPOOL_ENOMEM;
            first = item->span.first;
            count = 0;
        }
        count += item->span.count;
    }
    return count ? add_failed(effects, job, first, count, end) : 0;
}

static uint64_t drop_tasks(struct client_core *core, const struct job *job,
                           struct span_set *set, uint64_t first, uint64_t end)
{
    uint64_t count = 0;
    const struct span_item *item;
    while ((item = span_set_at_or_after(set, first)) && item->span.first < end) {
        count += item->span.count;
        if (set == job->sent)
            client_lane_count(core, item, -1);
        span_set_take(set, item->span.first, item->span.count, NULL);
    }
    return count;
}

static int cut_ends(struct span_set *set, uint64_t first, uint64_t end)
{
    const int error = span_set_cut(set, first);
    return error ? error : span_set_cut(set, end);
}

int client_job_end_tasks(struct client_core *core, struct job *job, struct job_end *end,
                         struct client_effects *effects)
{
    const size_t mark = effects->count;
    int error = cut_ends(job->sent, end->first, end->end);
    if (!error)
        error = cut_ends(job->waiting, end->first, end->end);
    if (!error)
        error = tell_failed(job, end, effects);
    if (error) {
        client_effects_truncate(effects, mark);
        return error;
    }
    core->sent_tasks -= span_set_tasks(job->sent);
    core->sent_bytes -= span_set_bytes(job->sent);
    end->ret_count = drop_tasks(core, job, job->sent, end->first, end->end);
    core->sent_tasks += span_set_tasks(job->sent);
    core->sent_bytes += span_set_bytes(job->sent);
    end->ret_count += drop_tasks(core, job, job->waiting, end->first, end->end);
    job->failed += end->ret_count;
    client_job_settle(core, job);
    return 0;
}

/* Whether the coordinator on the present link has heard of the job. */
static bool is_told(const struct client_core *core, const struct job *job)
{
    return core->link == LINK_WELCOMED && job->told_link == core->link_number;
}

/* On the lanes that have heard of the job, and to the coordinator. */
static int tell(struct client_core *core, const struct job *job, struct message **message,
                struct client_effects *effects)
{
    const size_t mark = effects->count;
    int error = *message ? client_deal_tell(core, job, *message, effects) : 0;
    if (!error && is_told(core, job))
        error = client_send_message(effects, message);
    message_free(message);
    if (error)
        client_effects_truncate(effects, mark);
    return error;
}

/* Tells the coordinator to drop tasks, if it may have any of them. Ranges that were
 * never sent, or have ended, harm nothing in it. */
int client_job_send_cancel(struct client_core *core, const struct job *job,
                           uint64_t first, uint64_t count, bool kill,
                           struct client_effects *effects)
{
    const struct span_item *item = span_set_at_or_after(job->sent, first);
    if ((!is_told(core, job) && !job->lanes_told) || !item ||
        item->span.first >= add_saturated(first, count))
        return 0;
    struct message *message = message_create(MSG_CANCEL);
    struct msg_range *range = mem_alloc(sizeof *range);
    if (!message || !range) {
        message_free(&message);
        mem_free(range);
        return FARPOOL_ENOMEM;
    }
    *range = (struct msg_range){.first = first, .count = count, .attempt = 0};
    message->cancel.pool = core->config.pool;
    message->cancel.job = job->number;
    message->cancel.kill = kill;
    message->cancel.ranges = range;
    message->cancel.ranges_count = 1;
    return tell(core, job, &message, effects);
}

int client_job_cancel(struct client_core *core, struct client_event *event,
                      struct client_effects *effects)
{
    struct job *job = client_job_find(core, event->job);
    if (!job)
        return FARPOOL_EINVAL;
    const uint64_t first = smaller(event->first, job->next);
    struct job_end end = {
        .first = first,
        .end = smaller(add_saturated(first, event->count), job->next),
        .code = FARPOOL_ECANCELLED,
        .text = "cancelled",
    };
    if (end.first < end.end) {
        int error = client_job_send_cancel(core, job, first, end.end - first, event->kill,
                                           effects);
        if (!error)
            error = client_job_end_tasks(core, job, &end, effects);
        if (error)
            return error;
    }
    event->count = end.ret_count;
    return 0;
}

static int send_close(struct client_core *core, const struct job *job,
                      struct client_effects *effects)
{
    if (!is_told(core, job) && !job->lanes_told)
        return 0;
    struct message *message = message_create(MSG_JOB_CLOSE);
    if (message) {
        message->job_close.pool = core->config.pool;
        message->job_close.job = job->number;
    }
    return message ? tell(core, job, &message, effects) : FARPOOL_ENOMEM;
}

int client_job_free(struct client_core *core, const struct client_event *event,
                    struct client_effects *effects)
{
    struct job *job = client_job_find(core, event->job);
    if (!job)
        return FARPOOL_EINVAL;
    int error = client_job_send_cancel(core, job, 0, job->next, event->kill, effects);
    if (!error)
        error = send_close(core, job, effects);
    if (!error)
        client_job_destroy(core, job);
    return error;
}

/* ------------------------------------------------------------------ FLUSH */

/* The job ends now, whatever input it still expects. */
static int end_job(struct client_core *core, struct job *job, struct job_end *end,
                   bool kill, struct client_effects *effects)
{
    const size_t mark = effects->count;
    int error = client_job_send_cancel(core, job, 0, job->next, kill, effects);
    end->end = job->next;
    if (!error)
        error = client_job_end_tasks(core, job, end, effects);
    if (error) {
        client_effects_truncate(effects, mark);
        return error;
    }
    job->wanted = 0;
    if (job->state == JOB_FILLING) {
        job->state = JOB_FILLED;
        client_job_settle(core, job);
    }
    return 0;
}

/* The pool has failed or was terminated: every job ends. */
int client_job_flush_fail(struct client_core *core, struct client_effects *effects)
{
    for (struct job *job = core->jobs; job; job = job->hh.next) {
        struct job_end end = {
            .code = core->fail_code, .text = core->fail_text, .node = core->fail_node};
        if (job->state != JOB_OVER && end_job(core, job, &end, true, effects))
            return FARPOOL_ENOMEM;
    }
    return 0;
}

/* CANCEL_JOB: notes which jobs are to end; the FLUSH ends them, job by job. */
void client_job_stop(struct client_core *core, const struct message *message)
{
    const uint64_t number = message->cancel_job.job;
    for (struct job *job = core->jobs; job; job = job->hh.next) {
        if (job->state == JOB_OVER || (number && job->number != number))
            continue;
        if (job->stop != STOP_KILL)
            job->stop = message->cancel_job.kill ? STOP_KILL : STOP_LET_RUN;
        core->stopping = true;
    }
}

int client_job_flush_stop(struct client_core *core, struct client_effects *effects)
{
    for (struct job *job = core->jobs; job; job = job->hh.next) {
        struct job_end end = {.code = FARPOOL_ECANCELLED, .text = CLIENT_OPERATOR_TEXT};
        if (job->stop == STOP_NOT || job->state == JOB_OVER)
            continue;
        if (end_job(core, job, &end, job->stop == STOP_KILL, effects))
            return FARPOOL_ENOMEM;
        job->stopped = true;
    }
    core->stopping = false;
    return 0;
}

int client_job_flush_over(struct client_core *core, struct client_effects *effects)
{
    struct job *job;
    while ((job = TAILQ_FIRST(&core->over))) {
        const size_t mark = effects->count;
        const int error = send_close(core, job, effects);
        struct client_effect *effect =
            error ? NULL : client_effects_add(effects, CLIENT_JOB_ENDED);
        if (!effect) {
            client_effects_truncate(effects, mark);
            return FARPOOL_ENOMEM;
        }
        effect->job = job->number;
        if (job->stopped) {
            effect->code = FARPOOL_ECANCELLED;
            snprintf(effect->text, sizeof effect->text, "%s", CLIENT_OPERATOR_TEXT);
        }
        client_job_destroy(core, job);
    }
    return 0;
}

bool client_core_job_counts(const struct client_core *core, uint64_t number,
                            struct client_job_counts *ret_counts)
{
    const struct job *job = client_job_find(core, number);
    if (!job)
        return false;
    struct client_job_counts counts = {
        .pulled = job->next,
        .done = job->done,
        .failed = job->failed,
        .input_ended = job->state != JOB_FILLING,
    };
    const bool known =
        core->link == LINK_WELCOMED && job->state_link == core->link_number;
    if (known) {
        counts.running = smaller(job->running, span_set_tasks(job->sent));
        /* Second runs of tasks are no more progress. */
        counts.share_ppm = smaller(job->share_ppm, counts.running * 1000000);
    }
    counts.waiting = counts.pulled - counts.done - counts.failed - counts.running;
    *ret_counts = counts;
    return true;
}
