/* SPDX-License-Identifier: Apache-2.0
 *
 * pool.c: the life of a pool: open, close, terminate, join, free. What the core tells of
 * it is pool_effects.c's, and how it stands pool_info.c's.
 *
 * A pool is counted: by the user's handle and by each job and iterator, which stay
 * readable when it was freed. Freeing ends the core and the transport; the mutex and what
 * jobs need lives on until the last of them. A child made by fork has a copy of all this
 * that it must not touch: it is recognised by its pid. */
#include "client/calls.h"
#include "client/credential.h"
#include "client/library.h"
#include "client/process.h"
#include "common/base/error.h"
#include "common/base/spare.h"
#include "common/sys/sys.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ACK_WAIT_MS 1000 /* of a coordinator's pool */
#define END_MS_MAX 10000 /* for killed processes to be gone, when a pool is freed */

/* ------------------------------------------------------------------- entering */

static bool is_here(const farpool_pool *pool)
{
    return pool->here != NULL ? *pool->here : pool->process == getpid();
}

int pool_enter(farpool_pool *pool, const char *call, farpool_error *error)
{
    if (pool == NULL)
        return error_set(error, FARPOOL_EINVAL, "%s: pool is NULL", call);
    if (!is_here(pool))
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
                     "%s: a pool opened inside a task belongs to the task's thread",
                     call);
}

void pool_leave(farpool_pool *pool)
{
    pthread_mutex_unlock(&pool->mutex);
}

int pool_tell_failure(const farpool_pool *pool, const char *call, farpool_error *error)
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
    return pool->failure != 0 ? pool_tell_failure(pool, call, error) : 0;
}

/* -------------------------------------------------------------------- opening */

static struct message *make_open(const farpool_pool *pool, bool output)
{
    const struct pool_settings *settings = &pool->settings;
    const struct program *program = &pool->program;
    struct message *open = message_create(MSG_POOL_OPEN);

    if (open == NULL)
        return NULL;
    sys_random_id(&open->pool_open.seed);
    open->pool_open.program = program->hash;
    snprintf(open->pool_open.name, sizeof open->pool_open.name, "%.*s", NODE_NAME_MAX,
             program->files[0].about.name);
    memcpy(open->pool_open.machine, program->machine, sizeof open->pool_open.machine);
    open->pool_open.processes = settings->processes;
    open->pool_open.tasks_per_process = settings->tasks_per_process;
    memcpy(open->pool_open.initializer, settings->initializer,
           sizeof settings->initializer);
    open->pool_open.output = output;
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

/* For who cannot reach the workers, and would only try: FARPOOL_LANES=none. */
static bool wants_lanes(void)
{
    const char *lanes = getenv("FARPOOL_LANES");
    return lanes == NULL || strcmp(lanes, "none") != 0;
}

static int create_core(farpool_pool *pool, farpool_error *error)
{
    struct client_config config = {
        .job_tag = (uint32_t)sys_random(),
        .pid = (uint32_t)getpid(),
        .attach = !pool->transport->kind->threaded,
        .lanes = pool->transport->kind->dial != NULL && wants_lanes(),
        .ack_wait_ms = pool->transport->kind->embedded ? 0 : ACK_WAIT_MS,
        .open = pool->open,
    };
    int code;

    sys_random_id(&config.client);
    if (config.attach) {
        config.pool = *process_pool();
    } else {
        sys_pool_id(&pool->transport->key, &pool->open->pool_open.seed, &config.pool);
        pool->open->pool_open.pool = config.pool;
    }
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
    pool->here = sys_here_create();
    pool->settings = *settings;
    TAILQ_INIT(&pool->callbacks);
    STAILQ_INIT(&pool->printed);
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
    output_fini(pool);
    program_fini(&pool->program);
    shared_fini(&pool->shared);
    pthread_mutex_unlock(&pool->mutex);
}

static void destroy(farpool_pool *pool)
{
    pthread_cond_destroy(&pool->changed);
    pthread_cond_destroy(&pool->wanted);
    pthread_mutex_destroy(&pool->mutex);
    sys_here_destroy(pool->here);
    mem_free(pool);
    spare_empty();
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
    bool embedded = address == NULL, output;
    int code;

    if (nested)
        return nested_open(&pool->transport, error);
    output = embedded ? pool->settings.on_output != NULL : pool->settings.output;
    code = program_open(&pool->settings, !embedded, &pool->program, error);
    if (code != 0)
        return code;
    if ((pool->open = make_open(pool, output)) == NULL)
        return error_set(error, FARPOOL_ENOMEM, "open: out of memory");
    return embedded
               ? embedded_open(&pool->settings, &pool->program, &pool->transport, error)
               : remote_open(address, &pool->transport, error);
}

/* The first word to the coordinator and its answer. */
static int say_hello(farpool_pool *pool, const char *address, farpool_error *error)
{
    uint64_t until_ms = sys_now_ms() + pool->settings.connect_timeout_ms;
    bool absent = false;
    int code = 0;

    pthread_mutex_lock(&pool->mutex);
    pool->transport->shared = &pool->shared;
    if ((code = create_core(pool, error)) == 0 &&
        (code = driver_start(pool, error)) == 0 &&
        driver_wait(pool, has_opened, pool, until_ms) != 0)
        absent = true;
    else if (code == 0 && pool->failure != 0)
        code =
            error_set(error, pool->failure, "open: %s",
                      pool->failure_text[0] != '\0' ? pool->failure_text
                                                    : farpool_error_text(pool->failure));
    pthread_mutex_unlock(&pool->mutex);
    if (absent)
        code = credential_absent("open", address != NULL ? address : "the task's node",
                                 (int64_t)pool->settings.connect_timeout_ms, NULL, error);
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
    calls_close(pool);
    pool_must_step(pool, &event);
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

/* Callbacks too have returned; but for whoever asks inside one, which they wait for. */
static bool has_ended(void *arg)
{
    const farpool_pool *pool = arg;

    return pool->transport == NULL ||
           (pool->ended && (driver_in_any_callback(pool) ||
                            (TAILQ_EMPTY(&pool->callbacks) && pool->called == NULL)));
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
        code =
            error_set(error, FARPOOL_ETIMEDOUT,
                      "join: the pool has not ended within %" PRId64 " ms; %u jobs left",
                      timeout_ms, calls_count_jobs(pool));
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

    calls_submit(pool);
    if (pool->state == POOL_RUNNING && calls_count_jobs(pool) > 0)
        fprintf(stderr,
                "farpool: a pool was freed with %" PRIu64 " tasks of %u jobs left: "
                "close it and join it, or terminate it, first\n",
                count_left(pool), calls_count_jobs(pool));
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
    if (driver_in_any_callback(pool)) {
        pool_leave(pool);
        fputs(
            "farpool: free: a pool cannot be freed inside one of its callbacks, which it "
            "would wait for: nothing was done; free it when the callback has returned\n",
            stderr);
        return;
    }
    end(pool);
    pool_leave(pool);
    driver_stop(pool);
    finish(pool);
    pool_unref(pool);
}
