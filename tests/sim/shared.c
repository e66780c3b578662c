/* SPDX-License-Identifier: Apache-2.0
 *
 * shared.c: shared inputs: what virtual clients share and when they end it, how they give
 * pieces (now and then none, or a wrong one), and the store of each node, which sees to
 * it that only what is there is passed on or mapped. A piece has the size of a real one,
 * but all right ones are the same memory, and so are all wrong ones. */
#include "sim.h"

#include "common/base/shared.h"

#define PIECES_MOST 24
#define LATE_US 3000000

static const uint8_t right[SHARED_PIECE_BYTES], wrong[SHARED_PIECE_BYTES];

static struct payload *piece_of(uint64_t size, uint32_t piece, bool is_right)
{
    return payload_wrap(is_right ? right : wrong, shared_piece_bytes(size, piece), NULL,
                        NULL);
}

/* ------------------------------------------------------------- at the client */

static void unshare(struct sim *sim, uint64_t place, uint64_t which, uint64_t incarnation)
{
    struct app *app = &sim->apps[place];
    struct app_item item = {
        .event = {.kind = CLIENT_UNSHARE, .shared = app->shared[which].number},
        .job = -1};

    if (!app->actor.alive || app->actor.incarnation != incarnation)
        return;
    sim_queue_push(&app->inbox, &item, sizeof item);
    sim_app_wake(sim, app, sim->now_us + 1);
}

static void share(struct sim *sim, uint64_t place, uint64_t which, uint64_t incarnation)
{
    struct app *app = &sim->apps[place];
    struct shared *shared = &app->shared[which];
    struct app_item item = {.event = {.kind = CLIENT_SHARE}, .job = -1};
    struct message *message;

    if (!app->actor.alive || app->actor.incarnation != incarnation)
        return;
    for (int i = 0; i < app->shared_count; i++)
        if (app->shared[i].number > shared->number)
            shared->number = app->shared[i].number;
    shared->number++;
    message = message_create(MSG_SHARE);
    message->share.number = shared->number;
    message->share.content = shared->content;
    message->share.size = shared->size;
    item.event.message = message;
    item.event.shared = shared->number;
    sim_queue_push(&app->inbox, &item, sizeof item);
    sim_app_wake(sim, app, sim->now_us + 1);
    if (sim_chance(sim, 3))
        sim_at(sim, sim->now_us + sim_dice(sim, LATE_US), unshare, place, which,
               incarnation);
}

void sim_shared_plan(struct sim *sim, struct app *app)
{
    int place = sim_app_place(sim, app);

    if (!sim->plan.shares)
        return;
    app->shared_count = (int)sim_between(sim, 1, APP_SHARED_MAX);
    for (int i = 0; i < app->shared_count; i++) {
        struct shared *shared = &app->shared[i];

        *shared = (struct shared){0};
        for (size_t k = 0; k < sizeof shared->content.bytes; k++)
            shared->content.bytes[k] = (uint8_t)sim_dice(sim, 256);
        shared->size = sim_between(sim, 1, PIECES_MOST * (uint64_t)SHARED_PIECE_BYTES);
        /* Another pool's, or the same once more. */
        if (place + i > 0 && sim_chance(sim, 4) && sim->apps[0].shared[0].size) {
            shared->content = sim->apps[0].shared[0].content;
            shared->size = sim->apps[0].shared[0].size;
        }
        sim_at(sim, sim->now_us + sim_dice(sim, sim_chance(sim, 2) ? LATE_US : 1), share,
               (uint64_t)place, (uint64_t)i, app->actor.incarnation);
    }
}

static struct shared *find(struct app *app, uint64_t number)
{
    for (int i = 0; i < app->shared_count; i++)
        if (app->shared[i].number == number)
            return &app->shared[i];
    return NULL;
}

