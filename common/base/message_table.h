/* SPDX-License-Identifier: Apache-2.0
 *
 * message_table.h: messages.def as tables that can be walked: one descriptor a field,
 * a record and a message. Internal to message*.c and their tests. */
#ifndef FARPOOL_BASE_MESSAGE_TABLE_H
#define FARPOOL_BASE_MESSAGE_TABLE_H

#include "common/base/message.h"

/* Frame 0 is at most so large. */
#define MESSAGE_HEADER_MAX 1048576
/* Bodies of one message: those of a RELAY, or two for each span. */
#define MESSAGE_BODIES_MAX (2 * SPANS_MAX + 1)

enum field_type {
    FIELD_u32,
    FIELD_u64,
    FIELD_i32,
    FIELD_flag,
    FIELD_id,
    FIELD_hash,
    FIELD_str,
    FIELD_text,
    FIELD_body,
    FIELD_list, /* a pointer, and right behind it the uint32_t count */
};

struct message_record;

struct message_field {
    size_t offset; /* in its record, or in struct message */
    enum field_type type;
    size_t size; /* of the value in the struct; of a list: without its count */
    uint64_t bound;
    const char *name, *type_name, *doc;
    const struct message_record *record; /* of a list, else NULL */
};

enum record_kind {
#define RECORD_KIND(name, doc) RECORD_KIND_##name,
    RECORDS(RECORD_KIND)
#undef RECORD_KIND
        RECORD_KINDS
};

struct message_record {
    enum record_kind kind;
    uint32_t fields_count;
    const char *name, *doc;
    size_t size;
    const struct message_field *fields;
};

struct message_layout {
    const char *name, *who, *doc;
    const struct message_field *fields;
    uint32_t fields_count;
};

extern const struct message_record message_records[RECORD_KINDS];

/* NULL: no such kind. */
const struct message_layout *message_layout_find(enum message_kind kind);

/* What a record breaks beyond the bounds of its fields (a span whose sizes and data
 * disagree, an empty range, a file name that leaves its folder): a static text, or NULL.
 */
const char *message_record_wrong(const struct message_record *record, const void *values);

static inline void *field_at(const struct message_field *field, void *base)
{
    return (char *)base + field->offset;
}

static inline const void *field_of(const struct message_field *field, const void *base)
{
    return (const char *)base + field->offset;
}

/* A list field's array and count; NULL with count 0. */
static inline void *list_of(const struct message_field *field, const void *base,
                            uint32_t *ret_count)
{
    const void *const *list = field_of(field, base);
    union {
        const void *borrowed;
        void *array;
    } list_array = {.borrowed = *list};
    *ret_count = *(const uint32_t *)(list + 1);
    return list_array.array;
}

static inline void list_set(const struct message_field *field, void *base, void *array,
                            uint32_t count)
{
    void **list = field_at(field, base);
    list[0] = array;
    *(uint32_t *)(list + 1) = count;
}

#endif
