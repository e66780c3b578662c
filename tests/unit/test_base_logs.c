/* SPDX-License-Identifier: Apache-2.0
 *
 * test_base_logs.c: what a daemon keeps of its last lines, and what is read of it. Also
 * what of other people's text may be shown. */
#include "common/base/logs.h"
#include "common/base/mem.h"
#include "common/base/printable.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct id make_id(uint8_t number)
{
    return (struct id){.bytes = {number}};
}

/* pool 0: the daemon's own. */
static void add(struct logs *logs, uint8_t pool, const char *text)
{
    static uint64_t time_ms;
    logs_add(logs, &(struct logs_line){.time_ms = ++time_ms,
                                       .level = pool ? 2 : 1,
                                       .fd = pool ? 1 : 0,
                                       .pid = pool ? 70 + pool : 0,
                                       .pool = make_id(pool),
                                       .text = text,
                                       .size = strlen(text)});
}

struct read {
    char lines[20000][32];
    size_t count;
    uint64_t last, left_out;
};

/* All that is told of the last `lines` lines behind `after`, of one pool, or of all (0).
 */
static struct read *read_all(const struct logs *logs, uint8_t pool, uint32_t lines,
                             uint64_t after)
{
    static struct read read;
    struct message *get = message_create(MSG_LOGS_GET);
    const struct id source = make_id(99);
    struct logs_reader reader;
    bool more = true;
    read.count = 0;
    read.last = read.left_out = 0;
    get->logs_get.request = 5;
    get->logs_get.lines = lines;
    get->logs_get.pools = mem_alloc(2 * sizeof *get->logs_get.pools);
    get->logs_get.pools_count = pool ? 2 : 0;
    get->logs_get.pools[0].pool = make_id(250);
    get->logs_get.pools[1].pool = make_id(pool);
    get->logs_get.cursors = mem_alloc(2 * sizeof *get->logs_get.cursors);
    get->logs_get.cursors_count = 2;
    get->logs_get.cursors[0] = (struct msg_log_cursor){make_id(98), 1000000};
    get->logs_get.cursors[1] = (struct msg_log_cursor){source, after};
    logs_read_begin(logs, get, &source, &reader);
    while (more) {
        struct message *answer = message_create(MSG_LOGS);
        struct frames frames = {0};
        assert_int_equal(logs_read(&reader, answer), 0);
        assert_int_equal(message_encode(answer, &frames), 0);
        assert_true(frames.header->size < 140000);
        frames_fini(&frames);
        assert_int_equal(answer->logs.request, 5);
        for (uint32_t i = 0; i < answer->logs.lines_count; i++) {
            assert_true(read.count < 20000);
            snprintf(read.lines[read.count++], sizeof read.lines[0], "%s",
                     answer->logs.lines[i].text);
        }
        more = answer->logs.more;
        read.last = answer->logs.last;
        read.left_out += answer->logs.left_out;
        message_free(&answer);
    }
    message_free(&get);
    return &read;
}

static void lines_come_in_their_order(void **state)
{
    struct logs *logs = logs_create(4096, 4096);
    (void)state;
    add(logs, 0, "one");
    add(logs, 1, "two");
    add(logs, 0, "");
    add(logs, 2, "four");
    const struct read *read = read_all(logs, 0, 100, 0);
    assert_int_equal(read->count, 4);
    assert_string_equal(read->lines[0], "one");
    assert_string_equal(read->lines[1], "two");
    assert_string_equal(read->lines[2], "");
    assert_string_equal(read->lines[3], "four");
    assert_int_equal(read->last, 4);
    assert_int_equal(read->left_out, 0);
    logs_destroy(logs);
}

static void what_is_asked_for_is_told(void **state)
{
    struct logs *logs = logs_create(4096, 4096);
    (void)state;
    add(logs, 0, "own");
    for (int i = 0; i < 3; i++) {
        add(logs, 1, "mine");
        add(logs, 2, "yours");
    }
    assert_int_equal(read_all(logs, 1, 100, 0)->count, 3);
    assert_string_equal(read_all(logs, 2, 2, 0)->lines[1], "yours");
    assert_int_equal(read_all(logs, 2, 2, 0)->count, 2);
    assert_int_equal(read_all(logs, 3, 100, 0)->count, 0);
    assert_int_equal(read_all(logs, 0, 0, 0)->count, 0);
    assert_int_equal(read_all(logs, 0, 1, 0)->left_out, 0); /* not asked for */
    /* Behind a cursor, also one that is too large. */
    assert_int_equal(read_all(logs, 0, 100, 5)->count, 2);
    assert_int_equal(read_all(logs, 0, 100, 7)->count, 0);
    assert_int_equal(read_all(logs, 0, 100, UINT64_MAX)->count, 0);
    assert_int_equal(read_all(logs, 0, 1, 2)->count, 1);
    assert_int_equal(read_all(logs, 0, 1, 2)->left_out, 4);
    assert_int_equal(read_all(NULL, 0, 100, 0)->count, 0);
    logs_destroy(logs);
}

