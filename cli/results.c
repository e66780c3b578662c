/* SPDX-License-Identifier: Apache-2.0
 *
 * results.c: `farpool results`: what the commands of a detached job wrote, in the order
 * of their inputs, as farpool map would have written it. */
#include "cli/cli.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { FAILED_MAX = 100 };

static const char help_text[] =
    "usage: farpool results [OPTIONS] NAME\n"
    "\n"
    "Prints what the commands of the detached job NAME (farpool submit) wrote, in the\n"
    "order of its items, and waits for those that have not ended. The results stay with\n"
    "the coordinator, until they are forgotten or expire. An admin may say OWNER/NAME\n"
    "for a job of another key.\n"
    "\n"
    "  -c, --coordinator ADDRESS  who has it (default: $FARPOOL_COORDINATOR)\n"
    "  -k, --key FILE             the key that it wants (default: $FARPOOL_KEY)\n"
    "  -q, --quiet                no line on standard error for a command that failed\n"
    "      --forget               when all was written: remove the job and its results\n"
    "      --help                 this text\n"
    "\n"
    "Exit status: 0 all succeeded; 1 to 100 so many failed, or have no result since the\n"
    "job was cancelled; 101 more did; 254 usage; 255 they could not be had.\n";

static const struct option options[] = {{"coordinator", required_argument, NULL, 'c'},
                                        {"key", required_argument, NULL, 'k'},
                                        {"quiet", no_argument, NULL, 'q'},
                                        {"forget", no_argument, NULL, 'F'},
                                        {"help", no_argument, NULL, 'h'},
                                        {NULL, 0, NULL, 0}};

/* All of them; *ret_failed is how many failed. */
static int print_all(farpool_detached *job, bool quiet, uint64_t *ret_failed)
{
    farpool_error error;
    farpool_bytes output;
    uint64_t index;
    int code;
    while ((code = farpool_detached_next(job, FARPOOL_FOREVER, &output, &index,
                                         &error)) != FARPOOL_END) {
        if (code == FARPOOL_OK) {
            *ret_failed += cli_print_outcome("results", &output, index, quiet);
        } else if (error.index != FARPOOL_NO_INDEX) {
            ++*ret_failed;
            if (!quiet)
                cli_library_error("results", &error);
        } else {
            return cli_library_error("results", &error);
        }
    }
    if (fflush(stdout) != 0)
        return cli_error("results", "cannot write the output: %s", strerror(errno));
    return CLI_OK;
}

static int check_function(const char *name, const farpool_detached_status *status)
{
    if (strcmp(status->function, cli_command_function()->name) == 0)
        return CLI_OK;
    return cli_error(
        "results",
        "%s runs the function %s of %s, and not commands: a program collects "
        "it with farpool_attach",
        name, status->function, status->program);
}

static int results(const char *address, const char *name, bool quiet, bool forget)
{
    farpool_error error;
    farpool_detached_status status;
    uint64_t failed = 0;
    int result = CLI_OK;
    farpool_detached *job = farpool_attach(address, name, CLI_ANSWER_MS, &error);
    if (!job || farpool_detached_get_status(job, CLI_ANSWER_MS, &status, &error))
        result = cli_library_error("results", &error);
    if (result == CLI_OK)
        result = check_function(name, &status);
    if (result == CLI_OK)
        result = print_all(job, quiet, &failed);
    if (result == CLI_OK && forget && farpool_detached_forget(job, CLI_ANSWER_MS, &error))
        result = cli_library_error("results", &error);
    farpool_detached_free(job);
    if (result == CLI_OK && failed)
        result = failed > FAILED_MAX ? FAILED_MAX + 1 : (int)failed;
    return result;
}

int cli_results(int argc, char **argv)
{
    const char *address = NULL;
    bool quiet = false, forget = false;
    optind = 1;
    for (int option; (option = getopt_long(argc, argv, "c:k:q", options, NULL)) != -1;) {
        if (option == 'c') {
            address = optarg;
        } else if (option == 'k') {
            cli_set_key(optarg);
        } else if (option == 'q') {
            quiet = true;
        } else if (option == 'F') {
            forget = true;
        } else if (option == 'h') {
            fputs(help_text, stdout);
            return CLI_OK;
        } else {
            fputs("Try: farpool results --help\n", stderr);
            return CLI_USAGE;
        }
    }
    if (argc - optind != 1)
        return cli_usage_error("results", "the name of one detached job is wanted");
    return results(address, argv[optind], quiet, forget);
}
