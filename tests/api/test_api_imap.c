/* SPDX-License-Identifier: Apache-2.0
 *
 * test_api_imap.c: imap and imap_unordered: order, failures at their place, lazy input.
 */
#include "tests/api/fixture.h"

#include <stdlib.h>
#include <string.h>

static int64_t square(int64_t value)
{
    if (value % 100 == 50)
        farpool_fail(farpool_task_current(), "%ld is refused", (long)value);
    return value * value;
}
FARPOOL_FUNCTION(square, int64_t, int64_t)

static int echo(farpool_task *task)
{
    size_t size;
    const void *input = farpool_task_input(task, &size);

    return farpool_task_write(task, input, size);
}
FARPOOL_BYTES_FUNCTION(echo)

typedef struct gate {
    struct sign go;
    int64_t value, waits;
} gate;

static int64_t pass(gate input)
{
    if (input.waits)
        sign_wait_in_task(&input.go);
    return input.value;
}
FARPOOL_FUNCTION(pass, int64_t, gate)

/* Counts up from 0; ends or fails at a place. */
struct counter {
    int64_t next, end, fails;
    int64_t value;
    int inside; /* calls in progress */
};

static int count_up(void *user, farpool_bytes *ret_item, char message[256])
{
    struct counter *counter = user;

    assert_int_equal(counter->inside++, 0);
    counter->value = counter->next++;
    counter->inside--;
    if (counter->value == counter->fails) {
        strcpy(message, "the well is dry");
        return -1;
    }
    if (counter->value == counter->end)
        return FARPOOL_END;
    *ret_item = (farpool_bytes){&counter->value, sizeof counter->value};
    return 0;
}

static int64_t value_of(const farpool_bytes *output)
{
    int64_t value;

    assert_int_equal(output->size, sizeof value);
    memcpy(&value, output->data, sizeof value);
    return value;
}

/* Reads `count` results; those at 50, 150 ... fail at their place. */
static void read_in_order(farpool_iterator *iterator, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        farpool_bytes output;
        farpool_error error;
        uint64_t index = 0;
        int code = farpool_next(iterator, DEADLINE_MS, &output, &index, &error);

        assert_int_equal(index, i);
        if (i % 100 == 50) {
            assert_code(code, FARPOOL_EFUNCTION, &error);
            assert_int_equal(error.index, i);
            assert_text(&error, "is refused");
            continue;
        }
        assert_code(code, 0, &error);
        assert_int_equal(value_of(&output), i * i);
    }
}

static void imap_order_and_end(farpool_pool *pool, int64_t chunk_size)
{
    farpool_job_options options = FARPOOL_JOB_OPTIONS;
    struct counter counter = {.end = 1000, .fails = -1};
    farpool_iterator *iterator;
    farpool_progress progress;
    farpool_bytes output;
    farpool_error error;

    options.chunk_size = chunk_size;
    iterator =
        farpool_imap(pool, FARPOOL_REF(square), count_up, &counter, &options, &error);
    assert_non_null(iterator);
    read_in_order(iterator, 1000);
    assert_int_equal(farpool_next(iterator, DEADLINE_MS, &output, NULL, &error),
                     FARPOOL_END);
    assert_int_equal(farpool_iterator_progress(iterator, &progress), 0);
    assert_int_equal(progress.total, 1000);
    assert_int_equal(progress.done, 1000);
    assert_int_equal(progress.failed, 10);
    farpool_iterator_free(iterator);
}

static void imap_order_end_and_failures_in_place(void **state)
{
    farpool_pool *pool = fixture_open(NULL);

    (void)state;
    imap_order_and_end(pool, FARPOOL_AUTO);
    imap_order_and_end(pool, 1);
    fixture_close(pool);
}

static void imap_chunk_size_100_loses_nothing(void **state)
{
    farpool_pool *pool = fixture_open(NULL);

    (void)state;
    imap_order_and_end(pool, 100);
    fixture_close(pool);
}

