/* SPDX-License-Identifier: Apache-2.0
 *
 * store_tasks.c: inputs and results, a row for as many consecutive tasks as came
 * together. An input that is missing, or a row whose checksum is wrong, is damage. */
#include "common/base/error.h"
#include "common/base/mem.h"
#include "common/base/span.h"
#include "detached/store_internal.h"

#include <string.h>

static int damaged_tasks(const struct store *store, int64_t job, uint64_t first,
                         const char *what, farpool_error *error)
{
    return store_damaged(store, error, "job %lld: %s %llu", (long long)job, what,
                         (unsigned long long)first);
}

/* ----------------------------------------------------------------------- inputs */

int store_input_add(struct store *store, int64_t job, const struct msg_span *span,
                    farpool_error *error)
{
    struct row row;
    const int code = store_write(store, error);
    if (code != 0)
        return code;
    row_begin(&row, store, STORE_INPUT_ADD);
    row_int(&row, (uint64_t)job);
    row_int(&row, span->first);
    row_int(&row, span->count);
    row_payload(&row, span->sizes);
    row_payload(&row, span->data);
    row_put_sum(&row);
    return row_run(&row, error);
}

static int read_input_row(struct row *row, struct msg_span *span, farpool_error *error)
{
    const int64_t job = (int64_t)row_get_int(row);
    span->first = row_get_int(row);
    span->count = (uint32_t)row_get_int(row);
    span->attempt = 1;
    span->sizes = row_get_payload(row);
    span->data = row_get_payload(row);
    if (row->result == SQLITE_NOMEM)
        return store_fail(row->store, SQLITE_NOMEM, error);
    if (!row_sum_is_right(row) || !span_valid(span))
        return damaged_tasks(row->store, job, span->first, "input", error);
    return 0;
}

int store_input_read(struct store *store, int64_t job, uint64_t first, uint64_t count,
                     struct msg_span *ret_span, farpool_error *error)
{
    struct row row;
    struct msg_span span = {.count = 0};
    row_begin(&row, store, STORE_INPUT);
    row_int(&row, (uint64_t)job);
    row_int(&row, first);
    int code = row_next(&row, error);
    if (code == 0)
        code = read_input_row(&row, &span, error);
    row_end(&row);
    if (code == FARPOOL_END ||
        (code == 0 && (first < span.first || first - span.first >= span.count)))
        code = damaged_tasks(store, job, first, "no input", error);
    if (code == 0) {
        const uint64_t left = span.count - (first - span.first);
        code =
            span_slice(&span, first, (uint32_t)(count < left ? count : left), ret_span);
        if (code != 0)
            error_set(error, code, "%s: out of memory", store->path);
    }
    span_fini(&span);
    return code;
}

/* ---------------------------------------------------------------------- results */

void store_result_fini(struct store_result *result)
{
    payload_unref(&result->sizes);
    payload_unref(&result->data);
    mem_free(result->failed.message);
    mem_free(result->failed.backtrace);
    memset(result, 0, sizeof *result);
}

int store_result_add(struct store *store, int64_t job, const struct store_result *result,
                     farpool_error *error)
{
    const struct msg_failed *failed = &result->failed;
    struct row row;
    const int code = store_write(store, error);
    if (code != 0)
        return code;
    row_begin(&row, store, STORE_RESULT_ADD);
    row_int(&row, (uint64_t)job);
    row_int(&row, result->first);
    row_int(&row, result->count);
    row_int(&row, (uint64_t)(int64_t)failed->code);
    row_int(&row, failed->attempt);
    row_int(&row, (uint64_t)(int64_t)failed->exit_status);
    row_int(&row, (uint64_t)(int64_t)failed->signal);
    row_int(&row, failed->pid);
    row_text(&row, failed->node);
    row_text(&row, failed->message);
    row_text(&row, failed->backtrace);
    row_payload(&row, result->sizes);
    row_payload(&row, result->data);
    row_put_sum(&row);
    return row_run(&row, error);
}

