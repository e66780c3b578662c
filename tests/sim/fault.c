/* SPDX-License-Identifier: Apache-2.0
 *
 * fault.c: what a seed has in store: the cluster, its clients, which faults there are,
 * and when each strikes whom. All of it is over at faults_until_us; from then on
 * settle.c expects the cluster to come to rest. */
#include "sim.h"

#include <stdio.h>
#include <string.h>

static const char *const fault_names[] = {
#define FAULT_NAME(NAME, text) #NAME,
    SIM_FAULTS(FAULT_NAME)
#undef FAULT_NAME
};

/* ----------------------------------------------------------------- victims */

/* One of those that are alive; -1: none. */
static int pick_node(struct sim *sim)
{
    int found = -1;
    uint64_t seen = 0;

    for (int i = 0; i < NODES_MAX; i++)
        if (sim->nodes[i].actor.alive && sim_chance(sim, ++seen))
            found = i;
    return found;
}

static int pick_app(struct sim *sim, bool nested_too)
{
    int found = -1;
    uint64_t seen = 0;

    for (int i = 0; i < APPS_MAX; i++)
        if (sim->apps[i].actor.alive && (nested_too || sim->apps[i].node < 0) &&
            sim_chance(sim, ++seen))
            found = i;
    return found;
}

static struct link *pick_link(struct sim *sim)
{
    struct link *found = NULL;
    uint64_t seen = 0;

    for (uint64_t i = 1; i <= sim->links.count; i++) {
        struct link *link = sim_link_find(sim, i);

        if (link->lanes[0].open && link->lanes[1].open && sim_chance(sim, ++seen))
            found = link;
    }
    return found;
}

static struct job *pick_job(struct sim *sim, struct app *app)
{
    struct job *job = &app->jobs[sim_dice(sim, (uint64_t)app->jobs_count)];

    return job->opened && !job->ended && !job->freed ? job : NULL;
}

/* ------------------------------------------------------------------ faults */

static void pause_actor(struct sim *sim, struct actor *actor, uint64_t most_us)
{
    actor->paused_until_us = sim->now_us + sim_between(sim, 1000, most_us);
    if (actor->paused_until_us > sim->plan.faults_until_us)
        actor->paused_until_us = sim->plan.faults_until_us;
}

static void strike_link(struct sim *sim, enum sim_fault fault)
{
    struct link *link = pick_link(sim);

    if (!link)
        return;
    if (fault == FAULT_LAG) {
        link->lag_us = sim_between(sim, 300000, 3000000);
        link->lag_until_us = sim->now_us + sim_between(sim, 100000, 2000000);
    } else if (fault == FAULT_CUT) {
        sim_link_cut(sim, link, false);
    } else if (sim_chance(sim, 2)) {
        sim_link_cut(sim, link, true);
    } else {
        link->lanes[sim_dice(sim, 2)].deaf = true;
    }
}

static void restart_coordinator(struct sim *sim, uint64_t a, uint64_t b, uint64_t c)
{
    (void)a, (void)b, (void)c;
    sim_coordinator_start(sim);
}

static void restart_node(struct sim *sim, uint64_t place, uint64_t b, uint64_t c)
{
    (void)b, (void)c;
    if (!sim->nodes[place].actor.alive)
        sim_node_start(sim, (int)place);
}

static void strike_coordinator(struct sim *sim, enum sim_fault fault)
{
    if (!sim->coordinator.actor.alive)
        return;
    if (fault == FAULT_COORDINATOR_PAUSE) {
        pause_actor(sim, &sim->coordinator.actor, 4000000);
        return;
    }
    sim_coordinator_kill(sim);
    sim_at(sim, sim->now_us + sim_between(sim, 1000, 4000000), restart_coordinator, 0, 0,
           0);
}

static void strike_process(struct sim *sim, struct node *node)
{
    if (!node->processes.count)
        return;
    sim_process_kill(sim, node,
                     *(struct process **)sim_queue_at(
                         &node->processes, sim_dice(sim, node->processes.count)));
}

static void strike_node(struct sim *sim, enum sim_fault fault)
{
    int place = pick_node(sim);

    if (place < 0)
        return;
    if (fault == FAULT_PROCESS_KILL)
        strike_process(sim, &sim->nodes[place]);
    if (fault == FAULT_WORKER_PAUSE)
        pause_actor(sim, &sim->nodes[place].actor, 10000000);
    if (fault == FAULT_WORKER_DRAIN && !sim->nodes[place].ending)
        sim_node_end(sim, place, WORKER_DRAIN);
    if (fault == FAULT_WORKER_STOP)
        sim_node_end(sim, place, WORKER_STOP);
    if (fault == FAULT_WORKER_KILL) {
        sim_trace(sim, "W%d is killed", place);
        sim_node_kill(sim, place);
        if (sim_chance(sim, 2))
            sim_at(sim, sim->now_us + sim_between(sim, 1000, 3000000), restart_node,
                   (uint64_t)place, 0, 0);
    }
}

