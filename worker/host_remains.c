/* SPDX-License-Identifier: Apache-2.0
 *
 * host_remains.c: killing what ended processes left behind, and keeping a guardian that
 * does so when the host itself is killed. A look at what remains is due when a process
 * has ended, and again until nothing is found. A reaper need only look when it has a
 * child that is not its own; all others go through /proc, and so that this costs little,
 * they pause twenty times as long as the last look took. Control groups are the sharper
 * means where there are some; but a program of the worker's user can leave its own. */
#include "worker/host_internal.h"

#include "common/sys/sys.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define PAUSE_MS 100     /* between two looks, at least */
#define AGAIN_MS 20      /* when something was found */
#define AGAIN_MS_MAX 200 /* when that does not help */
#define COST 20
#define IN_VAIN_MAX 5   /* looks at the end that find nobody */
#define DESTROY_MS 2000 /* to wait for what was killed */
#define GUARDIAN_PAUSE_MS 1000

static bool is_alive(void *user, uint64_t number)
{
    const struct host *host = user;
    const struct host_process *process;
    HASH_FIND(hh, host->processes, &number, sizeof number, process);
    return process != NULL;
}

static bool is_owned(void *user, int pid)
{
    return host_owns(user, pid);
}

void host_remains_init(struct host *host)
{
    struct id id;
    sys_random_id(&id);
    for (size_t i = 0; i < sizeof id.bytes; i++)
        snprintf(host->token + 2 * i, 3, "%02x", id.bytes[i]);
    host->guardian = GUARDIAN_NONE;
    host->groups = GROUPS_NONE;
    host->sweep_ms = UINT64_MAX;
    /* Orphans of others come to init; and who had children before cannot tell whose
     * orphans come to it later. */
    host->sole_reaper =
        host->config.reaper && getpid() != 1 && !remains_has_children(is_owned, host);
}

/* -------------------------------------------------------------------- the guardian */

/* Before anything of the program's own runs in the first process; and again when it has
 * ended, a second later at the soonest. */
void host_guard(struct host *host)
{
    const uint64_t now_ms = sys_now_ms();
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = HOST_GUARDIAN};
    if (!host->config.guarded || host->guardian.pid > 0 || now_ms < host->guardian_ms)
        return;
    host->guardian_ms = now_ms + GUARDIAN_PAUSE_MS;
    if (guardian_start(host->token, host->groups.top, &host->guardian) == 0 &&
        host->guardian.pidfd >= 0)
        epoll_ctl(host->epoll, EPOLL_CTL_ADD, host->guardian.pidfd, &event);
}

void host_guardian_ended(struct host *host)
{
    struct pollfd exit = {.fd = host->guardian.pidfd, .events = POLLIN};
    if (host->guardian.pid == 0 || poll(&exit, 1, 0) != 1)
        return;
    guardian_bury(&host->guardian);
    host_guard(host);
}

static bool is_unguarded(const struct host *host)
{
    return host->config.guarded && host->guardian.pid == 0 && host->guardian_ms > 0 &&
           host->processes != NULL;
}

/* ----------------------------------------------------------------------- remains */

/* How many remain; 0 with *ret_suspect: none was seen, but a reaper has children that are
 * not its own: dead ones, or a chain of which each is gone when it is looked at. */
static uint32_t look(struct host *host, bool *ret_suspect)
{
    const struct remains_query query = {.token = host->token,
                                        .is_alive = is_alive,
                                        .is_owned = is_owned,
                                        .user = host,
                                        .reaper = host->sole_reaper};
    const uint32_t groups = groups_sweep(&host->groups, is_alive, host);
    *ret_suspect = host->config.reaper && remains_has_children(is_owned, host);
    return groups + (host->config.reaper && !*ret_suspect ? 0 : remains_kill(&query));
}

void host_sweep_soon(struct host *host)
{
    if (host->sweep_ms == UINT64_MAX)
        host->sweep_ms = host->swept_ms;
}

void host_sweep(struct host *host, uint64_t now_ms)
{
    if (is_unguarded(host) && now_ms >= host->guardian_ms)
        host_guard(host);
    if (now_ms < host->sweep_ms)
        return;
    const uint64_t began_ns = sys_now_ns();
    bool suspect;
    const bool found = look(host, &suspect) > 0 || suspect;
    const uint64_t cost_ms = (sys_now_ns() - began_ns) * COST / 1000000;
    const uint64_t pause_ms = cost_ms > PAUSE_MS ? cost_ms : PAUSE_MS;
    host->swept_ms = now_ms + pause_ms;
    host->sweep_ms = UINT64_MAX;
    if (!found) {
        host->again_ms = AGAIN_MS;
        return;
    }
    host->sweep_ms = now_ms + host->again_ms;
    if (host->again_ms < AGAIN_MS_MAX)
        host->again_ms *= 2;
}

uint64_t host_sweep_deadline(const struct host *host)
{
    if (is_unguarded(host) && host->guardian_ms < host->sweep_ms)
        return host->guardian_ms;
    return host->sweep_ms;
}

void host_remains_fini(struct host *host)
{
    const uint64_t until_ms = sys_now_ms() + DESTROY_MS;
    int pause_ms = 1, in_vain = 0;
    bool suspect;
    while (host->started && sys_now_ms() < until_ms) {
        if (look(host, &suspect) == 0 && (!suspect || ++in_vain == IN_VAIN_MAX))
            break;
        poll(NULL, 0, pause_ms);
        if (pause_ms < AGAIN_MS)
            pause_ms *= 2;
    }
    guardian_end(&host->guardian);
    groups_close(&host->groups);
}
