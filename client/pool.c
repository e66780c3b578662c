/* SPDX-License-Identifier: Apache-2.0
 *
 * pool.c: the life of a pool: open, close, terminate, join, free, and how it stands; and
 * the table of jobs between the client core and their owners.
 *
 * A pool is counted: by the user's handle and by each job and iterator, which stay
 * readable when it was freed. Freeing ends the core and the transport; the mutex and what
 * jobs need lives on until the last of them. A child made by fork has a copy of all this
 * that it must not touch: it is recognised by its pid. */
#include "client/pool.h"
#include "client/library.h"
#include "client/process.h"
#include "common/base/error.h"
#include "common/sys/sys.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define END_MS_MAX 10000 /* for killed processes to be gone, when a pool is freed */

/* ------------------------------------------------------------------- entering */

int pool_enter(farpool_pool *pool, const char *call, farpool_error *error)
{
    if (pool == NULL)
        return error_set(error, FARPOOL_EINVAL, "%s: pool is NULL", call);
    if (pool->process != getpid())
        return error_set(error, FARPOOL_EFORK,
                         "%s: this pool was opened by process %d, before a fork; open "
                         "another one here",
                         call, (int)pool->process);
    pthread_mutex_lock(&pool->mutex);
    if (pool->thread_runs || pool->transport == NULL ||
        pthread_equal(pool->thread, pthread_self()))
        return 0;
    pthread_mutex_unlock(&pool->mutex);
    return error_set(error, FARPOOL_EINVAL,
                     "%s: a pool opened inside a task belongs to the task's thread", call);
}

void pool_leave(farpool_pool *pool)
{
    pthread_mutex_unlock(&pool->mutex);
}

static int tell_failure(const farpool_pool *pool, const char *call, farpool_error *error)
{
    error_set(error, pool->failure, "%s: the pool has failed: %s", call,
              pool->failure_text[0] != '\0' ? pool->failure_text
                                            : farpool_error_text(pool->failure));
    if (error != NULL)
        memcpy(error->node, pool->failure_node, sizeof pool->failure_node);
    return pool->failure;
}

int pool_check_running(farpool_pool *pool, const char *call, farpool_error *error)
{
    if (pool->state == POOL_CLOSED || pool->state == POOL_TERMINATED)
        return error_set(error, FARPOOL_ECLOSED, "%s: the pool was %s before", call,
                         pool->state == POOL_CLOSED ? "closed" : "terminated");
    return pool->failure != 0 ? tell_failure(pool, call, error) : 0;
}

/* ------------------------------------------------------------- core's effects */

static void send_message(farpool_pool *pool, struct message **message)
{
    if (pool->transport->kind->send(pool->transport, message) == 0)
        return;
    message_free(message);
    pool->failure = FARPOOL_ENOMEM;
}

static void read_file(farpool_pool *pool, const struct client_effect *effect)
{
    struct message *blob = program_read(&pool->program, &effect->content, effect->offset,
                                        effect->count);

    /* Without memory the node asks again. */
    if (blob == NULL)
        return;
    blob->blob.pool = pool->open->pool_open.pool;
    blob->blob.worker = effect->worker;
    send_message(pool, &blob);
}

static void take_failure(farpool_pool *pool, const struct client_effect *effect)
{
    pool->failure = effect->code;
    memcpy(pool->failure_text, effect->text, sizeof pool->failure_text);
    memcpy(pool->failure_node, effect->node, sizeof pool->failure_node);
    pool->news = true;
}

static void take_warning(farpool_pool *pool, const struct client_effect *effect)
{
    pool->warning = effect->code;
    memcpy(pool->warning_text, effect->text, sizeof pool->warning_text);
    memcpy(pool->warning_node, effect->node, sizeof pool->warning_node);
}

