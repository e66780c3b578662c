/* SPDX-License-Identifier: Apache-2.0
 *
 * test_coordinator_logs.c: LOGS_GET: whom the coordinator asks, what it passes on, who
 * may see what, and that what was asked for is forgotten with either end. */
#include "tests/unit/coordinator_script.h"

/* pool 0: any. */
static struct message *logs_get(const char *node, uint8_t pool)
{
    struct message *message = message_create(MSG_LOGS_GET);
    message->logs_get.request = 50;
    message->logs_get.lines = 10;
    snprintf(message->logs_get.node, sizeof message->logs_get.node, "%s", node);
    if (pool) {
        message->logs_get.pools = mem_alloc(sizeof *message->logs_get.pools);
        message->logs_get.pools_count = 1;
        message->logs_get.pools[0].pool = make_id(pool);
    }
    return message;
}

/* A worker's answer: a line of its own, and one of each of two pools. */
static struct message *logs(uint64_t request, uint8_t pool, uint8_t other, bool more)
{
    struct message *message = message_create(MSG_LOGS);
    message->logs.request = request;
    message->logs.more = more;
    message->logs.last = 99;
    message->logs.code = FARPOOL_EKEY; /* not for a worker to say */
    snprintf(message->logs.node, sizeof message->logs.node, "liar");
    message->logs.lines = mem_alloc(3 * sizeof *message->logs.lines);
    message->logs.lines_count = 3;
    for (uint32_t i = 0; i < 3; i++) {
        message->logs.lines[i].fd = i;
        message->logs.lines[i].pool = make_id(i == 1 ? pool : i == 2 ? other : 0);
        message->logs.lines[i].text = mem_strdup(i == 0 ? "own" : "printed");
    }
    return message;
}

/* What a worker is asked; its number. */
static uint64_t asked(struct script *script, uint64_t worker, uint32_t pools,
                      uint64_t cursor)
{
    const struct message *message = script_take(script, worker, MSG_LOGS_GET);
    assert_int_equal(message->logs_get.pools_count, pools);
    assert_int_equal(message->logs_get.lines, 10);
    assert_int_equal(message->logs_get.cursors_count, 1);
    assert_int_equal(message->logs_get.cursors[0].last, cursor);
    return message->logs_get.request;
}

static const struct message *answered(struct script *script, uint64_t link,
                                      const char *node, uint32_t lines, bool more)
{
    const struct message *message = script_take(script, link, MSG_LOGS);
    assert_int_equal(message->logs.request, 50);
    assert_string_equal(message->logs.node, node);
    assert_int_equal(message->logs.lines_count, lines);
    assert_int_equal(message->logs.more, more);
    return message;
}

static void refused(struct script *script, uint64_t link, int code, const char *text)
{
    const struct message *message = answered(script, link, "", 0, false);
    assert_int_equal(message->logs.code, code);
    assert_non_null(strstr(message->logs.text, text));
    assert_true(id_is_zero(&message->logs.source));
}

/* --------------------------------------------------------------------- asking */

static void test_all_are_asked(void **state)
{
    struct script *script = *state;
    const uint64_t first = add_worker(script, 10, 1), second = add_worker(script, 11, 1);
    const uint64_t watcher = add_client(script, 9), other = add_client(script, 8);
    struct message *get = logs_get("", 0);
    get->logs_get.cursors = mem_alloc(sizeof *get->logs_get.cursors);
    get->logs_get.cursors_count = 1;
    get->logs_get.cursors[0] = (struct msg_log_cursor){make_id(11), 33};
    script_say(script, watcher, get);
    const struct message *own = answered(script, watcher, "", 0, true);
    assert_true(id_equal(&own->logs.source, &script->config.coordinator));
    const uint64_t to_first = asked(script, first, 0, 0);
    const uint64_t to_second = asked(script, second, 0, 33);
    script_say(script, second, logs(to_second, 1, 2, true));
    const struct message *told = answered(script, watcher, "node11", 3, true);
    assert_int_equal(told->logs.code, 0);
    assert_int_equal(told->logs.last, 99);
    assert_true(id_equal(&told->logs.source, &(struct id){.bytes = {11, 0xfa}}));
    script_say(script, second, logs(to_second, 1, 2, false));
    answered(script, watcher, "node11", 3, true);
    script_say(script, second, logs(to_second, 1, 2, false)); /* behind its end */
    script_say(script, second, logs(to_first, 1, 2, false));  /* another's number */
    script_say(script, second, logs(12345, 1, 2, false));
    script_quiet(script);
    script_say(script, first, logs(to_first, 1, 2, false));
    answered(script, watcher, "node10", 3, false);
    assert_true(script_is_quiet(script, other));
    script_quiet(script);
}

