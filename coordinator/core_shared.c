/* SPDX-License-Identifier: Apache-2.0
 *
 * core_shared.c: a pool's shared inputs: who is told of them, and what each worker has.
 * core_spread.c decides which piece goes where.
 *
 * A worker is told of each (SHARE) behind POOL_OPEN and before any task, answers with the
 * pieces that it has (it may have been filled for another pool, or under an earlier
 * coordinator), and has a holding from then on. Only workers of the pool give pieces to
 * each other, by what they say: whoever gives a wrong or no piece is not asked again, and
 * the client is the last resort. All of it ends with the pool, when it begins to close.
 */
#include "coordinator/core_internal.h"

static struct shared *find(const struct pool *pool, uint64_t number)
{
    struct shared *shared;
    TAILQ_FOREACH (shared, &pool->shared, entry)
        if (shared->number == number)
            return shared;
    return NULL;
}

/* ----------------------------------------------------------------- holdings */

static struct holding *find_holding(const struct member *member, uint64_t number)
{
    struct holding *holding;
    SLIST_FOREACH(holding, &member->holdings, member_entry)
    if (holding->shared->number == number)
        return holding;
    return NULL;
}

static struct holding *create_holding(struct shared *shared, struct member *member)
{
    struct holding *holding = mem_alloc(sizeof *holding);
    if (!holding)
        return NULL;
    if (!(holding->have = mem_alloc((shared->pieces + 7) / 8))) {
        mem_free(holding);
        return NULL;
    }
    holding->shared = shared;
    holding->member = member;
    TAILQ_INSERT_TAIL(&shared->holdings, holding, entry);
    SLIST_INSERT_HEAD(&member->holdings, holding, member_entry);
    return holding;
}

static void destroy_holding(struct coordinator_core *core, struct holding *holding)
{
    struct shared *shared = holding->shared;
    kspread_leave(core, holding);
    TAILQ_REMOVE(&shared->holdings, holding, entry);
    SLIST_REMOVE(&holding->member->holdings, holding, holding, member_entry);
    mem_free(holding->have);
    mem_free(holding);
}

/* SHARE to one worker, with a holding; both or neither. */
static int tell_member(struct coordinator_core *core, struct shared *shared,
                       struct member *member)
{
    struct message *message = message_copy(shared->message);
    struct holding *holding = message ? create_holding(shared, member) : NULL;
    if (!holding) {
        message_free(&message);
        return FARPOOL_ENOMEM;
    }
    const int error = ksend(core, member->worker->link, &message);
    if (error)
        destroy_holding(core, holding);
    return error;
}

int kshared_tell(struct coordinator_core *core, struct member *member)
{
    struct shared *shared;
    TAILQ_FOREACH (shared, &member->pool->shared, entry) {
        if (find_holding(member, shared->number) || !tell_member(core, shared, member))
            continue;
        kshared_forget_member(core, member);
        return FARPOOL_ENOMEM;
    }
    return 0;
}

void kshared_forget_member(struct coordinator_core *core, struct member *member)
{
    struct holding *holding;
    while ((holding = SLIST_FIRST(&member->holdings)))
        destroy_holding(core, holding);
}

/* ------------------------------------------------------- beginning, ending */

static void destroy(struct coordinator_core *core, struct shared *shared)
{
    struct holding *holding;
    while ((holding = TAILQ_FIRST(&shared->holdings)))
        destroy_holding(core, holding);
    kspread_fini(core, shared);
    shared->pool->shared_count--;
    shared->pool->shared_pieces -= shared->pieces;
    TAILQ_REMOVE(&shared->pool->shared, shared, entry);
    message_free(&shared->message);
    mem_free(shared);
}

void kshared_forget_all(struct coordinator_core *core, struct pool *pool)
{
    struct shared *shared;
    while ((shared = TAILQ_FIRST(&pool->shared)))
        destroy(core, shared);
}

/* Takes the message over; NULL: out of memory. */
static struct shared *create(struct pool *pool, struct message **message)
{
    struct shared *shared = mem_alloc(sizeof *shared);
    if (!shared)
        return NULL;
    shared->pool = pool;
    shared->number = (*message)->share.number;
    shared->pieces = shared_pieces((*message)->share.size);
    TAILQ_INIT(&shared->holdings);
    if (kspread_init(shared)) {
        mem_free(shared);
        return NULL;
    }
    shared->message = *message;
    *message = NULL;
    TAILQ_INSERT_TAIL(&pool->shared, shared, entry);
    pool->shared_count++;
    pool->shared_pieces += shared->pieces;
    pool->shared_last = shared->number;
    return shared;
}

/* What is wrong with a SHARE, which a client's library does not let happen; or NULL. */
static const char *fault_of(const struct pool *pool, const struct message *message)
{
    const uint64_t size = message->share.size;
    const struct payload *hashes = message->share.hashes;
    if (size == 0 || size > SHARED_BYTES_MAX)
        return "SHARE of no bytes, or of too many";
    if (message->share.number <= pool->shared_last)
        return "SHARE with a number that was used before";
    if (pool->shared_count >= SHARED_MAX ||
        shared_pieces(size) > SHARED_PIECES_MAX - pool->shared_pieces)
        return "more shared inputs than a pool may have";
    if (hashes && hashes->size != (size_t)32 * shared_pieces(size))
        return "SHARE without a hash for each piece";
    return NULL;
}

