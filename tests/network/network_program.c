/* SPDX-License-Identifier: Apache-2.0
 *
 * network_program.c: the client whose network the tests here break: maps numbers of which
 * it knows the squares, and looks at each result.
 *
 *   network_program TASKS MICROSECONDS [MAPS]
 *       MAPS times (default: until something comes on standard input, or that ends) TASKS
 *       tasks that sleep so long, by turns with farpool_map and farpool_imap_unordered,
 *       which would show a result that came twice
 *
 * Says "open" when it has its pool, and a line a map. Exit status 0 only if each task had
 * one result, the right one. */
#include "farpool.h"

#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { NOT_A_SQUARE = -1 };

typedef struct {
    int64_t value, sleep_us;
} question;

typedef struct {
    int64_t square;
    int64_t slept_ns; /* more than was asked for, the more the busier the machine is */
} answer;

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static answer square(question asked)
{
    const int64_t began_ns = now_ns();
    const struct timespec pause = {.tv_sec = asked.sleep_us / 1000000,
                                   .tv_nsec = asked.sleep_us % 1000000 * 1000};

    nanosleep(&pause, NULL);
    return (answer){asked.value * asked.value, now_ns() - began_ns};
}
FARPOOL_FUNCTION(square, answer, question)

struct numbers {
    int64_t tasks, sleep_us, given;
    question last; /* given */
};

static int fail(const char *what, const farpool_error *error)
{
    fprintf(stderr, "network_program: %s: %s: %s\n", what,
            farpool_error_name(error->code), error->text);
    return 1;
}

static int complain(int64_t task, const char *what, int64_t got)
{
    fprintf(stderr, "network_program: task %" PRId64 ": %s %" PRId64 "\n", task, what,
            got);
    return 1;
}

static int map(farpool_pool *pool, const struct numbers *numbers, answer *outputs)
{
    farpool_error error;
    const size_t tasks = (size_t)numbers->tasks;
    question *inputs = calloc(tasks, sizeof *inputs);
    int wrong = 0;

    if (!inputs)
        abort();
    for (int64_t i = 0; i < numbers->tasks; i++)
        inputs[i] = (question){i, numbers->sleep_us};
    if (farpool_map(pool, square, inputs, tasks, outputs, &error) != 0)
        wrong = fail("map", &error);
    free(inputs);
    return wrong;
}

static int next_number(void *user, farpool_bytes *ret_item, char message[256])
{
    struct numbers *numbers = user;

    (void)message;
    if (numbers->given == numbers->tasks)
        return FARPOOL_END;
    numbers->last = (question){numbers->given++, numbers->sleep_us};
    *ret_item = (farpool_bytes){&numbers->last, sizeof numbers->last};
    return 0;
}

static int imap(farpool_pool *pool, struct numbers *numbers, answer *outputs)
{
    farpool_error error;
    farpool_bytes output;
    uint64_t index = 0;
    int result, wrong = 0;

    numbers->given = 0;
    farpool_iterator *iterator = farpool_imap_unordered(
        pool, FARPOOL_REF(square), next_number, numbers, NULL, &error);
    if (!iterator)
        return fail("imap", &error);
    while (!wrong && (result = farpool_next(iterator, FARPOOL_FOREVER, &output, &index,
                                            &error)) != FARPOOL_END) {
        if (result != 0)
            wrong = fail("next", &error);
        else if (index >= (uint64_t)numbers->tasks || output.size != sizeof *outputs)
            wrong = complain((int64_t)index, "no such task, or a size of",
                             (int64_t)output.size);
        else if (outputs[index].square != NOT_A_SQUARE)
            wrong =
                complain((int64_t)index, "a second result, after", outputs[index].square);
        else
            memcpy(&outputs[index], output.data, sizeof *outputs);
    }
    farpool_iterator_free(iterator);
    return wrong;
}

static int run_once(farpool_pool *pool, struct numbers *numbers, int64_t number)
{
    const int64_t began_ns = now_ns();
    int64_t slept_ns = 0;
    answer *outputs = malloc((size_t)numbers->tasks * sizeof *outputs);
    int wrong;

    if (!outputs)
        abort();
    for (int64_t i = 0; i < numbers->tasks; i++)
        outputs[i].square = NOT_A_SQUARE;
    wrong = number % 2 ? imap(pool, numbers, outputs) : map(pool, numbers, outputs);
    for (int64_t i = 0; i < numbers->tasks && !wrong; i++) {
        slept_ns += outputs[i].square == i * i ? outputs[i].slept_ns : 0;
        if (outputs[i].square != i * i)
            wrong = complain(i, "the result is", outputs[i].square);
    }
    free(outputs);
    if (!wrong)
        printf("%s %" PRId64 ": %" PRId64 " results right in %" PRId64
               " ms, which slept %" PRId64 " ms\n",
               number % 2 ? "imap" : "map", number, numbers->tasks,
               (now_ns() - began_ns) / 1000000, slept_ns / 1000000);
    fflush(stdout);
    return wrong;
}

static bool is_over(void)
{
    struct pollfd input = {.fd = 0, .events = POLLIN};

    return poll(&input, 1, 0) > 0;
}

int main(int argc, char **argv)
{
    farpool_pool_options options = FARPOOL_POOL_OPTIONS;
    farpool_error error;
    int64_t number = 0;
    int wrong = 0;

    farpool_init(&argc, &argv);
    if (argc < 3 || argc > 4)
        return fprintf(stderr, "usage: network_program TASKS MICROSECONDS [MAPS]\n"), 2;
    struct numbers numbers = {.tasks = atoll(argv[1]), .sleep_us = atoll(argv[2])};
    const int64_t maps = argc > 3 ? atoll(argv[3]) : INT64_MAX;
    options.connect_timeout_ms = 60000;
    farpool_pool *pool = farpool_open(NULL, &options, &error);
    if (!pool)
        return fail("open", &error);
    printf("open\n");
    fflush(stdout);
    do
        wrong = run_once(pool, &numbers, number++);
    while (!wrong && number < maps && (argc > 3 || !is_over()));
    farpool_close(pool, NULL);
    farpool_pool_free(pool);
    return wrong;
}
