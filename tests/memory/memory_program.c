/* SPDX-License-Identifier: Apache-2.0
 *
 * memory_program.c: the clients of tests/memory/run. On standard output it says each
 * thing when it has come to it, so that the test can look at the memory of daemons at
 * that instant, and go on by a line on standard input.
 *
 *   stream TASKS [stall AFTER]   imap of TASKS tasks of 1 MiB in and out; with stall:
 * reads AFTER results, then none before a line comes small TASKS                  one map
 * of TASKS tasks of a tenth of a millisecond jobs COUNT, pools COUNT      so many, one
 * after the other; waits for a line in the middle and at the end fill COUNT one map of
 * COUNT tasks of 1 MiB in and out print COUNT SLOW             COUNT tasks of 1 MiB of
 * printed lines each; SLOW: the one who is told waits for a line when the first comes
 *
 * Each result is looked at. Exit status 0 only if all were there and right. */
#include "farpool.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MIB = 1 << 20, SPINS = 8000, LOSSES_MAX = 100 };

/* The input with each byte one higher: a result that is another task's does not pass. */
static int step(farpool_task *task)
{
    size_t size;
    const uint8_t *input = farpool_task_input(task, &size);
    uint8_t *output = farpool_task_output(task, size);

    for (size_t i = 0; output != NULL && i < size; i++)
        output[i] = (uint8_t)(input[i] + 1);
    return 0;
}
FARPOOL_BYTES_FUNCTION(step)

static int64_t square(int64_t value)
{
    volatile int64_t sum = 0;

    for (int64_t i = 0; i < SPINS; i++)
        sum += i % (value + 1);
    return value * value + (sum < 0);
}
FARPOOL_FUNCTION(square, int64_t, int64_t)

static int64_t print(int64_t lines)
{
    for (int64_t i = 0; i < lines; i++)
        printf("%063" PRId64 "\n", i);
    return lines;
}
FARPOOL_FUNCTION(print, int64_t, int64_t)

static farpool_pool *pool;
static uint8_t large[MIB];

static int fail(const char *what, const farpool_error *error)
{
    fprintf(stderr, "memory_program: %s: %s: %s\n", what, farpool_error_name(error->code),
            error->text);
    return 1;
}

static void say(const char *text)
{
    puts(text);
    fflush(stdout);
}

static void await_line(void)
{
    char line[16];

    if (fgets(line, sizeof line, stdin) == NULL)
        exit(1);
}

static double now_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* ------------------------------------------------------------------- 1 MiB each */

struct stream {
    uint64_t next, count;
};

static void fill(uint8_t *bytes, uint64_t index)
{
    memset(bytes, (int)(index % 251), MIB);
    memcpy(bytes, &index, sizeof index);
}

static int give(void *user, farpool_bytes *ret_item, char message[256])
{
    struct stream *stream = user;

    (void)message;
    if (stream->next == stream->count)
        return FARPOOL_END;
    fill(large, stream->next++);
    *ret_item = (farpool_bytes){large, sizeof large};
    return 0;
}

static bool right(const farpool_bytes *output, uint64_t index)
{
    static uint8_t wanted[MIB];

    fill(wanted, index);
    for (size_t i = 0; i < MIB; i++)
        wanted[i]++;
    return output->size == MIB && memcmp(output->data, wanted, MIB) == 0;
}

static int stream(uint64_t count, uint64_t stall_after)
{
    struct stream input = {0, count};
    farpool_error error;
    farpool_bytes output;
    uint64_t index, read = 0;
    const double start = now_s();
    farpool_iterator *results =
        farpool_imap(pool, FARPOOL_REF(step), give, &input, NULL, &error);
    int code;

    if (results == NULL)
        return fail("imap", &error);
    while ((code = farpool_next(results, -1, &output, &index, &error)) == 0) {
        if (index != read || !right(&output, index)) {
            fprintf(stderr, "memory_program: result %" PRIu64 " is wrong\n", index);
            return 1;
        }
        if (++read == stall_after) {
            say("stalled");
            await_line();
        }
    }
    if (code != FARPOOL_END)
        return fail("next", &error);
    farpool_iterator_free(results);
    printf("read %" PRIu64 " seconds %.2f\n", read, now_s() - start);
    return read != count;
}

static int map_large(uint64_t count)
{
    uint8_t *inputs = malloc(count * MIB);
    farpool_bytes *items = calloc(count, sizeof *items);
    farpool_error error;
    int wrong = inputs == NULL || items == NULL;

    for (uint64_t i = 0; i < count && !wrong; i++) {
        fill(inputs + i * MIB, i);
        items[i] = (farpool_bytes){inputs + i * MIB, MIB};
    }
    farpool_job *job = wrong ? NULL
                             : farpool_map_bytes_async(pool, FARPOOL_REF(step), items,
                                                       count, NULL, &error);
    if (job == NULL)
        return fail("map", &error);
    say("sent");
    if (farpool_job_get(job, -1, &error) != 0)
        return fail("get", &error);
    for (uint64_t i = 0; i < count && !wrong; i++) {
        farpool_bytes output;
        output.data = farpool_job_output(job, i, &output.size);
        wrong = !right(&output, i);
    }
    farpool_job_free(job);
    free(inputs);
    free(items);
    return wrong;
}

