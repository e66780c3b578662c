/* SPDX-License-Identifier: Apache-2.0
 *
 * up_keeper.c: the process that keeps the tunnels of one `farpool up`: ssh ends when its
 * connection does, and has no way to begin anew. It waits on each ssh, and starts another
 * in its place, to the same port, after pauses that grow from half a second to a minute
 * while that fails. Which tunnels there should be it reads from the state, whenever that
 * changes; when there are none any more it has ended all, and ends. It writes only
 * NAME.tunnels (up_tunnels.c). */
#include "cli/up.h"

#include "common/sys/sys.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    LOOK_MS = 1000,    /* at the state */
    TRYING_MS = 100,   /* at the log of one that begins */
    BEGIN_MS = 30000,  /* an ssh that is there so long has its port */
    STEADY_MS = 60000, /* one that stood so long begins with short pauses again */
    LOG_MAX = 65536
};

/* One tunnel; its host is a copy of the state's. */
struct tunnel {
    struct up_host host;
    struct up_tunnel told;
    enum { UP, TRYING, WAITING } is;
    int fd;            /* of the ssh process; -1: none */
    uint64_t since_ms; /* UP, TRYING: since then */
    uint64_t again_ms; /* WAITING: until then */
    unsigned failures; /* in a row */
};

struct keeper {
    const struct up_options *options;
    struct up_state *state;
    struct up_session session;
    struct tunnel *tunnels;
    struct pollfd *polls;
    size_t count;
    struct stat seen; /* the state's file, when it was read */
    char *log;
    bool changed; /* what is told */
};

/* --------------------------------------------------------------------- one tunnel */

static void watch(struct tunnel *tunnel, pid_t pid)
{
    tunnel->told.ssh = up_process_find(pid);
    tunnel->fd = (int)syscall(SYS_pidfd_open, pid, 0);
}

/* It is reaped if it was ours; what it said becomes the reason. */
static void read_reason(struct keeper *keeper, struct tunnel *tunnel, bool late)
{
    char path[UP_PATH_MAX];
    struct cli_run run = {.timeout_ms = BEGIN_MS, .exit_status = 255, .timed_out = late};
    int status = 0;
    const pid_t reaped = waitpid((pid_t)tunnel->told.ssh.pid, &status, WNOHANG);
    if (!up_tunnel_log(keeper->state, &tunnel->host, path))
        return;
    run.err = up_tunnel_read_log(path, keeper->log, LOG_MAX);
    if (reaped > 0 && WIFSIGNALED(status))
        snprintf(tunnel->told.why, sizeof tunnel->told.why,
                 "its ssh was ended by signal %d", WTERMSIG(status));
    else if (!run.err[0] && !late)
        snprintf(tunnel->told.why, sizeof tunnel->told.why, "its ssh has ended");
    else
        up_ssh_explain(&tunnel->host, &run, tunnel->told.why);
}

static void set(struct keeper *keeper, struct tunnel *tunnel, bool is_up)
{
    if (tunnel->told.is_up != is_up)
        tunnel->told.since_s = (int64_t)time(NULL);
    tunnel->told.is_up = is_up;
    keeper->changed = true;
}

static void has_ended(struct keeper *keeper, struct tunnel *tunnel, uint64_t now,
                      bool late)
{
    if (late)
        up_process_end(&tunnel->told.ssh);
    read_reason(keeper, tunnel, late);
    if (tunnel->fd >= 0)
        close(tunnel->fd);
    if (tunnel->is == UP && now - tunnel->since_ms >= STEADY_MS)
        tunnel->failures = 0;
    tunnel->fd = -1;
    tunnel->told.ssh = (struct up_process){.pid = 0};
    tunnel->is = WAITING;
    tunnel->again_ms = now + up_tunnel_pause_ms(tunnel->failures++);
    set(keeper, tunnel, false);
}

