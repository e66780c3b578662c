/* SPDX-License-Identifier: Apache-2.0
 *
 * test_api_burst.c: jobs that are submitted faster than the pool is driven for each: they
 * wait for company, but not for another call. */
#include "tests/api/fixture.h"

#include <stdlib.h>
#include <string.h>

#define JOBS 300 /* those that start at once, batches, and a rest */

static int64_t next(int64_t value)
{
    return value + 1;
}
FARPOOL_FUNCTION(next, int64_t, int64_t)

typedef struct gate {
    struct sign begun;
} gate;

static int64_t tell(gate input)
{
    sign_post(&input.begun, 1);
    return 7;
}
FARPOOL_FUNCTION(tell, int64_t, gate)

static void burst(farpool_pool *pool, int64_t count)
{
    farpool_job *jobs[JOBS];
    farpool_error error;
    gate input;

    memset(&input, 0, sizeof input);
    input.begun = sign_create();
    for (int64_t i = 0; i + 1 < count; i++) {
        jobs[i] = farpool_apply_async(pool, next, i, NULL, &error);
        assert_non_null(jobs[i]);
    }
    jobs[count - 1] = farpool_apply_async(pool, tell, input, NULL, &error);
    assert_non_null(jobs[count - 1]);
    sign_wait(&input.begun); /* which has a deadline */
    for (int64_t i = 0; i < count; i++) {
        assert_code(farpool_job_get(jobs[i], DEADLINE_MS, &error), 0, &error);
        assert_int_equal(*(const int64_t *)farpool_job_outputs(jobs[i]),
                         i + 1 < count ? i + 1 : 7);
        farpool_job_free(jobs[i]);
    }
}

/* Of some lengths, so that one or the other ends in the middle of a batch. */
static void the_last_of_a_burst_starts_without_another_call(void **state)
{
    farpool_pool *pool = fixture_open(NULL);

    (void)state;
    for (int64_t count = JOBS / 2; count <= JOBS; count += 11)
        burst(pool, count);
    fixture_close(pool);
}

/* What apply leaves for the next turn is moved by the result thread, and ends before the
 * pool does. */
static void a_loop_of_apply_leaves_nothing(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    farpool_pool_info info;
    farpool_error error;
    int64_t output;

    (void)state;
    for (int64_t i = 0; i < JOBS; i++) {
        assert_code(farpool_apply(pool, next, i, &output, &error), 0, &error);
        assert_int_equal(output, i + 1);
    }
    assert_code(farpool_pool_get_info(pool, &info, &error), 0, &error);
    assert_int_equal(info.tasks_done, JOBS);
    assert_int_equal(info.tasks_running, 0);
    fixture_close(pool);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(the_last_of_a_burst_starts_without_another_call),
    cmocka_unit_test(a_loop_of_apply_leaves_nothing),
};
FIXTURE_MAIN(tests)
