/* SPDX-License-Identifier: Apache-2.0
 *
 * host_fixture.h: a host with processes that are this test program itself, and a record
 * of what it delivered. A test's main calls farpool_init first, as any program. */
#ifndef FARPOOL_TESTS_HOST_FIXTURE_H
#define FARPOOL_TESTS_HOST_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/error.h"
#include "common/base/mem.h"
#include "common/base/span.h"
#include "common/sys/sys.h"
#include "worker/host.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATIENCE_MS 20000

/* Whether this build's code is several times as long. */
#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

struct told {
    struct worker_event event; /* text and backtrace: as below */
    char text[1024], backtrace[4096];
};

struct fixture {
    struct host *host;
    struct told *told;
    size_t told_count, told_capacity;
    size_t read; /* events looked at */
    char output[65536], owned[65536];
    uint64_t output_bytes;
    struct frames relayed[16];
    size_t relayed_count;
    unsigned relays_refused; /* so many that are still to be, as for want of memory */
};

static const struct hash fixture_program = {{1, 2, 3}};

/* Each line as PROCESS/FD:LINE, and with whose it is as PROCESS/FD/FIRST+COUNT:LINE, or
 * PROCESS/FD/-:LINE. */
static inline void fixture_output(struct fixture *fixture,
                                  const struct worker_event *event)
{
    const char *at = event->output, *end = at + event->output_bytes;
    char owner[64] = "-";
    assert_int_equal(end[-1], '\n');
    if (event->count > 0)
        snprintf(owner, sizeof owner, "%d+%u", (int)event->first, event->count);
    while (at < end) {
        const char *line_end = memchr(at, '\n', (size_t)(end - at));
        size_t used = strlen(fixture->output), owned = strlen(fixture->owned);
        snprintf(fixture->output + used, sizeof fixture->output - used, "%d/%d:%.*s\n",
                 (int)event->process, event->fd, (int)(line_end - at), at);
        snprintf(fixture->owned + owned, sizeof fixture->owned - owned, "%d/%d/%s:%.*s\n",
                 (int)event->process, event->fd, owner, (int)(line_end - at), at);
        at = line_end + 1;
    }
    fixture->output_bytes += event->output_bytes;
}

static inline bool fixture_relay(void *user, uint64_t process, struct frames *frames)
{
    struct fixture *fixture = user;
    (void)process;
    if (fixture->relays_refused > 0) {
        fixture->relays_refused--;
        return false;
    }
    assert_true(fixture->relayed_count < 16);
    fixture->relayed[fixture->relayed_count++] = *frames;
    *frames = (struct frames){0};
    return true;
}

static inline void fixture_deliver(void *user, struct worker_event *event)
{
    struct fixture *fixture = user;
    if (event->kind == WORKER_PROCESS_OUTPUT) {
        fixture_output(fixture, event);
        return;
    }
    if (fixture->told_count == fixture->told_capacity) {
        fixture->told_capacity = fixture->told_capacity * 2 + 64;
        fixture->told =
            realloc(fixture->told, fixture->told_capacity * sizeof *fixture->told);
        assert_non_null(fixture->told);
    }
    struct told *told = &fixture->told[fixture->told_count++];
    told->event = *event;
    event->sizes = event->data = NULL;
    snprintf(told->text, sizeof told->text, "%s", event->text != NULL ? event->text : "");
    snprintf(told->backtrace, sizeof told->backtrace, "%s",
             event->backtrace != NULL ? event->backtrace : "");
}

/* `config` tells what is not the fixture's own. */
static inline void fixture_open_config(struct fixture *fixture, struct host_config config,
                                       const char *path, const char *folder)
{
    farpool_error error;
    config.node = "here";
    config.on_relay = fixture_relay;
    config.user = fixture;
    memset(fixture, 0, sizeof *fixture);
    if (host_create(&config, &fixture->host, &error) != 0)
        fail_msg("%s", error.text);
    assert_int_equal(host_set_program(fixture->host, &fixture_program, path, folder), 0);
}

