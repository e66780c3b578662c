/* SPDX-License-Identifier: Apache-2.0
 *
 * embedded_relay.c: clients inside the embedded pool's processes (nested pools): each has
 * a link of its own to the coordinator's core, made anew by each HELLO_CLIENT. Here
 * messages are encoded, since they travel through a process's shared memory; what comes
 * is checked like anything from a peer. */
#include "client/embedded.h"

#include <assert.h>

static struct relay *find_process(const struct embedded *embedded, uint64_t process)
{
    struct relay *relay;

    HASH_FIND(by_process, embedded->by_process, &process, sizeof process, relay);
    return relay;
}

static struct relay *find_link(const struct embedded *embedded, uint64_t link)
{
    struct relay *relay;

    HASH_FIND(by_link, embedded->by_link, &link, sizeof link, relay);
    return relay;
}

static void forget(struct embedded *embedded, struct relay *relay)
{
    assert(embedded->by_link != NULL); /* it is in both */
    HASH_DELETE(by_process, embedded->by_process, relay);
    HASH_DELETE(by_link, embedded->by_link, relay);
    mem_free(relay);
}

static struct relay *add(struct embedded *embedded, uint64_t process)
{
    struct relay *relay = mem_alloc(sizeof *relay);

    if (relay == NULL)
        return NULL;
    relay->process = process;
    relay->link = ++embedded->links;
    HASH_ADD(by_process, embedded->by_process, process, sizeof process, relay);
    if (relay->by_process.tbl == NULL) {
        mem_free(relay);
        return NULL;
    }
    HASH_ADD(by_link, embedded->by_link, link, sizeof relay->link, relay);
    if (relay->by_link.tbl == NULL) {
        HASH_DELETE(by_process, embedded->by_process, relay);
        mem_free(relay);
        return NULL;
    }
    return relay;
}

/* The coordinator hears that this client is gone. */
static void end(struct embedded *embedded, struct relay *relay, const char *text)
{
    struct coordinator_event down = {
        .kind = COORDINATOR_LINK_DOWN, .link = relay->link, .text = text};

    queue_drop(&embedded->to_coordinator, relay->link);
    forget(embedded, relay);
    embedded_step_coordinator(embedded, &down);
}

/* The client hears that its connection is gone: an empty message. */
static void hang_up(struct embedded *embedded, uint64_t process)
{
    struct frames frames = {.header = payload_create(0)};

    if (frames.header != NULL)
        host_relay(embedded->host, process, &frames);
    frames_fini(&frames);
}

static void receive(struct embedded *embedded, uint64_t process, struct frames *frames)
{
    struct relay *relay = find_process(embedded, process);
    struct message *message = NULL;
    const char *reason;
    bool over, bad = message_decode(frames, &message, &reason) != 0 ||
                     !message_allowed(message->kind, 'C', 'K');

    if (relay != NULL && (bad || message->kind == MSG_HELLO_CLIENT)) {
        end(embedded, relay, bad ? "sent nonsense" : "begins again");
        relay = NULL;
    }
    if (!bad && relay == NULL && message->kind != MSG_HELLO_CLIENT) {
        message_free(&message); /* it has not yet heard that it was dropped */
        return;
    }
    if (!bad && relay == NULL)
        relay = add(embedded, process);
    if (bad || relay == NULL) {
        message_free(&message);
        hang_up(embedded, process);
        return;
    }
    over = message->kind == MSG_BYE;
    embedded_send(embedded, &embedded->to_coordinator, relay->link, &message);
    if (over)
        forget(embedded, relay);
}

bool embedded_relay_send(struct embedded *embedded, uint64_t link,
                         const struct message *message)
{
    struct relay *relay = find_link(embedded, link);
    struct frames frames = {0};

    if (relay == NULL)
        return false;
    if (message_encode(message, &frames) != 0 ||
        host_relay(embedded->host, relay->process, &frames) != 0) {
        uint64_t process = relay->process;

        end(embedded, relay, "cannot be reached");
        hang_up(embedded, process);
    }
    frames_fini(&frames);
    return true;
}

bool embedded_relay_drop(struct embedded *embedded, uint64_t link)
{
    struct relay *relay = find_link(embedded, link);
    uint64_t process;

    if (relay == NULL)
        return false;
    process = relay->process;
    queue_drop(&embedded->to_coordinator, link);
    forget(embedded, relay);
    hang_up(embedded, process);
    return true;
}

bool embedded_relay_note(struct embedded *embedded, uint64_t process,
                         struct frames *frames)
{
    struct arrival *arrival;

    if (!mem_reserve(&embedded->arrivals, &embedded->arrivals_capacity,
                     embedded->arrivals_count + 1, sizeof *embedded->arrivals))
        return false;
    arrival = &embedded->arrivals[embedded->arrivals_count++];
    *arrival = (struct arrival){.process = process};
    if (frames != NULL) {
        arrival->frames = *frames;
        *frames = (struct frames){0};
    }
    return true;
}

void embedded_relay_run(struct embedded *embedded)
{
    for (size_t i = 0; i < embedded->arrivals_count; i++) {
        struct arrival *arrival = &embedded->arrivals[i];
        struct relay *relay = find_process(embedded, arrival->process);

        if (arrival->frames.header != NULL)
            receive(embedded, arrival->process, &arrival->frames);
        else if (relay != NULL)
            end(embedded, relay, "its process has ended");
        frames_fini(&arrival->frames);
    }
    embedded->arrivals_count = 0;
}

void embedded_relay_fini(struct embedded *embedded)
{
    for (size_t i = 0; i < embedded->arrivals_count; i++)
        frames_fini(&embedded->arrivals[i].frames);
    mem_free(embedded->arrivals);
    embedded->arrivals = NULL;
    embedded->arrivals_count = embedded->arrivals_capacity = 0;
    while (embedded->by_process != NULL)
        forget(embedded, embedded->by_process);
}
