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
#include "client/calls.h"
#include "client/driver_turn.h"
#include "client/process.h"
#include "common/base/error.h"
#include "common/sys/sys.h"

#include <signal.h>
#include <stdio.h>

#define BURST_NS 1000000 /* jobs that come closer together are a burst: */
#define JOBS_AT_ONCE 64  /* of which the first start at once, the others in company */
#define KEPT_MAX 256     /* of so many, */
#define KEPT_NS 200000   /* or when so much time has passed since the last turn; */
#define GONE_NS 400000   /* by the result thread, if no more come */
#define LATE_NS 300000   /* the result thread may look so much later than it should */
#define GRACE_NS 2000000 /* a caller is expected back within it */

/* CLOCK_MONOTONIC's `ns` as pthread_cond_timedwait takes it. */
static struct timespec time_of(uint64_t ns)
{
    return (struct timespec){(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
}

static uint64_t ns_of(uint64_t ms)
{
    return ms > UINT64_MAX / 1000000 ? UINT64_MAX : ms * 1000000;
}

/* Waits on a condition until then (UINT64_MAX: for ever). */
static void wait_on(farpool_pool *pool, pthread_cond_t *condition, uint64_t until_ns)
{
    struct timespec until = time_of(until_ns);

    if (until_ns == UINT64_MAX)
        pthread_cond_wait(condition, &pool->mutex);
    else
        pthread_cond_timedwait(condition, &pool->mutex, &until);
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
    driver_tell(pool);
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

/* The result thread is to look at that time. It is not woken for little. */
static void want_thread(farpool_pool *pool, uint64_t due_ns)
{
    if (pool->thread_until_ns > due_ns && pool->thread_until_ns - due_ns > LATE_NS)
        pthread_cond_signal(&pool->wanted);
}

/* Stops driving: somebody else goes on if there is need. */
static void stop_driving(farpool_pool *pool)
{
    pool->driving = false;
    if (pool->waiters > 0)
        pthread_cond_broadcast(&pool->changed);
    pool->left_ns = sys_now_ns();
    if (pool->thread_runs && driver_has_work(pool)) {
        want_thread(pool, pool->left_ns + GRACE_NS);
    } else if (pool->thread_runs) {
        want_thread(pool,
                    ns_of(driver_deadline(pool))); /* a process may be about to end */
    }
}

static int drive(farpool_pool *pool, bool (*done)(void *arg), void *arg,
                 uint64_t until_ms)
{
    bool blocked = false; /* a nested pool's task waits, and lends its slot */
    /* Somebody else goes on with what is left. */
    bool leaves =
        pool->thread_runs && !driver_is_thread(pool) && pool->transport->kind->embedded;
    int code = 0;

    pool->driving = true;
    while (!done(arg)) {
        bool any =
            pool->transport != NULL && driver_take_turn(pool, leaves ? done : NULL, arg);

        run_callbacks_here(pool);
        if (done(arg))
            break;
        if (until_ms != UINT64_MAX && sys_now_ms() >= until_ms) {
            code = FARPOOL_ETIMEDOUT;
            break;
        }
        if (pool->transport == NULL)
            break;
        if (any && !driver_is_thread(pool) && driver_spin(pool))
            continue;
        if (!blocked && !pool->transport->kind->threaded)
            process_set_blocked(blocked = true);
        driver_sleep(pool, until_ms);
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

    while (pool->printed_called < came && pool->thread_runs && !driver_is_thread(pool) &&
           sys_now_ms() < until_ms) {
        pthread_cond_signal(&pool->wanted);
        pool->waiters++;
        wait_on(pool, &pool->changed, ns_of(until_ms));
        pool->waiters--;
    }
}

/* Who waits, or submits much, is better at driving than a thread that is woken for it. */
static void ask_back(farpool_pool *pool)
{
    if (!pool->thread_drives || driver_is_thread(pool))
        return;
    pool->asked_back = true;
    driver_wake(pool);
}

static int wait_until(farpool_pool *pool, bool (*done)(void *arg), void *arg,
                      uint64_t until_ms)
{
    while (!done(arg)) {
        if (!pool->driving && pool->transport != NULL)
            return drive(pool, done, arg, until_ms);
        if (sys_now_ms() >= until_ms || pool->transport == NULL)
            return FARPOOL_ETIMEDOUT;
        if (driver_is_thread(pool) && driver_has_starts(pool) &&
            driver_take_turn(pool, NULL, NULL)) {
            driver_wake(pool);
            continue;
        }
        ask_back(pool);
        pool->waiters++;
        wait_on(pool, &pool->changed, ns_of(until_ms));
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

/* The driver sleeps, and another thread has taken a turn: the driver need not know,
 * unless it is to sleep for less long, or has to do what only it can. What a process
 * tells wakes it anyway. */
static void wake_sleeper(farpool_pool *pool)
{
    if (pool->sleeping &&
        (driver_has_starts(pool) || driver_has_calls(pool) || !driver_has_work(pool) ||
         driver_deadline(pool) < pool->sleeps_until_ms))
        driver_wake(pool);
}

void driver_kick(farpool_pool *pool)
{
    if (pool->transport == NULL)
        return;
    if (pool->driving && pool->sleeping && pool->transport->kind->embedded) {
        /* On this machine a cancelled task has been taken back when the call returns.
         * While the driver only sleeps, another thread may take a turn, but not touch
         * sockets that it polls. */
        driver_take_turn(pool, NULL, NULL);
        wake_sleeper(pool);
        return;
    }
    if (pool->driving) {
        struct client_event flush = {.kind = CLIENT_FLUSH};

        /* What the core alone can end has ended when the call returns. */
        pool_step(pool, &flush);
        driver_wake(pool);
        driver_tell(pool);
        return;
    }
    pool->driving = true;
    driver_take_turn(pool, NULL, NULL);
    stop_driving(pool);
    run_callbacks_here(pool);
}

static bool is_second(void *arg)
{
    return (*(unsigned *)arg)++ > 0;
}

/* A turn of one pass: what follows from it goes with the jobs that come next. */
static void take_pass(farpool_pool *pool)
{
    unsigned passes = 0;

    pool->driving = true;
    driver_take_turn(pool, is_second, &passes);
    stop_driving(pool);
}

bool driver_in_burst(const farpool_pool *pool)
{
    return pool->burst >= JOBS_AT_ONCE;
}

void driver_submitted(farpool_pool *pool)
{
    uint64_t now_ns = sys_now_ns();

    pool->burst = now_ns - pool->submitted_ns < BURST_NS ? pool->burst + 1 : 0;
    pool->submitted_ns = now_ns;
    if (!driver_in_burst(pool) || !pool->thread_runs ||
        (pool->driving && !pool->thread_drives)) {
        driver_kick(pool);
        return;
    }
    if (pool->thread_drives) {
        ask_back(pool);
    } else if (pool->kept + 1 >= KEPT_MAX || now_ns - pool->turn_ns >= KEPT_NS) {
        take_pass(pool);
        return;
    }
    if (pool->kept++ == 0)
        want_thread(pool, now_ns + GONE_NS);
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

    return pool->stop || pool->asked_back || driver_has_calls(pool) ||
           !driver_has_work(pool) || calls_are_idle(pool);
}

/* When the result thread is to drive, as no caller does; UINT64_MAX: not. */
static uint64_t drive_due(const farpool_pool *pool)
{
    if (pool->driving || !driver_has_work(pool))
        return UINT64_MAX;
    /* In a burst it need not be woken when one is kept. */
    return pool->left_ns + (pool->kept > 0 || driver_in_burst(pool) ? GONE_NS : GRACE_NS);
}

/* When the cores are, since no caller does it for them. */
static uint64_t turn_due(const farpool_pool *pool)
{
    return pool->driving || pool->transport == NULL ? UINT64_MAX
                                                    : ns_of(driver_deadline(pool));
}

static void serve_once(farpool_pool *pool)
{
    const uint64_t now_ns = sys_now_ns(), drive_ns = drive_due(pool);
    const uint64_t turn_ns = turn_due(pool);

    if (output_waits(pool)) {
        output_call(pool);
        if (pool->waiters > 0)
            pthread_cond_broadcast(&pool->changed);
    } else if (!TAILQ_EMPTY(&pool->callbacks)) {
        run_callback(pool);
    } else if (driver_has_starts(pool)) {
        driver_take_turn(pool, NULL, NULL);
        driver_wake(pool);
    } else if (now_ns >= drive_ns) {
        pool->asked_back = false;
        if (calls_are_idle(pool))
            calls_close(pool);
        pool->thread_drives = true;
        drive(pool, thread_is_wanted, pool, UINT64_MAX);
        pool->thread_drives = false;
    } else if (now_ns >= turn_ns) {
        pool->driving = true;
        driver_sleep(pool, 0); /* what has come meanwhile is heard of by that alone */
        driver_take_turn(pool, NULL, NULL);
        stop_driving(pool);
    } else {
        pool->thread_until_ns = drive_ns < turn_ns ? drive_ns : turn_ns;
        wait_on(pool, &pool->wanted, pool->thread_until_ns);
        pool->thread_until_ns = 0;
    }
}

static void *serve(void *arg)
{
    farpool_pool *pool = arg;

    pthread_mutex_lock(&pool->mutex);
    while (!pool->stop || driver_has_calls(pool))
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
    driver_wake(pool);
    pthread_mutex_unlock(&pool->mutex);
    if (pool->thread_runs)
        pthread_join(pool->thread, NULL);
    pool->thread_runs = false;
}
