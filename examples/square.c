/* SPDX-License-Identifier: Apache-2.0 */
#include <farpool.h>
#include <stdio.h>

static int square(int x)
{
    return x * x;
}
FARPOOL_FUNCTION(square, int, int)

int main(int argc, char **argv)
{
    farpool_init(&argc, &argv);
    int inputs[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, outputs[10];
    farpool_error error;
    farpool_pool *pool = farpool_open(NULL, NULL, &error);
    if (!pool || farpool_map(pool, square, inputs, 10, outputs, &error))
        return fprintf(stderr, "square: %s\n", error.text), 1;
    for (int i = 0; i < 10; i++)
        printf("%d ", outputs[i]);
    printf("\n");
    farpool_close(pool, NULL);
    farpool_pool_free(pool);
}
