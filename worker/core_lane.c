/* SPDX-License-Identifier: Apache-2.0
 *
 * core_lane.c: lanes: links of clients and other workers to this worker, and of this
 * worker to others, past the coordinator, each for one pool. The coordinator introduces
 * (INTRODUCE to the host, INTRODUCED to the dialer) and withdraws; nobody else is let in.
 * An introduction is good for one lane, so a ticket that was said is worth nothing more.
 *
 * A lane ends by WITHDRAW, with its pool, when nobody came in time, by silence, with its
 * connection, or since its peer broke a rule: then it is OVER, and the next FLUSH hangs
 * up, tells the coordinator of one that this worker had dialled, and forgets it. The
 * coordinator's own link may come and go meanwhile. A coordinator that was started anew
 * knows no lanes: those between workers end, as nobody could withdraw them; a client's
 * goes on, since its pool ends unless that client opens it there again.
 *
 * `lanes_due_ms` is a lower bound: what is heard and said only puts a lane's time off. */
#include "worker/core_internal.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

static int worker_ticket_compare(const struct lane *a, const struct lane *b)
{
    return memcmp(&a->ticket, &b->ticket, sizeof a->ticket);
}

static int worker_lane_compare(const struct lane *a, const struct lane *b)
{
    return (a->number > b->number) - (a->number < b->number);
}

RB_GENERATE(worker_tickets, lane, by_ticket, worker_ticket_compare)
RB_GENERATE(worker_lanes, lane, by_number, worker_lane_compare)

static struct lane *find_ticket(struct worker_core *core, const struct id *ticket)
{
    struct lane key = {.ticket = *ticket};
    return RB_FIND(worker_tickets, &core->tickets, &key);
}

static struct lane *find_number(struct worker_core *core, uint64_t number)
{
    struct lane key = {.number = number};
    return RB_FIND(worker_lanes, &core->lanes, &key);
}

bool worker_core_expects(const struct worker_core *core, const struct hash *key,
                         struct holder *ret_holder)
{
    struct lane *lane;
    RB_FOREACH (lane, worker_tickets,
                (struct worker_tickets *)(uintptr_t)&core->tickets) {
        if (lane->state != LANE_EXPECTED && (lane->state != LANE_UP || lane->dialled))
            continue;
        if (!hash_equal(&lane->key, key))
            continue;
        *ret_holder = (struct holder){
            .role = lane->worker ? HOLDER_WORKER : HOLDER_CLIENT, .key = *key};
        return true;
    }
    return false;
}

/* ----------------------------------------------------------------- life and end */

/* [from] -> a bit a state that may follow. */
static const unsigned allowed[] = {
    [LANE_EXPECTED] = 1u << LANE_UP | 1u << LANE_OVER,
    [LANE_DIALLED] = 1u << LANE_GREETED | 1u << LANE_OVER,
    [LANE_GREETED] = 1u << LANE_UP | 1u << LANE_OVER,
    [LANE_UP] = 1u << LANE_OVER,
    [LANE_OVER] = 0,
};

/* A client's tasks and results go on it. */
static bool carries(const struct lane *lane)
{
    return lane->state == LANE_UP && !lane->worker;
}

static void move(struct worker_core *core, struct lane *lane, enum lane_state state)
{
    assert(allowed[lane->state] & 1u << state);
    if (carries(lane))
        worker_carry_end(core, lane);
    lane->state = state;
    lane->until_ms = UINT64_MAX;
    if (carries(lane))
        worker_carry_begin(core, lane);
    if (state == LANE_OVER) {
        worker_pulls_lane_over(lane->pool, lane->number);
        lane->pool = NULL;
        core->lanes_over = true;
    }
}

static uint64_t due_ms(const struct lane *lane)
{
    if (lane->state != LANE_UP)
        return lane->until_ms;
    const uint64_t silent_ms = worker_after(lane->heard_ms, lane->silence_ms);
    const uint64_t beat_ms = worker_after(lane->sent_ms, lane->heartbeat_ms);
    return silent_ms < beat_ms ? silent_ms : beat_ms;
}

