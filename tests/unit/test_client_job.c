/* SPDX-License-Identifier: Apache-2.0
 *
 * test_client_job.c: cancelling and freeing jobs, and the ways in which a pool fails,
 * closes, is terminated and ends. */
#include "tests/unit/client_script.h"

static uint64_t cancel(struct script *script, uint64_t job, uint64_t first,
                       uint64_t count, bool kill)
{
    struct client_event event = {.kind = CLIENT_JOB_CANCEL,
                                 .job = job,
                                 .first = first,
                                 .count = count,
                                 .kill = kill};
    assert_int_equal(script_step(script, &event), 0);
    return event.count;
}

static void close_pool(struct script *script)
{
    script_event(script, (struct client_event){.kind = CLIENT_CLOSE});
    script_flush(script);
}

static void terminate(struct script *script)
{
    script_event(script, (struct client_event){.kind = CLIENT_TERMINATE});
    script_flush(script);
}

static struct message *make_closed(void)
{
    struct message *message = script_make(MSG_POOL_CLOSED);
    message->pool_closed.pool = SCRIPT_POOL;
    return message;
}

static void expect_end(struct script *script)
{
    script_sent(script, MSG_BYE);
    script_take(script, CLIENT_POOL_ENDED);
    script_quiet(script);
    assert_true(client_core_deadline(script->core) == UINT64_MAX);
}

/* ---------------------------------------------------------------- cancelling */

static void test_cancel_one_range_all(void **state)
{
    (void)state;
    struct script script;
    script_open_with(&script, 10, 1 << 20);
    const uint64_t job = script_job(&script);
    script_input(&script, job, 0, 20, 4);
    script_flush(&script);
    script_sent(&script, MSG_JOB_OPEN);
    script_sent_span(&script, job, 0, 10, 1);
    script_result(&script, job, 2, 2, 1);
    script_took(&script, job, 2, 2);

    assert_int_equal(cancel(&script, job, 1, 1, true), 1);
    script_sent_cancel(&script, job, 1, 1, true);
    script_gave_up(&script, job, 1, 1, FARPOOL_ECANCELLED);
    assert_int_equal(cancel(&script, job, 1, 1, true), 0); /* it has ended */
    assert_int_equal(cancel(&script, job, 3, 1, true), 0);
    script_quiet(&script);

    assert_int_equal(cancel(&script, job, 15, 2, false),
                     2); /* never sent: nobody to tell */
    script_gave_up(&script, job, 15, 2, FARPOOL_ECANCELLED);
    script_quiet(&script);

    assert_int_equal(cancel(&script, job, 0, UINT64_MAX, false), 15);
    script_sent_cancel(&script, job, 0, 20, false);
    script_gave_up(&script, job, 0, 1, FARPOOL_ECANCELLED);
    script_gave_up(&script, job, 4, 11, FARPOOL_ECANCELLED); /* sent and waiting in one */
    script_gave_up(&script, job, 17, 3, FARPOOL_ECANCELLED);
    assert_int_equal(cancel(&script, job, 500, 5, false), 0);

    script_result(&script, job, 0, 10, 1); /* results come all the same: stale, ACKed */
    script_input_end(&script, job);
    script_flush(&script);
    script_acked(&script, 1, 2);
    script_ended(&script, job);
    script_done(&script);
}

/* Cancelled while the link is down: the next coordinator never hears of the tasks. */
static void test_cancel_while_down(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    const uint64_t job = script_map(&script, 10);
    script_link_down(&script);
    assert_int_equal(cancel(&script, job, 0, 9, false), 9);
    script_gave_up(&script, job, 0, 9, FARPOOL_ECANCELLED);
    script_link_up(&script);
    script_message(&script, script_make_welcome(10, 1000));
    script_sent(&script, MSG_POOL_OPEN);
    script_flush(&script);
    assert_true(script_sent(&script, MSG_JOB_OPEN)->job_open.resumed);
    script_sent_span(&script, job, 9, 1, 1);
    script_sent(&script, MSG_RESUMED);
    script_done(&script);
}

