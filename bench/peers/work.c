/* SPDX-License-Identifier: Apache-2.0 */
#include "work.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    MIB = 1 << 20,
    NOOPS = 1000000,
    CHUNK = 1000,
    ECHOES = 200,
    STREAMED = 400,
    WARM = 50,
    CALLS = 2000,
    JOBS = 5,
    SKEWED = 1501,
    LONG_TASKS = 200,
    LONG_US = 20000,
};

static int64_t result_sum;
static long result_count;
static size_t result_bytes;
static void *kept[ECHOES];
static bool keeps; /* large results, as a map does */

void work_die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "%s%s\n", errno ? ": " : "", errno ? strerror(errno) : "");
    exit(1);
}

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---------------------------------------------------------------------- in a worker */

/* The first process that comes here ends with SIGKILL. */
static void kill_once(void)
{
    const char *marker = getenv("BENCH_MARKER");
    const int fd = marker ? open(marker, O_CREAT | O_EXCL | O_WRONLY, 0600) : -1;
    if (fd >= 0)
        raise(SIGKILL);
}

void work_do(enum work_op op, void *item, size_t size)
{
    int64_t value;
    if (op == WORK_NOOP) {
        for (size_t i = 0; i + sizeof value <= size; i += sizeof value) {
            memcpy(&value, (char *)item + i, sizeof value);
            value++;
            memcpy((char *)item + i, &value, sizeof value);
        }
    } else if (op == WORK_SPIN) {
        memcpy(&value, item, sizeof value);
        if (value < 0)
            kill_once();
        const uint64_t us = value < 0 ? LONG_US : (uint64_t)value;
        const uint64_t end = clock_ns(CLOCK_THREAD_CPUTIME_ID) + us * 1000;
        while (clock_ns(CLOCK_THREAD_CPUTIME_ID) < end)
            ;
    }
}

/* ------------------------------------------------------------------- in the client */

void work_result(const void *data, size_t size)
{
    if (keeps && result_count < ECHOES) {
        void *copy = malloc(size);
        if (copy == NULL)
            work_die("memory");
        kept[result_count] = memcpy(copy, data, size);
    }
    result_count++;
    result_bytes += size;
    if (size >= MIB)
        return;
    for (size_t i = 0; i + sizeof(int64_t) <= size; i += sizeof(int64_t)) {
        int64_t value;
        memcpy(&value, (const char *)data + i, sizeof value);
        result_sum += value;
    }
}

static double run(const struct work_peer *peer, const struct work_items *items,
                  long window)
{
    result_sum = 0;
    result_count = 0;
    result_bytes = 0;
    const uint64_t start = clock_ns(CLOCK_MONOTONIC);
    peer->run(items, window);
    const double seconds = (double)(clock_ns(CLOCK_MONOTONIC) - start) / 1e9;
    errno = 0;
    if (result_count != items->count)
        work_die("%ld results of %ld tasks", result_count, items->count);
    return seconds;
}

static void expect_sum(int64_t sum)
{
    errno = 0;
    if (result_sum != sum)
        work_die("wrong results: their sum is %lld, not %lld", (long long)result_sum,
                 (long long)sum);
}

static void run_noops(const struct work_peer *peer, const char *name, long chunk)
{
    static int64_t values[NOOPS];
    for (int64_t i = 0; i < NOOPS; i++)
        values[i] = i;
    const size_t bytes = (size_t)chunk * sizeof(int64_t);
    const long tasks = chunk == 1 ? NOOPS / 10 : NOOPS;
    const struct work_items items = {WORK_NOOP, values, bytes, bytes, tasks / chunk};
    const double seconds = run(peer, &items, peer->small_window);
    expect_sum((int64_t)tasks * (tasks + 1) / 2);
    printf("%s %.0f\n", name, (double)tasks / seconds);
}

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void run_apply(const struct work_peer *peer)
{
    static double us[CALLS];
    for (int64_t i = -100; i < CALLS; i++) {
        const struct work_items items = {WORK_NOOP, &i, sizeof i, sizeof i, 1};
        const double seconds = run(peer, &items, 1);
        expect_sum(i + 1);
        if (i >= 0)
            us[i] = seconds * 1e6;
    }
    qsort(us, CALLS, sizeof us[0], compare_doubles);
    printf("apply_p50_us %.2f\n", us[CALLS / 2]);
    printf("apply_p99_us %.2f\n", us[CALLS * 99 / 100]);
}

