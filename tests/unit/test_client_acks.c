/* SPDX-License-Identifier: Apache-2.0
 *
 * test_client_acks.c: ACKs wait for others to go with them, while more results will come.
 */
#define SCRIPT_ACK_WAIT_MS 100
#include "tests/unit/client_script.h"

static void wait_for_others_while_tasks_are_under_way(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    const uint64_t job = script_map(&script, 10);
    script_result(&script, job, 0, 2, 1);
    script_took(&script, job, 0, 2);
    script_flush(&script);
    script_quiet(&script);
    const uint64_t due_ms = script.now_ms + SCRIPT_ACK_WAIT_MS;
    assert_int_equal(client_core_deadline(script.core), due_ms);
    script.now_ms = due_ms - SCRIPT_ACK_WAIT_MS / 4 - 1; /* from then on they go along */
    script_result(&script, job, 2, 1, 1);
    script_took(&script, job, 2, 1);
    script_flush(&script);
    script_quiet(&script);
    script.now_ms = due_ms;
    script_flush(&script);
    script_acked(&script, 1, 2);
    script_quiet(&script);
    script_done(&script);
}

static void go_at_once_behind_the_last_result(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    const uint64_t job = script_map(&script, 3);
    script_result(&script, job, 0, 3, 1);
    script_took(&script, job, 0, 3);
    script_flush(&script);
    script_acked(&script, 1, 1);
    script_ended(&script, job);
    script_done(&script);
}

/* The worker keeps what is not ACKed, and has a bound for it. */
static void go_at_once_for_many_bytes(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    const uint64_t job = script_map(&script, 10);
    script_message(&script, script_make_done(&script, job, 0, 1, 1, 300000));
    script_took(&script, job, 0, 1);
    script_flush(&script);
    script_acked(&script, 1, 1);
    for (uint64_t seq = 0; seq < 1200; seq++) /* repeated: small, but many */
        script_result(&script, job, 0, 1, 1);
    script_flush(&script);
    script_acked(&script, 2, 1200);
    script_done(&script);
}

/* ... which may be reached already: it tells. */
static void go_at_once_when_the_worker_waits(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    const uint64_t job = script_map(&script, 10);
    script_result(&script, job, 0, 1, 1);
    script_took(&script, job, 0, 1);
    script_flush(&script);
    script_quiet(&script);
    struct message *last = script_make_done(&script, job, 1, 1, 1, 4);
    last->done.hurry = true;
    script_message(&script, last);
    script_took(&script, job, 1, 1);
    script_flush(&script);
    script_acked(&script, 1, 2);
    script_done(&script);
}

static void failures_too(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    const uint64_t job = script_map(&script, 10);
    struct message *failed = script_make_failed(&script, job, 0, 1, FARPOOL_EFUNCTION);
    failed->failed.hurry = true;
    script_message(&script, failed);
    script_take(&script, CLIENT_FAILED);
    script_flush(&script);
    script_acked(&script, 1, 1);
    script_done(&script);
}

/* The worker sends again what it did not see ACKed. */
static void are_forgotten_with_the_link(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    const uint64_t job = script_map(&script, 10);
    script_result(&script, job, 0, 2, 1);
    script_took(&script, job, 0, 2);
    script_flush(&script);
    script_link_down(&script);
    script_forget(&script);
    script.now_ms += 2 * SCRIPT_ACK_WAIT_MS;
    script_flush(&script);
    script_quiet(&script);
    script_done(&script);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wait_for_others_while_tasks_are_under_way),
        cmocka_unit_test(go_at_once_behind_the_last_result),
        cmocka_unit_test(go_at_once_for_many_bytes),
        cmocka_unit_test(go_at_once_when_the_worker_waits),
        cmocka_unit_test(failures_too),
        cmocka_unit_test(are_forgotten_with_the_link),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
