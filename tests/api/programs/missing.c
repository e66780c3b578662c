/* SPDX-License-Identifier: Apache-2.0
 *
 * missing.c: the library that programs/lonely.c needs. */
__attribute__((visibility("default"))) int missing_number(void);

int missing_number(void)
{
    return 41;
}
