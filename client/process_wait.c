/* SPDX-License-Identifier: Apache-2.0
 *
 * process_wait.c: a pool process's sleeping and waking.
 *
 * Who sleeps says so in shared memory, passes a full fence, looks again, and then waits
 * on a futex whose value it read before; who has something for a sleeper writes it,
 * passes a full fence, and looks whether the other sleeps. So one of the two always sees
 * the other, and no wake-up is lost; while both are awake nothing calls the kernel.
 *
 * Spinning: who has just had work looks again for a while before it sleeps, if the pool
 * asks for it, and as long as nobody else wants the core: it yields all the time, and a
 * yield that comes back late means that it does, and ends spinning for some waits. */
#include "client/process_internal.h"
#include "common/sys/sys.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SPIN_NS 50000
#define YIELD_LATE_NS 10000 /* a yield that takes longer gave the core to somebody */
#define SPIN_REST 16        /* waits without spinning after that */
#define LOOKS_PER_YIELD 64

static bool spin(struct process *self, bool (*ready)(struct process *self))
{
    if (!self->control->spin || !self->worked)
        return false;
    if (self->spin_rest > 0) {
        self->spin_rest--;
        return false;
    }
    uint64_t began = process_now_ns(), now = began;
    while (now - began < SPIN_NS) {
        for (int i = 0; i < LOOKS_PER_YIELD; i++) {
            if (ready(self))
                return true;
            sys_pause();
        }
        uint64_t before = process_now_ns();
        sched_yield();
        now = process_now_ns();
        if (now - before > YIELD_LATE_NS) {
            self->spin_rest = SPIN_REST;
            return ready(self);
        }
    }
    return false;
}

/* Sleeps until woken, or until the time. false: the time has come. */
static bool sleep_once(struct process *self, uint32_t seen, uint64_t until_ms)
{
    struct timespec until = {(time_t)(until_ms / 1000),
                             (long)(until_ms % 1000) * 1000000};
    long slept =
        syscall(SYS_futex, (uintptr_t)&self->control->wake, FUTEX_WAIT_BITSET, seen,
                until_ms == UINT64_MAX ? NULL : &until, NULL, FUTEX_BITSET_MATCH_ANY);
    return slept == 0 || errno != ETIMEDOUT;
}

bool process_wait(struct process *self, enum channel_asleep what,
                  bool (*ready)(struct process *self), uint64_t until_ms)
{
    struct channel_control *control = self->control;
    if (ready(self) || spin(self, ready))
        return true;
    if (process_is_forked())
        _exit(0); /* nobody will ever wake a copy */
    bool in_time = true, is_ready = false;
    while (in_time && !is_ready) {
        uint32_t seen = atomic_load_explicit(&control->wake, memory_order_acquire);
        atomic_store_explicit(&control->asleep, what, memory_order_relaxed);
        atomic_thread_fence(memory_order_seq_cst);
        is_ready = ready(self);
        if (!is_ready)
            in_time = sleep_once(self, seen, until_ms);
        atomic_store_explicit(&control->asleep, CHANNEL_AWAKE, memory_order_relaxed);
        is_ready = is_ready || ready(self);
    }
    self->worked = false;
    return is_ready;
}

static void wake_host(struct process *self)
{
    const uint64_t one = 1;
    struct channel_control *control = self->control;
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&control->host_asleep, memory_order_relaxed) == 0 ||
        atomic_exchange(&control->host_asleep, 0) == 0)
        return;
    /* Full means that it is readable already. */
    while (write(self->bell, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

void process_publish(struct process *self)
{
    ring_publish(&self->out);
    wake_host(self);
}

void process_publish_quietly(struct process *self)
{
    ring_publish(&self->out);
}

static bool out_ring_moved(struct process *self)
{
    return atomic_load_explicit(&self->control->out.tail, memory_order_acquire) !=
           self->out.tail;
}

void *process_reserve(struct process *self, uint32_t length)
{
    void *body;
    while ((body = ring_reserve(&self->out, length)) == NULL) {
        process_publish(self);
        process_wait(self, CHANNEL_WAITS_ROOM, out_ring_moved, UINT64_MAX);
    }
    return body;
}
