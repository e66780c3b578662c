/* SPDX-License-Identifier: Apache-2.0
 *
 * random_message.h: for tests: any message with random values within all bounds and
 * rules, made and compared by walking the tables, so that a new field or message is
 * tested without another line. Values are often 0 or at their bound; bodies are small.
 *
 * mem_alloc may be set to fail meanwhile: random_message asserts that it does not. */
#ifndef FARPOOL_TESTS_RANDOM_MESSAGE_H
#define FARPOOL_TESTS_RANDOM_MESSAGE_H

#include "common/base/mem.h"
#include "common/base/message_table.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define RANDOM_BODY_MAX 40
#define RANDOM_TASKS_MAX 5
#define RANDOM_RECORDS_MAX 4

static inline uint64_t random_number(uint64_t *rng, uint64_t bound)
{
    switch (rng_below(rng, 4)) {
    case 0:
        return 0;
    case 1:
        return bound;
    case 2:
        return rng_below(rng, bound < 200 ? bound + 1 : 200);
    default:
        return bound == UINT64_MAX ? rng_next(rng) : rng_below(rng, bound + 1);
    }
}

static inline void random_bytes(uint64_t *rng, void *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        ((uint8_t *)bytes)[i] = (uint8_t)rng_next(rng);
}

static inline void random_text(uint64_t *rng, char *text, uint64_t bound)
{
    const uint64_t length = random_number(rng, bound);
    for (uint64_t i = 0; i < length; i++)
        text[i] = (char)(1 + rng_below(rng, 255));
    text[length] = 0;
}

static inline struct payload *random_payload(uint64_t *rng, size_t size)
{
    struct payload *payload = payload_create(size);
    assert(payload);
    random_bytes(rng, payload_bytes(payload), size);
    return payload;
}

/* Sizes and data of `count` tasks that agree with each other. */
static inline void random_tasks(uint64_t *rng, uint32_t count, struct payload **ret_sizes,
                                struct payload **ret_data)
{
    *ret_sizes = *ret_data = NULL;
    const uint64_t form = rng_below(rng, 4);
    if (form == 0)
        return;
    if (form == 1) {
        *ret_data = random_payload(rng, count * rng_below(rng, RANDOM_BODY_MAX));
        return;
    }
    *ret_sizes = payload_create((size_t)4 * count);
    assert(*ret_sizes);
    uint8_t *sizes = payload_bytes(*ret_sizes);
    memset(sizes, 0, (size_t)4 * count);
    size_t total = 0;
    for (uint32_t i = 0; i < count; i++) {
        sizes[4 * i] = (uint8_t)rng_below(rng, RANDOM_BODY_MAX);
        total += sizes[4 * i];
    }
    if (total || form == 2)
        *ret_data = random_payload(rng, total);
}

static inline void random_run(uint64_t *rng, uint64_t *first, uint64_t *count)
{
    if (!*count)
        *count = 1 + rng_below(rng, 9);
    if (*first > UINT64_MAX - *count)
        *first = UINT64_MAX - *count;
}

static inline void random_printed(uint64_t *rng, struct msg_printed *printed)
{
    char text[64];
    size_t used = 0;
    printed->fd = 1 + (uint32_t)rng_below(rng, 2);
    printed->lines = 1 + (uint32_t)rng_below(rng, 4);
    if (printed->first > UINT64_MAX - printed->count)
        printed->first -= printed->count;
    for (uint32_t i = 0; i < printed->lines; i++) {
        for (uint64_t n = rng_below(rng, 10); n > 0; n--) {
            const char byte = (char)rng_below(rng, 256);
            text[used++] = byte == '\n' ? '\0' : byte;
        }
        text[used++] = '\n';
    }
    payload_unref(&printed->text);
    printed->text = payload_copy(text, used);
}

/* What the rules of records ask for beyond bounds. */
static inline void random_obey(uint64_t *rng, enum record_kind kind, void *values)
{
    if (kind == RECORD_KIND_span) {
        struct msg_span *span = values;
        span->count = 1 + (uint32_t)rng_below(rng, RANDOM_TASKS_MAX);
        if (span->first > UINT64_MAX - span->count)
            span->first -= span->count;
        payload_unref(&span->sizes);
        payload_unref(&span->data);
        random_tasks(rng, span->count, &span->sizes, &span->data);
    } else if (kind == RECORD_KIND_done) {
        struct msg_done *done = values;
        done->count = 1 + (uint32_t)rng_below(rng, RANDOM_TASKS_MAX);
        if (done->first > UINT64_MAX - done->count)
            done->first -= done->count;
        payload_unref(&done->sizes);
        payload_unref(&done->data);
        random_tasks(rng, done->count, &done->sizes, &done->data);
    } else if (kind == RECORD_KIND_range) {
        struct msg_range *range = values;
        random_run(rng, &range->first, &range->count);
    } else if (kind == RECORD_KIND_seqs) {
        struct msg_seqs *seqs = values;
        random_run(rng, &seqs->first, &seqs->count);
    } else if (kind == RECORD_KIND_file) {
        struct msg_file *file = values;
        snprintf(file->name, sizeof file->name, "file-%u",
                 (unsigned)rng_below(rng, 1000));
    } else if (kind == RECORD_KIND_printed) {
        struct msg_printed *printed = values;
        random_printed(rng, printed);
    }
}

