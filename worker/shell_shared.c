/* SPDX-License-Identifier: Apache-2.0
 *
 * shell_shared.c: carries out what the core wants of shared inputs: room and pieces in
 * the store, pieces for other workers, and what processes may map. What the store answers
 * waits for the next batch, like everything else that happens. */
#include "worker/shell_internal.h"

#include "common/base/error.h"

#include <stdio.h>
#include <string.h>

/* An input whose answer got lost would never be whole: then the daemon cannot go on. */
static void answer(struct shell *shell, enum worker_event_kind kind,
                   const struct worker_effect *effect, int code,
                   const farpool_error *error)
{
    struct shared_answer *answer = mem_alloc(sizeof *answer);
    if (answer == NULL) {
        log_event(LOG_ERROR, "out-of-memory", "while=\"a shared input is fetched\"");
        shell->stage = FAILED;
        return;
    }
    answer->kind = kind;
    answer->content = effect->program;
    answer->serial = effect->serial;
    answer->offset = effect->offset;
    answer->code = code;
    if (code != 0)
        snprintf(answer->text, sizeof answer->text, "%.255s", error->text);
    STAILQ_INSERT_TAIL(&shell->shared_answers, answer, entry);
}

static void tell(const struct worker_effect *effect, const char *event, const char *text)
{
    char hash[65];
    hash_text(&effect->program, hash);
    if (text[0] == '\0')
        log_event(LOG_INFO, event, "content=%.16s", hash);
    else
        log_event(LOG_WARNING, event, "content=%.16s reason=\"%s\"", hash, text);
}

static void open_shared(struct shell *shell, const struct worker_effect *effect)
{
    farpool_error error;
    int code =
        store_open(shell->store, &effect->program, effect->offset, effect->data, &error);
    answer(shell, WORKER_SHARED_OPENED, effect, code, &error);
}

static void write_shared(struct shell *shell, const struct worker_effect *effect)
{
    farpool_error error;
    int code = store_write(shell->store, &effect->program, (uint32_t)effect->offset,
                           effect->data, &error);
    if (code != 0)
        tell(effect, "shared-piece", error.text);
    answer(shell, WORKER_SHARED_WROTE, effect, code, &error);
}

/* Another worker asks again if there is no memory for an answer. */
static void read_shared(struct shell *shell, const struct worker_effect *effect)
{
    struct message *blob = message_create(MSG_BLOB);
    if (blob == NULL)
        return;
    blob->blob.pool = effect->pool;
    blob->blob.worker = effect->worker;
    blob->blob.source = shell->id;
    blob->blob.content = effect->program;
    blob->blob.offset = effect->offset;
    blob->blob.data = store_read(shell->store, &effect->program, effect->offset,
                                 effect->count, &blob->blob.code);
    shell_send(shell, effect->lane, &blob);
    message_free(&blob);
}

/* What goes wrong here is told to the functions, like a reason of the core. */
static void map_shared(struct shell *shell, const struct worker_effect *effect)
{
    farpool_error error;
    struct host_shared_about about = {.pool = effect->pool,
                                      .number = effect->shared,
                                      .serial = effect->serial,
                                      .code = effect->code};
    int fd = -1;
    snprintf(about.text, sizeof about.text, "%s", effect->text);
    if (about.code == 0 &&
        (fd = store_seal(shell->store, &effect->program, &about.size, &error)) < 0) {
        about.code = fd;
        snprintf(about.text, sizeof about.text, "%.255s", error.text);
    }
    tell(effect, about.code == 0 ? "shared-ready" : "shared-failed", about.text);
    int code = host_set_shared(shell->host, &about, fd, &error);
    if (code == 0)
        return;
    about.code = code;
    snprintf(about.text, sizeof about.text, "%.255s", error.text);
    tell(effect, "shared-failed", about.text);
    if (host_set_shared(shell->host, &about, -1, &error) != 0)
        shell->stage = FAILED;
}

bool shell_carry_out_shared(struct shell *shell, const struct worker_effect *effect)
{
    switch (effect->kind) {
    case WORKER_SHARED_OPEN:
        open_shared(shell, effect);
        return true;
    case WORKER_SHARED_WRITE:
        write_shared(shell, effect);
        return true;
    case WORKER_SHARED_READ:
        read_shared(shell, effect);
        return true;
    case WORKER_SHARED_CLOSE:
        store_close(shell->store, &effect->program);
        return true;
    case WORKER_SHARED_MAP:
        map_shared(shell, effect);
        return true;
    case WORKER_SHARED_UNMAP:
        host_unset_shared(shell->host, &effect->pool, effect->serial);
        return true;
    default:
        return false;
    }
}

void shell_step_shared(struct shell *shell)
{
    struct shared_answer *answer;
    while ((answer = STAILQ_FIRST(&shell->shared_answers)) != NULL) {
        struct worker_event event = {.kind = answer->kind,
                                     .now_ms = shell->now_ms,
                                     .program = answer->content,
                                     .serial = answer->serial,
                                     .offset = answer->offset,
                                     .code = answer->code,
                                     .text = answer->text};
        STAILQ_REMOVE_HEAD(&shell->shared_answers, entry);
        shell_step(shell, &event);
        mem_free(answer);
    }
}

void shell_shared_fini(struct shell *shell)
{
    struct shared_answer *answer;
    while ((answer = STAILQ_FIRST(&shell->shared_answers)) != NULL) {
        STAILQ_REMOVE_HEAD(&shell->shared_answers, entry);
        mem_free(answer);
    }
    store_destroy(shell->store);
}
