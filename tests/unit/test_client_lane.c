/* SPDX-License-Identifier: Apache-2.0
 *
 * test_client_lane.c: tasks that a client sends straight to a worker: which ones, how
 * many, what the coordinator is told of them, and what becomes of them when their lane,
 * their worker or the coordinator goes. */
#include "tests/unit/client_lane_script.h"

#define LANE_NUMBER 1

static void bring_up(struct script *script, uint32_t slots)
{
    script_open(script);
    lane_bring_up(script, LANE_NUMBER, slots);
}

/* One task, on the lane. */
static uint64_t dealt(struct script *script)
{
    const uint64_t job = fill(script, 1);
    sent_on(script, LANE_NUMBER, MSG_JOB_OPEN);
    sent_tasks(script, LANE_NUMBER, 0, 1, 1);
    script_quiet(script);
    return job;
}

/* --------------------------------------------------------------------- its life */

static void test_who_asked_for_none_is_not_introduced(void **state)
{
    (void)state;
    struct script script;
    script_create_with(&script, false, false);
    script_link_up(&script);
    script_message(&script, script_make_welcome(100, 1 << 20));
    script_sent(&script, MSG_POOL_OPEN);
    script_take(&script, CLIENT_READY);
    script_message(&script, lane_introduced(LANE_NUMBER));
    assert_int_equal(script_take(&script, CLIENT_RELINK)->code, FARPOOL_EPROTOCOL);
    script_done(&script);
}

static void hung_up(struct script *script, const char *why)
{
    const struct message *message = sent_on(script, 0, MSG_LANE);
    assert_false(message->lane.up);
    assert_string_equal(message->lane.text, why);
    assert_string_equal(script_take(script, CLIENT_HANG_UP)->text, why);
}

static void test_nobody_answers(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    lane_dialled(&script, LANE_NUMBER);
    script_flush(&script);
    script.now_ms += 900;
    script_flush(&script);
    hung_up(&script, "nobody answered in time");
    script_done(&script);
}

static void test_it_is_refused(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    lane_greeted(&script, LANE_NUMBER);
    struct message *refused = script_make(MSG_REFUSED);
    snprintf(refused->refused.text, sizeof refused->refused.text, "no such ticket");
    lane_hear(&script, LANE_NUMBER, refused);
    script_flush(&script);
    hung_up(&script, "no such ticket");
    script_done(&script);
}

static void test_another_worker_answers(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    lane_greeted(&script, LANE_NUMBER);
    struct message *welcome = lane_welcome(LANE_NUMBER);
    welcome->welcome_lane.worker = script_id(4);
    lane_hear(&script, LANE_NUMBER, welcome);
    script_flush(&script);
    hung_up(&script, "another worker answers there");
    script_done(&script);
}

static void test_silence_ends_it(void **state)
{
    (void)state;
    struct script script;
    bring_up(&script, 1);
    script.now_ms += 1000;
    script_flush(&script);
    sent_on(&script, LANE_NUMBER, MSG_HEARTBEAT);
    sent_on(&script, 0, MSG_HEARTBEAT);
    script_message(&script, script_make(MSG_HEARTBEAT));
    script.now_ms += 4000;
    script_message(&script, script_make(MSG_HEARTBEAT)); /* the coordinator's */
    script_flush(&script);
    hung_up(&script, "the worker was silent for too long");
    script_done(&script);
}

static void test_what_is_not_for_a_lane(void **state)
{
    (void)state;
    struct script script;
    bring_up(&script, 1);
    lane_hear(&script, LANE_NUMBER, script_make_lost(1, 0, 1, 1, FARPOOL_ENODELOST));
    script_flush(&script);
    hung_up(&script, "LOST is not for this lane");
    script_done(&script);
}

/* ---------------------------------------------------------------- what is dealt */

static void test_a_call_costs_the_coordinator_nothing(void **state)
{
    (void)state;
    struct script script;
    bring_up(&script, 1);
    const uint64_t job = dealt(&script);
    script_input_end(&script, job);
    lane_hear(&script, LANE_NUMBER, script_make_done(&script, job, 0, 1, 1, 4));
    script_took(&script, job, 0, 1);
    script_flush(&script);
    const struct message *ack = sent_on(&script, LANE_NUMBER, MSG_ACK);
    assert_int_equal(ack->ack.results_count, 1);
    script_ended(&script, job);
    script.now_ms += 100;
    script_flush(&script);
    script_done(&script);
}

