/* SPDX-License-Identifier: Apache-2.0
 *
 * cache_evict.c: what leaves the program cache when it is full: the programs opened
 * longest ago (a folder's time of change) that no worker has open (its lock can be had),
 * then the contents that no program has any more. Where a file system has no locks,
 * nothing is removed; where it has no hard links, programs have copies. */
#include "common/sys/log.h"
#include "worker/cache_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

/* Calls visit for each entry of a folder below `parent`. */
static void visit_folder(int parent, const char *name,
                         void (*visit)(int folder, const char *name,
                                       const struct stat *status, void *user),
                         void *user)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    DIR *listing = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;
    struct stat status;
    if (listing == NULL && fd >= 0)
        close(fd);
    while (listing != NULL && (entry = readdir(listing)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            fstatat(fd, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0)
            visit(fd, entry->d_name, &status, user);
    if (listing != NULL)
        closedir(listing);
}

static int open_cache(const struct disk *disk)
{
    return open(disk->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* ------------------------------------------------------------------------ bytes */

static void add_file(int folder, const char *name, const struct stat *status, void *user)
{
    (void)folder, (void)name;
    *(uint64_t *)user += (uint64_t)status->st_size;
}

static void add_copy(int folder, const char *name, const struct stat *status, void *user)
{
    if (S_ISREG(status->st_mode) && status->st_nlink == 1)
        add_file(folder, name, status, user);
}

static void add_program(int folder, const char *name, const struct stat *status,
                        void *user)
{
    if (S_ISDIR(status->st_mode))
        visit_folder(folder, name, add_copy, user);
}

uint64_t disk_bytes(const struct disk *disk)
{
    uint64_t bytes = 0;
    int cache = open_cache(disk);
    if (cache < 0)
        return 0;
    visit_folder(cache, "blobs", add_file, &bytes);
    visit_folder(cache, "programs", add_program, &bytes);
    close(cache);
    return bytes;
}

/* --------------------------------------------------------------------- removing */

static void remove_entry(int folder, const char *name, const struct stat *status,
                         void *user)
{
    uint64_t *freed = user;
    if (unlinkat(folder, name, 0) == 0 && status->st_nlink == 1)
        *freed += (uint64_t)status->st_size;
}

static uint64_t remove_folder(int parent, const char *name)
{
    uint64_t freed = 0;
    visit_folder(parent, name, remove_entry, &freed);
    unlinkat(parent, name, AT_REMOVEDIR);
    return freed;
}

void disk_remove_folder(int parent, const char *name)
{
    remove_folder(parent, name);
}

static void remove_unused(int folder, const char *name, const struct stat *status,
                          void *user)
{
    if (S_ISREG(status->st_mode) && status->st_nlink == 1)
        remove_entry(folder, name, status, user);
}

/* --------------------------------------------------------------------- choosing */

struct oldest {
    char name[65]; /* "": none */
    int lock;      /* of it, exclusive */
    struct timespec used;
};

static bool is_before(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec != b->tv_sec ? a->tv_sec < b->tv_sec : a->tv_nsec < b->tv_nsec;
}

static void look_at_program(int folder, const char *name, const struct stat *status,
                            void *user)
{
    struct oldest *oldest = user;
    if (!S_ISDIR(status->st_mode) || strlen(name) != sizeof oldest->name - 1 ||
        (oldest->lock >= 0 && !is_before(&status->st_mtim, &oldest->used)))
        return;
    int fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        close(fd); /* somebody has it open */
        return;
    }
    if (oldest->lock >= 0)
        close(oldest->lock);
    oldest->lock = fd;
    oldest->used = status->st_mtim;
    snprintf(oldest->name, sizeof oldest->name, "%s", name);
}

/* Out of the way first: who opens the program now makes it anew. */
static uint64_t remove_program(int cache, const struct oldest *oldest)
{
    char from[96], to[96];
    uint64_t freed = 0;
    snprintf(from, sizeof from, "programs/%s", oldest->name);
    snprintf(to, sizeof to, "tmp/%016llx", (unsigned long long)sys_random());
    if (renameat(cache, from, cache, to) != 0)
        return 0;
    freed = remove_folder(cache, to);
    visit_folder(cache, "blobs", remove_unused, &freed);
    log_event(LOG_INFO, "program-evicted", "program=%.16s bytes=%llu", oldest->name,
              (unsigned long long)freed);
    return freed > 0 ? freed : 1; /* of contents that another program has, too */
}

uint64_t disk_evict(const struct disk *disk)
{
    struct oldest oldest = {.lock = -1};
    uint64_t freed = 0;
    int cache = open_cache(disk);
    if (cache < 0)
        return 0;
    visit_folder(cache, "programs", look_at_program, &oldest);
    if (oldest.lock >= 0) {
        freed = remove_program(cache, &oldest);
        close(oldest.lock);
    }
    close(cache);
    return freed;
}
