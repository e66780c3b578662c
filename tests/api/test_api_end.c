/* SPDX-License-Identifier: Apache-2.0
 *
 * test_api_end.c: the end of a pool: close, terminate, join, free, and use after it. */
#include "tests/api/gate.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int64_t square(int64_t value)
{
    return value * value;
}
FARPOOL_FUNCTION(square, int64_t, int64_t)

static int echo(farpool_task *task)
{
    size_t size;
    const void *input = farpool_task_input(task, &size);

    return farpool_task_write(task, input, size);
}
FARPOOL_BYTES_FUNCTION(echo)

/* For ever, if its first byte is not 0. */
static int echo_or_stay(farpool_task *task)
{
    const uint8_t *input = farpool_task_input(task, NULL);

    while (input[0] != 0)
        pause();
    return echo(task);
}
FARPOOL_BYTES_FUNCTION(echo_or_stay)

static int no_arguments(farpool_task *task, const struct msgpack_object *arguments,
                        struct msgpack_packer *result)
{
    (void)result;
    return farpool_unpack(task, arguments, "");
}
FARPOOL_ARGS_FUNCTION(no_arguments)

static int no_input(void *user, farpool_bytes *ret_item, char message[256])
{
    (void)user;
    (void)ret_item;
    (void)message;
    return FARPOOL_END;
}

static gate make_gate(void)
{
    gate input;

    memset(&input, 0, sizeof input);
    input.begun = sign_create();
    input.go = sign_create();
    return input;
}

static void terminate_stops_10000_long_tasks_at_once(void **state)
{
    enum { COUNT = 10000 };
    farpool_pool *pool = fixture_open(NULL);
    gate one = make_gate(), *inputs = malloc(COUNT * sizeof *inputs);
    farpool_error error;
    farpool_job *job;
    uint64_t before_ms;
    int pids[2];

    (void)state;
    for (int i = 0; i < COUNT; i++)
        inputs[i] = one;
    job = farpool_map_async(pool, pass, inputs, COUNT, NULL, &error);
    for (int i = 0; i < 2; i++)
        pids[i] = (int)sign_wait(&one.begun);
    before_ms = fixture_now_ms();
    assert_code(farpool_terminate(pool, &error), 0, &error);
    assert_code(farpool_job_get(job, DEADLINE_MS, &error), FARPOOL_ETERMINATED, &error);
    assert_int_equal(error.index, 0);
    assert_text(&error, "map: task 0 did not end: the pool was terminated");
    assert_code(farpool_join(pool, DEADLINE_MS, &error), 0, &error);
    assert_true(fixture_now_ms() - before_ms < 2000);
    for (int i = 0; i < 2; i++)
        assert_true(process_wait_gone(pids[i], 0));
    assert_code(farpool_terminate(pool, &error), 0, &error); /* again: no harm */
    farpool_pool_free(pool);
    assert_int_equal(farpool_job_outcome(job, COUNT - 1, &error), FARPOOL_ETERMINATED);
    farpool_job_free(job);
    free(inputs);
}

static void *map_until_the_end(void *arg)
{
    farpool_pool *pool = ((void **)arg)[0];
    gate *input = ((void **)arg)[1];
    gate inputs[20];
    int64_t outputs[20];

    for (int i = 0; i < 20; i++)
        inputs[i] = *input;
    return (void *)(intptr_t)farpool_map(pool, pass, inputs, 20, outputs, NULL);
}

static void terminate_ends_a_blocking_map_of_another_thread(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    gate input = make_gate();
    void *arg[2] = {pool, &input}, *code;
    pthread_t thread;

    (void)state;
    pthread_create(&thread, NULL, map_until_the_end, arg);
    sign_wait(&input.begun);
    assert_int_equal(farpool_terminate(pool, NULL), 0);
    pthread_join(thread, &code);
    assert_int_equal((intptr_t)code, FARPOOL_ETERMINATED);
    fixture_terminate(pool);
}

