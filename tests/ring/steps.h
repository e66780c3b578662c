/* SPDX-License-Identifier: Apache-2.0
 *
 * steps.h: a process made to go on instruction by instruction. Between two of them the
 * memory it shares is what a SIGKILL there would leave. */
#ifndef FARPOOL_TESTS_RING_STEPS_H
#define FARPOOL_TESTS_RING_STEPS_H

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/wait.h>

/* Stops a process and takes hold of it; false: this machine does not allow it. */
static inline bool steps_seize(pid_t pid)
{
    int status;
    if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) != 0)
        return false;
    if (ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) != 0)
        return false;
    return waitpid(pid, &status, __WALL) == pid && WIFSTOPPED(status);
}

/* One instruction (or one system call); false: it has ended, or cannot. */
static inline bool steps_one(pid_t pid)
{
    int status;
    if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) != 0)
        return false;
    while (waitpid(pid, &status, __WALL) != pid)
        if (errno != EINTR)
            return false;
    return WIFSTOPPED(status);
}

static inline void steps_release(pid_t pid)
{
    ptrace(PTRACE_DETACH, pid, NULL, NULL);
}

#endif
