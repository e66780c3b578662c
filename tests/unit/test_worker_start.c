/* SPDX-License-Identifier: Apache-2.0
 *
 * test_worker_start.c: programs that are fetched or cannot be had, and processes that
 * cannot start: bounded, and told with the reason (docs/failure.md). */
#include "tests/unit/worker_script.h"

/* -------------------------------------------------------------------------- starting */

static void begin_pool(struct fake *f, uint32_t slots)
{
    fake_create(f, slots);
    fake_join(f);
    fake_message(f, fake_pool_open(1, 0));
    fake_message(f, fake_job_open(1, 1));
    fake_tasks(f, 1, 1, 0, 10);
    fake_program(f, WORKER_PROGRAM_READY);
    fake_settle(f);
}

static void expect_pool_failed(struct fake *f, int code, bool fatal, const char *text)
{
    assert_int_equal(fake_sent(f, MSG_POOL_FAILED), 1);
    const struct message *failed = fake_nth(f, MSG_POOL_FAILED, 0);
    assert_int_equal(failed->pool_failed.code, code);
    assert_int_equal(failed->pool_failed.fatal, fatal);
    assert_string_equal(failed->pool_failed.node, "n1");
    assert_non_null(strstr(failed->pool_failed.text, text));
}

static void failing_starts_are_bounded(void **state)
{
    static const struct {
        int code;
        bool fatal;
    } rows[] = {{FARPOOL_EINITIALIZER, true}, {FARPOOL_ENOFUNCTION, true},
                {FARPOOL_ENOTFARPOOL, false}, {FARPOOL_ELIBRARY, false},
                {FARPOOL_EPROGRAM, false},    {FARPOOL_EMACHINE, false},
                {FARPOOL_ENOFILES, false}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct fake *f = *state;
        begin_pool(f, 1);
        for (uint64_t n = 1; n <= 3; n++) {
            assert_int_equal(fake_sent(f, MSG_POOL_FAILED), 0);
            assert_int_equal(fake_alive(f), 1);
            fake_gone(f, n, false, 0, rows[i].code, "because");
            fake_settle(f);
        }
        expect_pool_failed(f, rows[i].code, rows[i].fatal, "because");
        assert_int_equal(fake_ranges(f, MSG_RETURNED), 10);
        assert_int_equal(fake_counts(f).held, 0);
        assert_int_equal(fake_alive(f), 0);
        /* Tasks that are under way to it come back; the reason is told again. */
        fake_forget(f);
        fake_message(f, fake_pool_open(1, 0));
        fake_tasks(f, 1, 1, 20, 5);
        fake_settle(f);
        assert_int_equal(fake_ranges(f, MSG_RETURNED), 5);
        expect_pool_failed(f, rows[i].code, rows[i].fatal, "because");
        fake_close_pool(f, 1, true);
        fake_settle(f);
        assert_int_equal(fake_sent(f, MSG_POOL_CLOSED), 1);
        assert_int_equal(fake_counts(f).pools, 0);
        fake_destroy(f);
    }
}

static void a_ready_process_forgives_earlier_failures(void **state)
{
    struct fake *f = *state;
    begin_pool(f, 1);
    uint64_t n = 1;
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 2; i++) {
            fake_gone(f, n++, false, 0, FARPOOL_EPROGRAM, "no");
            fake_settle(f);
        }
        fake_ready(f, n);
        fake_settle(f);
        fake_gone(f, n++, true, 9, 0, NULL);
        fake_settle(f);
    }
    assert_int_equal(fake_sent(f, MSG_POOL_FAILED), 0);
}

/* Until the process that starts is killed for it. Nothing is heard of the link meanwhile,
 * which is another matter. */
static void wait_for_start(struct fake *f)
{
    for (int k = 0; k < 15; k++) {
        f->now += 2000;
        fake_message(f, message_create(MSG_HEARTBEAT));
        fake_settle(f);
    }
}

static void a_process_that_is_never_ready_is_killed(void **state)
{
    struct fake *f = *state;
    begin_pool(f, 1);
    for (int i = 0; i < 3; i++) {
        wait_for_start(f);
        assert_int_equal(fake_logged(f, WORKER_PROCESS_KILL), i + 1);
        fake_reap(f);
    }
    expect_pool_failed(f, FARPOOL_EPROGRAM, false, "30000 ms");
}

/* The coordinator waits for its end: as a failed one it would stay for ever. */
static void a_pool_that_closes_does_not_fail_any_more(void **state)
{
    struct fake *f = *state;
    begin_pool(f, 1);
    for (int i = 0; i < 3; i++) {
        wait_for_start(f);
        assert_int_equal(fake_logged(f, WORKER_PROCESS_KILL), i + 1);
        if (i == 2) {
            fake_close_pool(f, 1, false);
            fake_settle(f);
        }
        fake_reap(f);
    }
    fake_settle(f);
    assert_int_equal(fake_sent(f, MSG_POOL_FAILED), 0);
    assert_int_equal(fake_sent(f, MSG_POOL_CLOSED), 1);
    assert_int_equal(fake_counts(f).pools, 0);
}

