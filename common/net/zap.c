/* SPDX-License-Identifier: Apache-2.0
 *
 * zap.c: who may connect to a listener with keys. ZeroMQ asks by ZAP (its RFC 27), over
 * an inproc socket, for each finished CURVE handshake; the answer is the owner's
 * `authorize`.
 *
 * The asking socket is served by net_poll, on the thread that owns the net: a loop that
 * hangs lets nobody in, and the list of keys needs no lock. Nothing here fails open: the
 * handler is there before the listener is bound and until it is closed, ZeroMQ is told
 * that no answer means no, a message without the User-Id that the answer gave is nobody's
 * (receive.c asks `authorize` once more there), and net_zap_self_test dials with a key of
 * chance before anyone can have noticed the port. */
#include "common/base/error.h"
#include "common/net/net_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define ZAP_ENDPOINT "inproc://zeromq.zap.01"
#define ZAP_DOMAIN "farpool"
#define ZAP_ENFORCE_DOMAIN                                                               \
    93 /* zmq.h tells it with drafts only, libzmq knows it always */
#define ZAP_FRAMES_MAX 16
#define ZAP_BATCH 64
#define SELF_TEST_MS 10000
#define KEY_BYTES 32
#define KEY_TEXT_SIZE 41

static int fail(const char *what, farpool_error *error)
{
    return error_set(error, errno == EMFILE ? FARPOOL_ENOFILES : FARPOOL_ESYSTEM,
                     "cannot %s: %s", what, zmq_strerror(errno));
}

int net_zap_open(struct net *net, farpool_error *error)
{
    const int linger_ms = 0;
    if (!net->keyed)
        return 0;
    net->zap = zmq_socket(net->context, ZMQ_REP);
    if (net->zap == NULL ||
        zmq_setsockopt(net->zap, ZMQ_LINGER, &linger_ms, sizeof linger_ms) != 0 ||
        zmq_bind(net->zap, ZAP_ENDPOINT) != 0)
        return fail("start the check of keys", error);
    net->zap_fd = net_wait_fd(net->zap);
    net->zap_unread = true;
    return 0;
}

void net_zap_close(struct net *net)
{
    if (net->zap != NULL)
        zmq_close(net->zap);
    net->zap = NULL;
}

int net_zap_secure(const struct net *net, void *socket, farpool_error *error)
{
    static const char domain[] = ZAP_DOMAIN;
    const struct net_keys *keys = &net->keys;
    const int yes = 1;
    int failed = 0;
    if (!net->keyed)
        return 0;
    if (net->listener)
        failed = zmq_setsockopt(socket, ZMQ_CURVE_SERVER, &yes, sizeof yes) ||
                 zmq_setsockopt(socket, ZMQ_ZAP_DOMAIN, domain, strlen(domain)) ||
                 zmq_setsockopt(socket, ZAP_ENFORCE_DOMAIN, &yes, sizeof yes);
    else
        failed =
            zmq_setsockopt(socket, ZMQ_CURVE_SERVERKEY, keys->server.bytes, KEY_BYTES) ||
            zmq_setsockopt(socket, ZMQ_CURVE_PUBLICKEY, keys->own.bytes, KEY_BYTES);
    if (!failed)
        failed = zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, keys->secret, KEY_BYTES);
    return failed ? fail("use the key", error) : 0;
}

/* -------------------------------------------------------------- the questions */

struct question {
    size_t frames;
    char id[256]; /* to be sent back */
    size_t id_size;
    bool version, domain, curve; /* are as they must be */
    bool keyed;
    struct hash key;
};

static bool frame_is(zmq_msg_t *frame, const char *text)
{
    return zmq_msg_size(frame) == strlen(text) &&
           memcmp(zmq_msg_data(frame), text, strlen(text)) == 0;
}

/* version, id, domain, address, routing id, mechanism, credentials */
static void take_frame(struct question *question, zmq_msg_t *frame)
{
    const size_t size = zmq_msg_size(frame);
    switch (question->frames++) {
    case 0:
        question->version = frame_is(frame, "1.0");
        break;
    case 1:
        question->id_size = size < sizeof question->id ? size : sizeof question->id;
        memcpy(question->id, zmq_msg_data(frame), question->id_size);
        break;
    case 2:
        question->domain = frame_is(frame, ZAP_DOMAIN);
        break;
    case 5:
        question->curve = frame_is(frame, "CURVE");
        break;
    case 6:
        question->keyed = size == KEY_BYTES;
        if (question->keyed)
            memcpy(question->key.bytes, zmq_msg_data(frame), KEY_BYTES);
        break;
    default:
        break;
    }
}

