/* SPDX-License-Identifier: Apache-2.0
 *
 * test_cluster_faults.c: what a cluster does to a job: a node killed, a node that joins,
 * a coordinator killed and restarted, a client killed. Each map completes, each task with
 * one result. */
#include "tests/api/gate.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* A few ten microseconds of work. */
static int64_t work(int64_t value)
{
    volatile int64_t sum = 0;

    for (int64_t i = 0; i < 20000; i++)
        sum += i % (value + 1);
    return value * 3 + (sum < 0);
}
FARPOOL_FUNCTION(work, int64_t, int64_t)

static int64_t square(int64_t value)
{
    return value * value;
}
FARPOOL_FUNCTION(square, int64_t, int64_t)

enum { COUNT = 8000 };

static int64_t *make_inputs(void)
{
    int64_t *inputs = malloc(COUNT * sizeof *inputs);

    for (int64_t i = 0; i < COUNT; i++)
        inputs[i] = i;
    return inputs;
}

/* Waits until at least so many tasks have ended. */
static void wait_for_done(farpool_job *job, uint64_t done)
{
    uint64_t until_ms = fixture_now_ms() + DEADLINE_MS;
    farpool_progress progress = {0};

    while (progress.done < done && fixture_now_ms() < until_ms) {
        if (farpool_job_wait(job, 1) == 0)
            return;
        assert_int_equal(farpool_job_progress(job, &progress), 0);
    }
    assert_true(progress.done >= done);
}

static void check_all(farpool_job *job)
{
    farpool_error error;
    const int64_t *outputs;

    assert_code(farpool_job_get(job, DEADLINE_MS, &error), 0, &error);
    outputs = farpool_job_outputs(job);
    for (int64_t i = 0; i < COUNT; i++)
        if (outputs[i] != i * 3)
            fail_msg("output %ld is %ld", (long)i, (long)outputs[i]);
}

static farpool_job *submit(farpool_pool *pool)
{
    farpool_error error;
    int64_t *inputs = make_inputs();
    farpool_job *job = farpool_map_async(pool, work, inputs, COUNT, NULL, &error);

    assert_non_null(job);
    free(inputs);
    return job;
}

static farpool_pool *open_all(void)
{
    farpool_pool_options options = FARPOOL_POOL_OPTIONS;

    return fixture_open(&options);
}

static void worker_killed_in_mid_map(void **state)
{
    farpool_pool *pool = open_all();
    farpool_job *job = submit(pool);

    (void)state;
    wait_for_done(job, COUNT / 10);
    assert_int_equal(cluster_kill_worker(fixture_cluster(), 0), 0);
    check_all(job);
    farpool_job_free(job);
    fixture_close(pool);
    assert_int_equal(cluster_add_worker(fixture_cluster(), 2, NULL), 0);
}

/* Which worker started that process. */
static int worker_of(int pid)
{
    char path[64];
    int parent = 0;
    FILE *file;

    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    file = fopen(path, "r");
    if (file == NULL || fscanf(file, "%*d (%*[^)]) %*c %d", &parent) != 1)
        fail_msg("cannot read %s", path);
    fclose(file);
    for (int i = 0; i < CLUSTER_WORKERS_MAX; i++)
        if (cluster_worker_pid(fixture_cluster(), i) == parent)
            return i;
    fail_msg("process %d is no worker's", pid);
    return -1;
}

static void task_on_a_killed_node_runs_elsewhere(void **state)
{
    farpool_pool *pool = open_all();
    gate input;
    farpool_error error;
    farpool_job *job;
    int pid, worker;

    (void)state;
    memset(&input, 0, sizeof input);
    input.begun = sign_create();
    input.go = sign_create();
    input.value = 5;
    job = farpool_apply_async(pool, pass, input, NULL, &error);
    pid = (int)sign_wait(&input.begun);
    worker = worker_of(pid);
    assert_int_equal(cluster_kill_worker(fixture_cluster(), worker), 0);
    assert_true(process_wait_gone(pid, 2000)); /* a process goes with its worker */
    assert_int_not_equal(worker_of((int)sign_wait(&input.begun)), worker);
    sign_post(&input.go, 1);
    assert_code(farpool_job_get(job, DEADLINE_MS, &error), 0, &error);
    farpool_job_free(job);
    fixture_close(pool);
    assert_int_equal(cluster_add_worker(fixture_cluster(), 2, NULL), 0);
}

/* The client is told of a node in its own time: perhaps when a short job is over. */
static void wait_for_nodes(farpool_pool *pool, uint32_t nodes, uint32_t slots)
{
    uint64_t until_ms = fixture_now_ms() + DEADLINE_MS;
    farpool_pool_info info;
    farpool_error error;
    int64_t output;

    do {
        assert_code(farpool_apply(pool, square, 3, &output, &error), 0, &error);
        assert_code(farpool_pool_get_info(pool, &info, &error), 0, &error);
    } while (info.nodes != nodes && fixture_now_ms() < until_ms);
    assert_int_equal(info.nodes, nodes);
    assert_int_equal(info.slots, slots);
}

