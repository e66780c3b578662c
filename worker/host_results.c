/* SPDX-License-Identifier: Apache-2.0
 *
 * host_results.c: reading what a process wrote into its out ring.
 *
 * The process is taken to be hostile: each record's fixed part is copied before it is
 * checked, and everything in it is held against the private table of what was given.
 * Results must come strictly in order, of tasks that are claimed, so a cursor a give is
 * all the table that is needed. Whoever breaks a rule is killed, and reported GONE with
 * EPROTOCOL; only its own tasks are concerned.
 *
 * Records that follow each other are put together before they are delivered, so that a
 * process that publishes every task does not cost the core an event a task. Large outputs
 * are not copied: a payload refers to the arena. */
#include "worker/host_internal.h"

#include "common/base/error.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#define MERGE_BYTES_MAX 1048576u

struct host_failed_text {
    struct channel_failed fixed;
    char message[FAILURE_MESSAGE_MAX + 1];
    char backtrace[FAILURE_BACKTRACE_MAX + 1];
};

void host_violate(struct host_process *process, const char *what)
{
    if (process->state == PROCESS_ENDING)
        return;
    process->state = PROCESS_ENDING;
    process->code = FARPOOL_EPROTOCOL;
    snprintf(process->text, sizeof process->text,
             "process %d broke the rules of its shared memory: %s", (int)process->pid,
             what);
    host_kill(process);
}

/* Merging ------------------------------------------------------------------------- */

static struct payload *copy_or_null(const void *data, size_t size, bool *ok)
{
    if (size == 0)
        return NULL;
    struct payload *payload = payload_copy(data, size);
    *ok = *ok && payload != NULL;
    return payload;
}

bool host_merge_flush(struct host *host)
{
    struct host_merge *merge = &host->merge;
    if (merge->process == NULL)
        return true;
    bool ok = true;
    struct worker_event event = host_event(host, merge->process, WORKER_PROCESS_DONE);
    event.data = copy_or_null(merge->data, merge->data_bytes, &ok);
    event.sizes = copy_or_null(merge->sizes,
                               merge->sized ? merge->count * sizeof(uint32_t) : 0, &ok);
    if (!ok) {
        payload_unref(&event.data);
        payload_unref(&event.sizes);
        host->no_memory = true;
        return false;
    }
    event.give = merge->give;
    event.first = merge->first;
    event.count = merge->count;
    event.elapsed_ns = merge->elapsed_ns;
    merge->process = NULL;
    host_deliver(host, &event);
    return true;
}

static bool merge_fits(const struct host_merge *merge, const struct host_process *process,
                       const struct channel_done *done)
{
    return merge->process == process && merge->give == done->give &&
           merge->first + merge->count == done->first &&
           merge->count + done->count <= SPAN_TASKS_MAX &&
           merge->data_bytes + done->data_bytes <= MERGE_BYTES_MAX;
}

/* Fills in the sizes of the outputs so far, which were all equal. */
static void size_merged(struct host_merge *merge)
{
    if (merge->sized)
        return;
    for (uint32_t i = 0; i < merge->count; i++)
        merge->sizes[i] = (uint32_t)merge->each;
    merge->sized = true;
}

/* Adds checked results, whose sizes (if any) are already in place behind the others. */
static void merge_add(struct host_merge *merge, const struct channel_done *done,
                      const uint8_t *data)
{
    uint64_t each = done->data_bytes / done->count;
    if (merge->count == 0)
        merge->each = each;
    if (done->sized || merge->sized || each != merge->each) {
        size_merged(merge);
        for (uint32_t i = 0; !done->sized && i < done->count; i++)
            merge->sizes[merge->count + i] = (uint32_t)each;
    }
    if (done->data_bytes > 0)
        memcpy(merge->data + merge->data_bytes, data, done->data_bytes);
    merge->data_bytes += done->data_bytes;
    merge->count += done->count;
    merge->elapsed_ns += done->elapsed_ns;
}

