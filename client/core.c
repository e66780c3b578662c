/* SPDX-License-Identifier: Apache-2.0
 *
 * core.c: the client core's outline: creating it, one event, the FLUSH and the deadline.
 * What each part decides is in the file of that part (core_internal.h lists them).
 *
 * A step that runs out of memory has changed nothing, and has added no effect. A FLUSH
 * is many small steps of which each is so: it does what it can, and the deadline asks
 * for another one soon if that was not all. */
#include "client/core_internal.h"

#include <string.h>

int client_core_create(const struct client_config *config, uint64_t now_ms,
                       struct client_core **ret_core)
{
    struct client_core *core = mem_alloc(sizeof *core);
    if (!core)
        return FARPOOL_ENOMEM;
    core->config = *config;
    core->now_ms = now_ms;
    core->end_by_ms = core->retry_ms = UINT64_MAX;
    RB_INIT(&core->ready);
    TAILQ_INIT(&core->over);
    TAILQ_INIT(&core->lazy);
    if (span_set_create(&core->ended) || span_set_create(&core->again)) {
        client_core_destroy(core);
        return FARPOOL_ENOMEM;
    }
    *ret_core = core;
    return 0;
}

void client_core_destroy(struct client_core *core)
{
    if (!core)
        return;
    while (core->jobs)
        client_job_destroy(core, core->jobs);
    span_set_destroy(core->ended);
    span_set_destroy(core->again);
    client_shared_fini(core);
    client_lanes_free(core);
    mem_free(core->acks);
    mem_free(core);
}

/* What a FLUSH does, in this order: first what frees memory and window elsewhere, then
 * tasks, then what follows from there being none left. */
static int flush_parts(struct client_core *core, struct client_effects *effects)
{
    int error = client_link_flush_silence(core, effects);
    if (!error && core->fail_code)
        error = client_job_flush_fail(core, effects);
    if (!error && core->stopping)
        error = client_job_flush_stop(core, effects);
    if (!error)
        error = client_lanes_flush(core, effects);
    if (!error)
        error = client_ack_flush(core, effects);
    if (!error && core->link == LINK_WELCOMED && core->resume)
        error = client_send_flush_resume(core, effects);
    if (!error)
        error = client_send_flush(core, effects);
    if (!error)
        error = client_part_flush(core, effects);
    if (!error && core->link == LINK_WELCOMED)
        error = client_deal_flush_accounts(core, effects);
    if (!error)
        error = client_job_flush_over(core, effects);
    if (!error)
        error = client_pool_flush(core, effects);
    if (!error)
        error = client_input_flush(core, effects);
    return error;
}

static int flush(struct client_core *core, struct client_effects *effects)
{
    const size_t mark = effects->count;
    int error = core->state == POOL_ENDED ? 0 : flush_parts(core, effects);
    if (!error && !client_effects_send(effects, mark))
        error = client_link_flush_heartbeat(core, effects);
    core->retry_ms = error ? core->now_ms + RETRY_MS : UINT64_MAX;
    return 0;
}

static int take_event(struct client_core *core, struct client_event *event,
                      struct client_effects *effects)
{
    switch (event->kind) {
    case CLIENT_LINK_UP:
        return event->lane ? client_lane_up(core, event->lane, effects)
                           : client_link_up(core, effects);
    case CLIENT_LINK_DOWN:
        if (event->lane)
            client_lane_down(core, event->lane, event->text);
        else
            client_link_down(core);
        return 0;
    case CLIENT_LINK_REFUSED:
        return client_link_refused(core, event->text, effects);
    case CLIENT_MESSAGE:
        return event->lane ? client_lane_heard(core, event->lane, event->message, effects)
                           : client_link_message(core, event->message, effects);
    case CLIENT_JOB_OPEN:
        return client_job_open(core, event);
    case CLIENT_JOB_INPUT:
        return client_job_input(core, event);
    case CLIENT_JOB_SKIP:
        return client_job_skip(core, event);
    case CLIENT_JOB_AGAIN:
        return client_job_again(core, event);
    case CLIENT_JOB_INPUT_END:
        return client_job_input_end(core, event);
    case CLIENT_JOB_CONSUMED:
        return client_input_consumed(core, event);
    case CLIENT_JOB_CANCEL:
        return client_job_cancel(core, event, effects);
    case CLIENT_JOB_FREE:
        return client_job_free(core, event, effects);
    case CLIENT_SHARE:
        return client_shared_add(core, event, effects);
    case CLIENT_UNSHARE:
        return client_shared_remove(core, event->shared, effects);
    case CLIENT_CLOSE:
        client_pool_close(core);
        return 0;
    case CLIENT_TERMINATE:
        client_pool_terminate(core);
        return 0;
    case CLIENT_FAIL:
        return client_pool_give_up(core, event, effects);
    case CLIENT_FLUSH:
        return flush(core, effects);
    }
    assert(!"an event of a known kind");
    return FARPOOL_EINVAL;
}

int client_core_step(struct client_core *core, struct client_event *event,
                     struct client_effects *effects)
{
    const size_t mark = effects->count;
    if (event->now_ms > core->now_ms)
        core->now_ms = event->now_ms;
    const int error = take_event(core, event, effects);
    if (error) {
        client_effects_truncate(effects, mark);
        return error;
    }
    if (event->kind == CLIENT_MESSAGE)
        message_free(&event->message);
    if (client_effects_send(effects, mark))
        core->spoke_ms = core->now_ms;
    return 0;
}

uint64_t client_core_deadline(const struct client_core *core)
{
    if (core->state == POOL_ENDED)
        return UINT64_MAX;
    uint64_t deadline = smaller(core->retry_ms, client_link_deadline(core));
    deadline = smaller(deadline, client_ack_deadline(core));
    deadline = smaller(deadline, client_lanes_deadline(core));
    if (core->state == POOL_ENDING)
        deadline = smaller(deadline, core->end_by_ms);
    return deadline;
}

void client_core_pool_counts(const struct client_core *core,
                             struct client_pool_counts *ret_counts)
{
    *ret_counts = (struct client_pool_counts){
        .connected = core->link == LINK_WELCOMED,
        .nodes = core->nodes,
        .slots = core->slots,
        .processes = core->processes,
        .started = core->started,
    };
}
