/* SPDX-License-Identifier: Apache-2.0
 *
 * service_ask.c: how jobs stand, their end by somebody's wish, and their results, which
 * are given in order of index, up to the first task that has not ended; a COLLECT is the
 * credit for one COLLECTED, so that a slow reader costs no memory here. */
#include "common/base/span.h"
#include "detached/service_internal.h"

#include <endian.h>
#include <stdio.h>
#include <string.h>

/* ---------------------------------------------------------------- DETACHED_GET */

static const char *state_name(const struct service *service,
                              const struct detached_job *job)
{
    switch (job->about.state) {
    case STORE_FILLING:
        return "filling";
    case STORE_OPEN:
        if (job->run != NULL)
            return "running";
        return job->stall_code != 0 || service->down_code != 0 ? "stalled" : "waiting";
    case STORE_ENDED:
        return "ended";
    case STORE_CANCELLED:
        return "cancelled";
    case STORE_FAILED:
        return "failed";
    }
    return "";
}

static void describe(const struct service *service, const struct detached_job *job,
                     struct msg_detached_info *info)
{
    const struct store_job *about = &job->about;
    const char *reason = about->reason;
    *info = (struct msg_detached_info){.code = about->code,
                                       .tasks = about->tasks,
                                       .done = about->done,
                                       .failed = about->failed,
                                       .bytes = about->bytes,
                                       .submitted_ms = about->submitted_ms};
    if (about->state == STORE_OPEN && job->run == NULL) {
        info->code = job->stall_code != 0 ? job->stall_code : service->down_code;
        reason = job->stall_code != 0 ? job->stall_text : service->down_text;
    }
    if (about->state > STORE_OPEN && service->config.keep_s > about->age_s)
        info->left_s = service->config.keep_s - about->age_s;
    snprintf(info->name, sizeof info->name, "%s", about->spec->submit.name);
    snprintf(info->owner, sizeof info->owner, "%s", about->owner.name);
    snprintf(info->function, sizeof info->function, "%s", about->spec->submit.function);
    snprintf(info->program, sizeof info->program, "%s", about->spec->submit.program_name);
    snprintf(info->state, sizeof info->state, "%s", state_name(service, job));
    snprintf(info->reason, sizeof info->reason, "%.255s", reason);
}

static struct message *make_list(const struct message *question)
{
    struct message *message = message_create(MSG_DETACHED);
    struct msg_detached_info *jobs =
        message != NULL ? mem_alloc(LIST_MAX * sizeof *jobs) : NULL;
    if (jobs == NULL) {
        message_free(&message);
        return NULL;
    }
    message->detached.request = question->detached_get.request;
    message->detached.jobs = jobs;
    return message;
}

static void tell_one(struct service *service, const struct service_in *in)
{
    farpool_error error;
    const struct detached_job *job =
        service_find(service, &in->holder, in->message->detached_get.name, &error);
    if (job == NULL) {
        service_refuse_error(service, in->link, in->message, &error);
        return;
    }
    struct message *message = make_list(in->message);
    if (message != NULL)
        describe(service, job, &message->detached.jobs[message->detached.jobs_count++]);
    service_answer(service, in->link, in->message, &message);
}

static void tell_all(struct service *service, const struct service_in *in)
{
    struct message *message = make_list(in->message);
    struct detached_job *job, *next;
    HASH_ITER (hh, service->jobs, job, next) {
        if (message == NULL || !service_may_see(&in->holder, job))
            continue;
        if (message->detached.jobs_count == LIST_MAX) {
            message->detached.more = true;
            service_answer(service, in->link, in->message, &message);
            if ((message = make_list(in->message)) == NULL)
                break;
        }
        describe(service, job, &message->detached.jobs[message->detached.jobs_count++]);
    }
    service_answer(service, in->link, in->message, &message);
}

/* ---------------------------------------------------------------- DETACHED_END */

