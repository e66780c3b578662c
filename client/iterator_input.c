/* SPDX-License-Identifier: Apache-2.0
 *
 * iterator_input.c: the input of imap, pulled by the thread that is in farpool_imap or
 * farpool_next, without the mutex, one call at a time: each result that is read makes
 * room for more, so that is the moment when input is wanted. The core says how much
 * (CLIENT_INPUT_WANTED); it is pulled in pieces of about a millisecond, between which
 * results are looked at. Small inputs are put together into one span; a large one gets a
 * span of its own, so that it is copied once. */
#include "client/iterator.h"
#include "common/base/span.h"
#include "common/sys/sys.h"

#include <inttypes.h>
#include <stdio.h>

#define PULL_NS 1000000
#define PULL_TASKS 1024
#define PULL_BYTES 1048576
#define LARGE_BYTES 65536 /* an input from here on has a span of its own */

bool iterator_wants_input(const farpool_iterator *iterator)
{
    return iterator->wanted_tasks > 0 && !iterator->pulling && !iterator->input_ended &&
           !iterator->no_memory && iterator->base.number != 0;
}

/* Ends the input with an error at this place. */
static void fail_input(farpool_iterator *iterator, const char *message)
{
    uint64_t index = iterator->pulled + iterator->sizes_count;

    if (failure_make(index, FARPOOL_EINPUT, message, &iterator->input_failure) != 0)
        iterator->no_memory = true;
    iterator->input_ended = true;
}

/* Keeps a copy of one input. */
static void keep(farpool_iterator *iterator, const farpool_bytes *item)
{
    char text[256];

    if (iterator->typed && item->size != iterator->input_size) {
        snprintf(text, sizeof text, "it has %zu bytes, but %s takes %" PRIu32, item->size,
                 iterator->base.of.function, iterator->input_size);
        fail_input(iterator, text);
    } else if (item->data == NULL && item->size > 0) {
        snprintf(text, sizeof text, "its data is NULL, but its size is %zu", item->size);
        fail_input(iterator, text);
    } else if (item->size > BODY_BYTES_MAX) {
        snprintf(text, sizeof text, "it has %zu bytes, but may have %d", item->size,
                 BODY_BYTES_MAX);
        fail_input(iterator, text);
    } else if (item->size >= LARGE_BYTES) {
        if ((iterator->large = payload_copy(item->data, item->size)) == NULL)
            iterator->input_ended = iterator->no_memory = true;
    } else if (!mem_reserve(&iterator->bytes, &iterator->bytes_capacity,
                            iterator->bytes_size + item->size, 1) ||
               !mem_reserve(&iterator->sizes, &iterator->sizes_capacity,
                            iterator->sizes_count + 1, sizeof *iterator->sizes)) {
        iterator->input_ended = iterator->no_memory = true;
    } else {
        if (item->size > 0)
            memcpy(iterator->bytes + iterator->bytes_size, item->data, item->size);
        iterator->bytes_size += item->size;
        iterator->sizes[iterator->sizes_count++] = (uint32_t)item->size;
    }
}

/* Calls the user for some input, up to a large one; without the mutex. */
static void call_input(farpool_iterator *iterator, uint64_t tasks, uint64_t bytes)
{
    uint64_t until_ns = sys_now_ns() + PULL_NS;

    iterator->bytes_size = iterator->sizes_count = 0;
    while (!iterator->input_ended && iterator->large == NULL &&
           iterator->sizes_count < tasks && iterator->bytes_size < bytes) {
        farpool_bytes item = {NULL, 0};
        char message[256] = "";
        int code = iterator->input(iterator->user, &item, message);

        message[sizeof message - 1] = '\0';
        if (code == FARPOOL_END)
            iterator->input_ended = true;
        else if (code != 0)
            fail_input(iterator, message[0] != '\0'
                                     ? message
                                     : "the input callback gave no reason");
        else
            keep(iterator, &item);
        if (sys_now_ns() >= until_ns)
            break;
    }
}

/* The inputs that were pulled, as a span. */
static int make_span(const farpool_iterator *iterator, struct msg_span *ret_span)
{
    struct msg_span span = {.first = iterator->pulled,
                            .count = (uint32_t)iterator->sizes_count};
    bool equal = true;

    for (uint32_t i = 1; i < span.count; i++)
        equal &= iterator->sizes[i] == iterator->sizes[0];
    if (!equal && (span.sizes = payload_create(4 * (size_t)span.count)) == NULL)
        return FARPOOL_ENOMEM;
    for (size_t i = 0; !equal && i < 4 * (size_t)span.count; i++)
        payload_bytes(span.sizes)[i] = (uint8_t)(iterator->sizes[i / 4] >> (8 * (i % 4)));
    if (iterator->bytes_size > 0 &&
        (span.data = payload_copy(iterator->bytes, iterator->bytes_size)) == NULL) {
        span_fini(&span);
        return FARPOOL_ENOMEM;
    }
    *ret_span = span;
    return 0;
}

/* Hands a span to the core, or drops it. */
static int submit_span(farpool_iterator *iterator, const struct msg_span *span)
{
    struct client_event input = {
        .kind = CLIENT_JOB_INPUT, .job = iterator->base.number, .span = *span};
    uint64_t count = span->count, bytes = span_bytes(span);
    int code = pool_step(iterator->base.pool, &input);

    span_fini(&input.span);
    if (code == FARPOOL_ENOMEM)
        return code;
    iterator->pulled += count;
    iterator->wanted_tasks -=
        count < iterator->wanted_tasks ? count : iterator->wanted_tasks;
    iterator->wanted_bytes -=
        bytes < iterator->wanted_bytes ? bytes : iterator->wanted_bytes;
    if (iterator->wanted_bytes == 0)
        iterator->wanted_tasks = 0;
    return 0;
}

/* What was pulled: the small inputs, then the large one behind them. */
static int submit_spans(farpool_iterator *iterator)
{
    struct msg_span span = {0};
    int code = 0;

    if (iterator->sizes_count > 0 && (code = make_span(iterator, &span)) == 0)
        code = submit_span(iterator, &span);
    if (code == 0 && iterator->large != NULL) {
        span = (struct msg_span){
            .first = iterator->pulled, .count = 1, .data = iterator->large};
        iterator->large = NULL;
        code = submit_span(iterator, &span);
    }
    payload_unref(&iterator->large);
    iterator->sizes_count = 0;
    return code;
}

static void submit(farpool_iterator *iterator)
{
    struct client_event end = {.kind = CLIENT_JOB_INPUT_END,
                               .job = iterator->base.number};

    if (submit_spans(iterator) == FARPOOL_ENOMEM)
        iterator->no_memory = true;
    if ((iterator->input_ended || iterator->no_memory) &&
        pool_step(iterator->base.pool, &end) == FARPOOL_ENOMEM)
        iterator->no_memory = true;
}

/* Pulls about a millisecond's worth of input. */
void iterator_pull(farpool_iterator *iterator)
{
    farpool_pool *pool = iterator->base.pool;
    uint64_t tasks = iterator->wanted_tasks, bytes = iterator->wanted_bytes;

    iterator->pulling = true;
    pthread_mutex_unlock(&pool->mutex);
    call_input(iterator, tasks < PULL_TASKS ? tasks : PULL_TASKS,
               bytes < PULL_BYTES ? bytes : PULL_BYTES);
    pthread_mutex_lock(&pool->mutex);
    iterator->pulling = false;
    if (iterator->base.number != 0)
        submit(iterator);
    pool->news = true;
    driver_kick(pool);
}
