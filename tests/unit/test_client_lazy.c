/* SPDX-License-Identifier: Apache-2.0
 *
 * test_client_lazy.c: how much a lazy job pulls: slow start, bounds in tasks and bytes,
 * and constant memory with endless input and a slow reader. */
#include "tests/unit/client_script.h"

struct wanted {
    uint64_t count, bytes;
};

/* Takes an INPUT_WANTED if there is one. */
static struct wanted wanted(struct script *script)
{
    script_flush(script);
    struct client_effect *effect = script_peek(script);
    while (effect && effect->kind != CLIENT_INPUT_WANTED) {
        script->taken++;
        effect = script_peek(script);
    }
    if (!effect)
        return (struct wanted){0, 0};
    script->taken++;
    return (struct wanted){effect->count, effect->bytes};
}

static uint64_t lazy_job(struct script *script, uint64_t tasks, uint64_t bytes)
{
    script->options.lazy = true;
    script->options.tasks_under_way = tasks;
    script->options.bytes_under_way = bytes;
    return script_job(script);
}

static void consume(struct script *script, uint64_t job, uint64_t count, uint64_t bytes)
{
    script_event(script, (struct client_event){.kind = CLIENT_JOB_CONSUMED,
                                               .job = job,
                                               .count = count,
                                               .bytes = bytes});
}

/* Input that is under way at once. */
static void pull(struct script *script, uint64_t job, uint64_t first, uint64_t count,
                 uint32_t size)
{
    script_input(script, job, first, (uint32_t)count, size);
    script_flush(script);
}

static void set_slots(struct script *script, uint32_t slots)
{
    struct message *pool = script_make(MSG_POOL_STATE);
    pool->pool_state.pool = SCRIPT_POOL;
    pool->pool_state.slots = slots;
    script_message(script, pool);
}

static void test_slow_start_doubles(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    const uint64_t job = lazy_job(&script, 0, 0);
    uint64_t next = 0, expected = 4;
    for (int round = 0; round < 8; round++, expected *= 2) {
        const struct wanted more = wanted(&script);
        assert_int_equal(more.count, expected);
        pull(&script, job, next, more.count, 4);
        assert_int_equal(wanted(&script).count, 0); /* nothing came back */
        script_result(&script, job, next, (uint32_t)more.count, 1);
        consume(&script, job, more.count, 4 * more.count);
        next += more.count;
    }
    script_input_end(&script, job);
    assert_int_equal(wanted(&script).count, 0);
    script_fini(&script);
}

static void test_two_a_slot_at_first(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    set_slots(&script, 16);
    lazy_job(&script, 0, 0);
    assert_int_equal(wanted(&script).count, 32);
    script_fini(&script);
}

/* Tasks of a second each: two a slot, and a second's work for each slot. */
static void test_long_tasks_are_not_hoarded(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    set_slots(&script, 4);
    const uint64_t job = lazy_job(&script, 0, 0);
    uint64_t next = 0, consumed = 0, most = 0;
    for (int round = 0; round < 50; round++) {
        const struct wanted more = wanted(&script);
        if (more.count)
            pull(&script, job, next, more.count, 4);
        next += more.count;
        if (next - consumed > most)
            most = next - consumed;
        struct message *done = script_make_done(&script, job, consumed, 1, 1, 4);
        done->done.results[0].elapsed_ns = 1000000000;
        script_message(&script, done);
        consume(&script, job, 1, 4);
        consumed++;
    }
    assert_int_equal(most, 12);
    script_fini(&script);
}

static void test_answered_in_pieces(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    const uint64_t job = lazy_job(&script, 0, 1000);
    struct wanted more = wanted(&script);
    assert_int_equal(more.count, 4);
    assert_int_equal(more.bytes, 1000);
    for (uint64_t i = 0; i < 3; i++) {
        pull(&script, job, i, 1, 4);
        script_result(&script, job, i, 1, 1);
        consume(&script, job, 1, 4);
        assert_int_equal(wanted(&script).count, 0); /* one is still to come */
    }
    script_input(&script, job, 3, 1, 4);
    assert_int_equal(wanted(&script).count, 6); /* four, and one more a result */
    /* Fewer, for their size. */
    pull(&script, job, 4, 1, 5000);
    script_result(&script, job, 3, 2, 1);
    script_forget(&script);
    consume(&script, job, 2, 8);
    assert_true(wanted(&script).count >= 1);
    script_input_end(&script, job);
    assert_int_equal(wanted(&script).count, 0);
    script_fini(&script);
}

static void test_tasks_under_way_is_kept(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    const uint64_t job = lazy_job(&script, 10, 0);
    uint64_t next = 0, done = 0, consumed = 0;
    for (int round = 0; round < 200; round++) {
        const struct wanted more = wanted(&script);
        if (more.count)
            pull(&script, job, next, more.count, 4);
        next += more.count;
        assert_true(next - consumed <= 10);
        if (done < next) {
            script_result(&script, job, done, (uint32_t)(next - done), 1);
            done = next;
        }
        if (round % 3 == 0 && consumed < done) {
            consume(&script, job, 1, 4);
            consumed++;
        }
    }
    assert_true(consumed > 50 && next - consumed >= 8);
    script_fini(&script);
}

/* One at a time works too. */
static void test_one_under_way(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    const uint64_t job = lazy_job(&script, 1, 0);
    for (uint64_t i = 0; i < 5; i++) {
        assert_int_equal(wanted(&script).count, 1);
        pull(&script, job, i, 1, 4);
        assert_int_equal(wanted(&script).count, 0);
        script_result(&script, job, i, 1, 1);
        assert_int_equal(wanted(&script).count, 0);
        consume(&script, job, 1, 4);
    }
    script_fini(&script);
}

