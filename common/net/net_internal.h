/* SPDX-License-Identifier: Apache-2.0
 *
 * net_internal.h: what the files of common/net share. envelope.c packs messages into one
 * ZeroMQ message and reads them back; queue.c is what waits for a link, and its PARTs;
 * assembly.c puts PARTs together; link.c is a link's life; socket.c speaks to ZeroMQ;
 * monitor.c hears of connections that come and go; receive.c turns frames into messages;
 * zap.c checks keys; wait.c sleeps; net.c is the public face. */
#ifndef FARPOOL_NET_INTERNAL_H
#define FARPOOL_NET_INTERNAL_H

#include "common/base/mem.h"
#include "common/base/message.h"
#include "common/net/net.h"

#include <zmq.h>

#define HASH_NONFATAL_OOM 1
#define uthash_malloc(size) mem_alloc(size)
#define uthash_free(memory, size) mem_free(memory)
#define uthash_nonfatal_oom(element) ((void)(element))
#include <sys/queue.h>
#include <uthash.h>

#define MIB 1048576u
#define PLAIN_BYTES_MAX (MIB + 65536) /* a message above goes in PARTs */
#define PART_BYTES_MAX MIB            /* data of one PART */
#define ENVELOPE_MESSAGES_MAX 256     /* messages in an envelope */
#define ENVELOPE_FRAMES_MAX 1024      /* bodies in an envelope */
#define ENVELOPE_BYTES_MAX MIB        /* packing stops there */
#define FRAME_BYTES_MAX (2 * MIB)     /* ZMQ_MAXMSGSIZE: of one frame */
#define RECEIVED_BYTES_MAX (4 * MIB)  /* of an envelope that came */
#define ASSEMBLY_BYTES_MAX ((uint64_t)BODY_BYTES_MAX + 16 * MIB)
#define HWM_MESSAGES 64    /* envelopes in ZeroMQ's own queues, each way */
#define BODY_COPY_MAX 8192 /* bodies up to this are copied */
#define ROUTING_ID_SIZE 5  /* as a ROUTER makes them */
#define CLOSING_MS 1000
#define DIAL_TIMEOUT_MS 5000
#define BLOCKED_MS_MAX 16
#define MUTE_LOOK_MS 1000 /* between looks at connections without a first message */
#define MUTE_LOOKS 20     /* that one may have: when thousands dial, all take long */

/* ----------------------------------------------------------------- envelope.c */

struct envelope {
    uint8_t *text; /* frame 0 */
    size_t used, capacity;
    struct payload **bodies; /* references; the frames behind it */
    size_t bodies_count, bodies_capacity;
    uint32_t messages; /* 0: nothing in it */
    uint64_t bytes;
};

void net_envelope_clear(struct envelope *envelope); /* keeps the memory */
void net_envelope_fini(struct envelope *envelope);
bool net_envelope_fits(const struct envelope *envelope, uint64_t bytes, size_t bodies);
/* Adds a message's wire form; false: out of memory, nothing changed. */
bool net_envelope_add(struct envelope *envelope, const struct frames *frames);

/* Reading: the places of the messages in a frame 0. */
struct envelope_reader {
    const uint8_t *data;
    size_t left;
    uint32_t messages; /* still to come */
};
struct envelope_item {
    const uint8_t *header;
    size_t header_size;
    size_t bodies_count;
};
/* Checks all of frame 0 against the number of frames behind it; NULL or what is wrong. */
const char *net_envelope_open(const void *data, size_t size, size_t bodies_count,
                              struct envelope_reader *ret_reader);
bool net_envelope_next(struct envelope_reader *reader, struct envelope_item *ret_item);

/* -------------------------------------------------------------------- queue.c */

struct outgoing {
    STAILQ_ENTRY(outgoing) entry;
    enum message_kind kind;
    struct frames frames;
    uint64_t bytes; /* header and bodies */
};
STAILQ_HEAD(outgoing_list, outgoing);

struct queue {
    struct outgoing_list urgent; /* heartbeats */
    struct outgoing_list normal;
    bool begun;             /* a message has left: the first one is a hello */
    struct outgoing *large; /* is being sent in PARTs, or NULL */
    struct payload *head;   /* of it: sizes and header, before the bodies */
    size_t piece;           /* of it: 0 the head, n the n-th body */
    size_t piece_offset;
    uint64_t offset, total;
    uint64_t bytes; /* of everything in the queue */
};

