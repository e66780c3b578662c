/* SPDX-License-Identifier: Apache-2.0
 *
 * test_host_group.c: the limit that a process's group has, by the tasks that wait in it,
 * and what becomes of the kernel's word that it killed somebody there; on a folder with
 * the kernel's files, so that no cgroup v2 is needed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/host_internal.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t kills; /* of the machine's kernel */

uint64_t __wrap_groups_oom_kills(void);
uint64_t __wrap_groups_oom_kills(void)
{
    return kills;
}

/* A process that is being run, in a group with the files that a test puts there. */
struct bed {
    char folder[64];
    struct host host;
    struct host_process process;
    struct give gives[3];
};

static void put(const struct bed *bed, const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", bed->folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

/* What was written to it since the last look, as the kernel takes each write by itself.
 */
static void expect(const struct bed *bed, const char *name, const char *text)
{
    char path[128], found[64];
    snprintf(path, sizeof path, "%s/%s", bed->folder, name);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    found[fread(found, 1, sizeof found - 1, file)] = '\0';
    fclose(file);
    assert_string_equal(found, text);
    put(bed, name, "");
}

static int make_bed(void **state)
{
    struct bed *bed = calloc(1, sizeof *bed);
    snprintf(bed->folder, sizeof bed->folder, "/tmp/farpool-group-XXXXXX");
    if (mkdtemp(bed->folder) == NULL)
        return -1;
    put(bed, "memory.max", "");
    put(bed, "memory.swap.max", "");
    put(bed, "memory.events", "oom 0\noom_kill 0\n");
    bed->host.groups.memory = true;
    bed->process.group = open(bed->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bed->process.memory_max = UINT64_MAX;
    bed->process.state = PROCESS_SERVING;
    bed->process.pid = 77;
    TAILQ_INIT(&bed->process.gives);
    kills = 0;
    *state = bed;
    return 0;
}

static int remove_bed(void **state)
{
    struct bed *bed = *state;
    char command[96];
    snprintf(command, sizeof command, "rm -r %s", bed->folder);
    close(bed->process.group);
    const int result = system(command);
    free(bed);
    return result;
}

static void give(struct bed *bed, int place, uint64_t memory_bytes)
{
    bed->gives[place].memory_bytes = memory_bytes;
    TAILQ_INSERT_TAIL(&bed->process.gives, &bed->gives[place], link);
    host_group_limit(&bed->host, &bed->process);
}

static void end_first(struct bed *bed)
{
    TAILQ_REMOVE(&bed->process.gives, TAILQ_FIRST(&bed->process.gives), link);
    host_group_limit(&bed->host, &bed->process);
}

/* ------------------------------------------------------------------------- the limit */

static void the_highest_limit_that_waits_holds(void **state)
{
    struct bed *bed = *state;
    give(bed, 0, 1000);
    expect(bed, "memory.max", "1000");
    expect(bed, "memory.swap.max", "0");
    give(bed, 1, 5000);
    expect(bed, "memory.max", "5000");
    expect(bed, "memory.swap.max", "0");
    end_first(bed);
    give(bed, 2, 0);
    expect(bed, "memory.max", "max");
    expect(bed, "memory.swap.max", "max");
    end_first(bed);
    end_first(bed);
    expect(bed, "memory.max", ""); /* idle: as it was */
    give(bed, 0, 1000);
    expect(bed, "memory.max", "1000");
    expect(bed, "memory.swap.max", "0");
}

static void a_limit_is_written_when_it_changes(void **state)
{
    struct bed *bed = *state;
    give(bed, 0, 1000);
    expect(bed, "memory.max", "1000");
    give(bed, 1, 1000);
    end_first(bed);
    end_first(bed);
    expect(bed, "memory.max", "");
}

static void without_control_none_is_written(void **state)
{
    struct bed *bed = *state;
    bed->host.groups.memory = false;
    give(bed, 0, 1000);
    expect(bed, "memory.max", "");
    assert_int_equal(bed->process.memory_max, UINT64_MAX);
}

/* ------------------------------------------------------------------ whom the kernel
 * killed */

static struct worker_event blame(struct bed *bed)
{
    struct worker_event gone = {.kind = WORKER_PROCESS_GONE, .signal = SIGKILL};
    host_group_blame(&bed->host, &bed->process, &gone);
    return gone;
}

static void who_met_its_limit_is_told_with_what_it_had(void **state)
{
    struct bed *bed = *state;
    give(bed, 0, 5000);
    put(bed, "memory.events", "oom 1\noom_kill 2\n");
    struct worker_event gone = blame(bed);
    assert_true(gone.over_memory);
    assert_int_equal(gone.memory_bytes, 5000); /* no memory.peak: at least the limit */
    put(bed, "memory.peak", "5100\n");
    gone = blame(bed);
    assert_int_equal(gone.memory_bytes, 5100);
    assert_string_equal(bed->process.text, "");
}

static void a_node_without_memory_is_no_tasks_fault(void **state)
{
    struct bed *bed = *state;
    give(bed, 0, 5000);
    put(bed, "memory.events", "oom 0\noom_kill 1\n");
    assert_false(blame(bed).over_memory);
    assert_non_null(strstr(bed->process.text, "killed by the kernel's out-of-memory"));
}

/* The group's oom counts also what a limit above it refused. */
static void without_a_limit_none_was_met(void **state)
{
    struct bed *bed = *state;
    give(bed, 0, 0);
    put(bed, "memory.events", "oom 1\noom_kill 1\n");
    assert_false(blame(bed).over_memory);
    assert_non_null(strstr(bed->process.text, "had no memory left"));
}

static void who_was_not_killed_by_it_is_not_told_so(void **state)
{
    struct bed *bed = *state;
    give(bed, 0, 5000);
    kills = 3; /* elsewhere: this group would know */
    assert_false(blame(bed).over_memory);
    put(bed, "memory.events", "oom 1\noom_kill 1\n");
    bed->process.killed = true; /* by the core, for another reason */
    assert_false(blame(bed).over_memory);
    bed->process.killed = false;
    bed->process.code = FARPOOL_EPROCESSLOST;
    assert_false(blame(bed).over_memory);
    assert_string_equal(bed->process.text, "");
    struct worker_event gone = {.kind = WORKER_PROCESS_GONE, .signal = SIGSEGV};
    bed->process.code = 0;
    host_group_blame(&bed->host, &bed->process, &gone);
    assert_false(gone.over_memory);
}

/* Some process was, and it may be this one. */
static void without_groups_it_is_not_certain(void **state)
{
    struct bed *bed = *state;
    bed->host.groups.memory = false;
    bed->host.oom_kills = kills = 3;
    close(bed->process.group);
    bed->process.group = -1;
    blame(bed);
    assert_string_equal(bed->process.text, "");
    kills = 4;
    assert_false(blame(bed).over_memory);
    assert_non_null(strstr(bed->process.text, "while the kernel's out-of-memory killer"));
    assert_int_equal(bed->host.oom_kills, 4);
}

/* host_why.c knows better words for one that was never ready. */
static void one_that_starts_has_other_words(void **state)
{
    struct bed *bed = *state;
    bed->process.state = PROCESS_STARTING;
    put(bed, "memory.events", "oom 0\noom_kill 1\n");
    blame(bed);
    assert_string_equal(bed->process.text, "");
}

#define BED(test) cmocka_unit_test_setup_teardown(test, make_bed, remove_bed)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BED(the_highest_limit_that_waits_holds),
        BED(a_limit_is_written_when_it_changes),
        BED(without_control_none_is_written),
        BED(who_met_its_limit_is_told_with_what_it_had),
        BED(a_node_without_memory_is_no_tasks_fault),
        BED(without_a_limit_none_was_met),
        BED(who_was_not_killed_by_it_is_not_told_so),
        BED(without_groups_it_is_not_certain),
        BED(one_that_starts_has_other_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
