/* SPDX-License-Identifier: Apache-2.0
 *
 * sim.c: the clock, the dice and the trace of a simulated cluster, and one run of it.
 *
 * Virtual time is in microseconds and jumps from timer to timer; timers of the same
 * instant run in the order in which they were set, so that a seed is one run and no
 * other. A failed check prints what is known and exits; with a trace that includes the
 * last events. Asserts in the cores arrive here as SIGABRT and print the same. */
#include "sim.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TRACE_LINES 600
#define TRACE_LINE_BYTES 400
#define STEPS_MAX 3000000

static struct sim *present; /* for the handler of SIGABRT */
static char trace_lines[TRACE_LINES][TRACE_LINE_BYTES];
static uint64_t trace_count;

void *sim_alloc(size_t size)
{
    void *memory = calloc(1, size ? size : 1);

    if (!memory)
        abort();
    return memory;
}

/* ------------------------------------------------------------------ queues */

void sim_queue_push(struct queue *queue, const void *element, size_t size)
{
    if (queue->count == queue->capacity) {
        size_t capacity = queue->capacity ? 2 * queue->capacity : 8;
        uint8_t *items = sim_alloc(capacity * size);

        for (size_t i = 0; i < queue->count; i++)
            memcpy(items + i * size, sim_queue_at(queue, i), size);
        free(queue->items);
        queue->items = items;
        queue->capacity = capacity;
        queue->head = 0;
        queue->element = size;
    }
    queue->count++;
    memcpy(sim_queue_at(queue, queue->count - 1), element, size);
}

void *sim_queue_at(const struct queue *queue, size_t place)
{
    return queue->items + (queue->head + place) % queue->capacity * queue->element;
}

bool sim_queue_pop(struct queue *queue, void *ret_element)
{
    if (!queue->count)
        return false;
    memcpy(ret_element, sim_queue_at(queue, 0), queue->element);
    queue->head = (queue->head + 1) % queue->capacity;
    queue->count--;
    return true;
}

void sim_queue_remove(struct queue *queue, size_t place)
{
    for (size_t i = place; i + 1 < queue->count; i++)
        memcpy(sim_queue_at(queue, i), sim_queue_at(queue, i + 1), queue->element);
    queue->count--;
}

void sim_queue_fini(struct queue *queue)
{
    free(queue->items);
    memset(queue, 0, sizeof *queue);
}

/* -------------------------------------------------------------------- dice */

uint64_t sim_dice(struct sim *sim, uint64_t bound)
{
    return rng_below(&sim->rng, bound);
}

uint64_t sim_between(struct sim *sim, uint64_t low, uint64_t high)
{
    return low + rng_below(&sim->rng, high - low + 1);
}

bool sim_chance(struct sim *sim, uint64_t one_in)
{
    return rng_below(&sim->rng, one_in) == 0;
}

struct id sim_id(struct sim *sim)
{
    struct id id;

    for (size_t i = 0; i < sizeof id.bytes; i++)
        id.bytes[i] = (uint8_t)rng_next(&sim->rng);
    return id;
}

/* ------------------------------------------------------------------- clock */

uint64_t sim_now_ms(const struct sim *sim)
{
    return sim->now_us / 1000;
}

static bool is_before(const struct timer *a, const struct timer *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

static void heap_up(struct sim *sim, size_t place)
{
    struct timer *heap = sim->heap;

    while (place > 0 && is_before(&heap[place], &heap[(place - 1) / 2])) {
        struct timer other = heap[(place - 1) / 2];

        heap[(place - 1) / 2] = heap[place];
        heap[place] = other;
        place = (place - 1) / 2;
    }
}

static void heap_down(struct sim *sim)
{
    struct timer *heap = sim->heap;
    size_t place = 0;

    for (;;) {
        size_t least = place;

        for (size_t child = 2 * place + 1; child <= 2 * place + 2; child++)
            if (child < sim->heap_count && is_before(&heap[child], &heap[least]))
                least = child;
        if (least == place)
            return;
        struct timer other = heap[least];
        heap[least] = heap[place];
        heap[place] = other;
        place = least;
    }
}

void sim_at(struct sim *sim, uint64_t at_us,
            void (*call)(struct sim *, uint64_t, uint64_t, uint64_t), uint64_t a,
            uint64_t b, uint64_t c)
{
    struct timer timer = {
        at_us < sim->now_us ? sim->now_us : at_us, sim->order++, call, a, b, c};

    if (sim->heap_count == sim->heap_capacity) {
        sim->heap_capacity = sim->heap_capacity ? 2 * sim->heap_capacity : 256;
        sim->heap = realloc(sim->heap, sim->heap_capacity * sizeof *sim->heap);
        if (!sim->heap)
            abort();
    }
    sim->heap[sim->heap_count++] = timer;
    heap_up(sim, sim->heap_count - 1);
}

static struct timer take_timer(struct sim *sim)
{
    struct timer timer = sim->heap[0];

    sim->heap[0] = sim->heap[--sim->heap_count];
    heap_down(sim);
    return timer;
}

void sim_wake(struct sim *sim, struct actor *actor, uint64_t at_us,
              void (*call)(struct sim *, uint64_t, uint64_t, uint64_t), uint64_t place)
{
    if (!actor->alive)
        return;
    if (at_us < actor->paused_until_us)
        at_us = actor->paused_until_us;
    if (at_us >= actor->wake_at_us)
        return;
    actor->wake_at_us = at_us;
    sim_at(sim, at_us, call, place, actor->incarnation, at_us);
}

/* ------------------------------------------------------------------- trace */

bool sim_tracing(const struct sim *sim)
{
    return sim->options.trace || sim->options.verbose;
}

void sim_trace(struct sim *sim, const char *format, ...)
{
    if (!sim_tracing(sim))
        return;
    char *line = trace_lines[trace_count++ % TRACE_LINES];
    int used = snprintf(line, TRACE_LINE_BYTES, "%9.3f ms ", (double)sim->now_us / 1000);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line + used, TRACE_LINE_BYTES - (size_t)used, format, arguments);
    va_end(arguments);
    if (sim->options.verbose)
        printf("%s\n", line);
}

