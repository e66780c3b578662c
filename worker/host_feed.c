/* SPDX-License-Identifier: Apache-2.0
 *
 * host_feed.c: giving tasks to a process, and taking back what it has not begun.
 *
 * A give is in the process's private table from the moment it came until all of its tasks
 * have ended or were taken back; its claim word in the ring is the only thing about it
 * that the process can change, and is checked against the table. Small inputs are copied
 * into the ring, larger ones into the in arena, where they stay until the give is
 * finished. What has no room waits in the table, behind what is in the ring. */
#include "worker/host_internal.h"

#include <assert.h>
#include <string.h>

#define TAKE_BACK_TRIES 100000

static uint64_t sizes_bytes(const struct msg_span *span)
{
    return span->sizes != NULL ? span->sizes->size : 0;
}

static uint64_t data_bytes(const struct msg_span *span)
{
    return span->data != NULL ? span->data->size : 0;
}

bool host_give(struct host_process *process, struct worker_effect *effect)
{
    struct give *give = mem_alloc(sizeof *give);
    if (give == NULL)
        return false;
    give->number = effect->give;
    give->job = effect->job;
    give->first = effect->span.first;
    give->count = give->end = effect->span.count;
    give->block = ARENA_NONE;
    give->span = effect->span;
    effect->span.sizes = effect->span.data = NULL;
    give->timeout_ms = effect->timeout_ms;
    give->limited = effect->limited;
    give->calls = effect->calls;
    give->memory_bytes = effect->memory_bytes;
    give->claim_unit = effect->claim > 0 ? effect->claim : 1;
    give->publish = effect->publish > 0 ? effect->publish : 1;
    give->publish_us = effect->publish_us;
    give->unseen_ms = effect->unseen_ms;
    memcpy(give->function, effect->name, sizeof give->function);
    TAILQ_INSERT_TAIL(&process->gives, give, link);
    if (process->unpushed == NULL)
        process->unpushed = give;
    if (process->map != NULL)
        atomic_store_explicit(&process->map->control->quiet_before, effect->quiet_before,
                              memory_order_release);
    return true;
}

void host_give_finish(struct host_process *process, struct give *give)
{
    if (process->unpushed == give)
        process->unpushed = TAILQ_NEXT(give, link);
    TAILQ_REMOVE(&process->gives, give, link);
    if (give->block != ARENA_NONE)
        arena_free(&process->in_arena, give->block);
    payload_unref(&give->span.sizes);
    payload_unref(&give->span.data);
    mem_free(give);
}

/* Fills everything of a record but its bytes. */
static void describe(struct channel_give *record, const struct give *give)
{
    memset(record, 0, sizeof *record);
    atomic_init(&record->claim, channel_claim(0, give->end));
    record->give = give->number;
    record->job = give->job;
    record->first = give->first;
    record->timeout_ms = give->timeout_ms;
    record->limited = give->limited;
    record->calls = give->calls;
    record->data_offset = CHANNEL_INLINE;
    record->count = give->count;
    record->attempt = give->span.attempt;
    record->claim_unit = give->claim_unit;
    record->publish = give->publish;
    record->publish_us = give->publish_us;
    memcpy(record->function, give->function, sizeof record->function);
}

static void copy_span(uint8_t *to, const struct msg_span *span)
{
    uint64_t bytes = data_bytes(span);
    if (bytes > 0)
        memcpy(to, span->data->data, bytes);
    if (sizes_bytes(span) > 0)
        memcpy(to + channel_round4(bytes), span->sizes->data, span->sizes->size);
}

/* Puts a record into the in ring, its bytes inline or in the arena. EFULL: no room now.
 * What can never fit goes without its bytes, for the process to refuse. */
static int push_record(struct host_process *process, uint16_t kind, struct give *give)
{
    const struct msg_span *span = &give->span;
    uint64_t bytes = channel_round4(data_bytes(span)) + sizes_bytes(span);
    bool fits = bytes <= process->map->at.in_arena_bytes;
    bool in_ring = bytes <= CHANNEL_INLINE_BYTES;
    uint32_t length = sizeof(struct channel_give);
    if (in_ring && bytes > 0)
        length = CHANNEL_DATA_OFFSET(struct channel_give) + (uint32_t)bytes;
    struct channel_give *record = ring_reserve(&process->in, length);
    if (record == NULL)
        return FARPOOL_EFULL;
    if (fits && !in_ring) {
        int code;
        give->block = arena_alloc(&process->in_arena, bytes, &code);
        if (give->block == ARENA_NONE)
            return code;
    }
    describe(record, give);
    if (fits) {
        record->data_bytes = data_bytes(span);
        record->sized = sizes_bytes(span) > 0;
        if (in_ring)
            copy_span((uint8_t *)record + CHANNEL_DATA_OFFSET(struct channel_give), span);
        else
            copy_span(process->map->base + process->map->at.in_arena + give->block, span);
        record->data_offset = in_ring ? CHANNEL_INLINE : give->block;
    } else {
        record->code = FARPOOL_ETOOBIG;
    }
    give->record = record;
    give->position = ring_commit(&process->in, kind, length);
    give->pushed = true;
    return 0;
}

