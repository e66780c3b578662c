/* SPDX-License-Identifier: Apache-2.0
 *
 * scale.c: what a coordinator would sustain. Its real core serves NODES workers of SLOTS
 * slots in virtual time, which stands still for nobody but it: a turn lasts as long as
 * its steps and its messages' encoding took on this machine's processor, and --message-ns
 * for each message's sockets. So tasks a second are those of a cluster whose coordinator
 * has a core of this speed for itself. CLIENTS clients keep as many tasks waiting as they
 * may.
 *
 *   farpool-bench-scale NODES SLOTS CLIENTS TASK_MS SECONDS MESSAGE_NS */
#include "crowd.h"

#include <stdio.h>
#include <stdlib.h>

enum { ARGUMENTS = 6, JOBS = 2, UP_WITHIN_S = 300 };

static uint64_t job_tasks;

static uint64_t number(const char *text)
{
    char *end;
    const unsigned long value = strtoul(text, &end, 10);
    if (*end != 0 || value > 100000000)
        crowd_fail("usage", "see bench/crowd/scale.c");
    return value;
}

static void submit_again(struct app *app)
{
    crowd_app_submit(app, job_tasks);
}

static bool are_up(struct crowd *crowd)
{
    for (uint32_t i = 0; i < crowd->options.apps; i++)
        if (!crowd->apps[i].up)
            return false;
    return true;
}

static uint64_t done(const struct crowd *crowd)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < crowd->options.apps; i++)
        sum += crowd->apps[i].done;
    return sum;
}

static void begin(struct crowd *crowd, uint64_t task_ms)
{
    crowd_run(crowd, crowd->now_us + UP_WITHIN_S * UINT64_C(1000000), are_up);
    for (uint32_t i = 0; i < crowd->options.apps; i++) {
        struct app *app = &crowd->apps[i];
        app->task_us = 1000 * task_ms;
        app->on_end = submit_again;
        for (int job = 0; job < JOBS; job++)
            crowd_app_submit(app, job_tasks);
    }
}

/* Behind one third of the time, in which ramps grow, all is counted. */
static void measure(struct crowd *crowd, uint64_t task_ms, uint64_t seconds)
{
    const uint64_t span_us = seconds * 1000000;
    crowd_run(crowd, crowd->now_us + span_us / 3, NULL);
    const struct hub before = crowd->hub;
    const uint64_t done_before = done(crowd);
    crowd_run(crowd, crowd->now_us + span_us, NULL);
    const struct hub *hub = &crowd->hub;
    const double tasks = (double)(done(crowd) - done_before), s = (double)seconds;
    const double slots = (double)crowd->options.nodes * crowd->options.slots;
    if (tasks == 0)
        crowd_fail("tasks", "none has ended: more seconds are needed");
    printf("tasks_s %.0f\nof_possible %.3f\nbusy %.3f\ncore_us_a_task %.3f\n"
           "wire_us_a_task %.3f\nmessages_a_task %.4f\n",
           tasks / s, tasks / s / (slots * 1000 / (double)task_ms),
           (double)(hub->busy_ns - before.busy_ns) / 1e9 / s,
           (double)(hub->core_ns - before.core_ns) / 1e3 / tasks,
           (double)(hub->wire_ns - before.wire_ns) / 1e3 / tasks,
           (double)(hub->received + hub->sent - before.received - before.sent) / tasks);
}

int main(int argc, char **argv)
{
    struct crowd crowd;
    if (argc != ARGUMENTS + 1)
        crowd_fail("usage", "see bench/crowd/scale.c");
    struct crowd_options options = {.nodes = (uint32_t)number(argv[1]),
                                    .slots = (uint32_t)number(argv[2]),
                                    .apps = (uint32_t)number(argv[3]),
                                    .delay_us = 100,
                                    .message_ns = number(argv[6]),
                                    .costs = true};
    const uint64_t task_ms = number(argv[4]), seconds = number(argv[5]);
    if (options.nodes == 0 || options.slots == 0 || options.apps == 0 || task_ms == 0 ||
        seconds == 0)
        crowd_fail("usage", "each but MESSAGE_NS is at least 1");
    job_tasks = UINT64_C(1) << 18; /* two of them are half of a client's window */
    crowd_create(&options, &crowd);
    begin(&crowd, task_ms);
    measure(&crowd, task_ms, seconds);
    return 0;
}