void sim_shared_stepped(struct sim *sim, struct app *app,
                        const struct client_event *event, int result)
{
    struct shared *shared = find(app, event->shared);

    if (event->kind == CLIENT_UNSHARE &&
        (result != 0) == (shared->told && !shared->ended))
        sim_fail(sim, "C%d: unsharing: %d", sim_app_place(sim, app), result);
    /* The failure of its pool may be among the effects of this batch. */
    if (event->kind == CLIENT_SHARE && result != 0 && result != FARPOOL_ECLOSED)
        sim_fail(sim, "C%d: sharing: %d", sim_app_place(sim, app), result);
    shared->told = shared->told || (event->kind == CLIENT_SHARE && result == 0);
    shared->ended = shared->ended || event->kind == CLIENT_UNSHARE || result != 0;
}

uint32_t sim_shared_usable(const struct app *app)
{
    uint32_t usable = 0;

    for (int i = 0; i < app->shared_count; i++)
        if (app->shared[i].told && !app->shared[i].ended)
            usable |= 1u << i;
    return usable;
}

bool sim_shared_answer_read(struct sim *sim, struct app *app,
                            const struct client_effect *effect)
{
    const struct shared *shared = NULL;
    struct message *message;

    for (int i = 0; i < app->shared_count; i++)
        if (hash_equal(&app->shared[i].content, &effect->content))
            shared = &app->shared[i];
    if (!shared)
        return false;
    message = message_create(MSG_BLOB);
    message->blob.pool = app->config.pool;
    message->blob.worker = effect->worker;
    message->blob.content = effect->content;
    message->blob.offset = effect->offset;
    if (!sim->settled && sim_chance(sim, 40))
        message->blob.code = FARPOOL_ESYSTEM;
    else
        message->blob.data =
            piece_of(shared->size, (uint32_t)(effect->offset / SHARED_PIECE_BYTES),
                     sim->settled || !sim_chance(sim, 40));
    sim_trace_message(sim, "C>K", message);
    sim_link_send(sim, app->link, TO_COORDINATOR, &message);
    return true;
}

/* ------------------------------------------------------------ at the workers */

static struct stored *find_stored(const struct node *node, const struct hash *content)
{
    for (size_t i = 0; i < node->contents.count; i++) {
        struct stored *stored = sim_queue_at(&node->contents, i);

        if (hash_equal(&stored->content, content))
            return stored;
    }
    return NULL;
}

static struct stored *must_find(struct sim *sim, const struct node *node,
                                const struct worker_effect *effect)
{
    struct stored *stored = find_stored(node, &effect->program);

    if (!stored)
        sim_fail(sim, "W%d: a shared input that is not open", sim_node_place(sim, node));
    return stored;
}

static uint64_t all_of(const struct stored *stored)
{
    return (UINT64_C(1) << shared_pieces(stored->size)) - 1;
}

static void open_content(struct sim *sim, struct node *node,
                         const struct worker_effect *effect)
{
    struct stored stored = {.content = effect->program, .size = effect->offset};
    struct worker_event event = {.kind = WORKER_SHARED_OPENED,
                                 .program = effect->program,
                                 .serial = effect->serial};

    if (find_stored(node, &effect->program))
        sim_fail(sim, "a shared input is opened twice");
    event.code = node->no_room ? FARPOOL_ENOSPACE : 0;
    event.whole = !node->no_room && sim_chance(sim, 10);
    stored.have = event.whole ? all_of(&stored) : 0;
    sim_queue_push(&node->contents, &stored, sizeof stored);
    sim_node_push(sim, node, &event, 0);
}

static void close_content(struct sim *sim, struct node *node,
                          const struct worker_effect *effect)
{
    must_find(sim, node, effect);
    for (size_t i = 0; i < node->contents.count; i++) {
        const struct stored *stored = sim_queue_at(&node->contents, i);

        if (!hash_equal(&stored->content, &effect->program))
            continue;
        sim_queue_remove(&node->contents, i);
        return;
    }
}

