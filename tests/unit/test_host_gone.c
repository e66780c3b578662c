/* SPDX-License-Identifier: Apache-2.0
 *
 * test_host_gone.c: processes that crash, exit, are killed, fork and print, and those
 * that never come up; and that only the right task is blamed. */
#include "tests/unit/host_fixture.h"

#include "farpool.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
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

static int look_around(farpool_task *task)
{
    char text[256];
    int open_files = 0;
    for (int fd = 0; fd < 1000; fd++)
        open_files += fcntl(fd, F_GETFD) >= 0;
    snprintf(text, sizeof text, "%s %d %d %s", farpool_task_node(task), open_files,
             getpgrp() == getpid(), getenv("FARPOOL_PROCESS") == NULL ? "clean" : "left");
    return farpool_task_write(task, text, strlen(text));
}
FARPOOL_BYTES_FUNCTION(look_around)

static char remembered[64];

static int remember(farpool_task *task)
{
    size_t size;
    const char *input = farpool_task_input(task, &size);
    if (size >= sizeof remembered)
        return farpool_fail(task, "%zu bytes are too many", size);
    if (size > 0 && input[0] == 's')
        raise(SIGSEGV);
    memcpy(remembered, input, size);
    return 0;
}
FARPOOL_BYTES_FUNCTION(remember)

static int recall(farpool_task *task)
{
    return farpool_task_write(task, remembered, strlen(remembered));
}
FARPOOL_BYTES_FUNCTION(recall)

static int64_t typed_crash(int64_t value)
{
    if (value == 13)
        raise(SIGSEGV);
    return value;
}
FARPOOL_FUNCTION(typed_crash, int64_t, int64_t)

static void give_letters(struct fixture *fixture, uint64_t give, const char *letters)
{
    struct giving giving = {.process = 1,
                            .give = give,
                            .first = 100,
                            .count = (uint32_t)strlen(letters),
                            .function = "misbehave",
                            .claim = 3,
                            .publish = 100,
                            .data = letters,
                            .size = strlen(letters)};
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
    int64_t inputs[50];
    struct fixture fixture;
    (void)state;
    for (int i = 0; i < 50; i++)
        inputs[i] = i;
    fixture_open(&fixture);
    fixture_start_ready(&fixture, 1);
    struct giving giving = {.process = 1,
                            .give = 8,
                            .first = 1000,
                            .count = 50,
                            .function = "typed_crash",
                            .claim = 50,
                            .publish = 50,
                            .data = inputs,
                            .size = sizeof inputs};
    fixture_give(&fixture, &giving);
    struct told *told = await_gone(&fixture);
    assert_true(told->event.running);
    assert_int_equal(told->event.give, 8);
    assert_int_equal(told->event.first, 1013);
    fixture_close(&fixture);
}

static void a_killed_process_is_told_at_once(void **state)
{
    struct fixture fixture;
    (void)state;
    fixture_open(&fixture);
    fixture_start_ready(&fixture, 1);
    give_letters(&fixture, 1, "w");
    fixture_running(&fixture, 1);
    uint64_t before_ms = sys_now_ms();
    fixture_do(&fixture, WORKER_PROCESS_KILL, 1, 0);
    struct told *told = fixture_expect(&fixture, WORKER_PROCESS_GONE);
    assert_int_equal(told->event.signal, SIGKILL);
    assert_true(told->event.running);
    assert_int_equal(told->event.first, 100);
    assert_true(sys_now_ms() - before_ms < 1000);
    fixture_do(&fixture, WORKER_PROCESS_KILL, 1, 0); /* too late, and harmless */
    give_letters(&fixture, 2, ".");
    fixture_close(&fixture);
}

static void what_was_published_comes_before_the_end(void **state)
{
    struct fixture fixture;
    (void)state;
    fixture_open(&fixture);
    fixture_start_ready(&fixture, 1);
    struct giving giving = {.process = 1,
                            .give = 1,
                            .first = 0,
                            .count = 9,
                            .function = "misbehave",
                            .claim = 1,
                            .publish = 1,
                            .data = "........k",
                            .size = 9};
    fixture_give(&fixture, &giving);
    fixture_collect(&fixture, 1, 0, 8, NULL, 0);
    struct told *told = fixture_expect(&fixture, WORKER_PROCESS_GONE);
    assert_int_equal(told->event.first, 8);
    fixture_close(&fixture);
}

static void a_forked_child_harms_nobody(void **state)
{
    struct fixture fixture;
    (void)state;
    fixture_open(&fixture);
    fixture_start_ready(&fixture, 1);
    for (uint64_t give = 1; give <= 20; give++) {
        give_letters(&fixture, give, ".fF..fFf.");
        fixture_collect(&fixture, give, 100, 9, NULL, 0);
    }
    fixture_do(&fixture, WORKER_PROCESS_CLOSE, 1, 0);
    assert_int_equal(fixture_expect(&fixture, WORKER_PROCESS_GONE)->event.exit_status, 0);
    fixture_close(&fixture);
}

