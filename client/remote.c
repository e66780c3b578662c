/* SPDX-License-Identifier: Apache-2.0
 *
 * remote.c: a pool on a cluster: the client core's messages over ZeroMQ (common/net).
 * What is sent is queued here until a move, since only the thread that drives may touch
 * the sockets; a connection that is lost is dialled again for ever by net. */
#include "client/credential.h"
#include "client/queue.h"
#include "client/remote_lanes.h"
#include "client/transport.h"
#include "common/base/error.h"
#include "common/base/mem.h"
#include "common/net/net.h"
#include "common/sys/sys.h"

#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#define QUEUE_BYTES_MAX (UINT64_C(4) << 30) /* the core's window is far below it */
#define LINGER_MS 500
#define LANE (UINT64_C(1) << 63) /* in the queue: the rest is a lane's number */
#define SPIN_NS 400000 /* of a wait: some ways to a node and back on idle cores */
#define SPIN_RESTS_MAX 64

struct remote {
    struct transport transport;
    struct net *net;
    uint64_t link; /* 0: not connected */
    struct queue queue;
    struct remote_lanes lanes;
    const struct transport_turn *turn; /* while in move */
    bool relink;                       /* to be done by the next move */
    char text[256];
    bool happened, worked; /* in this move; since the last wait */
    int wake_fd;
    uint32_t spin_rest, spin_rests; /* waits to go without spinning, and the last such */
};

static struct remote *of(const struct transport *transport)
{
    return (struct remote *)(uintptr_t)transport;
}

static void deliver(void *user, struct net_event *event)
{
    struct remote *remote = user;
    struct client_event told = {.text = event->text};

    remote->happened = true;
    switch (event->kind) {
    case NET_UP:
        remote->link = event->link;
        told.kind = CLIENT_LINK_UP;
        break;
    case NET_DOWN:
        if (event->link != remote->link)
            return;
        queue_drop(&remote->queue, remote->link);
        remote->link = 0;
        told.kind = CLIENT_LINK_DOWN;
        break;
    case NET_REFUSED:
        told.kind = CLIENT_LINK_REFUSED;
        break;
    case NET_MESSAGE:
        if (event->link != remote->link)
            return;
        told.kind = CLIENT_MESSAGE;
        told.message = event->message;
        event->message = NULL;
        break;
    }
    remote->turn->deliver(remote->turn->user, &told);
}

static void send_queued(struct remote *remote)
{
    struct message *message;
    uint64_t link;

    while ((message = queue_pop(&remote->queue, &link)) != NULL) {
        if (link & LANE)
            remote_lanes_send(&remote->lanes, link & ~LANE, &message);
        else if (remote->link != 0)
            net_send(remote->net, remote->link, &message);
        message_free(&message);
        remote->happened = true;
    }
    net_flush(remote->net);
}

static bool move(struct transport *transport, const struct transport_turn *turn)
{
    struct remote *remote = of(transport);

    remote->turn = turn;
    remote->happened = false;
    send_queued(remote);
    if (remote->relink) {
        net_drop(remote->net, remote->link, remote->text);
        remote->link = 0;
        remote->relink = false;
    }
    net_poll(remote->net, turn->now_ms, deliver, remote);
    remote->happened |= remote_lanes_move(&remote->lanes, remote->net, turn);
    remote->worked |= remote->happened;
    return remote->happened;
}

/* ZeroMQ may hold on to bytes for longer than the caller waits who has lent them: they go
 * as copies, made as the window lets them go, so never of all of a job at once. */
static int copy_lent(struct message *message)
{
    if (message->kind != MSG_TASKS)
        return 0;
    for (size_t i = 0; i < message->tasks.spans_count; i++) {
        struct payload **data = &message->tasks.spans[i].data, *copy;

        if (*data == NULL || !(*data)->lent)
            continue;
        if ((copy = payload_copy((*data)->data, (*data)->size)) == NULL)
            return FARPOOL_ENOMEM;
        payload_unref(data);
        *data = copy;
    }
    return 0;
}

static int send_message(struct transport *transport, uint64_t lane,
                        struct message **message)
{
    struct remote *remote = of(transport);

    if (lane == 0 && (remote->link == 0 || remote->relink)) {
        message_free(message); /* of a connection that is gone */
        return 0;
    }
    if (copy_lent(*message) != 0)
        return FARPOOL_ENOMEM;
    return queue_push(&remote->queue, lane != 0 ? LANE | lane : remote->link, message);
}

