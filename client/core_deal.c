/* SPDX-License-Identifier: Apache-2.0
 *
 * core_deal.c: tasks that go straight to workers, and the account of them for the
 * coordinator. A lane takes a task for each slot that is granted there and idle; and as
 * many again that wait for one, of a job whose tasks are known to be short. If that is
 * not all that a job has to send, it is a long one: dealt over all lanes if they are for
 * all of the pool's slots (core_part.c), and what does not fit waits here; else it goes
 * by the coordinator, all of it, which knows more.
 *
 * Not on lanes: jobs whose tasks must run once or may be speculated on; tasks that were
 * at a lost node, for which the coordinator is asked before they begin, or were given
 * back; and any of a pool that has shared inputs, as SHARE goes by the coordinator and a
 * task must not overtake it. What stands behind such a job goes the same way as it.
 *
 * A job that has been on lanes alone is not told to the coordinator before the account
 * is due (ACCOUNT_MS after what it tells has changed): one that ends sooner costs it
 * nothing. What is sent to the coordinator of a job goes behind the account of it. */
#include "client/core_internal.h"

static bool is_dealt(const struct client_core *core, const struct job *job)
{
    const struct client_job_options *options = &job->options;
    const bool deals = core->state == POOL_RUNNING || core->state == POOL_CLOSING;
    return deals && !core->resume && !core->shared_count && !core->config.attach &&
           options->losses_max > 1 && !options->speculate;
}

bool client_deal_is_marked(const struct span_item *item)
{
    return lane_of(item) == LANE_NONE || doubts_of(item);
}

/* Whether its tasks, as far as it is known, may wait for others to end. */
static bool is_short(const struct job *job)
{
    const uint64_t mean_ns = client_average_mean(&job->elapsed_ns);
    return mean_ns && mean_ns < SHORT_MS * UINT64_C(1000000);
}

/* How many tasks a lane would take now: those that have a slot, or, if that is not asked,
 * those that wait for one too, unless what runs there has been at it for long. */
static uint64_t room_of(const struct client_core *core, const struct lane *lane,
                        bool ahead)
{
    if (lane->state != LANE_UP ||
        (ahead && core->now_ms >= lane->moved_ms + SHORT_MS && lane->tasks))
        return 0;
    const uint64_t slots = subtract_saturated(lane->slots, lane->busy);
    return subtract_saturated(ahead ? AHEAD_TASKS * slots : slots, lane->tasks);
}

/* The lane with most room; NULL: all together have less than that many tasks want. */
static struct lane *roomiest(const struct client_core *core, bool ahead, uint64_t wanted)
{
    struct lane *best = NULL;
    uint64_t all = 0;
    for (uint32_t i = 0; i < LANES_MAX; i++) {
        struct lane *lane = core->lanes[i];
        const uint64_t room = lane ? room_of(core, lane, ahead) : 0;
        all += room;
        if (room && (!best || room > room_of(core, best, ahead)))
            best = lane;
    }
    return all < wanted ? NULL : best;
}

/* Whom to give some of a job that has a slot for each task, or soon will, and how many:
 * half the room, as other lanes may have some too. */
static struct lane *find_soon(const struct client_core *core, const struct job *job,
                              uint64_t *ret_tasks)
{
    const uint64_t wanted = span_set_tasks(job->waiting);
    struct lane *lane = roomiest(core, false, wanted);
    const bool ahead = !lane && is_short(job);
    if (job->options.chunk > 1)
        return NULL;
    if (ahead)
        lane = roomiest(core, true, wanted);
    *ret_tasks = lane ? (room_of(core, lane, ahead) + 1) / 2 : 0;
    return lane;
}

/* How many of a span's first tasks the lane takes, of so many that it is to have; 0: none
 * now. What is on lanes counts for the coordinator's window: it may have to be sent
 * there. */
static uint32_t fit(const struct client_core *core, const struct job *job,
                    const struct lane *lane, uint64_t tasks, const struct msg_span *span)
{
    const uint64_t window =
        smaller(subtract_saturated(lane->tasks_max, lane->tasks),
                subtract_saturated(core->tasks_max, core->sent_tasks));
    const uint64_t left = smaller(subtract_saturated(lane->bytes_max, lane->bytes),
                                  subtract_saturated(core->bytes_max, core->sent_bytes));
    const uint64_t most = smaller(tasks, window), size = span_task_size(span, 0);
    if (size > core->body_bytes_max || ((!most || size > left) && core->sent_tasks))
        return 0;
    return part_cut(span, unit_of(job), larger(most, 1), smaller(left, MESSAGE_BYTES));
}

static int open_on(struct client_core *core, struct job *job, struct lane *lane,
                   struct client_effects *effects)
{
    const uint64_t bit = UINT64_C(1) << (lane->place - 1);
    if (job->lanes_told & bit)
        return 0;
    struct message *message = client_send_make_open(core, job, false);
    return client_lane_send(core, lane, &message, effects);
}

