/* SPDX-License-Identifier: Apache-2.0
 *
 * hub.c: the coordinator's core in virtual time, and what it costs: the processor time of
 * its steps (core_ns), and that of decoding and encoding its messages (wire_ns), which
 * cross the link as frames. If costs count, a turn lasts as long as it took, and as
 * message_ns says for the sockets; what comes meanwhile waits for the next one, as at a
 * daemon, and so does what is more than a daemon reads at a time: a coordinator that has
 * too much to do is late. */
#include "crowd.h"

#include "common/base/mem.h"

#include <string.h>
#include <time.h>

#define TURN_MESSAGES 256 /* that are read at a time; as common/net/receive.c */

struct packet {
    uint64_t link;
    struct frames frames;
    struct message *message; /* decoded */
};

/* Not asked for where it is of no interest: it is a call of the system. */
static uint64_t processor_ns(const struct crowd *crowd)
{
    struct timespec now = {0};
    if (crowd->options.costs)
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static struct frames encode(struct message *message)
{
    struct frames frames = {0};
    if (message_encode(message, &frames) != 0)
        crowd_fail("encode", message_name(message->kind));
    message_free(&message);
    return frames;
}

static struct message *decode(struct frames *frames)
{
    struct message *message = NULL;
    const char *reason = "";
    if (message_decode(frames, &message, &reason) != 0)
        crowd_fail("decode", reason);
    frames_fini(frames);
    return message;
}

/* -------------------------------------------------------------------- sending */

static void arrive(struct crowd *crowd, void *object, uint64_t link, uint64_t unused)
{
    (void)unused;
    crowd_peer_take(crowd_peer(crowd, (uint32_t)link - 1), object);
}

/* All effects become frames at once, so that the time of this is taken once. */
static void encode_effects(struct hub *hub)
{
    for (size_t i = 0; i < hub->effects.count; i++) {
        struct coordinator_effect *effect = &hub->effects.items[i];
        struct packet *packet = crowd_add(&hub->leaving, sizeof *packet);
        if (effect->kind != COORDINATOR_SEND)
            crowd_fail("the coordinator drops a link", effect->text);
        if (effect->message->kind == MSG_REFUSED)
            crowd_fail("refused", effect->message->refused.text);
        *packet =
            (struct packet){.link = effect->link, .frames = encode(effect->message)};
        effect->message = NULL;
    }
    coordinator_effects_clear(&hub->effects);
}

static void send_all(struct crowd *crowd)
{
    struct hub *hub = &crowd->hub;
    struct packet *packets = hub->leaving.items;
    for (size_t i = 0; i < hub->leaving.count; i++)
        crowd_at(crowd, hub->free_at_us + crowd->options.delay_us, arrive,
                 decode(&packets[i].frames), packets[i].link, 0);
    hub->sent += hub->leaving.count;
    hub->leaving.count = 0;
}

/* ---------------------------------------------------------------------- turns */

static void turn(struct crowd *crowd, void *object, uint64_t number, uint64_t epoch);

static void wake(struct crowd *crowd, uint64_t at_us)
{
    struct hub *hub = &crowd->hub;
    hub->woken = true;
    crowd_at(crowd, at_us > hub->free_at_us ? at_us : hub->free_at_us, turn, NULL, 0, 0);
}

static void step(struct crowd *crowd, struct coordinator_event *event)
{
    event->now_ms = crowd_now_ms(crowd);
    if (coordinator_core_step(crowd->hub.core, event, &crowd->hub.effects) != 0)
        crowd_fail("coordinator", "out of memory");
    message_free(&event->message);
}

static size_t turn_messages(const struct hub *hub)
{
    const size_t waiting = hub->coming.count - hub->read;
    return waiting < TURN_MESSAGES ? waiting : TURN_MESSAGES;
}

static void drop_read(struct hub *hub)
{
    struct packet *packets = hub->coming.items;
    hub->coming.count -= hub->read;
    if (hub->coming.count > 0)
        memmove(packets, packets + hub->read, hub->coming.count * sizeof *packets);
    hub->read = 0;
}

static void serve(struct crowd *crowd)
{
    struct hub *hub = &crowd->hub;
    struct packet *packets = hub->coming.items;
    const size_t first = hub->read, end = first + turn_messages(hub);
    const uint64_t began_ns = processor_ns(crowd);
    for (size_t i = first; i < end; i++)
        packets[i].message = decode(&packets[i].frames);
    const uint64_t decoded_ns = processor_ns(crowd);
    for (size_t i = first; i < end; i++) {
        struct coordinator_event event = {.kind = COORDINATOR_MESSAGE,
                                          .link = packets[i].link,
                                          .message = packets[i].message};
        step(crowd, &event);
    }
    struct coordinator_event flush = {.kind = COORDINATOR_FLUSH};
    step(crowd, &flush);
    const uint64_t stepped_ns = processor_ns(crowd);
    encode_effects(hub);
    hub->core_ns += stepped_ns - decoded_ns;
    hub->wire_ns += decoded_ns - began_ns + processor_ns(crowd) - stepped_ns;
    hub->received += end - first;
    hub->read = end;
    if (hub->read >= hub->coming.count / 2)
        drop_read(hub);
}

/* number 1: for a deadline, void when there was a turn since. */
static void turn(struct crowd *crowd, void *object, uint64_t number, uint64_t epoch)
{
    struct hub *hub = &crowd->hub;
    (void)object;
    if (number == 1 && (epoch != hub->turns || hub->woken))
        return;
    const uint64_t spent_ns = hub->core_ns + hub->wire_ns, messages = turn_messages(hub);
    hub->woken = false;
    hub->turns++;
    serve(crowd);
    const uint64_t sockets_ns =
        (messages + hub->leaving.count) * crowd->options.message_ns;
    hub->busy_ns += hub->core_ns + hub->wire_ns - spent_ns + sockets_ns;
    hub->free_at_us = crowd->now_us;
    if (crowd->options.costs)
        hub->free_at_us += (hub->core_ns + hub->wire_ns - spent_ns + sockets_ns) / 1000;
    send_all(crowd);
    if (hub->coming.count)
        wake(crowd, crowd->now_us);
    const uint64_t deadline_ms = coordinator_core_deadline(hub->core);
    if (deadline_ms != UINT64_MAX)
        crowd_at(crowd, deadline_ms * 1000, turn, NULL, 1, hub->turns);
}

/* ------------------------------------------------------------------ receiving */

static void come(struct crowd *crowd, void *object, uint64_t link, uint64_t unused)
{
    struct packet *packet = crowd_add(&crowd->hub.coming, sizeof *packet);
    (void)unused;
    *packet = (struct packet){.link = link, .frames = encode(object)};
    if (!crowd->hub.woken)
        wake(crowd, crowd->now_us);
}

void crowd_hub_take(struct crowd *crowd, uint64_t link, struct message *message)
{
    crowd_at(crowd, crowd->now_us + crowd->options.delay_us, come, message, link, 0);
}

void crowd_hub_start(struct crowd *crowd)
{
    struct coordinator_config config;
    coordinator_config_init(&config);
    config.coordinator = crowd_id(crowd);
    config.workers_max = crowd->options.nodes;
    config.clients_max = config.pools_max = crowd->options.apps;
    if (coordinator_core_create(&config, crowd_now_ms(crowd), &crowd->hub.core) != 0)
        crowd_fail("coordinator", "out of memory");
}
