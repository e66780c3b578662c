/* SPDX-License-Identifier: Apache-2.0
 *
 * bench.c: Farpool's side of bench/run and bench/compare. Each workload prints "NAME
 * VALUE" once for each figure; the peers (bench/peers) print the same names for the same
 * work. Every result is checked: a fast wrong answer is a failure.
 *
 *   farpool-bench WORKLOAD [processes]     coordinator from FARPOOL_COORDINATOR
 */
#include "idle.h"
#include "stream.h"

#include <farpool.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    MIB = 1 << 20,
    WARM_TASKS = 4,
    WARM_US = 2000,
    EFFICIENCY_JOBS = 5,
    LONG_US = 20000
};

static int64_t noop(int64_t x)
{
    return x + 1;
}
FARPOOL_FUNCTION(noop, int64_t, int64_t)

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Burns so many microseconds of this process's own CPU time, so that a core which is
 * shared with other work still does the same amount of it. */
static int64_t spin(int64_t duration_us)
{
    uint64_t end = cpu_ns() + (uint64_t)duration_us * 1000;
    while (cpu_ns() < end) {
    }
    return duration_us;
}
FARPOOL_FUNCTION(spin, int64_t, int64_t)

static int echo(farpool_task *task)
{
    size_t size;
    const void *input = farpool_task_input(task, &size);
    void *output = farpool_task_output(task, size);
    if (output)
        memcpy(output, input, size);
    return 0;
}
FARPOOL_BYTES_FUNCTION(echo)

/* Of run_kill: as many microseconds as the input says, or -1: as many as others, and at
 * the first attempt it kills its process. */
static int spin_or_die(farpool_task *task)
{
    size_t size;
    int64_t us;
    memcpy(&us, farpool_task_input(task, &size), sizeof us);
    if (us < 0 && farpool_task_attempt(task) == 1)
        raise(SIGKILL);
    spin(us < 0 ? LONG_US : us);
    return 0;
}
FARPOOL_BYTES_FUNCTION(spin_or_die)

/* Kills its process at the first attempt. */
static int killer(farpool_task *task)
{
    if (farpool_task_attempt(task) == 1)
        raise(SIGKILL);
    return 0;
}
FARPOOL_BYTES_FUNCTION(killer)

static void die(const farpool_error *error)
{
    fprintf(stderr, "farpool-bench: %s\n", error->text);
    exit(1);
}

static void require(bool right, const char *what)
{
    if (!right) {
        fprintf(stderr, "farpool-bench: wrong result: %s\n", what);
        exit(1);
    }
}

static double seconds_since(uint64_t start_ns)
{
    return (double)(now_ns() - start_ns) / 1e9;
}

/* So many zeros, in pages that are there: what is touched first is paid for page by page,
 * by any program (8 us each on a virtual machine), and a compiler makes calloc, which
 * touches nothing, of malloc and memset. */
static int64_t *touched(size_t count)
{
    int64_t *values = malloc(count * sizeof *values);
    require(values, "memory");
    for (size_t i = 0; i < count; i++)
        *(volatile int64_t *)&values[i] = 0;
    return values;
}

