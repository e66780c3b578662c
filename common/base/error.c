/* SPDX-License-Identifier: Apache-2.0
 *
 * error.c: names and texts of the error codes, and filling a farpool_error.
 *
 * The one table is FARPOOL_ERRORS in farpool.h. Here is no I/O and no errno: whoever met
 * an errno puts its text into the error's text. */
#include "common/base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *farpool_error_name(int code)
{
    switch (code) {
#define NAME(name, value, text)                                                          \
    case value:                                                                          \
        return #name;
        FARPOOL_ERRORS(NAME)
#undef NAME
    default:
        return "UNKNOWN";
    }
}

const char *farpool_error_text(int code)
{
    switch (code) {
#define TEXT(name, value, text)                                                          \
    case value:                                                                          \
        return text;
        FARPOOL_ERRORS(TEXT)
#undef TEXT
    default:
        return "unknown error";
    }
}

void error_clear(farpool_error *error)
{
    if (!error)
        return;
    memset(error, 0, sizeof *error);
    error->code = FARPOOL_OK;
    error->exit_status = -1;
    error->index = FARPOOL_NO_INDEX;
}

int error_set(farpool_error *error, int code, const char *format, ...)
{
    if (!error)
        return code;
    /* Written aside first: the arguments may point into the error itself. */
    char text[sizeof error->text];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    error_clear(error);
    error->code = code;
    memcpy(error->text, text, sizeof text);
    return code;
}
