/* SPDX-License-Identifier: Apache-2.0
 *
 * test_coordinator_account.c: what a client may send on a lane, and what is known here of
 * what it has sent. */
#include "tests/unit/lane_script.h"

#define MS 1000000u /* in ns */

/* A client's lane to a worker of two slots, and a job. */
struct bed {
    struct script *script;
    uint64_t worker, client;
    struct id ticket;
};

static struct bed make_bed(struct script *script)
{
    struct bed bed = {.script = script};
    bed.worker = join_host(script, 5, 10);
    bed.client = join_dialer(script, 1, 1);
    bed.ticket = bring_up(script, bed.worker, bed.client);
    script_say(script, bed.client, job_open(1, 1, 0, 0));
    return bed;
}

static struct message *account(uint64_t first, uint64_t count, uint32_t attempt)
{
    struct message *message = message_create(MSG_ACCOUNT);
    message->account.pool = make_id(1);
    message->account.job = 1;
    message->account.worker = make_id(10);
    message->account.ranges_count =
        make_ranges(&message->account.ranges, first, count, attempt);
    return message;
}

static uint64_t assigned(const struct bed *bed)
{
    struct coordinator_counts counts;
    coordinator_core_counts(bed->script->core, &counts);
    return counts.assigned;
}

static void told(const struct bed *bed, uint32_t slots, uint32_t busy)
{
    const struct message *grant = script_take(bed->script, bed->client, MSG_GRANT);
    assert_true(id_equal(&grant->grant.ticket, &bed->ticket));
    assert_int_equal(grant->grant.slots, slots);
    assert_int_equal(grant->grant.busy, busy);
    script_quiet(bed->script);
}

/* ------------------------------------------------------------------- ACCOUNT */

static void test_the_next_account_replaces_the_last(void **state)
{
    const struct bed bed = make_bed(*state);
    script_say_last(bed.script, bed.client, account(0, 2, 1));
    assert_int_equal(assigned(&bed), 2);
    script_say_last(bed.script, bed.client, account(1, 3, 1));
    assert_int_equal(assigned(&bed), 3);
    struct message *last = account(0, 0, 1);
    last->account.done = 4;
    last->account.elapsed_ns = 8 * MS;
    script_say_last(bed.script, bed.client, last);
    assert_int_equal(assigned(&bed), 0);
    script_quiet(bed.script); /* no worker was told of any of it */
}

/* Its own tasks there take the slots of what comes by the coordinator. */
static void test_it_is_the_workers_load(void **state)
{
    const struct bed bed = make_bed(*state);
    script_say_last(bed.script, bed.client, account(0, 4, 1));
    script_say_last(bed.script, bed.client, tasks(1, 1, 4, 1));
    assert_int_equal(script_given(bed.script, bed.worker), 0);
    script_say_last(bed.script, bed.client, account(0, 1, 1));
    assert_int_equal(script_given(bed.script, bed.worker), 1);
}

/* The node's tasks, and its lanes, are its own word's; whose jobs they were is not told.
 */
static void test_the_worker_counts_what_ended(void **state)
{
    const struct bed bed = make_bed(*state);
    struct message *more = load(0, 0, 0, 0, 0, 0), *fewer = load(0, 0, 0, 0, 0, 0);
    more->load.lane_done = 5;
    fewer->load.lane_done = 4;
    script_say_last(bed.script, bed.worker, more);
    script_forget(bed.script);
    script_say_last(bed.script, bed.client, message_create(MSG_STATUS_GET));
    const struct message *status = script_take(bed.script, bed.client, MSG_STATUS);
    assert_int_equal(status->status.nodes[0].done, 5);
    assert_int_equal(status->status.nodes[0].lanes, 1);
    script_say(bed.script, bed.worker, fewer);
    script_dropped(bed.script, bed.worker, FARPOOL_EPROTOCOL);
}

/* What a client has not dealt yet waits, for who asks; until it comes by here. */
static void test_what_waits_at_its_client(void **state)
{
    const struct bed bed = make_bed(*state);
    struct message *message = account(0, 2, 1);
    message->account.unsent = 7;
    script_say_last(bed.script, bed.client, message);
    script_say_last(bed.script, bed.client, message_create(MSG_STATUS_GET));
    const struct message *status = script_take(bed.script, bed.client, MSG_STATUS);
    assert_int_equal(status->status.pools[0].waiting, 7);
    assert_int_equal(status->status.jobs[0].waiting, 7);
    assert_string_equal(status->status.jobs[0].why, "busy");
    script_forget(bed.script);
    script_say(bed.script, bed.client, tasks(1, 1, 2, 3));
    script_say(bed.script, bed.client, message_create(MSG_STATUS_GET));
    status = script_take(bed.script, bed.client, MSG_STATUS);
    assert_int_equal(status->status.jobs[0].waiting, 7); /* three of them here */
}

