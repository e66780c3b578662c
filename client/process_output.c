/* SPDX-License-Identifier: Apache-2.0
 *
 * process_output.c: which task printed what, where the host reads stdout and stderr
 * through pipes. stdout is buffered by lines, so that they are seen while a task runs.
 * When a task has ended stdio is flushed; if the pipes have then had more bytes written
 * to them than before, a record tells the host how many, and whose they are.
 *
 * How many bytes were written in all, by whatever means, is what the host has read and
 * what is left in the pipes. That nothing is left in either, as nearly always, one system
 * call on an epoll tells; else each is asked. Even that is dear for a short task: so
 * where tasks have printed nothing for long, those that are short are looked at together,
 * before their results go. Until then running.since says that any of them may be the one.
 */
#include "client/process_internal.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define PRINT_NS 300    /* a write to a pipe takes longer */
#define YIELDS 20       /* tries, before it sleeps: the host may have lost its core */
#define SLEEP_NS 50000  /* between two tries */
#define TRIES_MAX 20000 /* about a second: then it does without */
#define ALONE 256       /* tasks behind one that printed that are looked at one by one */

/* The end of a pipe that is read from, of which the other end is at hand; -1: no /proc,
 * or it is no pipe. */
static int open_other_end(int pipe)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", pipe);
    return open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
}

static int watch(int pipe_out, int pipe_err)
{
    struct epoll_event event = {.events = EPOLLIN};
    const int out = open_other_end(pipe_out), err = open_other_end(pipe_err);
    const int unread = epoll_create1(EPOLL_CLOEXEC);
    if (unread >= 0 && epoll_ctl(unread, EPOLL_CTL_ADD, out, &event) == 0 &&
        epoll_ctl(unread, EPOLL_CTL_ADD, err, &event) == 0)
        return unread;
    close(unread);
    close(out);
    close(err);
    return -1;
}

void process_output_open(struct process *self)
{
    struct printing *printing = &self->printing;
    printing->captured = self->control->captured != 0;
    if (!printing->captured)
        return;
    for (int which = 0; which < 2; which++)
        printing->pipes[which] = fcntl(which + 1, F_DUPFD_CLOEXEC, self->bell);
    printing->unread = watch(printing->pipes[0], printing->pipes[1]);
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    printing->alone = ALONE;
}

static bool nothing_is_left(const struct printing *printing)
{
    struct epoll_event event;
    return printing->unread >= 0 && epoll_wait(printing->unread, &event, 1, 0) == 0;
}

/* false: it changed while we looked, or the host is reading. */
static bool look(struct process *self, uint64_t written[2])
{
    struct channel_output *output = &self->control->output;
    uint32_t turn = atomic_load_explicit(&output->turn, memory_order_acquire);
    if (turn % 2 == 1)
        return false;
    const bool empty = nothing_is_left(&self->printing);
    for (int which = 0; which < 2; which++) {
        int left = 0;
        written[which] = UINT64_MAX;
        if (empty || ioctl(self->printing.pipes[which], FIONREAD, &left) == 0)
            written[which] =
                atomic_load_explicit(&output->read[which], memory_order_acquire) +
                (uint64_t)left;
    }
    return atomic_load_explicit(&output->turn, memory_order_relaxed) == turn;
}

static void find_written(struct process *self, uint64_t written[2])
{
    for (int tries = 0; tries < TRIES_MAX; tries++) {
        const struct timespec pause = {.tv_nsec = SLEEP_NS};
        if (look(self, written))
            return;
        if (tries < YIELDS)
            sched_yield();
        else
            nanosleep(&pause, NULL);
    }
    written[0] = written[1] = UINT64_MAX;
}

static void tell(struct process *self, const uint64_t written[2])
{
    struct printing *printing = &self->printing;
    struct channel_printed *printed = process_reserve(self, sizeof *printed);
    *printed = (struct channel_printed){.give = printing->give,
                                        .first = printing->first,
                                        .count = printing->count,
                                        .written = {written[0], written[1]}};
    ring_commit(&self->out, CHANNEL_PRINTED, sizeof *printed);
    process_publish_quietly(self);
    memcpy(printing->written, written, sizeof printing->written);
}

static bool flush_stdio(void)
{
    bool any = __fpending(stdout) > 0 || __fpending(stderr) > 0;
    if (any) {
        fflush(stdout);
        fflush(stderr);
    }
    return any;
}

/* The one that runs may have printed too, when results are sent in the middle of it. */
static void include_running(struct process *self)
{
    const struct channel_running *running = &self->control->running;
    struct printing *printing = &self->printing;
    if (farpool_task_current() != NULL)
        printing->count = running->first + running->place + 1 - printing->first;
}

void process_output_settle(struct process *self)
{
    struct printing *printing = &self->printing;
    uint64_t written[2];
    printing->possible = false;
    include_running(self);
    find_written(self, written);
    if (memcmp(written, printing->written, sizeof written) != 0) {
        tell(self, written);
        printing->alone = ALONE;
    } else if (printing->alone > 0) {
        printing->alone--;
    }
    printing->count = 0;
    atomic_store_explicit(&self->control->running.since, UINT64_MAX,
                          memory_order_release);
}

void process_output_mark(struct process *self, uint64_t give, uint64_t first,
                         uint32_t count, uint64_t elapsed_ns)
{
    struct printing *printing = &self->printing;
    if (!printing->captured)
        return;
    if (printing->count == 0) {
        printing->give = give;
        printing->first = first;
        atomic_store_explicit(&self->control->running.since, first, memory_order_release);
    }
    printing->count = first + count - printing->first;
    printing->possible = printing->possible || elapsed_ns >= PRINT_NS;
    if (flush_stdio() || printing->alone > 0)
        process_output_settle(self);
}

void process_output_nobody(struct process *self)
{
    uint64_t written[2];
    if (!self->printing.captured)
        return;
    flush_stdio();
    find_written(self, written);
    self->printing.give = self->printing.first = 0;
    if (memcmp(written, self->printing.written, sizeof written) != 0)
        tell(self, written);
}
