/* SPDX-License-Identifier: Apache-2.0
 *
 * queue.c: what waits to go out on a link, and in which order.
 *
 * Messages leave in order, but for two cases. A heartbeat passes everything but a hello:
 * it says that the sender's loop works. And while a large message goes out in PARTs,
 * small ones behind it pass where neither the cores nor a relayed client can tell the
 * difference: see may_pass. The first message that may not pass is a barrier to all
 * behind it.
 *
 * A large message is a stream: u32 size of its header, u32 number of its bodies, u64 size
 * of each (little endian), the header, the bodies. PARTs are slices of these, never
 * copies; so a PART does not reach over a body's end. */
#include "common/net/net_internal.h"

#include <string.h>

#define PART_SHARE                                                                       \
    (ENVELOPE_BYTES_MAX / 2) /* of an envelope: a PART is added up to there,             \
                                and so much may pass each PART */

void net_queue_init(struct queue *queue)
{
    memset(queue, 0, sizeof *queue);
    STAILQ_INIT(&queue->urgent);
    STAILQ_INIT(&queue->normal);
}

static void outgoing_free(struct outgoing *outgoing)
{
    if (outgoing != NULL)
        frames_fini(&outgoing->frames);
    mem_free(outgoing);
}

static void list_fini(struct outgoing_list *list)
{
    while (!STAILQ_EMPTY(list)) {
        struct outgoing *outgoing = STAILQ_FIRST(list);
        STAILQ_REMOVE_HEAD(list, entry);
        outgoing_free(outgoing);
    }
}

void net_queue_fini(struct queue *queue)
{
    list_fini(&queue->urgent);
    list_fini(&queue->normal);
    outgoing_free(queue->large);
    payload_unref(&queue->head);
    net_queue_init(queue);
}

bool net_queue_empty(const struct queue *queue)
{
    return STAILQ_EMPTY(&queue->urgent) && STAILQ_EMPTY(&queue->normal) &&
           queue->large == NULL;
}

static uint64_t frames_bytes(const struct frames *frames)
{
    uint64_t bytes = frames->header->size;
    for (size_t i = 0; i < frames->bodies_count; i++)
        bytes += frames->bodies[i]->size;
    return bytes;
}

static size_t head_size(const struct frames *frames)
{
    return 8 + 8 * frames->bodies_count + frames->header->size;
}

int net_queue_add(struct queue *queue, enum message_kind kind, struct frames *frames)
{
    uint64_t bytes = frames_bytes(frames);
    if (bytes + 8 + 8 * frames->bodies_count > ASSEMBLY_BYTES_MAX ||
        frames->bodies_count > ENVELOPE_FRAMES_MAX)
        return FARPOOL_ETOOBIG;
    struct outgoing *outgoing = mem_alloc(sizeof *outgoing);
    if (outgoing == NULL)
        return FARPOOL_ENOMEM;
    outgoing->kind = kind;
    outgoing->bytes = bytes;
    outgoing->frames = *frames;
    memset(frames, 0, sizeof *frames);
    if (kind == MSG_HEARTBEAT && queue->begun)
        STAILQ_INSERT_TAIL(&queue->urgent, outgoing, entry);
    else
        STAILQ_INSERT_TAIL(&queue->normal, outgoing, entry);
    queue->bytes += bytes;
    return 0;
}

/* Small messages that mean the same before and after a large TASKS, DONE or RELAY: none
 * of them ends or cancels what the large one speaks of, and none needs it. A large
 * POOL_OPEN (its initializer's argument) is passed by heartbeats only, since everything
 * behind it may need the pool. */
static bool may_pass(enum message_kind small, enum message_kind large)
{
    if (large != MSG_TASKS && large != MSG_DONE && large != MSG_RELAY)
        return false;
    switch (small) {
    case MSG_TASKS:
    case MSG_DONE:
    case MSG_FAILED:
    case MSG_ACK:
    case MSG_JOB_OPEN:
    case MSG_POOL_OPEN:
    case MSG_POOL_STATE:
    case MSG_JOB_STATE:
    case MSG_LOAD:
    case MSG_FETCH:
    case MSG_BLOB:
    case MSG_OUTPUT:
    case MSG_STATUS_GET:
    case MSG_STATUS:
        return true;
    default:
        return false;
    }
}

static bool is_large(const struct outgoing *outgoing)
{
    return outgoing->bytes > PLAIN_BYTES_MAX;
}

/* Moves the first message of a list into the envelope. false: out of memory. */
static bool move_first(struct queue *queue, struct outgoing_list *list,
                       struct envelope *envelope)
{
    struct outgoing *outgoing = STAILQ_FIRST(list);
    if (!net_envelope_add(envelope, &outgoing->frames))
        return false;
    STAILQ_REMOVE_HEAD(list, entry);
    queue->bytes -= outgoing->bytes;
    queue->begun = true;
    outgoing_free(outgoing);
    return true;
}

static bool fits(const struct envelope *envelope, const struct outgoing *outgoing)
{
    return net_envelope_fits(envelope, outgoing->bytes, outgoing->frames.bodies_count);
}

static bool move_urgent(struct queue *queue, struct envelope *envelope)
{
    while (!STAILQ_EMPTY(&queue->urgent) &&
           fits(envelope, STAILQ_FIRST(&queue->urgent))) {
        if (!move_first(queue, &queue->urgent, envelope))
            return false;
    }
    return true;
}

