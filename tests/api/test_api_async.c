/* SPDX-License-Identifier: Apache-2.0
 *
 * test_api_async.c: AsyncResult: get, wait, ready, successful; callbacks; as_completed;
 * several threads on one pool; progress. */
#include "tests/api/fixture.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int64_t square(int64_t value)
{
    if (value < 0)
        farpool_fail(farpool_task_current(), "%ld is negative", (long)value);
    return value * value;
}
FARPOOL_FUNCTION(square, int64_t, int64_t)

/* Posts the task's index to the first sign, then waits for the second one. */
typedef struct gate {
    struct sign begun, go;
    int64_t value;
} gate;

static int64_t pass(gate input)
{
    sign_post(&input.begun, (int64_t)farpool_task_index(farpool_task_current()));
    sign_wait_in_task(&input.go);
    return input.value;
}
FARPOOL_FUNCTION(pass, int64_t, gate)

static int64_t report(gate input)
{
    farpool_task_progress(farpool_task_current(), 1, 4);
    return pass(input);
}
FARPOOL_FUNCTION(report, int64_t, gate)

static gate make_gate(int64_t value)
{
    gate input;

    memset(&input, 0, sizeof input);
    input.begun = sign_create();
    input.go = sign_create();
    input.value = value;
    return input;
}

static void get_waits(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    gate input = make_gate(7);
    farpool_error error;
    farpool_job *job = farpool_apply_async(pool, pass, input, NULL, &error);

    (void)state;
    assert_non_null(job);
    sign_wait(&input.begun);
    assert_false(farpool_job_ready(job));
    assert_int_equal(farpool_job_successful(job), FARPOOL_ENOTREADY);
    assert_int_equal(farpool_job_outcome(job, 0, &error), FARPOOL_ENOTREADY);
    assert_null(farpool_job_output(job, 0, NULL));
    assert_null(farpool_job_outputs(job));
    sign_post(&input.go, 1);
    assert_code(farpool_job_get(job, FARPOOL_FOREVER, &error), 0, &error);
    assert_code(farpool_job_get(job, 0, &error), 0, &error); /* again */
    assert_true(farpool_job_ready(job));
    assert_int_equal(farpool_job_successful(job), 1);
    assert_int_equal(farpool_job_wait(job, 0), 0);
    assert_int_equal(*(const int64_t *)farpool_job_outputs(job), 7);
    farpool_job_free(job);
    fixture_close(pool);
}

static void get_times_out_at_the_deadline(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    gate input = make_gate(7);
    farpool_error error;
    farpool_job *job = farpool_apply_async(pool, pass, input, NULL, &error);
    uint64_t before_ms;

    (void)state;
    sign_wait(&input.begun);
    before_ms = fixture_now_ms();
    assert_code(farpool_job_get(job, 100, &error), FARPOOL_ETIMEDOUT, &error);
    assert_in_range(fixture_now_ms() - before_ms, 99, 400);
    assert_text(&error, "get: 1 of 1 tasks are left after 100 ms");
    assert_int_equal(farpool_job_wait(job, 0), FARPOOL_ETIMEDOUT);
    assert_int_equal(farpool_job_get(job, -2, &error), FARPOOL_EINVAL);
    assert_text(&error, "timeout_ms is -2");
    sign_post(&input.go, 1);
    assert_code(farpool_job_get(job, DEADLINE_MS, &error), 0, &error);
    farpool_job_free(job);
    fixture_close(pool);
}

/* ------------------------------------------------------------------- callbacks */

struct called {
    pthread_t thread;
    atomic_int callbacks, error_callbacks;
    bool was_ready;
    int64_t output;
    farpool_error error;
    farpool_pool *pool;
    bool frees;
};

static void on_success(farpool_job *job, void *user)
{
    struct called *called = user;

    called->thread = pthread_self();
    called->output = *(const int64_t *)farpool_job_output(job, 0, NULL);
    called->was_ready = atomic_load(&called->callbacks) > 0;
    atomic_fetch_add(&called->callbacks, 1);
}

static void on_error(farpool_job *job, const farpool_error *error, void *user)
{
    struct called *called = user;

    called->error = *error;
    atomic_fetch_add(&called->error_callbacks, 1);
    if (called->frees)
        farpool_job_free(job);
}

static farpool_job_options calls(struct called *called)
{
    farpool_job_options options = FARPOOL_JOB_OPTIONS;

    memset(called, 0, sizeof *called);
    options.callback = on_success;
    options.error_callback = on_error;
    options.user = called;
    return options;
}

