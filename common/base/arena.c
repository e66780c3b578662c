/* SPDX-License-Identifier: Apache-2.0
 *
 * arena.c: first fit over a list of stretches in order of their offset.
 *
 * Invariants: the stretches cover the range without gap or overlap; no two free ones are
 * neighbours; `lowest` is at or before the first free one; every used one is in the map.
 *
 * Left to others: the memory behind the offsets. The list is short where it is used: a
 * block is at least 16 KiB, and most are given back soon. */
#include "common/base/arena.h"

#include "common/base/mem.h"
#include "farpool.h"

#include <assert.h>
#include <stddef.h>

#define HASH_NONFATAL_OOM 1
#define uthash_malloc(size) mem_alloc(size)
#define uthash_free(memory, size) mem_free(memory)
#define uthash_nonfatal_oom(element) ((element)->free = true)
#include <uthash.h>

struct arena_part {
    uint64_t offset, size;
    bool free;
    struct arena_part *before, *behind;
    UT_hash_handle hh;
};

int arena_init(struct arena *arena, uint64_t base, uint64_t size)
{
    assert(base % ARENA_BLOCK == 0 && size % ARENA_BLOCK == 0);
    struct arena_part *part = mem_alloc(sizeof *part);
    if (part == NULL)
        return FARPOOL_ENOMEM;
    part->offset = base;
    part->size = size;
    part->free = true;
    *arena = (struct arena){.base = base, .size = size, .parts = part, .lowest = part};
    arena->touched = base;
    return 0;
}

void arena_fini(struct arena *arena)
{
    HASH_CLEAR(hh, arena->used);
    for (struct arena_part *part = arena->parts; part != NULL;) {
        struct arena_part *behind = part->behind;
        mem_free(part);
        part = behind;
    }
    *arena = (struct arena){0};
}

static struct arena_part *first_fit(const struct arena *arena, uint64_t size)
{
    struct arena_part *part = arena->lowest;
    while (part != NULL && !(part->free && part->size >= size))
        part = part->behind;
    return part;
}

/* Enters a free stretch into the map as used; false: out of memory. */
static bool mark_used(struct arena *arena, struct arena_part *part)
{
    part->free = false;
    HASH_ADD(hh, arena->used, offset, sizeof part->offset, part);
    return !part->free;
}

static void link_behind(struct arena_part *part, struct arena_part *rest)
{
    rest->before = part;
    rest->behind = part->behind;
    if (rest->behind != NULL)
        rest->behind->before = rest;
    part->behind = rest;
}

uint64_t arena_alloc(struct arena *arena, uint64_t size, int *ret_code)
{
    *ret_code = FARPOOL_EFULL;
    if (size > arena->size)
        return ARENA_NONE;
    size =
        size == 0 ? ARENA_BLOCK : (size + ARENA_BLOCK - 1) & ~(uint64_t)(ARENA_BLOCK - 1);
    struct arena_part *part = first_fit(arena, size);
    if (part == NULL)
        return ARENA_NONE;
    *ret_code = FARPOOL_ENOMEM;
    struct arena_part *rest = NULL;
    if (part->size > size && (rest = mem_alloc(sizeof *rest)) == NULL)
        return ARENA_NONE;
    if (!mark_used(arena, part)) {
        mem_free(rest);
        return ARENA_NONE;
    }
    if (rest != NULL) {
        rest->offset = part->offset + size;
        rest->size = part->size - size;
        rest->free = true;
        part->size = size;
        link_behind(part, rest);
    }
    if (arena->lowest == part)
        arena->lowest = part->behind;
    arena->used_bytes += size;
    if (part->offset + size > arena->touched)
        arena->touched = part->offset + size;
    *ret_code = 0;
    return part->offset;
}

/* Joins a free stretch with the free one behind it, which vanishes. */
static void join_behind(struct arena *arena, struct arena_part *part)
{
    struct arena_part *behind = part->behind;
    part->size += behind->size;
    part->behind = behind->behind;
    if (part->behind != NULL)
        part->behind->before = part;
    if (arena->lowest == behind)
        arena->lowest = part;
    mem_free(behind);
}

bool arena_free(struct arena *arena, uint64_t offset)
{
    struct arena_part *part;
    HASH_FIND(hh, arena->used, &offset, sizeof offset, part);
    if (part == NULL)
        return false;
    HASH_DELETE(hh, arena->used, part);
    part->free = true;
    arena->used_bytes -= part->size;
    if (part->behind != NULL && part->behind->free)
        join_behind(arena, part);
    if (part->before != NULL && part->before->free) {
        part = part->before;
        join_behind(arena, part);
    }
    if (arena->lowest == NULL || part->offset < arena->lowest->offset)
        arena->lowest = part;
    return true;
}

void arena_trim(struct arena *arena, uint64_t keep,
                void (*punch)(void *user, uint64_t offset, uint64_t size), void *user)
{
    uint64_t from = arena->base + keep, end = arena->base;
    for (struct arena_part *part = arena->parts; part != NULL; part = part->behind) {
        uint64_t part_end = part->offset + part->size;
        if (!part->free) {
            end = part_end;
            continue;
        }
        uint64_t begin = part->offset > from ? part->offset : from;
        uint64_t stop = part_end < arena->touched ? part_end : arena->touched;
        if (begin < stop)
            punch(user, begin, stop - begin);
    }
    if (arena->touched > from)
        arena->touched = end > from ? end : from;
}

void arena_check(const struct arena *arena)
{
    uint64_t offset = arena->base, used = 0;
    bool reached = false;
    const struct arena_part *before = NULL;
    for (const struct arena_part *part = arena->parts; part != NULL;
         part = part->behind) {
        assert(part->offset == offset && part->before == before && part->size > 0);
        assert(!(part->free && before != NULL && before->free));
        reached = reached || part == arena->lowest;
        assert(reached || !part->free);
        used += part->free ? 0 : part->size;
        offset += part->size;
        before = part;
    }
    assert(offset == arena->base + arena->size && used == arena->used_bytes);
}
