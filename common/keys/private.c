/* SPDX-License-Identifier: Apache-2.0
 *
 * private.c: files that are one user's alone. A file that others may read is no secret,
 * and one that others own may be theirs to change: both are refused, by the descriptor
 * that is then read, so that nothing changes in between. Root may read what is another
 * user's, but is told all the same: a key has one owner. */
#include "common/base/error.h"
#include "common/base/mem.h"
#include "common/keys/keys_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int key_path(const char *folder, const char *file, char path[4096], farpool_error *error)
{
    if ((size_t)snprintf(path, 4096, "%s/%s", folder, file) < 4096)
        return 0;
    return error_set(error, FARPOOL_EKEY, "the path of the key folder is too long");
}

static int fail(const char *what, const char *path, farpool_error *error)
{
    const int reason = errno;
    return error_set(error, reason == ENOENT ? FARPOOL_EKEY : FARPOOL_ESYSTEM,
                     "cannot %s %s: %s", what, path, strerror(reason));
}

static int check(const struct stat *found, bool folder, const char *path,
                 farpool_error *error)
{
    const unsigned mode = (unsigned)found->st_mode & 07777u;
    if (folder ? !S_ISDIR(found->st_mode) : !S_ISREG(found->st_mode))
        return error_set(error, FARPOOL_EKEY, "%s is not a %s", path,
                         folder ? "folder" : "regular file");
    if (found->st_uid != geteuid())
        return error_set(
            error, FARPOOL_EKEY,
            "%s belongs to user %u, and this is user %u: keys are taken from "
            "their owner only",
            path, (unsigned)found->st_uid, (unsigned)geteuid());
    if (mode & 077u)
        return error_set(error, FARPOOL_EKEY,
                         "%s has mode %04o: others may get at it; at most %s is wanted "
                         "(chmod %s)",
                         path, mode, folder ? "0700" : "0600", folder ? "700" : "600");
    return 0;
}

int key_check_folder(const char *folder, farpool_error *error)
{
    struct stat found;
    if (stat(folder, &found) != 0)
        return fail("open the key folder", folder, error);
    return check(&found, true, folder, error);
}

static struct key_stamp stamp_of(const struct stat *found)
{
    return (struct key_stamp){found->st_dev, found->st_ino, found->st_size,
                              found->st_ctim, found->st_mtim};
}

bool key_stamp_of(const char *path, struct key_stamp *ret_stamp)
{
    struct stat found;
    if (stat(path, &found) != 0)
        return false;
    *ret_stamp = stamp_of(&found);
    return true;
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

bool key_stamp_equal(const struct key_stamp *a, const struct key_stamp *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size &&
           same_time(&a->changed, &b->changed) && same_time(&a->modified, &b->modified);
}

static int read_all(int fd, const char *path, char *text, size_t size,
                    farpool_error *error)
{
    size_t got = 0;
    while (got < size) {
        const ssize_t count = read(fd, text + got, size - got);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return fail("read", path, error);
        if (count == 0)
            return error_set(error, FARPOOL_EKEY, "%s changed while it was read", path);
        got += (size_t)count;
    }
    return 0;
}

static int read_open(int fd, const char *path, size_t bytes_max, char **ret_text,
                     size_t *ret_size, struct key_stamp *ret_stamp, farpool_error *error)
{
    struct stat found;
    if (fstat(fd, &found) != 0)
        return fail("look at", path, error);
    int result = check(&found, false, path, error);
    if (result != 0)
        return result;
    const size_t size = (size_t)found.st_size;
    if (size > bytes_max)
        return error_set(error, FARPOOL_EKEY, "%s has %zu bytes (limit: %zu)", path, size,
                         bytes_max);
    char *text = mem_alloc(size + 1);
    if (text == NULL)
        return error_set(error, FARPOOL_ENOMEM, "out of memory for %s", path);
    result = read_all(fd, path, text, size, error);
    if (result != 0) {
        explicit_bzero(text, size);
        mem_free(text);
        return result;
    }
    *ret_text = text;
    *ret_size = size;
    if (ret_stamp != NULL)
        *ret_stamp = stamp_of(&found);
    return 0;
}

int key_read(const char *path, size_t bytes_max, char **ret_text, size_t *ret_size,
             struct key_stamp *ret_stamp, farpool_error *error)
{
    /* A FIFO in its place must not hold the daemon up. */
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return fail("open", path, error);
    const int result =
        read_open(fd, path, bytes_max, ret_text, ret_size, ret_stamp, error);
    close(fd);
    return result;
}

static bool write_all(int fd, const char *text, size_t size)
{
    while (size > 0) {
        const ssize_t count = write(fd, text, size);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return false;
        text += count;
        size -= (size_t)count;
    }
    return fsync(fd) == 0;
}

int key_write(const char *path, const char *text, size_t size, farpool_error *error)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 && errno == EEXIST)
        return error_set(error, FARPOOL_EKEY,
                         "%s is there already, and is not overwritten", path);
    if (fd < 0)
        return fail("make", path, error);
    int result = 0;
    if (fchmod(fd, 0600) != 0 || !write_all(fd, text, size)) /* whatever the umask */
        result = fail("write", path, error);
    close(fd);
    if (result != 0)
        unlink(path);
    return result;
}

/* One line; the text is a copy. */
static int take_line(const struct key_lines *lines, char *line, unsigned number,
                     farpool_error *error)
{
    const char *wrong = NULL;
    const bool fits = strlen(line) < LINE_BYTES_MAX - 1;
    line += strspn(line, " \t\r");
    if (*line == '\0' || *line == '#')
        return 0;
    if (!fits)
        wrong = "it is too long (limit: 254 bytes)";
    else if (lines->take(lines->list, number, line, &wrong) != 0)
        return error_set(error, FARPOOL_ENOMEM, "out of memory for %s", lines->where);
    if (wrong == NULL)
        return 0;
    return error_set(error, FARPOOL_EKEY, "%s, line %u: %s", lines->where, number, wrong);
}

int key_read_lines(const struct key_lines *lines, const char *text, size_t size,
                   farpool_error *error)
{
    if (memchr(text, '\0', size) != NULL)
        return error_set(error, FARPOOL_EKEY, "%s is not a text", lines->where);
    char *copy = mem_alloc(size + 1);
    if (copy == NULL)
        return error_set(error, FARPOOL_ENOMEM, "out of memory for %s", lines->where);
    memcpy(copy, text, size);
    int result = 0;
    unsigned number = 0;
    for (char *line = copy, *next; line != NULL && result == 0; line = next) {
        if ((next = strchr(line, '\n')) != NULL)
            *next++ = '\0';
        result = take_line(lines, line, ++number, error);
    }
    mem_free(copy);
    return result;
}
