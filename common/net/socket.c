/* SPDX-License-Identifier: Apache-2.0
 *
 * socket.c: what is said to ZeroMQ about data. Options are in one table each; every call
 * is DONTWAIT. A listener is a ROUTER whose routing ids are the ones it makes itself; a
 * dialer is a DEALER that lives as long as one connection: ZeroMQ's own reconnecting is
 * off, so that a link is never more than one connection.
 *
 * A large body goes out where it lies: ZeroMQ's I/O thread drops our reference when it
 * is done with the bytes. */
#include "common/base/error.h"
#include "common/net/net_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define FILES_NEEDED 24 /* of a context and its sockets: ZeroMQ aborts without them */

struct option {
    int name, value;
};

static const struct option common_options[] = {
    {ZMQ_LINGER, 0},
    {ZMQ_SNDHWM, HWM_MESSAGES},
    {ZMQ_RCVHWM, HWM_MESSAGES},
    {ZMQ_IMMEDIATE, 1},
    {ZMQ_HANDSHAKE_IVL, 5000},
    {ZMQ_TCP_KEEPALIVE, 1},
    {ZMQ_TCP_KEEPALIVE_IDLE, 30},
    {ZMQ_TCP_KEEPALIVE_INTVL, 10},
    {ZMQ_TCP_KEEPALIVE_CNT, 3},
    {ZMQ_TCP_MAXRT, 15000},
};
static const struct option listener_options[] = {
    {ZMQ_ROUTER_MANDATORY, 1},
    {ZMQ_BACKLOG, 1024},
};
static const struct option dialer_options[] = {
    {ZMQ_RECONNECT_IVL, -1},
};

static int set_options(void *socket, const struct option *options, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (zmq_setsockopt(socket, options[i].name, &options[i].value, sizeof(int)) != 0)
            return -1;
    }
    return 0;
}

/* Opens and closes as many descriptors as ZeroMQ may need. */
static int check_files(farpool_error *error)
{
    int files[FILES_NEEDED], count = 0;
    while (count < FILES_NEEDED) {
        files[count] = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (files[count] < 0)
            break;
        count++;
    }
    int failed = errno;
    for (int i = 0; i < count; i++)
        close(files[i]);
    if (count == FILES_NEEDED)
        return 0;
    return error_set(error, FARPOOL_ENOFILES, "%d more open files are needed: %s",
                     FILES_NEEDED, strerror(failed));
}

int net_socket_open_context(struct net *net, farpool_error *error)
{
    int result = check_files(error);
    if (result != 0)
        return result;
    if (net->borrowed)
        return 0;
    net->context = zmq_ctx_new();
    if (net->context == NULL || zmq_ctx_set(net->context, ZMQ_MAX_SOCKETS, 1023) != 0)
        return error_set(error, FARPOOL_ESYSTEM, "cannot start ZeroMQ: %s",
                         zmq_strerror(errno));
    return 0;
}

static int open_socket(struct net *net, int type, const struct option *options,
                       size_t count, farpool_error *error)
{
    int64_t bytes_max = FRAME_BYTES_MAX;
    int ipv6 = strchr(net->target, '[') != NULL; /* else 127.0.0.1 is told as ::ffff: */
    net->socket = zmq_socket(net->context, type);
    if (net->socket == NULL)
        return error_set(error, errno == EMFILE ? FARPOOL_ENOFILES : FARPOOL_ESYSTEM,
                         "cannot open a ZeroMQ socket: %s", zmq_strerror(errno));
    size_t common = sizeof common_options / sizeof common_options[0];
    if (set_options(net->socket, common_options, common) != 0 ||
        set_options(net->socket, options, count) != 0 ||
        zmq_setsockopt(net->socket, ZMQ_IPV6, &ipv6, sizeof ipv6) != 0 ||
        zmq_setsockopt(net->socket, ZMQ_MAXMSGSIZE, &bytes_max, sizeof bytes_max) != 0)
        return error_set(error, FARPOOL_ESYSTEM, "cannot set a ZeroMQ option: %s",
                         zmq_strerror(errno));
    net->socket_fd = net_wait_fd(net->socket);
    net->unread = true;
    const int result = net_zap_secure(net, net->socket, error);
    return result == 0 ? net_monitor_open(net, error) : result;
}

