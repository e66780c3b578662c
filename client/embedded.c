/* SPDX-License-Identifier: Apache-2.0
 *
 * embedded.c: a pool on this machine's own cores: the coordinator's and the worker's core
 * in this process, joined to the client's by memory. What one sends is moved to the next,
 * not encoded; a move goes round until nothing is left to do, each core flushed when it
 * was stepped, and looks at the processes once, or again when they were asked something.
 * The processes and their queues are the worker's own (worker/host.h).
 *
 * A process ends with the thread that started it, so starting one is left to a move that
 * may (transport_turn.may_start); what else is meant for such a process waits behind its
 * start, in order.
 *
 * Out of memory in a core or between them breaks the pool: nothing is moved any more, and
 * soon it lets go of all (embedded_end): there is no host then, and no link. */
#include "client/embedded.h"
#include "client/shared.h"
#include "common/sys/sys.h"

#include <poll.h>

#define ROUNDS_MAX 10000 /* of one move: more is a loop between cores, our own bug */
#define DUE_UNKNOWN 0

static struct embedded *of(const struct transport *transport)
{
    return (struct embedded *)(uintptr_t)transport;
}

/* ----------------------------------------------------------------- core steps */

static void break_down(struct embedded *embedded, int code)
{
    if (code == FARPOOL_ENOMEM)
        embedded->broken = code;
}

void embedded_step_coordinator(struct embedded *embedded, struct coordinator_event *event)
{
    event->now_ms = embedded->turn->now_ms;
    break_down(embedded, coordinator_core_step(embedded->coordinator, event,
                                               &embedded->coordinator_effects));
    message_free(&event->message);
    embedded->coordinator_stepped = embedded->happened = true;
    embedded->coordinator_due_ms = DUE_UNKNOWN;
}

static void step_worker(struct embedded *embedded, struct worker_event *event)
{
    event->now_ms = embedded->turn->now_ms;
    break_down(embedded,
               worker_core_step(embedded->worker, event, &embedded->worker_effects));
    message_free(&event->message);
    payload_unref(&event->sizes);
    payload_unref(&event->data);
    embedded->worker_stepped = embedded->happened = true;
    embedded->worker_due_ms = DUE_UNKNOWN;
}

/* A core's deadline changes only with its steps. */
static uint64_t coordinator_due(struct embedded *embedded)
{
    if (embedded->coordinator_due_ms == DUE_UNKNOWN)
        embedded->coordinator_due_ms = coordinator_core_deadline(embedded->coordinator);
    return embedded->coordinator_due_ms;
}

static uint64_t worker_due(struct embedded *embedded)
{
    if (embedded->worker_due_ms == DUE_UNKNOWN)
        embedded->worker_due_ms = worker_core_deadline(embedded->worker);
    return embedded->worker_due_ms;
}

void embedded_send(struct embedded *embedded, struct queue *queue, uint64_t link,
                   struct message **message)
{
    break_down(embedded, queue_push(queue, link, message));
    message_free(message);
    embedded->happened = true;
}

/* ---------------------------------------------------------------------- links */

/* The client's or the worker's connection is gone, for the coordinator too. */
static void cut(struct embedded *embedded, uint64_t *link, struct queue *queue,
                bool coordinator_knows)
{
    struct coordinator_event down = {
        .kind = COORDINATOR_LINK_DOWN, .link = *link, .text = "dropped"};

    if (*link == 0)
        return;
    queue_drop(&embedded->to_coordinator, *link);
    queue_drop(queue, 0);
    if (!coordinator_knows)
        embedded_step_coordinator(embedded, &down);
    *link = 0;
    embedded->happened = true;
}

static void connect_client(struct embedded *embedded)
{
    struct client_event up = {.kind = CLIENT_LINK_UP};

    embedded->client_link = ++embedded->links;
    embedded->turn->deliver(embedded->turn->user, &up);
    embedded->happened = true;
}

static void connect_worker(struct embedded *embedded)
{
    struct worker_event up = {.kind = WORKER_LINK_UP};

    embedded->worker_link = ++embedded->links;
    step_worker(embedded, &up);
}

/* -------------------------------------------------------- carrying out effects */

