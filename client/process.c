/* SPDX-License-Identifier: Apache-2.0
 *
 * process.c: the inside of a pool process: attaching to the shared memory, running the
 * initializer, serving tasks until told to close.
 *
 * There is one thread that touches the rings, the one that called farpool_init; a
 * function may have others, which only use the calls of farpool.h that say so. The
 * process trusts its host. It dies with it: the kernel sends SIGKILL. */
#include "client/process_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define IDLE_MS 1000 /* without work, before memory is given back */
#define TRIM_BYTES 8388608u

struct process process_self;

static struct {
    bool known; /* the environment was looked at */
    bool pool_process;
    unsigned version, generation;
    int memory, bell, parent;
} start;

uint64_t process_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Reads the variable once, and takes it away, so that what a function starts is not
 * mistaken for a process of the pool. */
bool process_is_pool_process(void)
{
    if (start.known)
        return start.pool_process;
    start.known = true;
    const char *text = getenv(CHANNEL_ENVIRONMENT);
    if (text == NULL)
        return false;
    start.pool_process = true;
    if (sscanf(text, "%u:%d:%d:%d:%u", &start.version, &start.memory, &start.bell,
               &start.parent, &start.generation) != 5)
        start.version = 0;
    unsetenv(CHANNEL_ENVIRONMENT);
    return true;
}

const struct id *process_pool(void)
{
    return &process_self.control->pool;
}

static _Noreturn void refuse(const char *why)
{
    fprintf(stderr, "farpool_init: cannot join the pool: %s\n", why);
    exit(CHANNEL_EXIT_REFUSED);
}

static _Noreturn void refuse_version(void)
{
    fprintf(stderr, "farpool_init: cannot join the pool: it is of another version\n");
    exit(CHANNEL_EXIT_VERSION);
}

static void follow_parent(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != start.parent)
        refuse("it was not started by the pool itself, or the pool is gone");
}

static void map_memory(struct process *self)
{
    struct stat status;
    if (fstat(start.memory, &status) < 0 || status.st_size < (off_t)sizeof *self->control)
        refuse("there is no shared memory");
    void *base = mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_NORESERVE, start.memory, 0);
    if (base == MAP_FAILED)
        refuse(strerror(errno));
    madvise(base, (size_t)status.st_size, MADV_DONTDUMP);
    self->base = base;
    self->control = base;
    if (self->control->magic != CHANNEL_MAGIC ||
        self->control->version != CHANNEL_VERSION ||
        self->control->generation != start.generation)
        refuse("the shared memory is not this process's");
    self->at = channel_layout(self->control->payload_max);
    if (self->at.size != (uint64_t)status.st_size)
        refuse("the shared memory has another layout");
}

static void attach(struct process *self)
{
    if (start.version != CHANNEL_VERSION)
        refuse_version();
    follow_parent();
    map_memory(self);
    self->memory = start.memory;
    self->bell = start.bell;
    fcntl(self->memory, F_SETFD, FD_CLOEXEC);
    fcntl(self->bell, F_SETFD, FD_CLOEXEC);
    fcntl(CHANNEL_FD_ANSWERS, F_SETFD, FD_CLOEXEC);
    uint16_t generation = (uint16_t)start.generation;
    ring_init(&self->in, &self->control->in, self->base + self->at.in, CHANNEL_RING_BYTES,
              generation);
    ring_init(&self->relay, &self->control->relay, self->base + self->at.relay,
              CHANNEL_RING_BYTES, generation);
    ring_init(&self->out, &self->control->out, self->base + self->at.out,
              CHANNEL_RING_BYTES, generation);
    if (arena_init(&self->kept, 0, CHANNEL_KEPT_BYTES) != 0 ||
        arena_init(&self->passing, CHANNEL_KEPT_BYTES,
                   self->at.out_arena_bytes - CHANNEL_KEPT_BYTES) != 0)
        refuse("out of memory");
    self->batch.block = ARENA_NONE;
    signal(SIGTTOU, SIG_IGN); /* its group is never the terminal's own, but may print */
    process_guard(self);
    process_output_open(self);
    atomic_store(&self->control->state, CHANNEL_ATTACHED);
}

static _Noreturn void leave(int status)
{
    fflush(NULL);
    exit(status);
}

