/* SPDX-License-Identifier: Apache-2.0
 *
 * shell.c: the coordinator's loop: wait, turn what happened into events, one step each,
 * then FLUSH, then carry out the effects. It decides only what the core cannot know: how
 * signals end it, and what is logged.
 *
 * Told to stop, it refuses new clients (the core does not hear of them) and ends when it
 * has none left; told again, it ends at once. What it knows is soft state, so it has
 * nothing to save. Out of memory: the link whose event could not be handled is dropped,
 * since its peer would wait for ever otherwise; when that fails too, the daemon ends, as
 * if it had been killed. */
#include "coordinator/shell.h"
#include "common/base/mem.h"
#include "common/net/net.h"
#include "common/sys/notify.h"
#include "common/sys/sys.h"
#include "coordinator/gate.h"
#include "coordinator/relay.h"
#include "detached/detached.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define HASH_NONFATAL_OOM 1
#define uthash_malloc(size) mem_alloc(size)
#define uthash_free(memory, size) mem_free(memory)
#define uthash_nonfatal_oom(element) ((void)(element))
#include <uthash.h>

#define FILES_BESIDES_PEERS 64
#define QUEUE_BYTES_MAX (UINT64_C(4) << 30)
#define LINGER_MS 500

enum stage { SERVING, DRAINING, ENDED, FAILED };

/* Whom a link is of, for the log; and that the core knows it. */
struct peer {
    uint64_t link;
    enum message_kind hello; /* HELLO_CLIENT, HELLO_WORKER or ENROL */
    char name[160];
    struct holder holder; /* with keys */
    UT_hash_handle hh;
};

struct shell {
    const struct coordinator_options *options;
    struct coordinator_core *core;
    struct coordinator_effects effects;
    struct logs *logs; /* this daemon's last lines */
    struct net *net;
    struct gate *gate; /* NULL: no keys */
    struct relay *relay;
    struct detached *detached;     /* NULL: no state folder, or shutting down */
    const struct holder *relaying; /* whose RELAY is being read */
    struct peer *peers;
    struct notify notify;
    int signals; /* signalfd */
    enum stage stage;
    uint64_t now_ms;
};

static void trace(const char *event, uint64_t link, const struct message *message)
{
    char text[2048];
    if (log_level() >= LOG_TRACE)
        log_event(LOG_TRACE, event, "link=%llx %s", (unsigned long long)link,
                  message_print(message, text, sizeof text));
}

/* ----------------------------------------------------------------------- peers */

static struct peer *find_peer(const struct shell *shell, uint64_t link)
{
    struct peer *peer;
    HASH_FIND(hh, shell->peers, &link, sizeof link, peer);
    return peer;
}

static bool add_peer(struct shell *shell, uint64_t link, const struct holder *holder,
                     const struct message *hello)
{
    struct peer *peer = mem_alloc(sizeof *peer);
    if (peer == NULL)
        return false;
    peer->link = link;
    if (holder != NULL)
        peer->holder = *holder;
    peer->hello = hello->kind;
    if (peer->hello == MSG_HELLO_WORKER)
        snprintf(peer->name, sizeof peer->name, "node=%s", hello->hello_worker.node);
    else if (peer->hello == MSG_ENROL)
        snprintf(peer->name, sizeof peer->name, "node=%s token=%s", hello->enrol.node,
                 peer->holder.name);
    else
        snprintf(peer->name, sizeof peer->name, "host=%s pid=%u",
                 hello->hello_client.host, hello->hello_client.pid);
    HASH_ADD(hh, shell->peers, link, sizeof peer->link, peer);
    if (peer->hh.tbl == NULL) {
        mem_free(peer);
        return false;
    }
    return true;
}

static void remove_peer(struct shell *shell, struct peer *peer)
{
    HASH_DELETE(hh, shell->peers, peer);
    mem_free(peer);
}

/* ---------------------------------------------------------------------- events */

static void step_down(struct shell *shell, uint64_t link, const char *text)
{
    struct coordinator_event event = {.kind = COORDINATOR_LINK_DOWN,
                                      .now_ms = shell->now_ms,
                                      .link = link,
                                      .text = text};
    if (coordinator_core_step(shell->core, &event, &shell->effects) == 0)
        return;
    log_event(LOG_ERROR, "out-of-memory", "while=\"a peer goes\"");
    shell->stage = FAILED;
}

static const char *peer_event(enum message_kind hello, bool up)
{
    if (hello == MSG_ENROL)
        return up ? "enrol-begin" : "enrol-end";
    if (hello == MSG_HELLO_WORKER)
        return up ? "worker-up" : "worker-down";
    return up ? "client-up" : "client-down";
}

/* A peer is over: of the core's own wish (`dropped`, for what code), or because its link
 * went. One that ended before the core's wish is carried out is not told of again. */
