/* SPDX-License-Identifier: Apache-2.0
 *
 * message_page.c: docs/protocol.md, written from the tables, so that the page cannot say
 * anything else than what the code does. A test compares the two; after a change of
 * messages.def, or of this file, the program protocol_page writes the page anew. */
#include "common/base/message_table.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

struct page {
    void (*write)(void *user, const char *text);
    void *user;
};

static const char opening[] =
    "# Protocol\n"
    "\n"
    "<!-- Written by the program protocol_page from common/base/messages.def: do not edit. -->\n"
    "\n"
    "What client (C), coordinator (K) and worker (W) say to each other: each message, who\n"
    "sends it, and every field with its type and bound. The embedded pool passes the same\n"
    "messages in memory. When they are sent, and what is done about them, is in\n"
    "[scheduling](scheduling.md) and [failure](failure.md); links, envelopes and how\n"
    "messages share one are in [transport](transport.md).\n"
    "\n"
    "## Frames\n"
    "\n"
    "A message is a **header** and its **bodies**. The header is one msgpack array\n"
    "\n"
    "    [kind, field, field, ...]\n"
    "\n"
    "with every field of the message's table, in that order: nothing is left out, nothing\n"
    "is added. A list is an array of records, a record an array of its fields. Bytes of\n"
    "inputs, outputs and files are not in the header: each travels as a body, a frame of\n"
    "its own behind the header, in the order in which the header mentions them.\n"
    "\n"
    "A TASKS of one span with two 8-byte inputs:\n"
    "\n"
    "    frame 0   [%d, <16 bytes>, 1, [[0, 2, 1, nil, 16]]]\n"
    "               kind  pool     job   |  |  |  |    data: frame 1 has 16 bytes\n"
    "                                    |  |  |  sizes: absent, so all inputs are alike\n"
    "                                    |  |  attempt\n"
    "                                    |  count\n"
    "                                    first\n"
    "    frame 1   <16 bytes>\n"
    "\n"
    "The protocol's version is %d; HELLO and WELCOME carry it, and both sides must have the\n"
    "same. Adding a field or changing an order is a new version.\n"
    "\n"
    "## Types\n"
    "\n"
    "| type | msgpack | bound |\n"
    "|---|---|---|\n"
    "| u32, u64 | an integer, not negative | largest value |\n"
    "| i32 | an integer | largest absolute value |\n"
    "| flag | true or false | |\n"
    "| id | bin of 16 bytes | |\n"
    "| hash | bin of 32 bytes, BLAKE2b-256 | |\n"
    "| str, text | str without NUL bytes | bytes |\n"
    "| body | nil: absent; or an integer: the bytes of its frame | bytes |\n"
    "| list of R | array of records R | records |\n"
    "\n"
    "Integers, texts and arrays may be packed in any width; \"any\" as a bound is what the\n"
    "type can hold.\n"
    "\n"
    "## What a receiver refuses\n"
    "\n"
    "A header of more than %d bytes; an item of another type than the table's, or over its\n"
    "bound; a list longer than the bytes left could hold; another number of fields; a body\n"
    "without its frame, or whose frame has another size; bytes behind the header's end and\n"
    "frames behind the last body; a kind that the sender's role does not send. Also:\n"
    "\n"
    "- a span or done record with count 0, with first + count over 2^64 - 1, whose sizes\n"
    "  are not 4 bytes a task, or whose sizes (or equal parts) do not make up `data`;\n"
    "- a range or seqs record with count 0, or with first + count over 2^64 - 1;\n"
    "- a file whose name is empty, `.`, `..`, or has a slash.\n"
    "\n"
    "All this is checked before memory is reserved for the message. The link ends\n"
    "(EPROTOCOL), with the reason in the log.\n"
    "\n"
    "`sizes` of a span is one u32, little endian, for each task, and `data` holds the\n"
    "inputs one behind the other; without `sizes` every input has data / count bytes.\n"
    "\n"
    "## Who sends what\n"
    "\n"
    "C>K>W: from the client to a worker, passed on by the coordinator; and so on.\n"
    "\n";

__attribute__((format(printf, 2, 3))) static void put(const struct page *page,
                                                      const char *format, ...)
{
    char text[sizeof opening + 256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    page->write(page->user, text);
}

static void put_bytes(const struct page *page, uint64_t bytes)
{
    if (bytes >= 1 << 30 && bytes % (1 << 30) == 0)
        put(page, "%" PRIu64 " GiB", bytes >> 30);
    else if (bytes >= 1 << 20 && bytes % (1 << 20) == 0)
        put(page, "%" PRIu64 " MiB", bytes >> 20);
    else
        put(page, "%" PRIu64, bytes);
}

static void put_bound(const struct page *page, const struct message_field *field)
{
    switch (field->type) {
    case FIELD_flag:
    case FIELD_id:
    case FIELD_hash:
        break;
    case FIELD_body:
        put_bytes(page, field->bound);
        break;
    default:
        if (field->bound == (field->type == FIELD_u32 ? UINT32_MAX : UINT64_MAX))
            put(page, "any");
        else if (field->bound == UINT64_MAX - 1)
            put(page, "2^64 - 2");
        else
            put(page, "%" PRIu64, field->bound);
    }
}

static void put_fields(const struct page *page, const struct message_field *fields,
                       uint32_t count)
{
    put(page, "| field | type | bound | what it is |\n|---|---|---|---|\n");
    for (uint32_t i = 0; i < count; i++) {
        const struct message_field *field = &fields[i];
        if (field->type == FIELD_list)
            put(page, "| %s | list of [%s](#%s-record) | ", field->name, field->type_name,
                field->type_name);
        else
            put(page, "| %s | %s | ", field->name, field->type_name);
        put_bound(page, field);
        put(page, " | %s |\n", field->doc);
    }
}

static void put_overview(const struct page *page)
{
    put(page, "| kind | message | sender | meaning |\n|---|---|---|---|\n");
    for (int kind = 0; kind < MESSAGE_KINDS; kind++) {
        const struct message_layout *layout =
            message_layout_find((enum message_kind)kind);
        if (layout)
            put(page, "| %d | [%s](#%s) | %s | %s |\n", kind, layout->name, layout->name,
                layout->who, layout->doc);
    }
}

void message_write_page(void (*write)(void *user, const char *text), void *user)
{
    const struct page page = {write, user};
    put(&page, opening, (int)MSG_TASKS, PROTOCOL_VERSION, MESSAGE_HEADER_MAX);
    put_overview(&page);
    put(&page, "\n## Messages\n");
    for (int kind = 0; kind < MESSAGE_KINDS; kind++) {
        const struct message_layout *layout =
            message_layout_find((enum message_kind)kind);
        if (!layout)
            continue;
        put(&page, "\n<a id=\"%s\"></a>\n### %d %s\n\n%s: %s\n\n", layout->name, kind,
            layout->name, layout->who, layout->doc);
        put_fields(&page, layout->fields, layout->fields_count);
    }
    put(&page, "\n## Records\n");
    for (int kind = 0; kind < RECORD_KINDS; kind++) {
        const struct message_record *record = &message_records[kind];
        put(&page, "\n<a id=\"%s-record\"></a>\n### %s\n\n%s\n\n", record->name,
            record->name, record->doc);
        put_fields(&page, record->fields, record->fields_count);
    }
}
