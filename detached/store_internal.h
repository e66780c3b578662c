/* SPDX-License-Identifier: Apache-2.0
 *
 * store_internal.h: what the files of the store share: its statements, each prepared
 * once, and checksums of rows.
 *
 *   store.c        the file: opening, its limit, transactions, errors
 *   store_make.c   a new one
 *   store_check.c  that it is whole
 *   store_last.c   the number of the last commit, in a file of its own
 *   store_row.c    binding, reading and summing the columns of a row
 *   store_jobs.c   jobs
 *   store_tasks.c  inputs and results
 *   store_files.c  programs */
#ifndef FARPOOL_DETACHED_STORE_INTERNAL_H
#define FARPOOL_DETACHED_STORE_INTERNAL_H

#include "detached/store.h"

#include <sodium.h>
#include <sqlite3.h>

#define STORE_VERSION 1
#define STORE_APPLICATION 0x66726d70 /* PRAGMA application_id */

/* X(NAME, text) */
#define STORE_STATEMENTS(X)                                                              \
    X(BEGIN, "BEGIN IMMEDIATE")                                                          \
    X(COMMIT, "COMMIT")                                                                  \
    X(ROLLBACK, "ROLLBACK")                                                              \
    X(PAGES, "PRAGMA page_count")                                                        \
    X(FREE_PAGES, "PRAGMA freelist_count")                                               \
    X(MARK, "SELECT * FROM mark")                                                        \
    X(MARK_UPDATE, "UPDATE mark SET number = ?")                                         \
    X(JOB_ADD, "INSERT INTO jobs VALUES (NULL,?,?,?,?,?,?,?,?,?,?,?)")                   \
    X(JOB_NAMED, "SELECT id FROM jobs WHERE owner = ? AND name = ?")                     \
    X(JOB_REMOVE, "DELETE FROM jobs WHERE id = ?")                                       \
    X(JOBS, "SELECT * FROM jobs ORDER BY id")                                            \
    X(STATE, "SELECT * FROM states WHERE job = ?")                                       \
    X(STATE_UPDATE, "REPLACE INTO states VALUES (?,?,?,?,?,?,?,?,?,?,?,?)")              \
    X(STATE_REMOVE, "DELETE FROM states WHERE job = ?")                                  \
    X(INPUTS_REMOVE, "DELETE FROM inputs WHERE job = ?")                                 \
    X(INPUTS_COUNT, "SELECT coalesce(sum(count), 0) FROM inputs WHERE job = ?")          \
    X(INPUT_ADD, "INSERT INTO inputs VALUES (?,?,?,?,?,?)")                              \
    X(INPUT, "SELECT * FROM inputs WHERE job = ? AND first <= ? "                        \
             "ORDER BY first DESC LIMIT 1")                                              \
    X(RESULTS_REMOVE, "DELETE FROM results WHERE job = ?")                               \
    X(RESULTS_COUNT, "SELECT coalesce(sum(count), 0) FROM results WHERE job = ?")        \
    X(RESULT_ADD, "INSERT INTO results VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)")            \
    X(RESULT_BEFORE, "SELECT first, count FROM results WHERE job = ? AND first <= ? "    \
                     "ORDER BY first DESC LIMIT 1")                                      \
    X(RESULT_BEHIND, "SELECT first, count FROM results WHERE job = ? AND first > ? "     \
                     "ORDER BY first LIMIT 1")                                           \
    X(RESULT, "SELECT * FROM results WHERE job = ? AND first = ?")                       \
    X(TRY_ADD, "INSERT INTO tries VALUES (?,?,?,?,?,?,?)")                               \
    X(TRIES, "SELECT * FROM tries WHERE job = ? ORDER BY attempt, first")                \
    X(TRIES_COUNT, "SELECT count(*) FROM tries WHERE job = ?")                           \
    X(TRIES_REMOVE, "DELETE FROM tries WHERE job = ?")                                   \
    X(STRAYS, "SELECT "                                                                  \
              "(SELECT count(*) FROM states WHERE job NOT IN (SELECT id FROM jobs)) + "  \
              "(SELECT count(*) FROM inputs WHERE job NOT IN (SELECT id FROM jobs)) + "  \
              "(SELECT count(*) FROM tries WHERE job NOT IN (SELECT id FROM jobs)) + "   \
              "(SELECT count(*) FROM results WHERE job NOT IN (SELECT id FROM jobs))")   \
    X(NEED_ADD, "INSERT OR IGNORE INTO needs VALUES (?,?)")                              \
    X(NEEDS_REMOVE, "DELETE FROM needs WHERE job = ?")                                   \
    X(PIECES_UNNEEDED, "DELETE FROM pieces WHERE content NOT IN "                        \
                       "(SELECT content FROM needs)")                                    \
    X(PIECES_SIZE, "SELECT coalesce(max(first + size), 0) FROM pieces "                  \
                   "WHERE content = ?")                                                  \
    X(PIECE_ADD, "INSERT INTO pieces VALUES (?,?,?,?,?)")                                \
    X(PIECE, "SELECT * FROM pieces WHERE content = ? AND first <= ? "                    \
             "ORDER BY first DESC LIMIT 1")                                              \
    X(PIECES_REMOVE, "DELETE FROM pieces WHERE content = ?")

