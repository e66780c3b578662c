/* SPDX-License-Identifier: Apache-2.0
 *
 * arena.h: hands out blocks of a range of offsets. Knows nothing of the memory behind it:
 * the book-keeping is private to the side that hands out, and the other side only sees
 * offsets. The lowest free place is taken, so that the same pages stay in use and warm.
 */
#ifndef FARPOOL_BASE_ARENA_H
#define FARPOOL_BASE_ARENA_H

#include <stdbool.h>
#include <stdint.h>

#define ARENA_BLOCK 4096u /* blocks begin at multiples of it */
#define ARENA_NONE UINT64_MAX

struct arena_part; /* a used or a free stretch */

struct arena {
    uint64_t base, size;       /* offsets [base, base + size), multiples of ARENA_BLOCK */
    struct arena_part *parts;  /* all stretches, in order of their offset */
    struct arena_part *lowest; /* no free stretch begins before this one */
    struct arena_part *used;   /* map: offset to used stretch */
    uint64_t used_bytes;
    uint64_t touched; /* end of the highest block handed out since arena_trim */
};

int arena_init(struct arena *arena, uint64_t base, uint64_t size); /* 0, ENOMEM */
void arena_fini(struct arena *arena);

/* An offset, or ARENA_NONE: no room, or out of memory (*ret_code says which: EFULL,
 * ENOMEM). */
uint64_t arena_alloc(struct arena *arena, uint64_t size, int *ret_code);
/* false: no block begins there. */
bool arena_free(struct arena *arena, uint64_t offset);

/* Calls punch for every free stretch that begins at or behind base + keep and was in
 * use since the last call: the memory behind it is not needed now. */
void arena_trim(struct arena *arena, uint64_t keep,
                void (*punch)(void *user, uint64_t offset, uint64_t size), void *user);

/* Asserts the invariants; for tests. */
void arena_check(const struct arena *arena);

#endif