static void test_a_node(void **state)
{
    struct script *script = *state;
    const uint64_t watcher = add_client(script, 9);
    script_say(script, watcher, logs_get("node10", 0));
    refused(script, watcher, FARPOOL_EINVAL, "no node is called node10; there is none");
    script_say(script, watcher, logs_get("coordinator", 0));
    answered(script, watcher, "", 0, false);
    const uint64_t first = add_worker(script, 10, 1), second = add_worker(script, 11, 1);
    script_say(script, watcher, logs_get("node1", 0));
    refused(script, watcher, FARPOOL_EINVAL, "called node1; there are: node10 node11");
    script_say(script, watcher, logs_get("node10", 0));
    const uint64_t number = asked(script, first, 0, 0);
    assert_true(script_is_quiet(script, second));
    script_say(script, first, logs(number, 1, 2, false));
    answered(script, watcher, "node10", 3, false);
    for (uint8_t i = 12; i < 60; i++)
        add_worker(script, i, 1);
    script_say(script, watcher, logs_get("node1", 0));
    refused(script, watcher, FARPOOL_EINVAL, "node10 node11 node12 ");
    script_quiet(script);
}

static void test_own_lines(void **state)
{
    struct script script = {.links = 0};
    struct logs *kept = logs_create(100000, 0);
    const struct logs_line line = {.level = 1, .text = "own", .size = 3};
    (void)state;
    coordinator_config_init(&script.config);
    script.config.logs = kept;
    script_begin(&script);
    for (int i = 0; i < 300; i++)
        logs_add(kept, &line);
    const uint64_t watcher = add_client(&script, 9);
    struct message *get = logs_get("", 0);
    get->logs_get.lines = 300;
    script_say(&script, watcher, get);
    answered(&script, watcher, "", 256, true);
    assert_int_equal(answered(&script, watcher, "", 44, false)->logs.last, 300);
    script_say(&script, watcher, logs_get("", 1)); /* what a pool printed: none of it */
    answered(&script, watcher, "", 0, false);
    script_quiet(&script);
    script_end(&script);
    logs_destroy(kept);
}

/* ------------------------------------------------------------------ forgetting */

static void test_a_worker_goes(void **state)
{
    struct script *script = *state;
    const uint64_t first = add_worker(script, 10, 1), second = add_worker(script, 11, 1);
    const uint64_t watcher = add_client(script, 9);
    script_say(script, watcher, logs_get("", 0));
    answered(script, watcher, "", 0, true);
    const uint64_t number = asked(script, second, 0, 0);
    script_down(script, first);
    const struct message *note = answered(script, watcher, "node10", 0, true);
    assert_int_equal(note->logs.code, FARPOOL_ENODELOST);
    script_say(script, second, logs(number, 1, 2, true));
    answered(script, watcher, "node11", 3, true);
    script_down(script, second);
    note = answered(script, watcher, "node11", 0, false);
    assert_int_equal(note->logs.code, FARPOOL_ENODELOST);
    script_forget(script);
}

static void test_a_client_goes(void **state)
{
    struct script *script = *state;
    const uint64_t worker = add_worker(script, 10, 1), watcher = add_client(script, 9);
    script_say(script, watcher, logs_get("", 0));
    const uint64_t number = asked(script, worker, 0, 0);
    script_down(script, watcher);
    script_forget(script);
    script_say(script, worker, logs(number, 1, 2, false));
    assert_int_equal(coordinator_core_deadline(script->core), script->now_ms + 2000);
    script_quiet(script);
}

