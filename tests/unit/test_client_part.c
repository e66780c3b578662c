/* SPDX-License-Identifier: Apache-2.0
 *
 * test_client_part.c: long jobs on lanes: when a client deals them itself, how much each
 * worker is given, and what goes by the coordinator all the same. */
#include "tests/unit/client_lane_script.h"

#define MS 1000000u /* in ns */
#define US 1000u
#define WAYS 3

/* What each way has been sent and has not ended: 0 is the coordinator's. */
struct bed {
    struct script script;
    struct {
        struct msg_range ranges[1024];
        size_t first, count;
        uint64_t tasks;
    } ways[WAYS];
};

static void pool_state(struct script *script, uint64_t slots)
{
    struct message *message = script_make(MSG_POOL_STATE);
    message->pool_state.pool = SCRIPT_POOL;
    message->pool_state.nodes = 2;
    message->pool_state.slots = slots;
    script_message(script, message);
}

/* Two workers of so many slots, which are all that the pool has, or not. */
static void bed_open(struct bed *bed, uint32_t slots, uint64_t all)
{
    memset(bed, 0, sizeof *bed);
    script_open_with(&bed->script, 1 << 16, 1 << 20);
    pool_state(&bed->script, all);
    lane_bring_up(&bed->script, 1, slots);
    lane_bring_up(&bed->script, 2, slots);
}

static void note(struct bed *bed, uint64_t way, const struct msg_span *span)
{
    const size_t place = bed->ways[way].count++;
    assert_true(way < WAYS && place < 1024);
    bed->ways[way].ranges[place] =
        (struct msg_range){span->first, span->count, span->attempt};
    bed->ways[way].tasks += span->count;
}

static void flush(struct bed *bed)
{
    script_flush(&bed->script);
    for (size_t i = 0; i < bed->script.effects.count; i++) {
        const struct client_effect *effect = &bed->script.effects.items[i];
        if (effect->kind != CLIENT_SEND || effect->message->kind != MSG_TASKS)
            continue;
        for (uint32_t k = 0; k < effect->message->tasks.spans_count; k++)
            note(bed, effect->lane, &effect->message->tasks.spans[k]);
    }
    script_forget(&bed->script);
}

static uint64_t submit(struct bed *bed, uint32_t count)
{
    const uint64_t job = script_job(&bed->script);
    script_input(&bed->script, job, 0, count, 4);
    flush(bed);
    return job;
}

/* The oldest tasks of a way end, as many of one range as that. */
static uint64_t finish(struct bed *bed, uint8_t way, uint64_t job, uint64_t most,
                       uint64_t task_ns)
{
    struct msg_range *range = &bed->ways[way].ranges[bed->ways[way].first];
    assert_true(bed->ways[way].first < bed->ways[way].count);
    const uint32_t count = (uint32_t)(range->count < most ? range->count : most);
    struct message *message =
        script_make_done(&bed->script, job, range->first, count, range->attempt, 4);
    message->done.worker = lane_worker(way);
    message->done.results[0].elapsed_ns = count * task_ns;
    if (way)
        lane_hear(&bed->script, way, message);
    else
        script_message(&bed->script, message);
    script_took(&bed->script, job, range->first, count);
    range->first += count;
    range->count -= count;
    bed->ways[way].first += !range->count;
    bed->ways[way].tasks -= count;
    return count;
}

static void finish_all(struct bed *bed, uint8_t way, uint64_t job, uint64_t task_ns)
{
    while (bed->ways[way].tasks)
        finish(bed, way, job, UINT64_MAX, task_ns);
}

static void assert_given(const struct bed *bed, uint64_t relay, uint64_t first,
                         uint64_t second)
{
    assert_int_equal(bed->ways[0].tasks, relay);
    assert_int_equal(bed->ways[1].tasks, first);
    assert_int_equal(bed->ways[2].tasks, second);
}

/* -------------------------------------------------------------------- how much */