static void a_shortage_only_puts_off_while_others_run(void **state)
{
    struct fake *f = *state;
    begin_pool(f, 2);
    fake_ready(f, 1);
    uint64_t n = 2;
    for (int i = 0; i < 6; i++) {
        for (int k = 0; k < 3 && n <= f->processes_max; k++) {
            if (!f->processes[n].gone)
                fake_gone(f, n, false, 0, FARPOOL_ENOFILES, "too few files");
            n++;
            fake_settle(f);
        }
        fake_pass(f, 1000);
    }
    assert_int_equal(fake_sent(f, MSG_POOL_FAILED), 0);
    assert_true(fake_logged(f, WORKER_PROCESS_START) <= 10);
    assert_int_equal(fake_running(f), 1);
}

static void another_machine_type_is_refused_by_name(void **state)
{
    struct fake *f = *state;
    fake_create(f, 1);
    fake_join(f);
    struct message *open = fake_pool_open(1, 0);
    snprintf(open->pool_open.machine, sizeof open->pool_open.machine, "aarch64");
    fake_message(f, open);
    fake_settle(f);
    expect_pool_failed(f, FARPOOL_EMACHINE, false, "aarch64");
    expect_pool_failed(f, FARPOOL_EMACHINE, false, "x86_64");
    assert_int_equal(fake_logged(f, WORKER_PROGRAM_OPEN), 0);
}

/* -------------------------------------------------------------------------- programs */

static void blob(struct fake *f, uint64_t offset, size_t size)
{
    struct message *message = message_create(MSG_BLOB);
    message->blob.pool = fake_id(1);
    message->blob.worker = f->config.worker;
    memset(message->blob.content.bytes, 0xbb, 32);
    message->blob.offset = offset;
    message->blob.data = payload_create(size);
    fake_message(f, message);
}

static void a_program_is_fetched_piece_by_piece(void **state)
{
    struct fake *f = *state;
    fake_create(f, 1);
    fake_join(f);
    fake_message(f, fake_pool_open(1, 0));
    fake_settle(f);
    fake_program_needs(f, 0);
    assert_int_equal(fake_nth(f, MSG_FETCH, 0)->fetch.bytes, 1048576);
    blob(f, 0, 1048576);
    assert_int_equal(fake_logged(f, WORKER_PROGRAM_WRITE), 1);
    blob(f, 0, 1048576); /* twice: dropped */
    assert_int_equal(fake_logged(f, WORKER_PROGRAM_WRITE), 1);
    fake_program_needs(f, 1048576);
    assert_int_equal(fake_nth(f, MSG_FETCH, 1)->fetch.bytes, 1500000 - 1048576);
    assert_int_equal(fake_nth(f, MSG_FETCH, 1)->fetch.offset, 1048576);
    /* No answer: asked again after a while, and on another link. */
    f->now += 4900;
    fake_message(f, message_create(MSG_HEARTBEAT));
    fake_pass(f, 100);
    assert_int_equal(fake_sent(f, MSG_FETCH), 3);
    fake_event(f, WORKER_LINK_DOWN);
    fake_settle(f);
    fake_welcome(f, 2, 0);
    fake_settle(f);
    assert_int_equal(fake_sent(f, MSG_FETCH), 4);
    blob(f, 1048576, 451424);
    assert_int_equal(fake_effect(f, WORKER_PROGRAM_WRITE, 1)->offset, 1048576);
    fake_program(f, WORKER_PROGRAM_READY);
    fake_settle(f);
    assert_int_equal(fake_logged(f, WORKER_PROCESS_START), 1);
}

static void a_program_that_cannot_be_had_fails_its_pools(void **state)
{
    struct fake *f = *state;
    fake_create(f, 1);
    fake_join(f);
    fake_message(f, fake_pool_open(1, 0));
    fake_message(f, fake_pool_open(2, 0));
    fake_settle(f);
    assert_int_equal(fake_logged(f, WORKER_PROGRAM_OPEN), 1);
    struct worker_event event = {
        .kind = WORKER_PROGRAM_FAILED, .code = FARPOOL_ENOSPACE, .text = "disk full"};
    memset(event.program.bytes, 0xaa, 32);
    fake_step(f, &event);
    fake_settle(f);
    assert_int_equal(fake_sent(f, MSG_POOL_FAILED), 2);
    assert_int_equal(fake_logged(f, WORKER_PROGRAM_CLOSE), 1);
    fake_message(f, fake_pool_open(3, 0)); /* tried again */
    assert_int_equal(fake_logged(f, WORKER_PROGRAM_OPEN), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FAKE_TEST(failing_starts_are_bounded),
        FAKE_TEST(a_ready_process_forgives_earlier_failures),
        FAKE_TEST(a_process_that_is_never_ready_is_killed),
        FAKE_TEST(a_pool_that_closes_does_not_fail_any_more),
        FAKE_TEST(a_shortage_only_puts_off_while_others_run),
        FAKE_TEST(another_machine_type_is_refused_by_name),
        FAKE_TEST(a_program_is_fetched_piece_by_piece),
        FAKE_TEST(a_program_that_cannot_be_had_fails_its_pools),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
