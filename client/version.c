/* SPDX-License-Identifier: Apache-2.0
 *
 * version.c: which library this is. The header's numbers are the program's; these are
 * the ones of the library that was linked. */
#include "farpool.h"

const char *farpool_version(void)
{
    return FARPOOL_VERSION;
}
