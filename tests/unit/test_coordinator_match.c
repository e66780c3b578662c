/* SPDX-License-Identifier: Apache-2.0
 *
 * test_coordinator_match.c: which tasks go where and how many: fair shares, priority, the
 * least loaded worker, the ramp, long tasks, windows, chunks, batches. What is called
 * back is in test_coordinator_recall.c. */
#include "tests/unit/coordinator_script.h"

#define MS 1000000u /* in ns */

/* What a worker was given and has not done, in order. */
struct queue {
    struct {
        uint8_t pool;
        uint64_t job;
        struct msg_range range;
    } items[4096];
    size_t first, count;
    uint64_t tasks;
};

static void queue_take(struct script *script, uint64_t link, struct queue *queue)
{
    struct coordinator_effect *effect;
    while ((effect = script_next(script, link, MESSAGE_NONE))) {
        assert_int_equal(effect->kind, COORDINATOR_SEND);
        const struct message *message = effect->message;
        effect->link = 0;
        for (uint32_t i = 0; message->kind == MSG_TASKS && i < message->tasks.spans_count;
             i++) {
            const size_t place = (queue->first + queue->count++) % 4096;
            assert_true(queue->count <= 4096);
            queue->items[place].pool = message->tasks.pool.bytes[0];
            queue->items[place].job = message->tasks.job;
            queue->items[place].range = (struct msg_range){
                message->tasks.spans[i].first, message->tasks.spans[i].count, 1};
            queue->tasks += message->tasks.spans[i].count;
        }
    }
}

/* The worker ends its oldest `most` tasks of one span; whose pool's they were. */
static uint8_t queue_end(struct script *script, uint64_t link, uint8_t worker,
                         struct queue *queue, uint32_t most, uint64_t task_ns)
{
    assert_true(queue->count > 0);
    const size_t place = queue->first % 4096;
    struct msg_range *range = &queue->items[place].range;
    const uint32_t count = range->count < most ? (uint32_t)range->count : most;
    const uint8_t pool = queue->items[place].pool;
    script_say(script, link,
               done(script, worker, pool, queue->items[place].job, range->first, count,
                    task_ns));
    range->first += count;
    range->count -= count;
    queue->tasks -= count;
    if (!range->count) {
        queue->first++;
        queue->count--;
    }
    return pool;
}

/* ------------------------------------------------------------------ how many */

static void test_ramp(void **state)
{
    struct script *script = *state;
    struct queue queue = {.first = 0};
    const uint64_t worker = add_worker(script, 10, 2), client = add_pool(script, 1, 1);
    script_say_last(script, client, tasks(1, 1, 0, 1000000));
    queue_take(script, worker, &queue);
    assert_int_equal(queue.tasks, 4); /* two a slot */
    uint64_t last = 4;
    for (int result = 0; result < 14; result++) {
        queue_end(script, worker, 10, &queue, 1 << 20, 100);
        script_flush(script);
        queue_take(script, worker, &queue);
        assert_true(queue.tasks <= 2 * last + 4);
        last = queue.tasks;
        script_forget(script);
    }
    /* Tasks of 100 ns: 10 ms of them a slot is 200,000, in few spans. */
    assert_true(queue.tasks > 50000);
    assert_true(queue.tasks <= 200000);
    assert_true(queue.items[(queue.first + queue.count - 1) % 4096].range.count > 20000);
    /* Another job of the same function begins where this one is. */
    struct message *open = job_open(1, 2, 1, 0);
    snprintf(open->job_open.function, sizeof open->job_open.function, "f1_1");
    script_say(script, client, open);
    script_say_last(script, client, tasks(1, 2, 0, 40000));
    assert_true(script_given(script, worker) > 10000);
}

static void test_long_tasks(void **state)
{
    struct script *script = *state;
    struct queue queues[2] = {{.first = 0}, {.first = 0}};
    const uint64_t workers[2] = {add_worker(script, 10, 4), add_worker(script, 11, 4)};
    const uint64_t client = add_pool(script, 1, 1);
    script_say_last(script, client, tasks(1, 1, 0, 100));
    for (int round = 0; round < 20; round++) {
        for (uint8_t i = 0; i < 2; i++) {
            queue_take(script, workers[i], &queues[i]);
            assert_true(queues[i].tasks >= 4 && queues[i].tasks <= 8);
            queue_end(script, workers[i], 10 + i, &queues[i], 1, 3600000ull * MS);
        }
        script_flush(script);
    }
}

