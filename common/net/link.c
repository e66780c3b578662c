/* SPDX-License-Identifier: Apache-2.0
 *
 * link.c: the life of a link, from its first message (listener) or finished handshake
 * (dialer) to its NET_DOWN; the states are drawn in net_internal.h. A link's end is only
 * noted when it happens, and told at the end of net_poll, after every message that came
 * before it: so a caller may break or drop links from inside `deliver`.
 *
 * ZeroMQ has no call to close one connection of a ROUTER; its socket is shut down under
 * it instead, after making sure that the descriptor is still that socket. */
#include "common/net/net_internal.h"

#include <assert.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

void net_deliver_event(struct delivery *delivery, struct net_event *event)
{
    delivery->count++;
    delivery->deliver(delivery->user, event);
    message_free(&event->message);
}

int net_link_create(struct net *net, const uint8_t *routing_id, struct link **ret_link)
{
    struct link *link = mem_alloc(sizeof *link);
    if (link == NULL)
        return FARPOOL_ENOMEM;
    link->number = net->last_link + 1;
    link->fd = -1;
    net_queue_init(&link->queue);
    HASH_ADD(hh, net->by_number, number, sizeof link->number, link);
    if (link->hh.tbl == NULL) {
        mem_free(link);
        return FARPOOL_ENOMEM;
    }
    if (routing_id != NULL) {
        memcpy(link->routing_id, routing_id, ROUTING_ID_SIZE);
        HASH_ADD(hh_id, net->by_id, routing_id, ROUTING_ID_SIZE, link);
        if (link->hh_id.tbl == NULL) {
            HASH_DELETE(hh, net->by_number, link);
            mem_free(link);
            return FARPOOL_ENOMEM;
        }
    }
    net->last_link++;
    *ret_link = link;
    return 0;
}

static void drop_outgoing(struct net *net, struct link *link)
{
    if (link->dirty)
        TAILQ_REMOVE(&net->dirty, link, dirty_entry);
    link->dirty = false;
    net_queue_fini(&link->queue);
    net_envelope_clear(&link->envelope);
}

static void drop_all(struct net *net, struct link *link)
{
    drop_outgoing(net, link);
    net_envelope_fini(&link->envelope);
    net_assembly_fini(&link->assembly);
}

static void unlist(struct net *net, struct link *link)
{
    if (!link->listed)
        return;
    bool closing = net->listener && link->state == LINK_CLOSING;
    TAILQ_REMOVE(closing ? &net->closing : &net->ending, link, entry);
    link->listed = false;
}

/* The one place where a link changes its state, and so its list. */
static void set_state(struct net *net, struct link *link, enum link_state state)
{
    static const bool allowed[6][6] = {
        [LINK_UP] = {[LINK_CLOSING] = true, [LINK_BROKEN] = true, [LINK_LOST] = true},
        [LINK_CLOSING] = {[LINK_CUT] = true, [LINK_GONE] = true},
        [LINK_BROKEN] = {[LINK_CUT] = true, [LINK_GONE] = true},
        [LINK_LOST] = {[LINK_BROKEN] = true, [LINK_GONE] = true},
        [LINK_CUT] = {[LINK_GONE] = true},
    };
    assert(allowed[link->state][state]);
    unlist(net, link);
    link->state = state;
    if (state == LINK_CUT)
        return;
    struct link_list *list =
        net->listener && state == LINK_CLOSING ? &net->closing : &net->ending;
    TAILQ_INSERT_TAIL(list, link, entry);
    link->listed = true;
}

void net_link_free(struct net *net, struct link *link)
{
    unlist(net, link);
    drop_all(net, link);
    HASH_DELETE(hh, net->by_number, link);
    if (net->listener)
        HASH_DELETE(hh_id, net->by_id, link);
    if (link->fd >= 0 && (size_t)link->fd < net->fds_capacity &&
        net->fds[link->fd].link == link)
        net->fds[link->fd].link = NULL;
    if (net->dialled == link)
        net->dialled = NULL;
    mem_free(link);
}

