/* SPDX-License-Identifier: Apache-2.0
 *
 * test_client_link.c: the client's end of its link: hello and welcome, refusal, silence,
 * what a coordinator may not say, and how everything goes on with the next one. */
#include "tests/unit/client_script.h"

static void test_opens_the_pool(void **state)
{
    (void)state;
    struct script script;
    script_create(&script, false);
    script_event(&script, (struct client_event){.kind = CLIENT_LINK_UP});
    const struct message *hello = script_sent(&script, MSG_HELLO_CLIENT);
    assert_int_equal(hello->hello_client.protocol, PROTOCOL_VERSION);
    assert_string_equal(hello->hello_client.version, FARPOOL_VERSION);
    assert_string_equal(hello->hello_client.host, "here");
    assert_int_equal(hello->hello_client.pid, 42);
    const struct id client = script_id(1);
    assert_true(id_equal(&hello->hello_client.client, &client));
    script_message(&script, script_make_welcome(10, 10));
    const struct message *open = script_sent(&script, MSG_POOL_OPEN);
    const struct id pool = SCRIPT_POOL;
    assert_true(id_equal(&open->pool_open.pool, &pool));
    assert_int_equal(open->pool_open.processes, 4);
    script_take(&script, CLIENT_READY);
    struct client_pool_counts counts;
    client_core_pool_counts(script.core, &counts);
    assert_true(counts.connected);
    script_done(&script);
}

static void test_ready_is_told_once(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    script_link_down(&script);
    script_link_up(&script);
    script_message(&script, script_make_welcome(10, 10));
    script_sent(&script, MSG_POOL_OPEN);
    script_done(&script);
}

static void test_attaches(void **state)
{
    (void)state;
    struct script script;
    script_create(&script, true);
    script_link_up(&script);
    script_message(&script, script_make_welcome(10, 1000));
    const struct id pool = SCRIPT_POOL;
    assert_true(
        id_equal(&script_sent(&script, MSG_POOL_ATTACH)->pool_attach.pool, &pool));
    script_take(&script, CLIENT_READY);
    /* It leaves without closing the pool it runs in. */
    const uint64_t job = script_map(&script, 3);
    script_event(&script, (struct client_event){.kind = CLIENT_TERMINATE});
    script_flush(&script);
    assert_true(script_sent(&script, MSG_CANCEL)->cancel.kill);
    script_gave_up(&script, job, 0, 3, FARPOOL_ETERMINATED);
    script_ended(&script, job);
    script_sent(&script, MSG_BYE);
    script_take(&script, CLIENT_POOL_ENDED);
    script_done(&script);
}

static void test_heartbeat_when_idle(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    assert_int_equal(client_core_deadline(script.core), 2000);
    script.now_ms = 1999;
    script_flush(&script);
    script_quiet(&script);
    script.now_ms = 2000;
    script_flush(&script);
    assert_int_equal(script_sent(&script, MSG_HEARTBEAT)->heartbeat.count, 0);
    assert_int_equal(client_core_deadline(script.core), 3000);
    script.now_ms = 2500;
    script_map(&script, 1);
    assert_int_equal(client_core_deadline(script.core), 3500);
    script.now_ms = 3500;
    script_flush(&script);
    assert_int_equal(script_sent(&script, MSG_HEARTBEAT)->heartbeat.count, 1);
    script_done(&script);
}

static void test_silence_dials_again(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    script.now_ms = 4000;
    script_message(&script,
                   script_make(MSG_HEARTBEAT)); /* any message is a sign of life */
    script.now_ms = 8999;
    script_flush(&script);
    script_sent(&script, MSG_HEARTBEAT);
    script.now_ms = 9000;
    script_flush(&script);
    const struct client_effect *effect = script_take(&script, CLIENT_RELINK);
    assert_int_equal(effect->code, FARPOOL_ENOCOORDINATOR);
    assert_non_null(strstr(effect->text, "5000 ms"));
    assert_true(client_core_deadline(script.core) == UINT64_MAX);
    script_link_up(&script);
    assert_int_equal(client_core_deadline(script.core), 14000);
    script.now_ms = 14000; /* and a hello that nobody answers */
    script_flush(&script);
    script_take(&script, CLIENT_RELINK);
    script_done(&script);
}

static void test_refused(void **state)
{
    (void)state;
    struct script script;
    script_create(&script, false);
    script_link_up(&script);
    struct message *refused = script_make(MSG_REFUSED);
    refused->refused.code = FARPOOL_EFULL;
    snprintf(refused->refused.text, sizeof refused->refused.text, "64 clients at most");
    script_message(&script, refused);
    const struct client_effect *effect = script_take(&script, CLIENT_POOL_FAILED);
    assert_int_equal(effect->code, FARPOOL_EFULL);
    assert_string_equal(effect->text, "64 clients at most");
    /* The answer is final. */
    script_link_down(&script);
    script_event(&script, (struct client_event){.kind = CLIENT_LINK_UP});
    script_quiet(&script);
    struct client_event open = {.kind = CLIENT_JOB_OPEN, .options = &script.options};
    assert_int_equal(script_step(&script, &open), FARPOOL_ECLOSED);
    script_event(&script, (struct client_event){.kind = CLIENT_CLOSE});
    script_flush(&script);
    script_take(&script, CLIENT_POOL_ENDED);
    script_done(&script);
}

