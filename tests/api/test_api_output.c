/* SPDX-License-Identifier: Apache-2.0
 *
 * test_api_output.c: what processes print comes to the program, line by line, as its
 * task's, and in front of its result. */
#include "tests/api/fixture.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ------------------------------------------------------------------- functions */

static int64_t print_number(int64_t value)
{
    printf("number %d\n", (int)value);
    fprintf(stderr, "error %d\n", (int)value);
    return value;
}
FARPOOL_FUNCTION(print_number, int64_t, int64_t)

static int64_t print_seldom(int64_t value)
{
    if (value % 1000 == 7)
        printf("seldom %d\n", (int)value);
    return value;
}
FARPOOL_FUNCTION(print_seldom, int64_t, int64_t)

/* Prints its input as it is. */
static int print_bytes(farpool_task *task)
{
    size_t size;
    const void *input = farpool_task_input(task, &size);

    fwrite(input, 1, size, stdout);
    return 0;
}
FARPOOL_BYTES_FUNCTION(print_bytes)

/* Past stdio, and as a program that it starts. */
static int print_directly(farpool_task *task)
{
    (void)task;
    if (write(STDOUT_FILENO, "by write\n", 9) != 9 || system("echo by a child >&2") != 0)
        return 1;
    return 0;
}
FARPOOL_BYTES_FUNCTION(print_directly)

static int say_hello(farpool_task *task)
{
    (void)task;
    printf("hello\n");
    return 0;
}
FARPOOL_BYTES_FUNCTION(say_hello)

static int print_and_abort(farpool_task *task)
{
    (void)task;
    printf("the end is near\n");
    printf("no more");
    fflush(stdout);
    abort();
}
FARPOOL_BYTES_FUNCTION(print_and_abort)

typedef struct talk {
    struct sign go;
} talk;

static int64_t print_and_wait(talk input)
{
    printf("are you there?\n");
    return sign_wait_in_task(&input.go);
}
FARPOOL_FUNCTION(print_and_wait, int64_t, talk)

static int64_t flood(int64_t lines)
{
    for (int64_t i = 0; i < lines; i++)
        printf("line %9d of a flood that is so long that nobody will ever read it\n",
               (int)i);
    return lines;
}
FARPOOL_FUNCTION(flood, int64_t, int64_t)

/* -------------------------------------------------------------------- collector */

struct line {
    farpool_output output;
    char node[64], text[256];
};

struct collected {
    pthread_mutex_t mutex;
    struct line *lines;
    size_t count, capacity;
    uint64_t left_out, bytes, total;
    const struct sign *answer; /* posted at each line */
};

static void collect(void *user, const farpool_output *output)
{
    struct collected *all = user;

    pthread_mutex_lock(&all->mutex);
    all->left_out += output->left_out;
    all->total += output->text != NULL;
    if (output->text != NULL && all->count < all->capacity) {
        struct line *line = &all->lines[all->count++];

        line->output = *output;
        snprintf(line->node, sizeof line->node, "%s", output->node);
        assert_true(output->size < sizeof line->text);
        memcpy(line->text, output->text, output->size);
        line->text[output->size] = '\0';
    }
    all->bytes += output->size;
    if (output->text != NULL && all->answer != NULL)
        sign_post(all->answer, 1);
    pthread_mutex_unlock(&all->mutex);
}

static struct collected *collector(void)
{
    enum { LINES = 20000 };
    static struct collected all = {.mutex = PTHREAD_MUTEX_INITIALIZER};

    if (all.lines == NULL)
        all.lines = malloc(LINES * sizeof *all.lines);
    all.capacity = LINES;
    all.count = 0;
    all.left_out = all.bytes = all.total = 0;
    all.answer = NULL;
    return &all;
}

static farpool_pool *open_collecting(struct collected *all, const char *initializer)
{
    farpool_pool_options options = FARPOOL_POOL_OPTIONS;

    options.processes = 2;
    options.on_output = collect;
    options.output_user = all;
    options.initializer = initializer;
    return fixture_open(&options);
}

/* How often a task printed this; its other lines are not looked at. */
static size_t count_lines(struct collected *all, uint64_t index, int fd, const char *text)
{
    size_t found = 0;

    pthread_mutex_lock(&all->mutex);
    for (size_t i = 0; i < all->count; i++) {
        const struct line *line = &all->lines[i];

        if (line->output.index == index && line->output.fd == fd &&
            strcmp(line->text, text) == 0 && line->node[0] != '\0' &&
            line->output.pid > 0 &&
            line->output.tasks == (index == FARPOOL_NO_INDEX ? 0 : 1) &&
            line->output.attempt == line->output.tasks)
            found++;
    }
    pthread_mutex_unlock(&all->mutex);
    return found;
}

