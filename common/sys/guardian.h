/* SPDX-License-Identifier: Apache-2.0
 *
 * guardian.h: a process that outlives the one that runs pools' processes, if only for a
 * moment: when that one is killed, it kills what remains of them. */
#ifndef FARPOOL_SYS_GUARDIAN_H
#define FARPOOL_SYS_GUARDIAN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct guardian {
    pid_t pid;    /* 0: there is none */
    int pidfd;    /* readable when it has ended; -1: none */
    int farewell; /* -1: none */
};

#define GUARDIAN_NONE ((struct guardian){.pidfd = -1, .farewell = -1})

/* Starts one, of this process's own executable, whose main must call guardian_serve
 * first. It is a child in a session of its own. groups: the folder of this process's
 * groups (struct groups, top), "": none. 0 or an errno number. */
int guardian_start(const char *token, const char *groups, struct guardian *ret_guardian);

/* Tells it that nothing remains, waits for its end and reaps it. */
void guardian_end(struct guardian *guardian);

/* It has ended by itself: reaps it, and forgets it. */
void guardian_bury(struct guardian *guardian);

/* In a process that guardian_start started this does not return; elsewhere it does
 * nothing. */
void guardian_serve(void);

#endif
