/* SPDX-License-Identifier: Apache-2.0
 *
 * core_result.c: finished tasks. A result gets the next number of its pool, waits in an
 * outbox, is sent in a DONE or FAILED together with others of its job, and is kept until
 * its ACK comes; to another coordinator it is sent again. What is of a job that was
 * opened on a lane goes there, and by the coordinator again when the lane has ended.
 *
 * The window bounds what is sent and not ACKed (one larger result passes alone), and
 * everything unACKed together: beyond it no task is begun. A result counts with its own
 * size too, so that many empty ones are bounded as well. */
#include "worker/core_internal.h"

#include <assert.h>
#include <string.h>

static int worker_seq_compare(const struct result *a, const struct result *b)
{
    return (a->seq > b->seq) - (a->seq < b->seq);
}

/* Results of one attempt are disjoint; those of several may overlap. */
static int worker_done_compare(const struct result *a, const struct result *b)
{
    if (a->job != b->job)
        return a->job > b->job ? 1 : -1;
    if (a->attempt != b->attempt)
        return a->attempt > b->attempt ? 1 : -1;
    if (a->first != b->first)
        return a->first > b->first ? 1 : -1;
    return worker_seq_compare(a, b);
}

RB_GENERATE(worker_results, result, by_seq, worker_seq_compare)
RB_GENERATE(worker_done_tasks, result, by_task, worker_done_compare)

struct result *worker_result_create(struct worker_core *core, enum message_kind kind,
                                    const struct piece *piece, uint64_t first,
                                    uint32_t count)
{
    (void)core;
    struct result *result = mem_alloc(sizeof *result);
    if (result == NULL)
        return NULL;
    result->kind = kind;
    result->job = piece->job->number;
    result->first = first;
    result->count = count;
    result->attempt = piece->attempt;
    result->lane = piece->lane;
    result->exit_status = -1;
    return result;
}

static char *cut_text(const char *text, size_t bytes_max)
{
    const size_t size = strlen(text);
    const size_t keep = size < bytes_max ? size : bytes_max;
    char *copy = mem_alloc(keep + 1);
    if (copy != NULL)
        memcpy(copy, text, keep);
    return copy;
}

int worker_result_say(struct result *result, const char *message, const char *backtrace)
{
    if (message != NULL &&
        (result->message = cut_text(message, FAILURE_MESSAGE_MAX)) == NULL)
        return FARPOOL_ENOMEM;
    if (backtrace != NULL &&
        (result->backtrace = cut_text(backtrace, FAILURE_BACKTRACE_MAX)) == NULL)
        return FARPOOL_ENOMEM; /* worker_result_free frees the other */
    return 0;
}

void worker_result_free(struct result *result)
{
    if (result == NULL)
        return;
    payload_unref(&result->sizes);
    payload_unref(&result->data);
    mem_free(result->message);
    mem_free(result->backtrace);
    mem_free(result);
}

static uint64_t size_of(const struct result *result)
{
    uint64_t bytes = sizeof *result;
    bytes += result->sizes ? result->sizes->size : 0;
    bytes += result->data ? result->data->size : 0;
    bytes += result->message ? strlen(result->message) : 0;
    return bytes + (result->backtrace ? strlen(result->backtrace) : 0);
}

void worker_outbox_init(struct outbox *outbox, struct lane *lane)
{
    outbox->lane = lane;
    TAILQ_INIT(&outbox->unsent);
}

static struct outbox *way_of(struct worker_core *core, const struct result *result)
{
    return result->lane != NULL ? &result->lane->outbox : &core->outbox;
}

static void post(struct result *result, struct outbox *outbox)
{
    result->state = RESULT_UNSENT;
    result->outbox = outbox;
    TAILQ_INSERT_TAIL(&outbox->unsent, result, link);
}

void worker_result_keep(struct worker_core *core, struct pool *pool,
                        struct result *result)
{
    result->pool = pool;
    result->seq = pool->next_seq++;
    if (core->next_seq < pool->next_seq)
        core->next_seq = pool->next_seq;
    result->bytes = size_of(result);
    if (core->result_largest < result->bytes)
        core->result_largest = result->bytes;
    result->since_ms = core->now_ms;
    RB_INSERT(worker_results, &pool->results, result);
    RB_INSERT(worker_done_tasks, &pool->done_tasks, result);
    pool->results_count++;
    core->unacked++;
    core->unacked_bytes += result->bytes;
    post(result, way_of(core, result));
}

