/* SPDX-License-Identifier: Apache-2.0
 *
 * failing_daemon.c: the coordinator (ROLE_COORDINATOR) or the worker, as they are, but
 * their n-th allocation fails, with n in the variable MEMORY_FAIL_DAEMON. It says at its
 * end how many it made, for tests/memory/allocations. */
#include "common/base/mem.h"
#include "common/sys/guardian.h"
#ifdef ROLE_COORDINATOR
#include "coordinator/shell.h"
#else
#include "worker/shell.h"
#endif

#include <stdio.h>
#include <stdlib.h>

static int run(int argc, char **argv)
{
#ifdef ROLE_COORDINATOR
    struct coordinator_options options;
    const int code = coordinator_read_options(argc, argv, &options);
    return code != -1 ? code : coordinator_run(&options);
#else
    struct worker_options options;
    const int code = worker_read_options(argc, argv, &options);
    return code != -1 ? code : worker_run(&options);
#endif
}

int main(int argc, char **argv)
{
    guardian_serve();
    const char *n = getenv("MEMORY_FAIL_DAEMON");
    mem_fail_after(n ? (size_t)atoll(n) : 0);
    const int code = run(argc, argv);
    fprintf(stderr, "allocations=%zu\n", mem_fail_after(0));
    return code;
}
