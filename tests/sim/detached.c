/* SPDX-License-Identifier: Apache-2.0
 *
 * detached.c: the detached jobs of a seed that has some, and what happens to them beside
 * all else: the coordinator dies at a call of its disk, the disk fails, or is slow, who
 * asks is gone in the middle, somebody else asks, and the job is cancelled, by its owner
 * or an operator. What is asked about them must be answered rightly (told.c), and at the
 * end each of them must have been collected and forgotten. */
#include "detached.h"
#include "tests/unit/store_memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Beside those of fault.c, so that seeds without detached jobs stay as they were. */
#define TROUBLES(X)                                                                      \
    X(KILL, "the coordinator dies")                                                      \
    X(STOP, "the coordinator dies while it writes")                                      \
    X(FAIL, "the disk says no")                                                          \
    X(SLOW, "the disk takes up to 2 s")                                                  \
    X(LEAVE, "who asks is gone")                                                         \
    X(CANCEL, "the owner cancels")                                                       \
    X(OPERATOR, "an operator cancels")                                                   \
    X(STRANGER, "somebody with another key asks")

enum trouble {
#define TROUBLE_ENUM(NAME, text) TROUBLE_##NAME,
    TROUBLES(TROUBLE_ENUM)
#undef TROUBLE_ENUM
        TROUBLES_COUNT
};

static const char *const texts[] = {
#define TROUBLE_TEXT(NAME, text) text,
    TROUBLES(TROUBLE_TEXT)
#undef TROUBLE_TEXT
};

#define FAST_US 4000
#define SLOW_US 2000000

/* --------------------------------------------------------------------------- troubles */

static void restart(struct sim *sim, uint64_t a, uint64_t b, uint64_t c)
{
    (void)a, (void)b, (void)c;
    sim_coordinator_start(sim);
}

void sim_detached_kill(struct sim *sim)
{
    if (!sim->coordinator.actor.alive)
        return;
    sim_coordinator_kill(sim);
    sim_at(sim, sim->now_us + sim_between(sim, 1000, 4000000), restart, 0, 0, 0);
}

static void fail_disk(struct sim *sim)
{
    static const int codes[] = {FARPOOL_EFULL, FARPOOL_ENOSPACE, FARPOOL_ESYSTEM,
                                FARPOOL_ENOMEM};

    memory_store_fail((unsigned)sim_between(sim, 1, 20), codes[sim_dice(sim, 4)]);
}

static void cancel_by_operator(struct sim *sim, const struct detached *detached)
{
    struct message *question = message_create(MSG_CANCEL_JOB);

    question->cancel_job.pool = detached->app->config.pool;
    question->cancel_job.kill = sim_chance(sim, 2);
    sim_fault_operate(sim, question);
}

static void strike(struct sim *sim, uint64_t trouble, uint64_t b, uint64_t c)
{
    struct detached *detached =
        &sim->keeping->jobs[sim_dice(sim, (uint64_t)sim->keeping->count)];

    (void)b, (void)c;
    sim_trace(sim, "---- detached: %s", texts[trouble]);
    switch ((enum trouble)trouble) {
    case TROUBLE_KILL:
        sim_detached_kill(sim);
        break;
    case TROUBLE_STOP:
        memory_store_stop((unsigned)sim_between(sim, 1, sim_chance(sim, 2) ? 4 : 16));
        break;
    case TROUBLE_FAIL:
        fail_disk(sim);
        break;
    case TROUBLE_SLOW:
        sim->keeping->keeper.slow_us = sim_chance(sim, 2) ? SLOW_US : FAST_US;
        break;
    case TROUBLE_LEAVE:
        sim_owner_leave(sim, detached);
        break;
    case TROUBLE_CANCEL:
        detached->cancels = true;
        break;
    case TROUBLE_OPERATOR:
        cancel_by_operator(sim, detached);
        break;
    case TROUBLE_STRANGER:
        sim_stranger_ask(sim, detached);
        break;
    case TROUBLES_COUNT:
        break;
    }
}

void sim_detached_settle(struct sim *sim)
{
    if (!sim->keeping)
        return;
    memory_store_fail(0, 0);
    memory_store_stop(0);
    sim->keeping->keeper.slow_us = FAST_US;
}

static void plan_troubles(struct sim *sim)
{
    for (uint64_t count = sim_dice(sim, 10); count > 0; count--)
        sim_at(sim, sim_dice(sim, sim->plan.faults_until_us - 1), strike,
               sim_dice(sim, TROUBLES_COUNT), 0, 0);
    sim->plan.enabled[FAULT_COORDINATOR_KILL] = true;
}

/* ------------------------------------------------------------------------------- jobs */

/* What a program would ask for, as the first word of a submission. */
static void add_options(struct message *message, const struct client_job_options *options)
{
    memcpy(message->submit.function, options->function, sizeof message->submit.function);
    message->submit.chunk = options->chunk;
    message->submit.timeout_ms = options->timeout_ms;
    message->submit.cpu_ms = options->cpu_ms;
    message->submit.memory_bytes = options->memory_bytes;
    message->submit.retries = options->retries;
    message->submit.losses_max = options->losses_max;
    message->submit.speculate = options->speculate;
}

