/* SPDX-License-Identifier: Apache-2.0
 *
 * host_output.c: what a process prints, line by line, and whose it is; and the last of
 * its stderr while it is starting.
 *
 * At the end of a task that printed, the process writes a record of how many bytes it has
 * written in all (client/process_output.c): what was read up to there is the task's. What
 * is behind the last such record was printed by what the process does now, provided that
 * it did the same before the pipe was read; else it waits to be known. So a line is told
 * while its task runs, with its index, and always in front of the task's result.
 *
 * A line longer than the buffer is told in pieces; one poll reads a bounded amount, so
 * that a process that prints without end holds nobody up. All that the process tells is
 * only believed of itself. */
#include "worker/host_internal.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define TAKE_BYTES_MAX 131072u /* read for one record: more than a pipe holds */

static void keep_stderr(struct host_process *process, const char *text, size_t bytes)
{
    if (bytes > HOST_STDERR_BYTES) {
        text += bytes - HOST_STDERR_BYTES;
        bytes = HOST_STDERR_BYTES;
    }
    if (process->stderr_bytes + bytes > HOST_STDERR_BYTES) {
        size_t drop = process->stderr_bytes + bytes - HOST_STDERR_BYTES;
        process->stderr_bytes -= drop;
        memmove(process->stderr_text, process->stderr_text + drop, process->stderr_bytes);
    }
    memcpy(process->stderr_text + process->stderr_bytes, text, bytes);
    process->stderr_bytes += bytes;
    process->stderr_text[process->stderr_bytes] = '\0';
}

/* ------------------------------------------------------------------------ reading */

/* Reads once; the process sees how much. 0: nothing is there, or no room. */
static size_t fill(struct host_process *process, struct host_pipe *pipe)
{
    size_t room = HOST_LINE_BYTES - pipe->filled;
    if (pipe->fd < 0 || room == 0)
        return 0;
    struct channel_output *output = &process->map->control->output;
    atomic_fetch_add(&output->turn, 1);
    ssize_t got = read(pipe->fd, pipe->text + pipe->filled, room);
    bool ended = got == 0 || (got < 0 && errno != EINTR && errno != EAGAIN);
    if (got > 0)
        pipe->read += (uint64_t)got;
    atomic_store(&output->read[pipe->number - 1], pipe->read);
    atomic_fetch_add(&output->turn, 1);
    if (ended) {
        close(pipe->fd);
        pipe->fd = -1;
    }
    if (got <= 0)
        return 0;
    if (pipe->number == 2 && process->state == PROCESS_STARTING)
        keep_stderr(process, pipe->text + pipe->filled, (size_t)got);
    pipe->filled += (size_t)got;
    return (size_t)got;
}

void host_output_read(struct host *host, struct host_process *process)
{
    (void)host;
    for (int which = 0; which < 2; which++)
        fill(process, &process->pipes[which]);
}

/* ------------------------------------------------------------------------- owners */

struct host_owner host_output_owner(const struct host_process *process)
{
    const struct host_owner none = {.give = UINT64_MAX};
    struct host_owner owner;
    if (process->map == NULL)
        return none;
    const struct channel_running *running = &process->map->control->running;
    const uint64_t since = atomic_load_explicit(&running->since, memory_order_acquire);
    if (since == UINT64_MAX &&
        atomic_load_explicit(&running->executing, memory_order_acquire) == 0)
        return none;
    owner.give = atomic_load_explicit(&running->give, memory_order_acquire);
    owner.first = atomic_load_explicit(&running->first, memory_order_acquire);
    const uint64_t end = owner.first + running->place + 1;
    if (since < owner.first)
        owner.first = since;
    owner.count = end - owner.first;
    return owner;
}

static bool is_same(const struct host_owner *a, const struct host_owner *b)
{
    return a->give == b->give && a->first == b->first;
}

/* Whether the process was given these tasks. */
static bool is_given(const struct host_process *process, const struct host_owner *owner)
{
    const struct give *give;
    TAILQ_FOREACH (give, &process->gives, link)
        if (give->number == owner->give)
            return owner->first >= give->first &&
                   owner->first - give->first < give->end && owner->count > 0 &&
                   owner->count <= give->end - (owner->first - give->first);
    return false;
}

/* ------------------------------------------------------------------------ telling */

/* The first bytes that are held; their last line may be without an end. */
static void tell(struct host *host, struct host_process *process, struct host_pipe *pipe,
                 const struct host_owner *owner, size_t bytes)
{
    if (bytes == 0)
        return;
    struct worker_event event = host_event(host, process, WORKER_PROCESS_OUTPUT);
    const bool ended = pipe->text[bytes - 1] == '\n';
    const char behind = pipe->text[bytes];
    if (!ended)
        pipe->text[bytes] = '\n';
    event.pool = process->pool;
    event.fd = pipe->number;
    event.output = pipe->text;
    event.output_bytes = bytes + !ended;
    if (is_given(process, owner)) {
        event.give = owner->give;
        event.first = owner->first;
        event.count = (uint32_t)owner->count;
    }
    host_deliver(host, &event);
    pipe->text[bytes] = behind;
    pipe->filled -= bytes;
    memmove(pipe->text, pipe->text + bytes, pipe->filled);
}

/* How much of what is held are whole lines, or a piece of one that has no room. */
static size_t find_lines(const struct host_pipe *pipe)
{
    const char *last = memrchr(pipe->text, '\n', pipe->filled);
    if (last != NULL)
        return (size_t)(last - pipe->text) + 1;
    return pipe->filled == HOST_LINE_BYTES ? pipe->filled : 0;
}

void host_output_tell(struct host *host, struct host_process *process,
                      const struct host_owner *before)
{
    struct host_owner owner = host_output_owner(process);
    const bool known = is_same(before, &owner) && !ring_ready(&process->out);
    process->printing = false;
    for (int which = 0; which < 2; which++) {
        struct host_pipe *pipe = &process->pipes[which];
        const size_t lines = find_lines(pipe);
        if (!known && pipe->filled < HOST_LINE_BYTES) {
            process->printing = process->printing || lines > 0;
            continue;
        }
        if (!known)
            owner = (struct host_owner){.give = UINT64_MAX};
        tell(host, process, pipe, &owner, lines);
    }
}

static void take_pipe(struct host *host, struct host_process *process,
                      struct host_pipe *pipe, const struct host_owner *owner,
                      uint64_t written)
{
    size_t taken = 0, got = 1;
    while (written > pipe->read && got > 0 && taken < TAKE_BYTES_MAX) {
        tell(host, process, pipe, owner, find_lines(pipe));
        got = fill(process, pipe);
        taken += got;
    }
    const uint64_t told = pipe->read - pipe->filled;
    if (written > told)
        tell(host, process, pipe, owner,
             written < pipe->read ? (size_t)(written - told) : pipe->filled);
}

void host_output_take(struct host *host, struct host_process *process,
                      const struct channel_printed *printed)
{
    const struct host_owner owner = {printed->give, printed->first, printed->count};
    for (int which = 0; which < 2; which++)
        take_pipe(host, process, &process->pipes[which], &owner, printed->written[which]);
}

void host_output_finish(struct host *host, struct host_process *process)
{
    const struct host_owner owner = host_output_owner(process);
    for (int which = 0; which < 2; which++) {
        struct host_pipe *pipe = &process->pipes[which];
        take_pipe(host, process, pipe, &owner, UINT64_MAX);
        if (pipe->fd >= 0)
            close(pipe->fd);
        pipe->fd = -1;
    }
}
