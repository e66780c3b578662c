/* SPDX-License-Identifier: Apache-2.0
 *
 * How the daemons start and end: command lines, addresses, limits, signals, their log. */
#include "daemons.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define WAIT_MS 20000
#define COORDINATOR FARPOOL_COORDINATOR_PATH
#define WORKER FARPOOL_WORKER_PATH

static struct daemon *one, *other;
static struct cluster *cluster;
static char folder[] = "/tmp/farpool-start-XXXXXX";

static int set_up(void **state)
{
    (void)state;
    memcpy(folder + sizeof folder - 7, "XXXXXX", 6);
    unsetenv("FARPOOL_COORDINATOR");
    return mkdtemp(folder) == NULL;
}

static int tear_down(void **state)
{
    (void)state;
    char command[80];
    daemon_close(&one);
    daemon_close(&other);
    cluster_stop(&cluster);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

#define START(daemon, ...)                                                               \
    do {                                                                                 \
        daemon_close(daemon);                                                            \
        const char *const argv[] = {__VA_ARGS__, NULL};                                  \
        assert_int_equal(daemon_start(argv, daemon), 0);                                 \
    } while (0)

static void check_exit(struct daemon *daemon, int code)
{
    int status = -1;
    assert_int_equal(daemon_wait_end(daemon, WAIT_MS, &status), 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != code)
        fail_msg("status %x, and not exit code %d:\n%s", status, code,
                 daemon_output(daemon));
}

static void check_says(struct daemon *daemon, const char *text)
{
    if (strstr(daemon_output(daemon), text) == NULL)
        fail_msg("\"%s\" is not in:\n%s", text, daemon_output(daemon));
}

#define CHECK_RUN(code, text, ...)                                                       \
    do {                                                                                 \
        START(&one, __VA_ARGS__);                                                        \
        check_exit(one, code);                                                           \
        check_says(one, text);                                                           \
    } while (0)

static void wait_for(struct daemon *daemon, const char *text)
{
    assert_int_equal(daemon_wait_line(daemon, text, WAIT_MS, NULL), 0);
}

/* Starts a coordinator on a free port; *address is where it listens. */
static void start_coordinator(char address[128])
{
    const char *line;
    START(&one, COORDINATOR, "--listen", "tcp://127.0.0.1:*");
    assert_int_equal(daemon_wait_line(one, " listening ", WAIT_MS, &line), 0);
    assert_int_equal(sscanf(strstr(line, "address="), "address=%127s", address), 1);
}

static void start_worker(const char *address)
{
    START(&other, WORKER, "--coordinator", address, "--cache", folder, "--name", "w",
          "--slots", "1");
}

static void no_lanes_if_not_wanted(void **state)
{
    char address[128];
    (void)state;
    start_coordinator(address);
    START(&other, WORKER, "-c", address, "--cache", folder, "--lanes", "none");
    wait_for(other, " welcomed ");
    assert_null(strstr(daemon_output(other), " lanes "));
    start_worker(address); /* else on loopback, as the coordinator is */
    wait_for(other, " lanes address=tcp://127.0.0.1:");
}

/* What cannot be opened is told, and does no harm. */
static void lanes_that_cannot_be_opened(void **state)
{
    char address[128];
    (void)state;
    start_coordinator(address);
    START(&other, WORKER, "-c", address, "--cache", folder, "--lanes", address);
    wait_for(other, " lanes use=none reason=\"cannot listen on ");
    wait_for(other, " welcomed ");
}

/* ----------------------------------------------------------------- command lines */

static void help_and_version(void **state)
{
    (void)state;
    CHECK_RUN(0, "usage: farpool-coordinator", COORDINATOR, "--help");
    check_says(one, "--workers-max");
    CHECK_RUN(0, "farpool-coordinator 0.", COORDINATOR, "--version");
    CHECK_RUN(0, "usage: farpool-worker", WORKER, "-h");
    check_says(one, "--coordinator");
    CHECK_RUN(0, "farpool-worker 0.", WORKER, "-V");
}

static void wrong_usage_is_told(void **state)
{
    (void)state;
    CHECK_RUN(2, "unrecognized option", COORDINATOR, "--nonsense");
    CHECK_RUN(2, "\"extra\" is not wanted", COORDINATOR, "extra");
    CHECK_RUN(2, "--workers-max 0: a whole number", COORDINATOR, "--workers-max", "0");
    CHECK_RUN(2, "--workers-max 4K: a whole number", COORDINATOR, "--workers-max", "4K");
    CHECK_RUN(2, "--memory -1: a number of bytes", COORDINATOR, "--memory", "-1");
    CHECK_RUN(2, "--memory 5Q: a number of bytes", COORDINATOR, "--memory", "5Q");
    CHECK_RUN(2, "--silence-ms x", COORDINATOR, "--silence-ms", "x");
    CHECK_RUN(2, "at most half of --silence-ms", COORDINATOR, "--silence-ms", "1000",
              "--heartbeat-ms", "600");
    CHECK_RUN(2, "requires an argument", COORDINATOR, "--listen");
    CHECK_RUN(2, "--slots \"0\"", WORKER, "--slots", "0");
    CHECK_RUN(2, "--slots \"65537\"", WORKER, "--slots", "65537");
    CHECK_RUN(2, "--name \"a b\"", WORKER, "--name", "a b");
    CHECK_RUN(2, "--name \"\"", WORKER, "--name", "");
    CHECK_RUN(2, "--lanes: \"tcp://10.0.0.1:1\" is refused", WORKER, "--lanes",
              "tcp://10.0.0.1:1");
    CHECK_RUN(2, "--lanes: \"nonsense\" is neither", WORKER, "--lanes", "nonsense");
    CHECK_RUN(2, "--labels \"gpu\"", WORKER, "--labels", "gpu");
    CHECK_RUN(2, "--labels \"=x\"", WORKER, "--labels", "=x");
    CHECK_RUN(2, "--memory \"0\"", WORKER, "--memory", "0");
    CHECK_RUN(2, "--cache \"\"", WORKER, "--cache", "");
}

static void only_loopback_is_taken(void **state)
{
    (void)state;
    static const char reason[] = "only loopback without keys";
    CHECK_RUN(2, reason, COORDINATOR, "--listen", "tcp://0.0.0.0:5764");
    CHECK_RUN(2, reason, COORDINATOR, "--listen", "tcp://*:5764");
    CHECK_RUN(2, reason, WORKER, "--coordinator", "tcp://192.0.2.1:5764");
    CHECK_RUN(2, "is not a port", WORKER, "--coordinator", "tcp://127.0.0.1:*");
    setenv("FARPOOL_COORDINATOR", "tcp://192.0.2.7:1", 1);
    CHECK_RUN(2, "192.0.2.7", WORKER);
    unsetenv("FARPOOL_COORDINATOR");
}

/* ------------------------------------------------------------------- limits */

static void a_taken_port_is_named(void **state)
{
    (void)state;
    char address[128];
    start_coordinator(address);
    START(&other, COORDINATOR, "--listen", address);
    check_exit(other, 1);
    check_says(other, address);
    check_says(other, "Address already in use");
}

static void too_few_open_files_are_refused(void **state)
{
    (void)state;
    CHECK_RUN(1, "1000128 open files are needed", "/usr/bin/prlimit", "--nofile=300:300",
              COORDINATOR, "--listen", "tcp://127.0.0.1:*", "--workers-max", "1000000",
              "--clients-max", "64");
    check_says(one, "may have 300");
    CHECK_RUN(1, "code=ENOFILES", "/usr/bin/prlimit", "--nofile=300:300", WORKER,
              "--slots", "1000", "--cache", folder);
    check_says(one, "may have 300");
}

static void the_worker_limit_is_told_to_the_worker(void **state)
{
    (void)state;
    static const char *const limits[] = {"--workers-max", "1", NULL};
    assert_int_equal(cluster_start_with(1, 1, limits, NULL, &cluster), 0);
    start_worker(cluster_address(cluster));
    wait_for(other, " refused code=EWORKERLIMIT");
    /* There is room again when the first one has gone. */
    assert_int_equal(cluster_kill_worker(cluster, 0), 0);
    wait_for(other, " welcomed ");
}

/* ------------------------------------------------------------------- signals */

static void a_coordinator_without_clients_ends_at_once(void **state)
{
    (void)state;
    static const int signals[] = {SIGTERM, SIGINT};
    char address[128];
    for (int i = 0; i < 2; i++) {
        start_coordinator(address);
        assert_int_equal(daemon_signal(one, signals[i]), 0);
        check_exit(one, 0);
        check_says(one, " ended ");
    }
}

static void an_idle_worker_ends_at_once(void **state)
{
    (void)state;
    static const int signals[] = {SIGTERM, SIGINT};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(cluster_start(1, 1, &cluster), 0);
        struct daemon *worker = cluster_worker(cluster, 0);
        assert_int_equal(daemon_signal(worker, signals[i]), 0);
        check_exit(worker, 0);
        wait_for(cluster_coordinator(cluster), " worker-down node=n0");
        cluster_stop(&cluster);
    }
}

