/* SPDX-License-Identifier: Apache-2.0
 *
 * raw_message.h: a packer that checks nothing packs a message field by field as the
 * tables say, but one field may be packed by an "attack" instead. For
 * test_base_message_*.c. */
#ifndef FARPOOL_TESTS_RAW_MESSAGE_H
#define FARPOOL_TESTS_RAW_MESSAGE_H

#include "tests/unit/refused.h"

#include <msgpack.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

/* More than any message may have. */
#define RAW_BODIES_MAX (2 * MESSAGE_BODIES_MAX)

/* Packs something instead of the field; false: makes no sense for this field. */
typedef bool attack_function(msgpack_packer *packer, const struct message_field *field);

struct raw {
    msgpack_sbuffer header;
    msgpack_packer packer;
    struct payload *bodies[RAW_BODIES_MAX]; /* borrowed */
    size_t bodies_count;
    uint32_t record_extra; /* fields that records claim and do not have */
    attack_function *attack;
    int target; /* which field is attacked, counted in order of packing */
    int at;     /* the next field */
    bool tried; /* the target was there, and the attack made sense */
};

static inline void pack_fields(struct raw *raw, const struct message_field *fields,
                               uint32_t count, const void *base);

static inline void pack_text(struct raw *raw, const char *text)
{
    msgpack_pack_str(&raw->packer, text ? strlen(text) : 0);
    msgpack_pack_str_body(&raw->packer, text ? text : "", text ? strlen(text) : 0);
}

static inline void pack_body(struct raw *raw, struct payload *body)
{
    if (!body) {
        msgpack_pack_nil(&raw->packer);
        return;
    }
    msgpack_pack_uint64(&raw->packer, body->size);
    raw->bodies[raw->bodies_count++] = body;
}

static inline void pack_list(struct raw *raw, const struct message_field *field,
                             const void *base)
{
    uint32_t count;
    const char *values = list_of(field, base, &count);
    msgpack_pack_array(&raw->packer, count);
    for (uint32_t i = 0; i < count; i++) {
        msgpack_pack_array(&raw->packer, field->record->fields_count + raw->record_extra);
        pack_fields(raw, field->record->fields, field->record->fields_count,
                    values + i * field->record->size);
    }
}

static inline void pack_field(struct raw *raw, const struct message_field *field,
                              const void *base)
{
    const void *at = field_of(field, base);
    switch (field->type) {
    case FIELD_u32:
        msgpack_pack_uint64(&raw->packer, *(const uint32_t *)at);
        break;
    case FIELD_u64:
        msgpack_pack_uint64(&raw->packer, *(const uint64_t *)at);
        break;
    case FIELD_i32:
        msgpack_pack_int64(&raw->packer, *(const int32_t *)at);
        break;
    case FIELD_flag:
        (*(const bool *)at ? msgpack_pack_true : msgpack_pack_false)(&raw->packer);
        break;
    case FIELD_id:
    case FIELD_hash:
        msgpack_pack_bin(&raw->packer, field->size);
        msgpack_pack_bin_body(&raw->packer, at, field->size);
        break;
    case FIELD_str:
        pack_text(raw, at);
        break;
    case FIELD_text:
        pack_text(raw, *(char *const *)at);
        break;
    case FIELD_body:
        pack_body(raw, *(struct payload *const *)at);
        break;
    case FIELD_list:
        pack_list(raw, field, base);
        break;
    }
}

static inline void pack_fields(struct raw *raw, const struct message_field *fields,
                               uint32_t count, const void *base)
{
    for (uint32_t i = 0; i < count; i++) {
        if (raw->at++ == raw->target && raw->attack(&raw->packer, &fields[i]))
            raw->tried = true;
        else
            pack_field(raw, &fields[i], base);
    }
}

/* The message in frames of exactly its size, so that sanitizers see a byte too far. */
static inline struct frames raw_frames(struct raw *raw, const struct message *message)
{
    const struct message_layout *layout = message_layout_find(message->kind);
    msgpack_sbuffer_init(&raw->header);
    msgpack_packer_init(&raw->packer, &raw->header, msgpack_sbuffer_write);
    msgpack_pack_array(&raw->packer, 1 + layout->fields_count);
    msgpack_pack_int(&raw->packer, (int)message->kind);
    pack_fields(raw, layout->fields, layout->fields_count, message);
    struct frames frames = {.header = payload_copy(raw->header.data, raw->header.size),
                            .bodies = mem_alloc(sizeof raw->bodies),
                            .bodies_count = raw->bodies_count};
    for (size_t i = 0; i < raw->bodies_count; i++)
        frames.bodies[i] = payload_ref(raw->bodies[i]);
    msgpack_sbuffer_destroy(&raw->header);
    return frames;
}

#endif
