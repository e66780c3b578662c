/* SPDX-License-Identifier: Apache-2.0
 *
 * core_spread.c: which piece of a shared input goes from where to where, so that it comes
 * to many workers in about the time of one transfer. The client gives each piece once, to
 * whichever worker has the fewest of the client's under way; from there on the workers
 * give it to each other, several at a time at each, the earliest piece first, each from
 * the source with the least to do. They do so over lanes: each worker is introduced to
 * some that came before it. Where a worker has none, or nothing comes over those that it
 * has, pieces pass through the coordinator. A worker that goes, or whose piece was wrong,
 * is no source any more: what only it had is the client's to give again.
 *
 * Always: copies counts the trusted holdings that have a piece; a piece with none is
 * under way from the client, or is not below `fresh`. Each pull is counted at whoever
 * gives it. */
#include "coordinator/core_internal.h"

#include <string.h>

/* That pass here, of the client or from one worker to another: so many at least, and as
 * many more as came in PACE_MS. So a fast link is
 * never idle, and on a slow one what is to be said is not behind much else. */
#define PASSING_LEAST 4
#define PASSING_MAX 24
#define PACE_MS 500
#define CLIENT_PULLS_EACH 8 /* of those to one worker */
#define PEER_PULLS_MAX 8    /* to one worker, from others */
#define GIVEN_MAX 6         /* of one worker, which sends them while it is told of more */
#define PIECES_LOOK 64      /* pieces looked at for one pull */
#define SOURCES_LOOK 64     /* and holdings for one piece */
#define LANES_EACH 8 /* others that a worker is introduced to, who came before it */
#define RELAY_AFTER_MS 2000 /* that a worker's lanes bring nothing */
#define LANES_PIECES 4      /* less is not worth a lane */

static bool has(const struct holding *holding, uint32_t piece)
{
    return (holding->have[piece / 8] & 1u << piece % 8) != 0;
}

void kspread_touch(struct coordinator_core *core, struct shared *shared)
{
    if (!shared->touched)
        TAILQ_INSERT_TAIL(&core->spreading, shared, spreading_entry);
    shared->touched = true;
}

int kspread_init(struct shared *shared)
{
    shared->spread = mem_alloc(shared->pieces * sizeof *shared->spread);
    shared->order = mem_alloc(shared->pieces * sizeof *shared->order);
    if (shared->spread && shared->order)
        return 0;
    mem_free(shared->spread);
    mem_free(shared->order);
    return FARPOOL_ENOMEM;
}

void kspread_fini(struct coordinator_core *core, struct shared *shared)
{
    if (shared->touched)
        TAILQ_REMOVE(&core->spreading, shared, spreading_entry);
    mem_free(shared->spread);
    mem_free(shared->order);
}

/* ------------------------------------------------------------ what is where */

static void add_copy(struct shared *shared, uint32_t piece)
{
    struct spread *spread = &shared->spread[piece];
    spread->copies++;
    if (!spread->ordered)
        shared->order[shared->ordered++] = piece;
    spread->ordered = true;
}

static void remove_copy(struct shared *shared, uint32_t piece)
{
    struct spread *spread = &shared->spread[piece];
    if (--spread->copies == 0 && piece < shared->fresh)
        shared->fresh = piece;
}

static void add_piece(struct holding *holding, uint32_t piece)
{
    if (has(holding, piece))
        return;
    holding->have[piece / 8] |= (uint8_t)(1u << piece % 8);
    holding->count++;
    if (!holding->distrusted)
        add_copy(holding->shared, piece);
}

static void remove_piece(struct holding *holding, uint32_t piece)
{
    if (!has(holding, piece))
        return;
    holding->have[piece / 8] &= (uint8_t) ~(1u << piece % 8);
    holding->count--;
    holding->cursor = 0;
    if (!holding->distrusted)
        remove_copy(holding->shared, piece);
}

