/* SPDX-License-Identifier: Apache-2.0
 *
 * run.c: other programs: started with three pipes, fed and read in one poll loop. It ends
 * with the program, not with its outputs: what it leaves in the background (the master of
 * an ssh connection) may keep those open for ever. */
#include "cli/run.h"

#include "common/sys/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { LOOK_MS = 20, PIECE = 65536, INTERRUPT_MS = 2000 };

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal)
{
    (void)signal;
    interrupted = 1;
}

void cli_catch_interrupts(void)
{
    const struct sigaction action = {.sa_handler = on_interrupt};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

bool cli_interrupted(void)
{
    return interrupted != 0;
}

/* ------------------------------------------------------------------------ words */

static void *or_end(void *memory)
{
    if (memory)
        return memory;
    fputs("farpool: out of memory\n", stderr);
    exit(255);
}

static void add_word(struct cli_words *words, char *word)
{
    if (words->count + 2 > words->capacity) {
        words->capacity = words->capacity ? 2 * words->capacity : 16;
        words->items =
            or_end(realloc(words->items, words->capacity * sizeof *words->items));
    }
    words->items[words->count++] = word;
    words->items[words->count] = NULL;
}

void cli_words_add(struct cli_words *words, const char *format, ...)
{
    char *word = NULL;
    va_list list;
    va_start(list, format);
    if (vasprintf(&word, format, list) < 0)
        word = NULL;
    va_end(list);
    add_word(words, or_end(word));
}

void cli_words_split(struct cli_words *words, const char *text)
{
    static const char spaces[] = " \t\n";
    for (text += strspn(text, spaces); *text; text += strspn(text, spaces)) {
        const size_t length = strcspn(text, spaces);
        add_word(words, or_end(strndup(text, length)));
        text += length;
    }
}

void cli_words_fini(struct cli_words *words)
{
    for (size_t i = 0; i < words->count; i++)
        free(words->items[i]);
    free(words->items);
    *words = (struct cli_words){.items = NULL};
}

/* ---------------------------------------------------------------------- programs */

/* A program under way: pipes to it and from it; -1: closed. */
struct child {
    pid_t pid;
    int in, out[2];
    const void *input; /* what is left of it */
    size_t input_size;
    const char *(*answer)(const char *out, void *user); /* NULL: was given */
    size_t fed, answered, sizes[2];
    char *texts[2];
};

static void close_one(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

int cli_spawn(char *const *arguments, const posix_spawn_file_actions_t *actions,
              short apart, pid_t *ret_pid)
{
    posix_spawnattr_t attributes;
    sigset_t all, none;
    sigfillset(&all);
    sigemptyset(&none);
    int code = posix_spawnattr_init(&attributes);
    if (code)
        return code;
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(
        &attributes, (short)(POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | apart));
    code = posix_spawnp(ret_pid, arguments[0], actions, &attributes, arguments, environ);
    posix_spawnattr_destroy(&attributes);
    return code;
}

static int spawn(struct child *child, char *const *arguments, int pipes[3][2])
{
    posix_spawn_file_actions_t actions;
    int code = posix_spawn_file_actions_init(&actions);
    if (code)
        return code;
    posix_spawn_file_actions_adddup2(&actions, pipes[0][0], 0);
    posix_spawn_file_actions_adddup2(&actions, pipes[1][1], 1);
    posix_spawn_file_actions_adddup2(&actions, pipes[2][1], 2);
    code = cli_spawn(arguments, &actions, POSIX_SPAWN_SETPGROUP, &child->pid);
    posix_spawn_file_actions_destroy(&actions);
    return code;
}

static int start(struct child *child, const struct cli_run *run)
{
    int pipes[3][2] = {{-1, -1}, {-1, -1}, {-1, -1}}, code = 0;
    for (int i = 0; i < 3 && !code; i++)
        if (pipe2(pipes[i], O_CLOEXEC))
            code = errno;
    if (!code)
        code = spawn(child, run->arguments, pipes);
    close_one(&pipes[0][0]);
    close_one(&pipes[1][1]);
    close_one(&pipes[2][1]);
    *child = (struct child){.pid = child->pid,
                            .in = pipes[0][1],
                            .out = {pipes[1][0], pipes[2][0]},
                            .input = run->input,
                            .input_size = run->input_size,
                            .answer = run->answer};
    for (int i = 0; i < 2; i++) {
        child->texts[i] = or_end(calloc(1, CLI_RUN_OUTPUT_MAX + 1));
        if (child->out[i] >= 0)
            fcntl(child->out[i], F_SETFL, O_NONBLOCK);
    }
    if (child->in >= 0)
        fcntl(child->in, F_SETFL, O_NONBLOCK);
    return code;
}

static void feed(struct child *child)
{
    while (child->in >= 0 && child->fed < child->input_size) {
        const size_t left = child->input_size - child->fed;
        const ssize_t put = write(child->in, (const char *)child->input + child->fed,
                                  left < PIECE ? left : PIECE);
        if (put < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (put < 0)
            child->answer = NULL; /* it reads no more: how it ends says why */
        if (put < 0)
            break;
        child->fed += (size_t)put;
    }
    if (!child->answer)
        close_one(&child->in);
}

/* What it says may be what the rest of its input waits for. */
static void answer(struct child *child, void *user)
{
    if (!child->answer || child->sizes[0] == child->answered)
        return;
    child->answered = child->sizes[0];
    const char *text = child->answer(child->texts[0], user);
    if (!text)
        return;
    child->input = text;
    child->input_size = strlen(text);
    child->fed = 0;
    child->answer = NULL;
    feed(child);
}

/* All that is there; the rest of an output that is too long is dropped. */
static void drain(struct child *child, int which)
{
    char piece[4096];
    ssize_t got;
    while (child->out[which] >= 0 &&
           (got = read(child->out[which], piece, sizeof piece)) != 0) {
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return;
        const size_t room = CLI_RUN_OUTPUT_MAX - child->sizes[which];
        const size_t kept = (size_t)got < room ? (size_t)got : room;
        memcpy(child->texts[which] + child->sizes[which], piece, kept);
        child->sizes[which] += kept;
    }
    close_one(&child->out[which]);
}

static void serve(struct child *child, const struct cli_run *run)
{
    const bool more = child->fed < child->input_size;
    struct pollfd polls[3] = {{more ? child->in : -1, POLLOUT, 0},
                              {child->out[0], POLLIN, 0},
                              {child->out[1], POLLIN, 0}};
    poll(polls, 3, LOOK_MS);
    if (polls[0].revents)
        feed(child);
    drain(child, 0);
    drain(child, 1);
    answer(child, run->user);
}

/* Until it has ended, and was reaped. */
static int attend(struct child *child, struct cli_run *run)
{
    const uint64_t began = sys_now_ms();
    uint64_t kill_ms = run->timeout_ms ? began + run->timeout_ms : UINT64_MAX;
    int status = 0;
    feed(child);
    while (waitpid(child->pid, &status, WNOHANG) == 0) {
        serve(child, run);
        const uint64_t now = sys_now_ms();
        if (cli_interrupted() && !run->to_its_end && !run->interrupted) {
            run->interrupted = true;
            kill(child->pid, SIGTERM);
            if (kill_ms > now + INTERRUPT_MS)
                kill_ms = now + INTERRUPT_MS;
        }
        if (now >= kill_ms) {
            run->timed_out = !run->interrupted;
            kill(child->pid, SIGKILL);
            kill_ms = UINT64_MAX;
        }
    }
    return status;
}

int cli_run(struct cli_run *run)
{
    struct child child = {.pid = -1};
    run->exit_status = -1;
    run->timed_out = run->interrupted = false;
    run->code = start(&child, run);
    if (!run->code) {
        const int status = attend(&child, run);
        drain(&child, 0);
        drain(&child, 1);
        if (WIFEXITED(status))
            run->exit_status = WEXITSTATUS(status);
    }
    close_one(&child.in);
    close_one(&child.out[0]);
    close_one(&child.out[1]);
    run->out = child.texts[0];
    run->err = child.texts[1];
    return run->exit_status;
}

void cli_run_fini(struct cli_run *run)
{
    free(run->out);
    free(run->err);
    run->out = run->err = NULL;
}

char *cli_last_line(const char *text, char *ret_line, size_t size)
{
    size_t end = strlen(text), begin;
    while (end > 0 && strchr("\r\n\t ", text[end - 1]))
        end--;
    for (begin = end; begin > 0 && text[begin - 1] != '\n';)
        begin--;
    snprintf(ret_line, size, "%.*s", (int)(end - begin), text + begin);
    for (char *at = ret_line; *at; at++)
        if ((unsigned char)*at < 0x20)
            *at = ' ';
    return ret_line;
}

void cli_quote(FILE *file, const char *text)
{
    fputc('\'', file);
    for (; *text; text++) {
        if (*text == '\'')
            fputs("'\\''", file);
        else
            fputc(*text, file);
    }
    fputc('\'', file);
}
