/* SPDX-License-Identifier: Apache-2.0
 *
 * test_host_memory.c: the i-th allocation of the host fails, for all i; and outputs are
 * let go of by another thread while the process goes on. */
#include "tests/unit/host_fixture.h"

#include "farpool.h"

#include <pthread.h>
#include <sched.h>

#define TASKS 200
#define OUTPUT_BYTES 500000

/* Alternates between outputs in the ring and outputs in the arena, a failure now and
 * then. */
static int vary(farpool_task *task)
{
    uint64_t index = farpool_task_index(task);
    if (index % 40 == 7)
        return farpool_fail(task, "seven");
    size_t size = index % 20 == 3 ? OUTPUT_BYTES : index % 5;
    void *output = farpool_task_output(task, size);
    if (output == NULL)
        return -1;
    memset(output, (int)index, size);
    return 0;
}
FARPOOL_BYTES_FUNCTION(vary)

static struct worker_effect make_give(uint64_t give)
{
    struct worker_effect effect = {.kind = WORKER_PROCESS_GIVE,
                                   .process = 1,
                                   .give = give,
                                   .claim = 3,
                                   .publish = 9,
                                   .publish_us = 1000,
                                   .name = "vary"};
    effect.span = (struct msg_span){.first = 0, .count = TASKS, .attempt = 1};
    effect.span.data = payload_create(100 * TASKS); /* through the in arena */
    assert_non_null(effect.span.data);
    memset(payload_bytes(effect.span.data), 1, 100 * TASKS);
    return effect;
}

/* Reads until `tasks` have ended; false: the process was given up for want of memory. */
static bool read_results(struct fixture *fixture, uint32_t tasks)
{
    for (uint32_t ended = 0; ended < tasks;) {
        const struct told *told = fixture_next(fixture);
        if (told->event.kind == WORKER_PROCESS_GONE) {
            assert_int_equal(told->event.code, FARPOOL_ENOMEM);
            return false;
        }
        if (told->event.kind == WORKER_PROCESS_FAILED) {
            assert_int_equal(told->event.first % 40, 7);
            ended++;
        } else {
            assert_int_equal(told->event.kind, WORKER_PROCESS_DONE);
            assert_int_equal(told->event.first, ended);
            ended += told->event.count;
        }
    }
    return true;
}

static void every_allocation_may_fail(void **state)
{
    bool failed = true;
    size_t given_up = 0;
    (void)state;
    for (size_t n = 1; failed || n < 60; n++) {
        struct fixture fixture;
        struct worker_effect start = {.kind = WORKER_PROCESS_START, .process = 1};
        start.program = fixture_program;
        fixture_open(&fixture);
        struct worker_effect gives[2] = {make_give(1), make_give(2)};
        mem_fail_after(n);
        host_apply(fixture.host, &start);
        bool lives = fixture_next(&fixture)->event.kind == WORKER_PROCESS_READY;
        for (int g = 0; g < 2; g++) {
            host_apply(fixture.host, &gives[g]);
            assert_null(gives[g].span.data);
            lives = lives && read_results(&fixture, TASKS);
        }
        failed = mem_fail_after(0) >= n;
        given_up += !lives;
        fixture_close(&fixture);
        assert_true(n < 1000);
    }
    assert_true(given_up > 5);
}

struct bin {
    pthread_mutex_t lock;
    struct payload *payloads[64];
    size_t count;
    bool over;
};

static void *empty_the_bin(void *user)
{
    struct bin *bin = user;
    bool over = false;
    while (!over) {
        struct payload *payload = NULL;
        pthread_mutex_lock(&bin->lock);
        if (bin->count > 0)
            payload = bin->payloads[--bin->count];
        else
            over = bin->over;
        pthread_mutex_unlock(&bin->lock);
        if (payload == NULL)
            sched_yield();
        payload_unref(&payload);
    }
    return NULL;
}

/* More than the arena holds, so that the process waits for what the other thread does. */
static void another_thread_lets_go(void **state)
{
    struct fixture *fixture = *state;
    struct bin bin = {.lock = PTHREAD_MUTEX_INITIALIZER};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, empty_the_bin, &bin), 0);
    for (uint64_t round = 0; round < 100; round++) {
        struct worker_effect effect = make_give(round);
        host_apply(fixture->host, &effect);
        for (uint32_t ended = 0; ended < TASKS;) {
            struct worker_event *event = &fixture_next(fixture)->event;
            ended += event->kind == WORKER_PROCESS_DONE ? event->count : 1;
            if (event->data == NULL || event->data->size < OUTPUT_BYTES)
                continue;
            assert_int_equal(event->data->data[OUTPUT_BYTES - 1], (uint8_t)event->first);
            pthread_mutex_lock(&bin.lock);
            if (bin.count < 64) {
                bin.payloads[bin.count++] = event->data;
                event->data = NULL;
            }
            pthread_mutex_unlock(&bin.lock);
        }
        fixture_forget(fixture);
    }
    pthread_mutex_lock(&bin.lock);
    bin.over = true;
    pthread_mutex_unlock(&bin.lock);
    pthread_join(thread, NULL);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_may_fail),
        FIXTURE_TEST(another_thread_lets_go),
    };
    if (farpool_init(&argc, &argv) != 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
