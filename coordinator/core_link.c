/* SPDX-License-Identifier: Apache-2.0
 *
 * core_link.c: the coordinator's ends of its links: what the first word may be, dropping
 * with a reason, refusing, silence and heartbeats.
 *
 * `heard` and `spoke` hold the links in the order of the last message from and to them,
 * so that only the oldest is ever looked at. A dropped link stays until the FLUSH: what
 * the same batch still brings from it is ignored. What a client or a worker leaves behind
 * is the business of core_client.c and core_worker.c. */
#include "coordinator/core_internal.h"

#include <stdarg.h>
#include <stdio.h>

struct link *klink_find(const struct coordinator_core *core, uint64_t number)
{
    struct link *link;
    HASH_FIND(hh, core->links, &number, sizeof number, link);
    return link;
}

static struct link *create(struct coordinator_core *core, uint64_t number,
                           const struct holder *holder)
{
    bool failed = false;
    struct link *link = mem_alloc(sizeof *link);
    if (!link)
        return NULL;
    link->number = number;
    if (holder)
        link->holder = *holder;
    HASH_ADD(hh, core->links, number, sizeof number, link);
    if (failed) {
        mem_free(link);
        return NULL;
    }
    link->heard_ms = core->now_ms;
    TAILQ_INIT(&link->dialled);
    TAILQ_INSERT_TAIL(&core->heard, link, heard_entry);
    return link;
}

static bool links_full(const struct coordinator_core *core)
{
    const uint64_t most = (uint64_t)core->config.workers_max + core->config.clients_max;
    return HASH_COUNT(core->links) >= most + FRESH_LINKS_MAX;
}

/* ------------------------------------------------------- dropping, refusing */

int klink_tell_drop(struct coordinator_core *core, const struct link *link, int code,
                    const char *text)
{
    struct coordinator_effect *effect =
        keffects_add(core, COORDINATOR_DROP, link->number);
    if (!effect)
        return FARPOOL_ENOMEM;
    effect->code = code;
    snprintf(effect->text, sizeof effect->text, "%s", text);
    return 0;
}

void klink_forget(struct coordinator_core *core, struct link *link)
{
    klane_forget_link(core, link);
    if (klink_is_greeted(link))
        TAILQ_REMOVE(&core->spoke, link, spoke_entry);
    TAILQ_REMOVE(&core->heard, link, heard_entry);
    TAILQ_INSERT_TAIL(&core->dropped, link, heard_entry);
    link->state = LINK_DROPPED;
    link->client = NULL;
    link->worker = NULL;
}

void klink_destroy(struct coordinator_core *core, struct link *link)
{
    assert(link->state == LINK_DROPPED);
    TAILQ_REMOVE(&core->dropped, link, heard_entry);
    /* The table is there as long as a link is. NOLINTNEXTLINE(*-core.NullDereference) */
    HASH_DEL(core->links, link);
    mem_free(link);
}

static int tell_gone(struct coordinator_core *core, const struct link *link,
                     const char *text)
{
    if (link->state == LINK_CLIENT)
        return kclient_tell_gone(core, link->client);
    if (link->state == LINK_WORKER)
        return kworker_tell_gone(core, link->worker, text);
    return 0;
}

static void forget(struct coordinator_core *core, struct link *link, const char *why)
{
    if (link->state == LINK_CLIENT)
        kclient_forget(core, link->client);
    else if (link->state == LINK_WORKER)
        kworker_forget(core, link->worker, why);
    else
        klink_forget(core, link);
}

static int drop(struct coordinator_core *core, struct link *link, int code,
                const char *text)
{
    int error = tell_gone(core, link, text);
    if (!error)
        error = klink_tell_drop(core, link, code, text);
    if (!error)
        forget(core, link, text);
    return error;
}

int klink_drop(struct coordinator_core *core, struct link *link, int code,
               const char *format, ...)
{
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return drop(core, link, code, text);
}

int klink_refuse(struct coordinator_core *core, struct link *link, int code,
                 const char *format, ...)
{
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    struct message *message = message_create(MSG_REFUSED);
    if (message) {
        message->refused.code = code;
        snprintf(message->refused.text, sizeof message->refused.text, "%s", text);
    }
    if (ksend(core, link, &message))
        return FARPOOL_ENOMEM;
    return drop(core, link, code, text);
}

int klink_down(struct coordinator_core *core, uint64_t number, const char *text)
{
    struct link *link = klink_find(core, number);
    if (!link)
        return 0;
    const char *why = text ? text : "the connection was lost";
    if (link->state != LINK_DROPPED) {
        if (tell_gone(core, link, why))
            return FARPOOL_ENOMEM;
        forget(core, link, why);
    }
    klink_destroy(core, link);
    return 0;
}

