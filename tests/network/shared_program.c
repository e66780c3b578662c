/* SPDX-License-Identifier: Apache-2.0
 *
 * shared_program.c: shares an input with a pool, step by step, as its standard input
 * says:
 *
 *     shared_program BYTES TASKS
 *
 * It opens a pool and has TASKS tasks run, so that every node has processes ("open");
 * then for each line it reads it takes the next step, and says what it has done: shares
 * BYTES bytes ("shared, in N ms"), has TASKS tasks look at them, in all of their pages
 * ("looked, N right, in N ms"), unshares them ("unshared"), and ends. */
#include "farpool.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096

static uint8_t byte_at(uint64_t place)
{
    return (uint8_t)((place / PAGE * 2654435761u) >> 13);
}

static int64_t nap(int64_t us)
{
    usleep((useconds_t)us);
    return us;
}
FARPOOL_FUNCTION(nap, int64_t, int64_t)

/* 1: a byte of each page is right. */
static int64_t look(farpool_shared shared)
{
    farpool_bytes bytes;
    farpool_error error;

    if (farpool_shared_get(&shared, &bytes, &error) != 0)
        return farpool_fail(farpool_task_current(), "%s", error.text);
    for (uint64_t i = 0; i < bytes.size; i += PAGE)
        if (((const uint8_t *)bytes.data)[i] != byte_at(i))
            return 0;
    return bytes.size == shared.size;
}
FARPOOL_FUNCTION(look, int64_t, farpool_shared)

static uint64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void check(int code, const farpool_error *error)
{
    if (code == 0)
        return;
    fprintf(stderr, "shared_program: %s: %s: %s\n", farpool_error_name(code), error->text,
            error->message);
    exit(1);
}

/* Says what was done, and waits for the word to go on. */
static void say(const char *text)
{
    char line[16];

    puts(text);
    fflush(stdout);
    if (fgets(line, sizeof line, stdin) == NULL)
        exit(0);
}

static void warm_up(farpool_pool *pool, size_t tasks)
{
    int64_t *inputs = calloc(tasks, sizeof *inputs), *outputs = calloc(tasks, 8);
    farpool_error error;

    for (size_t i = 0; i < tasks; i++)
        inputs[i] = 100000;
    check(farpool_map(pool, nap, inputs, tasks, outputs, &error), &error);
    free(inputs);
    free(outputs);
}

static farpool_shared share(farpool_pool *pool, size_t size)
{
    uint8_t *bytes = malloc(size);
    uint64_t began_ms = now_ms();
    farpool_shared shared;
    farpool_error error;
    char text[64];

    for (size_t i = 0; i < size; i++)
        bytes[i] = byte_at(i);
    began_ms = now_ms();
    check(farpool_share(pool, bytes, size, &shared, &error), &error);
    free(bytes);
    snprintf(text, sizeof text, "shared, in %" PRIu64 " ms", now_ms() - began_ms);
    say(text);
    return shared;
}

static void look_at(farpool_pool *pool, const farpool_shared *shared, size_t tasks)
{
    farpool_shared *inputs = calloc(tasks, sizeof *inputs);
    int64_t *outputs = calloc(tasks, sizeof *outputs), right = 0;
    const uint64_t began_ms = now_ms();
    farpool_error error;
    char text[80];

    for (size_t i = 0; i < tasks; i++)
        inputs[i] = *shared;
    check(farpool_map(pool, look, inputs, tasks, outputs, &error), &error);
    for (size_t i = 0; i < tasks; i++)
        right += outputs[i];
    free(inputs);
    free(outputs);
    snprintf(text, sizeof text, "looked, %" PRId64 " right, in %" PRIu64 " ms", right,
             now_ms() - began_ms);
    say(text);
}

int main(int argc, char **argv)
{
    farpool_error error;
    farpool_pool *pool;
    farpool_shared shared;

    if (farpool_init(&argc, &argv) != 0 || argc != 3)
        return 2;
    const size_t size = strtoull(argv[1], NULL, 10), tasks = strtoull(argv[2], NULL, 10);
    pool = farpool_open(NULL, NULL, &error);
    check(pool != NULL ? 0 : error.code, &error);
    warm_up(pool, tasks);
    say("open");
    shared = share(pool, size);
    look_at(pool, &shared, tasks);
    check(farpool_unshare(pool, &shared, &error), &error);
    say("unshared");
    check(farpool_close(pool, &error), &error);
    check(farpool_join(pool, 10000, &error), &error);
    farpool_pool_free(pool);
    return 0;
}
