/* SPDX-License-Identifier: Apache-2.0
 *
 * process_crash.c: what a pool process leaves behind when it crashes, and what a child
 * that a function forked is kept from.
 *
 * The crash handlers run on a stack of their own, write a backtrace into the shared
 * memory, line by line, and let the signal do what it does. The stack is walked by
 * libgcc's unwinder, which is linked in: backtrace(3) would load it, and that takes a
 * millisecond of each process's start. A program that has handlers of its own keeps them.
 * A forked child gets a private copy of the shared memory in the place of the real one,
 * so that nothing it does reaches the host. */
#include "client/process_internal.h"

#include <execinfo.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <unwind.h>

#define FRAMES_MAX 48
#define OWN_FRAMES 2   /* of the handler */
#define LINE_ROOM 1024 /* of the crash text, kept free for one more line */
#define STACK_BYTES 65536

static const int crash_signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
static volatile sig_atomic_t forked;
static uint8_t crash_stack[STACK_BYTES] __attribute__((aligned(16)));

bool process_is_forked(void)
{
    return forked != 0;
}

struct walk {
    void **at;
    int count, max; /* count -1: process_frames itself comes next */
};

static _Unwind_Reason_Code note_frame(struct _Unwind_Context *context, void *user)
{
    struct walk *walk = user;
    void *address = (void *)_Unwind_GetIP(context);
    if (address == NULL || walk->count == walk->max)
        return _URC_END_OF_STACK;
    if (walk->count >= 0)
        walk->at[walk->count] = address;
    walk->count++;
    return _URC_NO_REASON;
}

__attribute__((noinline)) int process_frames(void **at, int max)
{
    struct walk walk = {at, -1, max};
    _Unwind_Backtrace(note_frame, &walk);
    return walk.count > 0 ? walk.count : 0;
}

/* Only calls that may be made in a signal handler. */
__attribute__((noinline)) static void write_backtrace(const struct process *self)
{
    void *frames[FRAMES_MAX];
    const off_t begin = (off_t)self->at.crash;
    int count = process_frames(frames, FRAMES_MAX);
    if (lseek(self->memory, begin, SEEK_SET) != begin)
        return;
    for (int i = OWN_FRAMES; i < count; i++) {
        off_t at = lseek(self->memory, 0, SEEK_CUR);
        if (at < begin || at > begin + CHANNEL_CRASH_BYTES - LINE_ROOM)
            break;
        backtrace_symbols_fd(frames + i, 1, self->memory);
    }
    off_t end = lseek(self->memory, 0, SEEK_CUR);
    if (end > begin && end <= begin + CHANNEL_CRASH_BYTES)
        atomic_store(&self->control->crash_bytes, (uint32_t)(end - begin));
}

static void crashed(int number)
{
    static volatile sig_atomic_t once;
    if (!forked && !once) {
        once = 1;
        write_backtrace(&process_self);
    }
    signal(number, SIG_DFL);
    raise(number);
}

static void install(void)
{
    stack_t stack = {.ss_sp = crash_stack, .ss_size = sizeof crash_stack};
    sigaltstack(&stack, NULL);
    for (size_t i = 0; i < sizeof crash_signals / sizeof *crash_signals; i++) {
        struct sigaction old, action = {.sa_handler = crashed, .sa_flags = SA_ONSTACK};
        sigemptyset(&action.sa_mask);
        if (sigaction(crash_signals[i], NULL, &old) == 0 && old.sa_handler == SIG_DFL &&
            (old.sa_flags & SA_SIGINFO) == 0)
            sigaction(crash_signals[i], &action, NULL);
    }
}

static void in_child(void)
{
    struct process *self = &process_self;
    forked = 1;
    if (mmap(self->base, self->at.size, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, self->memory, 0) == MAP_FAILED)
        _exit(127); /* it would write into what its parent shares */
}

void process_guard(struct process *self)
{
    void *frame;
    (void)self;
    (void)process_frames(&frame, 1); /* what it does once, it does not in a handler */
    install();
    pthread_atfork(NULL, NULL, in_child);
}
