/* SPDX-License-Identifier: Apache-2.0
 *
 * shell.c: the coordinator's loop: wait, turn what happened into events, one step each,
 * then FLUSH, then carry out the effects. It decides only what the core cannot know: how
 * signals end it, and what is logged.
 *
 * Told to stop, it refuses new clients (the core does not hear of them) and ends when it
 * has none left; told again, it ends at once. What it knows is soft state, so it has
 * nothing to save, but for detached jobs, which are on the disk already. */
#include "coordinator/shell_internal.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define FILES_BESIDES_PEERS 64
#define QUEUE_BYTES_MAX (UINT64_C(4) << 30)
#define LINGER_MS 500

/* --------------------------------------------------------------------- signals */

static void take_signals(struct shell *shell)
{
    struct signalfd_siginfo info;
    while (read(shell->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        log_event(LOG_INFO, "signal", "name=%s",
                  info.ssi_signo == SIGINT ? "INT" : "TERM");
        if (shell->stage == SERVING) {
            shell->stage = DRAINING;
            shell_stop_detached(shell);
            notify_stopping(&shell->notify);
        } else if (shell->stage == DRAINING) {
            shell->stage = ENDED;
        }
    }
}

static void end_if_idle(struct shell *shell, const struct coordinator_counts *counts)
{
    if (shell->stage == DRAINING && counts->clients == 0)
        shell->stage = ENDED;
}

static void tell_manager(struct shell *shell, const struct coordinator_counts *counts)
{
    if (shell->stage == SERVING)
        notify_status(&shell->notify, "%llu workers, %llu clients",
                      (unsigned long long)counts->workers,
                      (unsigned long long)counts->clients);
    else
        notify_status(&shell->notify, "draining: waiting for %llu clients to go",
                      (unsigned long long)counts->clients);
    notify_turn(&shell->notify, shell->now_ms);
}

static int open_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR || sigprocmask(SIG_BLOCK, &set, NULL) != 0)
        return -1;
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* ------------------------------------------------------------------------ loop */

static int wait_ms(const struct shell *shell)
{
    uint64_t deadline = coordinator_core_deadline(shell->core);
    if (net_deadline(shell->net) < deadline)
        deadline = net_deadline(shell->net);
    if (notify_deadline(&shell->notify) < deadline)
        deadline = notify_deadline(&shell->notify);
    if (gate_deadline(shell->gate) < deadline)
        deadline = gate_deadline(shell->gate);
    if (memory_deadline(&shell->memory) < deadline)
        deadline = memory_deadline(&shell->memory);
    if (deadline == UINT64_MAX)
        return -1;
    uint64_t now = sys_now_ms();
    if (deadline <= now)
        return 0;
    return deadline - now < INT_MAX ? (int)(deadline - now) : INT_MAX;
}

static void wait_for_events(struct shell *shell)
{
    struct pollfd fds[NET_WAIT_FDS + 2];
    int timeout_ms = wait_ms(shell);
    nfds_t count = (nfds_t)net_wait_begin(shell->net, fds, &timeout_ms);
    struct pollfd *signals = &fds[count];
    fds[count++] = (struct pollfd){.fd = shell->signals, .events = POLLIN};
    if (shell->detached != NULL)
        fds[count++] =
            (struct pollfd){.fd = detached_fd(shell->detached), .events = POLLIN};
    if (poll(fds, count, timeout_ms) < 0 && errno != EINTR) {
        log_event(LOG_ERROR, "poll", "reason=\"%s\"", strerror(errno));
        shell->stage = FAILED;
    }
    net_wait_end(shell->net, fds);
    shell->now_ms = sys_now_ms();
    if (signals->revents != 0)
        take_signals(shell);
}

static void loop(struct shell *shell)
{
    struct coordinator_counts counts;
    while (shell->stage == SERVING || shell->stage == DRAINING) {
        wait_for_events(shell);
        if (gate_look(shell->gate, shell->now_ms))
            net_recheck(shell->net);
        net_poll(shell->net, shell->now_ms, shell_on_net, shell);
        shell_serve_detached(shell);
        shell_flush(shell);
        if (gate_serve(shell->gate, shell->now_ms, shell_on_keys_done, shell))
            shell_flush(shell);
        coordinator_core_counts(shell->core, &counts);
        memory_turn(&shell->memory, counts.waiting + counts.assigned > 0, shell->now_ms);
        end_if_idle(shell, &counts);
        tell_manager(shell, &counts);
    }
}

