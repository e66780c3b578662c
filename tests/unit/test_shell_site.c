/* SPDX-License-Identifier: Apache-2.0
 *
 * test_shell_site.c: what the worker takes from a job of Slurm that it runs in, and its
 * options --until and --idle. */
#include "common/sys/sys.h"
#include "worker/shell.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SLACK_MS 5000

static const char *const variables[] = {"SLURM_JOB_ID",         "SLURMD_NODENAME",
                                        "SLURM_CPUS_ON_NODE",   "SLURM_CPUS_PER_TASK",
                                        "SLURM_JOB_END_TIME",   "SLURM_JOB_GPUS",
                                        "CUDA_VISIBLE_DEVICES", "FARPOOL_COORDINATOR",
                                        "FARPOOL_KEY",          "FARPOOL_JOIN"};

static int clear(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
        unsetenv(variables[i]);
    return 0;
}

static struct worker_options taken(char *option)
{
    char *words[] = {(char[]){"farpool-worker"}, option, NULL};
    struct worker_options options;
    assert_int_equal(worker_read_options(option ? 2 : 1, words, &options), -1);
    return options;
}

/* What it says on stderr is not wanted here. */
static void refused(char *option)
{
    char *words[] = {(char[]){"farpool-worker"}, option, NULL};
    struct worker_options options;
    const int kept = dup(STDERR_FILENO);
    assert_non_null(freopen("/dev/null", "w", stderr));
    const int code = worker_read_options(2, words, &options);
    fflush(stderr);
    dup2(kept, STDERR_FILENO);
    close(kept);
    if (code != EXIT_USAGE)
        fail_msg("%s: %d", option, code);
}

/* So many seconds from now, as near as seconds go. */
static void in_seconds(uint64_t until_ms, int64_t seconds)
{
    const int64_t left = (int64_t)until_ms - (int64_t)sys_now_ms() - seconds * 1000;
    if (left < -SLACK_MS || left > SLACK_MS)
        fail_msg("%lld ms besides", (long long)left);
}

static void elsewhere_nothing_is_taken(void **state)
{
    (void)state;
    setenv("SLURMD_NODENAME", "n7", 1);
    setenv("SLURM_JOB_END_TIME", "99999999999", 1);
    const struct worker_options options = taken(NULL);
    assert_string_not_equal(options.core.node, "n7");
    assert_int_equal(options.site.until_ms, 0);
    assert_int_equal(options.site.idle_ms, 0);
}

static void a_job_tells_name_and_cores(void **state)
{
    (void)state;
    setenv("SLURM_JOB_ID", "1", 1);
    setenv("SLURMD_NODENAME", "n7", 1);
    setenv("SLURM_CPUS_ON_NODE", "1", 1);
    assert_string_equal(taken(NULL).core.node, "n7");
    assert_int_equal(taken(NULL).core.slots, 1);
    assert_int_equal(taken((char[]){"--slots=3"}).core.slots, 3);
    assert_string_equal(taken((char[]){"--name=mine"}).core.node, "mine");
    setenv("SLURM_CPUS_ON_NODE", "1000000", 1); /* more than this process may use */
    assert_int_equal(taken(NULL).core.slots, sys_cores());
    setenv("SLURM_CPUS_PER_TASK", "1", 1);
    assert_int_equal(taken(NULL).core.slots, 1);
    setenv("SLURMD_NODENAME", "n 7", 1);
    assert_string_not_equal(taken(NULL).core.node, "n 7");
}

static void set_end(int64_t seconds)
{
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)time(NULL) + (long long)seconds);
    setenv("SLURM_JOB_ID", "1", 1);
    setenv("SLURM_JOB_END_TIME", text, 1);
}

static void a_job_tells_its_end(void **state)
{
    (void)state;
    set_end(100000);
    in_seconds(taken(NULL).site.until_ms, 100000 - 60);
    in_seconds(taken((char[]){"--until=-1000"}).site.until_ms, 99000);
    in_seconds(taken((char[]){"--until=+500"}).site.until_ms, 500);
    assert_int_equal(taken((char[]){"--until=none"}).site.until_ms, 0);
    set_end(100); /* a tenth, when that is less than a minute */
    in_seconds(taken(NULL).site.until_ms, 90);
    set_end(-100);
    assert_int_equal(taken(NULL).site.until_ms, 0);
    setenv("SLURM_JOB_END_TIME", "soon", 1);
    assert_int_equal(taken(NULL).site.until_ms, 0);
    refused((char[]){"--until=-10"});
}

static void times_are_read(void **state)
{
    char text[64];
    const time_t later = time(NULL) + 7000;
    struct tm parts;
    (void)state;
    snprintf(text, sizeof text, "--until=%lld", (long long)later);
    in_seconds(taken(text).site.until_ms, 7000);
    strftime(text, sizeof text, "--until=%Y-%m-%dT%H:%M:%S", localtime_r(&later, &parts));
    in_seconds(taken(text).site.until_ms, 7000);
    in_seconds(taken((char[]){"--until=1"}).site.until_ms, 0); /* long ago: at once */
    assert_int_not_equal(taken((char[]){"--until=1"}).site.until_ms, 0);
    assert_int_equal(taken((char[]){"--idle=90"}).site.idle_ms, 90000);
    assert_int_equal(taken(NULL).core.orphan_after_ms, ORPHAN_AFTER_MS);
    assert_int_equal(taken((char[]){"--orphan-after=90"}).core.orphan_after_ms, 90000);
    assert_int_equal(taken((char[]){"--orphan-after=0"}).core.orphan_after_ms, 0);
    static const char *const wrong[] = {"--until=",          "--until=soon",
                                        "--until=+",         "--until=+1s",
                                        "--until=-10",       "--until=12:00",
                                        "--idle=0",          "--idle=",
                                        "--idle=1.5",        "--idle=-1",
                                        "--idle=100000001",  "--until=+100000001",
                                        "--orphan-after=",   "--orphan-after=-1",
                                        "--orphan-after=1h", "--orphan-after=100000001"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        snprintf(text, sizeof text, "%s", wrong[i]);
        refused(text);
    }
}

static void gpus_are_those_of_the_job(void **state)
{
    (void)state;
    setenv("CUDA_VISIBLE_DEVICES", "2,5", 1);
    assert_int_equal(taken(NULL).place.resources_count, 0); /* in no job */
    setenv("SLURM_JOB_ID", "1", 1);
    assert_int_equal(taken(NULL).place.resources_count, 0); /* the job has none */
    setenv("SLURM_JOB_GPUS", "2,5", 1);
    struct worker_options options = taken((char[]){"--slots=8"});
    assert_int_equal(options.place.resources_count, 1);
    assert_string_equal(options.place.resources[0].name, "gpu");
    assert_int_equal(options.place.resources[0].count, 2);
    assert_string_equal(options.place.resources[0].ids, "2,5");
    assert_int_equal(options.core.slots, 2);
    options = taken((char[]){"--resources=gpu=1"});
    assert_int_equal(options.place.resources[0].count, 1);
    assert_null(options.place.resources[0].ids);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(elsewhere_nothing_is_taken, clear, clear),
        cmocka_unit_test_setup_teardown(a_job_tells_name_and_cores, clear, clear),
        cmocka_unit_test_setup_teardown(a_job_tells_its_end, clear, clear),
        cmocka_unit_test_setup_teardown(times_are_read, clear, clear),
        cmocka_unit_test_setup_teardown(gpus_are_those_of_the_job, clear, clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
