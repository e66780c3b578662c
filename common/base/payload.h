/* SPDX-License-Identifier: Apache-2.0
 *
 * payload.h: bytes of a task's input or output, counted by reference and never
 * changed once shared. The only refcounted thing in Farpool; the count is atomic, since
 * a transport may release its reference on a thread of its own. */
#ifndef FARPOOL_BASE_PAYLOAD_H
#define FARPOOL_BASE_PAYLOAD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct payload {
    atomic_uint refs;
    const uint8_t *data;                      /* NULL only if size is 0 */
    size_t size;                              /* bytes */
    struct payload *parent;                   /* of a slice: whose bytes these are */
    void (*release)(struct payload *payload); /* of a foreign one: called before free */
    void *owner;                              /* for release */
    bool lent; /* the bytes are a caller's who waits for the last reference: a transport
                  that may keep them for longer sends a copy */
};

/* Bytes of its own (not zeroed), to be written through payload_bytes before it is shared.
 * All three return NULL when out of memory, and otherwise one reference. */
struct payload *payload_create(size_t size);
uint8_t *payload_bytes(struct payload *payload);
struct payload *payload_copy(const void *data, size_t size);

/* Foreign bytes; release(payload) is called once, on whichever thread drops the last
 * reference (NULL: nothing to release). */
struct payload *payload_wrap(const void *data, size_t size,
                             void (*release)(struct payload *), void *owner);

/* Part of another one, which it keeps alive. offset + size must be within it. */
struct payload *payload_slice(struct payload *payload, size_t offset, size_t size);

void payload_drop(struct payload *payload);

static inline struct payload *payload_ref(struct payload *payload) /* NULL allowed */
{
    if (payload)
        atomic_fetch_add_explicit(&payload->refs, 1, memory_order_relaxed);
    return payload;
}

/* Sets NULL; NULL inside allowed. */
static inline void payload_unref(struct payload **payload)
{
    struct payload *last = *payload;

    *payload = NULL;
    if (last)
        payload_drop(last);
}

#endif