static inline void fixture_open_with(struct fixture *fixture, const char *path,
                                     const char *folder, uint64_t payload_max,
                                     bool capture)
{
    const struct host_config config = {.capture_output = capture,
                                       .payload_max = payload_max};
    fixture_open_config(fixture, config, path, folder);
}

static inline void fixture_open(struct fixture *fixture)
{
    fixture_open_with(fixture, "/proc/self/exe", NULL, 64 << 20, true);
}

static inline void fixture_forget(struct fixture *fixture)
{
    for (size_t i = 0; i < fixture->told_count; i++) {
        payload_unref(&fixture->told[i].event.sizes);
        payload_unref(&fixture->told[i].event.data);
    }
    fixture->told_count = fixture->read = 0;
}

static inline void fixture_close(struct fixture *fixture)
{
    host_destroy(fixture->host);
    fixture_forget(fixture);
    free(fixture->told);
    for (size_t i = 0; i < fixture->relayed_count; i++)
        frames_fini(&fixture->relayed[i]);
}

/* Waits for one more event at the latest until the deadline; false: it came. */
static inline bool fixture_step(struct fixture *fixture, uint64_t deadline_ms)
{
    struct pollfd wait = {.fd = host_fd(fixture->host), .events = POLLIN};
    uint64_t now_ms = sys_now_ms();
    if (host_poll(fixture->host, now_ms, fixture_deliver, fixture) > 0)
        return true;
    if (now_ms >= deadline_ms)
        return false;
    if (host_sleep(fixture->host)) {
        poll(&wait, 1, (int)(deadline_ms - now_ms));
        host_wake(fixture->host);
    }
    return true;
}

/* The next event not looked at yet, waited for; fails the test when none comes. */
static inline struct told *fixture_next(struct fixture *fixture)
{
    uint64_t deadline_ms = sys_now_ms() + PATIENCE_MS;
    while (fixture->read == fixture->told_count)
        if (!fixture_step(fixture, deadline_ms))
            fail_msg("no event came");
    return &fixture->told[fixture->read++];
}

static inline struct told *fixture_expect(struct fixture *fixture,
                                          enum worker_event_kind kind)
{
    struct told *told = fixture_next(fixture);
    if (told->event.kind != kind)
        fail_msg("event %d instead of %d: code %d, %s", told->event.kind, kind,
                 told->event.code, told->text);
    return told;
}

static inline void fixture_effect(struct fixture *fixture, enum worker_effect_kind kind,
                                  uint64_t process, struct worker_effect *ret_effect)
{
    (void)fixture;
    memset(ret_effect, 0, sizeof *ret_effect);
    ret_effect->kind = kind;
    ret_effect->process = process;
    ret_effect->program = fixture_program;
}

static inline void fixture_start(struct fixture *fixture, uint64_t process,
                                 const char *initializer, const char *argument)
{
    struct worker_effect effect;
    fixture_effect(fixture, WORKER_PROCESS_START, process, &effect);
    if (initializer != NULL)
        snprintf(effect.name, sizeof effect.name, "%s", initializer);
    if (argument != NULL)
        effect.data = payload_copy(argument, strlen(argument));
    host_apply(fixture->host, &effect);
    host_wake_processes(fixture->host);
}

static inline void fixture_start_ready(struct fixture *fixture, uint64_t process)
{
    fixture_start(fixture, process, NULL, NULL);
    fixture_expect(fixture, WORKER_PROCESS_READY);
}

struct giving {
    uint64_t process, give, first;
    const char *function;
    uint32_t count, claim, publish, publish_us;
    uint64_t timeout_ms;
    const void *data;
    size_t size;
    const uint32_t *sizes; /* or NULL */
};

/* Tasks for process 1, in give 1 from index 0 on, each claimed and published alone: a
 * test changes what it is about. */
static inline struct giving giving_of(const char *function, uint32_t count,
                                      const void *data, size_t size)
{
    return (struct giving){.process = 1,
                           .give = 1,
                           .function = function,
                           .count = count,
                           .claim = 1,
                           .publish = 1,
                           .publish_us = 1000,
                           .data = data,
                           .size = size};
}

