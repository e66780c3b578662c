/* SPDX-License-Identifier: Apache-2.0
 *
 * cancel.c: `farpool cancel`: an operator ends a job, or all jobs of a pool. Their client
 * does it, when the coordinator tells it; this command does not wait for that. */
#include "cli/cli.h"
#include "cli/json.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>

static const char help_text[] =
    "usage: farpool cancel [OPTIONS] POOL [JOB]\n"
    "       farpool cancel [OPTIONS] --detached NAME\n"
    "\n"
    "Cancels one job, or all jobs of a pool: its client gets ECANCELLED for every task\n"
    "that has not ended. POOL is the beginning of a pool's id, JOB a number, both as\n"
    "`farpool jobs` shows them. Tasks that run may finish, unless --kill is given; their\n"
    "results are dropped. A detached job is cancelled by its NAME: what runs of it is\n"
    "killed, and the results that it has stay.\n"
    "\n"
    "  -d, --detached             NAME is a detached job's (farpool submit)\n"
    "  -k, --kill                 kill the tasks that run\n"
    "  -c, --coordinator ADDRESS  whom to ask (default: $FARPOOL_COORDINATOR)\n"
    "      --key FILE             the key to ask with (default: $FARPOOL_KEY)\n"
    "  -j, --json                 the outcome as JSON, for programs\n"
    "      --help                 this text\n"
    "\n"
    "Exit status: 0 the client was told; 254 usage; 255 no coordinator answered, or no\n"
    "such pool or job.\n";

static const struct option long_options[] = {
    {"detached", no_argument, NULL, 'd'},
    {"kill", no_argument, NULL, 'k'},
    {"coordinator", required_argument, NULL, 'c'},
    {"key", required_argument, NULL, 'K'},
    {"json", no_argument, NULL, 'j'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

struct cancel {
    const char *address;
    bool kill, json, detached;
};

static int end_detached(const struct cancel *cancel, const char *name)
{
    farpool_error error;
    uint64_t tasks = 0;
    farpool_detached *job = farpool_attach(cancel->address, name, CLI_ANSWER_MS, &error);
    const int code =
        job ? farpool_detached_cancel(job, CLI_ANSWER_MS, &tasks, &error) : error.code;
    farpool_detached_free(job);
    if (code)
        return cli_library_error("cancel", &error);
    if (cancel->json)
        return cli_print_json(
            "cancel", json_pack("{s:s, s:I}", "name", name, "tasks", (json_int_t)tasks));
    printf("cancelled %s, %" PRIu64 " task%s without a result\n", name, tasks,
           cli_plural(tasks));
    return CLI_OK;
}

static int tell(const struct cancel *cancel, const char *pool, uint64_t job)
{
    uint64_t jobs = 0, tasks = 0;
    farpool_error error;
    if (farpool_cluster_cancel(cancel->address, CLI_ANSWER_MS, pool, job, cancel->kill,
                               &jobs, &tasks, &error))
        return cli_library_error("cancel", &error);
    if (cancel->json)
        return cli_print_json("cancel",
                              json_pack("{s:s, s:I, s:I, s:b}", "pool", pool, "jobs",
                                        (json_int_t)jobs, "tasks", (json_int_t)tasks,
                                        "kill", (int)cancel->kill));
    printf("cancelled %" PRIu64 " job%s of pool %.8s, %" PRIu64
           " task%s waiting or at workers\n",
           jobs, cli_plural(jobs), pool, tasks, cli_plural(tasks));
    return CLI_OK;
}

static int find_and_tell(const struct cancel *cancel, char **names)
{
    farpool_cluster_status *status = cli_get_status("cancel", cancel->address);
    const farpool_job_status *job = NULL;
    int result = CLI_ERROR;
    if (!status)
        return CLI_ERROR;
    const farpool_pool_status *pool = cli_find_pool("cancel", status, names[0]);
    if (pool && names[1])
        job = cli_find_job("cancel", status, pool, names[1]);
    if (pool && (!names[1] || job))
        result = tell(cancel, pool->id, job ? job->job : 0);
    farpool_cluster_status_free(status);
    return result;
}

int cli_cancel(int argc, char **argv)
{
    struct cancel cancel = {NULL, false, false, false};
    int option;
    optind = 1;
    while ((option = getopt_long(argc, argv, "dkc:j", long_options, NULL)) != -1) {
        switch (option) {
        case 'd':
            cancel.detached = true;
            break;
        case 'k':
            cancel.kill = true;
            break;
        case 'c':
            cancel.address = optarg;
            break;
        case 'K':
            cli_set_key(optarg);
            break;
        case 'j':
            cancel.json = true;
            break;
        case 'h':
            fputs(help_text, stdout);
            return CLI_OK;
        default:
            fputs("Try: farpool cancel --help\n", stderr);
            return CLI_USAGE;
        }
    }
    if (optind >= argc)
        return cli_usage_error("cancel", "which pool?");
    if (cancel.detached && argc - optind == 1)
        return end_detached(&cancel, argv[optind]);
    if (cancel.detached)
        return cli_usage_error("cancel", "--detached takes one name");
    if (argc - optind > 2)
        return cli_usage_error("cancel", "'%s' is one argument too many",
                               argv[optind + 2]);
    return find_and_tell(&cancel, argv + optind);
}
