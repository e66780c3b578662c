/* SPDX-License-Identifier: Apache-2.0
 *
 * log.c: the daemons' log on stderr. A line an event, written by one write(2), so that
 * lines of several daemons on one terminal or file do not mix:
 *
 *     2026-01-31T08:15:00.123Z coordinator info worker-up node=n1 slots=4
 *
 * and under a terminal, shorter and coloured:
 *
 *     08:15:00.123 worker-up node=n1 slots=4
 *
 * A line that stderr does not take at once is lost, and the next one that it takes says
 * how many were: a daemon never waits for whoever reads its log. What is kept (log_keep)
 * is not lost with it. */
#include "common/sys/log.h"

#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A pipe that is writable takes so much without waiting. */
#define LINE_MAX_BYTES PIPE_BUF

static struct {
    const char *program;
    enum log_level level;
    bool terminal;
    unsigned long lost; /* lines, since the last one that was taken */
    struct logs *kept;  /* NULL: nowhere */
} state = {"farpool", LOG_INFO, false, 0, NULL};

static const char *const level_colours[] = {"\033[31m", "\033[33m", "\033[36m",
                                            "\033[90m", "\033[90m"};

void log_open(const char *program, enum log_level level)
{
    state.program = program;
    state.level = level;
    state.terminal = isatty(STDERR_FILENO) == 1;
}

enum log_level log_level(void)
{
    return state.level;
}

void log_keep(struct logs *logs)
{
    state.kept = logs;
}

uint64_t log_time_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Appends, never past the end. */
static size_t append(char *line, size_t used, const char *format, va_list arguments)
{
    int n = vsnprintf(line + used, LINE_MAX_BYTES - used, format, arguments);
    if (n < 0)
        return used;
    size_t end = used + (size_t)n;
    return end < LINE_MAX_BYTES ? end : LINE_MAX_BYTES - 1;
}

__attribute__((format(printf, 3, 4))) static size_t add(char *line, size_t used,
                                                        const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    used = append(line, used, format, arguments);
    va_end(arguments);
    return used;
}

static size_t add_head(char *line, enum log_level level, const char *event)
{
    struct timespec now;
    struct tm parts;
    clock_gettime(CLOCK_REALTIME, &now);
    char when[32];
    if (state.terminal) {
        localtime_r(&now.tv_sec, &parts);
        strftime(when, sizeof when, "%H:%M:%S", &parts);
        return add(line, 0, "\033[90m%s.%03ld\033[0m %s%s\033[0m", when,
                   now.tv_nsec / 1000000, level_colours[level], event);
    }
    gmtime_r(&now.tv_sec, &parts);
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &parts);
    return add(line, 0, "%s.%03ldZ %s %s %s", when, now.tv_nsec / 1000000, state.program,
               logs_level_name(level), event);
}

/* What a peer or a process wrote must not end a line or drive the terminal. */
static void replace_controls(char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = ' ';
    }
}

static bool write_line(const char *line, size_t size)
{
    struct pollfd item = {.fd = STDERR_FILENO, .events = POLLOUT};
    if (poll(&item, 1, 0) != 1 || (item.revents & POLLOUT) == 0)
        return false;
    return write(STDERR_FILENO, line, size) == (ssize_t)size;
}

static bool tell_lost(void)
{
    char line[LINE_MAX_BYTES + 1];
    size_t used = add_head(line, LOG_WARNING, "log-lines-lost");
    used = add(line, used, " count=%lu\n", state.lost);
    return write_line(line, used);
}

/* text: what comes behind the event's name. */
static void print(enum log_level level, const char *event, const char *text)
{
    char line[LINE_MAX_BYTES + 1];
    size_t used = add_head(line, level, event);
    if (text[0] != '\0')
        used = add(line, used, " %s", text);
    line[used++] = '\n';
    if (state.lost > 0 && tell_lost())
        state.lost = 0;
    if (state.lost > 0 || !write_line(line, used))
        state.lost++;
}

static void keep(enum log_level level, const char *event, const char *text)
{
    char line[LINE_MAX_BYTES];
    size_t used = add(line, 0, "%s", event);
    if (text[0] != '\0')
        used = add(line, used, " %s", text);
    logs_add(state.kept, &(struct logs_line){.time_ms = log_time_ms(),
                                             .level = (uint32_t)level,
                                             .text = line,
                                             .size = used});
}

static void tell(enum log_level level, bool kept, const char *event, const char *format,
                 va_list arguments)
{
    kept = kept && state.kept != NULL && level <= LOG_DEBUG;
    if (level > state.level && !kept)
        return;
    char text[LINE_MAX_BYTES];
    text[append(text, 0, format, arguments)] = '\0';
    replace_controls(text);
    if (kept)
        keep(level, event, text);
    if (level <= state.level)
        print(level, event, text);
}

void log_event(enum log_level level, const char *event, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    tell(level, true, event, format, arguments);
    va_end(arguments);
}

void log_print(enum log_level level, const char *event, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    tell(level, false, event, format, arguments);
    va_end(arguments);
}
