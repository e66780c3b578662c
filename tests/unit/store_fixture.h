/* SPDX-License-Identifier: Apache-2.0
 *
 * store_fixture.h: a store of detached jobs in a folder of its own, and a small one of
 * which all is known, for test_detached_*.c. */
#ifndef FARPOOL_TESTS_STORE_FIXTURE_H
#define FARPOOL_TESTS_STORE_FIXTURE_H

#include "common/base/error.h"
#include "common/base/mem.h"
#include "common/base/span.h"
#include "common/sys/sys.h"
#include "detached/store.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define BYTES_MAX (256u << 20)
#define TASKS 40
#define OUTPUT_BYTES 40

/* In memory: a disk would sync each of them. */
static char folder[] = "/dev/shm/farpool-store-XXXXXX";
static char path[128];
static struct store *store;
static farpool_error error;

static inline int set_up(void **state)
{
    (void)state;
    store_set_page_bytes(512);
    memcpy(folder + sizeof folder - 7, "XXXXXX", 6);
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/" STORE_FILE, folder);
    return 0;
}

static inline int tear_down(void **state)
{
    (void)state;
    char command[80];
    store_close(store);
    store = NULL;
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static inline int open_store(void)
{
    return store_open(folder, BYTES_MAX, &store, &error);
}

static inline void close_store(void)
{
    store_close(store);
    store = NULL;
}

#define assert_done(code)                                                                \
    do {                                                                                 \
        if ((code) != 0)                                                                 \
            fail_msg("%s: %s", #code, error.text);                                       \
    } while (0)

/* ------------------------------------------------------------------ what is in it */

static inline struct message *make_spec(const char *name)
{
    struct message *spec = message_create(MSG_SUBMIT);
    spec->submit.submit.bytes[0] = (uint8_t)name[0];
    snprintf(spec->submit.name, sizeof spec->submit.name, "%s", name);
    snprintf(spec->submit.function, sizeof spec->submit.function, "f");
    spec->submit.losses_max = 3;
    spec->submit.argument = payload_copy("argument", 8);
    return spec;
}

static inline struct msg_span make_span(uint64_t first, uint32_t count)
{
    struct msg_span span = {.first = first, .count = count, .attempt = 1};
    uint8_t *bytes;
    span.data = payload_create((size_t)count * OUTPUT_BYTES);
    bytes = payload_bytes(span.data);
    for (size_t i = 0; i < span.data->size; i++)
        bytes[i] = (uint8_t)(first * 7 + i * 13);
    return span;
}

static inline int add_job(const char *name, int64_t *ret_id)
{
    struct store_job job = {.spec = make_spec(name), .submitted_ms = 5};
    int code = store_job_add(store, &job, &error);
    *ret_id = job.id;
    message_free(&job.spec);
    return code;
}

/* The job's row, with so many inputs and results. */
static inline int count_job(int64_t id, const char *name, uint64_t tasks, uint64_t done)
{
    struct store_job job = {.id = id,
                            .spec = make_spec(name),
                            .state = STORE_OPEN,
                            .submitted_ms = 5,
                            .tasks = tasks,
                            .done = done};
    int code = store_job_update(store, &job, &error);
    message_free(&job.spec);
    return code;
}

static inline int add_input(int64_t id, uint64_t first, uint32_t count)
{
    struct msg_span span = make_span(first, count);
    int code = store_input_add(store, id, &span, &error);
    span_fini(&span);
    return code;
}

static inline int add_result(int64_t id, uint64_t first, uint32_t count)
{
    struct msg_span span = make_span(first, count);
    struct store_result result = {.first = first, .count = count, .data = span.data};
    int code = store_result_add(store, id, &result, &error);
    span_fini(&span);
    return code;
}

static inline struct msg_file make_file(const uint8_t *content, size_t size)
{
    struct msg_file file = {.size = size, .executable = true};
    snprintf(file.name, sizeof file.name, "program");
    sys_hash(content, size, &file.content);
    return file;
}

static inline int add_file(int64_t id, const uint8_t *content, size_t size)
{
    const struct msg_file file = make_file(content, size);
    uint64_t have = 1;
    struct payload *piece;
    int code = store_file_need(store, id, &file, &have, &error);
    piece = payload_copy(content, size);
    if (code == 0 && have == 0)
        code = store_file_add(store, &file, 0, piece, &error);
    payload_unref(&piece);
    return code;
}

static const uint8_t program[1000] = {1, 2, 3};

/* A small store of one job, of which all is known. */
static inline void fill(void)
{
    int64_t id;
    assert_done(open_store());
    assert_done(add_job("a", &id));
    assert_int_equal(id, 1);
    for (uint64_t first = 0; first < TASKS; first += 10) {
        assert_done(add_input(id, first, 10));
        assert_done(add_result(id, first, 10));
    }
    assert_done(add_file(id, program, sizeof program));
    assert_done(count_job(id, "a", TASKS, TASKS));
    assert_done(store_commit(store, &error));
    close_store();
}

static inline int count_jobs(void *user, struct store_job *job)
{
    assert_string_equal(job->spec->submit.name, "a");
    assert_int_equal(job->tasks, TASKS);
    assert_memory_equal(job->spec->submit.argument->data, "argument", 8);
    ++*(unsigned *)user;
    return 0;
}

static inline void check_span(const struct msg_span *span)
{
    struct msg_span expected = make_span(span->first, span->count);
    assert_int_equal(span->data->size, expected.data->size);
    assert_memory_equal(span->data->data, expected.data->data, expected.data->size);
    span_fini(&expected);
}

static inline int read_tasks(void)
{
    int code = 0;
    for (uint64_t first = 0; code == 0 && first < TASKS; first += 10) {
        struct msg_span span;
        struct store_result result;
        if ((code = store_input_read(store, 1, first, 10, &span, &error)) != 0)
            break;
        assert_int_equal(span.count, 10);
        check_span(&span);
        span_fini(&span);
        code = store_result_read(store, 1, first + 3, true, &result, &error);
        if (code == 0) {
            const struct msg_span row = {
                .first = result.first, .count = 10, .data = result.data};
            assert_int_equal(result.first, first);
            check_span(&row);
            store_result_fini(&result);
        }
    }
    return code;
}

/* Opens the store and reads all; not 0: it was named as damaged, or cannot be used. */
static inline int read_all(void)
{
    struct payload *piece = NULL;
    unsigned jobs = 0;
    struct msg_file file = make_file(program, sizeof program);
    int code = open_store();
    if (code == 0)
        code = store_jobs_read(store, count_jobs, &jobs, &error);
    if (code == 0) {
        assert_int_equal(jobs, 1);
        code = read_tasks();
    }
    if (code == 0)
        code = store_file_read(store, &file.content, 0, 10000, &piece, &error);
    if (code == 0)
        assert_memory_equal(piece->data, program, sizeof program);
    payload_unref(&piece);
    close_store();
    return code;
}

#endif
