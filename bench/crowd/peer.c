/* SPDX-License-Identifier: Apache-2.0
 *
 * peer.c: what nodes and apps have in common: a link to the coordinator, whichever that
 * is, and an instant at which they look at what came. */
#include "crowd.h"

struct peer *crowd_peer(struct crowd *crowd, uint32_t place)
{
    if (place < crowd->options.nodes)
        return &crowd->nodes[place].peer;
    return &crowd->apps[place - crowd->options.nodes].peer;
}

static void look(struct crowd *crowd, void *object, uint64_t at_us, uint64_t unused)
{
    struct peer *peer = object;
    (void)crowd, (void)unused;
    if (peer->wake_at_us != at_us)
        return;
    peer->wake_at_us = CROWD_FOREVER;
    if (peer->worker)
        crowd_node_look((struct node *)peer);
    else
        crowd_app_look((struct app *)peer);
}

void crowd_wake(struct peer *peer, uint64_t at_us)
{
    if (at_us < peer->crowd->now_us)
        at_us = peer->crowd->now_us;
    if (at_us >= peer->wake_at_us)
        return;
    peer->wake_at_us = at_us;
    crowd_at(peer->crowd, at_us, look, peer, at_us, 0);
}

void crowd_peer_take(struct peer *peer, struct message *message)
{
    struct message **place = crowd_add(&peer->messages, sizeof message);
    *place = message;
    crowd_wake(peer, peer->crowd->now_us);
}

void crowd_peer_say(struct peer *peer, struct message *message)
{
    if (peer->crowd->wire != NULL)
        crowd_wire_say(peer->crowd, peer, message);
    else
        crowd_hub_take(peer->crowd, peer->place + 1, message);
}
