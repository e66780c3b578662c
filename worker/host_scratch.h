/* SPDX-License-Identifier: Apache-2.0
 *
 * host_scratch.h: the folders that processes start in, and their removal. */
#ifndef FARPOOL_WORKER_HOST_SCRATCH_H
#define FARPOOL_WORKER_HOST_SCRATCH_H

#include "farpool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define SCRATCH_PATH_MAX 4096
#define SCRATCH_DOOMED "gone-" /* what begins so is removed, whatever is in it */

struct scratch {
    char path[SCRATCH_PATH_MAX - 64]; /* of the worker's own folder */
    int folder, lock;   /* descriptors: of that folder, and of what is locked */
    uint32_t leftovers; /* folders of dead workers that were found */
    uint64_t moved;     /* numbers names, in the remover only */
    atomic_uint_fast64_t give_up_ms; /* the remover stops then */
    pthread_t remover;
    pthread_mutex_t mutex;
    pthread_cond_t told;
    bool running, due, stop;
};

/* Makes a folder of its own below root, and takes over what dead workers left there.
 * ESYSTEM, ENOSPACE, ENOMEM, naming the folder. */
int scratch_open(const char *root, struct scratch **ret_scratch, farpool_error *error);
/* Removes all of it; NULL allowed. */
void scratch_close(struct scratch *scratch);

/* The names of a program's files, each with its NUL, the last one with two; the caller's
 * to free. NULL: `error` says why. */
char *scratch_list(const char *folder, farpool_error *error);

/* Makes the folder of a process, with links to those names in `folder` (NULL: none).
 * Fills `path` of SCRATCH_PATH_MAX bytes with its name, in any case. 0 or an errno:
 * nothing is there. */
int scratch_make(struct scratch *scratch, uint64_t process, const char *folder,
                 const char *names, char *path);
/* Removes it, or has it removed, without waiting for many files. */
void scratch_remove(struct scratch *scratch, uint64_t process, const char *names);

/* host_remove.c: removes everything doomed in the scratch folder. */
void scratch_remove_doomed(struct scratch *scratch);
/* Has a thread of the scratch's own do that; without one, does it. */
void scratch_start_removing(struct scratch *scratch);
void scratch_stop_removing(struct scratch *scratch); /* waits for it */

#endif
