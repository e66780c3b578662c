/* SPDX-License-Identifier: Apache-2.0
 *
 * core_carry.c: work that comes on lanes. A client says there what the coordinator would
 * pass on from it, and its results go back the same way (core_result.c). When a lane has
 * ended, what came on it goes on like any other: its client tries it again as another
 * attempt, and has the coordinator end this one; or it is told to the coordinator that
 * was started anew, which was why the lane ended. */
#include "worker/core_internal.h"

#include <stdio.h>

void worker_carry_begin(struct worker_core *core, struct lane *lane)
{
    LIST_INSERT_HEAD(&core->carriers, lane, carrier_entry);
    lane->pool->carried = core->carried = true;
}

static void unload_tree(struct worker_pieces *pieces, const struct lane *lane)
{
    struct piece *piece;
    RB_FOREACH (piece, worker_pieces, pieces)
        if (piece->lane == lane)
            piece->lane = NULL;
}

/* Cancelled ones, which are in no tree. */
static void unload_processes(struct pool *pool, const struct lane *lane)
{
    for (int state = 0; state < PROCESS_STATES; state++) {
        const struct process *process;
        TAILQ_FOREACH (process, &pool->processes[state], link) {
            struct piece *piece;
            TAILQ_FOREACH (piece, &process->pieces, link)
                if (piece->lane == lane)
                    piece->lane = NULL;
        }
    }
}

/* The results of what came on it go by the coordinator from now on. */
void worker_carry_end(struct worker_core *core, struct lane *lane)
{
    struct job *job;
    LIST_REMOVE(lane, carrier_entry);
    RB_FOREACH (job, worker_jobs, &lane->pool->jobs) {
        if (job->recall_lane == lane)
            worker_recall_move(job, RECALL_NONE);
        unload_tree(&job->queued, lane);
        unload_tree(&job->given, lane);
    }
    unload_processes(lane->pool, lane);
    worker_results_reroute(core, lane);
    worker_output_reroute(lane->pool, lane);
}

/* The pool that a message is about; NULL: a kind that is not for lanes. */
static const struct id *pool_of(const struct message *message)
{
    switch (message->kind) {
    case MSG_JOB_OPEN:
        return &message->job_open.pool;
    case MSG_JOB_CLOSE:
        return &message->job_close.pool;
    case MSG_TASKS:
        return &message->tasks.pool;
    case MSG_CANCEL:
        return &message->cancel.pool;
    case MSG_RECALL:
        return &message->recall.pool;
    case MSG_ACK:
        return &message->ack.pool;
    default:
        return NULL;
    }
}

/* The same as the coordinator passes on from clients. */
static int take_work(struct worker_core *core, const struct message *message)
{
    switch (message->kind) {
    case MSG_JOB_OPEN:
        return worker_job_open(core, message);
    case MSG_JOB_CLOSE:
        return worker_job_close(core, message);
    case MSG_TASKS:
        return worker_tasks(core, message);
    case MSG_CANCEL:
        return worker_cancel(core, message);
    case MSG_RECALL:
        return worker_recall(core, message);
    default:
        worker_ack(core, message);
        return 0;
    }
}

int worker_carry_heard(struct worker_core *core, const struct message *message)
{
    const struct lane *lane = core->speaker;
    const struct id *pool = lane->worker ? NULL : pool_of(message);
    char text[128];
    if (pool != NULL && id_equal(pool, &lane->pool->id))
        return take_work(core, message);
    snprintf(text, sizeof text, "%s is not for %s lane", message_name(message->kind),
             pool == NULL ? "a" : "this pool's");
    worker_lane_break(core, text);
    return 0;
}
