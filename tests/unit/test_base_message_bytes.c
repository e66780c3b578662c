/* SPDX-License-Identifier: Apache-2.0
 *
 * test_base_message_bytes.c: headers cut short, too long, with every bit flipped and
 * every byte replaced; frames missing and extra; and headers that were once a problem to
 * others. Attacks on single fields are in test_base_message_hostile.c. */
#include "tests/unit/refused.h"

static struct frames random_frames(enum message_kind kind, uint64_t seed)
{
    uint64_t rng = seed;
    struct message *message = random_message(&rng, kind);
    struct frames frames;
    assert_int_equal(message_encode(message, &frames), 0);
    message_free(&message);
    return frames;
}

static void truncated_anywhere(void **state)
{
    (void)state;
    for (enum message_kind kind = MESSAGE_NONE + 1; kind < MESSAGE_KINDS; kind++) {
        struct frames frames = random_frames(kind, 6);
        struct payload *whole = frames.header;
        for (size_t size = 0; size < whole->size; size++) {
            frames.header = payload_copy(whole->data, size);
            assert_refused(&frames);
            payload_unref(&frames.header);
        }
        frames.header = whole;
        frames_fini(&frames);
    }
}

static void bytes_behind_the_end(void **state)
{
    (void)state;
    for (enum message_kind kind = MESSAGE_NONE + 1; kind < MESSAGE_KINDS; kind++) {
        struct frames frames = random_frames(kind, 6);
        struct payload *longer = payload_create(frames.header->size + 1);
        memcpy(payload_bytes(longer), frames.header->data, frames.header->size);
        for (int byte = 0; byte < 256; byte++) {
            payload_bytes(longer)[frames.header->size] = (uint8_t)byte;
            struct frames with = frames;
            with.header = longer;
            assert_refused(&with);
        }
        payload_unref(&longer);
        frames_fini(&frames);
    }
}

/* What is still taken must be a message like any other: packed again, it gives itself. */
static void decode_flipped(const struct frames *frames)
{
    struct message *message = NULL, *again = NULL;
    const char *reason = NULL;
    const int error = message_decode(frames, &message, &reason);
    if (error) {
        assert_int_equal(error, FARPOOL_EPROTOCOL);
        assert_non_null(reason);
        return;
    }
    struct frames packed;
    assert_int_equal(message_encode(message, &packed), 0);
    assert_int_equal(message_decode(&packed, &again, &reason), 0);
    assert_true(message_equal(message, again));
    frames_fini(&packed);
    message_free(&message);
    message_free(&again);
}

static void every_bit_flipped(void **state)
{
    (void)state;
    for (enum message_kind kind = MESSAGE_NONE + 1; kind < MESSAGE_KINDS; kind++) {
        struct frames frames = random_frames(kind, 9);
        uint8_t *bytes = payload_bytes(frames.header);
        for (size_t i = 0; i < frames.header->size; i++) {
            for (int bit = 0; bit < 8; bit++) {
                bytes[i] ^= (uint8_t)(1 << bit);
                decode_flipped(&frames);
                bytes[i] ^= (uint8_t)(1 << bit);
            }
        }
        frames_fini(&frames);
    }
}

static void every_byte_replaced(void **state)
{
    (void)state;
    for (enum message_kind kind = MESSAGE_NONE + 1; kind < MESSAGE_KINDS; kind++) {
        struct frames frames = random_frames(kind, 2);
        uint8_t *bytes = payload_bytes(frames.header);
        for (size_t i = 0; i < frames.header->size && i < 100; i++) {
            const uint8_t before = bytes[i];
            for (int byte = 0; byte < 256; byte++) {
                bytes[i] = (uint8_t)byte;
                decode_flipped(&frames);
            }
            bytes[i] = before;
        }
        frames_fini(&frames);
    }
}

static void frames_missing_extra_or_of_another_size(void **state)
{
    (void)state;
    size_t tried = 0;
    for (enum message_kind kind = MESSAGE_NONE + 1; kind < MESSAGE_KINDS; kind++) {
        struct frames frames = random_frames(kind, 11), other = frames;
        struct payload *bodies[MESSAGE_BODIES_MAX + 1];
        other.bodies = bodies;
        struct payload *extra = payload_copy("1234", 4);
        if (frames.bodies_count)
            memcpy(bodies, frames.bodies, frames.bodies_count * sizeof *bodies);
        bodies[frames.bodies_count] = extra;
        other.bodies_count = frames.bodies_count + 1;
        assert_refused(&other);
        for (size_t i = 0; i < frames.bodies_count; i++, tried++) {
            other.bodies_count = i;
            assert_refused(&other);
            other.bodies_count = frames.bodies_count;
            struct payload *longer = payload_create(frames.bodies[i]->size + 1);
            bodies[i] = longer;
            assert_refused(&other);
            bodies[i] = frames.bodies[i];
            payload_unref(&longer);
        }
        payload_unref(&extra);
        frames_fini(&frames);
    }
    assert_true(tried > 5);
}

