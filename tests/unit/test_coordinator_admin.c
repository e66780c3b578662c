/* SPDX-License-Identifier: Apache-2.0
 *
 * test_coordinator_admin.c: what an operator is answered, and what he has others do:
 * CANCEL_JOB, DRAIN_NODE, and why tasks wait, in STATUS. */
#include "tests/unit/coordinator_script.h"

static struct message *cancel_job(uint8_t pool, uint64_t job, bool kill)
{
    struct message *message = message_create(MSG_CANCEL_JOB);
    message->cancel_job.request = 3;
    message->cancel_job.pool = make_id(pool);
    message->cancel_job.job = job;
    message->cancel_job.kill = kill;
    return message;
}

static struct message *drain_node(const char *node)
{
    struct message *message = message_create(MSG_DRAIN_NODE);
    message->drain_node.request = 4;
    snprintf(message->drain_node.node, sizeof message->drain_node.node, "%s", node);
    return message;
}

static void answered(struct script *script, uint64_t link, uint32_t request,
                     uint64_t concerned, uint64_t count)
{
    const struct message *answer = script_take(script, link, MSG_ANSWER);
    assert_int_equal(answer->answer.request, request);
    assert_int_equal(answer->answer.code, 0);
    assert_int_equal(answer->answer.concerned, concerned);
    assert_int_equal(answer->answer.tasks, count);
}

static void declined(struct script *script, uint64_t link, int code, const char *text)
{
    const struct message *answer = script_take(script, link, MSG_ANSWER);
    assert_int_equal(answer->answer.code, code);
    assert_non_null(strstr(answer->answer.text, text));
}

static void told(struct script *script, uint64_t link, uint64_t job, bool kill)
{
    const struct message *message = script_take(script, link, MSG_CANCEL_JOB);
    assert_int_equal(message->cancel_job.job, job);
    assert_int_equal(message->cancel_job.kill, kill);
}

/* ------------------------------------------------------------------- CANCEL_JOB */

static void test_cancel_one_job(void **state)
{
    struct script *script = *state;
    const uint64_t worker = add_worker(script, 10, 1), client = add_pool(script, 1, 2);
    const uint64_t watcher = add_client(script, 9);
    script_say_last(script, client, tasks(1, 1, 0, 9));
    assert_int_equal(script_given(script, worker), 2);
    script_forget(script);
    script_say_last(script, watcher, cancel_job(1, 1, true));
    told(script, client, 1, true);
    answered(script, watcher, 3, 1, 9);
    script_quiet(script);
    /* Nothing is changed until its client says so. */
    assert_int_equal(script_counts(script).waiting, 7);
    assert_int_equal(script_counts(script).assigned, 2);
    script_say(script, client, cancel(1, 1, 0, 9));
    script_take(script, worker, MSG_CANCEL);
    script_say_last(script, client, job_close(1, 1));
    script_take(script, worker, MSG_JOB_CLOSE);
    assert_int_equal(script_counts(script).jobs, 1);
    script_say_last(script, watcher, cancel_job(1, 1, true));
    declined(script, watcher, FARPOOL_EINVAL, "no job 1");
    script_quiet(script);
}

static void test_cancel_a_pool(void **state)
{
    struct script *script = *state;
    const uint64_t worker = add_worker(script, 10, 4), client = add_pool(script, 1, 2);
    const uint64_t nested = add_client(script, 5), watcher = add_client(script, 9);
    add_pool(script, 2, 1);
    script_say(script, client, tasks(1, 1, 0, 9));
    script_say(script, nested, pool_attach(1));
    script_say(script, nested, job_open(1, 70, 0, 0));
    script_say_last(script, nested, tasks(1, 70, 0, 4));
    assert_true(script_given(script, worker) > 0);
    script_forget(script);
    script_say_last(script, watcher, cancel_job(1, 0, false));
    told(script, client, 0, false);
    told(script, nested, 0, false);
    answered(script, watcher, 3, 3, 13);
    script_say_last(script, watcher, cancel_job(1, 70, true)); /* to whom it belongs */
    told(script, nested, 70, true);
    answered(script, watcher, 3, 1, 4);
    script_quiet(script);
}