static _Noreturn void fail_start(struct process *self, int code, const char *message,
                                 const char *backtrace)
{
    process_output_nobody(self);
    process_write_failed(self, CHANNEL_START_FAILED, 0, 0, code, message, backtrace);
    process_publish(self);
    leave(1);
}

/* An initializer is a bytes function whose output nobody wants. */
static void initialise(struct process *self)
{
    struct ring_record record;
    struct work work;
    char text[FAILURE_MESSAGE_MAX + FUNCTION_NAME_MAX + 64];
    if (ring_peek(&self->in, &record) != 1 || record.kind != CHANNEL_INIT)
        refuse("its first record is missing");
    ring_advance(&self->in, &record);
    process_describe(self, &work, &record);
    if (work.give.function[0] != '\0') {
        if (work.function != NULL && work.function->form == FARPOOL_TYPED) {
            work.code = FARPOOL_EINITIALIZER;
            work.why = "the initializer is a typed function; it must be a bytes function";
        }
        if (work.code != 0)
            fail_start(self, work.code, work.why, "");
        process_call(self, &work, 0);
        if (self->task.code != 0) {
            snprintf(text, sizeof text, "the initializer %s failed: %s",
                     work.give.function, self->task.message);
            fail_start(self, FARPOOL_EINITIALIZER, text, self->task.backtrace);
        }
        if (self->task.place == OUTPUT_ARENA)
            process_free(self, self->task.block);
    }
    ring_release(&self->in);
}

static bool work_ready(struct process *self)
{
    return ring_ready(&self->in) || ring_ready(&self->relay) ||
           atomic_load_explicit(&self->control->closing, memory_order_acquire) != 0 ||
           process_shared_changed(self);
}

static void write_plain(struct process *self, uint16_t kind)
{
    process_reserve(self, 0);
    ring_commit(&self->out, kind, 0);
    process_publish(self);
}

void process_set_blocked(bool blocked)
{
    struct process *self = &process_self;
    process_flush_finished(self);
    write_plain(self, blocked ? CHANNEL_BLOCKED : CHANNEL_UNBLOCKED);
}

/* Has the kernel provide the pages of the rings that tasks go through all at once, in a
 * pause behind the first tasks: a page that is touched first between two tasks costs
 * several times as much. Where it cannot, that is all that happens. */
static void warm_rings(struct process *self)
{
    self->warm = true;
    madvise(self->base + self->at.in, CHANNEL_RING_BYTES, MADV_POPULATE_WRITE);
    madvise(self->base + self->at.out, CHANNEL_RING_BYTES, MADV_POPULATE_WRITE);
}

/* Gives memory back when there was nothing to do for a while, then sleeps for good. */
static void wait_for_work(struct process *self)
{
    if (self->unrung)
        process_publish(self);
    self->unrung = false;
    if (self->has_run && !self->warm)
        warm_rings(self);
    uint64_t until_ms = process_now_ns() / 1000000 + IDLE_MS;
    bool much = self->in_touched > TRIM_BYTES ||
                self->kept.touched - self->kept.base > TRIM_BYTES ||
                self->passing.touched > self->passing.base;
    if (process_wait(self, CHANNEL_WAITS_WORK, work_ready, much ? until_ms : UINT64_MAX))
        return;
    process_trim(self);
    if (self->in_touched > TRIM_BYTES) {
        self->in_touched = 0;
        write_plain(self, CHANNEL_IDLE);
    }
}

/* One record; false: there is none and the host wants an end. */
static bool serve_one(struct process *self)
{
    struct ring_record record;
    process_relay_discard(self);
    process_shared_look(self);
    /* The order matters: what was given before the host closed is seen. */
    bool closing = atomic_load_explicit(&self->control->closing, memory_order_acquire);
    int there = ring_peek(&self->in, &record);
    if (there == 1 && record.kind == CHANNEL_GIVE) {
        ring_advance(&self->in, &record);
        process_run(self, &record);
        self->worked = self->has_run = true;
        return true;
    }
    if (there != 0)
        refuse("the in ring holds nonsense");
    if (!closing)
        wait_for_work(self);
    return !closing;
}

void process_serve(void)
{
    struct process *self = &process_self;
    attach(self);
    initialise(self);
    process_output_nobody(self);
    atomic_store(&self->control->state, CHANNEL_SERVING);
    write_plain(self, CHANNEL_READY);
    self->worked = true;
    while (serve_one(self))
        ;
    leave(0);
}
