/* SPDX-License-Identifier: Apache-2.0
 *
 * process_relay.c: messages between a client inside this process and the coordinator, in
 * pieces through the rings. Called on the one thread that runs the task. A message that
 * is coming is gathered here, so that reading can stop at any piece. */
#include "client/process_internal.h"

#include "common/base/mem.h"

#include <string.h>

static struct {
    bool open;
    struct frames frames;
    size_t frame;
    uint64_t got;
} incoming;

static struct payload *frame_at(const struct frames *frames, size_t place)
{
    return place == 0 ? frames->header : frames->bodies[place - 1];
}

static uint64_t frame_bytes(const struct frames *frames, size_t place)
{
    const struct payload *frame = frame_at(frames, place);
    return frame != NULL ? frame->size : 0;
}

/* Sending ------------------------------------------------------------------------- */

static void send_beginning(struct process *self, const struct frames *frames)
{
    uint32_t count = (uint32_t)(1 + frames->bodies_count);
    uint32_t length =
        (uint32_t)(offsetof(struct channel_relay, sizes) + count * sizeof(uint64_t));
    struct channel_relay *record = process_reserve(self, length);
    record->frames = count;
    for (uint32_t i = 0; i < count; i++)
        record->sizes[i] = frame_bytes(frames, i);
    ring_commit(&self->out, CHANNEL_RELAY, length);
}

static void send_frame(struct process *self, const struct payload *frame)
{
    for (size_t sent = 0; frame != NULL && sent < frame->size;) {
        size_t left = frame->size - sent;
        uint32_t length =
            left < CHANNEL_RELAY_BYTES ? (uint32_t)left : CHANNEL_RELAY_BYTES;
        memcpy(process_reserve(self, length), frame->data + sent, length);
        ring_commit(&self->out, CHANNEL_RELAY_PART, length);
        sent += length;
    }
}

int process_relay_send(const struct frames *frames)
{
    struct process *self = &process_self;
    if (frames->bodies_count >= CHANNEL_RELAY_FRAMES)
        return FARPOOL_ETOOBIG;
    for (size_t i = 0; i <= frames->bodies_count; i++)
        if (frame_bytes(frames, i) > BODY_BYTES_MAX)
            return FARPOOL_ETOOBIG;
    send_beginning(self, frames);
    for (size_t i = 0; i <= frames->bodies_count; i++)
        send_frame(self, frame_at(frames, i));
    process_publish(self);
    return 0;
}

/* Receiving ----------------------------------------------------------------------- */

static bool begin(const struct channel_relay *sizes)
{
    incoming.frame = 0;
    incoming.got = 0;
    incoming.frames = (struct frames){0};
    incoming.frames.bodies = mem_alloc(sizes->frames * sizeof(struct payload *));
    incoming.frames.header = payload_create(sizes->sizes[0]);
    bool ok = incoming.frames.bodies != NULL && incoming.frames.header != NULL;
    for (uint32_t i = 1; ok && i < sizes->frames; i++) {
        struct payload *body = payload_create(sizes->sizes[i]);
        ok = body != NULL;
        if (ok)
            incoming.frames.bodies[incoming.frames.bodies_count++] = body;
    }
    incoming.open = ok;
    if (!ok)
        frames_fini(&incoming.frames);
    return ok;
}

static void skip_full(void)
{
    while (incoming.frame <= incoming.frames.bodies_count &&
           incoming.got == frame_bytes(&incoming.frames, incoming.frame)) {
        incoming.frame++;
        incoming.got = 0;
    }
}

static void add_part(const struct ring_record *record)
{
    struct payload *frame = frame_at(&incoming.frames, incoming.frame);
    memcpy(payload_bytes(frame) + incoming.got, record->body, record->length);
    incoming.got += record->length;
}

/* Takes one piece; false: none is there, or there is no memory to begin with one. */
static bool take_piece(struct process *self)
{
    struct ring_record record;
    if (ring_peek(&self->relay, &record) != 1)
        return false;
    if (record.kind == CHANNEL_RELAY) {
        struct channel_relay sizes;
        memcpy(&sizes, record.body, record.length);
        if (!begin(&sizes))
            return false;
    } else {
        add_part(&record);
    }
    skip_full();
    ring_advance(&self->relay, &record);
    ring_release(&self->relay);
    return true;
}

static bool complete(void)
{
    return incoming.open && incoming.frame > incoming.frames.bodies_count;
}

int process_relay_receive(struct frames *ret_frames)
{
    struct process *self = &process_self;
    bool taken = false;
    while (!complete() && take_piece(self))
        taken = true;
    if (taken)
        process_publish(self); /* the host may have more, and waits for room */
    if (!complete())
        return FARPOOL_END;
    incoming.open = false;
    *ret_frames = incoming.frames;
    incoming.frames = (struct frames){0};
    return 0;
}

static bool relay_ready(struct process *self)
{
    return complete() || ring_ready(&self->relay);
}

void process_relay_wait(uint64_t until_ms)
{
    process_wait(&process_self, CHANNEL_WAITS_WORK, relay_ready, until_ms);
}

void process_relay_discard(struct process *self)
{
    struct frames frames;
    while (ring_ready(&self->relay) || complete()) {
        if (process_relay_receive(&frames) != 0)
            break;
        frames_fini(&frames);
    }
}
