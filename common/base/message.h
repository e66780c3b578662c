/* SPDX-License-Identifier: Apache-2.0
 *
 * message.h: the messages of messages.def as C: one struct a message and a record, one
 * encoder, one bounded decoder, one printer, all walking the same tables. No I/O.
 *
 * A struct message owns its strings, lists and references to payloads. Passing one on
 * is a move (`struct message **`, set to NULL); cores and shells hand them around so. */
#ifndef FARPOOL_BASE_MESSAGE_H
#define FARPOOL_BASE_MESSAGE_H

#include "common/base/id.h"
#include "common/base/messages.def"
#include "common/base/payload.h"
#include "farpool.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MSG_FIELD_u32(name, bound) uint32_t name;
#define MSG_FIELD_u64(name, bound) uint64_t name;
#define MSG_FIELD_i32(name, bound) int32_t name;
#define MSG_FIELD_flag(name, bound) bool name;
#define MSG_FIELD_id(name, bound) struct id name;
#define MSG_FIELD_hash(name, bound) struct hash name;
#define MSG_FIELD_str(name, bound) char name[(bound) + 1];
#define MSG_FIELD_text(name, bound) char *name;
#define MSG_FIELD_body(name, bound) struct payload *name;
#define MSG_FIELD(type, name, bound, doc) MSG_FIELD_##type(name, bound)
#define MSG_LIST(record, name, bound, doc)                                               \
    struct msg_##record *name;                                                           \
    uint32_t name##_count;

#define MSG_RECORD_STRUCT(name, doc)                                                     \
    struct msg_##name {                                                                  \
        RECORD_##name(MSG_FIELD)                                                         \
    };
RECORDS(MSG_RECORD_STRUCT)

enum message_kind {
    MESSAGE_NONE,
#define MSG_KIND(KIND, name, who, doc) MSG_##KIND,
    MESSAGES(MSG_KIND)
#undef MSG_KIND
        MESSAGE_KINDS
};

struct message {
    enum message_kind kind;
    union {
#define MSG_MEMBER(KIND, name, who, doc)                                                 \
    struct {                                                                             \
        MESSAGE_##KIND(MSG_FIELD, MSG_LIST)                                              \
    } name;
        MESSAGES(MSG_MEMBER)
#undef MSG_MEMBER
    };
};

/* An empty message of that kind; NULL: out of memory. Texts read as "" when NULL. */
struct message *message_create(enum message_kind kind);
void message_destroy(struct message *message);

/* Sets NULL; NULL inside allowed. */
static inline void message_free(struct message **message)
{
    struct message *last = *message;

    *message = NULL;
    if (last)
        message_destroy(last);
}

/* Gives a message a list: `memory` from mem_alloc(count * sizeof record), then set the
 * array and its _count; the message frees it. */

/* A copy: lists and texts are copied, bodies shared. NULL: out of memory. */
struct message *message_copy(const struct message *message);

/* "TASKS"; "?" for an unknown kind. Static. */
const char *message_name(enum message_kind kind);

/* Wire form: a header (frame 0) and bodies (one frame each, in order). */
struct frames {
    struct payload *header;
    struct payload **bodies; /* references */
    size_t bodies_count;
};
void frames_fini(struct frames *frames);

/* Encodes; shares the bodies. ENOMEM; EINVAL for a field over its bound (which is our
 * own bug, and asserted in tests). */
int message_encode(const struct message *message, struct frames *ret_frames);

/* Decodes what a peer sent: checks depth, counts against the bytes left, types, bounds,
 * exact end, and each body's size against its frame before anything is allocated; spans
 * and done records also against span_valid. Takes references to the bodies, not the
 * frames. EPROTOCOL: *ret_reason is a static text saying what was wrong; ENOMEM. */
int message_decode(const struct frames *frames, struct message **ret_message,
                   const char **ret_reason);

/* Whether one of role 'C', 'K' or 'W' may send this kind to one of another role. */
bool message_allowed(enum message_kind kind, char from, char to);

/* One line for people, "TASKS pool=3f2a.. job=1 spans=[{first=0 count=8 ...}]", cut at
 * `size` bytes, always 0-terminated. Returns text. */
char *message_print(const struct message *message, char *text, size_t size);

/* Bytes that a message holds in bodies, for whoever bounds a queue. */
uint64_t message_body_bytes(const struct message *message);

/* The protocol page, docs/protocol.md, written through `write(user, text)`. */
void message_write_page(void (*write)(void *user, const char *text), void *user);

#endif
