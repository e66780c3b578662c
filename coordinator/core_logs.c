/* SPDX-License-Identifier: Apache-2.0
 *
 * core_logs.c: LOGS_GET of a client without a pool: this daemon's own lines, and those of
 * the workers that are meant, which are asked, and whose LOGS are passed on.
 *
 * Who may see everything sees everything. A client's key sees what processes of its own
 * pools printed, and nothing else; whether another pool is there cannot be told from the
 * answer. Workers are named the pools, and what they answer is looked through again.
 *
 * An asking is one worker asked for one client. It ends with the worker's last LOGS, with
 * either's end, or when the worker has not answered in time; and with the client's next
 * LOGS_GET. An answer to one that has ended is dropped. */
#include "coordinator/core_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define WAIT_MS 2000                     /* for a worker's answer */
#define ASKINGS_MAX 65536                /* of all clients */
#define WORKER_BYTES (UINT64_C(1) << 20) /* that one answer may have, more than kept */
#define REQUEST_BYTES                                                                    \
    (UINT64_C(16) << 20)  /* that one client is sent for one LOGS_GET                    \
                           */
#define LINE_BYTES 40     /* that each counts for besides its text */
#define MESSAGE_BYTES 128 /* and each message */

struct asking {
    uint64_t number, until_ms;
    struct client *client;
    struct worker *worker;
    uint64_t bytes, lines_left; /* that came; that may come */
    TAILQ_ENTRY(asking) entry, client_entry, worker_entry;
};

/* ---------------------------------------------------------------------- rights */

static bool sees_all(const struct holder *holder)
{
    return holder->role == HOLDER_NONE || holder->role == HOLDER_ADMIN;
}

/* The one that ended last counts. */
static const struct ended_pool *find_ended(const struct coordinator_core *core,
                                           const struct id *id)
{
    for (uint64_t i = 1; i <= smaller(core->ended_count, ENDED_POOLS); i++) {
        const struct ended_pool *ended =
            &core->ended[(core->ended_count - i) % ENDED_POOLS];
        if (id_equal(&ended->id, id))
            return ended;
    }
    return NULL;
}

static bool may_see(const struct coordinator_core *core, const struct holder *holder,
                    const struct id *id)
{
    const struct pool *pool = kpool_find(core, id);
    const struct ended_pool *ended = pool ? NULL : find_ended(core, id);
    return sees_all(holder) || (pool && kstatus_may_see(holder, pool)) ||
           (ended && hash_equal(&ended->key, &holder->key));
}

void klogs_pool_ended(struct coordinator_core *core, const struct pool *pool)
{
    static const struct hash none;
    if (!hash_equal(&pool->key, &none))
        core->ended[core->ended_count++ % ENDED_POOLS] =
            (struct ended_pool){pool->id, pool->key};
}

/* The pools whose lines a client's key may see. */
static uint32_t list_pools(const struct coordinator_core *core,
                           const struct holder *holder, struct msg_log_pool *pools)
{
    uint32_t count = 0;
    for (const struct pool *pool = core->pools; pool && count < LIST_MAX;
         pool = pool->hh.next)
        if (kstatus_may_see(holder, pool))
            pools[count++].pool = pool->id;
    for (uint64_t i = 1; i <= smaller(core->ended_count, ENDED_POOLS); i++) {
        const struct ended_pool *ended =
            &core->ended[(core->ended_count - i) % ENDED_POOLS];
        if (count < LIST_MAX && !kpool_find(core, &ended->id) &&
            may_see(core, holder, &ended->id))
            pools[count++].pool = ended->id;
    }
    return count;
}

/* ------------------------------------------------------------------ answering */

static int send_note(struct coordinator_core *core, const struct client *client,
                     const struct worker *worker, uint64_t request, bool more, int code,
                     const char *text)
{
    struct message *message = message_create(MSG_LOGS);
    if (message) {
        message->logs.request = request;
        message->logs.more = more;
        message->logs.code = code;
        snprintf(message->logs.text, sizeof message->logs.text, "%s", text);
        if (worker) {
            message->logs.source = worker->id;
            memcpy(message->logs.node, worker->node, sizeof worker->node);
        }
    }
    return ksend(core, client->link, &message);
}

