/* SPDX-License-Identifier: Apache-2.0
 *
 * The store of detached jobs: what is in it comes back; a file that was cut at any byte,
 * or has a flipped bit anywhere, is opened right or named as damaged; whichever write or
 * sync fails, what was committed is there afterwards; and its limit. */
#include "common/base/mem.h"
#include "common/base/span.h"
#include "common/sys/sys.h"
#include "detached/store.h"

#include <fcntl.h>
#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define BYTES_MAX (64u << 20)
#define TASKS 40
#define OUTPUT_BYTES 40

/* In memory: a disk would sync each of them. */
static char folder[] = "/dev/shm/farpool-store-XXXXXX";
static char path[128];
static struct store *store;
static farpool_error error;

static int set_up(void **state)
{
    (void)state;
    store_set_page_bytes(512);
    memcpy(folder + sizeof folder - 7, "XXXXXX", 6);
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/" STORE_FILE, folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    char command[80];
    store_close(store);
    store = NULL;
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static int open_store(void)
{
    return store_open(folder, BYTES_MAX, &store, &error);
}

static void close_store(void)
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

static struct message *make_spec(const char *name)
{
    struct message *spec = message_create(MSG_SUBMIT);
    spec->submit.submit.bytes[0] = (uint8_t)name[0];
    snprintf(spec->submit.name, sizeof spec->submit.name, "%s", name);
    snprintf(spec->submit.function, sizeof spec->submit.function, "f");
    spec->submit.losses_max = 3;
    spec->submit.argument = payload_copy("argument", 8);
    return spec;
}

static struct msg_span make_span(uint64_t first, uint32_t count)
{
    struct msg_span span = {.first = first, .count = count, .attempt = 1};
    uint8_t *bytes;
    span.data = payload_create((size_t)count * OUTPUT_BYTES);
    bytes = payload_bytes(span.data);
    for (size_t i = 0; i < span.data->size; i++)
        bytes[i] = (uint8_t)(first * 7 + i * 13);
    return span;
}

static int add_job(const char *name, int64_t *ret_id)
{
    struct store_job job = {.spec = make_spec(name), .submitted_ms = 5};
    int code = store_job_add(store, &job, &error);
    *ret_id = job.id;
    message_free(&job.spec);
    return code;
}

/* The job's row, with so many inputs and results. */
static int count_job(int64_t id, const char *name, uint64_t tasks, uint64_t done)
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

static int add_input(int64_t id, uint64_t first, uint32_t count)
{
    struct msg_span span = make_span(first, count);
    int code = store_input_add(store, id, &span, &error);
    span_fini(&span);
    return code;
}

static int add_result(int64_t id, uint64_t first, uint32_t count)
{
    struct msg_span span = make_span(first, count);
    struct store_result result = {.first = first, .count = count, .data = span.data};
    int code = store_result_add(store, id, &result, &error);
    span_fini(&span);
    return code;
}

static struct msg_file make_file(const uint8_t *content, size_t size)
{
    struct msg_file file = {.size = size, .executable = true};
    snprintf(file.name, sizeof file.name, "program");
    sys_hash(content, size, &file.content);
    return file;
}

static int add_file(int64_t id, const uint8_t *content, size_t size)
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
static void fill(void)
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

static int count_jobs(void *user, struct store_job *job)
{
    assert_string_equal(job->spec->submit.name, "a");
    assert_int_equal(job->tasks, TASKS);
    assert_memory_equal(job->spec->submit.argument->data, "argument", 8);
    ++*(unsigned *)user;
    return 0;
}

static void check_span(const struct msg_span *span)
{
    struct msg_span expected = make_span(span->first, span->count);
    assert_int_equal(span->data->size, expected.data->size);
    assert_memory_equal(span->data->data, expected.data->data, expected.data->size);
    span_fini(&expected);
}

static int read_tasks(void)
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
static int read_all(void)
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

static void test_comes_back(void **state)
{
    (void)state;
    fill();
    assert_done(read_all());
}

static void test_removed(void **state)
{
    (void)state;
    struct msg_file file = make_file(program, sizeof program);
    uint64_t have = 0;
    int64_t id;
    fill();
    assert_done(open_store());
    assert_int_equal(add_job("a", &id), FARPOOL_EEXISTS);
    assert_done(store_job_remove(store, 1, &error));
    assert_done(store_commit(store, &error));
    assert_done(add_job("a", &id));
    assert_true(id > 1);
    assert_done(store_file_need(store, id, &file, &have, &error));
    assert_int_equal(have, 0);
}

static void test_content_is_checked(void **state)
{
    (void)state;
    struct msg_file file = make_file(program, sizeof program);
    uint8_t other[sizeof program] = {9};
    struct payload *piece = payload_copy(other, sizeof other);
    uint64_t have = 1;
    int64_t id;
    assert_done(open_store());
    assert_done(add_job("a", &id));
    assert_done(store_file_need(store, id, &file, &have, &error));
    assert_int_equal(store_file_add(store, &file, 0, piece, &error), FARPOOL_EPROGRAM);
    assert_done(store_file_need(store, id, &file, &have, &error));
    assert_int_equal(have, 0);
    payload_unref(&piece);
}

static void test_one_at_a_time(void **state)
{
    (void)state;
    struct store *second = NULL;
    assert_done(open_store());
    assert_int_equal(store_open(folder, BYTES_MAX, &second, &error), FARPOOL_ESYSTEM);
    assert_non_null(strstr(error.text, "another coordinator"));
}

/* ----------------------------------------------------------------------- damage */

struct copy {
    uint8_t *bytes;
    size_t size;
};

static struct copy load_copy(void)
{
    struct stat about;
    struct copy copy = {NULL, 0};
    const int fd = open(path, O_RDONLY);
    assert_true(fd >= 0 && fstat(fd, &about) == 0);
    copy.size = (size_t)about.st_size;
    copy.bytes = malloc(copy.size);
    assert_int_equal(read(fd, copy.bytes, copy.size), (ssize_t)copy.size);
    close(fd);
    return copy;
}

static void put_back(const struct copy *copy, size_t size)
{
    char command[300];
    const int fd = open(path, O_WRONLY | O_TRUNC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, copy->bytes, size), (ssize_t)size);
    close(fd);
    snprintf(command, sizeof command, "%s-wal", path);
    unlink(command);
    snprintf(command, sizeof command, "%s-shm", path);
    unlink(command);
}