static void write_piece(struct sim *sim, struct node *node,
                        const struct worker_effect *effect)
{
    struct stored *stored = must_find(sim, node, effect);
    struct worker_event event = {.kind = WORKER_SHARED_WROTE,
                                 .program = effect->program,
                                 .serial = effect->serial,
                                 .offset = effect->offset};

    if (effect->data->size != shared_piece_bytes(stored->size, (uint32_t)effect->offset))
        sim_fail(sim, "a piece of another size than its own");
    if (effect->data->data == wrong)
        event.code = FARPOOL_EPROTOCOL;
    else
        stored->have |= UINT64_C(1) << effect->offset;
    sim_node_push(sim, node, &event, 0);
}

static void read_piece(struct sim *sim, struct node *node,
                       const struct worker_effect *effect)
{
    const struct stored *stored = must_find(sim, node, effect);
    uint32_t piece = (uint32_t)(effect->offset / SHARED_PIECE_BYTES);
    struct message *message = message_create(MSG_BLOB);

    if (!(stored->have >> piece & 1))
        sim_fail(sim, "W%d passes on a piece that it does not have",
                 sim_node_place(sim, node));
    message->blob.pool = effect->pool;
    message->blob.worker = effect->worker;
    message->blob.source = node->config.worker;
    message->blob.content = effect->program;
    message->blob.offset = effect->offset;
    message->blob.data =
        piece_of(stored->size, piece, sim->settled || !sim_chance(sim, 60));
    sim_node_send(sim, node, effect->lane, &message);
}

static void map(struct sim *sim, struct node *node, const struct worker_effect *effect)
{
    struct mapped mapped = {effect->pool, effect->shared, effect->serial};
    const struct stored *stored = must_find(sim, node, effect);

    if (effect->code == 0 && stored->have != all_of(stored))
        sim_fail(sim, "W%d maps a shared input that is not whole",
                 sim_node_place(sim, node));
    sim_queue_push(&node->mapped, &mapped, sizeof mapped);
}

static void unmap(struct sim *sim, struct node *node, const struct worker_effect *effect)
{
    for (size_t i = 0; i < node->mapped.count; i++) {
        const struct mapped *mapped = sim_queue_at(&node->mapped, i);

        if (mapped->serial != effect->serial)
            continue;
        sim_queue_remove(&node->mapped, i);
        return;
    }
    sim_fail(sim, "a shared input is unmapped that was not mapped");
}

bool sim_shared_apply(struct sim *sim, struct node *node,
                      const struct worker_effect *effect)
{
    switch (effect->kind) {
    case WORKER_SHARED_OPEN:
        open_content(sim, node, effect);
        return true;
    case WORKER_SHARED_WRITE:
        write_piece(sim, node, effect);
        return true;
    case WORKER_SHARED_READ:
        read_piece(sim, node, effect);
        return true;
    case WORKER_SHARED_CLOSE:
        close_content(sim, node, effect);
        return true;
    case WORKER_SHARED_MAP:
        map(sim, node, effect);
        return true;
    case WORKER_SHARED_UNMAP:
        unmap(sim, node, effect);
        return true;
    default:
        return false;
    }
}

void sim_shared_check_task(struct sim *sim, const struct node *node,
                           const struct job *job)
{
    const struct app *app = &sim->apps[job->app];

    for (int i = 0; i < app->shared_count; i++) {
        const struct shared *shared = &app->shared[i];
        bool found = shared->ended || !(job->shared >> i & 1);

        for (size_t k = 0; !found && k < node->mapped.count; k++) {
            const struct mapped *mapped = sim_queue_at(&node->mapped, k);

            found = mapped->number == shared->number &&
                    id_equal(&mapped->pool, &app->config.pool);
        }
        if (!found)
            sim_fail(sim, "W%d begins a task of C%d before input %llu is there",
                     sim_node_place(sim, node), job->app,
                     (unsigned long long)shared->number);
    }
}

void sim_shared_check_end(struct sim *sim, const struct node *node)
{
    if (node->contents.count || node->mapped.count)
        sim_fail(sim, "W%d keeps %zu shared inputs of pools that have ended, %zu mapped",
                 sim_node_place(sim, node), node->contents.count, node->mapped.count);
}

void sim_shared_fini(struct node *node)
{
    sim_queue_fini(&node->contents);
    sim_queue_fini(&node->mapped);
}
