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
#include "common/net/net_internal.h"
#include "common/sys/sys.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/utsname.h>
#include <unistd.h>

enum { SOME = 50, EVENTS = 256, TICK_MS = 50, UP_WITHIN_MS = 300000, TASKS_MAX = 1000 };

struct worker {
    void *socket;
    struct id id;
    uint64_t seq; /* of its last result */
    uint64_t spoke_ms;
    bool said, welcomed;
};

static struct worker *workers;
static size_t count, opened, welcomed;
static const char *address;
static uint64_t task_ns, beat_ms = 1000;
static void *context;
static int sleeper, input_tag; /* epoll; its data for standard input */
static struct envelope envelope;
static zmq_msg_t frames[ENVELOPE_FRAMES_MAX + 1];
static struct payload *bodies[ENVELOPE_FRAMES_MAX];

static _Noreturn void fail(const char *what, const char *why)
{
    fprintf(stderr, "farpool-bench-workers: %s: %s\n", what, why);
    exit(1);
}

static void *need(void *memory)
{
    if (memory == NULL)
        fail("memory", "there is none");
    return memory;
}

/* --------------------------------------------------------------------- saying */

/* Into the envelope; the message is freed. */
static void say(struct message *message)
{
    struct frames wire = {0};
    if (message_encode(need(message), &wire) != 0 || !net_envelope_add(&envelope, &wire))
        fail("encode", message_name(message->kind));
    frames_fini(&wire);
    message_free(&message);
}

static void send_frame(struct worker *worker, const void *data, size_t size, bool more)
{
    if (zmq_send(worker->socket, data, size, ZMQ_DONTWAIT | (more ? ZMQ_SNDMORE : 0)) < 0)
        fail("send", zmq_strerror(errno));
}

static bool send_said(struct worker *worker)
{
    if (envelope.messages == 0)
        return false;
    send_frame(worker, envelope.text, envelope.used, envelope.bodies_count > 0);
    for (size_t i = 0; i < envelope.bodies_count; i++)
        send_frame(worker, envelope.bodies[i]->data, envelope.bodies[i]->size,
                   i + 1 < envelope.bodies_count);
    net_envelope_clear(&envelope);
    worker->spoke_ms = sys_now_ms();
    return true;
}

static void say_hello(struct worker *worker)
{
    static struct utsname machine;
    struct message *hello = need(message_create(MSG_HELLO_WORKER));
    if (uname(&machine) != 0)
        fail("uname", strerror(errno));
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
    say(hello);
    send_said(worker);
    worker->said = true;
}

/* -------------------------------------------------------------------- working */

static struct payload *work(const struct payload *inputs)
{
    const size_t size = inputs == NULL ? 0 : inputs->size;
    int64_t *values = need(malloc(size + 1));
    if (size > 0)
        memcpy(values, inputs->data, size);
    for (size_t i = 0; i < size / sizeof *values; i++)
        values[i]++;
    struct payload *outputs = need(payload_copy(values, size));
    free(values);
    return outputs;
}

static void take_tasks(struct worker *worker, const struct message *tasks)
{
    struct message *message = need(message_create(MSG_DONE));
    struct msg_done *results =
        need(mem_alloc(tasks->tasks.spans_count * sizeof *results));
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
    say(message);
}

static void take(struct worker *worker, const struct message *message)
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
    case MSG_RECALL: /* it has nothing that has not ended */
        answer = need(message_create(MSG_RETURNED));
        answer->returned.pool = message->recall.pool;
        answer->returned.job = message->recall.job;
        say(answer);
        return;
    case MSG_POOL_CLOSE:
        answer = need(message_create(MSG_POOL_CLOSED));
        answer->pool_closed.pool = message->pool_close.pool;
        say(answer);
        return;
    case MSG_REFUSED:
        fail("refused", message->refused.text);
    case MSG_PART:
        fail("received", "a message of more than 1 MiB");
    default:
        return;
    }
}

static void take_envelope(struct worker *worker, size_t bodies_count)
{
    struct envelope_reader reader;
    struct envelope_item item;
    size_t first = 0;
    const char *why = net_envelope_open(zmq_msg_data(&frames[0]),
                                        zmq_msg_size(&frames[0]), bodies_count, &reader);
    if (why != NULL)
        fail("received", why);
    while (net_envelope_next(&reader, &item)) {
        struct message *message = NULL;
        struct payload *header =
            need(payload_wrap(item.header, item.header_size, NULL, NULL));
        const struct frames wire = {header, bodies + first, item.bodies_count};
        if (message_decode(&wire, &message, &why) != 0)
            fail("received", why);
        take(worker, message);
        message_free(&message);
        payload_unref(&header);
        first += item.bodies_count;
    }
}

