/* SPDX-License-Identifier: Apache-2.0
 *
 * remains.h: what ended processes left behind: finding it and killing it, whatever it did
 * meanwhile (docs/shared-memory.md, "Remains"). */
#ifndef FARPOOL_SYS_REMAINS_H
#define FARPOOL_SYS_REMAINS_H

#include <stdbool.h>
#include <stdint.h>

/* In the environment of a process and of what it starts: "OUTER:TOKEN-NUMBER". */
#define REMAINS_VARIABLE "FARPOOL_MARK"
#define REMAINS_TOKEN 32 /* letters of a token: hex digits of chance, one a host */

struct remains_query {
    const char *token;
    /* Whether what bears this number is to be left alone: its process is alive. NULL:
     * none is. */
    bool (*is_alive)(void *user, uint64_t number);
    /* Whether it is the caller's own to end. NULL: none is. */
    bool (*is_owned)(void *user, int pid);
    void *user;
    /* The caller is the reaper of all that may be left (PR_SET_CHILD_SUBREAPER), and of
     * nothing else: a child that bears no such number remains too. */
    bool reaper;
};

/* Kills what remains, and all below it, by SIGKILL; does not wait for its end, and reaps
 * nothing. Returns how many were alive, 0: none remains; when there was no memory or
 * /proc to look, 1. */
uint32_t remains_kill(const struct remains_query *query);

/* Whether this process has a child that is not is_owned: cheap where the kernel lists
 * children, else true. */
bool remains_has_children(bool (*is_owned)(void *user, int pid), void *user);

#endif
