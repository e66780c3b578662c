/* SPDX-License-Identifier: Apache-2.0
 *
 * core_return.c: giving tasks back (RETURNED): what a RECALL asks for, the last ones
 * first and never a part of a chunk, once the processes have given back what they have
 * not begun; and everything that a failed pool or a drained worker holds. Nothing is
 * given back to the coordinator while its link is down: HELD tells it to the next one. */
#include "worker/core_internal.h"

void worker_recall_move(struct job *job, enum recall_state state)
{
    job->pool->recalls += state != RECALL_NONE;
    job->pool->recalls -= job->recall != RECALL_NONE;
    job->recall = state;
    if (state == RECALL_NONE)
        job->recall_lane = NULL;
}

/* Whoever asked is answered where he did. */
static void answer(struct worker_core *core, struct lane *lane, struct message *message)
{
    if (lane != NULL)
        worker_lane_send(core, lane, message);
    else
        worker_send(core, message);
}

static int return_none(struct worker_core *core, const struct id *pool, uint64_t job,
                       struct lane *lane)
{
    struct message *message = worker_message(core, MSG_RETURNED);
    if (message == NULL)
        return FARPOOL_ENOMEM;
    message->returned.pool = *pool;
    message->returned.job = job;
    answer(core, lane, message);
    return 0;
}

/* Half of the chunks that have not begun, by what is known here: who asked for so many
 * may have heard long ago how many there are, and others would have to bring some back.
 * Known at a FLUSH: what processes have published lies in their rings until the host has
 * looked at them, which it does before that. */
static uint64_t half_unbegun(const struct job *job)
{
    const uint64_t chunk = job->chunk > 0 ? job->chunk : 1;
    const uint64_t tasks = job->queued_tasks + job->given_tasks;
    uint64_t begun = 0;
    for (int state = PROCESS_RUNNING; state <= PROCESS_BLOCKED; state++) {
        const struct process *process;
        TAILQ_FOREACH (process, &job->pool->processes[state], link) {
            const struct piece *first = TAILQ_FIRST(&process->pieces);
            begun += first != NULL && first->job == job ? chunk : 0;
        }
    }
    const uint64_t chunks = tasks > begun ? (tasks - begun + chunk - 1) / chunk : 0;
    return (chunks + 1) / 2 * chunk;
}

/* Each RECALL gets one answer; a second one for the same job before the first is
 * answered is answered with nothing. */
int worker_recall(struct worker_core *core, const struct message *message)
{
    struct pool *pool = worker_pool_find(core, &message->recall.pool);
    struct job *job = pool ? worker_job_find(pool, message->recall.job) : NULL;
    if (job == NULL || job->recall != RECALL_NONE)
        return return_none(core, &message->recall.pool, message->recall.job,
                           core->speaker);
    worker_recall_move(job, RECALL_WANTED);
    job->recall_tasks = message->recall.tasks;
    job->recall_lane = core->speaker;
    return 0;
}

static bool may_answer(const struct worker_core *core, const struct job *job)
{
    return job->recall_lane != NULL ? job->recall_lane->state == LANE_UP
                                    : core->link == LINK_UP;
}

/* Every RECALL has its answer, also of a job that ends before. */
int worker_recall_end(struct worker_core *core, const struct job *job)
{
    if (job->recall == RECALL_NONE || !may_answer(core, job))
        return 0;
    return return_none(core, &job->pool->id, job->number, job->recall_lane);
}

/* Where a piece may be cut so that at most `tasks` of its last ones come off: at a
 * boundary of a chunk. 0: nowhere. */
static uint32_t cut_last(const struct piece *piece, uint64_t tasks)
{
    const uint32_t chunk = piece->job->chunk > 0 ? piece->job->chunk : 1;
    if (tasks >= piece->count)
        return piece->count;
    const uint64_t place = piece->first % chunk + (piece->count - tasks);
    const uint64_t up = place % chunk ? chunk - place % chunk : 0;
    return up < tasks ? (uint32_t)(tasks - up) : 0;
}

static bool extends(const struct msg_range *range, const struct piece *piece)
{
    return range->first == piece_last(piece) + 1 && range->attempt == piece->attempt;
}

/* Up to `tasks` queued tasks of a job in one RETURNED, the last ones first; on a lane,
 * those that came there, up to others. */
