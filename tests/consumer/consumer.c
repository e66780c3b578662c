/* SPDX-License-Identifier: Apache-2.0
 *
 * consumer.c: somebody else's program, built against the installed package only. */
#include <farpool.h>
#include <stdio.h>

static double twice(double x)
{
    return 2 * x;
}
FARPOOL_FUNCTION(twice, double, double)

int main(int argc, char **argv)
{
    farpool_error error;
    double in[3] = {1, 2, 3}, out[3] = {0, 0, 0};

    farpool_init(&argc, &argv);
    farpool_pool *pool = farpool_open(NULL, NULL, &error);
    if (!pool || farpool_map(pool, twice, in, 3, out, &error)) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    farpool_pool_free(pool);
    printf("%g %g %g\n", out[0], out[1], out[2]);
    return out[0] == 2 && out[1] == 4 && out[2] == 6 ? 0 : 1;
}