static void test_free_job(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    const uint64_t job = script_map(&script, 10), other = script_job(&script);
    script_event(&script, (struct client_event){
                              .kind = CLIENT_JOB_FREE, .job = job, .kill = true});
    script_sent_cancel(&script, job, 0, 10, true);
    assert_int_equal(script_sent(&script, MSG_JOB_CLOSE)->job_close.job, job);
    script_event(&script, (struct client_event){.kind = CLIENT_JOB_FREE, .job = other});
    script_quiet(&script); /* nobody had heard of it */
    script_result(&script, job, 0, 10, 1);
    script_flush(&script);
    script_acked(&script, 1, 1);
    struct client_event again = {.kind = CLIENT_JOB_FREE, .job = job};
    assert_int_equal(script_step(&script, &again), FARPOOL_EINVAL);
    script_done(&script);
}

static void test_events_of_no_job(void **state)
{
    (void)state;
    static const enum client_event_kind kinds[] = {
        CLIENT_JOB_INPUT_END, CLIENT_JOB_CONSUMED, CLIENT_JOB_CANCEL, CLIENT_JOB_FREE};
    struct script script;
    script_open(&script);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        struct client_event event = {.kind = kinds[i], .job = 4};
        assert_int_equal(script_step(&script, &event), FARPOOL_EINVAL);
    }
    struct client_event input = {
        .kind = CLIENT_JOB_INPUT, .job = 4, .span = script_span(0, 2, 2)};
    assert_int_equal(script_step(&script, &input), FARPOOL_EINVAL);
    assert_non_null(input.span.data); /* the caller's still */
    span_fini(&input.span);
    script_done(&script);
}

/* ------------------------------------------------------------------- closing */

static void test_close_waits_for_jobs(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    const uint64_t job = script_map(&script, 2);
    close_pool(&script);
    script_quiet(&script);
    struct client_event open = {.kind = CLIENT_JOB_OPEN, .options = &script.options};
    assert_int_equal(script_step(&script, &open), FARPOOL_ECLOSED);
    script_link_down(&script); /* not even this ends it: tasks are left */
    script_flush(&script);
    script_quiet(&script);
    script_link_up(&script);
    script_message(&script, script_make_welcome(10, 1000));
    script_sent(&script, MSG_POOL_OPEN);
    script_flush(&script);
    script_sent(&script, MSG_JOB_OPEN);
    script_sent_span(&script, job, 0, 2, 1);
    script_sent(&script, MSG_RESUMED);
    script_result(&script, job, 0, 2, 1);
    script_took(&script, job, 0, 2);
    script_flush(&script);
    script_acked(&script, 1, 1);
    script_ended(&script, job);
    assert_false(script_sent(&script, MSG_POOL_CLOSE)->pool_close.kill);
    close_pool(&script); /* again: nothing new */
    script_quiet(&script);
    for (int i = 0; i < 20; i++) { /* as long as the coordinator is there */
        script.now_ms += 1000;
        script_message(&script, script_make(MSG_HEARTBEAT));
        script_flush(&script);
        script_sent(&script, MSG_HEARTBEAT);
    }
    script_message(&script, make_closed());
    expect_end(&script);
    script_flush(&script);
    script_event(&script, (struct client_event){.kind = CLIENT_LINK_UP});
    script_message(&script, make_closed());
    script_event(&script, (struct client_event){.kind = CLIENT_TERMINATE});
    script_flush(&script);
    script_done(&script);
}

static void test_close_without_link(void **state)
{
    (void)state;
    struct script script;
    script_create(&script, false);
    close_pool(&script);
    script_take(&script, CLIENT_POOL_ENDED);
    script_done(&script);

    script_open(&script);
    close_pool(&script);
    script_sent(&script, MSG_POOL_CLOSE);
    script_link_down(&script); /* whoever is there closes it by himself */
    script_flush(&script);
    script_take(&script, CLIENT_POOL_ENDED);
    script_done(&script);
}

static void test_terminate_fails_everything(void **state)
{
    (void)state;
    struct script script;
    script_open_with(&script, 5, 1000);
    const uint64_t job = script_job(&script);
    script_input(&script, job, 0, 20, 4);
    script_flush(&script);
    script_sent(&script, MSG_JOB_OPEN);
    script_sent_span(&script, job, 0, 5, 1);
    script_result(&script, job, 1, 1, 1);
    script_took(&script, job, 1, 1);
    script.options.lazy = true;
    const uint64_t lazy = script_job(&script); /* whose input has not ended */
    terminate(&script);
    script_sent_cancel(&script, job, 0, 20, true);
    script_gave_up(&script, job, 0, 1, FARPOOL_ETERMINATED);
    script_gave_up(&script, job, 2, 18, FARPOOL_ETERMINATED);
    script_acked(&script, 1, 1);
    script_ended(&script, job);
    assert_int_equal(script_take(&script, CLIENT_JOB_ENDED)->job, lazy);
    assert_true(script_sent(&script, MSG_POOL_CLOSE)->pool_close.kill);
    script_quiet(&script);
    struct client_event input = {.kind = CLIENT_JOB_INPUT_END, .job = lazy};
    assert_int_equal(script_step(&script, &input), FARPOOL_EINVAL);
    script_message(&script, make_closed());
    expect_end(&script);
    script_fini(&script);
}

