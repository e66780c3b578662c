/* SPDX-License-Identifier: Apache-2.0
 *
 * logs.h: the last lines of a daemon's log and of what its processes printed, kept in
 * memory of fixed size and read as LOGS messages. docs/logs.md. */
#ifndef FARPOOL_BASE_LOGS_H
#define FARPOOL_BASE_LOGS_H

#include "common/base/message.h"

#include <stddef.h>

#define LOGS_OWN_BYTES 131072     /* that a daemon keeps of its own lines */
#define LOGS_PRINTED_BYTES 262144 /* and a worker of its processes' */

struct logs_line {
    uint64_t time_ms; /* since 1970 */
    uint32_t level;   /* 0 error, 1 warning, 2 info, 3 debug */
    uint32_t fd;      /* 0: the daemon's own; 1, 2: stdout, stderr of a process: */
    uint32_t pid;
    struct id pool;
    const char *text; /* one line, not terminated; NUL bytes become spaces, and what is
                         over LOG_TEXT_MAX is cut off, and told */
    size_t size;
};

/* Own lines and printed ones have room of their own, so that a process that prints
 * without end drives out no line of the daemon. */
struct logs;
struct logs *logs_create(size_t own_bytes, size_t printed_bytes); /* NULL: no memory */
void logs_destroy(struct logs *logs);                             /* NULL allowed */
/* The oldest lines make room for it; takes no memory. */
void logs_add(struct logs *logs, const struct logs_line *line);

/* error, warning, info, debug. */
const char *logs_level_name(uint32_t level);

/* Reads what a LOGS_GET wants, in order: its pools, lines, and the cursor of `source`.
 * logs and get are borrowed until the reader is done with, and must not change; logs
 * NULL: there are no lines. */
struct logs_reader {
    const struct logs *logs;
    const struct message *get;
    uint64_t after, skip, left_out;
    size_t places[2]; /* bytes read of each part */
};
void logs_read_begin(const struct logs *logs, const struct message *get,
                     const struct id *source, struct logs_reader *ret_reader);
/* Fills a fresh LOGS with what one may hold: request, more, last, left_out and lines.
 * ENOMEM: the reader is to be begun again. */
int logs_read(struct logs_reader *reader, struct message *answer);

#endif
