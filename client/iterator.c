/* SPDX-License-Identifier: Apache-2.0
 *
 * iterator.c: imap and imap_unordered: results as they are read, input as it is wanted.
 * What came and was not read is a queue of pieces, each a run of tasks that ended
 * together: in order of their index (imap) or of their coming (imap_unordered).
 * Where input comes from is iterator_input.c's. */
#include "client/iterator.h"
#include "client/job.h"
#include "common/base/error.h"
#include "common/base/span.h"
#include "common/sys/sys.h"

#include <inttypes.h>

#define TELL_TASKS_MAX 64 /* results read before the core is told, at most */

/* --------------------------------------------------------------------- pieces */

static void free_piece(struct piece *piece)
{
    if (piece == NULL)
        return;
    payload_unref(&piece->sizes);
    payload_unref(&piece->data);
    failure_fini(&piece->failure);
    mem_free(piece);
}

/* In order: pieces come nearly so, and the place is looked for from the end. */
static void insert(farpool_iterator *iterator, struct piece *piece)
{
    struct piece *before = TAILQ_LAST(&iterator->pieces, pieces);

    while (iterator->ordered && before != NULL && before->first > piece->first)
        before = TAILQ_PREV(before, pieces, entry);
    if (before != NULL)
        TAILQ_INSERT_AFTER(&iterator->pieces, before, piece, entry);
    else
        TAILQ_INSERT_HEAD(&iterator->pieces, piece, entry);
    iterator->base.pool->news = true;
}

static void take_done(struct pool_job *base, struct client_effect *effect)
{
    farpool_iterator *iterator = (farpool_iterator *)base;
    struct piece *piece = mem_alloc(sizeof *piece);

    iterator->done += effect->count;
    if (piece == NULL) {
        iterator->no_memory = true;
        base->pool->news = true;
        return;
    }
    piece->first = effect->first;
    piece->count = (uint32_t)effect->count;
    piece->sizes = effect->sizes;
    piece->data = effect->data;
    effect->sizes = effect->data = NULL;
    insert(iterator, piece);
}

static void take_failed(struct pool_job *base, struct client_effect *effect)
{
    farpool_iterator *iterator = (farpool_iterator *)base;
    uint64_t count = effect->count > 0 ? effect->count : 1;
    struct piece *piece = mem_alloc(sizeof *piece);

    iterator->done += count;
    iterator->failed += count;
    if (piece == NULL || failure_read(effect, &piece->failure) != 0) {
        iterator->no_memory = true;
        base->pool->news = true;
        mem_free(piece);
        return;
    }
    piece->first = piece->failure.first;
    piece->count = (uint32_t)count;
    insert(iterator, piece);
}

static void take_wanted(struct pool_job *base, uint64_t count, uint64_t bytes)
{
    farpool_iterator *iterator = (farpool_iterator *)base;

    iterator->wanted_tasks = count;
    iterator->wanted_bytes = bytes;
    base->pool->news = true;
}

static void take_ended(struct pool_job *base)
{
    farpool_iterator *iterator = (farpool_iterator *)base;
    int code = base->pool->failure != 0 ? base->pool->failure : FARPOOL_ETERMINATED;
    const char *text = base->pool->failure_text;

    if (base->end_code != 0) {
        code = base->end_code;
        text = CLIENT_OPERATOR_TEXT;
    }
    /* Ended before its input did: that is not the end of the iteration, but an error; if
     * not for want of memory, which is told by itself. */
    if (!iterator->input_ended && !iterator->no_memory &&
        failure_make(iterator->pulled, code, text, &iterator->input_failure) != 0)
        iterator->no_memory = true;
    iterator->input_ended = true;
    iterator->core_ended = true;
    base->pool->news = true;
}

static const struct pool_job_kind iterator_kind = {
    .done = take_done,
    .failed = take_failed,
    .wanted = take_wanted,
    .ended = take_ended,
};

/* -------------------------------------------------------------------- reading */

static struct piece *next_piece(const farpool_iterator *iterator)
{
    struct piece *piece = TAILQ_FIRST(&iterator->pieces);

    if (piece == NULL ||
        (iterator->ordered && piece->first + piece->read != iterator->read))
        return NULL;
    return piece;
}

static bool is_over(const farpool_iterator *iterator)
{
    return iterator->no_memory || (iterator->core_ended && next_piece(iterator) == NULL);
}

static bool has_next(void *arg)
{
    const farpool_iterator *iterator = arg;

    return next_piece(iterator) != NULL || is_over(iterator) ||
           iterator_wants_input(iterator);
}