/* ------------------------------------------------------------------------ tests */

static void each_line_comes_as_its_tasks_before_the_result(void **state)
{
    enum { COUNT = 500 };
    struct collected *all = collector();
    farpool_pool *pool = open_collecting(all, NULL);
    int64_t inputs[COUNT], outputs[COUNT];
    farpool_error error;
    char text[64];

    (void)state;
    for (int i = 0; i < COUNT; i++)
        inputs[i] = 10 * i;
    assert_code(farpool_map(pool, print_number, inputs, COUNT, outputs, &error), 0,
                &error);
    assert_int_equal(all->count, 2 * COUNT);
    assert_int_equal(all->left_out, 0);
    for (uint64_t i = 0; i < COUNT; i++) {
        snprintf(text, sizeof text, "number %d", (int)(10 * i));
        assert_int_equal(count_lines(all, i, STDOUT_FILENO, text), 1);
        snprintf(text, sizeof text, "error %d", (int)(10 * i));
        assert_int_equal(count_lines(all, i, STDERR_FILENO, text), 1);
    }
    fixture_close(pool);
    assert_int_equal(all->count, 2 * COUNT);
}

/* Of tasks that are run together it may only be known that it was one of them; but that
 * always. */
static void seldom_lines_of_short_tasks_are_told_as_well_as_known(void **state)
{
    enum { COUNT = 20000 };
    struct collected *all = collector();
    farpool_pool *pool = open_collecting(all, NULL);
    int64_t *inputs = malloc(2 * COUNT * sizeof *inputs), *outputs = inputs + COUNT;
    farpool_error error;

    (void)state;
    for (int i = 0; i < COUNT; i++)
        inputs[i] = i;
    assert_code(farpool_map(pool, print_seldom, inputs, COUNT, outputs, &error), 0,
                &error);
    assert_int_equal(all->count, COUNT / 1000);
    for (size_t i = 0; i < all->count; i++) {
        const farpool_output *output = &all->lines[i].output;
        uint64_t number = strtoull(all->lines[i].text + strlen("seldom "), NULL, 10);

        assert_true(output->tasks >= 1 && number >= output->index &&
                    number - output->index < output->tasks);
    }
    fixture_close(pool);
    free(inputs);
}

static void lines_come_before_each_completed_job(void **state)
{
    enum { COUNT = 200 };
    struct collected *all = collector();
    farpool_pool *pool = open_collecting(all, NULL);
    farpool_error error;
    farpool_job *jobs[COUNT];
    char text[64];
    size_t place;

    (void)state;
    for (int i = 0; i < COUNT; i++) {
        int64_t input = i;

        jobs[i] = farpool_map_async(pool, print_number, &input, 1, NULL, &error);
        assert_non_null(jobs[i]);
    }
    while (farpool_as_completed(jobs, COUNT, DEADLINE_MS, &place) == 0) {
        snprintf(text, sizeof text, "number %d", (int)place);
        assert_int_equal(count_lines(all, 0, STDOUT_FILENO, text), 1);
        farpool_job_free(jobs[place]);
        jobs[place] = NULL;
    }
    fixture_close(pool);
}

static void print_one(struct collected *all, const farpool_function *function,
                      const void *data, size_t size)
{
    farpool_pool *pool = open_collecting(all, NULL);
    farpool_error error;
    farpool_job *job;

    assert_code(farpool_apply_bytes(pool, function, data, size, &job, &error), 0, &error);
    farpool_job_free(job);
    fixture_close(pool);
}

static void a_line_without_an_end_is_a_line(void **state)
{
    struct collected *all = collector();

    (void)state;
    print_one(all, FARPOOL_REF(print_bytes), "first\nand no end", 16);
    assert_int_equal(all->count, 2);
    assert_int_equal(count_lines(all, 0, STDOUT_FILENO, "first"), 1);
    assert_int_equal(count_lines(all, 0, STDOUT_FILENO, "and no end"), 1);
}

static void any_byte_is_passed_on(void **state)
{
    static const char bytes[] = "a\0b\xff\x1b[31m\xc3(\r\n\n";
    struct collected *all = collector();

    (void)state;
    print_one(all, FARPOOL_REF(print_bytes), bytes, sizeof bytes - 1);
    assert_int_equal(all->count, 2);
    assert_int_equal(all->lines[0].output.size, sizeof bytes - 3);
    assert_memory_equal(all->lines[0].text, bytes, sizeof bytes - 3);
    assert_int_equal(all->lines[1].output.size, 0);
}

