/* SPDX-License-Identifier: Apache-2.0
 *
 * core_link.c: the client's end of its link. Says hello, takes the welcome and opens (or
 * joins) the pool on it, keeps the link alive, notices its silence, and decides which
 * message may come when: anything else is answered by dialling again.
 *
 * A link that goes takes nothing with it but what the coordinator knew: every task is
 * still here, and the next welcome sets `resume`, upon which the FLUSH sends again what
 * was under way (core_send.c). */
#include "client/core_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void client_link_down(struct client_core *core)
{
    if (core->link != LINK_REFUSED)
        core->link = LINK_DOWN;
    client_ack_forget(core, 0);
}

int client_link_relink(struct client_core *core, struct client_effects *effects, int code,
                       const char *format, ...)
{
    struct client_effect *effect = client_effects_add(effects, CLIENT_RELINK);
    if (!effect)
        return FARPOOL_ENOMEM;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(effect->text, sizeof effect->text, format, arguments);
    va_end(arguments);
    effect->code = code;
    client_link_down(core);
    return 0;
}

/* Whether there is still something to use a link for. */
static bool link_wanted(const struct client_core *core)
{
    return core->link != LINK_REFUSED &&
           (core->state == POOL_RUNNING ||
            (core->state == POOL_CLOSING && !core->fail_code));
}

int client_link_up(struct client_core *core, struct client_effects *effects)
{
    if (!link_wanted(core))
        return 0;
    struct message *hello = message_create(MSG_HELLO_CLIENT);
    if (hello) {
        hello->hello_client.protocol = PROTOCOL_VERSION;
        snprintf(hello->hello_client.version, sizeof hello->hello_client.version, "%s",
                 FARPOOL_VERSION);
        hello->hello_client.client = core->config.client;
        memcpy(hello->hello_client.host, core->config.host, sizeof core->config.host);
        hello->hello_client.pid = core->config.pid;
        hello->hello_client.lanes = core->config.lanes;
    }
    if (client_send_message(effects, &hello))
        return FARPOOL_ENOMEM;
    if (core->nodes)
        core->nodes_before = core->nodes; /* before the new coordinator tells its own */
    client_link_down(core);
    core->link = LINK_GREETED;
    core->link_number++;
    core->heartbeats = 0;
    core->heard_ms = core->now_ms;
    return 0;
}

static int send_opening(const struct client_core *core, struct client_effects *effects)
{
    struct message *message;
    if (core->config.attach) {
        message = message_create(MSG_POOL_ATTACH);
        if (message)
            message->pool_attach.pool = core->config.pool;
    } else {
        message = message_copy(core->config.open);
        if (message)
            message->pool_open.pool = core->config.pool;
    }
    return client_send_message(effects, &message);
}

static int refuse(struct client_core *core, struct client_effects *effects, int code,
                  const char *text)
{
    const int error = client_pool_fail(core, code, text, "", effects);
    if (!error) {
        client_link_down(core);
        core->link = LINK_REFUSED;
    }
    return error;
}

int client_link_refused(struct client_core *core, const char *text,
                        struct client_effects *effects)
{
    return link_wanted(core) ? refuse(core, effects, FARPOOL_EKEY, text) : 0;
}

static int welcome(struct client_core *core, const struct message *message,
                   struct client_effects *effects)
{
    if (core->link != LINK_GREETED)
        return client_link_relink(core, effects, FARPOOL_EPROTOCOL, "a second WELCOME");
    if (message->welcome.protocol != PROTOCOL_VERSION) {
        char text[128];
        snprintf(text, sizeof text,
                 "the coordinator (%s) speaks protocol %u, this client %d",
                 message->welcome.version, message->welcome.protocol, PROTOCOL_VERSION);
        return refuse(core, effects, FARPOOL_EVERSION, text);
    }
    if (send_opening(core, effects) || client_shared_tell(core, effects))
        return FARPOOL_ENOMEM;
    if (!core->ready_told && !client_effects_add(effects, CLIENT_READY))
        return FARPOOL_ENOMEM;
    core->ready_told = true;
    core->link = LINK_WELCOMED;
    core->resume = true;
    client_lanes_end(core, "the coordinator is another one");
    core->tasks_max = message->welcome.tasks_max;
    core->bytes_max = message->welcome.bytes_max;
    core->body_bytes_max = message->welcome.body_bytes_max
                               ? message->welcome.body_bytes_max
                               : BODY_BYTES_MAX;
    core->heartbeat_ms = message->welcome.heartbeat_ms;
    core->silence_ms = message->welcome.silence_ms;
    return 0;
}

static int read_file(const struct message *message, struct client_effects *effects)
{
    struct client_effect *effect = client_effects_add(effects, CLIENT_READ_FILE);
    if (!effect)
        return FARPOOL_ENOMEM;
    effect->worker = message->fetch.worker;
    effect->content = message->fetch.content;
    effect->offset = message->fetch.offset;
    effect->count = message->fetch.bytes;
    return 0;
}

int client_link_tell_output(const struct message *message, struct client_effects *effects)
{
    struct client_effect *effect = client_effects_add(effects, CLIENT_OUTPUT);
    if (!effect || !(effect->message = message_copy(message)))
        return FARPOOL_ENOMEM;
    return 0;
}