/* Slots are idle: its client is dealing. */
static void test_what_its_client_deals(void **state)
{
    const struct bed bed = make_bed(*state);
    struct message *message = account(0, 0, 1);
    message->account.unsent = 7;
    script_say_last(bed.script, bed.client, message);
    script_say_last(bed.script, bed.client, message_create(MSG_STATUS_GET));
    const struct message *status = script_take(bed.script, bed.client, MSG_STATUS);
    assert_string_equal(status->status.jobs[0].why, "dealing");
    assert_non_null(strstr(status->status.jobs[0].reason, "by their client"));
}

/* More than any number of tasks. */
static void test_what_nobody_believes(void **state)
{
    const struct bed bed = make_bed(*state);
    struct message *message = account(0, 0, 1);
    message->account.unsent = UINT64_MAX;
    script_say(bed.script, bed.client, tasks(1, 1, 2, 3));
    script_say(bed.script, bed.client, message);
    script_say(bed.script, bed.client, message_create(MSG_STATUS_GET));
    const struct message *status = script_take(bed.script, bed.client, MSG_STATUS);
    assert_true(status->status.jobs[0].waiting == UINT64_MAX);
}

static void test_what_cannot_be(void **state)
{
    struct bed bed = make_bed(*state);
    struct message *none = account(0, 1, 0);
    script_say_last(bed.script, bed.client, none);
    script_dropped(bed.script, bed.client, FARPOOL_EPROTOCOL);
}

static void test_more_than_a_worker_may_have(void **state)
{
    struct bed bed = make_bed(*state);
    script_say_last(bed.script, bed.client, account(0, WORKER_TASKS_MAX + 1, 1));
    script_dropped(bed.script, bed.client, FARPOOL_EPROTOCOL);
}

static struct message *two_ranges(uint64_t first, uint64_t second)
{
    struct message *message = account(first, 2, 1);
    struct msg_range *ranges = mem_alloc(2 * sizeof *ranges);
    assert_non_null(ranges);
    ranges[0] = message->account.ranges[0];
    ranges[1] = (struct msg_range){second, 2, 1};
    mem_free(message->account.ranges);
    message->account.ranges = ranges;
    message->account.ranges_count = 2;
    return message;
}

static void test_ranges_out_of_order(void **state)
{
    struct bed bed = make_bed(*state);
    script_say_last(bed.script, bed.client, two_ranges(0, 2));
    assert_int_equal(assigned(&bed), 4);
    script_say_last(bed.script, bed.client, two_ranges(2, 3));
    script_dropped(bed.script, bed.client, FARPOOL_EPROTOCOL);
}

/* Nobody's word makes a worker look full. */
static void test_more_than_the_window_is_not_believed(void **state)
{
    struct bed bed = make_bed(*state);
    struct message *message = two_ranges(0, 5);
    message->account.ranges[1].count = bed.script->worker_tasks;
    script_say_last(bed.script, bed.client, message);
    assert_int_equal(assigned(&bed), 2);
}

static void test_of_a_job_that_is_closed(void **state)
{
    const struct bed bed = make_bed(*state);
    struct message *late = account(0, 1, 1);
    late->account.job = 7;
    script_say_last(bed.script, bed.client, late);
    assert_int_equal(assigned(&bed), 0);
    script_quiet(bed.script);
}

/* Its client does for itself what LOST would have it do. */
static void test_the_worker_goes(void **state)
{
    const struct bed bed = make_bed(*state);
    script_say_last(bed.script, bed.client, account(0, 2, 1));
    script_down(bed.script, bed.worker);
    script_flush(bed.script);
    withdrawn(bed.script, bed.client, &bed.ticket, "the worker has gone");
    assert_int_equal(assigned(&bed), 0);
    script_quiet(bed.script);
}

/* Told of or not yet: the client knows by the attempt whether it is meant. */
static void test_what_is_given_back(void **state)
{
    const struct bed bed = make_bed(*state);
    script_say_last(bed.script, bed.client, account(0, 1, 1));
    script_say_last(bed.script, bed.worker, returned(1, 1, 0, 3));
    const struct message *lost = script_take(bed.script, bed.client, MSG_LOST);
    assert_true(lost->lost.lane);
    assert_int_equal(lost->lost.code, FARPOOL_EDRAINED);
    assert_int_equal(lost->lost.ranges_count, 1);
    assert_int_equal(lost->lost.ranges[0].count, 3);
    assert_int_equal(assigned(&bed), 0);
    script_quiet(bed.script);
}

/* A former attempt that is known here, of whatever worker, is another one. */
static void test_what_is_given_back_of_a_later_attempt(void **state)
{
    const struct bed bed = make_bed(*state);
    script_say_last(bed.script, bed.client, tasks(1, 1, 0, 1));
    assert_int_equal(script_given(bed.script, bed.worker), 1);
    struct message *later = returned(1, 1, 0, 1);
    later->returned.ranges[0].attempt = 2;
    script_say_last(bed.script, bed.worker, later);
    const struct message *lost = script_take(bed.script, bed.client, MSG_LOST);
    assert_true(lost->lost.lane);
    assert_int_equal(lost->lost.ranges_count, 1);
    assert_int_equal(lost->lost.ranges[0].attempt, 2);
    assert_int_equal(assigned(&bed), 1);
}

