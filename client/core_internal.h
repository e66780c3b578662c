/* SPDX-License-Identifier: Apache-2.0
 *
 * core_internal.h: what the files of a client core offer each other; its state is in
 * core_model.h.
 *
 *   core.c          creating, dispatching an event, the FLUSH, the deadline
 *   core_effects.c  the array of effects
 *   core_link.c     hello, welcome, silence; what a message is and whether it may come
 *   core_pool.c     how a pool fails, closes, is terminated and ends
 *   core_job.c      jobs: opening, input, cancelling, freeing, their end
 *   core_send.c     TASKS and JOB_OPEN within the window; sending again on a new link
 *   core_results.c  DONE, FAILED and LOST: what is taken, tried again, given up
 *   core_ack.c      which results were taken, and the ACKs for them
 *   core_lane.c     lanes: links to workers, and what of `sent` is on them
 *   core_leave.c    what becomes of it when its lane ends
 *   core_deal.c     sending on lanes, and the account of it for the coordinator
 *   core_part.c     how much of a long job each lane is dealt
 *   core_input.c    how much input a lazy job pulls
 *   core_shared.c   shared inputs
 *   core_check.c    every invariant
 *
 * How a step is all or nothing: sets are first cut where they will be (which changes no
 * task), tasks are moved to `ended` and `again` (which allocates nothing and can be
 * undone), effects are appended (and cut off again on failure); only then the rest
 * changes, without allocating. */
#ifndef FARPOOL_CLIENT_CORE_INTERNAL_H
#define FARPOOL_CLIENT_CORE_INTERNAL_H

#include "client/core_model.h"

/* core_effects.c */
struct client_effect *
client_effects_add(struct client_effects *effects,
                   enum client_effect_kind kind); /* NULL: no memory */
void client_effects_truncate(struct client_effects *effects, size_t count);
bool client_effects_send(const struct client_effects *effects, size_t from);
/* Takes the message over if it returns 0. A NULL message is ENOMEM too. */
int client_send_message(struct client_effects *effects, struct message **message);

/* core_link.c */
int client_link_up(struct client_core *core, struct client_effects *effects);
int client_link_refused(struct client_core *core, const char *text,
                        struct client_effects *effects);
void client_link_down(struct client_core *core);
int client_link_relink(struct client_core *core, struct client_effects *effects, int code,
                       const char *format, ...) __attribute__((format(printf, 4, 5)));
int client_link_message(struct client_core *core, struct message *message,
                        struct client_effects *effects);
int client_link_flush_silence(struct client_core *core, struct client_effects *effects);
int client_link_flush_heartbeat(struct client_core *core, struct client_effects *effects);
uint64_t client_link_deadline(const struct client_core *core);

int client_link_tell_output(const struct message *message,
                            struct client_effects *effects);

/* core_pool.c */
int client_pool_code(int code); /* a code that a peer told, or EPROTOCOL */
int client_pool_fail(struct client_core *core, int code, const char *text,
                     const char *node, struct client_effects *effects);
int client_pool_give_up(struct client_core *core, const struct client_event *event,
                        struct client_effects *effects);
int client_pool_handle_failed(struct client_core *core, const struct message *message,
                              struct client_effects *effects);
int client_pool_handle_closed(struct client_core *core, struct client_effects *effects);
void client_pool_close(struct client_core *core);
void client_pool_terminate(struct client_core *core);
int client_pool_flush(struct client_core *core, struct client_effects *effects);

/* core_job.c */
/* The job whose turn to send it is, and how many there are; NULL: none. */
struct job *client_job_first_ready(struct client_core *core);
size_t client_job_count_ready(const struct client_core *core);
struct job *client_job_find(const struct client_core *core, uint64_t number);
int client_job_open(struct client_core *core, struct client_event *event);
int client_job_input(struct client_core *core, struct client_event *event);
int client_job_skip(struct client_core *core, const struct client_event *event);
int client_job_again(struct client_core *core, struct client_event *event);
int client_job_input_end(struct client_core *core, const struct client_event *event);
int client_job_cancel(struct client_core *core, struct client_event *event,
                      struct client_effects *effects);
int client_job_free(struct client_core *core, const struct client_event *event,
                    struct client_effects *effects);
void client_job_destroy(struct client_core *core, struct job *job);
/* Moves the whole span at `first` between two sets of a job, ended or again. */
void client_job_move(struct client_core *core, struct span_set *from, uint64_t first,
                     struct span_set *to, uint32_t attempt, uint64_t tag, uint64_t tag2,
                     struct job *job);
/* After a change: in core->ready or not, over or not. */
void client_job_settle(struct client_core *core, struct job *job);
/* Ends the unfinished tasks of [first, end) of one set or both, for one reason. */
struct job_end {
    uint64_t first, end;
    int code;
    const char *text, *node;
    uint64_t ret_count;
};
int client_job_end_tasks(struct client_core *core, struct job *job, struct job_end *end,
                         struct client_effects *effects);
int client_job_send_cancel(struct client_core *core, const struct job *job,
                           uint64_t first, uint64_t count, bool kill,
                           struct client_effects *effects);
void client_job_stop(struct client_core *core, const struct message *message);
int client_job_flush_fail(struct client_core *core, struct client_effects *effects);
int client_job_flush_stop(struct client_core *core, struct client_effects *effects);
int client_job_flush_over(struct client_core *core, struct client_effects *effects);

/* core_send.c */
struct message *client_send_make_open(const struct client_core *core,
                                      const struct job *job, bool resumed);