/* Endless input, outputs a hundred times as large, a reader that takes one at a time:
 * what memory holds stays about bytes_under_way. */
static void test_endless_input_is_bounded(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    const uint64_t job = lazy_job(&script, 0, 100000);
    uint64_t next = 0, done = 0, consumed = 0, most = 0;
    for (int round = 0; round < 3000; round++) {
        const struct wanted more = wanted(&script);
        uint64_t pulled = 0, bytes = 0;
        for (; pulled < more.count && bytes < more.bytes; pulled++, bytes += 10)
            script_input(&script, job, next + pulled, 1, 10);
        next += pulled;
        script_flush(&script);
        if (done < next) {
            const uint64_t count = next - done < 5 ? next - done : 5;
            script_message(
                &script, script_make_done(&script, job, done, (uint32_t)count, 1, 1000));
            done += count;
        }
        script_forget(&script);
        const uint64_t held = (next - done) * 10 + (done - consumed) * 1000;
        most = held > most ? held : most;
        if (consumed < done) {
            consume(&script, job, 1, 1000);
            consumed++;
        }
    }
    assert_true(consumed > 2900);
    assert_true(most <= 110000);
    assert_true(most >= 50000); /* nor is it timid */
    script_fini(&script);
}

/* Large outputs that nobody reads leave less room for all that follows. */
static void test_unread_outputs_count(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    const uint64_t job = lazy_job(&script, 0, 100000);
    uint64_t next = 0;
    while (next < 5000) {
        const struct wanted more = wanted(&script);
        assert_true(more.count);
        pull(&script, job, next, more.count, 10);
        const uint64_t large = next < 30 ? 30 - next : 0;
        const uint64_t count = more.count < large || !large ? more.count : large;
        script_message(&script, script_make_done(&script, job, next, (uint32_t)count, 1,
                                                 large ? 2000 : 100));
        if (!large)
            consume(&script, job, count, 100 * count);
        if (count < more.count) {
            script_message(&script,
                           script_make_done(&script, job, next + count,
                                            (uint32_t)(more.count - count), 1, 100));
            consume(&script, job, more.count - count, 100 * (more.count - count));
        }
        next += more.count;
    }
    uint64_t pulled = 0;
    for (struct wanted more; (more = wanted(&script)).count; pulled += more.count)
        pull(&script, job, next + pulled, more.count, 10);
    assert_in_range(pulled, 250, 400); /* 40,000 bytes for 110 each */
    script_fini(&script);
}

/* Input is asked for by the eighth, not for each task that was read. */
static void test_asks_by_the_eighth(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    const uint64_t job = lazy_job(&script, 80, 0);
    uint64_t next = 0;
    while (next < 500) {
        const struct wanted more = wanted(&script);
        pull(&script, job, next, more.count, 4);
        script_result(&script, job, next, (uint32_t)more.count, 1);
        consume(&script, job, more.count, 4 * more.count);
        next += more.count;
    }
    const struct wanted all = wanted(&script);
    assert_int_equal(all.count, 80);
    pull(&script, job, next, 80, 4);
    script_result(&script, job, next, 80, 1);
    consume(&script, job, 9, 36);
    assert_int_equal(wanted(&script).count, 0);
    consume(&script, job, 1, 4);
    assert_int_equal(wanted(&script).count, 10);
    script_fini(&script);
}

/* One input larger than all that is allowed passes when nothing else is under way. */
static void test_oversize_input(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    const uint64_t job = lazy_job(&script, 0, 100);
    for (uint64_t i = 0; i < 4; i++) {
        const struct wanted more = wanted(&script);
        assert_true(more.count >= 1 && more.bytes >= 1);
        pull(&script, job, i, 1, 5000);
        assert_int_equal(wanted(&script).count, 0);
        script_result(&script, job, i, 1, 1);
        consume(&script, job, 1, 4);
    }
    script_fini(&script);
}

/* Failed and cancelled tasks are consumed like others. */
static void test_failures_are_consumed(void **state)
{
    (void)state;
    struct script script;
    script_open(&script);
    const uint64_t job = lazy_job(&script, 4, 0);
    assert_int_equal(wanted(&script).count, 4);
    pull(&script, job, 0, 4, 4);
    assert_int_equal(wanted(&script).count, 0);
    script_failure(&script, job, 0, 1, FARPOOL_EFUNCTION);
    script_event(&script,
                 (struct client_event){
                     .kind = CLIENT_JOB_CANCEL, .job = job, .first = 1, .count = 3});
    assert_int_equal(wanted(&script).count, 0);
    consume(&script, job, 4, 0);
    assert_int_equal(wanted(&script).count, 4);
    script_fini(&script);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slow_start_doubles),
        cmocka_unit_test(test_two_a_slot_at_first),
        cmocka_unit_test(test_long_tasks_are_not_hoarded),
        cmocka_unit_test(test_answered_in_pieces),
        cmocka_unit_test(test_tasks_under_way_is_kept),
        cmocka_unit_test(test_one_under_way),
        cmocka_unit_test(test_endless_input_is_bounded),
        cmocka_unit_test(test_unread_outputs_count),
        cmocka_unit_test(test_asks_by_the_eighth),
        cmocka_unit_test(test_oversize_input),
        cmocka_unit_test(test_failures_are_consumed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
