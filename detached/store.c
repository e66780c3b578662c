/* SPDX-License-Identifier: Apache-2.0
 *
 * store.c: the file of the store: how it is opened, its limit, its transactions, and how
 * SQLite's errors are told.
 *
 * A file that is there was made whole beside its place and renamed into it, so one that
 * is empty, of another kind or not whole is damaged, and named as such: it is never taken
 * for an empty store. The same for a log without its file. */
#include "common/base/error.h"
#include "common/base/mem.h"
#include "detached/store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define WAL_PAGES 1024         /* after which they are moved into the file */
#define WAL_BYTES_MAX 67108864 /* it is cut to that when it was emptied */

static unsigned page_bytes = 4096;

void store_set_page_bytes(unsigned bytes)
{
    page_bytes = bytes;
}

static const char *const statements[] = {
#define STATEMENT_TEXT(name, text) [STORE_##name] = (text),
    STORE_STATEMENTS(STATEMENT_TEXT)
#undef STATEMENT_TEXT
};

/* ---------------------------------------------------------------------- errors */

int store_damaged(const struct store *store, farpool_error *error, const char *format,
                  ...)
{
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return error_set(error, FARPOOL_ESYSTEM,
                     "%s is damaged: %s; move %s* away to begin anew, or put copies in "
                     "their place",
                     store->path, text, store->path);
}

int store_fail(struct store *store, int result, farpool_error *error)
{
    const char *text = store->db != NULL ? sqlite3_errmsg(store->db) : "";
    switch (result & 0xff) {
    case SQLITE_NOMEM:
        return error_set(error, FARPOOL_ENOMEM, "%s: out of memory", store->path);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return store_damaged(store, error, "%s", text);
    case SQLITE_FULL:
        if (store->db != NULL &&
            store_bytes(store) + store->bytes_max / 32 >= store->bytes_max)
            return error_set(error, FARPOOL_EFULL,
                             "%s has reached its limit of %llu bytes "
                             "(--detached-max-bytes)",
                             store->path, (unsigned long long)store->bytes_max);
        return error_set(error, FARPOOL_ENOSPACE, "%s: no space is left on its disk",
                         store->path);
    default:
        return error_set(error, FARPOOL_ESYSTEM, "%s: %s", store->path, text);
    }
}

/* ---------------------------------------------------------------- transactions */

int store_write(struct store *store, farpool_error *error)
{
    struct row row;
    if (!sqlite3_get_autocommit(store->db))
        return 0;
    row_begin(&row, store, STORE_BEGIN);
    return row_run(&row, error);
}

int store_commit(struct store *store, farpool_error *error)
{
    struct row row;
    if (sqlite3_get_autocommit(store->db))
        return 0;
    int code = row_run_int(store, STORE_MARK_UPDATE, store->commits + 1, error);
    if (code != 0)
        return code;
    row_begin(&row, store, STORE_COMMIT);
    if ((code = row_run(&row, error)) != 0)
        return code;
    store->commits++;
    return store_last_write(store, error);
}

void store_rollback(struct store *store)
{
    struct row row;
    if (sqlite3_get_autocommit(store->db))
        return;
    row_begin(&row, store, STORE_ROLLBACK);
    row_run(&row, NULL);
}

static uint64_t read_pragma(const struct store *store, enum store_statement statement)
{
    sqlite3_stmt *at = store->statements[statement];
    uint64_t value = 0;
    if (sqlite3_step(at) == SQLITE_ROW)
        value = (uint64_t)sqlite3_column_int64(at, 0);
    sqlite3_reset(at);
    return value;
}

uint64_t store_bytes(const struct store *store)
{
    const uint64_t pages = read_pragma(store, STORE_PAGES);
    const uint64_t unused = read_pragma(store, STORE_FREE_PAGES);
    return (pages - (unused < pages ? unused : pages)) * store->page_bytes;
}

uint64_t store_bytes_max(const struct store *store)
{
    return store->bytes_max;
}

bool store_is_checked(const struct store *store)
{
    return store->checked;
}

/* --------------------------------------------------------------------- opening */

int store_run(struct store *store, const char *text, farpool_error *error)
{
    const int result = sqlite3_exec(store->db, text, NULL, NULL, NULL);
    return result == SQLITE_OK ? 0 : store_fail(store, result, error);
}

int store_question(struct store *store, const char *question, int64_t *ret_number,
                   char *ret_text, size_t size, farpool_error *error)
{
    sqlite3_stmt *statement = NULL;
    int result = sqlite3_prepare_v2(store->db, question, -1, &statement, NULL);
    if (result == SQLITE_OK)
        result = sqlite3_step(statement);
    if (result == SQLITE_ROW) {
        *ret_number = sqlite3_column_int64(statement, 0);
        if (ret_text != NULL)
            snprintf(ret_text, size, "%s",
                     (const char *)sqlite3_column_text(statement, 0));
    }
    const int code = result == SQLITE_ROW         ? 0
                     : result == SQLITE_INTERRUPT ? FARPOOL_ETIMEDOUT
                                                  : store_fail(store, result, error);
    sqlite3_finalize(statement);
    return code;
}

