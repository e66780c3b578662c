/* SPDX-License-Identifier: Apache-2.0
 *
 * store_row.c: one row on its way into the store or out of it, column by column. Each
 * column goes into a checksum of the row, with its length, so that bytes cannot move from
 * one to the next unnoticed; the last column is that checksum.
 *
 * The first thing that fails is kept in row->result, and told at the end. */
#include "common/base/error.h"
#include "common/base/mem.h"
#include "detached/store_internal.h"

#include <string.h>

void row_begin(struct row *row, struct store *store, enum store_statement statement)
{
    *row = (struct row){.store = store, .statement = store->statements[statement]};
    sqlite3_reset(row->statement);
    crypto_generichash_blake2b_init(&row->sum, NULL, 0, 32);
}

static void sum_bytes(struct row *row, const void *data, uint64_t size)
{
    crypto_generichash_blake2b_update(&row->sum, (const void *)&size, sizeof size);
    if (size > 0)
        crypto_generichash_blake2b_update(&row->sum, data, size);
}

static int64_t end_sum(struct row *row)
{
    uint8_t hash[32];
    int64_t sum;
    crypto_generichash_blake2b_final(&row->sum, hash, sizeof hash);
    memcpy(&sum, hash, sizeof sum);
    return sum;
}

static void note(struct row *row, int result)
{
    if (row->result == SQLITE_OK)
        row->result = result;
}

/* ------------------------------------------------------------------- on its way in */

void row_int(struct row *row, uint64_t value)
{
    sum_bytes(row, &value, sizeof value);
    note(row, sqlite3_bind_int64(row->statement, ++row->column, (int64_t)value));
}

void row_text(struct row *row, const char *text)
{
    if (text == NULL)
        text = "";
    sum_bytes(row, text, strlen(text));
    note(row, sqlite3_bind_text(row->statement, ++row->column, text, -1, SQLITE_STATIC));
}

void row_blob(struct row *row, const void *data, size_t size)
{
    sum_bytes(row, data, size);
    row->column++;
    if (data == NULL)
        note(row, sqlite3_bind_null(row->statement, row->column));
    else
        note(row,
             sqlite3_bind_blob64(row->statement, row->column, data, size, SQLITE_STATIC));
}

void row_payload(struct row *row, const struct payload *payload)
{
    if (payload != NULL && payload->size == 0)
        row_blob(row, "", 0);
    else if (payload != NULL)
        row_blob(row, payload->data, payload->size);
    else
        row_blob(row, NULL, 0);
}

void row_put_sum(struct row *row)
{
    note(row, sqlite3_bind_int64(row->statement, ++row->column, end_sum(row)));
}

int row_run(struct row *row, farpool_error *error)
{
    int result = row->result;
    if (result == SQLITE_OK)
        result = sqlite3_step(row->statement);
    const int code = result == SQLITE_DONE || result == SQLITE_ROW
                         ? 0
                         : store_fail(row->store, result, error);
    row_end(row);
    return code;
}

/* ------------------------------------------------------------------ on its way out */

int row_next(struct row *row, farpool_error *error)
{
    const int result =
        row->result == SQLITE_OK ? sqlite3_step(row->statement) : row->result;
    if (result == SQLITE_DONE)
        return FARPOOL_END;
    if (result != SQLITE_ROW)
        return store_fail(row->store, result, error);
    row->column = 0;
    row->reads = true;
    crypto_generichash_blake2b_init(&row->sum, NULL, 0, 32);
    return 0;
}

uint64_t row_get_int(struct row *row)
{
    const uint64_t value = (uint64_t)sqlite3_column_int64(row->statement, row->column++);
    sum_bytes(row, &value, sizeof value);
    return value;
}

static const void *get_blob(struct row *row, size_t *ret_size)
{
    const void *data = sqlite3_column_blob(row->statement, row->column);
    *ret_size = (size_t)sqlite3_column_bytes(row->statement, row->column++);
    sum_bytes(row, data, data != NULL ? *ret_size : 0);
    return data;
}

void row_get_text(struct row *row, char *text, size_t size)
{
    size_t have = 0;
    const void *data = get_blob(row, &have);
    if (have >= size)
        have = size - 1;
    if (have > 0)
        memcpy(text, data, have);
    text[have] = '\0';
}

char *row_get_copy(struct row *row)
{
    size_t have = 0;
    const void *data = get_blob(row, &have);
    char *copy = mem_alloc(have + 1);
    if (copy == NULL)
        note(row, SQLITE_NOMEM);
    else if (have > 0)
        memcpy(copy, data, have);
    return copy;
}

struct payload *row_get_payload(struct row *row)
{
    size_t size = 0;
    const bool absent = sqlite3_column_type(row->statement, row->column) == SQLITE_NULL;
    const void *data = get_blob(row, &size);
    struct payload *payload = absent ? NULL : payload_copy(data, size);
    if (!absent && payload == NULL)
        note(row, SQLITE_NOMEM);
    return payload;
}

bool row_get_fixed(struct row *row, void *bytes, size_t size)
{
    size_t have = 0;
    const void *data = get_blob(row, &have);
    if (have != size || data == NULL)
        return false;
    memcpy(bytes, data, size);
    return true;
}

bool row_sum_is_right(struct row *row)
{
    return row->result == SQLITE_OK &&
           sqlite3_column_int64(row->statement, row->column) == end_sum(row);
}

void row_end(struct row *row)
{
    sqlite3_reset(row->statement);
    sqlite3_clear_bindings(row->statement);
}

int row_run_int(struct store *store, enum store_statement statement, uint64_t value,
                farpool_error *error)
{
    struct row row;
    int code = store_write(store, error);
    if (code != 0)
        return code;
    row_begin(&row, store, statement);
    row_int(&row, value);
    return row_run(&row, error);
}
