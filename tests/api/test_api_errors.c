/* SPDX-License-Identifier: Apache-2.0
 *
 * test_api_errors.c: a task that fails: what the caller is told, and that nothing else is
 * concerned. */
#include "tests/api/fixture.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Fails for odd numbers, at once; even ones take a moment longer. */
static int64_t halve(int64_t value)
{
    if (value % 2 != 0)
        farpool_fail(farpool_task_current(), "%ld is odd", (long)value);
    return value / 2;
}
FARPOOL_FUNCTION(halve, int64_t, int64_t)

static int fail_silently(farpool_task *task)
{
    (void)task;
    return 1;
}
FARPOOL_BYTES_FUNCTION(fail_silently)

static int fail_with_much_text(farpool_task *task)
{
    static char text[1 << 20];

    memset(text, 'x', sizeof text - 1);
    return farpool_fail(task, "%s", text);
}
FARPOOL_BYTES_FUNCTION(fail_with_much_text)

/* Fails until its third attempt. */
static int64_t third_time(int64_t value)
{
    farpool_task *task = farpool_task_current();

    if (farpool_task_attempt(task) < 3)
        farpool_fail(task, "attempt %u", (unsigned)farpool_task_attempt(task));
    return value + farpool_task_attempt(task);
}
FARPOOL_FUNCTION(third_time, int64_t, int64_t)

static int echo_size(farpool_task *task)
{
    size_t size;

    farpool_task_input(task, &size);
    return farpool_task_write(task, &size, sizeof size);
}
FARPOOL_BYTES_FUNCTION(echo_size)

static int want_integer(farpool_task *task, const struct msgpack_object *arguments,
                        struct msgpack_packer *result)
{
    int64_t value;

    (void)result;
    return farpool_unpack(task, arguments, "i", &value);
}
FARPOOL_ARGS_FUNCTION(want_integer)

static farpool_function not_there = {"not_there", FARPOOL_BYTES, 0,    0,
                                     NULL,        NULL,          NULL, NULL};

static void remote_error_text_reaches_the_caller(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    farpool_error error;
    int64_t output;

    (void)state;
    assert_code(farpool_apply(pool, halve, 3, &output, &error), FARPOOL_EFUNCTION,
                &error);
    assert_string_equal(error.message, "3 is odd");
    assert_text(&error, "map: task 0 failed on node ");
    assert_text(&error, "attempt 1): 3 is odd");
    assert_int_equal(error.index, 0);
    assert_int_equal(error.attempt, 1);
    assert_int_equal(error.exit_status, -1);
    assert_int_equal(error.signal, 0);
    assert_true(error.pid > 0);
    assert_true(error.node[0] != '\0');
    assert_true(error.backtrace[0] != '\0');
    fixture_close(pool);
}

static void map_does_not_fail_fast_and_tells_the_lowest_index(void **state)
{
    enum { COUNT = 101 };
    farpool_pool *pool = fixture_open(NULL);
    int64_t inputs[COUNT], outputs[COUNT];
    farpool_error error;

    (void)state;
    for (int i = 0; i < COUNT; i++) {
        inputs[i] = i % 10 == 7 ? 2 * i + 1 : 2 * i;
        outputs[i] = -1;
    }
    assert_code(farpool_map(pool, halve, inputs, COUNT, outputs, &error),
                FARPOOL_EFUNCTION, &error);
    assert_int_equal(error.index, 7);
    assert_text(&error, "task 7 failed");
    for (int i = 0; i < COUNT; i++)
        assert_true(i % 10 == 7 || outputs[i] == i);
    fixture_close(pool);
}

static void every_outcome_can_be_read(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    const int64_t inputs[] = {2, 3, 4, 5};
    farpool_job_options options = FARPOOL_JOB_OPTIONS;
    farpool_error error;
    farpool_job *job;
    const int64_t *outputs;

    (void)state;
    options.chunk_size = 4; /* the rest of a failing chunk runs, too */
    job = farpool_map_async(pool, halve, inputs, 4, &options, &error);
    assert_code(farpool_job_get(job, DEADLINE_MS, &error), FARPOOL_EFUNCTION, &error);
    assert_int_equal(farpool_job_outcome(job, 0, &error), 0);
    assert_int_equal(farpool_job_outcome(job, 1, &error), FARPOOL_EFUNCTION);
    assert_string_equal(error.message, "3 is odd");
    assert_int_equal(farpool_job_outcome(job, 2, &error), 0);
    assert_int_equal(farpool_job_outcome(job, 3, &error), FARPOOL_EFUNCTION);
    assert_int_equal(error.index, 3);
    assert_int_equal(farpool_job_outcome(job, 4, &error), FARPOOL_EINVAL);
    assert_text(&error, "outcome: index is 4, but the job has 4 tasks");
    outputs = farpool_job_outputs(job);
    assert_int_equal(outputs[0], 1);
    assert_int_equal(outputs[1], 0); /* zero where it failed */
    assert_int_equal(outputs[2], 2);
    assert_null(farpool_job_output(job, 1, NULL));
    assert_non_null(farpool_job_output(job, 2, NULL));
    assert_null(farpool_job_output(job, 4, NULL));
    farpool_job_free(job);
    fixture_close(pool);
}

