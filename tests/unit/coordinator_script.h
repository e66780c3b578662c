/* SPDX-License-Identifier: Apache-2.0
 *
 * coordinator_script.h: drives a coordinator core by hand, for test_coordinator_*.c. Each
 * step is followed by coordinator_core_check. Effects are taken link by link, in order;
 * POOL_STATE, JOB_STATE and HEARTBEAT are passed over unless they are asked for. */
#ifndef FARPOOL_TESTS_COORDINATOR_SCRIPT_H
#define FARPOOL_TESTS_COORDINATOR_SCRIPT_H

#include "common/base/mem.h"
#include "common/base/span.h"
#include "coordinator/core.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

struct script {
    struct coordinator_core *core;
    struct coordinator_effects effects;
    struct coordinator_config config;
    uint64_t now_ms;
    uint64_t links;
    uint64_t seq;                        /* next result number */
    uint64_t worker_tasks, worker_bytes; /* windows of the next worker */
    struct id previous;                  /* what the next worker says it served */
};

static inline struct id make_id(uint8_t number)
{
    return (struct id){.bytes = {number, 0xfa}};
}

static inline void script_begin(struct script *script)
{
    if (!script->config.workers_max)
        coordinator_config_init(&script->config);
    script->config.coordinator = make_id(200);
    script->now_ms = 1000;
    script->worker_tasks = 1 << 20;
    script->worker_bytes = 1 << 28;
    assert_int_equal(
        coordinator_core_create(&script->config, script->now_ms, &script->core), 0);
}

static inline void script_end(struct script *script)
{
    coordinator_core_destroy(script->core);
    coordinator_effects_fini(&script->effects);
}

/* ------------------------------------------------------------------- steps */

static inline int script_step(struct script *script, struct coordinator_event *event)
{
    event->now_ms = script->now_ms;
    const int result = coordinator_core_step(script->core, event, &script->effects);
    coordinator_core_check(script->core);
    return result;
}

static inline void script_say(struct script *script, uint64_t link,
                              struct message *message)
{
    struct coordinator_event event = {
        .kind = COORDINATOR_MESSAGE, .link = link, .message = message};
    assert_non_null(message);
    assert_int_equal(script_step(script, &event), 0);
    assert_null(event.message);
}

static inline void script_down(struct script *script, uint64_t link)
{
    struct coordinator_event event = {
        .kind = COORDINATOR_LINK_DOWN, .link = link, .text = "reset by peer"};
    assert_int_equal(script_step(script, &event), 0);
}

static inline void script_flush(struct script *script)
{
    struct coordinator_event event = {.kind = COORDINATOR_FLUSH};
    assert_int_equal(script_step(script, &event), 0);
}

/* The last message of a batch. */
static inline void script_say_last(struct script *script, uint64_t link,
                                   struct message *message)
{
    script_say(script, link, message);
    script_flush(script);
}

static inline void script_pass(struct script *script, uint64_t ms)
{
    script->now_ms += ms;
    script_flush(script);
}

/* ----------------------------------------------------------------- effects */

static inline bool is_noise(const struct coordinator_effect *effect)
{
    return effect->kind == COORDINATOR_SEND && (effect->message->kind == MSG_POOL_STATE ||
                                                effect->message->kind == MSG_JOB_STATE ||
                                                effect->message->kind == MSG_HEARTBEAT);
}

/* The next effect for a link; its link becomes 0: taken. */
static inline struct coordinator_effect *script_next(struct script *script, uint64_t link,
                                                     enum message_kind kind)
{
    for (size_t i = 0; i < script->effects.count; i++) {
        struct coordinator_effect *effect = &script->effects.items[i];
        if (effect->link != link)
            continue;
        if (is_noise(effect) && effect->message->kind != kind)
            continue;
        return effect;
    }
    return NULL;
}

