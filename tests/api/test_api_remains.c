/* SPDX-License-Identifier: Apache-2.0
 *
 * What tasks leave behind: processes in sessions of their own, orphaned, deaf to signals,
 * on the run. It lives as long as the task's process at most, whatever ends that. All of
 * it holds a pipe open, whose reader is told when the last one has gone. */
#include "daemons.h"
#include "fixture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define BEGIN_MS 20000
#define GONE_MS 5000
#define GENERATIONS                                                                      \
    1000000 /* of those that run, lest a failing test fills the machine                  \
             */

typedef struct leaving {
    char path[SIGN_PATH];
    int64_t how, then;
} leaving;
enum { FORKED, EXECUTED, CLEARED, RUNNING }; /* how */
enum { RETURN, LEAVE, WAIT };                /* then */

/* Its first word; "": it has none. */
static void read_command(const char *process, char *name, size_t size)
{
    char path[64];
    FILE *file;

    name[0] = '\0';
    snprintf(path, sizeof path, "/proc/%.20s/cmdline", process);
    if ((file = fopen(path, "re")) == NULL)
        return;
    name[fread(name, 1, size - 1, file)] = '\0';
    fclose(file);
}

static pid_t read_parent(const char *process)
{
    char path[64];
    int parent = 0;
    FILE *file;

    snprintf(path, sizeof path, "/proc/%.20s/stat", process);
    if ((file = fopen(path, "re")) == NULL)
        return 0;
    if (fscanf(file, "%*d (%*[^)]) %*c %d", &parent) != 1)
        parent = 0;
    fclose(file);
    return parent;
}

/* The guardian of a process; 0: it has none. */
static pid_t look_for_guardian(pid_t parent)
{
    DIR *folder = opendir("/proc");
    const struct dirent *entry;
    pid_t found = 0;

    while (folder != NULL && found == 0 && (entry = readdir(folder)) != NULL) {
        char name[64];

        if (entry->d_name[0] > '9' || read_parent(entry->d_name) != parent)
            continue;
        read_command(entry->d_name, name, sizeof name);
        if (strcmp(name, "farpool-guard") == 0)
            found = (pid_t)strtol(entry->d_name, NULL, 10);
    }
    if (folder != NULL)
        closedir(folder);
    return found;
}

/* Each is the parent of the next and ends at once: no number is worth remembering. */
static _Noreturn void run_away(void)
{
    for (int i = 0; i < GENERATIONS; i++) {
        int done[2];
        char byte;

        if (pipe(done) != 0)
            _exit(1);
        if (fork() != 0)
            _exit(0);
        close(done[1]);
        if (read(done[0], &byte, 1) < 0) /* until its parent has gone */
            _exit(1);
        close(done[0]);
    }
    _exit(0);
}

static _Noreturn void remain(const leaving *input, int begun)
{
    char name[] = "sleep", seconds[] = "1000";
    char *const arguments[] = {name, seconds, NULL}, *const none[] = {NULL};
    int fd = open(input->path, O_WRONLY);

    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    if (write(fd, "x", 1) != 1 || write(begun, "x", 1) != 1)
        _exit(1);
    close(begun);
    if (input->how == RUNNING)
        run_away();
    if (input->how == EXECUTED)
        execv("/bin/sleep", arguments);
    if (input->how == CLEARED)
        execve("/bin/sleep", arguments, none);
    for (;;)
        pause();
}

