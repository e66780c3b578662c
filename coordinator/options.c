/* SPDX-License-Identifier: Apache-2.0
 *
 * options.c: the command line of farpool-coordinator. Every value is checked here, with
 * the option named, before anything is opened. */
#include "common/net/net.h"
#include "common/sys/sys.h"
#include "coordinator/shell.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROGRAM "farpool-coordinator"

static const char help[] =
    "usage: " PROGRAM " [OPTION]...\n"
    "Knows the workers of a cluster, and hands the tasks of clients to them.\n"
    "\n"
    "  -l, --listen ADDRESS    where workers and clients connect: tcp://HOST:PORT or\n"
    "                          ipc://PATH; off loopback only with --keys; PORT *\n"
    "                          takes a free one (default " COORDINATOR_ADDRESS ")\n"
    "  -k, --keys FOLDER       let in who proves a key of the list in there, and nobody\n"
    "                          else, on loopback too; farpool keys makes it\n"
    "                          (default: FARPOOL_KEYS)\n"
    "  -s, --state FOLDER      keep detached jobs (farpool submit) there, so that they\n"
    "                          outlive clients and coordinators; nobody else may be\n"
    "                          able to write to it (default: FARPOOL_STATE, else\n"
    "                          there are none)\n"
    "      --detached-max-bytes BYTES\n"
    "                          of disk for them, at least 1M; K, M, G or T may follow\n"
    "                          (default %lluG)\n"
    "      --detached-keep TIME\n"
    "                          results are kept so long after a job's end, unless\n"
    "                          somebody forgets them before: s, m, h or d may follow\n"
    "                          (default %llud)\n"
    "      --workers-max N     refuse workers beyond N (default %u)\n"
    "      --clients-max N     refuse clients beyond N (default %u)\n"
    "      --memory BYTES      input bytes that one client may have under way, and\n"
    "                          result bytes that one worker may have unacknowledged;\n"
    "                          K, M, G or T may follow (default %lluM)\n"
    "      --silence-ms N      a peer that is silent for so long is gone\n"
    "                          (default %u)\n"
    "      --heartbeat-ms N    how often each side says that it is there\n"
    "                          (default %u, or two fifths of --silence-ms if less)\n"
    "      --settle-ms N       after a start, wait at most so long for workers to come\n"
    "                          back before running tasks of resumed jobs (default %u)\n"
    "  -v, --verbose           log more; twice: every message\n"
    "  -h, --help              print this and exit\n"
    "  -V, --version           print the version and exit\n"
    "\n"
    "Signals: SIGTERM or SIGINT: takes no new clients, and ends when those that are\n"
    "there have gone; a second one: ends at once. It may be killed at any time:\n"
    "workers and clients come back to the one that is started next, and detached jobs\n"
    "go on there.\n"
    "\n"
    "Exit codes: 0 ended as asked, 1 could not start or go on, 2 wrong usage.\n";

enum {
    OPTION_WORKERS_MAX = 256,
    OPTION_DETACHED_MAX_BYTES,
    OPTION_DETACHED_KEEP,
    OPTION_CLIENTS_MAX,
    OPTION_MEMORY,
    OPTION_SILENCE,
    OPTION_HEARTBEAT,
    OPTION_SETTLE,
};

static const struct option table[] = {
    {"listen", required_argument, NULL, 'l'},
    {"keys", required_argument, NULL, 'k'},
    {"state", required_argument, NULL, 's'},
    {"detached-max-bytes", required_argument, NULL, OPTION_DETACHED_MAX_BYTES},
    {"detached-keep", required_argument, NULL, OPTION_DETACHED_KEEP},
    {"workers-max", required_argument, NULL, OPTION_WORKERS_MAX},
    {"clients-max", required_argument, NULL, OPTION_CLIENTS_MAX},
    {"memory", required_argument, NULL, OPTION_MEMORY},
    {"silence-ms", required_argument, NULL, OPTION_SILENCE},
    {"heartbeat-ms", required_argument, NULL, OPTION_HEARTBEAT},
    {"settle-ms", required_argument, NULL, OPTION_SETTLE},
    {"verbose", no_argument, NULL, 'v'},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},
    {NULL, 0, NULL, 0},
};

static void print_help(void)
{
    struct coordinator_config defaults;
    coordinator_config_init(&defaults);
    printf(help, (unsigned long long)(DETACHED_BYTES_MAX >> 30),
           (unsigned long long)(DETACHED_KEEP_S / 86400), defaults.workers_max,
           defaults.clients_max, (unsigned long long)(defaults.client_bytes_max >> 20),
           defaults.silence_ms, defaults.heartbeat_ms, defaults.settle_ms);
}

static int wrong(const char *name, const char *value, const char *want)
{
    fprintf(stderr, PROGRAM ": --%s %s: %s\n", name, value, want);
    return EXIT_USAGE;
}

static int read_count(const char *name, uint32_t low, uint32_t high, uint32_t *ret_value)
{
    uint64_t value = 0;
    char want[80];
    snprintf(want, sizeof want, "a whole number from %u to %u is wanted", low, high);
    if (!sys_parse_size(optarg, &value) ||
        strspn(optarg, "0123456789") != strlen(optarg) || value < low || value > high)
        return wrong(name, optarg, want);
    *ret_value = (uint32_t)value;
    return -1;
}

