/* SPDX-License-Identifier: Apache-2.0
 *
 * core_pool.c: pools and their jobs. A pool is opened by the coordinator, fails here for
 * a reason, or ends: in order (CLOSING: what runs may finish), by force (ENDING) or
 * because nobody knows it any more (FORGOTTEN). A forgotten pool is out of the id's map
 * at once, so that the same id may be opened again, and is freed with its last process.
 *
 * A job that is closed leaves its pool's map at once, and is freed with its last piece.
 */
#include "worker/core_internal.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

static int worker_pool_compare(const struct pool *a, const struct pool *b)
{
    return memcmp(a->id.bytes, b->id.bytes, sizeof a->id.bytes);
}

static int worker_job_compare(const struct job *a, const struct job *b)
{
    return (a->number > b->number) - (a->number < b->number);
}

/* Highest priority first, then the oldest. */
static int worker_turn_compare(const struct job *a, const struct job *b)
{
    if (a->priority != b->priority)
        return a->priority > b->priority ? -1 : 1;
    return (a->serial > b->serial) - (a->serial < b->serial);
}

RB_GENERATE(worker_pools, pool, by_id, worker_pool_compare)
RB_GENERATE(worker_jobs, job, by_number, worker_job_compare)
RB_GENERATE(worker_turns, job, by_turn, worker_turn_compare)

struct pool *worker_pool_find(struct worker_core *core, const struct id *id)
{
    struct pool key;
    key.id = *id;
    return RB_FIND(worker_pools, &core->pools_by_id, &key);
}

struct job *worker_job_find(struct pool *pool, uint64_t number)
{
    struct job key;
    key.number = number;
    return RB_FIND(worker_jobs, &pool->jobs, &key);
}

static void move_pool(struct worker_core *core, struct pool *pool, enum pool_state state)
{
    static const bool allowed[POOL_STATES][POOL_STATES] = {
        [POOL_OPEN] = {[POOL_CLOSING] = true,
                       [POOL_FAILED] = true,
                       [POOL_ENDING] = true,
                       [POOL_FORGOTTEN] = true},
        [POOL_CLOSING] = {[POOL_ENDING] = true, [POOL_FORGOTTEN] = true},
        [POOL_FAILED] = {[POOL_ENDING] = true, [POOL_FORGOTTEN] = true},
        [POOL_ENDING] = {[POOL_FORGOTTEN] = true},
    };
    assert(allowed[pool->state][state]);
    if (pool->state == POOL_OPEN)
        worker_lanes_pool_over(core, pool);
    pool->state = state;
}

/* Whether tasks of it may be begun here. */
bool worker_pool_usable(const struct worker_core *core, const struct pool *pool)
{
    return core->state == CORE_WORKING &&
           (pool->state == POOL_OPEN || pool->state == POOL_CLOSING) &&
           pool->program != NULL && pool->program->state == PROGRAM_READY;
}

bool worker_pool_feedable(const struct worker_core *core, const struct pool *pool)
{
    return pool->shared_waiting == 0 && worker_pool_usable(core, pool);
}

/* ----------------------------------------------------------------------- opening */

static struct pool *create_pool(const struct worker_core *core,
                                const struct message *message)
{
    struct pool *pool = mem_alloc(sizeof *pool);
    if (pool == NULL)
        return NULL;
    pool->id = message->pool_open.pool;
    pool->share = message->pool_open.processes;
    pool->tasks_per_process = message->pool_open.tasks_per_process;
    memcpy(pool->initializer, message->pool_open.initializer, sizeof pool->initializer);
    pool->eager = true;
    worker_output_init(core, pool, message->pool_open.output);
    TAILQ_INIT(&pool->closed);
    TAILQ_INIT(&pool->shared);
    for (int state = 0; state < PROCESS_STATES; state++)
        TAILQ_INIT(&pool->processes[state]);
    return pool;
}

static void enter_pool(struct worker_core *core, struct pool *pool)
{
    RB_INSERT(worker_pools, &core->pools_by_id, pool);
    TAILQ_INSERT_TAIL(&core->pools, pool, link);
    core->pools_count++;
    pool->next_seq = core->next_seq;
}

