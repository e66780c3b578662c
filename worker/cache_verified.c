/* SPDX-License-Identifier: Apache-2.0
 *
 * cache_verified.c: which files have been hashed already, so that opening a program again
 * does not read it all again. A file is known by its inode, and believed unchanged while
 * its size and both its times are: as git does, only if it had not been changed in the
 * last seconds before it was hashed, since times are coarse. */
#include "common/base/mem.h"
#include "worker/cache_internal.h"

#include <string.h>
#include <time.h>

#define HASH_NONFATAL_OOM 1
#define uthash_malloc(size) mem_alloc(size)
#define uthash_free(memory, size) mem_free(memory)
#define uthash_nonfatal_oom(element) ((void)(element))
#include <uthash.h>

#define SETTLED_SECONDS 2
#define VERIFIED_MAX 4096 /* beyond, all are forgotten */

struct verified {
    uint64_t inode;
    uint64_t device;
    struct hash content;
    off_t size;
    struct timespec modified, changed;
    UT_hash_handle hh;
};

static bool same_time(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

bool verified_knows(struct verified *table, const struct stat *status,
                    const struct hash *content)
{
    struct verified *known;
    uint64_t inode = status->st_ino;
    HASH_FIND(hh, table, &inode, sizeof inode, known);
    return known != NULL && known->device == status->st_dev &&
           known->size == status->st_size && hash_equal(&known->content, content) &&
           same_time(&known->modified, &status->st_mtim) &&
           same_time(&known->changed, &status->st_ctim);
}

void verified_add(struct verified **table, const struct stat *status,
                  const struct hash *content)
{
    struct verified *known;
    uint64_t inode = status->st_ino;
    if (status->st_ctim.tv_sec + SETTLED_SECONDS > time(NULL))
        return;
    if (HASH_COUNT(*table) >= VERIFIED_MAX)
        verified_fini(table);
    HASH_FIND(hh, *table, &inode, sizeof inode, known);
    if (known == NULL) {
        known = mem_alloc(sizeof *known);
        if (known == NULL)
            return;
        known->inode = inode;
        HASH_ADD(hh, *table, inode, sizeof inode, known);
        if (known->hh.tbl == NULL) {
            mem_free(known);
            return;
        }
    }
    known->device = status->st_dev;
    known->content = *content;
    known->size = status->st_size;
    known->modified = status->st_mtim;
    known->changed = status->st_ctim;
}

void verified_fini(struct verified **table)
{
    struct verified *known, *next;
    HASH_ITER (hh, *table, known, next) {
        HASH_DELETE(hh, *table, known);
        mem_free(known);
    }
}
