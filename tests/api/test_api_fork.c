/* SPDX-License-Identifier: Apache-2.0
 *
 * test_api_fork.c: a child made by fork: it cannot use the pool, and does it no harm. */
#include "tests/api/fixture.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int64_t square(int64_t value)
{
    return value * value;
}
FARPOOL_FUNCTION(square, int64_t, int64_t)

static int endless(void *user, farpool_bytes *ret_item, char message[256])
{
    static int64_t value = 3;

    (void)user;
    (void)message;
    *ret_item = (farpool_bytes){&value, sizeof value};
    return 0;
}

#define EXPECT(condition)                                                                \
    do {                                                                                 \
        if (!(condition))                                                                \
            return __LINE__;                                                             \
    } while (0)

/* In the child; 0 or the line that was wrong. */
static int use_all(farpool_pool *pool, farpool_job *job, farpool_iterator *iterator)
{
    farpool_pool_info info;
    farpool_progress progress;
    farpool_bytes bytes;
    farpool_error error;
    int64_t output;

    EXPECT(farpool_apply(pool, square, 2, &output, &error) == FARPOOL_EFORK);
    EXPECT(strstr(error.text, "map: this pool was opened by process ") != NULL);
    EXPECT(farpool_apply_async(pool, square, 2, NULL, &error) == NULL);
    EXPECT(error.code == FARPOOL_EFORK);
    EXPECT(farpool_imap(pool, FARPOOL_REF(square), endless, NULL, NULL, &error) == NULL);
    EXPECT(error.code == FARPOOL_EFORK);
    EXPECT(farpool_job_get(job, 0, &error) == FARPOOL_EFORK);
    EXPECT(farpool_job_wait(job, 0) == FARPOOL_EFORK);
    EXPECT(!farpool_job_ready(job));
    EXPECT(farpool_job_cancel(job, true) == FARPOOL_EFORK);
    EXPECT(farpool_job_progress(job, &progress) < 0);
    EXPECT(farpool_next(iterator, 0, &bytes, NULL, &error) == FARPOOL_EFORK);
    EXPECT(farpool_close(pool, &error) == FARPOOL_EFORK);
    EXPECT(farpool_terminate(pool, &error) == FARPOOL_EFORK);
    EXPECT(farpool_join(pool, 0, &error) == FARPOOL_EFORK);
    EXPECT(farpool_pool_get_info(pool, &info, &error) == FARPOOL_EFORK);
    farpool_iterator_free(iterator);
    farpool_job_free(job);
    farpool_pool_free(pool);
    return 0;
}

static void child_cannot_use_the_pool_and_harms_nothing(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    farpool_error error;
    farpool_job *job = farpool_apply_async(pool, square, 7, NULL, &error);
    farpool_iterator *iterator =
        farpool_imap(pool, FARPOOL_REF(square), endless, NULL, NULL, &error);
    int status;
    int64_t output;
    farpool_bytes bytes;
    pid_t child;

    (void)state;
    assert_code(farpool_job_get(job, DEADLINE_MS, &error), 0, &error);
    child = fork();
    if (child == 0)
        _exit(use_all(pool, job, iterator) % 256);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_code(farpool_apply(pool, square, 9, &output, &error), 0, &error);
    assert_int_equal(output, 81);
    assert_code(farpool_next(iterator, DEADLINE_MS, &bytes, NULL, &error), 0, &error);
    farpool_iterator_free(iterator);
    farpool_job_free(job);
    fixture_close(pool);
}

#ifdef __SANITIZE_ADDRESS__
static bool sleeps(const char *thread)
{
    char path[300], text[256];
    size_t size = 0;

    snprintf(path, sizeof path, "/proc/self/task/%s/stat", thread);
    FILE *file = fopen(path, "r");
    if (file != NULL) {
        size = fread(text, 1, sizeof text - 1, file);
        fclose(file);
    }
    text[size] = '\0';
    const char *name_end = strrchr(text, ')');
    return name_end == NULL || strncmp(name_end, ") S", 3) == 0 ||
           atoi(thread) == (int)getpid();
}

/* A sanitizer's allocator may be locked for ever in a child, if another thread was in it.
 */
static void wait_until_others_sleep(void)
{
    bool all = false;

    while (!all) {
        DIR *threads = opendir("/proc/self/task");
        const struct dirent *thread;

        assert_non_null(threads);
        all = true;
        while ((thread = readdir(threads)) != NULL)
            all = all && (thread->d_name[0] == '.' || sleeps(thread->d_name));
        closedir(threads);
    }
}
#endif

static void child_may_open_a_pool_of_its_own(void **state)
{
    farpool_pool_options options = FARPOOL_POOL_OPTIONS;
    farpool_error error;
    int64_t one;
    farpool_pool *pool;
    int status;
    pid_t child;

    (void)state;
#ifdef __SANITIZE_THREAD__
    skip(); /* it takes no new threads after a fork */
#endif
    options.processes = 1;
    pool = fixture_open(&options);
    assert_code(farpool_apply(pool, square, 1, &one, &error), 0, &error);
#ifdef __SANITIZE_ADDRESS__
    wait_until_others_sleep();
#endif
    child = fork();
    if (child == 0) {
        farpool_pool *own = farpool_open(fixture_address(), NULL, NULL);
        int64_t output = 0;

        if (own == NULL || farpool_apply(own, square, 4, &output, NULL) != 0 ||
            output != 16)
            _exit(1);
        farpool_pool_free(own);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    fixture_close(pool);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(child_cannot_use_the_pool_and_harms_nothing),
    cmocka_unit_test(child_may_open_a_pool_of_its_own),
};
FIXTURE_MAIN(tests)
