/* SPDX-License-Identifier: Apache-2.0
 *
 * host_scratch.c: the folders that processes start in:
 *
 *     ROOT/lock                  held while a worker comes, and looks for dead ones
 *     ROOT/worker-XXXXXX/        a worker's own
 *                       lock     held as long as it lives: by flock, so also SIGKILL
 *                                ends that
 *                       pN/      the folder of process N, with links to its files
 *                       gone-*   to be removed (host_remove.c)
 *
 * A folder is a dead worker's if it has a lock that can be had; then it is moved into the
 * own folder as gone-*. One without a lock is only removed if it is empty: its maker died
 * between the two, or it is none of ours. */
#include "worker/host_scratch.h"

#include "common/base/error.h"
#include "common/base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define OWN "worker-"
#define OWN_TEMPLATE OWN "XXXXXX"
#define NAME_ROOM 64 /* for what is put behind a path */

static int fail(const char *what, const char *path, farpool_error *error)
{
    const int number = errno;
    return error_set(
        error, number == ENOSPC || number == EDQUOT ? FARPOOL_ENOSPACE : FARPOOL_ESYSTEM,
        "scratch folder: %s %s: %s; --scratch names another", what, path,
        strerror(number));
}

/* ----------------------------------------------------------------------- the root */

/* As mkdir -p. */
static int make_folders(const char *root, farpool_error *error)
{
    char path[SCRATCH_PATH_MAX];
    if (root[0] == '\0' ||
        snprintf(path, sizeof path, "%s", root) >= (int)sizeof path - NAME_ROOM)
        return error_set(error, FARPOOL_ESYSTEM,
                         "scratch folder: a path of 1 to %d bytes is wanted",
                         SCRATCH_PATH_MAX - NAME_ROOM - 1);
    for (char *slash = strchr(path + 1, '/');; slash = strchr(slash + 1, '/')) {
        if (slash != NULL)
            *slash = '\0';
        if (mkdir(path, 0700) != 0 && errno != EEXIST)
            return fail("cannot make", path, error);
        if (slash == NULL)
            return 0;
        *slash = '/';
    }
}

/* In a folder that others may write, they could put something else into a worker's
 * place. */
