/* SPDX-License-Identifier: Apache-2.0
 *
 * test_host_run.c: real processes of this program run tasks: every form, every size, and
 * failures of a task alone. What the host asks of a process meanwhile is in
 * test_host_control.c. */
#include "tests/unit/host_fixture.h"

#include "farpool.h"

#include <msgpack.h>

typedef struct wide {
    double value[512];
} wide;

static int64_t half(int64_t value)
{
    if (value % 2 != 0)
        farpool_fail(farpool_task_current(), "%lld is odd", (long long)value);
    return value / 2;
}
FARPOOL_FUNCTION(half, int64_t, int64_t)

static wide widen(int32_t value)
{
    wide all;
    for (int i = 0; i < 512; i++)
        all.value[i] = value + i;
    return all;
}
FARPOOL_FUNCTION(widen, wide, int32_t)

static uint64_t index_of(uint8_t unused)
{
    (void)unused;
    return farpool_task_index(farpool_task_current());
}
FARPOOL_FUNCTION(index_of, uint64_t, uint8_t)

static int echo(farpool_task *task)
{
    size_t size;
    const void *input = farpool_task_input(task, &size);
    if ((uintptr_t)input % 16 != 0 && size > 0)
        return farpool_fail(task, "the input is not aligned");
    void *output = farpool_task_output(task, size);
    if (output == NULL)
        return FARPOOL_EFUNCTION;
    memcpy(output, input, size);
    return 0;
}
FARPOOL_BYTES_FUNCTION(echo)

static int repeat(farpool_task *task)
{
    uint64_t size;
    memcpy(&size, farpool_task_input(task, NULL), sizeof size);
    char *output = farpool_task_output(task, size);
    if (output == NULL)
        return -1;
    memset(output, (int)farpool_task_index(task), size);
    return 0;
}
FARPOOL_BYTES_FUNCTION(repeat)

static int append(farpool_task *task)
{
    uint64_t size;
    memcpy(&size, farpool_task_input(task, NULL), sizeof size);
    for (uint64_t i = 0; i < size; i += 1000)
        if (farpool_task_write(task, "abcdefgh", size - i < 8 ? size - i : 8) != 0)
            return -1;
    return 0;
}
FARPOOL_BYTES_FUNCTION(append)

static int refuse(farpool_task *task)
{
    return farpool_task_attempt(task) == 3 ? 5 : 0;
}
FARPOOL_BYTES_FUNCTION(refuse)

static int add(farpool_task *task, const struct msgpack_object *arguments,
               struct msgpack_packer *result)
{
    int64_t a;
    double b;
    const char *text;
    size_t size;
    if (farpool_unpack(task, arguments, "ids", &a, &b, &text, &size) != 0)
        return -1;
    return msgpack_pack_double(result, (double)a + b + (double)size);
}
FARPOOL_ARGS_FUNCTION(add)

static int quiet(farpool_task *task, const struct msgpack_object *arguments,
                 struct msgpack_packer *result)
{
    (void)task, (void)arguments, (void)result;
    return 0;
}
FARPOOL_ARGS_FUNCTION(quiet)

static void runs_typed_tasks(void **state)
{
    struct fixture *fixture = *state;
    enum { COUNT = 100000 };
    static int64_t inputs[COUNT], outputs[COUNT];
    for (int64_t i = 0; i < COUNT; i++)
        inputs[i] = 2 * i;
    const uint32_t shapes[][2] = {{1, 1}, {1, 100}, {7, 3}, {1000, 1000}, {1, 50000}};
    for (uint64_t s = 0; s < 5; s++) {
        uint32_t count = s == 0 ? 1000 : COUNT;
        struct giving giving = giving_of("half", count, inputs, count * sizeof *inputs);
        giving.give = s;
        giving.first = 1000 * s;
        giving.claim = shapes[s][0];
        giving.publish = shapes[s][1];
        memset(outputs, 0xff, sizeof outputs);
        fixture_give(fixture, &giving);
        fixture_collect(fixture, s, 1000 * s, count, outputs, sizeof outputs);
        for (int64_t i = 0; i < count; i++)
            assert_int_equal(outputs[i], i);
        fixture_forget(fixture);
    }
}

