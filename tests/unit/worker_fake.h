/* SPDX-License-Identifier: Apache-2.0
 *
 * worker_fake.h: a host for the unit tests of the worker's core: a model of processes
 * that is driven by the core's effects. Nothing happens by itself: a test says which
 * process is ready, finishes tasks or ends; only TAKE_BACK and SAMPLE are answered at
 * once, as the host does. The model checks what every host may expect (known processes,
 * no tasks for one that ends), and every step is followed by worker_core_check. What a
 * coordinator says, and whole set-ups, are in worker_script.h. */
#ifndef FARPOOL_TESTS_WORKER_FAKE_H
#define FARPOOL_TESTS_WORKER_FAKE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/span.h"
#include "worker/core.h"

#define FAKE_PROCESSES 2048
#define FAKE_RANGES 160
#define FAKE_LOG 4096

#define FAKE __attribute__((unused)) static

struct fake_range {
    uint64_t give, job, first;
    uint32_t count, attempt;
    struct id pool;
};

struct fake_process {
    bool started, ready, killed, closing, gone;
    uint32_t slot;
    struct id pool;
    struct fake_range ranges[FAKE_RANGES]; /* not ended, in order; [0] is running */
    size_t ranges_count;
    uint64_t began_ms, share_ppm, ran;
    uint64_t cpu_ms, memory_bytes; /* what its task has used */
    uint64_t ask_back;             /* TAKE_BACK to be answered */
    bool asked_back, asked_sample, marked;
};

struct fake {
    struct worker_core *core;
    struct worker_config config;
    struct worker_effects effects;
    uint64_t now;
    struct fake_process processes[FAKE_PROCESSES]; /* by the core's number */
    uint64_t processes_max;                        /* highest number seen */
    uint64_t opening;                              /* the last SHARED_OPEN's serial */
    struct message *sent[FAKE_LOG];
    uint64_t sent_on[FAKE_LOG]; /* the lane; 0: the coordinator's link */
    size_t sent_count;
    struct worker_effect log[FAKE_LOG]; /* effects other than SEND, without references */
    size_t log_count;
    uint64_t fail_at;     /* the allocation, counted within steps, that fails; 0: none */
    uint64_t allocations; /* made by steps */
    uint64_t trace;       /* a hash over every effect, for determinism */
};

FAKE struct id fake_id(uint8_t n)
{
    struct id id;
    memset(&id, n, sizeof id);
    return id;
}

FAKE void fake_mix(struct fake *f, const void *data, size_t size)
{
    const uint8_t *bytes = data;
    for (size_t i = 0; i < size; i++)
        f->trace = (f->trace ^ bytes[i]) * 1099511628211ull;
}

FAKE void fake_give(struct fake_process *process, const struct worker_effect *effect)
{
    assert_true(process->started && !process->closing && !process->killed);
    assert_true(process->ranges_count < FAKE_RANGES);
    assert_true(span_valid(&effect->span) && effect->claim > 0 && effect->publish > 0);
    process->ranges[process->ranges_count++] =
        (struct fake_range){effect->give,       effect->job,          effect->span.first,
                            effect->span.count, effect->span.attempt, effect->pool};
}

FAKE void fake_apply(struct fake *f, struct worker_effect *effect)
{
    struct fake_process *process = NULL;
    if (effect->kind >= WORKER_PROCESS_START && effect->kind <= WORKER_PROCESS_KILL) {
        assert_true(effect->process > 0 && effect->process < FAKE_PROCESSES);
        process = &f->processes[effect->process];
        assert_false(process->gone);
        assert_int_equal(process->started, effect->kind != WORKER_PROCESS_START);
    }
    switch (effect->kind) {
    case WORKER_PROCESS_START:
        process->started = true;
        assert_true(effect->slot < f->config.slots);
        process->slot = effect->slot;
        process->pool = effect->pool;
        f->processes_max = effect->process;
        break;
    case WORKER_PROCESS_GIVE:
        assert_true(process->ready);
        if (process->ranges_count == 0)
            process->began_ms = f->now;
        fake_give(process, effect);
        break;
    case WORKER_PROCESS_TAKE_BACK:
        assert_false(process->asked_back);
        process->ask_back = effect->count;
        process->asked_back = true;
        break;
    case WORKER_PROCESS_CANCEL:
        process->marked = true;
        break;
    case WORKER_PROCESS_SAMPLE:
        assert_false(process->asked_sample);
        process->asked_sample = true;
        break;
    case WORKER_PROCESS_CLOSE:
        assert_true(process->ranges_count == 0 && !process->closing);
        process->closing = true;
        break;
    case WORKER_PROCESS_KILL:
        assert_false(process->killed);
        process->killed = true;
        break;
    case WORKER_SHARED_OPEN:
        f->opening = effect->serial;
        break;
    default:
        break;
    }
}

