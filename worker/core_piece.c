/* SPDX-License-Identifier: Apache-2.0
 *
 * core_piece.c: the tasks that are held here. A piece is consecutive tasks of one job
 * and one attempt which are in the same place: waiting (job->queued) or with a process
 * (job->given and process->pieces). Its state names the place, and only the functions
 * here move it, with the counts of its job, pool, process and core.
 *
 * Why not span_set: a given piece is in two containers, and is found through both.
 * Splitting is the one thing that allocates; it changes no task, so it may be done
 * before a step is sure to succeed. The bytes of a span are shared by all its pieces,
 * each knowing its place in them, so cutting never walks over a table of sizes from its
 * beginning. */
#include "worker/core_internal.h"

#include <assert.h>

static int worker_piece_compare(const struct piece *a, const struct piece *b)
{
    return (a->first > b->first) - (a->first < b->first);
}

RB_GENERATE(worker_pieces, piece, by_index, worker_piece_compare)

static uint32_t size_at(const struct payload *sizes, uint32_t place)
{
    const uint8_t *p = sizes->data + 4 * (size_t)place;
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
           (uint32_t)p[3] << 24;
}

uint64_t worker_piece_bytes(const struct piece *piece, uint32_t count)
{
    if (piece->sizes == NULL)
        return piece->element * count;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < count; i++)
        bytes += size_at(piece->sizes, piece->place + i);
    return bytes;
}

/* How many of its first tasks fit in `bytes`; perhaps none. */
uint32_t worker_piece_fit(const struct piece *piece, uint64_t bytes)
{
    if (piece->bytes <= bytes)
        return piece->count;
    if (piece->sizes == NULL) /* element > 0, since bytes > 0 */
        return (uint32_t)(bytes / piece->element);
    uint32_t count = 0;
    for (uint64_t sum = 0; count < piece->count; count++) {
        sum += size_at(piece->sizes, piece->place + count);
        if (sum > bytes)
            break;
    }
    return count;
}

struct piece *worker_piece_create(struct job *job, const struct msg_span *span)
{
    struct piece *piece = mem_alloc(sizeof *piece);
    if (piece == NULL)
        return NULL;
    piece->state = PIECE_NEW;
    piece->job = job;
    piece->first = span->first;
    piece->count = span->count;
    piece->attempt = span->attempt;
    piece->watch = span->watch;
    piece->sizes = payload_ref(span->sizes);
    piece->data = payload_ref(span->data);
    piece->bytes = span->data ? span->data->size : 0;
    piece->element = span->sizes ? 0 : piece->bytes / span->count;
    return piece;
}

void worker_piece_free(struct piece *piece)
{
    assert(piece->state == PIECE_NEW);
    payload_unref(&piece->sizes);
    payload_unref(&piece->data);
    mem_free(piece);
}

static bool in_process(const struct piece *piece)
{
    return piece->state != PIECE_NEW && piece->state != PIECE_QUEUED;
}

struct piece *worker_piece_split(struct piece *piece, uint32_t count)
{
    assert(count > 0 && count < piece->count);
    struct piece *rest = mem_alloc(sizeof *rest);
    if (rest == NULL)
        return NULL;
    const uint64_t bytes = worker_piece_bytes(piece, count);
    *rest = *piece;
    payload_ref(rest->sizes);
    payload_ref(rest->data);
    rest->first += count;
    rest->count -= count;
    rest->place += count;
    rest->offset += bytes;
    rest->bytes -= bytes;
    piece->count = count;
    piece->bytes = bytes;
    if (piece->state == PIECE_QUEUED)
        RB_INSERT(worker_pieces, &piece->job->queued, rest);
    if (piece->state == PIECE_GIVEN)
        RB_INSERT(worker_pieces, &piece->job->given, rest);
    if (in_process(piece)) {
        TAILQ_INSERT_AFTER(&piece->process->pieces, piece, rest, link);
        piece->process->given_pieces++;
        piece->process->cancelled_pieces += piece->state != PIECE_GIVEN;
    }
    if (piece->state != PIECE_NEW)
        piece->job->pieces++;
    return rest;
}

struct piece *worker_piece_isolate(struct piece *piece, uint64_t first, uint32_t count)
{
    assert(first >= piece->first && count > 0);
    assert(count <= piece->count && first - piece->first <= piece->count - count);
    if (first > piece->first) {
        piece = worker_piece_split(piece, (uint32_t)(first - piece->first));
        if (piece == NULL)
            return NULL;
    }
    if (count < piece->count && worker_piece_split(piece, count) == NULL)
        return NULL;
    return piece;
}

/* The piece as a span with bytes of its own place, for a GIVE. */
int worker_piece_span(const struct piece *piece, struct msg_span *ret_span)
{
    struct msg_span span = {.first = piece->first,
                            .count = piece->count,
                            .attempt = piece->attempt,
                            .watch = piece->watch};
    if (piece->sizes != NULL) {
        span.sizes = payload_slice(piece->sizes, 4 * (size_t)piece->place,
                                   4 * (size_t)piece->count);
        if (span.sizes == NULL)
            return FARPOOL_ENOMEM;
    }
    if (piece->data != NULL) {
        span.data =
            payload_slice(piece->data, (size_t)piece->offset, (size_t)piece->bytes);
        if (span.data == NULL) {
            payload_unref(&span.sizes);
            return FARPOOL_ENOMEM;
        }
    }
    *ret_span = span;
    return 0;
}

