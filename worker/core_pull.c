/* SPDX-License-Identifier: Apache-2.0
 *
 * core_pull.c: the pieces of shared inputs on their way: the coordinator says of each
 * from whom it is fetched (PULL, then FETCH and BLOB: another worker, or the client), and
 * is told what came of it (PULLED). A piece that does not come, or is not what its hash
 * says, is the coordinator's to ask elsewhere. Here are also the answers to other
 * workers' FETCH. What is there, and what follows from it, is core_shared.c's. */
#include "worker/core_internal.h"

static struct shared *find_content(const struct pool *pool, const struct hash *hash)
{
    struct shared *shared;
    TAILQ_FOREACH (shared, &pool->shared, in_pool)
        if (shared->content->state != CONTENT_FAILED &&
            hash_equal(&shared->content->hash, hash))
            return shared;
    return NULL;
}

/* ----------------------------------------------------------------- PULL and BLOB */

static struct pull *find_pull(struct shared *shared, uint32_t piece)
{
    for (int i = 0; i < SHARED_PULLS_MAX; i++)
        if (shared->pulls[i].state != PULL_FREE && shared->pulls[i].piece == piece)
            return &shared->pulls[i];
    return NULL;
}

static struct pull *free_pull(struct shared *shared)
{
    for (int i = 0; i < SHARED_PULLS_MAX; i++)
        if (shared->pulls[i].state == PULL_FREE)
            return &shared->pulls[i];
    return NULL;
}

int worker_pull(struct worker_core *core, const struct message *message)
{
    struct pool *pool = worker_pool_find(core, &message->pull.pool);
    struct shared *shared = pool ? worker_shared_find(pool, message->pull.number) : NULL;
    const uint32_t piece = message->pull.piece;
    if (shared == NULL || shared->content->state == CONTENT_FAILED)
        return 0; /* unshared, or given up, which is told */
    if (piece >= shared->content->pieces)
        return worker_relink(core, "PULL of a piece that there is none of");
    struct pull *pull = find_pull(shared, piece);
    if (pull == NULL && (pull = free_pull(shared)) == NULL)
        return worker_relink(core, "more than %d PULLs at a time", SHARED_PULLS_MAX);
    if (pull->state == PULL_WRITING)
        return 0; /* another source, but the first one's answer came */
    pull->piece = piece;
    pull->source = message->pull.source;
    pull->state = worker_has_piece(shared->content, piece) ? PULL_OVER : PULL_WANTED;
    pull->code = 0;
    return 0;
}

static bool is_whole_piece(const struct content *content, uint32_t piece,
                           const struct payload *data)
{
    return data != NULL && data->size == shared_piece_bytes(content->size, piece);
}

static int take_piece(struct worker_core *core, struct shared *shared, struct pull *pull,
                      struct message *message)
{
    struct content *content = shared->content;
    if (message->blob.code == 0 &&
        is_whole_piece(content, pull->piece, message->blob.data)) {
        if (worker_reserve(core, 1) != 0)
            return FARPOOL_ENOMEM;
        struct worker_effect *effect = worker_add(core, WORKER_SHARED_WRITE);
        effect->program = content->hash;
        effect->serial = content->serial;
        effect->offset = pull->piece;
        effect->data = message->blob.data;
        message->blob.data = NULL;
        pull->state = PULL_WRITING;
        return 0;
    }
    if (worker_shared_reserve(core, content) != 0)
        return FARPOOL_ENOMEM;
    pull->state = PULL_OVER;
    pull->code = message->blob.code != 0 ? message->blob.code : FARPOOL_EPROTOCOL;
    if (id_is_zero(&pull->source))
        worker_shared_refuse(core, shared, pull->code);
    return 0;
}

bool worker_shared_is_content(struct worker_core *core, const struct message *blob)
{
    struct pool *pool = worker_pool_find(core, &blob->blob.pool);
    return pool != NULL && find_content(pool, &blob->blob.content) != NULL;
}

int worker_shared_blob(struct worker_core *core, struct message *message)
{
    struct pool *pool = worker_pool_find(core, &message->blob.pool);
    const uint64_t piece = message->blob.offset / SHARED_PIECE_BYTES;
    struct shared *shared;
    TAILQ_FOREACH (shared, &pool->shared, in_pool) {
        if (!hash_equal(&shared->content->hash, &message->blob.content) ||
            piece >= shared->content->pieces)
            continue;
        struct pull *pull = find_pull(shared, (uint32_t)piece);
        if (pull != NULL && pull->state == PULL_ASKED &&
            id_equal(&pull->source, &message->blob.source))
            return take_piece(core, shared, pull, message);
    }
    return 0; /* asked elsewhere meanwhile */
}

