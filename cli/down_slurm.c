/* SPDX-License-Identifier: Apache-2.0
 *
 * down_slurm.c: `farpool down` of what `farpool up --slurm` submitted: jobs that wait are
 * cancelled; those that run get SIGTERM in their steps, so that workers drain, and end by
 * themselves. */
#include "cli/cli.h"
#include "cli/up_slurm.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { LOOK_MS = 300, TELL_EVERY = 17 };

static bool scancel(const char *id, const char *signal)
{
    struct cli_words words = {.items = NULL};
    struct cli_run run;
    cli_words_add(&words, "scancel");
    if (signal)
        cli_words_add(&words, "--signal=%s", signal);
    cli_words_add(&words, "%s", id);
    run = (struct cli_run){
        .arguments = words.items, .timeout_ms = 60000, .to_its_end = true};
    const bool good = cli_run(&run) == 0 || strstr(run.err, "Invalid job id") ||
                      strstr(run.err, "already complet");
    char line[256];
    if (!good)
        up_fail("scancel %s: %s", id,
                run.code ? strerror(run.code)
                         : cli_last_line(run.err, line, sizeof line));
    cli_run_fini(&run);
    cli_words_fini(&words);
    return good;
}

/* true: it is going, or gone (*ret_gone). */
static bool begin(const struct up_job *job, bool now, bool *ret_gone)
{
    struct up_job_state state;
    if (!up_slurm_look(job->id, &state))
        return false;
    *ret_gone = !state.state[0];
    if (*ret_gone)
        return true;
    if (now || !state.steps)
        return scancel(job->id, NULL);
    return scancel(job->id, "TERM");
}

/* Drops the jobs that are gone; false: Slurm does not answer. */
static bool drop_gone(struct up_state *state)
{
    for (size_t i = state->jobs_count; i-- > 0;) {
        struct up_job_state job;
        if (!up_slurm_look(state->jobs[i].id, &job))
            return false;
        if (!job.state[0]) {
            printf("job %-12s ended\n", state->jobs[i].id);
            fflush(stdout);
            up_state_drop_job(state, state->jobs[i].id);
            up_state_save(state);
        }
    }
    return true;
}

static bool wait_until_gone(struct up_state *state)
{
    const struct timespec pause = {.tv_nsec = LOOK_MS * 1000000L};
    for (unsigned looks = 0; drop_gone(state); looks++) {
        if (state->jobs_count == 0)
            return true;
        if (cli_interrupted())
            return up_fail("%zu jobs are still draining: `farpool down %s` goes on, "
                           "--now ends them",
                           state->jobs_count, state->name);
        if (looks % TELL_EVERY == TELL_EVERY - 1) {
            printf("%zu jobs finish what they run\n", state->jobs_count);
            fflush(stdout);
        }
        nanosleep(&pause, NULL);
    }
    return false;
}

int down_slurm(struct up_state *state, bool now)
{
    size_t failed = 0;
    printf("%s: %zu jobs %s\n", state->name, state->jobs_count,
           now ? "are cancelled" : "drain: their workers finish what runs");
    fflush(stdout);
    for (size_t i = 0; i < state->jobs_count; i++) {
        bool gone = false;
        failed += !begin(&state->jobs[i], now, &gone);
    }
    if (failed) {
        up_fail("%zu jobs were not ended: `farpool down %s` tries them again", failed,
                state->name);
        return CLI_ERROR;
    }
    if (!wait_until_gone(state))
        return CLI_ERROR;
    up_slurm_remove_files(state);
    return CLI_OK;
}
