/* SPDX-License-Identifier: Apache-2.0
 *
 * core_internal.h: what the files of a coordinator core offer each other; its state is in
 * core_model.h.
 *
 *   core.c           creating, dispatching an event, the FLUSH, the deadline, counts
 *   core_effects.c   the array of effects; sending
 *   core_link.c      links: hello, who may say what, dropping, silence, heartbeats
 *   core_client.c    clients: hello, leaving, the window
 *   core_worker.c    workers: hello, leaving, draining, LOAD, the order by load
 *   core_pool.c      pools: opening, joining, closing, failing on a node
 *   core_member.c    a pool on a worker
 *   core_share.c     how many processes of a pool each worker may have
 *   core_shared.c    shared inputs: who is told, what each worker has
 *   core_spread.c    which piece of one goes from where to where
 *   core_job.c       jobs: opening, closing, cancelling; what is known of their duration
 *   core_placement.c what a worker has of a job, and every sum over it
 *   core_tasks.c     TASKS
 *   core_lost.c      RETURNED, LOST
 *   core_results.c   DONE, FAILED and ACK
 *   core_output.c    OUTPUT
 *   core_watch.c     what of a worker's tasks may have begun: BEGIN and GO
 *   core_settle.c    a coordinator that was restarted: HELD, what is expected, settling
 *   core_match.c     which pool's tasks go to which worker
 *   core_give.c      how many, and the TASKS message
 *   core_recall.c    taking back what one worker has too much
 *   core_twin.c      second holders of a task: speculation, and who is left of two
 *   core_state.c     POOL_STATE, JOB_STATE
 *   core_status.c    STATUS
 *   core_explain.c   why a job's tasks wait
 *   core_admin.c     what an operator asks for: CANCEL_JOB, DRAIN_NODE
 *   core_wish.c      the same again, when the link was lost before it was heard of
 *   core_keys.c      join tokens: ENROL, TOKEN_MAKE, TOKEN_REVOKE
 *   core_logs.c      LOGS_GET and LOGS
 *   core_lane.c      introductions: who may dial which worker
 *   core_account.c   what lanes carry: GRANT and ACCOUNT
 *   core_check.c     every invariant
 *
 * Globals begin with k, the protocol's letter for the coordinator (messages.def): the
 * three cores are linked together in the embedded pool.
 *
 * How a step is all or nothing: it first cuts sets where they will be cut (which changes
 * no task) and appends its effects; when that has succeeded it changes the rest without
 * allocating; when not, the effects are cut off again (coordinator_core_step). So what
 * ends something comes in pairs: x_tell appends, x_destroy or x_forget changes. */
#ifndef FARPOOL_COORDINATOR_CORE_INTERNAL_H
#define FARPOOL_COORDINATOR_CORE_INTERNAL_H

#include "coordinator/core_model.h"

static inline bool kjob_is_nested(const struct job *job)
{
    return job->rank > NESTED_RANK / 2;
}

/* It has been welcomed, and gets heartbeats. */
static inline bool klink_is_greeted(const struct link *link)
{
    return link->state == LINK_CLIENT || link->state == LINK_WORKER;
}

static inline struct placement *placement_of(const struct span_item *item)
{
    return (struct placement *)(uintptr_t)item->tag;
}

/* core_effects.c */
struct coordinator_effect *keffects_add(struct coordinator_core *core,
                                        enum coordinator_effect_kind kind, uint64_t link);
void keffects_truncate(struct coordinator_effects *effects, size_t count);
/* Takes the message over if it returns 0, and frees it if not. NULL is ENOMEM too. */
int ksend(struct coordinator_core *core, struct link *link, struct message **message);
/* The same for a message that came with an event: it stays the event's on failure. */
int kforward(struct coordinator_core *core, struct link *link, struct message **message);

/* core_link.c */
int klink_message(struct coordinator_core *core, uint64_t number,
                  const struct holder *holder, struct message **message);
int klink_down(struct coordinator_core *core, uint64_t number, const char *text);
/* Closes a link for a reason; what it stood for is gone with it. */
int klink_drop(struct coordinator_core *core, struct link *link, int code,
               const char *format, ...) __attribute__((format(printf, 4, 5)));
int klink_refuse(struct coordinator_core *core, struct link *link, int code,
                 const char *format, ...) __attribute__((format(printf, 4, 5)));
