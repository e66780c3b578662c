/* SPDX-License-Identifier: Apache-2.0
 *
 * up_tunnel.c: for a host that cannot dial the coordinator: an ssh process of its own,
 * which outlives this command, forwards a port of the host's loopback to it. sshd chooses
 * the port; when the tunnel is made anew (up_keeper.c) it is the same again, since that
 * is where the worker dials. */
#include "cli/up.h"

#include "common/sys/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { OPEN_MS = 30000, LOOK_MS = 20 };

/* Its standard error goes to a file: whoever outlives us must not hold our pipe. */
static int spawn(char *const *arguments, const char *log, pid_t *ret_pid)
{
    posix_spawn_file_actions_t actions;
    int code = posix_spawn_file_actions_init(&actions);
    if (code)
        return code;
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 2, log, O_WRONLY | O_CREAT | O_TRUNC,
                                     0600);
    code = cli_spawn(arguments, &actions, POSIX_SPAWN_SETSID, ret_pid);
    posix_spawn_file_actions_destroy(&actions);
    return code;
}

/* tcp://HOST:PORT as ssh wants it, HOST:PORT. */
static const char *target_of(const char *address)
{
    static const char scheme[] = "tcp://";
    return strncmp(address, scheme, sizeof scheme - 1) == 0 ? address + sizeof scheme - 1
                                                            : NULL;
}

/* A line that -v makes ssh say, and that is no reason. */
static bool is_chatter(const char *line)
{
    static const char *const starts[] = {"debug1:", "OpenSSH_", "Authenticated to",
                                         "Transferred:", "Bytes per second:"};
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++)
        if (strncmp(line, starts[i], strlen(starts[i])) == 0)
            return true;
    return false;
}

static void read_log(const char *path, char *text, size_t size)
{
    FILE *file = fopen(path, "re");
    const size_t got = file ? fread(text, 1, size - 1, file) : 0;
    if (file)
        fclose(file);
    text[got] = '\0';
}

char *up_tunnel_read_log(const char *path, char *text, size_t size)
{
    char *line = NULL;
    size_t room = 0, used = 0;
    FILE *file = fopen(path, "re");
    text[0] = '\0';
    while (file && getline(&line, &room, file) > 0)
        if (!is_chatter(line) && used + strlen(line) < size)
            used += (size_t)snprintf(text + used, size - used, "%s", line);
    free(line);
    if (file)
        fclose(file);
    return text;
}

/* The port that sshd chose, which ssh tells; 0: it has ended, or time is over. */
static unsigned wait_for_port(pid_t pid, const char *log, struct cli_run *run)
{
    static const char told[] = "Allocated port ";
    const struct timespec pause = {.tv_nsec = LOOK_MS * 1000000L};
    const uint64_t until = sys_now_ms() + OPEN_MS;
    int status;
    for (;;) {
        read_log(log, run->err, CLI_RUN_OUTPUT_MAX);
        const char *at = strstr(run->err, told);
        if (at)
            return (unsigned)strtoul(at + sizeof told - 1, NULL, 10);
        if (waitpid(pid, &status, WNOHANG) == pid) {
            read_log(log, run->err, CLI_RUN_OUTPUT_MAX);
            run->exit_status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
            return 0;
        }
        run->interrupted = cli_interrupted();
        run->timed_out = sys_now_ms() >= until;
        if (run->interrupted || run->timed_out) {
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
            return 0;
        }
        nanosleep(&pause, NULL);
    }
}

bool up_tunnel_log(const struct up_state *state, const struct up_host *host,
                   char ret_path[UP_PATH_MAX])
{
    char end[96];
    snprintf(end, sizeof end, "%s.tunnel.log", host->node);
    return up_state_file(state->name, end, ret_path);
}

int up_tunnel_spawn(const struct up_session *session, const struct up_host *host,
                    uint32_t port, const char *log, pid_t *ret_pid)
{
    struct cli_words words = {.items = NULL};
    const char *target = target_of(session->state->address);
    up_ssh_words(session, host, false, &words);
    if (port)
        cli_words_add(&words, "-v"); /* tells when sshd has taken it */
    cli_words_split(&words, "-N -o ExitOnForwardFailure=yes -R");
    cli_words_add(&words, "127.0.0.1:%u:%s", port, target ? target : "");
    cli_words_add(&words, "--");
    cli_words_add(&words, "%s", host->host);
    const int code = spawn(words.items, log, ret_pid);
    cli_words_fini(&words);
    return code;
}

static void set_tunnel(struct up_session *session, struct up_host *host,
                       const struct up_process *tunnel, uint32_t port)
{
    pthread_mutex_lock(&session->lock);
    host->tunnel = *tunnel;
    host->tunnel_port = port;
    up_state_save(session->state);
    pthread_mutex_unlock(&session->lock);
}

bool up_tunnel_open(struct up_session *session, struct up_host *host,
                    char ret_address[64])
{
    struct cli_run run = {.timeout_ms = OPEN_MS, .out = NULL};
    char log[UP_PATH_MAX];
    pid_t pid = 0;
    unsigned port = 0;
    if (!target_of(session->state->address))
        return up_host_fail(host, "only tcp:// goes through a tunnel, not %.200s",
                            session->state->address);
    if (!up_tunnel_log(session->state, host, log))
        return up_host_fail(host, "its tunnel has no place for a log here");
    run.err = calloc(1, CLI_RUN_OUTPUT_MAX);
    run.code = run.err ? up_tunnel_spawn(session, host, 0, log, &pid) : ENOMEM;
    if (!run.code)
        port = wait_for_port(pid, log, &run);
    if (port) {
        const struct up_process tunnel = up_process_find(pid);
        set_tunnel(session, host, &tunnel, port);
        snprintf(ret_address, 64, "tcp://127.0.0.1:%u", port);
    } else {
        up_ssh_explain(host, &run, host->text);
        unlink(log);
    }
    free(run.err);
    return port != 0;
}

void up_tunnel_close(struct up_session *session, struct up_host *host)
{
    const struct up_process none = {.pid = 0};
    char log[UP_PATH_MAX];
    up_process_end(&host->tunnel);
    set_tunnel(session, host, &none, 0);
    if (up_tunnel_log(session->state, host, log))
        unlink(log);
}