/* The piece that was written for one pool is there for all; what failed is the source's
 * whom each of them asked. */
void worker_pulls_written(struct worker_core *core, struct content *content,
                          uint32_t piece, int code)
{
    struct shared *shared;
    TAILQ_FOREACH (shared, &content->shared, in_content) {
        struct pull *pull = find_pull(shared, piece);
        if (pull == NULL || (code != 0 && pull->state != PULL_WRITING))
            continue;
        pull->state = PULL_OVER;
        pull->code = code;
        if (code != 0 && id_is_zero(&pull->source))
            worker_shared_refuse(core, shared, FARPOOL_EPROGRAM);
    }
}

/* ------------------------------------------------------------- for other workers */

/* To another worker over a lane; or, NULL, through the coordinator, or to the client. */
static void say(struct worker_core *core, struct lane *lane, struct message *message)
{
    if (lane != NULL)
        worker_lane_send(core, lane, message);
    else
        worker_send(core, message);
}

static int refuse_fetch(struct worker_core *core, struct lane *lane,
                        const struct message *message)
{
    struct message *blob = worker_message(core, MSG_BLOB);
    if (blob == NULL)
        return FARPOOL_ENOMEM;
    blob->blob.pool = message->fetch.pool;
    blob->blob.worker = message->fetch.worker;
    blob->blob.source = core->config.worker;
    blob->blob.content = message->fetch.content;
    blob->blob.offset = message->fetch.offset;
    blob->blob.code = FARPOOL_ENOTREADY;
    say(core, lane, blob);
    return 0;
}

int worker_shared_fetch(struct worker_core *core, struct lane *lane,
                        const struct message *message)
{
    struct pool *pool = worker_pool_find(core, &message->fetch.pool);
    const struct shared *shared =
        pool ? find_content(pool, &message->fetch.content) : NULL;
    const uint64_t piece = message->fetch.offset / SHARED_PIECE_BYTES;
    if (shared == NULL || message->fetch.offset % SHARED_PIECE_BYTES != 0 ||
        piece >= shared->content->pieces ||
        !worker_has_piece(shared->content, (uint32_t)piece))
        return refuse_fetch(core, lane, message);
    if (worker_reserve(core, 1) != 0)
        return FARPOOL_ENOMEM;
    struct worker_effect *effect = worker_add(core, WORKER_SHARED_READ);
    effect->pool = pool->id;
    effect->worker = message->fetch.worker;
    effect->lane = lane ? lane->number : 0;
    effect->program = message->fetch.content;
    effect->offset = message->fetch.offset;
    effect->count = shared_piece_bytes(shared->content->size, (uint32_t)piece);
    return 0;
}

/* --------------------------------------------------------------------- the flush */

static struct message *pulled(struct worker_core *core, const struct shared *shared)
{
    struct message *message = worker_message(core, MSG_PULLED);
    if (message != NULL) {
        message->pulled.pool = shared->pool->id;
        message->pulled.number = shared->number;
    }
    return message;
}

static int tell_all(struct worker_core *core, struct shared *shared)
{
    const struct content *content = shared->content;
    struct message *message = pulled(core, shared);
    struct payload *have =
        message ? payload_copy(content->have, (content->pieces + 7) / 8) : NULL;
    if (have == NULL) {
        message_free(&message);
        return FARPOOL_ENOMEM;
    }
    message->pulled.answer = true;
    message->pulled.code = content->code;
    message->pulled.given_up = content->state == CONTENT_FAILED;
    message->pulled.have = have;
    worker_send(core, message);
    shared->tell = false;
    return 0;
}

static int tell_one(struct worker_core *core, const struct shared *shared,
                    struct pull *pull)
{
    struct message *message = pulled(core, shared);
    if (message == NULL)
        return FARPOOL_ENOMEM;
    message->pulled.piece = pull->piece;
    message->pulled.code = pull->code;
    worker_send(core, message);
    pull->state = PULL_FREE;
    return 0;
}

