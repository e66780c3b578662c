/* SPDX-License-Identifier: Apache-2.0
 *
 * test_base_ring_arena.c: blocks of an arena never overlap, come from the lowest place,
 * join again when they are free, and are punched only while nobody has them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/arena.h"
#include "common/base/id.h"
#include "common/base/mem.h"
#include "farpool.h"

#include <string.h>

#define BASE (16 * (uint64_t)ARENA_BLOCK)
#define BLOCKS 100
#define SIZE (BLOCKS * (uint64_t)ARENA_BLOCK)

static uint64_t take(struct arena *arena, uint64_t blocks)
{
    int code;
    uint64_t offset = arena_alloc(arena, blocks * ARENA_BLOCK, &code);
    assert_int_equal(code, offset == ARENA_NONE ? FARPOOL_EFULL : 0);
    arena_check(arena);
    return offset;
}

static void the_lowest_place_is_taken(void **state)
{
    struct arena arena;
    (void)state;
    assert_int_equal(arena_init(&arena, BASE, SIZE), 0);
    assert_int_equal(take(&arena, 1), BASE);
    assert_int_equal(take(&arena, 2), BASE + ARENA_BLOCK);
    assert_int_equal(take(&arena, 1), BASE + 3 * ARENA_BLOCK);
    assert_true(arena_free(&arena, BASE + ARENA_BLOCK));
    assert_int_equal(take(&arena, 3), BASE + 4 * ARENA_BLOCK);
    assert_int_equal(take(&arena, 2), BASE + ARENA_BLOCK);
    assert_false(arena_free(&arena, BASE + 2 * ARENA_BLOCK)); /* within a block */
    assert_false(arena_free(&arena, 0));
    arena_fini(&arena);
}

static void what_is_free_joins(void **state)
{
    struct arena arena;
    (void)state;
    assert_int_equal(arena_init(&arena, BASE, SIZE), 0);
    for (uint64_t i = 0; i < BLOCKS; i++)
        assert_int_equal(take(&arena, 1), BASE + i * ARENA_BLOCK);
    assert_int_equal(take(&arena, 1), ARENA_NONE);
    for (uint64_t i = 0; i < BLOCKS; i += 2)
        assert_true(arena_free(&arena, BASE + i * ARENA_BLOCK));
    assert_int_equal(take(&arena, 2), ARENA_NONE);
    for (uint64_t i = 1; i < BLOCKS; i += 2)
        assert_true(arena_free(&arena, BASE + i * ARENA_BLOCK));
    assert_int_equal(take(&arena, BLOCKS), BASE);
    assert_int_equal(take(&arena, BLOCKS + 1), ARENA_NONE);
    arena_fini(&arena);
}

static void random_use_keeps_the_invariants(void **state)
{
    uint64_t held[64], sizes[64], seed = 9;
    uint8_t owner[BLOCKS + 16] = {0};
    size_t count = 0;
    struct arena arena;
    (void)state;
    assert_int_equal(arena_init(&arena, BASE, SIZE), 0);
    for (int i = 0; i < 20000; i++) {
        uint64_t blocks = 1 + rng_below(&seed, 9);
        uint64_t offset =
            count < 64 && rng_below(&seed, 2) ? take(&arena, blocks) : ARENA_NONE;
        if (offset != ARENA_NONE) {
            uint64_t first = offset / ARENA_BLOCK - 16;
            for (uint64_t b = first; b < first + blocks; b++)
                assert_int_equal(owner[b]++, 0);
            held[count] = offset;
            sizes[count++] = blocks;
        } else if (count > 0) {
            size_t victim = rng_below(&seed, count);
            memset(owner + held[victim] / ARENA_BLOCK - 16, 0, sizes[victim]);
            assert_true(arena_free(&arena, held[victim]));
            arena_check(&arena);
            held[victim] = held[--count];
            sizes[victim] = sizes[count];
        }
    }
    arena_fini(&arena);
}

static void note(void *user, uint64_t offset, uint64_t size)
{
    uint64_t(*stretch)[2] = user;
    assert_int_equal(stretch[0][1], 0);
    stretch[0][0] = offset;
    stretch[0][1] = size;
}

static void only_what_is_free_and_was_used_is_punched(void **state)
{
    uint64_t stretch[1][2] = {{0, 0}};
    struct arena arena;
    (void)state;
    assert_int_equal(arena_init(&arena, BASE, SIZE), 0);
    arena_trim(&arena, 0, note, stretch);
    assert_int_equal(stretch[0][1], 0);
    uint64_t low = take(&arena, 10), middle = take(&arena, 10), high = take(&arena, 10);
    arena_free(&arena, middle);
    arena_trim(&arena, 15 * ARENA_BLOCK, note, stretch); /* keeps 15 warm */
    assert_int_equal(stretch[0][0], BASE + 15 * ARENA_BLOCK);
    assert_int_equal(stretch[0][1], 5 * ARENA_BLOCK);
    stretch[0][1] = 0;
    arena_free(&arena, high);
    arena_free(&arena, low);
    arena_trim(&arena, 0, note, stretch);
    assert_int_equal(stretch[0][0], BASE);
    assert_int_equal(stretch[0][1], 30 * ARENA_BLOCK);
    stretch[0][1] = 0;
    arena_trim(&arena, 0, note, stretch);
    assert_int_equal(stretch[0][1], 0);
    arena_fini(&arena);
}

static void without_memory_nothing_changes(void **state)
{
    struct arena arena;
    int code = 0;
    (void)state;
    assert_int_equal(arena_init(&arena, BASE, SIZE), 0);
    take(&arena, 1);
    for (size_t n = 1; n <= 2; n++) {
        mem_fail_after(n);
        uint64_t offset = arena_alloc(&arena, ARENA_BLOCK, &code);
        mem_fail_after(0);
        arena_check(&arena);
        if (offset == ARENA_NONE) {
            assert_int_equal(code, FARPOOL_ENOMEM);
            assert_int_equal(arena.used_bytes, ARENA_BLOCK);
        } else {
            arena_free(&arena, offset);
        }
    }
    mem_fail_after(1);
    struct arena other;
    assert_int_equal(arena_init(&other, BASE, SIZE), FARPOOL_ENOMEM);
    mem_fail_after(0);
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_lowest_place_is_taken),
        cmocka_unit_test(what_is_free_joins),
        cmocka_unit_test(random_use_keeps_the_invariants),
        cmocka_unit_test(only_what_is_free_and_was_used_is_punched),
        cmocka_unit_test(without_memory_nothing_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
