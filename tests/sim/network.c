/* SPDX-License-Identifier: Apache-2.0
 *
 * network.c: links between the coordinator and its peers. Each direction keeps its order
 * and delays at random; a link that ends takes what was on its way with it, or part of
 * it, and each side learns at a time of its own or never (then by silence).
 *
 * In half of the seeds each message is encoded and decoded as on a real wire, which
 * also checks that no core sends what a peer would refuse to read. */
#include "sim.h"

#include <stdlib.h>

#define DELAY_MAX_US 50000

/* Encoded, or as it is; neither: the sender's goodbye. */
struct packet {
    struct frames frames;
    struct message *message;
    bool end;
};

struct link *sim_link_find(struct sim *sim, uint64_t number)
{
    if (number == 0 || number > sim->links.count)
        return NULL;
    return *(struct link **)sim_queue_at(&sim->links, number - 1);
}

static void drop_packet(struct packet *packet)
{
    message_free(&packet->message);
    frames_fini(&packet->frames);
}

/* Forgets what is on its way, keeping the first `keep` packets. */
static void drop_packets(struct lane *lane, size_t keep)
{
    while (lane->packets.count > keep) {
        drop_packet(sim_queue_at(&lane->packets, lane->packets.count - 1));
        lane->packets.count--;
    }
}

/* ------------------------------------------------------------------ ending */

static void push_to_node(struct sim *sim, int place, const struct link *link,
                         uint64_t lane, struct message *message)
{
    struct worker_event event = {.kind = message ? WORKER_MESSAGE : WORKER_LINK_DOWN,
                                 .message = message,
                                 .lane = lane,
                                 .key = &link->key,
                                 .text = "cut"};

    sim_node_push(sim, &sim->nodes[place], &event, 0);
}

/* To the host (TO_COORDINATOR) or to who has dialled; NULL: the link's end. */
static void push_direct(struct sim *sim, struct link *link, int side,
                        struct message *message)
{
    if (side == TO_COORDINATOR)
        push_to_node(sim, link->host, link, link->number, message);
    else if (link->worker)
        push_to_node(sim, link->place, link, link->lane, message);
    else
        sim_app_push_lane(sim, &sim->apps[link->place],
                          message ? CLIENT_MESSAGE : CLIENT_LINK_DOWN, link->lane,
                          message);
}

static bool is_owner(const struct link *link)
{
    return link->place >= OWNER_PLACE && link->place < SQUATTER_PLACE;
}

static void tell_down(struct sim *sim, struct link *link, int side)
{
    if (link->direct) {
        push_direct(sim, link, side, NULL);
    } else if (side == TO_COORDINATOR) {
        sim_coordinator_push(sim, link->number, NULL);
    } else if (link->worker) {
        struct worker_event event = {.kind = WORKER_LINK_DOWN, .text = "cut"};
        sim_node_push(sim, &sim->nodes[link->place], &event, link->number);
    } else if (is_owner(link)) {
        sim_owner_hear(sim, link, NULL);
    } else {
        sim_app_push(sim, &sim->apps[link->place], CLIENT_LINK_DOWN, -1, link->number,
                     NULL);
    }
}

static void learn_down(struct sim *sim, uint64_t number, uint64_t side, uint64_t unused)
{
    struct link *link = sim_link_find(sim, number);

    (void)unused;
    if (!link->lanes[side].open)
        return;
    link->lanes[side].open = false;
    drop_packets(&link->lanes[side], 0);
    tell_down(sim, link, (int)side);
}

void sim_link_cut(struct sim *sim, struct link *link, bool silent)
{
    sim_trace(sim, "link %llu is cut%s", (unsigned long long)link->number,
              silent ? " and nobody is told" : "");
    for (int side = 0; side < 2; side++) {
        struct lane *lane = &link->lanes[side];

        lane->deaf = true;
        drop_packets(lane, sim_dice(sim, lane->packets.count + 1));
        if (!silent)
            sim_at(sim, sim->now_us + sim_dice(sim, sim_chance(sim, 4) ? 2000000 : 20000),
                   learn_down, link->number, (uint64_t)side, 0);
    }
}

