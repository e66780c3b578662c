/* SPDX-License-Identifier: Apache-2.0
 *
 * nested.c: a pool opened inside a task: its messages go through the queues of the
 * process that the task runs in, to the worker's daemon (or the embedding program) and on
 * to the coordinator. One process has one such connection, so a task has one pool open at
 * a time; one that an earlier task of this process left behind is put aside.
 *
 * All of it is on the thread of the task. */
#include "client/process.h"
#include "client/queue.h"
#include "client/transport.h"
#include "common/base/error.h"
#include "common/base/mem.h"

struct nested {
    struct transport transport;
    struct queue queue;
    const farpool_task *task; /* that opened it */
    uint64_t index;           /* of that task, which may be another one later */
    bool up;
    bool aside; /* another pool has taken the connection */
    int broken;
};

static struct nested *present; /* who has the connection */

static struct nested *of(const struct transport *transport)
{
    return (struct nested *)(uintptr_t)transport;
}

static void connect_again(struct nested *nested, const struct transport_turn *turn)
{
    struct client_event down = {.kind = CLIENT_LINK_DOWN,
                                .text = "the connection was lost"};
    struct client_event up = {.kind = CLIENT_LINK_UP};

    if (nested->up)
        turn->deliver(turn->user, &down);
    queue_drop(&nested->queue, 0);
    nested->up = true;
    turn->deliver(turn->user, &up);
}

static bool receive(struct nested *nested, const struct transport_turn *turn)
{
    struct client_event event = {.kind = CLIENT_MESSAGE};
    struct frames frames;
    const char *reason;

    if (process_relay_receive(&frames) != 0)
        return false;
    if (frames.header == NULL || frames.header->size == 0 ||
        message_decode(&frames, &event.message, &reason) != 0 ||
        !message_allowed(event.message->kind, 'K', 'C')) {
        message_free(&event.message);
        connect_again(nested, turn);
    } else {
        turn->deliver(turn->user, &event);
    }
    frames_fini(&frames);
    return true;
}

static bool send_queued(struct nested *nested)
{
    bool any = false;
    struct message *message;

    while ((message = queue_pop(&nested->queue, NULL)) != NULL) {
        struct frames frames = {0};
        int code = message_encode(message, &frames);

        if (code == 0)
            code = process_relay_send(&frames);
        if (code == FARPOOL_ENOMEM)
            nested->broken = code;
        frames_fini(&frames);
        message_free(&message);
        any = true;
    }
    return any;
}

static bool move(struct transport *transport, const struct transport_turn *turn)
{
    struct nested *nested = of(transport);
    bool any = false;

    if (nested->aside)
        return false;
    if (!nested->up) {
        connect_again(nested, turn);
        any = true;
    }
    any |= send_queued(nested);
    while (receive(nested, turn))
        any = true;
    return any;
}

static int send_message(struct transport *transport, uint64_t lane,
                        struct message **message)
{
    (void)lane; /* it has none */
    struct nested *nested = of(transport);

    if (!nested->up || nested->aside) {
        message_free(message);
        return 0;
    }
    return queue_push(&nested->queue, 0, message);
}

static void relink(struct transport *transport, const char *text)
{
    (void)text;
    queue_drop(&of(transport)->queue, 0);
    of(transport)->up = false;
}

static uint64_t deadline(const struct transport *transport)
{
    (void)transport;
    return UINT64_MAX;
}

static bool sleep_begins(struct transport *transport)
{
    return queue_empty(&of(transport)->queue);
}

static void wait(struct transport *transport, uint64_t until_ms)
{
    (void)transport;
    process_relay_wait(until_ms);
}

static void nothing(struct transport *transport)
{
    (void)transport;
}

static int broken(const struct transport *transport)
{
    return of(transport)->aside ? FARPOOL_ECLOSED : of(transport)->broken;
}

static void close_nested(struct transport *transport)
{
    struct nested *nested = of(transport);

    if (nested == NULL)
        return;
    if (nested == present) {
        send_queued(nested);
        present = NULL;
    }
    queue_fini(&nested->queue);
    mem_free(nested);
}

static const struct transport_kind nested_kind = {
    .name = "nested",
    .close = close_nested,
    .send = send_message,
    .relink = relink,
    .move = move,
    .deadline = deadline,
    .sleep = sleep_begins,
    .wait = wait,
    .woken = nothing,
    .wake = nothing,
    .broken = broken,
};

/* Whether the task that has the connection is the one that runs now. */
static bool is_present_task(void)
{
    const farpool_task *task = farpool_task_current();

    return present != NULL && task != NULL && present->task == task &&
           present->index == process_task_index(task);
}

int nested_open(struct transport **ret_transport, farpool_error *error)
{
    struct nested *nested;

    if (is_present_task())
        return error_set(error, FARPOOL_EFULL,
                         "open: a task can have its pool open once; use the one that is "
                         "open, or free it first");
    nested = mem_alloc(sizeof *nested);
    if (nested == NULL)
        return error_set(error, FARPOOL_ENOMEM, "open: out of memory");
    nested->transport.kind = &nested_kind;
    nested->task = farpool_task_current();
    nested->index = process_task_index(nested->task);
    if (present != NULL)
        present->aside = true;
    present = nested;
    *ret_transport = &nested->transport;
    return 0;
}