static void callback_exactly_once_before_ready(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    const int64_t inputs[] = {3, 4, 5};
    struct called called;
    farpool_job_options options = calls(&called);
    farpool_error error;
    farpool_job *job = farpool_map_async(pool, square, inputs, 3, &options, &error);

    (void)state;
    assert_code(farpool_job_get(job, DEADLINE_MS, &error), 0, &error);
    assert_int_equal(called.callbacks, 1);
    assert_int_equal(called.error_callbacks, 0);
    assert_int_equal(called.output, 9);
    assert_false(pthread_equal(called.thread, pthread_self()));
    farpool_job_free(job);
    fixture_close(pool);
    assert_int_equal(called.callbacks, 1);
}

static void error_callback_exactly_once_with_lowest_index(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    const int64_t inputs[] = {3, -4, 5, -6};
    struct called called;
    farpool_job_options options = calls(&called);
    farpool_error error;
    farpool_job *job = farpool_map_async(pool, square, inputs, 4, &options, &error);

    (void)state;
    assert_int_equal(farpool_job_wait(job, DEADLINE_MS), 0);
    assert_int_equal(called.callbacks, 0);
    assert_int_equal(called.error_callbacks, 1);
    assert_int_equal(called.error.index, 1);
    assert_int_equal(called.error.code, FARPOOL_EFUNCTION);
    assert_int_equal(farpool_job_successful(job), 0);
    farpool_job_free(job);
    fixture_close(pool);
    assert_int_equal(called.error_callbacks, 1);
}

static void callback_of_a_cancelled_and_of_an_empty_job(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    gate input = make_gate(7);
    struct called called, empty;
    farpool_job_options options = calls(&called);
    farpool_error error;
    farpool_job *job = farpool_apply_async(pool, pass, input, &options, &error);

    (void)state;
    assert_int_equal(farpool_job_cancel(job, true), 1);
    assert_int_equal(farpool_job_wait(job, DEADLINE_MS), 0);
    assert_int_equal(called.error_callbacks, 1);
    assert_int_equal(called.error.code, FARPOOL_ECANCELLED);
    farpool_job_free(job);
    options = calls(&empty);
    options.callback = NULL;
    job = farpool_map_async(pool, square, NULL, 0, &options, &error);
    assert_int_equal(farpool_job_wait(job, DEADLINE_MS), 0);
    assert_int_equal(empty.error_callbacks, 0);
    farpool_job_free(job);
    fixture_close(pool);
}

static void submit_and_wait(farpool_job *job, void *user)
{
    struct called *called = user;
    int64_t inputs[] = {20, 30}, outputs[2];

    /* Inside the callback the job's results can be read, and waiting for it ends. */
    called->was_ready = farpool_job_get(job, 0, NULL) == 0;
    if (farpool_map(called->pool, square, inputs, 2, outputs, NULL) == 0)
        called->output = outputs[0] + outputs[1];
    atomic_fetch_add(&called->callbacks, 1);
}

static void callback_may_submit_and_wait(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    struct called called;
    farpool_job_options options = calls(&called);
    farpool_error error;
    farpool_job *job;

    (void)state;
    called.pool = pool;
    options.callback = submit_and_wait;
    job = farpool_apply_async(pool, square, 2, &options, &error);
    assert_code(farpool_job_get(job, DEADLINE_MS, &error), 0, &error);
    assert_int_equal(called.callbacks, 1);
    assert_true(called.was_ready);
    assert_int_equal(called.output, 400 + 900);
    farpool_job_free(job);
    fixture_close(pool);
}

static void callback_may_free_its_job(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    struct called called;
    farpool_job_options options = calls(&called);
    farpool_error error;

    (void)state;
    called.frees = true;
    assert_non_null(farpool_apply_async(pool, square, -2, &options, &error));
    fixture_close(pool); /* join waits for callbacks, too */
    assert_int_equal(called.error_callbacks, 1);
}

static void many_callbacks_each_once(void **state)
{
    enum { JOBS = 200 };
    farpool_pool *pool = fixture_open(NULL);
    struct called called;
    farpool_job_options options = calls(&called);
    farpool_job *jobs[JOBS];
    farpool_error error;

    (void)state;
    for (int i = 0; i < JOBS; i++)
        jobs[i] = farpool_apply_async(pool, square, i % 2 ? i : -i - 1, &options, &error);
    for (int i = 0; i < JOBS; i++)
        assert_int_equal(farpool_job_wait(jobs[i], DEADLINE_MS), 0);
    assert_int_equal(called.callbacks, JOBS / 2);
    assert_int_equal(called.error_callbacks, JOBS / 2);
    for (int i = 0; i < JOBS; i++)
        farpool_job_free(jobs[i]);
    fixture_close(pool);
}

