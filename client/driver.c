/* SPDX-License-Identifier: Apache-2.0
 *
 * driver.c: who runs a pool's loop. One thread at a time drives: it collects events,
 * steps the cores, carries out effects, and sleeps in the transport's wait with the mutex
 * released. A caller that has to wait drives itself when nobody does, which saves a
 * thread's wake-up on every result; other callers wait on `changed`.
 *
 * The pool's own thread, the result thread, starts processes (the kernel ends them with
 * the thread that started them), runs callbacks, and drives when no caller does: at once
 * when one has submitted and gone, a little later when one has just stopped driving (it
 * is likely to be back, as in a loop of apply), and at the cores' deadline when idle.
 *
 * A nested pool has no such thread: only the thread of its task may touch the relay, so
 * that one drives whenever it is in a call, and runs the callbacks there. */
#include "client/pool.h"
#include "client/process.h"
#include "common/base/error.h"
#include "common/sys/sys.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>

#define SPIN_NS 40000    /* about one wake-up's worth */
#define GRACE_NS 2000000 /* a caller is expected back within it */
#define IDLE_MS_MAX 60000

static bool is_thread(const farpool_pool *pool)
{
    return pool->thread_runs && pthread_equal(pool->thread, pthread_self());
}

bool driver_in_callback(const farpool_pool *pool, const struct pool_job *job)
{
    return pool->called == job && pthread_equal(pool->thread, pthread_self());
}

bool driver_in_any_callback(const farpool_pool *pool)
{
    return pool->called != NULL && driver_in_callback(pool, pool->called);
}

/* An idle pool is attended to at its deadlines only; not while it finds its coordinator
 * again, since then its processes wait to be claimed. */
static bool is_cut_off(const farpool_pool *pool)
{
    struct client_pool_counts counts;

    if (pool->transport->kind->embedded || pool->failure != 0)
        return false;
    client_core_pool_counts(pool->core, &counts);
    return !counts.connected;
}

/* Whether somebody has to run the loop. */
static bool has_work(const farpool_pool *pool)
{
    if (pool->transport == NULL || pool->ended)
        return false;
    return pool->jobs != NULL || pool->state != POOL_RUNNING || is_cut_off(pool);
}

static bool has_starts(const farpool_pool *pool)
{
    return pool->transport != NULL && pool->transport->kind->starts != NULL &&
           pool->transport->kind->starts(pool->transport);
}

/* Whether the user is to be called on the result thread. */
static bool has_calls(const farpool_pool *pool)
{
    return output_waits(pool) || !TAILQ_EMPTY(&pool->callbacks);
}

static uint64_t deadline(const farpool_pool *pool)
{
    uint64_t core, transport;

    if (pool->transport == NULL || pool->ended)
        return UINT64_MAX;
    core = client_core_deadline(pool->core);
    transport = pool->transport->kind->deadline(pool->transport);
    return core < transport ? core : transport;
}

