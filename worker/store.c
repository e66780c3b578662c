/* SPDX-License-Identifier: Apache-2.0
 *
 * store.c: the contents of shared inputs, each in a memfd: not in /dev/shm, which
 * containers keep small, and gone with its last user, whatever ends that. Memory is taken
 * as pieces come, but counted when a content is opened, so that one that is begun has
 * room to be whole. A piece is written only if it is what its hash says; so who has a
 * piece may pass it on.
 *
 * Until it is sealed nobody but this process has the descriptor. Which pieces are there
 * is the core's to know. */
#include "worker/store.h"
#include "common/base/error.h"
#include "common/base/mem.h"
#include "common/base/shared.h"
#include "common/sys/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HASH_NONFATAL_OOM 1
#define uthash_malloc(size) mem_alloc(size)
#define uthash_free(memory, size) mem_free(memory)
#define uthash_nonfatal_oom(element) ((void)(element), (void)(failed = true))
#include <uthash.h>

#define SEALS (F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

struct stored {
    UT_hash_handle hh;
    struct hash content;
    uint64_t size;
    struct payload *hashes;
    int fd;
    bool sealed;
};

struct store {
    const char *node;
    uint64_t bytes_max, bytes; /* of all that are open */
    struct stored *contents;
};

struct store *store_create(const char *node, uint64_t bytes_max)
{
    struct store *store = mem_alloc(sizeof *store);
    if (store != NULL) {
        store->node = node;
        store->bytes_max = bytes_max;
    }
    return store;
}

static struct stored *find(const struct store *store, const struct hash *content)
{
    struct stored *stored;
    HASH_FIND(hh, store->contents, content, sizeof *content, stored);
    return stored;
}

static void destroy(struct store *store, struct stored *stored)
{
    HASH_DEL(store->contents, stored);
    store->bytes -= stored->size;
    close(stored->fd);
    payload_unref(&stored->hashes);
    mem_free(stored);
}

void store_destroy(struct store *store)
{
    if (store == NULL)
        return;
    while (store->contents != NULL)
        destroy(store, store->contents);
    mem_free(store);
}

void store_close(struct store *store, const struct hash *content)
{
    struct stored *stored = find(store, content);
    if (stored != NULL)
        destroy(store, stored);
}

/* ------------------------------------------------------------------------ opening */

static int check(const struct store *store, const struct hash *content, uint64_t size,
                 const struct payload *hashes, farpool_error *error)
{
    struct hash name;
    if (size > store->bytes_max - store->bytes)
        return error_set(error, FARPOOL_ENOSPACE,
                         "node %s has no room for a shared input of %llu bytes: %llu of "
                         "the %llu that it may take (--share-max) are in use",
                         store->node, (unsigned long long)size,
                         (unsigned long long)store->bytes,
                         (unsigned long long)store->bytes_max);
    if (hashes == NULL || hashes->size != shared_pieces(size) * sizeof(struct hash))
        return error_set(error, FARPOOL_EPROTOCOL,
                         "a shared input came to node %s without a hash for each piece",
                         store->node);
    sys_hash(hashes->data, hashes->size, &name);
    if (!hash_equal(&name, content))
        return error_set(error, FARPOOL_EPROTOCOL,
                         "a shared input came to node %s with hashes that do not match "
                         "its name",
                         store->node);
    return 0;
}

static int fail_errno(const struct store *store, const char *what, uint64_t size,
                      farpool_error *error)
{
    int number = errno;
    int code = number == ENOSPC || number == ENOMEM   ? FARPOOL_ENOSPACE
               : number == EMFILE || number == ENFILE ? FARPOOL_ENOFILES
                                                      : FARPOOL_ESYSTEM;
    return error_set(error, code,
                     "node %s cannot keep a shared input of %llu bytes: %s: %s",
                     store->node, (unsigned long long)size, what, strerror(number));
}