/* "" or the reason why no process of it can be started here. */
static int refuse_pool(struct worker_core *core, const struct message *message,
                       char *text, size_t size)
{
    const char *machine = message->pool_open.machine;
    text[0] = '\0';
    if (machine[0] != '\0' && strcmp(machine, core->config.machine) != 0) {
        snprintf(text, size, "%s was built for %s, and node %s is %s",
                 message->pool_open.name, machine, core->config.node,
                 core->config.machine);
        return FARPOOL_EMACHINE;
    }
    if (core->pools_count >= POOLS_MAX) {
        snprintf(text, size, "node %s already has %d pools", core->config.node,
                 POOLS_MAX);
        return FARPOOL_EFULL;
    }
    for (uint32_t i = 0; i < message->pool_open.files_count; i++) {
        const char *name = message->pool_open.files[i].name;
        if (name[0] == '\0' || name[0] == '.' || strchr(name, '/') != NULL) {
            snprintf(text, size, "bad name of a program's file: \"%.64s\"", name);
            return FARPOOL_EPROGRAM;
        }
    }
    return 0;
}

static int open_new(struct worker_core *core, struct message *message)
{
    char text[512];
    const int code = refuse_pool(core, message, text, sizeof text);
    struct pool *pool = create_pool(core, message);
    if (pool == NULL)
        return FARPOOL_ENOMEM;
    if (code == 0 && worker_program_attach(core, pool, message) != 0) {
        mem_free(pool);
        return FARPOOL_ENOMEM;
    }
    pool->argument = message->pool_open.argument;
    message->pool_open.argument = NULL;
    enter_pool(core, pool);
    if (code != 0)
        worker_pool_fail(core, pool, code, false, text);
    return 0;
}

/* Reopened while its processes are being killed: the old one is over, and told so. */
static int reopen(struct worker_core *core, struct pool *old, struct message *message)
{
    if (worker_reserve(core, 2) != 0) /* PROGRAM_OPEN, and this: */
        return FARPOOL_ENOMEM;
    struct message *closed = message_create(MSG_POOL_CLOSED);
    if (closed == NULL)
        return FARPOOL_ENOMEM;
    closed->pool_closed.pool = old->id;
    RB_REMOVE(worker_pools, &core->pools_by_id, old);
    if (open_new(core, message) != 0) {
        RB_INSERT(worker_pools, &core->pools_by_id, old);
        message_free(&closed);
        return FARPOOL_ENOMEM;
    }
    move_pool(core, old, POOL_FORGOTTEN);
    worker_send(core, closed);
    return 0;
}

int worker_pool_open(struct worker_core *core, struct message *message)
{
    if (id_is_zero(&message->pool_open.pool))
        return worker_relink(core, "POOL_OPEN of a pool without an id");
    struct pool *pool = worker_pool_find(core, &message->pool_open.pool);
    if (pool == NULL)
        return open_new(core, message);
    if (pool->state == POOL_ENDING)
        return reopen(core, pool, message);
    pool->eager = pool->eager || pool->share != message->pool_open.processes;
    pool->share = message->pool_open.processes;
    pool->tell_failed = pool->state == POOL_FAILED;
    if (pool->program != NULL)
        pool->program->asked = false; /* the coordinator knows the client by now */
    return 0;
}

int worker_job_open(struct worker_core *core, const struct message *message)
{
    struct pool *pool = worker_pool_find(core, &message->job_open.pool);
    if (pool == NULL)
        return worker_relink(core, "JOB_OPEN came before its POOL_OPEN");
    if (worker_job_find(pool, message->job_open.job) != NULL)
        return 0;
    if (core->jobs_count >= JOBS_MAX)
        return worker_relink(core, "more than %d open jobs", JOBS_MAX);
    struct job *job = mem_alloc(sizeof *job);
    if (job == NULL)
        return FARPOOL_ENOMEM;
    job->state = JOB_OPEN;
    job->pool = pool;
    job->number = message->job_open.job;
    job->serial = core->next_serial++;
    memcpy(job->function, message->job_open.function, sizeof job->function);
    job->chunk = message->job_open.chunk;
    job->timeout_ms = message->job_open.timeout_ms;
    job->cpu_ms = message->job_open.cpu_ms;
    job->memory_bytes = message->job_open.memory_bytes;
    job->priority = message->job_open.priority;
    job->once = message->job_open.once;
    job->calls = message->job_open.calls;
    job->whole = message->job_open.whole;
    job->limit = 1;
    /* A pool maps the same functions again and again: begin with what the last job of
     * this one has shown. */
    for (int i = 0; i < RECENT_FUNCTIONS; i++) {
        const struct recent_function *recent = &pool->recent[i];
        if (recent->task_ns > 0 && strcmp(recent->function, job->function) == 0) {
            job->sum_ns = recent->task_ns;
            job->sum_tasks = 1;
            job->limit = recent->limit;
        }
    }
    RB_INSERT(worker_jobs, &pool->jobs, job);
    pool->jobs_count++;
    core->jobs_count++;
    return 0;
}

