/* SPDX-License-Identifier: Apache-2.0
 *
 * command.c: the function behind `farpool map`: runs one command line in a pool process
 * and brings back what it wrote and how it ended. It needs no shell: the arguments are
 * passed as they are. The command stays in the process's group, so that it is killed with
 * it when the task is cancelled or takes too long. */
#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

enum { READ_SIZE = 65536, ARGUMENTS_MAX = 65536, OUTLIVE_MS = 200 };

/* What one of the command's outputs has brought so far. */
struct capture {
    int fd;
    char *data;
    size_t size, capacity;
};

static bool reserve(struct capture *capture, size_t more)
{
    size_t capacity = capture->capacity ? capture->capacity : READ_SIZE;
    while (capacity < capture->size + more)
        capacity *= 2;
    if (capacity == capture->capacity)
        return true;
    char *data = realloc(capture->data, capacity);
    if (!data)
        return false;
    capture->data = data;
    capture->capacity = capacity;
    return true;
}

/* Reads once. The descriptor is closed and -1 at its end. */
static bool read_some(struct capture *capture)
{
    if (!reserve(capture, READ_SIZE))
        return false;
    ssize_t got = read(capture->fd, capture->data + capture->size, READ_SIZE);
    if (got > 0) {
        capture->size += (size_t)got;
    } else if (got == 0 || errno != EINTR) {
        close(capture->fd);
        capture->fd = -1;
    }
    return true;
}

/* Until the command has closed both outputs. */
static bool read_all(struct capture captures[2])
{
    while (captures[0].fd >= 0 || captures[1].fd >= 0) {
        struct pollfd polls[2] = {{captures[0].fd, POLLIN, 0},
                                  {captures[1].fd, POLLIN, 0}};
        if (poll(polls, 2, -1) < 0 && errno != EINTR)
            return false;
        for (int i = 0; i < 2; i++)
            if (captures[i].fd >= 0 && polls[i].revents && !read_some(&captures[i]))
                return false;
    }
    return true;
}

/* 0 or an errno. The pipes' reading ends go to captures. */
static int start(char **arguments, struct capture captures[2], pid_t *ret_pid)
{
    int out[2], err[2];
    posix_spawn_file_actions_t actions;
    if (pipe2(out, O_CLOEXEC))
        return errno;
    if (pipe2(err, O_CLOEXEC)) {
        int code = errno;
        close(out[0]);
        close(out[1]);
        return code;
    }
    int code = posix_spawn_file_actions_init(&actions);
    if (!code) {
        posix_spawn_file_actions_adddup2(&actions, out[1], 1);
        posix_spawn_file_actions_adddup2(&actions, err[1], 2);
        code = posix_spawnp(ret_pid, arguments[0], &actions, NULL, arguments, environ);
        posix_spawn_file_actions_destroy(&actions);
    }
    close(out[1]);
    close(err[1]);
    captures[0].fd = out[0];
    captures[1].fd = err[0];
    return code;
}

/* The arguments as an array, pointing into the input; NULL when there is none, or memory
 * is short. */
static char **split_arguments(const char *input, size_t size)
{
    size_t count = 0, used = 0;
    if (size == 0 || input[size - 1] != '\0')
        return NULL;
    for (size_t i = 0; i < size; i++)
        count += input[i] == '\0';
    if (count > ARGUMENTS_MAX)
        return NULL;
    char **arguments = calloc(count + 1, sizeof *arguments);
    if (!arguments)
        return NULL;
    for (const char *at = input; at < input + size; at += strlen(at) + 1)
        arguments[used++] = strdup(at);
    return arguments;
}

static void free_arguments(char **arguments)
{
    for (size_t i = 0; arguments && arguments[i]; i++)
        free(arguments[i]);
    free(arguments);
}

static int reply(farpool_task *task, int status, const struct capture captures[2])
{
    struct cli_outcome outcome = {
        .exit_status = WIFEXITED(status) ? WEXITSTATUS(status) : -1,
        .signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0,
        .stdout_size = captures[0].size,
        .stderr_size = captures[1].size,
    };
    char *output =
        farpool_task_output(task, sizeof outcome + captures[0].size + captures[1].size);
    if (!output)
        return FARPOOL_ETOOBIG;
    memcpy(output, &outcome, sizeof outcome);
    output += sizeof outcome;
    for (int i = 0; i < 2; i++) {
        if (captures[i].size)
            memcpy(output, captures[i].data, captures[i].size);
        output += captures[i].size;
    }
    return FARPOOL_OK;
}

/* Who ends a whole job (Slurm, the OOM killer of a cgroup) signals the command and this
 * process. That must not look like a command that failed: when this process goes too, the
 * task is lost, and is run again elsewhere. */
static void outlive(int status)
{
    const struct timespec pause = {.tv_nsec = OUTLIVE_MS * 1000000L};
    if (WIFSIGNALED(status) &&
        (WTERMSIG(status) == SIGTERM || WTERMSIG(status) == SIGKILL))
        nanosleep(&pause, NULL);
}

static int fail_to_start(farpool_task *task, const char *command, int code)
{
    const bool is_line = code == ENOENT && strchr(command, ' ');
    return farpool_fail(task, "cannot run '%s': %s%s", command, strerror(code),
                        is_line ? ": give its words one by one, or all with --shell"
                                : "");
}

static int run_command(farpool_task *task)
{
    struct capture captures[2] = {{.fd = -1}, {.fd = -1}};
    size_t size;
    int status = 0, result;
    pid_t pid = 0;
    const char *input = farpool_task_input(task, &size);
    char **arguments = split_arguments(input, size);
    if (!arguments)
        return farpool_fail(task, "no command, or more than %d arguments", ARGUMENTS_MAX);

    int code = start(arguments, captures, &pid);
    if (code) {
        result = fail_to_start(task, arguments[0], code);
    } else if (!read_all(captures)) {
        kill(pid, SIGKILL);
        result = farpool_fail(task, "no memory for the output of '%s'", arguments[0]);
    } else {
        result = FARPOOL_OK;
    }
    if (!code)
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
        }
    if (!code)
        outlive(status);
    if (!result)
        result = reply(task, status, captures);
    for (int i = 0; i < 2; i++) {
        if (captures[i].fd >= 0)
            close(captures[i].fd);
        free(captures[i].data);
    }
    free_arguments(arguments);
    return result;
}
FARPOOL_BYTES_FUNCTION(run_command)

const farpool_function *cli_command_function(void)
{
    return FARPOOL_REF(run_command);
}
