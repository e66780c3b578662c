/* SPDX-License-Identifier: Apache-2.0
 *
 * dial.c: raw links for benchmarks (dial.h). They share one context and thus one I/O
 * thread, and their descriptors one epoll: common/net has a context a link. */
#include "dial.h"

#include "common/net/net_internal.h"
#include "common/sys/sys.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>

enum { EVENTS = 256, HANDSHAKE_MS = 300000 };

static void *context;
static const char *address;
static int sleeper; /* epoll */
static struct envelope envelope;
static zmq_msg_t frames[ENVELOPE_FRAMES_MAX + 1];
static struct payload *bodies[ENVELOPE_FRAMES_MAX];

_Noreturn void dial_fail(const char *what, const char *why)
{
    fprintf(stderr, "farpool-bench: %s: %s\n", what, why);
    exit(1);
}

void *dial_need(void *memory)
{
    if (memory == NULL)
        dial_fail("memory", "there is none");
    return memory;
}

void dial_start(size_t count, const char *to_address)
{
    farpool_error error;
    address = to_address;
    context = dial_need(zmq_ctx_new());
    sleeper = epoll_create1(EPOLL_CLOEXEC);
    if (zmq_ctx_set(context, ZMQ_MAX_SOCKETS, (int)count + 8) != 0 || sleeper < 0 ||
        sys_need_files(3 * count + 64, &error) != 0)
        dial_fail("start", "too few open files are allowed");
}

void *dial_open(void *tag)
{
    const int none = 0, yes = 1, handshake_ms = HANDSHAKE_MS;
    int fd;
    size_t size = sizeof fd;
    void *socket = zmq_socket(context, ZMQ_DEALER);
    if (socket == NULL || zmq_setsockopt(socket, ZMQ_LINGER, &none, sizeof none) != 0 ||
        zmq_setsockopt(socket, ZMQ_IMMEDIATE, &yes, sizeof yes) != 0 ||
        zmq_setsockopt(socket, ZMQ_HANDSHAKE_IVL, &handshake_ms, sizeof handshake_ms) !=
            0 ||
        zmq_connect(socket, address) != 0 ||
        zmq_getsockopt(socket, ZMQ_FD, &fd, &size) != 0)
        dial_fail("socket", zmq_strerror(errno));
    dial_watch(fd, tag);
    return socket;
}

bool dial_is_up(void *link)
{
    int events = 0;
    size_t size = sizeof events;
    return zmq_getsockopt(link, ZMQ_EVENTS, &events, &size) == 0 &&
           (events & ZMQ_POLLOUT) != 0;
}

/* -------------------------------------------------------------------- sending */

void dial_say(void *link, struct message *message)
{
    struct frames wire = {0};
    if (message_encode(dial_need(message), &wire) != 0)
        dial_fail("encode", message_name(message->kind));
    if (!net_envelope_fits(&envelope, wire.header->size, wire.bodies_count))
        dial_send(link);
    if (!net_envelope_add(&envelope, &wire))
        dial_fail("pack", message_name(message->kind));
    frames_fini(&wire);
    message_free(&message);
}

static void send_frame(void *link, const void *data, size_t size, bool more)
{
    if (zmq_send(link, data, size, ZMQ_DONTWAIT | (more ? ZMQ_SNDMORE : 0)) < 0)
        dial_fail("send", zmq_strerror(errno));
}

bool dial_send(void *link)
{
    if (envelope.messages == 0)
        return false;
    send_frame(link, envelope.text, envelope.used, envelope.bodies_count > 0);
    for (size_t i = 0; i < envelope.bodies_count; i++)
        send_frame(link, envelope.bodies[i]->data, envelope.bodies[i]->size,
                   i + 1 < envelope.bodies_count);
    net_envelope_clear(&envelope);
    return true;
}

/* ------------------------------------------------------------------ receiving */

static void take_envelope(size_t bodies_count,
                          void (*take)(void *user, struct message *message), void *user)
{
    struct envelope_reader reader;
    struct envelope_item item;
    size_t first = 0;
    const char *why = net_envelope_open(zmq_msg_data(&frames[0]),
                                        zmq_msg_size(&frames[0]), bodies_count, &reader);
    if (why != NULL)
        dial_fail("received", why);
    while (net_envelope_next(&reader, &item)) {
        struct message *message = NULL;
        struct payload *header =
            dial_need(payload_wrap(item.header, item.header_size, NULL, NULL));
        const struct frames wire = {header, bodies + first, item.bodies_count};
        if (message_decode(&wire, &message, &why) != 0)
            dial_fail("received", why);
        if (message->kind == MSG_REFUSED)
            dial_fail("refused", message->refused.text);
        if (message->kind == MSG_PART)
            dial_fail("received", "a message of more than 1 MiB");
        payload_unref(&header);
        first += item.bodies_count;
        take(user, message);
    }
}

/* One envelope; false: there is none. */
static bool receive(void *link, void (*take)(void *user, struct message *message),
                    void *user)
{
    size_t got = 0;
    bool more = true;
    while (more) {
        if (got > ENVELOPE_FRAMES_MAX)
            dial_fail("received", "too many frames");
        zmq_msg_init(&frames[got]);
        if (zmq_msg_recv(&frames[got], link, ZMQ_DONTWAIT) < 0)
            return false;
        more = zmq_msg_more(&frames[got]) != 0;
        if (got > 0)
            bodies[got - 1] = dial_need(
                payload_copy(zmq_msg_data(&frames[got]), zmq_msg_size(&frames[got])));
        got++;
    }
    take_envelope(got - 1, take, user);
    for (size_t i = 0; i < got; i++)
        zmq_msg_close(&frames[i]);
    for (size_t i = 0; i + 1 < got; i++)
        payload_unref(&bodies[i]);
    return true;
}

void dial_read(void *link, void (*take)(void *user, struct message *message), void *user)
{
    while (receive(link, take, user))
        ;
}

/* ------------------------------------------------------------------- sleeping */

void dial_watch(int fd, void *tag)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLHUP, .data.ptr = tag};
    if (epoll_ctl(sleeper, EPOLL_CTL_ADD, fd, &event) != 0)
        dial_fail("epoll", "the descriptor cannot be waited for");
}

size_t dial_wait(int timeout_ms, void **ret_tags, size_t most)
{
    struct epoll_event events[EVENTS];
    const int ready =
        epoll_wait(sleeper, events, most < EVENTS ? (int)most : EVENTS, timeout_ms);
    for (int i = 0; i < ready; i++)
        ret_tags[i] = events[i].data.ptr;
    return ready > 0 ? (size_t)ready : 0;
}
