/* SPDX-License-Identifier: Apache-2.0
 *
 * squat ADDRESS KEYFILE open|attach ID...: with a good key, names each pool as if it
 * were its own, and prints what the coordinator says to that: the text of its refusal, or
 * the name of the first other message after WELCOME. */
#include "common/keys/keys.h"
#include "common/net/net.h"
#include "common/sys/sys.h"

#include <stdio.h>
#include <string.h>

#define WAIT_MS 20000

struct squat {
    struct net *net;
    const char *id;
    bool attach, answered;
};

static struct id read_id(const char *text)
{
    struct id id = {{0}};
    for (size_t i = 0; i < sizeof id.bytes && strlen(text) == 2 * sizeof id.bytes; i++) {
        unsigned byte = 0;
        if (sscanf(text + 2 * i, "%2x", &byte) == 1)
            id.bytes[i] = (uint8_t)byte;
    }
    return id;
}

static void say(struct squat *squat, uint64_t link, struct message *message)
{
    if (net_send(squat->net, link, &message) != 0)
        fprintf(stderr, "squat: not sent\n");
    net_flush(squat->net);
}

static void say_hello(struct squat *squat, uint64_t link)
{
    struct message *hello = message_create(MSG_HELLO_CLIENT);
    hello->hello_client.protocol = PROTOCOL_VERSION;
    sys_random_id(&hello->hello_client.client);
    say(squat, link, hello);
}

static void name_pool(struct squat *squat, uint64_t link)
{
    const struct id id = read_id(squat->id);
    struct message *word =
        message_create(squat->attach ? MSG_POOL_ATTACH : MSG_POOL_OPEN);
    if (squat->attach)
        word->pool_attach.pool = id;
    else
        word->pool_open.pool = id;
    say(squat, link, word);
}

static void deliver(void *user, struct net_event *event)
{
    struct squat *squat = user;
    if (event->kind == NET_UP)
        say_hello(squat, event->link);
    if (event->kind != NET_MESSAGE || squat->answered)
        return;
    const struct message *message = event->message;
    if (message->kind == MSG_WELCOME) {
        name_pool(squat, event->link);
    } else if (message->kind != MSG_HEARTBEAT) {
        printf("%s\n", message->kind == MSG_REFUSED ? message->refused.text
                                                    : message_name(message->kind));
        squat->answered = true;
    }
    message_free(&event->message);
}

static int squat_pool(const struct net_config *config, bool attach, const char *id)
{
    struct squat squat = {.id = id, .attach = attach};
    const uint64_t until_ms = sys_now_ms() + WAIT_MS;
    farpool_error error;
    if (net_dial(config, &squat.net, &error) != 0) {
        fprintf(stderr, "squat: %s\n", error.text);
        return 1;
    }
    for (uint64_t now_ms; !squat.answered && (now_ms = sys_now_ms()) < until_ms;) {
        struct pollfd fds[NET_WAIT_FDS];
        int timeout_ms = 20;
        while (net_poll(squat.net, now_ms, deliver, &squat) > 0)
            ;
        net_flush(squat.net);
        int count = net_wait_begin(squat.net, fds, &timeout_ms);
        poll(fds, (nfds_t)count, timeout_ms);
        net_wait_end(squat.net, fds);
    }
    net_close(squat.net, 100);
    return squat.answered ? 0 : 1;
}

int main(int argc, char **argv)
{
    struct key_file file;
    farpool_error error;
    int failed = 0;
    if (argc < 5) {
        fprintf(stderr, "usage: squat ADDRESS KEYFILE open|attach ID...\n");
        return 2;
    }
    if (key_load(argv[2], &file, &error) != 0) {
        fprintf(stderr, "squat: %s\n", error.text);
        return 1;
    }
    struct net_keys keys = {.own = file.holder.key, .server = file.server};
    memcpy(keys.secret, file.secret, sizeof file.secret);
    const struct net_config config = {.address = argv[1],
                                      .keys = &keys,
                                      .role = 'C',
                                      .queue_bytes_max = 1048576,
                                      .seed = sys_random()};
    for (int i = 4; i < argc && !failed; i++)
        failed = squat_pool(&config, strcmp(argv[3], "attach") == 0, argv[i]);
    return failed;
}
