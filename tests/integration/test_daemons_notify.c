/* SPDX-License-Identifier: Apache-2.0
 *
 * The daemons under a service manager, which this test is: it listens at NOTIFY_SOCKET,
 * and has a watchdog. */
#include "daemons.h"

#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define WAIT_MS 20000
#define WATCHDOG_MS 200

static struct daemon *coordinator, *worker, *client;
static char folder[] = "/tmp/farpool-service-XXXXXX";
static int manager;

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

static int set_up(void **state)
{
    (void)state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(folder + sizeof folder - 7, "XXXXXX", 6);
    unsetenv("FARPOOL_COORDINATOR");
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(address.sun_path, sizeof address.sun_path, "%s/manager", folder);
    manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    return manager < 0 || bind(manager, (struct sockaddr *)&address, sizeof address) != 0;
}

static int tear_down(void **state)
{
    (void)state;
    char command[80];
    daemon_close(&client);
    daemon_close(&worker);
    daemon_close(&coordinator);
    close(manager);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

/* As a manager starts a service. */
static void start(struct daemon **ret_daemon, const char *const *argv)
{
    char path[80], usec[20];
    snprintf(path, sizeof path, "%s/manager", folder);
    snprintf(usec, sizeof usec, "%d", WATCHDOG_MS * 1000);
    setenv("NOTIFY_SOCKET", path, 1);
    setenv("WATCHDOG_USEC", usec, 1);
    assert_int_equal(daemon_start(argv, ret_daemon), 0);
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
}

static void start_coordinator(char address[128])
{
    const char *line, *const argv[] = {FARPOOL_COORDINATOR_PATH, "--listen",
                                       "tcp://127.0.0.1:*", NULL};
    start(&coordinator, argv);
    assert_int_equal(daemon_wait_line(coordinator, " listening ", WAIT_MS, &line), 0);
    assert_int_equal(sscanf(strstr(line, "address="), "address=%127s", address), 1);
}

static void start_worker(const char *address)
{
    const char *const argv[] = {FARPOOL_WORKER_PATH,
                                "--coordinator",
                                address,
                                "--cache",
                                folder,
                                "--name",
                                "w",
                                "--slots",
                                "1",
                                NULL};
    start(&worker, argv);
}

/* Waits for a datagram with `text`, and returns all of it, until the next call; those
 * before it are passed over. */
static const char *hear(const char *text)
{
    static char got[1024];
    char all[8192] = "";
    uint64_t until = now_ms() + WAIT_MS;
    for (;;) {
        struct pollfd item = {.fd = manager, .events = POLLIN};
        uint64_t now = now_ms();
        if (now >= until || poll(&item, 1, (int)(until - now)) != 1)
            fail_msg("\"%s\" was not told, but:\n%s", text, all);
        ssize_t n = recv(manager, got, sizeof got - 1, 0);
        assert_true(n > 0);
        got[n] = '\0';
        if (strstr(got, text) != NULL)
            return got;
        size_t used = strlen(all);
        snprintf(all + used, sizeof all - used, "%s", got);
    }
}

/* They come without anything else that would wake the loop. */
static void hear_beats(void)
{
    for (int i = 0; i < 5; i++)
        hear("WATCHDOG=1\n");
}

static void check_ended(struct daemon *daemon)
{
    int status = -1;
    assert_int_equal(daemon_wait_end(daemon, WAIT_MS, &status), 0);
    assert_int_equal(status, 0);
}

static void the_coordinator_tells(void **state)
{
    (void)state;
    char address[128];
    start_coordinator(address);
    hear("READY=1\n");
    hear_beats();
    assert_int_equal(daemon_signal(coordinator, SIGTERM), 0);
    hear("STOPPING=1\n");
    check_ended(coordinator);
}

static void the_worker_tells(void **state)
{
    (void)state;
    char wanted[200];
    start_worker("tcp://127.0.0.1:1");
    assert_non_null(
        strstr(hear("STATUS=not connected, dialing tcp://127.0.0.1:1\n"), "READY=1\n"));
    hear_beats();
    assert_int_equal(daemon_signal(worker, SIGTERM), 0);
    hear("STOPPING=1\n");
    check_ended(worker);
    daemon_close(&worker);

    char address[128];
    start_coordinator(address);
    hear("STATUS=0 workers, 0 clients\n");
    start_worker(address);
    snprintf(wanted, sizeof wanted, "STATUS=connected to %s\n", address);
    hear(wanted);
    assert_int_equal(daemon_signal(coordinator, SIGKILL), 0);
    snprintf(wanted, sizeof wanted, "STATUS=not connected, dialing %s\n", address);
    hear(wanted);
}

static void the_coordinator_counts(void **state)
{
    (void)state;
    char address[128];
    start_coordinator(address);
    start_worker(address);
    hear("STATUS=1 workers, 0 clients\n");
}

/* A stopped daemon is silent, which is what the watchdog is for. */
static void a_loop_that_hangs_is_silent(void **state)
{
    (void)state;
    char address[128];
    start_coordinator(address);
    hear("WATCHDOG=1\n");
    assert_int_equal(daemon_signal(coordinator, SIGSTOP), 0);
    int status;
    assert_int_equal(waitpid(daemon_pid(coordinator), &status, WUNTRACED),
                     daemon_pid(coordinator));
    char got[1024];
    while (recv(manager, got, sizeof got, MSG_DONTWAIT) > 0)
        ;
    struct pollfd item = {.fd = manager, .events = POLLIN};
    assert_int_equal(poll(&item, 1, 2 * WATCHDOG_MS), 0);
    assert_int_equal(daemon_signal(coordinator, SIGCONT), 0);
    hear("WATCHDOG=1\n");
}

/* What a pool's processes would see: neither the socket nor the watchdog. */
static void the_processes_are_not_the_service(void **state)
{
    (void)state;
    char address[128];
    start_coordinator(address);
    start_worker(address);
    hear("STATUS=connected to");
    const char *const argv[] = {FARPOOL_COMMAND_PATH,
                                "map",
                                "--coordinator",
                                address,
                                "--shell",
                                "env; :",
                                ":::",
                                "1",
                                NULL};
    assert_int_equal(daemon_start(argv, &client), 0);
    check_ended(client);
    const char *output = daemon_output(client);
    assert_non_null(strstr(output, "PATH="));
    assert_null(strstr(output, "NOTIFY_SOCKET="));
    assert_null(strstr(output, "WATCHDOG_USEC="));
}

static void a_bad_socket_is_told_in_the_log(void **state)
{
    (void)state;
    const char *const argv[] = {FARPOOL_COORDINATOR_PATH, "--listen", "tcp://127.0.0.1:*",
                                NULL};
    setenv("NOTIFY_SOCKET", "nonsense", 1);
    assert_int_equal(daemon_start(argv, &coordinator), 0);
    unsetenv("NOTIFY_SOCKET");
    assert_int_equal(
        daemon_wait_line(coordinator, "NOTIFY_SOCKET is \"nonsense\"", WAIT_MS, NULL), 0);
    assert_int_equal(daemon_wait_line(coordinator, " listening ", WAIT_MS, NULL), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(the_coordinator_tells),
        TEST(the_worker_tells),
        TEST(the_coordinator_counts),
        TEST(a_loop_that_hangs_is_silent),
        TEST(the_processes_are_not_the_service),
        TEST(a_bad_socket_is_told_in_the_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
