/* SPDX-License-Identifier: Apache-2.0
 *
 * test_base_span.c: cutting, sharing, measuring and judging one span. Task i of a test
 * span has i % 5 bytes (or always 3), each of them the task's index. */
#include "common/base/mem.h"
#include "common/base/span.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define EVEN_SIZE 3

static size_t uneven_size(uint64_t index)
{
    return index % 5;
}

static struct msg_span make_span(uint64_t first, uint32_t count, bool even)
{
    struct msg_span span = {.first = first, .count = count, .attempt = 4};
    size_t total = 0;
    if (!even)
        span.sizes = payload_create((size_t)4 * count);
    for (uint32_t i = 0; i < count; i++) {
        const size_t size = even ? EVEN_SIZE : uneven_size(first + i);
        if (!even)
            memcpy(payload_bytes(span.sizes) + (size_t)4 * i,
                   (uint8_t[4]){(uint8_t)size, 0, 0, 0}, 4);
        total += size;
    }
    span.data = payload_create(total);
    uint8_t *at = payload_bytes(span.data);
    for (uint32_t i = 0; i < count; i++) {
        const size_t size = even ? EVEN_SIZE : uneven_size(first + i);
        memset(at, (int)((first + i) & 0xff), size);
        at += size;
    }
    return span;
}

static void check_span(const struct msg_span *span, uint64_t first, uint32_t count,
                       bool even)
{
    assert_true(span->first == first);
    assert_int_equal(span->count, count);
    assert_int_equal(span->attempt, 4);
    assert_true(span_valid(span));
    uint64_t bytes = 0;
    for (uint32_t place = 0; place < count; place++) {
        const uint8_t *data = NULL;
        size_t size = 99;
        span_task(span, place, &data, &size);
        assert_int_equal(size, even ? EVEN_SIZE : uneven_size(first + place));
        assert_int_equal(size, span_task_size(span, place));
        for (size_t i = 0; i < size; i++)
            assert_int_equal(data[i], (first + place) & 0xff);
        bytes += size;
    }
    assert_true(span_bytes(span) == bytes);
}

static void every_part_of_a_span(void **state)
{
    (void)state;
    for (int even = 0; even < 2; even++) {
        struct msg_span span = make_span(1000, 12, even);
        check_span(&span, 1000, 12, even);
        for (uint32_t begin = 0; begin < 12; begin++) {
            for (uint32_t count = 1; count <= 12 - begin; count++) {
                struct msg_span part, inner;
                assert_int_equal(span_slice(&span, 1000 + begin, count, &part), 0);
                check_span(&part, 1000 + begin, count, even);
                assert_int_equal(span_slice(&part, 1000 + begin + count - 1, 1, &inner),
                                 0);
                check_span(&inner, 1000 + begin + count - 1, 1, even);
                span_fini(&inner);
                span_fini(&part);
            }
        }
        span_fini(&span);
        assert_null(span.data);
        assert_int_equal(span.count, 0);
    }
}

static void a_part_outlives_its_span(void **state)
{
    (void)state;
    struct msg_span span = make_span(7, 100, false), part, copy;
    assert_int_equal(span_slice(&span, 50, 20, &part), 0);
    assert_int_equal(span_share(&part, &copy), 0);
    span_fini(&span);
    span_fini(&part);
    check_span(&copy, 50, 20, false);
    span_fini(&copy);
}

static void tasks_without_bytes(void **state)
{
    (void)state;
    struct msg_span span = {.first = 5, .count = 9, .attempt = 4}, part;
    assert_true(span_valid(&span));
    assert_true(span_bytes(&span) == 0);
    assert_int_equal(span_fit(&span, 0), 9);
    const uint8_t *data = (const uint8_t *)"x";
    size_t size = 1;
    span_task(&span, 3, &data, &size);
    assert_null(data);
    assert_int_equal(size, 0);
    mem_fail_after(1);
    assert_int_equal(span_slice(&span, 6, 2, &part), 0);
    mem_fail_after(0);
    assert_null(part.data);
    span_fini(&part);
}