/* At a job's end nobody has a task waiting while another has none. */
static void test_even_end(void **state)
{
    struct script *script = *state;
    uint64_t links[4];
    for (uint8_t i = 0; i < 4; i++)
        links[i] = add_worker(script, 10 + i, 2);
    const uint64_t client = add_pool(script, 1, 1);
    script_say_last(script, client, tasks(1, 1, 0, 8));
    for (int i = 0; i < 4; i++)
        assert_int_equal(script_given(script, links[i]), 2);
    script_quiet(script);
}

/* Results come many at a time. Who tells first is not given the part of one that has
 * ended as much, and tells two milliseconds later: what is left is halved. */
static void test_even_parts(void **state)
{
    struct script *script = *state;
    struct queue queues[2] = {{.first = 0}, {.first = 0}};
    const uint64_t workers[2] = {add_worker(script, 10, 1), add_worker(script, 11, 1)};
    const uint64_t client = add_pool(script, 1, 1);
    uint64_t left = 4000;
    script_say_last(script, client, tasks(1, 1, 0, 4000));
    for (uint8_t i = 0; i < 2; i++)
        queue_take(script, workers[i], &queues[i]);
    while (left > 2000) { /* two seconds for two slots: the rest is dealt out at once */
        script_pass(script, queues[0].tasks);
        for (uint8_t i = 0; i < 2; i++) {
            left -= queues[i].tasks;
            while (queues[i].tasks)
                queue_end(script, workers[i], 10 + i, &queues[i], 4000, MS);
            script_flush(script);
            queue_take(script, workers[i], &queues[i]);
            script_pass(script, 2);
        }
    }
    assert_true(left > 1000);
    for (int i = 0; i < 2; i++)
        assert_in_range(queues[i].tasks, left / 2 - 4, left / 2 + 4);
}

static void test_least_loaded(void **state)
{
    struct script *script = *state;
    const uint64_t small = add_worker(script, 10, 1), large = add_worker(script, 11, 4);
    const uint64_t client = add_pool(script, 1, 6);
    uint64_t given[2] = {0, 0};
    for (uint64_t job = 1; job <= 5; job++) { /* as many as there are slots */
        script_say_last(script, client, tasks(1, job, 0, 1));
        given[0] += script_given(script, small);
        given[1] += script_given(script, large);
    }
    assert_int_equal(given[0], 1);
    assert_int_equal(given[1], 4);
    script_say(script, large, done(script, 11, 1, 2, 0, 1, 50 * MS));
    script_say(script, client, tasks(1, 6, 0, 1));
    script_forget(script);
    script_flush(script);
    assert_int_equal(script_given(script, large), 1); /* it has an idle slot */
}

static void test_chunks(void **state)
{
    struct script *script = *state;
    const uint64_t links[2] = {add_worker(script, 10, 1), add_worker(script, 11, 1)};
    const uint64_t client = add_client(script, 1);
    script_say(script, client, pool_open(1, 0));
    script_say(script, client, job_open(1, 1, 0, 1000));
    script_say_last(script, client, tasks(1, 1, 0, 3500));
    for (int i = 0; i < 2; i++) {
        struct coordinator_effect *effect;
        while ((effect = script_next(script, links[i], MESSAGE_NONE))) {
            const struct message *message = effect->message;
            effect->link = 0;
            for (uint32_t k = 0;
                 message->kind == MSG_TASKS && k < message->tasks.spans_count; k++) {
                const struct msg_span *span = &message->tasks.spans[k];
                assert_int_equal(span->first % 1000, 0);
                assert_true(span->count == 1000 || span->first + span->count == 3500);
            }
        }
    }
    assert_true(script_counts(script).assigned >= 2000);
}

/* --------------------------------------------------------------- fair shares */

