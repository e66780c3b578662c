/* SPDX-License-Identifier: Apache-2.0
 *
 * A disk that says no to the store of detached jobs: each write, sync, truncation, rename
 * and removal that the store does fails in turn, and all behind it, as when the disk is
 * full or broken: what was acknowledged is there afterwards. SQLite's own go through a
 * shim of its file system, the store's through the linker (--wrap). Each kind of them
 * must have come, so that none is forgotten. */
#include "store_fixture.h"

#include <errno.h>
#include <sqlite3.h>

/* Where the store writes. */
#define SITES(X)                                                                         \
    X(FILE_WRITE)                                                                        \
    X(FILE_SYNC)                                                                         \
    X(FILE_TRUNCATE)                                                                     \
    X(LOG_WRITE)                                                                         \
    X(LOG_SYNC)                                                                          \
    X(JOURNAL_WRITE)                                                                     \
    X(JOURNAL_SYNC)                                                                      \
    X(SHARED_MAP)                                                                        \
    X(DELETE)                                                                            \
    X(RENAME)                                                                            \
    X(LAST_WRITE)                                                                        \
    X(LAST_SYNC)                                                                         \
    X(FOLDER_SYNC)

enum site {
#define SITE_ENUM(name) SITE_##name,
    SITES(SITE_ENUM)
#undef SITE_ENUM
        SITE_COUNT
};
static const char *const site_names[] = {
#define SITE_NAME(name) #name,
    SITES(SITE_NAME)
#undef SITE_NAME
};

static struct {
    bool on;
    unsigned long at, calls; /* the at-th call fails, and all behind it */
    int result;              /* of SQLite's */
    unsigned long came[SITE_COUNT], failed[SITE_COUNT];
} fault;

static int fails(enum site site)
{
    if (!fault.on)
        return SQLITE_OK;
    fault.came[site]++;
    if (++fault.calls < fault.at || fault.at == 0)
        return SQLITE_OK;
    fault.failed[site] += fault.calls == fault.at;
    return fault.result;
}

/* ------------------------------------------------------------------ the store's own */

ssize_t __real_pwrite(int fd, const void *data, size_t size, off_t offset);
ssize_t __wrap_pwrite(int fd, const void *data, size_t size, off_t offset);
int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __real_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to);

static bool says_no(enum site site)
{
    if (fails(site) == SQLITE_OK)
        return false;
    errno = fault.result == SQLITE_FULL ? ENOSPC : EIO;
    return true;
}

ssize_t __wrap_pwrite(int fd, const void *data, size_t size, off_t offset)
{
    return says_no(SITE_LAST_WRITE) ? -1 : __real_pwrite(fd, data, size, offset);
}

int __wrap_fdatasync(int fd)
{
    return says_no(SITE_LAST_SYNC) ? -1 : __real_fdatasync(fd);
}

int __wrap_fsync(int fd)
{
    return says_no(SITE_FOLDER_SYNC) ? -1 : __real_fsync(fd);
}

int __wrap_rename(const char *from, const char *to)
{
    return says_no(SITE_RENAME) ? -1 : __real_rename(from, to);
}

/* ----------------------------------------------------------------------- SQLite's */

/* The system's methods of a kind of file, some of them replaced. */
static struct kind {
    sqlite3_io_methods methods;
    const sqlite3_io_methods *real;
} kinds[8];

static struct {
    const sqlite3_file *file;
    enum site write;
} files[16];

static const sqlite3_io_methods *real_of(const sqlite3_file *file)
{
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (file->pMethods == &kinds[i].methods)
            return kinds[i].real;
    return NULL;
}

static enum site write_site_of(const sqlite3_file *file)
{
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        if (files[i].file == file)
            return files[i].write;
    fail_msg("a file that was not opened");
    return SITE_COUNT;
}

static void note_file(const sqlite3_file *file, const char *name)
{
    size_t i = 0;
    while (i < sizeof files / sizeof files[0] && files[i].file != NULL)
        i++;
    assert_true(i < sizeof files / sizeof files[0]);
    files[i].file = file;
    files[i].write = name != NULL && strstr(name, "-wal") != NULL ? SITE_LOG_WRITE
                     : name == NULL || strstr(name, "-journal") != NULL
                         ? SITE_JOURNAL_WRITE
                         : SITE_FILE_WRITE;
}

static int close_file(sqlite3_file *file)
{
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        if (files[i].file == file)
            files[i].file = NULL;
    return real_of(file)->xClose(file);
}

static int fail_write(sqlite3_file *file, const void *data, int size,
                      sqlite3_int64 offset)
{
    const int result = fails(write_site_of(file));
    return result != SQLITE_OK ? result : real_of(file)->xWrite(file, data, size, offset);
}

static int fail_sync(sqlite3_file *file, int flags)
{
    const enum site write = write_site_of(file);
    const int result = fails(write == SITE_LOG_WRITE       ? SITE_LOG_SYNC
                             : write == SITE_JOURNAL_WRITE ? SITE_JOURNAL_SYNC
                                                           : SITE_FILE_SYNC);
    return result == SQLITE_OK     ? real_of(file)->xSync(file, flags)
           : result == SQLITE_FULL ? SQLITE_FULL
                                   : SQLITE_IOERR_FSYNC;
}

