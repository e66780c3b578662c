/* SPDX-License-Identifier: Apache-2.0
 *
 * test_base_mem.c: allocation, its failing on request, and growing arrays; ids and the
 * random sequence, which are as small. */
#include "common/base/id.h"
#include "common/base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static void fresh_memory_is_zero(void **state)
{
    (void)state;
    uint8_t *memory = mem_alloc(1000);
    assert_non_null(memory);
    memset(memory, 0xff, 1000);
    mem_free(memory);
    memory = mem_alloc(1000);
    for (size_t i = 0; i < 1000; i++)
        assert_int_equal(memory[i], 0);
    mem_free(memory);
    void *nothing = mem_alloc(0);
    assert_non_null(nothing);
    mem_free(nothing);
    mem_free(NULL);
}

static void the_nth_allocation_fails_once(void **state)
{
    (void)state;
    mem_fail_after(3);
    char *a = mem_alloc(1), *b = mem_strdup("b"), *c = mem_realloc(NULL, 1);
    assert_true(a && b && !c);
    c = mem_realloc(a, 100);
    assert_non_null(c);
    assert_int_equal(mem_fail_after(0), 4);
    assert_int_equal(mem_fail_after(0), 0);
    mem_free(b);
    mem_free(c);
}

static void reserve_doubles_and_zeroes(void **state)
{
    (void)state;
    uint32_t *array = NULL;
    size_t capacity = 0, grown = 0;
    for (size_t count = 0; count < 1000; count++) {
        const size_t before = capacity;
        assert_true(mem_reserve(&array, &capacity, count + 1, sizeof *array));
        grown += capacity != before;
        assert_true(capacity > count);
        assert_int_equal(array[count], 0);
        array[count] = (uint32_t)count + 1;
    }
    for (size_t i = 0; i < 1000; i++)
        assert_int_equal(array[i], i + 1);
    assert_true(grown <= 8);
    mem_free(array);
}

static void reserve_that_fails_changes_nothing(void **state)
{
    (void)state;
    uint64_t *array = NULL;
    size_t capacity = 0;
    assert_true(mem_reserve(&array, &capacity, 1, sizeof *array));
    uint64_t *const same = array;
    const size_t before = capacity;
    mem_fail_after(1);
    assert_false(mem_reserve(&array, &capacity, before + 1, sizeof *array));
    mem_fail_after(0);
    assert_false(mem_reserve(&array, &capacity, SIZE_MAX, sizeof *array));
    assert_false(mem_reserve(&array, &capacity, SIZE_MAX / 4, sizeof *array));
    assert_ptr_equal(array, same);
    assert_int_equal(capacity, before);
    mem_free(array);
}

static void ids_and_hashes_as_text(void **state)
{
    (void)state;
    struct id id = {{0}};
    assert_true(id_is_zero(&id));
    id.bytes[0] = 0x3f;
    id.bytes[15] = 0xa1;
    assert_false(id_is_zero(&id));
    char text[65];
    assert_string_equal(id_text(&id, text), "3f0000000000000000000000000000a1");
    struct hash hash, parsed;
    for (int i = 0; i < 32; i++)
        hash.bytes[i] = (uint8_t)(i * 37);
    assert_int_equal(strlen(hash_text(&hash, text)), 64);
    assert_true(hash_parse(text, &parsed));
    assert_true(hash_equal(&hash, &parsed));
    for (int i = 0; i < 64; i++)
        text[i] = (char)(text[i] >= 'a' ? text[i] - 'a' + 'A' : text[i]);
    assert_true(hash_parse(text, &parsed));
    assert_true(hash_equal(&hash, &parsed));
}

static void what_is_no_hash_is_refused(void **state)
{
    (void)state;
    struct hash hash = {{9}}, same = hash;
    char text[67];
    memset(text, 'a', sizeof text);
    text[65] = 0;
    assert_false(hash_parse(text, &hash));
    text[64] = 0;
    for (size_t i = 0; i < 64; i++) {
        const char bad[] = "g/:@G` ";
        for (size_t j = 0; j < sizeof bad; j++) {
            text[i] = bad[j];
            assert_false(hash_parse(text, &hash));
        }
        text[i] = 'a';
    }
    assert_false(hash_parse("", &hash));
    assert_true(hash_equal(&hash, &same));
}

static void a_seed_gives_one_sequence(void **state)
{
    (void)state;
    uint64_t zero = 0;
    /* The first values of splitmix64 from 0, as published with it. */
    assert_true(rng_next(&zero) == UINT64_C(0xe220a8397b1dcdaf));
    assert_true(rng_next(&zero) == UINT64_C(0x6e789e6aa1b965f4));
    uint64_t a = 5, b = 5;
    unsigned seen[7] = {0};
    for (int i = 0; i < 70000; i++) {
        const uint64_t value = rng_below(&a, 7);
        assert_true(value == rng_below(&b, 7));
        assert_true(value < 7);
        seen[value]++;
    }
    for (int i = 0; i < 7; i++)
        assert_in_range(seen[i], 9500, 10500);
    /* Just reducing 64 bits would make the lower third of this range half of the values.
     */
    const uint64_t third = UINT64_C(1) << 62;
    unsigned low = 0;
    for (int i = 0; i < 30000; i++)
        low += rng_below(&a, 3 * third) < third;
    assert_in_range(low, 9500, 10500);
    assert_true(rng_below(&a, 1) == 0);
    for (int i = 0; i < 100; i++)
        assert_true(rng_below(&a, UINT64_MAX) < UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fresh_memory_is_zero),
        cmocka_unit_test(the_nth_allocation_fails_once),
        cmocka_unit_test(reserve_doubles_and_zeroes),
        cmocka_unit_test(reserve_that_fails_changes_nothing),
        cmocka_unit_test(ids_and_hashes_as_text),
        cmocka_unit_test(what_is_no_hash_is_refused),
        cmocka_unit_test(a_seed_gives_one_sequence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
