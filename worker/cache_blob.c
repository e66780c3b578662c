/* SPDX-License-Identifier: Apache-2.0
 *
 * cache_blob.c: the contents in the program cache: which are there, and fetching them. A
 * content is hashed as it comes; one that lay there already is hashed piece by piece,
 * once, before it is believed. */
#include "common/base/error.h"
#include "worker/cache_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define CHECK_BYTES 4194304 /* hashed at a time: some milliseconds */

bool disk_blob_path(const struct disk *disk, const struct msg_file *file, char *path)
{
    char hash[65];
    return disk_path(path, "%s/blobs/%s%s", disk->folder, hash_text(&file->content, hash),
                     file->executable ? ".x" : "");
}

static bool is_whole(const struct stat *status, const struct msg_file *file)
{
    return S_ISREG(status->st_mode) && (uint64_t)status->st_size == file->size;
}

enum disk_found disk_find_blob(struct disk *disk, const struct msg_file *file,
                               struct disk_check *check)
{
    char path[CACHE_PATH_MAX];
    struct stat status;
    check->fd = -1;
    if (!disk_blob_path(disk, file, path) || lstat(path, &status) != 0)
        return DISK_ABSENT;
    if (is_whole(&status, file)) {
        if (verified_knows(disk->verified, &status, &file->content))
            return DISK_RIGHT;
        check->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        check->size = 0;
        sys_hash_begin(&check->hashing);
        if (check->fd >= 0)
            return disk_check_more(disk, file, check);
    }
    unlink(path);
    return DISK_ABSENT;
}

/* The whole file was read: whether it is what its name says. */
static bool is_right(struct disk *disk, const struct msg_file *file,
                     struct disk_check *check)
{
    struct hash hash;
    struct stat status;
    sys_hash_end(&check->hashing, &hash);
    if (check->size != file->size || !hash_equal(&hash, &file->content) ||
        fstat(check->fd, &status) != 0)
        return false;
    verified_add(&disk->verified, &status, &file->content);
    return true;
}

enum disk_found disk_check_more(struct disk *disk, const struct msg_file *file,
                                struct disk_check *check)
{
    unsigned char buffer[65536];
    char path[CACHE_PATH_MAX];
    uint64_t until = check->size + CHECK_BYTES;
    ssize_t n = 1;
    while (n > 0 && check->size < until) {
        n = read(check->fd, buffer, sizeof buffer);
        if (n < 0 && errno == EINTR)
            n = 1;
        else if (n > 0) {
            sys_hash_more(&check->hashing, buffer, (size_t)n);
            check->size += (uint64_t)n;
        }
    }
    if (n > 0 && check->size <= file->size)
        return DISK_UNKNOWN;
    bool right = n == 0 && is_right(disk, file, check);
    disk_check_drop(check);
    if (!right && disk_blob_path(disk, file, path))
        unlink(path);
    return right ? DISK_RIGHT : DISK_ABSENT;
}

void disk_check_drop(struct disk_check *check)
{
    if (check->fd >= 0)
        close(check->fd);
    check->fd = -1;
}

/* --------------------------------------------------------------------- fetching */

/* Only a lack of room counts: a file system that cannot tell is asked again by writing.
 */
static bool make_room(int fd, uint64_t size)
{
    if (size == 0)
        return true;
    bool possible = size <= INT64_MAX;
    if (possible && fallocate(fd, 0, 0, (off_t)size) == 0)
        return true;
    if (possible && errno != ENOSPC && errno != EDQUOT && errno != EFBIG)
        return true;
    errno = ENOSPC;
    return false;
}

/* As far as programs that nobody has open can make it. */
static bool make_room_by_evicting(const struct disk *disk, int fd, uint64_t size)
{
    while (!make_room(fd, size)) {
        int number = errno;
        if (disk_evict(disk) == 0) {
            errno = number;
            return false;
        }
    }
    return true;
}

int disk_fetch_begin(const struct disk *disk, const struct msg_file *file,
                     struct disk_fetch *fetch, farpool_error *error)
{
    if (!disk_path(fetch->path, "%s/tmp/%d-%016llx", disk->folder, (int)getpid(),
                   (unsigned long long)sys_random()))
        return disk_path_too_long(error);
    fetch->fd = open(fetch->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fetch->fd < 0)
        return disk_fail(disk, "open", fetch->path, file->size, error);
    fetch->offset = 0;
    sys_hash_begin(&fetch->hashing);
    if (make_room_by_evicting(disk, fetch->fd, file->size))
        return 0;
    int result = disk_fail(disk, "write", fetch->path, file->size, error);
    disk_fetch_drop(fetch);
    return result;
}

int disk_fetch_write(const struct disk *disk, const struct msg_file *file,
                     struct disk_fetch *fetch, const struct payload *data,
                     farpool_error *error)
{
    size_t size = data == NULL ? 0 : data->size, done = 0;
    if (size == 0 || size > file->size - fetch->offset)
        return error_set(error, FARPOOL_EPROGRAM,
                         "%s changed while it was fetched to node %s: %llu bytes were "
                         "promised",
                         file->name, disk->node, (unsigned long long)file->size);
    while (done < size) {
        ssize_t n = write(fetch->fd, data->data + done, size - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return disk_fail(disk, "write", fetch->path, file->size, error);
        done += (size_t)n;
    }
    sys_hash_more(&fetch->hashing, data->data, size);
    fetch->offset += size;
    return 0;
}

int disk_fetch_end(const struct disk *disk, const struct msg_file *file,
                   struct disk_fetch *fetch, farpool_error *error)
{
    char path[CACHE_PATH_MAX];
    struct hash hash;
    int result = 0;
    sys_hash_end(&fetch->hashing, &hash);
    bool written = fchmod(fetch->fd, file->executable ? 0500 : 0400) == 0;
    written = close(fetch->fd) == 0 && written;
    fetch->fd = -1;
    if (!written)
        result = disk_fail(disk, "write", fetch->path, file->size, error);
    else if (fetch->offset != file->size || !hash_equal(&hash, &file->content))
        result =
            error_set(error, FARPOOL_EPROGRAM,
                      "%s came to node %s with another content than its hash says; it "
                      "may have changed since the pool was opened",
                      file->name, disk->node);
    else if (!disk_blob_path(disk, file, path))
        result = disk_path_too_long(error);
    else if (rename(fetch->path, path) != 0)
        result = disk_fail(disk, "rename", path, file->size, error);
    if (result != 0)
        unlink(fetch->path);
    return result;
}

void disk_fetch_drop(struct disk_fetch *fetch)
{
    if (fetch->fd < 0)
        return;
    close(fetch->fd);
    unlink(fetch->path);
    fetch->fd = -1;
}
