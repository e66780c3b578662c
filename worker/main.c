/* SPDX-License-Identifier: Apache-2.0
 *
 * farpool-worker: the daemon that runs the processes of pools on a node. All it does is
 * in shell.c, all it decides in core.c. */
#include "common/sys/guardian.h"
#include "worker/shell.h"

int main(int argc, char **argv)
{
    guardian_serve();
    struct worker_options options;
    int exit_code = worker_read_options(argc, argv, &options);
    return exit_code != -1 ? exit_code : worker_run(&options);
}
