/* SPDX-License-Identifier: Apache-2.0
 *
 * test_coordinator_link.c: hello, limits, silence and heartbeats, who may say what, and
 * what becomes of a peer that breaks a rule. */
#include "tests/unit/coordinator_script.h"

static void test_welcome(void **state)
{
    struct script script = {.config = {.workers_max = 0}};
    (void)state;
    coordinator_config_init(&script.config);
    script.config.client_tasks_max = 77;
    script.config.client_bytes_max = 88;
    script.config.result_bytes_max = 99;
    script_begin(&script);
    script_say(&script, 1, hello_client(1));
    const struct message *welcome = script_take(&script, 1, MSG_WELCOME);
    assert_int_equal(welcome->welcome.protocol, PROTOCOL_VERSION);
    assert_int_equal(welcome->welcome.tasks_max, 77);
    assert_int_equal(welcome->welcome.bytes_max, 88);
    assert_int_equal(welcome->welcome.silence_ms, 5000);
    assert_true(id_equal(&welcome->welcome.coordinator, &script.config.coordinator));
    script_say(&script, 2, hello_worker(&script, 2, 4));
    assert_int_equal(script_take(&script, 2, MSG_WELCOME)->welcome.bytes_max, 99);
    const struct coordinator_counts counts = script_counts(&script);
    assert_int_equal(counts.workers, 1);
    assert_int_equal(counts.clients, 1);
    script_end(&script);
}

static void test_version(void **state)
{
    struct script *script = *state;
    script->links = 2;
    struct message *hello = hello_client(1);
    hello->hello_client.protocol = PROTOCOL_VERSION + 1;
    script_say(script, 1, hello);
    script_refused(script, 1, FARPOOL_EVERSION);
    hello = hello_worker(script, 1, 2);
    hello->hello_worker.protocol = PROTOCOL_VERSION + 1;
    script_say(script, 2, hello);
    script_refused(script, 2, FARPOOL_EVERSION);
    script_quiet(script);
    assert_int_equal(script_counts(script).workers, 0);
}

static void over_limit(struct script *script, uint64_t link, int code)
{
    const struct message *message = script_refused(script, link, code);
    assert_non_null(strstr(message->refused.text, "limit"));
}

static void test_limits(void **state)
{
    struct script script = {.config = {.workers_max = 0}};
    (void)state;
    coordinator_config_init(&script.config);
    script.config.workers_max = 1;
    script.config.clients_max = 3;
    script.config.pools_max = 1;
    script.config.jobs_max = 2;
    script_begin(&script);
    add_worker(&script, 10, 1);
    script_say(&script, ++script.links, hello_worker(&script, 11, 1));
    over_limit(&script, script.links, FARPOOL_EWORKERLIMIT);
    const uint64_t owner = add_pool(&script, 1, 2);
    const uint64_t second = add_client(&script, 2);
    script_say(&script, second, pool_open(2, 0));
    over_limit(&script, second, FARPOOL_EFULL);
    add_client(&script, 3);
    add_client(&script, 4);
    script_say(&script, ++script.links, hello_client(5));
    over_limit(&script, script.links, FARPOOL_EFULL);
    script_say(&script, owner, job_open(1, 3, 0, 0));
    over_limit(&script, owner, FARPOOL_EFULL);
    script_flush(&script);
    script_quiet(&script);
    assert_int_equal(script_counts(&script).pools, 0);
    script_end(&script);
}

static void test_first_word(void **state)
{
    struct script *script = *state;
    script->links = 1;
    script_say(script, 1, tasks(1, 1, 0, 1));
    script_dropped(script, 1, FARPOOL_EPROTOCOL);
    /* What the same batch still brings is ignored. */
    script_say(script, 1, hello_client(1));
    script_say(script, 1, message_create(MSG_HEARTBEAT));
    script_down(script, 1);
    script_flush(script);
    script_quiet(script);
}