static void end_peer(struct shell *shell, uint64_t link, const char *text, bool dropped,
                     int code)
{
    struct peer *peer = find_peer(shell, link);
    if (peer == NULL && dropped)
        return;
    if (peer == NULL) {
        log_event(LOG_WARNING, "peer-rejected", "link=%llx reason=\"%s\"",
                  (unsigned long long)link, text);
        return;
    }
    log_event(code != 0 ? LOG_WARNING : LOG_INFO, peer_event(peer->hello, false),
              "%s link=%llx reason=\"%s\"", peer->name, (unsigned long long)link, text);
    if (peer->hello == MSG_HELLO_WORKER)
        relay_worker_down(shell->relay, link, text);
    remove_peer(shell, peer);
    if (!dropped)
        step_down(shell, link, text);
}

static void close_link(struct shell *shell, uint64_t link, const char *text)
{
    if (relay_is_link(link))
        relay_drop(shell->relay, link);
    else if (!detached_is_link(link))
        net_drop(shell->net, link, text);
    else if (shell->detached != NULL)
        detached_drop(shell->detached, link);
}

static void step_message(struct shell *shell, uint64_t link, const struct holder *holder,
                         struct message **message)
{
    struct coordinator_event event = {.kind = COORDINATOR_MESSAGE,
                                      .now_ms = shell->now_ms,
                                      .link = link,
                                      .message = *message,
                                      .holder = holder};
    int result = coordinator_core_step(shell->core, &event, &shell->effects);
    *message = event.message;
    if (result == 0)
        return;
    log_event(LOG_ERROR, "out-of-memory", "while=%s link=%llx",
              *message == NULL ? "a message" : message_name((*message)->kind),
              (unsigned long long)link);
    close_link(shell, link, "out of memory");
    end_peer(shell, link, "out of memory", false, FARPOOL_ENOMEM);
}

static void send_to(struct shell *shell, uint64_t link, struct message **message)
{
    trace("sent", link, *message);
    if (relay_is_link(link))
        relay_send(shell->relay, link, message);
    else if (!detached_is_link(link))
        net_send(shell->net, link, message); /* a link that went tells so itself */
    else if (shell->detached != NULL)
        detached_send(shell->detached, link, message);
}

static void refuse_client(struct shell *shell, uint64_t link)
{
    struct message *refused = message_create(MSG_REFUSED);
    log_event(LOG_INFO, "client-refused", "link=%llx reason=\"shutting down\"",
              (unsigned long long)link);
    if (refused != NULL) {
        refused->refused.code = FARPOOL_ENOCOORDINATOR;
        snprintf(refused->refused.text, sizeof refused->refused.text,
                 "the coordinator is shutting down");
        send_to(shell, link, &refused);
    }
    close_link(shell, link, "shutting down");
}

/* For the log, if it is let in: the message is gone by then. */
static void describe_hello(const struct message *hello, const struct holder *holder,
                           char *text, size_t size)
{
    const char *key = holder != NULL ? holder->name : "";
    if (hello->kind == MSG_HELLO_WORKER)
        snprintf(text, size, "node=%s slots=%u machine=%s version=%s key=%s",
                 hello->hello_worker.node, hello->hello_worker.slots,
                 hello->hello_worker.machine, hello->hello_worker.version, key);
    else if (hello->kind == MSG_ENROL)
        snprintf(text, size, "node=%s version=%s token=%s", hello->enrol.node,
                 hello->enrol.version, key);
    else
        snprintf(text, size, "host=%s pid=%u version=%s key=%s", hello->hello_client.host,
                 hello->hello_client.pid, hello->hello_client.version, key);
}

static bool is_dropped(const struct shell *shell, size_t first, uint64_t link)
{
    for (size_t i = first; i < shell->effects.count; i++)
        if (shell->effects.items[i].kind == COORDINATOR_DROP &&
            shell->effects.items[i].link == link)
            return true;
    return find_peer(shell, link) == NULL;
}

/* The first word of a peer that is not known yet. */
static void take_hello(struct shell *shell, uint64_t link, const struct holder *holder,
                       struct message **message)
{
    char text[512];
    const enum message_kind kind = (*message)->kind;
    const size_t first = shell->effects.count;
    if (!add_peer(shell, link, holder, *message)) {
        close_link(shell, link, "out of memory");
        return;
    }
    describe_hello(*message, holder, text, sizeof text);
    step_message(shell, link, holder, message);
    if (!is_dropped(shell, first, link))
        log_event(LOG_INFO, peer_event(kind, true), "%s link=%llx", text,
                  (unsigned long long)link);
}

