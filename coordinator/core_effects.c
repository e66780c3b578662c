/* SPDX-License-Identifier: Apache-2.0
 *
 * core_effects.c: the array of effects that a step appends to, and sending. The array
 * owns the messages in it until the shell has taken them over (and set them to NULL). */
#include "coordinator/core_internal.h"

#include <string.h>

void keffects_truncate(struct coordinator_effects *effects, size_t count)
{
    while (effects->count > count)
        message_free(&effects->items[--effects->count].message);
}

void coordinator_effects_clear(struct coordinator_effects *effects)
{
    keffects_truncate(effects, 0);
}

void coordinator_effects_fini(struct coordinator_effects *effects)
{
    coordinator_effects_clear(effects);
    mem_free(effects->items);
    memset(effects, 0, sizeof *effects);
}

struct coordinator_effect *keffects_add(struct coordinator_core *core,
                                        enum coordinator_effect_kind kind, uint64_t link)
{
    struct coordinator_effects *effects = core->effects;
    if (!mem_reserve(&effects->items, &effects->capacity, effects->count + 1,
                     sizeof *effects->items))
        return NULL;
    struct coordinator_effect *effect = &effects->items[effects->count++];
    effect->kind = kind;
    effect->link = link;
    effect->message = NULL;
    effect->code = 0;
    effect->text[0] = '\0';
    return effect;
}

int kforward(struct coordinator_core *core, struct link *link, struct message **message)
{
    assert(link->state != LINK_DROPPED);
    struct coordinator_effect *effect =
        *message ? keffects_add(core, COORDINATOR_SEND, link->number) : NULL;
    if (!effect)
        return FARPOOL_ENOMEM;
    effect->message = *message;
    *message = NULL;
    if (klink_is_greeted(link)) {
        link->spoke_ms = core->now_ms;
        TAILQ_REMOVE(&core->spoke, link, spoke_entry);
        TAILQ_INSERT_TAIL(&core->spoke, link, spoke_entry);
    }
    return 0;
}

int ksend(struct coordinator_core *core, struct link *link, struct message **message)
{
    const int error = kforward(core, link, message);
    if (error)
        message_free(message);
    return error;
}