static bool passes_here(const struct kpull *pull)
{
    return !pull->again && (!pull->source || pull->relayed);
}

/* Ends a pull, however it went. */
static void end_pull(const struct coordinator_core *core, struct holding *holding,
                     uint32_t place)
{
    struct kpull *pull = &holding->pulls[place];
    struct shared *shared = holding->shared;
    holding->busy_ms = core->now_ms;
    shared->passing -= passes_here(pull);
    if (pull->source) {
        pull->source->given--;
    } else if (!pull->again) {
        holding->client_pulls--;
        shared->spread[pull->piece].asked = false;
        if (shared->spread[pull->piece].copies == 0 && pull->piece < shared->fresh)
            shared->fresh = pull->piece;
    }
    *pull = holding->pulls[--holding->pulls_count];
}

/* What others wait for from there is to be asked elsewhere. They have it under way until
 * they are told from whom. */
static void end_pulls_from(struct holding *source)
{
    struct holding *holding;
    if (source->given == 0)
        return;
    TAILQ_FOREACH (holding, &source->shared->holdings, entry)
        for (uint32_t place = 0; place < holding->pulls_count; place++) {
            struct kpull *pull = &holding->pulls[place];
            if (pull->source != source)
                continue;
            source->shared->passing -= passes_here(pull);
            *pull = (struct kpull){.piece = pull->piece, .again = true};
        }
    source->given = 0;
}

/* It is no source any more. */
static void distrust(struct holding *holding)
{
    struct shared *shared = holding->shared;
    if (holding->distrusted)
        return;
    holding->distrusted = true;
    end_pulls_from(holding);
    for (uint32_t piece = 0; holding->count > 0 && piece < shared->pieces; piece++)
        if (has(holding, piece))
            remove_copy(shared, piece);
}

void kspread_leave(struct coordinator_core *core, struct holding *holding)
{
    while (holding->pulls_count > 0)
        end_pull(core, holding, 0);
    distrust(holding);
    if (holding->shared->source_next == holding)
        holding->shared->source_next = NULL;
    kspread_touch(core, holding->shared);
}

void kspread_give_up(struct coordinator_core *core, struct holding *holding)
{
    kspread_leave(core, holding);
    holding->state = HOLDING_GIVEN_UP;
}

static void look_whether_whole(struct holding *holding)
{
    if (holding->count == holding->shared->pieces)
        holding->state = HOLDING_WHOLE;
}

/* All that it has. What it said before may be of a life of its pool that it has ended
 * since: then it has less, or has not given up. */
void kspread_answer(struct coordinator_core *core, struct holding *holding,
                    const uint8_t *have)
{
    for (uint32_t piece = 0; piece < holding->shared->pieces; piece++)
        if (have[piece / 8] & 1u << piece % 8)
            add_piece(holding, piece);
        else
            remove_piece(holding, piece);
    holding->state = HOLDING_FILLING;
    look_whether_whole(holding);
    kspread_touch(core, holding->shared);
}

static uint32_t find_pull(const struct holding *holding, uint32_t piece)
{
    uint32_t place = 0;
    while (place < holding->pulls_count && holding->pulls[place].piece != piece)
        place++;
    return place;
}

void kspread_pulled(struct coordinator_core *core, struct holding *holding,
                    uint32_t piece, int code)
{
    const uint32_t place = find_pull(holding, piece);
    if (place == holding->pulls_count)
        return; /* of a source that has gone */
    struct holding *source = holding->pulls[place].source;
    if (code == 0)
        add_piece(holding, piece);
    holding->shared->came += code == 0 && passes_here(&holding->pulls[place]);
    end_pull(core, holding, place);
    if (code != 0 && source)
        distrust(source);
    look_whether_whole(holding);
    kspread_touch(core, holding->shared);
}

/* --------------------------------------------------------------- what next */

static bool has_lane(const struct holding *a, const struct holding *b)
{
    return klane_is_up(a->member->worker, b->member->worker, a->shared->pool);
}

