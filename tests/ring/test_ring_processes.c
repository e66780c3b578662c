/* SPDX-License-Identifier: Apache-2.0
 *
 * test_ring_processes.c: a producer and a consumer that are two processes. */
#include "tests/ring/ring_bed.h"

#include <sched.h>

#define RECORDS 300000

static int consume(struct bed *bed)
{
    struct ring ring;
    bed_side(bed, &ring);
    for (uint64_t n = 0; n < RECORDS;) {
        struct ring_record record;
        int there = ring_peek(&ring, &record);
        if (there < 0 || (there == 1 && !bed_whole(&record, n)))
            return 1;
        if (there == 0) {
            sched_yield();
            continue;
        }
        ring_advance(&ring, &record);
        if (n % 3 == 0) /* some at a time */
            ring_release(&ring);
        n++;
    }
    return 0;
}

static int produce(struct bed *bed)
{
    struct ring ring;
    bed_side(bed, &ring);
    for (uint64_t n = 0; n < RECORDS;) {
        if (bed_put(&ring, n))
            n++;
        else if (ring.broken)
            return 1;
        else
            sched_yield();
    }
    return 0;
}

static int join(pid_t child)
{
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void the_parent_produces(void **state)
{
    struct bed *bed = bed_create();
    (void)state;
    pid_t child = fork();
    if (child == 0)
        _exit(consume(bed));
    assert_int_equal(produce(bed), 0);
    assert_int_equal(join(child), 0);
    bed_destroy(bed);
}

static void the_parent_consumes(void **state)
{
    struct bed *bed = bed_create();
    (void)state;
    pid_t child = fork();
    if (child == 0)
        _exit(produce(bed));
    assert_int_equal(consume(bed), 0);
    assert_int_equal(join(child), 0);
    bed_destroy(bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_parent_produces),
        cmocka_unit_test(the_parent_consumes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
