/* SPDX-License-Identifier: Apache-2.0
 *
 * memory.c: the kernel and memory, in two seeds of seven. Some nodes have groups with
 * memory control: a task that wants more than its limit is killed there with its process,
 * at once and at any instant of it, if the process has no give with a higher limit or
 * none (worker/host_group.c); elsewhere it is found by samples. And whatever the limits
 * are, now and then a node has no memory left, and the kernel kills a process of its
 * choice.
 *
 * Whoever finds it, the task's failure says how much it had, its limit and the node; it
 * is not taken for a loss, and nothing else fails by it. */
#include "sim.h"

#include <stdio.h>
#include <string.h>

#define SHORTAGES_MAX 4

bool sim_memory_is_kept(const struct node *node, const struct process *process)
{
    uint64_t most = 0;

    for (size_t i = 0; i < process->gives.count; i++) {
        const struct give *give = sim_queue_at(&process->gives, i);

        if (give->job->options.memory_bytes == 0)
            return false;
        if (most < give->job->options.memory_bytes)
            most = give->job->options.memory_bytes;
    }
    const struct give *first =
        process->gives.count ? sim_queue_at(&process->gives, 0) : NULL;
    return node->keeps_memory && first && first->job->options.memory_bytes == most;
}

/* The kernel has it; the peak is not always known, and then the limit is told. */
static void kill_for_limit(struct sim *sim, struct node *node, struct process *process)
{
    const struct give *give = sim_queue_at(&process->gives, 0);
    struct task *task = &give->job->tasks[give->span.first + give->next];
    const uint32_t blames = task->blames;

    sim_trace(sim, "W%d: the kernel keeps a limit of memory", sim_node_place(sim, node));
    sim_process_die(sim, node, process, 0, -1, 9);
    if (process->killed)
        return; /* by its core, and for that alone as far as the host knows */
    task->blames = blames;
    process->goodbye.over_memory = true;
    process->goodbye.memory_bytes = give->job->options.memory_bytes + sim_dice(sim, 3);
}

static void meet_limit(struct sim *sim, uint64_t place, uint64_t number, uint64_t epoch)
{
    struct node *node = &sim->nodes[place];
    struct process *process = node->actor.alive ? sim_process_find(node, number) : NULL;

    if (!process || process->epoch != epoch)
        return;
    if (sim_memory_is_kept(node, process))
        kill_for_limit(sim, node, process);
    else /* it was given others since: what finds it are samples */
        sim_process_set_end(sim, node, process, 1000);
}

bool sim_memory_begin(struct sim *sim, struct node *node, struct process *process,
                      uint64_t task_us)
{
    const struct give *give = sim_queue_at(&process->gives, 0);

    if (!sim_memory_is_kept(node, process) ||
        !sim_job_eats(give->job, give->span.first + give->next))
        return false;
    process->epoch = ++sim->epochs;
    sim_at(sim, sim->now_us + sim_dice(sim, task_us + 1), meet_limit,
           (uint64_t)sim_node_place(sim, node), process->number, process->epoch);
    return true;
}

/* --------------------------------------------------------------- no memory on a node */

static void run_short(struct sim *sim, uint64_t place, uint64_t b, uint64_t c)
{
    struct node *node = &sim->nodes[place];

    (void)b, (void)c;
    if (!node->actor.alive || !node->processes.count)
        return;
    struct process *process = *(struct process **)sim_queue_at(
        &node->processes, sim_dice(sim, node->processes.count));
    sim_trace(sim, "---- W%d has no memory left", (int)place);
    if (process->state == PROCESS_OVER)
        return;
    sim_process_die(sim, node, process, 0, -1, 9);
    process->goodbye.text = "it was killed by the kernel's out-of-memory killer";
}

void sim_memory_plan(struct sim *sim)
{
    for (uint64_t count = sim_dice(sim, SHORTAGES_MAX + 1); count > 0; count--)
        sim_at(sim, sim_dice(sim, sim->plan.faults_until_us - 1), run_short,
               sim_dice(sim, NODES_MAX / 2), 0, 0);
}

/* -------------------------------------------------------------------- what is told */

void sim_memory_check_told(struct sim *sim, const struct job *job,
                           const struct msg_failed *failed)
{
    const char *wanted = strstr(failed->message, " and wanted more");
    const char *over = strstr(failed->message, ", over its limit of ");
    const char *node = strstr(failed->message, " bytes on node ");
    unsigned long long used = 0, limit = 0;

    if (!over || !node || sscanf(failed->message, "used %llu bytes of", &used) != 1 ||
        sscanf(over, ", over its limit of %llu", &limit) != 1 ||
        strcmp(node + strlen(" bytes on node "), failed->node) != 0 ||
        limit != job->options.memory_bytes || used < limit ||
        (used <= limit) != (wanted != NULL))
        sim_fail(sim, "a task with a limit of %llu bytes fails on %s with \"%s\"",
                 (unsigned long long)job->options.memory_bytes, failed->node,
                 failed->message);
    if (!sim_job_eats(job, failed->index))
        sim_fail(sim, "task %llu of job %llx fails for memory that another had",
                 (unsigned long long)failed->index, (unsigned long long)job->number);
}
