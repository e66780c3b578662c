/* SPDX-License-Identifier: Apache-2.0
 *
 * test_coordinator_pool.c: pools and jobs from opening to end; shares of a pool with a
 * limit of processes; nested clients; states; program files; a client that goes. */
#include "tests/unit/coordinator_script.h"

static void test_open_before_tasks(void **state)
{
    struct script *script = *state;
    const uint64_t client = add_client(script, 1);
    struct message *open = pool_open(1, 0);
    open->pool_open.argument = payload_copy("abc", 3);
    open->pool_open.files = mem_alloc(sizeof *open->pool_open.files);
    open->pool_open.files_count = 1;
    open->pool_open.files[0].size = 12345;
    script_say(script, client, open);
    script_say(script, client, job_open(1, 1, -5, 3));
    script_say_last(script, client, tasks(1, 1, 0, 1));
    script_quiet(script); /* waits: no worker has been seen yet */
    const uint64_t worker = add_worker(script, 10, 1);
    script_flush(script);
    const struct message *message = script_take(script, worker, MSG_POOL_OPEN);
    assert_int_equal(message->pool_open.processes, 0);
    assert_int_equal(message->pool_open.argument->size, 3);
    assert_int_equal(message->pool_open.files[0].size, 12345);
    message = script_take(script, worker, MSG_JOB_OPEN);
    assert_string_equal(message->job_open.function, "f1_1");
    assert_int_equal(message->job_open.priority, -5);
    assert_int_equal(message->job_open.chunk, 3);
    message = script_take(script, worker, MSG_TASKS);
    assert_int_equal(message->tasks.spans_count, 1);
    assert_int_equal(message->tasks.spans[0].count, 1);
    assert_int_equal(message->tasks.spans[0].data->size, 8);
    script_quiet(script);
    /* Told once. */
    script_say_last(script, client, tasks(1, 1, 1, 1));
    script_take(script, worker, MSG_TASKS);
    script_quiet(script);
}

/* In the batch in which it came. */
static void test_apply_is_immediate(void **state)
{
    struct script *script = *state;
    const uint64_t worker = add_worker(script, 10, 2), client = add_pool(script, 1, 0);
    script_flush(script);
    script_forget(script);
    for (uint64_t job = 1; job <= 20; job++) {
        script_say(script, client, job_open(1, job, 0, 0));
        script_say_last(script, client, tasks(1, job, 0, 1));
        assert_int_equal(script_given(script, worker), 1);
        script_say(script, worker, done(script, 10, 1, job, 0, 1, 1000));
        assert_int_equal(script_take(script, client, MSG_DONE)->done.job, job);
        script_say(script, client, ack(1, 10, job - 1, 1));
        script_take(script, worker, MSG_ACK);
        script_say(script, client, job_close(1, job));
        script_take(script, worker, MSG_JOB_CLOSE);
        script_flush(script);
        script_quiet(script);
    }
    assert_int_equal(script_counts(script).done, 20);
    assert_int_equal(script_counts(script).jobs, 0);
}

static void test_close(void **state)
{
    struct script *script = *state;
    const uint64_t first = add_worker(script, 10, 1), second = add_worker(script, 11, 1);
    const uint64_t third = add_worker(script, 12, 1), client = add_pool(script, 1, 1);
    script_say_last(script, client, tasks(1, 1, 0, 2));
    script_forget(script);
    script_say(script, client, pool_close(1, false));
    assert_false(script_take(script, first, MSG_POOL_CLOSE)->pool_close.kill);
    assert_false(script_take(script, second, MSG_POOL_CLOSE)->pool_close.kill);
    assert_true(script_is_quiet(script, third)); /* never had it */
    script_say_last(script, first, pool_closed(1));
    script_quiet(script);
    /* A result that nobody waits for any more is ACKed here. */
    script_say(script, second, done(script, 11, 1, 1, 1, 1, 5));
    assert_int_equal(script_take(script, second, MSG_ACK)->ack.results[0].first, 0);
    script_say(script, client, pool_close(1, true));
    assert_true(script_take(script, second, MSG_POOL_CLOSE)->pool_close.kill);
    script_down(script, second); /* gone is as good as an answer */
    script_flush(script);
    script_take(script, client, MSG_POOL_CLOSED);
    script_quiet(script);
    assert_int_equal(script_counts(script).pools, 0);
}

