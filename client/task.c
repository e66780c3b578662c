/* SPDX-License-Identifier: Apache-2.0
 *
 * task.c: the calls of farpool.h that a function makes about the task that runs it. They
 * are the task's own thread's, but for farpool_task_cancelled, farpool_task_progress and
 * the ones that only read, which its helpers may call too. */
#include "client/process_internal.h"

#include "common/base/mem.h"

#include <execinfo.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FRAMES_MAX 48
#define SCRATCH_KEPT 1048576u /* what is larger is not kept for the next task */

static _Thread_local farpool_task *current;

void process_set_task(farpool_task *task)
{
    current = task;
}

farpool_task *farpool_task_current(void)
{
    return current;
}

bool process_scratch(struct scratch *scratch, size_t need)
{
    bool too_much = scratch->capacity > SCRATCH_KEPT && need <= SCRATCH_KEPT / 2;
    if (scratch->bytes != NULL && need <= scratch->capacity && !too_much)
        return true;
    size_t capacity = need < 4096 ? 4096 : need;
    mem_free(scratch->bytes);
    scratch->bytes = mem_realloc(NULL, capacity);
    scratch->capacity = scratch->bytes != NULL ? capacity : 0;
    return scratch->bytes != NULL;
}

void process_note_backtrace(char *text, size_t size)
{
    void *frames[FRAMES_MAX];
    int count = process_frames(frames, FRAMES_MAX);
    char **lines = backtrace_symbols(frames, count);
    size_t used = 0;
    text[0] = '\0';
    for (int i = 2; lines != NULL && i < count && used < size; i++) {
        int wrote = snprintf(text + used, size - used, "%s\n", lines[i]);
        used += wrote > 0 ? (size_t)wrote : 0;
    }
    free(lines);
}

static void mark_failed(farpool_task *task, int code, const char *format, va_list values)
{
    task->code = code;
    vsnprintf(task->message, sizeof task->message, format, values);
    task->backtrace[0] = '\0';
    if (task->run != NULL)
        task->run->failed = 1;
}

int process_task_fail(farpool_task *task, int code, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    mark_failed(task, code, format, values);
    va_end(values);
    return code;
}

int farpool_fail(farpool_task *task, const char *format, ...)
{
    va_list values;
    if (task == NULL || format == NULL)
        return FARPOOL_EFUNCTION;
    va_start(values, format);
    mark_failed(task, FARPOOL_EFUNCTION, format, values);
    va_end(values);
    process_note_backtrace(task->backtrace, sizeof task->backtrace);
    return FARPOOL_EFUNCTION;
}

/* Input --------------------------------------------------------------------------- */

static uint64_t place_of(const farpool_task *task)
{
    return task->run != NULL ? *task->run->running : 0;
}

const void *farpool_task_input(const farpool_task *task, size_t *ret_size)
{
    if (ret_size != NULL)
        *ret_size = task->input_size;
    return task->input + place_of(task) * task->input_size;
}

uint64_t process_task_index(const farpool_task *task)
{
    return task->first + place_of(task);
}

uint64_t farpool_task_index(const farpool_task *task)
{
    return task->call ? 0 : process_task_index(task);
}

uint32_t farpool_task_attempt(const farpool_task *task)
{
    return task->attempt;
}

const char *farpool_task_node(const farpool_task *task)
{
    (void)task;
    return process_self.control->node;
}

/* Output -------------------------------------------------------------------------- */

static bool may_output(farpool_task *task, uint64_t size)
{
    uint64_t limit = process_self.control->payload_max;
    if (task->run != NULL || task->function->form == FARPOOL_TYPED)
        process_task_fail(task, FARPOOL_EINVAL, "%s is typed: its output is its value",
                          task->function->name);
    else if (size > limit)
        process_task_fail(task, FARPOOL_ETOOBIG,
                          "an output of %llu bytes is over the limit of %llu",
                          (unsigned long long)size, (unsigned long long)limit);
    else
        return true;
    return false;
}

static void drop_block(farpool_task *task)
{
    if (task->place == OUTPUT_ARENA)
        process_free(&process_self, task->block);
    task->place = OUTPUT_NONE;
    task->output_size = 0;
}

void *farpool_task_output(farpool_task *task, size_t size)
{
    struct process *self = &process_self;
    if (!may_output(task, size))
        return NULL;
    drop_block(task);
    if (size <= CHANNEL_INLINE_BYTES) {
        if (!process_scratch(&self->output, size)) {
            process_task_fail(task, FARPOOL_ENOMEM, "no memory for its output");
            return NULL;
        }
        task->output = self->output.bytes;
        task->place = OUTPUT_SCRATCH;
    } else {
        if (process_alloc(self, size, &task->block) != 0) {
            process_task_fail(task, FARPOOL_ENOMEM, "no memory for its output");
            return NULL;
        }
        task->output = process_block(self, task->block);
        task->place = OUTPUT_ARENA;
    }
    task->output_size = size;
    return task->output;
}

/* Makes the output private, with room for `need` bytes; keeps what it holds. */
static bool grow_output(farpool_task *task, size_t need)
{
    struct scratch *scratch = &process_self.output;
    if (need > scratch->capacity) {
        size_t capacity = need < 4096 ? 4096 : need + need / 2;
        uint8_t *bytes = mem_realloc(scratch->bytes, capacity);
        if (bytes == NULL)
            return false;
        scratch->bytes = bytes;
        scratch->capacity = capacity;
    }
    if (task->place == OUTPUT_ARENA) {
        memcpy(scratch->bytes, task->output, task->output_size);
        process_free(&process_self, task->block);
    }
    task->output = scratch->bytes;
    task->place = OUTPUT_SCRATCH;
    return true;
}

int farpool_task_write(farpool_task *task, const void *data, size_t size)
{
    if (size > BODY_BYTES_MAX || !may_output(task, task->output_size + (uint64_t)size))
        return task->code != 0 ? task->code : FARPOOL_ETOOBIG;
    if (!grow_output(task, task->output_size + size))
        return process_task_fail(task, FARPOOL_ENOMEM, "no memory for its output");
    if (size > 0)
        memcpy(task->output + task->output_size, data, size);
    task->output_size += size;
    return 0;
}

/* Control ------------------------------------------------------------------------- */

bool farpool_task_cancelled(const farpool_task *task)
{
    struct channel_cancel *cancels = process_self.control->cancels;
    uint64_t index = process_task_index(task);
    for (unsigned i = 0; i < CHANNEL_CANCELS; i++) {
        if (atomic_load_explicit(&cancels[i].give, memory_order_acquire) != task->give)
            continue;
        uint64_t first = atomic_load_explicit(&cancels[i].first, memory_order_acquire);
        uint64_t count = atomic_load_explicit(&cancels[i].count, memory_order_acquire);
        if (index - first < count &&
            atomic_load_explicit(&cancels[i].give, memory_order_relaxed) == task->give)
            return true;
    }
    return false;
}

void farpool_task_progress(farpool_task *task, uint64_t done, uint64_t total)
{
    struct channel_running *running = &process_self.control->running;
    if (total == 0)
        return;
    double share = done >= total ? 1.0 : (double)done / (double)total;
    atomic_store_explicit(&running->share_ppm, (uint64_t)(share * 1e6),
                          memory_order_relaxed);
    atomic_store_explicit(&running->share_index, process_task_index(task),
                          memory_order_release);
}