static void test_heartbeat(void **state)
{
    struct script *script = *state;
    const uint64_t client = add_client(script, 1), worker = add_worker(script, 2, 1);
    script_flush(script);
    script_forget(script);
    assert_int_equal(coordinator_core_deadline(script->core), script->now_ms + 2000);
    script_pass(script, 1999);
    script_quiet(script);
    script_pass(script, 1);
    assert_int_equal(script_take(script, client, MSG_HEARTBEAT)->heartbeat.count, 0);
    assert_int_equal(script_take(script, worker, MSG_HEARTBEAT)->heartbeat.count, 0);
    script_quiet(script);
    script_pass(script, 2000);
    assert_int_equal(script_take(script, worker, MSG_HEARTBEAT)->heartbeat.count, 1);
}

/* Who would be due soon is told with the first, and then they stay together. */
static void test_heartbeats_in_waves(void **state)
{
    struct script *script = *state;
    const uint64_t early = add_worker(script, 1, 1);
    script_flush(script);
    script_pass(script, 200);
    const uint64_t soon = add_worker(script, 2, 1);
    script_flush(script);
    script_pass(script, 200);
    const uint64_t late = add_worker(script, 3, 1);
    script_flush(script);
    script_forget(script);
    script_pass(script, 1600);
    script_take(script, early, MSG_HEARTBEAT);
    script_take(script, soon, MSG_HEARTBEAT);
    script_quiet(script);
    script_pass(script, 400);
    script_take(script, late, MSG_HEARTBEAT);
    script_quiet(script);
}

static void test_silence(void **state)
{
    struct script *script = *state;
    const uint64_t client = add_client(script, 1), worker = add_worker(script, 2, 1);
    script_pass(script, 3000);
    script_say(script, client, message_create(MSG_HEARTBEAT));
    script_pass(script, 1999);
    script_quiet(script);
    script_pass(script, 1);
    script_dropped(script, worker, FARPOOL_ETIMEDOUT);
    script_quiet(script);
    script_pass(script, 3000);
    script_dropped(script, client, FARPOOL_ETIMEDOUT);
    assert_int_equal(script_counts(script).clients, 0);
    assert_true(coordinator_core_deadline(script->core) == UINT64_MAX);
}

/* After a long stop of the coordinator's own: what peers have said meanwhile is still to
 * be read. */
static void test_silence_that_was_not(void **state)
{
    struct script *script = *state;
    struct coordinator_event event = {.kind = COORDINATOR_FLUSH, .behind = true};
    const uint64_t client = add_client(script, 1), worker = add_worker(script, 2, 1);
    script->now_ms += 9000;
    script_say(script, client, message_create(MSG_HEARTBEAT));
    assert_int_equal(script_step(script, &event), 0);
    script_quiet(script);
    assert_true(coordinator_core_deadline(script->core) <= script->now_ms);
    script_say_last(script, worker, message_create(MSG_HEARTBEAT));
    script_quiet(script);
    assert_int_equal(script_counts(script).workers, 1);
}

/* One that never says hello. */
static void test_silent_stranger(void **state)
{
    struct script *script = *state;
    script->links = 1;
    script_say(script, 1, hello_client(1));
    script_say(script, 1, message_create(MSG_HELLO_CLIENT));
    script_take(script, 1, MSG_WELCOME);
    script_dropped(script, 1, FARPOOL_EPROTOCOL); /* a second hello */
}

static void test_client_returns(void **state)
{
    struct script *script = *state;
    const uint64_t worker = add_worker(script, 10, 1);
    const uint64_t old = add_pool(script, 1, 1);
    script_say_last(script, old, tasks(1, 1, 0, 1));
    assert_int_equal(script_given(script, worker), 1);
    const uint64_t link = add_client(script, 1);
    assert_true(script_take(script, worker, MSG_POOL_CLOSE)->pool_close.kill);
    script_dropped(script, old, FARPOOL_ECLOSED);
    script_say(script, link, pool_open(1, 0));
    script_say(script, link, job_open(1, 1, 0, 0));
    script_say_last(script, link, tasks(1, 1, 0, 1));
    assert_int_equal(script_given(script, worker), 1);
    script_quiet(script);
}