static void take_relay(struct shell *shell, uint64_t link, const struct holder *holder,
                       const struct message *message)
{
    struct holder inside;
    if (holder != NULL) {
        inside = *holder;
        inside.role = HOLDER_RELAYED;
        shell->relaying = &inside;
    }
    relay_receive(shell->relay, link, message);
    shell->relaying = NULL;
}

/* A message of a peer, relayed or not. */
static void take_message(struct shell *shell, uint64_t link, const struct holder *holder,
                         struct message **message)
{
    enum message_kind kind = (*message)->kind;
    trace("received", link, *message);
    const bool hello =
        kind == MSG_HELLO_CLIENT || kind == MSG_HELLO_WORKER || kind == MSG_ENROL;
    if (kind == MSG_HELLO_CLIENT && shell->stage == DRAINING)
        refuse_client(shell, link);
    else if (hello && find_peer(shell, link) == NULL)
        take_hello(shell, link, holder, message);
    else if (kind == MSG_RELAY && (holder == NULL || holder->role == HOLDER_WORKER))
        take_relay(shell, link, holder, *message);
    else if (find_peer(shell, link) != NULL)
        step_message(shell, link, holder, message);
}

static void on_net(void *user, struct net_event *event)
{
    struct shell *shell = user;
    switch (event->kind) {
    case NET_UP:
        log_event(LOG_DEBUG, "link-up", "link=%llx", (unsigned long long)event->link);
        break;
    case NET_DOWN:
        end_peer(shell, event->link, event->text, false, 0);
        break;
    case NET_REFUSED: /* of dialers */
        break;
    case NET_MESSAGE:
        take_message(shell, event->link, event->holder, &event->message);
        break;
    }
}

static void on_relay_message(void *user, uint64_t link, struct message **message)
{
    struct shell *shell = user;
    take_message(shell, link, shell->relaying, message);
}

static void on_relay_down(void *user, uint64_t link, const char *text)
{
    end_peer(user, link, text, false, 0);
}

static void on_relay_send(void *user, uint64_t link, struct message **message)
{
    struct shell *shell = user;
    net_send(shell->net, link, message);
}

/* --------------------------------------------------------------------- effects */

static void drop_peer(struct shell *shell, const struct coordinator_effect *effect)
{
    log_event(LOG_DEBUG, "drop", "link=%llx code=%s", (unsigned long long)effect->link,
              farpool_error_name(effect->code));
    const struct peer *peer = find_peer(shell, effect->link);
    if (effect->code == FARPOOL_EKEY && peer != NULL)
        gate_log_refused(&peer->holder, effect->text);
    end_peer(shell, effect->link, effect->text, true, effect->code);
    close_link(shell, effect->link, effect->text);
}

/* For the keeper of keys. Who asked may be gone by now. */
static void ask_gate(struct shell *shell, const struct coordinator_effect *effect)
{
    const struct peer *peer = find_peer(shell, effect->link);
    if (peer == NULL || gate_ask(shell->gate, effect->link, &peer->holder,
                                 effect->message, shell->now_ms) == 0)
        return;
    close_link(shell, effect->link, "out of memory");
    end_peer(shell, effect->link, "out of memory", false, FARPOOL_ENOMEM);
}

/* For the keeper of detached jobs. */
static void ask_detached(struct shell *shell, struct coordinator_effect *effect)
{
    const struct peer *peer = find_peer(shell, effect->link);
    const bool none = shell->options->state == NULL;
    if (peer == NULL)
        return;
    if (shell->detached == NULL) {
        struct message *refusal = detached_refuse(
            effect->message, none ? FARPOOL_ENOSTATE : FARPOOL_ENOCOORDINATOR,
            none
                ? "the coordinator keeps no detached jobs: it runs without --state FOLDER"
                : "the coordinator is shutting down");
        if (refusal != NULL)
            send_to(shell, effect->link, &refusal);
        message_free(&refusal);
    } else if (!detached_ask(shell->detached, effect->link, &peer->holder,
                             &effect->message)) {
        const char *text = "too much waits for the disk of detached jobs";
        close_link(shell, effect->link, text);
        end_peer(shell, effect->link, text, false, FARPOOL_EFULL);
    }
}

static void on_detached_answer(void *user, uint64_t link, struct message **message)
{
    struct shell *shell = user;
    if (find_peer(shell, link) != NULL)
        send_to(shell, link, message);
}

static void on_detached_say(void *user, uint64_t link, const struct holder *holder,
                            struct message **message)
{
    take_message(user, link, holder, message);
}

static void on_detached_hang_up(void *user, uint64_t link)
{
    if (find_peer(user, link) != NULL)
        end_peer(user, link, "a detached job's client has gone", false, 0);
}

static void serve_detached(struct shell *shell)
{
    const struct detached_calls calls = {on_detached_answer, on_detached_say,
                                         on_detached_hang_up, shell};
    if (shell->detached != NULL)
        detached_serve(shell->detached, &calls);
}

