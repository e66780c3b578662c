/* SPDX-License-Identifier: Apache-2.0
 *
 * shell_join.c: how the worker dials. With a key: that is all. With a join token: first a
 * connection of the token's, over which it has its own public key listed; then, with that
 * key, the connection that the core hears of. The secret of its key never leaves this
 * process but for the file of --key.
 *
 * A token that is refused ends the daemon: nothing it could do would change that. */
#include "common/base/error.h"
#include "common/sys/sys.h"
#include "worker/shell_internal.h"

#include <stdio.h>
#include <string.h>

static int dial(struct shell *shell, const struct net_keys *keys, farpool_error *error)
{
    const struct net_config config = {.address = shell->options->address,
                                      .keys = keys,
                                      .role = 'W',
                                      .queue_bytes_max = SHELL_QUEUE_BYTES_MAX,
                                      .seed = sys_random()};
    return net_dial(&config, &shell->net, error);
}

static int dial_with_key(struct shell *shell, const struct key_file *file,
                         farpool_error *error)
{
    struct net_keys keys = {.own = file->holder.key, .server = file->server};
    memcpy(keys.secret, file->secret, sizeof keys.secret);
    const int result = dial(shell, &keys, error);
    shell_lanes_keys(shell, &keys);
    explicit_bzero(&keys, sizeof keys);
    shell->join_ended = true;
    return result;
}

static int dial_with_file(struct shell *shell, const char *path, farpool_error *error)
{
    struct key_file file;
    int result = key_load(path, &file, error);
    if (result != 0)
        return result;
    if (file.holder.role != HOLDER_WORKER)
        result = error_set(error, FARPOOL_EKEY,
                           "--key: %s is the key of a %s (\"%s\"), a worker's is wanted",
                           path, holder_role_name(file.holder.role), file.holder.name);
    else
        result = dial_with_key(shell, &file, error);
    key_wipe(&file);
    return result;
}

static int dial_with_token(struct shell *shell, farpool_error *error)
{
    const struct token *token = shell->options->join;
    struct net_keys keys = {.own = token->key, .server = token->server};
    int result = token_begin(token, shell->options->key, &shell->joining, error);
    if (result != 0)
        return result;
    memcpy(keys.secret, token->secret, sizeof keys.secret);
    result = dial(shell, &keys, error);
    explicit_bzero(&keys, sizeof keys);
    return result;
}

int shell_join_dial(struct shell *shell, farpool_error *error)
{
    if (shell->options->join != NULL || shell->options->key != NULL)
        sys_hide_memory();
    if (shell->options->join != NULL)
        return dial_with_token(shell, error);
    shell->join_ended = true;
    if (shell->options->key != NULL)
        return dial_with_file(shell, shell->options->key, error);
    return dial(shell, NULL, error);
}

/* -------------------------------------------------------------------- enrolling */

static void say_enrol(struct shell *shell, uint64_t link)
{
    struct message *enrol = message_create(MSG_ENROL);
    shell->link = link;
    shell->absence_told = false;
    if (enrol == NULL) {
        net_drop(shell->net, link, "out of memory"); /* and dial again */
        return;
    }
    enrol->enrol.protocol = PROTOCOL_VERSION;
    snprintf(enrol->enrol.version, sizeof enrol->enrol.version, "%s", FARPOOL_VERSION);
    enrol->enrol.key = shell->joining.holder.key;
    snprintf(enrol->enrol.node, sizeof enrol->enrol.node, "%s",
             shell->options->core.node);
    shell_trace("sent", enrol);
    net_send(shell->net, link, &enrol);
}

static void fail(struct shell *shell, int code, const char *text)
{
    log_event(LOG_ERROR, "join-refused", "code=%s coordinator=%s reason=\"%s\"",
              farpool_error_name(code), shell->options->address, text);
    shell->stage = FAILED;
}

/* It cannot be kept for the next start, but it is good for this one. */
static void keep_key(struct shell *shell)
{
    farpool_error error;
    if (token_end(shell->options->key, &shell->joining, &error) != 0)
        log_event(LOG_ERROR, "key-not-kept", "reason=\"%s\"", error.text);
}

static void take_enrolled(struct shell *shell, const struct message *message)
{
    struct holder *holder = &shell->joining.holder;
    if (!key_name_valid(message->enrolled.name)) {
        fail(shell, FARPOOL_EPROTOCOL, "the coordinator gave the key an invalid name");
        return;
    }
    snprintf(holder->name, sizeof holder->name, "%s", message->enrolled.name);
    log_event(LOG_INFO, "joined", "coordinator=%s key-name=%s left_s=%llu key=\"%s\"",
              shell->options->address, holder->name,
              (unsigned long long)message->enrolled.left_s,
              shell->options->key != NULL ? shell->options->key : "in memory");
    keep_key(shell);
    shell->joined = true;
}

static void take_refused(struct shell *shell, const struct message *message)
{
    const int code = message->refused.code;
    if (code == FARPOOL_ENOTREADY || code == FARPOOL_ENOMEM)
        log_event(LOG_WARNING, "join-delayed", "code=%s reason=\"%s\"",
                  farpool_error_name(code), message->refused.text);
    else
        fail(shell, code, message->refused.text);
}

static void take_message(struct shell *shell, const struct message *message)
{
    shell_trace("received", message);
    if (message->kind == MSG_ENROLLED)
        take_enrolled(shell, message);
    else if (message->kind == MSG_REFUSED)
        take_refused(shell, message);
}

void shell_join_event(struct shell *shell, struct net_event *event)
{
    if (shell->joined || shell->stage == FAILED)
        return; /* the coordinator ends this link */
    switch (event->kind) {
    case NET_UP:
        say_enrol(shell, event->link);
        break;
    case NET_DOWN:
        shell->link = 0;
        shell->dialled_ms = shell->now_ms;
        break;
    case NET_REFUSED:
        fail(
            shell, FARPOOL_EKEY,
            "the coordinator does not know this token: it ended more than a day ago, or "
            "was of a folder of keys that is no more: ask for a new one (farpool token)");
        break;
    case NET_MESSAGE:
        take_message(shell, event->message);
        break;
    }
}

void shell_join_finish(struct shell *shell)
{
    farpool_error error;
    if (!shell->joined || shell->join_ended)
        return;
    net_close(shell->net, 0);
    shell->net = NULL;
    shell->link = 0;
    shell->dialled_ms = shell->now_ms;
    token_wipe(shell->options->join);
    const int result = dial_with_key(shell, &shell->joining, &error);
    key_wipe(&shell->joining);
    if (result != 0)
        fail(shell, result, error.text);
}
