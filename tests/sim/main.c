/* SPDX-License-Identifier: Apache-2.0
 *
 * main.c: runs seeds of the simulator, in as many processes as asked for. A seed that
 * fails is run once more with a trace, in a process of its own; the run then goes on.
 *
 *   sim --seeds 2000 --first 1 --processes 2     many
 *   sim --seed 17 [-v]                           one, with each event if -v
 *   sim --self-test                              the checks must notice broken harnesses
 *   sim --seeds 2000 --first-failure             ends with the first one, and says which
 */
#include "sim.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROCESSES_MAX 16
#define FAILURES_MAX 10
#define SELF_TEST_SEEDS 60

/* What a child is at, told to its parent. */
struct progress {
    uint64_t seed;
    uint64_t seeds; /* begun */
};

struct arguments {
    struct sim_options options;
    uint64_t first, seeds;
    int processes;
    bool one, self_test, first_failure;
};

static int usage(void)
{
    fprintf(stderr, "usage: sim [--seed N | --seeds N] [--first N] [--processes N] [-v] "
                    "[--quiet] [--self-test] [--first-failure] [--break NAME]\nbreaks:");
#define BREAK_NAME(NAME, option, text) fprintf(stderr, "\n  %-12s %s", option, text);
    SIM_BREAKS(BREAK_NAME)
    fprintf(stderr, "\n");
    return 2;
}

static bool parse_break(const char *text, enum sim_break *ret_broken)
{
#define BREAK_PARSE(NAME, option, doc)                                                   \
    if (strcmp(text, option) == 0) {                                                     \
        *ret_broken = BREAK_##NAME;                                                      \
        return true;                                                                     \
    }
    SIM_BREAKS(BREAK_PARSE)
    return false;
}

static bool parse_number(const char *text, uint64_t *ret_number)
{
    char *end;

    *ret_number = strtoull(text, &end, 0);
    return *text && !*end;
}

static bool parse(int argc, char **argv, struct arguments *arguments)
{
    uint64_t number = 0;

    for (int i = 1; i < argc; i++) {
        const char *name = argv[i];

        if (strcmp(name, "-v") == 0) {
            arguments->options.verbose = true;
        } else if (strcmp(name, "--quiet") == 0) {
            arguments->options.quiet = true;
        } else if (strcmp(name, "--self-test") == 0) {
            arguments->self_test = true;
        } else if (strcmp(name, "--first-failure") == 0) {
            arguments->first_failure = true;
        } else if (++i == argc) {
            return false;
        } else if (strcmp(name, "--break") == 0) {
            if (!parse_break(argv[i], &arguments->options.broken))
                return false;
        } else if (!parse_number(argv[i], &number)) {
            return false;
        } else if (strcmp(name, "--seed") == 0) {
            arguments->one = true;
            arguments->first = number;
        } else if (strcmp(name, "--seeds") == 0) {
            arguments->seeds = number;
        } else if (strcmp(name, "--first") == 0) {
            arguments->first = number;
        } else if (strcmp(name, "--processes") == 0 && number >= 1 &&
                   number <= PROCESSES_MAX) {
            arguments->processes = (int)number;
        } else {
            return false;
        }
    }
    return true;
}

/* ------------------------------------------------------------------ running */

static int run_one(struct sim_options options, uint64_t seed)
{
    options.seed = seed;
    options.trace = true;
    sim_run(&options);
    return 0;
}

/* The child's part: every `step`-th seed from `seed` on. */
static pid_t fork_runner(const struct arguments *arguments, uint64_t seed, uint64_t step,
                         volatile struct progress *progress)
{
    progress->seed = seed;
    fflush(stdout);
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    /* Only the second run of a failed seed speaks. */
    if (!freopen("/dev/null", "w", stdout) || !freopen("/dev/null", "w", stderr))
        _exit(2);
    struct sim_options options = arguments->options;
    for (; seed < arguments->first + arguments->seeds; seed += step) {
        progress->seed = options.seed = seed;
        progress->seeds++;
        sim_run(&options);
    }
    _exit(0);
}

