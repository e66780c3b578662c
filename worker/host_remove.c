/* SPDX-License-Identifier: Apache-2.0
 *
 * host_remove.c: removing scratch folders, by a thread that sleeps until there is
 * something, since a task may leave thousands of files.
 *
 * Whatever is to go is renamed to gone-*, in the worker's own folder; that name is all
 * there is to a list. A folder is emptied of its files; a folder in it that is not empty
 * is moved up to a gone-* of its own. So nothing recurses: neither depth nor length of
 * paths matters, and two descriptors are enough. No symbolic link is ever followed: each
 * name is one component, relative to an open folder. What cannot be removed stays until
 * the next time, at the latest until the next worker. */
#include "worker/host_scratch.h"

#include "common/sys/sys.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CLOSE_MS 30000 /* for all that is left when the worker ends */

static bool is_late(struct scratch *scratch)
{
    const uint64_t give_up_ms = atomic_load(&scratch->give_up_ms);
    return give_up_ms != UINT64_MAX && sys_now_ms() >= give_up_ms;
}

/* A task may have taken the rights to its folders away, also from itself. */
static void allow(int parent, const char *name)
{
    char path[64];
    int fd = openat(parent, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    (void)chmod(path, 0700); /* to the folder that is open, whatever its name is now */
    close(fd);
}

static int open_folder(int parent, const char *name)
{
    const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    int fd = openat(parent, name, flags);
    if (fd < 0 && errno == EACCES) {
        allow(parent, name);
        fd = openat(parent, name, flags);
    }
    return fd;
}

static bool move_up(struct scratch *scratch, int parent, const char *name)
{
    char to[64];
    snprintf(to, sizeof to, SCRATCH_DOOMED "t%llu", (unsigned long long)scratch->moved++);
    if (renameat(parent, name, scratch->folder, to) == 0)
        return true;
    if (errno != EACCES)
        return false;
    allow(parent, name);
    return renameat(parent, name, scratch->folder, to) == 0;
}

/* One entry of a folder; whether it is not there any more. */
static bool remove_entry(struct scratch *scratch, int parent, const char *name)
{
    if (unlinkat(parent, name, 0) == 0)
        return true;
    if (errno != EISDIR && errno != EPERM)
        return errno == ENOENT;
    if (unlinkat(parent, name, AT_REMOVEDIR) == 0)
        return true;
    return (errno == ENOTEMPTY || errno == EEXIST) && move_up(scratch, parent, name);
}

static bool is_itself(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* Whether anything was removed or moved. */
static bool remove_one(struct scratch *scratch, const char *name)
{
    bool changed = false;
    const struct dirent *entry;
    int fd = open_folder(scratch->folder, name);
    if (fd < 0)
        return unlinkat(scratch->folder, name, 0) == 0;
    (void)fchmod(fd, 0700);
    DIR *listing = fdopendir(fd);
    if (listing == NULL) {
        close(fd);
        return false;
    }
    while (!is_late(scratch) && (entry = readdir(listing)) != NULL)
        if (!is_itself(entry->d_name))
            changed = remove_entry(scratch, fd, entry->d_name) || changed;
    closedir(listing);
    return unlinkat(scratch->folder, name, AT_REMOVEDIR) == 0 || changed;
}

/* Once through the scratch folder; whether anything was removed or moved. */
static bool remove_all(struct scratch *scratch)
{
    bool changed = false;
    const struct dirent *entry;
    int fd = openat(scratch->folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *listing = fd < 0 ? NULL : fdopendir(fd);
    while (listing != NULL && !is_late(scratch) && (entry = readdir(listing)) != NULL)
        if (strncmp(entry->d_name, SCRATCH_DOOMED, sizeof SCRATCH_DOOMED - 1) == 0)
            changed = remove_one(scratch, entry->d_name) || changed;
    if (listing != NULL)
        closedir(listing);
    else if (fd >= 0)
        close(fd);
    return changed;
}

void scratch_remove_doomed(struct scratch *scratch)
{
    while (remove_all(scratch) && !is_late(scratch))
        ;
}

static void *run(void *argument)
{
    struct scratch *scratch = argument;
    pthread_mutex_lock(&scratch->mutex);
    while (!scratch->stop) {
        if (!scratch->due) {
            pthread_cond_wait(&scratch->told, &scratch->mutex);
            continue;
        }
        scratch->due = false;
        pthread_mutex_unlock(&scratch->mutex);
        scratch_remove_doomed(scratch);
        pthread_mutex_lock(&scratch->mutex);
    }
    pthread_mutex_unlock(&scratch->mutex);
    return NULL;
}

/* Signals are for the thread that has the loop. */
static bool start_thread(struct scratch *scratch)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    scratch->running = pthread_create(&scratch->remover, NULL, run, scratch) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return scratch->running;
}

void scratch_start_removing(struct scratch *scratch)
{
    if (!scratch->running && !start_thread(scratch)) {
        scratch_remove_doomed(scratch);
        return;
    }
    pthread_mutex_lock(&scratch->mutex);
    scratch->due = true;
    pthread_cond_signal(&scratch->told);
    pthread_mutex_unlock(&scratch->mutex);
}

void scratch_stop_removing(struct scratch *scratch)
{
    atomic_store(&scratch->give_up_ms, sys_now_ms() + CLOSE_MS);
    if (scratch->running) {
        pthread_mutex_lock(&scratch->mutex);
        scratch->stop = true;
        pthread_cond_signal(&scratch->told);
        pthread_mutex_unlock(&scratch->mutex);
        pthread_join(scratch->remover, NULL);
        scratch->running = false;
    }
    scratch_remove_doomed(scratch);
}
