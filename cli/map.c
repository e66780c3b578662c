/* SPDX-License-Identifier: Apache-2.0
 *
 * map.c: `farpool map`: a command over arguments or lines of standard input. Inputs are
 * read only as fast as commands end, so that endless input works; outputs are written in
 * the order of the inputs or as they finish, each one whole. `farpool submit` leaves the
 * same commands with a coordinator. */
#include "cli/cli.h"
#include "cli/progress.h"
#include "cli/workdir.h"
#include "common/sys/sys.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FAILED_MAX = 100, FILES_MAX = 63 };
enum { NEXT_MS = 100, WAITS_BEFORE_TOLD = 10 }; /* of NEXT_MS each */

/* The command line of one run, and where its inputs come from. */
struct map {
    const char *coordinator, *workdir;
    int64_t processes, retries, timeout_ms, cpu_ms, memory_bytes;
    bool submit; /* and go; else: run, and write what comes */
    const char *name;
    bool unordered, progress, shell, quiet, dry_run;
    char delimiter;
    const char *files[FILES_MAX + 1];
    int files_count;
    char **command; /* the template, NULL-ended */
    char **items;   /* arguments behind ":::", or NULL: lines of stdin */
    char *line;     /* of getdelim, or the present item */
    size_t line_capacity;
    char *arguments; /* the packed command of the present item */
    size_t arguments_size, arguments_capacity;
    uint64_t failed, done;
    struct cli_progress bar;
    farpool_pool *pool;
    unsigned waits;                                    /* for a result, in vain */
    char warning[sizeof((farpool_error *)NULL)->text]; /* the last one that was told */
};

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

enum { OPTION_TASK_CPU = 256, OPTION_TASK_MEMORY };

static const char submit_text[] =
    "usage: farpool submit [OPTIONS] NAME COMMAND [ARGUMENT...] [::: ITEM...]\n"
    "\n"
    "Leaves a job with a coordinator that keeps detached jobs (--state), and returns when\n"
    "it is on its disk: as farpool map, COMMAND is run once for each ITEM, or each line of\n"
    "standard input, on the coordinator's workers. farpool jobs shows it by its NAME (1 to\n"
    "63 letters, digits, . _ -), farpool wait waits for it, farpool results prints what\n"
    "the commands wrote, from any machine, and farpool cancel --detached ends it.\n"
    "Commands run in scratch folders of the nodes: files are named by absolute paths, or\n"
    "come with --file.\n"
    "\n"
    "  -c, --coordinator ADDRESS  whom to leave it with (default: $FARPOOL_COORDINATOR)\n"
    "  -k, --key FILE             the key that it wants (default: $FARPOOL_KEY)\n"
    "  -j, --processes N          at most N commands at a time (default: every slot)\n"
    "  -s, --shell                COMMAND is one text for `sh -c`; {} is quoted\n"
    "  -t, --timeout SECONDS      kill a command that runs longer\n"
    "      --task-cpu SECONDS     kill a command that uses more CPU time\n"
    "      --task-memory BYTES    kill a command that uses more memory; K, M, G: of 1024\n"
    "  -r, --retries N            try a failed command up to N more times\n"
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

/* The template, and the items behind ":::". 0, or an exit status; -1: help was asked for.
 */
