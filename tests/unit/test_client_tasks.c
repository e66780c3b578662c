/* SPDX-License-Identifier: Apache-2.0
 *
 * test_client_tasks.c: what is sent when: batches, cuts, the window, priorities. */
#include "tests/unit/client_script.h"

static void set_body_bytes_max(struct script *script, uint64_t body_bytes_max)
{
    script_create(script, false);
    script_link_up(script);
    struct message *welcome = script_make_welcome(1000, 1 << 20);
    welcome->welcome.body_bytes_max = body_bytes_max;
    script_message(script, welcome);
    script_sent(script, MSG_POOL_OPEN);
    script_take(script, CLIENT_READY);
}

static void test_job_options_are_told(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    script.options = (struct client_job_options){.function = "cube",
                                                 .chunk = 3,
                                                 .timeout_ms = 50,
                                                 .losses_max = 1,
                                                 .priority = -4,
                                                 .tasks = 12};
    const uint64_t job = script_job(&script);
    assert_true(job == ((uint64_t)5 << 32) + 1);
    script_input(&script, job, 0, 12, 4);
    script_flush(&script);
    const struct message *open = script_sent(&script, MSG_JOB_OPEN);
    assert_string_equal(open->job_open.function, "cube");
    assert_int_equal(open->job_open.chunk, 3);
    assert_int_equal(open->job_open.timeout_ms, 50);
    assert_int_equal(open->job_open.priority, -4);
    assert_int_equal(open->job_open.tasks, 12);
    assert_true(open->job_open.once);
    assert_false(open->job_open.resumed);
    script_sent_span(&script, job, 0, 12, 1);
    script_done(&script);
}

static void test_empty_job_ends_at_once(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    const uint64_t job = script_job(&script);
    script_input_end(&script, job);
    script_flush(&script);
    assert_int_equal(script_take(&script, CLIENT_JOB_ENDED)->job, job);
    struct client_event input = {.kind = CLIENT_JOB_INPUT_END, .job = job};
    assert_int_equal(script_step(&script, &input), FARPOOL_EINVAL);
    script_done(&script);
}

static void test_nothing_is_sent_before_the_flush(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    const uint64_t job = script_job(&script);
    script_input(&script, job, 0, 1, 4);
    script_input(&script, job, 1, 1, 4);
    script_quiet(&script);
    script_flush(&script);
    script_sent(&script, MSG_JOB_OPEN);
    assert_int_equal(script_sent(&script, MSG_TASKS)->tasks.spans_count, 2);
    script_done(&script);
}

static void test_million_tasks_are_a_few_spans(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    const uint64_t job = script_job(&script);
    script_input(&script, job, 0, 1000000, 4);
    script_input_end(&script, job);
    mem_fail_after(0);
    script_flush(&script);
    assert_true(mem_fail_after(0) < 50);
    script_sent(&script, MSG_JOB_OPEN);
    script_sent_span(&script, job, 0, 262144, 1);
    script_sent_span(&script, job, 262144, 262144, 1);
    script_sent_span(&script, job, 524288, 262144, 1);
    script_sent_span(&script, job, 786432, 213568, 1);
    script_quiet(&script);
    for (uint64_t first = 0; first < 1000000; first += 50000) {
        script_result(&script, job, first, 50000, 1);
        script_took(&script, job, first, 50000);
    }
    script_flush(&script);
    script_acked(&script, 1, 20);
    script_ended(&script, job);
    script_done(&script);
}

static void test_messages_are_packed(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    const uint64_t job = script_job(&script);
    for (uint64_t i = 0; i < 100; i++)
        script_input(&script, job, i, 1, 10);
    script_input(&script, job, 100, 1, 3 << 20); /* larger than a message alone */
    script_input(&script, job, 101, 3, 400000);
    script_flush(&script);
    script_sent(&script, MSG_JOB_OPEN);
    assert_int_equal(script_sent(&script, MSG_TASKS)->tasks.spans_count, 64);
    assert_int_equal(script_sent(&script, MSG_TASKS)->tasks.spans_count, 36);
    script_sent_span(&script, job, 100, 1, 1);
    script_sent_span(&script, job, 101, 2, 1);
    script_sent_span(&script, job, 103, 1, 1);
    script_done(&script);
}

