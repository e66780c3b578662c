/* SPDX-License-Identifier: Apache-2.0
 *
 * log.h: the daemons' log: one line an event on stderr, key=value; readable and coloured
 * on a terminal. Never used by a core or by libfarpool. */
#ifndef FARPOOL_SYS_LOG_H
#define FARPOOL_SYS_LOG_H

#include "common/base/logs.h"

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG, LOG_TRACE };

/* Once, first. program: "coordinator". level: what is printed. */
void log_open(const char *program, enum log_level level);
enum log_level log_level(void);

/* From now on, lines up to LOG_DEBUG are kept there too, whatever is printed; NULL: no
 * more. Borrowed. */
void log_keep(struct logs *logs);

/* log_event(LOG_INFO, "worker-up", "node=%s slots=%u", node, slots): the event's name is
 * fixed text, the rest key=value pairs; values with spaces are quoted by the caller with
 * %s inside double quotes. Line breaks in values are replaced. */
void log_event(enum log_level level, const char *event, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The same for what has been kept already, as what it is. */
void log_print(enum log_level level, const char *event, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The time that lines of logs have: ms since 1970. */
uint64_t log_time_ms(void);

#endif
