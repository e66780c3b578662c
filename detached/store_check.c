/* SPDX-License-Identifier: Apache-2.0
 *
 * store_check.c: that an opened file is a store, and whole. SQLite's own check reads
 * every page, which for many gigabytes takes minutes: after check_ms it is told to
 * stop, and what is wrong in the rest is found when that is read, by SQLite or by the
 * checksums of the rows. */
#include "common/base/error.h"
#include "common/sys/sys.h"
#include "detached/store_internal.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#define AGAIN_MS 10

static unsigned check_ms = 5000; /* what opening may take for looking at all of it */

void store_set_check_ms(unsigned ms)
{
    check_ms = ms;
}

/* Stops the connection's statement after a while. */
struct watch {
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t over;
    sqlite3 *db;
    bool is_over;
};

static void add_ms(struct timespec *time, unsigned ms)
{
    const long ns = time->tv_nsec + (long)(ms % 1000) * 1000000;
    time->tv_sec += ms / 1000 + ns / 1000000000;
    time->tv_nsec = ns % 1000000000;
}

static void *stop_late(void *arg)
{
    struct watch *watch = arg;
    struct timespec until;
    int result = 0;
    clock_gettime(CLOCK_MONOTONIC, &until);
    add_ms(&until, check_ms);
    pthread_mutex_lock(&watch->mutex);
    while (!watch->is_over) {
        result = pthread_cond_timedwait(&watch->over, &watch->mutex, &until);
        if (watch->is_over || result != ETIMEDOUT)
            continue;
        sqlite3_interrupt(watch->db); /* again, if it had not begun */
        add_ms(&until, AGAIN_MS);
    }
    pthread_mutex_unlock(&watch->mutex);
    return NULL;
}

static int begin(struct watch *watch, sqlite3 *db)
{
    pthread_condattr_t clock;
    *watch = (struct watch){.db = db};
    pthread_mutex_init(&watch->mutex, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&watch->over, &clock);
    pthread_condattr_destroy(&clock);
    return pthread_create(&watch->thread, NULL, stop_late, watch);
}

static void end(struct watch *watch, bool runs)
{
    pthread_mutex_lock(&watch->mutex);
    watch->is_over = true;
    pthread_cond_signal(&watch->over);
    pthread_mutex_unlock(&watch->mutex);
    if (runs)
        pthread_join(watch->thread, NULL);
    pthread_cond_destroy(&watch->over);
    pthread_mutex_destroy(&watch->mutex);
}

static int check_pages(struct store *store, farpool_error *error)
{
    char text[200] = "";
    int64_t number = 0;
    struct watch watch;
    const int failed = begin(&watch, store->db);
    int code = failed != 0
                   ? error_set(error, FARPOOL_ESYSTEM, "%s: cannot start a thread: %s",
                               store->path, strerror(failed))
                   : store_question(store, "PRAGMA integrity_check(1)", &number, text,
                                    sizeof text, error);
    end(&watch, failed == 0);
    if (code == FARPOOL_ETIMEDOUT)
        return 0;
    store->checked = code == 0;
    return code == 0 && strcmp(text, "ok") != 0 ? store_damaged(store, error, "%s", text)
                                                : code;
}

int store_check(struct store *store, farpool_error *error)
{
    int64_t application = 0, version = 0;
    int code =
        store_question(store, "PRAGMA application_id", &application, NULL, 0, error);
    if (code == 0)
        code = store_question(store, "PRAGMA user_version", &version, NULL, 0, error);
    if (code != 0)
        return code;
    if (application != STORE_APPLICATION)
        return store_damaged(store, error, "it is no store of Farpool's");
    if (version != STORE_VERSION)
        return store_damaged(store, error, "its version is %lld, and not %d",
                             (long long)version, STORE_VERSION);
    store->check_until_ms = sys_now_ms() + check_ms;
    return check_pages(store, error);
}
