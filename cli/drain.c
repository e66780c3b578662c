/* SPDX-License-Identifier: Apache-2.0
 *
 * drain.c: `farpool drain`: a node finishes what it runs, gives back the rest and leaves.
 * With --wait the status is looked at until it has left. */
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
    "  -c, --coordinator ADDRESS  whom to ask (default: $FARPOOL_COORDINATOR)\n"
    "  -k, --key FILE             the key to ask with (default: $FARPOOL_KEY)\n"
    "  -j, --json                 the outcome as JSON, for programs\n"
    "      --help                 this text\n"
    "\n"
    "Exit status: 0; 254 usage; 255 no coordinator answered, no such node, or it drains\n"
    "already.\n";

static const struct option long_options[] = {
    {"wait", no_argument, NULL, 'w'},      {"coordinator", required_argument, NULL, 'c'},
    {"key", required_argument, NULL, 'k'}, {"json", no_argument, NULL, 'j'},
    {"help", no_argument, NULL, 'h'},      {NULL, 0, NULL, 0},
};

struct drain {
    const char *address, *node;
    bool wait, json;
    uint64_t workers, tasks;
};

/* How many workers of that name are still draining; -1 after an error on stderr. */
static int64_t count_draining(const struct drain *drain)
{
    farpool_cluster_status *status = cli_get_status(drain->address);
    int64_t count = 0;
    if (!status)
        return -1;
    for (size_t i = 0; i < status->nodes_count; i++)
        count += strcmp(status->nodes[i].name, drain->node) == 0 &&
                 strcmp(status->nodes[i].state, "draining") == 0;
    farpool_cluster_status_free(status);
    return count;
}

static int wait_until_left(const struct drain *drain)
{
    const struct timespec pause = {.tv_nsec = LOOK_MS * 1000000L};
    int64_t count;
    while ((count = count_draining(drain)) > 0)
        nanosleep(&pause, NULL);
    return count < 0 ? CLI_ERROR : CLI_OK;
}

static int print_json(const struct drain *drain)
{
    return cli_print_json("drain",
                          json_pack("{s:s, s:I, s:I, s:b}", "node", drain->node,
                                    "workers", (json_int_t)drain->workers, "tasks",
                                    (json_int_t)drain->tasks, "left", (int)drain->wait));
}

/* Before the waiting: it may take as long as the longest task. */
static void print_begun(const struct drain *drain, bool already)
{
    if (already)
        printf("%s is draining already\n", drain->node);
    else
        printf("%s is draining: %" PRIu64 " worker%s, with %" PRIu64 " task%s\n",
               drain->node, drain->workers, drain->workers == 1 ? "" : "s", drain->tasks,
               drain->tasks == 1 ? "" : "s");
    fflush(stdout);
}

static int run(struct drain *drain)
{
    farpool_error error;
    const int code = farpool_cluster_drain(drain->address, CLI_ANSWER_MS, drain->node,
                                           &drain->workers, &drain->tasks, &error);
    if (code && !(code == FARPOOL_EDRAINED && drain->wait)) {
        fprintf(stderr, "farpool %s\n", error.text);
        return CLI_ERROR;
    }
    if (!drain->json)
        print_begun(drain, code != 0);
    if (drain->wait && wait_until_left(drain))
        return CLI_ERROR;
    if (drain->json)
        return print_json(drain);
    if (drain->wait)
        printf("%s has left\n", drain->node);
    return CLI_OK;
}

int cli_drain(int argc, char **argv)
{
    struct drain drain = {.address = NULL};
    int option;
    optind = 1;
    while ((option = getopt_long(argc, argv, "wc:k:j", long_options, NULL)) != -1) {
        switch (option) {
        case 'w':
            drain.wait = true;
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
    if (optind >= argc)
        return cli_usage_error("drain", "which node?");
    if (argc - optind > 1)
        return cli_usage_error("drain", "'%s' is one argument too many",
                               argv[optind + 1]);
    drain.node = argv[optind];
    return run(&drain);
}