static inline struct message *script_take(struct script *script, uint64_t link,
                                          enum message_kind kind)
{
    struct coordinator_effect *effect = script_next(script, link, kind);
    if (!effect || effect->kind != COORDINATOR_SEND)
        print_error("wanted %s: %s %s\n", message_name(kind),
                    effect ? "dropped:" : "nothing", effect ? effect->text : "");
    assert_non_null(effect);
    assert_int_equal(effect->kind, COORDINATOR_SEND);
    assert_string_equal(message_name(effect->message->kind), message_name(kind));
    effect->link = 0;
    return effect->message;
}

static inline void script_dropped(struct script *script, uint64_t link, int code)
{
    struct coordinator_effect *effect = script_next(script, link, MESSAGE_NONE);
    assert_non_null(effect);
    assert_int_equal(effect->kind, COORDINATOR_DROP);
    assert_int_equal(effect->code, code);
    assert_true(strlen(effect->text) > 0);
    effect->link = 0;
}

/* Told that it is refused, and why, and then dropped. */
static inline const struct message *script_refused(struct script *script, uint64_t link,
                                                   int code)
{
    const struct message *message = script_take(script, link, MSG_REFUSED);
    assert_int_equal(message->refused.code, code);
    script_dropped(script, link, code);
    return message;
}

static inline bool script_is_quiet(struct script *script, uint64_t link)
{
    const struct coordinator_effect *effect = script_next(script, link, MESSAGE_NONE);
    if (effect)
        print_error("link %llu: %s\n", (unsigned long long)link,
                    effect->kind == COORDINATOR_DROP
                        ? effect->text
                        : message_name(effect->message->kind));
    return !effect;
}

/* Nothing but noise is left; forgets it all. */
static inline void script_quiet(struct script *script)
{
    for (uint64_t link = 1; link <= script->links; link++)
        assert_true(script_is_quiet(script, link));
    coordinator_effects_clear(&script->effects);
}

static inline void script_forget(struct script *script)
{
    coordinator_effects_clear(&script->effects);
}

/* ------------------------------------------------------------------- peers */

static inline struct message *hello_client(uint8_t id)
{
    struct message *message = message_create(MSG_HELLO_CLIENT);
    message->hello_client.protocol = PROTOCOL_VERSION;
    message->hello_client.client = make_id(id);
    snprintf(message->hello_client.host, sizeof message->hello_client.host, "host%d", id);
    message->hello_client.pid = id;
    return message;
}

static inline struct message *hello_worker(const struct script *script, uint8_t id,
                                           uint32_t slots)
{
    struct message *message = message_create(MSG_HELLO_WORKER);
    message->hello_worker.protocol = PROTOCOL_VERSION;
    message->hello_worker.worker = make_id(id);
    message->hello_worker.previous = script->previous;
    snprintf(message->hello_worker.node, sizeof message->hello_worker.node, "node%d", id);
    message->hello_worker.slots = slots;
    message->hello_worker.tasks_max = script->worker_tasks;
    message->hello_worker.bytes_max = script->worker_bytes;
    return message;
}

/* Both say hello on a new link, which is returned, and are welcome. */
static inline uint64_t add_client(struct script *script, uint8_t id)
{
    const uint64_t link = ++script->links;
    script_say(script, link, hello_client(id));
    script_take(script, link, MSG_WELCOME);
    return link;
}

static inline uint64_t add_worker(struct script *script, uint8_t id, uint32_t slots)
{
    const uint64_t link = ++script->links;
    script_say(script, link, hello_worker(script, id, slots));
    script_take(script, link, MSG_WELCOME);
    return link;
}

/* The same with a key, which is told apart by its number. */
static inline struct holder make_holder(enum holder_role role, uint8_t number)
{
    struct holder holder = {.role = role, .key = {.bytes = {number, 0x4b}}};
    snprintf(holder.name, sizeof holder.name, "key%d", number);
    return holder;
}

