/* SPDX-License-Identifier: Apache-2.0
 *
 * test_api_processes.c: a pool's processes: initializer, replacement, and everything that
 * a function may do to the process it runs in. */
#include "tests/api/fixture.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int64_t initialised;

static int64_t own_pid(int64_t value)
{
    (void)value;
    return getpid();
}
FARPOOL_FUNCTION(own_pid, int64_t, int64_t)

static int64_t square(int64_t value)
{
    return value * value;
}
FARPOOL_FUNCTION(square, int64_t, int64_t)

/* -------------------------------------------------------------- initializers */

static int initialise(farpool_task *task)
{
    size_t size;
    const char *input = farpool_task_input(task, &size);

    initialised += size == 5 && memcmp(input, "ready", 5) == 0;
    return 0;
}
FARPOOL_BYTES_FUNCTION(initialise)

static int64_t count_initialised(int64_t value)
{
    (void)value;
    return initialised;
}
FARPOOL_FUNCTION(count_initialised, int64_t, int64_t)

static int refuse_to_initialise(farpool_task *task)
{
    return farpool_fail(task, "no licence");
}
FARPOOL_BYTES_FUNCTION(refuse_to_initialise)

static int crash_in_initialiser(farpool_task *task)
{
    (void)task;
    raise(SIGKILL);
    return 0;
}
FARPOOL_BYTES_FUNCTION(crash_in_initialiser)

static void initializer_once_per_process_also_in_replacements(void **state)
{
    enum { COUNT = 30 };
    farpool_pool_options options = FARPOOL_POOL_OPTIONS;
    farpool_pool *pool;
    int64_t inputs[COUNT] = {0}, outputs[COUNT];
    farpool_error error;

    (void)state;
    options.processes = 2;
    options.initializer = "initialise";
    options.initializer_argument = (farpool_bytes){"ready", 5};
    options.tasks_per_process = 7;
    pool = fixture_open(&options);
    assert_code(farpool_map(pool, count_initialised, inputs, COUNT, outputs, &error), 0,
                &error);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(outputs[i], 1);
    fixture_close(pool);
}

static void failing_initializer(const char *name, const char *words)
{
    farpool_pool_options options = FARPOOL_POOL_OPTIONS;
    farpool_pool *pool;
    int64_t inputs[10] = {0}, outputs[10];
    farpool_error error;

    options.processes = 2;
    options.initializer = name;
    pool = fixture_open(&options);
    assert_code(farpool_map(pool, square, inputs, 10, outputs, &error),
                FARPOOL_EINITIALIZER, &error);
    assert_text(&error, words);
    /* And from then on. */
    assert_code(farpool_map(pool, square, inputs, 10, outputs, &error),
                FARPOOL_EINITIALIZER, &error);
    assert_text(&error, "map: the pool has failed");
    fixture_close(pool);
}

static void initializer_that_fails_ends_the_pool(void **state)
{
    (void)state;
    failing_initializer("refuse_to_initialise", "no licence");
}

static void initializer_that_crashes_ends_the_pool(void **state)
{
    (void)state;
    failing_initializer("crash_in_initialiser", "");
}

/* ---------------------------------------------------------- tasks per process */

static void process_ids_change_after_tasks_per_process(void **state)
{
    enum { COUNT = 12, EACH = 3 };
    farpool_pool_options options = FARPOOL_POOL_OPTIONS;
    farpool_job_options chunks = FARPOOL_JOB_OPTIONS;
    farpool_pool *pool;
    int64_t inputs[COUNT] = {0}, outputs[COUNT];
    farpool_pool_info info;
    farpool_error error;
    uint64_t until_ms;

    (void)state;
    options.processes = 1;
    options.tasks_per_process = EACH;
    chunks.chunk_size = 4; /* it counts tasks, not chunks */
    pool = fixture_open(&options);
    assert_code(farpool_map_typed(pool, FARPOOL_REF(own_pid), inputs, COUNT, outputs,
                                  &chunks, &error),
                0, &error);
    for (int i = EACH; i < COUNT; i++)
        assert_true(outputs[i] != outputs[i - EACH]);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(outputs[i], outputs[i / EACH * EACH]);
    /* Nodes tell how many once in a while. */
    until_ms = fixture_now_ms() + DEADLINE_MS;
    do {
        assert_code(farpool_apply(pool, square, 1, outputs, &error), 0, &error);
        assert_code(farpool_pool_get_info(pool, &info, &error), 0, &error);
    } while (info.processes_started < COUNT / EACH && fixture_now_ms() < until_ms);
    assert_true(info.processes_started >= COUNT / EACH);
    fixture_close(pool);
}

/* ---------------------------------------------------------- what functions do */

typedef struct crime {
    int64_t how;       /* a signal, or EXIT, or FORK ... */
    uint32_t attempts; /* in so many attempts; then it behaves */
    uint32_t value;
} crime;
enum { EXIT = 1000, EXIT_QUICKLY, PRINT, FORK, SLEEP, CLOSE_FILES };

