/* SPDX-License-Identifier: Apache-2.0
 *
 * monitor.c: hears of connections that come and go, the moment they do. ZeroMQ tells a
 * listener only descriptors: ACCEPTED fd, DISCONNECTED fd; and each received message
 * carries the descriptor that it came from. So fds[] follows which are open, and a link
 * is bound to its descriptor by its first message.
 *
 * Numbers of descriptors are used again. The events of one number are in order, and those
 * before a connection are told before any of its messages can be received; so a link is
 * bound only after the monitor was drained, and then what is noted there is of this
 * connection or a later one. A later one shows by an open slot whose link has another
 * socket cookie, or by a message of a new peer on a slot that has a link.
 *
 * ZeroMQ gives up who does not finish its handshake; who finishes it and says nothing
 * more would hold a connection for ever. So those are looked at once a second, and closed
 * after a few looks: looks, since what came while this process was stopped is not late.
 *
 * The reading end has no high-water mark: ZeroMQ's I/O thread waits for room otherwise.
 */
#include "common/base/error.h"
#include "common/net/net_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define EVENTS                                                                           \
    (ZMQ_EVENT_CONNECTED | ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_DISCONNECTED |                 \
     ZMQ_EVENT_CLOSED | ZMQ_EVENT_CONNECT_RETRIED | ZMQ_EVENT_HANDSHAKE_SUCCEEDED |      \
     ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL |        \
     ZMQ_EVENT_HANDSHAKE_FAILED_AUTH)

int net_monitor_open(struct net *net, farpool_error *error)
{
    char endpoint[64];
    int unlimited = 0;
    snprintf(endpoint, sizeof endpoint, "inproc://monitor-%p-%u", (const void *)net,
             ++net->monitors);
    if (zmq_socket_monitor(net->socket, endpoint, EVENTS) == 0 &&
        (net->monitor = zmq_socket(net->context, ZMQ_PAIR)) != NULL &&
        zmq_setsockopt(net->monitor, ZMQ_RCVHWM, &unlimited, sizeof unlimited) == 0 &&
        zmq_setsockopt(net->monitor, ZMQ_LINGER, &unlimited, sizeof unlimited) == 0 &&
        zmq_connect(net->monitor, endpoint) == 0) {
        net->monitor_fd = net_wait_fd(net->monitor);
        net->monitor_unread = true;
        return 0;
    }
    return error_set(error, errno == EMFILE ? FARPOOL_ENOFILES : FARPOOL_ESYSTEM,
                     "cannot watch a ZeroMQ socket: %s", zmq_strerror(errno));
}

void net_monitor_close(struct net *net)
{
    if (net->monitor == NULL)
        return;
    zmq_socket_monitor(net->socket, NULL, 0);
    zmq_close(net->monitor);
    net->monitor = NULL;
}

static bool reserve_fd(struct net *net, size_t fd)
{
    return mem_reserve(&net->fds, &net->fds_capacity, fd + 1, sizeof *net->fds);
}

static void unbind(struct net *net, struct fd_slot *slot)
{
    struct link *link = slot->link;
    slot->link = NULL;
    if (link == NULL)
        return;
    link->fd = -1;
    net_link_lost(net, link, "connection closed");
}

/* A peer that never had a link: the value is the kind of failure, and no descriptor. */
static void handshake_failed(struct net *net, uint16_t event)
{
    /* What the list does not have, zap.c has told of. */
    if (event == ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL)
        net_zap_tell_refused(net, NULL,
                             "no CURVE handshake, or for another coordinator's key");
    else if (event == ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL)
        net_zap_tell_refused(net, NULL, "the handshake was not finished");
}

static void listener_event(struct net *net, uint16_t event, uint32_t value)
{
    if (event != ZMQ_EVENT_ACCEPTED && event != ZMQ_EVENT_DISCONNECTED) {
        handshake_failed(net, event);
        return;
    }
    /* Out of memory here means that a link's end is noticed by silence only. */
    if (value > INT32_MAX || !reserve_fd(net, value))
        return;
    struct fd_slot *slot = &net->fds[value];
    if (event == ZMQ_EVENT_ACCEPTED) {
        unbind(net, slot);
        slot->open = true;
        slot->looks = 0;
        if (net->look_at_ms == UINT64_MAX)
            net->look_at_ms = net->now_ms + MUTE_LOOK_MS;
    } else {
        slot->open = false;
        unbind(net, slot);
    }
}

