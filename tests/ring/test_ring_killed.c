/* SPDX-License-Identifier: Apache-2.0
 *
 * test_ring_killed.c: one side dies at an instruction, any instruction. It is stepped
 * through several times round the ring, and at each step the other side looks at what a
 * SIGKILL there would leave; then it is really killed, at some of them. */
#include "tests/ring/ring_bed.h"
#include "tests/ring/steps.h"

#include "common/base/id.h"

#include <sched.h>
#include <stdio.h>

#define STEPS 60000
#define KILLS 60

static pid_t start(struct bed *bed, void (*run)(struct bed *bed))
{
    pid_t child = fork();
    if (child == 0) {
        raise(SIGSTOP);
        run(bed);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, WUNTRACED), child);
    return child;
}

/* Leaves it stopped under ptrace, able to run. */
static bool hold(pid_t child)
{
    if (!steps_seize(child))
        return false;
    kill(child, SIGCONT);
    return true;
}

static void end(pid_t child)
{
    int status;
    kill(child, SIGKILL);
    while (waitpid(child, &status, __WALL) == child && !WIFSIGNALED(status) &&
           !WIFEXITED(status))
        ;
}

static void produce_for_ever(struct bed *bed)
{
    struct ring ring;
    bed_side(bed, &ring);
    for (uint64_t n = 0;;)
        if (bed_put(&ring, n))
            n++;
}

static void consume_for_ever(struct bed *bed)
{
    struct ring ring;
    struct ring_record record;
    bed_side(bed, &ring);
    for (;;)
        if (ring_peek(&ring, &record) == 1) {
            ring_advance(&ring, &record);
            ring_release(&ring);
        }
}

/* Reads all there is; every record must be whole and the next one. */
static uint64_t read_all(struct ring *ring, uint64_t number)
{
    struct ring_record record;
    int there;
    while ((there = ring_peek(ring, &record)) == 1) {
        assert_true(bed_whole(&record, number));
        ring_advance(ring, &record);
        number++;
    }
    assert_int_equal(there, 0);
    return number;
}

static void a_producer_at_every_instruction(void **state)
{
    struct bed *bed = bed_create();
    struct ring ring;
    uint64_t number = 0;
    (void)state;
    bed_side(bed, &ring);
    pid_t child = start(bed, produce_for_ever);
    if (!hold(child)) {
        end(child);
        skip();
    }
    for (int step = 0; step < STEPS; step++) {
        assert_true(steps_one(child));
        struct ring look = ring; /* a consumer that would come after the kill */
        uint64_t there = read_all(&look, number);
        if (there - number >= 12) { /* let it go on, round and round */
            number = read_all(&ring, number);
            ring_release(&ring);
        }
    }
    end(child);
    read_all(&ring, number);
    assert_true(number > 20);
    bed_destroy(bed);
}

/* A dead consumer's index is one that a producer can go on with, and nothing it had not
 * read is lost: another consumer could take over at that index. */
static void a_consumer_at_every_instruction(void **state)
{
    struct bed *bed = bed_create();
    struct ring ring;
    uint64_t written = 0, read = 0, tail = 0;
    (void)state;
    bed_side(bed, &ring);
    pid_t child = start(bed, consume_for_ever);
    if (!hold(child)) {
        end(child);
        skip();
    }
    for (int step = 0; step < STEPS; step++) {
        while (bed_put(&ring, written))
            written++;
        assert_true(steps_one(child));
        ring_refresh(&ring);
        assert_false(ring.broken);
        struct ring look;
        bed_side(bed, &look);
        look.tail = look.head = tail;
        struct ring_record record;
        while (look.tail != ring.tail) {
            assert_int_equal(ring_peek(&look, &record), 1);
            ring_advance(&look, &record);
            read++;
        }
        tail = ring.tail;
        if (step % 64 == 0) {
            assert_int_equal(ring_peek(&look, &record), 1);
            assert_true(bed_whole(&record, read));
        }
    }
    end(child);
    assert_true(read > 20);
    bed_destroy(bed);
}

static void a_producer_that_is_killed(void **state)
{
    uint64_t seed = 5;
    (void)state;
    for (int kill_number = 0; kill_number < KILLS; kill_number++) {
        struct bed *bed = bed_create();
        struct ring ring;
        uint64_t steps = rng_below(&seed, 1500);
        bed_side(bed, &ring);
        pid_t child = start(bed, produce_for_ever);
        if (!hold(child)) {
            end(child);
            skip();
        }
        for (uint64_t step = 0; step < steps; step++)
            assert_true(steps_one(child));
        end(child);
        read_all(&ring, 0);
        bed_destroy(bed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_producer_at_every_instruction),
        cmocka_unit_test(a_consumer_at_every_instruction),
        cmocka_unit_test(a_producer_that_is_killed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