static void a_worker_without_coordinator_waits_and_can_be_ended(void **state)
{
    (void)state;
    char address[128];
    start_coordinator(address);
    daemon_close(&one);
    start_worker(address);
    wait_for(other, " coordinator-absent ");
    assert_int_equal(daemon_signal(other, SIGTERM), 0);
    check_exit(other, 0);
}

static void a_worker_finds_a_coordinator_that_starts_later(void **state)
{
    (void)state;
    char address[128];
    start_coordinator(address);
    daemon_close(&one);
    start_worker(address);
    wait_for(other, " coordinator-absent ");
    START(&one, COORDINATOR, "--listen", address);
    wait_for(other, " welcomed ");
    wait_for(one, " worker-up node=w slots=1");
}

static void a_worker_comes_back_to_a_restarted_coordinator(void **state)
{
    (void)state;
    assert_int_equal(cluster_start(2, 1, &cluster), 0);
    assert_int_equal(cluster_kill_coordinator(cluster), 0);
    wait_for(cluster_worker(cluster, 0), " coordinator-lost ");
    wait_for(cluster_worker(cluster, 1), " coordinator-lost ");
    assert_int_equal(cluster_restart_coordinator(cluster), 0);
    assert_int_equal(cluster_add_worker(cluster, 1, NULL), 0);
}