void sim_fault_kill_node(struct sim *sim, struct node *node)
{
    const int place = sim_node_place(sim, node);

    sim_trace(sim, "W%d is killed by a task", place);
    sim_node_kill(sim, place);
    sim_at(sim, sim->now_us + sim_between(sim, 1000, 1000000), restart_node,
           (uint64_t)place, 0, 0);
}

static void join_node(struct sim *sim)
{
    for (int i = 0; i < NODES_MAX / 2; i++) {
        if (sim->nodes[i].actor.alive)
            continue;
        sim_node_start(sim, i);
        return;
    }
}

static void cancel_tasks(struct sim *sim, struct app *app, struct job *job)
{
    if (!job->pulled)
        return;
    uint64_t first = sim_dice(sim, job->pulled);
    uint64_t count = sim_between(sim, 1, job->pulled - first);
    if (sim_chance(sim, 2))
        count = 1;
    sim_app_push_cancel(sim, app, (int)(job - app->jobs), first, count,
                        sim_chance(sim, 2));
}

static void strike_app(struct sim *sim, enum sim_fault fault)
{
    int place = pick_app(sim, fault == FAULT_CANCEL_TASKS);

    if (place < 0)
        return;
    struct app *app = &sim->apps[place];
    struct job *job = pick_job(sim, app);
    if (fault == FAULT_CLIENT_KILL)
        sim_app_kill(sim, place);
    if (fault == FAULT_CLIENT_PAUSE)
        pause_actor(sim, &app->actor, 3000000);
    if (fault == FAULT_SQUAT)
        sim_keys_squat(sim, app);
    if (fault == FAULT_CANCEL_TASKS && job)
        cancel_tasks(sim, app, job);
    if (fault == FAULT_FREE_JOB && job)
        sim_app_push(sim, app, CLIENT_JOB_FREE, (int)(job - app->jobs), 0, NULL);
    if (fault == FAULT_CLOSE && !app->terminated && !app->closing) {
        app->closing = true;
        sim_app_push(sim, app, CLIENT_CLOSE, -1, 0, NULL);
    }
    if (fault == FAULT_TERMINATE && !app->terminated) {
        app->terminated = true;
        sim_app_push(sim, app, CLIENT_TERMINATE, -1, 0, NULL);
    }
    if (fault == FAULT_GIVE_UP) {
        app->gives_up = true;
        sim_app_push(sim, app, CLIENT_FAIL, -1, 0, NULL);
    }
}

/* Hello, one question, and gone. The coordinator may be dead or paused meanwhile. */
void sim_fault_operate(struct sim *sim, struct message *question)
{
    struct message *hello = message_create(MSG_HELLO_CLIENT);
    uint64_t link;

    if (!sim->coordinator.actor.alive) {
        message_free(&hello);
        message_free(&question);
        return;
    }
    link = sim_link_outsider(sim, OPERATOR_PLACE);
    hello->hello_client.protocol = PROTOCOL_VERSION;
    hello->hello_client.client = sim_id(sim);
    sim_coordinator_push(sim, link, hello);
    sim_coordinator_push(sim, link, question);
    sim_coordinator_push(sim, link, NULL);
}

static void strike_operator(struct sim *sim, enum sim_fault fault)
{
    struct message *question;
    int app = pick_app(sim, true), node = pick_node(sim);

    if (fault == FAULT_OPERATOR_CANCEL && app >= 0) {
        const struct job *job = pick_job(sim, &sim->apps[app]);

        question = message_create(MSG_CANCEL_JOB);
        question->cancel_job.pool = sim->apps[app].config.pool;
        question->cancel_job.job = job && !sim_chance(sim, 3) ? job->number : 0;
        question->cancel_job.kill = sim_chance(sim, 2);
        sim_fault_operate(sim, question);
    }
    if (fault == FAULT_OPERATOR_DRAIN && node >= 0 && !sim->nodes[node].ending) {
        question = message_create(MSG_DRAIN_NODE);
        sim->nodes[node].may_drain = true;
        memcpy(question->drain_node.node, sim->nodes[node].config.node,
               sizeof question->drain_node.node);
        sim_fault_operate(sim, question);
    }
}

static void strike(struct sim *sim, uint64_t number, uint64_t b, uint64_t c)
{
    enum sim_fault fault = (enum sim_fault)number;

    (void)b, (void)c;
    sim_trace(sim, "---- %s", fault_names[fault]);
    switch (fault) {
    case FAULT_CUT:
    case FAULT_HALF_OPEN:
    case FAULT_LAG:
        strike_link(sim, fault);
        break;
    case FAULT_COORDINATOR_KILL:
    case FAULT_COORDINATOR_PAUSE:
        strike_coordinator(sim, fault);
        break;
    case FAULT_WORKER_JOIN:
        join_node(sim);
        break;
    case FAULT_WORKER_KILL:
    case FAULT_WORKER_PAUSE:
    case FAULT_WORKER_DRAIN:
    case FAULT_WORKER_STOP:
    case FAULT_PROCESS_KILL:
        strike_node(sim, fault);
        break;
    case FAULT_OPERATOR_CANCEL:
    case FAULT_OPERATOR_DRAIN:
        strike_operator(sim, fault);
        break;
    default:
        strike_app(sim, fault);
    }
}

