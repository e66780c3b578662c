/* SPDX-License-Identifier: Apache-2.0
 *
 * process.c: virtual processes. Each works through what it was given: claims tasks,
 * runs them one by one in virtual time, publishes results in pieces, and may fail, hang,
 * open the pool it runs in, or die at any instant; then what it had not published is
 * gone, and the task it was in is named. It reports as worker/host.h says that a host
 * does: in order, what was taken back before the end, and nothing behind the end. */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

static struct process *find(struct node *node, uint64_t number)
{
    for (size_t i = 0; i < node->processes.count; i++) {
        struct process *process = *(struct process **)sim_queue_at(&node->processes, i);

        if (process->number == number)
            return process;
    }
    return NULL;
}

static void release(struct process *process)
{
    struct give give;

    while (sim_queue_pop(&process->gives, &give))
        span_fini(&give.span);
    sim_queue_fini(&process->gives);
    free(process->bytes);
    free(process->sizes);
    free(process);
}

static void forget(struct node *node, const struct process *process)
{
    for (size_t i = 0; i < node->processes.count; i++) {
        struct process *other = *(struct process **)sim_queue_at(&node->processes, i);

        if (other != process)
            continue;
        sim_queue_remove(&node->processes, i);
        release(other);
        return;
    }
}

static void end_nested(struct sim *sim, struct process *process)
{
    int nested = process->nested;

    process->nested = -1;
    if (nested >= 0 && sim->apps[nested].actor.alive)
        sim_app_kill(sim, nested);
}

void sim_processes_fini(struct sim *sim, struct node *node)
{
    struct process *process;

    while (sim_queue_pop(&node->processes, &process)) {
        end_nested(sim, process);
        release(process);
    }
    sim_queue_fini(&node->processes);
}

static void report(struct sim *sim, struct node *node, const struct process *process,
                   enum worker_event_kind kind)
{
    struct worker_event event = {.kind = kind, .process = process->number, .pid = 77};

    sim_node_push(sim, node, &event, 0);
}

/* ------------------------------------------------------------------ ending */

static struct node *node_of(struct sim *sim, uint64_t place, uint64_t incarnation)
{
    struct node *node = &sim->nodes[place];

    return node->actor.alive && node->actor.incarnation == incarnation ? node : NULL;
}

static void tell_gone(struct sim *sim, uint64_t place, uint64_t number,
                      uint64_t incarnation)
{
    struct node *node = node_of(sim, place, incarnation);
    struct process *process = node ? find(node, number) : NULL;

    if (!process)
        return;
    sim_node_push(sim, node, &process->goodbye, 0);
    forget(node, process);
}

/* The end of a process, with whom to blame; the node hears of it a little later. */
static void die(struct sim *sim, struct node *node, struct process *process, int code,
                int exit_status, int number)
{
    struct worker_event *event = &process->goodbye;
    const struct give *give = process->gives.count ? sim_queue_at(&process->gives, 0) : NULL;

    event->kind = WORKER_PROCESS_GONE;
    event->process = process->number;
    /* As the host tells it: one that was never ready could not be started. */
    event->code = code == 0 && process->state == PROCESS_STARTING ? FARPOOL_EPROGRAM : code;
    event->exit_status = exit_status;
    event->signal = number;
    event->text = code == FARPOOL_EINITIALIZER ? "the initializer said no" : NULL;
    if (process->running) {
        event->running = true;
        event->give = give->give;
        event->first = give->span.first + give->next;
        give->job->tasks[event->first].blames++;
    }
    if (process->state == PROCESS_STARTING)
        sim->starts_failed = true;
    sim_trace(sim, "W%d: process %llu ends: code %d, exit %d, signal %d",
              sim_node_place(sim, node), (unsigned long long)process->number, code,
              exit_status, number);
    process->state = PROCESS_OVER;
    process->running = false;
    process->epoch++;
    end_nested(sim, process);
    sim_at(sim, sim->now_us + sim_dice(sim, sim_chance(sim, 3) ? 20000 : 500), tell_gone,
           (uint64_t)sim_node_place(sim, node), process->number, node->actor.incarnation);
}

void sim_process_kill(struct sim *sim, struct node *node, struct process *process)
{
    if (process->state != PROCESS_OVER)
        die(sim, node, process, 0, -1, 9);
}

/* -------------------------------------------------------------- publishing */

