/* SPDX-License-Identifier: Apache-2.0
 *
 * test_client_results.c: which results count, what is tried again and how often, and
 * that each is ACKed: the client's rows of docs/failure.md. */
#include "tests/unit/client_script.h"

static void test_results_in_pieces(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    const uint64_t job = script_map(&script, 10);
    script_result(&script, job, 4, 3, 1);
    script_took(&script, job, 4, 3);
    script_result(&script, job, 9, 1, 1);
    script_took(&script, job, 9, 1);
    script_flush(&script);
    script_acked(&script, 1, 2);
    script_result(&script, job, 0, 10, 1); /* overlaps what came before */
    script_took(&script, job, 0, 4);
    script_took(&script, job, 7, 2);
    struct client_job_counts counts;
    assert_true(client_core_job_counts(script.core, job, &counts));
    assert_int_equal(counts.done, 10);
    script_flush(&script);
    script_acked(&script, 3, 1);
    script_ended(&script, job);
    script_done(&script);
}

/* Outputs that differ in size are cut by their sizes. */
static void test_outputs_of_different_sizes(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    const uint64_t job = script_map(&script, 3);
    script_result(&script, job, 1, 1, 1);
    script_took(&script, job, 1, 1);
    struct message *message = script_make_done(&script, job, 0, 3, 1, 0);
    const uint32_t sizes[] = {1, 2, 3};
    payload_unref(&message->done.results[0].data);
    message->done.results[0].sizes = payload_copy(sizes, sizeof sizes);
    message->done.results[0].data = payload_copy("abbccc", 6);
    script_message(&script, message);
    const struct client_effect *effect = script_take(&script, CLIENT_DONE);
    assert_int_equal(effect->first, 0);
    assert_int_equal(effect->data->size, 1);
    assert_memory_equal(effect->data->data, "a", 1);
    effect = script_take(&script, CLIENT_DONE);
    assert_int_equal(effect->first, 2);
    assert_int_equal(effect->data->size, 3);
    assert_memory_equal(effect->data->data, "ccc", 3);
    script_done(&script);
}

static void test_stale_and_repeated_results(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    script.options.retries = 2;
    const uint64_t job = script_job(&script);
    script_input(&script, job, 0, 4, 4);
    script_flush(&script);
    script_sent(&script, MSG_JOB_OPEN);
    script_sent_span(&script, job, 0, 4, 1);
    script_failure(&script, job, 2, 1, FARPOOL_EFUNCTION);
    script_result(&script, job, 2, 1, 1);  /* not under way: it waits */
    script_result(&script, job, 0, 4, 2);  /* no such attempt */
    script_result(&script, job, 9, 90, 1); /* never sent */
    script_result(&script, job, UINT64_MAX - 5, 5, 1);
    script_failure(&script, job, 2, 1, FARPOOL_EFUNCTION); /* repeated: counts once */
    script_failure(&script, job, 77, 1, FARPOOL_EFUNCTION);
    script_result(&script, job + 9, 0, 1, 1); /* no such job */
    script_failure(&script, job + 9, 0, 1, FARPOOL_EFUNCTION);
    script_loss(&script, job + 9, 0, 1, 1, FARPOOL_ENODELOST);
    script_quiet(&script);
    script_flush(&script);
    script_acked(&script, 1, 9); /* all in hand */
    script_sent_span(&script, job, 2, 1, 2);
    script_result(&script, job, 0, 4, 1);
    script_took(&script, job, 0, 2);
    script_took(&script, job, 3, 1);
    script_result(&script, job, 0, 4, 2);
    script_took(&script, job, 2, 1);
    script_done(&script);
}

/* A hostile message that says the same thing twice in itself. */
static void test_repeated_in_one_message(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    script.options.retries = 3;
    const uint64_t job = script_map(&script, 4);
    struct message *message = script_make_failed(&script, job, 1, 1, FARPOOL_EFUNCTION);
    struct msg_failed *records = mem_alloc(3 * sizeof *records);
    records[0] = message->failed.results[0];
    records[1] = records[2] = records[0];
    records[1].message = mem_strdup("again");
    records[1].code = FARPOOL_EINVAL;
    records[2].message = NULL;
    records[2].seq = 99;
    mem_free(message->failed.results);
    message->failed.results = records;
    message->failed.results_count = 3;
    script_message(&script, message);
    script_quiet(&script);
    script_flush(&script);
    const struct message *ack = script_sent(&script, MSG_ACK);
    assert_int_equal(ack->ack.results_count, 2);
    script_sent_span(&script, job, 1, 1, 2);
    script_done(&script);
}