/* ZeroMQ takes the path of an ipc address away from whoever listens on it. */
static bool ipc_is_taken(const char *target)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    if (strncmp(target, "ipc://", 6) != 0)
        return false;
    memcpy(name.sun_path, target + 6, strnlen(target + 6, sizeof name.sun_path - 1));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    bool taken = connect(fd, (struct sockaddr *)&name, sizeof name) == 0;
    close(fd);
    return taken;
}

static const char *what_to_do(int code)
{
    switch (code) {
    case EADDRINUSE:
        return ": another program does, perhaps a coordinator (ss -tlnp shows which): end "
               "it, or choose another port";
    case EADDRNOTAVAIL:
    case ENODEV:
        return ": this machine has no such address; tcp://*:PORT is all that it has";
    case EACCES:
        return ": ports below 1024 are the administrator's, and so may the folder be";
    default:
        return "";
    }
}

int net_socket_listen(struct net *net, farpool_error *error)
{
    size_t count = sizeof listener_options / sizeof listener_options[0];
    int result = open_socket(net, ZMQ_ROUTER, listener_options, count, error);
    if (result != 0)
        return result;
    bool taken = ipc_is_taken(net->target);
    if (taken || zmq_bind(net->socket, net->target) != 0) {
        const int code = taken ? EADDRINUSE : errno;
        return error_set(error, FARPOOL_ESYSTEM, "cannot listen on %s: %s%s",
                         net->address, zmq_strerror(code), what_to_do(code));
    }
    size_t size = sizeof net->address;
    if (zmq_getsockopt(net->socket, ZMQ_LAST_ENDPOINT, net->address, &size) != 0)
        return error_set(error, FARPOOL_ESYSTEM, "cannot tell the address: %s",
                         zmq_strerror(errno));
    return 0;
}

int net_socket_dial(struct net *net, farpool_error *error)
{
    size_t count = sizeof dialer_options / sizeof dialer_options[0];
    int result = open_socket(net, ZMQ_DEALER, dialer_options, count, error);
    if (result == 0 && zmq_connect(net->socket, net->target) != 0)
        result = error_set(error, FARPOOL_ESYSTEM, "cannot dial %s: %s", net->address,
                           zmq_strerror(errno));
    return result;
}

void net_socket_close(struct net *net, int linger_ms)
{
    net_monitor_close(net);
    if (net->socket == NULL)
        return;
    zmq_setsockopt(net->socket, ZMQ_LINGER, &linger_ms, sizeof linger_ms);
    zmq_close(net->socket);
    net->socket = NULL;
}

/* --------------------------------------------------------------------- sending */

static void release_body(void *data, void *hint)
{
    (void)data;
    struct payload *body = hint;
    payload_unref(&body);
}

/* 0 or -1 with errno of ZeroMQ; consumes the message either way. */
static int send_frame(void *socket, zmq_msg_t *message, int flags)
{
    if (zmq_msg_send(message, socket, ZMQ_DONTWAIT | flags) >= 0)
        return 0;
    int failed = errno;
    zmq_msg_close(message);
    errno = failed;
    return -1;
}

static int send_copy(void *socket, const void *data, size_t size, int flags)
{
    zmq_msg_t message;
    if (zmq_msg_init_size(&message, size) != 0)
        return -1;
    if (size > 0)
        memcpy(zmq_msg_data(&message), data, size);
    return send_frame(socket, &message, flags);
}