/* ----------------------------------------------------------------------- small */

static int map_small(size_t count)
{
    int64_t *inputs = calloc(count, sizeof *inputs);
    int64_t *outputs = calloc(count, sizeof *outputs);
    farpool_error error;
    int wrong = inputs == NULL || outputs == NULL;

    for (size_t i = 0; i < count && !wrong; i++)
        inputs[i] = (int64_t)i;
    if (!wrong && farpool_map(pool, square, inputs, count, outputs, &error) != 0)
        wrong = fail("map", &error);
    for (size_t i = 0; i < count && !wrong; i++)
        wrong = outputs[i] != inputs[i] * inputs[i];
    free(inputs);
    free(outputs);
    return wrong;
}

static int jobs(uint64_t count)
{
    int wrong = 0;

    for (uint64_t i = 0; i < count && !wrong; i++) {
        wrong = map_small(1);
        if (i == count / 2) {
            say("half");
            await_line();
        }
    }
    return wrong;
}

/* A pool of one process each; every tenth one has work. */
static int pools(uint64_t count)
{
    farpool_pool_options options = FARPOOL_POOL_OPTIONS;
    farpool_error error;
    int wrong = 0;

    options.processes = 1;
    for (uint64_t i = 0; i < count && !wrong; i++) {
        pool = farpool_open(NULL, &options, &error);
        if (pool == NULL)
            return fail("open", &error);
        if (i % 10 == 0)
            wrong = map_small(4);
        farpool_close(pool, NULL);
        farpool_pool_free(pool);
        if (i == count / 2) {
            say("half");
            await_line();
        }
    }
    if (!wrong)
        say("right");
    await_line();
    return wrong;
}

/* --------------------------------------------------------------------- printed */

static uint64_t heard, left_out;

static void slow_reader(void *user, const farpool_output *output)
{
    (void)user;
    if (output->text != NULL && heard++ == 0) {
        say("stalled");
        await_line();
    }
    left_out += output->left_out;
}

static void fast_reader(void *user, const farpool_output *output)
{
    (void)user;
    heard += output->text != NULL;
    left_out += output->left_out;
}

static int map_printing(size_t count)
{
    int64_t *inputs = calloc(count, sizeof *inputs);
    int64_t *outputs = calloc(count, sizeof *outputs);
    farpool_error error;
    int wrong = inputs == NULL || outputs == NULL;

    for (size_t i = 0; i < count && !wrong; i++)
        inputs[i] = MIB / 64;
    if (!wrong && farpool_map(pool, print, inputs, count, outputs, &error) != 0)
        wrong = fail("map", &error);
    for (size_t i = 0; i < count && !wrong; i++)
        wrong = outputs[i] != MIB / 64;
    printf("heard %" PRIu64 " left out %" PRIu64 "\n", heard, left_out);
    free(inputs);
    free(outputs);
    return wrong;
}

/* ------------------------------------------------------------------------ main */

static int run(const char *what, uint64_t count, uint64_t after)
{
    if (strcmp(what, "stream") == 0)
        return stream(count, after);
    if (strcmp(what, "fill") == 0)
        return map_large(count);
    if (strcmp(what, "jobs") == 0)
        return jobs(count);
    if (strcmp(what, "print") == 0)
        return map_printing(count);
    const double start = now_s();
    const int wrong = map_small(count);
    printf("seconds %.2f\n", now_s() - start);
    return wrong;
}

int main(int argc, char **argv)
{
    farpool_pool_options options = FARPOOL_POOL_OPTIONS;
    farpool_error error;

    farpool_init(&argc, &argv);
    if (argc < 3)
        return fprintf(stderr, "usage: memory_program WHAT COUNT [stall AFTER]\n"), 2;
    const char *what = argv[1];
    const uint64_t count = strtoull(argv[2], NULL, 10);
    const bool stalls = argc == 5;
    if (strcmp(what, "pools") == 0)
        return pools(count);
    if (strcmp(what, "print") == 0)
        options.on_output = stalls ? slow_reader : fast_reader;
    options.losses_max = LOSSES_MAX;
    pool = farpool_open(NULL, &options, &error);
    if (pool == NULL)
        return fail("open", &error);
    say("open");
    const int wrong = run(what, count, stalls ? strtoull(argv[4], NULL, 10) : 0);
    if (!wrong)
        say("right");
    await_line();
    farpool_close(pool, NULL);
    farpool_pool_free(pool);
    return wrong;
}
