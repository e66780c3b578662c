/* SPDX-License-Identifier: Apache-2.0
 *
 * detached_submit.c: farpool_submit: SUBMIT, the pieces of files that are asked for, the
 * inputs in blocks, SUBMIT_END; each word when the former one is on the coordinator's
 * disk. A block is kept until then, and where the connection breaks all begins again with
 * SUBMIT, whose answer tells what is there: nothing is lost, and nothing comes twice. */
#include "client/library.h"
#include "client/operator.h"
#include "client/options.h"
#include "client/program.h"
#include "client/query.h"
#include "common/base/error.h"
#include "common/base/mem.h"
#include "common/base/span.h"
#include "common/sys/sys.h"

#include <endian.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define BLOCK_BYTES 1048576
#define BLOCK_TASKS 65536
#define PATIENCE_MS 120000 /* for a busy disk */

struct submission {
    struct query query;
    const farpool_function *function;
    farpool_input input;
    void *user;
    struct program program;
    struct message *submit; /* the first word */
    struct message *block;  /* SUBMIT_TASKS that may not be there yet; NULL: none */
    uint64_t tasks;         /* pulled */
    bool accepted;          /* the name is this job's */
    bool input_ended, said_end;
    struct message *next;  /* what is said next */
    farpool_error failure; /* where `take` or `again` failed */
    bool told;
};

static int tell(struct submission *submission, int code, const char *text)
{
    submission->told = true;
    return error_set(&submission->failure, code, "submit: %s", text);
}

/* -------------------------------------------------------------------- the inputs */

struct block {
    uint8_t *data;
    uint32_t *sizes;
    uint32_t count;
    size_t data_size, data_capacity, sizes_capacity;
};

static int add_item(struct submission *submission, struct block *block,
                    const farpool_bytes *item)
{
    const farpool_function *function = submission->function;
    char text[200];
    if (function->form == FARPOOL_TYPED && item->size != function->input_size) {
        snprintf(text, sizeof text, "input %" PRIu64 " has %zu bytes, but %s takes %u",
                 submission->tasks, item->size, function->name, function->input_size);
        return tell(submission, FARPOOL_EINVAL, text);
    }
    if (item->size > BODY_BYTES_MAX) {
        snprintf(text, sizeof text,
                 "input %" PRIu64 " has %zu bytes, and the limit is %d",
                 submission->tasks, item->size, BODY_BYTES_MAX);
        return tell(submission, FARPOOL_ETOOBIG, text);
    }
    if (!mem_reserve(&block->data, &block->data_capacity,
                     block->data_size + item->size + 1, 1) ||
        !mem_reserve(&block->sizes, &block->sizes_capacity, block->count + 1,
                     sizeof *block->sizes))
        return tell(submission, FARPOOL_ENOMEM, "out of memory");
    if (item->size > 0)
        memcpy(block->data + block->data_size, item->data, item->size);
    block->data_size += item->size;
    block->sizes[block->count++] = htole32((uint32_t)item->size);
    submission->tasks++;
    return 0;
}

static int pull(struct submission *submission, struct block *block)
{
    while (block->data_size < BLOCK_BYTES && block->count < BLOCK_TASKS) {
        farpool_bytes item = {NULL, 0};
        char message[256] = "", text[400];
        int code = submission->input(submission->user, &item, message);
        if (code == FARPOOL_END) {
            submission->input_ended = true;
            return 0;
        }
        if (code != 0) {
            snprintf(text, sizeof text,
                     "the input callback failed at input %" PRIu64 "%s%s",
                     submission->tasks, message[0] != '\0' ? ": " : "", message);
            return tell(submission, FARPOOL_EINPUT, text);
        }
        if ((code = add_item(submission, block, &item)) != 0)
            return code;
    }
    return 0;
}

