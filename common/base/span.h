/* SPDX-License-Identifier: Apache-2.0
 *
 * span.h: consecutive tasks of one job with their inputs (or outputs), as the cores
 * and the wire handle them. struct msg_span (message.h, from messages.def) is the type;
 * `sizes` absent means that every task has data->size / count bytes, where a NULL or
 * empty data means that they have none.
 *
 * A span_set holds disjoint spans of one job in order of their index and finds, cuts and
 * removes any part in O(log n): what is waiting, sent or assigned of a job. */
#ifndef FARPOOL_BASE_SPAN_H
#define FARPOOL_BASE_SPAN_H

#include "common/base/message.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Drops the references that a span holds and zeroes it. */
void span_fini(struct msg_span *span);

/* *ret_copy shares the bytes of `span`. 0 or ENOMEM. */
int span_share(const struct msg_span *span, struct msg_span *ret_copy);

/* The part [first, first + count) of a span, sharing its bytes. It must lie within. 0 or
 * ENOMEM, *ret_part untouched on failure. */
int span_slice(const struct msg_span *span, uint64_t first, uint32_t count,
               struct msg_span *ret_part);

/* Bytes of all the inputs in a span, and of one of them (index within the span). */
uint64_t span_bytes(const struct msg_span *span);
void span_task(const struct msg_span *span, uint32_t place, const uint8_t **ret_data,
               size_t *ret_size);

/* Bytes of one of them (index within the span), in constant time: for going through all
 * tasks of a span, where span_task would search each place anew. */
uint32_t span_task_size(const struct msg_span *span, uint32_t place);

/* How many of the span's first tasks fit in `bytes`; at least 1. */
uint32_t span_fit(const struct msg_span *span, uint64_t bytes);

/* Whether sizes and data agree: count >= 1, no overflow of first + count, the sizes'
 * sum is the data's size, or the data divides evenly. For what a peer sent. */
bool span_valid(const struct msg_span *span);

struct span_set; /* opaque; elements are struct span_item */

struct span_item {
    struct msg_span span;
    uint64_t tag;  /* the owner's: a worker, a process ... */
    uint64_t tag2; /* the owner's */
};

int span_set_create(struct span_set **ret_set);
void span_set_destroy(struct span_set *set); /* NULL allowed; drops what is in it */

size_t span_set_items(const struct span_set *set);   /* spans */
uint64_t span_set_tasks(const struct span_set *set); /* tasks */
uint64_t span_set_bytes(const struct span_set *set); /* bytes of inputs */

/* Adds a span, taking over its references (the caller's is zeroed on success). It must
 * not overlap any in the set: EINVAL. Spans are not merged. */
int span_set_add(struct span_set *set, struct msg_span *span, uint64_t tag,
                 uint64_t tag2);

/* The span with the lowest index, the one holding `index`, the first one at or behind
 * `index`, and the one behind another; NULL: none. Borrowed until the set changes. */
const struct span_item *span_set_first(const struct span_set *set);
const struct span_item *span_set_last(const struct span_set *set);
const struct span_item *span_set_find(const struct span_set *set, uint64_t index);
const struct span_item *span_set_at_or_after(const struct span_set *set, uint64_t index);
const struct span_item *span_set_next(const struct span_set *set,
                                      const struct span_item *item);

/* Takes out the part [first, first + count), which must lie within one span of the set
 * (else EINVAL): what is left of that span on both sides stays. The part's references
 * go to *ret_item (NULL: dropped). ENOMEM leaves the set as it was. */
int span_set_take(struct span_set *set, uint64_t first, uint32_t count,
                  struct span_item *ret_item);

/* Takes from the span with the lowest (or highest) index up to `tasks` tasks, at least
 * 1, in a multiple of `chunk` tasks counted from index 0 where the span allows it
 * (chunk >= 1): a span is cut at the last chunk boundary within `tasks`, if there is one
 * (so whoever never wants to cut a chunk asks for `chunk` tasks or more).
 * FARPOOL_END when the set is empty, ENOMEM. */
int span_set_take_first(struct span_set *set, uint32_t tasks, uint32_t chunk,
                        struct span_item *ret_item);
int span_set_take_last(struct span_set *set, uint32_t tasks, uint32_t chunk,
                       struct span_item *ret_item);

/* For steps that must not fail half way: first cut, then move or take whole spans, which
 * allocates nothing. span_set_cut makes a span begin at `index` if one holds it: the same
 * tasks, in one span more (each half keeps attempt and tags). ENOMEM: nothing changed.
 * span_set_move takes the span that begins at `first`, which must be there, over into
 * `to`, where nothing may overlap it, with that attempt and those tags. */
int span_set_cut(struct span_set *set, uint64_t index);
void span_set_move(struct span_set *from, uint64_t first, struct span_set *to,
                   uint32_t attempt, uint64_t tag, uint64_t tag2);

/* Asserts the set's own invariants; tests and core_check. */
void span_set_check(const struct span_set *set);

#endif
