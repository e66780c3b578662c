/* SPDX-License-Identifier: Apache-2.0
 *
 * coordinator/gate.h: who is let in to a coordinator with keys: its list, which may
 * change at any time, and the log of those who were not. */
#ifndef FARPOOL_COORDINATOR_GATE_H
#define FARPOOL_COORDINATOR_GATE_H

#include "common/net/net.h"

struct gate;

/* Reads a folder of keys. EKEY, ESYSTEM, ENOMEM. */
int gate_open(const char *folder, uint64_t now_ms, struct gate **ret_gate,
              farpool_error *error);
void gate_close(struct gate *gate); /* after the net that uses it; NULL allowed */

/* For net_listen; borrowed. NULL for NULL. */
const struct net_keys *gate_keys(const struct gate *gate);
void gate_wipe(struct gate *gate); /* the net has its copy of the secret; NULL allowed */

/* Reads the list again if it is time and the file is another one; true: the links that
 * stand must be looked at again. While it cannot be read, the one that was read last is
 * in force, and the log says so. NULL allowed, as below. */
bool gate_look(struct gate *gate, uint64_t now_ms);
uint64_t gate_deadline(const struct gate *gate);

/* Somebody who has a good key for something else. */
void gate_log_refused(const struct holder *holder, const char *reason);

#endif
