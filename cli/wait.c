/* SPDX-License-Identifier: Apache-2.0
 *
 * wait.c: `farpool wait`: until a detached job is over. */
#include "cli/cli.h"

#include <getopt.h>
#include <stdio.h>

static const char help_text[] =
    "usage: farpool wait [OPTIONS] NAME\n"
    "\n"
    "Waits until the detached job NAME (farpool submit) is over, also while its\n"
    "coordinator is away. An admin may say OWNER/NAME for a job of another key.\n"
    "\n"
    "  -c, --coordinator ADDRESS  who has it (default: $FARPOOL_COORDINATOR)\n"
    "  -k, --key FILE             the key that it wants (default: $FARPOOL_KEY)\n"
    "  -t, --timeout TIME         no longer than that: s, m, h or d may follow\n"
    "      --help                 this text\n"
    "\n"
    "Exit status: 0 each of its tasks has a result; 1 it was cancelled or failed;\n"
    "124 the time was over; 254 usage; 255 there is no such job, or no coordinator.\n";

static const struct option options[] = {{"coordinator", required_argument, NULL, 'c'},
                                        {"key", required_argument, NULL, 'k'},
                                        {"timeout", required_argument, NULL, 't'},
                                        {"help", no_argument, NULL, 'h'},
                                        {NULL, 0, NULL, 0}};

static int wait_for(const char *address, const char *name, int64_t timeout_ms)
{
    farpool_error error;
    farpool_detached_status status;
    farpool_detached *job = farpool_attach(address, name, CLI_ANSWER_MS, &error);
    if (!job)
        return cli_library_error("wait", &error);
    const int code = farpool_detached_wait(job, timeout_ms, &error);
    int result = CLI_OK;
    if (code)
        cli_library_error("wait", &error);
    if (code == FARPOOL_ETIMEDOUT)
        result = CLI_TIMEOUT;
    else if (code)
        result = farpool_detached_get_status(job, CLI_ANSWER_MS, &status, NULL) == 0 &&
                         status.over
                     ? 1
                     : CLI_ERROR;
    farpool_detached_free(job);
    return result;
}

int cli_wait(int argc, char **argv)
{
    const char *address = NULL;
    int64_t timeout_s = -1;
    optind = 1;
    for (int option; (option = getopt_long(argc, argv, "c:k:t:", options, NULL)) != -1;) {
        if (option == 'c') {
            address = optarg;
        } else if (option == 'k') {
            cli_set_key(optarg);
        } else if (option == 't') {
            if (!cli_duration("wait", "--timeout", optarg, 0, 366 * (int64_t)86400,
                              &timeout_s))
                return CLI_USAGE;
        } else if (option == 'h') {
            fputs(help_text, stdout);
            return CLI_OK;
        } else {
            fputs("Try: farpool wait --help\n", stderr);
            return CLI_USAGE;
        }
    }
    if (argc - optind != 1)
        return cli_usage_error("wait", "the name of one detached job is wanted");
    return wait_for(address, argv[optind],
                    timeout_s < 0 ? FARPOOL_FOREVER : timeout_s * 1000);
}
