/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_client.c: the client core, with a program that keeps to client/core.h, and a
 * coordinator and workers on lanes that may say anything. No invariant may break, no task
 * may end twice, and nothing may leak. */
#include "client/core.h"
#include "tests/fuzz/fuzz_build.h"

#include <stdio.h>

#define JOBS 4
#define LANES 3
#define TASKS_MAX 512

struct job {
    uint64_t number; /* 0: none */
    bool lazy, input_ended;
    uint64_t pulled, ended, consumed;
    uint64_t wanted, wanted_bytes; /* whichever is used up first */
    bool ends[TASKS_MAX];
    uint64_t output_bytes;
};

struct program {
    struct fuzz_input bytes;
    struct client_core *core;
    struct client_effects effects;
    uint64_t now_ms;
    bool linked, closed, ended;
    struct job jobs[JOBS];
    uint64_t lanes[LANES]; /* as dialled; 0: not */
};

static int step(struct program *program, struct client_event *event)
{
    int result;

    event->now_ms = program->now_ms;
    fuzz_arm(&program->bytes);
    result = client_core_step(program->core, event, &program->effects);
    mem_fail_after(0);
    client_core_check(program->core);
    if (result == FARPOOL_ENOMEM)
        result = client_core_step(program->core, event, &program->effects);
    client_core_check(program->core);
    message_free(&event->message);
    payload_unref(&event->span.sizes);
    payload_unref(&event->span.data);
    if (result != 0 && result != FARPOOL_EINVAL && result != FARPOOL_ECLOSED)
        abort();
    return result;
}

/* ----------------------------------------------------------------- effects */

static struct job *find(struct program *program, uint64_t number)
{
    for (int i = 0; i < JOBS; i++)
        if (program->jobs[i].number == number)
            return &program->jobs[i];
    return NULL;
}

static void end_tasks(struct job *job, uint64_t first, uint64_t count)
{
    if (first >= job->pulled || count > job->pulled - first)
        abort();
    for (uint64_t i = first; i < first + count; i++) {
        if (job->ends[i])
            abort();
        job->ends[i] = true;
        job->ended++;
    }
}

static void apply_lane(struct program *program, const struct client_effect *effect)
{
    const int place = effect->content.bytes[0] - 1;

    if (effect->kind == CLIENT_DIAL && place >= 0 && place < LANES)
        program->lanes[place] = effect->lane;
    for (int i = 0; effect->kind == CLIENT_HANG_UP && i < LANES; i++)
        if (program->lanes[i] == effect->lane)
            program->lanes[i] = 0;
}

static void apply(struct program *program, struct client_effect *effect)
{
    struct job *job = effect->job ? find(program, effect->job) : NULL;
    struct frames frames = {0};

    if (effect->message && message_encode(effect->message, &frames) != 0)
        abort();
    frames_fini(&frames);
    apply_lane(program, effect);
    if (effect->kind == CLIENT_RELINK)
        program->linked = false;
    if (effect->kind == CLIENT_POOL_ENDED)
        program->ended = true;
    if (!job)
        return;
    if (effect->kind == CLIENT_DONE) {
        end_tasks(job, effect->first, effect->count);
        job->output_bytes += effect->data ? effect->data->size : 0;
    } else if (effect->kind == CLIENT_FAILED) {
        end_tasks(job, effect->count ? effect->first : effect->failed.index,
                  effect->count ? effect->count : 1);
    } else if (effect->kind == CLIENT_INPUT_WANTED) {
        if (job->wanted || !job->lazy)
            abort();
        job->wanted = effect->count;
        job->wanted_bytes = effect->bytes;
    } else if (effect->kind == CLIENT_JOB_ENDED) {
        memset(job, 0, sizeof *job);
    }
}

static void flush(struct program *program)
{
    struct client_event event = {.kind = CLIENT_FLUSH};

    step(program, &event);
    for (size_t i = 0; i < program->effects.count; i++)
        apply(program, &program->effects.items[i]);
    client_effects_clear(&program->effects);
    client_core_deadline(program->core);
}

/* ----------------------------------------------------- what the program does */

static void open_job(struct program *program, struct job *job)
{
    struct fuzz_input *bytes = &program->bytes;
    struct client_job_options options = {.chunk = fuzz_take(bytes) % 8,
                                         .retries = fuzz_take(bytes) % 3,
                                         .losses_max = 1 + fuzz_take(bytes) % 3,
                                         .lazy = fuzz_take(bytes) % 2,
                                         .tasks_under_way = fuzz_take(bytes) % 16,
                                         .bytes_under_way = fuzz_take(bytes) % 64};
    struct client_event event = {.kind = CLIENT_JOB_OPEN, .options = &options};

    options.speculate = options.losses_max > 2;
    snprintf(options.function, sizeof options.function, "f");
    memset(job, 0, sizeof *job);
    if (step(program, &event) == 0) {
        job->number = event.job;
        job->lazy = options.lazy;
    }
}

