/* SPDX-License-Identifier: Apache-2.0
 *
 * host_relay.c: messages between the coordinator and a client inside a process. They pass
 * through the rings in pieces of a bounded size, so that one of any length passes however
 * full the arenas are; to the process in a ring of their own, since the task that reads
 * them is the one that holds the in ring's record. What is in the messages is left to
 * the coordinator and to that client. */
#include "worker/host_internal.h"

#include <string.h>

/* One message of a client is about 1 MiB, or one task larger than that. */
#define RELAY_BYTES_MAX (BODY_BYTES_MAX + UINT64_C(67108864))

static const struct payload *frame_at(const struct frames *frames, size_t place)
{
    return place == 0 ? frames->header : frames->bodies[place - 1];
}

static uint64_t frame_bytes(const struct frames *frames, size_t place)
{
    const struct payload *frame = frame_at(frames, place);
    return frame != NULL ? frame->size : 0;
}

/* To the process ------------------------------------------------------------------ */

static bool push_beginning(struct host_process *process, struct relay_item *item)
{
    uint32_t count = (uint32_t)(1 + item->frames.bodies_count);
    uint32_t length =
        (uint32_t)(offsetof(struct channel_relay, sizes) + count * sizeof(uint64_t));
    struct channel_relay *record = ring_reserve(&process->relay, length);
    if (record == NULL)
        return false;
    record->frames = count;
    for (uint32_t i = 0; i < count; i++)
        record->sizes[i] = frame_bytes(&item->frames, i);
    ring_commit(&process->relay, CHANNEL_RELAY, length);
    item->begun = true;
    return true;
}

static bool push_part(struct host_process *process, struct relay_item *item)
{
    uint64_t left = frame_bytes(&item->frames, item->frame) - item->sent;
    uint32_t length = left < CHANNEL_RELAY_BYTES ? (uint32_t)left : CHANNEL_RELAY_BYTES;
    uint8_t *to = ring_reserve(&process->relay, length);
    if (to == NULL)
        return false;
    memcpy(to, frame_at(&item->frames, item->frame)->data + item->sent, length);
    ring_commit(&process->relay, CHANNEL_RELAY_PART, length);
    item->sent += length;
    return true;
}

static void skip_sent(struct relay_item *item)
{
    while (item->frame <= item->frames.bodies_count &&
           item->sent == frame_bytes(&item->frames, item->frame)) {
        item->frame++;
        item->sent = 0;
    }
}

bool host_relay_push(struct host_process *process)
{
    bool pushed = false;
    struct relay_item *item;
    while ((item = STAILQ_FIRST(&process->relays)) != NULL) {
        bool room = item->begun || push_beginning(process, item);
        skip_sent(item);
        while (room && item->frame <= item->frames.bodies_count) {
            room = push_part(process, item);
            pushed = pushed || room;
            skip_sent(item);
        }
        if (!room)
            break;
        pushed = true;
        STAILQ_REMOVE_HEAD(&process->relays, link);
        frames_fini(&item->frames);
        mem_free(item);
    }
    if (process->relay.broken)
        host_violate(process, "its relay ring's index is nonsense");
    if (pushed)
        ring_publish(&process->relay);
    return pushed;
}

int host_relay(struct host *host, uint64_t number, struct frames *frames)
{
    struct host_process *process;
    HASH_FIND(hh, host->processes, &number, sizeof number, process);
    if (process == NULL || process->state != PROCESS_SERVING)
        return FARPOOL_ECLOSED;
    if (frames->bodies_count >= CHANNEL_RELAY_FRAMES)
        return FARPOOL_ETOOBIG;
    struct relay_item *item = mem_alloc(sizeof *item);
    if (item == NULL)
        return FARPOOL_ENOMEM;
    item->frames = *frames;
    *frames = (struct frames){0};
    STAILQ_INSERT_TAIL(&process->relays, item, link);
    host_push(host, process);
    return 0;
}

/* From the process ---------------------------------------------------------------- */

static bool begin(struct relay_in *in, const struct ring_record *record, bool *no_memory)
{
    struct channel_relay sizes;
    const uint32_t fixed = offsetof(struct channel_relay, sizes);
    uint64_t total = 0;
    if (in->open || record->length < fixed || record->length > sizeof sizes)
        return false;
    memcpy(&sizes, record->body, record->length);
    if (sizes.frames < 1 || sizes.frames > CHANNEL_RELAY_FRAMES ||
        record->length != fixed + sizes.frames * sizeof(uint64_t))
        return false;
    for (uint32_t i = 0; i < sizes.frames; i++) {
        if (sizes.sizes[i] > BODY_BYTES_MAX)
            return false;
        total += sizes.sizes[i];
    }
    if (total > RELAY_BYTES_MAX)
        return false;
    *in = (struct relay_in){.open = true};
    in->frames.bodies_count = sizes.frames - 1;
    in->frames.bodies = mem_alloc((sizes.frames - 1) * sizeof(struct payload *) + 1);
    in->frames.header = payload_create(sizes.sizes[0]);
    *no_memory = in->frames.bodies == NULL || in->frames.header == NULL;
    for (uint32_t i = 1; !*no_memory && i < sizes.frames; i++) {
        in->frames.bodies[i - 1] = payload_create(sizes.sizes[i]);
        *no_memory = in->frames.bodies[i - 1] == NULL;
    }
    return !*no_memory;
}

static void skip_full(struct relay_in *in)
{
    while (in->frame <= in->frames.bodies_count &&
           in->got == frame_bytes(&in->frames, in->frame)) {
        in->frame++;
        in->got = 0;
    }
}

static bool add_part(struct relay_in *in, const struct ring_record *record)
{
    if (!in->open || in->frame > in->frames.bodies_count ||
        record->length > frame_bytes(&in->frames, in->frame) - in->got)
        return false;
    struct payload *frame =
        in->frame == 0 ? in->frames.header : in->frames.bodies[in->frame - 1];
    memcpy(payload_bytes(frame) + in->got, record->body, record->length);
    in->got += record->length;
    return true;
}

/* Drops what has come; a beginning that found no memory is read again later. */
static void drop(struct relay_in *in)
{
    if (in->frames.bodies == NULL)
        in->frames.bodies_count = 0;
    frames_fini(&in->frames);
    *in = (struct relay_in){0};
}

static bool read_record(struct host *host, struct relay_in *in,
                        const struct ring_record *record)
{
    bool no_memory = false;
    const bool read = record->kind == CHANNEL_RELAY ? begin(in, record, &no_memory)
                                                    : add_part(in, record);
    if (no_memory) {
        drop(in);
        host->no_memory = true;
    }
    if (!read)
        return false;
    skip_full(in);
    in->whole = in->frame > in->frames.bodies_count;
    return true;
}

static bool pass_on(struct host *host, const struct host_process *process,
                    struct relay_in *in)
{
    if (host->config.on_relay != NULL &&
        !host->config.on_relay(host->config.user, process->number, &in->frames)) {
        host->no_memory = true;
        return false;
    }
    drop(in);
    return true;
}

bool host_relay_record(struct host *host, struct host_process *process,
                       const struct ring_record *record)
{
    struct relay_in *in = &process->relay_in;
    if (!in->whole && !read_record(host, in, record))
        return false;
    return !in->whole || pass_on(host, process, in);
}

void host_relay_fini(struct host_process *process)
{
    struct relay_item *item;
    while ((item = STAILQ_FIRST(&process->relays)) != NULL) {
        STAILQ_REMOVE_HEAD(&process->relays, link);
        frames_fini(&item->frames);
        mem_free(item);
    }
    drop(&process->relay_in);
}
