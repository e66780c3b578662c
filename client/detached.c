/* SPDX-License-Identifier: Apache-2.0
 *
 * detached.c: what can be asked of detached jobs: which there are and how they stand,
 * their end, and their results, of which about a megabyte is asked for at a time. Each
 * question has a connection of its own, so that a coordinator may go and come back
 * between two. */
#include "client/operator.h"
#include "client/options.h"
#include "client/query.h"
#include "common/base/error.h"
#include "common/base/mem.h"
#include "common/base/span.h"
#include "common/sys/sys.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define AGAIN_MS 100 /* between two looks at what has not ended */
#define COLLECT_BYTES 1048576

struct farpool_detached {
    char *address; /* NULL: the environment's */
    char name[DETACHED_NAME_MAX + 1];
    struct id submit;        /* of the job that results were seen of; zero: none */
    struct message *results; /* COLLECTED; NULL: none, or read to the end */
    uint64_t next;           /* index of the task that is told next */
    uint32_t span, failure;  /* the next of each list */
    uint32_t place;          /* in the span */
    uint64_t offset;         /* of it, in the span's data */
};

/* One dialogue: what was answered, and until when to ask. */
struct asking {
    struct query query;
    struct message *question; /* for `again` */
    uint64_t until_ms;
    struct message *answer; /* the last one that has what was wanted; taken over */
    farpool_detached_status *list;
    size_t count, capacity;
    int code;
    char text[256];
};

/* -------------------------------------------------------------------- DETACHED_GET */

static bool is_over(const char *state)
{
    return strcmp(state, "ended") == 0 || strcmp(state, "cancelled") == 0 ||
           strcmp(state, "failed") == 0;
}

static void read_info(const struct msg_detached_info *from, farpool_detached_status *to)
{
    *to = (farpool_detached_status){.code = from->code,
                                    .tasks = from->tasks,
                                    .done = from->done,
                                    .failed = from->failed,
                                    .bytes = from->bytes,
                                    .submitted_ms = from->submitted_ms,
                                    .left_s = from->left_s,
                                    .over = is_over(from->state)};
    snprintf(to->name, sizeof to->name, "%.63s", from->name);
    snprintf(to->owner, sizeof to->owner, "%s", from->owner);
    snprintf(to->function, sizeof to->function, "%s", from->function);
    snprintf(to->program, sizeof to->program, "%s", from->program);
    snprintf(to->state, sizeof to->state, "%s", from->state);
    snprintf(to->reason, sizeof to->reason, "%s", from->reason);
}

static int take_list(void *user, const struct message *answer, bool *ret_complete)
{
    struct asking *asking = user;
    const uint32_t more = answer->detached.jobs_count;
    asking->code = answer->detached.code;
    snprintf(asking->text, sizeof asking->text, "%s", answer->detached.text);
    if (!mem_reserve(&asking->list, &asking->capacity, asking->count + more + 1,
                     sizeof *asking->list))
        return FARPOOL_ENOMEM;
    for (uint32_t i = 0; i < more; i++)
        read_info(&answer->detached.jobs[i], &asking->list[asking->count++]);
    *ret_complete = !answer->detached.more;
    return 0;
}

static void forget_list(void *user)
{
    ((struct asking *)user)->count = 0;
}

static struct message *ask_again(void *user)
{
    return message_copy(((struct asking *)user)->question);
}

static int take_until_over(void *user, const struct message *answer, bool *ret_complete)
{
    struct asking *asking = user;
    asking->count = 0;
    const int code = take_list(user, answer, ret_complete);
    if (code != 0 || asking->code != 0 || asking->count == 0 || asking->list[0].over ||
        sys_now_ms() >= asking->until_ms)
        asking->query.again = NULL;
    return code;
}

static struct message *make_get(const char *name)
{
    struct message *message = message_create(MSG_DETACHED_GET);
    if (message != NULL)
        snprintf(message->detached_get.name, sizeof message->detached_get.name, "%s",
                 name);
    return message;
}

