/* SPDX-License-Identifier: Apache-2.0
 *
 * store_memory.c: a few jobs, whose rows each know whether they were committed: a commit
 * marks them, and what undoes a transaction takes out those that are not marked. A row
 * shares the bytes that it was given. Its own memory is not that of mem_alloc, so that
 * only the service's allocations are made to fail. */
#include "store_memory.h"
#include "common/base/error.h"
#include "common/base/mem.h"
#include "common/base/span.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define JOBS_MAX 300
#define FILES 8
#define FILE_BYTES_MAX 8192

/* Consecutive inputs or outputs, or a failure of as many tasks. */
struct row {
    struct msg_span span;
    struct msg_failed failed; /* code 0: none; without texts */
    bool committed;
};

/* In the order of their first index. */
struct rows {
    struct row *items;
    size_t count, capacity;
};

struct memory_job {
    bool used;                         /* for the open transaction */
    bool kept;                         /* committed */
    bool changed;                      /* since */
    struct store_job about, committed; /* without spec */
    struct id submit;
    char name[NODE_NAME_MAX + 1];
    struct frames spec; /* never changed */
    struct rows inputs, results;
    struct store_try *tries;
    size_t tries_count, tries_committed, tries_capacity;
};

struct memory_file {
    struct hash content;
    uint64_t size, have, committed; /* size 0: none */
    uint8_t bytes[FILE_BYTES_MAX];
};

struct store {
    bool writes;
};

static struct memory_job jobs[JOBS_MAX];
static int jobs_count; /* places that were ever in use */
static struct memory_file files[FILES];
static int64_t last_id;
static unsigned fail_in, stop_in;
static int fail_code;
static bool stopped;

/* ----------------------------------------------------------------------- its troubles */

void memory_store_fail(unsigned n, int code)
{
    fail_in = n;
    fail_code = code;
}

void memory_store_stop(unsigned n)
{
    stop_in = n;
    stopped = false;
}

bool memory_store_has_stopped(void)
{
    return stopped;
}

/* A place where the machine may stop. */
static int pass(farpool_error *error)
{
    if (stop_in > 0 && --stop_in == 0)
        stopped = true;
    return stopped ? error_set(error, FARPOOL_ESYSTEM, "the machine has stopped") : 0;
}

static int wants_to_fail(farpool_error *error)
{
    const int code = pass(error);
    if (code != 0 || fail_in == 0 || --fail_in > 0)
        return code;
    return error_set(error, fail_code, "the memory store was told to fail");
}

/* ------------------------------------------------------------------------------- rows */

static void free_row(struct row *row)
{
    span_fini(&row->span);
}

static void free_rows(struct rows *rows)
{
    for (size_t i = 0; i < rows->count; i++)
        free_row(&rows->items[i]);
    free(rows->items);
    memset(rows, 0, sizeof *rows);
}

