/* SPDX-License-Identifier: Apache-2.0
 *
 * coordinator/core.h: every decision of the coordinator, as a function from state and
 * event to effects. Touches no socket, clock, file or random source; docs/scheduling.md
 * and docs/failure.md tell what it decides and why.
 *
 * Use: a batch of events, one step each, ended by one COORDINATOR_FLUSH, in which tasks
 * are matched to workers and what waits for the same peer is put together. Then the
 * effects are carried out in order, and the core is called again at its deadline at the
 * latest (with COORDINATOR_FLUSH). */
#ifndef FARPOOL_COORDINATOR_CORE_H
#define FARPOOL_COORDINATOR_CORE_H

#include "common/base/holder.h"
#include "common/base/logs.h"
#include "common/base/message.h"

#include <stdbool.h>
#include <stdint.h>

struct coordinator_config {
    struct id coordinator;     /* made at random by the shell at each start */
    uint32_t workers_max;      /* EWORKERLIMIT beyond */
    uint32_t clients_max;      /* EFULL beyond */
    uint32_t pools_max;        /* in all; EFULL beyond */
    uint32_t jobs_max;         /* in all; EFULL beyond */
    uint64_t client_tasks_max; /* a client's tasks under way */
    uint64_t client_bytes_max; /* input bytes of the same; one larger task is let through
                                  when nothing else of that client is under way */
    uint64_t result_bytes_max; /* of one worker's results not yet ACKed; the same */
    uint64_t body_bytes_max;   /* largest input or output */
    uint32_t heartbeat_ms;     /* default 1000 */
    uint32_t silence_ms;       /* default 5000 */
    uint32_t settle_ms;        /* after start, resumed jobs wait so long for workers to
                                  tell what they still hold; default 1500 */
    /* The id that a pool of this key and seed must have: a pure function, the shell's
     * since it hashes. NULL: who has a key opens no pool. */
    void (*pool_id)(const struct hash *key, const struct id *seed, struct id *ret_pool);
    const struct logs *logs; /* the daemon's own lines, borrowed; NULL: none */
    /* The ticket of an introduction, which nobody can guess without the secret: a pure
     * function, as pool_id. NULL: nobody is introduced. */
    void (*ticket)(const struct hash *secret, uint64_t number, struct id *ret_ticket);
    struct hash secret; /* made at random by the shell at each start */
};

/* Fills every limit with its default; the id stays zero. */
void coordinator_config_init(struct coordinator_config *config);

enum coordinator_event_kind {
    COORDINATOR_MESSAGE,   /* link, *message (taken over) */
    COORDINATOR_LINK_DOWN, /* link, text: the transport lost it */
    COORDINATOR_KEYS_DONE, /* link, keys: what became of a COORDINATOR_KEYS */
    COORDINATOR_FLUSH,     /* the batch is over, or the deadline came */
};

/* What the keeper of keys says to a message. */
struct coordinator_keys {
    uint32_t request;               /* of the message; of ENROL: 0 */
    int code;                       /* 0, or FARPOOL_E*: why not */
    char text[256];                 /* why not, and what to do */
    char name[HOLDER_NAME_MAX + 1]; /* ENROL: what the key is called */
    uint64_t left_s;                /* ENROL: seconds until it ends; 0: it does not */
};

struct coordinator_event {
    enum coordinator_event_kind kind;
    uint64_t now_ms;         /* monotonic, from any origin */
    uint64_t link;           /* never 0; numbers are never reused by the shell */
    struct message *message; /* moved into the core (set to NULL by the step) */
    const char *text;
    const struct holder *holder; /* MESSAGE: whose link it is; NULL: no keys are in use.
                                    The first message of a link decides */
    const struct coordinator_keys *keys; /* KEYS_DONE */
    bool behind; /* FLUSH: more messages are there, so nobody is known to be silent */
};

enum coordinator_effect_kind {
    COORDINATOR_SEND, /* message to link */
    COORDINATOR_DROP, /* close link, after what was sent to it has gone out; code, text.
                         The core has forgotten it: no LINK_DOWN is expected */
    COORDINATOR_KEYS, /* message (ENROL, TOKEN_MAKE or TOKEN_REVOKE) of link, who may say
                         it: for the keeper of keys, who answers with a KEYS_DONE, unless
                         the link is gone by then */
    COORDINATOR_DETACHED, /* message of link (SUBMIT and all that is about detached jobs):
                             for their keeper, who answers it, unless the link is gone */
};

struct coordinator_effect {
    enum coordinator_effect_kind kind;
    uint64_t link;
    struct message *message; /* the shell takes it over (sets it NULL) */
    int code;
    char text[256];
};

/* Growing array, reused between batches: the shell empties it. */
struct coordinator_effects {
    struct coordinator_effect *items;
    size_t count, capacity;
};
/* Frees messages left in it, and the array. */
void coordinator_effects_clear(struct coordinator_effects *effects); /* keeps the array */
void coordinator_effects_fini(struct coordinator_effects *effects);

struct coordinator_core;
int coordinator_core_create(const struct coordinator_config *config, uint64_t now_ms,
                            struct coordinator_core **ret_core);
void coordinator_core_destroy(struct coordinator_core *core);

/* One event. 0, or ENOMEM: then nothing has changed, no effect was added, and the event
 * may be tried again. FLUSH always returns 0: what had no memory is tried again, and the
 * deadline says when. */
int coordinator_core_step(struct coordinator_core *core, struct coordinator_event *event,
                          struct coordinator_effects *effects);

/* When to step with COORDINATOR_FLUSH at the latest, in the events' time; UINT64_MAX:
 * no need. */
uint64_t coordinator_core_deadline(const struct coordinator_core *core);

/* Asserts every invariant. For tests and the simulator: O(everything). */
void coordinator_core_check(const struct coordinator_core *core);

/* For logs and status lines. */
struct coordinator_counts {
    uint64_t workers, clients, pools, jobs, waiting, assigned, done;
};
void coordinator_core_counts(const struct coordinator_core *core,
                             struct coordinator_counts *ret_counts);

#endif
