/* SPDX-License-Identifier: Apache-2.0
 *
 * core_tasks.c: what the coordinator says of tasks: TASKS and CANCEL.
 *
 * A task comes again when a coordinator was restarted. It is then known by its index and
 * attempt: one that is held is ignored, one whose result is kept has that sent again,
 * and a higher attempt replaces a lower one. */
#include "worker/core_internal.h"

#include <assert.h>

/* ------------------------------------------------------------------------- TASKS */

static uint64_t span_last(const struct msg_span *span)
{
    return span->first + (span->count - 1);
}

static bool disjoint(const struct msg_span *spans, uint32_t count)
{
    for (uint32_t i = 1; i < count; i++) {
        if (spans[i].first > span_last(&spans[i - 1]))
            continue; /* in order, as is usual */
        for (uint32_t k = 0; k < i; k++)
            if (spans[i].first <= span_last(&spans[k]) &&
                spans[k].first <= span_last(&spans[i]))
                return false;
        for (uint32_t k = i + 1; k < count; k++) /* the rest may lie anywhere */
            for (uint32_t j = 0; j < k; j++)
                if (spans[k].first <= span_last(&spans[j]) &&
                    spans[j].first <= span_last(&spans[k]))
                    return false;
        return true;
    }
    return true;
}

/* How much of a window may be held when more comes. It counts on the other side from
 * sending to the end; while a new coordinator learns what is held, that and its own add
 * up, and of the former one what was held before it came. Who sends on a lane is granted
 * a part of it, and can leave the coordinator no less. */
static uint64_t most_held(const struct worker_core *core, uint64_t window,
                          uint64_t before)
{
    const uint64_t by_lanes = window + window / 2;
    if (core->speaker != NULL)
        return by_lanes;
    return window + (before > window ? before : window) + (core->carried ? by_lanes : 0);
}

/* NULL, or what nobody must send. */
static const char *fault_of(const struct worker_core *core, const struct message *message)
{
    const struct msg_span *spans = message->tasks.spans;
    uint64_t tasks = 0;
    for (uint32_t i = 0; i < message->tasks.spans_count; i++) {
        if (!span_valid(&spans[i]) || spans[i].attempt == 0 ||
            spans[i].count > SPAN_TASKS_MAX || span_last(&spans[i]) == UINT64_MAX)
            return "TASKS with a bad span";
        tasks += spans[i].count;
    }
    if (!disjoint(spans, message->tasks.spans_count))
        return "TASKS with spans that overlap";
    /* One task of each nested client comes beyond the window, as blocked ones wait for
     * it. */
    if (core->held_tasks + tasks >
            most_held(core, core->config.tasks_max, core->before_tasks) +
                core->jobs_count &&
        core->held_tasks > 0)
        return "TASKS beyond this worker's window of tasks";
    /* One input of any size may pass the window, when it is alone. */
    if (core->held_bytes >
        most_held(core, core->config.bytes_max, core->before_bytes) + BODY_BYTES_MAX)
        return "TASKS beyond this worker's window of bytes";
    return NULL;
}

/* What is known of the tasks from `at` on, up to *ret_last, where that changes. */
enum known { KNOWN_NOT, KNOWN_HELD, KNOWN_LOWER, KNOWN_RESULT };

struct view {
    enum known known;
    struct piece *piece; /* the lower attempt */
    uint64_t last;
};

static void narrow(struct view *view, uint64_t at, uint64_t first, uint64_t last)
{
    const uint64_t end = first > at ? first - 1 : last;
    if (end < view->last)
        view->last = end;
}

static void look_at_piece(struct view *view, uint64_t at, uint32_t attempt,
                          struct piece *piece)
{
    if (piece == NULL)
        return;
    narrow(view, at, piece->first, piece_last(piece));
    if (piece->first > at)
        return;
    view->known = piece->attempt >= attempt ? KNOWN_HELD : KNOWN_LOWER;
    view->piece = piece;
}