static void test_client_gone(void **state)
{
    struct script *script = *state;
    const uint64_t worker = add_worker(script, 10, 1), other = add_worker(script, 11, 1);
    const uint64_t client = add_pool(script, 1, 2);
    script_say_last(script, client, tasks(1, 1, 0, 50));
    script_forget(script);
    script_down(script, client);
    assert_true(script_take(script, worker, MSG_POOL_CLOSE)->pool_close.kill);
    assert_true(script_take(script, other, MSG_POOL_CLOSE)->pool_close.kill);
    script_quiet(script);
    const struct coordinator_counts counts = script_counts(script);
    assert_int_equal(counts.pools + counts.jobs + counts.waiting + counts.assigned, 0);
    /* What is still on its way: */
    script_say(script, worker, done(script, 10, 1, 1, 0, 1, 5));
    assert_true(script_take(script, worker, MSG_POOL_CLOSE)->pool_close.kill);
    script_say_last(script, worker, pool_closed(1));
    script_quiet(script);
}

static void test_pool_failed(void **state)
{
    struct script *script = *state;
    const uint64_t first = add_worker(script, 10, 2), second = add_worker(script, 11, 3);
    const uint64_t client = add_pool(script, 1, 1);
    script_say_last(script, client, tasks(1, 1, 0, 4));
    const struct message *message = script_take(script, client, MSG_POOL_STATE);
    assert_int_equal(message->pool_state.nodes, 2);
    assert_int_equal(message->pool_state.slots, 5);
    const uint64_t given = script_given(script, first);
    assert_true(given > 0 && given + script_given(script, second) == 4);
    script_forget(script);
    script_say(script, first, pool_failed(1, FARPOOL_ELIBRARY));
    message = script_take(script, client, MSG_POOL_FAILED);
    assert_int_equal(message->pool_failed.code, FARPOOL_ELIBRARY);
    assert_int_equal(message->pool_failed.nodes_left, 1);
    script_say_last(script, first, returned(1, 1, 0, 4));
    message = script_take(script, client, MSG_POOL_STATE);
    assert_int_equal(message->pool_state.nodes, 1);
    assert_int_equal(message->pool_state.slots, 3);
    assert_int_equal(script_given(script, second), given);
    script_quiet(script);
    script_say(script, second, pool_failed(1, FARPOOL_ELIBRARY));
    message = script_take(script, client, MSG_POOL_FAILED);
    assert_int_equal(message->pool_failed.nodes_left, 0);
    /* It waits for a worker that can. */
    script_say_last(script, second, returned(1, 1, 0, 4));
    script_quiet(script);
    const uint64_t third = add_worker(script, 12, 4);
    script_flush(script);
    assert_int_equal(script_given(script, third), 4);
}

/* ------------------------------------------------------------------- shares */

/* The share that a worker was told of last; 0: none. */
static uint32_t told_share(struct script *script, uint64_t link)
{
    uint32_t share = 0;
    for (size_t i = 0; i < script->effects.count; i++) {
        const struct coordinator_effect *effect = &script->effects.items[i];
        if (effect->link == link && effect->kind == COORDINATOR_SEND &&
            effect->message->kind == MSG_POOL_OPEN) {
            share = effect->message->pool_open.processes;
            assert_true(share > 0);
        }
    }
    return share;
}

static uint64_t add_limited(struct script *script, uint8_t pool, uint32_t processes)
{
    const uint64_t client = add_client(script, pool);
    script_say(script, client, pool_open(pool, processes));
    script_say(script, client, job_open(pool, 1, 0, 0));
    script_say(script, client, tasks(pool, 1, 0, 1000));
    return client;
}

