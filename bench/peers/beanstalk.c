/* SPDX-License-Identifier: Apache-2.0
 *
 * beanstalk.c: a pool over two tubes of beanstalkd, by its text protocol (no client
 * library is packaged). Everything is pipelined: a worker sends a result, the end of its
 * task and the wish for the next in one write, the client keeps many wishes ahead.
 *
 *   peer-beanstalk PORT worker
 *   peer-beanstalk PORT WORK */
#include "work.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { ITEM_MAX = (1 << 20) + 64, AHEAD = 256, BATCH = 64, BUFFER = 1 << 20 };

struct connection {
    FILE *in, *out;
    char *item; /* the last one received */
    size_t size;
    unsigned long id;
};

static void expect(struct connection *server, const char *word)
{
    char line[256];
    fflush(server->out);
    if (fgets(line, sizeof line, server->in) == NULL)
        work_die("beanstalkd: the connection ended");
    if (strncmp(line, word, strlen(word)) != 0)
        work_die("beanstalkd: %s instead of %s", line, word);
}

static struct connection open_connection(int port, const char *use, const char *watch)
{
    struct connection server = {.item = malloc(ITEM_MAX)};
    const int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    const struct sockaddr_in address = {.sin_family = AF_INET,
                                        .sin_port = htons((uint16_t)port),
                                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof address) != 0)
        work_die("no beanstalkd at port %d", port);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    server.in = fdopen(fd, "r");
    server.out = fdopen(fd, "w");
    if (server.item == NULL || server.in == NULL || server.out == NULL)
        work_die("memory");
    setvbuf(server.in, NULL, _IOFBF, BUFFER);
    setvbuf(server.out, NULL, _IOFBF, BUFFER);
    fprintf(server.out, "use %s\r\n", use);
    expect(&server, "USING");
    fprintf(server.out, "watch %s\r\n", watch);
    expect(&server, "WATCHING");
    fprintf(server.out, "ignore default\r\n");
    expect(&server, "WATCHING");
    return server;
}

static void put(struct connection *server, enum work_op op, const void *item, size_t size)
{
    fprintf(server->out, "put 0 0 60 %zu\r\n%c", size + 1, (char)('0' + op));
    fwrite(item, 1, size, server->out);
    fputs("\r\n", server->out);
}

/* The answer to a reserve; answers to deletes may come before it. */
static void receive(struct connection *server)
{
    char line[256];
    do
        if (fgets(line, sizeof line, server->in) == NULL)
            work_die("beanstalkd: the connection ended");
    while (strncmp(line, "DELETED", 7) == 0);
    if (sscanf(line, "RESERVED %lu %zu", &server->id, &server->size) != 2 ||
        server->size + 2 > ITEM_MAX ||
        fread(server->item, 1, server->size + 2, server->in) != server->size + 2)
        work_die("beanstalkd: %s", line);
}

static void work_as_worker(int port)
{
    struct connection server = open_connection(port, "results", "tasks");
    fputs("reserve\r\n", server.out);
    for (;;) {
        fflush(server.out);
        receive(&server);
        const enum work_op op = (enum work_op)(server.item[0] - '0');
        work_do(op, server.item + 1, server.size - 1);
        put(&server, op, server.item + 1, server.size - 1);
        fprintf(server.out, "delete %lu\r\nreserve\r\n", server.id);
        fflush(server.out);
        expect(&server, "INSERTED");
    }
}

static struct connection tasks, results;

static void send_batch(const struct work_items *items, long first, long count)
{
    for (long i = first; i < first + count; i++)
        put(&tasks, items->op, (const char *)items->base + (size_t)i * items->stride,
            items->size);
    fflush(tasks.out);
    for (long i = 0; i < count; i++)
        expect(&tasks, "INSERTED");
}

static void run(const struct work_items *items, long window)
{
    const long step = window < 2 * BATCH ? (window + 1) / 2 : BATCH;
    long sent = 0, asked = 0;
    for (long got = 0; got < items->count; got++) {
        /* In batches: one for each result would be a write and a wait for each. */
        while (sent < items->count && sent - got <= window - step) {
            const long count = items->count - sent < step ? items->count - sent : step;
            send_batch(items, sent, count);
            sent += count;
        }
        if (asked - got < AHEAD / 2)
            for (; asked < sent && asked - got < AHEAD; asked++)
                fputs("reserve\r\n", results.out);
        fflush(results.out);
        receive(&results);
        work_result(results.item + 1, results.size - 1);
        fprintf(results.out, "delete %lu\r\n", results.id);
    }
    fflush(results.out);
}

int main(int argc, char **argv)
{
    static const struct work_peer peer = {run, 100000, 8, 100000};
    if (argc != 3)
        work_die("usage: peer-beanstalk PORT worker|WORK");
    const int port = atoi(argv[1]);
    if (strcmp(argv[2], "worker") == 0)
        work_as_worker(port);
    tasks = open_connection(port, "tasks", "nothing");
    results = open_connection(port, "results-unused", "results");
    work_run(argv[2], &peer);
    return 0;
}
