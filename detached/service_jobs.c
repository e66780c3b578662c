/* SPDX-License-Identifier: Apache-2.0
 *
 * service_jobs.c: the table of jobs. A job is its submitter's key's: to other keys it
 * does not exist, but to an admin's; where no keys are in use it is everybody's. */
#include "detached/service_internal.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

struct detached_job *service_add_job(struct service *service, struct store_job *about)
{
    struct detached_job *job = mem_alloc(sizeof *job);
    if (job == NULL)
        return NULL;
    job->about = *about;
    job->aged_ms = service->now_ms;
    HASH_ADD(hh, service->jobs, about.id, sizeof job->about.id, job);
    if (job->hh.tbl == NULL) {
        mem_free(job);
        return NULL;
    }
    about->spec = NULL;
    service_place_job(service, job);
    return job;
}

void service_place_job(struct service *service, struct detached_job *job)
{
    const bool waits = job->about.state == STORE_OPEN && job->run == NULL;
    if (waits && !job->waits)
        TAILQ_INSERT_TAIL(&service->waiting, job, waiting_entry);
    if (!waits && job->waits)
        TAILQ_REMOVE(&service->waiting, job, waiting_entry);
    job->waits = waits;
}

void service_touch_job(struct service *service, struct detached_job *job)
{
    if (!job->dirty)
        TAILQ_INSERT_TAIL(&service->dirty, job, dirty_entry);
    job->dirty = true;
}

void service_drop_job(struct service *service, struct detached_job *job)
{
    if (job->run != NULL)
        run_close(service, job->run);
    if (job->waits)
        TAILQ_REMOVE(&service->waiting, job, waiting_entry);
    if (job->dirty)
        TAILQ_REMOVE(&service->dirty, job, dirty_entry);
    assert(service->jobs != NULL && service->jobs->hh.tbl != NULL);
    HASH_DEL(service->jobs, job);
    message_free(&job->about.spec);
    mem_free(job);
}

void service_drop_jobs(struct service *service)
{
    struct detached_job *job, *next;
    HASH_ITER (hh, service->jobs, job, next)
        service_drop_job(service, job);
}

bool service_may_see(const struct holder *holder, const struct detached_job *job)
{
    return holder->role == HOLDER_NONE || holder->role == HOLDER_ADMIN ||
           hash_equal(&holder->key, &job->about.owner.key);
}

static bool is_own(const struct holder *holder, const struct detached_job *job)
{
    return hash_equal(&holder->key, &job->about.owner.key);
}

struct detached_job *service_find(struct service *service, const struct holder *holder,
                                  const char *name, farpool_error *error)
{
    const char *slash = strchr(name, '/');
    const char *own = slash != NULL ? slash + 1 : name;
    struct detached_job *found = NULL, *job, *next;
    unsigned count = 0;
    HASH_ITER (hh, service->jobs, job, next) {
        const char *owner = job->about.owner.name;
        if (strcmp(job->about.spec->submit.name, own) != 0 ||
            !service_may_see(holder, job))
            continue;
        if (slash != NULL && (strlen(owner) != (size_t)(slash - name) ||
                              strncmp(owner, name, strlen(owner)) != 0))
            continue;
        found = job;
        count++;
        if (slash == NULL && is_own(holder, job)) {
            count = 1;
            break;
        }
    }
    if (count == 1)
        return found;
    if (count == 0)
        error_set(error, FARPOOL_ENOJOB, "there is no detached job \"%s\"", name);
    else
        error_set(error, FARPOOL_EINVAL,
                  "%u keys have a detached job \"%s\": name it as OWNER/%s", count, name,
                  name);
    return NULL;
}

struct detached_job *service_find_submit(struct service *service,
                                         const struct holder *holder,
                                         const struct id *submit)
{
    struct detached_job *job, *next;
    HASH_ITER (hh, service->jobs, job, next)
        if (id_equal(&job->about.spec->submit.submit, submit) && is_own(holder, job))
            return job;
    return NULL;
}

void service_end_job(struct service *service, struct detached_job *job,
                     enum store_state state, int code, const char *reason)
{
    job->about.state = state;
    if (job->run != NULL)
        run_close(service, job->run);
    service_place_job(service, job);
    job->about.code = code;
    snprintf(job->about.reason, sizeof job->about.reason, "%s", reason);
    service_touch_job(service, job);
    service_log(service, code != 0 ? LOG_WARNING : LOG_INFO, "detached-over",
                "name=%s owner=%s reason=\"%s\"", job->about.spec->submit.name,
                job->about.owner.name, reason);
}

void service_remove_job(struct service *service, struct detached_job *job)
{
    farpool_error error;
    if (store_job_remove(service->store, job->about.id, &error) != 0)
        service_fail(service, &error);
    else
        service_drop_job(service, job);
}

void service_give_up(struct service *service, struct detached_job *job)
{
    if (service->given_up_count < GIVEN_UP_MAX)
        service->given_up[service->given_up_count++] = job->about.spec->submit.submit;
    service_remove_job(service, job);
}

static struct detached_job *find_filling(const struct service *service,
                                         const struct id *submit)
{
    struct detached_job *job = service->jobs;
    while (job != NULL && (job->about.state != STORE_FILLING ||
                           !id_equal(&job->about.spec->submit.submit, submit)))
        job = job->hh.next;
    return job;
}

void service_remove_given_up(struct service *service)
{
    unsigned left = 0;
    for (unsigned i = 0; i < service->given_up_count; i++) {
        struct detached_job *job = find_filling(service, &service->given_up[i]);
        if (job == NULL)
            continue; /* that is on the disk */
        service->given_up[left++] = service->given_up[i];
        if (!service->failed)
            service_remove_job(service, job);
        service->more = true;
    }
    service->given_up_count = left;
}

void service_write_jobs(struct service *service)
{
    farpool_error error;
    struct detached_job *job;
    while ((job = TAILQ_FIRST(&service->dirty)) != NULL && !service->failed) {
        TAILQ_REMOVE(&service->dirty, job, dirty_entry);
        job->dirty = false;
        if (store_job_update(service->store, &job->about, &error) != 0)
            service_fail(service, &error);
    }
}

void service_chance_id(struct service *service, struct id *ret_id)
{
    const uint64_t words[2] = {rng_next(&service->seed), rng_next(&service->seed)};
    memcpy(ret_id, words, sizeof *ret_id);
}