void sim_links_cut_all(struct sim *sim)
{
    for (size_t i = 1; i <= sim->links.count; i++) {
        struct link *link = sim_link_find(sim, i);

        if (link->direct)
            continue;
        link->lanes[TO_COORDINATOR].open = false;
        drop_packets(&link->lanes[TO_COORDINATOR], 0);
        if (link->lanes[TO_PEER].open)
            sim_link_cut(sim, link, sim_chance(sim, 10));
    }
}

/* ----------------------------------------------------------------- sending */

static void arrive(struct sim *sim, struct link *link, int side, struct packet *packet)
{
    const char *reason = "";

    if (packet->end) {
        learn_down(sim, link->number, (uint64_t)side, 0);
        return;
    }
    if (!packet->message &&
        message_decode(&packet->frames, &packet->message, &reason) != 0)
        sim_fail(sim, "a message that was sent cannot be read: %s", reason);
    frames_fini(&packet->frames);
    if (link->direct) {
        push_direct(sim, link, side, packet->message);
    } else if (side == TO_COORDINATOR) {
        sim_coordinator_push(sim, link->number, packet->message);
    } else if (link->worker) {
        struct worker_event event = {.kind = WORKER_MESSAGE, .message = packet->message};
        sim_node_push(sim, &sim->nodes[link->place], &event, link->number);
    } else if (is_owner(link)) {
        sim_owner_hear(sim, link, packet->message);
    } else {
        sim_app_push(sim, &sim->apps[link->place], CLIENT_MESSAGE, -1, link->number,
                     packet->message);
    }
    packet->message = NULL;
}

static void deliver(struct sim *sim, uint64_t number, uint64_t side, uint64_t unused)
{
    struct link *link = sim_link_find(sim, number);
    struct packet packet;

    (void)unused;
    if (!sim_queue_pop(&link->lanes[side].packets, &packet))
        return;
    if (link->lanes[side].open)
        arrive(sim, link, (int)side, &packet);
    drop_packet(&packet);
}

static void put(struct sim *sim, struct link *link, int side, struct packet *packet)
{
    struct lane *lane = &link->lanes[side];
    uint64_t at_us =
        sim->now_us + sim_dice(sim, sim_chance(sim, 4) ? DELAY_MAX_US : 2000);

    if (sim->now_us < link->lag_until_us)
        at_us += link->lag_us;
    if (at_us < lane->last_at_us)
        at_us = lane->last_at_us;
    lane->last_at_us = at_us;
    sim_queue_push(&lane->packets, packet, sizeof *packet);
    sim_at(sim, at_us, deliver, link->number, (uint64_t)side, 0);
}

static char peer_role(const struct link *link)
{
    return link->worker ? 'W' : 'C';
}

static bool may_send(const struct link *link, int side, enum message_kind kind)
{
    const char other = link->direct ? 'W' : 'K';

    return side == TO_PEER ? message_allowed(kind, other, peer_role(link))
                           : message_allowed(kind, peer_role(link), other);
}

/* Whether the harness loses this one, to see that the checks notice. */
static bool is_sabotaged(struct sim *sim, const struct message *message)
{
    if (sim->options.broken == BREAK_DROP_RESULT && !sim->broke &&
        message->kind == MSG_DONE) {
        sim->broke = true;
        return true;
    }
    if (sim->options.broken == BREAK_DROP_OUTPUT && !sim->broke &&
        message->kind == MSG_OUTPUT) {
        sim->broke = true;
        return true;
    }
    return sim->options.broken == BREAK_HOLD_ACKS && message->kind == MSG_ACK;
}

void sim_link_send(struct sim *sim, uint64_t number, int side, struct message **message)
{
    struct link *link = sim_link_find(sim, number);
    struct packet packet = {.message = *message};

    *message = NULL;
    if (!link || !may_send(link, side, packet.message->kind)) {
        if (link)
            sim_fail(sim, "%c may not send %s",
                     side == TO_COORDINATOR ? peer_role(link)
                     : link->direct         ? 'W'
                                            : 'K',
                     message_name(packet.message->kind));
        drop_packet(&packet);
        return;
    }
    struct lane *lane = &link->lanes[side];
    if (!lane->open || lane->deaf || !link->lanes[1 - side].open ||
        is_sabotaged(sim, packet.message)) {
        drop_packet(&packet);
        return;
    }
    if (sim->plan.encode) {
        int result = message_encode(packet.message, &packet.frames);

        if (result != 0)
            sim_fail(sim, "message_encode(%s): %d", message_name(packet.message->kind),
                     result);
        message_free(&packet.message);
    }
    put(sim, link, side, &packet);
}

