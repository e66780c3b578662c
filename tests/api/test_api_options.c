/* SPDX-License-Identifier: Apache-2.0
 *
 * test_api_options.c: what is refused, each with a text of its own. */
#include "tests/api/fixture.h"

#include <stdlib.h>
#include <string.h>

static int64_t square(int64_t value)
{
    return value * value;
}
FARPOOL_FUNCTION(square, int64_t, int64_t)

static int echo(farpool_task *task)
{
    (void)task;
    return 0;
}
FARPOOL_BYTES_FUNCTION(echo)

#define INITIALIZER_MAX 67108864

struct row {
    size_t offset;
    int64_t value;
    const char *text;
};
#define POOL(option, value, text)                                                        \
    {                                                                                    \
        offsetof(farpool_pool_options, option), value, text                              \
    }
#define JOB(option, value, text)                                                         \
    {                                                                                    \
        offsetof(farpool_job_options, option), value, text                               \
    }

static const struct row pool_rows[] = {
    POOL(processes, 0, "open: processes is 0, but must be 1 to 65536"),
    POOL(processes, -1, "open: processes is -1, but must be 1 to 65536"),
    POOL(processes, 65537, "open: processes is 65537, but must be 1 to 65536"),
    POOL(tasks_per_process, 0, "open: tasks_per_process is 0, but must be at least 1"),
    POOL(tasks_per_process, -1, "open: tasks_per_process is -1, but must be at least 1"),
    POOL(chunk_size, 0, "open: chunk_size is 0, but must be 1 to 1048576 tasks"),
    POOL(chunk_size, 1048577, "open: chunk_size is 1048577, but must be 1 to 1048576"),
    POOL(task_timeout_ms, 0, "open: task_timeout_ms is 0, but must be at least 1 ms"),
    POOL(task_cpu_ms, 0, "open: task_cpu_ms is 0, but must be at least 1 ms"),
    POOL(task_memory_bytes, 0,
         "open: task_memory_bytes is 0, but must be at least 1 bytes"),
    POOL(retries, -1, "open: retries is -1, but must be 0 to 1000"),
    POOL(retries, 1001, "open: retries is 1001, but must be 0 to 1000"),
    POOL(losses_max, 0, "open: losses_max is 0, but must be 1 to 1000"),
    POOL(losses_max, 1001, "open: losses_max is 1001, but must be 1 to 1000"),
    POOL(priority, 1001, "open: priority is 1001, but must be -1000 to 1000"),
    POOL(priority, -1001, "open: priority is -1001, but must be -1000 to 1000"),
    POOL(tasks_under_way, 0, "open: tasks_under_way is 0, but must be at least 1 tasks"),
    POOL(bytes_under_way, 0, "open: bytes_under_way is 0, but must be at least 1 bytes"),
    POOL(connect_timeout_ms, 0, "open: connect_timeout_ms is 0, but must be at least 1"),
};

static const struct row job_rows[] = {
    JOB(chunk_size, 0, "map: chunk_size is 0, but must be 1 to 1048576 tasks"),
    JOB(chunk_size, -1, "map: chunk_size is -1, but must be 1 to 1048576 tasks"),
    JOB(task_timeout_ms, 0, "map: task_timeout_ms is 0, but must be at least 1 ms"),
    JOB(task_cpu_ms, 0, "map: task_cpu_ms is 0, but must be at least 1 ms"),
    JOB(task_memory_bytes, -1,
        "map: task_memory_bytes is -1, but must be at least 1 bytes"),
    JOB(retries, -1, "map: retries is -1, but must be 0 to 1000"),
    JOB(losses_max, 0, "map: losses_max is 0, but must be 1 to 1000"),
    JOB(speculate, 2, "map: speculate is 2, but must be 0 to 1"),
    JOB(speculate, -1, "map: speculate is -1, but must be 0 to 1"),
    JOB(priority, 2000, "map: priority is 2000, but must be -1000 to 1000"),
    JOB(tasks_under_way, -3, "map: tasks_under_way is -3, but must be at least 1"),
    JOB(bytes_under_way, -1, "map: bytes_under_way is -1, but must be at least 1 bytes"),
};