static void end_job(struct service *service, const struct service_in *in)
{
    const struct message *question = in->message;
    farpool_error error;
    struct detached_job *job =
        service_find(service, &in->holder, question->detached_end.name, &error);
    if (job == NULL) {
        service_refuse_error(service, in->link, question, &error);
        return;
    }
    struct store_job *about = &job->about;
    if (question->detached_end.forget && about->state == STORE_OPEN) {
        service_refuse(service, in->link, question, FARPOOL_EOPEN,
                       "the detached job \"%s\" has not ended: cancel it first",
                       about->spec->submit.name);
        return;
    }
    struct message *message = message_create(MSG_ANSWER);
    if (message != NULL) {
        message->answer.request = question->detached_end.request;
        message->answer.concerned =
            question->detached_end.forget || about->state <= STORE_OPEN;
        message->answer.tasks = about->tasks - about->done - about->failed;
    }
    service_answer(service, in->link, question, &message);
    if (about->state == STORE_FILLING)
        service_give_up(service, job);
    else if (question->detached_end.forget)
        service_remove_job(service, job);
    else if (about->state == STORE_OPEN)
        service_end_job(service, job, STORE_CANCELLED, FARPOOL_ECANCELLED, "cancelled");
}

/* --------------------------------------------------------------------- COLLECT */

/* A COLLECTED being made: successes that follow each other are one span. */
struct collection {
    struct message *message;
    uint64_t next, bytes, bytes_max;
    uint64_t first; /* of the open span */
    uint32_t count;
    uint8_t *data;
    uint32_t *sizes;
    size_t data_size, data_capacity, sizes_capacity;
};

static int close_span(struct collection *all)
{
    struct message *message = all->message;
    if (all->count == 0)
        return 0;
    struct msg_span *span = &message->collected.spans[message->collected.spans_count];
    *span = (struct msg_span){.first = all->first, .count = all->count, .attempt = 1};
    span->sizes = payload_copy(all->sizes, all->count * sizeof *all->sizes);
    span->data =
        payload_copy(all->data_size > 0 ? (const void *)all->data : "", all->data_size);
    if (span->sizes == NULL || span->data == NULL) {
        span_fini(span);
        return FARPOOL_ENOMEM;
    }
    message->collected.spans_count++;
    all->count = 0;
    all->data_size = 0;
    return 0;
}

/* The outputs of a row from all->next on. */
static int add_outputs(struct collection *all, const struct store_result *result)
{
    const struct msg_span row = {.first = result->first,
                                 .count = (uint32_t)result->count,
                                 .attempt = 1,
                                 .sizes = result->sizes,
                                 .data = result->data};
    struct msg_span part;
    const uint32_t left = (uint32_t)(result->first + result->count - all->next);
    int code = span_slice(&row, all->next, left, &part);
    if (code != 0)
        return code;
    const uint64_t room = all->bytes_max > all->bytes ? all->bytes_max - all->bytes : 0;
    uint32_t count = span_fit(&part, room);
    if (count > SPAN_TASKS_MAX - all->count)
        count = SPAN_TASKS_MAX - all->count;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < count; i++)
        bytes += span_task_size(&part, i);
    if (!mem_reserve(&all->sizes, &all->sizes_capacity, all->count + count,
                     sizeof *all->sizes) ||
        !mem_reserve(&all->data, &all->data_capacity, all->data_size + bytes + 1, 1)) {
        span_fini(&part);
        return FARPOOL_ENOMEM;
    }
    if (all->count == 0)
        all->first = all->next;
    for (uint32_t i = 0; i < count; i++)
        all->sizes[all->count++] = htole32(span_task_size(&part, i));
    if (bytes > 0)
        memcpy(all->data + all->data_size, part.data->data, bytes);
    all->data_size += bytes;
    all->bytes += bytes + 8 * (uint64_t)count;
    all->next += count;
    span_fini(&part);
    return 0;
}

static int add_failures(struct collection *all, const struct store_result *result)
{
    struct message *message = all->message;
    int code = close_span(all);
    while (code == 0 && all->next < result->first + result->count &&
           message->collected.failures_count < SPANS_MAX) {
        struct msg_failed *failed =
            &message->collected.failures[message->collected.failures_count];
        *failed = result->failed;
        failed->index = all->next;
        failed->message = mem_strdup(result->failed.message);
        failed->backtrace = mem_strdup(result->failed.backtrace);
        message->collected.failures_count++; /* which now frees them */
        if (failed->message == NULL || failed->backtrace == NULL)
            return FARPOOL_ENOMEM;
        all->bytes += sizeof *failed;
        all->next++;
    }
    return code;
}

