/* SPDX-License-Identifier: Apache-2.0
 *
 * uninitialised.c: opens a pool without farpool_init, and checks what it is told. */
#include "farpool.h"

#include <string.h>

int main(void)
{
    farpool_error error;
    farpool_pool *pool = farpool_open(NULL, NULL, &error);

    if (pool != NULL || error.code != FARPOOL_ENOINIT)
        return 1;
    return strstr(error.text, "call farpool_init first") == NULL;
}
