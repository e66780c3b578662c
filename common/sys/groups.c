/* SPDX-License-Identifier: Apache-2.0
 *
 * groups.c: making, using and removing control groups; groups.h tells where they are.
 *
 * Memory can be limited only where BASE passes that controller on, and a group that does
 * may hold no processes itself. So where BASE could pass it on and holds nobody but this
 * process, it goes into self/ and switches that on; where others are in BASE, nothing is
 * changed for them, and there is no memory control. Whatever fails here leaves things as
 * they were: groups are a help, and nothing depends on them. */
#include "common/sys/groups.h"
#include "common/sys/cores.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#define NAME "farpool-worker-"
#define SELF "self"
#define TRIES 10
#define REMOVE_MS 1000
#define DEPTH 8 /* of groups that a program made in its own */

/* ------------------------------------------------------------------------- files */

static bool write_file(int folder, const char *name, const char *text)
{
    int fd = openat(folder, name, O_WRONLY | O_CLOEXEC);
    const bool written =
        fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    const int number = errno;
    if (fd >= 0)
        close(fd);
    errno = number;
    return written;
}

static bool read_file(int folder, const char *name, char *text, size_t size)
{
    int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);
    const ssize_t got = fd >= 0 ? read(fd, text, size - 1) : -1;
    if (fd >= 0)
        close(fd);
    text[got > 0 ? got : 0] = '\0';
    return got >= 0;
}

/* The number behind a name in lines of "NAME NUMBER"; 0: it is not there. */
static uint64_t read_count(const char *text, const char *name)
{
    const size_t length = strlen(name);
    for (const char *at = text; at != NULL; at = strchr(at, '\n')) {
        at += *at == '\n';
        if (strncmp(at, name, length) == 0 && at[length] == ' ')
            return strtoull(at + length, NULL, 10);
    }
    return 0;
}

static int open_folder_at(int folder, const char *name)
{
    return openat(folder, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
}

static int open_folder(const char *path)
{
    return open_folder_at(AT_FDCWD, path);
}

static bool lists(int folder, const char *name, const char *word)
{
    char text[1024], *at = text, *one;
    if (!read_file(folder, name, text, sizeof text))
        return false;
    while ((one = strsep(&at, " \n")) != NULL)
        if (strcmp(one, word) == 0)
            return true;
    return false;
}

__attribute__((format(printf, 2, 3))) static bool refuse(struct groups *groups,
                                                         const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(groups->why, sizeof groups->why, format, arguments);
    va_end(arguments);
    return false;
}

/* ------------------------------------------------------------- whose BASE is */

static bool has_suffix(const char *name)
{
    static const char *const suffixes[] = {".service", ".scope",  ".slice",
                                           ".mount",   ".socket", ".swap"};
    const size_t length = strlen(name);
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        const size_t end = strlen(suffixes[i]);
        if (length > end && strcmp(name + length - end, suffixes[i]) == 0)
            return true;
    }
    return false;
}

/* systemd marks what it has delegated; before version 251 so that only root sees it, but
 * then the folder of another user's service is that user's for no other reason. */
static bool is_delegated(const char *base)
{
    char mark[8];
    struct stat status;
    if (getxattr(base, "user.delegate", mark, sizeof mark) == 1 && mark[0] == '1')
        return true;
    if (getxattr(base, "trusted.delegate", mark, sizeof mark) == 1 && mark[0] == '1')
        return true;
    return geteuid() != 0 && strstr(base, "/user@") == NULL && stat(base, &status) == 0 &&
           status.st_uid == geteuid();
}

bool groups_may_use(const char *base, char *why, size_t size)
{
    const char *slash = strrchr(base, '/');
    if (slash == NULL || !has_suffix(slash + 1) || is_delegated(base))
        return true;
    snprintf(why, size,
             "the group %.900s is systemd's: a unit with Delegate=yes may have groups of "
             "its own",
             base);
    return false;
}

