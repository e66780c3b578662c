/* SPDX-License-Identifier: Apache-2.0
 *
 * test_shell_gate_broken.c: the coordinator's list of keys while its file is edited, well
 * and badly: who is let in, and what is said of it when. */
#include "common/keys/keys.h"
#include "coordinator/gate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct bed {
    char folder[64], keys[80], list[96], good[96], out[96], log[96];
    struct gate *gate;
    uint64_t now_ms;
    int stderr_fd; /* the real one */
};

static void add(struct bed *bed, const char *name, struct hash *ret_key)
{
    farpool_error error;
    struct key_file file;
    assert_int_equal(keys_add(bed->keys, HOLDER_CLIENT, name, bed->out, &error), 0);
    assert_int_equal(key_load(bed->out, &file, &error), 0);
    *ret_key = file.holder.key;
    unlink(bed->out);
}

static int set_up(void **state)
{
    static struct bed bed;
    farpool_error error;
    bed = (struct bed){.now_ms = 1000};
    snprintf(bed.folder, sizeof bed.folder, "/tmp/farpool-gate-XXXXXX");
    assert_non_null(mkdtemp(bed.folder));
    snprintf(bed.keys, sizeof bed.keys, "%s/keys", bed.folder);
    snprintf(bed.list, sizeof bed.list, "%s/authorized", bed.keys);
    snprintf(bed.good, sizeof bed.good, "%s/good", bed.folder);
    snprintf(bed.out, sizeof bed.out, "%s/out.key", bed.folder);
    snprintf(bed.log, sizeof bed.log, "%s/log", bed.folder);
    assert_int_equal(keys_init(bed.keys, &error), 0);
    bed.stderr_fd = dup(2);
    assert_non_null(freopen(bed.log, "a", stderr));
    *state = &bed;
    return 0;
}

static int tear_down(void **state)
{
    const struct bed *bed = *state;
    char own[128];
    gate_close(bed->gate);
    fflush(stderr);
    dup2(bed->stderr_fd, 2);
    close(bed->stderr_fd);
    snprintf(own, sizeof own, "%s/coordinator.key", bed->keys);
    const char *const files[] = {own, bed->list, bed->good, bed->log};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        unlink(files[i]);
    rmdir(bed->keys);
    return rmdir(bed->folder);
}

static void open_gate(struct bed *bed)
{
    farpool_error error;
    assert_int_equal(gate_open(bed->keys, bed->now_ms, &bed->gate, &error), 0);
}

static bool lets_in(const struct bed *bed, const struct hash *key)
{
    const struct net_keys *keys = gate_keys(bed->gate);
    struct holder holder;
    return keys->authorize(keys->user, key, &holder);
}

/* Looks after so long; whether links must be looked at again. */
static bool look(struct bed *bed, uint64_t ms)
{
    bed->now_ms += ms;
    return gate_look(bed->gate, bed->now_ms);
}

/* How often the log has this. */
static int logged(const struct bed *bed, const char *what)
{
    char line[2048];
    int count = 0;
    fflush(stderr);
    FILE *log = fopen(bed->log, "r");
    assert_non_null(log);
    while (fgets(line, sizeof line, log) != NULL)
        count += strstr(line, what) != NULL;
    fclose(log);
    return count;
}

static void append(const struct bed *bed, const char *text)
{
    FILE *list = fopen(bed->list, "a");
    assert_non_null(list);
    fputs(text, list);
    fclose(list);
}

static void test_wrong_line(void **state)
{
    struct bed *bed = *state;
    struct hash one, two;
    farpool_error error;
    add(bed, "one", &one);
    open_gate(bed);
    assert_true(lets_in(bed, &one));
    assert_int_equal(link(bed->list, bed->good), 0); /* as it was: lists are replaced */
    add(bed, "two", &two);
    append(bed, "nonsense\n");
    assert_false(look(bed, 1000));
    assert_true(lets_in(bed, &one));  /* whoever was in, is */
    assert_false(lets_in(bed, &two)); /* and nobody else */
    assert_int_equal(logged(bed, "keys-unreadable"), 1);
    assert_int_equal(keys_revoke(bed->keys, "one", &error), FARPOOL_EKEY);
    /* The good one again, then one without the key. */
    assert_int_equal(rename(bed->good, bed->list), 0);
    assert_true(look(bed, 1000));
    assert_true(lets_in(bed, &one));
    assert_int_equal(keys_revoke(bed->keys, "one", &error), 0);
    assert_true(look(bed, 1000));
    assert_false(lets_in(bed, &one));
    assert_int_equal(logged(bed, "keys-unreadable"), 1);
}

/* At once, every minute, and when something else is wrong. */
static void test_said_until_mended(void **state)
{
    struct bed *bed = *state;
    struct hash one;
    add(bed, "one", &one);
    open_gate(bed);
    append(bed, "nonsense\n");
    for (int second = 0; second < 60; second++)
        assert_false(look(bed, 1000));
    assert_int_equal(logged(bed, "keys-unreadable"), 1);
    look(bed, 1000);
    assert_int_equal(logged(bed, "keys-unreadable"), 2);
    assert_int_equal(logged(bed, "no key that was added or revoked since then"), 2);
    assert_int_equal(chmod(bed->list, 0666), 0);
    look(bed, 1000);
    assert_int_equal(logged(bed, "0666"), 1);
    assert_int_equal(unlink(bed->list), 0);
    look(bed, 1000);
    assert_int_equal(logged(bed, "keys-unreadable"), 4);
    /* As an editor leaves it for a moment. */
    const char *const torn[] = {"", "# ROLE NAME PUBLICKEY"};
    for (size_t i = 0; i < 2; i++) {
        append(bed, torn[i]);
        assert_int_equal(chmod(bed->list, 0600), 0);
        assert_false(look(bed, 1000));
    }
    assert_int_equal(logged(bed, "it is empty, so not whole"), 1);
    assert_int_equal(logged(bed, "its last line has no end, so it is not whole"), 1);
    assert_true(lets_in(bed, &one));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_wrong_line, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_said_until_mended, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
