/* SPDX-License-Identifier: Apache-2.0
 *
 * gate_asks.c: enrolments, and tokens made and revoked, as they wait for the folder of
 * keys. All that came in a batch is carried out together: a thousand workers that join at
 * once are one write. The coordinator never waits for the folder's lock: it tries again,
 * and gives up after a while with a reason. */
#include "coordinator/gate_asks.h"
#include "common/base/mem.h"
#include "common/keys/keys.h"
#include "common/sys/log.h"

#include <stdio.h>
#include <string.h>

#define AGAIN_MS 20
#define PATIENCE_MS 3000

struct ask {
    uint64_t link;
    uint32_t request;
    struct holder holder; /* who asks */
};

struct gate_asks {
    struct ask *items;
    struct keys_request *requests; /* of the same places */
    size_t count, capacity, requests_capacity;
    uint64_t since_ms, again_ms;
};

struct gate_asks *gate_asks_create(void)
{
    return mem_alloc(sizeof(struct gate_asks));
}

void gate_asks_destroy(struct gate_asks *asks)
{
    if (asks == NULL)
        return;
    mem_free(asks->items);
    mem_free(asks->requests);
    mem_free(asks);
}

/* -------------------------------------------------------------------- asking */

static struct keys_request make_request(const struct holder *holder,
                                        const struct message *message,
                                        uint32_t *ret_request)
{
    struct keys_request request = {.kind = KEYS_ENROL, .token = holder->key};
    *ret_request = 0;
    switch (message->kind) {
    case MSG_TOKEN_MAKE:
        request.kind = KEYS_TOKEN;
        request.token = message->token_make.key;
        request.expires_s = message->token_make.expires_s;
        request.uses = message->token_make.uses;
        request.ephemeral = message->token_make.ephemeral;
        *ret_request = message->token_make.request;
        break;
    case MSG_TOKEN_REVOKE:
        request.kind = KEYS_TOKEN_REVOKE;
        snprintf(request.id, sizeof request.id, "%s", message->token_revoke.token);
        *ret_request = message->token_revoke.request;
        break;
    default:
        request.key = message->enrol.key;
        snprintf(request.name, sizeof request.name, "%s", message->enrol.node);
        break;
    }
    return request;
}

int gate_asks_add(struct gate_asks *asks, uint64_t link, const struct holder *holder,
                  const struct message *message, uint64_t now_ms)
{
    const size_t need = asks->count + 1;
    struct ask ask = {.link = link, .holder = *holder};
    if (!mem_reserve(&asks->items, &asks->capacity, need, sizeof *asks->items) ||
        !mem_reserve(&asks->requests, &asks->requests_capacity, need,
                     sizeof *asks->requests))
        return FARPOOL_ENOMEM;
    if (asks->count == 0)
        asks->since_ms = asks->again_ms = now_ms;
    asks->requests[asks->count] = make_request(holder, message, &ask.request);
    asks->items[asks->count++] = ask;
    return 0;
}

/* ---------------------------------------------------------------- carrying out */

static void fail_all(struct gate_asks *asks, const farpool_error *error)
{
    log_event(LOG_ERROR, "keys-unchanged", "reason=\"%s\"", error->text);
    for (size_t i = 0; i < asks->count; i++) {
        asks->requests[i].code = error->code;
        /* Paths of the coordinator's machine are not for others. */
        snprintf(asks->requests[i].text, sizeof asks->requests[i].text,
                 "the coordinator could not change its lists of keys: its log says why");
    }
}

bool gate_asks_apply(struct gate_asks *asks, const char *folder, int64_t clock_s,
                     uint64_t now_ms)
{
    farpool_error error;
    if (asks->count == 0 || now_ms < asks->again_ms)
        return false;
    const int result =
        keys_apply(folder, asks->requests, asks->count, clock_s, false, &error);
    if (result == FARPOOL_ENOTREADY && now_ms < asks->since_ms + PATIENCE_MS) {
        asks->again_ms = now_ms + AGAIN_MS;
        return false;
    }
    if (result != 0)
        fail_all(asks, &error);
    return true;
}

uint64_t gate_asks_deadline(const struct gate_asks *asks)
{
    return asks->count > 0 ? asks->again_ms : UINT64_MAX;
}

/* --------------------------------------------------------------------- telling */

static void log_done(const struct ask *ask, const struct keys_request *request)
{
    char key[KEY_TEXT_SIZE], id[TOKEN_ID_SIZE + 1];
    if (request->code != 0)
        return; /* told by who refuses */
    switch (request->kind) {
    case KEYS_ENROL:
        log_event(LOG_INFO, "key-enrolled", "name=%s role=worker key=\"%s\" token=%s",
                  request->name, key_text(&request->key, key), ask->holder.name);
        break;
    case KEYS_TOKEN:
        log_event(LOG_INFO, "token-made", "token=%s expires_s=%u uses=%u keys=%s by=%s",
                  token_id(&request->token, id), request->expires_s, request->uses,
                  request->ephemeral ? "ephemeral" : "lasting", ask->holder.name);
        break;
    case KEYS_TOKEN_REVOKE:
        log_event(LOG_INFO, "token-revoked", "token=%s by=%s", request->id,
                  ask->holder.name);
        break;
    }
}

bool gate_asks_tell(struct gate_asks *asks, gate_done_fn *done, void *user)
{
    const size_t count = asks->count;
    for (size_t i = 0; i < count; i++) {
        const struct keys_request *request = &asks->requests[i];
        struct coordinator_keys keys = {.request = asks->items[i].request,
                                        .code = request->code,
                                        .left_s = (uint64_t)request->left_s};
        memcpy(keys.text, request->text, sizeof keys.text);
        memcpy(keys.name, request->name, sizeof keys.name);
        log_done(&asks->items[i], request);
        done(user, asks->items[i].link, &keys);
    }
    asks->count = 0;
    return count > 0;
}
