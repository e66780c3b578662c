/* SPDX-License-Identifier: Apache-2.0
 *
 * test_sys_remains.c: who remains of ended processes and who does not, with real ones;
 * and the guardian, which kills what remains when its parent is killed. Each of them
 * holds a pipe open, whose reader is told when the last one has gone. */
#include "common/sys/guardian.h"
#include "common/sys/remains.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define GONE_MS 30000 /* tests/api holds it against the 5 s that are promised */
#define GENERATIONS                                                                      \
    1000000 /* of those that run, lest a failing test leaves one for ever */
#define FD_HELD 3
#define VARIABLE "TEST_REMAIN"

enum {
    SESSION = 1, /* in a session of its own */
    ORPHAN = 2,  /* its parent has ended */
    DEAF = 4,    /* ignores every signal that can be ignored */
    KINDS = 8,
    RUNNING = 8 /* forks on and on: each is the parent of the next, and ends */
};

static char token[REMAINS_TOKEN + 1];

/* ------------------------------------------------------------------- what remains */

/* The process that start_one has executed. */
static _Noreturn void remain(unsigned how)
{
    if (how & SESSION)
        setsid();
    const pid_t parent = getpid();
    if ((how & ORPHAN) && fork() != 0)
        _exit(0);
    while ((how & ORPHAN) && getppid() == parent) /* or there were two for a moment */
        sched_yield();
    for (int number = 1; (how & DEAF) && number < 32; number++)
        signal(number, SIG_IGN);
    if (write(FD_HELD, "x", 1) != 1)
        _exit(1);
    for (int i = 0; (how & RUNNING) && i < GENERATIONS; i++)
        if (fork() != 0)
            _exit(0);
    for (;;)
        pause();
}

struct one {
    pid_t pid; /* of the one that was started; it may have left and have ended */
    int fd;
};

static struct one start_one(unsigned how, const char *mark)
{
    char variable[64], byte, name[] = "remaining";
    char *environment[] = {variable, (char *)(uintptr_t)mark, NULL};
    char *const arguments[] = {name, NULL};
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    snprintf(variable, sizeof variable, VARIABLE "=%u", how);
    struct one one = {.pid = fork(), .fd = ends[0]};
    assert_true(one.pid >= 0);
    if (one.pid == 0) {
        setpgid(0, 0);
        if (ends[1] != FD_HELD)
            dup2(ends[1], FD_HELD);
        else
            fcntl(FD_HELD, F_SETFD, 0);
        execve("/proc/self/exe", arguments, environment);
        _exit(1);
    }
    close(ends[1]);
    assert_int_equal(read(one.fd, &byte, 1), 1);
    return one;
}

/* Marked as what a process of that number has started. */
static struct one start_marked(unsigned how, uint64_t number)
{
    char mark[128];
    snprintf(mark, sizeof mark, REMAINS_VARIABLE "=0f0f-3:%s-%llu", token,
             (unsigned long long)number);
    return start_one(how, mark);
}

static void assert_there(const struct one *one)
{
    struct pollfd item = {.fd = one->fd, .events = POLLIN};
    assert_int_equal(poll(&item, 1, 0), 0);
}

static void assert_gone(struct one *one)
{
    struct pollfd item = {.fd = one->fd, .events = POLLIN};
    char byte;
    if (poll(&item, 1, GONE_MS) != 1)
        fail_msg("it is still there after %d ms", GONE_MS);
    assert_int_equal(read(one->fd, &byte, 1), 0);
    close(one->fd);
    waitpid(one->pid, NULL, 0);
}

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* As a host does: again until it is gone. */
static void kill_until_gone(const struct remains_query *query, struct one *one)
{
    struct pollfd item = {.fd = one->fd, .events = POLLIN};
    const uint64_t until_ms = now_ms() + GONE_MS;
    do
        remains_kill(query);
    while (poll(&item, 1, 20) == 0 && now_ms() < until_ms);
    assert_gone(one);
}

/* --------------------------------------------------------------------------- tests */

static int make_token(void **state)
{
    struct timespec now;
    (void)state;
    clock_gettime(CLOCK_REALTIME, &now);
    snprintf(token, sizeof token, "%016llx%016llx", (unsigned long long)now.tv_nsec,
             (unsigned long long)getpid());
    return 0;
}

static void what_bears_the_mark_is_killed(void **state)
{
    const struct remains_query query = {.token = token};
    (void)state;
    for (unsigned how = 0; how < KINDS; how++) {
        struct one one = start_marked(how, 7);
        assert_int_equal(remains_kill(&query), 1);
        kill_until_gone(&query, &one);
        while (waitpid(one.pid, NULL, 0) > 0)
            ;
        assert_int_equal(remains_kill(&query), 0);
    }
}

static void what_does_not_is_left_alone(void **state)
{
    const struct remains_query query = {.token = token};
    char other[128], longer[128];
    (void)state;
    snprintf(other, sizeof other, REMAINS_VARIABLE "=%.31s?-7", token);
    snprintf(longer, sizeof longer, REMAINS_VARIABLE "=%s", token); /* no number */
    struct one ones[] = {start_one(0, NULL), start_one(SESSION, other),
                         start_one(ORPHAN, longer)};
    assert_int_equal(remains_kill(&query), 0);
    for (size_t i = 0; i < sizeof ones / sizeof *ones; i++) {
        assert_there(&ones[i]);
        kill(-ones[i].pid, SIGKILL); /* the group, also where its leader has ended */
        if (i == 1)
            kill(ones[i].pid, SIGKILL);
        assert_gone(&ones[i]);
    }
}

