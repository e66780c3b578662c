/* SPDX-License-Identifier: Apache-2.0
 *
 * test_cluster_status.c: what a coordinator tells, and where pools are opened. */
#include "tests/api/fixture.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct gate {
    struct sign begun, go;
} gate;

static int64_t pass(gate input)
{
    sign_post(&input.begun, getpid());
    sign_wait_in_task(&input.go);
    return 1;
}
FARPOOL_FUNCTION(pass, int64_t, gate)

static int64_t square(int64_t value)
{
    return value * value;
}
FARPOOL_FUNCTION(square, int64_t, int64_t)

static farpool_cluster_status *get_status(const char *address)
{
    farpool_cluster_status *status = NULL;
    farpool_error error;

    assert_code(farpool_cluster_get_status(address, DEADLINE_MS, &status, &error), 0,
                &error);
    return status;
}

static void nodes_are_told(void **state)
{
    farpool_cluster_status *status = get_status(fixture_address());

    (void)state;
    assert_string_equal(status->coordinator_version, FARPOOL_VERSION);
    assert_int_equal(status->nodes_count, 2);
    for (size_t i = 0; i < 2; i++) {
        assert_string_equal(status->nodes[i].state, "ready");
        assert_int_equal(status->nodes[i].slots, 2);
        assert_true(status->nodes[i].memory_bytes > 0);
        assert_true(status->nodes[i].name[0] == 'n');
    }
    assert_string_not_equal(status->nodes[0].name, status->nodes[1].name);
    farpool_cluster_status_free(status);
}

static void pools_and_jobs_are_told(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    farpool_job_options options = FARPOOL_JOB_OPTIONS;
    farpool_cluster_status *status;
    farpool_error error;
    farpool_job *job;
    gate inputs[5];

    (void)state;
    memset(inputs, 0, sizeof inputs);
    inputs[0].begun = sign_create();
    inputs[0].go = sign_create();
    for (int i = 1; i < 5; i++)
        inputs[i] = inputs[0];
    options.priority = 7;
    job = farpool_map_async(pool, pass, inputs, 5, &options, &error);
    sign_wait(&inputs[0].begun);
    status = get_status(fixture_address());
    assert_int_equal(status->pools_count, 1);
    assert_int_equal(status->pools[0].client_pid, getpid());
    assert_int_equal(status->pools[0].jobs, 1);
    assert_string_equal(status->pools[0].program, "test_cluster_status");
    assert_int_equal(status->jobs_count, 1);
    assert_string_equal(status->jobs[0].function, "pass");
    assert_int_equal(status->jobs[0].priority, 7);
    assert_string_equal(status->jobs[0].pool, status->pools[0].id);
    farpool_cluster_status_free(status);
    for (int i = 0; i < 5; i++)
        sign_post(&inputs[0].go, 1);
    assert_code(farpool_job_get(job, DEADLINE_MS, &error), 0, &error);
    farpool_job_free(job);
    fixture_close(pool);
    status = get_status(fixture_address());
    assert_int_equal(status->pools_count, 0);
    farpool_cluster_status_free(status);
}

/* Another program's job is cancelled by the ids of its status; each task ends once, with
 * an error that says by whom; the pool can be used again. */
static void an_operator_cancels_a_job(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    farpool_cluster_status *status;
    uint64_t jobs = 0, tasks = 0;
    farpool_error error;
    farpool_job *job;
    gate inputs[50];
    int64_t output = 0;

    (void)state;
    memset(inputs, 0, sizeof inputs);
    inputs[0].begun = sign_create();
    inputs[0].go = sign_create();
    for (int i = 1; i < 50; i++)
        inputs[i] = inputs[0];
    job = farpool_map_async(pool, pass, inputs, 50, NULL, &error);
    sign_wait(&inputs[0].begun);
    status = get_status(fixture_address());
    assert_int_equal(farpool_cluster_cancel(fixture_address(), DEADLINE_MS,
                                            status->jobs[0].pool, status->jobs[0].job + 1,
                                            true, NULL, NULL, &error),
                     FARPOOL_EINVAL);
    assert_code(farpool_cluster_cancel(fixture_address(), DEADLINE_MS,
                                       status->jobs[0].pool, status->jobs[0].job, true,
                                       &jobs, &tasks, &error),
                0, &error);
    assert_int_equal(jobs, 1);
    assert_int_equal(tasks, 50);
    assert_int_equal(farpool_job_wait(job, DEADLINE_MS), 0);
    for (uint64_t i = 0; i < 50; i++) {
        assert_int_equal(farpool_job_outcome(job, i, &error), FARPOOL_ECANCELLED);
        assert_non_null(strstr(error.text, "was cancelled by an operator"));
    }
    assert_code(farpool_apply(pool, square, 4, &output, &error), 0, &error);
    assert_int_equal(output, 16);
    farpool_job_free(job);
    fixture_close(pool);
    assert_int_equal(farpool_cluster_cancel(fixture_address(), DEADLINE_MS,
                                            status->jobs[0].pool, 0, true, NULL, NULL,
                                            &error),
                     FARPOOL_ENOPOOL);
    farpool_cluster_status_free(status);
}

