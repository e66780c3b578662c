/* SPDX-License-Identifier: Apache-2.0
 *
 * logs.c: the last lines of a daemon, in two rings of bytes: its own lines, and those of
 * its processes. A record is a head and the text, wrapped around the ring's end; a record
 * that has no room drives out the oldest ones. Lines of both have one row of numbers,
 * from 1, by which they are put in order again, and by which it is known how many are
 * gone. */
#include "common/base/logs.h"

#include "common/base/mem.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define MESSAGE_TEXT_BYTES 65536 /* text in one LOGS, at most one line more */
#define CUT_NOTE_MAX 40

struct head {
    uint64_t number, time_ms;
    struct id pool;
    uint32_t level, fd, pid, size;
};

struct part {
    uint8_t *bytes;
    size_t size, first, used; /* first: where the oldest record begins */
};

struct logs {
    struct part parts[2]; /* own, printed */
    uint64_t last;        /* number of the newest line */
};

/* ------------------------------------------------------------------- the ring */

static void put(struct part *part, const void *from, size_t size)
{
    const size_t at = (part->first + part->used) % part->size;
    const size_t straight = size < part->size - at ? size : part->size - at;
    if (straight > 0)
        memcpy(part->bytes + at, from, straight);
    if (size > straight)
        memcpy(part->bytes, (const uint8_t *)from + straight, size - straight);
    part->used += size;
}

/* `place` bytes behind the oldest record's beginning. */
static void get(const struct part *part, size_t place, void *to, size_t size)
{
    const size_t at = (part->first + place) % part->size;
    const size_t straight = size < part->size - at ? size : part->size - at;
    if (straight > 0)
        memcpy(to, part->bytes + at, straight);
    if (size > straight)
        memcpy((uint8_t *)to + straight, part->bytes, size - straight);
}

static void drop_oldest(struct part *part)
{
    struct head head;
    get(part, 0, &head, sizeof head);
    part->first = (part->first + sizeof head + head.size) % part->size;
    part->used -= sizeof head + head.size;
}

static bool init_part(struct part *part, size_t size)
{
    part->size = size;
    return size == 0 || (part->bytes = mem_alloc(size)) != NULL;
}

struct logs *logs_create(size_t own_bytes, size_t printed_bytes)
{
    struct logs *logs = mem_alloc(sizeof *logs);
    if (logs && init_part(&logs->parts[0], own_bytes) &&
        init_part(&logs->parts[1], printed_bytes))
        return logs;
    logs_destroy(logs);
    return NULL;
}

void logs_destroy(struct logs *logs)
{
    if (!logs)
        return;
    mem_free(logs->parts[0].bytes);
    mem_free(logs->parts[1].bytes);
    mem_free(logs);
}

/* Copies what is kept of a line; returns its size. */
static uint32_t copy_text(const struct logs_line *line, char text[LOG_TEXT_MAX + 1])
{
    size_t size = line->size;
    if (size > LOG_TEXT_MAX) {
        const size_t kept = LOG_TEXT_MAX - CUT_NOTE_MAX;
        memcpy(text, line->text, kept);
        size = kept + (size_t)snprintf(text + kept, CUT_NOTE_MAX, " [%zu more bytes]",
                                       line->size - kept);
    } else if (size > 0) {
        memcpy(text, line->text, size);
    }
    for (size_t i = 0; i < size; i++)
        if (text[i] == '\0' || text[i] == '\n')
            text[i] = ' ';
    return (uint32_t)size;
}

void logs_add(struct logs *logs, const struct logs_line *line)
{
    char text[LOG_TEXT_MAX + 1];
    struct part *part = &logs->parts[line->fd == 0 ? 0 : 1];
    struct head head = {.number = ++logs->last,
                        .time_ms = line->time_ms,
                        .pool = line->pool,
                        .level = line->level,
                        .fd = line->fd,
                        .pid = line->pid};
    assert(line->level <= 3 && line->fd <= 2);
    head.size = copy_text(line, text);
    if (sizeof head + head.size > part->size)
        return; /* it counts as one that is gone */
    while (part->size - part->used < sizeof head + head.size)
        drop_oldest(part);
    put(part, &head, sizeof head);
    put(part, text, head.size);
}