static int fail_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    const int result = fails(SITE_FILE_TRUNCATE);
    return result == SQLITE_OK     ? real_of(file)->xTruncate(file, size)
           : result == SQLITE_FULL ? SQLITE_FULL
                                   : SQLITE_IOERR_TRUNCATE;
}

static int fail_map(sqlite3_file *file, int region, int size, int extend,
                    void volatile **ret_memory)
{
    const int result = fails(SITE_SHARED_MAP);
    return result == SQLITE_OK
               ? real_of(file)->xShmMap(file, region, size, extend, ret_memory)
               : SQLITE_IOERR_SHMSIZE;
}

static sqlite3_vfs *system_vfs, shim;

static int open_shim(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags,
                     int *ret_flags)
{
    (void)vfs;
    const int result = system_vfs->xOpen(system_vfs, name, file, flags, ret_flags);
    if (result != SQLITE_OK || file->pMethods == NULL)
        return result;
    size_t i = 0;
    while (kinds[i].real != NULL && kinds[i].real != file->pMethods)
        i++;
    assert_true(i < sizeof kinds / sizeof kinds[0]);
    if (kinds[i].real == NULL) {
        kinds[i] = (struct kind){*file->pMethods, file->pMethods};
        kinds[i].methods.xClose = close_file;
        kinds[i].methods.xWrite = fail_write;
        kinds[i].methods.xSync = fail_sync;
        kinds[i].methods.xTruncate = fail_truncate;
        if (kinds[i].methods.iVersion >= 2 && kinds[i].methods.xShmMap != NULL)
            kinds[i].methods.xShmMap = fail_map;
    }
    file->pMethods = &kinds[i].methods;
    note_file(file, name);
    return SQLITE_OK;
}

static int fail_delete(sqlite3_vfs *vfs, const char *name, int sync)
{
    (void)vfs;
    const int result = fails(SITE_DELETE);
    return result == SQLITE_OK ? system_vfs->xDelete(system_vfs, name, sync)
                               : SQLITE_IOERR_DELETE;
}

static void use_shim(void)
{
    system_vfs = sqlite3_vfs_find(NULL);
    shim = *system_vfs;
    shim.zName = "failing";
    shim.xOpen = open_shim;
    shim.xDelete = fail_delete;
    assert_int_equal(sqlite3_vfs_register(&shim, 1), SQLITE_OK);
}

/* ------------------------------------------------------------------------- the tests */

/* Commits results one by one, until one fails; how many were acknowledged. */
static uint64_t store_until_failure(void)
{
    uint64_t acknowledged = 0;
    int64_t id;
    fault.calls = 0;
    fault.on = true;
    if (open_store() != 0) {
        fault.on = false;
        return 0;
    }
    int code = add_job("a", &id);
    if (code == 0)
        code = add_input(id, 0, TASKS);
    if (code == 0)
        code = count_job(id, "a", TASKS, 0);
    if (code == 0)
        code = store_commit(store, &error);
    while (code == 0 && acknowledged < TASKS) {
        code = add_result(id, acknowledged, 1);
        if (code == 0)
            code = count_job(id, "a", TASKS, acknowledged + 1);
        if (code == 0)
            code = store_commit(store, &error);
        acknowledged += code == 0;
    }
    if (code != 0)
        assert_non_null(strstr(error.text, STORE_FILE));
    close_store();
    fault.on = false;
    return acknowledged;
}

static int take_done(void *user, struct store_job *job)
{
    *(uint64_t *)user = job->done;
    return 0;
}

/* What was acknowledged is there; at most one more, whose commit failed too late. */
static void check_acknowledged(uint64_t acknowledged)
{
    uint64_t done = 0;
    struct store_result result;
    fault.at = 0;
    assert_done(open_store());
    assert_done(store_jobs_read(store, take_done, &done, &error));
    assert_true(done == acknowledged || done == acknowledged + 1);
    for (uint64_t i = 0; i < done; i++) {
        assert_done(store_result_read(store, 1, i, true, &result, &error));
        assert_int_equal(result.first, i);
        store_result_fini(&result);
    }
    close_store();
}

static void try_failing(int result)
{
    unsigned long calls;
    char command[80];
    use_shim();
    memset(&fault, 0, sizeof fault);
    fault.result = result;
    assert_int_equal(store_until_failure(), TASKS);
    calls = fault.calls;
    assert_true(calls > 100);
    for (unsigned long at = 1; at <= calls; at++) {
        snprintf(command, sizeof command, "rm -f %s/*", folder);
        assert_int_equal(system(command), 0);
        fault.at = at;
        const uint64_t acknowledged = store_until_failure();
        assert_true(acknowledged < TASKS || at > calls - 40); /* closing writes too */
        check_acknowledged(acknowledged);
    }
    for (int i = 0; i < SITE_COUNT; i++)
        if (fault.failed[i] == 0)
            fail_msg("%s has never failed: it came %lu times", site_names[i],
                     fault.came[i]);
    sqlite3_vfs_unregister(&shim);
}

static void test_full_disk(void **state)
{
    (void)state;
    try_failing(SQLITE_FULL);
}

static void test_failing_disk(void **state)
{
    (void)state;
    try_failing(SQLITE_IOERR_WRITE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_full_disk, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_failing_disk, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