static struct view look(struct job *job, uint32_t attempt, uint64_t at, uint64_t last)
{
    struct view view = {.last = last};
    look_at_piece(&view, at, attempt, worker_piece_overlap(&job->queued, at, last));
    look_at_piece(&view, at, attempt, worker_piece_overlap(&job->given, at, last));
    const struct result *result =
        worker_result_overlap(job->pool, job->number, attempt, at, last);
    if (result != NULL) {
        narrow(&view, at, result->first, result->first + (result->count - 1));
        if (result->first <= at)
            view.known = KNOWN_RESULT;
    }
    return view;
}

/* Cuts `rest` so that its first part is what `view` tells of, and puts that part at the
 * end of `fresh` if it is to be taken. *rest becomes what is left, or NULL. */
static int take_part(const struct view *view, struct piece **rest,
                     struct piece_list *fresh)
{
    struct piece *part = *rest, *behind = NULL;
    const uint32_t count = (uint32_t)(view->last - part->first) + 1;
    if (view->known == KNOWN_LOWER &&
        worker_piece_isolate(view->piece, part->first, count) == NULL)
        return FARPOOL_ENOMEM;
    if (count < part->count && (behind = worker_piece_split(part, count)) == NULL)
        return FARPOOL_ENOMEM;
    if (view->known == KNOWN_NOT || view->known == KNOWN_LOWER)
        TAILQ_INSERT_TAIL(fresh, part, link);
    else
        worker_piece_free(part);
    *rest = behind;
    return 0;
}

static int take_span(struct job *job, const struct msg_span *span,
                     struct piece_list *fresh)
{
    struct piece *rest = worker_piece_create(job, span);
    if (rest == NULL)
        return FARPOOL_ENOMEM;
    while (rest != NULL) {
        const struct view view = look(job, span->attempt, rest->first, piece_last(rest));
        if (take_part(&view, &rest, fresh) != 0) {
            worker_piece_free(rest);
            return FARPOOL_ENOMEM;
        }
    }
    return 0;
}

/* A process still has it, and nobody wants it any more: it is asked for, marked, or
 * looked for to be killed. */
static void cancel_given(struct worker_core *core, struct piece *piece, bool kill)
{
    struct process *process = piece->process;
    uint64_t behind = 0;
    if (process->gate != 0) {
        worker_gate_drop(core, piece);
        return;
    }
    for (const struct piece *p = piece; p != NULL; p = TAILQ_NEXT(p, link))
        behind += p->count;
    if (behind > process->want_back)
        process->want_back = behind;
    process->fruitless = false;
    worker_piece_cancel(core, piece, kill);
    if (kill)
        process->due_ms = core->now_ms;
    else
        process->mark = true;
}

static void enter_fresh(struct worker_core *core, struct job *job, struct piece *piece)
{
    struct piece *lower;
    while ((lower = worker_piece_overlap(&job->queued, piece->first,
                                         piece_last(piece))) != NULL)
        worker_piece_drop(core, lower);
    while ((lower = worker_piece_overlap(&job->given, piece->first, piece_last(piece))) !=
           NULL)
        cancel_given(core, lower, false);
    piece->lane = core->speaker;
    worker_piece_queue(core, piece);
}

static void resend_kept(struct worker_core *core, const struct job *job,
                        const struct msg_span *span)
{
    uint64_t at = span->first;
    struct result *result;
    while (at <= span_last(span) &&
           (result = worker_result_overlap(job->pool, job->number, span->attempt, at,
                                           span_last(span))) != NULL) {
        worker_result_resend(core, result);
        at = result->first + result->count;
    }
}

int worker_tasks(struct worker_core *core, const struct message *message)
{
    struct pool *pool = worker_pool_find(core, &message->tasks.pool);
    struct job *job = pool ? worker_job_find(pool, message->tasks.job) : NULL;
    /* Its client has closed the job on its lane, and the coordinator will hear of it. */
    if (job == NULL && pool != NULL && pool->carried)
        return 0;
    if (job == NULL)
        return worker_relink(core, "TASKS came before their %s",
                             pool ? "JOB_OPEN" : "POOL_OPEN");
    const char *fault = fault_of(core, message);
    if (fault != NULL)
        return worker_relink(core, "%s", fault);
    struct piece_list fresh = TAILQ_HEAD_INITIALIZER(fresh);
    struct piece *piece;
    int result = 0;
    for (uint32_t i = 0; i < message->tasks.spans_count && result == 0; i++)
        result = take_span(job, &message->tasks.spans[i], &fresh);
    if (result == 0)
        for (uint32_t i = 0; i < message->tasks.spans_count; i++)
            resend_kept(core, job, &message->tasks.spans[i]);
    while ((piece = TAILQ_FIRST(&fresh)) != NULL) {
        TAILQ_REMOVE(&fresh, piece, link);
        if (result == 0)
            enter_fresh(core, job, piece);
        else
            worker_piece_free(piece);
    }
    return result;
}

