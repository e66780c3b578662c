/* SPDX-License-Identifier: Apache-2.0
 *
 * keys.c: `farpool keys`: makes, lists, replaces and revokes the keys of a cluster, and
 * its join tokens (keys_token.c). It works on the coordinator's folder of keys, and talks
 * to nobody. Of secrets it prints tokens alone, which are made to be carried. */
#include "cli/keys.h"
#include "cli/cli.h"
#include "common/keys/keys.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static const char help_text[] =
    "usage: farpool keys init FOLDER\n"
    "       farpool keys add FOLDER ROLE NAME --out FILE\n"
    "       farpool keys list FOLDER\n"
    "       farpool keys revoke FOLDER NAME|TOKEN\n"
    "       farpool keys rotate FOLDER NAME --out FILE [--overlap TIME]\n"
    "       farpool keys token FOLDER --address ADDRESS [--expires TIME] [--uses N]\n"
    "                    [--ephemeral]\n"
    "       farpool keys tokens FOLDER\n"
    "       farpool keys show FILE\n"
    "\n"
    "Keys decide who may use a coordinator, and encrypt what is said to it. Whoever uses\n"
    "one that is not on this machine needs them.\n"
    "\n"
    "  init      make FOLDER and the coordinator's own key, for\n"
    "            farpool-coordinator --keys FOLDER\n"
    "  add       make a key and put it on the list; FILE, which must not be there yet,\n"
    "            goes to its holder: farpool-worker --key FILE, or FARPOOL_KEY=FILE for\n"
    "            programs and this command. ROLE is\n"
    "              client  opens pools, and sees its own\n"
    "              worker  runs the processes of all pools\n"
    "              admin   as client, sees all, and makes tokens\n"
    "            NAME is 1 to 63 letters, digits, _ . -\n"
    "  list      the keys on the list, one a line: role, name, public key, and when it\n"
    "            ends or with which token, if it does\n"
    "  revoke    take NAME off the list, or end a TOKEN, by its id, and the keys that end\n"
    "            with it: who is connected is cut off within a second or two\n"
    "  rotate    make a new key for NAME, as add; the present one ends after --overlap,\n"
    "            and its holder is then cut off\n"
    "  token     print a join token: one line, a secret, with which others have keys of\n"
    "            workers listed: farpool-worker --join. farpool token does the same from\n"
    "            elsewhere\n"
    "  tokens    the tokens, one a line: id, uses left, when it ends, which keys, state\n"
    "  show      whose key FILE is, and its public parts\n"
    "\n"
    "  -o, --out FILE         where the new key goes\n"
    "      --overlap TIME     how long the old key stays good (default: 1h); 0: not\n"
    "      --address ADDRESS  where workers reach the coordinator, tcp://head:5764\n"
    "      --expires TIME     when the token ends: 90s, 30m, 1h, 7d (default: 1h)\n"
    "      --uses N           how many workers may join with it (default: 1)\n"
    "      --ephemeral        their keys end with the token\n"
    "      --help             this text\n"
    "\n"
    "Exit status: 0; 254 usage; 255 it could not be done.\n"
    "\n"
    "  farpool keys init keys && farpool-coordinator --keys keys -l 'tcp://*:5764'\n"
    "  farpool keys add keys worker node7 --out node7.key\n"
    "  farpool keys token keys --address tcp://head:5764 --uses 20 >token\n";

static const struct option long_options[] = {
    {"out", required_argument, NULL, 'o'},     {"overlap", required_argument, NULL, 'O'},
    {"address", required_argument, NULL, 'a'}, {"expires", required_argument, NULL, 'e'},
    {"uses", required_argument, NULL, 'u'},    {"ephemeral", no_argument, NULL, 'E'},
    {"help", no_argument, NULL, 'h'},          {NULL, 0, NULL, 0},
};

int cli_keys_fail(const farpool_error *error)
{
    const int status = cli_error("keys", "%s", error->text);
    return error->code == FARPOOL_EINVAL ? CLI_USAGE : status;
}

static void print_entry(const struct key_entry *entry)
{
    char key[KEY_TEXT_SIZE], when[WHEN_TEXT_SIZE] = "";
    const bool ends = entry->expires_s != 0, bound = entry->token[0] != '\0';
    if (ends)
        when_text(entry->expires_s, when);
    printf("%s %s %s%s%s%s%s\n", holder_role_name(entry->holder.role), entry->holder.name,
           key_text(&entry->holder.key, key), ends ? " expires=" : "", when,
           bound ? " token=" : "", entry->token);
}

static int run_init(char **words, const struct keys_options *options)
{
    farpool_error error;
    (void)options;
    if (keys_init(words[0], &error))
        return cli_keys_fail(&error);
    printf("made %s: run farpool-coordinator --keys %s --listen 'tcp://*:5764' (without "
           "--listen: for this machine only)\n",
           words[0], words[0]);
    return CLI_OK;
}

static int run_add(char **words, const struct keys_options *options)
{
    const enum holder_role role = key_role_parse(words[1]);
    farpool_error error;
    if (role == HOLDER_NONE)
        return cli_usage_error("keys", "add: '%s' is not client, worker or admin",
                               words[1]);
    if (!options->out)
        return cli_usage_error("keys", "add: --out FILE is wanted");
    if (keys_add(words[0], role, words[2], options->out, &error))
        return cli_keys_fail(&error);
    printf("made %s: the key of %s %s\n", options->out, words[1], words[2]);
    return CLI_OK;
}

