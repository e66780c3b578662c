/* SPDX-License-Identifier: Apache-2.0
 *
 * coordinator/shell.h: the coordinator around its core: sockets, signals, log. */
#ifndef FARPOOL_COORDINATOR_SHELL_H
#define FARPOOL_COORDINATOR_SHELL_H

#include "common/sys/exit.h"
#include "common/sys/log.h"
#include "coordinator/core.h"

struct coordinator_options {
    struct coordinator_config core; /* its id is made by coordinator_run */
    const char *address;            /* to listen on; borrowed */
    const char *keys;               /* folder; NULL: no keys; borrowed */
    const char *state;              /* folder of detached jobs; NULL: none; borrowed */
    uint64_t detached_bytes_max;    /* of the store in it */
    uint64_t detached_keep_s;       /* after a job's end */
    enum log_level level;
};

#define DETACHED_BYTES_MAX (UINT64_C(10) << 30)
#define DETACHED_KEEP_S (UINT64_C(7) * 86400)

#define COORDINATOR_ADDRESS "tcp://127.0.0.1:5764"

/* Reads the command line and FARPOOL_KEYS. -1: *ret_options is filled, run; else the exit
 * code, after having printed help, version or what is wrong. */
int coordinator_read_options(int argc, char **argv,
                             struct coordinator_options *ret_options);

/* Runs until it is told to stop by signals (see farpool-coordinator --help). Returns the
 * exit code; why it failed is in the log. */
int coordinator_run(const struct coordinator_options *options);

#endif