/* ----------------------------------------------------------------------- closing */

static void free_job(struct worker_core *core, struct job *job)
{
    assert(job->pieces == 0);
    worker_recall_move(job, RECALL_NONE);
    if (job->state == JOB_OPEN)
        RB_REMOVE(worker_jobs, &job->pool->jobs, job);
    else
        TAILQ_REMOVE(&job->pool->closed, job, link);
    job->pool->jobs_count--;
    core->jobs_count--;
    mem_free(job);
}

/* Called after each piece that goes. */
void worker_job_release(struct worker_core *core, struct job *job)
{
    if (job->state == JOB_CLOSED && job->pieces == 0)
        free_job(core, job);
}

static void remember_function(struct pool *pool, const struct job *job)
{
    const uint64_t task_ns = worker_task_ns(job);
    if (task_ns == 0)
        return;
    struct recent_function *recent = NULL;
    for (int i = 0; i < RECENT_FUNCTIONS && recent == NULL; i++)
        if (strcmp(pool->recent[i].function, job->function) == 0)
            recent = &pool->recent[i];
    if (recent == NULL)
        recent = &pool->recent[pool->recent_next++ % RECENT_FUNCTIONS];
    memcpy(recent->function, job->function, sizeof recent->function);
    recent->task_ns = task_ns;
    recent->limit = job->limit;
}

static void close_job(struct worker_core *core, struct job *job)
{
    struct pool *pool = job->pool;
    remember_function(pool, job);
    RB_REMOVE(worker_jobs, &pool->jobs, job);
    TAILQ_INSERT_TAIL(&pool->closed, job, link);
    job->state = JOB_CLOSED;
    worker_recall_move(job, RECALL_NONE);
    worker_job_release(core, job);
}

int worker_job_close(struct worker_core *core, const struct message *message)
{
    struct pool *pool = worker_pool_find(core, &message->job_close.pool);
    struct job *job = pool ? worker_job_find(pool, message->job_close.job) : NULL;
    if (job == NULL)
        return 0;
    if (worker_recall_end(core, job) != 0)
        return FARPOOL_ENOMEM;
    worker_cancel_job(core, job);
    worker_results_drop_job(core, pool, job->number);
    close_job(core, job);
    return 0;
}

/* Drops everything of a pool but its processes. */
static void empty_pool(struct worker_core *core, struct pool *pool)
{
    for (int state = 0; state < PROCESS_STATES; state++) {
        struct process *process;
        TAILQ_FOREACH (process, &pool->processes[state], link) {
            struct piece *piece;
            while ((piece = TAILQ_FIRST(&process->pieces)) != NULL)
                worker_piece_drop(core, piece);
        }
    }
    struct job *job;
    while ((job = RB_MIN(worker_jobs, &pool->jobs)) != NULL) {
        struct piece *piece;
        while ((piece = RB_MIN(worker_pieces, &job->queued)) != NULL)
            worker_piece_drop(core, piece);
        free_job(core, job);
    }
    assert(TAILQ_EMPTY(&pool->closed) && pool->jobs_count == 0);
    worker_results_drop(core, pool);
}

void worker_pool_free(struct worker_core *core, struct pool *pool)
{
    empty_pool(core, pool);
    worker_program_detach(core, pool);
    worker_shared_release_all(core, pool);
    if (pool->state != POOL_FORGOTTEN)
        RB_REMOVE(worker_pools, &core->pools_by_id, pool);
    TAILQ_REMOVE(&core->pools, pool, link);
    core->pools_count--;
    worker_output_fini(core, pool);
    payload_unref(&pool->argument);
    mem_free(pool);
}

void worker_pool_drop(struct worker_core *core, struct pool *pool, enum pool_state state)
{
    if (pool->state == POOL_FORGOTTEN)
        return;
    empty_pool(core, pool);
    for (int from = 0; from < PROCESS_KILLED; from++) {
        struct process *process;
        while ((process = TAILQ_FIRST(&pool->processes[from])) != NULL)
            worker_process_kill(core, process, KILL_END);
    }
    move_pool(core, pool, state);
    pool->announce = false;
    pool->tell_failed = false;
    if (state == POOL_FORGOTTEN)
        RB_REMOVE(worker_pools, &core->pools_by_id, pool);
}