static void lines_past_stdio_and_of_children_are_the_tasks(void **state)
{
    struct collected *all = collector();

    (void)state;
    print_one(all, FARPOOL_REF(print_directly), "", 0);
    assert_int_equal(count_lines(all, 0, STDOUT_FILENO, "by write"), 1);
    assert_int_equal(count_lines(all, 0, STDERR_FILENO, "by a child"), 1);
}

static void the_initializers_lines_are_no_tasks(void **state)
{
    struct collected *all = collector();
    farpool_pool *pool = open_collecting(all, "say_hello");
    farpool_error error;
    int64_t input = 5, output;

    (void)state;
    assert_code(farpool_apply(pool, print_number, input, &output, &error), 0, &error);
    fixture_close(pool);
    assert_true(count_lines(all, FARPOOL_NO_INDEX, STDOUT_FILENO, "hello") >= 1);
    assert_int_equal(count_lines(all, 0, STDOUT_FILENO, "number 5"), 1);
}

static void lines_come_while_the_task_runs(void **state)
{
    struct collected *all = collector();
    struct sign go = sign_create();
    farpool_pool *pool = open_collecting(all, NULL);
    talk input;
    int64_t output;
    farpool_error error;

    (void)state;
    all->answer = &go;
    memset(&input, 0, sizeof input);
    input.go = go;
    assert_code(farpool_apply(pool, print_and_wait, input, &output, &error), 0, &error);
    assert_int_equal(output, 1);
    fixture_close(pool);
    assert_int_equal(count_lines(all, 0, STDOUT_FILENO, "are you there?"), 1);
}

static void the_last_lines_of_a_crash_are_the_tasks(void **state)
{
    farpool_pool_options options = FARPOOL_POOL_OPTIONS;
    struct collected *all = collector();
    farpool_pool *pool;
    farpool_error error;
    farpool_job *job;

    (void)state;
    options.on_output = collect;
    options.output_user = all;
    options.processes = options.losses_max = 1;
    pool = fixture_open(&options);
    assert_code(
        farpool_apply_bytes(pool, FARPOOL_REF(print_and_abort), "", 0, &job, &error),
        FARPOOL_EPROCESSLOST, &error);
    farpool_job_free(job);
    assert_int_equal(count_lines(all, 0, STDOUT_FILENO, "the end is near"), 1);
    assert_int_equal(count_lines(all, 0, STDOUT_FILENO, "no more"), 1);
    fixture_close(pool);
}

static void a_flood_is_bounded_and_told_and_others_go_on(void **state)
{
    enum { LINES = 200000, COUNT = 100 };
    struct collected *all = collector();
    struct collected others = {.mutex = PTHREAD_MUTEX_INITIALIZER};
    farpool_pool *pool = open_collecting(all, NULL);
    farpool_pool *other = open_collecting(&others, NULL);
    const int64_t lines[] = {LINES, LINES};
    int64_t outputs[COUNT], inputs[COUNT] = {0};
    farpool_error error;
    farpool_job *job = farpool_map_async(pool, flood, lines, 2, NULL, &error);

    (void)state;
    assert_non_null(job);
    assert_code(farpool_map(other, print_number, inputs, COUNT, outputs, &error), 0,
                &error);
    assert_int_equal(others.total, 2 * COUNT);
    assert_code(farpool_job_get(job, 6 * DEADLINE_MS, &error), 0, &error);
    assert_true(all->left_out > 0);
    assert_int_equal(all->total + all->left_out, 2 * LINES);
    farpool_job_free(job);
    fixture_close(other);
    fixture_close(pool);
    assert_int_equal(all->total + all->left_out, 2 * LINES);
}

struct asking {
    farpool_pool *pool;
    int64_t asked, answered;
};

/* Has work of its own done, once, and waits for it. */
static void ask_in_callback(void *user, const farpool_output *output)
{
    struct asking *asking = user;
    int64_t answer = 0;

    (void)output;
    if (asking->asked++ == 0 &&
        farpool_apply(asking->pool, print_number, 17, &answer, NULL) == 0)
        asking->answered += answer;
}