/* Moves what a step has left in the effects to `sent` and `log`. */
FAKE void fake_collect(struct fake *f)
{
    for (size_t i = 0; i < f->effects.count; i++) {
        struct worker_effect *effect = &f->effects.items[i];
        fake_mix(f, &effect->kind, sizeof effect->kind);
        fake_mix(f, &effect->process, sizeof effect->process);
        fake_mix(f, &effect->span.first, sizeof effect->span.first);
        fake_mix(f, &effect->span.count, sizeof effect->span.count);
        if (effect->kind == WORKER_SEND) {
            char text[2048];
            message_print(effect->message, text, sizeof text);
            fake_mix(f, text, strlen(text));
            struct frames frames;
            assert_int_equal(message_encode(effect->message, &frames), 0);
            frames_fini(&frames);
            const enum message_kind kind = effect->message->kind;
            assert_true(effect->lane == 0 ? message_allowed(kind, 'W', 'K')
                                          : message_allowed(kind, 'W', 'C') ||
                                                message_allowed(kind, 'W', 'W'));
            assert_true(f->sent_count < FAKE_LOG);
            f->sent_on[f->sent_count] = effect->lane;
            f->sent[f->sent_count++] = effect->message;
            effect->message = NULL;
            continue;
        }
        fake_apply(f, effect);
        assert_true(f->log_count < FAKE_LOG);
        f->log[f->log_count] = *effect;
        f->log[f->log_count].data = NULL;
        memset(&f->log[f->log_count].span.sizes, 0, sizeof(struct payload *));
        memset(&f->log[f->log_count].span.data, 0, sizeof(struct payload *));
        f->log_count++;
    }
    worker_effects_clear(&f->effects);
}

/* One step; an allocation may be made to fail in it, then it is tried again. */
FAKE void fake_step(struct fake *f, struct worker_event *event)
{
    int result;
    event->now_ms = f->now;
    do {
        const size_t before = f->effects.count;
        mem_fail_after(f->fail_at);
        result = worker_core_step(f->core, event, &f->effects);
        const size_t used = mem_fail_after(0);
        f->allocations += used;
        if (f->fail_at > 0)
            f->fail_at = used >= f->fail_at ? 0 : f->fail_at - used;
        worker_core_check(f->core);
        assert_true(result == 0 ||
                    (result == FARPOOL_ENOMEM && f->effects.count == before));
    } while (result != 0);
    assert_null(event->message);
    assert_null(event->data);
    fake_collect(f);
}

FAKE void fake_event(struct fake *f, enum worker_event_kind kind)
{
    struct worker_event event = {.kind = kind};
    fake_step(f, &event);
}

FAKE void fake_message(struct fake *f, struct message *message)
{
    struct worker_event event = {.kind = WORKER_MESSAGE, .message = message};
    fake_step(f, &event);
}

/* ------------------------------------------------------------- what was sent and done */

FAKE void fake_forget(struct fake *f)
{
    for (size_t i = 0; i < f->sent_count; i++)
        message_free(&f->sent[i]);
    f->sent_count = f->log_count = 0;
}

FAKE size_t fake_sent(const struct fake *f, enum message_kind kind)
{
    size_t count = 0;
    for (size_t i = 0; i < f->sent_count; i++)
        count += f->sent[i]->kind == kind;
    return count;
}

/* The n-th message of that kind since the last fake_forget; it must be there. */
FAKE const struct message *fake_nth(const struct fake *f, enum message_kind kind,
                                    size_t n)
{
    for (size_t i = 0; i < f->sent_count; i++)
        if (f->sent[i]->kind == kind && n-- == 0)
            return f->sent[i];
    fail_msg("no %s was sent", message_name(kind));
    return NULL;
}

