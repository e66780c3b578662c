/* SPDX-License-Identifier: Apache-2.0
 *
 * failure.c: why tasks failed: kept as ranges, since a million tasks may be cancelled at
 * once, and told in one line each: the call, the task, the node, and what happened there.
 * They come in any order and are sorted when the first one is asked for. */
#include "client/failure.h"
#include "common/base/error.h"
#include "common/base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* -------------------------------------------------------------------- one */

static int set_texts(struct failure *failure, const char *node, const char *message,
                     const char *backtrace)
{
    size_t sizes[] = {strlen(node) + 1, strlen(message) + 1, strlen(backtrace) + 1};

    if (sizes[0] + sizes[1] + sizes[2] == 3)
        return 0;
    failure->node = mem_alloc(sizes[0] + sizes[1] + sizes[2]);
    if (failure->node == NULL)
        return FARPOOL_ENOMEM;
    failure->message = failure->node + sizes[0];
    failure->backtrace = failure->message + sizes[1];
    memcpy(failure->node, node, sizes[0]);
    memcpy(failure->message, message, sizes[1]);
    memcpy(failure->backtrace, backtrace, sizes[2]);
    return 0;
}

static const char *text_of(const char *text)
{
    return text != NULL ? text : "";
}

int failure_read(const struct client_effect *effect, struct failure *ret_failure)
{
    const struct msg_failed *one = &effect->failed;
    struct failure failure;
    int code;

    if (effect->count > 0) {
        failure = (struct failure){.first = effect->first,
                                   .count = effect->count,
                                   .code = effect->code,
                                   .exit_status = -1,
                                   .attempt = effect->attempt};
        code = set_texts(&failure, effect->node, effect->text, "");
    } else {
        const char *message = text_of(one->message);

        failure = (struct failure){.first = one->index,
                                   .count = 1,
                                   .code = one->code,
                                   .exit_status = one->exit_status,
                                   .signal = one->signal,
                                   .pid = (int)one->pid,
                                   .attempt = one->attempt};
        code = set_texts(&failure, one->node, message[0] != '\0' ? message : effect->text,
                         text_of(one->backtrace));
    }
    if (code == 0)
        *ret_failure = failure;
    return code;
}

int failure_make(uint64_t index, int code, const char *message,
                 struct failure *ret_failure)
{
    struct failure failure = {
        .first = index, .count = 1, .code = code, .exit_status = -1};

    if (set_texts(&failure, "", message, "") != 0)
        return FARPOOL_ENOMEM;
    *ret_failure = failure;
    return 0;
}

void failure_fini(struct failure *failure)
{
    mem_free(failure->node);
    *failure = (struct failure){0};
}

/* " on node n2 (pid 4711, attempt 1)", as far as is known. */
static void print_place(const struct failure *failure, char *text, size_t size)
{
    char pid[32] = "", attempt[32] = "";

    if (failure->pid != 0)
        snprintf(pid, sizeof pid, "pid %d", failure->pid);
    if (failure->attempt != 0)
        snprintf(attempt, sizeof attempt, "%sattempt %" PRIu32,
                 pid[0] != '\0' ? ", " : "", failure->attempt);
    snprintf(text, size, "%s%s%s%s%s%s",
             text_of(failure->node)[0] != '\0' ? " on node " : "", text_of(failure->node),
             pid[0] != '\0' || attempt[0] != '\0' ? " (" : "", pid, attempt,
             pid[0] != '\0' || attempt[0] != '\0' ? ")" : "");
}

/* How the process ended: "it was killed by signal 9 (Killed)". */
static void print_end(const struct failure *failure, char *text, size_t size)
{
    if (failure->signal != 0)
        snprintf(text, size, "its process was killed by signal %d (%s)", failure->signal,
                 strsignal(failure->signal));
    else if (failure->exit_status >= 0)
        snprintf(text, size, "its process exited with status %d", failure->exit_status);
    else
        snprintf(text, size, "its process was lost");
}

