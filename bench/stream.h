/* SPDX-License-Identifier: Apache-2.0
 *
 * stream.h: a stream of echoes whose results are consumed as they come (imap): what a
 * pool moves when nothing is kept. */
#ifndef FARPOOL_BENCH_STREAM_H
#define FARPOOL_BENCH_STREAM_H

#include <farpool.h>
#include <stddef.h>

/* Sends `count` inputs of `size` bytes each through the function, which must return what
 * it gets; each result is checked. Seconds from the first input to the last result; ends
 * the program with what was wrong. */
double stream_run(farpool_pool *pool, const farpool_function *function, size_t size,
                  size_t count);

#endif
