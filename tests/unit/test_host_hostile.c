/* SPDX-License-Identifier: Apache-2.0
 *
 * test_host_hostile.c: processes that write nonsense into the memory they share with the
 * host. Each is killed and reported with EPROTOCOL, none brings the host down, and a
 * second process beside it goes on as if nothing had happened. */
#include "tests/unit/host_fixture.h"

#include "client/process_internal.h"
#include "farpool.h"

#include <sched.h>

static struct process *self_of(void)
{
    return &process_self;
}

static struct channel_done *reserve_done(farpool_task *task)
{
    struct channel_done *done =
        process_reserve(self_of(), CHANNEL_DATA_OFFSET(struct channel_done) + 256);
    *done = (struct channel_done){.give = task->give,
                                  .first = farpool_task_index(task),
                                  .data_offset = CHANNEL_INLINE,
                                  .count = 1};
    return done;
}

static void send(uint16_t kind, uint32_t length)
{
    ring_commit(&self_of()->out, kind, length);
    process_publish(self_of());
}

#define DONE_LENGTH (uint32_t)(CHANNEL_DATA_OFFSET(struct channel_done) + 256)

static void send_done(struct channel_done *done)
{
    (void)done;
    send(CHANNEL_DONE, DONE_LENGTH);
}

static void attack_record(farpool_task *task, int attack)
{
    struct channel_done *done = reserve_done(task);
    switch (attack) {
    case 0:
        done->give++;
        break;
    case 1:
        done->first++;
        break;
    case 2:
        done->first--;
        break;
    case 3:
        done->count = 0;
        break;
    case 4:
        done->count = 2; /* not claimed */
        break;
    case 5:
        done->count = UINT32_MAX;
        break;
    case 6:
        done->data_bytes = UINT64_MAX;
        break;
    case 7:
        done->data_bytes = 100000;
        break;
    case 8:
        done->data_bytes = 256;
        done->sized = 1;
        break;
    case 9: /* sizes that do not add up */
        done->data_bytes = 8;
        done->sized = 1;
        break;
    case 10:
        done->data_offset = 5;
        done->data_bytes = 5;
        break;
    case 11:
        done->data_offset = UINT64_MAX - ARENA_BLOCK + 1;
        done->data_bytes = ARENA_BLOCK * 2;
        break;
    case 12:
        done->data_offset = CHANNEL_KEPT_BYTES;
        done->data_bytes = UINT64_MAX - CHANNEL_KEPT_BYTES;
        break;
    case 13: /* larger than allowed, in the arena */
        done->data_offset = 0;
        done->data_bytes = 2 << 20;
        break;
    default:
        send(CHANNEL_DONE, 8);
        return;
    }
    send_done(done);
}

static void attack_failed(farpool_task *task, int attack)
{
    struct channel_failed *failed = process_reserve(self_of(), sizeof *failed + 8);
    *failed = (struct channel_failed){
        .give = task->give, .index = farpool_task_index(task), .code = FARPOOL_EFUNCTION};
    if (attack == 0)
        failed->message_bytes = 9;
    else if (attack == 1)
        failed->message_bytes = failed->backtrace_bytes = 5;
    else if (attack == 2)
        failed->code = 1;
    else if (attack == 3)
        failed->index = 0;
    else
        failed->message_bytes = UINT32_MAX;
    send(CHANNEL_FAILED, sizeof *failed + 8);
}

static void attack_ring(int attack)
{
    struct process *self = self_of();
    struct ring_header *header;
    process_reserve(self, 64);
    ring_commit(&self->out, CHANNEL_IDLE, 64);
    header = (struct ring_header *)(void *)(self->out.data +
                                            (self->out.reserved & (self->out.size - 1)));
    if (attack == 0)
        header->length = UINT32_MAX;
    else if (attack == 1)
        header->length = CHANNEL_RING_BYTES;
    else if (attack == 2)
        header->generation++;
    else if (attack == 3)
        header->position += RING_ALIGN;
    else if (attack == 4)
        header->kind = 999;
    else if (attack == 5)
        self->out.head += CHANNEL_RING_BYTES;
    else if (attack == 6)
        self->out.head++;
    else if (attack == 7)
        self->out.head -= 4 * RING_ALIGN;
    else if (attack == 8)
        header->kind = CHANNEL_READY;
    else
        header->kind = CHANNEL_START_FAILED;
    process_publish(self);
}