static void set_due(struct worker_core *core, uint64_t ms)
{
    if (ms < core->lanes_due_ms)
        core->lanes_due_ms = ms;
}

static struct lane *create(struct worker_core *core, const struct id *ticket,
                           struct pool *pool, uint32_t wait_ms)
{
    struct lane *lane = mem_alloc(sizeof *lane);
    if (lane == NULL)
        return NULL;
    lane->ticket = *ticket;
    lane->pool = pool;
    worker_outbox_init(&lane->outbox, lane);
    lane->until_ms = worker_after(core->now_ms, wait_ms);
    set_due(core, lane->until_ms);
    RB_INSERT(worker_tickets, &core->tickets, lane);
    core->lanes_count++;
    return lane;
}

static void set_number(struct worker_core *core, struct lane *lane, uint64_t number)
{
    assert(lane->number == 0 && number != 0);
    lane->number = number;
    lane->heard_ms = lane->sent_ms = core->now_ms;
    RB_INSERT(worker_lanes, &core->lanes, lane);
}

static void destroy(struct worker_core *core, struct lane *lane)
{
    RB_REMOVE(worker_tickets, &core->tickets, lane);
    if (lane->number != 0)
        RB_REMOVE(worker_lanes, &core->lanes, lane);
    core->lanes_count--;
    mem_free(lane);
}

void worker_lanes_free(struct worker_core *core)
{
    struct lane *lane;
    while ((lane = RB_ROOT(&core->tickets)) != NULL)
        destroy(core, lane);
}

static void end(struct worker_core *core, struct lane *lane, const char *text)
{
    if (lane->state == LANE_OVER)
        return;
    snprintf(lane->text, sizeof lane->text, "%s", text);
    move(core, lane, LANE_OVER);
}

void worker_lanes_pool_over(struct worker_core *core, const struct pool *pool)
{
    struct lane *lane;
    RB_FOREACH (lane, worker_tickets, &core->tickets)
        if (lane->pool == pool)
            end(core, lane, "its pool has ended");
}

void worker_lanes_welcomed(struct worker_core *core)
{
    struct lane *lane;
    RB_FOREACH (lane, worker_tickets, &core->tickets)
        end(core, lane, "the coordinator was started anew");
}

/* -------------------------------------------------- what the coordinator says */

static int say_lane(struct worker_core *core, const struct id *ticket, bool up,
                    const char *text)
{
    struct message *message = worker_message(core, MSG_LANE);
    if (message == NULL)
        return FARPOOL_ENOMEM;
    message->lane.ticket = *ticket;
    message->lane.up = up;
    snprintf(message->lane.text, sizeof message->lane.text, "%s", text);
    worker_send(core, message);
    return 0;
}

/* Why there can be no lane for a pool; NULL: there can. */
static const char *hindrance(const struct worker_core *core, const struct pool *pool)
{
    if (pool == NULL || pool->state != POOL_OPEN)
        return "the pool is not open there";
    if (core->state != CORE_WORKING)
        return "the worker drains";
    return core->lanes_count < core->config.lanes_max ? NULL
                                                      : "the worker has lanes enough";
}

static int say_expected(struct worker_core *core, const struct id *ticket)
{
    struct message *message = worker_message(core, MSG_EXPECTED);
    if (message == NULL)
        return FARPOOL_ENOMEM;
    message->expected.ticket = *ticket;
    worker_send(core, message);
    return 0;
}

int worker_introduce(struct worker_core *core, const struct message *message)
{
    struct pool *pool = worker_pool_find(core, &message->introduce.pool);
    const char *why = hindrance(core, pool);
    if (find_ticket(core, &message->introduce.ticket) != NULL)
        return 0;
    if (why != NULL)
        return say_lane(core, &message->introduce.ticket, false, why);
    if (worker_reserve(core, 1) != 0)
        return FARPOOL_ENOMEM;
    struct lane *lane =
        create(core, &message->introduce.ticket, pool, message->introduce.wait_ms);
    if (lane == NULL)
        return FARPOOL_ENOMEM;
    if (say_expected(core, &lane->ticket) != 0) {
        destroy(core, lane);
        return FARPOOL_ENOMEM;
    }
    lane->peer = message->introduce.peer;
    lane->worker = message->introduce.worker;
    lane->key = message->introduce.key;
    return 0;
}

