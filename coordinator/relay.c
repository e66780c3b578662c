/* SPDX-License-Identifier: Apache-2.0
 *
 * relay.c: nested clients. A pool process has one connection, its shared memory; a client
 * in it reaches the coordinator through its worker, as RELAY messages with the number
 * that the worker has for the process. Here each such client gets a link number with the
 * top bit set, so that it never meets a connection's, and never comes twice.
 *
 * A client begins with HELLO_CLIENT, also when an older one of the same process was there
 * (which has then ended), and ends with BYE, with RELAY.end or with its worker. What
 * comes before a hello is of a client that has not yet heard that it was dropped:
 * ignored. */
#include "coordinator/relay.h"
#include "common/base/mem.h"

#include <string.h>

#define HASH_NONFATAL_OOM 1
#define uthash_malloc(size) mem_alloc(size)
#define uthash_free(memory, size) mem_free(memory)
#define uthash_nonfatal_oom(element) ((void)(element))
#include <uthash.h>

#define RELAY_BIT (UINT64_C(1) << 63)

/* Where a client is: the key of its process. */
struct place {
    uint64_t worker_link;
    uint64_t process;
};

struct relayed {
    uint64_t link;
    struct place place;
    UT_hash_handle hh, hh_place;
};

struct relay {
    struct relay_config config;
    uint64_t links; /* given out so far */
    struct relayed *by_link, *by_place;
};

int relay_create(const struct relay_config *config, struct relay **ret_relay)
{
    struct relay *relay = mem_alloc(sizeof *relay);
    if (relay == NULL)
        return FARPOOL_ENOMEM;
    relay->config = *config;
    *ret_relay = relay;
    return 0;
}

static void forget(struct relay *relay, struct relayed *client)
{
    HASH_DELETE(hh, relay->by_link, client);
    HASH_DELETE(hh_place, relay->by_place, client);
    mem_free(client);
}

void relay_destroy(struct relay *relay)
{
    if (relay == NULL)
        return;
    struct relayed *client, *next;
    HASH_ITER (hh, relay->by_link, client, next)
        forget(relay, client);
    mem_free(relay);
}

bool relay_is_link(uint64_t link)
{
    return (link & RELAY_BIT) != 0;
}

static struct relayed *find_place(struct relay *relay, uint64_t worker_link,
                                  uint64_t process)
{
    struct place place = {worker_link, process};
    struct relayed *client;
    /* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): it is all set */
    HASH_FIND(hh_place, relay->by_place, &place, sizeof place, client);
    return client;
}

static struct relayed *add(struct relay *relay, uint64_t worker_link, uint64_t process)
{
    if (HASH_CNT(hh, relay->by_link) >= relay->config.clients_max)
        return NULL;
    struct relayed *client = mem_alloc(sizeof *client);
    if (client == NULL)
        return NULL;
    client->link = RELAY_BIT | (relay->links + 1);
    client->place.worker_link = worker_link;
    client->place.process = process;
    HASH_ADD(hh, relay->by_link, link, sizeof client->link, client);
    if (client->hh.tbl == NULL) {
        mem_free(client);
        return NULL;
    }
    HASH_ADD(hh_place, relay->by_place, place, sizeof client->place, client);
    if (client->hh_place.tbl == NULL) {
        HASH_DELETE(hh, relay->by_link, client);
        mem_free(client);
        return NULL;
    }
    relay->links++;
    return client;
}

static void send_end(struct relay *relay, struct place place)
{
    struct message *end = message_create(MSG_RELAY);
    if (end == NULL)
        return; /* the client notices by silence */
    end->relay.client = place.process;
    end->relay.end = true;
    relay->config.send(relay->config.user, place.worker_link, &end);
    message_free(&end);
}

static void end_client(struct relay *relay, struct relayed *client, const char *text)
{
    uint64_t link = client->link;
    forget(relay, client);
    relay->config.on_down(relay->config.user, link, text);
}

/* 0 and the message inside; its frames are those of the RELAY. */
static int open_relay(const struct message *message, struct message **ret_inner,
                      const char **ret_reason)
{
    uint32_t count = message->relay.bodies_count;
    struct frames frames = {.header = message->relay.header, .bodies_count = count};
    if (frames.header == NULL) {
        *ret_reason = "no header";
        return FARPOOL_EPROTOCOL;
    }
    frames.bodies = mem_alloc((count + 1) * sizeof *frames.bodies);
    if (frames.bodies == NULL)
        return FARPOOL_ENOMEM;
    for (uint32_t i = 0; i < count; i++)
        frames.bodies[i] = message->relay.bodies[i].data;
    int result = FARPOOL_EPROTOCOL;
    *ret_reason = "a body is missing";
    bool whole = true;
    for (uint32_t i = 0; i < count; i++)
        whole = whole && frames.bodies[i] != NULL;
    if (whole)
        result = message_decode(&frames, ret_inner, ret_reason);
    mem_free(frames.bodies);
    return result;
}

