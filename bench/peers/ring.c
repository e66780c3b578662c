/* SPDX-License-Identifier: Apache-2.0
 *
 * ring.c: a floor, not a pool: a client and two workers with a pair of rings of 64-byte
 * slots each in shared memory; who has nothing to do sleeps on a futex.
 *
 *   peer-ring noop1|apply|eff1ms|eff100us|eff10us */
#include "work.h"

#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { WORKERS = 2, SLOTS = 1024 };

struct slot {
    enum work_op op;
    int64_t value;
} __attribute__((aligned(64)));

struct ring {
    _Atomic uint32_t head __attribute__((aligned(64)));
    _Atomic uint32_t tail __attribute__((aligned(64)));
    struct slot slots[SLOTS];
};

/* One for each worker, and one for the client: what it sleeps on. */
struct bell {
    _Atomic uint32_t rung __attribute__((aligned(64)));
    _Atomic uint32_t asleep;
};

static struct shared {
    struct ring tasks[WORKERS], results[WORKERS];
    struct bell workers[WORKERS], client;
} * shared;

static bool push(struct ring *ring, const struct slot *slot)
{
    const uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    if (head - atomic_load_explicit(&ring->tail, memory_order_acquire) == SLOTS)
        return false;
    ring->slots[head % SLOTS] = *slot;
    atomic_store_explicit(&ring->head, head + 1, memory_order_release);
    return true;
}

static bool pop(struct ring *ring, struct slot *ret_slot)
{
    const uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    if (atomic_load_explicit(&ring->head, memory_order_acquire) == tail)
        return false;
    *ret_slot = ring->slots[tail % SLOTS];
    atomic_store_explicit(&ring->tail, tail + 1, memory_order_release);
    return true;
}

static void ring_bell(struct bell *bell)
{
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&bell->asleep, memory_order_relaxed)) {
        atomic_fetch_add(&bell->rung, 1);
        syscall(SYS_futex, (uintptr_t)&bell->rung, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
    }
}

static bool is_empty(struct ring *ring)
{
    return atomic_load(&ring->head) == atomic_load(&ring->tail);
}

static void sleep_on(struct bell *bell, struct ring *rings, int count)
{
    const uint32_t seen = atomic_load(&bell->rung);
    bool nothing = true;
    atomic_store(&bell->asleep, 1);
    for (int i = 0; i < count; i++)
        nothing = nothing && is_empty(&rings[i]);
    if (nothing)
        syscall(SYS_futex, (uintptr_t)&bell->rung, FUTEX_WAIT, seen, NULL, NULL, 0);
    atomic_store(&bell->asleep, 0);
}

static _Noreturn void serve(int number)
{
    struct slot slot;
    for (;;) {
        while (!pop(&shared->tasks[number], &slot))
            sleep_on(&shared->workers[number], &shared->tasks[number], 1);
        work_do(slot.op, &slot.value, sizeof slot.value);
        while (!push(&shared->results[number], &slot))
            ring_bell(&shared->client);
        if (is_empty(&shared->tasks[number]))
            ring_bell(&shared->client);
    }
}

static void run(const struct work_items *items, long window)
{
    long sent = 0, got = 0, given[WORKERS] = {0};
    if (items->size != sizeof(int64_t))
        work_die("no such work: a slot holds one int64");
    while (got < items->count) {
        long before = got;
        for (int i = 0; i < WORKERS; i++) {
            struct slot slot = {.op = items->op};
            while (sent < items->count && given[i] < window) {
                memcpy(&slot.value,
                       (const char *)items->base + (size_t)sent * items->stride,
                       sizeof slot.value);
                if (!push(&shared->tasks[i], &slot))
                    break;
                sent++;
                given[i]++;
            }
            ring_bell(&shared->workers[i]);
            for (; pop(&shared->results[i], &slot); got++, given[i]--)
                work_result(&slot.value, sizeof slot.value);
        }
        if (got == before)
            sleep_on(&shared->client, shared->results, WORKERS);
    }
}

int main(int argc, char **argv)
{
    static const struct work_peer peer = {run, SLOTS, 1, 16};
    if (argc != 2)
        work_die("usage: peer-ring noop1|apply|eff1ms|eff100us|eff10us");
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        work_die("mmap");
    for (int i = 0; i < WORKERS; i++) {
        const pid_t child = fork();
        if (child < 0)
            work_die("fork");
        if (child == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            serve(i);
        }
    }
    work_run(argv[1], &peer);
    return 0; /* the workers end with this process */
}