static struct message *make_block(const struct submission *submission,
                                  const struct block *block)
{
    struct message *message = message_create(MSG_SUBMIT_TASKS);
    struct msg_span *span = mem_alloc(sizeof *span);
    if (message == NULL || span == NULL) {
        mem_free(span);
        message_free(&message);
        return NULL;
    }
    span->first = submission->tasks - block->count;
    span->count = block->count;
    span->attempt = 1;
    span->sizes = payload_copy(block->sizes, block->count * sizeof *block->sizes);
    span->data = payload_copy(block->data_size > 0 ? (const void *)block->data : "",
                              block->data_size);
    message->submit_tasks.submit = submission->submit->submit.submit;
    message->submit_tasks.spans = span;
    message->submit_tasks.spans_count = 1;
    if (span->sizes == NULL || span->data == NULL)
        message_free(&message);
    return message;
}

/* Pulls the next block, if there is input left. */
static int next_block(struct submission *submission)
{
    struct block block = {.count = 0};
    int code = submission->input_ended ? 0 : pull(submission, &block);
    if (code == 0 && block.count > 0 &&
        (submission->block = make_block(submission, &block)) == NULL)
        code = tell(submission, FARPOOL_ENOMEM, "out of memory");
    mem_free(block.data);
    mem_free(block.sizes);
    return code;
}

/* ------------------------------------------------------------------ the dialogue */

static struct message *make_end(const struct submission *submission)
{
    struct message *message = message_create(MSG_SUBMIT_END);
    if (message != NULL) {
        message->submit_end.submit = submission->submit->submit.submit;
        message->submit_end.tasks = submission->tasks;
    }
    return message;
}

static int take_answer(struct submission *submission, const struct message *answer,
                       bool *ret_complete)
{
    const uint64_t have = answer->answer.tasks;
    int code;
    *ret_complete = true;
    if (answer->answer.code != 0)
        return tell(submission, answer->answer.code, answer->answer.text);
    submission->accepted = true;
    if (answer->answer.concerned > 0) {
        submission->query.again = NULL; /* all is there */
        return 0;
    }
    if (submission->block != NULL && have == submission->tasks)
        message_free(&submission->block);
    const uint64_t sent = submission->block != NULL
                              ? submission->block->submit_tasks.spans[0].first
                              : submission->tasks;
    if (have != sent)
        return tell(submission, FARPOOL_EPROTOCOL,
                    "the coordinator has other inputs than were sent");
    if (submission->block == NULL && (code = next_block(submission)) != 0)
        return code;
    submission->said_end = submission->block == NULL;
    submission->next = submission->block != NULL ? message_copy(submission->block)
                                                 : make_end(submission);
    return 0;
}

static int take(void *user, const struct message *answer, bool *ret_complete)
{
    struct submission *submission = user;
    if (answer->kind == MSG_ANSWER)
        return take_answer(submission, answer, ret_complete);
    *ret_complete = true;
    submission->accepted = true;
    submission->next = program_read(&submission->program, &answer->fetch.content,
                                    answer->fetch.offset, answer->fetch.bytes);
    if (submission->next != NULL)
        submission->next->blob.pool = submission->submit->submit.submit;
    return 0;
}

static struct message *again(void *user)
{
    struct submission *submission = user;
    struct message *next = submission->next;
    submission->next = NULL;
    return next;
}

/* On another connection, perhaps to another coordinator. */
static void restart(void *user)
{
    struct submission *submission = user;
    struct message *first = message_copy(submission->submit);
    if (first == NULL)
        return; /* what was asked is asked again, which does as well */
    message_free(&submission->query.question);
    submission->query.question = first;
}

/* ------------------------------------------------------------------------ the call */

static int fill(struct message *submit, const char *name, const char *function,
                const struct pool_settings *settings, const struct program *program)
{
    sys_random_id(&submit->submit.submit);
    snprintf(submit->submit.name, sizeof submit->submit.name, "%s", name);
    snprintf(submit->submit.function, sizeof submit->submit.function, "%s", function);
    submit->submit.program = program->hash;
    snprintf(submit->submit.program_name, sizeof submit->submit.program_name, "%.*s",
             NODE_NAME_MAX, program->files[0].about.name);
    memcpy(submit->submit.machine, program->machine, sizeof submit->submit.machine);
    submit->submit.processes = settings->processes;
    submit->submit.tasks_per_process = settings->tasks_per_process;
    memcpy(submit->submit.initializer, settings->initializer,
           sizeof settings->initializer);
    submit->submit.chunk = settings->job.chunk;
    submit->submit.timeout_ms = settings->job.timeout_ms;
    submit->submit.cpu_ms = settings->job.cpu_ms;
    submit->submit.memory_bytes = settings->job.memory_bytes;
    submit->submit.retries = settings->job.retries;
    submit->submit.losses_max = settings->job.losses_max;
    submit->submit.speculate = settings->job.speculate;
    if (settings->argument.size > 0 &&
        (submit->submit.argument =
             payload_copy(settings->argument.data, settings->argument.size)) == NULL)
        return FARPOOL_ENOMEM;
    submit->submit.files = program_list(program);
    if (submit->submit.files == NULL)
        return FARPOOL_ENOMEM;
    submit->submit.files_count = program->count;
    return 0;
}