/* 0: goes on; FARPOOL_END: nothing behind all->next can be told now. */
static int add_next(struct service *service, const struct detached_job *job,
                    struct collection *all, farpool_error *error)
{
    struct store_result result;
    int code =
        store_result_read(service->store, job->about.id, all->next, true, &result, error);
    const bool over = job->about.state > STORE_OPEN;
    if (code == FARPOOL_END || (code == 0 && result.first > all->next)) {
        const uint64_t end = code == 0 ? result.first : job->about.tasks;
        if (code == 0)
            store_result_fini(&result);
        if (!over)
            return FARPOOL_END;
        if ((code = close_span(all)) != 0)
            return error_set(error, code, "out of memory");
        all->next = end; /* those in between have none */
        return 0;
    }
    if (code == 0) {
        code = result.failed.code != 0 ? add_failures(all, &result)
                                       : add_outputs(all, &result);
        if (code != 0)
            error_set(error, code, "out of memory");
        store_result_fini(&result);
    }
    return code;
}

static int fill(struct service *service, const struct detached_job *job,
                struct collection *all, farpool_error *error)
{
    const struct message *message = all->message;
    int code = 0;
    while (code == 0 && all->next < job->about.tasks && all->bytes < all->bytes_max &&
           all->count < SPAN_TASKS_MAX &&
           message->collected.spans_count + 1 < SPANS_MAX &&
           message->collected.failures_count < SPANS_MAX)
        code = add_next(service, job, all, error);
    if (code == FARPOOL_END)
        code = 0;
    if (code == 0 && (code = close_span(all)) != 0)
        error_set(error, code, "out of memory");
    return code;
}

static struct message *make_collected(const struct service_in *in,
                                      const struct detached_job *job)
{
    struct message *message = message_create(MSG_COLLECTED);
    if (message == NULL)
        return NULL;
    message->collected.request = in->message->collect.request;
    message->collected.submit = job->about.spec->submit.submit;
    message->collected.ended = job->about.state > STORE_OPEN;
    message->collected.tasks = job->about.tasks;
    message->collected.rest_code = job->about.code;
    snprintf(message->collected.rest_text, sizeof message->collected.rest_text, "%s",
             job->about.reason);
    message->collected.spans = mem_alloc(SPANS_MAX * sizeof *message->collected.spans);
    message->collected.failures =
        mem_alloc(SPANS_MAX * sizeof *message->collected.failures);
    if (message->collected.spans == NULL || message->collected.failures == NULL)
        message_free(&message);
    return message;
}

static void collect(struct service *service, const struct service_in *in)
{
    farpool_error error;
    struct detached_job *job =
        service_find(service, &in->holder, in->message->collect.name, &error);
    struct collection all = {.next = in->message->collect.first,
                             .bytes_max = in->message->collect.bytes};
    int code = job != NULL ? 0 : error.code;
    if (job != NULL && job->about.state == STORE_FILLING) {
        service_refuse(service, in->link, in->message, FARPOOL_ENOTREADY,
                       "the detached job \"%s\" is still being submitted",
                       job->about.spec->submit.name);
        return;
    }
    if (job != NULL && !job->about.is_checked)
        code = store_job_check(service->store, &job->about, &error);
    if (job != NULL && code == 0) {
        all.bytes_max = all.bytes_max > 0 ? all.bytes_max : 1;
        all.message = make_collected(in, job);
        code = all.message != NULL ? fill(service, job, &all, &error)
                                   : error_set(&error, FARPOOL_ENOMEM, "out of memory");
        if (code == 0 && all.message != NULL)
            all.message->collected.next = all.next;
    }
    if (code == 0) {
        service_answer(service, in->link, in->message, &all.message);
    } else {
        service_refuse_error(service, in->link, in->message, &error);
        message_free(&all.message);
    }
    mem_free(all.sizes);
    mem_free(all.data);
}

void service_ask(struct service *service, const struct service_in *in)
{
    switch (in->message->kind) {
    case MSG_DETACHED_GET:
        if (in->message->detached_get.name[0] != '\0')
            tell_one(service, in);
        else
            tell_all(service, in);
        break;
    case MSG_DETACHED_END:
        end_job(service, in);
        break;
    default:
        collect(service, in);
    }
}