/* -------------------------------------------------------------------- plan */

static void start_node(struct sim *sim, uint64_t place, uint64_t b, uint64_t c)
{
    (void)b, (void)c;
    if (!sim->nodes[place].actor.alive)
        sim_node_start(sim, (int)place);
}

static void start_app(struct sim *sim, uint64_t place, uint64_t b, uint64_t c)
{
    (void)b, (void)c;
    sim_app_start(sim, (int)place);
}

static void configure(struct sim *sim)
{
    struct coordinator_config *config = &sim->coordinator.config;

    coordinator_config_init(config);
    config->pool_id = sim_keys_pool_id;
    config->ticket = sim_keys_pool_id_of_number;
    config->secret = (struct hash){.bytes = {9}};
    config->heartbeat_ms = (uint32_t)sim_between(sim, 200, 1000);
    config->silence_ms = config->heartbeat_ms * (uint32_t)sim_between(sim, 3, 5) + 500;
    config->settle_ms = (uint32_t)sim_between(sim, 300, 1500);
    if (sim_chance(sim, 3))
        config->client_tasks_max = sim_between(sim, 1, 100);
    if (sim_chance(sim, 3))
        config->client_bytes_max = sim_between(sim, 100, 20000);
    if (sim_chance(sim, 3))
        config->result_bytes_max = sim_between(sim, 100, 5000);
}

static void choose_faults(struct sim *sim)
{
    struct plan *plan = &sim->plan;
    uint64_t rarity = sim_between(sim, 1, 4), enabled[FAULTS];
    size_t kinds = 0;

    plan->oom = sim_chance(sim, 3);
    plan->starts_fail = sim_chance(sim, 6);
    plan->programs_fail = sim_chance(sim, 8);
    plan->initializer_fails = sim_chance(sim, 12);
    for (uint64_t i = 0; i < FAULTS; i++)
        if (sim_chance(sim, rarity)) {
            plan->enabled[i] = true;
            enabled[kinds++] = i;
        }
    for (uint64_t count = kinds ? sim_dice(sim, sim_chance(sim, 8) ? 60 : 16) : 0;
         count > 0; count--)
        sim_at(sim, sim_dice(sim, plan->faults_until_us - 1), strike,
               enabled[sim_dice(sim, kinds)], 0, 0);
}

void sim_plan_make(struct sim *sim)
{
    struct plan *plan = &sim->plan;
    uint64_t nodes = sim_between(sim, 1, 5), apps = sim_between(sim, 1, APPS_TOP);

    plan->encode = sim_chance(sim, 2);
    plan->nested = sim_chance(sim, 4);
    plan->keys = sim_chance(sim, 2);
    plan->lanes = sim->options.seed / 2 % 2 == 1;
    plan->speculates = sim->options.seed % 2 == 0;
    plan->shares = sim->options.seed % 3 == 1;
    plan->memory = (sim->options.seed + 1) % 7 < 2;
    plan->slow = plan->speculates && !sim_chance(sim, 3);
    plan->faults_until_us = sim_between(sim, 1000000, 8000000);
    configure(sim);
    if (sim->options.seed % 7 == 6)
        sim_detached_plan(sim);
    sim_coordinator_start(sim);
    for (uint64_t i = 0; i < nodes; i++)
        sim_at(sim, sim_chance(sim, 3) ? sim_dice(sim, 2000000) : 0, start_node, i, 0, 0);
    for (uint64_t i = 0; i < apps; i++)
        sim_at(sim, sim_chance(sim, 3) ? sim_dice(sim, 2000000) : 0, start_app, i, 0, 0);
    if (!sim->options.quiet)
        choose_faults(sim);
    if (!sim->options.quiet && plan->memory)
        sim_memory_plan(sim);
    plan->killer = !sim->options.quiet && sim_chance(sim, 3);
    if (sim->options.broken == BREAK_LEND_KEY) {
        plan->keys = true;
        sim_at(sim, plan->faults_until_us / 2, strike, FAULT_SQUAT, 0, 0);
    }
}

void sim_plan_print(const struct sim *sim)
{
    const struct plan *plan = &sim->plan;

    printf("faults until %.3f ms:", (double)plan->faults_until_us / 1000);
    for (int i = 0; i < FAULTS; i++)
        if (plan->enabled[i])
            printf(" %s", fault_names[i]);
    printf("%s%s%s%s%s%s%s%s%s%s%s; messages are %s\n",
           sim->keeping ? " (detached jobs)" : "",
           plan->memory ? " (kernels and memory)" : "",
           plan->shares ? " (shared inputs)" : "", plan->oom ? " (memory runs out)" : "",
           plan->starts_fail ? " (processes fail to start)" : "",
           plan->programs_fail ? " (programs cannot be stored)" : "",
           plan->initializer_fails ? " (initializers fail)" : "",
           plan->killer ? " (a task kills nodes)" : "", plan->slow ? " (slow nodes)" : "",
           plan->nested ? " (nested pools)" : "", plan->keys ? " (keys)" : "",
           plan->encode ? "encoded" : "moved");
}