/* Makes ready for results behind those held, or for the first ones: flushes what does not
 * go together, and makes room. */
static bool merge_open(struct host *host, struct host_process *process,
                       const struct channel_done *done)
{
    struct host_merge *merge = &host->merge;
    if (!merge_fits(merge, process, done) && !host_merge_flush(host))
        return false;
    if (merge->process == NULL) {
        merge->count = 0;
        merge->data_bytes = 0;
        merge->elapsed_ns = 0;
        merge->sized = false;
    }
    if (!mem_reserve(&merge->data, &merge->data_capacity,
                     merge->data_bytes + done->data_bytes, 1) ||
        !mem_reserve(&merge->sizes, &merge->sizes_capacity, merge->count + done->count,
                     sizeof *merge->sizes)) {
        host->no_memory = true;
        return false;
    }
    merge->process = process;
    if (merge->count == 0) {
        merge->give = done->give;
        merge->first = done->first;
    }
    return true;
}

/* Records ------------------------------------------------------------------------- */

/* The give whose results are due, if `count` of its tasks from `index` on are next and
 * begun; else NULL, and the process has broken the rules. */
static struct give *due(struct host_process *process, uint64_t number, uint64_t index,
                        uint32_t count)
{
    struct give *give = TAILQ_FIRST(&process->gives);
    if (give == NULL || !give->pushed || give->number != number)
        host_violate(process, "a result of tasks that it was not given");
    else if (index != give->first + give->published || count == 0 ||
             count > give->end - give->published)
        host_violate(process, "a result that is not due");
    else if (host_in_ring(process, give) &&
             (!host_read_claim(give) || give->published + count > give->claimed))
        host_violate(process, "a result of tasks that it has not claimed");
    else
        return give;
    return NULL;
}

static void account(struct host_process *process, struct give *give, uint32_t count)
{
    give->published += count;
    if (give->published == give->end)
        host_give_finish(process, give);
}

/* Whether the sizes are right; copied behind those that are held, where room was made. */
static bool take_sizes(struct host *host, const struct channel_done *done,
                       const uint8_t *table)
{
    uint32_t *sizes = host->merge.sizes + host->merge.count;
    uint64_t sum = 0;
    memcpy(sizes, table, done->count * sizeof *sizes);
    for (uint32_t i = 0; i < done->count; i++) {
        if (sizes[i] > host->config.payload_max)
            return false;
        sum += sizes[i];
    }
    return sum == done->data_bytes;
}

/* Whether an inline record's parts lie within it. */
static bool inline_valid(const struct channel_done *done, uint32_t length)
{
    const uint64_t at = CHANNEL_DATA_OFFSET(struct channel_done);
    uint64_t table = done->sized ? (uint64_t)done->count * sizeof(uint32_t) : 0;
    if (done->data_bytes > length || done->count > SPAN_TASKS_MAX)
        return false;
    if (done->data_bytes == 0 && table == 0)
        return true;
    uint64_t need =
        table > 0 ? channel_round4(done->data_bytes) + table : done->data_bytes;
    return at + need <= length;
}

static bool even(const struct host *host, const struct channel_done *done)
{
    return done->data_bytes % done->count == 0 &&
           done->data_bytes / done->count <= host->config.payload_max;
}

/* 1: taken; 0: no memory, try again; negative: the rules are broken. */
static int take_inline(struct host *host, struct host_process *process, struct give *give,
                       const struct channel_done *done, const struct ring_record *record)
{
    if (!inline_valid(done, record->length) || (!done->sized && !even(host, done)))
        return FARPOOL_EPROTOCOL;
    if (!merge_open(host, process, done))
        return 0;
    const uint8_t *data = record->body + CHANNEL_DATA_OFFSET(struct channel_done);
    if (done->sized && !take_sizes(host, done, data + channel_round4(done->data_bytes))) {
        if (host->merge.count == 0)
            host->merge.process = NULL;
        return FARPOOL_EPROTOCOL;
    }
    merge_add(&host->merge, done, data);
    account(process, give, done->count);
    return 1;
}

