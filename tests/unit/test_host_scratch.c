/* SPDX-License-Identifier: Apache-2.0
 *
 * test_host_scratch.c: scratch folders without processes: what is removed and what never
 * is, folders of dead and of living workers, roots that are refused. */
#include "worker/host_scratch.h"

#include "common/sys/sys.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE_MS 20000
#define FILES 5000
#define DEPTH 2000

static char base[64], root[80], outside[80];

static int set_up(void **state)
{
    char path[160];
    (void)state;
    snprintf(base, sizeof base, "/tmp/farpool-scratch-XXXXXX");
    if (mkdtemp(base) == NULL)
        return -1;
    snprintf(root, sizeof root, "%s/root", base);
    snprintf(outside, sizeof outside, "%s/outside", base);
    snprintf(path, sizeof path, "%s/kept", outside);
    return mkdir(outside, 0700) != 0 || close(creat(path, 0600)) != 0;
}

static int tear_down(void **state)
{
    char command[192];
    (void)state;
    snprintf(command, sizeof command, "chmod -R u+rwx %s; rm -rf %s", base, base);
    return system(command);
}

static struct scratch *open_scratch(void)
{
    struct scratch *scratch = NULL;
    farpool_error error;
    if (scratch_open(root, &scratch, &error) != 0)
        fail_msg("%s", error.text);
    return scratch;
}

static bool exists(const char *path)
{
    struct stat status;
    return lstat(path, &status) == 0;
}

/* Names in a folder, without itself and its parent. */
static int count_names(const char *path)
{
    int count = 0;
    DIR *listing = opendir(path);
    assert_non_null(listing);
    while (readdir(listing) != NULL)
        count++;
    closedir(listing);
    return count - 2;
}

static void expect_outside_whole(void)
{
    char path[160];
    snprintf(path, sizeof path, "%s/kept", outside);
    assert_true(exists(path));
}

static void make_file(const char *folder, const char *name)
{
    char path[SCRATCH_PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0600);
    assert_true(fd >= 0);
    close(fd);
}

/* ------------------------------------------------------------------------- removal */

static void a_folder_has_links_and_goes(void **state)
{
    char path[SCRATCH_PATH_MAX], link[SCRATCH_PATH_MAX + 16], target[256] = "";
    struct stat status;
    farpool_error error;
    struct scratch *scratch = open_scratch();
    (void)state;
    make_file(outside, ".farpool-7-unfinished");
    char *names = scratch_list(outside, &error);
    assert_non_null(names);
    assert_memory_equal(names, "kept\0", 6);
    assert_int_equal(scratch_make(scratch, 17, outside, names, path), 0);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0700);
    snprintf(link, sizeof link, "%s/kept", path);
    assert_true(readlink(link, target, sizeof target - 1) > 0);
    assert_memory_equal(target, outside, strlen(outside));
    assert_int_equal(scratch_make(scratch, 17, outside, names, path), EEXIST);
    scratch_remove(scratch, 17, names);
    assert_false(exists(path));
    assert_false(scratch->running); /* nothing was left for the remover */
    free(names);
    assert_null(scratch_list("/nowhere/at/all", &error));
    assert_int_equal(error.code, FARPOOL_ESYSTEM);
    expect_outside_whole();
    scratch_close(scratch);
    assert_int_equal(count_names(root), 1); /* its lock */
}

/* Deeper than any path may be long, and than there may be open files. */
static void make_deep(const char *path)
{
    int folder = open(path, O_RDONLY | O_DIRECTORY);
    for (int i = 0; i < DEPTH; i++) {
        assert_int_equal(mkdirat(folder, "one-more-folder", 0700), 0);
        int inner = openat(folder, "one-more-folder", O_RDONLY | O_DIRECTORY);
        assert_true(inner >= 0);
        close(folder);
        folder = inner;
    }
    close(folder);
}

static void thousands_of_files_go(void **state)
{
    char path[SCRATCH_PATH_MAX], name[32];
    struct scratch *scratch = open_scratch();
    (void)state;
    assert_int_equal(scratch_make(scratch, 1, NULL, NULL, path), 0);
    for (int i = 0; i < FILES; i++) {
        snprintf(name, sizeof name, "file-%d", i);
        make_file(path, name);
    }
    make_deep(path);
    scratch_remove(scratch, 1, NULL);
    assert_false(exists(path));
    assert_int_equal(scratch_make(scratch, 2, NULL, NULL, path), 0);
    make_file(path, "another");
    scratch_remove(scratch, 2, NULL);
    const uint64_t until_ms = sys_now_ms() + PATIENCE_MS;
    while (count_names(scratch->path) > 1 && sys_now_ms() < until_ms)
        sched_yield();
    assert_int_equal(count_names(scratch->path), 1);
    scratch_close(scratch);
    assert_int_equal(count_names(root), 1);
}

static void links_are_never_followed(void **state)
{
    char path[SCRATCH_PATH_MAX], link[SCRATCH_PATH_MAX + 16];
    struct scratch *scratch = open_scratch();
    (void)state;
    assert_int_equal(scratch_make(scratch, 1, NULL, NULL, path), 0);
    snprintf(link, sizeof link, "%s/out", path);
    assert_int_equal(symlink(outside, link), 0);
    snprintf(link, sizeof link, "%s/up", path);
    assert_int_equal(symlink("../../..", link), 0);
    scratch_remove(scratch, 1, NULL);

    /* The folder itself was replaced, even by one that has the names of its links. */
    assert_int_equal(scratch_make(scratch, 2, NULL, NULL, path), 0);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(symlink(outside, path), 0);
    scratch_remove(scratch, 2, "kept\0");
    scratch_close(scratch);
    expect_outside_whole();
    assert_int_equal(count_names(root), 1);
}

