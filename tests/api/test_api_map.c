/* SPDX-License-Identifier: Apache-2.0
 *
 * test_api_map.c: map, starmap and apply: the same results as the serial loop. */
#include "tests/api/fixture.h"

#include <msgpack.h>
#include <stdlib.h>
#include <string.h>

static int64_t square(int64_t value)
{
    return value * value;
}
FARPOOL_FUNCTION(square, int64_t, int64_t)

struct point {
    double x, y;
};
typedef struct point point;
typedef char letter;

static letter quadrant(point p)
{
    return (char)('a' + (p.x < 0) + 2 * (p.y < 0));
}
FARPOOL_FUNCTION(quadrant, letter, point)

/* The input, backwards. */
static int reverse(farpool_task *task)
{
    size_t size;
    const char *input = farpool_task_input(task, &size);
    char *output = farpool_task_output(task, size);

    for (size_t i = 0; output != NULL && i < size; i++)
        output[i] = input[size - 1 - i];
    return output != NULL ? 0 : -1;
}
FARPOOL_BYTES_FUNCTION(reverse)

static int write_nothing(farpool_task *task)
{
    (void)task;
    return 0;
}
FARPOOL_BYTES_FUNCTION(write_nothing)

static int write_pieces(farpool_task *task)
{
    for (uint64_t i = 0; i <= farpool_task_index(task); i++)
        if (farpool_task_write(task, "piece ", 6) != 0)
            return -1;
    return 0;
}
FARPOOL_BYTES_FUNCTION(write_pieces)

/* a * b + the length of the text, negative if asked for. */
static int combine(farpool_task *task, const struct msgpack_object *arguments,
                   struct msgpack_packer *result)
{
    int64_t a;
    double b;
    const char *text;
    size_t size;
    bool negative;
    int code = farpool_unpack(task, arguments, "idsb", &a, &b, &text, &size, &negative);

    if (code != 0)
        return code;
    msgpack_pack_double(result, ((double)a * b + (double)size) * (negative ? -1 : 1));
    return 0;
}
FARPOOL_ARGS_FUNCTION(combine)

static void map_squares(farpool_pool *pool, size_t count, int64_t chunk_size)
{
    farpool_job_options options = FARPOOL_JOB_OPTIONS;
    int64_t *inputs = calloc(count + 1, sizeof *inputs);
    int64_t *outputs = calloc(count + 1, sizeof *outputs);
    farpool_error error;

    options.chunk_size = chunk_size;
    for (size_t i = 0; i < count; i++)
        inputs[i] = (int64_t)i - 500;
    outputs[count] = 4711;
    assert_code(farpool_map_typed(pool, FARPOOL_REF(square), inputs, count, outputs,
                                  &options, &error),
                0, &error);
    for (size_t i = 0; i < count; i++)
        if (outputs[i] != square(inputs[i]))
            fail_msg("output %zu of %zu is %ld", i, count, (long)outputs[i]);
    assert_int_equal(outputs[count], 4711);
    free(inputs);
    free(outputs);
}

static void map_equals_serial_loop(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    const size_t counts[] = {1, 2, 3, 10, 1000, 100003};

    (void)state;
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        map_squares(pool, counts[i], FARPOOL_AUTO);
    fixture_close(pool);
}

static void map_with_chunk_size_equals_serial_loop(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    const int64_t chunks[] = {1, 2, 7, 100, 1000, 1048576};

    (void)state;
    for (size_t i = 0; i < sizeof chunks / sizeof chunks[0]; i++)
        map_squares(pool, 2000, chunks[i]);
    fixture_close(pool);
}

static void map_of_a_million_in_many_spans(void **state)
{
    farpool_pool *pool = fixture_open(NULL);

    (void)state;
    map_squares(pool, 3000000, FARPOOL_AUTO);
    fixture_close(pool);
}

static void map_by_macro_with_structs(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    const point inputs[] = {{1, 1}, {-1, 1}, {1, -1}, {-1, -1}};
    letter outputs[4];
    farpool_error error;

    (void)state;
    assert_code(farpool_map(pool, quadrant, inputs, 4, outputs, &error), 0, &error);
    assert_memory_equal(outputs, "abcd", 4);
    fixture_close(pool);
}

static void apply_one_call(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    farpool_error error;
    int64_t output = 0;

    (void)state;
    for (int64_t i = 0; i < 200; i++) {
        assert_code(farpool_apply(pool, square, i, &output, &error), 0, &error);
        assert_int_equal(output, i * i);
    }
    fixture_close(pool);
}

static void apply_async_one_call(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    farpool_error error;
    farpool_job *job = farpool_apply_async(pool, square, 12, NULL, &error);
    size_t size;

    (void)state;
    assert_non_null(job);
    assert_code(farpool_job_get(job, DEADLINE_MS, &error), 0, &error);
    assert_int_equal(*(const int64_t *)farpool_job_output(job, 0, &size), 144);
    assert_int_equal(size, sizeof(int64_t));
    assert_int_equal(farpool_job_count(job), 1);
    farpool_job_free(job);
    fixture_close(pool);
}