static void test_shares(void **state)
{
    static const struct {
        uint32_t processes, slots[4], shares[4];
    } cases[] = {
        {4, {4, 4, 4, 4}, {1, 1, 1, 1}},   {5, {4, 4, 4, 4}, {2, 1, 1, 1}},
        {10, {2, 8, 0, 0}, {2, 8, 0, 0}},  {4, {2, 8, 0, 0}, {2, 2, 0, 0}},
        {9, {1, 3, 8, 0}, {1, 3, 5, 0}},   {2, {4, 4, 4, 4}, {1, 1, 0, 0}},
        {100, {2, 3, 0, 0}, {2, 3, 0, 0}},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct script script = {.links = 0};
        script_begin(&script);
        for (uint8_t node = 0; node < 4 && cases[i].slots[node]; node++)
            add_worker(&script, 10 + node, cases[i].slots[node]);
        const uint64_t workers = script.links;
        /* Told before there are tasks, so that the processes are started. */
        const uint64_t client = add_client(&script, 1);
        script_say(&script, client, pool_open(1, cases[i].processes));
        script_flush(&script);
        for (uint64_t link = 1; link <= workers; link++)
            assert_int_equal(told_share(&script, link), cases[i].shares[link - 1]);
        script_end(&script);
    }
}

static void test_shares_move(void **state)
{
    struct script *script = *state;
    const uint64_t first = add_worker(script, 10, 4);
    add_limited(script, 1, 4);
    script_flush(script);
    assert_int_equal(told_share(script, first), 4);
    assert_int_equal(script_given(script, first), 8);
    script_forget(script);
    const uint64_t second = add_worker(script, 11, 4);
    script_flush(script);
    assert_int_equal(told_share(script, first), 2);
    assert_int_equal(told_share(script, second), 2);
    assert_int_equal(script_given(script, second), 4);
    script_forget(script);
    /* One keeps at least one: nothing changes for more workers than processes. */
    for (uint8_t i = 0; i < 3; i++)
        add_worker(script, 12 + i, 4);
    script_flush(script);
    assert_int_equal(told_share(script, first), 1);
    assert_int_equal(told_share(script, second), 1);
    script_forget(script);
    script_down(script, second);
    script_flush(script);
    assert_int_equal(told_share(script, first), 0);
    assert_int_equal(told_share(script, script->links), 1);
}

static void test_share_of_failed_node(void **state)
{
    struct script *script = *state;
    const uint64_t first = add_worker(script, 10, 2), second = add_worker(script, 11, 2);
    add_limited(script, 1, 2);
    script_flush(script);
    assert_int_equal(told_share(script, first), 1);
    script_forget(script);
    script_say_last(script, first, pool_failed(1, FARPOOL_EMACHINE));
    assert_int_equal(told_share(script, first), 0);
    assert_int_equal(told_share(script, second), 2);
}

/* ------------------------------------------------------------ nested clients */

static void test_nested(void **state)
{
    struct script *script = *state;
    const uint64_t worker = add_worker(script, 10, 1), owner = add_pool(script, 1, 1);
    script_say(script, owner, resumed(1));
    script_say_last(script, owner, tasks(1, 1, 0, 100));
    assert_int_equal(script_given(script, worker), 2);
    script_forget(script);
    const uint64_t nested = add_client(script, 2);
    script_say(script, nested, pool_attach(1));
    script_say(script, nested, job_open(1, 50, -1000, 0));
    script_say_last(script, nested, tasks(1, 50, 0, 5));
    /* Though the worker has all it may have, and the priority is low. */
    assert_int_equal(script_take(script, nested, MSG_POOL_STATE)->pool_state.nodes, 1);
    script_take(script, worker, MSG_JOB_OPEN);
    const struct message *given = script_take(script, worker, MSG_TASKS);
    assert_int_equal(given->tasks.job, 50);
    assert_int_equal(tasks_in(given), 2);
    /* The nested task waits for one of its own. */
    const uint64_t deeper = add_client(script, 3);
    script_say(script, deeper, pool_attach(1));
    script_say(script, deeper, job_open(1, 60, -1000, 0));
    script_say_last(script, deeper, tasks(1, 60, 0, 3));
    script_take(script, worker, MSG_JOB_OPEN);
    assert_int_equal(tasks_in(script_take(script, worker, MSG_TASKS)), 2);
    script_quiet(script);
    /* Results and states go to the client whose job it is. */
    script_say(script, worker, done(script, 10, 1, 60, 0, 1, 5));
    script_take(script, deeper, MSG_DONE);
    script_flush(script);
    assert_int_equal(script_given(script, worker), 1);
    /* One that goes takes its jobs with it, and no more. */
    script_down(script, deeper);
    const struct message *cancelled = script_take(script, worker, MSG_CANCEL);
    assert_int_equal(cancelled->cancel.job, 60);
    assert_true(cancelled->cancel.kill);
    assert_int_equal(script_take(script, worker, MSG_JOB_CLOSE)->job_close.job, 60);
    script_quiet(script);
    assert_int_equal(script_counts(script).jobs, 2);
    script_say(script, worker, done(script, 10, 1, 60, 1, 1, 5));
    script_take(script, worker, MSG_ACK);
    /* The pool's end is theirs too. */
    script_down(script, owner);
    script_take(script, worker, MSG_POOL_CLOSE);
    script_dropped(script, nested, FARPOOL_ECLOSED);
    script_quiet(script);
}