static inline void fixture_give(struct fixture *fixture, const struct giving *giving)
{
    struct worker_effect effect;
    fixture_effect(fixture, WORKER_PROCESS_GIVE, giving->process, &effect);
    snprintf(effect.name, sizeof effect.name, "%s", giving->function);
    effect.give = giving->give;
    effect.job = 7;
    effect.claim = giving->claim;
    effect.publish = giving->publish;
    effect.publish_us = giving->publish_us;
    effect.timeout_ms = giving->timeout_ms;
    effect.span.first = giving->first;
    effect.span.count = giving->count;
    effect.span.attempt = 3;
    effect.span.data = payload_copy(giving->data, giving->size);
    if (giving->sizes != NULL)
        effect.span.sizes =
            payload_copy(giving->sizes, giving->count * sizeof *giving->sizes);
    host_apply(fixture->host, &effect);
    host_wake_processes(fixture->host);
}

static inline void fixture_do(struct fixture *fixture, enum worker_effect_kind kind,
                              uint64_t process, uint64_t count)
{
    struct worker_effect effect;
    fixture_effect(fixture, kind, process, &effect);
    effect.count = count;
    host_apply(fixture->host, &effect);
    host_wake_processes(fixture->host);
}

/* Waits until the process runs something, and returns that SAMPLED event. */
static inline struct told *fixture_running(struct fixture *fixture, uint64_t process)
{
    uint64_t deadline_ms = sys_now_ms() + PATIENCE_MS;
    while (sys_now_ms() < deadline_ms) {
        fixture_do(fixture, WORKER_PROCESS_SAMPLE, process, 0);
        struct told *told = fixture_expect(fixture, WORKER_PROCESS_SAMPLED);
        if (told->event.running)
            return told;
    }
    fail_msg("nothing runs");
    return NULL;
}

static inline void fixture_cancel(struct fixture *fixture, uint64_t process,
                                  uint64_t give, uint64_t first, uint64_t count)
{
    struct worker_effect effect;
    fixture_effect(fixture, WORKER_PROCESS_CANCEL, process, &effect);
    effect.give = give;
    effect.first = first;
    effect.count = count;
    host_apply(fixture->host, &effect);
    host_wake_processes(fixture->host);
}

/* Reads results of a give, in order, until `count` tasks have ended; outputs go one
 * behind the other to `outputs` (NULL: nowhere). */
static inline void fixture_collect(struct fixture *fixture, uint64_t give, uint64_t first,
                                   uint32_t count, void *outputs, size_t room)
{
    size_t used = 0;
    for (uint32_t done = 0; done < count;) {
        struct told *told = fixture_expect(fixture, WORKER_PROCESS_DONE);
        assert_int_equal(told->event.give, give);
        assert_int_equal(told->event.first, first + done);
        struct msg_span span = {.first = told->event.first,
                                .count = told->event.count,
                                .attempt = 1,
                                .sizes = told->event.sizes,
                                .data = told->event.data};
        assert_true(span_valid(&span));
        const struct payload *data = told->event.data;
        if (outputs != NULL && data != NULL) {
            assert_true(used + data->size <= room);
            memcpy((char *)outputs + used, data->data, data->size);
            used += data->size;
        }
        done += told->event.count;
    }
}

/* Runs one task alone, with a byte as its input, and takes its output. */
static inline void fixture_run_one(struct fixture *fixture, const char *function,
                                   void *output, size_t room)
{
    uint8_t input = 0;
    struct giving giving = giving_of(function, 1, &input, 1);
    fixture_give(fixture, &giving);
    fixture_collect(fixture, 1, 0, 1, output, room);
}

/* ---------------------------------------------- a test that gets all of it ready made */

/* *state is a fixture whose process 1 is ready. */
static inline int fixture_set_up(void **state)
{
    static struct fixture fixture;
    *state = &fixture;
    fixture_open(&fixture);
    fixture_start_ready(&fixture, 1);
    return 0;
}

static inline int fixture_tear_down(void **state)
{
    fixture_close(*state);
    return 0;
}

#define FIXTURE_TEST(name)                                                               \
    cmocka_unit_test_setup_teardown(name, fixture_set_up, fixture_tear_down)

#endif