/* The place of the first row that ends behind an index. */
static size_t find_row(const struct rows *rows, uint64_t index)
{
    size_t low = 0, high = rows->count;
    while (low < high) {
        const size_t middle = (low + high) / 2;
        const struct msg_span *span = &rows->items[middle].span;
        if (span->first + span->count <= index)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void *grow(void *items, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity)
        return items;
    *capacity = *capacity > 0 ? 2 * *capacity : 8;
    items = realloc(items, *capacity * size);
    assert(items != NULL);
    return items;
}

/* Each task has one. */
static void add_row(struct rows *rows, const struct row *row)
{
    const size_t place = find_row(rows, row->span.first);
    assert(place == rows->count ||
           rows->items[place].span.first >= row->span.first + row->span.count);
    rows->items = grow(rows->items, rows->count, &rows->capacity, sizeof *row);
    memmove(&rows->items[place + 1], &rows->items[place],
            (rows->count - place) * sizeof *row);
    rows->items[place] = *row;
    rows->count++;
}

static void commit_rows(struct rows *rows)
{
    for (size_t i = 0; i < rows->count; i++)
        rows->items[i].committed = true;
}

static void undo_rows(struct rows *rows)
{
    size_t kept = 0;
    for (size_t i = 0; i < rows->count; i++) {
        if (rows->items[i].committed)
            rows->items[kept++] = rows->items[i];
        else
            free_row(&rows->items[i]);
    }
    rows->count = kept;
}

/* --------------------------------------------------------------------- a job as a whole
 */

static void free_job(struct memory_job *job)
{
    payload_unref(&job->spec.header);
    for (size_t i = 0; i < job->spec.bodies_count; i++)
        payload_unref(&job->spec.bodies[i]);
    mem_free(job->spec.bodies);
    free_rows(&job->inputs);
    free_rows(&job->results);
    free(job->tries);
    memset(job, 0, sizeof *job);
}

static void commit_job(struct memory_job *job)
{
    if (!job->used) {
        free_job(job);
        return;
    }
    commit_rows(&job->inputs);
    commit_rows(&job->results);
    job->tries_committed = job->tries_count;
    job->committed = job->about;
    job->kept = true;
    job->changed = false;
}

static void undo_job(struct memory_job *job)
{
    if (!job->kept) {
        free_job(job);
        return;
    }
    undo_rows(&job->inputs);
    undo_rows(&job->results);
    job->tries_count = job->tries_committed;
    job->about = job->committed;
    job->used = true;
    job->changed = false;
}

static struct memory_job *find(int64_t id)
{
    for (int i = 0; i < jobs_count; i++)
        if (jobs[i].used && jobs[i].about.id == id)
            return &jobs[i];
    return NULL;
}

void memory_store_clear(void)
{
    for (int i = 0; i < jobs_count; i++)
        free_job(&jobs[i]);
    jobs_count = 0;
    memset(files, 0, sizeof files);
    last_id = 0;
    fail_in = stop_in = 0;
    stopped = false;
}

/* ------------------------------------------------------------------ what is committed */

static struct memory_job *find_kept(const struct id *submit)
{
    for (int i = 0; i < jobs_count; i++)
        if (jobs[i].kept && (submit == NULL || id_equal(&jobs[i].submit, submit)))
            return &jobs[i];
    return NULL;
}

const struct store_job *memory_store_job(const struct id *submit)
{
    const struct memory_job *job = find_kept(submit);
    return job != NULL ? &job->committed : NULL;
}

bool memory_store_has_result(const struct id *submit, uint64_t index)
{
    const struct memory_job *job = find_kept(submit);
    const size_t place = job != NULL ? find_row(&job->results, index) : 0;
    return job != NULL && place < job->results.count &&
           job->results.items[place].span.first <= index &&
           job->results.items[place].committed;
}

uint32_t memory_store_attempt(const struct id *submit, uint64_t index)
{
    const struct memory_job *job = find_kept(submit);
    uint32_t attempt = 1;
    for (size_t i = 0; job != NULL && i < job->tries_committed; i++)
        if (index >= job->tries[i].first &&
            index - job->tries[i].first < job->tries[i].count &&
            job->tries[i].attempt > attempt)
            attempt = job->tries[i].attempt;
    return attempt;
}

bool memory_store_lose_result(const struct id *submit)
{
    struct memory_job *job = find_kept(submit);
    if (job == NULL || job->results.count == 0)
        return false;
    free_row(&job->results.items[--job->results.count]);
    return true;
}

/* -------------------------------------------------------------------------- its life */

int store_open(const char *folder, uint64_t bytes_max, struct store **ret_store,
               farpool_error *error)
{
    (void)folder;
    (void)bytes_max;
    int code = wants_to_fail(error);
    if (code != 0)
        return code;
    *ret_store = calloc(1, sizeof **ret_store);
    return 0;
}

void store_close(struct store *store)
{
    if (store != NULL)
        store_rollback(store);
    free(store);
}

bool store_is_checked(const struct store *store)
{
    return store != NULL;
}

int store_commit(struct store *store, farpool_error *error)
{
    if (!store->writes)
        return 0;
    const int code = wants_to_fail(error);
    if (code != 0)
        return code;
    for (int i = 0; i < jobs_count; i++)
        if (jobs[i].changed)
            commit_job(&jobs[i]);
    for (int i = 0; i < FILES; i++)
        files[i].committed = files[i].have;
    store->writes = false;
    return pass(error);
}

void store_rollback(struct store *store)
{
    for (int i = 0; i < jobs_count; i++)
        if (jobs[i].changed)
            undo_job(&jobs[i]);
    for (int i = 0; i < FILES; i++)
        files[i].have = files[i].committed;
    store->writes = false;
}

uint64_t store_bytes(const struct store *store)
{
    return store == NULL;
}

uint64_t store_bytes_max(const struct store *store)
{
    return store != NULL ? UINT64_C(1) << 30 : 0;
}

/* The job to be changed; NULL: it fails. */
static struct memory_job *change(struct store *store, int64_t id, farpool_error *error,
                                 int *ret_code)
{
    *ret_code = wants_to_fail(error);
    store->writes = true;
    struct memory_job *job = *ret_code == 0 ? find(id) : NULL;
    if (job != NULL)
        job->changed = true;
    return job;
}

/* ------------------------------------------------------------------------------ jobs */

static bool is_taken(const struct store_job *job)
{
    for (int i = 0; i < jobs_count; i++)
        if (jobs[i].used && hash_equal(&jobs[i].about.owner.key, &job->owner.key) &&
            strcmp(jobs[i].name, job->spec->submit.name) == 0)
            return true;
    return false;
}

int store_job_add(struct store *store, struct store_job *job, farpool_error *error)
{
    int code = wants_to_fail(error), i = 0;
    struct frames spec;
    if (code != 0)
        return code;
    if (is_taken(job))
        return error_set(error, FARPOOL_EEXISTS, "there is one of that name");
    while (i < jobs_count && (jobs[i].used || jobs[i].kept))
        i++;
    assert(i < JOBS_MAX);
    if ((code = message_encode(job->spec, &spec)) != 0)
        return error_set(error, code, "the message cannot be encoded");
    jobs_count += i == jobs_count;
    job->id = ++last_id;
    job->is_checked = true;
    jobs[i] = (struct memory_job){.used = true,
                                  .changed = true,
                                  .about = *job,
                                  .submit = job->spec->submit.submit,
                                  .spec = spec};
    memcpy(jobs[i].name, job->spec->submit.name, sizeof jobs[i].name);
    jobs[i].about.spec = NULL;
    store->writes = true;
    return 0;
}

int store_job_update(struct store *store, const struct store_job *job,
                     farpool_error *error)
{
    int code;
    struct memory_job *mine = change(store, job->id, error, &code);
    if (mine != NULL) {
        mine->about = *job;
        mine->about.spec = NULL;
    }
    return code;
}

int store_job_remove(struct store *store, int64_t id, farpool_error *error)
{
    int code;
    struct memory_job *mine = change(store, id, error, &code);
    if (mine != NULL)
        mine->used = false;
    return code;
}

int store_job_check(struct store *store, struct store_job *job, farpool_error *error)
{
    (void)store;
    (void)error;
    job->is_checked = true;
    return 0;
}

int store_jobs_read(struct store *store, int (*take)(void *user, struct store_job *job),
                    void *user, farpool_error *error)
{
    (void)store;
    for (int i = 0; i < jobs_count; i++) {
        struct store_job job = jobs[i].about;
        const char *reason;
        if (!jobs[i].used)
            continue;
        int code = message_decode(&jobs[i].spec, &job.spec, &reason);
        if (code == 0)
            code = take(user, &job);
        message_free(&job.spec);
        if (code != 0)
            return error_set(error, code, "out of memory");
    }
    return 0;
}

/* ------------------------------------------------------------------------------ tasks */

/* Shares the bytes without an allocation. */
static struct row make_row(const struct msg_span *span)
{
    struct row row = {.span = *span};
    row.span.sizes = payload_ref(span->sizes);
    row.span.data = payload_ref(span->data);
    return row;
}

int store_input_add(struct store *store, int64_t job, const struct msg_span *span,
                    farpool_error *error)
{
    int code;
    struct memory_job *mine = change(store, job, error, &code);
    if (mine == NULL)
        return code;
    const struct row row = make_row(span);
    add_row(&mine->inputs, &row);
    return 0;
}

int store_input_read(struct store *store, int64_t job, uint64_t first_index,
                     uint64_t count, struct msg_span *ret_span, farpool_error *error)
{
    const struct memory_job *mine = find(job);
    (void)store;
    const struct msg_span *span =
        &mine->inputs.items[find_row(&mine->inputs, first_index)].span;
    const uint64_t left = span->first + span->count - first_index;
    const uint64_t most = count < left ? count : left;
    const int code = span_slice(span, first_index, (uint32_t)most, ret_span);
    return code == 0 ? 0 : error_set(error, code, "out of memory");
}

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
    int code;
    struct memory_job *mine = change(store, job, error, &code);
    const struct msg_span span = {.first = result->first,
                                  .count = (uint32_t)result->count,
                                  .attempt = 1,
                                  .sizes = result->sizes,
                                  .data = result->data};
    if (mine == NULL)
        return code;
    struct row row = make_row(&span);
    row.failed = result->failed;
    row.failed.message = row.failed.backtrace = NULL;
    add_row(&mine->results, &row);
    return 0;
}

