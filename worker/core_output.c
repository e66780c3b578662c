/* SPDX-License-Identifier: Apache-2.0
 *
 * core_output.c: what processes print, on its way to the pool's client. Lines wait in
 * their pool for others to go with, but never behind a result: what is held goes out in
 * front of the next DONE or FAILED, each line the way that its task's result goes.
 *
 * Nothing depends on it, so it is bounded and never in the way: a pool may send so many
 * bytes a second, and hold so many while the link is down; what is beyond is left out,
 * and only counted. Sent once, it is forgotten: with a link that goes it may be lost, but
 * it never comes twice. */
#include "worker/core_internal.h"

#include <assert.h>
#include <string.h>

#define BURST_BYTES (UINT64_C(1) << 20)     /* that a pool may send at once */
#define RATE_BYTES (UINT64_C(1) << 20)      /* and then a second */
#define HELD_BYTES_MAX (UINT64_C(1) << 18)  /* of a pool */
#define ALL_BYTES_MAX (UINT64_C(1) << 23)   /* of all of them */
#define ENOUGH_BYTES (OUTPUT_BYTES_MAX / 2) /* for a message by itself */
#define PIECE_BYTES 64                      /* that a piece counts for besides its text */
#define WAIT_MS 20

static uint32_t count_lines(const char *text, size_t bytes)
{
    uint32_t lines = 0;
    const char *end = text + bytes;
    while (text < end && (text = memchr(text, '\n', (size_t)(end - text))) != NULL) {
        lines++;
        text++;
    }
    return lines;
}

/* --------------------------------------------------------------------------- taking */

static void refill(const struct worker_core *core, struct output *output)
{
    const uint64_t passed_ms = core->now_ms - output->refilled_ms;
    const uint64_t more = passed_ms >= 1000 ? BURST_BYTES : passed_ms * RATE_BYTES / 1000;
    output->allowance =
        more > BURST_BYTES - output->allowance ? BURST_BYTES : output->allowance + more;
    if (more > 0)
        output->refilled_ms = core->now_ms;
}

void worker_output_init(const struct worker_core *core, struct pool *pool, bool wanted)
{
    pool->output.wanted = wanted;
    pool->output.allowance = BURST_BYTES;
    pool->output.refilled_ms = core->now_ms;
    pool->output.due_ms = UINT64_MAX;
}

static bool is_same(const struct printed *a, const struct printed *b)
{
    return a->job == b->job && a->first == b->first && a->count == b->count &&
           a->attempt == b->attempt && a->pid == b->pid && a->fd == b->fd &&
           a->lane == b->lane && a->bytes + b->bytes <= OUTPUT_BYTES_MAX;
}

/* false: no memory. */
static bool hold(struct output *output, const struct printed *printed, const char *text)
{
    struct printed *last =
        output->pieces_count > 0 ? &output->pieces[output->pieces_count - 1] : NULL;
    if (!mem_reserve(&output->text, &output->text_capacity,
                     output->text_bytes + printed->bytes, 1))
        return false;
    if (last != NULL && is_same(last, printed)) {
        last->bytes += printed->bytes;
        last->lines += printed->lines;
    } else {
        if (!mem_reserve(&output->pieces, &output->pieces_capacity,
                         output->pieces_count + 1, sizeof *output->pieces))
            return false;
        output->pieces[output->pieces_count++] = *printed;
    }
    memcpy(output->text + output->text_bytes, text, printed->bytes);
    output->text_bytes += printed->bytes;
    return true;
}

static bool may_hold(const struct worker_core *core, const struct output *output,
                     uint64_t bytes)
{
    return bytes <= output->allowance && output->text_bytes + bytes <= HELD_BYTES_MAX &&
           core->output_bytes + bytes <= ALL_BYTES_MAX;
}

void worker_output_take(struct worker_core *core, struct process *process,
                        const struct worker_event *event)
{
    struct pool *pool = process->pool;
    struct output *output = &pool->output;
    struct printed printed = {.pid = (uint32_t)event->pid,
                              .fd = (uint32_t)event->fd,
                              .bytes = (uint32_t)event->output_bytes,
                              .lines = count_lines(event->output, event->output_bytes)};
    const struct piece *piece =
        event->count > 0 ? worker_process_find(process, event->give, event->first) : NULL;
    assert(event->output_bytes > 0 && event->output_bytes <= OUTPUT_BYTES_MAX);
    if (!output->wanted || pool->state == POOL_FORGOTTEN)
        return;
    if (piece != NULL) {
        printed.job = piece->job->number;
        printed.first = piece->job->calls ? 0 : event->first;
        printed.count = piece->job->calls ? 1 : event->count;
        printed.attempt = piece->attempt;
        printed.lane = piece->lane;
    }
    refill(core, output);
    const uint64_t cost = event->output_bytes + PIECE_BYTES;
    if (may_hold(core, output, cost) && hold(output, &printed, event->output)) {
        output->allowance -= cost;
        core->output_bytes += event->output_bytes;
    } else {
        output->left_out += printed.lines;
    }
    if (output->due_ms == UINT64_MAX)
        output->due_ms = worker_after(core->now_ms, WAIT_MS);
    if (output->due_ms < core->output_due_ms)
        core->output_due_ms = output->due_ms;
}

