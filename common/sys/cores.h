/* SPDX-License-Identifier: Apache-2.0
 *
 * cores.h: what the cgroups allow this process, read below a root folder of the caller's,
 * so that tests can build one. Shells call sys_cores and sys_memory_bytes of sys.h. */
#ifndef FARPOOL_SYS_CORES_H
#define FARPOOL_SYS_CORES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cgroup_limits {
    uint32_t cores;        /* CPU quota in cores, rounded up; UINT32_MAX: none */
    uint64_t memory_bytes; /* UINT64_MAX: none */
};

/* Reads ROOT/proc/self/cgroup and mountinfo and the files they lead to (mount points are
 * taken to lie below ROOT too). "" is the real system. What cannot be read limits
 * nothing. */
void cgroup_read_limits(const char *root, struct cgroup_limits *ret_limits);

/* The folder of the group that this process is in, in the v2 hierarchy. false: there is
 * no such hierarchy, or what is mounted of it does not show the group, or its name is
 * longer than fits. */
bool cgroup_find_own(const char *root, char *ret_folder, size_t size);

#endif
