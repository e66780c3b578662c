/* SPDX-License-Identifier: Apache-2.0
 *
 * core_keys.c: who may have keys listed and tokens made. The lists themselves are files:
 * what passes here goes on to their keeper (COORDINATOR_KEYS), and his answer goes back
 * (COORDINATOR_KEYS_DONE) if who asked is still there.
 *
 * A link of a token says ENROL, waits, is told, and ends: nothing of it lasts. */
#include "coordinator/core_internal.h"

#include <stdio.h>
#include <string.h>

static int ask_keeper(struct coordinator_core *core, const struct link *link,
                      const struct message *message)
{
    struct message *copy = message_copy(message);
    struct coordinator_effect *effect =
        copy ? keffects_add(core, COORDINATOR_KEYS, link->number) : NULL;
    if (!effect) {
        message_free(&copy);
        return FARPOOL_ENOMEM;
    }
    effect->message = copy;
    return 0;
}

int kkeys_enrol(struct coordinator_core *core, struct link *link,
                const struct message *message)
{
    const uint32_t protocol = message->enrol.protocol;
    if (link->holder.role == HOLDER_NONE)
        return klink_refuse(core, link, FARPOOL_EKEY,
                            "this coordinator uses no keys: start the worker without a "
                            "token");
    if (link->holder.role != HOLDER_TOKEN)
        return klink_refuse(core, link, FARPOOL_EKEY,
                            "the key \"%s\" is of role %s, and no join token",
                            link->holder.name, holder_role_name(link->holder.role));
    if (protocol != PROTOCOL_VERSION)
        return klink_refuse(
            core, link, FARPOOL_EVERSION,
            "this worker (%s) speaks protocol %u, the coordinator (%s) speaks %u",
            message->enrol.version, protocol, FARPOOL_VERSION, PROTOCOL_VERSION);
    const int error = ask_keeper(core, link, message);
    if (!error)
        link->state = LINK_ENROLLING;
    return error;
}

/* ------------------------------------------------------------ what admins ask */

static int answer(struct coordinator_core *core, const struct client *client,
                  uint32_t request, int code, const char *text)
{
    struct message *message = message_create(MSG_ANSWER);
    if (message) {
        message->answer.request = request;
        message->answer.code = code;
        snprintf(message->answer.text, sizeof message->answer.text, "%s", text);
    }
    return ksend(core, client->link, &message);
}

/* What would open the cluster to others takes an admin's key, and keys at all. */
static int refuse(struct coordinator_core *core, const struct client *client,
                  uint32_t request)
{
    const struct holder *holder = &client->link->holder;
    char text[256];
    if (holder->role == HOLDER_NONE)
        snprintf(
            text, sizeof text,
            "this coordinator uses no keys, so workers on its machine need no token; "
            "others can join one that runs with --keys (farpool keys init)");
    else
        snprintf(text, sizeof text, "join tokens take an admin's key, and %s is a %s's",
                 holder->name, holder_role_name(holder->role));
    return answer(core, client, request, FARPOOL_EKEY, text);
}

int kkeys_ask(struct coordinator_core *core, struct client *client,
              const struct message *message)
{
    const uint32_t request = message->kind == MSG_TOKEN_MAKE
                                 ? message->token_make.request
                                 : message->token_revoke.request;
    if (client->state != CLIENT_IDLE)
        return klink_drop(core, client->link, FARPOOL_EPROTOCOL,
                          "%s is not for a client with a pool to say",
                          message_name(message->kind));
    if (client->link->holder.role != HOLDER_ADMIN)
        return refuse(core, client, request);
    return ask_keeper(core, client->link, message);
}

/* ------------------------------------------------------- what the keeper says */

static int enrolled(struct coordinator_core *core, struct link *link,
                    const struct coordinator_keys *keys)
{
    if (keys->code)
        return klink_refuse(core, link, keys->code, "%s", keys->text);
    struct message *message = message_create(MSG_ENROLLED);
    if (message) {
        snprintf(message->enrolled.name, sizeof message->enrolled.name, "%s", keys->name);
        message->enrolled.left_s = keys->left_s;
    }
    if (ksend(core, link, &message))
        return FARPOOL_ENOMEM;
    return klink_drop(core, link, FARPOOL_OK, "enrolled as %s", keys->name);
}

int kkeys_done(struct coordinator_core *core, uint64_t number,
               const struct coordinator_keys *keys)
{
    struct link *link = klink_find(core, number);
    if (link && link->state == LINK_ENROLLING)
        return enrolled(core, link, keys);
    if (link && link->state == LINK_CLIENT)
        return answer(core, link->client, keys->request, keys->code, keys->text);
    return 0;
}
