/* SPDX-License-Identifier: Apache-2.0
 *
 * test_sys_groups_kernel.c: control groups with memory control, on a kernel made of
 * files (fake_groups.h), so that they are tried where there are none and without root:
 * what is written in which order, and that whatever is missing or refused leaves things
 * as they were, with the reason. What a real kernel says is test_sys_groups.c's. */
#include "fake_groups.h"

#define TOKEN "0123456789abcdef0123456789abcdef"
#define OTHER "f123456789abcdef0123456789abcdef"

static char top[FAKE_PATH];

static void expect(const char *group, const char *name, const char *text)
{
    assert_string_equal(fake_get(group, name), text);
}

/* As before anything was opened. */
static void expect_untouched(void)
{
    char own[32];
    snprintf(own, sizeof own, "%d\n", (int)getpid());
    expect(fake_base, "cgroup.procs", own);
    expect(fake_base, "cgroup.subtree_control", "");
    assert_int_equal(fake_each(fake_base, NULL), 0);
}

static void open_groups(struct groups *groups)
{
    assert_true(groups_open(TOKEN, groups));
    assert_true(snprintf(top, sizeof top, "%s", groups->top) < (int)sizeof top);
}

static void expect_why(const struct groups *groups, const char *text)
{
    if (strstr(groups->why, text) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", groups->why, text);
}

/* ------------------------------------------------------------------------ opening */

/* Each of the writes is refused by the fake kernel in another order. */
static void memory_is_passed_on_where_the_worker_is_alone(void **state)
{
    struct groups groups;
    char self[FAKE_PATH], own[32];
    (void)state;
    open_groups(&groups);
    assert_string_equal(groups.why, "");
    assert_true(groups.memory && groups.moved);
    fake_path(self, top, "self");
    snprintf(own, sizeof own, "%d\n", (int)getpid());
    expect(self, "cgroup.procs", own);
    expect(fake_base, "cgroup.procs", "");
    expect(fake_base, "cgroup.subtree_control", "memory\n");
    expect(top, "cgroup.subtree_control", "memory\n");
    groups_close(&groups);
    expect_untouched();
}

static void others_keep_their_group_as_it_is(void **state)
{
    struct groups groups;
    char members[32];
    (void)state;
    snprintf(members, sizeof members, "%d\n1\n", (int)getpid());
    fake_put(fake_base, "cgroup.procs", members);
    open_groups(&groups);
    assert_false(groups.memory || groups.moved);
    expect_why(&groups, "other processes are in");
    expect(fake_base, "cgroup.procs", members);
    expect(fake_base, "cgroup.subtree_control", "");
    const int group = group_make(&groups, 1);
    assert_true(group >= 0);
    close(group);
    groups_close(&groups);
    assert_int_equal(fake_each(fake_base, NULL), 0);
}

static void the_root_group_passes_it_on_or_does_not(void **state)
{
    struct groups groups;
    (void)state;
    fake_drop(fake_base, "cgroup.type");
    open_groups(&groups);
    assert_false(groups.memory);
    expect_why(&groups, "the root group does not pass the memory controller on");
    groups_close(&groups);
    expect_untouched();
    fake_put(fake_base, "cgroup.subtree_control", "cpu memory pids\n");
    open_groups(&groups);
    assert_true(groups.memory && !groups.moved);
    groups_close(&groups);
    expect(fake_base, "cgroup.subtree_control", "cpu memory pids\n");
    assert_int_equal(fake_each(fake_base, NULL), 0);
}

static void without_the_controller_there_is_no_memory_control(void **state)
{
    struct groups groups;
    (void)state;
    fake_put(fake_base, "cgroup.controllers", "cpu memory_of_others\n");
    open_groups(&groups);
    assert_false(groups.memory);
    expect_why(&groups, "has no memory controller");
    groups_close(&groups);
    fake_drop(fake_base, "cgroup.controllers");
    open_groups(&groups);
    assert_false(groups.memory);
    groups_close(&groups);
    expect_untouched();
}

static void expect_none(const char *why)
{
    struct groups groups;
    assert_false(groups_open(TOKEN, &groups));
    expect_why(&groups, why);
    assert_string_equal(groups.top, "");
    assert_int_equal(group_make(&groups, 1), -1);
    assert_int_equal(errno, ENOENT);
    groups_close(&groups);
    assert_int_equal(fake_each(fake_base, NULL), 0);
}

static void what_is_missing_is_said(void **state)
{
    (void)state;
    fake_shown = false;
    expect_none("no cgroup v2 is mounted");
    fake_shown = true;
    fake_kills = false;
    expect_none("cgroup.kill");
    fake_kills = true;
    fake_drop(fake_base, "cgroup.procs");
    expect_none("No such file");
    fake_clones = false;
    expect_none("clone3 is not allowed here");
}

/* Each change that opening makes is refused in turn. */
static void refuse_each(int number)
{
    struct groups groups;
    bool refused = true;
    for (unsigned i = 1; refused; i++) {
        fake_changes = 0;
        fake_refused = i;
        fake_error = number;
        const bool open = groups_open(TOKEN, &groups);
        refused = fake_changes >= i;
        fake_refused = 0;
        assert_int_equal(groups.memory, !refused);
        /* Out of the base for this alone. */
        assert_int_equal(groups.moved, fake_passes_memory(fake_base));
        assert_int_equal(open, groups.top[0] != '\0');
        if (refused)
            expect_why(&groups, strerror(number));
        assert_true(refused || i > 5);
        groups_close(&groups);
        expect_untouched();
    }
}

static void whatever_is_refused_leaves_things_as_they_were(void **state)
{
    (void)state;
    refuse_each(EPERM);
    refuse_each(EBUSY);
    refuse_each(ENOSPC);
}

/* -------------------------------------------------------------------------- one group */

static void a_group_has_a_limit_beside_its_outputs(void **state)
{
    struct groups groups;
    char path[FAKE_PATH];
    (void)state;
    open_groups(&groups);
    const int group = group_make(&groups, 7);
    assert_true(group >= 0);
    fake_path(path, top, "p7");
    expect(path, "memory.oom.group", "1");
    fake_put(path, "memory.stat", "anon 5\nshmem 4096\n");
    group_limit_memory(group, 1000000);
    expect(path, "memory.max", "1004096");
    expect(path, "memory.swap.max", "0");
    group_limit_memory(group, UINT64_MAX);
    expect(path, "memory.max", "max");
    expect(path, "memory.swap.max", "max");
    close(group);
    groups_close(&groups);
    expect_untouched();
}

/* A kernel without accounts of swap; a limit that is refused; no memory.stat. */
static void a_limit_that_cannot_be_written_harms_nothing(void **state)
{
    struct groups groups;
    char path[FAKE_PATH];
    uint64_t bytes;
    (void)state;
    open_groups(&groups);
    const int group = group_make(&groups, 7);
    fake_path(path, top, "p7");
    fake_drop(path, "memory.swap.max");
    fake_drop(path, "memory.stat");
    group_limit_memory(group, 500);
    expect(path, "memory.max", "500");
    assert_false(fake_is_there(path, "memory.swap.max"));
    fake_changes = 0;
    fake_refused = 1;
    fake_error = EPERM;
    group_limit_memory(group, 600);
    assert_non_null(strstr(fake_last, "memory.max"));
    expect(path, "memory.max", "500");
    fake_drop(path, "memory.events");
    assert_int_equal(group_read_oom(group, &bytes), GROUP_OOM_NONE);
    close(group);
    groups_close(&groups);
    expect_untouched();
}

/* A process needs no group of its own to run. */
static void a_group_that_cannot_be_made_is_told(void **state)
{
    struct groups groups;
    (void)state;
    open_groups(&groups);
    fake_changes = 0;
    fake_refused = 1;
    fake_error = ENOSPC;
    assert_int_equal(group_make(&groups, 7), -1);
    assert_int_equal(errno, ENOSPC);
    groups_close(&groups);
    expect_untouched();
}

/* -------------------------------------------------------------------------- their end */

static bool is_first(void *user, uint64_t number)
{
    (void)user;
    return number == 1;
}

static void what_is_left_goes_with_a_sweep(void **state)
{
    struct groups groups;
    char first[FAKE_PATH], second[FAKE_PATH], inner[FAKE_PATH];
    (void)state;
    open_groups(&groups);
    close(group_make(&groups, 1));
    close(group_make(&groups, 2));
    fake_path(first, top, "p1");
    fake_path(second, top, "p2");
    fake_path(inner, second, "in");
    assert_int_equal(__wrap_mkdir(inner, 0700), 0); /* as a program might */
    fake_put(inner, "cgroup.procs", "4711\n");
    fake_put(first, "cgroup.procs", "4712\n");
    assert_int_equal(groups_sweep(&groups, is_first, NULL), 0);
    assert_int_equal(access(second, F_OK), -1);
    expect(first, "cgroup.procs", "4712\n");
    groups_close(&groups);
    expect_untouched();
}

/* Its guardian goes back for it, and removes what it made. */
static void a_killed_workers_groups_are_cleared(void **state)
{
    struct groups groups;
    (void)state;
    open_groups(&groups);
    close(group_make(&groups, 3));
    groups_leave(top);
    expect(fake_base, "cgroup.subtree_control", "");
    assert_true(groups_clear(top));
    close(groups.lock);
    expect_untouched();
}

/* Who starts next removes what nobody holds locked, and nothing else. */
static void the_next_worker_removes_leftovers(void **state)
{
    struct groups groups, next;
    (void)state;
    open_groups(&groups);
    close(group_make(&groups, 3));
    assert_true(groups_open(OTHER, &next));
    assert_int_equal(next.leftovers, 0);
    groups_close(&next);
    groups_leave(top);
    close(groups.lock);
    assert_true(groups_open(OTHER, &next));
    assert_int_equal(next.leftovers, 1);
    assert_int_equal(access(top, F_OK), -1);
    assert_true(next.memory);
    groups_close(&next);
    expect_untouched();
}

#define FAKE(test) cmocka_unit_test_setup_teardown(test, fake_make, fake_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FAKE(memory_is_passed_on_where_the_worker_is_alone),
        FAKE(others_keep_their_group_as_it_is),
        FAKE(the_root_group_passes_it_on_or_does_not),
        FAKE(without_the_controller_there_is_no_memory_control),
        FAKE(what_is_missing_is_said),
        FAKE(whatever_is_refused_leaves_things_as_they_were),
        FAKE(a_group_has_a_limit_beside_its_outputs),
        FAKE(a_limit_that_cannot_be_written_harms_nothing),
        FAKE(a_group_that_cannot_be_made_is_told),
        FAKE(what_is_left_goes_with_a_sweep),
        FAKE(a_killed_workers_groups_are_cleared),
        FAKE(the_next_worker_removes_leftovers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