void klink_flush_dropped(struct coordinator_core *core)
{
    struct link *link;
    while ((link = TAILQ_FIRST(&core->dropped)))
        klink_destroy(core, link);
}

/* ----------------------------------------------------------- hello, messages */

int klink_tell_welcome(struct coordinator_core *core, struct link *link, bool client)
{
    const struct coordinator_config *config = &core->config;
    struct message *message = message_create(MSG_WELCOME);
    if (message) {
        message->welcome.protocol = PROTOCOL_VERSION;
        snprintf(message->welcome.version, sizeof message->welcome.version, "%s",
                 FARPOOL_VERSION);
        message->welcome.coordinator = config->coordinator;
        message->welcome.tasks_max = client ? config->client_tasks_max : 0;
        message->welcome.bytes_max =
            client ? config->client_bytes_max : config->result_bytes_max;
        message->welcome.heartbeat_ms = config->heartbeat_ms;
        message->welcome.silence_ms = config->silence_ms;
        message->welcome.body_bytes_max = config->body_bytes_max;
    }
    return ksend(core, link, &message);
}

void klink_greet(struct coordinator_core *core, struct link *link, enum link_state state)
{
    assert(link->state == LINK_FRESH);
    link->state = state;
    link->spoke_ms = core->now_ms;
    TAILQ_INSERT_TAIL(&core->spoke, link, spoke_entry);
}

/* Whether a key's role may say this hello. */
static bool may_join(enum holder_role role, bool client)
{
    switch (role) {
    case HOLDER_NONE:
        return true;
    case HOLDER_CLIENT:
    case HOLDER_ADMIN:
    case HOLDER_RELAYED:
        return client;
    case HOLDER_WORKER:
        return !client;
    case HOLDER_TOKEN:
    case HOLDER_COORDINATOR:
        break;
    }
    return false;
}

static int first_word(struct coordinator_core *core, struct link *link,
                      const struct message *message)
{
    if (message->kind == MSG_ENROL)
        return kkeys_enrol(core, link, message);
    if (message->kind != MSG_HELLO_CLIENT && message->kind != MSG_HELLO_WORKER)
        return klink_drop(core, link, FARPOOL_EPROTOCOL, "%s before hello",
                          message_name(message->kind));
    const bool client = message->kind == MSG_HELLO_CLIENT;
    if (!may_join(link->holder.role, client))
        return klink_refuse(core, link, FARPOOL_EKEY,
                            "the key \"%s\" is of role %s, and cannot join as a %s",
                            link->holder.name, holder_role_name(link->holder.role),
                            client ? "client" : "worker");
    const uint32_t protocol =
        client ? message->hello_client.protocol : message->hello_worker.protocol;
    if (protocol != PROTOCOL_VERSION)
        return klink_refuse(
            core, link, FARPOOL_EVERSION,
            "this %s (%s) speaks protocol %u, the coordinator (%s) speaks %u",
            client ? "client" : "worker",
            client ? message->hello_client.version : message->hello_worker.version,
            protocol, FARPOOL_VERSION, PROTOCOL_VERSION);
    return client ? kclient_hello(core, link, message)
                  : kworker_hello(core, link, message);
}

/* Forwards to a worker by id, if it is still here, what a pool's client says. */
static int fetch(struct coordinator_core *core, struct worker *worker,
                 struct message **message)
{
    const struct pool *pool = kpool_find(core, &(*message)->fetch.pool);
    if (!id_equal(&(*message)->fetch.worker, &worker->id))
        return klink_drop(core, worker->link, FARPOOL_EPROTOCOL,
                          "FETCH in another worker's name");
    if (!id_is_zero(&(*message)->fetch.source))
        return kshared_fetch(core, worker, message);
    if (!pool)
        return kpool_disown(core, worker, &(*message)->fetch.pool);
    /* A client that is still to come: the worker asks again. */
    return pool->owner ? kforward(core, pool->owner->link, message) : 0;
}

static int bye(struct coordinator_core *core, struct link *link,
               const struct message *message)
{
    return klink_drop(core, link, FARPOOL_OK, "left: %s", message->bye.reason);
}

