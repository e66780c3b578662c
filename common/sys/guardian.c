/* SPDX-License-Identifier: Apache-2.0
 *
 * guardian.c: the process that kills what remains of pools when the one that ran them
 * was killed. It sleeps in one poll: on a pidfd of that process, which was its parent,
 * and on a pipe by which that one takes leave. No signal that may be caught ends it, its
 * session is its own, its files are /dev/null and its folder is the root, so that it is
 * in nobody's way. It has no state but the token, and the folder of the groups if there
 * are any: these are ended and removed first. */
#include "common/sys/guardian.h"
#include "common/base/mem.h"
#include "common/sys/groups.h"
#include "common/sys/remains.h"
#include "common/sys/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define VARIABLE "FARPOOL_GUARDIAN"
#define NAME "farpool-guard"
#define FD_FAREWELL 3
#define LOOK_MS 50
#define CLEAN_LOOKS 10 /* in a row, before it goes */
#define HUNT_MS 60000  /* what cannot be killed by then is in the kernel's hands */

extern char **environ;

/* ----------------------------------------------------------------- inside of it */

/* Waits until the parent has gone; true: without taking leave. */
static bool wait_for_end(pid_t parent)
{
    char farewell;
    struct pollfd fds[] = {
        {.fd = FD_FAREWELL, .events = POLLIN},
        {.fd = (int)syscall(SYS_pidfd_open, parent, 0), .events = POLLIN}};
    if (getppid() != parent)
        return read(FD_FAREWELL, &farewell, 1) != 1;
    while (poll(fds, 2, -1) < 0 && errno == EINTR)
        ;
    /* What a child made by fork() still holds open does not keep it waiting. */
    fcntl(FD_FAREWELL, F_SETFL, O_NONBLOCK);
    return read(FD_FAREWELL, &farewell, 1) != 1;
}

static void hunt(const char *token, const char *groups)
{
    const struct remains_query query = {.token = token};
    const uint64_t until_ms = sys_now_ms() + HUNT_MS;
    bool gone = groups[0] == '\0';
    if (!gone)
        groups_leave(groups);
    for (int clean = 0; clean < CLEAN_LOOKS && sys_now_ms() < until_ms;) {
        gone = gone || groups_clear(groups);
        clean = remains_kill(&query) == 0 && gone ? clean + 1 : 0;
        poll(NULL, 0, LOOK_MS);
    }
}

static void be_unobtrusive(void)
{
    prctl(PR_SET_NAME, NAME);
    if (chdir("/") != 0)
        return; /* it stays where it is */
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) { /* only root may, and nothing is lost without */
        dprintf(fd, "-1000");
        close(fd);
    }
}

void guardian_serve(void)
{
    char token[REMAINS_TOKEN + 1];
    int parent, used = 0;
    const char *text = getenv(VARIABLE);
    if (text == NULL || sscanf(text, "%32[0-9a-f]:%d:%n", token, &parent, &used) != 2 ||
        used == 0)
        return;
    be_unobtrusive();
    if (wait_for_end(parent))
        hunt(token, text + used);
    _exit(0);
}

/* --------------------------------------------------------------------- its parent */

static int make_actions(posix_spawn_file_actions_t *actions, int farewell)
{
    int failed = posix_spawn_file_actions_addopen(actions, 0, "/dev/null", O_RDWR, 0);
    for (int fd = 1; !failed && fd <= 2; fd++)
        failed = posix_spawn_file_actions_adddup2(actions, 0, fd);
    if (!failed)
        failed = posix_spawn_file_actions_adddup2(actions, farewell, FD_FAREWELL);
    if (!failed)
        failed = posix_spawn_file_actions_addclosefrom_np(actions, FD_FAREWELL + 1);
    return failed;
}

/* The caller's variables with its own in front; NULL: out of memory. */
static char **make_variables(char *own)
{
    size_t count = 0;
    while (environ != NULL && environ[count] != NULL)
        count++;
    char **all = mem_alloc((count + 2) * sizeof *all);
    if (all == NULL)
        return NULL;
    all[0] = own;
    if (count > 0)
        memcpy(all + 1, environ, count * sizeof *all);
    return all;
}

/* From its first instruction no signal for the caller's terminal or group is for it. */
static int execute(const posix_spawn_file_actions_t *actions, char *const *arguments,
                   char *const *variables, pid_t *ret_pid)
{
    posix_spawnattr_t attributes;
    sigset_t all;
    int failed = posix_spawnattr_init(&attributes);
    if (failed)
        return failed;
    sigfillset(&all);
    failed = posix_spawnattr_setsigmask(&attributes, &all);
    if (!failed)
        failed = posix_spawnattr_setflags(&attributes,
                                          POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSID);
    if (!failed)
        failed = posix_spawn(ret_pid, "/proc/self/exe", actions, &attributes, arguments,
                             variables);
    posix_spawnattr_destroy(&attributes);
    return failed;
}

static int spawn(const char *token, const char *groups, int farewell, pid_t *ret_pid)
{
    char own[sizeof VARIABLE + REMAINS_TOKEN + sizeof((struct groups *)0)->top + 32];
    char name[] = NAME;
    char *arguments[] = {name, NULL};
    posix_spawn_file_actions_t actions;
    snprintf(own, sizeof own, VARIABLE "=%s:%d:%s", token, (int)getpid(), groups);
    char **variables = make_variables(own);
    if (variables == NULL)
        return ENOMEM;
    int failed = posix_spawn_file_actions_init(&actions);
    if (!failed) {
        failed = make_actions(&actions, farewell);
        if (!failed)
            failed = execute(&actions, arguments, variables, ret_pid);
        posix_spawn_file_actions_destroy(&actions);
    }
    mem_free(variables);
    return failed;
}

int guardian_start(const char *token, const char *groups, struct guardian *ret_guardian)
{
    struct guardian guardian = GUARDIAN_NONE;
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return errno;
    /* Out of the way of the number that it is to have. */
    int farewell = fcntl(ends[0], F_DUPFD_CLOEXEC, FD_FAREWELL + 1);
    int failed = farewell < 0 ? errno : spawn(token, groups, farewell, &guardian.pid);
    close(ends[0]);
    if (farewell >= 0)
        close(farewell);
    if (failed) {
        close(ends[1]);
        return failed;
    }
    guardian.farewell = ends[1];
    guardian.pidfd = (int)syscall(SYS_pidfd_open, guardian.pid, 0);
    *ret_guardian = guardian;
    return 0;
}

void guardian_bury(struct guardian *guardian)
{
    if (guardian->pid > 0)
        while (waitpid(guardian->pid, NULL, 0) < 0 && errno == EINTR)
            ;
    if (guardian->pidfd >= 0)
        close(guardian->pidfd);
    if (guardian->farewell >= 0)
        close(guardian->farewell);
    *guardian = GUARDIAN_NONE;
}

void guardian_end(struct guardian *guardian)
{
    /* A guardian that is being killed right now breaks the pipe; so be it. */
    if (guardian->farewell >= 0) {
        sigset_t pipe, old;
        const struct timespec now = {0};
        sigemptyset(&pipe);
        sigaddset(&pipe, SIGPIPE);
        pthread_sigmask(SIG_BLOCK, &pipe, &old);
        const bool broken = write(guardian->farewell, "", 1) < 0 && errno == EPIPE;
        if (broken && !sigismember(&old, SIGPIPE))
            sigtimedwait(&pipe, NULL, &now);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
    }
    guardian_bury(guardian);
}
