/* SPDX-License-Identifier: Apache-2.0
 *
 * shell_relay.c: clients inside processes (nested pools). Their messages pass through
 * here unread, as RELAY with the number of their process. To such a client, a message
 * with an empty header means that its connection was lost, and that it has to say hello
 * again: it is sent when this worker's own link goes, and when the coordinator drops the
 * client. */
#include "worker/shell_internal.h"

#define AGAIN_MS 10

static struct relayer *find(struct shell *shell, uint64_t process)
{
    struct relayer *relayer;
    HASH_FIND(hh, shell->relayers, &process, sizeof process, relayer);
    return relayer;
}

static struct relayer *find_or_add(struct shell *shell, uint64_t process)
{
    struct relayer *relayer = find(shell, process);
    if (relayer != NULL)
        return relayer;
    relayer = mem_alloc(sizeof *relayer);
    if (relayer == NULL)
        return NULL;
    relayer->process = process;
    HASH_ADD(hh, shell->relayers, process, sizeof process, relayer);
    if (relayer->hh.tbl == NULL) {
        mem_free(relayer);
        return NULL;
    }
    return relayer;
}

/* NULL: out of memory. It has references of its own. */
static struct message *wrap(uint64_t process, struct frames *frames)
{
    struct message *message = message_create(MSG_RELAY);
    struct msg_relay_body *bodies =
        mem_alloc((frames->bodies_count + 1) * sizeof *bodies);
    if (message == NULL || bodies == NULL) {
        message_free(&message);
        mem_free(bodies);
        return NULL;
    }
    message->relay.client = process;
    message->relay.header = payload_ref(frames->header);
    message->relay.bodies = bodies;
    message->relay.bodies_count = (uint32_t)frames->bodies_count;
    for (size_t i = 0; i < frames->bodies_count; i++)
        bodies[i].data = payload_ref(frames->bodies[i]);
    return message;
}

/* The client hears that its connection is lost, and dials anew: so a message that cannot
 * be passed on is not missed. */
static void tell_lost(struct shell *shell, struct relayer *relayer)
{
    struct frames frames = {.header = payload_create(0)};
    relayer->lost = frames.header == NULL ||
                    host_relay(shell->host, relayer->process, &frames) == FARPOOL_ENOMEM;
    shell->relays_lost = shell->relays_lost || relayer->lost;
    frames_fini(&frames);
}

void shell_relay_turn(struct shell *shell)
{
    struct relayer *relayer, *next;
    if (!shell->relays_lost)
        return;
    shell->relays_lost = false;
    HASH_ITER (hh, shell->relayers, relayer, next)
        if (relayer->lost)
            tell_lost(shell, relayer);
}

uint64_t shell_relay_deadline(const struct shell *shell)
{
    return shell->relays_lost ? shell->now_ms + AGAIN_MS : UINT64_MAX;
}

/* Without a link it is dropped: its client has been, or will be, told to dial anew. */
bool shell_relay_send(void *user, uint64_t process, struct frames *frames)
{
    struct shell *shell = user;
    struct message *message = NULL;
    if (shell->link != 0) {
        if (find_or_add(shell, process) != NULL)
            message = wrap(process, frames);
        if (message == NULL)
            return false;
        shell_trace("sent", message);
        net_send(shell->net, shell->link, &message);
    }
    frames_fini(frames);
    return true;
}

void shell_relay_receive(struct shell *shell, const struct message *message)
{
    uint64_t process = message->relay.client;
    struct relayer *relayer = find(shell, process);
    if (relayer == NULL || relayer->lost)
        return;
    if (message->relay.end) {
        tell_lost(shell, relayer);
        return;
    }
    uint32_t count = message->relay.bodies_count;
    struct frames frames = {.header = payload_ref(message->relay.header)};
    frames.bodies = mem_alloc((count + 1) * sizeof *frames.bodies);
    int result = frames.bodies == NULL || frames.header == NULL ? FARPOOL_ENOMEM : 0;
    for (uint32_t i = 0; result == 0 && i < count; i++)
        frames.bodies[frames.bodies_count++] = payload_ref(message->relay.bodies[i].data);
    if (result == 0)
        result = host_relay(shell->host, process, &frames);
    frames_fini(&frames);
    if (result == FARPOOL_ENOMEM || result == FARPOOL_ETOOBIG)
        tell_lost(shell, relayer);
}

void shell_relay_gone(struct shell *shell, uint64_t process)
{
    struct relayer *relayer = find(shell, process);
    if (relayer == NULL)
        return;
    HASH_DELETE(hh, shell->relayers, relayer);
    mem_free(relayer);
    struct message *end = shell->link == 0 ? NULL : message_create(MSG_RELAY);
    if (end == NULL)
        return;
    end->relay.client = process;
    end->relay.end = true;
    shell_trace("sent", end);
    net_send(shell->net, shell->link, &end);
}

void shell_relay_link_down(struct shell *shell)
{
    struct relayer *relayer, *next;
    HASH_ITER (hh, shell->relayers, relayer, next)
        tell_lost(shell, relayer);
}

void shell_relay_fini(struct shell *shell)
{
    struct relayer *relayer, *next;
    HASH_ITER (hh, shell->relayers, relayer, next) {
        HASH_DELETE(hh, shell->relayers, relayer);
        mem_free(relayer);
    }
}
