/* SPDX-License-Identifier: Apache-2.0
 *
 * up_connection.c: scripts run on hosts by the system's own ssh, with the user's own
 * configuration, and no question asked (BatchMode). One connection a host is shared by
 * all that one run of this command does there (ControlMaster). What ssh says when it
 * fails becomes what to do about it. */
#include "cli/up.h"
#include "cli/up_script.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SSH_FAILED = 255, NOT_FOUND = 127, CLOSE_MS = 10000, CLOSE_TRIES = 200 };

bool up_session_open(struct up_session *session)
{
    const char *base = getenv("XDG_RUNTIME_DIR");
    if (!base || base[0] != '/' || strlen(base) > 30 || access(base, W_OK) != 0)
        base = "/tmp"; /* the path of a socket has no room for more */
    pthread_mutex_init(&session->lock, NULL);
    snprintf(session->folder, sizeof session->folder, "%s/farpool-ssh-XXXXXX", base);
    return mkdtemp(session->folder) ||
           up_fail("cannot make a folder in %s: %s", base, strerror(errno));
}

bool up_session_save(struct up_session *session)
{
    pthread_mutex_lock(&session->lock);
    const bool good = up_state_save(session->state);
    pthread_mutex_unlock(&session->lock);
    return good;
}

/* Nobody listens at what is left then: its connection was killed. */
static void sweep(const char *path)
{
    DIR *folder = opendir(path);
    const struct dirent *entry;
    while (folder && (entry = readdir(folder)))
        unlinkat(dirfd(folder), entry->d_name, 0);
    if (folder)
        closedir(folder);
}

/* A connection says that it will end before its socket has gone from the folder. */
static void remove_folder(const char *path, bool expected_to_empty)
{
    const struct timespec pause = {.tv_nsec = 5000000};
    for (int i = 0; i < (expected_to_empty ? CLOSE_TRIES : 1); i++) {
        if (rmdir(path) == 0 || errno != ENOTEMPTY)
            return;
        nanosleep(&pause, NULL);
    }
    sweep(path);
    rmdir(path);
}

void up_session_close(struct up_session *session)
{
    bool any_ends = false;
    for (size_t i = 0; i < session->state->hosts_count; i++) {
        struct cli_words words = {.items = NULL};
        up_ssh_words(session, &session->state->hosts[i], true, &words);
        cli_words_add(&words, "-O");
        cli_words_add(&words, "exit");
        cli_words_add(&words, "--");
        cli_words_add(&words, "%s", session->state->hosts[i].host);
        struct cli_run run = {
            .arguments = words.items, .timeout_ms = CLOSE_MS, .to_its_end = true};
        any_ends |= cli_run(&run) == 0;
        cli_run_fini(&run);
        cli_words_fini(&words);
    }
    remove_folder(session->folder, any_ends);
    pthread_mutex_destroy(&session->lock);
}

void up_ssh_words(const struct up_session *session, const struct up_host *host,
                  bool shared_connection, struct cli_words *words)
{
    cli_words_split(words, session->state->ssh);
    cli_words_split(words, "-T -o BatchMode=yes -o ConnectTimeout=10");
    cli_words_split(words, "-o ServerAliveInterval=15 -o ServerAliveCountMax=4");
    if (shared_connection) {
        cli_words_split(words, "-o ControlMaster=auto -o ControlPersist=60 -o");
        cli_words_add(words, "ControlPath=%s/%%C", session->folder);
    } else {
        cli_words_split(words, "-o ControlMaster=no -o ControlPath=none");
    }
    if (host->port) {
        cli_words_add(words, "-p");
        cli_words_add(words, "%u", host->port);
    }
    if (host->user[0]) {
        cli_words_add(words, "-l");
        cli_words_add(words, "%s", host->user);
    }
}

static char *remote_command(const char *script, char *const *arguments)
{
    char *text = NULL;
    size_t size;
    FILE *file = open_memstream(&text, &size);
    if (!file)
        return NULL;
    fputs("exec sh -c ", file);
    cli_quote(file, script);
    fputs(" farpool", file);
    for (; *arguments; arguments++) {
        fputc(' ', file);
        cli_quote(file, *arguments);
    }
    fclose(file);
    return text;
}

int up_ssh_run(const struct up_session *session, const struct up_host *host,
               const char *script, char *const *arguments, struct cli_run *run)
{
    struct cli_words words = {.items = NULL};
    char *command = remote_command(script, arguments);
    up_ssh_words(session, host, true, &words);
    cli_words_add(&words, "--");
    cli_words_add(&words, "%s", host->host);
    cli_words_add(&words, "%s", command ? command : "exit 90");
    run->arguments = words.items;
    const int status = cli_run(run);
    run->arguments = NULL;
    cli_words_fini(&words);
    free(command);
    return status;
}

char *up_value(const char *output, const char *name, char *ret_value, size_t size)
{
    const size_t length = strlen(name);
    ret_value[0] = '\0';
    for (const char *at = output; at && *at; at += *at == '\n') {
        const size_t line = strcspn(at, "\n");
        if (line > length && strncmp(at, name, length) == 0 && at[length] == '=') {
            snprintf(ret_value, size, "%.*s", (int)(line - length - 1), at + length + 1);
            return ret_value;
        }
        at += line;
    }
    return ret_value;
}

/* ---------------------------------------------------------------------- failures */

