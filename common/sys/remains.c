/* SPDX-License-Identifier: Apache-2.0
 *
 * remains.c: finding what ended processes left behind, and killing it.
 *
 * By three marks, of which one is enough: a number in its environment, inherited by
 * whatever a process starts; a parent that remains itself; and, for a reaper, being its
 * child, as every orphan becomes. Nobody is named by a number that may be another's by
 * now: each is held by a pidfd before it is looked at. A group is killed whole, which no
 * fork outruns, unless somebody in it is to be spared, or leads it and does not remain.
 * Each look may find what was started during the one before; it ends when nothing new is
 * found, and else the caller comes back soon. */
#include "common/sys/remains.h"
#include "common/base/mem.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOOKS_MAX 16
#define CHUNK_BYTES 16384

struct found {
    int pid, parent, group;
    bool ended;  /* a zombie: dead, and nobody's parent */
    bool spared; /* the caller, what it owns, or what bears a living one's number */
    bool remains;
};

struct look {
    struct found *all;
    size_t count, capacity;
};

static int open_of(int pid, const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    return open(path, O_RDONLY | O_CLOEXEC);
}

/* "PID (NAME) STATE PARENT GROUP ..."; a name may hold anything. */
static bool read_stat(int pid, struct found *ret_found)
{
    char text[512];
    int fd = open_of(pid, "stat");
    ssize_t got = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    if (fd >= 0)
        close(fd);
    if (got <= 0)
        return false;
    text[got] = '\0';
    const char *at = strrchr(text, ')');
    if (at == NULL || strlen(at) < 4)
        return false;
    char *end;
    struct found found = {.pid = pid, .ended = strchr("ZXx", at[2]) != NULL};
    found.parent = (int)strtol(at + 3, &end, 10);
    found.group = (int)strtol(end, NULL, 10);
    *ret_found = found;
    return true;
}

/* The number behind the token in a process's environment; false: it has none, or is
 * another user's. What it started may bear several, the last one being of the innermost
 * pool: a token is there once. */
static bool read_number(int pid, const char *token, uint64_t *ret_number)
{
    char text[CHUNK_BYTES + 1];
    size_t kept = 0;
    bool found = false;
    int fd = open_of(pid, "environ");
    for (ssize_t got; fd >= 0 && !found;) {
        got = read(fd, text + kept, CHUNK_BYTES - kept);
        if (got <= 0)
            break;
        const size_t filled = kept + (size_t)got;
        text[filled] = '\0';
        const char *at = memmem(text, filled, token, REMAINS_TOKEN);
        /* The number, of 20 digits at most, has to be whole. */
        if (at != NULL && at + REMAINS_TOKEN + 24 <= text + CHUNK_BYTES) {
            *ret_number = strtoull(at + REMAINS_TOKEN + 1, NULL, 10);
            found = at[REMAINS_TOKEN] == '-';
        }
        kept = filled < REMAINS_TOKEN + 24 ? filled : REMAINS_TOKEN + 24;
        memmove(text, text + filled - kept, kept);
    }
    if (fd >= 0)
        close(fd);
    return found;
}

static void judge(const struct remains_query *query, struct found *found)
{
    uint64_t number;
    const int own = (int)getpid();
    if (found->ended)
        return;
    found->spared = found->pid == own || found->pid == 1 ||
                    (query->is_owned != NULL && query->is_owned(query->user, found->pid));
    if (found->spared)
        return;
    if (read_number(found->pid, query->token, &number)) {
        found->spared = query->is_alive != NULL && query->is_alive(query->user, number);
        found->remains = !found->spared;
    } else {
        found->remains = query->reaper && found->parent == own;
    }
}

static struct found *find(const struct look *look, int pid)
{
    size_t first = 0, end = look->count;
    while (first < end) { /* they are in order: see by_pid */
        const size_t middle = first + (end - first) / 2;
        if (look->all[middle].pid == pid)
            return &look->all[middle];
        if (look->all[middle].pid < pid)
            first = middle + 1;
        else
            end = middle;
    }
    return NULL;
}

static int by_pid(const void *a, const void *b)
{
    const struct found *x = a, *y = b;
    return (x->pid > y->pid) - (x->pid < y->pid);
}

/* What is below one that remains does too. */
static void inherit(struct look *look)
{
    bool again = true;
    while (again) {
        again = false;
        for (size_t i = 0; i < look->count; i++) {
            struct found *found = &look->all[i];
            const struct found *parent = find(look, found->parent);
            if (!found->remains && !found->spared && !found->ended && parent != NULL &&
                parent->remains)
                found->remains = again = true;
        }
    }
}

