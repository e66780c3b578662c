/* SPDX-License-Identifier: Apache-2.0
 *
 * core_results.c: DONE and FAILED on their way to the job's client, and ACK on its way
 * back. The message itself is passed on; what it ends leaves `assigned`, whoever has it,
 * if the attempt is the same: so when two workers had a task, the first result ends it.
 *
 * Results are the client's to judge, also those for tasks that are not here any more.
 * Where no client is left to judge them, they are ACKed here, so that the worker frees
 * them. Those for a job that is still to be opened (again) are kept until it is. */
#include "coordinator/core_internal.h"

/* A record of either message. */
struct record {
    uint64_t seq, first, count, elapsed_ns;
    uint32_t attempt;
    bool done;
};

static struct record record_of(const struct message *message, uint32_t place)
{
    if (message->kind == MSG_DONE) {
        const struct msg_done *done = &message->done.results[place];
        return (struct record){.seq = done->seq,
                               .first = done->first,
                               .count = done->count,
                               .elapsed_ns = done->elapsed_ns,
                               .attempt = done->attempt,
                               .done = true};
    }
    const struct msg_failed *failed = &message->failed.results[place];
    return (struct record){.seq = failed->seq,
                           .first = failed->index,
                           .count = 1,
                           .attempt = failed->attempt};
}

static uint32_t records_of(const struct message *message)
{
    return message->kind == MSG_DONE ? message->done.results_count
                                     : message->failed.results_count;
}

static const struct id *pool_of(const struct message *message)
{
    return message->kind == MSG_DONE ? &message->done.pool : &message->failed.pool;
}

static uint64_t job_of(const struct message *message)
{
    return message->kind == MSG_DONE ? message->done.job : message->failed.job;
}

static const struct id *worker_of(const struct message *message)
{
    return message->kind == MSG_DONE ? &message->done.worker : &message->failed.worker;
}

/* ---------------------------------------------------------------------- ACK */

static bool is_outlived(const struct job *job, const struct worker *worker,
                        const struct record *record)
{
    return !record->done && ktwin_goes_on(job, worker, record->first, record->attempt);
}

/* With a job: only of those that another worker outlives. */
static int tell_ack(struct coordinator_core *core, const struct message *message,
                    const struct job *outlived)
{
    const struct worker *worker = kworker_find(core, worker_of(message));
    const uint32_t count = records_of(message);
    if (!worker || !count)
        return 0;
    struct message *ack = message_create(MSG_ACK);
    if (ack && !(ack->ack.results = mem_alloc(count * sizeof(struct msg_seqs))))
        message_free(&ack);
    if (ack) {
        ack->ack.pool = *pool_of(message);
        ack->ack.worker = worker->id;
        for (uint32_t i = 0; i < count; i++) {
            const struct record record = record_of(message, i);
            if (!outlived || is_outlived(outlived, worker, &record))
                ack->ack.results[ack->ack.results_count++] =
                    (struct msg_seqs){record.seq, 1};
        }
    }
    return ksend(core, worker->link, &ack);
}

int kresults_tell_ack(struct coordinator_core *core, const struct message *message)
{
    return tell_ack(core, message, NULL);
}

int kresults_ack(struct coordinator_core *core, struct client *client,
                 struct message **message)
{
    const struct worker *worker = kworker_find(core, &(*message)->ack.worker);
    (void)client; /* any client of a pool may have had results of it */
    return worker ? kforward(core, worker->link, message) : 0;
}

/* ------------------------------------------------------------------ results */

static uint64_t tasks_in(const struct span_set *set, const struct record *record)
{
    const uint64_t end = add_saturated(record->first, record->count);
    const struct span_item *item = span_set_at_or_after(set, record->first);
    uint64_t tasks = 0;
    for (; item && item->span.first < end; item = span_set_next(set, item))
        if (item->span.attempt == record->attempt)
            tasks += item->span.count;
    return tasks;
}

static int prepare(struct job *job, const struct record *record)
{
    const uint64_t end = add_saturated(record->first, record->count);
    int error = kjob_cut(job->assigned, record->first, end);
    /* Seldom: another worker has returned or lost it since. */
    if (!error && span_set_tasks(job->waiting) &&
        tasks_in(job->assigned, record) < record->count)
        error = kjob_cut(job->waiting, record->first, end);
    return error;
}

