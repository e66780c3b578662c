/* SPDX-License-Identifier: Apache-2.0
 *
 * test_worker_messages.c: what a coordinator must not send ends the link with a reason,
 * and nothing else; what it forwards for a client concerns that pool alone; and each
 * kind of message, with any content, at any time, breaks no invariant. */
#include "tests/unit/worker_script.h"

static void expect_relink(struct fake *f, const char *text)
{
    assert_int_equal(fake_logged(f, WORKER_RELINK), 1);
    assert_non_null(strstr(fake_effect(f, WORKER_RELINK, 0)->text, text));
    fake_forget(f);
    /* Back at another coordinator, which is told all that was here. */
    fake_welcome(f, 2, 0);
    fake_settle(f);
    assert_int_equal(fake_logged(f, WORKER_RELINK), 0);
    fake_destroy(f);
}

/* A worker that has nothing to do as yet. */
static struct fake *fresh(void **state)
{
    fake_start(*state, 2);
    return *state;
}

static void before_welcome(void **state)
{
    struct fake *f = *state;
    fake_create(f, 1);
    fake_run(f);
    fake_event(f, WORKER_LINK_UP);
    fake_message(f, fake_pool_open(1, 0));
    expect_relink(f, "POOL_OPEN came before WELCOME");
}

static void another_protocol(void **state)
{
    struct fake *f = *state;
    fake_create(f, 1);
    fake_run(f);
    fake_event(f, WORKER_LINK_UP);
    struct message *message = message_create(MSG_WELCOME);
    message->welcome.protocol = 99;
    fake_message(f, message);
    expect_relink(f, "protocol 99");
}

static void kinds_it_never_should(void **state)
{
    static const enum message_kind kinds[] = {
        MSG_HELLO_CLIENT, MSG_HELLO_WORKER, MSG_WELCOME,    MSG_BYE,
        MSG_DONE,         MSG_FAILED,       MSG_RETURNED,   MSG_HELD,
        MSG_LOAD,         MSG_ANSWER,       MSG_PULLED,     MSG_POOL_CLOSED,
        MSG_STATUS,       MSG_LOST,         MSG_JOB_STATE,  MSG_POOL_FAILED,
        MSG_POOL_STATE,   MSG_STATUS_GET,   MSG_CANCEL_JOB, MSG_DRAIN_NODE,
        MSG_LOGS};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        struct fake *f = fresh(state);
        fake_message(f, message_create(kinds[i]));
        expect_relink(f, message_name(kinds[i]));
    }
}

static void things_before_what_they_belong_to(void **state)
{
    struct fake *f = fresh(state);
    fake_message(f, fake_job_open(9, 1));
    expect_relink(f, "JOB_OPEN came before its POOL_OPEN");
    f = fresh(state);
    fake_tasks(f, 9, 1, 0, 1);
    expect_relink(f, "POOL_OPEN");
    f = fresh(state);
    fake_tasks(f, 1, 9, 0, 1);
    expect_relink(f, "JOB_OPEN");
    f = fresh(state);
    fake_message(f, message_create(MSG_POOL_OPEN));
    expect_relink(f, "without an id");
}

static void bad_spans(void **state)
{
    struct fake *f = fresh(state);
    fake_message(f, fake_tasks_message(1, 1, 0, 4, 0));
    expect_relink(f, "bad span");
    f = fresh(state);
    struct message *message = fake_tasks_message(1, 1, 0, 4, 1);
    message->tasks.spans[0].count = 0;
    fake_message(f, message);
    expect_relink(f, "bad span");
    f = fresh(state);
    message = fake_tasks_message(1, 1, 0, 4, 1);
    message->tasks.spans[0].count = 3; /* 16 bytes do not divide */
    fake_message(f, message);
    expect_relink(f, "bad span");
    f = fresh(state);
    fake_message(f, fake_tasks_message(1, 1, UINT64_MAX, 1, 1));
    expect_relink(f, "bad span");
    f = fresh(state);
    message = fake_tasks_message(1, 1, 0, 4, 1);
    message->tasks.spans[0].sizes = payload_create(12);
    memset(payload_bytes(message->tasks.spans[0].sizes), 0, 12);
    fake_message(f, message);
    expect_relink(f, "bad span");
}

/* A TASKS with three spans of four tasks each. */
static struct message *three_spans(const uint64_t firsts[3])
{
    struct message *message = fake_tasks_message(1, 1, 0, 4, 1);
    struct msg_span *spans = mem_alloc(3 * sizeof *spans);
    for (int i = 0; i < 3; i++) {
        spans[i] = message->tasks.spans[0];
        spans[i].first = firsts[i];
        spans[i].data = payload_ref(message->tasks.spans[0].data);
    }
    payload_unref(&message->tasks.spans[0].data);
    mem_free(message->tasks.spans);
    message->tasks.spans = spans;
    message->tasks.spans_count = 3;
    return message;
}