static void relink(struct transport *transport, const char *text)
{
    struct remote *remote = of(transport);

    if (remote->link == 0)
        return;
    remote->relink = true;
    snprintf(remote->text, sizeof remote->text, "%s", text != NULL ? text : "");
}

static uint64_t deadline(const struct transport *transport)
{
    const uint64_t own = net_deadline(of(transport)->net);
    const uint64_t lanes = remote_lanes_deadline(&of(transport)->lanes);

    return own < lanes ? own : lanes;
}

static void dial(struct transport *transport, const struct client_effect *effect)
{
    remote_lanes_dial(&of(transport)->lanes, effect);
}

static void hang_up(struct transport *transport, uint64_t lane)
{
    remote_lanes_hang_up(&of(transport)->lanes, lane);
}

static bool sleep_begins(struct transport *transport)
{
    return queue_empty(&of(transport)->queue);
}

/* Looks for an answer without sleeping, yielding to whoever wants the core: on an idle
 * machine a core that has gone to sleep costs more time than the whole way there and
 * back. What does not come soon, as where tasks take longer or have all the cores, ends
 * it for some waits, for more of them each time. */
static bool spin(struct remote *remote, struct pollfd *fds, int count)
{
    const uint64_t until_ns = sys_now_ns() + SPIN_NS;

    if (remote->spin_rest > 0) {
        remote->spin_rest--;
        return false;
    }
    do {
        if (poll(fds, (nfds_t)count, 0) > 0) {
            remote->spin_rests = 0;
            return true;
        }
        sched_yield();
    } while (sys_now_ns() < until_ns);
    remote->spin_rests = 2 * remote->spin_rests + 1;
    if (remote->spin_rests > SPIN_RESTS_MAX)
        remote->spin_rests = SPIN_RESTS_MAX;
    remote->spin_rest = remote->spin_rests;
    return false;
}

static void wait(struct transport *transport, uint64_t until_ms)
{
    struct remote *remote = of(transport);
    struct pollfd fds[NET_WAIT_FDS * (1 + REMOTE_LANES_MAX) + 1] = {
        {.fd = remote->wake_fd, .events = POLLIN}};
    int timeout_ms = wake_timeout(sys_now_ms(), until_ms);
    int count = 1 + net_wait_begin(remote->net, &fds[1], &timeout_ms);

    count += remote_lanes_wait_begin(&remote->lanes, &fds[count], &timeout_ms);

    if (timeout_ms == 0 || !remote->worked || !spin(remote, fds, count))
        poll(fds, (nfds_t)count, timeout_ms);
    remote->worked = false;
    net_wait_end(remote->net, &fds[1]);
    remote_lanes_wait_end(&remote->lanes);
}

static void woken(struct transport *transport)
{
    wake_clear(of(transport)->wake_fd);
}

static void wake(struct transport *transport)
{
    wake_send(of(transport)->wake_fd);
}

static int broken(const struct transport *transport)
{
    (void)transport;
    return 0;
}

static void close_remote(struct transport *transport)
{
    struct remote *remote = of(transport);

    if (remote == NULL)
        return;
    if (remote->net != NULL)
        send_queued(remote);
    remote_lanes_close(&remote->lanes);
    net_close(remote->net, LINGER_MS);
    queue_fini(&remote->queue);
    if (remote->wake_fd >= 0)
        close(remote->wake_fd);
    mem_free(remote);
}

static const struct transport_kind remote_kind = {
    .name = "remote",
    .lends = true,
    .threaded = true,
    .close = close_remote,
    .send = send_message,
    .dial = dial,
    .hang_up = hang_up,
    .relink = relink,
    .move = move,
    .deadline = deadline,
    .sleep = sleep_begins,
    .wait = wait,
    .woken = woken,
    .wake = wake,
    .broken = broken,
};

int remote_open(const char *address, struct transport **ret_transport,
                farpool_error *error)
{
    const struct net_config config = {
        .address = address,
        .role = 'C',
        .queue_bytes_max = QUEUE_BYTES_MAX,
        .seed = sys_random(),
    };
    struct remote *remote = mem_alloc(sizeof *remote);
    int code;

    if (remote == NULL)
        return error_set(error, FARPOOL_ENOMEM, "open: out of memory");
    remote->transport.kind = &remote_kind;
    remote->wake_fd = code = wake_open(error);
    if (code >= 0)
        code = credential_dial(&config, &remote->net, &remote->transport.key, error);
    if (code != 0) {
        close_remote(&remote->transport);
        return code;
    }
    *ret_transport = &remote->transport;
    return 0;
}
