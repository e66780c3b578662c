/* SPDX-License-Identifier: Apache-2.0
 *
 * test_client_operator.c: CANCEL_JOB: what an operator cancels ends at its client, each
 * task once and with who did it, and nothing else does. */
#include "tests/unit/client_script.h"

static struct message *make_cancel_job(uint64_t job, bool kill)
{
    struct message *message = script_make(MSG_CANCEL_JOB);
    message->cancel_job.pool = SCRIPT_POOL;
    message->cancel_job.job = job;
    message->cancel_job.kill = kill;
    return message;
}

static void expect_stopped(struct script *script, uint64_t job, uint64_t first,
                           uint64_t count)
{
    const struct client_effect *effect =
        script_gave_up(script, job, first, count, FARPOOL_ECANCELLED);
    assert_string_equal(effect->text, "cancelled by an operator");
}

static void expect_job_end(struct script *script, uint64_t job)
{
    assert_int_equal(script_sent(script, MSG_JOB_CLOSE)->job_close.job, job);
    const struct client_effect *effect = script_take(script, CLIENT_JOB_ENDED);
    assert_int_equal(effect->job, job);
    assert_int_equal(effect->code, FARPOOL_ECANCELLED);
    assert_string_equal(effect->text, "cancelled by an operator");
}

/* Sent, waiting and done tasks of one job, whose input has not ended: what is left ends
 * once, and the job with it; another job goes on. */
static void test_operator_cancels_a_job(void **state)
{
    (void)state;
    struct script script;
    script_open_with(&script, 10, 1 << 20);
    const uint64_t job = script_job(&script);
    script_input(&script, job, 0, 20, 4);
    script_flush(&script);
    script_sent(&script, MSG_JOB_OPEN);
    script_sent_span(&script, job, 0, 10, 1);
    const uint64_t other = script_job(&script);
    script_input(&script, other, 0, 1, 4);
    script_result(&script, job, 2, 2, 1);
    script_took(&script, job, 2, 2);

    script_message(&script, make_cancel_job(77, true)); /* nobody's */
    script_message(&script, make_cancel_job(job, true));
    script_quiet(&script);
    script_flush(&script);
    script_sent_cancel(&script, job, 0, 20, true);
    expect_stopped(&script, job, 0, 2);
    expect_stopped(&script, job, 4, 16);
    script_acked(&script, 1, 1);
    script_sent(&script, MSG_JOB_OPEN);
    script_sent_span(&script, other, 0, 1, 1);
    expect_job_end(&script, job);
    script_quiet(&script);

    script_message(&script, make_cancel_job(job, true)); /* again: it is gone */
    script_result(&script, job, 0, 2, 1);                /* stale, ACKed */
    script_flush(&script);
    script_acked(&script, 2, 1);
    script_result(&script, other, 0, 1, 1);
    script_took(&script, other, 0, 1);
    script_input_end(&script, other);
    script_flush(&script);
    script_acked(&script, 3, 1);
    script_ended(&script, other);
    script_done(&script);
}

/* Job 0 is every job, also one that the coordinator has not heard of; what runs may. */
static void test_operator_cancels_a_pool(void **state)
{
    (void)state;
    struct script script;
    script_open_with(&script, 3, 1 << 20);
    const uint64_t first = script_job(&script), second = script_job(&script);
    script_input(&script, first, 0, 3, 4);
    script_input(&script, second, 0, 2, 4);
    script_flush(&script);
    script_sent(&script, MSG_JOB_OPEN);
    script_sent_span(&script, first, 0, 3, 1);
    script_quiet(&script);
    script_message(&script, make_cancel_job(0, false));
    const uint64_t later = script_job(&script); /* opened behind it: goes on */
    script_flush(&script);
    script_sent_cancel(&script, first, 0, 3, false);
    expect_stopped(&script, first, 0, 3);
    expect_stopped(&script, second, 0, 2);
    expect_job_end(&script, first);
    assert_int_equal(script_take(&script, CLIENT_JOB_ENDED)->job, second);
    script_quiet(&script);
    script_input_end(&script, later);
    script_flush(&script);
    assert_int_equal(script_take(&script, CLIENT_JOB_ENDED)->code, 0);
    script_done(&script);
}

/* Whichever allocation fails: each task still ends once, and is told to K once. */
static void test_operator_cancel_without_memory(void **state)
{
    unsigned retries = 0;
    (void)state;
    for (size_t i = 1; i < 12; i++) {
        struct script script;
        script_open(&script);
        const uint64_t job = script_map(&script, 10);
        script_message(&script, make_cancel_job(0, true));
        mem_fail_after(i);
        script_flush(&script);
        mem_fail_after(0);
        if (client_core_deadline(script.core) <= script.now_ms + 10) {
            script.now_ms += 10;
            retries++;
            script_flush(&script);
        }
        script_sent_cancel(&script, job, 0, 10, true);
        expect_stopped(&script, job, 0, 10);
        expect_job_end(&script, job);
        script_done(&script);
    }
    assert_true(retries >= 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_operator_cancels_a_job),
        cmocka_unit_test(test_operator_cancels_a_pool),
        cmocka_unit_test(test_operator_cancel_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
