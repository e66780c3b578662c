/* SPDX-License-Identifier: Apache-2.0
 *
 * test_api_nested.c: a task opens the pool that it runs in, and submits to it. */
#include "tests/api/fixture.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static int64_t square(int64_t value)
{
    if (value < 0)
        farpool_fail(farpool_task_current(), "%ld is negative", (long)value);
    return value * value;
}
FARPOOL_FUNCTION(square, int64_t, int64_t)

/* The sum of the squares below `value`, each one a task of the same pool. */
static int64_t sum_squares(int64_t value)
{
    farpool_task *task = farpool_task_current();
    int64_t inputs[100], outputs[100], sum = 0;
    farpool_error error;
    farpool_pool *pool = farpool_open(NULL, NULL, &error);

    if (pool == NULL) {
        farpool_fail(task, "%s", error.text);
        return -1;
    }
    for (int i = 0; i < value; i++)
        inputs[i] = i;
    if (farpool_map(pool, square, inputs, (size_t)value, outputs, &error) != 0)
        farpool_fail(task, "%s", error.text);
    for (int i = 0; i < value; i++)
        sum += outputs[i];
    farpool_pool_free(pool);
    return sum;
}
FARPOOL_FUNCTION(sum_squares, int64_t, int64_t)

/* value! by recursion: each level a task that waits for the next one. */
static int64_t factorial(int64_t value)
{
    farpool_task *task = farpool_task_current();
    farpool_error error;
    farpool_pool *pool;
    int64_t rest = 1;

    if (value <= 1)
        return 1;
    pool = farpool_open(NULL, NULL, &error);
    value--;
    if (pool == NULL || farpool_map_typed(pool, farpool_function_find("factorial"),
                                          &value, 1, &rest, NULL, &error) != 0)
        farpool_fail(task, "%s", error.text);
    farpool_pool_free(pool);
    return (value + 1) * rest;
}
FARPOOL_FUNCTION(factorial, int64_t, int64_t)

/* Everything else that a nested pool does, one by one; 0 or the line that failed. */
static void count(farpool_job *job, void *user)
{
    (void)job;
    ++*(int *)user;
}

static int count_to_20(void *user, farpool_bytes *ret_item, char message[256])
{
    int64_t *next = user;

    (void)message;
    if (++*next > 20)
        return FARPOOL_END;
    *ret_item = (farpool_bytes){next, sizeof *next};
    return 0;
}

#define CHECK(condition)                                                                 \
    do {                                                                                 \
        if (!(condition))                                                                \
            return __LINE__;                                                             \
    } while (0)

static int64_t check_async(farpool_pool *pool)
{
    const int64_t inputs[] = {5, -6, 7};
    farpool_job_options options = FARPOOL_JOB_OPTIONS;
    farpool_error error;
    int calls = 0;
    farpool_job *job;

    options.callback = count;
    options.user = &calls;
    job = farpool_map_async(pool, square, inputs, 1, &options, &error);
    CHECK(job != NULL && farpool_job_get(job, DEADLINE_MS, &error) == 0 && calls == 1);
    farpool_job_free(job);
    job = farpool_map_async(pool, square, inputs, 3, NULL, &error);
    CHECK(farpool_job_get(job, DEADLINE_MS, &error) == FARPOOL_EFUNCTION);
    CHECK(error.index == 1 && strcmp(error.message, "-6 is negative") == 0);
    farpool_job_free(job);
    job = farpool_map_async(pool, square, inputs, 1, NULL, &error);
    while (!farpool_job_ready(job)) /* looking alone would not lend the slot */
        farpool_job_wait(job, 1);
    farpool_job_free(job);
    return 0;
}

static int64_t check_imap(farpool_pool *pool)
{
    farpool_error error;
    farpool_bytes output;
    int64_t next = 0, value;
    farpool_iterator *iterator =
        farpool_imap(pool, FARPOOL_REF(square), count_to_20, &next, NULL, &error);

    CHECK(iterator != NULL);
    for (int64_t i = 1; i <= 20; i++) {
        CHECK(farpool_next(iterator, DEADLINE_MS, &output, NULL, &error) == 0);
        memcpy(&value, output.data, sizeof value);
        CHECK(value == i * i);
    }
    CHECK(farpool_next(iterator, DEADLINE_MS, &output, NULL, &error) == FARPOOL_END);
    farpool_iterator_free(iterator);
    return 0;
}

static int64_t check_life(int64_t value)
{
    farpool_error error;
    farpool_pool *pool = farpool_open(NULL, NULL, &error);
    int64_t line;

    CHECK(pool != NULL);
    CHECK(farpool_open(NULL, NULL, &error) == NULL && error.code == FARPOOL_EFULL);
    if ((line = check_async(pool)) != 0 || (line = check_imap(pool)) != 0)
        return line;
    CHECK(farpool_join(pool, 0, &error) == FARPOOL_EOPEN);
    CHECK(farpool_close(pool, &error) == 0);
    CHECK(farpool_map_async(pool, square, &value, 1, NULL, &error) == NULL);
    CHECK(error.code == FARPOOL_ECLOSED);
    CHECK(farpool_join(pool, DEADLINE_MS, &error) == 0);
    farpool_pool_free(pool);
    /* And once more; this one is left behind by the task. */
    pool = farpool_open(NULL, NULL, &error);
    CHECK(pool != NULL && farpool_apply(pool, square, 3, &value, &error) == 0);
    CHECK(value == 9);
    return 0;
}
FARPOOL_FUNCTION(check_life, int64_t, int64_t)

static void task_maps_over_the_pool_it_runs_in(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    const int64_t inputs[] = {10, 20, 30, 40, 100, 0};
    int64_t outputs[6];
    farpool_error error;

    (void)state;
    assert_code(farpool_map(pool, sum_squares, inputs, 6, outputs, &error), 0, &error);
    for (int i = 0; i < 6; i++) {
        int64_t n = inputs[i] - 1;

        assert_int_equal(outputs[i], inputs[i] ? n * (n + 1) * (2 * n + 1) / 6 : 0);
    }
    fixture_close(pool);
}

static void waiting_frees_its_slot(void **state)
{
    farpool_pool *pool = fixture_open_processes(1);
    int64_t output = 0;
    farpool_error error;

    (void)state;
    assert_code(farpool_apply(pool, sum_squares, 50, &output, &error), 0, &error);
    assert_int_equal(output, 49 * 50 * 99 / 6);
    fixture_close(pool);
}

static void nesting_ten_deep(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    int64_t output = 0;
    farpool_error error;

    (void)state;
    assert_code(farpool_apply(pool, factorial, 10, &output, &error), 0, &error);
    assert_int_equal(output, 3628800);
    fixture_close(pool);
}

static void life_of_a_nested_pool(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    const int64_t inputs[6] = {0};
    int64_t outputs[6];
    farpool_error error;

    (void)state;
    assert_code(farpool_map(pool, check_life, inputs, 6, outputs, &error), 0, &error);
    for (int i = 0; i < 6; i++)
        assert_int_equal(outputs[i], 0);
    fixture_close(pool);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(task_maps_over_the_pool_it_runs_in),
    cmocka_unit_test(waiting_frees_its_slot),
    cmocka_unit_test(nesting_ten_deep),
    cmocka_unit_test(life_of_a_nested_pool),
};
FIXTURE_MAIN(tests)
