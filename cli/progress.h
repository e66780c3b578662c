/* SPDX-License-Identifier: Apache-2.0
 *
 * progress.h: one line on standard error that tells how far a map is: silent unless it
 * was asked for and standard error is a terminal. */
#ifndef FARPOOL_CLI_PROGRESS_H
#define FARPOOL_CLI_PROGRESS_H

#include <farpool.h>

#include <pthread.h>

struct cli_progress {
    pthread_mutex_t mutex;
    bool shown;   /* asked for, and to a terminal */
    bool visible; /* a line stands there now */
    uint64_t started_ms, drawn_ms;
};

/* Call before anything else. */
void cli_progress_open(struct cli_progress *bar, bool wanted);
/* Draws it again, at most every 100 ms. */
void cli_progress_show(struct cli_progress *bar, const farpool_progress *progress,
                       uint64_t done, uint64_t failed);
/* Takes it away, so that other lines can be written. */
void cli_progress_hide(struct cli_progress *bar);
/* The same from another thread: until unlock it is not drawn again. */
void cli_progress_lock(struct cli_progress *bar);
void cli_progress_unlock(struct cli_progress *bar);
void cli_progress_close(struct cli_progress *bar);

#endif
