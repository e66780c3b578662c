/* SPDX-License-Identifier: Apache-2.0
 *
 * process_run.c: running the tasks of a give.
 *
 * Tasks are claimed some at a time by raising the low half of the record's claim word;
 * what is claimed is run, in order, and cannot be taken back. The loop over typed tasks
 * is the program's own (farpool_function.run), and writes outputs where they are read
 * from; this one costs a clock and a compare-and-swap a claim. Before anything runs, the
 * control page names it, so that the host knows whom to blame for a crash; the name stays
 * until the results are out, since a task may also kill its process after it returned.
 *
 * Results are published every `publish` tasks, when `publish_us` have passed, and at the
 * give's end; so a killed process loses no more than that. Waking the host costs
 * far more than publishing: that is done at the give's end, and not there either while
 * enough lies behind it; but at the latest before the process sleeps. */
#include "client/process_internal.h"

#include <assert.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define QUIET_NS 50000000
#define INPUT_ALIGN 16

static const farpool_function *find_function(const char *name)
{
    static const farpool_function *last;
    if (last == NULL || strcmp(last->name, name) != 0)
        last = farpool_function_find(name);
    return last;
}

static void refuse(struct work *work, int code, const char *why)
{
    work->code = code;
    work->why = why;
}

static void find_data(struct process *self, struct work *work)
{
    const struct channel_give *give = &work->give;
    if (give->data_offset == CHANNEL_INLINE) {
        work->data =
            (const uint8_t *)work->record + CHANNEL_DATA_OFFSET(struct channel_give);
    } else {
        work->data = self->base + self->at.in_arena + give->data_offset;
        if (give->data_offset + give->data_bytes > self->in_touched)
            self->in_touched = give->data_offset + give->data_bytes;
    }
    assert(give->count > 0);
    work->each = give->data_bytes / give->count;
    if (give->sized)
        work->sizes = (const uint32_t *)(const void *)(work->data +
                                                       channel_round4(give->data_bytes));
}

void process_describe(struct process *self, struct work *work,
                      const struct ring_record *record)
{
    *work = (struct work){.record = (struct channel_give *)(void *)record->body};
    memcpy(&work->give, record->body, sizeof work->give);
    struct channel_give *give = &work->give;
    if (give->function[0] != '\0')
        work->function = find_function(give->function);
    find_data(self, work);
    if (give->code != 0)
        refuse(work, give->code, "the inputs do not fit into the shared memory");
    else if (work->function == NULL)
        refuse(work, FARPOOL_ENOFUNCTION, "the program has no function of that name");
    else if (work->function->form == FARPOOL_TYPED && work->sizes == NULL &&
             work->each != work->function->input_size)
        refuse(work, FARPOOL_EINVAL, "the input has not the size of the function's type");
    else if (work->function->output_size > self->control->payload_max)
        refuse(work, FARPOOL_ETOOBIG, "the function's output type is over the limit");
}

/* Claims the next tasks: how many, 0 when none are left; *ret_place is the first. */
static uint32_t claim(struct work *work, uint32_t *ret_place)
{
    _Atomic uint64_t *word = &work->record->claim;
    uint64_t seen = atomic_load_explicit(word, memory_order_acquire);
    for (;;) {
        uint32_t next = (uint32_t)seen, end = (uint32_t)(seen >> 32);
        if (next >= end)
            return 0;
        uint32_t count = end - next;
        if (count > work->give.claim_unit)
            count = work->give.claim_unit;
        if (atomic_compare_exchange_weak_explicit(
                word, &seen, channel_claim(next + count, end), memory_order_acq_rel,
                memory_order_acquire)) {
            *ret_place = next;
            return count;
        }
    }
}

