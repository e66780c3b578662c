/* SPDX-License-Identifier: Apache-2.0
 *
 * shell_peers.c: who is behind a link, and what is heard from there: messages become
 * events of the core, one step each. Out of memory: the link whose event could not be
 * handled is dropped, since its peer would wait for ever otherwise; when that fails too,
 * the daemon ends, as if it had been killed. */
#include "coordinator/shell_internal.h"

#include <stdio.h>

static void trace(const char *event, uint64_t link, const struct message *message)
{
    char text[2048];
    if (log_level() >= LOG_TRACE)
        log_event(LOG_TRACE, event, "link=%llx %s", (unsigned long long)link,
                  message_print(message, text, sizeof text));
}

/* ----------------------------------------------------------------------- peers */

struct peer *shell_find_peer(const struct shell *shell, uint64_t link)
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

void shell_remove_peer(struct shell *shell, struct peer *peer)
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

void shell_end_peer(struct shell *shell, uint64_t link, const char *text, bool dropped,
                    int code)
{
    struct peer *peer = shell_find_peer(shell, link);
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
    shell_remove_peer(shell, peer);
    if (!dropped)
        step_down(shell, link, text);
}

void shell_close_link(struct shell *shell, uint64_t link, const char *text)
{
    if (relay_is_link(link))
        relay_drop(shell->relay, link);
    else if (!detached_is_link(link))
        net_drop(shell->net, link, text);
    else if (shell->detached != NULL)
        detached_drop(shell->detached, link);
}

void shell_drop_for_memory(struct shell *shell, uint64_t link)
{
    shell_close_link(shell, link, "out of memory");
    shell_end_peer(shell, link, "out of memory", false, FARPOOL_ENOMEM);
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
    shell_drop_for_memory(shell, link);
}

void shell_send(struct shell *shell, uint64_t link, struct message **message)
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
        shell_send(shell, link, &refused);
    }
    shell_close_link(shell, link, "shutting down");
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
    return shell_find_peer(shell, link) == NULL;
}

/* The first word of a peer that is not known yet. */
static void take_hello(struct shell *shell, uint64_t link, const struct holder *holder,
                       struct message **message)
{
    char text[512];
    const enum message_kind kind = (*message)->kind;
    const size_t first = shell->effects.count;
    if (!add_peer(shell, link, holder, *message)) {
        shell_close_link(shell, link, "out of memory");
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

void shell_take_message(struct shell *shell, uint64_t link, const struct holder *holder,
                        struct message **message)
{
    enum message_kind kind = (*message)->kind;
    trace("received", link, *message);
    const bool hello =
        kind == MSG_HELLO_CLIENT || kind == MSG_HELLO_WORKER || kind == MSG_ENROL;
    if (kind == MSG_HELLO_CLIENT && shell->stage == DRAINING)
        refuse_client(shell, link);
    else if (hello && shell_find_peer(shell, link) == NULL)
        take_hello(shell, link, holder, message);
    else if (kind == MSG_RELAY && (holder == NULL || holder->role == HOLDER_WORKER))
        take_relay(shell, link, holder, *message);
    else if (shell_find_peer(shell, link) != NULL)
        step_message(shell, link, holder, message);
}

void shell_on_net(void *user, struct net_event *event)
{
    struct shell *shell = user;
    switch (event->kind) {
    case NET_UP:
        log_event(LOG_DEBUG, "link-up", "link=%llx", (unsigned long long)event->link);
        break;
    case NET_DOWN:
        shell_end_peer(shell, event->link, event->text, false, 0);
        break;
    case NET_REFUSED: /* of dialers */
        break;
    case NET_MESSAGE:
        shell_take_message(shell, event->link, event->holder, &event->message);
        break;
    }
}

void shell_on_relay_message(void *user, uint64_t link, struct message **message)
{
    struct shell *shell = user;
    shell_take_message(shell, link, shell->relaying, message);
}

void shell_on_relay_down(void *user, uint64_t link, const char *text)
{
    shell_end_peer(user, link, text, false, 0);
}

void shell_on_relay_send(void *user, uint64_t link, struct message **message)
{
    struct shell *shell = user;
    net_send(shell->net, link, message);
}