int client_send_open_if_untold(struct client_core *core, struct job *job,
                               struct client_effects *effects);
int client_send_flush_resume(struct client_core *core, struct client_effects *effects);
int client_send_flush(struct client_core *core, struct client_effects *effects);

/* core_results.c */
int client_results_handle_done(struct client_core *core, const struct message *message,
                               struct client_effects *effects);
int client_results_handle_failed(struct client_core *core, const struct message *message,
                                 struct client_effects *effects);
int client_results_handle_lost(struct client_core *core, const struct message *message,
                               struct client_effects *effects);

/* core_ack.c */
bool client_ack_reserve(struct client_core *core, size_t more);
/* A result of so many bytes, which the worker keeps until it is ACKed. */
void client_ack_add(struct client_core *core, const struct id *worker, uint64_t seq,
                    uint64_t bytes);
void client_ack_hurry(struct client_core *core); /* what was added is to go at once */
uint64_t client_ack_deadline(const struct client_core *core); /* reserved */
int client_ack_flush(struct client_core *core, struct client_effects *effects);
/* Of a way that has ended. */
void client_ack_forget(struct client_core *core, uint64_t lane);

/* core_lane.c */
struct lane *client_lane_find(const struct client_core *core,
                              uint64_t number); /* NULL: none */
int client_lane_say(const struct id *ticket, bool up, const char *text,
                    struct client_effects *effects); /* LANE */
bool client_lane_is_about(enum message_kind kind);   /* the coordinator's messages */
int client_lane_told(struct client_core *core, const struct message *message,
                     struct client_effects *effects);
int client_lane_up(struct client_core *core, uint64_t number,
                   struct client_effects *effects);
void client_lane_down(struct client_core *core, uint64_t number, const char *text);
int client_lane_heard(struct client_core *core, uint64_t number,
                      const struct message *message, struct client_effects *effects);
/* Takes the message over if it returns 0. */
int client_lane_send(struct client_core *core, struct lane *lane,
                     struct message **message, struct client_effects *effects);
/* A span has come into `sent` (1), or leaves it (-1). */
void client_lane_count(struct client_core *core, const struct span_item *item, int sign);
bool client_lanes_carry(const struct client_core *core); /* any task */
void client_lanes_end(struct client_core *core, const char *text);
void client_lanes_free(struct client_core *core);
int client_lanes_flush(struct client_core *core, struct client_effects *effects);
uint64_t client_lanes_deadline(const struct client_core *core);

/* core_leave.c */
/* An OVER one is gone then, and what was on it is elsewhere. */
int client_lane_finish(struct client_core *core, struct lane *lane,
                       struct client_effects *effects);
/* What of a job's `sent` is on a lane, from the task `first` on, up to LIST_MAX ranges;
 * allocated, the caller frees it. NULL: ENOMEM. */
struct msg_range *client_lane_list(const struct job *job, const struct lane *lane,
                                   uint64_t first, uint32_t *ret_count);
bool client_lane_has(const struct job *job, const struct lane *lane);

/* core_deal.c */
enum way {
    WAY_RELAY,  /* what waits of it is for the coordinator, */
    WAY_MARKED, /* or just its first tasks are */
    WAY_DEALT,  /* some of it has been sent on a lane */
    WAY_WAIT,   /* it waits for what is on lanes */
};
bool client_deal_is_marked(const struct span_item *item); /* not for lanes */
int client_deal_first(struct client_core *core, struct job *job, enum way *ret_way,
                      struct client_effects *effects);
/* Of a job on one lane; on all that the coordinator was told of; what is due. */
int client_deal_account(struct client_core *core, struct job *job,
                        const struct lane *lane, struct client_effects *effects);
int client_deal_account_job(struct client_core *core, struct job *job,
                            struct client_effects *effects);
int client_deal_flush_accounts(struct client_core *core, struct client_effects *effects);
/* A copy on each lane that has heard of the job. */
int client_deal_tell(struct client_core *core, const struct job *job,
                     const struct message *message, struct client_effects *effects);

/* core_part.c */
void client_part_borrow(struct client_core *core, struct job *job);
void client_part_measure(struct client_core *core, struct job *job);
/* Whether the pool's lanes are for all that it has, or just were: a worker that joins is
 * told of before it has one. */
bool client_part_is_long(struct client_core *core);
/* Whom to give some of a job, and how many tasks at most; NULL: nobody now. */
struct lane *client_part_find(const struct client_core *core, const struct job *job,
                              uint64_t *ret_tasks);
int client_part_returned(struct client_core *core, struct lane *lane,
                         const struct message *message);
int client_part_flush(struct client_core *core, struct client_effects *effects);

/* core_input.c */
void client_average_add(struct average *average, uint64_t count, uint64_t sum);
/* Rounded up; 0: nothing was measured, or it is 0. */
uint64_t client_average_mean(const struct average *average);
int client_input_consumed(struct client_core *core, const struct client_event *event);
int client_input_flush(struct client_core *core, struct client_effects *effects);

/* core_shared.c */
int client_shared_add(struct client_core *core, struct client_event *event,
                      struct client_effects *effects);
int client_shared_remove(struct client_core *core, uint64_t number,
                         struct client_effects *effects);
int client_shared_tell(const struct client_core *core, struct client_effects *effects);
void client_shared_fini(struct client_core *core);
uint64_t client_input_limit(const struct client_core *core, const struct job *job);

#endif
