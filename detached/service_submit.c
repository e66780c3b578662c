/* SPDX-License-Identifier: Apache-2.0
 *
 * service_submit.c: a job is handed in: SUBMIT, the files of its program, its inputs, and
 * SUBMIT_END. Each word may come again, since an answer may be lost: what is there
 * already is passed over, and the answer tells what is wanted next.
 *
 * Inputs and programs may use half of the store, so that there is room for results. */
#include "common/base/span.h"
#include "detached/service_internal.h"

#include <stdio.h>
#include <string.h>

static bool is_name(const char *name)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789._-";
    return name[0] != '\0' && name[0] != '-' && strspn(name, letters) == strlen(name);
}

/* Whether so many bytes more may be had; else it was refused. */
static bool has_room(struct service *service, const struct service_in *in, uint64_t bytes)
{
    const uint64_t used = store_bytes(service->store);
    const uint64_t most = store_bytes_max(service->store) / 2;
    if (used <= most && bytes <= most - used)
        return true;
    service_refuse(
        service, in->link, in->message, FARPOOL_EFULL,
        "the coordinator keeps %llu bytes of detached jobs, and takes inputs up "
        "to %llu, half of --detached-max-bytes; %llu more were to come: collect "
        "and forget jobs, or raise it",
        (unsigned long long)used, (unsigned long long)most, (unsigned long long)bytes);
    return false;
}

static void answer_next(struct service *service, const struct service_in *in,
                        const struct detached_job *job)
{
    struct message *message = message_create(MSG_ANSWER);
    if (message != NULL) {
        message->answer.request =
            in->message->kind == MSG_SUBMIT         ? in->message->submit.request
            : in->message->kind == MSG_SUBMIT_TASKS ? in->message->submit_tasks.request
            : in->message->kind == MSG_SUBMIT_END   ? in->message->submit_end.request
                                                    : 0;
        message->answer.concerned = job->about.state != STORE_FILLING;
        message->answer.tasks = job->about.tasks;
    }
    service_answer(service, in->link, in->message, &message);
}

/* The first file that is not whole; *ret_have is how much of it is here. NULL: none. */
static const struct msg_file *
find_wanted(struct service *service, const struct detached_job *job, uint64_t *ret_have)
{
    const struct message *spec = job->about.spec;
    farpool_error error;
    for (uint32_t i = 0; i < spec->submit.files_count && !service->failed; i++) {
        const struct msg_file *file = &spec->submit.files[i];
        if (store_file_need(service->store, job->about.id, file, ret_have, &error) != 0)
            service_fail(service, &error);
        else if (*ret_have < file->size)
            return file;
    }
    return NULL;
}

/* What is wanted next: a piece of a file, or inputs. */
static void want(struct service *service, const struct service_in *in,
                 const struct detached_job *job)
{
    uint64_t have = 0;
    const struct msg_file *file =
        job->about.state == STORE_FILLING ? find_wanted(service, job, &have) : NULL;
    if (file == NULL) {
        answer_next(service, in, job);
        return;
    }
    struct message *message = message_create(MSG_FETCH);
    const uint64_t left = file->size - have;
    if (message != NULL) {
        message->fetch.pool = job->about.spec->submit.submit;
        message->fetch.content = file->content;
        message->fetch.offset = have;
        message->fetch.bytes = left < PIECE_BYTES ? (uint32_t)left : PIECE_BYTES;
    }
    service_answer(service, in->link, in->message, &message);
}

static bool is_taken_well(struct service *service, const struct service_in *in)
{
    const struct message *message = in->message;
    uint64_t bytes = 0;
    if (!is_name(message->submit.name)) {
        service_refuse(service, in->link, message, FARPOOL_EINVAL,
                       "a detached job's name has 1 to %d letters, digits and . _ -, and "
                       "does not begin with -: \"%s\" is none",
                       NODE_NAME_MAX, message->submit.name);
        return false;
    }
    if (message->submit.losses_max == 0) {
        service_refuse(service, in->link, message, FARPOOL_EINVAL,
                       "losses_max is 0: at least 1 is wanted");
        return false;
    }
    if (id_is_zero(&message->submit.submit) || message->submit.files_count == 0) {
        service_refuse(service, in->link, message, FARPOOL_EPROTOCOL,
                       "SUBMIT without an id or a program");
        return false;
    }
    if (HASH_COUNT(service->jobs) >= JOBS_MAX) {
        service_refuse(service, in->link, message, FARPOOL_EFULL,
                       "the coordinator already keeps %d detached jobs (its limit)",
                       JOBS_MAX);
        return false;
    }
    for (uint32_t i = 0; i < message->submit.files_count; i++) {
        const uint64_t size = message->submit.files[i].size;
        bytes = bytes + size < bytes ? UINT64_MAX : bytes + size;
    }
    return has_room(service, in, bytes);
}

