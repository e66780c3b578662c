/* SPDX-License-Identifier: Apache-2.0
 *
 * query.c: asks a coordinator something. A connection of its own, no pool: hello, the
 * question, one or more answers, bye; all on the calling thread. */
#include "client/query.h"
#include "client/credential.h"
#include "client/options.h"
#include "client/transport.h"
#include "common/base/error.h"
#include "common/net/net.h"
#include "common/sys/sys.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define LINGER_MS 200

struct asking {
    struct query *query;
    struct net *net;
    uint64_t link;
    bool complete;
    uint64_t again_ms; /* when the next question is due; UINT64_MAX: none is */
    const char *address;
    int code;
    char text[256]; /* why it was refused */
};

static void send_message(struct asking *asking, struct message *message)
{
    if (message == NULL) {
        asking->code = FARPOOL_ENOMEM;
        return;
    }
    net_send(asking->net, asking->link, &message);
}

static void say_hello(struct asking *asking)
{
    struct message *hello = message_create(MSG_HELLO_CLIENT);

    if (hello != NULL) {
        hello->hello_client.protocol = PROTOCOL_VERSION;
        snprintf(hello->hello_client.version, sizeof hello->hello_client.version, "%s",
                 FARPOOL_VERSION);
        sys_random_id(&hello->hello_client.client);
        sys_host(hello->hello_client.host, sizeof hello->hello_client.host);
        hello->hello_client.pid = (uint32_t)getpid();
    }
    send_message(asking, hello);
}

static void take_message(struct asking *asking, const struct message *message)
{
    struct query *query = asking->query;

    if (message->kind == MSG_WELCOME) {
        query->asked++;
        send_message(asking, message_copy(query->question));
    } else if (message->kind == MSG_REFUSED) {
        asking->code = message->refused.code;
        snprintf(asking->text, sizeof asking->text, "%s", message->refused.text);
    } else if (message->kind == query->answer ||
               (query->also != MESSAGE_NONE && message->kind == query->also)) {
        asking->code = query->take(query->user, message, &asking->complete);
    }
}

static void deliver(void *user, struct net_event *event)
{
    struct asking *asking = user;

    if (event->kind == NET_UP) {
        asking->link = event->link;
        if (asking->query->restart != NULL)
            asking->query->restart(asking->query->user);
        asking->complete = false;
        asking->again_ms = UINT64_MAX;
        if (asking->query->keys != NULL)
            send_message(asking, message_copy(asking->query->question));
        else
            say_hello(asking);
    } else if (event->kind == NET_REFUSED) {
        asking->code = FARPOOL_EKEY;
        snprintf(asking->text, sizeof asking->text, "%s: %s", asking->address,
                 event->text);
    } else if (event->kind == NET_MESSAGE && !asking->complete && asking->code == 0) {
        take_message(asking, event->message);
    }
    message_free(&event->message);
}

/* Puts the next question in the place of the answered one; false: there is none. */
static bool prepare(struct asking *asking, uint64_t now_ms)
{
    struct query *query = asking->query;

    if (query->again == NULL)
        return false;
    message_free(&query->question);
    query->question = query->again(query->user);
    if (query->question == NULL)
        asking->code = FARPOOL_ENOMEM;
    asking->again_ms = now_ms + query->again_ms;
    return query->question != NULL;
}

static void ask_again(struct asking *asking)
{
    asking->complete = false;
    asking->again_ms = UINT64_MAX;
    send_message(asking, message_copy(asking->query->question));
}

static void run(struct asking *asking, int64_t timeout_ms, uint64_t until_ms)
{
    for (;;) {
        struct pollfd fds[NET_WAIT_FDS];
        uint64_t now_ms = sys_now_ms(), due_ms;
        int count, sleep_ms;

        while (net_poll(asking->net, now_ms, deliver, asking) > 0)
            ;
        if (asking->complete && asking->again_ms <= now_ms)
            ask_again(asking);
        net_flush(asking->net);
        if (asking->code == 0 && asking->complete && asking->again_ms == UINT64_MAX) {
            if (!prepare(asking, now_ms))
                return;
            if (timeout_ms != FARPOOL_FOREVER)
                until_ms = asking->again_ms + (asking->query->patience_ms > 0
                                                   ? asking->query->patience_ms
                                                   : (uint64_t)timeout_ms);
        }
        if (asking->code != 0 || now_ms >= until_ms)
            return;
        due_ms = net_deadline(asking->net);
        if (asking->again_ms < due_ms)
            due_ms = asking->again_ms;
        sleep_ms = wake_timeout(now_ms, due_ms < until_ms ? due_ms : until_ms);
        count = net_wait_begin(asking->net, fds, &sleep_ms);
        poll(fds, (nfds_t)count, sleep_ms);
        net_wait_end(asking->net, fds);
    }
}

static void say_bye(struct asking *asking)
{
    struct message *bye = message_create(MSG_BYE);

    if (bye == NULL)
        return;
    net_send(asking->net, asking->link, &bye);
    net_flush(asking->net);
}

static int converse(struct query *query, const char *address, int64_t timeout_ms,
                    uint64_t until_ms, farpool_error *error)
{
    struct asking asking = {.query = query, .again_ms = UINT64_MAX, .address = address};
    const struct net_config config = {
        .address = address,
        .keys = query->keys,
        .role = query->keys != NULL ? 'W' : 'C',
        .queue_bytes_max = 1048576,
        .seed = sys_random(),
    };
    int code = query->keys != NULL ? net_dial(&config, &asking.net, error)
                                   : credential_dial(&config, &asking.net, NULL, error);

    if (code != 0)
        return code;
    run(&asking, timeout_ms, until_ms);
    if (asking.code != 0)
        code = error_set(error, asking.code, "%s: %s", query->call,
                         asking.text[0] != '\0' ? asking.text
                                                : farpool_error_text(asking.code));
    else if (!asking.complete)
        code = credential_absent(
            query->call, address, timeout_ms,
            query->keys != NULL ? ", nor one that has the token's key" : NULL, error);
    else if (query->keys == NULL)
        say_bye(&asking);
    net_close(asking.net, LINGER_MS);
    return code;
}

int query_ask(struct query *query, const char *address, int64_t timeout_ms,
              farpool_error *error)
{
    uint64_t until_ms = 0;
    int code;

    if (address == NULL)
        address = getenv("FARPOOL_COORDINATOR");
    if (query->question == NULL)
        code = error_set(error, FARPOOL_ENOMEM, "%s: out of memory", query->call);
    else if (address == NULL || address[0] == '\0')
        code = error_set(error, FARPOOL_EADDRESS,
                         "%s: no address is given, and FARPOOL_COORDINATOR is not set",
                         query->call);
    else
        code = options_read_timeout(timeout_ms, query->call, &until_ms, error);
    if (code == 0)
        code = converse(query, address, timeout_ms, until_ms, error);
    message_free(&query->question);
    return code;
}
