/* SPDX-License-Identifier: Apache-2.0
 *
 * message_decode.c: frames from a peer as a message. The peer may be hostile.
 *
 * The header is pulled apart item by item, always knowing from the tables which item must
 * come next, so nesting is never deeper than a list's records (array, array, array), and
 * msgpack-c's object builder, which reserves what five bytes claim, is not used. It is
 * read twice: first everything is checked, down to the last byte, the last frame and the
 * rules of records, with values going to a scratch struct; only then is memory reserved
 * and the same walk done again to keep them. The second time only memory can fail. */
#include "common/base/mem.h"
#include "common/base/message_table.h"

#include <string.h>

struct reader {
    const uint8_t *at, *end;
    const struct frames *frames;
    size_t frame;       /* the next body */
    bool keep;          /* the second walk */
    const char *reason; /* why the walk stopped; NULL in the second: out of memory */
};

enum token_type {
    TOKEN_NUMBER,   /* value */
    TOKEN_NEGATIVE, /* -value */
    TOKEN_FLAG,     /* value 0 or 1 */
    TOKEN_NIL,
    TOKEN_TEXT,  /* value bytes, which are there */
    TOKEN_BYTES, /* the same */
    TOKEN_ARRAY, /* value items */
};

struct token {
    enum token_type type;
    uint64_t value;
    const uint8_t *bytes;
};

static bool fail(struct reader *reader, const char *reason)
{
    reader->reason = reason;
    return false;
}

static size_t bytes_left(const struct reader *reader)
{
    return (size_t)(reader->end - reader->at);
}

/* A big endian number of 1, 2, 4 or 8 bytes. */
static bool read_number(struct reader *reader, unsigned size, uint64_t *ret_value)
{
    if (bytes_left(reader) < size)
        return fail(reader, "the header ends too early");
    uint64_t value = 0;
    for (unsigned i = 0; i < size; i++)
        value = value << 8 | *reader->at++;
    *ret_value = value;
    return true;
}

static bool read_signed(struct reader *reader, unsigned size, struct token *token)
{
    uint64_t value;
    if (!read_number(reader, size, &value))
        return false;
    const unsigned shift = 64 - 8 * size;
    const bool negative = value >> (8 * size - 1);
    token->type = negative ? TOKEN_NEGATIVE : TOKEN_NUMBER;
    token->value = negative ? (0 - (value << shift)) >> shift : value;
    return true;
}

static bool read_content(struct reader *reader, enum token_type type, struct token *token)
{
    token->type = type;
    if (token->value > bytes_left(reader))
        return fail(reader, "the header ends too early");
    token->bytes = reader->at;
    reader->at += token->value;
    return true;
}

static bool read_sized(struct reader *reader, enum token_type type, unsigned size,
                       struct token *token)
{
    token->type = type;
    if (!read_number(reader, size, &token->value))
        return false;
    return type == TOKEN_TEXT || type == TOKEN_BYTES ? read_content(reader, type, token)
                                                     : true;
}

/* The items whose first byte says only what they are. */
static bool read_long_token(struct reader *reader, uint8_t byte, struct token *token)
{
    switch (byte) {
    case 0xc0:
        token->type = TOKEN_NIL;
        return true;
    case 0xc2:
    case 0xc3:
        token->type = TOKEN_FLAG;
        token->value = byte - 0xc2u;
        return true;
    case 0xc4:
    case 0xc5:
    case 0xc6:
        return read_sized(reader, TOKEN_BYTES, 1u << (byte - 0xc4), token);
    case 0xcc:
    case 0xcd:
    case 0xce:
    case 0xcf:
        return read_sized(reader, TOKEN_NUMBER, 1u << (byte - 0xcc), token);
    case 0xd0:
    case 0xd1:
    case 0xd2:
    case 0xd3:
        return read_signed(reader, 1u << (byte - 0xd0), token);
    case 0xd9:
    case 0xda:
    case 0xdb:
        return read_sized(reader, TOKEN_TEXT, 1u << (byte - 0xd9), token);
    case 0xdc:
    case 0xdd:
        return read_sized(reader, TOKEN_ARRAY, 2u << (byte - 0xdc), token);
    default:
        return fail(reader, "an item of a type that the protocol does not use");
    }
}

