/* SPDX-License-Identifier: Apache-2.0
 *
 * crowd.h: a large cluster in one process, without faults: the real cores of workers and
 * clients by the thousand, each with its link, and processes that only pass time. The
 * coordinator is either its real core, joined by memory in virtual time (hub.c), or a
 * daemon, on real sockets and in real time (wire.c). What the numbers are for is in
 * docs/performance.md; what faults do is the simulator's (tests/sim).
 *
 * In virtual time the same options give the same run, unless the hub's own cost counts.
 */
#ifndef FARPOOL_BENCH_CROWD_H
#define FARPOOL_BENCH_CROWD_H

#include "client/core.h"
#include "coordinator/core.h"
#include "worker/core.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uthash.h>

#define CROWD_FOREVER UINT64_MAX

struct crowd;

/* A growing array of equal elements, emptied as a whole. */
struct list {
    void *items;
    size_t count, capacity;
};

/* ------------------------------------------------------------------- peers */

/* What a node and an app have in common: a link, and an instant to look at it. */
struct peer {
    struct crowd *crowd;
    uint32_t place; /* among all peers; the link's number, less one */
    bool worker;
    uint64_t wake_at_us;  /* CROWD_FOREVER: none is set */
    struct list messages; /* struct message *, that came */
};

struct give {
    uint64_t give, job, first;
    uint32_t count, claim;
    uint64_t began_us, task_ns; /* 0: not begun */
    struct payload *data;
    struct give *next;
};

struct process {
    uint64_t number;
    struct id pool;
    struct give *gives; /* the first one is worked on */
    uint64_t epoch;     /* timers of an older one are void */
    bool ready, closing;
    UT_hash_handle hh;
};

/* A worker: its core, and a process for each that it started. */
struct node {
    struct peer peer;
    struct worker_core *core;
    struct worker_effects effects;
    struct list reports; /* struct worker_event */
    struct process *processes;
};

struct crowd_job {
    uint64_t number;
    uint64_t began_us;
    uint64_t tasks, done;
};

/* A client: its core, and jobs that are opened one after the other. */
struct app {
    struct peer peer;
    struct client_core *core;
    struct client_effects effects;
    struct message *open;
    struct list events; /* struct client_event */
    uint64_t task_us;   /* each of its tasks takes so long */
    uint32_t chunk;
    bool up;
    struct list jobs;  /* struct crowd_job, open ones */
    uint64_t done;     /* tasks */
    uint64_t ended;    /* jobs */
    struct list times; /* uint64_t, us, of each job that ended; if `timed` */
    bool timed;
    void (*on_end)(struct app *app); /* a job has ended; NULL: nothing follows */
};

/* ----------------------------------------------------------------- the whole */

struct timer {
    uint64_t at_us, order;
    void (*call)(struct crowd *crowd, void *object, uint64_t number, uint64_t epoch);
    void *object;
    uint64_t number, epoch;
};

/* The coordinator's core, and what it has cost. */
struct hub {
    struct coordinator_core *core;
    struct coordinator_effects effects;
    struct list coming, leaving; /* struct packet, of hub.c */
    size_t read;                 /* of coming */
    bool woken;
    uint64_t free_at_us;                /* when it has done its last turn */
    uint64_t core_ns, wire_ns, busy_ns; /* busy: all of it, and the sockets */
    uint64_t turns, received, sent;     /* messages */
};

struct crowd_options {
    uint32_t nodes, slots, apps;
    uint64_t tasks_max;     /* of a worker's window; 0: the usual */
    uint64_t delay_us;      /* of each message, in virtual time */
    uint64_t message_ns;    /* what each message costs the coordinator beside its core */
    bool costs;             /* the hub is busy for as long as its steps take */
    const char *address;    /* a daemon's; NULL: virtual time */
    uint32_t app_processes; /* of each pool; 0: every slot */
};

struct crowd {
    struct crowd_options options;
    uint64_t now_us, order, rng;
    struct timer *heap;
    size_t heap_count, heap_capacity;
    struct node *nodes;
    struct app *apps;
    struct hub hub;
    struct wire *wire; /* NULL: virtual time */
};

/* clock.c -------------------------------------------------------------------- */

void crowd_create(const struct crowd_options *options, struct crowd *ret_crowd);
void crowd_at(struct crowd *crowd, uint64_t at_us,
              void (*call)(struct crowd *, void *, uint64_t, uint64_t), void *object,
              uint64_t number, uint64_t epoch);
/* Until that time, or `stop` says so (NULL: never). */
void crowd_run(struct crowd *crowd, uint64_t until_us, bool (*stop)(struct crowd *));
/* The next timer is due: calls it. false: none is. */
bool crowd_turn(struct crowd *crowd);
uint64_t crowd_deadline_us(const struct crowd *crowd);
uint64_t crowd_now_ms(const struct crowd *crowd);
struct id crowd_id(struct crowd *crowd);
void *crowd_need(void *memory);                  /* not NULL, or the program ends */
void *crowd_add(struct list *list, size_t size); /* a new element, zeroed */
_Noreturn void crowd_fail(const char *what, const char *why);

/* peer.c --------------------------------------------------------------------- */

struct peer *crowd_peer(struct crowd *crowd, uint32_t place);
void crowd_wake(struct peer *peer, uint64_t at_us);
/* A message for it, taken over. */
void crowd_peer_take(struct peer *peer, struct message *message);
/* To the coordinator, taken over. */
void crowd_peer_say(struct peer *peer, struct message *message);

/* node.c --------------------------------------------------------------------- */

void crowd_node_start(struct crowd *crowd, struct node *node);
void crowd_node_up(struct node *node);
void crowd_node_look(struct node *node);

/* app.c ---------------------------------------------------------------------- */

void crowd_app_start(struct crowd *crowd, struct app *app);
void crowd_app_up(struct app *app);
void crowd_app_look(struct app *app);
/* Tasks of eight bytes. */
void crowd_app_submit(struct app *app, uint64_t tasks);
/* Whose pool that is. */
struct app *crowd_app_of(struct crowd *crowd, const struct id *pool);

/* hub.c ---------------------------------------------------------------------- */

void crowd_hub_start(struct crowd *crowd);
void crowd_hub_take(struct crowd *crowd, uint64_t link, struct message *message);

/* wire.c --------------------------------------------------------------------- */

void crowd_wire_start(struct crowd *crowd);
void crowd_wire_say(struct crowd *crowd, struct peer *peer, struct message *message);
/* Waits for the next timer at most, or until something came. */
void crowd_wire_wait(struct crowd *crowd, uint64_t until_us);

#endif
