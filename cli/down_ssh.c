/* SPDX-License-Identifier: Apache-2.0
 *
 * down_ssh.c: `farpool down` of what `farpool up --ssh` started: each worker drains, then
 * its tunnel goes: its keeper ends it when the state has it no more. What cannot be
 * reached stays in the state, for the next try. */
#include "cli/cli.h"
#include "cli/up.h"
#include "cli/up_script.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { AT_ONCE = 32 };

struct ending {
    struct up_session session;
    struct up_state *state;
    size_t next, failed; /* by the session's lock */
    bool now;
};

bool up_end_worker(const struct up_session *session, struct up_host *host, bool now,
                   char ret_state[16])
{
    const char *id = session->state->id;
    char word[2] = {now ? '1' : '0', '\0'}, pid[24], start[24], name[128], known[17];
    char *const arguments[] = {word, pid, start, host->log, name, known, NULL};
    struct cli_run run = {.timeout_ms = 0};
    snprintf(pid, sizeof pid, "%lld", (long long)host->worker.pid);
    snprintf(start, sizeof start, "%llu", (unsigned long long)host->worker.start);
    snprintf(name, sizeof name, "%s.%s", session->state->name, host->node);
    snprintf(known, sizeof known, "%s", id[0] ? id : "-");
    const bool good = up_ssh_run(session, host, UP_END, arguments, &run) == 0;
    up_value(run.out, "state", ret_state, 16);
    if (!good)
        up_ssh_explain(host, &run, host->text);
    cli_run_fini(&run);
    return good;
}

static void tell(struct ending *ending, struct up_host *host, bool good,
                 const char *state)
{
    if (good) {
        if (!up_process_is_there(&ending->state->keeper))
            up_process_end(&host->tunnel);
        host->worker = host->tunnel = (struct up_process){.pid = 0};
        host->starting = false;
        up_state_save(ending->state);
        printf("%-24s %s\n", host->node, state[0] ? "had ended already" : "ended");
        fflush(stdout);
    } else {
        ending->failed++;
        fprintf(stderr, "%-24s NOT ENDED: %s\n", host->node, host->text);
    }
}

static void *work(void *user)
{
    struct ending *ending = user;
    pthread_mutex_lock(&ending->session.lock);
    while (ending->next < ending->state->hosts_count) {
        struct up_host *host = &ending->state->hosts[ending->next++];
        char state[16] = "gone";
        pthread_mutex_unlock(&ending->session.lock);
        const bool good = (host->worker.pid == 0 && !host->starting) ||
                          up_end_worker(&ending->session, host, ending->now, state);
        pthread_mutex_lock(&ending->session.lock);
        tell(ending, host, good, state);
    }
    pthread_mutex_unlock(&ending->session.lock);
    return NULL;
}

int down_ssh(struct up_state *state, bool now)
{
    struct ending ending = {.session = {.state = state}, .state = state, .now = now};
    pthread_t threads[AT_ONCE];
    size_t begun = 0;
    if (!up_session_open(&ending.session))
        return CLI_ERROR;
    printf("%s: %zu workers %s\n", state->name, state->hosts_count,
           now ? "are stopped" : "drain: they finish what runs");
    fflush(stdout);
    while (begun < state->hosts_count && begun < AT_ONCE &&
           pthread_create(&threads[begun], NULL, work, &ending) == 0)
        begun++;
    if (begun == 0)
        work(&ending);
    for (size_t i = 0; i < begun; i++)
        pthread_join(threads[i], NULL);
    up_session_close(&ending.session);
    if (!ending.failed) {
        up_keeper_end(state);
        return CLI_OK;
    }
    return up_fail("%zu of %zu were not ended: `farpool down %s` tries them again",
                   ending.failed, state->hosts_count, state->name)
               ? CLI_OK
               : CLI_ERROR;
}