static int open_memory(const struct store *store, uint64_t size, int *ret_fd,
                       farpool_error *error)
{
    int fd = memfd_create("farpool-shared", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return fail_errno(store, "memfd_create", size, error);
    if (ftruncate(fd, (off_t)size) < 0) {
        int code = fail_errno(store, "ftruncate", size, error);
        close(fd);
        return code;
    }
    *ret_fd = fd;
    return 0;
}

int store_open(struct store *store, const struct hash *content, uint64_t size,
               struct payload *hashes, farpool_error *error)
{
    bool failed = false;
    store_close(store, content);
    int code = check(store, content, size, hashes, error);
    if (code != 0)
        return code;
    struct stored *stored = mem_alloc(sizeof *stored);
    if (stored == NULL)
        return error_set(error, FARPOOL_ENOMEM, "out of memory on node %s", store->node);
    if ((code = open_memory(store, size, &stored->fd, error)) != 0) {
        mem_free(stored);
        return code;
    }
    stored->content = *content;
    HASH_ADD(hh, store->contents, content, sizeof stored->content, stored);
    if (failed) {
        close(stored->fd);
        mem_free(stored);
        return error_set(error, FARPOOL_ENOMEM, "out of memory on node %s", store->node);
    }
    stored->size = size;
    stored->hashes = payload_ref(hashes);
    store->bytes += size;
    return 0;
}

/* ------------------------------------------------------------------ writing, reading */

static bool is_right(const struct stored *stored, uint32_t piece,
                     const struct payload *data)
{
    struct hash hash;
    if (piece >= shared_pieces(stored->size) ||
        data->size != shared_piece_bytes(stored->size, piece))
        return false;
    sys_hash(data->data, data->size, &hash);
    return memcmp(stored->hashes->data + piece * sizeof hash, hash.bytes, sizeof hash) ==
           0;
}

int store_write(struct store *store, const struct hash *content, uint32_t piece,
                const struct payload *data, farpool_error *error)
{
    const struct stored *stored = find(store, content);
    if (stored == NULL || stored->sealed)
        return 0; /* closed meanwhile; or whole, as it came for another pool too */
    if (!is_right(stored, piece, data))
        return error_set(
            error, FARPOOL_EPROTOCOL,
            "piece %u of a shared input came to node %s with another content "
            "than its hash says",
            piece, store->node);
    for (size_t done = 0; done < data->size;) {
        ssize_t wrote = pwrite(stored->fd, data->data + done, data->size - done,
                               (off_t)((uint64_t)piece * SHARED_PIECE_BYTES + done));
        if (wrote < 0 && errno != EINTR)
            return fail_errno(store, "write", stored->size, error);
        done += wrote > 0 ? (size_t)wrote : 0;
    }
    return 0;
}

struct payload *store_read(const struct store *store, const struct hash *content,
                           uint64_t offset, uint64_t bytes, int *ret_code)
{
    const struct stored *stored = find(store, content);
    struct payload *data = stored != NULL ? payload_create(bytes) : NULL;
    *ret_code = stored != NULL ? FARPOOL_ENOMEM : FARPOOL_ENOTREADY;
    for (size_t done = 0; data != NULL && done < bytes;) {
        ssize_t got = pread(stored->fd, payload_bytes(data) + done, bytes - done,
                            (off_t)(offset + done));
        done += got > 0 ? (size_t)got : 0;
        if (got == 0 || (got < 0 && errno != EINTR)) {
            payload_unref(&data);
            *ret_code = FARPOOL_ESYSTEM;
        }
    }
    if (data != NULL)
        *ret_code = 0;
    return data;
}

int store_seal(struct store *store, const struct hash *content, uint64_t *ret_size,
               farpool_error *error)
{
    struct stored *stored = find(store, content);
    if (stored == NULL)
        return error_set(error, FARPOOL_ENOTREADY, "node %s has it no more", store->node);
    if (!stored->sealed && fcntl(stored->fd, F_ADD_SEALS, SEALS) < 0)
        return fail_errno(store, "sealing it", stored->size, error);
    stored->sealed = true;
    *ret_size = stored->size;
    return stored->fd;
}
