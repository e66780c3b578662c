/* SPDX-License-Identifier: Apache-2.0
 *
 * zmq_late.c: ZeroMQ for libfarpool, loaded at the first call of one of its functions: an
 * embedded pool has no use for it, and its twenty libraries are most of what a program
 * and each process of its pool would load before main. Each function here is called by
 * the rest of the folder under its own name, hidden from the program, which may have a
 * libzmq of its own (cmake/libfarpool.map). The daemons, which always need it, are linked
 * with it and without this file.
 *
 * Where there is no libzmq, making a context and making keys fail with ELIBACC, and
 * nothing else can be called. */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <zmq.h>

#define LIBRARY "libzmq.so.5" /* of every ZeroMQ since 4.1 */

/* F(result, what it is without a library, name, parameters, arguments) */
#define FUNCTIONS(F)                                                                     \
    F(const char *, strerror(code), zmq_strerror, (int code), (code))                    \
    F(void *, NULL, zmq_ctx_new, (void), ())                                             \
    F(int, -1, zmq_ctx_set, (void *context, int option, int value),                      \
      (context, option, value))                                                          \
    F(int, -1, zmq_ctx_term, (void *context), (context))                                 \
    F(void *, NULL, zmq_socket, (void *context, int type), (context, type))              \
    F(int, -1, zmq_close, (void *socket), (socket))                                      \
    F(int, -1, zmq_bind, (void *socket, const char *address), (socket, address))         \
    F(int, -1, zmq_connect, (void *socket, const char *address), (socket, address))      \
    F(int, -1, zmq_setsockopt,                                                           \
      (void *socket, int option, const void *value, size_t size),                        \
      (socket, option, value, size))                                                     \
    F(int, -1, zmq_getsockopt, (void *socket, int option, void *value, size_t *size),    \
      (socket, option, value, size))                                                     \
    F(int, -1, zmq_socket_monitor, (void *socket, const char *address, int events),      \
      (socket, address, events))                                                         \
    F(int, -1, zmq_poll, (zmq_pollitem_t * items, int count, long timeout_ms),           \
      (items, count, timeout_ms))                                                        \
    F(int, -1, zmq_send, (void *socket, const void *data, size_t size, int flags),       \
      (socket, data, size, flags))                                                       \
    F(int, -1, zmq_msg_init, (zmq_msg_t * message), (message))                           \
    F(int, -1, zmq_msg_init_size, (zmq_msg_t * message, size_t size), (message, size))   \
    F(int, -1, zmq_msg_init_data,                                                        \
      (zmq_msg_t * message, void *data, size_t size, zmq_free_fn *release, void *hint),  \
      (message, data, size, release, hint))                                              \
    F(int, -1, zmq_msg_send, (zmq_msg_t * message, void *socket, int flags),             \
      (message, socket, flags))                                                          \
    F(int, -1, zmq_msg_recv, (zmq_msg_t * message, void *socket, int flags),             \
      (message, socket, flags))                                                          \
    F(int, -1, zmq_msg_close, (zmq_msg_t * message), (message))                          \
    F(int, -1, zmq_msg_move, (zmq_msg_t * to, zmq_msg_t * from), (to, from))             \
    F(void *, NULL, zmq_msg_data, (zmq_msg_t * message), (message))                      \
    F(size_t, 0, zmq_msg_size, (const zmq_msg_t *message), (message))                    \
    F(int, 0, zmq_msg_more, (const zmq_msg_t *message), (message))                       \
    F(int, -1, zmq_msg_get, (const zmq_msg_t *message, int property),                    \
      (message, property))                                                               \
    F(const char *, NULL, zmq_msg_gets,                                                  \
      (const zmq_msg_t *message, const char *property), (message, property))             \
    F(int, -1, zmq_curve_keypair, (char *public_key, char *secret_key),                  \
      (public_key, secret_key))                                                          \
    F(int, -1, zmq_curve_public, (char *public_key, const char *secret_key),             \
      (public_key, secret_key))                                                          \
    F(char *, NULL, zmq_z85_encode, (char *text, const uint8_t *data, size_t size),      \
      (text, data, size))                                                                \
    F(uint8_t *, NULL, zmq_z85_decode, (uint8_t * data, const char *text), (data, text))

#define DECLARE(type, none, name, parameters, arguments) type(*name) parameters;
static struct {
    FUNCTIONS(DECLARE)
} zmq;
static void *library;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void find(const char *name, void *ret_function)
{
    void *symbol = library != NULL ? dlsym(library, name) : NULL;

    if (symbol != NULL)
        memcpy(ret_function, &symbol, sizeof symbol);
}

#define FIND(type, none, name, parameters, arguments) find(#name, &zmq.name);
static void load(void)
{
    library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    FUNCTIONS(FIND)
}

#define DEFINE(type, none, name, parameters, arguments)                                  \
    type name parameters                                                                 \
    {                                                                                    \
        pthread_once(&once, load);                                                       \
        if (zmq.name != NULL)                                                            \
            return zmq.name arguments;                                                   \
        errno = ELIBACC;                                                                 \
        return none;                                                                     \
    }
FUNCTIONS(DEFINE)
