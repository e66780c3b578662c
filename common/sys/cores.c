/* SPDX-License-Identifier: Apache-2.0
 *
 * cores.c: how many cores and how much memory this process may use: affinity, and the
 * quotas of the cgroup it is in and of those above it, v1 and v2, also both mounted at
 * once. A container sees its own cgroup as the mount's root; then the path in
 * /proc/self/cgroup may lead outside of the mount, and the mount's root is looked at.
 * What cannot be read, or makes no sense, limits nothing. */
#include "common/sys/cores.h"
#include "common/sys/affinity.h"
#include "common/sys/sys.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATH_SIZE 4096

/* Reads a small file whole; "" when it cannot be read. */
static bool read_text(const char *root, const char *path, char *text, size_t size)
{
    char full[3 * PATH_SIZE + 128];
    snprintf(full, sizeof full, "%s%s", root, path);
    text[0] = '\0';
    FILE *file = fopen(full, "re");
    if (file == NULL)
        return false;
    size_t n = fread(text, 1, size - 1, file);
    text[n] = '\0';
    fclose(file);
    return n > 0;
}

static bool read_number(const char *root, const char *folder, const char *name,
                        long long *ret_value)
{
    char path[2 * PATH_SIZE + 64], text[64], *end;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (!read_text(root, path, text, sizeof text))
        return false;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (end == text || errno != 0)
        return false;
    *ret_value = value;
    return true;
}

static void limit_cores(struct cgroup_limits *limits, long long quota, long long period)
{
    if (quota <= 0 || period <= 0)
        return;
    long long cores = quota / period + (quota % period != 0);
    if (cores < (long long)limits->cores)
        limits->cores = (uint32_t)cores;
}

static void limit_memory(struct cgroup_limits *limits, long long bytes)
{
    if (bytes > 0 && (uint64_t)bytes < limits->memory_bytes)
        limits->memory_bytes = (uint64_t)bytes;
}

static void read_v2_folder(const char *root, const char *folder,
                           struct cgroup_limits *limits)
{
    char path[2 * PATH_SIZE + 64], text[128];
    snprintf(path, sizeof path, "%s/cpu.max", folder);
    long long quota, period, bytes;
    if (read_text(root, path, text, sizeof text) &&
        sscanf(text, "%lld %lld", &quota, &period) == 2)
        limit_cores(limits, quota, period);
    if (read_number(root, folder, "memory.max", &bytes)) /* "max" is no number */
        limit_memory(limits, bytes);
}

static void read_v1_folder(const char *root, const char *folder,
                           struct cgroup_limits *limits)
{
    long long quota, period, bytes;
    if (read_number(root, folder, "cpu.cfs_quota_us", &quota) &&
        read_number(root, folder, "cpu.cfs_period_us", &period))
        limit_cores(limits, quota, period);
    if (read_number(root, folder, "memory.limit_in_bytes", &bytes))
        limit_memory(limits, bytes);
}

/* The mount of a hierarchy: where it is, and which of its cgroups is its root. */
struct mount {
    char point[PATH_SIZE];
    char root[PATH_SIZE];
};

static bool option_listed(const char *options, const char *wanted)
{
    size_t length = strlen(wanted);
    for (const char *at = options; (at = strstr(at, wanted)) != NULL; at += length) {
        bool begins = at == options || at[-1] == ',';
        char after = at[length];
        if (begins && (after == '\0' || after == ',' || after == '\n' || after == ' '))
            return true;
    }
    return false;
}

/* One line of mountinfo: "36 35 98:0 /root /point options [tags] - type source super". */
static bool parse_mount(const char *line, const char *controller, struct mount *ret_mount)
{
    const char *tail = strstr(line, " - ");
    char type[32], super[1024];
    if (tail == NULL || sscanf(tail, " - %31s %*s %1023s", type, super) != 2)
        return false;
    bool v2 = controller[0] == '\0';
    if (strcmp(type, v2 ? "cgroup2" : "cgroup") != 0)
        return false;
    if (!v2 && !option_listed(super, controller))
        return false;
    return sscanf(line, "%*s %*s %*s %4095s %4095s", ret_mount->root, ret_mount->point) ==
           2;
}