static uint32_t dialled_lanes(struct worker_core *core)
{
    struct lane *lane;
    uint32_t count = 0;
    RB_FOREACH (lane, worker_tickets, &core->tickets)
        count += lane->dialled;
    return count;
}

int worker_introduced(struct worker_core *core, const struct message *message)
{
    const struct id *ticket = &message->introduced.ticket;
    struct pool *pool = worker_pool_find(core, &message->introduced.pool);
    if (find_ticket(core, ticket) != NULL)
        return 0;
    const char *why = hindrance(core, pool);
    if (why == NULL && dialled_lanes(core) >= WORKER_DIALS_MAX)
        why = "the worker has dialled others enough";
    if (why != NULL)
        return say_lane(core, ticket, false, why);
    if (worker_reserve(core, 1) != 0)
        return FARPOOL_ENOMEM;
    struct lane *lane = create(core, ticket, pool, message->introduced.wait_ms);
    if (lane == NULL)
        return FARPOOL_ENOMEM;
    lane->state = LANE_DIALLED;
    lane->dialled = lane->worker = true;
    lane->peer = message->introduced.worker;
    lane->key = message->introduced.key;
    set_number(core, lane, WORKER_LANE_DIALLED | ++core->last_dial);
    struct worker_effect *effect = worker_add(core, WORKER_DIAL);
    effect->lane = lane->number;
    effect->key = lane->key;
    snprintf(effect->text, sizeof effect->text, "%s", message->introduced.address);
    return 0;
}

void worker_withdraw(struct worker_core *core, const struct message *message)
{
    struct lane *lane = find_ticket(core, &message->withdraw.ticket);
    if (lane != NULL) {
        lane->withdrawn = true;
        end(core, lane, message->withdraw.text);
    }
}

/* -------------------------------------------------------- what is said on a lane */

void worker_lane_send(struct worker_core *core, struct lane *lane,
                      struct message *message)
{
    assert(lane->state == LANE_UP || lane->state == LANE_GREETED);
    struct worker_effect *effect = worker_add(core, WORKER_SEND);
    effect->message = message;
    effect->lane = lane->number;
    lane->sent_ms = core->now_ms;
}

/* A word that no introduction fits: its link is none of ours. */
static int refuse(struct worker_core *core, uint64_t number, int code, const char *text)
{
    if (worker_reserve(core, 2) != 0)
        return FARPOOL_ENOMEM;
    struct message *message = message_create(MSG_REFUSED);
    if (message == NULL)
        return FARPOOL_ENOMEM;
    message->refused.code = code;
    snprintf(message->refused.text, sizeof message->refused.text, "%s", text);
    struct worker_effect *effect = worker_add(core, WORKER_SEND);
    effect->message = message;
    effect->lane = number;
    effect = worker_add(core, WORKER_HANG_UP);
    effect->lane = number;
    snprintf(effect->text, sizeof effect->text, "%s", text);
    return 0;
}

static int hello(struct worker_core *core, const struct worker_event *event)
{
    static const struct hash none;
    const struct message *message = event->message;
    struct lane *lane = find_ticket(core, &message->hello_lane.ticket);
    if (lane == NULL || lane->state != LANE_EXPECTED ||
        lane->worker != message->hello_lane.worker ||
        !hash_equal(&lane->key, event->key != NULL ? event->key : &none))
        return refuse(core, event->lane, FARPOOL_EKEY,
                      "no introduction has this ticket and key, or it is over");
    if (message->hello_lane.protocol != PROTOCOL_VERSION)
        return refuse(core, event->lane, FARPOOL_EVERSION,
                      "the worker speaks another version of the protocol");
    struct message *welcome = worker_message(core, MSG_WELCOME_LANE);
    if (welcome == NULL)
        return FARPOOL_ENOMEM;
    welcome->welcome_lane.worker = core->config.worker;
    welcome->welcome_lane.heartbeat_ms = (uint32_t)core->heartbeat_ms;
    welcome->welcome_lane.silence_ms = (uint32_t)core->silence_ms;
    set_number(core, lane, event->lane);
    move(core, lane, LANE_UP);
    lane->heartbeat_ms = core->heartbeat_ms;
    lane->silence_ms = core->silence_ms;
    worker_lane_send(core, lane, welcome);
    set_due(core, due_ms(lane));
    return 0;
}

