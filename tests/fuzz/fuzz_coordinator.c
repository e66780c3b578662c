/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_coordinator.c: the coordinator core among peers that may say anything. Some links
 * begin with a proper hello, so that what follows gets past the door; the clock runs,
 * links come and go, memory runs out. No invariant may break and nothing may leak. */
#include "coordinator/core.h"
#include "tests/fuzz/fuzz_build.h"

#include <stdio.h>

#define LINKS 6

struct cluster {
    struct fuzz_input bytes;
    struct coordinator_core *core;
    struct coordinator_effects effects;
    uint64_t now_ms, links_made;
    uint64_t links[LINKS]; /* the present number in each place */
    uint64_t asked[LINKS]; /* the last LOGS_GET that was sent there */
};

static void step(struct cluster *cluster, struct coordinator_event *event)
{
    int result;

    event->now_ms = cluster->now_ms;
    fuzz_arm(&cluster->bytes);
    result = coordinator_core_step(cluster->core, event, &cluster->effects);
    mem_fail_after(0);
    coordinator_core_check(cluster->core);
    if (result == FARPOOL_ENOMEM)
        result = coordinator_core_step(cluster->core, event, &cluster->effects);
    if (result != 0)
        abort();
    coordinator_core_check(cluster->core);
    message_free(&event->message);
}

/* A dropped link's number is never used again; nor does a sent message fail to encode. */
static void carry_out(struct cluster *cluster)
{
    for (size_t i = 0; i < cluster->effects.count; i++) {
        struct coordinator_effect *effect = &cluster->effects.items[i];
        struct frames frames = {0};

        for (int k = 0; effect->kind == COORDINATOR_DROP && k < LINKS; k++)
            if (cluster->links[k] == effect->link)
                cluster->links[k] = ++cluster->links_made;
        for (int k = 0; k < LINKS; k++)
            if (effect->message && effect->message->kind == MSG_LOGS_GET &&
                cluster->links[k] == effect->link)
                cluster->asked[k] = effect->message->logs_get.request;
        if (effect->message && message_encode(effect->message, &frames) != 0)
            abort();
        frames_fini(&frames);
    }
    coordinator_effects_clear(&cluster->effects);
}

static void flush(struct cluster *cluster)
{
    struct coordinator_event event = {.kind = COORDINATOR_FLUSH};

    step(cluster, &event);
    carry_out(cluster);
    coordinator_core_deadline(cluster->core);
}

static void say(struct cluster *cluster, int place, struct message *message)
{
    struct coordinator_event event = {
        .kind = COORDINATOR_MESSAGE, .link = cluster->links[place], .message = message};

    if (message)
        step(cluster, &event);
}

/* With a key: what counts is that of a link's first message. */
static void say_keyed(struct cluster *cluster, int place)
{
    static const enum holder_role roles[] = {HOLDER_TOKEN, HOLDER_ADMIN, HOLDER_CLIENT,
                                             HOLDER_WORKER};
    static const enum message_kind kinds[] = {MSG_ENROL, MSG_HELLO_CLIENT, MSG_TOKEN_MAKE,
                                              MSG_TOKEN_REVOKE};
    uint8_t what = fuzz_take(&cluster->bytes);
    struct holder holder = {.role = roles[what % 4], .name = "k"};
    struct message *message = fuzz_fill(&cluster->bytes, kinds[what / 4 % 4]);
    struct coordinator_event event = {
        .kind = COORDINATOR_MESSAGE, .link = cluster->links[place], .holder = &holder};

    if (message->kind == MSG_ENROL)
        message->enrol.protocol = PROTOCOL_VERSION;
    else if (message->kind == MSG_HELLO_CLIENT)
        message->hello_client.protocol = PROTOCOL_VERSION;
    event.message = fuzz_cross(&message);
    if (event.message)
        step(cluster, &event);
}

/* The keeper of keys answers, whether or not he was asked. */
static void answer_keys(struct cluster *cluster, int place)
{
    uint8_t what = fuzz_take(&cluster->bytes);
    const struct coordinator_keys keys = {.request = what % 4,
                                          .code = what & 4 ? FARPOOL_EKEY : 0,
                                          .text = "why",
                                          .name = "n",
                                          .left_s = what};

    step(cluster, &(struct coordinator_event){.kind = COORDINATOR_KEYS_DONE,
                                              .link = cluster->links[place],
                                              .keys = &keys});
}

static struct message *hello(struct fuzz_input *bytes, bool worker)
{
    struct message *message =
        message_create(worker ? MSG_HELLO_WORKER : MSG_HELLO_CLIENT);

