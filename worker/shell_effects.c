/* SPDX-License-Identifier: Apache-2.0
 *
 * shell_effects.c: carries out what the core wants: messages, processes, programs. What
 * the cache answers waits for the next batch, like everything else that happens. */
#include "worker/shell_internal.h"

#include <stdio.h>
#include <string.h>

/* A program whose answer got lost would never start: then the daemon cannot go on. */
static struct answer *add_answer(struct shell *shell, const struct hash *program)
{
    struct answer *answer = mem_alloc(sizeof *answer);
    if (answer == NULL) {
        log_event(LOG_ERROR, "out-of-memory", "while=\"a program is opened\"");
        shell->stage = FAILED;
        return NULL;
    }
    answer->program = *program;
    STAILQ_INSERT_TAIL(&shell->answers, answer, entry);
    return answer;
}

/* The host knows a program before the core hears that it is ready. */
static void tell_host(struct shell *shell, struct answer *answer)
{
    char hash[65];
    struct cache_answer *cache = &answer->cache;
    if (cache->kind == WORKER_PROGRAM_READY &&
        host_set_program(shell->host, &answer->program, cache->path, cache->folder) !=
            0) {
        cache->kind = WORKER_PROGRAM_FAILED;
        cache->error.code = FARPOOL_ENOMEM;
        snprintf(cache->error.text, sizeof cache->error.text, "out of memory on node %s",
                 shell->options->core.node);
    }
    hash_text(&answer->program, hash);
    if (cache->kind == WORKER_PROGRAM_READY)
        log_event(LOG_INFO, "program-ready", "program=%.16s path=%s", hash, cache->path);
    else if (cache->kind == WORKER_PROGRAM_FAILED)
        log_event(LOG_WARNING, "program-failed", "program=%.16s code=%s reason=\"%s\"",
                  hash, farpool_error_name(cache->error.code), cache->error.text);
}

static void settle_answer(struct shell *shell, struct answer *answer, bool answered)
{
    if (answered) {
        tell_host(shell, answer);
        return;
    }
    STAILQ_REMOVE(&shell->answers, answer, answer, entry);
    mem_free(answer);
}

static void open_program(struct shell *shell, const struct worker_effect *effect)
{
    struct answer *answer = add_answer(shell, &effect->program);
    if (answer != NULL)
        settle_answer(shell, answer,
                      cache_open_program(shell->cache, &effect->program, effect->files,
                                         effect->files_count, &answer->cache));
}

static void write_program(struct shell *shell, const struct worker_effect *effect)
{
    struct answer *answer = add_answer(shell, &effect->program);
    if (answer != NULL)
        settle_answer(shell, answer,
                      cache_write(shell->cache, &effect->program, effect->file,
                                  effect->offset, effect->data, effect->code,
                                  &answer->cache));
}

void shell_work_on_cache(struct shell *shell)
{
    static const struct hash unknown;
    if (!cache_is_busy(shell->cache))
        return;
    struct answer *answer = add_answer(shell, &unknown);
    if (answer != NULL)
        settle_answer(shell, answer,
                      cache_work(shell->cache, &answer->program, &answer->cache));
}

void shell_send(struct shell *shell, uint64_t lane, struct message **message)
{
    if (lane == 0 && shell->link == 0)
        return; /* the core will hear of the end of its link, and knows what to repeat */
    shell_trace("sent", *message);
    if (lane != 0)
        shell_lanes_send(shell, lane, message);
    else
        net_send(shell->net, shell->link, message);
}

static void relink(struct shell *shell, const char *text)
{
    if (shell->link == 0)
        return;
    log_event(LOG_WARNING, "coordinator-left", "reason=\"%s\"", text);
    net_drop(shell->net, shell->link, text);
    shell->link = 0;
    shell->dialled_ms = shell->now_ms;
    shell_relay_link_down(shell);
}

static void carry_out(struct shell *shell, struct worker_effect *effect)
{
    switch (effect->kind) {
    case WORKER_SEND:
        shell_send(shell, effect->lane, &effect->message);
        break;
    case WORKER_DIAL:
        shell_lanes_dial(shell, effect);
        break;
    case WORKER_HANG_UP:
        shell_lanes_hang_up(shell, effect);
        break;
    case WORKER_ORPHANED:
        log_event(LOG_WARNING, "orphaned", "%s note=\"--orphan-after is over\"",
                  effect->text);
        break;
    case WORKER_RELINK:
        relink(shell, effect->text);
        break;
    case WORKER_PROGRAM_OPEN:
        open_program(shell, effect);
        break;
    case WORKER_PROGRAM_WRITE:
        write_program(shell, effect);
        break;
    case WORKER_PROGRAM_CLOSE:
        cache_close_program(shell->cache, &effect->program);
        break;
    case WORKER_STOPPED:
        log_event(LOG_INFO, "ended", "reason=\"%s\"", effect->text);
        shell->stage = ENDED;
        break;
    default:
        if (!shell_carry_out_shared(shell, effect))
            host_apply(shell->host, effect);
        break;
    }
}

void shell_carry_out(struct shell *shell)
{
    for (size_t i = 0; i < shell->effects.count; i++)
        carry_out(shell, &shell->effects.items[i]);
    host_wake_processes(shell->host);
    worker_effects_clear(&shell->effects);
}

void shell_step_answers(struct shell *shell)
{
    struct answer *answer;
    while ((answer = STAILQ_FIRST(&shell->answers)) != NULL) {
        struct worker_event event = {.kind = answer->cache.kind,
                                     .now_ms = shell->now_ms,
                                     .program = answer->program,
                                     .file = answer->cache.file,
                                     .offset = answer->cache.offset,
                                     .code = answer->cache.error.code,
                                     .text = answer->cache.error.text};
        STAILQ_REMOVE_HEAD(&shell->answers, entry);
        shell_step(shell, &event);
        mem_free(answer);
    }
}
