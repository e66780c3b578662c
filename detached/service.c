/* SPDX-License-Identifier: Apache-2.0
 *
 * service.c: one turn. What was taken is one transaction, however many asked and however
 * many results came: it is committed, then its answers go out and the runs are flushed,
 * which ACKs results, hands out tasks, and may end some, which is the next transaction.
 *
 * When the store says no, all of the transaction is undone, all that was asked in it is
 * told so, every run is closed, and the table is read from the store again: as if the
 * coordinator had been killed at that instant. It is tried again after RETRY_MS. */
#include "detached/service_internal.h"

#include <stdio.h>
#include <string.h>

#define ROUNDS_MAX 1000 /* of one turn: each stores results */

void service_fail(struct service *service, const farpool_error *error)
{
    if (service->failed)
        return;
    service->failed = true;
    service->failure = *error;
}

static bool is_full(int code)
{
    return code == FARPOOL_EFULL || code == FARPOOL_ENOSPACE;
}

static void go_down(struct service *service, const farpool_error *error)
{
    if (service->down_code != error->code || strcmp(service->down_text, error->text) != 0)
        service_log(service, LOG_ERROR, "detached-down", "reason=\"%s\"", error->text);
    service->down_code = error->code;
    snprintf(service->down_text, sizeof service->down_text, "%s", error->text);
    service->retry_ms = service->now_ms + RETRY_MS;
}

static int take_stored(void *user, struct store_job *about)
{
    return service_add_job(user, about) != NULL ? 0 : FARPOOL_ENOMEM;
}

/* Opens the store if it is not, and fills the table. */
static void load(struct service *service)
{
    farpool_error error;
    int code = 0;
    service_drop_jobs(service);
    if (service->store == NULL)
        code = store_open(service->config.folder, service->config.bytes_max,
                          &service->store, &error);
    if (code == 0)
        code = store_jobs_read(service->store, take_stored, service, &error);
    if (code == 0)
        return;
    service_drop_jobs(service);
    store_close(service->store);
    service->store = NULL;
    go_down(service, &error);
}

static void undo(struct service *service)
{
    const farpool_error error = service->failure;
    service_refuse_answers(service);
    store_rollback(service->store);
    if (!is_full(error.code) && error.code != FARPOOL_ENOMEM) {
        store_close(service->store);
        service->store = NULL;
    }
    service->failed = false;
    load(service);
    if (service->store != NULL || service->down_code == 0)
        go_down(service, &error);
}

/* -------------------------------------------------------------------------- time */

/* By seconds in which a coordinator ran: a clock that was set changes nothing. */
static void age(struct service *service, struct detached_job *job)
{
    struct store_job *about = &job->about;
    const uint64_t seconds = (service->now_ms - job->aged_ms) / 1000;
    job->aged_ms += seconds * 1000;
    if (about->state == STORE_FILLING) {
        job->idle_s += seconds;
        if (job->idle_s >= FILLING_S)
            service_remove_job(service, job);
        return;
    }
    if (about->state == STORE_OPEN)
        return;
    about->age_s += seconds;
    if (about->age_s % 3600 < seconds) /* a lost hour does no harm */
        service_touch_job(service, job);
    if (about->age_s < service->config.keep_s)
        return;
    service_log(service, LOG_INFO, "detached-expired", "name=%s owner=%s",
                about->spec->submit.name, about->owner.name);
    service_remove_job(service, job);
}

static uint64_t tick_length(const struct service *service)
{
    const uint64_t keep_ms = service->config.keep_s * 1000;
    return keep_ms < TICK_MS ? (keep_ms > 1000 ? keep_ms : 1000) : TICK_MS;
}

static void tick(struct service *service)
{
    struct detached_job *job, *next;
    if (service->now_ms < service->tick_ms)
        return;
    HASH_ITER (hh, service->jobs, job, next)
        age(service, job);
    service->tick_ms = service->now_ms + tick_length(service);
}

static void stall_full(struct service *service, struct detached_job *job)
{
    job->stall_code = FARPOOL_EFULL;
    snprintf(job->stall_text, sizeof job->stall_text,
             "the coordinator keeps %llu bytes of detached jobs, and its limit is "
             "%llu (--detached-max-bytes): collect and forget jobs, or raise it",
             (unsigned long long)store_bytes(service->store),
             (unsigned long long)store_bytes_max(service->store));
}

/* Opens runs of jobs that wait, the oldest first, as far as there is room for results;
 * but before those the ones that were at work when an earlier coordinator ended, since
 * workers do not hold their tasks for long. */
static void start_runs(struct service *service, bool begun)
{
    struct detached_job *job, *next;
    const uint64_t most = store_bytes_max(service->store);
    const bool full = store_bytes(service->store) >= most - most / 8;
    TAILQ_FOREACH_SAFE (job, &service->waiting, waiting_entry, next) {
        if (service->runs_count >= RUNS_MAX)
            break;
        if (service->now_ms < job->retry_ms || (job->about.given > 0) != begun)
            continue;
        job->retry_ms = service->now_ms + RETRY_MS;
        if (full)
            stall_full(service, job);
        else
            run_open(service, job);
    }
}