int klink_tell_drop(struct coordinator_core *core, const struct link *link, int code,
                    const char *text);
int klink_tell_welcome(struct coordinator_core *core, struct link *link, bool client);
void klink_greet(struct coordinator_core *core, struct link *link, enum link_state state);
void klink_forget(struct coordinator_core *core, struct link *link); /* to DROPPED */
int klink_flush_silence(struct coordinator_core *core);
int klink_flush_heartbeats(struct coordinator_core *core);
void klink_flush_dropped(struct coordinator_core *core);
void klink_destroy(struct coordinator_core *core, struct link *link);
uint64_t klink_deadline(const struct coordinator_core *core);

struct link *klink_find(const struct coordinator_core *core, uint64_t number);

/* core_keys.c */
int kkeys_enrol(struct coordinator_core *core, struct link *link,
                const struct message *message);
int kkeys_ask(struct coordinator_core *core, struct client *client,
              const struct message *message);
int kkeys_done(struct coordinator_core *core, uint64_t number,
               const struct coordinator_keys *keys);

/* core_client.c */
int kclient_hello(struct coordinator_core *core, struct link *link,
                  const struct message *message);
int kclient_message(struct coordinator_core *core, struct client *client,
                    struct message **message);
int kclient_tell_gone(struct coordinator_core *core, const struct client *client);
void kclient_forget(struct coordinator_core *core, struct client *client);
void kclient_refresh(struct coordinator_core *core, struct client *client); /* hungry */
struct job *kclient_ready_job(const struct client *client); /* there must be one */

/* core_worker.c */
int kworker_hello(struct coordinator_core *core, struct link *link,
                  const struct message *message);
int kworker_tell_gone(struct coordinator_core *core, const struct worker *worker,
                      const char *text);
/* why: NULL when the coordinator itself ends. */
void kworker_forget(struct coordinator_core *core, struct worker *worker,
                    const char *why);
struct worker *kworker_find(const struct coordinator_core *core, const struct id *id);
int kworker_drain(struct coordinator_core *core, struct worker *worker);
int kworker_load(struct coordinator_core *core, struct worker *worker,
                 const struct message *message);
int kload_compare(const struct worker *a, const struct worker *b);
void kworker_place(struct coordinator_core *core, struct worker *worker);
/* Something of its window became free. */
void kworker_freed(struct coordinator_core *core, struct worker *worker);
void kworker_unreserve(struct coordinator_core *core, struct pool *pool);
RB_PROTOTYPE(kload_tree, worker, load_entry, kload_compare)

/* core_pool.c */
struct pool *kpool_find(const struct coordinator_core *core, const struct id *id);
int kpool_expect(struct coordinator_core *core, const struct id *id,
                 struct pool **ret_pool); /* ENOMEM, EFULL */
int kpool_open(struct coordinator_core *core, struct client *client,
               struct message **message);
int kpool_attach(struct coordinator_core *core, struct client *client,
                 const struct message *message);
int kpool_close(struct coordinator_core *core, struct client *client,
                const struct message *message);
int kpool_closed(struct coordinator_core *core, struct worker *worker,
                 const struct message *message);
int kpool_failed(struct coordinator_core *core, struct worker *worker,
                 struct message **message);
int kpool_tell_gone(struct coordinator_core *core, struct pool *pool);
void kpool_destroy(struct coordinator_core *core, struct pool *pool);
int kpool_flush_closed(struct coordinator_core *core);
/* The worker has something of a pool that is not (or no longer) known here. */
/* Whether a worker was told on this link that a pool is closed. */
bool kpool_was_closed(const struct worker *worker, const struct id *id);
int kpool_disown(struct coordinator_core *core, struct worker *worker,
                 const struct id *id);

/* core_member.c */
int kmember_compare(const struct member *a, const struct member *b);
struct member *kmember_find(const struct pool *pool, const struct worker *worker);
struct member *kmember_get(struct pool *pool, struct worker *worker); /* NULL: ENOMEM */
struct level *kmember_level(struct member *member, int32_t rank);     /* NULL: ENOMEM */
void kmember_destroy(struct coordinator_core *core, struct member *member);
int kmember_send_open(struct coordinator_core *core, struct member *member);
/* Units, share or use have changed. */
void kmember_count(struct coordinator_core *core, struct member *member);
void kmember_move(struct member *member, enum member_state state);
void kmember_announce(struct coordinator_core *core, struct member *member);
void kmember_unannounce(struct coordinator_core *core, struct member *member);
bool kmember_knows(const struct member *member); /* its worker knows the pool */
RB_PROTOTYPE(kmember_tree, member, pool_entry, kmember_compare)