const char *logs_level_name(uint32_t level)
{
    static const char *const names[] = {"error", "warning", "info", "debug"};
    return level < sizeof names / sizeof names[0] ? names[level] : "trace";
}

/* -------------------------------------------------------------------- reading */

/* The next line of both parts; its text is at *ret_place of *ret_part. */
static bool next(struct logs_reader *reader, struct head *ret_head,
                 const struct part **ret_part, size_t *ret_place)
{
    struct head heads[2];
    int first = -1;
    for (int i = 0; i < 2; i++) {
        const struct part *part = &reader->logs->parts[i];
        if (reader->places[i] == part->used)
            continue;
        get(part, reader->places[i], &heads[i], sizeof heads[i]);
        if (first < 0 || heads[i].number < heads[first].number)
            first = i;
    }
    if (first < 0)
        return false;
    *ret_head = heads[first];
    *ret_part = &reader->logs->parts[first];
    *ret_place = reader->places[first] + sizeof heads[first];
    reader->places[first] = *ret_place + heads[first].size;
    return true;
}

static bool is_wanted(const struct logs_reader *reader, const struct head *head)
{
    const struct message *message = reader->get;
    if (head->number <= reader->after)
        return false;
    if (message->logs_get.pools_count == 0)
        return true;
    for (uint32_t i = 0; i < message->logs_get.pools_count && head->fd != 0; i++)
        if (id_equal(&message->logs_get.pools[i].pool, &head->pool))
            return true;
    return false;
}

void logs_read_begin(const struct logs *logs, const struct message *get,
                     const struct id *source, struct logs_reader *ret_reader)
{
    struct logs_reader *reader = ret_reader;
    struct head head;
    const struct part *part;
    uint64_t newer = 0, wanted = 0;
    size_t place;
    *reader = (struct logs_reader){.logs = logs, .get = get};
    for (uint32_t i = 0; i < get->logs_get.cursors_count; i++)
        if (id_equal(&get->logs_get.cursors[i].source, source))
            reader->after = get->logs_get.cursors[i].last;
    if (!logs)
        return;
    if (reader->after > logs->last)
        reader->after = logs->last;
    while (next(reader, &head, &part, &place)) {
        newer += head.number > reader->after;
        wanted += is_wanted(reader, &head);
    }
    reader->places[0] = reader->places[1] = 0;
    if (wanted > get->logs_get.lines)
        reader->skip = wanted - get->logs_get.lines;
    /* Who asked for the last lines misses those that he would have got, or, with a
     * cursor, all that came since. */
    if (reader->skip == 0 || reader->after > 0)
        reader->left_out = logs->last - reader->after - newer + reader->skip;
}

static bool add(struct message *answer, const struct head *head, const struct part *part,
                size_t place)
{
    struct msg_log_line *line = &answer->logs.lines[answer->logs.lines_count];
    if (!(line->text = mem_alloc((size_t)head->size + 1)))
        return false;
    get(part, place, line->text, head->size);
    line->time_ms = head->time_ms;
    line->level = head->level;
    line->fd = head->fd;
    line->pid = head->pid;
    line->pool = head->pool;
    answer->logs.lines_count++;
    return true;
}

int logs_read(struct logs_reader *reader, struct message *answer)
{
    struct head head;
    const struct part *part;
    size_t place, bytes = 0;
    answer->logs.request = reader->get->logs_get.request;
    if (!reader->logs)
        return 0;
    answer->logs.last = reader->logs->last;
    answer->logs.left_out = reader->left_out;
    reader->left_out = 0;
    if (!(answer->logs.lines = mem_alloc(LIST_MAX * sizeof *answer->logs.lines)))
        return FARPOOL_ENOMEM;
    while (answer->logs.lines_count < LIST_MAX && bytes < MESSAGE_TEXT_BYTES &&
           next(reader, &head, &part, &place)) {
        if (!is_wanted(reader, &head))
            continue;
        if (reader->skip > 0) {
            reader->skip--;
            continue;
        }
        if (!add(answer, &head, part, place))
            return FARPOOL_ENOMEM;
        bytes += head.size;
    }
    answer->logs.more = reader->places[0] < reader->logs->parts[0].used ||
                        reader->places[1] < reader->logs->parts[1].used;
    return 0;
}
