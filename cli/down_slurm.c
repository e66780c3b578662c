/* SPDX-License-Identifier: Apache-2.0
 *
 * down_slurm.c: `farpool down` of what `farpool up --slurm` submitted. The workers of
 * jobs that run are drained by the coordinator, and the jobs end with them: a signal of
 * Slurm's would go to the tasks as well. What waits, what has no worker, and all of it
 * with --now, is cancelled. */
#include "cli/cli.h"
#include "cli/up_slurm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LOOK_MS = 500, TELL_EVERY = 10, UNSEEN_MAX = 20 };

static bool scancel(const char *id)
{
    struct cli_words words = {.items = NULL};
    char line[256];
    cli_words_split(&words, "scancel");
    cli_words_add(&words, "%s", id);
    struct cli_run run = {
        .arguments = words.items, .timeout_ms = 60000, .to_its_end = true};
    const bool good = cli_run(&run) == 0 || strstr(run.err, "Invalid job id") ||
                      strstr(run.err, "already complet");
    if (!good)
        up_fail("scancel %s: %s", id,
                run.code ? strerror(run.code)
                         : cli_last_line(run.err, line, sizeof line));
    cli_run_fini(&run);
    cli_words_fini(&words);
    return good;
}

/* Whether a worker is one of the job's: NODE.JOB. */
static bool is_of_job(const farpool_node_status *node, const char *id)
{
    const char *dot = strrchr(node->name, '.');
    return dot && strcmp(dot + 1, id) == 0;
}

/* How many of the job's workers are connected; those that do not drain yet are told to.
 */
static size_t drain_workers(const struct up_state *state, const char *id,
                            const farpool_cluster_status *status)
{
    size_t count = 0;
    for (size_t i = 0; status && i < status->nodes_count; i++) {
        const farpool_node_status *node = &status->nodes[i];
        farpool_error error;
        if (!up_is_ours(state, node) || !is_of_job(node, id))
            continue;
        count++;
        if (strcmp(node->state, "draining") == 0)
            continue;
        const int code = farpool_cluster_drain(state->address, CLI_ANSWER_MS, node->name,
                                               NULL, NULL, &error);
        if (code && code != FARPOOL_EDRAINED && code != FARPOOL_EINVAL)
            up_fail("%s", error.text);
    }
    return count;
}

static bool end_job(const struct up_state *state, struct up_job *job, bool runs, bool now,
                    const farpool_cluster_status *status)
{
    if (runs && !now && drain_workers(state, job->id, status) > 0) {
        job->unseen = 0;
        return true;
    }
    /* Its workers may be connecting, or ending; or the coordinator is gone. */
    if (runs && !now && ++job->unseen < UNSEEN_MAX)
        return true;
    return scancel(job->id);
}

/* false: Slurm does not answer, or does not do it; told. */
static bool look(struct up_state *state, bool now)
{
    struct up_queue queue;
    bool good = true;
    if (!up_slurm_look(&queue))
        return false;
    setenv("FARPOOL_KEY", state->key, 1);
    farpool_cluster_status *status = now ? NULL : cli_get_status("down", state->address);
    for (size_t i = state->jobs_count; i-- > 0;) {
        const struct up_queued *job = up_slurm_find(&queue, state->jobs[i].id);
        if (job) {
            good =
                end_job(state, &state->jobs[i], up_slurm_runs(job), now, status) && good;
            continue;
        }
        printf("job %-12s ended\n", state->jobs[i].id);
        fflush(stdout);
        up_state_drop_job(state, state->jobs[i].id);
        up_state_save(state);
    }
    farpool_cluster_status_free(status);
    up_slurm_queue_fini(&queue);
    return good;
}

int down_slurm(struct up_state *state, bool now)
{
    const struct timespec pause = {.tv_nsec = LOOK_MS * 1000000L};
    const bool one = state->jobs_count == 1;
    printf("%s: %zu job%s %s\n", state->name, state->jobs_count, one ? "" : "s",
           now   ? one ? "is cancelled" : "are cancelled"
           : one ? "drains: its workers finish what runs"
                 : "drain: their workers finish what runs");
    fflush(stdout);
    for (unsigned looks = 1; look(state, now); looks++) {
        if (state->jobs_count == 0) {
            up_slurm_remove_files(state);
            return CLI_OK;
        }
        if (cli_interrupted()) {
            up_fail("%zu jobs are still draining: `farpool down %s` goes on, --now ends "
                    "them",
                    state->jobs_count, state->name);
            return CLI_ERROR;
        }
        if (looks % TELL_EVERY == 0) {
            printf("%zu jobs finish what they run\n", state->jobs_count);
            fflush(stdout);
        }
        nanosleep(&pause, NULL);
    }
    up_fail("%zu jobs were not ended: `farpool down %s` tries them again",
            state->jobs_count, state->name);
    return CLI_ERROR;
}