static void check_named(const char *how, size_t where)
{
    if (strstr(error.text, STORE_FILE) == NULL)
        fail_msg("%s at %zu: \"%s\" does not name the file", how, where, error.text);
}

static void test_cut_anywhere(void **state)
{
    (void)state;
    fill();
    const struct copy whole = load_copy();
    for (size_t size = 0; size < whole.size; size++) {
        put_back(&whole, size);
        if (read_all() != 0)
            check_named("cut", size);
        else if (size + 512 <
                 whole.size) /* what is not there reads as zeros, in a page */
            fail_msg("cut at %zu of %zu bytes, and nothing is said", size, whole.size);
    }
    put_back(&whole, whole.size);
    assert_done(read_all());
    free(whole.bytes);
}

static void test_flipped_anywhere(void **state)
{
    (void)state;
    size_t named = 0;
    fill();
    const struct copy whole = load_copy();
    for (size_t at = 0; at < whole.size; at++) {
        whole.bytes[at] ^= (uint8_t)(1u << at % 8);
        put_back(&whole, whole.size);
        if (read_all() != 0) { /* else all of it was right */
            check_named("flipped", at);
            named++;
        }
        whole.bytes[at] ^= (uint8_t)(1u << at % 8);
    }
    assert_true(named > TASKS * 2 * OUTPUT_BYTES); /* each byte of inputs and results */
    free(whole.bytes);
}

static void test_other_files(void **state)
{
    (void)state;
    char log[160];
    fill();
    snprintf(log, sizeof log, "%s-wal", path);
    assert_int_equal(rename(path, log), 0);
    assert_int_equal(open_store(), FARPOOL_ESYSTEM); /* its log without it */
    assert_non_null(strstr(error.text, "it is gone"));
    assert_int_equal(rename(log, path), 0);
    assert_int_equal(chmod(folder, 0777), 0);
    assert_int_equal(open_store(), FARPOOL_ESYSTEM);
    assert_non_null(strstr(error.text, "nobody else"));
    assert_int_equal(chmod(folder, 0700), 0);
    assert_done(read_all());
}

/* --------------------------------------------------------------- failing disks */

static struct {
    unsigned long at, calls; /* the at-th write or sync fails, and all behind it */
    int result;
} fault;

static int fails(void)
{
    return ++fault.calls >= fault.at && fault.at != 0 ? fault.result : SQLITE_OK;
}

/* The system's methods of a kind of file, two of them replaced. */
static struct kind {
    sqlite3_io_methods methods;
    const sqlite3_io_methods *real;
} kinds[8];

static const sqlite3_io_methods *real_of(const sqlite3_file *file)
{
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (file->pMethods == &kinds[i].methods)
            return kinds[i].real;
    return NULL;
}

static int fail_write(sqlite3_file *file, const void *data, int size,
                      sqlite3_int64 offset)
{
    const int result = fails();
    return result != SQLITE_OK ? result : real_of(file)->xWrite(file, data, size, offset);
}

static int fail_sync(sqlite3_file *file, int flags)
{
    const int result = fails();
    return result == SQLITE_OK     ? real_of(file)->xSync(file, flags)
           : result == SQLITE_FULL ? SQLITE_FULL
                                   : SQLITE_IOERR_FSYNC;
}