/* This daemon's own lines. */
static int send_own(struct coordinator_core *core, const struct client *client,
                    const struct message *get, bool others)
{
    const struct id *id = &core->config.coordinator;
    struct logs_reader reader;
    bool more = true;
    logs_read_begin(core->config.logs, get, id, &reader);
    while (more) {
        struct message *message = message_create(MSG_LOGS);
        if (!message || logs_read(&reader, message)) {
            message_free(&message);
            return FARPOOL_ENOMEM;
        }
        more = message->logs.more;
        message->logs.more = more || others;
        message->logs.source = *id;
        if (ksend(core, client->link, &message))
            return FARPOOL_ENOMEM;
    }
    return 0;
}

/* -------------------------------------------------------------------- askings */

static void destroy(struct coordinator_core *core, struct asking *asking)
{
    TAILQ_REMOVE(&core->askings, asking, entry);
    TAILQ_REMOVE(&asking->client->askings, asking, client_entry);
    TAILQ_REMOVE(&asking->worker->askings, asking, worker_entry);
    core->askings_count--;
    mem_free(asking);
}

void klogs_forget_client(struct coordinator_core *core, struct client *client)
{
    struct asking *asking;
    while ((asking = TAILQ_FIRST(&client->askings)))
        destroy(core, asking);
}

void klogs_forget_worker(struct coordinator_core *core, struct worker *worker)
{
    struct asking *asking;
    while ((asking = TAILQ_FIRST(&worker->askings)))
        destroy(core, asking);
}

/* A client asks a worker once at a time. */
static bool is_last(const struct asking *asking)
{
    return TAILQ_FIRST(&asking->client->askings) == asking &&
           !TAILQ_NEXT(asking, client_entry);
}

int klogs_tell_gone(struct coordinator_core *core, const struct worker *worker)
{
    const struct asking *asking;
    int error = 0;
    TAILQ_FOREACH (asking, &worker->askings, worker_entry)
        if (!error)
            error = send_note(core, asking->client, worker, asking->client->logs_request,
                              !is_last(asking), FARPOOL_ENODELOST,
                              "the node went while it was asked");
    return error;
}

int klogs_flush(struct coordinator_core *core)
{
    struct asking *asking;
    while ((asking = TAILQ_FIRST(&core->askings)) && asking->until_ms <= core->now_ms) {
        char text[64];
        snprintf(text, sizeof text, "it has not answered within %d ms", WAIT_MS);
        if (send_note(core, asking->client, asking->worker, asking->client->logs_request,
                      !is_last(asking), FARPOOL_ETIMEDOUT, text))
            return FARPOOL_ENOMEM;
        destroy(core, asking);
    }
    return 0;
}

uint64_t klogs_deadline(const struct coordinator_core *core)
{
    const struct asking *asking = TAILQ_FIRST(&core->askings);
    return asking ? asking->until_ms : UINT64_MAX;
}

void klogs_check(const struct coordinator_core *core)
{
    const struct asking *asking;
    uint64_t count = 0, last_ms = 0;
    TAILQ_FOREACH (asking, &core->askings, entry) {
        assert(asking->until_ms >= last_ms && asking->worker->link->worker);
        assert(asking->client->link->client == asking->client);
        last_ms = asking->until_ms;
        count++;
    }
    assert(count == core->askings_count && count <= ASKINGS_MAX);
}

/* ------------------------------------------------------------------- LOGS_GET */

/* What workers are asked, but for the number and the cursor. */
static struct message *make_question(const struct coordinator_core *core,
                                     const struct client *client,
                                     const struct message *get)
{
    const struct holder *holder = &client->link->holder;
    struct message *question = message_create(MSG_LOGS_GET);
    if (!question ||
        !(question->logs_get.pools = mem_alloc(LIST_MAX * sizeof(struct msg_log_pool))) ||
        !(question->logs_get.cursors = mem_alloc(sizeof(struct msg_log_cursor)))) {
        message_free(&question);
        return NULL;
    }
    question->logs_get.lines = get->logs_get.lines;
    question->logs_get.cursors_count = 1;
    if (get->logs_get.pools_count > 0) {
        question->logs_get.pools_count = get->logs_get.pools_count;
        memcpy(question->logs_get.pools, get->logs_get.pools,
               get->logs_get.pools_count * sizeof *get->logs_get.pools);
    } else if (!sees_all(holder)) {
        question->logs_get.pools_count =
            list_pools(core, holder, question->logs_get.pools);
    }
    return question;
}