static void known_bad_headers(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
    } bad[] = {
        {"", 0},
        {"\xdd\xff\xff\xff\xff", 5}, /* an array of 4 G */
        {"\xdf\xff\xff\xff\xff", 5}, /* a map of 4 G */
        {"\xc6\xff\xff\xff\xff", 5}, /* 4 GiB of bytes */
        {"\xdb\xff\xff\xff\xff", 5},
        {"\xc9\xff\xff\xff\xff\x01", 6},
        {"\x90", 1},          /* no kind */
        {"\x05", 1},          /* no array */
        {"\x92\x00\x00", 3},  /* kind 0 */
        {"\x92\x7f\x00", 3},  /* kind 127 */
        {"\x92\xff\x00", 3},  /* kind -1 */
        {"\x92\xa1k\x00", 4}, /* kind "k" */
        {"\x92\xcf\xff\xff\xff\xff\xff\xff\xff\xff\x00", 11},
        {"\x92\xcf\x00\x00\x00\x01\x00\x00\x00\x05\x00", 11}, /* 2^32 + HEARTBEAT */
        {"\x91\x05", 2},         /* a HEARTBEAT without its field */
        {"\x93\x05\x01\x01", 4}, /* with one more */
        {"\x93\x05\x01", 3},     /* that claims one more */
        {"\x92\x05\x01\x01", 4}, /* with a byte behind it */
        {"\x92\x05\xc1", 3},
        {"\x92\x05\xcf\x00", 4},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct frames frames = {.header = payload_copy(bad[i].bytes, bad[i].size)};
        assert_refused(&frames);
        frames_fini(&frames);
    }
}

static void headers_over_their_bound(void **state)
{
    (void)state;
    struct frames frames = {.header = payload_create(MESSAGE_HEADER_MAX + 1)};
    memset(payload_bytes(frames.header), 0x91, MESSAGE_HEADER_MAX + 1);
    assert_refused_as(&frames, "a header that is empty or over its bound");
    frames_fini(&frames);
    frames.header = payload_create(MESSAGE_HEADER_MAX);
    memset(payload_bytes(frames.header), 0x91, MESSAGE_HEADER_MAX);
    assert_refused_as(&frames, "wrong type");
    frames_fini(&frames);
}

static void any_width_is_taken(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
        uint64_t count;
    } good[] = {
        {"\x92\x05\x07", 3, 7},
        {"\xdc\x00\x02\x05\x07", 5, 7},
        {"\xdd\x00\x00\x00\x02\xcc\x05\xcd\x00\x07", 10, 7},
        {"\x92\xce\x00\x00\x00\x05\xcf\x00\x00\x00\x00\x00\x00\x00\x07", 15, 7},
        {"\x92\xd0\x05\xd1\x00\x07", 6, 7},
        {"\x92\xd2\x00\x00\x00\x05\xd3\x7f\xff\xff\xff\xff\xff\xff\xff", 15, INT64_MAX},
        {"\x92\x05\xcf\xff\xff\xff\xff\xff\xff\xff\xff", 11, UINT64_MAX},
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct frames frames = {.header = payload_copy(good[i].bytes, good[i].size)};
        struct message *message = NULL;
        const char *reason = NULL;
        assert_int_equal(message_decode(&frames, &message, &reason), 0);
        assert_int_equal(message->kind, MSG_HEARTBEAT);
        assert_true(message->heartbeat.count == good[i].count);
        message_free(&message);
        frames_fini(&frames);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(truncated_anywhere),
        cmocka_unit_test(bytes_behind_the_end),
        cmocka_unit_test(every_bit_flipped),
        cmocka_unit_test(every_byte_replaced),
        cmocka_unit_test(frames_missing_extra_or_of_another_size),
        cmocka_unit_test(known_bad_headers),
        cmocka_unit_test(headers_over_their_bound),
        cmocka_unit_test(any_width_is_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