static void take_job_effect(farpool_pool *pool, struct client_effect *effect)
{
    struct pool_job *job;

    HASH_FIND(hh, pool->jobs, &effect->job, sizeof effect->job, job);
    if (job == NULL)
        return;
    switch (effect->kind) {
    case CLIENT_DONE:
        pool->tasks_done += effect->count;
        job->kind->done(job, effect);
        break;
    case CLIENT_FAILED:
        pool->tasks_done += effect->count > 0 ? effect->count : 1;
        pool->tasks_failed += effect->count > 0 ? effect->count : 1;
        job->kind->failed(job, effect);
        break;
    case CLIENT_INPUT_WANTED:
        job->kind->wanted(job, effect->count, effect->bytes);
        break;
    default:
        HASH_DEL(pool->jobs, job);
        job->number = 0;
        job->kind->ended(job);
        break;
    }
}

static void carry_out(farpool_pool *pool, struct client_effect *effect)
{
    switch (effect->kind) {
    case CLIENT_SEND:
        send_message(pool, &effect->message);
        break;
    case CLIENT_RELINK:
        pool->transport->kind->relink(pool->transport, effect->text);
        break;
    case CLIENT_READY:
        if (pool->state == POOL_OPENING)
            pool->state = POOL_RUNNING;
        pool->news = true;
        break;
    case CLIENT_POOL_FAILED:
        take_failure(pool, effect);
        break;
    case CLIENT_WARNING:
        take_warning(pool, effect);
        break;
    case CLIENT_READ_FILE:
        read_file(pool, effect);
        break;
    case CLIENT_POOL_ENDED:
        pool->ended = true;
        pool->news = true;
        break;
    default:
        take_job_effect(pool, effect);
    }
}

int pool_step(farpool_pool *pool, struct client_event *event)
{
    int code;

    event->now_ms = sys_now_ms();
    code = client_core_step(pool->core, event, &pool->effects);
    for (size_t i = 0; i < pool->effects.count; i++)
        carry_out(pool, &pool->effects.items[i]);
    client_effects_clear(&pool->effects);
    return code;
}

/* ----------------------------------------------------------------------- jobs */

int pool_open_job(farpool_pool *pool, struct pool_job *job,
                  const struct client_job_options *options, farpool_error *error)
{
    struct client_event event = {.kind = CLIENT_JOB_OPEN, .options = options};
    int code = pool_step(pool, &event);

    if (code == 0) {
        job->number = event.job;
        HASH_ADD(hh, pool->jobs, number, sizeof job->number, job);
        if (job->hh.tbl != NULL)
            return 0;
        code = FARPOOL_ENOMEM;
        event = (struct client_event){.kind = CLIENT_JOB_FREE, .job = job->number};
        job->number = 0;
        pool_step(pool, &event);
    }
    if (code == FARPOOL_ECLOSED && pool->failure != 0)
        return tell_failure(pool, job->of.call, error);
    return error_set(error, code, "%s: %s", job->of.call, farpool_error_text(code));
}

void pool_close_job(struct pool_job *job, bool kill)
{
    farpool_pool *pool = job->pool;
    struct client_event event = {.kind = CLIENT_JOB_FREE, .job = job->number, .kill = kill};

    if (job->number == 0)
        return;
    HASH_DEL(pool->jobs, job);
    job->number = 0;
    pool_step(pool, &event);
}

void pool_queue_callback(struct pool_job *job)
{
    TAILQ_INSERT_TAIL(&job->pool->callbacks, job, entry);
}

/* -------------------------------------------------------------------- opening */

static struct message *make_open(const farpool_pool *pool)
{
    const struct pool_settings *settings = &pool->settings;
    const struct program *program = &pool->program;
    struct message *open = message_create(MSG_POOL_OPEN);

