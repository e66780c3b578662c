/* SPDX-License-Identifier: Apache-2.0
 *
 * cli.h: what the files of the farpool command share. Each subcommand is one file with
 * one entry point, and uses the public API only; but for keys (common/keys), logs
 * (common/base/printable.h), and the doctor, which asks common/sys what it tells the
 * daemons. */
#ifndef FARPOOL_CLI_CLI_H
#define FARPOOL_CLI_CLI_H

#include <farpool.h>

/* Exit statuses; `farpool map` also uses 1 to 101 for the number of failed commands. */
enum { CLI_OK = 0, CLI_TIMEOUT = 124, CLI_USAGE = 254, CLI_ERROR = 255 };

enum { CLI_ANSWER_MS = 5000 }; /* a coordinator has answered by then */

/* The commands: argv[0] is the subcommand's name. Return an exit status. */
int cli_map(int argc, char **argv);
int cli_submit(int argc, char **argv);
int cli_wait(int argc, char **argv);
int cli_results(int argc, char **argv);
int cli_status(int argc, char **argv);
int cli_nodes(int argc, char **argv);
int cli_jobs(int argc, char **argv);
int cli_explain(int argc, char **argv);
int cli_cancel(int argc, char **argv);
int cli_drain(int argc, char **argv);
int cli_logs(int argc, char **argv);
int cli_doctor(int argc, char **argv);
int cli_keys(int argc, char **argv);
int cli_up(int argc, char **argv);
int cli_down(int argc, char **argv);
int cli_token(int argc, char **argv);
int cli_join(int argc, char **argv);

/* What the commands that ask a coordinator have in common: --coordinator, --key, --json
 * and --help. true and *ret_query filled, or false and *ret_status, to end with: a wrong
 * option, more than `most` arguments, or help was asked for. optind is at the first
 * argument. */
struct cli_query {
    const char *address; /* NULL: FARPOOL_COORDINATOR */
    bool json;
};
bool cli_read_query(int argc, char **argv, const char *help, int most,
                    struct cli_query *ret_query, int *ret_status);

/* "farpool COMMAND: ..." on stderr: the one form of all errors. Returns CLI_ERROR. */
int cli_error(const char *command, const char *format, ...) FARPOOL_PRINTF(2, 3);
/* The same of what the library says, which names the call that failed first. */
int cli_library_error(const char *command, const farpool_error *error);

/* "" for 1, else "s". */
const char *cli_plural(uint64_t count);

/* Says on stderr that the command line is wrong, and where help is. Returns CLI_USAGE. */
int cli_usage_error(const char *command, const char *format, ...) FARPOOL_PRINTF(2, 3);

/* A whole number in [low, high], else an error on stderr naming the option. */
bool cli_number(const char *command, const char *option, const char *text, int64_t low,
                int64_t high, int64_t *ret_number);

/* A time: a whole number and s, m, h or d (none: s), in seconds; else an error as above.
 */
bool cli_duration(const char *command, const char *option, const char *text,
                  int64_t low_s, int64_t high_s, int64_t *ret_s);

enum { CLI_TOKEN_MAX_S = 31622400 }; /* 366 days */

/* Says on stderr what an address in a token cannot do: reach this machine from others. */
void cli_warn_of_loopback(const char *command, const char *address);

/* --key FILE: what the library takes from the environment. */
void cli_set_key(const char *path);

/* The cluster's status, or NULL after an error on stderr. */
farpool_cluster_status *cli_get_status(const char *command, const char *address);

/* A pool by the beginning of its id, or a job of it by its number (the short one that
 * tables show, or in full). NULL after an error on stderr that tells what there is. */
const farpool_pool_status *cli_find_pool(const char *command,
                                         const farpool_cluster_status *status,
                                         const char *prefix);
const farpool_job_status *cli_find_job(const char *command,
                                       const farpool_cluster_status *status,
                                       const farpool_pool_status *pool, const char *text);
/* The number of a job as tables show it. */
uint64_t cli_short_job(const farpool_job_status *job);

/* The function that `farpool map` runs: a command line in, its output and status out.
 * Input: the arguments, each ended by a NUL byte. Output: struct cli_outcome, then what
 * the command wrote to stdout, then what it wrote to stderr. */
struct cli_outcome {
    int32_t exit_status; /* -1: ended by a signal */
    int32_t signal;
    uint64_t stdout_size, stderr_size;
};
const farpool_function *cli_command_function(void);

/* Whether it wrote nothing and did not fail. */
bool cli_outcome_is_silent(const farpool_bytes *output);
/* Writes what a command wrote, and a line on stderr if it failed, unless quiet; whether
 * it did. */
bool cli_print_outcome(const char *command, const farpool_bytes *output, uint64_t index,
                       bool quiet);

#endif
