/* SPDX-License-Identifier: Apache-2.0
 *
 * worker_script.h: a coordinator for the unit tests of the worker's core, with the host
 * of worker_fake.h: its messages, what the worker told it, and set-ups that bring a
 * worker to where a test begins. */
#ifndef FARPOOL_TESTS_WORKER_SCRIPT_H
#define FARPOOL_TESTS_WORKER_SCRIPT_H

#include "tests/unit/worker_fake.h"

/* ------------------------------------------------------------------------- messages */

FAKE void fake_welcome(struct fake *f, uint8_t coordinator, uint64_t result_window)
{
    fake_event(f, WORKER_LINK_UP);
    struct message *message = message_create(MSG_WELCOME);
    message->welcome.protocol = PROTOCOL_VERSION;
    message->welcome.coordinator = fake_id(coordinator);
    message->welcome.bytes_max = result_window;
    message->welcome.heartbeat_ms = 1000;
    message->welcome.silence_ms = 5000;
    message->welcome.body_bytes_max = 1 << 20;
    fake_message(f, message);
}

FAKE struct message *fake_pool_open(uint8_t pool, uint32_t processes)
{
    struct message *message = message_create(MSG_POOL_OPEN);
    message->pool_open.pool = fake_id(pool);
    memset(message->pool_open.program.bytes, 0xaa, 32);
    snprintf(message->pool_open.name, sizeof message->pool_open.name, "program");
    snprintf(message->pool_open.machine, sizeof message->pool_open.machine, "x86_64");
    message->pool_open.processes = processes;
    message->pool_open.files = mem_alloc(sizeof *message->pool_open.files);
    message->pool_open.files_count = 1;
    snprintf(message->pool_open.files[0].name, sizeof message->pool_open.files[0].name,
             "program");
    memset(message->pool_open.files[0].content.bytes, 0xbb, 32);
    message->pool_open.files[0].size = 1500000;
    return message;
}

FAKE void fake_program(struct fake *f, enum worker_event_kind kind)
{
    struct worker_event event = {.kind = kind};
    memset(event.program.bytes, 0xaa, 32);
    fake_step(f, &event);
}

FAKE void fake_program_needs(struct fake *f, uint64_t offset)
{
    struct worker_event event = {.kind = WORKER_PROGRAM_NEEDS, .offset = offset};
    memset(event.program.bytes, 0xaa, 32);
    fake_step(f, &event);
    fake_settle(f);
}

FAKE struct message *fake_job_open(uint8_t pool, uint64_t job)
{
    struct message *message = message_create(MSG_JOB_OPEN);
    message->job_open.pool = fake_id(pool);
    message->job_open.job = job;
    snprintf(message->job_open.function, sizeof message->job_open.function, "f%u",
             (unsigned)job);
    return message;
}

FAKE void fake_job_chunked(struct fake *f, uint8_t pool, uint64_t job, uint32_t chunk)
{
    struct message *message = fake_job_open(pool, job);
    message->job_open.chunk = chunk;
    fake_message(f, message);
}

FAKE void fake_close_job(struct fake *f, uint8_t pool, uint64_t job)
{
    struct message *message = message_create(MSG_JOB_CLOSE);
    message->job_close.pool = fake_id(pool);
    message->job_close.job = job;
    fake_message(f, message);
}

/* One span of inputs of 4 bytes each. */
FAKE struct message *fake_tasks_message(uint8_t pool, uint64_t job, uint64_t first,
                                        uint32_t count, uint32_t attempt)
{
    struct message *message = message_create(MSG_TASKS);
    message->tasks.pool = fake_id(pool);
    message->tasks.job = job;
    message->tasks.spans = mem_alloc(sizeof *message->tasks.spans);
    message->tasks.spans_count = 1;
    struct payload *data = payload_create(4 * (size_t)count);
    memset(payload_bytes(data), 1, data->size);
    message->tasks.spans[0] = (struct msg_span){
        .first = first, .count = count, .attempt = attempt, .data = data};
    return message;
}

FAKE void fake_tasks(struct fake *f, uint8_t pool, uint64_t job, uint64_t first,
                     uint32_t count)
{
    fake_message(f, fake_tasks_message(pool, job, first, count, 1));
}

/* Tasks of pool 1's job 1 with these inputs, and their sizes if they differ. */
FAKE void fake_tasks_with(struct fake *f, uint64_t first, uint32_t count,
                          struct payload *sizes, struct payload *data)
{
    struct message *message = fake_tasks_message(1, 1, first, count, 1);
    struct msg_span *span = &message->tasks.spans[0];
    payload_unref(&span->data);
    span->sizes = sizes;
    span->data = data;
    fake_message(f, message);
}