static void failure_without_a_reason(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    farpool_error error;
    farpool_job *job;

    (void)state;
    assert_code(
        farpool_apply_bytes(pool, FARPOOL_REF(fail_silently), NULL, 0, &job, &error),
        FARPOOL_EFUNCTION, &error);
    assert_text(&error, "apply: task 0 failed");
    assert_non_null(job);
    farpool_job_free(job);
    fixture_close(pool);
}

static void many_failures_with_much_text_do_not_block_join(void **state)
{
    enum { COUNT = 200 };
    farpool_pool *pool = fixture_open(NULL);
    farpool_bytes items[COUNT];
    farpool_error error;
    farpool_job *job;

    (void)state;
    memset(items, 0, sizeof items);
    job = farpool_map_bytes_async(pool, FARPOOL_REF(fail_with_much_text), items, COUNT,
                                  NULL, &error);
    fixture_close(pool); /* nobody has read a result */
    assert_int_equal(farpool_job_outcome(job, COUNT - 1, &error), FARPOOL_EFUNCTION);
    assert_int_equal(strlen(error.message), sizeof error.message - 1);
    farpool_job_free(job);
}

static void retries_until_it_succeeds(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    farpool_job_options options = FARPOOL_JOB_OPTIONS;
    const int64_t inputs[] = {10, 20, 30};
    int64_t outputs[3];
    farpool_error error;

    (void)state;
    options.retries = 2;
    assert_code(farpool_map_typed(pool, FARPOOL_REF(third_time), inputs, 3, outputs,
                                  &options, &error),
                0, &error);
    assert_int_equal(outputs[2], 33);
    options.retries = 1;
    assert_code(farpool_map_typed(pool, FARPOOL_REF(third_time), inputs, 3, outputs,
                                  &options, &error),
                FARPOOL_EFUNCTION, &error);
    assert_string_equal(error.message, "attempt 2");
    assert_int_equal(error.attempt, 2);
    fixture_close(pool);
}

static void unknown_function(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    farpool_error error;
    farpool_job *job;
    int64_t output;

    (void)state;
    assert_code(farpool_apply_bytes(pool, &not_there, NULL, 0, &job, &error),
                FARPOOL_ENOFUNCTION, &error);
    assert_text(&error, "not_there");
    farpool_job_free(job);
    /* Only that job is concerned. */
    assert_code(farpool_apply(pool, halve, 4, &output, &error), 0, &error);
    assert_int_equal(output, 2);
    fixture_close(pool);
}

static void arguments_that_do_not_fit_the_function(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    farpool_list *list = farpool_list_create();
    farpool_error error;
    farpool_job *job;

    (void)state;
    assert_int_equal(farpool_list_pack(list, "s", "text"), 0);
    assert_int_equal(farpool_list_add(list, "\xc1", 1), 0); /* not msgpack */
    assert_code(
        farpool_starmap(pool, FARPOOL_REF(want_integer), list, NULL, &job, &error),
        FARPOOL_EINVAL, &error);
    assert_int_equal(error.index, 0);
    assert_true(farpool_job_outcome(job, 1, &error) < 0);
    assert_true(error.message[0] != '\0');
    farpool_job_free(job);
    farpool_list_free(list);
    fixture_close(pool);
}

static void input_that_cannot_be_sent_fails_without_a_hang(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    const farpool_bytes large = {(const void *)1, (size_t)1 << 40};
    const farpool_bytes null = {NULL, 5};
    farpool_error error;
    farpool_job *job;

    (void)state;
    assert_code(
        farpool_map_bytes(pool, FARPOOL_REF(echo_size), &large, 1, NULL, &job, &error),
        FARPOOL_ETOOBIG, &error);
    assert_text(&error, "map: input 0 has 1099511627776 bytes, but may have 1073741824");
    assert_null(job);
    assert_code(
        farpool_map_bytes(pool, FARPOOL_REF(echo_size), &null, 1, NULL, &job, &error),
        FARPOOL_EINVAL, &error);
    assert_text(&error, "map: input 0 has data NULL, but size 5");
    assert_code(farpool_apply_bytes(pool, FARPOOL_REF(echo_size), "abc", 3, &job, &error),
                0, &error);
    farpool_job_free(job);
    fixture_close(pool);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(remote_error_text_reaches_the_caller),
    cmocka_unit_test(map_does_not_fail_fast_and_tells_the_lowest_index),
    cmocka_unit_test(every_outcome_can_be_read),
    cmocka_unit_test(failure_without_a_reason),
    cmocka_unit_test(many_failures_with_much_text_do_not_block_join),
    cmocka_unit_test(retries_until_it_succeeds),
    cmocka_unit_test(unknown_function),
    cmocka_unit_test(arguments_that_do_not_fit_the_function),
    cmocka_unit_test(input_that_cannot_be_sent_fails_without_a_hang),
};
FIXTURE_MAIN(tests)
