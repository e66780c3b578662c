/* SPDX-License-Identifier: Apache-2.0
 *
 * work.h: the works of bench/compare for peers that are written in C. A peer knows how to
 * have its workers run operations; which ones, how many, and what is printed is in
 * work.c, once for all of them.
 */
#ifndef FARPOOL_BENCH_PEERS_WORK_H
#define FARPOOL_BENCH_PEERS_WORK_H

#include <stddef.h>
#include <stdint.h>

enum work_op {
    WORK_NOOP = 1, /* adds one to each int64 of the item */
    WORK_ECHO,     /* gives it back */
    WORK_SPIN,     /* the item is an int64: so many microseconds of CPU time, or -1: the
                    * process kills itself, but only the first one that is told to */
};

/* Items of `size` bytes, the i-th at base + i * stride. */
struct work_items {
    enum work_op op;
    const void *base;
    size_t stride, size;
    long count;
};

struct work_peer {
    /* Runs all items, with at most `window` of them given out to a worker (or to the
     * system, if its workers fetch for themselves); for each result work_result is
     * called. Exits with a message when something fails. */
    void (*run)(const struct work_items *items, long window);
    long small_window; /* what suits small items, */
    long large_window; /* items of 1 MiB, */
    long spin_window;  /* and items that take long */
};

/* One result. Counts it, and checks what can be checked. */
void work_result(const void *data, size_t size);

/* In a worker: changes the item into its result. */
void work_do(enum work_op op, void *item, size_t size);

/* Runs the work of that name and prints its figures; exits when there is none. */
void work_run(const char *name, const struct work_peer *peer);

_Noreturn void work_die(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
