/* SPDX-License-Identifier: Apache-2.0
 *
 * up_start.c: a worker started on a host in two steps, so that none is left that nobody
 * knows: the host says who it is, the state is written, and only then is it told to stay
 * (up_script.h). Whatever is cut off before ends it there; what is cut off after is in
 * the state. Where that cannot be told, it is looked for and ended at once, and if that
 * fails, too, by `farpool down`. */
#include "cli/up.h"
#include "cli/up_script.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { START_MS = 60000 };

bool up_host_fail(struct up_host *host, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vsnprintf(host->text, sizeof host->text, format, list);
    va_end(list);
    return false;
}

static void start_words(const struct up_session *session, const struct up_host *host,
                        const char *address, struct cli_words *words)
{
    const struct up_options *options = session->options;
    cli_words_add(words, "%s", session->worker->hash);
    cli_words_add(words, "%s.%s", session->state->name, host->node);
    cli_words_add(words, "%s", session->state->id);
    if (host->tunnel.pid)
        cli_words_add(words, "--lanes=none"); /* nobody here could dial it */
    for (size_t i = 0; i < options->worker_options.count; i++)
        cli_words_add(words, "%s", options->worker_options.items[i]);
    cli_words_add(words, "--coordinator=%s", address);
    cli_words_add(words, "--name=%s", host->node);
    if (host->slots || options->slots > 0)
        cli_words_add(words, "--slots=%lld",
                      host->slots ? (long long)host->slots : (long long)options->slots);
}

/* false: the state could not be saved. */
static bool set_starting(struct up_session *session, struct up_host *host, bool starting,
                         const struct up_process *worker)
{
    pthread_mutex_lock(&session->lock);
    host->starting = starting;
    host->worker = *worker;
    const bool good = up_state_save(session->state);
    pthread_mutex_unlock(&session->lock);
    return good;
}

struct starting {
    struct up_session *session;
    struct up_host *host;
};

/* When the host says who its worker is: it may stay once the state has it. */
static const char *keep(const char *out, void *user)
{
    const struct starting *starting = user;
    struct up_host *host = starting->host;
    char text[24];
    if (!up_value(out, "ready", text, sizeof text)[0])
        return NULL;
    struct up_process worker = {
        .pid = atoll(up_value(out, "pid", text, sizeof text)),
        .start = strtoull(up_value(out, "start", text, sizeof text), NULL, 10)};
    up_value(out, "log", host->log, sizeof host->log);
    return set_starting(starting->session, host, false, &worker) ? "keep\n" : "end\n";
}

/* Nothing told how it ended: whatever is there is ended now. */
static void end_what_is_there(struct up_session *session, struct up_host *host)
{
    char why[sizeof host->text], state[16];
    const struct up_process none = {.pid = 0};
    memcpy(why, host->text, sizeof why);
    if (up_end_worker(session, host, true, state)) {
        set_starting(session, host, false, &none);
        up_host_fail(host, "its start was cut off: %.400s", why);
        return;
    }
    pthread_mutex_lock(&session->lock);
    host->starting = true;
    pthread_mutex_unlock(&session->lock);
    up_host_fail(
        host,
        "its start was cut off: %.300s; a worker may be there: `farpool down %s` "
        "looks for it",
        why, session->state->name);
}

static bool start(struct up_session *session, struct up_host *host, struct cli_run *run)
{
    char text[16];
    const struct up_process none = {.pid = 0};
    if (up_ssh_run(session, host, UP_START, run->arguments, run) == 0 &&
        up_value(run->out, "kept", text, sizeof text)[0])
        return true;
    up_ssh_explain(host, run, host->text);
    if (run->code ||
        (run->exit_status >= UP_NO_SPACE_OR_RIGHT && run->exit_status <= UP_TAKEN))
        set_starting(session, host, false, &none); /* it says that nothing is left */
    else
        end_what_is_there(session, host);
    return false;
}

bool up_start_worker(struct up_session *session, struct up_host *host,
                     const char *address, bool *ret_absent)
{
    struct cli_words words = {.items = NULL};
    struct starting starting = {session, host};
    const struct up_process none = {.pid = 0};
    char token[sizeof session->token + 2], state[16];
    if (!set_starting(session, host, true, &none)) {
        host->starting = false;
        return up_host_fail(host, "the state cannot be written here");
    }
    snprintf(token, sizeof token, "%s\n", session->token);
    start_words(session, host, address, &words);
    struct cli_run run = {.arguments = words.items,
                          .input = token,
                          .input_size = strlen(token),
                          .timeout_ms = START_MS,
                          .to_its_end = true,
                          .answer = keep,
                          .user = &starting};
    const bool good = start(session, host, &run);
    explicit_bzero(token, sizeof token);
    *ret_absent =
        !good && strcmp(up_value(run.out, "state", state, sizeof state), "absent") == 0;
    cli_words_fini(&words);
    cli_run_fini(&run);
    return good;
}