void net_queue_init(struct queue *queue);
void net_queue_fini(struct queue *queue); /* drops what is in it; usable again */
bool net_queue_empty(const struct queue *queue);
/* Takes over the frames. ENOMEM, ETOOBIG: nothing changed. */
int net_queue_add(struct queue *queue, enum message_kind kind, struct frames *frames);
/* Moves what fits into an empty envelope. ENOMEM: and nothing could be moved. */
int net_queue_fill(struct queue *queue, struct envelope *envelope);

/* ----------------------------------------------------------------- assembly.c */

struct assembly {
    struct payload *whole; /* NULL: none under way */
    uint64_t total, offset;
};

void net_assembly_fini(struct assembly *assembly);
/* Adds the piece in a PART. 0: more to come; FARPOOL_END: complete, *ret_frames filled;
 * EPROTOCOL with *ret_reason; ENOMEM. */
int net_assembly_add(struct assembly *assembly, const struct message *part,
                     struct frames *ret_frames, const char **ret_reason);

/* --------------------------------------------------------------- link.c, net.c */

/* UP       in use
 * CLOSING  net_drop: its queue goes out, what comes is ignored, for CLOSING_MS at most
 * BROKEN   a rule was broken: NET_DOWN is due, the connection is cut
 * LOST     the transport lost it: NET_DOWN is due when all that came has been delivered
 * CUT      over for the user; the transport has not yet said that it is gone
 * GONE     over for the user and gone: freed when all that came has been read
 *
 *     UP -> CLOSING | BROKEN | LOST     CLOSING -> CUT | GONE     BROKEN -> CUT | GONE
 *     LOST -> BROKEN | GONE             CUT -> GONE */
enum link_state { LINK_UP, LINK_CLOSING, LINK_BROKEN, LINK_LOST, LINK_CUT, LINK_GONE };

struct link {
    uint64_t number;
    enum link_state state;
    char role;       /* of the peer: 'C', 'W', 'K'; 0: it has not said hello */
    int fd;          /* listener: the connection's, in ZeroMQ's hands; -1: not known */
    uint64_t cookie; /* listener: the kernel's number of that socket, 0: not known */
    uint8_t routing_id[ROUTING_ID_SIZE];
    struct queue queue;
    struct envelope envelope; /* built, and not yet taken by the socket */
    struct assembly assembly;
    uint64_t close_by_ms; /* CLOSING */
    bool dirty;           /* is in net->dirty */
    bool listed;          /* is in net->ending or net->closing */
    char text[160];       /* why it ended */
    struct holder holder; /* listener with keys */
    TAILQ_ENTRY(link) entry;
    TAILQ_ENTRY(link) dirty_entry;
    UT_hash_handle hh, hh_id;
};
TAILQ_HEAD(link_list, link);

struct fd_slot {
    bool open;         /* accepted and not disconnected */
    uint8_t looks;     /* at it while it had no link */
    struct link *link; /* bound by its first message, or NULL */
};

enum dial_state { DIAL_WAITING, DIAL_CONNECTING, DIAL_UP };

struct net {
    bool listener;
    char role, peer;
    bool borrowed; /* the context is another net's */
    char local_host[64];
    char address[192]; /* as people see it */
    char target[192];  /* as ZeroMQ takes it */
    uint64_t queue_bytes_max;
    uint64_t seed;
    uint32_t redial_first_ms, redial_max_ms;
    uint64_t now_ms; /* of the last net_poll */
    uint64_t last_link;

    bool keyed;
    struct net_keys keys;
    bool self_test; /* under way, with this key */
    struct hash self_test_key;

    void *context, *socket, *monitor, *zap;
    int socket_fd, monitor_fd, zap_fd;
    bool unread, monitor_unread, zap_unread; /* there may be something: see wait.c */
    bool sent;                               /* so a sign may have been taken away */
    uint32_t monitors;                       /* made so far, for their names */

    struct link *by_number, *by_id; /* uthash; by_id of a listener only */
    struct link_list ending;        /* BROKEN, LOST, GONE; dialer: CLOSING too */
    struct link_list closing;       /* listener: CLOSING, by time */
    struct link_list dirty;         /* something waits to go out */
    bool blocked;                   /* and a socket did not take it */
    uint64_t blocked_ms;            /* listener: pause before the next try */
    uint64_t retry_at_ms;

    struct fd_slot *fds; /* listener: by file descriptor */
    size_t fds_capacity;
    uint64_t look_at_ms; /* for those that are open and have no link */

