/* SPDX-License-Identifier: Apache-2.0
 *
 * keys.c: `farpool keys`: makes, lists and revokes the keys of a cluster. It works on the
 * coordinator's folder of keys, and talks to nobody. It never prints a secret. */
#include "common/keys/keys.h"
#include "cli/cli.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

static const char help_text[] =
    "usage: farpool keys init FOLDER\n"
    "       farpool keys add FOLDER ROLE NAME --out FILE\n"
    "       farpool keys list FOLDER\n"
    "       farpool keys revoke FOLDER NAME\n"
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
    "              admin   as client, and sees all\n"
    "            NAME is 1 to 63 letters, digits, _ . -\n"
    "  list      the keys on the list, one a line: role, name, public key\n"
    "  revoke    take NAME off the list: who is connected with it is cut off within\n"
    "            a second or two\n"
    "  show      whose key FILE is, and its public parts\n"
    "\n"
    "  -o, --out FILE  where the new key goes\n"
    "      --help      this text\n"
    "\n"
    "Exit status: 0; 254 usage; 255 it could not be done.\n"
    "\n"
    "  farpool keys init keys && farpool-coordinator --keys keys -l 'tcp://*:5764'\n"
    "  farpool keys add keys worker node7 --out node7.key\n";

static const struct option long_options[] = {
    {"out", required_argument, NULL, 'o'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static int fail(const farpool_error *error)
{
    const int status = cli_error("keys", "%s", error->text);
    return error->code == FARPOOL_EINVAL ? CLI_USAGE : status;
}

static void print_holder(const struct holder *holder)
{
    char text[KEY_TEXT_SIZE];
    printf("%s %s %s\n", holder_role_name(holder->role), holder->name,
           key_text(&holder->key, text));
}

static int run_init(char **words, const char *out)
{
    farpool_error error;
    (void)out;
    if (keys_init(words[0], &error))
        return fail(&error);
    printf("made %s: run farpool-coordinator --keys %s\n", words[0], words[0]);
    return CLI_OK;
}

static int run_add(char **words, const char *out)
{
    const enum holder_role role = key_role_parse(words[1]);
    farpool_error error;
    if (role == HOLDER_NONE)
        return cli_usage_error("keys", "add: '%s' is not client, worker or admin",
                               words[1]);
    if (!out)
        return cli_usage_error("keys", "add: --out FILE is wanted");
    if (keys_add(words[0], role, words[2], out, &error))
        return fail(&error);
    printf("made %s: the key of %s %s\n", out, words[1], words[2]);
    return CLI_OK;
}

static int run_list(char **words, const char *out)
{
    struct key_list list;
    farpool_error error;
    (void)out;
    if (keys_load(words[0], &list, NULL, &error))
        return fail(&error);
    for (size_t i = 0; i < list.count; i++)
        print_holder(&list.items[i]);
    key_list_fini(&list);
    return CLI_OK;
}

static int run_revoke(char **words, const char *out)
{
    farpool_error error;
    (void)out;
    if (keys_revoke(words[0], words[1], &error))
        return fail(&error);
    printf("revoked %s\n", words[1]);
    return CLI_OK;
}

static int run_show(char **words, const char *out)
{
    struct key_file file;
    farpool_error error;
    char text[KEY_TEXT_SIZE];
    (void)out;
    if (key_load(words[0], &file, &error))
        return fail(&error);
    key_wipe(&file);
    printf("role   %s\nname   %s\n", holder_role_name(file.holder.role),
           file.holder.name);
    printf("public %s\n", key_text(&file.holder.key, text));
    printf("server %s\n", key_text(&file.server, text));
    return CLI_OK;
}

static const struct action {
    const char *name, *wanted;
    int words;
    int (*run)(char **words, const char *out);
} actions[] = {
    {"init", "FOLDER", 1, run_init}, {"add", "FOLDER ROLE NAME --out FILE", 3, run_add},
    {"list", "FOLDER", 1, run_list}, {"revoke", "FOLDER NAME", 2, run_revoke},
    {"show", "FILE", 1, run_show},
};

enum { ACTIONS = sizeof actions / sizeof actions[0] };

int cli_keys(int argc, char **argv)
{
    const char *out = NULL;
    int option;
    optind = 1;
    while ((option = getopt_long(argc, argv, "o:", long_options, NULL)) != -1) {
        if (option == 'o') {
            out = optarg;
        } else if (option == 'h') {
            fputs(help_text, stdout);
            return CLI_OK;
        } else {
            fputs("Try: farpool keys --help\n", stderr);
            return CLI_USAGE;
        }
    }
    if (optind == argc)
        return cli_usage_error("keys", "init, add, list, revoke or show is wanted");
    for (size_t i = 0; i < ACTIONS; i++) {
        if (strcmp(argv[optind], actions[i].name) != 0)
            continue;
        if (argc - optind - 1 != actions[i].words)
            return cli_usage_error("keys", "%s %s is wanted", actions[i].name,
                                   actions[i].wanted);
        if (out && actions[i].run != run_add)
            return cli_usage_error("keys", "--out is for add");
        return actions[i].run(argv + optind + 1, out);
    }
    return cli_usage_error("keys", "'%s' is not init, add, list, revoke or show",
                           argv[optind]);
}
