/* SPDX-License-Identifier: Apache-2.0
 *
 * service_world.h: a coordinator and one worker as the service of detached jobs sees
 * them, in a few hundred lines: it greets, takes one pool with one job, keeps its tasks,
 * begins and ends them, keeps results until they are ACKed, and tells again what it has
 * when the coordinator is a new one. On the way it checks what the service has promised.
 */
#ifndef FARPOOL_TESTS_SERVICE_WORLD_H
#define FARPOOL_TESTS_SERVICE_WORLD_H

#include "common/base/error.h"
#include "common/base/mem.h"
#include "common/base/span.h"
#include "detached/service.h"
#include "store_memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define TASKS 40
#define RESULTS_MAX 4096
#define LOSSES_MAX 50
#define RETRIES 50

enum place {
    NOWHERE,
    MAYBE,   /* of a once-job: sent again, and may have begun */
    WAITING, /* at the coordinator */
    QUEUED,  /* at the worker */
    RUNNING,
};

struct world_task {
    enum place place;
    uint32_t attempt;
    uint32_t begun;  /* the last attempt that was begun, since the pool was killed last */
    uint32_t begins; /* ever */
};

struct world_result {
    uint64_t seq, index;
    uint32_t attempt;
    int code; /* 0: DONE */
    bool acked;
};

struct world {
    struct service *service;
    uint64_t now_ms, rng, links;
    bool once;
    bool narrow; /* windows are small: of what goes on not all fits, and may run again */
    bool oom;    /* allocations of the service fail now and then */
    size_t left; /* or: that one from now; 0: none */
    /* the coordinator's */
    uint64_t link; /* of the client inside; 0: none */
    bool resumed;
    /* both know */
    struct id pool;
    uint64_t job;
    struct world_task tasks[TASKS];
    /* the worker's */
    struct world_result results[RESULTS_MAX];
    size_t results_count;
    /* who submits and collects */
    uint32_t request, submit_stage;
    bool answered, closed;
    bool waits;    /* who asked has neither an answer nor lost the link */
    unsigned late; /* turns that this has been so for */
    struct message *answer;
};

static inline uint64_t world_dice(struct world *world, uint64_t bound)
{
    return rng_next(&world->rng) % bound;
}

/* Lets an allocation of the next call of the service fail, and ends that. */
static inline void world_arm(struct world *world)
{
    size_t at = world->left;
    if (world->oom && world_dice(world, 8) == 0)
        at = 1 + (size_t)world_dice(world, 40);
    mem_fail_after(at);
}

static inline void world_disarm(struct world *world)
{
    const size_t made = mem_fail_after(0);
    world->left = made < world->left ? world->left - made : 0;
}

static inline void world_tell(struct world *world, struct message *message)
{
    struct service_in in = {
        .kind = SERVICE_INNER, .link = world->link, .message = message};
    world_arm(world);
    service_take(world->service, &in, world->now_ms);
    world_disarm(world);
    message_free(&in.message);
}

static inline struct message *world_about(struct world *world, enum message_kind kind)
{
    struct message *message = message_create(kind);
    switch (kind) {
    case MSG_POOL_STATE:
        message->pool_state.pool = world->pool;
        message->pool_state.nodes = 1;
        message->pool_state.slots = 4;
        break;
    case MSG_POOL_CLOSED:
        message->pool_closed.pool = world->pool;
        break;
    case MSG_FETCH:
        message->fetch.pool = world->pool;
        message->fetch.worker.bytes[0] = 1;
        message->fetch.bytes = 8;
        break;
    case MSG_DONE:
        message->done.pool = world->pool;
        message->done.job = world->job;
        message->done.worker.bytes[0] = 1;
        message->done.results = mem_alloc(sizeof *message->done.results);
        message->done.results_count = 1;
        break;
    case MSG_FAILED:
        message->failed.pool = world->pool;
        message->failed.job = world->job;
        message->failed.worker.bytes[0] = 1;
        message->failed.results = mem_alloc(sizeof *message->failed.results);
        message->failed.results_count = 1;
        break;
    default:
        message->lost.pool = world->pool;
        message->lost.job = world->job;
        message->lost.ranges = mem_alloc(sizeof *message->lost.ranges);
        message->lost.ranges_count = 1;
    }
    return message;
}

static inline void world_lose(struct world *world, uint64_t index, int code)
{
    struct world_task *task = &world->tasks[index];
    struct message *lost = world_about(world, MSG_LOST);
    lost->lost.code = code;
    snprintf(lost->lost.text, sizeof lost->lost.text, "it may have run");
    lost->lost.ranges[0] = (struct msg_range){index, 1, task->attempt};
    task->place = NOWHERE;
    world_tell(world, lost);
}

static inline void world_tell_result(struct world *world,
                                     const struct world_result *result)
{
    const uint64_t value = result->index + 1;
    struct message *message =
        world_about(world, result->code == 0 ? MSG_DONE : MSG_FAILED);
    if (result->code == 0) {
        message->done.results[0] =
            (struct msg_done){.seq = result->seq,
                              .first = result->index,
                              .count = 1,
                              .attempt = result->attempt,
                              .elapsed_ns = 1000,
                              .data = payload_copy(&value, sizeof value)};
    } else {
        message->failed.results[0] = (struct msg_failed){.seq = result->seq,
                                                         .index = result->index,
                                                         .attempt = result->attempt,
                                                         .code = result->code};
    }
    world_tell(world, message);
}

/* The client inside is gone: its pool's processes are killed, and all is forgotten. */
static inline void world_kill_pool(struct world *world)
{
    for (size_t i = 0; i < TASKS; i++) {
        world->tasks[i].place = NOWHERE;
        world->tasks[i].begun = 0;
    }
    world->results_count = 0;
    world->link = 0;
}