static void dialer_up(struct net *net)
{
    struct link *link;
    if (net->dial != DIAL_CONNECTING)
        return;
    if (net_link_create(net, NULL, &link) != 0) {
        net->dial_ended = true;
        return;
    }
    net->dialled = link;
    net->dial = DIAL_UP;
}

static const char *refusal(const struct net *net, uint16_t event, uint32_t value)
{
    if (event == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH)
        return net->peer == 'K' ? "the coordinator does not know this key, or no longer"
                                : "the worker has no introduction of this key";
    if (event != ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL ||
        value != ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH)
        return NULL;
    return net->keyed ? "a key is given, and the coordinator there uses none"
                      : "the coordinator wants a key, and none is given "
                        "(farpool keys add makes one, FARPOOL_KEY or --key names it)";
}

static void dialer_event(struct net *net, uint16_t event, uint32_t value)
{
    if (event == ZMQ_EVENT_CONNECTED) { /* the handshake follows */
        net_address_local((int)value, net->local_host, sizeof net->local_host);
        return;
    }
    const char *refused = refusal(net, event, value);
    if (refused != NULL)
        net->dial_refused = refused;
    if (event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED) {
        dialer_up(net);
        return;
    }
    net->dial_ended = true;
    if (net->dialled != NULL)
        net_link_lost(net, net->dialled, "connection closed");
}

/* An event is two frames: u16 event and u32 value in this machine's order; an address. */
static bool read_event(struct net *net, uint16_t *ret_event, uint32_t *ret_value)
{
    zmq_msg_t frame;
    bool found = false;
    int more = 1;
    while (more) {
        zmq_msg_init(&frame);
        if (zmq_msg_recv(&frame, net->monitor, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(&frame);
            return found;
        }
        if (!found && zmq_msg_size(&frame) == 6) {
            const uint8_t *data = zmq_msg_data(&frame);
            memcpy(ret_event, data, 2);
            memcpy(ret_value, data + 2, 4);
            found = true;
        }
        more = zmq_msg_more(&frame);
        zmq_msg_close(&frame);
    }
    return found;
}

void net_monitor_drain(struct net *net)
{
    uint16_t event;
    uint32_t value;
    while (net->monitor != NULL && read_event(net, &event, &value)) {
        if (net->listener)
            listener_event(net, event, value);
        else
            dialer_event(net, event, value);
    }
    net->monitor_unread = false;
}

/* The kernel's number of the socket behind a descriptor; 0: not known. */
static uint64_t read_cookie(int fd)
{
    uint64_t cookie = 0;
    socklen_t size = sizeof cookie;
    return getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &size) == 0 ? cookie : 0;
}

void net_monitor_bind(struct net *net, struct link *link, int fd)
{
    if (fd < 0 || !reserve_fd(net, (size_t)fd))
        return;
    struct fd_slot *slot = &net->fds[fd];
    unbind(net, slot);
    if (!slot->open) {
        net_link_lost(net, link, "connection closed");
        return;
    }
    link->fd = fd;
    link->cookie = read_cookie(fd);
    slot->link = link;
    net_monitor_drain(
        net); /* gone meanwhile: the cookie may be another's, and is not used */
}

static bool is_mute(const struct net *net, int fd)
{
    return fd >= 0 && (size_t)fd < net->fds_capacity && net->fds[fd].open &&
           net->fds[fd].link == NULL;
}

void net_monitor_refuse(struct net *net, int fd)
{
    struct link nobody = {.fd = fd, .cookie = fd < 0 ? 0 : read_cookie(fd)};
    net_monitor_drain(net);
    if (is_mute(net, fd))
        net_link_cut(&nobody);
}

/* The one that a look was counted for may have gone, and another have its number. */
static void cut_mute(struct net *net, int fd)
{
    struct link nobody = {.fd = fd, .cookie = read_cookie(fd)};
    net_monitor_drain(net);
    if (is_mute(net, fd) && net->fds[fd].looks >= MUTE_LOOKS)
        net_link_cut(&nobody);
}

void net_monitor_look(struct net *net, bool drained)
{
    bool some = false;
    if (!net->listener || !drained || net->now_ms < net->look_at_ms)
        return;
    for (size_t fd = 0; fd < net->fds_capacity; fd++) {
        if (!is_mute(net, (int)fd))
            continue;
        some = true;
        if (net->fds[fd].looks < MUTE_LOOKS)
            net->fds[fd].looks++;
        else
            cut_mute(net, (int)fd);
    }
    net->look_at_ms = some ? net->now_ms + MUTE_LOOK_MS : UINT64_MAX;
}