static void bad_pool_options(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof pool_rows / sizeof pool_rows[0]; i++) {
        farpool_pool_options options = FARPOOL_POOL_OPTIONS;
        farpool_error error;

        memcpy((char *)&options + pool_rows[i].offset, &pool_rows[i].value, 8);
        assert_null(farpool_open(fixture_address(), &options, &error));
        assert_int_equal(error.code, FARPOOL_EINVAL);
        assert_text(&error, pool_rows[i].text);
        assert_null(farpool_open(fixture_address(), &options, NULL));
    }
}

static void bad_job_options(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    int64_t input = 1, output;

    (void)state;
    for (size_t i = 0; i < sizeof job_rows / sizeof job_rows[0]; i++) {
        farpool_job_options options = FARPOOL_JOB_OPTIONS;
        farpool_error error;

        memcpy((char *)&options + job_rows[i].offset, &job_rows[i].value, 8);
        assert_code(farpool_map_typed(pool, FARPOOL_REF(square), &input, 1, &output,
                                      &options, &error),
                    FARPOOL_EINVAL, &error);
        assert_text(&error, job_rows[i].text);
    }
    fixture_close(pool);
}

/* What may never run twice cannot run a second time elsewhere. */
static void once_or_speculate(void **state)
{
    farpool_pool_options options = FARPOOL_POOL_OPTIONS;
    farpool_job_options job = FARPOOL_JOB_OPTIONS;
    farpool_error error;
    int64_t input = 3, output = 0;

    (void)state;
    options.processes = 1;
    options.speculate = 1;
    farpool_pool *pool = fixture_open(&options);
    assert_code(
        farpool_map_typed(pool, FARPOOL_REF(square), &input, 1, &output, &job, &error), 0,
        &error);
    assert_int_equal(output, 9);
    job.losses_max = 1;
    assert_code(
        farpool_map_typed(pool, FARPOOL_REF(square), &input, 1, &output, &job, &error),
        FARPOOL_EINVAL, &error);
    assert_text(&error, "map: speculate is 1 and losses_max is 1");
    job.speculate = 0;
    assert_code(
        farpool_map_typed(pool, FARPOOL_REF(square), &input, 1, &output, &job, &error), 0,
        &error);
    fixture_close(pool);
    options.losses_max = 1;
    assert_null(farpool_open(fixture_address(), &options, &error));
    assert_int_equal(error.code, FARPOOL_EINVAL);
    assert_text(&error, "open: speculate is 1 and losses_max is 1");
}

static void good_limits(void **state)
{
    farpool_pool_options options = FARPOOL_POOL_OPTIONS;
    farpool_job_options job = FARPOOL_JOB_OPTIONS;
    farpool_pool *pool;
    farpool_error error;
    int64_t input = 5, output;

    (void)state;
    options.processes = 1;
    options.tasks_per_process = INT64_MAX;
    options.chunk_size = 1048576;
    options.task_timeout_ms = INT64_MAX;
    options.retries = 1000;
    options.losses_max = 1000;
    options.priority = 1000;
    options.tasks_under_way = INT64_MAX;
    options.bytes_under_way = INT64_MAX;
    options.connect_timeout_ms = INT64_MAX;
    pool = fixture_open(&options);
    job.chunk_size = 1;
    job.retries = 0;
    job.losses_max = 1;
    job.priority = -1000;
    job.tasks_under_way = 1;
    job.bytes_under_way = 1;
    assert_code(
        farpool_map_typed(pool, FARPOOL_REF(square), &input, 1, &output, &job, &error), 0,
        &error);
    assert_int_equal(output, 25);
    fixture_close(pool);
}