static int64_t commit(crime input)
{
    int64_t pid = getpid();

    if (input.how == 0 || farpool_task_attempt(farpool_task_current()) > input.attempts)
        return pid;
    switch (input.how) {
    case EXIT:
        exit(3);
    case EXIT_QUICKLY:
        _exit(0);
    case PRINT:
        printf("a line from %d\nand one without end", (int)pid);
        fflush(stdout);
        break;
    case FORK:
        if (fork() == 0)
            _exit(0);
        while (wait(NULL) > 0)
            ;
        break;
    case SLEEP:
        for (;;)
            pause();
    case CLOSE_FILES:
        for (int fd = 0; fd < 256; fd++)
            close(fd);
        break;
    default:
        raise((int)input.how);
    }
    return pid;
}
FARPOOL_FUNCTION(commit, int64_t, crime)

/* One criminal among the law-abiding: what it ends with; nobody else is concerned. */
static void one_among_many(int64_t how, farpool_job_options *options, int code,
                           farpool_error *ret_error)
{
    enum { COUNT = 100, BAD = 40 };
    farpool_pool *pool = fixture_open(NULL);
    crime inputs[COUNT];
    farpool_error error;
    farpool_job *job;

    memset(inputs, 0, sizeof inputs);
    inputs[BAD].how = how;
    inputs[BAD].attempts = 100;
    job = farpool_map_async_typed(pool, FARPOOL_REF(commit), inputs, COUNT, options,
                                  &error);
    assert_code(farpool_job_get(job, DEADLINE_MS, ret_error), code, ret_error);
    if (code != 0)
        assert_int_equal(ret_error->index, BAD);
    for (uint64_t i = 0; i < COUNT; i++)
        assert_int_equal(farpool_job_outcome(job, i, NULL), i == BAD ? code : 0);
    farpool_job_free(job);
    fixture_close(pool);
}

static void function_that_crashes(void **state)
{
    farpool_job_options options = FARPOOL_JOB_OPTIONS;
    farpool_error error;
    int signal = FIXTURE_SANITIZED ? SIGXCPU : SIGSEGV;
    char words[100];

    (void)state;
    snprintf(words, sizeof words, "attempt 3): its process was killed by signal %d",
             signal);
    one_among_many(signal, &options, FARPOOL_EPROCESSLOST, &error);
    assert_int_equal(error.signal, signal);
    assert_int_equal(error.attempt, 3); /* the default: a killer task is given up */
    assert_text(&error, "map: task 40 failed on node ");
    assert_text(&error, words);
    assert_true(error.pid > 0);
}

static void function_that_kills_its_process(void **state)
{
    farpool_job_options options = FARPOOL_JOB_OPTIONS;
    farpool_error error;

    (void)state;
    options.losses_max = 1;
    one_among_many(SIGKILL, &options, FARPOOL_EPROCESSLOST, &error);
    assert_int_equal(error.signal, SIGKILL);
    assert_int_equal(error.attempt, 1);
}

static void function_that_exits(void **state)
{
    farpool_job_options options = FARPOOL_JOB_OPTIONS;
    farpool_error error;

    (void)state;
    one_among_many(EXIT, &options, FARPOOL_EPROCESSLOST, &error);
    assert_int_equal(error.exit_status, 3);
    assert_int_equal(error.signal, 0);
    assert_text(&error, "its process exited with status 3");
    one_among_many(EXIT_QUICKLY, &options, FARPOOL_EPROCESSLOST, &error);
    assert_int_equal(error.exit_status, 0);
}

static void function_that_prints(void **state)
{
    farpool_error error;

    (void)state;
    one_among_many(PRINT, NULL, 0, &error);
}

static void function_that_forks(void **state)
{
    farpool_error error;

    (void)state;
    one_among_many(FORK, NULL, 0, &error);
}

static void function_that_closes_all_files(void **state)
{
    farpool_error error;

    (void)state;
    one_among_many(CLOSE_FILES, NULL, 0, &error);
}

static void function_that_sleeps_for_ever(void **state)
{
    farpool_job_options options = FARPOOL_JOB_OPTIONS;
    farpool_error error;

    (void)state;
    options.task_timeout_ms = 200;
    one_among_many(SLEEP, &options, FARPOOL_ETASKTIMEOUT, &error);
    assert_text(&error, "map: task 40 failed on node ");
    assert_text(&error, "the task ran longer than its limit");
}

static void timeout_is_retried_as_asked(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    farpool_job_options options = FARPOOL_JOB_OPTIONS;
    crime input = {.how = SLEEP, .attempts = 1};
    farpool_error error;
    int64_t output;

    (void)state;
    options.task_timeout_ms = 200;
    options.retries = 1;
    assert_code(farpool_map_typed(pool, FARPOOL_REF(commit), &input, 1, &output, &options,
                                  &error),
                0, &error);
    assert_true(output > 0);
    fixture_close(pool);
}