/* What does not fit waits here, and what comes later too. */
static void test_two_a_slot_at_first(void **state)
{
    (void)state;
    struct bed bed;
    bed_open(&bed, 2, 4);
    const uint64_t job = submit(&bed, 1000);
    assert_given(&bed, 0, 4, 4);
    script_input(&bed.script, job, 1000, 10, 4);
    flush(&bed);
    assert_given(&bed, 0, 4, 4);
    bed.script.now_ms += 100;
    script_flush(&bed.script);
    sent_on(&bed.script, 0, MSG_JOB_OPEN);
    assert_int_equal(sent_on(&bed.script, 0, MSG_ACCOUNT)->account.unsent, 1002);
    script_forget(&bed.script);
    script_done(&bed.script);
}

/* As results show them short; each task once, and all of them. */
static void test_more_with_each_result(void **state)
{
    (void)state;
    struct bed bed;
    bed_open(&bed, 1, 2);
    const uint64_t job = submit(&bed, 1000);
    uint64_t ended = 0, most = 0;
    for (uint8_t way = 1; ended < 1000; way = 3 - way) {
        assert_true(bed.ways[1].tasks + bed.ways[2].tasks > 0);
        if (bed.ways[way].tasks)
            ended += finish(&bed, way, job, 16, US);
        flush(&bed);
        most = bed.ways[way].tasks > most ? bed.ways[way].tasks : most;
    }
    assert_given(&bed, 0, 0, 0);
    assert_true(most > 200);
    script_done(&bed.script);
}

/* A second job of the function begins with what the first has shown: each has its part of
 * it at once. Long ones are not given ahead. */
static void test_the_next_job_knows(void **state)
{
    (void)state;
    struct bed bed;
    bed_open(&bed, 1, 2);
    const uint64_t job = submit(&bed, 40);
    for (uint8_t way = 1; bed.ways[1].tasks + bed.ways[2].tasks; way = 3 - way) {
        if (bed.ways[way].tasks)
            finish(&bed, way, job, 2, US);
        flush(&bed);
    }
    submit(&bed, 100);
    assert_given(&bed, 0, 50, 50);
    script_done(&bed.script);
}

static void test_long_ones_are_not_given_ahead(void **state)
{
    (void)state;
    struct bed bed;
    bed_open(&bed, 1, 2);
    const uint64_t job = submit(&bed, 40);
    assert_given(&bed, 0, 2, 2);
    finish(&bed, 1, job, 1, 700 * MS);
    flush(&bed);
    assert_given(&bed, 0, 2, 2);
    finish(&bed, 2, job, 1, 700 * MS);
    flush(&bed);
    assert_given(&bed, 0, 2, 2);
    script_done(&bed.script);
}

static void test_whole_chunks(void **state)
{
    (void)state;
    struct bed bed;
    bed_open(&bed, 1, 2);
    bed.script.options.chunk = 10;
    submit(&bed, 95);
    assert_given(&bed, 0, 20, 20);
    script_done(&bed.script);
}

/* What the coordinator has given a worker is there already. */
static void test_what_others_of_the_pool_have_there(void **state)
{
    (void)state;
    struct bed bed;
    bed_open(&bed, 2, 4);
    struct message *grant = lane_grant(1, 2);
    grant->grant.busy = 2;
    script_message(&bed.script, grant);
    submit(&bed, 100);
    assert_int_equal(bed.ways[0].tasks, 0);
    assert_true(bed.ways[1].tasks < bed.ways[2].tasks);
    script_done(&bed.script);
}

/* ------------------------------------------------------------ by the coordinator */

static void test_not_without_lanes_to_all(void **state)
{
    (void)state;
    struct bed bed;
    bed_open(&bed, 2, 5);
    submit(&bed, 1000);
    assert_given(&bed, 1000, 0, 0);
    script_done(&bed.script);
}