static void add_pool(struct message *message, const struct message *open)
{
    const uint32_t files = open->pool_open.files_count;

    message->submit.program = open->pool_open.program;
    memcpy(message->submit.program_name, open->pool_open.name,
           sizeof message->submit.program_name);
    memcpy(message->submit.machine, open->pool_open.machine,
           sizeof message->submit.machine);
    message->submit.processes = open->pool_open.processes;
    message->submit.tasks_per_process = open->pool_open.tasks_per_process;
    memcpy(message->submit.initializer, open->pool_open.initializer,
           sizeof message->submit.initializer);
    message->submit.files = mem_alloc(files * sizeof *message->submit.files);
    message->submit.files_count = files;
    memcpy(message->submit.files, open->pool_open.files,
           files * sizeof *message->submit.files);
}

static struct message *make_submit(struct sim *sim, const struct app *app, int place)
{
    struct message *message = message_create(MSG_SUBMIT);

    message->submit.submit = sim_id(sim);
    snprintf(message->submit.name, sizeof message->submit.name, "d%d", place);
    add_options(message, &app->jobs[0].options);
    add_pool(message, app->open);
    return message;
}

/* The places from the end on are theirs; nested clients take them from the front. */
static struct app *make_app(struct sim *sim, int place)
{
    struct app *app = &sim->apps[APPS_MAX - 1 - place];
    struct job *job = &app->jobs[0];

    app->node = -1;
    app->tasks_max = app->bytes_max = UINT64_MAX;
    sim_app_open(sim, app);
    memset(&app->config.pool, 0, sizeof app->config.pool);
    app->open->pool_open.output = false;
    app->jobs_count = 1;
    sim_job_fill(sim, app, 0);
    job->options.priority = 0;
    job->pulled = job->fed = job->count;
    return app;
}

static void make_job(struct sim *sim, int place)
{
    struct detached *detached = &sim->keeping->jobs[place];

    detached->app = make_app(sim, place);
    detached->submit = make_submit(sim, detached->app, place);
    detached->told = sim_alloc(detached->app->jobs[0].count + 1);
    sim_owner_start(sim, detached, sim_chance(sim, 2) ? sim_dice(sim, 2000000) : 0);
}

void sim_detached_plan(struct sim *sim)
{
    memory_store_clear();
    sim->keeping = sim_alloc(sizeof *sim->keeping);
    sim->keeping->count = (int)sim_between(sim, 1, DETACHED_MAX);
    sim->keeping->keeper.slow_us = FAST_US;
    for (int i = 0; i < sim->keeping->count; i++)
        make_job(sim, i);
    if (!sim->options.quiet)
        plan_troubles(sim);
}

int sim_detached_key(const struct sim *sim, int place)
{
    const int count = sim->keeping ? sim->keeping->count : 0;

    if (place >= APPS_MAX - count && place < APPS_MAX)
        return place;
    if (place >= OWNER_PLACE && place < OWNER_PLACE + count)
        return APPS_MAX - 1 - (place - OWNER_PLACE);
    return -1;
}

/* ----------------------------------------------------------------------------- the end
 */

/* (A SUBMIT that was long on its way may have begun another one, which is dropped when an
 * hour has passed.) */
bool sim_detached_are_over(struct sim *sim)
{
    for (int i = 0; sim->keeping && i < sim->keeping->count; i++) {
        const struct detached *detached = &sim->keeping->jobs[i];

        if (detached->stage != OWNER_OVER)
            return false;
        const struct store_job *about = memory_store_job(detached_id(detached));
        if (detached->forgotten && about && about->state > STORE_FILLING)
            sim_fail(sim, "a detached job was forgotten, and is on the disk");
    }
    return true;
}

void sim_detached_dump(const struct sim *sim)
{
    static const char *const stages[] = {"submits", "watches", "collects", "forgets",
                                         "is over"};

    for (int i = 0; sim->keeping && i < sim->keeping->count; i++) {
        const struct detached *detached = &sim->keeping->jobs[i];
        const struct store_job *about = memory_store_job(detached_id(detached));

        printf("  O%d %s on link %llu; its client inside has link %llu; on the disk: ", i,
               stages[detached->stage], (unsigned long long)detached->asks_on,
               (unsigned long long)detached->link);
        if (!about) {
            printf("no job\n");
            continue;
        }
        printf("state %d, %llu tasks, %llu given, %llu done, %llu failed:", about->state,
               (unsigned long long)about->tasks, (unsigned long long)about->given,
               (unsigned long long)about->done, (unsigned long long)about->failed);
        for (uint64_t k = 0; k < about->tasks; k++)
            if (!memory_store_has_result(detached_id(detached), k))
                printf(" %llu/%u", (unsigned long long)k,
                       memory_store_attempt(detached_id(detached), k));
        printf(" open\n");
    }
}

void sim_detached_fini(struct sim *sim)
{
    for (int i = 0; sim->keeping && i < sim->keeping->count; i++) {
        struct detached *detached = &sim->keeping->jobs[i];

        message_free(&detached->submit);
        sim_queue_fini(&detached->reports);
        sim_owner_fini(detached);
    }
    if (sim->keeping)
        memory_store_clear();
    free(sim->keeping);
}
