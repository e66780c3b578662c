/* SPDX-License-Identifier: Apache-2.0
 *
 * test_api_cancel.c: cancelling queued and running tasks, one and all. */
#include "tests/api/gate.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Says which one it is, and waits for its turn to be over. */
static int64_t turn(gate input)
{
    sign_post(&input.begun, input.value);
    sign_wait_in_task(&input.go);
    return input.value;
}
FARPOOL_FUNCTION(turn, int64_t, gate)

/* Runs until it is told that it was cancelled. */
static int64_t notice(gate input)
{
    farpool_task *task = farpool_task_current();

    sign_post(&input.begun, getpid());
    while (!farpool_task_cancelled(task))
        ;
    sign_post(&input.noticed, getpid());
    return 1;
}
FARPOOL_FUNCTION(notice, int64_t, gate)

static int64_t own_pid(int64_t value)
{
    (void)value;
    return getpid();
}
FARPOOL_FUNCTION(own_pid, int64_t, int64_t)

static gate make_gate(int64_t value)
{
    gate input;

    memset(&input, 0, sizeof input);
    input.begun = sign_create();
    input.go = sign_create();
    input.noticed = sign_create();
    input.value = value;
    return input;
}

/* 1 running and 50 queued. */
static farpool_job *submit_51(farpool_pool *pool, gate *input, int *ret_pid)
{
    gate inputs[51];
    farpool_error error;
    farpool_job *job;

    for (int i = 0; i < 51; i++)
        inputs[i] = *input;
    job = farpool_map_async(pool, pass, inputs, 51, NULL, &error);
    assert_non_null(job);
    *ret_pid = (int)sign_wait(&input->begun);
    return job;
}

static void cancel_50_queued_the_running_one_finishes(void **state)
{
    farpool_pool *pool = fixture_open_processes(1);
    gate input = make_gate(3);
    farpool_error error;
    farpool_job *job;
    int64_t pid_after;
    int pid;

    (void)state;
    job = submit_51(pool, &input, &pid);
    for (uint64_t i = 1; i <= 50; i++)
        assert_int_equal(farpool_job_cancel_task(job, i, false), 1);
    assert_int_equal(farpool_job_cancel_task(job, 7, false), 0); /* has ended */
    assert_int_equal(farpool_job_cancel_task(job, 51, false), FARPOOL_EINVAL);
    assert_int_equal(farpool_job_outcome(job, 50, &error), FARPOOL_ECANCELLED);
    assert_text(&error, "map: task 50 was cancelled");
    assert_false(farpool_job_ready(job));
    /* On a cluster one may begin just when it is cancelled: it is let through, too. */
    for (int i = 0; i < 51; i++)
        sign_post(&input.go, 1);
    assert_code(farpool_job_get(job, DEADLINE_MS, &error), FARPOOL_ECANCELLED, &error);
    assert_int_equal(error.index, 1);
    assert_int_equal(farpool_job_outcome(job, 0, &error), 0);
    assert_int_equal(((const int64_t *)farpool_job_outputs(job))[0], 3);
    assert_int_equal(farpool_job_cancel(job, true), 0);
    assert_code(farpool_apply(pool, own_pid, 0, &pid_after, &error), 0, &error);
    assert_int_equal(pid, pid_after); /* nobody was killed */
    farpool_job_free(job);
    fixture_close(pool);
}

static void cancel_all_and_kill_the_running_one(void **state)
{
    farpool_pool *pool = fixture_open_processes(1);
    gate input = make_gate(3);
    farpool_error error;
    farpool_job *job;
    int64_t pid_after;
    int pid;

    (void)state;
    job = submit_51(pool, &input, &pid);
    assert_int_equal(farpool_job_cancel(job, true), 51);
    assert_code(farpool_job_get(job, 0, &error), FARPOOL_ECANCELLED, &error);
    assert_int_equal(error.index, 0);
    assert_true(process_wait_gone(pid, DEADLINE_MS));
    assert_code(farpool_apply(pool, own_pid, 0, &pid_after, &error), 0, &error);
    assert_int_not_equal(pid, pid_after);
    farpool_job_free(job);
    fixture_close(pool);
}

