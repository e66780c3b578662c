/* SPDX-License-Identifier: Apache-2.0
 *
 * message_encode.c: a message as frames. The header is packed by msgpack-c into a buffer
 * on the stack, which moves to the heap when it grows and never exceeds
 * MESSAGE_HEADER_MAX; bodies are shared, not copied.
 *
 * Everything is checked on the way as the decoder will check it: a message that no peer
 * would take is refused here, where whose bug it is can still be seen. */
#include "common/base/mem.h"
#include "common/base/message_table.h"

#include <msgpack.h>
#include <string.h>

#define BUFFER_FIRST 2048

struct buffer {
    char *first; /* on the stack */
    char *bytes; /* `first`, or on the heap */
    size_t size, capacity;
    int error; /* why a write failed */
};

struct encoder {
    struct buffer buffer;
    msgpack_packer packer;
    struct payload **bodies; /* MESSAGE_BODIES_MAX, borrowed */
    size_t bodies_count;
};

static bool buffer_grow(struct buffer *buffer, size_t need)
{
    if (need > MESSAGE_HEADER_MAX) {
        buffer->error = FARPOOL_EINVAL;
        return false;
    }
    size_t capacity = buffer->capacity;
    while (capacity < need)
        capacity *= 2;
    char *old = buffer->bytes == buffer->first ? NULL : buffer->bytes;
    char *bytes = mem_realloc(old, capacity);
    if (!bytes) {
        buffer->error = FARPOOL_ENOMEM;
        return false;
    }
    if (!old)
        memcpy(bytes, buffer->first, buffer->size);
    buffer->bytes = bytes;
    buffer->capacity = capacity;
    return true;
}

static int buffer_write(void *user, const char *bytes, size_t size)
{
    struct buffer *buffer = user;
    if (size > buffer->capacity - buffer->size &&
        !buffer_grow(buffer, buffer->size + size))
        return -1;
    if (size)
        memcpy(buffer->bytes + buffer->size, bytes, size);
    buffer->size += size;
    return 0;
}

static void buffer_fini(struct buffer *buffer)
{
    if (buffer->bytes != buffer->first)
        mem_free(buffer->bytes);
}

/* What a failed write means; a pack function tells only that it failed. */
static int packed(const struct encoder *encoder, int result)
{
    return result ? encoder->buffer.error : 0;
}

static int put_number(struct encoder *encoder, uint64_t value, uint64_t bound)
{
    if (value > bound)
        return FARPOOL_EINVAL;
    return packed(encoder, msgpack_pack_uint64(&encoder->packer, value));
}

static int put_signed(struct encoder *encoder, int64_t value, uint64_t bound)
{
    if ((uint64_t)(value < 0 ? -value : value) > bound)
        return FARPOOL_EINVAL;
    return packed(encoder, msgpack_pack_int64(&encoder->packer, value));
}

static int put_flag(struct encoder *encoder, bool value)
{
    return packed(encoder, value ? msgpack_pack_true(&encoder->packer)
                                 : msgpack_pack_false(&encoder->packer));
}

static int put_bytes(struct encoder *encoder, const void *bytes, size_t size)
{
    int result = msgpack_pack_bin(&encoder->packer, size);
    if (!result)
        result = msgpack_pack_bin_body(&encoder->packer, bytes, size);
    return packed(encoder, result);
}

static int put_text(struct encoder *encoder, const char *text, uint64_t bound)
{
    const size_t size = text ? strnlen(text, bound + 1) : 0;
    if (size > bound)
        return FARPOOL_EINVAL;
    int result = msgpack_pack_str(&encoder->packer, size);
    if (!result && size)
        result = msgpack_pack_str_body(&encoder->packer, text, size);
    return packed(encoder, result);
}

static int put_body(struct encoder *encoder, struct payload *body, uint64_t bound)
{
    if (!body)
        return packed(encoder, msgpack_pack_nil(&encoder->packer));
    if (encoder->bodies_count == MESSAGE_BODIES_MAX)
        return FARPOOL_EINVAL;
    encoder->bodies[encoder->bodies_count++] = body;
    return put_number(encoder, body->size, bound);
}

