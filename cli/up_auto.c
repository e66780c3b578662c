/* SPDX-License-Identifier: Apache-2.0
 *
 * up_auto.c: `farpool up --slurm --auto MIN:MAX`: once a second looks at the coordinator
 * and at its jobs, and submits one-node jobs as up_decide.c says. It never ends a job:
 * workers above MIN have --idle, and end by themselves. */
#include "cli/cli.h"
#include "cli/up_slurm.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { IDLE_S = 60, USES = 100000 };

struct automatic {
    const struct up_options *options;
    struct up_state *state;
    struct up_load load;
    uint64_t done, base_jobs; /* tasks of all pools, at the last look */
    bool looked;
};

static void say(const char *format, ...) FARPOOL_PRINTF(1, 2);
static void say(const char *format, ...)
{
    char when[16];
    const time_t now = time(NULL);
    struct tm parts;
    va_list list;
    strftime(when, sizeof when, "%H:%M:%S", localtime_r(&now, &parts));
    printf("%s ", when);
    va_start(list, format);
    vprintf(format, list);
    va_end(list);
    putchar('\n');
    fflush(stdout);
}

/* false: the coordinator does not answer; told. */
static bool look_at_tasks(struct automatic *automatic)
{
    struct up_load *load = &automatic->load;
    farpool_cluster_status *status = cli_get_status("up", automatic->state->address);
    uint64_t done = 0;
    if (!status)
        return false;
    load->waiting = load->running = 0;
    for (size_t i = 0; i < status->pools_count; i++) {
        load->waiting += status->pools[i].tasks_waiting;
        load->running += status->pools[i].tasks_running;
        done += status->pools[i].tasks_done;
    }
    /* What was given to a node ahead of its turn waits all the same. */
    for (size_t i = 0; i < status->nodes_count; i++)
        if (status->nodes[i].tasks_assigned > status->nodes[i].tasks_running)
            load->waiting +=
                status->nodes[i].tasks_assigned - status->nodes[i].tasks_running;
    load->nodes = up_count_nodes(automatic->state, status, &load->slots);
    farpool_cluster_status_free(status);
    load->done_per_s =
        automatic->looked && done > automatic->done ? done - automatic->done : 0;
    automatic->done = done;
    automatic->looked = true;
    load->backlog_s = up_load_is_much(load) ? load->backlog_s + 1 : 0;
    return true;
}

static void drop_ended(struct up_state *state, const char *id)
{
    char line[256];
    up_slurm_last_words(state, id, line);
    say("job %s has ended: %s", id, line);
    up_state_drop_job(state, id);
    up_state_save(state);
}

/* Jobs that have ended go from the state. false: Slurm does not answer; told. */
static bool look_at_jobs(struct automatic *automatic)
{
    struct up_state *state = automatic->state;
    struct up_queue queue;
    uint64_t started = 0;
    if (!up_slurm_look(&queue))
        return false;
    automatic->base_jobs = 0;
    for (size_t i = state->jobs_count; i-- > 0;) {
        const struct up_queued *job = up_slurm_find(&queue, state->jobs[i].id);
        if (job) {
            automatic->base_jobs += state->jobs[i].base;
            started += up_slurm_runs(job);
        } else {
            drop_ended(state, state->jobs[i].id);
        }
    }
    up_slurm_queue_fini(&queue);
    automatic->load.jobs = state->jobs_count;
    /* What runs and is not connected yet is on its way, too. */
    if (started > automatic->load.nodes)
        started = automatic->load.nodes;
    automatic->load.queued = state->jobs_count - started;
    return true;
}

static void submit(struct automatic *automatic, uint64_t count, const char *why)
{
    const struct up_options *options = automatic->options;
    const struct up_load *load = &automatic->load;
    const int64_t idle_s = options->idle_s > 0 ? options->idle_s : IDLE_S;
    for (uint64_t i = 0; i < count && !cli_interrupted(); i++) {
        const bool base = automatic->base_jobs < load->min;
        if (!up_slurm_submit(options, automatic->state, 1, base ? 0 : idle_s, base))
            return; /* told; tried again at the next look */
        automatic->base_jobs += base;
        say("submitted job %s: %s (%llu tasks wait, %llu run on %llu slots, %zu of %llu "
            "jobs)",
            automatic->state->jobs[automatic->state->jobs_count - 1].id, why,
            (unsigned long long)load->waiting, (unsigned long long)load->running,
            (unsigned long long)load->slots, automatic->state->jobs_count,
            (unsigned long long)load->max);
    }
}

static void loop(struct automatic *automatic)
{
    const struct timespec second = {.tv_sec = 1};
    while (!cli_interrupted()) {
        const char *why;
        if (look_at_tasks(automatic) && look_at_jobs(automatic)) {
            const uint64_t count = up_decide(&automatic->load, &why);
            if (count > 0)
                submit(automatic, count, why);
        }
        nanosleep(&second, NULL);
    }
}

/* true: this process is the one that goes on. */
static bool go_to_background(struct up_state *state, int *ret_status)
{
    char log[UP_PATH_MAX + 64];
    snprintf(log, sizeof log, "%s/%s.auto.log", state->shared, state->name);
    const pid_t pid = up_apart(state, &state->auto_process, log);
    if (pid == 0)
        return true;
    *ret_status = pid > 0 ? CLI_OK : CLI_ERROR;
    if (pid > 0)
        printf("%s: process %lld submits jobs; its log is %s/%s.auto.log; `farpool down "
               "%s` ends all of it\n",
               state->name, (long long)pid, state->shared, state->name, state->name);
    return false;
}

int up_auto(const struct up_options *options, struct up_state *state)
{
    struct automatic automatic = {
        .options = options,
        .state = state,
        .load = {.min = (uint64_t)options->auto_min, .max = (uint64_t)options->auto_max}};
    int status = CLI_OK;
    if (!up_slurm_prepare(options, state, USES)) {
        if (up_revoke_token(state)) {
            up_slurm_remove_files(state);
            up_state_remove(state);
        }
        return CLI_ERROR;
    }
    if (options->detach && !go_to_background(state, &status))
        return status;
    say("%s: %llu to %llu jobs of one node", state->name,
        (unsigned long long)automatic.load.min, (unsigned long long)automatic.load.max);
    loop(&automatic);
    say("%s: no more jobs are submitted; %zu are there, and `farpool down %s` ends them",
        state->name, state->jobs_count, state->name);
    return CLI_OK;
}