static void drop_link(struct embedded *embedded, uint64_t link, const char *text)
{
    if (link == embedded->client_link) {
        struct client_event down = {.kind = CLIENT_LINK_DOWN, .text = text};

        cut(embedded, &embedded->client_link, &embedded->to_client, true);
        embedded->turn->deliver(embedded->turn->user, &down);
    } else if (link == embedded->worker_link) {
        struct worker_event down = {.kind = WORKER_LINK_DOWN, .text = text};

        cut(embedded, &embedded->worker_link, &embedded->to_worker, true);
        step_worker(embedded, &down);
    } else {
        embedded_relay_drop(embedded, link);
    }
}

/* A drop comes behind what was sent before it: that is delivered first. */
static void deliver_to_client(struct embedded *embedded)
{
    struct message *message;

    while ((message = queue_pop(&embedded->to_client, NULL)) != NULL) {
        struct client_event event = {.kind = CLIENT_MESSAGE, .message = message};

        embedded->turn->deliver(embedded->turn->user, &event);
        embedded->happened = true;
    }
}

static void deliver_to_worker(struct embedded *embedded)
{
    struct message *message;

    while ((message = queue_pop(&embedded->to_worker, NULL)) != NULL) {
        struct worker_event event = {.kind = WORKER_MESSAGE, .message = message};

        step_worker(embedded, &event);
    }
}

static void carry_out_coordinator(struct embedded *embedded)
{
    struct coordinator_effects *effects = &embedded->coordinator_effects;

    for (size_t i = 0; i < effects->count; i++) {
        struct coordinator_effect *effect = &effects->items[i];

        if (effect->kind == COORDINATOR_DROP) {
            deliver_to_client(embedded);
            deliver_to_worker(embedded);
            drop_link(embedded, effect->link, effect->text);
        } else if (effect->link == embedded->client_link) {
            embedded_send(embedded, &embedded->to_client, 0, &effect->message);
        } else if (effect->link == embedded->worker_link) {
            embedded_send(embedded, &embedded->to_worker, 0, &effect->message);
        } else {
            embedded_relay_send(embedded, effect->link, effect->message);
        }
    }
    coordinator_effects_clear(effects);
}

static bool waits_for_start(const struct embedded *embedded, uint64_t process)
{
    for (size_t i = 0; i < embedded->starts_count; i++)
        if (embedded->starts[i].process == process)
            return true;
    return false;
}

/* Leaves it to a move that may start processes. */
static void put_off(struct embedded *embedded, struct worker_effect *effect)
{
    if (!mem_reserve(&embedded->starts, &embedded->starts_capacity,
                     embedded->starts_count + 1, sizeof *embedded->starts)) {
        break_down(embedded, FARPOOL_ENOMEM);
        return;
    }
    embedded->starts[embedded->starts_count++] = *effect;
    effect->data = NULL;
    effect->span = (struct msg_span){0};
}

static void apply(struct embedded *embedded, struct worker_effect *effect)
{
    if (!embedded->turn->may_start && (effect->kind == WORKER_PROCESS_START ||
                                       waits_for_start(embedded, effect->process)))
        put_off(embedded, effect);
    else
        host_apply(embedded->host, effect);
    /* A give is answered when it has been run, all else at the next look. */
    embedded->look |= effect->kind != WORKER_PROCESS_GIVE;
}

static void start_processes(struct embedded *embedded)
{
    if (!embedded->turn->may_start || embedded->starts_count == 0)
        return;
    for (size_t i = 0; i < embedded->starts_count; i++)
        host_apply(embedded->host, &embedded->starts[i]);
    embedded->starts_count = 0;
    embedded->happened = embedded->look = true;
}

static void open_program(struct embedded *embedded, const struct worker_effect *effect)
{
    struct worker_event event = {.kind = WORKER_PROGRAM_READY,
                                 .program = effect->program};

    if (host_set_program(embedded->host, &effect->program, embedded->path,
                         embedded->folder) != 0) {
        event.kind = WORKER_PROGRAM_FAILED;
        event.code = FARPOOL_ENOMEM;
        event.text = "out of memory";
    }
    step_worker(embedded, &event);
}

static void open_shared(struct embedded *embedded, const struct worker_effect *effect)
{
    struct worker_event event = {.kind = WORKER_SHARED_OPENED,
                                 .program = effect->program,
                                 .serial = effect->serial,
                                 .whole = true};

    step_worker(embedded, &event);
}

/* Processes map what the client has, unless it was unshared meanwhile: that is told too.
 */