static void put_number(uint8_t *text, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        text[i] = (uint8_t)(value >> (8 * i));
}

/* The message at the head of the queue begins to go out in PARTs. */
static bool begin_large(struct queue *queue)
{
    struct outgoing *outgoing = STAILQ_FIRST(&queue->normal);
    const struct frames *frames = &outgoing->frames;
    struct payload *head = payload_create(head_size(frames));
    if (head == NULL)
        return false;
    uint8_t *text = payload_bytes(head);
    put_number(text, frames->header->size, 4);
    put_number(text + 4, frames->bodies_count, 4);
    for (size_t i = 0; i < frames->bodies_count; i++)
        put_number(text + 8 + 8 * i, frames->bodies[i]->size, 8);
    memcpy(text + 8 + 8 * frames->bodies_count, frames->header->data,
           frames->header->size);
    STAILQ_REMOVE_HEAD(&queue->normal, entry);
    queue->large = outgoing;
    queue->head = head;
    queue->piece = 0;
    queue->piece_offset = 0;
    queue->offset = 0;
    queue->total = outgoing->bytes + 8 + 8 * frames->bodies_count;
    return true;
}

static void end_large(struct queue *queue)
{
    queue->bytes -= queue->large->bytes;
    outgoing_free(queue->large);
    queue->large = NULL;
    payload_unref(&queue->head);
}

static struct payload *piece_at(const struct queue *queue)
{
    return queue->piece == 0 ? queue->head
                             : queue->large->frames.bodies[queue->piece - 1];
}

static int encode_part(const struct queue *queue, size_t size, struct frames *ret_frames)
{
    struct message *part = message_create(MSG_PART);
    if (part == NULL)
        return FARPOOL_ENOMEM;
    part->part.total = queue->total;
    part->part.offset = queue->offset;
    part->part.data = payload_slice(piece_at(queue), queue->piece_offset, size);
    int result =
        part->part.data == NULL ? FARPOOL_ENOMEM : message_encode(part, ret_frames);
    message_free(&part);
    return result;
}

static bool part_fits(const struct envelope *envelope)
{
    return envelope->bytes <= PART_SHARE && envelope->messages < ENVELOPE_MESSAGES_MAX &&
           envelope->bodies_count < ENVELOPE_FRAMES_MAX;
}

/* Adds the next PART; 0 or ENOMEM. */
static int move_part(struct queue *queue, struct envelope *envelope)
{
    size_t size = piece_at(queue)->size - queue->piece_offset;
    if (size > PART_BYTES_MAX)
        size = PART_BYTES_MAX;
    struct frames frames;
    int result = encode_part(queue, size, &frames);
    if (result != 0)
        return result;
    bool added = net_envelope_add(envelope, &frames);
    frames_fini(&frames);
    if (!added)
        return FARPOOL_ENOMEM;
    queue->piece_offset += size;
    queue->offset += size;
    return 0;
}

/* Goes on to the next piece that has bytes; the whole may end there. */
static void skip_empty(struct queue *queue)
{
    while (queue->large != NULL && queue->piece_offset == piece_at(queue)->size) {
        queue->piece++;
        queue->piece_offset = 0;
        if (queue->piece > queue->large->frames.bodies_count)
            end_large(queue);
    }
}

static bool passes(const struct queue *queue, const struct envelope *envelope,
                   const struct outgoing *outgoing)
{
    return may_pass(outgoing->kind, queue->large->kind) &&
           envelope->bytes + outgoing->bytes <= PART_SHARE &&
           envelope->messages + 1 < ENVELOPE_MESSAGES_MAX &&
           envelope->bodies_count + outgoing->frames.bodies_count < ENVELOPE_FRAMES_MAX;
}

/* What passes leaves room for one PART, so that neither starves the other. 0: the large
 * message has gone; FARPOOL_END: the envelope is full; ENOMEM. */
static int fill_parts(struct queue *queue, struct envelope *envelope)
{
    struct outgoing *first;
    while ((first = STAILQ_FIRST(&queue->normal)) != NULL &&
           passes(queue, envelope, first)) {
        if (!move_first(queue, &queue->normal, envelope))
            return FARPOOL_ENOMEM;
    }
    while (queue->large != NULL) {
        if (!part_fits(envelope))
            return FARPOOL_END;
        int result = move_part(queue, envelope);
        if (result != 0)
            return result;
        skip_empty(queue);
    }
    return 0;
}

/* 0: the queue is empty; FARPOOL_END: the envelope is full; ENOMEM. */
static int fill(struct queue *queue, struct envelope *envelope)
{
    if (!move_urgent(queue, envelope))
        return FARPOOL_ENOMEM;
    for (;;) {
        if (queue->large != NULL) {
            int result = fill_parts(queue, envelope);
            if (result != 0)
                return result;
        }
        struct outgoing *first = STAILQ_FIRST(&queue->normal);
        if (first == NULL)
            return 0;
        if (is_large(first)) {
            if (!begin_large(queue))
                return FARPOOL_ENOMEM;
            continue;
        }
        if (!fits(envelope, first))
            return FARPOOL_END;
        if (!move_first(queue, &queue->normal, envelope))
            return FARPOOL_ENOMEM;
    }
}

int net_queue_fill(struct queue *queue, struct envelope *envelope)
{
    int result = fill(queue, envelope);
    return result == FARPOOL_ENOMEM && envelope->messages == 0 ? FARPOOL_ENOMEM : 0;
}
