/* SPDX-License-Identifier: Apache-2.0
 *
 * up_slurm.c: `farpool up --slurm -N NODES`: submits one job, and waits until its workers
 * are connected, telling why Slurm holds it. Who interrupts leaves it queued. */
#include "cli/up_slurm.h"
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { SILENT_S = 20, USES_EACH = 16 };

static void pause_ms(long ms)
{
    const struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
    nanosleep(&pause, NULL); /* ended by an interrupt, too */
}

static void tell_change(const struct up_queued *job, char *told, size_t size)
{
    char text[sizeof job->state + sizeof job->reason + 32];
    if (up_slurm_runs(job))
        snprintf(text, sizeof text, "%s", job->state);
    else
        snprintf(text, sizeof text, "%s (%s)", job->state, job->reason);
    if (strcmp(text, told) == 0)
        return;
    printf("  %s\n", text);
    fflush(stdout);
    snprintf(told, size, "%s", text);
}

static int left_queued(const struct up_state *state)
{
    printf("job %s stays with Slurm: its workers connect when it starts.\n"
           "  farpool status       shows them\n"
           "  squeue --jobs=%s     shows why it waits\n"
           "  farpool down %s      takes it back\n",
           state->jobs[0].id, state->jobs[0].id, state->name);
    return CLI_ERROR;
}

static int ended(struct up_state *state)
{
    char line[256];
    up_slurm_last_words(state, state->jobs[0].id, line);
    up_fail("job %s has ended before its workers were connected: %s", state->jobs[0].id,
            line[0] ? line : "it left no log (see scontrol show job)");
    if (up_revoke_token(state)) {
        up_slurm_remove_files(state);
        up_state_remove(state);
    }
    return CLI_ERROR;
}

/* A wait for the workers. */
struct waiting {
    struct up_state *state;
    uint64_t nodes;
    char told[256];
    int silent; /* looks at which the job ran, and not all workers were there */
};

static void tell_silence(const struct waiting *waiting, uint64_t up)
{
    char line[256];
    up_slurm_last_words(waiting->state, waiting->state->jobs[0].id, line);
    fprintf(stderr,
            "farpool: the job runs, but only %llu of %llu workers are connected: can its "
            "nodes reach %s? The last line of its log: %s\n",
            (unsigned long long)up, (unsigned long long)waiting->nodes,
            waiting->state->address, line);
}

static bool all_are_there(struct waiting *waiting, bool runs)
{
    uint64_t slots = 0;
    farpool_cluster_status *status = cli_get_status("up", waiting->state->address);
    const uint64_t up = status ? up_count_nodes(waiting->state, status, &slots) : 0;
    farpool_cluster_status_free(status);
    if (up >= waiting->nodes)
        printf("%s: %llu nodes, %llu slots; `farpool down %s` ends them\n",
               waiting->state->name, (unsigned long long)up, (unsigned long long)slots,
               waiting->state->name);
    else if (runs && ++waiting->silent == SILENT_S)
        tell_silence(waiting, up);
    return up >= waiting->nodes;
}

/* One look; true when it is over, and *ret_status. */
static bool look(struct waiting *waiting, int *ret_status)
{
    struct up_queue queue;
    if (!up_slurm_look(&queue))
        return false; /* told; slurmctld may be back soon */
    const struct up_queued *job = up_slurm_find(&queue, waiting->state->jobs[0].id);
    const bool gone = job == NULL, runs = job && up_slurm_runs(job);
    if (job)
        tell_change(job, waiting->told, sizeof waiting->told);
    up_slurm_queue_fini(&queue);
    *ret_status = gone ? ended(waiting->state) : CLI_OK;
    return gone || all_are_there(waiting, runs);
}

int up_slurm(const struct up_options *options, struct up_state *state)
{
    struct waiting waiting = {.state = state, .nodes = (uint64_t)options->nodes};
    int status = CLI_ERROR;
    /* Each requeue joins anew. */
    if (!up_slurm_prepare(options, state, USES_EACH * options->nodes) ||
        !up_slurm_submit(options, state, options->nodes, 0, true)) {
        if (state->jobs_count == 0 && up_revoke_token(state)) {
            up_slurm_remove_files(state);
            up_state_remove(state);
        }
        return CLI_ERROR;
    }
    printf("submitted job %s: %lld nodes\n", state->jobs[0].id,
           (long long)options->nodes);
    fflush(stdout);
    while (!cli_interrupted()) {
        if (look(&waiting, &status))
            return status;
        pause_ms(1000);
    }
    return left_queued(state);
}