static int fill_result(const struct row *row, struct store_result *result)
{
    result->sizes = payload_ref(row->span.sizes);
    result->data = payload_ref(row->span.data);
    if (row->failed.code == 0)
        return 0;
    result->failed.message = mem_strdup("it failed");
    result->failed.backtrace = mem_strdup("");
    return result->failed.message != NULL && result->failed.backtrace != NULL
               ? 0
               : FARPOOL_ENOMEM;
}

int store_result_read(struct store *store, int64_t job, uint64_t index, bool whole,
                      struct store_result *ret_result, farpool_error *error)
{
    const struct memory_job *mine = find(job);
    (void)store;
    const size_t place = find_row(&mine->results, index);
    if (place == mine->results.count)
        return FARPOOL_END;
    const struct row *row = &mine->results.items[place];
    struct store_result result = {
        .first = row->span.first, .count = row->span.count, .failed = row->failed};
    if (whole && fill_result(row, &result) != 0) {
        store_result_fini(&result);
        return error_set(error, FARPOOL_ENOMEM, "out of memory");
    }
    *ret_result = result;
    return 0;
}

int store_try_add(struct store *store, int64_t job, const struct store_try *again,
                  farpool_error *error)
{
    int code;
    struct memory_job *mine = change(store, job, error, &code);
    if (mine == NULL)
        return code;
    mine->tries =
        grow(mine->tries, mine->tries_count, &mine->tries_capacity, sizeof *again);
    mine->tries[mine->tries_count++] = *again;
    return 0;
}

