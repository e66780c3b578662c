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

struct process *sim_process_find(struct node *node, uint64_t number)
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

void sim_process_report(struct sim *sim, struct node *node, const struct process *process,
                        enum worker_event_kind kind)
{
    struct worker_event event = {.kind = kind, .process = process->number, .pid = 77};

    sim_node_push(sim, node, &event, 0);
}

/* ------------------------------------------------------------------ ending */

static void tell_gone(struct sim *sim, uint64_t place, uint64_t number,
                      uint64_t incarnation)
{
    struct node *node = sim_node_find(sim, place, incarnation);
    struct process *process = node ? sim_process_find(node, number) : NULL;

    if (!process)
        return;
    sim_node_push(sim, node, &process->goodbye, 0);
    forget(node, process);
}

/* The end of a process, with whom to blame; the node hears of it a little later. */
void sim_process_die(struct sim *sim, struct node *node, struct process *process,
                     int code, int exit_status, int number)
{
    struct worker_event *event = &process->goodbye;
    const struct give *give =
        process->gives.count ? sim_queue_at(&process->gives, 0) : NULL;

    event->kind = WORKER_PROCESS_GONE;
    event->process = process->number;
    /* As the host tells it: one that was never ready could not be started. */
    event->code =
        code == 0 && process->state == PROCESS_STARTING ? FARPOOL_EPROGRAM : code;
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
    process->epoch = ++sim->epochs;
    end_nested(sim, process);
    sim_at(sim, sim->now_us + sim_dice(sim, sim_chance(sim, 3) ? 20000 : 500), tell_gone,
           (uint64_t)sim_node_place(sim, node), process->number, node->actor.incarnation);
}

void sim_process_kill(struct sim *sim, struct node *node, struct process *process)
{
    if (process->state != PROCESS_OVER)
        sim_process_die(sim, node, process, 0, -1, 9);
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
    sim_job_write_output(give->job, input, input_size,
                         process->bytes + process->bytes_size);
    if (sim->options.broken == BREAK_CORRUPT && size && !sim->broke) {
        sim->broke = true;
        process->bytes[process->bytes_size] ^= 1;
    }
    process->bytes_size += size;
    process->sizes[process->pending] = size;
}

/* ----------------------------------------------------------------- running */

static void end_well(struct sim *sim, struct node *node, struct process *process,
                     struct give *give)
{
    add_output(sim, process, give);
    if (sim_chance(sim, 2))
        sim_output_print(sim, node, process, give);
    process->running = false;
    process->pending++;
    process->pending_ns += 1000 * (sim->now_us - process->began_us);
    give->next++;
    if (process->pending >= give->publish || give->next == give->count)
        publish(sim, node, process);
    sim_process_advance(sim, node, process);
}

static void end_badly(struct sim *sim, struct node *node, struct process *process,
                      struct give *give, const char *text)
{
    struct worker_event event = {.kind = WORKER_PROCESS_FAILED,
                                 .process = process->number,
                                 .give = give->give,
                                 .first = give->span.first + give->next,
                                 .code = FARPOOL_EFUNCTION,
                                 .text = text,
                                 .backtrace = "main\nwork",
                                 .pid = 77};

    sim_output_print(sim, node, process, give);
    publish(sim, node, process);
    sim_node_push(sim, node, &event, 0);
    process->running = false;
    give->next++;
    sim_process_advance(sim, node, process);
}

static void end_task(struct sim *sim, uint64_t place, uint64_t number, uint64_t epoch)
{
    struct node *node = &sim->nodes[place];
    struct process *process = node->actor.alive ? sim_process_find(node, number) : NULL;

    if (!process || process->epoch != epoch)
        return;
    process->epoch = ++sim->epochs;
    struct give *give = sim_queue_at(&process->gives, 0);
    uint64_t index = give->span.first + give->next;
    enum behaviour behaviour = sim_job_behaviour(give->job, index);
    bool first = give->span.attempt == 1;

    if (behaviour == BEHAVE_KILL_NODE) {
        sim_promise_check_kills(sim, give->job);
        sim_fault_kill_node(sim, node);
        return;
    }
    if (process->cancel_marked && sim_chance(sim, 2))
        end_badly(sim, node, process, give, "cancelled");
    else if (behaviour == BEHAVE_FAIL || (behaviour == BEHAVE_FLAKY && first))
        end_badly(sim, node, process, give, "bad input");
    else if (behaviour == BEHAVE_CRASH || (behaviour == BEHAVE_CRASH_ONCE && first))
        sim_process_die(sim, node, process, 0, sim_chance(sim, 2) ? 3 : -1, 11);
    else
        end_well(sim, node, process, give);
}

void sim_process_set_end(struct sim *sim, struct node *node, struct process *process,
                         uint64_t after_us)
{
    process->epoch = ++sim->epochs;
    sim_at(sim, sim->now_us + after_us, end_task, (uint64_t)sim_node_place(sim, node),
           process->number, process->epoch);
}

static void begin_task(struct sim *sim, struct node *node, struct process *process,
                       struct give *give)
{
    uint64_t index = give->span.first + give->next;
    uint64_t limit = process->app->open->pool_open.tasks_per_process;
    const uint64_t task_us =
        sim_job_slowed_us(give->job, index, sim->settled ? 1 : node->slowness);

    sim_job_begin(sim, give->job, index, give->span.attempt);
    sim_shared_check_task(sim, node, give->job);
    if (limit && ++process->begun > limit)
        sim_fail(sim, "process %llu begins more tasks than it may have in its life",
                 (unsigned long long)process->number);
    process->running = true;
    process->cancel_marked = false;
    process->began_us = sim->now_us;
    if (sim_chance(sim, 4))
        sim_output_print(sim, node, process, give);
    enum behaviour behaviour = sim_job_behaviour(give->job, index);
    if (behaviour == BEHAVE_NEST) {
        process->nested = sim_app_start_nested(sim, node, process);
        process->blocked = process->nested >= 0;
    }
    if (process->blocked)
        sim_process_report(sim, node, process, WORKER_PROCESS_BLOCKED);
    else if (!sim_memory_begin(sim, node, process, task_us) && behaviour != BEHAVE_HANG)
        sim_process_set_end(sim, node, process, task_us);
}

void sim_process_unblock(struct sim *sim, const struct app *nested)
{
    struct node *node =
        sim_node_find(sim, (uint64_t)nested->node, nested->node_incarnation);
    struct process *process = node ? sim_process_find(node, nested->process) : NULL;

    if (!process || !process->blocked || process->nested != sim_app_place(sim, nested))
        return;
    process->blocked = false;
    process->nested = -1;
    sim_process_report(sim, node, process, WORKER_PROCESS_UNBLOCKED);
    sim_process_set_end(sim, node, process, 100);
}

void sim_process_advance(struct sim *sim, struct node *node, struct process *process)
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
        sim_process_die(sim, node, process, 0, 0, 0);
}
