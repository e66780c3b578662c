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
    "the client. Below them the detached jobs (farpool submit) that the coordinator has\n"
    "on its disk: name, owner's key, state, tasks, those that succeeded and failed.\n"
    "\n"
    "  -c, --coordinator ADDRESS  whom to ask (default: $FARPOOL_COORDINATOR)\n"
    "  -k, --key FILE             the key to ask with (default: $FARPOOL_KEY)\n"
    "  -j, --json                 as JSON, with full ids and why tasks wait\n"
    "      --help                 this text\n"
    "\n"
    "Exit status: 0; 254 usage; 255 no coordinator answered.\n";

/* The detached ones; a coordinator that keeps none has nothing to show. */
struct detached {
    farpool_detached_status *list;
    size_t count;
    bool kept;
};

static bool get_detached(const char *address, struct detached *detached)
{
    farpool_error error;
    const int code = farpool_detached_list(address, CLI_ANSWER_MS, &detached->list,
                                           &detached->count, &error);
    detached->kept = code != FARPOOL_ENOSTATE;
    if (code && detached->kept)
        cli_library_error("jobs", &error);
    return !code || !detached->kept;
}

static json_t *detached_json(const farpool_detached_status *job)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I}",
                     "name", job->name, "owner", job->owner, "function", job->function,
                     "program", job->program, "state", job->state, "reason", job->reason,
                     "tasks", (json_int_t)job->tasks, "done", (json_int_t)job->done,
                     "failed", (json_int_t)job->failed, "bytes", (json_int_t)job->bytes,
                     "submitted_ms", (json_int_t)job->submitted_ms, "left_s",
                     (json_int_t)job->left_s);
}

static void print_detached(const struct detached *detached)
{
    if (detached->count == 0)
        return;
    puts("\nDETACHED              OWNER             STATE           TASKS       DONE"
         "   FAILED  REASON");
    for (size_t i = 0; i < detached->count; i++) {
        const farpool_detached_status *job = &detached->list[i];
        printf("%-20s  %-16s  %-9s  %10" PRIu64 " %10" PRIu64 " %8" PRIu64 "  %s\n",
               job->name, job->owner[0] ? job->owner : "-", job->state, job->tasks,
               job->done, job->failed, job->reason[0] ? job->reason : "-");
    }
}

static int print_json(const farpool_cluster_status *status,
                      const struct detached *detached)
{
    json_t *jobs = json_array();
    for (size_t i = 0; i < status->jobs_count; i++)
        json_array_append_new(jobs, cli_job_json(&status->jobs[i]));
    json_t *all = json_pack("{s:o}", "jobs", jobs);
    json_t *kept = detached->kept ? json_array() : NULL;
    for (size_t i = 0; i < detached->count; i++)
        json_array_append_new(kept, detached_json(&detached->list[i]));
    if (kept)
        json_object_set_new(all, "detached", kept);
    return cli_print_json("jobs", all);
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
    struct detached detached = {NULL, 0, false};
    if (!get_detached(query.address, &detached)) {
        result = CLI_ERROR;
    } else if (query.json) {
        result = print_json(status, &detached);
    } else {
        result = print_text(status);
        print_detached(&detached);
    }
    farpool_detached_list_free(detached.list);
    farpool_cluster_status_free(status);
    return result;
}