static void test_worker_returns(void **state)
{
    struct script *script = *state;
    const uint64_t old = add_worker(script, 10, 1);
    const uint64_t client = add_pool(script, 1, 1);
    script_say_last(script, client, tasks(1, 1, 0, 1));
    assert_int_equal(script_given(script, old), 1);
    script->previous = script->config.coordinator;
    const uint64_t link = add_worker(script, 10, 1);
    const struct message *lost = script_take(script, client, MSG_LOST);
    assert_int_equal(lost->lost.code, FARPOOL_ENODELOST);
    script_dropped(script, old, FARPOOL_ECLOSED);
    assert_int_equal(script_counts(script).workers, 1);
    script_say_last(script, client, tasks_try(1, 1, 0, 1, 8, 2));
    assert_int_equal(script_given(script, link), 1);
    script_quiet(script);
}

/* ---------------------------------------------------------------- breaking rules */

static struct message *spans_twice(void)
{
    struct message *message = tasks(1, 1, 0, 4), *other = tasks(1, 1, 2, 4);
    struct msg_span *spans = mem_alloc(2 * sizeof *spans);
    spans[0] = message->tasks.spans[0];
    spans[1] = other->tasks.spans[0];
    mem_free(message->tasks.spans);
    message->tasks.spans = spans;
    message->tasks.spans_count = 2;
    memset(other->tasks.spans, 0, sizeof *other->tasks.spans);
    message_free(&other);
    return message;
}

enum crime {
    CRIME_KIND,
    CRIME_POOL,
    CRIME_SECOND_POOL,
    CRIME_JOB,
    CRIME_JOB_TWICE,
    CRIME_OVERLAP,
    CRIME_TWICE,
    CRIME_ATTEMPT,
    CRIME_WINDOW,
    CRIME_BYTES,
    CRIME_BODY,
    CRIMES
};

static struct message *commit(enum crime crime)
{
    switch (crime) {
    case CRIME_KIND:
        return pool_closed(1);
    case CRIME_POOL:
        return tasks(2, 1, 0, 1);
    case CRIME_SECOND_POOL:
        return pool_open(3, 0);
    case CRIME_JOB:
        return tasks(1, 9, 0, 1);
    case CRIME_JOB_TWICE:
        return job_open(1, 1, 0, 0);
    case CRIME_OVERLAP:
        return tasks(1, 1, 99, 2);
    case CRIME_TWICE:
        return spans_twice();
    case CRIME_ATTEMPT:
        return tasks_try(1, 1, 0, 1, 8, 0);
    case CRIME_WINDOW:
        return tasks(1, 1, 0, 98);
    case CRIME_BYTES:
        return tasks_try(1, 1, 0, 2, 1000, 1);
    case CRIME_BODY:
        return tasks_try(1, 1, 0, 1, 5000, 1);
    case CRIMES:
        break;
    }
    return NULL;
}

static void test_crimes(void **state)
{
    (void)state;
    for (enum crime crime = CRIME_KIND; crime < CRIMES; crime++) {
        struct script script = {.config = {.workers_max = 0}};
        coordinator_config_init(&script.config);
        script.config.client_tasks_max = 100;
        script.config.client_bytes_max = 1600;
        script.config.body_bytes_max = 4096;
        script_begin(&script);
        const uint64_t client = add_pool(&script, 1, 1);
        script_say(&script, client, tasks(1, 1, 100, 3));
        script_say(&script, client, commit(crime));
        script_dropped(&script, client, FARPOOL_EPROTOCOL);
        script_flush(&script);
        script_quiet(&script);
        assert_int_equal(script_counts(&script).waiting, 0);
        assert_int_equal(script_counts(&script).pools, 0);
        script_end(&script);
    }
}

static void test_worker_crimes(void **state)
{
    struct script *script = *state;
    add_pool(script, 1, 1);
    struct message *crimes[] = {
        done(script, 99, 1, 1, 0, 1, 1), /* in another's name */
        held(1, 1, 0, 1),                /* it served nobody before */
        tasks(1, 1, 0, 1),
        message_create(MSG_RELAY),
        hello_worker(script, 10, 1),
    };
    for (size_t i = 0; i < sizeof crimes / sizeof crimes[0]; i++) {
        const uint64_t worker = add_worker(script, 10, 1);
        script_say(script, worker, crimes[i]);
        script_dropped(script, worker, FARPOOL_EPROTOCOL);
        script_flush(script);
        script_quiet(script);
    }
}