static void test_terminate_does_not_wait_for_ever(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    terminate(&script);
    script_sent(&script, MSG_POOL_CLOSE);
    script.now_ms += 500;
    terminate(&script); /* again: the limit stays */
    assert_int_equal(client_core_deadline(script.core), 2000); /* a heartbeat first */
    script.now_ms = 2999;
    script_flush(&script);
    script_sent(&script, MSG_HEARTBEAT);
    assert_int_equal(client_core_deadline(script.core), 3000);
    script.now_ms = 3000;
    script_flush(&script);
    expect_end(&script);
    script_fini(&script);

    script_open(&script);
    const uint64_t job = script_map(&script, 3);
    script_link_down(&script);
    terminate(&script);
    script_gave_up(&script, job, 0, 3, FARPOOL_ETERMINATED);
    assert_int_equal(script_take(&script, CLIENT_JOB_ENDED)->job, job);
    script_take(&script, CLIENT_POOL_ENDED);
    script_done(&script);
}

/* There was no memory to tell a job's end: its input is refused all the same. */
static void test_input_behind_the_end(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    script.options.lazy = true;
    const uint64_t job = script_job(&script);
    script_event(&script, (struct client_event){.kind = CLIENT_TERMINATE});
    client_effects_fini(&script.effects);
    script.taken = 0;
    mem_fail_after(1);
    script_flush(&script);
    mem_fail_after(0);
    script_quiet(&script);
    struct client_event input = {
        .kind = CLIENT_JOB_INPUT, .job = job, .span = script_span(0, 2, 2)};
    assert_int_equal(script_step(&script, &input), FARPOOL_EINVAL);
    span_fini(&input.span);
    input.kind = CLIENT_JOB_INPUT_END;
    assert_int_equal(script_step(&script, &input), FARPOOL_EINVAL);
    script_flush(&script);
    assert_int_equal(script_take(&script, CLIENT_JOB_ENDED)->job, job);
    script_sent(&script, MSG_POOL_CLOSE);
    script_done(&script);
}

/* Closing takes too long: what still runs is killed. */
static void test_terminate_after_close(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    close_pool(&script);
    assert_false(script_sent(&script, MSG_POOL_CLOSE)->pool_close.kill);
    terminate(&script);
    assert_true(script_sent(&script, MSG_POOL_CLOSE)->pool_close.kill);
    script_message(&script, make_closed());
    expect_end(&script);
    script_fini(&script);
}

/* Nobody asked for it: nothing happens. */
static void test_closed_unasked(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    script_message(&script, make_closed());
    script_flush(&script);
    script_done(&script);
}

/* ------------------------------------------------------------------- failing */

static void test_one_node_cannot(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    script_message(&script, script_make_pool_failed(FARPOOL_ELIBRARY, false, 2));
    const struct client_effect *effect = script_take(&script, CLIENT_WARNING);
    assert_int_equal(effect->code, FARPOOL_ELIBRARY);
    assert_string_equal(effect->text, "libx.so is missing");
    assert_string_equal(effect->node, "n1");
    script_map(&script, 1);
    script_done(&script);
}

static void pool_fails(bool fatal, uint32_t left)
{
    struct script script;
    script_open(&script);
    const uint64_t job = script_map(&script, 3);
    script_message(&script, script_make_pool_failed(FARPOOL_EINITIALIZER, fatal, left));
    const struct client_effect *effect = script_take(&script, CLIENT_POOL_FAILED);
    assert_int_equal(effect->code, FARPOOL_EINITIALIZER);
    assert_string_equal(effect->node, "n1");
    struct client_event open = {.kind = CLIENT_JOB_OPEN, .options = &script.options};
    assert_int_equal(script_step(&script, &open), FARPOOL_ECLOSED);
    script_flush(&script);
    script_sent_cancel(&script, job, 0, 3, true);
    effect = script_gave_up(&script, job, 0, 3, FARPOOL_EINITIALIZER);
    assert_string_equal(effect->text, "libx.so is missing");
    assert_string_equal(effect->node, "n1");
    script_ended(&script, job);
    /* Told once; a failed pool does not dial to fail again. */
    script_message(&script, script_make_pool_failed(FARPOOL_EINITIALIZER, true, 0));
    script_quiet(&script);
    close_pool(&script);
    assert_true(script_sent(&script, MSG_POOL_CLOSE)->pool_close.kill);
    script_link_down(&script);
    script_event(&script, (struct client_event){.kind = CLIENT_LINK_UP});
    script_flush(&script);
    script_take(&script, CLIENT_POOL_ENDED);
    script_done(&script);
}

