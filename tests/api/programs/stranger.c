/* SPDX-License-Identifier: Apache-2.0
 *
 * stranger.c: a program that never calls farpool_init. */
int main(void)
{
    return 0;
}
