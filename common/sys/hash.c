/* SPDX-License-Identifier: Apache-2.0
 *
 * hash.c: BLAKE2b-256 of bytes and of files, by libsodium, and the ids of pools that are
 * made of it. A file is read in pieces, so
 * its size does not matter; a file that changes while it is read gives the hash of what
 * was read, and the size tells how much that was. */
#include "common/base/error.h"
#include "common/sys/sys.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <string.h>
#include <unistd.h>

void sys_hash(const void *data, size_t size, struct hash *ret_hash)
{
    crypto_generichash_blake2b(ret_hash->bytes, sizeof ret_hash->bytes, data, size, NULL,
                               0);
}

static_assert(sizeof(crypto_generichash_blake2b_state) <=
                  sizeof((struct sys_hashing){0}).state,
              "a state has room in sys_hashing");

static crypto_generichash_blake2b_state *state_of(struct sys_hashing *hashing)
{
    return (crypto_generichash_blake2b_state *)(void *)hashing->state;
}

void sys_hash_begin(struct sys_hashing *hashing)
{
    crypto_generichash_blake2b_init(state_of(hashing), NULL, 0, sizeof(struct hash));
}

void sys_hash_more(struct sys_hashing *hashing, const void *data, size_t size)
{
    crypto_generichash_blake2b_update(state_of(hashing), data, size);
}

void sys_hash_end(struct sys_hashing *hashing, struct hash *ret_hash)
{
    crypto_generichash_blake2b_final(state_of(hashing), ret_hash->bytes,
                                     sizeof ret_hash->bytes);
}

void sys_pool_id(const struct hash *key, const struct id *seed, struct id *ret_pool)
{
    unsigned char both[sizeof key->bytes + sizeof seed->bytes];
    struct hash hash;
    memcpy(both, key->bytes, sizeof key->bytes);
    memcpy(both + sizeof key->bytes, seed->bytes, sizeof seed->bytes);
    sys_hash(both, sizeof both, &hash);
    memcpy(ret_pool->bytes, hash.bytes, sizeof ret_pool->bytes);
}

void sys_ticket(const struct hash *secret, uint64_t number, struct id *ret_ticket)
{
    struct id id = {.bytes = {0}};
    memcpy(id.bytes, &number, sizeof number);
    sys_pool_id(secret, &id, ret_ticket);
}

/* Adds the whole file; 0 or an errno. */
static int hash_fd(int fd, struct sys_hashing *hashing, uint64_t *size)
{
    unsigned char buffer[65536];
    for (;;) {
        ssize_t n = read(fd, buffer, sizeof buffer);
        if (n == 0)
            return 0;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        sys_hash_more(hashing, buffer, (size_t)n);
        *size += (uint64_t)n;
    }
}

int sys_hash_file(const char *path, struct hash *ret_hash, uint64_t *ret_size,
                  farpool_error *error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return error_set(error, FARPOOL_ESYSTEM, "open %s: %s", path, strerror(errno));
    struct sys_hashing hashing;
    uint64_t size = 0;
    sys_hash_begin(&hashing);
    int failed = hash_fd(fd, &hashing, &size);
    close(fd);
    if (failed != 0)
        return error_set(error, FARPOOL_ESYSTEM, "read %s: %s", path, strerror(failed));
    sys_hash_end(&hashing, ret_hash);
    if (ret_size != NULL)
        *ret_size = size;
    return 0;
}
