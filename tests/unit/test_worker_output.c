/* SPDX-License-Identifier: Apache-2.0
 *
 * test_worker_output.c: what processes print goes out in front of results, whole, once,
 * and within its bounds; what is more is counted. */
#include "tests/unit/worker_script.h"

#define WAIT_MS 20

/* A worker with a pool that wants what is printed, if `wanted`. */
static void start(struct fake *f, bool wanted)
{
    struct message *open = fake_pool_open(1, 0);
    open->pool_open.output = wanted;
    fake_create(f, 1);
    fake_join(f);
    fake_message(f, open);
    fake_program(f, WORKER_PROGRAM_READY);
    fake_ready_all(f);
    fake_message(f, fake_job_open(1, 1));
    fake_tasks(f, 1, 1, 0, 10);
    fake_settle(f);
    fake_forget(f);
}

/* The task `index` prints (10: none does). */
static void print(struct fake *f, uint64_t index, int fd, const char *text)
{
    struct worker_event event = {.kind = WORKER_PROCESS_OUTPUT,
                                 .process = 1,
                                 .pid = 1001,
                                 .fd = fd,
                                 .output = text,
                                 .output_bytes = strlen(text)};
    if (index < 10) {
        event.give = f->processes[1].ranges[0].give;
        event.first = index;
        event.count = 1;
    }
    fake_step(f, &event);
}

static void assert_piece(const struct message *message, uint32_t place, uint64_t index,
                         uint32_t fd, const char *text)
{
    assert_true(place < message->output.pieces_count);
    const struct msg_printed *piece = &message->output.pieces[place];
    assert_int_equal(piece->count, index < 10 ? 1 : 0);
    assert_int_equal(piece->first, index < 10 ? index : 0);
    assert_int_equal(piece->job, index < 10 ? 1 : 0);
    assert_int_equal(piece->attempt, index < 10 ? 1 : 0);
    assert_int_equal(piece->pid, 1001);
    assert_int_equal(piece->fd, fd);
    assert_int_equal(piece->text->size, strlen(text));
    assert_memory_equal(piece->text->data, text, strlen(text));
}

static void lines_wait_for_others_and_are_sent_once(void **state)
{
    struct fake *f = *state;
    start(f, true);
    print(f, 0, 1, "one\n");
    print(f, 0, 1, "two\nthree\n");
    print(f, 0, 2, "four\n");
    print(f, 10, 2, "five\n");
    fake_settle(f);
    assert_int_equal(fake_sent(f, MSG_OUTPUT), 0);
    assert_int_equal(worker_core_deadline(f->core), f->now + WAIT_MS);
    fake_pass(f, WAIT_MS);
    const struct message *message = fake_nth(f, MSG_OUTPUT, 0);
    assert_int_equal(message->output.pieces_count, 3);
    assert_piece(message, 0, 0, 1, "one\ntwo\nthree\n");
    assert_int_equal(message->output.pieces[0].lines, 3);
    assert_piece(message, 1, 0, 2, "four\n");
    assert_piece(message, 2, 10, 2, "five\n");
    assert_int_equal(message->output.left_out, 0);
    fake_pass(f, 10 * WAIT_MS);
    assert_int_equal(fake_sent(f, MSG_OUTPUT), 1);
}

static void lines_go_in_front_of_their_result(void **state)
{
    struct fake *f = *state;
    start(f, true);
    print(f, 0, 1, "first\n");
    fake_done(f, 1, 1, 1000000, 4);
    fake_settle(f);
    size_t output = 0, done = 0;
    for (size_t i = 0; i < f->sent_count; i++) {
        if (f->sent[i]->kind == MSG_OUTPUT)
            output = i + 1;
        else if (f->sent[i]->kind == MSG_DONE)
            done = i + 1;
    }
    assert_true(output > 0 && output < done);
}

static void nothing_is_sent_that_is_not_wanted(void **state)
{
    struct fake *f = *state;
    start(f, false);
    print(f, 0, 1, "nobody listens\n");
    fake_pass(f, 10 * WAIT_MS);
    assert_int_equal(fake_sent(f, MSG_OUTPUT), 0);
}