static void descendants_die_with_the_process(void **state)
{
    pid_t child = 0;
    uint8_t input = 0;
    struct fixture fixture;
    (void)state;
    prctl(PR_SET_CHILD_SUBREAPER, 1); /* so that the orphan is ours to wait for */
    fixture_open(&fixture);
    fixture_start_ready(&fixture, 1);
    struct giving giving = {.process = 1,
                            .give = 1,
                            .first = 0,
                            .count = 1,
                            .function = "breed",
                            .claim = 1,
                            .publish = 1,
                            .data = &input,
                            .size = 1};
    fixture_give(&fixture, &giving);
    fixture_collect(&fixture, 1, 0, 1, &child, sizeof child);
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
    struct fixture fixture;
    (void)state;
    fixture_open(&fixture);
    fixture_start_ready(&fixture, 1);
    give_letters(&fixture, 1, "p");
    fixture_collect(&fixture, 1, 100, 1, NULL, 0);
    fixture_do(&fixture, WORKER_PROCESS_CLOSE, 1, 0);
    fixture_expect(&fixture, WORKER_PROCESS_GONE); /* and stdout was flushed */
    assert_true(printed(&fixture));
    assert_non_null(strstr(fixture.output, "1/1:second 100\n"));
    fixture_close(&fixture);
}

static void a_process_inherits_nothing(void **state)
{
    char text[256] = "";
    uint8_t input = 0;
    struct fixture fixture;
    int leaked = open("/dev/null", O_RDONLY); /* without CLOEXEC, on purpose */
    (void)state;
    fixture_open(&fixture);
    fixture_start_ready(&fixture, 1);
    struct giving giving = {.process = 1,
                            .give = 1,
                            .first = 0,
                            .count = 1,
                            .function = "look_around",
                            .claim = 1,
                            .publish = 1,
                            .data = &input,
                            .size = 1};
    fixture_give(&fixture, &giving);
    fixture_collect(&fixture, 1, 0, 1, text, sizeof text);
    assert_string_equal(text, "here 5 1 clean"); /* 0 1 2, the memory, the bell */
    close(leaked);
    fixture_close(&fixture);
}

static void the_initializer_runs_first(void **state)
{
    char text[64] = "";
    uint8_t input = 0;
    struct fixture fixture;
    (void)state;
    fixture_open(&fixture);
    fixture_start(&fixture, 1, "remember", "what I was told");
    fixture_expect(&fixture, WORKER_PROCESS_READY);
    struct giving giving = {.process = 1,
                            .give = 1,
                            .first = 0,
                            .count = 1,
                            .function = "recall",
                            .claim = 1,
                            .publish = 1,
                            .data = &input,
                            .size = 1};
    fixture_give(&fixture, &giving);
    fixture_collect(&fixture, 1, 0, 1, text, sizeof text);
    assert_string_equal(text, "what I was told");
    fixture_close(&fixture);
}

static void a_failing_initializer_is_told(void **state)
{
    char *long_argument = calloc(1, 100001);
    struct fixture fixture;
    (void)state;
    memset(long_argument, 'x', 100000);
    fixture_open(&fixture);
    fixture_start(&fixture, 1, "remember", long_argument);
    struct told *told = fixture_expect(&fixture, WORKER_PROCESS_GONE);
    assert_int_equal(told->event.code, FARPOOL_EINITIALIZER);
    assert_non_null(strstr(told->text, "100000 bytes are too many"));
    assert_non_null(strstr(told->backtrace, "main+"));

    fixture_start(&fixture, 2, "nowhere", NULL);
    told = fixture_expect(&fixture, WORKER_PROCESS_GONE);
    assert_int_equal(told->event.code, FARPOOL_ENOFUNCTION);

    fixture_start(&fixture, 3, "typed_crash", NULL);
    told = fixture_expect(&fixture, WORKER_PROCESS_GONE);
    assert_int_equal(told->event.code, FARPOOL_EINITIALIZER);

    fixture_start(&fixture, 4, "remember", "s");
    told = fixture_expect(&fixture, WORKER_PROCESS_GONE);
    assert_int_equal(told->event.code, FARPOOL_EINITIALIZER);
    assert_non_null(strstr(told->text, "remember"));
    free(long_argument);
    fixture_close(&fixture);
}

static void expect_start_failure(const char *path, int code, const char *text)
{
    struct fixture fixture;
    fixture_open_with(&fixture, path, NULL, 1 << 20, true);
    fixture_start(&fixture, 1, NULL, NULL);
    struct told *told = fixture_expect(&fixture, WORKER_PROCESS_GONE);
    if (told->event.code != code || strstr(told->text, text) == NULL)
        fail_msg("%s: code %d, %s", path, told->event.code, told->text);
    fixture_close(&fixture);
}

static void write_file(const char *path, const void *data, size_t size)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, 0755), 0);
}

