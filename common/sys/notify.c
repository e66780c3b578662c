/* SPDX-License-Identifier: Apache-2.0
 *
 * notify.c: sd_notify(3) in the few lines that it takes, so that no daemon links
 * libsystemd. What is to be told is kept as bits until a datagram with all of it was
 * taken: a manager that is busy or being replaced misses nothing. */
#include "common/sys/notify.h"
#include "common/base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define RETRY_MS 1000

enum { READY = 1, STOPPING = 2, STATUS = 4, WATCHDOG = 8 };

/* A path, or "@" and a name in Linux's abstract space. */
static int set_address(struct notify *notify, const char *text, farpool_error *error)
{
    size_t length = strlen(text), room = sizeof notify->address.sun_path - 1;
    if ((text[0] != '/' && text[0] != '@') || length < 2)
        return error_set(error, FARPOOL_EINVAL,
                         "NOTIFY_SOCKET is \"%s\", and neither an absolute path nor "
                         "@ and a name",
                         text);
    if (length > room)
        return error_set(error, FARPOOL_EINVAL,
                         "NOTIFY_SOCKET is of %zu bytes, and at most %zu fit", length,
                         room);
    notify->address.sun_family = AF_UNIX;
    memcpy(notify->address.sun_path, text, length + 1);
    notify->address_size =
        (uint32_t)(offsetof(struct sockaddr_un, sun_path) + length + (text[0] == '/'));
    if (text[0] == '@')
        notify->address.sun_path[0] = '\0';
    return 0;
}

static bool read_number(const char *text, unsigned long long *ret_number)
{
    char *end;
    errno = 0;
    *ret_number = strtoull(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0;
}

/* Half of what the manager waits for, as sd_watchdog_enabled(3) advises. */
static int set_watchdog(struct notify *notify, uint64_t now_ms, farpool_error *error)
{
    const char *text = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    unsigned long long usec, wanted = 0;
    if (text == NULL)
        return 0;
    if (pid != NULL && !read_number(pid, &wanted))
        return error_set(error, FARPOOL_EINVAL, "WATCHDOG_PID is \"%s\", and no pid",
                         pid);
    if (pid != NULL && wanted != (unsigned long long)getpid())
        return 0; /* it is about another process */
    if (!read_number(text, &usec) || usec < 2000)
        return error_set(error, FARPOOL_EINVAL,
                         "WATCHDOG_USEC is \"%s\", and no number of at least 2000", text);
    notify->watchdog_ms = usec / 2000;
    notify->due_ms = now_ms + notify->watchdog_ms;
    return 0;
}

static int open_socket(struct notify *notify, uint64_t now_ms, farpool_error *error)
{
    const char *text = getenv("NOTIFY_SOCKET");
    if (text == NULL)
        return 0;
    int result = set_address(notify, text, error);
    if (result == 0)
        result = set_watchdog(notify, now_ms, error);
    if (result != 0)
        return result;
    notify->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (notify->fd < 0)
        return error_set(error, FARPOOL_ESYSTEM, "a socket for NOTIFY_SOCKET: %s",
                         strerror(errno));
    return 0;
}

int notify_open(struct notify *ret_notify, uint64_t now_ms, farpool_error *error)
{
    *ret_notify = (struct notify){.fd = -1};
    int result = open_socket(ret_notify, now_ms, error);
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
    return result;
}

void notify_close(struct notify *notify)
{
    if (notify->fd >= 0)
        close(notify->fd);
    notify->fd = -1;
}

void notify_ready(struct notify *notify)
{
    notify->pending |= READY;
}

void notify_stopping(struct notify *notify)
{
    notify->pending |= STOPPING;
}

void notify_status(struct notify *notify, const char *format, ...)
{
    char status[NOTIFY_STATUS_MAX];
    va_list arguments;
    if (notify->fd < 0)
        return; /* nobody to tell */
    va_start(arguments, format);
    vsnprintf(status, sizeof status, format, arguments);
    va_end(arguments);
    for (char *at = status; *at != '\0'; at++) {
        if ((unsigned char)*at < 0x20)
            *at = ' '; /* a line end would begin another assignment */
    }
    if (strcmp(status, notify->status) == 0)
        return;
    memcpy(notify->status, status, sizeof status);
    notify->pending |= STATUS;
}

static bool send_pending(const struct notify *notify)
{
    char text[NOTIFY_STATUS_MAX + 64];
    int size =
        snprintf(text, sizeof text, "%s%s%s", notify->pending & READY ? "READY=1\n" : "",
                 notify->pending & STOPPING ? "STOPPING=1\n" : "",
                 notify->pending & WATCHDOG ? "WATCHDOG=1\n" : "");
    if (notify->pending & STATUS)
        size += snprintf(text + size, sizeof text - (size_t)size, "STATUS=%s\n",
                         notify->status);
    return sendto(notify->fd, text, (size_t)size, MSG_NOSIGNAL,
                  (const struct sockaddr *)&notify->address,
                  notify->address_size) == (ssize_t)size;
}

void notify_turn(struct notify *notify, uint64_t now_ms)
{
    if (notify->fd < 0)
        return;
    if (notify->watchdog_ms != 0 && now_ms >= notify->due_ms) {
        notify->pending |= WATCHDOG;
        notify->due_ms = now_ms + notify->watchdog_ms;
    }
    if (notify->pending == 0 || now_ms < notify->retry_ms)
        return;
    bool sent = send_pending(notify);
    notify->pending = sent ? 0 : notify->pending;
    notify->retry_ms = sent ? 0 : now_ms + RETRY_MS;
}

uint64_t notify_deadline(const struct notify *notify)
{
    uint64_t deadline = UINT64_MAX;
    if (notify->fd < 0)
        return deadline;
    if (notify->watchdog_ms != 0)
        deadline = notify->due_ms;
    if (notify->pending != 0 && notify->retry_ms < deadline)
        deadline = notify->retry_ms;
    return deadline;
}
