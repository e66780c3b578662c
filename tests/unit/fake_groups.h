/* SPDX-License-Identifier: Apache-2.0
 *
 * fake_groups.h: a kernel's cgroup v2 made of plain files, for who has none or may not
 * write there. A folder made in it has its files, one removed loses them, and writes to
 * the files do and refuse what the kernel does and refuses (Documentation/admin-guide/
 * cgroup-v2.rst): a group that passes a controller on holds no processes, a controller
 * is passed on only where it is, a group with members or groups below is not removed.
 * Each change is counted, and any of them can be refused.
 *
 * The test is linked with --wrap of what is defined as __wrap_* here. */
#ifndef FARPOOL_TESTS_FAKE_GROUPS_H
#define FARPOOL_TESTS_FAKE_GROUPS_H

#include "common/sys/cores.h"
#include "common/sys/groups.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#define FAKE_PATH 512

static char fake_root[64], fake_base[FAKE_PATH];
static bool fake_shown = true;  /* the own group can be found */
static bool fake_kills = true;  /* groups have cgroup.kill */
static bool fake_clones = true; /* clone3 is there */
static unsigned fake_changes;   /* asked for */
static unsigned fake_refused;   /* this one is refused, from 1; 0: none */
static int fake_error;
static char fake_last[FAKE_PATH]; /* what was refused */

int __real_mkdir(const char *path, mode_t mode);
int __real_mkdirat(int folder, const char *name, mode_t mode);
int __real_rmdir(const char *path);
int __real_unlinkat(int folder, const char *name, int flags);
ssize_t __real_write(int fd, const void *data, size_t size);
int __wrap_mkdir(const char *path, mode_t mode);
int __wrap_mkdirat(int folder, const char *name, mode_t mode);
int __wrap_rmdir(const char *path);
int __wrap_unlinkat(int folder, const char *name, int flags);
ssize_t __wrap_write(int fd, const void *data, size_t size);
long __wrap_syscall(long number, ...);
bool __wrap_cgroup_find_own(const char *root, char *ret_folder, size_t size);

/* ---------------------------------------------------------------------------- files */

static inline void fake_path(char *path, const char *group, const char *name)
{
    assert_true(snprintf(path, FAKE_PATH, "%s/%s", group, name) < FAKE_PATH);
}