static void spans_that_overlap(void **state)
{
    static const uint64_t firsts[][3] = {
        {0, 3, 100}, {100, 0, 3}, {10, 0, 12}, {5, 5, 50}};
    for (size_t i = 0; i < 4; i++) {
        struct fake *f = fresh(state);
        fake_message(f, three_spans(firsts[i]));
        expect_relink(f, "overlap");
    }
}

static void spans_in_any_order_are_taken(void **state)
{
    static const uint64_t firsts[] = {30, 0, 10};
    struct fake *f = fresh(state);
    fake_message(f, three_spans(firsts));
    assert_int_equal(fake_logged(f, WORKER_RELINK), 0);
    assert_int_equal(fake_counts(f).held, 12);
}

static void join_with_job(struct fake *f)
{
    fake_join(f);
    fake_message(f, fake_pool_open(1, 0));
    fake_message(f, fake_job_open(1, 1));
}

static void more_than_the_window(void **state)
{
    struct fake *f = *state;
    fake_create(f, 1);
    f->config.tasks_max = 100;
    join_with_job(f);
    fake_tasks(f, 1, 1, 0, 200); /* what two coordinators may add up to */
    assert_int_equal(fake_logged(f, WORKER_RELINK), 0);
    fake_tasks(f, 1, 1, 1000, 1); /* of a nested client, for all that is known here */
    assert_int_equal(fake_logged(f, WORKER_RELINK), 0);
    fake_tasks(f, 1, 1, 2000, 1);
    expect_relink(f, "window");
}

/* One after the other, each gives what it may before it hears of all that is here. */
static void windows_of_three_coordinators(void **state)
{
    struct fake *f = *state;
    fake_create(f, 1);
    f->config.tasks_max = 100;
    join_with_job(f);
    for (uint8_t coordinator = 2; coordinator <= 4; coordinator++) {
        fake_tasks(f, 1, 1, 1000u * coordinator, 100);
        assert_int_equal(fake_logged(f, WORKER_RELINK), 0);
        fake_event(f, WORKER_LINK_DOWN);
        fake_welcome(f, coordinator, 0);
        fake_settle(f);
    }
    assert_int_equal(fake_counts(f).held, 300);
    fake_tasks(f, 1, 1, 0, 100);
    assert_int_equal(fake_logged(f, WORKER_RELINK), 0);
    fake_tasks(f, 1, 1, 9000, 2);
    expect_relink(f, "window");
}

static void more_bytes_than_the_window(void **state)
{
    struct fake *f = *state;
    fake_create(f, 1);
    f->config.bytes_max = 1000;
    join_with_job(f);
    /* One input of the largest size passes alone, and so does what another coordinator
     * sends before it knows of it. The bytes are never looked at. */
    static const uint8_t byte;
    for (uint64_t i = 0; i < 2; i++) {
        fake_tasks_with(f, i, 1, NULL, payload_wrap(&byte, BODY_BYTES_MAX, NULL, NULL));
        assert_int_equal(fake_logged(f, WORKER_RELINK), 0);
    }
    fake_tasks(f, 1, 1, 1000, 1);
    expect_relink(f, "window of bytes");
}

static void a_late_answer_for_other_files_is_ignored(void **state)
{
    struct fake *f = *state;
    fake_create(f, 1);
    fake_join(f);
    fake_message(f, fake_pool_open(1, 0));
    struct worker_event needs = {.kind = WORKER_PROGRAM_NEEDS, .file = 1};
    memset(needs.program.bytes, 0xaa, 32);
    fake_step(f, &needs);
    fake_settle(f);
    assert_int_equal(fake_sent(f, MSG_FETCH), 0);
    memset(needs.program.bytes, 0xcc, 32); /* nor of a program that is not open */
    fake_step(f, &needs);
}

static void a_clients_nonsense_concerns_its_pool_alone(void **state)
{
    static const char *const names[] = {"../x", "", ".", ".hidden", "a/b"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct fake *f = fresh(state);
        struct message *open = fake_pool_open(2, 0);
        memset(open->pool_open.program.bytes, 3, 32);
        snprintf(open->pool_open.files[0].name, sizeof open->pool_open.files[0].name,
                 "%s", names[i]);
        fake_message(f, open);
        fake_settle(f);
        assert_int_equal(fake_logged(f, WORKER_RELINK), 0);
        assert_int_equal(fake_logged(f, WORKER_PROGRAM_OPEN), 0);
        assert_int_equal(fake_nth(f, MSG_POOL_FAILED, 0)->pool_failed.code,
                         FARPOOL_EPROGRAM);
        fake_destroy(f);
    }
}

