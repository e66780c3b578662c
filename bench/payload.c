/* SPDX-License-Identifier: Apache-2.0
 *
 * payload.c: what a pool moves by the size of its payloads, 1 B to 1 GiB: a stream of
 * echoes of each size, results consumed as they come. bench/payload makes a table of it.
 *
 *   farpool-bench-payload SIZE [processes]   coordinator from FARPOOL_COORDINATOR
 *
 * Prints "stream_mb_s VALUE" and "stream_tasks_s VALUE". A shorter stream goes before the
 * measured one, so that every process is up and no first touch of memory is measured. */
#include "stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TASKS_MAX = 200000, WARM_PART = 4 };
static const size_t total_bytes = (size_t)512 << 20; /* of a stream, where tasks allow */

static int echo(farpool_task *task)
{
    size_t size;
    const void *input = farpool_task_input(task, &size);
    void *output = farpool_task_output(task, size);
    if (output != NULL)
        memcpy(output, input, size);
    return 0;
}
FARPOOL_BYTES_FUNCTION(echo)

static size_t tasks_of(size_t size, size_t processes)
{
    size_t tasks = total_bytes / size;
    if (tasks > TASKS_MAX)
        return TASKS_MAX;
    return tasks < processes ? processes : tasks;
}

int main(int argc, char **argv)
{
    farpool_error error;
    farpool_pool_options options = FARPOOL_POOL_OPTIONS;

    farpool_init(&argc, &argv);
    const size_t size = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
    options.processes = argc > 2 ? atoi(argv[2]) : 2;
    if (size == 0 || options.processes < 1) {
        fprintf(stderr, "usage: farpool-bench-payload SIZE [processes]\n");
        return 2;
    }
    farpool_pool *pool = farpool_open(NULL, &options, &error);
    if (pool == NULL) {
        fprintf(stderr, "farpool-bench: %s\n", error.text);
        return 1;
    }
    const size_t processes = (size_t)options.processes;
    const size_t count = tasks_of(size, processes);
    const size_t warm = count / WARM_PART;
    stream_run(pool, FARPOOL_REF(echo), size, warm < processes ? processes : warm);
    const double seconds = stream_run(pool, FARPOOL_REF(echo), size, count);
    printf("stream_mb_s %.3f\n", (double)count * (double)size / 1e6 / seconds);
    printf("stream_tasks_s %.1f\n", (double)count / seconds);
    fflush(stdout);
    farpool_pool_free(pool);
    return 0;
}