static void test_retries(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    script.options.retries = 2;
    const uint64_t job = script_map(&script, 3);
    script_failure(&script, job, 1, 1, FARPOOL_EFUNCTION);
    script_flush(&script);
    script_acked(&script, 1, 1);
    script_sent_span(&script, job, 1, 1, 2);
    script_failure(&script, job, 1, 2, FARPOOL_ETASKTIMEOUT);
    script_flush(&script);
    script_acked(&script, 2, 1);
    script_sent_span(&script, job, 1, 1, 3);
    script_failure(&script, job, 1, 3, FARPOOL_EFUNCTION);
    const struct client_effect *effect = script_take(&script, CLIENT_FAILED);
    assert_int_equal(effect->count, 0);
    assert_int_equal(effect->job, job);
    assert_int_equal(effect->failed.index, 1);
    assert_int_equal(effect->failed.attempt, 3);
    assert_int_equal(effect->failed.code, FARPOOL_EFUNCTION);
    assert_int_equal(effect->failed.pid, 77);
    assert_string_equal(effect->failed.node, "n1");
    assert_string_equal(effect->failed.message, "no luck");
    struct client_job_counts counts;
    assert_true(client_core_job_counts(script.core, job, &counts));
    assert_int_equal(counts.failed, 1);
    script_done(&script);
}

static void test_losses_of_processes(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    script.options.retries = 1; /* are no losses */
    const uint64_t job = script_map(&script, 2);
    script_failure(&script, job, 0, 1, FARPOOL_EPROCESSLOST);
    script_flush(&script);
    script_acked(&script, 1, 1);
    script_sent_span(&script, job, 0, 1, 2);
    script_failure(&script, job, 0, 2, FARPOOL_EFUNCTION);
    script_flush(&script);
    script_acked(&script, 2, 1);
    script_sent_span(&script, job, 0, 1, 3);
    script_loss(&script, job, 0, 1, 3, FARPOOL_ENODELOST);
    script_flush(&script);
    script_sent_span(&script, job, 0, 1, 4);
    script_failure(&script, job, 0, 4, FARPOOL_EPROCESSLOST); /* the third loss */
    const struct client_effect *effect = script_take(&script, CLIENT_FAILED);
    assert_int_equal(effect->failed.code, FARPOOL_EPROCESSLOST);
    assert_int_equal(effect->failed.signal, 9);
    assert_int_equal(effect->failed.attempt, 4);
    script_done(&script);
}

static void test_node_lost(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    script.options.losses_max = 2;
    const uint64_t job = script_map(&script, 100);
    script_result(&script, job, 10, 5, 1);
    script_took(&script, job, 10, 5);
    script_loss(&script, job, 0, 50, 0, FARPOOL_ENODELOST); /* whichever attempt */
    script_flush(&script);
    script_acked(&script, 1, 1);
    const struct message *tasks = script_sent(&script, MSG_TASKS);
    assert_int_equal(tasks->tasks.spans_count, 2);
    assert_int_equal(tasks->tasks.spans[0].count, 10);
    assert_int_equal(tasks->tasks.spans[0].attempt, 2);
    assert_int_equal(tasks->tasks.spans[1].first, 15);
    assert_int_equal(tasks->tasks.spans[1].count, 35);
    script_loss(&script, job, 0, 100, 1, FARPOOL_ENODELOST); /* not those of attempt 2 */
    script_flush(&script);
    script_sent_span(&script, job, 50, 50, 2);
    script_loss(&script, job, 5, 30, 2, FARPOOL_ENODELOST); /* twice: that is enough */
    const struct client_effect *effect =
        script_gave_up(&script, job, 5, 5, FARPOOL_ENODELOST);
    assert_int_equal(effect->attempt, 2);
    assert_string_equal(effect->node, "n1");
    assert_string_equal(effect->text, "n1 was silent");
    script_gave_up(&script, job, 15, 20, FARPOOL_ENODELOST);
    struct client_job_counts counts;
    assert_true(client_core_job_counts(script.core, job, &counts));
    assert_int_equal(counts.done, 5);
    assert_int_equal(counts.failed, 25);
    assert_int_equal(counts.waiting, 70);
    script_done(&script);
}

static void test_drained_is_no_loss(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    script.options.losses_max = 1;
    const uint64_t job = script_map(&script, 8);
    for (uint32_t attempt = 1; attempt < 6; attempt++) {
        script_loss(&script, job, 0, 8, attempt, FARPOOL_EDRAINED);
        script_flush(&script);
        script_sent_span(&script, job, 0, 8, attempt + 1);
    }
    script_result(&script, job, 0, 8, 6);
    script_took(&script, job, 0, 8);
    script_flush(&script);
    script_acked(&script, 1, 1);
    script_ended(&script, job);
    script_done(&script);
}