static int64_t leave(leaving input)
{
    int begun[2];
    char byte;
    pid_t child;

    if (pipe(begun) != 0 || (child = fork()) < 0)
        return -1;
    if (child == 0) {
        setsid();
        if (fork() == 0)
            remain(&input, begun[1]);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    close(begun[1]);
    if (read(begun[0], &byte, 1) != 1)
        return -1;
    close(begun[0]);
    if (input.then == LEAVE)
        _exit(0);
    while (input.then == WAIT)
        pause();
    return getpid();
}
FARPOOL_FUNCTION(leave, int64_t, leaving)

/* Of a process and a task that find out whether somebody watches over their host. */
static int be_guarded(farpool_task *task)
{
    return look_for_guardian(getppid()) != 0 ? 0 : farpool_fail(task, "no guardian");
}
FARPOOL_BYTES_FUNCTION(be_guarded)

static int64_t is_guarded(int64_t unused)
{
    (void)unused;
    return look_for_guardian(getppid()) != 0;
}
FARPOOL_FUNCTION(is_guarded, int64_t, int64_t)

static leaving leaving_of(int how, int then, int *ret_fd)
{
    static int number;
    leaving input;

    memset(&input, 0, sizeof input);
    snprintf(input.path, sizeof input.path, "%s/left-%d", fixture_folder(), number++);
    input.how = how;
    input.then = then;
    assert_int_equal(mkfifo(input.path, 0600), 0);
    *ret_fd = open(input.path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    assert_true(*ret_fd >= 0);
    return input;
}

static void assert_began(int fd)
{
    struct pollfd item = {.fd = fd, .events = POLLIN};
    char byte;

    assert_int_equal(poll(&item, 1, BEGIN_MS), 1);
    assert_int_equal(read(fd, &byte, 1), 1);
}

static void assert_there(int fd)
{
    char byte;

    assert_int_equal(read(fd, &byte, 1), -1);
    assert_int_equal(errno, EAGAIN);
}

static void assert_gone(int fd)
{
    struct pollfd item = {.fd = fd, .events = POLLIN};
    char byte;

    if (poll(&item, 1, GONE_MS) != 1)
        fail_msg("what a task left is still there after %d ms", GONE_MS);
    assert_int_equal(read(fd, &byte, 1), 0);
    close(fd);
}

/* ------------------------------------------------------------------- process's ends */

static void goes_with_its_process(void **state)
{
    const int hows[] = {FORKED, EXECUTED, RUNNING, CLEARED};
    farpool_pool_options options = FARPOOL_POOL_OPTIONS;
    farpool_pool *pool;
    /* Those that only a reaper is certain to find are last: docs/failure.md. */
    const size_t count = fixture_is_cluster() ? 4 : 2;

    (void)state;
    options.processes = 1;
    options.tasks_per_process = 1;
    pool = fixture_open(&options);
    for (size_t i = 0; i < count; i++) {
        int fd;
        leaving input = leaving_of(hows[i], RETURN, &fd);
        int64_t output;
        farpool_error error;

        assert_code(farpool_apply(pool, leave, input, &output, &error), 0, &error);
        assert_began(fd);
        assert_gone(fd);
    }
    fixture_close(pool);
}

static void goes_when_its_process_leaves_or_is_killed(void **state)
{
    const int ends[] = {LEAVE, WAIT};
    const int codes[] = {FARPOOL_EPROCESSLOST, FARPOOL_ETASKTIMEOUT};
    farpool_pool_options options = FARPOOL_POOL_OPTIONS;
    farpool_pool *pool;

    (void)state;
    options.processes = 1;
    options.losses_max = 1;
    options.task_timeout_ms = 500;
    pool = fixture_open(&options);
    for (size_t i = 0; i < 2; i++) {
        int fd;
        leaving input = leaving_of(EXECUTED, ends[i], &fd);
        int64_t output;
        farpool_error error;

        assert_code(farpool_apply(pool, leave, input, &output, &error), codes[i], &error);
        assert_began(fd);
        assert_gone(fd);
    }
    fixture_close(pool);
}

/* A server that one task starts and others use. */
static void stays_as_long_as_its_process(void **state)
{
    farpool_pool *pool = fixture_open_processes(1);
    int first, second;
    leaving input = leaving_of(FORKED, RETURN, &first);
    int64_t outputs[2];
    farpool_error error;

    (void)state;
    assert_code(farpool_apply(pool, leave, input, &outputs[0], &error), 0, &error);
    assert_began(first);
    input = leaving_of(EXECUTED, RETURN, &second);
    assert_code(farpool_apply(pool, leave, input, &outputs[1], &error), 0, &error);
    assert_int_equal(outputs[0], outputs[1]);
    assert_began(second);
    assert_there(first);
    fixture_close(pool);
    assert_gone(first);
    assert_gone(second);
}

static void goes_with_a_terminated_pool(void **state)
{
    farpool_pool *pool = fixture_open_processes(1);
    int fd;
    leaving input = leaving_of(EXECUTED, WAIT, &fd);
    farpool_job *job;

    (void)state;
    job = farpool_apply_async(pool, leave, input, NULL, NULL);
    assert_non_null(job);
    assert_began(fd);
    fixture_terminate(pool);
    farpool_job_free(job);
    assert_gone(fd);
}

/* --------------------------------------------------------------------- others' ends */

static _Noreturn void be_client(const leaving *input)
{
    farpool_pool *pool = farpool_open(fixture_address(), NULL, NULL);
    int64_t output;

    if (pool != NULL)
        farpool_apply(pool, leave, *input, &output, NULL);
    _exit(1);
}

static void goes_with_a_killed_client(void **state)
{
    int fd;
    leaving input = leaving_of(EXECUTED, WAIT, &fd);
    pid_t client = fork();

    (void)state;
    if (client == 0)
        be_client(&input);
    assert_began(fd);
    kill(client, SIGKILL);
    assert_int_equal(waitpid(client, NULL, 0), client);
    assert_gone(fd);
}

/* Of the program's own; the guardian of a pool's first process may start behind it. */
static void nothing_runs_unguarded(void **state)
{
    const char *const initializers[] = {NULL, "be_guarded"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        farpool_pool_options options = FARPOOL_POOL_OPTIONS;
        farpool_pool *pool;
        int64_t output = 0;

        options.initializer = initializers[i];
        pool = fixture_open(&options);
        assert_int_equal(farpool_apply(pool, is_guarded, 0, &output, NULL), 0);
        assert_int_equal(output, 1);
        fixture_terminate(pool);
    }
}

/* Waits for one that is not `old`. */
static pid_t find_guardian(pid_t parent, pid_t old)
{
    const uint64_t until_ms = fixture_now_ms() + BEGIN_MS;
    pid_t found;

    while ((found = look_for_guardian(parent)) == 0 || found == old)
        assert_true(fixture_now_ms() < until_ms);
    return found;
}

/* A cluster of one worker, on which a task has left something and goes on. */
struct one_worker {
    struct cluster *cluster;
    farpool_pool *pool;
    farpool_job *job;
    int fd;
};

static void one_worker_start(struct one_worker *one)
{
    leaving input = leaving_of(EXECUTED, WAIT, &one->fd);

    assert_int_equal(cluster_start(1, 1, &one->cluster), 0);
    one->pool = farpool_open(cluster_address(one->cluster), NULL, NULL);
    assert_non_null(one->pool);
    one->job = farpool_apply_async(one->pool, leave, input, NULL, NULL);
    assert_began(one->fd);
}

static void one_worker_kill(struct one_worker *one)
{
    assert_int_equal(cluster_kill_worker(one->cluster, 0), 0);
    assert_gone(one->fd);
    fixture_terminate(one->pool);
    farpool_job_free(one->job);
    cluster_stop(&one->cluster);
}

static void goes_with_killed_workers(void **state)
{
    struct one_worker one;

    (void)state;
    one_worker_start(&one);
    one_worker_kill(&one);
}

static void a_killed_guardian_is_replaced(void **state)
{
    struct one_worker one;
    pid_t guardian, worker;

    (void)state;
    one_worker_start(&one);
    worker = cluster_worker_pid(one.cluster, 0);
    guardian = find_guardian(worker, 0);
    kill(guardian, SIGTERM); /* of no effect */
    kill(guardian, SIGKILL);
    assert_true(process_wait_gone(guardian, BEGIN_MS));
    find_guardian(worker, guardian);
    assert_there(one.fd);
    one_worker_kill(&one);
}

/* The guardian of a worker that ends in peace goes with it. */
static void a_guardian_does_not_stay(void **state)
{
    struct cluster *cluster;
    farpool_pool *pool;
    pid_t guardian;
    int fd, status;
    int64_t output;
    leaving input = leaving_of(EXECUTED, RETURN, &fd);

    (void)state;
    assert_int_equal(cluster_start(1, 1, &cluster), 0);
    pool = farpool_open(cluster_address(cluster), NULL, NULL);
    assert_non_null(pool);
    assert_int_equal(farpool_apply(pool, leave, input, &output, NULL), 0);
    assert_began(fd);
    guardian = find_guardian(cluster_worker_pid(cluster, 0), 0);
    assert_int_equal(daemon_signal(cluster_worker(cluster, 0), SIGTERM), 0);
    assert_int_equal(daemon_wait_end(cluster_worker(cluster, 0), BEGIN_MS, &status), 0);
    assert_true(process_wait_gone(guardian, 1000));
    assert_gone(fd);
    fixture_terminate(pool);
    cluster_stop(&cluster);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(goes_with_its_process),
    cmocka_unit_test(goes_when_its_process_leaves_or_is_killed),
    cmocka_unit_test(stays_as_long_as_its_process),
    cmocka_unit_test(goes_with_a_terminated_pool),
    cmocka_unit_test(goes_with_a_killed_client),
    cmocka_unit_test(nothing_runs_unguarded),
    cmocka_unit_test(goes_with_killed_workers),
    cmocka_unit_test(a_killed_guardian_is_replaced),
    cmocka_unit_test(a_guardian_does_not_stay),
};
enum { ALL = sizeof tests / sizeof tests[0], OF_WORKERS = 3 }; /* the last ones */

/* What is about workers is no test of an embedded pool. */
int main(int argc, char **argv)
{
    const bool cluster = argc > 1 && strcmp(argv[1], "cluster") == 0;

    if (farpool_init(&argc, &argv) != 0)
        return 2;
    return fixture_run(argc, argv, tests, cluster ? ALL : ALL - OF_WORKERS);
}
