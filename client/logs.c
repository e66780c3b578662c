/* SPDX-License-Identifier: Apache-2.0
 *
 * logs.c: asks a coordinator for the last lines of logs: one LOGS_GET, and LOGS of each
 * daemon, told when all have come, in order of time. To follow, it asks again, with a
 * cursor for each daemon; the servers remember nothing. */
#include "common/base/logs.h"
#include "client/query.h"
#include "common/base/error.h"
#include "common/base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINES_DEFAULT 100
#define FOLLOW_MS 1000
#define ANSWERS_MAX 65536               /* messages for one question; a broken */
#define BYTES_MAX (UINT64_C(256) << 20) /* coordinator would send more */
#define LINE_BYTES 64                   /* that a line counts for besides its text */

/* Where a line is, to be sorted. */
struct place {
    uint64_t time_ms;
    size_t answer;
    uint32_t line;
};

struct reading {
    struct query query;
    const farpool_log_options *options;
    farpool_log_callback callback;
    void *user;
    struct id pool; /* zero: any */
    uint64_t request;
    struct message **answers;
    size_t count, capacity;
    uint64_t bytes;
    struct msg_log_cursor *cursors;
    size_t cursors_count, cursors_capacity;
    bool told; /* the first lines have been */
    int code;  /* why the coordinator gives none */
    char text[256];
};

static uint32_t lines_of(const struct reading *reading)
{
    return reading->options->lines > 0 ? reading->options->lines : LINES_DEFAULT;
}

/* ----------------------------------------------------------------- the question */

static struct message *make_question(void *user)
{
    struct reading *reading = user;
    struct message *message = message_create(MSG_LOGS_GET);

    if (message == NULL)
        return NULL;
    message->logs_get.request = ++reading->request;
    message->logs_get.lines = reading->told ? LOG_LINES_MAX : lines_of(reading);
    if (reading->options->node != NULL)
        snprintf(message->logs_get.node, sizeof message->logs_get.node, "%s",
                 reading->options->node);
    if (!id_is_zero(&reading->pool) &&
        (message->logs_get.pools = mem_alloc(sizeof *message->logs_get.pools)) == NULL)
        goto fail;
    if (!id_is_zero(&reading->pool)) {
        message->logs_get.pools_count = 1;
        message->logs_get.pools[0].pool = reading->pool;
    }
    if (reading->cursors_count > 0) {
        message->logs_get.cursors =
            mem_alloc(reading->cursors_count * sizeof *reading->cursors);
        if (message->logs_get.cursors == NULL)
            goto fail;
        message->logs_get.cursors_count = (uint32_t)reading->cursors_count;
        memcpy(message->logs_get.cursors, reading->cursors,
               reading->cursors_count * sizeof *reading->cursors);
    }
    return message;
fail:
    message_free(&message);
    return NULL;
}

/* ------------------------------------------------------------------ the answers */

static void forget_answers(void *user)
{
    struct reading *reading = user;

    while (reading->count > 0)
        message_free(&reading->answers[--reading->count]);
    reading->bytes = 0;
}

static int keep_answer(struct reading *reading, const struct message *answer)
{
    for (uint32_t i = 0; i < answer->logs.lines_count; i++)
        reading->bytes += LINE_BYTES + strlen(answer->logs.lines[i].text);
    if (reading->count >= ANSWERS_MAX || reading->bytes > BYTES_MAX)
        return FARPOOL_EPROTOCOL;
    if (!mem_reserve(&reading->answers, &reading->capacity, reading->count + 1,
                     sizeof *reading->answers) ||
        (reading->answers[reading->count] = message_copy(answer)) == NULL)
        return FARPOOL_ENOMEM;
    reading->count++;
    return 0;
}

/* The daemon heard of the longest ago makes room when there are too many. */
static int keep_cursor(struct reading *reading, const struct message *answer)
{
    struct msg_log_cursor *cursor = reading->cursors;
    size_t i = 0;

    if (id_is_zero(&answer->logs.source) || answer->logs.code != 0)
        return 0;
    while (i < reading->cursors_count &&
           !id_equal(&cursor[i].source, &answer->logs.source))
        i++;
    if (i == LOG_SOURCES_MAX) {
        memmove(cursor, cursor + 1, --i * sizeof *cursor);
    } else if (i == reading->cursors_count) {
        if (!mem_reserve(&reading->cursors, &reading->cursors_capacity, i + 1,
                         sizeof *reading->cursors))
            return FARPOOL_ENOMEM;
        reading->cursors_count++;
    }
    reading->cursors[i].source = answer->logs.source;
    reading->cursors[i].last = answer->logs.last;
    return 0;
}

/* ---------------------------------------------------------------------- telling */

/* By time; what one daemon has written stays in its order as far as its clock does. */
static int compare(const void *one, const void *other)
{
    const struct place *a = one, *b = other;

    if (a->time_ms != b->time_ms)
        return a->time_ms < b->time_ms ? -1 : 1;
    if (a->answer != b->answer)
        return a->answer < b->answer ? -1 : 1;
    return a->line < b->line ? -1 : a->line > b->line;
}

