/* SPDX-License-Identifier: Apache-2.0
 *
 * core_lane.c: who may dial which worker. A lane is a link from a client or a worker (the
 * dialer) to a worker (its host) for one pool, without the coordinator between them; the
 * coordinator alone says who may have one, by introducing the two: INTRODUCE tells the
 * host the dialer's key and a ticket, EXPECTED comes back when it lets that one in, and
 * then INTRODUCED tells the dialer where to go, whom to find there, and the ticket. LANE
 * says what became of it. In that order, so that nobody dials before it is expected.
 *
 * A lane ends here with its pool or with the link of either end, and the other end is
 * told (WITHDRAW): so a key that is revoked has no lane either, since its link is cut.
 * The end of a pool is told by POOL_CLOSE. A lane that broke is just forgotten: what it
 * had under way is not this file's business.
 *
 * docs/lanes.md tells what lanes are for, docs/security.md what could go wrong. */
#include "coordinator/core_internal.h"

#include <stdio.h>

static struct lane *find_ticket(const struct coordinator_core *core,
                                const struct id *ticket)
{
    struct lane *lane;
    HASH_FIND(hh, core->lanes, ticket, sizeof *ticket, lane);
    return lane;
}

static struct lane *find(const struct link *dialer, const struct worker *host,
                         const struct pool *pool)
{
    struct lane *lane;
    TAILQ_FOREACH (lane, &dialer->dialled, dialer_entry)
        if (lane->host == host && lane->pool == pool)
            return lane;
    return NULL;
}

static void move(struct coordinator_core *core, struct lane *lane, enum lane_state state)
{
    assert(state == lane->state + 1); /* one after the other */
    if (lane->state == LANE_WANTED)
        TAILQ_REMOVE(&core->lanes_wanted, lane, wanted_entry);
    lane->state = state;
}

static void destroy(struct coordinator_core *core, struct lane *lane)
{
    if (lane->state == LANE_WANTED)
        TAILQ_REMOVE(&core->lanes_wanted, lane, wanted_entry);
    TAILQ_REMOVE(&lane->dialer->dialled, lane, dialer_entry);
    TAILQ_REMOVE(&lane->host->hosted, lane, host_entry);
    TAILQ_REMOVE(&lane->pool->lanes, lane, pool_entry);
    lane->host->hosted_count--;
    lane->dialer->dialled_count--;
    kgrant_forget(core, lane);
    lane->pool->granted -= lane->granted;
    /* The table is there as long as a lane is. NOLINTNEXTLINE(*-core.NullDereference) */
    HASH_DEL(core->lanes, lane);
    mem_free(lane);
}

static const struct lane *between(const struct worker *a, const struct worker *b,
                                  const struct pool *pool)
{
    const struct lane *lane = find(a->link, b, pool);
    return lane ? lane : find(b->link, a, pool);
}

bool klane_is_up(const struct worker *a, const struct worker *b, const struct pool *pool)
{
    const struct lane *lane = between(a, b, pool);
    return lane && lane->state == LANE_UP;
}

uint32_t klane_count_up(const struct worker *worker)
{
    const struct lane *lane;
    uint32_t count = 0;
    TAILQ_FOREACH (lane, &worker->hosted, host_entry)
        count += lane->state == LANE_UP;
    TAILQ_FOREACH (lane, &worker->link->dialled, dialer_entry)
        count += lane->state == LANE_UP;
    return count;
}

bool klane_is_any(const struct worker *worker, const struct pool *pool)
{
    const struct lane *lane;
    TAILQ_FOREACH (lane, &worker->link->dialled, dialer_entry)
        if (lane->pool == pool)
            return true;
    TAILQ_FOREACH (lane, &worker->hosted, host_entry)
        if (lane->pool == pool && lane->dialer->worker)
            return true;
    return false;
}

/* The younger one dials, unless only that can be dialled. */
int klane_want_between(struct coordinator_core *core, struct worker *a, struct worker *b,
                       struct pool *pool)
{
    struct worker *host = a->serial < b->serial ? a : b;
    if (between(a, b, pool))
        return 0;
    if (!host->lanes[0])
        host = host == a ? b : a;
    return klane_want(core, host == a ? b->link : a->link, host, pool);
}

/* ---------------------------------------------------------------- introducing */

/* Whether the two can have one at all. */
static bool is_possible(const struct coordinator_core *core, const struct link *dialer,
                        const struct worker *host)
{
    return core->config.ticket && host->state == WORKER_READY && host->lanes[0] &&
           host->link != dialer && host->hosted_count < LANES_HOSTED_MAX &&
           (dialer->state == LINK_WORKER || dialer->dialled_count < LANES_CLIENT_MAX);
}

int klane_want(struct coordinator_core *core, struct link *dialer, struct worker *host,
               struct pool *pool)
{
    bool failed = false;
    assert(klink_is_greeted(dialer));
    if (!is_possible(core, dialer, host) || find(dialer, host, pool))
        return 0;
    struct lane *lane = mem_alloc(sizeof *lane);
    if (!lane)
        return FARPOOL_ENOMEM;
    core->config.ticket(&core->config.secret, ++core->last_ticket, &lane->ticket);
    HASH_ADD(hh, core->lanes, ticket, sizeof lane->ticket, lane);
    if (failed) {
        mem_free(lane);
        return FARPOOL_ENOMEM;
    }
    lane->dialer = dialer;
    lane->host = host;
    lane->pool = pool;
    host->hosted_count++;
    dialer->dialled_count++;
    TAILQ_INSERT_TAIL(&dialer->dialled, lane, dialer_entry);
    TAILQ_INSERT_TAIL(&host->hosted, lane, host_entry);
    TAILQ_INSERT_TAIL(&pool->lanes, lane, pool_entry);
    TAILQ_INSERT_TAIL(&core->lanes_wanted, lane, wanted_entry);
    return 0;
}

