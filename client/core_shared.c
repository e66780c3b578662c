/* SPDX-License-Identifier: Apache-2.0
 *
 * core_shared.c: the pool's shared inputs, as far as a client decides anything of them:
 * the coordinator is told of each, before any task that may name it, and again on each
 * new link, behind the pool's opening. Their bytes are the shell's, which reads a piece
 * when a node asks for it (CLIENT_READ_FILE), like a piece of the program. */
#include "client/core_internal.h"

#include <string.h>

static int send_copy(const struct message *message, struct client_effects *effects)
{
    struct message *copy = message_copy(message);
    return client_send_message(effects, &copy);
}

int client_shared_add(struct client_core *core, struct client_event *event,
                      struct client_effects *effects)
{
    if (core->state != POOL_RUNNING)
        return FARPOOL_ECLOSED;
    if (!mem_reserve(&core->shared, &core->shared_capacity, core->shared_count + 1,
                     sizeof *core->shared))
        return FARPOOL_ENOMEM;
    event->message->share.pool = core->config.pool;
    if (core->link == LINK_WELCOMED && send_copy(event->message, effects))
        return FARPOOL_ENOMEM;
    core->shared[core->shared_count++] = event->message;
    event->message = NULL;
    return 0;
}

static size_t find(const struct client_core *core, uint64_t number)
{
    size_t place = 0;
    while (place < core->shared_count && core->shared[place]->share.number != number)
        place++;
    return place;
}

int client_shared_remove(struct client_core *core, uint64_t number,
                         struct client_effects *effects)
{
    const size_t place = find(core, number);
    if (place == core->shared_count)
        return FARPOOL_EINVAL;
    if (core->link == LINK_WELCOMED) {
        struct message *message = message_create(MSG_UNSHARE);
        if (message) {
            message->unshare.pool = core->config.pool;
            message->unshare.number = number;
        }
        if (client_send_message(effects, &message))
            return FARPOOL_ENOMEM;
    }
    message_free(&core->shared[place]);
    core->shared_count--;
    memmove(&core->shared[place], &core->shared[place + 1],
            (core->shared_count - place) * sizeof *core->shared);
    return 0;
}

int client_shared_tell(const struct client_core *core, struct client_effects *effects)
{
    for (size_t i = 0; i < core->shared_count; i++)
        if (send_copy(core->shared[i], effects))
            return FARPOOL_ENOMEM;
    return 0;
}

void client_shared_fini(struct client_core *core)
{
    for (size_t i = 0; i < core->shared_count; i++)
        message_free(&core->shared[i]);
    mem_free(core->shared);
}
