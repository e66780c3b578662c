/* SPDX-License-Identifier: Apache-2.0
 *
 * test_coordinator_output.c: OUTPUT goes to the client that opened the pool and to nobody
 * else; too much of it goes without its lines, of which the number is told. */
#include "tests/unit/coordinator_script.h"

static struct message *output(uint8_t pool, uint32_t lines, size_t line_bytes)
{
    struct message *message = message_create(MSG_OUTPUT);
    struct payload *text = payload_create(lines * line_bytes);
    memset(payload_bytes(text), 'x', text->size);
    for (uint32_t i = 0; i < lines; i++)
        payload_bytes(text)[(i + 1) * line_bytes - 1] = '\n';
    message->output.pool = make_id(pool);
    snprintf(message->output.node, sizeof message->output.node, "liar");
    message->output.left_out = 5;
    message->output.pieces = mem_alloc(sizeof *message->output.pieces);
    message->output.pieces_count = 1;
    message->output.pieces[0] =
        (struct msg_printed){.fd = 1, .lines = lines, .text = text};
    return message;
}

static void goes_to_the_owner_alone(void **state)
{
    struct script *script = *state;
    const uint64_t worker = add_worker(script, 1, 2);
    const uint64_t owner = add_pool(script, 1, 1), other = add_pool(script, 2, 1);
    const uint64_t inside = add_client(script, 3);
    script_say(script, inside, pool_attach(1));
    script_say(script, owner, tasks(1, 1, 0, 4));
    script_flush(script);
    script_forget(script);
    script_say(script, worker, output(1, 2, 10));
    const struct message *told = script_take(script, owner, MSG_OUTPUT);
    assert_int_equal(told->output.left_out, 5);
    assert_int_equal(told->output.pieces_count, 1);
    assert_string_not_equal(told->output.node, "liar"); /* the node it said hello as */
    assert_true(script_is_quiet(script, other));
    assert_true(script_is_quiet(script, inside));
    script_quiet(script);
}

static void of_no_pool_is_dropped(void **state)
{
    struct script *script = *state;
    const uint64_t worker = add_worker(script, 1, 2);
    const uint64_t owner = add_pool(script, 1, 1);
    script_flush(script);
    script_down(script, owner);
    script_flush(script);
    script_forget(script);
    script_say(script, worker, output(1, 2, 10));
    script_say(script, worker, output(9, 2, 10));
    script_quiet(script);
}

static void is_not_for_a_client_to_say(void **state)
{
    struct script *script = *state;
    const uint64_t owner = add_pool(script, 1, 1);
    script_flush(script);
    script_forget(script);
    script_say(script, owner, output(1, 1, 10));
    script_dropped(script, owner, FARPOOL_EPROTOCOL);
}

/* Each worker keeps to its rate; together they may be more than one client takes. */
static void too_much_goes_without_lines(void **state)
{
    enum { MESSAGES = 200, LINES = 60 };
    struct script *script = *state;
    const uint64_t worker = add_worker(script, 1, 2);
    const uint64_t owner = add_pool(script, 1, 1);
    uint64_t bytes = 0, lines = 0, left_out = 0;
    script_say(script, owner, tasks(1, 1, 0, 4));
    script_flush(script);
    script_forget(script);
    for (int i = 0; i < MESSAGES; i++) {
        script_say(script, worker, output(1, LINES, 1000));
        const struct message *told = script_take(script, owner, MSG_OUTPUT);
        bytes += message_body_bytes(told);
        left_out += told->output.left_out - 5;
        for (uint32_t k = 0; k < told->output.pieces_count; k++)
            lines += told->output.pieces[k].lines;
    }
    assert_int_equal(lines + left_out, MESSAGES * LINES);
    assert_in_range(bytes, 4000000, 4 << 20);
    script_pass(script, 1000);
    script_forget(script);
    script_say(script, worker, output(1, LINES, 1000));
    assert_int_equal(script_take(script, owner, MSG_OUTPUT)->output.pieces_count, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCRIPT_TEST(goes_to_the_owner_alone),
        SCRIPT_TEST(of_no_pool_is_dropped),
        SCRIPT_TEST(is_not_for_a_client_to_say),
        SCRIPT_TEST(too_much_goes_without_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
