/* SPDX-License-Identifier: Apache-2.0
 *
 * wait.c: sleeping until a socket has something, with poll(2) of our own. zmq_poll asks
 * every socket about its events before and behind its sleep, which is some twenty system
 * calls a turn; one descriptor a socket (ZMQ_FD) tells as much, if its rule is kept: it
 * is readable when something has *come* for the socket, a message or a word of its I/O
 * thread, and any call on the socket may take that sign away. So after a sign a socket is
 * read until it has nothing left, which ZeroMQ only says behind a look at what has come;
 * and after a send, which may have taken a sign away, it is asked once before sleeping.
 *
 * `unread` and its sisters are these signs. A connection's last messages come before the
 * monitor tells its end, but the two descriptors may be looked at in the other order: so
 * a sign of the monitor is one of the data socket, too. */
#include "common/net/net_internal.h"

#include <zmq.h>

int net_wait_fd(void *socket)
{
    int fd = -1;
    size_t size = sizeof fd;
    return zmq_getsockopt(socket, ZMQ_FD, &fd, &size) == 0 ? fd : -1;
}

static int events_of(void *socket)
{
    int events = 0;
    size_t size = sizeof events;
    return zmq_getsockopt(socket, ZMQ_EVENTS, &events, &size) == 0 ? events : ZMQ_POLLIN;
}

bool net_is_behind(const struct net *net)
{
    return net->unread;
}

int net_wait_begin(struct net *net, struct pollfd *fds, int *timeout_ms)
{
    if (net->socket == NULL)
        return 0;
    const bool stuck = !net->listener && net->blocked;
    if (net->sent || stuck) {
        const int events = events_of(net->socket);
        net->sent = false;
        net->unread |= (events & ZMQ_POLLIN) != 0;
        if (stuck && (events & ZMQ_POLLOUT) != 0)
            *timeout_ms = 0;
    }
    if (net->unread || net->monitor_unread || net->zap_unread)
        *timeout_ms = 0;
    fds[0] = (struct pollfd){.fd = net->socket_fd, .events = POLLIN};
    fds[1] = (struct pollfd){.fd = net->monitor_fd, .events = POLLIN};
    fds[2] = (struct pollfd){.fd = net->zap_fd, .events = POLLIN};
    return net->zap != NULL ? 3 : 2;
}

void net_wait_end(struct net *net, const struct pollfd *fds)
{
    if (net->socket == NULL)
        return;
    net->monitor_unread |= fds[1].revents != 0;
    net->unread |= fds[0].revents != 0 || net->monitor_unread;
    net->zap_unread |= net->zap != NULL && fds[2].revents != 0;
}
