/* SPDX-License-Identifier: Apache-2.0
 *
 * test_cluster_losses.c: what counts when nodes go: a task that only waits at nodes which
 * are killed, more often than losses_max, does not fail for it; one that kills its own
 * node each time does, and nothing that was beside it. */
#include "tests/api/gate.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WAITING = 40, KILLS = 5, TASKS = 300, POISON = 137, DOUBTS = 3, LOSSES = 3 };

/* A millisecond; but for one of them, which is the end of its worker. */
static int64_t kill_or_not(int64_t value)
{
    const struct timespec ms = {.tv_nsec = 1000000};

    if (value == POISON)
        kill(getppid(), SIGKILL);
    while (value == POISON)
        pause();
    nanosleep(&ms, NULL);
    return value * 3;
}
FARPOOL_FUNCTION(kill_or_not, int64_t, int64_t)

/* Until each of two nodes has a task that runs and one behind it. */
static void wait_until_queued(struct cluster *cluster)
{
    const uint64_t until_ms = fixture_now_ms() + DEADLINE_MS;
    bool all = false;

    while (!all && fixture_now_ms() < until_ms) {
        farpool_cluster_status *status = NULL;
        farpool_error error;

        assert_code(farpool_cluster_get_status(cluster_address(cluster), DEADLINE_MS,
                                               &status, &error),
                    0, &error);
        all = status->nodes_count == 2;
        for (size_t i = 0; i < status->nodes_count; i++)
            all = all && status->nodes[i].tasks_assigned >= 2;
        farpool_cluster_status_free(status);
    }
    assert_true(all);
}

/* The first two run when their nodes go, the others wait behind them. */
static void tasks_that_only_wait_have_no_losses(void **state)
{
    struct cluster *cluster;
    farpool_error error;
    gate inputs[WAITING];

    (void)state;
    assert_int_equal(cluster_start(2, 1, &cluster), 0);
    farpool_pool *pool = farpool_open(cluster_address(cluster), NULL, &error);
    assert_non_null(pool);
    memset(inputs, 0, sizeof inputs);
    inputs[0].begun = sign_create();
    inputs[0].go = sign_create();
    for (int i = 0; i < WAITING; i++) {
        inputs[i] = inputs[0];
        inputs[i].value = i;
    }
    farpool_job *job = farpool_map_async(pool, pass, inputs, WAITING, NULL, &error);
    for (int i = 0; i < 2; i++)
        sign_wait(&inputs[0].begun);
    for (int i = 0; i < KILLS; i++) {
        wait_until_queued(cluster);
        assert_int_equal(cluster_kill_worker(cluster, i), 0); /* the oldest one */
        assert_int_equal(cluster_add_worker(cluster, 1, NULL), 0);
        sign_wait(&inputs[0].begun);
    }
    for (int i = 0; i < WAITING; i++)
        sign_post(&inputs[0].go, 1);
    assert_code(farpool_job_get(job, DEADLINE_MS, &error), 0, &error);
    for (int i = 0; i < WAITING; i++)
        assert_int_equal(((const int64_t *)farpool_job_outputs(job))[i], i);
    farpool_job_free(job);
    fixture_close(pool);
    cluster_stop(&cluster);
}

/* Puts others in the place of workers that have ended; how many. */
static int replace_ended(struct cluster *cluster, int *workers)
{
    int ended = 0;

    for (int i = 0; i < *workers; i++) {
        siginfo_t info = {.si_pid = 0};
        const pid_t pid = cluster_worker_pid(cluster, i);

        if (pid == 0 ||
            waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
            info.si_pid == 0)
            continue;
        assert_int_equal(daemon_wait_end(cluster_worker(cluster, i), DEADLINE_MS, NULL),
                         0);
        assert_true(*workers < CLUSTER_WORKERS_MAX);
        assert_int_equal(cluster_add_worker(cluster, 2, NULL), 0);
        (*workers)++;
        ended++;
    }
    return ended;
}

static void a_task_that_kills_nodes_fails_alone(void **state)
{
    struct cluster *cluster;
    int64_t values[TASKS];
    farpool_error error;
    int workers = 3, kills = 0, code = FARPOOL_ETIMEDOUT;

    (void)state;
    assert_int_equal(cluster_start(workers, 2, &cluster), 0);
    farpool_pool *pool = farpool_open(cluster_address(cluster), NULL, &error);
    assert_non_null(pool);
    for (int i = 0; i < TASKS; i++)
        values[i] = i;
    farpool_job *job = farpool_map_async(pool, kill_or_not, values, TASKS, NULL, &error);
    assert_non_null(job);
    const uint64_t until_ms = fixture_now_ms() + 2 * DEADLINE_MS;
    while (code == FARPOOL_ETIMEDOUT && fixture_now_ms() < until_ms) {
        code = farpool_job_wait(job, 5);
        kills += replace_ended(cluster, &workers);
    }
    assert_int_equal(code, 0);
    kills += replace_ended(cluster, &workers);
    for (uint64_t i = 0; i < TASKS; i++) {
        const int outcome = farpool_job_outcome(job, i, &error);
        assert_code(outcome, i == POISON ? FARPOOL_ENODELOST : 0, &error);
        if (i != POISON)
            assert_int_equal(((const int64_t *)farpool_job_outputs(job))[i], i * 3);
    }
    /* So often it was known to have begun, and before that, perhaps, only to be there. */
    assert_in_range(kills, LOSSES + 1, LOSSES + DOUBTS);
    farpool_job_free(job);
    fixture_close(pool);
    cluster_stop(&cluster);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(tasks_that_only_wait_have_no_losses),
    cmocka_unit_test(a_task_that_kills_nodes_fails_alone),
};
FIXTURE_MAIN(tests)