static void put_input(struct program *program, struct job *job)
{
    struct fuzz_input *bytes = &program->bytes;
    struct client_event event = {.kind = CLIENT_JOB_INPUT, .job = job->number};
    uint64_t count = 1 + fuzz_take(bytes) % 32;

    if (job->lazy && count > job->wanted)
        count = job->wanted;
    if (job->input_ended || !count || job->pulled + count > TASKS_MAX)
        return;
    event.span.first = job->pulled;
    event.span.count = (uint32_t)count;
    event.span.data = payload_create(count * (fuzz_take(bytes) % 4));
    if (event.span.data->size)
        memset(payload_bytes(event.span.data), 7, event.span.data->size);
    const uint64_t size = event.span.data->size;
    if (step(program, &event) == 0) {
        job->pulled += count;
        job->wanted -= job->lazy ? count : 0;
        job->wanted_bytes -= size < job->wanted_bytes ? size : job->wanted_bytes;
        if (!job->wanted_bytes)
            job->wanted = 0;
    }
}

static void act_job(struct program *program)
{
    uint8_t what = fuzz_take(&program->bytes);
    struct job *job = &program->jobs[what / 8 % JOBS];
    struct client_event event = {.job = job->number};

    flush(program);
    if (!job->number) {
        open_job(program, job);
        return;
    }
    switch (what % 8) {
    case 0:
        event.kind = CLIENT_JOB_INPUT_END;
        if (!job->input_ended && step(program, &event) == 0)
            job->input_ended = true;
        break;
    case 1:
        event.kind = CLIENT_JOB_CONSUMED;
        event.count = job->ended - job->consumed;
        event.bytes = job->output_bytes;
        if (job->lazy && event.count && step(program, &event) == 0) {
            job->consumed = job->ended;
            job->output_bytes = 0;
        }
        break;
    case 2:
        event.kind = CLIENT_JOB_CANCEL;
        event.first = fuzz_take(&program->bytes);
        event.count = 1 + fuzz_take(&program->bytes);
        event.kill = what >= 128;
        step(program, &event);
        break;
    case 3:
        event.kind = CLIENT_JOB_FREE;
        if (what >= 192 && step(program, &event) == 0)
            memset(job, 0, sizeof *job);
        break;
    default:
        put_input(program, job);
    }
}

/* --------------------------------------------------------- the coordinator */

static void say_on(struct program *program, uint64_t lane, struct message *message)
{
    struct client_event event = {
        .kind = CLIENT_MESSAGE, .message = message, .lane = lane};

    if (message && (lane || program->linked))
        step(program, &event);
    message_free(&event.message);
}

static void say(struct program *program, struct message *message)
{
    say_on(program, 0, message);
}

static void link_up(struct program *program)
{
    struct client_event event = {.kind = CLIENT_LINK_UP};
    struct message *welcome = message_create(MSG_WELCOME);

    if (!program->linked)
        step(program, &event);
    program->linked = true;
    welcome->welcome.protocol = PROTOCOL_VERSION;
    fuzz_fill_id(&program->bytes, welcome->welcome.coordinator.bytes);
    welcome->welcome.coordinator.bytes[1] = 3;
    welcome->welcome.tasks_max = 1 + fuzz_value(&program->bytes, 1000);
    welcome->welcome.bytes_max = 1 + fuzz_value(&program->bytes, 1000);
    welcome->welcome.heartbeat_ms = 1000;
    welcome->welcome.silence_ms = 5000;
    welcome->welcome.body_bytes_max = 1000000;
    say(program, fuzz_cross(&welcome));
}

/* A result or a loss of a job that is there. */
static void say_result(struct program *program, uint64_t lane)
{
    static const enum message_kind kinds[] = {MSG_DONE, MSG_DONE, MSG_FAILED, MSG_LOST};
    struct fuzz_input *bytes = &program->bytes;
    const struct job *job = &program->jobs[fuzz_take(bytes) % JOBS];
    struct message *message = fuzz_fill(bytes, kinds[fuzz_take(bytes) % 4]);

    if (message->kind == MSG_DONE) {
        message->done.pool.bytes[0] = 1;
        message->done.job = job->number;
        for (uint32_t i = 0; i < message->done.results_count; i++)
            message->done.results[i].attempt = 1 + fuzz_take(bytes) % 3;
    } else if (message->kind == MSG_FAILED) {
        message->failed.pool.bytes[0] = 1;
        message->failed.job = job->number;
        for (uint32_t i = 0; i < message->failed.results_count; i++)
            message->failed.results[i].attempt = 1 + fuzz_take(bytes) % 3;
    } else {
        message->lost.pool.bytes[0] = 1;
        message->lost.job = job->number;
    }
    say_on(program, lane, fuzz_cross(&message));
}

