/* SPDX-License-Identifier: Apache-2.0
 *
 * test_client_again.c: a core that is told what was under way in an earlier life: it
 * sends that again as on another link, each task with its attempt, and goes on; and what
 * it tells who keeps account of attempts. */
#define SCRIPT_RESUMES true
#include "tests/unit/client_script.h"

static void again(struct script *script, uint64_t job, uint64_t first, uint32_t count,
                  uint32_t attempt, bool under_way)
{
    struct client_event event = {.kind = CLIENT_JOB_AGAIN,
                                 .job = job,
                                 .span = script_span(first, count, 4),
                                 .losses = attempt - 1,
                                 .under_way = under_way};
    event.span.attempt = attempt;
    script_event(script, event);
}

/* Everything up to JOB_OPEN, which says that it goes on. */
static void greet(struct script *script, uint64_t tasks_max, uint64_t job)
{
    script_link_up(script);
    script_message(script, script_make_welcome(tasks_max, 1000));
    script_sent(script, MSG_POOL_OPEN);
    script_take(script, CLIENT_READY);
    script_flush(script);
    const struct message *open = script_sent(script, MSG_JOB_OPEN);
    assert_int_equal(open->job_open.job, job);
    assert_true(open->job_open.resumed);
}

static void pass_over(struct script *script, uint64_t job, uint64_t count)
{
    script_event(script, (struct client_event){
                             .kind = CLIENT_JOB_SKIP, .job = job, .count = count});
}

static void test_goes_on(void **state)
{
    (void)state;
    struct script script;
    script_create(&script, false);
    script.options.lazy = true;
    const uint64_t job = script_job(&script);
    pass_over(&script, job, 10);
    again(&script, job, 10, 2, 1, true);
    again(&script, job, 12, 1, 2, true);
    again(&script, job, 13, 1, 2, false); /* never sent, but of that attempt */
    script_input(&script, job, 14, 2, 4);
    script_input_end(&script, job);
    greet(&script, 100, job);
    const struct message *tasks = script_sent(&script, MSG_TASKS);
    assert_int_equal(tasks->tasks.spans_count, 2);
    assert_int_equal(tasks->tasks.spans[0].first, 10);
    assert_int_equal(tasks->tasks.spans[0].attempt, 1);
    assert_int_equal(tasks->tasks.spans[1].first, 12);
    assert_int_equal(tasks->tasks.spans[1].attempt, 2);
    script_sent(&script, MSG_RESUMED);
    tasks = script_sent(&script, MSG_TASKS); /* and what is new */
    assert_int_equal(tasks->tasks.spans[0].first, 13);
    assert_int_equal(tasks->tasks.spans[0].attempt, 2);
    assert_int_equal(tasks->tasks.spans[1].first, 14);
    script_result(&script, job, 12, 1, 1); /* of an attempt given up */
    script_quiet(&script);
    script_result(&script, job, 10, 6, 1);
    script_took(&script, job, 10, 2);
    script_took(&script, job, 14, 2);
    script_message(&script, script_make_done(&script, job, 12, 2, 2, 4));
    script_took(&script, job, 12, 2);
    script_flush(&script);
    script_acked(&script, 1, 3);
    script_ended(&script, job);
    script_done(&script);
}

/* What was counted before the restart counts behind it. */
static void test_losses_count(void **state)
{
    (void)state;
    struct script script;
    script_create(&script, false); /* losses_max 3 */
    const uint64_t job = script_job(&script);
    again(&script, job, 0, 1, 3, true);
    script_input_end(&script, job);
    greet(&script, 100, job);
    script_sent_span(&script, job, 0, 1, 3);
    script_sent(&script, MSG_RESUMED);
    script_loss(&script, job, 0, 1, 3, FARPOOL_ENODELOST);
    script_gave_up(&script, job, 0, 1, FARPOOL_ENODELOST);
    script_flush(&script);
    script_ended(&script, job);
    script_done(&script);
}

