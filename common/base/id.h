/* SPDX-License-Identifier: Apache-2.0
 *
 * id.h: identities (16 random bytes), content hashes (32 bytes), and a small random
 * sequence for the cores, which get their seed from outside. */
#ifndef FARPOOL_BASE_ID_H
#define FARPOOL_BASE_ID_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct id {
    uint8_t bytes[16];
};

struct hash {
    uint8_t bytes[32];
};

static inline bool id_equal(const struct id *a, const struct id *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

static inline bool id_is_zero(const struct id *id)
{
    static const struct id zero;
    return id_equal(id, &zero);
}

static inline bool hash_equal(const struct hash *a, const struct hash *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

/* Hexadecimal, 0-terminated: 33 and 65 bytes. Return the buffer. */
char *id_text(const struct id *id, char text[33]);
char *hash_text(const struct hash *hash, char text[65]);
bool hash_parse(const char *text, struct hash *ret_hash); /* exactly 64 hex digits */

/* splitmix64: the next value of a sequence; deterministic. */
uint64_t rng_next(uint64_t *state);
/* The next value in [0, bound), bound >= 1. */
uint64_t rng_below(uint64_t *state, uint64_t bound);

#endif
