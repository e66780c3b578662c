/* SPDX-License-Identifier: Apache-2.0
 *
 * detached/service.h: detached jobs: what clients ask about them, and a client inside the
 * coordinator that runs each. One thread owns a service; it knows the coordinator only by
 * links: what it says on them, and what it is told (docs/detached.md).
 *
 * Use: what came is taken (service_take), then one service_turn: all that was taken is on
 * the disk before anything of it is answered, ACKed or gone on with. Then what is in
 * service_outs is carried out, in order. */
#ifndef FARPOOL_DETACHED_SERVICE_H
#define FARPOOL_DETACHED_SERVICE_H

#include "common/base/holder.h"
#include "common/base/message.h"

struct service;

struct service_config {
    const char *folder;  /* of the store; borrowed for the service's life */
    uint64_t bytes_max;  /* of the store */
    uint64_t keep_s;     /* a job that has ended is removed after so long */
    uint64_t first_link; /* the first number for links of its own clients */
    uint64_t seed;
    uint32_t pid;
    /* Pure functions of time and chance, for tests to choose. */
    uint64_t (*wall_ms)(void);
};

enum service_in_kind {
    SERVICE_REQUEST,    /* message of a client: holder (NULL: no keys are in use) */
    SERVICE_INNER,      /* message for a client of its own */
    SERVICE_INNER_DOWN, /* the coordinator dropped that client's link */
};

struct service_in {
    enum service_in_kind kind;
    uint64_t link;
    struct message *message; /* taken over */
    struct holder holder;    /* role NONE: no keys */
};

enum service_out_kind {
    SERVICE_ANSWER,  /* message to the link of a client */
    SERVICE_SAY,     /* message of a client of its own, on that link: holder */
    SERVICE_HANG_UP, /* that link is over */
    SERVICE_DROP,    /* the link of a client: no memory for its answer; it asks again */
    SERVICE_LOG,     /* level, event, text */
};

struct service_out {
    enum service_out_kind kind;
    uint64_t link;
    struct message *message; /* to be taken over */
    struct holder holder;    /* SAY: whose pool it is */
    int level;               /* enum log_level */
    const char *event;
    char text[512];
};

/* Opens the store. A store that cannot be opened is no error here: it is logged, all that
 * is asked is answered with the reason, and it is tried again. ENOMEM. */
int service_create(const struct service_config *config, uint64_t now_ms,
                   struct service **ret_service);
void service_destroy(struct service *service); /* NULL allowed */

/* false: no memory; nothing is taken: to be tried again, before all that came later. */
bool service_take(struct service *service, struct service_in *in, uint64_t now_ms);
void service_turn(struct service *service, uint64_t now_ms);
uint64_t service_deadline(const struct service *service);

/* What is to be carried out; messages that are left are freed by the next clear. */
struct service_out *service_outs(struct service *service, size_t *ret_count);
void service_clear(struct service *service);

#endif
