/* SPDX-License-Identifier: Apache-2.0
 *
 * worker/store.h: the bytes of shared inputs on this node: each content once, in a memory
 * that is sealed when it is whole, all of them together bounded. */
#ifndef FARPOOL_WORKER_STORE_H
#define FARPOOL_WORKER_STORE_H

#include "common/base/id.h"
#include "common/base/payload.h"
#include "farpool.h"

#include <stdint.h>

struct store;

/* node: for texts, borrowed. bytes_max: of all contents together. NULL: out of memory. */
struct store *store_create(const char *node, uint64_t bytes_max);
void store_destroy(struct store *store); /* NULL allowed */

/* Makes room for a content. hashes: of its pieces, 32 bytes each, referred to. ENOSPACE,
 * naming node, size and limit; EPROTOCOL: they are not what its name says; ENOMEM,
 * ENOFILES, ESYSTEM. */
int store_open(struct store *store, const struct hash *content, uint64_t size,
               struct payload *hashes, farpool_error *error);
void store_close(struct store *store, const struct hash *content); /* unknown: nothing */

/* Writes a piece of the right size. EPROTOCOL: it is not what its hash says, and not
 * written; ENOSPACE, ESYSTEM: nor could another be. */
int store_write(struct store *store, const struct hash *content, uint32_t piece,
                const struct payload *data, farpool_error *error);
/* Some bytes of a piece that is there. NULL: *ret_code tells why. */
struct payload *store_read(const struct store *store, const struct hash *content,
                           uint64_t offset, uint64_t bytes, int *ret_code);
/* It is whole: nobody can change it from now on. Its descriptor, the store's, or a
 * negative code. */
int store_seal(struct store *store, const struct hash *content, uint64_t *ret_size,
               farpool_error *error);

#endif