static bool is_meant(const struct worker *worker, const struct message *get)
{
    return !get->logs_get.node[0] || strcmp(worker->node, get->logs_get.node) == 0;
}

static int ask(struct coordinator_core *core, const struct asking *asking,
               const struct message *get, const struct message *question)
{
    struct message *copy = message_copy(question);
    if (copy) {
        struct msg_log_cursor *cursor = &copy->logs_get.cursors[0];
        copy->logs_get.request = asking->number;
        cursor->source = asking->worker->id;
        for (uint32_t i = 0; i < get->logs_get.cursors_count; i++)
            if (id_equal(&get->logs_get.cursors[i].source, &cursor->source))
                *cursor = get->logs_get.cursors[i];
    }
    return ksend(core, asking->worker->link, &copy);
}

/* Asks all workers that are meant; the askings are in nobody's list as yet. */
static int ask_all(struct coordinator_core *core, struct client *client,
                   const struct message *get, const struct message *question,
                   struct kasking_list *list)
{
    struct worker *worker;
    TAILQ_FOREACH (worker, &core->joined, entry) {
        if (!is_meant(worker, get))
            continue;
        struct asking *asking = mem_alloc(sizeof *asking);
        if (!asking)
            return FARPOOL_ENOMEM;
        asking->number = ++core->next_asking;
        asking->until_ms = add_saturated(core->now_ms, WAIT_MS);
        asking->client = client;
        asking->worker = worker;
        asking->lines_left = get->logs_get.lines;
        TAILQ_INSERT_TAIL(list, asking, entry);
        if (ask(core, asking, get, question))
            return FARPOOL_ENOMEM;
    }
    return 0;
}

/* In place of those of the client's LOGS_GET before. */
static void keep_askings(struct coordinator_core *core, struct client *client,
                         struct kasking_list *list)
{
    struct asking *asking;
    klogs_forget_client(core, client);
    client->logs_bytes = 0;
    while ((asking = TAILQ_FIRST(list))) {
        TAILQ_REMOVE(list, asking, entry);
        TAILQ_INSERT_TAIL(&core->askings, asking, entry);
        TAILQ_INSERT_TAIL(&client->askings, asking, client_entry);
        TAILQ_INSERT_TAIL(&asking->worker->askings, asking, worker_entry);
        core->askings_count++;
    }
}

static bool wants_own(const struct client *client, const struct message *get)
{
    return sees_all(&client->link->holder) && get->logs_get.pools_count == 0 &&
           (!get->logs_get.node[0] || strcmp(get->logs_get.node, "coordinator") == 0);
}

static int answer(struct coordinator_core *core, struct client *client,
                  const struct message *get, bool any_meant)
{
    struct kasking_list list = TAILQ_HEAD_INITIALIZER(list);
    struct message *question = make_question(core, client, get);
    const uint64_t next = core->next_asking;
    struct asking *asking;
    int error = question ? 0 : FARPOOL_ENOMEM;
    /* No pools in the question would mean all lines. */
    const bool others =
        any_meant && question &&
        (sees_all(&client->link->holder) || question->logs_get.pools_count);
    if (!error && wants_own(client, get))
        error = send_own(core, client, get, others);
    else if (!error && !others)
        error = send_note(core, client, NULL, get->logs_get.request, false, 0, "");
    if (!error && others)
        error = ask_all(core, client, get, question, &list);
    message_free(&question);
    if (!error) {
        client->logs_request = get->logs_get.request;
        keep_askings(core, client, &list);
        return 0;
    }
    core->next_asking = next;
    while ((asking = TAILQ_FIRST(&list))) {
        TAILQ_REMOVE(&list, asking, entry);
        mem_free(asking);
    }
    return error;
}

static int refuse(struct coordinator_core *core, const struct client *client,
                  const struct message *get, int code, const char *text)
{
    return send_note(core, client, NULL, get->logs_get.request, false, code, text);
}