static void map_shared(struct embedded *embedded, const struct worker_effect *effect)
{
    const struct shared_input *input =
        shared_find(embedded->transport.shared, &effect->program);
    struct host_shared_about about = {
        .pool = effect->pool, .number = effect->shared, .serial = effect->serial};

    if (input == NULL)
        return;
    about.size = input->size;
    break_down(embedded, host_set_shared(embedded->host, &about, input->fd, NULL));
}

static void carry_out_worker(struct embedded *embedded)
{
    struct worker_effects batch = embedded->worker_effects;

    /* Carrying one out may step the core, which makes more. */
    embedded->worker_effects = embedded->worker_batch;
    for (size_t i = 0; i < batch.count; i++) {
        struct worker_effect *effect = &batch.items[i];

        switch (effect->kind) {
        case WORKER_SEND:
            if (embedded->worker_link != 0)
                embedded_send(embedded, &embedded->to_coordinator, embedded->worker_link,
                              &effect->message);
            break;
        case WORKER_RELINK:
            cut(embedded, &embedded->worker_link, &embedded->to_worker, false);
            break;
        case WORKER_PROGRAM_OPEN:
            open_program(embedded, effect);
            break;
        case WORKER_SHARED_OPEN:
            open_shared(embedded, effect);
            break;
        case WORKER_SHARED_MAP:
            map_shared(embedded, effect);
            break;
        case WORKER_SHARED_UNMAP:
            host_unset_shared(embedded->host, &effect->pool, effect->serial);
            break;
        case WORKER_SHARED_WRITE: /* never: all of it is here */
        case WORKER_SHARED_READ:
        case WORKER_SHARED_CLOSE:
        case WORKER_PROGRAM_WRITE:
        case WORKER_PROGRAM_CLOSE:
        case WORKER_ORPHANED: /* never: see orphan_after_ms */
        case WORKER_STOPPED:
            break;
        default:
            apply(embedded, effect);
        }
    }
    host_wake_processes(embedded->host);
    worker_effects_clear(&batch);
    embedded->worker_batch = batch;
}

/* ------------------------------------------------------------------- one move */

static void deliver_host(void *user, struct worker_event *event)
{
    struct embedded *embedded = user;

    if (event->kind == WORKER_PROCESS_GONE)
        if (!embedded_relay_note(embedded, event->process, NULL))
            embedded->broken = FARPOOL_ENOMEM;
    step_worker(embedded, event);
}

static void run_worker(struct embedded *embedded)
{
    struct worker_event flush = {.kind = WORKER_FLUSH, .now_ms = embedded->turn->now_ms};

    if (embedded->worker_link == 0)
        connect_worker(embedded);
    if (embedded->look) {
        embedded->look = false;
        host_poll(embedded->host, embedded->turn->now_ms, deliver_host, embedded);
        embedded_relay_run(embedded);
    }
    deliver_to_worker(embedded);
    if (!embedded->worker_stepped && embedded->turn->now_ms < worker_due(embedded))
        return;
    embedded->worker_stepped = false;
    embedded->worker_due_ms = DUE_UNKNOWN;
    break_down(embedded,
               worker_core_step(embedded->worker, &flush, &embedded->worker_effects));
    carry_out_worker(embedded);
}

static void run_coordinator(struct embedded *embedded)
{
    struct coordinator_event event;
    uint64_t link;

    while (!queue_empty(&embedded->to_coordinator)) {
        event = (struct coordinator_event){.kind = COORDINATOR_MESSAGE};
        event.message = queue_pop(&embedded->to_coordinator, &link);
        event.link = link;
        if (event.message != NULL)
            embedded_step_coordinator(embedded, &event);
    }
    if (!embedded->coordinator_stepped &&
        embedded->turn->now_ms < coordinator_due(embedded))
        return;
    embedded->coordinator_stepped = false;
    embedded->coordinator_due_ms = DUE_UNKNOWN;
    event = (struct coordinator_event){.kind = COORDINATOR_FLUSH,
                                       .now_ms = embedded->turn->now_ms};
    break_down(embedded, coordinator_core_step(embedded->coordinator, &event,
                                               &embedded->coordinator_effects));
    carry_out_coordinator(embedded);
}

/* Whether another round would find something to do. */
static bool has_more(const struct embedded *embedded)
{
    return embedded->look || embedded->worker_stepped || embedded->coordinator_stepped ||
           embedded->worker_link == 0 || !queue_empty(&embedded->to_worker) ||
           !queue_empty(&embedded->to_coordinator);
}

