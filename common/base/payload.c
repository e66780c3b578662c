/* SPDX-License-Identifier: Apache-2.0
 *
 * payload.c: bytes counted by reference.
 *
 * A payload's own bytes lie behind its struct, in one allocation, aligned for any type. A
 * slice refers to the payload whose bytes they really are, never to another slice, so
 * cutting a slice again and again builds no chain. The memory of large ones is kept for
 * the next (spare.c). */
#include "common/base/payload.h"

#include "common/base/mem.h"
#include "common/base/spare.h"

#include <assert.h>
#include <stdalign.h>
#include <string.h>

struct own_payload {
    struct payload payload;
    alignas(max_align_t) uint8_t bytes[];
};

static void init(struct payload *payload, const uint8_t *data, size_t size)
{
    memset(payload, 0, sizeof *payload);
    atomic_init(&payload->refs, 1);
    payload->data = size ? data : NULL;
    payload->size = size;
}

struct payload *payload_create(size_t size)
{
    if (size > SIZE_MAX - sizeof(struct own_payload))
        return NULL;
    /* Not zeroed: the bytes are about to be written, and may be a gigabyte. */
    struct own_payload *own = spare_take(sizeof *own + size);
    if (!own)
        return NULL;
    init(&own->payload, own->bytes, size);
    return &own->payload;
}

uint8_t *payload_bytes(struct payload *payload)
{
    struct own_payload *own = (struct own_payload *)payload;
    assert(!payload->size || payload->data == own->bytes);
    return own->bytes;
}

struct payload *payload_copy(const void *data, size_t size)
{
    struct payload *payload = payload_create(size);
    if (payload && size)
        memcpy(payload_bytes(payload), data, size);
    return payload;
}

struct payload *payload_wrap(const void *data, size_t size,
                             void (*release)(struct payload *), void *owner)
{
    struct payload *payload = mem_realloc(NULL, sizeof *payload);
    if (!payload)
        return NULL;
    init(payload, data, size);
    payload->release = release;
    payload->owner = owner;
    return payload;
}

struct payload *payload_slice(struct payload *payload, size_t offset, size_t size)
{
    assert(offset <= payload->size && size <= payload->size - offset);
    if (size == payload->size)
        return payload_ref(payload);
    const uint8_t *data = size ? payload->data + offset : NULL;
    struct payload *slice = payload_wrap(data, size, NULL, NULL);
    if (slice)
        slice->lent = payload->lent;
    if (slice && size)
        slice->parent = payload_ref(payload->parent ? payload->parent : payload);
    return slice;
}

static void free_last(struct payload *payload)
{
    if (payload->data == ((struct own_payload *)payload)->bytes)
        spare_give(payload, sizeof(struct own_payload) + payload->size);
    else
        mem_free(payload);
}

void payload_drop(struct payload *last)
{
    while (last) {
        const unsigned before =
            atomic_fetch_sub_explicit(&last->refs, 1, memory_order_acq_rel);
        assert(before > 0);
        if (before > 1)
            return;
        struct payload *parent = last->parent;
        if (last->release)
            last->release(last);
        free_last(last);
        last = parent;
    }
}
