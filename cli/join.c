/* SPDX-License-Identifier: Apache-2.0
 *
 * join.c: `farpool join`: uses a join token to get a worker's key file, for those who
 * start the worker later, or otherwise. */
#include "cli/cli.h"
#include "common/keys/keys.h"
#include "common/sys/sys.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#define WAIT_MS 20000 /* a coordinator may be just starting */

static const char help_text[] =
    "usage: farpool join --out FILE [--name NAME] [TOKENFILE]\n"
    "\n"
    "Makes a worker's key, has it listed with the join token in TOKENFILE (mode 0600) or on\n"
    "standard input, and writes it to FILE, for farpool-worker --key FILE, which then knows\n"
    "the coordinator's address too. farpool-worker --join does the same as it starts.\n"
    "\n"
    "  -o, --out FILE   where the key goes; must not be there yet. When this is\n"
    "                   interrupted, say the same again: no second use is spent\n"
    "  -n, --name NAME  what the key shall be called (default: the host name)\n"
    "      --help       this text\n"
    "\n"
    "Exit status: 0; 254 usage; 255 it could not be done.\n";

static const struct option long_options[] = {
    {"out", required_argument, NULL, 'o'},
    {"name", required_argument, NULL, 'n'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static int fail(const farpool_error *error)
{
    fprintf(stderr, "farpool join: %s\n", error->text);
    return CLI_ERROR;
}

static int join(const char *source, const char *name, const char *out)
{
    struct token token;
    farpool_error error;
    char line[TOKEN_TEXT_SIZE], got[64];
    if (token_read(source, &token, &error))
        return fail(&error);
    token_print(&token, line);
    token_wipe(&token);
    const int code = farpool_cluster_join(line, WAIT_MS, name, out, got, &error);
    explicit_bzero(line, sizeof line);
    if (code) {
        fprintf(stderr, "farpool %s\n", error.text);
        return CLI_ERROR;
    }
    printf("made %s: the key of worker %s, at %s\n", out, got, token.address);
    return CLI_OK;
}

int cli_join(int argc, char **argv)
{
    const char *out = NULL;
    char name[64];
    int option;
    sys_host(name, sizeof name);
    optind = 1;
    while ((option = getopt_long(argc, argv, "o:n:", long_options, NULL)) != -1) {
        if (option == 'o') {
            out = optarg;
        } else if (option == 'n' && optarg[0] && strlen(optarg) < sizeof name) {
            snprintf(name, sizeof name, "%s", optarg);
        } else if (option == 'n') {
            return cli_usage_error("join", "--name '%s': 1 to 63 bytes are wanted",
                                   optarg);
        } else if (option == 'h') {
            fputs(help_text, stdout);
            return CLI_OK;
        } else {
            fputs("Try: farpool join --help\n", stderr);
            return CLI_USAGE;
        }
    }
    if (!out)
        return cli_usage_error("join", "--out FILE is wanted");
    if (argc - optind > 1)
        return cli_usage_error("join", "'%s' is one argument too many", argv[optind + 1]);
    return join(optind < argc ? argv[optind] : "-", name, out);
}
