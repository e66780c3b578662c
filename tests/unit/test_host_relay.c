/* SPDX-License-Identifier: Apache-2.0
 *
 * test_host_relay.c: messages between a client inside a process and the host, of any
 * size, while the task that waits for them holds the in ring and more work is behind it.
 */
#include "tests/unit/host_fixture.h"

#include "client/process.h"
#include "farpool.h"

static void fill(uint8_t *bytes, size_t size, unsigned seed)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(i * 31 + i / 253 + seed);
}

static struct payload *filled(size_t size, unsigned seed)
{
    struct payload *payload = payload_create(size);
    if (payload != NULL)
        fill(payload_bytes(payload), size, seed);
    return payload;
}

static bool is_filled(const struct payload *payload, size_t size, unsigned seed)
{
    if (payload->size != size)
        return false;
    for (size_t i = 0; i < size; i++)
        if (payload->data[i] != (uint8_t)(i * 31 + i / 253 + seed))
            return false;
    return true;
}

static const size_t sizes[] = {0, 1, 32768, 32769, 3000000, 0};
enum { BODIES = sizeof sizes / sizeof *sizes };

static bool make_message(struct frames *frames, unsigned seed)
{
    memset(frames, 0, sizeof *frames);
    frames->header = filled(100 + seed, seed);
    frames->bodies = mem_alloc(BODIES * sizeof *frames->bodies);
    frames->bodies_count = BODIES;
    for (size_t i = 0; i < BODIES; i++)
        if ((frames->bodies[i] = filled(sizes[i], seed + (unsigned)i)) == NULL)
            return false;
    return true;
}

static bool is_message(const struct frames *frames, unsigned seed)
{
    bool same =
        frames->bodies_count == BODIES && is_filled(frames->header, 100 + seed, seed);
    for (size_t i = 0; same && i < BODIES; i++)
        same = is_filled(frames->bodies[i], sizes[i], seed + (unsigned)i);
    return same;
}

static int receive(struct frames *frames)
{
    int code;
    while ((code = process_relay_receive(frames)) == FARPOOL_END)
        process_relay_wait(sys_now_ms() + PATIENCE_MS);
    return code;
}

/* Sends message 1, takes 2 and 3 and an empty one, sends 4. */
static int converse(farpool_task *task)
{
    struct frames frames;
    if (!make_message(&frames, 1) || process_relay_send(&frames) != 0)
        return farpool_fail(task, "sending 1");
    frames_fini(&frames);
    process_set_blocked(true);
    for (unsigned seed = 2; seed <= 3; seed++) {
        if (receive(&frames) != 0 || !is_message(&frames, seed))
            return farpool_fail(task, "receiving %u", seed);
        frames_fini(&frames);
    }
    if (receive(&frames) != 0 || frames.header->size != 0 || frames.bodies_count != 0)
        return farpool_fail(task, "receiving the empty one");
    frames_fini(&frames);
    if (process_relay_receive(&frames) != FARPOOL_END)
        return farpool_fail(task, "there is more");
    process_set_blocked(false);
    if (!make_message(&frames, 4) || process_relay_send(&frames) != 0)
        return farpool_fail(task, "sending 4");
    frames_fini(&frames);
    return farpool_task_write(task, process_pool(), sizeof(struct id));
}
FARPOOL_BYTES_FUNCTION(converse)

static int64_t next(int64_t value)
{
    return value + 1;
}
FARPOOL_FUNCTION(next, int64_t, int64_t)

static int64_t wait_and_add(int64_t value)
{
    if (value % 5 == 0) {
        process_set_blocked(true);
        process_set_blocked(false);
    }
    return value + 1;
}
FARPOOL_FUNCTION(wait_and_add, int64_t, int64_t)

static void give_next(struct fixture *fixture, uint64_t give)
{
    int64_t inputs[1000] = {0};
    struct giving giving = giving_of("next", 1000, inputs, sizeof inputs);
    giving.give = give;
    giving.claim = 100;
    giving.publish = 100;
    fixture_give(fixture, &giving);
}

static void send_message(struct fixture *fixture, unsigned seed)
{
    struct frames frames;
    if (seed > 0)
        assert_true(make_message(&frames, seed));
    else
        frames = (struct frames){.header = payload_create(0)};
    assert_int_equal(host_relay(fixture->host, 1, &frames), 0);
    assert_null(frames.header);
}

static void start_conversation(struct fixture *fixture)
{
    uint8_t input = 0;
    struct giving giving = giving_of("converse", 1, &input, 1);
    fixture_give(fixture, &giving);
}