/* Its second run, with a trace; status: of the first. */
static void show(const struct arguments *arguments, uint64_t seed, int status)
{
    int again = 0;

    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        exit(run_one(arguments->options, seed));
    waitpid(pid, &again, 0);
    if (again == 0)
        printf("seed %llu ended with %s %d, but not when it was run again\n",
               (unsigned long long)seed, WIFSIGNALED(status) ? "signal" : "exit status",
               WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

/* Kills the runners but one, and tells how many seeds there have been. */
static void stop_others(const pid_t *pids, volatile struct progress *progress, int count,
                        int failed)
{
    uint64_t seeds = 0;

    for (int i = 0; i < count; i++) {
        if (i != failed && pids[i] > 0)
            kill(pids[i], SIGKILL);
        seeds += progress[i].seeds;
    }
    while (wait(NULL) > 0)
        ;
    printf("the first failure is seed %llu, after %llu seeds\n",
           (unsigned long long)progress[failed].seed, (unsigned long long)seeds);
}

/* Runs all seeds; returns how many failed, showing the first ones. */
static int run_many(const struct arguments *arguments)
{
    pid_t pids[PROCESSES_MAX];
    uint64_t step = (uint64_t)arguments->processes;
    int failures = 0, running = arguments->processes;
    volatile struct progress *progress =
        mmap(NULL, sizeof *progress * PROCESSES_MAX, PROT_READ | PROT_WRITE,
             MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    for (int i = 0; i < arguments->processes; i++)
        pids[i] =
            fork_runner(arguments, arguments->first + (uint64_t)i, step, &progress[i]);
    while (running) {
        int status, place = 0;
        pid_t pid = wait(&status);

        while (pids[place] != pid)
            place++;
        if (status == 0) {
            pids[place] = 0;
            running--;
            continue;
        }
        uint64_t seed = progress[place].seed;
        if (arguments->first_failure) {
            stop_others(pids, progress, arguments->processes, place);
            show(arguments, seed, status);
            return 1;
        }
        if (failures++ < FAILURES_MAX)
            show(arguments, seed, status);
        else
            printf("seed %llu failed too\n", (unsigned long long)seed);
        pids[place] = fork_runner(arguments, seed + step, step, &progress[place]);
    }
    return failures;
}

/* ---------------------------------------------------------------- self-test */

/* Whether some seed notices that the harness breaks its word. */
static bool is_noticed(const struct arguments *arguments, enum sim_break broken)
{
    struct arguments one = *arguments;
    volatile struct progress *progress =
        mmap(NULL, sizeof *progress, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
             -1, 0);
    int status = 0;

    one.options.broken = broken;
    one.options.quiet = true;
    one.seeds = SELF_TEST_SEEDS;
    waitpid(fork_runner(&one, one.first, 1, progress), &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 1;
}

static int self_test(const struct arguments *arguments)
{
    int failures = 0;

#define BREAK_TEST(NAME, option, text)                                                   \
    if (!is_noticed(arguments, BREAK_##NAME)) {                                          \
        printf("not noticed: %s\n", text);                                               \
        failures++;                                                                      \
    }
    SIM_BREAKS(BREAK_TEST)
    if (is_noticed(arguments, BREAK_NONE)) {
        printf("a world without faults is reported as broken\n");
        failures++;
    }
    return failures ? 1 : 0;
}

int main(int argc, char **argv)
{
    struct arguments arguments = {.first = 1, .seeds = 100, .processes = 1};

    if (!parse(argc, argv, &arguments))
        return usage();
    if (arguments.self_test)
        return self_test(&arguments);
    if (arguments.one)
        return run_one(arguments.options, arguments.first);
    int failures = run_many(&arguments);
    printf("%llu seeds from %llu: %d failed\n", (unsigned long long)arguments.seeds,
           (unsigned long long)arguments.first, failures);
    return failures ? 1 : 0;
}
