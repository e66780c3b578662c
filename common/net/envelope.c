/* SPDX-License-Identifier: Apache-2.0
 *
 * envelope.c: several messages in one ZeroMQ message, so that its cost is shared by all
 * that waits for the same link. Frame 0:
 *
 *     'F' 'P' version=1 0, u32 messages, and of each: u32 size of its header, u32 number
 *     of its bodies, the header; all little endian
 *
 * and the bodies follow as frames, in order. The reader checks all of frame 0, and its
 * counts against the frames that came, before anything is made of it. Whether a message
 * makes sense is asked by message_decode. */
#include "common/net/net_internal.h"

#include <string.h>

#define PROLOGUE 8
#define ITEM_PROLOGUE 8
static const uint8_t magic[4] = {'F', 'P', 1, 0};

static void put_u32(uint8_t *text, size_t value)
{
    for (int i = 0; i < 4; i++)
        text[i] = (uint8_t)(value >> (8 * i));
}

static uint32_t get_u32(const uint8_t *text)
{
    return (uint32_t)text[0] | (uint32_t)text[1] << 8 | (uint32_t)text[2] << 16 |
           (uint32_t)text[3] << 24;
}

void net_envelope_clear(struct envelope *envelope)
{
    for (size_t i = 0; i < envelope->bodies_count; i++)
        payload_unref(&envelope->bodies[i]);
    envelope->bodies_count = 0;
    envelope->used = 0;
    envelope->messages = 0;
    envelope->bytes = 0;
}

void net_envelope_fini(struct envelope *envelope)
{
    net_envelope_clear(envelope);
    mem_free(envelope->text);
    mem_free(envelope->bodies);
    memset(envelope, 0, sizeof *envelope);
}

bool net_envelope_fits(const struct envelope *envelope, uint64_t bytes, size_t bodies)
{
    if (envelope->messages == 0)
        return true;
    return envelope->messages < ENVELOPE_MESSAGES_MAX &&
           envelope->bodies_count + bodies <= ENVELOPE_FRAMES_MAX &&
           envelope->bytes + bytes <= ENVELOPE_BYTES_MAX;
}

bool net_envelope_add(struct envelope *envelope, const struct frames *frames)
{
    size_t size = frames->header->size;
    size_t start = envelope->messages == 0 ? PROLOGUE : envelope->used;
    size_t bodies = envelope->bodies_count + frames->bodies_count;
    if (!mem_reserve(&envelope->text, &envelope->capacity, start + ITEM_PROLOGUE + size,
                     1) ||
        !mem_reserve(&envelope->bodies, &envelope->bodies_capacity, bodies,
                     sizeof *envelope->bodies))
        return false;
    uint8_t *item = envelope->text + start;
    put_u32(item, size);
    put_u32(item + 4, frames->bodies_count);
    memcpy(item + ITEM_PROLOGUE, frames->header->data, size);
    envelope->used = start + ITEM_PROLOGUE + size;
    envelope->bytes += size;
    for (size_t i = 0; i < frames->bodies_count; i++) {
        envelope->bodies[envelope->bodies_count++] = payload_ref(frames->bodies[i]);
        envelope->bytes += frames->bodies[i]->size;
    }
    envelope->messages++;
    memcpy(envelope->text, magic, sizeof magic);
    put_u32(envelope->text + 4, envelope->messages);
    return true;
}

bool net_envelope_next(struct envelope_reader *reader, struct envelope_item *ret_item)
{
    if (reader->messages == 0 || reader->left < ITEM_PROLOGUE)
        return false;
    uint32_t size = get_u32(reader->data), bodies = get_u32(reader->data + 4);
    if (size > reader->left - ITEM_PROLOGUE)
        return false;
    ret_item->header = reader->data + ITEM_PROLOGUE;
    ret_item->header_size = size;
    ret_item->bodies_count = bodies;
    reader->data += ITEM_PROLOGUE + size;
    reader->left -= ITEM_PROLOGUE + size;
    reader->messages--;
    return true;
}

const char *net_envelope_open(const void *data, size_t size, size_t bodies_count,
                              struct envelope_reader *ret_reader)
{
    struct envelope_reader reader = {data, size, 0};
    if (size < PROLOGUE || memcmp(data, magic, 2) != 0)
        return "not a Farpool message";
    if (memcmp(data, magic, sizeof magic) != 0)
        return "another version of Farpool's envelope";
    reader.messages = get_u32(reader.data + 4);
    reader.data += PROLOGUE;
    reader.left -= PROLOGUE;
    if (reader.messages == 0 || reader.messages > ENVELOPE_MESSAGES_MAX)
        return "bad number of messages in an envelope";
    struct envelope_reader check = reader;
    struct envelope_item item;
    size_t bodies = 0;
    while (net_envelope_next(&check, &item)) {
        if (item.bodies_count > bodies_count - bodies)
            return "bodies missing in an envelope";
        bodies += item.bodies_count;
    }
    if (check.messages != 0 || check.left != 0)
        return "bad sizes in an envelope";
    if (bodies != bodies_count)
        return "too many bodies in an envelope";
    *ret_reader = reader;
    return NULL;
}
