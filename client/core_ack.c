/* SPDX-License-Identifier: Apache-2.0
 *
 * core_ack.c: the results that are in hand and not yet ACKed, as ranges of each worker's
 * numbers, in order and merged, so that a batch of results is answered by one short
 * message a worker. They wait for others to go with them, but not for long, not while the
 * worker waits for them (hurry), and not for so many that its memory grows.
 *
 * An ACK goes the way its result came, on that lane or by the coordinator: a worker sends
 * again what was not ACKed when a way has ended, but not what came by another. What is
 * left when it ends is dropped: a pool that was opened again on a worker may count its
 * results from the start, and an old number would ACK one that never came. */
#include "client/core_internal.h"

#include <string.h>

bool client_ack_reserve(struct client_core *core, size_t more)
{
    return mem_reserve(&core->acks, &core->acks_capacity, core->acks_count + more,
                       sizeof *core->acks);
}

/* Of one way: to that worker on that lane, or by the coordinator. */
static int compare_ways(const struct ack *a, const struct ack *b)
{
    const int order = memcmp(&a->worker, &b->worker, sizeof a->worker);
    return order ? order : (a->lane > b->lane) - (a->lane < b->lane);
}

/* The first ack behind this one, which is of one result. */
static size_t place_behind(const struct client_core *core, const struct ack *one)
{
    size_t low = 0, high = core->acks_count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const struct ack *ack = &core->acks[middle];
        const int order = compare_ways(ack, one);
        if (order < 0 || (order == 0 && ack->first <= one->first))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void remove_at(struct client_core *core, size_t place)
{
    assert(core->acks && place < core->acks_count);
    core->acks_count--;
    memmove(&core->acks[place], &core->acks[place + 1],
            (core->acks_count - place) * sizeof *core->acks);
}

static void insert_at(struct client_core *core, size_t place, const struct ack *ack)
{
    assert(core->acks && core->acks_count < core->acks_capacity);
    memmove(&core->acks[place + 1], &core->acks[place],
            (core->acks_count - place) * sizeof *core->acks);
    core->acks[place] = *ack;
    core->acks_count++;
}

void client_ack_add(struct client_core *core, const struct id *worker, uint64_t seq,
                    uint64_t bytes)
{
    if (!core->acks_count) {
        core->acks_due_ms = core->now_ms + core->config.ack_wait_ms;
        core->acked_bytes = 0;
    }
    core->acked_bytes = add_saturated(core->acked_bytes, bytes + ACK_OWN_BYTES);
    const struct ack one = {*worker, core->speaker ? core->speaker->number : 0, seq, 1};
    const size_t place = place_behind(core, &one);
    struct ack *before = place ? &core->acks[place - 1] : NULL;
    struct ack *behind = place < core->acks_count ? &core->acks[place] : NULL;
    if (before && compare_ways(before, &one))
        before = NULL;
    if (behind && (compare_ways(behind, &one) || behind->first != seq + 1))
        behind = NULL;
    if (before && seq - before->first < before->count)
        return; /* told twice */
    if (before && seq - before->first == before->count) {
        before->count++;
        if (behind) {
            before->count += behind->count;
            remove_at(core, place);
        }
    } else if (behind) {
        behind->first--;
        behind->count++;
    } else {
        insert_at(core, place, &one);
    }
}

void client_ack_hurry(struct client_core *core)
{
    core->acks_due_ms = core->now_ms;
}

void client_ack_forget(struct client_core *core, uint64_t lane)
{
    size_t kept = 0;
    for (size_t i = 0; i < core->acks_count; i++)
        if (core->acks[i].lane != lane)
            core->acks[kept++] = core->acks[i];
    core->acks_count = kept;
}

/* How many of the acks behind `first`, itself included, go one way. */
static uint32_t of_one_way(const struct client_core *core, size_t first)
{
    uint32_t count = 1;
    while (first + count < core->acks_count && count < LIST_MAX &&
           !compare_ways(&core->acks[first + count], &core->acks[first]))
        count++;
    return count;
}

static int send_acks(struct client_core *core, size_t first, uint32_t count,
                     struct client_effects *effects)
{
    struct message *message = message_create(MSG_ACK);
    struct msg_seqs *seqs = mem_alloc(count * sizeof *seqs);
    if (!message || !seqs) {
        message_free(&message);
        mem_free(seqs);
        return FARPOOL_ENOMEM;
    }
    for (uint32_t i = 0; i < count; i++)
        seqs[i] =
            (struct msg_seqs){core->acks[first + i].first, core->acks[first + i].count};
    message->ack.pool = core->config.pool;
    message->ack.worker = core->acks[first].worker;
    message->ack.results = seqs;
    message->ack.results_count = count;
    const uint64_t number = core->acks[first].lane;
    return number
               ? client_lane_send(core, client_lane_find(core, number), &message, effects)
               : client_send_message(effects, &message);
}

/* While tasks are under way more results will come, whose ACKs can go along. Those that
 * are nearly due go when something else has woken the client. */
static bool may_wait(const struct client_core *core)
{
    const uint64_t early_ms = core->config.ack_wait_ms / 4;
    return core->now_ms + early_ms < core->acks_due_ms && core->acked_bytes < ACK_BYTES &&
           core->sent_tasks > 0 && core->state == POOL_RUNNING;
}

uint64_t client_ack_deadline(const struct client_core *core)
{
    return core->acks_count ? core->acks_due_ms : UINT64_MAX;
}

int client_ack_flush(struct client_core *core, struct client_effects *effects)
{
    if (!core->acks_count || may_wait(core))
        return 0;
    size_t told = 0;
    int error = 0;
    while (told < core->acks_count && !error) {
        const uint32_t count = of_one_way(core, told);
        error = send_acks(core, told, count, effects);
        told += error ? 0 : count;
    }
    core->acks_count -= told;
    if (told)
        memmove(core->acks, core->acks + told, core->acks_count * sizeof *core->acks);
    return error;
}
