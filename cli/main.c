/* SPDX-License-Identifier: Apache-2.0
 *
 * main.c: the farpool command: finds the subcommand. It is itself a Farpool program:
 * `farpool map` opens a pool of processes of this very executable. */
#include "cli/cli.h"
#include "common/sys/sys.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct command {
    const char *name, *help;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"map", "run a command once for each argument or input line", cli_map},
    {"submit", "leave a job with a coordinator, and go", cli_submit},
    {"wait", "wait until a job that was left there is over", cli_wait},
    {"results", "print what the commands of such a job wrote", cli_results},
    {"status", "show workers, pools, jobs and tasks of a coordinator", cli_status},
    {"nodes", "list the nodes, one a line", cli_nodes},
    {"jobs", "list all jobs with their tasks and clients", cli_jobs},
    {"explain", "tell why tasks wait", cli_explain},
    {"cancel", "cancel a job, or all jobs of a pool", cli_cancel},
    {"drain", "have a node finish what it runs and leave", cli_drain},
    {"logs", "show the last lines of all daemons' logs", cli_logs},
    {"doctor", "check this machine's set-up", cli_doctor},
    {"up", "start workers on nodes, by ssh or Slurm", cli_up},
    {"down", "end what `farpool up` started", cli_down},
    {"keys", "make, list and revoke the keys of a cluster", cli_keys},
    {"token", "make a token with which workers join", cli_token},
    {"join", "use a token: make a worker's key file", cli_join},
};

enum { COMMANDS = sizeof commands / sizeof commands[0] };

static void help(void)
{
    puts(
        "usage: farpool COMMAND [OPTIONS]\n"
        "\n"
        "multiprocessing.Pool across machines: runs work on every core of this machine,\n"
        "or, with a coordinator named, on every worker that it knows.\n"
        "\n"
        "commands:");
    for (size_t i = 0; i < COMMANDS; i++)
        printf("  %-8s %s\n", commands[i].name, commands[i].help);
    puts("\n"
         "  farpool COMMAND --help tells a command's options; --version the version.\n"
         "  FARPOOL_COORDINATOR in the environment names a coordinator for all of them,\n"
         "  FARPOOL_KEY the file with the key that it wants.");
}

bool cli_read_query(int argc, char **argv, const char *help_text, int most,
                    struct cli_query *ret_query, int *ret_status)
{
    static const struct option options[] = {{"coordinator", required_argument, NULL, 'c'},
                                            {"key", required_argument, NULL, 'k'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    *ret_query = (struct cli_query){.address = NULL};
    optind = 1;
    for (int option; (option = getopt_long(argc, argv, "c:k:j", options, NULL)) != -1;) {
        if (option == 'c') {
            ret_query->address = optarg;
        } else if (option == 'k') {
            cli_set_key(optarg);
        } else if (option == 'j') {
            ret_query->json = true;
        } else if (option == 'h') {
            fputs(help_text, stdout);
            *ret_status = CLI_OK;
            return false;
        } else {
            fprintf(stderr, "Try: farpool %s --help\n", argv[0]);
            *ret_status = CLI_USAGE;
            return false;
        }
    }
    if (argc - optind <= most)
        return true;
    *ret_status =
        cli_usage_error(argv[0], "'%s' is one argument too many", argv[optind + most]);
    return false;
}

static void print_error(const char *command, const char *format, va_list list)
{
    fprintf(stderr, "farpool %s: ", command);
    vfprintf(stderr, format, list);
    fputc('\n', stderr);
}

int cli_error(const char *command, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    print_error(command, format, list);
    va_end(list);
    return CLI_ERROR;
}

/* "open: no coordinator ...", "drain: no node ...": which call it was is nothing to a
 * user of a command, whose name stands there already. */
int cli_library_error(const char *command, const farpool_error *error)
{
    static const char *const calls[] = {"open: ",
                                        "status: ",
                                        "cancel: ",
                                        "drain: ",
                                        "logs: ",
                                        "submit: ",
                                        "attach: ",
                                        "detached_wait: ",
                                        "detached_next: ",
                                        "detached_cancel: ",
                                        "detached_list: ",
                                        "detached_forget: ",
                                        "detached_get_status: "};
    const char *text = error->text;
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++)
        if (strncmp(text, calls[i], strlen(calls[i])) == 0) {
            text += strlen(calls[i]);
            break;
        }
    return cli_error(command, "%s", text);
}

const char *cli_plural(uint64_t count)
{
    return count == 1 ? "" : "s";
}

int cli_usage_error(const char *command, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    print_error(command, format, list);
    va_end(list);
    fprintf(stderr, "Try: farpool %s --help\n", command);
    return CLI_USAGE;
}

bool cli_number(const char *command, const char *option, const char *text, int64_t low,
                int64_t high, int64_t *ret_number)
{
    char *end;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    if (errno || end == text || *end || number < low || number > high) {
        cli_usage_error(command,
                        "%s: '%s' is not a whole number from %" PRId64 " to %" PRId64,
                        option, text, low, high);
        return false;
    }
    *ret_number = number;
    return true;
}

bool cli_duration(const char *command, const char *option, const char *text,
                  int64_t low_s, int64_t high_s, int64_t *ret_s)
{
    static const struct {
        char letter;
        int64_t seconds;
    } units[] = {{'\0', 1}, {'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
    char *end;
    errno = 0;
    const long long number = strtoll(text, &end, 10);
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (errno || end == text || *end != units[i].letter || (*end && end[1]) ||
            number < 0 || number > INT64_MAX / 86400)
            continue;
        *ret_s = number * units[i].seconds;
        if (*ret_s >= low_s && *ret_s <= high_s)
            return true;
    }
    cli_usage_error(command,
                    "%s: '%s' is not a time from %" PRId64 "s to %" PRId64
                    "d, as 90s, 30m, 1h or 7d",
                    option, text, low_s, high_s / 86400);
    return false;
}

void cli_warn_of_loopback(const char *command, const char *address)
{
    if (strncmp(address, "ipc:", 4) == 0 || strstr(address, "//127.") ||
        strstr(address, "//[::1]") || strstr(address, "//localhost"))
        fprintf(stderr,
                "farpool %s: %s is this machine's own: workers elsewhere need a token "
                "with an address they can reach (--address)\n",
                command, address);
}

void cli_set_key(const char *path)
{
    setenv("FARPOOL_KEY", path, 1);
}

farpool_cluster_status *cli_get_status(const char *command, const char *address)
{
    farpool_cluster_status *status = NULL;
    farpool_error error;
    if (farpool_cluster_get_status(address, CLI_ANSWER_MS, &status, &error)) {
        cli_library_error(command, &error);
        return NULL;
    }
    return status;
}

int main(int argc, char **argv)
{
    if (farpool_init(&argc, &argv))
        return CLI_ERROR;
    sys_hide_memory(); /* of keys and tokens; not of the pools' processes */
    if (argc < 2) {
        help();
        return CLI_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
        help();
        return CLI_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("farpool %s\n", farpool_version());
        return CLI_OK;
    }
    for (size_t i = 0; i < COMMANDS; i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    fprintf(stderr, "farpool: no command '%s'\nTry: farpool --help\n", argv[1]);
    return CLI_USAGE;
}