    if (worker) {
        message->hello_worker.protocol = PROTOCOL_VERSION;
        fuzz_fill_id(bytes, message->hello_worker.worker.bytes);
        message->hello_worker.worker.bytes[1] = 1;
        fuzz_fill_id(bytes, message->hello_worker.previous.bytes);
        message->hello_worker.slots = 1 + fuzz_take(bytes) % 4;
        message->hello_worker.tasks_max = 1 + fuzz_value(bytes, 1000);
        message->hello_worker.bytes_max = 1 + fuzz_value(bytes, 1000);
        snprintf(message->hello_worker.node, sizeof message->hello_worker.node, "n");
        fuzz_fill_text(bytes, message->hello_worker.lanes, ADDRESS_MAX);
    } else {
        message->hello_client.protocol = PROTOCOL_VERSION;
        fuzz_fill_id(bytes, message->hello_client.client.bytes);
        message->hello_client.client.bytes[1] = 2;
        message->hello_client.lanes = fuzz_take(bytes) % 2;
    }
    return fuzz_cross(&message);
}

/* Of any node, mostly. */
static struct message *logs_get(struct fuzz_input *bytes)
{
    struct message *message = fuzz_fill(bytes, MSG_LOGS_GET);

    if (fuzz_take(bytes) % 4)
        message->logs_get.node[0] = '\0';
    return fuzz_cross(&message);
}

static struct message *logs(struct fuzz_input *bytes, uint64_t asked)
{
    struct message *message = fuzz_fill(bytes, MSG_LOGS);

    message->logs.request = asked;
    return fuzz_cross(&message);
}

/* Few, so that peers often say one that is theirs. */
static void make_ticket(const struct hash *secret, uint64_t number, struct id *ret_ticket)
{
    *ret_ticket = (struct id){.bytes = {(uint8_t)(1 + number % 255)}};
    ret_ticket->bytes[1] = secret->bytes[0];
}

static struct message *about_lane(struct fuzz_input *bytes)
{
    static const enum message_kind kinds[] = {MSG_EXPECTED, MSG_LANE};
    const uint8_t what = fuzz_take(bytes);
    struct message *message = fuzz_fill(bytes, kinds[what % 2]);
    struct id *ticket = what % 2 ? &message->lane.ticket : &message->expected.ticket;

    *ticket = (struct id){.bytes = {1 + what / 2 % 8}};
    return fuzz_cross(&message);
}

static void act(struct cluster *cluster)
{
    uint8_t what = fuzz_take(&cluster->bytes);
    int place = what / 16 % LINKS;

    switch (what % 16) {
    case 0:
        step(cluster, &(struct coordinator_event){.kind = COORDINATOR_LINK_DOWN,
                                                  .link = cluster->links[place],
                                                  .text = "down"});
        cluster->links[place] = ++cluster->links_made;
        break;
    case 1:
    case 2:
        say(cluster, place, hello(&cluster->bytes, what % 16 == 1));
        break;
    case 3:
    case 4:
        cluster->now_ms += fuzz_take(&cluster->bytes);
        flush(cluster);
        break;
    case 5:
        cluster->now_ms += 50 * (uint64_t)fuzz_take(&cluster->bytes);
        flush(cluster);
        break;
    case 6:
        say(cluster, place, logs_get(&cluster->bytes));
        break;
    case 7:
        say(cluster, place, logs(&cluster->bytes, cluster->asked[place]));
        break;
    case 8:
        say(cluster, place, about_lane(&cluster->bytes));
        break;
    case 14:
        say_keyed(cluster, place);
        break;
    case 15:
        answer_keys(cluster, place);
        break;
    default:
        say(cluster, place, fuzz_any(&cluster->bytes));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cluster cluster = {.bytes = {data, size}, .now_ms = 1000};
    const struct logs_line line = {.text = "line", .size = 4};
    struct logs *logs = logs_create(300, 0);
    struct coordinator_config config;

    if (!logs)
        abort();
    coordinator_config_init(&config);
    config.logs = logs;
    config.ticket = make_ticket;
    for (int i = 0; i < 9; i++)
        logs_add(logs, &line);
    config.coordinator.bytes[0] = 1;
    config.settle_ms = 100;
    config.workers_max = config.clients_max = 4;
    config.pools_max = config.jobs_max = 4;
    config.client_tasks_max = 64;
    config.client_bytes_max = 256;
    for (int i = 0; i < LINKS; i++)
        cluster.links[i] = ++cluster.links_made;
    if (coordinator_core_create(&config, cluster.now_ms, &cluster.core) != 0)
        abort();
    while (cluster.bytes.left)
        act(&cluster);
    flush(&cluster);
    coordinator_core_destroy(cluster.core);
    coordinator_effects_fini(&cluster.effects);
    logs_destroy(logs);
    return 0;
}
