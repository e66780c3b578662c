/* SPDX-License-Identifier: Apache-2.0
 *
 * coordinator/gate_asks.h: what the gate was asked to change, until it is done. */
#ifndef FARPOOL_COORDINATOR_GATE_ASKS_H
#define FARPOOL_COORDINATOR_GATE_ASKS_H

#include "coordinator/gate.h"

struct gate_asks;

struct gate_asks *gate_asks_create(void); /* NULL: no memory */
void gate_asks_destroy(struct gate_asks *asks);

/* ENOMEM. */
int gate_asks_add(struct gate_asks *asks, uint64_t link, const struct holder *holder,
                  const struct message *message, uint64_t now_ms);
/* true: all have their outcome, good or bad; false: there are none, or not yet. */
bool gate_asks_apply(struct gate_asks *asks, const char *folder, int64_t clock_s,
                     uint64_t now_ms);
/* Tells the outcomes, and forgets them; true: there were some. */
bool gate_asks_tell(struct gate_asks *asks, gate_done_fn *done, void *user);
/* When to apply; UINT64_MAX: there are none. */
uint64_t gate_asks_deadline(const struct gate_asks *asks);

#endif
