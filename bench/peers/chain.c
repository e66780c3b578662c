/* SPDX-License-Identifier: Apache-2.0
 *
 * chain.c: a floor, not a pool: what ZeroMQ itself gives over client, broker and two
 * workers on loopback TCP, with nothing decided, checked or kept on the way but a window.
 *
 *   peer-chain WORK */
#include "work.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zmq.h>

enum { WORKERS = 2, AHEAD = 32, ITEM_MAX = (1 << 20) + 8, BURST = 100, ADDRESS_MAX = 64 };

static void *client;

static void *open_socket(int type)
{
    const int none = 0;
    void *socket = zmq_socket(zmq_ctx_new(), type);
    if (socket == NULL || zmq_setsockopt(socket, ZMQ_SNDHWM, &none, sizeof none) != 0 ||
        zmq_setsockopt(socket, ZMQ_RCVHWM, &none, sizeof none) != 0)
        work_die("zmq_socket");
    return socket;
}

static void *listen_at(char *ret_address)
{
    void *socket = open_socket(ZMQ_ROUTER);
    size_t size = ADDRESS_MAX;
    if (zmq_bind(socket, "tcp://127.0.0.1:*") != 0 ||
        zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, ret_address, &size) != 0)
        work_die("zmq_bind");
    return socket;
}

/* What follows the routing id of a message goes on under another one. */
static void pass_on(void *from, void *to, const void *id, size_t id_size)
{
    zmq_msg_t body;
    zmq_msg_init(&body);
    if (zmq_msg_recv(&body, from, 0) < 0 || zmq_send(to, id, id_size, ZMQ_SNDMORE) < 0 ||
        zmq_msg_send(&body, to, 0) < 0)
        work_die("broker");
}

/* Tasks go to the worker with the fewest; a worker says once that it is there. */
static _Noreturn void broker(void *clients, void *workers)
{
    char worker[WORKERS][256], id[256], back[256];
    int worker_size[WORKERS], id_size, back_size = 0, free_places[WORKERS];
    for (int i = 0; i < WORKERS; i++) {
        worker_size[i] = zmq_recv(workers, worker[i], sizeof worker[i], 0);
        zmq_recv(workers, id, sizeof id, 0);
        free_places[i] = AHEAD;
    }
    for (;;) {
        const int best = free_places[0] >= free_places[1] ? 0 : 1;
        zmq_pollitem_t items[] = {{workers, 0, ZMQ_POLLIN, 0},
                                  {clients, 0, ZMQ_POLLIN, 0}};
        zmq_poll(items, free_places[best] > 0 ? 2 : 1, -1);
        for (int n = 0; items[0].revents && n < BURST; n++) {
            if ((id_size = zmq_recv(workers, id, sizeof id, ZMQ_DONTWAIT)) < 0)
                break;
            for (int i = 0; i < WORKERS; i++)
                if (id_size == worker_size[i] &&
                    memcmp(id, worker[i], (size_t)id_size) == 0)
                    free_places[i]++;
            pass_on(workers, clients, back, (size_t)back_size);
        }
        for (int n = 0; items[1].revents && n < BURST; n++) {
            const int to = free_places[0] >= free_places[1] ? 0 : 1;
            if (free_places[to] == 0 ||
                (id_size = zmq_recv(clients, id, sizeof id, ZMQ_DONTWAIT)) < 0)
                break;
            memcpy(back, id, (size_t)id_size);
            back_size = id_size;
            free_places[to]--;
            pass_on(clients, workers, worker[to], (size_t)worker_size[to]);
        }
    }
}

static _Noreturn void worker(const char *address)
{
    void *socket = open_socket(ZMQ_DEALER);
    if (zmq_connect(socket, address) != 0 || zmq_send(socket, "", 0, 0) < 0)
        work_die("worker");
    for (;;) {
        zmq_msg_t item;
        zmq_msg_init(&item);
        if (zmq_msg_recv(&item, socket, 0) < 0)
            work_die("worker");
        char *data = zmq_msg_data(&item);
        work_do((enum work_op)data[0], data + 8, zmq_msg_size(&item) - 8);
        zmq_msg_send(&item, socket, 0);
    }
}

static void send_item(const struct work_items *items, long i)
{
    zmq_msg_t message;
    if (zmq_msg_init_size(&message, items->size + 8) != 0)
        work_die("memory");
    char *data = zmq_msg_data(&message);
    memset(data, 0, 8);
    data[0] = (char)items->op;
    memcpy(data + 8, (const char *)items->base + (size_t)i * items->stride, items->size);
    if (zmq_msg_send(&message, client, 0) < 0)
        work_die("client");
}

static void run(const struct work_items *items, long window)
{
    long sent = 0;
    for (long got = 0; got < items->count; got++) {
        while (sent < items->count && sent - got < window)
            send_item(items, sent++);
        zmq_msg_t message;
        zmq_msg_init(&message);
        if (zmq_msg_recv(&message, client, 0) < 0)
            work_die("client");
        work_result((char *)zmq_msg_data(&message) + 8, zmq_msg_size(&message) - 8);
        zmq_msg_close(&message);
    }
}

/* A process that ends with this one; what it does is the caller's. */
static pid_t start(void)
{
    const pid_t child = fork();
    if (child < 0)
        work_die("fork");
    if (child == 0)
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    return child;
}

int main(int argc, char **argv)
{
    static const struct work_peer peer = {run, 256, 8, 64};
    char addresses[2][ADDRESS_MAX] = {"", ""};
    int told[2];
    if (argc != 2 || pipe(told) != 0)
        work_die("usage: peer-chain WORK");
    if (start() == 0) {
        void *clients = listen_at(addresses[0]), *workers = listen_at(addresses[1]);
        if (write(told[1], addresses, sizeof addresses) != sizeof addresses)
            work_die("pipe");
        broker(clients, workers);
    }
    if (read(told[0], addresses, sizeof addresses) != sizeof addresses)
        work_die("pipe");
    for (int i = 0; i < WORKERS; i++)
        if (start() == 0)
            worker(addresses[1]);
    client = open_socket(ZMQ_DEALER);
    if (zmq_connect(client, addresses[0]) != 0)
        work_die("zmq_connect");
    work_run(argv[1], &peer);
    return 0; /* the others end with this process */
}
