/* SPDX-License-Identifier: Apache-2.0
 *
 * down.c: `farpool down`: ends what `farpool up` started, and leaves nothing of it. May
 * be repeated: what is gone already is no error, and what could not be reached is tried
 * again.
 */
#include "cli/cli.h"
#include "cli/up.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help_text[] =
    "usage: farpool down [OPTIONS] [NAME]\n"
    "\n"
    "Ends the workers that `farpool up` started under NAME (default: default): they drain,\n"
    "then tunnels, jobs, files and the token go. May be repeated.\n"
    "\n"
    "      --now   do not let them finish what runs: it is run again elsewhere\n"
    "      --help  this text\n"
    "\n"
    "Exit status: 0, also when nothing was up; 254 usage; 255 something was not ended: it\n"
    "is told, and remembered for the next time.\n";

static const struct option long_options[] = {
    {"now", no_argument, NULL, 'n'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static int run_locked(const char *name, bool now)
{
    struct up_state state;
    int status;
    switch (up_state_load(name, &state)) {
    case 0:
        printf("%s: nothing is up\n", name);
        return CLI_OK;
    case 1:
        break;
    default:
        return CLI_ERROR;
    }
    cli_catch_interrupts();
    if (up_process_is_there(&state.auto_process)) {
        up_process_end(&state.auto_process);
        up_state_fini(&state); /* it may have submitted one more job */
        if (up_state_load(name, &state) != 1)
            return CLI_ERROR;
    }
    state.auto_process.pid = 0;
    status = strcmp(state.kind, "slurm") == 0 ? down_slurm(&state, now)
                                              : down_ssh(&state, now);
    if (status == CLI_OK && !up_revoke_token(&state)) {
        fprintf(stderr,
                "farpool: the workers have ended; `farpool down %s` tries the "
                "token again\n",
                name);
        up_state_save(&state);
        status = CLI_ERROR;
    }
    if (status == CLI_OK) {
        up_state_remove(&state);
        printf("%s: down\n", name);
    }
    up_state_fini(&state);
    return status;
}

static int run(const char *name, bool now)
{
    if (!up_lock(name, "down"))
        return CLI_ERROR;
    const int status = run_locked(name, now);
    up_unlock();
    return status;
}

int cli_down(int argc, char **argv)
{
    bool now = false;
    int option;
    optind = 1;
    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        if (option == 'n') {
            now = true;
        } else if (option == 'h') {
            fputs(help_text, stdout);
            return CLI_OK;
        } else {
            fputs("Try: farpool down --help\n", stderr);
            return CLI_USAGE;
        }
    }
    if (argc - optind > 1)
        return cli_usage_error("down", "'%s' is one argument too many", argv[optind + 1]);
    const char *name = optind < argc ? argv[optind] : "default";
    if (!up_name_is_right(name))
        return cli_usage_error("down", "'%s' is not a name that can be up", name);
    return run(name, now);
}
