/* SPDX-License-Identifier: Apache-2.0
 *
 * core_internal.h: what the files of the worker's core offer each other; its state is in
 * core_model.h. Nobody else includes either.
 *
 *   core.c          create, step, deadline, counts, effects
 *   core_link.c     hello, welcome, heartbeat, HELD, drain and stop
 *   core_pool.c     pools and jobs: open, close, fail, forget
 *   core_program.c  programs: opened, fetched, ready
 *   core_shared.c   shared inputs: begun, whole, mapped, ended
 *   core_pull.c     their pieces on the way here and to other workers
 *   core_piece.c    tasks held here: where each is, splitting and moving
 *   core_tasks.c    TASKS and CANCEL
 *   core_return.c   RECALL and giving back
 *   core_process.c  processes: their states, how many there are
 *   core_report.c   what the host reports of them
 *   core_gone.c     their end, and who is blamed for it
 *   core_slot.c     the slot's number that each has
 *   core_feed.c     starting processes and giving them tasks
 *   core_gate.c     watched tasks: BEGIN, GO, and processes that wait for it
 *   core_watch.c    task timeouts, cancelled tasks that run, LOAD
 *   core_output.c   what processes print
 *   core_result.c   results until they are ACKed
 *   core_lane.c     lanes: who may dial this worker, and whom it dials
 *   core_carry.c    work that comes on lanes
 *   core_logs.c     LOGS_GET
 *   core_check.c    every invariant
 *
 * How a step stays all or nothing: an event first does what may run out of memory (cuts
 * pieces, which changes no task; reserves effects; makes results) and then moves things,
 * which never fails, since every container is intrusive. Messages are made by FLUSH, in
 * small parts, each of them all or nothing. */
#ifndef FARPOOL_WORKER_CORE_INTERNAL_H
#define FARPOOL_WORKER_CORE_INTERNAL_H

#include "worker/core_model.h"

/* core.c: effects. Reserve first (ENOMEM), then add, which cannot fail. */
int worker_reserve(struct worker_core *core, size_t count);
struct worker_effect *worker_add(struct worker_core *core, enum worker_effect_kind kind);
/* Makes the message of a part of FLUSH and reserves its effect; NULL: out of memory. */
struct message *worker_message(struct worker_core *core, enum message_kind kind);
void worker_send(struct worker_core *core, struct message *message);
uint64_t worker_after(uint64_t ms, uint64_t delay_ms); /* saturating sum */

