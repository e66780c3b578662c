/* SPDX-License-Identifier: Apache-2.0
 *
 * refused.h: for the tests of the decoder: that it refuses, why, and without memory. */
#ifndef FARPOOL_TESTS_REFUSED_H
#define FARPOOL_TESTS_REFUSED_H

#include "tests/tools/random_message.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

/* `why` is part of the reason, NULL: whatever it is. */
static inline void assert_refused_as(const struct frames *frames, const char *why)
{
    struct message *message = NULL;
    const char *reason = NULL;
    mem_fail_after(0);
    assert_int_equal(message_decode(frames, &message, &reason), FARPOOL_EPROTOCOL);
    assert_int_equal(mem_fail_after(0), 0); /* nothing was allocated */
    assert_null(message);
    assert_non_null(reason);
    if (why && !strstr(reason, why))
        fail_msg("refused for \"%s\" instead of \"%s\"", reason, why);
}

static inline void assert_refused(const struct frames *frames)
{
    assert_refused_as(frames, NULL);
}

#endif