static void wide_outputs_pass_through_the_arena(void **state)
{
    struct fixture *fixture = *state;
    int32_t inputs[1000];
    wide *outputs = malloc(1000 * sizeof *outputs);
    for (int32_t i = 0; i < 1000; i++)
        inputs[i] = i;
    struct giving giving = giving_of("widen", 1000, inputs, sizeof inputs);
    giving.give = 9;
    giving.first = 3;
    giving.claim = 10;
    giving.publish = 1000;
    fixture_give(fixture, &giving);
    fixture_collect(fixture, 9, 3, 1000, outputs, 1000 * sizeof *outputs);
    for (int i = 0; i < 1000; i++)
        for (int k = 0; k < 512; k++)
            assert_true(outputs[i].value[k] == i + k);
    free(outputs);
}

static void a_failing_typed_task_fails_alone(void **state)
{
    struct fixture *fixture = *state;
    int64_t inputs[] = {0, 2, 3, 4, 5, 7, 8};
    uint64_t failed = 0, done = 0;
    struct giving giving = giving_of("half", 7, inputs, sizeof inputs);
    giving.first = 10;
    giving.claim = 7;
    giving.publish = 7;
    fixture_give(fixture, &giving);
    while (failed + done < 7) {
        struct told *told = fixture_next(fixture);
        assert_int_equal(told->event.first, 10 + failed + done);
        if (told->event.kind == WORKER_PROCESS_DONE) {
            for (uint32_t i = 0; i < told->event.count; i++, done++)
                assert_int_equal(
                    ((const int64_t *)(const void *)told->event.data->data)[i],
                    inputs[failed + done] / 2);
        } else {
            char text[32];
            assert_int_equal(told->event.kind, WORKER_PROCESS_FAILED);
            assert_int_equal(told->event.code, FARPOOL_EFUNCTION);
            snprintf(text, sizeof text, "%d is odd", (int)inputs[failed + done]);
            assert_string_equal(told->text, text);
            assert_non_null(strstr(told->backtrace, "main+"));
            failed++;
        }
    }
    assert_int_equal(failed, 3);
}

static void a_typed_task_knows_its_index(void **state)
{
    struct fixture *fixture = *state;
    uint8_t inputs[100] = {0};
    uint64_t outputs[100];
    struct giving giving = giving_of("index_of", 100, inputs, sizeof inputs);
    giving.first = 5000000000;
    giving.claim = 8;
    giving.publish = 100;
    fixture_give(fixture, &giving);
    fixture_collect(fixture, 1, 5000000000, 100, outputs, sizeof outputs);
    for (uint64_t i = 0; i < 100; i++)
        assert_int_equal(outputs[i], 5000000000 + i);
}

/* Inputs of every awkward size, with a table of sizes. */
static void echoes_bytes_of_any_size(void **state)
{
    struct fixture *fixture = *state;
    uint32_t sizes[] = {0,     1,     15,    16,    17,      0, 5000,
                        16383, 16384, 16385, 40000, 3000000, 0, 9};
    enum { COUNT = sizeof sizes / sizeof *sizes };
    size_t total = 0;
    for (int i = 0; i < COUNT; i++)
        total += sizes[i];
    uint8_t *inputs = malloc(total), *outputs = malloc(total);
    for (size_t i = 0; i < total; i++)
        inputs[i] = (uint8_t)(i * 7 + i / 251);
    for (uint32_t publish = 1; publish <= COUNT; publish += 4) {
        struct giving giving = giving_of("echo", COUNT, inputs, total);
        giving.give = publish;
        giving.claim = 3;
        giving.publish = publish;
        giving.sizes = sizes;
        fixture_give(fixture, &giving);
        memset(outputs, 0, total);
        fixture_collect(fixture, publish, 0, COUNT, outputs, total);
        assert_memory_equal(inputs, outputs, total);
        fixture_forget(fixture);
    }
    free(inputs);
    free(outputs);
}