static int open_root(const char *root, int *ret_fd, farpool_error *error)
{
    struct stat status;
    int fd = open(root, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return fail("cannot open", root, error);
    if (fstat(fd, &status) == 0 && status.st_uid == geteuid() &&
        (status.st_mode & 022) == 0) {
        *ret_fd = fd;
        return 0;
    }
    close(fd);
    return error_set(error, FARPOOL_ESYSTEM,
                     "scratch folder: %s must belong to this user and be writable by "
                     "nobody else; name a new folder in it",
                     root);
}

static int open_lock(int folder, int flags)
{
    return openat(folder, "lock", O_RDWR | O_NOFOLLOW | O_CLOEXEC | flags, 0600);
}

/* ------------------------------------------------------------------- dead workers */

/* Moves the folder `name` of the root here if its worker is dead. */
static void take_over(struct scratch *scratch, int root, const char *name)
{
    char to[NAME_ROOM];
    int folder = openat(root, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (folder < 0)
        return;
    int lock = open_lock(folder, 0);
    if (lock < 0) {
        unlinkat(root, name, AT_REMOVEDIR);
    } else if (flock(lock, LOCK_EX | LOCK_NB) == 0) {
        snprintf(to, sizeof to, SCRATCH_DOOMED "%s", name);
        scratch->leftovers += renameat(root, name, scratch->folder, to) == 0;
    }
    if (lock >= 0)
        close(lock);
    close(folder);
}

static void take_over_dead(struct scratch *scratch, int root)
{
    const char *own = strrchr(scratch->path, '/') + 1;
    const struct dirent *entry;
    int fd = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *listing = fd < 0 ? NULL : fdopendir(fd);
    while (listing != NULL && (entry = readdir(listing)) != NULL)
        if (strlen(entry->d_name) == sizeof OWN_TEMPLATE - 1 &&
            strncmp(entry->d_name, OWN, sizeof OWN - 1) == 0 &&
            strcmp(entry->d_name, own) != 0)
            take_over(scratch, root, entry->d_name);
    if (listing != NULL)
        closedir(listing);
    else if (fd >= 0)
        close(fd);
}

/* ------------------------------------------------------------------ the own folder */

static int make_own(struct scratch *scratch, const char *root, farpool_error *error)
{
    char real[PATH_MAX];
    if (realpath(root, real) == NULL)
        return fail("cannot find", root, error);
    const int length = snprintf(scratch->path, sizeof scratch->path, "%s/" OWN_TEMPLATE,
                                strcmp(real, "/") == 0 ? "" : real);
    if (length >= (int)sizeof scratch->path) {
        errno = ENAMETOOLONG;
        scratch->path[0] = '\0';
        return fail("cannot use", root, error);
    }
    if (mkdtemp(scratch->path) == NULL) {
        const int result = fail("cannot make", scratch->path, error);
        scratch->path[0] = '\0';
        return result;
    }
    scratch->folder =
        open(scratch->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (scratch->folder >= 0)
        scratch->lock = open_lock(scratch->folder, O_CREAT | O_EXCL);
    if (scratch->lock < 0 || flock(scratch->lock, LOCK_EX | LOCK_NB) != 0)
        return fail("cannot lock", scratch->path, error);
    return 0;
}

/* The root's lock keeps another worker from taking a folder that is not locked yet. */
static int settle(struct scratch *scratch, const char *root, int root_fd,
                  farpool_error *error)
{
    int lock = open_lock(root_fd, O_CREAT);
    if (lock < 0)
        return fail("cannot lock", root, error);
    int result = 0;
    while (flock(lock, LOCK_EX) != 0 && result == 0)
        if (errno != EINTR)
            result = fail("cannot lock", root, error);
    if (result == 0)
        result = make_own(scratch, root, error);
    if (result == 0)
        take_over_dead(scratch, root_fd);
    close(lock);
    return result;
}

int scratch_open(const char *root, struct scratch **ret_scratch, farpool_error *error)
{
    int root_fd = -1;
    struct scratch *scratch = mem_alloc(sizeof *scratch);
    if (scratch == NULL)
        return error_set(error, FARPOOL_ENOMEM, "scratch folder: out of memory");
    scratch->folder = scratch->lock = -1;
    pthread_mutex_init(&scratch->mutex, NULL);
    pthread_cond_init(&scratch->told, NULL);
    atomic_init(&scratch->give_up_ms, UINT64_MAX);
    int result = make_folders(root, error);
    if (result == 0)
        result = open_root(root, &root_fd, error);
    if (result == 0)
        result = settle(scratch, root, root_fd, error);
    if (root_fd >= 0)
        close(root_fd);
    if (result != 0) {
        scratch_close(scratch);
        return result;
    }
    if (scratch->leftovers > 0)
        scratch_start_removing(scratch);
    *ret_scratch = scratch;
    return 0;
}

/* The lock goes last but one: who finds the folder without it finds it empty. */
void scratch_close(struct scratch *scratch)
{
    if (scratch == NULL)
        return;
    if (scratch->folder >= 0) {
        scratch_stop_removing(scratch);
        unlinkat(scratch->folder, "lock", 0);
        close(scratch->folder);
    }
    if (scratch->path[0] != '\0')
        rmdir(scratch->path);
    if (scratch->lock >= 0)
        close(scratch->lock);
    pthread_cond_destroy(&scratch->told);
    pthread_mutex_destroy(&scratch->mutex);
    mem_free(scratch);
}

/* ------------------------------------------------------------- a process's folder */

char *scratch_list(const char *folder, farpool_error *error)
{
    char *names = NULL;
    size_t capacity = 0, used = 0;
    const struct dirent *entry;
    DIR *listing = opendir(folder);
    if (listing == NULL) {
        fail("cannot read", folder, error);
        return NULL;
    }
    while ((entry = readdir(listing)) != NULL) {
        const char *name = entry->d_name;
        const size_t size = strlen(name) + 1;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
            strncmp(name, ".farpool-", 9) == 0)
            continue; /* the last: the cache is at work on it */
        if (!mem_reserve(&names, &capacity, used + size + 1, 1))
            break;
        memcpy(names + used, name, size);
        used += size;
        names[used] = '\0';
    }
    closedir(listing);
    if (entry == NULL && (names != NULL || mem_reserve(&names, &capacity, 1, 1)))
        return names;
    mem_free(names);
    error_set(error, FARPOOL_ENOMEM, "out of memory");
    return NULL;
}

static void unlink_links(struct scratch *scratch, const char *name, const char *names)
{
    char path[NAME_ROOM + NAME_MAX];
    for (; names != NULL && *names != '\0'; names += strlen(names) + 1) {
        snprintf(path, sizeof path, "%s/%s", name, names);
        unlinkat(scratch->folder, path, 0);
    }
}

int scratch_make(struct scratch *scratch, uint64_t process, const char *folder,
                 const char *names, char *path)
{
    char name[32], link[NAME_ROOM + NAME_MAX], target[SCRATCH_PATH_MAX + NAME_MAX];
    int number = 0;
    snprintf(name, sizeof name, "p%llu", (unsigned long long)process);
    snprintf(path, SCRATCH_PATH_MAX, "%s/%s", scratch->path, name);
    if (mkdirat(scratch->folder, name, 0700) != 0)
        return errno;
    for (const char *next = names; number == 0 && next != NULL && *next != '\0';
         next += strlen(next) + 1) {
        snprintf(link, sizeof link, "%s/%s", name, next);
        snprintf(target, sizeof target, "%s/%s", folder, next);
        if (symlinkat(target, scratch->folder, link) != 0)
            number = errno;
    }
    if (number != 0)
        scratch_remove(scratch, process, names);
    return number;
}

/* Most folders have nothing but the links; anything else is the remover's. The path goes
 * through the process's folder, so that must be one, and no link to another. */
void scratch_remove(struct scratch *scratch, uint64_t process, const char *names)
{
    char name[32], doomed[NAME_ROOM];
    snprintf(name, sizeof name, "p%llu", (unsigned long long)process);
    snprintf(doomed, sizeof doomed, SCRATCH_DOOMED "%s", name);
    if (renameat(scratch->folder, name, scratch->folder, doomed) != 0)
        return;
    struct stat status;
    if (fstatat(scratch->folder, doomed, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
        S_ISDIR(status.st_mode))
        unlink_links(scratch, doomed, names);
    if (unlinkat(scratch->folder, doomed, AT_REMOVEDIR) != 0)
        scratch_start_removing(scratch);
}
