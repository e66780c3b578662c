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

static void tell_change(const struct up_job_state *state, char *told, size_t size)
{
    char text[sizeof state->state + sizeof state->reason + 32];
    if (up_slurm_is_queued(state))
        snprintf(text, sizeof text, "%s (%s)", state->state, state->reason);
    else
        snprintf(text, sizeof text, "%s", state->state);
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

/* One look; true when it is over, and *ret_status. */
static bool look(struct up_state *state, int64_t nodes, char *told, size_t size,
                 int *silent, int *ret_status)
{
    struct up_job_state job;
    uint64_t slots;
    if (!up_slurm_look(state->jobs[0].id, &job))
        return false; /* told; slurmctld may be back soon */
    if (!job.state[0]) {
        *ret_status = ended(state);
        return true;
    }
    tell_change(&job, told, size);
    farpool_cluster_status *status = cli_get_status(state->address);
    const uint64_t up = status ? up_count_nodes(state, status, &slots) : 0;
    farpool_cluster_status_free(status);
    if (up >= (uint64_t)nodes) {
        printf("%s: %llu nodes, %llu slots; `farpool down %s` ends them\n", state->name,
               (unsigned long long)up, (unsigned long long)slots, state->name);
        *ret_status = CLI_OK;
        return true;
    }
    if (job.steps && ++*silent == SILENT_S) {
        char line[256];
        up_slurm_last_words(state, state->jobs[0].id, line);
        fprintf(stderr,
                "farpool: the job runs, but only %llu of %lld workers are connected: can "
                "its nodes reach %s? The last line of its log: %s\n",
                (unsigned long long)up, (long long)nodes, state->address, line);
    }
    return false;
}

int up_slurm(const struct up_options *options, struct up_state *state)
{
    char told[256] = "";
    int silent = 0, status = CLI_ERROR;
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
        if (look(state, options->nodes, told, sizeof told, &silent, &status))
            return status;
        pause_ms(1000);
    }
    return left_queued(state);
}
