/* SPDX-License-Identifier: Apache-2.0
 *
 * logs.c: `farpool logs`: the last lines of the daemons' logs and of what processes
 * printed, of the whole cluster, one a line. */
#include "cli/cli.h"
#include "cli/json.h"
#include "common/base/printable.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LINES_MAX 10000
#define ID_DIGITS 32

static const char help_text[] =
    "usage: farpool logs [OPTIONS] [NODE]\n"
    "\n"
    "Shows the last lines that the coordinator and the workers have logged, and what\n"
    "processes printed there, in order of time; with NODE, of that node only\n"
    "(\"coordinator\": of the coordinator). The daemons keep about the last 384 KiB, debug\n"
    "lines included.\n"
    "\n"
    "  -n, --lines N              the last N lines in all, 1 to 10000 (default: 100)\n"
    "  -f, --follow               go on with what comes, until interrupted\n"
    "  -p, --pool POOL            only what processes of this pool printed: the beginning\n"
    "                             of its id as `farpool jobs` shows it, or all of it, also\n"
    "                             when the pool has ended\n"
    "  -c, --coordinator ADDRESS  whom to ask (default: $FARPOOL_COORDINATOR)\n"
    "  -k, --key FILE             the key to ask with (default: $FARPOOL_KEY); a client's\n"
    "                             key is shown what its own pools printed\n"
    "  -j, --json                 as JSON, one object a line\n"
    "      --help                 this text\n"
    "\n"
    "Exit status: 0; 254 usage; 255 no coordinator answered, a node did not, or there is\n"
    "no such node or pool.\n";

static const struct option long_options[] = {
    {"lines", required_argument, NULL, 'n'},
    {"follow", no_argument, NULL, 'f'},
    {"pool", required_argument, NULL, 'p'},
    {"coordinator", required_argument, NULL, 'c'},
    {"key", required_argument, NULL, 'k'},
    {"json", no_argument, NULL, 'j'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

struct logs {
    farpool_log_options options;
    const char *address;
    char pool[ID_DIGITS + 1];
    bool json, missing; /* a node did not answer */
};

static void print_note(struct logs *logs, const farpool_log_line *line)
{
    const char *node = line->node[0] ? line->node : "the coordinator";
    fflush(stdout);
    if (line->code) {
        logs->missing = true;
        fprintf(stderr, "farpool logs: %s: %s\n", node, line->reason);
    } else {
        fprintf(stderr, "farpool logs: %s: %" PRIu64 " lines are not kept any more\n",
                node, line->left_out);
    }
}

static int print_text(const farpool_log_line *line)
{
    const time_t seconds = (time_t)(line->time_ms / 1000);
    struct tm parts;
    char when[32] = "", *text = malloc(line->size + 1);
    if (!text)
        return 1;
    if (localtime_r(&seconds, &parts))
        strftime(when, sizeof when, "%H:%M:%S", &parts);
    text[printable_copy(text, line->text, line->size)] = '\0';
    printf("%s.%03u %s ", when, (unsigned)(line->time_ms % 1000),
           line->node[0] ? line->node : "-");
    if (line->fd)
        printf("%s[%d]: %s\n", line->fd == 2 ? "stderr" : "stdout", line->pid, text);
    else
        printf("%s %s %s\n", line->node[0] ? "worker" : "coordinator", line->level, text);
    free(text);
    return 0;
}

/* JSON has no bytes that are not UTF-8: they become '?', as control characters do. */
static int print_json(const farpool_log_line *line)
{
    char *text = malloc(line->size + 1);
    if (!text)
        return 1;
    text[printable_copy(text, line->text, line->size)] = '\0';
    json_t *root = json_pack("{s:s, s:I, s:s, s:s}", "node", line->node, "time_ms",
                             (json_int_t)line->time_ms, "from",
                             line->fd == 2   ? "stderr"
                             : line->fd      ? "stdout"
                             : line->node[0] ? "worker"
                                             : "coordinator",
                             "text", text);
    free(text);
    if (line->fd) {
        json_object_set_new(root, "pool", json_string(line->pool));
        json_object_set_new(root, "pid", json_integer(line->pid));
    } else {
        json_object_set_new(root, "level", json_string(line->level));
    }
    const int failed = json_dumpf(root, stdout, JSON_COMPACT);
    json_decref(root);
    putchar('\n');
    return failed;
}

static int print(void *user, const farpool_log_line *line)
{
    struct logs *logs = user;
    int failed = 0;
    if (!line->text)
        print_note(logs, line);
    else
        failed = logs->json ? print_json(line) : print_text(line);
    if (logs->options.follow)
        fflush(stdout);
    return failed || ferror(stdout);
}

/* A pool by its full id may have ended; by the beginning of one, it must be there. */
static bool find_pool(struct logs *logs, const char *name)
{
    farpool_cluster_status *status;
    const farpool_pool_status *pool;
    snprintf(logs->pool, sizeof logs->pool, "%s", name);
    logs->options.pool = logs->pool;
    if (strlen(name) == ID_DIGITS)
        return true;
    if (!(status = cli_get_status("logs", logs->address)))
        return false;
    pool = cli_find_pool("logs", status, name);
    if (pool)
        snprintf(logs->pool, sizeof logs->pool, "%s", pool->id);
    farpool_cluster_status_free(status);
    return pool != NULL;
}

static int run(struct logs *logs, const char *pool)
{
    farpool_error error;
    if (pool && !find_pool(logs, pool))
        return CLI_ERROR;
    if (farpool_cluster_logs(logs->address, CLI_ANSWER_MS, &logs->options, print, logs,
                             &error))
        return cli_library_error("logs", &error);
    if (fflush(stdout) || ferror(stdout)) {
        perror("farpool logs: standard output");
        return CLI_ERROR;
    }
    return logs->missing ? CLI_ERROR : CLI_OK;
}

int cli_logs(int argc, char **argv)
{
    struct logs logs = {.address = NULL};
    const char *pool = NULL;
    int64_t lines = 0;
    optind = 1;
    for (int option;
         (option = getopt_long(argc, argv, "n:fp:c:k:j", long_options, NULL)) != -1;) {
        switch (option) {
        case 'n':
            if (!cli_number("logs", "--lines", optarg, 1, LINES_MAX, &lines))
                return CLI_USAGE;
            logs.options.lines = (uint32_t)lines;
            break;
        case 'f':
            logs.options.follow = true;
            break;
        case 'p':
            pool = optarg;
            break;
        case 'c':
            logs.address = optarg;
            break;
        case 'k':
            cli_set_key(optarg);
            break;
        case 'j':
            logs.json = true;
            break;
        case 'h':
            fputs(help_text, stdout);
            return CLI_OK;
        default:
            fputs("Try: farpool logs --help\n", stderr);
            return CLI_USAGE;
        }
    }
    if (argc - optind > 1)
        return cli_usage_error("logs", "'%s' is one argument too many", argv[optind + 1]);
    logs.options.node = argv[optind];
    return run(&logs, pool);
}