/* ---------------------------------------------------------------- as_completed */

static void as_completed_in_order_of_completion(void **state)
{
    enum { JOBS = 3 };
    farpool_pool *pool = fixture_open_processes(3);
    farpool_job *jobs[JOBS], *all[JOBS];
    gate inputs[JOBS];
    farpool_error error;
    const size_t order[JOBS] = {1, 2, 0};
    size_t place = 99;

    (void)state;
    for (int i = 0; i < JOBS; i++) {
        inputs[i] = make_gate(i);
        all[i] = jobs[i] = farpool_apply_async(pool, pass, inputs[i], NULL, &error);
        sign_wait(&inputs[i].begun);
    }
    assert_int_equal(farpool_as_completed(jobs, JOBS, 20, &place), FARPOOL_ETIMEDOUT);
    for (int i = 0; i < JOBS; i++) {
        sign_post(&inputs[order[i]].go, 1);
        assert_int_equal(farpool_as_completed(jobs, JOBS, DEADLINE_MS, &place), 0);
        assert_int_equal(place, order[i]);
        jobs[place] = NULL;
    }
    assert_int_equal(farpool_as_completed(jobs, JOBS, DEADLINE_MS, &place), FARPOOL_END);
    assert_int_equal(farpool_as_completed(NULL, 0, DEADLINE_MS, &place), FARPOOL_END);
    assert_int_equal(farpool_as_completed(NULL, 1, DEADLINE_MS, &place), FARPOOL_EINVAL);
    assert_int_equal(farpool_as_completed(jobs, 1, DEADLINE_MS, NULL), FARPOOL_EINVAL);
    for (int i = 0; i < JOBS; i++)
        farpool_job_free(all[i]);
    fixture_close(pool);
}

static void as_completed_over_two_pools(void **state)
{
    farpool_pool *pools[2] = {fixture_open_processes(1), fixture_open_processes(1)};
    gate inputs[2] = {make_gate(0), make_gate(1)};
    farpool_job *jobs[2], *all[2];
    farpool_error error;
    size_t place = 99;

    (void)state;
    for (int i = 0; i < 2; i++)
        all[i] = jobs[i] = farpool_apply_async(pools[i], pass, inputs[i], NULL, &error);
    assert_int_equal(farpool_as_completed(jobs, 2, 20, &place), FARPOOL_ETIMEDOUT);
    for (int i = 1; i >= 0; i--) {
        sign_post(&inputs[i].go, 1);
        assert_int_equal(farpool_as_completed(jobs, 2, DEADLINE_MS, &place), 0);
        assert_int_equal(place, i);
        jobs[place] = NULL;
    }
    for (int i = 0; i < 2; i++) {
        farpool_job_free(all[i]);
        fixture_close(pools[i]);
    }
}

/* --------------------------------------------------------------------- threads */

struct mapper {
    farpool_pool *pool;
    int64_t base;
    int code;
    bool right;
};

static void *map_many_times(void *arg)
{
    struct mapper *mapper = arg;
    int64_t inputs[50], outputs[50];

    mapper->right = true;
    for (int round = 0; round < 40 && mapper->code == 0; round++) {
        for (int i = 0; i < 50; i++)
            inputs[i] = mapper->base + round * 50 + i;
        mapper->code = farpool_map(mapper->pool, square, inputs, 50, outputs, NULL);
        for (int i = 0; i < 50; i++)
            mapper->right &= outputs[i] == inputs[i] * inputs[i];
    }
    return NULL;
}

static void four_threads_on_one_pool(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    struct mapper mappers[4];
    pthread_t threads[4];

    (void)state;
    for (int i = 0; i < 4; i++) {
        mappers[i] = (struct mapper){.pool = pool, .base = i * 100000};
        pthread_create(&threads[i], NULL, map_many_times, &mappers[i]);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(mappers[i].code, 0);
        assert_true(mappers[i].right);
    }
    fixture_close(pool);
}

static void *get_job(void *arg)
{
    return (void *)(intptr_t)farpool_job_get(arg, DEADLINE_MS, NULL);
}