int store_tries_read(struct store *store, int64_t job,
                     int (*take)(void *user, const struct store_try *again), void *user,
                     farpool_error *error)
{
    const struct memory_job *mine = find(job);
    uint32_t attempt = 0, next = 1;
    (void)store;
    while (next > attempt) { /* those of each attempt, as they were added */
        attempt = next;
        for (size_t i = 0; i < mine->tries_count; i++) {
            const struct store_try *again = &mine->tries[i];
            const int code = again->attempt == attempt ? take(user, again) : 0;
            if (code != 0)
                return error_set(error, code, "out of memory");
            if (again->attempt > attempt && (next == attempt || again->attempt < next))
                next = again->attempt;
        }
    }
    return 0;
}

/* ------------------------------------------------------------------------------ files */

static struct memory_file *find_file(const struct hash *content, uint64_t size)
{
    for (int i = 0; i < FILES; i++)
        if (files[i].size > 0 && hash_equal(&files[i].content, content))
            return &files[i];
    for (int i = 0; i < FILES; i++)
        if (files[i].size == 0) {
            assert(size <= FILE_BYTES_MAX);
            files[i].content = *content;
            files[i].size = size;
            return &files[i];
        }
    assert(!"there is room for all files");
    return NULL;
}

int store_file_need(struct store *store, int64_t job, const struct msg_file *file,
                    uint64_t *ret_have, farpool_error *error)
{
    int code;
    const struct memory_job *mine = change(store, job, error, &code);
    if (mine != NULL)
        *ret_have = file->size > 0 ? find_file(&file->content, file->size)->have : 0;
    return code;
}

int store_file_add(struct store *store, const struct msg_file *file, uint64_t offset,
                   const struct payload *piece, farpool_error *error)
{
    const int code = wants_to_fail(error);
    struct memory_file *mine = find_file(&file->content, file->size);
    assert(offset == mine->have && piece->size <= file->size - offset);
    store->writes = true;
    if (code != 0)
        return code;
    memcpy(mine->bytes + offset, piece->data, piece->size);
    mine->have += piece->size;
    return 0;
}

int store_file_read(struct store *store, const struct hash *content, uint64_t offset,
                    uint64_t bytes, struct payload **ret_piece, farpool_error *error)
{
    const struct memory_file *mine = find_file(content, 1);
    (void)store;
    assert(offset < mine->have);
    const uint64_t left = mine->have - offset;
    *ret_piece = payload_copy(mine->bytes + offset, bytes < left ? bytes : left);
    return *ret_piece != NULL ? 0 : error_set(error, FARPOOL_ENOMEM, "out of memory");
}
