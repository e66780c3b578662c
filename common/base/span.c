/* SPDX-License-Identifier: Apache-2.0
 *
 * span.c: cutting and sharing spans. All of it by slices of the same bytes; where tasks
 * differ in size, a place is found by adding up sizes from the nearer end, so cutting
 * pieces off either end of a long span costs no more than the pieces.
 *
 * A span given to these functions is valid (span_valid); whoever takes one from a peer
 * has had message_decode check it. */
#include "common/base/span.h"

#include <assert.h>
#include <endian.h>
#include <string.h>

void span_fini(struct msg_span *span)
{
    payload_unref(&span->sizes);
    payload_unref(&span->data);
    memset(span, 0, sizeof *span);
}

int span_share(const struct msg_span *span, struct msg_span *ret_copy)
{
    *ret_copy = *span;
    payload_ref(ret_copy->sizes);
    payload_ref(ret_copy->data);
    return 0;
}

uint64_t span_bytes(const struct msg_span *span)
{
    return span->data ? span->data->size : 0;
}

uint32_t span_task_size(const struct msg_span *span, uint32_t place)
{
    if (!span->sizes)
        return (uint32_t)(span_bytes(span) / span->count);
    uint32_t size;
    memcpy(&size, span->sizes->data + (size_t)4 * place, sizeof size);
    return le32toh(size);
}

static uint64_t sum_sizes(const struct msg_span *span, uint32_t begin, uint32_t end)
{
    uint64_t sum = 0;
    for (uint32_t place = begin; place < end; place++)
        sum += span_task_size(span, place);
    return sum;
}

/* Bytes in front of the task at `place`; place may be the span's count. */
static uint64_t offset_of(const struct msg_span *span, uint32_t place)
{
    if (!span->sizes)
        return span_bytes(span) / span->count * place;
    if (place <= span->count / 2)
        return sum_sizes(span, 0, place);
    return span_bytes(span) - sum_sizes(span, place, span->count);
}

int span_slice(const struct msg_span *span, uint64_t first, uint32_t count,
               struct msg_span *ret_part)
{
    const uint64_t begin = first - span->first;
    assert(first >= span->first && count >= 1 && begin < span->count &&
           count <= span->count - begin);
    if (count == span->count)
        return span_share(span, ret_part);
    struct msg_span part = {
        .first = first, .count = count, .attempt = span->attempt, .watch = span->watch};
    if (span->sizes) {
        part.sizes = payload_slice(span->sizes, 4 * begin, (size_t)4 * count);
        if (!part.sizes)
            return FARPOOL_ENOMEM;
    }
    if (span->data) {
        const uint64_t offset = offset_of(span, (uint32_t)begin);
        const uint64_t end = offset_of(span, (uint32_t)begin + count);
        part.data = payload_slice(span->data, offset, end - offset);
        if (!part.data) {
            span_fini(&part);
            return FARPOOL_ENOMEM;
        }
    }
    *ret_part = part;
    return 0;
}

void span_task(const struct msg_span *span, uint32_t place, const uint8_t **ret_data,
               size_t *ret_size)
{
    assert(place < span->count);
    const size_t size = span_task_size(span, place);
    *ret_data = size ? span->data->data + offset_of(span, place) : NULL;
    *ret_size = size;
}

uint32_t span_fit(const struct msg_span *span, uint64_t bytes)
{
    if (span_bytes(span) <= bytes)
        return span->count;
    uint64_t fit = 0;
    if (!span->sizes) {
        fit = bytes / (span_bytes(span) / span->count);
    } else {
        for (uint64_t sum = 0; fit < span->count; fit++) {
            sum += span_task_size(span, (uint32_t)fit);
            if (sum > bytes)
                break;
        }
    }
    return fit ? (uint32_t)fit : 1;
}

bool span_valid(const struct msg_span *span)
{
    if (span->count < 1 || span->first > UINT64_MAX - span->count)
        return false;
    if (!span->sizes)
        return span_bytes(span) % span->count == 0 &&
               span_bytes(span) / span->count <= UINT32_MAX;
    return span->sizes->size == (uint64_t)4 * span->count &&
           sum_sizes(span, 0, span->count) == span_bytes(span);
}