    enum dial_state dial;
    struct link *dialled;     /* the dialer's link */
    bool dial_ended;          /* the monitor said so */
    const char *dial_refused; /* why the handshake was, to be told; or NULL */
    uint32_t redials;         /* since a link last carried a message */
    uint64_t redial_at_ms;

    zmq_msg_t frames[ENVELOPE_FRAMES_MAX + 1]; /* of the envelope being received */
    struct payload *bodies[ENVELOPE_FRAMES_MAX];
};

struct delivery {
    void (*deliver)(void *user, struct net_event *event);
    void *user;
    int count;
};
void net_deliver_event(struct delivery *delivery, struct net_event *event);

int net_link_create(struct net *net, const uint8_t *routing_id, struct link **ret_link);
void net_link_free(struct net *net, struct link *link);
struct link *net_link_find(const struct net *net, uint64_t number);
struct link *net_link_find_id(const struct net *net, const uint8_t *routing_id);
void net_link_mark_dirty(struct net *net, struct link *link);
/* The peer, or we ourselves, cannot go on: NET_DOWN follows, the connection is cut. */
void net_link_break(struct net *net, struct link *link, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The transport lost the connection. */
void net_link_lost(struct net *net, struct link *link, const char *text);
/* net_drop. */
void net_link_close(struct net *net, struct link *link);
/* Closes the connection under a listener's link. */
void net_link_cut(struct link *link);
/* Ends links whose time has come; `drained`: nothing is left in the socket. */
void net_links_finish(struct net *net, bool drained, struct delivery *delivery);

/* ------------------------------------------------------------------- address.c */

/* What ZeroMQ takes for an address that net_check_address has passed. */
void net_address_target(const char *address, char *target, size_t size);
/* "tcp://HOST" of this end of a connection; "": it is no TCP. */
void net_address_local(int fd, char *host, size_t size);

/* -------------------------------------------------------------------- socket.c */

int net_socket_open_context(struct net *net, farpool_error *error);
/* ESYSTEM with errno's text (port taken, named). */
int net_socket_listen(struct net *net, farpool_error *error);
int net_socket_dial(struct net *net, farpool_error *error);
void net_socket_close(struct net *net, int linger_ms);
/* Sends link->envelope: 0; FARPOOL_END: the socket does not take it now; ECLOSED: the
 * connection is gone; ENOMEM. */
int net_socket_send(struct net *net, struct link *link);

/* One envelope into net->frames; *ret_count frames, to be closed by frames_close. false:
 * nothing is there. *ret_reason: not NULL if it broke a bound (frames beyond were
 * dropped). */
bool net_socket_receive(struct net *net, uint8_t routing_id[ROUTING_ID_SIZE], int *ret_fd,
                        size_t *ret_count, const char **ret_reason);
void net_frames_close(struct net *net, size_t count);

/* ------------------------------------------------------------------- monitor.c */

int net_monitor_open(struct net *net, farpool_error *error);
void net_monitor_close(struct net *net);
/* Reads every event that is there. */
void net_monitor_drain(struct net *net);
/* Binds a new listener's link to its connection; the monitor has been drained. */
void net_monitor_bind(struct net *net, struct link *link, int fd);
/* Closes a listener's connection that has no link, and will have none. */
void net_monitor_refuse(struct net *net, int fd);
/* Closes connections that have said nothing for too long. drained: nothing is left in the
 * socket, else what they said may wait there. */
void net_monitor_look(struct net *net, bool drained);

/* ---------------------------------------------------------------------- wait.c */

/* The descriptor that tells that something has come for a socket. */
int net_wait_fd(void *socket);

/* ----------------------------------------------------------------------- zap.c */

int net_zap_open(struct net *net, farpool_error *error); /* before the socket's bind */
void net_zap_close(struct net *net);                     /* after the socket's close */
/* Sets a data socket's keys, if there are any. */
int net_zap_secure(const struct net *net, void *socket, farpool_error *error);
/* Answers the questions that wait. */
void net_zap_serve(struct net *net);
/* The key in a message's User-Id; false: there is none. */
bool net_zap_read_user(const char *user, struct hash *ret_key);
void net_zap_tell_refused(struct net *net, const struct hash *key, const char *reason);
/* EKEY: a listener's check of keys does not work. */
int net_zap_self_test(struct net *net, farpool_error *error);

/* ------------------------------------------------------------------- receive.c */

/* Delivers a dialer's NET_REFUSED or NET_UP if it is due. */
void net_link_announce(struct net *net, struct delivery *delivery);
/* Receives a bounded batch; true: nothing is left in the socket. */
bool net_receive_batch(struct net *net, struct delivery *delivery);

#endif