static void test_pool_fails(void **state)
{
    (void)state;
    pool_fails(true, 5);
    pool_fails(false, 0);
}

/* The shell cannot go on: without a link, and for a reason of its own. */
static void test_shell_gives_up(void **state)
{
    (void)state;
    struct script script;
    struct client_event fail = {
        .kind = CLIENT_FAIL, .code = FARPOOL_ENOMEM, .text = "no memory here"};
    script_open(&script);
    const uint64_t job = script_map(&script, 3);
    script_link_down(&script);
    assert_int_equal(script_step(&script, &fail), 0);
    const struct client_effect *effect = script_take(&script, CLIENT_POOL_FAILED);
    assert_int_equal(effect->code, FARPOOL_ENOMEM);
    assert_string_equal(effect->text, "no memory here");
    script_flush(&script);
    effect = script_gave_up(&script, job, 0, 3, FARPOOL_ENOMEM);
    assert_string_equal(effect->text, "no memory here");
    assert_int_equal(script_take(&script, CLIENT_JOB_ENDED)->job, job);
    /* The first reason stays; and there is nobody to close the pool with. */
    assert_int_equal(script_step(&script, &fail), 0);
    script_quiet(&script);
    close_pool(&script);
    script_take(&script, CLIENT_POOL_ENDED);
    assert_int_equal(script_step(&script, &fail), 0);
    script_done(&script);
}

/* The answer to POOL_CLOSE may be what it has lost. */
static void test_shell_gives_up_at_the_end(void **state)
{
    (void)state;
    struct script script;
    struct client_event fail = {.kind = CLIENT_FAIL, .code = FARPOOL_ENOMEM, .text = ""};
    script_open(&script);
    close_pool(&script);
    assert_false(script_sent(&script, MSG_POOL_CLOSE)->pool_close.kill);
    assert_int_equal(script_step(&script, &fail), 0);
    script_quiet(&script);
    script.now_ms += 1999;
    script_flush(&script);
    script_sent(&script, MSG_HEARTBEAT);
    assert_int_equal(client_core_deadline(script.core), script.now_ms + 1);
    script.now_ms++;
    script_flush(&script);
    expect_end(&script);
    script_done(&script);
}

/* Closed, with jobs left, and then failed. */
static void test_fails_while_closing(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    const uint64_t job = script_map(&script, 3);
    close_pool(&script);
    script_message(&script, script_make_pool_failed(FARPOOL_ENOFUNCTION, true, 0));
    script_take(&script, CLIENT_POOL_FAILED);
    script_flush(&script);
    script_sent(&script, MSG_CANCEL);
    script_gave_up(&script, job, 0, 3, FARPOOL_ENOFUNCTION);
    script_ended(&script, job);
    script_sent(&script, MSG_POOL_CLOSE);
    script_message(&script, script_make_pool_failed(FARPOOL_ENOFUNCTION, true, 0));
    script_message(&script, make_closed());
    expect_end(&script);
    script_fini(&script);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cancel_one_range_all),
        cmocka_unit_test(test_cancel_while_down),
        cmocka_unit_test(test_free_job),
        cmocka_unit_test(test_events_of_no_job),
        cmocka_unit_test(test_close_waits_for_jobs),
        cmocka_unit_test(test_close_without_link),
        cmocka_unit_test(test_terminate_fails_everything),
        cmocka_unit_test(test_terminate_does_not_wait_for_ever),
        cmocka_unit_test(test_input_behind_the_end),
        cmocka_unit_test(test_terminate_after_close),
        cmocka_unit_test(test_closed_unasked),
        cmocka_unit_test(test_one_node_cannot),
        cmocka_unit_test(test_pool_fails),
        cmocka_unit_test(test_fails_while_closing),
        cmocka_unit_test(test_shell_gives_up),
        cmocka_unit_test(test_shell_gives_up_at_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