static void test_cancel_nothing(void **state)
{
    struct script *script = *state;
    const uint64_t worker = add_worker(script, 10, 1), client = add_pool(script, 1, 1);
    const uint64_t watcher = add_client(script, 9);
    script_say(script, watcher, cancel_job(7, 0, false));
    declined(script, watcher, FARPOOL_ENOPOOL, "no such pool");
    script_say_last(script, client, tasks(1, 1, 0, 1));
    assert_int_equal(script_given(script, worker), 1);
    script_say_last(script, client, pool_close(1, false));
    script_take(script, worker, MSG_POOL_CLOSE);
    script_say(script, watcher, cancel_job(1, 1, false));
    declined(script, watcher, FARPOOL_ENOPOOL, "no such pool");
    script_forget(script);
    /* Only a client without a pool may ask. */
    const uint64_t other = add_pool(script, 2, 1);
    script_say_last(script, other, cancel_job(2, 1, false));
    script_dropped(script, other, FARPOOL_EPROTOCOL);
    script_quiet(script);
}

static void test_cancel_before_the_client_is_back(void **state)
{
    struct script *script = *state;
    script->previous = make_id(99);
    const uint64_t worker = add_worker(script, 10, 1), watcher = add_client(script, 9);
    script_say_last(script, worker, held(1, 1, 0, 5));
    script_say(script, watcher, cancel_job(1, 0, false));
    declined(script, watcher, FARPOOL_ENOTREADY, "has not come back");
    script_say(script, watcher, cancel_job(1, 1, false));
    declined(script, watcher, FARPOOL_ENOTREADY, "has not come back");
    script_quiet(script);
}

/* ------------------------------------------------------------------- DRAIN_NODE */

static void test_drain(void **state)
{
    struct script *script = *state;
    const uint64_t first = add_worker(script, 10, 1), second = add_worker(script, 11, 1);
    const uint64_t client = add_pool(script, 1, 1), watcher = add_client(script, 9);
    script_say_last(script, client, tasks(1, 1, 0, 2)); /* one each */
    assert_int_equal(script_given(script, first) + script_given(script, second), 2);
    script_forget(script);
    script_say(script, watcher, drain_node("node10"));
    const struct message *message = script_take(script, first, MSG_DRAIN);
    assert_non_null(strstr(message->drain.reason, "operator"));
    answered(script, watcher, 4, 1, 1);
    script_quiet(script);
    /* It is given no more, whatever it has room for. */
    script_say_last(script, client, tasks(1, 1, 2, 50));
    assert_true(script_given(script, second) > 0);
    assert_int_equal(script_given(script, first), 0);
    script_quiet(script);
    script_say(script, watcher, drain_node("node10"));
    declined(script, watcher, FARPOOL_EDRAINED, "node10 is draining already");
    script_say(script, watcher, drain_node("node1"));
    declined(script, watcher, FARPOOL_EINVAL, "no node is called node1");
    script_say(script, first, message_create(MSG_DRAIN)); /* its own word comes later */
    script_say_last(script, first, message_create(MSG_BYE));
    script_dropped(script, first, FARPOOL_OK);
    script_take(script, client, MSG_LOST);
    script_say(script, watcher, drain_node("node10"));
    declined(script, watcher, FARPOOL_EINVAL, "no node is called node10");
    script_say_last(script, client, drain_node("node11"));
    script_dropped(script, client, FARPOOL_EPROTOCOL);
    script_forget(script);
}

/* A worker that comes back on a new link; the DRAIN that it is told there, or none. */
static uint64_t returns(struct script *script, uint8_t id, bool told_again)
{
    const uint64_t link = add_worker(script, id, 1);
    if (told_again)
        script_take(script, link, MSG_DRAIN);
    assert_true(script_is_quiet(script, link));
    return link;
}