static void drop_result(struct worker_core *core, struct result *result)
{
    struct pool *pool = result->pool;
    if (result->state == RESULT_UNSENT) {
        TAILQ_REMOVE(&result->outbox->unsent, result, link);
    } else {
        core->sent_bytes -= result->bytes;
        if (result->lane != NULL) {
            core->lane_done += result->count;
            core->load_changed = true;
        }
    }
    RB_REMOVE(worker_results, &pool->results, result);
    RB_REMOVE(worker_done_tasks, &pool->done_tasks, result);
    pool->results_count--;
    core->unacked--;
    core->unacked_bytes -= result->bytes;
    worker_result_free(result);
}

/* The first kept result of that attempt with a task in [first, last]; NULL: none. */
struct result *worker_result_overlap(struct pool *pool, uint64_t job, uint32_t attempt,
                                     uint64_t first, uint64_t last)
{
    if (pool->results_count == 0)
        return NULL;
    struct result key;
    key.job = job;
    key.attempt = attempt;
    key.first = first;
    key.seq = 0;
    struct result *next = RB_NFIND(worker_done_tasks, &pool->done_tasks, &key);
    struct result *before = next ? RB_PREV(worker_done_tasks, &pool->done_tasks, next)
                                 : RB_MAX(worker_done_tasks, &pool->done_tasks);
    if (before != NULL && before->job == job && before->attempt == attempt &&
        before->first + (before->count - 1) >= first)
        return before;
    const bool within = next != NULL && next->job == job && next->attempt == attempt &&
                        next->first <= last;
    return within ? next : NULL;
}

void worker_result_resend(struct worker_core *core, struct result *result)
{
    if (result->state == RESULT_UNSENT)
        return;
    result->since_ms = 0;
    core->sent_bytes -= result->bytes;
    post(result, way_of(core, result));
}

/* To another coordinator: what went on a lane is its client's, who tells. */
void worker_results_resend(struct worker_core *core, struct pool *pool)
{
    struct result *result;
    RB_FOREACH (result, worker_results, &pool->results)
        if (result->outbox == &core->outbox)
            worker_result_resend(core, result);
}

static struct result *first_of_job(struct pool *pool, uint64_t job)
{
    struct result key;
    key.job = job;
    key.attempt = 0;
    key.first = 0;
    key.seq = 0;
    return RB_NFIND(worker_done_tasks, &pool->done_tasks, &key);
}

void worker_results_reroute(struct worker_core *core, const struct lane *lane)
{
    struct result *result;
    RB_FOREACH (result, worker_results, &lane->pool->results) {
        if (result->lane != lane)
            continue;
        if (result->state == RESULT_UNSENT)
            TAILQ_REMOVE(&result->outbox->unsent, result, link);
        else
            core->sent_bytes -= result->bytes;
        result->lane = NULL;
        result->since_ms = 0;
        post(result, &core->outbox);
    }
}

void worker_results_drop(struct worker_core *core, struct pool *pool)
{
    struct result *result;
    while ((result = RB_MIN(worker_results, &pool->results)) != NULL)
        drop_result(core, result);
}

/* A closed job's results are nobody's: its client has all it wants, or is gone, and then
 * no ACK would ever come for what was on its way. */
void worker_results_drop_job(struct worker_core *core, struct pool *pool, uint64_t job)
{
    struct result *result = first_of_job(pool, job);
    while (result != NULL && result->job == job) {
        struct result *next = RB_NEXT(worker_done_tasks, &pool->done_tasks, result);
        drop_result(core, result);
        result = next;
    }
}

static void ack_range(struct worker_core *core, struct pool *pool,
                      const struct msg_seqs *range)
{
    struct result key;
    key.seq = range->first;
    struct result *result = RB_NFIND(worker_results, &pool->results, &key);
    while (result != NULL && result->seq - range->first < range->count) {
        struct result *next = RB_NEXT(worker_results, &pool->results, result);
        drop_result(core, result);
        result = next;
    }
}

/* Numbers that are not there were ACKed before, or are nobody's: no harm. */
void worker_ack(struct worker_core *core, const struct message *message)
{
    struct pool *pool = worker_pool_find(core, &message->ack.pool);
    if (pool == NULL || !id_equal(&message->ack.worker, &core->config.worker))
        return;
    for (uint32_t i = 0; i < message->ack.results_count; i++)
        ack_range(core, pool, &message->ack.results[i]);
}

bool worker_results_full(const struct worker_core *core)
{
    return core->unacked_bytes >= core->result_window;
}

/* ------------------------------------------------------------------------ sending */

