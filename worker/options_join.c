/* SPDX-License-Identifier: Apache-2.0
 *
 * options_join.c: --join: the token is read before anything is opened, from a file or
 * standard input only: what stands in arguments and environments can be seen by others.
 */
#include "worker/shell.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Where the coordinator is, as a key file that came by a token tells. */
static char key_address[TOKEN_ADDRESS_MAX + 1];
static struct token token;

static int fail(const char *option, const farpool_error *error)
{
    fprintf(stderr, "farpool-worker: %s: %s\n", option, error->text);
    return EXIT_FAILED;
}

/* A key file that cannot be read is told of when it is used. */
static void take_key_address(struct worker_options *options)
{
    struct key_file file;
    farpool_error error;
    if (options->key == NULL || key_load(options->key, &file, &error) != 0)
        return;
    key_wipe(&file);
    memcpy(key_address, file.address, sizeof key_address);
    if (key_address[0] != '\0')
        options->address = key_address;
}

static bool address_is_default(void)
{
    const char *address = getenv("FARPOOL_COORDINATOR");
    return address == NULL || address[0] == '\0';
}

static int read_token(struct worker_options *options, bool address_given)
{
    farpool_error error;
    const char *variable = getenv("FARPOOL_JOIN");
    if (variable == options->join_path && strcmp(variable, "-") == 0) {
        fprintf(stderr, "farpool-worker: FARPOOL_JOIN: a file is wanted, not -\n");
        return EXIT_USAGE;
    }
    if (token_read(options->join_path, &token, &error) != 0)
        return fail("--join", &error);
    options->join = &token;
    if (!address_given)
        options->address = token.address;
    return -1;
}

int worker_read_join(struct worker_options *options, bool address_given)
{
    const bool joined = options->key != NULL && access(options->key, F_OK) == 0;
    if (options->join_path != NULL && !joined)
        return read_token(options, address_given);
    if (!address_given && (options->join_path != NULL || address_is_default()))
        take_key_address(options);
    return -1;
}