static void begin(struct keeper *keeper, struct tunnel *tunnel, uint64_t now)
{
    char path[UP_PATH_MAX];
    pid_t pid = 0;
    int code = ENAMETOOLONG;
    if (up_tunnel_log(keeper->state, &tunnel->host, path))
        code = up_tunnel_spawn(&keeper->session, &tunnel->host, tunnel->host.tunnel_port,
                               path, &pid);
    tunnel->is = TRYING;
    tunnel->since_ms = now;
    if (code) {
        snprintf(tunnel->told.why, sizeof tunnel->told.why, "ssh cannot be started: %s",
                 strerror(code));
        tunnel->is = WAITING;
        tunnel->again_ms = now + up_tunnel_pause_ms(tunnel->failures++);
    } else {
        watch(tunnel, pid);
    }
    keeper->changed = true;
}

/* ssh -v says when sshd forwards; and it ends if sshd does not. */
static bool has_begun(struct keeper *keeper, struct tunnel *tunnel, uint64_t now)
{
    char path[UP_PATH_MAX];
    if (now - tunnel->since_ms >= BEGIN_MS)
        return true;
    FILE *file =
        up_tunnel_log(keeper->state, &tunnel->host, path) ? fopen(path, "re") : NULL;
    const size_t size = file ? fread(keeper->log, 1, LOG_MAX - 1, file) : 0;
    if (file)
        fclose(file);
    keeper->log[size] = '\0';
    return strstr(keeper->log, "remote forward success") != NULL;
}

static void step(struct keeper *keeper, struct tunnel *tunnel, uint64_t now)
{
    if (tunnel->is == WAITING && now >= tunnel->again_ms)
        begin(keeper, tunnel, now);
    if (tunnel->is == WAITING)
        return;
    if (!up_process_is_there(&tunnel->told.ssh)) {
        has_ended(keeper, tunnel, now, false);
    } else if (tunnel->is == TRYING && has_begun(keeper, tunnel, now)) {
        tunnel->is = UP;
        tunnel->since_ms = now;
        tunnel->told.made_anew++;
        set(keeper, tunnel, true);
    }
}

static void end(struct keeper *keeper, struct tunnel *tunnel)
{
    char path[UP_PATH_MAX];
    up_process_end(&tunnel->told.ssh);
    waitpid((pid_t)tunnel->told.ssh.pid, NULL, WNOHANG);
    if (tunnel->fd >= 0)
        close(tunnel->fd);
    if (up_tunnel_log(keeper->state, &tunnel->host, path))
        unlink(path);
}

/* -------------------------------------------------------------------- all of them */

static const struct up_host *find_host(const struct up_state *state, const char *node)
{
    for (size_t i = 0; i < state->hosts_count; i++)
        if (strcmp(state->hosts[i].node, node) == 0 && state->hosts[i].tunnel.pid)
            return &state->hosts[i];
    return NULL;
}

/* Ends those that the state has no more. */
static void follow_state(struct keeper *keeper)
{
    char path[UP_PATH_MAX];
    struct stat found = {.st_ino = 0};
    struct up_state state = {.hosts = NULL};
    size_t kept = 0;
    if (!up_state_file(keeper->state->name, "json", path))
        return;
    if (stat(path, &found) != 0 && errno != ENOENT)
        return;
    if (found.st_ino == keeper->seen.st_ino &&
        memcmp(&found.st_ctim, &keeper->seen.st_ctim, sizeof found.st_ctim) == 0)
        return;
    if (up_state_load(keeper->state->name, &state) < 0)
        return;
    const bool ours = strcmp(state.id, keeper->state->id) == 0;
    keeper->seen = found;
    for (size_t i = 0; i < keeper->count; i++) {
        if (ours && find_host(&state, keeper->tunnels[i].host.node))
            keeper->tunnels[kept++] = keeper->tunnels[i];
        else
            end(keeper, &keeper->tunnels[i]);
    }
    keeper->changed = keeper->changed || kept != keeper->count;
    keeper->count = kept;
    up_state_fini(&state);
}