static void killed_in_mid_task_and_tried_again(void **state)
{
    enum { COUNT = 200 };
    farpool_pool *pool = fixture_open(NULL);
    crime inputs[COUNT];
    int64_t outputs[COUNT];
    farpool_error error;

    (void)state;
    memset(inputs, 0, sizeof inputs);
    for (int i = 0; i < COUNT; i += 20) {
        inputs[i].how = i % 40 ? SIGKILL : SIGABRT;
        inputs[i].attempts = 2;
    }
    assert_code(farpool_map(pool, commit, inputs, COUNT, outputs, &error), 0, &error);
    for (int i = 0; i < COUNT; i++)
        assert_true(outputs[i] > 0);
    fixture_close(pool);
}

/* -------------------------------------------------------- killed from outside */

typedef struct gate {
    struct sign begun, go;
} gate;

static int64_t pass(gate input)
{
    sign_post(&input.begun, getpid());
    sign_wait_in_task(&input.go);
    return getpid();
}
FARPOOL_FUNCTION(pass, int64_t, gate)

static void process_killed_from_outside(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    gate input;
    farpool_error error;
    farpool_job *job;
    uint64_t before_ms;
    int64_t first, second;

    (void)state;
    memset(&input, 0, sizeof input);
    input.begun = sign_create();
    input.go = sign_create();
    job = farpool_apply_async(pool, pass, input, NULL, &error);
    first = sign_wait(&input.begun);
    before_ms = fixture_now_ms();
    kill((pid_t)first, SIGKILL);
    second = sign_wait(&input.begun); /* the second attempt has begun elsewhere */
    assert_true(fixture_now_ms() - before_ms < 500);
    assert_true(first != second);
    sign_post(&input.go, 1);
    assert_code(farpool_job_get(job, DEADLINE_MS, &error), 0, &error);
    assert_int_equal(*(const int64_t *)farpool_job_outputs(job), second);
    farpool_job_free(job);
    fixture_close(pool);
}

static void process_killed_while_idle(void **state)
{
    farpool_pool *pool = fixture_open_processes(1);
    farpool_error error;
    int64_t pid = 0, again = 0;

    (void)state;
    assert_code(farpool_apply(pool, own_pid, 0, &pid, &error), 0, &error);
    kill((pid_t)pid, SIGKILL);
    assert_true(process_wait_gone((int)pid, DEADLINE_MS));
    assert_code(farpool_apply(pool, own_pid, 0, &again, &error), 0, &error);
    assert_true(again != pid);
    fixture_close(pool);
}

/* -------------------------------------------------------------- full queues */

static int echo(farpool_task *task)
{
    size_t size;
    const uint8_t *input = farpool_task_input(task, &size);
    void *output = farpool_task_output(task, size);

    if (output == NULL)
        return -1;
    memcpy(output, input, size);
    /* While it writes its result, on the first attempt only. */
    if (size > 0 && input[0] == 1 && farpool_task_attempt(task) == 1)
        raise(SIGKILL);
    return 0;
}
FARPOOL_BYTES_FUNCTION(echo)

static void crash_with_the_queues_full(void **state)
{
    enum { COUNT = 1500, SIZE = 30000 };
    farpool_pool *pool = fixture_open(NULL);
    farpool_bytes *items = calloc(COUNT, sizeof *items);
    uint8_t *good = calloc(1, SIZE), *bad = calloc(1, SIZE);
    farpool_error error;
    farpool_job *job;

    (void)state;
    bad[0] = 1;
    for (int i = 0; i < COUNT; i++)
        items[i] = (farpool_bytes){i % 300 == 150 ? bad : good, SIZE};
    assert_code(
        farpool_map_bytes(pool, FARPOOL_REF(echo), items, COUNT, NULL, &job, &error), 0,
        &error);
    for (uint64_t i = 0; i < COUNT; i++) {
        size_t size;
        const void *output = farpool_job_output(job, i, &size);

        assert_int_equal(size, SIZE);
        assert_memory_equal(output, items[i].data, SIZE);
    }
    farpool_job_free(job);
    free(items);
    free(good);
    free(bad);
    fixture_close(pool);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(initializer_once_per_process_also_in_replacements),
    cmocka_unit_test(initializer_that_fails_ends_the_pool),
    cmocka_unit_test(initializer_that_crashes_ends_the_pool),
    cmocka_unit_test(process_ids_change_after_tasks_per_process),
    cmocka_unit_test(function_that_crashes),
    cmocka_unit_test(function_that_kills_its_process),
    cmocka_unit_test(function_that_exits),
    cmocka_unit_test(function_that_prints),
    cmocka_unit_test(function_that_forks),
    cmocka_unit_test(function_that_closes_all_files),
    cmocka_unit_test(function_that_sleeps_for_ever),
    cmocka_unit_test(timeout_is_retried_as_asked),
    cmocka_unit_test(killed_in_mid_task_and_tried_again),
    cmocka_unit_test(process_killed_from_outside),
    cmocka_unit_test(process_killed_while_idle),
    cmocka_unit_test(crash_with_the_queues_full),
};
FIXTURE_MAIN(tests)
