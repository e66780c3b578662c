/* SPDX-License-Identifier: Apache-2.0
 *
 * test_ring_host_every.c: a real host and a real process of it, one of them killed at
 * each N-th instruction of what it does with the rings. The process: it is woken, pops a
 * give, runs tasks, pushes results, wakes the host, pops the next give; with small
 * results, with results in the arena, and while it waits for room in a full ring. The
 * host: it pushes a give, wakes the process, and pops results. What the killed process
 * has published is right and in order, and the host tells its end within a second; of a
 * killed host no process is left a second later.
 *
 * How many instructions that are depends on the compiler, on sanitizers and on how fast
 * the machine steps (a process publishes at least every millisecond): so it is found
 * first how far a process has to be stepped to have done all of this, and the kills are
 * spread over that.
 *
 * FARPOOL_RING_STRIDE: N (by default so many that ctest takes seconds); 1 is the full
 * form.
 */
#include "tests/unit/host_fixture.h"

#include "farpool.h"
#include "tests/ring/steps.h"

#include <sched.h>

#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#define COUNT 4000 /* cannot be through */
#define KILLS (STEPS_SANITIZED ? 6 : 30)
#define STEPS_MAX 200000 /* ten times what a build with AddressSanitizer needs */
#define AT_ONCE_MS 1000
#define TRIES_MAX 5
#define BIG 16400   /* through the arena */
#define FILLING 600 /* some hundreds of them fill a ring */

static uint64_t numbers[COUNT];

static uint64_t square(uint64_t value)
{
    return value * value;
}
FARPOOL_FUNCTION(square, uint64_t, uint64_t)

static int write_bytes(farpool_task *task, size_t size)
{
    uint64_t value;
    memcpy(&value, farpool_task_input(task, NULL), sizeof value);
    uint8_t *output = farpool_task_output(task, size);
    if (output == NULL)
        return -1;
    /* No loop over all bytes, of which each would be an instruction. */
    memcpy(output, &value, sizeof value);
    memcpy(output + size - sizeof value, &value, sizeof value);
    return 0;
}

static int big(farpool_task *task)
{
    return write_bytes(task, BIG);
}
FARPOOL_BYTES_FUNCTION(big)

static int filling(farpool_task *task)
{
    return write_bytes(task, FILLING);
}
FARPOOL_BYTES_FUNCTION(filling)

struct way {
    const char *function;
    size_t size;     /* bytes of an output */
    bool full;       /* the out ring is full when the stepping begins */
    uint64_t before; /* results that there are then, at least */
    uint64_t wanted; /* results of the instructions that are stepped, at least */
};

/* Three: the first give has ended, the next one is under way. Out of a full ring the host
 * reads up to five more at one time than at another. */
static const struct way ways[] = {
    {"square", 8, false, 0, 3},
    {"big", BIG, false, 0, 3},
    {"filling", FILLING, true, 300, 8},
};

static void give(struct fixture *fixture, const char *function, uint64_t number,
                 uint64_t first, uint32_t count)
{
    struct giving giving =
        giving_of(function, count, numbers + first, count * sizeof *numbers);
    giving.give = number;
    giving.first = first;
    giving.claim = 2;
    giving.publish = 3;
    fixture_give(fixture, &giving);
}

/* Two tasks, and behind them more than can be done: a give's end is in what is stepped.
 */
static void give_two(struct fixture *fixture, const struct way *way)
{
    give(fixture, way->function, 1, 0, 2);
    give(fixture, way->function, 2, 2, way->full ? 2000 : COUNT / 4);
}

static void check_done(const struct worker_event *event, const struct way *way)
{
    for (uint32_t i = 0; i < event->count; i++) {
        const uint8_t *data;
        size_t size;
        struct msg_span span = {.first = event->first,
                                .count = event->count,
                                .attempt = 1,
                                .sizes = event->sizes,
                                .data = event->data};
        uint64_t value = event->first + i, squared = value * value;
        span_task(&span, i, &data, &size);
        assert_int_equal(size, way->size);
        if (way->size == sizeof squared) {
            assert_memory_equal(data, &squared, sizeof squared);
            continue;
        }
        assert_memory_equal(data, &value, sizeof value);
        assert_memory_equal(data + size - sizeof value, &value, sizeof value);
    }
}

/* Until the process sleeps because its out ring is full. */
static void wait_full(pid_t pid)
{
    char path[64], text[64];
    uint64_t deadline_ms = sys_now_ms() + PATIENCE_MS;
    snprintf(path, sizeof path, "/proc/%d/wchan", (int)pid);
    do {
        assert_true(sys_now_ms() < deadline_ms);
        FILE *file = fopen(path, "r");
        size_t got = file != NULL ? fread(text, 1, sizeof text - 1, file) : 0;
        text[got] = '\0';
        if (file != NULL)
            fclose(file);
        sched_yield();
    } while (strstr(text, "futex") == NULL);
}

/* Whether its end came at once, and it was held where the way wants it (the futex that it
 * slept on may be that of a process without work); *ret_done: how many tasks had results.
 */
