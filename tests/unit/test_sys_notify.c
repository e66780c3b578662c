/* SPDX-License-Identifier: Apache-2.0
 *
 * What a service manager is told: over real sockets, by path and in the abstract space.
 */
#include "common/sys/notify.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/farpool-notify-XXXXXX";
static struct notify notify;
static int manager; /* the socket of the manager */

static int set_up(void **state)
{
    (void)state;
    manager = -1;
    notify.fd = -1;
    memcpy(folder + sizeof folder - 7, "XXXXXX", 6);
    return mkdtemp(folder) == NULL;
}

static int tear_down(void **state)
{
    (void)state;
    char command[80];
    notify_close(&notify);
    close(manager);
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

/* Listens at what NOTIFY_SOCKET will say. */
static void listen_at(const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(name);
    memcpy(address.sun_path, name, length);
    if (name[0] == '@')
        address.sun_path[0] = '\0';
    manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_true(manager >= 0);
    assert_int_equal(bind(manager, (struct sockaddr *)&address,
                          (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)),
                     0);
    setenv("NOTIFY_SOCKET", name, 1);
}

static void listen_in_folder(void)
{
    char path[80];
    snprintf(path, sizeof path, "%s/socket", folder);
    listen_at(path);
}

/* The datagram that has come; "": none. */
static const char *heard(void)
{
    static char text[1024];
    ssize_t n = recv(manager, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

static void open_well(uint64_t now_ms)
{
    farpool_error error = {0};
    if (notify_open(&notify, now_ms, &error) != 0)
        fail_msg("%s", error.text);
}

static void nobody_to_tell(void **state)
{
    (void)state;
    setenv("WATCHDOG_USEC", "1000000", 1);
    open_well(0);
    notify_ready(&notify);
    notify_turn(&notify, 600);
    assert_int_equal(notify.fd, -1);
    assert_true(notify_deadline(&notify) == UINT64_MAX);
    assert_null(getenv("WATCHDOG_USEC"));
}

static void ready_status_and_end_are_told_once(void **state)
{
    (void)state;
    listen_in_folder();
    open_well(0);
    assert_true(notify_deadline(&notify) == UINT64_MAX);
    notify_ready(&notify);
    notify_status(&notify, "%d workers", 3);
    assert_int_equal(notify_deadline(&notify), 0);
    notify_turn(&notify, 1);
    assert_string_equal(heard(), "READY=1\nSTATUS=3 workers\n");
    notify_status(&notify, "%d workers", 3);
    notify_turn(&notify, 2);
    assert_string_equal(heard(), "");
    notify_status(&notify, "a\nREADY=0");
    notify_turn(&notify, 3);
    assert_string_equal(heard(), "STATUS=a READY=0\n");
    notify_stopping(&notify);
    notify_turn(&notify, 4);
    assert_string_equal(heard(), "STOPPING=1\n");
    assert_true(notify_deadline(&notify) == UINT64_MAX);
}

static void an_abstract_name_is_one(void **state)
{
    (void)state;
    char name[80];
    snprintf(name, sizeof name, "@%s", folder + 1);
    listen_at(name);
    open_well(0);
    notify_ready(&notify);
    notify_turn(&notify, 1);
    assert_string_equal(heard(), "READY=1\n");
}

static void the_environment_is_cleared(void **state)
{
    (void)state;
    listen_in_folder();
    setenv("WATCHDOG_USEC", "1000000", 1);
    setenv("WATCHDOG_PID", "1", 1);
    open_well(0);
    assert_null(getenv("NOTIFY_SOCKET"));
    assert_null(getenv("WATCHDOG_USEC"));
    assert_null(getenv("WATCHDOG_PID"));
    assert_true(notify_deadline(&notify) == UINT64_MAX); /* pid 1's watchdog, not ours */
}

static void the_watchdog_is_told_at_half_of_its_time(void **state)
{
    (void)state;
    char pid[20];
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    listen_in_folder();
    setenv("WATCHDOG_USEC", "3000000", 1);
    setenv("WATCHDOG_PID", pid, 1);
    open_well(10000);
    assert_int_equal(notify_deadline(&notify), 11500);
    notify_turn(&notify, 11499);
    assert_string_equal(heard(), "");
    notify_turn(&notify, 11600);
    assert_string_equal(heard(), "WATCHDOG=1\n");
    assert_int_equal(notify_deadline(&notify), 13100);
    notify_turn(&notify, 13099);
    assert_string_equal(heard(), "");
    notify_turn(&notify, 13100);
    assert_string_equal(heard(), "WATCHDOG=1\n");
}

/* A manager that is away, or has no room, gets all of it later. */
static void what_was_not_taken_is_sent_again(void **state)
{
    (void)state;
    listen_in_folder();
    char path[80];
    snprintf(path, sizeof path, "%s/socket", folder);
    open_well(0);
    unlink(path);
    close(manager);
    notify_ready(&notify);
    notify_turn(&notify, 5);
    assert_int_equal(notify_deadline(&notify), 1005);
    notify_status(&notify, "later");
    notify_turn(&notify, 500);
    assert_int_equal(notify_deadline(&notify), 1005);
    listen_at(path);
    notify_turn(&notify, 1005);
    assert_string_equal(heard(), "READY=1\nSTATUS=later\n");
    assert_true(notify_deadline(&notify) == UINT64_MAX);

    int sent = 0;
    while (notify.retry_ms == 0) { /* until the manager's queue is full */
        notify_status(&notify, "number %d", ++sent);
        notify_turn(&notify, 2000);
        assert_true(sent < 100000);
    }
    while (heard()[0] != '\0')
        ;
    notify_turn(&notify, 3000);
    char wanted[40];
    snprintf(wanted, sizeof wanted, "STATUS=number %d\n", sent);
    assert_string_equal(heard(), wanted);
}

static void check_refused(const char *socket_name, const char *usec, const char *pid,
                          const char *text)
{
    farpool_error error = {0};
    setenv("NOTIFY_SOCKET", socket_name, 1);
    if (usec != NULL)
        setenv("WATCHDOG_USEC", usec, 1);
    if (pid != NULL)
        setenv("WATCHDOG_PID", pid, 1);
    assert_int_equal(notify_open(&notify, 0, &error), FARPOOL_EINVAL);
    if (strstr(error.text, text) == NULL)
        fail_msg("\"%s\" lacks \"%s\"", error.text, text);
    assert_null(getenv("NOTIFY_SOCKET"));
    notify_ready(&notify);
    notify_turn(&notify, 1);
    assert_true(notify_deadline(&notify) == UINT64_MAX);
}

static void what_makes_no_sense_is_named(void **state)
{
    (void)state;
    char name[120];
    memset(name, 'x', sizeof name - 1);
    name[0] = '/';
    name[sizeof name - 1] = '\0';
    check_refused(name, NULL, NULL, "119 bytes, and at most 107");
    check_refused("relative", NULL, NULL, "NOTIFY_SOCKET is \"relative\"");
    check_refused("@", NULL, NULL, "NOTIFY_SOCKET is \"@\"");
    check_refused("", NULL, NULL, "NOTIFY_SOCKET is \"\"");
    check_refused("/x", "soon", NULL, "WATCHDOG_USEC is \"soon\"");
    check_refused("/x", "-5000", NULL, "WATCHDOG_USEC is \"-5000\"");
    check_refused("/x", "1999", NULL, "at least 2000");
    check_refused("/x", "99999999999999999999999", NULL, "WATCHDOG_USEC");
    check_refused("/x", "5000", "me", "WATCHDOG_PID is \"me\"");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(nobody_to_tell),
        TEST(ready_status_and_end_are_told_once),
        TEST(an_abstract_name_is_one),
        TEST(the_environment_is_cleared),
        TEST(the_watchdog_is_told_at_half_of_its_time),
        TEST(what_was_not_taken_is_sent_again),
        TEST(what_makes_no_sense_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
