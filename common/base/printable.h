/* SPDX-License-Identifier: Apache-2.0
 *
 * printable.h: text of other people's programs, on its way to a terminal. */
#ifndef FARPOOL_BASE_PRINTABLE_H
#define FARPOOL_BASE_PRINTABLE_H

#include <stddef.h>

/* Copies `size` bytes with a '?' for each that is no part of a UTF-8 character, or is a
 * control character other than a tab. Returns how many it has written: at most size. */
size_t printable_copy(char *to, const char *from, size_t size);

#endif
