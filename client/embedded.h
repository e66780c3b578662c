/* SPDX-License-Identifier: Apache-2.0
 *
 * client/embedded.h: what the files of the embedded pool share:
 *   embedded.c         the loop over the cores
 *   embedded_open.c    making and ending it
 *   embedded_relay.c   clients inside its processes
 *   embedded_folder.c  a folder for a program of several files */
#ifndef FARPOOL_CLIENT_EMBEDDED_H
#define FARPOOL_CLIENT_EMBEDDED_H

#include "client/queue.h"
#include "client/transport.h"
#include "common/base/mem.h"
#include "coordinator/core.h"
#include "worker/core.h"
#include "worker/host.h"

#define uthash_malloc(size) mem_alloc(size)
#define uthash_free(memory, size) mem_free(memory)
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

/* A client inside one of the processes: a link of its own to the coordinator. */
struct relay {
    uint64_t process;
    uint64_t link;
    UT_hash_handle by_process, by_link;
};

/* What the host told of one while it was polled, in order. */
struct arrival {
    uint64_t process;
    struct frames frames; /* header NULL: the process is gone */
};

struct embedded {
    struct transport transport;
    struct coordinator_core *coordinator;
    struct coordinator_effects coordinator_effects;
    struct worker_core *worker;
    struct worker_effects worker_effects, worker_batch; /* made; being carried out */
    struct host *host;
    struct queue to_coordinator; /* with the link each came on */
    struct queue to_worker, to_client;
    uint64_t links;                    /* numbers given so far */
    uint64_t client_link, worker_link; /* 0: down, to be made anew */
    struct relay *by_process, *by_link;
    struct arrival *arrivals;
    size_t arrivals_count, arrivals_capacity;

    struct worker_effect *starts; /* for processes that no thread may start yet */
    size_t starts_count, starts_capacity;

    const struct transport_turn *turn;          /* while in move */
    bool coordinator_stepped, worker_stepped;   /* since its last FLUSH */
    bool happened;                              /* in this round */
    bool look;                                  /* the host may have something to tell */
    uint64_t coordinator_due_ms, worker_due_ms; /* their deadlines; 0: to be asked for */
    int broken;
    int wake_fd;
    uint32_t cores, slots;
    uint64_t memory_bytes; /* of this machine, or as much as is allowed */
    char *path;            /* of the executable */
    char *folder;          /* with the files beside it; NULL: none */
};

extern const struct transport_kind embedded_kind;
void embedded_close(struct embedded *embedded); /* NULL and half-made ones allowed */
/* Ends the cores and the processes, and lets go of what they hold; host is NULL then. */
void embedded_end(struct embedded *embedded);

/* Steps of the two cores; out of memory breaks the pool. embedded.c */
void embedded_step_coordinator(struct embedded *embedded,
                               struct coordinator_event *event);
void embedded_send(struct embedded *embedded, struct queue *queue, uint64_t link,
                   struct message **message);

/* Clients inside processes. embedded_relay.c */
/* Called by the host, which must not be called from there: only notes. */
bool embedded_relay_note(struct embedded *embedded, uint64_t process,
                         struct frames *frames);
/* Then this carries out what was noted. */
void embedded_relay_run(struct embedded *embedded);
/* false: link is none of theirs. */
bool embedded_relay_send(struct embedded *embedded, uint64_t link,
                         const struct message *message);
bool embedded_relay_drop(struct embedded *embedded, uint64_t link);
void embedded_relay_fini(struct embedded *embedded);

/* A folder with links to the program's files; from mem_alloc. embedded_folder.c */
int embedded_folder_create(const struct program *program, char **ret_folder,
                           farpool_error *error);
void embedded_folder_remove(const char *folder);

#endif