/* core_link.c */
int worker_link_up(struct worker_core *core, const char *address);
void worker_link_down(struct worker_core *core);
int worker_link_message(struct worker_core *core, struct message *message);
/* The peer broke the protocol, or is silent: an effect, and the link is down. */
int worker_relink(struct worker_core *core, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
int worker_drain(struct worker_core *core);
int worker_stop(struct worker_core *core);
int worker_flush_link_first(struct worker_core *core);
int worker_flush_orphaned(struct worker_core *core);
int worker_flush_link_last(struct worker_core *core);
int worker_flush_drain(struct worker_core *core);
uint64_t worker_link_deadline(const struct worker_core *core);

/* core_pool.c */
struct pool *worker_pool_find(struct worker_core *core, const struct id *id);
struct job *worker_job_find(struct pool *pool, uint64_t number);
int worker_pool_open(struct worker_core *core, struct message *message);
int worker_pool_close(struct worker_core *core, const struct message *message);
int worker_job_open(struct worker_core *core, const struct message *message);
int worker_job_close(struct worker_core *core, const struct message *message);
void worker_job_release(struct worker_core *core, struct job *job);
void worker_pool_fail(struct worker_core *core, struct pool *pool, int code, bool fatal,
                      const char *text);
/* Kills its processes and drops all else; effects for pool->total must be reserved. */
void worker_pool_drop(struct worker_core *core, struct pool *pool, enum pool_state state);
void worker_pool_free(struct worker_core *core, struct pool *pool);
bool worker_pool_usable(const struct worker_core *core, const struct pool *pool);
/* The same, now: what it shares is here. */
bool worker_pool_feedable(const struct worker_core *core, const struct pool *pool);
int worker_flush_pools(struct worker_core *core);
int worker_flush_pool_ends(struct worker_core *core);

/* core_program.c */
int worker_program_attach(struct worker_core *core, struct pool *pool,
                          struct message *message);
void worker_program_detach(struct worker_core *core, struct pool *pool);
int worker_program_event(struct worker_core *core, const struct worker_event *event);
int worker_program_blob(struct worker_core *core, struct message *message);
int worker_flush_programs(struct worker_core *core);
void worker_programs_relinked(struct worker_core *core);
uint64_t worker_programs_deadline(const struct worker_core *core);

/* core_shared.c */
int worker_share(struct worker_core *core, const struct message *message);
int worker_unshare(struct worker_core *core, const struct message *message);
int worker_shared_event(struct worker_core *core, const struct worker_event *event);
/* SHARED_RELEASE_EFFECTS for each of them must be reserved. */
void worker_shared_release_all(struct worker_core *core, struct pool *pool);
struct shared *worker_shared_find(const struct pool *pool, uint64_t number);
/* The effects that a content may have when it is settled. */
int worker_shared_reserve(struct worker_core *core, const struct content *content);
/* The client could not give a piece, or gave a wrong one; after some the content has
 * FAILED. */
void worker_shared_refuse(struct worker_core *core, struct shared *shared, int code);
void worker_shared_check(const struct worker_core *core);
static inline bool worker_has_piece(const struct content *content, uint32_t piece)
{
    return (content->have[piece / 8] & 1u << piece % 8) != 0;
}

/* core_pull.c */
int worker_pull(struct worker_core *core, const struct message *message);
/* From another worker: over a lane, or through the coordinator (NULL). */
int worker_shared_fetch(struct worker_core *core, struct lane *lane,
                        const struct message *message);
/* A lane of that number, for this pool, is no more. */
void worker_pulls_lane_over(struct pool *pool, uint64_t lane);
/* Whether a BLOB is of a shared input of its pool, and not of the program. */
bool worker_shared_is_content(struct worker_core *core, const struct message *blob);
int worker_shared_blob(struct worker_core *core, struct message *message);
/* The shell has written a piece, or (code) not. */
void worker_pulls_written(struct worker_core *core, struct content *content,
                          uint32_t piece, int code);
void worker_pulls_forget(struct shared *shared);
void worker_shared_link_down(struct worker_core *core);
/* Another coordinator: its client may have unshared some meanwhile. */
void worker_shared_relinked(struct worker_core *core, struct pool *pool);
int worker_flush_shared(struct worker_core *core);
uint64_t worker_shared_deadline(const struct worker_core *core);

/* core_piece.c */
struct piece *worker_piece_create(struct job *job, const struct msg_span *span);
void worker_piece_free(struct piece *piece); /* in state NEW */
/* Cuts a piece: it keeps its first `count` tasks, the rest becomes a piece behind it, in
 * the same place. NULL: out of memory, nothing changed. */
struct piece *worker_piece_split(struct piece *piece, uint32_t count);
/* Cuts until [first, first + count), within `piece`, is a piece of its own. */
struct piece *worker_piece_isolate(struct piece *piece, uint64_t first, uint32_t count);
int worker_piece_span(const struct piece *piece, struct msg_span *ret_span);
uint64_t worker_piece_bytes(const struct piece *piece, uint32_t count);
uint32_t worker_piece_fit(const struct piece *piece, uint64_t bytes);
void worker_piece_queue(struct worker_core *core, struct piece *piece);
void worker_piece_give(struct worker_core *core, struct piece *piece,
                       struct process *process, uint64_t give);
void worker_piece_cancel(struct worker_core *core, struct piece *piece, bool kill);
void worker_piece_drop(struct worker_core *core, struct piece *piece);
/* The first `count` tasks of a given or cancelled piece have ended. */
void worker_piece_finish(struct worker_core *core, struct piece *piece, uint32_t count);
struct piece *worker_piece_overlap(struct worker_pieces *pieces, uint64_t first,
                                   uint64_t last);
static inline uint64_t piece_last(const struct piece *piece)
{
    return piece->first + (piece->count - 1);
}

/* core_tasks.c */
int worker_tasks(struct worker_core *core, const struct message *message);
int worker_cancel(struct worker_core *core, const struct message *message);
void worker_cancel_job(struct worker_core *core, struct job *job);

/* core_return.c */
void worker_recall_move(struct job *job, enum recall_state state);
int worker_recall(struct worker_core *core, const struct message *message);
int worker_recall_end(struct worker_core *core, const struct job *job);
int worker_flush_returns(struct worker_core *core);

/* core_process.c */
struct process *worker_process_start(struct worker_core *core, struct pool *pool);
void worker_process_move(struct worker_core *core, struct process *process,
                         enum process_state state);
void worker_process_settle(struct worker_core *core, struct process *process);
void worker_process_changed(struct worker_core *core, struct process *process);
void worker_process_kill(struct worker_core *core, struct process *process,
                         enum kill_reason reason);
void worker_process_close(struct worker_core *core, struct process *process);
void worker_process_free(struct worker_core *core, struct process *process);
uint32_t worker_processes_allowed(const struct worker_core *core,
                                  const struct pool *pool);
uint32_t worker_running_max(const struct worker_core *core, const struct pool *pool);
int worker_flush_processes(struct worker_core *core);
uint64_t worker_processes_deadline(const struct worker_core *core);

static inline bool worker_is_measured(const struct job *job)
{
    return job->cpu_ms > 0 || job->memory_bytes > 0;
}

/* Whether what the process had was dropped with its pool. */
static inline bool process_is_over(const struct process *process)
{
    return process->pool->state == POOL_ENDING || process->pool->state == POOL_FORGOTTEN;
}

/* core_report.c, core_gone.c */
int worker_process_event(struct worker_core *core, struct worker_event *event);
struct piece *worker_process_find(struct process *process, uint64_t give, uint64_t first);
int worker_process_gone(struct worker_core *core, struct process *process,
                        const struct worker_event *event);

/* core_feed.c */
uint64_t worker_task_ns(const struct job *job); /* 0: not measured */
void worker_measure(struct job *job, uint64_t count, uint64_t elapsed_ns);
int worker_flush_feed(struct worker_core *core);
int worker_flush_take_back(struct worker_core *core);
/* Tells a process to run a piece that it has; an effect must be reserved. */
void worker_give_effect(struct worker_core *core, const struct piece *piece,
                        const struct msg_span *span);

/* core_gate.c */
/* How many tasks of a piece may be begun at a time, by what is known of them. */
uint32_t worker_gate_most(const struct worker_core *core, const struct piece *piece);
bool worker_gate_wanted(const struct worker_core *core, const struct piece *piece);
struct message *worker_gate_ask(struct worker_core *core, const struct process *process,
                                const struct piece *piece); /* NULL: out of memory */
void worker_gate_close(struct worker_core *core, struct process *process);
void worker_gate_forget(struct worker_core *core, struct process *process);
/* What it waits for goes back into the queue; or, one piece of it, nowhere. */
void worker_gate_back(struct worker_core *core, struct process *process);
void worker_gate_drop(struct worker_core *core, struct piece *piece);
void worker_gates_free(struct worker_core *core);
void worker_go(struct worker_core *core, const struct message *message);
int worker_flush_gates(struct worker_core *core);

/* core_watch.c */
void worker_watch_given(struct worker_core *core, struct process *process,
                        const struct job *job);
int worker_sampled(struct worker_core *core, struct process *process,
                   const struct worker_event *event);
int worker_flush_watch(struct worker_core *core);
int worker_flush_load(struct worker_core *core);
uint64_t worker_watch_deadline(const struct worker_core *core);
void worker_load_forget(struct worker_core *core);

/* core_result.c: made by an event, kept from then on */
struct result *worker_result_create(struct worker_core *core, enum message_kind kind,
                                    const struct piece *piece, uint64_t first,
                                    uint32_t count);
int worker_result_say(struct result *result, const char *message, const char *backtrace);
void worker_result_free(struct result *result);
void worker_result_keep(struct worker_core *core, struct pool *pool,
                        struct result *result);
struct result *worker_result_overlap(struct pool *pool, uint64_t job, uint32_t attempt,
                                     uint64_t first, uint64_t last);
void worker_result_resend(struct worker_core *core, struct result *result);
/* All that is not ACKed of what came on a lane goes by the coordinator from now on. */
void worker_results_reroute(struct worker_core *core, const struct lane *lane);
void worker_outbox_init(struct outbox *outbox, struct lane *lane);
void worker_results_resend(struct worker_core *core, struct pool *pool);
void worker_results_drop(struct worker_core *core, struct pool *pool);
void worker_results_drop_job(struct worker_core *core, struct pool *pool, uint64_t job);
void worker_ack(struct worker_core *core, const struct message *message);
bool worker_results_full(const struct worker_core *core);
bool worker_results_due(const struct worker_core *core); /* the next FLUSH sends some */
uint64_t worker_results_deadline(const struct worker_core *core);
int worker_flush_results(struct worker_core *core);

/* core_output.c */
void worker_output_init(const struct worker_core *core, struct pool *pool, bool wanted);
void worker_output_take(struct worker_core *core, struct process *process,
                        const struct worker_event *event);
int worker_flush_output(struct worker_core *core);
uint64_t worker_output_deadline(const struct worker_core *core);
void worker_output_fini(struct worker_core *core, struct pool *pool);
/* What came on that lane, which ends, goes by the coordinator. */
void worker_output_reroute(struct pool *pool, const struct lane *lane);

/* core_lane.c */
int worker_introduce(struct worker_core *core, const struct message *message);
int worker_introduced(struct worker_core *core, const struct message *message);
void worker_withdraw(struct worker_core *core, const struct message *message);
/* Of the lane with that number: it is connected; it is gone; its peer has spoken. */
int worker_lane_up(struct worker_core *core, uint64_t number);
void worker_lane_down(struct worker_core *core, uint64_t number, const char *text);
int worker_lane_heard(struct worker_core *core, const struct worker_event *event);
/* Sends on a lane that is up; the effect must be reserved (worker_message). */
void worker_lane_send(struct worker_core *core, struct lane *lane,
                      struct message *message);
/* One that is up, to that worker; NULL: there is none. */
struct lane *worker_lane_find(struct worker_core *core, const struct pool *pool,
                              const struct id *peer);
/* The peer of the present message's lane broke a rule. */
void worker_lane_break(struct worker_core *core, const char *text);

/* core_carry.c: of a client's lane that has come up, or ends. */
void worker_carry_begin(struct worker_core *core, struct lane *lane);
void worker_carry_end(struct worker_core *core, struct lane *lane);
int worker_carry_heard(struct worker_core *core,
                       const struct message *message); /* on core->speaker */
void worker_lanes_pool_over(struct worker_core *core, const struct pool *pool);
void worker_lanes_welcomed(struct worker_core *core); /* by another coordinator */
void worker_lanes_free(struct worker_core *core);
int worker_flush_lanes(struct worker_core *core);
uint64_t worker_lanes_deadline(const struct worker_core *core);
void worker_lanes_check(const struct worker_core *core);

/* core_logs.c */
int worker_logs(struct worker_core *core, const struct message *get);

#endif
