/* SPDX-License-Identifier: Apache-2.0
 *
 * idle.h: what a pool costs while nothing is asked of it. */
#ifndef FARPOOL_BENCH_IDLE_H
#define FARPOOL_BENCH_IDLE_H

/* Waits a millisecond, and then a second: what share of a core this program and all that
 * it has started used in that second, in percent. -1: what it has started cannot be told.
 */
double idle_percent(void);

#endif
