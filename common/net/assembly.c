/* SPDX-License-Identifier: Apache-2.0
 *
 * assembly.c: puts the PARTs of a large message together. One is under way per link, its
 * PARTs come in order, and its total is bounded before memory is asked for. Memory is
 * only touched as bytes come, so a peer that claims a gigabyte and sends none costs
 * address space. The finished message's bodies are slices of the one buffer. queue.c
 * tells the form of the whole. */
#include "common/net/net_internal.h"

#include <string.h>

void net_assembly_fini(struct assembly *assembly)
{
    payload_unref(&assembly->whole);
    assembly->total = assembly->offset = 0;
}

static uint64_t get_number(const uint8_t *text, int bytes)
{
    uint64_t value = 0;
    for (int i = bytes - 1; i >= 0; i--)
        value = value << 8 | text[i];
    return value;
}

/* Whether the sizes at the start of the whole add up to it. */
static bool sizes_agree(const uint8_t *text, uint64_t total, uint64_t header,
                        uint64_t bodies)
{
    if (bodies > ENVELOPE_FRAMES_MAX || total < 8 + 8 * bodies)
        return false;
    uint64_t left = total - 8 - 8 * bodies;
    if (header > left)
        return false;
    left -= header;
    for (uint64_t i = 0; i < bodies; i++) {
        uint64_t size = get_number(text + 8 + 8 * i, 8);
        if (size > left)
            return false;
        left -= size;
    }
    return left == 0;
}

/* Slices the finished whole; false: out of memory. */
static bool slice_whole(struct assembly *assembly, uint64_t header, uint64_t bodies,
                        struct frames *frames)
{
    const uint8_t *text = assembly->whole->data;
    size_t offset = (size_t)(8 + 8 * bodies);
    frames->header = payload_slice(assembly->whole, offset, (size_t)header);
    frames->bodies = mem_alloc((size_t)(bodies + 1) * sizeof *frames->bodies);
    if (frames->header == NULL || frames->bodies == NULL)
        return false;
    offset += (size_t)header;
    for (uint64_t i = 0; i < bodies; i++) {
        size_t size = (size_t)get_number(text + 8 + 8 * i, 8);
        struct payload *body = payload_slice(assembly->whole, offset, size);
        if (body == NULL)
            return false;
        frames->bodies[frames->bodies_count++] = body;
        offset += size;
    }
    return true;
}

static int finish(struct assembly *assembly, struct frames *ret_frames,
                  const char **ret_reason)
{
    const uint8_t *text = assembly->whole->data;
    uint64_t header = get_number(text, 4), bodies = get_number(text + 4, 4);
    struct frames frames = {0};
    int result = FARPOOL_END;
    if (!sizes_agree(text, assembly->total, header, bodies)) {
        *ret_reason = "bad sizes in a message that came in parts";
        result = FARPOOL_EPROTOCOL;
    } else if (!slice_whole(assembly, header, bodies, &frames)) {
        frames_fini(&frames);
        result = FARPOOL_ENOMEM;
    } else {
        *ret_frames = frames;
    }
    net_assembly_fini(assembly);
    return result;
}

static const char *check(const struct assembly *assembly, uint64_t total, uint64_t offset,
                         uint64_t size)
{
    if (total < 8 || total > ASSEMBLY_BYTES_MAX)
        return "bad size of a message that comes in parts";
    if (size == 0 || offset > total || size > total - offset)
        return "a part beyond its message";
    if (offset != assembly->offset ||
        (assembly->whole != NULL && total != assembly->total))
        return "a part out of order";
    return NULL;
}

int net_assembly_add(struct assembly *assembly, const struct message *part,
                     struct frames *ret_frames, const char **ret_reason)
{
    const struct payload *data = part->part.data;
    uint64_t total = part->part.total, offset = part->part.offset;
    const char *wrong = check(assembly, total, offset, data == NULL ? 0 : data->size);
    if (wrong != NULL) {
        *ret_reason = wrong;
        return FARPOOL_EPROTOCOL;
    }
    if (assembly->whole == NULL) {
        assembly->whole = payload_create((size_t)total);
        if (assembly->whole == NULL)
            return FARPOOL_ENOMEM;
        assembly->total = total;
    }
    memcpy(payload_bytes(assembly->whole) + offset, data->data, data->size);
    assembly->offset += data->size;
    if (assembly->offset < total)
        return 0;
    return finish(assembly, ret_frames, ret_reason);
}
