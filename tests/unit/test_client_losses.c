/* SPDX-License-Identifier: Apache-2.0
 *
 * test_client_losses.c: which ends of nodes are losses of a task, and how it is watched
 * from the first one on (docs/failure.md). */
#include "tests/unit/client_script.h"

static void lost_unsure(struct script *script, uint64_t job, uint64_t first,
                        uint64_t count, uint32_t attempt)
{
    struct message *message =
        script_make_lost(job, first, count, attempt, FARPOOL_ENODELOST);
    message->lost.unsure = true;
    script_message(script, message);
}

/* The tasks that are sent now, in one span, are watched so. */
static void sent_watched(struct script *script, uint64_t job, uint64_t first,
                         uint64_t count, uint32_t attempt, uint32_t watch)
{
    const struct message *tasks = script_sent(script, MSG_TASKS);
    assert_int_equal(tasks->tasks.job, job);
    assert_int_equal(tasks->tasks.spans_count, 1);
    assert_int_equal(tasks->tasks.spans[0].first, first);
    assert_int_equal(tasks->tasks.spans[0].count, count);
    assert_int_equal(tasks->tasks.spans[0].attempt, attempt);
    assert_int_equal(tasks->tasks.spans[0].watch, watch);
}

/* What may not have begun at its node is watched, in smaller and smaller parts; what had
 * begun has a loss. */
static void test_node_lost_unsure(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    const uint64_t job = script_map(&script, 9); /* losses_max 3 */
    for (uint32_t attempt = 1; attempt <= 4; attempt++) {
        lost_unsure(&script, job, 0, 2, attempt);
        script_flush(&script);
        sent_watched(&script, job, 0, 2, attempt + 1, attempt < 3 ? attempt : 3);
    }
    script_loss(&script, job, 0, 1, 5, FARPOOL_ENODELOST);
    script_flush(&script);
    sent_watched(&script, job, 0, 1, 6, 3);
    script_loss(&script, job, 0, 1, 6, FARPOOL_EDRAINED); /* had not begun */
    script_flush(&script);
    sent_watched(&script, job, 0, 1, 7, 3);
    script_loss(&script, job, 0, 1, 7, FARPOOL_ENODELOST);
    script_flush(&script);
    sent_watched(&script, job, 0, 1, 8, WATCH_LAST);
    lost_unsure(&script, job, 0, 1, 8);
    script_flush(&script);
    sent_watched(&script, job, 0, 1, 9, WATCH_LAST);
    script_loss(&script, job, 0, 1, 9, FARPOOL_ENODELOST);
    script_gave_up(&script, job, 0, 1, FARPOOL_ENODELOST);
    /* One that had begun is watched by itself at once. */
    script_loss(&script, job, 8, 1, 1, FARPOOL_ENODELOST);
    script_flush(&script);
    sent_watched(&script, job, 8, 1, 2, 3);
    /* And the end of a process has nothing to do with nodes. */
    script_failure(&script, job, 7, 1, FARPOOL_EPROCESSLOST);
    script_flush(&script);
    script_acked(&script, 1, 1);
    sent_watched(&script, job, 7, 1, 2, 0);
    script_done(&script);
}

/* Not for ever. */
static void test_node_lost_unsure_again_and_again(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    const uint64_t job = script_map(&script, 2);
    uint32_t attempt = 1;
    for (; attempt <= 10; attempt++) {
        lost_unsure(&script, job, 1, 1, attempt);
        script_flush(&script);
        const uint32_t watch = attempt < 3 ? attempt : attempt < 10 ? 3 : WATCH_LAST;
        sent_watched(&script, job, 1, 1, attempt + 1, watch);
    }
    lost_unsure(&script, job, 1, 1, attempt);
    script_gave_up(&script, job, 1, 1, FARPOOL_ENODELOST);
    script_done(&script);
}

static void test_node_lost_unsure_once(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    script.options.losses_max = 1;
    const uint64_t job = script_map(&script, 2);
    lost_unsure(&script, job, 1, 1, 1);
    script_gave_up(&script, job, 1, 1, FARPOOL_ENODELOST);
    script_done(&script);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_node_lost_unsure),
        cmocka_unit_test(test_node_lost_unsure_again_and_again),
        cmocka_unit_test(test_node_lost_unsure_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