static void take_pool_state(struct client_core *core, const struct message *message)
{
    core->nodes = message->pool_state.nodes;
    core->slots = message->pool_state.slots;
    core->processes = message->pool_state.processes;
    core->started = message->pool_state.started;
}

static void take_job_state(struct client_core *core, const struct message *message)
{
    struct job *job = client_job_find(core, message->job_state.job);
    if (!job)
        return;
    job->running = message->job_state.running;
    job->share_ppm = message->job_state.share_ppm;
    job->state_link = core->link_number;
}

/* The pool that a message is about; NULL: a kind that no coordinator sends. */
static const struct id *pool_of(const struct message *message)
{
    switch (message->kind) {
    case MSG_POOL_STATE:
        return &message->pool_state.pool;
    case MSG_POOL_FAILED:
        return &message->pool_failed.pool;
    case MSG_POOL_CLOSED:
        return &message->pool_closed.pool;
    case MSG_JOB_STATE:
        return &message->job_state.pool;
    case MSG_DONE:
        return &message->done.pool;
    case MSG_FAILED:
        return &message->failed.pool;
    case MSG_LOST:
        return &message->lost.pool;
    case MSG_FETCH:
        return &message->fetch.pool;
    case MSG_CANCEL_JOB:
        return &message->cancel_job.pool;
    case MSG_OUTPUT:
        return &message->output.pool;
    default:
        return NULL;
    }
}

static int take_pool_message(struct client_core *core, const struct message *message,
                             struct client_effects *effects)
{
    switch (message->kind) {
    case MSG_POOL_STATE:
        take_pool_state(core, message);
        return 0;
    case MSG_POOL_FAILED:
        return client_pool_handle_failed(core, message, effects);
    case MSG_POOL_CLOSED:
        return client_pool_handle_closed(core, effects);
    case MSG_JOB_STATE:
        take_job_state(core, message);
        return 0;
    case MSG_DONE:
        return client_results_handle_done(core, message, effects);
    case MSG_FAILED:
        return client_results_handle_failed(core, message, effects);
    case MSG_LOST:
        return client_results_handle_lost(core, message, effects);
    case MSG_CANCEL_JOB:
        client_job_stop(core, message);
        return 0;
    case MSG_OUTPUT:
        return client_link_tell_output(message, effects);
    default:
        return read_file(message, effects);
    }
}

int client_link_message(struct client_core *core, struct message *message,
                        struct client_effects *effects)
{
    /* What still came from a link that was given up. */
    if (core->link == LINK_DOWN || core->link == LINK_REFUSED ||
        core->state == POOL_ENDED)
        return 0;
    core->heard_ms = core->now_ms;
    if (message->kind == MSG_WELCOME)
        return welcome(core, message, effects);
    if (message->kind == MSG_REFUSED)
        return refuse(core, effects, client_pool_code(message->refused.code),
                      message->refused.text);
    if (message->kind == MSG_HEARTBEAT)
        return 0;
    if (core->config.lanes && core->link == LINK_WELCOMED &&
        client_lane_is_about(message->kind))
        return client_lane_told(core, message, effects);
    const struct id *pool = pool_of(message);
    if (!pool || core->link != LINK_WELCOMED)
        return client_link_relink(core, effects, FARPOOL_EPROTOCOL,
                                  "%s was not expected%s", message_name(message->kind),
                                  pool ? " before WELCOME" : "");
    if (!id_equal(pool, &core->config.pool))
        return client_link_relink(core, effects, FARPOOL_EPROTOCOL, "%s for another pool",
                                  message_name(message->kind));
    return take_pool_message(core, message, effects);
}

/* How long the other end may say nothing; UINT64_MAX: no limit. */
static uint64_t silence_end(const struct client_core *core)
{
    if (core->link == LINK_GREETED)
        return core->heard_ms + GREETING_MS;
    if (core->link == LINK_WELCOMED && core->silence_ms)
        return core->heard_ms + core->silence_ms;
    return UINT64_MAX;
}

static uint64_t heartbeat_due(const struct client_core *core)
{
    if (core->link == LINK_WELCOMED && core->heartbeat_ms)
        return core->spoke_ms + core->heartbeat_ms;
    return UINT64_MAX;
}

uint64_t client_link_deadline(const struct client_core *core)
{
    return smaller(silence_end(core), heartbeat_due(core));
}

int client_link_flush_silence(struct client_core *core, struct client_effects *effects)
{
    if (core->now_ms < silence_end(core))
        return 0;
    if (core->link == LINK_GREETED)
        return client_link_relink(core, effects, FARPOOL_ENOCOORDINATOR,
                                  "no answer to hello for %d ms", GREETING_MS);
    return client_link_relink(core, effects, FARPOOL_ENOCOORDINATOR,
                              "the coordinator was silent for %u ms", core->silence_ms);
}

int client_link_flush_heartbeat(struct client_core *core, struct client_effects *effects)
{
    if (core->now_ms < heartbeat_due(core))
        return 0;
    struct message *message = message_create(MSG_HEARTBEAT);
    if (message)
        message->heartbeat.count = core->heartbeats;
    const int error = client_send_message(effects, &message);
    core->heartbeats += error ? 0 : 1;
    return error;
}
