/* SPDX-License-Identifier: Apache-2.0
 *
 * test_base_message_hostile.c: what the decoder must refuse of each field, and that it
 * refuses it before it allocates anything: every field of every message and record meets
 * every attack. Bounds and rules are in test_base_message_rules.c, broken bytes and
 * frames in test_base_message_bytes.c. */
#include "tests/unit/raw_message.h"

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
    /* Of COLLECTED and STATUS: the lists behind them may be long enough to be counted as
     * them. */
    static const char *const others[] = {"outputs", "workers",
                                         "workers that went, the latest first", "pools"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (strcmp(field->doc, others[i]) == 0)
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_field_meets_every_attack),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