static inline void say_as(struct script *script, uint64_t link, enum holder_role role,
                          uint8_t key, struct message *message)
{
    const struct holder holder = make_holder(role, key);
    struct coordinator_event event = {
        .kind = COORDINATOR_MESSAGE, .link = link, .message = message, .holder = &holder};
    assert_int_equal(script_step(script, &event), 0);
}

static inline uint64_t join_as(struct script *script, enum holder_role role, uint8_t key,
                               struct message *hello)
{
    const uint64_t link = ++script->links;
    say_as(script, link, role, key, hello);
    script_take(script, link, MSG_WELCOME);
    return link;
}

/* ---------------------------------------------------------------- messages */

static inline struct message *pool_open(uint8_t pool, uint32_t processes)
{
    struct message *message = message_create(MSG_POOL_OPEN);
    message->pool_open.pool = make_id(pool);
    message->pool_open.processes = processes;
    snprintf(message->pool_open.name, sizeof message->pool_open.name, "program%d", pool);
    return message;
}

/* The stand-in for a hash: the id of a seed that was made for that very key is the one
 * that the script's other messages name the pool by. */
static inline void script_pool_id(const struct hash *key, const struct id *seed,
                                  struct id *ret_pool)
{
    *ret_pool = make_id(seed->bytes[0]);
    ret_pool->bytes[2] = seed->bytes[1] ^ key->bytes[0];
}

/* POOL_OPEN of a pool of that key, whoever says it. */
static inline struct message *keyed_open(uint8_t key, uint8_t pool)
{
    struct message *message = pool_open(pool, 0);
    message->pool_open.seed = (struct id){.bytes = {pool, key}};
    return message;
}

static inline struct message *pool_attach(uint8_t pool)
{
    struct message *message = message_create(MSG_POOL_ATTACH);
    message->pool_attach.pool = make_id(pool);
    return message;
}

static inline struct message *pool_close(uint8_t pool, bool kill)
{
    struct message *message = message_create(MSG_POOL_CLOSE);
    message->pool_close.pool = make_id(pool);
    message->pool_close.kill = kill;
    return message;
}

static inline struct message *pool_closed(uint8_t pool)
{
    struct message *message = message_create(MSG_POOL_CLOSED);
    message->pool_closed.pool = make_id(pool);
    return message;
}

static inline struct message *pool_failed(uint8_t pool, int code)
{
    struct message *message = message_create(MSG_POOL_FAILED);
    message->pool_failed.pool = make_id(pool);
    message->pool_failed.code = code;
    message->pool_failed.text = mem_strdup("it does not run here");
    return message;
}

static inline struct message *job_open(uint8_t pool, uint64_t job, int priority,
                                       uint32_t chunk)
{
    struct message *message = message_create(MSG_JOB_OPEN);
    message->job_open.pool = make_id(pool);
    message->job_open.job = job;
    message->job_open.priority = priority;
    message->job_open.chunk = chunk;
    snprintf(message->job_open.function, sizeof message->job_open.function, "f%d_%llu",
             pool, (unsigned long long)job);
    return message;
}

static inline struct message *job_resumed(uint8_t pool, uint64_t job)
{
    struct message *message = job_open(pool, job, 0, 0);
    message->job_open.resumed = true;
    return message;
}

static inline struct message *resumed(uint8_t pool)
{
    struct message *message = message_create(MSG_RESUMED);
    message->resumed.pool = make_id(pool);
    return message;
}

static inline struct message *job_close(uint8_t pool, uint64_t job)
{
    struct message *message = message_create(MSG_JOB_CLOSE);
    message->job_close.pool = make_id(pool);
    message->job_close.job = job;
    return message;
}

