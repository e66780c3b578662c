/* SPDX-License-Identifier: Apache-2.0
 *
 * stranger.c: somebody with another key, in the seeds that have keys, asks about a
 * detached job whose name or number it has heard: to all of it there is no such job, and
 * its owner notices nothing. */
#include "detached.h"

#include <stdio.h>

static struct message *make_question(struct sim *sim, const struct detached *detached)
{
    static const enum message_kind kinds[] = {MSG_DETACHED_GET, MSG_DETACHED_END,
                                              MSG_COLLECT, MSG_SUBMIT_TASKS,
                                              MSG_SUBMIT_END};
    struct message *message = message_create(kinds[sim_dice(sim, 5)]);
    const char *name = detached->submit->submit.name;

    switch (message->kind) {
    case MSG_DETACHED_GET:
        if (sim_chance(sim, 2)) /* else: all */
            snprintf(message->detached_get.name, sizeof message->detached_get.name,
                     "%s%s", sim_chance(sim, 2) ? "C23/" : "", name);
        break;
    case MSG_DETACHED_END:
        snprintf(message->detached_end.name, sizeof message->detached_end.name, "%s",
                 name);
        message->detached_end.forget = sim_chance(sim, 2);
        break;
    case MSG_COLLECT:
        snprintf(message->collect.name, sizeof message->collect.name, "%s", name);
        message->collect.bytes = 1000;
        break;
    case MSG_SUBMIT_TASKS:
        message->submit_tasks.submit = detached->submit->submit.submit;
        break;
    default:
        message->submit_end.submit = detached->submit->submit.submit;
        message->submit_end.tasks = detached->kept;
    }
    return message;
}

void sim_stranger_ask(struct sim *sim, const struct detached *detached)
{
    struct message *hello;

    if (!sim->plan.keys || !sim->coordinator.actor.alive)
        return;
    const uint64_t link = sim_link_outsider(sim, SQUATTER_PLACE);
    hello = message_create(MSG_HELLO_CLIENT);
    hello->hello_client.protocol = PROTOCOL_VERSION;
    hello->hello_client.client = sim_id(sim);
    sim_coordinator_push(sim, link, hello);
    sim_coordinator_push(sim, link, make_question(sim, detached));
}

static int code_of(const struct message *message)
{
    switch (message->kind) {
    case MSG_ANSWER:
        return message->answer.code;
    case MSG_DETACHED: /* of all that it may see there is none */
        return message->detached.code != 0        ? message->detached.code
               : message->detached.jobs_count > 0 ? 0
                                                  : FARPOOL_ENOJOB;
    case MSG_COLLECTED:
        return message->collected.code;
    default:
        return 0;
    }
}

void sim_stranger_check_told(struct sim *sim, const struct message *message)
{
    const int code = code_of(message);

    if (code != FARPOOL_ENOJOB && !sim_told_again(code))
        sim_fail(sim, "somebody with another key is told %s of a detached job",
                 message_name(message->kind));
}