/* A result that came by the coordinator is ACKed there. */
static void test_an_ack_goes_the_way_of_its_result(void **state)
{
    (void)state;
    struct script script;
    bring_up(&script, 1);
    const uint64_t job = dealt(&script);
    script_input(&script, job, 1, 1, 4);
    script_flush(&script);
    sent_on(&script, 0, MSG_JOB_OPEN);
    sent_on(&script, 0, MSG_ACCOUNT);
    sent_tasks(&script, 0, 1, 1, 1);
    script_message(&script, script_make_done(&script, job, 1, 1, 1, 4));
    lane_hear(&script, LANE_NUMBER, script_make_done(&script, job, 0, 1, 1, 4));
    script_took(&script, job, 1, 1);
    script_took(&script, job, 0, 1);
    script_flush(&script);
    assert_int_equal(sent_on(&script, 0, MSG_ACK)->ack.results[0].first, 1);
    assert_int_equal(sent_on(&script, LANE_NUMBER, MSG_ACK)->ack.results[0].first, 2);
    script_done(&script);
}

static void test_a_task_a_slot(void **state)
{
    (void)state;
    struct script script;
    bring_up(&script, 2);
    const uint64_t job = fill(&script, 2);
    sent_on(&script, LANE_NUMBER, MSG_JOB_OPEN);
    sent_tasks(&script, LANE_NUMBER, 0, 1, 1);
    sent_tasks(&script, LANE_NUMBER, 1, 1, 1);
    script_quiet(&script);
    script_input(&script, job, 2, 3, 4);
    script_flush(&script);
    sent_on(&script, 0, MSG_JOB_OPEN);
    const struct message *account = sent_on(&script, 0, MSG_ACCOUNT);
    assert_int_equal(account->account.ranges_count, 2);
    assert_int_equal(account->account.job, job);
    sent_tasks(&script, 0, 2, 3, 1);
    script_done(&script);
}

/* The coordinator deals out what is more than that, from its first task on. */
static void test_more_than_the_slots_goes_by_the_coordinator(void **state)
{
    (void)state;
    struct script script;
    bring_up(&script, 2);
    fill(&script, 3);
    sent_on(&script, 0, MSG_JOB_OPEN);
    sent_tasks(&script, 0, 0, 3, 1);
    script_done(&script);
}

/* When it is known that they are short, as many again wait there for a slot. */
static void test_short_tasks_may_wait_there(void **state)
{
    (void)state;
    struct script script;
    bring_up(&script, 1);
    const uint64_t job = dealt(&script);
    lane_hear(&script, LANE_NUMBER, script_make_done(&script, job, 0, 1, 1, 4));
    script_took(&script, job, 0, 1);
    script_input(&script, job, 1, 2, 4);
    script_flush(&script);
    sent_on(&script, LANE_NUMBER, MSG_ACK);
    sent_tasks(&script, LANE_NUMBER, 1, 1, 1);
    sent_tasks(&script, LANE_NUMBER, 2, 1, 1);
    script_done(&script);
}

/* But not behind one that has been at it for long. */
static void test_nothing_waits_behind_a_long_one(void **state)
{
    (void)state;
    struct script script;
    bring_up(&script, 1);
    const uint64_t job = dealt(&script);
    lane_hear(&script, LANE_NUMBER, script_make_done(&script, job, 0, 1, 1, 4));
    script_took(&script, job, 0, 1);
    script_input(&script, job, 1, 1, 4);
    script_flush(&script);
    sent_on(&script, LANE_NUMBER, MSG_ACK);
    sent_tasks(&script, LANE_NUMBER, 1, 1, 1);
    script.now_ms += 10;
    script_input(&script, job, 2, 1, 4);
    script_flush(&script);
    sent_on(&script, 0, MSG_JOB_OPEN);
    sent_on(&script, 0, MSG_ACCOUNT);
    sent_tasks(&script, 0, 2, 1, 1);
    script_done(&script);
}

static void goes_by_the_coordinator(struct script *script)
{
    fill(script, 1);
    sent_on(script, 0, MSG_JOB_OPEN);
    sent_tasks(script, 0, 0, 1, 1);
    script_done(script);
}

static void test_what_is_not_dealt(void **state)
{
    (void)state;
    struct script script;
    bring_up(&script, 1);
    script.options.losses_max = 1;
    goes_by_the_coordinator(&script);
    bring_up(&script, 1);
    script.options.speculate = true;
    goes_by_the_coordinator(&script);
    bring_up(&script, 1);
    script.options.chunk = 2;
    goes_by_the_coordinator(&script);
    bring_up(&script, 1);
    script_message(&script, lane_grant(LANE_NUMBER, 0));
    goes_by_the_coordinator(&script);
}