int kshare(struct coordinator_core *core, struct client *client, struct message **message)
{
    struct pool *pool = client->pool;
    const uint64_t last = pool->shared_last;
    struct member *member;
    if (client->state != CLIENT_OWNER)
        return klink_drop(core, client->link, FARPOOL_EPROTOCOL,
                          "SHARE from a client that did not open the pool");
    const char *fault = fault_of(pool, *message);
    if (fault)
        return klink_drop(core, client->link, FARPOOL_EPROTOCOL, "%s", fault);
    struct shared *shared = create(pool, message);
    if (!shared)
        return FARPOOL_ENOMEM;
    RB_FOREACH (member, kmember_tree, &pool->members) {
        if (member->state != MEMBER_OPEN || !tell_member(core, shared, member))
            continue;
        *message = shared->message; /* the event may come again */
        shared->message = NULL;
        destroy(core, shared);
        pool->shared_last = last;
        return FARPOOL_ENOMEM;
    }
    return 0;
}

int kunshare(struct coordinator_core *core, struct client *client,
             const struct message *message)
{
    struct shared *shared = find(client->pool, message->unshare.number);
    struct holding *holding;
    if (client->state != CLIENT_OWNER)
        return klink_drop(core, client->link, FARPOOL_EPROTOCOL,
                          "UNSHARE from a client that did not open the pool");
    if (!shared)
        return 0;
    TAILQ_FOREACH (holding, &shared->holdings, entry) {
        struct message *copy = message_copy(message);
        if (ksend(core, holding->member->worker->link, &copy))
            return FARPOOL_ENOMEM;
    }
    destroy(core, shared);
    return 0;
}

void kshared_touch(struct coordinator_core *core, struct pool *pool)
{
    struct shared *shared;
    TAILQ_FOREACH (shared, &pool->shared, entry)
        kspread_touch(core, shared);
}

/* ------------------------------------------------------------------- PULLED */

static int answer(struct coordinator_core *core, struct holding *holding,
                  const struct message *message)
{
    const struct payload *have = message->pulled.have;
    if (!have || have->size != (holding->shared->pieces + 7) / 8)
        return klink_drop(core, holding->member->worker->link, FARPOOL_EPROTOCOL,
                          "PULLED without a bit for each piece");
    if (message->pulled.given_up)
        kspread_give_up(core, holding);
    else
        kspread_answer(core, holding, have->data);
    return 0;
}

/* What a worker has from an earlier coordinator's time: it tells of it until it hears
 * SHARE, also where it is not opened the pool again (it may have tasks of it all the
 * same), or UNSHARE: the client has told all that it shares once it has RESUMED. What it
 * said before it read POOL_CLOSE is of a life of the pool that is over. */
static int claim(struct coordinator_core *core, struct member *member, uint64_t number)
{
    struct pool *pool = member->pool;
    if (!member->worker->resumed || kpool_was_closed(member->worker, &pool->id))
        return 0;
    struct shared *shared = find(pool, number);
    if (shared && (member->state == MEMBER_HELD || member->state == MEMBER_OPEN))
        return tell_member(core, shared, member);
    if (shared || pool->state != POOL_RUNNING || !pool->owner->resumed)
        return 0;
    struct message *unshare = message_create(MSG_UNSHARE);
    if (unshare) {
        unshare->unshare.pool = pool->id;
        unshare->unshare.number = number;
    }
    return ksend(core, member->worker->link, &unshare);
}

int kpulled(struct coordinator_core *core, struct worker *worker,
            const struct message *message)
{
    const struct pool *pool = kpool_find(core, &message->pulled.pool);
    struct member *member = pool ? kmember_find(pool, worker) : NULL;
    if (!member)
        return 0; /* of what has ended */
    struct holding *holding = find_holding(member, message->pulled.number);
    if (!holding)
        return message->pulled.answer ? claim(core, member, message->pulled.number) : 0;
    if (message->pulled.answer)
        return answer(core, holding, message);
    kspread_pulled(core, holding, message->pulled.piece, message->pulled.code);
    return 0;
}

/* --------------------------------------------------------- between workers */

/* The worker that another one of the same pool means; or NULL: it is gone. */
static struct worker *colleague(const struct coordinator_core *core,
                                const struct worker *worker, const struct id *pool_id,
                                const struct id *id)
{
    const struct pool *pool = kpool_find(core, pool_id);
    struct worker *other = kworker_find(core, id);
    if (!pool || !other || !kmember_find(pool, worker) || !kmember_find(pool, other))
        return NULL;
    return other;
}

int kshared_fetch(struct coordinator_core *core, struct worker *worker,
                  struct message **message)
{
    struct worker *source =
        colleague(core, worker, &(*message)->fetch.pool, &(*message)->fetch.source);
    return source ? kforward(core, source->link, message) : 0;
}

int kshared_blob(struct coordinator_core *core, struct worker *worker,
                 struct message **message)
{
    if (!id_equal(&(*message)->blob.source, &worker->id))
        return klink_drop(core, worker->link, FARPOOL_EPROTOCOL,
                          "BLOB in another worker's name");
    struct worker *asker =
        colleague(core, worker, &(*message)->blob.pool, &(*message)->blob.worker);
    return asker ? kforward(core, asker->link, message) : 0;
}
