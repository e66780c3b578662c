/* SPDX-License-Identifier: Apache-2.0
 *
 * detached.c: the thread of the service, and a queue each way, each with an eventfd.
 * While the thread waits for a disk what comes is queued, and is its next transaction: so
 * a sync costs a batch, not a task. What clients ask is bounded by bytes here; what the
 * coordinator says to clients inside is bounded by their windows. */
#include "detached/detached.h"
#include "common/base/error.h"
#include "common/base/mem.h"
#include "common/sys/log.h"
#include "common/sys/sys.h"
#include "detached/service.h"
#include "detached/service_internal.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define LINK_BIT (UINT64_C(1) << 62)
#define ASKED_BYTES_MAX (UINT64_C(256) << 20) /* one question is let through always */
#define POLL_MS_MAX 60000

struct ins {
    struct service_in *items;
    size_t count, capacity;
};

struct outs {
    struct service_out *items;
    size_t count, capacity;
};

struct detached {
    struct detached_config config;
    struct service *service; /* the thread's, while it runs */
    pthread_t thread;
    bool runs;
    int in_fd, out_fd;
    struct ins taking;     /* the thread's */
    size_t taken;          /* of these */
    struct outs serving;   /* the loop's */
    pthread_mutex_t mutex; /* over what follows */
    struct ins ins;
    struct outs outs;
    uint64_t asked_bytes; /* of requests in ins */
    bool stop;
};

static void ring(int fd)
{
    const uint64_t one = 1;
    if (write(fd, &one, sizeof one) < 0)
        return; /* it is readable already */
}

static void hush(int fd)
{
    uint64_t count;
    if (read(fd, &count, sizeof count) < 0)
        return; /* nothing was there */
}

/* ------------------------------------------------------------------------ thread */

static int poll_timeout(const struct detached *detached)
{
    const uint64_t due = service_deadline(detached->service), now = sys_now_ms();
    if (due <= now)
        return 0;
    return due - now < POLL_MS_MAX ? (int)(due - now) : POLL_MS_MAX;
}

/* Hands what the service has done over to the loop; false: no memory, all of it is kept.
 */
static bool give(struct detached *detached)
{
    size_t count;
    struct service_out *outs = service_outs(detached->service, &count);
    if (count == 0)
        return true;
    pthread_mutex_lock(&detached->mutex);
    const bool given = mem_reserve(&detached->outs.items, &detached->outs.capacity,
                                   detached->outs.count + count, sizeof *outs);
    if (given) {
        memcpy(detached->outs.items + detached->outs.count, outs, count * sizeof *outs);
        detached->outs.count += count;
        for (size_t i = 0; i < count; i++)
            outs[i].message = NULL;
        service_clear(detached->service);
    }
    pthread_mutex_unlock(&detached->mutex);
    if (given)
        ring(detached->out_fd);
    return given;
}

static bool is_stopped(struct detached *detached)
{
    pthread_mutex_lock(&detached->mutex);
    const bool stop = detached->stop;
    pthread_mutex_unlock(&detached->mutex);
    return stop;
}

static void fetch(struct detached *detached)
{
    pthread_mutex_lock(&detached->mutex);
    const struct ins empty = detached->taking;
    detached->taking = detached->ins;
    detached->ins = empty;
    detached->asked_bytes = 0;
    pthread_mutex_unlock(&detached->mutex);
}

static bool take_fetched(struct detached *detached)
{
    struct ins *taking = &detached->taking;
    while (detached->taken < taking->count) {
        if (!service_take(detached->service, &taking->items[detached->taken],
                          sys_now_ms()))
            return false;
        detached->taken++;
    }
    detached->taken = taking->count = 0;
    return true;
}

/* All that came; false: no memory for some of it. */
static bool take(struct detached *detached)
{
    if (!take_fetched(detached))
        return false;
    fetch(detached);
    return take_fetched(detached);
}

static void *run(void *arg)
{
    struct detached *detached = arg;
    while (!is_stopped(detached)) {
        const bool taken = take(detached);
        service_turn(detached->service, sys_now_ms());
        const bool given = give(detached);
        struct pollfd fd = {.fd = detached->in_fd, .events = POLLIN};
        poll(&fd, 1, taken && given ? poll_timeout(detached) : AGAIN_MS);
        hush(detached->in_fd);
    }
    return NULL;
}

/* -------------------------------------------------------------------------- loop */

static int start(struct detached *detached, farpool_error *error)
{
    const struct service_config config = {.folder = detached->config.folder,
                                          .bytes_max = detached->config.bytes_max,
                                          .keep_s = detached->config.keep_s,
                                          .first_link = LINK_BIT,
                                          .seed = sys_random(),
                                          .pid = (uint32_t)getpid(),
                                          .wall_ms = log_time_ms};
    sigset_t all, before;
    detached->in_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    detached->out_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (detached->in_fd < 0 || detached->out_fd < 0)
        return error_set(error, FARPOOL_ESYSTEM, "eventfd: %s", strerror(errno));
    if (service_create(&config, sys_now_ms(), &detached->service) != 0)
        return error_set(error, FARPOOL_ENOMEM, "out of memory");
    (void)give(detached); /* or by the thread */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int failed = pthread_create(&detached->thread, NULL, run, detached);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed != 0)
        return error_set(error, FARPOOL_ESYSTEM, "cannot start a thread: %s",
                         strerror(failed));
    detached->runs = true;
    return 0;
}