static void unordered_gives_the_same_multiset(void **state)
{
    enum { COUNT = 1000 };
    farpool_pool *pool = fixture_open(NULL);
    struct counter counter = {.end = COUNT, .fails = -1};
    char seen[COUNT] = "";
    farpool_error error;
    farpool_bytes output;
    uint64_t index;
    int code, results = 0, failures = 0;
    farpool_iterator *iterator = farpool_imap_unordered(pool, FARPOOL_REF(square),
                                                        count_up, &counter, NULL, &error);

    (void)state;
    while ((code = farpool_next(iterator, DEADLINE_MS, &output, &index, &error)) !=
           FARPOOL_END) {
        assert_true(code == 0 || code == FARPOOL_EFUNCTION);
        assert_true(index < COUNT && !seen[index]);
        seen[index] = 1;
        results++;
        if (code == 0)
            assert_int_equal(value_of(&output), (int64_t)(index * index));
        else
            failures++;
    }
    assert_int_equal(results, COUNT);
    assert_int_equal(failures, 10);
    farpool_iterator_free(iterator);
    fixture_close(pool);
}

static int give_gates(void *user, farpool_bytes *ret_item, char message[256])
{
    static gate item;
    gate *first = user;

    (void)message;
    item = *first;
    item.waits = item.value == 0;
    if (first->value++ == 10)
        return FARPOOL_END;
    *ret_item = (farpool_bytes){&item, sizeof item};
    return 0;
}

static void unordered_as_they_finish(void **state)
{
    farpool_pool *pool = fixture_open_processes(2);
    gate first;
    farpool_error error;
    farpool_bytes output;
    farpool_iterator *iterator;

    (void)state;
    memset(&first, 0, sizeof first);
    first.go = sign_create();
    iterator =
        farpool_imap_unordered(pool, FARPOOL_REF(pass), give_gates, &first, NULL, &error);
    for (int i = 0; i < 9; i++) {
        assert_code(farpool_next(iterator, DEADLINE_MS, &output, NULL, &error), 0,
                    &error);
        assert_true(value_of(&output) != 0);
    }
    sign_post(&first.go, 1);
    assert_code(farpool_next(iterator, DEADLINE_MS, &output, NULL, &error), 0, &error);
    assert_int_equal(value_of(&output), 0);
    assert_int_equal(farpool_next(iterator, DEADLINE_MS, &output, NULL, &error),
                     FARPOOL_END);
    farpool_iterator_free(iterator);
    fixture_close(pool);
}

static void next_times_out_and_goes_on(void **state)
{
    farpool_pool *pool = fixture_open_processes(2);
    gate first;
    farpool_error error;
    farpool_bytes output;
    farpool_iterator *iterator;
    uint64_t before_ms;

    (void)state;
    memset(&first, 0, sizeof first);
    first.go = sign_create();
    iterator = farpool_imap(pool, FARPOOL_REF(pass), give_gates, &first, NULL, &error);
    before_ms = fixture_now_ms();
    assert_int_equal(farpool_next(iterator, 50, &output, NULL, &error),
                     FARPOOL_ETIMEDOUT);
    assert_in_range(fixture_now_ms() - before_ms, 49, 400);
    assert_text(&error, "next: no result within 50 ms");
    assert_int_equal(farpool_next(iterator, 0, &output, NULL, &error), FARPOOL_ETIMEDOUT);
    sign_post(&first.go, 1);
    for (int i = 0; i < 10; i++) {
        assert_code(farpool_next(iterator, DEADLINE_MS, &output, NULL, &error), 0,
                    &error);
        assert_int_equal(value_of(&output), i);
    }
    farpool_iterator_free(iterator);
    fixture_close(pool);
}

static void input_fails_at(int64_t place, bool ordered)
{
    farpool_pool *pool = fixture_open(NULL);
    struct counter counter = {.end = -1, .fails = place};
    farpool_error error;
    farpool_bytes output;
    uint64_t index = 99;
    farpool_iterator *iterator = (ordered ? farpool_imap : farpool_imap_unordered)(
        pool, FARPOOL_REF(square), count_up, &counter, NULL, &error);

    for (int64_t i = 0; i < place; i++)
        assert_code(farpool_next(iterator, DEADLINE_MS, &output, &index, &error), 0,
                    &error);
    assert_code(farpool_next(iterator, DEADLINE_MS, &output, &index, &error),
                FARPOOL_EINPUT, &error);
    assert_int_equal(index, place);
    assert_int_equal(error.index, place);
    assert_text(&error, "the well is dry");
    assert_int_equal(farpool_next(iterator, DEADLINE_MS, &output, NULL, &error),
                     FARPOOL_END);
    assert_int_equal(counter.next, place + 1); /* not asked again */
    farpool_iterator_free(iterator);
    fixture_close(pool);
}