static sqlite3_vfs *system_vfs, shim;

static int open_shim(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags,
                     int *ret_flags)
{
    (void)vfs;
    const int result = system_vfs->xOpen(system_vfs, name, file, flags, ret_flags);
    if (result != SQLITE_OK || file->pMethods == NULL)
        return result;
    size_t i = 0;
    while (kinds[i].real != NULL && kinds[i].real != file->pMethods)
        i++;
    assert_true(i < sizeof kinds / sizeof kinds[0]);
    if (kinds[i].real == NULL) {
        kinds[i] = (struct kind){*file->pMethods, file->pMethods};
        kinds[i].methods.xWrite = fail_write;
        kinds[i].methods.xSync = fail_sync;
    }
    file->pMethods = &kinds[i].methods;
    return SQLITE_OK;
}

static void use_shim(void)
{
    system_vfs = sqlite3_vfs_find(NULL);
    shim = *system_vfs;
    shim.zName = "failing";
    shim.xOpen = open_shim;
    assert_int_equal(sqlite3_vfs_register(&shim, 1), SQLITE_OK);
}

/* Commits results one by one, until one fails; how many were acknowledged. */
static uint64_t store_until_failure(void)
{
    uint64_t acknowledged = 0;
    int64_t id;
    fault.calls = 0;
    if (open_store() != 0)
        return 0;
    int code = add_job("a", &id);
    if (code == 0)
        code = add_input(id, 0, TASKS);
    if (code == 0)
        code = count_job(id, "a", TASKS, 0);
    if (code == 0)
        code = store_commit(store, &error);
    while (code == 0 && acknowledged < TASKS) {
        code = add_result(id, acknowledged, 1);
        if (code == 0)
            code = count_job(id, "a", TASKS, acknowledged + 1);
        if (code == 0)
            code = store_commit(store, &error);
        acknowledged += code == 0;
    }
    if (code != 0)
        assert_non_null(strstr(error.text, STORE_FILE));
    close_store();
    return acknowledged;
}

static int take_done(void *user, struct store_job *job)
{
    *(uint64_t *)user = job->done;
    return 0;
}

/* What was acknowledged is there; at most one more, whose commit failed too late. */
static void check_acknowledged(uint64_t acknowledged)
{
    uint64_t done = 0;
    struct store_result result;
    fault.at = 0;
    assert_done(open_store());
    assert_done(store_jobs_read(store, take_done, &done, &error));
    assert_true(done == acknowledged || done == acknowledged + 1);
    for (uint64_t i = 0; i < done; i++) {
        assert_done(store_result_read(store, 1, i, true, &result, &error));
        assert_int_equal(result.first, i);
        store_result_fini(&result);
    }
    close_store();
}

static void try_failing(int result)
{
    unsigned long calls;
    char command[80];
    use_shim();
    fault.at = 0;
    fault.result = result;
    assert_int_equal(store_until_failure(), TASKS);
    calls = fault.calls;
    assert_true(calls > 100);
    for (unsigned long at = 1; at <= calls; at++) {
        snprintf(command, sizeof command, "rm -f %s/*", folder);
        assert_int_equal(system(command), 0);
        fault.at = at;
        const uint64_t acknowledged = store_until_failure();
        assert_true(acknowledged < TASKS || at > calls - 40); /* closing writes too */
        check_acknowledged(acknowledged);
    }
    sqlite3_vfs_unregister(&shim);
}

static void test_full_disk(void **state)
{
    (void)state;
    try_failing(SQLITE_FULL);
}

static void test_failing_disk(void **state)
{
    (void)state;
    try_failing(SQLITE_IOERR_WRITE);
}

static void test_limit(void **state)
{
    (void)state;
    int64_t id;
    int code = 0;
    store_set_page_bytes(4096);
    assert_done(store_open(folder, 1u << 20, &store, &error));
    assert_done(add_job("a", &id));
    assert_done(store_commit(store, &error));
    for (uint64_t i = 0; code == 0 && i < 100000; i += 10) {
        code = add_result(id, i, 10);
        if (code == 0)
            code = store_commit(store, &error);
    }
    assert_int_equal(code, FARPOOL_EFULL);
    assert_non_null(strstr(error.text, "1048576"));
    store_rollback(store);
    assert_true(store_bytes(store) <= 1u << 20);
    assert_done(store_job_remove(store, id, &error)); /* and room is made again */
    assert_done(store_commit(store, &error));
    assert_true(store_bytes(store) < 200000);
    assert_done(add_job("b", &id));
    assert_done(add_result(id, 0, 1000));
    assert_done(store_commit(store, &error));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_comes_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_removed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_content_is_checked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_one_at_a_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_cut_anywhere, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_flipped_anywhere, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_other_files, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_full_disk, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_failing_disk, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_limit, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
