/* SPDX-License-Identifier: Apache-2.0
 *
 * store_memory.c: two copies of a few jobs: the open one, which calls change, and the one
 * that was committed. A job has fewer than TASKS_MAX tasks, and inputs and results are
 * kept one by one. Its memory is not that of mem_alloc, so that only the service's
 * allocations are made to fail. */
#include "store_memory.h"
#include "common/base/error.h"
#include "common/base/mem.h"
#include "common/base/span.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define JOBS 4
#define TASKS_MAX 256
#define TRIES_MAX 4096
#define BYTES 16 /* of an input or output, at most */

struct cell {
    bool there;
    int code;
    uint32_t size;
    uint8_t bytes[BYTES];
};

struct memory_job {
    bool used;
    struct store_job about; /* without spec */
    struct frames spec;     /* never changed, so of both copies */
    struct cell inputs[TASKS_MAX], results[TASKS_MAX];
    struct store_try tries[TRIES_MAX];
    size_t tries_count;
    bool piece;
};

struct store {
    bool writes;
};

static struct memory_job open_jobs[JOBS], committed[JOBS];
static int64_t last_id;
static unsigned fail_in;
static int fail_code;

void memory_store_fail(unsigned n, int code)
{
    fail_in = n;
    fail_code = code;
}

static int wants_to_fail(farpool_error *error)
{
    if (fail_in == 0 || --fail_in > 0)
        return 0;
    return error_set(error, fail_code, "the memory store was told to fail");
}

static struct memory_job *find(struct memory_job *jobs, int64_t id)
{
    for (int i = 0; i < JOBS; i++)
        if (jobs[i].used && jobs[i].about.id == id)
            return &jobs[i];
    return NULL;
}

static void free_spec(struct memory_job *job)
{
    payload_unref(&job->spec.header);
    for (size_t i = 0; i < job->spec.bodies_count; i++)
        payload_unref(&job->spec.bodies[i]);
    mem_free(job->spec.bodies);
    memset(&job->spec, 0, sizeof job->spec);
}

void memory_store_clear(void)
{
    for (int i = 0; i < JOBS; i++)
        if (committed[i].used)
            free_spec(&committed[i]);
    memset(open_jobs, 0, sizeof open_jobs);
    memset(committed, 0, sizeof committed);
    fail_in = 0;
}

const struct store_job *memory_store_job(void)
{
    for (int i = 0; i < JOBS; i++)
        if (committed[i].used)
            return &committed[i].about;
    return NULL;
}

static const struct memory_job *first(void)
{
    const struct store_job *about = memory_store_job();
    return about != NULL ? find(committed, about->id) : NULL;
}

bool memory_store_has_result(uint64_t index)
{
    const struct memory_job *job = first();
    return job != NULL && job->results[index].there;
}

uint32_t memory_store_attempt(uint64_t index)
{
    const struct memory_job *job = first();
    uint32_t attempt = 1;
    for (size_t i = 0; job != NULL && i < job->tries_count; i++)
        if (index >= job->tries[i].first &&
            index - job->tries[i].first < job->tries[i].count &&
            job->tries[i].attempt > attempt)
            attempt = job->tries[i].attempt;
    return attempt;
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
    memcpy(open_jobs, committed, sizeof open_jobs);
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
    for (int i = 0; i < JOBS; i++)
        if (committed[i].used && !open_jobs[i].used)
            free_spec(&committed[i]);
    memcpy(committed, open_jobs, sizeof committed);
    store->writes = false;
    return 0;
}

void store_rollback(struct store *store)
{
    for (int i = 0; i < JOBS; i++)
        if (open_jobs[i].used && !committed[i].used)
            free_spec(&open_jobs[i]);
    memcpy(open_jobs, committed, sizeof open_jobs);
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
    return *ret_code == 0 ? find(open_jobs, id) : NULL;
}

/* ------------------------------------------------------------------------------ jobs */

int store_job_add(struct store *store, struct store_job *job, farpool_error *error)
{
    int code = wants_to_fail(error), i = 0;
    struct frames spec;
    if (code != 0)
        return code;
    while (i < JOBS && open_jobs[i].used)
        i++;
    assert(i < JOBS);
    if ((code = message_encode(job->spec, &spec)) != 0)
        return error_set(error, code, "the message cannot be encoded");
    job->id = ++last_id;
    job->is_checked = true;
    memset(&open_jobs[i], 0, sizeof open_jobs[i]);
    open_jobs[i].used = true;
    open_jobs[i].about = *job;
    open_jobs[i].about.spec = NULL;
    open_jobs[i].spec = spec;
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
    for (int i = 0; i < JOBS; i++) {
        struct store_job job = open_jobs[i].about;
        const char *reason;
        if (!open_jobs[i].used)
            continue;
        int code = message_decode(&open_jobs[i].spec, &job.spec, &reason);
        if (code == 0)
            code = take(user, &job);
        message_free(&job.spec);
        if (code != 0)
            return error_set(error, code, "out of memory");
    }
    return 0;
}