static void input_failing_at_its_first_item(void **state)
{
    (void)state;
    input_fails_at(0, true);
    input_fails_at(0, false);
}

static void input_failing_in_the_middle(void **state)
{
    (void)state;
    input_fails_at(37, true);
    input_fails_at(37, false);
}

static int give_wrong_size(void *user, farpool_bytes *ret_item, char message[256])
{
    (void)user;
    (void)message;
    *ret_item = (farpool_bytes){"abc", 3};
    return 0;
}

static void input_of_the_wrong_size(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    farpool_error error;
    farpool_bytes output;
    farpool_iterator *iterator =
        farpool_imap(pool, FARPOOL_REF(square), give_wrong_size, NULL, NULL, &error);

    (void)state;
    assert_code(farpool_next(iterator, DEADLINE_MS, &output, NULL, &error),
                FARPOOL_EINPUT, &error);
    assert_text(&error, "imap: input 0 failed: it has 3 bytes, but square takes 8");
    farpool_iterator_free(iterator);
    fixture_close(pool);
}

static void input_is_pulled_as_results_are_read(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    struct counter counter = {.end = -1, .fails = -1};
    farpool_job_options options = FARPOOL_JOB_OPTIONS;
    farpool_error error;
    farpool_iterator *iterator;

    (void)state;
    options.tasks_under_way = 10;
    iterator =
        farpool_imap(pool, FARPOOL_REF(square), count_up, &counter, &options, &error);
    for (int64_t i = 0; i < 45; i++) {
        farpool_bytes output;

        assert_code(farpool_next(iterator, DEADLINE_MS, &output, NULL, &error), 0,
                    &error);
        assert_true(counter.next <= i + 1 + 10);
    }
    farpool_iterator_free(iterator);
    fixture_close(pool);
}

static int give_blocks(void *user, farpool_bytes *ret_item, char message[256])
{
    static uint8_t block[100000];
    uint64_t *count = user;

    (void)message;
    memcpy(block, count, sizeof *count);
    (*count)++;
    *ret_item = (farpool_bytes){block, sizeof block};
    return 0;
}

static void endless_input_in_constant_memory(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    farpool_job_options options = FARPOOL_JOB_OPTIONS;
    uint64_t count = 0, before = 0;
    farpool_error error;
    farpool_iterator *iterator;

    (void)state;
    options.bytes_under_way = 4 << 20;
    iterator =
        farpool_imap(pool, FARPOOL_REF(echo), give_blocks, &count, &options, &error);
    for (uint64_t i = 0; i < 4000; i++) { /* 400 MB in, 400 MB out */
        farpool_bytes output;
        uint64_t number;

        assert_code(farpool_next(iterator, DEADLINE_MS, &output, NULL, &error), 0,
                    &error);
        assert_int_equal(output.size, 100000);
        memcpy(&number, output.data, sizeof number);
        assert_int_equal(number, i);
        if (i == 1000)
            before = fixture_memory();
    }
    assert_true(fixture_memory() < before + (64 << 20));
    farpool_iterator_free(iterator);
    fixture_close(pool);
}

static void free_in_the_middle_and_go_on(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    farpool_error error;

    (void)state;
    for (int round = 0; round < 20; round++) {
        struct counter counter = {.end = -1, .fails = -1};
        farpool_iterator *iterator =
            farpool_imap(pool, FARPOOL_REF(square), count_up, &counter, NULL, &error);

        read_in_order(iterator, round);
        farpool_iterator_free(iterator);
    }
    imap_order_and_end(pool, FARPOOL_AUTO);
    farpool_iterator_free(NULL);
    fixture_close(pool);
}