static uint64_t end_tasks(struct coordinator_core *core, struct job *job,
                          struct span_set *set, const struct record *record)
{
    const uint64_t end = add_saturated(record->first, record->count);
    const struct span_item *item = span_set_at_or_after(set, record->first);
    uint64_t ended = 0;
    while (item && item->span.first < end) {
        const uint64_t next = item->span.first + item->span.count;
        if (item->span.attempt == record->attempt) {
            ended += item->span.count;
            kjob_end_span(core, job, set, item);
        }
        item = ended == record->count ? NULL : span_set_at_or_after(set, next);
    }
    return ended;
}

static void end_record(struct coordinator_core *core, struct job *job,
                       struct worker *worker, const struct record *record)
{
    if (record->done && record->count)
        kjob_measure(job, record->count, record->elapsed_ns);
    uint64_t ended = end_tasks(core, job, job->assigned, record);
    if (ended < record->count)
        ended += end_tasks(core, job, job->waiting, record);
    job->done += ended;
    job->failed += record->done ? 0 : ended;
    job->pool->done += ended;
    core->done += ended;
    if (!worker)
        return;
    worker->done += ended;
    const struct msg_range range = {record->first, record->count, record->attempt};
    kwatch_over(worker, job, &range);
    struct placement *placement = kplacement_find(job, worker);
    if (placement)
        kplacement_results(core, placement, record->count);
}

/* A failure of a task that another worker goes on with is none of its client's. */
static uint32_t count_outlived(const struct job *job, const struct worker *worker,
                               const struct message *message)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < records_of(message); i++) {
        const struct record record = record_of(message, i);
        count += is_outlived(job, worker, &record);
    }
    return count;
}

static void leave_out(const struct job *job, const struct worker *worker,
                      struct message *message)
{
    struct msg_failed *results = message->failed.results;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < message->failed.results_count; i++) {
        const struct record record = record_of(message, i);
        if (is_outlived(job, worker, &record)) {
            mem_free(results[i].message);
            mem_free(results[i].backtrace);
        } else {
            results[kept++] = results[i];
        }
    }
    message->failed.results_count = kept;
}

/* The failures but for those, which are ACKed here. The message stays the caller's. */
static int forward_rest(struct coordinator_core *core, const struct job *job,
                        const struct worker *worker, const struct message *message)
{
    struct message *rest = message_copy(message);
    if (!rest || tell_ack(core, message, job)) {
        message_free(&rest);
        return FARPOOL_ENOMEM;
    }
    leave_out(job, worker, rest);
    if (rest->failed.results_count)
        return ksend(core, job->owner->link, &rest);
    message_free(&rest);
    return 0;
}

/* Whoever else has what ends here is told to stop. */
static int tell_over(struct coordinator_core *core, const struct job *job,
                     const struct worker *worker, const struct message *message)
{
    int error = 0;
    for (uint32_t i = 0; i < records_of(message) && !error; i++) {
        const struct record record = record_of(message, i);
        const struct msg_range range = {record.first, record.count, record.attempt};
        if (!is_outlived(job, worker, &record))
            error = ktwin_tell_over(core, job, &range, worker);
    }
    return error;
}

static int tell(struct coordinator_core *core, struct job *job,
                const struct worker *worker, struct message **message, bool rest)
{
    const size_t mark = core->effects->count;
    int error = tell_over(core, job, worker, *message);
    if (!error && rest)
        error = forward_rest(core, job, worker, *message);
    else if (!error)
        error = kforward(core, job->owner->link, message);
    if (error)
        keffects_truncate(core->effects, mark);
    return error;
}

static int pass_on(struct coordinator_core *core, struct job *job,
                   struct message **message)
{
    const struct message *results = *message;
    const uint32_t count = records_of(results);
    if (!count)
        return 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct record record = record_of(results, i);
        if (prepare(job, &record))
            return FARPOOL_ENOMEM;
    }
    /* A worker that has results of the job is to hear of its end, also if it had them
     * from an earlier coordinator: no ACK may ever come. */
    struct worker *worker = kworker_find(core, worker_of(results));
    struct placement *placement = worker ? kplacement_get(job, worker) : NULL;
    const bool rest = count_outlived(job, worker, results) > 0;
    if ((worker && !placement) || tell(core, job, worker, message, rest))
        return FARPOOL_ENOMEM;
    if (placement && placement->state == PLACEMENT_NEW)
        placement->state = PLACEMENT_HELD;
    for (uint32_t i = 0; i < count; i++) {
        const struct record record = record_of(results, i);
        if (is_outlived(job, worker, &record))
            ktwin_leave(core, job, worker, record.first);
        else
            end_record(core, job, worker, &record);
    }
    kjob_refresh(core, job);
    return 0;
}