/* 0, or the query's error, or the coordinator's; asking->list is to be freed. */
static int get(struct asking *asking, const char *call, const char *address,
               const char *name, int64_t timeout_ms, bool until_over,
               farpool_error *error)
{
    asking->query = (struct query){.call = call,
                                   .question = make_get(name),
                                   .answer = MSG_DETACHED,
                                   .take = until_over ? take_until_over : take_list,
                                   .again = until_over ? ask_again : NULL,
                                   .again_ms = AGAIN_MS,
                                   .restart = forget_list,
                                   .user = asking};
    asking->question = make_get(name);
    int code = asking->question != NULL
                   ? query_ask(&asking->query, address, timeout_ms, error)
                   : error_set(error, FARPOOL_ENOMEM, "%s: out of memory", call);
    message_free(&asking->question);
    if (code == 0 && asking->code != 0)
        code = error_set(error, asking->code, "%s: %s", call, asking->text);
    return code;
}

int farpool_detached_list(const char *address, int64_t timeout_ms,
                          farpool_detached_status **ret_list, size_t *ret_count,
                          farpool_error *error)
{
    struct asking asking = {.count = 0};
    if (ret_list == NULL || ret_count == NULL)
        return error_set(error, FARPOOL_EINVAL,
                         "detached_list: ret_list or ret_count is NULL");
    const int code = get(&asking, "detached_list", address, "", timeout_ms, false, error);
    if (code != 0) {
        mem_free(asking.list);
        return code;
    }
    *ret_list = asking.list;
    *ret_count = asking.count;
    return 0;
}

void farpool_detached_list_free(farpool_detached_status *list)
{
    mem_free(list);
}

/* ---------------------------------------------------------------------- the handle */

farpool_detached *farpool_attach(const char *address, const char *name,
                                 int64_t timeout_ms, farpool_error *error)
{
    struct asking asking = {.count = 0};
    if (name == NULL || name[0] == '\0' || strlen(name) > DETACHED_NAME_MAX) {
        error_set(error, FARPOOL_EINVAL, "attach: a name has 1 to %d bytes",
                  DETACHED_NAME_MAX);
        return NULL;
    }
    const int code = get(&asking, "attach", address, name, timeout_ms, false, error);
    mem_free(asking.list);
    if (code != 0)
        return NULL;
    farpool_detached *detached = mem_alloc(sizeof *detached);
    if (detached != NULL)
        snprintf(detached->name, sizeof detached->name, "%s", name);
    if (detached != NULL && address != NULL &&
        (detached->address = mem_strdup(address)) == NULL) {
        mem_free(detached);
        detached = NULL;
    }
    if (detached == NULL)
        error_set(error, FARPOOL_ENOMEM, "attach: out of memory");
    return detached;
}

void farpool_detached_free(farpool_detached *detached)
{
    if (detached == NULL)
        return;
    message_free(&detached->results);
    mem_free(detached->address);
    mem_free(detached);
}

static int check(const farpool_detached *detached, const char *call, farpool_error *error)
{
    return detached != NULL
               ? 0
               : error_set(error, FARPOOL_EINVAL, "%s: the job is NULL", call);
}

int farpool_detached_get_status(farpool_detached *detached, int64_t timeout_ms,
                                farpool_detached_status *ret_status, farpool_error *error)
{
    static const char call[] = "detached_get_status";
    struct asking asking = {.count = 0};
    int code = check(detached, call, error);
    if (ret_status == NULL)
        return error_set(error, FARPOOL_EINVAL, "%s: ret_status is NULL", call);
    if (code == 0)
        code = get(&asking, call, detached->address, detached->name, timeout_ms, false,
                   error);
    if (code == 0 && asking.list != NULL)
        *ret_status = asking.list[0];
    mem_free(asking.list);
    return code;
}

/* A coordinator that does not answer in time is one that may be back later. */
static int timed_out(int code, const char *call, const farpool_detached *detached,
                     int64_t timeout_ms, farpool_error *error)
{
    return code != FARPOOL_ENOCOORDINATOR && code != FARPOOL_ETIMEDOUT
               ? code
               : error_set(error, FARPOOL_ETIMEDOUT,
                           "%s: the detached job \"%s\": nothing within %" PRId64 " ms",
                           call, detached->name, timeout_ms);
}

