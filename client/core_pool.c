/* SPDX-License-Identifier: Apache-2.0
 *
 * core_pool.c: how a pool fails and how it ends.
 *
 * fail_code is why every unfinished task fails, and stays; the state says what is still
 * to be done. A pool that only closes waits for its jobs without limit, and then for
 * POOL_CLOSED as long as the link lives; a terminated one for TERMINATE_MS at most. Once
 * nothing is left to do, a dead link ends the pool too: the coordinator, or each worker
 * by itself, closes a pool whose client is gone.
 *
 * A nested client never closes the pool it runs in: it leaves with BYE. */
#include "client/core_internal.h"

#include <stdio.h>

/* [from] -> a bit a state that may follow. */
static const unsigned allowed[] = {
    [POOL_RUNNING] = 1u << POOL_FAILED | 1u << POOL_CLOSING | 1u << POOL_TERMINATING,
    [POOL_FAILED] = 1u << POOL_CLOSING | 1u << POOL_TERMINATING,
    [POOL_CLOSING] = 1u << POOL_TERMINATING | 1u << POOL_ENDING | 1u << POOL_ENDED,
    [POOL_TERMINATING] = 1u << POOL_ENDING | 1u << POOL_ENDED,
    [POOL_ENDING] = 1u << POOL_TERMINATING | 1u << POOL_ENDED,
    [POOL_ENDED] = 0,
};

static void move(struct client_core *core, enum pool_state state)
{
    assert(allowed[core->state] & 1u << state);
    core->state = state;
}

int client_pool_code(int code)
{
    return code < 0 && code >= FARPOOL_ENOSTATE ? code : FARPOOL_EPROTOCOL;
}

int client_pool_fail(struct client_core *core, int code, const char *text,
                     const char *node, struct client_effects *effects)
{
    if (core->fail_code || core->state == POOL_ENDING || core->state == POOL_ENDED)
        return 0;
    struct client_effect *effect = client_effects_add(effects, CLIENT_POOL_FAILED);
    if (!effect)
        return FARPOOL_ENOMEM;
    core->fail_code = code;
    snprintf(core->fail_text, sizeof core->fail_text, "%s", text);
    snprintf(core->fail_node, sizeof core->fail_node, "%s", node);
    effect->code = code;
    snprintf(effect->text, sizeof effect->text, "%s", core->fail_text);
    snprintf(effect->node, sizeof effect->node, "%s", core->fail_node);
    if (core->state == POOL_RUNNING)
        move(core, POOL_FAILED);
    return 0;
}

int client_pool_give_up(struct client_core *core, const struct client_event *event,
                        struct client_effects *effects)
{
    const int error = client_pool_fail(core, event->code, event->text, "", effects);
    /* POOL_CLOSED may be among what the shell has lost. */
    if (!error && core->state == POOL_ENDING && core->end_by_ms == UINT64_MAX)
        core->end_by_ms = core->now_ms + TERMINATE_MS;
    return error;
}

int client_pool_handle_failed(struct client_core *core, const struct message *message,
                              struct client_effects *effects)
{
    const char *text = message->pool_failed.text ? message->pool_failed.text : "";
    const int code = client_pool_code(message->pool_failed.code);
    if (message->pool_failed.fatal || message->pool_failed.nodes_left == 0)
        return client_pool_fail(core, code, text, message->pool_failed.node, effects);
    struct client_effect *effect = client_effects_add(effects, CLIENT_WARNING);
    if (!effect)
        return FARPOOL_ENOMEM;
    effect->code = code;
    snprintf(effect->text, sizeof effect->text, "%s", text);
    snprintf(effect->node, sizeof effect->node, "%s", message->pool_failed.node);
    return 0;
}

void client_pool_close(struct client_core *core)
{
    if (core->state == POOL_RUNNING || core->state == POOL_FAILED)
        move(core, POOL_CLOSING);
}

void client_pool_terminate(struct client_core *core)
{
    if (core->state == POOL_TERMINATING || core->state == POOL_ENDED)
        return;
    if (core->state == POOL_ENDING && core->end_by_ms != UINT64_MAX)
        return; /* killed already */
    move(core, POOL_TERMINATING);
    core->end_by_ms = core->now_ms + TERMINATE_MS;
    if (!core->fail_code) {
        core->fail_code = FARPOOL_ETERMINATED;
        snprintf(core->fail_text, sizeof core->fail_text, "the pool was terminated");
    }
}

static int end(struct client_core *core, struct client_effects *effects)
{
    const size_t mark = effects->count;
    if (core->link == LINK_WELCOMED) {
        struct message *bye = message_create(MSG_BYE);
        if (bye)
            snprintf(bye->bye.reason, sizeof bye->bye.reason, "the pool has ended");
        if (client_send_message(effects, &bye))
            return FARPOOL_ENOMEM;
    }
    if (!client_effects_add(effects, CLIENT_POOL_ENDED)) {
        client_effects_truncate(effects, mark);
        return FARPOOL_ENOMEM;
    }
    move(core, POOL_ENDED);
    return 0;
}

int client_pool_handle_closed(struct client_core *core, struct client_effects *effects)
{
    return core->state == POOL_ENDING ? end(core, effects) : 0;
}

static int send_close(struct client_core *core, bool kill, struct client_effects *effects)
{
    struct message *message = message_create(MSG_POOL_CLOSE);
    if (message) {
        message->pool_close.pool = core->config.pool;
        message->pool_close.kill = kill;
    }
    if (client_send_message(effects, &message))
        return FARPOOL_ENOMEM;
    if (kill && core->end_by_ms == UINT64_MAX)
        core->end_by_ms = core->now_ms + TERMINATE_MS;
    move(core, POOL_ENDING);
    return 0;
}

int client_pool_flush(struct client_core *core, struct client_effects *effects)
{
    const bool up = core->link == LINK_WELCOMED;
    switch (core->state) {
    case POOL_RUNNING:
    case POOL_FAILED:
    case POOL_ENDED:
        return 0;
    case POOL_CLOSING:
    case POOL_TERMINATING:
        if (core->jobs)
            return 0;
        if (up && !core->config.attach)
            return send_close(core, core->fail_code != 0, effects);
        return end(core, effects);
    case POOL_ENDING:
        return up && core->now_ms < core->end_by_ms ? 0 : end(core, effects);
    }
    return 0;
}
