/* SPDX-License-Identifier: Apache-2.0
 *
 * store_files.c: files of programs, by the hash of their content, in pieces as they came.
 * Jobs that need the same file share it; it goes with the last of them. Since others may
 * name it too, nobody's word is taken for its content: that is checked when it is whole.
 */
#include "common/base/error.h"
#include "detached/store_internal.h"

#include <string.h>

static int read_size(struct store *store, const struct hash *content, uint64_t *ret_size,
                     farpool_error *error)
{
    struct row row;
    row_begin(&row, store, STORE_PIECES_SIZE);
    row_blob(&row, content->bytes, sizeof content->bytes);
    const int code = row_next(&row, error);
    if (code == 0)
        *ret_size = row_get_int(&row);
    row_end(&row);
    return code;
}

int store_file_need(struct store *store, int64_t job, const struct msg_file *file,
                    uint64_t *ret_have, farpool_error *error)
{
    struct row row;
    int code = store_write(store, error);
    if (code != 0)
        return code;
    row_begin(&row, store, STORE_NEED_ADD);
    row_int(&row, (uint64_t)job);
    row_blob(&row, file->content.bytes, sizeof file->content.bytes);
    if ((code = row_run(&row, error)) != 0)
        return code;
    return read_size(store, &file->content, ret_have, error);
}

int store_file_read(struct store *store, const struct hash *content, uint64_t offset,
                    uint64_t bytes, struct payload **ret_piece, farpool_error *error)
{
    char text[65];
    struct row row;
    struct hash found;
    uint64_t first = 0, size = 0;
    struct payload *piece = NULL;
    row_begin(&row, store, STORE_PIECE);
    row_blob(&row, content->bytes, sizeof content->bytes);
    row_int(&row, offset);
    int code = row_next(&row, error);
    if (code == 0) {
        const bool whole = row_get_fixed(&row, &found, sizeof found);
        first = row_get_int(&row);
        size = row_get_int(&row);
        piece = row_get_payload(&row);
        if (row.result == SQLITE_NOMEM)
            code = store_fail(store, SQLITE_NOMEM, error);
        else if (!whole || !row_sum_is_right(&row) || piece == NULL ||
                 piece->size != size)
            code = store_damaged(store, error, "file %s", hash_text(content, text));
    }
    row_end(&row);
    if (code == 0) {
        const uint64_t skip = offset - first < size ? offset - first : size;
        const uint64_t left = size - skip;
        *ret_piece = payload_slice(piece, skip, bytes < left ? bytes : left);
        if (*ret_piece == NULL)
            code = store_fail(store, SQLITE_NOMEM, error);
    } else if (code == FARPOOL_END) {
        code = store_damaged(store, error, "no file %s", hash_text(content, text));
    }
    payload_unref(&piece);
    return code;
}

static int hash_all(struct store *store, const struct msg_file *file,
                    struct hash *ret_hash, farpool_error *error)
{
    crypto_generichash_blake2b_state state;
    int code = 0;
    crypto_generichash_blake2b_init(&state, NULL, 0, sizeof ret_hash->bytes);
    for (uint64_t at = 0; code == 0 && at < file->size;) {
        struct payload *piece = NULL;
        code = store_file_read(store, &file->content, at, UINT64_MAX, &piece, error);
        if (code != 0 || piece == NULL)
            break;
        if (piece->size == 0)
            code = store_damaged(store, error, "file %s is not whole", file->name);
        crypto_generichash_blake2b_update(&state, piece->data, piece->size);
        at += piece->size;
        payload_unref(&piece);
    }
    crypto_generichash_blake2b_final(&state, ret_hash->bytes, sizeof ret_hash->bytes);
    return code;
}

static int check_content(struct store *store, const struct msg_file *file,
                         farpool_error *error)
{
    struct hash hash;
    struct row row;
    int code = hash_all(store, file, &hash, error);
    if (code != 0 || hash_equal(&hash, &file->content))
        return code;
    row_begin(&row, store, STORE_PIECES_REMOVE);
    row_blob(&row, file->content.bytes, sizeof file->content.bytes);
    if ((code = row_run(&row, error)) != 0)
        return code;
    return error_set(error, FARPOOL_EPROGRAM,
                     "the file %s is not what it was: it was changed while it was sent",
                     file->name);
}

int store_file_add(struct store *store, const struct msg_file *file, uint64_t offset,
                   const struct payload *piece, farpool_error *error)
{
    struct row row;
    int code = store_write(store, error);
    if (code != 0)
        return code;
    row_begin(&row, store, STORE_PIECE_ADD);
    row_blob(&row, file->content.bytes, sizeof file->content.bytes);
    row_int(&row, offset);
    row_int(&row, piece->size);
    row_payload(&row, piece);
    row_put_sum(&row);
    if ((code = row_run(&row, error)) != 0)
        return code;
    return offset + piece->size == file->size ? check_content(store, file, error) : 0;
}