/* The pull at that place, with its message. */
static int send_pull(struct coordinator_core *core, struct holding *holding,
                     uint32_t place, uint32_t piece, struct holding *source)
{
    struct shared *shared = holding->shared;
    struct message *message = message_create(MSG_PULL);
    if (message) {
        message->pull.pool = shared->pool->id;
        message->pull.number = shared->number;
        message->pull.piece = piece;
        if (source)
            message->pull.source = source->member->worker->id;
    }
    if (ksend(core, holding->member->worker->link, &message))
        return FARPOOL_ENOMEM;
    struct kpull *pull = &holding->pulls[place];
    *pull = (struct kpull){.piece = piece, .source = source};
    pull->relayed = source && !has_lane(holding, source);
    shared->passing += passes_here(pull);
    holding->busy_ms = core->now_ms;
    if (source) {
        source->given++;
    } else {
        shared->spread[piece].asked = true;
        holding->client_pulls++;
        holding->client_turn = ++shared->client_turn;
    }
    return 0;
}

static int add_pull(struct coordinator_core *core, struct holding *holding,
                    uint32_t piece, struct holding *source)
{
    const int error = send_pull(core, holding, holding->pulls_count, piece, source);
    holding->pulls_count += error ? 0 : 1;
    return error;
}

static bool may_pull(const struct holding *holding)
{
    return holding->state == HOLDING_FILLING && holding->pulls_count < SHARED_PULLS_MAX;
}

static bool may_pull_from_client(const struct holding *holding)
{
    return may_pull(holding) && holding->client_pulls < CLIENT_PULLS_EACH;
}

/* Who is given a piece by the client: the one with the fewest of the client's under way,
 * and of equals who waits for one longest. NULL: nobody may now, or needs it. Who has it
 * under way waits for that, though its source may have said since that it has it not. */
static struct holding *next_for_client(const struct shared *shared, uint32_t piece)
{
    struct holding *best = NULL, *holding;
    TAILQ_FOREACH (holding, &shared->holdings, entry) {
        if (!may_pull_from_client(holding) || has(holding, piece) ||
            find_pull(holding, piece) < holding->pulls_count)
            continue;
        if (!best || holding->client_pulls < best->client_pulls ||
            (holding->client_pulls == best->client_pulls &&
             holding->client_turn < best->client_turn))
            best = holding;
    }
    return best;
}

static void keep_pace(const struct coordinator_core *core, struct shared *shared)
{
    const uint64_t passed_ms = core->now_ms - shared->pace_ms;
    if (passed_ms < PACE_MS)
        return;
    shared->came_last = passed_ms < (uint64_t)2 * PACE_MS ? shared->came : 0;
    shared->came = 0;
    shared->pace_ms = core->now_ms;
}

static uint32_t window(const struct shared *shared)
{
    const uint64_t came = larger(shared->came, shared->came_last);
    return (uint32_t)smaller(PASSING_LEAST + came, PASSING_MAX);
}

static bool wants_from_client(const struct shared *shared)
{
    const struct holding *holding;
    if (shared->passing >= window(shared))
        return false;
    TAILQ_FOREACH (holding, &shared->holdings, entry)
        if (may_pull_from_client(holding))
            return true;
    return false;
}

static bool is_fresh(const struct spread *spread)
{
    return !spread->copies && !spread->asked;
}

static int pull_from_client(struct coordinator_core *core, struct shared *shared)
{
    keep_pace(core, shared);
    while (shared->fresh < shared->pieces && !is_fresh(&shared->spread[shared->fresh]))
        shared->fresh++;
    for (uint32_t piece = shared->fresh;
         piece < shared->pieces && wants_from_client(shared); piece++) {
        struct holding *holding =
            is_fresh(&shared->spread[piece]) ? next_for_client(shared, piece) : NULL;
        if (holding && add_pull(core, holding, piece, NULL))
            return FARPOOL_ENOMEM;
    }
    return 0;
}

