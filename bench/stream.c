/* SPDX-License-Identifier: Apache-2.0
 *
 * stream.c: see stream.h. All inputs are of one block, as the other side's are in
 * bench/peers; each bears its number at its beginning and at its end, as far as it has
 * room, so that a result in a wrong place or of another task is noticed. */
#include "stream.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct stream {
    char *block;
    size_t size, count, made;
};

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void fail(const char *what)
{
    fprintf(stderr, "farpool-bench: stream: %s\n", what);
    exit(1);
}

static size_t mark_size(size_t size)
{
    return size < sizeof(uint64_t) ? size : sizeof(uint64_t);
}

static int next_input(void *user, farpool_bytes *item, char message[256])
{
    struct stream *stream = user;
    (void)message;
    if (stream->made == stream->count)
        return FARPOOL_END;
    const size_t bytes = mark_size(stream->size);
    const uint64_t mark = stream->made++;
    memcpy(stream->block, &mark, bytes);
    memcpy(stream->block + stream->size - bytes, &mark, bytes);
    *item = (farpool_bytes){stream->block, stream->size};
    return 0;
}

static void check(const struct stream *stream, farpool_bytes output, uint64_t mark)
{
    const size_t bytes = mark_size(stream->size);
    if (output.size != stream->size || memcmp(output.data, &mark, bytes) != 0 ||
        memcmp((const char *)output.data + stream->size - bytes, &mark, bytes) != 0)
        fail("wrong result");
}

double stream_run(farpool_pool *pool, const farpool_function *function, size_t size,
                  size_t count)
{
    farpool_error error;
    farpool_bytes output;
    struct stream stream = {malloc(size), size, count, 0};
    if (stream.block == NULL)
        fail("out of memory");
    memset(stream.block, 'x', size);
    const double start = now_s();
    farpool_iterator *results =
        farpool_imap(pool, function, next_input, &stream, NULL, &error);
    if (results == NULL)
        fail(error.text);
    for (uint64_t i = 0; i < count; i++) {
        if (farpool_next(results, FARPOOL_FOREVER, &output, NULL, &error) != 0)
            fail(error.text);
        check(&stream, output, i);
    }
    const double seconds = now_s() - start;
    if (farpool_next(results, FARPOOL_FOREVER, &output, NULL, &error) != FARPOOL_END)
        fail("more results than inputs");
    farpool_iterator_free(results);
    free(stream.block);
    return seconds;
}