static int welcome(struct worker_core *core, struct lane *lane,
                   const struct message *message)
{
    if (!id_equal(&lane->peer, &message->welcome_lane.worker)) {
        end(core, lane, "another worker answers there");
        return 0;
    }
    if (message->welcome_lane.heartbeat_ms == 0 ||
        message->welcome_lane.silence_ms == 0) {
        end(core, lane, "WELCOME_LANE without its times");
        return 0;
    }
    if (core->link == LINK_UP && say_lane(core, &lane->ticket, true, "") != 0)
        return FARPOOL_ENOMEM;
    move(core, lane, LANE_UP);
    lane->heartbeat_ms = message->welcome_lane.heartbeat_ms;
    lane->silence_ms = message->welcome_lane.silence_ms;
    set_due(core, due_ms(lane));
    return 0;
}

static int answered(struct worker_core *core, struct lane *lane,
                    const struct message *message)
{
    if (message->kind == MSG_WELCOME_LANE)
        return welcome(core, lane, message);
    end(core, lane,
        message->kind == MSG_REFUSED ? message->refused.text
                                     : "it was not welcomed, and heard something else");
    return 0;
}

struct lane *worker_lane_find(struct worker_core *core, const struct pool *pool,
                              const struct id *peer)
{
    struct lane *lane;
    RB_FOREACH (lane, worker_tickets, &core->tickets)
        if (lane->state == LANE_UP && lane->worker && lane->pool == pool &&
            id_equal(&lane->peer, peer))
            return lane;
    return NULL;
}

/* What another worker may say of this pool, in its own name. */
static bool is_its_own(const struct lane *lane, const struct message *message)
{
    if (!lane->worker)
        return false;
    if (message->kind == MSG_FETCH)
        return id_equal(&message->fetch.pool, &lane->pool->id) &&
               id_equal(&message->fetch.worker, &lane->peer);
    return message->kind == MSG_BLOB && id_equal(&message->blob.pool, &lane->pool->id) &&
           id_equal(&message->blob.source, &lane->peer);
}

void worker_lane_break(struct worker_core *core, const char *text)
{
    end(core, core->speaker, text);
}

static int is_up(struct worker_core *core, struct lane *lane, struct message *message)
{
    if (message->kind == MSG_HEARTBEAT)
        return 0;
    if (is_its_own(lane, message))
        return message->kind == MSG_FETCH ? worker_shared_fetch(core, lane, message)
                                          : worker_shared_blob(core, message);
    core->speaker = lane;
    const int result = worker_carry_heard(core, message);
    core->speaker = NULL;
    return result;
}

int worker_lane_up(struct worker_core *core, uint64_t number)
{
    struct lane *lane = find_number(core, number);
    if (lane == NULL || lane->state != LANE_DIALLED)
        return 0;
    struct message *message = worker_message(core, MSG_HELLO_LANE);
    if (message == NULL)
        return FARPOOL_ENOMEM;
    message->hello_lane.protocol = PROTOCOL_VERSION;
    snprintf(message->hello_lane.version, sizeof message->hello_lane.version, "%s",
             FARPOOL_VERSION);
    message->hello_lane.ticket = lane->ticket;
    message->hello_lane.worker = true;
    const uint64_t until_ms = lane->until_ms;
    move(core, lane, LANE_GREETED);
    lane->until_ms = until_ms;
    worker_lane_send(core, lane, message);
    return 0;
}

void worker_lane_down(struct worker_core *core, uint64_t number, const char *text)
{
    struct lane *lane = find_number(core, number);
    if (lane == NULL)
        return;
    lane->cut = true;
    end(core, lane, text);
}

