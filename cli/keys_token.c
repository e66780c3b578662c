/* SPDX-License-Identifier: Apache-2.0
 *
 * keys_token.c: `farpool keys token` and `farpool keys tokens`: join tokens, on the
 * coordinator's machine. The token alone goes to standard output. */
#include "cli/cli.h"
#include "cli/keys.h"
#include "common/base/error.h"
#include "common/keys/keys.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* One request, and its outcome as an error. */
static int apply(const char *folder, struct keys_request *request, farpool_error *error)
{
    const int code = keys_apply(folder, request, 1, (int64_t)time(NULL), true, error);
    if (code)
        return code;
    if (request->code)
        return error_set(error, request->code, "%s", request->text);
    return 0;
}

static int make(const char *folder, const struct keys_options *options,
                struct token *ret_token, farpool_error *error)
{
    struct key_file own;
    int code = keys_load_own(folder, &own, error);
    if (code)
        return code;
    key_wipe(&own);
    code = token_make(options->address, &own.holder.key, ret_token, error);
    if (code)
        return code;
    struct keys_request request = {.kind = KEYS_TOKEN,
                                   .token = ret_token->key,
                                   .expires_s = (uint32_t)options->expires_s,
                                   .uses = (uint32_t)options->uses,
                                   .ephemeral = options->ephemeral};
    code = apply(folder, &request, error);
    if (code)
        token_wipe(ret_token);
    return code;
}

int cli_keys_token(char **words, const struct keys_options *options)
{
    struct token token;
    farpool_error error;
    char line[TOKEN_TEXT_SIZE], id[TOKEN_ID_SIZE + 1];
    if (!options->address)
        return cli_usage_error("keys",
                               "token: --address ADDRESS is wanted: where workers "
                               "reach the coordinator, as tcp://head:5764");
    if (strncmp(options->address, "tcp://", 6) != 0 &&
        strncmp(options->address, "ipc://", 6) != 0)
        return cli_usage_error("keys",
                               "token: --address '%s' is not tcp://HOST:PORT or "
                               "ipc://PATH",
                               options->address);
    if (make(words[0], options, &token, &error))
        return cli_keys_fail(&error);
    cli_warn_of_loopback("keys", token.address);
    fprintf(stderr,
            "token %s, for %" PRId64 " worker%s within %" PRId64
            " s. It is a secret: farpool-worker --join - asks for it\n",
            token_id(&token.key, id), options->uses, options->uses == 1 ? "" : "s",
            options->expires_s);
    token_print(&token, line);
    puts(line);
    explicit_bzero(line, sizeof line);
    token_wipe(&token);
    return CLI_OK;
}

static const char *state_of(const struct token_entry *token, int64_t now_s)
{
    if (token->revoked)
        return "revoked";
    if (now_s >= token->expires_s)
        return "expired";
    return token->left == 0 ? "used-up" : "live";
}

int cli_keys_tokens(char **words, const struct keys_options *options)
{
    struct token_list list;
    farpool_error error;
    char when[WHEN_TEXT_SIZE];
    (void)options;
    if (tokens_load(words[0], &list, NULL, &error))
        return cli_keys_fail(&error);
    for (size_t i = 0; i < list.count; i++) {
        const struct token_entry *token = &list.items[i];
        printf("%s %" PRIu32 "/%" PRIu32 " %s %s %s\n", token->id, token->left,
               token->uses, when_text(token->expires_s, when),
               token->ephemeral ? "ephemeral" : "lasting",
               state_of(token, (int64_t)time(NULL)));
    }
    token_list_fini(&list);
    return CLI_OK;
}

int cli_keys_revoke_token(const char *folder, const char *id, farpool_error *error)
{
    struct keys_request request = {.kind = KEYS_TOKEN_REVOKE};
    memcpy(request.id, id, sizeof request.id);
    return apply(folder, &request, error);
}