static void print_text(const struct failure *failure, const struct failure_of *of,
                       uint64_t index, char *text, size_t size)
{
    const char *message = text_of(failure->message), *call = of->call;
    char place[160], end[96];

    print_place(failure, place, sizeof place);
    print_end(failure, end, sizeof end);
    switch (failure->code) {
    case FARPOOL_EFUNCTION:
        snprintf(text, size, "%s: task %" PRIu64 " failed%s: %s", call, index, place,
                 message[0] != '\0' ? message : "the function gave no reason");
        break;
    case FARPOOL_EPROCESSLOST:
        snprintf(text, size, "%s: task %" PRIu64 " failed%s: %s%s%s", call, index, place,
                 end, message[0] != '\0' ? ": " : "", message);
        break;
    case FARPOOL_ECANCELLED:
        snprintf(text, size, "%s: task %" PRIu64 " was %s", call, index,
                 message[0] != '\0' ? message : "cancelled");
        break;
    case FARPOOL_ETERMINATED:
        snprintf(text, size, "%s: task %" PRIu64 " did not end: the pool was terminated",
                 call, index);
        break;
    case FARPOOL_ENOFUNCTION:
        snprintf(text, size, "%s: task %" PRIu64 " failed%s: no function %s: %s", call,
                 index, place, of->function, message);
        break;
    case FARPOOL_EINPUT:
        snprintf(text, size, "%s: input %" PRIu64 " failed: %s", call, index, message);
        break;
    default:
        snprintf(text, size, "%s: task %" PRIu64 " failed%s: %s%s%s", call, index, place,
                 farpool_error_text(failure->code), message[0] != '\0' ? ": " : "",
                 message);
    }
}

int failure_tell(const struct failure *failure, const struct failure_of *of,
                 uint64_t index, farpool_error *error)
{
    char text[sizeof error->text];

    if (error == NULL)
        return failure->code;
    print_text(failure, of, index, text, sizeof text);
    error_set(error, failure->code, "%s", text);
    error->exit_status = failure->exit_status;
    error->signal = failure->signal;
    error->pid = failure->pid;
    error->attempt = failure->attempt;
    error->index = index;
    snprintf(error->node, sizeof error->node, "%s", text_of(failure->node));
    snprintf(error->message, sizeof error->message, "%s", text_of(failure->message));
    snprintf(error->backtrace, sizeof error->backtrace, "%s",
             text_of(failure->backtrace));
    return failure->code;
}

/* ------------------------------------------------------------------- many */

int failures_add(struct failures *failures, struct failure *failure)
{
    if (!mem_reserve(&failures->items, &failures->capacity, failures->count + 1,
                     sizeof *failures->items))
        return FARPOOL_ENOMEM;
    if (failures->count > 0 &&
        failures->items[failures->count - 1].first > failure->first)
        failures->unsorted = true;
    failures->items[failures->count++] = *failure;
    *failure = (struct failure){0};
    return 0;
}

static int compare(const void *left, const void *right)
{
    uint64_t a = ((const struct failure *)left)->first;
    uint64_t b = ((const struct failure *)right)->first;

    return a < b ? -1 : a > b;
}

const struct failure *failures_find(struct failures *failures, uint64_t index)
{
    size_t low = 0, high = failures->count;

    if (failures->unsorted)
        qsort(failures->items, failures->count, sizeof *failures->items, compare);
    failures->unsorted = false;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct failure *failure = &failures->items[middle];

        if (index < failure->first)
            high = middle;
        else if (index - failure->first >= failure->count)
            low = middle + 1;
        else
            return failure;
    }
    return NULL;
}

void failures_fini(struct failures *failures)
{
    for (size_t i = 0; i < failures->count; i++)
        failure_fini(&failures->items[i]);
    mem_free(failures->items);
    *failures = (struct failures){0};
}