int store_connect(struct store *store, const char *path, int flags, farpool_error *error)
{
    const int result = sqlite3_open_v2(
        path, &store->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | flags, NULL);
    if (result != SQLITE_OK)
        return store_fail(store, result, error);
    sqlite3_extended_result_codes(store->db, 1);
    sqlite3_busy_timeout(store->db, 0);
    return 0;
}

static int look(struct store *store, const char *folder, farpool_error *error)
{
    char wal[sizeof store->path + 8], last[sizeof store->path + 32];
    struct stat file, log;
    const bool there = stat(store->path, &file) == 0;
    snprintf(wal, sizeof wal, "%s-wal", store->path);
    store_last_path(store, last, sizeof last);
    if (!there && errno != ENOENT)
        return error_set(error, FARPOOL_ESYSTEM, "%s: %s", store->path, strerror(errno));
    if (there)
        return file.st_size > 0 ? 0 : store_damaged(store, error, "it is empty");
    if (stat(wal, &log) == 0 && log.st_size > 0)
        return store_damaged(store, error, "it is gone, but its log %s is there", wal);
    if (stat(last, &log) == 0)
        return store_damaged(store, error, "it is gone, but %s is there", last);
    return store_make(store, folder, page_bytes, error);
}

/* Until all is known to be right, closing must not write the log into the file. */
static void set_checkpoints(struct store *store, bool on)
{
    sqlite3_db_config(store->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, on ? 0 : 1, NULL);
}

static int set_up(struct store *store, farpool_error *error)
{
    char text[256];
    int64_t page = 0;
    char mode[16] = "";
    int code = store_question(store, "PRAGMA journal_mode = WAL", &page, mode,
                              sizeof mode, error);
    if (code == 0 && strcmp(mode, "wal") != 0)
        return error_set(error, FARPOOL_ESYSTEM, "%s: its file system allows no WAL",
                         store->path);
    if (code == 0)
        code = store_question(store, "PRAGMA page_size", &page, NULL, 0, error);
    if (code == 0 && page <= 0)
        code = store_damaged(store, error, "pages of %lld bytes", (long long)page);
    if (code != 0 || page <= 0)
        return code;
    store->page_bytes = (uint64_t)page;
    snprintf(text, sizeof text,
             "PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY;"
             "PRAGMA wal_autocheckpoint = %d;"
             "PRAGMA journal_size_limit = %d; PRAGMA max_page_count = %llu",
             WAL_PAGES, WAL_BYTES_MAX,
             (unsigned long long)(store->bytes_max / store->page_bytes));
    if ((code = store_run(store, text, error)) != 0)
        return code;
    for (int i = 0; i < STORE_STATEMENT_COUNT; i++) {
        const int result =
            sqlite3_prepare_v3(store->db, statements[i], -1, SQLITE_PREPARE_PERSISTENT,
                               &store->statements[i], NULL);
        if (result != SQLITE_OK)
            return store_fail(store, result, error);
    }
    return 0;
}

/* Nobody else: two coordinators would run the same jobs. */
static int take_folder(struct store *store, const char *folder, farpool_error *error)
{
    struct stat stat;
    char path[sizeof store->path + 8];
    if (mkdir(folder, 0700) != 0 && errno != EEXIST)
        return error_set(error, FARPOOL_ESYSTEM, "%s: %s", folder, strerror(errno));
    if (lstat(folder, &stat) != 0 || !S_ISDIR(stat.st_mode) || (stat.st_mode & 022) != 0)
        return error_set(error, FARPOOL_ESYSTEM,
                         "%s: a folder that nobody else may write to is wanted", folder);
    snprintf(path, sizeof path, "%s.lock", store->path);
    store->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (store->lock < 0)
        return error_set(error, FARPOOL_ESYSTEM, "%s: %s", path, strerror(errno));
    if (flock(store->lock, LOCK_EX | LOCK_NB) != 0)
        return error_set(error, FARPOOL_ESYSTEM,
                         "%s: another coordinator keeps its jobs there", folder);
    return 0;
}

int store_open(const char *folder, uint64_t bytes_max, struct store **ret_store,
               farpool_error *error)
{
    struct store *store = mem_alloc(sizeof *store);
    if (store == NULL)
        return error_set(error, FARPOOL_ENOMEM, "%s: out of memory", folder);
    store->lock = store->last = -1;
    store->bytes_max = bytes_max;
    snprintf(store->path, sizeof store->path, "%.4000s/" STORE_FILE, folder);
    int code = take_folder(store, folder, error);
    if (code == 0)
        code = look(store, folder, error);
    if (code == 0)
        code = store_connect(store, store->path, 0, error);
    if (code == 0) {
        set_checkpoints(store, false);
        code = store_check(store, error);
    }
    if (code == 0)
        code = set_up(store, error);
    if (code == 0)
        code = store_last_open(store, error);
    if (code != 0) {
        store_close(store);
        return code;
    }
    set_checkpoints(store, true);
    *ret_store = store;
    return code;
}

void store_close(struct store *store)
{
    if (store == NULL)
        return;
    for (int i = 0; i < STORE_STATEMENT_COUNT; i++)
        sqlite3_finalize(store->statements[i]);
    sqlite3_close(store->db);
    if (store->last >= 0)
        close(store->last);
    if (store->lock >= 0)
        close(store->lock);
    mem_free(store);
}