/* ------------------------------------------------------------------------ CANCEL */

static bool meant(const struct piece *piece, uint32_t attempt)
{
    return attempt == 0 || piece->attempt == attempt;
}

static int cancel_in_tree(struct worker_core *core, struct worker_pieces *pieces,
                          const struct msg_range *range, bool kill, bool commit)
{
    const uint64_t last = range->first + (range->count - 1);
    uint64_t at = range->first;
    struct piece *piece;
    while ((piece = worker_piece_overlap(pieces, at, last)) != NULL) {
        const uint64_t first = piece->first > at ? piece->first : at;
        const uint64_t end = piece_last(piece) < last ? piece_last(piece) : last;
        if (meant(piece, range->attempt)) {
            if (!commit) {
                if (!worker_piece_isolate(piece, first, (uint32_t)(end - first) + 1))
                    return FARPOOL_ENOMEM;
            } else if (piece->state == PIECE_QUEUED) {
                worker_piece_drop(core, piece);
            } else {
                cancel_given(core, piece, kill);
            }
        }
        if (end == last)
            break;
        at = end + 1;
    }
    return 0;
}

/* Tasks that were cancelled before, and are to be killed now. */
static int doom_marked(struct worker_core *core, struct process *process,
                       const struct job *job, const struct msg_range *range, bool commit)
{
    const uint64_t last = range->first + (range->count - 1);
    struct piece *piece, *next;
    TAILQ_FOREACH_SAFE (piece, &process->pieces, link, next) {
        if (piece->state != PIECE_MARKED || piece->job != job ||
            !meant(piece, range->attempt) || piece->first > last ||
            piece_last(piece) < range->first)
            continue;
        const uint64_t first = piece->first > range->first ? piece->first : range->first;
        const uint64_t end = piece_last(piece) < last ? piece_last(piece) : last;
        if (!commit) {
            if (!worker_piece_isolate(piece, first, (uint32_t)(end - first) + 1))
                return FARPOOL_ENOMEM;
        } else {
            cancel_given(core, piece, true);
        }
    }
    return 0;
}

static int cancel_range(struct worker_core *core, struct job *job,
                        const struct msg_range *range, bool kill, bool commit)
{
    if (cancel_in_tree(core, &job->queued, range, kill, commit) != 0 ||
        cancel_in_tree(core, &job->given, range, kill, commit) != 0)
        return FARPOOL_ENOMEM;
    for (int state = 0; kill && state < PROCESS_KILLED; state++) {
        struct process *process;
        TAILQ_FOREACH (process, &job->pool->processes[state], link)
            if (process->cancelled_pieces > 0 &&
                doom_marked(core, process, job, range, commit) != 0)
                return FARPOOL_ENOMEM;
    }
    return 0;
}

/* All that is left of a job that is closed; cuts nothing, so it cannot fail. */
void worker_cancel_job(struct worker_core *core, struct job *job)
{
    const struct msg_range all = {.first = 0, .count = UINT64_MAX};
    cancel_range(core, job, &all, false, true);
}

int worker_cancel(struct worker_core *core, const struct message *message)
{
    struct pool *pool = worker_pool_find(core, &message->cancel.pool);
    struct job *job = pool ? worker_job_find(pool, message->cancel.job) : NULL;
    for (int commit = 0; commit <= 1; commit++) {
        for (uint32_t i = 0; job != NULL && i < message->cancel.ranges_count; i++) {
            struct msg_range range = message->cancel.ranges[i];
            if (range.count > UINT64_MAX - range.first)
                range.count = UINT64_MAX - range.first;
            if (range.count > 0 &&
                cancel_range(core, job, &range, message->cancel.kill, commit) != 0)
                return FARPOOL_ENOMEM;
        }
    }
    return 0;
}
