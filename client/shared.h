/* SPDX-License-Identifier: Apache-2.0
 *
 * client/shared.h: what a pool shares, seen from the client: each input is a descriptor,
 * of a sealed memory or of a file, from which nodes are given pieces, and which the
 * processes of an embedded pool map themselves. */
#ifndef FARPOOL_CLIENT_SHARED_H
#define FARPOOL_CLIENT_SHARED_H

#include "common/base/message.h"

#include <stdint.h>

struct shared_input {
    uint64_t number, size;
    struct hash content;
    int fd;
    struct shared_input *next;
};

struct shared_inputs {
    struct shared_input *first; /* the latest one first */
    uint64_t last;              /* number of the latest ever */
    uint32_t count, pieces;
};

const struct shared_input *shared_find(const struct shared_inputs *inputs,
                                       const struct hash *content); /* or NULL */
void shared_fini(struct shared_inputs *inputs);

#endif