static int introduce(struct coordinator_core *core, const struct lane *lane)
{
    const struct link *dialer = lane->dialer;
    struct message *message = message_create(MSG_INTRODUCE);
    if (message) {
        message->introduce.ticket = lane->ticket;
        message->introduce.pool = lane->pool->id;
        message->introduce.worker = dialer->state == LINK_WORKER;
        message->introduce.peer =
            dialer->worker ? dialer->worker->id : dialer->client->id;
        message->introduce.key = dialer->holder.key;
        message->introduce.wait_ms = LANE_WAIT_MS;
    }
    return ksend(core, lane->host->link, &message);
}

int klane_flush(struct coordinator_core *core)
{
    struct lane *lane;
    while ((lane = TAILQ_FIRST(&core->lanes_wanted))) {
        if (introduce(core, lane))
            return FARPOOL_ENOMEM;
        move(core, lane, LANE_ASKED);
    }
    return 0;
}

int klane_expected(struct coordinator_core *core, const struct worker *worker,
                   const struct message *expected)
{
    struct lane *lane = find_ticket(core, &expected->expected.ticket);
    if (!lane || lane->host != worker || lane->state != LANE_ASKED)
        return 0; /* withdrawn meanwhile */
    struct message *message = message_create(MSG_INTRODUCED);
    if (message) {
        message->introduced.ticket = lane->ticket;
        message->introduced.pool = lane->pool->id;
        message->introduced.worker = worker->id;
        memcpy(message->introduced.node, worker->node, sizeof worker->node);
        memcpy(message->introduced.address, worker->lanes, sizeof worker->lanes);
        message->introduced.key = worker->link->holder.key;
        message->introduced.wait_ms = LANE_WAIT_MS;
    }
    if (ksend(core, lane->dialer, &message))
        return FARPOOL_ENOMEM;
    move(core, lane, LANE_OFFERED);
    return 0;
}

/* ------------------------------------------------------------------ their end */

static int withdraw(struct coordinator_core *core, const struct lane *lane,
                    struct link *link, const char *text)
{
    struct message *message = message_create(MSG_WITHDRAW);
    if (message) {
        message->withdraw.ticket = lane->ticket;
        snprintf(message->withdraw.text, sizeof message->withdraw.text, "%s", text);
    }
    return ksend(core, link, &message);
}

static int told_by_dialer(struct coordinator_core *core, struct lane *lane,
                          const struct message *told)
{
    if (lane->state < LANE_OFFERED)
        return 0;
    if (lane->dialer->worker)
        kshared_touch(core, lane->pool);
    if (told->lane.up) {
        if (lane->state == LANE_OFFERED)
            move(core, lane, LANE_UP);
        lane->host->carried = true;
        kgrant_touch(core, lane);
        return 0;
    }
    if (withdraw(core, lane, lane->host->link, told->lane.text))
        return FARPOOL_ENOMEM;
    destroy(core, lane);
    return 0;
}

int klane_told(struct coordinator_core *core, const struct link *link,
               const struct message *told)
{
    struct lane *lane = find_ticket(core, &told->lane.ticket);
    if (!lane)
        return 0;
    if (lane->dialer == link)
        return told_by_dialer(core, lane, told);
    if (lane->host->link == link && lane->state == LANE_ASKED && !told->lane.up)
        destroy(core, lane); /* it lets nobody in */
    return 0;
}

int klane_tell_gone(struct coordinator_core *core, const struct link *link)
{
    const struct lane *lane;
    TAILQ_FOREACH (lane, &link->dialled, dialer_entry)
        if (lane->state >= LANE_ASKED &&
            withdraw(core, lane, lane->host->link, "the dialer has gone"))
            return FARPOOL_ENOMEM;
    if (!link->worker)
        return 0;
    TAILQ_FOREACH (lane, &link->worker->hosted, host_entry)
        if (lane->state >= LANE_OFFERED &&
            withdraw(core, lane, lane->dialer, "the worker has gone"))
            return FARPOOL_ENOMEM;
    return 0;
}

void klane_forget_link(struct coordinator_core *core, struct link *link)
{
    struct lane *lane;
    while ((lane = TAILQ_FIRST(&link->dialled)))
        destroy(core, lane);
    while (link->worker && (lane = TAILQ_FIRST(&link->worker->hosted)))
        destroy(core, lane);
}

void klane_forget_pool(struct coordinator_core *core, struct pool *pool)
{
    struct lane *lane;
    while ((lane = TAILQ_FIRST(&pool->lanes)))
        destroy(core, lane);
}

void klane_check(const struct coordinator_core *core)
{
    const struct lane *lane;
    size_t wanted = 0;
    for (lane = core->lanes; lane; lane = lane->hh.next) {
        assert(klink_is_greeted(lane->dialer) && lane->dialer != lane->host->link);
        assert(find(lane->dialer, lane->host, lane->pool) == lane);
        assert(kpool_find(core, &lane->pool->id) == lane->pool);
        assert(kworker_find(core, &lane->host->id) == lane->host);
        wanted += lane->state == LANE_WANTED;
    }
    TAILQ_FOREACH (lane, &core->lanes_wanted, wanted_entry)
        wanted--;
    assert(wanted == 0);
}
