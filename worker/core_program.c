/* SPDX-License-Identifier: Apache-2.0
 *
 * core_program.c: the programs that pools here run. The shell has the cache: it says
 * which piece of which file it needs, the core asks the client of any pool that runs the
 * program (FETCH), and hands what comes (BLOB) to the shell. One piece is under way at a
 * time; it is asked for again when it does not come, so a repeated answer is possible
 * and is dropped. A program that fails takes its pools with it. */
#include "worker/core_internal.h"

#include <string.h>

static int worker_program_compare(const struct program *a, const struct program *b)
{
    return memcmp(a->hash.bytes, b->hash.bytes, sizeof a->hash.bytes);
}

RB_GENERATE(worker_programs, program, by_hash, worker_program_compare)

static struct program *find_program(struct worker_core *core, const struct hash *hash)
{
    struct program key;
    key.hash = *hash;
    return RB_FIND(worker_programs, &core->programs, &key);
}

static void join(struct program *program, struct pool *pool)
{
    TAILQ_INSERT_TAIL(&program->pools, pool, in_program);
    pool->program = program;
}

/* The pool's program, opened if it is not: takes the list of files out of the message. */
int worker_program_attach(struct worker_core *core, struct pool *pool,
                          struct message *message)
{
    struct program *program = find_program(core, &message->pool_open.program);
    if (program != NULL) {
        join(program, pool);
        return 0;
    }
    const uint32_t count = message->pool_open.files_count;
    /* The program may be gone before its opening is carried out. */
    struct msg_file *files = mem_alloc(count * sizeof *files);
    if (files == NULL || worker_reserve(core, 1) != 0 ||
        (program = mem_alloc(sizeof *program)) == NULL) {
        mem_free(files);
        return FARPOOL_ENOMEM;
    }
    if (count > 0)
        memcpy(files, message->pool_open.files, count * sizeof *files);
    program->hash = message->pool_open.program;
    program->state = PROGRAM_OPENED;
    program->files = message->pool_open.files;
    program->files_count = count;
    message->pool_open.files = NULL;
    message->pool_open.files_count = 0;
    TAILQ_INIT(&program->pools);
    RB_INSERT(worker_programs, &core->programs, program);
    join(program, pool);
    struct worker_effect *effect = worker_add(core, WORKER_PROGRAM_OPEN);
    effect->program = program->hash;
    effect->files = files;
    effect->files_count = count;
    memcpy(effect->machine, message->pool_open.machine, sizeof effect->machine);
    return 0;
}

/* With the last pool the program is closed; its effect must be reserved (none is made
 * when the whole core is destroyed). */
void worker_program_detach(struct worker_core *core, struct pool *pool)
{
    struct program *program = pool->program;
    if (program == NULL)
        return;
    TAILQ_REMOVE(&program->pools, pool, in_program);
    pool->program = NULL;
    program->asked = false; /* perhaps through this pool's client */
    if (!TAILQ_EMPTY(&program->pools))
        return;
    if (core->effects != NULL)
        worker_add(core, WORKER_PROGRAM_CLOSE)->program = program->hash;
    RB_REMOVE(worker_programs, &core->programs, program);
    mem_free(program->files);
    mem_free(program);
}

static int fail_program(struct worker_core *core, struct program *program,
                        const struct worker_event *event)
{
    if (worker_reserve(core, 1) != 0)
        return FARPOOL_ENOMEM;
    const char *text = event->text ? event->text : farpool_error_text(event->code);
    struct pool *pool;
    bool last;
    do {
        pool = TAILQ_FIRST(&program->pools);
        last = TAILQ_NEXT(pool, in_program) == NULL;
        worker_pool_fail(core, pool, event->code, false, text);
        worker_program_detach(core, pool);
    } while (!last);
    return 0;
}