/* A client closes its pool when it has heard of the end of every task. So nobody waits
 * for anything that is still here (told again by a coordinator that was restarted, or
 * cancelled): what runs may end by itself, all else is dropped. */
static void begin_closing(struct worker_core *core, struct pool *pool)
{
    struct job *job;
    while ((job = RB_MIN(worker_jobs, &pool->jobs)) != NULL) {
        worker_cancel_job(core, job);
        close_job(core, job);
    }
    worker_results_drop(core, pool);
    move_pool(core, pool, POOL_CLOSING);
    pool->announce = false;
    pool->eager = false;
}

int worker_pool_close(struct worker_core *core, const struct message *message)
{
    struct pool *pool = worker_pool_find(core, &message->pool_close.pool);
    if (pool == NULL) { /* it has ended here before */
        struct message *closed = worker_message(core, MSG_POOL_CLOSED);
        if (closed == NULL)
            return FARPOOL_ENOMEM;
        closed->pool_closed.pool = message->pool_close.pool;
        worker_send(core, closed);
        return 0;
    }
    if (pool->state == POOL_ENDING)
        return 0;
    if (!message->pool_close.kill && pool->state != POOL_FAILED) {
        if (pool->state == POOL_OPEN)
            begin_closing(core, pool);
        return 0;
    }
    if (worker_reserve(core, pool->total) != 0)
        return FARPOOL_ENOMEM;
    worker_pool_drop(core, pool, POOL_ENDING);
    return 0;
}

/* ----------------------------------------------------------------------- failing */

void worker_pool_fail(struct worker_core *core, struct pool *pool, int code, bool fatal,
                      const char *text)
{
    /* One that closes needs nothing any more that could fail, and ends by itself: the
     * coordinator waits for that, and would not end a failed one a second time. */
    if (pool->state != POOL_OPEN)
        return;
    move_pool(core, pool, POOL_FAILED);
    pool->failed_code = code;
    pool->failed_fatal = fatal;
    pool->tell_failed = true;
    snprintf(pool->failed_text, sizeof pool->failed_text, "%s", text);
}

static int tell_failed(struct worker_core *core, struct pool *pool)
{
    struct message *message = worker_message(core, MSG_POOL_FAILED);
    char *text = message ? mem_strdup(pool->failed_text) : NULL;
    if (text == NULL) {
        message_free(&message);
        return FARPOOL_ENOMEM;
    }
    message->pool_failed.pool = pool->id;
    memcpy(message->pool_failed.node, core->config.node,
           sizeof message->pool_failed.node);
    message->pool_failed.code = pool->failed_code;
    message->pool_failed.fatal = pool->failed_fatal;
    message->pool_failed.text = text;
    worker_send(core, message);
    pool->tell_failed = false;
    return 0;
}

int worker_flush_pools(struct worker_core *core)
{
    struct pool *pool;
    if (core->link == LINK_UP)
        TAILQ_FOREACH (pool, &core->pools, link)
            if (pool->tell_failed && tell_failed(core, pool) != 0)
                return FARPOOL_ENOMEM;
    return 0;
}

/* ------------------------------------------------------------------------ ending */

static int end_pool(struct worker_core *core, struct pool *pool)
{
    /* POOL_CLOSED, PROGRAM_CLOSE, and: */
    if (worker_reserve(core, 2 + SHARED_RELEASE_EFFECTS * pool->shared_count) != 0)
        return FARPOOL_ENOMEM;
    if (pool->state != POOL_FORGOTTEN && core->link == LINK_UP) {
        struct message *message = message_create(MSG_POOL_CLOSED);
        if (message == NULL)
            return FARPOOL_ENOMEM;
        message->pool_closed.pool = pool->id;
        worker_send(core, message);
    }
    worker_pool_free(core, pool);
    return 0;
}

int worker_flush_pool_ends(struct worker_core *core)
{
    struct pool *pool, *next;
    TAILQ_FOREACH_SAFE (pool, &core->pools, link, next) {
        const bool ends = pool->state == POOL_CLOSING || pool->state >= POOL_ENDING;
        if (ends && pool->total == 0 && end_pool(core, pool) != 0)
            return FARPOOL_ENOMEM;
    }
    return 0;
}