static void tell(struct keeper *keeper)
{
    struct up_tunnel *all = calloc(keeper->count + 1, sizeof *all);
    for (size_t i = 0; all && i < keeper->count; i++)
        all[i] = keeper->tunnels[i].told;
    if (all && up_tunnels_save(keeper->state, all, keeper->count))
        keeper->changed = false;
    free(all);
}

/* Until a process ends, or it is time for something. */
static void wait_for_something(struct keeper *keeper, uint64_t now)
{
    uint64_t pause = LOOK_MS;
    for (size_t i = 0; i < keeper->count; i++) {
        const struct tunnel *tunnel = &keeper->tunnels[i];
        keeper->polls[i] = (struct pollfd){.fd = tunnel->fd, .events = POLLIN};
        if (tunnel->is == TRYING && pause > TRYING_MS)
            pause = TRYING_MS;
        if (tunnel->is == WAITING && tunnel->again_ms < now + pause)
            pause = tunnel->again_ms > now ? tunnel->again_ms - now : 1;
    }
    poll(keeper->polls, keeper->count, (int)pause);
}

static void loop(struct keeper *keeper)
{
    while (!cli_interrupted()) {
        uint64_t now = sys_now_ms();
        follow_state(keeper);
        for (size_t i = 0; i < keeper->count; i++)
            step(keeper, &keeper->tunnels[i], now);
        if (keeper->count == 0)
            break;
        if (keeper->changed)
            tell(keeper);
        wait_for_something(keeper, now);
    }
    for (size_t i = 0; i < keeper->count; i++)
        end(keeper, &keeper->tunnels[i]);
    up_tunnels_remove(keeper->state);
}

static bool prepare(struct keeper *keeper)
{
    const struct up_state *state = keeper->state;
    keeper->log = malloc(LOG_MAX);
    keeper->tunnels = calloc(state->hosts_count, sizeof *keeper->tunnels);
    keeper->polls = calloc(state->hosts_count, sizeof *keeper->polls);
    if (!keeper->log || !keeper->tunnels || !keeper->polls)
        return false;
    for (size_t i = 0; i < state->hosts_count; i++) {
        struct tunnel *tunnel = &keeper->tunnels[keeper->count];
        if (!state->hosts[i].tunnel.pid)
            continue;
        *tunnel =
            (struct tunnel){.host = state->hosts[i],
                            .is = UP,
                            .since_ms = sys_now_ms(),
                            .told = {.since_s = (int64_t)time(NULL), .is_up = true}};
        snprintf(tunnel->told.node, sizeof tunnel->told.node, "%s", tunnel->host.node);
        watch(tunnel, (pid_t)tunnel->host.tunnel.pid);
        tunnel->told.ssh = tunnel->host.tunnel;
        keeper->count++;
    }
    return keeper->changed = true;
}

bool up_keeper_start(const struct up_options *options, struct up_state *state)
{
    struct keeper keeper = {.options = options,
                            .state = state,
                            .session = {.state = state, .options = options}};
    size_t wanted = 0;
    for (size_t i = 0; i < state->hosts_count; i++)
        wanted += state->hosts[i].tunnel.pid != 0;
    if (!wanted)
        return true;
    fflush(NULL);
    const pid_t pid = up_apart(state, &state->keeper, NULL);
    if (pid != 0)
        return pid > 0;
    const bool good = prepare(&keeper);
    if (good)
        loop(&keeper);
    _exit(good ? 0 : 255);
}

void up_keeper_end(struct up_state *state)
{
    struct up_tunnel *tunnels;
    up_process_end(&state->keeper);
    const size_t count = up_tunnels_load(state->name, NULL, &tunnels);
    for (size_t i = 0; i < count; i++)
        up_process_end(&tunnels[i].ssh);
    free(tunnels);
    up_tunnels_remove(state);
    state->keeper.pid = 0;
}
