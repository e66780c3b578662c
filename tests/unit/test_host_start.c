/* SPDX-License-Identifier: Apache-2.0
 *
 * test_host_start.c: how a process comes up: what it inherits, where it is, what its
 * initializer does; and those that never do, each with its reason. */
#include "tests/unit/host_fixture.h"

#include "farpool.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

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

static int64_t unchanged(int64_t value)
{
    return value;
}
FARPOOL_FUNCTION(unchanged, int64_t, int64_t)

static void a_process_inherits_nothing(void **state)
{
    char text[256] = "";
    struct fixture fixture;
    int leaked = open("/dev/null", O_RDONLY); /* without CLOEXEC, on purpose */
    (void)state;
    fixture_open(&fixture);
    fixture_start_ready(&fixture, 1);
    fixture_run_one(&fixture, "look_around", text, sizeof text);
    /* 0 1 2, the memory, the bell, the socket, two duplicates of 1 and 2, and of both the
     * reading ends and an epoll on these. */
    assert_string_equal(text, "here 11 1 clean");
    close(leaked);
    fixture_close(&fixture);
}

static void the_initializer_runs_first(void **state)
{
    char text[64] = "";
    struct fixture fixture;
    (void)state;
    fixture_open(&fixture);
    fixture_start(&fixture, 1, "remember", "what I was told");
    fixture_expect(&fixture, WORKER_PROCESS_READY);
    fixture_run_one(&fixture, "recall", text, sizeof text);
    assert_string_equal(text, "what I was told");
    fixture_close(&fixture);
}

/* Starts one more process, which must end with that code. */
static struct told *fail_to_start(struct fixture *fixture, uint64_t process,
                                  const char *initializer, const char *argument, int code)
{
    fixture_start(fixture, process, initializer, argument);
    struct told *told = fixture_expect(fixture, WORKER_PROCESS_GONE);
    assert_int_equal(told->event.code, code);
    return told;
}

static void a_failing_initializer_is_told(void **state)
{
    char *long_argument = calloc(1, 100001);
    struct fixture fixture;
    (void)state;
    memset(long_argument, 'x', 100000);
    fixture_open(&fixture);
    struct told *told =
        fail_to_start(&fixture, 1, "remember", long_argument, FARPOOL_EINITIALIZER);
    assert_non_null(strstr(told->text, "100000 bytes are too many"));
    assert_non_null(strstr(told->backtrace, "main+"));
    fail_to_start(&fixture, 2, "nowhere", NULL, FARPOOL_ENOFUNCTION);
    fail_to_start(&fixture, 3, "unchanged", NULL, FARPOOL_EINITIALIZER);
    told = fail_to_start(&fixture, 4, "remember", "s", FARPOOL_EINITIALIZER);
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

/* What stands there as the program does not come up. */
static void expect_file_failure(const char *path, const void *data, size_t size, int code,
                                const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, 0755), 0);
    expect_start_failure(path, code, text);
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
    expect_file_failure(path, "no program", 10, FARPOOL_EPROGRAM, "cannot start");

    FILE *self = fopen("/proc/self/exe", "r");
    assert_int_equal(fread(head, 1, sizeof head, self), sizeof head);
    fclose(self);
    head[18] = head[18] == 243 ? 183 : 243; /* RISC-V, or ARM if we are that */
    expect_file_failure(path, head, sizeof head, FARPOOL_EMACHINE, "is built for");
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
    expect_file_failure(path, script, strlen(script), FARPOOL_EVERSION,
                        "another version");
    snprintf(script, sizeof script,
             "#!/bin/sh\nFARPOOL_PROCESS=${FARPOOL_PROCESS}9 exec %s\n", self);
    expect_file_failure(path, script, strlen(script), FARPOOL_EPROGRAM,
                        "not this process's");
    snprintf(script, sizeof script, "#!/bin/sh\n%s\n:\n", self); /* not its child */
    expect_file_failure(path, script, strlen(script), FARPOOL_ENOTFARPOOL,
                        "cannot join the pool");
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

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_process_inherits_nothing),
        cmocka_unit_test(the_initializer_runs_first),
        cmocka_unit_test(a_failing_initializer_is_told),
        cmocka_unit_test(what_cannot_be_started_is_named),
        cmocka_unit_test(another_version_is_named),
        cmocka_unit_test(a_missing_library_is_named),
        cmocka_unit_test(a_process_starts_in_its_folder),
    };
    if (farpool_init(&argc, &argv) != 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
