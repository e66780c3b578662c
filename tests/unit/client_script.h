/* SPDX-License-Identifier: Apache-2.0
 *
 * client_script.h: drives a client core by hand, for test_client_*.c. Each step is
 * followed by client_core_check; effects are taken one by one, in order, so a test that
 * ends with script_done() has accounted for each of them. */
#ifndef FARPOOL_TESTS_CLIENT_SCRIPT_H
#define FARPOOL_TESTS_CLIENT_SCRIPT_H

#include "client/core.h"
#include "common/base/mem.h"
#include "common/base/span.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

struct script {
    struct client_core *core;
    struct client_effects effects;
    size_t taken; /* effects already looked at */
    uint64_t now_ms;
    struct message *open;
    struct client_job_options options; /* for the next job */
    struct id worker;
    uint64_t seq; /* next result number */
};

static inline struct client_effect *script_peek(struct script *script)
{
    return script->taken < script->effects.count ? &script->effects.items[script->taken]
                                                 : NULL;
}

/* The next effect, which must be of that kind; owned by the script, until the next step.
 */
static inline struct client_effect *script_take(struct script *script,
                                                enum client_effect_kind kind)
{
    struct client_effect *effect = script_peek(script);
    assert_non_null(effect);
    if (effect->kind == CLIENT_SEND && effect->kind != kind)
        print_error("sent %s\n", message_name(effect->message->kind));
    assert_int_equal(effect->kind, kind);
    script->taken++;
    return effect;
}

static inline struct message *script_sent(struct script *script, enum message_kind kind)
{
    struct message *message = script_take(script, CLIENT_SEND)->message;
    assert_string_equal(message_name(message->kind), message_name(kind));
    return message;
}

/* Whether every effect was taken. */
static inline void script_quiet(struct script *script)
{
    const struct client_effect *effect = script_peek(script);
    if (effect && effect->kind == CLIENT_SEND)
        print_error("sent %s\n", message_name(effect->message->kind));
    assert_null(effect);
}

static inline void script_forget(struct script *script)
{
    client_effects_clear(&script->effects);
    script->taken = 0;
}

static inline int script_step(struct script *script, struct client_event *event)
{
    event->now_ms = script->now_ms;
    if (script->taken == script->effects.count)
        script_forget(script);
    const int result = client_core_step(script->core, event, &script->effects);
    client_core_check(script->core);
    return result;
}

static inline void script_event(struct script *script, struct client_event event)
{
    assert_int_equal(script_step(script, &event), 0);
}

static inline void script_flush(struct script *script)
{
    script_event(script, (struct client_event){.kind = CLIENT_FLUSH});
}

static inline void script_message(struct script *script, struct message *message)
{
    assert_non_null(message);
    struct client_event event = {.kind = CLIENT_MESSAGE, .message = message};
    assert_int_equal(script_step(script, &event), 0);
    assert_null(event.message);
}

static inline struct id script_id(uint8_t byte)
{
    struct id id;
    memset(id.bytes, byte, sizeof id.bytes);
    return id;
}

#define SCRIPT_POOL script_id(7)
#ifndef SCRIPT_ACK_WAIT_MS
#define SCRIPT_ACK_WAIT_MS 0 /* a test may define another before it includes this */
#endif
#ifndef SCRIPT_LANES
#define SCRIPT_LANES false /* the same */
#endif
#ifndef SCRIPT_RESUMES
#define SCRIPT_RESUMES false /* the same */
#endif

static inline struct message *script_make(enum message_kind kind)
{
    struct message *message = message_create(kind);
    while (!message) /* a test of failing allocations: one fails */
        message = message_create(kind);
    return message;
}

static inline struct message *script_make_welcome(uint64_t tasks_max, uint64_t bytes_max)
{
    struct message *message = script_make(MSG_WELCOME);
    message->welcome.protocol = PROTOCOL_VERSION;
    message->welcome.coordinator = script_id(9);
    message->welcome.tasks_max = tasks_max;
    message->welcome.bytes_max = bytes_max;
    message->welcome.heartbeat_ms = 1000;
    message->welcome.silence_ms = 5000;
    message->welcome.body_bytes_max = BODY_BYTES_MAX;
    return message;
}

static inline void script_create_with(struct script *script, bool attach, bool lanes)
{
    *script = (struct script){.now_ms = 1000, .worker = script_id(3), .seq = 1};
    script->options = (struct client_job_options){.function = "f", .losses_max = 3};
    struct client_config config = {
        .client = script_id(1), .pool = SCRIPT_POOL, .attach = attach, .job_tag = 5};
    snprintf(config.host, sizeof config.host, "here");
    config.pid = 42;
    config.ack_wait_ms = SCRIPT_ACK_WAIT_MS;
    config.resumes = SCRIPT_RESUMES;
    config.lanes = lanes;
    if (!attach) {
        script->open = script_make(MSG_POOL_OPEN);
        script->open->pool_open.processes = 4;
        config.open = script->open;
    }
    assert_int_equal(client_core_create(&config, script->now_ms, &script->core), 0);
}