/* The link ends before the worker has said that it drains. */
static void test_drain_is_said_again(void **state)
{
    struct script *script = *state;
    uint64_t worker = add_worker(script, 10, 1);
    const uint64_t client = add_pool(script, 1, 1), watcher = add_client(script, 9);
    script_say(script, watcher, drain_node("node10"));
    script_take(script, worker, MSG_DRAIN);
    answered(script, watcher, 4, 1, 0);
    script_down(script, worker);
    worker = returns(script, 10, true);
    /* And again: the old link is still thought to stand. */
    worker = returns(script, 10, true);
    script_say_last(script, client, tasks(1, 1, 0, 1));
    assert_int_equal(script_given(script, worker), 0);
    /* It has heard: from now on it says so itself. */
    script_say(script, worker, message_create(MSG_DRAIN));
    script_down(script, worker);
    script_forget(script);
    worker = returns(script, 10, false);
    script_say(script, worker, message_create(MSG_DRAIN));
    /* A fresh daemon of that name is another worker. */
    struct message *fresh = hello_worker(script, 11, 1);
    snprintf(fresh->hello_worker.node, sizeof fresh->hello_worker.node, "node10");
    const uint64_t other = ++script->links;
    script_say(script, other, fresh);
    script_take(script, other, MSG_WELCOME);
    script_flush(script);
    assert_int_equal(script_given(script, other), 1);
    script_forget(script);
}

static void test_drain_wish_ends(void **state)
{
    struct script *script = *state;
    const uint64_t worker = add_worker(script, 10, 1), watcher = add_client(script, 9);
    script_say(script, watcher, drain_node("node10"));
    script_take(script, worker, MSG_DRAIN);
    script_down(script, worker);
    script_pass(script, 600000);
    script_forget(script);
    returns(script, 10, false);
}

/* The client's link ends before it has closed the job. */
static void test_cancel_is_said_again(void **state)
{
    struct script *script = *state;
    uint64_t client = add_pool(script, 1, 2);
    const uint64_t watcher = add_client(script, 9);
    script_say(script, watcher, cancel_job(1, 2, true));
    told(script, client, 2, true);
    answered(script, watcher, 3, 1, 0);
    script_say(script, watcher, cancel_job(1, 2, false)); /* no less than before */
    told(script, client, 2, false);
    answered(script, watcher, 3, 1, 0);
    script_down(script, client);
    client = add_client(script, 1);
    script_say(script, client, pool_open(1, 0));
    script_say(script, client, job_resumed(1, 1));
    assert_true(script_is_quiet(script, client));
    script_say(script, client, job_resumed(1, 2));
    told(script, client, 2, true);
    script_say(script, client, job_close(1, 2));
    script_down(script, client);
    client = add_client(script, 1);
    script_say(script, client, pool_open(1, 0));
    script_say(script, client, job_resumed(1, 2));
    assert_true(script_is_quiet(script, client));
}

/* Each allocation of a question fails once: no half-made wish is left. */
static void test_questions_without_memory(void **state)
{
    struct script *script = *state;
    const uint64_t worker = add_worker(script, 10, 1), client = add_pool(script, 1, 2);
    const uint64_t watcher = add_client(script, 9);
    for (int question = 0; question < 2; question++) {
        int error = FARPOOL_ENOMEM;
        for (size_t i = 1; error; i++) {
            struct message *message =
                question ? drain_node("node10") : cancel_job(1, 0, true);
            struct coordinator_event event = {
                .kind = COORDINATOR_MESSAGE, .link = watcher, .message = message};
            mem_fail_after(i);
            error = script_step(script, &event);
            mem_fail_after(0);
            message_free(&event.message);
        }
    }
    script_take(script, worker, MSG_DRAIN);
    told(script, client, 0, true);
    script_forget(script);
}

