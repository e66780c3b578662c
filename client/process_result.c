/* SPDX-License-Identifier: Apache-2.0
 *
 * process_result.c: results on their way out of a pool process.
 *
 * Small outputs are gathered in private memory and copied into the out ring, as one
 * record for many tasks; large ones are written once, into a block of the out arena, and
 * read there by whoever wants them. The process hands the blocks out, and the host says
 * when one is free again. The arena's first part may be held for long, so there is a
 * second one whose outputs the host copies at once: waiting for room always ends.
 *
 * Nothing is reserved in the ring while a function runs, so that it may itself send. */
#include "client/process_internal.h"

#include <assert.h>
#include <string.h>
#include <sys/mman.h>

#define TYPED_BLOCK_BYTES 1048576u /* outputs gathered in the arena before a record */
#define KEPT_WARM_BYTES 8388608u

uint8_t *process_block(struct process *self, uint64_t block)
{
    return self->base + self->at.out_arena + block;
}

void process_free(struct process *self, uint64_t block)
{
    arena_free(block < CHANNEL_KEPT_BYTES ? &self->kept : &self->passing, block);
}

static bool releases_ready(struct process *self)
{
    return atomic_load_explicit(&self->control->release_head, memory_order_acquire) !=
           self->release_tail;
}

static void take_releases(struct process *self)
{
    uint64_t head =
        atomic_load_explicit(&self->control->release_head, memory_order_acquire);
    const uint64_t *slots =
        (const uint64_t *)(const void *)(self->base + self->at.releases);
    if (head == self->release_tail)
        return;
    for (; self->release_tail != head; self->release_tail++)
        process_free(self, slots[self->release_tail % CHANNEL_RELEASES]);
    atomic_store_explicit(&self->control->release_tail, head, memory_order_release);
}

/* A block of one part. The kernel provides what was never touched of it in one go: page
 * by page, as the function writes, costs twice as much. Where it cannot, that is how it
 * is done. */
static int alloc_part(struct process *self, struct arena *part, uint64_t bytes,
                      uint64_t *ret_block)
{
    int code;
    const uint64_t touched = part->touched;
    const uint64_t block = arena_alloc(part, bytes, &code);
    if (code != 0)
        return code;
    const uint64_t fresh = block > touched ? block : touched;
    if (part->touched > fresh)
        madvise(process_block(self, fresh), part->touched - fresh, MADV_POPULATE_WRITE);
    *ret_block = block;
    return 0;
}

/* A block that is free now; EFULL, ENOMEM. */
static int alloc_now(struct process *self, uint64_t bytes, uint64_t *ret_block)
{
    take_releases(self);
    int code = alloc_part(self, &self->kept, bytes, ret_block);
    if (code == FARPOOL_EFULL)
        code = alloc_part(self, &self->passing, bytes, ret_block);
    return code;
}

int process_alloc(struct process *self, uint64_t bytes, uint64_t *ret_block)
{
    struct channel_running *running = &self->control->running;
    int code = alloc_now(self, bytes, ret_block);
    if (code != FARPOOL_EFULL)
        return code;
    /* The wait is not the task's own time. */
    uint64_t began_ns = process_now_ns();
    uint32_t executing = atomic_exchange(&running->executing, 0);
    process_flush(self);
    process_publish(self);
    while ((code = alloc_now(self, bytes, ret_block)) == FARPOOL_EFULL)
        process_wait(self, CHANNEL_WAITS_ROOM, releases_ready, UINT64_MAX);
    atomic_fetch_add(&running->began_ms, (process_now_ns() - began_ns) / 1000000);
    atomic_store(&running->executing, executing);
    return code;
}