/* ------------------------------------------------------------- removing groups */

static bool is_number(const char *name)
{
    return name[0] == 'p' && name[1] != '\0' &&
           strspn(name + 1, "0123456789") == strlen(name + 1);
}

/* Removes the groups below this one, whose members are dead; a program may have made some
 * of its own. The caller's descriptor is used up. */
static void remove_below(int group, int depth)
{
    DIR *folder = fdopendir(group);
    const struct dirent *entry;
    if (folder == NULL) {
        close(group);
        return;
    }
    while ((entry = readdir(folder)) != NULL) {
        if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
            continue;
        int inner = depth > 0 ? open_folder_at(group, entry->d_name) : -1;
        if (inner >= 0)
            remove_below(inner, depth - 1);
        unlinkat(group, entry->d_name, AT_REMOVEDIR);
    }
    closedir(folder);
}

/* false: it is still there. */
static bool remove_group(int top, const char *name)
{
    int group = open_folder_at(top, name);
    if (group < 0)
        return errno == ENOENT;
    group_kill(group);
    remove_below(group, DEPTH);
    return unlinkat(top, name, AT_REMOVEDIR) == 0 || errno == ENOENT;
}

static uint32_t remove_groups(const char *top,
                              bool (*is_alive)(void *user, uint64_t number), void *user)
{
    DIR *folder = opendir(top);
    const struct dirent *entry;
    uint32_t left = 0;
    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        if (!is_number(entry->d_name) ||
            (is_alive != NULL && is_alive(user, strtoull(entry->d_name + 1, NULL, 10))))
            continue;
        left += !remove_group(dirfd(folder), entry->d_name);
    }
    if (folder != NULL)
        closedir(folder);
    return left;
}

uint32_t groups_sweep(const struct groups *groups,
                      bool (*is_alive)(void *user, uint64_t number), void *user)
{
    return groups->top[0] != '\0' ? remove_groups(groups->top, is_alive, user) : 0;
}

/* Back from self/ to the base, which must pass on nothing before. */
static void move_back(const char *top)
{
    char path[GROUPS_PATH + 64];
    snprintf(path, sizeof path, "%s", top);
    char *slash = strrchr(path, '/');
    int folder = open_folder(top);
    if (folder >= 0) {
        write_file(folder, "cgroup.subtree_control", "-memory");
        close(folder);
    }
    if (slash == NULL)
        return;
    *slash = '\0';
    if ((folder = open_folder(path)) < 0)
        return;
    write_file(folder, "cgroup.subtree_control", "-memory");
    write_file(folder, "cgroup.procs", "0");
    close(folder);
}

void groups_leave(const char *top)
{
    int folder = open_folder(top);
    if (folder >= 0 && faccessat(folder, SELF, F_OK, 0) == 0)
        move_back(top);
    if (folder >= 0)
        close(folder);
}

bool groups_clear(const char *top)
{
    int folder = open_folder(top);
    if (folder < 0)
        return errno == ENOENT;
    const uint32_t left = remove_groups(top, NULL, NULL);
    if (left == 0)
        unlinkat(folder, SELF, AT_REMOVEDIR);
    close(folder);
    return left == 0 && (rmdir(top) == 0 || errno == ENOENT);
}

static void clear_within(const char *top)
{
    for (int waited_ms = 0; !groups_clear(top) && waited_ms < REMOVE_MS; waited_ms += 5)
        poll(NULL, 0, 5);
}

static bool is_top(const char *name)
{
    return strncmp(name, NAME, sizeof NAME - 1) == 0 &&
           strlen(name) == sizeof NAME - 1 + GROUPS_TOKEN &&
           strspn(name + sizeof NAME - 1, "0123456789abcdef") == GROUPS_TOKEN;
}