/* Two pools on one worker whose window holds eight tasks: who is given what. */
static void run_fair(uint64_t first_ns, uint64_t second_ns, uint64_t *ret_done)
{
    struct script script = {.links = 0};
    struct queue queue = {.first = 0};
    script_begin(&script);
    script.worker_tasks = 8;
    const uint64_t worker = add_worker(&script, 10, 4);
    const uint64_t clients[2] = {add_pool(&script, 1, 1), add_pool(&script, 2, 1)};
    script_say(&script, clients[0], tasks(1, 1, 0, 4000));
    script_flush(&script);
    queue_take(&script, worker, &queue);
    script_say(&script, clients[1], tasks(2, 1, 0, 4000));
    for (int round = 0; round < 1000; round++) {
        script_flush(&script);
        queue_take(&script, worker, &queue);
        assert_true(queue.tasks <= 8);
        script_forget(&script);
        const uint8_t next = queue.items[queue.first % 4096].pool;
        ret_done[next - 1]++;
        queue_end(&script, worker, 10, &queue, 1, next == 1 ? first_ns : second_ns);
        script_forget(&script);
    }
    script_end(&script);
}

static void test_fair_pools(void **state)
{
    uint64_t ended[2] = {0, 0};
    (void)state;
    run_fair(20 * MS, 20 * MS, ended);
    assert_int_equal(ended[0] + ended[1], 1000);
    assert_in_range(ended[0], 450, 550);
}

/* Fair in work, not in tasks: tasks of half the length are twice as many. */
static void test_fair_work(void **state)
{
    uint64_t ended[2] = {0, 0};
    (void)state;
    run_fair(20 * MS, 10 * MS, ended);
    const uint64_t first_work = ended[0] * 20, second_work = ended[1] * 10;
    assert_in_range(first_work * 100 / (first_work + second_work), 35, 65);
}

/* A pool that comes late finds room at once, however much another has waiting. */
static void test_newcomer(void **state)
{
    struct script *script = *state;
    const uint64_t worker = add_worker(script, 10, 2), old = add_pool(script, 1, 1);
    script_say_last(script, old, tasks(1, 1, 0, 100000));
    script_given(script, worker);
    const uint64_t late = add_pool(script, 2, 1);
    script_say_last(script, late, tasks(2, 1, 0, 1));
    assert_int_equal(script_given(script, worker), 1);
}

/* Where all slots are in use, a pool's small jobs are spread by what it has at each
 * worker, not by what others have there. */
static void test_small_jobs_everywhere(void **state)
{
    struct script *script = *state;
    uint64_t workers[2] = {add_worker(script, 10, 2), 0};
    script_say_last(script, add_pool(script, 1, 1), tasks(1, 1, 0, 4));
    assert_int_equal(script_given(script, workers[0]), 4);
    workers[1] = add_worker(script, 11, 2);
    script_say_last(script, add_pool(script, 3, 1), tasks(3, 1, 0, 2));
    assert_int_equal(script_given(script, workers[1]), 2);
    script_forget(script);
    const uint64_t client = add_pool(script, 2, 8);
    for (uint64_t job = 1; job <= 8; job++)
        script_say(script, client, tasks(2, job, 0, 1));
    script_flush(script);
    assert_int_equal(script_given(script, workers[0]), 4);
    assert_int_equal(script_given(script, workers[1]), 4);
}

/* One small job after the other goes to each worker in turn, since a worker serves at
 * once whom it has not served for long. */
static void test_small_jobs_in_turn(void **state)
{
    struct script *script = *state;
    uint64_t workers[3], turns[3] = {0, 0, 0};
    for (uint8_t i = 0; i < 3; i++)
        workers[i] = add_worker(script, (uint8_t)(10 + i), 1);
    script_say_last(script, add_pool(script, 1, 1), tasks(1, 1, 0, 6));
    for (int i = 0; i < 3; i++)
        script_given(script, workers[i]);
    const uint64_t client = add_pool(script, 2, 12);
    for (uint64_t job = 1; job <= 12; job++) {
        script_say_last(script, client, tasks(2, job, 0, 1));
        for (uint8_t i = 0; i < 3; i++)
            if (script_given(script, workers[i])) {
                assert_int_equal(turns[i]++, (job - 1) / 3);
                script_say(script, workers[i],
                           done(script, (uint8_t)(10 + i), 2, job, 0, 1, 20 * MS));
            }
        script_flush(script);
        script_forget(script);
    }
    assert_int_equal(turns[0] + turns[1] + turns[2], 12);
}

