/* SPDX-License-Identifier: Apache-2.0
 *
 * memory_crowd.c: many connections to a coordinator from one process.
 *
 *   memory_crowd KIND COUNT ADDRESS [KEYFILE]
 *       tcp         says nothing at all
 *       handshake   finishes ZeroMQ's handshake (CURVE's, with a key), and says no more
 *       client      says hello as a client, and then that it is there, once a second
 *
 * Says "up" when all of them are there, and after a line on standard input how many still
 * are. */
#include "common/keys/keys.h"
#include "common/net/net_internal.h"
#include "common/sys/sys.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

enum { UP_WITHIN_MS = 180000, BEAT_MS = 1000, DIAL_MS = 10000, SOME = 50 };

struct member {
    void *socket; /* ZeroMQ's, or NULL */
    int fd;       /* of a plain one */
    uint64_t opened_ms;
    bool said, up;
};

static struct member *members;
static size_t count, dialled_again;
static bool plain, speaks;
static const char *address;
static void *context;
static const struct key_file *key; /* or NULL */

static _Noreturn void fail(const char *what, const char *why)
{
    fprintf(stderr, "memory_crowd: %s: %s\n", what, why);
    exit(1);
}

/* ---------------------------------------------------------------------- opening */

static int open_plain(void)
{
    struct sockaddr_in name = {.sin_family = AF_INET,
                               .sin_port =
                                   htons((uint16_t)atoi(strrchr(address, ':') + 1)),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&name, sizeof name) != 0)
        fail("connect", strerror(errno));
    return fd;
}

static void *open_dealer(void)
{
    const int none = 0, never = -1, yes = 1, handshake_ms = UP_WITHIN_MS;
    void *socket = zmq_socket(context, ZMQ_DEALER);
    if (socket == NULL || zmq_setsockopt(socket, ZMQ_LINGER, &none, sizeof none) != 0 ||
        zmq_setsockopt(socket, ZMQ_IMMEDIATE, &yes, sizeof yes) != 0 ||
        zmq_setsockopt(socket, ZMQ_RECONNECT_IVL, &never, sizeof never) != 0 ||
        zmq_setsockopt(socket, ZMQ_HANDSHAKE_IVL, &handshake_ms, sizeof handshake_ms))
        fail("socket", zmq_strerror(errno));
    if (key != NULL &&
        (zmq_setsockopt(socket, ZMQ_CURVE_SERVERKEY, key->server.bytes, 32) != 0 ||
         zmq_setsockopt(socket, ZMQ_CURVE_PUBLICKEY, key->holder.key.bytes, 32) != 0 ||
         zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, key->secret, 32) != 0))
        fail("keys", zmq_strerror(errno));
    if (zmq_connect(socket, address) != 0)
        fail("connect", zmq_strerror(errno));
    return socket;
}

/* ----------------------------------------------------------------------- words */

static void send_message(void *socket, struct message *message)
{
    struct frames frames = {0};
    struct envelope envelope = {0};
    if (message_encode(message, &frames) != 0 || !net_envelope_add(&envelope, &frames))
        fail("encode", "out of memory");
    /* One that was closed does not take it. */
    (void)!zmq_send(socket, envelope.text, envelope.used, ZMQ_DONTWAIT);
    net_envelope_fini(&envelope);
    frames_fini(&frames);
    message_free(&message);
}

static void say_hello(void *socket)
{
    struct message *hello = message_create(MSG_HELLO_CLIENT);
    hello->hello_client.protocol = PROTOCOL_VERSION;
    sys_random_id(&hello->hello_client.client);
    snprintf(hello->hello_client.version, sizeof hello->hello_client.version, "%s",
             FARPOOL_VERSION);
    snprintf(hello->hello_client.host, sizeof hello->hello_client.host, "crowd");
    send_message(socket, hello);
}

/* Whether anything came. */
static bool drain(void *socket)
{
    char text[4096];
    bool some = false;
    while (zmq_recv(socket, text, sizeof text, ZMQ_DONTWAIT) >= 0)
        some = true;
    return some;
}

static bool can_send(void *socket)
{
    int events = 0;
    size_t size = sizeof events;
    return zmq_getsockopt(socket, ZMQ_EVENTS, &events, &size) == 0 &&
           (events & ZMQ_POLLOUT) != 0;
}