/* SHARE goes by the coordinator, and no task may come before it. */
static void test_shared_inputs_keep_tasks_off_lanes(void **state)
{
    (void)state;
    struct script script;
    bring_up(&script, 1);
    struct message *share = script_make(MSG_SHARE);
    share->share.number = 1;
    share->share.size = 1;
    struct client_event event = {.kind = CLIENT_SHARE, .message = share};
    assert_int_equal(script_step(&script, &event), 0);
    sent_on(&script, 0, MSG_SHARE);
    goes_by_the_coordinator(&script);
}

/* What stands behind a task that is not for a lane goes the same way. */
static void test_what_is_urgent_is_not_overtaken(void **state)
{
    (void)state;
    struct script script;
    bring_up(&script, 1);
    script.options.priority = 1;
    script.options.losses_max = 1;
    const uint64_t urgent = script_job(&script);
    script_input(&script, urgent, 0, 1, 4);
    script.options.priority = 0;
    script.options.losses_max = 3;
    const uint64_t job = script_job(&script);
    script_input(&script, job, 0, 1, 4);
    script_flush(&script);
    assert_int_equal(sent_on(&script, 0, MSG_JOB_OPEN)->job_open.job, urgent);
    sent_tasks(&script, 0, 0, 1, 1);
    assert_int_equal(sent_on(&script, 0, MSG_JOB_OPEN)->job_open.job, job);
    sent_tasks(&script, 0, 0, 1, 1);
    script_done(&script);
}

static void test_cancel_goes_where_the_task_is(void **state)
{
    (void)state;
    struct script script;
    bring_up(&script, 1);
    const uint64_t job = dealt(&script);
    script_event(&script,
                 (struct client_event){
                     .kind = CLIENT_JOB_CANCEL, .job = job, .first = 0, .count = 1});
    sent_on(&script, LANE_NUMBER, MSG_CANCEL);
    script_gave_up(&script, job, 0, 1, FARPOOL_ECANCELLED);
    script_done(&script);
}

/* ------------------------------------------------------------------ the account */

static void test_what_takes_long_is_told(void **state)
{
    (void)state;
    struct script script;
    bring_up(&script, 1);
    const uint64_t job = dealt(&script);
    assert_int_equal(client_core_deadline(script.core), script.now_ms + 100);
    script.now_ms += 100;
    script_flush(&script);
    sent_on(&script, 0, MSG_JOB_OPEN);
    const struct message *account = sent_on(&script, 0, MSG_ACCOUNT);
    assert_int_equal(account->account.job, job);
    assert_int_equal(account->account.ranges_count, 1);
    assert_int_equal(account->account.ranges[0].attempt, 1);
    lane_hear(&script, LANE_NUMBER, script_make_done(&script, job, 0, 1, 1, 4));
    script_took(&script, job, 0, 1);
    script_flush(&script);
    sent_on(&script, LANE_NUMBER, MSG_ACK);
    script.now_ms += 999; /* once a second, when more has changed */
    script_flush(&script);
    script_quiet(&script);
    script.now_ms += 1;
    script_flush(&script);
    sent_on(&script, LANE_NUMBER, MSG_HEARTBEAT);
    account = sent_on(&script, 0, MSG_ACCOUNT);
    assert_int_equal(account->account.ranges_count, 0);
    assert_int_equal(account->account.done, 1);
    assert_int_equal(account->account.elapsed_ns, 1000);
    script_done(&script);
}

/* ------------------------------------------------------------------------ its end */

static void test_its_connection_ends(void **state)
{
    (void)state;
    struct script script;
    bring_up(&script, 1);
    const uint64_t job = dealt(&script);
    script_event(&script, (struct client_event){.kind = CLIENT_LINK_DOWN,
                                                .lane = LANE_NUMBER,
                                                .text = "reset by peer"});
    script_flush(&script);
    sent_on(&script, 0, MSG_JOB_OPEN);
    assert_int_equal(sent_on(&script, 0, MSG_ACCOUNT)->account.ranges_count, 1);
    const struct message *cancel = sent_on(&script, 0, MSG_CANCEL);
    assert_true(cancel->cancel.kill);
    assert_int_equal(cancel->cancel.ranges[0].attempt, 1);
    assert_false(sent_on(&script, 0, MSG_LANE)->lane.up);
    sent_tasks(&script, 0, 0, 1, 2); /* another attempt */
    script_message(&script, script_make_done(&script, job, 0, 1, 1, 4)); /* too late */
    script_flush(&script);
    sent_on(&script, 0, MSG_ACK);
    script_result(&script, job, 0, 1, 2);
    script_took(&script, job, 0, 1);
    script_done(&script);
}

