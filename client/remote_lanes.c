/* SPDX-License-Identifier: Apache-2.0
 *
 * remote_lanes.c: the sockets of a pool's lanes: one dialer for each worker, which shares
 * the threads and the key of the connection to the coordinator. A dial is for one
 * connection: when that ends, the core hears of it, and the dialer is closed.
 *
 * Any thread may say that one is to be dialled or hung up, while another one sleeps on
 * those that are: so `fresh` ones wait for the next move. */
#include "client/remote_lanes.h"
#include "common/base/mem.h"
#include "common/sys/sys.h"

#include <stdio.h>

#define QUEUE_BYTES_MAX (UINT64_C(1) << 30)

struct dial {
    SLIST_ENTRY(dial) entry;
    uint64_t lane;
    char address[ADDRESS_MAX + 1];
    struct hash key;
    struct net *net;    /* NULL: fresh */
    uint64_t link;      /* 0: not connected */
    struct pollfd *fds; /* slept on */
    bool over;
};

static int open_dial(struct dial *dial, struct net *beside)
{
    const struct net_config config = {.address = dial->address,
                                      .server = &dial->key,
                                      .role = 'C',
                                      .peer = 'W',
                                      .beside = beside,
                                      .queue_bytes_max = QUEUE_BYTES_MAX,
                                      .seed = sys_random()};
    return net_dial(&config, &dial->net, NULL);
}

/* What cannot be dialled, the core waits for no longer than for others. */
static void open_fresh(struct remote_lanes *lanes, struct net *beside)
{
    struct dial *dial;
    while ((dial = SLIST_FIRST(&lanes->fresh)) != NULL) {
        SLIST_REMOVE_HEAD(&lanes->fresh, entry);
        if (!dial->over && open_dial(dial, beside) == 0)
            SLIST_INSERT_HEAD(&lanes->dials, dial, entry);
        else
            mem_free(dial);
    }
}

void remote_lanes_dial(struct remote_lanes *lanes, const struct client_effect *effect)
{
    struct dial *dial = mem_alloc(sizeof *dial);
    if (dial == NULL)
        return;
    dial->lane = effect->lane;
    dial->key = effect->content;
    snprintf(dial->address, sizeof dial->address, "%.*s", ADDRESS_MAX, effect->text);
    SLIST_INSERT_HEAD(&lanes->fresh, dial, entry);
}

static struct dial *find(const struct remote_lanes *lanes, uint64_t lane)
{
    struct dial *dial;
    SLIST_FOREACH(dial, &lanes->dials, entry)
    if (dial->lane == lane)
        return dial;
    SLIST_FOREACH(dial, &lanes->fresh, entry)
    if (dial->lane == lane)
        return dial;
    return NULL;
}

void remote_lanes_hang_up(struct remote_lanes *lanes, uint64_t lane)
{
    struct dial *dial = find(lanes, lane);
    if (dial != NULL)
        dial->over = true;
}

void remote_lanes_send(struct remote_lanes *lanes, uint64_t lane,
                       struct message **message)
{
    const struct dial *dial = find(lanes, lane);
    if (dial != NULL && dial->link != 0 && !dial->over)
        net_send(dial->net, dial->link, message);
    message_free(message);
}

struct delivery {
    struct dial *dial;
    const struct transport_turn *turn;
    bool happened;
};

static void deliver(void *user, struct net_event *event)
{
    struct delivery *delivery = user;
    struct dial *dial = delivery->dial;
    struct client_event told = {.lane = dial->lane, .text = event->text};
    if (dial->over)
        return;
    delivery->happened = true;
    if (event->kind == NET_UP) {
        dial->link = event->link;
        told.kind = CLIENT_LINK_UP;
    } else if (event->kind == NET_MESSAGE) {
        told.kind = CLIENT_MESSAGE;
        told.message = event->message;
        event->message = NULL;
    } else {
        dial->over = true;
        told.kind = CLIENT_LINK_DOWN;
    }
    delivery->turn->deliver(delivery->turn->user, &told);
}

static void close_over(struct remote_lanes *lanes, bool all)
{
    struct dial *dial, *next;
    SLIST_FOREACH_SAFE(dial, &lanes->dials, entry, next)
    {
        if (!all && !dial->over)
            continue;
        SLIST_REMOVE(&lanes->dials, dial, dial, entry);
        net_close(dial->net, 0);
        mem_free(dial);
    }
}

bool remote_lanes_move(struct remote_lanes *lanes, struct net *beside,
                       const struct transport_turn *turn)
{
    bool happened = false;
    struct dial *dial;
    open_fresh(lanes, beside);
    SLIST_FOREACH(dial, &lanes->dials, entry)
    {
        struct delivery delivery = {dial, turn, false};
        net_flush(dial->net);
        net_poll(dial->net, turn->now_ms, deliver, &delivery);
        happened |= delivery.happened;
    }
    close_over(lanes, false);
    return happened;
}

int remote_lanes_wait_begin(struct remote_lanes *lanes, struct pollfd *fds,
                            int *timeout_ms)
{
    int count = 0;
    struct dial *dial;
    SLIST_FOREACH(dial, &lanes->dials, entry)
    {
        dial->fds = &fds[count];
        count += net_wait_begin(dial->net, dial->fds, timeout_ms);
    }
    return count;
}

void remote_lanes_wait_end(struct remote_lanes *lanes)
{
    struct dial *dial;
    SLIST_FOREACH(dial, &lanes->dials, entry)
    net_wait_end(dial->net, dial->fds);
}

uint64_t remote_lanes_deadline(const struct remote_lanes *lanes)
{
    uint64_t deadline = UINT64_MAX;
    const struct dial *dial;
    SLIST_FOREACH(dial, &lanes->dials, entry)
    if (net_deadline(dial->net) < deadline)
        deadline = net_deadline(dial->net);
    return deadline;
}

void remote_lanes_close(struct remote_lanes *lanes)
{
    struct dial *dial;
    while ((dial = SLIST_FIRST(&lanes->fresh)) != NULL) {
        SLIST_REMOVE_HEAD(&lanes->fresh, entry);
        mem_free(dial);
    }
    close_over(lanes, true);
}
