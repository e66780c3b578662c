/* SPDX-License-Identifier: Apache-2.0
 *
 * joining.c: what whoever joins by a token does with files: takes the token from where it
 * is, and keeps the pair that is being enrolled. That is written to FILE.joining before
 * anybody hears of it: if the answer or the process is lost, the same key asks again. */
#include "common/base/error.h"
#include "common/keys/keys_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#define PATH_BYTES 4096
#define INPUT_BYTES_MAX 1024

/* One line, and nothing behind it: what follows is another's. */
static int read_input(char text[INPUT_BYTES_MAX], farpool_error *error)
{
    size_t size = 0;
    for (;;) {
        char letter;
        const ssize_t got = read(STDIN_FILENO, &letter, 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return error_set(error, FARPOOL_ESYSTEM, "cannot read standard input: %s",
                             strerror(errno));
        if (got == 0 || letter == '\n' || letter == '\0')
            break;
        if (size + 1 >= INPUT_BYTES_MAX)
            return error_set(error, FARPOOL_EINVAL,
                             "not a join token: standard input has a line of more than "
                             "%d bytes",
                             INPUT_BYTES_MAX - 1);
        text[size++] = letter;
    }
    text[size] = '\0';
    return 0;
}

/* As getpass: no echo, and no signal that could leave the terminal without one. */
static int ask_terminal(char text[INPUT_BYTES_MAX], farpool_error *error)
{
    struct termios before, quiet;
    const bool changed = tcgetattr(STDIN_FILENO, &before) == 0;
    fputs("Paste the join token, then Enter: ", stderr);
    if (changed) {
        quiet = before;
        quiet.c_lflag &= ~(tcflag_t)(ECHO | ISIG);
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
    }
    const int result = read_input(text, error);
    if (changed)
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
    fputc('\n', stderr);
    return result;
}

int token_read(const char *path, struct token *ret_token, farpool_error *error)
{
    static const char token_head[] = "farpool-join-";
    char text[INPUT_BYTES_MAX];
    if (strncmp(path, token_head, strlen(token_head)) == 0)
        return error_set(error, FARPOOL_EINVAL,
                         "a file with the token is wanted, or - for standard input: a "
                         "token in an argument or in the environment is no secret any "
                         "more. Revoke it (farpool token --revoke, farpool keys revoke), "
                         "and make another");
    if (strcmp(path, "-") != 0)
        return token_load(path, ret_token, error);
    int result =
        isatty(STDIN_FILENO) ? ask_terminal(text, error) : read_input(text, error);
    if (result == 0)
        result = token_parse(text, ret_token, error);
    explicit_bzero(text, sizeof text);
    return result;
}

/* ------------------------------------------------------------ the pair on its way */

static int joining_path(const char *path, char joining[PATH_BYTES], farpool_error *error)
{
    if ((size_t)snprintf(joining, PATH_BYTES, "%s.joining", path) < PATH_BYTES)
        return 0;
    return error_set(error, FARPOOL_EKEY, "the path of the key file is too long");
}

static int make(const struct token *token, struct key_file *ret_file,
                farpool_error *error)
{
    const int result = key_make(HOLDER_WORKER, "joining", ret_file, error);
    if (result == 0) {
        ret_file->server = token->server;
        snprintf(ret_file->address, sizeof ret_file->address, "%s", token->address);
    }
    return result;
}

int token_begin(const struct token *token, const char *path, struct key_file *ret_file,
                farpool_error *error)
{
    char joining[PATH_BYTES];
    if (path == NULL)
        return make(token, ret_file, error);
    int result = joining_path(path, joining, error);
    if (result == 0 && access(path, F_OK) == 0)
        result = error_set(error, FARPOOL_EKEY,
                           "%s is there already, and is not overwritten", path);
    if (result != 0)
        return result;
    if (access(joining, F_OK) == 0) {
        result = key_load(joining, ret_file, error);
        if (result != 0 || hash_equal(&ret_file->server, &token->server))
            return result;
        key_wipe(ret_file);
        unlink(joining); /* of another coordinator's token */
    }
    result = make(token, ret_file, error);
    if (result == 0)
        result = key_save(joining, ret_file, error);
    return result;
}

int token_end(const char *path, const struct key_file *file, farpool_error *error)
{
    char joining[PATH_BYTES];
    if (path == NULL)
        return 0;
    int result = joining_path(path, joining, error);
    if (result == 0)
        result = key_save(path, file, error);
    if (result == 0)
        unlink(joining);
    return result;
}