static void publish(struct sim *sim, struct node *node, struct process *process)
{
    const struct give *give = sim_queue_at(&process->gives, 0);
    struct worker_event event = {.kind = WORKER_PROCESS_DONE, .process = process->number};

    if (!process->pending)
        return;
    event.give = give->give;
    event.first = give->span.first + give->next - process->pending;
    event.count = process->pending;
    event.elapsed_ns = process->pending_ns;
    if (process->bytes_size)
        event.data = payload_copy(process->bytes, process->bytes_size);
    if (give->job->output_variable)
        event.sizes = payload_copy(process->sizes, 4 * (size_t)process->pending);
    sim_node_push(sim, node, &event, 0);
    process->pending = 0;
    process->pending_ns = 0;
    process->bytes_size = 0;
}

static void add_output(struct sim *sim, struct process *process, const struct give *give)
{
    const uint8_t *input;
    size_t input_size;

    span_task(&give->span, give->next, &input, &input_size);
    uint32_t size = sim_job_output_size(give->job, input, input_size);
    process->bytes = realloc(process->bytes, process->bytes_size + size + 1);
    process->sizes = realloc(process->sizes, 4 * ((size_t)process->pending + 1));
    sim_job_write_output(give->job, input, input_size, process->bytes + process->bytes_size);
    if (sim->options.broken == BREAK_CORRUPT && size && !sim->broke) {
        sim->broke = true;
        process->bytes[process->bytes_size] ^= 1;
    }
    process->bytes_size += size;
    process->sizes[process->pending] = size;
}

/* ----------------------------------------------------------------- running */

static void advance(struct sim *sim, struct node *node, struct process *process);

static void end_well(struct sim *sim, struct node *node, struct process *process,
                     struct give *give)
{
    add_output(sim, process, give);
    process->running = false;
    process->pending++;
    process->pending_ns += 1000 * (sim->now_us - process->began_us);
    give->next++;
    if (process->pending >= give->publish || give->next == give->count)
        publish(sim, node, process);
    advance(sim, node, process);
}

static void end_badly(struct sim *sim, struct node *node, struct process *process,
                      struct give *give, const char *text)
{
    struct worker_event event = {
        .kind = WORKER_PROCESS_FAILED, .process = process->number, .give = give->give,
        .first = give->span.first + give->next, .code = FARPOOL_EFUNCTION, .text = text,
        .backtrace = "main\nwork", .pid = 77};

    publish(sim, node, process);
    sim_node_push(sim, node, &event, 0);
    process->running = false;
    give->next++;
    advance(sim, node, process);
}

static void end_task(struct sim *sim, uint64_t place, uint64_t number, uint64_t epoch)
{
    struct node *node = &sim->nodes[place];
    struct process *process = node->actor.alive ? find(node, number) : NULL;

    if (!process || process->epoch != epoch)
        return;
    process->epoch++;
    struct give *give = sim_queue_at(&process->gives, 0);
    uint64_t index = give->span.first + give->next;
    enum behaviour behaviour = sim_job_behaviour(give->job, index);
    bool first = give->span.attempt == 1;

    if (process->cancel_marked && sim_chance(sim, 2))
        end_badly(sim, node, process, give, "cancelled");
    else if (behaviour == BEHAVE_FAIL || (behaviour == BEHAVE_FLAKY && first))
        end_badly(sim, node, process, give, "bad input");
    else if (behaviour == BEHAVE_CRASH || (behaviour == BEHAVE_CRASH_ONCE && first))
        die(sim, node, process, 0, sim_chance(sim, 2) ? 3 : -1, 11);
    else
        end_well(sim, node, process, give);
}

static void set_end(struct sim *sim, struct node *node, struct process *process,
                    uint64_t after_us)
{
    process->epoch++;
    sim_at(sim, sim->now_us + after_us, end_task, (uint64_t)sim_node_place(sim, node),
           process->number, process->epoch);
}

static void begin_task(struct sim *sim, struct node *node, struct process *process,
                       struct give *give)
{
    uint64_t index = give->span.first + give->next;
    uint64_t limit = process->app->open->pool_open.tasks_per_process;

    sim_job_begin(sim, give->job, index, give->span.attempt);
    if (limit && ++process->begun > limit)
        sim_fail(sim, "process %llu begins more tasks than it may have in its life",
                 (unsigned long long)process->number);
    process->running = true;
    process->cancel_marked = false;
    process->began_us = sim->now_us;
    enum behaviour behaviour = sim_job_behaviour(give->job, index);
    if (behaviour == BEHAVE_NEST) {
        process->nested = sim_app_start_nested(sim, node, process);
        process->blocked = process->nested >= 0;
    }
    if (process->blocked)
        report(sim, node, process, WORKER_PROCESS_BLOCKED);
    else if (behaviour != BEHAVE_HANG)
        set_end(sim, node, process, sim_job_duration_us(give->job, index));
}

