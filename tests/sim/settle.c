/* SPDX-License-Identifier: Apache-2.0
 *
 * settle.c: the end of a seed. Faults are over, there are healthy nodes and a
 * coordinator; within bounded time every client must have its ends, close and leave, and
 * then no core may hold anything any more. */
#include "sim.h"

#include <stdio.h>

#define SETTLE_US 400000000u
#define LOOK_US 100000u
#define HEALTHY_NODES 2

static bool is_healthy(const struct node *node)
{
    return node->actor.alive && !node->ending && !node->may_drain &&
           !node->program_fails && !node->alien && !node->starts_fail;
}

/* Fresh nodes, in the place of sick ones if there is no other. */
static void ensure_nodes(struct sim *sim)
{
    int healthy = 0;

    for (int i = 0; i < NODES_MAX; i++)
        healthy += is_healthy(&sim->nodes[i]);
    for (int i = NODES_MAX - 1; i >= 0 && healthy < HEALTHY_NODES; i--) {
        if (sim->nodes[i].actor.alive)
            continue;
        sim_node_start(sim, i);
        healthy++;
    }
}

static bool apps_are_over(const struct sim *sim)
{
    for (int i = 0; i < APPS_MAX; i++)
        if (sim->apps[i].actor.alive)
            return false;
    return true;
}

static bool cores_are_empty(const struct sim *sim)
{
    struct coordinator_counts counts;

    coordinator_core_counts(sim->coordinator.core, &counts);
    if (counts.clients || counts.pools || counts.jobs || counts.waiting ||
        counts.assigned)
        return false;
    for (int i = 0; i < NODES_MAX; i++) {
        struct worker_counts held;

        if (!sim->nodes[i].actor.alive)
            continue;
        if (sim->nodes[i].ending)
            return false;
        worker_core_counts(sim->nodes[i].core, &held);
        if (held.pools || held.processes || held.running || held.held || held.unacked)
            return false;
    }
    return true;
}

static void look(struct sim *sim, uint64_t a, uint64_t b, uint64_t c)
{
    (void)a, (void)b, (void)c;
    if (apps_are_over(sim) && sim_detached_are_over(sim) && cores_are_empty(sim)) {
        sim->finished = true;
        for (int i = 0; i < NODES_MAX; i++)
            if (sim->nodes[i].actor.alive)
                sim_shared_check_end(sim, &sim->nodes[i]);
    } else
        sim_at(sim, sim->now_us + LOOK_US, look, 0, 0, 0);
}

void sim_settle_begin(struct sim *sim)
{
    sim_trace(sim, "---- the faults are over");
    sim->settled = true;
    sim->settle_until_us = sim->now_us + SETTLE_US;
    sim_detached_settle(sim);
    sim_coordinator_start(sim);
    ensure_nodes(sim);
    /* A program closes its pool when it has looked and everything has ended. */
    for (int i = 0; i < APPS_MAX; i++)
        if (sim->apps[i].actor.alive)
            sim_app_look(sim, &sim->apps[i]);
    look(sim, 0, 0, 0);
}

/* -------------------------------------------------------------------- dump */

static void dump_job(const struct job *job, int place)
{
    int shown = 0;

    printf("    job %d (%llx): %llu of %llu pulled, %llu ended, %llu read%s%s%s%s%s\n",
           place, (unsigned long long)job->number, (unsigned long long)job->pulled,
           (unsigned long long)job->count, (unsigned long long)job->ends,
           (unsigned long long)job->read, job->opened ? "" : " not opened",
           job->options.lazy ? " lazy" : "", job->options.losses_max == 1 ? " once" : "",
           job->ended ? " ended" : "", job->freed ? " freed" : "");
    for (uint64_t i = 0; i < job->pulled && shown < 5; i++) {
        const struct task *task = &job->tasks[i];

        if (task->end != TASK_OPEN)
            continue;
        shown++;
        printf("      task %llu open: behaviour %d, begun %u times, sent as attempt %u, "
               "%u losses, %u failures\n",
               (unsigned long long)i, (int)sim_job_behaviour(job, i), task->begins,
               task->sent, task->losts, task->failures);
    }
}

static void dump_app(const struct sim *sim, int place)
{
    const struct app *app = &sim->apps[place];

    if (!app->actor.alive)
        return;
    printf("  C%d: link %llu%s%s%s%s\n", place, (unsigned long long)app->link,
           app->config.attach ? " nested" : "", app->failed ? " failed" : "",
           app->closing ? " closing" : "", app->terminated ? " terminated" : "");
    for (int i = 0; i < app->jobs_count; i++)
        if (app->jobs[i].used && !app->jobs[i].ended)
            dump_job(&app->jobs[i], i);
}

void sim_settle_dump(struct sim *sim)
{
    struct coordinator_counts counts;
    struct worker_counts held;

    if (sim->coordinator.actor.alive) {
        coordinator_core_counts(sim->coordinator.core, &counts);
        printf("  K: %llu clients, %llu workers, %llu pools, %llu jobs, %llu waiting, "
               "%llu assigned\n",
               (unsigned long long)counts.clients, (unsigned long long)counts.workers,
               (unsigned long long)counts.pools, (unsigned long long)counts.jobs,
               (unsigned long long)counts.waiting, (unsigned long long)counts.assigned);
    }
    for (int i = 0; i < NODES_MAX; i++) {
        if (!sim->nodes[i].actor.alive)
            continue;
        worker_core_counts(sim->nodes[i].core, &held);
        printf("  W%d: link %llu, %llu pools, %llu processes, %llu running, %llu held, "
               "%llu not acked%s\n",
               i, (unsigned long long)sim->nodes[i].link, (unsigned long long)held.pools,
               (unsigned long long)held.processes, (unsigned long long)held.running,
               (unsigned long long)held.held, (unsigned long long)held.unacked,
               sim->nodes[i].ending ? ", ending" : "");
    }
    for (int i = 0; i < APPS_MAX; i++)
        dump_app(sim, i);
    sim_detached_dump(sim);
}
