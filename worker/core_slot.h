/* SPDX-License-Identifier: Apache-2.0
 *
 * core_slot.h: which slot's number a process has, for its whole life. */
#ifndef FARPOOL_WORKER_CORE_SLOT_H
#define FARPOOL_WORKER_CORE_SLOT_H

#include <stdint.h>

struct worker_core;
struct pool;
struct process;

struct slot {
    uint32_t alive;   /* processes with this number */
    uint32_t running; /* of those, RUNNING or YIELDING */
    uint32_t own;     /* while one is chosen: of the pool, and not blocked */
};

/* The number for one more process of the pool. */
uint32_t worker_slot_choose(struct worker_core *core, struct pool *pool);
/* The process came into its state, or is about to leave it. */
void worker_slot_enter(struct worker_core *core, const struct process *process);
void worker_slot_leave(struct worker_core *core, const struct process *process);
/* The pool's idle process that is used next; there must be one. */
struct process *worker_slot_next(struct worker_core *core, struct pool *pool);

#endif
