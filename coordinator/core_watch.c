/* SPDX-License-Identifier: Apache-2.0
 *
 * core_watch.c: which tasks may have begun at a worker that goes, so that its end counts
 * as a loss of theirs and of no others. Nothing is told of a task's beginning, and a
 * report would go with its node; but tasks that were at a lost node once are watched from
 * then on: their worker asks (BEGIN) before a process gets them, and waits for GO.
 *
 * A task whose next loss would be its last has to be sure to have been the reason. It
 * gets GO when no other watched task goes on at its worker, and then no other does until
 * it has ended: so whoever ends nodes is alone at last, and what was beside it is not
 * blamed for it. Each waits for WATCH_WAIT_MS at most; from then on the two are together,
 * and a loss is neither's. Tasks of nested jobs wait for nobody: others wait for them.
 *
 * `begun` is by what was asked for. What was cancelled, or whose job is over, is nobody's
 * here any more, but may go on there, and end the node: until its worker's LOAD does not
 * name its job, LEFT_MS later, since such a LOAD may be from before it began. */
#include "coordinator/core_internal.h"

struct begin {
    struct id pool;
    uint64_t job, first, process, give;
    uint32_t count, attempt;
    uint64_t since_ms;
    bool waits; /* it was told so */
    /* Of what had GO: */
    uint32_t over;    /* tasks whose results have come, or that were given back */
    bool runs;        /* its job does there, by the last LOAD */
    uint64_t left_ms; /* since when none of it is expected any more; 0: some is */
    TAILQ_ENTRY(begin) entry;
};

static void drop(struct worker *worker, struct kbegin_list *list, struct begin *begin)
{
    TAILQ_REMOVE(list, begin, entry);
    worker->begins--;
    mem_free(begin);
}

void kwatch_forget_worker(struct worker *worker)
{
    struct begin *begin;
    while ((begin = TAILQ_FIRST(&worker->asked)))
        drop(worker, &worker->asked, begin);
    while ((begin = TAILQ_FIRST(&worker->begun)))
        drop(worker, &worker->begun, begin);
}

/* ------------------------------------------------------------------ looking */

static struct job *job_of(const struct coordinator_core *core, const struct begin *begin)
{
    const struct pool *pool = kpool_find(core, &begin->pool);
    return pool ? kjob_find(pool, begin->job) : NULL;
}

/* The first span from `at` on that the worker has of it, as its first holder; NULL: none.
 * Of what came here by the worker's word alone nothing is to be told. */
static const struct span_item *next_of(const struct job *job, const struct worker *worker,
                                       const struct begin *begin, uint64_t at)
{
    const uint64_t end = begin->first + begin->count;
    const struct span_item *item = span_set_at_or_after(job->assigned, at);
    for (; item && item->span.first < end; item = span_set_next(job->assigned, item))
        if (placement_of(item)->worker == worker &&
            item->span.attempt == begin->attempt && item->tag2 != HELD_INPUTLESS &&
            item->tag2 != HELD_LANE && item->tag2 != HELD_ALONE)
            return item;
    return NULL;
}

static const struct span_item *
first_of(const struct job *job, const struct worker *worker, const struct begin *begin)
{
    return job ? next_of(job, worker, begin, begin->first) : NULL;
}

static bool is_last(const struct span_item *item)
{
    return item && item->span.watch == WATCH_LAST;
}

/* Whether it may go on though nobody expects anything of it. */
static bool lingers(struct coordinator_core *core, struct begin *begin)
{
    if (!begin->left_ms)
        begin->left_ms = core->now_ms;
    const uint64_t until_ms = add_saturated(begin->left_ms, LEFT_MS);
    if (core->now_ms < until_ms)
        core->watch_ms = smaller(core->watch_ms, until_ms);
    return begin->runs || core->now_ms < until_ms;
}