static void test_another_protocol(void **state)
{
    (void)state;
    struct script script;
    script_create(&script, false);
    script_link_up(&script);
    struct message *welcome = script_make_welcome(1, 1);
    welcome->welcome.protocol = PROTOCOL_VERSION + 1;
    script_message(&script, welcome);
    assert_int_equal(script_take(&script, CLIENT_POOL_FAILED)->code, FARPOOL_EVERSION);
    script_done(&script);
}

/* Each of these makes the client dial again, with the reason; then nothing that still
 * comes from the old link counts. */
static void expect_relink(struct script *script, struct message *message)
{
    script_message(script, message);
    assert_int_equal(script_take(script, CLIENT_RELINK)->code, FARPOOL_EPROTOCOL);
    script_message(script, script_make_welcome(1, 1));
    script_quiet(script);
    struct client_pool_counts counts;
    client_core_pool_counts(script->core, &counts);
    assert_false(counts.connected);
    script_fini(script);
}

static void test_what_may_not_come(void **state)
{
    (void)state;
    struct script script;
    for (int kind = MESSAGE_NONE + 1; kind < MESSAGE_KINDS; kind++) {
        if (kind == MSG_HEARTBEAT || kind == MSG_REFUSED)
            continue;
        script_open(&script);
        expect_relink(&script,
                      script_make((enum message_kind)kind)); /* no pool: another */
    }
    script_open(&script);
    struct message *lost = script_make_lost(1, 0, 1, 1, FARPOOL_EFUNCTION);
    expect_relink(&script, lost);
    script_open(&script);
    struct message *done = script_make_done(&script, 1, 0, 1, 1, 1);
    done->done.pool = script_id(8);
    expect_relink(&script, done);
    script_create(&script, false); /* before WELCOME */
    script_link_up(&script);
    expect_relink(&script, script_make_done(&script, 1, 0, 1, 1, 1));
}

static void test_file_is_asked_for(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    struct message *fetch = script_make(MSG_FETCH);
    fetch->fetch.pool = SCRIPT_POOL;
    fetch->fetch.worker = script_id(4);
    fetch->fetch.content.bytes[0] = 5;
    fetch->fetch.offset = 100;
    fetch->fetch.bytes = 50;
    script_message(&script, fetch);
    const struct client_effect *effect = script_take(&script, CLIENT_READ_FILE);
    assert_int_equal(effect->worker.bytes[15], 4);
    assert_int_equal(effect->content.bytes[0], 5);
    assert_int_equal(effect->offset, 100);
    assert_int_equal(effect->count, 50);
    script_done(&script);
}

static struct message *pool_state(uint32_t nodes)
{
    struct message *pool = script_make(MSG_POOL_STATE);
    pool->pool_state.pool = SCRIPT_POOL;
    pool->pool_state.nodes = nodes;
    return pool;
}

static void test_states_are_kept(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    struct message *pool = pool_state(2);
    pool->pool_state.slots = 8;
    pool->pool_state.processes = 6;
    pool->pool_state.started = 7;
    script_message(&script, pool);
    struct client_pool_counts counts;
    client_core_pool_counts(script.core, &counts);
    assert_int_equal(counts.nodes, 2);
    assert_int_equal(counts.slots, 8);
    assert_int_equal(counts.processes, 6);
    assert_int_equal(counts.started, 7);
    const uint64_t number = script_map(&script, 10);
    struct message *job = script_make(MSG_JOB_STATE);
    job->job_state.pool = SCRIPT_POOL;
    job->job_state.job = number;
    job->job_state.running = 3;
    job->job_state.share_ppm = 1500000;
    script_message(&script, job);
    struct client_job_counts job_counts;
    assert_true(client_core_job_counts(script.core, number, &job_counts));
    assert_int_equal(job_counts.running, 3);
    assert_int_equal(job_counts.waiting, 7);
    assert_int_equal(job_counts.share_ppm, 1500000);
    assert_true(job_counts.input_ended);
    script_link_down(&script); /* now nobody knows */
    assert_true(client_core_job_counts(script.core, number, &job_counts));
    assert_int_equal(job_counts.running, 0);
    assert_int_equal(job_counts.waiting, 10);
    assert_false(client_core_job_counts(script.core, number + 1, &job_counts));
    script_done(&script);
}

/* ------------------------------------------------- a coordinator restarted */

