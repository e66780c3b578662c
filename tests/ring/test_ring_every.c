/* SPDX-License-Identifier: Apache-2.0
 *
 * test_ring_every.c: one push and one pop, and a SIGKILL at each of their instructions in
 * turn: for each of them a process is started, stepped so far, and killed there. What the
 * other side finds then is whole records only, and the ring can be gone on with. The
 * cases are those in which the code differs: room or none, round the end of the ring, a
 * record as large as may be, several records by one publish.
 *
 * FARPOOL_RING_STRIDE: every so many instructions (default 1, or so many that a build
 * with sanitizers takes seconds). */
#include "tests/ring/ring_bed.h"
#include "tests/ring/steps.h"

#include <signal.h>
#include <stdio.h>

#define INSTRUCTIONS_MAX 100000 /* of one case: so many are never reached */
/* Of one case; more instructions are a build without optimisation. With sanitizers fewer:
 * what they add touches no ring, and starting and stepping it takes long. */
#define KILLS_MAX (STEPS_SANITIZED ? 30 : 1000)

/* Shared with the process that is stepped. */
struct stage {
    struct bed bed;
    _Atomic uint32_t over; /* the push or pop is through */
};

struct operation {
    const char *name;
    uint32_t before[8]; /* lengths of records that are there, 0: no more */
    uint32_t
        skipped[8]; /* lengths of records that went through first, to move the place */
    uint32_t pushed[4]; /* what is pushed, by one publish; none: it pops one instead */
};

#define MOST (BED_SIZE / 4 - RING_HEADER_BYTES)

static const struct operation operations[] = {
    {"push", {0}, {0}, {100}},
    {"push of nothing but a number", {0}, {0}, {8}},
    {"push of the largest", {100}, {0}, {MOST}},
    {"push behind others", {200, 300, 40}, {0}, {77}},
    {"push round the end", {0}, {MOST, MOST, MOST, 700}, {500}},
    {"push of the largest round the end", {0}, {MOST, MOST, MOST, 64}, {MOST}},
    {"push of three at once", {50}, {0}, {9, 300, 65}},
    {"push of three round the end", {50}, {MOST, MOST, MOST}, {400, 400, 400}},
    {"push into a full ring", {MOST, MOST, MOST, MOST}, {0}, {10}},
    {"push that does not fit round the end", {MOST, MOST, MOST}, {500}, {MOST}},
    {"pop", {100}, {0}, {0}},
    {"pop of the first of several", {100, 8, MOST}, {0}, {0}},
    {"pop of the largest", {MOST}, {0}, {0}},
    {"pop round the end", {500}, {MOST, MOST, MOST, 700}, {0}},
    {"pop out of a full ring", {MOST, MOST, MOST, MOST}, {0}, {0}},
    {"pop out of an empty ring", {0}, {100}, {0}},
};

static bool put(struct ring *ring, uint64_t number, uint32_t length)
{
    uint8_t *body = ring_reserve(ring, length);
    if (body == NULL)
        return false;
    memcpy(body, &number, sizeof number);
    memset(body + sizeof number, (int)(number * 11 + 5), length - sizeof number);
    ring_commit(ring, (uint16_t)(1 + number), length);
    return true;
}

static bool whole(const struct ring_record *record, uint64_t number, uint32_t length)
{
    uint64_t written;
    if (record->length != length || record->kind != 1 + number)
        return false;
    memcpy(&written, record->body, sizeof written);
    for (uint32_t i = sizeof written; i < length; i++)
        if (record->body[i] != (uint8_t)(number * 11 + 5))
            return false;
    return written == number;
}

/* The ring as the operation finds it, and both sides of it. */
static void prepare(struct stage *stage, const struct operation *operation,
                    struct ring *ret_producer, struct ring *ret_consumer)
{
    struct ring_record record;
    memset(stage, 0, sizeof *stage);
    bed_side(&stage->bed, ret_producer);
    bed_side(&stage->bed, ret_consumer);
    for (size_t i = 0; i < 8 && operation->skipped[i] > 0; i++) {
        assert_true(put(ret_producer, 90 + i, operation->skipped[i]));
        ring_publish(ret_producer);
        assert_int_equal(ring_peek(ret_consumer, &record), 1);
        ring_advance(ret_consumer, &record);
        ring_release(ret_consumer);
    }
    for (size_t i = 0; i < 8 && operation->before[i] > 0; i++)
        assert_true(put(ret_producer, i, operation->before[i]));
    ring_publish(ret_producer);
}

