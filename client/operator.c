/* SPDX-License-Identifier: Apache-2.0
 *
 * operator.c: what an operator asks of a coordinator about the work of others: to cancel
 * jobs, to drain a node. One question, one ANSWER; where the connection breaks between
 * them the question is asked again, and what the first one has done already is no error
 * of the second one. */
#include "client/operator.h"
#include "client/query.h"
#include "common/base/error.h"

#include <stdio.h>
#include <string.h>

struct outcome {
    uint64_t concerned, tasks;
    int code;
    char text[256];
};

static int take_answer(void *user, const struct message *answer, bool *ret_complete)
{
    struct outcome *outcome = user;

    outcome->code = answer->answer.code;
    outcome->concerned = answer->answer.concerned;
    outcome->tasks = answer->answer.tasks;
    snprintf(outcome->text, sizeof outcome->text, "%s", answer->answer.text);
    *ret_complete = true;
    return 0;
}

int operator_ask(const char *call, struct message *question, const char *address,
                 int64_t timeout_ms, uint64_t *ret_concerned, uint64_t *ret_tasks,
                 farpool_error *error)
{
    struct outcome outcome = {.code = 0};
    struct query query = {.call = call,
                          .question = question,
                          .answer = MSG_ANSWER,
                          .take = take_answer,
                          .user = &outcome};
    int code = query_ask(&query, address, timeout_ms, error);

    if (code != 0)
        return code;
    if (outcome.code != 0 && !(query.asked > 1 && outcome.code == FARPOOL_EDRAINED))
        return error_set(error, outcome.code, "%s: %s%s", call, outcome.text,
                         query.asked > 1 ? " (asked again since the connection broke: it "
                                           "may have ended by the first time)"
                                         : "");
    if (ret_concerned != NULL)
        *ret_concerned = outcome.concerned;
    if (ret_tasks != NULL)
        *ret_tasks = outcome.tasks;
    return 0;
}

static int digit(char letter)
{
    static const char digits[] = "0123456789abcdef";
    const char *at = letter != '\0' ? strchr(digits, letter) : NULL;

    return at != NULL ? (int)(at - digits) : -1;
}

bool query_parse_id(const char *text, struct id *ret_id)
{
    struct id id;

    if (text == NULL || strlen(text) != 2 * sizeof id.bytes)
        return false;
    for (size_t i = 0; i < sizeof id.bytes; i++) {
        int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);

        if (high < 0 || low < 0)
            return false;
        id.bytes[i] = (uint8_t)(high << 4 | low);
    }
    *ret_id = id;
    return true;
}

int farpool_cluster_cancel(const char *address, int64_t timeout_ms, const char *pool,
                           uint64_t job, bool kill, uint64_t *ret_jobs,
                           uint64_t *ret_tasks, farpool_error *error)
{
    struct message *question;
    struct id id;

    if (!query_parse_id(pool, &id))
        return error_set(error, FARPOOL_EINVAL,
                         "cancel: the pool '%s' is not an id of 32 hexadecimal digits",
                         pool != NULL ? pool : "NULL");
    question = message_create(MSG_CANCEL_JOB);
    if (question != NULL) {
        question->cancel_job.pool = id;
        question->cancel_job.job = job;
        question->cancel_job.kill = kill;
    }
    return operator_ask("cancel", question, address, timeout_ms, ret_jobs, ret_tasks,
                        error);
}

int farpool_cluster_drain(const char *address, int64_t timeout_ms, const char *node,
                          uint64_t *ret_workers, uint64_t *ret_tasks,
                          farpool_error *error)
{
    struct message *question;

    if (node == NULL || node[0] == '\0' || strlen(node) > NODE_NAME_MAX)
        return error_set(error, FARPOOL_EINVAL, "drain: a node's name has 1 to %d bytes",
                         NODE_NAME_MAX);
    question = message_create(MSG_DRAIN_NODE);
    if (question != NULL)
        snprintf(question->drain_node.node, sizeof question->drain_node.node, "%s", node);
    return operator_ask("drain", question, address, timeout_ms, ret_workers, ret_tasks,
                        error);
}
