/* SPDX-License-Identifier: Apache-2.0
 *
 * shell_internal.h: what the files of the coordinator's shell share: shell.c is the loop
 * and its start and end, shell_peers.c hears what peers say and that they go,
 * shell_effects.c carries out what the core wants. */
#ifndef FARPOOL_COORDINATOR_SHELL_INTERNAL_H
#define FARPOOL_COORDINATOR_SHELL_INTERNAL_H

#include "common/base/mem.h"
#include "common/net/net.h"
#include "common/sys/memory.h"
#include "common/sys/notify.h"
#include "common/sys/sys.h"
#include "coordinator/gate.h"
#include "coordinator/relay.h"
#include "coordinator/shell.h"
#include "detached/detached.h"

#define HASH_NONFATAL_OOM 1
#define uthash_malloc(size) mem_alloc(size)
#define uthash_free(memory, size) mem_free(memory)
#define uthash_nonfatal_oom(element) ((void)(element))
#include <uthash.h>

enum stage { SERVING, DRAINING, ENDED, FAILED };

/* Whom a link is of, for the log; and that the core knows it. */
struct peer {
    uint64_t link;
    enum message_kind hello; /* HELLO_CLIENT, HELLO_WORKER or ENROL */
    char name[160];
    struct holder holder; /* with keys */
    UT_hash_handle hh;
};

struct shell {
    const struct coordinator_options *options;
    struct coordinator_core *core;
    struct coordinator_effects effects;
    struct logs *logs; /* this daemon's last lines */
    struct net *net;
    struct gate *gate; /* NULL: no keys */
    struct relay *relay;
    struct detached *detached;     /* NULL: no state folder, or shutting down */
    const struct holder *relaying; /* whose RELAY is being read */
    struct peer *peers;
    struct notify notify;
    struct memory memory;
    int signals; /* signalfd */
    enum stage stage;
    uint64_t now_ms;
};

/* shell_peers.c */
struct peer *shell_find_peer(const struct shell *shell, uint64_t link);
void shell_remove_peer(struct shell *shell, struct peer *peer);
/* A peer is over: of the core's own wish (`dropped`, for what code), or because its link
 * went. One that ended before the core's wish is carried out is not told of again. */
void shell_end_peer(struct shell *shell, uint64_t link, const char *text, bool dropped,
                    int code);
void shell_close_link(struct shell *shell, uint64_t link, const char *text);
/* Both, where what it said, or is to be told, found no memory: it dials again. */
void shell_drop_for_memory(struct shell *shell, uint64_t link);
void shell_send(struct shell *shell, uint64_t link, struct message **message);
/* A message of a peer, relayed or not. */
void shell_take_message(struct shell *shell, uint64_t link, const struct holder *holder,
                        struct message **message);
void shell_on_net(void *user, struct net_event *event);
void shell_on_relay_message(void *user, uint64_t link, struct message **message);
void shell_on_relay_down(void *user, uint64_t link, const char *text);
void shell_on_relay_send(void *user, uint64_t link, struct message **message);

/* shell_effects.c */
void shell_flush(struct shell *shell);
void shell_serve_detached(struct shell *shell);
/* What is unfinished goes on at the next start. */
void shell_stop_detached(struct shell *shell);
void shell_on_keys_done(void *user, uint64_t link, const struct coordinator_keys *keys);

#endif
