/* SPDX-License-Identifier: Apache-2.0
 *
 * down_ssh.c: `farpool down` of what `farpool up --ssh` started: each worker drains, then
 * its tunnel goes. What cannot be reached stays in the state, for the next try. */
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
    pthread_mutex_t lock; /* of all below, of the state's file and the output */
    size_t next, failed;
    bool now;
};

/* true and *ret_state: "gone" if it had ended before. */
static bool end_worker(struct ending *ending, struct up_host *host, char ret_state[16])
{
    char now[2] = {ending->now ? '1' : '0', '\0'}, pid[24], start[24];
    char *const arguments[] = {now, pid, start, host->log, NULL};
    struct cli_run run = {.timeout_ms = 0};
    snprintf(pid, sizeof pid, "%lld", (long long)host->worker.pid);
    snprintf(start, sizeof start, "%llu", (unsigned long long)host->worker.start);
    const bool good = up_ssh_run(&ending->session, host, UP_END, arguments, &run) == 0;
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
        up_process_end(&host->tunnel);
        host->worker = host->tunnel = (struct up_process){.pid = 0};
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
    pthread_mutex_lock(&ending->lock);
    while (ending->next < ending->state->hosts_count) {
        struct up_host *host = &ending->state->hosts[ending->next++];
        char state[16] = "gone";
        pthread_mutex_unlock(&ending->lock);
        const bool good = host->worker.pid == 0 || end_worker(ending, host, state);
        pthread_mutex_lock(&ending->lock);
        tell(ending, host, good, state);
    }
    pthread_mutex_unlock(&ending->lock);
    return NULL;
}

int down_ssh(struct up_state *state, bool now)
{
    struct ending ending = {.session = {.state = state},
                            .state = state,
                            .lock = PTHREAD_MUTEX_INITIALIZER,
                            .now = now};
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
    if (!ending.failed)
        return CLI_OK;
    return up_fail("%zu of %zu were not ended: `farpool down %s` tries them again",
                   ending.failed, state->hosts_count, state->name)
               ? CLI_OK
               : CLI_ERROR;
}
