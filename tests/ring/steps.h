/* SPDX-License-Identifier: Apache-2.0
 *
 * steps.h: a process made to go on instruction by instruction. Between two of them the
 * memory it shares is what a SIGKILL there would leave. */
#ifndef FARPOOL_TESTS_RING_STEPS_H
#define FARPOOL_TESTS_RING_STEPS_H

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/wait.h>

/* Whether this build's code is several times as long, and its processes slow to start. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STEPS_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define STEPS_SANITIZED 1
#endif
#endif
#ifndef STEPS_SANITIZED
#define STEPS_SANITIZED 0
#endif

/* From one kill to the next: FARPOOL_RING_STRIDE instructions, 1 being the full form;
 * else so many that it takes `kills` to go through all of them. */
static inline int steps_stride(int instructions, int kills)
{
    const char *text = getenv("FARPOOL_RING_STRIDE");
    const int given = text != NULL ? atoi(text) : 1 + instructions / kills;
    if (given > 0)
        return given;
    fprintf(stderr, "FARPOOL_RING_STRIDE is '%s', but wants a number from 1 on\n", text);
    exit(2);
}

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
