/* SPDX-License-Identifier: Apache-2.0
 *
 * program.c: the files of virtual programs, how a client reads them (in short pieces),
 * and the cache of each node, which checks that every byte arrives at its place. */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

#define PIECE_BYTES 700

static uint8_t file_byte(const struct hash *content, uint64_t offset)
{
    return (uint8_t)(content->bytes[offset % sizeof content->bytes] + offset / 32);
}

static struct hash make_hash(struct sim *sim)
{
    struct hash hash;

    for (size_t i = 0; i < sizeof hash.bytes; i++)
        hash.bytes[i] = (uint8_t)rng_next(&sim->rng);
    return hash;
}

/* Gives the app's POOL_OPEN a program of its own, or that of an earlier app. */
void sim_program_fill(struct sim *sim, struct app *app)
{
    const struct app *other = &sim->apps[0];
    struct message *open = app->open;

    open->pool_open.program = make_hash(sim);
    for (int i = 0; i < PROGRAM_FILES; i++) {
        app->files[i] = make_hash(sim);
        app->file_sizes[i] = (uint32_t)sim_dice(sim, 3) * (uint32_t)sim_dice(sim, 1500);
    }
    if (other != app && other->open && sim_chance(sim, 2)) {
        open->pool_open.program = other->open->pool_open.program;
        memcpy(app->files, other->files, sizeof app->files);
        memcpy(app->file_sizes, other->file_sizes, sizeof app->file_sizes);
    }
    open->pool_open.files = mem_alloc(PROGRAM_FILES * sizeof *open->pool_open.files);
    open->pool_open.files_count = PROGRAM_FILES;
    for (int i = 0; i < PROGRAM_FILES; i++) {
        struct msg_file *file = &open->pool_open.files[i];

        file->name[0] = (char)('a' + i);
        file->content = app->files[i];
        file->size = app->file_sizes[i];
        file->executable = i == 0;
    }
}

/* --------------------------------------------------------- in a node's cache */

static struct cached *cached_find(struct node *node, const struct hash *program)
{
    for (size_t i = 0; i < node->programs.count; i++) {
        struct cached *cached = sim_queue_at(&node->programs, i);

        if (hash_equal(&cached->program, program))
            return cached;
    }
    return NULL;
}

static void answer(struct sim *sim, struct node *node, struct cached *cached)
{
    struct worker_event event = {.kind = WORKER_PROGRAM_READY,
                                 .program = cached->program};

    while (cached->file < PROGRAM_FILES &&
           cached->offset == cached->sizes[cached->file]) {
        cached->file++;
        cached->offset = 0;
    }
    if (node->program_fails) {
        event.kind = WORKER_PROGRAM_FAILED;
        event.code = FARPOOL_ENOSPACE;
        event.text = "no space for the program";
    } else if (cached->file < PROGRAM_FILES) {
        event.kind = WORKER_PROGRAM_NEEDS;
        event.file = cached->file;
        event.offset = cached->offset;
    }
    sim_node_push(sim, node, &event, 0);
}

static void open_program(struct sim *sim, struct node *node,
                         const struct worker_effect *effect)
{
    struct cached *cached = cached_find(node, &effect->program);

    if (!cached) {
        struct cached fresh = {.program = effect->program};

        if (effect->files_count != PROGRAM_FILES)
            sim_fail(sim, "a program with %u files", effect->files_count);
        for (int i = 0; i < PROGRAM_FILES; i++) {
            fresh.files[i] = effect->files[i].content;
            fresh.sizes[i] = (uint32_t)effect->files[i].size;
        }
        sim_queue_push(&node->programs, &fresh, sizeof fresh);
        cached = cached_find(node, &effect->program);
    }
    if (cached->open)
        sim_fail(sim, "a program is opened twice");
    cached->open = true;
    answer(sim, node, cached);
}

static void write_program(struct sim *sim, struct node *node,
                          struct worker_effect *effect)
{
    struct cached *cached = cached_find(node, &effect->program);
    const struct payload *data = effect->data;

    if (!cached || !cached->open)
        sim_fail(sim, "a piece for a program that is not open");
    if (effect->file != cached->file || effect->offset != cached->offset)
        sim_fail(sim, "a piece for another place than was asked for");
    for (size_t i = 0; data && i < data->size; i++)
        if (data->data[i] != file_byte(&cached->files[cached->file], cached->offset + i))
            sim_fail(sim, "a program's file has a wrong byte");
    if (effect->code != 0) {
        struct worker_event event = {.kind = WORKER_PROGRAM_FAILED,
                                     .program = cached->program,
                                     .code = effect->code,
                                     .text = "the client cannot read it"};
        sim_node_push(sim, node, &event, 0);
        return;
    }
    cached->offset += data ? (uint32_t)data->size : 0;
    answer(sim, node, cached);
}

void sim_program_apply(struct sim *sim, struct node *node, struct worker_effect *effect)
{
    if (effect->kind == WORKER_PROGRAM_OPEN) {
        open_program(sim, node, effect);
    } else if (effect->kind == WORKER_PROGRAM_WRITE) {
        write_program(sim, node, effect);
    } else {
        struct cached *cached = cached_find(node, &effect->program);

        if (!cached || !cached->open)
            sim_fail(sim, "a program is closed that is not open");
        cached->open = false;
    }
}

/* ------------------------------------------------------------- at the client */

struct payload *sim_program_piece(const struct hash *content, uint64_t offset,
                                  uint64_t count)
{
    struct payload *piece = payload_create(count);

    for (uint64_t i = 0; i < count; i++)
        payload_bytes(piece)[i] = file_byte(content, offset + i);
    return piece;
}

void sim_program_answer_read(struct sim *sim, struct app *app,
                             const struct client_effect *effect)
{
    struct message *message = message_create(MSG_BLOB);
    uint64_t count = effect->count < PIECE_BYTES ? effect->count : PIECE_BYTES;
    int file = 0;

    while (file < PROGRAM_FILES && !hash_equal(&app->files[file], &effect->content))
        file++;
    message->blob.pool = app->config.pool;
    message->blob.worker = effect->worker;
    message->blob.content = effect->content;
    message->blob.offset = effect->offset;
    if (file == PROGRAM_FILES || effect->offset > app->file_sizes[file])
        sim_fail(sim, "a file is asked for that the program does not have");
    if (count > app->file_sizes[file] - effect->offset)
        count = app->file_sizes[file] - effect->offset;
    message->blob.data = sim_program_piece(&effect->content, effect->offset, count);
    sim_trace_message(sim, "C>K", message);
    sim_link_send(sim, app->link, TO_COORDINATOR, &message);
}