FAKE void fake_close_pool(struct fake *f, uint8_t pool, bool kill)
{
    struct message *message = message_create(MSG_POOL_CLOSE);
    message->pool_close.pool = fake_id(pool);
    message->pool_close.kill = kill;
    fake_message(f, message);
}

FAKE void fake_ack(struct fake *f, uint8_t pool, uint64_t first, uint64_t count)
{
    struct message *message = message_create(MSG_ACK);
    message->ack.pool = fake_id(pool);
    message->ack.worker = f->config.worker;
    message->ack.results = mem_alloc(sizeof *message->ack.results);
    message->ack.results_count = 1;
    message->ack.results[0] = (struct msg_seqs){first, count};
    fake_message(f, message);
}

FAKE void fake_cancel(struct fake *f, uint8_t pool, uint64_t job, uint64_t first,
                      uint64_t count, bool kill)
{
    struct message *message = message_create(MSG_CANCEL);
    message->cancel.pool = fake_id(pool);
    message->cancel.job = job;
    message->cancel.kill = kill;
    message->cancel.ranges = mem_alloc(sizeof *message->cancel.ranges);
    message->cancel.ranges_count = 1;
    message->cancel.ranges[0] = (struct msg_range){first, count, 0};
    fake_message(f, message);
}

FAKE void fake_recall(struct fake *f, uint8_t pool, uint64_t job, uint64_t tasks)
{
    struct message *message = message_create(MSG_RECALL);
    message->recall.pool = fake_id(pool);
    message->recall.job = job;
    message->recall.tasks = tasks;
    fake_message(f, message);
}

/* Tasks in all the ranges of the RETURNED, or HELD, sent since the last fake_forget. */
FAKE uint64_t fake_ranges(const struct fake *f, enum message_kind kind)
{
    uint64_t tasks = 0;
    for (size_t i = 0; i < fake_sent(f, kind); i++) {
        const struct message *message = fake_nth(f, kind, i);
        const bool held = kind == MSG_HELD;
        const uint32_t count =
            held ? message->held.ranges_count : message->returned.ranges_count;
        const struct msg_range *ranges =
            held ? message->held.ranges : message->returned.ranges;
        for (uint32_t k = 0; k < count; k++)
            tasks += ranges[k].count;
    }
    return tasks;
}

/* ---------------------------------------------------------------------------- set-up */

FAKE void fake_create(struct fake *f, uint32_t slots)
{
    memset(f, 0, sizeof *f);
    worker_config_init(&f->config);
    f->config.worker = fake_id(0x77);
    snprintf(f->config.node, sizeof f->config.node, "n1");
    snprintf(f->config.machine, sizeof f->config.machine, "x86_64");
    f->config.slots = slots;
    f->now = 1000;
    f->trace = 14695981039346656037ull;
}

FAKE void fake_run(struct fake *f)
{
    assert_int_equal(worker_core_create(&f->config, f->now, &f->core), 0);
}

/* It runs, and coordinator 1 has welcomed it. */
FAKE void fake_join(struct fake *f)
{
    fake_run(f);
    fake_welcome(f, 1, 0);
}

FAKE void fake_destroy(struct fake *f)
{
    fake_forget(f);
    worker_effects_fini(&f->effects);
    worker_core_destroy(f->core);
    f->core = NULL;
}

/* A worker with `slots` slots, coordinator 1, pool 1 with its processes ready, job 1. */
FAKE void fake_start(struct fake *f, uint32_t slots)
{
    fake_create(f, slots);
    fake_join(f);
    fake_message(f, fake_pool_open(1, 0));
    fake_program(f, WORKER_PROGRAM_READY);
    fake_ready_all(f);
    fake_message(f, fake_job_open(1, 1));
    fake_settle(f);
    fake_forget(f);
}

/* The same, and job 1 has tasks, of which each process has its first. */
FAKE void fake_start_busy(struct fake *f, uint32_t slots, uint32_t tasks)
{
    fake_start(f, slots);
    fake_tasks(f, 1, 1, 0, tasks);
    fake_settle(f);
}

/* *state is a fake, to be created by the test; what is left of it is destroyed. */
FAKE int fake_set_up(void **state)
{
    static struct fake fake;
    *state = &fake;
    return 0;
}

FAKE int fake_tear_down(void **state)
{
    fake_destroy(*state);
    return 0;
}

#define FAKE_TEST(name) cmocka_unit_test_setup_teardown(name, fake_set_up, fake_tear_down)

#endif