int farpool_detached_wait(farpool_detached *detached, int64_t timeout_ms,
                          farpool_error *error)
{
    static const char call[] = "detached_wait";
    struct asking asking = {.count = 0};
    int code = check(detached, call, error);
    if (code == 0)
        code = options_read_timeout(timeout_ms, call, &asking.until_ms, error);
    if (code == 0)
        code = get(&asking, call, detached->address, detached->name, timeout_ms, true,
                   error);
    if (code == 0 && !asking.list[0].over)
        code = FARPOOL_ETIMEDOUT;
    else if (code == 0 && asking.list[0].code != 0)
        code = error_set(error, asking.list[0].code, "%s: the detached job \"%s\" %s: %s",
                         call, detached->name,
                         strcmp(asking.list[0].state, "failed") == 0 ? "failed"
                                                                     : "was cancelled",
                         asking.list[0].reason);
    mem_free(asking.list);
    return detached != NULL ? timed_out(code, call, detached, timeout_ms, error) : code;
}

/* -------------------------------------------------------------------- DETACHED_END */

static int end(farpool_detached *detached, const char *call, bool forget,
               int64_t timeout_ms, uint64_t *ret_tasks, farpool_error *error)
{
    int code = check(detached, call, error);
    if (code != 0)
        return code;
    struct message *question = message_create(MSG_DETACHED_END);
    if (question != NULL) {
        snprintf(question->detached_end.name, sizeof question->detached_end.name, "%s",
                 detached->name);
        question->detached_end.forget = forget;
    }
    return operator_ask(call, question, detached->address, timeout_ms, NULL, ret_tasks,
                        error);
}

int farpool_detached_cancel(farpool_detached *detached, int64_t timeout_ms,
                            uint64_t *ret_tasks, farpool_error *error)
{
    return end(detached, "detached_cancel", false, timeout_ms, ret_tasks, error);
}

int farpool_detached_forget(farpool_detached *detached, int64_t timeout_ms,
                            farpool_error *error)
{
    return end(detached, "detached_forget", true, timeout_ms, NULL, error);
}

/* ------------------------------------------------------------------------- results */

static struct message *make_collect(const farpool_detached *detached)
{
    struct message *message = message_create(MSG_COLLECT);
    if (message != NULL) {
        snprintf(message->collect.name, sizeof message->collect.name, "%s",
                 detached->name);
        message->collect.first = detached->next;
        message->collect.bytes = COLLECT_BYTES;
    }
    return message;
}

static int take_collected(void *user, const struct message *answer, bool *ret_complete)
{
    struct asking *asking = user;
    message_free(&asking->answer);
    asking->answer = message_copy(answer);
    *ret_complete = true;
    if (asking->answer == NULL)
        return FARPOOL_ENOMEM;
    asking->code = answer->collected.code;
    snprintf(asking->text, sizeof asking->text, "%s", answer->collected.text);
    if (asking->code != 0 || answer->collected.ended ||
        answer->collected.next > asking->question->collect.first ||
        sys_now_ms() >= asking->until_ms)
        asking->query.again = NULL;
    return 0;
}

static int keep(farpool_detached *detached, struct asking *asking, const char *call,
                farpool_error *error)
{
    struct message *answer = asking->answer;
    if (asking->code != 0)
        return error_set(error, asking->code, "%s: %s", call, asking->text);
    if (!id_is_zero(&detached->submit) &&
        !id_equal(&detached->submit, &answer->collected.submit))
        return error_set(error, FARPOOL_ENOJOB,
                         "%s: the job \"%s\" was forgotten, and there is another one of "
                         "that name: attach to it",
                         call, detached->name);
    detached->submit = answer->collected.submit;
    if (answer->collected.next <= detached->next)
        return detached->next < answer->collected.tasks ? FARPOOL_ETIMEDOUT : FARPOOL_END;
    message_free(&detached->results);
    detached->results = answer;
    detached->span = detached->failure = detached->place = 0;
    detached->offset = 0;
    asking->answer = NULL;
    return 0;
}