enum store_statement {
#define STORE_STATEMENT(name, text) STORE_##name,
    STORE_STATEMENTS(STORE_STATEMENT)
#undef STORE_STATEMENT
        STORE_STATEMENT_COUNT
};

struct store {
    char path[4096];
    int lock, last; /* files; -1: not open */
    struct id id;   /* of the file, from when it was made */
    uint64_t commits;
    uint64_t check_until_ms;
    bool checked; /* all of it, when it was opened */
    uint64_t bytes_max, page_bytes;
    sqlite3 *db;
    sqlite3_stmt *statements[STORE_STATEMENT_COUNT];
};

/* store.c */
/* What SQLite said, as an error that names the file. Returns its code. */
int store_fail(struct store *store, int result, farpool_error *error);
/* That a row is not what was written. Returns ESYSTEM. */
int store_damaged(const struct store *store, farpool_error *error, const char *format,
                  ...) __attribute__((format(printf, 3, 4)));
/* Begins the transaction, if none is open. */
int store_write(struct store *store, farpool_error *error);
/* Opens the file in a connection; runs statements; asks for a number, or a text. */
int store_connect(struct store *store, const char *path, int flags, farpool_error *error);
int store_run(struct store *store, const char *text, farpool_error *error);
int store_question(struct store *store, const char *question, int64_t *ret_number,
                   char *ret_text, size_t size, farpool_error *error);

/* store_make.c: a new file, whole before it has its name. */
int store_make(struct store *store, const char *folder, unsigned page_bytes,
               farpool_error *error);

/* store_check.c: every page, as far as there is time, and that it is of this program. */
int store_check(struct store *store, farpool_error *error);

/* store_last.c */
void store_last_path(const struct store *store, char *path, size_t size);
/* Opens that file, and holds the store against it. */
int store_last_open(struct store *store, farpool_error *error);
/* Writes store->commits, and waits until it is on the disk. */
int store_last_write(struct store *store, farpool_error *error);

/* store_row.c: a row on its way in or out; columns in order. */
struct row {
    struct store *store;
    sqlite3_stmt *statement;
    int column, result;
    bool reads;
    crypto_generichash_blake2b_state sum;
};
void row_begin(struct row *row, struct store *store, enum store_statement statement);
void row_int(struct row *row, uint64_t value);
void row_text(struct row *row, const char *text);
void row_blob(struct row *row, const void *data, size_t size); /* data NULL: NULL */
void row_payload(struct row *row, const struct payload *payload);
void row_put_sum(struct row *row); /* of all that was bound, as the last column */
/* Carries out what gives no rows, and ends. */
int row_run(struct row *row, farpool_error *error);
/* 0: there is a row, to be read; FARPOOL_END: none. row_end ends it in any case. */
int row_next(struct row *row, farpool_error *error);
uint64_t row_get_int(struct row *row);
void row_get_text(struct row *row, char *text, size_t size);
char *row_get_copy(struct row *row);              /* text, from mem_alloc */
struct payload *row_get_payload(struct row *row); /* NULL: NULL, or no memory */
bool row_get_fixed(struct row *row, void *bytes, size_t size);
/* Whether the last column is the sum of those that were read, and nothing was amiss. */
bool row_sum_is_right(struct row *row);
void row_end(struct row *row);

/* Runs a statement with one number; ends. */
int row_run_int(struct store *store, enum store_statement statement, uint64_t value,
                farpool_error *error);

#endif
