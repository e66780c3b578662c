/* SPDX-License-Identifier: Apache-2.0
 *
 * test_keys_tokens.c: a join token as a line, and the coordinator's list of tokens. */
#include "common/base/error.h"
#include "common/base/mem.h"
#include "common/keys/keys.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static const struct hash server = {.bytes = {7, 8, 9}};

static void check_error(int result, int code, const farpool_error *error, const char *why)
{
    assert_int_equal(result, code);
    assert_int_equal(error->code, code);
    if (strstr(error->text, why) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", error->text, why);
}

/* --------------------------------------------------------------------- lines */

static void make(const char *address, struct token *ret_token, char line[TOKEN_TEXT_SIZE])
{
    farpool_error error;
    if (token_make(address, &server, ret_token, &error) != 0)
        fail_msg("%s", error.text);
    token_print(ret_token, line);
}

static void a_line_says_all(void **state)
{
    static const char *const addresses[] = {
        "tcp://head:5764",          "tcp://10.0.0.1:1",   "tcp://[::1]:5764",
        "tcp://[fe80::12:3]:65535", "ipc:///run/farpool", "tcp://under_score:5764",
        "tcp://_a_:5764",
    };
    char line[TOKEN_TEXT_SIZE], blanks[TOKEN_TEXT_SIZE + 8];
    char id[TOKEN_ID_SIZE + 1], other[TOKEN_ID_SIZE + 1];
    (void)state;
    for (size_t i = 0; i < sizeof addresses / sizeof addresses[0]; i++) {
        struct token token, again;
        farpool_error error;
        make(addresses[i], &token, line);
        assert_int_equal(strspn(line, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwx"
                                      "yz0123456789._-:/"),
                         strlen(line));
        assert_int_equal(strncmp(line, "farpool-join-1.", 15), 0);
        snprintf(blanks, sizeof blanks, " \t%s\r\n\n", line);
        assert_int_equal(token_parse(blanks, &again, &error), 0);
        assert_string_equal(again.address, addresses[i]);
        assert_true(hash_equal(&again.server, &server));
        assert_true(hash_equal(&again.key, &token.key));
        assert_memory_equal(again.secret, token.secret, sizeof token.secret);
        assert_string_equal(token_id(&token.key, id), token_id(&again.key, other));
        assert_true(token_id_valid(id));
    }
}

static void addresses_that_do_not_fit_are_named(void **state)
{
    struct token token;
    farpool_error error;
    char longest[TOKEN_ADDRESS_MAX + 2], line[TOKEN_TEXT_SIZE];
    (void)state;
    check_error(token_make("ipc:///tmp/a b", &server, &token, &error), FARPOOL_EADDRESS,
                &error, "not ' '");
    check_error(token_make("tcp://[fe80::1%eth0]:1", &server, &token, &error),
                FARPOOL_EADDRESS, &error, "not '%'");
    memset(longest, 'a', sizeof longest);
    longest[TOKEN_ADDRESS_MAX + 1] = '\0';
    check_error(token_make(longest, &server, &token, &error), FARPOOL_EADDRESS, &error,
                "limit: 255");
    longest[TOKEN_ADDRESS_MAX] = '\0';
    make(longest, &token, line);
    assert_int_equal(token_parse(line, &token, &error), 0);
    assert_string_equal(token.address, longest);
}

static void refuse(const char *text, const char *why, const char *secret)
{
    struct token token = {.address = "untouched"};
    farpool_error error;
    check_error(token_parse(text, &token, &error), FARPOOL_EINVAL, &error, why);
    assert_string_equal(token.address, "untouched");
    assert_null(strstr(error.text, secret));
}

/* Cut short at each place, and each letter another: never a token, never told. */
static void what_is_no_token_is_told(void **state)
{
    struct token token;
    char line[TOKEN_TEXT_SIZE], bad[2 * TOKEN_TEXT_SIZE], secret[44];
    (void)state;
    make("tcp://head:5764", &token, line);
    memcpy(secret, line + 15 + 44, 43);
    secret[43] = '\0';
    refuse("", "it is empty", secret);
    refuse(" \n", "it is empty", secret);
    refuse("hello", "does not begin with farpool-join-1.", secret);
    refuse("farpool-join-2.x", "another version", secret);
    snprintf(bad, sizeof bad, "%s %s", line, line);
    refuse(bad, "more than one word", secret);
    snprintf(bad, sizeof bad, "%s%s", line, line);
    refuse(bad, "not whole", secret);
    for (size_t size = 15; size < strlen(line); size++) {
        snprintf(bad, sizeof bad, "%.*s", (int)size, line);
        refuse(bad, "not whole", secret);
    }
    for (size_t i = 15; i < strlen(line); i++) {
        snprintf(bad, sizeof bad, "%s", line);
        bad[i] = bad[i] == 'x' ? 'y' : 'x';
        refuse(bad, "not whole", secret);
    }
}

static void token_files_are_as_private_as_keys(void **state)
{
    char path[] = "/tmp/farpool-token-XXXXXX", line[TOKEN_TEXT_SIZE];
    const int fd = mkstemp(path);
    struct token token, again;
    farpool_error error;
    (void)state;
    assert_true(fd >= 0);
    make("tcp://head:5764", &token, line);
    assert_int_equal(write(fd, line, strlen(line)), (ssize_t)strlen(line));
    close(fd);
    assert_int_equal(token_read(path, &again, &error), 0);
    assert_true(hash_equal(&again.key, &token.key));
    assert_int_equal(chmod(path, 0640), 0);
    check_error(token_read(path, &again, &error), FARPOOL_EKEY, &error, "mode 0640");
    unlink(path);
    check_error(token_read(path, &again, &error), FARPOOL_EKEY, &error, "No such file");
    check_error(token_read(line, &again, &error), FARPOOL_EINVAL, &error,
                "no secret any more");
    assert_null(strstr(error.text, line + 15));
}

/* --------------------------------------------------------------------- times */

static void times_are_read_as_written(void **state)
{
    char text[WHEN_TEXT_SIZE];
    int64_t when_s = 0;
    (void)state;
    assert_string_equal(when_text(1777863721, text), "2026-05-04T03:02:01Z");
    assert_true(when_parse(text, &when_s));
    assert_int_equal(when_s, 1777863721);
    assert_false(when_parse("", &when_s));
    assert_false(when_parse("1969-12-31T23:59:59Z", &when_s));
    assert_string_equal(when_text(-5, text), "1970-01-01T00:00:00Z");
    assert_string_equal(when_text(INT64_MAX, text), "9999-12-31T23:59:59Z");
}

/* ---------------------------------------------------------------- the list */

#define KEY "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"
#define ID "54fcba24e9324996"
#define TIMES " 2026-05-04T03:02:01Z 2026-05-04T04:02:01Z "

static void wrong_lines_are_told(void **state)
{
    static const struct {
        const char *text, *why;
    } cases[] = {
        {"#\nx", "line 2: it is not of 7 words"},
        {ID " " KEY TIMES "1/2 lasting live more", "line 1: it is not of 7 words"},
        {ID " tooshort" TIMES "1/2 lasting live", "the public key"},
        {"0123456789abcdef " KEY TIMES "1/2 lasting live", "the id is not that"},
        {ID " " KEY " now 2026-05-04T04:02:01Z 1/2 lasting live", "a time is not"},
        {ID " " KEY " 2026-05-04T04:02:01Z never 1/2 lasting live", "a time is not"},
        {ID " " KEY TIMES "3/2 lasting live", "the uses are not"},
        {ID " " KEY TIMES "-1/2 lasting live", "the uses are not"},
        {ID " " KEY TIMES "1/100001 lasting live", "the uses are not"},
        {ID " " KEY TIMES "1 lasting live", "the uses are not"},
        {ID " " KEY TIMES "1/2 long live", "\"ephemeral\" or"},
        {ID " " KEY TIMES "1/2 lasting dead", "\"revoked\" or"},
        {ID " " KEY TIMES "1/2 lasting live\n" ID " " KEY TIMES "1/2 lasting live",
         "line 2: the token is there already"},
    };
    farpool_error error;
    struct token_list list = {.items = NULL};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const int result =
            tokens_parse(cases[i].text, strlen(cases[i].text), "LIST", &list, &error);
        check_error(result, FARPOOL_EKEY, &error, cases[i].why);
        assert_null(list.items);
    }
    static const char good[] = "# x\n" ID " " KEY TIMES "1/2 ephemeral revoked\n";
    assert_int_equal(tokens_parse(good, strlen(good), "LIST", &list, &error), 0);
    assert_int_equal(list.count, 1);
    assert_int_equal(list.items[0].left, 1);
    assert_int_equal(list.items[0].uses, 2);
    assert_int_equal(list.items[0].expires_s - list.items[0].made_s, 3600);
    assert_true(list.items[0].ephemeral && list.items[0].revoked);
    assert_ptr_equal(tokens_find_id(&list, ID), &list.items[0]);
    token_list_fini(&list);
}