/* core_share.c */
void kpool_renode(struct coordinator_core *core, struct pool *pool);
uint64_t kpool_nodes(const struct coordinator_core *core, const struct pool *pool);
uint64_t kpool_slots(const struct coordinator_core *core, const struct pool *pool);
bool kpool_usable(const struct pool *pool, const struct worker *worker,
                  const struct member *member);
uint32_t kmember_slots(const struct pool *pool, const struct worker *worker,
                       const struct member *member);
int kshare_flush(struct coordinator_core *core);

/* core_shared.c */
int kshare(struct coordinator_core *core, struct client *client,
           struct message **message);
int kunshare(struct coordinator_core *core, struct client *client,
             const struct message *message);
int kpulled(struct coordinator_core *core, struct worker *worker,
            const struct message *message);
/* A FETCH or BLOB between two workers. */
int kshared_fetch(struct coordinator_core *core, struct worker *worker,
                  struct message **message);
int kshared_blob(struct coordinator_core *core, struct worker *worker,
                 struct message **message);
/* All that its pool shares, to a worker that was just told of the pool. */
int kshared_tell(struct coordinator_core *core, struct member *member);
void kshared_forget_member(struct coordinator_core *core, struct member *member);
void kshared_forget_all(struct coordinator_core *core, struct pool *pool);
/* Lanes between its workers have changed. */
void kshared_touch(struct coordinator_core *core, struct pool *pool);

/* core_spread.c */
int kspread_init(struct shared *shared); /* ENOMEM */
void kspread_fini(struct coordinator_core *core, struct shared *shared);
/* PULLED: of all that there is, or of one PULL. */
void kspread_answer(struct coordinator_core *core, struct holding *holding,
                    const uint8_t *have);
void kspread_pulled(struct coordinator_core *core, struct holding *holding,
                    uint32_t piece, int code);
void kspread_give_up(struct coordinator_core *core, struct holding *holding);
void kspread_leave(struct coordinator_core *core, struct holding *holding);
void kspread_touch(struct coordinator_core *core, struct shared *shared);
int kspread_flush(struct coordinator_core *core);
uint64_t kspread_deadline(const struct coordinator_core *core);
void kspread_check(const struct shared *shared);

/* core_job.c */
int kjob_compare(const struct job *a, const struct job *b);
int kready_compare(const struct job *a, const struct job *b);
struct job *kjob_find(const struct pool *pool, uint64_t number);
struct job *kjob_create(struct coordinator_core *core, struct pool *pool,
                        uint64_t number); /* NULL: ENOMEM */
int kjob_open(struct coordinator_core *core, struct client *client,
              const struct message *message);
int kjob_close(struct coordinator_core *core, struct client *client,
               const struct message *message);
int kjob_cancel(struct coordinator_core *core, struct client *client,
                const struct message *message);
/* What its workers are told when nobody wants it any more. */
int kjob_tell_abandon(struct coordinator_core *core, struct job *job);
void kjob_destroy(struct coordinator_core *core, struct job *job);
void kjob_refresh(struct coordinator_core *core, struct job *job); /* pool->ready */
void kjob_measure(struct job *job, uint64_t tasks, uint64_t elapsed_ns);
uint64_t kjob_waiting(const struct job *job); /* with what is known to be at its client */
bool kjob_is_measured(const struct job *job); /* by tasks of its own */
uint64_t kjob_unit_ns(const struct job *job);
uint64_t kjob_work_ns(const struct job *job, uint64_t tasks);
/* Cuts a set so that no span crosses first or end. */
int kjob_cut(struct span_set *set, uint64_t first, uint64_t end);
/* A whole span leaves `waiting` or `assigned` for good. */
void kjob_end_span(struct coordinator_core *core, struct job *job, struct span_set *set,
                   const struct span_item *item);
RB_PROTOTYPE(kjob_tree, job, pool_entry, kjob_compare)
RB_PROTOTYPE(kready_tree, job, ready_entry, kready_compare)

