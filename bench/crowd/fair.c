/* SPDX-License-Identifier: Apache-2.0
 *
 * fair.c: many clients at once. Each of CLIENTS has a pool with JOBS jobs, a new one for
 * each that ends; while all are busy each must get its share of the slots, within a
 * tenth. Some further clients have small jobs of one task, now and then: of a hundred of
 * these the slowest but one must not take more than twice what it takes while nobody else
 * is there.
 *
 *   farpool-bench-fair [--clients N] [--jobs N] [--tasks N] [--nodes N] [--slots N]
 *                      [--task-ms N] [--seconds N] [--address ADDRESS]
 *
 * Without an address the coordinator is its core, in virtual time; else a daemon, on real
 * sockets, and the workers here must be the only ones it has. Ends with 1 if it was not
 * fair. */
#include "crowd.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#define SECOND_US UINT64_C(1000000)

enum { PROBERS = 20, PROBES_MIN = 100, UP_WITHIN_S = 300 };

/* Enough for some twenty turns of each client in virtual time, in a test's time. */
static uint32_t clients = 1000, jobs = 100, tasks = 5, task_ms = 200, seconds = 20;

/* ---------------------------------------------------------------- small jobs */

static void probe(struct crowd *crowd, void *object, uint64_t a, uint64_t b)
{
    (void)crowd, (void)a, (void)b;
    crowd_app_submit(object, 1);
}

/* The next one comes some time after this one has ended. */
static void probe_later(struct app *app)
{
    struct crowd *crowd = app->peer.crowd;
    const uint64_t pause_us = UINT64_C(5000) * task_ms;
    crowd_at(crowd, crowd->now_us + pause_us / 2 + rng_below(&crowd->rng, pause_us),
             probe, app, 0, 0);
}

static void begin_probes(struct crowd *crowd)
{
    for (uint32_t i = clients; i < clients + PROBERS; i++) {
        crowd->apps[i].timed = true;
        crowd->apps[i].on_end = probe_later;
        probe_later(&crowd->apps[i]);
    }
}

static void forget_times(struct crowd *crowd)
{
    for (uint32_t i = clients; i < clients + PROBERS; i++)
        crowd->apps[i].times.count = 0;
}

static int compare(const void *a, const void *b)
{
    const uint64_t first = *(const uint64_t *)a, second = *(const uint64_t *)b;
    return (first > second) - (first < second);
}

struct small {
    double median_ms, p99_ms;
};

/* Of all that were timed since they were forgotten. */
static struct small small_jobs(const struct crowd *crowd)
{
    struct list all = {0};
    for (uint32_t i = clients; i < clients + PROBERS; i++) {
        const struct list *times = &crowd->apps[i].times;
        for (size_t k = 0; k < times->count; k++) {
            uint64_t *copy = crowd_add(&all, sizeof *copy);
            *copy = ((const uint64_t *)times->items)[k];
        }
    }
    if (all.count < PROBES_MIN)
        crowd_fail("small jobs", "fewer than a hundred ended: more seconds are needed");
    qsort(all.items, all.count, sizeof(uint64_t), compare);
    const uint64_t *times = all.items;
    const struct small small = {(double)times[all.count / 2] / 1e3,
                                (double)times[all.count - 1 - all.count / 100] / 1e3};
    free(all.items);
    return small;
}

/* ------------------------------------------------------------------ the flood */

static bool are_up(struct crowd *crowd)
{
    for (uint32_t i = 0; i < crowd->options.apps; i++)
        if (!crowd->apps[i].up)
            return false;
    return true;
}

static void submit_again(struct app *app)
{
    crowd_app_submit(app, tasks);
}

static void begin_flood(struct crowd *crowd)
{
    for (uint32_t i = 0; i < clients; i++) {
        crowd->apps[i].on_end = submit_again;
        for (uint32_t job = 0; job < jobs; job++)
            crowd_app_submit(&crowd->apps[i], tasks);
    }
}

struct spread {
    double least, most, mean;
};

