/* SPDX-License-Identifier: Apache-2.0
 *
 * core_send.c: tasks on their way out. Jobs in order of priority, then age; of a job the
 * lowest indices first, so that a task that is tried again goes before new ones. A
 * message carries up to SPANS_MAX spans and about MESSAGE_BYTES of input.
 *
 * The window (WELCOME's tasks_max and bytes_max) counts what is in all jobs' `sent`. The
 * first task that does not fit stops the sending, so that smaller ones behind it cannot
 * keep it out for ever; one that is larger than the window passes when nothing else is
 * under way.
 *
 * On a new link the coordinator may be a new one: what is in `sent` goes out again as it
 * was, same attempts, before anything else. Those of a job that must run no task twice
 * too: the coordinator gives none of them to a worker, but tells (LOST) which of them no
 * worker has. */
#include "client/core_internal.h"

#include <stdio.h>
#include <string.h>

struct message *client_send_make_open(const struct client_core *core,
                                      const struct job *job, bool resumed)
{
    struct message *message = message_create(MSG_JOB_OPEN);
    if (message) {
        const struct client_job_options *options = &job->options;
        message->job_open.pool = core->config.pool;
        message->job_open.job = job->number;
        memcpy(message->job_open.function, options->function, sizeof options->function);
        message->job_open.chunk = options->chunk;
        message->job_open.timeout_ms = options->timeout_ms;
        message->job_open.cpu_ms = options->cpu_ms;
        message->job_open.memory_bytes = options->memory_bytes;
        message->job_open.priority = options->priority;
        message->job_open.tasks = options->tasks;
        message->job_open.once = options->losses_max == 1;
        message->job_open.resumed = resumed;
        message->job_open.speculate = options->speculate;
        message->job_open.calls = options->calls;
        message->job_open.whole = options->whole;
        message->job_open.ended = resumed ? job->done + job->failed : 0;
        message->job_open.task_ns = resumed ? client_average_mean(&job->elapsed_ns) : 0;
    }
    return message;
}

static int send_open(struct client_core *core, struct job *job, bool resumed,
                     struct client_effects *effects)
{
    struct message *message = client_send_make_open(core, job, resumed);
    const int error = client_send_message(effects, &message);
    if (!error)
        job->told_link = core->link_number;
    return error;
}

int client_send_open_if_untold(struct client_core *core, struct job *job,
                               struct client_effects *effects)
{
    return job->told_link == core->link_number ? 0 : send_open(core, job, false, effects);
}

/* What one TASKS message is to carry: whole spans of a set, consecutive in it. */
struct batch {
    uint64_t first;
    uint32_t spans;
    uint64_t tasks, bytes;
};

static void batch_add(struct batch *batch, const struct msg_span *span)
{
    if (!batch->spans)
        batch->first = span->first;
    batch->spans++;
    batch->tasks += span->count;
    batch->bytes += span_bytes(span);
}

/* What was at a lost node is begun in smaller and smaller parts, until it is known which
 * task had begun there; and if that may be a task's end, by itself. */
static uint32_t watch_of(const struct job *job, const struct span_item *item)
{
    const uint32_t losses = losses_of(item), doubts = doubts_of(item);
    if (doubts > 0 && losses > 0 && losses + 1 >= job->options.losses_max)
        return WATCH_LAST;
    return doubts < WATCH_ONE ? doubts : WATCH_ONE;
}

static int send_tasks(const struct client_core *core, const struct job *job,
                      const struct span_set *set, const struct batch *batch,
                      struct client_effects *effects)
{
    struct message *message = message_create(MSG_TASKS);
    struct msg_span *spans = mem_alloc(batch->spans * sizeof *spans);
    if (!message || !spans) {
        message_free(&message);
        mem_free(spans);
        return FARPOOL_ENOMEM;
    }
    message->tasks.pool = core->config.pool;
    message->tasks.job = job->number;
    message->tasks.spans = spans;
    const struct span_item *item = span_set_at_or_after(set, batch->first);
    int error = 0;
    for (; message->tasks.spans_count < batch->spans && !error;
         item = span_set_next(set, item)) {
        error = span_share(&item->span, &spans[message->tasks.spans_count]);
        spans[message->tasks.spans_count].watch = watch_of(job, item);
        message->tasks.spans_count += error ? 0 : 1;
    }
    if (!error)
        return client_send_message(effects, &message);
    message_free(&message);
    return error;
}