static void hold_conversation(struct fixture *fixture, unsigned refused)
{
    fixture->relays_refused = refused;
    start_conversation(fixture);
    for (uint64_t give = 2; give < 60; give++) /* fill the ring behind it */
        give_next(fixture, give);
    fixture_expect(fixture, WORKER_PROCESS_BLOCKED);
    assert_int_equal(fixture->relayed_count, 1);
    assert_true(is_message(&fixture->relayed[0], 1));
    fixture->relays_refused = refused;
    send_message(fixture, 2);
    send_message(fixture, 3);
    send_message(fixture, 0);
    fixture_expect(fixture, WORKER_PROCESS_UNBLOCKED);
    fixture_collect(fixture, 1, 0, 1, NULL, 0);
    assert_int_equal(fixture->relayed_count, 2);
    assert_true(is_message(&fixture->relayed[1], 4));
    for (uint64_t give = 2; give < 60; give++)
        fixture_collect(fixture, give, 0, 1000, NULL, 0);
}

static void a_client_inside_a_process_converses(void **state)
{
    hold_conversation(*state, 0);
}

static void what_finds_no_memory_comes_again(void **state)
{
    struct fixture *fixture = *state;
    hold_conversation(fixture, 3);
    assert_int_equal(fixture->relays_refused, 0);
}

/* What is behind a task that waits can be taken back and run elsewhere. */
static void work_behind_a_waiting_task_is_taken_back(void **state)
{
    struct fixture *fixture = *state;
    start_conversation(fixture);
    give_next(fixture, 2);
    fixture_expect(fixture, WORKER_PROCESS_BLOCKED);
    fixture_do(fixture, WORKER_PROCESS_TAKE_BACK, 1, 100000);
    assert_int_equal(fixture_expect(fixture, WORKER_PROCESS_TAKEN)->event.count, 1000);
    assert_int_equal(fixture_expect(fixture, WORKER_PROCESS_TAKEN)->event.count, 0);
    for (unsigned seed = 2; seed <= 3; seed++)
        send_message(fixture, seed);
    send_message(fixture, 0);
    fixture_expect(fixture, WORKER_PROCESS_UNBLOCKED);
    fixture_collect(fixture, 1, 0, 1, NULL, 0);
    give_next(fixture, 3);
    fixture_collect(fixture, 3, 0, 1000, NULL, 0);
}

/* Results that came before the wait go out at once; none is lost or moved. */
static void typed_tasks_may_wait_too(void **state)
{
    struct fixture *fixture = *state;
    int64_t inputs[3000];
    for (int i = 0; i < 3000; i++)
        inputs[i] = i + 1;
    for (uint32_t publish = 1; publish < 3000; publish += 700) { /* ring, then arena */
        struct giving giving = giving_of("wait_and_add", 3000, inputs, sizeof inputs);
        giving.give = publish;
        giving.claim = 1 + publish % 13;
        giving.publish = publish;
        uint64_t done = 0, waits = 0;
        fixture_give(fixture, &giving);
        while (done < 3000) {
            struct told *told = fixture_next(fixture);
            waits += told->event.kind == WORKER_PROCESS_BLOCKED;
            if (told->event.kind != WORKER_PROCESS_DONE)
                continue;
            const int64_t *outputs =
                (const int64_t *)(const void *)told->event.data->data;
            assert_int_equal(told->event.first, done);
            for (uint32_t i = 0; i < told->event.count; i++)
                assert_int_equal(outputs[i], done++ + 2);
        }
        assert_int_equal(waits, 600);
        fixture_forget(fixture);
    }
}

/* Messages that nobody asks for any more do not fill the ring for ever. */
static void messages_for_nobody_are_dropped(void **state)
{
    struct fixture *fixture = *state;
    struct frames frames;
    for (int i = 0; i < 5; i++)
        send_message(fixture, 3);
    give_next(fixture, 1);
    fixture_collect(fixture, 1, 0, 1000, NULL, 0);
    start_conversation(fixture);
    fixture_expect(fixture, WORKER_PROCESS_BLOCKED);
    fixture_do(fixture, WORKER_PROCESS_KILL, 1, 0);
    fixture_expect(fixture, WORKER_PROCESS_GONE);
    frames = (struct frames){.header = payload_create(0)};
    assert_int_equal(host_relay(fixture->host, 1, &frames), FARPOOL_ECLOSED);
    frames_fini(&frames);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(a_client_inside_a_process_converses),
        FIXTURE_TEST(what_finds_no_memory_comes_again),
        FIXTURE_TEST(work_behind_a_waiting_task_is_taken_back),
        FIXTURE_TEST(typed_tasks_may_wait_too),
        FIXTURE_TEST(messages_for_nobody_are_dropped),
    };
    if (farpool_init(&argc, &argv) != 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