/* core_placement.c */
int kplacement_compare(const struct placement *a, const struct placement *b);
struct placement *kplacement_find(const struct job *job, const struct worker *worker);
struct placement *kplacement_get(struct job *job, struct worker *worker);
void kplacement_add(struct coordinator_core *core, struct placement *placement,
                    uint64_t tasks, uint64_t bytes);
void kplacement_remove(struct coordinator_core *core, struct placement *placement,
                       uint64_t tasks, uint64_t bytes);
void kplacement_recall(struct coordinator_core *core, struct placement *placement,
                       enum recall_state state, uint64_t asked);
void kplacement_load(struct coordinator_core *core, struct placement *placement,
                     const struct msg_job_load *load);
/* So many results have come from there: what runs by the last LOAD is no more than what
 * is still assigned, but for cancelled tasks, which run on. */
void kplacement_results(struct coordinator_core *core, struct placement *placement,
                        uint64_t count);
/* So many tasks go there: they run in the place of those whose results have come, and the
 * worker tells nothing, for as many run as before. */
void kplacement_given(struct coordinator_core *core, struct placement *placement,
                      uint64_t count);
/* Chunks of the job that are taken for ended by now, at slots that are at work, and not
 * told yet: results come many at a time. Never more than are assigned. */
uint64_t kplacement_unheard(const struct coordinator_core *core, const struct job *job);
void kplacement_destroy(struct coordinator_core *core, struct placement *placement);
RB_PROTOTYPE(kplacement_tree, placement, job_entry, kplacement_compare)

/* core_tasks.c */
int ktasks(struct coordinator_core *core, struct client *client, struct message *message);

/* core_lost.c */
int kreturned(struct coordinator_core *core, struct worker *worker,
              const struct message *message);
/* LOST for what of a once-job is HELD_MAYBE, which ends here. */
int klost_end_maybe(struct coordinator_core *core, struct job *job);
/* LOST for what a worker has of a job. */
int klost_tell(struct coordinator_core *core, const struct placement *placement,
               const char *text);

/* core_watch.c */
int kbegin(struct coordinator_core *core, struct worker *worker,
           const struct message *message);
void kwatch_forget_worker(struct worker *worker);
/* Results of these have come from it, or it has given them back. */
void kwatch_over(struct worker *worker, const struct job *job,
                 const struct msg_range *range);
void kwatch_load(struct worker *worker, const struct message *load);
int kwatch_flush(struct coordinator_core *core);
uint64_t kwatch_deadline(const struct coordinator_core *core);
static inline bool kwatch_is_begun(const struct span_item *item)
{
    return item->tag2 == HELD_BEGUN || item->tag2 == HELD_BEGUN_ONE;
}
/* As another worker's that has the task: what was known was of the first one. */
static inline uint64_t kwatch_unknown(uint64_t held)
{
    return held == HELD_WATCHED || held == HELD_BEGUN || held == HELD_BEGUN_ONE ? HELD_NOT
                                                                                : held;
}

/* core_output.c */
int koutput(struct coordinator_core *core, struct worker *worker,
            struct message **message);

/* core_results.c */
int kresults(struct coordinator_core *core, struct worker *worker,
             struct message **message);
int kresults_ack(struct coordinator_core *core, struct client *client,
                 struct message **message);
int kresults_tell_ack(struct coordinator_core *core, const struct message *message);
int kresults_flush_kept(struct coordinator_core *core, struct job *job);
void kkept_destroy(struct coordinator_core *core, struct job *job, struct kept *kept);

/* core_settle.c */
int kheld(struct coordinator_core *core, struct worker *worker,
          const struct message *message);
/* What of a range is neither waiting nor assigned, as tasks of a placement without their
 * inputs: add, which cuts, and then, for what was added, commit or undo. */
int kgaps_add(struct job *job, const struct msg_range *range,
              const struct placement *placement);
void kgaps_undo(struct job *job);
void kgaps_commit(struct coordinator_core *core, struct placement *placement,
                  const struct msg_range *range, enum held held);
/* The first span at or behind `at`, waiting or assigned; NULL: none. */
const struct span_item *kjob_span_behind(const struct job *job, uint64_t at);
int kresults_keep(struct coordinator_core *core, struct worker *worker, struct pool *pool,
                  struct job *job, struct message **message);
