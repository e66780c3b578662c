/* SPDX-License-Identifier: Apache-2.0
 *
 * Limits of CPU time and memory of a task: of its process and of what it starts; that the
 * error says which limit, value and node, and that other tasks are not concerned. */
#include "fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB (1 << 20)
#define EATEN (192 * MIB)
#define LIMIT (96 * MIB)

typedef struct use {
    int64_t how;
    int64_t attempts; /* in so many attempts; then it behaves */
} use;
enum { NOTHING, COMPUTE, COMPUTE_BELOW, EAT, EAT_BELOW, WAIT_LONG };

static _Noreturn void compute(void)
{
    for (volatile uint64_t i = 0;; i++)
        ;
}

static _Noreturn void eat(void)
{
    char *memory = malloc(EATEN);

    if (memory == NULL)
        abort();
    for (volatile char *at = memory; at < memory + EATEN; at += 4096)
        *at = 1;
    for (;;)
        pause();
}

static int64_t consume(use input)
{
    const bool below = input.how == COMPUTE_BELOW || input.how == EAT_BELOW;
    const farpool_task *task = farpool_task_current();

    if (input.how == NOTHING || (int64_t)farpool_task_attempt(task) > input.attempts)
        return getpid();
    if (input.how == WAIT_LONG) {
        sleep(1);
        return getpid();
    }
    if (below && fork() != 0)
        for (;;)
            wait(NULL);
    if (input.how == COMPUTE || input.how == COMPUTE_BELOW)
        compute();
    eat();
}
FARPOOL_FUNCTION(consume, int64_t, use)

/* One task of many that is over the limit, and the others are not. */
static void check(int how, const farpool_job_options *options, int code,
                  const char *words)
{
    farpool_pool *pool = fixture_open(NULL);
    use inputs[20];
    farpool_error error;
    farpool_job *job;

    memset(inputs, 0, sizeof inputs);
    inputs[7] = (use){how, 1000};
    job = farpool_map_async(pool, consume, inputs, 20, options, &error);
    assert_non_null(job);
    assert_int_equal(farpool_job_wait(job, 20000), 0);
    for (uint64_t i = 0; i < 20; i++) {
        const int outcome = farpool_job_outcome(job, i, &error);

        assert_code(outcome, i == 7 ? code : 0, &error);
        if (i != 7)
            continue;
        assert_true(error.node[0] != '\0');
        if (strstr(error.text, words) == NULL && strstr(error.message, words) == NULL)
            fail_msg("%s is neither in \"%s\" nor in \"%s\"", words, error.text,
                     error.message);
    }
    farpool_job_free(job);
    fixture_close(pool);
}

static void cpu_time_is_limited(void **state)
{
    farpool_job_options options = FARPOOL_JOB_OPTIONS;

    (void)state;
    options.task_cpu_ms = 300;
    check(COMPUTE, &options, FARPOOL_ECPULIMIT, "over its limit of 300 ms on node ");
    check(COMPUTE_BELOW, &options, FARPOOL_ECPULIMIT,
          "over its limit of 300 ms on node ");
}

static void memory_is_limited(void **state)
{
    farpool_job_options options = FARPOOL_JOB_OPTIONS;

    (void)state;
    options.task_memory_bytes = LIMIT;
    check(EAT, &options, FARPOOL_EMEMORYLIMIT,
          "over its limit of 100663296 bytes on node ");
    check(EAT_BELOW, &options, FARPOOL_EMEMORYLIMIT,
          "over its limit of 100663296 bytes on node ");
}

/* Waiting is free, and each task has the whole limit to itself. */
static void only_what_is_used_counts(void **state)
{
    farpool_pool_options options = FARPOOL_POOL_OPTIONS;
    farpool_pool *pool;
    use inputs[3] = {{WAIT_LONG, 1000}, {WAIT_LONG, 1000}, {NOTHING, 0}};
    int64_t outputs[3];
    farpool_error error;

    (void)state;
    options.processes = 1;
    options.task_cpu_ms = 500;
    pool = fixture_open(&options);
    assert_code(farpool_map(pool, consume, inputs, 3, outputs, &error), 0, &error);
    assert_int_equal(outputs[0], outputs[2]);
    fixture_close(pool);
}

static void a_task_over_its_limit_is_tried_again(void **state)
{
    farpool_pool_options options = FARPOOL_POOL_OPTIONS;
    farpool_pool *pool;
    use input = {COMPUTE, 1};
    int64_t output;
    farpool_error error;

    (void)state;
    options.task_cpu_ms = 300;
    options.retries = 1;
    pool = fixture_open(&options);
    assert_code(farpool_apply(pool, consume, input, &output, &error), 0, &error);
    assert_true(output > 0);
    fixture_close(pool);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(cpu_time_is_limited),
    cmocka_unit_test(memory_is_limited),
    cmocka_unit_test(only_what_is_used_counts),
    cmocka_unit_test(a_task_over_its_limit_is_tried_again),
};
FIXTURE_MAIN(tests)
