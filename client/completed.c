/* SPDX-License-Identifier: Apache-2.0
 *
 * completed.c: as_completed: waits for any of some jobs. Jobs of one pool are waited for
 * by driving that pool; for jobs of several a watch is hung on each pool, whose own
 * thread then does the driving. */
#include "client/job.h"
#include "common/sys/sys.h"

struct any {
    farpool_job *const *jobs;
    size_t count;
    size_t place; /* of a ready one */
};

static bool find_ready(void *arg)
{
    struct any *any = arg;

    for (size_t i = 0; i < any->count; i++)
        if (any->jobs[i] != NULL && job_is_ready(any->jobs[i])) {
            any->place = i;
            return true;
        }
    return false;
}

static farpool_pool *find_pool(farpool_job *const *jobs, size_t count, bool *ret_several)
{
    farpool_pool *pool = NULL;

    *ret_several = false;
    for (size_t i = 0; i < count; i++) {
        if (jobs[i] == NULL)
            continue;
        *ret_several |= pool != NULL && jobs[i]->base.pool != pool;
        pool = jobs[i]->base.pool;
    }
    return pool;
}

/* ------------------------------------------------------------- several pools */

struct several {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    uint64_t changes;
};

static bool is_first_of_its_pool(farpool_job *const *jobs, size_t place)
{
    for (size_t i = 0; i < place; i++)
        if (jobs[i] != NULL && jobs[i]->base.pool == jobs[place]->base.pool)
            return false;
    return true;
}

/* One watch a pool. watches[i] is used where jobs[i] is the first one of its pool. */
static int hang(farpool_job *const *jobs, size_t count, struct several *several,
                struct pool_watch *watches)
{
    for (size_t i = 0; i < count; i++) {
        farpool_pool *pool;
        int code;

        if (jobs[i] == NULL || !is_first_of_its_pool(jobs, i))
            continue;
        pool = jobs[i]->base.pool;
        if ((code = pool_enter(pool, "as_completed", NULL)) != 0)
            return code;
        /* A nested pool is driven by nobody but its caller. */
        if (pool->transport != NULL && !pool->thread_runs) {
            pool_leave(pool);
            return FARPOOL_EINVAL;
        }
        watches[i] = (struct pool_watch){
            &several->mutex, &several->changed, &several->changes, {0}};
        LIST_INSERT_HEAD(&pool->watches, &watches[i], entry);
        pool_leave(pool);
    }
    return 0;
}

static void unhang(farpool_job *const *jobs, size_t count, struct pool_watch *watches)
{
    for (size_t i = 0; i < count; i++) {
        if (watches[i].mutex == NULL)
            continue;
        pthread_mutex_lock(&jobs[i]->base.pool->mutex);
        LIST_REMOVE(&watches[i], entry);
        pthread_mutex_unlock(&jobs[i]->base.pool->mutex);
    }
}

/* Looks at each job under its own pool's mutex. */
static bool look(struct any *any)
{
    for (size_t i = 0; i < any->count; i++) {
        bool ready;

        if (any->jobs[i] == NULL)
            continue;
        pthread_mutex_lock(&any->jobs[i]->base.pool->mutex);
        ready = job_is_ready(any->jobs[i]);
        pthread_mutex_unlock(&any->jobs[i]->base.pool->mutex);
        if (ready) {
            any->place = i;
            return true;
        }
    }
    return false;
}

static int watch_until(struct any *any, struct several *several, uint64_t until_ms)
{
    struct timespec until = {(time_t)(until_ms / 1000),
                             (long)(until_ms % 1000) * 1000000};

    for (;;) {
        uint64_t seen;

        pthread_mutex_lock(&several->mutex);
        seen = several->changes;
        pthread_mutex_unlock(&several->mutex);
        if (look(any))
            return 0;
        if (sys_now_ms() >= until_ms)
            return FARPOOL_ETIMEDOUT;
        pthread_mutex_lock(&several->mutex);
        if (several->changes == seen && until_ms == UINT64_MAX)
            pthread_cond_wait(&several->changed, &several->mutex);
        else if (several->changes == seen)
            pthread_cond_timedwait(&several->changed, &several->mutex, &until);
        pthread_mutex_unlock(&several->mutex);
    }
}

static int wait_for_several(struct any *any, uint64_t until_ms)
{
    struct pool_watch *watches = mem_alloc(any->count * sizeof *watches);
    struct several several = {.changes = 0};
    pthread_condattr_t attributes;
    int code;

    if (watches == NULL)
        return FARPOOL_ENOMEM;
    pthread_mutex_init(&several.mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&several.changed, &attributes);
    pthread_condattr_destroy(&attributes);
    code = hang(any->jobs, any->count, &several, watches);
    if (code == 0)
        code = watch_until(any, &several, until_ms);
    unhang(any->jobs, any->count, watches);
    pthread_cond_destroy(&several.changed);
    pthread_mutex_destroy(&several.mutex);
    mem_free(watches);
    return code;
}

int farpool_as_completed(farpool_job *const *jobs, size_t count, int64_t timeout_ms,
                         size_t *ret_place)
{
    struct any any = {jobs, count, 0};
    farpool_pool *pool;
    uint64_t until_ms;
    bool several;
    int code = options_read_timeout(timeout_ms, "as_completed", &until_ms, NULL);

    if (code != 0 || ret_place == NULL || (jobs == NULL && count > 0))
        return FARPOOL_EINVAL;
    if ((pool = find_pool(jobs, count, &several)) == NULL)
        return FARPOOL_END;
    if (several) {
        code = wait_for_several(&any, until_ms);
        if (code == 0 &&
            pool_enter(pool = jobs[any.place]->base.pool, "as_completed", NULL) == 0) {
            driver_wait_for_output(pool, until_ms);
            pool_leave(pool);
        }
    } else if ((code = pool_enter(pool, "as_completed", NULL)) == 0) {
        code = driver_wait(pool, find_ready, &any, until_ms);
        pool_leave(pool);
    }
    if (code == 0)
        *ret_place = any.place;
    return code;
}
