/* SPDX-License-Identifier: Apache-2.0
 *
 * net_ends.h: a few endpoints of common/net in one thread, over real sockets, and what
 * they were told. Included once by each test_net_*.c. */
#ifndef FARPOOL_TESTS_NET_ENDS_H
#define FARPOOL_TESTS_NET_ENDS_H

#include "common/base/mem.h"
#include "common/net/net.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define ENDS_MAX 3
#define NOTES_MAX 6000
#define WAIT_MS 20000

struct note {
    enum net_event_kind kind;
    uint64_t link;
    struct message *message;
    char text[200];
};

static struct end {
    struct net *net;
    struct note notes[NOTES_MAX];
    size_t count;  /* notes */
    uint64_t link; /* of the last NET_UP */
    size_t ups, downs, messages;
} ends[ENDS_MAX];

#define LISTENER (&ends[0])
#define DIALER (&ends[1])
#define SECOND (&ends[2])

static uint64_t ahead_ms; /* of the clock, for tests that have no time */

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return ahead_ms + (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

static void take_note(void *user, struct net_event *event)
{
    struct end *end = user;
    assert_true(end->count < NOTES_MAX);
    struct note *note = &end->notes[end->count++];
    note->kind = event->kind;
    note->link = event->link;
    note->message = event->message;
    event->message = NULL;
    snprintf(note->text, sizeof note->text, "%s", event->text ? event->text : "");
    if (event->kind == NET_UP) {
        end->link = event->link;
        end->ups++;
    } else if (event->kind == NET_DOWN) {
        end->downs++;
    } else if (event->kind == NET_REFUSED) {
        /* only noted */
    } else {
        end->messages++;
    }
}

/* One turn of every open endpoint's loop; of `only` alone, if it is not NULL. */
static inline void turn_some(struct end *only, int wait_max_ms)
{
    struct pollfd fds[ENDS_MAX * NET_WAIT_FDS], *at[ENDS_MAX] = {NULL};
    int timeout_ms = wait_max_ms;
    nfds_t count = 0;
    for (int i = 0; i < ENDS_MAX; i++) {
        if (ends[i].net == NULL || (only != NULL && only != &ends[i]))
            continue;
        net_flush(ends[i].net);
        at[i] = fds + count;
        count += (nfds_t)net_wait_begin(ends[i].net, at[i], &timeout_ms);
        const uint64_t now = now_ms(), deadline = net_deadline(ends[i].net);
        if (deadline < now + (uint64_t)timeout_ms)
            timeout_ms = deadline > now ? (int)(deadline - now) : 0;
    }
    poll(fds, count, timeout_ms);
    for (int i = 0; i < ENDS_MAX; i++) {
        if (at[i] == NULL)
            continue;
        net_wait_end(ends[i].net, at[i]);
        net_poll(ends[i].net, now_ms(), take_note, &ends[i]);
    }
}

static inline void turn(int wait_max_ms)
{
    turn_some(NULL, wait_max_ms);
}

#define TURN_UNTIL(condition)                                                            \
    do {                                                                                 \
        uint64_t limit_ms = now_ms() + WAIT_MS;                                          \
        while (!(condition)) {                                                           \
            if (now_ms() > limit_ms)                                                     \
                fail_msg("never came true: %s", #condition);                             \
            turn(50);                                                                    \
        }                                                                                \
    } while (0)

static inline void open_end(struct end *end, const char *address, char role)
{
    struct net_config config = {.address = address,
                                .role = role,
                                .queue_bytes_max = 64u << 20,
                                .seed = 1,
                                .redial_first_ms = 10,
                                .redial_max_ms = 40};
    farpool_error error = {0};
    int result = role == 'K' ? net_listen(&config, &end->net, &error)
                             : net_dial(&config, &end->net, &error);
    if (result != 0)
        fail_msg("%s: %s", address, error.text);
}

static inline void forget_notes(struct end *end)
{
    for (size_t i = 0; i < end->count; i++)
        message_free(&end->notes[i].message);
    end->count = end->ups = end->downs = end->messages = 0;
}

static inline void close_end(struct end *end)
{
    net_close(end->net, 0);
    end->net = NULL;
    forget_notes(end);
    end->link = 0;
}

static inline int close_ends(void **state)
{
    (void)state;
    for (int i = ENDS_MAX - 1; i >= 0; i--)
        close_end(&ends[i]);
    return 0;
}

static inline void say(struct end *end, uint64_t link, enum message_kind kind)
{
    struct message *message = message_create(kind);
    assert_non_null(message);
    assert_int_equal(net_send(end->net, link, &message), 0);
    assert_null(message);
}

/* A listener and a dialer that has said hello: both have a link. */
static inline void join(struct end *end, char role)
{
    if (LISTENER->net == NULL)
        open_end(LISTENER, "tcp://127.0.0.1:*", 'K');
    size_t ups = LISTENER->ups, messages = LISTENER->messages;
    open_end(end, net_address(LISTENER->net), role);
    TURN_UNTIL(end->ups == 1);
    say(end, end->link, role == 'C' ? MSG_HELLO_CLIENT : MSG_HELLO_WORKER);
    TURN_UNTIL(LISTENER->messages == messages + 1);
    assert_int_equal(LISTENER->ups, ups + 1);
}

static inline const struct note *last_note(const struct end *end)
{
    assert_true(end->count > 0);
    return &end->notes[end->count - 1];
}

#define PATTERN_BYTES (6u << 20)

/* Bytes that do not repeat soon; `first` < 8192 is where the pattern begins. */
static inline const uint8_t *pattern(uint64_t first)
{
    static uint8_t bytes[PATTERN_BYTES];
    for (size_t i = 0; bytes[1] == 0 && i < PATTERN_BYTES; i++)
        bytes[PATTERN_BYTES - 1 - i] = (uint8_t)(i * 31 + (i >> 12) + 1);
    return bytes + first;
}

/* A TASKS with one span whose data are `size` bytes of a pattern; first tells it apart.
 */
static inline struct message *make_tasks(uint64_t first, size_t size)
{
    struct message *message = message_create(MSG_TASKS);
    assert_non_null(message);
    message->tasks.spans = mem_alloc(sizeof *message->tasks.spans);
    assert_non_null(message->tasks.spans);
    message->tasks.spans_count = 1;
    struct msg_span *span = &message->tasks.spans[0];
    span->first = first;
    span->count = 1;
    span->attempt = 1;
    span->data = payload_create(size);
    assert_non_null(span->data);
    if (size > 0)
        memcpy(payload_bytes(span->data), pattern(first), size);
    return message;
}

static inline void check_tasks(const struct message *message, uint64_t first, size_t size)
{
    assert_non_null(message);
    assert_int_equal(message->kind, MSG_TASKS);
    assert_int_equal(message->tasks.spans_count, 1);
    const struct msg_span *span = &message->tasks.spans[0];
    assert_int_equal(span->first, first);
    assert_int_equal(span->data->size, size);
    if (size > 0)
        assert_memory_equal(span->data->data, pattern(first), size);
}

#endif