static void begin(struct service *service, struct service_in *in)
{
    farpool_error error;
    struct detached_job *job =
        service_find_submit(service, &in->holder, &in->message->submit.submit);
    if (job != NULL) {
        want(service, in, job);
        return;
    }
    if (!is_taken_well(service, in))
        return;
    struct store_job about = {.owner = in->holder,
                              .submitted_ms = service->config.wall_ms(),
                              .tag = (uint32_t)rng_next(&service->seed),
                              .spec = message_copy(in->message)};
    service_chance_id(service, &about.seed);
    int code = about.spec != NULL ? store_job_add(service->store, &about, &error)
                                  : error_set(&error, FARPOOL_ENOMEM, "out of memory");
    if (code == 0 && (job = service_add_job(service, &about)) == NULL)
        code = error_set(&error, FARPOOL_ENOMEM, "out of memory");
    message_free(&about.spec);
    if (code == 0 && job != NULL) {
        want(service, in, job);
        return;
    }
    if (code != FARPOOL_EEXISTS)
        service_fail(service, &error);
    service_refuse_error(service, in->link, in->message, &error);
}

static void take_piece(struct service *service, struct service_in *in,
                       struct detached_job *job)
{
    const struct message *blob = in->message;
    const struct payload *data = blob->blob.data;
    farpool_error error;
    uint64_t have = 0;
    const struct msg_file *file = find_wanted(service, job, &have);
    if (blob->blob.code != 0 || data == NULL || data->size == 0) {
        service_refuse(service, in->link, blob, FARPOOL_EPROGRAM,
                       "a file of the program cannot be read");
        return;
    }
    if (file != NULL && hash_equal(&file->content, &blob->blob.content) &&
        have == blob->blob.offset) {
        if (data->size > file->size - have) {
            service_refuse(service, in->link, blob, FARPOOL_EPROGRAM,
                           "the file %s has become longer", file->name);
            return;
        }
        const int code = store_file_add(service->store, file, have, data, &error);
        if (code != 0 && code != FARPOOL_EPROGRAM)
            service_fail(service, &error);
        if (code != 0) {
            service_refuse_error(service, in->link, blob, &error);
            return;
        }
    }
    want(service, in, job);
}

/* The part of a span that is new; 0: none of it. */
static int add_span(struct service *service, struct detached_job *job,
                    const struct msg_span *span, farpool_error *error)
{
    struct msg_span part;
    const uint64_t end = span->first + span->count, have = job->about.tasks;
    if (end <= have)
        return 0;
    if (span->first > have)
        return error_set(error, FARPOOL_EPROTOCOL, "inputs %llu to %llu are missing",
                         (unsigned long long)have, (unsigned long long)span->first);
    int code = span_slice(span, have, (uint32_t)(end - have), &part);
    if (code != 0)
        return error_set(error, code, "out of memory");
    code = store_input_add(service->store, job->about.id, &part, error);
    if (code == 0) {
        job->about.tasks = end;
        job->about.bytes += span_bytes(&part);
        service_touch_job(service, job);
    }
    span_fini(&part);
    return code;
}

static void take_tasks(struct service *service, const struct service_in *in,
                       struct detached_job *job)
{
    const struct message *message = in->message;
    farpool_error error;
    if (!has_room(service, in, message_body_bytes(message)))
        return;
    for (uint32_t i = 0; i < message->submit_tasks.spans_count; i++) {
        const int code = add_span(service, job, &message->submit_tasks.spans[i], &error);
        if (code == 0)
            continue;
        if (code != FARPOOL_EPROTOCOL)
            service_fail(service, &error);
        service_refuse_error(service, in->link, message, &error);
        return;
    }
    answer_next(service, in, job);
}

static void finish(struct service *service, const struct service_in *in,
                   struct detached_job *job)
{
    uint64_t have = 0;
    if (find_wanted(service, job, &have) != NULL ||
        in->message->submit_end.tasks != job->about.tasks) {
        service_refuse(service, in->link, in->message, FARPOOL_EPROTOCOL,
                       "SUBMIT_END before all is there: %llu inputs are, and %llu were "
                       "told",
                       (unsigned long long)job->about.tasks,
                       (unsigned long long)in->message->submit_end.tasks);
        return;
    }
    job->about.state = job->about.tasks > 0 ? STORE_OPEN : STORE_ENDED;
    service_place_job(service, job);
    service_touch_job(service, job);
    service_log(service, LOG_INFO, "detached-submitted", "name=%s owner=%s tasks=%llu",
                job->about.spec->submit.name, job->about.owner.name,
                (unsigned long long)job->about.tasks);
    answer_next(service, in, job);
}

void service_submit(struct service *service, struct service_in *in)
{
    const struct message *message = in->message;
    if (message->kind == MSG_SUBMIT) {
        begin(service, in);
        return;
    }
    const struct id *submit = message->kind == MSG_BLOB ? &message->blob.pool
                              : message->kind == MSG_SUBMIT_TASKS
                                  ? &message->submit_tasks.submit
                                  : &message->submit_end.submit;
    struct detached_job *job = service_find_submit(service, &in->holder, submit);
    if (job == NULL) {
        service_refuse(service, in->link, message, FARPOOL_ENOJOB,
                       "what was submitted is gone: cancelled, or nothing more came for "
                       "%d s",
                       FILLING_S);
        return;
    }
    job->idle_s = 0;
    if (job->about.state != STORE_FILLING)
        answer_next(service, in, job);
    else if (message->kind == MSG_BLOB)
        take_piece(service, in, job);
    else if (message->kind == MSG_SUBMIT_TASKS)
        take_tasks(service, in, job);
    else
        finish(service, in, job);
}