static void attack_relay(int attack)
{
    struct channel_relay *relay = process_reserve(self_of(), sizeof *relay);
    memset(relay, 0, sizeof *relay);
    uint32_t length = offsetof(struct channel_relay, sizes) + 8;
    uint16_t kind = CHANNEL_RELAY;
    relay->frames = 1;
    relay->sizes[0] = 10;
    if (attack == 0)
        relay->frames = 0;
    else if (attack == 1)
        relay->frames = UINT32_MAX;
    else if (attack == 2)
        relay->sizes[0] = UINT64_MAX;
    else if (attack == 3)
        length--;
    else
        kind = CHANNEL_RELAY_PART;
    send(kind, length);
}

static void attack_relay_total(void)
{
    struct channel_relay *relay = process_reserve(self_of(), sizeof *relay);
    relay->frames = CHANNEL_RELAY_FRAMES;
    for (int i = 0; i < CHANNEL_RELAY_FRAMES; i++)
        relay->sizes[i] = BODY_BYTES_MAX;
    send(CHANNEL_RELAY, sizeof *relay);
}

/* Asks for a shared input, not quite; or for many, and takes no answer. */
static void attack_shared(int attack)
{
    for (int i = 0; i < (attack == 0 ? 1 : 10000); i++) {
        struct channel_shared *asked = process_reserve(self_of(), sizeof *asked);
        asked->number = 7;
        send(CHANNEL_SHARED, attack == 0 ? 4 : sizeof *asked);
    }
}

/* Input: what to attack, and how. Then it waits for what it has coming. */
static int attack(farpool_task *task)
{
    const int8_t *input = farpool_task_input(task, NULL);
    struct channel_control *control = self_of()->control;
    if (input[0] == 'd')
        attack_record(task, input[1]);
    else if (input[0] == 'f')
        attack_failed(task, input[1]);
    else if (input[0] == 'r')
        attack_ring(input[1]);
    else if (input[0] == 's')
        attack_shared(input[1]);
    else if (input[0] == 'l' && input[1] == 5)
        attack_relay_total();
    else if (input[0] == 'l')
        attack_relay(input[1]);
    else if (input[0] == 't') /* the in ring's index */
        atomic_store(&control->in.tail, input[1] == 0 ? UINT64_MAX : 1u << 30);
    else if (input[0] == 'e') /* the end of the claim word: more than was given */
        atomic_store((_Atomic uint64_t *)(void *)(self_of()->in.data + RING_HEADER_BYTES +
                                                  atomic_load(&control->in.tail)),
                     UINT64_MAX);
    while (!farpool_task_cancelled(task))
        sched_yield();
    return 0;
}
FARPOOL_BYTES_FUNCTION(attack)

static uint64_t twice(uint64_t value)
{
    return 2 * value;
}
FARPOOL_FUNCTION(twice, uint64_t, uint64_t)

static void give_attack(struct fixture *fixture, uint64_t process, char kind, int number)
{
    int8_t input[6] = {(int8_t)kind, (int8_t)number, 0, 0, 0, 0};
    struct giving giving = giving_of("attack", 3, input, sizeof input);
    giving.process = process;
    giving.give = 50;
    giving.first = 100;
    fixture_give(fixture, &giving);
}

/* The neighbour, process 1, still computes. */
static void check_neighbour(struct fixture *fixture, uint64_t give)
{
    uint64_t inputs[100], outputs[100];
    for (uint64_t i = 0; i < 100; i++)
        inputs[i] = i;
    struct giving giving = giving_of("twice", 100, inputs, sizeof inputs);
    giving.give = give;
    giving.claim = 3;
    giving.publish = 10;
    fixture_give(fixture, &giving);
    fixture_collect(fixture, give, 0, 100, outputs, sizeof outputs);
    for (uint64_t i = 0; i < 100; i++)
        assert_int_equal(outputs[i], 2 * i);
}

