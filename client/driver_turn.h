/* SPDX-License-Identifier: Apache-2.0
 *
 * client/driver_turn.h: the steps of driving a pool, for driver.c, which tells whose turn
 * it is. All with the pool's mutex held. */
#ifndef FARPOOL_CLIENT_DRIVER_TURN_H
#define FARPOOL_CLIENT_DRIVER_TURN_H

#include "client/pool.h"

bool driver_is_thread(const farpool_pool *pool); /* this is the result thread */
/* Whether somebody has to run the loop; whether processes are to be started, and the user
 * is to be called, on the result thread; when the cores are due, in ms. */
bool driver_has_work(const farpool_pool *pool);
bool driver_has_starts(const farpool_pool *pool);
bool driver_has_calls(const farpool_pool *pool);
uint64_t driver_deadline(const farpool_pool *pool);

void driver_wake(farpool_pool *pool); /* who drives, if he sleeps */
/* Whoever waits looks again: on `changed`, as the driver, or for several pools. */
void driver_tell(farpool_pool *pool);

/* Moves everything until nothing moves; whether anything did. When done(arg) is true
 * before that, if there is one, the rest is left for the next turn. */
bool driver_take_turn(farpool_pool *pool, bool (*done)(void *arg), void *arg);
/* Looks again for some microseconds, if that may be shorter than being woken; whether
 * anything came. */
bool driver_spin(farpool_pool *pool);
/* With the mutex released meanwhile. */
void driver_sleep(farpool_pool *pool, uint64_t until_ms);

#endif
