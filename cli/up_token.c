/* SPDX-License-Identifier: Apache-2.0
 *
 * up_token.c: the token that the workers of a cluster join with. It is ephemeral: what it
 * enrolled ends with it. */
#include "cli/cli.h"
#include "cli/up.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DAY_MS (INT64_C(24) * 3600 * 1000)

bool up_make_token(struct up_state *state, int64_t uses, int64_t days, char ret_line[512])
{
    farpool_token_options options = FARPOOL_TOKEN_OPTIONS;
    farpool_token token;
    farpool_error error;
    ret_line[0] = '\0';
    if (!state->key[0])
        return true;
    options.expires_ms = days * DAY_MS;
    options.uses = uses < 100000 ? uses : 100000;
    options.ephemeral = true;
    if (farpool_cluster_token(state->address, CLI_ANSWER_MS, &options, &token, &error))
        return up_fail("no token for the workers: %s", error.text);
    snprintf(ret_line, 512, "%s", token.line);
    snprintf(state->token, sizeof state->token, "%s", token.id);
    explicit_bzero(&token, sizeof token);
    return true;
}

bool up_revoke_token(struct up_state *state)
{
    farpool_error error;
    if (!state->token[0])
        return true;
    setenv("FARPOOL_KEY", state->key, 1);
    const int code =
        farpool_cluster_token_revoke(state->address, CLI_ANSWER_MS, state->token, &error);
    /* EINVAL: it has ended by itself. */
    if (code && code != FARPOOL_EINVAL)
        return up_fail("token %s was not revoked: %s", state->token, error.text);
    state->token[0] = '\0';
    return true;
}
