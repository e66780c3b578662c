/* SPDX-License-Identifier: Apache-2.0
 *
 * token.c: join tokens as programs use them: made and revoked with an admin's key, and
 * used to get a worker's key file. A token's secret is made here, and goes into the line
 * that the caller gets, and nowhere else. */
#include "client/credential.h"
#include "client/operator.h"
#include "client/query.h"
#include "common/base/error.h"
#include "common/keys/keys.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPIRES_DEFAULT_MS 3600000
#define EXPIRES_MAX_MS (INT64_C(1000) * TOKEN_EXPIRES_MAX_S)

/* ---------------------------------------------------------------------- making */

static int read_options(const farpool_token_options *options,
                        farpool_token_options *ret_options, farpool_error *error)
{
    const farpool_token_options defaults = FARPOOL_TOKEN_OPTIONS;

    *ret_options = options != NULL ? *options : defaults;
    if (ret_options->struct_size != sizeof *ret_options)
        return error_set(error, FARPOOL_EINVAL,
                         "token: options: struct_size is %zu, %zu is wanted: begin with "
                         "FARPOOL_TOKEN_OPTIONS",
                         ret_options->struct_size, sizeof *ret_options);
    if (ret_options->expires_ms == FARPOOL_AUTO)
        ret_options->expires_ms = EXPIRES_DEFAULT_MS;
    if (ret_options->uses == FARPOOL_AUTO)
        ret_options->uses = 1;
    if (ret_options->expires_ms < 1000 || ret_options->expires_ms > EXPIRES_MAX_MS)
        return error_set(error, FARPOOL_EINVAL,
                         "token: expires_ms is %" PRId64 ", 1000 (a second) to %" PRId64
                         " (366 days) is wanted",
                         ret_options->expires_ms, EXPIRES_MAX_MS);
    if (ret_options->uses < 1 || ret_options->uses > TOKEN_USES_MAX)
        return error_set(error, FARPOOL_EINVAL,
                         "token: uses is %" PRId64 ", 1 to %d is wanted",
                         ret_options->uses, TOKEN_USES_MAX);
    return 0;
}

/* Where workers reach the coordinator, which must be where one can dial. */
static int make_token(const char *address, const farpool_token_options *options,
                      struct token *ret_token, farpool_error *error)
{
    struct hash server;
    const char *told = options->address != NULL ? options->address : address;
    int code;

    if (told == NULL)
        told = getenv("FARPOOL_COORDINATOR");
    if (told == NULL || told[0] == '\0')
        return error_set(
            error, FARPOOL_EADDRESS,
            "token: no address is given, and FARPOOL_COORDINATOR is not set");
    code = net_check_address(told, false, true, error);
    if (code == 0)
        code = credential_server(&server, error);
    if (code == 0)
        code = token_make(told, &server, ret_token, error);
    return code;
}

static struct message *make_question(const struct token *token,
                                     const farpool_token_options *options)
{
    struct message *question = message_create(MSG_TOKEN_MAKE);

    if (question != NULL) {
        question->token_make.key = token->key;
        question->token_make.expires_s = (uint32_t)((options->expires_ms + 999) / 1000);
        question->token_make.uses = (uint32_t)options->uses;
        question->token_make.ephemeral = options->ephemeral;
    }
    return question;
}

int farpool_cluster_token(const char *address, int64_t timeout_ms,
                          const farpool_token_options *options, farpool_token *ret_token,
                          farpool_error *error)
{
    farpool_token_options filled;
    struct token token;
    int code = read_options(options, &filled, error);

    if (code == 0)
        code = make_token(address, &filled, &token, error);
    if (code != 0)
        return code;
    code = operator_ask("token", make_question(&token, &filled), address, timeout_ms,
                        NULL, NULL, error);
    if (code == 0) {
        token_print(&token, ret_token->line);
        token_id(&token.key, ret_token->id);
    }
    token_wipe(&token);
    return code;
}

int farpool_cluster_token_revoke(const char *address, int64_t timeout_ms, const char *id,
                                 farpool_error *error)
{
    struct message *question;

    if (id == NULL || !token_id_valid(id))
        return error_set(error, FARPOOL_EINVAL,
                         "token: an id of 16 hexadecimal digits is wanted, as farpool "
                         "token tells it");
    question = message_create(MSG_TOKEN_REVOKE);
    if (question != NULL)
        snprintf(question->token_revoke.token, sizeof question->token_revoke.token, "%s",
                 id);
    return operator_ask("token", question, address, timeout_ms, NULL, NULL, error);
}

/* ---------------------------------------------------------------------- joining */

static int take_enrolled(void *user, const struct message *answer, bool *ret_complete)
{
    struct key_file *file = user;

    if (!key_name_valid(answer->enrolled.name))
        return FARPOOL_EPROTOCOL;
    snprintf(file->holder.name, sizeof file->holder.name, "%s", answer->enrolled.name);
    *ret_complete = true;
    return 0;
}

static struct message *make_enrol(const struct key_file *file, const char *name)
{
    struct message *question = message_create(MSG_ENROL);

    if (question != NULL) {
        question->enrol.protocol = PROTOCOL_VERSION;
        snprintf(question->enrol.version, sizeof question->enrol.version, "%s",
                 FARPOOL_VERSION);
        question->enrol.key = file->holder.key;
        snprintf(question->enrol.node, sizeof question->enrol.node, "%s", name);
    }
    return question;
}

static int enrol(const struct token *token, int64_t timeout_ms, const char *name,
                 struct key_file *file, farpool_error *error)
{
    struct net_keys keys = {.own = token->key, .server = token->server};
    struct query query = {.call = "join",
                          .question = make_enrol(file, name),
                          .answer = MSG_ENROLLED,
                          .take = take_enrolled,
                          .user = file,
                          .keys = &keys};
    int code;

    memcpy(keys.secret, token->secret, sizeof keys.secret);
    code = query_ask(&query, token->address, timeout_ms, error);
    explicit_bzero(&keys, sizeof keys);
    return code;
}

int farpool_cluster_join(const char *line, int64_t timeout_ms, const char *name,
                         const char *path, char ret_name[64], farpool_error *error)
{
    struct token token;
    struct key_file file;
    int code;

    if (line == NULL || path == NULL || path[0] == '\0')
        return error_set(error, FARPOOL_EINVAL, "join: a token and a path are wanted");
    if (name == NULL || name[0] == '\0' || strlen(name) > NODE_NAME_MAX)
        return error_set(error, FARPOOL_EINVAL, "join: a name has 1 to %d bytes",
                         NODE_NAME_MAX);
    code = token_parse(line, &token, error);
    if (code != 0)
        return code;
    code = token_begin(&token, path, &file, error);
    if (code == 0) {
        code = enrol(&token, timeout_ms, name, &file, error);
        if (code == 0)
            code = token_end(path, &file, error);
        if (code == 0 && ret_name != NULL)
            memcpy(ret_name, file.holder.name, sizeof file.holder.name);
        key_wipe(&file);
    }
    token_wipe(&token);
    return code;
}
