/* SPDX-License-Identifier: Apache-2.0
 *
 * up_apart.c: a process of this command that outlives it: the one that submits jobs
 * (--auto --detach), the one that keeps tunnels. It begins only when the state that names
 * it is on the disk, so that `farpool down` never misses it, and holds no lock. */
#include "cli/up.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* In the child: its own session, no terminal, and the parent's word. */
static bool begin(const char *log, int go)
{
    char word = 0;
    up_lock_leave();
    setsid();
    const int out = log ? open(log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)
                        : open("/dev/null", O_WRONLY | O_CLOEXEC);
    const int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (out < 0 || nothing < 0 || dup2(nothing, 0) < 0 || dup2(out, 1) < 0 ||
        dup2(out, 2) < 0)
        return false;
    close(out);
    close(nothing);
    ssize_t got;
    do
        got = read(go, &word, 1);
    while (got < 0 && errno == EINTR);
    return got == 1;
}

pid_t up_apart(struct up_state *state, struct up_process *process, const char *log)
{
    int pipes[2];
    if (pipe2(pipes, O_CLOEXEC) != 0) {
        up_fail("no pipe for a process in the background: %s", strerror(errno));
        return -1;
    }
    const pid_t pid = fork();
    if (pid == 0) {
        close(pipes[1]);
        if (!begin(log, pipes[0]))
            _exit(255);
        close(pipes[0]);
        *process = up_process_find(getpid());
        return 0;
    }
    close(pipes[0]);
    if (pid < 0) {
        up_fail("no process for the background: %s", strerror(errno));
    } else {
        *process = up_process_find(pid);
        if (up_state_save(state) && write(pipes[1], "g", 1) != 1)
            up_fail("the process in the background has ended at once");
    }
    close(pipes[1]);
    return pid;
}
