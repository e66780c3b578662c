/* SPDX-License-Identifier: Apache-2.0
 *
 * wire.c: a crowd whose coordinator is a daemon: each peer has a connection of its own
 * (bench/dial.c), and time is real. Some dial at a time, since a handshake has five
 * seconds at the coordinator, which has to take thousands. */
#include "bench/dial.h"
#include "crowd.h"

#include "common/base/mem.h"
#include "common/sys/sys.h"

#include <stdlib.h>
#include <time.h>

enum { SOME = 50, EVENTS = 256, TICK_MS = 20 };

struct wire {
    void **links;    /* by the peer's place; NULL: it has not dialled yet */
    bool *up;        /* by the same */
    uint32_t opened; /* the first ones have dialled */
    uint32_t talk;   /* the first ones are up */
    uint64_t began_us;
    struct peer *speaker; /* whose messages are packed and not sent yet */
};

static uint64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

static void take(void *user, struct message *message)
{
    crowd_peer_take(user, message);
}

/* A send may take the sign away that something has come. */
static void send_packed(struct crowd *crowd)
{
    struct peer *speaker = crowd->wire->speaker;
    crowd->wire->speaker = NULL;
    if (speaker != NULL && dial_send(crowd->wire->links[speaker->place]))
        dial_read(crowd->wire->links[speaker->place], take, speaker);
}

void crowd_wire_say(struct crowd *crowd, struct peer *peer, struct message *message)
{
    if (crowd->wire->speaker != peer)
        send_packed(crowd);
    crowd->wire->speaker = peer;
    dial_say(crowd->wire->links[peer->place], message);
}

/* ------------------------------------------------------------------- dialling */

static void come_up(struct peer *peer)
{
    if (peer->worker)
        crowd_node_up((struct node *)peer);
    else
        crowd_app_up((struct app *)peer);
}

static void dial_some(struct crowd *crowd)
{
    struct wire *wire = crowd->wire;
    const uint32_t all = crowd->options.nodes + crowd->options.apps;
    while (wire->opened < all && wire->opened < wire->talk + SOME) {
        wire->links[wire->opened] = dial_open(crowd_peer(crowd, wire->opened));
        wire->opened++;
    }
    for (uint32_t i = wire->talk; i < wire->opened; i++)
        if (!wire->up[i] && dial_is_up(wire->links[i])) {
            wire->up[i] = true;
            come_up(crowd_peer(crowd, i));
        }
    while (wire->talk < wire->opened && wire->up[wire->talk])
        wire->talk++;
}

/* -------------------------------------------------------------------- waiting */

static int timeout_ms(const struct crowd *crowd, uint64_t until_us)
{
    const uint64_t deadline_us = crowd_deadline_us(crowd);
    const uint64_t next_us = deadline_us < until_us ? deadline_us : until_us;
    const uint64_t left_ms =
        next_us > crowd->now_us ? (next_us - crowd->now_us + 999) / 1000 : 0;
    return left_ms < TICK_MS ? (int)left_ms : TICK_MS;
}

void crowd_wire_wait(struct crowd *crowd, uint64_t until_us)
{
    void *tags[EVENTS];
    struct wire *wire = crowd->wire;
    send_packed(crowd);
    dial_some(crowd);
    const size_t ready = dial_wait(timeout_ms(crowd, until_us), tags, EVENTS);
    crowd->now_us = now_us() - wire->began_us;
    for (size_t i = 0; i < ready; i++) {
        struct peer *peer = tags[i];
        dial_read(wire->links[peer->place], take, peer);
    }
}

void crowd_wire_start(struct crowd *crowd)
{
    const uint32_t all = crowd->options.nodes + crowd->options.apps;
    struct wire *wire = crowd_need(calloc(1, sizeof *wire));
    wire->links = crowd_need(calloc(all, sizeof *wire->links));
    wire->up = crowd_need(calloc(all, sizeof *wire->up));
    wire->began_us = now_us();
    crowd->wire = wire;
    dial_start(all, crowd->options.address);
}
