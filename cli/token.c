/* SPDX-License-Identifier: Apache-2.0
 *
 * token.c: `farpool token`: makes or revokes a join token, as an admin and from anywhere.
 * Without --json the token alone goes to standard output. */
#include "cli/cli.h"
#include "cli/json.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static const char help_text[] =
    "usage: farpool token [OPTIONS]\n"
    "       farpool token [OPTIONS] --revoke ID\n"
    "\n"
    "Prints a join token: one line to paste where a worker starts, which then makes its own\n"
    "key and has it listed: farpool-worker --join. It is a secret: bring it by a file of\n"
    "mode 0600 or a pipe, never by an argument. This takes an admin's key; farpool keys\n"
    "token does the same on the coordinator's machine, without one.\n"
    "\n"
    "      --expires TIME         when it ends: 90s, 30m, 1h, 7d (default: 1h); by the\n"
    "                             coordinator's clock\n"
    "      --uses N               how many workers may join with it (default: 1)\n"
    "      --ephemeral            their keys end with it: for batch jobs\n"
    "      --address ADDRESS      where workers reach the coordinator (default: the one\n"
    "                             asked)\n"
    "      --revoke ID            end a token, and its keys if it is an ephemeral one\n"
    "  -c, --coordinator ADDRESS  whom to ask (default: $FARPOOL_COORDINATOR)\n"
    "  -k, --key FILE             the admin's key (default: $FARPOOL_KEY)\n"
    "  -j, --json                 the token and its id as JSON, for programs\n"
    "      --help                 this text\n"
    "\n"
    "Exit status: 0; 254 usage; 255 no coordinator answered, or it refused.\n"
    "\n"
    "  farpool token --key admin.key --uses 20 | ssh node7 farpool-worker --join -\n";

static const struct option long_options[] = {
    {"expires", required_argument, NULL, 'e'},
    {"uses", required_argument, NULL, 'u'},
    {"ephemeral", no_argument, NULL, 'E'},
    {"address", required_argument, NULL, 'a'},
    {"revoke", required_argument, NULL, 'r'},
    {"coordinator", required_argument, NULL, 'c'},
    {"key", required_argument, NULL, 'k'},
    {"json", no_argument, NULL, 'j'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

struct asking {
    const char *coordinator, *revoke;
    farpool_token_options options;
    bool json, making; /* making: an option that is for new tokens was given */
};

static int fail(const farpool_error *error)
{
    fprintf(stderr, "farpool %s\n", error->text);
    return CLI_ERROR;
}

static int revoke(const struct asking *asking)
{
    farpool_error error;
    if (farpool_cluster_token_revoke(asking->coordinator, CLI_ANSWER_MS, asking->revoke,
                                     &error))
        return fail(&error);
    if (asking->json)
        return cli_print_json("token", json_pack("{s:s}", "revoked", asking->revoke));
    printf("revoked %s\n", asking->revoke);
    return CLI_OK;
}

static const char *told_address(const struct asking *asking)
{
    if (asking->options.address)
        return asking->options.address;
    return asking->coordinator ? asking->coordinator : getenv("FARPOOL_COORDINATOR");
}

static int make(const struct asking *asking)
{
    farpool_error error;
    farpool_token token;
    if (farpool_cluster_token(asking->coordinator, CLI_ANSWER_MS, &asking->options,
                              &token, &error))
        return fail(&error);
    cli_warn_of_loopback("token", told_address(asking));
    const int64_t seconds = asking->options.expires_ms / 1000;
    if (asking->json)
        return cli_print_json("token",
                              json_pack("{s:s, s:s, s:I, s:I, s:b}", "token", token.line,
                                        "id", token.id, "expires_s", (json_int_t)seconds,
                                        "uses", (json_int_t)asking->options.uses,
                                        "ephemeral", (int)asking->options.ephemeral));
    fprintf(stderr,
            "token %s, for %" PRId64 " worker%s within %" PRId64
            " s. It is a secret: farpool-worker --join - asks for it\n",
            token.id, asking->options.uses, asking->options.uses == 1 ? "" : "s",
            seconds);
    puts(token.line);
    return CLI_OK;
}

/* false: said so, or help was asked for: *ret_status. */
static bool take_option(int option, struct asking *asking, int *ret_status)
{
    int64_t seconds = 0;
    *ret_status = CLI_USAGE;
    asking->making |= option == 'e' || option == 'u' || option == 'E' || option == 'a';
    switch (option) {
    case 'e':
        if (!cli_duration("token", "--expires", optarg, 1, CLI_TOKEN_MAX_S, &seconds))
            return false;
        asking->options.expires_ms = 1000 * seconds;
        return true;
    case 'u':
        return cli_number("token", "--uses", optarg, 1, 100000, &asking->options.uses);
    case 'E':
        asking->options.ephemeral = true;
        return true;
    case 'a':
        asking->options.address = optarg;
        return true;
    case 'r':
        asking->revoke = optarg;
        return true;
    case 'c':
        asking->coordinator = optarg;
        return true;
    case 'k':
        cli_set_key(optarg);
        return true;
    case 'j':
        asking->json = true;
        return true;
    case 'h':
        fputs(help_text, stdout);
        *ret_status = CLI_OK;
        return false;
    default:
        fputs("Try: farpool token --help\n", stderr);
        return false;
    }
}

int cli_token(int argc, char **argv)
{
    struct asking asking = {.options = FARPOOL_TOKEN_OPTIONS};
    int option, status;
    asking.options.expires_ms = 3600000;
    asking.options.uses = 1;
    optind = 1;
    while ((option = getopt_long(argc, argv, "c:k:j", long_options, NULL)) != -1)
        if (!take_option(option, &asking, &status))
            return status;
    if (optind < argc)
        return cli_usage_error("token", "'%s' is one argument too many", argv[optind]);
    if (asking.revoke && asking.making)
        return cli_usage_error("token", "--revoke takes no options of a new token");
    return asking.revoke ? revoke(&asking) : make(&asking);
}
