/* SPDX-License-Identifier: Apache-2.0
 *
 * receive.c: from frames to messages. Large bodies stay where ZeroMQ received them, and
 * the payload's release closes the ZeroMQ message; small ones are copied, since they may
 * share a receive buffer with others that would be kept alive.
 *
 * Whatever breaks a rule (bounds, form, a kind that the peer may not send, a first
 * message that is no hello) breaks its link with a reason, and nothing else. */
#include "common/base/spare.h"
#include "common/net/net_internal.h"

#include <string.h>

#define BATCH_ENVELOPES 256
#define BATCH_BYTES (32 * MIB)

static void release_frame(struct payload *payload)
{
    zmq_msg_t *frame = payload->owner;
    zmq_msg_close(frame);
    mem_free(frame);
}

static struct payload *wrap_frame(zmq_msg_t *frame)
{
    if (zmq_msg_size(frame) <= BODY_COPY_MAX)
        return payload_copy(zmq_msg_data(frame), zmq_msg_size(frame));
    spare_teach_malloc(); /* which this frame's memory is of */
    zmq_msg_t *owner = mem_alloc(sizeof *owner);
    if (owner == NULL)
        return NULL;
    zmq_msg_init(owner);
    zmq_msg_move(owner, frame);
    struct payload *payload =
        payload_wrap(zmq_msg_data(owner), zmq_msg_size(owner), release_frame, owner);
    if (payload == NULL) {
        zmq_msg_close(owner);
        mem_free(owner);
    }
    return payload;
}

/* Who says this as its first word; 0: nobody. 'E': enrols, and has nothing more to say.
 */
static char role_of(char listener, const struct message *first_word)
{
    switch (first_word->kind) {
    case MSG_HELLO_CLIENT:
        return listener == 'K' ? 'C' : 0;
    case MSG_HELLO_WORKER:
        return listener == 'K' ? 'W' : 0;
    case MSG_ENROL:
        return listener == 'K' ? 'E' : 0;
    case MSG_HELLO_LANE:
        if (listener != 'W')
            return 0;
        return first_word->hello_lane.worker ? 'W' : 'C';
    default:
        return 0;
    }
}

/* What a peer may say, given what it has said before. */
static bool check_kind(struct net *net, struct link *link, const struct message *message)
{
    const enum message_kind kind = message->kind;
    if (link->role == 0) {
        link->role = role_of(net->role, message);
        if (link->role == 0)
            net_link_break(net, link, "%s before a hello", message_name(kind));
        return link->role != 0;
    }
    if (kind == MSG_PART || !message_allowed(kind, link->role, net->role)) {
        net_link_break(net, link, "%s is not for this peer to send", message_name(kind));
        return false;
    }
    return true;
}

static const struct holder *holder_of(const struct net *net, const struct link *link)
{
    return net->listener && net->keyed ? &link->holder : NULL;
}

static void receive_message(struct net *net, struct link *link,
                            const struct frames *frames, bool assembled,
                            struct delivery *delivery);

static void receive_part(struct net *net, struct link *link, const struct message *part,
                         struct delivery *delivery)
{
    struct frames frames = {0};
    const char *reason = "";
    if (link->role == 0 || link->role == 'E') {
        net_link_break(net, link, "PART before a hello");
        return;
    }
    int result = net_assembly_add(&link->assembly, part, &frames, &reason);
    if (result == FARPOOL_END)
        receive_message(net, link, &frames, true, delivery);
    else if (result == FARPOOL_EPROTOCOL)
        net_link_break(net, link, "%s", reason);
    else if (result != 0)
        net_link_break(net, link, "out of memory for a message of %llu bytes",
                       (unsigned long long)part->part.total);
    frames_fini(&frames);
}

static void receive_message(struct net *net, struct link *link,
                            const struct frames *frames, bool assembled,
                            struct delivery *delivery)
{
    struct message *message = NULL;
    const char *reason = "";
    int result = message_decode(frames, &message, &reason);
    if (result == FARPOOL_EPROTOCOL) {
        net_link_break(net, link, "bad message: %s", reason);
        return;
    }
    if (result != 0) {
        net_link_break(net, link, "out of memory for a message");
        return;
    }
    if (message->kind == MSG_PART && !assembled) {
        receive_part(net, link, message, delivery);
    } else if (check_kind(net, link, message)) {
        struct net_event event = {.kind = NET_MESSAGE,
                                  .link = link->number,
                                  .message = message,
                                  .holder = holder_of(net, link)};
        message = NULL;
        net_deliver_event(delivery, &event);
    }
    message_free(&message);
}

/* The messages of an envelope whose form has been checked, while the link lasts. */
static void receive_messages(struct net *net, struct link *link,
                             struct envelope_reader *reader, struct delivery *delivery)
{
    struct envelope_item item;
    size_t first = 0;
    while ((link->state == LINK_UP || link->state == LINK_LOST) &&
           net_envelope_next(reader, &item)) {
        struct payload *header = payload_wrap(item.header, item.header_size, NULL, NULL);
        if (header == NULL) {
            net_link_break(net, link, "out of memory for a message");
            return;
        }
        struct frames frames = {header, net->bodies + first, item.bodies_count};
        receive_message(net, link, &frames, false, delivery);
        first += item.bodies_count;
        payload_unref(&header);
    }
}

