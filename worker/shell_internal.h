/* SPDX-License-Identifier: Apache-2.0
 *
 * shell_internal.h: what the files of the worker's shell share: shell.c is the loop and
 * its start and end, shell_effects.c carries out effects, shell_shared.c those about
 * shared inputs, shell_relay.c passes on
 * messages of clients inside processes, shell_signals.c hears signals and reaps orphans,
 * shell_join.c dials: with the worker's key, or first with a join token; shell_site.c
 * drains by itself, at a time or when there is nothing to do.
 */
#ifndef FARPOOL_WORKER_SHELL_INTERNAL_H
#define FARPOOL_WORKER_SHELL_INTERNAL_H

#include "common/base/mem.h"
#include "common/net/net.h"
#include "common/sys/notify.h"
#include "worker/cache.h"
#include "worker/host.h"
#include "worker/shell.h"
#include "worker/store.h"

#define HASH_NONFATAL_OOM 1
#define uthash_malloc(size) mem_alloc(size)
#define uthash_free(memory, size) mem_free(memory)
#define uthash_nonfatal_oom(element) ((void)(element))
#include <sys/queue.h>
#include <uthash.h>

enum stage { SERVING, DRAINING, STOPPING, ENDED, FAILED };

/* An answer of the cache, for the next batch. */
struct answer {
    STAILQ_ENTRY(answer) entry;
    struct hash program;
    struct cache_answer cache;
};
STAILQ_HEAD(answer_list, answer);

/* The same of the store. */
struct shared_answer {
    STAILQ_ENTRY(shared_answer) entry;
    enum worker_event_kind kind;
    struct hash content;
    uint64_t offset;
    int code;
    char text[256];
};
STAILQ_HEAD(shared_answer_list, shared_answer);

/* A process in which a client has spoken. */
struct relayer {
    uint64_t process;
    UT_hash_handle hh;
};

struct shell {
    const struct worker_options *options;
    struct worker_core *core;
    struct worker_effects effects;
    struct net *net;
    struct host *host;
    struct cache *cache;
    struct store *store;
    struct id id;      /* of this worker */
    struct logs *logs; /* the last lines, of this daemon and its processes */
    struct answer_list answers;
    struct shared_answer_list shared_answers;
    struct relayer *relayers;
    uint64_t link;     /* to the coordinator; 0: none */
    uint64_t welcomed; /* the last link on which it took this node in */
    uint64_t dialled_ms;
    bool absence_told;       /* that nobody answers there */
    bool refusal_told;       /* that the key was refused */
    bool reap_due;           /* a child has ended */
    struct key_file joining; /* the key that is being listed */
    bool joined;             /* it is: to be dialled with, after this batch */
    bool join_ended;         /* by a token, or there was none */
    struct notify notify;
    int signals; /* signalfd */
    enum stage stage;
    uint64_t now_ms;
    uint64_t idle_since_ms; /* nothing to do since then; 0: there is */
};

/* shell.c */
void shell_step(struct shell *shell, struct worker_event *event);
void shell_trace(const char *event, const struct message *message);

/* shell_effects.c */
void shell_carry_out(struct shell *shell);
void shell_work_on_cache(struct shell *shell); /* a little, if there is something */
void shell_step_answers(struct shell *shell);
void shell_send(struct shell *shell, struct message **message); /* to the coordinator */

/* shell_shared.c */
bool shell_carry_out_shared(struct shell *shell, const struct worker_effect *effect);
void shell_step_shared(struct shell *shell);
void shell_shared_fini(struct shell *shell); /* the store too */

/* shell_relay.c */
void shell_relay_send(void *user, uint64_t process, struct frames *frames); /* on_relay */
void shell_relay_receive(struct shell *shell, const struct message *message);
void shell_relay_gone(struct shell *shell, uint64_t process);
void shell_relay_link_down(struct shell *shell);
void shell_relay_fini(struct shell *shell);

/* shell_join.c */
int shell_join_dial(struct shell *shell, farpool_error *error); /* opens shell->net */
/* While it joins: what the net tells is not for the core yet. */
static inline bool shell_is_joining(const struct shell *shell)
{
    return !shell->join_ended;
}
void shell_join_event(struct shell *shell, struct net_event *event);
void shell_join_finish(struct shell *shell); /* after each batch */

/* shell_site.c */
void shell_look_at_site(struct shell *shell);            /* in each batch */
uint64_t shell_site_deadline(const struct shell *shell); /* UINT64_MAX: none */

/* shell_signals.c */
int shell_open_signals(struct shell *shell, farpool_error *error);
void shell_take_signals(struct shell *shell);
/* Drains; when it drains already: stops. */
void shell_stop_further(struct shell *shell, const char *why);
void shell_reap_orphans(struct shell *shell);

#endif