/* Whatever the sizes, the last lines are there, whole, and the others are counted. */
static void the_oldest_make_room(void **state)
{
    enum { LINES = 3000 };
    (void)state;
    for (size_t size = 500; size < 560; size++) {
        struct logs *logs = logs_create(size, 3 * size);
        char text[32];
        for (int i = 0; i < LINES; i++) {
            snprintf(text, sizeof text, "%d %.*s", i, i % 13, "abcdefghijklm");
            add(logs, (uint8_t)(i % 3), text);
        }
        const struct read *read = read_all(logs, 0, 10000, 0);
        assert_in_range(read->count, 20, 40);
        assert_int_equal(read->count + read->left_out, LINES);
        for (size_t i = read->count - 3; i < read->count; i++) {
            const int number = LINES - (int)(read->count - i);
            snprintf(text, sizeof text, "%d %.*s", number, number % 13, "abcdefghijklm");
            assert_string_equal(read->lines[i], text);
        }
        assert_int_equal(read_all(logs, 0, 10000, LINES - 2000)->left_out,
                         2000 - read->count);
        logs_destroy(logs);
    }
}

static void a_flood_drives_out_no_line_of_the_daemon(void **state)
{
    struct logs *logs = logs_create(LOGS_OWN_BYTES, LOGS_PRINTED_BYTES);
    (void)state;
    add(logs, 0, "the line that is looked for by an operator");
    for (int i = 0; i < 20000; i++)
        add(logs, 1, "y");
    const struct read *read = read_all(logs, 0, 20000, 0);
    assert_memory_equal(read->lines[0], "the line that is looked for", 27);
    assert_in_range(read->count, 3000, 10000);
    assert_int_equal(read->count + read->left_out, 20001);
    logs_destroy(logs);
}

static void a_line_is_one_line_and_not_too_long(void **state)
{
    static char text[20000];
    struct logs *logs = logs_create(100, 40000);
    struct logs_line line = {.fd = 2, .text = "a\0b\nc", .size = 5};
    (void)state;
    logs_add(logs, &line);
    assert_string_equal(read_all(logs, 0, 10, 0)->lines[0], "a b c");
    memset(text, 'x', sizeof text);
    line.text = text;
    line.size = sizeof text;
    logs_add(logs, &line);
    struct message *get = message_create(MSG_LOGS_GET);
    struct message *answer = message_create(MSG_LOGS);
    struct logs_reader reader;
    get->logs_get.lines = 1;
    logs_read_begin(logs, get, &(struct id){{1}}, &reader);
    assert_int_equal(logs_read(&reader, answer), 0);
    const char *told = answer->logs.lines[0].text;
    assert_in_range(strlen(told), 4060, LOG_TEXT_MAX);
    assert_string_equal(strchr(told, ' '), " [15945 more bytes]");
    message_free(&answer);
    message_free(&get);
    line.fd = 0; /* there is no room for it at all */
    logs_add(logs, &line);
    assert_int_equal(read_all(logs, 0, 10, 0)->left_out, 1);
    logs_destroy(logs);
}

static void without_memory(void **state)
{
    (void)state;
    for (size_t i = 1; i <= 3; i++) {
        mem_fail_after(i);
        assert_null(logs_create(100, 100));
        mem_fail_after(0);
    }
    struct logs *logs = logs_create(1000, 1000);
    add(logs, 0, "one");
    add(logs, 1, "two");
    struct message *get = message_create(MSG_LOGS_GET);
    get->logs_get.lines = 10;
    for (size_t i = 1; i <= 3; i++) {
        struct message *answer = message_create(MSG_LOGS);
        struct logs_reader reader;
        logs_read_begin(logs, get, &(struct id){{1}}, &reader);
        mem_fail_after(i);
        assert_int_equal(logs_read(&reader, answer), FARPOOL_ENOMEM);
        mem_fail_after(0);
        message_free(&answer);
    }
    message_free(&get);
    logs_destroy(logs);
}

static void what_may_be_shown(void **state)
{
    static const struct {
        const char *text, *shown;
    } cases[] = {
        {"", ""},
        {"a b\tc", "a b\tc"},
        {"\033[2Jx\r\n\x7f", "?[2Jx???"},
        {"gr\303\274n \342\202\254 \360\237\230\200",
         "gr\303\274n \342\202\254 \360\237\230\200"},
        {"\302\233m", "??m"},                /* U+009B */
        {"\300\257 \355\240\200", "?? ???"}, /* overlong; a surrogate */
        {"\342\202", "??"},                  /* cut off */
        {"\364\220\200\200", "????"},        /* beyond U+10FFFF */
    };
    char shown[64];
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        shown[printable_copy(shown, cases[i].text, strlen(cases[i].text))] = '\0';
        assert_string_equal(shown, cases[i].shown);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_come_in_their_order),
        cmocka_unit_test(what_is_asked_for_is_told),
        cmocka_unit_test(the_oldest_make_room),
        cmocka_unit_test(a_flood_drives_out_no_line_of_the_daemon),
        cmocka_unit_test(a_line_is_one_line_and_not_too_long),
        cmocka_unit_test(without_memory),
        cmocka_unit_test(what_may_be_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