static int parse(struct map *map, int argc, char **argv)
{
    const bool submit = map->submit;
    int option;
    optind = 1;
    while ((option = getopt_long(argc, argv, "+c:k:j:ust:r:w:f:0pqn", long_options,
                                 NULL)) != -1) {
        if (option == 'h')
            return -1;
        if (submit && option < OPTION_TASK_CPU && strchr("upqnw", option))
            return cli_usage_error(map_called, "-%c is for farpool map only", option);
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

static bool append(struct map *map, const char *data, size_t size)
{
    if (map->arguments_size + size > map->arguments_capacity) {
        size_t capacity = (map->arguments_size + size) * 2;
        char *arguments = realloc(map->arguments, capacity);
        if (!arguments)
            return false;
        map->arguments = arguments;
        map->arguments_capacity = capacity;
    }
    memcpy(map->arguments + map->arguments_size, data, size);
    map->arguments_size += size;
    return true;
}

/* The item as one word of a shell command: in single quotes, those inside escaped. */
static bool append_quoted(struct map *map, const char *item)
{
    bool ok = append(map, "'", 1);
    for (; ok && *item; item++)
        ok = *item == '\'' ? append(map, "'\\''", 4) : append(map, item, 1);
    return ok && append(map, "'", 1);
}

static bool append_item(struct map *map, const char *item)
{
    return map->shell ? append_quoted(map, item) : append(map, item, strlen(item));
}

/* One argument of the template with the item in it; notes whether there was a {}. */
static bool append_argument(struct map *map, const char *text, const char *item,
                            bool *ret_used)
{
    const char *braces;
    while ((braces = strstr(text, "{}")) != NULL) {
        if (!append(map, text, (size_t)(braces - text)) || !append_item(map, item))
            return false;
        *ret_used = true;
        text = braces + 2;
    }
    return append(map, text, strlen(text));
}

/* Packs the command line for an item into map->arguments. */
static bool build_command(struct map *map, const char *item)
{
    bool used = false, ok = true;
    map->arguments_size = 0;
    if (map->shell) {
        ok = append(map, "sh\0-c", 6) &&
             append_argument(map, map->command[0], item, &used);
        if (ok && !used)
            ok = append(map, " ", 1) && append_item(map, item);
        return ok && append(map, "", 1);
    }
    for (char **argument = map->command; ok && *argument; argument++)
        ok = append_argument(map, *argument, item, &used) && append(map, "", 1);
    if (ok && !used)
        ok = append(map, item, strlen(item) + 1);
    return ok;
}

/* The next item: 0, FARPOOL_END, or FARPOOL_EINPUT with a message. */
static int next_item(struct map *map, const char **ret_item, char message[256])
{
    if (map->items) {
        *ret_item = *map->items;
        return *map->items++ ? FARPOOL_OK : FARPOOL_END;
    }
    errno = 0;
    ssize_t size = getdelim(&map->line, &map->line_capacity, map->delimiter, stdin);
    if (size < 0) {
        if (feof(stdin))
            return FARPOOL_END;
        snprintf(message, 256, "cannot read standard input: %s", strerror(errno));
        return FARPOOL_EINPUT;
    }
    if (size > 0 && map->line[size - 1] == map->delimiter)
        map->line[size - 1] = '\0';
    *ret_item = map->line;
    return FARPOOL_OK;
}

/* The pool's input callback. */
static int next_command(void *user, farpool_bytes *ret_item, char message[256])
{
    struct map *map = user;
    const char *item;
    int code = next_item(map, &item, message);
    if (code)
        return code;
    if (!build_command(map, item)) {
        snprintf(message, 256, "out of memory");
        return FARPOOL_ENOMEM;
    }
    ret_item->data = map->arguments;
    ret_item->size = map->arguments_size;
    return FARPOOL_OK;
}

static int print_commands(struct map *map)
{
    farpool_bytes item;
    char message[256];
    int code;
    while ((code = next_command(map, &item, message)) == FARPOOL_OK) {
        const char *text = item.data, *end = text + item.size;
        for (const char *at = text; at < end; at += strlen(at) + 1)
            printf("%s%s", at == text ? "" : " ", at);
        putchar('\n');
    }
    return code == FARPOOL_END ? CLI_OK : CLI_ERROR;
}

/* What a user who waits should know, each thing once: that there is no worker, or that
 * one cannot run this. */
static void explain_waiting(struct map *map)
{
    farpool_pool_info info;
    farpool_error warning;
    if (farpool_pool_warning(map->pool, &warning) == FARPOOL_OK &&
        strcmp(warning.text, map->warning) != 0) {
        snprintf(map->warning, sizeof map->warning, "%s", warning.text);
        cli_progress_hide(&map->bar);
        cli_library_error("map", &warning);
    }
    if (map->done == 0 && ++map->waits == WAITS_BEFORE_TOLD &&
        farpool_pool_get_info(map->pool, &info, NULL) == FARPOOL_OK && info.nodes == 0) {
        cli_progress_hide(&map->bar);
        fputs("farpool map: no worker has joined the coordinator yet: waiting for one\n",
              stderr);
    }
}

/* Takes results until the end. 0, or an exit status when the pool itself failed. */
static int collect(struct map *map, farpool_iterator *iterator)
{
    farpool_error error;
    farpool_bytes output;
    farpool_progress progress;
    uint64_t index;
    int code, result = CLI_OK;
    while ((code = farpool_next(iterator, NEXT_MS, &output, &index, &error)) !=
           FARPOOL_END) {
        if (code == FARPOOL_ETIMEDOUT) {
            fflush(stdout);
            explain_waiting(map);
        } else if (code == FARPOOL_OK) {
            if (!cli_outcome_is_silent(&output))
                cli_progress_hide(&map->bar);
            map->failed += cli_print_outcome("map", &output, index, map->quiet);
            map->done++;
        } else if (error.index != FARPOOL_NO_INDEX && code != FARPOOL_EINPUT) {
            cli_progress_hide(&map->bar);
            map->failed++;
            map->done++;
            if (!map->quiet)
                fprintf(stderr, "farpool map: command %" PRIu64 ": %s\n", index + 1,
                        error.text);
        } else {
            cli_progress_hide(&map->bar);
            result = cli_library_error("map", &error);
            break;
        }
        if (farpool_iterator_progress(iterator, &progress) == FARPOOL_OK)
            cli_progress_show(&map->bar, &progress, map->done, map->failed);
    }
    cli_progress_hide(&map->bar);
    return result;
}

static int run_in(struct map *map, struct cli_workdir *workdir)
{
    farpool_error error;
    farpool_pool_options options = FARPOOL_POOL_OPTIONS;
    int result = CLI_ERROR;
    options.processes = map->processes;
    options.retries = map->retries;
    options.task_timeout_ms = map->timeout_ms;
    options.task_cpu_ms = map->cpu_ms;
    options.task_memory_bytes = map->memory_bytes;
    options.files = map->files_count ? map->files : NULL;
    cli_workdir_set(workdir, &map->bar, &options);
    farpool_pool *pool = farpool_open(map->coordinator, &options, &error);
    if (!pool)
        return cli_library_error("map", &error);
    map->pool = pool;
    farpool_iterator *iterator = (map->unordered ? farpool_imap_unordered : farpool_imap)(
        pool, cli_command_function(), next_command, map, NULL, &error);
    if (iterator)
        result = collect(map, iterator);
    else
        cli_library_error("map", &error);
    farpool_iterator_free(iterator);
    farpool_terminate(pool, NULL);
    farpool_pool_free(pool);
    if (fflush(stdout) != 0)
        return cli_error("map", "cannot write the output: %s", strerror(errno));
    if (map->failed > FAILED_MAX && !map->quiet) /* the status cannot tell how many */
        fprintf(stderr, "farpool map: %" PRIu64 " of %" PRIu64 " commands failed%s\n",
                map->failed, map->done,
                workdir->told_count ? "; nodes without the current folder are named above"
                                    : "");
    if (result == CLI_OK && map->failed)
        result = map->failed > FAILED_MAX ? FAILED_MAX + 1 : (int)map->failed;
    return result;
}

static int run(struct map *map)
{
    const char *address =
        map->coordinator ? map->coordinator : getenv("FARPOOL_COORDINATOR");
    struct cli_workdir workdir;
    int result = cli_workdir_choose(map->workdir, map->files_count > 0,
                                    !address || !address[0], &workdir);
    cli_progress_open(&map->bar, map->progress);
    if (result == CLI_OK)
        result = run_in(map, &workdir);
    cli_progress_close(&map->bar);
    cli_workdir_fini(&workdir);
    return result;
}

static int submit(struct map *map)
{
    farpool_error error;
    farpool_pool_options options = FARPOOL_POOL_OPTIONS;
    options.processes = map->processes;
    options.retries = map->retries;
    options.task_timeout_ms = map->timeout_ms;
    options.task_cpu_ms = map->cpu_ms;
    options.task_memory_bytes = map->memory_bytes;
    options.files = map->files_count ? map->files : NULL;
    if (farpool_submit(map->coordinator, map->name, cli_command_function(), next_command,
                       map, &options, &error))
        return cli_library_error("submit", &error);
    return CLI_OK;
}

int cli_submit(int argc, char **argv)
{
    struct map map = {
        .submit = true,
        .processes = FARPOOL_AUTO,
        .retries = FARPOOL_AUTO,
        .timeout_ms = FARPOOL_AUTO,
        .cpu_ms = FARPOOL_AUTO,
        .memory_bytes = FARPOOL_AUTO,
        .delimiter = '\n',
    };
    map_called = "submit";
    int result = parse(&map, argc, argv);
    if (result < 0) {
        fputs(submit_text, stdout);
        return CLI_OK;
    }
    if (result == CLI_OK)
        result = submit(&map);
    free(map.line);
    free(map.arguments);
    return result;
}

int cli_map(int argc, char **argv)
{
    struct map map = {
        .processes = FARPOOL_AUTO,
        .retries = FARPOOL_AUTO,
        .timeout_ms = FARPOOL_AUTO,
        .cpu_ms = FARPOOL_AUTO,
        .memory_bytes = FARPOOL_AUTO,
        .delimiter = '\n',
    };
    int result = parse(&map, argc, argv);
    if (result < 0) {
        fputs(help_text, stdout);
        return CLI_OK;
    }
    if (result == CLI_OK)
        result = map.dry_run ? print_commands(&map) : run(&map);
    free(map.line);
    free(map.arguments);
    return result;
}
