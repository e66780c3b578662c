/* SPDX-License-Identifier: Apache-2.0
 *
 * host_gone.c: the end of a process: killing, reaping, and telling. What it had published
 * is delivered first; then GONE, which names the task that it was in, if it was in one.
 * Whatever else it had been given has not run, or has not been heard of: no TAKEN tells
 * so.
 *
 * Its control group is killed with it, if it has one, and its process group; what left
 * these is killed when it has ended (host_remains.c). The group is only ever named while
 * the process is not reaped, so its number cannot be another's.
 */
#include "worker/host_internal.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

void host_kill(struct host_process *process)
{
    if (process->pid <= 0)
        return;
    group_kill(process->group);
    if (process->pidfd < 0) {
        kill(process->pid, SIGKILL);
        return;
    }
    /* Success means that it is not reaped, by whomever. */
    if (syscall(SYS_pidfd_send_signal, process->pidfd, SIGKILL, NULL, 0) == 0)
        kill(-process->pid, SIGKILL);
}

/* Reaps it. An embedding program that reaps children that are not its own, or ignores
 * SIGCHLD, may have been faster: then how it ended is not known. */
static void reap(struct host_process *process, int *ret_exit_status, int *ret_signal)
{
    siginfo_t info = {0};
    *ret_exit_status = -1;
    *ret_signal = 0;
    if (process->pid <= 0)
        return;
    idtype_t by = process->pidfd >= 0 ? P_PIDFD : P_PID;
    id_t which = (id_t)(process->pidfd >= 0 ? process->pidfd : process->pid);
    while (waitid(by, which, &info, WEXITED | WNOWAIT) < 0)
        if (errno != EINTR)
            return;
    kill(-process->pid, SIGKILL);
    group_kill(process->group);
    while (waitid(by, which, &info, WEXITED) < 0)
        if (errno != EINTR)
            return;
    if (info.si_code == CLD_EXITED)
        *ret_exit_status = info.si_status;
    else
        *ret_signal = info.si_status;
}

/* The text that its crash handler left, in memory of the host's own; NULL: none. */
static char *copy_crash(const struct host_process *process)
{
    if (process->map == NULL)
        return NULL;
    uint32_t bytes = atomic_load(&process->map->control->crash_bytes);
    if (bytes == 0)
        return NULL;
    if (bytes > FAILURE_BACKTRACE_MAX)
        bytes = FAILURE_BACKTRACE_MAX;
    char *text = mem_alloc(bytes + 1);
    if (text == NULL)
        return NULL;
    memcpy(text, process->map->base + process->map->at.crash, bytes);
    for (uint32_t i = 0; i < bytes; i++)
        if (text[i] == '\0' || (unsigned char)text[i] >= 0x7f)
            text[i] = '?';
    return text;
}

static void describe(struct host_process *process, struct worker_event *gone)
{
    char *text = process->text;
    const size_t size = sizeof process->text;
    bool known = process->code != 0 || text[0] != '\0';
    if (!known && process->state == PROCESS_STARTING && process->killed)
        snprintf(text, size, "process %d was killed before it was ready", gone->pid);
    else if (!known && process->state == PROCESS_STARTING)
        host_why_not_ready(process, gone->exit_status, gone->signal, &process->code, text,
                           size);
    else if (!known && gone->signal != 0)
        snprintf(text, size, "process %d was ended by signal %d (%s)", gone->pid,
                 gone->signal, strsignal(gone->signal));
    else if (!known && gone->exit_status >= 0)
        snprintf(text, size, "process %d exited with status %d", gone->pid,
                 gone->exit_status);
    else if (!known)
        snprintf(text, size, "process %d ended; how was taken by another wait",
                 gone->pid);
    gone->code = process->code;
    gone->text = text;
}

static void remove_folder(struct host *host, const struct host_process *process)
{
    const struct host_program *program;
    HASH_FIND(hh, host->programs, &process->program_hash, sizeof process->program_hash,
              program);
    if (process->scratch)
        scratch_remove(host->scratch, process->number,
                       program != NULL ? program->files : NULL);
}

static void release(struct host *host, struct host_process *process)
{
    remove_folder(host, process);
    if (process->hashed)
        HASH_DELETE(hh, host->processes, process);
    while (!TAILQ_EMPTY(&process->gives))
        host_give_finish(process, TAILQ_FIRST(&process->gives));
    host_relay_fini(process);
    arena_fini(&process->in_arena);
    int fds[] = {process->pidfd, process->bell,        process->answers,
                 process->group, process->pipes[0].fd, process->pipes[1].fd};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    host_map_unref(process->map);
    mem_free(process->backtrace);
    mem_free(process);
}

void host_gone(struct host *host, struct host_process *process)
{
    struct worker_event gone = host_event(host, process, WORKER_PROCESS_GONE);
    reap(process, &gone.exit_status, &gone.signal);
    host_output_finish(host, process);
    if (process->map != NULL)
        gone.running = host_blamed(process, &gone.give, &gone.first);
    host_group_blame(host, process, &gone);
    char *crash = copy_crash(process);
    gone.backtrace = crash != NULL ? crash : process->backtrace;
    describe(process, &gone);
    host_deliver(host, &gone);
    mem_free(crash);
    if (process->state != PROCESS_UNBORN || process->group >= 0)
        host_sweep_soon(host);
    release(host, process);
}

void host_process_destroy(struct host *host, struct host_process *process)
{
    int exit_status, signal;
    host_kill(process);
    reap(process, &exit_status, &signal);
    release(host, process);
}
