/* SPDX-License-Identifier: Apache-2.0
 *
 * test_host_output.c: the host knows whose a line is, whatever the process prints with,
 * and believes no more than that a process speaks for its own tasks. All of it twice: a
 * process in whose view there is no /proc (linked with --wrap=open) cannot watch its
 * pipes, and asks each. */
#include "tests/unit/host_fixture.h"

#include "client/process_internal.h"
#include "farpool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define WITHOUT_PROC "TEST_WITHOUT_PROC" /* a variable, which processes inherit */

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);

/* No caller here makes a file. */
int __wrap_open(const char *path, int flags, ...)
{
    if (getenv(WITHOUT_PROC) != NULL && strncmp(path, "/proc/self/fd/", 14) == 0) {
        errno = ENOENT;
        return -1;
    }
    return __real_open(path, flags, 0600);
}

/* Prints a letter and its index, each letter in another way. */
static int print(farpool_task *task)
{
    size_t size;
    const char *input = farpool_task_input(task, &size);
    int index = (int)farpool_task_index(task);
    if (*input == 'o')
        printf("o %d\n", index);
    else if (*input == 'e')
        fprintf(stderr, "e %d\n", index);
    else if (*input == 'w')
        dprintf(STDOUT_FILENO, "w %d\n", index);
    else if (*input == 'n')
        printf("n %d", index);
    else if (*input == 'b') {
        setvbuf(stdout, NULL, _IOFBF, 65536);
        printf("b %d\n", index);
    }
    return 0;
}
FARPOOL_BYTES_FUNCTION(print)

/* Whether its pipes are watched. */
static int watch_pipes(farpool_task *task)
{
    bool *output = farpool_task_output(task, sizeof *output);
    *output = process_self.printing.unread >= 0;
    return 0;
}
FARPOOL_BYTES_FUNCTION(watch_pipes)

/* Tells the host nonsense about what was printed. */
static int lie(farpool_task *task)
{
    size_t size;
    const char *input = farpool_task_input(task, &size);
    struct channel_printed *printed = process_reserve(&process_self, sizeof *printed);
    *printed = (struct channel_printed){task->give, farpool_task_index(task), 1, {0, 0}};
    if (*input == '1')
        printed->give += 7;
    else if (*input == '2')
        printed->first += 1000;
    else if (*input == '3')
        printed->count = UINT64_MAX;
    printed->written[0] = *input == '4' ? 0 : UINT64_MAX;
    dprintf(STDOUT_FILENO, "lie %c\n", *input);
    ring_commit(&process_self.out, CHANNEL_PRINTED, sizeof *printed);
    process_publish(&process_self);
    return 0;
}
FARPOOL_BYTES_FUNCTION(lie)

static int tell_too_little(farpool_task *task)
{
    (void)task;
    process_reserve(&process_self, 8);
    ring_commit(&process_self.out, CHANNEL_PRINTED, 8);
    process_publish(&process_self);
    pause();
    return 0;
}
FARPOOL_BYTES_FUNCTION(tell_too_little)

static int print_lines(farpool_task *task)
{
    (void)task;
    for (int i = 0; i < 100000; i++)
        puts("0123456789012345678901234567890123456789");
    return 0;
}
FARPOOL_BYTES_FUNCTION(print_lines)

static int print_a_long_line(farpool_task *task)
{
    (void)task;
    for (int i = 0; i < 50000; i++)
        putchar('x');
    putchar('\n');
    return 0;
}
FARPOOL_BYTES_FUNCTION(print_a_long_line)

static void run(struct fixture *fixture, const char *function, const char *letters)
{
    struct giving giving =
        giving_of(function, (uint32_t)strlen(letters), letters, strlen(letters));
    giving.claim = 8;
    giving.publish = 100;
    fixture_give(fixture, &giving);
    fixture_collect(fixture, 1, 0, giving.count, NULL, 0);
}

static void pipes_are_watched_where_they_can_be(void **state)
{
    bool watched;
    fixture_run_one(*state, "watch_pipes", &watched, sizeof watched);
    assert_int_equal(watched, getenv(WITHOUT_PROC) == NULL);
}

static void each_line_is_its_tasks(void **state)
{
    struct fixture *fixture = *state;
    run(fixture, "print", ".oewn..nbo.w");
    static const char *const lines[] = {
        "1/1/1+1:o 1\n", "1/2/2+1:e 2\n", "1/1/3+1:w 3\n", "1/1/4+1:n 4\n",
        "1/1/7+1:n 7\n", "1/1/8+1:b 8\n", "1/1/9+1:o 9\n", "1/1/11+1:w 11\n"};
    size_t bytes = 0;
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        if (!strstr(fixture->owned, lines[i]))
            fail_msg("%s is not in:\n%s", lines[i], fixture->owned);
        bytes += strlen(lines[i]);
    }
    assert_int_equal(strlen(fixture->owned), bytes); /* and no other */
}

static void nobody_speaks_for_tasks_that_it_was_not_given(void **state)
{
    struct fixture *fixture = *state;
    run(fixture, "lie", "01234");
    /* Of its own tasks it may tell what it likes. */
    for (const char *at = fixture->owned; at[0] != '\0'; at = strchr(at, '\n') + 1)
        if (strncmp(at, "1/1/-:lie ", 10) != 0 &&
            (strncmp(at + 5, "+1:lie ", 7) != 0 || at[4] < '0' || at[4] > '4'))
            fail_msg("%s", at);
    assert_int_equal(fixture->output_bytes, 5 * strlen("lie 0\n"));
}

static void a_record_cut_short_is_a_broken_rule(void **state)
{
    struct fixture *fixture = *state;
    struct giving giving = giving_of("tell_too_little", 1, "x", 1);
    fixture_give(fixture, &giving);
    assert_int_equal(fixture_expect(fixture, WORKER_PROCESS_GONE)->event.code,
                     FARPOOL_EPROTOCOL);
}

static void all_of_it_is_read_before_the_result(void **state)
{
    struct fixture *fixture = *state;
    run(fixture, "print_lines", "x");
    assert_int_equal(fixture->output_bytes, 4100000);
}

static void a_long_line_comes_in_pieces(void **state)
{
    struct fixture *fixture = *state;
    run(fixture, "print_a_long_line", "x");
    const char *pieces = fixture->owned;
    int count = 0;
    for (; (pieces = strstr(pieces, "1/1/0+1:x")) != NULL; pieces++)
        count++;
    assert_in_range(count, 4, 6);
    assert_int_equal(fixture->output_bytes, 50000 + count);
}

static void what_is_inherited_is_not_told(void **state)
{
    struct fixture fixture;
    (void)state;
    fixture_open_with(&fixture, "/proc/self/exe", NULL, 64 << 20, false);
    fixture_start_ready(&fixture, 1);
    run(&fixture, "print", "...");
    assert_int_equal(fixture.output_bytes, 0);
    fixture_close(&fixture);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(pipes_are_watched_where_they_can_be),
        FIXTURE_TEST(each_line_is_its_tasks),
        FIXTURE_TEST(nobody_speaks_for_tasks_that_it_was_not_given),
        FIXTURE_TEST(a_record_cut_short_is_a_broken_rule),
        FIXTURE_TEST(all_of_it_is_read_before_the_result),
        FIXTURE_TEST(a_long_line_comes_in_pieces),
        cmocka_unit_test(what_is_inherited_is_not_told),
    };
    if (farpool_init(&argc, &argv) != 0)
        return 2;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    setenv(WITHOUT_PROC, "1", 1);
    failed += cmocka_run_group_tests_name("without /proc", tests, NULL, NULL);
    return failed;
}