/* What goes on of what had GO; *ret_last: something whose next loss is its last. */
static bool goes_on(struct coordinator_core *core, struct worker *worker, bool *ret_last)
{
    struct begin *begin, *next;
    *ret_last = false;
    TAILQ_FOREACH_SAFE (begin, &worker->begun, entry, next) {
        const struct span_item *item = first_of(job_of(core, begin), worker, begin);
        if (item && kwatch_is_begun(item))
            *ret_last = *ret_last || is_last(item);
        else if (item || !lingers(core, begin))
            drop(worker, &worker->begun, begin);
    }
    return !TAILQ_EMPTY(&worker->begun);
}

static bool is_of(const struct begin *begin, const struct id *pool, uint64_t job)
{
    return begin->job == job && id_equal(&begin->pool, pool);
}

void kwatch_over(struct worker *worker, const struct job *job,
                 const struct msg_range *range)
{
    const uint64_t end = add_saturated(range->first, range->count);
    struct begin *begin, *next;
    TAILQ_FOREACH_SAFE (begin, &worker->begun, entry, next) {
        const uint64_t first = larger(begin->first, range->first);
        const uint64_t past = smaller(begin->first + begin->count, end);
        if (first >= past || begin->attempt != range->attempt ||
            !is_of(begin, &job->pool->id, job->number))
            continue;
        begin->over += (uint32_t)(past - first);
        if (begin->over >= begin->count)
            drop(worker, &worker->begun, begin);
    }
}

static bool is_running(const struct begin *begin, const struct message *load)
{
    for (uint32_t i = 0; i < load->load.jobs_count; i++)
        if (is_of(begin, &load->load.jobs[i].pool, load->load.jobs[i].job))
            return load->load.jobs[i].running > 0;
    return false;
}

void kwatch_load(struct worker *worker, const struct message *load)
{
    struct begin *begin;
    TAILQ_FOREACH (begin, &worker->begun, entry)
        begin->runs = is_running(begin, load);
}

/* ------------------------------------------------------------------- saying */

static void mark(struct job *job, const struct worker *worker, const struct begin *begin,
                 enum held held)
{
    const struct span_item *item;
    uint64_t at = begin->first;
    while ((item = next_of(job, worker, begin, at))) {
        const uint64_t first = item->span.first;
        at = first + item->span.count;
        span_set_move(job->assigned, first, job->assigned, item->span.attempt, item->tag,
                      held);
    }
}

/* Something else begins beside those whose next loss is their last. */
static void mark_not_alone(const struct coordinator_core *core, struct worker *worker)
{
    const struct begin *begin;
    TAILQ_FOREACH (begin, &worker->begun, entry) {
        struct job *job = job_of(core, begin);
        if (is_last(first_of(job, worker, begin)))
            mark(job, worker, begin, HELD_BEGUN);
    }
}

static uint64_t late_ms(const struct begin *begin)
{
    return add_saturated(begin->since_ms, WATCH_WAIT_MS);
}

static int send_go(struct coordinator_core *core, const struct worker *worker,
                   const struct begin *begin, bool wait)
{
    struct message *message = message_create(MSG_GO);
    if (message) {
        message->go.process = begin->process;
        message->go.give = begin->give;
        message->go.wait = wait;
    }
    return ksend(core, worker->link, &message);
}

/* What the worker has no more it hears of, or has, in front of this: GO in any case, so
 * that no process waits for ever. */
static int answer(struct coordinator_core *core, struct worker *worker,
                  struct begin *begin, bool alone)
{
    struct job *job = job_of(core, begin);
    const uint64_t end = begin->first + begin->count;
    if ((job && kjob_cut(job->assigned, begin->first, end)) ||
        send_go(core, worker, begin, false))
        return FARPOOL_ENOMEM;
    const struct span_item *item = first_of(job, worker, begin);
    if (!item) {
        drop(worker, &worker->asked, begin);
        return 0;
    }
    if (!alone)
        mark_not_alone(core, worker);
    const bool counts = begin->count == 1 && (alone || !is_last(item));
    mark(job, worker, begin, counts ? HELD_BEGUN_ONE : HELD_BEGUN);
    TAILQ_REMOVE(&worker->asked, begin, entry);
    TAILQ_INSERT_TAIL(&worker->begun, begin, entry);
    return 0;
}

/* A process asks for one thing at a time, and each task is asked for by one: what was
 * asked for before was cancelled, or its process has ended; what lingered is over. */
