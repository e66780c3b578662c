/* SPDX-License-Identifier: Apache-2.0
 *
 * test_api_calls.c: calls that share a job of the core, since many are under way, are
 * jobs of their own to whoever made them: each has its outcome, its end, its place in the
 * order, and an index of 0. */
#include "tests/api/gate.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALONE 64 /* while so many are under way, later ones share */
#define CALLS 40

/* Its own index, behind its input: 0. */
static int64_t tell_index(int64_t value)
{
    return value + (int64_t)farpool_task_index(farpool_task_current());
}
FARPOOL_FUNCTION(tell_index, int64_t, int64_t)

static int64_t halve(int64_t value)
{
    if (value % 2 != 0)
        farpool_fail(farpool_task_current(), "%ld is odd", (long)value);
    return value / 2;
}
FARPOOL_FUNCTION(halve, int64_t, int64_t)

static int reverse(farpool_task *task)
{
    size_t size;
    const char *input = farpool_task_input(task, &size);
    char *output = farpool_task_output(task, size);

    for (size_t i = 0; i < size; i++)
        output[i] = input[size - 1 - i];
    return 0;
}
FARPOOL_BYTES_FUNCTION(reverse)

/* Kills its process at the first attempt; tells how many it took. */
static int64_t die_once(int64_t value)
{
    farpool_task *task = farpool_task_current();

    if (value == CALLS / 2 && farpool_task_attempt(task) == 1)
        raise(SIGKILL);
    return (int64_t)farpool_task_attempt(task);
}
FARPOOL_FUNCTION(die_once, int64_t, int64_t)

static int64_t tell(gate input)
{
    sign_post(&input.begun, input.value);
    return input.value;
}
FARPOOL_FUNCTION(tell, int64_t, gate)

/* A pool of one process, which is held, and so many jobs that those to come share. */
struct crowd {
    farpool_pool *pool;
    gate gate;
    farpool_job *jobs[ALONE];
};

static struct crowd begin(void)
{
    struct crowd crowd = {.pool = fixture_open_processes(1)};
    farpool_error error;

    crowd.gate.begun = sign_create();
    crowd.gate.go = sign_create();
    crowd.jobs[0] = farpool_apply_async(crowd.pool, pass, crowd.gate, NULL, &error);
    assert_non_null(crowd.jobs[0]);
    sign_wait(&crowd.gate.begun);
    for (int64_t i = 1; i < ALONE; i++) {
        crowd.jobs[i] = farpool_apply_async(crowd.pool, tell_index, i, NULL, &error);
        assert_non_null(crowd.jobs[i]);
    }
    return crowd;
}

static void release(struct crowd *crowd)
{
    sign_post(&crowd->gate.go, 1);
}

static void end(struct crowd *crowd)
{
    farpool_error error;

    for (int i = 0; i < ALONE; i++) {
        assert_code(farpool_job_get(crowd->jobs[i], DEADLINE_MS, &error), 0, &error);
        farpool_job_free(crowd->jobs[i]);
    }
    fixture_close(crowd->pool);
}

static int64_t value_of(farpool_job *job)
{
    farpool_error error;
    int64_t value;

    assert_code(farpool_job_get(job, DEADLINE_MS, &error), 0, &error);
    memcpy(&value, farpool_job_output(job, 0, NULL), sizeof value);
    return value;
}

static void begin_calls(struct crowd *crowd, const farpool_function *function,
                        const farpool_job_options *options, farpool_job *jobs[CALLS])
{
    farpool_error error;

    for (int64_t i = 0; i < CALLS; i++) {
        jobs[i] = farpool_map_async_typed(crowd->pool, function, &i, 1, options, &error);
        assert_non_null(jobs[i]);
    }
}

static void free_all(farpool_job *jobs[CALLS])
{
    for (int i = 0; i < CALLS; i++)
        farpool_job_free(jobs[i]);
}

/* ------------------------------------------------------------------------ tests */

static void each_is_task_0_of_its_job(void **state)
{
    struct crowd crowd = begin();
    farpool_job *jobs[CALLS];

    (void)state;
    begin_calls(&crowd, FARPOOL_REF(tell_index), NULL, jobs);
    release(&crowd);
    for (int i = CALLS - 1; i >= 0; i--) {
        assert_int_equal(farpool_job_count(jobs[i]), 1);
        assert_int_equal(value_of(jobs[i]), i);
    }
    free_all(jobs);
    end(&crowd);
}

