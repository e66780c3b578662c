/* SPDX-License-Identifier: Apache-2.0
 *
 * host_shared.c: the shared inputs that processes may map. A process asks for one by its
 * number, in its out ring, and is answered on a socket of its own, with the descriptor of
 * the bytes or why it cannot have them: only who uses one pays for it, and a process that
 * replaces another finds the same. A descriptor is read-only, or of a memory that is
 * sealed, so no process can change what others read.
 *
 * One that is unshared is forgotten here at once; processes that have mapped it see the
 * epoch in their control page, and let go between two tasks. */
#include "worker/host_internal.h"

#include "common/base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int host_set_shared(struct host *host, const struct host_shared_about *about, int fd,
                    farpool_error *error)
{
    struct host_shared *shared = mem_alloc(sizeof *shared);
    if (shared == NULL)
        return error_set(error, FARPOOL_ENOMEM, "out of memory on node %s", host->node);
    shared->about = *about;
    shared->fd = -1;
    if (fd >= 0 && (shared->fd = fcntl(fd, F_DUPFD_CLOEXEC, HOST_FD_HIGH)) < 0) {
        int number = errno == EINVAL ? EMFILE : errno;
        mem_free(shared);
        return host_system_error(error, number, "cannot map a shared input");
    }
    TAILQ_INSERT_HEAD(&host->shared, shared, link);
    return 0;
}

static void forget(struct host *host, struct host_shared *shared)
{
    TAILQ_REMOVE(&host->shared, shared, link);
    if (shared->fd >= 0)
        close(shared->fd);
    mem_free(shared);
}

/* Those that sleep are woken for it. */
static void tell_processes(struct host *host, const struct id *pool)
{
    struct host_process *process, *next;
    HASH_ITER (hh, host->processes, process, next) {
        if (process->map == NULL || !id_equal(&process->pool, pool))
            continue;
        atomic_fetch_add_explicit(&process->map->control->shared_epoch, 1,
                                  memory_order_release);
        host_map_wake(process->map, CHANNEL_WAITS_WORK);
    }
}

void host_unset_shared(struct host *host, const struct id *pool, uint64_t serial)
{
    struct host_shared *shared;
    TAILQ_FOREACH (shared, &host->shared, link)
        if (shared->about.serial == serial) {
            forget(host, shared);
            tell_processes(host, pool);
            return;
        }
}

void host_shared_fini(struct host *host)
{
    struct host_shared *shared;
    while ((shared = TAILQ_FIRST(&host->shared)) != NULL)
        forget(host, shared);
}

/* ------------------------------------------------------------------- the socket */

bool host_shared_open(struct host_process *process, int *ret_end)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return false;
    process->answers = ends[0];
    *ret_end = ends[1];
    return true;
}

static bool send_answer(const struct host_process *process,
                        struct channel_shared_answer *answer, int fd)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof fd)];
    } control = {.bytes = {0}};
    struct iovec part = {answer, sizeof *answer};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (fd >= 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof control.bytes;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(header), &fd, sizeof fd);
    }
    return sendmsg(process->answers, &message, MSG_DONTWAIT | MSG_NOSIGNAL) > 0;
}

/* The latest of its number: one of a pool that was opened again may linger behind it. */
static const struct host_shared *find(const struct host *host, const struct id *pool,
                                      uint64_t number)
{
    const struct host_shared *shared;
    TAILQ_FOREACH (shared, &host->shared, link)
        if (shared->about.number == number && id_equal(&shared->about.pool, pool))
            return shared;
    return NULL;
}

bool host_shared_answer(struct host *host, struct host_process *process,
                        const struct ring_record *record)
{
    struct channel_shared asked;
    struct channel_shared_answer answer = {.code = FARPOOL_EINVAL};
    if (record->length < sizeof asked)
        return false;
    memcpy(&asked, record->body, sizeof asked);
    const struct host_shared *shared = find(host, &process->pool, asked.number);
    answer.number = asked.number;
    if (shared != NULL) {
        answer.size = shared->about.size;
        answer.code = shared->about.code;
        memcpy(answer.text, shared->about.text, sizeof answer.text);
    } else {
        snprintf(answer.text, sizeof answer.text,
                 "shared input %llu of this pool was unshared, or there was none",
                 (unsigned long long)asked.number);
    }
    /* It waits for each answer: one that does not take them breaks the rules. A process
     * that has just ended is no longer there to take it. */
    return send_answer(process, &answer, shared != NULL ? shared->fd : -1) ||
           errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN;
}
