/* SPDX-License-Identifier: Apache-2.0
 *
 * service_run.c: a job at work: a client's core with a pool of its submitter's key, as
 * the coordinator sees it a client like any other. Its inputs come from the store, as
 * many as it pulls; its results go there.
 *
 * An ACK is said by a FLUSH alone, and a run is flushed when the transaction with its
 * results is on the disk: so each result is stored before a worker may forget it, and so
 * is each new attempt, before a worker may hear of it. A run that meets trouble is
 * closed, and opened again from the store later, as after a restart.
 *
 * Pool and job have the same ids in each life of the coordinator, and tasks the attempts
 * that they had: so workers go on with what they hold. */
#include "common/base/span.h"
#include "common/sys/sys.h"
#include "detached/service_internal.h"

#include <stdio.h>
#include <string.h>

/* --------------------------------------------------------------------- opening */

static struct message *make_open(const struct store_job *about)
{
    const struct message *spec = about->spec;
    struct message *open = message_create(MSG_POOL_OPEN);
    const size_t size = spec->submit.files_count * sizeof *spec->submit.files;
    if (open == NULL)
        return NULL;
    open->pool_open.seed = about->seed;
    sys_pool_id(&about->owner.key, &open->pool_open.seed, &open->pool_open.pool);
    open->pool_open.program = spec->submit.program;
    memcpy(open->pool_open.name, spec->submit.program_name, sizeof open->pool_open.name);
    memcpy(open->pool_open.machine, spec->submit.machine, sizeof open->pool_open.machine);
    open->pool_open.processes = spec->submit.processes;
    open->pool_open.tasks_per_process = spec->submit.tasks_per_process;
    memcpy(open->pool_open.initializer, spec->submit.initializer,
           sizeof open->pool_open.initializer);
    open->pool_open.argument = payload_ref(spec->submit.argument);
    open->pool_open.files = mem_alloc(size);
    if (open->pool_open.files == NULL) {
        message_free(&open);
        return NULL;
    }
    memcpy(open->pool_open.files, spec->submit.files, size);
    open->pool_open.files_count = spec->submit.files_count;
    return open;
}

int run_step(struct service *service, struct run *run, struct client_event *event)
{
    event->now_ms = service->now_ms;
    const int code = client_core_step(run->core, event, &service->effects);
    message_free(&event->message);
    return code;
}

static int open_job(struct service *service, struct run *run)
{
    const struct message *spec = run->job->about.spec;
    struct client_job_options options = {.chunk = spec->submit.chunk,
                                         .timeout_ms = spec->submit.timeout_ms,
                                         .cpu_ms = spec->submit.cpu_ms,
                                         .memory_bytes = spec->submit.memory_bytes,
                                         .retries = spec->submit.retries,
                                         .losses_max = spec->submit.losses_max,
                                         .speculate = spec->submit.speculate,
                                         .lazy = true,
                                         .bytes_under_way = RUN_BYTES,
                                         .tells_again = true,
                                         .tasks = run->job->about.tasks};
    memcpy(options.function, spec->submit.function, sizeof options.function);
    struct client_event event = {.kind = CLIENT_JOB_OPEN, .options = &options};
    const int code = run_step(service, run, &event);
    run->number = event.job;
    return code;
}

/* The core, with all that was under way. */
static int fill(struct service *service, struct run *run,
                const struct client_config *config, farpool_error *error)
{
    struct store_job *about = &run->job->about;
    int code = about->is_checked ? 0 : store_job_check(service->store, about, error);
    if (code != 0)
        return code;
    if (client_core_create(config, service->now_ms, &run->core) != 0 ||
        open_job(service, run) != 0)
        return error_set(error, FARPOOL_ENOMEM, "out of memory");
    return input_resume(service, run, error);
}

