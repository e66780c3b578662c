/* SPDX-License-Identifier: Apache-2.0
 *
 * test_worker_logs.c: LOGS_GET is answered with what the shell has kept, in messages of
 * bounded size, all or nothing. */
#include "tests/unit/worker_script.h"

enum { LINES = 600 };

/* A worker with a link, and LINES lines of pool 1 behind one of its own. */
static struct logs *start(struct fake *f)
{
    struct logs *logs = logs_create(LOGS_OWN_BYTES, LOGS_PRINTED_BYTES);
    fake_create(f, 1);
    f->config.logs = logs;
    fake_join(f);
    fake_forget(f);
    struct logs_line line = {.text = "own", .size = 3};
    logs_add(logs, &line);
    line = (struct logs_line){.fd = 1, .pool = fake_id(1), .text = "printed", .size = 7};
    for (int i = 0; i < LINES; i++)
        logs_add(logs, &line);
    return logs;
}

static struct message *logs_get(uint8_t pool, uint32_t lines)
{
    struct message *message = message_create(MSG_LOGS_GET);
    message->logs_get.request = 77;
    message->logs_get.lines = lines;
    if (pool > 0) {
        message->logs_get.pools = mem_alloc(sizeof *message->logs_get.pools);
        message->logs_get.pools_count = 1;
        message->logs_get.pools[0].pool = fake_id(pool);
    }
    return message;
}

static uint64_t count_lines(const struct fake *f)
{
    uint64_t lines = 0;
    for (size_t i = 0; i < f->sent_count; i++) {
        assert_int_equal(f->sent[i]->kind, MSG_LOGS);
        assert_int_equal(f->sent[i]->logs.request, 77);
        assert_int_equal(f->sent[i]->logs.more, i + 1 < f->sent_count);
        assert_int_equal(f->sent[i]->logs.last, LINES + 1);
        lines += f->sent[i]->logs.lines_count;
    }
    return lines;
}

static void in_pieces_with_an_end(void **state)
{
    struct fake *f = *state;
    struct logs *logs = start(f);
    fake_message(f, logs_get(0, LOG_LINES_MAX));
    assert_int_equal(count_lines(f), LINES + 1);
    assert_int_equal(f->sent_count, 3);
    assert_string_equal(f->sent[0]->logs.lines[0].text, "own");
    fake_forget(f);
    fake_message(f, logs_get(1, 7));
    assert_int_equal(count_lines(f), 7);
    fake_forget(f);
    fake_message(f, logs_get(2, 7));
    assert_int_equal(count_lines(f), 0);
    assert_int_equal(f->sent_count, 1);
    fake_destroy(f);
    logs_destroy(logs);
}

static void of_nothing_nothing(void **state)
{
    struct fake *f = *state;
    fake_create(f, 1);
    fake_join(f);
    fake_forget(f);
    fake_message(f, logs_get(0, 10));
    assert_int_equal(fake_sent(f, MSG_LOGS), 1);
    assert_int_equal(f->sent[0]->logs.lines_count, 0);
    assert_false(f->sent[0]->logs.more);
    fake_destroy(f);
}

static void without_memory_it_is_tried_again(void **state)
{
    struct fake *f = *state;
    for (size_t i = 1; i < 20; i++) {
        struct logs *logs = start(f);
        f->fail_at = i;
        fake_message(f, logs_get(0, 10));
        f->fail_at = 0;
        assert_int_equal(count_lines(f), 10);
        fake_destroy(f);
        logs_destroy(logs);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FAKE_TEST(in_pieces_with_an_end),
        FAKE_TEST(of_nothing_nothing),
        FAKE_TEST(without_memory_it_is_tried_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