/* Others have come: it knows what they have. For a moment it may just be a worker that
 * has joined and has no lane yet. */
static void test_not_beside_others(void **state)
{
    (void)state;
    struct bed bed;
    bed_open(&bed, 2, 4);
    const uint64_t job = submit(&bed, 1000);
    script_message(&bed.script, lane_grant(2, 1));
    flush(&bed);
    assert_given(&bed, 0, 4, 4);
    bed.script.now_ms += 100;
    flush(&bed);
    assert_given(&bed, 0, 4, 4);
    assert_int_equal(client_core_deadline(bed.script.core), bed.script.now_ms + 100);
    bed.script.now_ms += 100;
    flush(&bed);
    assert_given(&bed, 992, 4, 4);
    finish_all(&bed, 1, job, US);
    finish_all(&bed, 2, job, US);
    flush(&bed);
    assert_given(&bed, 992, 0, 0);
    script_done(&bed.script);
}

/* What was given back goes there, and nothing with it. */
static void test_what_is_given_back(void **state)
{
    (void)state;
    struct bed bed;
    bed_open(&bed, 2, 4);
    const uint64_t job = submit(&bed, 1000);
    struct message *back = script_make_lost(job, 1, 2, 1, FARPOOL_EDRAINED);
    back->lost.lane = true;
    script_message(&bed.script, back);
    flush(&bed);
    assert_int_equal(bed.ways[0].tasks, 2);
    assert_int_equal(bed.ways[0].ranges[0].first, 1);
    assert_int_equal(bed.ways[0].ranges[0].attempt, 2);
    script_done(&bed.script);
}

/* It places them among what it knows of, and hears soon what that is. */
static void test_it_hears_of_room(void **state)
{
    (void)state;
    struct bed bed;
    bed_open(&bed, 2, 4);
    const uint64_t job = submit(&bed, 8);
    bed.script.now_ms += 100;
    flush(&bed); /* told of */
    struct message *back = script_make_lost(job, 0, 1, 1, FARPOOL_EDRAINED);
    back->lost.lane = true;
    script_message(&bed.script, back);
    flush(&bed);
    bed.script.now_ms += 5;
    script_flush(&bed.script);
    script_quiet(&bed.script); /* all slots are in use */
    finish_all(&bed, 2, job, US);
    script_flush(&bed.script);
    sent_on(&bed.script, 2, MSG_ACK);
    const struct id worker = lane_worker(2);
    bool told = false;
    for (size_t i = 0; i < bed.script.effects.count; i++) {
        const struct client_effect *effect = &bed.script.effects.items[i];
        told |= effect->kind == CLIENT_SEND && !effect->lane &&
                effect->message->kind == MSG_ACCOUNT &&
                id_equal(&effect->message->account.worker, &worker);
    }
    assert_true(told);
    script_forget(&bed.script);
    script_done(&bed.script);
}

/* ------------------------------------------------------------------ calling back */

static struct message *returned(uint64_t job, uint64_t first, uint64_t count)
{
    struct message *message = script_make(MSG_RETURNED);
    message->returned.pool = SCRIPT_POOL;
    message->returned.job = job;
    if (!count)
        return message;
    message->returned.ranges = script_list(sizeof *message->returned.ranges);
    message->returned.ranges_count = 1;
    message->returned.ranges[0] = (struct msg_range){first, count, 1};
    return message;
}

/* One worker has nothing, and at the other one task waits behind another. */
static uint64_t make_uneven(struct bed *bed, uint64_t task_ns)
{
    bed_open(bed, 1, 2);
    const uint64_t job = submit(bed, 4);
    assert_given(bed, 0, 2, 2);
    finish_all(bed, 1, job, task_ns);
    script_flush(&bed->script);
    sent_on(&bed->script, 1, MSG_ACK);
    return job;
}