static int refuse_node(struct coordinator_core *core, const struct client *client,
                       const struct message *get)
{
    char text[256];
    const struct worker *worker;
    int used =
        snprintf(text, sizeof text, "no node is called %s; there %s", get->logs_get.node,
                 TAILQ_EMPTY(&core->joined) ? "is none" : "are:");
    TAILQ_FOREACH (worker, &core->joined, entry) {
        if ((size_t)used + strlen(worker->node) + 8 > sizeof text) {
            snprintf(text + used, sizeof text - (size_t)used, " ...");
            break;
        }
        used += snprintf(text + used, sizeof text - (size_t)used, " %s", worker->node);
    }
    return refuse(core, client, get, FARPOOL_EINVAL, text);
}

int klogs_get(struct coordinator_core *core, struct client *client,
              const struct message *get)
{
    const struct holder *holder = &client->link->holder;
    const struct worker *worker;
    uint64_t meant = 0;
    if (client->state != CLIENT_IDLE)
        return klink_drop(core, client->link, FARPOOL_EPROTOCOL,
                          "LOGS_GET is not for a client with a pool to say");
    for (uint32_t i = 0; i < get->logs_get.pools_count; i++)
        if (!may_see(core, holder, &get->logs_get.pools[i].pool))
            return refuse(core, client, get, FARPOOL_ENOPOOL, "no such pool");
    TAILQ_FOREACH (worker, &core->joined, entry)
        meant += is_meant(worker, get);
    if (!meant && get->logs_get.node[0] && strcmp(get->logs_get.node, "coordinator") != 0)
        return refuse_node(core, client, get);
    if (core->askings_count + meant > ASKINGS_MAX)
        return refuse(core, client, get, FARPOOL_EFULL,
                      "too many others are asking for logs now");
    return answer(core, client, get, meant > 0);
}

/* ----------------------------------------------------------------------- LOGS */

static struct asking *find(const struct worker *worker, uint64_t number)
{
    struct asking *asking;
    TAILQ_FOREACH (asking, &worker->askings, worker_entry)
        if (asking->number == number)
            break;
    return asking;
}

static uint64_t count_bytes(const struct message *message)
{
    uint64_t bytes = MESSAGE_BYTES;
    for (uint32_t i = 0; i < message->logs.lines_count; i++)
        bytes += LINE_BYTES + strlen(message->logs.lines[i].text);
    return bytes;
}

/* Takes out what the client may not see; all, if `all`. */
static void take_out(const struct coordinator_core *core, const struct client *client,
                     struct message *message, bool all)
{
    const struct holder *holder = &client->link->holder;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < message->logs.lines_count; i++) {
        const struct msg_log_line line = message->logs.lines[i];
        if (!all && (sees_all(holder) || (line.fd && may_see(core, holder, &line.pool))))
            message->logs.lines[kept++] = line;
        else
            mem_free(line.text);
    }
    message->logs.lines_count = kept;
}

/* The message goes to the client as it is, with what the coordinator knows better. */
static void complete(const struct coordinator_core *core, const struct asking *asking,
                     struct message *message)
{
    struct client *client = asking->client;
    message->logs.request = client->logs_request;
    message->logs.source = asking->worker->id;
    memcpy(message->logs.node, asking->worker->node, sizeof message->logs.node);
    message->logs.code = 0;
    message->logs.text[0] = '\0';
    message->logs.more = message->logs.more || !is_last(asking);
    const uint64_t bytes = count_bytes(message);
    if (client->logs_bytes + bytes > REQUEST_BYTES) {
        message->logs.left_out =
            add_saturated(message->logs.left_out, message->logs.lines_count);
        take_out(core, client, message, true);
    } else {
        client->logs_bytes += bytes;
        take_out(core, client, message, false);
    }
}

int klogs(struct coordinator_core *core, struct worker *worker, struct message **message)
{
    struct message *logs = *message;
    struct asking *asking = find(worker, logs->logs.request);
    if (!asking)
        return 0;
    const uint64_t bytes = count_bytes(logs);
    const bool more = logs->logs.more;
    if (logs->logs.lines_count > asking->lines_left ||
        bytes > WORKER_BYTES - asking->bytes)
        return klink_drop(core, worker->link, FARPOOL_EPROTOCOL,
                          "LOGS with more than was asked for");
    if (kforward(core, asking->client->link, message))
        return FARPOOL_ENOMEM;
    asking->lines_left -= logs->logs.lines_count;
    asking->bytes += bytes;
    complete(core, asking, logs);
    if (!more)
        destroy(core, asking);
    return 0;
}