static int fail(const char *event, const char *text)
{
    log_event(LOG_ERROR, event, "reason=\"%s\"", text);
    return FARPOOL_ESYSTEM;
}

static int open_shell(struct shell *shell)
{
    farpool_error error;
    const struct coordinator_options *options = shell->options;
    uint64_t files = (uint64_t)options->core.workers_max + options->core.clients_max +
                     FILES_BESIDES_PEERS;
    shell->now_ms = sys_now_ms();
    if (notify_open(&shell->notify, shell->now_ms, &error) != 0)
        log_event(LOG_WARNING, "notify", "reason=\"%s\"", error.text);
    if (sys_need_files(files, &error) != 0)
        return fail("open-files", error.text);
    struct coordinator_config config = options->core;
    sys_random_id(&config.coordinator);
    config.pool_id = sys_pool_id;
    config.ticket = sys_ticket;
    sys_random_hash(&config.secret);
    config.logs = shell->logs;
    if (shell->logs == NULL ||
        coordinator_core_create(&config, shell->now_ms, &shell->core) != 0)
        return fail("start", "out of memory");
    struct relay_config relay = {config.clients_max, shell_on_relay_message,
                                 shell_on_relay_down, shell_on_relay_send, shell};
    if (relay_create(&relay, &shell->relay) != 0)
        return fail("start", "out of memory");
    shell->signals = open_signals();
    if (shell->signals < 0)
        return fail("signals", strerror(errno));
    struct net_config net = {.address = options->address,
                             .role = 'K',
                             .queue_bytes_max = QUEUE_BYTES_MAX,
                             .seed = sys_random()};
    if (options->keys != NULL)
        sys_hide_memory();
    if (options->keys != NULL &&
        gate_open(options->keys, shell->now_ms, &shell->gate, &error) != 0)
        return fail("keys", error.text);
    net.keys = gate_keys(shell->gate);
    if (net_listen(&net, &shell->net, &error) != 0)
        return fail("listen", error.text);
    gate_wipe(shell->gate);
    if (options->state != NULL) {
        const struct detached_config detached = {
            options->state, options->detached_bytes_max, options->detached_keep_s};
        if (detached_open(&detached, &shell->detached, &error) != 0)
            return fail("state", error.text);
    }
    log_event(LOG_INFO, "listening", "address=%s pid=%d version=%s keys=%s",
              net_address(shell->net), (int)getpid(), FARPOOL_VERSION,
              options->keys != NULL ? options->keys : "none");
    notify_ready(&shell->notify);
    return 0;
}

static void close_shell(struct shell *shell)
{
    struct peer *peer, *next;
    HASH_ITER (hh, shell->peers, peer, next)
        shell_remove_peer(shell, peer);
    detached_close(shell->detached);
    net_close(shell->net, shell->stage == ENDED ? LINGER_MS : 0);
    gate_close(shell->gate);
    relay_destroy(shell->relay);
    coordinator_effects_fini(&shell->effects);
    if (shell->core != NULL)
        coordinator_core_destroy(shell->core);
    if (shell->signals >= 0)
        close(shell->signals);
    notify_close(&shell->notify);
}

int coordinator_run(const struct coordinator_options *options)
{
    struct shell shell = {
        .options = options, .notify = {.fd = -1}, .signals = -1, .stage = SERVING};
    memory_open(&shell.memory);
    log_open("coordinator", options->level);
    shell.logs = logs_create(LOGS_OWN_BYTES, 0);
    log_keep(shell.logs);
    if (open_shell(&shell) == 0)
        loop(&shell);
    else
        shell.stage = FAILED;
    bool ended = shell.stage == ENDED;
    if (ended)
        log_event(LOG_INFO, "ended", "reason=\"as asked\"");
    close_shell(&shell);
    log_keep(NULL);
    logs_destroy(shell.logs);
    return ended ? EXIT_ENDED : EXIT_FAILED;
}