static void cancel_without_kill_is_noticed_by_the_function(void **state)
{
    farpool_pool *pool = fixture_open_processes(1);
    gate input = make_gate(3);
    farpool_error error;
    farpool_job *job = farpool_apply_async(pool, notice, input, NULL, &error);
    int64_t pid = sign_wait(&input.begun);

    (void)state;
    assert_int_equal(farpool_job_cancel(job, false), 1);
    assert_code(farpool_job_get(job, 0, &error), FARPOOL_ECANCELLED, &error);
    assert_int_equal(sign_wait(&input.noticed), pid);
    farpool_job_free(job);
    fixture_close(pool);
}

static void cancel_a_million_waiting_tasks(void **state)
{
    enum { COUNT = 1000000 };
    farpool_pool *pool = fixture_open_processes(1);
    gate input = make_gate(3);
    int64_t *inputs = calloc(COUNT, sizeof *inputs);
    farpool_error error;
    farpool_job *blocker = farpool_apply_async(pool, pass, input, NULL, &error), *job;

    (void)state;
    sign_wait(&input.begun);
    job = farpool_map_async(pool, own_pid, inputs, COUNT, NULL, &error);
    assert_int_equal(farpool_job_cancel(job, false), COUNT);
    assert_code(farpool_job_get(job, 0, &error), FARPOOL_ECANCELLED, &error);
    assert_int_equal(farpool_job_outcome(job, COUNT - 1, &error), FARPOOL_ECANCELLED);
    assert_int_equal(farpool_job_cancel(blocker, true), 1);
    farpool_job_free(job);
    farpool_job_free(blocker);
    free(inputs);
    fixture_close(pool);
}

/* 20 tasks of a job wait when one of a job with a higher priority comes. Each of them
 * takes a turn of this thread, so that they are not through before it has come at all. */
static void priority_among_jobs_of_a_pool(void **state)
{
    enum { COUNT = 20 };
    farpool_pool *pool = fixture_open_processes(1);
    farpool_job_options options = FARPOOL_JOB_OPTIONS;
    gate blocker_input = make_gate(0), inputs[COUNT], urgent = make_gate(1);
    farpool_job *low, *high, *blocker;
    farpool_error error;
    int before = 0;

    (void)state;
    blocker = farpool_apply_async(pool, pass, blocker_input, NULL, &error);
    sign_wait(&blocker_input.begun);
    for (int i = 0; i < COUNT; i++)
        inputs[i] = urgent;
    for (int i = 0; i < COUNT; i++)
        inputs[i].value = 0;
    low = farpool_map_async(pool, turn, inputs, COUNT, NULL, &error);
    options.priority = 5;
    high = farpool_apply_async(pool, turn, urgent, &options, &error);
    sign_post(&blocker_input.go, 1);
    for (; sign_wait(&urgent.begun) == 0; before++)
        sign_post(&urgent.go, 1);
    assert_true(before <= COUNT / 2); /* those that were on their way */
    for (int i = before; i <= COUNT; i++)
        sign_post(&urgent.go, 1);
    assert_code(farpool_job_get(low, DEADLINE_MS, &error), 0, &error);
    assert_code(farpool_job_get(high, DEADLINE_MS, &error), 0, &error);
    farpool_job_free(low);
    farpool_job_free(high);
    farpool_job_free(blocker);
    fixture_close(pool);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(cancel_50_queued_the_running_one_finishes),
    cmocka_unit_test(cancel_all_and_kill_the_running_one),
    cmocka_unit_test(cancel_without_kill_is_noticed_by_the_function),
    cmocka_unit_test(cancel_a_million_waiting_tasks),
    cmocka_unit_test(priority_among_jobs_of_a_pool),
};
FIXTURE_MAIN(tests)
