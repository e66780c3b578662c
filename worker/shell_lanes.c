/* SPDX-License-Identifier: Apache-2.0
 *
 * shell_lanes.c: the sockets of lanes: one listener for all who dial this worker, and a
 * dialer for each worker that it dials. Who may come in, the core knows; here a key that
 * it does not expect ends at the handshake, and what is heard becomes events.
 *
 * The listener is opened when the coordinator is first connected to: only then is it
 * known on which of this machine's addresses others are likely to reach it. If it cannot
 * be opened the log says so, and this worker is just never dialled. Its port is as secret
 * as the coordinator's, not at all: the ticket, and with keys the key, let in. */
#include "common/base/error.h"
#include "common/sys/sys.h"
#include "worker/shell_internal.h"

#include <stdio.h>
#include <string.h>

#define LOOPBACK "tcp://127.0.0.1"
#define REFUSALS_LOGGED_MAX 20 /* a second */

void shell_lanes_keys(struct shell *shell, const struct net_keys *keys)
{
    shell->lanes.keyed = true;
    shell->lanes.keys = *keys;
}

/* ------------------------------------------------------------------ listening */

static bool authorize(void *user, const struct hash *key, struct holder *ret_holder)
{
    const struct shell *shell = user;
    return worker_core_expects(shell->core, key, ret_holder);
}

/* Strangers can dial as often as they like. */
static void refused(void *user, const struct hash *key, const char *reason)
{
    struct shell *shell = user;
    struct lanes *lanes = &shell->lanes;
    char text[KEY_TEXT_SIZE] = "none";
    if (shell->now_ms >= lanes->refusals_ms) {
        lanes->refusals_ms = shell->now_ms + 1000;
        lanes->refusals = 0;
    }
    if (lanes->refusals++ >= REFUSALS_LOGGED_MAX)
        return;
    if (key != NULL)
        key_text(key, text);
    log_event(LOG_WARNING, "key-refused", "key=\"%s\" reason=\"%s\"", text, reason);
}

/* "tcp://10.0.0.7:41003": the port is the listener's, the host where it is reached. */
static void tell_host(const struct shell *shell, const char *listening, char *address,
                      size_t size)
{
    const char *host = net_local_host(shell->net);
    const char *port = strrchr(listening, ':');
    const bool everywhere = strncmp(listening, "tcp://0.0.0.0:", 14) == 0 ||
                            strncmp(listening, "tcp://[::]:", 11) == 0;
    if (everywhere && port != NULL)
        snprintf(address, size, "%s%s", host[0] != '\0' ? host : LOOPBACK, port);
    else
        snprintf(address, size, "%s", listening);
}

static int listen_at(struct shell *shell, const char *address, farpool_error *error)
{
    struct lanes *lanes = &shell->lanes;
    struct net_keys keys = lanes->keys;
    keys.authorize = authorize;
    keys.refused = refused;
    keys.user = shell;
    const struct net_config config = {.address = address,
                                      .keys = lanes->keyed ? &keys : NULL,
                                      .role = 'W',
                                      .queue_bytes_max = SHELL_QUEUE_BYTES_MAX,
                                      .seed = sys_random()};
    const int result = net_listen(&config, &lanes->listener, error);
    explicit_bzero(&keys, sizeof keys);
    return result;
}

static void open_listener(struct shell *shell)
{
    char address[ADDRESS_MAX + 1];
    farpool_error error;
    const char *host = net_local_host(shell->net);
    snprintf(address, sizeof address, "%s:*",
             shell->lanes.keyed && host[0] != '\0' ? host : LOOPBACK);
    const char *wanted = shell->options->lanes;
    if (listen_at(shell, wanted != NULL ? wanted : address, &error) == 0)
        return;
    shell->lanes.failed = true;
    log_event(LOG_WARNING, "lanes", "use=none reason=\"%s\"", error.text);
}

