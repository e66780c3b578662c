/* SPDX-License-Identifier: Apache-2.0
 *
 * worker/cache.h: the programs of a node, kept on its disk by the hash of their content,
 * so that each is fetched once. Carries out the PROGRAM_* effects of a worker core. */
#ifndef FARPOOL_WORKER_CACHE_H
#define FARPOOL_WORKER_CACHE_H

#include "worker/core.h"

struct cache;

#define CACHE_PATH_MAX 4096

/* The answer to an effect. */
struct cache_answer {
    enum worker_event_kind kind; /* WORKER_PROGRAM_NEEDS, _READY or _FAILED */
    uint32_t file;               /* NEEDS: a piece of this one, from offset */
    uint64_t offset;
    char path[CACHE_PATH_MAX]; /* READY: what to execute, and the folder it is in */
    char folder[CACHE_PATH_MAX];
    farpool_error error; /* FAILED */
};

/* folder NULL: $XDG_CACHE_HOME/farpool or ~/.cache/farpool. It is made if it is missing,
 * and must be this user's alone to write: what is in it is executed. node: for error
 * texts. bytes_max: what is over it is removed, the programs opened longest ago first,
 * but none that a worker has open; 0: no bound. ESYSTEM, ENOSPACE, ENOMEM. */
int cache_open(const char *folder, const char *node, uint64_t bytes_max,
               struct cache **ret_cache, farpool_error *error);
void cache_close(struct cache *cache); /* NULL allowed */
const char *cache_folder(const struct cache *cache);

/* WORKER_PROGRAM_OPEN. The list is copied. false: the answer comes from cache_work. May
 * block on the disk, as all of these, for the time that some megabytes take. */
bool cache_open_program(struct cache *cache, const struct hash *program,
                        const struct msg_file *files, uint32_t count,
                        struct cache_answer *ret_answer);

/* WORKER_PROGRAM_WRITE: the piece that was asked for, or code != 0. false: no such
 * program is open, there is no answer; or it comes from cache_work. */
bool cache_write(struct cache *cache, const struct hash *program, uint32_t file,
                 uint64_t offset, const struct payload *data, int code,
                 struct cache_answer *ret_answer);

/* Files that were there are being hashed, some megabytes a call: while this is so,
 * cache_work is to be called, and gives an answer now and then (true). */
bool cache_is_busy(struct cache *cache);
bool cache_work(struct cache *cache, struct hash *ret_program,
                struct cache_answer *ret_answer);

/* WORKER_PROGRAM_CLOSE. What has been fetched whole stays on the disk. */
void cache_close_program(struct cache *cache, const struct hash *program);

#endif