    if (open == NULL)
        return NULL;
    sys_random_id(&open->pool_open.pool);
    open->pool_open.program = program->hash;
    snprintf(open->pool_open.name, sizeof open->pool_open.name, "%.*s", NODE_NAME_MAX,
             program->files[0].about.name);
    memcpy(open->pool_open.machine, program->machine, sizeof open->pool_open.machine);
    open->pool_open.processes = settings->processes;
    open->pool_open.tasks_per_process = settings->tasks_per_process;
    strcpy(open->pool_open.initializer, settings->initializer);
    open->pool_open.files = program_list(program);
    open->pool_open.files_count = program->count;
    if (settings->argument.size > 0)
        open->pool_open.argument =
            payload_copy(settings->argument.data, settings->argument.size);
    if (open->pool_open.files == NULL ||
        (settings->argument.size > 0 && open->pool_open.argument == NULL)) {
        if (open->pool_open.files == NULL)
            open->pool_open.files_count = 0;
        message_free(&open);
    }
    return open;
}

static int create_core(farpool_pool *pool, farpool_error *error)
{
    struct client_config config = {
        .job_tag = (uint32_t)sys_random(),
        .pid = (uint32_t)getpid(),
        .attach = !pool->transport->kind->threaded,
        .open = pool->open,
    };
    int code;

    sys_random_id(&config.client);
    config.pool = config.attach ? *process_pool() : pool->open->pool_open.pool;
    sys_host(config.host, sizeof config.host);
    code = client_core_create(&config, sys_now_ms(), &pool->core);
    return code == 0 ? 0 : error_set(error, code, "open: %s", farpool_error_text(code));
}

static farpool_pool *create(const struct pool_settings *settings)
{
    farpool_pool *pool = mem_alloc(sizeof *pool);
    pthread_condattr_t attributes;

    if (pool == NULL)
        return NULL;
    pool->refs = 1;
    pool->process = getpid();
    pool->settings = *settings;
    TAILQ_INIT(&pool->callbacks);
    LIST_INIT(&pool->watches);
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&pool->changed, &attributes);
    pthread_cond_init(&pool->wanted, &attributes);
    pthread_condattr_destroy(&attributes);
    return pool;
}

/* Ends the core and the transport; the result thread is gone, and the mutex not held. */
static void finish(farpool_pool *pool)
{
    pthread_mutex_lock(&pool->mutex);
    if (pool->transport != NULL)
        pool->transport->kind->close(pool->transport);
    pool->transport = NULL;
    client_core_destroy(pool->core);
    pool->core = NULL;
    client_effects_fini(&pool->effects);
    message_free(&pool->open);
    program_fini(&pool->program);
    pthread_mutex_unlock(&pool->mutex);
}

static void destroy(farpool_pool *pool)
{
    pthread_cond_destroy(&pool->changed);
    pthread_cond_destroy(&pool->wanted);
    pthread_mutex_destroy(&pool->mutex);
    mem_free(pool);
}

void pool_unref(farpool_pool *pool)
{
    bool last;

    pthread_mutex_lock(&pool->mutex);
    last = --pool->refs == 0;
    pthread_mutex_unlock(&pool->mutex);
    if (last)
        destroy(pool);
}

static bool has_opened(void *arg)
{
    const farpool_pool *pool = arg;

    return pool->state != POOL_OPENING || pool->failure != 0;
}

static int open_transport(farpool_pool *pool, const char *address, bool nested,
                          farpool_error *error)
{
    bool embedded = address == NULL;
    int code;

    if (nested)
        return nested_open(&pool->transport, error);
    code = program_open(&pool->settings, !embedded, &pool->program, error);
    if (code != 0)
        return code;
    if ((pool->open = make_open(pool)) == NULL)
        return error_set(error, FARPOOL_ENOMEM, "open: out of memory");
    return embedded ? embedded_open(&pool->settings, &pool->program, &pool->transport,
                                    error)
                    : remote_open(address, &pool->transport, error);
}

/* The first word to the coordinator and its answer. */
static int say_hello(farpool_pool *pool, const char *address, farpool_error *error)
{
    uint64_t until_ms = sys_now_ms() + pool->settings.connect_timeout_ms;
    int code = 0;

    pthread_mutex_lock(&pool->mutex);
    if ((code = create_core(pool, error)) == 0 && (code = driver_start(pool, error)) == 0 &&
        driver_wait(pool, has_opened, pool, until_ms) != 0)
        code = error_set(error, FARPOOL_ENOCOORDINATOR,
                         "open: no coordinator answered at %s within %" PRIu64 " ms",
                         address != NULL ? address : "the task's node",
                         pool->settings.connect_timeout_ms);
    else if (code == 0 && pool->failure != 0)
        code = error_set(error, pool->failure, "open: %s",
                         pool->failure_text[0] != '\0'
                             ? pool->failure_text
                             : farpool_error_text(pool->failure));
    pthread_mutex_unlock(&pool->mutex);
    return code;
}

