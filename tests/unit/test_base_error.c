/* SPDX-License-Identifier: Apache-2.0
 *
 * test_base_error.c: names and texts of codes, and filling a farpool_error. */
#include "common/base/error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void every_code_has_its_own_name_and_text(void **state)
{
    (void)state;
    const int codes[] = {
#define CODE(name, value, text) value,
        FARPOOL_ERRORS(CODE)
#undef CODE
    };
    const size_t count = sizeof codes / sizeof codes[0];
    assert_string_equal(farpool_error_name(FARPOOL_EINVAL), "EINVAL");
    assert_string_equal(farpool_error_text(FARPOOL_ETIMEDOUT), "timed out");
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(codes[i], -(int)i);
        for (size_t j = 0; j < i; j++) {
            assert_string_not_equal(farpool_error_name(codes[i]),
                                    farpool_error_name(codes[j]));
            assert_string_not_equal(farpool_error_text(codes[i]),
                                    farpool_error_text(codes[j]));
        }
    }
}

static void unknown_codes_have_names_too(void **state)
{
    (void)state;
    const int codes[] = {FARPOOL_END, -1000, INT32_MIN, INT32_MAX};
    for (size_t i = 0; i < 4; i++) {
        assert_string_equal(farpool_error_name(codes[i]), "UNKNOWN");
        assert_string_equal(farpool_error_text(codes[i]), "unknown error");
    }
}

static void set_fills_code_and_text_and_clears_the_rest(void **state)
{
    (void)state;
    farpool_error error;
    memset(&error, 0x55, sizeof error);
    assert_int_equal(error_set(&error, FARPOOL_EFULL, "%d of %s", 7, "them"),
                     FARPOOL_EFULL);
    assert_int_equal(error.code, FARPOOL_EFULL);
    assert_string_equal(error.text, "7 of them");
    assert_int_equal(error.exit_status, -1);
    assert_int_equal(error.signal, 0);
    assert_int_equal(error.pid, 0);
    assert_int_equal(error.attempt, 0);
    assert_true(error.index == FARPOOL_NO_INDEX);
    assert_string_equal(error.node, "");
    assert_string_equal(error.message, "");
    assert_string_equal(error.backtrace, "");
}

static void clear_is_no_error(void **state)
{
    (void)state;
    farpool_error error;
    memset(&error, 0x55, sizeof error);
    error_clear(&error);
    assert_int_equal(error.code, FARPOOL_OK);
    assert_true(error.index == FARPOOL_NO_INDEX);
    assert_string_equal(error.text, "");
}

static void set_cuts_what_is_too_long(void **state)
{
    (void)state;
    farpool_error error;
    char text[2 * sizeof error.text];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    error_set(&error, FARPOOL_EINVAL, "%s", text);
    assert_int_equal(strlen(error.text), sizeof error.text - 1);
}

static void set_may_quote_the_error_itself(void **state)
{
    (void)state;
    farpool_error error;
    error_set(&error, FARPOOL_ESYSTEM, "no route");
    error_set(&error, FARPOOL_ENOCOORDINATOR, "dialing: %s (%s)", error.text,
              farpool_error_name(error.code));
    assert_string_equal(error.text, "dialing: no route (ESYSTEM)");
}

static void null_is_allowed(void **state)
{
    (void)state;
    error_clear(NULL);
    assert_int_equal(error_set(NULL, FARPOOL_EINVAL, "%d", 1), FARPOOL_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_has_its_own_name_and_text),
        cmocka_unit_test(unknown_codes_have_names_too),
        cmocka_unit_test(set_fills_code_and_text_and_clears_the_rest),
        cmocka_unit_test(clear_is_no_error),
        cmocka_unit_test(set_cuts_what_is_too_long),
        cmocka_unit_test(set_may_quote_the_error_itself),
        cmocka_unit_test(null_is_allowed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