static void close_lets_old_work_finish(void **state)
{
    enum { COUNT = 1000 };
    farpool_pool *pool = fixture_open(NULL);
    int64_t inputs[COUNT];
    farpool_error error;
    farpool_job *job;

    (void)state;
    for (int i = 0; i < COUNT; i++)
        inputs[i] = i;
    job = farpool_map_async(pool, square, inputs, COUNT, NULL, &error);
    fixture_close(pool);
    assert_int_equal(farpool_job_successful(job), 1);
    assert_int_equal(((const int64_t *)farpool_job_outputs(job))[999], 999 * 999);
    farpool_job_free(job); /* outlives its pool */
}

static void free_after_close_finishes_too(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    const int64_t inputs[] = {1, 2, 3};
    farpool_error error;
    farpool_job *job = farpool_map_async(pool, square, inputs, 3, NULL, &error);

    (void)state;
    assert_code(farpool_close(pool, &error), 0, &error);
    farpool_pool_free(pool);
    assert_int_equal(farpool_job_successful(job), 1);
    farpool_job_free(job);
}

static void close_with_a_limit_of_1_still_finishes_all(void **state)
{
    enum { COUNT = 40 };
    farpool_pool_options options = FARPOOL_POOL_OPTIONS;
    farpool_pool *pool;
    int64_t inputs[COUNT];
    farpool_error error;
    farpool_job *job;

    (void)state;
    options.processes = 2;
    options.tasks_per_process = 1;
    pool = fixture_open(&options);
    for (int i = 0; i < COUNT; i++)
        inputs[i] = i;
    job = farpool_map_async(pool, square, inputs, COUNT, NULL, &error);
    fixture_close(pool);
    assert_int_equal(farpool_job_successful(job), 1);
    farpool_job_free(job);
}

static void join_only_after_close_or_terminate(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    farpool_error error;

    (void)state;
    assert_code(farpool_join(pool, 0, &error), FARPOOL_EOPEN, &error);
    assert_text(&error, "join: the pool is still running");
    fixture_close(pool);
}

static void join_times_out(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    gate input = make_gate();
    farpool_error error;
    farpool_job *job = farpool_apply_async(pool, pass, input, NULL, &error);

    (void)state;
    sign_wait(&input.begun);
    assert_code(farpool_close(pool, &error), 0, &error);
    assert_code(farpool_join(pool, 50, &error), FARPOOL_ETIMEDOUT, &error);
    assert_text(&error, "join: the pool has not ended within 50 ms; 1 jobs left");
    assert_code(farpool_join(pool, -7, &error), FARPOOL_EINVAL, &error);
    sign_post(&input.go, 1);
    assert_code(farpool_join(pool, DEADLINE_MS, &error), 0, &error);
    assert_code(farpool_join(pool, 0, &error), 0, &error);
    farpool_pool_free(pool);
    farpool_job_free(job);
}

static void check_use_after(farpool_pool *pool, const char *words)
{
    farpool_list *list = farpool_list_create();
    const int64_t input = 2;
    const farpool_bytes item = {&input, sizeof input};
    farpool_error error;
    farpool_job *job;
    int64_t output;

    assert_code(farpool_apply(pool, square, 2, &output, &error), FARPOOL_ECLOSED, &error);
    assert_text(&error, words);
    assert_code(farpool_map(pool, square, &input, 1, &output, &error), FARPOOL_ECLOSED,
                &error);
    assert_code(farpool_map(pool, square, NULL, 0, NULL, &error), FARPOOL_ECLOSED,
                &error);
    assert_null(farpool_map_async(pool, square, &input, 1, NULL, &error));
    assert_int_equal(error.code, FARPOOL_ECLOSED);
    assert_null(farpool_apply_async(pool, square, 2, NULL, &error));
    assert_int_equal(error.code, FARPOOL_ECLOSED);
    assert_code(farpool_map_bytes(pool, FARPOOL_REF(echo), &item, 1, NULL, &job, &error),
                FARPOOL_ECLOSED, &error);
    assert_null(job);
    assert_null(farpool_map_bytes_async(pool, FARPOOL_REF(echo), &item, 1, NULL, &error));
    assert_code(farpool_apply_bytes(pool, FARPOOL_REF(echo), "x", 1, &job, &error),
                FARPOOL_ECLOSED, &error);
    assert_null(farpool_apply_bytes_async(pool, FARPOOL_REF(echo), "x", 1, NULL, &error));
    assert_int_equal(farpool_list_pack(list, ""), 0);
    assert_code(
        farpool_starmap(pool, FARPOOL_REF(no_arguments), list, NULL, &job, &error),
        FARPOOL_ECLOSED, &error);
    assert_null(
        farpool_starmap_async(pool, FARPOOL_REF(no_arguments), list, NULL, &error));
    assert_null(farpool_imap(pool, FARPOOL_REF(square), no_input, NULL, NULL, &error));
    assert_int_equal(error.code, FARPOOL_ECLOSED);
    assert_null(
        farpool_imap_unordered(pool, FARPOOL_REF(square), no_input, NULL, NULL, &error));
    assert_int_equal(error.code, FARPOOL_ECLOSED);
    assert_code(farpool_close(pool, &error), FARPOOL_ECLOSED, &error);
    farpool_list_free(list);
}

