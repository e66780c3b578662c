/* SPDX-License-Identifier: Apache-2.0
 *
 * integrate.c: pi, as the integral of 4 / (1 + x^2) from 0 to 1, slice by slice.
 *
 * The typed form of a function takes and returns any value of fixed size: here a struct
 * goes in and a double comes out, and the compiler checks both at every call. The sum is
 * the same to the last bit as that of the serial loop, since results come in order. */
#include "progress.h"

#include <farpool.h>

#include <getopt.h>
#include <math.h>
#include <stdlib.h>

struct slice {
    double from, to;
    uint64_t steps;
};
typedef struct slice slice; /* types given to FARPOOL_FUNCTION are single words */

static double curve(double x)
{
    return 4 / (1 + x * x);
}

/* Simpson's rule. */
static double integrate(slice part)
{
    const double width = (part.to - part.from) / (double)part.steps;
    double sum = 0;
    for (uint64_t i = 0; i < part.steps; i++) {
        const double x = part.from + (double)i * width;
        sum += curve(x) + 4 * curve(x + width / 2) + curve(x + width);
    }
    return sum * width / 6;
}
FARPOOL_FUNCTION(integrate, double, slice)

static double sum(const double *values, size_t count)
{
    double total = 0;
    for (size_t i = 0; i < count; i++)
        total += values[i];
    return total;
}

static int usage(void)
{
    fputs("usage: integrate [--slices N] [--steps N] [--coordinator ADDRESS]\n"
          "Computes pi in N slices (10000) of N steps (10000), in a pool and without "
          "one.\n",
          stderr);
    return 2;
}

/* Fills values[count] in a pool, and tells how many processes did it. */
static int integrate_in_pool(const char *coordinator, const slice *slices, size_t count,
                             double *values, double *ret_seconds,
                             farpool_pool_info *ret_info)
{
    farpool_error error;
    farpool_pool *pool = farpool_open(coordinator, NULL, &error);
    const double began = progress_now();
    if (!pool || farpool_map(pool, integrate, slices, count, values, &error)) {
        fprintf(stderr, "integrate: %s\n", error.text);
        farpool_pool_free(pool);
        return -1;
    }
    *ret_seconds = progress_now() - began;
    farpool_pool_get_info(pool, ret_info, NULL);
    farpool_close(pool, NULL);
    farpool_pool_free(pool);
    return 0;
}

static int compare(const char *coordinator, const slice *slices, size_t count)
{
    double *values = calloc(count, sizeof *values);
    double seconds = 0;
    farpool_pool_info info = {.nodes = 0};
    if (!values ||
        integrate_in_pool(coordinator, slices, count, values, &seconds, &info) != 0) {
        free(values);
        return 1;
    }
    const double pooled = sum(values, count), began = progress_now();
    for (size_t i = 0; i < count; i++)
        values[i] = integrate(slices[i]);
    const double serial = sum(values, count), serial_seconds = progress_now() - began;
    free(values);

    char number[32], processes[64], nodes[64];
    printf("pi      %.15f  (off by %.1e)\n", pooled, fabs(pooled - acos(-1)));
    printf("pool    %.3f s  %s slices, %s on %s\n", seconds,
           progress_number(count, number),
           progress_count(info.processes, "process", "processes", processes),
           progress_count(info.nodes, "node", "nodes", nodes));
    printf("serial  %.3f s  %.1f times as long; the values are %s\n", serial_seconds,
           serial_seconds / seconds, serial == pooled ? "the same" : "NOT THE SAME");
    return serial == pooled ? 0 : 1;
}

int main(int argc, char **argv)
{
    farpool_init(&argc, &argv);
    static const struct option options[] = {{"slices", required_argument, NULL, 's'},
                                            {"steps", required_argument, NULL, 'n'},
                                            {"coordinator", required_argument, NULL, 'c'},
                                            {NULL, 0, NULL, 0}};
    const char *coordinator = NULL;
    long count = 10000, steps = 10000;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == 's')
            count = atol(optarg);
        else if (option == 'n')
            steps = atol(optarg);
        else if (option == 'c')
            coordinator = optarg;
        else
            return usage();
    }
    if (count < 1 || steps < 1 || optind < argc)
        return usage();
    slice *slices = calloc((size_t)count, sizeof *slices);
    if (!slices)
        return 1;
    for (long i = 0; i < count; i++)
        slices[i] = (slice){.from = (double)i / (double)count,
                            .to = (double)(i + 1) / (double)count,
                            .steps = (uint64_t)steps};
    const int result = compare(coordinator, slices, (size_t)count);
    free(slices);
    return result;
}