/* CPU time of this process and of the children that it has waited for. */
static uint64_t cpu_ms(void)
{
    const int whose[] = {RUSAGE_SELF, RUSAGE_CHILDREN};
    uint64_t us = 0;
    for (int i = 0; i < 2; i++) {
        struct rusage usage;
        if (getrusage(whose[i], &usage) == 0)
            us += (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 +
                  (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
    }
    return us / 1000;
}

/* Names the run that begins. The time is written before the name: see host_running; it
 * does not count what it took to tell of the output before. */
static void name_run(struct process *self, const struct work *work, uint64_t first,
                     uint64_t *now_ns)
{
    struct channel_running *running = &self->control->running;
    if (self->printing.captured)
        *now_ns = process_now_ns();
    atomic_store_explicit(&running->began_ms, *now_ns / 1000000, memory_order_relaxed);
    if (work->give.limited)
        atomic_store_explicit(&running->began_cpu_ms, cpu_ms(), memory_order_relaxed);
    running->place = 0;
    atomic_store_explicit(&running->first, first, memory_order_release);
    atomic_store_explicit(&running->give, work->give.give, memory_order_release);
    atomic_store_explicit(&running->executing, 1, memory_order_release);
}

/* The function has returned; a child that it forked, and that returned with it, has
 * nothing to serve. The time that it took, and *now_ns. */
static uint64_t end_run(struct process *self, const struct work *work, uint64_t first,
                        uint32_t count, uint64_t *now_ns)
{
    if (process_is_forked())
        _exit(0);
    const uint64_t began_ns = *now_ns;
    *now_ns = process_now_ns();
    const uint64_t elapsed_ns = *now_ns - began_ns;
    process_output_mark(self, work->give.give, first, count, elapsed_ns);
    atomic_store_explicit(&self->control->running.executing, 0, memory_order_release);
    return elapsed_ns;
}

static void publish_if_due(struct process *self, const struct work *work, uint64_t now_ns)
{
    if (self->batch.count < work->give.publish &&
        now_ns - self->published_ns < 1000ull * work->give.publish_us)
        return;
    process_flush(self);
    self->published_ns = now_ns;
    process_publish_quietly(self);
}

static void fail_task(struct process *self, const struct work *work, uint64_t index,
                      int code, const char *message, const char *backtrace)
{
    process_write_failed(self, CHANNEL_FAILED, work->give.give, index, code, message,
                         backtrace);
    process_publish(self);
}

static void fail_tasks(struct process *self, const struct work *work, uint32_t place,
                       uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        fail_task(self, work, work->give.first + place + i, work->code, work->why, "");
}

static void prepare_task(struct process *self, const struct work *work, uint32_t place)
{
    struct farpool_task *task = &self->task;
    task->give = work->give.give;
    task->first = work->give.first + place;
    task->function = work->function;
    task->attempt = work->give.attempt;
    task->call = work->give.calls;
    task->run = NULL;
    task->place = OUTPUT_NONE;
    task->output_size = 0;
    task->code = 0;
}

/* Runs `count` typed tasks in one go, as far as there is room for their outputs: how
 * many were begun. The last of them may have failed. */
static uint32_t run_once(struct process *self, struct work *work, uint32_t place,
                         uint32_t count, uint64_t *now_ns)
{
    const farpool_function *function = work->function;
    struct batch *batch = &self->batch;
    farpool_run run = {
        .inputs = work->data + place * work->each,
        .outputs = batch->outputs + (uint64_t)batch->count * function->output_size,
        .count = count,
        .running = &self->control->running.place,
    };
    self->task.run = &run;
    self->task.run_written = 0;
    self->task.input = run.inputs;
    self->task.input_size = work->each;
    name_run(self, work, self->task.first, now_ns);
    process_set_task(&self->task);
    uint64_t begun = function->run(&run);
    process_set_task(NULL);
    if (begun > count)
        begun = count;
    batch->elapsed_ns += end_run(self, work, self->task.first, (uint32_t)begun, now_ns);
    batch->count += (uint32_t)begun - (run.failed && begun > 0 ? 1 : 0);
    batch->count -= self->task.run_written;
    return (uint32_t)begun;
}

static uint32_t least(uint64_t a, uint64_t b)
{
    return (uint32_t)(a < b ? a : b);
}

static void run_typed(struct process *self, struct work *work, uint32_t place,
                      uint32_t count, uint64_t *now_ns)
{
    const uint64_t size = work->function->output_size;
    while (count > 0) {
        uint64_t index = work->give.first + place;
        uint32_t room, left = work->give.count - place;
        uint32_t want = work->give.publish > count ? work->give.publish : count;
        prepare_task(self, work, place);
        int code = process_open_typed(self, index, least(want, left), size, &room);
        if (code != 0) {
            fail_task(self, work, index, code, "no memory for its output", "");
            place++;
            count--;
            continue;
        }
        /* A limit is one a task, so each is measured by itself; and who prints is
         * told by the task. */
        bool alone =
            work->give.timeout_ms > 0 || work->give.limited || self->printing.alone > 0;
        uint32_t some = alone ? 1 : least(count, room);
        uint32_t begun = run_once(self, work, place, some, now_ns);
        if (self->task.code != 0 && begun > 0)
            fail_task(self, work, index + begun - 1, self->task.code, self->task.message,
                      self->task.backtrace);
        else
            publish_if_due(self, work, *now_ns);
        place += begun;
        count -= begun;
    }
}

/* The bytes of one input, aligned: in place if they are, else a copy. */
static bool find_input(struct process *self, struct work *work, uint32_t place)
{
    struct farpool_task *task = &self->task;
    if (work->sizes == NULL) {
        task->input = work->data + place * work->each;
        task->input_size = work->each;
    } else {
        for (; work->place < place; work->place++)
            work->at += work->sizes[work->place];
        task->input = work->data + work->at;
        task->input_size = work->sizes[place];
    }
    if (task->input_size == 0 || (uintptr_t)task->input % INPUT_ALIGN == 0)
        return true;
    if (!process_scratch(&self->aligned, task->input_size)) {
        process_task_fail(task, FARPOOL_ENOMEM, "no memory for a copy of its input");
        return false;
    }
    memcpy(self->aligned.bytes, task->input, task->input_size);
    task->input = self->aligned.bytes;
    return true;
}

/* A typed function on one input, where inputs came with sizes of their own. */
static void call_typed(struct process *self)
{
    struct farpool_task *task = &self->task;
    const farpool_function *function = task->function;
    if (task->input_size != function->input_size) {
        process_task_fail(task, FARPOOL_EINVAL, "%s takes an input of %u bytes, not %zu",
                          function->name, function->input_size, task->input_size);
        return;
    }
    if (!process_scratch(&self->output, function->output_size)) {
        process_task_fail(task, FARPOOL_ENOMEM, "no memory for its output");
        return;
    }
    farpool_run run = {.inputs = task->input,
                       .outputs = self->output.bytes,
                       .count = 1,
                       .running = &self->control->running.place};
    task->run = &run;
    function->run(&run);
    task->run = NULL;
    task->place = OUTPUT_SCRATCH;
    task->output = self->output.bytes;
    task->output_size = function->output_size;
}

void process_call(struct process *self, struct work *work, uint32_t place)
{
    struct farpool_task *task = &self->task;
    int returned = 0;
    prepare_task(self, work, place);
    if (!find_input(self, work, place))
        return;
    process_set_task(task);
    if (task->function->form == FARPOOL_BYTES)
        returned = task->function->call(task);
    else if (task->function->form == FARPOOL_ARGS)
        returned = process_call_args(task);
    else
        call_typed(self);
    process_set_task(NULL);
    if (returned != 0 && task->code == 0)
        process_task_fail(task, FARPOOL_EFUNCTION, "returned %d", returned);
}

static void run_each(struct process *self, struct work *work, uint32_t place,
                     uint32_t count, uint64_t *now_ns)
{
    for (uint32_t end = place + count; place < end; place++) {
        uint64_t index = work->give.first + place;
        name_run(self, work, index, now_ns);
        process_call(self, work, place);
        uint64_t elapsed_ns = end_run(self, work, index, 1, now_ns);
        if (self->task.code == 0)
            process_add_output(self, index, elapsed_ns);
        else if (self->task.place == OUTPUT_ARENA)
            process_free(self, self->task.block);
        if (self->task.code != 0)
            fail_task(self, work, index, self->task.code, self->task.message,
                      self->task.backtrace);
        else
            publish_if_due(self, work, *now_ns);
    }
}

/* Wakes the host, unless it need not give anything yet and was woken a moment ago. */
static void end_give(struct process *self, uint64_t give, uint64_t now_ns)
{
    const uint64_t quiet_before =
        atomic_load_explicit(&self->control->quiet_before, memory_order_acquire);
    self->unrung = give < quiet_before && now_ns - self->rung_ns < QUIET_NS;
    if (self->unrung) {
        process_publish_quietly(self);
    } else {
        process_publish(self);
        self->rung_ns = now_ns;
    }
}

void process_run(struct process *self, const struct ring_record *record)
{
    struct work work;
    uint32_t place, count = 0;
    uint64_t now_ns = process_now_ns();
    self->published_ns = now_ns;
    process_describe(self, &work, record);
    while ((count = claim(&work, &place)) > 0) {
        if (work.code != 0)
            fail_tasks(self, &work, place, count);
        else if (work.function->form == FARPOOL_TYPED && work.sizes == NULL)
            run_typed(self, &work, place, count, &now_ns);
        else
            run_each(self, &work, place, count, &now_ns);
    }
    if (self->printing.count > 0)
        process_output_settle(self);
    /* The room goes back first: the wake-up below then tells the host of both. */
    ring_release(&self->in);
    process_flush(self);
    end_give(self, work.give.give, now_ns);
}