static bool read_token(struct reader *reader, struct token *token)
{
    if (reader->at == reader->end)
        return fail(reader, "the header ends too early");
    const uint8_t byte = *reader->at++;
    token->value = byte;
    if (byte <= 0x7f) {
        token->type = TOKEN_NUMBER;
        return true;
    }
    if (byte >= 0xe0) {
        token->type = TOKEN_NEGATIVE;
        token->value = 0x100u - byte;
        return true;
    }
    if (byte >= 0x90 && byte <= 0x9f) {
        token->type = TOKEN_ARRAY;
        token->value = byte & 0x0fu;
        return true;
    }
    if (byte >= 0xa0 && byte <= 0xbf) {
        token->value = byte & 0x1fu;
        return read_content(reader, TOKEN_TEXT, token);
    }
    return read_long_token(reader, byte, token);
}

static bool expect(struct reader *reader, enum token_type type, struct token *token)
{
    if (!read_token(reader, token))
        return false;
    return token->type == type || fail(reader, "an item of the wrong type");
}

static bool get_number(struct reader *reader, uint64_t bound, uint64_t *ret_value)
{
    struct token token;
    if (!expect(reader, TOKEN_NUMBER, &token))
        return false;
    if (token.value > bound)
        return fail(reader, "a number over its bound");
    *ret_value = token.value;
    return true;
}

static bool get_signed(struct reader *reader, uint64_t bound, int32_t *ret_value)
{
    struct token token;
    if (!read_token(reader, &token))
        return false;
    if (token.type != TOKEN_NUMBER && token.type != TOKEN_NEGATIVE)
        return fail(reader, "an item of the wrong type");
    if (token.value > bound)
        return fail(reader, "a number over its bound");
    const int32_t value = (int32_t)token.value;
    *ret_value = token.type == TOKEN_NEGATIVE ? -value : value;
    return true;
}

static bool get_bytes(struct reader *reader, size_t size, void *ret_bytes)
{
    struct token token;
    if (!expect(reader, TOKEN_BYTES, &token))
        return false;
    if (token.value != size)
        return fail(reader, "an id or a hash of the wrong size");
    memcpy(ret_bytes, token.bytes, size);
    return true;
}

static bool get_text(struct reader *reader, uint64_t bound, struct token *token)
{
    if (!expect(reader, TOKEN_TEXT, token))
        return false;
    if (token->value > bound)
        return fail(reader, "a text over its bound");
    if (memchr(token->bytes, 0, token->value))
        return fail(reader, "a NUL byte in a text");
    return true;
}

static bool get_str(struct reader *reader, const struct message_field *field,
                    char *ret_str)
{
    struct token token;
    if (!get_text(reader, field->bound, &token))
        return false;
    memcpy(ret_str, token.bytes, token.value);
    ret_str[token.value] = 0;
    return true;
}

static bool get_heap_text(struct reader *reader, const struct message_field *field,
                          char **ret_text)
{
    struct token token;
    if (!get_text(reader, field->bound, &token))
        return false;
    if (!reader->keep)
        return true;
    char *text = mem_alloc(token.value + 1);
    if (!text)
        return false;
    memcpy(text, token.bytes, token.value);
    *ret_text = text;
    return true;
}

/* In the first walk the body is borrowed from the frames, for the rules of records. */
static bool get_body(struct reader *reader, const struct message_field *field,
                     struct payload **ret_body)
{
    struct token token;
    if (!read_token(reader, &token))
        return false;
    if (token.type == TOKEN_NIL) {
        *ret_body = NULL;
        return true;
    }
    if (token.type != TOKEN_NUMBER)
        return fail(reader, "an item of the wrong type");
    if (token.value > field->bound)
        return fail(reader, "a body over its bound");
    if (reader->frame == reader->frames->bodies_count)
        return fail(reader, "a body without its frame");
    struct payload *body = reader->frames->bodies[reader->frame++];
    if (body->size != token.value)
        return fail(reader, "a body whose frame has another size");
    *ret_body = reader->keep ? payload_ref(body) : body;
    return true;
}

static bool get_fields(struct reader *reader, const struct message_field *fields,
                       uint32_t count, void *base);

static bool get_record(struct reader *reader, const struct message_record *record,
                       void *values)
{
    struct token token;
    if (!expect(reader, TOKEN_ARRAY, &token))
        return false;
    if (token.value != record->fields_count)
        return fail(reader, "a record with another number of fields");
    if (!get_fields(reader, record->fields, record->fields_count, values))
        return false;
    /* The second walk need not add up all sizes again. */
    const char *wrong = reader->keep ? NULL : message_record_wrong(record, values);
    return !wrong || fail(reader, wrong);
}