static inline void fake_put(const char *group, const char *name, const char *text)
{
    char path[FAKE_PATH];
    fake_path(path, group, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

/* "" also where there is none. */
static inline const char *fake_get(const char *group, const char *name)
{
    static char text[256];
    char path[FAKE_PATH];
    fake_path(path, group, name);
    FILE *file = fopen(path, "r");
    text[file != NULL ? fread(text, 1, sizeof text - 1, file) : 0] = '\0';
    if (file != NULL)
        fclose(file);
    return text;
}

static inline bool fake_is_there(const char *group, const char *name)
{
    char path[FAKE_PATH];
    fake_path(path, group, name);
    return access(path, F_OK) == 0;
}

static inline void fake_drop(const char *group, const char *name)
{
    char path[FAKE_PATH];
    fake_path(path, group, name);
    unlink(path);
}

static inline bool fake_passes_memory(const char *group)
{
    return strstr(fake_get(group, "cgroup.subtree_control"), "memory") != NULL;
}

/* --------------------------------------------------------------------- what it does */

static const char *const fake_plain[] = {"cgroup.procs", "cgroup.controllers",
                                         "cgroup.subtree_control", "cgroup.kill",
                                         "cgroup.type"};
static const char *const fake_memory[] = {
    "memory.max", "memory.swap.max", "memory.oom.group", "memory.events", "memory.stat"};

static inline void fake_give_memory(const char *group)
{
    fake_put(group, "cgroup.controllers", "memory\n");
    fake_put(group, "memory.max", "max\n");
    fake_put(group, "memory.swap.max", "max\n");
    fake_put(group, "memory.oom.group", "0\n");
    fake_put(group, "memory.events", "low 0\nmax 0\noom 0\noom_kill 0\n");
    fake_put(group, "memory.stat", "anon 0\nshmem 0\n");
}

static inline void fake_take_memory(const char *group)
{
    for (size_t i = 0; i < sizeof fake_memory / sizeof *fake_memory; i++)
        fake_drop(group, fake_memory[i]);
    fake_put(group, "cgroup.controllers", "\n");
}

static inline void fake_parent(const char *group, char *parent)
{
    snprintf(parent, FAKE_PATH, "%s", group);
    *strrchr(parent, '/') = '\0';
}

static inline void fake_fill(const char *group)
{
    char parent[FAKE_PATH];
    fake_parent(group, parent);
    const bool memory = fake_passes_memory(parent);
    fake_put(group, "cgroup.procs", "");
    fake_put(group, "cgroup.type", "domain\n");
    fake_put(group, "cgroup.controllers", "\n");
    fake_put(group, "cgroup.subtree_control", "");
    if (fake_kills)
        fake_put(group, "cgroup.kill", "");
    if (memory)
        fake_give_memory(group);
}

/* Calls for each group below. */
static inline unsigned fake_each(const char *group, void (*call)(const char *group))
{
    DIR *folder = opendir(group);
    const struct dirent *entry;
    unsigned count = 0;
    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        char path[FAKE_PATH];
        if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
            continue;
        fake_path(path, group, entry->d_name);
        count++;
        if (call != NULL)
            call(path);
    }
    if (folder != NULL)
        closedir(folder);
    return count;
}

static inline int fake_fail(int number)
{
    errno = number;
    return -1;
}

static inline int fake_remove(const char *group)
{
    if (fake_get(group, "cgroup.procs")[0] != '\0' || fake_each(group, NULL) > 0)
        return fake_fail(EBUSY);
    fake_take_memory(group);
    for (size_t i = 0; i < sizeof fake_plain / sizeof *fake_plain; i++)
        fake_drop(group, fake_plain[i]);
    return __real_rmdir(group);
}

/* This process is in one group. */
static inline void fake_leave(const char *group)
{
    char own[32];
    snprintf(own, sizeof own, "%d\n", (int)getpid());
    if (strcmp(fake_get(group, "cgroup.procs"), own) == 0)
        fake_put(group, "cgroup.procs", "");
    fake_each(group, fake_leave);
}

static inline int fake_enter(const char *group)
{
    char own[32];
    if (fake_passes_memory(group))
        return fake_fail(EBUSY);
    fake_leave(fake_base);
    snprintf(own, sizeof own, "%d\n", (int)getpid());
    fake_put(group, "cgroup.procs", own);
    return 0;
}

static inline int fake_pass_on(const char *group)
{
    if (strstr(fake_get(group, "cgroup.controllers"), "memory") == NULL)
        return fake_fail(ENOENT);
    if (fake_is_there(group, "cgroup.type") && fake_get(group, "cgroup.procs")[0] != '\0')
        return fake_fail(EBUSY);
    fake_put(group, "cgroup.subtree_control", "memory\n");
    fake_each(group, fake_give_memory);
    return 0;
}

static bool fake_below; /* some group below passes it on */

static inline void fake_look(const char *group)
{
    fake_below |= fake_passes_memory(group);
}

static inline int fake_keep_back(const char *group)
{
    fake_below = false;
    fake_each(group, fake_look);
    if (fake_below)
        return fake_fail(EBUSY);
    fake_put(group, "cgroup.subtree_control", "");
    fake_each(group, fake_take_memory);
    return 0;
}

static inline void fake_kill(const char *group)
{
    fake_put(group, "cgroup.procs", "");
    fake_each(group, fake_kill);
}

static inline int fake_write(const char *group, const char *name, const char *text)
{
    if (strcmp(name, "cgroup.procs") == 0)
        return strcmp(text, "0") == 0 ? fake_enter(group) : fake_fail(EINVAL);
    if (strcmp(name, "cgroup.subtree_control") == 0)
        return strcmp(text, "+memory") == 0 ? fake_pass_on(group) : fake_keep_back(group);
    if (strcmp(name, "cgroup.kill") == 0)
        fake_kill(group);
    else
        fake_put(group, name, text);
    return 0;
}

/* ---------------------------------------------------------------------- what asks it */

static inline bool fake_is_ours(const char *path)
{
    return strncmp(path, fake_root, strlen(fake_root)) == 0 && fake_root[0] != '\0';
}

/* Whether this change is the one that is refused. */
static inline bool fake_refuses(const char *what)
{
    if (++fake_changes != fake_refused)
        return false;
    snprintf(fake_last, sizeof fake_last, "%s", what);
    errno = fake_error;
    return true;
}

/* The path of a descriptor, or of a name in it. */
static inline void fake_find(int folder, const char *name, char *path)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    ssize_t length = readlink(link, path, FAKE_PATH - 1);
    path[length > 0 ? length : 0] = '\0';
    if (name != NULL)
        snprintf(path + strlen(path), FAKE_PATH - strlen(path), "/%s", name);
}