/* A map of `count` no-ops, with that chunk size; prints tasks/s. */
static void run_noop(farpool_pool *pool, const char *name, size_t count, int64_t chunk)
{
    farpool_error error;
    farpool_job_options options = FARPOOL_JOB_OPTIONS;
    int64_t *inputs = touched(count), *outputs = touched(count);
    for (size_t i = 0; i < count; i++)
        inputs[i] = (int64_t)i;
    options.chunk_size = chunk;
    uint64_t start = now_ns();
    if (farpool_map_typed(pool, FARPOOL_REF(noop), inputs, count, outputs, &options,
                          &error))
        die(&error);
    double seconds = seconds_since(start);
    for (size_t i = 0; i < count; i++)
        require(outputs[i] == (int64_t)i + 1, name);
    printf("%s %.0f\n", name, (double)count / seconds);
    free(inputs);
    free(outputs);
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void run_apply(farpool_pool *pool)
{
    enum { COUNT = 3000 };
    static uint64_t times[COUNT];
    farpool_error error;
    int64_t output;
    for (int64_t i = -100; i < COUNT; i++) {
        uint64_t start = now_ns();
        if (farpool_apply(pool, noop, i, &output, &error))
            die(&error);
        if (i >= 0)
            times[i] = now_ns() - start;
        require(output == i + 1, "apply");
    }
    qsort(times, COUNT, sizeof times[0], compare_u64);
    printf("apply_p50_us %.2f\n", (double)times[COUNT / 2] / 1e3);
    printf("apply_p99_us %.2f\n", (double)times[COUNT * 99 / 100] / 1e3);
}

/* In a pool of one process: from a call whose process is killed at once to its result,
 * which the next process gives. */
static void run_replace(farpool_pool *pool)
{
    enum { COUNT = 31 };
    static uint64_t times[COUNT];
    farpool_error error;
    for (int i = 0; i < COUNT; i++) {
        farpool_job *job;
        uint64_t start = now_ns();
        if (farpool_apply_bytes(pool, FARPOOL_REF(killer), NULL, 0, &job, &error))
            die(&error);
        times[i] = now_ns() - start;
        farpool_job_free(job);
    }
    qsort(times, COUNT, sizeof times[0], compare_u64);
    printf("replace_p50_ms %.2f\n", (double)times[COUNT / 2] / 1e6);
    printf("replace_max_ms %.2f\n", (double)times[COUNT - 1] / 1e6);
}

static void run_echo(farpool_pool *pool)
{
    enum { COUNT = 400 };
    static farpool_bytes items[COUNT];
    farpool_error error;
    farpool_job *job;
    char *block = malloc(MIB);
    require(block, "memory");
    memset(block, 'x', MIB);
    for (size_t i = 0; i < COUNT; i++)
        items[i] = (farpool_bytes){block, MIB};
    uint64_t start = now_ns();
    if (farpool_map_bytes(pool, FARPOOL_REF(echo), items, COUNT, NULL, &job, &error))
        die(&error);
    double seconds = seconds_since(start);
    for (size_t i = 0; i < COUNT; i++) {
        size_t size;
        const char *output = farpool_job_output(job, i, &size);
        require(size == MIB && output[0] == 'x' && output[MIB - 1] == 'x', "echo");
    }
    farpool_job_free(job);
    free(block);
    printf("echo_mb_s %.0f\n", COUNT * (double)MIB / 1e6 / seconds);
}

/* What is left of a map of short tasks a millisecond behind it. */
static void run_idle(farpool_pool *pool)
{
    run_noop(pool, "before_idle_s", 1000000, FARPOOL_AUTO);
    const double percent = idle_percent();
    require(percent >= 0, "the processes are not this program's children");
    printf("idle_pct %.3f\n", percent);
}

/* The same tasks, more of them, but each result is consumed as it comes; so it is in a
 * shorter stream before, whose time is not taken. */
static void run_echostream(farpool_pool *pool)
{
    enum { COUNT = 2000, WARM = 200 };
    stream_run(pool, FARPOOL_REF(echo), MIB, WARM);
    double seconds = stream_run(pool, FARPOOL_REF(echo), MIB, COUNT);
    printf("echostream_mb_s %.0f\n", COUNT * (double)MIB / 1e6 / seconds);
}

static int compare_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Jobs of count tasks of duration_us, one after the other: what share of the processes'
 * time was work in the median one. */
static void run_efficiency(farpool_pool *pool, const char *name, size_t count,
                           int64_t duration_us, int64_t processes)
{
    farpool_error error;
    double shares[EFFICIENCY_JOBS];
    int64_t *inputs = touched(count), *outputs = touched(count);
    for (size_t i = 0; i < count; i++)
        inputs[i] = duration_us;
    for (int job = 0; job < EFFICIENCY_JOBS; job++) {
        memset(outputs, 0, count * sizeof *outputs);
        uint64_t start = now_ns();
        if (farpool_map(pool, spin, inputs, count, outputs, &error))
            die(&error);
        shares[job] = 100 * (double)count * (double)duration_us / 1e6 /
                      (double)processes / seconds_since(start);
        for (size_t i = 0; i < count; i++)
            require(outputs[i] == duration_us, name);
    }
    qsort(shares, EFFICIENCY_JOBS, sizeof shares[0], compare_double);
    printf("%s %.2f\n", name, shares[EFFICIENCY_JOBS / 2]);
    free(inputs);
    free(outputs);
}

/* One call after the other, none waited for before all are under way. */
static void run_async(farpool_pool *pool)
{
    enum { COUNT = 200000 };
    farpool_error error;
    farpool_job **jobs = malloc(COUNT * sizeof(farpool_job *));
    require(jobs, "memory");
    uint64_t start = now_ns();
    for (int64_t i = 0; i < COUNT; i++)
        if (!(jobs[i] = farpool_apply_async(pool, noop, i, NULL, &error)))
            die(&error);
    for (int64_t i = 0; i < COUNT; i++) {
        size_t size;
        int64_t output;
        if (farpool_job_get(jobs[i], FARPOOL_FOREVER, &error))
            die(&error);
        memcpy(&output, farpool_job_output(jobs[i], 0, &size), sizeof output);
        require(output == i + 1, "async");
    }
    printf("async_s %.0f\n", COUNT / seconds_since(start));
    for (int64_t i = 0; i < COUNT; i++)
        farpool_job_free(jobs[i]);
    free(jobs);
}

/* Tasks of 1 ms with long ones among them, one at a place of chance or two at the end:
 * the time, as a multiple of the work a process. */
static void run_skew(farpool_pool *pool, const char *name, bool at_end, int64_t processes)
{
    enum { COUNT = 1501 };
    static int64_t inputs[COUNT], outputs[COUNT];
    farpool_error error;
    double total = 0;
    for (int i = 0; i < COUNT; i++)
        inputs[i] = 1000;
    if (at_end)
        inputs[COUNT - 1] = inputs[COUNT - 2] = 300000;
    else
        inputs[now_ns() / 1000 % COUNT] = 500000;
    for (int i = 0; i < COUNT; i++)
        total += (double)inputs[i] / 1e6;
    uint64_t start = now_ns();
    if (farpool_map(pool, spin, inputs, COUNT, outputs, &error))
        die(&error);
    printf("%s %.3f\n", name, seconds_since(start) / (total / (double)processes));
    require(memcmp(inputs, outputs, sizeof inputs) == 0, name);
}

/* What a process costs that is killed in the middle, beyond the task that it was in. */
static void run_kill(farpool_pool *pool)
{
    enum { COUNT = 200 };
    static int64_t us[COUNT];
    static farpool_bytes items[COUNT];
    farpool_error error;
    double seconds[2];
    for (int i = 0; i < COUNT; i++) {
        us[i] = LONG_US;
        items[i] = (farpool_bytes){&us[i], sizeof us[i]};
    }
    for (int kill = 0; kill < 2; kill++) {
        farpool_job *job;
        us[COUNT / 2] = kill ? -1 : LONG_US;
        uint64_t start = now_ns();
        if (farpool_map_bytes(pool, FARPOOL_REF(spin_or_die), items, COUNT, NULL, &job,
                              &error))
            die(&error);
        seconds[kill] = seconds_since(start);
        farpool_job_free(job);
    }
    printf("kill_lost_ms %.1f\n", (seconds[1] - seconds[0]) * 1e3);
}

/* Until every process is up and has run something: the peer's are when its pool is. */
static void warm_up(farpool_pool *pool, int64_t processes)
{
    farpool_error error;
    const size_t count = (size_t)processes * WARM_TASKS;
    int64_t *inputs = malloc(count * sizeof *inputs);
    int64_t *outputs = malloc(count * sizeof *outputs);
    require(inputs && outputs, "memory");
    for (size_t i = 0; i < count; i++)
        inputs[i] = WARM_US;
    if (farpool_map(pool, spin, inputs, count, outputs, &error))
        die(&error);
    free(inputs);
    free(outputs);
}

int main(int argc, char **argv)
{
    farpool_error error;
    farpool_pool_options options = FARPOOL_POOL_OPTIONS;
    int64_t output;

    farpool_init(&argc, &argv);
    if (argc < 2) {
        fprintf(stderr,
                "usage: farpool-bench noop1|noop|async|apply|echo|echostream|eff1ms"
                "|eff100us|eff10us|skew|skewend|kill|start|replace|idle [processes]\n");
        return 2;
    }
    const char *workload = argv[1];
    options.processes = argc > 2 ? atoi(argv[2]) : 2;
    if (strcmp(workload, "replace") == 0)
        options.processes = 1;
    farpool_pool *pool = farpool_open(NULL, &options, &error);
    if (!pool)
        die(&error);
    for (int64_t i = 0; i < 4; i++)
        if (farpool_apply(pool, noop, i, &output, &error))
            die(&error);
    if (strcmp(workload, "start") != 0)
        warm_up(pool, options.processes);
    if (strcmp(workload, "noop1") == 0)
        run_noop(pool, "noop1_s", 1000000, 1);
    else if (strcmp(workload, "noop") == 0)
        run_noop(pool, "noop_s", 10000000, FARPOOL_AUTO);
    else if (strcmp(workload, "apply") == 0)
        run_apply(pool);
    else if (strcmp(workload, "echo") == 0)
        run_echo(pool);
    else if (strcmp(workload, "echostream") == 0)
        run_echostream(pool);
    else if (strcmp(workload, "eff1ms") == 0)
        run_efficiency(pool, "eff1ms_pct", 2000, 1000, options.processes);
    else if (strcmp(workload, "eff100us") == 0)
        run_efficiency(pool, "eff100us_pct", 20000, 100, options.processes);
    else if (strcmp(workload, "eff10us") == 0)
        run_efficiency(pool, "eff10us_pct", 200000, 10, options.processes);
    else if (strcmp(workload, "async") == 0)
        run_async(pool);
    else if (strcmp(workload, "skew") == 0)
        run_skew(pool, "skew_x", false, options.processes);
    else if (strcmp(workload, "skewend") == 0)
        run_skew(pool, "skewend_x", true, options.processes);
    else if (strcmp(workload, "kill") == 0)
        run_kill(pool);
    else if (strcmp(workload, "replace") == 0)
        run_replace(pool);
    else if (strcmp(workload, "idle") == 0)
        run_idle(pool);
    else if (strcmp(workload, "start") == 0)
        puts("start_done 1"); /* bench/run takes the time, from exec to here */
    else
        require(false, "no such workload");
    fflush(stdout);
    farpool_pool_free(pool);
    return 0;
}