static bool take_look(const struct remains_query *query, struct look *look)
{
    const struct dirent *entry;
    DIR *folder = opendir("/proc");
    bool whole = folder != NULL;
    look->count = 0;
    while (whole && (entry = readdir(folder)) != NULL) {
        const int pid = entry->d_name[0] >= '1' && entry->d_name[0] <= '9'
                            ? (int)strtol(entry->d_name, NULL, 10)
                            : 0;
        struct found found;
        if (pid == 0 || !read_stat(pid, &found))
            continue;
        judge(query, &found);
        whole =
            mem_reserve(&look->all, &look->capacity, look->count + 1, sizeof *look->all);
        if (whole)
            look->all[look->count++] = found;
    }
    if (folder != NULL)
        closedir(folder);
    if (look->count > 0)
        qsort(look->all, look->count, sizeof *look->all, by_pid);
    inherit(look);
    return whole;
}

static bool group_remains(const struct look *look, int group)
{
    const struct found *leader = find(look, group);
    for (size_t i = 0; i < look->count; i++)
        if (look->all[i].group == group && look->all[i].spared)
            return false;
    return group > 1 && (leader == NULL || leader->ended || leader->remains);
}

/* Whether a dead child of the caller still has the group's number, so that it is nobody
 * else's: of a chain whose members end faster than they are looked at, who is dead waits
 * to be reaped by the caller. */
static bool is_pinned(const struct look *look, int group)
{
    struct found now;
    for (size_t i = 0; i < look->count; i++)
        if (look->all[i].group == group && look->all[i].ended &&
            read_stat(look->all[i].pid, &now) && now.ended && now.group == group &&
            now.parent == (int)getpid())
            return true;
    return false;
}

/* Held by a pidfd, and found to be the same as it was, so that no other is hit. */
static void kill_one(const struct look *look, const struct found *found)
{
    struct found now;
    int pidfd = (int)syscall(SYS_pidfd_open, found->pid, 0);
    const bool same =
        pidfd >= 0 && read_stat(found->pid, &now) && now.group == found->group;
    if ((same || is_pinned(look, found->group)) && group_remains(look, found->group))
        kill(-found->group, SIGKILL);
    if (same)
        syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
    if (pidfd >= 0)
        close(pidfd);
}

/* Kills those that the look before did not see; how many remain, and how many are new. */
static uint32_t kill_all(const struct look *look, const struct look *before,
                         uint32_t *ret_new)
{
    uint32_t count = 0, fresh = 0;
    for (size_t i = 0; i < look->count; i++) {
        const struct found *found = &look->all[i], *seen;
        if (!found->remains)
            continue;
        seen = find(before, found->pid);
        fresh += seen == NULL || !seen->remains;
        count++;
        kill_one(look, found);
    }
    *ret_new = fresh;
    return count;
}

uint32_t remains_kill(const struct remains_query *query)
{
    struct look looks[2] = {{0}, {0}};
    uint32_t total = 0, fresh = 1;
    for (int i = 0; i < LOOKS_MAX && fresh > 0; i++) {
        struct look *look = &looks[i % 2];
        if (!take_look(query, look)) {
            total += total == 0;
            break;
        }
        const uint32_t count = kill_all(look, &looks[(i + 1) % 2], &fresh);
        if (total < count)
            total = count;
    }
    mem_free(looks[0].all);
    mem_free(looks[1].all);
    return total;
}

static bool has_foreign(const char *text, bool (*is_owned)(void *user, int pid),
                        void *user)
{
    char *end;
    for (long pid; (pid = strtol(text, &end, 10)) > 0; text = end)
        if (!is_owned(user, (int)pid))
            return true;
    return false;
}

bool remains_has_children(bool (*is_owned)(void *user, int pid), void *user)
{
    const struct dirent *entry;
    DIR *folder = opendir("/proc/self/task");
    bool any = folder == NULL;
    while (!any && (entry = readdir(folder)) != NULL) {
        char path[sizeof "/proc/self/task//children" + sizeof entry->d_name];
        char text[65536];
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/children", entry->d_name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t got = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
        if (fd >= 0)
            close(fd);
        /* A list that did not fit, or cannot be read, may hold anything. */
        any = got < 0 || got == sizeof text - 1;
        text[any ? 0 : got] = '\0';
        any = any || has_foreign(text, is_owned, user);
    }
    if (folder != NULL)
        closedir(folder);
    return any;
}