/* What is unfinished goes on at the next start. */
static void stop_detached(struct shell *shell)
{
    struct peer *peer, *next;
    detached_close(shell->detached);
    shell->detached = NULL;
    HASH_ITER (hh, shell->peers, peer, next)
        if (detached_is_link(peer->link))
            end_peer(shell, peer->link, "shutting down", false, 0);
}

static void on_keys_done(void *user, uint64_t link, const struct coordinator_keys *keys)
{
    struct shell *shell = user;
    struct coordinator_event event = {.kind = COORDINATOR_KEYS_DONE,
                                      .now_ms = shell->now_ms,
                                      .link = link,
                                      .keys = keys};
    if (coordinator_core_step(shell->core, &event, &shell->effects) == 0)
        return;
    close_link(shell, link, "out of memory");
    end_peer(shell, link, "out of memory", false, FARPOOL_ENOMEM);
}

/* By place, since carrying one out may add others (a relayed client that ends). */
static void carry_out(struct shell *shell)
{
    for (size_t i = 0; i < shell->effects.count; i++) {
        struct coordinator_effect effect = shell->effects.items[i];
        shell->effects.items[i].message = NULL;
        if (effect.kind == COORDINATOR_SEND)
            send_to(shell, effect.link, &effect.message);
        else if (effect.kind == COORDINATOR_KEYS)
            ask_gate(shell, &effect);
        else if (effect.kind == COORDINATOR_DETACHED)
            ask_detached(shell, &effect);
        else
            drop_peer(shell, &effect);
        message_free(&effect.message);
    }
    coordinator_effects_clear(&shell->effects);
}

static void flush(struct shell *shell)
{
    struct coordinator_event event = {.kind = COORDINATOR_FLUSH, .now_ms = shell->now_ms};
    if (coordinator_core_step(shell->core, &event, &shell->effects) != 0)
        log_event(LOG_WARNING, "out-of-memory", "while=\"handing out tasks\"");
    carry_out(shell);
    net_flush(shell->net);
}

/* --------------------------------------------------------------------- signals */

static void take_signals(struct shell *shell)
{
    struct signalfd_siginfo info;
    while (read(shell->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        log_event(LOG_INFO, "signal", "name=%s",
                  info.ssi_signo == SIGINT ? "INT" : "TERM");
        if (shell->stage == SERVING) {
            shell->stage = DRAINING;
            stop_detached(shell);
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

static long wait_ms(const struct shell *shell)
{
    uint64_t deadline = coordinator_core_deadline(shell->core);
    if (net_deadline(shell->net) < deadline)
        deadline = net_deadline(shell->net);
    if (notify_deadline(&shell->notify) < deadline)
        deadline = notify_deadline(&shell->notify);
    if (gate_deadline(shell->gate) < deadline)
        deadline = gate_deadline(shell->gate);
    if (deadline == UINT64_MAX)
        return -1;
    uint64_t now = sys_now_ms();
    if (deadline <= now)
        return 0;
    return deadline - now < INT_MAX ? (long)(deadline - now) : INT_MAX;
}

static void wait_for_events(struct shell *shell)
{
    zmq_pollitem_t items[NET_POLL_ITEMS + 2];
    int count = net_poll_items(shell->net, items);
    items[count++] = (zmq_pollitem_t){.fd = shell->signals, .events = ZMQ_POLLIN};
    if (shell->detached != NULL)
        items[count++] =
            (zmq_pollitem_t){.fd = detached_fd(shell->detached), .events = ZMQ_POLLIN};
    if (zmq_poll(items, count, wait_ms(shell)) < 0 && errno != EINTR) {
        log_event(LOG_ERROR, "poll", "reason=\"%s\"", zmq_strerror(errno));
        shell->stage = FAILED;
    }
}

static void loop(struct shell *shell)
{
    struct coordinator_counts counts;
    while (shell->stage == SERVING || shell->stage == DRAINING) {
        wait_for_events(shell);
        shell->now_ms = sys_now_ms();
        take_signals(shell);
        if (gate_look(shell->gate, shell->now_ms))
            net_recheck(shell->net);
        net_poll(shell->net, shell->now_ms, on_net, shell);
        serve_detached(shell);
        flush(shell);
        if (gate_serve(shell->gate, shell->now_ms, on_keys_done, shell))
            flush(shell);
        coordinator_core_counts(shell->core, &counts);
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
    config.logs = shell->logs;
    if (shell->logs == NULL ||
        coordinator_core_create(&config, shell->now_ms, &shell->core) != 0)
        return fail("start", "out of memory");
    struct relay_config relay = {config.clients_max, on_relay_message, on_relay_down,
                                 on_relay_send, shell};
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
        remove_peer(shell, peer);
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