static void each_has_its_own_failure(void **state)
{
    struct crowd crowd = begin();
    farpool_job *jobs[CALLS];
    farpool_error error;
    char text[32];

    (void)state;
    begin_calls(&crowd, FARPOOL_REF(halve), NULL, jobs);
    release(&crowd);
    for (int i = 0; i < CALLS; i++) {
        if (i % 2 == 0) {
            assert_int_equal(value_of(jobs[i]), i / 2);
            continue;
        }
        assert_code(farpool_job_get(jobs[i], DEADLINE_MS, &error), FARPOOL_EFUNCTION,
                    &error);
        assert_int_equal(error.index, 0);
        snprintf(text, sizeof text, "%d is odd", i);
        assert_text(&error, text);
    }
    free_all(jobs);
    end(&crowd);
}

static void inputs_of_any_size(void **state)
{
    struct crowd crowd = begin();
    farpool_job *jobs[CALLS];
    farpool_error error;
    char text[CALLS * 200];

    (void)state;
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)(i * 7);
    for (size_t i = 0; i < CALLS; i++) {
        jobs[i] = farpool_apply_bytes_async(crowd.pool, FARPOOL_REF(reverse), text,
                                            i * 200, NULL, &error);
        assert_non_null(jobs[i]);
    }
    release(&crowd);
    for (size_t i = 0; i < CALLS; i++) {
        const char *output;
        size_t size;

        assert_code(farpool_job_get(jobs[i], DEADLINE_MS, &error), 0, &error);
        output = farpool_job_output(jobs[i], 0, &size);
        assert_int_equal(size, i * 200);
        for (size_t j = 0; j < size; j++)
            assert_int_equal(output[j], text[size - 1 - j]);
    }
    free_all(jobs);
    end(&crowd);
}

/* Every other one is cancelled; the pool counts what was freed for nothing. */
static void one_is_cancelled_or_freed_alone(void **state)
{
    struct crowd crowd = begin();
    farpool_job *jobs[CALLS];
    farpool_pool_info info;
    farpool_error error;

    (void)state;
    begin_calls(&crowd, FARPOOL_REF(tell_index), NULL, jobs);
    for (int i = 0; i < CALLS; i += 4) {
        assert_int_equal(farpool_job_cancel(jobs[i], false), 1);
        assert_int_equal(farpool_job_cancel(jobs[i], false), 0);
        assert_code(farpool_job_get(jobs[i], 0, &error), FARPOOL_ECANCELLED, &error);
        assert_int_equal(farpool_job_cancel_task(jobs[i + 1], 0, true), 1);
        assert_int_equal(farpool_job_outcome(jobs[i + 1], 0, &error), FARPOOL_ECANCELLED);
        farpool_job_free(jobs[i + 2]);
        jobs[i + 2] = NULL;
    }
    assert_code(farpool_pool_get_info(crowd.pool, &info, &error), 0, &error);
    assert_int_equal(info.tasks_failed, CALLS / 2);
    assert_int_equal(info.tasks_done, CALLS / 2);
    release(&crowd);
    for (int i = 3; i < CALLS; i += 4)
        assert_int_equal(value_of(jobs[i]), i);
    free_all(jobs);
    end(&crowd);
}

static void a_killed_process_costs_one_attempt(void **state)
{
    struct crowd crowd = begin();
    farpool_job *jobs[CALLS];
    int64_t attempts = 0;

    (void)state;
    begin_calls(&crowd, FARPOOL_REF(die_once), NULL, jobs);
    release(&crowd);
    for (int i = 0; i < CALLS; i++)
        attempts += value_of(jobs[i]) - 1;
    assert_int_equal(value_of(jobs[CALLS / 2]), 2);
    /* Others were run again only if their results had not come out of that process. */
    assert_true(attempts >= 1 && attempts <= CALLS / 2 + 1);
    free_all(jobs);
    end(&crowd);
}

static void count_call(farpool_job *job, void *user)
{
    (void)job;
    ++*(int *)user;
}

static void count_error(farpool_job *job, const farpool_error *error, void *user)
{
    assert_int_equal(error->code, FARPOOL_EFUNCTION);
    count_call(job, (int *)user + 1);
}

static void callbacks_are_of_each(void **state)
{
    struct crowd crowd = begin();
    farpool_job_options options = FARPOOL_JOB_OPTIONS;
    farpool_job *jobs[CALLS];
    int called[2] = {0, 0};

    (void)state;
    options.callback = count_call;
    options.error_callback = count_error;
    options.user = called;
    begin_calls(&crowd, FARPOOL_REF(halve), &options, jobs);
    release(&crowd);
    for (int i = 0; i < CALLS; i++)
        assert_int_equal(farpool_job_wait(jobs[i], DEADLINE_MS), 0);
    assert_int_equal(called[0], CALLS / 2);
    assert_int_equal(called[1], CALLS / 2);
    free_all(jobs);
    end(&crowd);
}

