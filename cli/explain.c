/* SPDX-License-Identifier: Apache-2.0
 *
 * explain.c: `farpool explain`: why tasks wait, job by job. The coordinator gives the
 * reasons (farpool_job_status.why and .reason). */
#include "cli/cli.h"
#include "cli/json.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char help_text[] =
    "usage: farpool explain [OPTIONS] [POOL [JOB]]\n"
    "\n"
    "Tells of each job with waiting tasks why they wait. POOL is the beginning of a\n"
    "pool's id, JOB a number, both as `farpool jobs` shows them.\n"
    "\n"
    "  -c, --coordinator ADDRESS  whom to ask (default: $FARPOOL_COORDINATOR)\n"
    "  -k, --key FILE             the key to ask with (default: $FARPOOL_KEY)\n"
    "  -j, --json                 as JSON, for programs\n"
    "      --help                 this text\n"
    "\n"
    "Exit status: 0; 254 usage; 255 no coordinator answered, or no such pool or job.\n";

/* What is asked about: NULL: all. */
struct filter {
    const farpool_pool_status *pool;
    const farpool_job_status *job;
};

static bool is_meant(const struct filter *filter, const farpool_job_status *job)
{
    if (filter->job)
        return job == filter->job;
    return job->why[0] && (!filter->pool || strcmp(job->pool, filter->pool->id) == 0);
}

static void print_job(const farpool_job_status *job)
{
    printf("%.8s %" PRIu64 " %s: ", job->pool, cli_short_job(job), job->function);
    if (job->why[0])
        printf("%" PRIu64 " task%s wait%s: %s\n", job->tasks_waiting,
               cli_plural(job->tasks_waiting), job->tasks_waiting == 1 ? "s" : "",
               job->reason);
    else
        puts("no task waits");
    if (job->tasks_twice > 0)
        printf("%" PRIu64 " slow task%s run%s on a second node too (speculation)\n",
               job->tasks_twice, cli_plural(job->tasks_twice),
               job->tasks_twice == 1 ? "s" : "");
}

static int print(const farpool_cluster_status *status, const struct filter *filter,
                 bool json)
{
    json_t *jobs = json ? json_array() : NULL;
    size_t count = 0;
    for (size_t i = 0; i < status->jobs_count; i++) {
        const farpool_job_status *job = &status->jobs[i];
        if (!is_meant(filter, job))
            continue;
        count++;
        if (json)
            json_array_append_new(jobs, cli_job_json(job));
        else
            print_job(job);
    }
    if (json)
        return cli_print_json("explain", json_pack("{s:o}", "jobs", jobs));
    if (!count)
        puts("no task waits");
    return CLI_OK;
}

static int explain(const char *address, char **names, bool json)
{
    struct filter filter = {NULL, NULL};
    farpool_cluster_status *status = cli_get_status("explain", address);
    int result = CLI_ERROR;
    if (!status)
        return CLI_ERROR;
    if (names[0])
        filter.pool = cli_find_pool("explain", status, names[0]);
    if (filter.pool && names[1])
        filter.job = cli_find_job("explain", status, filter.pool, names[1]);
    if ((!names[0] || filter.pool) && (!names[0] || !names[1] || filter.job))
        result = print(status, &filter, json);
    farpool_cluster_status_free(status);
    return result;
}

int cli_explain(int argc, char **argv)
{
    struct cli_query query;
    int result;
    if (!cli_read_query(argc, argv, help_text, 2, &query, &result))
        return result;
    return explain(query.address, argv + optind, query.json);
}