static struct message *about_lane(struct program *program, int place)
{
    static const enum message_kind kinds[] = {MSG_INTRODUCED, MSG_INTRODUCED, MSG_GRANT,
                                              MSG_WITHDRAW};
    struct fuzz_input *bytes = &program->bytes;
    struct message *message = fuzz_fill(bytes, kinds[fuzz_take(bytes) % 4]);
    const struct id ticket = {.bytes = {(uint8_t)(place + 1)}};

    if (message->kind == MSG_INTRODUCED) {
        message->introduced.ticket = message->introduced.worker = ticket;
        message->introduced.pool = (struct id){.bytes = {1}};
        message->introduced.key.bytes[0] = (uint8_t)(place + 1);
        message->introduced.wait_ms = 5000;
    } else if (message->kind == MSG_GRANT) {
        message->grant.ticket = ticket;
        message->grant.slots = fuzz_take(bytes) % 8;
        message->grant.tasks = 2 * message->grant.slots;
        message->grant.bytes = fuzz_take(bytes);
    } else {
        message->withdraw.ticket = ticket;
    }
    return fuzz_cross(&message);
}

static struct message *welcome_lane(struct program *program, int place)
{
    struct message *message = message_create(MSG_WELCOME_LANE);

    message->welcome_lane.worker = (struct id){.bytes = {(uint8_t)(place + 1)}};
    message->welcome_lane.heartbeat_ms = fuzz_take(&program->bytes) * 8u;
    message->welcome_lane.silence_ms = 5000;
    return fuzz_cross(&message);
}

static void act_lane(struct program *program)
{
    const uint8_t what = fuzz_take(&program->bytes);
    const int place = what / 8 % LANES;
    const uint64_t lane = program->lanes[place];

    flush(program);
    if (what % 8 == 0 || !lane) {
        say(program, about_lane(program, place));
        flush(program);
    } else if (what % 8 == 1) {
        step(program, &(struct client_event){.kind = CLIENT_LINK_UP, .lane = lane});
        say_on(program, lane, welcome_lane(program, place));
    } else if (what % 8 == 2) {
        program->lanes[place] = 0;
        step(program, &(struct client_event){
                          .kind = CLIENT_LINK_DOWN, .lane = lane, .text = "cut"});
    } else if (what % 8 == 3) {
        say_on(program, lane, fuzz_any(&program->bytes));
    } else {
        say_result(program, lane);
    }
}

static void end_pool(struct program *program)
{
    static const enum client_event_kind ends[] = {CLIENT_TERMINATE, CLIENT_CLOSE,
                                                  CLIENT_FAIL};
    const uint8_t which = fuzz_take(&program->bytes) % 3;

    step(program, &(struct client_event){.kind = ends[which],
                                         .code = FARPOOL_ENOMEM,
                                         .text = "out of memory"});
}

static void act(struct program *program)
{
    uint8_t what = fuzz_take(&program->bytes);

    switch (what % 16) {
    case 0:
        link_up(program);
        break;
    case 1:
        if (program->linked && what >= 128)
            step(program,
                 &(struct client_event){.kind = CLIENT_LINK_DOWN, .text = "down"});
        program->linked = program->linked && what < 128;
        break;
    case 2:
        program->now_ms += (what < 128 ? 1 : 50) * (uint64_t)fuzz_take(&program->bytes);
        flush(program);
        break;
    case 3:
        if (what >= 240)
            end_pool(program);
        break;
    case 4:
    case 5:
    case 6:
    case 7:
        act_job(program);
        break;
    case 8:
    case 9:
    case 10:
        say_result(program, 0);
        break;
    case 11:
    case 12:
        act_lane(program);
        break;
    default:
        say(program, fuzz_any(&program->bytes));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct program *program = calloc(1, sizeof *program);
    struct message *open = message_create(MSG_POOL_OPEN);
    struct client_config config = {
        .client = {{8}}, .pool = {{1}}, .job_tag = 0, .lanes = true};

    if (!program || !open)
        abort();
    open->pool_open.pool = config.pool;
    config.open = open;
    program->bytes = (struct fuzz_input){data, size};
    program->now_ms = 1000;
    if (client_core_create(&config, program->now_ms, &program->core) != 0)
        abort();
    link_up(program);
    while (program->bytes.left && !program->ended)
        act(program);
    if (!program->ended)
        flush(program);
    client_core_destroy(program->core);
    client_effects_fini(&program->effects);
    message_free(&open);
    free(program);
    return 0;
}
