/* SPDX-License-Identifier: Apache-2.0
 *
 * service_input.c: the inputs of a run, from the store. Those below `given`, which may
 * have been sent before the coordinator was restarted, and have no result, are under way
 * for the core from the start, each with its last attempt: it sends them again as any
 * client does on another link. All others are pulled.
 *
 * `given` is on the disk before a task is sent that is not below it. Of a job that must
 * run no task twice it is exact, since what is below it and held by no worker "may have
 * run"; of others it is ahead, so that it costs no transaction of its own: what was not
 * sent is sent "again" then, which does no harm. For the same reason such a job's inputs
 * are given only when the coordinator has taken the pool, and has a node for it. */
#include "common/base/span.h"
#include "detached/service_internal.h"

static bool is_once(const struct run *run)
{
    return run->job->about.spec->submit.losses_max == 1;
}

/* ------------------------------------------------------------------------ attempts */

struct reading {
    struct service *service;
    struct run *run;
};

/* Makes room in the set for [first, end): what is there is of lower attempts. */
static int take_out(struct span_set *set, uint64_t first, uint64_t end)
{
    const struct span_item *item;
    int code = span_set_cut(set, first);
    if (code == 0)
        code = span_set_cut(set, end);
    while (code == 0 && (item = span_set_at_or_after(set, first)) != NULL &&
           item->span.first < end)
        code = span_set_take(set, item->span.first, item->span.count, NULL);
    return code;
}

static int take_try(void *user, const struct store_try *again)
{
    const struct reading *reading = user;
    const struct run *run = reading->run;
    struct store_result result;
    farpool_error error;
    struct msg_span span = {.first = again->first,
                            .count = (uint32_t)again->count,
                            .attempt = again->attempt};
    int code = store_result_read(reading->service->store, run->job->about.id,
                                 again->first, false, &result, &error);
    if (code != 0 && code != FARPOOL_END)
        return code;
    if (code == 0 && result.first <= again->first &&
        result.first + result.count >= again->first + again->count)
        return 0; /* they have ended since */
    code = take_out(run->tries, again->first, again->first + again->count);
    return code == 0 ? span_set_add(run->tries, &span, again->losses, again->failures)
                     : code;
}

static int read_tries(struct service *service, struct run *run, farpool_error *error)
{
    struct reading reading = {service, run};
    int code = span_set_create(&run->tries);
    if (code != 0)
        return error_set(error, code, "out of memory");
    return run->job->about.tries == 0
               ? 0
               : store_tries_read(service->store, run->job->about.id, take_try, &reading,
                                  error);
}

/* The attempt of run->next, and until where that holds, in *end. */
static void find_try(const struct run *run, struct client_event *event, uint64_t *end)
{
    const struct span_item *item = span_set_find(run->tries, run->next);
    uint64_t until = UINT64_MAX;
    event->span.attempt = 1;
    if (item != NULL) {
        until = item->span.first + item->span.count;
        event->span.attempt = item->span.attempt;
        event->losses = item->tag;
        event->failures = item->tag2;
    } else if ((item = span_set_at_or_after(run->tries, run->next)) != NULL) {
        until = item->span.first;
    }
    if (until < *end)
        *end = until;
}

/* -------------------------------------------------------------------------- giving */

/* Passes over what has a result, from before; where that ends there is an input to give:
 * up to *ret_end. */
static int skip(struct service *service, struct run *run, uint64_t *ret_end,
                farpool_error *error)
{
    const struct store_job *about = &run->job->about;
    int code = 0;
    *ret_end = about->tasks;
    while (code == 0 && run->next < about->tasks) {
        struct store_result result;
        code = store_result_read(service->store, about->id, run->next, false, &result,
                                 error);
        if (code == FARPOOL_END)
            return 0;
        if (code == 0 && result.first > run->next) {
            *ret_end = result.first;
            return 0;
        }
        if (code == 0) {
            struct client_event event = {.kind = CLIENT_JOB_SKIP, .job = run->number};
            event.count = result.first + result.count - run->next;
            run->next += event.count;
            run_step(service, run, &event);
        }
    }
    return code;
}

