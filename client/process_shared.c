/* SPDX-License-Identifier: Apache-2.0
 *
 * process_shared.c: shared inputs inside a pool process. The first use of one asks the
 * host for its descriptor and maps it; later ones find the mapping. It stays until the
 * input is unshared, and then goes between two tasks, so a pointer is good as long as the
 * task that got it. */
#include "client/process_internal.h"

#include "common/base/error.h"
#include "common/base/mem.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* All that this process has mapped; a handful, so a list will do. */
struct mapped {
    uint64_t number;
    void *base;
    size_t size;
    struct mapped *next;
};

static struct mapped *all;
static uint32_t epoch_seen;

bool process_shared_changed(const struct process *self)
{
    return atomic_load_explicit(&self->control->shared_epoch, memory_order_acquire) !=
           epoch_seen;
}

/* Something was unshared: which one is found out when it is used again. */
void process_shared_look(struct process *self)
{
    if (!process_shared_changed(self))
        return;
    epoch_seen = atomic_load_explicit(&self->control->shared_epoch, memory_order_acquire);
    while (all != NULL) {
        struct mapped *mapped = all;
        all = mapped->next;
        munmap(mapped->base, mapped->size);
        mem_free(mapped);
    }
}

static struct mapped *find(uint64_t number)
{
    struct mapped *mapped = all;
    while (mapped != NULL && mapped->number != number)
        mapped = mapped->next;
    return mapped;
}

static void ask(struct process *self, uint64_t number)
{
    struct channel_shared *record = process_reserve(self, sizeof *record);
    record->number = number;
    ring_commit(&self->out, CHANNEL_SHARED, sizeof *record);
    process_publish(self);
}

/* The descriptor, or -1 and the answer tells why. */
static int hear(struct channel_shared_answer *ret_answer)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec part = {ret_answer, sizeof *ret_answer};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    ssize_t got;
    int fd = -1;
    while ((got = recvmsg(CHANNEL_FD_ANSWERS, &message, MSG_CMSG_CLOEXEC)) < 0 &&
           errno == EINTR)
        ;
    ret_answer->text[sizeof ret_answer->text - 1] = '\0';
    const struct cmsghdr *header = got > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (header != NULL && header->cmsg_type == SCM_RIGHTS)
        memcpy(&fd, CMSG_DATA(header), sizeof fd);
    if (got == (ssize_t)sizeof *ret_answer && (fd >= 0 || ret_answer->code != 0))
        return fd;
    if (fd >= 0)
        close(fd);
    ret_answer->code = FARPOOL_ENOFILES; /* no room for the descriptor in this process */
    strcpy(ret_answer->text, "the process has too many files open to map it");
    return -1;
}

/* NULL: error tells why not, and so does *ret_code. */
static struct mapped *map(struct process *self, uint64_t number, int *ret_code,
                          farpool_error *error)
{
    struct channel_shared_answer answer = {.code = 0};
    struct mapped *mapped = mem_alloc(sizeof *mapped);
    if (mapped == NULL) {
        *ret_code = error_set(error, FARPOOL_ENOMEM, "shared_get: out of memory");
        return NULL;
    }
    ask(self, number);
    const int fd = hear(&answer);
    if (fd < 0) {
        mem_free(mapped);
        *ret_code = error_set(error, answer.code, "shared_get: %s", answer.text);
        return NULL;
    }
    mapped->base = mmap(NULL, answer.size, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (mapped->base == MAP_FAILED) {
        mem_free(mapped);
        *ret_code = error_set(error, FARPOOL_ENOMEM, "shared_get: mmap of %llu bytes: %s",
                              (unsigned long long)answer.size, strerror(errno));
        return NULL;
    }
    mapped->number = number;
    mapped->size = answer.size;
    mapped->next = all;
    all = mapped;
    return mapped;
}

static int check(const farpool_shared *shared, const farpool_bytes *ret_bytes,
                 farpool_error *error)
{
    struct id pool;
    if (shared == NULL || ret_bytes == NULL)
        return error_set(error, FARPOOL_EINVAL, "shared_get: an argument is NULL");
    if (farpool_task_current() == NULL)
        return error_set(
            error, FARPOOL_EINVAL,
            "shared_get: only inside a function, by the thread that runs it");
    if (process_is_forked())
        return error_set(error, FARPOOL_EFORK, "shared_get: in a child made by fork");
    memcpy(pool.bytes, shared->pool, sizeof pool.bytes);
    if (!id_equal(&pool, process_pool()))
        return error_set(error, FARPOOL_ENOPOOL,
                         "shared_get: it is shared with another pool than this task's");
    return 0;
}

int farpool_shared_get(const farpool_shared *shared, farpool_bytes *ret_bytes,
                       farpool_error *error)
{
    int code = check(shared, ret_bytes, error);
    if (code != 0)
        return code;
    const struct mapped *mapped = find(shared->number);
    if (mapped == NULL)
        mapped = map(&process_self, shared->number, &code, error);
    if (mapped != NULL)
        *ret_bytes = (farpool_bytes){mapped->base, mapped->size};
    return code;
}
