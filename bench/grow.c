/* SPDX-License-Identifier: Apache-2.0
 *
 * grow.c: the jobs of bench/growth: the same work, more and more of it. Every result is
 * checked.
 *
 *   farpool-bench-grow imap TASKS      tasks that do nothing, pulled and read one by one:
 *                                      ns a task, and resident memory at its most
 *   farpool-bench-grow map TASKS       bytes a task of memory beside inputs and outputs
 *   farpool-bench-grow chunks TASKS    one map with chunks of one task: seconds
 *
 * Coordinator from FARPOOL_COORDINATOR, else two processes of this machine. */
#include <farpool.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WARM_TASKS = 10000 };

static int64_t noop(int64_t x)
{
    return x + 1;
}
FARPOOL_FUNCTION(noop, int64_t, int64_t)

static _Noreturn void die(const char *text)
{
    fprintf(stderr, "farpool-bench-grow: %s\n", text);
    exit(1);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* A figure of /proc/self/status, in KiB. */
static int64_t status_kib(const char *name)
{
    char line[256];
    int64_t kib = -1;
    FILE *file = fopen("/proc/self/status", "r");
    while (file != NULL && kib < 0 && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, name, strlen(name)) == 0)
            kib = strtoll(line + strlen(name) + 1, NULL, 10);
    if (file != NULL)
        fclose(file);
    return kib;
}

struct counter {
    int64_t next, end;
};

static int count_on(void *user, farpool_bytes *ret_item, char message[256])
{
    struct counter *counter = user;
    static int64_t value;
    (void)message;
    if (counter->next == counter->end)
        return FARPOOL_END;
    value = counter->next++;
    *ret_item = (farpool_bytes){&value, sizeof value};
    return 0;
}

/* Its seconds. */
static double run_imap(farpool_pool *pool, int64_t count)
{
    farpool_error error;
    farpool_bytes output;
    struct counter counter = {0, count};
    int64_t value;
    int code;
    const double began = now();
    farpool_iterator *iterator =
        farpool_imap(pool, FARPOOL_REF(noop), count_on, &counter, NULL, &error);
    if (iterator == NULL)
        die(error.text);
    for (int64_t i = 0; i < count; i++) {
        code = farpool_next(iterator, FARPOOL_FOREVER, &output, NULL, &error);
        if (code != 0)
            die(error.text);
        memcpy(&value, output.data, sizeof value);
        if (output.size != sizeof value || value != i + 1)
            die("imap gave a wrong result");
    }
    if (farpool_next(iterator, FARPOOL_FOREVER, &output, NULL, &error) != FARPOOL_END)
        die("imap gave more than there is");
    farpool_iterator_free(iterator);
    return now() - began;
}

static void run_map(farpool_pool *pool, int64_t count, bool chunks)
{
    farpool_error error;
    int64_t *inputs = malloc((size_t)count * sizeof *inputs);
    int64_t *outputs = malloc((size_t)count * sizeof *outputs);
    farpool_job_options options = FARPOOL_JOB_OPTIONS;
    if (inputs == NULL || outputs == NULL)
        die("no memory");
    for (int64_t i = 0; i < count; i++)
        inputs[i] = outputs[i] = i;
    if (chunks)
        options.chunk_size = 1;
    const int64_t before_kib = status_kib("VmRSS");
    const double began = now();
    if (farpool_map_typed(pool, FARPOOL_REF(noop), inputs, (size_t)count, outputs,
                          &options, &error) != 0)
        die(error.text);
    const double seconds = now() - began;
    for (int64_t i = 0; i < count; i++)
        if (outputs[i] != i + 1)
            die("map gave a wrong result");
    if (chunks)
        printf("seconds %.3f\n", seconds);
    else
        printf("bytes_a_task %.1f\n",
               (double)(status_kib("VmHWM") - before_kib) * 1024 / (double)count);
    free(inputs);
    free(outputs);
}

int main(int argc, char **argv)
{
    farpool_error error;
    farpool_init(&argc, &argv);
    const int64_t count = argc == 3 ? strtoll(argv[2], NULL, 10) : 0;
    if (count < 1)
        die("usage: farpool-bench-grow imap|map|chunks TASKS");
    farpool_pool *pool = farpool_open(NULL, NULL, &error);
    if (pool == NULL)
        die(error.text);
    run_imap(pool, WARM_TASKS);
    if (strcmp(argv[1], "imap") == 0)
        printf("ns_a_task %.1f\nresident_kib %" PRId64 "\n",
               run_imap(pool, count) * 1e9 / (double)count, status_kib("VmHWM"));
    else if (strcmp(argv[1], "map") == 0)
        run_map(pool, count, false);
    else if (strcmp(argv[1], "chunks") == 0)
        run_map(pool, count, true);
    else
        die("usage: farpool-bench-grow imap|map|chunks TASKS");
    farpool_pool_free(pool);
    return 0;
}