void sim_link_close(struct sim *sim, uint64_t number, int other)
{
    struct link *link = sim_link_find(sim, number);

    if (!link || !link->lanes[1 - other].open)
        return;
    link->lanes[1 - other].open = false;
    drop_packets(&link->lanes[1 - other], 0);
    if (link->lanes[other].open && !link->lanes[other].deaf)
        put(sim, link, other, &(struct packet){.end = true});
}

/* ----------------------------------------------------------------- dialing */

static struct actor *peer_actor(struct sim *sim, bool worker, int place)
{
    return worker ? &sim->nodes[place].actor : &sim->apps[place].actor;
}

static struct link *add_link(struct sim *sim, bool worker, int place)
{
    struct link *link = sim_alloc(sizeof *link);

    link->number = sim->links.count + 1;
    link->worker = worker;
    link->place = place;
    link->incarnation = peer_actor(sim, worker, place)->incarnation;
    link->lanes[0].open = link->lanes[1].open = true;
    sim_queue_push(&sim->links, &link, sizeof link);
    return link;
}

static void connect_peer(struct sim *sim, bool worker, int place)
{
    const struct link *link = add_link(sim, worker, place);

    if (worker) {
        struct node *node = &sim->nodes[place];
        struct worker_event event = {.kind = WORKER_LINK_UP};
        sim_lane_address(node, place, node->address, sizeof node->address);
        event.text = sim->plan.lanes ? node->address : NULL;
        sim->nodes[place].link = link->number;
        sim->nodes[place].dialing = false;
        sim_node_push(sim, &sim->nodes[place], &event, link->number);
    } else {
        sim->apps[place].link = link->number;
        sim->apps[place].dialing = false;
        sim_app_push(sim, &sim->apps[place], CLIENT_LINK_UP, -1, link->number, NULL);
    }
}

void sim_link_direct(struct sim *sim, bool worker, int place, uint64_t lane, int host)
{
    struct link *link = add_link(sim, worker, place);

    link->direct = true;
    link->host = host;
    link->lane = lane;
    link->key = sim_keys_holder(sim, link).key;
    sim_trace(sim, "%c%d has dialled W%d: link %llu", peer_role(link), place, host,
              (unsigned long long)link->number);
    if (worker) {
        struct worker_event event = {.kind = WORKER_LINK_UP, .lane = lane};
        sim_node_push(sim, &sim->nodes[place], &event, 0);
    } else {
        sim_app_push_lane(sim, &sim->apps[place], CLIENT_LINK_UP, lane, NULL);
    }
}

uint64_t sim_link_outsider(struct sim *sim, int place)
{
    struct link *link = sim_alloc(sizeof *link);

    link->number = sim->links.count + 1;
    link->place = place;
    sim_queue_push(&sim->links, &link, sizeof link);
    return link->number;
}

static void try_connect(struct sim *sim, uint64_t worker, uint64_t place,
                        uint64_t incarnation)
{
    const struct actor *actor = peer_actor(sim, worker, (int)place);

    if (!actor->alive || actor->incarnation != incarnation)
        return;
    if (!sim->coordinator.actor.alive)
        sim_at(sim, sim->now_us + sim_between(sim, 50000, 500000), try_connect, worker,
               place, incarnation);
    else
        connect_peer(sim, worker, (int)place);
}

void sim_link_dial(struct sim *sim, bool worker, int place)
{
    uint64_t incarnation = peer_actor(sim, worker, place)->incarnation;
    bool *dialing = worker ? &sim->nodes[place].dialing : &sim->apps[place].dialing;

    if (*dialing)
        return;
    *dialing = true;
    sim_at(sim, sim->now_us + sim_between(sim, 1000, 200000), try_connect, worker,
           (uint64_t)place, incarnation);
}

void sim_links_fini(struct sim *sim)
{
    for (size_t i = 1; i <= sim->links.count; i++) {
        struct link *link = sim_link_find(sim, i);

        for (int side = 0; side < 2; side++) {
            drop_packets(&link->lanes[side], 0);
            sim_queue_fini(&link->lanes[side].packets);
        }
        free(link);
    }
    sim_queue_fini(&sim->links);
}