/* Outputs in the arena. In its second part they are copied out at once, since whoever
 * refers to an output may do so for ever. */
static int take_arena(struct host *host, struct host_process *process, struct give *give,
                      const struct channel_done *done)
{
    const struct channel_layout *at = &process->map->at;
    if (done->sized || !even(host, done) || done->count > SPAN_TASKS_MAX ||
        done->data_bytes == 0 || done->data_offset % ARENA_BLOCK != 0 ||
        done->data_offset >= at->out_arena_bytes ||
        done->data_bytes > at->out_arena_bytes - done->data_offset)
        return FARPOOL_EPROTOCOL;
    if (!host_merge_flush(host))
        return 0;
    bool kept = done->data_offset < CHANNEL_KEPT_BYTES;
    struct worker_event event = host_event(host, process, WORKER_PROCESS_DONE);
    event.data =
        kept ? host_map_wrap(process->map, done->data_offset, done->data_bytes)
             : payload_copy(process->map->base + at->out_arena + done->data_offset,
                            done->data_bytes);
    if (event.data == NULL) {
        host->no_memory = true;
        return 0;
    }
    if (!kept)
        host_map_release(process->map, done->data_offset);
    event.give = done->give;
    event.first = done->first;
    event.count = done->count;
    event.elapsed_ns = done->elapsed_ns;
    account(process, give, done->count);
    host_deliver(host, &event);
    return 1;
}

static int take_done(struct host *host, struct host_process *process,
                     const struct ring_record *record)
{
    struct channel_done done;
    if (record->length < sizeof done)
        return FARPOOL_EPROTOCOL;
    memcpy(&done, record->body, sizeof done);
    struct give *give = due(process, done.give, done.first, done.count);
    if (give == NULL)
        return FARPOOL_EPROTOCOL;
    if (done.data_offset == CHANNEL_INLINE)
        return take_inline(host, process, give, &done, record);
    return take_arena(host, process, give, &done);
}

static bool copy_text(char *to, const uint8_t **from, uint32_t bytes, uint32_t max,
                      uint32_t *left)
{
    if (bytes > max || bytes > *left)
        return false;
    memcpy(to, *from, bytes);
    to[bytes] = '\0';
    *from += bytes;
    *left -= bytes;
    return true;
}

static bool read_failed(const struct ring_record *record, struct host_failed_text *failed)
{
    struct channel_failed *fixed = &failed->fixed;
    if (record->length < sizeof *fixed)
        return false;
    memcpy(fixed, record->body, sizeof *fixed);
    const uint8_t *from = record->body + sizeof *fixed;
    uint32_t left = record->length - (uint32_t)sizeof *fixed;
    return fixed->code < 0 && fixed->code >= -255 &&
           copy_text(failed->message, &from, fixed->message_bytes, FAILURE_MESSAGE_MAX,
                     &left) &&
           copy_text(failed->backtrace, &from, fixed->backtrace_bytes,
                     FAILURE_BACKTRACE_MAX, &left);
}

static int take_failed(struct host *host, struct host_process *process,
                       const struct ring_record *record)
{
    struct host_failed_text failed;
    if (!read_failed(record, &failed))
        return FARPOOL_EPROTOCOL;
    struct give *give = due(process, failed.fixed.give, failed.fixed.index, 1);
    if (give == NULL)
        return FARPOOL_EPROTOCOL;
    if (!host_merge_flush(host))
        return 0;
    account(process, give, 1);
    struct worker_event event = host_event(host, process, WORKER_PROCESS_FAILED);
    event.give = failed.fixed.give;
    event.first = failed.fixed.index;
    event.count = 1;
    event.code = failed.fixed.code;
    event.text = failed.message;
    event.backtrace = failed.backtrace;
    host_deliver(host, &event);
    return 1;
}

