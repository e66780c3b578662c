/* SPDX-License-Identifier: Apache-2.0
 *
 * core_check.c: every invariant of a client core, asserted. For tests and the simulator,
 * after each step: it walks everything. */
#include "client/core_internal.h"

#include <string.h>

static void check_item(const struct job *job, const struct span_item *item)
{
    assert(item->span.attempt >= 1);
    assert(item->span.first + item->span.count <= job->next);
    assert(losses_of(item) < job->options.losses_max);
    assert(doubts_of(item) <= DOUBTS_MAX);
    assert(failures_of(item) <= job->options.retries);
    assert(item->span.attempt >= 1 + losses_of(item) + failures_of(item));
}

/* Every task pulled is in one set, or done, or failed. */
static void check_tasks(const struct job *job)
{
    span_set_check(job->waiting);
    span_set_check(job->sent);
    const struct span_item *item;
    for (item = span_set_first(job->waiting); item;
         item = span_set_next(job->waiting, item)) {
        check_item(job, item);
        const struct span_item *sent = span_set_at_or_after(job->sent, item->span.first);
        assert(!sent || sent->span.first >= item->span.first + item->span.count);
    }
    for (item = span_set_first(job->sent); item; item = span_set_next(job->sent, item))
        check_item(job, item);
    assert(span_set_tasks(job->waiting) + span_set_tasks(job->sent) + job->done +
               job->failed ==
           job->next);
}

static void check_lane(const struct client_core *core, const struct lane *lane)
{
    uint64_t tasks = 0, bytes = 0;
    const uint64_t bit = UINT64_C(1) << (lane->place - 1);
    assert(core->lanes[lane->place - 1] == lane);
    assert(lane->state != LANE_OVER || core->lanes_over);
    for (const struct job *job = core->jobs; job; job = job->hh.next) {
        const struct span_item *item = span_set_first(job->sent);
        assert(!(job->accounted & ~job->lanes_told));
        for (; item; item = span_set_next(job->sent, item)) {
            if (lane_of(item) != lane->place)
                continue;
            assert(job->lanes_told & bit);
            tasks += item->span.count;
            bytes += span_bytes(&item->span);
        }
    }
    assert(tasks == lane->tasks && bytes == lane->bytes);
}

static void check_lazy(const struct client_core *core, const struct job *job)
{
    assert(job->consumed <= job->done + job->failed);
    assert(!job->wanted || (job->wanted_bytes && job->state == JOB_FILLING));
    assert(job->allowance >= LAZY_FIRST && job->allowance <= LAZY_TASKS_MAX);
    const uint64_t asked = job->options.tasks_under_way;
    assert(!asked || job->next + job->wanted - job->consumed <= asked);
    assert(client_input_limit(core, job) >= 1);
}

static void check_job(const struct client_core *core, const struct job *job)
{
    check_tasks(job);
    const bool waits = span_set_tasks(job->waiting) > 0;
    const bool over = job->state != JOB_FILLING && !waits && !span_set_tasks(job->sent);
    assert(job->ready == waits);
    assert(job->stop == STOP_NOT || core->stopping || job->state == JOB_OVER);
    assert((job->state == JOB_OVER) == over);
    assert(job->told_link <= core->link_number);
    assert(job->resend_next == UINT64_MAX || core->resume || core->link != LINK_WELCOMED);
    if (core->link == LINK_WELCOMED && !core->resume && span_set_tasks(job->sent) &&
        !job->lanes_told)
        assert(job->told_link == core->link_number);
    if (job->options.lazy)
        check_lazy(core, job);
}

static void check_acks(const struct client_core *core)
{
    for (size_t i = 1; i < core->acks_count; i++) {
        const struct ack *a = &core->acks[i - 1], *b = &core->acks[i];
        int order = memcmp(&a->worker, &b->worker, sizeof a->worker);
        if (order == 0)
            order = (a->lane > b->lane) - (a->lane < b->lane);
        assert(order < 0 || (order == 0 && a->first + a->count < b->first));
    }
    for (size_t i = 0; i < core->acks_count; i++)
        assert(core->acks[i].lane ? client_lane_find(core, core->acks[i].lane) != NULL
                                  : core->link == LINK_WELCOMED);
}

static void check_pool(const struct client_core *core)
{
    assert((core->state == POOL_FAILED) <= (core->fail_code != 0));
    assert((core->state == POOL_TERMINATING) <= (core->fail_code != 0));
    assert(core->state != POOL_ENDED || !core->jobs);
    assert(core->link != LINK_REFUSED || core->fail_code);
    assert(core->ready_told || core->link != LINK_WELCOMED);
}

void client_core_check(const struct client_core *core)
{
    uint64_t tasks = 0, bytes = 0, number = 0;
    size_t ready = 0, over = 0, lazy = 0;
    struct job *job;
    for (job = core->jobs; job; job = job->hh.next) {
        check_job(core, job);
        assert(job->number > number); /* the order that resuming relies on */
        number = job->number;
        tasks += span_set_tasks(job->sent);
        bytes += span_set_bytes(job->sent);
        ready += job->ready;
        over += job->state == JOB_OVER;
        lazy += job->options.lazy;
    }
    assert(tasks == core->sent_tasks && bytes == core->sent_bytes);
    TAILQ_FOREACH (job, &core->over, over_entry)
        over--;
    TAILQ_FOREACH (job, &core->lazy, lazy_entry)
        lazy--;
    assert(ready == client_job_count_ready(core) && !over && !lazy);
    assert(!span_set_tasks(core->ended) && !span_set_tasks(core->again));
    for (uint32_t i = 0; i < LANES_MAX; i++)
        if (core->lanes[i])
            check_lane(core, core->lanes[i]);
    check_acks(core);
    check_pool(core);
}