/* What the shell says of its cache; nothing, when the program was closed meanwhile. */
int worker_program_event(struct worker_core *core, const struct worker_event *event)
{
    struct program *program = find_program(core, &event->program);
    if (program == NULL || core->state >= CORE_STOPPING)
        return 0;
    if (program->state == PROGRAM_READY)
        return 0; /* the answer to an earlier opening of it */
    switch (event->kind) {
    case WORKER_PROGRAM_READY:
        program->state = PROGRAM_READY;
        return 0;
    case WORKER_PROGRAM_NEEDS:
        if (event->file >= program->files_count)
            return 0; /* likewise: another list of files under the same hash */
        program->state = PROGRAM_FETCHING;
        program->want_file = event->file;
        program->want_offset = event->offset;
        program->asked = false;
        return 0;
    default:
        return fail_program(core, program, event);
    }
}

int worker_program_blob(struct worker_core *core, struct message *message)
{
    const struct pool *pool = worker_pool_find(core, &message->blob.pool);
    struct program *program = pool ? pool->program : NULL;
    if (program == NULL || program->state != PROGRAM_FETCHING || !program->asked)
        return 0;
    const struct msg_file *file = &program->files[program->want_file];
    if (!hash_equal(&file->content, &message->blob.content) ||
        program->want_offset != message->blob.offset)
        return 0; /* the second answer to a repeated question */
    if (worker_reserve(core, 1) != 0)
        return FARPOOL_ENOMEM;
    struct worker_effect *effect = worker_add(core, WORKER_PROGRAM_WRITE);
    effect->program = program->hash;
    effect->file = program->want_file;
    effect->offset = program->want_offset;
    effect->code = message->blob.code;
    effect->data = message->blob.data;
    message->blob.data = NULL;
    program->state = PROGRAM_OPENED; /* until the shell says what is next */
    program->asked = false;
    return 0;
}

/* The one whose client is asked: alive, and able to answer. */
static struct pool *asking_pool(const struct program *program)
{
    struct pool *pool;
    TAILQ_FOREACH (pool, &program->pools, in_program)
        if (pool->state == POOL_OPEN || pool->state == POOL_CLOSING)
            return pool;
    return NULL;
}

static uint64_t ask_ms(const struct program *program)
{
    return program->asked ? worker_after(program->asked_ms, FETCH_AGAIN_MS) : 0;
}

static int fetch(struct worker_core *core, struct program *program)
{
    const struct pool *pool = asking_pool(program);
    if (pool == NULL)
        return 0;
    struct message *message = worker_message(core, MSG_FETCH);
    if (message == NULL)
        return FARPOOL_ENOMEM;
    const struct msg_file *file = &program->files[program->want_file];
    const uint64_t left =
        file->size > program->want_offset ? file->size - program->want_offset : 1;
    message->fetch.pool = pool->id;
    message->fetch.worker = core->config.worker;
    message->fetch.content = file->content;
    message->fetch.offset = program->want_offset;
    message->fetch.bytes = left < FETCH_BYTES ? (uint32_t)left : FETCH_BYTES;
    worker_send(core, message);
    program->asked = true;
    program->asked_ms = core->now_ms;
    return 0;
}

int worker_flush_programs(struct worker_core *core)
{
    struct program *program;
    if (core->link != LINK_UP)
        return 0;
    RB_FOREACH (program, worker_programs, &core->programs)
        if (program->state == PROGRAM_FETCHING && core->now_ms >= ask_ms(program) &&
            fetch(core, program) != 0)
            return FARPOOL_ENOMEM;
    return 0;
}

void worker_programs_relinked(struct worker_core *core)
{
    struct program *program;
    RB_FOREACH (program, worker_programs, &core->programs)
        program->asked = false;
}

uint64_t worker_programs_deadline(const struct worker_core *core)
{
    uint64_t deadline = UINT64_MAX;
    struct program *program;
    if (core->link != LINK_UP)
        return deadline;
    /* RB_FOREACH wants its head without const. */
    RB_FOREACH (program, worker_programs,
                (struct worker_programs *)(uintptr_t)&core->programs)
        if (program->state == PROGRAM_FETCHING && asking_pool(program) != NULL &&
            ask_ms(program) < deadline)
            deadline = ask_ms(program);
    return deadline;
}
