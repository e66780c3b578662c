/* SPDX-License-Identifier: Apache-2.0
 *
 * gearman.c: a Gearman client and its workers.
 *
 *   peer-gearman PORT worker
 *   peer-gearman PORT WORK */
#include "work.h"

#include <libgearman/gearman.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TIMEOUT_MS = 25000 };

static gearman_client_st *client;

static void *serve(gearman_job_st *job, void *op, size_t *ret_size,
                   gearman_return_t *ret_code)
{
    *ret_size = gearman_job_workload_size(job);
    void *result = malloc(*ret_size);
    if (result == NULL)
        work_die("memory");
    memcpy(result, gearman_job_workload(job), *ret_size);
    work_do(*(const enum work_op *)op, result, *ret_size);
    *ret_code = GEARMAN_SUCCESS;
    return result;
}

static void work_as_worker(in_port_t port)
{
    static enum work_op ops[] = {WORK_NOOP, WORK_ECHO, WORK_SPIN};
    gearman_worker_st *worker = gearman_worker_create(NULL);
    gearman_worker_add_server(worker, "127.0.0.1", port);
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        char name[2] = {(char)('0' + ops[i]), '\0'};
        gearman_worker_add_function(worker, name, 0, serve, &ops[i]);
    }
    while (gearman_success(gearman_worker_work(worker)))
        ;
    gearman_worker_free(worker);
}

static gearman_return_t complete(gearman_task_st *task)
{
    work_result(gearman_task_data(task), gearman_task_data_size(task));
    return GEARMAN_SUCCESS;
}

static void run(const struct work_items *items, long window)
{
    static unsigned long serial;
    const char name[2] = {(char)('0' + items->op), '\0'};
    for (long i = 0; i < items->count;) {
        for (long k = 0; k < window && i < items->count; k++, i++) {
            gearman_return_t code;
            char unique[32];
            snprintf(unique, sizeof unique, "%d-%lu", getpid(), serial++);
            gearman_client_add_task(client, NULL, NULL, name, unique,
                                    (const char *)items->base + (size_t)i * items->stride,
                                    items->size, &code);
            if (gearman_failed(code))
                work_die("add_task: %s", gearman_client_error(client));
        }
        if (gearman_failed(gearman_client_run_tasks(client)))
            work_die("run_tasks: %s", gearman_client_error(client));
        gearman_client_task_free_all(client);
    }
}

int main(int argc, char **argv)
{
    static const struct work_peer peer = {run, 1000, 8, 2000};
    if (argc != 3)
        work_die("usage: peer-gearman PORT worker|WORK");
    const in_port_t port = (in_port_t)atoi(argv[1]);
    if (strcmp(argv[2], "worker") == 0) {
        work_as_worker(port);
        return 1;
    }
    client = gearman_client_create(NULL);
    gearman_client_add_server(client, "127.0.0.1", port);
    gearman_client_set_complete_fn(client, complete);
    gearman_client_set_timeout(client, TIMEOUT_MS);
    work_run(argv[2], &peer);
    gearman_client_free(client);
    return 0;
}