struct batch {
    struct result *results[SPANS_MAX];
    uint32_t count;
};

static bool belongs(const struct result *a, const struct result *b)
{
    return a->pool == b->pool && a->job == b->job && a->kind == b->kind;
}

/* What goes with the oldest unsent result: others of its job, as far as one message and
 * the window take them. Empty: the window is full. */
static void collect(const struct worker_core *core, const struct outbox *outbox,
                    struct batch *batch)
{
    struct result *first = TAILQ_FIRST(&outbox->unsent), *result = first;
    uint64_t bytes = 0, sent = core->sent_bytes;
    int looked = 0;
    batch->count = 0;
    for (; result != NULL && batch->count < SPANS_MAX && looked < BATCH_LOOK;
         result = TAILQ_NEXT(result, link), looked++) {
        if (!belongs(first, result))
            continue;
        if ((sent > 0 && sent + result->bytes > core->result_window) ||
            (bytes > 0 && bytes + result->bytes > BATCH_BYTES))
            return;
        batch->results[batch->count++] = result;
        bytes += result->bytes;
        sent += result->bytes;
    }
}

/* Little room is left, or perhaps none for the next one. */
static bool is_in_a_hurry(const struct worker_core *core, const struct batch *batch)
{
    uint64_t sent = core->sent_bytes;
    for (uint32_t i = 0; i < batch->count; i++)
        sent += batch->results[i]->bytes;
    return core->unacked_bytes >= core->result_window / 4 ||
           sent + core->result_largest > core->result_window;
}

static struct message *write_done(struct worker_core *core, const struct batch *batch)
{
    struct message *message = worker_message(core, MSG_DONE);
    struct msg_done *records = message ? mem_alloc(batch->count * sizeof *records) : NULL;
    if (records == NULL) {
        message_free(&message);
        return NULL;
    }
    for (uint32_t i = 0; i < batch->count; i++) {
        const struct result *result = batch->results[i];
        records[i] = (struct msg_done){
            .seq = result->seq,
            .first = result->first,
            .count = result->count,
            .attempt = result->attempt,
            .elapsed_ns = result->elapsed_ns,
            .sizes = payload_ref(result->sizes),
            .data = payload_ref(result->data),
        };
    }
    message->done.pool = batch->results[0]->pool->id;
    message->done.job = batch->results[0]->job;
    message->done.worker = core->config.worker;
    message->done.hurry = is_in_a_hurry(core, batch);
    message->done.results = records;
    message->done.results_count = batch->count;
    return message;
}

static int write_failure(const struct worker_core *core, const struct result *result,
                         struct msg_failed *record)
{
    record->seq = result->seq;
    record->index = result->first;
    record->attempt = result->attempt;
    record->code = result->code;
    record->exit_status = result->exit_status;
    record->signal = result->signal;
    record->pid = (uint32_t)result->pid;
    memcpy(record->node, core->config.node, sizeof record->node);
    record->message = mem_strdup(result->message ? result->message : "");
    record->backtrace = mem_strdup(result->backtrace ? result->backtrace : "");
    return record->message && record->backtrace ? 0 : FARPOOL_ENOMEM;
}

static struct message *write_failed(struct worker_core *core, const struct batch *batch)
{
    struct message *message = worker_message(core, MSG_FAILED);
    struct msg_failed *records =
        message ? mem_alloc(batch->count * sizeof *records) : NULL;
    if (records == NULL) {
        message_free(&message);
        return NULL;
    }
    message->failed.pool = batch->results[0]->pool->id;
    message->failed.job = batch->results[0]->job;
    message->failed.worker = core->config.worker;
    message->failed.hurry = is_in_a_hurry(core, batch);
    message->failed.results = records;
    for (uint32_t i = 0; i < batch->count; i++) {
        message->failed.results_count = i + 1;
        if (write_failure(core, batch->results[i], &records[i]) != 0) {
            message_free(&message);
            return NULL;
        }
    }
    return message;
}

static int send_batch(struct worker_core *core, const struct outbox *outbox,
                      const struct batch *batch)
{
    struct message *message = batch->results[0]->kind == MSG_DONE
                                  ? write_done(core, batch)
                                  : write_failed(core, batch);
    if (message == NULL)
        return FARPOOL_ENOMEM;
    if (outbox->lane != NULL)
        worker_lane_send(core, outbox->lane, message);
    else
        worker_send(core, message);
    for (uint32_t i = 0; i < batch->count; i++) {
        struct result *result = batch->results[i];
        TAILQ_REMOVE(&result->outbox->unsent, result, link);
        result->state = RESULT_SENT;
        core->sent_bytes += result->bytes;
    }
    return 0;
}