static bool get_list(struct reader *reader, const struct message_field *field, void *base)
{
    const struct message_record *record = field->record;
    union {
#define RECORD_MEMBER(name, doc) struct msg_##name name;
        RECORDS(RECORD_MEMBER)
#undef RECORD_MEMBER
    } scratch;
    struct token token;
    if (!expect(reader, TOKEN_ARRAY, &token))
        return false;
    if (token.value > field->bound)
        return fail(reader, "a list over its bound");
    /* A record is an array of its fields, a byte each at the least. */
    if (token.value * (1 + record->fields_count) > bytes_left(reader))
        return fail(reader, "a list that is longer than the header");
    char *values = (char *)&scratch;
    size_t stride = 0;
    if (reader->keep && token.value) {
        values = mem_alloc(token.value * record->size);
        if (!values)
            return false;
        list_set(field, base, values, (uint32_t)token.value);
        stride = record->size;
    }
    for (uint64_t i = 0; i < token.value; i++, values += stride) {
        if (!get_record(reader, record, values))
            return false;
    }
    return true;
}

static bool get_field(struct reader *reader, const struct message_field *field,
                      void *base)
{
    void *at = field_at(field, base);
    uint64_t value = 0;
    struct token token;
    switch (field->type) {
    case FIELD_u32:
        if (!get_number(reader, field->bound, &value))
            return false;
        *(uint32_t *)at = (uint32_t)value;
        return true;
    case FIELD_u64:
        return get_number(reader, field->bound, at);
    case FIELD_i32:
        return get_signed(reader, field->bound, at);
    case FIELD_flag:
        if (!expect(reader, TOKEN_FLAG, &token))
            return false;
        *(bool *)at = token.value;
        return true;
    case FIELD_id:
    case FIELD_hash:
        return get_bytes(reader, field->size, at);
    case FIELD_str:
        return get_str(reader, field, at);
    case FIELD_text:
        return get_heap_text(reader, field, at);
    case FIELD_body:
        return get_body(reader, field, at);
    case FIELD_list:
        return get_list(reader, field, base);
    }
    return fail(reader, "an unknown field");
}

static bool get_fields(struct reader *reader, const struct message_field *fields,
                       uint32_t count, void *base)
{
    for (uint32_t i = 0; i < count; i++) {
        if (!get_field(reader, &fields[i], base))
            return false;
    }
    return true;
}

/* The opening of the array and the kind. */
static bool get_layout(struct reader *reader, enum message_kind *ret_kind,
                       const struct message_layout **ret_layout)
{
    struct token token;
    uint64_t kind = 0;
    if (!expect(reader, TOKEN_ARRAY, &token) || !get_number(reader, UINT32_MAX, &kind))
        return false;
    const struct message_layout *layout =
        kind < MESSAGE_KINDS ? message_layout_find((enum message_kind)kind) : NULL;
    if (!layout)
        return fail(reader, "a message of an unknown kind");
    if (token.value != 1 + (uint64_t)layout->fields_count)
        return fail(reader, "a message with another number of fields");
    *ret_kind = (enum message_kind)kind;
    *ret_layout = layout;
    return true;
}

/* The first walk: whether all of it is as it must be. */
static bool check(struct reader *reader, enum message_kind *ret_kind,
                  const struct message_layout **ret_layout)
{
    struct message scratch; /* written, never read but by the rules */
    if (!get_layout(reader, ret_kind, ret_layout) ||
        !get_fields(reader, (*ret_layout)->fields, (*ret_layout)->fields_count, &scratch))
        return false;
    if (reader->at != reader->end)
        return fail(reader, "bytes behind the end of the header");
    if (reader->frame != reader->frames->bodies_count)
        return fail(reader, "a frame that no body belongs to");
    return true;
}

int message_decode(const struct frames *frames, struct message **ret_message,
                   const char **ret_reason)
{
    const struct payload *header = frames->header;
    if (header->size < 1 || header->size > MESSAGE_HEADER_MAX) {
        *ret_reason = "a header that is empty or over its bound";
        return FARPOOL_EPROTOCOL;
    }
    const struct reader start = {
        .at = header->data, .end = header->data + header->size, .frames = frames};
    struct reader reader = start;
    enum message_kind kind;
    const struct message_layout *layout;
    if (!check(&reader, &kind, &layout)) {
        *ret_reason = reader.reason;
        return FARPOOL_EPROTOCOL;
    }
    struct message *message = message_create(kind);
    if (!message)
        return FARPOOL_ENOMEM;
    reader = start;
    reader.keep = true;
    if (!get_layout(&reader, &kind, &layout) ||
        !get_fields(&reader, layout->fields, layout->fields_count, message)) {
        message_free(&message);
        return FARPOOL_ENOMEM;
    }
    *ret_message = message;
    return 0;
}
