/* SPDX-License-Identifier: Apache-2.0
 *
 * client/process.h: the inside of a pool process, for the rest of libfarpool. */
#ifndef FARPOOL_CLIENT_PROCESS_H
#define FARPOOL_CLIENT_PROCESS_H

#include "common/base/message.h"

#include <stdbool.h>

/* Whether this process was started by a pool; decided by farpool_init. */
bool process_is_pool_process(void);

/* Never returns: attaches, runs the initializer, serves tasks, exits. */
void process_serve(void) __attribute__((noreturn));

/* Nested clients: only on the thread that runs a task. ----------------------------- */

/* The pool that this process belongs to. */
const struct id *process_pool(void);

/* Sends one encoded message to the coordinator through this node's worker, copying it.
 * Blocks while the queue is full. ENOMEM, ETOOBIG. */
int process_relay_send(const struct frames *frames);

/* Takes one message for this process's client: 0, or FARPOOL_END when none is there. */
int process_relay_receive(struct frames *ret_frames);

/* Sleeps until a message may be there or the time (CLOCK_MONOTONIC ms) has come. */
void process_relay_wait(uint64_t until_ms);

/* Tells the worker that the task begins, or ceases, to wait for a nested job. */
void process_set_blocked(bool blocked);

/* Which task of its job it is, also of calls. */
uint64_t process_task_index(const farpool_task *task);

#endif
