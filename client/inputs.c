/* SPDX-License-Identifier: Apache-2.0
 *
 * inputs.c: the inputs of a job that are all there become spans: values of one size lie
 * side by side already, others are put together, up to about BLOCK_BYTES. A call that
 * lends its memory has the spans point into the caller's arrays; else they are copied
 * once. */
#include "client/job.h"
#include "client/list.h"
#include "client/pool.h"
#include "common/base/payload.h"
#include "common/base/span.h"

#include <string.h>

#define BLOCK_BYTES 1048576 /* small inputs are put together to about so much */
#define LARGE_BYTES 65536   /* an input from here on has a span of its own */

farpool_bytes job_input(const struct job_inputs *inputs, uint64_t index)
{
    if (inputs->values != NULL)
        return (farpool_bytes){(const uint8_t *)inputs->values + index * inputs->size,
                               inputs->size};
    if (inputs->items != NULL)
        return inputs->items[index];
    return list_item(inputs->list, index);
}

static void release(struct payload *payload)
{
    farpool_job *job = payload->owner;

    job->borrowed--;
    job->base.pool->news = true;
}

/* Bytes of the caller's, lent or copied. */
static struct payload *take(farpool_job *job, bool borrow, const void *data, size_t size)
{
    struct payload *payload;

    if (!borrow)
        return payload_copy(data, size);
    if ((payload = payload_wrap(data, size, release, job)) == NULL)
        return NULL;
    payload->lent = true;
    job->borrowed++;
    return payload;
}

/* How many inputs from `first` on go into one span, and whether they are of one size. */
static uint32_t measure(const struct job_inputs *inputs, uint64_t first,
                        size_t *ret_bytes, bool *ret_equal)
{
    size_t size = job_input(inputs, first).size, bytes = size;
    uint32_t count = 1;

    *ret_equal = true;
    while (size < LARGE_BYTES && first + count < inputs->count &&
           count < SPAN_TASKS_MAX) {
        size_t next = job_input(inputs, first + count).size;

        if (next >= LARGE_BYTES || bytes + next > BLOCK_BYTES)
            break;
        *ret_equal &= next == size;
        bytes += next;
        count++;
    }
    *ret_bytes = bytes;
    return count;
}

/* The sizes as a span has them: u32 little endian. */
static struct payload *make_sizes(const struct job_inputs *inputs, uint64_t first,
                                  uint32_t count)
{
    struct payload *sizes = payload_create(4 * (size_t)count);

    for (uint32_t i = 0; sizes != NULL && i < count; i++) {
        size_t size = job_input(inputs, first + i).size;
        uint8_t *bytes = payload_bytes(sizes) + 4 * (size_t)i;

        for (int j = 0; j < 4; j++)
            bytes[j] = (uint8_t)(size >> (8 * j));
    }
    return sizes;
}

static struct payload *join(const struct job_inputs *inputs, uint64_t first,
                            uint32_t count, size_t bytes)
{
    struct payload *data = payload_create(bytes);
    size_t offset = 0;

    for (uint32_t i = 0; data != NULL && i < count; i++) {
        farpool_bytes item = job_input(inputs, first + i);

        if (item.size > 0)
            memcpy(payload_bytes(data) + offset, item.data, item.size);
        offset += item.size;
    }
    return data;
}

/* The next span of inputs of any size. */
static int make_span(farpool_job *job, const struct job_inputs *inputs, uint64_t first,
                     struct msg_span *ret_span)
{
    struct msg_span span = {.first = first};
    size_t bytes;
    bool equal;

    span.count = measure(inputs, first, &bytes, &equal);
    if (!equal && (span.sizes = make_sizes(inputs, first, span.count)) == NULL)
        return FARPOOL_ENOMEM;
    if (bytes > 0)
        span.data = span.count == 1 ? take(job, inputs->borrow && bytes >= LARGE_BYTES,
                                           job_input(inputs, first).data, bytes)
                                    : join(inputs, first, span.count, bytes);
    if (bytes > 0 && span.data == NULL) {
        span_fini(&span);
        return FARPOOL_ENOMEM;
    }
    *ret_span = span;
    return 0;
}

static int submit_span(farpool_job *job, struct msg_span *span)
{
    struct client_event event = {
        .kind = CLIENT_JOB_INPUT, .job = job->base.number, .span = *span};
    int code = pool_step(job->base.pool, &event);

    *span = (struct msg_span){0};
    if (code != 0)
        span_fini(&event.span);
    return code;
}

/* Values of one size lie side by side already: a few large spans of them. */
static int submit_values(farpool_job *job, const struct job_inputs *inputs)
{
    size_t size = inputs->size > 0 ? inputs->size : 1;
    uint64_t most =
        BODY_BYTES_MAX / size < SPAN_TASKS_MAX ? BODY_BYTES_MAX / size : SPAN_TASKS_MAX;
    int code = 0;

    for (uint64_t first = 0; code == 0 && first < inputs->count; first += most) {
        uint64_t left = inputs->count - first;
        struct msg_span span = {.first = first,
                                .count = (uint32_t)(left < most ? left : most)};

        span.data = take(job, inputs->borrow, job_input(inputs, first).data,
                         span.count * inputs->size);
        code = span.data == NULL ? FARPOOL_ENOMEM : submit_span(job, &span);
    }
    return code;
}

static int submit_items(farpool_job *job, const struct job_inputs *inputs)
{
    uint64_t first = 0;
    int code = 0;

    while (code == 0 && first < inputs->count) {
        struct msg_span span;

        code = make_span(job, inputs, first, &span);
        if (code != 0)
            break;
        first += span.count;
        code = submit_span(job, &span);
    }
    return code;
}

int job_submit_inputs(farpool_job *job, const struct job_inputs *inputs)
{
    return inputs->values != NULL ? submit_values(job, inputs)
                                  : submit_items(job, inputs);
}
