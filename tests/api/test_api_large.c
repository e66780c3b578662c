/* SPDX-License-Identifier: Apache-2.0
 *
 * test_api_large.c: large inputs and outputs, the limit, and that memory is given back.
 */
#include "tests/api/fixture.h"

#include <stdlib.h>
#include <string.h>

#define MB (1 << 20)

typedef struct request {
    uint64_t size;
    uint64_t seed;
} request;

static uint8_t byte_at(uint64_t seed, uint64_t place)
{
    return (uint8_t)(seed + place * 31 + place / 4096);
}

/* As many bytes as asked for, written in place. */
static int make_bytes(farpool_task *task)
{
    const request *input = farpool_task_input(task, NULL);
    uint8_t *output = farpool_task_output(task, input->size);

    if (output == NULL)
        return -1;
    for (uint64_t i = 0; i < input->size; i++)
        output[i] = byte_at(input->seed, i);
    return 0;
}
FARPOOL_BYTES_FUNCTION(make_bytes)

static int sum_bytes(farpool_task *task)
{
    size_t size;
    const uint8_t *input = farpool_task_input(task, &size);
    uint64_t sum = 0;

    for (size_t i = 0; i < size; i++)
        sum += input[i];
    return farpool_task_write(task, &sum, sizeof sum);
}
FARPOOL_BYTES_FUNCTION(sum_bytes)

typedef struct block {
    uint8_t bytes[65536];
} block;

static block turn(block input)
{
    for (size_t i = 0; i < sizeof input.bytes; i++)
        input.bytes[i] ^= 0xff;
    return input;
}
FARPOOL_FUNCTION(turn, block, block)

static void check_bytes(farpool_job *job, uint64_t index, const request *input)
{
    size_t size;
    const uint8_t *output = farpool_job_output(job, index, &size);

    assert_non_null(output);
    assert_int_equal(size, input->size);
    for (uint64_t i = 0; i < size; i++)
        if (output[i] != byte_at(input->seed, i))
            fail_msg("byte %lu", (unsigned long)i);
}

static void result_of_100_mb(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    const request input = {100 * MB, 3};
    farpool_error error;
    farpool_job *job;

    (void)state;
    assert_code(farpool_apply_bytes(pool, FARPOOL_REF(make_bytes), &input, sizeof input,
                                    &job, &error),
                0, &error);
    check_bytes(job, 0, &input);
    farpool_job_free(job);
    fixture_close(pool);
}

static void input_of_100_mb(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    uint8_t *input = malloc(100 * MB);
    uint64_t sum = 0, output;
    farpool_error error;
    farpool_job *job;

    (void)state;
    for (size_t i = 0; i < 100 * MB; i++)
        sum += input[i] = byte_at(9, i);
    assert_code(
        farpool_apply_bytes(pool, FARPOOL_REF(sum_bytes), input, 100 * MB, &job, &error),
        0, &error);
    memcpy(&output, farpool_job_output(job, 0, NULL), sizeof output);
    assert_int_equal(output, sum);
    farpool_job_free(job);
    free(input);
    fixture_close(pool);
}

static void many_large_results_kept(void **state)
{
    enum { COUNT = 40 };
    farpool_pool *pool = fixture_open(NULL);
    request inputs[COUNT];
    farpool_bytes items[COUNT];
    farpool_error error;
    farpool_job *job;

    (void)state;
    for (uint64_t i = 0; i < COUNT; i++) {
        inputs[i] = (request){3 * MB + i, i};
        items[i] = (farpool_bytes){&inputs[i], sizeof inputs[i]};
    }
    assert_code(farpool_map_bytes(pool, FARPOOL_REF(make_bytes), items, COUNT, NULL, &job,
                                  &error),
                0, &error);
    for (uint64_t i = 0; i < COUNT; i++)
        check_bytes(job, i, &inputs[i]);
    farpool_job_free(job);
    fixture_close(pool);
}

static void result_over_the_limit_fails_that_task_only(void **state)
{
    farpool_pool *pool = fixture_open_processes(1);
    const request inputs[] = {{1000, 1}, {(uint64_t)4 << 30, 1}, {2000, 2}};
    farpool_bytes items[3];
    farpool_error error;
    farpool_job *job;

    (void)state;
    for (int i = 0; i < 3; i++)
        items[i] = (farpool_bytes){&inputs[i], sizeof inputs[i]};
    assert_code(
        farpool_map_bytes(pool, FARPOOL_REF(make_bytes), items, 3, NULL, &job, &error),
        FARPOOL_ETOOBIG, &error);
    assert_int_equal(error.index, 1);
    assert_text(&error, "4294967296");
    assert_text(&error, "1073741824"); /* the limit it met */
    check_bytes(job, 0, &inputs[0]);
    check_bytes(job, 2, &inputs[2]);
    farpool_job_free(job);
    fixture_close(pool);
}

static void arguments_and_results_are_freed_once_delivered(void **state)
{
    enum { COUNT = 200 };
    farpool_pool *pool = fixture_open(NULL);
    block *inputs = calloc(COUNT, sizeof *inputs),
          *outputs = calloc(COUNT, sizeof *outputs);
    uint64_t before = 0;
    farpool_error error;

    (void)state;
    for (int round = 0; round < 20; round++) { /* 13 MB each way, twice a round */
        farpool_job *job;

        assert_code(farpool_map(pool, turn, inputs, COUNT, outputs, &error), 0, &error);
        assert_int_equal(outputs[COUNT - 1].bytes[5], 0xff);
        job = farpool_map_async(pool, turn, inputs, COUNT, NULL, &error);
        assert_code(farpool_job_get(job, DEADLINE_MS, &error), 0, &error);
        farpool_job_free(job);
        if (round == 5)
            before = fixture_memory();
    }
    assert_true(fixture_memory() < before + 24 * MB);
    free(inputs);
    free(outputs);
    fixture_close(pool);
}

static void input_may_be_reused_when_map_returns(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    block *input = malloc(sizeof *input), output;
    farpool_error error;

    (void)state;
    for (int i = 0; i < 50; i++) {
        memset(input, i, sizeof *input);
        assert_code(farpool_map(pool, turn, input, 1, &output, &error), 0, &error);
        memset(input, 0xee, sizeof *input);
        assert_int_equal(output.bytes[0], i ^ 0xff);
        assert_int_equal(output.bytes[65535], i ^ 0xff);
    }
    free(input);
    fixture_close(pool);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(result_of_100_mb),
    cmocka_unit_test(input_of_100_mb),
    cmocka_unit_test(many_large_results_kept),
    cmocka_unit_test(result_over_the_limit_fails_that_task_only),
    cmocka_unit_test(arguments_and_results_are_freed_once_delivered),
    cmocka_unit_test(input_may_be_reused_when_map_returns),
};
FIXTURE_MAIN(tests)