/* Asks for what follows, until something does. */
static int collect(farpool_detached *detached, const char *call, int64_t timeout_ms,
                   farpool_error *error)
{
    struct asking asking = {.question = make_collect(detached)};
    int code = options_read_timeout(timeout_ms, call, &asking.until_ms, error);
    asking.query = (struct query){.call = call,
                                  .question = make_collect(detached),
                                  .answer = MSG_COLLECTED,
                                  .take = take_collected,
                                  .again = ask_again,
                                  .again_ms = AGAIN_MS,
                                  .user = &asking};
    if (code == 0 && asking.question == NULL)
        code = error_set(error, FARPOOL_ENOMEM, "%s: out of memory", call);
    if (code == 0)
        code = query_ask(&asking.query, detached->address, timeout_ms, error);
    else
        message_free(&asking.query.question);
    if (code == 0)
        code = keep(detached, &asking, call, error);
    message_free(&asking.question);
    message_free(&asking.answer);
    return timed_out(code, call, detached, timeout_ms, error);
}

static int give_output(farpool_detached *detached, const struct msg_span *span,
                       farpool_bytes *ret_output)
{
    const uint32_t size = span_task_size(span, detached->place);
    if (ret_output != NULL)
        *ret_output = (farpool_bytes){
            size > 0 ? (const void *)(span->data->data + detached->offset) : "", size};
    detached->offset += size;
    if (++detached->place == span->count) {
        detached->span++;
        detached->place = 0;
        detached->offset = 0;
    }
    return 0;
}

static int give_failure(const farpool_detached *detached, const struct msg_failed *failed,
                        farpool_error *error)
{
    error_set(error, failed->code,
              "task %" PRIu64 " of the detached job \"%s\"%s%s: %s%s%s", failed->index,
              detached->name, failed->node[0] != '\0' ? " on " : "", failed->node,
              farpool_error_text(failed->code),
              failed->message != NULL && failed->message[0] != '\0' ? ": " : "",
              failed->message != NULL ? failed->message : "");
    if (error == NULL)
        return failed->code;
    error->index = failed->index;
    error->attempt = failed->attempt;
    error->exit_status = failed->exit_status;
    error->signal = failed->signal;
    error->pid = (int)failed->pid;
    memcpy(error->node, failed->node, sizeof error->node);
    snprintf(error->message, sizeof error->message, "%s",
             failed->message != NULL ? failed->message : "");
    snprintf(error->backtrace, sizeof error->backtrace, "%s",
             failed->backtrace != NULL ? failed->backtrace : "");
    return failed->code;
}

/* The result of detached->next, which is among those that are here. */
static int give(farpool_detached *detached, farpool_bytes *ret_output,
                farpool_error *error)
{
    const struct message *results = detached->results;
    const uint64_t index = detached->next++;
    if (detached->span < results->collected.spans_count) {
        const struct msg_span *span = &results->collected.spans[detached->span];
        if (span->first + detached->place == index)
            return give_output(detached, span, ret_output);
    }
    if (detached->failure < results->collected.failures_count) {
        const struct msg_failed *failed = &results->collected.failures[detached->failure];
        if (failed->index == index) {
            detached->failure++;
            return give_failure(detached, failed, error);
        }
    }
    const int code = results->collected.rest_code != 0 ? results->collected.rest_code
                                                       : FARPOOL_EPROTOCOL;
    error_set(error, code,
              "task %" PRIu64 " of the detached job \"%s\" has no result: %s", index,
              detached->name, results->collected.rest_text);
    if (error != NULL)
        error->index = index;
    return code;
}

int farpool_detached_next(farpool_detached *detached, int64_t timeout_ms,
                          farpool_bytes *ret_output, uint64_t *ret_index,
                          farpool_error *error)
{
    static const char call[] = "detached_next";
    int code = check(detached, call, error);
    if (code != 0)
        return code;
    if (detached->results == NULL || detached->next >= detached->results->collected.next)
        code = collect(detached, call, timeout_ms, error);
    if (code != 0 || detached->results == NULL)
        return code;
    if (ret_index != NULL)
        *ret_index = detached->next;
    return give(detached, ret_output, error);
}
