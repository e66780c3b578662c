/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz.h: what the fuzz targets share. A target is one file, fuzz_NAME.c, that defines
 * LLVMFuzzerTestOneInput and nothing else that is not static; CMakeLists.txt finds it by
 * its name and must know what it links (FUZZ_LINK_NAME). Its inputs are in corpus/NAME/.
 *
 * With FARPOOL_FUZZ (preset fuzz, clang) it is a libFuzzer program; in every other build
 * driver.c runs the same body over the corpus and some thousand seeded mutations of it,
 * as a test. So a body must be deterministic, keep nothing from one input to the next,
 * free everything, and end by assert when something is wrong. */
#ifndef FARPOOL_TESTS_FUZZ_H
#define FARPOOL_TESTS_FUZZ_H

#include "common/base/mem.h"
#include "common/base/message.h"

#include <assert.h>
#include <string.h>

/* One input. Returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* An input that is used up from its front. At its end everything reads as zero, so no
 * body needs to check lengths; stop when `left` is 0. */
struct fuzz_input {
    const uint8_t *at;
    size_t left;
};

/* A little endian number of 1 to 8 bytes. */
static inline uint64_t fuzz_number(struct fuzz_input *input, unsigned bytes)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes && input->left; i++) {
        value |= (uint64_t)*input->at++ << 8 * i;
        input->left--;
    }
    return value;
}

/* The next `size` bytes, or what is left of them. */
static inline struct payload *fuzz_payload(struct fuzz_input *input, size_t size)
{
    const size_t taken = size < input->left ? size : input->left;
    struct payload *payload = payload_copy(input->at, taken);
    assert(payload);
    input->at += taken;
    input->left -= taken;
    return payload;
}

#define FUZZ_BODIES_MAX 15

/* The frames of a message, as a peer could send them: u16 bytes of the header, u8 bodies
 * (its low four bits), u16 bytes of each body; then header and bodies. (tests/tools/
 * fuzz_seeds.c writes the same.) Ended by frames_fini. */
static inline void fuzz_frames(struct fuzz_input *input, struct frames *ret_frames)
{
    struct frames frames = {.bodies = NULL};
    size_t sizes[FUZZ_BODIES_MAX];
    const size_t header_size = fuzz_number(input, 2);
    const size_t count = fuzz_number(input, 1) & FUZZ_BODIES_MAX;
    for (size_t i = 0; i < count; i++)
        sizes[i] = fuzz_number(input, 2);
    frames.header = fuzz_payload(input, header_size);
    frames.bodies = mem_alloc(FUZZ_BODIES_MAX * sizeof *frames.bodies);
    assert(frames.bodies);
    for (size_t i = 0; i < count; i++)
        frames.bodies[i] = fuzz_payload(input, sizes[i]);
    frames.bodies_count = count;
    *ret_frames = frames;
}

/* The message in such frames, or NULL when the decoder refuses it, as a shell would. */
static inline struct message *fuzz_message(struct fuzz_input *input)
{
    struct frames frames;
    struct message *message = NULL;
    const char *reason;
    fuzz_frames(input, &frames);
    if (message_decode(&frames, &message, &reason))
        message = NULL;
    frames_fini(&frames);
    return message;
}

#endif