static void options_not_begun_with_the_macro(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    farpool_pool_options options;
    farpool_job_options job;
    farpool_error error;
    int64_t input = 1, output;

    (void)state;
    memset(&options, 0, sizeof options);
    memset(&job, 0, sizeof job);
    assert_null(farpool_open(NULL, &options, &error));
    assert_text(&error, "open: struct_size is 0");
    assert_text(&error, "begin with FARPOOL_POOL_OPTIONS");
    assert_code(
        farpool_map_typed(pool, FARPOOL_REF(square), &input, 1, &output, &job, &error),
        FARPOOL_EINVAL, &error);
    assert_text(&error, "begin with FARPOOL_JOB_OPTIONS");
    fixture_close(pool);
}

static void bad_initializer(void **state)
{
    farpool_pool_options options = FARPOOL_POOL_OPTIONS;
    farpool_error error;

    (void)state;
    options.initializer = "not_there";
    assert_null(farpool_open(fixture_address(), &options, &error));
    assert_int_equal(error.code, FARPOOL_ENOFUNCTION);
    assert_text(&error, "open: initializer not_there is not a registered function");
    options.initializer = "square";
    assert_null(farpool_open(fixture_address(), &options, &error));
    assert_text(&error, "open: initializer square must be a FARPOOL_BYTES_FUNCTION");
    options.initializer = "";
    assert_null(farpool_open(fixture_address(), &options, &error));
    assert_text(&error, "open: initializer has a name of 0 bytes, but must have 1 to 63");
    options.initializer = "echo";
    options.initializer_argument = (farpool_bytes){NULL, 3};
    assert_null(farpool_open(fixture_address(), &options, &error));
    assert_text(&error, "open: initializer_argument.data is NULL, but its size is 3");
    options.initializer_argument = (farpool_bytes){"", INITIALIZER_MAX + 1};
    assert_null(farpool_open(fixture_address(), &options, &error));
    assert_text(&error,
                "open: initializer_argument has 67108865 bytes, but may have 67108864");
}

static void bad_addresses(void **state)
{
    const char *const addresses[] = {"",
                                     "localhost",
                                     "http://127.0.0.1:1",
                                     "tcp://127.0.0.1",
                                     "tcp://127.0.0.1:99999",
                                     "tcp://:5764"};
    farpool_error error;

    (void)state;
    for (size_t i = 0; i < sizeof addresses / sizeof addresses[0]; i++) {
        assert_null(farpool_open(addresses[i], NULL, &error));
        assert_int_equal(error.code, FARPOOL_EADDRESS);
        assert_true(error.text[0] != '\0');
    }
}

static void no_coordinator(void **state)
{
    farpool_pool_options options = FARPOOL_POOL_OPTIONS;
    uint64_t before_ms = fixture_now_ms();
    farpool_cluster_status *status;
    farpool_error error;

    (void)state;
    options.connect_timeout_ms = 200;
    assert_null(farpool_open("tcp://127.0.0.1:1", &options, &error));
    assert_int_equal(error.code, FARPOOL_ENOCOORDINATOR);
    assert_text(&error,
                "open: no coordinator answered at tcp://127.0.0.1:1 within 200 ms");
    assert_in_range(fixture_now_ms() - before_ms, 199, 2000);
    assert_code(farpool_cluster_get_status("tcp://127.0.0.1:1", 100, &status, &error),
                FARPOOL_ENOCOORDINATOR, &error);
    assert_text(&error,
                "status: no coordinator answered at tcp://127.0.0.1:1 within 100 ms");
    assert_code(farpool_cluster_get_status(NULL, 100, &status, &error), FARPOOL_EADDRESS,
                &error);
    assert_code(farpool_cluster_get_status("tcp://127.0.0.1:1", 100, NULL, &error),
                FARPOOL_EINVAL, &error);
    farpool_cluster_status_free(NULL);
}