static void test_priority(void **state)
{
    struct script *script = *state;
    struct queue queue = {.first = 0};
    const uint64_t worker = add_worker(script, 10, 2), client = add_pool(script, 1, 0);
    script_say(script, client, job_open(1, 1, 0, 0));
    script_say(script, client, job_open(1, 2, 7, 0));
    script_say(script, client, job_open(1, 3, 7, 0));
    for (uint64_t job = 1; job <= 3; job++)
        script_say(script, client, tasks(1, job, 0, 20));
    uint64_t order[60];
    for (int i = 0; i < 60; i++) {
        script_flush(script);
        queue_take(script, worker, &queue);
        script_forget(script);
        order[i] = queue.items[queue.first % 4096].job;
        queue_end(script, worker, 10, &queue, 1, 100 * MS);
        script_forget(script);
    }
    for (int i = 0; i < 60; i++) /* highest first, then the oldest */
        assert_int_equal(order[i], i < 20 ? 2 : i < 40 ? 3 : 1);
    /* An urgent job does not wait for room behind less urgent ones. */
    script_say_last(script, client, tasks(1, 1, 100, 50));
    script_given(script, worker);
    script_say_last(script, client, tasks(1, 2, 100, 1));
    assert_int_equal(script_given(script, worker), 1);
}

/* ------------------------------------------------------------------- windows */

static void test_client_window(void **state)
{
    struct script script = {.config = {.workers_max = 0}};
    (void)state;
    coordinator_config_init(&script.config);
    script.config.client_tasks_max = 10;
    script.config.client_bytes_max = 100;
    script_begin(&script);
    const uint64_t worker = add_worker(&script, 10, 1), client = add_pool(&script, 1, 1);
    script_say_last(&script, client, tasks(1, 1, 0, 10));
    script_given(&script, worker);
    /* What has ended leaves the window, whichever way. */
    script_say(&script, worker, done(&script, 10, 1, 1, 0, 1, 5));
    script_say(&script, client, cancel(1, 1, 1, 1));
    script_say(&script, client, tasks(1, 1, 10, 2));
    script_forget(&script);
    script_flush(&script);
    assert_true(script_is_quiet(&script, client));
    assert_int_equal(script_counts(&script).waiting + script_counts(&script).assigned,
                     10);
    script_say(&script, client, cancel(1, 1, 0, 100));
    /* One task larger than the window, when nothing else is under way. */
    script_say(&script, client, tasks_try(1, 1, 20, 1, 1000, 1));
    script_forget(&script);
    script_flush(&script);
    assert_true(script_is_quiet(&script, client));
    script_say(&script, client, tasks_try(1, 1, 21, 1, 1, 1));
    script_dropped(&script, client, FARPOOL_EPROTOCOL);
    script_end(&script);
}

static void test_worker_window(void **state)
{
    struct script *script = *state;
    struct queue queue = {.first = 0};
    script->worker_bytes = 100;
    const uint64_t worker = add_worker(script, 10, 8), client = add_pool(script, 1, 1);
    script_say_last(script, client, tasks_try(1, 1, 0, 100, 30, 1));
    queue_take(script, worker, &queue);
    assert_int_equal(queue.tasks, 3);
    for (int i = 0; i < 10; i++) {
        queue_end(script, worker, 10, &queue, 1, 5);
        script_flush(script);
        queue_take(script, worker, &queue);
        assert_int_equal(queue.tasks, 3);
        script_forget(script);
    }
}

/* A task larger than a worker's window goes there when it is empty, and small ones of
 * others do not keep it out for ever. */
static void test_oversize(void **state)
{
    struct script *script = *state;
    struct queue queue = {.first = 0};
    script->worker_bytes = 100;
    const uint64_t worker = add_worker(script, 10, 2);
    const uint64_t small = add_pool(script, 1, 1), large = add_pool(script, 2, 1);
    script_say_last(script, small, tasks_try(1, 1, 0, 1000, 10, 1));
    queue_take(script, worker, &queue);
    script_say(script, large, tasks_try(2, 1, 0, 2, 500, 1));
    bool came = false;
    for (int i = 0; i < 50 && !came; i++) {
        script_flush(script);
        queue_take(script, worker, &queue);
        script_forget(script);
        came = queue_end(script, worker, 10, &queue, 1, 5 * MS) == 2;
        script_forget(script);
    }
    assert_true(came);
}