static int run_list(char **words, const struct keys_options *options)
{
    struct key_list list;
    farpool_error error;
    (void)options;
    if (keys_load(words[0], &list, NULL, &error))
        return cli_keys_fail(&error);
    for (size_t i = 0; i < list.count; i++)
        print_entry(&list.items[i]);
    key_list_fini(&list);
    return CLI_OK;
}

static int run_revoke(char **words, const struct keys_options *options)
{
    farpool_error error;
    (void)options;
    int code = keys_revoke(words[0], words[1], &error);
    if (code == FARPOOL_EKEY && token_id_valid(words[1]))
        code = cli_keys_revoke_token(words[0], words[1], &error);
    if (code) {
        cli_keys_fail(&error);
        return CLI_ERROR;
    }
    printf("revoked %s\n", words[1]);
    return CLI_OK;
}

static int run_rotate(char **words, const struct keys_options *options)
{
    farpool_error error;
    if (!options->out)
        return cli_usage_error("keys", "rotate: --out FILE is wanted");
    if (keys_rotate(words[0], words[1], options->out, options->overlap_s,
                    (int64_t)time(NULL), &error))
        return cli_keys_fail(&error);
    printf("made %s: the new key of %s; ", options->out, words[1]);
    if (options->overlap_s > 0)
        printf("the old one ends in %lld s\n", (long long)options->overlap_s);
    else
        puts("the old one has ended");
    return CLI_OK;
}

static int run_show(char **words, const struct keys_options *options)
{
    struct key_file file;
    farpool_error error;
    char text[KEY_TEXT_SIZE];
    (void)options;
    if (key_load(words[0], &file, &error))
        return cli_keys_fail(&error);
    key_wipe(&file);
    printf("role   %s\nname   %s\n", holder_role_name(file.holder.role),
           file.holder.name);
    printf("public %s\n", key_text(&file.holder.key, text));
    printf("server %s\n", key_text(&file.server, text));
    return CLI_OK;
}

enum { FOR_OUT = 1, FOR_OVERLAP = 2, FOR_TOKEN = 4 };

static const struct action {
    const char *name, *wanted;
    int words;
    unsigned takes; /* options */
    int (*run)(char **words, const struct keys_options *options);
} actions[] = {
    {"init", "FOLDER", 1, 0, run_init},
    {"add", "FOLDER ROLE NAME --out FILE", 3, FOR_OUT, run_add},
    {"list", "FOLDER", 1, 0, run_list},
    {"revoke", "FOLDER NAME", 2, 0, run_revoke},
    {"rotate", "FOLDER NAME --out FILE", 2, FOR_OUT | FOR_OVERLAP, run_rotate},
    {"token", "FOLDER --address ADDRESS", 1, FOR_TOKEN, cli_keys_token},
    {"tokens", "FOLDER", 1, 0, cli_keys_tokens},
    {"show", "FILE", 1, 0, run_show},
};

enum { ACTIONS = sizeof actions / sizeof actions[0] };

/* false: said so, or help was asked for: *ret_status. */
static bool take_option(int option, struct keys_options *options, int *ret_status)
{
    *ret_status = CLI_USAGE;
    switch (option) {
    case 'o':
        options->out = optarg;
        options->given |= FOR_OUT;
        return true;
    case 'O':
        options->given |= FOR_OVERLAP;
        return cli_duration("keys", "--overlap", optarg, 0, CLI_TOKEN_MAX_S,
                            &options->overlap_s);
    case 'a':
        options->address = optarg;
        options->given |= FOR_TOKEN;
        return true;
    case 'e':
        options->given |= FOR_TOKEN;
        return cli_duration("keys", "--expires", optarg, 1, CLI_TOKEN_MAX_S,
                            &options->expires_s);
    case 'u':
        options->given |= FOR_TOKEN;
        return cli_number("keys", "--uses", optarg, 1, TOKEN_USES_MAX, &options->uses);
    case 'E':
        options->given |= FOR_TOKEN;
        options->ephemeral = true;
        return true;
    case 'h':
        fputs(help_text, stdout);
        *ret_status = CLI_OK;
        return false;
    default:
        fputs("Try: farpool keys --help\n", stderr);
        return false;
    }
}

static const char *name_foreign(unsigned options)
{
    if (options & FOR_OUT)
        return "--out is for add and rotate";
    if (options & FOR_OVERLAP)
        return "--overlap is for rotate";
    return "--address, --expires, --uses and --ephemeral are for token";
}

int cli_keys(int argc, char **argv)
{
    static const char wanted[] = "init, add, list, revoke, rotate, token, tokens or show";
    struct keys_options options = {.overlap_s = 3600, .expires_s = 3600, .uses = 1};
    int option, status;
    optind = 1;
    while ((option = getopt_long(argc, argv, "o:", long_options, NULL)) != -1)
        if (!take_option(option, &options, &status))
            return status;
    if (optind == argc)
        return cli_usage_error("keys", "%s is wanted", wanted);
    for (size_t i = 0; i < ACTIONS; i++) {
        const unsigned foreign = options.given & ~actions[i].takes;
        if (strcmp(argv[optind], actions[i].name) != 0)
            continue;
        if (argc - optind - 1 != actions[i].words)
            return cli_usage_error("keys", "%s %s is wanted", actions[i].name,
                                   actions[i].wanted);
        if (foreign)
            return cli_usage_error("keys", "%s", name_foreign(foreign));
        return actions[i].run(argv + optind + 1, &options);
    }
    return cli_usage_error("keys", "'%s' is not %s", argv[optind], wanted);
}