/* Held tasks are bounded, whatever a worker says. */
static void test_held_crimes(void **state)
{
    struct script *script = *state;
    script->previous = make_id(99);
    script->worker_tasks = 100;
    const struct msg_range ranges[] = {{0, UINT64_MAX, 1},
                                       {0, 201 + script->config.clients_max, 1},
                                       {UINT64_MAX, 1, 1},
                                       {0, 0, 1},
                                       {0, 1, 0}};
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
        const uint64_t worker = add_worker(script, 10, 1);
        struct message *message = held(1, 1, 0, 1);
        message->held.ranges[0] = ranges[i];
        script_say(script, worker, message);
        script_dropped(script, worker, FARPOOL_EPROTOCOL);
    }
}

/* Races that an honest client cannot avoid. */
static void test_races(void **state)
{
    struct script *script = *state;
    const uint64_t worker = add_worker(script, 10, 1);
    const uint64_t client = add_pool(script, 1, 2);
    script_say(script, client, job_close(1, 1));
    script_say(script, client, cancel(1, 1, 0, 5));
    script_say(script, client, tasks(1, 1, 0, 5));
    script_say(script, client, job_close(1, 1));
    script_say(script, client, ack(1, 77, 0, 5)); /* a worker that has gone */
    script_say(script, worker, returned(1, 1, 0, 5));
    script_say(script, worker, returned(9, 1, 0, 5));
    script_say(script, worker, load(1, 1, 9, 9, 9, 9));
    script_say(script, worker, pool_closed(1));
    /* Never opened there. */
    script_say_last(script, worker, pool_failed(1, FARPOOL_EPROGRAM));
    script_quiet(script);
    script_say_last(script, client, pool_close(1, false));
    script_take(script, client, MSG_POOL_CLOSED);
    script_say(script, client, ack(1, 10, 0, 5));
    script_say(script, client, tasks(1, 2, 0, 5));
    script_say_last(script, client, pool_close(1, true));
    script_quiet(script);
}

static void test_bye(void **state)
{
    struct script *script = *state;
    const uint64_t worker = add_worker(script, 10, 1), client = add_client(script, 1);
    script_say(script, worker, message_create(MSG_BYE));
    script_dropped(script, worker, FARPOOL_OK);
    script_say(script, client, message_create(MSG_BYE));
    script_dropped(script, client, FARPOOL_OK);
    assert_int_equal(script_counts(script).workers, 0);
}

/* --------------------------------------------------------------------- STATUS */

static void test_status(void **state)
{
    struct script *script = *state;
    const uint64_t worker = add_worker(script, 10, 2), client = add_pool(script, 1, 300);
    add_pool(script, 2, 0);
    script_say_last(script, client, tasks(1, 7, 0, 9));
    assert_int_equal(script_given(script, worker), 4);
    script_say(script, worker, done(script, 10, 1, 7, 0, 1, 1000));
    script_say(script, worker, load(2, 3, 1, 7, 2, 0));
    script_forget(script);
    const uint64_t watcher = add_client(script, 9); /* opens no pool */
    struct message *get = message_create(MSG_STATUS_GET);
    get->status_get.request = 5;
    script->now_ms += 50;
    script_say(script, watcher, get);
    const struct message *status = script_take(script, watcher, MSG_STATUS);
    assert_int_equal(status->status.request, 5);
    assert_true(status->status.more);
    assert_int_equal(status->status.uptime_ms, 50);
    assert_int_equal(status->status.clients, 3);
    assert_int_equal(status->status.nodes_count, 1);
    assert_string_equal(status->status.nodes[0].node, "node10");
    assert_string_equal(status->status.nodes[0].state, "ready");
    assert_int_equal(status->status.nodes[0].assigned, 3);
    assert_int_equal(status->status.nodes[0].done, 1);
    assert_int_equal(status->status.nodes[0].processes, 2);
    assert_int_equal(status->status.nodes[0].running, 2);
    assert_int_equal(status->status.pools_count, 2);
    assert_string_equal(status->status.pools[0].program, "program1");
    assert_string_equal(status->status.pools[0].host, "host1");
    assert_int_equal(status->status.pools[0].jobs, 300);
    assert_int_equal(status->status.pools[0].waiting, 5);
    assert_int_equal(status->status.pools[0].done, 1);
    assert_int_equal(status->status.jobs_count, LIST_MAX);
    assert_int_equal(status->status.jobs[6].job, 7);
    assert_int_equal(status->status.jobs[6].waiting, 5);
    status = script_take(script, watcher, MSG_STATUS);
    assert_false(status->status.more);
    assert_int_equal(status->status.nodes_count, 0);
    assert_int_equal(status->status.jobs_count, 300 - LIST_MAX);
    assert_int_equal(status->status.jobs[0].job, LIST_MAX + 1);
    script_quiet(script);
}

