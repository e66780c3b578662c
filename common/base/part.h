/* SPDX-License-Identifier: Apache-2.0
 *
 * part.h: how much of a job one worker may have, as the coordinator deals it
 * (core_give.c) and as a client does on its lanes (client/core_part.c). Counted in chunks
 * (single tasks where a job has none), all that the worker has of it already among them.
 *
 * A worker is given ahead what keeps its slots busy for HORIZON_NS, and AHEAD_TASKS a
 * slot in any case. A job's ramp bounds that too: RAMP_FIRST chunks a slot, doubled with
 * each result that shows them short. So does its fair part of what is left: half of it
 * or, where less than that time a slot is left, all; so that workers end evenly. */
#ifndef FARPOOL_BASE_PART_H
#define FARPOOL_BASE_PART_H

#include "common/base/count.h"
#include "common/base/span.h"

#define HORIZON_NS                                                                       \
    1000000000        /* work that a slot is given ahead; less is dealt out at once */
#define AHEAD_TASKS 2 /* tasks a slot at least, the running one among them */
#define UNMEASURED_NS 5000000 /* what a chunk is taken for until one has ended */
#define RAMP_FIRST 2          /* chunks a slot, until results show how short they are */
#define RAMP_MAX (UINT32_C(1) << 24)
#define SPREAD_NS 1000000 /* chunks as long as this fill idle slots everywhere first */
#define BUBBLE_NS 5000000 /* shorter ones are given ahead even at a job's end */
#define RECALL_NS 1000000 /* less work a slot than this is not called back */
#define RECALL_WAIT_MS 5  /* but for where nothing has moved for so long */

/* The ramp after a result, a chunk taking so long. */
static inline uint32_t part_ramp(uint32_t ramp, uint64_t unit_ns)
{
    return unit_ns < HORIZON_NS / ramp && ramp < RAMP_MAX ? ramp * 2 : ramp;
}

/* The fair part of what is left for a worker with `slots` of `all`; UINT64_MAX: it has
 * all slots that there are. What others have ended by now and not told is not left, or
 * who tells first would get their part. */
static inline uint64_t part_fair(uint64_t left, uint64_t unit_ns, uint64_t slots,
                                 uint64_t all)
{
    if (all <= slots)
        return UINT64_MAX;
    const bool little = left <= HORIZON_NS / unit_ns * all;
    const uint64_t part = left * slots / (little ? all : 2 * all);
    const uint64_t least = (unit_ns < BUBBLE_NS ? AHEAD_TASKS : 1) * slots;
    return larger(part, least);
}

/* What of `most` a worker may be given that has so many: it is topped up when half of it
 * is gone, for some large messages are better than many small ones. */
static inline uint64_t part_room(uint64_t most, uint64_t units)
{
    return units > most / 2 ? 0 : most - units;
}

/* How many of `surplus` chunks, that wait behind slots, are called back for `idle` slots:
 * half, and no more than these can take, or they would only come back here. */
static inline uint64_t part_recall(uint64_t surplus, uint64_t idle, uint64_t unit_ns)
{
    const uint64_t each = HORIZON_NS / unit_ns;
    return smaller((surplus + 1) / 2, idle * larger(each, 1));
}

/* How many of a span's first tasks make up to `tasks` and `bytes`, between two chunks if
 * that can be. */
static inline uint32_t part_cut(const struct msg_span *span, uint32_t unit,
                                uint64_t tasks, uint64_t bytes)
{
    uint64_t count = smaller(smaller(tasks, span->count), span_fit(span, bytes));
    const uint64_t end = span->first + count, boundary = end - end % unit;
    if (count < span->count && boundary > span->first)
        count = boundary - span->first;
    return (uint32_t)count;
}

#endif