static void what_an_operator_may_not_ask(void **state)
{
    char name[65];
    farpool_error error;

    (void)state;
    memset(name, 'n', sizeof name - 1);
    name[64] = '\0';
    static const char *const pools[] = {NULL, "", "12",
                                        "0123456789ABCDEF0123456789abcdef",
                                        "0123456789abcdef0123456789abcdefa"};
    for (size_t i = 0; i < sizeof pools / sizeof *pools; i++) {
        assert_int_equal(farpool_cluster_cancel(fixture_address(), DEADLINE_MS, pools[i],
                                                0, false, NULL, NULL, &error),
                         FARPOOL_EINVAL);
        assert_non_null(strstr(error.text, "32 hexadecimal digits"));
    }
    const char *const nodes[] = {NULL, "", name, "nobody"};
    for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++)
        assert_int_equal(farpool_cluster_drain(fixture_address(), DEADLINE_MS, nodes[i],
                                               NULL, NULL, &error),
                         FARPOOL_EINVAL);
    assert_int_equal(
        farpool_cluster_drain("tcp://127.0.0.1:1", 200, "n1", NULL, NULL, &error),
        FARPOOL_ENOCOORDINATOR);
    assert_int_equal(farpool_cluster_drain("", DEADLINE_MS, "n1", NULL, NULL, &error),
                     FARPOOL_EADDRESS);
}

static int count_lines(void *user, const farpool_log_line *line)
{
    int *lines = user;

    assert_true(line->text == NULL || strlen(line->text) == line->size);
    assert_true(line->text != NULL || line->left_out > 0 || line->code != 0);
    lines[0] += line->text != NULL;
    lines[1] += line->text != NULL && line->node[0] == '\0';
    return lines[0] == lines[2];
}

static void logs_are_told(void **state)
{
    const farpool_log_options one = {.lines = 1}, nobody = {.node = "nobody"};
    const farpool_log_options unnamed = {.node = ""}, many = {.lines = 10001};
    const farpool_log_options bad = {.pool = "12"}, follow = {.follow = true};
    const farpool_log_options coordinator = {.node = "coordinator"};
    const farpool_log_options *const wrong[] = {&nobody, &unnamed, &many, &bad};
    const char *address = fixture_address();
    farpool_error error;
    int lines[3] = {0, 0, 0};

    (void)state;
    assert_code(
        farpool_cluster_logs(address, DEADLINE_MS, NULL, count_lines, lines, &error), 0,
        &error);
    assert_true(lines[0] > lines[1] && lines[1] > 0);
    lines[0] = lines[1] = 0;
    assert_code(farpool_cluster_logs(address, DEADLINE_MS, &coordinator, count_lines,
                                     lines, &error),
                0, &error);
    assert_true(lines[0] == lines[1] && lines[1] > 0);
    lines[0] = 0;
    assert_code(
        farpool_cluster_logs(address, DEADLINE_MS, &one, count_lines, lines, &error), 0,
        &error);
    assert_int_equal(lines[0], 1);
    lines[0] = 0;
    lines[2] = 3; /* and then no more: it follows no longer */
    assert_code(
        farpool_cluster_logs(address, DEADLINE_MS, &follow, count_lines, lines, &error),
        0, &error);
    assert_int_equal(lines[0], 3);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(farpool_cluster_logs(address, DEADLINE_MS, wrong[i], count_lines,
                                              lines, &error),
                         FARPOOL_EINVAL);
    assert_int_equal(
        farpool_cluster_logs(address, DEADLINE_MS, NULL, NULL, lines, &error),
        FARPOOL_EINVAL);
    assert_int_equal(farpool_cluster_logs("tcp://127.0.0.1:1", 200, &follow, count_lines,
                                          lines, &error),
                     FARPOOL_ENOCOORDINATOR);
}

static void address_from_the_environment(void **state)
{
    farpool_cluster_status *status;
    farpool_pool_info info;
    farpool_error error;
    farpool_pool *pool;
    int64_t output = 0;

    (void)state;
    setenv("FARPOOL_COORDINATOR", fixture_address(), 1);
    status = get_status(NULL);
    farpool_cluster_status_free(status);
    pool = farpool_open(NULL, NULL, &error);
    assert_non_null(pool);
    assert_code(farpool_apply(pool, square, 4, &output, &error), 0, &error);
    assert_int_equal(farpool_pool_get_info(pool, &info, NULL), 0);
    assert_false(info.embedded);
    assert_true(info.connected);
    assert_int_equal(info.nodes, 2);
    assert_int_equal(info.slots, 4);
    fixture_close(pool);
    setenv("FARPOOL_COORDINATOR", "", 1);
    pool = farpool_open(NULL, NULL, &error);
    assert_non_null(pool);
    assert_int_equal(farpool_pool_get_info(pool, &info, NULL), 0);
    assert_true(info.embedded);
    fixture_close(pool);
    unsetenv("FARPOOL_COORDINATOR");
}

static void two_clients_share_the_cluster(void **state)
{
    enum { COUNT = 2000 };
    farpool_pool *pools[2] = {fixture_open(NULL), fixture_open(NULL)};
    farpool_job *jobs[2];
    int64_t inputs[COUNT];
    farpool_error error;

    (void)state;
    for (int i = 0; i < COUNT; i++)
        inputs[i] = i;
    for (int i = 0; i < 2; i++)
        jobs[i] = farpool_map_async(pools[i], square, inputs, COUNT, NULL, &error);
    for (int i = 0; i < 2; i++) {
        assert_code(farpool_job_get(jobs[i], DEADLINE_MS, &error), 0, &error);
        assert_int_equal(((const int64_t *)farpool_job_outputs(jobs[i]))[1999],
                         1999 * 1999);
        farpool_job_free(jobs[i]);
        fixture_close(pools[i]);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(nodes_are_told),
    cmocka_unit_test(pools_and_jobs_are_told),
    cmocka_unit_test(an_operator_cancels_a_job),
    cmocka_unit_test(what_an_operator_may_not_ask),
    cmocka_unit_test(logs_are_told),
    cmocka_unit_test(address_from_the_environment),
    cmocka_unit_test(two_clients_share_the_cluster),
};
FIXTURE_MAIN(tests)