static int take_start_failed(struct host_process *process,
                             const struct ring_record *record)
{
    struct host_failed_text failed;
    if (process->state != PROCESS_STARTING || !read_failed(record, &failed))
        return FARPOOL_EPROTOCOL;
    process->code = failed.fixed.code;
    snprintf(process->text, sizeof process->text, "%s", failed.message);
    mem_free(process->backtrace);
    process->backtrace = mem_strdup(failed.backtrace); /* NULL: it goes without */
    return 1;
}

static int take_plain(struct host *host, struct host_process *process, uint16_t kind)
{
    enum worker_event_kind told = kind == CHANNEL_READY     ? WORKER_PROCESS_READY
                                  : kind == CHANNEL_BLOCKED ? WORKER_PROCESS_BLOCKED
                                                            : WORKER_PROCESS_UNBLOCKED;
    if ((kind == CHANNEL_READY) != (process->state == PROCESS_STARTING))
        return FARPOOL_EPROTOCOL;
    if (!host_merge_flush(host))
        return 0;
    process->state = PROCESS_SERVING;
    if (process->init_block != ARENA_NONE)
        arena_free(&process->in_arena, process->init_block);
    process->init_block = ARENA_NONE;
    struct worker_event event = host_event(host, process, told);
    host_deliver(host, &event);
    return 1;
}

static int take_printed(struct host *host, struct host_process *process,
                        const struct ring_record *record)
{
    struct channel_printed printed;
    if (!host->config.capture_output || record->length < sizeof printed)
        return FARPOOL_EPROTOCOL;
    memcpy(&printed, record->body, sizeof printed);
    host_output_take(host, process, &printed);
    return 1;
}

static int take_relay(struct host *host, struct host_process *process,
                      const struct ring_record *record)
{
    if (!host_merge_flush(host))
        return 0;
    if (host_relay_record(host, process, record))
        return 1;
    return host->no_memory ? 0 : FARPOOL_EPROTOCOL;
}

static int take_shared(struct host *host, struct host_process *process,
                       const struct ring_record *record)
{
    return host_shared_answer(host, process, record) ? 1 : FARPOOL_EPROTOCOL;
}

static int take_record(struct host *host, struct host_process *process,
                       const struct ring_record *record)
{
    switch (record->kind) {
    case CHANNEL_DONE:
        return take_done(host, process, record);
    case CHANNEL_FAILED:
        return take_failed(host, process, record);
    case CHANNEL_START_FAILED:
        return take_start_failed(process, record);
    case CHANNEL_READY:
    case CHANNEL_BLOCKED:
    case CHANNEL_UNBLOCKED:
        return take_plain(host, process, record->kind);
    case CHANNEL_RELAY:
    case CHANNEL_RELAY_PART:
        return take_relay(host, process, record);
    case CHANNEL_SHARED:
        return take_shared(host, process, record);
    case CHANNEL_PRINTED:
        return take_printed(host, process, record);
    case CHANNEL_IDLE:
        if (TAILQ_EMPTY(&process->gives))
            host_map_trim_in(process->map, &process->in_arena);
        return 1;
    default:
        return FARPOOL_EPROTOCOL;
    }
}

void host_drain(struct host *host, struct host_process *process)
{
    uint64_t begin = process->out.tail;
    int taken = 1;
    while (process->state < PROCESS_ENDING && taken == 1 &&
           process->out.tail - begin < CHANNEL_RING_BYTES) {
        struct ring_record record;
        taken = ring_peek(&process->out, &record);
        if (taken == 1)
            taken = take_record(host, process, &record);
        if (taken == 1)
            ring_advance(&process->out, &record);
    }
    if (taken < 0)
        host_violate(process, "a record in its out ring is nonsense");
    host_merge_flush(host);
    if (process->out.tail != begin) {
        ring_release(&process->out);
        host_map_wake(process->map, CHANNEL_WAITS_ROOM);
    }
}
