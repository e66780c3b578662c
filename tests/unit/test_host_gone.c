/* SPDX-License-Identifier: Apache-2.0
 *
 * test_host_gone.c: processes that crash, exit, are killed, fork and print; and that
 * only the right task is blamed. Those that never come up are in test_host_start.c. */
#include "tests/unit/host_fixture.h"

#include "farpool.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* Input: one letter a task. */
static int misbehave(farpool_task *task)
{
    switch (*(const char *)farpool_task_input(task, NULL)) {
    case 's':
        return raise(SIGSEGV);
    case 'a':
        abort();
    case 'k':
        return raise(SIGKILL);
    case 'e':
        exit(7);
    case 'E':
        _exit(0);
    case 'p':
        printf("first line\nsecond %d", (int)farpool_task_index(task));
        fprintf(stderr, "an error\n");
        return 0;
    case 'f':
        if (fork() == 0)
            return 0; /* as careless as can be: the child serves on */
        return 0;
    case 'F':
        if (fork() == 0)
            exit(0);
        return 0;
    case 'w':
        for (;;)
            pause();
    default:
        return 0;
    }
}
FARPOOL_BYTES_FUNCTION(misbehave)

/* Tells the number of a child that will live for ever. */
static int breed(farpool_task *task)
{
    pid_t child = fork();
    if (child == 0)
        for (;;)
            pause();
    return farpool_task_write(task, &child, sizeof child);
}
FARPOOL_BYTES_FUNCTION(breed)

static int64_t typed_crash(int64_t value)
{
    if (value == 13)
        raise(SIGSEGV);
    return value;
}
FARPOOL_FUNCTION(typed_crash, int64_t, int64_t)

static void give_letters(struct fixture *fixture, uint64_t give, const char *letters)
{
    struct giving giving =
        giving_of("misbehave", (uint32_t)strlen(letters), letters, strlen(letters));
    giving.give = give;
    giving.first = 100;
    giving.claim = 3;
    giving.publish = 100;
    fixture_give(fixture, &giving);
}

/* Reads up to the end of process 1; DONE events may come before. */
static struct told *await_gone(struct fixture *fixture)
{
    struct told *told;
    while ((told = fixture_next(fixture))->event.kind != WORKER_PROCESS_GONE)
        assert_int_equal(told->event.kind, WORKER_PROCESS_DONE);
    return told;
}

static void the_task_that_ends_its_process_is_blamed(void **state)
{
    static const struct {
        const char *letters;
        int signal, exit_status;
        bool trace;
    } cases[] = {{"..s..", SIGSEGV, -1, true},
                 {"..a..", SIGABRT, -1, true},
                 {"..k..", SIGKILL, -1, false},
                 {"..e..", 0, 7, false},
                 {"..E..", 0, 0, false}};
    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct fixture fixture;
        fixture_open(&fixture);
        fixture_start_ready(&fixture, 1);
        give_letters(&fixture, 3, ".");
        give_letters(&fixture, 5, cases[c].letters);
        give_letters(&fixture, 6, "..");
        struct told *told = await_gone(&fixture);
        assert_true(told->event.running);
        assert_int_equal(told->event.give, 5);
        assert_int_equal(told->event.first, 102);
        assert_int_equal(told->event.code, 0);
        if (!SANITIZED || !cases[c].trace) { /* which has handlers of its own */
            assert_int_equal(told->event.signal, cases[c].signal);
            assert_int_equal(told->event.exit_status, cases[c].exit_status);
            assert_int_equal(strstr(told->backtrace, "main+") != NULL, cases[c].trace);
        }
        assert_true(told->event.pid > 0);
        fixture_close(&fixture);
    }
}

static void a_typed_task_that_crashes_is_blamed(void **state)
{
    struct fixture *fixture = *state;
    int64_t inputs[50];
    for (int i = 0; i < 50; i++)
        inputs[i] = i;
    struct giving giving = giving_of("typed_crash", 50, inputs, sizeof inputs);
    giving.give = 8;
    giving.first = 1000;
    giving.claim = 50;
    giving.publish = 50;
    fixture_give(fixture, &giving);
    struct told *told = await_gone(fixture);
    assert_true(told->event.running);
    assert_int_equal(told->event.give, 8);
    assert_int_equal(told->event.first, 1013);
}

