/* SPDX-License-Identifier: Apache-2.0
 *
 * test_cluster_speculation.c: a task that hangs, or is slow, on one node: with
 * `speculate` the job ends by its second run elsewhere, and what is left of the first is
 * killed; whichever node is killed, the other run goes on. */
#include "tests/api/fixture.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct race {
    struct sign begun; /* whose task runs: its pid */
    struct sign go;
    char marker[SIGN_PATH]; /* made by who runs first; "": nobody waits */
    bool first_waits;       /* for ever */
    bool second_waits;      /* for `go` */
    int64_t value;
};

static int64_t compete(struct race input)
{
    if (!input.marker[0])
        return input.value;
    const int file = open(input.marker, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    sign_post(&input.begun, getpid());
    while (file >= 0 && input.first_waits)
        pause();
    if (file < 0 && input.second_waits)
        sign_wait_in_task(&input.go);
    return input.value;
}
FARPOOL_FUNCTION(compete, int64_t, struct race)

enum { COUNT = 12, SLOW = 5 };

static struct race *make_inputs(const char *name)
{
    struct race *inputs = calloc(COUNT, sizeof *inputs);

    for (int i = 0; i < COUNT; i++)
        inputs[i].value = i;
    inputs[SLOW].begun = sign_create();
    inputs[SLOW].go = sign_create();
    snprintf(inputs[SLOW].marker, sizeof inputs[SLOW].marker, "%s/%s", fixture_folder(),
             name);
    inputs[SLOW].first_waits = true;
    return inputs;
}

static void check_all(farpool_job *job)
{
    farpool_error error;
    const int64_t *outputs;

    assert_code(farpool_job_get(job, DEADLINE_MS, &error), 0, &error);
    outputs = farpool_job_outputs(job);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(outputs[i], i);
}

static farpool_job *begin(farpool_pool *pool, const struct race *inputs)
{
    farpool_job_options options = FARPOOL_JOB_OPTIONS;
    farpool_error error;

    options.speculate = 1;
    farpool_job *job = farpool_map_async(pool, compete, inputs, COUNT, &options, &error);
    assert_non_null(job);
    return job;
}

static void task_that_hangs_ends_elsewhere(void **state)
{
    farpool_pool_options options = FARPOOL_POOL_OPTIONS;
    farpool_pool *pool = fixture_open(&options);
    struct race *inputs = make_inputs("hangs");
    farpool_job *job = begin(pool, inputs);

    (void)state;
    const int pid = (int)sign_wait(&inputs[SLOW].begun);
    assert_int_not_equal((int)sign_wait(&inputs[SLOW].begun), pid);
    check_all(job);
    assert_true(process_wait_gone(pid, 5000));
    farpool_job_free(job);
    free(inputs);
    fixture_close(pool);
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

/* The hanging one's node is killed while the second run goes on: that one is the task's
 * still, and no third begins. */
static void node_of_the_first_run_is_killed(void **state)
{
    farpool_pool_options options = FARPOOL_POOL_OPTIONS;
    farpool_pool *pool = fixture_open(&options);
    struct race *inputs = make_inputs("killed");

    (void)state;
    inputs[SLOW].second_waits = true;
    farpool_job *job = begin(pool, inputs);
    const int first = worker_of((int)sign_wait(&inputs[SLOW].begun));
    const int second_pid = (int)sign_wait(&inputs[SLOW].begun);
    assert_int_not_equal(worker_of(second_pid), first);
    assert_int_equal(cluster_kill_worker(fixture_cluster(), first), 0);
    sign_post(&inputs[SLOW].go, 1);
    check_all(job);
    farpool_progress progress = {0};
    assert_int_equal(farpool_job_progress(job, &progress), 0);
    assert_int_equal(progress.done, COUNT);
    farpool_job_free(job);
    free(inputs);
    fixture_close(pool);
    assert_int_equal(cluster_add_worker(fixture_cluster(), 2, NULL), 0);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(task_that_hangs_ends_elsewhere),
    cmocka_unit_test(node_of_the_first_run_is_killed),
};
FIXTURE_MAIN(tests)