static void apply_bytes_both_forms(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    farpool_error error;
    farpool_job *job;
    size_t size;

    (void)state;
    assert_code(
        farpool_apply_bytes(pool, FARPOOL_REF(reverse), "stressed", 8, &job, &error), 0,
        &error);
    assert_memory_equal(farpool_job_output(job, 0, &size), "desserts", 8);
    assert_int_equal(size, 8);
    farpool_job_free(job);
    job = farpool_apply_bytes_async(pool, FARPOOL_REF(reverse), "ab", 2, NULL, &error);
    assert_non_null(job);
    assert_code(farpool_job_get(job, DEADLINE_MS, &error), 0, &error);
    assert_memory_equal(farpool_job_output(job, 0, &size), "ba", 2);
    farpool_job_free(job);
    fixture_close(pool);
}

static void map_bytes_of_all_sizes(void **state)
{
    enum { COUNT = 300 };
    farpool_pool *pool = fixture_open(NULL);
    static uint8_t bytes[COUNT * 1000];
    farpool_bytes items[COUNT];
    farpool_error error;
    farpool_job *job;

    (void)state;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 7 + i / 256);
    /* From none to 200 kB, so that some are packed and some travel alone. */
    for (size_t i = 0; i < COUNT; i++)
        items[i] = (farpool_bytes){bytes, i % 50 == 49 ? 200000 + i : i * i};
    assert_code(
        farpool_map_bytes(pool, FARPOOL_REF(reverse), items, COUNT, NULL, &job, &error),
        0, &error);
    for (size_t i = 0; i < COUNT; i++) {
        size_t size;
        const uint8_t *output = farpool_job_output(job, i, &size);

        assert_non_null(output);
        assert_int_equal(size, items[i].size);
        for (size_t j = 0; j < size; j++)
            if (output[j] != bytes[size - 1 - j])
                fail_msg("byte %zu of output %zu", j, i);
    }
    farpool_job_free(job);
    fixture_close(pool);
}

static void typed_function_through_bytes(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    const int64_t values[] = {3, 4};
    const farpool_bytes items[] = {{&values[0], 8}, {&values[1], 8}};
    const farpool_bytes wrong[] = {{&values[0], 8}, {&values[1], 7}};
    farpool_error error;
    farpool_job *job;

    (void)state;
    assert_code(
        farpool_map_bytes(pool, FARPOOL_REF(square), items, 2, NULL, &job, &error), 0,
        &error);
    assert_int_equal(((const int64_t *)farpool_job_outputs(job))[1], 16);
    farpool_job_free(job);
    assert_code(
        farpool_map_bytes(pool, FARPOOL_REF(square), wrong, 2, NULL, &job, &error),
        FARPOOL_EINVAL, &error);
    assert_text(&error, "map: input 1 has 7 bytes, but square takes 8");
    assert_null(job);
    fixture_close(pool);
}

static void outputs_may_be_empty_and_grow(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    const farpool_bytes items[3] = {{NULL, 0}, {NULL, 0}, {"x", 1}};
    farpool_error error;
    farpool_job *job;
    size_t size = 1;

    (void)state;
    assert_code(
        farpool_map_bytes(pool, FARPOOL_REF(write_nothing), items, 3, NULL, &job, &error),
        0, &error);
    assert_non_null(farpool_job_output(job, 2, &size));
    assert_int_equal(size, 0);
    assert_null(farpool_job_outputs(job));
    farpool_job_free(job);
    assert_code(
        farpool_map_bytes(pool, FARPOOL_REF(write_pieces), items, 3, NULL, &job, &error),
        0, &error);
    assert_memory_equal(farpool_job_output(job, 2, &size), "piece piece piece ", 18);
    assert_int_equal(size, 18);
    farpool_job_free(job);
    fixture_close(pool);
}

static farpool_list *make_arguments(size_t count)
{
    farpool_list *list = farpool_list_create();

    for (size_t i = 0; i < count; i++)
        assert_int_equal(
            farpool_list_pack(list, "idsb", (int64_t)i, 0.5, "four", (int)(i % 2)), 0);
    assert_int_equal(farpool_list_count(list), count);
    return list;
}

static void check_combined(farpool_job *job, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        double expected = ((double)i * 0.5 + 4) * (i % 2 ? -1 : 1);
        size_t size, offset = 0;
        const void *output = farpool_job_output(job, i, &size);
        msgpack_unpacked value;

        assert_non_null(output);
        msgpack_unpacked_init(&value);
        assert_int_equal(msgpack_unpack_next(&value, output, size, &offset),
                         MSGPACK_UNPACK_SUCCESS);
        assert_true(value.data.via.f64 == expected);
        msgpack_unpacked_destroy(&value);
    }
}