static void strangers_are_answered_or_ignored(void **state)
{
    struct fake *f = fresh(state);
    fake_cancel(f, 9, 1, 0, 10, true);
    fake_cancel(f, 1, 9, 0, 10, true);
    fake_cancel(f, 1, 1, 5, UINT64_MAX, true);
    fake_cancel(f, 1, 1, UINT64_MAX, 1, true);
    fake_ack(f, 9, 0, 1);
    fake_message(f, message_create(MSG_JOB_CLOSE));
    fake_message(f, message_create(MSG_BLOB));
    fake_message(f, message_create(MSG_RELAY));
    fake_message(f, message_create(MSG_RECALL));
    fake_message(f, message_create(MSG_POOL_CLOSE));
    fake_settle(f);
    assert_int_equal(fake_logged(f, WORKER_RELINK), 0);
    assert_int_equal(fake_sent(f, MSG_RETURNED), 1);
    assert_int_equal(fake_sent(f, MSG_POOL_CLOSED), 1);
}

static void late_messages_of_a_dropped_link_are_ignored(void **state)
{
    struct fake *f = fresh(state);
    fake_event(f, WORKER_LINK_DOWN);
    fake_tasks(f, 9, 9, 0, 1);
    fake_message(f, message_create(MSG_DONE));
    assert_int_equal(fake_logged(f, WORKER_RELINK), 0);
}

/* Any kind, with small random ids and numbers, so that many hit something. */
static struct message *nonsense(uint64_t *seed)
{
    const enum message_kind kind =
        1 + (enum message_kind)rng_below(seed, MESSAGE_KINDS - 1);
    const uint8_t pool = (uint8_t)rng_below(seed, 3);
    const uint64_t job = rng_below(seed, 3), n = rng_below(seed, 40);
    struct message *message = NULL;
    switch (kind) {
    case MSG_POOL_OPEN:
        return fake_pool_open(pool, (uint32_t)rng_below(seed, 3));
    case MSG_JOB_OPEN:
        message = fake_job_open(pool, job);
        message->job_open.chunk = (uint32_t)rng_below(seed, 4);
        return message;
    case MSG_TASKS:
        return fake_tasks_message(pool, job, n, 1 + (uint32_t)rng_below(seed, 9),
                                  (uint32_t)rng_below(seed, 3));
    case MSG_CANCEL:
        message = message_create(kind);
        message->cancel.pool = fake_id(pool);
        message->cancel.job = job;
        message->cancel.kill = n % 2;
        message->cancel.ranges = mem_alloc(sizeof *message->cancel.ranges);
        message->cancel.ranges_count = 1;
        message->cancel.ranges[0] =
            (struct msg_range){n, rng_below(seed, 2) ? UINT64_MAX : 3, 0};
        return message;
    case MSG_RECALL:
        message = message_create(kind);
        message->recall.pool = fake_id(pool);
        message->recall.job = job;
        message->recall.tasks = n;
        return message;
    case MSG_POOL_CLOSE:
        message = message_create(kind);
        message->pool_close.pool = fake_id(pool);
        message->pool_close.kill = n % 2;
        return message;
    case MSG_JOB_CLOSE:
        message = message_create(kind);
        message->job_close.pool = fake_id(pool);
        message->job_close.job = job;
        return message;
    case MSG_WELCOME:
        message = message_create(kind);
        message->welcome.protocol = PROTOCOL_VERSION;
        message->welcome.coordinator = fake_id(pool);
        return message;
    default:
        return message_create(kind);
    }
}

static void no_sequence_of_messages_breaks_an_invariant(void **state)
{
    for (uint64_t run = 0; run < 300; run++) {
        struct fake *f = fresh(state);
        uint64_t seed = run;
        for (int i = 0; i < 120 && f->processes_max < FAKE_PROCESSES - 20; i++) {
            fake_message(f, nonsense(&seed));
            if (fake_logged(f, WORKER_RELINK) > 0)
                fake_welcome(f, (uint8_t)(1 + rng_below(&seed, 3)), 0);
            if (rng_below(&seed, 3) == 0) {
                fake_program(f, WORKER_PROGRAM_READY);
                fake_ready_all(f);
                fake_reap(f);
            }
            f->now += rng_below(&seed, 20);
            fake_forget(f);
        }
        fake_destroy(f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FAKE_TEST(before_welcome),
        FAKE_TEST(another_protocol),
        FAKE_TEST(kinds_it_never_should),
        FAKE_TEST(things_before_what_they_belong_to),
        FAKE_TEST(bad_spans),
        FAKE_TEST(spans_that_overlap),
        FAKE_TEST(spans_in_any_order_are_taken),
        FAKE_TEST(more_than_the_window),
        FAKE_TEST(windows_of_three_coordinators),
        FAKE_TEST(more_bytes_than_the_window),
        FAKE_TEST(a_late_answer_for_other_files_is_ignored),
        FAKE_TEST(a_clients_nonsense_concerns_its_pool_alone),
        FAKE_TEST(strangers_are_answered_or_ignored),
        FAKE_TEST(late_messages_of_a_dropped_link_are_ignored),
        FAKE_TEST(no_sequence_of_messages_breaks_an_invariant),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