void sim_process_unblock(struct sim *sim, const struct app *nested)
{
    struct node *node = node_of(sim, (uint64_t)nested->node, nested->node_incarnation);
    struct process *process = node ? find(node, nested->process) : NULL;

    if (!process || !process->blocked || process->nested != sim_app_place(sim, nested))
        return;
    process->blocked = false;
    process->nested = -1;
    report(sim, node, process, WORKER_PROCESS_UNBLOCKED);
    set_end(sim, node, process, 100);
}

static void advance(struct sim *sim, struct node *node, struct process *process)
{
    while (process->state == PROCESS_SERVING && !process->running &&
           process->gives.count) {
        struct give *give = sim_queue_at(&process->gives, 0);

        if (give->next < give->count) {
            if (give->next == give->claimed)
                give->claimed = give->count - give->next < give->claim
                                    ? give->count
                                    : give->next + give->claim;
            begin_task(sim, node, process, give);
            return;
        }
        publish(sim, node, process);
        span_fini(&give->span);
        sim_queue_remove(&process->gives, 0);
    }
    if (process->state == PROCESS_SERVING && !process->running && process->closing)
        die(sim, node, process, 0, 0, 0);
}

/* ---------------------------------------------------------------- starting */

static void begin_serving(struct sim *sim, uint64_t place, uint64_t number,
                          uint64_t incarnation)
{
    struct node *node = node_of(sim, place, incarnation);
    struct process *process = node ? find(node, number) : NULL;

    if (!process || process->state != PROCESS_STARTING)
        return;
    if (process->app->initializer_fails) {
        die(sim, node, process, FARPOOL_EINITIALIZER, 1, 0);
    } else if (node->starts_fail && sim_chance(sim, 3)) {
        die(sim, node, process, FARPOOL_ELIBRARY, 127, 0);
    } else {
        process->state = PROCESS_SERVING;
        report(sim, node, process, WORKER_PROCESS_READY);
        advance(sim, node, process);
    }
}

static void start(struct sim *sim, struct node *node, const struct worker_effect *effect)
{
    struct process *process = sim_alloc(sizeof *process);

    process->number = effect->process;
    process->pool = effect->pool;
    process->nested = -1;
    process->app = sim_app_of_pool(sim, &effect->pool);
    if (!process->app || find(node, effect->process))
        sim_fail(sim, "a process is started for no pool, or twice");
    if (strcmp(effect->name, process->app->open->pool_open.initializer) != 0)
        sim_fail(sim, "a process is started with a wrong initializer");
    sim_queue_push(&node->processes, &process, sizeof process);
    uint64_t delay_us = sim_between(sim, 500, 30000);
    if (sim->plan.starts_fail && !sim->settled && sim_chance(sim, 15))
        delay_us = sim_between(sim, 100000, 6000000);
    sim_at(sim, sim->now_us + delay_us, begin_serving, (uint64_t)sim_node_place(sim, node),
           process->number, node->actor.incarnation);
}

/* ----------------------------------------------------------------- effects */

/* What is known of busy processes here never exceeds what the core knows, so the core's
 * own bound holds for it. */
static void check_slots(struct sim *sim, const struct node *node)
{
    uint32_t busy = 0;

    for (size_t i = 0; i < node->processes.count; i++) {
        const struct process *process =
            *(struct process **)sim_queue_at(&node->processes, i);

        busy += process->state == PROCESS_SERVING && !process->killed &&
                process->gives.count > 0;
    }
    if (!sim->plan.nested && busy > node->config.slots)
        sim_fail(sim, "%u busy processes on %u slots", busy, node->config.slots);
}

static void take_give(struct sim *sim, struct node *node, struct process *process,
                      struct worker_effect *effect)
{
    struct give give = {.give = effect->give, .span = effect->span,
                        .claim = effect->claim, .publish = effect->publish};

    memset(&effect->span, 0, sizeof effect->span);
    give.count = give.span.count;
    give.job = sim_job_find(sim, effect->job);
    if (!give.job || !give.claim || !give.publish || !span_valid(&give.span) ||
        give.span.first + give.count > give.job->count)
        sim_fail(sim, "process %llu is given nonsense",
                 (unsigned long long)process->number);
    if (strcmp(effect->name, give.job->options.function) != 0 ||
        effect->timeout_ms != give.job->options.timeout_ms)
        sim_fail(sim, "process %llu is told a wrong function or time",
                 (unsigned long long)process->number);
    sim_queue_push(&process->gives, &give, sizeof give);
    check_slots(sim, node);
    advance(sim, node, process);
}

