/* SPDX-License-Identifier: Apache-2.0
 *
 * message.c: making, copying and freeing messages, and what is known of a kind.
 *
 * All but freeing by walking the tables of message_table.c, so no message has code of its
 * own. The wire form is in message_encode.c and message_decode.c, text for people in
 * message_print.c and message_page.c. */
#include "common/base/message.h"

#include "common/base/mem.h"
#include "common/base/message_table.h"

#include <assert.h>
#include <string.h>

#define MESSAGE_SIZE(KIND, name, who, doc)                                               \
    [MSG_##KIND] = __builtin_offsetof(struct message, name) +                            \
                   sizeof(((struct message *)NULL)->name),
static const size_t sizes[MESSAGE_KINDS] = {MESSAGES(MESSAGE_SIZE)};

/* No more than its kind has: most that travel are far smaller than the largest. */
struct message *message_create(enum message_kind kind)
{
    assert(message_layout_find(kind));
    struct message *message = mem_alloc(sizes[kind]);
    if (message)
        message->kind = kind;
    return message;
}

/* Each message is freed, so not by walking the tables, but by code that is made of the
 * same definitions, in which what holds nothing leaves no trace. */
#define FREE_u32(value)
#define FREE_u64(value)
#define FREE_i32(value)
#define FREE_flag(value)
#define FREE_id(value)
#define FREE_hash(value)
#define FREE_str(value)
#define FREE_text(value) mem_free(value);
#define FREE_body(value) payload_unref(&(value));
#define FREE_FIELD(type, name, bound, doc) FREE_##type(part->name)
#define FREE_LIST(record, name, bound, doc)                                              \
    for (uint32_t i = 0; i < part->name##_count; i++)                                    \
        free_##record(&part->name[i]);                                                   \
    mem_free(part->name);

#define FREE_RECORD(name, doc)                                                           \
    static void free_##name(struct msg_##name *part)                                     \
    {                                                                                    \
        (void)part;                                                                      \
        RECORD_##name(FREE_FIELD)                                                        \
    }
RECORDS(FREE_RECORD)

#define FREE_MESSAGE(KIND, name, who, doc)                                               \
    case MSG_##KIND: {                                                                   \
        __typeof__(message->name) *part = &message->name;                                \
        (void)part;                                                                      \
        MESSAGE_##KIND(FREE_FIELD, FREE_LIST) break;                                     \
    }

void message_destroy(struct message *message)
{
    switch (message->kind) {
        MESSAGES(FREE_MESSAGE)
    case MESSAGE_NONE:
    case MESSAGE_KINDS:
        assert(!"a message of a known kind");
    }
    mem_free(message);
}

static bool copy_fields(const struct message_field *fields, uint32_t count,
                        const void *source, void *target);

/* A copy that fails halfway leaves records that are zero, or whole, or in between: all
 * of which message_free takes. */
static bool copy_list(const struct message_field *field, const void *source, void *target)
{
    const struct message_record *record = field->record;
    uint32_t count;
    const char *from = list_of(field, source, &count);
    if (!count)
        return true;
    char *to = mem_alloc(count * record->size);
    if (!to)
        return false;
    list_set(field, target, to, count);
    for (uint32_t i = 0; i < count; i++) {
        if (!copy_fields(record->fields, record->fields_count, from + i * record->size,
                         to + i * record->size))
            return false;
    }
    return true;
}

static bool copy_text(char *const *source, char **target)
{
    return !*source || (*target = mem_strdup(*source));
}

static bool copy_fields(const struct message_field *fields, uint32_t count,
                        const void *source, void *target)
{
    for (uint32_t i = 0; i < count; i++) {
        const void *from = field_of(&fields[i], source);
        void *to = field_at(&fields[i], target);
        bool copied = true;
        switch (fields[i].type) {
        case FIELD_text:
            copied = copy_text(from, to);
            break;
        case FIELD_body:
            *(struct payload **)to = payload_ref(*(struct payload *const *)from);
            break;
        case FIELD_list:
            copied = copy_list(&fields[i], source, target);
            break;
        default:
            memcpy(to, from, fields[i].size);
        }
        if (!copied)
            return false;
    }
    return true;
}

struct message *message_copy(const struct message *message)
{
    const struct message_layout *layout = message_layout_find(message->kind);
    struct message *copy = message_create(message->kind);
    if (copy && !copy_fields(layout->fields, layout->fields_count, message, copy))
        message_free(&copy);
    return copy;
}

static uint64_t bytes_of_fields(const struct message_field *fields, uint32_t count,
                                const void *base)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (fields[i].type == FIELD_body) {
            const struct payload *body =
                *(struct payload *const *)field_of(&fields[i], base);
            bytes += body ? body->size : 0;
        } else if (fields[i].type == FIELD_list) {
            const struct message_record *record = fields[i].record;
            uint32_t records;
            const char *array = list_of(&fields[i], base, &records);
            for (uint32_t j = 0; j < records; j++)
                bytes += bytes_of_fields(record->fields, record->fields_count,
                                         array + j * record->size);
        }
    }
    return bytes;
}

uint64_t message_body_bytes(const struct message *message)
{
    const struct message_layout *layout = message_layout_find(message->kind);
    return bytes_of_fields(layout->fields, layout->fields_count, message);
}

const char *message_name(enum message_kind kind)
{
    const struct message_layout *layout = message_layout_find(kind);
    return layout ? layout->name : "?";
}

/* `who` is a list of paths, "W>K K>W". */
bool message_allowed(enum message_kind kind, char from, char to)
{
    const struct message_layout *layout = message_layout_find(kind);
    const char hop[] = {from, '>', to, '\0'};
    if (!layout || !from || !strchr("CKW", from) || !to || !strchr("CKW", to))
        return false;
    return strcmp(layout->who, "any") == 0 || strstr(layout->who, hop) != NULL;
}

void frames_fini(struct frames *frames)
{
    payload_unref(&frames->header);
    for (size_t i = 0; i < frames->bodies_count; i++)
        payload_unref(&frames->bodies[i]);
    mem_free(frames->bodies);
    memset(frames, 0, sizeof *frames);
}