/* What killed workers left. */
static void remove_leftovers(struct groups *groups)
{
    DIR *folder = opendir(groups->base);
    const struct dirent *entry;
    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        char path[sizeof groups->base + sizeof entry->d_name + 1];
        if (!is_top(entry->d_name))
            continue;
        snprintf(path, sizeof path, "%s/%s", groups->base, entry->d_name);
        int lock = open_folder(path);
        if (lock < 0)
            continue;
        if (flock(lock, LOCK_EX | LOCK_NB) == 0) {
            clear_within(path);
            groups->leftovers++;
        }
        close(lock);
    }
    if (folder != NULL)
        closedir(folder);
}

/* -------------------------------------------------------------- making groups */

/* Another worker that starts may take it for a leftover until it is locked. */
static bool make_top(struct groups *groups)
{
    for (int i = 0; i < TRIES; i++) {
        struct stat by_path, by_lock;
        if (mkdir(groups->top, 0755) != 0 && errno != EEXIST)
            return false;
        groups->lock = open_folder(groups->top);
        if (groups->lock >= 0 && flock(groups->lock, LOCK_EX | LOCK_NB) == 0 &&
            fstat(groups->lock, &by_lock) == 0 && stat(groups->top, &by_path) == 0 &&
            by_lock.st_ino == by_path.st_ino)
            return true;
        if (groups->lock >= 0)
            close(groups->lock);
        groups->lock = -1;
        poll(NULL, 0, 1);
    }
    errno = EBUSY;
    return false;
}

static bool is_alone(int base)
{
    char text[4096], *end;
    if (!read_file(base, "cgroup.procs", text, sizeof text))
        return false;
    return strtol(text, &end, 10) == getpid() && (*end == '\0' || strcmp(end, "\n") == 0);
}

/* Into self/, and has the base pass memory on. */
static bool free_base(struct groups *groups, int base)
{
    if (mkdirat(groups->lock, SELF, 0755) != 0 ||
        !write_file(groups->lock, SELF "/cgroup.procs", "0")) {
        refuse(groups, "cannot go into %.900s/" SELF ": %s", groups->top,
               strerror(errno));
        unlinkat(groups->lock, SELF, AT_REMOVEDIR);
        return false;
    }
    groups->moved = true;
    if (write_file(base, "cgroup.subtree_control", "+memory"))
        return true;
    refuse(groups, "cannot have %.900s pass the memory controller on: %s", groups->base,
           strerror(errno));
    move_back(groups->top);
    unlinkat(groups->lock, SELF, AT_REMOVEDIR);
    groups->moved = false;
    return false;
}

static bool open_memory(struct groups *groups, int base)
{
    if (!lists(base, "cgroup.controllers", "memory"))
        return refuse(groups, "%.900s has no memory controller", groups->base);
    if (!lists(base, "cgroup.subtree_control", "memory")) {
        if (faccessat(base, "cgroup.type", F_OK, 0) != 0)
            return refuse(groups,
                          "the root group does not pass the memory controller on");
        if (!is_alone(base))
            return refuse(
                groups,
                "other processes are in %.900s: the worker must be alone in the "
                "group that it is started in",
                groups->base);
        if (!free_base(groups, base))
            return false;
    }
    return write_file(groups->lock, "cgroup.subtree_control", "+memory") ||
           refuse(groups, "cannot pass the memory controller on in %.900s: %s",
                  groups->top, strerror(errno));
}