/* -------------------------------------------------------------------------- turns */

static void flush_runs(struct service *service)
{
    struct run *run, *next;
    TAILQ_FOREACH (run, &service->runs, entry)
        run_committed(service, run);
    TAILQ_FOREACH_SAFE (run, &service->runs, entry, next)
        run_flush(service, run);
}

static bool has_more(const struct service *service)
{
    return service->more || service->failed || !TAILQ_EMPTY(&service->dirty);
}

static bool commit(struct service *service)
{
    farpool_error error;
    service_write_jobs(service);
    if (!service->failed && store_commit(service->store, &error) != 0)
        service_fail(service, &error);
    return !service->failed;
}

void service_turn(struct service *service, uint64_t now_ms)
{
    service->now_ms = now_ms;
    if (now_ms >= service->retry_ms && service->down_code != 0) {
        service->down_code = 0;
        service->retry_ms = UINT64_MAX;
        if (service->store == NULL)
            load(service);
        if (service->down_code == 0)
            service_log(service, LOG_INFO, "detached-up", "jobs=%u",
                        HASH_COUNT(service->jobs));
    }
    if (service->store != NULL)
        tick(service);
    for (int round = 0; service->store != NULL && round < ROUNDS_MAX; round++) {
        if (!commit(service)) {
            undo(service);
            break;
        }
        service_release_answers(service);
        service->more = false;
        service_remove_given_up(service);
        if (service->down_code == 0) {
            start_runs(service, true);
            start_runs(service, false);
        }
        flush_runs(service);
        if (!has_more(service))
            break;
    }
    service_release_answers(service);
}

static void refuse_all(struct service *service, const struct service_in *in)
{
    service_refuse(service, in->link, in->message, service->down_code, "%s",
                   service->down_text);
}

static void take_request(struct service *service, struct service_in *in)
{
    if (service->store == NULL)
        refuse_all(service, in);
    else if (service->failed)
        service_refuse_error(service, in->link, in->message, &service->failure);
    else if (in->message->kind >= MSG_DETACHED_GET)
        service_ask(service, in);
    else
        service_submit(service, in);
}

bool service_take(struct service *service, struct service_in *in, uint64_t now_ms)
{
    service->now_ms = now_ms;
    if (in->kind == SERVICE_REQUEST && !service_expect_answer(service))
        return false;
    if (in->kind == SERVICE_REQUEST)
        take_request(service, in);
    else if (service->store != NULL && !service->failed)
        run_take(service, in);
    message_free(&in->message);
    return true;
}

uint64_t service_deadline(const struct service *service)
{
    uint64_t deadline = service->retry_ms;
    const struct detached_job *job;
    const struct run *run;
    if (service->answers_due > 0)
        return service->now_ms + AGAIN_MS;
    if (service->store == NULL)
        return deadline;
    if (service->more || (service->tick_ms < deadline && service->jobs != NULL))
        deadline = service->more ? service->now_ms : service->tick_ms;
    TAILQ_FOREACH (run, &service->runs, entry)
        if (run_deadline(run) < deadline)
            deadline = run_deadline(run);
    if (service->down_code != 0 || service->runs_count >= RUNS_MAX)
        return deadline;
    TAILQ_FOREACH (job, &service->waiting, waiting_entry)
        if (job->retry_ms < deadline)
            deadline = job->retry_ms;
    return deadline;
}

/* ------------------------------------------------------------------------ its life */

int service_create(const struct service_config *config, uint64_t now_ms,
                   struct service **ret_service)
{
    struct service *service = mem_alloc(sizeof *service);
    if (service == NULL)
        return FARPOOL_ENOMEM;
    TAILQ_INIT(&service->dirty);
    TAILQ_INIT(&service->waiting);
    TAILQ_INIT(&service->runs);
    service->config = *config;
    service->seed = config->seed;
    service->now_ms = now_ms;
    service->retry_ms = UINT64_MAX;
    service->tick_ms = now_ms + tick_length(service);
    load(service);
    if (service->store != NULL)
        service_log(service, LOG_INFO, "detached-up", "jobs=%u folder=%s checked=%s",
                    HASH_COUNT(service->jobs), config->folder,
                    store_is_checked(service->store) ? "all" : "part");
    *ret_service = service;
    return 0;
}

void service_destroy(struct service *service)
{
    if (service == NULL)
        return;
    service_drop_jobs(service);
    for (size_t i = 0; i < service->answers_count; i++)
        message_free(&service->answers[i].message);
    service_clear(service);
    mem_free(service->answers);
    mem_free(service->outs);
    client_effects_fini(&service->effects);
    store_close(service->store);
    mem_free(service);
}

struct service_out *service_outs(struct service *service, size_t *ret_count)
{
    *ret_count = service->outs_count;
    return service->outs;
}

void service_clear(struct service *service)
{
    for (size_t i = 0; i < service->outs_count; i++)
        message_free(&service->outs[i].message);
    service->outs_count = 0;
}
