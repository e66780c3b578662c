/* SPDX-License-Identifier: Apache-2.0
 *
 * map_options.c: the command line of `farpool map` and `farpool submit`. */
#include "cli/cli.h"
#include "cli/map.h"
#include "common/sys/sys.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help_text[] =
    "usage: farpool map [OPTIONS] COMMAND [ARGUMENT...] [::: ITEM...]\n"
    "\n"
    "Runs COMMAND once for each ITEM, or, without :::, once for each line of standard\n"
    "input. {} in the command is replaced by the item; without any {} the item becomes\n"
    "the last argument. No shell is involved unless --shell is given.\n"
    "\n"
    "Commands run in the current folder, on a coordinator's workers too. On a node that\n"
    "has no such folder, or may not enter it, which is told once a node, they run in\n"
    "scratch folders; and so they do with --file, beside the files.\n"
    "\n"
    "  -c, --coordinator ADDRESS  run on its workers (default: $FARPOOL_COORDINATOR,\n"
    "                             else on the cores of this machine)\n"
    "  -k, --key FILE             the key that it wants (default: $FARPOOL_KEY)\n"
    "  -j, --processes N          at most N commands at a time (default: every slot)\n"
    "  -u, --unordered            write outputs as commands finish\n"
    "  -s, --shell                COMMAND is one text for `sh -c`; {} is quoted\n"
    "  -t, --timeout SECONDS      kill a command that runs longer\n"
    "      --task-cpu SECONDS     kill a command that uses more CPU time\n"
    "      --task-memory BYTES    kill a command that uses more memory; K, M, G: of 1024\n"
    "  -r, --retries N            try a failed command up to N more times\n"
    "      --speculate            run the slowest commands at the end a second time, on\n"
    "                             another node; the first result counts\n"
    "  -w, --workdir DIR          run commands in this folder of each node; ...: in\n"
    "                             scratch folders, which end with the pool\n"
    "  -f, --file PATH            bring this file to each node, into the scratch folder\n"
    "                             that the command then runs in; may be given again\n"
    "  -0, --null                 input ends with NUL bytes instead of line ends\n"
    "  -p, --progress             a progress bar on standard error\n"
    "  -q, --quiet                no line on standard error for a command that failed\n"
    "  -n, --dry-run              print the commands, run nothing\n"
    "      --help                 this text\n"
    "\n"
    "Exit status: 0 all succeeded; 1 to 100 so many failed; 101 more failed;\n"
    "254 usage; 255 the pool could not be used.\n"
    "\n"
    "  farpool map gzip -9 ::: *.log\n"
    "  find . -name '*.jpg' | farpool map -p convert {} -resize 50% {}.small.jpg\n";

enum { OPTION_TASK_CPU = 256, OPTION_TASK_MEMORY, OPTION_SPECULATE };

static const char submit_text[] =
    "usage: farpool submit [OPTIONS] NAME COMMAND [ARGUMENT...] [::: ITEM...]\n"
    "\n"
    "Leaves a job with a coordinator that keeps detached jobs (--state), and returns when\n"
    "it is on its disk: as farpool map, COMMAND is run once for each ITEM, or each line of\n"
    "standard input, on the coordinator's workers. farpool jobs shows it by its NAME (1 to\n"
    "63 letters, digits, . _ -), farpool wait waits for it, farpool results prints what\n"
    "the commands wrote, from any machine, and farpool cancel --detached ends it.\n"
    "Commands run in scratch folders of the nodes: files are named by absolute paths, or\n"
    "come with --file; or give --workdir. NAME is printed when the job is on the disk.\n"
    "\n"
    "  -c, --coordinator ADDRESS  whom to leave it with (default: $FARPOOL_COORDINATOR)\n"
    "  -k, --key FILE             the key that it wants (default: $FARPOOL_KEY)\n"
    "  -j, --processes N          at most N commands at a time (default: every slot)\n"
    "  -s, --shell                COMMAND is one text for `sh -c`; {} is quoted\n"
    "  -t, --timeout SECONDS      kill a command that runs longer\n"
    "      --task-cpu SECONDS     kill a command that uses more CPU time\n"
    "      --task-memory BYTES    kill a command that uses more memory; K, M, G: of 1024\n"
    "  -r, --retries N            try a failed command up to N more times\n"
    "      --speculate            run the slowest commands at the end a second time, on\n"
    "                             another node; the first result counts\n"
    "  -w, --workdir DIR          run commands in this folder of each node: the job fails\n"
    "                             where it is not; ...: in scratch folders\n"
    "  -f, --file PATH            put this file beside the command on each node; may\n"
    "                             be given again\n"
    "  -0, --null                 input ends with NUL bytes instead of line ends\n"
    "      --help                 this text\n"
    "\n"
    "Exit status: 0 it is on the disk; 254 usage; 255 it could not be submitted.\n"
    "\n"
    "  farpool submit nightly gzip -9 ::: /data/*.log\n";

static const char *map_called = "map"; /* or submit: for what is said of options */

