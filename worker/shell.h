/* SPDX-License-Identifier: Apache-2.0
 *
 * worker/shell.h: the worker daemon around its core, its host of processes and its
 * program cache: socket, signals, log. */
#ifndef FARPOOL_WORKER_SHELL_H
#define FARPOOL_WORKER_SHELL_H

#include "common/sys/exit.h"
#include "common/sys/log.h"
#include "worker/core.h"

struct worker_options {
    struct worker_config core; /* its id is made by worker_run */
    const char *address;       /* of the coordinator; borrowed */
    const char *key;           /* file, NULL: no key; borrowed */
    const char *cache;         /* folder, NULL: the user's; borrowed */
    enum log_level level;
};

#define WORKER_ADDRESS "tcp://127.0.0.1:5764"

/* Reads the command line, FARPOOL_COORDINATOR and FARPOOL_KEY. -1: *ret_options is
 * filled, run; else the exit code, after having printed help, version or what is wrong.
 */
int worker_read_options(int argc, char **argv, struct worker_options *ret_options);

/* Runs until it is told to stop by signals (see farpool-worker --help). Returns the exit
 * code; why it failed is in the log. */
int worker_run(const struct worker_options *options);

#endif