static void expect_caught(struct fixture *fixture, uint64_t process)
{
    struct told *told = fixture_expect(fixture, WORKER_PROCESS_GONE);
    assert_int_equal(told->event.process, process);
    assert_int_equal(told->event.code, FARPOOL_EPROTOCOL);
    assert_non_null(strstr(told->text, "broke the rules"));
    assert_true(told->event.running);
    assert_int_equal(told->event.first, 100);
}

static void every_attack_is_caught(void **state)
{
    static const struct {
        char kind;
        int count;
    } kinds[] = {{'d', 15}, {'f', 5}, {'r', 10}, {'l', 6}, {'s', 2}};
    uint64_t process = 2;
    struct fixture fixture;
    (void)state;
    fixture_open_with(&fixture, "/proc/self/exe", NULL, 1 << 20, true);
    fixture_start_ready(&fixture, 1);
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (int number = 0; number < kinds[k].count; number++, process++) {
            fixture_start_ready(&fixture, process);
            give_attack(&fixture, process, kinds[k].kind, number);
            expect_caught(&fixture, process);
            check_neighbour(&fixture, process);
            fixture_forget(&fixture);
        }
    fixture_close(&fixture);
}

/* What the host only looks at when it has something to write. */
static void nonsense_in_indexes_is_caught_when_looked_at(void **state)
{
    uint8_t inputs[40000] = {0};
    struct fixture fixture;
    (void)state;
    for (int number = 0; number < 2; number++) {
        fixture_open_with(&fixture, "/proc/self/exe", NULL, 1 << 20, true);
        fixture_start_ready(&fixture, 2);
        give_attack(&fixture, 2, 't', number);
        fixture_running(&fixture, 2);
        /* More than fits without looking. */
        for (uint64_t give = 60; give < 100; give++) {
            struct giving giving = giving_of("attack", 1, inputs, 16000);
            giving.process = 2;
            giving.give = give;
            fixture_give(&fixture, &giving);
        }
        struct told *told = fixture_expect(&fixture, WORKER_PROCESS_GONE);
        assert_int_equal(told->event.code, FARPOOL_EPROTOCOL);
        fixture_close(&fixture);
    }
}

static void a_forged_claim_is_caught(void **state)
{
    struct fixture fixture;
    (void)state;
    fixture_open_with(&fixture, "/proc/self/exe", NULL, 1 << 20, true);
    fixture_start_ready(&fixture, 1);
    fixture_start_ready(&fixture, 2);
    give_attack(&fixture, 2, 'x', 0);
    struct told *told = fixture_running(&fixture, 2);
    assert_int_equal(told->event.first, 100);
    fixture_do(&fixture, WORKER_PROCESS_KILL, 2, 0);
    fixture_expect(&fixture, WORKER_PROCESS_GONE);

    fixture_start_ready(&fixture, 3);
    give_attack(&fixture, 3, 'e', 0);
    uint64_t deadline_ms = sys_now_ms() + PATIENCE_MS;
    do {
        fixture_do(&fixture, WORKER_PROCESS_SAMPLE, 3, 0);
        told = fixture_next(&fixture);
        assert_true(sys_now_ms() < deadline_ms);
    } while (told->event.kind == WORKER_PROCESS_SAMPLED);
    assert_int_equal(told->event.kind, WORKER_PROCESS_GONE);
    assert_int_equal(told->event.code, FARPOOL_EPROTOCOL);
    check_neighbour(&fixture, 9);
    fixture_close(&fixture);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_attack_is_caught),
        cmocka_unit_test(nonsense_in_indexes_is_caught_when_looked_at),
        cmocka_unit_test(a_forged_claim_is_caught),
    };
    if (farpool_init(&argc, &argv) != 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