bool groups_open(const char *token, struct groups *groups)
{
    *groups = GROUPS_NONE;
    if (!cgroup_find_own("", groups->base, sizeof groups->base))
        return refuse(groups, "no cgroup v2 is mounted that shows this process's group");
    if (!groups_may_use(groups->base, groups->why, sizeof groups->why))
        return false;
    if (syscall(SYS_clone3, NULL, 0) != -1 || errno == ENOSYS || errno == EPERM)
        return refuse(groups, "clone3 is not allowed here");
    int base = open_folder(groups->base);
    if (base < 0 || faccessat(base, "cgroup.procs", W_OK, AT_EACCESS) != 0) {
        refuse(groups, "%.900s: %s", groups->base, strerror(errno));
        if (base >= 0)
            close(base);
        return false;
    }
    remove_leftovers(groups);
    snprintf(groups->top, sizeof groups->top, "%s/" NAME "%s", groups->base, token);
    if (!make_top(groups)) {
        refuse(groups, "cannot make %.900s: %s", groups->top, strerror(errno));
        groups->top[0] = '\0';
    } else if (faccessat(groups->lock, "cgroup.kill", W_OK, AT_EACCESS) != 0) {
        rmdir(groups->top);
        refuse(groups, "this kernel has no cgroup.kill: it came with Linux 5.14");
        groups->top[0] = '\0';
    } else {
        groups->memory = open_memory(groups, base);
    }
    close(base);
    return groups->top[0] != '\0';
}

void groups_close(struct groups *groups)
{
    if (groups->top[0] != '\0') {
        for (int waited_ms = 0;
             remove_groups(groups->top, NULL, NULL) > 0 && waited_ms < REMOVE_MS;
             waited_ms += 5)
            poll(NULL, 0, 5);
        if (groups->moved)
            move_back(groups->top);
        groups_clear(groups->top);
    }
    if (groups->lock >= 0)
        close(groups->lock);
    *groups = GROUPS_NONE;
}

/* ------------------------------------------------------------------- one group */

int group_make(const struct groups *groups, uint64_t number)
{
    char name[32];
    if (groups->lock < 0) {
        errno = ENOENT;
        return -1;
    }
    snprintf(name, sizeof name, "p%llu", (unsigned long long)number);
    if (mkdirat(groups->lock, name, 0755) != 0)
        return -1;
    int group = open_folder_at(groups->lock, name);
    if (group < 0) {
        unlinkat(groups->lock, name, AT_REMOVEDIR);
        return -1;
    }
    if (groups->memory)
        write_file(group, "memory.oom.group", "1");
    return group;
}

void group_kill(int group)
{
    if (group >= 0)
        write_file(group, "cgroup.kill", "1");
}

size_t group_list(int group, int *ret_pids, size_t max)
{
    size_t count = 0;
    int pid, fd = openat(group, "cgroup.procs", O_RDONLY | O_CLOEXEC);
    FILE *file = fd >= 0 ? fdopen(fd, "r") : NULL;
    if (file == NULL && fd >= 0)
        close(fd);
    while (file != NULL && count < max && fscanf(file, "%d", &pid) == 1)
        ret_pids[count++] = pid;
    if (file != NULL)
        fclose(file);
    return count;
}

void group_limit_memory(int group, uint64_t bytes)
{
    char text[4096], number[32] = "max";
    const bool limited = bytes != UINT64_MAX;
    if (limited) {
        uint64_t shared = 0; /* outputs of earlier tasks, kept for their reader */
        if (read_file(group, "memory.stat", text, sizeof text))
            shared = read_count(text, "shmem");
        snprintf(number, sizeof number, "%" PRIu64, bytes + shared);
    }
    write_file(group, "memory.max", number);
    write_file(group, "memory.swap.max", limited ? "0" : "max");
}

enum group_oom group_read_oom(int group, uint64_t *ret_bytes)
{
    char text[1024];
    *ret_bytes = 0;
    if (group < 0 || !read_file(group, "memory.events", text, sizeof text) ||
        read_count(text, "oom_kill") == 0)
        return GROUP_OOM_NONE;
    const bool own = read_count(text, "oom") > 0;
    /* memory.peak came with Linux 5.19. */
    if (read_file(group, "memory.peak", text, sizeof text) && text[0] != '\0')
        *ret_bytes = strtoull(text, NULL, 10);
    return own ? GROUP_OOM_LIMIT : GROUP_OOM_SYSTEM;
}

uint64_t groups_oom_kills(void)
{
    char text[32768];
    return read_file(AT_FDCWD, "/proc/vmstat", text, sizeof text)
               ? read_count(text, "oom_kill")
               : 0;
}
