/* SPDX-License-Identifier: Apache-2.0
 *
 * groups.h: control groups (cgroup v2) for the processes of a worker, one each: so that
 * a process can be ended with all that it started, at once and however fast that forks,
 * and so that the kernel can hold it to a limit of memory. docs/environment.md, "Groups".
 *
 *     BASE/                        the group that this process was started in
 *         farpool-worker-TOKEN/    made here; locked (flock) as long as this process
 * lives self/                this process, if it had to leave BASE (see memory) pN/
 * process N and what it started
 *
 * Nothing else below BASE is touched but what killed workers left: folders of such a name
 * that nobody holds locked. */
#ifndef FARPOOL_SYS_GROUPS_H
#define FARPOOL_SYS_GROUPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GROUPS_PATH 1024
#define GROUPS_TOKEN 32 /* letters: hex digits of chance */

struct groups {
    char base[GROUPS_PATH];
    char top[GROUPS_PATH + 64]; /* "": there are none; why tells the reason */
    int lock;
    bool memory;    /* pN can be limited; else why tells the reason */
    bool moved;     /* this process is in self/ */
    char why[1280]; /* "": nothing is amiss */
    uint32_t leftovers;
};

#define GROUPS_NONE ((struct groups){.lock = -1})

/* Makes the group of this process, for others to be made in. false: no groups may be made
 * here, and groups->why says why; groups_close does nothing then. */
bool groups_open(const char *token, struct groups *groups);
/* Kills what is in them, and removes them; waits for that, a second at most. */
void groups_close(struct groups *groups);

/* Removes the groups that is_alive does not know, having killed who is in them. How many
 * could not be removed yet. */
uint32_t groups_sweep(const struct groups *groups,
                      bool (*is_alive)(void *user, uint64_t number), void *user);

/* For who comes after a process that was killed: kills who is in the groups that it made
 * in `top`, and removes all of it. false: something is still there. */
bool groups_clear(const char *top);
/* ... who was started by it, and with it is in self/: back to the base. */
void groups_leave(const char *top);

/* One process's group: a folder's descriptor, or -1 with errno set. */
int group_make(const struct groups *groups, uint64_t number);
/* SIGKILL for all in it, at once. -1 is allowed. */
void group_kill(int group);
/* Who is in it; how many, at most max. */
size_t group_list(int group, int *ret_pids, size_t max);
/* How much memory they may have together, beside the shared memory that they have
 * already; UINT64_MAX: no limit. */
void group_limit_memory(int group, uint64_t bytes);

enum group_oom {
    GROUP_OOM_NONE,
    GROUP_OOM_LIMIT,  /* killed by the kernel, for want of memory under their own limit */
    GROUP_OOM_SYSTEM, /* ... or for the machine's, the container's, or another's sake */
};
/* Whether the kernel's out-of-memory killer has been in it; *ret_bytes: what they had at
 * most, 0: not known. Without memory control: GROUP_OOM_NONE. */
enum group_oom group_read_oom(int group, uint64_t *ret_bytes);

/* How many processes the kernel's out-of-memory killer has ended on this machine, in
 * whatever group; 0: not known. */
uint64_t groups_oom_kills(void);

/* What the rules above are made of, for tests. */
bool groups_may_use(const char *base, char *why, size_t size);

#endif