static int ask(struct worker_core *core, const struct shared *shared, struct pull *pull)
{
    struct lane *lane = id_is_zero(&pull->source)
                            ? NULL
                            : worker_lane_find(core, shared->pool, &pull->source);
    struct message *message = worker_message(core, MSG_FETCH);
    if (message == NULL)
        return FARPOOL_ENOMEM;
    message->fetch.pool = shared->pool->id;
    message->fetch.worker = core->config.worker;
    message->fetch.source = pull->source;
    message->fetch.content = shared->content->hash;
    message->fetch.offset = (uint64_t)pull->piece * SHARED_PIECE_BYTES;
    message->fetch.bytes = shared_piece_bytes(shared->content->size, pull->piece);
    say(core, lane, message);
    pull->state = PULL_ASKED;
    pull->lane = lane ? lane->number : 0;
    pull->asked_ms = core->now_ms;
    return 0;
}

static int flush_pull(struct worker_core *core, const struct shared *shared,
                      struct pull *pull)
{
    if (pull->state == PULL_ASKED &&
        core->now_ms >= worker_after(pull->asked_ms, SHARED_WAIT_MS)) {
        pull->state = PULL_OVER;
        pull->code = FARPOOL_ETIMEDOUT;
    }
    if (pull->state == PULL_WANTED)
        return ask(core, shared, pull);
    return pull->state == PULL_OVER ? tell_one(core, shared, pull) : 0;
}

static int flush_shared(struct worker_core *core, struct shared *shared)
{
    int error = 0;
    for (int i = 0; error == 0 && i < SHARED_PULLS_MAX; i++)
        error = flush_pull(core, shared, &shared->pulls[i]);
    if (core->now_ms >= shared->claim_ms) {
        shared->tell = true;
        shared->claim_ms = worker_after(core->now_ms, SHARED_CLAIM_MS);
    }
    if (error == 0 && shared->tell && shared->content->state != CONTENT_OPENED)
        error = tell_all(core, shared);
    return error;
}

int worker_flush_shared(struct worker_core *core)
{
    struct pool *pool;
    struct shared *shared;
    if (core->link != LINK_UP)
        return 0;
    TAILQ_FOREACH (pool, &core->pools, link) {
        if (pool->state == POOL_FORGOTTEN)
            continue;
        TAILQ_FOREACH (shared, &pool->shared, in_pool)
            if (flush_shared(core, shared) != 0)
                return FARPOOL_ENOMEM;
    }
    return 0;
}

/* What was asked there is asked through the coordinator. */
void worker_pulls_lane_over(struct pool *pool, uint64_t lane)
{
    struct shared *shared;
    TAILQ_FOREACH (shared, &pool->shared, in_pool)
        for (int i = 0; i < SHARED_PULLS_MAX; i++)
            if (shared->pulls[i].state == PULL_ASKED && shared->pulls[i].lane == lane &&
                lane != 0)
                shared->pulls[i].state = PULL_WANTED;
}

void worker_pulls_forget(struct shared *shared)
{
    for (int i = 0; i < SHARED_PULLS_MAX; i++)
        shared->pulls[i].state = PULL_FREE;
}

/* What was asked on a link that went is not: the next coordinator begins anew. */
void worker_shared_link_down(struct worker_core *core)
{
    struct pool *pool;
    struct shared *shared;
    TAILQ_FOREACH (pool, &core->pools, link)
        TAILQ_FOREACH (shared, &pool->shared, in_pool) {
            shared->tell = false;
            worker_pulls_forget(shared);
        }
}

void worker_shared_relinked(struct worker_core *core, struct pool *pool)
{
    struct shared *shared;
    TAILQ_FOREACH (shared, &pool->shared, in_pool)
        shared->claim_ms = core->now_ms;
}

static uint64_t shared_deadline(const struct shared *shared)
{
    uint64_t deadline = shared->claim_ms;
    for (int i = 0; i < SHARED_PULLS_MAX; i++) {
        const struct pull *pull = &shared->pulls[i];
        const uint64_t ms = worker_after(pull->asked_ms, SHARED_WAIT_MS);
        if (pull->state == PULL_ASKED && ms < deadline)
            deadline = ms;
    }
    return deadline;
}

uint64_t worker_shared_deadline(const struct worker_core *core)
{
    uint64_t deadline = UINT64_MAX;
    const struct pool *pool;
    const struct shared *shared;
    if (core->link != LINK_UP)
        return deadline;
    TAILQ_FOREACH (pool, &core->pools, link)
        TAILQ_FOREACH (shared, &pool->shared, in_pool)
            if (pool->state != POOL_FORGOTTEN && shared_deadline(shared) < deadline)
                deadline = shared_deadline(shared);
    return deadline;
}