/* One span; each input has `size` bytes. */
static inline struct message *tasks_try(uint8_t pool, uint64_t job, uint64_t first,
                                        uint32_t count, uint32_t size, uint32_t attempt)
{
    struct message *message = message_create(MSG_TASKS);
    message->tasks.pool = make_id(pool);
    message->tasks.job = job;
    message->tasks.spans = mem_alloc(sizeof *message->tasks.spans);
    message->tasks.spans_count = 1;
    message->tasks.spans[0].first = first;
    message->tasks.spans[0].count = count;
    message->tasks.spans[0].attempt = attempt;
    if (size) {
        message->tasks.spans[0].data = payload_create((size_t)size * count);
        memset(payload_bytes(message->tasks.spans[0].data), 'x', (size_t)size * count);
    }
    return message;
}

static inline struct message *tasks(uint8_t pool, uint64_t job, uint64_t first,
                                    uint32_t count)
{
    return tasks_try(pool, job, first, count, 8, 1);
}

static inline struct message *done_try(struct script *script, uint8_t worker,
                                       uint8_t pool, uint64_t job, uint64_t first,
                                       uint32_t count, uint64_t task_ns, uint32_t attempt)
{
    struct message *message = message_create(MSG_DONE);
    message->done.pool = make_id(pool);
    message->done.job = job;
    message->done.worker = make_id(worker);
    message->done.results = mem_alloc(sizeof *message->done.results);
    message->done.results_count = 1;
    message->done.results[0].seq = script->seq++;
    message->done.results[0].first = first;
    message->done.results[0].count = count;
    message->done.results[0].attempt = attempt;
    message->done.results[0].elapsed_ns = task_ns * count;
    return message;
}

static inline struct message *done(struct script *script, uint8_t worker, uint8_t pool,
                                   uint64_t job, uint64_t first, uint32_t count,
                                   uint64_t task_ns)
{
    return done_try(script, worker, pool, job, first, count, task_ns, 1);
}

static inline struct message *failed(struct script *script, uint8_t worker, uint8_t pool,
                                     uint64_t job, uint64_t index, int code)
{
    struct message *message = message_create(MSG_FAILED);
    message->failed.pool = make_id(pool);
    message->failed.job = job;
    message->failed.worker = make_id(worker);
    message->failed.results = mem_alloc(sizeof *message->failed.results);
    message->failed.results_count = 1;
    message->failed.results[0].seq = script->seq++;
    message->failed.results[0].index = index;
    message->failed.results[0].attempt = 1;
    message->failed.results[0].code = code;
    return message;
}

static inline struct message *ack(uint8_t pool, uint8_t worker, uint64_t first,
                                  uint64_t count)
{
    struct message *message = message_create(MSG_ACK);
    message->ack.pool = make_id(pool);
    message->ack.worker = make_id(worker);
    message->ack.results = mem_alloc(sizeof *message->ack.results);
    message->ack.results_count = 1;
    message->ack.results[0] = (struct msg_seqs){first, count};
    return message;
}

/* One range, or none for a count of 0; how many. */
static inline uint32_t make_ranges(struct msg_range **ret_ranges, uint64_t first,
                                   uint64_t count, uint32_t attempt)
{
    if (!count)
        return 0;
    *ret_ranges = mem_alloc(sizeof **ret_ranges);
    **ret_ranges = (struct msg_range){first, count, attempt};
    return 1;
}

static inline struct message *cancel(uint8_t pool, uint64_t job, uint64_t first,
                                     uint64_t count)
{
    struct message *message = message_create(MSG_CANCEL);
    message->cancel.pool = make_id(pool);
    message->cancel.job = job;
    message->cancel.ranges_count = make_ranges(&message->cancel.ranges, first, count, 0);
    return message;
}

/* count 0: nothing is given back. */
static inline struct message *returned(uint8_t pool, uint64_t job, uint64_t first,
                                       uint64_t count)
{
    struct message *message = message_create(MSG_RETURNED);
    message->returned.pool = make_id(pool);
    message->returned.job = job;
    message->returned.ranges_count =
        make_ranges(&message->returned.ranges, first, count, 1);
    return message;
}