static int send_body(void *socket, struct payload *body, int flags)
{
    if (body->size <= BODY_COPY_MAX)
        return send_copy(socket, body->data, body->size, flags);
    zmq_msg_t message;
    void *bytes = (void *)(uintptr_t)body->data; /* ZeroMQ only reads them */
    if (zmq_msg_init_data(&message, bytes, body->size, release_body, payload_ref(body)) !=
        0) {
        release_body(NULL, body);
        errno = ENOMEM;
        return -1;
    }
    return send_frame(socket, &message, flags);
}

int net_socket_send(struct net *net, struct link *link)
{
    const struct envelope *envelope = &link->envelope;
    net->sent = true;
    int more = envelope->bodies_count > 0 ? ZMQ_SNDMORE : 0;
    int failed = 0;
    if (net->listener)
        failed = send_copy(net->socket, link->routing_id, ROUTING_ID_SIZE, ZMQ_SNDMORE);
    bool begun = net->listener && failed == 0;
    if (failed == 0)
        failed = send_copy(net->socket, envelope->text, envelope->used, more);
    if (failed != 0 && !begun) {
        if (errno == EAGAIN)
            return FARPOOL_END;
        return errno == ENOMEM ? FARPOOL_ENOMEM : FARPOOL_ECLOSED;
    }
    for (size_t i = 0; failed == 0 && i < envelope->bodies_count; i++) {
        more = i + 1 < envelope->bodies_count ? ZMQ_SNDMORE : 0;
        failed = send_body(net->socket, envelope->bodies[i], more);
    }
    /* What was begun and cannot be ended: the connection went in between, or memory ran
     * out, and then the frames sent so far are of no use to anyone. */
    return failed == 0 ? 0 : FARPOOL_ECLOSED;
}

/* ------------------------------------------------------------------- receiving */

static bool receive_frame(struct net *net, zmq_msg_t *frame)
{
    zmq_msg_init(frame);
    if (zmq_msg_recv(frame, net->socket, ZMQ_DONTWAIT) >= 0)
        return true;
    zmq_msg_close(frame);
    return false;
}

/* The id that the ROUTER gave its peer; all zero for one that was set by the peer. */
static bool receive_id(struct net *net, uint8_t *routing_id, bool *ret_more)
{
    zmq_msg_t frame;
    if (!receive_frame(net, &frame))
        return false;
    const uint8_t *id = zmq_msg_data(&frame);
    memset(routing_id, 0, ROUTING_ID_SIZE);
    if (zmq_msg_size(&frame) == ROUTING_ID_SIZE && id[0] == 0)
        memcpy(routing_id, id, ROUTING_ID_SIZE);
    *ret_more = zmq_msg_more(&frame) != 0;
    zmq_msg_close(&frame);
    return true;
}

void net_frames_close(struct net *net, size_t count)
{
    for (size_t i = 0; i < count; i++)
        zmq_msg_close(&net->frames[i]);
}

bool net_socket_receive(struct net *net, uint8_t routing_id[ROUTING_ID_SIZE], int *ret_fd,
                        size_t *ret_count, const char **ret_reason)
{
    bool more = true;
    size_t count = 0, bytes = 0;
    zmq_msg_t extra;
    *ret_reason = NULL;
    *ret_fd = -1;
    if (net->socket == NULL || (net->listener && !receive_id(net, routing_id, &more)))
        return false;
    while (more) {
        bool keep = *ret_reason == NULL;
        zmq_msg_t *frame = keep ? &net->frames[count] : &extra;
        if (!receive_frame(net, frame))
            break;
        more = zmq_msg_more(frame) != 0;
        bytes += zmq_msg_size(frame);
        if (count == 0)
            *ret_fd = zmq_msg_get(frame, ZMQ_SRCFD);
        if (!keep)
            zmq_msg_close(&extra);
        else
            count++;
        if (bytes > RECEIVED_BYTES_MAX)
            *ret_reason = "an envelope of too many bytes";
        else if (count > ENVELOPE_FRAMES_MAX && more)
            *ret_reason = "an envelope of too many frames";
    }
    *ret_count = count;
    return net->listener || count > 0;
}
