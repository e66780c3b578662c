/* SPDX-License-Identifier: Apache-2.0
 *
 * output.c: what processes of a pool print, told to the user on the result thread: by
 * on_output, or on the program's own stdout and stderr. It waits in a queue of bounded
 * size, since a callback may take its time; what comes while that is full is left out.
 *
 * On stdout and stderr each line stays a line, and cannot drive a terminal: other
 * people's programs wrote it. */
#include "client/pool.h"
#include "common/base/printable.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define QUEUED_BYTES_MAX (UINT64_C(8) << 20)
#define ENTRY_BYTES 512 /* that a message counts for besides its text */
#define PREFIX_MAX (NODE_NAME_MAX + 64)

/* ------------------------------------------------------------------------ printing */

static size_t write_prefix(const farpool_output *output, char *line)
{
    int used;

    if (output->index == FARPOOL_NO_INDEX)
        used = snprintf(line, PREFIX_MAX, "[%s] ", output->node);
    else if (output->tasks == 1)
        used =
            snprintf(line, PREFIX_MAX, "[%s %" PRIu64 "] ", output->node, output->index);
    else
        used = snprintf(line, PREFIX_MAX, "[%s %" PRIu64 "-%" PRIu64 "] ", output->node,
                        output->index, output->index + (output->tasks - 1));
    return (size_t)used;
}

static void print_line(const farpool_output *output)
{
    char *line = mem_alloc(PREFIX_MAX + output->size + 1);
    size_t used;

    if (line == NULL)
        return;
    used = write_prefix(output, line);
    used += printable_copy(line + used, output->text, output->size);
    line[used++] = '\n';
    /* In one call, so that nothing of the program's own comes in between. */
    fwrite(line, 1, used, output->fd == 2 ? stderr : stdout);
    mem_free(line);
}

static void print_output(void *user, const farpool_output *output)
{
    (void)user;
    if (output->text != NULL)
        print_line(output);
    else if (output->node[0] != '\0')
        fprintf(stderr, "[%s] %" PRIu64 " lines left out\n", output->node,
                output->left_out);
    else
        fprintf(stderr, "%" PRIu64 " lines of output left out\n", output->left_out);
}

/* ------------------------------------------------------------------------- telling */

static void call(const farpool_pool *pool, const farpool_output *output)
{
    if (pool->settings.on_output != NULL)
        pool->settings.on_output(pool->settings.output_user, output);
    else
        print_output(NULL, output);
}

static void tell_left_out(const farpool_pool *pool, const char *node, uint64_t lines)
{
    const farpool_output output = {
        .node = node, .index = FARPOOL_NO_INDEX, .left_out = lines};

    if (lines > 0)
        call(pool, &output);
}

static void tell_piece(const farpool_pool *pool, const char *node,
                       const struct msg_printed *piece)
{
    const char *at = (const char *)piece->text->data, *end = at + piece->text->size;
    farpool_output output = {
        .node = node,
        .pid = (int)piece->pid,
        .fd = (int)piece->fd,
        .job = piece->count > 0 ? piece->job : 0,
        .index = piece->count > 0 ? piece->first : FARPOOL_NO_INDEX,
        .tasks = piece->count,
        .attempt = piece->count > 0 ? piece->attempt : 0,
    };

    while (at < end) {
        const char *line_end = memchr(at, '\n', (size_t)(end - at));

        output.text = at;
        output.size = (size_t)(line_end - at);
        call(pool, &output);
        at = line_end + 1;
    }
}

static void tell(const farpool_pool *pool, const struct message *message)
{
    tell_left_out(pool, message->output.node, message->output.left_out);
    for (uint32_t i = 0; i < message->output.pieces_count; i++)
        tell_piece(pool, message->output.node, &message->output.pieces[i]);
    if (pool->settings.on_output == NULL)
        fflush(stdout);
}

static uint64_t bytes_of(const struct message *message)
{
    return ENTRY_BYTES + message_body_bytes(message);
}

static void call_first(farpool_pool *pool)
{
    struct pool_printed *printed = STAILQ_FIRST(&pool->printed);

    STAILQ_REMOVE_HEAD(&pool->printed, entry);
    pool->printed_bytes -= bytes_of(printed->message);
    pthread_mutex_unlock(&pool->mutex);
    tell(pool, printed->message);
    message_free(&printed->message);
    mem_free(printed);
    pthread_mutex_lock(&pool->mutex);
    pool->printed_called++;
}

void output_call(farpool_pool *pool)
{
    uint64_t left_out;

    pool->calling_printed = true;
    while (!STAILQ_EMPTY(&pool->printed))
        call_first(pool);
    left_out = pool->printed_left_out;
    pool->printed_left_out = 0;
    pthread_mutex_unlock(&pool->mutex);
    tell_left_out(pool, "", left_out);
    pthread_mutex_lock(&pool->mutex);
    pool->calling_printed = false;
}

/* -------------------------------------------------------------------------- queue */

void output_queue(farpool_pool *pool, struct message **message)
{
    const uint64_t bytes = bytes_of(*message);
    struct pool_printed *printed = NULL;

    if (pool->printed_bytes + bytes <= QUEUED_BYTES_MAX)
        printed = mem_alloc(sizeof *printed);
    if (printed == NULL) {
        pool->printed_left_out += (*message)->output.left_out;
        for (uint32_t i = 0; i < (*message)->output.pieces_count; i++)
            pool->printed_left_out += (*message)->output.pieces[i].lines;
        message_free(message);
        return;
    }
    printed->message = *message;
    *message = NULL;
    STAILQ_INSERT_TAIL(&pool->printed, printed, entry);
    pool->printed_bytes += bytes;
    pool->printed_came++;
}

void output_fini(farpool_pool *pool)
{
    struct pool_printed *printed;

    while ((printed = STAILQ_FIRST(&pool->printed)) != NULL) {
        STAILQ_REMOVE_HEAD(&pool->printed, entry);
        message_free(&printed->message);
        mem_free(printed);
    }
}