bool host_push_init(struct host_process *process, const char *name,
                    const struct payload *argument)
{
    struct give give = {.count = 1, .end = 1, .block = ARENA_NONE};
    give.span.count = give.span.attempt = 1;
    memcpy(give.function, name, strnlen(name, FUNCTION_NAME_MAX));
    struct payload view = {.data = argument != NULL ? argument->data : NULL,
                           .size = argument != NULL ? argument->size : 0};
    give.span.data = &view;
    if (push_record(process, CHANNEL_INIT, &give) != 0)
        return false;
    ring_publish(&process->in);
    process->init_block = give.block;
    return true;
}

bool host_push(struct host *host, struct host_process *process)
{
    bool pushed = false;
    struct give *give = process->unpushed;
    for (; give != NULL; give = process->unpushed = TAILQ_NEXT(give, link)) {
        int code = push_record(process, CHANNEL_GIVE, give);
        if (code == FARPOOL_ENOMEM)
            host->no_memory = true;
        if (code != 0)
            break;
        payload_unref(&give->span.sizes);
        payload_unref(&give->span.data);
        pushed = true;
    }
    if (process->in.broken)
        host_violate(process, "its in ring's index is nonsense");
    if (pushed)
        ring_publish(&process->in);
    bool relayed = host_relay_push(process);
    if (process->closing && give == NULL)
        atomic_store_explicit(&process->map->control->closing, 1, memory_order_release);
    if (pushed || relayed || process->closing)
        process->wake = host->wake = true;
    return pushed || relayed;
}

void host_wake_processes(struct host *host)
{
    struct host_process *process = host->processes;
    if (!host->wake)
        return;
    host->wake = false;
    for (; process != NULL; process = process->hh.next) {
        if (process->wake && process->map != NULL)
            host_map_wake(process->map, CHANNEL_WAITS_WORK);
        process->wake = false;
    }
}

/* A record is whole as long as the host, the only one to overwrite it, has not learned
 * that the process is through with it. */
bool host_in_ring(const struct host_process *process, const struct give *give)
{
    return give->pushed && give->position >= process->in.tail;
}

static bool check_claim(struct give *give, uint64_t word)
{
    uint32_t next = (uint32_t)word, end = (uint32_t)(word >> 32);
    if (end != give->end || next < give->claimed || next > end)
        return false;
    give->claimed = next;
    return true;
}

bool host_read_claim(struct give *give)
{
    return check_claim(give,
                       atomic_load_explicit(&give->record->claim, memory_order_acquire));
}

/* Lowers the end of a give that is in the ring by up to `want` tasks: how many. */
static uint32_t lower_end(struct host_process *process, struct give *give, uint32_t want)
{
    uint64_t word = atomic_load_explicit(&give->record->claim, memory_order_acquire);
    for (int tries = 0; tries < TAKE_BACK_TRIES; tries++) {
        if (!check_claim(give, word)) {
            host_violate(process, "its claims are nonsense");
            return 0;
        }
        uint32_t begun =
            give->claimed > give->published ? give->claimed : give->published;
        uint32_t count = give->end - begun < want ? give->end - begun : want;
        if (count == 0)
            return 0;
        uint64_t lowered = channel_claim(give->claimed, give->end - count);
        if (atomic_compare_exchange_weak_explicit(&give->record->claim, &word, lowered,
                                                  memory_order_acq_rel,
                                                  memory_order_acquire)) {
            give->end -= count;
            return count;
        }
    }
    host_violate(process, "its claims never rest");
    return 0;
}

static uint32_t take_from(struct host_process *process, struct give *give, uint64_t want)
{
    uint32_t most = want < UINT32_MAX ? (uint32_t)want : UINT32_MAX;
    if (give->pushed)
        return host_in_ring(process, give) ? lower_end(process, give, most) : 0;
    uint32_t count = give->end < most ? give->end : most;
    give->end -= count;
    return count;
}

