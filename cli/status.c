/* SPDX-License-Identifier: Apache-2.0
 *
 * status.c: `farpool status`: what a coordinator knows, as text or JSON. */
#include "cli/cli.h"
#include "cli/json.h"
#include "cli/up.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char help_text[] =
    "usage: farpool status [OPTIONS]\n"
    "\n"
    "Shows a coordinator's workers, slots, pools and jobs, with their tasks; and whether the\n"
    "tunnels stand that `farpool up` keeps for its workers on this machine.\n"
    "\n"
    "  -c, --coordinator ADDRESS  whom to ask (default: $FARPOOL_COORDINATOR)\n"
    "  -k, --key FILE             the key to ask with (default: $FARPOOL_KEY)\n"
    "  -j, --json                 as JSON, for programs\n"
    "      --help                 this text\n"
    "\n"
    "Exit status: 0; 254 usage; 255 no coordinator answered.\n";

static json_t *node_json(const farpool_node_status *node)
{
    return json_pack(
        "{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "node",
        node->name, "machine", node->machine, "state", node->state, "labels",
        node->labels, "slots", (json_int_t)node->slots, "memory_bytes",
        (json_int_t)node->memory_bytes, "processes", (json_int_t)node->processes,
        "tasks_running", (json_int_t)node->tasks_running, "tasks_assigned",
        (json_int_t)node->tasks_assigned, "tasks_done", (json_int_t)node->tasks_done,
        "lanes", (json_int_t)node->lanes, "connected_ms", (json_int_t)node->connected_ms);
}

static json_t *gone_json(const farpool_gone_status *gone)
{
    return json_pack("{s:s, s:s, s:I, s:I}", "node", gone->name, "why", gone->why,
                     "tasks", (json_int_t)gone->tasks, "ago_ms",
                     (json_int_t)gone->ago_ms);
}

static json_t *pool_json(const farpool_pool_status *pool)
{
    return json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "pool", pool->id,
                     "program", pool->program, "client_host", pool->client_host,
                     "client_pid", (json_int_t)pool->client_pid, "processes",
                     (json_int_t)pool->processes, "jobs", (json_int_t)pool->jobs,
                     "tasks_waiting", (json_int_t)pool->tasks_waiting, "tasks_running",
                     (json_int_t)pool->tasks_running, "tasks_done",
                     (json_int_t)pool->tasks_done);
}

json_t *cli_job_json(const farpool_job_status *job)
{
    /* Nodes give their reasons in any bytes; JSON takes UTF-8 only. */
    json_t *reason = json_string(job->reason);
    if (!reason)
        reason = json_string(job->why);
    return json_pack(
        "{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:I, s:s, s:o}", "pool",
        job->pool, "function", job->function, "job", (json_int_t)job->job, "priority",
        (json_int_t)job->priority, "tasks_waiting", (json_int_t)job->tasks_waiting,
        "tasks_running", (json_int_t)job->tasks_running, "tasks_done",
        (json_int_t)job->tasks_done, "tasks_failed", (json_int_t)job->tasks_failed,
        "tasks_twice", (json_int_t)job->tasks_twice, "client_host", job->client_host,
        "client_pid", (json_int_t)job->client_pid, "why", job->why, "reason", reason);
}