bool ksettle_expects(const struct coordinator_core *core, const struct worker *worker);
int ksettle_flush(struct coordinator_core *core);
uint64_t ksettle_deadline(const struct coordinator_core *core);

/* core_match.c */
void kmatch_wake(struct coordinator_core *core, struct pool *pool);
void kmatch_offer(struct coordinator_core *core, struct member *member);
void kmatch_withdraw(struct member *member);
int kmatch_flush(struct coordinator_core *core);

/* core_give.c */
enum give {
    GIVE_GAVE,
    GIVE_NO,     /* the worker cannot run the pool, or has enough of it */
    GIVE_PASSED, /* enough of this job */
    GIVE_WINDOW, /* no room in its window: it is among the starved now */
    GIVE_NOMEM,
};
enum give kgive(struct coordinator_core *core, struct job *job, struct worker *worker);
/* One chunk, however much the worker has; or GIVE_NO, if `within` its window it cannot
 * be. Else one task is given even so. */
enum give kgive_one(struct coordinator_core *core, struct job *job, struct worker *worker,
                    bool within);
void kgive_flush(struct coordinator_core *core); /* TASKS messages take no more spans */
/* A task that is a span of its own in `assigned` to a second worker, which has room for
 * it. 0 or ENOMEM. */
int kgive_twin(struct coordinator_core *core, struct job *job, uint64_t index,
               struct worker *worker);

/* core_recall.c */
int krecall_flush(struct coordinator_core *core);
uint64_t krecall_deadline(const struct coordinator_core *core);

/* core_twin.c */
const struct span_item *ktwin_of(const struct job *job, const struct span_item *item);
void ktwin_added(struct coordinator_core *core, const struct span_item *twin);
/* A twin's holder has it no more; the first one goes on. */
void ktwin_drop(struct coordinator_core *core, struct job *job,
                const struct span_item *twin);
/* The first holder of this span has it no more: if it has a twin that one is the first
 * now; else false. */
bool ktwin_promote(struct coordinator_core *core, struct job *job,
                   const struct span_item *item);
/* The same, since the first holder's worker is lost; and for all that a lost worker has
 * as the second holder. Such a task gets no other holder in this attempt. */
bool ktwin_outlive(struct coordinator_core *core, struct job *job,
                   const struct span_item *item);
void ktwin_lose_all(struct coordinator_core *core, struct placement *placement);
/* CANCEL to whoever has these tasks in that attempt, but for one worker. */
int ktwin_tell_over(struct coordinator_core *core, const struct job *job,
                    const struct msg_range *range, const struct worker *but);
/* Whether a worker other than this one has the task in that attempt. */
bool ktwin_goes_on(const struct job *job, const struct worker *worker, uint64_t index,
                   uint32_t attempt);
/* The worker has the task no more, as another has: only what is known here changes. */
void ktwin_leave(struct coordinator_core *core, struct job *job,
                 const struct worker *worker, uint64_t index);
/* A worker tells that it holds these tasks: as the second one, where another does; up to
 * TWINS_MAX of a job. Cuts and adds, or ENOMEM; then, for what was added, commit or undo.
 */
int ktwin_hold(struct job *job, const struct msg_range *range,
               const struct placement *placement);
void ktwin_hold_commit(struct coordinator_core *core, struct job *job);
void ktwin_hold_undo(struct job *job);
int ktwin_flush_behind(struct coordinator_core *core); /* before matching */
int ktwin_flush(struct coordinator_core *core);
uint64_t ktwin_deadline(const struct coordinator_core *core);
void ktwin_check(const struct job *job);

/* core_state.c */
void kstate_touch_pool(struct coordinator_core *core, struct pool *pool);
void kstate_touch_job(struct coordinator_core *core, struct job *job);
int kstate_tell_pool(struct coordinator_core *core, struct pool *pool,
                     struct client *client);
int kstate_flush(struct coordinator_core *core);
uint64_t kstate_deadline(const struct coordinator_core *core);

/* core_status.c */
int kstatus(struct coordinator_core *core, struct client *client, uint32_t request);
/* Whether the pool is theirs, or all are: to others it is as if it were not there. */
bool kstatus_may_see(const struct holder *holder, const struct pool *pool);