/* Where to go: the address given, else the environment's; NULL: embedded. */
static const char *choose_address(const char *address)
{
    if (address == NULL)
        address = getenv("FARPOOL_COORDINATOR");
    return address != NULL && address[0] != '\0' ? address : NULL;
}

static int check_place(const char *address, bool nested, farpool_error *error)
{
    if (!library_is_initialised())
        return error_set(error, FARPOOL_ENOINIT,
                         "open: call farpool_init first, as the first line of main");
    if (address != NULL && address[0] == '\0')
        return error_set(error, FARPOOL_EADDRESS, "open: the address is empty");
    if (nested && farpool_task_current() == NULL)
        return error_set(error, FARPOOL_EINVAL,
                         "open: inside a pool process a pool is opened by the thread "
                         "that runs the task");
    return 0;
}

farpool_pool *farpool_open(const char *address, const farpool_pool_options *options,
                           farpool_error *error)
{
    bool nested = address == NULL && process_is_pool_process();
    struct pool_settings settings;
    farpool_pool *pool;

    if (check_place(address, nested, error) != 0 ||
        options_read_pool(options, &settings, error) != 0)
        return NULL;
    address = nested ? NULL : choose_address(address);
    if ((pool = create(&settings)) == NULL) {
        error_set(error, FARPOOL_ENOMEM, "open: out of memory");
        return NULL;
    }
    if (open_transport(pool, address, nested, error) == 0 &&
        say_hello(pool, address, error) == 0) {
        pool->settings.argument = (farpool_bytes){NULL, 0};
        pool->settings.program = NULL;
        pool->settings.files = NULL;
        return pool;
    }
    driver_stop(pool);
    finish(pool);
    pool_unref(pool);
    return NULL;
}

/* --------------------------------------------------------------------- ending */

static void end_with(farpool_pool *pool, enum client_event_kind kind,
                     enum pool_state state)
{
    struct client_event event = {.kind = kind};

    pool->state = state;
    if (pool->transport == NULL || pool->ended)
        return;
    /* Without memory the core is as it was, and asked again. */
    while (pool_step(pool, &event) == FARPOOL_ENOMEM)
        usleep(1000);
    driver_kick(pool);
}

int farpool_close(farpool_pool *pool, farpool_error *error)
{
    int code = pool_enter(pool, "close", error);

    if (code != 0)
        return code;
    if (pool->state != POOL_RUNNING)
        code = error_set(error, FARPOOL_ECLOSED, "close: the pool was %s before",
                         pool->state == POOL_CLOSED ? "closed" : "terminated");
    else
        end_with(pool, CLIENT_CLOSE, POOL_CLOSED);
    pool_leave(pool);
    return code;
}

int farpool_terminate(farpool_pool *pool, farpool_error *error)
{
    int code = pool_enter(pool, "terminate", error);

    if (code != 0)
        return code;
    if (pool->state != POOL_TERMINATED)
        end_with(pool, CLIENT_TERMINATE, POOL_TERMINATED);
    pool_leave(pool);
    return 0;
}

static bool has_ended(void *arg)
{
    const farpool_pool *pool = arg;

    return pool->transport == NULL ||
           (pool->ended && TAILQ_EMPTY(&pool->callbacks) &&
            (pool->called == NULL || driver_in_callback(pool, pool->called)));
}

