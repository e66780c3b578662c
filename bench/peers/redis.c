/* SPDX-License-Identifier: Apache-2.0
 *
 * redis.c: a pool over two Redis lists, as people build it: tasks are popped by whoever
 * is free, results pushed. Everything is pipelined: a worker pushes a result and asks for
 * the next task in one write, the client pushes and takes many at once.
 *
 *   peer-redis PORT worker
 *   peer-redis PORT WORK */
#include "work.h"

#include <hiredis/hiredis.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 128 };

static redisContext *server;

static redisReply *check(void *reply, int type)
{
    redisReply *answer = reply;
    if (answer == NULL)
        work_die("redis: %s", server->errstr);
    if (answer->type != type)
        work_die("redis: unexpected reply %d %s", answer->type,
                 answer->str ? answer->str : "");
    return answer;
}

static redisReply *next_reply(int type)
{
    void *reply = NULL;
    redisGetReply(server, &reply);
    return check(reply, type);
}

/* A task or a result: the operation, then the item. */
static void work_as_worker(void)
{
    redisAppendCommand(server, "BRPOP tasks 0");
    for (;;) {
        redisReply *task = next_reply(REDIS_REPLY_ARRAY);
        char *item = task->element[1]->str;
        const size_t size = task->element[1]->len;
        work_do((enum work_op)item[0], item + 8, size - 8);
        redisAppendCommand(server, "LPUSH results %b", item + 8, size - 8);
        redisAppendCommand(server, "BRPOP tasks 0");
        freeReplyObject(task);
        freeReplyObject(next_reply(REDIS_REPLY_INTEGER));
    }
}

static void push(const struct work_items *items, long first, long count)
{
    static const char *arguments[BATCH + 2] = {"LPUSH", "tasks"};
    static size_t sizes[BATCH + 2] = {5, 5};
    const size_t size = items->size + 8;
    char *block = calloc((size_t)count, size);
    if (block == NULL)
        work_die("memory");
    for (long i = 0; i < count; i++) {
        char *item = block + (size_t)i * size;
        item[0] = (char)items->op;
        memcpy(item + 8, (const char *)items->base + (size_t)(first + i) * items->stride,
               items->size);
        arguments[i + 2] = item;
        sizes[i + 2] = size;
    }
    freeReplyObject(check(redisCommandArgv(server, (int)count + 2, arguments, sizes),
                          REDIS_REPLY_INTEGER));
    free(block);
}

static long take(void)
{
    redisReply *reply =
        check(redisCommand(server, "BLMPOP 0 1 results RIGHT COUNT %d", BATCH),
              REDIS_REPLY_ARRAY);
    const redisReply *values = reply->element[1];
    const long count = (long)values->elements;
    for (long i = 0; i < count; i++)
        work_result(values->element[i]->str, values->element[i]->len);
    freeReplyObject(reply);
    return count;
}

static void run(const struct work_items *items, long window)
{
    for (long sent = 0, got = 0; got < items->count; got += take())
        while (sent < items->count && sent - got < window) {
            long count = items->count - sent;
            if (count > window - (sent - got))
                count = window - (sent - got);
            if (count > BATCH)
                count = BATCH;
            push(items, sent, count);
            sent += count;
        }
}

int main(int argc, char **argv)
{
    static const struct work_peer peer = {run, 4096, 8, 1 << 30};
    if (argc != 3)
        work_die("usage: peer-redis PORT worker|WORK");
    server = redisConnect("127.0.0.1", atoi(argv[1]));
    if (server == NULL || server->err)
        work_die("no redis server at port %s", argv[1]);
    if (strcmp(argv[2], "worker") == 0)
        work_as_worker();
    work_run(argv[2], &peer);
    redisFree(server);
    return 0;
}
