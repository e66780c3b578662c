/* SPDX-License-Identifier: Apache-2.0
 *
 * test_cluster_shared.c: shared inputs where something goes wrong: no room, a file that
 * changes, a worker or the coordinator killed, a client killed. Whether a worker still
 * holds one is told by its open files. */
#include "tests/api/fixture.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MB (1 << 20)
#define BYTES (6 * MB)
#define LOOKS 32

static int look(farpool_task *task)
{
    const farpool_shared *shared = farpool_task_input(task, NULL);
    farpool_bytes bytes;
    farpool_error error;
    uint64_t sum = 0;
    int code = farpool_shared_get(shared, &bytes, &error);

    if (code != 0)
        return farpool_fail(task, "%s: %s", farpool_error_name(code), error.text);
    for (size_t i = 0; i < bytes.size; i += 512)
        sum += ((const uint8_t *)bytes.data)[i];
    return farpool_task_write(task, &sum, sizeof sum);
}
FARPOOL_BYTES_FUNCTION(look)

static uint8_t *make_bytes(uint64_t *ret_sum)
{
    uint8_t *bytes = malloc(BYTES);

    assert_non_null(bytes);
    *ret_sum = 0;
    for (size_t i = 0; i < BYTES; i++)
        bytes[i] = (uint8_t)(i / 512 * 7);
    for (size_t i = 0; i < BYTES; i += 512)
        *ret_sum += bytes[i];
    return bytes;
}

static farpool_shared share(farpool_pool *pool, uint64_t *ret_sum)
{
    uint8_t *bytes = make_bytes(ret_sum);
    farpool_shared shared;
    farpool_error error;

    assert_code(farpool_share(pool, bytes, BYTES, &shared, &error), 0, &error);
    free(bytes);
    return shared;
}

static farpool_job *submit(farpool_pool *pool, const farpool_shared *shared)
{
    farpool_bytes inputs[LOOKS];
    farpool_error error;
    farpool_job *job;

    for (int i = 0; i < LOOKS; i++)
        inputs[i] = (farpool_bytes){shared, sizeof *shared};
    job = farpool_map_bytes_async(pool, FARPOOL_REF(look), inputs, LOOKS, NULL, &error);
    assert_non_null(job);
    return job;
}

static void assert_looked(farpool_job *job, uint64_t sum)
{
    farpool_error error;

    assert_code(farpool_job_get(job, DEADLINE_MS, &error), 0, &error);
    for (uint64_t i = 0; i < LOOKS; i++) {
        size_t size;
        const uint64_t *output = farpool_job_output(job, i, &size);

        assert_non_null(output);
        assert_int_equal(*output, sum);
    }
    farpool_job_free(job);
}

static void assert_fails(farpool_job *job, const char *words, const char *more)
{
    farpool_error error;

    assert_code(farpool_job_get(job, DEADLINE_MS, &error), FARPOOL_EFUNCTION, &error);
    fixture_assert_text(error.message, words, __FILE__, __LINE__);
    fixture_assert_text(error.message, more, __FILE__, __LINE__);
    farpool_job_free(job);
}

/* How many shared inputs a process has open. */
static int count_held(pid_t pid)
{
    char path[300], target[300];
    const struct dirent *entry;
    int count = 0;
    DIR *folder;

    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    folder = opendir(path);
    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        snprintf(path, sizeof path, "/proc/%d/fd/%s", (int)pid, entry->d_name);
        ssize_t size = readlink(path, target, sizeof target - 1);

        target[size > 0 ? size : 0] = '\0';
        count += strstr(target, "farpool-shared") != NULL;
    }
    if (folder != NULL)
        closedir(folder);
    return count;
}

/* Waits until the workers that are alive hold nothing. */
static void wait_until_free(void)
{
    uint64_t until_ms = fixture_now_ms() + DEADLINE_MS;
    int held;

    do {
        held = 0;
        for (int i = 0; i < CLUSTER_WORKERS_MAX; i++)
            if (cluster_worker_pid(fixture_cluster(), i) > 0)
                held += count_held(cluster_worker_pid(fixture_cluster(), i));
    } while (held > 0 && fixture_now_ms() < until_ms);
    assert_int_equal(held, 0);
}