/* Far more output than the arena holds, all of it kept by the reader. */
static void outputs_that_are_kept_never_block_the_process(void **state)
{
    struct fixture *fixture = *state;
    enum { COUNT = 200 };
    uint64_t inputs[COUNT];
    for (int i = 0; i < COUNT; i++)
        inputs[i] = 4 << 20;
    struct giving giving = giving_of("repeat", COUNT, inputs, sizeof inputs);
    fixture_give(fixture, &giving);
    fixture_collect(fixture, 1, 0, COUNT, NULL, 0);
    for (size_t i = 1; i < fixture->told_count; i++) {
        const struct worker_event *event = &fixture->told[i].event;
        for (uint32_t t = 0; t < event->count; t++)
            assert_int_equal(event->data->data[t * (size_t)(4 << 20) + 4711],
                             (uint8_t)(event->first + t));
    }
}

static void outputs_outlive_process_and_host(void **state)
{
    uint64_t size = 1 << 20;
    struct fixture fixture;
    (void)state;
    fixture_open(&fixture);
    fixture_start_ready(&fixture, 1);
    struct giving giving = giving_of("repeat", 1, &size, sizeof size);
    giving.first = 77;
    fixture_give(&fixture, &giving);
    struct payload *kept =
        payload_ref(fixture_expect(&fixture, WORKER_PROCESS_DONE)->event.data);
    fixture_close(&fixture);
    assert_int_equal(kept->size, size);
    for (size_t i = 0; i < size; i++)
        assert_int_equal(kept->data[i], 77);
    payload_unref(&kept);
}

static void an_output_over_the_limit_fails_its_task(void **state)
{
    struct fixture *fixture = *state;
    uint64_t inputs[] = {100, (64 << 20) + 1, 64 << 20};
    const char *functions[] = {"repeat", "append"};
    for (uint64_t f = 0; f < 2; f++) {
        if (f == 1)
            inputs[1] *= 1000; /* append writes 8 of 1000 */
        struct giving giving = giving_of(functions[f], 3, inputs, sizeof inputs);
        giving.give = f;
        giving.publish = 3;
        fixture_give(fixture, &giving);
        fixture_collect(fixture, f, 0, 1, NULL, 0);
        struct told *told = fixture_expect(fixture, WORKER_PROCESS_FAILED);
        assert_int_equal(told->event.code, FARPOOL_ETOOBIG);
        assert_int_equal(told->event.first, 1);
        assert_non_null(strstr(told->text, "67108864"));
        fixture_collect(fixture, f, 2, 1, NULL, 0);
    }
}

static void a_hundred_megabytes_pass(void **state)
{
    uint64_t size = 100 << 20;
    struct fixture fixture;
    (void)state;
    fixture_open_with(&fixture, "/proc/self/exe", NULL, 200 << 20, true);
    fixture_start_ready(&fixture, 1);
    for (uint64_t give = 0; give < 3; give++) {
        struct giving giving = giving_of("repeat", 1, &size, sizeof size);
        giving.give = give;
        giving.first = 5;
        fixture_give(&fixture, &giving);
        struct told *told = fixture_expect(&fixture, WORKER_PROCESS_DONE);
        assert_int_equal(told->event.data->size, size);
        assert_int_equal(told->event.data->data[size - 1], 5);
    }
    fixture_close(&fixture);
}

static void unknown_functions_and_wrong_inputs_fail(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        const char *function;
        size_t each;
        int code;
        const char *text;
    } cases[] = {{"nowhere", 8, FARPOOL_ENOFUNCTION, "no function of that name"},
                 {"half", 4, FARPOOL_EINVAL, "size"},
                 {"refuse", 8, FARPOOL_EFUNCTION, "returned 5"},
                 {"add", 1, FARPOOL_EINVAL, "not an array"},
                 {"add", 5, FARPOOL_EINVAL, "not one msgpack value"}};
    char inputs[64] = {0};
    for (uint64_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct giving giving = giving_of(cases[c].function, 2, inputs, 2 * cases[c].each);
        giving.give = c;
        fixture_give(fixture, &giving);
        for (uint64_t i = 0; i < 2; i++) {
            struct told *told = fixture_expect(fixture, WORKER_PROCESS_FAILED);
            assert_int_equal(told->event.first, i);
            assert_int_equal(told->event.code, cases[c].code);
            assert_non_null(strstr(told->text, cases[c].text));
        }
    }
}

