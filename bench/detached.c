/* SPDX-License-Identifier: Apache-2.0
 *
 * detached.c: what it costs to leave a job with the coordinator: the same tasks by an
 * attached imap and as a detached job, submitted, run and collected, and many small
 * detached jobs at once. Prints "NAME VALUE" lines for bench/detached; every result is
 * checked.
 *
 *   farpool-bench-detached TASKS JOBS     coordinator from FARPOOL_COORDINATOR
 */
#include <farpool.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { DEADLINE_MS = 600000, TASKS_OF_JOB = 10 };

static int64_t successor(int64_t x)
{
    return x + 1;
}
FARPOOL_FUNCTION(successor, int64_t, int64_t)

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void check(int code, const farpool_error *error)
{
    if (code == FARPOOL_OK)
        return;
    fprintf(stderr, "bench: %s\n", error->text);
    exit(1);
}

static void check_output(const farpool_bytes *output, int64_t input)
{
    int64_t value = -1;
    if (output->size == sizeof value)
        value = *(const int64_t *)output->data;
    if (value == input + 1)
        return;
    fprintf(stderr, "bench: task %" PRId64 " gave %" PRId64 "\n", input, value);
    exit(1);
}

struct inputs {
    int64_t next, end, value;
};

static int next_input(void *user, farpool_bytes *ret_item, char message[256])
{
    struct inputs *inputs = user;
    (void)message;
    if (inputs->next == inputs->end)
        return FARPOOL_END;
    inputs->value = inputs->next++;
    *ret_item = (farpool_bytes){&inputs->value, sizeof inputs->value};
    return FARPOOL_OK;
}

static void print_us(const char *name, double seconds, int64_t count)
{
    printf("%s %.2f\n", name, seconds * 1e6 / (double)count);
    fflush(stdout);
}

static void measure_attached(int64_t tasks)
{
    farpool_error error;
    farpool_bytes output;
    int code;
    struct inputs inputs = {.end = tasks};
    farpool_pool *pool = farpool_open(NULL, NULL, &error);
    if (!pool)
        check(error.code, &error);
    const double begin = now_s();
    farpool_iterator *iterator =
        farpool_imap(pool, FARPOOL_REF(successor), next_input, &inputs, NULL, &error);
    if (!iterator)
        check(error.code, &error);
    for (int64_t i = 0; (code = farpool_next(iterator, DEADLINE_MS, &output, NULL,
                                             &error)) != FARPOOL_END;
         i++) {
        check(code, &error);
        check_output(&output, i);
    }
    print_us("attached_us", now_s() - begin, tasks);
    farpool_iterator_free(iterator);
    farpool_terminate(pool, NULL);
    farpool_pool_free(pool);
}

static farpool_detached *submit(const char *name, int64_t tasks)
{
    farpool_error error;
    struct inputs inputs = {.end = tasks};
    check(farpool_submit(NULL, name, FARPOOL_REF(successor), next_input, &inputs, NULL,
                         &error),
          &error);
    farpool_detached *job = farpool_attach(NULL, name, DEADLINE_MS, &error);
    if (!job)
        check(error.code, &error);
    return job;
}

static void collect(farpool_detached *job)
{
    farpool_error error;
    farpool_bytes output;
    int code;
    for (int64_t i = 0; (code = farpool_detached_next(job, DEADLINE_MS, &output, NULL,
                                                      &error)) != FARPOOL_END;
         i++) {
        check(code, &error);
        check_output(&output, i);
    }
    check(farpool_detached_forget(job, DEADLINE_MS, &error), &error);
    farpool_detached_free(job);
}

static void measure_detached(int64_t tasks)
{
    farpool_error error;
    const double begin = now_s();
    farpool_detached *job = submit("bench", tasks);
    const double submitted = now_s();
    check(farpool_detached_wait(job, DEADLINE_MS, &error), &error);
    const double ended = now_s();
    collect(job);
    print_us("submit_us", submitted - begin, tasks);
    print_us("run_us", ended - submitted, tasks);
    print_us("collect_us", now_s() - ended, tasks);
    print_us("detached_us", now_s() - begin, tasks);
}

static void measure_many(int count)
{
    farpool_error error;
    farpool_detached **jobs = calloc((size_t)count, sizeof *jobs);
    const double begin = now_s();
    for (int i = 0; jobs != NULL && i < count; i++) {
        char name[32];
        snprintf(name, sizeof name, "many%d", i);
        jobs[i] = submit(name, TASKS_OF_JOB);
    }
    const double submitted = now_s();
    for (int i = 0; jobs != NULL && i < count; i++)
        check(farpool_detached_wait(jobs[i], DEADLINE_MS, &error), &error);
    print_us("many_submit_us", submitted - begin, count);
    print_us("many_us", now_s() - begin, count);
    for (int i = 0; jobs != NULL && i < count; i++)
        collect(jobs[i]);
    free(jobs);
}

int main(int argc, char **argv)
{
    if (farpool_init(&argc, &argv) != 0)
        return 2;
    if (argc != 3) {
        fputs("usage: farpool-bench-detached TASKS JOBS\n", stderr);
        return 2;
    }
    const long tasks = strtol(argv[1], NULL, 10), jobs = strtol(argv[2], NULL, 10);
    measure_attached(tasks);
    measure_detached(tasks);
    measure_many((int)jobs);
    return 0;
}
