/* SPDX-License-Identifier: Apache-2.0
 *
 * shell_effects.c: carries out what the core wants: messages, ends of links, and what
 * goes to the keepers of keys and of detached jobs. */
#include "coordinator/shell_internal.h"

#include <stdio.h>

static void drop_peer(struct shell *shell, const struct coordinator_effect *effect)
{
    log_event(LOG_DEBUG, "drop", "link=%llx code=%s", (unsigned long long)effect->link,
              farpool_error_name(effect->code));
    const struct peer *peer = shell_find_peer(shell, effect->link);
    if (effect->code == FARPOOL_EKEY && peer != NULL)
        gate_log_refused(&peer->holder, effect->text);
    shell_end_peer(shell, effect->link, effect->text, true, effect->code);
    shell_close_link(shell, effect->link, effect->text);
}

/* For the keeper of keys. Who asked may be gone by now. */
static void ask_gate(struct shell *shell, const struct coordinator_effect *effect)
{
    const struct peer *peer = shell_find_peer(shell, effect->link);
    if (peer == NULL || gate_ask(shell->gate, effect->link, &peer->holder,
                                 effect->message, shell->now_ms) == 0)
        return;
    shell_drop_for_memory(shell, effect->link);
}

/* For the keeper of detached jobs. */
static void ask_detached(struct shell *shell, struct coordinator_effect *effect)
{
    const struct peer *peer = shell_find_peer(shell, effect->link);
    const bool none = shell->options->state == NULL;
    if (peer == NULL)
        return;
    if (shell->detached == NULL) {
        struct message *refusal = detached_refuse(
            effect->message, none ? FARPOOL_ENOSTATE : FARPOOL_ENOCOORDINATOR,
            none
                ? "the coordinator keeps no detached jobs: it runs without --state FOLDER"
                : "the coordinator is shutting down");
        if (refusal != NULL)
            shell_send(shell, effect->link, &refusal);
        else
            shell_drop_for_memory(shell, effect->link);
        message_free(&refusal);
    } else if (!detached_ask(shell->detached, effect->link, &peer->holder,
                             &effect->message)) {
        const char *text = "too much waits for the disk of detached jobs";
        shell_close_link(shell, effect->link, text);
        shell_end_peer(shell, effect->link, text, false, FARPOOL_EFULL);
    }
}

static void on_detached_answer(void *user, uint64_t link, struct message **message)
{
    struct shell *shell = user;
    if (shell_find_peer(shell, link) != NULL)
        shell_send(shell, link, message);
}

static void on_detached_say(void *user, uint64_t link, const struct holder *holder,
                            struct message **message)
{
    shell_take_message(user, link, holder, message);
}

static void on_detached_hang_up(void *user, uint64_t link)
{
    if (shell_find_peer(user, link) != NULL)
        shell_end_peer(user, link, "a detached job's client has gone", false, 0);
}

static void on_detached_drop(void *user, uint64_t link)
{
    if (shell_find_peer(user, link) != NULL)
        shell_drop_for_memory(user, link);
}

void shell_serve_detached(struct shell *shell)
{
    const struct detached_calls calls = {
        .answer = on_detached_answer,
        .say = on_detached_say,
        .hang_up = on_detached_hang_up,
        .drop = on_detached_drop,
        .user = shell,
    };
    if (shell->detached != NULL)
        detached_serve(shell->detached, &calls);
}

void shell_stop_detached(struct shell *shell)
{
    struct peer *peer, *next;
    detached_close(shell->detached);
    shell->detached = NULL;
    HASH_ITER (hh, shell->peers, peer, next)
        if (detached_is_link(peer->link))
            shell_end_peer(shell, peer->link, "shutting down", false, 0);
}

void shell_on_keys_done(void *user, uint64_t link, const struct coordinator_keys *keys)
{
    struct shell *shell = user;
    struct coordinator_event event = {.kind = COORDINATOR_KEYS_DONE,
                                      .now_ms = shell->now_ms,
                                      .link = link,
                                      .keys = keys};
    if (coordinator_core_step(shell->core, &event, &shell->effects) != 0)
        shell_drop_for_memory(shell, link);
}

/* By place, since carrying one out may add others (a relayed client that ends). */
static void carry_out(struct shell *shell)
{
    for (size_t i = 0; i < shell->effects.count; i++) {
        struct coordinator_effect effect = shell->effects.items[i];
        shell->effects.items[i].message = NULL;
        if (effect.kind == COORDINATOR_SEND)
            shell_send(shell, effect.link, &effect.message);
        else if (effect.kind == COORDINATOR_KEYS)
            ask_gate(shell, &effect);
        else if (effect.kind == COORDINATOR_DETACHED)
            ask_detached(shell, &effect);
        else
            drop_peer(shell, &effect);
        message_free(&effect.message);
    }
    coordinator_effects_clear(&shell->effects);
}

void shell_flush(struct shell *shell)
{
    struct coordinator_event event = {.kind = COORDINATOR_FLUSH,
                                      .now_ms = shell->now_ms,
                                      .behind = net_is_behind(shell->net)};
    if (coordinator_core_step(shell->core, &event, &shell->effects) != 0)
        log_event(LOG_WARNING, "out-of-memory", "while=\"handing out tasks\"");
    carry_out(shell);
    net_flush(shell->net);
}
