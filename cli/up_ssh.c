/* SPDX-License-Identifier: Apache-2.0
 *
 * up_ssh.c: `farpool up --ssh`: a worker on each host, by the system's own ssh, so many
 * hosts at a time. A host goes through probe, copy, start and if need be a tunnel and
 * another start (up_start.c); each is one remote script (up_script.h) over one shared
 * connection. A host that fails is told and left as it was; the others go on. */
#include "cli/cli.h"
#include "cli/up.h"
#include "cli/up_script.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { QUICK_MS = 60000, COPY_MS = 600000, FAILED_MAX = 101 };

/* What the threads share, by the session's lock. */
struct crew {
    struct up_session session;
    struct up_state *state;
    size_t next, done, failed;
    bool terminal;
};

/* ------------------------------------------------------------------ one host's steps */

/* Runs a script and fills host->text if it fails. */
static bool step(struct crew *crew, struct up_host *host, const char *script,
                 char *const *arguments, struct cli_run *run)
{
    if (up_ssh_run(&crew->session, host, script, arguments, run) == 0)
        return true;
    up_ssh_explain(host, run, host->text);
    return false;
}

static bool probe(struct crew *crew, struct up_host *host, bool *ret_there)
{
    const struct up_worker *worker = crew->session.worker;
    char hash[65], os[32], machine[32], text[64];
    char *const arguments[] = {hash, NULL};
    struct cli_run run = {.timeout_ms = QUICK_MS};
    snprintf(hash, sizeof hash, "%s", worker->hash);
    bool good = step(crew, host, UP_PROBE, arguments, &run);
    up_value(run.out, "os", os, sizeof os);
    up_value(run.out, "machine", machine, sizeof machine);
    if (good && strcmp(os, "Linux") != 0)
        good = up_host_fail(host, "it runs %s; workers need Linux",
                            os[0] ? os : "no known system");
    if (good && worker->machine[0] && strcmp(machine, worker->machine) != 0)
        good = up_host_fail(
            host,
            "its machine is %s, %s is built for %s: give one for it by --worker "
            "(and other hosts their own `farpool up`)",
            machine, worker->path, worker->machine);
    if (good && up_value(run.out, "missing", text, sizeof text)[0])
        good = up_host_fail(
            host,
            "there is no '%s' there: install it (Debian: coreutils, util-linux, "
            "grep), or correct its PATH",
            text);
    *ret_there = up_value(run.out, "worker", text, sizeof text)[0] != '\0';
    cli_run_fini(&run);
    return good;
}

static bool copy(struct crew *crew, struct up_host *host)
{
    const struct up_worker *worker = crew->session.worker;
    char hash[65];
    char *const arguments[] = {hash, NULL};
    struct cli_run run = {
        .input = worker->data, .input_size = worker->size, .timeout_ms = COPY_MS};
    snprintf(hash, sizeof hash, "%s", worker->hash);
    const bool good = step(crew, host, UP_STORE, arguments, &run);
    cli_run_fini(&run);
    host->copied = good;
    return good;
}

static void say_trying(struct crew *crew, const struct up_host *host)
{
    pthread_mutex_lock(&crew->session.lock);
    printf("%s%-24s cannot reach %s from there: trying a tunnel through ssh\n",
           crew->terminal ? "\r\033[K" : "", host->node, crew->state->address);
    fflush(stdout);
    pthread_mutex_unlock(&crew->session.lock);
}

static bool start_through_tunnel(struct crew *crew, struct up_host *host)
{
    char address[64];
    bool absent;
    host->text[0] = '\0';
    if (!up_tunnel_open(&crew->session, host, address))
        return false;
    if (up_start_worker(&crew->session, host, address, &absent))
        return true;
    if (!host->starting)
        up_tunnel_close(&crew->session, host);
    return false;
}

static bool bring_up(struct crew *crew, struct up_host *host)
{
    bool there = false, absent = false;
    if (!probe(crew, host, &there) || (!there && !copy(crew, host)))
        return false;
    if (crew->session.options->tunnel)
        return start_through_tunnel(crew, host);
    if (up_start_worker(&crew->session, host, crew->state->address, &absent))
        return true;
    if (!absent)
        return false;
    say_trying(crew, host);
    return start_through_tunnel(crew, host);
}

/* --------------------------------------------------------------------- all hosts */