static void arguments_come_and_a_value_goes(void **state)
{
    struct fixture *fixture = *state;
    msgpack_sbuffer packed;
    msgpack_packer packer;
    msgpack_unpacked result;
    size_t offset = 0;
    msgpack_sbuffer_init(&packed);
    msgpack_packer_init(&packer, &packed, msgpack_sbuffer_write);
    msgpack_pack_array(&packer, 3);
    msgpack_pack_int64(&packer, -40);
    msgpack_pack_double(&packer, 0.5);
    msgpack_pack_str(&packer, 4);
    msgpack_pack_str_body(&packer, "four", 4);
    struct giving giving = giving_of("add", 1, packed.data, packed.size);
    fixture_give(fixture, &giving);
    const struct payload *data = fixture_expect(fixture, WORKER_PROCESS_DONE)->event.data;
    msgpack_unpacked_init(&result);
    assert_int_equal(
        msgpack_unpack_next(&result, (const char *)data->data, data->size, &offset),
        MSGPACK_UNPACK_SUCCESS);
    assert_true(result.data.via.f64 == -35.5);
    msgpack_unpacked_destroy(&result);

    giving.give = 2;
    giving.function = "quiet";
    fixture_give(fixture, &giving);
    data = fixture_expect(fixture, WORKER_PROCESS_DONE)->event.data;
    assert_int_equal(data->size, 1);
    assert_int_equal(data->data[0], 0xc0);
    msgpack_sbuffer_destroy(&packed);
}

static void hostile_arguments_are_refused(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        uint8_t bytes[8];
        size_t size;
    } cases[] = {
        {{0xdd, 0xff, 0xff, 0xff, 0xff}, 5}, /* an array of 4 G */
        {{0xdf, 0xff, 0xff, 0xff, 0xff, 0}, 6},
        {{0xc6, 0xff, 0xff, 0xff, 0xff, 1}, 6},
        {{0xc1}, 1},
        {{0x93, 1, 2}, 3},
        {{0x91, 1, 2}, 3}, /* one byte more */
        {{0xd9}, 1},
        {{0xcf, 1, 2}, 3},
    };
    uint8_t deep[100];
    memset(deep, 0x91, sizeof deep);
    deep[99] = 1;
    for (uint64_t c = 0; c <= sizeof cases / sizeof *cases; c++) {
        bool last = c == sizeof cases / sizeof *cases;
        struct giving giving = giving_of("add", 1, last ? deep : cases[c].bytes,
                                         last ? sizeof deep : cases[c].size);
        giving.give = c;
        fixture_give(fixture, &giving);
        struct told *told = fixture_expect(fixture, WORKER_PROCESS_FAILED);
        assert_int_equal(told->event.code, FARPOOL_EINVAL);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(runs_typed_tasks),
        FIXTURE_TEST(wide_outputs_pass_through_the_arena),
        FIXTURE_TEST(a_failing_typed_task_fails_alone),
        FIXTURE_TEST(a_typed_task_knows_its_index),
        FIXTURE_TEST(echoes_bytes_of_any_size),
        FIXTURE_TEST(outputs_that_are_kept_never_block_the_process),
        cmocka_unit_test(outputs_outlive_process_and_host),
        FIXTURE_TEST(an_output_over_the_limit_fails_its_task),
        cmocka_unit_test(a_hundred_megabytes_pass),
        FIXTURE_TEST(unknown_functions_and_wrong_inputs_fail),
        FIXTURE_TEST(arguments_come_and_a_value_goes),
        FIXTURE_TEST(hostile_arguments_are_refused),
    };
    if (farpool_init(&argc, &argv) != 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
