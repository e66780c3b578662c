/* SPDX-License-Identifier: Apache-2.0
 *
 * shell_signals.c: signals, as readable events. The first SIGTERM or SIGINT drains, the
 * next one stops. SIGCHLD makes the loop look for orphans: this daemon is the reaper of
 * what its pools' processes leave behind (PR_SET_CHILD_SUBREAPER), and reaps just that:
 * the pools' own processes are the host's to reap. */
#include "common/base/error.h"
#include "worker/shell_internal.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

int shell_open_signals(struct shell *shell, farpool_error *error)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGCHLD);
    if (signal(SIGPIPE, SIG_IGN) != SIG_ERR && signal(SIGCHLD, SIG_DFL) != SIG_ERR &&
        sigprocmask(SIG_BLOCK, &set, NULL) == 0 &&
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
        shell->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (shell->signals >= 0)
        return 0;
    return error_set(error, FARPOOL_ESYSTEM, "cannot receive signals: %s",
                     strerror(errno));
}

void shell_stop_further(struct shell *shell, const char *why)
{
    struct worker_event event = {.kind = WORKER_DRAIN, .now_ms = shell->now_ms};
    if (shell->stage == SERVING) {
        shell->stage = DRAINING;
        notify_stopping(&shell->notify);
    } else if (shell->stage == DRAINING) {
        shell->stage = STOPPING;
        event.kind = WORKER_STOP;
    } else {
        return;
    }
    event.text = why;
    log_event(LOG_INFO, event.kind == WORKER_DRAIN ? "draining" : "stopping",
              "reason=\"%s\"", event.text);
    shell_step(shell, &event);
}

void shell_take_signals(struct shell *shell)
{
    struct signalfd_siginfo info;
    while (read(shell->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGCHLD)
            shell->reap_due = true;
        else
            shell_stop_further(shell, "told by a signal");
    }
}

/* The kernel shows one ended child at a time. If that is a process of a pool, the host
 * reaps it first, and the rest is looked at in the next turn. */
void shell_reap_orphans(struct shell *shell)
{
    while (shell->reap_due) {
        siginfo_t info = {0};
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
            info.si_pid == 0) {
            shell->reap_due = false;
            return;
        }
        if (host_owns(shell->host, info.si_pid))
            return;
        if (waitid(P_PID, (id_t)info.si_pid, &info, WEXITED | WNOHANG) != 0)
            return;
        log_event(LOG_DEBUG, "orphan-reaped", "pid=%d", (int)info.si_pid);
    }
}