int cli_print_json(const char *command, json_t *root)
{
    if (!root)
        return cli_error(command, "out of memory");
    json_dumpf(root, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(root);
    return CLI_OK;
}

static json_t *tunnel_json(const struct up_tunnel *tunnel)
{
    return json_pack("{s:s, s:s, s:s, s:I, s:I, s:s}", "up", tunnel->up, "node",
                     tunnel->node, "state", tunnel->is_up ? "up" : "down", "since_s",
                     (json_int_t)tunnel->since_s, "made_anew",
                     (json_int_t)tunnel->made_anew, "why", tunnel->why);
}

static int print_json(const farpool_cluster_status *status,
                      const struct up_tunnel *tunnels, size_t tunnels_count)
{
    json_t *nodes = json_array(), *pools = json_array(), *jobs = json_array();
    json_t *list = json_array(), *gone = json_array();
    for (size_t i = 0; i < status->gone_count; i++)
        json_array_append_new(gone, gone_json(&status->gone[i]));
    for (size_t i = 0; i < tunnels_count; i++)
        json_array_append_new(list, tunnel_json(&tunnels[i]));
    for (size_t i = 0; i < status->nodes_count; i++)
        json_array_append_new(nodes, node_json(&status->nodes[i]));
    for (size_t i = 0; i < status->pools_count; i++)
        json_array_append_new(pools, pool_json(&status->pools[i]));
    for (size_t i = 0; i < status->jobs_count; i++)
        json_array_append_new(jobs, cli_job_json(&status->jobs[i]));
    json_t *root =
        json_pack("{s:s, s:I, s:I, s:o, s:o, s:o, s:o, s:o}", "version",
                  status->coordinator_version, "uptime_ms", (json_int_t)status->uptime_ms,
                  "clients", (json_int_t)status->clients, "nodes", nodes, "gone", gone,
                  "pools", pools, "jobs", jobs, "tunnels", list);
    return cli_print_json("status", root);
}

static void print_nodes(const farpool_cluster_status *status)
{
    puts(
        "\nNODE                 STATE      SLOTS  PROCESSES  RUNNING   ASSIGNED       DONE  LANES");
    for (size_t i = 0; i < status->nodes_count; i++) {
        const farpool_node_status *node = &status->nodes[i];
        printf("%-20s %-9s %6" PRIu64 " %10" PRIu64 " %8" PRIu64 " %10" PRIu64
               " %10" PRIu64 " %6" PRIu64 "\n",
               node->name, node->state, node->slots, node->processes, node->tasks_running,
               node->tasks_assigned, node->tasks_done, node->lanes);
    }
}

/* How long a node of that name is there again; UINT64_MAX: it is not. */
static uint64_t back_ms(const farpool_cluster_status *status,
                        const farpool_gone_status *gone)
{
    for (size_t i = 0; i < status->nodes_count; i++)
        if (strcmp(status->nodes[i].name, gone->name) == 0 &&
            status->nodes[i].connected_ms <= gone->ago_ms)
            return status->nodes[i].connected_ms;
    return UINT64_MAX;
}

static void print_gone(const farpool_cluster_status *status)
{
    puts("\nNODE THAT WENT        SECONDS AGO  ITS TASKS  WHY");
    for (size_t i = 0; i < status->gone_count; i++) {
        const farpool_gone_status *gone = &status->gone[i];
        const uint64_t back = back_ms(status, gone);
        printf("%-20s %12" PRIu64 " %10" PRIu64 "  %s", gone->name, gone->ago_ms / 1000,
               gone->tasks, gone->why);
        if (back != UINT64_MAX)
            printf(" (one of that name is here since %" PRIu64 " s)", back / 1000);
        putchar('\n');
    }
}

static void print_pools(const farpool_cluster_status *status)
{
    puts("\nPOOL      PROGRAM          CLIENT               PROCESSES  JOBS    WAITING"
         "  RUNNING       DONE");
    for (size_t i = 0; i < status->pools_count; i++) {
        const farpool_pool_status *pool = &status->pools[i];
        printf("%-8.8s  %-16.16s %-12.12s %7" PRIu64 " %10" PRIu64 " %5" PRIu64
               " %10" PRIu64 " %8" PRIu64 " %10" PRIu64 "\n",
               pool->id, pool->program, pool->client_host, pool->client_pid,
               pool->processes, pool->jobs, pool->tasks_waiting, pool->tasks_running,
               pool->tasks_done);
    }
}

static void print_jobs(const farpool_cluster_status *status)
{
    puts(
        "\nPOOL      JOB        FUNCTION             PRIORITY    WAITING  RUNNING       DONE");
    for (size_t i = 0; i < status->jobs_count; i++) {
        const farpool_job_status *job = &status->jobs[i];
        printf("%-8.8s  %-10" PRIu64 " %-20.20s %8" PRId64 " %10" PRIu64 " %8" PRIu64
               " %10" PRIu64 "\n",
               job->pool, job->job & UINT32_MAX, job->function, job->priority,
               job->tasks_waiting, job->tasks_running, job->tasks_done);
    }
}

/* Those that `farpool up` of this user keeps on this machine. */
static void print_tunnels(const struct up_tunnel *tunnels, size_t count)
{
    puts("\nTUNNEL TO            OF                   STATE    SECONDS  ANEW  WHY");
    for (size_t i = 0; i < count; i++) {
        const struct up_tunnel *tunnel = &tunnels[i];
        printf("%-20s %-20s %-5s %10lld %5u  %s\n", tunnel->node, tunnel->up,
               tunnel->is_up ? "up" : "down",
               (long long)((int64_t)time(NULL) - tunnel->since_s), tunnel->made_anew,
               tunnel->is_up ? "" : tunnel->why);
    }
}

static int print_text(const farpool_cluster_status *status,
                      const struct up_tunnel *tunnels, size_t tunnels_count)
{
    uint64_t slots = 0, running = 0;
    for (size_t i = 0; i < status->nodes_count; i++) {
        slots += status->nodes[i].slots;
        running += status->nodes[i].tasks_running;
    }
    printf("coordinator %s, up %" PRIu64 " s: %zu node%s, %" PRIu64 " slot%s (%" PRIu64
           " in use), %" PRIu64 " client%s, %zu pool%s, %zu job%s\n",
           status->coordinator_version, status->uptime_ms / 1000, status->nodes_count,
           cli_plural(status->nodes_count), slots, cli_plural(slots), running,
           status->clients, cli_plural(status->clients), status->pools_count,
           cli_plural(status->pools_count), status->jobs_count,
           cli_plural(status->jobs_count));
    if (status->nodes_count)
        print_nodes(status);
    if (status->gone_count)
        print_gone(status);
    if (status->pools_count)
        print_pools(status);
    if (status->jobs_count)
        print_jobs(status);
    if (tunnels_count)
        print_tunnels(tunnels, tunnels_count);
    return CLI_OK;
}

int cli_status(int argc, char **argv)
{
    struct cli_query query;
    int result;
    if (!cli_read_query(argc, argv, help_text, 0, &query, &result))
        return result;
    farpool_cluster_status *status = cli_get_status("status", query.address);
    if (!status)
        return CLI_ERROR;
    struct up_tunnel *tunnels;
    const char *address = query.address ? query.address : getenv("FARPOOL_COORDINATOR");
    const size_t count = up_tunnels_load(NULL, address, &tunnels);
    result = query.json ? print_json(status, tunnels, count)
                        : print_text(status, tunnels, count);
    free(tunnels);
    farpool_cluster_status_free(status);
    return result;
}
