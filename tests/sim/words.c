/* SPDX-License-Identifier: Apache-2.0
 *
 * words.c: what the owner of a detached job says next, by how far it has come. */
#include "detached.h"

#include <stdio.h>

#define PIECE_BYTES 900

static struct message *make_piece(const struct detached *detached, struct sim *sim)
{
    const struct message *fetch = detached->fetch;
    struct message *message = message_create(MSG_BLOB);
    const uint64_t most =
        fetch->fetch.bytes < PIECE_BYTES ? fetch->fetch.bytes : PIECE_BYTES;

    message->blob.pool = *detached_id(detached);
    message->blob.content = fetch->fetch.content;
    message->blob.offset = fetch->fetch.offset;
    message->blob.data =
        sim_program_piece(&fetch->fetch.content, fetch->fetch.offset,
                          sim_chance(sim, 2) ? most : sim_between(sim, 1, most));
    return message;
}

static struct message *make_tasks(struct sim *sim, const struct detached *detached)
{
    const struct job *job = &detached->app->jobs[0];
    struct message *message = message_create(MSG_SUBMIT_TASKS);
    uint64_t first = detached->kept;

    if (first > 0 && sim_chance(sim, 4))
        first -= 1; /* a former word once more: what is there is passed over */
    message->submit_tasks.submit = *detached_id(detached);
    message->submit_tasks.spans = mem_alloc(2 * sizeof *message->submit_tasks.spans);
    while (message->submit_tasks.spans_count < 2 && first < job->count) {
        struct msg_span *span =
            &message->submit_tasks.spans[message->submit_tasks.spans_count++];
        const uint64_t left = job->count - first;

        sim_job_make_input(
            job, first, (uint32_t)(sim_chance(sim, 2) ? left : sim_between(sim, 1, left)),
            span);
        span->attempt = 1;
        first += span->count;
    }
    return message;
}

static struct message *make_submission(struct sim *sim, struct detached *detached)
{
    const struct job *job = &detached->app->jobs[0];
    struct message *message;

    if (detached->word == MSG_SUBMIT)
        return message_copy(detached->submit);
    if (detached->word == MSG_BLOB)
        return make_piece(detached, sim);
    if (detached->kept < job->count)
        return make_tasks(sim, detached);
    message = message_create(MSG_SUBMIT_END);
    message->submit_end.submit = *detached_id(detached);
    message->submit_end.tasks = job->count;
    return message;
}

static struct message *make_end(const struct detached *detached, bool forget)
{
    struct message *message = message_create(MSG_DETACHED_END);

    snprintf(message->detached_end.name, sizeof message->detached_end.name, "%s",
             detached->submit->submit.name);
    message->detached_end.forget = forget;
    return message;
}

static struct message *make_get(const struct detached *detached)
{
    struct message *message = message_create(MSG_DETACHED_GET);

    snprintf(message->detached_get.name, sizeof message->detached_get.name, "%s",
             detached->submit->submit.name);
    return message;
}

static struct message *make_collect(struct sim *sim, const struct detached *detached)
{
    struct message *message = message_create(MSG_COLLECT);

    snprintf(message->collect.name, sizeof message->collect.name, "%s",
             detached->submit->submit.name);
    message->collect.first = detached->collected;
    message->collect.bytes = (uint32_t)sim_dice(sim, sim_chance(sim, 2) ? 100 : 10000);
    return message;
}

struct message *sim_owner_word(struct sim *sim, struct detached *detached)
{
    if (detached->cancels && !detached->cancelled)
        return make_end(detached, false);
    switch (detached->stage) {
    case OWNER_SUBMITS:
        return make_submission(sim, detached);
    case OWNER_WATCHES:
        return make_get(detached);
    case OWNER_COLLECTS:
        return make_collect(sim, detached);
    default:
        return make_end(detached, true);
    }
}

void sim_owner_number(struct message *message, uint32_t request)
{
    switch (message->kind) {
    case MSG_SUBMIT:
        message->submit.request = request;
        break;
    case MSG_SUBMIT_TASKS:
        message->submit_tasks.request = request;
        break;
    case MSG_SUBMIT_END:
        message->submit_end.request = request;
        break;
    case MSG_DETACHED_GET:
        message->detached_get.request = request;
        break;
    case MSG_DETACHED_END:
        message->detached_end.request = request;
        break;
    case MSG_COLLECT:
        message->collect.request = request;
        break;
    default: /* a BLOB has none */
        break;
    }
}