/* From the last give back to the first, from each the last tasks; never what is claimed. */
static void take_back(struct sim *sim, struct node *node, struct process *process,
                      uint64_t count)
{
    struct worker_event event = {.kind = WORKER_PROCESS_TAKEN,
                                 .process = process->number};

    for (size_t i = process->gives.count; i-- > 0 && count;) {
        struct give *give = sim_queue_at(&process->gives, i);
        uint32_t open = give->count - give->claimed;
        uint32_t taken = open < count ? open : (uint32_t)count;

        if (!taken)
            continue;
        give->count -= taken;
        count -= taken;
        event.give = give->give;
        event.first = give->span.first + give->count;
        event.count = taken;
        sim_node_push(sim, node, &event, 0);
    }
    event.give = event.first = event.count = 0;
    sim_node_push(sim, node, &event, 0);
}

static void sample(struct sim *sim, struct node *node, struct process *process)
{
    const struct give *give = process->gives.count ? sim_queue_at(&process->gives, 0) : NULL;
    struct worker_event event = {.kind = WORKER_PROCESS_SAMPLED,
                                 .process = process->number,
                                 .running = process->running};

    if (process->running) {
        event.give = give->give;
        event.first = give->span.first + give->next;
        event.began_ms = process->began_us / 1000;
        event.share_ppm = sim_dice(sim, 1000000);
    }
    sim_node_push(sim, node, &event, 0);
}

static void cancel(struct sim *sim, struct node *node, struct process *process,
                   const struct worker_effect *effect)
{
    struct give *give = process->gives.count ? sim_queue_at(&process->gives, 0) : NULL;

    if (!process->running || give->give != effect->give)
        return;
    uint64_t index = give->span.first + give->next;
    if (index < effect->first || index - effect->first >= effect->count)
        return;
    process->cancel_marked = true;
    give->job->tasks[index].cancel_marked = true;
    if (!process->blocked && sim_chance(sim, 2))
        set_end(sim, node, process, 1000);
}

static void kill_soon(struct sim *sim, uint64_t place, uint64_t number,
                      uint64_t incarnation)
{
    struct node *node = node_of(sim, place, incarnation);
    struct process *process = node ? find(node, number) : NULL;

    if (process)
        sim_process_kill(sim, node, process);
}

static void print_effect(struct sim *sim, const struct node *node,
                         const struct worker_effect *effect)
{
    static const char *const names[] = {"start", "give",   "take back", "cancel",
                                        "sample", "close", "kill"};

    sim_trace(sim, "W%d: %s process=%llu give=%llu job=%llx span=%llu+%u/%u count=%llu "
              "claim=%u publish=%u", sim_node_place(sim, node),
              names[effect->kind - WORKER_PROCESS_START],
              (unsigned long long)effect->process, (unsigned long long)effect->give,
              (unsigned long long)effect->job, (unsigned long long)effect->span.first,
              effect->span.count, effect->span.attempt, (unsigned long long)effect->count,
              effect->claim, effect->publish);
}

void sim_process_apply(struct sim *sim, struct node *node, struct worker_effect *effect)
{
    struct process *process = find(node, effect->process);

    print_effect(sim, node, effect);
    if (effect->kind == WORKER_PROCESS_START)
        start(sim, node, effect);
    if (!process || process->state == PROCESS_OVER)
        return;
    switch (effect->kind) {
    case WORKER_PROCESS_GIVE:
        take_give(sim, node, process, effect);
        break;
    case WORKER_PROCESS_TAKE_BACK:
        take_back(sim, node, process, effect->count);
        break;
    case WORKER_PROCESS_SAMPLE:
        sample(sim, node, process);
        break;
    case WORKER_PROCESS_CANCEL:
        cancel(sim, node, process, effect);
        break;
    case WORKER_PROCESS_CLOSE:
        process->closing = true;
        advance(sim, node, process);
        break;
    case WORKER_PROCESS_KILL:
        process->killed = true;
        sim_at(sim, sim->now_us + sim_dice(sim, 5000), kill_soon,
               (uint64_t)sim_node_place(sim, node), process->number, node->actor.incarnation);
        break;
    default:
        break;
    }
}
