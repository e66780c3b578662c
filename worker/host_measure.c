/* SPDX-License-Identifier: Apache-2.0
 *
 * host_measure.c: how much a task has used: CPU time and memory of its process and of all
 * below that, or of all in its control group if it has one. What an earlier task left
 * running counts too. Memory is what they have for themselves, in RAM or swap: not files,
 * nor what they share. Where the kernel does not list children, the process alone is
 * measured. The group's own counters (cpu.stat, memory.current) would not do: they begin
 * with the group, and also count what is shared. */
#include "worker/host_internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PROCESSES_MAX 1024 /* of one task; more are not counted */

struct family {
    int pids[PROCESSES_MAX];
    size_t count;
};

/* A file of /proc, whole as far as there is room; false: it is not there. */
static bool read_file(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, text, size - 1) : -1;
    if (fd >= 0)
        close(fd);
    text[got > 0 ? got : 0] = '\0';
    return got > 0;
}

static void add_children(struct family *family, int pid)
{
    char path[64], text[8192];
    const struct dirent *entry;
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *folder = opendir(path);
    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        char name[sizeof path + sizeof "//children" + sizeof entry->d_name];
        char *end;
        snprintf(name, sizeof name, "%s/%s/children", path, entry->d_name);
        if (entry->d_name[0] == '.' || !read_file(name, text, sizeof text))
            continue;
        const char *at = text;
        for (long child; (child = strtol(at, &end, 10)) > 0; at = end)
            if (family->count < PROCESSES_MAX)
                family->pids[family->count++] = (int)child;
    }
    if (folder != NULL)
        closedir(folder);
}

/* Fields 16 and 17 behind the name: of the children that it has waited for, in ticks. */
static uint64_t read_waited_ms(int pid)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    const char *at = read_file(path, text, sizeof text) ? strrchr(text, ')') : NULL;
    for (int field = 2; at != NULL && field < 16; field++) {
        at = strchr(at, ' ');
        at += at != NULL;
    }
    uint64_t ticks = 0;
    char *end;
    for (int i = 0; at != NULL && i < 2; i++, at = end)
        ticks += strtoull(at, &end, 10);
    return ticks * 1000 / (uint64_t)sysconf(_SC_CLK_TCK);
}

/* Its own CPU time, of which the clock knows more than ticks. */
static uint64_t read_own_ms(int pid)
{
    clockid_t clock;
    struct timespec used;
    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &used) != 0)
        return 0; /* it has ended */
    return (uint64_t)used.tv_sec * 1000 + (uint64_t)used.tv_nsec / 1000000;
}

static uint64_t read_bytes(const char *status, const char *name)
{
    const char *at = strstr(status, name);
    return at != NULL ? strtoull(at + strlen(name), NULL, 10) * 1024 : 0;
}

static uint64_t read_memory(int pid)
{
    char path[64], text[8192];
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    if (!read_file(path, text, sizeof text))
        return 0;
    return read_bytes(text, "\nRssAnon:") + read_bytes(text, "\nVmSwap:");
}

void host_measure(const struct host_process *process, uint64_t *ret_cpu_ms,
                  uint64_t *ret_memory_bytes)
{
    struct family family = {.pids = {(int)process->pid}, .count = 1};
    *ret_cpu_ms = *ret_memory_bytes = 0;
    const size_t listed =
        process->group >= 0 ? group_list(process->group, family.pids, PROCESSES_MAX) : 0;
    if (listed > 0)
        family.count = listed;
    for (size_t i = 0; i < family.count; i++) {
        if (listed == 0)
            add_children(&family, family.pids[i]);
        *ret_cpu_ms += read_own_ms(family.pids[i]) + read_waited_ms(family.pids[i]);
        *ret_memory_bytes += read_memory(family.pids[i]);
    }
}
