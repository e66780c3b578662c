/* SPDX-License-Identifier: Apache-2.0
 *
 * host_library.c: which shared library a program lacks, asked of the dynamic loader
 * itself (LD_TRACE_LOADED_OBJECTS: it lists them, and runs nothing). Only for a program
 * that has just ended before its main, and whose own words were not caught: processes of
 * an embedded pool share the program's stderr. */
#include "worker/host_internal.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

#define ANSWER_MS 2000 /* more than a loader takes */

/* Starts the loader's listing; its end of the pipe is its stdout. */
static bool start_listing(const char *path, int out, pid_t *ret_pid)
{
    static char trace[] = "LD_TRACE_LOADED_OBJECTS=1";
    posix_spawn_file_actions_t actions;
    size_t count = 0;
    while (environ[count] != NULL)
        count++;
    char **environment = mem_alloc((count + 2) * sizeof *environment);
    char *arguments[] = {(char *)(uintptr_t)path, NULL};
    if (environment == NULL)
        return false;
    memcpy(environment, environ, count * sizeof *environment);
    environment[count] = trace;
    bool started = posix_spawn_file_actions_init(&actions) == 0;
    if (started) {
        started = posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO) == 0 &&
                  posix_spawn(ret_pid, path, &actions, NULL, arguments, environment) == 0;
        posix_spawn_file_actions_destroy(&actions);
    }
    mem_free(environment);
    return started;
}

static void read_listing(int in, char *text, size_t size)
{
    struct pollfd item = {.fd = in, .events = POLLIN};
    size_t filled = 0;
    ssize_t got = 1;
    while (got > 0 && filled + 1 < size && poll(&item, 1, ANSWER_MS) == 1) {
        got = read(in, text + filled, size - 1 - filled);
        filled += got > 0 ? (size_t)got : 0;
    }
    text[filled] = '\0';
}

/* Whether it lies beside the program, whose folder its processes look into, too. */
static bool is_beside(const char *path, const char *name)
{
    const char *slash = strrchr(path, '/');
    char beside[4096];
    snprintf(beside, sizeof beside, "%.*s/%s", slash != NULL ? (int)(slash - path) : 1,
             slash != NULL ? path : ".", name);
    return access(beside, R_OK) == 0;
}

/* The first name of a line "\tlibx.so.1 => not found". */
static bool find_missing(const char *path, char *listing, char *ret_name, size_t size)
{
    char *rest = listing, *line;
    while ((line = strsep(&rest, "\n")) != NULL) {
        char *end = strstr(line, " => not found");
        if (end == NULL)
            continue;
        *end = '\0';
        line += strspn(line, " \t");
        if (is_beside(path, line))
            continue;
        snprintf(ret_name, size, "%s", line);
        return true;
    }
    return false;
}

bool host_find_missing_library(const char *path, char *ret_name, size_t size)
{
    char listing[16384] = "";
    pid_t pid = 0;
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return false;
    bool started = start_listing(path, ends[1], &pid);
    close(ends[1]);
    if (started) {
        read_listing(ends[0], listing, sizeof listing);
        kill(pid, SIGKILL); /* it has ended, or never will */
        waitpid(pid, NULL, 0);
    }
    close(ends[0]);
    return find_missing(path, listing, ret_name, size);
}
