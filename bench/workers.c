/* SPDX-License-Identifier: Apache-2.0
 *
 * workers.c: many workers for bench/growth, each with a connection of its own and one
 * slot, all in this process. What they speak is the real protocol on real sockets; only
 * the work is none: a task's result, its int64 and one, goes out as soon as the task
 * comes, and says that it took TASK_MS, so that the coordinator gives one worker two
 * chunks at a time, as it would with tasks of that length.
 *
 *   farpool-bench-workers COUNT ADDRESS TASK_MS
 *
 * Says "up" when all were welcomed, and goes on until standard input ends. */
#include "common/base/mem.h"
#include "common/sys/sys.h"
#include "dial.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

enum { SOME = 50, EVENTS = 256, TICK_MS = 50, UP_WITHIN_MS = 300000, TASKS_MAX = 1000 };

struct worker {
    void *link;
    struct id id;
    uint64_t seq; /* of its last result */
    uint64_t spoke_ms;
    bool said, welcomed;
};

static struct worker *workers;
static size_t count, opened, welcomed;
static uint64_t task_ns, beat_ms = 1000;
static int input_tag; /* of standard input */

/* --------------------------------------------------------------------- saying */

static bool send_said(struct worker *worker)
{
    if (!dial_send(worker->link))
        return false;
    worker->spoke_ms = sys_now_ms();
    return true;
}

static void say_hello(struct worker *worker)
{
    static struct utsname machine;
    struct message *hello = dial_need(message_create(MSG_HELLO_WORKER));
    if (uname(&machine) != 0)
        dial_fail("uname", strerror(errno));
    sys_random_id(&worker->id);
    hello->hello_worker.protocol = PROTOCOL_VERSION;
    snprintf(hello->hello_worker.version, sizeof hello->hello_worker.version, "%s",
             FARPOOL_VERSION);
    hello->hello_worker.worker = worker->id;
    snprintf(hello->hello_worker.node, sizeof hello->hello_worker.node, "n%zu",
             (size_t)(worker - workers));
    snprintf(hello->hello_worker.machine, sizeof hello->hello_worker.machine, "%.30s",
             machine.machine);
    hello->hello_worker.slots = 1;
    hello->hello_worker.tasks_max = TASKS_MAX;
    hello->hello_worker.bytes_max = 1 << 20;
    dial_say(worker->link, hello);
    send_said(worker);
    worker->said = true;
}

/* -------------------------------------------------------------------- working */

static struct payload *work(const struct payload *inputs)
{
    const size_t size = inputs == NULL ? 0 : inputs->size;
    int64_t *values = dial_need(malloc(size + 1));
    if (size > 0)
        memcpy(values, inputs->data, size);
    for (size_t i = 0; i < size / sizeof *values; i++)
        values[i]++;
    struct payload *outputs = dial_need(payload_copy(values, size));
    free(values);
    return outputs;
}

static void take_tasks(struct worker *worker, const struct message *tasks)
{
    struct message *message = dial_need(message_create(MSG_DONE));
    struct msg_done *results =
        dial_need(mem_alloc(tasks->tasks.spans_count * sizeof *results));
    for (uint32_t i = 0; i < tasks->tasks.spans_count; i++) {
        const struct msg_span *span = &tasks->tasks.spans[i];
        results[i] = (struct msg_done){.seq = ++worker->seq,
                                       .first = span->first,
                                       .count = span->count,
                                       .attempt = span->attempt,
                                       .elapsed_ns = span->count * task_ns,
                                       .data = work(span->data)};
    }
    message->done.pool = tasks->tasks.pool;
    message->done.job = tasks->tasks.job;
    message->done.worker = worker->id;
    message->done.results = results;
    message->done.results_count = tasks->tasks.spans_count;
    dial_say(worker->link, message);
}

static void answer_to(struct worker *worker, const struct message *message)
{
    struct message *answer = NULL;
    switch (message->kind) {
    case MSG_WELCOME:
        welcomed += !worker->welcomed;
        worker->welcomed = true;
        beat_ms = message->welcome.heartbeat_ms;
        return;
    case MSG_TASKS:
        take_tasks(worker, message);
        return;
    case MSG_HEARTBEAT: /* as worker/core_link.c */
        if (sys_now_ms() >= worker->spoke_ms + beat_ms / 4)
            dial_say(worker->link, message_create(MSG_HEARTBEAT));
        return;
    case MSG_RECALL: /* it has nothing that has not ended */
        answer = dial_need(message_create(MSG_RETURNED));
        answer->returned.pool = message->recall.pool;
        answer->returned.job = message->recall.job;
        dial_say(worker->link, answer);
        return;
    case MSG_POOL_CLOSE:
        answer = dial_need(message_create(MSG_POOL_CLOSED));
        answer->pool_closed.pool = message->pool_close.pool;
        dial_say(worker->link, answer);
        return;
    default:
        return;
    }
}

static void take(void *user, struct message *message)
{
    answer_to(user, message);
    message_free(&message);
}

/* Its descriptor tells of what has come, until the socket was read to its end; a send may
 * take that sign away. */
static void serve(struct worker *worker)
{
    do
        dial_read(worker->link, take, worker);
    while (send_said(worker));
}

/* ------------------------------------------------------------------- the crowd */

/* Some at a time: a handshake has five seconds at the coordinator. */
static void open_some(void)
{
    static struct worker *dialling[SOME];
    for (size_t i = 0; i < SOME; i++) {
        if (dialling[i] != NULL && dialling[i]->welcomed)
            dialling[i] = NULL;
        if (dialling[i] == NULL && opened < count) {
            dialling[i] = &workers[opened++];
            dialling[i]->link = dial_open(dialling[i]);
        }
        if (dialling[i] != NULL && !dialling[i]->said && dial_is_up(dialling[i]->link))
            say_hello(dialling[i]);
    }
}

/* Those that have said nothing for long say that they are there. */
static void beat(void)
{
    static uint64_t looked_ms;
    const uint64_t now_ms = sys_now_ms();
    if (now_ms < looked_ms + TICK_MS)
        return;
    looked_ms = now_ms;
    for (size_t i = 0; i < opened; i++) {
        if (!workers[i].welcomed || now_ms < workers[i].spoke_ms + beat_ms)
            continue;
        dial_say(workers[i].link, message_create(MSG_HEARTBEAT));
        send_said(&workers[i]);
        serve(&workers[i]);
    }
}

/* false: standard input has ended. */
static bool turn(void)
{
    void *tags[EVENTS];
    const size_t ready = dial_wait(TICK_MS, tags, EVENTS);
    for (size_t i = 0; i < ready; i++) {
        if (tags[i] == &input_tag)
            return false;
        serve(tags[i]);
    }
    return true;
}

int main(int argc, char **argv)
{
    uint64_t until_ms;
    if (argc != 4 || atol(argv[1]) < 1 || atol(argv[3]) < 0)
        dial_fail("usage", "farpool-bench-workers COUNT ADDRESS TASK_MS");
    count = (size_t)atol(argv[1]);
    task_ns = (uint64_t)atol(argv[3]) * 1000000;
    workers = dial_need(calloc(count, sizeof *workers));
    dial_start(count, argv[2]);
    dial_watch(STDIN_FILENO, &input_tag);
    until_ms = sys_now_ms() + UP_WITHIN_MS;
    while (welcomed < count) {
        if (sys_now_ms() > until_ms)
            dial_fail("start", "not all of them came up");
        open_some();
        turn();
        beat();
    }
    puts("up");
    fflush(stdout);
    while (turn())
        beat();
    _Exit(0); /* a context that ends waits for each */
}