static int worker_message(struct coordinator_core *core, struct worker *worker,
                          struct message **message)
{
    switch ((*message)->kind) {
    case MSG_HEARTBEAT:
        return 0;
    case MSG_BYE:
        return bye(core, worker->link, *message);
    case MSG_DRAIN:
        kwish_free(&worker->drain); /* it knows */
        return kworker_drain(core, worker);
    case MSG_LOAD:
        return kworker_load(core, worker, *message);
    case MSG_DONE:
    case MSG_FAILED:
        return kresults(core, worker, message);
    case MSG_RETURNED:
        return kreturned(core, worker, *message);
    case MSG_HELD:
        return kheld(core, worker, *message);
    case MSG_BEGIN:
        return kbegin(core, worker, *message);
    case MSG_POOL_FAILED:
        return kpool_failed(core, worker, message);
    case MSG_POOL_CLOSED:
        return kpool_closed(core, worker, *message);
    case MSG_FETCH:
        return fetch(core, worker, message);
    case MSG_BLOB:
        return kshared_blob(core, worker, message);
    case MSG_PULLED:
        return kpulled(core, worker, *message);
    case MSG_OUTPUT:
        return koutput(core, worker, message);
    case MSG_LOGS:
        return klogs(core, worker, message);
    case MSG_EXPECTED:
        return klane_expected(core, worker, *message);
    case MSG_LANE:
        return klane_told(core, worker->link, *message);
    default:
        return klink_drop(core, worker->link, FARPOOL_EPROTOCOL,
                          "%s is not for a worker to say at this point",
                          message_name((*message)->kind));
    }
}

static int dispatch(struct coordinator_core *core, struct link *link,
                    struct message **message)
{
    switch (link->state) {
    case LINK_FRESH:
        return first_word(core, link, *message);
    case LINK_CLIENT:
        if ((*message)->kind == MSG_BYE)
            return bye(core, link, *message);
        return kclient_message(core, link->client, message);
    case LINK_WORKER:
        return worker_message(core, link->worker, message);
    case LINK_ENROLLING:
        return klink_drop(core, link, FARPOOL_EPROTOCOL, "%s before its key is listed",
                          message_name((*message)->kind));
    case LINK_DROPPED:
        return 0;
    }
    return 0;
}

int klink_message(struct coordinator_core *core, uint64_t number,
                  const struct holder *holder, struct message **message)
{
    struct link *link = klink_find(core, number);
    if (!link && links_full(core)) {
        const struct link none = {.number = number};
        return klink_tell_drop(core, &none, FARPOOL_EFULL, "too many connections");
    }
    if (!link && !(link = create(core, number, holder)))
        return FARPOOL_ENOMEM;
    if (link->state != LINK_DROPPED) {
        link->heard_ms = core->now_ms;
        TAILQ_REMOVE(&core->heard, link, heard_entry);
        TAILQ_INSERT_TAIL(&core->heard, link, heard_entry);
    }
    const int error = dispatch(core, link, message);
    if (!error)
        message_free(message);
    return error;
}

/* ------------------------------------------------------ silence, heartbeats */

static uint64_t silence_end(const struct coordinator_core *core)
{
    const struct link *link = TAILQ_FIRST(&core->heard);
    return link && core->config.silence_ms
               ? add_saturated(link->heard_ms, core->config.silence_ms)
               : UINT64_MAX;
}

static uint64_t heartbeat_due(const struct coordinator_core *core)
{
    const struct link *link = TAILQ_FIRST(&core->spoke);
    return link && core->config.heartbeat_ms
               ? add_saturated(link->spoke_ms, core->config.heartbeat_ms)
               : UINT64_MAX;
}

uint64_t klink_deadline(const struct coordinator_core *core)
{
    return smaller(silence_end(core), heartbeat_due(core));
}

int klink_flush_silence(struct coordinator_core *core)
{
    int error = 0;
    while (!error && core->now_ms >= silence_end(core)) {
        const size_t mark = core->effects->count;
        error = klink_drop(core, TAILQ_FIRST(&core->heard), FARPOOL_ETIMEDOUT,
                           "silent for %u ms", core->config.silence_ms);
        if (error)
            keffects_truncate(core->effects, mark);
    }
    return error;
}

/* With those that are due goes who will be soon, so that links come to beat together: ten
 * thousand then take some wake-ups a period, here and (their answers) on the way back. */
int klink_flush_heartbeats(struct coordinator_core *core)
{
    const uint64_t soon_ms = core->config.heartbeat_ms / HEARTBEAT_WAVES;
    if (core->now_ms < heartbeat_due(core))
        return 0;
    while (add_saturated(core->now_ms, soon_ms) >= heartbeat_due(core)) {
        struct link *link = TAILQ_FIRST(&core->spoke);
        struct message *message = message_create(MSG_HEARTBEAT);
        if (message)
            message->heartbeat.count = link->heartbeats;
        if (ksend(core, link, &message))
            return FARPOOL_ENOMEM;
        link->heartbeats++;
    }
    return 0;
}
