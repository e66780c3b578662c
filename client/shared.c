/* SPDX-License-Identifier: Apache-2.0
 *
 * shared.c: farpool_share and its sisters. Memory is copied once, into a sealed memfd; a
 * file is only opened. For a cluster it is hashed, piece by piece, so that each piece can
 * be believed by itself; an embedded pool's processes map the descriptor, and nobody
 * looks at the bytes. All of that is done before the pool's mutex is taken.
 *
 * The descriptor is kept until the input is unshared or the pool is freed: nodes come
 * later, or lose what they had. */
#include "client/shared.h"
#include "client/pool.h"
#include "common/base/error.h"
#include "common/base/shared.h"
#include "common/sys/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

const struct shared_input *shared_find(const struct shared_inputs *inputs,
                                       const struct hash *content)
{
    const struct shared_input *input = inputs->first;

    while (input != NULL && !hash_equal(&input->content, content))
        input = input->next;
    return input;
}

static void destroy(struct shared_input *input)
{
    if (input->fd >= 0)
        close(input->fd);
    mem_free(input);
}

void shared_fini(struct shared_inputs *inputs)
{
    while (inputs->first != NULL) {
        struct shared_input *input = inputs->first;

        inputs->first = input->next;
        destroy(input);
    }
}

/* --------------------------------------------------------------- where it lies */

static int fail_errno(const char *what, uint64_t size, farpool_error *error)
{
    int code = errno == ENOSPC || errno == ENOMEM   ? FARPOOL_ENOMEM
               : errno == EMFILE || errno == ENFILE ? FARPOOL_ENOFILES
                                                    : FARPOOL_ESYSTEM;

    return error_set(error, code, "share: %s (%" PRIu64 " bytes): %s", what, size,
                     strerror(errno));
}

static int check_size(uint64_t size, farpool_error *error)
{
    if (size == 0)
        return error_set(error, FARPOOL_EINVAL, "share: there are no bytes to share");
    if (size > SHARED_BYTES_MAX)
        return error_set(error, FARPOOL_ETOOBIG,
                         "share: %" PRIu64 " bytes are over the limit of %" PRIu64, size,
                         SHARED_BYTES_MAX);
    return 0;
}

static bool write_all(int fd, const uint8_t *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t wrote = write(fd, data + done, size - done);

        if (wrote < 0 && errno != EINTR)
            return false;
        done += wrote > 0 ? (size_t)wrote : 0;
    }
    return true;
}

/* A copy in a memory that nobody can change any more. */
static int copy_memory(const void *data, size_t size, int *ret_fd, farpool_error *error)
{
    int fd = memfd_create("farpool-shared", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0)
        return fail_errno("memfd_create", size, error);
    if (!write_all(fd, data, size) ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) <
            0) {
        int code = fail_errno("cannot copy it", size, error);

        close(fd);
        return code;
    }
    *ret_fd = fd;
    return 0;
}

static int open_file(const char *path, int *ret_fd, uint64_t *ret_size,
                     farpool_error *error)
{
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

    if (fd < 0)
        return error_set(error, FARPOOL_ESYSTEM, "share: cannot read %s: %s", path,
                         strerror(errno));
    if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode)) {
        close(fd);
        return error_set(error, FARPOOL_EINVAL, "share: %s is not a file", path);
    }
    *ret_fd = fd;
    *ret_size = (uint64_t)status.st_size;
    return 0;
}

/* ---------------------------------------------------------------- its content */

static int hash_piece(const struct shared_input *input, uint32_t piece,
                      struct hash *ret_hash, farpool_error *error)
{
    uint32_t bytes = shared_piece_bytes(input->size, piece);
    int code = 0;
    struct payload *data =
        program_read_piece(input->fd, (uint64_t)piece * SHARED_PIECE_BYTES, bytes, &code);

    if (data != NULL && data->size == bytes)
        sys_hash(data->data, data->size, ret_hash);
    else
        code = error_set(error, code != 0 ? code : FARPOOL_ESYSTEM,
                         "share: cannot read all of its %" PRIu64 " bytes", input->size);
    payload_unref(&data);
    return code;
}

/* The hashes of its pieces, and by these its name. */
static int hash_content(struct shared_input *input, struct payload **ret_hashes,
                        farpool_error *error)
{
    uint32_t pieces = shared_pieces(input->size);
    struct payload *hashes = payload_create(pieces * sizeof(struct hash));
    struct hash hash;
    int code = 0;

    if (hashes == NULL)
        return error_set(error, FARPOOL_ENOMEM, "share: out of memory");
    for (uint32_t piece = 0; code == 0 && piece < pieces; piece++) {
        code = hash_piece(input, piece, &hash, error);
        memcpy(payload_bytes(hashes) + piece * sizeof hash, hash.bytes, sizeof hash);
    }
    if (code != 0) {
        payload_unref(&hashes);
        return code;
    }
    sys_hash(hashes->data, hashes->size, &input->content);
    *ret_hashes = hashes;
    return 0;
}

/* A name of chance, for one that no other machine sees. */
static void name_content(struct shared_input *input)
{
    for (size_t at = 0; at < sizeof input->content.bytes; at += sizeof(struct id))
        sys_random_id((struct id *)(void *)(input->content.bytes + at));
}

/* -------------------------------------------------------------------- sharing */

static int check_room(const farpool_pool *pool, const struct shared_input *input,
                      farpool_error *error)
{
    if (pool->shared.count >= SHARED_MAX)
        return error_set(error, FARPOOL_EFULL,
                         "share: the pool already shares %d inputs (the limit)",
                         SHARED_MAX);
    if (shared_pieces(input->size) > SHARED_PIECES_MAX - pool->shared.pieces)
        return error_set(error, FARPOOL_ETOOBIG,
                         "share: with these %" PRIu64 " bytes the pool would share more "
                         "than %" PRIu64 " in all",
                         input->size, SHARED_BYTES_MAX);
    return 0;
}

