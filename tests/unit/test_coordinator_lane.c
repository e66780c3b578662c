/* SPDX-License-Identifier: Apache-2.0
 *
 * test_coordinator_lane.c: introductions: who is introduced to whom, in which order, and
 * that both ends hear when a lane is over. */
#include "tests/unit/lane_script.h"

/* ------------------------------------------------------------- introducing */

static void test_both_are_told(void **state)
{
    struct script *script = *state;
    const uint64_t worker = join_host(script, 5, 10);
    const uint64_t client = join_dialer(script, 1, 1);
    script_take(script, worker, MSG_POOL_OPEN);
    const struct message *introduce = script_take(script, worker, MSG_INTRODUCE);
    const struct holder holder = make_holder(HOLDER_CLIENT, 1);
    const struct id ticket = introduce->introduce.ticket,
                    pool = introduce->introduce.pool;
    assert_true(hash_equal(&introduce->introduce.key, &holder.key));
    assert_true(id_equal(&introduce->introduce.peer, &(struct id){.bytes = {1, 0xfa}}));
    assert_false(introduce->introduce.worker);
    assert_true(introduce->introduce.wait_ms > 0);
    script_quiet(script); /* nobody dials before the host lets it in */
    script_say_last(script, worker, expected(&ticket));
    const struct message *introduced = script_take(script, client, MSG_INTRODUCED);
    const struct holder other = make_holder(HOLDER_WORKER, 5);
    assert_true(id_equal(&introduced->introduced.ticket, &ticket));
    assert_true(id_equal(&introduced->introduced.pool, &pool));
    assert_true(
        id_equal(&introduced->introduced.worker, &(struct id){.bytes = {10, 0xfa}}));
    assert_true(hash_equal(&introduced->introduced.key, &other.key));
    assert_string_equal(introduced->introduced.address, "tcp://10.0.0.10:41000");
    assert_string_equal(introduced->introduced.node, "node10");
    script_say_last(script, worker, expected(&ticket)); /* it was told */
    script_quiet(script);
}

static void test_each_pair_has_a_ticket_of_its_own(void **state)
{
    struct script *script = *state;
    const uint64_t one = join_host(script, 5, 10), two = join_host(script, 6, 11);
    const uint64_t client = join_dialer(script, 1, 1);
    const struct id first = expect(script, one), second = expect(script, two);
    assert_false(id_equal(&first, &second));
    script_take(script, client, MSG_INTRODUCED);
    script_take(script, client, MSG_INTRODUCED);
    script_quiet(script);
}

static void nobody_is_introduced(struct script *script, uint64_t worker)
{
    script_take(script, worker, MSG_POOL_OPEN);
    script_quiet(script);
}

static void test_who_has_no_lanes(void **state)
{
    struct script *script = *state;
    const uint64_t plain = join_as(script, HOLDER_WORKER, 5, hello_worker(script, 10, 2));
    const uint64_t client = join_dialer(script, 1, 1);
    nobody_is_introduced(script, plain); /* it cannot be dialled */
    script_down(script, client);
    script_down(script, plain);
    script_forget(script);
    const uint64_t worker = join_host(script, 5, 11);
    const uint64_t other = join_as(script, HOLDER_CLIENT, 2, hello_client(2));
    struct message *open = keyed_open(2, 2);
    open->pool_open.processes = 1;
    script_say_last(script, other, open);
    nobody_is_introduced(script, worker); /* it does not dial */
}

static void test_without_tickets_nobody_is_introduced(void **state)
{
    struct script script = {.links = 0};
    (void)state;
    script_begin(&script);
    script_say(&script, ++script.links, host(&script, 10));
    script_say(&script, ++script.links, dialer(1));
    script_say_last(&script, 2, pool_open(1, 1));
    script_take(&script, 1, MSG_WELCOME);
    script_take(&script, 2, MSG_WELCOME);
    nobody_is_introduced(&script, 1);
    script_end(&script);
}

static void test_another_worker_cannot_let_in(void **state)
{
    struct script *script = *state;
    const uint64_t worker = join_host(script, 5, 10);
    join_dialer(script, 1, 1);
    script_take(script, worker, MSG_POOL_OPEN);
    const struct id ticket = script_take(script, worker, MSG_INTRODUCE)->introduce.ticket;
    const uint64_t other = join_as(script, HOLDER_WORKER, 6, hello_worker(script, 11, 1));
    script_flush(script);
    script_forget(script);
    script_say_last(script, other, expected(&ticket));
    script_quiet(script);
}