int worker_lane_heard(struct worker_core *core, const struct worker_event *event)
{
    struct lane *lane = find_number(core, event->lane);
    if (lane == NULL)
        return event->message->kind == MSG_HELLO_LANE ? hello(core, event) : 0;
    if (lane->state == LANE_OVER)
        return 0;
    lane->heard_ms = core->now_ms;
    return lane->state == LANE_GREETED ? answered(core, lane, event->message)
                                       : is_up(core, lane, event->message);
}

/* -------------------------------------------------------------------- the flush */

static int finish(struct worker_core *core, struct lane *lane)
{
    const bool tell = lane->dialled && !lane->withdrawn && core->link == LINK_UP;
    const bool hang_up = lane->number != 0 && !lane->cut;
    if (worker_reserve(core, 2) != 0 ||
        (tell && say_lane(core, &lane->ticket, false, lane->text) != 0))
        return FARPOOL_ENOMEM;
    if (hang_up) {
        struct worker_effect *effect = worker_add(core, WORKER_HANG_UP);
        effect->lane = lane->number;
        snprintf(effect->text, sizeof effect->text, "%s", lane->text);
    }
    destroy(core, lane);
    return 0;
}

static int finish_all(struct worker_core *core)
{
    struct lane *lane, *next;
    RB_FOREACH_SAFE(lane, worker_tickets, &core->tickets, next)
    if (lane->state == LANE_OVER && finish(core, lane) != 0)
        return FARPOOL_ENOMEM;
    core->lanes_over = false;
    return 0;
}

static int beat(struct worker_core *core, struct lane *lane)
{
    struct message *message = worker_message(core, MSG_HEARTBEAT);
    if (message == NULL)
        return FARPOOL_ENOMEM;
    message->heartbeat.count = lane->heartbeats++;
    worker_lane_send(core, lane, message);
    return 0;
}

static int look(struct worker_core *core, struct lane *lane)
{
    if (core->now_ms >= lane->until_ms)
        end(core, lane, "nobody came, or answered, in time");
    if (lane->state != LANE_UP)
        return 0;
    if (core->now_ms >= worker_after(lane->heard_ms, lane->silence_ms)) {
        end(core, lane, "silent for too long");
        return 0;
    }
    return core->now_ms >= worker_after(lane->sent_ms, lane->heartbeat_ms)
               ? beat(core, lane)
               : 0;
}

static int look_at_all(struct worker_core *core)
{
    struct lane *lane;
    RB_FOREACH (lane, worker_tickets, &core->tickets)
        if (look(core, lane) != 0)
            return FARPOOL_ENOMEM;
    core->lanes_due_ms = UINT64_MAX;
    RB_FOREACH (lane, worker_tickets, &core->tickets)
        set_due(core, due_ms(lane));
    return 0;
}

int worker_flush_lanes(struct worker_core *core)
{
    if (core->now_ms >= core->lanes_due_ms && look_at_all(core) != 0)
        return FARPOOL_ENOMEM;
    return core->lanes_over ? finish_all(core) : 0;
}

uint64_t worker_lanes_deadline(const struct worker_core *core)
{
    return core->lanes_over ? core->now_ms : core->lanes_due_ms;
}

void worker_lanes_check(const struct worker_core *core)
{
    struct lane *lane;
    uint32_t count = 0;
    RB_FOREACH (lane, worker_tickets,
                (struct worker_tickets *)(uintptr_t)&core->tickets) {
        count++;
        assert((lane->state == LANE_OVER) == (lane->pool == NULL));
        assert(lane->state != LANE_OVER || core->lanes_over);
        assert(lane->state != LANE_EXPECTED || (lane->number == 0 && !lane->dialled));
        assert(lane->state == LANE_EXPECTED || lane->state == LANE_OVER ||
               lane->number != 0);
        assert(lane->number == 0 ||
               ((lane->number & WORKER_LANE_DIALLED) != 0) == lane->dialled);
        assert(lane->state == LANE_OVER || core->lanes_due_ms <= due_ms(lane));
    }
    assert(count == core->lanes_count && count <= core->config.lanes_max);
}
