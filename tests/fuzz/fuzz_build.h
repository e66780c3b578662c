/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_build.h: messages out of fuzz bytes, for the fuzz bodies of the three cores. Two
 * ways: the bytes as they would come from the wire, through fuzz_message; and fields
 * filled from the tables with small numbers and few different ids, so that they often
 * hit what the core knows. These too pass message_encode and message_decode, so that a
 * core only sees what a peer could have sent it. */
#ifndef FARPOOL_TESTS_FUZZ_BUILD_H
#define FARPOOL_TESTS_FUZZ_BUILD_H

#include "tests/fuzz/fuzz.h"

#include <stdlib.h>

#define FUZZ_IDS 3  /* different ids, besides zero */
#define FUZZ_LIST 4 /* records in a list, below this */

static inline uint8_t fuzz_take(struct fuzz_input *bytes)
{
    return (uint8_t)fuzz_number(bytes, 1);
}

/* Mostly small; sometimes at or near the bound, or anything. */
static inline uint64_t fuzz_value(struct fuzz_input *bytes, uint64_t bound)
{
    uint8_t kind = fuzz_take(bytes);
    uint64_t number = kind % 8;

    if (kind >= 224) {
        number = bound - kind % 4;
    } else if (kind >= 200) {
        for (int i = 0; i < 8; i++)
            number = number << 8 | fuzz_take(bytes);
    } else if (kind >= 160) {
        number = fuzz_take(bytes);
    }
    return bound == UINT64_MAX ? number : number % (bound + 1);
}

static inline void fuzz_fill_id(struct fuzz_input *bytes, uint8_t *id)
{
    id[0] = (uint8_t)(fuzz_take(bytes) % (FUZZ_IDS + 1));
}

static inline void fuzz_fill_text(struct fuzz_input *bytes, char *text, size_t bound)
{
    size_t size = fuzz_take(bytes) % 8;

    for (size_t i = 0; i < size && i < bound; i++)
        text[i] = (char)('a' + fuzz_take(bytes) % 4);
}

static inline struct payload *fuzz_body(struct fuzz_input *bytes)
{
    uint8_t kind = fuzz_take(bytes);
    struct payload *body = kind < 160 ? NULL : payload_create(kind % 32);

    if (body)
        for (size_t i = 0; i < body->size; i++)
            payload_bytes(body)[i] = fuzz_take(bytes) % 4;
    return body;
}

static inline char *fuzz_text(struct fuzz_input *bytes)
{
    char text[9] = "";

    fuzz_fill_text(bytes, text, 8);
    return mem_strdup(text);
}

#define FUZZ_u32(to, bound) to = (uint32_t)fuzz_value(bytes, bound);
#define FUZZ_u64(to, bound) to = fuzz_value(bytes, bound);
#define FUZZ_i32(to, bound)                                                              \
    to = (int32_t)fuzz_value(bytes, bound) * (fuzz_take(bytes) % 2 ? 1 : -1);
#define FUZZ_flag(to, bound) to = fuzz_take(bytes) % 2;
#define FUZZ_id(to, bound) fuzz_fill_id(bytes, (to).bytes);
#define FUZZ_hash(to, bound) fuzz_fill_id(bytes, (to).bytes);
#define FUZZ_str(to, bound) fuzz_fill_text(bytes, to, bound);
#define FUZZ_text(to, bound) to = fuzz_text(bytes);
#define FUZZ_body(to, bound) to = fuzz_body(bytes);

#define FUZZ_RECORD_FIELD(type, name, bound, doc) FUZZ_##type(record->name, bound)
#define FUZZ_RECORD(name, doc)                                                           \
    static inline void fuzz_fill_##name(struct fuzz_input *bytes,                        \
                                        struct msg_##name *record)                       \
    {                                                                                    \
        RECORD_##name(FUZZ_RECORD_FIELD)                                                 \
    }
RECORDS(FUZZ_RECORD)

#define FUZZ_MESSAGE_FIELD(type, name, bound, doc) FUZZ_##type(part->name, bound)
#define FUZZ_MESSAGE_LIST(record, name, bound, doc)                                      \
    part->name##_count = fuzz_take(bytes) % FUZZ_LIST;                                   \
    part->name = mem_alloc(part->name##_count * sizeof *part->name);                     \
    for (uint32_t i = 0; i < part->name##_count; i++)                                    \
        fuzz_fill_##record(bytes, &part->name[i]);
#define FUZZ_MESSAGE_CASE(KIND, name, who, doc)                                          \
    case MSG_##KIND: {                                                                   \
        __typeof__(message->name) *part = &message->name;                                \
        MESSAGE_##KIND(FUZZ_MESSAGE_FIELD, FUZZ_MESSAGE_LIST) break;                     \
    }

/* Lines that are some, most of the time. */
static inline void fuzz_fill_lines(struct fuzz_input *bytes, struct message *output)
{
    for (uint32_t i = 0; i < output->output.pieces_count; i++) {
        struct msg_printed *piece = &output->output.pieces[i];

        if (fuzz_take(bytes) % 8 == 0)
            continue;
        payload_unref(&piece->text);
        piece->text = payload_copy("x\n\n", 3);
        piece->lines = 2;
        piece->fd = 1;
    }
}

static inline struct message *fuzz_fill(struct fuzz_input *bytes, enum message_kind kind)
{
    struct message *message = message_create(kind);

    if (!message)
        abort();
    switch (kind) {
        MESSAGES(FUZZ_MESSAGE_CASE)
    default:
        break;
    }
    if (kind == MSG_OUTPUT)
        fuzz_fill_lines(bytes, message);
    return message;
}

/* What a peer receives of a message; NULL: it cannot be sent like this. */
static inline struct message *fuzz_cross(struct message **message)
{
    struct frames frames = {0};
    struct message *crossed = NULL;
    const char *reason;

    if (message_encode(*message, &frames) == 0)
        message_decode(&frames, &crossed, &reason);
    frames_fini(&frames);
    message_free(message);
    return crossed;
}

/* Any message of any kind; NULL: the bytes give none. */
static inline struct message *fuzz_any(struct fuzz_input *bytes)
{
    uint8_t kind = fuzz_take(bytes);

    if (kind % 8 == 7)
        return fuzz_message(bytes);
    struct message *message =
        fuzz_fill(bytes, (enum message_kind)(1 + kind % (MESSAGE_KINDS - 1)));
    return fuzz_cross(&message);
}

/* Lets an allocation of the next step fail, if the bytes say so. */
static inline void fuzz_arm(struct fuzz_input *bytes)
{
    uint8_t place = fuzz_take(bytes);

    mem_fail_after(place < 32 ? place : 0);
}

#endif
