/* SPDX-License-Identifier: Apache-2.0
 *
 * run.h: runs another program, feeds it and collects what it says, until it ends, a
 * deadline passes or the user interrupts. Blocks; many threads may be in it at a time. */
#ifndef FARPOOL_CLI_RUN_H
#define FARPOOL_CLI_RUN_H

#include <spawn.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { CLI_RUN_OUTPUT_MAX = 1 << 20 }; /* bytes kept of each output */

struct cli_run {
    char *const *arguments; /* NULL-ended; the first is looked up in PATH */
    const void *input;      /* given on its standard input; NULL: nothing */
    size_t input_size;
    uint64_t timeout_ms; /* then it is killed; 0: never */
    bool to_its_end;     /* even when the user interrupts */
    /* Asked with all that it has said, whenever that has grown, until it returns other
     * than NULL: a text (which must last) that is its last input. NULL: no such. */
    const char *(*answer)(const char *out, void *user);
    void *user;

    /* What became of it; out and err are never NULL and end with NUL. */
    char *out, *err;
    int exit_status; /* -1: it did not exit */
    int code;        /* errno: it could not be started; 0: it was */
    bool timed_out, interrupted;
};

/* Frees nothing that is in *run: it is filled anew. Returns exit_status. */
int cli_run(struct cli_run *run);
void cli_run_fini(struct cli_run *run);

/* Starts a program, found in PATH, which hears signals as if this command were not there:
 * in a group or session of its own (apart: POSIX_SPAWN_SETPGROUP or _SETSID). 0 or an
 * errno. */
int cli_spawn(char *const *arguments, const posix_spawn_file_actions_t *actions,
              short apart, pid_t *ret_pid);

/* The last line of a text that is not empty, without its end, cut to `size`; text. */
char *cli_last_line(const char *text, char *ret_line, size_t size);

/* From then on SIGINT and SIGTERM only make cli_interrupted true, and cli_run end. */
void cli_catch_interrupts(void);
bool cli_interrupted(void);

/* A list of arguments that grows; its texts are its own. Out of memory ends the program:
 * nothing has been begun that a message could save. */
struct cli_words {
    char **items; /* NULL-ended */
    size_t count, capacity;
};
void cli_words_add(struct cli_words *words, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Each word of a text, at its spaces. */
void cli_words_split(struct cli_words *words, const char *text);
void cli_words_fini(struct cli_words *words);

/* One word for a shell, whatever is in it. */
void cli_quote(FILE *file, const char *text);

#endif
