/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_seeds.c: writes one input for each kind of message, in the form that fuzz_frames
 * (tests/fuzz/fuzz.h) reads, for tests/fuzz/corpus/message:
 *     fuzz_seeds FOLDER */
#include "tests/fuzz/fuzz.h"
#include "tests/tools/random_message.h"

#include <stdio.h>

static void put_number(FILE *file, size_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        fputc((int)(value >> 8 * i & 0xff), file);
}

static void put_frames(FILE *file, const struct frames *frames)
{
    put_number(file, frames->header->size, 2);
    put_number(file, frames->bodies_count, 1);
    for (size_t i = 0; i < frames->bodies_count; i++)
        put_number(file, frames->bodies[i]->size, 2);
    fwrite(frames->header->data, 1, frames->header->size, file);
    for (size_t i = 0; i < frames->bodies_count; i++) {
        if (frames->bodies[i]->size)
            fwrite(frames->bodies[i]->data, 1, frames->bodies[i]->size, file);
    }
}

/* A message with lists that are not empty, and not too large for an input. */
static int make_frames(enum message_kind kind, struct frames *ret_frames)
{
    int error = FARPOOL_EINVAL;
    for (uint64_t seed = 0; seed < 1000; seed++) {
        uint64_t rng = seed;
        struct message *message = random_message(&rng, kind);
        error = message_encode(message, ret_frames);
        message_free(&message);
        if (error || (ret_frames->bodies_count <= FUZZ_BODIES_MAX &&
                      ret_frames->header->size > 60 && ret_frames->header->size < 2000))
            return error;
        if (seed < 999)
            frames_fini(ret_frames);
    }
    return error;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: fuzz_seeds FOLDER\n");
        return 2;
    }
    for (enum message_kind kind = MESSAGE_NONE + 1; kind < MESSAGE_KINDS; kind++) {
        struct frames frames;
        char path[1024];
        snprintf(path, sizeof path, "%s/%s", argv[1], message_name(kind));
        FILE *file = fopen(path, "wb");
        if (!file || make_frames(kind, &frames)) {
            perror(path);
            return 1;
        }
        put_frames(file, &frames);
        frames_fini(&frames);
        if (fclose(file)) {
            perror(path);
            return 1;
        }
    }
    return 0;
}