void host_take_back(struct host *host, struct host_process *process)
{
    uint64_t left = process->take_back_count;
    struct give *before;
    for (struct give *give = TAILQ_LAST(&process->gives, give_list); give != NULL;
         give = before) {
        before = TAILQ_PREV(give, give_list, link);
        uint32_t count = left > 0 && process->state < PROCESS_ENDING
                             ? take_from(process, give, left)
                             : 0;
        if (count == 0)
            continue;
        left -= count;
        struct worker_event event = host_event(host, process, WORKER_PROCESS_TAKEN);
        event.give = give->number;
        event.first = give->first + give->end;
        event.count = count;
        if (give->end == give->published)
            host_give_finish(process, give);
        host_deliver(host, &event);
    }
    struct worker_event last = host_event(host, process, WORKER_PROCESS_TAKEN);
    process->take_back = false;
    process->take_back_count = 0;
    host_deliver(host, &last);
}

/* The mark of an older range is overwritten after CHANNEL_CANCELS newer ones; each is
 * void while it is being written. */
void host_cancel(struct host_process *process, const struct worker_effect *effect)
{
    if (process->map == NULL)
        return;
    struct channel_cancel *cancel =
        &process->map->control->cancels[process->cancels++ % CHANNEL_CANCELS];
    atomic_store(&cancel->give, UINT64_MAX);
    atomic_store(&cancel->first, effect->first);
    atomic_store(&cancel->count, effect->count);
    atomic_store(&cancel->give, effect->give);
}

/* The task that a process says it is in, if the table has it as begun and not ended. */
static bool named_task(struct host_process *process, uint64_t *ret_give,
                       uint64_t *ret_index)
{
    struct channel_running *running = &process->map->control->running;
    uint64_t number = atomic_load_explicit(&running->give, memory_order_acquire);
    uint64_t index = atomic_load_explicit(&running->first, memory_order_acquire);
    index += *(volatile uint64_t *)&running->place;
    struct give *give = TAILQ_FIRST(&process->gives);
    if (give == NULL || !give->pushed || give->number != number || index < give->first)
        return false;
    if (host_in_ring(process, give) && !host_read_claim(give)) {
        host_violate(process, "its claims are nonsense");
        return false;
    }
    uint32_t begun = host_in_ring(process, give) ? give->claimed : give->end;
    uint64_t place = index - give->first;
    if (place < give->published || place >= begun)
        return false;
    *ret_give = number;
    *ret_index = index;
    return true;
}

bool host_blamed(struct host_process *process, uint64_t *ret_give, uint64_t *ret_index)
{
    return named_task(process, ret_give, ret_index);
}

/* The process writes began_ms before it names the task, so a time read after the name is
 * never older than the task. */
bool host_running(struct host_process *process, uint64_t *ret_give, uint64_t *ret_index,
                  uint64_t *ret_began_ms, uint64_t *ret_share_ppm)
{
    struct channel_running *running = &process->map->control->running;
    uint64_t give, index;
    if (atomic_load_explicit(&running->executing, memory_order_acquire) == 0 ||
        !named_task(process, &give, &index))
        return false;
    uint64_t share = atomic_load_explicit(&running->share_ppm, memory_order_relaxed);
    bool told =
        atomic_load_explicit(&running->share_index, memory_order_acquire) == index;
    *ret_give = give;
    *ret_index = index;
    *ret_began_ms = atomic_load_explicit(&running->began_ms, memory_order_relaxed);
    *ret_share_ppm = !told ? 0 : share > 1000000 ? 1000000 : share;
    return true;
}

/* The CPU time at the task's begin is written as began_ms is. What is measured may be of
 * the next task, unless the name is still the same behind it. */
void host_used(struct host_process *process, uint64_t give, uint64_t index,
               uint64_t *ret_cpu_ms, uint64_t *ret_memory_bytes)
{
    struct channel_running *running = &process->map->control->running;
    uint64_t cpu_ms, memory_bytes, now_give, now_index;
    const uint64_t began_ms =
        atomic_load_explicit(&running->began_cpu_ms, memory_order_relaxed);
    *ret_cpu_ms = *ret_memory_bytes = 0;
    if (!TAILQ_FIRST(&process->gives)->limited)
        return;
    host_measure(process, &cpu_ms, &memory_bytes);
    if (!named_task(process, &now_give, &now_index) || now_give != give ||
        now_index != index)
        return;
    *ret_cpu_ms = cpu_ms > began_ms ? cpu_ms - began_ms : 0;
    *ret_memory_bytes = memory_bytes;
}
