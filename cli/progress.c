/* SPDX-License-Identifier: Apache-2.0
 *
 * progress.c: the progress line of `farpool map`. The end of the input may not be known
 * yet (lines are read as they are needed); then it shows counts and the rate only. */
#include "cli/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { REDRAW_MS = 100, WIDTH = 24 };

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void cli_progress_open(struct cli_progress *bar, bool wanted)
{
    *bar = (struct cli_progress){
        .mutex = PTHREAD_MUTEX_INITIALIZER,
        .shown = wanted && isatty(STDERR_FILENO),
        .started_ms = now_ms(),
    };
}

static void draw_bar(uint64_t done, uint64_t total)
{
    char cells[WIDTH + 1];
    size_t full = (size_t)(done * WIDTH / total);
    memset(cells, '.', WIDTH);
    memset(cells, '#', full < WIDTH ? full : WIDTH);
    cells[WIDTH] = '\0';
    fprintf(stderr, "[%s] %3" PRIu64 "%% ", cells, done * 100 / total);
}

static void draw(struct cli_progress *bar, const farpool_progress *progress,
                 uint64_t done, uint64_t failed, uint64_t now)
{
    double seconds = (double)(now - bar->started_ms) / 1000;
    double rate = seconds > 0 ? (double)done / seconds : 0;
    fputs("\r\033[K", stderr);
    if (progress->total)
        draw_bar(done, progress->total);
    fprintf(stderr, "%" PRIu64 " done, %" PRIu64 " running, %" PRIu64 " waiting", done,
            progress->running, progress->waiting);
    if (failed)
        fprintf(stderr, ", %" PRIu64 " failed", failed);
    fprintf(stderr, ", %.1f/s", rate);
    if (progress->total && rate > 0)
        fprintf(stderr, ", %.0f s left", (double)(progress->total - done) / rate);
    bar->visible = true;
    bar->drawn_ms = now;
}

void cli_progress_show(struct cli_progress *bar, const farpool_progress *progress,
                       uint64_t done, uint64_t failed)
{
    uint64_t now = now_ms();
    if (!bar->shown)
        return;
    pthread_mutex_lock(&bar->mutex);
    if (!bar->visible || now - bar->drawn_ms >= REDRAW_MS)
        draw(bar, progress, done, failed, now);
    pthread_mutex_unlock(&bar->mutex);
}

void cli_progress_lock(struct cli_progress *bar)
{
    pthread_mutex_lock(&bar->mutex);
    if (bar->visible)
        fputs("\r\033[K", stderr);
    bar->visible = false;
}

void cli_progress_unlock(struct cli_progress *bar)
{
    pthread_mutex_unlock(&bar->mutex);
}

void cli_progress_hide(struct cli_progress *bar)
{
    cli_progress_lock(bar);
    cli_progress_unlock(bar);
}

void cli_progress_close(struct cli_progress *bar)
{
    cli_progress_hide(bar);
    pthread_mutex_destroy(&bar->mutex);
}