static int return_queued(struct worker_core *core, struct job *job, uint64_t tasks,
                         struct lane *lane)
{
    struct message *message = worker_message(core, MSG_RETURNED);
    struct msg_range *ranges = message ? mem_alloc(LIST_MAX * sizeof *ranges) : NULL;
    if (ranges == NULL) {
        message_free(&message);
        return FARPOOL_ENOMEM;
    }
    message->returned.pool = job->pool->id;
    message->returned.job = job->number;
    message->returned.ranges = ranges;
    uint32_t count = 0;
    uint64_t pieces = 0;
    struct piece *piece = RB_MAX(worker_pieces, &job->queued);
    for (; piece != NULL && tasks > 0;
         piece = RB_PREV(worker_pieces, &job->queued, piece)) {
        const uint32_t part = cut_last(piece, tasks);
        if (part == 0 || (lane != NULL && piece->lane != lane))
            break;
        if (part < piece->count &&
            (piece = worker_piece_split(piece, piece->count - part)) == NULL) {
            message_free(&message);
            return FARPOOL_ENOMEM;
        }
        if (count > 0 && extends(&ranges[count - 1], piece)) {
            ranges[count - 1].first = piece->first;
            ranges[count - 1].count += piece->count;
        } else if (count == LIST_MAX) {
            break;
        } else {
            ranges[count++] =
                (struct msg_range){piece->first, piece->count, piece->attempt};
        }
        tasks -= piece->count;
        pieces++;
    }
    message->returned.ranges_count = count;
    for (; pieces > 0; pieces--)
        worker_piece_drop(core, RB_MAX(worker_pieces, &job->queued));
    answer(core, lane, message);
    return 0;
}

/* How many given tasks of a job a process has, and how many tasks lie behind the last
 * of them (those come back first). */
static uint64_t count_given(const struct process *process, const struct job *job,
                            uint64_t *ret_behind)
{
    uint64_t given = 0, behind = 0;
    const struct piece *piece;
    *ret_behind = 0;
    if (process->gate != 0) /* as if begun: it was asked for */
        return 0;
    TAILQ_FOREACH (piece, &process->pieces, link) {
        behind += piece->count;
        if (piece->state == PIECE_GIVEN && piece->job == job) {
            given += piece->count;
            behind = 0;
        }
    }
    *ret_behind = behind;
    return given;
}

static void ask_processes(struct job *job)
{
    uint64_t need =
        job->recall_tasks > job->queued_tasks ? job->recall_tasks - job->queued_tasks : 0;
    for (int state = PROCESS_RUNNING; state <= PROCESS_BLOCKED; state++) {
        struct process *process;
        TAILQ_FOREACH (process, &job->pool->processes[state], link) {
            uint64_t behind;
            uint64_t given = count_given(process, job, &behind);
            if (given == 0 || need == 0 || process->fruitless)
                continue;
            given = given < need ? given : need;
            need -= given;
            if (process->want_back < behind + given)
                process->want_back = behind + given;
        }
    }
}

static bool is_asked(const struct job *job)
{
    for (int state = PROCESS_RUNNING; state <= PROCESS_BLOCKED; state++) {
        const struct process *process;
        TAILQ_FOREACH (process, &job->pool->processes[state], link) {
            uint64_t behind;
            if ((process->asked_back > 0 || process->want_back > 0) &&
                count_given(process, job, &behind) > 0)
                return true;
        }
    }
    return false;
}

static int recall(struct worker_core *core, struct job *job)
{
    if (!may_answer(core, job))
        return 0;
    if (job->recall == RECALL_WANTED) {
        const uint64_t half = half_unbegun(job);
        job->recall_tasks = half < job->recall_tasks ? half : job->recall_tasks;
        ask_processes(job);
        worker_recall_move(job, RECALL_ASKED);
    }
    if (job->recall != RECALL_ASKED || is_asked(job))
        return 0;
    const int result =
        job->queued_tasks > 0
            ? return_queued(core, job, job->recall_tasks, job->recall_lane)
            : return_none(core, &job->pool->id, job->number, job->recall_lane);
    if (result == 0)
        worker_recall_move(job, RECALL_NONE);
    return result;
}

static bool gives_back(const struct worker_core *core, const struct pool *pool)
{
    return core->state == CORE_DRAINING || pool->state == POOL_FAILED ||
           pool->state == POOL_ENDING;
}

static int pool_returns(struct worker_core *core, struct pool *pool)
{
    struct job *job;
    if (pool->recalls > 0)
        RB_FOREACH (job, worker_jobs, &pool->jobs)
            if (recall(core, job) != 0)
                return FARPOOL_ENOMEM;
    while (core->link == LINK_UP && gives_back(core, pool) &&
           (job = RB_MIN(worker_turns, &pool->waiting)) != NULL)
        if (return_queued(core, job, UINT64_MAX, NULL) != 0)
            return FARPOOL_ENOMEM;
    return 0;
}

int worker_flush_returns(struct worker_core *core)
{
    struct pool *pool;
    TAILQ_FOREACH (pool, &core->pools, link)
        if (pool_returns(core, pool) != 0)
            return FARPOOL_ENOMEM;
    return 0;
}