/* Whether the pool's client may still open the job that a result is of. */
static bool is_awaited(const struct pool *pool)
{
    if (!pool || pool->state == POOL_EXPECTED)
        return pool != NULL;
    return pool->state == POOL_RUNNING && !pool->owner->resumed;
}

int kresults(struct coordinator_core *core, struct worker *worker,
             struct message **message)
{
    struct pool *pool = kpool_find(core, pool_of(*message));
    struct job *job = pool ? kjob_find(pool, job_of(*message)) : NULL;
    if (!id_equal(worker_of(*message), &worker->id))
        return klink_drop(core, worker->link, FARPOOL_EPROTOCOL,
                          "%s in another worker's name", message_name((*message)->kind));
    if (job && job->state == JOB_RUNNING)
        return pass_on(core, job, message);
    const bool closing = pool && pool->state == POOL_CLOSING;
    if (job || is_awaited(pool) || (!closing && ksettle_expects(core, worker)))
        return kresults_keep(core, worker, pool, job, message);
    if (pool)
        return kresults_tell_ack(core, *message);
    return kpool_disown(core, worker, pool_of(*message));
}

/* ------------------------------------------------------------- kept results */

void kkept_destroy(struct coordinator_core *core, struct job *job, struct kept *kept)
{
    struct worker *worker = kworker_find(core, &kept->worker);
    if (worker && worker->serial == kept->worker_serial) {
        worker->kept--;
        worker->kept_bytes -= kept->bytes;
    }
    TAILQ_REMOVE(&job->kept, kept, entry);
    message_free(&kept->message);
    mem_free(kept);
}

static int keep(struct worker *worker, struct job *job, struct message **message)
{
    struct kept *kept = mem_alloc(sizeof *kept);
    if (!kept)
        return FARPOOL_ENOMEM;
    kept->bytes = message_body_bytes(*message);
    kept->worker = worker->id;
    kept->worker_serial = worker->serial;
    kept->message = *message;
    *message = NULL;
    worker->kept++;
    worker->kept_bytes += kept->bytes;
    worker->kept_largest = larger(worker->kept_largest, kept->bytes);
    TAILQ_INSERT_TAIL(&job->kept, kept, entry);
    return 0;
}

/* A worker has at most result_bytes_max of results that were not ACKed, or one; and once
 * more here, since it forgets those of a closed pool that are kept for it to be opened.
 */
static bool may_keep(const struct coordinator_core *core, const struct worker *worker)
{
    const uint64_t most = larger(core->config.result_bytes_max, worker->kept_largest);
    return worker->kept < KEPT_MAX && worker->kept_bytes / 2 <= most;
}

int kresults_keep(struct coordinator_core *core, struct worker *worker, struct pool *pool,
                  struct job *job, struct message **message)
{
    int error = 0;
    if (!may_keep(core, worker))
        return klink_drop(core, worker->link, FARPOOL_EPROTOCOL,
                          "more results that were not ACKed than its window");
    if (!pool)
        error = kpool_expect(core, pool_of(*message), &pool);
    if (error == FARPOOL_EFULL)
        return kpool_disown(core, worker, pool_of(*message));
    if (error)
        return error;
    struct member *member = kmember_get(pool, worker);
    if (!member)
        return FARPOOL_ENOMEM;
    if (!job && core->jobs_count >= core->config.jobs_max)
        return kresults_tell_ack(core, *message);
    if (!job && !(job = kjob_create(core, pool, job_of(*message))))
        return FARPOOL_ENOMEM;
    error = keep(worker, job, message);
    if (!error && member->state == MEMBER_NONE)
        kmember_move(member, MEMBER_HELD);
    return error;
}

int kresults_flush_kept(struct coordinator_core *core, struct job *job)
{
    struct kept *kept;
    while ((kept = TAILQ_FIRST(&job->kept))) {
        if (pass_on(core, job, &kept->message))
            return FARPOOL_ENOMEM;
        kkept_destroy(core, job, kept);
    }
    return 0;
}