/* controller "": the v2 hierarchy. */
static bool find_mount(const char *root, const char *controller, struct mount *ret_mount)
{
    char path[PATH_SIZE + 32], *line = NULL;
    snprintf(path, sizeof path, "%s/proc/self/mountinfo", root);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    size_t capacity = 0;
    bool found = false;
    while (!found && getline(&line, &capacity, file) > 0)
        found = parse_mount(line, controller, ret_mount);
    free(line);
    fclose(file);
    return found;
}

/* From the process's own cgroup up to the mount's root. */
static void walk(const char *root, const struct mount *mount, const char *cgroup, bool v2,
                 struct cgroup_limits *limits)
{
    size_t skip = strcmp(mount->root, "/") == 0 ? 0 : strlen(mount->root);
    bool below = strncmp(cgroup, mount->root, skip) == 0 && strstr(cgroup, "..") == NULL;
    char folder[2 * PATH_SIZE];
    snprintf(folder, sizeof folder, "%s%s", mount->point, below ? cgroup + skip : "");
    size_t top = strlen(mount->point);
    for (;;) {
        if (v2)
            read_v2_folder(root, folder, limits);
        else
            read_v1_folder(root, folder, limits);
        char *slash = strrchr(folder, '/');
        if (strlen(folder) <= top || slash == NULL)
            return;
        *slash = '\0';
    }
}

/* One line of /proc/self/cgroup: "4:cpu,cpuacct:/path" or "0::/path". */
static void read_hierarchy(const char *root, char *line, struct cgroup_limits *limits)
{
    char *controllers = strchr(line, ':');
    char *cgroup = controllers == NULL ? NULL : strchr(controllers + 1, ':');
    if (cgroup == NULL)
        return;
    *cgroup++ = '\0';
    controllers++;
    cgroup[strcspn(cgroup, "\n")] = '\0';
    struct mount mount;
    static const char *const wanted[] = {"cpu", "memory"};
    if (controllers[0] == '\0') {
        if (find_mount(root, "", &mount))
            walk(root, &mount, cgroup, true, limits);
        return;
    }
    for (size_t i = 0; i < 2; i++) {
        if (option_listed(controllers, wanted[i]) && find_mount(root, wanted[i], &mount))
            walk(root, &mount, cgroup, false, limits);
    }
}

void cgroup_read_limits(const char *root, struct cgroup_limits *ret_limits)
{
    ret_limits->cores = UINT32_MAX;
    ret_limits->memory_bytes = UINT64_MAX;
    char path[PATH_SIZE + 32], *line = NULL;
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return;
    size_t capacity = 0;
    while (getline(&line, &capacity, file) > 0)
        read_hierarchy(root, line, ret_limits);
    free(line);
    fclose(file);
}

bool cgroup_find_own(const char *root, char *ret_folder, size_t size)
{
    char text[2 * PATH_SIZE];
    struct mount mount;
    const char *path = NULL;
    if (!read_text(root, "/proc/self/cgroup", text, sizeof text) ||
        !find_mount(root, "", &mount))
        return false;
    for (char *at = text, *line; path == NULL && (line = strsep(&at, "\n")) != NULL;)
        path = strncmp(line, "0::/", 4) == 0 ? line + 3 : NULL;
    if (path == NULL || strstr(path, "..") != NULL)
        return false;
    const size_t skip = strcmp(mount.root, "/") == 0 ? 0 : strlen(mount.root);
    if (strncmp(path, mount.root, skip) != 0)
        return false; /* the mount shows another part of the hierarchy */
    path += skip;
    const int length = snprintf(ret_folder, size, "%s%s%s", root, mount.point,
                                strcmp(path, "/") == 0 ? "" : path);
    return length > 0 && (size_t)length < size;
}

void sys_room(uint32_t *ret_cores, uint64_t *ret_memory_bytes)
{
    struct cgroup_limits limits;
    cgroup_read_limits("", &limits);
    const uint32_t cores = affinity_count();
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    const uint64_t memory = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : 0;
    *ret_cores = limits.cores < cores ? limits.cores : cores;
    *ret_memory_bytes = limits.memory_bytes < memory ? limits.memory_bytes : memory;
}

uint32_t sys_cores(void)
{
    uint32_t cores;
    uint64_t memory_bytes;
    sys_room(&cores, &memory_bytes);
    return cores;
}

uint64_t sys_memory_bytes(void)
{
    uint32_t cores;
    uint64_t memory_bytes;
    sys_room(&cores, &memory_bytes);
    return memory_bytes;
}