/* Tells the core what was read: at once when nothing else is there to read. */
static void tell_read(farpool_iterator *iterator)
{
    struct client_event event = {.kind = CLIENT_JOB_CONSUMED,
                                 .job = iterator->base.number,
                                 .count = iterator->untold_tasks,
                                 .bytes = iterator->untold_bytes};
    uint64_t ahead = iterator->pulled - iterator->read;
    uint64_t most = ahead / 4 < TELL_TASKS_MAX ? ahead / 4 : TELL_TASKS_MAX;

    if (event.count == 0 || event.job == 0 ||
        (event.count < most && next_piece(iterator) != NULL))
        return;
    if (pool_step(iterator->base.pool, &event) != 0)
        return; /* later */
    iterator->untold_tasks = iterator->untold_bytes = 0;
    driver_kick(iterator->base.pool);
}

/* Hands out the first result of a piece. */
static int read_one(farpool_iterator *iterator, struct piece *piece,
                    farpool_bytes *ret_output, uint64_t *ret_index, farpool_error *error)
{
    struct msg_span span = {.first = piece->first,
                            .count = piece->count,
                            .sizes = piece->sizes,
                            .data = piece->data};
    uint64_t index = piece->first + piece->read;
    size_t size = 0;
    int code = 0;

    if (ret_index != NULL)
        *ret_index = index;
    if (piece->failure.code != 0) {
        code = failure_tell(&piece->failure, &iterator->base.of, index, error);
    } else {
        size = span_task_size(&span, piece->read);
        *ret_output = (farpool_bytes){
            piece->data != NULL ? (const void *)(piece->data->data + piece->offset) : "",
            size};
    }
    piece->offset += size;
    piece->read++;
    iterator->read++;
    iterator->untold_tasks++;
    iterator->untold_bytes += size;
    if (piece->read == piece->count) {
        TAILQ_REMOVE(&iterator->pieces, piece, entry);
        iterator->current = piece;
    }
    return code;
}

/* Behind the last result: the input's failure once, then the end. */
static int read_end(farpool_iterator *iterator, uint64_t *ret_index, farpool_error *error)
{
    int code;

    if (iterator->no_memory) {
        iterator->no_memory = false;
        iterator->core_ended = true;
        pool_close_job(&iterator->base, true);
        return error_set(error, FARPOOL_ENOMEM, "%s: out of memory: iteration ends here",
                         iterator->base.of.call);
    }
    if (iterator->input_failure.code == 0)
        return FARPOOL_END;
    if (ret_index != NULL)
        *ret_index = iterator->input_failure.first;
    code = failure_tell(&iterator->input_failure, &iterator->base.of,
                        iterator->input_failure.first, error);
    failure_fini(&iterator->input_failure);
    return code;
}

static int read_next(farpool_iterator *iterator, uint64_t until_ms,
                     farpool_bytes *ret_output, uint64_t *ret_index, farpool_error *error)
{
    struct piece *piece;

    free_piece(iterator->current);
    iterator->current = NULL;
    tell_read(iterator);
    if (iterator_wants_input(iterator))
        iterator_pull(iterator);
    for (;;) {
        driver_wait_for_output(iterator->base.pool, until_ms);
        if ((piece = next_piece(iterator)) != NULL)
            return read_one(iterator, piece, ret_output, ret_index, error);
        if (is_over(iterator))
            return read_end(iterator, ret_index, error);
        if (iterator_wants_input(iterator)) {
            iterator_pull(iterator);
            if (sys_now_ms() >= until_ms && next_piece(iterator) == NULL)
                return FARPOOL_ETIMEDOUT;
        } else if (driver_wait(iterator->base.pool, has_next, iterator, until_ms) != 0) {
            return FARPOOL_ETIMEDOUT;
        }
    }
}

int farpool_next(farpool_iterator *iterator, int64_t timeout_ms,
                 farpool_bytes *ret_output, uint64_t *ret_index, farpool_error *error)
{
    uint64_t until_ms;
    int code;

    if (iterator == NULL || ret_output == NULL)
        return error_set(error, FARPOOL_EINVAL, "next: %s is NULL",
                         iterator == NULL ? "iterator" : "ret_output");
    code = options_read_timeout(timeout_ms, "next", &until_ms, error);
    if (code != 0 || (code = pool_enter(iterator->base.pool, "next", error)) != 0)
        return code;
    code = read_next(iterator, until_ms, ret_output, ret_index, error);
    pool_leave(iterator->base.pool);
    if (code == FARPOOL_ETIMEDOUT)
        error_set(error, code, "next: no result within %" PRId64 " ms", timeout_ms);
    return code;
}