static void test_resumes_what_was_sent(void **state)
{
    (void)state;
    struct script script;
    script_open_with(&script, 100, 1 << 20);
    script.options.retries = 1;
    const uint64_t job = script_job(&script);
    script_input(&script, job, 0, 150, 4);
    script_flush(&script);
    assert_false(script_sent(&script, MSG_JOB_OPEN)->job_open.resumed);
    script_sent_span(&script, job, 0, 100, 1);
    script_failure(&script, job, 50, 1, FARPOOL_EFUNCTION);
    script_flush(&script);
    script_acked(&script, 1, 1);
    script_sent_span(&script, job, 50, 1, 2);
    script_result(&script, job, 10, 20, 1);
    script_took(&script, job, 10, 20);

    script_message(&script, pool_state(5));
    script_link_down(&script);
    script_input(&script, job, 150, 50, 4);
    script_flush(&script);
    script_quiet(&script);
    script_link_up(&script);
    script_message(&script, script_make_welcome(100, 1 << 20));
    script_sent(&script, MSG_POOL_OPEN);
    script_message(&script, pool_state(1)); /* of those that are back */
    script_flush(&script);
    /* The ACK is not repeated: the worker sends the result again. */
    const struct message *open = script_sent(&script, MSG_JOB_OPEN);
    assert_true(open->job_open.resumed);
    const struct msg_span *spans;
    const struct message *tasks = script_sent(&script, MSG_TASKS);
    spans = tasks->tasks.spans;
    assert_int_equal(tasks->tasks.spans_count, 4);
    assert_int_equal(spans[0].first, 0);
    assert_int_equal(spans[0].count, 10);
    assert_int_equal(spans[1].first, 30);
    assert_int_equal(spans[1].count, 20);
    assert_int_equal(spans[1].attempt, 1);
    assert_int_equal(spans[2].first, 50);
    assert_int_equal(spans[2].count, 1);
    assert_int_equal(spans[2].attempt, 2);
    assert_int_equal(spans[3].first, 51);
    assert_int_equal(spans[3].count, 49);
    assert_int_equal(script_sent(&script, MSG_RESUMED)->resumed.nodes, 5);
    /* Then as before: 20 tasks' room in the window. */
    script_sent_span(&script, job, 100, 20, 1);
    script_quiet(&script);
    script_result(&script, job, 10, 20, 1); /* the result that was not ACKed */
    script_flush(&script);
    script_acked(&script, 3, 1);
    script_done(&script);
}

static void test_resumes_many_spans(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    const uint64_t job = script_job(&script);
    for (uint64_t i = 0; i < 3; i++)
        script_input(&script, job, i, 1, 700000); /* two do not share a message */
    for (uint64_t i = 3; i < 203; i++)
        script_input(&script, job, i, 1, 1); /* nor do more than 64 */
    script_input_end(&script, job);
    script_flush(&script);
    script_forget(&script);
    script_link_down(&script);
    script_link_up(&script);
    script_message(&script, script_make_welcome(1000000, 1 << 30));
    script_sent(&script, MSG_POOL_OPEN);
    script_flush(&script);
    script_sent(&script, MSG_JOB_OPEN);
    uint64_t next = 0;
    for (int i = 0; i < 6; i++) {
        const struct message *tasks = script_sent(&script, MSG_TASKS);
        assert_true(tasks->tasks.spans_count <= SPANS_MAX);
        assert_int_equal(tasks->tasks.spans[0].first, next);
        next += tasks->tasks.spans_count;
    }
    assert_int_equal(next, 203);
    script_sent(&script, MSG_RESUMED);
    script_done(&script);
}

/* A job with nothing under way is new to the next coordinator. */
static void test_idle_job_is_not_resumed(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    const uint64_t job = script_job(&script);
    script_input(&script, job, 0, 1, 4);
    script_flush(&script);
    script_forget(&script);
    script_result(&script, job, 0, 1, 1);
    script_forget(&script);
    script_link_down(&script);
    script_link_up(&script);
    script_message(&script, script_make_welcome(10, 1000));
    script_sent(&script, MSG_POOL_OPEN);
    script_flush(&script);
    script_sent(&script, MSG_RESUMED);
    script_quiet(&script);
    script_input(&script, job, 1, 1, 4);
    script_flush(&script);
    assert_false(script_sent(&script, MSG_JOB_OPEN)->job_open.resumed);
    script_sent_span(&script, job, 1, 1, 1);
    /* It ends while the link is down: told to the caller, not to anybody else. */
    script_result(&script, job, 1, 1, 1);
    script_took(&script, job, 1, 1);
    script_link_down(&script);
    script_input_end(&script, job);
    script_flush(&script);
    assert_int_equal(script_take(&script, CLIENT_JOB_ENDED)->job, job);
    script_done(&script);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_opens_the_pool),
        cmocka_unit_test(test_ready_is_told_once),
        cmocka_unit_test(test_attaches),
        cmocka_unit_test(test_heartbeat_when_idle),
        cmocka_unit_test(test_silence_dials_again),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_another_protocol),
        cmocka_unit_test(test_what_may_not_come),
        cmocka_unit_test(test_file_is_asked_for),
        cmocka_unit_test(test_states_are_kept),
        cmocka_unit_test(test_resumes_what_was_sent),
        cmocka_unit_test(test_resumes_many_spans),
        cmocka_unit_test(test_idle_job_is_not_resumed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
