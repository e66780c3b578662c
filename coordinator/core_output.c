/* SPDX-License-Identifier: Apache-2.0
 *
 * core_output.c: OUTPUT on its way from a worker to the pool's client. The message itself
 * is passed on. Nothing depends on it: it is dropped when no client is there, and what is
 * more than a client is sent of such in a second goes without its lines, of which only
 * the number is told. */
#include "coordinator/core_internal.h"

#include <string.h>

#define BURST_BYTES (UINT64_C(4) << 20) /* that a client is sent at once */
#define RATE_BYTES (UINT64_C(4) << 20)  /* and then a second */
#define MESSAGE_BYTES 256               /* that each message counts for besides */

static void refill(const struct coordinator_core *core, struct client *client)
{
    const uint64_t passed_ms = core->now_ms - client->output_ms;
    const uint64_t more = smaller(passed_ms, 1000) * RATE_BYTES / 1000;
    client->output_used -= smaller(client->output_used, more);
    client->output_ms = core->now_ms;
}

/* The lines stay behind. */
static void strip(struct message *message)
{
    for (uint32_t i = 0; i < message->output.pieces_count; i++) {
        struct msg_printed *piece = &message->output.pieces[i];
        message->output.left_out = add_saturated(message->output.left_out, piece->lines);
        payload_unref(&piece->text);
    }
    message->output.pieces_count = 0;
}

int koutput(struct coordinator_core *core, struct worker *worker,
            struct message **message)
{
    struct message *output = *message;
    const struct pool *pool = kpool_find(core, &output->output.pool);
    struct client *client = pool ? pool->owner : NULL;
    const uint64_t cost = MESSAGE_BYTES + message_body_bytes(output);
    if (!client || !kmember_find(pool, worker))
        return 0;
    if (kforward(core, client->link, message))
        return FARPOOL_ENOMEM;
    memcpy(output->output.node, worker->node, sizeof output->output.node);
    refill(core, client);
    if (client->output_used + cost > BURST_BYTES)
        strip(output);
    else
        client->output_used += cost;
    return 0;
}
