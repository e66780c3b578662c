/* SPDX-License-Identifier: Apache-2.0
 *
 * net.c: the calls of net.h. An endpoint is a context of its own with one data socket
 * and its monitor; a dialer makes both anew for each connection. What is sent is encoded
 * at once and waits in the link's queue (queue.c) for net_flush; what ends is told by
 * the next net_poll (link.c). No clock: the time is the one of the last net_poll. */
#include "common/base/error.h"
#include "common/net/net_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* Whose pair of keys a dialer uses that has only been told the server's; NULL: none. */
static const struct net *lender(const struct net_config *config)
{
    const struct net *beside = config->server != NULL ? config->beside : NULL;
    return beside != NULL && beside->keyed ? beside : NULL;
}

static struct net *create(const struct net_config *config, bool listener)
{
    struct net *net = mem_alloc(sizeof *net);
    if (net == NULL)
        return NULL;
    net->listener = listener;
    net->role = config->role;
    net->peer = config->peer != 0 ? config->peer : 'K';
    net->borrowed = config->beside != NULL;
    if (net->borrowed)
        net->context = config->beside->context;
    snprintf(net->address, sizeof net->address, "%s", config->address);
    net_address_target(config->address, net->target, sizeof net->target);
    net->queue_bytes_max = config->queue_bytes_max;
    net->seed = config->seed;
    net->look_at_ms = UINT64_MAX;
    net->keyed = config->keys != NULL;
    if (net->keyed)
        net->keys = *config->keys;
    const struct net *keys_of = lender(config);
    if (keys_of != NULL) {
        net->keyed = true;
        net->keys = keys_of->keys;
        net->keys.server = *config->server;
    }
    net->redial_first_ms = config->redial_first_ms > 0 ? config->redial_first_ms : 50;
    net->redial_max_ms = config->redial_max_ms > 0 ? config->redial_max_ms : 5000;
    TAILQ_INIT(&net->ending);
    TAILQ_INIT(&net->closing);
    TAILQ_INIT(&net->dirty);
    return net;
}

static uint64_t clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

int net_listen(const struct net_config *config, struct net **ret_net,
               farpool_error *error)
{
    int result = net_check_address(config->address, true, config->keys != NULL, error);
    if (result != 0)
        return result;
    struct net *net = create(config, true);
    if (net == NULL)
        return error_set(error, FARPOOL_ENOMEM, "out of memory");
    result = net_socket_open_context(net, error);
    if (result == 0)
        result = net_zap_open(net, error);
    if (result == 0)
        result = net_socket_listen(net, error);
    if (result == 0)
        result = net_zap_self_test(net, error);
    if (result != 0) {
        net_close(net, 0);
        return result;
    }
    net->now_ms = clock_ms();
    *ret_net = net;
    return 0;
}

static void begin_dial(struct net *net)
{
    net->dial = DIAL_CONNECTING;
    net->dial_ended = false;
    net->redial_at_ms = net->now_ms + DIAL_TIMEOUT_MS;
}

int net_dial(const struct net_config *config, struct net **ret_net, farpool_error *error)
{
    const bool keyed = config->keys != NULL || lender(config) != NULL;
    int result = net_check_address(config->address, false, keyed, error);
    if (result != 0)
        return result;
    struct net *net = create(config, false);
    if (net == NULL)
        return error_set(error, FARPOOL_ENOMEM, "out of memory");
    result = net_socket_open_context(net, error);
    if (result == 0)
        result = net_socket_dial(net, error);
    if (result != 0) {
        net_close(net, 0);
        return result;
    }
    net->now_ms = clock_ms();
    begin_dial(net);
    *ret_net = net;
    return 0;
}

const char *net_address(const struct net *net)
{
    return net->address;
}

const char *net_local_host(const struct net *net)
{
    return net->local_host;
}

/* --------------------------------------------------------------------- sending */

int net_send(struct net *net, uint64_t number, struct message **message)
{
    struct link *link = net_link_find(net, number);
    struct frames frames = {0};
    int result = FARPOOL_ECLOSED;
    if (link != NULL && link->state == LINK_UP) {
        if (link->queue.bytes > net->queue_bytes_max)
            result = FARPOOL_EFULL;
        else
            result = message_encode(*message, &frames);
        if (result == 0)
            result = net_queue_add(&link->queue, (*message)->kind, &frames);
        /* A link that lost one message must not go on: its peer would wait for ever. */
        if (result == FARPOOL_EFULL)
            net_link_break(net, link, "more than %llu bytes wait to go out",
                           (unsigned long long)net->queue_bytes_max);
        else if (result != 0)
            net_link_break(net, link, "cannot send %s: %s",
                           message_name((*message)->kind), farpool_error_text(result));
        else
            net_link_mark_dirty(net, link);
    }
    frames_fini(&frames);
    message_free(message);
    return result;
}

/* true: its queue has gone out, or is of no use any more. */
static bool flush_link(struct net *net, struct link *link)
{
    while (link->envelope.messages > 0 || !net_queue_empty(&link->queue)) {
        if (link->envelope.messages == 0 &&
            net_queue_fill(&link->queue, &link->envelope) != 0)
            return false;
        int result = net_socket_send(net, link);
        if (result == FARPOOL_END || result == FARPOOL_ENOMEM)
            return false;
        if (result != 0) {
            net_link_lost(net, link, "connection closed");
            return true;
        }
        net_envelope_clear(&link->envelope);
        net->blocked_ms = 0;
    }
    return true;
}