static bool is_seven(void *user, uint64_t number)
{
    (void)user;
    return number == 7;
}

static void what_a_living_process_started_is_left_alone(void **state)
{
    const struct remains_query query = {.token = token, .is_alive = is_seven};
    const struct remains_query all = {.token = token};
    (void)state;
    struct one seven = start_marked(SESSION | ORPHAN, 7), eight = start_marked(DEAF, 8);
    assert_int_equal(remains_kill(&query), 1);
    assert_gone(&eight);
    assert_there(&seven);
    kill_until_gone(&all, &seven);
}

static bool is_pid(void *user, int pid)
{
    return pid == *(const pid_t *)user;
}

/* Nor is its group killed, in which there are others. */
static void what_is_owned_is_left_alone(void **state)
{
    const struct remains_query all = {.token = token};
    (void)state;
    struct one owned = start_marked(0, 7), member = start_marked(0, 7);
    const struct remains_query query = {
        .token = token, .is_owned = is_pid, .user = &owned.pid};
    assert_int_equal(setpgid(member.pid, owned.pid), -1); /* it has executed: too late */
    assert_int_equal(remains_kill(&query), 1);
    assert_gone(&member);
    assert_there(&owned);
    assert_false(remains_has_children(is_pid, &owned.pid));
    struct one second = start_one(0, NULL);
    assert_true(remains_has_children(is_pid, &owned.pid));
    kill(second.pid, SIGKILL);
    assert_gone(&second);
    kill_until_gone(&all, &owned);
}

/* An orphan without any mark comes to the reaper, and is nobody else's. */
static void a_reaper_kills_its_orphans(void **state)
{
    const struct remains_query query = {.token = token, .reaper = true};
    (void)state;
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
    for (unsigned how = 0; how <= KINDS; how++) {
        struct one one = start_one(how | ORPHAN, NULL);
        kill_until_gone(&query, &one);
        while (waitpid(-1, NULL, 0) > 0)
            ;
    }
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0), 0);
}

/* ------------------------------------------------------------------- the guardian */

/* Has a guardian, says so, and waits for a byte: then it takes leave. */
static _Noreturn void guarded(int said, int told)
{
    struct guardian guardian;
    char byte;
    if (guardian_start(token, "", &guardian) != 0 || write(said, "x", 1) != 1 ||
        read(told, &byte, 1) != 1)
        _exit(1);
    guardian_end(&guardian);
    _exit(guardian.pid == 0 ? 0 : 1);
}

static pid_t start_guarded(int *ret_tell)
{
    int said[2], told[2];
    char byte;
    assert_int_equal(pipe2(said, O_CLOEXEC), 0);
    assert_int_equal(pipe2(told, O_CLOEXEC), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        guarded(said[1], told[0]);
    close(said[1]);
    close(told[0]);
    assert_int_equal(read(said[0], &byte, 1), 1);
    close(said[0]);
    *ret_tell = told[1];
    return pid;
}

static void a_guardian_kills_when_its_parent_is_killed(void **state)
{
    for (unsigned how = 0; how < KINDS; how++) {
        int tell;
        make_token(state); /* the guardian before still looks for its own */
        pid_t parent = start_guarded(&tell);
        struct one one = start_marked(how, 7);
        assert_there(&one);
        kill(parent, SIGKILL);
        assert_gone(&one);
        assert_int_equal(waitpid(parent, NULL, 0), parent);
        close(tell);
    }
}

static void a_guardian_that_was_told_to_kills_nobody(void **state)
{
    const struct remains_query all = {.token = token};
    int tell, status;
    (void)state;
    pid_t parent = start_guarded(&tell);
    struct one one = start_marked(SESSION, 7);
    assert_int_equal(write(tell, "x", 1), 1);
    assert_int_equal(waitpid(parent, &status, 0), parent); /* it has waited for it */
    assert_int_equal(status, 0);
    assert_there(&one);
    close(tell);
    kill_until_gone(&all, &one);
}

#define WITH_TOKEN(test) cmocka_unit_test_setup(test, make_token)

int main(void)
{
    const char *how = getenv(VARIABLE);
    if (how != NULL)
        remain((unsigned)strtoul(how, NULL, 10));
    guardian_serve();
    const struct CMUnitTest tests[] = {
        WITH_TOKEN(what_bears_the_mark_is_killed),
        WITH_TOKEN(what_does_not_is_left_alone),
        WITH_TOKEN(what_a_living_process_started_is_left_alone),
        WITH_TOKEN(what_is_owned_is_left_alone),
        WITH_TOKEN(a_reaper_kills_its_orphans),
        WITH_TOKEN(a_guardian_kills_when_its_parent_is_killed),
        WITH_TOKEN(a_guardian_that_was_told_to_kills_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
