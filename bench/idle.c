/* SPDX-License-Identifier: Apache-2.0
 *
 * idle.c: see idle.h. The children are those of every thread, since the pool's own one
 * starts the processes; the kernel keeps each one's processor time, in nanoseconds. */
#include "idle.h"

#include <glob.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>
#include <time.h>

enum { CHILDREN_MAX = 1024 };

static const struct timespec settle = {0, 1000000}, window = {1, 0};

/* The clocks of this program and its children: how many; 0: there are no children. */
static size_t find_clocks(clockid_t clocks[CHILDREN_MAX + 1])
{
    glob_t found;
    size_t count = 0;
    int pid;

    clocks[count++] = CLOCK_PROCESS_CPUTIME_ID;
    if (glob("/proc/self/task/*/children", 0, NULL, &found) != 0)
        return 0;
    for (size_t i = 0; i < found.gl_pathc; i++) {
        FILE *file = fopen(found.gl_pathv[i], "re");
        while (file && count <= CHILDREN_MAX && fscanf(file, "%d", &pid) == 1)
            if (clock_getcpuclockid(pid, &clocks[count]) == 0)
                count++;
        if (file)
            fclose(file);
    }
    globfree(&found);
    return count > 1 ? count : 0;
}

static uint64_t used_ns(const clockid_t *clocks, size_t count)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        struct timespec used;
        if (clock_gettime(clocks[i], &used) == 0)
            sum += (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
    }
    return sum;
}

double idle_percent(void)
{
    clockid_t clocks[CHILDREN_MAX + 1];
    const size_t count = find_clocks(clocks);
    if (count == 0)
        return -1;
    nanosleep(&settle, NULL);
    const uint64_t before_ns = used_ns(clocks, count);
    nanosleep(&window, NULL);
    return 100 * (double)(used_ns(clocks, count) - before_ns) / 1e9;
}