/* It is asked for anew: what comes for the question before is dropped. */
static void test_another_question(void **state)
{
    struct script *script = *state;
    const uint64_t worker = add_worker(script, 10, 1), watcher = add_client(script, 9);
    script_say(script, watcher, logs_get("node10", 0));
    const uint64_t first = asked(script, worker, 0, 0);
    script_say(script, watcher, logs_get("node10", 0));
    const uint64_t second = asked(script, worker, 0, 0);
    assert_int_not_equal(first, second);
    script_say(script, worker, logs(first, 1, 2, false));
    script_quiet(script);
    script_say(script, worker, logs(second, 1, 2, false));
    answered(script, watcher, "node10", 3, false);
}

static void test_no_answer_in_time(void **state)
{
    struct script *script = *state;
    const uint64_t worker = add_worker(script, 10, 1), watcher = add_client(script, 9);
    script_say(script, watcher, logs_get("", 0));
    answered(script, watcher, "", 0, true);
    const uint64_t number = asked(script, worker, 0, 0);
    script_pass(script, 1999);
    assert_int_equal(coordinator_core_deadline(script->core), script->now_ms + 1);
    script_forget(script);
    script_pass(script, 1);
    const struct message *note = answered(script, watcher, "node10", 0, false);
    assert_int_equal(note->logs.code, FARPOOL_ETIMEDOUT);
    assert_non_null(strstr(note->logs.text, "2000 ms"));
    script_say(script, worker, logs(number, 1, 2, false));
    script_quiet(script);
}

/* --------------------------------------------------------------------- bounds */

static void test_more_lines_than_asked_for(void **state)
{
    struct script *script = *state;
    const uint64_t worker = add_worker(script, 10, 1), watcher = add_client(script, 9);
    script_say(script, watcher, logs_get("node10", 0));
    const uint64_t number = asked(script, worker, 0, 0);
    for (int i = 0; i < 3; i++) {
        script_say(script, worker, logs(number, 1, 2, true));
        answered(script, watcher, "node10", 3, true);
    }
    script_say(script, worker, logs(number, 1, 2, true)); /* twelve of ten */
    answered(script, watcher, "node10", 0, false);
    script_dropped(script, worker, FARPOOL_EPROTOCOL);
    script_quiet(script);
}

/* Nor without an end. */
static void test_more_bytes_than_are_kept(void **state)
{
    struct script *script = *state;
    const uint64_t worker = add_worker(script, 10, 1), watcher = add_client(script, 9);
    uint64_t passed = 0;
    script_say(script, watcher, logs_get("node10", 0));
    const uint64_t number = asked(script, worker, 0, 0);
    for (script_forget(script); passed < 100000; passed++) {
        struct message *message = message_create(MSG_LOGS);
        message->logs.request = number;
        message->logs.more = true;
        script_say(script, worker, message);
        const struct message *told = script_take(script, watcher, MSG_LOGS);
        if (told->logs.code != 0)
            break;
        script_forget(script);
    }
    assert_in_range(passed, 1000, 10000);
    script_dropped(script, worker, FARPOOL_EPROTOCOL);
}

/* Many nodes together: what is too much for one client goes without its lines. */
static void test_more_than_a_client_takes(void **state)
{
    enum { NODES = 40, LINES = 150, BYTES = 4000 };
    struct script *script = *state;
    uint64_t links[NODES], bytes = 0, left_out = 0;
    for (uint8_t i = 0; i < NODES; i++)
        links[i] = add_worker(script, (uint8_t)(10 + i), 1);
    const uint64_t watcher = add_client(script, 9);
    struct message *get = logs_get("", 0);
    get->logs_get.lines = LINES;
    script_say(script, watcher, get);
    script_take(script, watcher, MSG_LOGS);
    for (int i = 0; i < NODES; i++) {
        struct message *message = message_create(MSG_LOGS);
        message->logs.request =
            script_take(script, links[i], MSG_LOGS_GET)->logs_get.request;
        message->logs.lines = mem_alloc(LINES * sizeof *message->logs.lines);
        message->logs.lines_count = LINES;
        for (int k = 0; k < LINES; k++) {
            message->logs.lines[k].text = mem_alloc(BYTES + 1);
            memset(message->logs.lines[k].text, 'x', BYTES);
        }
        script_say(script, links[i], message);
        const struct message *told = script_take(script, watcher, MSG_LOGS);
        assert_int_equal(told->logs.more, i + 1 < NODES);
        bytes += (uint64_t)told->logs.lines_count * BYTES;
        left_out += told->logs.left_out;
    }
    assert_in_range(bytes, 15 << 20, 16 << 20);
    assert_int_equal(bytes / BYTES + left_out, NODES * LINES);
    script_quiet(script);
}