/* A coordinator with a smaller window than the one before would drop who exceeds it. */
static void test_smaller_window(void **state)
{
    (void)state;
    struct script script;
    script_create(&script, false);
    const uint64_t job = script_job(&script);
    again(&script, job, 0, 10, 2, true);
    script_input_end(&script, job);
    greet(&script, 4, job);
    script_sent_span(&script, job, 0, 4, 2);
    script_sent(&script, MSG_RESUMED);
    script_message(&script, script_make_done(&script, job, 0, 4, 2, 4));
    script_took(&script, job, 0, 4);
    script_flush(&script);
    script_acked(&script, 1, 1);
    const struct message *tasks = script_sent(&script, MSG_TASKS);
    assert_int_equal(tasks->tasks.spans[0].first, 4);
    assert_int_equal(tasks->tasks.spans[0].attempt, 2);
    script_forget(&script);
    script_fini(&script);
}

/* The first link may end before it was welcomed, and the first window is another's. */
static void test_smaller_window_later(void **state)
{
    (void)state;
    struct script script;
    script_create(&script, false);
    const uint64_t job = script_job(&script);
    again(&script, job, 0, 10, 2, true);
    script_input_end(&script, job);
    script_link_up(&script);
    script_link_down(&script);
    greet(&script, 4, job);
    script_sent_span(&script, job, 0, 4, 2);
    script_sent(&script, MSG_RESUMED);
    script_forget(&script);
    script_fini(&script);
}

/* What must not run twice cannot wait: it ends. */
static void test_smaller_window_once(void **state)
{
    (void)state;
    struct script script;
    script_create(&script, false);
    script.options.losses_max = 1;
    const uint64_t job = script_job(&script);
    again(&script, job, 0, 3, 1, true);
    script_input_end(&script, job);
    script_link_up(&script);
    script_message(&script, script_make_welcome(2, 1000));
    script_sent(&script, MSG_POOL_OPEN);
    script_take(&script, CLIENT_READY);
    script_flush(&script);
    script_gave_up(&script, job, 2, 1, FARPOOL_ENODELOST);
    script_sent(&script, MSG_JOB_OPEN);
    script_sent_span(&script, job, 0, 2, 1);
    script_sent(&script, MSG_RESUMED);
    script_done(&script);
}

static const struct client_effect *told(struct script *script, uint64_t first,
                                        uint64_t count, uint32_t attempt)
{
    const struct client_effect *effect = script_take(script, CLIENT_AGAIN);
    assert_int_equal(effect->first, first);
    assert_int_equal(effect->count, count);
    assert_int_equal(effect->attempt, attempt);
    return effect;
}

static void test_tells_again(void **state)
{
    (void)state;
    struct script script;
    script_create(&script, false);
    script_link_up(&script);
    script_message(&script, script_make_welcome(100, 1000));
    script_flush(&script);
    script_forget(&script); /* RESUMED, without a job, is the last of it */
    script.options.retries = 1;
    script.options.tells_again = true;
    const uint64_t job = script_map(&script, 10);
    script_loss(&script, job, 0, 4, 1, FARPOOL_ENODELOST);
    const struct client_effect *effect = told(&script, 0, 4, 2);
    assert_int_equal((uint32_t)effect->losses, 1);
    assert_int_equal(effect->losses >> 32, WATCH_ONE); /* and is watched */
    assert_int_equal(effect->failures, 0);
    script_loss(&script, job, 4, 1, 1, FARPOOL_EDRAINED);
    assert_int_equal(told(&script, 4, 1, 2)->losses, 0);
    script_failure(&script, job, 5, 1, FARPOOL_EFUNCTION);
    effect = told(&script, 5, 1, 2);
    assert_int_equal(effect->losses, 0);
    assert_int_equal(effect->failures, 1);
    script_quiet(&script);
    script_fini(&script);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_goes_on),
        cmocka_unit_test(test_losses_count),
        cmocka_unit_test(test_smaller_window),
        cmocka_unit_test(test_smaller_window_once),
        cmocka_unit_test(test_smaller_window_later),
        cmocka_unit_test(test_tells_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