static void drop_earlier(struct worker *worker, const struct begin *later)
{
    struct begin *begin, *next;
    TAILQ_FOREACH_SAFE (begin, &worker->asked, entry, next)
        if (begin->process == later->process ||
            (begin->first == later->first && is_of(begin, &later->pool, later->job)))
            drop(worker, &worker->asked, begin);
    TAILQ_FOREACH_SAFE (begin, &worker->begun, entry, next)
        if (begin->left_ms && begin->process == later->process)
            drop(worker, &worker->begun, begin);
}

static struct begin begin_of(const struct coordinator_core *core,
                             const struct message *message)
{
    return (struct begin){.pool = message->begin.pool,
                          .job = message->begin.job,
                          .first = message->begin.first,
                          .process = message->begin.process,
                          .give = message->begin.give,
                          .count = message->begin.count,
                          .attempt = message->begin.attempt,
                          .since_ms = core->now_ms};
}

/* One too many to know who is beside whom. */
static int answer_unremembered(struct coordinator_core *core, struct worker *worker,
                               const struct begin *begin)
{
    struct job *job = job_of(core, begin);
    const uint64_t end = begin->first + begin->count;
    if ((job && kjob_cut(job->assigned, begin->first, end)) ||
        send_go(core, worker, begin, false))
        return FARPOOL_ENOMEM;
    mark_not_alone(core, worker);
    if (job)
        mark(job, worker, begin, HELD_BEGUN);
    return 0;
}

int kbegin(struct coordinator_core *core, struct worker *worker,
           const struct message *message)
{
    if (!message->begin.count || message->begin.first > UINT64_MAX - message->begin.count)
        return klink_drop(core, worker->link, FARPOOL_EPROTOCOL,
                          "BEGIN with a range that cannot be");
    const struct begin asks = begin_of(core, message);
    drop_earlier(worker, &asks);
    if (worker->begins >= BEGINS_MAX)
        return answer_unremembered(core, worker, &asks);
    struct begin *begin = mem_alloc(sizeof *begin);
    if (!begin)
        return FARPOOL_ENOMEM;
    *begin = asks;
    TAILQ_INSERT_TAIL(&worker->asked, begin, entry);
    worker->begins++;
    core->watching = true;
    return 0;
}

/* What goes on may need its slot meanwhile. */
static int have_wait(struct coordinator_core *core, const struct worker *worker,
                     struct begin *begin)
{
    if (!begin->waits && send_go(core, worker, begin, true))
        return FARPOOL_ENOMEM;
    begin->waits = true;
    core->watch_ms = smaller(core->watch_ms, late_ms(begin));
    return 0;
}

/* Who comes behind one that waits waits too, or that would never be alone. Also where
 * nobody asks it is found what has ended, so that little is remembered. */
static int answer_worker(struct coordinator_core *core, struct worker *worker)
{
    struct begin *begin, *next;
    bool any_last, any = goes_on(core, worker, &any_last), waits = false;
    int error = 0;
    TAILQ_FOREACH_SAFE (begin, &worker->asked, entry, next) {
        const struct job *job = job_of(core, begin);
        const struct span_item *item = first_of(job, worker, begin);
        const bool alone = is_last(item) ? !any : !any_last;
        waits = waits || !alone;
        if (item && waits && !kjob_is_nested(job) && core->now_ms < late_ms(begin))
            error = have_wait(core, worker, begin);
        else
            error = answer(core, worker, begin, alone);
        if (error)
            return error;
        any = goes_on(core, worker, &any_last);
    }
    return 0;
}

int kwatch_flush(struct coordinator_core *core)
{
    struct worker *worker;
    int error = 0;
    if (!core->watching)
        return 0;
    core->watching = false;
    core->watch_ms = UINT64_MAX;
    TAILQ_FOREACH (worker, &core->joined, entry) {
        if (!error && worker->begins)
            error = answer_worker(core, worker);
        core->watching = core->watching || worker->begins;
    }
    return error;
}

uint64_t kwatch_deadline(const struct coordinator_core *core)
{
    return core->watch_ms;
}