/* --------------------------------------------------------------------- rights */

static void test_only_without_a_pool(void **state)
{
    struct script *script = *state;
    const uint64_t owner = add_pool(script, 1, 1);
    script_say(script, owner, logs_get("", 0));
    script_dropped(script, owner, FARPOOL_EPROTOCOL);
    const uint64_t client = add_client(script, 2);
    script_say(script, client, logs(1, 1, 2, false)); /* nor is LOGS for it to say */
    script_dropped(script, client, FARPOOL_EPROTOCOL);
    const uint64_t inside = join_as(script, HOLDER_RELAYED, 5, hello_client(5));
    script_say(script, inside, logs_get("", 0));
    script_refused(script, inside, FARPOOL_EKEY);
}

/* Pools 1 and 2 are of keys 1 and 2; pool 3 was key 1's. */
static uint64_t with_keys(struct script *script)
{
    const uint64_t worker =
        join_as(script, HOLDER_WORKER, 7, hello_worker(script, 10, 1));
    for (uint8_t pool = 1; pool <= 3; pool++) {
        const uint64_t owner =
            join_as(script, HOLDER_CLIENT, pool == 2 ? 2 : 1, hello_client(pool));
        script_say(script, owner, keyed_open(pool == 2 ? 2 : 1, pool));
        if (pool == 3)
            script_down(script, owner);
    }
    script_flush(script);
    script_forget(script);
    return worker;
}

static void test_a_clients_key(void **state)
{
    struct script *script = *state;
    const uint64_t worker = with_keys(script);
    const uint64_t one = join_as(script, HOLDER_CLIENT, 1, hello_client(21));
    script_say(script, one, logs_get("", 0));
    uint64_t number = asked(script, worker, 2, 0); /* pools 1 and 3 */
    script_say(script, worker, logs(number, 1, 2, true));
    const struct message *told = answered(script, one, "node10", 1, true);
    assert_int_equal(told->logs.lines[0].fd, 1);
    script_say(script, worker, logs(number, 4, 3, false));
    assert_int_equal(answered(script, one, "node10", 1, false)->logs.lines[0].fd, 2);
    script_say(script, one, logs_get("", 3));
    number = asked(script, worker, 1, 0);
    script_say(script, worker, logs(number, 3, 2, false));
    answered(script, one, "node10", 1, false);
    /* Another's is as one that never was, and the daemons' own are nobody's. */
    script_say(script, one, logs_get("", 2));
    refused(script, one, FARPOOL_ENOPOOL, "no such pool");
    script_say(script, one, logs_get("", 77));
    refused(script, one, FARPOOL_ENOPOOL, "no such pool");
    script_say(script, one, logs_get("coordinator", 0));
    answered(script, one, "", 0, false);
    script_quiet(script);
}

/* It has no pool: nobody is asked, since no pools in the question would mean all. */
static void test_a_key_without_pools(void **state)
{
    struct script *script = *state;
    with_keys(script);
    const uint64_t fresh = join_as(script, HOLDER_CLIENT, 4, hello_client(21));
    script_say(script, fresh, logs_get("", 0));
    answered(script, fresh, "", 0, false);
    script_say(script, fresh, logs_get("node10", 0));
    answered(script, fresh, "", 0, false);
    script_quiet(script);
}

