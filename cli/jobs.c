/* SPDX-License-Identifier: Apache-2.0
 *
 * jobs.c: `farpool jobs`: every job that a coordinator knows, with its tasks and whose it
 * is, as a table or JSON. */
#include "cli/cli.h"
#include "cli/json.h"

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
    "  -k, --key FILE             the key to ask with (default: $FARPOOL_KEY)\n"
    "  -j, --json                 as JSON, with full ids and why tasks wait\n"
    "      --help                 this text\n"
    "\n"
    "Exit status: 0; 254 usage; 255 no coordinator answered.\n";

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
    struct cli_query query;
    int result;
    if (!cli_read_query(argc, argv, help_text, 0, &query, &result))
        return result;
    farpool_cluster_status *status = cli_get_status("jobs", query.address);
    if (!status)
        return CLI_ERROR;
    result = query.json ? print_json(status) : print_text(status);
    farpool_cluster_status_free(status);
    return result;
}