/* Nothing is under way to it. */
static bool is_idle(const struct holding *holding)
{
    for (uint32_t place = 0; place < holding->pulls_count; place++)
        if (!holding->pulls[place].again)
            return false;
    return true;
}

/* Whether it may be given pieces of other workers through here. */
static bool may_relay(const struct coordinator_core *core, const struct holding *holding)
{
    if (holding->shared->passing >= window(holding->shared))
        return false;
    if (!klane_is_any(holding->member->worker, holding->shared->pool))
        return true;
    return is_idle(holding) &&
           core->now_ms >= add_saturated(holding->busy_ms, RELAY_AFTER_MS);
}

/* The source with the least to do; not the same ones are looked at each time. */
static struct holding *find_source(const struct coordinator_core *core,
                                   const struct holding *holding, uint32_t piece)
{
    struct shared *shared = holding->shared;
    struct holding *best = NULL, *source = shared->source_next;
    const bool relay = may_relay(core, holding);
    for (int look = 0; look < SOURCES_LOOK; look++) {
        if (!source)
            source = TAILQ_FIRST(&shared->holdings);
        if (look > 0 && source == shared->source_next)
            break;
        if (!source->distrusted && source->given < GIVEN_MAX && has(source, piece) &&
            (!best || source->given < best->given) &&
            (relay || has_lane(holding, source)))
            best = source;
        source = TAILQ_NEXT(source, entry);
    }
    shared->source_next = source;
    return best;
}

static int pull_from_peer(struct coordinator_core *core, struct holding *holding,
                          bool *pulled)
{
    struct shared *shared = holding->shared;
    *pulled = false;
    while (holding->cursor < shared->ordered &&
           has(holding, shared->order[holding->cursor]))
        holding->cursor++;
    for (uint32_t at = holding->cursor;
         at < shared->ordered && at - holding->cursor < PIECES_LOOK; at++) {
        const uint32_t piece = shared->order[at];
        if (has(holding, piece) || find_pull(holding, piece) < holding->pulls_count)
            continue;
        struct holding *source = find_source(core, holding, piece);
        if (!source)
            continue;
        *pulled = true;
        return add_pull(core, holding, piece, source);
    }
    return 0;
}

/* Whose source has gone; or they wait until one is free, or the client's comes. */
static int pull_again(struct coordinator_core *core, struct holding *holding)
{
    struct shared *shared = holding->shared;
    for (uint32_t place = 0; place < holding->pulls_count; place++) {
        const uint32_t piece = holding->pulls[place].piece;
        const struct spread *spread = &shared->spread[piece];
        struct holding *source = NULL;
        if (!holding->pulls[place].again)
            continue;
        if (spread->copies ? !(source = find_source(core, holding, piece))
                           : spread->asked)
            continue;
        if (send_pull(core, holding, place, piece, source))
            return FARPOOL_ENOMEM;
    }
    return 0;
}

static int pull_from_peers(struct coordinator_core *core, struct holding *holding)
{
    bool pulled = true;
    while (pulled && may_pull(holding) &&
           holding->pulls_count - holding->client_pulls < PEER_PULLS_MAX)
        if (pull_from_peer(core, holding, &pulled))
            return FARPOOL_ENOMEM;
    return 0;
}

/* Lanes to some of those that were told of it before. */
static int want_lanes(struct coordinator_core *core, struct holding *holding)
{
    const struct shared *shared = holding->shared;
    struct holding *other = holding;
    if (holding->linked || holding->state == HOLDING_ASKED ||
        shared->pieces < LANES_PIECES)
        return 0;
    for (int i = 0; i < LANES_EACH; i++) {
        other = TAILQ_PREV(other, kholding_list, entry);
        if (!other)
            break;
        if (klane_want_between(core, holding->member->worker, other->member->worker,
                               shared->pool))
            return FARPOOL_ENOMEM;
    }
    holding->linked = true;
    return 0;
}

