/* SPDX-License-Identifier: Apache-2.0
 *
 * net.h: messages over ZeroMQ; the only code that knows it. One `struct net` is one
 * endpoint: a listener (a ROUTER of the coordinator or of a worker, many links) or a
 * dialer (a client's or worker's DEALER, one link at a time, redialled for ever with
 * growing, jittered pauses). A link is one connection: a number that is never used again.
 * One thread owns a net. docs/transport.md tells the envelope, the limits and the
 * pitfalls met.
 *
 * What waits for the same link goes out together: net_send queues, net_flush packs. A
 * message larger than 1 MiB travels in PARTs, between which small ones pass. */
#ifndef FARPOOL_NET_NET_H
#define FARPOOL_NET_NET_H

#include "common/base/holder.h"
#include "common/base/message.h"

#include <poll.h>

struct net;

enum net_event_kind {
    NET_UP,   /* dialer: connected; listener: the first message of a new peer follows, or
                 NET_DOWN when it was no hello */
    NET_DOWN, /* the connection closed, or broke a rule (text says); the link is gone */
    NET_REFUSED, /* dialer: the peer ended the handshake since the key (or that there is
                    none) did not please it; text says. It is dialled again all the same
                  */
    NET_MESSAGE, /* *message: the callee takes it over (sets it NULL) */
};

struct net_event {
    enum net_event_kind kind;
    uint64_t link;
    struct message *message;
    const char *text;
    const struct holder *holder; /* UP, MESSAGE of a listener with keys: whose link it is,
                                    the same all its life; else NULL */
};

/* With keys every connection is encrypted, and both ends prove their keys. */
struct net_keys {
    struct hash own; /* public */
    uint8_t secret[32];
    struct hash server; /* dialer: the listener's public key */
    /* Listener: whether a key is let in, and who it is. Called by net_listen, net_poll
     * and net_recheck, for a handshake and again for a first message. */
    bool (*authorize)(void *user, const struct hash *key, struct holder *ret_holder);
    /* Listener: somebody was not let in. key: NULL where none was shown. NULL allowed. */
    void (*refused)(void *user, const struct hash *key, const char *reason);
    void *user;
};

struct net_config {
    const char *address; /* tcp://HOST:PORT, ipc://PATH; off loopback only with keys */
    const struct net_keys *keys; /* copied; NULL: none, plain connections */
    char role;                   /* 'C', 'K' or 'W': which messages peers may send us */
    char peer;                   /* dialer: of whom it dials, 'K' or 'W'; 0: 'K' */
    const struct hash *server;   /* dialer beside another one: it uses that one's pair of
                                    keys, if it has one, to find who has this one */
    struct net *beside; /* whose ZeroMQ threads it shares, and which is closed later;
                           NULL: it has its own */
    uint64_t
        queue_bytes_max; /* per link, waiting to go out: beyond it the link is closed */
    uint64_t seed;       /* jitter of redialling */
    uint32_t redial_first_ms, redial_max_ms; /* dialer; default 50, 5000 */
};

/* Checks an address as both net_listen and net_dial do: EADDRESS with the reason.
 * keyed: keys will be used. */
int net_check_address(const char *address, bool listen, bool keyed, farpool_error *error);

/* EADDRESS, ESYSTEM (port taken, named), ENOFILES; with keys also EKEY: a key made by
 * chance was let in (it dials itself to try), or could not be tried. */
int net_listen(const struct net_config *config, struct net **ret_net,
               farpool_error *error);
int net_dial(const struct net_config *config, struct net **ret_net, farpool_error *error);
/* Waits up to linger_ms for what is queued to go out. NULL allowed. */
void net_close(struct net *net, int linger_ms);

/* Where it listens: "tcp://127.0.0.1:41003" when port 0 ("*") was asked for. */
const char *net_address(const struct net *net);

/* Dialer: this end's address without its port, "tcp://10.0.0.7", as of the last
 * connection; "": there was none, or it is no TCP. */
const char *net_local_host(const struct net *net);

/* Queues a message (taken over, also on failure). ECLOSED: the link is gone; EFULL: the
 * queue was over its bound; ENOMEM, EINVAL, ETOOBIG: it cannot be encoded. On all but
 * ECLOSED the link is now closed (NET_DOWN follows): its peer would wait for the message
 * for ever. */
int net_send(struct net *net, uint64_t link, struct message **message);

/* Sends what the sockets take now; never blocks. */
void net_flush(struct net *net);

/* Dialer: drop the connection and dial again after a pause. Listener: close that link
 * after its queue has gone out (at most one second). No NET_DOWN follows. */
void net_drop(struct net *net, uint64_t link, const char *text);

/* Listener with keys: the list has changed. Ends (NET_DOWN follows) every link whose key
 * is no longer let in, or is now another's or of another role. */
void net_recheck(struct net *net);

/* Receives what the last net_wait_end found (a bounded batch), never blocking; delivers
 * in order. Returns the number of events. */
int net_poll(struct net *net, uint64_t now_ms,
             void (*deliver)(void *user, struct net_event *event), void *user);

/* Whether the last net_poll left messages that had come. */
bool net_is_behind(const struct net *net);

/* Around poll(2), which may sleep on other descriptors as well: begin fills fds, at most
 * NET_WAIT_FDS, returns how many, and sets *timeout_ms to 0 where there is something to
 * do already; end notes what poll found (revents), for the next net_poll, which looks
 * nowhere else. Only net_flush and net_wait_* may come between them. */
#define NET_WAIT_FDS 3
int net_wait_begin(struct net *net, struct pollfd *fds, int *timeout_ms);
void net_wait_end(struct net *net, const struct pollfd *fds);

/* When net_poll wants to be called at the latest (redialling); UINT64_MAX: none. */
uint64_t net_deadline(const struct net *net);

#endif