static void test_inputs_of_different_sizes(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    const uint64_t job = script_job(&script);
    struct msg_span span = {.first = 0, .count = 4};
    const uint32_t sizes[] = {600000, 400000, 500000,
                              0}; /* little endian, as this host */
    span.sizes = payload_copy(sizes, sizeof sizes);
    span.data = payload_create(1500000);
    memset(payload_bytes(span.data), 0, 1500000);
    script_event(&script, (struct client_event){
                              .kind = CLIENT_JOB_INPUT, .job = job, .span = span});
    script_flush(&script);
    script_sent(&script, MSG_JOB_OPEN);
    script_sent_span(&script, job, 0, 2, 1);
    script_sent_span(&script, job, 2, 2, 1);
    script_done(&script);
}

static void test_window_of_tasks(void **state)
{
    (void)state;
    struct script script;
    script_open_with(&script, 10, 1 << 20);
    const uint64_t job = script_job(&script);
    script_input(&script, job, 0, 25, 4);
    script_flush(&script);
    script_sent(&script, MSG_JOB_OPEN);
    script_sent_span(&script, job, 0, 10, 1);
    script_flush(&script);
    script_quiet(&script);
    script_result(&script, job, 2, 3, 1);
    script_took(&script, job, 2, 3);
    script_flush(&script);
    script_acked(&script, 1, 1);
    script_sent_span(&script, job, 10, 3, 1);
    /* What is lost leaves the window, and enters it again. */
    script_loss(&script, job, 10, 3, 1, FARPOOL_ENODELOST);
    script_flush(&script);
    script_sent_span(&script, job, 10, 3, 2);
    script_quiet(&script);
    /* And what is cancelled is no longer under way. */
    struct client_event cancel = {
        .kind = CLIENT_JOB_CANCEL, .job = job, .first = 0, .count = 2};
    assert_int_equal(script_step(&script, &cancel), 0);
    script_sent(&script, MSG_CANCEL);
    script_gave_up(&script, job, 0, 2, FARPOOL_ECANCELLED);
    script_flush(&script);
    script_sent_span(&script, job, 13, 2, 1);
    script_done(&script);
}

static void test_window_of_bytes_and_oversize(void **state)
{
    (void)state;
    struct script script;
    script_open_with(&script, 1000, 1000);
    const uint64_t job = script_job(&script);
    script_input(&script, job, 0, 5, 300);  /* three fit */
    script_input(&script, job, 5, 1, 5000); /* larger than the window */
    script_input(&script, job, 6, 2, 100);
    script_flush(&script);
    script_sent(&script, MSG_JOB_OPEN);
    script_sent_span(&script, job, 0, 3, 1);
    script_quiet(&script);
    script_result(&script, job, 0, 3, 1);
    script_took(&script, job, 0, 3);
    script_flush(&script);
    script_acked(&script, 1, 1);
    script_sent_span(&script, job, 3, 2, 1);
    script_quiet(&script); /* the small ones wait behind the large one */
    script_result(&script, job, 3, 1, 1);
    script_took(&script, job, 3, 1);
    script_flush(&script);
    script_acked(&script, 2, 1);
    script_quiet(&script);
    script_result(&script, job, 4, 1, 1);
    script_took(&script, job, 4, 1);
    script_flush(&script);
    script_acked(&script, 3, 1);
    script_sent_span(&script, job, 5, 1, 1); /* alone */
    script_quiet(&script);
    script_result(&script, job, 5, 1, 1);
    script_took(&script, job, 5, 1);
    script_flush(&script);
    script_acked(&script, 4, 1);
    script_sent_span(&script, job, 6, 2, 1);
    script_done(&script);
}

/* Even a window of nothing lets one task through. */
static void test_window_of_nothing(void **state)
{
    (void)state;
    struct script script;
    script_open_with(&script, 0, 0);
    const uint64_t job = script_job(&script);
    script_input(&script, job, 0, 3, 4);
    script_flush(&script);
    script_sent(&script, MSG_JOB_OPEN);
    script_sent_span(&script, job, 0, 1, 1);
    script_quiet(&script);
    script_result(&script, job, 0, 1, 1);
    script_took(&script, job, 0, 1);
    script_flush(&script);
    script_acked(&script, 1, 1);
    script_sent_span(&script, job, 1, 1, 1);
    script_done(&script);
}

