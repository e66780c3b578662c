/* SPDX-License-Identifier: Apache-2.0
 *
 * store_make.c: a new store. The columns of jobs never change; what does, with nearly
 * each commit, is a short row in states. Where inputs and results are is found in indices
 * that have their counts too, so that nothing walks through their bytes to find or count
 * them.
 */
#include "common/base/error.h"
#include "common/sys/sys.h"
#include "detached/store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char schema[] =
    "CREATE TABLE mark (number INTEGER, store BLOB);"
    "CREATE TABLE jobs (id INTEGER PRIMARY KEY AUTOINCREMENT, owner BLOB, name TEXT,"
    " owner_role INTEGER, owner_name TEXT, protocol INTEGER, spec BLOB, argument BLOB,"
    " submitted_ms INTEGER, seed BLOB, tag INTEGER, sum INTEGER, UNIQUE (owner, name));"
    "CREATE TABLE states (job INTEGER PRIMARY KEY, state INTEGER, tasks INTEGER,"
    " done INTEGER, failed INTEGER, bytes INTEGER, age_s INTEGER, code INTEGER,"
    " reason TEXT, given INTEGER, tries INTEGER, sum INTEGER);"
    "CREATE TABLE inputs (job INTEGER, first INTEGER, count INTEGER, sizes BLOB,"
    " data BLOB, sum INTEGER);"
    "CREATE UNIQUE INDEX inputs_at ON inputs (job, first, count);"
    "CREATE TABLE results (job INTEGER, first INTEGER, count INTEGER, code INTEGER,"
    " attempt INTEGER, exit_status INTEGER, signal INTEGER, pid INTEGER, node TEXT,"
    " message TEXT, backtrace TEXT, sizes BLOB, data BLOB, sum INTEGER);"
    "CREATE UNIQUE INDEX results_at ON results (job, first, count);"
    "CREATE TABLE tries (job INTEGER, first INTEGER, count INTEGER, attempt INTEGER,"
    " losses INTEGER, failures INTEGER, sum INTEGER, PRIMARY KEY (job, attempt, first));"
    "CREATE TABLE needs (job INTEGER, content BLOB, PRIMARY KEY (job, content));"
    "CREATE INDEX needs_content ON needs (content);"
    "CREATE TABLE pieces (content BLOB, first INTEGER, size INTEGER, data BLOB,"
    " sum INTEGER, PRIMARY KEY (content, first));";

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

static int fill(struct store *store, unsigned page_bytes, farpool_error *error)
{
    char text[320];
    snprintf(text, sizeof text,
             "PRAGMA page_size = %u;"
             "PRAGMA synchronous = FULL; PRAGMA application_id = %d;"
             "PRAGMA user_version = %d; BEGIN",
             page_bytes, STORE_APPLICATION, STORE_VERSION);
    int code = store_run(store, text, error);
    if (code == 0)
        code = store_run(store, schema, error);
    snprintf(text, sizeof text, "INSERT INTO mark VALUES (0, x'%016llx%016llx'); COMMIT",
             (unsigned long long)sys_random(), (unsigned long long)sys_random());
    return code == 0 ? store_run(store, text, error) : code;
}

int store_make(struct store *store, const char *folder, unsigned page_bytes,
               farpool_error *error)
{
    char path[sizeof store->path + 8];
    snprintf(path, sizeof path, "%s.new", store->path);
    if (unlink(path) != 0 && errno != ENOENT)
        return error_set(error, FARPOOL_ESYSTEM, "%s: %s", path, strerror(errno));
    int code = store_connect(store, path, SQLITE_OPEN_CREATE, error);
    if (code == 0)
        code = fill(store, page_bytes, error);
    sqlite3_close(store->db);
    store->db = NULL;
    if (code == 0 && rename(path, store->path) != 0)
        code = error_set(error, FARPOOL_ESYSTEM, "%s: %s", path, strerror(errno));
    return code == 0 ? sync_folder(folder, error) : code;
}
