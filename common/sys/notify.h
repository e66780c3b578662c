/* SPDX-License-Identifier: Apache-2.0
 *
 * notify.h: what a daemon tells the service manager that started it (sd_notify(3)), and
 * the watchdog that the manager may want. Without one, all of this does nothing. */
#ifndef FARPOOL_SYS_NOTIFY_H
#define FARPOOL_SYS_NOTIFY_H

#include "farpool.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/un.h>

#define NOTIFY_STATUS_MAX 200

/* Its user reads nothing in it. */
struct notify {
    int fd; /* -1: nobody is told */
    struct sockaddr_un address;
    uint32_t address_size;
    unsigned pending;             /* what was not yet taken, bits of notify.c */
    uint64_t retry_ms;            /* 0: none of it was refused */
    uint64_t watchdog_ms, due_ms; /* WATCHDOG=1 that often; 0: never */
    char status[NOTIFY_STATUS_MAX];
};

/* Takes NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID out of the environment, so that no
 * child takes itself for the service: to be called before threads and children are
 * started. EINVAL names what is wrong in them, ESYSTEM says that there is no socket;
 * *ret_notify can be used all the same, and does nothing then. */
int notify_open(struct notify *ret_notify, uint64_t now_ms, farpool_error *error);
void notify_close(struct notify *notify);

/* Noted, and sent by the next notify_turn. A status is cut to NOTIFY_STATUS_MAX - 1
 * bytes, and sent only when it differs from the last. */
void notify_ready(struct notify *notify);
void notify_stopping(struct notify *notify);
void notify_status(struct notify *notify, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Once in each turn of the daemon's working loop, and at notify_deadline at the latest:
 * so a loop that hangs is one that the manager no longer hears of. Never waits; what the
 * manager does not take at once is sent again a second later. */
void notify_turn(struct notify *notify, uint64_t now_ms);
uint64_t notify_deadline(const struct notify *notify); /* UINT64_MAX: none */

#endif
