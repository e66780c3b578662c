/* SPDX-License-Identifier: Apache-2.0
 *
 * ring.h: a queue of records in memory that two processes share, for one producer and
 * one consumer. Pure memory and C11 atomics: waiting and waking are the callers'.
 *
 * A record is written whole before the head that makes it visible is released, so a
 * producer killed at any instruction leaves whole records only. Neither side trusts the
 * other: each keeps its cursors in private memory, reads a shared word once, and checks
 * it. docs/shared-memory.md has the ordering. */
#ifndef FARPOOL_BASE_RING_H
#define FARPOOL_BASE_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define RING_ALIGN 64u        /* records begin at multiples of it */
#define RING_HEADER_BYTES 16u /* in front of each record's body */
#define RING_PAD 0            /* the kind of a record that only fills the ring's end */

/* In shared memory. */
struct ring_shared {
    _Alignas(RING_ALIGN) _Atomic uint64_t head; /* written by the producer only */
    _Alignas(RING_ALIGN) _Atomic uint64_t tail; /* written by the consumer only */
};

/* In shared memory, in front of a body. */
struct ring_header {
    uint32_t length; /* bytes of the body */
    uint16_t kind;
    uint16_t generation;
    uint64_t position; /* bytes that went through the ring before this record */
};

/* One side's view, in private memory. */
struct ring {
    struct ring_shared *shared;
    uint8_t *data;       /* aligned to RING_ALIGN */
    uint32_t size;       /* bytes, a power of two, at least 4 * RING_ALIGN */
    uint16_t generation; /* of the process that the ring serves */
    bool broken;         /* the other side wrote nonsense into its index */
    uint64_t head;       /* producer: written up to; consumer: known to be there */
    uint64_t tail;       /* producer: known to be free up to; consumer: read up to */
    uint64_t reserved;   /* producer: where the reserved record begins */
};

/* One record, as the consumer sees it; `body` lies in the ring. */
struct ring_record {
    uint16_t kind;
    uint32_t length;
    uint64_t position;
    uint8_t *body;
    uint64_t next; /* where the record behind it begins */
};

/* Both sides, over zeroed shared memory. */
void ring_init(struct ring *ring, struct ring_shared *shared, void *data, uint32_t size,
               uint16_t generation);

/* The longest body: a quarter of the ring, so that one always fits into an empty ring. */
uint32_t ring_body_max(const struct ring *ring);

/* Producer: room for a body of `length` bytes, or NULL when the ring is full (or broken:
 * the consumer's index is nonsense). */
void *ring_reserve(struct ring *ring, uint32_t length);
/* Producer: the reserved body is written; length is at most what was reserved. It is not
 * visible before ring_publish, which may follow several. Returns its position. */
uint64_t ring_commit(struct ring *ring, uint16_t kind, uint32_t length);
void ring_publish(struct ring *ring);
/* Producer: reads the consumer's index again. Records at positions below ring->tail may
 * be overwritten by the next ring_reserve; the others are still whole. */
void ring_refresh(struct ring *ring);

/* Consumer: the record at the cursor: 1 and *ret_record; 0 when there is none;
 * FARPOOL_EPROTOCOL when what is there cannot be a record. The
 * producer's index is read only when what was known to be there is used up. */
int ring_peek(struct ring *ring, struct ring_record *ret_record);
/* Consumer: moves the cursor behind a record that ring_peek gave. */
void ring_advance(struct ring *ring, const struct ring_record *record);
/* Consumer: gives everything before the cursor back to the producer. */
void ring_release(struct ring *ring);

/* Consumer: whether ring_peek would find something. */
bool ring_ready(const struct ring *ring);

#endif