static bool is_there(const struct member *member)
{
    char text[256];
    ssize_t size;
    if (member->socket != NULL)
        return can_send(member->socket);
    while ((size = recv(member->fd, text, sizeof text, MSG_DONTWAIT)) > 0)
        ; /* ZeroMQ's greeting */
    return size < 0 && errno == EAGAIN;
}

/* A client is up when it was answered. */
static bool comes_up(struct member *member)
{
    if (member->socket == NULL)
        return true;
    if (!can_send(member->socket))
        return false;
    if (!speaks)
        return true;
    if (!member->said)
        say_hello(member->socket);
    member->said = true;
    return drain(member->socket);
}

/* -------------------------------------------------------------------- the crowd */

/* Once a second, those that said hello say that they are there. */
static void beat(void)
{
    static uint64_t beat_ms;
    const uint64_t now_ms = sys_now_ms();
    if (!speaks || now_ms < beat_ms)
        return;
    beat_ms = now_ms + BEAT_MS;
    for (size_t i = 0; i < count; i++) {
        if (!members[i].said)
            continue;
        send_message(members[i].socket, message_create(MSG_HEARTBEAT));
        if (members[i].up)
            drain(members[i].socket);
    }
}

static void open_member(struct member *member)
{
    member->opened_ms = sys_now_ms();
    if (plain)
        member->fd = open_plain();
    else
        member->socket = open_dealer();
}

/* As every client does whose connection was closed, or whose handshake was given up:
 * where thousands dial at once, some are. */
static void dial_again(struct member *member)
{
    const bool late = sys_now_ms() > member->opened_ms + DIAL_MS;
    if (plain || (!late && (!member->said || can_send(member->socket))))
        return;
    zmq_close(member->socket);
    open_member(member);
    member->said = false;
    dialled_again++;
}

/* Some at a time: a handshake has five seconds, and they share a busy machine. */
static void open_all(void)
{
    const uint64_t until_ms = sys_now_ms() + UP_WITHIN_MS;
    size_t opened = 0, up = 0;
    while (up < count) {
        while (opened < count && opened - up < SOME)
            open_member(&members[opened++]);
        for (size_t i = 0; i < opened; i++) {
            if (!members[i].up && comes_up(&members[i])) {
                members[i].up = true;
                up++;
            } else if (!members[i].up) {
                dial_again(&members[i]);
            }
        }
        if (sys_now_ms() > until_ms) {
            fprintf(stderr, "memory_crowd: %zu of %zu came up\n", up, count);
            exit(1);
        }
        beat();
        poll(NULL, 0, up < opened ? 10 : 0);
    }
}

static void stay_until_a_line_comes(void)
{
    struct pollfd input = {.fd = 0, .events = POLLIN};
    while (poll(&input, 1, BEAT_MS / 10) == 0)
        beat();
}

int main(int argc, char **argv)
{
    struct key_file file;
    farpool_error error;
    size_t there = 0;
    if (argc < 4)
        fail("usage", "memory_crowd tcp|handshake|client COUNT ADDRESS [KEYFILE]");
    if (argc > 4 && key_load(argv[4], &file, &error) != 0)
        fail("key", error.text);
    key = argc > 4 ? &file : NULL;
    plain = strcmp(argv[1], "tcp") == 0;
    speaks = strcmp(argv[1], "client") == 0;
    count = (size_t)atol(argv[2]);
    address = argv[3];
    members = calloc(count, sizeof *members);
    context = zmq_ctx_new();
    if (members == NULL || context == NULL ||
        zmq_ctx_set(context, ZMQ_MAX_SOCKETS, 2 * (int)count + 8) != 0 ||
        sys_need_files(2 * count + 64, &error) != 0)
        fail("crowd", "too few files, or out of memory");
    open_all();
    printf("up, %zu dialled again\n", dialled_again);
    fflush(stdout);
    stay_until_a_line_comes();
    for (size_t i = 0; i < count; i++)
        there += is_there(&members[i]);
    printf("%zu are there\n", there);
    fflush(stdout);
    _Exit(0); /* a context that ends waits for each */
}
