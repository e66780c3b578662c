/* SPDX-License-Identifier: Apache-2.0
 *
 * test_base_ring.c: records through a ring, in one thread and between two; a full ring,
 * its end, and an other side that writes nonsense. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/id.h"
#include "common/base/ring.h"
#include "farpool.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#define SIZE 4096u
#define GENERATION 7

struct bed {
    struct ring_shared shared;
    _Alignas(RING_ALIGN) uint8_t data[SIZE];
    struct ring producer, consumer;
};

static struct bed *make_bed(void)
{
    struct bed *bed = aligned_alloc(RING_ALIGN, sizeof *bed);
    assert_non_null(bed);
    memset(bed, 0, sizeof *bed);
    ring_init(&bed->producer, &bed->shared, bed->data, SIZE, GENERATION);
    ring_init(&bed->consumer, &bed->shared, bed->data, SIZE, GENERATION);
    return bed;
}

static bool put(struct ring *ring, uint16_t kind, uint32_t length, uint64_t seed)
{
    uint8_t *body = ring_reserve(ring, length);
    if (body == NULL)
        return false;
    for (uint32_t i = 0; i < length; i++)
        body[i] = (uint8_t)(seed + i);
    ring_commit(ring, kind, length);
    ring_publish(ring);
    return true;
}

static bool get(struct ring *ring, uint16_t kind, uint32_t length, uint64_t seed)
{
    struct ring_record record;
    int there = ring_peek(ring, &record);
    if (there == 0)
        return false;
    assert_int_equal(there, 1);
    assert_int_equal(record.kind, kind);
    assert_int_equal(record.length, length);
    assert_int_equal((uintptr_t)record.body % RING_ALIGN, RING_HEADER_BYTES);
    for (uint32_t i = 0; i < length; i++)
        assert_int_equal(record.body[i], (uint8_t)(seed + i));
    ring_advance(ring, &record);
    ring_release(ring);
    return true;
}

static void records_come_in_order(void **state)
{
    struct bed *bed = make_bed();
    uint64_t seed = 1, written = 0, read = 0;
    uint32_t lengths[64];
    (void)state;
    while (read < 20000) {
        uint32_t length = (uint32_t)rng_below(&seed, ring_body_max(&bed->producer) + 1);
        if (written - read < 64 && put(&bed->producer, 1 + written % 9, length, written))
            lengths[written++ % 64] = length;
        else
            while (read < written && rng_below(&seed, 4) != 0) {
                assert_true(get(&bed->consumer, 1 + read % 9, lengths[read % 64], read));
                read++;
            }
    }
    free(bed);
}

static void a_full_ring_refuses_and_recovers(void **state)
{
    struct bed *bed = make_bed();
    uint64_t written = 0;
    (void)state;
    while (put(&bed->producer, 1, 40, written))
        written++;
    assert_int_equal(written, SIZE / RING_ALIGN);
    assert_false(put(&bed->producer, 1, 40, 0));
    assert_true(get(&bed->consumer, 1, 40, 0));
    assert_true(put(&bed->producer, 1, 40, written));
    assert_false(put(&bed->producer, 1, 40, 0));
    for (uint64_t i = 1; i <= written; i++)
        assert_true(get(&bed->consumer, 1, 40, i));
    assert_false(get(&bed->consumer, 1, 40, 0));
    free(bed);
}

static void what_is_not_published_is_not_seen(void **state)
{
    struct bed *bed = make_bed();
    struct ring_record record;
    (void)state;
    assert_non_null(ring_reserve(&bed->producer, 10));
    ring_commit(&bed->producer, 3, 10);
    assert_non_null(ring_reserve(&bed->producer, 10));
    ring_commit(&bed->producer, 4, 5);
    assert_int_equal(ring_peek(&bed->consumer, &record), 0);
    assert_false(ring_ready(&bed->consumer));
    ring_publish(&bed->producer);
    assert_true(ring_ready(&bed->consumer));
    assert_int_equal(ring_peek(&bed->consumer, &record), 1);
    assert_int_equal(record.kind, 3);
    ring_advance(&bed->consumer, &record);
    assert_int_equal(ring_peek(&bed->consumer, &record), 1);
    assert_int_equal(record.kind, 4);
    assert_int_equal(record.length, 5);
    free(bed);
}

static void a_record_stays_until_it_is_released(void **state)
{
    struct bed *bed = make_bed();
    struct ring_record record;
    (void)state;
    for (int i = 0; i < 4; i++)
        assert_true(put(&bed->producer, 1, ring_body_max(&bed->producer), 5));
    assert_int_equal(ring_peek(&bed->consumer, &record), 1);
    ring_advance(&bed->consumer, &record);
    assert_null(ring_reserve(&bed->producer, 0));
    assert_int_equal(record.body[17], 5 + 17);
    ring_release(&bed->consumer);
    assert_non_null(ring_reserve(&bed->producer, 0));
    free(bed);
}

static void nonsense_of_the_producer_is_refused(void **state)
{
    static const uint64_t heads[] = {
        1, 63, SIZE + RING_ALIGN, UINT64_MAX, UINT64_MAX - RING_ALIGN + 1, 1ull << 40};
    struct ring_record record;
    (void)state;
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        struct bed *bed = make_bed();
        put(&bed->producer, 1, 8, 0);
        atomic_store(&bed->shared.head, heads[i]);
        assert_int_equal(ring_peek(&bed->consumer, &record), FARPOOL_EPROTOCOL);
        free(bed);
    }
    static const struct ring_header headers[] = {
        {SIZE, 1, GENERATION, 0},       {UINT32_MAX, 1, GENERATION, 0},
        {100, 1, GENERATION, 0},        {8, 1, GENERATION + 1, 0},
        {8, 1, GENERATION, RING_ALIGN}, {100, RING_PAD, GENERATION, 0}};
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        struct bed *bed = make_bed();
        put(&bed->producer, 1, 8, 0); /* one line of 64 bytes is there */
        memcpy(bed->data, &headers[i], sizeof headers[i]);
        assert_int_equal(ring_peek(&bed->consumer, &record), FARPOOL_EPROTOCOL);
        free(bed);
    }
}