static void a_killed_worker_is_noticed(void **state)
{
    (void)state;
    assert_int_equal(cluster_start(2, 1, &cluster), 0);
    assert_int_equal(cluster_kill_worker(cluster, 1), 0);
    wait_for(cluster_coordinator(cluster), " worker-down node=n1");
}

/* Alive, connected, and saying nothing. */
static void a_stopped_worker_is_noticed_by_its_silence(void **state)
{
    (void)state;
    static const char *const silence[] = {"--silence-ms", "400", NULL};
    assert_int_equal(cluster_start_with(2, 1, silence, NULL, &cluster), 0);
    struct daemon *worker = cluster_worker(cluster, 0);
    assert_int_equal(daemon_signal(worker, SIGSTOP), 0);
    wait_for(cluster_coordinator(cluster), " worker-down node=n0");
    assert_int_equal(daemon_signal(worker, SIGCONT), 0);
    wait_for(worker, " welcomed ");
}

static void garbage_at_the_port_harms_nothing(void **state)
{
    (void)state;
    assert_int_equal(cluster_start(1, 1, &cluster), 0);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    address.sin_port = htons((uint16_t)atoi(strrchr(cluster_address(cluster), ':') + 1));
    for (int i = 0; i < 20; i++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
        (void)!send(fd, "GET / HTTP/1.0\r\n\r\n", 18, MSG_NOSIGNAL);
        close(fd);
    }
    assert_int_equal(cluster_add_worker(cluster, 1, NULL), 0);
}

/* ------------------------------------------------------------------------- log */

static void log_lines_have_one_form(void **state)
{
    (void)state;
    static const char *const verbose[] = {"-vv", NULL};
    assert_int_equal(cluster_start_with(1, 2, verbose, verbose, &cluster), 0);
    wait_for(cluster_worker(cluster, 0), " trace received HEARTBEAT");
    struct daemon *daemons[] = {cluster_coordinator(cluster), cluster_worker(cluster, 0)};
    static const char *const names[] = {"coordinator", "worker"};
    for (int i = 0; i < 2; i++) {
        char *text = strdup(daemon_output(daemons[i]));
        char *end = strrchr(text, '\n'), *rest = text, *line;
        assert_non_null(end);
        *end = '\0';
        while ((line = strsep(&rest, "\n")) != NULL) {
            char when[40], program[40], level[40], event[40];
            assert_int_equal(
                sscanf(line, "%39s %39s %39s %39s", when, program, level, event), 4);
            assert_int_equal(strlen(when), strlen("2026-01-31T08:15:00.123Z"));
            assert_int_equal(when[10], 'T');
            assert_string_equal(program, names[i]);
            assert_non_null(strstr("error warning info debug trace", level));
        }
        free(text);
    }
    check_says(daemons[0], " trace received link=1 HELLO_WORKER");
    check_says(daemons[0], " trace sent link=1 WELCOME");
    check_says(daemons[0], " info worker-up node=n0 slots=2");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(help_and_version),
        TEST(wrong_usage_is_told),
        TEST(only_loopback_is_taken),
        TEST(a_taken_port_is_named),
        TEST(too_few_open_files_are_refused),
        TEST(the_worker_limit_is_told_to_the_worker),
        TEST(a_coordinator_without_clients_ends_at_once),
        TEST(an_idle_worker_ends_at_once),
        TEST(a_worker_without_coordinator_waits_and_can_be_ended),
        TEST(a_worker_finds_a_coordinator_that_starts_later),
        TEST(a_worker_comes_back_to_a_restarted_coordinator),
        TEST(a_killed_worker_is_noticed),
        TEST(a_stopped_worker_is_noticed_by_its_silence),
        TEST(garbage_at_the_port_harms_nothing),
        TEST(no_lanes_if_not_wanted),
        TEST(lanes_that_cannot_be_opened),
        TEST(log_lines_have_one_form),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