static const struct option long_options[] = {
    {"coordinator", required_argument, NULL, 'c'},
    {"key", required_argument, NULL, 'k'},
    {"processes", required_argument, NULL, 'j'},
    {"unordered", no_argument, NULL, 'u'},
    {"shell", no_argument, NULL, 's'},
    {"timeout", required_argument, NULL, 't'},
    {"task-cpu", required_argument, NULL, OPTION_TASK_CPU},
    {"task-memory", required_argument, NULL, OPTION_TASK_MEMORY},
    {"retries", required_argument, NULL, 'r'},
    {"speculate", no_argument, NULL, OPTION_SPECULATE},
    {"workdir", required_argument, NULL, 'w'},
    {"file", required_argument, NULL, 'f'},
    {"null", no_argument, NULL, '0'},
    {"progress", no_argument, NULL, 'p'},
    {"quiet", no_argument, NULL, 'q'},
    {"dry-run", no_argument, NULL, 'n'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

/* Seconds, with a fraction if one likes, as milliseconds. */
static bool parse_seconds(const char *option, const char *text, int64_t *ret_ms)
{
    char *end;
    double seconds = strtod(text, &end);
    if (end == text || *end || !(seconds >= 0.001) || seconds > 1e9) {
        cli_usage_error(map_called, "%s: '%s' is not a time from 0.001 to 1e9 seconds",
                        option, text);
        return false;
    }
    *ret_ms = (int64_t)(seconds * 1000);
    return true;
}

static bool parse_bytes(const char *option, const char *text, int64_t *ret_bytes)
{
    uint64_t bytes;
    if (!sys_parse_size(text, &bytes) || bytes == 0 || bytes > INT64_MAX) {
        cli_usage_error(map_called, "%s: '%s' is not a number of bytes, like 500M or 4G",
                        option, text);
        return false;
    }
    *ret_bytes = (int64_t)bytes;
    return true;
}

static bool parse_option(struct map *map, int option)
{
    switch (option) {
    case 'c':
        map->coordinator = optarg;
        return true;
    case 'k':
        cli_set_key(optarg);
        return true;
    case 'j':
        return cli_number(map_called, "--processes", optarg, 1, 65536, &map->processes);
    case 'u':
        map->unordered = true;
        return true;
    case 's':
        map->shell = true;
        return true;
    case 't':
        return parse_seconds("--timeout", optarg, &map->timeout_ms);
    case OPTION_TASK_CPU:
        return parse_seconds("--task-cpu", optarg, &map->cpu_ms);
    case OPTION_TASK_MEMORY:
        return parse_bytes("--task-memory", optarg, &map->memory_bytes);
    case 'r':
        return cli_number(map_called, "--retries", optarg, 0, 1000, &map->retries);
    case OPTION_SPECULATE:
        map->speculate = 1;
        return true;
    case 'w':
        map->workdir = optarg;
        return true;
    case 'f':
        if (map->files_count == FILES_MAX) {
            cli_usage_error(map_called, "--file: more than %d files", FILES_MAX);
            return false;
        }
        map->files[map->files_count++] = optarg;
        return true;
    case '0':
        map->delimiter = '\0';
        return true;
    case 'p':
        map->progress = true;
        return true;
    case 'q':
        map->quiet = true;
        return true;
    case 'n':
        map->dry_run = true;
        return true;
    default: /* getopt has said what is wrong */
        fprintf(stderr, "Try: farpool %s --help\n", map_called);
        return false;
    }
}

/* Why an option is none of a job that nobody watches. */
static const char *only_map(int option)
{
    switch (option) {
    case 'u':
        return "--unordered is for farpool map only: results are kept, and given in order";
    case 'n':
        return "--dry-run is for farpool map only: `farpool map --dry-run` shows the same "
               "commands";
    case 'p':
        return "--progress is for farpool map only: see `farpool jobs` and `farpool wait`";
    default:
        return "--quiet is for farpool map only: `farpool results` tells which failed";
    }
}

/* The template, and the items behind ":::". */
static void set_defaults(struct map *map)
{
    map->processes = map->retries = FARPOOL_AUTO;
    map->timeout_ms = map->cpu_ms = map->memory_bytes = FARPOOL_AUTO;
    map->speculate = FARPOOL_AUTO;
    map->delimiter = '\n';
}

int map_parse(struct map *map, int argc, char **argv)
{
    const bool submit = map->submit;
    int option;
    map_called = submit ? "submit" : "map";
    set_defaults(map);
    optind = 1;
    while ((option = getopt_long(argc, argv, "+c:k:j:ust:r:w:f:0pqn", long_options,
                                 NULL)) != -1) {
        if (option == 'h') {
            fputs(submit ? submit_text : help_text, stdout);
            return -1;
        }
        if (submit && option < OPTION_TASK_CPU && strchr("upqn", option))
            return cli_usage_error(map_called, "%s", only_map(option));
        if (!parse_option(map, option))
            return CLI_USAGE;
    }
    if (submit && optind < argc)
        map->name = argv[optind++];
    map->command = argv + optind;
    for (int i = optind; i < argc; i++) {
        if (strcmp(argv[i], ":::") == 0) {
            argv[i] = NULL;
            map->items = argv + i + 1;
            break;
        }
    }
    if (!map->command[0])
        return cli_usage_error(map_called, "no command");
    if (map->shell && map->command[1])
        return cli_usage_error(map_called, "--shell takes the command as one argument");
    return 0;
}

void map_free(struct map *map)
{
    free(map->line);
    free(map->arguments);
}

void map_set_options(const struct map *map, farpool_pool_options *options)
{
    options->processes = map->processes;
    options->retries = map->retries;
    options->task_timeout_ms = map->timeout_ms;
    options->task_cpu_ms = map->cpu_ms;
    options->task_memory_bytes = map->memory_bytes;
    options->speculate = map->speculate;
    options->files = map->files_count ? map->files : NULL;
}