static bool wrap_bodies(struct net *net, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        net->bodies[i] = wrap_frame(&net->frames[i + 1]);
        if (net->bodies[i] == NULL) {
            while (i > 0)
                payload_unref(&net->bodies[--i]);
            return false;
        }
    }
    return true;
}

static void receive_envelope(struct net *net, struct link *link, size_t count,
                             struct delivery *delivery)
{
    struct envelope_reader reader;
    const char *reason = "an empty message";
    if (count > 0)
        reason = net_envelope_open(zmq_msg_data(&net->frames[0]),
                                   zmq_msg_size(&net->frames[0]), count - 1, &reader);
    if (reason != NULL) {
        net_link_break(net, link, "%s", reason);
        return;
    }
    if (!wrap_bodies(net, count - 1)) {
        net_link_break(net, link, "out of memory for %zu bodies", count - 1);
        return;
    }
    net->redials = 0;
    receive_messages(net, link, &reader, delivery);
    for (size_t i = 0; i + 1 < count; i++)
        payload_unref(&net->bodies[i]);
}

/* A new peer of a listener. */
static struct link *accept_link(struct net *net, const uint8_t *routing_id, int fd,
                                const struct hash *key, struct delivery *delivery)
{
    struct link *link;
    struct holder holder = {.role = HOLDER_NONE};
    net_monitor_drain(net);
    if (net->keyed && !net->keys.authorize(net->keys.user, key, &holder)) {
        net_zap_tell_refused(net, key, "the key was revoked");
        net_monitor_refuse(net, fd);
        return NULL;
    }
    if (net_link_create(net, routing_id, &link) != 0) {
        net_monitor_refuse(net, fd); /* its hello is lost: it has to dial again */
        return NULL;
    }
    link->holder = holder;
    net_monitor_bind(net, link, fd);
    struct net_event event = {
        .kind = NET_UP, .link = link->number, .holder = holder_of(net, link)};
    net_deliver_event(delivery, &event);
    return link;
}

void net_link_announce(struct net *net, struct delivery *delivery)
{
    struct link *link = net->dialled;
    if (net->dial_refused != NULL) {
        struct net_event refused = {.kind = NET_REFUSED, .text = net->dial_refused};
        net->dial_refused = NULL;
        net_deliver_event(delivery, &refused);
    }
    if (link == NULL || link->role != 0)
        return;
    link->role = net->peer;
    struct net_event event = {.kind = NET_UP, .link = link->number};
    net_deliver_event(delivery, &event);
}

/* It is read from a frame of the body: that of the routing id has none. */
static bool read_key(struct net *net, size_t count, struct hash *ret_key)
{
    return count > 0 &&
           net_zap_read_user(zmq_msg_gets(&net->frames[0], "User-Id"), ret_key);
}

static struct link *find_link(struct net *net, const uint8_t *routing_id, int fd,
                              size_t count, struct delivery *delivery)
{
    static const uint8_t own_choice[ROUTING_ID_SIZE];
    if (!net->listener) {
        if (net->dialled == NULL)
            net_monitor_drain(net);
        net_link_announce(net, delivery);
        return net->dialled;
    }
    if (memcmp(routing_id, own_choice, ROUTING_ID_SIZE) == 0)
        return NULL;
    struct hash key = {.bytes = {0}};
    struct link *link = net_link_find_id(net, routing_id);
    if (net->keyed && !read_key(net, count, &key)) {
        net_zap_tell_refused(net, NULL, "a message without a proved key");
        if (link == NULL)
            net_monitor_refuse(net, fd);
        return NULL;
    }
    if (link == NULL)
        return accept_link(net, routing_id, fd, &key, delivery);
    if (net->keyed && !hash_equal(&key, &link->holder.key)) {
        net_link_break(net, link, "a message of another key");
        return NULL;
    }
    return link;
}

static size_t frames_bytes(struct net *net, size_t count)
{
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += zmq_msg_size(&net->frames[i]);
    return bytes;
}

bool net_receive_batch(struct net *net, struct delivery *delivery)
{
    uint8_t routing_id[ROUTING_ID_SIZE];
    size_t count, bytes = 0;
    const char *reason;
    int fd;
    for (int i = 0; i < BATCH_ENVELOPES && bytes < BATCH_BYTES; i++) {
        if (!net_socket_receive(net, routing_id, &fd, &count, &reason))
            return true;
        bytes += frames_bytes(net, count);
        struct link *link = find_link(net, routing_id, fd, count, delivery);
        bool read = link != NULL && (link->state == LINK_UP || link->state == LINK_LOST);
        if (read && reason != NULL)
            net_link_break(net, link, "%s", reason);
        else if (read)
            receive_envelope(net, link, count, delivery);
        net_frames_close(net, count);
    }
    return false;
}