/* --------------------------------------------------------- what the client inside says
 */

static inline void world_take_task(struct world *world, uint64_t index, uint32_t attempt)
{
    struct world_task *task = &world->tasks[index];
    bool kept = false;
    assert_false(memory_store_has_result(NULL, index));
    assert_true(index < memory_store_job(NULL)->given);
    assert_int_equal(attempt, memory_store_attempt(NULL, index));
    for (size_t i = 0; i < world->results_count; i++)
        kept |= world->results[i].index == index && world->results[i].attempt == attempt;
    if (task->place >= QUEUED && task->attempt == attempt)
        return; /* it is held */
    assert_true(task->place == NOWHERE || attempt > task->attempt);
    task->attempt = attempt;
    if (kept) /* and is sent again */
        task->place = NOWHERE;
    else
        task->place = world->once && !world->resumed ? MAYBE : WAITING;
}

static inline void world_take_ack(struct world *world, const struct message *ack)
{
    for (uint32_t i = 0; i < ack->ack.results_count; i++)
        for (size_t j = 0; j < world->results_count; j++) {
            struct world_result *result = &world->results[j];
            if (result->seq - ack->ack.results[i].first >= ack->ack.results[i].count)
                continue;
            result->acked = true; /* only behind its commit */
            assert_true(memory_store_has_result(NULL, result->index) ||
                        memory_store_attempt(NULL, result->index) > result->attempt ||
                        memory_store_job(NULL)->state > STORE_OPEN ||
                        (world->narrow && !world->once));
        }
    size_t kept = 0;
    for (size_t j = 0; j < world->results_count; j++)
        if (!world->results[j].acked)
            world->results[kept++] = world->results[j];
    world->results_count = kept;
}

static inline void world_take_resumed(struct world *world)
{
    world->resumed = true;
    for (size_t i = 0; i < world->results_count; i++)
        world_tell_result(world, &world->results[i]);
    for (uint64_t i = 0; i < TASKS; i++)
        if (world->tasks[i].place == MAYBE)
            world_lose(world, i, FARPOOL_ENODELOST);
}

static inline void world_greet(struct world *world)
{
    struct message *welcome = message_create(MSG_WELCOME);
    welcome->welcome.protocol = PROTOCOL_VERSION;
    welcome->welcome.tasks_max = world->narrow ? 1 + world_dice(world, 30) : 1000;
    welcome->welcome.bytes_max = world->narrow ? 1 + world_dice(world, 300) : 1000;
    world->resumed = memory_store_job(NULL)->given == 0;
    world_tell(world, welcome);
}

static inline void world_open_pool(struct world *world, const struct message *open)
{
    const struct id none = {{0}};
    assert_true(id_equal(&world->pool, &none) ||
                id_equal(&world->pool, &open->pool_open.pool));
    world->pool = open->pool_open.pool;
    world_tell(world, world_about(world, MSG_POOL_STATE));
    world_tell(world, world_about(world, MSG_FETCH));
}

static inline void world_hear(struct world *world, const struct message *message)
{
    switch (message->kind) {
    case MSG_HELLO_CLIENT:
        world_greet(world);
        break;
    case MSG_POOL_OPEN:
        world_open_pool(world, message);
        break;
    case MSG_JOB_OPEN:
        assert_true(world->job == 0 || world->job == message->job_open.job);
        assert_int_equal(message->job_open.once, world->once);
        world->job = message->job_open.job;
        break;
    case MSG_TASKS:
        for (uint32_t i = 0; i < message->tasks.spans_count; i++)
            for (uint32_t j = 0; j < message->tasks.spans[i].count; j++)
                world_take_task(world, message->tasks.spans[i].first + j,
                                message->tasks.spans[i].attempt);
        break;
    case MSG_RESUMED:
        world_take_resumed(world);
        break;
    case MSG_BLOB: /* or nothing: without memory it is asked again */
        assert_int_equal(message->blob.code, 0);
        break;
    case MSG_ACK:
        world_take_ack(world, message);
        break;
    case MSG_POOL_CLOSE:
        world_tell(world, world_about(world, MSG_POOL_CLOSED));
        break;
    default:
        break;
    }
}

static inline void world_carry_out(struct world *world, struct service_out *out)
{
    if (out->kind == SERVICE_SAY) {
        if (out->link > world->links) {
            world->links = out->link;
            world->link = out->link;
        }
        if (out->link == world->link)
            world_hear(world, out->message);
    } else if (out->kind == SERVICE_HANG_UP && out->link == world->link) {
        world_kill_pool(world);
    } else if (out->kind == SERVICE_ANSWER) {
        assert_non_null(out->message);
        message_free(&world->answer);
        world->answer = out->message;
        out->message = NULL;
        world->answered = true;
        world->waits = false;
    } else if (out->kind == SERVICE_DROP) {
        world->waits = false;
    }
}

/* A turn of the service, and what it has others do. */
static inline void world_turn(struct world *world)
{
    size_t count;
    world_arm(world);
    service_turn(world->service, world->now_ms);
    world_disarm(world);
    struct service_out *outs = service_outs(world->service, &count);
    struct service_out mine[256];
    assert_true(count <= 256);
    if (count > 0) /* what is told now adds more */
        memcpy(mine, outs, count * sizeof *outs);
    for (size_t i = 0; i < count; i++)
        outs[i].message = NULL;
    service_clear(world->service);
    for (size_t i = 0; i < count; i++) {
        world_carry_out(world, &mine[i]);
        message_free(&mine[i].message);
    }
    world->late = world->waits ? world->late + 1 : 0;
    assert_true(world->late < 20); /* turns that all lack memory are not so many */
}

#endif