/* core_explain.c */
/* Jobs that workers have tasks of: counted once for a STATUS, and once for each pool. */
struct explain {
    uint64_t busy_jobs;
    const struct pool *pool;
    uint64_t busy_here;
};
void kexplain_begin(const struct coordinator_core *core, struct explain *explain);
/* Fills why and reason; leaves them empty when nothing of the job waits. */
void kexplain_job(const struct coordinator_core *core, struct explain *explain,
                  const struct job *job, struct msg_job_info *info);

/* core_wish.c */
int kwish_make(struct wish **wish, const struct id *id, uint64_t job); /* unless it is */
void kwish_unmake(struct wish **wish); /* if it is fresh */
void kwish_free(struct wish **wish);
/* Its worker or job goes; NULL inside allowed. */
void kwish_leave(struct coordinator_core *core, struct wish **wish);
struct wish *kwish_find(const struct coordinator_core *core, const struct id *id,
                        uint64_t job); /* among those that were left */
struct wish *kwish_take(struct coordinator_core *core,
                        struct wish *wish); /* NULL allowed */
void kwish_flush(struct coordinator_core *core);
void kwish_fini(struct coordinator_core *core);

/* core_admin.c */
/* What was asked for before, on another link. */
int kadmin_tell_drain(struct coordinator_core *core, const struct worker *worker);
int kadmin_tell_stop(struct coordinator_core *core, const struct client *owner,
                     const struct wish *wish);
int kadmin_cancel(struct coordinator_core *core, struct client *client,
                  const struct message *message);
int kadmin_drain(struct coordinator_core *core, struct client *client,
                 const struct message *message);

/* core_logs.c */
int klogs_get(struct coordinator_core *core, struct client *client,
              const struct message *get);
int klogs(struct coordinator_core *core, struct worker *worker, struct message **message);
void klogs_pool_ended(struct coordinator_core *core, const struct pool *pool);
int klogs_tell_gone(struct coordinator_core *core, const struct worker *worker);
void klogs_forget_client(struct coordinator_core *core, struct client *client);
void klogs_forget_worker(struct coordinator_core *core, struct worker *worker);
int klogs_flush(struct coordinator_core *core);
uint64_t klogs_deadline(const struct coordinator_core *core);
void klogs_check(const struct coordinator_core *core);

/* core_lane.c */
/* The next FLUSH introduces the two, for this pool, unless the host takes no lanes or
 * they have been. ENOMEM: nothing has changed. */
int klane_want(struct coordinator_core *core, struct link *dialer, struct worker *host,
               struct pool *pool);
/* The same between two workers, unless they have one; whichever of them dials. */
int klane_want_between(struct coordinator_core *core, struct worker *a, struct worker *b,
                       struct pool *pool);
bool klane_is_up(const struct worker *a, const struct worker *b, const struct pool *pool);
/* Lanes to and from a worker that are up. */
uint32_t klane_count_up(const struct worker *worker);
/* Whether a worker has a lane to or from any other, or is about to. */
bool klane_is_any(const struct worker *worker, const struct pool *pool);
int klane_flush(struct coordinator_core *core);
int klane_expected(struct coordinator_core *core, const struct worker *worker,
                   const struct message *expected);
int klane_told(struct coordinator_core *core, const struct link *link,
               const struct message *told);
/* The link ends, and with it the lanes that its peer has dialled or is the host of. */
int klane_tell_gone(struct coordinator_core *core, const struct link *link);
void klane_forget_link(struct coordinator_core *core, struct link *link);
void klane_forget_pool(struct coordinator_core *core, struct pool *pool);
void klane_check(const struct coordinator_core *core);

/* core_account.c */
void kgrant_touch(struct coordinator_core *core, struct lane *lane);
void kgrant_touch_pool(struct coordinator_core *core, const struct pool *pool);
/* The worker had so many tasks before. */
void kgrant_loaded(struct coordinator_core *core, const struct member *member,
                   uint64_t before);
/* Its client has all slots of the pool on lanes, and nothing there by here: so it evens
 * out what it has sent. */
bool kgrant_is_all(const struct coordinator_core *core, const struct member *member);
void kgrant_forget(struct coordinator_core *core, struct lane *lane);
int kgrant_flush(struct coordinator_core *core);
uint64_t kgrant_deadline(const struct coordinator_core *core);
int kaccount(struct coordinator_core *core, struct client *client,
             const struct message *message);

#endif
