/* SPDX-License-Identifier: Apache-2.0
 *
 * core_effects.c: the array of effects that a client's step appends to. It owns what its
 * effects hold until the shell has taken that over (and set it to NULL). */
#include "client/core_internal.h"

#include <string.h>

static void effect_fini(struct client_effect *effect)
{
    message_free(&effect->message);
    payload_unref(&effect->sizes);
    payload_unref(&effect->data);
    mem_free(effect->failed.message);
    mem_free(effect->failed.backtrace);
}

void client_effects_truncate(struct client_effects *effects, size_t count)
{
    while (effects->count > count)
        effect_fini(&effects->items[--effects->count]);
}

void client_effects_clear(struct client_effects *effects)
{
    client_effects_truncate(effects, 0);
}

void client_effects_fini(struct client_effects *effects)
{
    client_effects_clear(effects);
    mem_free(effects->items);
    memset(effects, 0, sizeof *effects);
}

struct client_effect *client_effects_add(struct client_effects *effects,
                                         enum client_effect_kind kind)
{
    if (!mem_reserve(&effects->items, &effects->capacity, effects->count + 1,
                     sizeof *effects->items))
        return NULL;
    struct client_effect *effect = &effects->items[effects->count++];
    memset(effect, 0, offsetof(struct client_effect, text)); /* its texts are long */
    effect->text[0] = effect->node[0] = '\0';
    effect->kind = kind;
    return effect;
}

bool client_effects_send(const struct client_effects *effects, size_t from)
{
    for (size_t i = effects->count; i > from; i--)
        if (effects->items[i - 1].kind == CLIENT_SEND && !effects->items[i - 1].lane)
            return true;
    return false;
}

int client_send_message(struct client_effects *effects, struct message **message)
{
    struct client_effect *effect =
        *message ? client_effects_add(effects, CLIENT_SEND) : NULL;
    if (!effect) {
        message_free(message);
        return FARPOOL_ENOMEM;
    }
    effect->message = *message;
    *message = NULL;
    return 0;
}