static int read_inputs(struct service *service, const struct run *run, uint64_t count,
                       uint64_t bytes, struct msg_span *ret_span, farpool_error *error)
{
    struct msg_span span;
    int code = store_input_read(service->store, run->job->about.id, run->next, count,
                                &span, error);
    if (code != 0)
        return code;
    code = span_slice(&span, span.first, span_fit(&span, bytes), ret_span);
    span_fini(&span);
    return code != 0 ? error_set(error, code, "%s", farpool_error_text(code)) : 0;
}

/* Some of the next inputs, all of one attempt; takes what they are from count and bytes.
 */
static int give_some(struct service *service, struct run *run, bool under_way,
                     uint64_t *count, uint64_t *bytes, farpool_error *error)
{
    struct client_event event = {.job = run->number, .under_way = under_way};
    uint64_t end = 0;
    int code = skip(service, run, &end, error);
    if (code != 0 || run->next == run->job->about.tasks)
        return code;
    find_try(run, &event, &end);
    const uint32_t attempt = event.span.attempt;
    const uint64_t most = *count < end - run->next ? *count : end - run->next;
    code = read_inputs(service, run, most, *bytes, &event.span, error);
    if (code != 0)
        return code;
    const uint64_t given = event.span.count, size = span_bytes(&event.span);
    event.kind = under_way || attempt > 1 ? CLIENT_JOB_AGAIN : CLIENT_JOB_INPUT;
    event.span.attempt = attempt;
    code = run_step(service, run, &event);
    span_fini(&event.span);
    if (code != 0)
        return error_set(error, code, "%s", farpool_error_text(code));
    run->next += given;
    *count -= given < *count ? given : *count;
    *bytes -= size < *bytes ? size : *bytes;
    return 0;
}

static int end_input(struct service *service, struct run *run, farpool_error *error)
{
    struct client_event event = {.kind = CLIENT_JOB_INPUT_END, .job = run->number};
    if (run->next < run->job->about.tasks || run->input_ended)
        return 0;
    run->input_ended = true;
    const int code = run_step(service, run, &event);
    return code != 0 ? error_set(error, code, "%s", farpool_error_text(code)) : 0;
}

/* So far may be sent, after the commit. */
static void promise(struct service *service, struct run *run)
{
    struct store_job *about = &run->job->about;
    const uint64_t left = about->tasks - run->next;
    if (run->next <= about->given)
        return;
    about->given = run->next;
    if (!is_once(run))
        about->given += left < GIVEN_AHEAD ? left : GIVEN_AHEAD;
    service_touch_job(service, run->job);
}

int input_resume(struct service *service, struct run *run, farpool_error *error)
{
    const uint64_t given = run->job->about.given;
    uint64_t bytes = is_once(run) ? UINT64_MAX : RUN_BYTES;
    int code = read_tries(service, run, error);
    while (code == 0 && bytes > 0 && run->next < given) {
        uint64_t count = given - run->next, end = 0;
        code = skip(service, run, &end, error);
        if (code == 0 && run->next < given) {
            count = given - run->next;
            code = give_some(service, run, true, &count, &bytes, error);
        }
    }
    return code == 0 ? end_input(service, run, error) : code;
}

int input_give(struct service *service, struct run *run, farpool_error *error)
{
    struct client_pool_counts pool;
    int code = 0;
    client_core_pool_counts(run->core, &pool);
    if (run->wanted == 0 || !run->is_open || (is_once(run) && pool.slots == 0))
        return 0;
    uint64_t count = run->wanted, bytes = run->wanted_bytes;
    run->wanted = run->wanted_bytes = 0;
    while (code == 0 && count > 0 && bytes > 0 && run->next < run->job->about.tasks)
        code = give_some(service, run, false, &count, &bytes, error);
    promise(service, run);
    service->more = true;
    return code == 0 ? end_input(service, run, error) : code;
}