static int send_first(struct client_core *core, struct job *job, struct lane *lane,
                      uint32_t count, struct client_effects *effects)
{
    const size_t mark = effects->count;
    const uint64_t first = span_set_first(job->waiting)->span.first;
    if (span_set_cut(job->waiting, first + count) || open_on(core, job, lane, effects))
        return FARPOOL_ENOMEM;
    const struct span_item *item = span_set_find(job->waiting, first);
    struct message *message = message_create(MSG_TASKS);
    struct msg_span *span = message ? mem_alloc(sizeof *span) : NULL;
    if (span) {
        message->tasks.pool = core->config.pool;
        message->tasks.job = job->number;
        message->tasks.spans = span;
        message->tasks.spans_count = span_share(&item->span, span) ? 0 : 1;
    }
    if (!span || client_lane_send(core, lane, &message, effects)) {
        message_free(&message);
        client_effects_truncate(effects, mark);
        return FARPOOL_ENOMEM;
    }
    job->lanes_told |= UINT64_C(1) << (lane->place - 1);
    client_job_move(core, job->waiting, first, job->sent, item->span.attempt, item->tag,
                    failures_of(item) | (uint64_t)lane->place << 32, job);
    client_job_settle(core, job);
    return 0;
}

int client_deal_first(struct client_core *core, struct job *job, enum way *ret_way,
                      struct client_effects *effects)
{
    const struct span_item *item = span_set_first(job->waiting);
    uint64_t tasks = 0;
    *ret_way = WAY_RELAY;
    if (!is_dealt(core, job))
        return 0;
    const bool is_long = client_part_is_long(core);
    if (client_deal_is_marked(item)) {
        *ret_way = is_long ? WAY_MARKED : WAY_RELAY;
        return 0;
    }
    struct lane *lane = find_soon(core, job, &tasks);
    if (!lane && is_long)
        lane = client_part_find(core, job, &tasks);
    const uint32_t count = lane ? fit(core, job, lane, tasks, &item->span) : 0;
    if (count)
        *ret_way = WAY_DEALT;
    else if (is_long && client_lanes_carry(core))
        *ret_way = WAY_WAIT;
    return count ? send_first(core, job, lane, count, effects) : 0;
}

/* ------------------------------------------------------------------- ACCOUNT */

static struct message *write_account(const struct client_core *core,
                                     const struct job *job, const struct lane *lane)
{
    struct message *message = message_create(MSG_ACCOUNT);
    if (!message || !(message->account.ranges = client_lane_list(
                          job, lane, 0, &message->account.ranges_count))) {
        message_free(&message);
        return NULL;
    }
    message->account.pool = core->config.pool;
    message->account.job = job->number;
    message->account.worker = lane->worker;
    message->account.done = job->lane_done;
    message->account.failed = job->lane_failed;
    message->account.elapsed_ns = job->lane_ns;
    message->account.unsent = span_set_tasks(job->waiting);
    return message;
}

int client_deal_account(struct client_core *core, struct job *job,
                        const struct lane *lane, struct client_effects *effects)
{
    const uint64_t bit = UINT64_C(1) << (lane->place - 1);
    struct message *message = write_account(core, job, lane);
    const bool any = message && message->account.ranges_count;
    if (!message)
        return FARPOOL_ENOMEM;
    if (!any && !(job->accounted & bit)) {
        message_free(&message);
        return 0;
    }
    if (client_send_open_if_untold(core, job, effects) ||
        client_send_message(effects, &message)) {
        message_free(&message);
        return FARPOOL_ENOMEM;
    }
    job->lane_done = job->lane_failed = job->lane_ns = 0;
    job->accounted = any ? job->accounted | bit : job->accounted & ~bit;
    return 0;
}

int client_deal_account_job(struct client_core *core, struct job *job,
                            struct client_effects *effects)
{
    for (uint32_t i = 0; i < LANES_MAX && job->lanes_told; i++)
        if (core->lanes[i] && core->lanes[i]->account_ms != UINT64_MAX &&
            job->lanes_told & UINT64_C(1) << i &&
            client_deal_account(core, job, core->lanes[i], effects))
            return FARPOOL_ENOMEM;
    return 0;
}

int client_deal_flush_accounts(struct client_core *core, struct client_effects *effects)
{
    for (uint32_t i = 0; i < LANES_MAX; i++) {
        struct lane *lane = core->lanes[i];
        if (!lane || core->now_ms < lane->account_ms)
            continue;
        for (struct job *job = core->jobs; job; job = job->hh.next)
            if (job->lanes_told & UINT64_C(1) << i &&
                client_deal_account(core, job, lane, effects))
                return FARPOOL_ENOMEM;
        lane->account_ms = UINT64_MAX;
        lane->told_ms = core->now_ms;
    }
    return 0;
}

/* -------------------------------------------------------- ends, on all its lanes */

int client_deal_tell(struct client_core *core, const struct job *job,
                     const struct message *message, struct client_effects *effects)
{
    const size_t mark = effects->count;
    for (uint32_t i = 0; i < LANES_MAX; i++) {
        struct lane *lane = core->lanes[i];
        if (!lane || lane->state != LANE_UP || !(job->lanes_told & UINT64_C(1) << i))
            continue;
        struct message *copy = message_copy(message);
        if (client_lane_send(core, lane, &copy, effects)) {
            client_effects_truncate(effects, mark);
            return FARPOOL_ENOMEM;
        }
    }
    return 0;
}