static void test_input_larger_than_any_body(void **state)
{
    (void)state;
    struct script script;
    set_body_bytes_max(&script, 1000);
    const uint64_t job = script_job(&script);
    script_input(&script, job, 0, 3, 400);
    script_input(&script, job, 3, 1, 1001);
    script_input(&script, job, 4, 1, 1000);
    script_input_end(&script, job);
    script_flush(&script);
    script_sent(&script, MSG_JOB_OPEN);
    const struct message *tasks = script_sent(&script, MSG_TASKS);
    assert_int_equal(tasks->tasks.spans_count, 2); /* a span is one body as well */
    assert_int_equal(tasks->tasks.spans[0].count, 2);
    assert_int_equal(tasks->tasks.spans[1].count, 1);
    const struct client_effect *effect =
        script_gave_up(&script, job, 3, 1, FARPOOL_ETOOBIG);
    assert_non_null(strstr(effect->text, "1001"));
    assert_non_null(strstr(effect->text, "1000"));
    script_sent_span(&script, job, 4, 1, 1);
    script_result(&script, job, 0, 5, 1);
    script_took(&script, job, 0, 3);
    script_took(&script, job, 4, 1);
    script_flush(&script);
    script_acked(&script, 1, 1);
    script_ended(&script, job);
    script_done(&script);
}

/* Alone in its job, it ends the job in the same FLUSH. */
static void test_only_input_too_large(void **state)
{
    (void)state;
    struct script script;
    set_body_bytes_max(&script, 10);
    const uint64_t job = script_job(&script);
    script_input(&script, job, 0, 1, 11);
    script_input_end(&script, job);
    script_flush(&script);
    script_gave_up(&script, job, 0, 1, FARPOOL_ETOOBIG);
    assert_int_equal(script_take(&script, CLIENT_JOB_ENDED)->job, job);
    script_done(&script);
}

static void test_cuts_between_chunks(void **state)
{
    (void)state;
    struct script script;
    script_open_with(&script, 25, 1 << 20);
    script.options.chunk = 10;
    const uint64_t job = script_job(&script);
    script_input(&script, job, 0, 64, 4);
    script_flush(&script);
    script_sent(&script, MSG_JOB_OPEN);
    script_sent_span(&script, job, 0, 20, 1);
    script_quiet(&script); /* five more would cut a chunk */
    script_result(&script, job, 0, 5, 1);
    script_took(&script, job, 0, 5);
    script_flush(&script);
    script_acked(&script, 1, 1);
    script_sent_span(&script, job, 20, 10, 1);
    script_done(&script);
    /* A chunk that is larger than the window is cut: it must pass. */
    script_open_with(&script, 25, 1 << 20);
    script.options.chunk = 100;
    const uint64_t large = script_job(&script);
    script_input(&script, large, 0, 200, 4);
    script_flush(&script);
    script_sent(&script, MSG_JOB_OPEN);
    script_sent_span(&script, large, 0, 25, 1);
    script_done(&script);
}

/* A chunk larger than a message goes in pieces, one a message. */
static void test_chunk_larger_than_a_message(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    script.options.chunk = 8;
    const uint64_t job = script_job(&script);
    script_input(&script, job, 0, 8, 262144);
    script_flush(&script);
    script_sent(&script, MSG_JOB_OPEN);
    script_sent_span(&script, job, 0, 4, 1);
    script_sent_span(&script, job, 4, 4, 1);
    script_done(&script);
}

