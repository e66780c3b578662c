/* SPDX-License-Identifier: Apache-2.0
 *
 * ring_bed.h: a ring in memory that forked processes share, and records whose content
 * tells whether they are whole. */
#ifndef FARPOOL_TESTS_RING_BED_H
#define FARPOOL_TESTS_RING_BED_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/ring.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#define BED_SIZE 4096u
#define BED_GENERATION 3

struct bed {
    struct ring_shared shared;
    _Alignas(RING_ALIGN) uint8_t data[BED_SIZE];
};

static inline struct bed *bed_create(void)
{
    struct bed *bed = mmap(NULL, sizeof *bed, PROT_READ | PROT_WRITE,
                           MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(bed != MAP_FAILED);
    return bed;
}

static inline void bed_destroy(struct bed *bed)
{
    munmap(bed, sizeof *bed);
}

static inline void bed_side(struct bed *bed, struct ring *ret_ring)
{
    ring_init(ret_ring, &bed->shared, bed->data, BED_SIZE, BED_GENERATION);
}

/* The n-th record: its length and its bytes follow from n. */
static inline uint32_t bed_length(uint64_t number)
{
    return (uint32_t)(8 + number * 37 % 200);
}

static inline bool bed_put(struct ring *ring, uint64_t number)
{
    uint32_t length = bed_length(number);
    uint8_t *body = ring_reserve(ring, length);
    if (body == NULL)
        return false;
    memcpy(body, &number, sizeof number);
    memset(body + sizeof number, (int)(number * 11 + 5), length - sizeof number);
    ring_commit(ring, (uint16_t)(1 + number % 100), length);
    ring_publish(ring);
    return true;
}

/* Whether a record is the n-th one, whole. */
static inline bool bed_whole(const struct ring_record *record, uint64_t number)
{
    uint64_t written;
    if (record->length != bed_length(number) || record->kind != 1 + number % 100)
        return false;
    memcpy(&written, record->body, sizeof written);
    for (uint32_t i = sizeof written; i < record->length; i++)
        if (record->body[i] != (uint8_t)(number * 11 + 5))
            return false;
    return written == number;
}

#endif
