/* SPDX-License-Identifier: Apache-2.0
 *
 * drain.c: `farpool drain`: a node finishes what it runs, gives back the rest and leaves.
 * With --wait the status is looked at until it has left, or it has taken too long. */
#include "cli/cli.h"
#include "cli/json.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define LOOK_MS 100

static const char help_text[] =
    "usage: farpool drain [OPTIONS] NODE\n"
    "\n"
    "Has a node drain, as SIGTERM does there: its worker takes no more tasks, finishes\n"
    "those that run, gives back the others and ends. NODE is a name that `farpool nodes`\n"
    "shows; if several workers have it, all of them drain.\n"
    "\n"
    "  -w, --wait                 return when it has left; also if it drains already\n"
    "  -t, --timeout SECONDS      with --wait: for so long at most; it drains on all the\n"
    "                             same (default: as long as its longest task takes)\n"
    "  -c, --coordinator ADDRESS  whom to ask (default: $FARPOOL_COORDINATOR)\n"
    "  -k, --key FILE             the key to ask with (default: $FARPOOL_KEY)\n"
    "  -j, --json                 the outcome as JSON, for programs\n"
    "      --help                 this text\n"
    "\n"
    "Exit status: 0; 124 it has not left within --timeout; 254 usage; 255 no coordinator\n"
    "answered, no such node, or it drains already.\n";

static const struct option long_options[] = {
    {"wait", no_argument, NULL, 'w'},
    {"timeout", required_argument, NULL, 't'},
    {"coordinator", required_argument, NULL, 'c'},
    {"key", required_argument, NULL, 'k'},
    {"json", no_argument, NULL, 'j'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

struct drain {
    const char *address, *node;
    bool wait, json;
    int64_t timeout_s; /* -1: none */
    uint64_t workers, tasks;
};

/* How many workers of that name are still draining; -1 after an error on stderr. */
static int64_t count_draining(const struct drain *drain)
{
    farpool_cluster_status *status = cli_get_status("drain", drain->address);
    int64_t count = 0;
    if (!status)
        return -1;
    for (size_t i = 0; i < status->nodes_count; i++)
        count += strcmp(status->nodes[i].name, drain->node) == 0 &&
                 strcmp(status->nodes[i].state, "draining") == 0;
    farpool_cluster_status_free(status);
    return count;
}

static int64_t now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

/* At least the seconds that were asked for, at most one more. */
static int wait_until_left(const struct drain *drain)
{
    const struct timespec pause = {.tv_nsec = LOOK_MS * 1000000L};
    const int64_t began_s = now_s();
    int64_t count;
    while ((count = count_draining(drain)) > 0) {
        if (drain->timeout_s >= 0 && now_s() - began_s > drain->timeout_s) {
            cli_error("drain", "%s has not left within %" PRId64 " second%s (--timeout)",
                      drain->node, drain->timeout_s,
                      cli_plural((uint64_t)drain->timeout_s));
            return CLI_TIMEOUT;
        }
        nanosleep(&pause, NULL);
    }
    return count < 0 ? CLI_ERROR : CLI_OK;
}

static int print_json(const struct drain *drain, bool left)
{
    return cli_print_json("drain",
                          json_pack("{s:s, s:I, s:I, s:b}", "node", drain->node,
                                    "workers", (json_int_t)drain->workers, "tasks",
                                    (json_int_t)drain->tasks, "left", (int)left));
}

/* Before the waiting: it may take as long as the longest task. */
static void print_begun(const struct drain *drain, bool already)
{
    if (already)
        printf("%s is draining already\n", drain->node);
    else
        printf("%s is draining: %" PRIu64 " worker%s, with %" PRIu64 " task%s\n",
               drain->node, drain->workers, cli_plural(drain->workers), drain->tasks,
               cli_plural(drain->tasks));
    fflush(stdout);
}

static int run(struct drain *drain)
{
    farpool_error error;
    const int code = farpool_cluster_drain(drain->address, CLI_ANSWER_MS, drain->node,
                                           &drain->workers, &drain->tasks, &error);
    int result = CLI_OK;
    if (code && !(code == FARPOOL_EDRAINED && drain->wait))
        return cli_library_error("drain", &error);
    if (!drain->json)
        print_begun(drain, code != 0);
    if (drain->wait)
        result = wait_until_left(drain);
    if (drain->json && result != CLI_ERROR)
        print_json(drain, drain->wait && result == CLI_OK);
    else if (drain->wait && result == CLI_OK)
        printf("%s has left\n", drain->node);
    return result;
}

/* What of the command line is wrong, if anything. */
static int check(const struct drain *drain, int arguments, char **names)
{
    if (drain->timeout_s >= 0 && !drain->wait)
        return cli_usage_error("drain", "--timeout is for --wait");
    if (arguments < 1)
        return cli_usage_error("drain", "which node?");
    if (arguments > 1)
        return cli_usage_error("drain", "'%s' is one argument too many", names[1]);
    return CLI_OK;
}

int cli_drain(int argc, char **argv)
{
    struct drain drain = {.timeout_s = -1};
    int option;
    optind = 1;
    while ((option = getopt_long(argc, argv, "wt:c:k:j", long_options, NULL)) != -1) {
        switch (option) {
        case 'w':
            drain.wait = true;
            break;
        case 't':
            if (!cli_number("drain", "--timeout", optarg, 0, INT32_MAX, &drain.timeout_s))
                return CLI_USAGE;
            break;
        case 'c':
            drain.address = optarg;
            break;
        case 'k':
            cli_set_key(optarg);
            break;
        case 'j':
            drain.json = true;
            break;
        case 'h':
            fputs(help_text, stdout);
            return CLI_OK;
        default:
            fputs("Try: farpool drain --help\n", stderr);
            return CLI_USAGE;
        }
    }
    const int wrong = check(&drain, argc - optind, argv + optind);
    if (wrong)
        return wrong;
    drain.node = argv[optind];
    return run(&drain);
}