static uint64_t count_sent(const struct fake *f, uint64_t *ret_left_out)
{
    uint64_t lines = 0;
    for (size_t i = 0; i < f->sent_count; i++) {
        const struct message *message = f->sent[i];
        uint64_t bytes = 0;
        if (message->kind != MSG_OUTPUT)
            continue;
        *ret_left_out += message->output.left_out;
        for (uint32_t k = 0; k < message->output.pieces_count; k++) {
            lines += message->output.pieces[k].lines;
            bytes += message->output.pieces[k].text->size;
        }
        assert_true(bytes <= OUTPUT_BYTES_MAX);
    }
    return lines;
}

static void a_flood_is_cut_to_its_rate_and_counted(void **state)
{
    enum { SECONDS = 10, LINES = 20000 };
    struct fake *f = *state;
    char line[1002];
    uint64_t left_out = 0;
    memset(line, 'x', 1000);
    memcpy(line + 1000, "\n", 2);
    start(f, true);
    for (int i = 0; i < LINES; i++) {
        print(f, 0, 1, line);
        if (i % 50 == 49) {
            fake_message(f, message_create(MSG_HEARTBEAT));
            fake_pass(f, SECONDS * 1000 / (LINES / 50));
        }
    }
    fake_pass(f, WAIT_MS);
    uint64_t lines = count_sent(f, &left_out);
    assert_int_equal(lines + left_out, LINES);
    assert_in_range(lines * 1001, 9 << 20, (SECONDS + 1) << 20);
}

static void what_is_held_without_a_link_is_bounded(void **state)
{
    enum { LINES = 1000 };
    struct fake *f = *state;
    char line[1002];
    uint64_t left_out = 0;
    memset(line, 'x', 1000);
    memcpy(line + 1000, "\n", 2);
    start(f, true);
    fake_event(f, WORKER_LINK_DOWN);
    for (int i = 0; i < LINES; i++)
        print(f, 0, 1, line);
    fake_pass(f, 10 * WAIT_MS);
    assert_int_equal(fake_sent(f, MSG_OUTPUT), 0);
    fake_welcome(f, 2, 0);
    fake_pass(f, WAIT_MS);
    uint64_t lines = count_sent(f, &left_out);
    assert_int_equal(lines + left_out, LINES);
    assert_in_range(lines * 1001, 200000, 1 << 18);
}

static void the_last_lines_go_in_front_of_the_pools_end(void **state)
{
    struct fake *f = *state;
    start(f, true);
    fake_close_pool(f, 1, true);
    fake_settle(f);
    print(f, 10, 2, "that was it\n");
    fake_reap(f);
    fake_settle(f);
    assert_piece(fake_nth(f, MSG_OUTPUT, 0), 0, 10, 2, "that was it\n");
    assert_int_equal(f->sent[f->sent_count - 1]->kind == MSG_OUTPUT, 0);
    assert_int_equal(fake_sent(f, MSG_POOL_CLOSED), 1);
}

/* Whichever allocation fails, a line is sent once, or left out and counted. */
static void without_memory_lines_are_left_out(void **state)
{
    struct fake *f = *state;
    for (size_t n = 1; n < 40; n++) {
        uint64_t left_out = 0;
        start(f, true);
        f->fail_at = n;
        print(f, 0, 1, "one\n");
        print(f, 10, 2, "two\n");
        fake_pass(f, WAIT_MS);
        fake_pass(f, WAIT_MS);
        f->fail_at = 0;
        const uint64_t lines = count_sent(f, &left_out);
        assert_int_equal(lines + left_out, 2);
        fake_destroy(f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FAKE_TEST(lines_wait_for_others_and_are_sent_once),
        FAKE_TEST(lines_go_in_front_of_their_result),
        FAKE_TEST(nothing_is_sent_that_is_not_wanted),
        FAKE_TEST(a_flood_is_cut_to_its_rate_and_counted),
        FAKE_TEST(what_is_held_without_a_link_is_bounded),
        FAKE_TEST(the_last_lines_go_in_front_of_the_pools_end),
        FAKE_TEST(without_memory_lines_are_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