/* The latest first, and no more than are kept; with what they had, and why they went. */
static void test_status_of_gone(void **state)
{
    struct script *script = *state;
    const uint64_t watcher = add_client(script, 9);
    for (uint32_t i = 0; i < GONE_MAX + 3; i++) {
        const uint64_t worker = add_worker(script, 20 + i, 2);
        script->now_ms += 10;
        script_down(script, worker);
    }
    script_forget(script);
    script->now_ms += 1000;
    script_say(script, watcher, message_create(MSG_STATUS_GET));
    const struct message *status = script_take(script, watcher, MSG_STATUS);
    assert_int_equal(status->status.gone_count, GONE_MAX);
    assert_string_equal(status->status.gone[0].node, "node38");
    assert_string_equal(status->status.gone[GONE_MAX - 1].node, "node23");
    assert_int_equal(status->status.gone[0].ago_ms, 1000);
    assert_int_equal(status->status.gone[1].ago_ms, 1010);
    assert_int_equal(status->status.gone[0].tasks, 0);
    assert_true(strlen(status->status.gone[0].why) > 0);
}

/* A LOAD is up to 200 ms old; what has come since, or after it, does not run. */
static void test_status_after_results(void **state)
{
    struct script *script = *state;
    const uint64_t worker = add_worker(script, 10, 2), client = add_pool(script, 1, 1);
    const uint64_t watcher = add_client(script, 9);
    script_say_last(script, client, tasks(1, 1, 0, 3));
    script_say(script, worker, load(2, 3, 1, 1, 2, 0));
    for (uint64_t i = 0; i < 3; i++) {
        script_say(script, worker, done(script, 10, 1, 1, i, 1, 1000));
        script_forget(script);
        script_say(script, watcher, message_create(MSG_STATUS_GET));
        const struct message *status = script_take(script, watcher, MSG_STATUS);
        const uint64_t left = 2 - i;
        assert_int_equal(status->status.nodes[0].assigned, left);
        assert_int_equal(status->status.nodes[0].running, left);
        assert_int_equal(status->status.pools[0].running, left);
        assert_int_equal(status->status.jobs[0].running, left);
    }
    script_quiet(script);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_welcome),
        SCRIPT_TEST(test_version),
        cmocka_unit_test(test_limits),
        SCRIPT_TEST(test_first_word),
        SCRIPT_TEST(test_heartbeat),
        SCRIPT_TEST(test_heartbeats_in_waves),
        SCRIPT_TEST(test_silence),
        SCRIPT_TEST(test_silence_that_was_not),
        SCRIPT_TEST(test_silent_stranger),
        SCRIPT_TEST(test_client_returns),
        SCRIPT_TEST(test_worker_returns),
        cmocka_unit_test(test_crimes),
        SCRIPT_TEST(test_worker_crimes),
        SCRIPT_TEST(test_held_crimes),
        SCRIPT_TEST(test_races),
        SCRIPT_TEST(test_bye),
        SCRIPT_TEST(test_status),
        SCRIPT_TEST(test_status_of_gone),
        SCRIPT_TEST(test_status_after_results),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
