/* SPDX-License-Identifier: Apache-2.0
 *
 * count.h: sums, differences and bounds of counts, which a peer may have made as large as
 * can be. */
#ifndef FARPOOL_BASE_COUNT_H
#define FARPOOL_BASE_COUNT_H

#include <stdint.h>

static inline uint64_t add_saturated(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static inline uint64_t subtract_saturated(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

static inline uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

#endif