static void two_iterators_in_turn(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    struct counter counters[2] = {{.end = 300, .fails = -1}, {.end = 300, .fails = -1}};
    farpool_iterator *iterators[2];
    farpool_error error;

    (void)state;
    for (int i = 0; i < 2; i++)
        iterators[i] =
            farpool_imap(pool, FARPOOL_REF(square), count_up, &counters[i], NULL, &error);
    for (int64_t i = 0; i < 300; i++)
        for (int j = 0; j < 2; j++) {
            farpool_bytes output;
            int code = farpool_next(iterators[j], DEADLINE_MS, &output, NULL, &error);

            assert_code(code, i % 100 == 50 ? FARPOOL_EFUNCTION : 0, &error);
            assert_true(code != 0 || value_of(&output) == i * i);
        }
    for (int i = 0; i < 2; i++)
        farpool_iterator_free(iterators[i]);
    fixture_close(pool);
}

static void terminate_ends_an_endless_iteration(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    struct counter counter = {.end = -1, .fails = -1};
    farpool_error error;
    farpool_bytes output;
    int code, rounds = 0;
    farpool_iterator *iterator =
        farpool_imap(pool, FARPOOL_REF(square), count_up, &counter, NULL, &error);

    (void)state;
    read_in_order(iterator, 5);
    fixture_terminate(pool);
    while ((code = farpool_next(iterator, DEADLINE_MS, &output, NULL, &error)) !=
           FARPOOL_END) {
        assert_true(code == 0 || code == FARPOOL_EFUNCTION ||
                    code == FARPOOL_ETERMINATED);
        assert_true(rounds++ < 1000000);
        if (code == FARPOOL_ETERMINATED)
            break;
    }
    assert_int_equal(code, FARPOOL_ETERMINATED); /* not a silent end */
    farpool_iterator_free(iterator);
}

#define MIXED 60
#define MIXED_MAX (1536 << 10)

/* Sizes among which small inputs are put together and large ones are alone. */
static size_t mixed_size(uint64_t index)
{
    static const size_t sizes[] = {9,         65536,     0,     700,
                                   MIXED_MAX, MIXED_MAX, 65535, 1 << 20};

    return sizes[index % 8];
}

struct mixed {
    uint64_t next;
    uint8_t bytes[MIXED_MAX];
};

static int next_mixed(void *user, farpool_bytes *ret_item, char message[256])
{
    struct mixed *mixed = user;
    size_t size = mixed_size(mixed->next);

    (void)message;
    if (mixed->next == MIXED)
        return FARPOOL_END;
    memset(mixed->bytes, (int)mixed->next++, size);
    *ret_item = (farpool_bytes){mixed->bytes, size};
    return 0;
}

/* Each result is its input's bytes, though the input's memory has been used again. */
static void large_inputs_among_small_ones(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    struct mixed *mixed = calloc(1, sizeof *mixed);
    farpool_bytes output;
    farpool_error error;
    farpool_iterator *iterator;

    (void)state;
    assert_non_null(mixed);
    iterator = farpool_imap(pool, FARPOOL_REF(echo), next_mixed, mixed, NULL, &error);
    assert_non_null(iterator);
    for (uint64_t i = 0; i < MIXED; i++) {
        assert_code(farpool_next(iterator, DEADLINE_MS, &output, NULL, &error), 0,
                    &error);
        assert_int_equal(output.size, mixed_size(i));
        for (size_t k = 0; k < output.size; k++)
            if (((const uint8_t *)output.data)[k] != i)
                fail_msg("result %lu, byte %zu", (unsigned long)i, k);
    }
    assert_int_equal(farpool_next(iterator, DEADLINE_MS, &output, NULL, &error),
                     FARPOOL_END);
    farpool_iterator_free(iterator);
    free(mixed);
    fixture_close(pool);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(imap_order_end_and_failures_in_place),
    cmocka_unit_test(imap_chunk_size_100_loses_nothing),
    cmocka_unit_test(unordered_gives_the_same_multiset),
    cmocka_unit_test(unordered_as_they_finish),
    cmocka_unit_test(next_times_out_and_goes_on),
    cmocka_unit_test(input_failing_at_its_first_item),
    cmocka_unit_test(input_failing_in_the_middle),
    cmocka_unit_test(input_of_the_wrong_size),
    cmocka_unit_test(input_is_pulled_as_results_are_read),
    cmocka_unit_test(endless_input_in_constant_memory),
    cmocka_unit_test(free_in_the_middle_and_go_on),
    cmocka_unit_test(two_iterators_in_turn),
    cmocka_unit_test(terminate_ends_an_endless_iteration),
    cmocka_unit_test(large_inputs_among_small_ones),
};
FIXTURE_MAIN(tests)
