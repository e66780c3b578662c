/* SPDX-License-Identifier: Apache-2.0
 *
 * error.h: filling a farpool_error. Codes and texts are the table in farpool.h.
 * No I/O, no errno: a shell that met an errno puts its text into `text`. */
#ifndef FARPOOL_BASE_ERROR_H
#define FARPOOL_BASE_ERROR_H

#include "farpool.h"

/* Empties an error: OK, no index, no process. error may be NULL. */
void error_clear(farpool_error *error);

/* Fills code and text and clears the rest; cuts what is too long. error may be NULL.
 * Returns code, so that a function can end with `return error_set(...)`. */
int error_set(farpool_error *error, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