void net_flush(struct net *net)
{
    struct link *link, *next;
    if (net->socket == NULL)
        return;
    net->blocked = false;
    for (link = TAILQ_FIRST(&net->dirty); link != NULL; link = next) {
        next = TAILQ_NEXT(link, dirty_entry);
        if (!flush_link(net, link)) {
            net->blocked = true;
        } else if (link->dirty) {
            TAILQ_REMOVE(&net->dirty, link, dirty_entry);
            link->dirty = false;
        }
    }
    if (!net->blocked)
        return;
    net->blocked_ms = net->blocked_ms == 0 ? 1 : 2 * net->blocked_ms;
    if (net->blocked_ms > BLOCKED_MS_MAX)
        net->blocked_ms = BLOCKED_MS_MAX;
    net->retry_at_ms = net->now_ms + net->blocked_ms;
}

void net_drop(struct net *net, uint64_t number, const char *text)
{
    (void)text; /* nobody is told: the caller knows why */
    struct link *link = net_link_find(net, number);
    if (link == NULL)
        return;
    net_link_close(net, link);
    net_flush(net);
}

void net_recheck(struct net *net)
{
    struct link *link, *next;
    struct holder holder;
    HASH_ITER (hh, net->by_number, link, next) {
        if (net->keyed && net->listener &&
            (!net->keys.authorize(net->keys.user, &link->holder.key, &holder) ||
             !holder_equal(&holder, &link->holder)))
            net_link_break(net, link, "its key was revoked");
    }
}

/* --------------------------------------------------------------------- redialling */

/* Grows with each dial that brought no message, from half of it to all of it by chance,
 * so that the workers of a cluster do not come all at once. */
static uint64_t redial_pause(struct net *net)
{
    uint64_t pause = net->redial_first_ms;
    for (uint32_t i = 0; i < net->redials && pause < net->redial_max_ms; i++)
        pause *= 2;
    if (pause > net->redial_max_ms)
        pause = net->redial_max_ms;
    net->redials++;
    return pause / 2 + rng_below(&net->seed, pause / 2 + 1);
}

static void end_dial(struct net *net, int linger_ms)
{
    net_socket_close(net, linger_ms);
    net->dial = DIAL_WAITING;
    net->redial_at_ms = net->now_ms + redial_pause(net);
}

static void continue_dial(struct net *net)
{
    bool late = net->now_ms >= net->redial_at_ms;
    switch (net->dial) {
    case DIAL_CONNECTING:
        if (net->dial_ended || late)
            end_dial(net, 0);
        break;
    case DIAL_UP:
        if (net->dialled == NULL)
            end_dial(net, CLOSING_MS);
        break;
    case DIAL_WAITING:
        if (!late)
            break;
        if (net_socket_dial(net, NULL) == 0)
            begin_dial(net);
        else
            end_dial(net, 0);
        break;
    }
}

/* --------------------------------------------------------------------- polling */

int net_poll(struct net *net, uint64_t now_ms,
             void (*deliver)(void *user, struct net_event *event), void *user)
{
    struct delivery delivery = {deliver, user, 0};
    net->now_ms = now_ms;
    if (!TAILQ_EMPTY(&net->dirty))
        net_flush(net);
    if (net->zap_unread)
        net_zap_serve(net);
    if (net->monitor_unread)
        net_monitor_drain(net);
    if (!net->listener)
        net_link_announce(net, &delivery);
    /* What is told of an end, or of silence, is told behind what came before it. */
    net->unread |= !TAILQ_EMPTY(&net->ending) || now_ms >= net->look_at_ms;
    if (net->unread)
        net->unread = !net_receive_batch(net, &delivery);
    const bool drained = !net->unread;
    net_monitor_look(net, drained);
    net_links_finish(net, drained, &delivery);
    if (!net->listener)
        continue_dial(net);
    return delivery.count;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t net_deadline(const struct net *net)
{
    uint64_t deadline = UINT64_MAX;
    if (!TAILQ_EMPTY(&net->ending))
        return 0;
    if (!TAILQ_EMPTY(&net->closing))
        deadline = TAILQ_FIRST(&net->closing)->close_by_ms;
    if (net->listener && net->blocked)
        deadline = earlier(deadline, net->retry_at_ms);
    if (net->listener)
        deadline = earlier(deadline, net->look_at_ms);
    if (!net->listener && net->dial != DIAL_UP)
        deadline = earlier(deadline, net->redial_at_ms);
    return deadline;
}

/* --------------------------------------------------------------------- closing */

static void ignore_event(void *user, struct net_event *event)
{
    (void)user;
    (void)event;
}

/* Sends what is queued until the time is over, reading on so that no peer is stuck. */
static void drain(struct net *net, int linger_ms)
{
    uint64_t now = clock_ms(), until = now + (uint64_t)linger_ms;
    net_flush(net);
    while (!TAILQ_EMPTY(&net->dirty) && net->socket != NULL && now < until) {
        struct pollfd fds[NET_WAIT_FDS];
        int wait_ms = (int)(until - now < BLOCKED_MS_MAX ? until - now : BLOCKED_MS_MAX);
        int count = net_wait_begin(net, fds, &wait_ms);
        poll(fds, (nfds_t)count, wait_ms);
        net_wait_end(net, fds);
        now = clock_ms();
        net_poll(net, now, ignore_event, NULL);
        net_flush(net);
    }
}

static void end_context(void *context)
{
    while (zmq_ctx_term(context) != 0 && errno == EINTR)
        ;
}

void net_close(struct net *net, int linger_ms)
{
    if (net == NULL)
        return;
    if (linger_ms > 0)
        drain(net, linger_ms);
    struct link *link, *next;
    HASH_ITER (hh, net->by_number, link, next)
        net_link_free(net, link);
    net_socket_close(net, linger_ms);
    net_zap_close(net);
    if (net->context != NULL && !net->borrowed)
        end_context(net->context);
    explicit_bzero(&net->keys, sizeof net->keys);
    mem_free(net->fds);
    mem_free(net);
}