static inline void script_create(struct script *script, bool attach)
{
    script_create_with(script, attach, SCRIPT_LANES);
}

static inline void script_fini(struct script *script)
{
    client_core_destroy(script->core);
    client_effects_fini(&script->effects);
    message_free(&script->open);
}

/* Everything was accounted for. */
static inline void script_done(struct script *script)
{
    script_quiet(script);
    script_fini(script);
}

static inline void script_link_up(struct script *script)
{
    script_event(script, (struct client_event){.kind = CLIENT_LINK_UP});
    script_sent(script, MSG_HELLO_CLIENT);
}

/* A core with a window, on which everything up to READY has happened. */
static inline void script_open_with(struct script *script, uint64_t tasks_max,
                                    uint64_t bytes_max)
{
    script_create(script, false);
    script_link_up(script);
    script_message(script, script_make_welcome(tasks_max, bytes_max));
    script_sent(script, MSG_POOL_OPEN);
    script_take(script, CLIENT_READY);
    script_flush(script);
    script_quiet(script);
}

static inline void script_open(struct script *script)
{
    script_open_with(script, 1000000, 1 << 30);
}

static inline void script_link_down(struct script *script)
{
    script_event(script, (struct client_event){.kind = CLIENT_LINK_DOWN, .text = "gone"});
}

static inline uint64_t script_job(struct script *script)
{
    struct client_event event = {.kind = CLIENT_JOB_OPEN, .options = &script->options};
    assert_int_equal(script_step(script, &event), 0);
    return event.job;
}

/* `count` inputs of `size` bytes each, all bytes zero. */
static inline struct msg_span script_span(uint64_t first, uint32_t count, uint32_t size)
{
    struct msg_span span = {.first = first, .count = count};
    if (size) {
        while (!(span.data = payload_create((size_t)count * size)))
            ;
        memset(payload_bytes(span.data), 0, span.data->size);
    }
    return span;
}

static inline void script_input(struct script *script, uint64_t job, uint64_t first,
                                uint32_t count, uint32_t size)
{
    script_event(script, (struct client_event){.kind = CLIENT_JOB_INPUT,
                                               .job = job,
                                               .span = script_span(first, count, size)});
}

static inline void script_input_end(struct script *script, uint64_t job)
{
    script_event(script, (struct client_event){.kind = CLIENT_JOB_INPUT_END, .job = job});
}

/* A whole map: opened, filled, sent as one span of small tasks. */
static inline uint64_t script_map(struct script *script, uint32_t count)
{
    const uint64_t job = script_job(script);
    script_input(script, job, 0, count, 4);
    script_input_end(script, job);
    script_flush(script);
    assert_int_equal(script_sent(script, MSG_JOB_OPEN)->job_open.job, job);
    const struct message *tasks = script_sent(script, MSG_TASKS);
    assert_int_equal(tasks->tasks.spans_count, 1);
    assert_int_equal(tasks->tasks.spans[0].count, count);
    return job;
}

static inline void *script_list(size_t size)
{
    void *memory = mem_alloc(size);
    while (!memory)
        memory = mem_alloc(size);
    return memory;
}

/* One DONE record: outputs of `size` bytes, each byte the low byte of its index. */
static inline struct message *script_make_done(struct script *script, uint64_t job,
                                               uint64_t first, uint32_t count,
                                               uint32_t attempt, uint32_t size)
{
    struct message *message = script_make(MSG_DONE);
    message->done.pool = SCRIPT_POOL;
    message->done.job = job;
    message->done.worker = script->worker;
    struct msg_done *done = script_list(sizeof *done);
    *done = (struct msg_done){.seq = script->seq++,
                              .first = first,
                              .count = count,
                              .attempt = attempt,
                              .elapsed_ns = 1000 * (uint64_t)count};
    while (!(done->data = payload_create((size_t)count * size)))
        ;
    for (uint32_t i = 0; i < count; i++)
        memset(payload_bytes(done->data) + (size_t)i * size, (int)((first + i) & 255),
               size);
    message->done.results = done;
    message->done.results_count = 1;
    return message;
}

static inline void script_result(struct script *script, uint64_t job, uint64_t first,
                                 uint32_t count, uint32_t attempt)
{
    script_message(script, script_make_done(script, job, first, count, attempt, 4));
}

static inline struct message *script_make_failed(struct script *script, uint64_t job,
                                                 uint64_t index, uint32_t attempt,
                                                 int code)
{
    struct message *message = script_make(MSG_FAILED);
    message->failed.pool = SCRIPT_POOL;
    message->failed.job = job;
    message->failed.worker = script->worker;
    struct msg_failed *failed = script_list(sizeof *failed);
    *failed = (struct msg_failed){.seq = script->seq++,
                                  .index = index,
                                  .attempt = attempt,
                                  .code = code,
                                  .exit_status = -1,
                                  .signal = code == FARPOOL_EPROCESSLOST ? 9 : 0,
                                  .pid = 77,
                                  .node = "n1"};
    while (!(failed->message = mem_strdup("no luck")))
        ;
    message->failed.results = failed;
    message->failed.results_count = 1;
    return message;
}