static void test_an_admins_key(void **state)
{
    struct script *script = *state;
    const uint64_t worker = with_keys(script);
    const uint64_t admin = join_as(script, HOLDER_ADMIN, 3, hello_client(21));
    script_say(script, admin, logs_get("", 0));
    answered(script, admin, "", 0, true);
    uint64_t number = asked(script, worker, 0, 0);
    script_say(script, worker, logs(number, 1, 2, false));
    answered(script, admin, "node10", 3, false);
    script_say(script, admin, logs_get("", 77)); /* it may have been there */
    asked(script, worker, 1, 0);
    script_quiet(script);
}

/* Only the last pools are remembered, and an id counts as its last owner's. */
static void test_ended_pools_are_forgotten(void **state)
{
    struct script *script = *state;
    const uint64_t worker = with_keys(script);
    const uint64_t one = join_as(script, HOLDER_CLIENT, 1, hello_client(21));
    const uint64_t two = join_as(script, HOLDER_CLIENT, 2, hello_client(22));
    script_say(script, two, keyed_open(2, 3));
    script_say(script, one, logs_get("", 3));
    refused(script, one, FARPOOL_ENOPOOL, "no such pool");
    script_down(script, two);
    script_forget(script);
    script_say(script, one, logs_get("", 3));
    refused(script, one, FARPOOL_ENOPOOL, "no such pool");
    const uint64_t also = join_as(script, HOLDER_CLIENT, 2, hello_client(23));
    script_say(script, also, logs_get("", 3));
    asked(script, worker, 1, 0);
    for (int i = 0; i < 256; i++) {
        const uint64_t link = join_as(script, HOLDER_CLIENT, 1, hello_client(24));
        script_say(script, link, keyed_open(1, 100));
        script_down(script, link);
        script_flush(script);
        script_forget(script);
    }
    script_say(script, also, logs_get("", 3));
    refused(script, also, FARPOOL_ENOPOOL, "no such pool");
}

/* --------------------------------------------------------------------- memory */

/* Whichever allocation fails: nothing has changed, and then all goes as it should. */
static void say_without_memory(struct script *script, uint64_t link,
                               struct message *message, size_t fail)
{
    struct coordinator_event event = {
        .kind = COORDINATOR_MESSAGE, .link = link, .message = message};
    const size_t before = script->effects.count;
    mem_fail_after(fail);
    int result = script_step(script, &event);
    mem_fail_after(0);
    if (result != 0) {
        assert_int_equal(script->effects.count, before);
        assert_ptr_equal(event.message, message);
        result = script_step(script, &event);
    }
    assert_int_equal(result, 0);
}

static void test_without_memory(void **state)
{
    struct script *script = *state;
    const uint64_t worker = add_worker(script, 10, 1), watcher = add_client(script, 9);
    const uint64_t other = add_worker(script, 11, 1);
    for (size_t i = 1; i < 30; i++) {
        say_without_memory(script, watcher, logs_get("", 0), i);
        answered(script, watcher, "", 0, true);
        const uint64_t number = asked(script, worker, 0, 0);
        asked(script, other, 0, 0);
        script_forget(script);
        say_without_memory(script, worker, logs(number, 1, 2, false), i);
        answered(script, watcher, "node10", 3, true);
        script_quiet(script);
    }
}

#define KEYED_TEST(name)                                                                 \
    cmocka_unit_test_setup_teardown(name, script_set_up_keyed, script_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCRIPT_TEST(test_all_are_asked),
        SCRIPT_TEST(test_a_node),
        cmocka_unit_test(test_own_lines),
        SCRIPT_TEST(test_a_worker_goes),
        SCRIPT_TEST(test_a_client_goes),
        SCRIPT_TEST(test_another_question),
        SCRIPT_TEST(test_no_answer_in_time),
        SCRIPT_TEST(test_more_lines_than_asked_for),
        SCRIPT_TEST(test_more_bytes_than_are_kept),
        SCRIPT_TEST(test_more_than_a_client_takes),
        SCRIPT_TEST(test_only_without_a_pool),
        KEYED_TEST(test_a_clients_key),
        KEYED_TEST(test_a_key_without_pools),
        KEYED_TEST(test_an_admins_key),
        KEYED_TEST(test_ended_pools_are_forgotten),
        SCRIPT_TEST(test_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
