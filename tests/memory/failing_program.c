/* SPDX-License-Identifier: Apache-2.0
 *
 * failing_program.c: a client that does a little of everything while allocations fail, in
 * a daemon or in one of its processes: with MEMORY_FAIL_PROCESS=N, the N-th allocation of
 * the process that can make the folder MEMORY_FAIL_MARK first.
 *
 *   failing_program [NAME]     NAME: leaves a job of that name, too
 *
 * Exit status 0: every result was right; 3: some call or task failed, and told a lack of
 * memory; 1: anything else, which is told. */
#include "common/base/mem.h"
#include "farpool.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { TASKS = 40, LARGE = 20, BYTES = 40000, LOSSES_MAX = 100, WAIT_MS = 60000 };
enum { RIGHT = 0, WRONG = 1, NO_MEMORY = 3 };

static int told; /* lacks of memory */

static int64_t square(int64_t value)
{
    printf("the square of %" PRId64 "\n", value);
    return value * value;
}
FARPOOL_FUNCTION(square, int64_t, int64_t)

static int reverse(farpool_task *task)
{
    size_t size;
    const uint8_t *input = farpool_task_input(task, &size);
    uint8_t *output = farpool_task_output(task, size);

    for (size_t i = 0; output != NULL && i < size; i++)
        output[i] = input[size - 1 - i];
    return 0;
}
FARPOOL_BYTES_FUNCTION(reverse)

static int refuse(farpool_task *task)
{
    return farpool_fail(task, "as it should");
}
FARPOOL_BYTES_FUNCTION(refuse)

/* Whether a failure speaks of memory; else the test has failed. */
static void check(const char *what, const farpool_error *error)
{
    if (error->code == FARPOOL_ENOMEM || strstr(error->text, "memory") != NULL ||
        strstr(error->message, "memory") != NULL) {
        printf("told: %s: %s\n", what, error->text);
        told++;
        return;
    }
    fprintf(stderr, "%s: %s: %s\n", what, farpool_error_name(error->code), error->text);
    exit(WRONG);
}

static void wrong(const char *what, uint64_t index)
{
    fprintf(stderr, "%s: result %" PRIu64 " is wrong\n", what, index);
    exit(WRONG);
}

/* Opens the pool that it runs in, and maps in there. */
static int64_t nest(int64_t value)
{
    farpool_error error;
    int64_t inputs[4], outputs[4] = {0}, sum = 0;
    farpool_pool *pool = farpool_open(NULL, NULL, &error);

    for (int i = 0; i < 4; i++)
        inputs[i] = value + i;
    if (pool == NULL || farpool_map(pool, square, inputs, 4, outputs, &error) != 0)
        farpool_fail(farpool_task_current(), "nested: %s: %s",
                     farpool_error_name(error.code), error.text);
    for (int i = 0; i < 4; i++)
        sum += outputs[i];
    farpool_pool_free(pool);
    return sum;
}
FARPOOL_FUNCTION(nest, int64_t, int64_t)

static void map_squares(farpool_pool *pool)
{
    farpool_error error;
    int64_t inputs[TASKS], outputs[TASKS];

    for (int i = 0; i < TASKS; i++)
        inputs[i] = i;
    if (farpool_map(pool, square, inputs, TASKS, outputs, &error) != 0) {
        check("map", &error);
        return;
    }
    for (int i = 0; i < TASKS; i++)
        if (outputs[i] != (int64_t)i * i)
            wrong("map", (uint64_t)i);
}

static void map_nested(farpool_pool *pool)
{
    farpool_error error;
    int64_t output = 0;

    if (farpool_apply(pool, nest, 3, &output, &error) != 0)
        check("nested map", &error);
    else if (output != 9 + 16 + 25 + 36)
        wrong("nested map", 0);
}

struct feed {
    uint64_t next;
    uint8_t bytes[BYTES];
};

static int give(void *user, farpool_bytes *ret_item, char message[256])
{
    struct feed *feed = user;

    (void)message;
    if (feed->next == LARGE)
        return FARPOOL_END;
    for (size_t i = 0; i < BYTES; i++)
        feed->bytes[i] = (uint8_t)(i + feed->next);
    feed->next++;
    *ret_item = (farpool_bytes){feed->bytes, BYTES};
    return 0;
}

