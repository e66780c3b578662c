/* SPDX-License-Identifier: Apache-2.0
 *
 * alone-try.c: whether the libraries' archives link (cmake/Alone.cmake). */
#include <sodium.h>
#include <zmq.h>

int main(void)
{
    void *context = zmq_ctx_new();
    return zmq_socket(context, ZMQ_ROUTER) == NULL || sodium_init() < 0;
}