/* ------------------------------------------------------------------------------ tasks */

int store_input_add(struct store *store, int64_t job, const struct msg_span *span,
                    farpool_error *error)
{
    int code;
    struct memory_job *mine = change(store, job, error, &code);
    for (uint32_t i = 0; mine != NULL && i < span->count; i++) {
        struct cell *cell = &mine->inputs[span->first + i];
        const uint8_t *data;
        size_t size;
        span_task(span, i, &data, &size);
        assert(!cell->there && size <= BYTES);
        *cell = (struct cell){.there = true, .size = (uint32_t)size};
        memcpy(cell->bytes, data, size);
    }
    return code;
}

int store_input_read(struct store *store, int64_t job, uint64_t first_index,
                     uint64_t count, struct msg_span *ret_span, farpool_error *error)
{
    const struct memory_job *mine = find(open_jobs, job);
    (void)store;
    count = count < 3 ? count : 3; /* as they were added */
    struct payload *data = payload_create(count * mine->inputs[first_index].size);
    if (data == NULL)
        return error_set(error, FARPOOL_ENOMEM, "out of memory");
    for (uint64_t i = 0; i < count; i++) {
        const struct cell *cell = &mine->inputs[first_index + i];
        assert(cell->there);
        memcpy(payload_bytes(data) + i * cell->size, cell->bytes, cell->size);
    }
    *ret_span = (struct msg_span){
        .first = first_index, .count = (uint32_t)count, .attempt = 1, .data = data};
    return 0;
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
    for (uint32_t i = 0; mine != NULL && i < span.count; i++) {
        struct cell *cell = &mine->results[result->first + i];
        const uint8_t *data = NULL;
        size_t size = 0;
        assert(!cell->there); /* each task has one */
        if (result->failed.code == 0)
            span_task(&span, i, &data, &size);
        assert(size <= BYTES);
        *cell = (struct cell){
            .there = true, .code = result->failed.code, .size = (uint32_t)size};
        if (size > 0)
            memcpy(cell->bytes, data, size);
    }
    return code;
}

int store_result_read(struct store *store, int64_t job, uint64_t index, bool whole,
                      struct store_result *ret_result, farpool_error *error)
{
    const struct memory_job *mine = find(open_jobs, job);
    (void)store;
    while (index < TASKS_MAX && !mine->results[index].there)
        index++;
    if (index == TASKS_MAX)
        return FARPOOL_END;
    const struct cell *cell = &mine->results[index];
    struct store_result result = {.first = index, .count = 1};
    result.failed.code = cell->code;
    bool failed = false;
    if (whole && cell->code == 0) {
        failed = (result.data = payload_copy(cell->bytes, cell->size)) == NULL;
    } else if (whole) {
        result.failed.message = mem_strdup("it failed");
        result.failed.backtrace = mem_strdup("");
        failed = result.failed.message == NULL || result.failed.backtrace == NULL;
    }
    if (failed) {
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
    if (mine != NULL) {
        assert(mine->tries_count < TRIES_MAX);
        mine->tries[mine->tries_count++] = *again;
    }
    return code;
}

static int by_attempt(const void *a, const void *b)
{
    const struct store_try *x = a, *y = b;
    return (x->attempt > y->attempt) - (x->attempt < y->attempt);
}

int store_tries_read(struct store *store, int64_t job,
                     int (*take)(void *user, const struct store_try *again), void *user,
                     farpool_error *error)
{
    struct memory_job *mine = find(open_jobs, job);
    (void)store;
    qsort(mine->tries, mine->tries_count, sizeof *mine->tries, by_attempt);
    for (size_t i = 0; i < mine->tries_count; i++) {
        const int code = take(user, &mine->tries[i]);
        if (code != 0)
            return error_set(error, code, "out of memory");
    }
    return 0;
}

/* ------------------------------------------------------------------------------ files */

int store_file_need(struct store *store, int64_t job, const struct msg_file *file,
                    uint64_t *ret_have, farpool_error *error)
{
    int code;
    const struct memory_job *mine = change(store, job, error, &code);
    if (mine != NULL)
        *ret_have = mine->piece ? file->size : 0;
    return code;
}

int store_file_add(struct store *store, const struct msg_file *file, uint64_t offset,
                   const struct payload *piece, farpool_error *error)
{
    const int code = wants_to_fail(error);
    assert(offset == 0 && piece->size == file->size);
    for (int i = 0; code == 0 && i < JOBS; i++)
        open_jobs[i].piece = true;
    store->writes = true;
    return code;
}

int store_file_read(struct store *store, const struct hash *content, uint64_t offset,
                    uint64_t bytes, struct payload **ret_piece, farpool_error *error)
{
    (void)store;
    (void)content;
    (void)bytes;
    *ret_piece = payload_create(offset == 0 ? 8 : 0);
    return *ret_piece != NULL ? 0 : error_set(error, FARPOOL_ENOMEM, "out of memory");
}