/* -------------------------------------------------------------------------- sending */

static bool is_due(const struct worker_core *core, const struct pool *pool)
{
    return pool->output.due_ms != UINT64_MAX &&
           (pool->output.due_ms <= core->now_ms || pool->state != POOL_OPEN ||
            core->state != CORE_WORKING || pool->output.text_bytes >= ENOUGH_BYTES ||
            worker_results_due(core));
}

/* The pieces from `*place` on that one message takes: they go the same way; with the text
 * from *offset on. */
static int fill(const struct output *output, struct message *message, size_t *place,
                size_t *offset)
{
    uint64_t bytes = 0;
    size_t count = 0;
    while (*place + count < output->pieces_count && count < SPANS_MAX &&
           output->pieces[*place + count].lane == output->pieces[*place].lane &&
           bytes + output->pieces[*place + count].bytes <= OUTPUT_BYTES_MAX)
        bytes += output->pieces[*place + count++].bytes;
    if (count > 0 &&
        !(message->output.pieces = mem_alloc(count * sizeof *message->output.pieces)))
        return FARPOOL_ENOMEM;
    for (; message->output.pieces_count < count; ++*place) {
        const struct printed *from = &output->pieces[*place];
        struct msg_printed *to = &message->output.pieces[message->output.pieces_count++];
        *to = (struct msg_printed){.job = from->job,
                                   .first = from->first,
                                   .count = from->count,
                                   .attempt = from->attempt,
                                   .pid = from->pid,
                                   .fd = from->fd,
                                   .lines = from->lines};
        if ((to->text = payload_copy(output->text + *offset, from->bytes)) == NULL)
            return FARPOOL_ENOMEM;
        *offset += from->bytes;
    }
    return 0;
}

/* What is sent is gone, also when memory runs out behind it. */
static int send_some(struct worker_core *core, struct pool *pool)
{
    struct output *output = &pool->output;
    struct lane *lane = output->pieces_count > 0 ? output->pieces[0].lane : NULL;
    size_t place = 0, offset = 0;
    struct message *message = worker_message(core, MSG_OUTPUT);
    if (message == NULL || fill(output, message, &place, &offset) != 0) {
        message_free(&message);
        return FARPOOL_ENOMEM;
    }
    message->output.pool = pool->id;
    memcpy(message->output.node, core->config.node, sizeof message->output.node);
    message->output.left_out = output->left_out;
    if (lane != NULL)
        worker_lane_send(core, lane, message);
    else
        worker_send(core, message);
    output->left_out = 0;
    output->pieces_count -= place;
    if (output->pieces_count > 0)
        memmove(output->pieces, output->pieces + place,
                output->pieces_count * sizeof *output->pieces);
    output->text_bytes -= offset;
    if (output->text_bytes > 0)
        memmove(output->text, output->text + offset, output->text_bytes);
    core->output_bytes -= offset;
    return 0;
}

int worker_flush_output(struct worker_core *core)
{
    struct pool *pool;
    if (core->link != LINK_UP || core->output_due_ms == UINT64_MAX)
        return 0;
    core->output_due_ms = UINT64_MAX;
    TAILQ_FOREACH (pool, &core->pools, link) {
        struct output *output = &pool->output;
        int error = 0;
        if (is_due(core, pool)) {
            while (!error && (output->pieces_count > 0 || output->left_out > 0))
                error = send_some(core, pool);
            if (!error)
                output->due_ms = UINT64_MAX;
        }
        if (output->due_ms < core->output_due_ms)
            core->output_due_ms = output->due_ms;
        if (error)
            return error;
    }
    return 0;
}

uint64_t worker_output_deadline(const struct worker_core *core)
{
    return core->link == LINK_UP ? core->output_due_ms : UINT64_MAX;
}

void worker_output_reroute(struct pool *pool, const struct lane *lane)
{
    for (size_t i = 0; i < pool->output.pieces_count; i++)
        if (pool->output.pieces[i].lane == lane)
            pool->output.pieces[i].lane = NULL;
}

void worker_output_fini(struct worker_core *core, struct pool *pool)
{
    core->output_bytes -= pool->output.text_bytes;
    mem_free(pool->output.text);
    mem_free(pool->output.pieces);
}