static void refusals_say_what_to_do(void **state)
{
    char text[256];
    struct token_entry token = {
        .id = ID, .made_s = 100000, .expires_s = 103600, .uses = 3, .left = 1};
    (void)state;
    assert_null(token_refusal(&token, 100000, text));
    assert_null(token_refusal(&token, 103599, text));
    assert_null(token_refusal(&token, 99940, text)); /* a clock that is set right */
    assert_non_null(token_refusal(&token, 103600, text));
    assert_non_null(strstr(text, "expired 0 s ago, at 1970-01-02T04:46:40Z by the "
                                 "coordinator's clock"));
    assert_non_null(strstr(text, "farpool token"));
    assert_non_null(token_refusal(&token, 103600 + 7200, text));
    assert_non_null(strstr(text, "expired 2 h ago"));
    assert_non_null(token_refusal(&token, 50, text));
    assert_non_null(strstr(text, "have the clock of the coordinator's machine set"));
    token.left = 0;
    assert_non_null(token_refusal(&token, 100001, text));
    assert_non_null(strstr(text, "as many workers as it was made for (3)"));
    token.revoked = true;
    assert_non_null(token_refusal(&token, 100001, text));
    assert_non_null(strstr(text, "was revoked"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_says_all),
        cmocka_unit_test(addresses_that_do_not_fit_are_named),
        cmocka_unit_test(what_is_no_token_is_told),
        cmocka_unit_test(token_files_are_as_private_as_keys),
        cmocka_unit_test(times_are_read_as_written),
        cmocka_unit_test(wrong_lines_are_told),
        cmocka_unit_test(refusals_say_what_to_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