const char *shell_lanes_address(struct shell *shell)
{
    struct lanes *lanes = &shell->lanes;
    const char *wanted = shell->options->lanes;
    if (wanted != NULL && strcmp(wanted, "none") == 0)
        return NULL;
    if (lanes->listener == NULL && !lanes->failed) {
        open_listener(shell);
        if (lanes->listener == NULL)
            return NULL;
    }
    if (lanes->listener == NULL)
        return NULL;
    tell_host(shell, net_address(lanes->listener), lanes->address, sizeof lanes->address);
    log_event(LOG_INFO, "lanes", "address=%s", lanes->address);
    return lanes->address;
}

/* -------------------------------------------------------------------- events */

static void step_up(struct shell *shell, uint64_t lane)
{
    struct worker_event event = {
        .kind = WORKER_LINK_UP, .now_ms = shell->now_ms, .lane = lane};
    shell_step(shell, &event);
}

static void tell_end(uint64_t lane, const char *text)
{
    log_event(LOG_DEBUG, "lane-down", "lane=%llx reason=\"%s\"", (unsigned long long)lane,
              text);
}

static void step_down(struct shell *shell, uint64_t lane, const char *text)
{
    struct worker_event event = {
        .kind = WORKER_LINK_DOWN, .now_ms = shell->now_ms, .lane = lane, .text = text};
    tell_end(lane, text);
    shell_step(shell, &event);
}

static void step_message(struct shell *shell, uint64_t lane, struct net_event *event)
{
    struct worker_event heard = {.kind = WORKER_MESSAGE,
                                 .now_ms = shell->now_ms,
                                 .message = event->message,
                                 .lane = lane,
                                 .key =
                                     event->holder != NULL ? &event->holder->key : NULL};
    shell_trace("received", event->message);
    shell_step(shell, &heard);
    event->message = heard.message;
}

static void on_listener(void *user, struct net_event *event)
{
    struct shell *shell = user;
    if (event->kind == NET_DOWN)
        step_down(shell, event->link, event->text);
    else if (event->kind == NET_MESSAGE)
        step_message(shell, event->link, event);
}

struct dial_events {
    struct shell *shell;
    struct dial *dial;
};

/* A dial is for one connection: what else the net tells is of a second one. */
static void on_dial(void *user, struct net_event *event)
{
    const struct dial_events *events = user;
    struct dial *dial = events->dial;
    if (dial->hanging_up)
        return;
    if (event->kind == NET_UP) {
        dial->link = event->link;
        step_up(events->shell, dial->lane);
    } else if (event->kind == NET_MESSAGE) {
        step_message(events->shell, dial->lane, event);
    } else {
        dial->hanging_up = true;
        step_down(events->shell, dial->lane, event->text);
    }
}

void shell_lanes_poll(struct shell *shell)
{
    struct lanes *lanes = &shell->lanes;
    struct dial *dial;
    if (lanes->listener != NULL)
        net_poll(lanes->listener, shell->now_ms, on_listener, shell);
    SLIST_FOREACH(dial, &lanes->dials, entry)
    {
        struct dial_events events = {shell, dial};
        net_poll(dial->net, shell->now_ms, on_dial, &events);
    }
}

/* ------------------------------------------------------------------- effects */

static struct dial *find_dial(const struct shell *shell, uint64_t lane)
{
    struct dial *dial;
    SLIST_FOREACH(dial, &shell->lanes.dials, entry)
    if (dial->lane == lane)
        return dial;
    return NULL;
}

void shell_lanes_send(struct shell *shell, uint64_t lane, struct message **message)
{
    const struct dial *dial = find_dial(shell, lane);
    if ((*message)->kind == MSG_WELCOME_LANE)
        log_event(LOG_DEBUG, "lane-up", "lane=%llx", (unsigned long long)lane);
    if ((lane & WORKER_LANE_DIALLED) == 0)
        net_send(shell->lanes.listener, lane, message);
    else if (dial != NULL)
        net_send(dial->net, dial->link, message);
}