/* One envelope; false: there is none. */
static bool receive(struct worker *worker)
{
    size_t got = 0;
    bool more = true;
    while (more) {
        if (got > ENVELOPE_FRAMES_MAX)
            fail("received", "too many frames");
        zmq_msg_init(&frames[got]);
        if (zmq_msg_recv(&frames[got], worker->socket, ZMQ_DONTWAIT) < 0)
            return false;
        more = zmq_msg_more(&frames[got]) != 0;
        if (got > 0)
            bodies[got - 1] = need(
                payload_copy(zmq_msg_data(&frames[got]), zmq_msg_size(&frames[got])));
        got++;
    }
    take_envelope(worker, got - 1);
    for (size_t i = 0; i < got; i++)
        zmq_msg_close(&frames[i]);
    for (size_t i = 0; i + 1 < got; i++)
        payload_unref(&bodies[i]);
    return true;
}

/* Its descriptor tells of what has come, until the socket was read to its end; a send may
 * take that sign away. */
static void serve(struct worker *worker)
{
    do {
        while (receive(worker))
            ;
    } while (send_said(worker));
}

/* ------------------------------------------------------------------- the crowd */

static void open_worker(struct worker *worker)
{
    const int none = 0, yes = 1, handshake_ms = UP_WITHIN_MS;
    int fd;
    size_t size = sizeof fd;
    worker->socket = zmq_socket(context, ZMQ_DEALER);
    if (worker->socket == NULL ||
        zmq_setsockopt(worker->socket, ZMQ_LINGER, &none, sizeof none) != 0 ||
        zmq_setsockopt(worker->socket, ZMQ_IMMEDIATE, &yes, sizeof yes) != 0 ||
        zmq_setsockopt(worker->socket, ZMQ_HANDSHAKE_IVL, &handshake_ms,
                       sizeof handshake_ms) != 0 ||
        zmq_connect(worker->socket, address) != 0 ||
        zmq_getsockopt(worker->socket, ZMQ_FD, &fd, &size) != 0)
        fail("socket", zmq_strerror(errno));
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = worker};
    if (epoll_ctl(sleeper, EPOLL_CTL_ADD, fd, &event) != 0)
        fail("epoll", strerror(errno));
}

static bool can_send(const struct worker *worker)
{
    int events = 0;
    size_t size = sizeof events;
    return zmq_getsockopt(worker->socket, ZMQ_EVENTS, &events, &size) == 0 &&
           (events & ZMQ_POLLOUT) != 0;
}

/* Some at a time: a handshake has five seconds at the coordinator. */
static void open_some(void)
{
    static struct worker *dialling[SOME];
    for (size_t i = 0; i < SOME; i++) {
        if (dialling[i] != NULL && dialling[i]->welcomed)
            dialling[i] = NULL;
        if (dialling[i] == NULL && opened < count) {
            dialling[i] = &workers[opened++];
            open_worker(dialling[i]);
        }
        if (dialling[i] != NULL && !dialling[i]->said && can_send(dialling[i]))
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
        say(need(message_create(MSG_HEARTBEAT)));
        send_said(&workers[i]);
        serve(&workers[i]);
    }
}

/* false: standard input has ended. */
static bool turn(void)
{
    struct epoll_event events[EVENTS];
    const int ready = epoll_wait(sleeper, events, EVENTS, TICK_MS);
    for (int i = 0; i < ready; i++) {
        if (events[i].data.ptr == &input_tag)
            return false;
        serve(events[i].data.ptr);
    }
    return true;
}

int main(int argc, char **argv)
{
    struct epoll_event input = {.events = EPOLLIN | EPOLLHUP, .data.ptr = &input_tag};
    farpool_error error;
    uint64_t until_ms;
    if (argc != 4 || atol(argv[1]) < 1 || atol(argv[3]) < 0)
        fail("usage", "farpool-bench-workers COUNT ADDRESS TASK_MS");
    count = (size_t)atol(argv[1]);
    address = argv[2];
    task_ns = (uint64_t)atol(argv[3]) * 1000000;
    workers = need(calloc(count, sizeof *workers));
    context = need(zmq_ctx_new());
    sleeper = epoll_create1(EPOLL_CLOEXEC);
    if (zmq_ctx_set(context, ZMQ_MAX_SOCKETS, (int)count + 8) != 0 ||
        sys_need_files(3 * count + 64, &error) != 0 ||
        epoll_ctl(sleeper, EPOLL_CTL_ADD, STDIN_FILENO, &input) != 0)
        fail("start", "too few open files are allowed");
    until_ms = sys_now_ms() + UP_WITHIN_MS;
    while (welcomed < count) {
        if (sys_now_ms() > until_ms)
            fail("start", "not all of them came up");
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
