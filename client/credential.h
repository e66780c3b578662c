/* SPDX-License-Identifier: Apache-2.0
 *
 * client/credential.h: the key that the environment's FARPOOL_KEY names. */
#ifndef FARPOOL_CLIENT_CREDENTIAL_H
#define FARPOOL_CLIENT_CREDENTIAL_H

#include "common/net/net.h"

/* net_dial for a client, with that key if there is one; config->keys is not looked at.
 * ret_key: the public key, zero if there is none; NULL allowed.
 * Also EKEY (the file, or a worker's key), ESYSTEM, ENOMEM. */
int credential_dial(const struct net_config *config, struct net **ret_net,
                    struct hash *ret_key, farpool_error *error);

/* The coordinator's public key, as the key file has it. EKEY: FARPOOL_KEY is not set, or
 * its file is none that a client uses; ESYSTEM, ENOMEM. */
int credential_server(struct hash *ret_server, farpool_error *error);

/* Nobody answered `call` in time: returns ENOCOORDINATOR, with why, as far as the system
 * knows (which takes a second at most, and the resolver's time). Somebody listens there:
 * `else_why`, or if NULL, about keys, since a handshake that is broken off does not
 * always tell that it was because of the key. */
int credential_absent(const char *call, const char *address, int64_t timeout_ms,
                      const char *else_why, farpool_error *error);

#endif