/* CLOCK_MONOTONIC's `ns` as pthread_cond_timedwait takes it. */
static struct timespec time_of(uint64_t ns)
{
    return (struct timespec){(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
}

/* Waits on a condition until a time in ms (UINT64_MAX: for ever). */
static void wait_on(farpool_pool *pool, pthread_cond_t *condition, uint64_t until_ms)
{
    if (until_ms > UINT64_MAX / 1000000) {
        pthread_cond_wait(condition, &pool->mutex);
        return;
    }
    struct timespec until = time_of(until_ms * 1000000);
    pthread_cond_timedwait(condition, &pool->mutex, &until);
}

static void wake_driver(farpool_pool *pool)
{
    if (!pool->sleeping)
        return;
    pool->sleeping = false;
    pool->transport->kind->wake(pool->transport);
}

/* Whoever waits looks again: on `changed`, as the driver, or for several pools. */
static void tell(farpool_pool *pool)
{
    struct pool_watch *watch;

    if (!pool->news)
        return;
    pool->news = false;
    wake_driver(pool);
    if (pool->waiters > 0)
        pthread_cond_broadcast(&pool->changed);
    LIST_FOREACH (watch, &pool->watches, entry) {
        pthread_mutex_lock(watch->mutex);
        ++*watch->changes;
        pthread_cond_signal(watch->changed);
        pthread_mutex_unlock(watch->mutex);
    }
}

/* ------------------------------------------------------------------ one turn */

static void deliver(void *user, struct client_event *event)
{
    farpool_pool *pool = user;
    int code = pool_step(pool, event);

    if (event->message != NULL)
        message_free(&event->message);
    if (code == FARPOOL_ENOMEM)
        pool->lost = true;
}

/* Why the pool cannot go on: something is lost that others wait for; or 0. */
static int why_over(const farpool_pool *pool)
{
    int code = pool->transport->kind->broken(pool->transport);

    return code == 0 && pool->lost ? FARPOOL_ENOMEM : code;
}

/* Everything ends for this reason, at once: nobody answers any more. A transport that
 * somebody waits in is left to him. */
static void give_up(farpool_pool *pool, int code)
{
    struct transport *transport = pool->transport;
    struct client_event down = {.kind = CLIENT_LINK_DOWN, .text = "given up"};
    struct client_event flush = {.kind = CLIENT_FLUSH};
    struct client_event fail = {.kind = CLIENT_FAIL, .code = code};

    if (pool->waiting) {
        wake_driver(pool);
        return;
    }
    pool->gave_up = true;
    fail.text = code == FARPOOL_ENOMEM
                    ? "the pool ran out of memory"
                    : "a later task of its process has opened a pool of its own";
    if (transport->kind->let_go != NULL) {
        transport->kind->let_go(transport);
        pool_must_step(pool, &down);
    }
    pool_must_step(pool, &fail);
    pool_step(pool, &flush);
    pool->news = true;
}

/* Moves everything until nothing moves; whether anything did. */
static bool take_turn(farpool_pool *pool)
{
    struct transport_turn turn = {
        .deliver = deliver,
        .user = pool,
        .may_start = !pool->transport->kind->threaded || is_thread(pool),
    };
    bool any = false, moved;
    int over;

    do {
        struct client_event flush = {.kind = CLIENT_FLUSH};

        pool_step(pool, &flush);
        turn.now_ms = sys_now_ms();
        moved = pool->transport->kind->move(pool->transport, &turn);
        any |= moved;
    } while (moved);
    over = why_over(pool);
    if (over != 0 && !pool->gave_up)
        give_up(pool, over);
    tell(pool);
    if ((has_calls(pool) || has_starts(pool)) && !is_thread(pool) && pool->thread_runs) {
        pthread_cond_signal(&pool->wanted);
        if (pool->called != NULL && pool->waiters > 0)
            pthread_cond_broadcast(&pool->changed); /* a callback that waits */
    }
    return any;
}

/* Looks again for some microseconds: shorter than being woken, if a core is idle. */
static bool spin(farpool_pool *pool)
{
    const struct transport_kind *kind = pool->transport->kind;
    uint64_t until_ns;

    if (kind->may_spin == NULL || !kind->may_spin(pool->transport) || has_starts(pool))
        return false;
    until_ns = sys_now_ns() + SPIN_NS;
    do {
        struct transport_turn turn = {sys_now_ms(), deliver, pool, is_thread(pool)};

        if (kind->move(pool->transport, &turn))
            return true;
        sched_yield();
    } while (sys_now_ns() < until_ns);
    return false;
}

static void sleep_until(farpool_pool *pool, uint64_t until_ms)
{
    struct transport *transport = pool->transport;
    uint64_t latest_ms = deadline(pool);

    if (!transport->kind->sleep(transport)) {
        transport->kind->woken(transport);
        return;
    }
    pool->sleeping = pool->waiting = true;
    pthread_mutex_unlock(&pool->mutex);
    transport->kind->wait(transport, until_ms < latest_ms ? until_ms : latest_ms);
    pthread_mutex_lock(&pool->mutex);
    pool->sleeping = pool->waiting = false;
    transport->kind->woken(transport);
}

/* ------------------------------------------------------------------ callbacks */

static void run_callback(farpool_pool *pool)
{
    struct pool_job *job = TAILQ_FIRST(&pool->callbacks);

    TAILQ_REMOVE(&pool->callbacks, job, entry);
    pool->called = job;
    pthread_mutex_unlock(&pool->mutex);
    job->kind->call_back(job);
    pthread_mutex_lock(&pool->mutex);
    pool->called = NULL;
    job->kind->called_back(job);
    pool->news = true;
    tell(pool);
}

/* Without a result thread: those that wait, on this one. */
static void run_callbacks_here(farpool_pool *pool)
{
    bool driving = pool->driving;

    if (pool->thread_runs || pool->called != NULL)
        return;
    pool->driving = false;
    while (!TAILQ_EMPTY(&pool->callbacks))
        run_callback(pool);
    pool->driving = driving;
}

/* ------------------------------------------------------------------- driving */

/* Stops driving: somebody else goes on if there is need. */
static void stop_driving(farpool_pool *pool)
{
    pool->driving = false;
    if (pool->waiters > 0)
        pthread_cond_broadcast(&pool->changed);
    if (pool->thread_runs && has_work(pool)) {
        pool->left_ns = sys_now_ns();
        if (pool->thread_sleeps)
            pthread_cond_signal(&pool->wanted);
    } else if (pool->thread_sleeps && deadline(pool) < pool->thread_until_ms) {
        pthread_cond_signal(&pool->wanted); /* a process is about to end */
    }
}

static int drive(farpool_pool *pool, bool (*done)(void *arg), void *arg,
                 uint64_t until_ms)
{
    bool blocked = false; /* a nested pool's task waits, and lends its slot */
    int code = 0;

    pool->driving = true;
    while (!done(arg)) {
        bool any = pool->transport != NULL && take_turn(pool);

        run_callbacks_here(pool);
        if (done(arg))
            break;
        if (sys_now_ms() >= until_ms) {
            code = FARPOOL_ETIMEDOUT;
            break;
        }
        if (pool->transport == NULL)
            break;
        if (any && spin(pool))
            continue;
        if (!blocked && !pool->transport->kind->threaded)
            process_set_blocked(blocked = true);
        sleep_until(pool, until_ms);
    }
    if (blocked)
        process_set_blocked(false);
    stop_driving(pool);
    return code;
}

/* What was printed before this is told: it came in front of what was waited for. */
void driver_wait_for_output(farpool_pool *pool, uint64_t until_ms)
{
    const uint64_t came = pool->printed_came;

    while (pool->printed_called < came && pool->thread_runs && !is_thread(pool) &&
           sys_now_ms() < until_ms) {
        pthread_cond_signal(&pool->wanted);
        pool->waiters++;
        wait_on(pool, &pool->changed, until_ms);
        pool->waiters--;
    }
}

static int wait_until(farpool_pool *pool, bool (*done)(void *arg), void *arg,
                      uint64_t until_ms)
{
    while (!done(arg)) {
        if (!pool->driving && pool->transport != NULL)
            return drive(pool, done, arg, until_ms);
        if (sys_now_ms() >= until_ms || pool->transport == NULL)
            return FARPOOL_ETIMEDOUT;
        if (is_thread(pool) && has_starts(pool) && take_turn(pool)) {
            wake_driver(pool);
            continue;
        }
        pool->waiters++;
        wait_on(pool, &pool->changed, until_ms);
        pool->waiters--;
    }
    return 0;
}

int driver_wait(farpool_pool *pool, bool (*done)(void *arg), void *arg, uint64_t until_ms)
{
    int code = wait_until(pool, done, arg, until_ms);

    if (code == 0)
        driver_wait_for_output(pool, until_ms);
    return code;
}

void driver_kick(farpool_pool *pool)
{
    if (pool->transport == NULL)
        return;
    if (pool->driving) {
        struct client_event flush = {.kind = CLIENT_FLUSH};

        /* What the core alone can end has ended when the call returns; on this machine a
         * cancelled task has been taken back, too: while the driver only sleeps, another
         * thread may take a turn, but not touch sockets that it polls. */
        if (pool->sleeping && pool->transport->kind->embedded)
            take_turn(pool);
        else
            pool_step(pool, &flush);
        wake_driver(pool);
        tell(pool);
        return;
    }
    pool->driving = true;
    take_turn(pool);
    stop_driving(pool);
    run_callbacks_here(pool);
}

void driver_look(farpool_pool *pool)
{
    if (!pool->driving && pool->transport != NULL)
        driver_kick(pool);
}

/* ------------------------------------------------------------- result thread */

static bool thread_is_wanted(void *arg)
{
    farpool_pool *pool = arg;

    return pool->stop || has_calls(pool) || !has_work(pool);
}

/* Whether it is time to drive; else *ret_until_ms is when to look again. */
static bool should_drive(const farpool_pool *pool, uint64_t *ret_until_ms)
{
    uint64_t now_ms = sys_now_ms(), due_ms = deadline(pool);

    *ret_until_ms = UINT64_MAX;
    if (pool->driving || pool->transport == NULL)
        return false;
    if (has_work(pool)) {
        uint64_t grace_ms = (pool->left_ns + GRACE_NS) / 1000000;

        due_ms = grace_ms < due_ms ? grace_ms : due_ms;
    }
    if (now_ms < due_ms) {
        *ret_until_ms = due_ms;
        return false;
    }
    return true;
}

static void serve_once(farpool_pool *pool)
{
    uint64_t until_ms;

    if (output_waits(pool)) {
        output_call(pool);
        if (pool->waiters > 0)
            pthread_cond_broadcast(&pool->changed);
    } else if (!TAILQ_EMPTY(&pool->callbacks)) {
        run_callback(pool);
    } else if (has_starts(pool)) {
        take_turn(pool);
        wake_driver(pool);
    } else if (!should_drive(pool, &until_ms)) {
        pool->thread_sleeps =
            until_ms > sys_now_ms() + GRACE_NS / 1000000 + 1 || until_ms == UINT64_MAX;
        pool->thread_until_ms = until_ms;
        wait_on(pool, &pool->wanted, until_ms);
        pool->thread_sleeps = false;
    } else if (has_work(pool)) {
        drive(pool, thread_is_wanted, pool, UINT64_MAX);
    } else {
        pool->driving = true;
        take_turn(pool);
        stop_driving(pool);
    }
}

static void *serve(void *arg)
{
    farpool_pool *pool = arg;

    pthread_mutex_lock(&pool->mutex);
    while (!pool->stop || has_calls(pool))
        serve_once(pool);
    pthread_mutex_unlock(&pool->mutex);
    return NULL;
}

/* The mutex is held, so that the thread sees its own name. The program's signals are not
 * for it. */
int driver_start(farpool_pool *pool, farpool_error *error)
{
    sigset_t all, before;
    int code;

    pool->thread = pthread_self();
    if (!pool->transport->kind->threaded)
        return 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pool->thread_runs = true;
    code = pthread_create(&pool->thread, NULL, serve, pool);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (code == 0)
        return 0;
    pool->thread_runs = false;
    return error_set(error, FARPOOL_ESYSTEM, "open: cannot start a thread: %s",
                     strerror(code));
}

void driver_stop(farpool_pool *pool)
{
    pthread_mutex_lock(&pool->mutex);
    pool->stop = true;
    pthread_cond_signal(&pool->wanted);
    wake_driver(pool);
    pthread_mutex_unlock(&pool->mutex);
    if (pool->thread_runs)
        pthread_join(pool->thread, NULL);
    pool->thread_runs = false;
}
