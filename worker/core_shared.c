/* SPDX-License-Identifier: Apache-2.0
 *
 * core_shared.c: the shared inputs of pools here. A content is on a node once, whatever
 * pools share it: the shell keeps its bytes, this file knows which pieces are there. It
 * begins with SHARE, is filled by the PULLs of the coordinator, (core_pull.c), and
 * is mapped by the host's processes when it is whole.
 *
 * Until all that a pool shares is there, or was given up for a reason that its functions
 * are told, no task of the pool is begun here (worker_pool_feedable): so a function never
 * waits for its input, and no limit of a task counts that time. */
#include "worker/core_internal.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

static int worker_content_compare(const struct content *a, const struct content *b)
{
    return memcmp(a->hash.bytes, b->hash.bytes, sizeof a->hash.bytes);
}

RB_GENERATE(worker_contents, content, by_hash, worker_content_compare)

static struct content *find_content(struct worker_core *core, const struct hash *hash)
{
    struct content key;
    key.hash = *hash;
    return RB_FIND(worker_contents, &core->contents, &key);
}

struct shared *worker_shared_find(const struct pool *pool, uint64_t number)
{
    struct shared *shared;
    TAILQ_FOREACH (shared, &pool->shared, in_pool)
        if (shared->number == number)
            return shared;
    return NULL;
}

static bool is_settled(const struct content *content)
{
    return content->state >= CONTENT_READY;
}

/* --------------------------------------------------------------------- beginning */

/* Its opening must be reserved. NULL: out of memory. */
static struct content *create_content(struct worker_core *core,
                                      const struct message *message)
{
    struct content *content = mem_alloc(sizeof *content);
    if (content == NULL)
        return NULL;
    content->hash = message->share.content;
    content->serial = ++core->next_shared;
    content->size = message->share.size;
    content->pieces = content->left = shared_pieces(message->share.size);
    if ((content->have = mem_alloc((content->pieces + 7) / 8)) == NULL) {
        mem_free(content);
        return NULL;
    }
    TAILQ_INIT(&content->shared);
    RB_INSERT(worker_contents, &core->contents, content);
    struct worker_effect *effect = worker_add(core, WORKER_SHARED_OPEN);
    effect->program = content->hash;
    effect->serial = content->serial;
    effect->offset = content->size;
    effect->data = payload_ref(message->share.hashes);
    return content;
}

/* The processes of its pool may have it, or are told why not. */
static void map(struct worker_core *core, const struct shared *shared)
{
    struct worker_effect *effect = worker_add(core, WORKER_SHARED_MAP);
    effect->program = shared->content->hash;
    effect->pool = shared->pool->id;
    effect->shared = shared->number;
    effect->serial = shared->serial;
    effect->code = shared->content->code;
    snprintf(effect->text, sizeof effect->text, "%s", shared->content->text);
}

static int add(struct worker_core *core, struct pool *pool, const struct message *message)
{
    struct content *content = find_content(core, &message->share.content);
    if (content != NULL && content->size != message->share.size)
        return worker_relink(core, "SHARE of a content with two sizes");
    if (worker_reserve(core, 1) != 0)
        return FARPOOL_ENOMEM;
    struct shared *shared = mem_alloc(sizeof *shared);
    if (shared == NULL)
        return FARPOOL_ENOMEM;
    if (content == NULL && (content = create_content(core, message)) == NULL) {
        mem_free(shared);
        return FARPOOL_ENOMEM;
    }
    shared->pool = pool;
    shared->content = content;
    shared->number = message->share.number;
    shared->serial = ++core->next_shared;
    shared->tell = true;
    shared->claim_ms = UINT64_MAX;
    TAILQ_INSERT_TAIL(&pool->shared, shared, in_pool);
    TAILQ_INSERT_TAIL(&content->shared, shared, in_content);
    pool->shared_count++;
    if (is_settled(content))
        map(core, shared);
    else
        pool->shared_waiting++;
    return 0;
}

int worker_share(struct worker_core *core, const struct message *message)
{
    struct pool *pool = worker_pool_find(core, &message->share.pool);
    const uint64_t size = message->share.size;
    if (pool == NULL)
        return worker_relink(core, "SHARE came before its POOL_OPEN");
    if (size == 0 || size > SHARED_BYTES_MAX)
        return worker_relink(core, "SHARE of %llu bytes", (unsigned long long)size);
    struct shared *shared = worker_shared_find(pool, message->share.number);
    if (shared != NULL) {
        shared->tell = true;
        shared->claim_ms = UINT64_MAX;
        return 0;
    }
    if (pool->shared_count >= SHARED_MAX)
        return worker_relink(core, "more than %d shared inputs of a pool", SHARED_MAX);
    return pool->state == POOL_OPEN ? add(core, pool, message) : 0;
}

/* ------------------------------------------------------------------------ ending */

/* Two effects must be reserved, unless the whole core is destroyed. */
static void release(struct worker_core *core, struct shared *shared)
{
    struct content *content = shared->content;
    if (!is_settled(content))
        shared->pool->shared_waiting--;
    shared->pool->shared_count--;
    TAILQ_REMOVE(&shared->pool->shared, shared, in_pool);
    TAILQ_REMOVE(&content->shared, shared, in_content);
    if (core->effects != NULL && is_settled(content)) {
        struct worker_effect *effect = worker_add(core, WORKER_SHARED_UNMAP);
        effect->pool = shared->pool->id;
        effect->serial = shared->serial;
    }
    mem_free(shared);
    if (!TAILQ_EMPTY(&content->shared))
        return;
    if (content->state != CONTENT_FAILED) {
        if (core->effects != NULL)
            worker_add(core, WORKER_SHARED_CLOSE)->program = content->hash;
        RB_REMOVE(worker_contents, &core->contents, content);
    }
    mem_free(content->have);
    mem_free(content);
}

