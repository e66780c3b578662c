/* SPDX-License-Identifier: Apache-2.0
 *
 * test_cli_up.c: what `farpool up` reads and decides without touching anything: lists of
 * hosts, and how many jobs --auto submits. */
#include "cli/up.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void lists_are_read(void **state)
{
    struct up_host *hosts;
    size_t count;
    char why[256];
    (void)state;
    assert_true(up_parse_hosts("n1,n2/4 , ann@n3:2222/8 # one\n#two\n[fe80::1%eth0]:23\n"
                               "::1/2",
                               &hosts, &count, why));
    assert_int_equal(count, 5);
    assert_string_equal(hosts[0].node, "n1");
    assert_int_equal(hosts[0].slots + hosts[0].port, 0);
    assert_int_equal(hosts[1].slots, 4);
    assert_string_equal(hosts[2].user, "ann");
    assert_string_equal(hosts[2].host, "n3");
    assert_int_equal(hosts[2].port, 2222);
    assert_int_equal(hosts[2].slots, 8);
    assert_string_equal(hosts[2].node, "n3:2222");
    assert_string_equal(hosts[3].host, "fe80::1%eth0");
    assert_string_equal(hosts[3].node, "fe80::1_eth0:23");
    assert_string_equal(hosts[4].host, "::1");
    assert_int_equal(hosts[4].slots, 2);
    free(hosts);
}

static void mistakes_are_named(void **state)
{
    static const struct {
        const char *list, *wanted;
    } cases[] = {
        {"", "no host is listed"},
        {" ,, # n1", "no host is listed"},
        {"n1/0", "'n1/0': /SLOTS"},
        {"n1/65537", "from 1 to 65536"},
        {"n1/x", "'n1/x': /SLOTS"},
        {"n1:0", "the port"},
        {"n1:65536", "from 1 to 65535"},
        {"n1:", "the port"},
        {"@n1", "before the @"},
        {"a'b@n1", "before the @"},
        {"-oProxyCommand=x", "a host's name"},
        {"n1;reboot", "a host's name"},
        {"$(n1)", "a host's name"},
        {"[::1", "']' is missing"},
        {"[::1]x", "only :PORT"},
        {"n1,n2,n1/4", "'n1/4': this host is listed twice"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct up_host *hosts = NULL;
        size_t count = 0;
        char why[256] = "";
        const bool taken = up_parse_hosts(cases[i].list, &hosts, &count, why);
        if (taken || !strstr(why, cases[i].wanted))
            fail_msg("'%s': %s", cases[i].list, taken ? "taken" : why);
    }
}

static void very_long_lists_end(void **state)
{
    char *list = NULL, why[256];
    size_t size, count;
    struct up_host *hosts;
    FILE *file = open_memstream(&list, &size);
    (void)state;
    for (int i = 0; i <= UP_HOSTS_MAX; i++)
        fprintf(file, "n%d,", i);
    fclose(file);
    assert_false(up_parse_hosts(list, &hosts, &count, why));
    assert_non_null(strstr(why, "more than 10000 hosts"));
    *strrchr(list, 'n') = '\0';
    assert_true(up_parse_hosts(list, &hosts, &count, why));
    assert_int_equal(count, UP_HOSTS_MAX);
    free(hosts);
    free(list);
}

static uint64_t decide(struct up_load load)
{
    const char *why = NULL;
    const uint64_t count = up_decide(&load, &why);
    assert_non_null(why);
    return count;
}

static void jobs_follow_the_load(void **state)
{
    const struct up_load busy = {.waiting = 100,
                                 .running = 8,
                                 .slots = 8,
                                 .nodes = 2,
                                 .jobs = 2,
                                 .backlog_s = 5,
                                 .max = 10};
    struct up_load load = busy;
    (void)state;
    assert_int_equal(decide(load), 2); /* doubled */
    load.jobs = 8;
    assert_int_equal(decide(load), 2); /* no more than MAX */
    load.jobs = 10;
    assert_int_equal(decide(load), 0);
    load = busy;
    load.waiting = 3;
    assert_int_equal(decide(load), 1); /* no more than wait */
    load = busy;
    load.queued = 1;
    assert_int_equal(decide(load), 0);
    load = busy;
    load.backlog_s = 1;
    assert_int_equal(decide(load), 0);
    load.backlog_s = 2;
    assert_int_equal(decide(load), 2); /* deep, by what is known */
    load.done_per_s = 50;
    assert_int_equal(decide(load), 0); /* two seconds of work: not yet */
    load.backlog_s = 5;
    assert_int_equal(decide(load), 2);
    load.waiting = 0;
    assert_int_equal(decide(load), 0);
    load = (struct up_load){.waiting = 1, .backlog_s = 2, .max = 1};
    assert_int_equal(decide(load), 1); /* from nothing */
    load = (struct up_load){.jobs = 1, .min = 3, .max = 5};
    assert_int_equal(decide(load), 2); /* MIN comes without tasks */
}

static void pauses_grow(void **state)
{
    uint64_t before = 0;
    (void)state;
    assert_int_equal(up_tunnel_pause_ms(0), 500);
    for (unsigned i = 0; i < 100; i++) {
        const uint64_t pause = up_tunnel_pause_ms(i);
        assert_true(pause >= before && pause <= 60000);
        before = pause;
    }
    assert_int_equal(before, 60000);
    assert_int_equal(up_tunnel_pause_ms(UINT32_MAX), 60000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_are_read),      cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(very_long_lists_end), cmocka_unit_test(jobs_follow_the_load),
        cmocka_unit_test(pauses_grow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