static int put_array(struct encoder *encoder, uint32_t count)
{
    return packed(encoder, msgpack_pack_array(&encoder->packer, count));
}

static int put_fields(struct encoder *encoder, const struct message_field *fields,
                      uint32_t count, const void *base);

static int put_list(struct encoder *encoder, const struct message_field *field,
                    const void *base)
{
    const struct message_record *record = field->record;
    uint32_t count;
    const char *values = list_of(field, base, &count);
    if (count > field->bound)
        return FARPOOL_EINVAL;
    int error = put_array(encoder, count);
    for (uint32_t i = 0; i < count && !error; i++, values += record->size) {
        if (message_record_wrong(record, values))
            return FARPOOL_EINVAL;
        error = put_array(encoder, record->fields_count);
        if (!error)
            error = put_fields(encoder, record->fields, record->fields_count, values);
    }
    return error;
}

static int put_field(struct encoder *encoder, const struct message_field *field,
                     const void *base)
{
    const void *at = field_of(field, base);
    switch (field->type) {
    case FIELD_u32:
        return put_number(encoder, *(const uint32_t *)at, field->bound);
    case FIELD_u64:
        return put_number(encoder, *(const uint64_t *)at, field->bound);
    case FIELD_i32:
        return put_signed(encoder, *(const int32_t *)at, field->bound);
    case FIELD_flag:
        return put_flag(encoder, *(const bool *)at);
    case FIELD_id:
    case FIELD_hash:
        return put_bytes(encoder, at, field->size);
    case FIELD_str:
        return put_text(encoder, at, field->bound);
    case FIELD_text:
        return put_text(encoder, *(char *const *)at, field->bound);
    case FIELD_body:
        return put_body(encoder, *(struct payload *const *)at, field->bound);
    case FIELD_list:
        return put_list(encoder, field, base);
    }
    return FARPOOL_EINVAL;
}

static int put_fields(struct encoder *encoder, const struct message_field *fields,
                      uint32_t count, const void *base)
{
    int error = 0;
    for (uint32_t i = 0; i < count && !error; i++)
        error = put_field(encoder, &fields[i], base);
    return error;
}

static int put_message(struct encoder *encoder, const struct message *message)
{
    const struct message_layout *layout = message_layout_find(message->kind);
    if (!layout)
        return FARPOOL_EINVAL;
    int error = put_array(encoder, 1 + layout->fields_count);
    if (!error)
        error = put_number(encoder, (uint64_t)message->kind, MESSAGE_KINDS);
    if (!error)
        error = put_fields(encoder, layout->fields, layout->fields_count, message);
    return error;
}

static int make_frames(const struct encoder *encoder, struct frames *ret_frames)
{
    struct frames frames = {.bodies = NULL};
    frames.header = payload_copy(encoder->buffer.bytes, encoder->buffer.size);
    if (frames.header && encoder->bodies_count)
        frames.bodies = mem_realloc(NULL, encoder->bodies_count * sizeof *frames.bodies);
    if (!frames.header || (encoder->bodies_count && !frames.bodies)) {
        frames_fini(&frames);
        return FARPOOL_ENOMEM;
    }
    for (size_t i = 0; i < encoder->bodies_count; i++)
        frames.bodies[i] = payload_ref(encoder->bodies[i]);
    frames.bodies_count = encoder->bodies_count;
    *ret_frames = frames;
    return 0;
}

int message_encode(const struct message *message, struct frames *ret_frames)
{
    char first[BUFFER_FIRST];
    struct payload *bodies[MESSAGE_BODIES_MAX];
    struct encoder encoder = {
        .buffer = {.first = first, .bytes = first, .capacity = sizeof first},
        .bodies = bodies};
    msgpack_packer_init(&encoder.packer, &encoder.buffer, buffer_write);
    int error = put_message(&encoder, message);
    if (!error)
        error = make_frames(&encoder, ret_frames);
    buffer_fini(&encoder.buffer);
    return error;
}
