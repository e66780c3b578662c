/* SPDX-License-Identifier: Apache-2.0
 *
 * host_group.c: the control group of a process: making it, its limit of memory, and what
 * it tells of the kernel's out-of-memory killer. A group lives as long as its process;
 * what is left of it goes with what that left (host_remains.c). */
#include "worker/host_internal.h"

#include <signal.h>
#include <stdio.h>

const struct groups *host_groups(const struct host *host)
{
    return &host->groups;
}

void host_group_make(const struct host *host, struct host_process *process)
{
    process->group = group_make(&host->groups, process->number);
    process->memory_max = UINT64_MAX;
}

/* The most that one of its tasks may have: the kernel knows the process, and which task
 * it is in is its own to say. What is below that is found by measuring. */
static uint64_t memory_allowed(const struct host_process *process)
{
    const struct give *give = TAILQ_FIRST(&process->gives);
    uint64_t bytes = 0;
    for (; give != NULL; give = TAILQ_NEXT(give, link)) {
        if (give->memory_bytes == 0)
            return UINT64_MAX;
        if (bytes < give->memory_bytes)
            bytes = give->memory_bytes;
    }
    return bytes > 0 ? bytes : process->memory_max; /* idle: as it is */
}

void host_group_limit(const struct host *host, struct host_process *process)
{
    if (process->group < 0 || !host->groups.memory)
        return;
    const uint64_t bytes = memory_allowed(process);
    if (bytes == process->memory_max)
        return;
    process->memory_max = bytes;
    group_limit_memory(process->group, bytes);
}

static void say_system(const struct host_process *process, bool certain, char *text,
                       size_t size)
{
    if (certain)
        snprintf(
            text, size,
            "process %d was killed by the kernel's out-of-memory killer: this node, or "
            "the container or unit of its worker, had no memory left",
            (int)process->pid);
    else
        snprintf(text, size,
                 "process %d was ended by signal 9 (Killed), while the kernel's "
                 "out-of-memory killer ended a process on this node",
                 (int)process->pid);
}

/* Without memory control it is only known that some process was killed so. */
void host_group_blame(struct host *host, struct host_process *process,
                      struct worker_event *gone)
{
    if (gone->signal != SIGKILL || process->killed || process->code != 0)
        return;
    const enum group_oom oom = group_read_oom(process->group, &gone->memory_bytes);
    const uint64_t kills = groups_oom_kills();
    const bool other = kills > host->oom_kills;
    host->oom_kills = kills;
    gone->over_memory = oom == GROUP_OOM_LIMIT && process->memory_max != UINT64_MAX;
    if (gone->over_memory && gone->memory_bytes < process->memory_max)
        gone->memory_bytes = process->memory_max; /* the peak is not known before 5.19 */
    if (gone->over_memory || process->state == PROCESS_STARTING)
        return;
    if (oom != GROUP_OOM_NONE || (other && !host->groups.memory))
        say_system(process, oom != GROUP_OOM_NONE, process->text, sizeof process->text);
}