/* ------------------------------------------------------ within the window */

/* How many of a waiting span's first tasks may go into the batch; 0: not now. */
static uint32_t fit(const struct client_core *core, const struct job *job,
                    const struct msg_span *span, const struct batch *batch)
{
    const bool alone = core->sent_tasks + batch->tasks == 0;
    const uint64_t tasks_left =
        subtract_saturated(core->tasks_max, core->sent_tasks + batch->tasks);
    const uint64_t bytes_left =
        subtract_saturated(core->bytes_max, core->sent_bytes + batch->bytes);
    const uint64_t room = subtract_saturated(MESSAGE_BYTES, batch->bytes);
    const uint64_t size = span_task_size(span, 0);
    /* Beside one that is larger than the window not even an empty one has room. */
    const bool over = core->sent_bytes + batch->bytes > core->bytes_max;
    if (!alone && (!tasks_left || over || size > bytes_left))
        return 0;
    if (batch->spans && size > room)
        return 0;
    const uint64_t bytes = smaller(smaller(bytes_left, room), core->body_bytes_max);
    uint64_t tasks = smaller(tasks_left ? tasks_left : 1, SPAN_TASKS_MAX);
    tasks = smaller(tasks, span_fit(span, bytes));
    if (tasks >= span->count)
        return span->count;
    /* Cut between two chunks; inside one only if it will not fit better later. */
    const uint64_t end = span->first + tasks, chunk = job->options.chunk;
    const uint64_t boundary = chunk ? end - end % chunk : end;
    if (boundary > span->first)
        return (uint32_t)(boundary - span->first);
    const bool window_full = tasks == tasks_left || span_fit(span, bytes_left) == tasks;
    return batch->spans || (window_full && !alone) ? 0 : (uint32_t)tasks;
}

static bool is_oversize(const struct client_core *core, const struct msg_span *span)
{
    return span_task_size(span, 0) > core->body_bytes_max;
}

/* Collects whole spans from the start of `waiting`, cutting the last; or those that are
 * not for lanes, up to others. */
static int gather(const struct client_core *core, const struct job *job, enum way way,
                  struct batch *batch)
{
    uint64_t at = 0;
    while (batch->spans < SPANS_MAX) {
        const struct span_item *item = span_set_at_or_after(job->waiting, at);
        if (!item || is_oversize(core, &item->span) ||
            (way == WAY_MARKED && !client_deal_is_marked(item)))
            break;
        const uint32_t count = fit(core, job, &item->span, batch);
        if (!count)
            break;
        const uint64_t first = item->span.first;
        at = first + count;
        if (count < item->span.count && span_set_cut(job->waiting, at))
            return FARPOOL_ENOMEM;
        batch_add(batch, &span_set_find(job->waiting, first)->span);
    }
    return 0;
}

static int end_oversize(struct client_core *core, struct job *job, uint64_t index,
                        uint32_t size, struct client_effects *effects)
{
    char text[128];
    snprintf(text, sizeof text, "an input of %u bytes is larger than the limit of %llu",
             size, (unsigned long long)core->body_bytes_max);
    struct job_end end = {
        .first = index, .end = index + 1, .code = FARPOOL_ETOOBIG, .text = text};
    return client_job_end_tasks(core, job, &end, effects);
}

/* One message of a job; *ret_stop: the window is full. */
static int send_some(struct client_core *core, struct job *job, enum way way,
                     bool *ret_stop, struct client_effects *effects)
{
    const struct msg_span *span = &span_set_first(job->waiting)->span;
    if (is_oversize(core, span))
        return end_oversize(core, job, span->first, span_task_size(span, 0), effects);
    struct batch batch = {.spans = 0};
    int error = gather(core, job, way, &batch);
    if (!error && !batch.spans) {
        *ret_stop = true;
        return 0;
    }
    if (!error)
        error = client_send_open_if_untold(core, job, effects);
    if (!error)
        error = client_deal_account_job(core, job, effects);
    if (!error)
        error = send_tasks(core, job, job->waiting, &batch, effects);
    if (error)
        return error;
    for (uint32_t i = 0; i < batch.spans; i++) {
        const struct span_item *item = span_set_first(job->waiting);
        client_job_move(core, job->waiting, item->span.first, job->sent,
                        item->span.attempt, item->tag, failures_of(item), job);
    }
    client_job_settle(core, job);
    return 0;
}

