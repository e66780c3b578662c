/* SPDX-License-Identifier: Apache-2.0
 *
 * coordinator/gate.h: who is let in to a coordinator with keys: its lists of keys and of
 * join tokens, which may change at any time, and the log of those who were not. It is the
 * core's keeper of keys too: it has tokens made, used and revoked. */
#ifndef FARPOOL_COORDINATOR_GATE_H
#define FARPOOL_COORDINATOR_GATE_H

#include "common/net/net.h"
#include "coordinator/core.h"

struct gate;

/* Reads a folder of keys. EKEY, ESYSTEM, ENOMEM. */
int gate_open(const char *folder, uint64_t now_ms, struct gate **ret_gate,
              farpool_error *error);
void gate_close(struct gate *gate); /* after the net that uses it; NULL allowed */

/* For net_listen; borrowed. NULL for NULL. */
const struct net_keys *gate_keys(const struct gate *gate);
void gate_wipe(struct gate *gate); /* the net has its copy of the secret; NULL allowed */

/* Reads the lists again if it is time and a file is another one; true: the links that
 * stand must be looked at again, also because a key has ended. While one cannot be read,
 * those that were read last are in force, and the log says so. NULL allowed, as below. */
bool gate_look(struct gate *gate, uint64_t now_ms);
uint64_t gate_deadline(const struct gate *gate);

/* Takes up an ENROL (of a token: holder), TOKEN_MAKE or TOKEN_REVOKE. ENOMEM. Not for
 * NULL. */
int gate_ask(struct gate *gate, uint64_t link, const struct holder *holder,
             const struct message *message, uint64_t now_ms);
/* Carries out all that was asked, and tells what became of it; false: there was nothing,
 * or the folder is locked by another process: gate_deadline says when to try again. */
typedef void gate_done_fn(void *user, uint64_t link, const struct coordinator_keys *keys);
bool gate_serve(struct gate *gate, uint64_t now_ms, gate_done_fn *done, void *user);

/* Somebody who has a good key for something else. */
void gate_log_refused(const struct holder *holder, const char *reason);

#endif