static void test_tasks_window(void **state)
{
    struct script *script = *state;
    script->worker_tasks = 3;
    const uint64_t worker = add_worker(script, 10, 8), client = add_pool(script, 1, 1);
    script_say_last(script, client, tasks(1, 1, 0, 100));
    assert_int_equal(script_given(script, worker), 3);
    script_say(script, worker, done(script, 10, 1, 1, 1, 2, 5));
    script_forget(script);
    script_flush(script);
    assert_int_equal(script_given(script, worker), 2);
}

/* What waited for room is given up, room is made, and the next job comes, all at once: it
 * is not taken for one that finds none. */
static void test_room_while_nothing_is_ready(void **state)
{
    struct script *script = *state;
    script->worker_tasks = 1;
    const uint64_t worker = add_worker(script, 10, 4);
    const uint64_t first = add_pool(script, 1, 1), second = add_pool(script, 2, 1);
    script_say_last(script, first, tasks(1, 1, 0, 1));
    assert_int_equal(script_given(script, worker), 1);
    script_say_last(script, second, tasks(2, 1, 0, 1));
    assert_int_equal(script_given(script, worker), 0);
    script_say(script, second, job_close(2, 1));
    script_say(script, worker, done(script, 10, 1, 1, 0, 1, MS));
    script_say(script, second, job_open(2, 2, 0, 0));
    script_say_last(script, second, tasks(2, 2, 0, 1));
    assert_int_equal(script_given(script, worker), 1);
}

/* -------------------------------------------------------------------- batches */

static void test_one_message(void **state)
{
    struct script *script = *state;
    const uint64_t worker = add_worker(script, 10, 100), client = add_pool(script, 1, 1);
    for (uint64_t i = 0; i < 130; i++)
        script_say(script, client, tasks(1, 1, i, 1));
    script_flush(script);
    script_take(script, worker, MSG_POOL_OPEN);
    script_take(script, worker, MSG_JOB_OPEN);
    assert_int_equal(script_take(script, worker, MSG_TASKS)->tasks.spans_count,
                     SPANS_MAX);
    assert_int_equal(script_take(script, worker, MSG_TASKS)->tasks.spans_count,
                     SPANS_MAX);
    assert_int_equal(script_take(script, worker, MSG_TASKS)->tasks.spans_count, 2);
    script_quiet(script);
}

static void test_message_bytes(void **state)
{
    struct script *script = *state;
    const uint64_t worker = add_worker(script, 10, 100), client = add_pool(script, 1, 1);
    script_say(script, client, tasks_try(1, 1, 0, 10, 400000, 1));
    script_say_last(script, client, tasks_try(1, 1, 10, 1, 3000000, 1));
    script_take(script, worker, MSG_POOL_OPEN);
    script_take(script, worker, MSG_JOB_OPEN);
    for (int i = 0; i < 5; i++) {
        const struct message *message = script_take(script, worker, MSG_TASKS);
        assert_int_equal(tasks_in(message), 2);
        assert_int_equal(message_body_bytes(message), 800000);
    }
    assert_int_equal(message_body_bytes(script_take(script, worker, MSG_TASKS)), 3000000);
    script_quiet(script);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCRIPT_TEST(test_ramp),
        SCRIPT_TEST(test_long_tasks),
        SCRIPT_TEST(test_even_end),
        SCRIPT_TEST(test_even_parts),
        SCRIPT_TEST(test_least_loaded),
        SCRIPT_TEST(test_chunks),
        cmocka_unit_test(test_fair_pools),
        cmocka_unit_test(test_fair_work),
        SCRIPT_TEST(test_newcomer),
        SCRIPT_TEST(test_priority),
        cmocka_unit_test(test_client_window),
        SCRIPT_TEST(test_worker_window),
        SCRIPT_TEST(test_oversize),
        SCRIPT_TEST(test_tasks_window),
        SCRIPT_TEST(test_room_while_nothing_is_ready),
        SCRIPT_TEST(test_one_message),
        SCRIPT_TEST(test_message_bytes),
        SCRIPT_TEST(test_small_jobs_everywhere),
        SCRIPT_TEST(test_small_jobs_in_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
