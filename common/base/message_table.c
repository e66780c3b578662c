/* SPDX-License-Identifier: Apache-2.0
 *
 * message_table.c: the descriptors that encoder, decoder, printer and protocol page
 * walk, made from messages.def, and the rules of records that bounds cannot say.
 *
 * Both encoder and decoder hold to the rules, so that what this side sends is what the
 * other one takes. */
#include "common/base/message_table.h"

#include "common/base/span.h"

#include <string.h>

#define SIZE_u32(bound) sizeof(uint32_t)
#define SIZE_u64(bound) sizeof(uint64_t)
#define SIZE_i32(bound) sizeof(int32_t)
#define SIZE_flag(bound) sizeof(bool)
#define SIZE_id(bound) sizeof(struct id)
#define SIZE_hash(bound) sizeof(struct hash)
#define SIZE_str(bound) ((bound) + 1)
#define SIZE_text(bound) sizeof(char *)
#define SIZE_body(bound) sizeof(struct payload *)

/* messages.def calls FIELD(type, name, bound, doc), which does not say in which struct.
 * So the macro that is handed in as FIELD is two joined together: IN_RECORD(span) leaves
 * an initializer open right behind `offsetof(struct msg_span,`, and FIELD_REST, its last
 * word, takes the arguments and closes it. */
/* clang-format off */
#define IN_RECORD(name) {__builtin_offsetof(struct msg_##name, FIELD_REST
#define IN_MESSAGE(name) {__builtin_offsetof(struct message, name. FIELD_REST
#define LIST_IN_MESSAGE(name) {__builtin_offsetof(struct message, name. LIST_REST
#define FIELD_REST(type, name, bound, doc)                                           \
    name), FIELD_##type, SIZE_##type(bound), (bound), #name, #type, doc, NULL},
#define LIST_REST(record, name, bound, doc)                                          \
    name), FIELD_list, sizeof(void *), (bound), #name, #record, doc,                 \
        &message_records[RECORD_KIND_##record]},
/* clang-format on */

#define RECORD_FIELDS(name, doc)                                                         \
    static const struct message_field fields_of_##name[] = {                             \
        RECORD_##name(IN_RECORD(name))};
RECORDS(RECORD_FIELDS)

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

const struct message_record message_records[RECORD_KINDS] = {
#define RECORD_ENTRY(name, doc)                                                          \
    {RECORD_KIND_##name,        COUNT(fields_of_##name), #name, doc,                     \
     sizeof(struct msg_##name), fields_of_##name},
    RECORDS(RECORD_ENTRY)};

#define MESSAGE_FIELDS(KIND, name, who, doc)                                             \
    static const struct message_field message_fields_of_##name[] = {                     \
        MESSAGE_##KIND(IN_MESSAGE(name), LIST_IN_MESSAGE(name))};
MESSAGES(MESSAGE_FIELDS)

static const struct message_layout layouts[MESSAGE_KINDS] = {
#define MESSAGE_ENTRY(KIND, name, who, doc)                                              \
    [MSG_##KIND] = {#KIND, who, doc, message_fields_of_##name,                           \
                    COUNT(message_fields_of_##name)},
    MESSAGES(MESSAGE_ENTRY)};

const struct message_layout *message_layout_find(enum message_kind kind)
{
    const unsigned number = (unsigned)kind;
    return number < MESSAGE_KINDS && layouts[number].name ? &layouts[number] : NULL;
}

static bool done_valid(const struct msg_done *done)
{
    const struct msg_span span = {.first = done->first,
                                  .count = done->count,
                                  .sizes = done->sizes,
                                  .data = done->data};
    return span_valid(&span);
}

static bool run_valid(uint64_t first, uint64_t count)
{
    return count >= 1 && first <= UINT64_MAX - count;
}

static bool printed_valid(const struct msg_printed *printed)
{
    const struct payload *text = printed->text;
    uint32_t lines = 0;
    if (text == NULL || text->size == 0 || text->size > OUTPUT_BYTES_MAX ||
        printed->fd == 0 || printed->first > UINT64_MAX - printed->count)
        return false;
    const uint8_t *at = text->data, *end = at + text->size;
    for (; at < end && (at = memchr(at, '\n', (size_t)(end - at))) != NULL; at++)
        lines++;
    return at == end && lines == printed->lines;
}

static bool file_name_valid(const char *name)
{
    return name[0] && !strchr(name, '/') && strcmp(name, ".") != 0 &&
           strcmp(name, "..") != 0;
}

const char *message_record_wrong(const struct message_record *record, const void *values)
{
    switch (record->kind) {
    case RECORD_KIND_span:
        return span_valid(values) ? NULL : "a span whose count, sizes and data disagree";
    case RECORD_KIND_done:
        return done_valid(values) ? NULL
                                  : "a result whose count, sizes and data disagree";
    case RECORD_KIND_range: {
        const struct msg_range *range = values;
        return run_valid(range->first, range->count) ? NULL : "a range that is none";
    }
    case RECORD_KIND_seqs: {
        const struct msg_seqs *seqs = values;
        return run_valid(seqs->first, seqs->count) ? NULL
                                                   : "result numbers that are none";
    }
    case RECORD_KIND_file: {
        const struct msg_file *file = values;
        return file_name_valid(file->name) ? NULL : "a file name that is none";
    }
    case RECORD_KIND_printed:
        return printed_valid(values) ? NULL : "lines that are none";
    default:
        return NULL;
    }
}