static void fit_counts_whole_tasks(void **state)
{
    (void)state;
    for (int even = 0; even < 2; even++) {
        struct msg_span span = make_span(0, 50, even);
        for (uint64_t bytes = 0; bytes < span_bytes(&span) + 5; bytes++) {
            uint64_t sum = 0;
            uint32_t wanted = 0;
            while (wanted < 50 && sum + span_task_size(&span, wanted) <= bytes)
                sum += span_task_size(&span, wanted++);
            assert_int_equal(span_fit(&span, bytes), wanted ? wanted : 1);
        }
        assert_int_equal(span_fit(&span, UINT64_MAX), 50);
        span_fini(&span);
    }
}

static void slice_without_memory_gives_nothing(void **state)
{
    (void)state;
    struct msg_span span = make_span(0, 20, false);
    int failures = 0;
    for (size_t n = 1;; n++) {
        struct msg_span part = {.first = 77}, same = part;
        mem_fail_after(n);
        const int error = span_slice(&span, 5, 5, &part);
        mem_fail_after(0);
        if (!error) {
            check_span(&part, 5, 5, false);
            span_fini(&part);
            break;
        }
        failures++;
        assert_int_equal(error, FARPOOL_ENOMEM);
        assert_memory_equal(&part, &same, sizeof part);
        assert_int_equal(atomic_load(&span.data->refs), 1);
        assert_int_equal(atomic_load(&span.sizes->refs), 1);
    }
    assert_int_equal(failures, 2);
    span_fini(&span);
}

static void judge(uint64_t first, uint32_t count, const char *sizes, size_t sizes_size,
                  int64_t data_size, bool wanted)
{
    struct msg_span span = {.first = first, .count = count};
    if (sizes)
        span.sizes = payload_copy(sizes, sizes_size);
    if (data_size >= 0)
        span.data = payload_create((size_t)data_size);
    assert_int_equal(span_valid(&span), wanted);
    span_fini(&span);
}

static void what_is_valid_and_what_is_not(void **state)
{
    (void)state;
    judge(0, 1, NULL, 0, -1, true);
    judge(0, 0, NULL, 0, -1, false);
    judge(UINT64_MAX - 1, 1, NULL, 0, -1, true);
    judge(UINT64_MAX, 1, NULL, 0, -1, false);
    judge(UINT64_MAX - 5, 6, NULL, 0, -1, false);
    judge(0, 3, NULL, 0, 9, true);
    judge(0, 3, NULL, 0, 10, false);
    judge(0, 3, NULL, 0, 0, true);
    judge(0, 2, "\1\0\0\0\2\0\0\0", 8, 3, true);
    judge(0, 2, "\1\0\0\0\2\0\0\0", 8, 2, false);
    judge(0, 2, "\1\0\0\0\2\0\0\0", 8, 4, false);
    judge(0, 2, "\1\0\0\0\2\0\0\0", 8, -1, false);
    judge(0, 2, "\0\0\0\0\0\0\0\0", 8, -1, true);
    judge(0, 2, "\1\0\0\0\2\0\0\0", 7, 3, false);
    judge(0, 2, "\1\0\0\0\2\0\0\0\0", 9, 3, false);
    judge(0, 1, "\1\0\0\0\2\0\0\0", 8, 3, false);
    judge(0, 1, "", 0, 0, false);
    judge(0, 2, "\377\377\377\377\4\0\0\0", 8, 3, false);
    judge(0, 2, "\0\1\0\0\2\0\0\0", 8, 258, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_part_of_a_span),
        cmocka_unit_test(a_part_outlives_its_span),
        cmocka_unit_test(tasks_without_bytes),
        cmocka_unit_test(fit_counts_whole_tasks),
        cmocka_unit_test(slice_without_memory_gives_nothing),
        cmocka_unit_test(what_is_valid_and_what_is_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