static double run_blocks(const struct work_peer *peer, long count)
{
    char *block = malloc(MIB);
    if (block == NULL)
        work_die("memory");
    memset(block, 'x', MIB);
    const struct work_items items = {WORK_ECHO, block, 0, MIB, count};
    const double seconds = run(peer, &items, peer->large_window);
    if (result_bytes != (size_t)count * MIB)
        work_die("%zu bytes came back", result_bytes);
    free(block);
    return (double)count * MIB / 1e6 / seconds;
}

static void run_echo(const struct work_peer *peer)
{
    keeps = true;
    printf("echo_mb_s %.0f\n", run_blocks(peer, ECHOES));
    for (long i = 0; i < ECHOES; i++)
        free(kept[i]);
}

/* Each result is consumed as it comes; so are those before, whose time is not taken. */
static void run_echostream(const struct work_peer *peer)
{
    run_blocks(peer, WARM);
    printf("echostream_mb_s %.0f\n", run_blocks(peer, STREAMED));
}

/* Tasks of one length, a second of work for each of two processes; the median job. */
static void run_efficiency(const struct work_peer *peer, const char *name, int64_t us)
{
    double shares[JOBS];
    const struct work_items items = {WORK_SPIN, &us, 0, sizeof us, 2000000 / us};
    for (int i = 0; i < JOBS; i++)
        shares[i] = 100 / run(peer, &items, peer->spin_window);
    qsort(shares, JOBS, sizeof shares[0], compare_doubles);
    printf("%s %.2f\n", name, shares[JOBS / 2]);
}

/* Tasks of 1 ms, and long ones: one at a place of chance, or two at the end. */
static void run_skew(const struct work_peer *peer, const char *name, bool at_end)
{
    int64_t us[SKEWED];
    double total = 0;
    srand((unsigned)getpid());
    for (int i = 0; i < SKEWED; i++)
        us[i] = 1000;
    if (at_end)
        us[SKEWED - 1] = us[SKEWED - 2] = 300000;
    else
        us[rand() % SKEWED] = 500000;
    for (int i = 0; i < SKEWED; i++)
        total += (double)us[i] / 1e6;
    const struct work_items items = {WORK_SPIN, us, sizeof us[0], sizeof us[0], SKEWED};
    printf("%s %.3f\n", name, run(peer, &items, peer->spin_window) / (total / 2));
}

/* What a process costs that is killed in the middle, beyond the task that it was in. */
static void run_kill(const struct work_peer *peer)
{
    int64_t us[LONG_TASKS];
    for (int i = 0; i < LONG_TASKS; i++)
        us[i] = LONG_US;
    const struct work_items items = {WORK_SPIN, us, sizeof us[0], sizeof us[0],
                                     LONG_TASKS};
    const double whole = run(peer, &items, peer->spin_window);
    us[LONG_TASKS / 2] = -1;
    const double killed = run(peer, &items, peer->spin_window);
    printf("kill_lost_ms %.1f\n", (killed - whole) * 1e3);
}

void work_run(const char *name, const struct work_peer *peer)
{
    if (strcmp(name, "noop1") == 0)
        run_noops(peer, "noop1_s", 1);
    else if (strcmp(name, "noop") == 0)
        run_noops(peer, "noop_s", CHUNK);
    else if (strcmp(name, "apply") == 0)
        run_apply(peer);
    else if (strcmp(name, "echo") == 0)
        run_echo(peer);
    else if (strcmp(name, "echostream") == 0)
        run_echostream(peer);
    else if (strcmp(name, "eff1ms") == 0)
        run_efficiency(peer, "eff1ms_pct", 1000);
    else if (strcmp(name, "eff100us") == 0)
        run_efficiency(peer, "eff100us_pct", 100);
    else if (strcmp(name, "eff10us") == 0)
        run_efficiency(peer, "eff10us_pct", 10);
    else if (strcmp(name, "skew") == 0)
        run_skew(peer, "skew_x", false);
    else if (strcmp(name, "skewend") == 0)
        run_skew(peer, "skewend_x", true);
    else if (strcmp(name, "kill") == 0)
        run_kill(peer);
    else if (strcmp(name, "start") == 0) {
        const int64_t zero = 0;
        const struct work_items items = {WORK_NOOP, &zero, sizeof zero, sizeof zero, 1};
        run(peer, &items, 1);
        puts("start_done 1");
    } else {
        errno = 0;
        work_die("no such work: %s", name);
    }
    fflush(stdout);
}