FAKE uint64_t fake_lane_of(const struct fake *f, enum message_kind kind, size_t n)
{
    for (size_t i = 0; i < f->sent_count; i++)
        if (f->sent[i]->kind == kind && n-- == 0)
            return f->sent_on[i];
    fail_msg("no %s was sent", message_name(kind));
    return 0;
}

FAKE size_t fake_logged(const struct fake *f, enum worker_effect_kind kind)
{
    size_t count = 0;
    for (size_t i = 0; i < f->log_count; i++)
        count += f->log[i].kind == kind;
    return count;
}

FAKE const struct worker_effect *fake_effect(const struct fake *f,
                                             enum worker_effect_kind kind, size_t n)
{
    for (size_t i = 0; i < f->log_count; i++)
        if (f->log[i].kind == kind && n-- == 0)
            return &f->log[i];
    fail_msg("no effect of kind %d", (int)kind);
    return NULL;
}

FAKE struct worker_counts fake_counts(const struct fake *f)
{
    struct worker_counts counts;
    worker_core_counts(f->core, &counts);
    return counts;
}

/* --------------------------------------------------------------------------- host */

FAKE void fake_answer_back(struct fake *f, uint64_t number)
{
    struct fake_process *process = &f->processes[number];
    uint64_t left = process->ask_back;
    process->asked_back = false;
    while (left > 0 && process->ranges_count > 0) {
        struct fake_range *range = &process->ranges[process->ranges_count - 1];
        const uint32_t begun = process->ranges_count == 1; /* the first one runs */
        uint32_t count = range->count - begun;
        if (count > left)
            count = (uint32_t)left;
        if (count == 0)
            break;
        struct worker_event event = {.kind = WORKER_PROCESS_TAKEN,
                                     .process = number,
                                     .give = range->give,
                                     .first = range->first + (range->count - count),
                                     .count = count};
        range->count -= count;
        left -= count;
        if (range->count == 0)
            process->ranges_count--;
        fake_step(f, &event);
    }
    struct worker_event end = {.kind = WORKER_PROCESS_TAKEN, .process = number};
    fake_step(f, &end);
}

FAKE void fake_answer_sample(struct fake *f, uint64_t number)
{
    struct fake_process *process = &f->processes[number];
    struct worker_event event = {.kind = WORKER_PROCESS_SAMPLED, .process = number};
    process->asked_sample = false;
    if (process->ranges_count > 0) {
        event.running = true;
        event.first = process->ranges[0].first;
        event.give = process->ranges[0].give;
        event.began_ms = process->began_ms;
        event.share_ppm = process->share_ppm;
        event.cpu_ms = process->cpu_ms;
        event.memory_bytes = process->memory_bytes;
    }
    fake_step(f, &event);
}

/* FLUSH, and what the host answers at once, until nothing more is due. */
FAKE void fake_settle(struct fake *f)
{
    bool more = true;
    for (int rounds = 0; more; rounds++) {
        assert_true(rounds < 1000); /* else the core goes round in circles */
        more = false;
        fake_event(f, WORKER_FLUSH);
        for (uint64_t n = 1; n <= f->processes_max; n++) {
            if (f->processes[n].asked_back || f->processes[n].asked_sample)
                more = true;
            if (f->processes[n].asked_back)
                fake_answer_back(f, n);
            if (f->processes[n].asked_sample)
                fake_answer_sample(f, n);
        }
        if (worker_core_deadline(f->core) <= f->now)
            more = true;
    }
}

FAKE void fake_pass(struct fake *f, uint64_t ms)
{
    f->now += ms;
    fake_settle(f);
}

FAKE void fake_ready(struct fake *f, uint64_t number)
{
    struct worker_event event = {
        .kind = WORKER_PROCESS_READY, .process = number, .pid = 1000 + (int)number};
    assert_true(f->processes[number].started && !f->processes[number].ready);
    f->processes[number].ready = true;
    fake_step(f, &event);
}

/* Every started process becomes ready, until no more are started. */
FAKE void fake_ready_all(struct fake *f)
{
    fake_settle(f);
    for (uint64_t n = 1; n <= f->processes_max; n++) {
        struct fake_process *process = &f->processes[n];
        if (!process->ready && !process->killed && !process->gone)
            fake_ready(f, n);
    }
    fake_settle(f);
}