static void starmap_and_its_async_form(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    farpool_list *list = make_arguments(100);
    farpool_error error;
    farpool_job *job;

    (void)state;
    assert_code(farpool_starmap(pool, FARPOOL_REF(combine), list, NULL, &job, &error), 0,
                &error);
    check_combined(job, 100);
    farpool_job_free(job);
    job = farpool_starmap_async(pool, FARPOOL_REF(combine), list, NULL, &error);
    assert_non_null(job);
    farpool_list_free(list); /* copied */
    assert_code(farpool_job_get(job, DEADLINE_MS, &error), 0, &error);
    check_combined(job, 100);
    farpool_job_free(job);
    fixture_close(pool);
}

static void list_refuses_bad_formats(void **state)
{
    farpool_list *list = farpool_list_create();

    (void)state;
    assert_int_equal(farpool_list_pack(list, "ix", (int64_t)1), FARPOOL_EINVAL);
    assert_int_equal(farpool_list_pack(list, "s", (const char *)NULL), FARPOOL_EINVAL);
    assert_int_equal(farpool_list_pack(list, "r", (const void *)NULL, (size_t)1),
                     FARPOOL_EINVAL);
    assert_int_equal(farpool_list_pack(list, NULL), FARPOOL_EINVAL);
    assert_int_equal(farpool_list_pack(NULL, "i", (int64_t)1), FARPOOL_EINVAL);
    assert_int_equal(farpool_list_add(list, NULL, 1), FARPOOL_EINVAL);
    assert_int_equal(farpool_list_count(list), 0);
    assert_int_equal(farpool_list_add(list, NULL, 0), 0);
    assert_int_equal(farpool_list_pack(list, "", 0), 0);
    assert_int_equal(farpool_list_count(list), 2);
    farpool_list_free(list);
    farpool_list_free(NULL);
    assert_int_equal(farpool_list_count(NULL), 0);
}

static int no_input(void *user, farpool_bytes *ret_item, char message[256])
{
    (void)user;
    (void)ret_item;
    (void)message;
    return FARPOOL_END;
}

static void every_call_on_empty_input(void **state)
{
    farpool_pool *pool = fixture_open(NULL);
    farpool_job_options options = FARPOOL_JOB_OPTIONS;
    farpool_list *list = farpool_list_create();
    farpool_iterator *iterator;
    farpool_error error;
    farpool_bytes output;
    farpool_job *job;

    (void)state;
    options.chunk_size = 1;
    assert_code(farpool_map(pool, square, NULL, 0, NULL, &error), 0, &error);
    assert_code(
        farpool_map_typed(pool, FARPOOL_REF(square), NULL, 0, NULL, &options, &error), 0,
        &error);
    job = farpool_map_async(pool, square, NULL, 0, &options, &error);
    assert_true(farpool_job_ready(job));
    assert_int_equal(farpool_job_successful(job), 1);
    assert_int_equal(farpool_job_count(job), 0);
    assert_non_null(farpool_job_outputs(job));
    farpool_job_free(job);
    assert_code(
        farpool_map_bytes(pool, FARPOOL_REF(reverse), NULL, 0, &options, &job, &error), 0,
        &error);
    farpool_job_free(job);
    assert_code(farpool_starmap(pool, FARPOOL_REF(combine), list, &options, &job, &error),
                0, &error);
    farpool_job_free(job);
    iterator = farpool_imap(pool, FARPOOL_REF(square), no_input, NULL, &options, &error);
    assert_int_equal(farpool_next(iterator, DEADLINE_MS, &output, NULL, &error),
                     FARPOOL_END);
    assert_int_equal(farpool_next(iterator, 0, &output, NULL, &error), FARPOOL_END);
    farpool_iterator_free(iterator);
    iterator =
        farpool_imap_unordered(pool, FARPOOL_REF(square), no_input, NULL, NULL, &error);
    assert_int_equal(farpool_next(iterator, DEADLINE_MS, &output, NULL, &error),
                     FARPOOL_END);
    farpool_iterator_free(iterator);
    farpool_list_free(list);
    fixture_close(pool);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(map_equals_serial_loop),
    cmocka_unit_test(map_with_chunk_size_equals_serial_loop),
    cmocka_unit_test(map_of_a_million_in_many_spans),
    cmocka_unit_test(map_by_macro_with_structs),
    cmocka_unit_test(apply_one_call),
    cmocka_unit_test(apply_async_one_call),
    cmocka_unit_test(apply_bytes_both_forms),
    cmocka_unit_test(map_bytes_of_all_sizes),
    cmocka_unit_test(typed_function_through_bytes),
    cmocka_unit_test(outputs_may_be_empty_and_grow),
    cmocka_unit_test(starmap_and_its_async_form),
    cmocka_unit_test(list_refuses_bad_formats),
    cmocka_unit_test(every_call_on_empty_input),
};
FIXTURE_MAIN(tests)