int __wrap_mkdir(const char *path, mode_t mode)
{
    if (fake_is_ours(path) && fake_refuses(path))
        return -1;
    const int result = __real_mkdir(path, mode);
    if (result == 0 && fake_is_ours(path))
        fake_fill(path);
    return result;
}

int __wrap_mkdirat(int folder, const char *name, mode_t mode)
{
    char path[FAKE_PATH];
    fake_find(folder, name, path);
    return __wrap_mkdir(path, mode);
}

int __wrap_rmdir(const char *path)
{
    if (!fake_is_ours(path))
        return __real_rmdir(path);
    return access(path, F_OK) == 0 ? fake_remove(path) : -1;
}

int __wrap_unlinkat(int folder, const char *name, int flags)
{
    char path[FAKE_PATH];
    if ((flags & AT_REMOVEDIR) == 0)
        return __real_unlinkat(folder, name, flags);
    fake_find(folder, name, path);
    return __wrap_rmdir(path);
}

ssize_t __wrap_write(int fd, const void *data, size_t size)
{
    char path[FAKE_PATH], text[64];
    fake_find(fd, NULL, path);
    if (!fake_is_ours(path))
        return __real_write(fd, data, size);
    if (fake_refuses(path))
        return -1;
    snprintf(text, sizeof text, "%.*s", (int)size, (const char *)data);
    char *slash = strrchr(path, '/');
    *slash = '\0';
    return fake_write(path, slash + 1, text) == 0 ? (ssize_t)size : -1;
}

/* Only clone3 is asked for by number, and only whether it is there. */
long __wrap_syscall(long number, ...)
{
    assert_int_equal(number, SYS_clone3);
    errno = fake_clones ? EINVAL : ENOSYS;
    return -1;
}

bool __wrap_cgroup_find_own(const char *root, char *ret_folder, size_t size)
{
    assert_string_equal(root, "");
    return fake_shown && snprintf(ret_folder, size, "%s", fake_base) > 0;
}

/* ------------------------------------------------------------------------- its life */

/* This process is alone in a group which memory could be passed on in. */
static int fake_make(void **state)
{
    (void)state;
    snprintf(fake_root, sizeof fake_root, "/tmp/farpool-fake-XXXXXX");
    if (mkdtemp(fake_root) == NULL)
        return -1;
    fake_path(fake_base, fake_root, "own");
    fake_put(fake_root, "cgroup.subtree_control", "cpu memory\n");
    fake_shown = fake_kills = fake_clones = true;
    fake_refused = 0;
    const bool made = __wrap_mkdir(fake_base, 0700) == 0 && fake_enter(fake_base) == 0;
    fake_changes = 0;
    return made ? 0 : -1;
}

static int fake_end(void **state)
{
    char command[96];
    (void)state;
    snprintf(command, sizeof command, "rm -r %s", fake_root);
    fake_root[0] = '\0';
    return system(command);
}

#endif
