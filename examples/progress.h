/* SPDX-License-Identifier: Apache-2.0
 *
 * progress.h: what the examples print while they work and when they are done:
 *
 *   [##############----------]  58 %  15,120 of 26,000 files  8,310 files/s  1 s left
 *
 * On a terminal the line is drawn over itself; elsewhere (only if asked for) there is one
 * a second. All of it goes to stderr, so that stdout stays clean. */
#ifndef EXAMPLES_PROGRESS_H
#define EXAMPLES_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define PROGRESS_WIDTH 30

struct progress {
    const char *unit; /* "files" */
    bool shown, terminal;
    double began, next; /* seconds */
};

static inline double progress_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static inline struct progress progress_begin(const char *unit, bool asked_for)
{
    struct progress progress = {.unit = unit, .began = progress_now()};
    progress.terminal = isatty(STDERR_FILENO);
    progress.shown = asked_for || progress.terminal;
    return progress;
}

/* "1,234,567" */
static inline const char *progress_number(uint64_t number, char text[32])
{
    char *end = text + 31;
    *end = '\0';
    for (int digits = 1;; digits++, number /= 10) {
        *--end = (char)('0' + number % 10);
        if (number < 10)
            return end;
        if (digits % 3 == 0)
            *--end = ',';
    }
}

/* "1 node", "40 nodes" */
static inline const char *progress_count(uint64_t number, const char *one,
                                         const char *many, char text[64])
{
    char digits[32];
    snprintf(text, 64, "%s %s", progress_number(number, digits),
             number == 1 ? one : many);
    return text;
}

/* `done` may count parts of what is running. total 0: not known. */
static inline void progress_show(struct progress *progress, double done, uint64_t total)
{
    const double now = progress_now();
    if (!progress->shown || now < progress->next)
        return;
    progress->next = now + (progress->terminal ? 0.1 : 1.0);
    const double share = total ? done / (double)total : 0;
    const double rate = done / (now - progress->began + 1e-9);
    char bar[PROGRESS_WIDTH + 1] = "", count[32], of[32], speed[32];
    for (int i = 0; i < PROGRESS_WIDTH; i++)
        bar[i] = i < share * PROGRESS_WIDTH ? '#' : '-';
    fprintf(stderr, "%s[%s] %3.0f %%  %s of %s %s  %s %s/s",
            progress->terminal ? "\r" : "", bar, 100 * share,
            progress_number((uint64_t)done, count), progress_number(total, of),
            progress->unit, progress_number((uint64_t)rate, speed), progress->unit);
    if (done > 0 && total)
        fprintf(stderr, "  %.0f s left", ((double)total - done) / rate);
    fputs(progress->terminal ? "\033[K" : "\n", stderr);
}

/* Clears the line; returns the seconds since the beginning. */
static inline double progress_end(struct progress *progress)
{
    if (progress->shown && progress->terminal)
        fputs("\r\033[K", stderr);
    progress->shown = false;
    return progress_now() - progress->began;
}

#endif
