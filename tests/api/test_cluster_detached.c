/* SPDX-License-Identifier: Apache-2.0
 *
 * Detached jobs by the API, on daemons of its own: submitted, gone on with after the
 * coordinator was killed, collected in order with the failures where they were; what
 * workers run meanwhile is not run again, and not at all of a job that must not. */
#include "fixture.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

typedef int64_t i64;

static i64 negate(i64 value)
{
    if (value == 13)
        farpool_fail(farpool_task_current(), "no thirteen");
    return -value;
}
FARPOOL_FUNCTION(negate, i64, i64)

/* Says that it ran, in a file of records that is as long as tasks have run. */
static i64 record(i64 value)
{
    const char *path = getenv("FARPOOL_TEST_RECORD");
    const int fd = path != NULL ? open(path, O_WRONLY | O_APPEND | O_CLOEXEC) : -1;
    if (fd < 0 || write(fd, &value, sizeof value) != sizeof value)
        farpool_fail(farpool_task_current(), "no record");
    const struct timespec while_killed = {.tv_nsec = 5000000};
    nanosleep(&while_killed, NULL);
    if (fd >= 0)
        close(fd);
    return -value;
}
FARPOOL_FUNCTION(record, i64, i64)

struct inputs {
    i64 next, end;
    i64 value;
};

static int next_input(void *user, farpool_bytes *ret_item, char message[256])
{
    struct inputs *inputs = user;
    (void)message;
    if (inputs->next == inputs->end)
        return FARPOOL_END;
    inputs->value = inputs->next++;
    *ret_item = (farpool_bytes){&inputs->value, sizeof inputs->value};
    return 0;
}

static int bad_input(void *user, farpool_bytes *ret_item, char message[256])
{
    if (user != NULL) {
        snprintf(message, 256, "the well is dry");
        return FARPOOL_EINPUT;
    }
    *ret_item = (farpool_bytes){"abc", 3};
    return 0;
}

static struct cluster *cluster;

static char folder[] = "/tmp/farpool-detached-XXXXXX";

static void start(int workers)
{
    static const char *const arguments[] = {"--settle-ms", "2000", "--state", folder,
                                            NULL}; /* also of restarts */
    memcpy(folder + sizeof folder - 7, "XXXXXX", 6);
    assert_non_null(mkdtemp(folder));
    assert_int_equal(cluster_start_with(workers, 2, arguments, NULL, &cluster), 0);
}

