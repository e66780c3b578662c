/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_worker.c: the worker core, with a coordinator that may say anything and a host
 * that keeps its word (worker/host.h is the project's own, and trusted): processes start,
 * finish what they were given in order, give back, block, and end at any time. */
#include "tests/fuzz/fuzz_build.h"
#include "worker/core.h"

#include <stdio.h>

#define PROCESSES 64
#define GIVES 64

struct given {
    uint64_t give, first;
    uint32_t count, next, claim; /* below `claim`: cannot be taken back */
};

struct process {
    uint64_t number; /* 0: free place */
    bool ready, closing, blocked;
    struct given gives[GIVES];
    size_t gives_count;
};

struct daemon {
    struct fuzz_input bytes;
    struct worker_core *core;
    struct worker_effects effects;
    uint64_t now_ms;
    bool linked, stopped;
    struct process processes[PROCESSES];
    struct hash program;              /* of the last PROGRAM_OPEN */
    bool asked;                       /* and it was not answered yet */
    uint32_t files;                   /* of that program */
    struct worker_event answers[256]; /* for the next batch */
    size_t answers_count;
};

static void step(struct daemon *daemon, struct worker_event *event)
{
    int result;

    if (daemon->stopped) {
        message_free(&event->message);
        return;
    }
    event->now_ms = daemon->now_ms;
    fuzz_arm(&daemon->bytes);
    result = worker_core_step(daemon->core, event, &daemon->effects);
    mem_fail_after(0);
    worker_core_check(daemon->core);
    if (result == FARPOOL_ENOMEM)
        result = worker_core_step(daemon->core, event, &daemon->effects);
    if (result != 0)
        abort();
    worker_core_check(daemon->core);
    message_free(&event->message);
    payload_unref(&event->data);
    payload_unref(&event->sizes);
}

static void answer(struct daemon *daemon, struct worker_event event)
{
    if (daemon->answers_count == 256)
        abort();
    daemon->answers[daemon->answers_count++] = event;
}

/* ---------------------------------------------------------------- the host */

static struct process *find(struct daemon *daemon, uint64_t number)
{
    for (int i = 0; i < PROCESSES; i++)
        if (daemon->processes[i].number == number)
            return &daemon->processes[i];
    return NULL;
}

static void take_back(struct daemon *daemon, struct process *process, uint64_t count)
{
    struct worker_event event = {.kind = WORKER_PROCESS_TAKEN,
                                 .process = process->number};

    for (size_t i = process->gives_count; i-- > 0 && count;) {
        struct given *given = &process->gives[i];
        uint32_t begun =
            i == 0 && given->next + 1 > given->claim ? given->next + 1 : given->claim;
        uint32_t open = given->count > begun ? given->count - begun : 0;
        uint32_t taken = open < count ? open : (uint32_t)count;

        if (!taken)
            continue;
        given->count -= taken;
        count -= taken;
        event.give = given->give;
        event.first = given->first + given->count;
        event.count = taken;
        answer(daemon, event);
    }
    event.count = 0;
    answer(daemon, event);
}

/* Forgets gives that are done or were taken back as a whole. */
static void drop_done(struct process *process)
{
    while (process->gives_count && process->gives[0].next == process->gives[0].count) {
        process->gives_count--;
        memmove(process->gives, process->gives + 1,
                process->gives_count * sizeof *process->gives);
    }
}

static void apply_process(struct daemon *daemon, struct process *process,
                          const struct worker_effect *effect)
{
    switch (effect->kind) {
    case WORKER_PROCESS_GIVE:
        if (process->gives_count == GIVES || !effect->claim || !effect->publish)
            abort();
        process->gives[process->gives_count++] =
            (struct given){effect->give, effect->span.first, effect->span.count, 0, 0};
        break;
    case WORKER_PROCESS_TAKE_BACK:
        take_back(daemon, process, effect->count);
        break;
    case WORKER_PROCESS_SAMPLE:
        drop_done(process);
        answer(daemon, (struct worker_event){.kind = WORKER_PROCESS_SAMPLED,
                                             .process = process->number,
                                             .running = process->gives_count > 0,
                                             .give = process->gives[0].give,
                                             .first = process->gives[0].first +
                                                      process->gives[0].next,
                                             .began_ms = daemon->now_ms / 2});
        break;
    case WORKER_PROCESS_CLOSE:
        process->closing = true;
        break;
    default:
        break;
    }
}

static void apply(struct daemon *daemon, const struct worker_effect *effect)
{
    struct process *process = effect->process ? find(daemon, effect->process) : NULL;

    if (process) {
        apply_process(daemon, process, effect);
    } else if (effect->kind == WORKER_PROCESS_START) {
        process = find(daemon, 0);
        if (!process)
            abort();
        *process = (struct process){.number = effect->process};
    } else if (effect->kind == WORKER_PROGRAM_OPEN ||
               effect->kind == WORKER_PROGRAM_WRITE) {
        daemon->program = effect->program;
        daemon->asked = true;
        if (effect->kind == WORKER_PROGRAM_OPEN)
            daemon->files = effect->files_count;
    } else if (effect->kind == WORKER_RELINK) {
        daemon->linked = false;
    } else if (effect->kind == WORKER_PROGRAM_CLOSE) {
        if (hash_equal(&daemon->program, &effect->program))
            daemon->asked = false;
    }
}

static void carry_out(struct daemon *daemon)
{
    for (size_t i = 0; i < daemon->effects.count; i++) {
        struct worker_effect *effect = &daemon->effects.items[i];
        struct frames frames = {0};

        if (effect->message && message_encode(effect->message, &frames) != 0)
            abort();
        frames_fini(&frames);
        apply(daemon, effect);
        daemon->stopped = daemon->stopped || effect->kind == WORKER_STOPPED;
    }
    worker_effects_clear(&daemon->effects);
}

static void flush(struct daemon *daemon)
{
    struct worker_event event = {.kind = WORKER_FLUSH};

    step(daemon, &event);
    carry_out(daemon);
    worker_core_deadline(daemon->core);
    while (daemon->answers_count && !daemon->stopped) {
        struct worker_event answers[256];
        size_t count = daemon->answers_count;

        memcpy(answers, daemon->answers, sizeof answers);
        daemon->answers_count = 0;
        for (size_t i = 0; i < count; i++)
            step(daemon, &answers[i]);
        event = (struct worker_event){.kind = WORKER_FLUSH};
        step(daemon, &event);
        carry_out(daemon);
    }
}

/* ------------------------------------------------------- what processes do */

static void finish_some(struct daemon *daemon, struct process *process)
{
    struct given *given = &process->gives[0];
    uint32_t left = given->count - given->next;
    uint32_t count = 1 + fuzz_take(&daemon->bytes) % left;
    struct worker_event event = {.kind = WORKER_PROCESS_DONE,
                                 .process = process->number,
                                 .give = given->give,
                                 .first = given->first + given->next,
                                 .count = count,
                                 .elapsed_ns = 1000 * count};

    if (fuzz_take(&daemon->bytes) % 2)
        event.data = payload_copy("outputs that are longer than any few tasks need",
                                  count < 40 ? count : 0);
    given->next += count;
    drop_done(process);
    step(daemon, &event);
}

static void fail_one(struct daemon *daemon, struct process *process)
{
    struct given *given = &process->gives[0];
    struct worker_event event = {.kind = WORKER_PROCESS_FAILED,
                                 .process = process->number,
                                 .give = given->give,
                                 .first = given->first + given->next,
                                 .code = FARPOOL_EFUNCTION,
                                 .text = "no"};

    given->next++;
    drop_done(process);
    step(daemon, &event);
}

static void end(struct daemon *daemon, struct process *process)
{
    static const int codes[] = {0, 0, FARPOOL_EINITIALIZER, FARPOOL_ELIBRARY};
    struct worker_event event = {.kind = WORKER_PROCESS_GONE,
                                 .process = process->number,
                                 .exit_status = -1,
                                 .signal = 9};

    if (process->gives_count) {
        event.running = process->ready && fuzz_take(&daemon->bytes) % 4;
        event.give = process->gives[0].give;
        event.first = process->gives[0].first + process->gives[0].next;
    }
    if (!process->ready)
        event.code = codes[fuzz_take(&daemon->bytes) % 4];
    process->number = 0;
    step(daemon, &event);
}

/* Of the task that runs, of another one, or of none. */
static void print(struct daemon *daemon, const struct process *process)
{
    static const char text[] = "a line\nb\n\n\nfive\n";
    const uint8_t how = fuzz_take(&daemon->bytes);
    struct worker_event event = {.kind = WORKER_PROCESS_OUTPUT,
                                 .process = process->number,
                                 .pid = 5,
                                 .fd = 1 + how % 2,
                                 .output = text,
                                 .output_bytes = how % 4 < 2 ? 7 : sizeof text - 1};

    if (process->gives_count && how % 8 > 1) {
        event.give = process->gives[0].give;
        event.first = process->gives[0].first + process->gives[0].next + how / 64;
        event.count = 1 + how / 8 % 3;
    }
    step(daemon, &event);
}

static void act_process(struct daemon *daemon)
{
    uint8_t what = fuzz_take(&daemon->bytes);
    struct process *process = &daemon->processes[what / 8 % 8];
    struct worker_event event = {.process = process->number, .pid = 5};

    if (!process->number)
        return;
    drop_done(process);
    if (what % 8 == 0) {
        end(daemon, process);
    } else if (what % 8 == 3) {
        print(daemon, process);
    } else if (!process->ready) {
        event.kind = WORKER_PROCESS_READY;
        process->ready = true;
        step(daemon, &event);
    } else if (process->blocked || (what % 8 == 1 && process->gives_count)) {
        event.kind = process->blocked ? WORKER_PROCESS_UNBLOCKED : WORKER_PROCESS_BLOCKED;
        process->blocked = !process->blocked;
        step(daemon, &event);
    } else if (process->gives_count && what % 8 == 2) {
        fail_one(daemon, process);
    } else if (process->gives_count) {
        finish_some(daemon, process);
    } else if (process->closing) {
        end(daemon, process);
    }
}

static void act_program(struct daemon *daemon)
{
    static const enum worker_event_kind kinds[] = {
        WORKER_PROGRAM_READY, WORKER_PROGRAM_READY, WORKER_PROGRAM_NEEDS,
        WORKER_PROGRAM_FAILED};
    struct worker_event event = {.kind = kinds[fuzz_take(&daemon->bytes) % 4],
                                 .program = daemon->program,
                                 .code = FARPOOL_ENOSPACE,
                                 .text = "no space"};

    if (!daemon->asked || (event.kind == WORKER_PROGRAM_NEEDS && !daemon->files))
        return;
    daemon->asked = false;
    step(daemon, &event);
}

/* --------------------------------------------------------- the coordinator */

static void say(struct daemon *daemon, struct message *message)
{
    struct worker_event event = {.kind = WORKER_MESSAGE, .message = message};

    if (message && daemon->linked)
        step(daemon, &event);
    message_free(&event.message);
}

static void link_up(struct daemon *daemon)
{
    struct worker_event event = {.kind = WORKER_LINK_UP};
    struct message *welcome = message_create(MSG_WELCOME);

    if (!daemon->linked)
        step(daemon, &event);
    daemon->linked = true;
    welcome->welcome.protocol = PROTOCOL_VERSION;
    fuzz_fill_id(&daemon->bytes, welcome->welcome.coordinator.bytes);
    welcome->welcome.coordinator.bytes[1] = 3;
    welcome->welcome.bytes_max = fuzz_value(&daemon->bytes, 10000);
    welcome->welcome.heartbeat_ms = 1000;
    welcome->welcome.silence_ms = 5000;
    welcome->welcome.body_bytes_max = 1000000;
    say(daemon, fuzz_cross(&welcome));
}

/* A pool, a job and tasks as an honest coordinator would send them. */
static void say_work(struct daemon *daemon)
{
    struct fuzz_input *bytes = &daemon->bytes;
    uint8_t pool = 1 + fuzz_take(bytes) % FUZZ_IDS, job = fuzz_take(bytes) % 3;
    struct message *message = fuzz_fill(bytes, MSG_POOL_OPEN);

    memset(message->pool_open.pool.bytes, 0, sizeof message->pool_open.pool.bytes);
    message->pool_open.pool.bytes[0] = pool;
    say(daemon, fuzz_cross(&message));
    message = fuzz_fill(bytes, MSG_JOB_OPEN);
    message->job_open.pool.bytes[0] = pool;
    message->job_open.job = job;
    say(daemon, fuzz_cross(&message));
    message = message_create(MSG_TASKS);
    message->tasks.pool.bytes[0] = pool;
    message->tasks.job = job;
    message->tasks.spans = mem_alloc(sizeof *message->tasks.spans);
    message->tasks.spans_count = 1;
    message->tasks.spans[0].first = fuzz_take(bytes) % 32;
    message->tasks.spans[0].count = 1 + fuzz_take(bytes) % 16;
    message->tasks.spans[0].attempt = 1 + fuzz_take(bytes) % 2;
    say(daemon, fuzz_cross(&message));
}

/* Of a link that dials this worker, or that it has dialled; that they are what the core
 * knows is left to chance. */
static void act_lane(struct daemon *daemon)
{
    static const enum message_kind kinds[] = {MSG_HELLO_LANE, MSG_HELLO_LANE,
                                              MSG_WELCOME_LANE, MSG_HEARTBEAT};
    uint8_t what = fuzz_take(&daemon->bytes);
    const struct hash none = {.bytes = {0}};
    struct worker_event event = {.kind = WORKER_MESSAGE,
                                 .lane = 1 + what / 32 % 4,
                                 .key = what % 2 ? &none : NULL,
                                 .text = "down"};

    if (what & 16)
        event.lane |= WORKER_LANE_DIALLED;
    if (what % 16 < 2) {
        event.kind = what % 16 ? WORKER_LINK_DOWN : WORKER_LINK_UP;
        step(daemon, &event);
        return;
    }
    struct message *message =
        what % 16 < 12 ? fuzz_fill(&daemon->bytes, kinds[what % 4]) : NULL;
    if (message && message->kind == MSG_HELLO_LANE)
        message->hello_lane.protocol = PROTOCOL_VERSION;
    event.message = message ? fuzz_cross(&message) : fuzz_any(&daemon->bytes);
    if (event.message)
        step(daemon, &event);
    message_free(&event.message);
}

/* An introduction, to be let in or to dial. */
static void say_introduction(struct daemon *daemon)
{
    const bool host = fuzz_take(&daemon->bytes) % 2;
    struct message *message =
        fuzz_fill(&daemon->bytes, host ? MSG_INTRODUCE : MSG_INTRODUCED);

    if (host)
        message->introduce.key = (struct hash){.bytes = {0}};
    say(daemon, fuzz_cross(&message));
}

static void act(struct daemon *daemon)
{
    uint8_t what = fuzz_take(&daemon->bytes);

    switch (what % 16) {
    case 0:
        link_up(daemon);
        break;
    case 1:
        if (daemon->linked && what >= 128)
            step(daemon,
                 &(struct worker_event){.kind = WORKER_LINK_DOWN, .text = "down"});
        daemon->linked = daemon->linked && what < 128;
        break;
    case 2:
        daemon->now_ms += (what < 128 ? 1 : 50) * (uint64_t)fuzz_take(&daemon->bytes);
        flush(daemon);
        break;
    case 3:
        if (what >= 240)
            step(daemon, &(struct worker_event){.kind = what % 32 < 16 ? WORKER_DRAIN
                                                                       : WORKER_STOP});
        break;
    case 4:
        act_program(daemon);
        break;
    case 5:
    case 6:
        say_work(daemon);
        break;
    case 11:
        act_lane(daemon);
        break;
    case 12:
        say_introduction(daemon);
        break;
    case 7:
    case 8:
    case 9:
    case 10:
        flush(daemon);
        act_process(daemon);
        break;
    default:
        say(daemon, fuzz_any(&daemon->bytes));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct daemon *daemon = calloc(1, sizeof *daemon);
    const struct logs_line line = {.fd = 1, .text = "line", .size = 4};
    struct logs *logs = logs_create(300, 300);
    struct worker_config config;

    if (!daemon || !logs)
        abort();
    daemon->bytes = (struct fuzz_input){data, size};
    daemon->now_ms = 1000;
    worker_config_init(&config);
    config.worker.bytes[0] = 9;
    snprintf(config.node, sizeof config.node, "n");
    snprintf(config.machine, sizeof config.machine, "x86_64");
    config.logs = logs;
    config.lanes_max = 4;
    for (int i = 0; i < 9; i++)
        logs_add(logs, &line);
    config.slots = 2;
    config.tasks_max = 64;
    config.bytes_max = 1000;
    config.result_bytes_max = 200;
    config.start_timeout_ms = 3000;
    if (worker_core_create(&config, daemon->now_ms, &daemon->core) != 0)
        abort();
    link_up(daemon);
    while (daemon->bytes.left && !daemon->stopped)
        act(daemon);
    flush(daemon);
    worker_core_destroy(daemon->core);
    worker_effects_fini(&daemon->effects);
    logs_destroy(logs);
    free(daemon);
    return 0;
}
