/* SPDX-License-Identifier: Apache-2.0
 *
 * ring.c: records in memory shared by one producer and one consumer.
 *
 * Invariants: 0 <= head - tail <= size, both multiples of RING_ALIGN, and neither ever
 * goes back. A record never wraps: where it would, a RING_PAD record fills the end, and
 * becomes visible by the same store of the head. The bytes between a side's own cursor
 * and the other's last known index belong to that side alone.
 *
 * Left to others: waking a side that sleeps, and what the records mean. */
#include "common/base/ring.h"

#include "farpool.h"

#include <assert.h>
#include <string.h>

static uint64_t padded(uint32_t length)
{
    return ((uint64_t)length + RING_HEADER_BYTES + RING_ALIGN - 1) &
           ~(uint64_t)(RING_ALIGN - 1);
}

void ring_init(struct ring *ring, struct ring_shared *shared, void *data, uint32_t size,
               uint16_t generation)
{
    assert(size >= 4 * RING_ALIGN && (size & (size - 1)) == 0);
    assert((uintptr_t)data % RING_ALIGN == 0);
    memset(ring, 0, sizeof *ring);
    ring->shared = shared;
    ring->data = data;
    ring->size = size;
    ring->generation = generation;
}

uint32_t ring_body_max(const struct ring *ring)
{
    return ring->size / 4 - RING_HEADER_BYTES;
}

void ring_refresh(struct ring *ring)
{
    uint64_t tail = atomic_load_explicit(&ring->shared->tail, memory_order_acquire);
    if (tail % RING_ALIGN != 0 || tail - ring->tail > ring->head - ring->tail)
        ring->broken = true;
    else
        ring->tail = tail;
}

static void write_header(struct ring *ring, uint64_t position, uint16_t kind,
                         uint32_t length)
{
    struct ring_header header = {length, kind, ring->generation, position};
    memcpy(ring->data + (position & (ring->size - 1)), &header, sizeof header);
}

void *ring_reserve(struct ring *ring, uint32_t length)
{
    assert(length <= ring_body_max(ring));
    uint64_t need = padded(length);
    uint64_t to_end = ring->size - (ring->head & (ring->size - 1));
    uint64_t pad = to_end < need ? to_end : 0;
    if (ring->size - (ring->head - ring->tail) < pad + need)
        ring_refresh(ring);
    if (ring->broken || ring->size - (ring->head - ring->tail) < pad + need)
        return NULL;
    if (pad > 0)
        write_header(ring, ring->head, RING_PAD, (uint32_t)pad - RING_HEADER_BYTES);
    ring->reserved = ring->head + pad;
    return ring->data + (ring->reserved & (ring->size - 1)) + RING_HEADER_BYTES;
}

uint64_t ring_commit(struct ring *ring, uint16_t kind, uint32_t length)
{
    uint64_t position = ring->reserved;
    write_header(ring, position, kind, length);
    ring->head = position + padded(length);
    return position;
}

void ring_publish(struct ring *ring)
{
    atomic_store_explicit(&ring->shared->head, ring->head, memory_order_release);
}

bool ring_ready(const struct ring *ring)
{
    return atomic_load_explicit(&ring->shared->head, memory_order_acquire) != ring->tail;
}

/* Whether the producer's index can be one: whole records, ahead of what was known, and
 * not more than the ring holds. */
static bool learn_head(struct ring *ring)
{
    uint64_t head = atomic_load_explicit(&ring->shared->head, memory_order_acquire);
    if (head % RING_ALIGN != 0 || head - ring->tail > ring->size)
        return false;
    ring->head = head;
    return true;
}

/* Reads the header at the cursor once, and checks it before anything relies on it. */
static bool read_header(const struct ring *ring, struct ring_header *ret_header)
{
    uint64_t place = ring->tail & (ring->size - 1);
    struct ring_header header;
    memcpy(&header, ring->data + place, sizeof header);
    atomic_signal_fence(memory_order_seq_cst); /* the copy is what is checked and used */
    if (header.position != ring->tail || header.generation != ring->generation)
        return false;
    uint64_t size = padded(header.length);
    if (size > ring->head - ring->tail || size > ring->size - place)
        return false;
    *ret_header = header;
    return true;
}

int ring_peek(struct ring *ring, struct ring_record *ret_record)
{
    for (;;) {
        if (ring->tail == ring->head && !learn_head(ring))
            return FARPOOL_EPROTOCOL;
        if (ring->tail == ring->head)
            return 0;
        struct ring_header header;
        if (!read_header(ring, &header))
            return FARPOOL_EPROTOCOL;
        uint64_t next = ring->tail + padded(header.length);
        if (header.kind == RING_PAD) {
            ring->tail = next;
            continue;
        }
        ret_record->kind = header.kind;
        ret_record->length = header.length;
        ret_record->position = header.position;
        ret_record->body =
            ring->data + (ring->tail & (ring->size - 1)) + RING_HEADER_BYTES;
        ret_record->next = next;
        return 1;
    }
}

void ring_advance(struct ring *ring, const struct ring_record *record)
{
    assert(record->position == ring->tail);
    ring->tail = record->next;
}

void ring_release(struct ring *ring)
{
    atomic_store_explicit(&ring->shared->tail, ring->tail, memory_order_release);
}