/* Tasks of each client since it had `before`. */
static struct spread spread_of(const struct crowd *crowd, const uint64_t *before)
{
    uint64_t least = UINT64_MAX, most = 0, sum = 0;
    for (uint32_t i = 0; i < clients; i++) {
        const uint64_t done = crowd->apps[i].done - before[i];
        least = done < least ? done : least;
        most = done > most ? done : most;
        sum += done;
    }
    return (struct spread){(double)least, (double)most, (double)sum / clients};
}

/* Of `seconds` in which all are busy, behind a quarter of that. */
static struct spread run_flood(struct crowd *crowd)
{
    uint64_t *before = crowd_need(calloc(clients, sizeof *before));
    begin_flood(crowd);
    crowd_run(crowd, crowd->now_us + seconds * SECOND_US / 4, NULL);
    forget_times(crowd);
    for (uint32_t i = 0; i < clients; i++)
        before[i] = crowd->apps[i].done;
    crowd_run(crowd, crowd->now_us + seconds * SECOND_US, NULL);
    const struct spread spread = spread_of(crowd, before);
    free(before);
    return spread;
}

/* ------------------------------------------------------------------- judgement */

static bool judge(const char *what, double value, double least, double most)
{
    const bool right = value >= least && value <= most;
    printf("%-32s %6.3f  (%.2f to %.2f)%s\n", what, value, least, most,
           right ? "" : "  FAILED");
    return right;
}

static bool run(struct crowd *crowd)
{
    const double slots = (double)crowd->options.nodes * crowd->options.slots;
    crowd_run(crowd, crowd->now_us + UP_WITHIN_S * SECOND_US, are_up);
    if (!are_up(crowd))
        crowd_fail("start", "not all came up");
    begin_probes(crowd);
    crowd_run(crowd, crowd->now_us + seconds * SECOND_US, NULL);
    const struct small alone = small_jobs(crowd);
    const struct spread spread = run_flood(crowd);
    const struct small flood = small_jobs(crowd);
    const double work_s = spread.mean * clients * task_ms / 1e3;
    printf("%u clients with %u jobs, %.0f slots, tasks of %u ms, %u s: %.0f tasks each\n"
           "a small job alone: median %.1f ms, p99 %.1f ms; in the flood %.1f, %.1f\n",
           clients, jobs, slots, task_ms, seconds, spread.mean, alone.median_ms,
           alone.p99_ms, flood.median_ms, flood.p99_ms);
    bool right = judge("least share of a client", spread.least / spread.mean, 0.9, 1);
    right &= judge("largest share", spread.most / spread.mean, 1, 1.1);
    right &= judge("slots in use", work_s / seconds / slots, 0.9, 1.05);
    right &= judge("p99 of small jobs, of alone", flood.p99_ms / alone.p99_ms, 0, 2);
    return right;
}

static uint32_t number(const char *text)
{
    char *end;
    const unsigned long value = strtoul(text, &end, 10);
    if (*end != 0 || value == 0 || value > 1000000)
        crowd_fail("usage", "see bench/crowd/fair.c");
    return (uint32_t)value;
}

int main(int argc, char **argv)
{
    struct crowd_options options = {.nodes = 4, .slots = 64, .delay_us = 100};
    static const struct option names[] = {{"clients", required_argument, NULL, 'c'},
                                          {"jobs", required_argument, NULL, 'j'},
                                          {"tasks", required_argument, NULL, 't'},
                                          {"nodes", required_argument, NULL, 'n'},
                                          {"slots", required_argument, NULL, 's'},
                                          {"task-ms", required_argument, NULL, 'm'},
                                          {"seconds", required_argument, NULL, 'd'},
                                          {"address", required_argument, NULL, 'a'},
                                          {0}};
    uint32_t *const targets[] = {
        ['c'] = &clients,       ['j'] = &jobs,    ['t'] = &tasks,  ['n'] = &options.nodes,
        ['s'] = &options.slots, ['m'] = &task_ms, ['d'] = &seconds};
    struct crowd crowd;
    int option;
    while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
        if (option == '?')
            return 2;
        if (option == 'a')
            options.address = optarg;
        else
            *targets[option] = number(optarg);
    }
    options.apps = clients + PROBERS;
    crowd_create(&options, &crowd);
    for (uint32_t i = 0; i < options.apps; i++)
        crowd.apps[i].task_us = UINT64_C(1000) * task_ms;
    return run(&crowd) ? 0 : 1;
}