static bool read_question(struct net *net, struct question *ret_question)
{
    zmq_msg_t frame;
    int more = 1;
    *ret_question = (struct question){.frames = 0};
    while (more) {
        zmq_msg_init(&frame);
        if (zmq_msg_recv(&frame, net->zap, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(&frame);
            return false;
        }
        more = zmq_msg_more(&frame);
        take_frame(ret_question, &frame);
        zmq_msg_close(&frame);
    }
    return true;
}

void net_zap_tell_refused(struct net *net, const struct hash *key, const char *reason)
{
    if (net->keyed && net->keys.refused != NULL)
        net->keys.refused(net->keys.user, key, reason);
}

static bool allowed(struct net *net, const struct question *question)
{
    struct holder holder;
    if (question->frames != 7 || !question->version || !question->domain ||
        !question->curve || !question->keyed)
        return false;
    if (net->self_test && hash_equal(&question->key, &net->self_test_key))
        return net->keys.authorize(net->keys.user, &question->key, &holder);
    if (net->keys.authorize(net->keys.user, &question->key, &holder))
        return true;
    net_zap_tell_refused(net, &question->key,
                         net->role == 'K' ? "the key is not in the list"
                                          : "the key was not introduced");
    return false;
}

static void answer(struct net *net, const struct question *question)
{
    const bool yes = allowed(net, question);
    char user[KEY_TEXT_SIZE] = "";
    if (yes)
        zmq_z85_encode(user, question->key.bytes, KEY_BYTES);
    /* A REP to a peer that has gone drops what it is told. */
    const int flags = ZMQ_DONTWAIT | ZMQ_SNDMORE;
    zmq_send(net->zap, "1.0", 3, flags);
    zmq_send(net->zap, question->id, question->id_size, flags);
    zmq_send(net->zap, yes ? "200" : "400", 3, flags);
    zmq_send(net->zap, yes ? "OK" : "no", 2, flags);
    zmq_send(net->zap, user, strlen(user), flags);
    zmq_send(net->zap, "", 0, ZMQ_DONTWAIT);
}

void net_zap_serve(struct net *net)
{
    struct question question;
    for (int i = 0; net->zap != NULL && i < ZAP_BATCH; i++) {
        net->zap_unread = read_question(net, &question);
        if (!net->zap_unread)
            return;
        answer(net, &question);
    }
}

bool net_zap_read_user(const char *user, struct hash *ret_key)
{
    char again[KEY_TEXT_SIZE];
    struct hash key;
    if (user == NULL || strlen(user) != KEY_TEXT_SIZE - 1 ||
        zmq_z85_decode(key.bytes, user) == NULL ||
        strcmp(zmq_z85_encode(again, key.bytes, KEY_BYTES), user) != 0)
        return false;
    *ret_key = key;
    return true;
}

/* --------------------------------------------------------------- the self-test */

static uint64_t clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

/* Where this machine reaches its own listener. */
static void own_address(const struct net *net, char *address, size_t size)
{
    static const char any4[] = "tcp://0.0.0.0:", any6[] = "tcp://[::]:";
    if (strncmp(net->address, any4, strlen(any4)) == 0)
        snprintf(address, size, "tcp://127.0.0.1:%s", net->address + strlen(any4));
    else if (strncmp(net->address, any6, strlen(any6)) == 0)
        snprintf(address, size, "tcp://[::1]:%s", net->address + strlen(any6));
    else
        snprintf(address, size, "%s", net->address);
}

static bool make_stranger(struct net *net, struct net_keys *ret_keys)
{
    char own[KEY_TEXT_SIZE], secret[KEY_TEXT_SIZE];
    *ret_keys = (struct net_keys){.server = net->keys.own};
    if (zmq_curve_keypair(own, secret) != 0 || !net_zap_read_user(own, &ret_keys->own) ||
        zmq_z85_decode(ret_keys->secret, secret) == NULL)
        return false;
    net->self_test_key = ret_keys->own;
    return true;
}

/* Serves the handler until the stranger's monitor tells how its dial ended: 0: refused;
 * else why the test has failed. */
static const char *watch_stranger(struct net *net, struct net *stranger)
{
    const uint64_t until_ms = clock_ms() + SELF_TEST_MS;
    while (clock_ms() < until_ms) {
        zmq_pollitem_t items[] = {{.socket = net->zap, .events = ZMQ_POLLIN},
                                  {.socket = stranger->monitor, .events = ZMQ_POLLIN}};
        zmq_poll(items, 2, 100);
        net_zap_serve(net);
        net_monitor_drain(stranger);
        if (stranger->dial == DIAL_UP)
            return "a key of chance was let in";
        if (stranger->dial_refused)
            return NULL;
        if (stranger->dial_ended)
            return "the dial ended before the key was looked at";
    }
    return "no answer";
}

/* It dials in the listener's own context, so that the listener's handler is not its. */
int net_zap_self_test(struct net *net, farpool_error *error)
{
    if (!net->keyed)
        return 0;
    struct net *stranger = mem_alloc(sizeof *stranger);
    if (stranger == NULL)
        return error_set(error, FARPOOL_ENOMEM, "out of memory");
    stranger->context = net->context;
    stranger->keyed = true;
    stranger->dial = DIAL_CONNECTING;
    own_address(net, stranger->address, sizeof stranger->address);
    snprintf(stranger->target, sizeof stranger->target, "%s", stranger->address);
    TAILQ_INIT(&stranger->ending);
    TAILQ_INIT(&stranger->closing);
    TAILQ_INIT(&stranger->dirty);
    const char *wrong = "no key could be made";
    int result = 0;
    net->self_test = true;
    if (make_stranger(net, &stranger->keys)) {
        result = net_socket_dial(stranger, error);
        if (result == 0)
            wrong = watch_stranger(net, stranger);
    }
    if (result == 0 && wrong != NULL)
        result = error_set(error, FARPOOL_EKEY,
                           "keys are not checked on %s, so nothing is served: %s",
                           stranger->address, wrong);
    net->self_test = false;
    net_socket_close(stranger, 0);
    if (stranger->dialled != NULL)
        net_link_free(stranger, stranger->dialled);
    explicit_bzero(&stranger->keys, sizeof stranger->keys);
    mem_free(stranger);
    return result;
}