static inline void random_fields(uint64_t *rng, const struct message_field *fields,
                                 uint32_t count, void *base);

static inline void random_list(uint64_t *rng, const struct message_field *field,
                               void *base, uint32_t count)
{
    const struct message_record *record = field->record;
    char *values = count ? mem_alloc(count * record->size) : NULL;
    assert(values || !count);
    for (uint32_t i = 0; i < count; i++) {
        random_fields(rng, record->fields, record->fields_count,
                      values + i * record->size);
        random_obey(rng, record->kind, values + i * record->size);
    }
    list_set(field, base, values, count);
}

static inline void random_field(uint64_t *rng, const struct message_field *field,
                                void *base)
{
    void *at = field_at(field, base);
    switch (field->type) {
    case FIELD_u32:
        *(uint32_t *)at = (uint32_t)random_number(rng, field->bound);
        break;
    case FIELD_u64:
        *(uint64_t *)at = random_number(rng, field->bound);
        break;
    case FIELD_i32:
        *(int32_t *)at = (int32_t)random_number(rng, field->bound);
        if (rng_below(rng, 2))
            *(int32_t *)at *= -1;
        break;
    case FIELD_flag:
        *(bool *)at = rng_below(rng, 2);
        break;
    case FIELD_id:
    case FIELD_hash:
        random_bytes(rng, at, field->size);
        break;
    case FIELD_str:
        random_text(rng, at, field->bound);
        break;
    case FIELD_text:
        *(char **)at = rng_below(rng, 4) ? mem_alloc(field->bound + 1) : NULL;
        if (*(char **)at)
            random_text(rng, *(char **)at, field->bound);
        break;
    case FIELD_body:
        *(struct payload **)at =
            rng_below(rng, 3) ? random_payload(rng, rng_below(rng, RANDOM_BODY_MAX))
                              : NULL;
        break;
    case FIELD_list:
        random_list(rng, field, base, (uint32_t)rng_below(rng, RANDOM_RECORDS_MAX + 1));
        break;
    }
}

static inline void random_fields(uint64_t *rng, const struct message_field *fields,
                                 uint32_t count, void *base)
{
    for (uint32_t i = 0; i < count; i++)
        random_field(rng, &fields[i], base);
}

static inline struct message *random_message(uint64_t *rng, enum message_kind kind)
{
    const struct message_layout *layout = message_layout_find(kind);
    struct message *message = message_create(kind);
    assert(layout && message);
    random_fields(rng, layout->fields, layout->fields_count, message);
    return message;
}

/* ------------------------------------------------------------- comparing */

static inline bool payload_equal(const struct payload *a, const struct payload *b)
{
    if (!a || !b)
        return a == b;
    return a->size == b->size && (!a->size || memcmp(a->data, b->data, a->size) == 0);
}

static inline bool fields_equal(const struct message_field *fields, uint32_t count,
                                const void *a, const void *b);

static inline bool lists_equal(const struct message_field *field, const void *a,
                               const void *b)
{
    const struct message_record *record = field->record;
    uint32_t count_a, count_b;
    const char *list_a = list_of(field, a, &count_a),
               *list_b = list_of(field, b, &count_b);
    bool equal = count_a == count_b;
    for (uint32_t i = 0; i < count_a && equal; i++)
        equal = fields_equal(record->fields, record->fields_count,
                             list_a + i * record->size, list_b + i * record->size);
    return equal;
}

static inline bool field_equal(const struct message_field *field, const void *a,
                               const void *b)
{
    const void *at_a = field_of(field, a), *at_b = field_of(field, b);
    if (field->type == FIELD_str)
        return strcmp(at_a, at_b) == 0;
    if (field->type == FIELD_text) {
        const char *text_a = *(char *const *)at_a, *text_b = *(char *const *)at_b;
        return strcmp(text_a ? text_a : "", text_b ? text_b : "") == 0;
    }
    if (field->type == FIELD_body)
        return payload_equal(*(struct payload *const *)at_a,
                             *(struct payload *const *)at_b);
    if (field->type == FIELD_list)
        return lists_equal(field, a, b);
    return memcmp(at_a, at_b, field->size) == 0;
}

static inline bool fields_equal(const struct message_field *fields, uint32_t count,
                                const void *a, const void *b)
{
    for (uint32_t i = 0; i < count; i++) {
        if (!field_equal(&fields[i], a, b))
            return false;
    }
    return true;
}

static inline bool message_equal(const struct message *a, const struct message *b)
{
    const struct message_layout *layout = message_layout_find(a->kind);
    return a->kind == b->kind && fields_equal(layout->fields, layout->fields_count, a, b);
}

#endif