static void use_after_close_is_refused(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    farpool_error error;

    (void)state;
    assert_code(farpool_close(pool, &error), 0, &error);
    check_use_after(pool, "map: the pool was closed before");
    assert_code(farpool_join(pool, DEADLINE_MS, &error), 0, &error);
    check_use_after(pool, "map: the pool was closed before");
    farpool_pool_free(pool);
}

static void use_after_terminate_is_refused(void **state)
{
    farpool_pool *pool = fixture_open(NULL);

    (void)state;
    assert_int_equal(farpool_terminate(pool, NULL), 0);
    check_use_after(pool, "map: the pool was terminated before");
    fixture_terminate(pool);
}

static void unclosed_pool_with_work_left_is_reported(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    gate input = make_gate();
    farpool_error error;
    farpool_job *job = farpool_apply_async(pool, pass, input, NULL, &error);
    const char *text;
    int pid = (int)sign_wait(&input.begun);

    (void)state;
    stderr_begin();
    farpool_pool_free(pool);
    text = stderr_end();
    assert_non_null(
        strstr(text, "farpool: a pool was freed with 1 tasks of 1 jobs left"));
    assert_true(process_wait_gone(pid, DEADLINE_MS));
    assert_int_equal(farpool_job_get(job, 0, &error), FARPOOL_ETERMINATED);
    farpool_job_free(job);
}

/* What a callback that ends its own pool has seen. */
struct ended {
    farpool_pool *pool;
    bool joins;
    bool refused;
    int code;
    atomic_int calls;
};

static void end_own_pool(farpool_job *job, void *user)
{
    struct ended *ended = user;

    if (atomic_fetch_add(&ended->calls, 1) > 0)
        return;
    if (ended->joins) {
        ended->code = farpool_close(ended->pool, NULL);
        if (ended->code == 0)
            ended->code = farpool_join(ended->pool, DEADLINE_MS, NULL);
        return;
    }
    stderr_begin();
    farpool_pool_free(ended->pool);
    ended->refused =
        strstr(stderr_end(), "farpool: free: a pool cannot be freed inside one of its "
                             "callbacks") != NULL;
    farpool_job_free(job);
}

static void free_in_a_callback_is_refused(void **state)
{
    struct ended ended = {.pool = fixture_open(NULL)};
    farpool_job_options options = FARPOOL_JOB_OPTIONS;
    farpool_error error;
    int64_t output;

    (void)state;
    options.callback = end_own_pool;
    options.user = &ended;
    assert_non_null(farpool_apply_async(ended.pool, square, 2, &options, &error));
    /* The pool goes on, and is freed by whom it belongs to. */
    assert_code(farpool_apply(ended.pool, square, 5, &output, &error), 0, &error);
    assert_int_equal(output, 25);
    fixture_close(ended.pool);
    assert_int_equal(ended.calls, 1);
    assert_true(ended.refused);
}