static bool kill_process_after(const struct way *way, int steps, uint64_t *ret_done)
{
    struct fixture fixture;
    struct told *told;
    uint64_t done = 0;
    fixture_open(&fixture);
    fixture_start_ready(&fixture, 1);
    pid_t pid = fixture.told[0].event.pid;
    if (way->full) {
        give_two(&fixture, way);
        wait_full(pid);
    }
    assert_true(steps_seize(pid));
    if (way->full) /* makes room, and wakes it */
        host_poll(fixture.host, sys_now_ms(), fixture_deliver, &fixture);
    else
        give_two(&fixture, way);
    for (int step = 0; step < steps; step++)
        assert_true(steps_one(pid));
    const uint64_t killed_ms = sys_now_ms();
    assert_int_equal(kill(pid, SIGKILL), 0);
    while ((told = fixture_next(&fixture))->event.kind == WORKER_PROCESS_DONE) {
        assert_int_equal(told->event.first, done);
        check_done(&told->event, way);
        done += told->event.count;
    }
    assert_int_equal(told->event.kind, WORKER_PROCESS_GONE);
    assert_int_equal(told->event.code, 0); /* it broke no rule */
    const bool at_once = sys_now_ms() < killed_ms + AT_ONCE_MS;
    if (told->event.running)
        assert_in_range(told->event.first, done, done + 3);
    fixture_close(&fixture);
    *ret_done = done;
    return at_once && done >= way->before;
}

/* What hangs at an instruction does so each time; a busy machine does not. */
static uint64_t kill_process(const struct way *way, int steps)
{
    uint64_t done;
    for (int tries = 0; !kill_process_after(way, steps, &done); tries++)
        assert_true(tries < TRIES_MAX);
    return done;
}

/* How many instructions have all of it in them. */
static int steps_needed(const struct way *way)
{
    const uint64_t wanted = kill_process(way, 0) + way->wanted;
    int steps = 4000;
    while (kill_process(way, steps) < wanted) {
        if (steps > STEPS_MAX)
            fail_msg("%s: no %llu results within %d instructions", way->function,
                     (unsigned long long)wanted, steps);
        steps += steps / 2;
    }
    return steps;
}

static void a_process_at_every_instruction(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        int kills = 0;
        const int needed = steps_needed(&ways[i]);
        for (int steps = 0; steps < needed; steps += steps_stride(needed, KILLS), kills++)
            kill_process(&ways[i], steps);
        printf("process, %-8s %5d kills in %d instructions\n", ways[i].function, kills,
               needed);
    }
}

/* ------------------------------------------------------------------------- the host */

/* In a process of its own: gives tasks and takes results, once it is held. *taken, which
 * both share: how many rounds of that had results. */
static void be_host(int out, _Atomic int *taken)
{
    struct fixture fixture;
    fixture_open(&fixture);
    fixture_start_ready(&fixture, 1);
    pid_t pid = fixture.told[0].event.pid;
    if (write(out, &pid, sizeof pid) != sizeof pid)
        _exit(1);
    raise(SIGSTOP);
    for (uint64_t number = 1;; number++) {
        fixture_forget(&fixture);
        give(&fixture, "square", number, 0, 100);
        while (fixture.told_count == 0)
            host_poll(fixture.host, 1, fixture_deliver, &fixture);
        ++*taken;
    }
}

static bool kill_host_after(int steps, _Atomic int *taken)
{
    int ends[2], status;
    pid_t process = 0;
    assert_int_equal(pipe(ends), 0);
    *taken = 0;
    pid_t host = fork();
    if (host == 0)
        be_host(ends[1], taken);
    assert_int_equal(read(ends[0], &process, sizeof process), sizeof process);
    assert_int_equal(waitpid(host, &status, WUNTRACED), host);
    assert_true(steps_seize(host));
    kill(host, SIGCONT);
    for (int step = 0; step < steps; step++)
        assert_true(steps_one(host));
    const uint64_t killed_ms = sys_now_ms();
    assert_int_equal(kill(host, SIGKILL), 0);
    while (waitpid(host, &status, __WALL) == host && WIFSTOPPED(status))
        ;
    assert_true(WIFSIGNALED(status));
    assert_int_equal(waitpid(process, &status, 0), process);
    assert_int_equal(WTERMSIG(status), SIGKILL);
    close(ends[0]);
    close(ends[1]);
    return sys_now_ms() < killed_ms + AT_ONCE_MS;
}

static void kill_host(int steps, _Atomic int *taken)
{
    for (int tries = 0; !kill_host_after(steps, taken); tries++)
        assert_true(tries < TRIES_MAX);
}

/* How many instructions give, wake and take results, and then give again. */
static int host_steps_needed(_Atomic int *taken)
{
    int steps = 4000;
    for (kill_host(steps, taken); *taken < 1; kill_host(steps, taken)) {
        if (steps > STEPS_MAX)
            fail_msg("the host: no results within %d instructions", steps);
        steps += steps / 2;
    }
    return steps;
}

static void a_host_at_every_instruction(void **state)
{
    void *shared = mmap(NULL, sizeof(int), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    _Atomic int *taken = shared;
    int kills = 0;
    (void)state;
    assert_true(shared != MAP_FAILED);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    const int needed = host_steps_needed(taken);
    for (int steps = 0; steps < needed; steps += steps_stride(needed, KILLS), kills++)
        kill_host(steps, taken);
    printf("host, square      %5d kills in %d instructions\n", kills, needed);
    munmap(shared, sizeof *taken);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_process_at_every_instruction),
        cmocka_unit_test(a_host_at_every_instruction),
    };
    if (farpool_init(&argc, &argv) != 0)
        return 1;
    setvbuf(stdout, NULL, _IOLBF, 0); /* of a run of hours, into a file */
    for (uint64_t i = 0; i < COUNT; i++)
        numbers[i] = i;
    setenv("LD_BIND_NOW", "1",
           1); /* so that no symbol is looked for while it is stepped */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