void sim_trace_message(struct sim *sim, const char *who, const struct message *message)
{
    char text[TRACE_LINE_BYTES - 60];

    if (sim_tracing(sim))
        sim_trace(sim, "%s %s", who, message_print(message, text, sizeof text));
}

static void print_trace(void)
{
    uint64_t first = trace_count > TRACE_LINES ? trace_count - TRACE_LINES : 0;

    for (uint64_t i = first; i < trace_count; i++)
        printf("%s\n", trace_lines[i % TRACE_LINES]);
}

static void print_failure(struct sim *sim)
{
    if (sim->options.trace && !sim->options.verbose)
        print_trace();
    sim_plan_print(sim);
    sim_settle_dump(sim);
    printf("seed %llu failed at %.3f ms; again: sim --seed %llu -v\n",
           (unsigned long long)sim->options.seed, (double)sim->now_us / 1000,
           (unsigned long long)sim->options.seed);
    fflush(stdout);
}

void sim_fail(struct sim *sim, const char *format, ...)
{
    va_list arguments;

    print_failure(sim);
    printf("FAILED: ");
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
    fflush(stdout);
    _exit(1);
}

/* An assert of a core has failed: the process ends in any case, so printing from here
 * is worth its risk. */
static void on_abort(int number)
{
    signal(number, SIG_DFL);
    if (present)
        print_failure(present);
    fflush(stdout);
    raise(number);
}

/* ------------------------------------------------------------------- steps */

bool sim_step_begin(struct sim *sim)
{
    if (++sim->steps > STEPS_MAX)
        sim_fail(sim, "more than %d steps: somebody runs in circles", STEPS_MAX);
    sim_promise_check_heap(sim);
    if (!sim->plan.oom || sim->settled || !sim_chance(sim, 10))
        return false;
    mem_fail_after((size_t)sim_between(sim, 1, sim_chance(sim, 2) ? 5 : 60));
    return true;
}

bool sim_step_again(struct sim *sim, bool armed, int result)
{
    if (armed)
        mem_fail_after(0);
    if (result == FARPOOL_ENOMEM && !armed)
        sim_fail(sim, "a step said ENOMEM, and no allocation had failed");
    if (result == FARPOOL_ENOMEM)
        sim_trace(sim, "        out of memory in this step, once more");
    return result == FARPOOL_ENOMEM;
}

/* --------------------------------------------------------------------- run */

static void release(struct sim *sim)
{
    for (int i = 0; i < APPS_MAX; i++)
        if (sim->apps[i].actor.alive)
            sim_app_kill(sim, i);
    for (int i = 0; i < NODES_MAX; i++)
        if (sim->nodes[i].actor.alive)
            sim_node_kill(sim, i);
    for (int i = 0; i < APPS_MAX; i++) {
        message_free(&sim->apps[i].open);
        for (int k = 0; k < APP_JOBS_MAX; k++)
            sim_job_fini(&sim->apps[i].jobs[k]);
    }
    if (sim->coordinator.actor.alive)
        sim_coordinator_kill(sim);
    sim_detached_fini(sim);
    sim_links_fini(sim);
    sim_output_fini(sim);
    free(sim->heap);
    free(sim);
}

static void faults_over(struct sim *sim, uint64_t a, uint64_t b, uint64_t c)
{
    (void)a, (void)b, (void)c;
    sim_settle_begin(sim);
}

void sim_run(const struct sim_options *options)
{
    struct sim *sim = sim_alloc(sizeof *sim);

    sim->options = *options;
    sim->rng = options->seed * 0x9e3779b97f4a7c15u + 1;
    sim->next_tag = 1;
    trace_count = 0;
    sim_promise_begin(sim);
    present = sim;
    signal(SIGABRT, on_abort);
    sim_plan_make(sim);
    sim_at(sim, sim->plan.faults_until_us, faults_over, 0, 0, 0);
    while (!sim->finished) {
        if (!sim->heap_count)
            sim_fail(sim, "nothing will ever happen again");
        struct timer timer = take_timer(sim);
        sim->now_us = timer.at_us;
        if (sim->settled && sim->now_us > sim->settle_until_us)
            sim_fail(sim, "this cluster does not come to rest");
        timer.call(sim, timer.a, timer.b, timer.c);
    }
    if (options->verbose)
        printf("seed %llu: %llu steps, %.3f s of virtual time, %zu KiB of memory\n",
               (unsigned long long)options->seed, (unsigned long long)sim->steps,
               (double)sim->now_us / 1e6, sim->heap_most >> 10);
    present = NULL;
    release(sim);
}