/* On a lane, unless something before it went by the coordinator, or to that. *ret_stop:
 * nothing of the job, nor of those behind it, can be sent now. */
static int send_next(struct client_core *core, struct job *job, enum way *way,
                     bool *ret_stop, struct client_effects *effects)
{
    const int error = *way == WAY_RELAY ? 0 : client_deal_first(core, job, way, effects);
    if (error || *way == WAY_DEALT)
        return error;
    *ret_stop = *way == WAY_WAIT || core->link != LINK_WELCOMED;
    return *ret_stop ? 0 : send_some(core, job, *way, ret_stop, effects);
}

int client_send_flush(struct client_core *core, struct client_effects *effects)
{
    enum way way = WAY_DEALT;
    bool stop = false;
    int error = 0;
    struct job *job;
    while (!stop && !error && (job = client_job_first_ready(core)))
        error = send_next(core, job, &way, &stop, effects);
    return error;
}

/* ------------------------------------------------------- on another link */

static int resend_some(struct client_core *core, struct job *job,
                       struct client_effects *effects)
{
    struct batch batch = {.spans = 0};
    const struct span_item *item = span_set_at_or_after(job->sent, job->resend_next);
    for (; item && batch.spans < SPANS_MAX; item = span_set_next(job->sent, item)) {
        if (batch.spans && batch.bytes + span_bytes(&item->span) > MESSAGE_BYTES)
            break;
        batch_add(&batch, &item->span);
    }
    const int error = batch.spans ? send_tasks(core, job, job->sent, &batch, effects) : 0;
    if (!error)
        job->resend_next = item ? item->span.first : UINT64_MAX;
    return error;
}

static int resume_job(struct client_core *core, struct job *job,
                      struct client_effects *effects)
{
    if (job->told_link != core->link_number) {
        const int error = send_open(core, job, true, effects);
        if (error)
            return error;
        job->told_link = core->link_number;
        job->resend_next = 0;
    }
    int error = 0;
    while (job->resend_next != UINT64_MAX && !error)
        error = resend_some(core, job, effects);
    return error;
}

/* Upon which the coordinator goes on: it now has all that this client waits for. */
static int send_resumed(const struct client_core *core, struct client_effects *effects)
{
    struct message *message = message_create(MSG_RESUMED);
    if (message) {
        message->resumed.pool = core->config.pool;
        message->resumed.nodes = (uint32_t)core->nodes_before;
    }
    return client_send_message(effects, &message);
}

/* What an earlier life pulled need not fit into the window of this coordinator's, which
 * would drop who sends more. Tasks that may run twice wait then; the others cannot. */
static int set_back(struct client_core *core, struct job *job,
                    struct client_effects *effects)
{
    const struct span_item *item = span_set_last(job->sent);
    const uint64_t index = item->span.first + item->span.count - 1;
    struct job_end end = {.first = index,
                          .end = index + 1,
                          .code = FARPOOL_ENODELOST,
                          .text = "it may have run, must not run twice, and is beyond "
                                  "the window of the coordinator that was restarted"};
    const int error = span_set_cut(job->sent, index);
    if (error)
        return error;
    if (job->options.losses_max == 1)
        return client_job_end_tasks(core, job, &end, effects);
    item = span_set_find(job->sent, index);
    client_job_move(core, job->sent, index, job->waiting, item->span.attempt, item->tag,
                    item->tag2, job);
    client_job_settle(core, job);
    return 0;
}

static int set_back_all(struct client_core *core, struct client_effects *effects)
{
    int error = 0;
    for (struct job *job = core->jobs; job && !error; job = job->hh.next)
        while (!error && span_set_tasks(job->sent) && core->sent_tasks > 1 &&
               (core->sent_tasks > core->tasks_max || core->sent_bytes > core->bytes_max))
            error = set_back(core, job, effects);
    return error;
}

int client_send_flush_resume(struct client_core *core, struct client_effects *effects)
{
    if (core->config.resumes && set_back_all(core, effects))
        return FARPOOL_ENOMEM;
    for (struct job *job = core->jobs; job; job = job->hh.next) {
        if (!span_set_tasks(job->sent)) {
            job->resend_next = UINT64_MAX;
            continue;
        }
        const int error = resume_job(core, job, effects);
        if (error)
            return error;
    }
    const bool resumes = core->config.resumes || core->link_number > 1;
    if (resumes && send_resumed(core, effects))
        return FARPOOL_ENOMEM;
    core->resume = false;
    return 0;
}