static void operate(struct stage *stage, const struct operation *operation,
                    struct ring *producer, struct ring *consumer)
{
    struct ring_record record;
    bool pushed = false;
    for (size_t i = 0; i < 4 && operation->pushed[i] > 0; i++)
        if (put(producer, 40 + i, operation->pushed[i]))
            pushed = true;
    if (pushed)
        ring_publish(producer);
    if (operation->pushed[0] == 0 && ring_peek(consumer, &record) == 1) {
        ring_advance(consumer, &record);
        ring_release(consumer);
    }
    atomic_store(&stage->over, 1);
}

static pid_t start(struct stage *stage, const struct operation *operation,
                   struct ring *producer, struct ring *consumer)
{
    int status;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        raise(SIGSTOP);
        operate(stage, operation, producer, consumer);
        for (;;)
            pause();
    }
    assert_int_equal(waitpid(child, &status, WUNTRACED), child);
    assert_true(steps_seize(child)); /* without ptrace nothing is proved */
    kill(child, SIGCONT);
    return child;
}

static void end(pid_t child)
{
    int status;
    assert_int_equal(kill(child, SIGKILL), 0);
    while (waitpid(child, &status, __WALL) == child && WIFSTOPPED(status))
        ;
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* All that was there, then nothing or all of what was pushed. */
static void check_pushed(const struct operation *operation, struct ring *consumer,
                         bool over)
{
    struct ring_record record;
    size_t got = 0;
    for (size_t i = 0; i < 8 && operation->before[i] > 0; i++) {
        assert_int_equal(ring_peek(consumer, &record), 1);
        assert_true(whole(&record, i, operation->before[i]));
        ring_advance(consumer, &record);
    }
    int there;
    while ((there = ring_peek(consumer, &record)) == 1) {
        assert_true(got < 4 && whole(&record, 40 + got, operation->pushed[got]));
        ring_advance(consumer, &record);
        got++;
    }
    assert_int_equal(there, 0);
    bool refused = strstr(operation->name, "full") || strstr(operation->name, "not fit");
    if (refused)
        assert_int_equal(got, 0);
    else if (got > 0 || over)
        assert_true(got == 4 || operation->pushed[got] == 0);
}

/* Another consumer, at the index that the dead one has left, finds all that it had not
 * given back; and the producer can go on. */
static void check_popped(const struct operation *operation, struct stage *stage,
                         struct ring *producer, uint64_t tail_before, bool over)
{
    struct ring consumer;
    struct ring_record record;
    ring_refresh(producer);
    assert_false(producer->broken);
    size_t popped = producer->tail != tail_before;
    bed_side(&stage->bed, &consumer);
    consumer.tail = consumer.head = producer->tail;
    if (over && operation->before[0] > 0)
        assert_int_equal(popped, 1);
    for (size_t i = popped; i < 8 && operation->before[i] > 0; i++) {
        assert_int_equal(ring_peek(&consumer, &record), 1);
        assert_true(whole(&record, i, operation->before[i]));
        ring_advance(&consumer, &record);
    }
    assert_int_equal(ring_peek(&consumer, &record), 0);
    ring_release(&consumer);
    assert_true(put(producer, 70, 33)); /* all is free now */
    ring_publish(producer);
    assert_int_equal(ring_peek(&consumer, &record), 1);
    assert_true(whole(&record, 70, 33));
}

/* One kill; whether the operation was through by then, and after how many instructions.
 */
static bool kill_after(struct stage *stage, const struct operation *operation, int steps,
                       int *ret_done)
{
    struct ring producer, consumer;
    prepare(stage, operation, &producer, &consumer);
    const uint64_t tail = consumer.tail;
    pid_t child = start(stage, operation, &producer, &consumer);
    for (*ret_done = 0; *ret_done < steps && atomic_load(&stage->over) == 0; ++*ret_done)
        assert_true(steps_one(child));
    end(child);
    const bool over = atomic_load(&stage->over) != 0;
    if (operation->pushed[0] > 0)
        check_pushed(operation, &consumer, over);
    else
        check_popped(operation, stage, &producer, tail, over);
    return over;
}

static void every_instruction(void **state)
{
    struct stage *stage = mmap(NULL, sizeof *stage, PROT_READ | PROT_WRITE,
                               MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int kills = 0;
    (void)state;
    assert_true(stage != MAP_FAILED);
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
        struct ring producer, consumer;
        prepare(stage, &operations[i], &producer, &consumer);
        operate(stage, &operations[i], &producer,
                &consumer); /* binds memset and others */
        int all = 0;
        assert_true(kill_after(stage, &operations[i], INSTRUCTIONS_MAX, &all));
        const int stride = steps_stride(all, KILLS_MAX);
        for (int steps = 0; steps < all; steps += stride, kills++)
            kill_after(stage, &operations[i], steps, &(int){0});
        printf("%-38s %5d instructions, killed at each %d.\n", operations[i].name, all,
               stride);
    }
    printf("%d kills\n", kills);
    munmap(stage, sizeof *stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_instruction),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