/* The first piece that has a task in [first, last], or NULL. */
struct piece *worker_piece_overlap(struct worker_pieces *pieces, uint64_t first,
                                   uint64_t last)
{
    struct piece key = {.first = first};
    struct piece *next = RB_NFIND(worker_pieces, pieces, &key);
    struct piece *before =
        next ? RB_PREV(worker_pieces, pieces, next) : RB_MAX(worker_pieces, pieces);
    if (before != NULL && piece_last(before) >= first)
        return before;
    return next != NULL && next->first <= last ? next : NULL;
}

static void held_add(struct worker_core *core, const struct piece *piece, int sign)
{
    const uint64_t tasks = piece->count, bytes = piece->bytes;
    core->held_tasks = sign > 0 ? core->held_tasks + tasks : core->held_tasks - tasks;
    core->held_bytes = sign > 0 ? core->held_bytes + bytes : core->held_bytes - bytes;
}

static void enter_queue(struct worker_core *core, struct piece *piece)
{
    struct job *job = piece->job;
    if (job->queued_tasks == 0)
        RB_INSERT(worker_turns, &job->pool->waiting, job);
    const struct piece *twin = RB_INSERT(worker_pieces, &job->queued, piece);
    assert(twin == NULL);
    job->queued_tasks += piece->count;
    job->pool->queued_tasks += piece->count;
    held_add(core, piece, 1);
}

static void leave_queue(struct worker_core *core, struct piece *piece)
{
    struct job *job = piece->job;
    RB_REMOVE(worker_pieces, &job->queued, piece);
    job->queued_tasks -= piece->count;
    job->pool->queued_tasks -= piece->count;
    held_add(core, piece, -1);
    if (job->queued_tasks == 0)
        RB_REMOVE(worker_turns, &job->pool->waiting, job);
}

static void leave_given(struct worker_core *core, struct piece *piece)
{
    struct job *job = piece->job;
    RB_REMOVE(worker_pieces, &job->given, piece);
    job->given_tasks -= piece->count;
    job->pool->given_tasks -= piece->count;
    held_add(core, piece, -1);
}

static void leave_process(struct piece *piece)
{
    struct process *process = piece->process;
    TAILQ_REMOVE(&process->pieces, piece, link);
    process->given_pieces--;
    process->cancelled_pieces -= piece->state != PIECE_GIVEN;
    process->given_tasks -= piece->count;
    process->given_bytes -= piece->bytes;
    piece->process = NULL;
}

static void leave(struct worker_core *core, struct piece *piece)
{
    if (piece->state == PIECE_QUEUED)
        leave_queue(core, piece);
    if (in_process(piece))
        leave_process(piece);
    if (piece->state == PIECE_GIVEN)
        leave_given(core, piece);
}

/* New, or given back. */
void worker_piece_queue(struct worker_core *core, struct piece *piece)
{
    assert(piece->state == PIECE_NEW || piece->state == PIECE_GIVEN);
    if (piece->state == PIECE_NEW)
        piece->job->pieces++;
    leave(core, piece);
    piece->state = PIECE_QUEUED;
    enter_queue(core, piece);
}

void worker_piece_give(struct worker_core *core, struct piece *piece,
                       struct process *process, uint64_t give)
{
    assert(piece->state == PIECE_QUEUED);
    leave_queue(core, piece);
    piece->state = PIECE_GIVEN;
    piece->process = process;
    piece->give = give;
    const struct piece *twin = RB_INSERT(worker_pieces, &piece->job->given, piece);
    assert(twin == NULL);
    piece->job->given_tasks += piece->count;
    piece->job->pool->given_tasks += piece->count;
    held_add(core, piece, 1);
    TAILQ_INSERT_TAIL(&process->pieces, piece, link);
    process->given_pieces++;
    process->given_tasks += piece->count;
    process->given_bytes += piece->bytes;
    process->life_tasks += piece->count;
}

/* A queued one is dropped, one that a process has is remembered as not wanted. */
void worker_piece_cancel(struct worker_core *core, struct piece *piece, bool kill)
{
    if (piece->state == PIECE_QUEUED) {
        worker_piece_drop(core, piece);
        return;
    }
    if (piece->state == PIECE_GIVEN) {
        leave_given(core, piece);
        piece->process->cancelled_pieces++;
        piece->state = PIECE_MARKED;
    }
    if (kill)
        piece->state = PIECE_DOOMED;
}

void worker_piece_drop(struct worker_core *core, struct piece *piece)
{
    struct job *job = piece->job;
    assert(piece->state != PIECE_NEW);
    leave(core, piece);
    job->pieces--;
    piece->state = PIECE_NEW;
    worker_piece_free(piece);
    worker_job_release(core, job);
}

void worker_piece_finish(struct worker_core *core, struct piece *piece, uint32_t count)
{
    assert(in_process(piece) && count <= piece->count);
    if (count == piece->count) {
        worker_piece_drop(core, piece);
        return;
    }
    const uint64_t bytes = worker_piece_bytes(piece, count);
    piece->process->given_tasks -= count;
    piece->process->given_bytes -= bytes;
    if (piece->state == PIECE_GIVEN) {
        piece->job->given_tasks -= count;
        piece->job->pool->given_tasks -= count;
        core->held_tasks -= count;
        core->held_bytes -= bytes;
    }
    /* Still behind its left neighbour in the tree, so its key may grow in place. */
    piece->first += count;
    piece->count -= count;
    piece->place += count;
    piece->offset += bytes;
    piece->bytes -= bytes;
}