static void two_threads_wait_for_one_job(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    gate input = make_gate(7);
    farpool_error error;
    farpool_job *job = farpool_apply_async(pool, pass, input, NULL, &error);
    pthread_t threads[2];
    void *code;

    (void)state;
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, get_job, job);
    sign_wait(&input.begun);
    sign_post(&input.go, 1);
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], &code);
        assert_null(code);
    }
    farpool_job_free(job);
    fixture_close(pool);
}

/* -------------------------------------------------------------------- progress */

static void progress_of_a_running_job(void **state)
{
    farpool_pool *pool = fixture_open_processes(1);
    gate inputs[3] = {make_gate(0), make_gate(1), make_gate(2)};
    uint64_t until_ms = fixture_now_ms() + DEADLINE_MS;
    farpool_progress progress;
    farpool_pool_info info;
    farpool_error error;
    farpool_job *job = farpool_map_async(pool, report, inputs, 3, NULL, &error);

    (void)state;
    sign_post(&inputs[0].go, 1);
    sign_wait(&inputs[1].begun);
    /* What runs is told about once in a while: the wait's timeout paces this. */
    do {
        assert_int_equal(farpool_job_wait(job, 10), FARPOOL_ETIMEDOUT);
        assert_int_equal(farpool_job_progress(job, &progress), 0);
    } while (
        (progress.running != 1 || progress.running_share < 0.2 || progress.done != 1) &&
        fixture_now_ms() < until_ms);
    assert_int_equal(progress.total, 3);
    assert_int_equal(progress.done, 1);
    assert_int_equal(progress.failed, 0);
    assert_int_equal(progress.running, 1);
    assert_int_equal(progress.waiting, 1);
    assert_true(progress.running_share > 0.24 && progress.running_share < 0.26);
    assert_code(farpool_pool_get_info(pool, &info, &error), 0, &error);
    assert_int_equal(info.embedded, !fixture_is_cluster());
    assert_true(info.connected);
    assert_int_equal(info.processes, 1);
    assert_true(info.processes_started >= 1);
    assert_int_equal(info.tasks_done, 1);
    assert_int_equal(info.tasks_running, 1);
    assert_int_equal(info.tasks_waiting, 1);
    sign_post(&inputs[1].go, 1);
    sign_post(&inputs[2].go, 1);
    assert_code(farpool_job_get(job, DEADLINE_MS, &error), 0, &error);
    assert_int_equal(farpool_job_progress(job, &progress), 0);
    assert_int_equal(progress.done, 3);
    assert_int_equal(progress.running + progress.waiting, 0);
    farpool_job_free(job);
    fixture_close(pool);
}

static uint64_t own_cpu_us(void)
{
    struct timespec used;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (uint64_t)used.tv_sec * 1000000 + (uint64_t)used.tv_nsec / 1000;
}

static void waiting_costs_no_time_of_a_core(void **state)
{
    farpool_pool *pool = fixture_open_processes(1);
    gate input = make_gate(7);
    farpool_error error;
    farpool_job *job = farpool_apply_async(pool, pass, input, NULL, &error);
    uint64_t before_us;

    (void)state;
    sign_wait(&input.begun);
    before_us = own_cpu_us();
    assert_int_equal(farpool_job_wait(job, 300), FARPOOL_ETIMEDOUT);
    assert_true(own_cpu_us() - before_us < 30000);
    sign_post(&input.go, 1);
    assert_int_equal(farpool_job_wait(job, DEADLINE_MS), 0);
    farpool_job_free(job);
    fixture_close(pool);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(get_waits),
    cmocka_unit_test(get_times_out_at_the_deadline),
    cmocka_unit_test(callback_exactly_once_before_ready),
    cmocka_unit_test(error_callback_exactly_once_with_lowest_index),
    cmocka_unit_test(callback_of_a_cancelled_and_of_an_empty_job),
    cmocka_unit_test(callback_may_submit_and_wait),
    cmocka_unit_test(callback_may_free_its_job),
    cmocka_unit_test(many_callbacks_each_once),
    cmocka_unit_test(as_completed_in_order_of_completion),
    cmocka_unit_test(as_completed_over_two_pools),
    cmocka_unit_test(four_threads_on_one_pool),
    cmocka_unit_test(two_threads_wait_for_one_job),
    cmocka_unit_test(progress_of_a_running_job),
    cmocka_unit_test(waiting_costs_no_time_of_a_core),
};
FIXTURE_MAIN(tests)