static void worker_joins_in_mid_map(void **state)
{
    farpool_pool *pool = open_all();
    farpool_job *job = submit(pool);

    (void)state;
    wait_for_done(job, COUNT / 20);
    assert_int_equal(cluster_add_worker(fixture_cluster(), 2, NULL), 0);
    check_all(job);
    farpool_job_free(job);
    wait_for_nodes(pool, 3, 6);
    fixture_close(pool);
}

static void pool_waits_for_the_first_worker(void **state)
{
    farpool_pool_options options = FARPOOL_POOL_OPTIONS;
    struct cluster *empty;
    farpool_error error;
    farpool_pool *pool;
    farpool_job *job;

    (void)state;
    assert_int_equal(cluster_start(0, 1, &empty), 0);
    pool = farpool_open(cluster_address(empty), &options, &error);
    assert_non_null(pool);
    job = farpool_apply_async(pool, square, 6, NULL, &error);
    assert_int_equal(farpool_job_wait(job, 50), FARPOOL_ETIMEDOUT);
    assert_int_equal(cluster_add_worker(empty, 1, NULL), 0);
    assert_code(farpool_job_get(job, DEADLINE_MS, &error), 0, &error);
    assert_int_equal(*(const int64_t *)farpool_job_outputs(job), 36);
    farpool_job_free(job);
    fixture_close(pool);
    cluster_stop(&empty);
}

static void coordinator_killed_and_restarted_in_mid_map(void **state)
{
    farpool_pool *pool = open_all();
    farpool_job *job = submit(pool);
    farpool_progress progress;

    (void)state;
    wait_for_done(job, COUNT / 10);
    assert_int_equal(cluster_kill_coordinator(fixture_cluster()), 0);
    assert_int_equal(cluster_restart_coordinator(fixture_cluster()), 0);
    check_all(job);
    assert_int_equal(farpool_job_progress(job, &progress), 0);
    assert_int_equal(progress.done, COUNT); /* each once */
    farpool_job_free(job);
    fixture_close(pool);
}

static void coordinator_restarted_while_idle(void **state)
{
    farpool_pool *pool = open_all();
    farpool_error error;
    int64_t output = 0;

    (void)state;
    assert_code(farpool_apply(pool, square, 4, &output, &error), 0, &error);
    assert_int_equal(cluster_kill_coordinator(fixture_cluster()), 0);
    assert_int_equal(cluster_restart_coordinator(fixture_cluster()), 0);
    assert_code(farpool_apply(pool, square, 5, &output, &error), 0, &error);
    assert_int_equal(output, 25);
    fixture_close(pool);
}

/* A task's process, which may end it at once. */
static int run_pass(farpool_pool *pool)
{
    gate input;
    int64_t output = 0;
    farpool_error error;

    memset(&input, 0, sizeof input);
    input.begun = sign_create();
    input.go = sign_create();
    sign_post(&input.go, 1);
    assert_code(farpool_apply(pool, pass, input, &output, &error), 0, &error);
    return (int)sign_wait(&input.begun);
}

/* Who does nothing with his pool for several times the silence is heard of all the same:
 * or its processes would end. */
static void idle_client_keeps_its_processes(void **state)
{
    const char *const silence[] = {"--silence-ms", "1000", NULL};
    struct cluster *cluster;
    farpool_error error;
    farpool_pool *pool;
    int pid;

    (void)state;
    assert_int_equal(cluster_start_with(1, 1, silence, NULL, &cluster), 0);
    pool = farpool_open(cluster_address(cluster), NULL, &error);
    assert_non_null(pool);
    pid = run_pass(pool);
    assert_false(process_wait_gone(pid, 2500));
    assert_int_equal(run_pass(pool), pid);
    fixture_close(pool);
    cluster_stop(&cluster);
}

/* In a child: a client whose two tasks have begun, and which then waits for its end. */
static void be_client(const gate *input)
{
    farpool_pool *pool = farpool_open(fixture_address(), NULL, NULL);
    gate inputs[2] = {*input, *input};
    int64_t outputs[2];

    if (pool != NULL)
        farpool_map(pool, pass, inputs, 2, outputs, NULL);
    _exit(1);
}

static void processes_of_a_killed_client_end(void **state)
{
    gate input;
    pid_t client;
    int pids[2];

    (void)state;
    memset(&input, 0, sizeof input);
    input.begun = sign_create();
    input.go = sign_create();
    client = fork();
    if (client == 0)
        be_client(&input);
    for (int i = 0; i < 2; i++)
        pids[i] = (int)sign_wait(&input.begun);
    kill(client, SIGKILL);
    assert_int_equal(waitpid(client, NULL, 0), client);
    for (int i = 0; i < 2; i++)
        assert_true(process_wait_gone(pids[i], 2000));
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(worker_killed_in_mid_map),
    cmocka_unit_test(task_on_a_killed_node_runs_elsewhere),
    cmocka_unit_test(pool_waits_for_the_first_worker),
    cmocka_unit_test(coordinator_killed_and_restarted_in_mid_map),
    cmocka_unit_test(coordinator_restarted_while_idle),
    cmocka_unit_test(idle_client_keeps_its_processes),
    cmocka_unit_test(processes_of_a_killed_client_end),
    cmocka_unit_test(worker_joins_in_mid_map),
};
FIXTURE_MAIN(tests)
