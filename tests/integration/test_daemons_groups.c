/* SPDX-License-Identifier: Apache-2.0
 *
 * test_daemons_groups.c: the control groups of a worker: where it may make some, they are
 * there while it lives, and gone when it has ended, however it did; where it may not, or
 * is not to, it says so and works all the same. What such a group is good for is tried in
 * tests/api/test_cluster_remains.c. */
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
#include <unistd.h>

#include <cmocka.h>

#define DEADLINE_MS 20000

static const char *const no_groups[] = {"--groups", "none", NULL};

/* The folder that the worker's log names; false: it has none, and says why. */
static bool read_folder(struct cluster *cluster, int worker, char *folder, size_t size)
{
    const char *said = strstr(daemon_output(cluster_worker(cluster, worker)), " groups ");
    const char *line_end = said != NULL ? strchr(said, '\n') : NULL;
    const char *at = said != NULL ? strstr(said, "folder=") : NULL;

    assert_non_null(said);
    assert_non_null(line_end);
    if (at == NULL || at > line_end) {
        assert_non_null(strstr(said, "use=none reason=\""));
        return false;
    }
    at += strlen("folder=");
    snprintf(folder, size, "%.*s", (int)strcspn(at, " \n"), at);
    return true;
}

/* There is no event for the end of a group that its maker has removed: looks again and
 * again, and gives others the core between. */
static void assert_removed(const char *folder)
{
    for (int waited_ms = 0; access(folder, F_OK) == 0; waited_ms += 10) {
        if (waited_ms > DEADLINE_MS)
            fail_msg("%s is still there", folder);
        poll(NULL, 0, 10);
    }
}

static void they_go_with_a_worker_that_ends(void **state)
{
    struct cluster *cluster;
    char folder[2048];
    int status;

    (void)state;
    assert_int_equal(cluster_start(1, 1, &cluster), 0);
    if (read_folder(cluster, 0, folder, sizeof folder)) {
        assert_int_equal(access(folder, F_OK), 0);
        assert_int_equal(daemon_signal(cluster_worker(cluster, 0), SIGTERM), 0);
        assert_int_equal(
            daemon_wait_end(cluster_worker(cluster, 0), DEADLINE_MS, &status), 0);
        assert_int_equal(access(folder, F_OK), -1);
    }
    cluster_stop(&cluster);
}

static void they_go_with_a_worker_that_is_killed(void **state)
{
    struct cluster *cluster;
    char folder[2048];

    (void)state;
    assert_int_equal(cluster_start(1, 1, &cluster), 0);
    if (read_folder(cluster, 0, folder, sizeof folder)) {
        assert_int_equal(cluster_kill_worker(cluster, 0), 0);
        assert_removed(folder);
    }
    cluster_stop(&cluster);
}

static void none_are_made_where_none_are_wanted(void **state)
{
    struct cluster *cluster;
    char folder[2048];

    (void)state;
    assert_int_equal(cluster_start_with(1, 1, NULL, no_groups, &cluster), 0);
    assert_false(read_folder(cluster, 0, folder, sizeof folder));
    assert_non_null(strstr(daemon_output(cluster_worker(cluster, 0)),
                           "use=none reason=\"--groups none\""));
    cluster_stop(&cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(they_go_with_a_worker_that_ends),
        cmocka_unit_test(they_go_with_a_worker_that_is_killed),
        cmocka_unit_test(none_are_made_where_none_are_wanted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