static void test_nested_crimes(void **state)
{
    struct script *script = *state;
    add_pool(script, 1, 1);
    struct message *blob = message_create(MSG_BLOB);
    blob->blob.pool = make_id(1);
    struct message *crimes[] = {pool_close(1, true), blob, tasks(1, 77, 0, 1),
                                job_open(1, 1, 0, 0)};
    for (size_t i = 0; i < sizeof crimes / sizeof crimes[0]; i++) {
        const uint64_t nested = add_client(script, 2);
        script_say(script, nested, pool_attach(1));
        script_say(script, nested, crimes[i]);
        script_dropped(script, nested, FARPOOL_EPROTOCOL);
        script_flush(script);
        script_quiet(script);
    }
    assert_int_equal(script_counts(script).pools, 1);
}

static void test_attach_to_nothing(void **state)
{
    struct script *script = *state;
    script_pass(script, 3000); /* not just restarted */
    const uint64_t nested = add_client(script, 2);
    script_say(script, nested, pool_attach(1));
    script_refused(script, nested, FARPOOL_ENOPOOL);
}

/* ------------------------------------------------------------ states, files */

static void expect_running(struct script *script, uint64_t client, uint64_t running)
{
    script_pass(script, 200);
    assert_int_equal(script_take(script, client, MSG_JOB_STATE)->job_state.running,
                     running);
    script_forget(script);
}

/* The worker tells nothing more: it runs as many as before. */
static void test_one_that_ends_makes_room_for_the_next(void **state)
{
    struct script *script = *state;
    const uint64_t worker = add_worker(script, 10, 1);
    const uint64_t client = add_pool(script, 1, 1);
    script_say_last(script, client, tasks(1, 1, 0, 1));
    assert_int_equal(script_given(script, worker), 1);
    script_say_last(script, worker, load(1, 1, 1, 1, 1, 0));
    expect_running(script, client, 1);
    script_say_last(script, worker, done(script, 10, 1, 1, 0, 1, 1000000));
    script_take(script, client, MSG_DONE);
    expect_running(script, client, 0);
    script_say_last(script, client, tasks(1, 1, 1, 1));
    assert_int_equal(script_given(script, worker), 1);
    expect_running(script, client, 1);
}

static void test_job_state(void **state)
{
    struct script *script = *state;
    const uint64_t first = add_worker(script, 10, 2), second = add_worker(script, 11, 2);
    const uint64_t client = add_pool(script, 1, 1);
    script_say_last(script, client, tasks(1, 1, 0, 8));
    script_forget(script);
    script_pass(script, 200);
    script_say(script, first, load(2, 2, 1, 1, 2, 300000));
    script_say_last(script, second, load(1, 1, 1, 1, 1, 500000));
    const struct message *message = script_take(script, client, MSG_JOB_STATE);
    assert_int_equal(message->job_state.running, 3);
    assert_int_equal(message->job_state.share_ppm, 800000);
    message = script_take(script, client, MSG_POOL_STATE);
    assert_int_equal(message->pool_state.processes, 3);
    assert_int_equal(message->pool_state.started, 3);
    script_forget(script);
    script_say(script, first, load(2, 2, 1, 1, 1, 300000));
    script_pass(script, 50);
    assert_null(script_next(script, client, MSG_JOB_STATE)); /* too soon */
    assert_int_equal(coordinator_core_deadline(script->core), script->now_ms + 50);
    script_say(script, first, load(2, 2, 1, 1, 0, 0));
    script_pass(script, 50);
    assert_int_equal(script_take(script, client, MSG_JOB_STATE)->job_state.running, 1);
    script_forget(script);
    script_say(script, first, load(2, 2, 1, 1, 0, 0));
    script_pass(script, 500);
    assert_null(script_next(script, client, MSG_JOB_STATE)); /* the same */
    script_down(script, second);
    script_take(script, client, MSG_LOST);
    script_pass(script, 500);
    assert_int_equal(script_take(script, client, MSG_JOB_STATE)->job_state.running, 0);
}