static void test_drain_all_of_a_name(void **state)
{
    struct script *script = *state;
    uint64_t links[3];
    const uint64_t watcher = add_client(script, 9);
    for (uint8_t i = 0; i < 3; i++) {
        struct message *hello = hello_worker(script, (uint8_t)(10 + i), 1);
        snprintf(hello->hello_worker.node, sizeof hello->hello_worker.node, "same");
        links[i] = ++script->links;
        script_say(script, links[i], hello);
        script_take(script, links[i], MSG_WELCOME);
    }
    script_say(script, links[1], message_create(MSG_DRAIN));
    script_say(script, watcher, drain_node("same"));
    script_take(script, links[0], MSG_DRAIN);
    script_take(script, links[2], MSG_DRAIN);
    answered(script, watcher, 4, 2, 0);
    script_flush(script);
    script_quiet(script);
}

/* ------------------------------------------------------------------ why they wait */

/* The STATUS line of a job. */
static const struct msg_job_info *ask(struct script *script, uint64_t link, uint8_t pool,
                                      uint64_t job)
{
    const struct id id = make_id(pool);
    script_forget(script);
    script_say(script, link, message_create(MSG_STATUS_GET));
    const struct message *status = script_take(script, link, MSG_STATUS);
    for (uint32_t i = 0; i < status->status.jobs_count; i++)
        if (id_equal(&status->status.jobs[i].pool, &id) &&
            status->status.jobs[i].job == job)
            return &status->status.jobs[i];
    fail_msg("no job %llu", (unsigned long long)job);
    return NULL;
}

static void expect_why(struct script *script, uint64_t link, uint8_t pool, uint64_t job,
                       const char *why, const char *reason)
{
    const struct msg_job_info *info = ask(script, link, pool, job);
    if (!strstr(info->reason, reason))
        print_error("%s: %s\n", info->why, info->reason);
    assert_string_equal(info->why, why);
    assert_non_null(strstr(info->reason, reason));
}

static void test_why_no_workers(void **state)
{
    struct script *script = *state;
    const uint64_t client = add_pool(script, 1, 2), watcher = add_client(script, 9);
    script_say_last(script, client, tasks(1, 1, 0, 3));
    expect_why(script, watcher, 1, 1, "no-workers", "no worker has joined");
    expect_why(script, watcher, 1, 2, "", ""); /* nothing of it waits */
    const uint64_t worker = add_worker(script, 10, 1);
    expect_why(script, watcher, 1, 1, "dealing", "being dealt out"); /* no FLUSH yet */
    script_say_last(script, worker, message_create(MSG_DRAIN));
    expect_why(script, watcher, 1, 1, "draining", "every worker is draining");
}

static void test_why_busy(void **state)
{
    struct script *script = *state;
    const uint64_t worker = add_worker(script, 10, 2), client = add_pool(script, 1, 1);
    const uint64_t other = add_pool(script, 2, 1), watcher = add_client(script, 9);
    script_say(script, client, job_open(1, 2, 5, 0));
    script_say(script, client, job_open(1, 3, -5, 0));
    script_say_last(script, client, tasks(1, 1, 0, 9));
    assert_int_equal(script_given(script, worker), 4);
    expect_why(script, watcher, 1, 1, "busy", "all 2 slots of this pool have work");
    expect_why(script, watcher, 1, 1, "busy", "with earlier tasks of this job");
    script_say_last(script, client, tasks(1, 3, 0, 9));
    expect_why(script, watcher, 1, 3, "busy",
               "with 1 job of this pool with the same or a higher priority");
    script_say_last(script, other, tasks(2, 1, 0, 9));
    expect_why(script, watcher, 2, 1, "busy", "1 job of other pools");
    script_say(script, worker, failed(script, 10, 1, 1, 0, FARPOOL_EFUNCTION));
    const struct msg_job_info *info = ask(script, watcher, 1, 1);
    assert_int_equal(info->done, 1);
    assert_int_equal(info->failed, 1);
    assert_string_equal(info->host, "host1");
    assert_int_equal(info->pid, 1);
}