/* A later reason to introduce them finds nothing in its way. */
static void test_the_host_lets_nobody_in(void **state)
{
    struct script *script = *state;
    const uint64_t worker = join_host(script, 5, 10);
    const uint64_t client = join_dialer(script, 1, 1);
    script_take(script, worker, MSG_POOL_OPEN);
    const struct id ticket = script_take(script, worker, MSG_INTRODUCE)->introduce.ticket;
    script_say_last(script, worker, lane(&ticket, false));
    script_say_last(script, worker, expected(&ticket)); /* too late */
    script_quiet(script);
    script_down(script, client);
    script_flush(script);
    script_take(script, worker, MSG_POOL_CLOSE); /* and nothing is withdrawn */
    script_quiet(script);
}

/* --------------------------------------------------------------- their end */

static void test_the_dialer_goes(void **state)
{
    struct script *script = *state;
    const uint64_t worker = join_host(script, 5, 10);
    const uint64_t client = join_dialer(script, 1, 1);
    const struct id ticket = bring_up(script, worker, client);
    script_down(script, client);
    script_flush(script);
    withdrawn(script, worker, &ticket, "the dialer has gone");
    script_take(script, worker, MSG_POOL_CLOSE);
    script_quiet(script);
}

static void test_it_goes_before_it_was_told(void **state)
{
    struct script *script = *state;
    const uint64_t worker = join_host(script, 5, 10);
    const uint64_t client = join_dialer(script, 1, 1);
    script_take(script, worker, MSG_POOL_OPEN);
    const struct id ticket = script_take(script, worker, MSG_INTRODUCE)->introduce.ticket;
    script_down(script, client);
    script_flush(script);
    withdrawn(script, worker, &ticket, "the dialer has gone");
    script_take(script, worker, MSG_POOL_CLOSE);
    script_say_last(script, worker, expected(&ticket));
    script_quiet(script);
}

static void test_the_host_goes(void **state)
{
    struct script *script = *state;
    const uint64_t worker = join_host(script, 5, 10);
    const uint64_t client = join_dialer(script, 1, 1);
    const struct id ticket = bring_up(script, worker, client);
    script_down(script, worker);
    script_flush(script);
    withdrawn(script, client, &ticket, "the worker has gone");
    script_quiet(script);
    script_say_last(script, client, lane(&ticket, false)); /* crossed */
    script_quiet(script);
}

static void test_a_lane_that_broke_is_forgotten(void **state)
{
    struct script *script = *state;
    const uint64_t worker = join_host(script, 5, 10);
    const uint64_t client = join_dialer(script, 1, 1);
    const struct id ticket = bring_up(script, worker, client);
    script_say_last(script, client, lane(&ticket, false));
    withdrawn(script, worker, &ticket, "it broke");
    script_quiet(script);
    script_down(script, client);
    script_flush(script);
    script_take(script, worker, MSG_POOL_CLOSE);
    script_quiet(script);
}

static void test_the_pool_ends(void **state)
{
    struct script *script = *state;
    const uint64_t worker = join_host(script, 5, 10);
    const uint64_t client = join_dialer(script, 1, 1);
    bring_up(script, worker, client);
    struct message *close = pool_close(1, false);
    close->pool_close.pool.bytes[2] = 0;
    script_say_last(script, client, close);
    script_take(script, worker, MSG_POOL_CLOSE); /* which ends its lanes there */
    script_quiet(script);
}

/* Nobody ends the lane of another. */
static void test_another_client_says_it(void **state)
{
    struct script *script = *state;
    const uint64_t worker = join_host(script, 5, 10);
    const uint64_t client = join_dialer(script, 1, 1);
    const struct id ticket = bring_up(script, worker, client);
    const uint64_t other = join_as(script, HOLDER_CLIENT, 1, hello_client(2));
    script_say_last(script, other, lane(&ticket, false));
    script_quiet(script);
}

int main(void)
{
#define TEST(name)                                                                       \
    cmocka_unit_test_setup_teardown(name, script_set_up_keyed, script_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_both_are_told),
        TEST(test_each_pair_has_a_ticket_of_its_own),
        TEST(test_who_has_no_lanes),
        cmocka_unit_test(test_without_tickets_nobody_is_introduced),
        TEST(test_another_worker_cannot_let_in),
        TEST(test_the_host_lets_nobody_in),
        TEST(test_the_dialer_goes),
        TEST(test_it_goes_before_it_was_told),
        TEST(test_the_host_goes),
        TEST(test_a_lane_that_broke_is_forgotten),
        TEST(test_the_pool_ends),
        TEST(test_another_client_says_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
