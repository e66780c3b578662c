/* SPDX-License-Identifier: Apache-2.0
 *
 * kill_program.c: the client that tests/kill/run kills, or whose cluster it kills: maps
 * numbers of which it knows the squares, and looks at each result.
 *
 *   kill_program TASKS [PROGRAM FILE...]
 *       maps of TASKS tasks of about a millisecond, until something comes on standard
 *       input or that ends; PROGRAM runs in the processes, with the FILEs beside it
 * (default: this one).
 *
 * Says "open" when it has its pool, and at its end how many results were right. Exit
 * status 0 only if each task had one result, the right one. */
#include "farpool.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SPINS = 300000, LOSSES_MAX = 1000 };

static int64_t square(int64_t value)
{
    volatile int64_t sum = 0;

    for (int64_t i = 0; i < SPINS; i++)
        sum += i % (value + 1);
    return value * value + (sum < 0);
}
FARPOOL_FUNCTION(square, int64_t, int64_t)

static int fail(const char *what, const farpool_error *error)
{
    fprintf(stderr, "kill_program: %s: %s: %s\n", what, farpool_error_name(error->code),
            error->text);
    return 1;
}

static int map_once(farpool_pool *pool, int64_t tasks)
{
    farpool_error error;
    int64_t *inputs = calloc((size_t)tasks, sizeof *inputs);
    int64_t *outputs = malloc((size_t)tasks * sizeof *outputs);
    int wrong = 0;

    if (!inputs || !outputs)
        abort();
    for (int64_t i = 0; i < tasks; i++) {
        inputs[i] = i;
        outputs[i] = -1; /* no square */
    }
    if (farpool_map(pool, square, inputs, (size_t)tasks, outputs, &error) != 0)
        wrong = fail("map", &error);
    for (int64_t i = 0; i < tasks && !wrong; i++)
        if (outputs[i] != i * i) {
            fprintf(stderr, "kill_program: result %" PRId64 " is %" PRId64 "\n", i,
                    outputs[i]);
            wrong = 1;
        }
    free(inputs);
    free(outputs);
    return wrong;
}

static int is_over(void)
{
    struct pollfd input = {.fd = 0, .events = POLLIN};

    return poll(&input, 1, 0) > 0;
}

int main(int argc, char **argv)
{
    farpool_pool_options options = FARPOOL_POOL_OPTIONS;
    farpool_error error;
    int64_t maps = 0;
    int wrong = 0;

    farpool_init(&argc, &argv);
    if (argc < 2)
        return fprintf(stderr, "usage: kill_program TASKS [PROGRAM FILE...]\n"), 2;
    const int64_t tasks = atoll(argv[1]);
    options.losses_max = LOSSES_MAX;
    options.connect_timeout_ms = 60000;
    if (argc > 2) {
        options.program = argv[2];
        options.files = (const char *const *)(argv + 3);
    }
    farpool_pool *pool = farpool_open(NULL, &options, &error);
    if (!pool)
        return fail("open", &error);
    printf("open\n");
    fflush(stdout);
    do {
        wrong = map_once(pool, tasks);
        maps++;
    } while (!wrong && !is_over());
    farpool_close(pool, NULL);
    farpool_pool_free(pool);
    printf("%" PRId64 " results right\n", wrong ? 0 : maps * tasks);
    return wrong;
}