static int tell_note(const struct reading *reading, const struct message *answer)
{
    const farpool_log_line line = {.node = answer->logs.node,
                                   .level = "",
                                   .pool = "",
                                   .left_out = answer->logs.left_out,
                                   .code = answer->logs.code,
                                   .reason = answer->logs.text};

    if (answer->logs.left_out == 0 && answer->logs.code == 0)
        return 0;
    return reading->callback(reading->user, &line);
}

static int tell_line(const struct reading *reading, const struct place *place)
{
    const struct message *answer = reading->answers[place->answer];
    const struct msg_log_line *from = &answer->logs.lines[place->line];
    char pool[33] = "";
    const farpool_log_line line = {
        .node = answer->logs.node,
        .time_ms = from->time_ms,
        .fd = (int)from->fd,
        .level = from->fd == 0 ? logs_level_name(from->level) : "",
        .pool = from->fd == 0 ? "" : id_text(&from->pool, pool),
        .pid = from->fd == 0 ? 0 : (int)from->pid,
        .text = from->text,
        .size = strlen(from->text),
        .reason = ""};

    return reading->callback(reading->user, &line);
}

/* All that came; of the first lines, the last ones. Not 0: no more is wanted. */
static int tell(const struct reading *reading, struct place *places, size_t count)
{
    size_t first = 0;
    int enough = 0;

    for (size_t i = 0, at = 0; i < reading->count; i++)
        for (uint32_t k = 0; k < reading->answers[i]->logs.lines_count; k++)
            places[at++] =
                (struct place){reading->answers[i]->logs.lines[k].time_ms, i, k};
    if (count > 0)
        qsort(places, count, sizeof *places, compare);
    if (!reading->told && count > lines_of(reading))
        first = count - lines_of(reading);
    /* What is not kept any more is not missed where there are lines enough. */
    for (size_t i = 0; i < reading->count && !enough; i++)
        if (first == 0 || reading->answers[i]->logs.code != 0)
            enough = tell_note(reading, reading->answers[i]);
    for (size_t i = first; i < count && !enough; i++)
        enough = tell_line(reading, &places[i]);
    return enough;
}

static int tell_all(struct reading *reading)
{
    struct place *places;
    size_t count = 0;
    int code = 0;

    for (size_t i = 0; i < reading->count && code == 0; i++) {
        count += reading->answers[i]->logs.lines_count;
        code = keep_cursor(reading, reading->answers[i]);
    }
    places = code == 0 ? mem_alloc((count + 1) * sizeof *places) : NULL;
    if (places == NULL)
        return FARPOOL_ENOMEM;
    if (tell(reading, places, count) != 0)
        reading->query.again = NULL;
    mem_free(places);
    reading->told = true;
    forget_answers(reading);
    return 0;
}

static int take(void *user, const struct message *answer, bool *ret_complete)
{
    struct reading *reading = user;
    int code;

    if (answer->logs.request != reading->request)
        return 0; /* of a question that was given up */
    if (answer->logs.code != 0 && id_is_zero(&answer->logs.source)) {
        reading->code = answer->logs.code;
        snprintf(reading->text, sizeof reading->text, "%s", answer->logs.text);
        reading->query.again = NULL;
        *ret_complete = true;
        return 0;
    }
    code = keep_answer(reading, answer);
    if (code == 0 && !answer->logs.more) {
        code = tell_all(reading);
        *ret_complete = true;
    }
    return code;
}

/* ------------------------------------------------------------------------- call */

static int check(const farpool_log_options *options, farpool_log_callback callback,
                 struct id *ret_pool, farpool_error *error)
{
    if (callback == NULL)
        return error_set(error, FARPOOL_EINVAL, "logs: no callback is given");
    if (options->node != NULL &&
        (options->node[0] == '\0' || strlen(options->node) > NODE_NAME_MAX))
        return error_set(error, FARPOOL_EINVAL, "logs: a node's name has 1 to %d bytes",
                         NODE_NAME_MAX);
    if (options->lines > LOG_LINES_MAX)
        return error_set(error, FARPOOL_EINVAL, "logs: lines is %u, but at most %d",
                         options->lines, LOG_LINES_MAX);
    if (options->pool != NULL &&
        (!query_parse_id(options->pool, ret_pool) || id_is_zero(ret_pool)))
        return error_set(error, FARPOOL_EINVAL,
                         "logs: the pool '%s' is not an id of 32 hexadecimal digits",
                         options->pool);
    return 0;
}

int farpool_cluster_logs(const char *address, int64_t timeout_ms,
                         const farpool_log_options *options,
                         farpool_log_callback callback, void *user, farpool_error *error)
{
    static const farpool_log_options defaults;
    struct reading reading = {
        .options = options != NULL ? options : &defaults,
        .callback = callback,
        .user = user,
    };
    int code = check(reading.options, callback, &reading.pool, error);

    if (code != 0)
        return code;
    reading.query = (struct query){
        .call = "logs",
        .question = make_question(&reading),
        .answer = MSG_LOGS,
        .take = take,
        .again = reading.options->follow ? make_question : NULL,
        .again_ms = FOLLOW_MS,
        .restart = forget_answers,
        .user = &reading,
    };
    code = query_ask(&reading.query, address, timeout_ms, error);
    if (code == 0 && reading.code != 0)
        code = error_set(error, reading.code, "logs: %s", reading.text);
    forget_answers(&reading);
    mem_free(reading.answers);
    mem_free(reading.cursors);
    return code;
}