static void test_what_waits_is_called_back(void **state)
{
    (void)state;
    struct bed bed;
    const uint64_t job = make_uneven(&bed, 10 * MS);
    const struct message *recall = sent_on(&bed.script, 2, MSG_RECALL);
    assert_int_equal(recall->recall.job, job);
    assert_int_equal(recall->recall.tasks, 1);
    script_flush(&bed.script);
    script_quiet(&bed.script); /* one at a time */
    lane_hear(&bed.script, 2, returned(job, 3, 1));
    script_flush(&bed.script);
    sent_tasks(&bed.script, 1, 3, 1, 1);
    script_quiet(&bed.script);
    script_done(&bed.script);
}

static void test_not_again_when_it_brought_nothing(void **state)
{
    (void)state;
    struct bed bed;
    const uint64_t job = make_uneven(&bed, 10 * MS);
    sent_on(&bed.script, 2, MSG_RECALL);
    lane_hear(&bed.script, 2, returned(job, 0, 0));
    bed.script.now_ms += 50;
    script_flush(&bed.script);
    script_quiet(&bed.script);
    script_done(&bed.script);
}

/* But of an older job that waits behind it. */
static void test_then_of_the_job_before(void **state)
{
    (void)state;
    struct bed bed;
    const uint64_t first = make_uneven(&bed, 10 * MS);
    const uint64_t second = script_job(&bed.script);
    script_forget(&bed.script);
    lane_hear(&bed.script, 2, returned(first, 0, 0));
    script_message(&bed.script, lane_grant(1, 0));
    script_message(&bed.script, lane_grant(2, 2));
    pool_state(&bed.script, 2);
    script_input(&bed.script, second, 0, 1, 4);
    flush(&bed);
    assert_given(&bed, 0, 0, 3);
    script_message(&bed.script, lane_grant(1, 2));
    pool_state(&bed.script, 4);
    bed.script.now_ms += 5;
    script_flush(&bed.script);
    assert_int_equal(sent_on(&bed.script, 2, MSG_RECALL)->recall.job, second);
    lane_hear(&bed.script, 2, returned(second, 0, 0));
    script_flush(&bed.script);
    assert_int_equal(sent_on(&bed.script, 2, MSG_RECALL)->recall.job, first);
    script_done(&bed.script);
}

/* Unless one of them takes long after all. */
static void test_trifles_are_not_called_back(void **state)
{
    (void)state;
    struct bed bed;
    make_uneven(&bed, US);
    script_quiet(&bed.script);
    assert_int_equal(client_core_deadline(bed.script.core), bed.script.now_ms + 5);
    bed.script.now_ms += 5;
    script_flush(&bed.script);
    sent_on(&bed.script, 2, MSG_RECALL);
    script_done(&bed.script);
}

/* What is not known there any more changes nothing. */
static void test_returned_of_what_is_not_there(void **state)
{
    (void)state;
    struct bed bed;
    const uint64_t job = make_uneven(&bed, 10 * MS);
    sent_on(&bed.script, 2, MSG_RECALL);
    struct message *old = returned(job, 3, 1);
    old->returned.ranges[0].attempt = 7;
    lane_hear(&bed.script, 2, old);
    lane_hear(&bed.script, 1, returned(job, 3, 1)); /* another lane's */
    lane_hear(&bed.script, 1, returned(99, 0, UINT64_MAX));
    lane_hear(&bed.script, 1, returned(job, 0, UINT64_MAX));
    bed.script.now_ms += 1;
    script_flush(&bed.script);
    for (size_t i = 0; i < bed.script.effects.count; i++)
        assert_int_not_equal(bed.script.effects.items[i].message->kind, MSG_TASKS);
    script_forget(&bed.script);
    script_done(&bed.script);
}

/* ----------------------------------------------------------------- many ranges */