static int stop(void **state)
{
    (void)state;
    char command[80];
    cluster_stop(&cluster);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static void check_all(farpool_detached *job, uint64_t count)
{
    farpool_error error;
    farpool_bytes output;
    uint64_t index = 0, expected = 0;
    int code;
    while ((code = farpool_detached_next(job, DEADLINE_MS, &output, &index, &error)) !=
           FARPOOL_END) {
        assert_int_equal(index, expected++);
        if (index == 13) {
            assert_code(code, FARPOOL_EFUNCTION, &error);
            assert_string_equal(error.message, "no thirteen");
            assert_int_equal(error.index, 13);
            continue;
        }
        assert_code(code, 0, &error);
        assert_int_equal(output.size, sizeof(i64));
        i64 value;
        memcpy(&value, output.data, sizeof value);
        assert_int_equal(value, -(i64)index);
    }
    assert_int_equal(expected, count);
}

static void test_survives(void **state)
{
    (void)state;
    farpool_error error;
    farpool_detached_status status;
    struct inputs inputs = {.end = 20000};
    start(2);
    const char *address = cluster_address(cluster);
    assert_code(farpool_submit(address, "numbers", FARPOOL_REF(negate), next_input,
                               &inputs, NULL, &error),
                0, &error);
    inputs.next = 0;
    assert_code(farpool_submit(address, "numbers", FARPOOL_REF(negate), next_input,
                               &inputs, NULL, &error),
                FARPOOL_EEXISTS, &error);
    assert_int_equal(cluster_kill_coordinator(cluster), 0);
    assert_int_equal(cluster_kill_worker(cluster, 1), 0);
    assert_int_equal(cluster_restart_coordinator(cluster), 0);
    farpool_detached *job = farpool_attach(address, "numbers", DEADLINE_MS, &error);
    assert_non_null(job);
    check_all(job, 20000);
    assert_code(farpool_detached_wait(job, DEADLINE_MS, &error), 0, &error);
    assert_code(farpool_detached_get_status(job, DEADLINE_MS, &status, &error), 0,
                &error);
    assert_string_equal(status.state, "ended");
    assert_string_equal(status.function, "negate");
    assert_int_equal(status.done, 19999);
    assert_int_equal(status.failed, 1);
    assert_code(farpool_detached_forget(job, DEADLINE_MS, &error), 0, &error);
    assert_code(farpool_detached_wait(job, DEADLINE_MS, &error), FARPOOL_ENOJOB, &error);
    farpool_detached_free(job);
}

#define RECORDS 600

/* How often each has run; how many of them more than once. */
static uint64_t read_records(const char *path, uint8_t times[RECORDS])
{
    i64 value;
    uint64_t again = 0;
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    memset(times, 0, RECORDS);
    while (fread(&value, sizeof value, 1, file) == 1)
        again += ++times[value] == 2;
    fclose(file);
    return again;
}

/* Kills the coordinator when some have run, and again when more have. */
static void restart_twice(const char *path)
{
    struct stat about;
    for (int i = 1; i <= 2; i++) {
        const uint64_t end = fixture_now_ms() + DEADLINE_MS;
        while (stat(path, &about) == 0 &&
               about.st_size < i * RECORDS / 4 * (off_t)sizeof(i64))
            assert_true(fixture_now_ms() < end);
        assert_int_equal(cluster_kill_coordinator(cluster), 0);
        assert_int_equal(cluster_restart_coordinator(cluster), 0);
    }
}

static void run_recorded(int64_t losses_max, uint8_t times[RECORDS],
                         uint8_t done[RECORDS], uint64_t *ret_again)
{
    char path[64];
    farpool_error error;
    farpool_bytes output;
    uint64_t index = 0, expected = 0;
    int code;
    struct inputs inputs = {.end = RECORDS};
    farpool_pool_options options = FARPOOL_POOL_OPTIONS;
    options.losses_max = losses_max;
    snprintf(path, sizeof path, "/tmp/farpool-record-%d", (int)getpid());
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fclose(file);
    setenv("FARPOOL_TEST_RECORD", path, 1); /* the workers', and so the processes' */
    start(2);
    const char *address = cluster_address(cluster);
    assert_code(farpool_submit(address, "records", FARPOOL_REF(record), next_input,
                               &inputs, &options, &error),
                0, &error);
    restart_twice(path);
    farpool_detached *job = farpool_attach(address, "records", DEADLINE_MS, &error);
    assert_non_null(job);
    memset(done, 0, RECORDS);
    while ((code = farpool_detached_next(job, DEADLINE_MS, &output, &index, &error)) !=
           FARPOOL_END) {
        assert_int_equal(index, expected++);
        done[index] = code == 0;
        if (code != 0) {
            assert_code(code, FARPOOL_ENODELOST, &error);
            assert_text(&error, "it may have run");
        }
    }
    assert_int_equal(expected, RECORDS);
    *ret_again = read_records(path, times);
    farpool_detached_free(job);
    unlink(path);
}

/* Workers hold what they run, and its results, while the coordinator is away. */
static void test_goes_on(void **state)
{
    (void)state;
    uint8_t times[RECORDS], done[RECORDS];
    uint64_t again;
    run_recorded(3, times, done, &again);
    for (int i = 0; i < RECORDS; i++)
        assert_true(done[i] && times[i] >= 1);
    assert_int_equal(again, 0);
}

static void test_at_most_once(void **state)
{
    (void)state;
    uint8_t times[RECORDS], done[RECORDS];
    uint64_t again;
    int ended = 0;
    run_recorded(1, times, done, &again);
    assert_int_equal(again, 0);
    for (int i = 0; i < RECORDS; i++) {
        assert_true(!done[i] || times[i] == 1);
        ended += done[i];
    }
    assert_true(ended > RECORDS / 4); /* what no worker had is lost, and no more */
}

static void test_refusals(void **state)
{
    (void)state;
    farpool_error error;
    struct inputs inputs = {.end = 3};
    farpool_pool_options options = FARPOOL_POOL_OPTIONS;
    size_t count = 9;
    farpool_detached_status *list = NULL;
    start(0);
    const char *address = cluster_address(cluster);
#define SUBMIT(input, user, options)                                                     \
    farpool_submit(address, "a", FARPOOL_REF(negate), input, user, options, &error)
    assert_code(SUBMIT(bad_input, NULL, NULL), FARPOOL_EINVAL, &error);
    assert_text(&error, "input 0 has 3 bytes, but negate takes 8");
    assert_code(farpool_submit(address, "b", FARPOOL_REF(negate), bad_input, &inputs,
                               NULL, &error),
                FARPOOL_EINPUT, &error);
    assert_text(&error, "the well is dry");
    assert_code(farpool_submit(address, "b", FARPOOL_REF(negate), bad_input, &inputs,
                               NULL, &error), /* the name was not left behind */
                FARPOOL_EINPUT, &error);
    options.losses_max = 0;
    assert_code(SUBMIT(next_input, &inputs, &options), FARPOOL_EINVAL, &error);
    assert_text(&error, "losses_max");
    assert_null(farpool_attach(address, "nobody", DEADLINE_MS, &error));
    assert_int_equal(error.code, FARPOOL_ENOJOB);
    assert_code(farpool_submit(address, "c", FARPOOL_REF(negate), next_input, &inputs,
                               NULL, &error),
                0, &error);
    farpool_detached *job = farpool_attach(address, "c", DEADLINE_MS, &error);
    assert_non_null(job);
    assert_code(farpool_detached_wait(job, 0, &error), FARPOOL_ETIMEDOUT, &error);
    assert_code(farpool_detached_next(job, 300, NULL, NULL, &error), FARPOOL_ETIMEDOUT,
                &error);
    assert_code(farpool_detached_forget(job, DEADLINE_MS, &error), FARPOOL_EOPEN, &error);
    uint64_t tasks = 0;
    assert_code(farpool_detached_cancel(job, DEADLINE_MS, &tasks, &error), 0, &error);
    assert_int_equal(tasks, 3);
    assert_code(farpool_detached_next(job, DEADLINE_MS, NULL, NULL, &error),
                FARPOOL_ECANCELLED, &error);
    assert_code(farpool_detached_list(address, DEADLINE_MS, &list, &count, &error), 0,
                &error);
    assert_true(count >= 1 && list[count - 1].over);
    farpool_detached_list_free(list);
    farpool_detached_free(job);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_survives, stop),
        cmocka_unit_test_teardown(test_goes_on, stop),
        cmocka_unit_test_teardown(test_at_most_once, stop),
        cmocka_unit_test_teardown(test_refusals, stop),
    };
    if (farpool_init(&argc, &argv) != 0)
        return 2;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
