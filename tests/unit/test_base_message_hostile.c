/* SPDX-License-Identifier: Apache-2.0
 *
 * test_base_message_hostile.c: what the decoder must refuse of each field and record,
 * and that it refuses it before it allocates anything. Broken bytes and frames are in
 * test_base_message_bytes.c.
 *
 * A packer that checks nothing packs every message field by field as the tables say, but
 * one field is packed by an "attack" instead; so every field of every message and record
 * meets every attack. */
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

static void pack_fields(struct raw *raw, const struct message_field *fields,
                        uint32_t count, const void *base);

static void pack_text(struct raw *raw, const char *text)
{
    msgpack_pack_str(&raw->packer, text ? strlen(text) : 0);
    msgpack_pack_str_body(&raw->packer, text ? text : "", text ? strlen(text) : 0);
}

static void pack_body(struct raw *raw, struct payload *body)
{
    if (!body) {
        msgpack_pack_nil(&raw->packer);
        return;
    }
    msgpack_pack_uint64(&raw->packer, body->size);
    raw->bodies[raw->bodies_count++] = body;
}

static void pack_list(struct raw *raw, const struct message_field *field,
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

static void pack_field(struct raw *raw, const struct message_field *field,
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

static void pack_fields(struct raw *raw, const struct message_field *fields,
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
static struct frames raw_frames(struct raw *raw, const struct message *message)
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

/* Every field of every kind, one after the other. Returns how often it was tried. */
static size_t attack_all(attack_function *attack, const char *why)
{
    size_t tried = 0;
    for (enum message_kind kind = MESSAGE_NONE + 1; kind < MESSAGE_KINDS; kind++) {
        uint64_t rng = 11;
        struct message *message = random_message(&rng, kind);
        for (int target = 0;; target++) {
            struct raw raw = {.attack = attack, .target = target};
            struct frames frames = raw_frames(&raw, message);
            const bool past_end = raw.at <= target;
            if (raw.tried)
                assert_refused_as(&frames, why);
            frames_fini(&frames);
            tried += raw.tried;
            if (past_end)
                break;
        }
        message_free(&message);
    }
    return tried;
}

/* --------------------------------------------------------------- attacks */

static bool pack_nothing(msgpack_packer *packer, const struct message_field *field)
{
    (void)packer, (void)field;
    return true;
}

static bool pack_float(msgpack_packer *packer, const struct message_field *field)
{
    (void)field;
    msgpack_pack_double(packer, 1.0);
    return true;
}

static bool pack_map(msgpack_packer *packer, const struct message_field *field)
{
    (void)field;
    msgpack_pack_map(packer, 1);
    msgpack_pack_int(packer, 1);
    msgpack_pack_int(packer, 1);
    return true;
}

static bool pack_ext(msgpack_packer *packer, const struct message_field *field)
{
    (void)field;
    msgpack_pack_ext(packer, 4, 1);
    msgpack_pack_ext_body(packer, "abcd", 4);
    return true;
}

static bool pack_nil(msgpack_packer *packer, const struct message_field *field)
{
    msgpack_pack_nil(packer);
    return field->type != FIELD_body;
}

static bool pack_wrong_scalar(msgpack_packer *packer, const struct message_field *field)
{
    if (field->type == FIELD_str || field->type == FIELD_text ||
        field->type == FIELD_id || field->type == FIELD_hash || field->type == FIELD_list)
        msgpack_pack_int(packer, 1);
    else
        msgpack_pack_array(packer, 0);
    return true;
}

static bool pack_deep(msgpack_packer *packer, const struct message_field *field)
{
    (void)field;
    for (int i = 0; i < 1000; i++)
        msgpack_pack_array(packer, 1);
    return true;
}

static bool pack_two(msgpack_packer *packer, const struct message_field *field)
{
    (void)field;
    msgpack_pack_int(packer, 1);
    msgpack_pack_int(packer, 1);
    return true;
}

static bool pack_negative(msgpack_packer *packer, const struct message_field *field)
{
    if (field->type != FIELD_u32 && field->type != FIELD_u64 && field->type != FIELD_body)
        return false;
    msgpack_pack_int(packer, -1);
    return true;
}

static bool pack_over(msgpack_packer *packer, const struct message_field *field)
{
    switch (field->type) {
    case FIELD_u32:
    case FIELD_u64:
    case FIELD_body:
        if (field->bound == UINT64_MAX)
            return false;
        msgpack_pack_uint64(packer, field->bound + 1);
        return true;
    case FIELD_i32:
        msgpack_pack_int64(packer, -(int64_t)field->bound - 1);
        return true;
    case FIELD_list:
        msgpack_pack_array(packer, field->bound + 1);
        for (uint64_t i = 0; i <= field->bound; i++)
            msgpack_pack_nil(packer);
        return true;
    default:
        return false;
    }
}

static bool pack_long(msgpack_packer *packer, const struct message_field *field)
{
    static const char spaces[FAILURE_BACKTRACE_MAX + 2];
    if (field->type == FIELD_id || field->type == FIELD_hash) {
        msgpack_pack_bin(packer, field->size + 1);
        msgpack_pack_bin_body(packer, spaces, field->size + 1);
        return true;
    }
    if (field->type != FIELD_str && field->type != FIELD_text)
        return false;
    char text[sizeof spaces];
    memset(text, 'x', sizeof text);
    assert_true(field->bound < sizeof text);
    msgpack_pack_str(packer, field->bound + 1);
    msgpack_pack_str_body(packer, text, field->bound + 1);
    return true;
}

static bool pack_short_bytes(msgpack_packer *packer, const struct message_field *field)
{
    if (field->type != FIELD_id && field->type != FIELD_hash)
        return false;
    msgpack_pack_bin(packer, 15);
    msgpack_pack_bin_body(packer, "0123456789abcde", 15);
    return true;
}

static bool pack_nul_in_text(msgpack_packer *packer, const struct message_field *field)
{
    if (field->type != FIELD_str && field->type != FIELD_text)
        return false;
    msgpack_pack_str(packer, 3);
    msgpack_pack_str_body(packer, "a\0b", 3);
    return true;
}

static bool pack_bin_for_text(msgpack_packer *packer, const struct message_field *field)
{
    if (field->type == FIELD_str || field->type == FIELD_text) {
        msgpack_pack_bin(packer, 3);
        msgpack_pack_bin_body(packer, "abc", 3);
        return true;
    }
    if (field->type != FIELD_id && field->type != FIELD_hash)
        return false;
    msgpack_pack_str(packer, field->size);
    msgpack_pack_str_body(packer, "0123456789abcdef0123456789abcdef", field->size);
    return true;
}

/* Lengths and counts of four billion, with nothing behind them. */
static bool pack_huge_claim(msgpack_packer *packer, const struct message_field *field)
{
    switch (field->type) {
    case FIELD_list:
        msgpack_pack_array(packer, UINT32_MAX);
        return true;
    case FIELD_str:
    case FIELD_text:
        msgpack_pack_str(packer, UINT32_MAX);
        return true;
    case FIELD_id:
    case FIELD_hash:
        msgpack_pack_bin(packer, UINT32_MAX);
        return true;
    default:
        return false;
    }
}

/* A count that the bound allows, with too few bytes behind it for so many records. */
static bool pack_count_without_records(msgpack_packer *packer,
                                       const struct message_field *field)
{
    if (field->type != FIELD_list)
        return false;
    msgpack_pack_array(packer, field->bound);
    return true;
}

static bool pack_short_record(msgpack_packer *packer, const struct message_field *field)
{
    if (field->type != FIELD_list)
        return false;
    msgpack_pack_array(packer, 1);
    msgpack_pack_array(packer, field->record->fields_count - 1);
    for (uint32_t i = 1; i < field->record->fields_count; i++)
        msgpack_pack_int(packer, 1);
    for (int i = 0; i < 20; i++) /* so that bytes are not what is missing */
        msgpack_pack_nil(packer);
    return true;
}

static bool pack_body_without_frame(msgpack_packer *packer,
                                    const struct message_field *field)
{
    if (field->type != FIELD_body)
        return false;
    msgpack_pack_uint64(packer, 999); /* random bodies are smaller */
    return true;
}

static bool never_used_byte(msgpack_packer *packer, const struct message_field *field)
{
    (void)field;
    return packer->callback(packer->data, "\xc1", 1) == 0;
}

static void every_field_meets_every_attack(void **state)
{
    (void)state;
    static const struct {
        attack_function *attack;
        const char *why;
        size_t tried_min;
    } attacks[] = {
        {pack_nothing, NULL, 200},
        {pack_float, "does not use", 200},
        {pack_map, "does not use", 200},
        {pack_ext, "does not use", 200},
        {never_used_byte, "does not use", 200},
        {pack_nil, "wrong type", 200},
        {pack_wrong_scalar, "wrong type", 200},
        {pack_deep, NULL, 200},
        {pack_two, NULL, 200},
        {pack_negative, "wrong type", 100},
        {pack_over, "over its bound", 20},
        {pack_long, NULL, 50},
        {pack_short_bytes, "wrong size", 20},
        {pack_nul_in_text, "NUL byte", 20},
        {pack_bin_for_text, "wrong type", 50},
        {pack_huge_claim, NULL, 50},
        {pack_count_without_records, "longer than the header", 10},
        {pack_short_record, "number of fields", 10},
        {pack_body_without_frame, NULL, 5},
    };
    for (size_t i = 0; i < sizeof attacks / sizeof attacks[0]; i++)
        assert_true(attack_all(attacks[i].attack, attacks[i].why) >=
                    attacks[i].tried_min);
}

/* The frame is there, and as large as the header says: but too large. */
static void bodies_over_their_bound(void **state)
{
    (void)state;
    size_t tried = 0;
    for (enum message_kind kind = MESSAGE_NONE + 1; kind < MESSAGE_KINDS; kind++) {
        const struct message_layout *layout = message_layout_find(kind);
        for (uint32_t i = 0; i < layout->fields_count; i++) {
            const struct message_field *field = &layout->fields[i];
            if (field->type != FIELD_body)
                continue;
            struct message *message = message_create(kind);
            struct payload **body = field_at(field, message);
            *body = payload_wrap("", field->bound + 1, NULL, NULL);
            struct raw raw = {.target = -1};
            struct frames frames = raw_frames(&raw, message);
            assert_refused_as(&frames, "a body over its bound");
            frames_fini(&frames);
            message_free(&message);
            tried++;
        }
    }
    assert_true(tried >= 4);
}

/* Lists of good records: one too many of them, and records that claim a field more. */
static void lists_of_too_much(void **state)
{
    (void)state;
    for (enum message_kind kind = MESSAGE_NONE + 1; kind < MESSAGE_KINDS; kind++) {
        const struct message_layout *layout = message_layout_find(kind);
        for (uint32_t i = 0; i < layout->fields_count; i++) {
            const struct message_field *field = &layout->fields[i];
            if (field->type != FIELD_list)
                continue;
            uint64_t rng = 4;
            struct message *message = message_create(kind);
            random_list(&rng, field, message, (uint32_t)field->bound + 1);
            struct raw raw = {.target = -1}, extra = {.target = -1, .record_extra = 1};
            struct frames frames = raw_frames(&raw, message);
            assert_refused_as(&frames, "a list over its bound");
            frames_fini(&frames);
            message_free(&message);
            message = message_create(kind);
            random_list(&rng, field, message, 3);
            frames = raw_frames(&extra, message);
            assert_refused_as(&frames, "a record with another number of fields");
            frames_fini(&frames);
            message_free(&message);
        }
    }
}

/* ------------------------------------------------------- rules of records */

/* Packed without checks, refused by the decoder; and by the encoder, too. */
static void assert_breaks_a_rule(struct message **message)
{
    struct raw raw = {.target = -1};
    struct frames frames = raw_frames(&raw, *message);
    assert_refused(&frames);
    frames_fini(&frames);
    assert_int_equal(message_encode(*message, &frames), FARPOOL_EINVAL);
    message_free(message);
}

static struct msg_span bad_span(int which)
{
    switch (which) {
    case 0:
        return (struct msg_span){.count = 0};
    case 1:
        return (struct msg_span){.first = UINT64_MAX, .count = 1};
    case 2:
        return (struct msg_span){.count = 3, .data = payload_create(4)};
    case 3:
        return (struct msg_span){.count = 2, .sizes = payload_create(7)};
    case 4:
        return (struct msg_span){.count = 1,
                                 .sizes = payload_copy("\3\0\0\0", 4),
                                 .data = payload_copy("ab", 2)};
    default:
        return (struct msg_span){.count = 1, .sizes = payload_copy("\3\0\0\0", 4)};
    }
}

static void spans_that_do_not_agree(void **state)
{
    (void)state;
    for (int which = 0; which < 6; which++) {
        struct message *message = message_create(MSG_TASKS);
        message->tasks.spans = mem_alloc(2 * sizeof(struct msg_span));
        message->tasks.spans_count = 2;
        message->tasks.spans[0] = (struct msg_span){.count = 1};
        message->tasks.spans[1] = bad_span(which);
        assert_breaks_a_rule(&message);
        const struct msg_span span = bad_span(which);
        message = message_create(MSG_DONE);
        message->done.results = mem_alloc(sizeof(struct msg_done));
        message->done.results_count = 1;
        message->done.results[0] = (struct msg_done){.first = span.first,
                                                     .count = span.count,
                                                     .sizes = span.sizes,
                                                     .data = span.data};
        assert_breaks_a_rule(&message);
    }
}

static void runs_that_are_none(void **state)
{
    (void)state;
    const uint64_t bad[][2] = {{5, 0}, {UINT64_MAX, 1}, {1, UINT64_MAX}};
    for (size_t i = 0; i < 3; i++) {
        struct message *message = message_create(MSG_CANCEL);
        message->cancel.ranges = mem_alloc(sizeof(struct msg_range));
        message->cancel.ranges_count = 1;
        message->cancel.ranges[0] =
            (struct msg_range){.first = bad[i][0], .count = bad[i][1]};
        assert_breaks_a_rule(&message);
        message = message_create(MSG_ACK);
        message->ack.results = mem_alloc(sizeof(struct msg_seqs));
        message->ack.results_count = 1;
        message->ack.results[0] =
            (struct msg_seqs){.first = bad[i][0], .count = bad[i][1]};
        assert_breaks_a_rule(&message);
    }
}

static void file_names_that_leave_the_folder(void **state)
{
    (void)state;
    static const char *const bad[] = {"",    ".",    "..",          "/",
                                      "a/b", "../x", "/etc/passwd", "x/"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct message *message = message_create(MSG_POOL_OPEN);
        message->pool_open.files = mem_alloc(sizeof(struct msg_file));
        message->pool_open.files_count = 1;
        strcpy(message->pool_open.files[0].name, bad[i]);
        assert_breaks_a_rule(&message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_field_meets_every_attack),
        cmocka_unit_test(bodies_over_their_bound),
        cmocka_unit_test(lists_of_too_much),
        cmocka_unit_test(spans_that_do_not_agree),
        cmocka_unit_test(runs_that_are_none),
        cmocka_unit_test(file_names_that_leave_the_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