/* losses_max 1: what may have begun is never sent again, whatever the retries. */
static void test_at_most_once(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    script.options.losses_max = 1;
    script.options.retries = 5;
    const uint64_t job = script_map(&script, 5);
    script_failure(&script, job, 0, 1, FARPOOL_EFUNCTION);
    assert_int_equal(script_take(&script, CLIENT_FAILED)->failed.code, FARPOOL_EFUNCTION);
    script_failure(&script, job, 1, 1, FARPOOL_EPROCESSLOST);
    assert_int_equal(script_take(&script, CLIENT_FAILED)->failed.code,
                     FARPOOL_EPROCESSLOST);
    script_loss(&script, job, 2, 1, 1, FARPOOL_ENODELOST);
    script_gave_up(&script, job, 2, 1, FARPOOL_ENODELOST);
    script_flush(&script);
    script_acked(&script, 1, 2);
    script_link_down(&script);
    script_link_up(&script);
    script_forget(&script);
    script_message(&script, script_make_welcome(10, 1000));
    script_sent(&script, MSG_POOL_OPEN);
    script_flush(&script);
    /* The coordinator is told what was under way, and tells what of it nobody has. */
    const struct message *open = script_sent(&script, MSG_JOB_OPEN);
    assert_true(open->job_open.once && open->job_open.resumed);
    const struct message *tasks = script_sent(&script, MSG_TASKS);
    assert_int_equal(tasks->tasks.spans[0].first, 3);
    assert_int_equal(tasks->tasks.spans[0].attempt, 1);
    script_sent(&script, MSG_RESUMED);
    script_loss(&script, job, 3, 1, 1, FARPOOL_ENODELOST);
    script_gave_up(&script, job, 3, 1, FARPOOL_ENODELOST);
    script_result(&script, job, 4, 1, 1);
    script_take(&script, CLIENT_DONE);
    script_flush(&script);
    script_sent(&script, MSG_ACK);
    script_sent(&script, MSG_JOB_CLOSE);
    assert_int_equal(script_take(&script, CLIENT_JOB_ENDED)->job, job);
    script_done(&script);
}

/* The coordinator decides what is slow; a new one is told what it cannot know. */
static void test_speculation(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    script.options.speculate = true;
    const uint64_t job = script_job(&script);
    script_input(&script, job, 0, 5, 4);
    script_input_end(&script, job);
    script_flush(&script);
    const struct message *open = script_sent(&script, MSG_JOB_OPEN);
    assert_true(open->job_open.speculate && !open->job_open.resumed);
    assert_int_equal(open->job_open.ended, 0);
    script_sent(&script, MSG_TASKS);
    script_result(&script, job, 0, 3, 1);
    script_take(&script, CLIENT_DONE);
    script_failure(&script, job, 3, 1, FARPOOL_EFUNCTION);
    script_take(&script, CLIENT_FAILED);
    script_link_down(&script);
    script_link_up(&script);
    script_forget(&script);
    script_message(&script, script_make_welcome(10, 1000));
    script_sent(&script, MSG_POOL_OPEN);
    script_flush(&script);
    open = script_sent(&script, MSG_JOB_OPEN);
    assert_true(open->job_open.speculate && open->job_open.resumed);
    assert_int_equal(open->job_open.ended, 4);
    assert_int_equal(open->job_open.task_ns, 1000);
    script_sent(&script, MSG_TASKS);
    script_sent(&script, MSG_RESUMED);
    script_done(&script);
}

static void test_other_codes_end_the_task(void **state)
{
    (void)state;
    static const int codes[] = {FARPOOL_ENOFUNCTION,
                                FARPOOL_ETOOBIG,
                                FARPOOL_EINVAL,
                                FARPOOL_EINITIALIZER,
                                FARPOOL_ENOMEM,
                                0,
                                5,
                                -200};
    struct script script;
    script_open(&script);
    script.options.retries = 9;
    const uint64_t job = script_map(&script, 8);
    for (uint64_t i = 0; i < 8; i++) {
        script_failure(&script, job, i, 1, codes[i]);
        /* A code that is none is the peer's fault. */
        assert_int_equal(script_take(&script, CLIENT_FAILED)->failed.code,
                         i < 5 ? codes[i] : FARPOOL_EPROTOCOL);
    }
    script_flush(&script);
    script_acked(&script, 1, 8);
    script_ended(&script, job);
    script_done(&script);
}

/* A message of several results for which there is no memory at some place: none of them
 * counts, and all of them do when it is tried again. */
