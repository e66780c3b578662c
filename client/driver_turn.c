/* SPDX-License-Identifier: Apache-2.0
 *
 * driver_turn.c: what whoever drives a pool does: a turn, looking again for a while, and
 * sleeping; and whom he tells of what happened. */
#include "client/driver_turn.h"
#include "common/sys/sys.h"

#include <sched.h>

#define SPIN_NS 40000 /* about one wake-up's worth */
#define LOOKS_PER_YIELD 16

bool driver_is_thread(const farpool_pool *pool)
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

/* Nodes may ask for a piece of what it shares at any time. */
static bool gives_pieces(const farpool_pool *pool)
{
    return pool->shared.first != NULL && !pool->transport->kind->embedded;
}

/* Whether somebody has to run the loop. */
bool driver_has_work(const farpool_pool *pool)
{
    if (pool->transport == NULL || pool->ended)
        return false;
    return pool->jobs != NULL || pool->left || pool->state != POOL_RUNNING ||
           gives_pieces(pool) || is_cut_off(pool);
}

bool driver_has_starts(const farpool_pool *pool)
{
    return pool->transport != NULL && pool->transport->kind->starts != NULL &&
           pool->transport->kind->starts(pool->transport);
}

/* Whether the user is to be called on the result thread. */
bool driver_has_calls(const farpool_pool *pool)
{
    return output_waits(pool) || !TAILQ_EMPTY(&pool->callbacks);
}

uint64_t driver_deadline(const farpool_pool *pool)
{
    uint64_t core, transport;

    if (pool->transport == NULL || pool->ended)
        return UINT64_MAX;
    core = client_core_deadline(pool->core);
    transport = pool->transport->kind->deadline(pool->transport);
    return core < transport ? core : transport;
}
void driver_wake(farpool_pool *pool)
{
    if (!pool->sleeping)
        return;
    pool->sleeping = false;
    pool->transport->kind->wake(pool->transport);
}

/* Whoever waits looks again: on `changed`, as the driver, or for several pools. */
void driver_tell(farpool_pool *pool)
{
    struct pool_watch *watch;

    if (!pool->news)
        return;
    pool->news = false;
    driver_wake(pool);
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
    int code;

    event->now_ms = pool->now_ms;
    code = pool_step(pool, event);

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
        driver_wake(pool);
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

/* What a turn leaves to others. */
static void end_turn(farpool_pool *pool)
{
    int over = why_over(pool);

    if (over != 0 && !pool->gave_up)
        give_up(pool, over);
    driver_tell(pool);
    if ((driver_has_calls(pool) || driver_has_starts(pool)) && !driver_is_thread(pool) &&
        pool->thread_runs) {
        pthread_cond_signal(&pool->wanted);
        if (pool->called != NULL && pool->waiters > 0)
            pthread_cond_broadcast(&pool->changed); /* a callback that waits */
    }
}

/* Moves everything until nothing moves; whether anything did. When done(arg) is true
 * before that, if there is one, the rest is left for the next turn: it is nothing that
 * the caller waits for, and goes with what he submits next. */
bool driver_take_turn(farpool_pool *pool, bool (*done)(void *arg), void *arg)
{
    const struct transport_kind *kind = pool->transport->kind;
    struct transport_turn turn = {
        .deliver = deliver,
        .user = pool,
        .may_start = !kind->threaded || driver_is_thread(pool),
    };
    bool any = false, moved = true;

    pool->kept = 0;
    do {
        struct client_event flush = {.kind = CLIENT_FLUSH};

        pool->turn_ns = sys_now_ns();
        turn.now_ms = flush.now_ms = pool->now_ms = pool->turn_ns / 1000000;
        pool->stepped = false;
        pool_step(pool, &flush);
        pool->left = done != NULL && done(arg);
        if (pool->left)
            break;
        moved = kind->move(pool->transport, &turn);
        any |= moved;
        pool->left = moved && done != NULL && done(arg);
    } while (!pool->left && moved && (pool->stepped || !kind->embedded));
    end_turn(pool);
    return any;
}

/* Looks again for some microseconds: shorter than being woken, if a core is idle. */
bool driver_spin(farpool_pool *pool)
{
    const struct transport_kind *kind = pool->transport->kind;
    struct transport_turn turn = {pool->now_ms, deliver, pool, driver_is_thread(pool)};
    uint64_t began_ns, now_ns;

    if (kind->may_spin == NULL || !kind->may_spin(pool->transport) ||
        driver_has_starts(pool))
        return false;
    began_ns = sys_now_ns();
    do {
        for (int i = 0; i < LOOKS_PER_YIELD; i++) {
            if (kind->move(pool->transport, &turn))
                return true;
            sys_pause();
        }
        sched_yield();
        now_ns = sys_now_ns();
        turn.now_ms = pool->now_ms = now_ns / 1000000;
    } while (now_ns - began_ns < SPIN_NS);
    return false;
}

void driver_sleep(farpool_pool *pool, uint64_t until_ms)
{
    struct transport *transport = pool->transport;
    uint64_t latest_ms = driver_deadline(pool);

    if (!transport->kind->sleep(transport)) {
        transport->kind->woken(transport);
        return;
    }
    if (latest_ms < until_ms)
        until_ms = latest_ms;
    pool->sleeps_until_ms = until_ms;
    pool->sleeping = pool->waiting = true;
    pthread_mutex_unlock(&pool->mutex);
    transport->kind->wait(transport, until_ms);
    pthread_mutex_lock(&pool->mutex);
    pool->sleeping = pool->waiting = false;
    transport->kind->woken(transport);
}
