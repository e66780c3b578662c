/* SPDX-License-Identifier: Apache-2.0
 *
 * lonely.c: a program that needs a shared library (missing.c); tests move it to where
 * that library is not. */
#include "farpool.h"

int missing_number(void);

static int64_t number(int64_t value)
{
    return value + missing_number();
}
FARPOOL_FUNCTION(number, int64_t, int64_t)

int main(int argc, char **argv)
{
    return farpool_init(&argc, &argv) != 0;
}