static void null_pointers(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    farpool_error error;
    farpool_job *job;
    farpool_bytes output;
    farpool_pool_info info;
    farpool_progress progress;
    int64_t input = 1;

    (void)state;
    assert_code(farpool_map(pool, square, NULL, 3, &input, &error), FARPOOL_EINVAL,
                &error);
    assert_text(&error, "map: inputs is NULL, but count is 3");
    assert_code(farpool_map(pool, square, &input, 1, NULL, &error), FARPOOL_EINVAL,
                &error);
    assert_text(&error, "map: outputs is NULL, but count is 1");
    assert_code(farpool_map(NULL, square, &input, 1, &input, &error), FARPOOL_EINVAL,
                &error);
    assert_text(&error, "map: pool is NULL");
    assert_code(farpool_map_typed(pool, NULL, &input, 1, &input, NULL, &error),
                FARPOOL_EINVAL, &error);
    assert_text(&error, "map: function is NULL");
    assert_code(
        farpool_map_typed(pool, FARPOOL_REF(echo), &input, 1, &input, NULL, &error),
        FARPOOL_EINVAL, &error);
    assert_text(&error, "map: echo is not a FARPOOL_FUNCTION");
    assert_code(farpool_map_bytes(pool, FARPOOL_REF(echo), NULL, 2, NULL, &job, &error),
                FARPOOL_EINVAL, &error);
    assert_text(&error, "map: items is NULL, but count is 2");
    assert_code(farpool_map_bytes(pool, FARPOOL_REF(echo), NULL, 0, NULL, NULL, &error),
                FARPOOL_EINVAL, &error);
    assert_text(&error, "map: ret_job is NULL");
    assert_code(farpool_starmap(pool, FARPOOL_REF(echo), NULL, NULL, &job, &error),
                FARPOOL_EINVAL, &error);
    assert_text(&error, "starmap: arguments is NULL");
    assert_null(farpool_imap(pool, FARPOOL_REF(square), NULL, NULL, NULL, &error));
    assert_text(&error, "imap: input is NULL");
    assert_int_equal(farpool_next(NULL, 0, &output, NULL, &error), FARPOOL_EINVAL);
    assert_int_equal(farpool_job_get(NULL, 0, &error), FARPOOL_EINVAL);
    assert_int_equal(farpool_job_wait(NULL, 0), FARPOOL_EINVAL);
    assert_false(farpool_job_ready(NULL));
    assert_int_equal(farpool_job_successful(NULL), FARPOOL_EINVAL);
    assert_int_equal(farpool_job_cancel(NULL, true), FARPOOL_EINVAL);
    assert_int_equal(farpool_job_progress(NULL, &progress), FARPOOL_EINVAL);
    assert_int_equal(farpool_iterator_progress(NULL, &progress), FARPOOL_EINVAL);
    assert_int_equal(farpool_close(NULL, &error), FARPOOL_EINVAL);
    assert_int_equal(farpool_terminate(NULL, NULL), FARPOOL_EINVAL);
    assert_int_equal(farpool_join(NULL, 0, &error), FARPOOL_EINVAL);
    assert_int_equal(farpool_pool_get_info(NULL, &info, &error), FARPOOL_EINVAL);
    assert_int_equal(farpool_pool_get_info(pool, NULL, &error), FARPOOL_EINVAL);
    assert_int_equal(farpool_pool_warning(NULL, &error), FARPOOL_EINVAL);
    assert_int_equal(farpool_pool_warning(pool, &error), FARPOOL_END);
    fixture_close(pool);
}

static void versions(void **state)
{
    (void)state;
    assert_string_equal(farpool_version(), FARPOOL_VERSION);
    assert_string_equal(farpool_error_name(FARPOOL_ECLOSED), "ECLOSED");
    assert_string_equal(farpool_error_text(FARPOOL_ECLOSED), "pool not running");
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(bad_pool_options),
    cmocka_unit_test(bad_job_options),
    cmocka_unit_test(once_or_speculate),
    cmocka_unit_test(good_limits),
    cmocka_unit_test(options_not_begun_with_the_macro),
    cmocka_unit_test(bad_initializer),
    cmocka_unit_test(bad_addresses),
    cmocka_unit_test(no_coordinator),
    cmocka_unit_test(null_pointers),
    cmocka_unit_test(versions),
};
FIXTURE_MAIN(tests)