static void test_files(void **state)
{
    struct script *script = *state;
    const uint64_t worker = add_worker(script, 10, 1), client = add_pool(script, 1, 1);
    script_say_last(script, client, tasks(1, 1, 0, 1));
    script_forget(script);
    struct message *fetch = message_create(MSG_FETCH);
    fetch->fetch.pool = make_id(1);
    fetch->fetch.worker = make_id(10);
    fetch->fetch.offset = 7;
    script_say(script, worker, fetch);
    assert_ptr_equal(script_take(script, client, MSG_FETCH), fetch); /* moved */
    struct message *blob = message_create(MSG_BLOB);
    blob->blob.pool = make_id(1);
    blob->blob.worker = make_id(10);
    blob->blob.data = payload_copy("data", 4);
    script_say(script, client, blob);
    assert_ptr_equal(script_take(script, worker, MSG_BLOB), blob);
    blob = message_create(MSG_BLOB);
    blob->blob.pool = make_id(1);
    blob->blob.worker = make_id(44); /* has gone */
    script_say(script, client, blob);
    script_quiet(script);
    fetch = message_create(MSG_FETCH);
    fetch->fetch.pool = make_id(9);
    fetch->fetch.worker = make_id(10);
    script_say(script, worker, fetch);
    assert_true(script_take(script, worker, MSG_POOL_CLOSE)->pool_close.kill);
}

static void test_results_are_moved(void **state)
{
    struct script *script = *state;
    const uint64_t worker = add_worker(script, 10, 4), client = add_pool(script, 1, 1);
    script_say_last(script, client, tasks(1, 1, 0, 4));
    script_forget(script);
    struct message *result = done(script, 10, 1, 1, 1, 2, 5);
    script_say(script, worker, result);
    assert_ptr_equal(script_take(script, client, MSG_DONE), result);
    result = failed(script, 10, 1, 1, 0, FARPOOL_EFUNCTION);
    script_say(script, worker, result);
    assert_ptr_equal(script_take(script, client, MSG_FAILED), result);
    assert_int_equal(script_counts(script).assigned, 1);
    /* Stale or not: the client's to judge. */
    result = done(script, 10, 1, 1, 1, 2, 5);
    script_say(script, worker, result);
    assert_ptr_equal(script_take(script, client, MSG_DONE), result);
    result = done_try(script, 10, 1, 1, 3, 1, 5, 7);
    script_say(script, worker, result);
    assert_ptr_equal(script_take(script, client, MSG_DONE), result);
    assert_int_equal(script_counts(script).assigned, 1); /* of another attempt */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCRIPT_TEST(test_open_before_tasks),
        SCRIPT_TEST(test_apply_is_immediate),
        SCRIPT_TEST(test_close),
        SCRIPT_TEST(test_client_gone),
        SCRIPT_TEST(test_pool_failed),
        cmocka_unit_test(test_shares),
        SCRIPT_TEST(test_shares_move),
        SCRIPT_TEST(test_share_of_failed_node),
        SCRIPT_TEST(test_nested),
        SCRIPT_TEST(test_nested_crimes),
        SCRIPT_TEST(test_attach_to_nothing),
        SCRIPT_TEST(test_job_state),
        SCRIPT_TEST(test_one_that_ends_makes_room_for_the_next),
        SCRIPT_TEST(test_files),
        SCRIPT_TEST(test_results_are_moved),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