int run_open(struct service *service, struct detached_job *job)
{
    struct client_config config = {.job_tag = job->about.tag,
                                   .pid = service->config.pid,
                                   .ack_wait_ms = 1000,
                                   .resumes = job->about.given > 0};
    farpool_error error = {.code = FARPOOL_ENOMEM};
    struct run *run = mem_alloc(sizeof *run);
    if (run == NULL)
        return FARPOOL_ENOMEM;
    run->job = job;
    run->open = make_open(&job->about);
    service_chance_id(service, &config.client);
    snprintf(config.host, sizeof config.host, "detached:%.*s", NODE_NAME_MAX - 9,
             job->about.spec->submit.name);
    if (run->open != NULL) {
        config.pool = run->open->pool_open.pool;
        config.open = run->open;
    }
    job->run = run;
    TAILQ_INSERT_TAIL(&service->runs, run, entry);
    service->runs_count++;
    service_place_job(service, job);
    if (run->open != NULL && fill(service, run, &config, &error) == 0) {
        job->stall_code = 0;
        return 0;
    }
    if (error.code == FARPOOL_ESYSTEM) /* damaged: the same whenever it is tried again */
        service_end_job(service, job, STORE_FAILED, error.code, error.text);
    else
        run_close(service, run);
    return error.code;
}

static void hang_up(struct service *service, struct run *run)
{
    struct service_out *out =
        run->link != 0 ? service_add_out(service, SERVICE_HANG_UP) : NULL;
    if (out != NULL)
        out->link = run->link;
    run->link = 0;
    run->is_open = false;
    run->up_ms = service->now_ms + LINK_MS;
}

void run_close(struct service *service, struct run *run)
{
    hang_up(service, run);
    run->job->run = NULL;
    TAILQ_REMOVE(&service->runs, run, entry);
    service->runs_count--;
    service_place_job(service, run->job);
    client_core_destroy(run->core);
    span_set_destroy(run->tries);
    message_free(&run->open);
    mem_free(run);
}

/* It cannot go on now: tried again later. */
static void stall(struct service *service, struct run *run, int code, const char *text)
{
    struct detached_job *job = run->job;
    run_close(service, run);
    job->stall_code = code;
    snprintf(job->stall_text, sizeof job->stall_text, "%s", text);
    job->retry_ms = service->now_ms + RETRY_MS;
    service_log(service, LOG_WARNING, "detached-stalled", "name=%s reason=\"%s\"",
                job->about.spec->submit.name, text);
}

/* --------------------------------------------------------------------- effects */

static void say(struct service *service, struct run *run, struct message **message)
{
    struct service_out *out =
        run->link != 0 ? service_add_out(service, SERVICE_SAY) : NULL;
    if (out != NULL) {
        out->link = run->link;
        out->holder = run->job->about.owner;
        out->message = *message;
        *message = NULL;
    } else if (run->link != 0) {
        hang_up(service, run); /* the other end would wait for it */
    }
    message_free(message);
}

static void store_result(struct service *service, struct run *run,
                         const struct store_result *result)
{
    struct store_job *about = &run->job->about;
    const uint64_t bytes = result->data != NULL ? result->data->size : 0;
    farpool_error error;
    if (service->failed)
        return;
    if (store_result_add(service->store, about->id, result, &error) != 0) {
        service_fail(service, &error);
        return;
    }
    if (result->failed.code == 0)
        about->done += result->count;
    else
        about->failed += result->count;
    about->bytes += bytes;
    run->consumed += result->count;
    run->consumed_bytes += bytes;
    service_touch_job(service, run->job);
    if (about->done + about->failed == about->tasks)
        about->state = STORE_ENDED;
}

static void take_result(struct service *service, struct run *run,
                        struct client_effect *effect)
{
    struct store_result result = {.first = effect->first, .count = effect->count};
    if (effect->kind == CLIENT_DONE) {
        result.sizes = effect->sizes;
        result.data = effect->data;
    } else if (effect->count > 0) {
        result.failed.code = effect->code;
        result.failed.attempt = effect->attempt;
        result.failed.exit_status = -1;
        memcpy(result.failed.node, effect->node, sizeof effect->node);
        result.failed.message = effect->text;
    } else {
        result.failed = effect->failed;
        result.first = effect->failed.index;
        result.count = 1;
    }
    store_result(service, run, &result);
}