static void tell(struct crew *crew, const struct up_host *host)
{
    FILE *file = host->text[0] ? stderr : stdout;
    if (crew->terminal)
        fputs("\r\033[K", stdout);
    fflush(stdout);
    if (host->text[0])
        fprintf(file, "%-24s FAILED: %s\n", host->node, host->text);
    else
        fprintf(file, "%-24s up: pid %lld%s%s\n", host->node, (long long)host->worker.pid,
                host->copied ? ", worker copied" : "",
                host->tunnel.pid ? ", through a tunnel" : "");
    if (crew->terminal && crew->done < crew->state->hosts_count)
        printf("%zu of %zu hosts", crew->done, crew->state->hosts_count);
    fflush(stdout);
}

static void *work(void *user)
{
    struct crew *crew = user;
    pthread_mutex_lock(&crew->session.lock);
    while (crew->next < crew->state->hosts_count) {
        struct up_host *host = &crew->state->hosts[crew->next++];
        pthread_mutex_unlock(&crew->session.lock);
        if (cli_interrupted())
            up_host_fail(host, "interrupted before it was begun");
        else if (!bring_up(crew, host) && !host->text[0])
            up_host_fail(host, "it failed without a word");
        pthread_mutex_lock(&crew->session.lock);
        crew->done++;
        crew->failed += host->text[0] != '\0';
        tell(crew, host);
    }
    pthread_mutex_unlock(&crew->session.lock);
    return NULL;
}

static void run_crew(struct crew *crew)
{
    pthread_t threads[64];
    int64_t count = crew->session.options->at_once;
    int64_t begun = 0;
    if (count > (int64_t)crew->state->hosts_count)
        count = (int64_t)crew->state->hosts_count;
    while (begun < count && begun < 64 &&
           pthread_create(&threads[begun], NULL, work, crew) == 0)
        begun++;
    if (begun == 0)
        work(crew);
    for (int64_t i = 0; i < begun; i++)
        pthread_join(threads[i], NULL);
}

/* Nothing came up: what may be left is `farpool down`'s. */
static void clean_up(struct crew *crew)
{
    struct up_state *state = crew->state;
    size_t left = 0;
    for (size_t i = 0; i < state->hosts_count; i++)
        left += up_host_is_there(&state->hosts[i]);
    if (!up_revoke_token(state))
        return;
    if (left)
        up_state_save(state);
    else
        up_state_remove(state);
}

static int finish(struct crew *crew)
{
    struct up_state *state = crew->state;
    uint64_t slots = 0, nodes = 0;
    farpool_cluster_status *status = cli_get_status("up", state->address);
    for (size_t i = 0; status && i < state->hosts_count; i++)
        for (size_t n = 0; n < status->nodes_count; n++)
            if (state->hosts[i].worker.pid &&
                strcmp(status->nodes[n].name, state->hosts[i].node) == 0) {
                slots += status->nodes[n].slots;
                nodes++;
                break;
            }
    farpool_cluster_status_free(status);
    if (crew->failed == state->hosts_count) {
        clean_up(crew);
        up_fail("no worker came up");
    } else {
        printf("%s: %llu of %zu nodes, %llu slots; `farpool down%s%s` ends them\n",
               state->name, (unsigned long long)nodes, state->hosts_count,
               (unsigned long long)slots, strcmp(state->name, "default") ? " " : "",
               strcmp(state->name, "default") ? state->name : "");
    }
    return crew->failed < FAILED_MAX ? (int)crew->failed : FAILED_MAX;
}

int up_ssh(const struct up_options *options, struct up_state *state)
{
    struct up_worker worker;
    struct crew crew = {.session = {.state = state, .options = options},
                        .state = state,
                        .terminal = isatty(STDOUT_FILENO) == 1};
    int status = CLI_ERROR;
    if (!up_worker_open(options->worker, &worker))
        return CLI_ERROR;
    crew.session.worker = &worker;
    /* A start that was tried twice, by a tunnel, may have used the token twice. */
    if (up_make_token(state, 2 * (int64_t)state->hosts_count, options->days,
                      crew.session.token) &&
        up_state_save(state) && up_session_open(&crew.session)) {
        run_crew(&crew);
        up_session_close(&crew.session);
        up_keeper_start(options, state);
        status = finish(&crew);
    }
    explicit_bzero(crew.session.token, sizeof crew.session.token);
    up_worker_close(&worker);
    return status;
}
