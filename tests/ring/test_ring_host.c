/* SPDX-License-Identifier: Apache-2.0
 *
 * test_ring_host.c: a host and its process, one of them killed at an instruction. A
 * process that dies leaves results that are right and in order, and one task at most to
 * blame; tasks are taken back from one that is stopped in the middle of claiming; when a
 * host dies its processes do. */
#include "tests/unit/host_fixture.h"

#include "farpool.h"
#include "tests/ring/steps.h"

#include "common/base/id.h"

#include <sys/prctl.h>
#include <unistd.h>

#define ROUNDS (SANITIZED ? 20 : 60)
#define STEPS_MAX (SANITIZED ? 20000 : 4000)
#define COUNT 5000 /* cannot be through after STEPS_MAX */

static uint64_t square(uint64_t value)
{
    return value * value;
}
FARPOOL_FUNCTION(square, uint64_t, uint64_t)

/* Outputs of uneven sizes, a few of them through the arena. */
static int uneven(farpool_task *task)
{
    uint64_t value;
    memcpy(&value, farpool_task_input(task, NULL), sizeof value);
    size_t size = value % 50 == 49 ? 20000 : value % 7;
    uint8_t *output = farpool_task_output(task, size);
    if (output == NULL)
        return -1;
    memset(output, (int)(value + 1), size);
    return 0;
}
FARPOOL_BYTES_FUNCTION(uneven)

static uint64_t inputs[COUNT];

static void give(struct fixture *fixture, uint64_t number, const char *function)
{
    struct giving giving = {.process = 1,
                            .give = number,
                            .first = 0,
                            .count = COUNT,
                            .function = function,
                            .claim = 1 + number % 3,
                            .publish = 1 + number % 10,
                            .data = inputs,
                            .size = sizeof inputs};
    fixture_give(fixture, &giving);
}

/* The outputs of a DONE event, held against what the function makes of its inputs. */
static void check_done(const struct worker_event *event, bool typed)
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
        if (typed) {
            assert_int_equal(size, sizeof squared);
            assert_memory_equal(data, &squared, sizeof squared);
            continue;
        }
        assert_int_equal(size, value % 50 == 49 ? 20000 : value % 7);
        for (size_t k = 0; k < size; k++)
            assert_int_equal(data[k], (uint8_t)(value + 1));
    }
}

/* Gives work to a process that is held, and steps it into that. */
static bool give_and_step(struct fixture *fixture, pid_t pid, uint64_t number, bool typed,
                          uint64_t steps)
{
    if (!steps_seize(pid))
        return false; /* this machine does not allow it */
    give(fixture, number, typed ? "square" : "uneven");
    while (steps-- > 0 && steps_one(pid))
        ;
    return true;
}

static void a_killed_process_leaves_no_torn_result(void **state)
{
    uint64_t seed = 11, all_done = 0;
    (void)state;
    for (uint64_t round = 0; round < ROUNDS; round++) {
        bool typed = round % 2 == 0;
        struct fixture fixture;
        fixture_open(&fixture);
        fixture_start_ready(&fixture, 1);
        pid_t pid = fixture.told[0].event.pid;
        if (!give_and_step(&fixture, pid, round, typed, rng_below(&seed, STEPS_MAX))) {
            fixture_close(&fixture);
            skip();
        }
        kill(pid, SIGKILL);
        uint64_t done = 0;
        struct told *told;
        while ((told = fixture_next(&fixture))->event.kind == WORKER_PROCESS_DONE) {
            assert_int_equal(told->event.first, done);
            check_done(&told->event, typed);
            done += told->event.count;
        }
        assert_int_equal(told->event.kind, WORKER_PROCESS_GONE);
        assert_int_equal(told->event.code, 0);
        if (told->event.running)
            assert_in_range(told->event.first, done, done + 20);
        all_done += done;
        fixture_close(&fixture);
    }
    assert_true(all_done > 0);
}

static void taking_back_meets_a_claim_at_any_instruction(void **state)
{
    uint64_t seed = 12, taken = 0;
    struct fixture fixture;
    (void)state;
    fixture_open(&fixture);
    fixture_start_ready(&fixture, 1);
    pid_t pid = fixture.told[0].event.pid;
    for (uint64_t round = 0; round < ROUNDS; round++) {
        bool typed = round % 2 == 0;
        uint64_t done = 0, end = COUNT;
        fixture_forget(&fixture);
        if (!give_and_step(&fixture, pid, round, typed, rng_below(&seed, STEPS_MAX))) {
            fixture_close(&fixture);
            skip();
        }
        fixture_do(&fixture, WORKER_PROCESS_TAKE_BACK, 1, rng_below(&seed, COUNT));
        host_poll(fixture.host, sys_now_ms(), fixture_deliver, &fixture);
        steps_release(pid);
        bool answered = false;
        while (done < end || !answered) {
            struct told *told = fixture_next(&fixture);
            if (told->event.kind == WORKER_PROCESS_TAKEN) {
                answered = told->event.count == 0;
                end -= told->event.count;
                taken += told->event.count;
                continue;
            }
            assert_int_equal(told->event.kind, WORKER_PROCESS_DONE);
            assert_int_equal(told->event.first, done);
            check_done(&told->event, typed);
            done += told->event.count;
        }
        assert_int_equal(done, end);
    }
    assert_true(taken > 0);
    fixture_close(&fixture);
}

static void processes_die_with_their_host(void **state)
{
    int ends[2], status;
    pid_t process = 0;
    (void)state;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    assert_int_equal(pipe(ends), 0);
    pid_t host = fork();
    if (host == 0) {
        struct fixture fixture;
        fixture_open(&fixture);
        fixture_start_ready(&fixture, 1);
        process = fixture.told[0].event.pid;
        if (write(ends[1], &process, sizeof process) != sizeof process)
            _exit(1);
        for (;;)
            pause();
    }
    assert_int_equal(read(ends[0], &process, sizeof process), sizeof process);
    assert_int_equal(kill(host, SIGKILL), 0);
    assert_int_equal(waitpid(host, &status, 0), host);
    assert_int_equal(waitpid(process, &status, 0), process);
    assert_int_equal(WTERMSIG(status), SIGKILL);
    close(ends[0]);
    close(ends[1]);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_killed_process_leaves_no_torn_result),
        cmocka_unit_test(taking_back_meets_a_claim_at_any_instruction),
        cmocka_unit_test(processes_die_with_their_host),
    };
    if (farpool_init(&argc, &argv) != 0)
        return 1;
    for (uint64_t i = 0; i < COUNT; i++)
        inputs[i] = i;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
