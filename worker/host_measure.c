/* SPDX-License-Identifier: Apache-2.0
 *
 * host_measure.c: how much a task has used: CPU time and memory of its process and of all
 * below that, as /proc tells it. What an earlier task left running counts too. Memory is
 * what they have for themselves, in RAM or swap: not files, nor what they share. Where
 * the kernel does not list children, the process alone is measured. */
#include "worker/host_internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

/* Fields 14 to 17 behind the name: its own and its reaped children's, in ticks. */
static uint64_t read_cpu_ms(int pid)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    const char *at = read_file(path, text, sizeof text) ? strrchr(text, ')') : NULL;
    for (int field = 2; at != NULL && field < 14; field++) {
        at = strchr(at, ' ');
        at += at != NULL;
    }
    uint64_t ticks = 0;
    char *end;
    for (int i = 0; at != NULL && i < 4; i++, at = end)
        ticks += strtoull(at, &end, 10);
    return ticks * 1000 / (uint64_t)sysconf(_SC_CLK_TCK);
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
    for (size_t i = 0; i < family.count; i++) {
        add_children(&family, family.pids[i]);
        *ret_cpu_ms += read_cpu_ms(family.pids[i]);
        *ret_memory_bytes += read_memory(family.pids[i]);
    }
}