static void a_killed_process_is_told_at_once(void **state)
{
    struct fixture *fixture = *state;
    give_letters(fixture, 1, "w");
    fixture_running(fixture, 1);
    uint64_t before_ms = sys_now_ms();
    fixture_do(fixture, WORKER_PROCESS_KILL, 1, 0);
    struct told *told = fixture_expect(fixture, WORKER_PROCESS_GONE);
    assert_int_equal(told->event.signal, SIGKILL);
    assert_true(told->event.running);
    assert_int_equal(told->event.first, 100);
    assert_true(sys_now_ms() - before_ms < 1000);
    fixture_do(fixture, WORKER_PROCESS_KILL, 1, 0); /* too late, and harmless */
    give_letters(fixture, 2, ".");
}

static void what_was_published_comes_before_the_end(void **state)
{
    struct fixture *fixture = *state;
    struct giving giving = giving_of("misbehave", 9, "........k", 9);
    fixture_give(fixture, &giving);
    fixture_collect(fixture, 1, 0, 8, NULL, 0);
    struct told *told = fixture_expect(fixture, WORKER_PROCESS_GONE);
    assert_int_equal(told->event.first, 8);
}

static void a_forked_child_harms_nobody(void **state)
{
    struct fixture *fixture = *state;
    for (uint64_t give = 1; give <= 20; give++) {
        give_letters(fixture, give, ".fF..fFf.");
        fixture_collect(fixture, give, 100, 9, NULL, 0);
    }
    fixture_do(fixture, WORKER_PROCESS_CLOSE, 1, 0);
    assert_int_equal(fixture_expect(fixture, WORKER_PROCESS_GONE)->event.exit_status, 0);
}

static void descendants_die_with_the_process(void **state)
{
    pid_t child = 0;
    struct fixture fixture;
    (void)state;
    prctl(PR_SET_CHILD_SUBREAPER, 1); /* so that the orphan is ours to wait for */
    fixture_open(&fixture);
    fixture_start_ready(&fixture, 1);
    fixture_run_one(&fixture, "breed", &child, sizeof child);
    assert_true(child > 0);
    fixture_do(&fixture, WORKER_PROCESS_KILL, 1, 0);
    fixture_expect(&fixture, WORKER_PROCESS_GONE);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(WTERMSIG(status), SIGKILL);
    fixture_close(&fixture);
}

static bool printed(void *user)
{
    struct fixture *fixture = user;
    return strstr(fixture->output, "1/1:first line\n") != NULL &&
           strstr(fixture->output, "1/2:an error\n") != NULL;
}

static void output_comes_by_lines(void **state)
{
    struct fixture *fixture = *state;
    give_letters(fixture, 1, "p");
    fixture_collect(fixture, 1, 100, 1, NULL, 0);
    fixture_do(fixture, WORKER_PROCESS_CLOSE, 1, 0);
    fixture_expect(fixture, WORKER_PROCESS_GONE); /* and stdout was flushed */
    assert_true(printed(fixture));
    assert_non_null(strstr(fixture->output, "1/1:second 100\n"));
}

static void closing_the_host_ends_all(void **state)
{
    pid_t pids[8];
    struct fixture fixture;
    (void)state;
    fixture_open(&fixture);
    for (uint64_t p = 0; p < 8; p++)
        fixture_start(&fixture, p, NULL, NULL);
    for (uint64_t p = 0; p < 8; p++)
        pids[p] = fixture_expect(&fixture, WORKER_PROCESS_READY)->event.pid;
    fixture_close(&fixture);
    for (uint64_t p = 0; p < 8; p++)
        assert_int_equal(kill(pids[p], 0), -1);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_task_that_ends_its_process_is_blamed),
        FIXTURE_TEST(a_typed_task_that_crashes_is_blamed),
        FIXTURE_TEST(a_killed_process_is_told_at_once),
        FIXTURE_TEST(what_was_published_comes_before_the_end),
        FIXTURE_TEST(a_forked_child_harms_nobody),
        FIXTURE_TEST(output_comes_by_lines),
        cmocka_unit_test(closing_the_host_ends_all),
        cmocka_unit_test(descendants_die_with_the_process),
    };
    if (farpool_init(&argc, &argv) != 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