/* Who has nothing under way is looked at again, also if nothing else happens. */
static void look_later(struct coordinator_core *core, const struct holding *holding)
{
    if (holding->state != HOLDING_FILLING || !is_idle(holding))
        return;
    const uint64_t at_ms = add_saturated(holding->busy_ms, RELAY_AFTER_MS);
    const uint64_t later_ms =
        at_ms > core->now_ms ? at_ms : add_saturated(core->now_ms, RELAY_AFTER_MS);
    core->spread_ms = smaller(core->spread_ms, later_ms);
}

static int spread(struct coordinator_core *core, struct shared *shared)
{
    struct holding *holding;
    TAILQ_FOREACH (holding, &shared->holdings, entry)
        if (want_lanes(core, holding) || pull_again(core, holding))
            return FARPOOL_ENOMEM;
    if (pull_from_client(core, shared))
        return FARPOOL_ENOMEM;
    TAILQ_FOREACH (holding, &shared->holdings, entry)
        if (pull_from_peers(core, holding))
            return FARPOOL_ENOMEM;
    TAILQ_FOREACH (holding, &shared->holdings, entry)
        look_later(core, holding);
    return 0;
}

uint64_t kspread_deadline(const struct coordinator_core *core)
{
    return core->spread_ms;
}

int kspread_flush(struct coordinator_core *core)
{
    struct shared *shared;
    struct pool *pool;
    if (core->now_ms >= core->spread_ms) {
        core->spread_ms = UINT64_MAX;
        TAILQ_FOREACH (pool, &core->opened, entry)
            kshared_touch(core, pool);
    }
    while ((shared = TAILQ_FIRST(&core->spreading))) {
        if (spread(core, shared))
            return FARPOOL_ENOMEM;
        TAILQ_REMOVE(&core->spreading, shared, spreading_entry);
        shared->touched = false;
    }
    return 0;
}

/* --------------------------------------------------------------- invariants */

static void check_holding(const struct holding *holding, uint32_t *passing)
{
    const struct shared *shared = holding->shared;
    const struct holding *other;
    uint32_t count = 0, given = 0, mine = 0;
    for (uint32_t piece = 0; piece < shared->pieces; piece++)
        count += has(holding, piece);
    assert(count == holding->count);
    assert((holding->state == HOLDING_WHOLE) <= (count == shared->pieces));
    TAILQ_FOREACH (other, &shared->holdings, entry)
        for (uint32_t i = 0; i < other->pulls_count; i++)
            given += other->pulls[i].source == holding;
    assert(given == holding->given && (!given || !holding->distrusted));
    for (uint32_t i = 0; i < holding->pulls_count; i++) {
        const struct kpull *pull = &holding->pulls[i];
        const bool client = !pull->source && !pull->again;
        mine += client;
        *passing += passes_here(pull);
        assert(holding->state == HOLDING_FILLING || holding->state == HOLDING_WHOLE);
        assert(find_pull(holding, pull->piece) == i && !(pull->source && pull->again));
        assert(!client || shared->spread[pull->piece].asked);
    }
    assert(mine == holding->client_pulls && holding->pulls_count <= SHARED_PULLS_MAX);
}

void kspread_check(const struct shared *shared)
{
    const struct holding *holding;
    uint32_t passing = 0;
    TAILQ_FOREACH (holding, &shared->holdings, entry)
        check_holding(holding, &passing);
    assert(passing == shared->passing);
    for (uint32_t piece = 0; piece < shared->pieces; piece++) {
        const struct spread *spread = &shared->spread[piece];
        uint32_t copies = 0;
        TAILQ_FOREACH (holding, &shared->holdings, entry)
            copies += !holding->distrusted && has(holding, piece);
        assert(copies == spread->copies && (!copies || spread->ordered));
        assert(copies || spread->asked || piece >= shared->fresh);
    }
}
