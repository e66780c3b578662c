/* SPDX-License-Identifier: Apache-2.0
 *
 * pool_effects.c: between a pool and its client core: events in, effects carried out, and
 * the table of jobs by which an effect finds its owner. An effect for a job that was
 * freed in the meantime finds nobody, and is dropped. Messages only go into the
 * transport's queue here: any thread may step the core. */
#include "client/calls.h"
#include "common/base/error.h"
#include "common/sys/sys.h"

#include <unistd.h>

static void send_message(farpool_pool *pool, uint64_t lane, struct message **message)
{
    if (pool->transport->kind->send(pool->transport, lane, message) == 0)
        return;
    message_free(message);
    pool->lost = true;
}

/* A piece of a shared input, as an answer to FETCH. NULL: out of memory. */
static struct message *read_shared(const struct shared_input *input,
                                   const struct client_effect *effect)
{
    struct message *blob = message_create(MSG_BLOB);

    if (blob == NULL)
        return NULL;
    blob->blob.content = effect->content;
    blob->blob.offset = effect->offset;
    blob->blob.data =
        program_read_piece(input->fd, effect->offset, effect->count, &blob->blob.code);
    return blob;
}

static void read_file(farpool_pool *pool, const struct client_effect *effect)
{
    const struct shared_input *input = shared_find(&pool->shared, &effect->content);
    struct message *blob = input != NULL ? read_shared(input, effect)
                                         : program_read(&pool->program, &effect->content,
                                                        effect->offset, effect->count);

    /* Without memory the node asks again. */
    if (blob == NULL)
        return;
    blob->blob.pool = pool->open->pool_open.pool;
    blob->blob.worker = effect->worker;
    send_message(pool, 0, &blob);
}

static void take_failure(farpool_pool *pool, const struct client_effect *effect)
{
    pool->failure = effect->code;
    memcpy(pool->failure_text, effect->text, sizeof pool->failure_text);
    memcpy(pool->failure_node, effect->node, sizeof pool->failure_node);
    pool->news = true;
}

static void take_warning(farpool_pool *pool, const struct client_effect *effect)
{
    pool->warning = effect->code;
    memcpy(pool->warning_text, effect->text, sizeof pool->warning_text);
    memcpy(pool->warning_node, effect->node, sizeof pool->warning_node);
}

static void take_job_effect(farpool_pool *pool, struct client_effect *effect)
{
    struct pool_job *job;

    HASH_FIND(hh, pool->jobs, &effect->job, sizeof effect->job, job);
    if (job == NULL)
        return;
    switch (effect->kind) {
    case CLIENT_DONE:
        pool->tasks_done += effect->count;
        job->kind->done(job, effect);
        break;
    case CLIENT_FAILED:
        pool->tasks_done += effect->count > 0 ? effect->count : 1;
        pool->tasks_failed += effect->count > 0 ? effect->count : 1;
        job->kind->failed(job, effect);
        break;
    case CLIENT_INPUT_WANTED:
        job->kind->wanted(job, effect->count, effect->bytes);
        break;
    default:
        HASH_DEL(pool->jobs, job);
        job->number = 0;
        job->end_code = effect->code;
        job->kind->ended(job);
        break;
    }
}

static void carry_out(farpool_pool *pool, struct client_effect *effect)
{
    switch (effect->kind) {
    case CLIENT_SEND:
        send_message(pool, effect->lane, &effect->message);
        break;
    case CLIENT_DIAL:
        pool->transport->kind->dial(pool->transport, effect);
        break;
    case CLIENT_HANG_UP:
        pool->transport->kind->hang_up(pool->transport, effect->lane);
        break;
    case CLIENT_RELINK:
        pool->transport->kind->relink(pool->transport, effect->text);
        break;
    case CLIENT_READY:
        if (pool->state == POOL_OPENING)
            pool->state = POOL_RUNNING;
        pool->news = true;
        break;
    case CLIENT_POOL_FAILED:
        take_failure(pool, effect);
        break;
    case CLIENT_WARNING:
        take_warning(pool, effect);
        break;
    case CLIENT_AGAIN: /* no job of the API asks for it */
        break;
    case CLIENT_OUTPUT:
        output_queue(pool, &effect->message);
        break;
    case CLIENT_READ_FILE:
        read_file(pool, effect);
        break;
    case CLIENT_POOL_ENDED:
        pool->ended = true;
        pool->news = true;
        break;
    default:
        take_job_effect(pool, effect);
    }
}

static bool is_of_job(enum client_event_kind kind)
{
    return kind >= CLIENT_JOB_OPEN && kind <= CLIENT_JOB_FREE;
}

int pool_step(farpool_pool *pool, struct client_event *event)
{
    int code;

    /* Of jobs the core need not know when: the time of the last turn will do. */
    if (event->now_ms == 0)
        event->now_ms = is_of_job(event->kind) ? pool->now_ms : sys_now_ms();
    if (event->kind == CLIENT_FLUSH)
        calls_submit(pool);
    pool->stepped |= event->kind != CLIENT_FLUSH;
    code = client_core_step(pool->core, event, &pool->effects);
    for (size_t i = 0; i < pool->effects.count; i++)
        carry_out(pool, &pool->effects.items[i]);
    client_effects_clear(&pool->effects);
    return code;
}

int pool_must_step(farpool_pool *pool, struct client_event *event)
{
    int code;

    /* Without memory the core is as it was. */
    while ((code = pool_step(pool, event)) == FARPOOL_ENOMEM)
        usleep(1000);
    return code;
}

/* ----------------------------------------------------------------------- jobs */

int pool_open_job(farpool_pool *pool, struct pool_job *job,
                  const struct client_job_options *options, farpool_error *error)
{
    struct client_event event = {.kind = CLIENT_JOB_OPEN, .options = options};
    int code;

    calls_close(pool);
    code = pool_step(pool, &event);
    if (code == 0) {
        job->number = event.job;
        HASH_ADD(hh, pool->jobs, number, sizeof job->number, job);
        if (job->hh.tbl != NULL)
            return 0;
        code = FARPOOL_ENOMEM;
        event = (struct client_event){.kind = CLIENT_JOB_FREE, .job = job->number};
        job->number = 0;
        pool_must_step(pool, &event);
    }
    if (code == FARPOOL_ECLOSED && pool->failure != 0)
        return pool_tell_failure(pool, job->of.call, error);
    return error_set(error, code, "%s: %s", job->of.call, farpool_error_text(code));
}

void pool_close_job(struct pool_job *job, bool kill)
{
    farpool_pool *pool = job->pool;
    struct client_event event = {
        .kind = CLIENT_JOB_FREE, .job = job->number, .kill = kill};

    if (job->number == 0)
        return;
    HASH_DEL(pool->jobs, job);
    job->number = 0;
    pool_must_step(pool, &event);
}

void pool_queue_callback(struct pool_job *job)
{
    TAILQ_INSERT_TAIL(&job->pool->callbacks, job, entry);
}