/* The attempt that the next flush may send. */
static void take_again(struct service *service, struct run *run,
                       const struct client_effect *effect)
{
    const struct store_try again = {.first = effect->first,
                                    .count = effect->count,
                                    .attempt = effect->attempt,
                                    .losses = effect->losses,
                                    .failures = effect->failures};
    farpool_error error;
    if (service->failed)
        return;
    if (store_try_add(service->store, run->job->about.id, &again, &error) != 0) {
        service_fail(service, &error);
        return;
    }
    run->job->about.tries++;
    service_touch_job(service, run->job);
}

static const struct msg_file *find_file(const struct run *run, const struct hash *content)
{
    const struct message *spec = run->job->about.spec;
    for (uint32_t i = 0; i < spec->submit.files_count; i++)
        if (hash_equal(&spec->submit.files[i].content, content))
            return &spec->submit.files[i];
    return NULL;
}

static void read_file(struct service *service, struct run *run,
                      const struct client_effect *effect)
{
    struct message *blob = message_create(MSG_BLOB);
    const struct msg_file *file = find_file(run, &effect->content);
    farpool_error error;
    if (blob == NULL)
        return; /* the node asks again */
    blob->blob.pool = run->open->pool_open.pool;
    blob->blob.worker = effect->worker;
    blob->blob.content = effect->content;
    blob->blob.offset = effect->offset;
    if (file == NULL) {
        blob->blob.code = FARPOOL_EPROGRAM;
    } else if (effect->offset >= file->size) {
        blob->blob.data = payload_create(0);
    } else {
        blob->blob.code =
            store_file_read(service->store, &effect->content, effect->offset,
                            effect->count, &blob->blob.data, &error);
        if (blob->blob.code == FARPOOL_ENOMEM) {
            message_free(&blob); /* which is no reason to fail; the node asks again */
            return;
        }
        if (blob->blob.code != 0)
            service_log(service, LOG_ERROR, "detached-damaged", "reason=\"%s\"",
                        error.text);
    }
    say(service, run, &blob);
}

/* Carries out one; false: the run is closed. */
static bool carry_out(struct service *service, struct run *run,
                      struct client_effect *effect);

static void take_effects(struct service *service, struct run *run)
{
    bool open = true;
    while (open && service->effects.count > 0) {
        struct client_effects effects = service->effects;
        service->effects =
            (struct client_effects){NULL, 0, 0}; /* carrying out makes more */
        for (size_t i = 0; open && i < effects.count; i++)
            open = carry_out(service, run, &effects.items[i]);
        client_effects_fini(&effects);
    }
    client_effects_clear(&service->effects);
}

static bool give_input(struct service *service, struct run *run)
{
    farpool_error error;
    const int code = input_give(service, run, &error);
    if (code == 0)
        return true;
    if (code == FARPOOL_ESYSTEM) { /* damaged: the same whenever it is tried again */
        service_end_job(service, run->job, STORE_FAILED, code, error.text);
        return false;
    }
    stall(service, run, code, farpool_error_text(code));
    return false;
}

/* ------------------------------------------------------------------ its events */

static bool fail_run(struct service *service, struct run *run,
                     const struct client_effect *effect)
{
    char text[400];
    snprintf(text, sizeof text, "%s%s%s",
             effect->text[0] != '\0' ? effect->text : farpool_error_text(effect->code),
             effect->node[0] != '\0' ? ", on " : "", effect->node);
    if (effect->code == FARPOOL_EFULL || effect->code == FARPOOL_ENOCOORDINATOR)
        stall(service, run, effect->code, text);
    else
        service_end_job(service, run->job, STORE_FAILED, effect->code, text);
    return false;
}

static bool end_run(struct service *service, struct run *run,
                    const struct client_effect *effect)
{
    struct client_event event = {.kind = CLIENT_CLOSE};
    if (effect->code != 0 && run->job->about.state == STORE_OPEN) {
        service_end_job(service, run->job, STORE_CANCELLED, FARPOOL_ECANCELLED,
                        effect->text);
        return false;
    }
    run_step(service, run, &event);
    event = (struct client_event){.kind = CLIENT_FLUSH};
    run_step(service, run, &event);
    return true;
}

