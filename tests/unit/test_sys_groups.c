/* SPDX-License-Identifier: Apache-2.0
 *
 * test_sys_groups.c: control groups: where they may be, by made-up trees; what the
 * kernel's files tell, by made-up files; and the real thing, where this test may make
 * groups. Where it may not, the reason is what is tried. Workers with groups are in
 * tests/integration/test_daemons_groups.c. */
#include "common/sys/cores.h"
#include "common/sys/groups.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

#define TOKEN "0123456789abcdef0123456789abcdef"
#define DEADLINE_MS 10000
#define GENERATIONS 1000000 /* lest a failing test leaves one for ever */

static char root[64];

static int make_root(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "/tmp/farpool-groups-XXXXXX");
    return mkdtemp(root) == NULL;
}

static int remove_root(void **state)
{
    char command[96];
    (void)state;
    snprintf(command, sizeof command, "rm -r %s", root);
    return system(command);
}

/* Writes a file below the root, with its folders. */
static void put(const char *path, const char *text)
{
    char full[256];
    snprintf(full, sizeof full, "%s%s", root, path);
    for (char *slash = strchr(full + strlen(root) + 1, '/'); slash;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(full, 0700);
        *slash = '/';
    }
    FILE *file = fopen(full, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void expect(const char *path, const char *text)
{
    char full[256], found[256];
    snprintf(full, sizeof full, "%s%s", root, path);
    FILE *file = fopen(full, "r");
    assert_non_null(file);
    found[fread(found, 1, sizeof found - 1, file)] = '\0';
    fclose(file);
    assert_string_equal(found, text);
}

static int open_group(const char *path)
{
    char full[256];
    snprintf(full, sizeof full, "%s%s", root, path);
    int group = open(full, O_RDONLY | O_DIRECTORY);
    assert_true(group >= 0);
    return group;
}

/* --------------------------------------------------------------- where they may be */

static void expect_own(const char *folder)
{
    char found[GROUPS_PATH];
    const bool is = cgroup_find_own(root, found, sizeof found);
    assert_int_equal(is, folder != NULL);
    if (folder != NULL)
        assert_string_equal(found + strlen(root), folder);
}

static void the_own_group_is_found(void **state)
{
    (void)state;
    expect_own(NULL);
    put("/proc/self/cgroup", "4:memory:/x\n0::/system.slice/a.service\n");
    put("/proc/self/mountinfo", "22 1 0:2 / / rw - ext4 /dev/sda rw\n");
    expect_own(NULL);
    put("/proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
    expect_own("/sys/fs/cgroup/system.slice/a.service");
    put("/proc/self/cgroup", "0::/\n");
    expect_own("/sys/fs/cgroup");
    put("/proc/self/cgroup", "4:memory:/x\n");
    expect_own(NULL);
}

static void a_container_shows_a_part(void **state)
{
    (void)state;
    put("/proc/self/mountinfo",
        "30 23 0:26 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
    put("/proc/self/cgroup", "0::/docker/abc/inner\n");
    expect_own("/sys/fs/cgroup/inner");
    put("/proc/self/cgroup", "0::/docker/def\n");
    expect_own(NULL);
    put("/proc/self/cgroup", "0::/docker/abc/../..\n");
    expect_own(NULL);
    char little[20];
    put("/proc/self/cgroup", "0::/docker/abc\n");
    assert_false(cgroup_find_own(root, little, sizeof little));
}

static void systemd_lends_only_what_it_delegates(void **state)
{
    char path[128], why[1280] = "";
    (void)state;
    assert_true(groups_may_use("/sys/fs/cgroup", why, sizeof why));
    assert_true(groups_may_use("/sys/fs/cgroup/a.service/own", why, sizeof why));
    assert_string_equal(why, "");
    snprintf(path, sizeof path, "%s/user@1.service", root);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s/user@1.service/shell.scope", root);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_false(groups_may_use(path, why, sizeof why));
    assert_non_null(strstr(why, "shell.scope is systemd's"));
    assert_non_null(strstr(why, "Delegate=yes"));
    if (setxattr(path, "user.delegate", "1", 1, 0) == 0)
        assert_true(groups_may_use(path, why, sizeof why));
    else
        assert_int_equal(errno, EOPNOTSUPP); /* a file system without such marks */
}

/* ------------------------------------------------------------ what files tell */

static void memory_events_tell_who_was_killed_and_why(void **state)
{
    uint64_t bytes = 7;
    (void)state;
    assert_int_equal(group_read_oom(-1, &bytes), GROUP_OOM_NONE);
    assert_int_equal(bytes, 0);
    put("/p1/other", "");
    int group = open_group("/p1");
    assert_int_equal(group_read_oom(group, &bytes), GROUP_OOM_NONE);
    put("/p1/memory.events", "low 0\nhigh 0\nmax 4\noom 2\noom_kill 0\n");
    assert_int_equal(group_read_oom(group, &bytes), GROUP_OOM_NONE);
    put("/p1/memory.events", "low 0\nhigh 0\nmax 0\noom 0\noom_kill 1\n");
    assert_int_equal(group_read_oom(group, &bytes), GROUP_OOM_SYSTEM);
    assert_int_equal(bytes, 0);
    put("/p1/memory.events", "low 0\nmax 9\noom 1\noom_kill 3\noom_group_kill 1\n");
    put("/p1/memory.peak", "1048576\n");
    assert_int_equal(group_read_oom(group, &bytes), GROUP_OOM_LIMIT);
    assert_int_equal(bytes, 1048576);
    close(group);
}

static void a_limit_is_beside_the_outputs_that_lie_there(void **state)
{
    (void)state;
    put("/p1/memory.max", "");
    put("/p1/memory.swap.max", "");
    put("/p1/memory.stat", "anon 5000\nshmem 300\nshmem_thp 9\n");
    int group = open_group("/p1");
    group_limit_memory(group, 1000);
    expect("/p1/memory.max", "1300");
    expect("/p1/memory.swap.max", "0");
    put("/p1/memory.max", "");
    put("/p1/memory.swap.max", "");
    group_limit_memory(group, UINT64_MAX);
    expect("/p1/memory.max", "max");
    expect("/p1/memory.swap.max", "max");
    close(group);
}

static void members_are_listed(void **state)
{
    int pids[3];
    (void)state;
    put("/p1/cgroup.procs", "12\n5\n99\n100\n");
    int group = open_group("/p1");
    assert_int_equal(group_list(group, pids, 3), 3);
    assert_int_equal(pids[0] + pids[1] + pids[2], 116);
    put("/p1/cgroup.procs", "");
    assert_int_equal(group_list(group, pids, 3), 0);
    close(group);
    assert_int_equal(group_list(-1, pids, 3), 0);
}

/* --------------------------------------------------------------- the real thing */

/* For long, each the parent of the next and in a session of its own. */
static _Noreturn void run_away(void)
{
    for (int i = 0; i < GENERATIONS && fork() == 0; i++)
        setsid();
    _exit(0);
}

static void start_in(const char *top, int holding)
{
    char path[GROUPS_PATH + 128];
    snprintf(path, sizeof path, "%s/p1/cgroup.procs", top);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd < 0 || write(fd, "0", 1) != 1 || write(holding, "x", 1) != 1)
            _exit(1);
        run_away();
    }
    assert_int_equal(waitpid(child, NULL, 0), child);
}

static void assert_ended(int fd)
{
    struct pollfd item = {.fd = fd, .events = POLLIN};
    char byte;
    assert_int_equal(poll(&item, 1, DEADLINE_MS), 1);
    assert_int_equal(read(fd, &byte, 1), 0);
}

static bool is_first(void *user, uint64_t number)
{
    (void)user;
    return number == 1;
}

static void use_them(struct groups *groups)
{
    char top[sizeof groups->top], path[sizeof top + 8], byte;
    int ends[2];
    memcpy(top, groups->top, sizeof top);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    int group = group_make(groups, 1), other = group_make(groups, 2);
    assert_true(group >= 0 && other >= 0);
    assert_int_equal(group_make(groups, 1), -1);
    assert_int_equal(errno, EEXIST);
    start_in(top, ends[1]);
    close(ends[1]);
    assert_int_equal(read(ends[0], &byte, 1), 1);
    snprintf(path, sizeof path, "%s/p1/in", top);
    assert_int_equal(mkdir(path, 0700), 0); /* as a program might */
    assert_int_equal(groups_sweep(groups, is_first, NULL), 0);
    assert_int_equal(faccessat(AT_FDCWD, path, F_OK, 0), 0);
    group_kill(group);
    assert_ended(ends[0]);
    close(ends[0]);
    close(group);
    close(other);
    groups_close(groups);
    assert_int_equal(access(top, F_OK), -1);
}

/* As if a worker had been killed: its lock is gone, what it made is there. */
static void leave_them(void)
{
    struct groups left, next;
    char top[sizeof left.top];
    assert_true(groups_open(TOKEN, &left));
    memcpy(top, left.top, sizeof top);
    close(group_make(&left, 3));
    assert_true(groups_open("f123456789abcdef0123456789abcdef", &next));
    assert_int_equal(access(top, F_OK), 0); /* it is locked */
    groups_close(&next);
    groups_leave(top);
    close(left.lock);
    assert_true(groups_open("f123456789abcdef0123456789abcdef", &next));
    assert_true(next.leftovers >= 1);
    assert_int_equal(access(top, F_OK), -1);
    groups_close(&next);
}

static void groups_are_made_used_and_removed(void **state)
{
    struct groups groups;
    (void)state;
    if (groups_open(TOKEN, &groups)) {
        assert_true(strstr(groups.top, "/farpool-worker-" TOKEN) != NULL);
        assert_true(groups.memory == (groups.why[0] == '\0'));
        use_them(&groups);
        leave_them();
    } else {
        assert_string_not_equal(groups.why, "");
        assert_string_equal(groups.top, "");
        assert_int_equal(group_make(&groups, 1), -1);
        assert_int_equal(groups_sweep(&groups, is_first, NULL), 0);
        groups_close(&groups);
    }
}

#define TREE(test) cmocka_unit_test_setup_teardown(test, make_root, remove_root)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TREE(the_own_group_is_found),
        TREE(a_container_shows_a_part),
        TREE(systemd_lends_only_what_it_delegates),
        TREE(memory_events_tell_who_was_killed_and_why),
        TREE(a_limit_is_beside_the_outputs_that_lie_there),
        TREE(members_are_listed),
        cmocka_unit_test(groups_are_made_used_and_removed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
