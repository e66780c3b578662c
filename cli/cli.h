/* SPDX-License-Identifier: Apache-2.0
 *
 * cli.h: what the files of the farpool command share. Each subcommand is one file with
 * one entry point, and uses the public API only. */
#ifndef FARPOOL_CLI_CLI_H
#define FARPOOL_CLI_CLI_H

#include <farpool.h>

/* Exit statuses; `farpool map` also uses 1 to 101 for the number of failed commands. */
enum { CLI_OK = 0, CLI_USAGE = 254, CLI_ERROR = 255 };

/* The commands: argv[0] is the subcommand's name. Return an exit status. */
int cli_map(int argc, char **argv);
int cli_status(int argc, char **argv);
int cli_nodes(int argc, char **argv);
int cli_keys(int argc, char **argv);

/* Says on stderr that the command line is wrong, and where help is. Returns CLI_USAGE. */
int cli_usage_error(const char *command, const char *format, ...) FARPOOL_PRINTF(2, 3);

/* A whole number in [low, high], else an error on stderr naming the option. */
bool cli_number(const char *command, const char *option, const char *text, int64_t low,
                int64_t high, int64_t *ret_number);

/* --key FILE: what the library takes from the environment. */
void cli_set_key(const char *path);

/* The cluster's status, or NULL after an error on stderr. */
farpool_cluster_status *cli_get_status(const char *address);

/* The function that `farpool map` runs: a command line in, its output and status out.
 * Input: the arguments, each ended by a NUL byte. Output: struct cli_outcome, then what
 * the command wrote to stdout, then what it wrote to stderr. */
struct cli_outcome {
    int32_t exit_status; /* -1: ended by a signal */
    int32_t signal;
    uint64_t stdout_size, stderr_size;
};
const farpool_function *cli_command_function(void);

#endif