static int read_result_row(struct row *row, struct store_result *result,
                           farpool_error *error)
{
    struct msg_failed *failed = &result->failed;
    const int64_t job = (int64_t)row_get_int(row);
    result->first = row_get_int(row);
    result->count = row_get_int(row);
    failed->code = (int)(int64_t)row_get_int(row);
    failed->attempt = (uint32_t)row_get_int(row);
    failed->exit_status = (int)(int64_t)row_get_int(row);
    failed->signal = (int)(int64_t)row_get_int(row);
    failed->pid = (uint32_t)row_get_int(row);
    row_get_text(row, failed->node, sizeof failed->node);
    failed->message = row_get_copy(row);
    failed->backtrace = row_get_copy(row);
    result->sizes = row_get_payload(row);
    result->data = row_get_payload(row);
    if (row->result == SQLITE_NOMEM)
        return store_fail(row->store, SQLITE_NOMEM, error);
    return row_sum_is_right(row)
               ? 0
               : damaged_tasks(row->store, job, result->first, "result", error);
}

/* Where the result is that has `index`, or the first one behind it. */
static int find(struct store *store, int64_t job, uint64_t index,
                struct store_result *result, farpool_error *error)
{
    static const enum store_statement ways[] = {STORE_RESULT_BEFORE, STORE_RESULT_BEHIND};
    int code = FARPOOL_END;
    for (int i = 0; i < 2 && code == FARPOOL_END; i++) {
        struct row row;
        row_begin(&row, store, ways[i]);
        row_int(&row, (uint64_t)job);
        row_int(&row, index);
        code = row_next(&row, error);
        if (code == 0) {
            result->first = row_get_int(&row);
            result->count = row_get_int(&row);
        }
        row_end(&row);
        if (code == 0 && result->first <= index && index - result->first >= result->count)
            code = FARPOOL_END;
    }
    return code;
}

int store_result_read(struct store *store, int64_t job, uint64_t index, bool whole,
                      struct store_result *ret_result, farpool_error *error)
{
    struct store_result result = {.first = 0};
    struct row row;
    int code = find(store, job, index, &result, error);
    if (code == 0 && whole) {
        row_begin(&row, store, STORE_RESULT);
        row_int(&row, (uint64_t)job);
        row_int(&row, result.first);
        code = row_next(&row, error);
        if (code == 0)
            code = read_result_row(&row, &result, error);
        row_end(&row);
        if (code == FARPOOL_END)
            code = damaged_tasks(store, job, index, "no result", error);
    }
    if (code == 0)
        *ret_result = result;
    else
        store_result_fini(&result);
    return code;
}

/* -------------------------------------------------------------------- attempts */

int store_try_add(struct store *store, int64_t job, const struct store_try *again,
                  farpool_error *error)
{
    struct row row;
    const int code = store_write(store, error);
    if (code != 0)
        return code;
    row_begin(&row, store, STORE_TRY_ADD);
    row_int(&row, (uint64_t)job);
    row_int(&row, again->first);
    row_int(&row, again->count);
    row_int(&row, again->attempt);
    row_int(&row, again->losses);
    row_int(&row, again->failures);
    row_put_sum(&row);
    return row_run(&row, error);
}

static int read_try_row(struct row *row, struct store_try *again, farpool_error *error)
{
    const int64_t job = (int64_t)row_get_int(row);
    again->first = row_get_int(row);
    again->count = row_get_int(row);
    again->attempt = (uint32_t)row_get_int(row);
    again->losses = row_get_int(row);
    again->failures = row_get_int(row);
    return row_sum_is_right(row)
               ? 0
               : damaged_tasks(row->store, job, again->first, "attempt of", error);
}

int store_tries_read(struct store *store, int64_t job,
                     int (*take)(void *user, const struct store_try *again), void *user,
                     farpool_error *error)
{
    struct row row;
    int code;
    row_begin(&row, store, STORE_TRIES);
    row_int(&row, (uint64_t)job);
    while ((code = row_next(&row, error)) == 0) {
        struct store_try again;
        code = read_try_row(&row, &again, error);
        if (code == 0 && (code = take(user, &again)) != 0)
            error_set(error, code, "%s: %s", store->path, farpool_error_text(code));
        if (code != 0)
            break;
    }
    row_end(&row);
    return code == FARPOOL_END ? 0 : code;
}