int worker_unshare(struct worker_core *core, const struct message *message)
{
    struct pool *pool = worker_pool_find(core, &message->unshare.pool);
    struct shared *shared =
        pool ? worker_shared_find(pool, message->unshare.number) : NULL;
    if (shared == NULL)
        return 0;
    if (worker_reserve(core, SHARED_RELEASE_EFFECTS) != 0)
        return FARPOOL_ENOMEM;
    release(core, shared);
    return 0;
}

void worker_shared_release_all(struct worker_core *core, struct pool *pool)
{
    struct shared *shared;
    while ((shared = TAILQ_FIRST(&pool->shared)) != NULL)
        release(core, shared);
}

/* ------------------------------------------------------- what the shell has of it */

static uint32_t count_shared(const struct content *content)
{
    const struct shared *shared;
    uint32_t count = 0;
    TAILQ_FOREACH (shared, &content->shared, in_content)
        count++;
    return count;
}

int worker_shared_reserve(struct worker_core *core, const struct content *content)
{
    return worker_reserve(core, count_shared(content) + 1);
}

/* READY or FAILED; an effect for each that shares it must be reserved. */
static void settle(struct worker_core *core, struct content *content,
                   enum content_state state)
{
    struct shared *shared;
    assert(!is_settled(content));
    content->state = state;
    TAILQ_FOREACH (shared, &content->shared, in_content) {
        shared->pool->shared_waiting--;
        shared->tell = true;
        map(core, shared);
        if (state == CONTENT_FAILED)
            worker_pulls_forget(shared);
    }
}

/* Its memory is free at once, and who shares the same later begins anew. */
static void fail(struct worker_core *core, struct content *content, int code,
                 const char *text)
{
    content->code = code;
    snprintf(content->text, sizeof content->text, "%s",
             text != NULL ? text : farpool_error_text(code));
    memset(content->have, 0, (content->pieces + 7) / 8);
    content->left = content->pieces;
    settle(core, content, CONTENT_FAILED);
    worker_add(core, WORKER_SHARED_CLOSE)->program = content->hash;
    RB_REMOVE(worker_contents, &core->contents, content);
}

static void opened(struct worker_core *core, struct content *content,
                   const struct worker_event *event)
{
    assert(content->state == CONTENT_OPENED);
    content->state = CONTENT_FILLING;
    if (event->code != 0) {
        fail(core, content, event->code, event->text);
    } else if (event->whole) {
        memset(content->have, 0xff, (content->pieces + 7) / 8);
        if (content->pieces % 8 != 0)
            content->have[content->pieces / 8] =
                (uint8_t)((1u << content->pieces % 8) - 1);
        content->left = 0;
        settle(core, content, CONTENT_READY);
    }
}

void worker_shared_refuse(struct worker_core *core, struct shared *shared, int code)
{
    char text[256];
    struct content *content = shared->content;
    if (++shared->refused < SHARED_REFUSED_MAX || content->state != CONTENT_FILLING)
        return;
    snprintf(text, sizeof text,
             "the client cannot give node %s what it has shared (%llu bytes): the file "
             "cannot be read, or was changed",
             core->config.node, (unsigned long long)content->size);
    fail(core, content, code, text);
}

static void wrote(struct worker_core *core, struct content *content,
                  const struct worker_event *event)
{
    const uint32_t piece = (uint32_t)event->offset;
    if (content->state != CONTENT_FILLING || piece >= content->pieces)
        return;
    if (event->code != 0 && event->code != FARPOOL_EPROTOCOL) {
        fail(core, content, event->code, event->text);
        return;
    }
    worker_pulls_written(core, content, piece, event->code);
    if (event->code == 0 && !worker_has_piece(content, piece)) {
        content->have[piece / 8] |= (uint8_t)(1u << piece % 8);
        if (--content->left == 0)
            settle(core, content, CONTENT_READY);
    }
}

int worker_shared_event(struct worker_core *core, const struct worker_event *event)
{
    struct content *content = find_content(core, &event->program);
    if (content == NULL || event->serial != content->serial ||
        core->state >= CORE_STOPPING)
        return 0;
    if (worker_shared_reserve(core, content) != 0)
        return FARPOOL_ENOMEM;
    if (event->kind == WORKER_SHARED_OPENED)
        opened(core, content, event);
    else
        wrote(core, content, event);
    return 0;
}

/* --------------------------------------------------------------------- invariants */

void worker_shared_check(const struct worker_core *core)
{
    struct content *content;
    const struct pool *pool;
    const struct shared *shared;
    uint64_t in_pools = 0, in_contents = 0;
    /* RB_FOREACH wants its head without const. */
    RB_FOREACH (content, worker_contents,
                (struct worker_contents *)(uintptr_t)&core->contents) {
        uint32_t left = content->pieces;
        for (uint32_t piece = 0; piece < content->pieces; piece++)
            left -= worker_has_piece(content, piece);
        assert(left == content->left && !TAILQ_EMPTY(&content->shared));
        assert((content->state == CONTENT_READY) == (left == 0));
        assert(content->state != CONTENT_FAILED && content->code == 0);
        in_contents += count_shared(content);
    }
    TAILQ_FOREACH (pool, &core->pools, link) {
        uint32_t count = 0, waiting = 0;
        TAILQ_FOREACH (shared, &pool->shared, in_pool) {
            assert(shared->pool == pool);
            count++;
            waiting += !is_settled(shared->content);
            in_pools += shared->content->state != CONTENT_FAILED;
        }
        assert(count == pool->shared_count && waiting == pool->shared_waiting);
        assert(count <= SHARED_MAX);
    }
    assert(in_pools == in_contents);
}