/* It is ended at the worker, and known here no more. */
static void test_what_its_client_cancels(void **state)
{
    const struct bed bed = make_bed(*state);
    script_say_last(bed.script, bed.client, account(0, 2, 1));
    script_say_last(bed.script, bed.client, cancel(1, 1, 0, 2));
    script_take(bed.script, bed.worker, MSG_CANCEL);
    assert_int_equal(assigned(&bed), 0);
    script_quiet(bed.script);
}

/* --------------------------------------------------------------------- GRANT */

/* Of tasks that other pools have for it: less at once, more again after a while. */
static void test_a_busy_worker_is_granted_less(void **state)
{
    const struct bed bed = make_bed(*state);
    struct script *script = bed.script;
    const uint64_t other = add_pool(script, 2, 1);
    script_flush(script);
    script_forget(script);
    script_pass(script, 10);
    script_say_last(script, other, tasks(2, 1, 0, 1));
    assert_int_equal(script_given(script, bed.worker), 1);
    told(&bed, 1, 0);
    script_say_last(script, other, tasks(2, 1, 1, 1));
    assert_int_equal(script_given(script, bed.worker), 1);
    script_quiet(script); /* not at each task */
    script_pass(script, 10);
    told(&bed, 0, 0);
    script_say_last(script, bed.worker, done(script, 10, 2, 1, 0, 2, MS));
    script_take(script, other, MSG_DONE);
    script_pass(script, 10);
    script_quiet(script);
    script_pass(script, 90);
    told(&bed, 2, 0);
}

/* Also when the pool itself has so much there that more changes nothing. */
static void test_others_are_seen_behind_its_own(void **state)
{
    const struct bed bed = make_bed(*state);
    struct script *script = bed.script;
    const uint64_t other = add_pool(script, 2, 1);
    script_flush(script);
    script_forget(script);
    script_say_last(script, bed.client, account(0, 100, 1));
    script_pass(script, 10);
    script_quiet(script);
    script_say_last(script, other, tasks(2, 1, 0, 2));
    assert_int_equal(script_given(script, bed.worker), 2);
    script_pass(script, 10);
    told(&bed, 0, 0);
}

/* What its client has sent by the coordinator is told, and leaves it the slots. */
static void test_slots_that_its_own_keep_busy(void **state)
{
    const struct bed bed = make_bed(*state);
    struct script *script = bed.script;
    script_pass(script, 10);
    script_say_last(script, bed.client, tasks(1, 1, 0, 2));
    assert_int_equal(script_given(script, bed.worker), 2);
    told(&bed, 2, 2);
    script_say_last(script, bed.worker, done(script, 10, 1, 1, 0, 2, MS));
    script_take(script, bed.client, MSG_DONE);
    script_pass(script, 10);
    script_quiet(script);
    script_pass(script, 90);
    told(&bed, 2, 0);
}

/* Its own are not those of others. */
static void test_what_it_has_sent_itself(void **state)
{
    const struct bed bed = make_bed(*state);
    script_pass(bed.script, 10);
    script_say_last(bed.script, bed.client, account(0, 2, 1));
    script_pass(bed.script, 10);
    script_quiet(bed.script);
}

/* ------------------------------------------------------------------ calling back */

/* Its client evens out what it has sent, where all slots of the pool are on its lanes. */
static void test_who_calls_back(void **state)
{
    const struct bed bed = make_bed(*state);
    struct script *script = bed.script;
    script_say_last(script, bed.client, account(0, 100, 1));
    const uint64_t second = join_host(script, 6, 11);
    script_flush(script);
    assert_int_equal(script_take(script, bed.worker, MSG_RECALL)->recall.job, 1);
    script_say_last(script, bed.worker, returned(1, 1, 0, 0));
    const struct id ticket = expect(script, second);
    script_take(script, bed.client, MSG_INTRODUCED);
    script_say_last(script, bed.client, lane(&ticket, true));
    script_pass(script, 100);
    script_forget(script);
    script_say_last(script, bed.client, account(0, 99, 1));
    script_pass(script, 500);
    script_quiet(script);
}

int main(void)
{
#define TEST(name)                                                                       \
    cmocka_unit_test_setup_teardown(name, script_set_up_keyed, script_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_the_next_account_replaces_the_last),
        TEST(test_it_is_the_workers_load),
        TEST(test_the_worker_counts_what_ended),
        TEST(test_what_waits_at_its_client),
        TEST(test_what_its_client_deals),
        TEST(test_what_nobody_believes),
        TEST(test_what_cannot_be),
        TEST(test_more_than_a_worker_may_have),
        TEST(test_ranges_out_of_order),
        TEST(test_more_than_the_window_is_not_believed),
        TEST(test_of_a_job_that_is_closed),
        TEST(test_the_worker_goes),
        TEST(test_what_is_given_back),
        TEST(test_what_is_given_back_of_a_later_attempt),
        TEST(test_what_its_client_cancels),
        TEST(test_a_busy_worker_is_granted_less),
        TEST(test_others_are_seen_behind_its_own),
        TEST(test_slots_that_its_own_keep_busy),
        TEST(test_what_it_has_sent_itself),
        TEST(test_who_calls_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