/* Writes one record of results. outputs NULL: they are in `block`. */
static void write_done(struct process *self, const struct batch *batch,
                       const uint8_t *outputs, uint64_t block)
{
    uint64_t inline_bytes = outputs != NULL ? batch->data_bytes : 0;
    uint64_t table_bytes = batch->sized ? batch->count * sizeof *batch->sizes : 0;
    uint64_t length = sizeof(struct channel_done);
    if (inline_bytes + table_bytes > 0)
        length = CHANNEL_DATA_OFFSET(struct channel_done) + channel_round4(inline_bytes) +
                 table_bytes;
    struct channel_done *done = process_reserve(self, (uint32_t)length);
    *done = (struct channel_done){
        .give = batch->give,
        .first = batch->first,
        .elapsed_ns = batch->elapsed_ns,
        .data_offset = outputs != NULL ? CHANNEL_INLINE : block,
        .data_bytes = batch->data_bytes,
        .count = batch->count,
        .sized = batch->sized,
    };
    uint8_t *to = (uint8_t *)done + CHANNEL_DATA_OFFSET(struct channel_done);
    if (inline_bytes > 0)
        memcpy(to, outputs, inline_bytes);
    if (table_bytes > 0)
        memcpy(to + channel_round4(inline_bytes), batch->sizes, table_bytes);
    ring_commit(&self->out, CHANNEL_DONE, (uint32_t)length);
}

/* Writes typed outputs out in records of their own, and goes on behind them. */
static void write_copies(struct process *self)
{
    struct batch *batch = &self->batch;
    uint64_t fit = batch->each > 0 ? CHANNEL_INLINE_BYTES / batch->each : UINT32_MAX;
    for (uint32_t left = batch->count; left > 0; left -= batch->count) {
        batch->count = left < fit ? left : (uint32_t)fit;
        batch->data_bytes = batch->count * batch->each;
        write_done(self, batch, batch->outputs, ARENA_NONE);
        batch->first += batch->count;
        batch->outputs += batch->data_bytes;
        batch->room -= batch->count;
        batch->elapsed_ns = 0;
    }
    batch->count = 0;
}

void process_flush(struct process *self)
{
    struct batch *batch = &self->batch;
    if (self->printing.possible)
        process_output_settle(self);
    bool in_arena = batch->block != ARENA_NONE;
    bool moved = in_arena && batch->outputs != process_block(self, batch->block);
    if (moved) {
        write_copies(self);
    } else if (batch->count > 0) {
        if (batch->room > 0)
            batch->data_bytes = batch->count * batch->each;
        write_done(self, batch, in_arena ? NULL : batch->outputs, batch->block);
        in_arena = false;
    }
    if (in_arena)
        process_free(self, batch->block);
    batch->count = 0;
    batch->room = 0;
    batch->block = ARENA_NONE;
}

/* In the middle of a typed run its outputs are still being written behind those that are
 * finished, so the batch stays where it is. Outputs too large for a record wait. */
void process_flush_finished(struct process *self)
{
    struct farpool_task *task = &self->task;
    struct batch *batch = &self->batch;
    if (self->printing.possible)
        process_output_settle(self);
    if (task->run == NULL || batch->room == 0) {
        process_flush(self);
    } else if (batch->each <= CHANNEL_INLINE_BYTES) {
        uint32_t finished = (uint32_t)*task->run->running;
        batch->count += finished - task->run_written;
        task->run_written = finished;
        write_copies(self);
    }
}

static void open_batch(struct process *self, uint64_t index)
{
    struct batch *batch = &self->batch;
    batch->give = self->task.give;
    batch->first = index;
    batch->elapsed_ns = 0;
    batch->sized = false;
    batch->data_bytes = 0;
    batch->outputs = batch->data;
    batch->room = 0;
}

int process_open_typed(struct process *self, uint64_t index, uint32_t want, uint64_t size,
                       uint32_t *ret_room)
{
    struct batch *batch = &self->batch;
    if (batch->room > batch->count) {
        *ret_room = batch->room - batch->count;
        return 0;
    }
    process_flush(self);
    open_batch(self, index);
    batch->each = size;
    if (want * size > CHANNEL_INLINE_BYTES) {
        uint64_t fit = size < TYPED_BLOCK_BYTES ? TYPED_BLOCK_BYTES / size : 1;
        if (want > fit)
            want = (uint32_t)fit;
        int code = process_alloc(self, want * size, &batch->block);
        if (code != 0)
            return code;
        batch->outputs = process_block(self, batch->block);
    }
    batch->room = want;
    *ret_room = want;
    return 0;
}