int detached_open(const struct detached_config *config, struct detached **ret_detached,
                  farpool_error *error)
{
    struct detached *detached = mem_alloc(sizeof *detached);
    if (detached == NULL)
        return error_set(error, FARPOOL_ENOMEM, "out of memory");
    detached->config = *config;
    detached->in_fd = detached->out_fd = -1;
    pthread_mutex_init(&detached->mutex, NULL);
    const int code = start(detached, error);
    if (code == 0)
        *ret_detached = detached;
    else
        detached_close(detached);
    return code;
}

static void free_ins(struct ins *ins)
{
    for (size_t i = 0; i < ins->count; i++)
        message_free(&ins->items[i].message);
    mem_free(ins->items);
}

static void free_outs(struct outs *outs)
{
    for (size_t i = 0; i < outs->count; i++)
        message_free(&outs->items[i].message);
    mem_free(outs->items);
}

void detached_close(struct detached *detached)
{
    if (detached == NULL)
        return;
    if (detached->runs) {
        pthread_mutex_lock(&detached->mutex);
        detached->stop = true;
        pthread_mutex_unlock(&detached->mutex);
        ring(detached->in_fd);
        pthread_join(detached->thread, NULL);
    }
    service_destroy(detached->service);
    free_ins(&detached->ins);
    free_ins(&detached->taking);
    free_outs(&detached->outs);
    free_outs(&detached->serving);
    if (detached->in_fd >= 0)
        close(detached->in_fd);
    if (detached->out_fd >= 0)
        close(detached->out_fd);
    pthread_mutex_destroy(&detached->mutex);
    mem_free(detached);
}

int detached_fd(const struct detached *detached)
{
    return detached->out_fd;
}

/* Takes the message over on success. */
static bool put(struct detached *detached, const struct service_in *in, uint64_t bytes)
{
    pthread_mutex_lock(&detached->mutex);
    bool ok = bytes == 0 || detached->asked_bytes == 0 ||
              detached->asked_bytes + bytes <= ASKED_BYTES_MAX;
    ok = ok && mem_reserve(&detached->ins.items, &detached->ins.capacity,
                           detached->ins.count + 1, sizeof *in);
    if (ok) {
        detached->ins.items[detached->ins.count++] = *in;
        detached->asked_bytes += bytes;
    }
    pthread_mutex_unlock(&detached->mutex);
    ring(detached->in_fd);
    return ok;
}

bool detached_ask(struct detached *detached, uint64_t link, const struct holder *holder,
                  struct message **message)
{
    struct service_in in = {.kind = SERVICE_REQUEST, .link = link, .message = *message};
    if (holder != NULL)
        in.holder = *holder;
    if (!put(detached, &in, message_body_bytes(*message) + 1024))
        return false;
    *message = NULL;
    return true;
}

struct message *detached_refuse(const struct message *question, int code,
                                const char *text)
{
    return service_make_refusal(question->kind, service_request_of(question), code, text);
}

bool detached_is_link(uint64_t link)
{
    return (link & LINK_BIT) != 0 && link >> 63 == 0;
}

void detached_send(struct detached *detached, uint64_t link, struct message **message)
{
    const struct service_in in = {
        .kind = SERVICE_INNER, .link = link, .message = *message};
    if (put(detached, &in, 0))
        *message = NULL;
    else
        detached_drop(detached, link); /* it would wait for the message for ever */
}

void detached_drop(struct detached *detached, uint64_t link)
{
    const struct service_in in = {.kind = SERVICE_INNER_DOWN, .link = link};
    while (!put(detached, &in, 0))
        usleep(1000); /* without it the link would seem to stand */
}

static void serve_one(const struct detached_calls *calls, struct service_out *out)
{
    switch (out->kind) {
    case SERVICE_ANSWER:
        calls->answer(calls->user, out->link, &out->message);
        break;
    case SERVICE_SAY:
        calls->say(calls->user, out->link,
                   out->holder.role != HOLDER_NONE ? &out->holder : NULL, &out->message);
        break;
    case SERVICE_HANG_UP:
        calls->hang_up(calls->user, out->link);
        break;
    case SERVICE_DROP:
        calls->drop(calls->user, out->link);
        break;
    case SERVICE_LOG:
        log_event((enum log_level)out->level, out->event, "%s", out->text);
        break;
    }
    message_free(&out->message);
}

void detached_serve(struct detached *detached, const struct detached_calls *calls)
{
    hush(detached->out_fd);
    pthread_mutex_lock(&detached->mutex);
    const struct outs empty = detached->serving;
    detached->serving = detached->outs;
    detached->outs = empty;
    pthread_mutex_unlock(&detached->mutex);
    for (size_t i = 0; i < detached->serving.count; i++)
        serve_one(calls, &detached->serving.items[i]);
    detached->serving.count = 0;
}