static struct message *make_mixed(struct script *script, uint64_t job)
{
    struct message *message = script_make_failed(script, job, 1, 1, FARPOOL_EPROCESSLOST);
    struct msg_failed *records = script_list(4 * sizeof *records);
    for (uint32_t i = 0; i < 4; i++) {
        records[i] = message->failed.results[0];
        records[i].index = i;
        records[i].seq = i + 1;
        records[i].code = i % 2 ? FARPOOL_ETOOBIG : FARPOOL_EFUNCTION;
        records[i].message = NULL;
    }
    records[3].message = message->failed.results[0].message;
    mem_free(message->failed.results);
    message->failed.results = records;
    message->failed.results_count = 4;
    return message;
}

static bool mixed_fails_at(size_t place)
{
    struct script script;
    script_open(&script);
    script.options.retries = 1;
    const uint64_t job = script_map(&script, 5);
    struct client_event event = {.kind = CLIENT_MESSAGE,
                                 .message = make_mixed(&script, job)};
    client_effects_fini(&script.effects);
    script.taken = 0;
    mem_fail_after(place);
    const int result = script_step(&script, &event);
    mem_fail_after(0);
    if (result) {
        assert_int_equal(result, FARPOOL_ENOMEM);
        script_quiet(&script);
        struct client_job_counts counts;
        assert_true(client_core_job_counts(script.core, job, &counts));
        assert_int_equal(counts.failed, 0);
        script_flush(&script);
        script_quiet(&script); /* nothing to ACK, nothing to send again */
        assert_int_equal(script_step(&script, &event), 0);
    }
    assert_int_equal(script_take(&script, CLIENT_FAILED)->failed.index, 1);
    assert_int_equal(script_take(&script, CLIENT_FAILED)->failed.index, 3);
    script_flush(&script);
    script_acked(&script, 1, 4);
    assert_int_equal(script_sent(&script, MSG_TASKS)->tasks.spans_count, 2);
    script_done(&script);
    return result != 0;
}

static void test_all_results_or_none(void **state)
{
    (void)state;
    size_t place = 1;
    while (mixed_fails_at(place))
        place++;
    assert_true(place > 5);
}

static void add_result(struct script *script, uint64_t job, uint8_t worker, uint64_t seq)
{
    script->worker = script_id(worker);
    script->seq = seq;
    script_result(script, job, 1000, 1, 1); /* stale */
}

static void test_acks_are_merged(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    const uint64_t job = script_map(&script, 1);
    static const struct {
        uint8_t worker;
        uint64_t seq;
    } results[] = {{2, 5}, {1, 7}, {2, 7}, {2, 6},
                   {1, 6}, {1, 9}, {2, 6}, {1, UINT64_MAX - 1}};
    for (size_t i = 0; i < sizeof results / sizeof *results; i++)
        add_result(&script, job, results[i].worker, results[i].seq);
    script_flush(&script);
    const struct message *ack = script_sent(&script, MSG_ACK);
    assert_int_equal(ack->ack.worker.bytes[0], 1);
    assert_int_equal(ack->ack.results_count, 3);
    assert_int_equal(ack->ack.results[0].first, 6);
    assert_int_equal(ack->ack.results[0].count, 2);
    assert_int_equal(ack->ack.results[1].first, 9);
    assert_int_equal(ack->ack.results[1].count, 1);
    assert_true(ack->ack.results[2].first == UINT64_MAX - 1);
    ack = script_sent(&script, MSG_ACK);
    assert_int_equal(ack->ack.worker.bytes[0], 2);
    assert_int_equal(ack->ack.results_count, 1);
    assert_int_equal(ack->ack.results[0].first, 5);
    assert_int_equal(ack->ack.results[0].count, 3);
    script_flush(&script);
    script_quiet(&script);
    for (uint64_t seq = 0; seq < 600; seq += 2) /* more ranges than one message holds */
        add_result(&script, job, 4, seq);
    script_flush(&script);
    assert_int_equal(script_sent(&script, MSG_ACK)->ack.results_count, LIST_MAX);
    assert_int_equal(script_sent(&script, MSG_ACK)->ack.results_count, 300 - LIST_MAX);
    script_done(&script);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_results_in_pieces),
        cmocka_unit_test(test_outputs_of_different_sizes),
        cmocka_unit_test(test_stale_and_repeated_results),
        cmocka_unit_test(test_repeated_in_one_message),
        cmocka_unit_test(test_retries),
        cmocka_unit_test(test_losses_of_processes),
        cmocka_unit_test(test_node_lost),
        cmocka_unit_test(test_drained_is_no_loss),
        cmocka_unit_test(test_at_most_once),
        cmocka_unit_test(test_speculation),
        cmocka_unit_test(test_other_codes_end_the_task),
        cmocka_unit_test(test_all_results_or_none),
        cmocka_unit_test(test_acks_are_merged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
