/* SPDX-License-Identifier: Apache-2.0
 *
 * wake.c: the eventfd by which a thread that submits wakes the one that drives the pool
 * and sleeps in poll. It carries no data: who is woken looks at the pool. */
#include "client/transport.h"
#include "common/base/error.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

int wake_open(farpool_error *error)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    if (fd < 0)
        return error_set(error, errno == EMFILE ? FARPOOL_ENOFILES : FARPOOL_ESYSTEM,
                         "open: eventfd: %s", strerror(errno));
    return fd;
}

void wake_send(int fd)
{
    uint64_t one = 1;

    /* Full means that it is readable already. */
    while (write(fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

void wake_clear(int fd)
{
    uint64_t count;

    while (read(fd, &count, sizeof count) < 0 && errno == EINTR)
        ;
}

int wake_timeout(uint64_t now_ms, uint64_t until_ms)
{
    if (until_ms == UINT64_MAX)
        return -1;
    if (until_ms <= now_ms)
        return 0;
    return until_ms - now_ms > INT_MAX ? INT_MAX : (int)(until_ms - now_ms);
}
