/* SPDX-License-Identifier: Apache-2.0
 *
 * cli/keys.h: what the files of `farpool keys` share. */
#ifndef FARPOOL_CLI_KEYS_H
#define FARPOOL_CLI_KEYS_H

#include <farpool.h>

struct keys_options {
    unsigned given; /* which of them */
    const char *out, *address;
    int64_t overlap_s, expires_s, uses;
    bool ephemeral;
};

int cli_keys_fail(const farpool_error *error); /* says it; the exit status */

/* words: those behind the action's name. */
int cli_keys_token(char **words, const struct keys_options *options);
int cli_keys_tokens(char **words, const struct keys_options *options);
/* 0, or an error. */
int cli_keys_revoke_token(const char *folder, const char *id, farpool_error *error);

#endif
