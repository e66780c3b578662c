/* SPDX-License-Identifier: Apache-2.0
 *
 * holder.h: who stands behind a link: the key that its peer has proved to have, and what
 * the coordinator's list says of it. docs/security.md tells what each role may do. */
#ifndef FARPOOL_BASE_HOLDER_H
#define FARPOOL_BASE_HOLDER_H

#include "common/base/id.h"

#define HOLDER_NAME_MAX 63 /* of [A-Za-z0-9_.-] */

/* As chars, so that logs and files of tests can show them. */
enum holder_role {
    HOLDER_NONE = 0, /* no keys are in use: everybody on this machine may do everything */
    HOLDER_CLIENT = 'C',
    HOLDER_WORKER = 'W',
    HOLDER_ADMIN = 'A',
    HOLDER_RELAYED = 'R', /* a client inside a process of a worker: the worker's key */
    HOLDER_TOKEN = 'T',   /* a join token, by its id: may enrol a worker's key */
    HOLDER_COORDINATOR = 'K',
};

struct holder {
    enum holder_role role;
    char name[HOLDER_NAME_MAX + 1];
    struct hash key; /* the public key; all zero with HOLDER_NONE */
};

static inline const char *holder_role_name(enum holder_role role)
{
    switch (role) {
    case HOLDER_CLIENT:
        return "client";
    case HOLDER_WORKER:
        return "worker";
    case HOLDER_ADMIN:
        return "admin";
    case HOLDER_RELAYED:
        return "client inside a worker";
    case HOLDER_TOKEN:
        return "token";
    case HOLDER_COORDINATOR:
        return "coordinator";
    case HOLDER_NONE:
        break;
    }
    return "none";
}

static inline bool holder_equal(const struct holder *a, const struct holder *b)
{
    return a->role == b->role && hash_equal(&a->key, &b->key) &&
           strcmp(a->name, b->name) == 0;
}

#endif