static void check_reversed(const char *what, uint64_t index, const farpool_bytes *output)
{
    const uint8_t *bytes = output->data;

    if (output->size != BYTES)
        wrong(what, index);
    for (size_t i = 0; i < BYTES; i++)
        if (bytes[i] != (uint8_t)(BYTES - 1 - i + index))
            wrong(what, index);
}

static void iterate(farpool_pool *pool)
{
    static struct feed feed;
    farpool_error error;
    farpool_bytes output;
    uint64_t index, count = 0;
    int code;
    farpool_iterator *results =
        farpool_imap(pool, FARPOOL_REF(reverse), give, &feed, NULL, &error);

    if (results == NULL) {
        check("imap", &error);
        return;
    }
    const int before = told;
    while ((code = farpool_next(results, WAIT_MS, &output, &index, &error)) !=
           FARPOOL_END) {
        if (code == FARPOOL_ETIMEDOUT)
            wrong("imap waits", count);
        if (code != 0)
            check("imap", &error);
        else
            check_reversed("imap", index, &output);
        if (++count > LARGE)
            break;
    }
    if (count != LARGE && told == before)
        wrong("imap ends early", count);
    farpool_iterator_free(results);
}

static void apply_refused(farpool_pool *pool)
{
    farpool_error error;
    farpool_job *job = NULL;
    const int code = farpool_apply_bytes(pool, FARPOOL_REF(refuse), "x", 1, &job, &error);

    if (code == 0)
        wrong("a refusal", 0);
    if (code != FARPOOL_EFUNCTION || strcmp(error.message, "as it should") != 0)
        check("a refusal", &error);
    farpool_job_free(job);
}

/* Leaves a job, waits for it, reads its results and forgets it. */
static void leave_job(const char *name)
{
    static struct feed feed;
    farpool_error error;
    farpool_bytes output;
    uint64_t index, count = 0;
    int code;

    if (farpool_submit(NULL, name, FARPOOL_REF(reverse), give, &feed, NULL, &error) !=
        0) {
        check("submit", &error);
        return;
    }
    farpool_detached *job = farpool_attach(NULL, name, WAIT_MS, &error);
    if (job == NULL) {
        check("attach", &error);
        return;
    }
    if (farpool_detached_wait(job, WAIT_MS, &error) != 0)
        check("wait", &error);
    while ((code = farpool_detached_next(job, WAIT_MS, &output, &index, &error)) == 0) {
        check_reversed("detached", index, &output);
        count++;
    }
    if (code != FARPOOL_END)
        check("results", &error);
    else if (count != LARGE)
        wrong("results end early", count);
    /* ENOJOB: the connection broke, and it was forgotten when it was asked first. */
    code = farpool_detached_forget(job, WAIT_MS, &error);
    if (code != 0 && code != FARPOOL_ENOJOB)
        check("forget", &error);
    farpool_detached_free(job);
}

static int use_pool(void)
{
    farpool_pool_options options = FARPOOL_POOL_OPTIONS;
    farpool_error error;

    options.losses_max = LOSSES_MAX;
    options.connect_timeout_ms = WAIT_MS;
    farpool_pool *pool = farpool_open(NULL, &options, &error);
    if (pool == NULL) {
        check("open", &error);
        return NO_MEMORY;
    }
    map_squares(pool);
    iterate(pool);
    apply_refused(pool);
    map_nested(pool);
    farpool_close(pool, NULL);
    if (farpool_join(pool, WAIT_MS, &error) != 0 && told == 0)
        check("join", &error);
    farpool_pool_free(pool);
    return told > 0 ? NO_MEMORY : RIGHT;
}

/* How many allocations this process made, for who makes them fail. */
static void note_count(void)
{
    char path[512];
    snprintf(path, sizeof path, "%s/count", getenv("MEMORY_FAIL_MARK"));
    FILE *file = fopen(path, "w");

    if (file == NULL || fprintf(file, "allocations=%zu\n", mem_fail_after(0)) < 0 ||
        fclose(file) != 0)
        abort();
}

int main(int argc, char **argv)
{
    const char *n = getenv("MEMORY_FAIL_PROCESS"), *mark = getenv("MEMORY_FAIL_MARK");
    const bool process = getenv("FARPOOL_PROCESS") != NULL;

    if (process && n != NULL && mark != NULL && mkdir(mark, 0700) == 0) {
        atexit(note_count);
        mem_fail_after((size_t)atoll(n));
    }
    farpool_init(&argc, &argv);
    const int result = use_pool();
    if (argc > 1)
        leave_job(argv[1]);
    return told > 0 ? NO_MEMORY : result;
}