/* The client that a message is of; NULL: nobody's. */
static struct relayed *whose(struct relay *relay, uint64_t worker_link, uint64_t process,
                             enum message_kind kind)
{
    struct relayed *client = find_place(relay, worker_link, process);
    if (kind != MSG_HELLO_CLIENT)
        return client;
    if (client != NULL)
        end_client(relay, client, "said hello again");
    client = add(relay, worker_link, process);
    if (client == NULL)
        send_end(relay, (struct place){worker_link, process});
    return client;
}

static void receive_inner(struct relay *relay, uint64_t worker_link, uint64_t process,
                          struct message *inner)
{
    enum message_kind kind = inner->kind;
    struct relayed *client = whose(relay, worker_link, process, kind);
    if (client == NULL) {
        message_free(&inner);
        return;
    }
    bool allowed = message_allowed(kind, 'C', 'K') && kind != MSG_PART;
    uint64_t link = client->link;
    if (allowed)
        relay->config.on_message(relay->config.user, link, &inner);
    message_free(&inner);
    client = find_place(relay, worker_link, process);
    if (client == NULL || client->link != link)
        return;
    if (!allowed) {
        send_end(relay, client->place);
        end_client(relay, client, "a message that no client may send");
    } else if (kind == MSG_BYE) {
        end_client(relay, client, "said goodbye");
    }
}

void relay_receive(struct relay *relay, uint64_t worker_link,
                   const struct message *message)
{
    uint64_t process = message->relay.client;
    struct relayed *client = find_place(relay, worker_link, process);
    if (message->relay.end) {
        if (client != NULL)
            end_client(relay, client, "its process ended");
        return;
    }
    struct message *inner = NULL;
    const char *reason = "out of memory";
    if (open_relay(message, &inner, &reason) == 0) {
        receive_inner(relay, worker_link, process, inner);
        return;
    }
    send_end(relay, (struct place){worker_link, process});
    if (client != NULL)
        end_client(relay, client, reason);
}

void relay_worker_down(struct relay *relay, uint64_t worker_link, const char *text)
{
    struct relayed *client, *next;
    HASH_ITER (hh, relay->by_link, client, next) {
        if (client->place.worker_link == worker_link)
            end_client(relay, client, text);
    }
}

/* The RELAY around a message for a client. */
static struct message *wrap(const struct message *inner, uint64_t process)
{
    struct frames frames;
    if (message_encode(inner, &frames) != 0)
        return NULL;
    struct message *message = message_create(MSG_RELAY);
    struct msg_relay_body *bodies = mem_alloc((frames.bodies_count + 1) * sizeof *bodies);
    if (message == NULL || bodies == NULL) {
        message_free(&message);
        mem_free(bodies);
        frames_fini(&frames);
        return NULL;
    }
    message->relay.client = process;
    message->relay.header = payload_ref(frames.header);
    message->relay.bodies = bodies;
    message->relay.bodies_count = (uint32_t)frames.bodies_count;
    for (size_t i = 0; i < frames.bodies_count; i++)
        bodies[i].data = payload_ref(frames.bodies[i]);
    frames_fini(&frames);
    return message;
}

void relay_send(struct relay *relay, uint64_t link, struct message **message)
{
    struct relayed *client;
    HASH_FIND(hh, relay->by_link, &link, sizeof link, client);
    struct message *wrapped =
        client == NULL ? NULL : wrap(*message, client->place.process);
    message_free(message);
    if (wrapped != NULL) {
        relay->config.send(relay->config.user, client->place.worker_link, &wrapped);
        message_free(&wrapped);
    } else if (client != NULL) {
        /* A message is lost: the client must not wait for it. */
        send_end(relay, client->place);
        end_client(relay, client, "out of memory for a message");
    }
}

void relay_drop(struct relay *relay, uint64_t link)
{
    struct relayed *client;
    HASH_FIND(hh, relay->by_link, &link, sizeof link, client);
    if (client == NULL)
        return;
    send_end(relay, client->place);
    forget(relay, client);
}