static void test_priority_then_age(void **state)
{
    (void)state;
    struct script script;
    script_open_with(&script, 4, 1 << 20);
    uint64_t jobs[4];
    const int32_t priorities[] = {0, 5, 0, 5};
    for (int i = 0; i < 4; i++) {
        script.options.priority = priorities[i];
        jobs[i] = script_job(&script);
        script_input(&script, jobs[i], 0, 3, 4);
    }
    script_flush(&script);
    script_sent(&script, MSG_JOB_OPEN);
    script_sent_span(&script, jobs[1], 0, 3, 1);
    script_sent(&script, MSG_JOB_OPEN);
    script_sent_span(&script, jobs[3], 0, 1, 1);
    script_quiet(&script);
    script_result(&script, jobs[1], 0, 3, 1);
    script_took(&script, jobs[1], 0, 3);
    script_flush(&script);
    script_acked(&script, 1, 1);
    script_sent_span(&script, jobs[3], 1, 2, 1);
    script_sent(&script, MSG_JOB_OPEN);
    script_sent_span(&script, jobs[0], 0, 1, 1);
    script_quiet(&script);
    script_result(&script, jobs[3], 0, 3, 1);
    script_took(&script, jobs[3], 0, 3);
    script_flush(&script);
    script_acked(&script, 2, 1);
    script_sent_span(&script, jobs[0], 1, 2, 1);
    script_sent(&script, MSG_JOB_OPEN);
    script_sent_span(&script, jobs[2], 0, 1, 1);
    script_done(&script);
}

/* An older job whose task is tried again comes before a younger one of its priority. */
static void test_again_goes_first(void **state)
{
    (void)state;
    struct script script;
    script_open_with(&script, 2, 1 << 20);
    script.options.retries = 1;
    const uint64_t old = script_job(&script), young = script_job(&script);
    script_input(&script, old, 0, 2, 4);
    script_input(&script, young, 0, 2, 4);
    script_flush(&script);
    script_sent(&script, MSG_JOB_OPEN);
    script_sent_span(&script, old, 0, 2, 1);
    script_quiet(&script);
    script_failure(&script, old, 1, 1, FARPOOL_EFUNCTION);
    script_flush(&script);
    script_acked(&script, 1, 1);
    script_sent_span(&script, old, 1, 1, 2);
    script_done(&script);
}

static void test_nothing_is_sent_while_down(void **state)
{
    (void)state;
    struct script script;
    script_create(&script, false);
    const uint64_t job = script_job(&script);
    script_input(&script, job, 0, 2, 4);
    script_flush(&script);
    script_quiet(&script);
    script_link_up(&script);
    script_flush(&script);
    script_quiet(&script);
    script_message(&script, script_make_welcome(10, 1000));
    script_sent(&script, MSG_POOL_OPEN);
    script_take(&script, CLIENT_READY);
    script_flush(&script);
    script_sent(&script, MSG_JOB_OPEN);
    script_sent_span(&script, job, 0, 2, 1);
    script_done(&script);
}

/* What a FLUSH has no memory for, the next one does, and soon. */
static void test_flush_without_memory(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    const uint64_t job = script_job(&script);
    script_input(&script, job, 0, 2, 4);
    mem_fail_after(1);
    script_flush(&script);
    mem_fail_after(0);
    script_quiet(&script);
    assert_int_equal(client_core_deadline(script.core), 1010);
    mem_fail_after(2);
    script_flush(&script);
    mem_fail_after(0);
    script_sent(&script, MSG_JOB_OPEN); /* it is said, and not again */
    script_quiet(&script);
    script_flush(&script);
    script_sent_span(&script, job, 0, 2, 1);
    assert_int_equal(client_core_deadline(script.core), 2000);
    script_done(&script);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_job_options_are_told),
        cmocka_unit_test(test_empty_job_ends_at_once),
        cmocka_unit_test(test_nothing_is_sent_before_the_flush),
        cmocka_unit_test(test_million_tasks_are_a_few_spans),
        cmocka_unit_test(test_messages_are_packed),
        cmocka_unit_test(test_inputs_of_different_sizes),
        cmocka_unit_test(test_window_of_tasks),
        cmocka_unit_test(test_window_of_bytes_and_oversize),
        cmocka_unit_test(test_window_of_nothing),
        cmocka_unit_test(test_input_larger_than_any_body),
        cmocka_unit_test(test_only_input_too_large),
        cmocka_unit_test(test_cuts_between_chunks),
        cmocka_unit_test(test_chunk_larger_than_a_message),
        cmocka_unit_test(test_priority_then_age),
        cmocka_unit_test(test_again_goes_first),
        cmocka_unit_test(test_nothing_is_sent_while_down),
        cmocka_unit_test(test_flush_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
