/* SPDX-License-Identifier: Apache-2.0
 *
 * other.c: another Farpool program, whose functions a test's pool runs. */
#include "farpool.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int64_t cube(int64_t value)
{
    return value * value * value;
}
FARPOOL_FUNCTION(cube, int64_t, int64_t)

/* The content of a file beside the program. */
static int read_beside(farpool_task *task)
{
    char name[64], text[256];
    size_t size, count;
    const void *input = farpool_task_input(task, &size);
    FILE *file;

    snprintf(name, sizeof name, "%.*s", (int)size, (const char *)input);
    file = fopen(name, "r");
    if (file == NULL)
        return farpool_fail(task, "cannot open %s", name);
    count = fread(text, 1, sizeof text, file);
    fclose(file);
    return farpool_task_write(task, text, count);
}
FARPOOL_BYTES_FUNCTION(read_beside)

int main(int argc, char **argv)
{
    if (farpool_init(&argc, &argv) != 0)
        return 2;
    puts("started by hand");
    return 0;
}
