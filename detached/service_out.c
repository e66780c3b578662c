/* SPDX-License-Identifier: Apache-2.0
 *
 * service_out.c: what the service has done: answers, which wait for the transaction that
 * they tell of, and all else. Who asked gets an answer, or loses the link where there is
 * no memory for one: room to say that is made before a question is taken. */
#include "detached/service_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct service_out *service_add_out(struct service *service, enum service_out_kind kind)
{
    if (!mem_reserve(&service->outs, &service->outs_capacity, service->outs_count + 1,
                     sizeof *service->outs))
        return NULL;
    struct service_out *out = &service->outs[service->outs_count++];
    *out = (struct service_out){.kind = kind};
    return out;
}

void service_log(struct service *service, enum log_level level, const char *event,
                 const char *format, ...)
{
    struct service_out *out = service_add_out(service, SERVICE_LOG);
    if (out == NULL)
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(out->text, sizeof out->text, format, arguments);
    va_end(arguments);
    out->level = level;
    out->event = event;
}

uint32_t service_request_of(const struct message *question)
{
    switch (question->kind) {
    case MSG_SUBMIT:
        return question->submit.request;
    case MSG_SUBMIT_TASKS:
        return question->submit_tasks.request;
    case MSG_SUBMIT_END:
        return question->submit_end.request;
    case MSG_DETACHED_GET:
        return question->detached_get.request;
    case MSG_DETACHED_END:
        return question->detached_end.request;
    case MSG_COLLECT:
        return question->collect.request;
    default:
        return 0;
    }
}

bool service_expect_answer(struct service *service)
{
    return mem_reserve(&service->answers, &service->answers_capacity,
                       service->answers_count + 1, sizeof *service->answers);
}

void service_answer(struct service *service, uint64_t link,
                    const struct message *question, struct message **message)
{
    if (!service_expect_answer(service)) { /* a further one to the same question */
        message_free(&service->answers[--service->answers_count].message);
        message_free(message);
    }
    service->answers[service->answers_count++] =
        (struct answer){link, question->kind, service_request_of(question), *message};
    *message = NULL;
}

struct message *service_make_refusal(enum message_kind question, uint32_t request,
                                     int code, const char *text)
{
    struct message *message = message_create(question == MSG_DETACHED_GET ? MSG_DETACHED
                                             : question == MSG_COLLECT    ? MSG_COLLECTED
                                                                          : MSG_ANSWER);
    if (message == NULL)
        return NULL;
    if (message->kind == MSG_DETACHED) {
        message->detached.request = request;
        message->detached.code = code;
        snprintf(message->detached.text, sizeof message->detached.text, "%s", text);
    } else if (message->kind == MSG_COLLECTED) {
        message->collected.request = request;
        message->collected.code = code;
        snprintf(message->collected.text, sizeof message->collected.text, "%s", text);
    } else {
        message->answer.request = request;
        message->answer.code = code;
        snprintf(message->answer.text, sizeof message->answer.text, "%s", text);
    }
    return message;
}

void service_refuse(struct service *service, uint64_t link,
                    const struct message *question, int code, const char *format, ...)
{
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    struct message *message =
        service_make_refusal(question->kind, service_request_of(question), code, text);
    service_answer(service, link, question, &message);
}

void service_refuse_error(struct service *service, uint64_t link,
                          const struct message *question, const farpool_error *error)
{
    service_refuse(service, link, question, error->code, "%s", error->text);
}

/* All of them, or none: then they are due in the next turn. */
void service_release_answers(struct service *service)
{
    service->answers_due = service->answers_count;
    if (!mem_reserve(&service->outs, &service->outs_capacity,
                     service->outs_count + service->answers_due, sizeof *service->outs))
        return;
    for (size_t i = 0; i < service->answers_due; i++) {
        const struct answer *answer = &service->answers[i];
        service->outs[service->outs_count++] =
            (struct service_out){.kind = answer->message ? SERVICE_ANSWER : SERVICE_DROP,
                                 .link = answer->link,
                                 .message = answer->message};
    }
    service->answers_count = service->answers_due = 0;
}

void service_refuse_answers(struct service *service)
{
    for (size_t i = service->answers_due; i < service->answers_count; i++) {
        struct answer *answer = &service->answers[i];
        message_free(&answer->message);
        answer->message =
            service_make_refusal(answer->question, answer->request, service->failure.code,
                                 service->failure.text);
    }
    service_release_answers(service);
}