static inline struct message *held(uint8_t pool, uint64_t job, uint64_t first,
                                   uint64_t count)
{
    struct message *message = message_create(MSG_HELD);
    message->held.pool = make_id(pool);
    message->held.job = job;
    message->held.ranges_count = make_ranges(&message->held.ranges, first, count, 1);
    return message;
}

static inline struct message *load(uint32_t processes, uint64_t started, uint8_t pool,
                                   uint64_t job, uint64_t running, uint64_t share_ppm)
{
    struct message *message = message_create(MSG_LOAD);
    message->load.processes = processes;
    message->load.started = started;
    if (job) {
        message->load.jobs = mem_alloc(sizeof *message->load.jobs);
        message->load.jobs_count = 1;
        message->load.jobs[0] =
            (struct msg_job_load){make_id(pool), job, running, 0, share_ppm};
    }
    return message;
}

/* ------------------------------------------------------------- larger steps */

/* A client with a pool, and a job of priority 0 for each of `jobs`, numbered from 1. */
static inline uint64_t add_pool(struct script *script, uint8_t pool, uint64_t jobs)
{
    const uint64_t link = add_client(script, pool);
    script_say(script, link, pool_open(pool, 0));
    for (uint64_t job = 1; job <= jobs; job++)
        script_say(script, link, job_open(pool, job, 0, 0));
    return link;
}

/* Tasks that a TASKS message holds. */
static inline uint64_t tasks_in(const struct message *message)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < message->tasks.spans_count; i++)
        count += message->tasks.spans[i].count;
    return count;
}

/* Takes the TASKS that wait for a link, with the openings before them; how many tasks. */
static inline uint64_t script_given(struct script *script, uint64_t link)
{
    uint64_t count = 0;
    struct coordinator_effect *effect;
    while ((effect = script_next(script, link, MESSAGE_NONE)) &&
           effect->kind == COORDINATOR_SEND &&
           (effect->message->kind == MSG_TASKS ||
            effect->message->kind == MSG_POOL_OPEN ||
            effect->message->kind == MSG_JOB_OPEN)) {
        if (effect->message->kind == MSG_TASKS)
            count += tasks_in(effect->message);
        effect->link = 0;
    }
    return count;
}

/* A worker that served a coordinator before holds tasks of job 1 of pool 1. */
static inline uint64_t worker_returns(struct script *script, uint8_t id, uint64_t first,
                                      uint64_t count)
{
    script->previous = make_id(99);
    const uint64_t worker = add_worker(script, id, 1);
    script->previous = make_id(0);
    script->previous.bytes[1] = 0;
    script_say(script, worker, held(1, 1, first, count));
    return worker;
}

static inline struct coordinator_counts script_counts(const struct script *script)
{
    struct coordinator_counts counts;
    coordinator_core_counts(script->core, &counts);
    return counts;
}

/* The stand-in for a hash over secret and number. */
static inline void script_ticket(const struct hash *secret, uint64_t number,
                                 struct id *ret_ticket)
{
    *ret_ticket = make_id((uint8_t)number);
    ret_ticket->bytes[2] = secret->bytes[0];
}

/* *state is a script that has begun, and ends with the test. */
static inline int script_set_up(void **state)
{
    static struct script script;
    script = (struct script){.links = 0};
    script_begin(&script);
    *state = &script;
    return 0;
}

/* Who has a key can open pools: keyed_open. */
static inline int script_set_up_keyed(void **state)
{
    static struct script script;
    script = (struct script){.links = 0};
    coordinator_config_init(&script.config);
    script.config.pool_id = script_pool_id;
    script.config.ticket = script_ticket;
    script_begin(&script);
    *state = &script;
    return 0;
}

static inline int script_tear_down(void **state)
{
    script_end(*state);
    return 0;
}

#define SCRIPT_TEST(name)                                                                \
    cmocka_unit_test_setup_teardown(name, script_set_up, script_tear_down)

#endif
