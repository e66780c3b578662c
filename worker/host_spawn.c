/* SPDX-License-Identifier: Apache-2.0
 *
 * host_spawn.c: the call that starts a process of a pool: by posix_spawn, whose cost does
 * not grow with the caller's memory; or, into a control group, by clone3, since that
 * knows how to do so from the first instruction on (and a process that is moved later
 * waits for the whole machine, some milliseconds). That copies the page tables of the
 * caller, a worker, which are small; the child does nothing but system calls before it
 * executes. */
#include "worker/host_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define FD_FIRST_CLOSED 6

/* --------------------------------------------------------------------- posix_spawn */

static int make_actions(posix_spawn_file_actions_t *actions,
                        const struct host_spawn *spawn)
{
    int failed = posix_spawn_file_actions_addopen(actions, 0, "/dev/null", O_RDONLY, 0);
    for (int which = 0; which < 2; which++)
        if (!failed && spawn->ends[which] >= 0)
            failed =
                posix_spawn_file_actions_adddup2(actions, spawn->ends[which], which + 1);
    if (!failed)
        failed =
            posix_spawn_file_actions_adddup2(actions, spawn->memory, CHANNEL_FD_MEMORY);
    if (!failed)
        failed = posix_spawn_file_actions_adddup2(actions, spawn->bell, CHANNEL_FD_BELL);
    if (!failed)
        failed =
            posix_spawn_file_actions_adddup2(actions, spawn->answers, CHANNEL_FD_ANSWERS);
    if (!failed)
        failed = posix_spawn_file_actions_addclosefrom_np(actions, FD_FIRST_CLOSED);
    if (!failed && spawn->folder != NULL)
        failed = posix_spawn_file_actions_addchdir_np(actions, spawn->folder);
    return failed;
}

static int make_attributes(posix_spawnattr_t *attributes)
{
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    int failed = posix_spawnattr_setsigmask(attributes, &none);
    if (!failed)
        failed = posix_spawnattr_setsigdefault(attributes, &all);
    if (!failed)
        failed = posix_spawnattr_setpgroup(attributes, 0);
    if (!failed)
        failed = posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK |
                                                          POSIX_SPAWN_SETSIGDEF |
                                                          POSIX_SPAWN_SETPGROUP);
    return failed;
}

static int spawn_here(const struct host_spawn *spawn, pid_t *ret_pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    if (posix_spawn_file_actions_init(&actions) != 0)
        return ENOMEM;
    if (posix_spawnattr_init(&attributes) != 0) {
        posix_spawn_file_actions_destroy(&actions);
        return ENOMEM;
    }
    int failed = make_actions(&actions, spawn);
    if (!failed)
        failed = make_attributes(&attributes);
    char *arguments[] = {spawn->name, NULL};
    if (!failed)
        failed = posix_spawn(ret_pid, spawn->path, &actions, &attributes, arguments,
                             spawn->variables);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return failed;
}

/* -------------------------------------------------------------------------- clone3 */

static bool take_files(const struct host_spawn *spawn)
{
    const int null = open("/dev/null", O_RDONLY);
    if (null < 0 || (null != 0 && dup2(null, 0) < 0))
        return false;
    for (int which = 0; which < 2; which++)
        if (spawn->ends[which] >= 0 && dup2(spawn->ends[which], which + 1) < 0)
            return false;
    /* The rest goes when the program is executed, and the pipe to tell of errors by too.
     */
    return dup2(spawn->memory, CHANNEL_FD_MEMORY) >= 0 &&
           dup2(spawn->bell, CHANNEL_FD_BELL) >= 0 &&
           dup2(spawn->answers, CHANNEL_FD_ANSWERS) >= 0 &&
           syscall(SYS_close_range, FD_FIRST_CLOSED, ~0U, CLOSE_RANGE_CLOEXEC) == 0;
}

static void reset_signals(void)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigset_t none;
    for (int signal = 1; signal <= SIGRTMAX; signal++)
        sigaction(signal, &action, NULL); /* some cannot be set, nor need be */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* In the child, whose memory is a copy. */
static _Noreturn void become(const struct host_spawn *spawn, int tell)
{
    char *arguments[] = {spawn->name, NULL};
    if (take_files(spawn) && setpgid(0, 0) == 0 &&
        (spawn->folder == NULL || chdir(spawn->folder) == 0)) {
        reset_signals();
        execve(spawn->path, arguments, spawn->variables);
    }
    const int number = errno;
    const ssize_t told = write(tell, &number, sizeof number);
    _exit(told == (ssize_t)sizeof number ? 127 : 126);
}

/* What the child could not do; 0: it has executed its program. */
static int hear(int fd, pid_t child)
{
    int number = 0;
    ssize_t got;
    while ((got = read(fd, &number, sizeof number)) < 0 && errno == EINTR)
        ;
    if (got <= 0) /* nothing was told: it runs, or was killed */
        return 0;
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
        ;
    return got == (ssize_t)sizeof number ? number : EIO;
}

static int spawn_into(const struct host_spawn *spawn, pid_t *ret_pid)
{
    struct clone_args arguments = {.flags = CLONE_INTO_CGROUP | CLONE_VFORK,
                                   .exit_signal = SIGCHLD,
                                   .cgroup = (uint64_t)spawn->group};
    sigset_t all, old;
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return errno;
    const int tell = fcntl(ends[1], F_DUPFD_CLOEXEC, HOST_FD_HIGH);
    close(ends[1]);
    if (tell < 0) {
        close(ends[0]);
        return EMFILE;
    }
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    const pid_t child = (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
    if (child == 0)
        become(spawn, tell);
    int failed = child < 0 ? errno : 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    close(tell);
    if (child > 0)
        failed = hear(ends[0], child);
    close(ends[0]);
    if (!failed)
        *ret_pid = child;
    return failed;
}

int host_spawn(const struct host_spawn *spawn, pid_t *ret_pid)
{
    return spawn->group >= 0 ? spawn_into(spawn, ret_pid) : spawn_here(spawn, ret_pid);
}
