/* SPDX-License-Identifier: Apache-2.0
 *
 * printable.c: what may be shown on a terminal without driving it. */
#include "common/base/printable.h"

#include <string.h>

/* How many bytes of [at, end) make up one character that may be printed; 0: none. */
static size_t printable(const unsigned char *at, const unsigned char *end)
{
    const size_t size = at[0] < 0x80 ? 1 : at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : 4;
    if (at[0] == '\t' || (at[0] >= 0x20 && at[0] < 0x7f))
        return 1;
    if (at[0] < 0xc2 || at[0] > 0xf4 || (size_t)(end - at) < size)
        return 0;
    for (size_t i = 1; i < size; i++)
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    /* U+0080 to U+009F are controls, too; overlong ones and surrogates are no text. */
    if ((at[0] == 0xc2 && at[1] < 0xa0) || (at[0] == 0xe0 && at[1] < 0xa0) ||
        (at[0] == 0xed && at[1] > 0x9f) || (at[0] == 0xf0 && at[1] < 0x90) ||
        (at[0] == 0xf4 && at[1] > 0x8f))
        return 0;
    return size;
}

size_t printable_copy(char *to, const char *from, size_t size)
{
    const unsigned char *at = (const unsigned char *)from, *end = at + size;
    char *const begin = to;
    while (at < end) {
        const size_t length = printable(at, end);
        if (length > 0)
            memcpy(to, at, length);
        else
            *to = '?';
        to += length > 0 ? length : 1;
        at += length > 0 ? length : 1;
    }
    return (size_t)(to - begin);
}
