/* SPDX-License-Identifier: Apache-2.0
 *
 * client/transport.h: how a pool's client core reaches a coordinator. Three kinds, and
 * the rest of libfarpool does not know which one it has: embedded (the coordinator's and
 * the worker's cores in this process), remote (ZeroMQ) and nested (through the daemon of
 * the process that a task runs in).
 *
 * All of it is called with the pool's mutex held, except wait, which is called without,
 * by the one thread that drives the pool; so send may only queue, and all else happens
 * in move. */
#ifndef FARPOOL_CLIENT_TRANSPORT_H
#define FARPOOL_CLIENT_TRANSPORT_H

#include "client/core.h"
#include "client/program.h"

struct pool_settings;
struct transport;

/* One call of move: who is told what came, and what may be done. */
struct transport_turn {
    uint64_t now_ms;
    void (*deliver)(void *user, struct client_event *event);
    void *user;
    bool may_start; /* this thread may start processes: they end when it ends */
};

struct transport_kind {
    const char *name;
    bool embedded;
    bool lends;    /* takes payloads that a caller has lent, and lets go of each when its
                      tasks have ended */
    bool threaded; /* any thread may drive; else only the one that opened the pool */

    /* NULL allowed. */
    void (*close)(struct transport *transport);

    /* Queues a message (taken over on success), for a lane or (0) the coordinator.
     * ENOMEM.
     */
    int (*send)(struct transport *transport, uint64_t lane, struct message **message);

    /* CLIENT_DIAL and CLIENT_HANG_UP; NULL: it has no lanes. */
    void (*dial)(struct transport *transport, const struct client_effect *effect);
    void (*hang_up)(struct transport *transport, uint64_t lane);

    /* Drops the connection and makes another. */
    void (*relink)(struct transport *transport, const char *text);

    /* Sends what is queued, receives what is there, never blocking; whether anything
     * happened. */
    bool (*move)(struct transport *transport, const struct transport_turn *turn);

    /* When move is wanted at the latest; UINT64_MAX: no need. */
    uint64_t (*deadline)(const struct transport *transport);

    /* sleep announces a wait; false: there is something already. wait ends at until_ms,
     * when something came, or by wake, which any thread may call between sleep and
     * woken. */
    bool (*sleep)(struct transport *transport);
    void (*wait)(struct transport *transport, uint64_t until_ms);
    void (*woken)(struct transport *transport);
    void (*wake)(struct transport *transport);

    /* Whether looking again at once beats sleeping now: a core is idle. */
    bool (*may_spin)(const struct transport *transport);

    /* Whether something waits for a move that may start processes. */
    bool (*starts)(const struct transport *transport);

    /* Fills in what the coordinator cannot tell, or NULL. */
    void (*info)(const struct transport *transport, farpool_pool_info *info);

    /* Why it cannot go on (out of memory), or 0. */
    int (*broken)(const struct transport *transport);

    /* The pool was given up: lets go of all that it holds, the caller's own memory above
     * all; nothing is moved any more. Not while somebody is in wait. NULL: holds nothing
     * of the caller's. */
    void (*let_go)(struct transport *transport);
};

struct transport {
    const struct transport_kind *kind;
    const struct shared_inputs *shared; /* what the pool shares, borrowed */
    struct hash key; /* the public key that it dials with; zero: none */
};

int embedded_open(const struct pool_settings *settings, const struct program *program,
                  struct transport **ret_transport, farpool_error *error);
int remote_open(const char *address, struct transport **ret_transport,
                farpool_error *error);
int nested_open(struct transport **ret_transport, farpool_error *error);

/* A wait that another thread can end: an eventfd. */
int wake_open(farpool_error *error); /* the descriptor, or a negative FARPOOL_E* */
void wake_send(int fd);
void wake_clear(int fd);

/* poll()'s timeout for a wait that ends at until_ms. */
int wake_timeout(uint64_t now_ms, uint64_t until_ms);

#endif