static void pool_and_memory_end_together(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    uint64_t sum;
    farpool_shared shared = share(pool, &sum);

    (void)state;
    assert_looked(submit(pool, &shared), sum);
    assert_true(count_held(cluster_worker_pid(fixture_cluster(), 0)) > 0);
    fixture_close(pool);
    wait_until_free();
}

static void without_room_tasks_are_told(void **state)
{
    const char *const arguments[] = {"--share-max", "1M", NULL};
    farpool_pool_options options = FARPOOL_POOL_OPTIONS;
    struct cluster *small = NULL;
    farpool_error error;
    farpool_pool *pool;
    uint64_t sum;

    (void)state;
    assert_int_equal(cluster_start_with(1, 1, NULL, arguments, &small), 0);
    pool = farpool_open(cluster_address(small), &options, &error);
    assert_non_null(pool);
    farpool_shared shared = share(pool, &sum);
    assert_fails(submit(pool, &shared), "ENOSPACE: shared_get: node n0 has no room",
                 "--share-max");
    fixture_close(pool);
    cluster_stop(&small);
}

static void a_file_that_changes_is_refused(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    uint64_t sum;
    uint8_t *bytes = make_bytes(&sum);
    farpool_shared shared;
    farpool_error error;
    char path[512];
    FILE *file;

    (void)state;
    snprintf(path, sizeof path, "%s/changes", fixture_folder());
    file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, BYTES, file), BYTES);
    fclose(file);
    /* No node works for the pool yet, so none has begun to fetch. */
    assert_code(farpool_share_file(pool, path, &shared, &error), 0, &error);
    file = fopen(path, "r+");
    assert_non_null(file);
    for (int piece = 0; piece < BYTES / MB; piece++) {
        fseek(file, (long)piece * MB + 5, SEEK_SET);
        fputc('x', file);
    }
    fclose(file);
    free(bytes);
    assert_fails(submit(pool, &shared), "EPROGRAM", "was changed");
    fixture_close(pool);
}

static void a_worker_killed_meanwhile_is_done_without(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    uint64_t sum;
    farpool_shared shared = share(pool, &sum);
    farpool_job *job = submit(pool, &shared);

    (void)state;
    assert_int_equal(cluster_kill_worker(fixture_cluster(), 0), 0);
    assert_looked(job, sum);
    assert_int_equal(cluster_add_worker(fixture_cluster(), 2, NULL), 0);
    assert_looked(submit(pool, &shared), sum); /* the new one has it too */
    fixture_close(pool);
}

static void it_outlives_the_coordinator(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    uint64_t sum;
    farpool_shared shared = share(pool, &sum), other = share(pool, &sum);
    farpool_error error;

    (void)state;
    assert_looked(submit(pool, &shared), sum);
    assert_int_equal(cluster_kill_coordinator(fixture_cluster()), 0);
    assert_code(farpool_unshare(pool, &other, &error), 0, &error); /* nobody hears it */
    assert_int_equal(cluster_restart_coordinator(fixture_cluster()), 0);
    assert_looked(submit(pool, &shared), sum);
    assert_code(farpool_unshare(pool, &shared, &error), 0, &error);
    wait_until_free();
    fixture_close(pool);
}

static void it_goes_with_a_client_that_is_killed(void **state)
{
    int ends[2];
    char word;
    pid_t child;

    (void)state;
    assert_int_equal(pipe(ends), 0);
    child = fork();
    if (child == 0) {
        farpool_pool *pool = farpool_open(fixture_address(), NULL, NULL);
        uint64_t sum;
        farpool_shared shared = share(pool, &sum);

        assert_looked(submit(pool, &shared), sum);
        if (write(ends[1], "x", 1) == 1)
            pause();
        _exit(1);
    }
    assert_int_equal(read(ends[0], &word, 1), 1);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    wait_until_free();
    close(ends[0]);
    close(ends[1]);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(pool_and_memory_end_together),
    cmocka_unit_test(without_room_tasks_are_told),
    cmocka_unit_test(a_file_that_changes_is_refused),
    cmocka_unit_test(a_worker_killed_meanwhile_is_done_without),
    cmocka_unit_test(it_outlives_the_coordinator),
    cmocka_unit_test(it_goes_with_a_client_that_is_killed),
};

FIXTURE_MAIN(tests)