static int dial_worker(struct shell *shell, const struct worker_effect *effect,
                       struct dial *dial, farpool_error *error)
{
    const struct lanes *lanes = &shell->lanes;
    struct net_keys keys = lanes->keys;
    keys.server = effect->key;
    const struct net_config config = {.address = effect->text,
                                      .keys = lanes->keyed ? &keys : NULL,
                                      .role = 'W',
                                      .peer = 'W',
                                      .beside = shell->net,
                                      .queue_bytes_max = SHELL_QUEUE_BYTES_MAX,
                                      .seed = sys_random()};
    const int result = net_dial(&config, &dial->net, error);
    explicit_bzero(&keys, sizeof keys);
    return result;
}

/* What cannot be dialled is not told: the core waits for it no longer than for others. */
void shell_lanes_dial(struct shell *shell, const struct worker_effect *effect)
{
    farpool_error error = {.text = "out of memory"};
    struct dial *dial = mem_alloc(sizeof *dial);
    if (dial == NULL || dial_worker(shell, effect, dial, &error) != 0) {
        log_event(LOG_WARNING, "lane-undialled", "lane=%llx address=%s reason=\"%s\"",
                  (unsigned long long)effect->lane, effect->text, error.text);
        mem_free(dial);
        return;
    }
    dial->lane = effect->lane;
    SLIST_INSERT_HEAD(&shell->lanes.dials, dial, entry);
    log_event(LOG_DEBUG, "lane-dialled", "lane=%llx address=%s",
              (unsigned long long)effect->lane, effect->text);
}

void shell_lanes_hang_up(struct shell *shell, const struct worker_effect *effect)
{
    struct dial *dial = find_dial(shell, effect->lane);
    tell_end(effect->lane, effect->text);
    if (dial != NULL)
        dial->hanging_up = true;
    else if ((effect->lane & WORKER_LANE_DIALLED) == 0)
        net_drop(shell->lanes.listener, effect->lane, effect->text);
}

/* --------------------------------------------------------------------- sleeping */

/* Those that are over. */
static void close_dials(struct shell *shell, bool all)
{
    struct dial *dial, *next;
    SLIST_FOREACH_SAFE(dial, &shell->lanes.dials, entry, next)
    {
        if (!all && !dial->hanging_up)
            continue;
        SLIST_REMOVE(&shell->lanes.dials, dial, dial, entry);
        net_close(dial->net, 0);
        mem_free(dial);
    }
}

void shell_lanes_flush(struct shell *shell)
{
    struct dial *dial;
    if (shell->lanes.listener != NULL)
        net_flush(shell->lanes.listener);
    SLIST_FOREACH(dial, &shell->lanes.dials, entry)
    net_flush(dial->net);
    close_dials(shell, false);
}

int shell_lanes_wait_begin(struct shell *shell, struct pollfd *fds, int *timeout_ms)
{
    int count = 0;
    struct dial *dial;
    if (shell->lanes.listener != NULL)
        count = net_wait_begin(shell->lanes.listener, fds, timeout_ms);
    SLIST_FOREACH(dial, &shell->lanes.dials, entry)
    {
        dial->fds = &fds[count];
        count += net_wait_begin(dial->net, dial->fds, timeout_ms);
    }
    return count;
}

void shell_lanes_wait_end(struct shell *shell, const struct pollfd *fds)
{
    struct dial *dial;
    if (shell->lanes.listener != NULL)
        net_wait_end(shell->lanes.listener, fds);
    SLIST_FOREACH(dial, &shell->lanes.dials, entry)
    net_wait_end(dial->net, dial->fds);
}

uint64_t shell_lanes_deadline(const struct shell *shell)
{
    const struct lanes *lanes = &shell->lanes;
    uint64_t deadline =
        lanes->listener != NULL ? net_deadline(lanes->listener) : UINT64_MAX;
    const struct dial *dial;
    SLIST_FOREACH(dial, &lanes->dials, entry)
    if (net_deadline(dial->net) < deadline)
        deadline = net_deadline(dial->net);
    return deadline;
}

void shell_lanes_close(struct shell *shell, int linger_ms)
{
    close_dials(shell, true);
    net_close(shell->lanes.listener, linger_ms);
    explicit_bzero(&shell->lanes.keys, sizeof shell->lanes.keys);
}