static int read_memory(struct coordinator_config *core)
{
    uint64_t bytes = 0;
    if (!sys_parse_size(optarg, &bytes) || bytes < 1u << 20)
        return wrong("memory", optarg, "a number of bytes of at least 1M is wanted");
    core->client_bytes_max = bytes;
    core->result_bytes_max = bytes;
    return -1;
}

static int read_detached_bytes(struct coordinator_options *options)
{
    uint64_t bytes = 0;
    if (!sys_parse_size(optarg, &bytes) || bytes < 1u << 20 || bytes > UINT64_C(1) << 43)
        return wrong("detached-max-bytes", optarg,
                     "a number of bytes from 1M to 8T is wanted");
    options->detached_bytes_max = bytes;
    return -1;
}

/* A whole number and s, m, h or d. */
static int read_keep(struct coordinator_options *options)
{
    static const struct {
        char letter;
        uint64_t seconds;
    } units[] = {{'\0', 1}, {'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
    char *end;
    const unsigned long long number = strtoull(optarg, &end, 10);
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (optarg[0] >= '0' && optarg[0] <= '9' && *end == units[i].letter &&
            (*end == '\0' || end[1] == '\0') && number >= 1 &&
            number <= 3660 * UINT64_C(86400) / units[i].seconds) {
            options->detached_keep_s = number * units[i].seconds;
            return -1;
        }
    return wrong("detached-keep", optarg,
                 "a time from 1s to 3660d is wanted, as 12h or 7d");
}

/* What getopt_long found; the exit code, or -1 to go on. */
static int read_option(int option, struct coordinator_options *options,
                       bool *heartbeat_given)
{
    struct coordinator_config *core = &options->core;
    switch (option) {
    case 'l':
        options->address = optarg;
        return -1;
    case 'k':
        options->keys = optarg;
        return optarg[0] != '\0' ? -1 : wrong("keys", "\"\"", "a folder is wanted");
    case 's':
        options->state = optarg;
        return optarg[0] != '\0' ? -1 : wrong("state", "\"\"", "a folder is wanted");
    case OPTION_DETACHED_MAX_BYTES:
        return read_detached_bytes(options);
    case OPTION_DETACHED_KEEP:
        return read_keep(options);
    case OPTION_WORKERS_MAX:
        return read_count("workers-max", 1, 1000000, &core->workers_max);
    case OPTION_CLIENTS_MAX:
        return read_count("clients-max", 1, 1000000, &core->clients_max);
    case OPTION_MEMORY:
        return read_memory(core);
    case OPTION_SILENCE:
        return read_count("silence-ms", 100, 3600000, &core->silence_ms);
    case OPTION_HEARTBEAT:
        *heartbeat_given = true;
        return read_count("heartbeat-ms", 10, 3600000, &core->heartbeat_ms);
    case OPTION_SETTLE:
        return read_count("settle-ms", 0, 3600000, &core->settle_ms);
    case 'v':
        options->level = options->level < LOG_DEBUG ? LOG_DEBUG : LOG_TRACE;
        return -1;
    case 'h':
        print_help();
        return EXIT_ENDED;
    case 'V':
        printf(PROGRAM " " FARPOOL_VERSION "\n");
        return EXIT_ENDED;
    default:
        fprintf(stderr, "Try " PROGRAM " --help.\n");
        return EXIT_USAGE;
    }
}

static int check(struct coordinator_options *options, bool heartbeat_given)
{
    struct coordinator_config *core = &options->core;
    farpool_error error;
    const uint32_t usual_ms = core->silence_ms / 5 * 2;
    if (!heartbeat_given && core->heartbeat_ms > usual_ms)
        core->heartbeat_ms = usual_ms;
    if (core->heartbeat_ms > core->silence_ms / 2) {
        fprintf(stderr,
                PROGRAM
                ": --heartbeat-ms %u: at most half of --silence-ms (%u) is wanted\n",
                core->heartbeat_ms, core->silence_ms);
        return EXIT_USAGE;
    }
    if (net_check_address(options->address, true, options->keys != NULL, &error) != 0) {
        fprintf(stderr, PROGRAM ": --listen: %s\n", error.text);
        return EXIT_USAGE;
    }
    return -1;
}

int coordinator_read_options(int argc, char **argv,
                             struct coordinator_options *ret_options)
{
    struct coordinator_options options = {.address = COORDINATOR_ADDRESS,
                                          .detached_bytes_max = DETACHED_BYTES_MAX,
                                          .detached_keep_s = DETACHED_KEEP_S,
                                          .level = LOG_INFO};
    const char *keys = getenv("FARPOOL_KEYS"), *state = getenv("FARPOOL_STATE");
    bool heartbeat_given = false;
    if (keys != NULL && keys[0] != '\0')
        options.keys = keys;
    if (state != NULL && state[0] != '\0')
        options.state = state;
    coordinator_config_init(&options.core);
    int option, exit_code = -1;
    optind = 0; /* getopt starts anew */
    while (exit_code == -1 &&
           (option = getopt_long(argc, argv, "l:k:s:vhV", table, NULL)) != -1)
        exit_code = read_option(option, &options, &heartbeat_given);
    if (exit_code != -1)
        return exit_code;
    if (optind < argc) {
        fprintf(stderr, PROGRAM ": \"%s\" is not wanted. Try " PROGRAM " --help.\n",
                argv[optind]);
        return EXIT_USAGE;
    }
    exit_code = check(&options, heartbeat_given);
    if (exit_code == -1)
        *ret_options = options;
    return exit_code;
}