/* With the mutex: the core is told, and the input enters the table. */
static int enter_table(farpool_pool *pool, struct shared_input *input,
                       struct message *message, farpool_error *error)
{
    struct client_event event = {.kind = CLIENT_SHARE, .message = message};
    int code = check_room(pool, input, error);

    if (code != 0)
        return code;
    input->number = message->share.number = pool->shared.last + 1;
    message->share.size = input->size;
    message->share.content = input->content;
    input->next = pool->shared.first;
    pool->shared.first = input; /* before a step may ask for it */
    if ((code = pool_step(pool, &event)) != 0) {
        pool->shared.first = input->next;
        return error_set(error, code, "share: %s", farpool_error_text(code));
    }
    pool->shared.last = input->number;
    pool->shared.count++;
    pool->shared.pieces += shared_pieces(input->size);
    driver_kick(pool);
    return 0;
}

static int check_pool(farpool_pool *pool, const char *call, bool *ret_embedded,
                      farpool_error *error)
{
    int code = pool_enter(pool, call, error);

    if (code != 0)
        return code;
    if ((code = pool_check_running(pool, call, error)) == 0 &&
        !pool->transport->kind->threaded)
        code = error_set(error, FARPOOL_EINVAL,
                         "%s: a pool opened inside a task shares nothing; the program "
                         "that opened the outer one may",
                         call);
    if (code == 0)
        *ret_embedded = pool->transport->kind->embedded;
    pool_leave(pool);
    return code;
}

/* fd is taken over, whatever comes of it. */
static int share(farpool_pool *pool, int fd, uint64_t size, bool embedded,
                 farpool_shared *ret_shared, farpool_error *error)
{
    struct shared_input *input = mem_alloc(sizeof *input);
    struct message *message = message_create(MSG_SHARE);
    int code = 0;

    if (input == NULL || message == NULL) {
        close(fd);
        mem_free(input);
        message_free(&message);
        return error_set(error, FARPOOL_ENOMEM, "share: out of memory");
    }
    input->fd = fd;
    input->size = size;
    if (embedded)
        name_content(input);
    else
        code = hash_content(input, &message->share.hashes, error);
    if (code == 0 && (code = pool_enter(pool, "share", error)) == 0) {
        if ((code = pool_check_running(pool, "share", error)) == 0)
            code = enter_table(pool, input, message, error);
        if (code == 0) {
            message = NULL; /* the core's */
            memcpy(ret_shared->pool, pool->open->pool_open.pool.bytes,
                   sizeof ret_shared->pool);
            ret_shared->number = input->number;
            ret_shared->size = size;
            input = NULL;
        }
        pool_leave(pool);
    }
    if (input != NULL)
        destroy(input);
    message_free(&message);
    return code;
}

int farpool_share(farpool_pool *pool, const void *data, size_t size,
                  farpool_shared *ret_shared, farpool_error *error)
{
    bool embedded = false;
    int fd = -1, code = check_pool(pool, "share", &embedded, error);

    if (code != 0)
        return code;
    if (data == NULL || ret_shared == NULL)
        return error_set(error, FARPOOL_EINVAL, "share: an argument is NULL");
    if ((code = check_size(size, error)) != 0 ||
        (code = copy_memory(data, size, &fd, error)) != 0)
        return code;
    return share(pool, fd, size, embedded, ret_shared, error);
}

int farpool_share_file(farpool_pool *pool, const char *path, farpool_shared *ret_shared,
                       farpool_error *error)
{
    bool embedded = false;
    uint64_t size = 0;
    int fd = -1, code = check_pool(pool, "share", &embedded, error);

    if (code != 0)
        return code;
    if (path == NULL || ret_shared == NULL)
        return error_set(error, FARPOOL_EINVAL, "share: an argument is NULL");
    if ((code = open_file(path, &fd, &size, error)) != 0)
        return code;
    if ((code = check_size(size, error)) == 0)
        return share(pool, fd, size, embedded, ret_shared, error);
    close(fd);
    return code;
}

/* ------------------------------------------------------------------ unsharing */

static int leave_table(farpool_pool *pool, const farpool_shared *shared,
                       farpool_error *error)
{
    struct client_event event = {.kind = CLIENT_UNSHARE, .shared = shared->number};
    struct shared_input **place = &pool->shared.first, *input;

    if (pool->open == NULL ||
        memcmp(shared->pool, pool->open->pool_open.pool.bytes, sizeof shared->pool) != 0)
        return error_set(error, FARPOOL_ENOPOOL, "unshare: it is another pool's");
    while (*place != NULL && (*place)->number != shared->number)
        place = &(*place)->next;
    if ((input = *place) == NULL)
        return error_set(error, FARPOOL_EINVAL,
                         "unshare: shared input %" PRIu64 " was unshared before",
                         shared->number);
    if (pool->transport != NULL)
        pool_must_step(pool, &event);
    *place = input->next;
    pool->shared.count--;
    pool->shared.pieces -= shared_pieces(input->size);
    destroy(input);
    if (pool->transport != NULL)
        driver_kick(pool);
    return 0;
}

int farpool_unshare(farpool_pool *pool, const farpool_shared *shared,
                    farpool_error *error)
{
    int code = pool_enter(pool, "unshare", error);

    if (code != 0)
        return code;
    code = shared == NULL ? error_set(error, FARPOOL_EINVAL, "unshare: shared is NULL")
                          : leave_table(pool, shared, error);
    pool_leave(pool);
    return code;
}