int farpool_join(farpool_pool *pool, int64_t timeout_ms, farpool_error *error)
{
    uint64_t until_ms;
    int code = pool_enter(pool, "join", error);

    if (code != 0)
        return code;
    code = options_read_timeout(timeout_ms, "join", &until_ms, error);
    if (code == 0 && pool->state == POOL_RUNNING)
        code = error_set(error, FARPOOL_EOPEN,
                         "join: the pool is still running; close or terminate it first");
    if (code == 0 && driver_wait(pool, has_ended, pool, until_ms) != 0)
        code = error_set(error, FARPOOL_ETIMEDOUT,
                         "join: the pool has not ended within %" PRId64 " ms; %u jobs left",
                         timeout_ms, HASH_COUNT(pool->jobs));
    pool_leave(pool);
    return code;
}

static uint64_t count_left(const farpool_pool *pool)
{
    struct client_job_counts counts;
    uint64_t left = 0;

    for (const struct pool_job *job = pool->jobs; job != NULL; job = job->hh.next)
        if (client_core_job_counts(pool->core, job->number, &counts))
            left += counts.pulled - counts.done;
    return left;
}

/* Terminates a pool that nobody closed; waits for one that somebody did. */
static void end(farpool_pool *pool)
{
    uint64_t until_ms = UINT64_MAX;

    if (pool->state == POOL_RUNNING && pool->jobs != NULL)
        fprintf(stderr,
                "farpool: a pool was freed with %" PRIu64 " tasks of %u jobs left: "
                "close it and join it, or terminate it, first\n",
                count_left(pool), HASH_COUNT(pool->jobs));
    if (pool->state != POOL_CLOSED) {
        if (pool->state == POOL_RUNNING)
            end_with(pool, CLIENT_TERMINATE, POOL_TERMINATED);
        until_ms = sys_now_ms() + END_MS_MAX;
    }
    driver_wait(pool, has_ended, pool, until_ms);
}

void farpool_pool_free(farpool_pool *pool)
{
    if (pool_enter(pool, "free", NULL) != 0)
        return;
    end(pool);
    pool_leave(pool);
    driver_stop(pool);
    finish(pool);
    pool_unref(pool);
}

/* ------------------------------------------------------------------ how it is */

static void count_tasks(const farpool_pool *pool, farpool_pool_info *info)
{
    struct client_job_counts counts;

    for (const struct pool_job *job = pool->jobs; job != NULL; job = job->hh.next)
        if (client_core_job_counts(pool->core, job->number, &counts)) {
            info->tasks_waiting += counts.waiting;
            info->tasks_running += counts.running;
        }
    info->tasks_done = pool->tasks_done;
    info->tasks_failed = pool->tasks_failed;
}

int farpool_pool_get_info(farpool_pool *pool, farpool_pool_info *ret_info,
                          farpool_error *error)
{
    struct client_pool_counts counts;
    farpool_pool_info info = {0};
    int code;

    if (ret_info == NULL)
        return error_set(error, FARPOOL_EINVAL, "info: ret_info is NULL");
    if ((code = pool_enter(pool, "info", error)) != 0)
        return code;
    driver_look(pool);
    client_core_pool_counts(pool->core, &counts);
    info.nodes = counts.nodes;
    info.slots = counts.slots;
    info.processes = counts.processes;
    info.processes_started = counts.started;
    info.connected = counts.connected;
    count_tasks(pool, &info);
    if (pool->transport->kind->info != NULL)
        pool->transport->kind->info(pool->transport, &info);
    pool_leave(pool);
    *ret_info = info;
    return 0;
}

int farpool_pool_warning(farpool_pool *pool, farpool_error *ret_warning)
{
    int code = pool_enter(pool, "warning", ret_warning);

    if (code != 0)
        return code;
    driver_look(pool);
    code = FARPOOL_END;
    if (pool->warning != 0) {
        error_set(ret_warning, pool->warning, "node %s cannot run this pool: %s",
                  pool->warning_node, pool->warning_text);
        if (ret_warning != NULL)
            memcpy(ret_warning->node, pool->warning_node, sizeof pool->warning_node);
        code = 0;
    }
    pool_leave(pool);
    return code;
}
