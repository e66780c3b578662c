/* SPDX-License-Identifier: Apache-2.0
 *
 * store_last.c: the number of the last commit that was told of, in a file of its own. The
 * checksums of SQLite's log end it silently at the first frame that is wrong, which is
 * how a write that was cut off looks: a log whose bits flipped after a crash, or one that
 * is not there any more, would be taken for a shorter one. So a store that has fewer
 * commits than this file says is damaged.
 *
 * Two slots a page apart are written in turn, each with a checksum: one that is cut off
 * spoils only the number that nobody was told of yet. Without the file the store counts
 * as it is: removing it is how an administrator goes on with what is left. */
#include "common/base/error.h"
#include "detached/store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SLOT_BYTES 4096

struct slot {
    struct id store;
    uint64_t commits;
    uint8_t sum[16];
};

void store_last_path(const struct store *store, char *path, size_t size)
{
    const size_t length = strlen(store->path) - strlen(STORE_FILE);
    snprintf(path, size, "%.*s" STORE_LAST_FILE, (int)length, store->path);
}

static void sum_slot(const struct slot *slot, uint8_t sum[16])
{
    crypto_generichash_blake2b(sum, 16, (const uint8_t *)slot, offsetof(struct slot, sum),
                               NULL, 0);
}

static int fail(const struct store *store, const char *what, farpool_error *error)
{
    char path[sizeof store->path + 32];
    const int code =
        errno == ENOSPC || errno == EDQUOT ? FARPOOL_ENOSPACE : FARPOOL_ESYSTEM;
    const char *text = strerror(errno);
    store_last_path(store, path, sizeof path);
    return error_set(error, code, "%s: %s: %s", path, what, text);
}

static int write_slot(struct store *store, uint64_t place, farpool_error *error)
{
    struct slot slot = {.store = store->id, .commits = store->commits};
    sum_slot(&slot, slot.sum);
    const ssize_t size =
        pwrite(store->last, &slot, sizeof slot, (off_t)(place * SLOT_BYTES));
    if (size >= 0 && size < (ssize_t)sizeof slot)
        errno = ENOSPC;
    return size == (ssize_t)sizeof slot ? 0 : fail(store, "write", error);
}

int store_last_write(struct store *store, farpool_error *error)
{
    const int code = write_slot(store, store->commits % 2, error);
    if (code != 0)
        return code;
    return fdatasync(store->last) == 0 ? 0 : fail(store, "fdatasync", error);
}

/* The higher number of the slots that are right; false: none is. */
static bool read_slots(const struct store *store, uint64_t *ret_commits)
{
    bool found = false;
    *ret_commits = 0;
    for (int i = 0; i < 2; i++) {
        struct slot slot;
        uint8_t sum[16];
        if (pread(store->last, &slot, sizeof slot, (off_t)i * SLOT_BYTES) !=
            (ssize_t)sizeof slot)
            continue;
        sum_slot(&slot, sum);
        if (memcmp(sum, slot.sum, sizeof sum) != 0 || !id_equal(&slot.store, &store->id))
            continue;
        found = true;
        if (slot.commits > *ret_commits)
            *ret_commits = slot.commits;
    }
    return found;
}

/* Both slots, of a file that has just been made. */
static int begin(struct store *store, farpool_error *error)
{
    int code = write_slot(store, 0, error);
    if (code == 0)
        code = write_slot(store, 1, error);
    if (code != 0)
        return code;
    return fsync(store->last) == 0 ? 0 : fail(store, "fsync", error);
}

static int read_mark(struct store *store, farpool_error *error)
{
    struct row row;
    row_begin(&row, store, STORE_MARK);
    const int code = row_next(&row, error);
    bool whole = code == 0;
    if (whole) {
        store->commits = row_get_int(&row);
        whole = row_get_fixed(&row, &store->id, sizeof store->id);
    }
    row_end(&row);
    if (code == FARPOOL_END || (code == 0 && !whole))
        return store_damaged(store, error, "the number of its last commit is missing");
    return code;
}

static int hold_against(struct store *store, farpool_error *error)
{
    char path[sizeof store->path + 32];
    uint64_t told = 0;
    store_last_path(store, path, sizeof path);
    if (!read_slots(store, &told))
        return error_set(error, FARPOOL_ESYSTEM,
                         "%s is damaged, or of another " STORE_FILE
                         ": put the right one in its place, or remove it to go on "
                         "with what %s has",
                         path, store->path);
    if (store->commits >= told)
        return 0;
    return error_set(
        error, FARPOOL_ESYSTEM,
        "%s is damaged: %llu commits that were acknowledged are missing: its "
        "log %s-wal is damaged or gone, or it is an older copy; put the "
        "right files in place, or remove %s to go on without them",
        store->path, (unsigned long long)(told - store->commits), store->path, path);
}

int store_last_open(struct store *store, farpool_error *error)
{
    char path[sizeof store->path + 32];
    struct stat about;
    int code = read_mark(store, error);
    if (code != 0)
        return code;
    store_last_path(store, path, sizeof path);
    store->last = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (store->last < 0 || fstat(store->last, &about) != 0)
        return fail(store, "open", error);
    return about.st_size == 0 ? begin(store, error) : hold_against(store, error);
}