/* 300 of one task each, on one lane. */
static uint64_t scatter(struct script *script)
{
    script_open_with(script, 1 << 16, 1 << 20);
    pool_state(script, 300);
    lane_bring_up(script, 1, 300);
    const uint64_t job = fill(script, 600);
    script_forget(script);
    for (uint64_t i = 0; i < 600; i += 2) {
        struct message *done = script_make_done(script, job, i, 1, 1, 4);
        done->done.worker = lane_worker(1);
        lane_hear(script, 1, done);
        script_took(script, job, i, 1);
    }
    return job;
}

static void test_the_first_of_many_ranges_are_told(void **state)
{
    (void)state;
    struct script script;
    scatter(&script);
    script.now_ms += 100;
    script_flush(&script);
    sent_on(&script, 1, MSG_ACK);
    sent_on(&script, 0, MSG_JOB_OPEN);
    const struct message *account = sent_on(&script, 0, MSG_ACCOUNT);
    assert_int_equal(account->account.ranges_count, LIST_MAX);
    assert_int_equal(account->account.ranges[0].first, 1);
    assert_int_equal(account->account.done, 300);
    script_quiet(&script);
    script_done(&script);
}

static void test_all_of_many_ranges_are_cancelled(void **state)
{
    (void)state;
    struct script script;
    scatter(&script);
    script_event(&script, (struct client_event){
                              .kind = CLIENT_LINK_DOWN, .lane = 1, .text = "reset"});
    script_flush(&script);
    sent_on(&script, 0, MSG_JOB_OPEN);
    sent_on(&script, 0, MSG_ACCOUNT);
    assert_int_equal(sent_on(&script, 0, MSG_CANCEL)->cancel.ranges_count, LIST_MAX);
    const struct message *rest = sent_on(&script, 0, MSG_CANCEL);
    assert_int_equal(rest->cancel.ranges_count, 300 - LIST_MAX);
    assert_int_equal(rest->cancel.ranges[0].first, 2 * LIST_MAX + 1);
    sent_on(&script, 0, MSG_LANE);
    script_forget(&script);
    script_done(&script);
}

static void test_all_of_many_ranges_are_lost(void **state)
{
    (void)state;
    struct script script;
    scatter(&script);
    struct message *message = script_make(MSG_WITHDRAW);
    message->withdraw.ticket = lane_ticket(1);
    script_message(&script, message);
    uint64_t again = 0;
    script_flush(&script);
    for (size_t i = 0; i < script.effects.count; i++) {
        const struct client_effect *effect = &script.effects.items[i];
        if (effect->kind != CLIENT_SEND || effect->message->kind != MSG_TASKS)
            continue;
        for (uint32_t k = 0; k < effect->message->tasks.spans_count; k++) {
            assert_int_equal(effect->message->tasks.spans[k].watch, 1);
            again += effect->message->tasks.spans[k].count;
        }
    }
    assert_int_equal(again, 300);
    script_forget(&script);
    script_done(&script);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_a_slot_at_first),
        cmocka_unit_test(test_more_with_each_result),
        cmocka_unit_test(test_the_next_job_knows),
        cmocka_unit_test(test_long_ones_are_not_given_ahead),
        cmocka_unit_test(test_whole_chunks),
        cmocka_unit_test(test_what_others_of_the_pool_have_there),
        cmocka_unit_test(test_not_without_lanes_to_all),
        cmocka_unit_test(test_not_beside_others),
        cmocka_unit_test(test_what_is_given_back),
        cmocka_unit_test(test_it_hears_of_room),
        cmocka_unit_test(test_what_waits_is_called_back),
        cmocka_unit_test(test_not_again_when_it_brought_nothing),
        cmocka_unit_test(test_then_of_the_job_before),
        cmocka_unit_test(test_trifles_are_not_called_back),
        cmocka_unit_test(test_returned_of_what_is_not_there),
        cmocka_unit_test(test_the_first_of_many_ranges_are_told),
        cmocka_unit_test(test_all_of_many_ranges_are_cancelled),
        cmocka_unit_test(test_all_of_many_ranges_are_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