static inline void script_failure(struct script *script, uint64_t job, uint64_t index,
                                  uint32_t attempt, int code)
{
    script_message(script, script_make_failed(script, job, index, attempt, code));
}

static inline struct message *script_make_lost(uint64_t job, uint64_t first,
                                               uint64_t count, uint32_t attempt, int code)
{
    struct message *message = script_make(MSG_LOST);
    message->lost.pool = SCRIPT_POOL;
    message->lost.job = job;
    message->lost.code = code;
    snprintf(message->lost.node, sizeof message->lost.node, "n1");
    snprintf(message->lost.text, sizeof message->lost.text, "n1 was silent");
    struct msg_range *range = script_list(sizeof *range);
    *range = (struct msg_range){first, count, attempt};
    message->lost.ranges = range;
    message->lost.ranges_count = 1;
    return message;
}

static inline void script_loss(struct script *script, uint64_t job, uint64_t first,
                               uint64_t count, uint32_t attempt, int code)
{
    script_message(script, script_make_lost(job, first, count, attempt, code));
}

static inline struct message *script_make_pool_failed(int code, bool fatal, uint32_t left)
{
    struct message *message = script_make(MSG_POOL_FAILED);
    message->pool_failed.pool = SCRIPT_POOL;
    message->pool_failed.code = code;
    message->pool_failed.fatal = fatal;
    message->pool_failed.nodes_left = left;
    snprintf(message->pool_failed.node, sizeof message->pool_failed.node, "n1");
    while (!(message->pool_failed.text = mem_strdup("libx.so is missing")))
        ;
    return message;
}

/* The next effect is a DONE of exactly these tasks, with script_make_done's outputs. */
static inline void script_took(struct script *script, uint64_t job, uint64_t first,
                               uint64_t count)
{
    const struct client_effect *effect = script_take(script, CLIENT_DONE);
    assert_int_equal(effect->job, job);
    assert_int_equal(effect->first, first);
    assert_int_equal(effect->count, count);
    const size_t size = effect->data->size / count;
    assert_int_equal(effect->data->data[0], first & 255);
    assert_int_equal(effect->data->data[(count - 1) * size], (first + count - 1) & 255);
}

/* The next effect is a FAILED of many. */
static inline const struct client_effect *script_gave_up(struct script *script,
                                                         uint64_t job, uint64_t first,
                                                         uint64_t count, int code)
{
    const struct client_effect *effect = script_take(script, CLIENT_FAILED);
    assert_int_equal(effect->job, job);
    assert_int_equal(effect->first, first);
    assert_int_equal(effect->count, count);
    assert_int_equal(effect->code, code);
    return effect;
}

/* The next effect is an ACK of one range of the script's worker. */
static inline void script_acked(struct script *script, uint64_t first, uint64_t count)
{
    const struct message *ack = script_sent(script, MSG_ACK);
    assert_true(id_equal(&ack->ack.worker, &script->worker));
    assert_int_equal(ack->ack.results_count, 1);
    assert_int_equal(ack->ack.results[0].first, first);
    assert_int_equal(ack->ack.results[0].count, count);
}

/* The next effect is a TASKS of one span. */
static inline void script_sent_span(struct script *script, uint64_t job, uint64_t first,
                                    uint32_t count, uint32_t attempt)
{
    const struct message *tasks = script_sent(script, MSG_TASKS);
    assert_int_equal(tasks->tasks.job, job);
    assert_int_equal(tasks->tasks.spans_count, 1);
    assert_int_equal(tasks->tasks.spans[0].first, first);
    assert_int_equal(tasks->tasks.spans[0].count, count);
    assert_int_equal(tasks->tasks.spans[0].attempt, attempt);
}

/* The next effect is a CANCEL of one range. */
static inline void script_sent_cancel(struct script *script, uint64_t job, uint64_t first,
                                      uint64_t count, bool kill)
{
    const struct message *message = script_sent(script, MSG_CANCEL);
    assert_int_equal(message->cancel.job, job);
    assert_int_equal(message->cancel.kill, kill);
    assert_int_equal(message->cancel.ranges_count, 1);
    assert_int_equal(message->cancel.ranges[0].first, first);
    assert_int_equal(message->cancel.ranges[0].count, count);
    assert_int_equal(message->cancel.ranges[0].attempt, 0);
}

static inline void script_ended(struct script *script, uint64_t job)
{
    assert_int_equal(script_sent(script, MSG_JOB_CLOSE)->job_close.job, job);
    assert_int_equal(script_take(script, CLIENT_JOB_ENDED)->job, job);
}

#endif
