/* SPDX-License-Identifier: Apache-2.0
 *
 * farpool-coordinator: the daemon that knows the workers and hands tasks to them. All it
 * does is in shell.c, all it decides in core.c. */
#include "coordinator/shell.h"

int main(int argc, char **argv)
{
    struct coordinator_options options;
    int exit_code = coordinator_read_options(argc, argv, &options);
    return exit_code != -1 ? exit_code : coordinator_run(&options);
}