FAKE void fake_advance(struct fake_process *process, uint32_t count)
{
    assert_true(process->ranges_count > 0 && count <= process->ranges[0].count);
    process->ranges[0].first += count;
    process->ranges[0].count -= count;
    process->ran += count;
    if (process->ranges[0].count == 0)
        memmove(process->ranges, process->ranges + 1,
                --process->ranges_count * sizeof process->ranges[0]);
}

/* The process has finished `count` tasks, at most those of its first give. The outputs
 * are `size` bytes each. */
FAKE void fake_done(struct fake *f, uint64_t number, uint32_t count, uint64_t task_ns,
                    size_t size)
{
    struct fake_process *process = &f->processes[number];
    assert_true(process->ranges_count > 0);
    if (count > process->ranges[0].count)
        count = process->ranges[0].count;
    struct worker_event event = {.kind = WORKER_PROCESS_DONE,
                                 .process = number,
                                 .give = process->ranges[0].give,
                                 .first = process->ranges[0].first,
                                 .count = count,
                                 .elapsed_ns = task_ns * count};
    if (size > 0)
        event.data = payload_create(size * count);
    if (size > 0)
        memset(payload_bytes(event.data), 7, size * count);
    fake_advance(process, count);
    process->began_ms = f->now;
    fake_step(f, &event);
}

/* The process finishes so many tasks one after the other, without outputs. */
FAKE void fake_finish(struct fake *f, uint64_t number, int tasks, uint64_t task_ns)
{
    for (int i = 0; i < tasks; i++) {
        fake_done(f, number, 1, task_ns, 0);
        fake_settle(f);
    }
}

FAKE void fake_failed(struct fake *f, uint64_t number, int code, const char *text)
{
    struct fake_process *process = &f->processes[number];
    struct worker_event event = {.kind = WORKER_PROCESS_FAILED,
                                 .process = number,
                                 .give = process->ranges[0].give,
                                 .first = process->ranges[0].first,
                                 .code = code,
                                 .text = text,
                                 .backtrace = "frame 0\nframe 1"};
    fake_advance(process, 1);
    process->began_ms = f->now;
    fake_step(f, &event);
}

/* Its task waits for others, or no longer. */
FAKE void fake_blocked(struct fake *f, uint64_t number, bool is)
{
    struct worker_event event = {.kind = is ? WORKER_PROCESS_BLOCKED
                                            : WORKER_PROCESS_UNBLOCKED,
                                 .process = number};
    fake_step(f, &event);
}

/* It has ended; `running`: it was in its first task. */
FAKE void fake_gone(struct fake *f, uint64_t number, bool running, int signal, int code,
                    const char *text)
{
    struct fake_process *process = &f->processes[number];
    struct worker_event event = {.kind = WORKER_PROCESS_GONE,
                                 .process = number,
                                 .pid = 1000 + (int)number,
                                 .signal = signal,
                                 .exit_status = signal ? -1 : 3,
                                 .code = code,
                                 .text = text};
    assert_true(process->started && !process->gone);
    if (running) {
        assert_true(process->ranges_count > 0);
        event.running = true;
        event.give = process->ranges[0].give;
        event.first = process->ranges[0].first;
    }
    process->gone = true;
    process->ranges_count = 0;
    process->asked_back = process->asked_sample = false;
    fake_step(f, &event);
}

/* Those that were told to end, or were killed, do so. */
FAKE void fake_reap(struct fake *f)
{
    for (uint64_t n = 1; n <= f->processes_max; n++) {
        struct fake_process *process = &f->processes[n];
        if (!process->gone && (process->killed || process->closing))
            fake_gone(f, n, process->ranges_count > 0, process->killed ? 9 : 0, 0, NULL);
    }
    fake_settle(f);
}

FAKE uint64_t fake_alive(const struct fake *f)
{
    uint64_t count = 0;
    for (uint64_t n = 1; n <= f->processes_max; n++)
        count += f->processes[n].started && !f->processes[n].gone;
    return count;
}

FAKE uint64_t fake_running(const struct fake *f)
{
    uint64_t count = 0;
    for (uint64_t n = 1; n <= f->processes_max; n++)
        count += f->processes[n].ranges_count > 0;
    return count;
}

FAKE uint64_t fake_given(const struct fake *f, uint64_t number)
{
    uint64_t count = 0;
    for (size_t i = 0; i < f->processes[number].ranges_count; i++)
        count += f->processes[number].ranges[i].count;
    return count;
}

#endif
