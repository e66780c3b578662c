/* SPDX-License-Identifier: Apache-2.0
 *
 * store.c: the file of the store: how it is opened and made, that it is whole, its limit,
 * its transactions, and how SQLite's errors are told.
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

static const char schema[] =
    "CREATE TABLE jobs (id INTEGER PRIMARY KEY AUTOINCREMENT, owner BLOB, name TEXT,"
    " owner_role INTEGER, owner_name TEXT, protocol INTEGER, spec BLOB, argument BLOB,"
    " state INTEGER, tasks INTEGER, done INTEGER, failed INTEGER, bytes INTEGER,"
    " submitted_ms INTEGER, age_s INTEGER, code INTEGER, reason TEXT, sum INTEGER,"
    " UNIQUE (owner, name));"
    "CREATE TABLE inputs (job INTEGER, first INTEGER, count INTEGER, sizes BLOB,"
    " data BLOB, sum INTEGER, PRIMARY KEY (job, first));"
    "CREATE TABLE results (job INTEGER, first INTEGER, count INTEGER, code INTEGER,"
    " attempt INTEGER, exit_status INTEGER, signal INTEGER, pid INTEGER, node TEXT,"
    " message TEXT, backtrace TEXT, sizes BLOB, data BLOB, sum INTEGER,"
    " PRIMARY KEY (job, first));"
    "CREATE TABLE needs (job INTEGER, content BLOB, PRIMARY KEY (job, content));"
    "CREATE INDEX needs_content ON needs (content);"
    "CREATE TABLE pieces (content BLOB, first INTEGER, size INTEGER, data BLOB,"
    " sum INTEGER, PRIMARY KEY (content, first));";

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
                     "%s is damaged: %s; move it away to begin anew, or put a copy in "
                     "its place",
                     store->path, text);
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
    row_begin(&row, store, STORE_COMMIT);
    return row_run(&row, error);
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

/* --------------------------------------------------------------------- opening */

static int run(struct store *store, const char *text, farpool_error *error)
{
    const int result = sqlite3_exec(store->db, text, NULL, NULL, NULL);
    return result == SQLITE_OK ? 0 : store_fail(store, result, error);
}

static int ask(struct store *store, const char *question, int64_t *ret_number,
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
    const int code = result == SQLITE_ROW ? 0 : store_fail(store, result, error);
    sqlite3_finalize(statement);
    return code;
}

static int open_file(struct store *store, const char *path, int flags,
                     farpool_error *error)
{
    const int result = sqlite3_open_v2(
        path, &store->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | flags, NULL);
    if (result != SQLITE_OK)
        return store_fail(store, result, error);
    sqlite3_extended_result_codes(store->db, 1);
    sqlite3_busy_timeout(store->db, 0);
    return 0;
}

static int sync_folder(const char *folder, farpool_error *error)
{
    const int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const int failed = fd < 0 || fsync(fd) != 0 ? errno : 0;
    if (fd >= 0)
        close(fd);
    return failed == 0
               ? 0
               : error_set(error, FARPOOL_ESYSTEM, "%s: %s", folder, strerror(failed));
}

/* A new file, whole before it has its name. */
static int make(struct store *store, const char *folder, farpool_error *error)
{
    char text[256], path[sizeof store->path + 8];
    snprintf(path, sizeof path, "%s.new", store->path);
    if (unlink(path) != 0 && errno != ENOENT)
        return error_set(error, FARPOOL_ESYSTEM, "%s: %s", path, strerror(errno));
    int code = open_file(store, path, SQLITE_OPEN_CREATE, error);
    snprintf(text, sizeof text,
             "PRAGMA page_size = %u;"
             "PRAGMA synchronous = FULL; PRAGMA application_id = %d;"
             "PRAGMA user_version = %d; BEGIN",
             page_bytes, STORE_APPLICATION, STORE_VERSION);
    if (code == 0)
        code = run(store, text, error);
    if (code == 0)
        code = run(store, schema, error);
    if (code == 0)
        code = run(store, "COMMIT", error);
    sqlite3_close(store->db);
    store->db = NULL;
    if (code == 0 && rename(path, store->path) != 0)
        code = error_set(error, FARPOOL_ESYSTEM, "%s: %s", path, strerror(errno));
    return code == 0 ? sync_folder(folder, error) : code;
}

static int look(struct store *store, const char *folder, farpool_error *error)
{
    char wal[sizeof store->path + 8];
    struct stat file, log;
    const bool there = stat(store->path, &file) == 0;
    snprintf(wal, sizeof wal, "%s-wal", store->path);
    if (!there && errno != ENOENT)
        return error_set(error, FARPOOL_ESYSTEM, "%s: %s", store->path, strerror(errno));
    if (there)
        return file.st_size > 0 ? 0 : store_damaged(store, error, "it is empty");
    if (stat(wal, &log) == 0 && log.st_size > 0)
        return store_damaged(store, error, "it is gone, but its log %s is there", wal);
    return make(store, folder, error);
}

/* Every page, and that it is of this program. */
static int check(struct store *store, farpool_error *error)
{
    char text[200] = "";
    int64_t application = 0, version = 0, number = 0;
    int code = ask(store, "PRAGMA application_id", &application, NULL, 0, error);
    if (code == 0)
        code = ask(store, "PRAGMA user_version", &version, NULL, 0, error);
    if (code != 0)
        return code;
    if (application != STORE_APPLICATION)
        return store_damaged(store, error, "it is no store of Farpool's");
    if (version != STORE_VERSION)
        return store_damaged(store, error, "its version is %lld, and not %d",
                             (long long)version, STORE_VERSION);
    code = ask(store, "PRAGMA integrity_check(1)", &number, text, sizeof text, error);
    if (code == 0 && strcmp(text, "ok") != 0)
        return store_damaged(store, error, "%s", text);
    return code;
}

static int set_up(struct store *store, farpool_error *error)
{
    char text[256];
    int64_t page = 0;
    char mode[16] = "";
    int code = ask(store, "PRAGMA journal_mode = WAL", &page, mode, sizeof mode, error);
    if (code == 0 && strcmp(mode, "wal") != 0)
        return error_set(error, FARPOOL_ESYSTEM, "%s: its file system allows no WAL",
                         store->path);
    if (code == 0)
        code = ask(store, "PRAGMA page_size", &page, NULL, 0, error);
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
    if ((code = run(store, text, error)) != 0)
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
    store->lock = -1;
    store->bytes_max = bytes_max;
    snprintf(store->path, sizeof store->path, "%.4000s/" STORE_FILE, folder);
    int code = take_folder(store, folder, error);
    if (code == 0)
        code = look(store, folder, error);
    if (code == 0)
        code = open_file(store, store->path, 0, error);
    if (code == 0)
        code = check(store, error);
    if (code == 0)
        code = set_up(store, error);
    if (code == 0)
        *ret_store = store;
    else
        store_close(store);
    return code;
}

void store_close(struct store *store)
{
    if (store == NULL)
        return;
    for (int i = 0; i < STORE_STATEMENT_COUNT; i++)
        sqlite3_finalize(store->statements[i]);
    sqlite3_close(store->db);
    if (store->lock >= 0)
        close(store->lock);
    mem_free(store);
}