struct link *net_link_find(const struct net *net, uint64_t number)
{
    struct link *link;
    HASH_FIND(hh, net->by_number, &number, sizeof number, link);
    return link;
}

struct link *net_link_find_id(const struct net *net, const uint8_t *routing_id)
{
    struct link *link;
    HASH_FIND(hh_id, net->by_id, routing_id, ROUTING_ID_SIZE, link);
    return link;
}

void net_link_mark_dirty(struct net *net, struct link *link)
{
    if (link->dirty)
        return;
    TAILQ_INSERT_TAIL(&net->dirty, link, dirty_entry);
    link->dirty = true;
}

void net_link_cut(struct link *link)
{
    if (link->fd < 0 || link->cookie == 0)
        return;
    int fd = fcntl(link->fd, F_DUPFD_CLOEXEC, 3);
    if (fd < 0)
        return;
    uint64_t cookie = 0;
    socklen_t size = sizeof cookie;
    if (getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &size) == 0 &&
        cookie == link->cookie)
        shutdown(fd, SHUT_RDWR);
    close(fd);
}

void net_link_break(struct net *net, struct link *link, const char *format, ...)
{
    if (link->state != LINK_UP && link->state != LINK_LOST)
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(link->text, sizeof link->text, format, arguments);
    va_end(arguments);
    drop_all(net, link);
    net_link_cut(link);
    set_state(net, link, LINK_BROKEN);
}

void net_link_lost(struct net *net, struct link *link, const char *text)
{
    switch (link->state) {
    case LINK_UP:
        snprintf(link->text, sizeof link->text, "%s", text);
        set_state(net, link, LINK_LOST);
        break;
    case LINK_CLOSING:
    case LINK_CUT:
        set_state(net, link, LINK_GONE);
        break;
    case LINK_BROKEN:
    case LINK_LOST:
    case LINK_GONE:
        break;
    }
    drop_outgoing(net, link);
}

void net_link_close(struct net *net, struct link *link)
{
    switch (link->state) {
    case LINK_UP:
        link->close_by_ms = net->now_ms + CLOSING_MS;
        net_assembly_fini(&link->assembly);
        set_state(net, link, LINK_CLOSING);
        break;
    case LINK_BROKEN:
        set_state(net, link, link->fd >= 0 ? LINK_CUT : LINK_GONE);
        break;
    case LINK_LOST:
        set_state(net, link, LINK_GONE);
        break;
    case LINK_CLOSING:
    case LINK_CUT:
    case LINK_GONE:
        break;
    }
}

static void tell_down(struct link *link, struct delivery *delivery)
{
    struct net_event event = {.kind = NET_DOWN, .link = link->number, .text = link->text};
    net_deliver_event(delivery, &event);
}

/* Ends one link of net->ending. The state is changed before the user is told, who may
 * call net_drop for this very link. */
static void finish(struct net *net, struct link *link, struct delivery *delivery)
{
    bool owes_down = link->state == LINK_BROKEN || link->state == LINK_LOST;
    if (owes_down)
        net_link_close(net, link);
    if (owes_down)
        tell_down(link, delivery);
    if (link->state != LINK_CUT)
        net_link_free(net, link);
}

/* The first link whose end can be told: when the connection is gone, all that came before
 * must have been read. */
static struct link *find_finishable(const struct net *net, bool drained)
{
    struct link *link = TAILQ_FIRST(&net->ending);
    for (; link != NULL; link = TAILQ_NEXT(link, entry)) {
        if (drained || link->state == LINK_CLOSING ||
            (link->state == LINK_BROKEN && link->fd >= 0))
            return link;
    }
    return NULL;
}

void net_links_finish(struct net *net, bool drained, struct delivery *delivery)
{
    struct link *link;
    while ((link = find_finishable(net, drained)) != NULL)
        finish(net, link, delivery);
    while ((link = TAILQ_FIRST(&net->closing)) != NULL &&
           link->close_by_ms <= net->now_ms) {
        net_link_cut(link);
        set_state(net, link, LINK_CUT);
        drop_all(net, link);
    }
}
