/* SPDX-License-Identifier: Apache-2.0
 *
 * message_print.c: a message in one line, for logs, traces and failed tests.
 *
 * Ids and hashes are shown by their first bytes, bodies by their size. What is not
 * printable is escaped: the text may come from a peer and go to a terminal. */
#include "common/base/message_table.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

struct line {
    char *text;
    size_t size, used; /* used < size, text[used] is 0 */
};

static bool full(const struct line *line)
{
    return line->used + 1 >= line->size;
}

__attribute__((format(printf, 2, 3))) static void add(struct line *line,
                                                      const char *format, ...)
{
    const size_t room = line->size - line->used;
    va_list arguments;
    va_start(arguments, format);
    const int length = vsnprintf(line->text + line->used, room, format, arguments);
    va_end(arguments);
    if (length > 0)
        line->used += (size_t)length < room ? (size_t)length : room - 1;
}

static void add_text(struct line *line, const char *text)
{
    add(line, "\"");
    for (; text && *text && !full(line); text++) {
        const unsigned char byte = (unsigned char)*text;
        if (byte == '"' || byte == '\\')
            add(line, "\\%c", byte);
        else if (byte < 0x20 || byte == 0x7f)
            add(line, "\\x%02x", byte);
        else
            add(line, "%c", byte);
    }
    add(line, "\"");
}

static void add_body(struct line *line, const struct payload *body)
{
    if (body)
        add(line, "%zuB", body->size);
    else
        add(line, "-");
}

static void add_fields(struct line *line, const struct message_field *fields,
                       uint32_t count, const void *base);

static void add_list(struct line *line, const struct message_field *field,
                     const void *base)
{
    const struct message_record *record = field->record;
    uint32_t count;
    const char *values = list_of(field, base, &count);
    add(line, "[");
    for (uint32_t i = 0; i < count && !full(line); i++, values += record->size) {
        add(line, i ? " {" : "{");
        add_fields(line, record->fields, record->fields_count, values);
        add(line, "}");
    }
    add(line, "]");
}

static void add_field(struct line *line, const struct message_field *field,
                      const void *base)
{
    const void *at = field_of(field, base);
    const uint8_t *bytes = at;
    switch (field->type) {
    case FIELD_u32:
        add(line, "%" PRIu32, *(const uint32_t *)at);
        break;
    case FIELD_u64:
        add(line, "%" PRIu64, *(const uint64_t *)at);
        break;
    case FIELD_i32:
        add(line, "%" PRId32, *(const int32_t *)at);
        break;
    case FIELD_flag:
        add(line, "%d", *(const bool *)at);
        break;
    case FIELD_id:
    case FIELD_hash:
        add(line, "%02x%02x..", bytes[0], bytes[1]);
        break;
    case FIELD_str:
        add_text(line, at);
        break;
    case FIELD_text:
        add_text(line, *(char *const *)at);
        break;
    case FIELD_body:
        add_body(line, *(struct payload *const *)at);
        break;
    case FIELD_list:
        add_list(line, field, base);
        break;
    }
}

static void add_fields(struct line *line, const struct message_field *fields,
                       uint32_t count, const void *base)
{
    for (uint32_t i = 0; i < count && !full(line); i++) {
        add(line, i ? " %s=" : "%s=", fields[i].name);
        add_field(line, &fields[i], base);
    }
}

char *message_print(const struct message *message, char *text, size_t size)
{
    if (!size)
        return text;
    struct line line = {.text = text, .size = size};
    text[0] = 0;
    add(&line, "%s", message_name(message->kind));
    const struct message_layout *layout = message_layout_find(message->kind);
    if (layout && layout->fields_count) {
        add(&line, " ");
        add_fields(&line, layout->fields, layout->fields_count, message);
    }
    return text;
}