static void what_cannot_be_started_is_named(void **state)
{
    char folder[] = "/tmp/farpool-host-XXXXXX", path[64];
    uint8_t head[64];
    (void)state;
    expect_start_failure("/bin/true", FARPOOL_ENOTFARPOOL,
                         "exited with status 0 before it called farpool_init");
    expect_start_failure("/nowhere/at/all", FARPOOL_EPROGRAM, "No such file");
    expect_start_failure("/etc/passwd", FARPOOL_EPROGRAM, "Permission denied");

    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/program", folder);
    write_file(path, "no program", 10);
    expect_start_failure(path, FARPOOL_EPROGRAM, "cannot start");

    FILE *self = fopen("/proc/self/exe", "r");
    assert_int_equal(fread(head, 1, sizeof head, self), sizeof head);
    fclose(self);
    head[18] = head[18] == 243 ? 183 : 243; /* RISC-V, or ARM if we are that */
    write_file(path, head, sizeof head);
    expect_start_failure(path, FARPOOL_EMACHINE, "is built for");
    unlink(path);
    rmdir(folder);
}

/* A script stands for a program whose libfarpool is another one. */
static void another_version_is_named(void **state)
{
    char folder[] = "/tmp/farpool-host-XXXXXX", path[64], script[512], self[256] = "";
    (void)state;
    assert_non_null(mkdtemp(folder));
    assert_true(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
    snprintf(path, sizeof path, "%s/program", folder);
    snprintf(script, sizeof script,
             "#!/bin/sh\nFARPOOL_PROCESS=9${FARPOOL_PROCESS#?} exec %s\n", self);
    write_file(path, script, strlen(script));
    expect_start_failure(path, FARPOOL_EVERSION, "another version");
    snprintf(script, sizeof script,
             "#!/bin/sh\nFARPOOL_PROCESS=${FARPOOL_PROCESS}9 exec %s\n", self);
    write_file(path, script, strlen(script));
    expect_start_failure(path, FARPOOL_EPROGRAM, "not this process's");
    snprintf(script, sizeof script, "#!/bin/sh\n%s\n:\n", self); /* not its child */
    write_file(path, script, strlen(script));
    expect_start_failure(path, FARPOOL_ENOTFARPOOL, "cannot join the pool");
    unlink(path);
    rmdir(folder);
}

/* Makes, if there is a compiler, a program that misses its library. */
static void a_missing_library_is_named(void **state)
{
    char folder[] = "/tmp/farpool-host-XXXXXX", command[512], path[64];
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(command, sizeof command,
             "cd %s && echo 'int f(void){return 0;}' > f.c && "
             "echo 'int f(void); int main(void){return f();}' > m.c && "
             "cc -shared -fPIC -o libfarpoolmissing.so f.c && "
             "cc -o program m.c -L. -lfarpoolmissing && rm libfarpoolmissing.so",
             folder);
    bool made = system(command) == 0;
    snprintf(path, sizeof path, "%s/program", folder);
    if (made)
        expect_start_failure(path, FARPOOL_ELIBRARY, "libfarpoolmissing.so");
    snprintf(command, sizeof command, "rm -r %s", folder);
    assert_int_equal(system(command), 0);
    if (!made)
        skip();
}

static void a_process_starts_in_its_folder(void **state)
{
    char folder[] = "/tmp/farpool-host-XXXXXX";
    struct fixture fixture;
    (void)state;
    assert_non_null(mkdtemp(folder));
    fixture_open_with(&fixture, "/proc/self/exe", folder, 1 << 20, true);
    fixture_start_ready(&fixture, 1);
    fixture_do(&fixture, WORKER_PROCESS_KILL, 1, 0);
    char link[64], target[256] = "";
    snprintf(link, sizeof link, "/proc/%d/cwd", fixture.told[0].event.pid);
    assert_true(readlink(link, target, sizeof target - 1) > 0 || errno == ENOENT);
    if (target[0] != '\0')
        assert_string_equal(target, folder);
    fixture_expect(&fixture, WORKER_PROCESS_GONE);
    fixture_close(&fixture);
    rmdir(folder);
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
        cmocka_unit_test(a_typed_task_that_crashes_is_blamed),
        cmocka_unit_test(a_killed_process_is_told_at_once),
        cmocka_unit_test(what_was_published_comes_before_the_end),
        cmocka_unit_test(a_forked_child_harms_nobody),
        cmocka_unit_test(output_comes_by_lines),
        cmocka_unit_test(a_process_inherits_nothing),
        cmocka_unit_test(the_initializer_runs_first),
        cmocka_unit_test(a_failing_initializer_is_told),
        cmocka_unit_test(what_cannot_be_started_is_named),
        cmocka_unit_test(another_version_is_named),
        cmocka_unit_test(a_missing_library_is_named),
        cmocka_unit_test(a_process_starts_in_its_folder),
        cmocka_unit_test(closing_the_host_ends_all),
        cmocka_unit_test(descendants_die_with_the_process),
    };
    if (farpool_init(&argc, &argv) != 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