static void on_output_may_submit_and_wait(void **state)
{
    farpool_pool_options options = FARPOOL_POOL_OPTIONS;
    struct asking asking = {.asked = 0};
    farpool_error error;
    int64_t output;

    (void)state;
    options.processes = 2;
    options.on_output = ask_in_callback;
    options.output_user = &asking;
    asking.pool = fixture_open(&options);
    assert_code(farpool_apply(asking.pool, print_number, 4, &output, &error), 0, &error);
    fixture_close(asking.pool);
    assert_int_equal(asking.answered, 17);
    assert_int_equal(asking.asked, 4);
}

/* ------------------------------------------------------------ without on_output */

/* What comes out at this program's own stdout while a task prints. */
static const char *print_at_stdout(const farpool_pool_options *options, const char *data,
                                   size_t size)
{
    static char text[4096];
    char path[128];
    farpool_error error;
    farpool_job *job = NULL;

    snprintf(path, sizeof path, "%s/stdout", fixture_folder());
    fflush(stdout);
    int before = dup(STDOUT_FILENO);
    int file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    dup2(file, STDOUT_FILENO);
    farpool_pool *pool = farpool_open(fixture_address(), options, &error);
    int code = pool != NULL ? farpool_apply_bytes(pool, FARPOOL_REF(print_bytes), data,
                                                  size, &job, &error)
                            : error.code;
    ssize_t early = pread(file, text, sizeof text - 1, 0); /* the result is here */
    farpool_close(pool, NULL);
    farpool_join(pool, DEADLINE_MS, NULL);
    farpool_pool_free(pool);
    fflush(stdout);
    dup2(before, STDOUT_FILENO);
    close(before);
    assert_code(code, 0, &error);
    farpool_job_free(job);
    ssize_t got = pread(file, text, sizeof text - 1, 0);
    close(file);
    assert_true(got >= 0);
    if (fixture_is_cluster())
        assert_int_equal(got, early);
    text[got] = '\0';
    return text;
}

static void lines_are_printed_with_node_and_index(void **state)
{
    static const char bytes[] = "t\tx\x1b[2J \xc3\xa4\xc2\x9b\xff\nlast";
    farpool_pool_options options = FARPOOL_POOL_OPTIONS;

    (void)state;
    options.processes = 1;
    const char *text = print_at_stdout(&options, bytes, sizeof bytes - 1);
    if (!fixture_is_cluster()) {
        assert_string_equal(text, bytes); /* inherited: as it was printed */
        return;
    }
    const char *end = strstr(text, " 0] t\tx?[2J \xc3\xa4??");
    assert_int_equal(text[0], '[');
    assert_non_null(end);
    assert_non_null(strstr(end, " 0] last\n"));
}

static void none_is_brought_when_none_is_wanted(void **state)
{
    farpool_pool_options options = FARPOOL_POOL_OPTIONS;
    farpool_error error;

    (void)state;
    options.processes = 1;
    options.output = FARPOOL_OUTPUT_NONE;
    const char *text = print_at_stdout(&options, "quiet\n", 6);
    assert_string_equal(text, fixture_is_cluster() ? "" : "quiet\n");
    options.on_output = collect;
    assert_null(farpool_open(fixture_address(), &options, &error));
    assert_int_equal(error.code, FARPOOL_EINVAL);
    assert_text(&error, "on_output is set, but output is FARPOOL_OUTPUT_NONE");
    options.output = 7;
    assert_null(farpool_open(fixture_address(), &options, &error));
    assert_text(&error, "output is 7, but must be FARPOOL_AUTO or FARPOOL_OUTPUT_NONE");
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(each_line_comes_as_its_tasks_before_the_result),
    cmocka_unit_test(seldom_lines_of_short_tasks_are_told_as_well_as_known),
    cmocka_unit_test(lines_come_before_each_completed_job),
    cmocka_unit_test(a_line_without_an_end_is_a_line),
    cmocka_unit_test(any_byte_is_passed_on),
    cmocka_unit_test(lines_past_stdio_and_of_children_are_the_tasks),
    cmocka_unit_test(the_initializers_lines_are_no_tasks),
    cmocka_unit_test(lines_come_while_the_task_runs),
    cmocka_unit_test(the_last_lines_of_a_crash_are_the_tasks),
    cmocka_unit_test(a_flood_is_bounded_and_told_and_others_go_on),
    cmocka_unit_test(on_output_may_submit_and_wait),
    cmocka_unit_test(lines_are_printed_with_node_and_index),
    cmocka_unit_test(none_is_brought_when_none_is_wanted),
};

FIXTURE_MAIN(tests)