static farpool_job *say(struct crowd *crowd, gate *input, int64_t value, int64_t priority)
{
    farpool_job_options options = FARPOOL_JOB_OPTIONS;
    farpool_error error;
    farpool_job *job;

    input->value = value;
    options.priority = priority;
    job = farpool_apply_async(crowd->pool, tell, *input, &options, &error);
    assert_non_null(job);
    return job;
}

/* Other work in between, of another function or priority, keeps its place. */
static void they_run_in_the_order_of_submission(void **state)
{
    static const int64_t expected[] = {4, 0, 1, 2, 3, 5};
    struct crowd crowd = begin();
    farpool_job *jobs[CALLS] = {NULL}, *map;
    gate input = {.begun = sign_create()}, inputs[2];
    farpool_error error;

    (void)state;
    jobs[0] = say(&crowd, &input, 0, 0);
    for (int i = 0; i < 2; i++) {
        inputs[i] = input;
        inputs[i].value = 1 + i;
    }
    map = farpool_map_async(crowd.pool, tell, inputs, 2, NULL, &error);
    assert_non_null(map);
    jobs[1] = say(&crowd, &input, 3, 0);
    jobs[2] = say(&crowd, &input, 4, 1);
    jobs[3] = say(&crowd, &input, 5, 0);
    release(&crowd);
    for (int i = 0; i < 6; i++)
        assert_int_equal(sign_wait(&input.begun), expected[i]);
    assert_code(farpool_job_get(map, DEADLINE_MS, &error), 0, &error);
    farpool_job_free(map);
    for (int i = 0; i < 4; i++)
        assert_int_equal(farpool_job_wait(jobs[i], DEADLINE_MS), 0);
    free_all(jobs);
    end(&crowd);
}

static void progress_is_of_each(void **state)
{
    struct crowd crowd = begin();
    farpool_job *jobs[CALLS];
    farpool_progress progress;

    (void)state;
    begin_calls(&crowd, FARPOOL_REF(tell_index), NULL, jobs);
    for (int i = 0; i < CALLS; i++) {
        assert_int_equal(farpool_job_progress(jobs[i], &progress), 0);
        assert_int_equal(progress.total, 1);
        assert_int_equal(progress.waiting, 1);
        assert_int_equal(progress.running + progress.done, 0);
    }
    release(&crowd);
    for (int i = 0; i < CALLS; i++) {
        assert_int_equal(farpool_job_wait(jobs[i], DEADLINE_MS), 0);
        assert_int_equal(farpool_job_progress(jobs[i], &progress), 0);
        assert_int_equal(progress.done, 1);
        assert_int_equal(progress.waiting + progress.running, 0);
    }
    free_all(jobs);
    end(&crowd);
}

static void a_terminated_pool_ends_each(void **state)
{
    struct crowd crowd = begin();
    farpool_job *jobs[CALLS];
    farpool_error error;

    (void)state;
    begin_calls(&crowd, FARPOOL_REF(tell_index), NULL, jobs);
    assert_code(farpool_terminate(crowd.pool, &error), 0, &error);
    for (int i = 0; i < CALLS; i++)
        assert_code(farpool_job_get(jobs[i], DEADLINE_MS, &error), FARPOOL_ETERMINATED,
                    &error);
    fixture_terminate(crowd.pool);
    free_all(jobs);
    for (int i = 0; i < ALONE; i++)
        farpool_job_free(crowd.jobs[i]);
}

/* A call that is waited for shares too; with what was submitted before it. */
static void apply_joins_them(void **state)
{
    struct crowd crowd = begin();
    farpool_job *jobs[CALLS];
    farpool_error error;
    int64_t output;

    (void)state;
    begin_calls(&crowd, FARPOOL_REF(tell_index), NULL, jobs);
    release(&crowd);
    for (int64_t i = 0; i < CALLS; i++) {
        assert_code(farpool_apply(crowd.pool, tell_index, 100 + i, &output, &error), 0,
                    &error);
        assert_int_equal(output, 100 + i);
    }
    for (int i = 0; i < CALLS; i++)
        assert_true(farpool_job_ready(jobs[i])); /* one process: it came behind them */
    free_all(jobs);
    end(&crowd);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(each_is_task_0_of_its_job),
    cmocka_unit_test(each_has_its_own_failure),
    cmocka_unit_test(inputs_of_any_size),
    cmocka_unit_test(one_is_cancelled_or_freed_alone),
    cmocka_unit_test(a_killed_process_costs_one_attempt),
    cmocka_unit_test(callbacks_are_of_each),
    cmocka_unit_test(they_run_in_the_order_of_submission),
    cmocka_unit_test(progress_is_of_each),
    cmocka_unit_test(a_terminated_pool_ends_each),
    cmocka_unit_test(apply_joins_them),
};
FIXTURE_MAIN(tests)