/* The second job's callback can only come when the first one's has returned. */
static void join_in_a_callback_does_not_wait_for_others(void **state)
{
    struct ended ended = {.pool = fixture_open_processes(1), .joins = true, .code = 1};
    gate input = make_gate();
    farpool_job_options options = FARPOOL_JOB_OPTIONS;
    farpool_error error;
    farpool_job *first, *second;

    (void)state;
    options.callback = end_own_pool;
    options.user = &ended;
    first = farpool_apply_async(ended.pool, pass, input, &options, &error);
    second = farpool_apply_async(ended.pool, square, 3, &options, &error);
    sign_wait(&input.begun);
    sign_post(&input.go, 1);
    assert_code(farpool_job_get(first, DEADLINE_MS, &error), 0, &error);
    assert_code(farpool_job_get(second, DEADLINE_MS, &error), 0, &error);
    assert_int_equal(ended.code, 0);
    assert_int_equal(ended.calls, 2);
    farpool_job_free(first);
    farpool_job_free(second);
    assert_code(farpool_join(ended.pool, DEADLINE_MS, &error), 0, &error);
    farpool_pool_free(ended.pool);
}

static void unclosed_pool_without_work_is_not(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    int64_t output;

    (void)state;
    assert_int_equal(farpool_apply(pool, square, 2, &output, NULL), 0);
    stderr_begin();
    farpool_pool_free(pool);
    assert_string_equal(stderr_end(), "");
    farpool_pool_free(NULL);
}

static void shutdown_with_a_full_queue(void **state)
{
    enum { COUNT = 3000, SIZE = 20000 };
    farpool_pool *pool = fixture_open(NULL);
    farpool_bytes *items = malloc(COUNT * sizeof *items);
    uint8_t *block = calloc(2, SIZE);
    farpool_error error;
    farpool_job *job;

    (void)state;
    block[SIZE] = 1; /* the last one's: however fast the machine, the job does not end */
    for (int i = 0; i < COUNT; i++)
        items[i] = (farpool_bytes){i < COUNT - 1 ? block : block + SIZE, SIZE};
    job = farpool_map_bytes_async(pool, FARPOOL_REF(echo_or_stay), items, COUNT, NULL,
                                  &error);
    assert_int_equal(farpool_job_wait(job, 5), FARPOOL_ETIMEDOUT);
    fixture_terminate(pool);
    assert_int_equal(farpool_job_get(job, 0, &error), FARPOOL_ETERMINATED);
    farpool_job_free(job);
    free(items);
    free(block);
}

static void free_a_job_that_runs(void **state)
{
    farpool_pool *pool = fixture_open_processes(1);
    gate input = make_gate();
    farpool_error error;
    farpool_job *job = farpool_apply_async(pool, pass, input, NULL, &error);
    int64_t output;

    (void)state;
    sign_wait(&input.begun);
    farpool_job_free(job); /* its task would wait for ever */
    farpool_job_free(NULL);
    assert_code(farpool_apply(pool, square, 5, &output, &error), 0, &error);
    assert_int_equal(output, 25);
    fixture_close(pool);
}

static void open_and_close_many_times(void **state)
{
    (void)state;
    for (int i = 0; i < 10; i++) {
        farpool_pool *pool = fixture_open(NULL);
        int64_t output;

        if (i % 2)
            assert_int_equal(farpool_apply(pool, square, i, &output, NULL), 0);
        fixture_close(pool);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(terminate_stops_10000_long_tasks_at_once),
    cmocka_unit_test(terminate_ends_a_blocking_map_of_another_thread),
    cmocka_unit_test(close_lets_old_work_finish),
    cmocka_unit_test(free_after_close_finishes_too),
    cmocka_unit_test(close_with_a_limit_of_1_still_finishes_all),
    cmocka_unit_test(join_only_after_close_or_terminate),
    cmocka_unit_test(join_times_out),
    cmocka_unit_test(use_after_close_is_refused),
    cmocka_unit_test(use_after_terminate_is_refused),
    cmocka_unit_test(unclosed_pool_with_work_left_is_reported),
    cmocka_unit_test(unclosed_pool_without_work_is_not),
    cmocka_unit_test(free_in_a_callback_is_refused),
    cmocka_unit_test(join_in_a_callback_does_not_wait_for_others),
    cmocka_unit_test(shutdown_with_a_full_queue),
    cmocka_unit_test(free_a_job_that_runs),
    cmocka_unit_test(open_and_close_many_times),
};
FIXTURE_MAIN(tests)