int farpool_iterator_progress(farpool_iterator *iterator, farpool_progress *ret_progress)
{
    struct client_job_counts counts;
    farpool_progress progress = {0};

    if (iterator == NULL || ret_progress == NULL ||
        pool_enter(iterator->base.pool, "progress", NULL) != 0)
        return FARPOOL_EINVAL;
    driver_look(iterator->base.pool);
    progress.total = iterator->input_ended ? iterator->pulled : 0;
    progress.done = iterator->done;
    progress.failed = iterator->failed;
    if (iterator->base.number != 0 &&
        client_core_job_counts(iterator->base.pool->core, iterator->base.number,
                               &counts)) {
        progress.running = counts.running;
        progress.waiting = counts.waiting;
        progress.running_share = (double)counts.share_ppm / 1e6;
    }
    pool_leave(iterator->base.pool);
    *ret_progress = progress;
    return 0;
}

/* ------------------------------------------------------------- making, freeing */

static void destroy(farpool_iterator *iterator)
{
    struct piece *piece;

    while ((piece = TAILQ_FIRST(&iterator->pieces)) != NULL) {
        TAILQ_REMOVE(&iterator->pieces, piece, entry);
        free_piece(piece);
    }
    free_piece(iterator->current);
    failure_fini(&iterator->input_failure);
    payload_unref(&iterator->large);
    mem_free(iterator->bytes);
    mem_free(iterator->sizes);
    mem_free(iterator);
}

void farpool_iterator_free(farpool_iterator *iterator)
{
    farpool_pool *pool = iterator != NULL ? iterator->base.pool : NULL;

    if (iterator == NULL || pool_enter(pool, "iterator", NULL) != 0)
        return;
    if (iterator->base.number != 0) {
        pool_close_job(&iterator->base, true);
        driver_kick(pool);
    }
    pool_leave(pool);
    destroy(iterator);
    pool_unref(pool);
}

static farpool_iterator *create(const char *call, const farpool_function *function,
                                farpool_input input, void *user)
{
    farpool_iterator *iterator = mem_alloc(sizeof *iterator);

    if (iterator == NULL)
        return NULL;
    iterator->base.kind = &iterator_kind;
    iterator->base.of = (struct failure_of){call, function->name};
    iterator->typed = function->form == FARPOOL_TYPED;
    iterator->input_size = function->input_size;
    iterator->input = input;
    iterator->user = user;
    TAILQ_INIT(&iterator->pieces);
    return iterator;
}

/* Opens the job and asks for the first input. */
static int begin(farpool_iterator *iterator, farpool_pool *pool,
                 const farpool_function *function, const farpool_job_options *options,
                 farpool_error *error)
{
    struct client_job_options description;
    struct job_settings settings;
    int code;

    if ((code = pool_check_running(pool, iterator->base.of.call, error)) != 0 ||
        (code = options_read_job(options, &pool->settings.job, iterator->base.of.call,
                                 &settings, error)) != 0)
        return code;
    job_describe(function, &settings, &description);
    description.lazy = true;
    code = pool_open_job(pool, &iterator->base, &description, error);
    if (code != 0)
        return code;
    iterator->base.pool = pool;
    pool->refs++;
    driver_kick(pool);
    if (iterator_wants_input(iterator))
        iterator_pull(iterator);
    return 0;
}

static farpool_iterator *start(farpool_pool *pool, const char *call, bool ordered,
                               const farpool_function *function, farpool_input input,
                               void *user, const farpool_job_options *options,
                               farpool_error *error)
{
    farpool_iterator *iterator;
    int code;

    if (job_check_function(function, call, error) != 0)
        return NULL;
    if (input == NULL) {
        error_set(error, FARPOOL_EINVAL, "%s: input is NULL", call);
        return NULL;
    }
    if (pool_enter(pool, call, error) != 0)
        return NULL;
    if ((iterator = create(call, function, input, user)) == NULL) {
        error_set(error, FARPOOL_ENOMEM, "%s: out of memory", call);
        pool_leave(pool);
        return NULL;
    }
    iterator->ordered = ordered;
    code = begin(iterator, pool, function, options, error);
    pool_leave(pool);
    if (code == 0)
        return iterator;
    destroy(iterator);
    return NULL;
}

farpool_iterator *farpool_imap(farpool_pool *pool, const farpool_function *function,
                               farpool_input input, void *user,
                               const farpool_job_options *options, farpool_error *error)
{
    return start(pool, "imap", true, function, input, user, options, error);
}

farpool_iterator *farpool_imap_unordered(farpool_pool *pool,
                                         const farpool_function *function,
                                         farpool_input input, void *user,
                                         const farpool_job_options *options,
                                         farpool_error *error)
{
    return start(pool, "imap_unordered", false, function, input, user, options, error);
}
