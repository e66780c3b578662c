/* SPDX-License-Identifier: Apache-2.0
 *
 * query.h: one question to a coordinator, without a pool. */
#ifndef FARPOOL_CLIENT_QUERY_H
#define FARPOOL_CLIENT_QUERY_H

#include "common/base/message.h"
#include "common/net/net.h"
#include "farpool.h"

struct query {
    const char *call;         /* for error texts: "status" */
    struct message *question; /* taken over; NULL: there was no memory for it */
    enum message_kind answer; /* what is waited for */
    enum message_kind also;   /* the same; MESSAGE_NONE: nothing else */
    /* Takes one answer; not 0: it ends with that code. */
    int (*take)(void *user, const struct message *answer, bool *ret_complete);
    /* NULL: one question is all. Else called when the answer is complete, for the next
     * one, which is asked again_ms later (NULL: no memory); `take` may end it all by
     * making it NULL. */
    struct message *(*again)(void *user);
    uint32_t again_ms;
    uint64_t patience_ms; /* for each answer but the first; 0: as for the first */
    /* The connection broke in between: what was taken is void, and asked for again. */
    void (*restart)(void *user);
    void *user;
    uint32_t asked; /* by query_ask: how often the question went out, each time on another
                       connection, since the last one broke before the answer came */
    /* NULL: as a client, with FARPOOL_KEY. Else with these keys, and the question is the
     * first and only word. */
    const struct net_keys *keys;
};

/* Blocks until `take` says that it is complete, and there is no `again`;
 * timeout_ms is for each answer. address NULL: FARPOOL_COORDINATOR. 0;
 * EADDRESS; EINVAL: timeout_ms; ENOCOORDINATOR: no answer in time; ENOMEM; or the code
 * with which the coordinator refused this client. */
int query_ask(struct query *query, const char *address, int64_t timeout_ms,
              farpool_error *error);

/* operator.c: an id as id_text writes it; false: it is none. */
bool query_parse_id(const char *text, struct id *ret_id);

#endif