/* What was begun is taken back, as far as it can be: else it is dropped after an hour. */
static void take_back(const struct submission *submission, const char *address,
                      const struct pool_settings *settings)
{
    struct message *question = message_create(MSG_DETACHED_END);
    if (question != NULL)
        memcpy(question->detached_end.name, submission->submit->submit.name,
               sizeof submission->submit->submit.name);
    operator_ask("submit", question, address, (int64_t)settings->connect_timeout_ms, NULL,
                 NULL, NULL);
}

static int run(struct submission *submission, const char *address,
               const struct pool_settings *settings, farpool_error *error)
{
    submission->query = (struct query){.call = "submit",
                                       .question = message_copy(submission->submit),
                                       .answer = MSG_ANSWER,
                                       .also = MSG_FETCH,
                                       .take = take,
                                       .again = again,
                                       .restart = restart,
                                       .patience_ms = PATIENCE_MS,
                                       .user = submission};
    int code = query_ask(&submission->query, address,
                         (int64_t)settings->connect_timeout_ms, error);
    if (code != 0 && submission->accepted && !submission->said_end)
        take_back(submission, address, settings);
    if (code != 0 && submission->told && error != NULL)
        *error = submission->failure;
    else if (code == FARPOOL_ENOCOORDINATOR && submission->said_end)
        error_set(error, code,
                  "submit: the connection broke behind the last word, and no coordinator "
                  "came back: the job may be there");
    return code;
}

static int check(const char *address, const char *name, const farpool_function *function,
                 farpool_input input, farpool_error *error)
{
    const char *environment = getenv("FARPOOL_COORDINATOR");
    if (!library_is_initialised())
        return error_set(error, FARPOOL_ENOINIT,
                         "submit: call farpool_init first, as the first line of main");
    if (name == NULL || function == NULL || input == NULL)
        return error_set(error, FARPOOL_EINVAL,
                         "submit: name, function or input is NULL");
    if (strlen(name) > NODE_NAME_MAX || name[0] == '\0')
        return error_set(error, FARPOOL_EINVAL,
                         "submit: a name has 1 to %d bytes, and this one %zu",
                         NODE_NAME_MAX, strlen(name));
    if (address == NULL && (environment == NULL || environment[0] == '\0'))
        return error_set(error, FARPOOL_EADDRESS,
                         "submit: no coordinator is named, by address or "
                         "FARPOOL_COORDINATOR: an embedded pool ends with this program, "
                         "and has no daemon to leave a job with");
    return 0;
}

int farpool_submit(const char *address, const char *name,
                   const farpool_function *function, farpool_input input, void *user,
                   const farpool_pool_options *options, farpool_error *error)
{
    struct submission submission = {.function = function, .input = input, .user = user};
    struct pool_settings settings;
    int code = check(address, name, function, input, error);
    if (code == 0)
        code = options_read_pool(options, &settings, error);
    if (code == 0)
        code = program_open(&settings, true, &submission.program, error);
    if (code != 0)
        return code;
    submission.submit = message_create(MSG_SUBMIT);
    if (submission.submit == NULL || fill(submission.submit, name, function->name,
                                          &settings, &submission.program) != 0)
        code = error_set(error, FARPOOL_ENOMEM, "submit: out of memory");
    if (code == 0)
        code = run(&submission, address, &settings, error);
    message_free(&submission.submit);
    message_free(&submission.block);
    message_free(&submission.next);
    program_fini(&submission.program);
    return code;
}