/* How long results of a job may wait for what its tasks here take: three quarters of it,
 * unless few would come in that time. The coordinator gives more before they are gone, so
 * nobody waits for just these; and what is left then is told of a few times, not at each
 * halving, towards a job's end. */
static uint64_t patience_ms(const struct worker_core *core, const struct job *job)
{
    const uint64_t task_ns = worker_task_ns(job);
    const uint64_t each =
        (job->queued_tasks + job->given_tasks) / worker_running_max(core, job->pool);
    if (task_ns == 0 || each < PATIENCE_TASKS)
        return 0;
    const uint64_t wait_ms =
        each > UINT64_MAX / 3 / task_ns ? UINT64_MAX : each * task_ns / 4 * 3 / 1000000;
    return wait_ms < PATIENCE_MS ? 0 : wait_ms;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Until when a job's results may wait, the first of which is there since since_ms. A job
 * that is over here has nothing to wait for. */
static uint64_t job_until(const struct worker_core *core, const struct result *result,
                          uint64_t since_ms)
{
    const struct job *job = worker_job_find(result->pool, result->job);
    if (job == NULL)
        return 0;
    const uint64_t wait_ms =
        (uint64_t)core->config.results_wait_ms * (job->whole ? WHOLE_TIMES : 1);
    return least(worker_tick(since_ms, wait_ms),
                 worker_after(since_ms, patience_ms(core, job)));
}

/* Until when all that is unsent may wait for more to go with it; 0: not at all. */
static uint64_t wait_until(const struct worker_core *core, const struct outbox *outbox)
{
    const struct result *result = TAILQ_FIRST(&outbox->unsent), *before = NULL;
    const uint64_t since_ms = result->since_ms;
    uint64_t until_ms = UINT64_MAX, bytes = 0;
    uint32_t count = 0;
    if (core->state != CORE_WORKING || core->unacked_bytes >= core->result_window / 2)
        return 0;
    for (; result != NULL; before = result, result = TAILQ_NEXT(result, link)) {
        bytes += result->bytes;
        if (++count == SPANS_MAX || bytes >= BATCH_BYTES)
            return 0;
        if (before == NULL || !belongs(before, result))
            until_ms = least(until_ms, job_until(core, result, since_ms));
        if (until_ms <= core->now_ms)
            return 0;
    }
    return until_ms;
}

static bool may_send(const struct worker_core *core, const struct outbox *outbox)
{
    const bool up =
        outbox->lane != NULL ? outbox->lane->state == LANE_UP : core->link == LINK_UP;
    return up && !TAILQ_EMPTY(&outbox->unsent);
}

bool worker_results_due(const struct worker_core *core)
{
    struct lane *lane;
    if (may_send(core, &core->outbox) && wait_until(core, &core->outbox) == 0)
        return true;
    LIST_FOREACH (lane, &core->carriers, carrier_entry)
        if (may_send(core, &lane->outbox) && wait_until(core, &lane->outbox) == 0)
            return true;
    return false;
}

/* What is late waits for the window, and an ACK opens that. */
static uint64_t due_of(const struct worker_core *core, const struct outbox *outbox)
{
    return may_send(core, outbox) && outbox->due_ms > core->now_ms ? outbox->due_ms
                                                                   : UINT64_MAX;
}

uint64_t worker_results_deadline(const struct worker_core *core)
{
    const struct lane *lane;
    uint64_t deadline = due_of(core, &core->outbox);
    LIST_FOREACH (lane, &core->carriers, carrier_entry)
        deadline = least(deadline, due_of(core, &lane->outbox));
    return deadline;
}

static int flush_outbox(struct worker_core *core, struct outbox *outbox)
{
    struct batch batch;
    if (!may_send(core, outbox))
        return 0;
    outbox->due_ms = wait_until(core, outbox);
    if (outbox->due_ms > 0)
        return 0;
    while (may_send(core, outbox)) {
        collect(core, outbox, &batch);
        if (batch.count == 0)
            return 0;
        if (send_batch(core, outbox, &batch) != 0)
            return FARPOOL_ENOMEM;
    }
    return 0;
}

int worker_flush_results(struct worker_core *core)
{
    struct lane *lane;
    LIST_FOREACH (lane, &core->carriers, carrier_entry)
        if (flush_outbox(core, &lane->outbox) != 0)
            return FARPOOL_ENOMEM;
    return flush_outbox(core, &core->outbox);
}