/* An output of its own record, in a block. */
static void add_block(struct process *self, uint64_t index, uint64_t elapsed_ns,
                      uint64_t block)
{
    struct batch *batch = &self->batch;
    process_flush(self);
    open_batch(self, index);
    batch->elapsed_ns = elapsed_ns;
    batch->count = 1;
    batch->data_bytes = self->task.output_size;
    write_done(self, batch, NULL, block);
    batch->count = 0;
    process_publish(self);
}

/* The sizes are kept from the first output on that differs. */
static void add_size(struct batch *batch, uint64_t size)
{
    if (batch->count == 0)
        batch->each = size;
    if (!batch->sized && size != batch->each) {
        batch->sized = true;
        for (uint32_t i = 0; i < batch->count; i++)
            batch->sizes[i] = (uint32_t)batch->each;
    }
    if (batch->sized)
        batch->sizes[batch->count] = (uint32_t)size;
}

static void add_inline(struct process *self, uint64_t index, uint64_t elapsed_ns)
{
    struct batch *batch = &self->batch;
    uint64_t size = self->task.output_size;
    if (batch->count > 0 && (batch->data_bytes + size > CHANNEL_INLINE_BYTES ||
                             batch->count == CHANNEL_BATCH_TASKS))
        process_flush(self);
    if (batch->count == 0)
        open_batch(self, index);
    assert(batch->first + batch->count == index && batch->give == self->task.give);
    add_size(batch, size);
    if (size > 0)
        memcpy(batch->data + batch->data_bytes, self->task.output, size);
    batch->data_bytes += size;
    batch->elapsed_ns += elapsed_ns;
    batch->count++;
}

void process_add_output(struct process *self, uint64_t index, uint64_t elapsed_ns)
{
    struct farpool_task *task = &self->task;
    uint64_t block = task->block;
    if (task->output_size <= CHANNEL_INLINE_BYTES) {
        add_inline(self, index, elapsed_ns);
        if (task->place == OUTPUT_ARENA)
            process_free(self, block);
        return;
    }
    if (task->place == OUTPUT_SCRATCH) {
        if (process_alloc(self, task->output_size, &block) != 0) {
            process_task_fail(task, FARPOOL_ENOMEM, "no memory for its output");
            return;
        }
        memcpy(process_block(self, block), task->output, task->output_size);
    }
    add_block(self, index, elapsed_ns, block);
}

void process_write_failed(struct process *self, uint16_t kind, uint64_t give,
                          uint64_t index, int code, const char *message,
                          const char *backtrace)
{
    uint32_t message_bytes = (uint32_t)strnlen(message, FAILURE_MESSAGE_MAX);
    uint32_t backtrace_bytes = (uint32_t)strnlen(backtrace, FAILURE_BACKTRACE_MAX);
    uint32_t length =
        (uint32_t)sizeof(struct channel_failed) + message_bytes + backtrace_bytes;
    process_flush(self);
    struct channel_failed *failed = process_reserve(self, length);
    *failed = (struct channel_failed){give, index, code, message_bytes, backtrace_bytes};
    uint8_t *text = (uint8_t *)(failed + 1);
    memcpy(text, message, message_bytes);
    memcpy(text + message_bytes, backtrace, backtrace_bytes);
    ring_commit(&self->out, kind, length);
}

static void punch(void *user, uint64_t offset, uint64_t size)
{
    struct process *self = user;
    madvise(process_block(self, offset), size, MADV_REMOVE);
}

void process_trim(struct process *self)
{
    take_releases(self);
    arena_trim(&self->kept, KEPT_WARM_BYTES, punch, self);
    arena_trim(&self->passing, 0, punch, self);
}