/* In a process that is not root's, where rights count. 0, or the line that failed. */
static int remove_without_rights(void)
{
    char path[SCRATCH_PATH_MAX], inner[SCRATCH_PATH_MAX + 16];
    struct scratch *scratch = NULL;
    if (geteuid() == 0 && setresuid(65534, 65534, 65534) != 0)
        return __LINE__ % 256;
    snprintf(base, sizeof base, "/tmp/farpool-scratch-XXXXXX");
    if (mkdtemp(base) == NULL || scratch_open(base, &scratch, NULL) != 0 ||
        scratch_make(scratch, 1, NULL, NULL, path) != 0)
        return __LINE__ % 256;
    snprintf(inner, sizeof inner, "%s/inner", path);
    if (mkdir(inner, 0700) != 0)
        return __LINE__ % 256;
    make_file(inner, "file");
    if (chmod(inner, 0) != 0 || chmod(path, 0500) != 0)
        return __LINE__ % 256;
    scratch_remove(scratch, 1, NULL);
    scratch_close(scratch);
    if (count_names(base) != 1)
        return __LINE__ % 256;
    snprintf(inner, sizeof inner, "%s/lock", base);
    return unlink(inner) == 0 && rmdir(base) == 0 ? 0 : __LINE__ % 256;
}

static int run_apart(int (*body)(void))
{
    int status = -1;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(body());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void folders_without_rights_go(void **state)
{
    (void)state;
    assert_int_equal(run_apart(remove_without_rights), 0);
}

/* ------------------------------------------------------------------- other workers */

static int die_with_folders(void)
{
    char path[SCRATCH_PATH_MAX];
    struct scratch *scratch = open_scratch();
    for (uint64_t i = 1; i <= 3; i++) {
        scratch_make(scratch, i, outside, "kept\0", path);
        make_file(path, "left");
    }
    raise(SIGKILL);
    return 1;
}

static void a_dead_worker_is_cleaned_up_after(void **state)
{
    (void)state;
    struct scratch *living = open_scratch();
    assert_int_equal(run_apart(die_with_folders), SIGKILL);
    assert_int_equal(run_apart(die_with_folders), SIGKILL);
    /* Until now a worker's start has cleaned up after the first of them. */
    assert_int_equal(count_names(root), 3);
    struct scratch *next = open_scratch();
    assert_int_equal(living->leftovers, 0);
    assert_int_equal(next->leftovers, 1);
    assert_true(exists(living->path));
    assert_int_equal(count_names(root), 3);
    scratch_close(next);
    assert_true(exists(living->path));
    scratch_close(living);
    assert_int_equal(count_names(root), 1);
    expect_outside_whole();
}

static void what_is_none_of_ours_stays(void **state)
{
    char path[160];
    (void)state;
    assert_int_equal(mkdir(root, 0700), 0);
    make_file(root, "worker-abcdef");
    snprintf(path, sizeof path, "%s/worker-ghijkl", root);
    assert_int_equal(mkdir(path, 0700), 0);
    make_file(path, "precious");
    snprintf(path, sizeof path, "%s/worker-empty1", root);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s/worker-linked", root);
    assert_int_equal(symlink(outside, path), 0);
    struct scratch *scratch = open_scratch();
    assert_int_equal(scratch->leftovers, 0);
    scratch_close(scratch);
    assert_int_equal(count_names(root), 4); /* the file, the full folder, link, lock */
    expect_outside_whole();
}

/* --------------------------------------------------------------------------- roots */

static void expect_refused(const char *path, const char *text)
{
    struct scratch *scratch = NULL;
    farpool_error error = {0};
    assert_int_equal(scratch_open(path, &scratch, &error), FARPOOL_ESYSTEM);
    assert_null(scratch);
    if (strstr(error.text, text) == NULL)
        fail_msg("%s: %s", path, error.text);
}

static void bad_roots_are_named(void **state)
{
    char path[160], *long_path = malloc(5000);
    (void)state;
    memset(long_path, 'x', 4999);
    long_path[4999] = '\0';
    expect_refused(long_path, "a path of 1 to");
    expect_refused("", "a path of 1 to");
    free(long_path);
    expect_refused("/proc/nowhere/scratch", "/proc/nowhere");
    snprintf(path, sizeof path, "%s/kept", outside);
    expect_refused(path, "kept: Not a directory");
    snprintf(path, sizeof path, "%s/link", base);
    assert_int_equal(symlink(outside, path), 0);
    expect_refused(path, "link: ");
    assert_int_equal(chmod(outside, 0770), 0);
    expect_refused(outside, "writable by nobody else");
    expect_outside_whole();
}

int main(void)
{
#define SCRATCH_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(a_folder_has_links_and_goes),
        SCRATCH_TEST(thousands_of_files_go),
        SCRATCH_TEST(links_are_never_followed),
        cmocka_unit_test(folders_without_rights_go),
        SCRATCH_TEST(a_dead_worker_is_cleaned_up_after),
        SCRATCH_TEST(what_is_none_of_ours_stays),
        SCRATCH_TEST(bad_roots_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
