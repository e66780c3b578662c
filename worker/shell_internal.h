/* SPDX-License-Identifier: Apache-2.0
 *
 * shell_internal.h: what the files of the worker's shell share: shell.c is the loop and
 * its start and end, shell_effects.c carries out effects, shell_shared.c those about
 * shared inputs, shell_relay.c passes on
 * messages of clients inside processes, shell_signals.c hears signals and reaps orphans,
 * shell_join.c dials: with the worker's key, or first with a join token; shell_site.c
 * drains by itself, at a time or when there is nothing to do; shell_lanes.c listens for
 * clients and other workers, and dials the latter.
 */
#ifndef FARPOOL_WORKER_SHELL_INTERNAL_H
#define FARPOOL_WORKER_SHELL_INTERNAL_H

#include "common/base/mem.h"
#include "common/net/net.h"
#include "common/sys/memory.h"
#include "common/sys/notify.h"
#include "worker/cache.h"
#include "worker/host.h"
#include "worker/shell.h"
#include "worker/store.h"

#define HASH_NONFATAL_OOM 1
#define uthash_malloc(size) mem_alloc(size)
#define uthash_free(memory, size) mem_free(memory)
#define uthash_nonfatal_oom(element) ((void)(element))
#include <bsd/sys/queue.h>
#include <uthash.h>

#define SHELL_QUEUE_BYTES_MAX (UINT64_C(4) << 30) /* waiting to go out, of a link */

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
    uint64_t serial, offset;
    int code;
    char text[256];
};
STAILQ_HEAD(shared_answer_list, shared_answer);

/* A process in which a client has spoken. */
struct relayer {
    uint64_t process;
    bool lost; /* it is to be told so: there was no memory */
    UT_hash_handle hh;
};

/* Another worker that is dialled. */
struct dial {
    SLIST_ENTRY(dial) entry;
    uint64_t lane; /* the core's number */
    struct net *net;
    uint64_t link;      /* of net; 0: not connected */
    struct pollfd *fds; /* slept on, of net */
    bool hanging_up;    /* over for the core: closed behind this batch */
};
SLIST_HEAD(dial_list, dial);

/* At most so many descriptors are slept on for lanes. */
#define LANES_WAIT_FDS (NET_WAIT_FDS * (1 + WORKER_DIALS_MAX))

struct lanes {
    bool keyed;
    struct net_keys keys; /* this worker's pair, for who dials it and whom it dials */
    struct net *listener; /* NULL: not open */
    bool failed;          /* and will not be, which the log has told */
    uint64_t refusals, refusals_ms; /* logged in this second, which ends then */
    char address[ADDRESS_MAX + 1];  /* where others may dial */
    struct dial_list dials;
};

struct shell {
    const struct worker_options *options;
    struct worker_core *core;
    struct worker_effects effects;
    struct net *net;
    struct lanes lanes;
    struct host *host;
    struct cache *cache;
    struct store *store;
    struct id id;      /* of this worker */
    struct logs *logs; /* the last lines, of this daemon and its processes */
    struct answer_list answers;
    struct shared_answer_list shared_answers;
    struct relayer *relayers;
    bool relays_lost;  /* some are */
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
    struct memory memory;
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
/* To the coordinator (lane 0), or over a lane. */
void shell_send(struct shell *shell, uint64_t lane, struct message **message);

/* shell_shared.c */
bool shell_carry_out_shared(struct shell *shell, const struct worker_effect *effect);
void shell_step_shared(struct shell *shell);
void shell_shared_fini(struct shell *shell); /* the store too */

/* shell_relay.c */
bool shell_relay_send(void *user, uint64_t process, struct frames *frames); /* on_relay */
void shell_relay_receive(struct shell *shell, const struct message *message);
void shell_relay_gone(struct shell *shell, uint64_t process);
void shell_relay_link_down(struct shell *shell);
void shell_relay_turn(struct shell *shell);
uint64_t shell_relay_deadline(const struct shell *shell);
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

/* shell_lanes.c */
void shell_lanes_keys(struct shell *shell, const struct net_keys *keys); /* copied */
/* Opens the listener, unless it is, on the link's side of this machine: the address that
 * others may dial; NULL: none. */
const char *shell_lanes_address(struct shell *shell);
void shell_lanes_send(struct shell *shell, uint64_t lane, struct message **message);
void shell_lanes_dial(struct shell *shell, const struct worker_effect *effect);
void shell_lanes_hang_up(struct shell *shell, const struct worker_effect *effect);
void shell_lanes_poll(struct shell *shell);  /* in each batch: what has come */
void shell_lanes_flush(struct shell *shell); /* behind it */
/* Around poll(2), as net_wait_begin and net_wait_end: at most LANES_WAIT_FDS. */
int shell_lanes_wait_begin(struct shell *shell, struct pollfd *fds, int *timeout_ms);
void shell_lanes_wait_end(struct shell *shell, const struct pollfd *fds);
uint64_t shell_lanes_deadline(const struct shell *shell); /* UINT64_MAX: none */
void shell_lanes_close(struct shell *shell, int linger_ms);

/* shell_signals.c */
int shell_open_signals(struct shell *shell, farpool_error *error);
void shell_take_signals(struct shell *shell);
/* Drains; when it drains already: stops. */
void shell_stop_further(struct shell *shell, const char *why);
void shell_reap_orphans(struct shell *shell);

#endif
