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
 * how many were: a daemon never waits for whoever reads its log. */
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
} state = {"farpool", LOG_INFO, false, 0};

static const char *const level_names[] = {"error", "warning", "info", "debug", "trace"};
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
               level_names[level], event);
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

void log_event(enum log_level level, const char *event, const char *format, ...)
{
    if (level > state.level)
        return;
    char line[LINE_MAX_BYTES + 1];
    size_t used = add_head(line, level, event);
    if (format[0] != '\0') {
        used = add(line, used, " ");
        size_t start = used;
        va_list arguments;
        va_start(arguments, format);
        used = append(line, used, format, arguments);
        va_end(arguments);
        replace_controls(line + start);
    }
    line[used++] = '\n';
    if (state.lost > 0 && tell_lost())
        state.lost = 0;
    if (state.lost > 0 || !write_line(line, used))
        state.lost++;
}
