/* SPDX-License-Identifier: Apache-2.0
 *
 * jobs.c: `farpool jobs`: every job that a coordinator knows, with its tasks and whose it
 * is, as a table or JSON. */
#include "cli/cli.h"
#include "cli/json.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>

static const char help_text[] =
    "usage: farpool jobs [OPTIONS]\n"
    "\n"
    "Lists all jobs, one a line: pool, job, function, priority, tasks that wait at the\n"
    "coordinator, that run, that ended and that failed among these, and host and pid of\n"
    "the client.\n"
    "\n"
    "  -c, --coordinator ADDRESS  whom to ask (default: $FARPOOL_COORDINATOR)\n"
    "  -j, --json                 as JSON, with full ids and why tasks wait\n"
    "      --help                 this text\n"
    "\n"
    "Exit status: 0; 254 usage; 255 no coordinator answered.\n";

static const struct option long_options[] = {
    {"coordinator", required_argument, NULL, 'c'},
    {"json", no_argument, NULL, 'j'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static int print_json(const farpool_cluster_status *status)
{
    json_t *jobs = json_array();
    for (size_t i = 0; i < status->jobs_count; i++)
        json_array_append_new(jobs, cli_job_json(&status->jobs[i]));
    return cli_print_json("jobs", json_pack("{s:o}", "jobs", jobs));
}

static int print_text(const farpool_cluster_status *status)
{
    puts("POOL      JOB    FUNCTION             PRIORITY    WAITING  RUNNING       DONE"
         "   FAILED  CLIENT");
    for (size_t i = 0; i < status->jobs_count; i++) {
        const farpool_job_status *job = &status->jobs[i];
        printf("%-8.8s  %-5" PRIu64 "  %-20.20s %8" PRId64 " %10" PRIu64 " %8" PRIu64
               " %10" PRIu64 " %8" PRIu64 "  %s %" PRIu64 "\n",
               job->pool, cli_short_job(job), job->function, job->priority,
               job->tasks_waiting, job->tasks_running, job->tasks_done, job->tasks_failed,
               job->client_host[0] ? job->client_host : "-", job->client_pid);
    }
    return CLI_OK;
}

int cli_jobs(int argc, char **argv)
{
    const char *address = NULL;
    bool json = false;
    int option;
    optind = 1;
    while ((option = getopt_long(argc, argv, "c:j", long_options, NULL)) != -1) {
        switch (option) {
        case 'c':
            address = optarg;
            break;
        case 'j':
            json = true;
            break;
        case 'h':
            fputs(help_text, stdout);
            return CLI_OK;
        default:
            fputs("Try: farpool jobs --help\n", stderr);
            return CLI_USAGE;
        }
    }
    if (optind < argc)
        return cli_usage_error("jobs", "'%s' is one argument too many", argv[optind]);
    farpool_cluster_status *status = cli_get_status(address);
    if (!status)
        return CLI_ERROR;
    int result = json ? print_json(status) : print_text(status);
    farpool_cluster_status_free(status);
    return result;
}