static void nonsense_of_the_consumer_breaks_the_ring(void **state)
{
    static const uint64_t tails[] = {1, RING_ALIGN + SIZE, UINT64_MAX, 1ull << 63};
    (void)state;
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++) {
        struct bed *bed = make_bed();
        while (put(&bed->producer, 1, 8, 0))
            ;
        assert_false(bed->producer.broken);
        atomic_store(&bed->shared.tail, tails[i]);
        assert_null(ring_reserve(&bed->producer, 8));
        assert_true(bed->producer.broken);
        atomic_store(&bed->shared.tail, RING_ALIGN); /* too late to make good */
        assert_null(ring_reserve(&bed->producer, 8));
        free(bed);
    }
}

static void a_consumer_never_goes_back(void **state)
{
    struct bed *bed = make_bed();
    (void)state;
    for (int i = 0; i < 10; i++) {
        assert_true(put(&bed->producer, 1, 8, 0));
        assert_true(get(&bed->consumer, 1, 8, 0));
    }
    ring_refresh(&bed->producer);
    assert_int_equal(bed->producer.tail, 10 * RING_ALIGN);
    atomic_store(&bed->shared.tail, 9 * RING_ALIGN);
    ring_refresh(&bed->producer);
    assert_true(bed->producer.broken);
    free(bed);
}

#define THREAD_RECORDS 200000

static void *produce(void *user)
{
    struct bed *bed = user;
    uint64_t seed = 3;
    for (uint64_t i = 0; i < THREAD_RECORDS;) {
        uint64_t before = seed;
        if (put(&bed->producer, 1, (uint32_t)rng_below(&seed, 300), i)) {
            i++;
        } else {
            seed = before;
            sched_yield();
        }
    }
    return NULL;
}

static void two_threads_agree(void **state)
{
    struct bed *bed = make_bed();
    pthread_t thread;
    uint64_t seed = 3;
    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, produce, bed), 0);
    for (uint64_t i = 0; i < THREAD_RECORDS; i++) {
        uint32_t length = (uint32_t)rng_below(&seed, 300);
        while (!get(&bed->consumer, 1, length, i))
            sched_yield();
    }
    pthread_join(thread, NULL);
    free(bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_come_in_order),
        cmocka_unit_test(a_full_ring_refuses_and_recovers),
        cmocka_unit_test(what_is_not_published_is_not_seen),
        cmocka_unit_test(a_record_stays_until_it_is_released),
        cmocka_unit_test(nonsense_of_the_producer_is_refused),
        cmocka_unit_test(nonsense_of_the_consumer_breaks_the_ring),
        cmocka_unit_test(a_consumer_never_goes_back),
        cmocka_unit_test(two_threads_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
