/* SPDX-License-Identifier: Apache-2.0
 *
 * kill_at.c: runs a program, and kills it (SIGKILL) as it enters its N-th system call,
 * all of its threads counted together from its execve on. What it starts is not touched.
 *
 *   kill_at N REPORT PROGRAM [ARGUMENT...]        as the parent of PROGRAM
 *   kill_at -D N REPORT PROGRAM [ARGUMENT...]     PROGRAM is this process, as its parent
 *                                                 knows it; what traces it is an orphan
 * N 0: it is only counted. REPORT is a file: "CALLS KILLED", kept true all the time, so
 * that it can be read after anybody's SIGKILL.
 *
 * (strace's when=N counts each kind of system call apart: few reach a large N.) */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    OPTIONS = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC |
              PTRACE_O_EXITKILL,
    REFUSED = 126, /* exit status: it cannot be traced */
};

static long wanted, calls;
static int report, killed;
static pid_t program;

static void fail(const char *what)
{
    fprintf(stderr, "kill_at: %s: %s\n", what, strerror(errno));
    exit(REFUSED);
}

static void write_report(void)
{
    char text[32];
    int length = snprintf(text, sizeof text, "%10ld %d\n", calls, killed);

    if (pwrite(report, text, (size_t)length, 0) != length)
        fail("report");
}

static void count(pid_t thread)
{
    struct __ptrace_syscall_info info;

    if (killed || ptrace(PTRACE_GET_SYSCALL_INFO, thread, sizeof info, &info) <= 0 ||
        info.op != PTRACE_SYSCALL_INFO_ENTRY)
        return;
    calls++;
    killed = calls == wanted;
    write_report();
    if (killed)
        kill(program, SIGKILL);
}

/* What a stopped thread goes on with: the signal it stopped for, if that is one. */
static void go_on(pid_t thread, int status)
{
    int signal_number = WSTOPSIG(status), event = status >> 16;

    if (event == PTRACE_EVENT_STOP && signal_number != SIGTRAP) {
        ptrace(PTRACE_LISTEN, thread, NULL, NULL); /* stopped, until SIGCONT */
        return;
    }
    if (event == PTRACE_EVENT_EXEC)
        calls = 0;
    if (signal_number == (SIGTRAP | 0x80))
        count(thread);
    if (event != 0 || signal_number == (SIGTRAP | 0x80))
        signal_number = 0;
    ptrace(PTRACE_SYSCALL, thread, NULL, signal_number);
}

/* Until it ends with all its threads, and so has left its port; its wait status. */
static int trace(void)
{
    int status;

    for (;;) {
        pid_t thread = waitpid(-1, &status, __WALL);
        if (thread < 0 && errno == EINTR)
            continue;
        if (thread < 0)
            return 0;
        if (WIFSTOPPED(status))
            go_on(thread, status);
        else if (thread == program)
            return status;
    }
}

static void run(char **command)
{
    execvp(command[0], command);
    fail(command[0]);
}

/* The program is our child, which waits stopped until it is held. */
static int trace_child(char **command)
{
    int status;

    program = fork();
    if (program < 0)
        fail("fork");
    if (program == 0) {
        raise(SIGSTOP);
        run(command);
    }
    if (waitpid(program, &status, WUNTRACED) != program ||
        ptrace(PTRACE_SEIZE, program, NULL, OPTIONS) != 0)
        fail("ptrace");
    kill(program, SIGCONT);
    return trace();
}

/* The program is this process, which waits until its tracer says that it holds it; that
 * keeps no descriptor of its open but the report. */
static int trace_parent(char **command)
{
    int ends[2], status;
    char held = 0;

    program = getpid();
    if (pipe2(ends, O_CLOEXEC) != 0)
        fail("pipe");
    pid_t child = fork();
    if (child < 0)
        fail("fork");
    if (child > 0) {
        prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
        waitpid(child, &status, 0);
        close(ends[1]);
        if (read(ends[0], &held, 1) != 1)
            fail("ptrace");
        run(command);
    }
    if (fork() != 0)
        _exit(0);
    if (ptrace(PTRACE_SEIZE, program, NULL, OPTIONS) != 0 || write(ends[1], "h", 1) != 1)
        _exit(REFUSED);
    for (int fd = 0; fd < 256; fd++)
        if (fd != report)
            close(fd);
    setsid();
    return trace();
}

int main(int argc, char **argv)
{
    bool orphan = argc > 1 && strcmp(argv[1], "-D") == 0;
    char **at = argv + 1 + orphan;

    if (argc < 4 + orphan)
        return fprintf(stderr, "usage: kill_at [-D] N REPORT PROGRAM [ARGUMENT...]\n"), 2;
    wanted = atol(at[0]);
    report = open(at[1], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (report < 0)
        fail(at[1]);
    write_report();
    int status = orphan ? trace_parent(at + 2) : trace_child(at + 2);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
