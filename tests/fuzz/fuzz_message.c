/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_message.c: any frames at all into the decoder. What it takes must be a message
 * like any other: it can be printed, copied and encoded, and decodes to itself. */
#include "tests/fuzz/fuzz.h"
#include "tests/tools/random_message.h"

static void check_copy(const struct message *message)
{
    struct message *copy = message_copy(message);
    assert(copy && message_equal(message, copy));
    assert(message_body_bytes(copy) == message_body_bytes(message));
    message_free(&copy);
}

static void check_round_trip(const struct message *message)
{
    struct frames frames;
    struct message *again = NULL;
    const char *reason = NULL;
    const int encoded = message_encode(message, &frames);
    assert(encoded == 0);
    const int decoded = message_decode(&frames, &again, &reason);
    assert(decoded == 0 && message_equal(message, again));
    message_free(&again);
    frames_fini(&frames);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, size};
    struct frames frames;
    struct message *message = NULL;
    const char *reason = NULL;
    fuzz_frames(&input, &frames);
    const int error = message_decode(&frames, &message, &reason);
    frames_fini(&frames);
    if (error) {
        assert(error == FARPOOL_EPROTOCOL && reason && !message);
        return 0;
    }
    char text[200];
    message_print(message, text, sizeof text);
    assert(strlen(text) < sizeof text);
    check_copy(message);
    check_round_trip(message);
    message_free(&message);
    return 0;
}