static bool carry_out(struct service *service, struct run *run,
                      struct client_effect *effect)
{
    switch (effect->kind) {
    case CLIENT_DIAL: /* it asks for no lanes */
    case CLIENT_HANG_UP:
        break;
    case CLIENT_SEND:
        say(service, run, &effect->message);
        return true;
    case CLIENT_RELINK:
        hang_up(service, run);
        return true;
    case CLIENT_DONE:
    case CLIENT_FAILED:
        take_result(service, run, effect);
        return true;
    case CLIENT_INPUT_WANTED:
        run->wanted = effect->count;
        run->wanted_bytes = effect->bytes;
        return give_input(service, run);
    case CLIENT_AGAIN:
        take_again(service, run, effect);
        return true;
    case CLIENT_READ_FILE:
        read_file(service, run, effect);
        return true;
    case CLIENT_POOL_FAILED:
        return fail_run(service, run, effect);
    case CLIENT_JOB_ENDED:
        return end_run(service, run, effect);
    case CLIENT_WARNING:
        service_log(service, LOG_WARNING, "detached-warning",
                    "name=%s node=%s reason=\"%s\"", run->job->about.spec->submit.name,
                    effect->node, effect->text);
        return true;
    case CLIENT_POOL_ENDED:
        run_close(service, run);
        return false;
    case CLIENT_READY:
    case CLIENT_OUTPUT:
        return true;
    }
    return true;
}

static struct run *find_run(const struct service *service, uint64_t link)
{
    struct run *run;
    TAILQ_FOREACH (run, &service->runs, entry)
        if (run->link == link)
            return run;
    return NULL;
}

/* What came may have been what inputs waited for. */
static void look_at_pool(struct service *service, uint64_t link, bool state)
{
    struct run *run = find_run(service, link); /* unless it was closed meanwhile */
    if (run == NULL)
        return;
    run->is_open |= state;
    if (run->wanted > 0)
        give_input(service, run);
}

void run_take(struct service *service, struct service_in *in)
{
    struct run *run = find_run(service, in->link);
    struct client_event event = {.kind = CLIENT_MESSAGE, .message = in->message};
    const bool state = in->message != NULL && in->message->kind == MSG_POOL_STATE;
    if (run == NULL)
        return;
    in->message = NULL;
    if (in->kind == SERVICE_INNER_DOWN) {
        event.kind = CLIENT_LINK_DOWN;
        event.text = "dropped";
        run->link = 0;
        run->is_open = false;
        run->up_ms = service->now_ms + LINK_MS;
    }
    if (run_step(service, run, &event) != 0) {
        stall(service, run, FARPOOL_ENOMEM, "out of memory");
        return;
    }
    take_effects(service, run);
    if (in->kind == SERVICE_INNER)
        look_at_pool(service, in->link, state);
}

void run_committed(struct service *service, struct run *run)
{
    struct client_event event = {.kind = CLIENT_JOB_CONSUMED,
                                 .job = run->number,
                                 .count = run->consumed,
                                 .bytes = run->consumed_bytes};
    if (run->consumed == 0)
        return;
    run->consumed = run->consumed_bytes = 0;
    run_step(service, run, &event); /* a job that has just ended is not known any more */
}

void run_flush(struct service *service, struct run *run)
{
    struct client_event event = {.kind = CLIENT_FLUSH};
    if (run->link == 0 && service->now_ms >= run->up_ms) {
        struct client_event up = {.kind = CLIENT_LINK_UP};
        run->link = service->config.first_link + ++service->links;
        if (run_step(service, run, &up) != 0) { /* nobody has heard of it */
            run->link = 0;
            run->up_ms = service->now_ms + LINK_MS;
        }
    }
    run_step(service, run, &event);
    take_effects(service, run);
}

uint64_t run_deadline(const struct run *run)
{
    const uint64_t deadline = client_core_deadline(run->core);
    return run->link == 0 && run->up_ms < deadline ? run->up_ms : deadline;
}
