/* SPDX-License-Identifier: Apache-2.0
 *
 * host_output.c: what a process prints, line by line, and the last of its stderr while it
 * is starting. A line longer than the buffer is told in pieces; one poll reads a bounded
 * amount, so that a process that prints without end holds nobody up. */
#include "worker/host_internal.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define READS_MAX 16 /* of up to a line buffer each, in one poll */

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

static void tell_line(const struct host *host, const struct host_process *process,
                      const struct host_pipe *pipe, const char *line)
{
    if (host->config.on_output != NULL)
        host->config.on_output(host->config.user, process->number, process->pid,
                               pipe->number, line);
}

/* Tells the whole lines in the buffer, and a piece of one that fills it. */
static void tell_lines(const struct host *host, const struct host_process *process,
                       struct host_pipe *pipe)
{
    size_t begin = 0;
    char *end;
    while ((end = memchr(pipe->line + begin, '\n', pipe->filled - begin)) != NULL) {
        *end = '\0';
        tell_line(host, process, pipe, pipe->line + begin);
        begin = (size_t)(end - pipe->line) + 1;
    }
    pipe->filled -= begin;
    memmove(pipe->line, pipe->line + begin, pipe->filled);
    if (pipe->filled == sizeof pipe->line - 1) {
        pipe->line[pipe->filled] = '\0';
        tell_line(host, process, pipe, pipe->line);
        pipe->filled = 0;
    }
}

void host_output_read(struct host *host, struct host_process *process,
                      struct host_pipe *pipe)
{
    for (int reads = 0; pipe->fd >= 0 && reads < READS_MAX; reads++) {
        size_t room = sizeof pipe->line - 1 - pipe->filled;
        ssize_t got = read(pipe->fd, pipe->line + pipe->filled, room);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EAGAIN)
            return;
        if (got <= 0) {
            close(pipe->fd);
            pipe->fd = -1;
            return;
        }
        if (pipe->number == 2 && process->state == PROCESS_STARTING)
            keep_stderr(process, pipe->line + pipe->filled, (size_t)got);
        pipe->filled += (size_t)got;
        tell_lines(host, process, pipe);
    }
}

void host_output_finish(struct host *host, struct host_process *process)
{
    for (int which = 0; which < 2; which++) {
        struct host_pipe *pipe = &process->pipes[which];
        host_output_read(host, process, pipe);
        if (pipe->filled > 0) {
            pipe->line[pipe->filled] = '\0';
            tell_line(host, process, pipe, pipe->line);
            pipe->filled = 0;
        }
        if (pipe->fd >= 0)
            close(pipe->fd);
        pipe->fd = -1;
    }
}