static void withdraw(struct script *script)
{
    struct message *message = script_make(MSG_WITHDRAW);
    message->withdraw.ticket = lane_ticket(LANE_NUMBER);
    snprintf(message->withdraw.text, sizeof message->withdraw.text,
             "the worker has gone");
    script_message(script, message);
    script_flush(script);
}

/* It may have begun there, which is watched from now on; nobody else tells of it. */
static void test_its_worker_goes(void **state)
{
    (void)state;
    struct script script;
    bring_up(&script, 1);
    dealt(&script);
    withdraw(&script);
    assert_string_equal(script_take(&script, CLIENT_HANG_UP)->text,
                        "the worker has gone");
    sent_on(&script, 0, MSG_JOB_OPEN);
    const struct message *tasks = sent_on(&script, 0, MSG_TASKS);
    assert_int_equal(tasks->tasks.spans[0].attempt, 2);
    assert_int_equal(tasks->tasks.spans[0].watch, 1);
    script_done(&script);
}

static struct message *given_back(uint64_t job, uint32_t attempt)
{
    struct message *message = script_make_lost(job, 0, 1, attempt, FARPOOL_EDRAINED);
    message->lost.lane = true;
    return message;
}

/* The coordinator had it given back: it knows better where it goes. */
static void test_what_is_given_back(void **state)
{
    (void)state;
    struct script script;
    bring_up(&script, 1);
    const uint64_t job = dealt(&script);
    script_message(&script, given_back(job, 1));
    script_flush(&script);
    sent_on(&script, 0, MSG_JOB_OPEN);
    sent_tasks(&script, 0, 0, 1, 2);
    script_message(&script, given_back(job, 2)); /* of one that is on no lane */
    script_flush(&script);
    script_done(&script);
}

/* All is sent again to another coordinator, as it was, and its lanes are made anew. */
static void test_the_coordinator_is_another_one(void **state)
{
    (void)state;
    struct script script;
    bring_up(&script, 1);
    const uint64_t job = dealt(&script);
    script_link_down(&script);
    script_flush(&script);
    script_quiet(&script); /* the lane goes on */
    script_link_up(&script);
    script_message(&script, script_make_welcome(100, 1 << 20));
    sent_on(&script, 0, MSG_POOL_OPEN);
    script_flush(&script);
    script_take(&script, CLIENT_HANG_UP);
    assert_int_equal(sent_on(&script, 0, MSG_JOB_OPEN)->job_open.job, job);
    sent_tasks(&script, 0, 0, 1, 1);
    sent_on(&script, 0, MSG_RESUMED);
    script_result(&script, job, 0, 1, 1);
    script_took(&script, job, 0, 1);
    script_done(&script);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_asked_for_none_is_not_introduced),
        cmocka_unit_test(test_nobody_answers),
        cmocka_unit_test(test_it_is_refused),
        cmocka_unit_test(test_another_worker_answers),
        cmocka_unit_test(test_silence_ends_it),
        cmocka_unit_test(test_what_is_not_for_a_lane),
        cmocka_unit_test(test_a_call_costs_the_coordinator_nothing),
        cmocka_unit_test(test_an_ack_goes_the_way_of_its_result),
        cmocka_unit_test(test_a_task_a_slot),
        cmocka_unit_test(test_more_than_the_slots_goes_by_the_coordinator),
        cmocka_unit_test(test_short_tasks_may_wait_there),
        cmocka_unit_test(test_nothing_waits_behind_a_long_one),
        cmocka_unit_test(test_what_is_not_dealt),
        cmocka_unit_test(test_shared_inputs_keep_tasks_off_lanes),
        cmocka_unit_test(test_what_is_urgent_is_not_overtaken),
        cmocka_unit_test(test_cancel_goes_where_the_task_is),
        cmocka_unit_test(test_what_takes_long_is_told),
        cmocka_unit_test(test_its_connection_ends),
        cmocka_unit_test(test_its_worker_goes),
        cmocka_unit_test(test_what_is_given_back),
        cmocka_unit_test(test_the_coordinator_is_another_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