static bool move(struct transport *transport, const struct transport_turn *turn)
{
    struct embedded *embedded = of(transport);
    bool any = false;

    if (embedded->broken != 0 || embedded->host == NULL)
        return false;
    embedded->turn = turn;
    embedded->happened = false;
    embedded->look = true;
    if (embedded->client_link == 0)
        connect_client(embedded);
    for (int round = 0; round < ROUNDS_MAX && embedded->broken == 0; round++) {
        start_processes(embedded);
        run_worker(embedded);
        run_coordinator(embedded);
        deliver_to_client(embedded);
        any |= embedded->happened;
        embedded->happened = false;
        if (!has_more(embedded))
            break;
    }
    embedded->turn = NULL;
    return any;
}

/* -------------------------------------------------------- the transport's calls */

static int send_message(struct transport *transport, uint64_t lane,
                        struct message **message)
{
    (void)lane; /* it has none */
    struct embedded *embedded = of(transport);

    if (embedded->client_link == 0) {
        message_free(message); /* of a connection that is gone */
        return 0;
    }
    return queue_push(&embedded->to_coordinator, embedded->client_link, message);
}

static void relink(struct transport *transport, const char *text)
{
    struct embedded *embedded = of(transport);
    struct transport_turn turn = {.now_ms = sys_now_ms()};
    const struct transport_turn *outer = embedded->turn;

    (void)text;
    if (outer == NULL)
        embedded->turn = &turn;
    cut(embedded, &embedded->client_link, &embedded->to_client, false);
    embedded->turn = outer;
}

static uint64_t deadline(const struct transport *transport)
{
    struct embedded *embedded = of(transport);
    uint64_t coordinator, worker, host;

    if (embedded->host == NULL)
        return UINT64_MAX;
    coordinator = coordinator_due(embedded);
    worker = worker_due(embedded);
    host = host_deadline(embedded->host);
    if (host < worker)
        worker = host;
    return coordinator < worker ? coordinator : worker;
}

static bool sleep_begins(struct transport *transport)
{
    const struct embedded *embedded = of(transport);

    return embedded->host == NULL || host_sleep(embedded->host);
}

static void wait(struct transport *transport, uint64_t until_ms)
{
    struct embedded *embedded = of(transport);
    int host_file = embedded->host != NULL ? host_fd(embedded->host) : -1;
    struct pollfd fds[] = {{.fd = host_file, .events = POLLIN},
                           {.fd = embedded->wake_fd, .events = POLLIN}};

    poll(fds, 2, wake_timeout(sys_now_ms(), until_ms));
}

static void woken(struct transport *transport)
{
    struct embedded *embedded = of(transport);

    if (embedded->host != NULL)
        host_wake(embedded->host);
    wake_clear(embedded->wake_fd);
}

static void wake(struct transport *transport)
{
    wake_send(of(transport)->wake_fd);
}

static bool may_spin(const struct transport *transport)
{
    const struct embedded *embedded = of(transport);
    struct worker_counts counts;

    if (embedded->host == NULL)
        return false;
    worker_core_counts(embedded->worker, &counts);
    return counts.running > 0 && counts.running < embedded->cores;
}

static bool starts(const struct transport *transport)
{
    const struct embedded *embedded = of(transport);

    return embedded->broken == 0 && embedded->starts_count > 0;
}

static void info(const struct transport *transport, farpool_pool_info *info)
{
    const struct embedded *embedded = of(transport);
    struct worker_counts counts = {0};

    if (embedded->host != NULL)
        worker_core_counts(embedded->worker, &counts);
    info->embedded = true;
    info->connected = true;
    info->nodes = 1;
    info->slots = embedded->slots;
    info->processes = counts.processes;
    info->tasks_running = counts.running;
}

static int broken(const struct transport *transport)
{
    return of(transport)->broken;
}

static void let_go(struct transport *transport)
{
    embedded_end(of(transport));
}
static void close_transport(struct transport *transport)
{
    embedded_close(of(transport));
}

const struct transport_kind embedded_kind = {
    .name = "embedded",
    .embedded = true,
    .lends = true,
    .threaded = true,
    .close = close_transport,
    .send = send_message,
    .relink = relink,
    .move = move,
    .deadline = deadline,
    .sleep = sleep_begins,
    .wait = wait,
    .woken = woken,
    .wake = wake,
    .may_spin = may_spin,
    .starts = starts,
    .info = info,
    .broken = broken,
    .let_go = let_go,
};