static void test_why_failed(void **state)
{
    struct script *script = *state;
    const uint64_t first = add_worker(script, 10, 1), second = add_worker(script, 11, 1);
    const uint64_t client = add_pool(script, 1, 1), watcher = add_client(script, 9);
    script_say_last(script, client, tasks(1, 1, 0, 50));
    struct message *message = pool_failed(1, FARPOOL_ELIBRARY);
    mem_free(message->pool_failed.text);
    message->pool_failed.text = mem_strdup("libx.so\nis missing");
    script_say_last(script, first, message);
    script_say(script, first, returned(1, 1, 0, 2));
    script_flush(script);
    expect_why(script, watcher, 1, 1, "busy", "the 1 slot of this pool has work");
    script_say_last(script, second, pool_failed(1, FARPOOL_EMACHINE));
    expect_why(script, watcher, 1, 1, "failed",
               "no node can run this pool: node10: libx.so is missing; "
               "node11: it does not run here");
}

static void test_why_limit(void **state)
{
    struct script *script = *state;
    const uint64_t worker = add_worker(script, 10, 4), client = add_client(script, 1);
    const uint64_t watcher = add_client(script, 9);
    script_say(script, client, pool_open(1, 2));
    script_say(script, client, job_open(1, 1, 0, 0));
    script_say_last(script, client, tasks(1, 1, 0, 50));
    assert_int_equal(script_given(script, worker), 4);
    expect_why(script, watcher, 1, 1, "limit", "the pool's limit of 2 processes");
}

static void test_why_window(void **state)
{
    struct script script = {.config = {.workers_max = 0}};
    (void)state;
    coordinator_config_init(&script.config);
    script.config.client_tasks_max = 5;
    script_begin(&script);
    script.worker_bytes = 24; /* three inputs */
    add_worker(&script, 10, 4);
    const uint64_t client = add_pool(&script, 1, 2), watcher = add_client(&script, 9);
    script_say_last(&script, client, tasks(1, 1, 0, 4));
    expect_why(&script, watcher, 1, 1, "window", "the workers have as many tasks");
    script_say_last(&script, client, tasks(1, 1, 4, 1));
    expect_why(&script, watcher, 1, 1, "window",
               "; its client has 5 tasks (40 bytes) under way, and may not send more");
    expect_why(&script, watcher, 1, 2, "window", "its client has 5 tasks");
    script_end(&script);
}

static void test_why_settling(void **state)
{
    struct script *script = *state;
    script->previous = make_id(99);
    const uint64_t worker = add_worker(script, 10, 1), watcher = add_client(script, 9);
    script_say_last(script, worker, held(1, 1, 0, 5));
    expect_why(script, watcher, 1, 1, "", "");
    script->now_ms += 40;
    const uint64_t client = add_client(script, 1);
    script_say(script, client, pool_open(1, 0));
    script_say(script, client, job_resumed(1, 1));
    script_say_last(script, client, tasks(1, 1, 5, 5));
    expect_why(script, watcher, 1, 1, "settling", "was restarted 40 ms ago");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCRIPT_TEST(test_cancel_one_job),
        SCRIPT_TEST(test_cancel_a_pool),
        SCRIPT_TEST(test_cancel_nothing),
        SCRIPT_TEST(test_cancel_before_the_client_is_back),
        SCRIPT_TEST(test_drain),
        SCRIPT_TEST(test_drain_is_said_again),
        SCRIPT_TEST(test_drain_wish_ends),
        SCRIPT_TEST(test_cancel_is_said_again),
        SCRIPT_TEST(test_questions_without_memory),
        SCRIPT_TEST(test_drain_all_of_a_name),
        SCRIPT_TEST(test_why_no_workers),
        SCRIPT_TEST(test_why_busy),
        SCRIPT_TEST(test_why_failed),
        SCRIPT_TEST(test_why_limit),
        cmocka_unit_test(test_why_window),
        SCRIPT_TEST(test_why_settling),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