/* What ssh says, and what to do about it; the first that is found counts. */
static const struct advice {
    const char *said, *advice;
} advices[] = {
    {"REMOTE HOST IDENTIFICATION HAS CHANGED",
     "its host key is not the one that is known: if that is right, ssh-keygen -R it, and "
     "connect once by hand"},
    {"Host key verification failed",
     "its host key is not known here: connect once by hand (ssh HOST) and compare it, or "
     "add it to known_hosts"},
    {"Permission denied",
     "ssh is not let in without a question: put your public key into its "
     "authorized_keys (ssh-copy-id HOST), have an ssh-agent, or name a key by "
     "--ssh-command 'ssh -i FILE'"},
    {"Could not resolve hostname", "this name is not known here"},
    {"Connection refused", "no sshd answers there: is the port right (HOST:PORT)?"},
    {"timed out", "it does not answer: is it up, and not behind a firewall?"},
    {"No route to host", "it cannot be reached from here"},
    {"administratively prohibited", "its sshd allows no forwarding of ports"},
    {"remote port forwarding failed",
     "its sshd forwards no port: set AllowTcpForwarding yes in its sshd_config"},
    {"Bad configuration option", "ssh does not take its configuration"},
};

static const char *find_advice(const char *said)
{
    for (size_t i = 0; i < sizeof advices / sizeof *advices; i++)
        if (strstr(said, advices[i].said))
            return advices[i].advice;
    return NULL;
}

/* A worker whose executable does not start says why by itself. */
static void explain_binary(const char *said, char *text)
{
    char line[256];
    cli_last_line(said, line, sizeof line);
    const char *what =
        strstr(said, "GLIBC_") || strstr(said, "GLIBCXX_")
            ? "its C library is older than the one the worker was built "
              "with: build the worker on such a host, and name it by "
              "--worker"
        : strstr(said, "shared librar")
            ? "install the library there (Debian: libzmq5 libmsgpackc2 "
              "libsodium23 libbsd0), or name a worker that needs none by "
              "--worker (cmake target farpool-worker-alone)"
        : strstr(said, "ermission denied")
            ? "~/.cache is mounted noexec there: set XDG_CACHE_HOME for ssh "
              "sessions"
            : "name another by --worker";
    snprintf(text, 512, "the worker does not run there: %s; %s", line, what);
}

/* The worker ran, and was not taken in: the reason is in its log. */
static void explain_start(const char *out, char *text)
{
    char state[16], line[400];
    up_value(out, "state", state, sizeof state);
    up_value(out, "line", line, sizeof line);
    char *reason = strstr(line, "reason=\"");
    if (reason) {
        reason += strlen("reason=\"");
        char *end = strrchr(reason, '"');
        if (end)
            *end = '\0';
    }
    if (strcmp(state, "cut") == 0)
        snprintf(text, 512, "it was not told to keep its worker, and has ended it");
    else if (strcmp(state, "absent") == 0)
        snprintf(text, 512,
                 "the coordinator cannot be reached from there (try --tunnel)");
    else if (strcmp(state, "late") == 0)
        snprintf(text, 512, "its worker was not connected after 15 s: %.300s",
                 reason ? reason : line);
    else
        snprintf(text, 512, "its worker was not taken in: %.400s",
                 reason    ? reason
                 : line[0] ? line
                           : "it ended without a word");
}

static void explain_ssh(const struct cli_run *run, char *text)
{
    char line[256];
    const char *advice = find_advice(run->err);
    cli_last_line(run->err, line, sizeof line);
    if (advice)
        snprintf(text, 512, "%s (%.160s)", advice, line);
    else
        snprintf(text, 512, "ssh failed: %s", line[0] ? line : "without a word");
}

void up_ssh_explain(const struct up_host *host, const struct cli_run *run, char *text)
{
    char line[256];
    (void)host;
    cli_last_line(run->err, line, sizeof line);
    if (run->code)
        snprintf(text, 512, "ssh cannot be started here (%s): install openssh-client",
                 strerror(run->code));
    else if (run->interrupted)
        snprintf(text, 512, "interrupted");
    else if (run->timed_out)
        snprintf(text, 512, "nothing came back for %llu s",
                 (unsigned long long)run->timeout_ms / 1000);
    else if (run->exit_status == SSH_FAILED)
        explain_ssh(run, text);
    else if (run->exit_status == UP_DOES_NOT_RUN)
        explain_binary(run->err, text);
    else if (run->exit_status == UP_TAKEN)
        snprintf(text, 512,
                 "a worker of another `farpool up` of this --name is there already (pid "
                 "%s): give another --name, or end that one: kill it there, if the state "
                 "that knew it is lost",
                 up_value(run->out, "line", line, sizeof line));
    else if (run->exit_status == UP_NOT_CONNECTED)
        explain_start(run->out, text);
    else if (strstr(run->err, "No space left") || strstr(run->err, "quota exceeded"))
        snprintf(text, 512, "its disk is full: make room for ~/.cache/farpool (%s)",
                 line);
    else if (run->exit_status == UP_BAD_COPY)
        snprintf(text, 512, "the worker did not arrive as it was sent (SHA-256 differs)");
    else if (run->exit_status == NOT_FOUND)
        snprintf(text, 512, "a command is missing there: %s", line);
    else
        snprintf(text, 512, "exit status %d there: %s", run->exit_status, line);
}
